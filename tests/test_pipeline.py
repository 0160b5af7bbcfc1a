"""The one path with a real journal, store and historian: nothing is lost, doubled or changed by any restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from gateway import pipeline as pipelines
from gateway.clock import Clock
from gateway.core.assets_json import to_json
from gateway.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Asset,
    Command,
    CommandName,
    Device,
    Event,
    Frame,
    FrameKind,
    IsaState,
    Micros,
    Reading,
    Replay,
    Start,
    Transition,
)
from gateway.core.processor import Configuration, Outcome, Processor
from gateway.errors import CommandRefused, Unavailable
from gateway.historian.historian import Historian
from gateway.intake import JournalIntake
from gateway.journal.embedded import EmbeddedJournal
from gateway.pipeline import Pipeline, Recovery, Retention, SnapshotEvery
from gateway.snapshots import SnapshotFolder
from gateway.store.store import Store
from tests.core.chronicle import ASSETS, DEVICES, LATER, NOON, bundles, configurations, evening, journal, mqtt, replayed

PATIENCE_S = 10.0


class WallClock:
    """A clock whose hands the test moves; nothing in the pipeline reads another."""

    def __init__(self, at: Micros) -> None:
        self.at = at

    def nanoseconds(self) -> int:
        return self.at * 1000


@dataclass
class House:
    """A data folder with everything that keeps state, and the pipeline over it. Made by ``open_house``."""

    folder: Path
    journal: EmbeddedJournal
    store: Store
    historian: Historian
    snapshots: SnapshotFolder
    intake: JournalIntake
    pipeline: Pipeline
    wall: WallClock
    told: list[Transition] = field(default_factory=list)

    def send(self, asset: str, values: dict[str, object] | bytes, **more: object) -> asyncio.Future[int]:
        frame = mqtt(asset, values, 0, **more)  # type: ignore[arg-type]
        return self.intake.offer(frame.kind, frame.source, frame.address, frame.payload, retained=frame.retained)

    async def begin(self) -> None:
        """START, the shipped configuration and the small city, through the journal."""
        await self.pipeline.start(Start(True))
        await self.pipeline.reconfigure(configurations()[bundles()[0].hash])
        await self.pipeline.apply_assets(to_json(ASSETS, DEVICES))

    def pass_time(self, seconds: float) -> None:
        """Move the hands without leaving the gateway blind: its heart beats meanwhile."""
        left = round(seconds * SECOND)
        while left > 0:
            self.wall.at += min(left, SECOND)
            left -= SECOND
            self.intake.heartbeat()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110  many things make it true
                await asyncio.sleep(0.005)

    async def transitions(self) -> list[Transition]:
        return [transition for _, transition in await self.store.transitions(0, 10_000)]

    async def readings(self) -> list[Reading]:
        found: list[Reading] = []
        cursor = 0
        while True:
            cursor, batch = await self.historian.after(cursor, 1_000)
            if not batch:
                return found
            found += batch


@contextlib.asynccontextmanager
async def open_house(folder: Path, *, at: Micros = NOON + HOUR, every: int = 1_000_000) -> AsyncIterator[House]:
    """``every``: frames between snapshots. The store knows both configurations already."""
    wall = WallClock(at)
    async with contextlib.AsyncExitStack() as stack:
        log = await EmbeddedJournal.open(folder)
        stack.push_async_callback(log.close)
        store = await Store.open(folder)
        stack.push_async_callback(store.close)
        historian = await Historian.open(folder / "history")
        stack.push_async_callback(historian.close)
        for bundle in reversed(bundles()):
            await store.save_config(bundle.hash, bundle.to_json().decode(), at)

        async def configuration_of(hash_: str) -> Configuration:
            assert await store.config(hash_) is not None
            return configurations()[hash_]

        clock = Clock(log.last_received_at, wall=wall.nanoseconds, monotonic=wall.nanoseconds)
        intake = JournalIntake(clock)
        snapshots = SnapshotFolder(folder / "snapshots")
        told: list[Transition] = []
        pipeline = Pipeline(
            clock=clock,
            intake=intake,
            journal=log,
            store=store,
            historian=historian,
            snapshots=snapshots,
            state_folder=folder,
            configuration_of=configuration_of,
            on_transitions=told.extend,
            snapshot_every=SnapshotEvery(every, 24 * HOUR),
            retention=Retention(),
        )
        yield House(folder, log, store, historian, snapshots, intake, pipeline, wall, told)


@contextlib.asynccontextmanager
async def at_work(house: House) -> AsyncIterator[House]:
    """The pipeline runs; at the end it is cut off in the middle of whatever it does."""
    task = asyncio.create_task(house.pipeline.run())
    try:
        yield house
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def open_working(folder: Path, **more: int) -> AsyncIterator[House]:
    """A house that has recovered and runs, with the small city in it."""
    async with open_house(folder, **more) as house:
        await house.pipeline.recover()
        async with at_work(house):
            await house.begin()
            yield house


# -- recovery ---------------------------------------------------------------------------------------------------------


def stored(outcomes: Sequence[Outcome], upto: int) -> tuple[list[Event], list[tuple[int, Sequence[Reading]]]]:
    done = [outcome for outcome in outcomes if outcome.position <= upto]
    return [event for outcome in done for event in outcome.events], [(o.position, o.readings) for o in done]


async def crashed_at(folder: Path, store_at: int, historian_at: int, snapshots_at: Sequence[int]) -> Recovery:
    """A house whose process died with these positions, then recovered; everything about it is compared."""
    whole, outcomes = replayed(journal())
    async with open_house(folder) as house:
        for frames in evening():
            await house.journal.append(frames)
        await house.store.commit(store_at, stored(outcomes, store_at)[0])
        await house.historian.append(stored(outcomes, historian_at)[1])
        processor = Processor(configurations())
        for position, frames in journal():
            processor.process(position, frames)
            if position in snapshots_at:
                house.snapshots.save(position, processor.snapshot())
    async with open_house(folder) as house:
        recovery = await house.pipeline.recover()
        assert house.pipeline.processor.snapshot() == whole.snapshot()
        assert house.store.position == house.historian.position == len(evening())
        events, readings = stored(outcomes, len(evening()))
        transitions = [event for event in events if isinstance(event, Transition)]
        assert await house.transitions() == transitions
        assert await house.readings() == [reading for _, some in readings for reading in some]
        assert house.told == [
            t for o in outcomes if o.position > store_at for t in o.events if isinstance(t, Transition)
        ]
        refused = (await house.store.rejected(None, 100)).items
        assert len(refused) == sum(not isinstance(e, Transition) and hasattr(e, "rejection") for e in events)
    return recovery


END = len(evening())


@pytest.mark.parametrize(
    ("store_at", "historian_at", "snapshots_at", "begins_at"),
    [
        (0, 0, [], 0),  # nothing but the journal is left
        (END, END, [], 0),
        (END, END, [END], END),  # an ordered stop
        (13, 9, [5, 8, 12], 8),  # the historian was behind
        (9, 13, [5, 8, 12], 8),  # the store was
        (20, 20, [20], 20),  # cut in the outage
        (END, 3, [2, 10, 20], 2),
        (3, END, [2, 10, 20], 2),
        (15, 15, [16, 18], 0),  # snapshots ahead of both: of no use
    ],
)
async def test_recovery_from_any_positions_gives_the_undisturbed_state_once(
    tmp_path: Path, store_at: int, historian_at: int, snapshots_at: list[int], begins_at: int
) -> None:
    recovery = await crashed_at(tmp_path, store_at, historian_at, snapshots_at)
    assert recovery.snapshot == begins_at
    assert recovery.batches == END - begins_at


async def test_a_damaged_snapshot_and_one_of_another_version_cost_a_longer_replay_and_nothing_else(
    tmp_path: Path,
) -> None:
    folder = SnapshotFolder(tmp_path / "snapshots")
    folder.save(14, b"of another program")
    (folder.folder / f"{15:016d}.snapshot").write_bytes(b"\x00" * 100)
    recovery = await crashed_at(tmp_path, 15, 15, [10])
    assert recovery.snapshot in (0, 10)


async def test_a_second_crash_in_the_middle_of_the_recovery_changes_nothing(tmp_path: Path) -> None:
    """Recovery stores as it goes; being cut off there is one more pair of positions to begin from."""
    await crashed_at(tmp_path, 11, 17, [6])
    async with open_house(tmp_path) as house:
        before = await house.transitions(), await house.readings()
        recovery = await house.pipeline.recover()
        assert recovery.snapshot == 6
        assert (await house.transitions(), await house.readings()) == before
        assert not house.told


async def test_a_replayed_batch_larger_than_the_queue_to_the_historian_loses_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "HISTORY_ROWS", 4)
    await crashed_at(tmp_path, 5, 5, [])


async def test_without_a_snapshot_and_with_a_journal_cut_short_it_goes_on_from_what_the_store_knows(
    tmp_path: Path,
) -> None:
    """An upgrade may read no old snapshot, and the journal's first day is long released."""
    async with open_working(tmp_path) as house:
        await house.send("cover-1", {"cover": "open"})
        await house.until(lambda: any(t.record.rule == "manhole-open" for t in house.told))
        await house.pipeline.drain()
        before = await house.transitions()
    for path in (tmp_path / "snapshots").iterdir():
        path.write_bytes(b"of another program")
    async with open_house(tmp_path) as house:
        await house.journal.release(house.journal.last_position)
        recovery = await house.pipeline.recover()
        assert recovery.frames == 0
        registry = house.pipeline.processor.registry
        assert {asset.asset for asset in ASSETS} <= {asset.asset for asset in registry.assets()}
        assert {device.device for device in DEVICES} == {device.device for device in registry.devices()}
        engine = house.pipeline.processor.engine
        assert engine is not None
        assert engine.alarm("cover-1/manhole-open") == await house.store.alarm("cover-1/manhole-open")
        async with at_work(house):
            await house.pipeline.submit(
                Command("c-1", CommandName.ACKNOWLEDGE, "cover-1/manhole-open", "li", "api", before[-1].rev)
            )
            await house.send("cover-2", {"cover": "open"})
            await house.until(lambda: any(t.record.asset == "cover-2" for t in house.told))
        after = await house.transitions()
        assert after[: len(before)] == before
        assert [(t.alarm_id, t.rev) for t in after[len(before) :]][:2] == [
            ("cover-1/manhole-open", before[-1].rev + 1),
            ("cover-2/manhole-open", 1),
        ]


