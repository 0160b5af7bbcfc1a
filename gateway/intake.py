"""Where every source puts what arrives: frames gather here, are journaled as one durable batch, then acknowledged.

    offer → gathering batch → (≤ 10 ms or 1,000 frames) → journal.append → the batch's future ends → pipeline

Back-pressure begins here and only here: above 20,000 frames or 32 MB ``full`` is true and sources stop reading their
sockets until ``room`` returns. Nothing is dropped. After a failed append nothing is acknowledged any more: the error
leaves ``run`` and ends the process, and the next process reads what is really on the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway import sabotage
from gateway.clock import Clock
from gateway.core.model import SECOND, Blind, Frame, FrameKind, Micros
from gateway.ports import Journal

MAX_FRAMES = 20_000
MAX_BYTES = 32 << 20
BATCH_FRAMES = 1_000
BATCH_BYTES = 4 << 20
GATHER_S = 0.010  # the longest a frame waits for company
GATHER_PER_FRAME_S = 0.0001  # a quiet gateway commits at once; from 100 frames a batch on it waits the full 10 ms
FRAME_OVERHEAD = 200  # bytes of a Frame object beside its payload, for the byte bound

BLIND_AFTER: Micros = 5 * SECOND  # a loop that missed five heartbeats was paused: silence meanwhile proves nothing

Deliver = Callable[[int, Sequence[Frame]], Awaitable[None]]


@dataclass(slots=True)
class _Batch:
    durable: asyncio.Future[int]
    frames: list[Frame] = field(default_factory=list)
    size: int = 0


class JournalIntake:
    """The one intake; touched by the event loop's thread only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sealed: deque[_Batch] = deque()
        self._gathering = self._new_batch()
        self._frames = 0
        self._bytes = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.closed_for: set[str] = set()
        self._heartbeat = clock.now()
        self._blind_after = round(BLIND_AFTER * clock.pace)
        self.offered = 0
        self.pauses = 0
        self.last_batch = 0

    # -- sources ----------------------------------------------------------------------------------------------------

    def offer(
        self,
        kind: FrameKind,
        source: str,
        address: str,
        payload: bytes,
        *,
        retained: bool = False,
        duplicate_hint: bool = False,
        principal: str = "",
    ) -> asyncio.Future[int]:
        """See ``ports.Intake.offer``."""
        now = self._clock.now()
        if now - self._heartbeat > self._blind_after:
            self._woke(now)
        batch = self._gathering
        batch.frames.append(Frame(kind, source, address, payload, now, retained, duplicate_hint, principal))
        size = len(payload) + FRAME_OVERHEAD
        batch.size += size
        self._frames += 1
        self._bytes += size
        self.offered += 1
        if len(batch.frames) >= BATCH_FRAMES or batch.size >= BATCH_BYTES:
            self._seal()
        if self._frames >= MAX_FRAMES or self._bytes >= MAX_BYTES:
            self._room.clear()
        self._work.set()
        return batch.durable

    @property
    def full(self) -> bool:
        """True: stop reading the socket until ``room`` returns."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Returns when there is room again."""
        await self._room.wait()

    @property
    def waiting(self) -> int:
        """Frames offered and not yet delivered to the pipeline."""
        return self._frames

    def close(self, reason: str) -> None:
        """Take no more telemetry for ``reason`` (disk full): sources see a full intake. Commands still get in."""
        self.closed_for.add(reason)
        self._room.clear()

    def reopen(self, reason: str) -> None:
        self.closed_for.discard(reason)
        self._update_room()

    def heartbeat(self) -> None:
        """Call once a second: a gap between calls is time in which nothing could have been received."""
        now = self._clock.now()
        if now - self._heartbeat > self._blind_after:
            self._woke(now)
        self._heartbeat = now

    def clock_was_set(self) -> None:
        """Call at once when the clock has leapt to the right time: nobody was silent, no delay has run meanwhile."""
        since, self._heartbeat = self._heartbeat, self._clock.now()
        self.offer(FrameKind.BLIND, "clock", "", msgspec.json.encode(Blind(since, leap=True)))

    def _woke(self, now: Micros) -> None:
        since, self._heartbeat = self._heartbeat, now
        self.pauses += 1
        self.offer(FrameKind.BLIND, "clock", "", msgspec.json.encode(Blind(since)))

    # -- the writer -------------------------------------------------------------------------------------------------

    async def run(self, journal: Journal, deliver: Deliver) -> None:
        """Journal and deliver until cancelled. Raises StorageFailed when the disk fails."""
        while True:
            await self._work.wait()
            if not self._sealed:
                delay = min(GATHER_S, GATHER_PER_FRAME_S * self.last_batch)
                if delay > 0.001:
                    await asyncio.sleep(delay)
                if not self._sealed:
                    self._seal()
            batch = self._sealed.popleft()
            if not self._sealed and not self._gathering.frames:
                self._work.clear()
            self.last_batch = len(batch.frames)
            if sabotage.ACK_BEFORE_COMMIT:
                batch.durable.set_result(0)
                await asyncio.sleep(0.05)
            position = await journal.append(batch.frames)
            if not batch.durable.done():
                batch.durable.set_result(0)
            await deliver(position, batch.frames)
            self._frames -= len(batch.frames)
            self._bytes -= batch.size
            self._update_room()

    async def drain(self) -> None:
        """Wait until everything offered so far is journaled (ordered stop)."""
        while self._sealed or self._gathering.frames:
            batch = self._sealed[-1] if self._sealed and not self._gathering.frames else self._gathering
            await asyncio.shield(batch.durable)

    def _new_batch(self) -> _Batch:
        return _Batch(asyncio.get_running_loop().create_future())

    def _seal(self) -> None:
        self._sealed.append(self._gathering)
        self._gathering = self._new_batch()

    def _update_room(self) -> None:
        if not self.closed_for and self._frames < MAX_FRAMES * 3 // 4 and self._bytes < MAX_BYTES * 3 // 4:
            self._room.set()
