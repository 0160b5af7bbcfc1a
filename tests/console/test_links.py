"""Acknowledging from a message without signing in: who has the message has the right, once, for a day."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.core.model import HOUR, AlarmRecord, CommandName, Condition, Level
from gateway.core.notification import Channel, Message, MessageKind, lines_of
from gateway.core.records import Role, UserChange
from gateway.core.routing import Person, Routing
from gateway.notify.links import Links
from tests.console.city import Running, record, running, step

ZHANG = Person("zhang", "张三", (Channel("sms", "13800000000"),), user="zhangsan", numbers=("+86 138-0000-0000",))
LI = Person("li", "Li Si", (Channel("mail", "li@example.org"),), language="en", numbers=("13900000000",))
ROUTING = Routing(people={"zhang": ZHANG, "li": LI})


async def told(
    console: Running, *records: AlarmRecord, to: str = "zhang", key: str = "01J.1/root/s0", age: int = 0, **more: Any
) -> str:
    """These alarms stand, and somebody was told of them; the token of the link in their message."""
    gateway = console.gateway
    gateway.routing = ROUTING
    person = ROUTING.people[to]
    message = Message(
        f"{key}/{to}", key, to, MessageKind.RAISED, gateway.now() - age, min(one.level for one in records),
        lines_of(records), len(records), "root", 0, person.channels, person.language,
    )  # fmt: skip
    message = msgspec.structs.replace(message, **more)
    new = [step(one) for one in records if await gateway.store.alarm(one.alarm_id) is None]
    await gateway.commit(*new, message)
    (sent,) = [row for row in await gateway.store.sent_to(to, 0, 10) if row.key == message.key]
    for row in range(1, 50):
        found = await gateway.store.sent(row)
        if found is not None and found.key == sent.key:
            return gateway.links.token(row, message)
    raise AssertionError("the message is not in the outbox")


class _Looks(HTMLParser):
    """What is in a page: its tags and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._skipping = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._skipping = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._skipping = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._skipping else data + " "


async def test_a_look_changes_nothing_and_the_button_acknowledges_once(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone, console.client() as desk:
        token = await told(console, record(level=Level.II), record("lamp-2", level=Level.IV))
        for method in ("GET", "GET", "HEAD", "GET"):  # previews in chats look, too
            assert (await phone.request(method, f"/a/{token}")).status_code == 200
        assert console.gateway.submitted == []
        before = _Looks((await phone.get(f"/a/{token}")).text)
        assert "一号灯 路灯熄灭" in before.text
        assert "II 级 · 水泊路 · 梁山" in before.text
        assert "将以 张三 的名义确认。" in before.text
        assert "form" in before.tags
        done = await phone.post(f"/a/{token}")
        after = _Looks(done.text)
        assert (done.status_code, "form" in after.tags) == (200, False)
        assert "已确认，谢谢。" in after.text
        commands = [(c.name, c.alarm_id, c.by, c.channel, c.rev) for c in console.gateway.submitted]
        assert commands == [
            (CommandName.ACKNOWLEDGE, "lamp-1/lamp-out", "zhangsan", "link", 1),
            (CommandName.ACKNOWLEDGE, "lamp-2/lamp-out", "zhangsan", "link", 1),
        ]
        assert all(c.command_id.startswith("link:") for c in console.gateway.submitted)
        again = await phone.post(f"/a/{token}")
        assert (again.status_code, "此链接已使用过" in again.text) == (410, True)
        assert len(console.gateway.submitted) == 2
        lines = (await desk.get("/api/v1/audit")).json()["items"]
        assert {(one["who"], one["channel"], one["outcome"]) for one in lines if one["action"] == "acknowledge"} == {
            ("zhangsan", "link", "done"),
            ("zhang", "link", "used"),
        }


async def test_the_page_is_of_the_persons_language_small_and_without_script(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record(), to="li")
        answer = await phone.get(f"/a/{token}")
        page = _Looks(answer.text)
        assert "Lamp out" in page.text
        assert "This will be acknowledged as Li Si." in page.text
        assert {"script", "img", "link", "iframe"} & set(page.tags) == set()
        assert not any(name.startswith("on") or name == "style" for name, _ in page.attributes)
        assert ("content", "width=device-width,initial-scale=1") in page.attributes
        assert len(answer.content) < 6000
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "form-action 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers


async def test_a_token_that_is_not_ours_opens_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone, console.client() as desk:
        token = await told(console, record())
        other = await told(console, record(), to="li")
        row, mac = token.split(".")
        foreign = Links("11" * 16, "https://x").token(
            1, (await console.gateway.store.sent_to("zhang", 0, 1))[0].message
        )
        wrong = [
            f"{row}.{mac[:-1]}{'A' if mac[-1] != 'A' else 'B'}", f"{other.split('.')[0]}.{mac}", f"zz.{mac}", row, mac,
            "x", f"{row}.{mac}x", f"{row.upper()}.{mac.upper()}", foreign, "1." + "A" * 22, "9" * 40 + "." + mac,
            "%00", "zzzzzzzzzzzzz." + "A" * 22, f"{row}.{mac} ",
        ]  # fmt: skip
        for one in wrong:
            for method in ("GET", "POST"):
                answer = await phone.request(method, f"/a/{one}")
                assert answer.status_code == 403, (method, one)
                assert "链接无效" in answer.text
        assert console.gateway.submitted == []
        lines = (await desk.get("/api/v1/audit", params={"limit": 200})).json()["items"]
        assert 1 <= sum(one["outcome"] == "wrong" for one in lines) <= 2 * len(wrong)
        assert mac not in str(lines)


async def test_after_a_day_it_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        old = await told(console, record(), key="a", age=24 * HOUR + 1)
        young = await told(console, record(), key="b", age=23 * HOUR)
        for method in ("GET", "POST"):
            answer = await phone.request(method, f"/a/{old}")
            assert (answer.status_code, "已过期" in answer.text) == (410, True)
        assert (await phone.get(f"/a/{young}")).status_code == 200
        assert console.gateway.submitted == []


async def test_another_occurrence_is_not_touched(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record())
        over = record(rev=2, cond=Condition.NORMAL, acked=True)
        await console.gateway.commit(step(over, record(), "T6"))
        await console.gateway.commit(step(record(rev=3, occurrence_id="01K"), over))
        look = await phone.get(f"/a/{token}")
        assert (look.status_code, "本次报警已结束" in look.text, "<form" in look.text) == (200, True, False)
        done = await phone.post(f"/a/{token}")
        assert (done.status_code, "无需确认" in done.text) == (200, True)
        assert console.gateway.submitted == []


async def test_what_somebody_else_acknowledged_says_who(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record(), record("lamp-2"))
        acked = record(rev=2, acked=True, acked_by="wang", acked_at=console.gateway.now())
        await console.gateway.commit(step(acked, record(), "T10"))
        assert "已由 wang 于" in (await phone.get(f"/a/{token}")).text
        assert (await phone.post(f"/a/{token}")).status_code == 200
        assert [command.alarm_id for command in console.gateway.submitted] == ["lamp-2/lamp-out"]


async def test_an_alarm_that_changes_between_look_and_button_is_acknowledged_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record())
        await phone.get(f"/a/{token}")
        await console.gateway.commit(step(record(rev=2, level=Level.I), record(), "T8"))
        assert "已确认" in (await phone.post(f"/a/{token}")).text
        assert [command.rev for command in console.gateway.submitted] == [2]