async def test_a_historian_behind_a_store_that_goes_on_without_a_snapshot_gets_its_readings(tmp_path: Path) -> None:
    async with open_working(tmp_path) as house:
        await house.send("lamp-1", {"power": 95.0}, kind="lamp")
        await house.pipeline.drain()
        last = house.journal.last_position
        await house.journal.append([mqtt("lamp-1", {"power": 96.0}, house.wall.at + SECOND, kind="lamp")])
        await house.store.commit(last + 1, [])
    for path in (tmp_path / "snapshots").iterdir():
        path.unlink()
    async with open_house(tmp_path) as house:
        await house.journal.release(last)
        await house.pipeline.recover()
        assert [r.value for r in await house.readings() if r.asset == "lamp-1"] == [95.0, 96.0]


# -- at work ----------------------------------------------------------------------------------------------------------


async def test_what_is_offered_is_durable_decided_stored_and_told(tmp_path: Path) -> None:
    async with open_working(tmp_path) as house:
        await house.send("cover-1", {"tilt": 70.0})
        await house.until(lambda: bool(house.told))
        (raised,) = house.told
        assert (raised.alarm_id, raised.to_state) == ("cover-1/manhole-open", IsaState.UNACK)
        assert await house.transitions() == [raised]
        await house.pipeline.drain()
        assert [(r.point, r.value) for r in await house.readings()] == [("tilt", 70.0)]
        assert house.snapshots.positions() == [house.journal.last_position]


