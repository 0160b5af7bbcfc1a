"""The historian keeps every reading once, whatever happens, and gives it back as it came."""

from __future__ import annotations

import asyncio
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.core.model import HOUR, MINUTE, SECOND, Micros, Quality, Reading
from gateway.errors import StorageFailed, Unavailable
from gateway.historian import compaction
from gateway.historian import historian as module
from gateway.historian.catalog import DAY
from gateway.historian.compaction import Retention
from gateway.historian.historian import Historian
from gateway.historian.queries import Sample
from tests.historian.writer import batch
from tests.servers import need_debian

KILLS = 10
MIDNIGHT: Micros = 20_000 * DAY
FOREVER = 1 << 62


def reading(time: Micros, value: object = 1.0, **other: object) -> Reading:
    fields = {"asset": "lamp-1", "point": "power", "device": "dev-1", "quality": Quality.GOOD, "received_at": time}
    return Reading(value=value, source_time=time, **{**fields, **other})  # type: ignore[arg-type]


async def arrived(historian: Historian, limit: int = 1000, cursor: int = 0) -> list[Reading]:
    everything: list[Reading] = []
    while True:
        before = cursor
        cursor, readings = await historian.after(cursor, limit)
        if not readings:
            assert cursor == before
            return everything
        assert len(readings) <= limit
        assert cursor > before
        everything += readings


async def filled(folder: Path, positions: Iterable[int], retention: Retention | None = None) -> Historian:
    historian = await Historian.open(folder, retention=retention)
    for position in positions:
        await historian.append([(position, batch(position))])
    return historian


def as_written(positions: Iterable[int]) -> list[Reading]:
    return [reading for position in positions for reading in batch(position)]


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


# -- kept as it came ----------------------------------------------------------------------------------------------


async def test_a_reading_comes_back_whole(tmp_path: Path) -> None:
    given = [
        reading(MIDNIGHT, 95.3),
        reading(MIDNIGHT + 1, 7, point="count", sequence=41),
        reading(MIDNIGHT + 2, True, point="on", historical=True),
        reading(MIDNIGHT + 3, "故障", point="state", quality=Quality.UNCERTAIN, received_at=MIDNIGHT + 9),
        reading(MIDNIGHT + 4, None, quality=Quality.BAD, reason="sentinel FFFF: sensor error"),
        reading(MIDNIGHT + 5, 1, has_source_time=False, sequence=-1),
    ]
    historian = await Historian.open(tmp_path)
    await historian.append([(1, given)])
    assert await arrived(historian) == given
    types = [type(each.value) for each in await arrived(historian)]
    assert types == [float, int, bool, str, type(None), int]
    await historian._run(historian._writer, historian._seal)
    await historian.compact(MIDNIGHT + HOUR)
    assert await arrived(historian) == given
    assert [type(each.value) for each in await arrived(historian)] == types
    await historian.close()


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), "\ud800", "a\0b", "x" * 100_000])
async def test_no_value_stops_the_stream(tmp_path: Path, value: object) -> None:
    historian = await Historian.open(tmp_path)
    await historian.append([(1, [reading(MIDNIGHT, value), reading(MIDNIGHT + 1, 5.0, reason="\udfff?")])])
    odd, plain = await arrived(historian)
    assert plain.value == 5.0
    match value:
        case int():
            assert odd.value == (math.inf if value > 0 else -math.inf)
        case "\ud800":
            assert odd.value == "?"
        case _:
            assert odd.value == value
    await historian.close()


async def test_a_position_is_stored_once(tmp_path: Path) -> None:
    historian = await filled(tmp_path, [1, 2, 3])
    await historian.append([(2, batch(2)), (3, batch(3)), (4, batch(4)), (6, batch(6))])
    await historian.append([(5, batch(5))])
    assert historian.position == 6
    assert await arrived(historian) == as_written([1, 2, 3, 4, 6])
    await historian.append([(9, [])])
    assert historian.position == 9
    await historian.close()
    historian = await Historian.open(tmp_path)
    assert historian.position == 9
    await historian.close()


