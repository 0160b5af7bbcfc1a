"""The intake: nothing is acknowledged before it is durable, nothing is dropped, a full house stops the sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.clock import Clock
from gateway.core.model import SECOND, Frame, FrameKind
from gateway.errors import StorageFailed
from gateway.intake import BATCH_FRAMES, BLIND_AFTER, MAX_BYTES, MAX_FRAMES, JournalIntake


class SlowJournal:
    """Keeps batches in a list; each append waits for a permit."""

    def __init__(self) -> None:
        self.batches: list[list[Frame]] = []
        self.permits = asyncio.Semaphore(0)
        self.broken = False

    async def append(self, batch: Sequence[Frame]) -> int:
        await self.permits.acquire()
        if self.broken:
            raise StorageFailed("EIO")
        self.batches.append(list(batch))
        return len(self.batches)

    async def read(self, after: int) -> AsyncIterator[tuple[int, Sequence[Frame]]]:
        for position, batch in enumerate(self.batches, 1):
            if position > after:
                yield position, batch

    async def release(self, upto: int) -> None:
        raise AssertionError("the intake never releases")


def offer(intake: JournalIntake, n: int = 1, payload: bytes = b"x") -> asyncio.Future[int]:
    for i in range(n):
        future = intake.offer(FrameKind.MQTT, "main", f"t/{i}", payload)
    return future


async def nothing(position: int, frames: Sequence[Frame]) -> None:
    pass


async def test_the_future_ends_only_after_the_append() -> None:
    intake, journal = JournalIntake(Clock()), SlowJournal()
    running = asyncio.create_task(intake.run(journal, nothing))
    future = offer(intake)
    await asyncio.sleep(0.03)
    assert not future.done()
    journal.permits.release()
    assert await asyncio.wait_for(future, 1) == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_frames_keep_their_order_and_a_batch_holds_a_thousand() -> None:
    intake, journal = JournalIntake(Clock()), SlowJournal()
    running = asyncio.create_task(intake.run(journal, nothing))
    last = offer(intake, 2500)
    for _ in range(5):
        journal.permits.release()
    await asyncio.wait_for(last, 1)
    assert [len(b) for b in journal.batches] == [BATCH_FRAMES, BATCH_FRAMES, 500]
    assert [f.address for b in journal.batches for f in b] == [f"t/{i}" for i in range(2500)]
    times = [f.received_at for b in journal.batches for f in b]
    assert times == sorted(times)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(("frames", "size"), [(MAX_FRAMES, 1), (MAX_BYTES // 200_000 + 1, 200_000)])
async def test_a_full_intake_says_so_and_has_room_again_when_the_pipeline_took_frames(frames: int, size: int) -> None:
    intake, journal = JournalIntake(Clock()), SlowJournal()
    offer(intake, frames, b"x" * size)
    assert intake.full
    running = asyncio.create_task(intake.run(journal, nothing))
    for _ in range(frames):
        journal.permits.release()
    await asyncio.wait_for(intake.room(), 5)
    assert not intake.full
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_after_a_failed_append_nothing_is_acknowledged_and_the_error_leaves() -> None:
    intake, journal = JournalIntake(Clock()), SlowJournal()
    journal.broken = True
    running = asyncio.create_task(intake.run(journal, nothing))
    future = offer(intake)
    journal.permits.release()
    with pytest.raises(StorageFailed):
        await asyncio.wait_for(running, 1)
    assert not future.done()


async def test_a_closed_intake_is_full_for_telemetry_until_it_is_reopened() -> None:
    intake = JournalIntake(Clock())
    intake.close("disk full")
    assert intake.full
    intake.reopen("disk full")
    assert not intake.full


async def test_a_pause_of_the_loop_is_told_before_what_came_after_it() -> None:
    now = 1_800_000_000 * 10**9

    def wall() -> int:
        return now

    clock = Clock(wall=wall, monotonic=wall)
    intake, journal = JournalIntake(clock), SlowJournal()
    intake.heartbeat()
    now += (BLIND_AFTER + SECOND) * 1000
    last = offer(intake)
    journal.permits.release()
    running = asyncio.create_task(intake.run(journal, nothing))
    await asyncio.wait_for(last, 1)
    assert [f.kind for f in journal.batches[0]] == [FrameKind.BLIND, FrameKind.MQTT]
    assert intake.pauses == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