async def test_a_command_is_answered_when_it_is_stored_and_refused_with_its_code(tmp_path: Path) -> None:
    def asked(rev: int, number: int) -> Command:
        return Command(f"c-{number}", CommandName.ACKNOWLEDGE, "cover-1/manhole-open", "li", "api", rev)

    async with open_working(tmp_path) as house:
        await house.send("cover-1", {"tilt": 70.0})
        await house.until(lambda: bool(house.told))
        with pytest.raises(CommandRefused) as refusal:
            await house.pipeline.submit(asked(99, 1))
        assert refusal.value.code == "stale_rev"
        done = await house.pipeline.submit(asked(1, 2))
        assert done.refused is None
        record = await house.store.alarm("cover-1/manhole-open")
        assert record is not None
        assert (record.isa_state, record.acked_by) == (IsaState.ACKED, "li")
        again = await house.pipeline.submit(asked(1, 2))  # the same id once more: the same answer, nothing done
        assert again.refused is None
        assert [t.cause for t in await house.transitions()] == ["T3", "T10"]
        assert await house.store.command("c-2") is not None


async def test_a_deadline_is_journaled_as_a_tick_when_nobody_says_anything(tmp_path: Path) -> None:
    async with open_working(tmp_path) as house:
        await house.send("cover-1", {"tilt": 20.0})  # manhole-tilted after 30 s
        due = house.wall.at + 30 * SECOND
        house.pass_time(29.9)
        await house.send("cover-2", {"tilt": 1.0})  # the last word of anybody
        asyncio.get_running_loop().call_later(0.05, house.pass_time, 0.1)
        await house.until(lambda: "cover-1/manhole-tilted" in {t.alarm_id for t in house.told})
        raised = house.told[-1]
        assert (raised.alarm_id, raised.cause) == ("cover-1/manhole-tilted", "T3")
        assert (raised.at, raised.late) == (due, False)
        frames = [frame async for _, batch in house.journal.read(0) for frame in batch]
        assert (frames[-1].kind, frames[-1].received_at) == (FrameKind.TICK, due)
    async with open_house(tmp_path, at=due + MINUTE) as house:
        await house.pipeline.recover()
        assert (await house.transitions())[-1] == raised, "the replay sees it at the same place"