async def test_duplicates_are_kept_once_and_the_first_counts(tmp_path: Path) -> None:
    historian = await Historian.open(tmp_path)
    same = [reading(MIDNIGHT, 1.0), reading(MIDNIGHT, 2.0), reading(MIDNIGHT, 3.0, sequence=5)]
    untimed = [reading(MIDNIGHT, 4.0, has_source_time=False), reading(MIDNIGHT, 4.0, has_source_time=False)]
    await historian.append([(1, same), (2, [*untimed, reading(MIDNIGHT, 9.0)])])
    for _ in range(2):
        found = await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + 1)
        assert [each.value for each in found] == [1.0, 3.0, 4.0, 4.0]
        await historian._run(historian._writer, historian._seal)
        await historian.compact(MIDNIGHT + HOUR)
    assert [each.value for each in await arrived(historian)] == [1.0, 3.0, 4.0, 4.0]
    await historian.close()


async def test_late_readings_land_in_their_day(tmp_path: Path) -> None:
    historian = await Historian.open(tmp_path)
    await historian.append(
        [(1, [reading(MIDNIGHT - MINUTE, 1.0), reading(MIDNIGHT - 3 * DAY, 2.0), reading(MIDNIGHT)])]
    )
    await historian._run(historian._writer, historian._seal)
    await historian.compact(MIDNIGHT + HOUR)
    names = [path.relative_to(tmp_path).parts[0] for path in files(tmp_path, "*/raw-*.parquet")]
    assert names == ["2024-10-01", "2024-10-03", "2024-10-04"]
    await historian.append([(2, [reading(MIDNIGHT - 2 * MINUTE, 5.0)])])
    found = await historian.readings("lamp-1", "power", MIDNIGHT - HOUR, MIDNIGHT + 1)
    assert [each.value for each in found] == [5.0, 1.0, 1.0]
    await historian.close()


# -- asked --------------------------------------------------------------------------------------------------------


async def test_sinks_read_in_order_of_arrival_through_every_kind_of_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEAL_ROWS", 150)
    monkeypatch.setattr(module, "AHEAD_ROWS", 40)
    historian = await Historian.open(tmp_path)
    for position in range(1, 301):
        await historian.append([(position, batch(position))])
        if position % 70 == 0:
            await historian.compact(MIDNIGHT)
    assert len(files(tmp_path, "*/raw-*.parquet")) > 3
    for limit in (1, 7, 1000) if os.environ.get("CI") else (7, 1000):
        assert await arrived(historian, limit) == as_written(range(1, 301))
    cursor, first = await historian.after(0, 11)
    await historian.close()
    historian = await Historian.open(tmp_path)
    assert first + await arrived(historian, 100, cursor) == as_written(range(1, 301))
    await historian.close()


async def test_a_sink_at_the_end_gets_what_comes_next(tmp_path: Path) -> None:
    historian = await filled(tmp_path, [1, 2])
    cursor, readings = await historian.after(0, 1000)
    assert await historian.after(cursor, 10) == (cursor, [])
    await historian.append([(3, batch(3))])
    cursor, readings = await historian.after(cursor, 1000)
    assert readings == batch(3)
    await historian.close()


async def test_questions_are_limited_and_filtered(tmp_path: Path) -> None:
    historian = await Historian.open(tmp_path)
    qualities = [Quality.GOOD, Quality.BAD, Quality.UNCERTAIN]
    await historian.append([(1, [reading(MIDNIGHT + n, float(n), quality=qualities[n % 3]) for n in range(9)])])
    ask = historian.readings
    assert [s.value for s in await ask("lamp-1", "power", MIDNIGHT + 2, FOREVER, limit=3)] == [2, 3, 4]
    assert [s.value for s in await ask("lamp-1", "power", 0, FOREVER, quality=Quality.BAD)] == [1, 4, 7]
    assert await ask("lamp-1", "nothing", 0, FOREVER) == []
    assert await ask("nobody'; DROP TABLE series; --", "power", 0, FOREVER) == []
    assert await ask("lamp-1", "power", 5, 5) == []
    with pytest.raises(ValueError, match="step"):
        await ask("lamp-1", "power", 0, FOREVER, 0)
    await historian.close()


