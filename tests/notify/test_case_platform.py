"""Cases to the city's platform: the receiver and the dispatcher against the simulated platform, with a real store."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway.config.case_fields import read_case_fields
from gateway.config.rules import load_rules
from gateway.config.shipped import read_tree, shipped
from gateway.core.case_clock import Calendar
from gateway.core.case_fields import FieldMap
from gateway.core.cases import CaseRow, CaseStatus, Said, hear, speaker
from gateway.core.component_code import Layout
from gateway.core.model import HOUR, MINUTE, SECOND, AlarmRecord, Asset, Condition, Micros, Transition, WorkOrder
from gateway.core.records import OutboxState
from gateway.core.rule import Rule
from gateway.core.spreadsheet import cell, harmless
from gateway.errors import Rejected, Unavailable
from gateway.notify.case_drop import WHY, CaseDrop
from gateway.notify.case_platform import CasePlatform, drop_columns, key_column
from gateway.notify.dispatcher import Dispatcher, Notification
from gateway.notify.webhook import SignedPost
from gateway.store.store import Store
from simulators.case_platform import EVENT_KEY, KEY, CaseFile, Fault
from simulators.case_platform import CasePlatform as City
from tests.console.city import START, record, step
from tests.notify.witness import status, witness

FIELDS = read_case_fields(None)
RULES = load_rules({n: t for n, t in read_tree(shipped("rules")).items() if not n.startswith("tests/")})
COVER = Asset("cover-1", "manhole", "12 号井盖", "水泊大街", "梁山街道", "排水处", 116.1, 35.8)
SECRET = "the platform's key"
ALARM = "cover-1/manhole-open"


@dataclass
class World:
    """What the gateway knows."""

    asset_: Asset | None = COVER
    calendar: Calendar = field(default_factory=Calendar)
    layout: Layout | None = None

    def asset(self, asset_id: str) -> Asset | None:
        return self.asset_

    def rule(self, rule_id: str, asset_id: str) -> Rule | None:
        return RULES.rules.get(rule_id)


@dataclass
class Clock:
    """Gateway time, as fast as the test says."""

    at: Micros = START

    def __call__(self) -> Micros:
        return self.at


def opens(rev: int = 1, **more: object) -> Transition:
    return of("T3", rev, **more)


def of(
    cause: str, rev: int, asset: str = "cover-1", *, by: str | None = None, why: str | None = None, **more: object
) -> Transition:
    """One step of a cover's alarm; ``more`` is so of the record after it."""
    fields: dict[str, object] = {
        "kind": "manhole", "occurrence_id": "01KCOVER", "title_zh": "井盖打开或丢失", "value": 62.0, "limit": 45.0,
        "unit": "deg",
    }  # fmt: skip
    after: AlarmRecord = record(asset, "manhole-open", rev, **(fields | more))  # type: ignore[arg-type]
    return step(after, cause=cause, by=by, why=why)


def ends(rev: int) -> Transition:
    return of("T13", rev, cond=Condition.NORMAL, acked=True, closed_at=START + rev * SECOND)


class Bench:
    """A receiver with its store, and the platform."""

    def __init__(
        self, folder: Path, city: City, store: Store, clock: Clock, url: str | None = None, fields: FieldMap = FIELDS
    ) -> None:
        self.city, self.store, self.clock, self.folder = city, store, clock, folder
        self.world = World()
        self.post = SignedPost(url or city.url, SECRET, allow_loopback=True)
        drop = CaseDrop(folder, "city", drop_columns(FIELDS), key_column(FIELDS), "Asia/Shanghai")
        self.receiver = CasePlatform(
            "city", self.post, fields, drop, lambda: store.cases, self.world, clock, 10 * MINUTE
        )  # fmt: skip

    async def send(self, at: Transition) -> None:
        await self.receiver.send(Notification(f"{at.alarm_id}/{at.rev}/city", at, 1))

    async def row(self) -> CaseRow:
        found = await self.store.cases.newest("city", ALARM)
        assert found is not None
        return found

    def case(self) -> CaseFile:
        (found,) = self.city.cases.values()
        return found

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []

    def rows(self, name: str | None = None) -> list[dict[str, str]]:
        text = (self.folder / (name or self.files()[0])).read_bytes().decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text, newline="")))