async def test_two_thumbs_at_once_are_one_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record())
        answers = await asyncio.gather(*(phone.post(f"/a/{token}") for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [410] * 7
        assert len(console.gateway.submitted) == 1


async def test_who_is_told_no_more_or_whose_account_is_closed_cannot_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token, of_li = await told(console, record()), await told(console, record(), to="li")
        console.gateway.routing = Routing(people={"zhang": ZHANG})
        people = console.gateway.store.people
        await people.create("zhangsan", Role.OPERATOR, console.gateway.now(), password="a good long password")
        assert (await phone.get(f"/a/{token}")).status_code == 200
        await people.change("zhangsan", UserChange(disabled=True), console.gateway.now())
        for one in (token, of_li):
            for method in ("GET", "POST"):
                assert (await phone.request(method, f"/a/{one}")).status_code == 403
        assert console.gateway.submitted == []


async def test_foreign_text_is_shown_and_nothing_else(tmp_path: Path) -> None:
    odd = '<script>alert(1)</script>"><img src=x onerror=alert(1)> {name}'
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record(title_zh=odd))
        page = _Looks((await phone.get(f"/a/{token}")).text)
        assert odd in page.text
        assert {"script", "img"} & set(page.tags) == set()


async def test_more_than_the_message_named_is_said(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record(), count=31)
        assert "另有 30 处报警未列出" in (await phone.get(f"/a/{token}")).text
        drill = await told(console, record(), key="drill", simulated=True)
        assert "<b>演练</b>" in (await phone.get(f"/a/{drill}")).text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_there_is_no_other_way_in(tmp_path: Path, method: str) -> None:
    async with running(tmp_path) as console, console.client(None) as phone:
        token = await told(console, record())
        assert (await phone.request(method, f"/a/{token}")).status_code == 401
        for path in (f"/a/{token}/x", "/a/", "/a"):
            answer = await phone.post(httpx.URL(console.url + path))
            assert answer.status_code == 401, path


def test_a_token_is_short_enough_for_a_text() -> None:
    links = Links("00" * 16, "https://alarm.example.gov.cn/")
    message = Message("k", "t", "zhang", MessageKind.RAISED, 0, Level.I, (), 0, "", 0, ())
    link = links.link(1_234_567, message)
    assert re.fullmatch(r"https://alarm\.example\.gov\.cn/a/[0-9a-z]+\.[A-Za-z0-9_-]{22}", link)
    assert len(link) < 65
    assert Links("00" * 16, None).link(7, message) == ""
    assert links.row_of(link.rpartition("/")[2]) == 1_234_567
    for other in (
        msgspec.structs.replace(message, key="k2"),
        msgspec.structs.replace(message, recipient="li"),
        msgspec.structs.replace(message, lines=lines_of([record()])),
    ):
        assert not links.good(links.token(7, message), 7, other)
    assert not links.good(links.token(7, message), 8, message)