async def test_after_two_hours_away_alarms_are_late_once_in_order_and_nobody_fell_silent(tmp_path: Path) -> None:
    async with open_working(tmp_path) as house:
        await house.send("cover-2", {"tilt": 20.0})
        await house.send("cover-1", {"tilt": 20.0})
        await house.send("lamp-1", {"on": True, "cmd_on": True, "power": 95.0}, kind="lamp")
        await house.pipeline.settled()
    for hours in (2, 4):  # the second outage finds nothing overdue any more
        async with open_house(tmp_path, at=NOON + HOUR + hours * HOUR) as house:
            await house.pipeline.recover()
            async with at_work(house):
                await house.pipeline.start(Start(False))
                await house.pipeline.settled()
                await house.pipeline.drain()
                told = [(t.alarm_id, t.late) for t in house.told]
                late = [("cover-2/manhole-tilted", True), ("cover-1/manhole-tilted", True)]
                assert told == (late if hours == 2 else [])
                assert len(await house.transitions()) == 2
                engine = house.pipeline.processor.engine
                assert engine is not None
                assert engine.alarm("lamp-1/lamp-offline") is None


async def test_a_historian_that_falls_behind_catches_up_from_the_journal_with_every_reading_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow disk under the historian: duplicates stay out, what came too late is marked, its own words are there."""
    monkeypatch.setattr(pipelines, "HISTORY_ROWS", 20)
    monkeypatch.setattr(pipelines, "CATCH_UP_ROWS", 50)
    async with open_working(tmp_path, every=40) as house:
        real = house.historian.append
        gate = asyncio.Event()

        async def slow(items: Sequence[tuple[int, Sequence[Reading]]]) -> None:
            await gate.wait()
            await real(items)

        monkeypatch.setattr(house.historian, "append", slow)
        for i in range(150):
            ts = NOON + HOUR + i * SECOND
            house.wall.at = max(house.wall.at, ts)
            await house.send("cover-1", {"tilt": 1.0 + i % 5}, ts=ts, seq=i)
            if i % 10 == 0:
                await house.send("cover-1", {"tilt": 1.0 + i % 5}, ts=ts, seq=i)  # redelivered
                await house.send("cover-2", {"tilt": 2.0}, ts=ts - 30 * MINUTE, seq=i)
                house.pipeline.report(disk_used=float(i))
        await house.pipeline.settled()
        assert house.pipeline.history_lag > 100
        alarm = house.send("cover-2", {"tilt": 80.0})
        await alarm
        await house.until(lambda: bool(house.told))  # an alarm waits for no historian
        gate.set()
        await house.until(lambda: house.historian.position == house.pipeline.processor.position)
        await house.pipeline.drain()
        got = await house.readings()
        frames = [(position, batch) async for position, batch in house.journal.read(0)]
    _, outcomes = replayed(frames)
    assert got == [reading for outcome in outcomes for reading in outcome.readings]
    assert sum(r.historical for r in got) == 15
    assert len([r for r in got if r.asset == "cover-1"]) == 150
    assert len([r for r in got if r.asset == "gateway"]) == 15


async def test_a_stop_in_order_leaves_a_snapshot_and_the_next_start_replays_nothing(tmp_path: Path) -> None:
    async with open_working(tmp_path) as house:
        for i in range(50):
            house.send("cover-1", {"tilt": 1.0}, seq=i)
        await house.pipeline.drain()
        state = house.pipeline.processor.snapshot()
        end = house.journal.last_position
    async with open_house(tmp_path) as house:
        recovery = await house.pipeline.recover()
        assert (recovery.snapshot, recovery.batches) == (end, 0)
        assert house.pipeline.processor.snapshot() == state


async def test_what_every_follower_has_passed_is_released_but_never_what_a_snapshot_needs(tmp_path: Path) -> None:
    async with open_working(tmp_path, every=30) as house:
        house.pipeline._retention = Retention(keep=0)
        for i in range(200):
            await house.send("cover-1", {"tilt": 1.0}, seq=i)
        await house.pipeline.drain()
        for _ in range(2):
            house.wall.at += SECOND
            await house.pipeline.release()
        kept = house.snapshots.positions()
        assert len(kept) == 2
        assert house.journal.first_position == kept[0] + 1
        state = house.pipeline.processor.snapshot()
    async with open_house(tmp_path) as house:
        await house.pipeline.recover()
        assert house.pipeline.processor.snapshot() == state


async def test_assets_of_a_thousand_frames_keep_their_order_across_slices(tmp_path: Path) -> None:
    """Long batches are decided in slices; what they say of one device stays in order."""
    async with open_working(tmp_path) as house:
        for i in range(1_200):
            house.send("cover-1", {"tilt": float(i % 40)}, seq=i)
        await house.pipeline.settled()
        await house.until(lambda: house.pipeline.in_flight == 0)
        await house.pipeline.drain()
        got = [r.value for r in await house.readings()]
        assert got == [float(i % 40) for i in range(1_200)]
        assert house.pipeline.processor.ledger.total.stored == 1_200


async def test_a_device_added_while_messages_flow_is_known_from_its_frame_on(tmp_path: Path) -> None:
    async with open_working(tmp_path) as house:
        await house.send("cover-9", {"tilt": 1.0})
        asset, device = Asset("cover-9", "manhole"), Device("cover-9", "cover-9", "generic/json-manhole")
        await house.pipeline.apply_assets(to_json([asset], [device]))
        await house.send("cover-9", {"tilt": 1.0})
        await house.pipeline.drain()
        total = house.pipeline.processor.ledger.total
        assert (total.stored, total.rejected) == (1, {"unknown_device": 1})
        assert (await house.store.asset("cover-9")) is not None


# -- frames that kill -------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.test_pipeline import recover_in_child
asyncio.run(recover_in_child(Path(sys.argv[1])))
"""