@contextlib.asynccontextmanager
async def bench(
    folder: Path, *faults: Fault, url: str | None = None, fields: FieldMap = FIELDS
) -> AsyncIterator[Bench]:
    store = await Store.open(folder / "data")
    async with City(SECRET, faults=faults) as city:
        made = Bench(folder / "drop", city, store, Clock(), url, fields)
        try:
            yield made
        finally:
            await made.receiver.close()
            await store.close()


# -- the usual --------------------------------------------------------------------------------------------------------


async def test_a_case_is_opened_signed_with_its_key_and_its_number_is_kept(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(opens())
        case = it.case()
        assert it.city.refused == []
        assert (case.events, case.document[KEY], case.document[EVENT_KEY]) == (
            ["opened"], "01KCOVER", "01KCOVER/1/opened",
        )  # fmt: skip
        assert case.document["处置时限"] == "6 紧急工作时"
        assert case.document["处置截止时间"] == "2025-07-20 20:30:01"
        assert case.document["责任主体"] == "井盖权属单位或养护单位"
        row = await it.row()
        assert (row.number, row.way, row.case.status, row.case.rev) == (case.number, "platform", "opened", 1)
        assert row.case.due_at == START + SECOND + 6 * HOUR


async def test_its_whole_life_is_told_and_each_time_the_whole_of_it(tmp_path: Path) -> None:
    order = WorkOrder("01KCOVER", "cover-crew", "li", START + 3 * SECOND)
    done = msgspec.structs.replace(order, done_by="zhang", done_at=START, action="补盖", cause_code="stolen")
    async with bench(tmp_path) as it:
        for at in (
            opens(),
            of("T10", 2, by="li", acked=True),
            of("W1", 3, by="li", work="DISPATCHED", order=order),
            of("W5", 4, by="zhang", work="VERIFYING", order=done),
            of("W6", 5, work="CLOSED", order=msgspec.structs.replace(done, closed_at=START)),
        ):
            await it.send(at)
        case = it.case()
        assert case.events == ["opened", "acknowledged", "dispatched", "done", "closed"]
        assert (case.document["处置措施"], case.document["派遣对象"], case.document["结案方式"]) == (
            "补盖", "cover-crew", "监测数据核实",
        )  # fmt: skip
        assert case.document["问题编号"] == case.number
        assert case.document["立案条件"].startswith("井盖缺失")
        row = await it.row()
        assert (row.case.status, row.case.closed_how) == ("closed", "readings")


async def test_what_matters_to_no_case_is_not_sent(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(of("T10", 1, acked=True))
        await it.send(of("T28", 2))
        assert it.city.requests == 0
        assert await it.store.cases.newest("city", ALARM) is None


async def test_a_second_case_has_a_key_of_its_own(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(opens())
        await it.send(ends(2))
        await it.send(opens(3, occurrence_id="01KAGAIN"))
        assert {key: case.events for key, case in it.city.cases.items()} == {
            "01KCOVER": ["opened", "closed"], "01KAGAIN": ["opened"],
        }  # fmt: skip
        assert (await it.row()).case.key == "01KAGAIN"


async def test_what_the_platform_has_done_itself_is_not_told_to_it(tmp_path: Path) -> None:
    order = WorkOrder("01KCOVER", "cover-crew", "li", START)
    async with bench(tmp_path) as it:
        await it.send(opens())
        said = Said(START, START, "返工", CaseStatus.REWORK)
        await it.store.cases.change("city", "01KCOVER", lambda row: hear(row, "m1", said, None) if row else None)
        await it.send(of("W10", 2, by=speaker("city"), why="平台返工", work="DISPATCHED", order=order))
        row = await it.row()
        assert (row.case.status, row.case.rev, row.case.reworks) == ("rework", 2, 1)
        assert it.case().events == ["opened"]
        await it.send(of("W2", 3, by="zhang", work="ACCEPTED", order=order))
        assert it.case().events == ["opened", "accepted"]


async def test_a_message_for_a_person_is_refused(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        with pytest.raises(Rejected, match="no messages for people"):
            await it.receiver.send(Notification("k", None, 1))


# -- answers that are lost, and faults --------------------------------------------------------------------------------


async def test_an_answer_that_is_lost_opens_no_second_case(tmp_path: Path) -> None:
    async with bench(tmp_path, Fault(lost=True)) as it:
        with pytest.raises(Unavailable):
            await it.send(opens())
        assert it.case().events == ["opened"]
        row = await it.row()
        assert (row.number, row.case.status, row.case.rev) == (None, "opening", 0)
        await it.send(opens())
        assert (it.case().events, it.city.repeats) == (["opened"], 1)
        assert ((await it.row()).number, (await it.row()).case.status) == (it.case().number, "opened")
        await it.send(opens())  # the end of the attempt was never written down
        assert it.city.requests == 2


async def test_the_platform_may_speak_of_a_case_before_our_own_answer_is_there(tmp_path: Path) -> None:
    async with bench(tmp_path, Fault(lost=True)) as it:
        with pytest.raises(Unavailable):
            await it.send(opens())
        said = Said(START, START, "处置中", CaseStatus.HANDLING)
        await it.store.cases.change("city", "01KCOVER", lambda row: hear(row, "m1", said, "CG-1") if row else None)
        await it.send(opens())
        row = await it.row()
        assert (row.case.status, row.heard, it.case().events) == ("handling", ("m1",), ["opened"])


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=503), Fault(status=429), Fault(code=0, lost=True)])
async def test_not_now_is_tried_again(tmp_path: Path, fault: Fault) -> None:
    async with bench(tmp_path, fault) as it:
        with pytest.raises(Unavailable):
            await it.send(opens())
        await it.send(opens())
        assert it.case().events == ["opened"]
        assert it.files() == []


async def test_a_no_inside_of_http_200_is_no_yes(tmp_path: Path) -> None:
    answer = replace(FIELDS.answer, ok=(("code",), frozenset({"0"})), message=("message",))
    async with bench(tmp_path, Fault(code=500), fields=replace(FIELDS, answer=answer)) as it:
        with pytest.raises(Unavailable, match="code = 500: 系统繁忙"):
            await it.send(opens())
        await it.send(opens())
        assert it.case().events == ["opened"]


async def test_another_key_is_not_taken(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.city._key = b"another"
        with pytest.raises(Rejected, match="401"):
            await it.send(opens())
        assert it.city.cases == {}
        assert it.city.refused == ["签名无效"]


async def test_it_is_not_talked_into_reaching_inside(tmp_path: Path) -> None:
    """The same guard as webhooks have: it is the same code."""
    async with bench(tmp_path, url="http://169.254.169.254/latest") as it:
        with pytest.raises(Rejected, match=r"169\.254\.169\.254"):
            await it.send(opens())
    async with witness(status(302, "Location: http://127.0.0.1:1/")) as seen, bench(tmp_path / "b", url=seen.url) as it:
        with pytest.raises(Rejected, match="302"):
            await it.send(opens())
        assert len(seen.requests) == 1


# -- the drop folder --------------------------------------------------------------------------------------------------


async def away(it: Bench, at: Transition) -> None:
    with pytest.raises(Unavailable):
        await it.send(at)


async def test_after_ten_minutes_it_goes_into_a_file_and_the_case_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.city.go_down()
        await away(it, opens())
        it.clock.at += 9 * MINUTE
        await away(it, opens())
        assert it.files() == []
        it.clock.at += MINUTE
        await it.send(opens())
        assert it.files() == ["city-2025-07-20.csv"]
        (line,) = it.rows()
        assert (line[KEY], line[EVENT_KEY], line["事件"]) == ("01KCOVER", "01KCOVER/1/opened", "立案")
        assert line[WHY].startswith("ConnectError")
        row = await it.row()
        assert (row.way, row.file, row.case.status, row.dropped) == (
            "csv", "city-2025-07-20.csv", "opened", ("01KCOVER/1/opened",),
        )  # fmt: skip
        assert row.error is not None
        assert row.error.startswith("ConnectError")


async def test_the_file_is_one_that_excel_opens(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.world.asset_ = msgspec.structs.replace(
            COVER, name="=HYPERLINK(1)", road="＝1+1", attributes={"component_code": "3708320103000001"}
        )
        await gone(it, opens())
        content = (it.folder / it.files()[0]).read_bytes()
        assert content.startswith(b"\xef\xbb\xbf")
        assert b"\r\n" in content
        (line,) = it.rows()
        assert line["道路"] == "'＝1+1"
        assert line["部件标识码"] == "'3708320103000001"
        assert not any(value.startswith(("=", "+", "-", "@", "＝")) for value in line.values())
        assert it.rows()[0].keys() == {*drop_columns(FIELDS), WHY}


async def gone(it: Bench, at: Transition) -> None:
    """The platform has been away for longer than anybody's patience."""
    await it.city.go_down()
    if it.receiver.down_since is None:
        await away(it, at)
    it.clock.at += 10 * MINUTE
    await it.send(at)


async def test_once_it_has_been_away_for_so_long_nothing_waits_and_it_is_asked_now_and_then(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await gone(it, opens())
        await it.city.come_up()
        await it.send(of("T10", 2, acked=True, by="li"))  # asked just now: not again so soon
        assert it.city.requests == 0
        it.clock.at += 31 * SECOND
        await it.send(of("W1", 3, work="DISPATCHED", order=WorkOrder("01KCOVER", "crew", "li", START)))
        assert it.case().events == ["dispatched"]
        assert it.case().document["立案时间"] == "2025-07-20 14:30:01"
        assert [line["事件"] for line in it.rows()] == ["立案", "受理"]
        row = await it.row()
        assert (row.way, row.number, row.error) == ("platform", it.case().number, None)
        assert row.dropped == ("01KCOVER/1/opened", "01KCOVER/2/acknowledged")
        assert it.receiver.down_since is None


async def test_one_key_is_in_the_folder_once(tmp_path: Path) -> None:
    """Killed after the file and before the note of it: the same event comes again, and is found in the file."""
    async with bench(tmp_path) as it:
        await gone(it, opens())

        def as_before(row: CaseRow | None) -> CaseRow | None:
            assert row is not None
            case = msgspec.structs.replace(row.case, rev=0, status=CaseStatus.OPENING)
            return msgspec.structs.replace(row, case=case, way="", dropped=())

        await it.store.cases.change("city", "01KCOVER", as_before)
        await it.send(opens())
        assert len(it.rows()) == 1
        assert (await it.row()).way == "csv"


async def test_a_case_that_is_refused_for_good_lies_in_the_folder_and_is_seen_to_have_failed(tmp_path: Path) -> None:
    async with bench(tmp_path, Fault(status=400)) as it:
        with pytest.raises(Rejected, match=r"HTTP 400.*; it lies in city-2025-07-20\.csv"):
            await it.send(opens())
        assert it.rows()[0][WHY].startswith("HTTP 400")
        row = await it.row()
        assert (row.way, row.case.status) == ("csv", "opened")
        await it.send(of("T10", 2, acked=True))
        assert it.case().events == ["acknowledged"]


async def test_one_that_is_always_refused_waits_no_longer_than_the_patience(tmp_path: Path) -> None:
    """Others are taken meanwhile: the platform is there, it is this one that it chokes on."""
    async with bench(tmp_path, Fault(status=500), Fault(), Fault(status=500)) as it:
        await away(it, opens())
        await it.send(of("T3", 1, "cover-2", occurrence_id="01KOTHER"))
        assert it.receiver.down_since is None
        it.clock.at += 11 * MINUTE
        await it.send(opens())
        assert [line[KEY] for line in it.rows()] == ["01KCOVER"]


async def test_a_folder_that_cannot_be_written_is_no_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.folder.write_text("a file where the folder should be")
        await it.city.go_down()
        await away(it, opens())
        it.clock.at += 10 * MINUTE
        with pytest.raises(Unavailable, match="cannot be written"):
            await it.send(opens())
        it.folder.unlink()
        await it.send(opens())
        assert len(it.rows()) == 1


async def test_retry_after_never_outlasts_the_patience(tmp_path: Path) -> None:
    async with (
        witness(status(503, "Retry-After: 3600")) as seen,
        bench(tmp_path, url=seen.url) as it,
    ):
        with pytest.raises(Unavailable) as caught:
            await it.send(opens())
        assert caught.value.retry_after_s == 600


# -- files by themselves ----------------------------------------------------------------------------------------------


def drop_in(folder: Path, columns: tuple[str, ...] = ("key", "text")) -> CaseDrop:
    return CaseDrop(folder, "city", columns, 0, "Asia/Shanghai")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_file_a_day_of_the_site(tmp_path: Path) -> None:
    drop = drop_in(tmp_path)
    names = [await drop.put([f"k{n}", "x"], "", START + n * 9 * HOUR) for n in range(3)]  # 14:30, 23:30, 8:30
    assert names == ["city-2025-07-20.csv", "city-2025-07-20.csv", "city-2025-07-21.csv"]


async def test_many_at_once_are_each_there_once(tmp_path: Path) -> None:
    drop = drop_in(tmp_path)
    await asyncio.gather(*(drop.put([f"k{n % 20}", 'x, "y"\n'], "why", START) for n in range(60)))
    (name,) = names_in(tmp_path)
    rows = list(csv.reader(io.StringIO((tmp_path / name).read_text(encoding="utf-8-sig"), newline="")))
    assert sorted(row[0] for row in rows[1:]) == sorted(f"k{n}" for n in range(20))
    assert rows[0] == ["key", "text", WHY]
    assert rows[1][1:] == ['x, "y"\n', "why"]


async def test_other_columns_make_another_file_and_so_does_one_that_was_spoilt(tmp_path: Path) -> None:
    first = await drop_in(tmp_path).put(["k", "x"], "", START)
    second = await drop_in(tmp_path, ("key", "other")).put(["k", "x"], "", START)
    assert (first, second) == ("city-2025-07-20.csv", "city-2025-07-20-2.csv")
    (tmp_path / first).write_bytes("键,文字\r\n".encode("gbk"))
    assert await drop_in(tmp_path).put(["k2", "x"], "", START) == "city-2025-07-20-3.csv"
    assert (tmp_path / first).read_bytes() == "键,文字\r\n".encode("gbk")


async def test_a_file_without_a_last_line_end_is_gone_on_with(tmp_path: Path) -> None:
    """An editor has cut it off."""
    name = await drop_in(tmp_path).put(["k1", "x"], "", START)
    path = tmp_path / name
    path.write_bytes(path.read_bytes().rstrip())
    await drop_in(tmp_path).put(["k2", "x"], "", START)
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    assert [row[0] for row in rows] == ["key", "k1", "k2"]


async def test_no_half_file_is_ever_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of the writing."""
    drop = drop_in(tmp_path)
    name = await drop.put(["k1", "x"], "", START)
    whole = (tmp_path / name).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.notify.case_drop.os.fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        await drop.put(["k2", "x"], "", START)
    assert names_in(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == whole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=1+1", "'=1+1"), ("-5", "'-5"), ("@x", "'@x"), ("\tx", "'\tx"), ("＋1", "'＋1"), ("plain", "plain"),
        (-5, "-5"), (116.1, "116.1"), (True, "true"), (None, ""), ("3708320103000001", "'3708320103000001"),
        ("123456789012345", "123456789012345"), ("01", "01"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula_and_no_code_loses_a_digit(value: str | float | bool | None, text: str) -> None:
    assert cell(value) == text
    if isinstance(value, str) and not value.isdigit():
        assert harmless(value) == text


# -- with the dispatcher ----------------------------------------------------------------------------------------------


async def test_from_the_outbox_to_the_platform_in_order_through_a_bad_quarter_of_an_hour(tmp_path: Path) -> None:
    """Answers are lost and the platform fails; each event arrives once, in the order of the alarm."""
    store = await Store.open(tmp_path / "data", receivers=lambda transition: ("city",))
    faults = (Fault(lost=True), Fault(status=500, times=2), Fault(), Fault(lost=True), Fault(status=503))
    async with City(SECRET, faults=faults) as city:
        it = Bench(tmp_path / "drop", city, store, Clock())
        hurried = Hurried()
        dispatcher = Dispatcher(store, {"city": it.receiver}, hurried)
        running = asyncio.create_task(dispatcher.run())
        await store.commit(
            1, [opens(), of("T10", 2, acked=True, by="li"), of("T6", 3, acked=True, latched=True), ends(4)]
        )
        dispatcher.wake()
        try:
            async with asyncio.timeout(20):
                while len(await store.outbox_rows(OutboxState.DELIVERED, 10)) < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await it.receiver.close()
            await store.close()
        assert it.case().events == ["opened", "acknowledged", "cleared", "closed"]
        assert city.repeats == 2
        assert it.files() == []


class Hurried:
    """A hundred times as fast as the clock on the wall: nobody waits for retries."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> Micros:
        return START + HOUR + round((time.monotonic() - self._began) * 100 * SECOND)


# -- the simulated platform as a process ------------------------------------------------------------------------------


async def test_the_simulated_platform_is_a_command(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(f"{SECRET}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "--die-with-parent", "case-platform", "--secret-file", str(key),
        "--out", str(tmp_path / "out.jsonl"), "--faults", '[{"status": 503}]',
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        post = SignedPost(ready["url"], SECRET, allow_loopback=True)
        body = msgspec.json.encode({KEY: "k", EVENT_KEY: "k/1/opened", "事件代码": "opened"})
        with pytest.raises(Unavailable, match="503"):
            await post.post(body, "k/1/opened", "application/json")
        answer = json.loads(await post.post(body, "k/1/opened", "application/json"))
        assert answer["问题编号"].startswith("CG")
        with pytest.raises(Rejected, match="幂等键不一致"):
            await post.post(body, "another", "application/json")
        await post.close()
    finally:
        process.terminate()
        said, _ = await process.communicate()
    assert (json.loads(said), process.returncode) == ({"type": "summary", "requests": 3, "cases": 1}, 0)
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))[KEY] == "k"


async def test_the_simulated_platform_is_told_over_http_how_to_misbehave(tmp_path: Path) -> None:
    async with bench(tmp_path) as it, httpx.AsyncClient(trust_env=False) as client:
        there = it.city.url.removesuffix("/cases")
        answer = await client.post(f"{there}/faults", content=json.dumps([{"status": 500}]))
        assert answer.status_code == 200
        await away(it, opens())
        await it.send(opens())
        listed = (await client.get(f"{there}/cases")).json()
        assert (listed["requests"], [case["events"] for case in listed["cases"]]) == (2, [["opened"]])
        assert (await client.post(f"{there}/faults", content='[{"stauts": 500}]')).status_code == 400
