"""The forwarder: each reading reaches the sink, in order, once the sink is there; one bad reading costs only itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.faults.database import DONE, ScriptedDatabase, error, scripted_database
from gateway.core.model import Quality, Reading
from gateway.errors import Rejected, Unavailable
from gateway.ports import Sink
from gateway.sinks.cursor import FileCursor
from gateway.sinks.forwarder import Forwarder
from gateway.sinks.influx import AssetTags, InfluxSink
from tests.servers import victoria_metrics

T0 = 1_735_689_600_000_000


class ListLog:
    """A historian that is a list; the cursor is an index."""

    def __init__(self, readings: Sequence[Reading] = ()) -> None:
        self.readings = list(readings)

    async def after(self, cursor: int, limit: int) -> tuple[int, list[Reading]]:
        batch = self.readings[cursor : cursor + limit]
        return cursor + len(batch), batch


class Recorder:
    """A sink that keeps what it takes; ``answer`` may raise first."""

    def __init__(self, answer: Callable[[Sequence[Reading]], None] = lambda readings: None) -> None:
        self.answer = answer
        self.taken: list[Reading] = []
        self.offered = 0

    async def write(self, readings: Sequence[Reading]) -> None:
        self.offered += 1
        self.answer(readings)
        self.taken += readings


def some(count: int, first: int = 0) -> list[Reading]:
    return [
        Reading(f"lamp-{i % 7}", "power", float(i), Quality.GOOD, T0 + i * 1000, T0 + i * 1000, "d")
        for i in range(first, first + count)
    ]


@asynccontextmanager
async def forwarding(
    sink: Sink, log: ListLog, folder: Path, batch: int = 100, name: str = "influx"
) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(
        name, sink, log, FileCursor(folder, name), batch=batch, idle_s=0.01, first_delay_s=0.001, longest_delay_s=0.005
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(forwarder.run(), name="forwarder")
        yield forwarder
        task.cancel()


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  the forwarder has no event for each of these
            await asyncio.sleep(0.002)


async def test_everything_arrives_in_order_in_batches(tmp_path: Path) -> None:
    log, sink = ListLog(some(1_050)), Recorder()
    async with forwarding(sink, log, tmp_path) as forwarder:
        await until(lambda: forwarder.status.caught_up)
    assert sink.taken == log.readings
    assert sink.offered == 11
    assert forwarder.status.written == 1_050


async def test_new_readings_go_out_when_woken(tmp_path: Path) -> None:
    log, sink = ListLog(), Recorder()
    async with forwarding(sink, log, tmp_path) as forwarder:
        await until(lambda: forwarder.status.caught_up)
        log.readings += some(3)
        forwarder.wake()
        await until(lambda: len(sink.taken) == 3)


async def test_a_restart_goes_on_where_the_cursor_stands(tmp_path: Path) -> None:
    log, first, second = ListLog(some(250)), Recorder(), Recorder()
    async with forwarding(first, log, tmp_path) as forwarder:
        await until(lambda: forwarder.status.caught_up)
    log.readings += some(30, first=250)
    async with forwarding(second, log, tmp_path) as forwarder:
        await until(lambda: len(second.taken) == 30)
    assert first.taken + second.taken == log.readings


async def test_the_cursor_waits_for_a_sink_that_is_away(tmp_path: Path) -> None:
    failures = 5

    def away(readings: Sequence[Reading]) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise Unavailable("connection refused")

    log, sink = ListLog(some(300)), Recorder(away)
    async with forwarding(sink, log, tmp_path) as forwarder:
        await until(lambda: forwarder.status.caught_up)
    assert sink.taken == log.readings
    assert forwarder.status.attempts_failed == 5
    assert forwarder.status.away_since_s is None


@pytest.mark.parametrize("bad", [{0}, {99}, {13}, {0, 1, 2, 50, 99}, set(range(40, 90))])
async def test_refused_readings_are_found_counted_and_named_and_the_rest_is_written(
    tmp_path: Path, bad: set[int]
) -> None:
    def refuse(readings: Sequence[Reading]) -> None:
        if any(r.value in bad for r in readings):
            raise Rejected("422: field type conflict")

    log, sink = ListLog(some(300)), Recorder(refuse)
    async with forwarding(sink, log, tmp_path) as forwarder:
        await until(lambda: forwarder.status.caught_up)
    assert {r.value for r in sink.taken} == {float(i) for i in range(300)} - bad
    assert forwarder.status.refused == len(bad)
    assert sum(r.count for r in forwarder.refusals) == len(bad)
    assert {(r.point, r.reason) for r in forwarder.refusals} == {("power", "422: field type conflict")}


async def test_a_sink_that_names_what_it_refuses_is_believed(tmp_path: Path) -> None:
    def refuse(readings: Sequence[Reading]) -> None:
        raise Rejected("text", (1,))

    sink = Recorder(refuse)
    async with forwarding(sink, ListLog(some(3)), tmp_path) as forwarder:
        await until(lambda: forwarder.status.caught_up)
    assert sink.offered == 1
    assert (forwarder.status.written, forwarder.status.refused) == (2, 1)
    assert forwarder.refusals[0].asset == "lamp-1"


async def test_a_sink_that_refuses_everything_is_ill_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    ill = True

    def refuse(readings: Sequence[Reading]) -> None:
        if ill:
            raise Rejected("400: who are you")

    log, sink = ListLog(some(200)), Recorder(refuse)
    async with forwarding(sink, log, tmp_path) as forwarder:
        await until(lambda: forwarder.status.away_since_s is not None)
        assert forwarder.status.away_reason == "refuses everything: 400: who are you"
        assert forwarder.status.cursor == 0
        ill = False
        await until(lambda: forwarder.status.caught_up)
    assert sink.taken == log.readings
    assert forwarder.status.refused == 0


async def test_a_stuck_sink_delays_nobody_else(tmp_path: Path) -> None:
    class Stuck:
        async def write(self, readings: Sequence[Reading]) -> None:
            await asyncio.Event().wait()

    log, sink = ListLog(some(500)), Recorder()
    async with forwarding(Stuck(), log, tmp_path, name="stuck"), forwarding(sink, log, tmp_path, name="well") as well:
        await until(lambda: well.status.caught_up)
    assert sink.taken == log.readings


async def test_a_database_that_is_down_then_ill_then_slow_then_refuses_one_ends_equal(tmp_path: Path) -> None:
    """F61: what the historian holds is what the sink holds, but for the one point that was named."""
    log = ListLog(some(900))
    async with scripted_database() as database:
        phase = _phases(database)
        sink = InfluxSink(database.url, "o", "b", None, lambda asset: AssetTags("lamp"), timeout_s=0.1)
        async with sink, forwarding(sink, log, tmp_path) as forwarder:
            await until(lambda: forwarder.status.caught_up, 30)
    assert phase.seen == {"down", "ill", "slow"}
    times = {int(line.rsplit(" ", 1)[1]) for line in database.stored}
    assert times == {r.source_time // 1000 for r in log.readings if r.value != 777}
    assert [(r.asset, r.count) for r in forwarder.refusals] == [("lamp-0", 1)]


class _phases:
    """Three failing answers of each sort, then well; always refuses the reading of value 777."""

    def __init__(self, database: ScriptedDatabase) -> None:
        self.seen: set[str] = set()
        self.calls = 0
        database.script = self.answer
        self.database = database

    def answer(self, lines: list[str]) -> tuple[int, dict[str, str], bytes]:
        self.calls += 1
        if self.calls <= 3:
            self.seen.add("down")
            raise ConnectionError("closed before an answer")
        if self.calls <= 6:
            self.seen.add("ill")
            return error(500, "internal")
        if self.calls == 7:
            self.seen.add("slow")
            self.database.silent = True
            asyncio.get_running_loop().call_later(0.3, setattr, self.database, "silent", False)
            raise ConnectionError("and then silence")
        if any("power=777.0" in line for line in lines):
            return error(422, "partial write: field type conflict: dropped=1")
        return DONE


async def test_a_week_without_the_sink_is_only_a_long_cursor(tmp_path: Path) -> None:
    log = ListLog(some(20_000))
    async with victoria_metrics() as database:
        await database.kill()
        sink = InfluxSink(database.url, "o", "b", None, lambda asset: AssetTags("lamp"))
        async with sink, forwarding(sink, log, tmp_path, batch=5_000) as forwarder:
            await until(lambda: forwarder.status.attempts_failed > 2)
            await database.start()
            await until(lambda: forwarder.status.caught_up, 30)
        await database.flush()
        rows = await database.export('{__name__="lamp_power"}')
        found = {
            (row["metric"]["asset"], time, value)
            for row in rows
            for time, value in zip(row["timestamps"], row["values"], strict=True)
        }
    assert found == {(r.asset, r.source_time // 1000, r.value) for r in log.readings}