async def recover_in_child(folder: Path) -> None:
    """What the child process of the next test does: recover, and say what it came to."""
    async with open_house(folder) as house:
        recovery = await house.pipeline.recover()
        total = house.pipeline.processor.ledger.total
        print(json.dumps({"skipped": recovery.skipped, "stored": total.stored, "rejected": total.rejected}))


async def test_a_frame_that_kills_the_process_is_passed_over_after_three_crashes(tmp_path: Path) -> None:
    """CITYWATCH_CRASH_ON: the process dies as a fault in native code would end it, at the same frame every time."""
    good: list[Frame] = [mqtt("cover-2", {"tilt": 1.0}, NOON + 20 * SECOND + i, seq=i) for i in range(500)]
    deadly = mqtt("cover-1", b'{"tilt": 1, "why": "DEADLY"}', NOON + 15 * SECOND)
    async with open_house(tmp_path) as house:
        for frames in evening()[:3]:
            await house.journal.append(frames)
        await house.journal.append([mqtt("cover-1", {"tilt": 2.0}, NOON + 10 * SECOND), deadly, good[0]])
        await house.journal.append(good[1:])

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            env={"PATH": "/usr/bin:/bin", "CITYWATCH_CRASH_ON": "DEADLY"},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    # The first crash is the one that took the frame in; these are the second and the third.
    for _ in range(2):
        assert (await asyncio.to_thread(start)).returncode == -9
    for _ in range(2):  # and what was learned is kept for every later replay
        done = await asyncio.to_thread(start)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        assert answer == {"skipped": [[4, 1]], "stored": 501, "rejected": {"crashed": 1}}


