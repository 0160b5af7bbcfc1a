"""Answers by SMS: whose number it is, which message the code is of, and a clear word in every other case."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.console.inbound import digits_of
from gateway.console.port import InboundSms
from gateway.core.model import HOUR, Condition
from gateway.core.routing import Person, Routing
from gateway.notify.webhook import sign
from tests.console.city import Running, record, running, step
from tests.console.test_links import LI, ROUTING, ZHANG, told

SECRET = "an SMS gateway's secret"
NUMBER, URL = "+86 138 0000 0000", "/api/v1/inbound/sms"


@asynccontextmanager
async def listening(folder: Path, **options: Any) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    async with running(folder) as console, console.client(None) as gateway:
        console.gateway.inbound_sms = InboundSms(SECRET, **options)
        console.gateway.routing = ROUTING
        gateway.headers["Authorization"] = f"Bearer {SECRET}"
        yield console, gateway


async def code_of(console: Running, key: str = "01J.1/root/s0/zhang") -> str:
    return console.gateway.links.code(key)


async def says(gateway: httpx.AsyncClient, text: str, number: str = NUMBER) -> tuple[str, str]:
    """Outcome and text of an SMS."""
    answer = await gateway.post(URL, json={"number": number, "text": text})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["outcome"], body["text"]


async def test_the_code_of_a_message_acknowledges_what_it_named(tmp_path: Path) -> None:
    async with listening(tmp_path) as (console, gateway), console.client() as desk:
        await told(console, record(), record("lamp-2"))
        code = await code_of(console)
        answer = await gateway.post(URL, json={"number": NUMBER, "text": f" 收到 {code} 。"})
        assert answer.json() == {
            "outcome": "acknowledged", "text": "已确认 2 处报警，谢谢。",
            "texts": {"zh": "已确认 2 处报警，谢谢。", "en": "2 acknowledged. Thank you."},
            "acknowledged": ["lamp-1/lamp-out", "lamp-2/lamp-out"],
        }  # fmt: skip
        assert [(c.by, c.channel) for c in console.gateway.submitted] == [("zhangsan", "sms")] * 2
        assert await says(gateway, code) == ("repeated", "您已确认过，无需重复回复。")
        assert len(console.gateway.submitted) == 2
        lines = (await desk.get("/api/v1/audit")).json()["items"]
        assert {(one["who"], one["channel"], one["outcome"]) for one in lines} >= {
            ("zhangsan", "sms", "done"), ("zhang", "sms", "repeated"),
        }  # fmt: skip


async def test_what_was_answered_by_link_is_answered(tmp_path: Path) -> None:
    async with listening(tmp_path) as (console, gateway), console.client(None) as phone:
        token = await told(console, record())
        assert (await phone.post(f"/a/{token}")).status_code == 200
        assert (await says(gateway, await code_of(console)))[0] == "repeated"


@pytest.mark.parametrize("text", ["４７１１", "4711", "4711!", "回复4711确认", "4711\n4711", "T4711"])
async def test_a_code_is_found_as_people_write_it(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(tmp_path) as (console, gateway):
        await told(console, record())
        monkeypatch.setattr(console.gateway.links, "code", lambda key: "4711")
        assert (await says(gateway, text))[0] == "acknowledged"


async def test_every_other_case_has_a_clear_word(tmp_path: Path) -> None:
    async with listening(tmp_path) as (console, gateway):
        await told(console, record())
        code = await code_of(console)
        wrong = f"{(int(code) + 1) % 10_000:04d}"
        assert await says(gateway, "好的") == ("no_code", "请回复短信末尾的 4 位数字。")
        assert await says(gateway, "47112") == ("no_code", "请回复短信末尾的 4 位数字。")
        assert await says(gateway, f"{code} {wrong}") == ("ambiguous", "该代码对应多条报警，请登录控制台处理。")
        assert (await says(gateway, wrong))[0] == "unknown_code"
        assert await says(gateway, code, "10086") == ("unknown_number", "该号码不在通知名单中。")
        assert (await says(gateway, code, ""))[0] == "unknown_number"
        assert (await says(gateway, code, LI.numbers[0])) == (
            "unknown_code", "This code is not right, or older than 24 hours.",
        )  # fmt: skip
        assert console.gateway.submitted == []
        over = record(rev=2, cond=Condition.NORMAL, acked=True)
        await console.gateway.commit(step(over, record(), "T6"))
        assert (await says(gateway, code)) == ("already", "无需确认：报警已结束或已有人确认。")
        assert console.gateway.submitted == []


async def test_a_code_is_good_for_a_day(tmp_path: Path) -> None:
    async with listening(tmp_path) as (console, gateway):
        await told(console, record(), age=24 * HOUR + 1)
        assert (await says(gateway, await code_of(console)))[0] == "unknown_code"


async def test_who_guesses_waits_and_nobody_else(tmp_path: Path) -> None:
    async with listening(tmp_path) as (console, gateway):
        await told(console, record())
        await told(console, record(), to="li")
        code, of_li = await code_of(console), await code_of(console, "01J.1/root/s0/li")
        guesses = [f"{n:04d}" for n in range(20) if f"{n:04d}" not in (code, of_li)]
        outcomes = [(await says(gateway, guess))[0] for guess in guesses[:8]]
        assert outcomes == ["unknown_code"] * 5 + ["too_many"] * 3
        assert (await says(gateway, code))[0] == "too_many"
        assert (await says(gateway, of_li, LI.numbers[0]))[0] == "acknowledged"


async def test_one_code_of_two_messages_is_of_the_one_that_is_open_or_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(tmp_path) as (console, gateway):
        monkeypatch.setattr(console.gateway.links, "code", lambda key: "4711")
        await told(console, record(), key="a")
        await told(console, record("lamp-2"), key="b")
        assert (await says(gateway, "4711"))[0] == "ambiguous"
        acked = record(rev=2, acked=True, acked_by="wang")
        await console.gateway.commit(step(acked, record(), "T10"))
        answer = await gateway.post(URL, json={"number": NUMBER, "text": "4711"})
        assert answer.json()["acknowledged"] == ["lamp-2/lamp-out"]


async def test_two_people_may_share_a_telephone(tmp_path: Path) -> None:
    async with listening(tmp_path) as (console, gateway):
        await told(console, record())
        await told(console, record("lamp-2"), to="li", key="b")
        both = Person("li", "Li Si", LI.channels, language="en", numbers=ZHANG.numbers)
        console.gateway.routing = Routing(people={"zhang": ZHANG, "li": both})
        code = await code_of(console, "b/li")
        if code != await code_of(console):
            assert await says(gateway, code) == ("acknowledged", "1 acknowledged. Thank you.")
            assert [(c.by, c.alarm_id) for c in console.gateway.submitted] == [("li", "lamp-2/lamp-out")]


async def test_only_the_sms_gateway_may_post(tmp_path: Path) -> None:
    async with listening(tmp_path) as (console, gateway):
        await told(console, record())
        body = json.dumps({"number": NUMBER, "text": await code_of(console)}).encode()
        del gateway.headers["Authorization"]
        now = int(time.time())
        good = sign(SECRET.encode(), now, body)
        bad: list[dict[str, str]] = [
            {}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {SECRET}"},
            {"X-Citywatch-Signature": sign(b"other", now, body)},
            {"X-Citywatch-Signature": sign(SECRET.encode(), now - 400, body)},
            {"X-Citywatch-Signature": sign(SECRET.encode(), now, body + b" ")},
            {"X-Citywatch-Signature": good.replace("v1=", "v1=0")}, {"X-Citywatch-Signature": "t=,v1="},
            {"Authorization": f"Bearer {console.tokens[min(console.tokens)]}"},
        ]  # fmt: skip
        for headers in bad:
            assert (await gateway.post(URL, content=body, headers=headers)).status_code == 401, headers
        assert console.gateway.submitted == []
        answer = await gateway.post(URL, content=body, headers={"X-Citywatch-Signature": good})
        assert answer.json()["outcome"] == "acknowledged"
        assert hmac.new(SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest() in good


async def test_the_names_of_the_fields_are_the_gateways_own(tmp_path: Path) -> None:
    async with listening(tmp_path, number="mobile", text="content") as (console, gateway):
        await told(console, record())
        code = await code_of(console)
        form = await gateway.post(URL, data={"mobile": "008613800000000", "content": code, "ext": "1"})
        assert form.json()["outcome"] == "acknowledged"
        for wrong in ({"number": NUMBER, "text": code}, [], "x", {"mobile": None, "content": code}, {"mobile": NUMBER}):
            assert (await gateway.post(URL, json=wrong)).status_code == 422
        assert (await gateway.post(URL, content=b"{")).status_code == 400
        assert (await gateway.post(URL, content=b"\xff=\xff", headers={
            "Content-Type": "application/x-www-form-urlencoded"})).status_code == 400  # fmt: skip


async def test_without_settings_there_is_no_such_place(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as nobody:
        assert (await nobody.post(URL, json={})).status_code == 404


@pytest.mark.parametrize(
    ("number", "digits"),
    [("+86 138-0000-0000", "13800000000"), ("008613800000000", "13800000000"), ("13800000000", "13800000000"),
     ("＋８６１３８００００００００", "13800000000"), ("0537-7320000", "05377320000"),
     ("+49 30 1234567", "49301234567"),
     ("", ""), ("anonymous", ""), ("1" * 40, "")],
)  # fmt: skip
def test_numbers_are_compared_by_what_is_dialled(number: str, digits: str) -> None:
    assert digits_of(number) == digits
