"""Cases, tickets and figures over HTTP, and what the city's platforms say: signed, fresh, once, and to whom."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.config.case_fields import read_case_fields
from gateway.console.port import PlatformOptions
from gateway.core.cases import Case, CaseRow, CaseStatus
from gateway.core.model import HOUR, CommandName, Micros, Transition, WorkOrder
from gateway.core.records import Role, Scope
from gateway.core.signature import HEADER, sign
from tests.console.city import START, Running, record, running, step

KEY, OTHER = b"the platform's own key", b"another platform's key"
ALARM = "lamp-1/lamp-out"
CASE = "01KCASE"
URL = "/api/v1/inbound/cases/city"


@contextlib.asynccontextmanager
async def console(folder: Path, *, work: str = "NONE", case: bool = True) -> AsyncIterator[Running]:
    """A lamp that is out at 116.1, 35.8 and, with ``case``, known to the platform as CG-1."""
    async with running(folder) as here:
        receiving = read_case_fields(None).receiving
        here.gateway.platforms = {
            "city": PlatformOptions("city", KEY, receiving),
            "other": PlatformOptions("other", OTHER, receiving),
            "drill": PlatformOptions("drill", b"drill", receiving, simulated=True),
        }
        now = here.gateway.now()
        order = None if work == "NONE" else WorkOrder(CASE, "crew-1", "li", now - HOUR)
        alarm = record(occurrence_id=CASE, active_at=now - HOUR, detected_at=now - HOUR, work=work, order=order)
        await here.gateway.commit(step(alarm, at=now - HOUR))
        if case:
            await keep(here, CaseRow("city", the_case(now), "路灯熄灭", "Lamp out", 3, "CG-1"))
        yield here


def the_case(now: Micros, **more: Any) -> Case:
    base = Case(CASE, ALARM, CASE, now - HOUR, CaseStatus.OPENED, 1, now + 5 * HOUR)
    return msgspec.structs.replace(base, **more)


async def keep(here: Running, row: CaseRow) -> None:
    await here.gateway.store.cases.change(row.platform, row.case.key, lambda _: row)


async def say(
    here: Running,
    said: dict[str, Any] | bytes,
    *,
    url: str = URL,
    key: bytes = KEY,
    age_s: float = 0,
    signed: bytes | None = None,
    signature: str | None = None,
) -> httpx.Response:
    """POST as the platform does. ``signed``: the signature is of these bytes."""
    body = said if isinstance(said, bytes) else json.dumps(said, ensure_ascii=False).encode()
    made = sign(key, round(time.time() - age_s), body if signed is None else signed)
    async with here.client(None) as client:
        return await client.post(url, content=body, headers={HEADER: made if signature is None else signature})


def news(status: str, **more: Any) -> dict[str, Any]:
    return {"消息类型": "案件状态", "消息编号": f"m-{status}", "问题编号": "CG-1", "案件状态": status} | more


def report(number: str = "T-1", **more: Any) -> dict[str, Any]:
    base = {
        "消息类型": "工单",
        "工单编号": number,
        "问题类别": "路灯",
        "问题描述": "路灯不亮",
        "经纬度": "116.1003,35.8001",
    }
    return base | more


async def the_row(here: Running, key: str = CASE) -> CaseRow:
    found = await here.gateway.store.cases.find("city", key, "")
    assert found is not None
    return found


# -- who may speak ----------------------------------------------------------------------------------------------------


async def test_news_that_are_signed_are_taken_without_any_token(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        answer = await say(here, news("处置中"))
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert (said["kind"], said["repeated"], said["alarm_id"], said["done"]) == ("update", False, ALARM, None)
        assert (said["case"]["status"], said["case"]["said"]["word"]) == ("handling", "处置中")
        assert here.gateway.submitted == []  # how far they are stands in the case
        assert (await the_row(here)).case.status is CaseStatus.HANDLING


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"key": OTHER}, "not of this body with this key"),
        ({"key": b""}, "not of this body with this key"),
        ({"age_s": 301}, "s old; 300 s are allowed"),
        ({"age_s": -301}, "s ahead"),
        ({"signed": b"another body"}, "not of this body"),
        ({"signature": ""}, "there is no X-Citywatch-Signature"),
        ({"signature": "t=1,v1=abc"}, "is not t="),
        ({"url": "/api/v1/inbound/cases/nobody"}, "not of this body"),
        ({"url": "/api/v1/inbound/cases/other"}, "not of this body"),
    ],
)
async def test_what_is_not_signed_by_that_platform_just_now_is_refused(
    tmp_path: Path, how: dict[str, Any], why: str
) -> None:
    async with console(tmp_path) as here:
        answer = await say(here, news("已结案"), **how)
        assert (answer.status_code, answer.json()["code"]) == (403, "bad_signature")
        assert why in answer.json()["detail"]
        assert (await the_row(here)).case.status is CaseStatus.OPENED
        assert here.gateway.submitted == []
        (line,) = [one for one in (await here.gateway.store.audit(10)).items if one.action == "inbound"]
        assert (line.channel, line.outcome) == ("platform", "forbidden")


async def test_an_old_message_that_is_played_again_is_refused_and_a_fresh_one_does_nothing_twice(
    tmp_path: Path,
) -> None:
    async with console(tmp_path) as here:
        body = json.dumps(news("已结案"), ensure_ascii=False).encode()
        then = sign(KEY, round(time.time()), body)
        first = await say(here, body, signature=then)
        again = await say(here, body, signature=then)
        assert (first.json()["repeated"], again.json()["repeated"]) == (False, True)
        assert (first.json()["done"], again.json()["done"]) == ("comment", "comment")
        assert len(here.gateway.submitted) == 1
        old = sign(KEY, round(time.time()) - 301, body)
        assert (await say(here, body, signature=old)).status_code == 403


async def test_a_flood_of_wrong_ones_fills_nothing(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        for _ in range(45):
            await say(here, news("已结案"), key=OTHER)
        lines = [one for one in (await here.gateway.store.audit(100)).items if one.action == "inbound"]
        assert len(lines) == 31


async def test_what_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        assert (await say(here, b"x" * 70_000)).status_code == 413


async def test_another_method_is_none_and_needs_a_name(tmp_path: Path) -> None:
    async with console(tmp_path) as here, here.client(None) as nobody, here.client() as admin:
        assert (await nobody.get(URL)).status_code == 401
        assert (await admin.get(URL)).status_code == 405
        assert (await nobody.post(f"{URL}/x")).status_code == 401


async def test_what_cannot_be_read_is_said_and_written_down(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        for said, why in ((b"{", "not JSON"), ({"消息类型": "案件状态"}, "it names no case"), ({}, "neither of")):
            answer = await say(here, said)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
            assert why in answer.json()["detail"]
        unknown = await say(here, news("已结案", 问题编号="CG-2"))
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
        lines = [one.outcome for one in (await here.gateway.store.audit(10)).items if one.action == "inbound"]
        assert lines == ["invalid"] * 3


# -- what it means ----------------------------------------------------------------------------------------------------


async def test_a_case_that_the_platform_closes_closes_the_work_on_its_alarm(tmp_path: Path) -> None:
    async with console(tmp_path, work="ACCEPTED") as here:
        answer = await say(here, news("已结案", 操作人="王五", 说明="已换灯"))
        assert (answer.json()["done"], answer.json()["refused"]) == ("close", None)
        (command,) = here.gateway.submitted
        assert (command.name, command.by, command.channel) == (CommandName.CLOSE, "platform:city", "platform")
        assert command.why == "【city CG-1】已结案 · 王五：已换灯（报警仍在 the alarm still stands）"
        alarm = await here.gateway.store.alarm(ALARM)
        assert alarm is not None
        assert (alarm.work, alarm.is_active) == ("CLOSED", True)
        row = await the_row(here)
        assert (row.case.status, row.case.closed_how) == ("closed", "platform")


async def test_what_the_platform_sends_back_is_sent_back_to_the_same_people(tmp_path: Path) -> None:
    async with console(tmp_path, work="DONE") as here:
        answer = await say(here, news("返工", 说明="灯未亮"))
        assert answer.json()["done"] == "return"
        alarm = await here.gateway.store.alarm(ALARM)
        assert alarm is not None
        assert alarm.order is not None
        assert (alarm.work, alarm.order.reworks) == ("DISPATCHED", 1)
        assert (await the_row(here)).case.reworks == 1


@pytest.mark.parametrize(
    ("status", "work", "done"),
    [
        ("已结案", "NONE", "comment"),
        ("已结案", "CLOSED", "comment"),
        ("已结案", "REJECTED", "close"),
        ("不予立案", "DISPATCHED", "close"),
        ("返工", "NONE", "comment"),
        ("返工", "ON_SITE", "comment"),
        ("返工", "VERIFYING", "return"),
        ("处置中", "NONE", None),
        ("督办", "NONE", None),
    ],
)
async def test_what_a_word_does_to_the_alarm(tmp_path: Path, status: str, work: str, done: str | None) -> None:
    async with console(tmp_path, work=work) as here:
        answer = await say(here, news(status))
        assert (answer.status_code, answer.json()["done"], answer.json()["refused"]) == (200, done, None)
        assert [command.name.value for command in here.gateway.submitted] == ([] if done is None else [done])


async def test_words_of_somebody_there_become_a_comment(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        answer = await say(here, news("督办", 说明="请加快办理"))
        assert answer.json()["done"] == "comment"
        assert here.gateway.submitted[0].why == "【city CG-1】督办：请加快办理"
        assert answer.json()["case"]["said"]["status"] is None


async def test_a_case_is_found_by_our_key_too_and_learns_its_number(tmp_path: Path) -> None:
    async with console(tmp_path, case=False) as here:
        now = here.gateway.now()
        await keep(here, CaseRow("city", the_case(now, status=CaseStatus.OPENING, rev=0)))
        body = {"消息类型": "案件状态", "外部编号": CASE, "问题编号": "CG-77", "案件状态": "已立案"}
        assert (await say(here, body)).json()["case"]["number"] == "CG-77"
        assert (await say(here, news("处置中", 问题编号="CG-77"))).json()["case"]["status"] == "handling"


async def test_a_platform_speaks_of_its_own_cases_only(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        answer = await say(here, news("已结案"), url="/api/v1/inbound/cases/other", key=OTHER)
        assert answer.status_code == 404


# -- what citizens report ---------------------------------------------------------------------------------------------


async def test_a_report_beside_a_dark_lamp_is_about_it_and_becomes_a_comment(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        answer = (await say(here, report())).json()
        assert (answer["kind"], answer["alarm_id"], answer["done"]) == ("ticket", ALARM, "comment")
        kept = answer["ticket"]
        assert (kept["number"], kept["class"], kept["alarm_id"], kept["occurrence_id"]) == ("T-1", "路灯", ALARM, CASE)
        assert kept["why"]["zh"] == "同类，相距 29 米，报警期间"
        assert 0.7 < kept["score"] <= 1
        (command,) = here.gateway.submitted
        assert (command.name, command.by) == (CommandName.COMMENT, "platform:city")
        assert command.why == "【city 工单 T-1】路灯：路灯不亮（同类，相距 29 米，报警期间）"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"问题类别": "井盖"}, "no alarm of this class near it at that time"),
        ({"问题类别": "噪声"}, "its class is not in the table"),
        ({"经纬度": "116.1020,35.8"}, "no alarm of this class near it at that time"),
        ({"上报时间": "2025-01-01 00:00:00"}, "no alarm of this class near it at that time"),
    ],
)
async def test_a_report_that_is_about_nothing_is_kept_all_the_same(
    tmp_path: Path, more: dict[str, Any], why: str
) -> None:
    async with console(tmp_path) as here:
        answer = (await say(here, report(**more))).json()
        assert (answer["alarm_id"], answer["done"], answer["ticket"]["why"]["en"]) == (None, None, why)
        assert here.gateway.submitted == []
        assert (await here.gateway.store.cases.ticket("city", "T-1")) is not None


async def test_without_a_position_the_road_counts(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        answer = (await say(here, report(经纬度="", 地址描述="水泊路东头"))).json()
        assert (answer["alarm_id"], answer["ticket"]["why"]["zh"]) == (ALARM, "同类，同一道路（水泊路），报警期间")


async def test_a_report_that_comes_again_is_kept_once_and_told_once(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        await say(here, report())
        again = (await say(here, report(工单状态="办结", 问题描述="灯亮了", 经纬度="117,36"))).json()
        assert (again["repeated"], again["ticket"]["status"], again["ticket"]["text"]) == (True, "办结", "灯亮了")
        assert again["alarm_id"] == ALARM  # what it was about once it is about for ever
        assert len(here.gateway.submitted) == 1
        async with here.client() as client:
            listed = (await client.get("/api/v1/tickets")).json()
        assert [one["number"] for one in listed["items"]] == ["T-1"]


async def test_a_report_that_fitted_nothing_may_fit_when_it_is_known_better(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        assert (await say(here, report(经纬度=""))).json()["alarm_id"] is None
        assert (await say(here, report())).json()["alarm_id"] == ALARM


async def test_a_real_report_is_never_about_a_simulated_alarm(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        drill = {"url": "/api/v1/inbound/cases/drill", "key": b"drill"}
        assert (await say(here, report(), **drill)).json()["alarm_id"] is None
        alarm = await here.gateway.store.alarm(ALARM)
        assert alarm is not None
        simulated = msgspec.structs.replace(alarm, rev=9, simulated=True)
        await here.gateway.commit(step(simulated))
        assert (await say(here, report())).json()["alarm_id"] is None
        assert (await say(here, report("T-2"), **drill)).json()["alarm_id"] == ALARM


# -- lists ------------------------------------------------------------------------------------------------------------


async def test_cases_are_listed_by_state_alarm_and_page(tmp_path: Path) -> None:
    async with console(tmp_path) as here, here.client(Role.OPERATOR) as client:
        now = here.gateway.now()
        closed = the_case(
            now, key="01KOLD", opened_at=now - 9 * HOUR, due_at=now - 3 * HOUR, status=CaseStatus.CLOSED,
            closed_at=now - HOUR, closed_how="person",
        )  # fmt: skip
        dropped = {"way": "csv", "file": "f.csv", "error": "HTTP 500", "dropped": ("k",)}
        await keep(here, CaseRow("city", closed, number="CG-0", **dropped))  # type: ignore[arg-type]
        found = (await client.get("/api/v1/cases", params={"limit": 1})).json()
        assert [one["number"] for one in found["items"]] == ["CG-1"]
        rest = (await client.get("/api/v1/cases", params={"cursor": found["cursor"]})).json()
        (old,) = rest["items"]
        assert (old["number"], old["status"], old["closed_how"], old["overdue"], old["dropped"]) == (
            "CG-0", "closed", "person", True, 1,
        )  # fmt: skip
        assert (old["way"], old["file"], old["error"]) == ("csv", "f.csv", "HTTP 500")
        assert old["status_name"] == {"zh": "已结案", "en": "closed"}
        for query, numbers in (
            ({"state": "open"}, ["CG-1"]),
            ({"state": "closed,refused"}, ["CG-0"]),
            ({"state": "open,closed"}, ["CG-1", "CG-0"]),
            ({"alarm": ALARM}, ["CG-1", "CG-0"]),
            ({"alarm": "lamp-2/lamp-out"}, []),
        ):
            items = (await client.get("/api/v1/cases", params=query)).json()["items"]
            assert [one["number"] for one in items] == numbers, query
        assert (await client.get("/api/v1/cases", params={"state": "lost"})).json()["code"] == "invalid"
        assert (await client.get("/api/v1/cases", params={"cursor": "x"})).json()["code"] == "bad_cursor"


async def test_who_sees_another_town_sees_neither_case_nor_ticket(tmp_path: Path) -> None:
    async with console(tmp_path) as here:
        await say(here, report())
        await say(here, report("T-2", 经纬度=""))
        elsewhere = await here.gateway.store.create_token("e", Role.ADMIN, START, None, Scope(towns=("别处",)))
        town = await here.gateway.store.create_token("t", Role.ADMIN, START, None, Scope(towns=("梁山",)))
        for secret, cases, tickets in ((elsewhere, 0, 0), (town, 1, 1)):
            async with here.client(None) as client:
                client.headers["Authorization"] = f"Bearer {secret}"
                assert len((await client.get("/api/v1/cases")).json()["items"]) == cases
                assert len((await client.get("/api/v1/tickets")).json()["items"]) == tickets
        async with here.client() as client:
            for matched, numbers in (("true", ["T-1"]), ("false", ["T-2"])):
                found = (await client.get("/api/v1/tickets", params={"matched": matched})).json()["items"]
                assert [one["number"] for one in found] == numbers


# -- figures ----------------------------------------------------------------------------------------------------------


async def test_figures_are_made_of_the_recorded_steps(tmp_path: Path) -> None:
    """Two lamps: one mended in time, one sent again and late. lamp-out: 24 working hours, from Sunday to Thursday."""
    async with running(tmp_path) as here, here.client(Role.VIEWER) as client:
        order = WorkOrder("01J", "crew", "li", START)

        def at(hours: float, asset: str, rev: int, cause: str, **more: Any) -> Transition:
            return step(record(asset, rev=rev, **more), cause=cause, at=START + round(hours * HOUR))

        await here.gateway.commit(
            at(0, "lamp-1", 1, "T3"),
            at(1, "lamp-1", 2, "W1", work="DISPATCHED", order=order),
            at(9, "lamp-1", 3, "W6", work="CLOSED", order=order),
            at(0, "lamp-2", 1, "T3"),
            at(2, "lamp-2", 2, "W1", work="DISPATCHED", order=order),
            at(3, "lamp-2", 3, "W7", work="DISPATCHED", order=order),
            at(99, "lamp-2", 4, "W10", work="CLOSED", order=order),
            at(0, "lamp-9", 1, "T3", simulated=True),
        )

        async def ask(since: str, until: str, **more: str) -> dict[str, Any]:
            answer = await client.get("/api/v1/cases/figures", params={"from": since, "to": until, **more})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        week = await ask("2025-07-20T00:00:00+08:00", "2025-07-27T00:00:00+08:00")
        assert (week["registered"], week["closed"], week["due"], week["in_time"], week["reworked"]) == (2, 2, 2, 1, 1)
        assert (week["in_time_rate"], week["rework_rate"]) == (0.5, 0.5)
        assert week["average_handling_s"] == pytest.approx((9 + 99) / 2 * 3600)
        assert week["formulas"]["in_time_rate"]["zh"].startswith("按期结案率：")
        day = await ask("2025-07-20T00:00:00+08:00", "2025-07-21T00:00:00+08:00")
        assert (day["registered"], day["closed"], day["due"], day["in_time_rate"]) == (2, 1, 0, None)
        drill = await ask("2025-07-20T00:00:00+08:00", "2025-07-27T00:00:00+08:00", simulated="true")
        assert drill["registered"] == 1


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2025-07-20", "2025-07-21T00:00:00Z"),
        ("2025-07-21T00:00:00Z", "2025-07-20T00:00:00Z"),
        ("2025-07-21T00:00:00Z", "2025-07-21T00:00:00Z"),
        ("2020-01-01T00:00:00Z", "2025-07-21T00:00:00Z"),
        ("soon", "2025-07-21T00:00:00Z"),
    ],
)
async def test_a_period_must_be_one(tmp_path: Path, since: str, until: str) -> None:
    async with running(tmp_path) as here, here.client() as client:
        answer = await client.get("/api/v1/cases/figures", params={"from": since, "to": until})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_the_rule_is_shown_with_its_row(tmp_path: Path) -> None:
    async with running(tmp_path) as here, here.client() as client:
        rule = (await client.get("/api/v1/rules/manhole-open")).json()
        assert rule["case"] is True
        assert rule["standard"]["responsible"]["zh"] == "井盖权属单位或养护单位"
        assert (rule["standard"]["resolve_s"], rule["standard"]["clock"]) == (6 * 3600, "urgent")
        assert rule["standard"]["case_class"] == {"major": "01", "minor": "03"}
        other = (await client.get("/api/v1/rules/manhole-shifted")).json()
        assert (other["case"], other["standard"]) == (False, None)