async def test_a_question_that_takes_too_long_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERY_S", 0.2)
    historian = await filled(tmp_path, [1])

    def endless(cursor: object, _: Path) -> None:
        cursor.execute("SELECT count(*) FROM range(1_000_000) a, range(1_000_000) b WHERE (a.range + b.range) % 7 = 9")  # type: ignore[attr-defined]

    with pytest.raises(Unavailable, match="ask for less"):
        await historian._ask(endless)
    task = asyncio.create_task(historian._ask(endless))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await historian.readings("lamp-0", "power", 0, FOREVER)
    await historian.close()


async def test_questions_are_answered_while_it_is_written_and_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEAL_ROWS", 400)
    historian = await filled(tmp_path, [1])

    async def compact() -> None:
        while historian.position < 400:
            await historian.compact(MIDNIGHT + historian.position)

    async def ask() -> int:
        asked = 0
        while (upto := historian.position) < 400:
            found = await historian.readings("lamp-0", "power", 0, FOREVER)
            assert [each.value for each in found][:upto] == [float(n * 100) for n in range(1, upto + 1)]
            asked += 1
        return asked

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(compact())
        asking = tasks.create_task(ask())
        for position in range(2, 401):
            await historian.append([(position, batch(position))])
    assert asking.result() > 3
    assert await arrived(historian) == as_written(range(1, 401))
    await historian.close()


# -- compacted, retired -------------------------------------------------------------------------------------------


async def seal_and_compact(historian: Historian, now: Micros) -> None:
    await historian._run(historian._writer, historian._seal)
    await historian.compact(now)