async def test_a_frame_that_raises_is_quarantined_and_500_of_500_after_it_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sabotage.RAISE_ON", b"POISON")
    async with open_working(tmp_path) as house:
        await house.send("cover-1", b'{"tilt": 1, "why": "POISON"}')
        for i in range(500):
            house.send("cover-2", {"tilt": 1.0}, seq=i)
        await house.pipeline.drain()
        total = house.pipeline.processor.ledger.total
        assert (total.stored, total.rejected) == (500, {"crashed": 1})
        (row,) = (await house.store.rejected(None, 10)).items
        assert row.code == "crashed"
        assert "sabotage" in row.reason
        assert "gateway/gateway-crash-quarantine" in {t.alarm_id for t in house.told}
        assert len([r for r in await house.readings() if r.asset == "cover-2"]) == 500


def test_a_guard_file_nobody_can_read_is_no_reason_not_to_start(tmp_path: Path) -> None:
    for text in (b"", b"{", b"[]", b'{"skip": 3}', b'{"position": 4, "crashes": "x"}', msgspec.msgpack.encode({})):
        (tmp_path / "replay.json").write_bytes(text)
        guard = pipelines._ReplayGuard(tmp_path / "replay.json")
        guard.open()
        assert guard.enter(4) == []
        guard.close()


# -- rejected frames that are offered again ---------------------------------------------------------------------------


async def test_a_frame_offered_again_is_answered_with_what_became_of_it_and_is_the_same_after_a_restart(
    tmp_path: Path,
) -> None:
    async with open_working(tmp_path) as house:
        await house.send("cover-3", {"tilt": 70.0})  # nobody has registered it yet
        await house.pipeline.settled()
        (row,) = (await house.store.rejected(None, 10)).items
        await house.pipeline.apply_assets(to_json([LATER[0]], [LATER[1]]))
        kept = Frame(FrameKind(row.kind), row.source, row.address, row.payload, row.received_at)
        house.pass_time(2)
        replay = Replay(kept, row.position, row.index)
        first, second = await house.pipeline.replay([replay, replay], "li")
        assert first is not None
        assert second is not None
        assert (first.outcome, first.readings, second.outcome) == ("stored", 1, "duplicate")
        assert house.pipeline.processor.ledger.balance("cover-3")["stored"] == 1
        raised = [t for t in await house.transitions() if t.record.asset == "cover-3"]
        assert [t.alarm_id for t in raised] == ["cover-3/manhole-open"]
        state = house.pipeline.processor.snapshot()
    async with open_house(tmp_path) as house:
        await house.pipeline.recover()
        assert house.pipeline.processor.snapshot() == state
        assert [r.source_time for r in await house.readings() if r.asset == "cover-3"] == [kept.received_at]


async def test_nothing_is_offered_again_while_no_telemetry_is_taken(tmp_path: Path) -> None:
    async with open_working(tmp_path) as house:
        house.intake.close("disk full")
        with pytest.raises(Unavailable, match="nothing was offered"):
            await house.pipeline.replay([], "li")