async def test_a_closed_day_becomes_one_file_with_rollups_and_old_files_go(tmp_path: Path) -> None:
    historian = await Historian.open(tmp_path)
    for hour in range(24):
        times = range(MIDNIGHT + hour * HOUR, MIDNIGHT + (hour + 1) * HOUR, 15 * SECOND)
        await historian.append([(hour + 1, [reading(time, float(time // SECOND % 50)) for time in times])])
        await seal_and_compact(historian, MIDNIGHT + (hour + 1) * HOUR)
    await historian.compact(MIDNIGHT + DAY + 2 * HOUR)
    await historian.compact(MIDNIGHT + DAY + 3 * HOUR)
    day = [path.name.split("-")[0] for path in files(tmp_path, "2024-10-04/*")]
    assert day == ["1h", "1m", "raw"]
    figures = await historian.stats()
    assert (figures["raw_rows"], figures["1m_rows"], figures["1h_rows"]) == (5760, 1440, 24)
    hours = await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + DAY, HOUR)
    assert [(step.count, step.min, step.max) for step in hours] == [(240, 0.0, 45.0)] * 24
    await historian.close()


async def test_rollups_follow_a_late_reading(tmp_path: Path) -> None:
    historian = await Historian.open(tmp_path)
    await historian.append([(1, [reading(MIDNIGHT + 5, 1.0)])])
    await seal_and_compact(historian, MIDNIGHT + 2 * DAY)
    assert (await historian.stats())["1h_rows"] == 1
    await historian.append([(2, [reading(MIDNIGHT + 7, 3.0), reading(MIDNIGHT + 5, 100.0)])])
    for _ in range(2):
        (hour,) = await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + DAY, HOUR)
        assert (hour.count, hour.mean, hour.last) == (2, 2.0, 3.0)
        await seal_and_compact(historian, MIDNIGHT + 3 * DAY)
    await historian.close()


async def test_readings_go_by_age_and_their_rollups_stay(tmp_path: Path) -> None:
    retention = Retention(raw=2 * DAY, minutes=5 * DAY, hours=10 * DAY)
    historian = await Historian.open(tmp_path, retention=retention)
    await historian.append([(1, [reading(MIDNIGHT + day * DAY + HOUR, float(day)) for day in range(4)])])
    now = MIDNIGHT + 4 * DAY + 2 * HOUR
    await seal_and_compact(historian, now)
    assert len(await historian.retain(now)) == 2
    found = await historian.readings("lamp-1", "power", MIDNIGHT, now)
    assert [each.value for each in found] == [2.0, 3.0]
    hours = await historian.readings("lamp-1", "power", MIDNIGHT, now, HOUR)
    assert [step.mean for step in hours] == [0.0, 1.0, 2.0, 3.0]
    await historian.compact(now + 2 * MINUTE)
    assert len(files(tmp_path, "*/raw-*.parquet")) == 2
    assert len(await historian.retain(now + 20 * DAY)) == 10
    await historian.compact(now + 21 * DAY)
    assert files(tmp_path, "*/*.parquet") == []
    assert await historian.readings("lamp-1", "power", MIDNIGHT, now, HOUR) == []
    await historian.close()


async def test_the_oldest_readings_go_when_there_is_too_much_and_never_todays(tmp_path: Path) -> None:
    historian = await Historian.open(tmp_path, retention=Retention(max_bytes=1))
    await historian.append([(1, [reading(MIDNIGHT + day * DAY, float(day)) for day in range(5)])])
    now = MIDNIGHT + 4 * DAY + 2 * HOUR
    await seal_and_compact(historian, now)
    await historian.retain(now)
    found = await historian.readings("lamp-1", "power", MIDNIGHT, now)
    assert [each.value for each in found] == [3.0, 4.0]
    await historian.close()


async def test_a_reading_of_a_county_takes_less_than_six_bytes(tmp_path: Path) -> None:
    draw = random.Random(1)
    historian = await Historian.open(tmp_path)
    points = {"power": lambda: round(95 + draw.gauss(0, 1.5), 1), "voltage": lambda: round(229 + draw.gauss(0, 1), 1)}
    points |= {"current": lambda: round(0.41 + draw.gauss(0, 0.01), 2), "dim": lambda: 100.0}
    frames = sorted(
        (MIDNIGHT + n * 60 * SECOND + lamp * 60 * SECOND // 200 + draw.randrange(-20, 20) * 1000, lamp)
        for n in range(250)
        for lamp in range(200)
    )
    received, items = 0, []
    for position in range(0, len(frames), 20):
        readings = []
        for time, lamp in frames[position : position + 20]:
            received = max(received, time + 5_000 + int(draw.expovariate(1 / 8000)))
            own = {"asset": f"lamp-{lamp}", "device": f"dev-{lamp}", "received_at": received}
            readings += [reading(time, value(), point=point, **own) for point, value in points.items()]
        items.append((position + 1, readings))
    await historian.append(items)
    await seal_and_compact(historian, MIDNIGHT + HOUR)
    figures = await historian.stats()
    assert figures["raw_rows"] == 200_000
    assert (figures["raw_bytes"] or 0) / 200_000 < 6
    await historian.close()


# -- killed, damaged, out of room ---------------------------------------------------------------------------------


def start(folder: Path, count: int, *wrapper: str) -> subprocess.Popen[str]:
    command = [*wrapper, sys.executable, "-m", "tests.historian.writer", str(folder), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.faults
async def test_position_and_readings_are_one_whenever_the_process_is_killed(tmp_path: Path) -> None:
    draw = random.Random(3)
    acknowledged = 0
    for _ in range(KILLS):
        writer = start(tmp_path, 1_000_000)
        assert writer.stdout is not None
        wanted = acknowledged + draw.randrange(1, 30)
        for line in writer.stdout:
            word, number = line.split()
            assert int(number) >= acknowledged
            if word == "ack" and int(number) >= wanted:
                break
        writer.kill()
        lines = [f"ack {number}", *writer.stdout]
        writer.wait()
        writer.stdout.close()
        acknowledged = max(int(line.split()[1]) for line in lines if line.startswith("ack "))
    historian = await Historian.open(tmp_path)
    assert historian.position in (acknowledged, acknowledged + 1)
    assert await arrived(historian) == as_written(range(1, historian.position + 1))
    assert historian.damage == []
    await historian.close()


@pytest.mark.faults
@pytest.mark.parametrize(("error", "kind"), [("EIO", "error"), ("ENOSPC", "full")])
async def test_after_a_disk_error_nothing_is_stored_and_nothing_stored_is_lost(
    tmp_path: Path, error: str, kind: str
) -> None:
    strace = need_debian("strace", "strace")
    inject = f"write,pwrite64:error={error}:when=70+"
    path = tmp_path / "history.duckdb.wal"
    wrapper = (str(strace), "-f", "-qq", "-o", os.devnull, "-P", str(path), "-e", "trace=write,pwrite64", "-e")
    writer = start(tmp_path, 300, *wrapper, f"inject={inject}")
    output, _ = writer.communicate(timeout=60)
    lines = output.splitlines()
    if not lines:
        pytest.skip("strace may not trace here")
    assert [line.split()[:2] for line in lines if line.startswith("failed")] == [["failed", kind]]
    acknowledged = int([line for line in lines if line.startswith("ack")][-1].split()[1])
    historian = await Historian.open(tmp_path)
    assert historian.position >= acknowledged
    assert await arrived(historian) == as_written(range(1, historian.position + 1))
    await historian.close()


async def test_a_damaged_database_is_made_anew_from_the_files(tmp_path: Path) -> None:
    historian = await filled(tmp_path, range(1, 101))
    await seal_and_compact(historian, MIDNIGHT + HOUR)
    await historian.append([(101, batch(101))])
    await historian.close()
    with (tmp_path / "history.duckdb").open("r+b") as file:
        file.write(random.Random(1).randbytes(20_000))
    historian = await Historian.open(tmp_path)
    assert historian.position == 100
    assert "rebuilt" in historian.damage[0]
    assert len(files(tmp_path, "history.damaged-*")) == 1
    await historian.append([(position, batch(position)) for position in (100, 101, 102)])
    assert await arrived(historian) == as_written(range(1, 103))
    assert len(await historian.readings("lamp-0", "power", 0, FOREVER)) == 102
    await historian.close()


async def test_a_damaged_file_is_set_aside_and_told(tmp_path: Path) -> None:
    historian = await filled(tmp_path, range(1, 101))  # from 23:45 on: two days, two files
    await seal_and_compact(historian, MIDNIGHT + HOUR)
    broken = files(tmp_path, "*/raw-*.parquet")[0]
    content = bytearray(broken.read_bytes())
    content[len(content) // 3] ^= 4
    broken.write_bytes(content)
    for _ in range(2):
        await historian.compact(MIDNIGHT + HOUR)  # one file in turn
    assert len(historian.damage) == 1
    assert "set aside" in historian.damage[0]
    assert broken.with_suffix(".damaged").exists()
    assert 0 < len(await historian.readings("lamp-0", "power", 0, FOREVER)) < 100
    await historian.close()


async def test_a_file_that_is_gone_costs_its_readings_and_no_answer(tmp_path: Path) -> None:
    historian = await filled(tmp_path, range(1, 101))
    await seal_and_compact(historian, MIDNIGHT + HOUR)
    files(tmp_path, "*/raw-*.parquet")[0].unlink()
    found = await historian.readings("lamp-0", "power", 0, FOREVER)
    assert 0 < len(found) < 100
    assert all(isinstance(each, Sample) for each in found)
    assert len(historian.damage) == 1
    await historian.close()


async def test_a_historian_in_use_elsewhere_is_not_taken_for_damage(tmp_path: Path) -> None:
    writer = start(tmp_path, 1_000_000)
    assert writer.stdout is not None
    writer.stdout.readline()
    try:
        with pytest.raises(StorageFailed, match="lock"):
            await Historian.open(tmp_path)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


async def test_a_closed_historian_refuses(tmp_path: Path) -> None:
    historian = await filled(tmp_path, [1])
    await historian.close()
    await historian.close()
    with pytest.raises(StorageFailed, match="closed"):
        await historian.append([(2, batch(2))])
    with pytest.raises(Unavailable, match="closed"):
        await historian.readings("lamp-0", "power", 0, FOREVER)


# -- what a chart asks ----------------------------------------------------------------------------------------------


async def test_a_step_tells_how_many_bad_readings_it_holds_in_every_kind_of_storage(tmp_path: Path) -> None:
    """Bad ones alone make a step too: a chart must show that somebody spoke, and could not be believed."""
    said = [
        (0, 1.0, Quality.GOOD),
        (30, 9.0, Quality.BAD),
        (60, 9.0, Quality.BAD),
        (61, None, Quality.GOOD),
        (180, 3.0, Quality.GOOD),
    ]
    given = [reading(MIDNIGHT + second * SECOND, value, quality=quality) for second, value, quality in said]
    historian = await Historian.open(tmp_path, retention=Retention(raw=2 * DAY))
    await historian.append([(1, given)])

    async def minutes() -> list[tuple[int, int, float | None, int]]:
        found = await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + HOUR, MINUTE)
        return [((step.time - MIDNIGHT) // MINUTE, step.count, step.max, step.bad) for step in found]

    expected = [(0, 1, 1.0, 1), (1, 0, None, 2), (3, 1, 3.0, 0)]
    assert await minutes() == expected
    now = MIDNIGHT + 2 * DAY
    await historian.compact(now)
    await historian.compact(now + HOUR)
    assert await minutes() == expected
    assert await historian.retain(now + 2 * DAY)
    assert await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + HOUR) == []
    assert await minutes() == expected
    hours = await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + DAY, HOUR)
    assert [(step.count, step.mean, step.bad) for step in hours] == [(2, 2.0, 3)]
    await historian.close()


async def test_rollups_from_before_the_count_of_bad_readings_are_read_beside_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    historian = await Historian.open(tmp_path)
    before = compaction.AGGREGATES.replace("count(*) FILTER (value IS NULL AND text IS NULL) AS bad,", "")
    assert before != compaction.AGGREGATES
    for day in range(2):
        bad = reading(MIDNIGHT + day * DAY + 1, 9.0, quality=Quality.BAD)
        await historian.append([(day + 1, [reading(MIDNIGHT + day * DAY, float(day)), bad])])
        with monkeypatch.context() as patched:
            if day == 0:
                patched.setattr(compaction, "AGGREGATES", before)
            for hour in range(3):
                await historian.compact(MIDNIGHT + (day + 1) * DAY + (hour + 1) * HOUR)
    assert len(files(tmp_path, "*/1h-*.parquet")) == 2
    steps = await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + 2 * DAY, DAY)
    assert [(step.count, step.last, step.bad) for step in steps] == [(1, 0.0, 0), (1, 1.0, 1)]
    whole = await historian.readings("lamp-1", "power", MIDNIGHT, MIDNIGHT + 2 * DAY, 2 * DAY)
    assert [(step.count, step.bad) for step in whole] in ([(2, 1)], [(1, 0), (1, 1)])
    await historian.close()


async def test_it_is_known_how_finely_a_time_can_still_be_told(tmp_path: Path) -> None:
    retention = Retention(raw=10 * DAY, minutes=20 * DAY, hours=100 * DAY)
    historian = await Historian.open(tmp_path, retention=retention)
    for day in (0, 15, 29):
        await historian.append([(day + 1, [reading(MIDNIGHT + day * DAY + HOUR)])])
    now = MIDNIGHT + 30 * DAY + 2 * HOUR
    assert await historian.resolution(MIDNIGHT, now) == 0
    await historian._run(historian._writer, historian._seal)
    for hour in range(3):
        await historian.compact(now + hour * HOUR)
    await historian.append([(100, [reading(now)])])
    assert await historian.resolution(MIDNIGHT, now + 1) == 0
    await historian.retain(now)
    assert await historian.resolution(MIDNIGHT, now + 1) == HOUR, "the oldest day is told by the hour only"
    assert await historian.resolution(MIDNIGHT + 2 * DAY, now + 1) == MINUTE
    assert await historian.resolution(MIDNIGHT + 20 * DAY, now + 1) == 0
    assert await historian.resolution(MIDNIGHT - 9 * DAY, MIDNIGHT) == 0, "nothing at all"
    await historian.close()
