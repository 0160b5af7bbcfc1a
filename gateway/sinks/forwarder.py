"""Follows the historian on behalf of one sink: batches, cursor, patience, and what the sink refuses.

One forwarder a sink, one task a forwarder: a stuck sink delays nobody else, and a week without it is a long cursor.
The cursor moves after the sink has the readings, so a crash in between sends a batch again; every sink writes a point
by its identity (asset, point, time), so the second time changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from gateway.core.model import Reading
from gateway.errors import Rejected, Unavailable
from gateway.ports import Sink
from gateway.retry import Backoff

BATCH = 5_000  # InfluxDB's own advice for one write; 0.5 MB of lines
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0  # a database that comes back is noticed within a minute
LONGEST_ASKED_S = 600.0  # Retry-After
IDLE_S = 1.0  # how long new readings wait when nobody wakes us
DOUBT = 32  # readings refused one by one, and none taken, before we suspect the sink instead of the readings
REMEMBERED = 1_000  # refused points kept by name; beyond that only counted

_log = structlog.get_logger(__name__)


class ReadingLog(Protocol):
    """The historian, as a sink sees it: all readings in order of arrival."""

    async def after(self, cursor: int, limit: int) -> tuple[int, list[Reading]]:
        """At most ``limit`` readings behind ``cursor``, and the cursor behind the last of them."""
        ...


class Cursor(Protocol):
    """Where the forwarder keeps how far it is."""

    async def get(self) -> int: ...

    async def set(self, cursor: int) -> None: ...


class Refusal(msgspec.Struct):
    """One point the sink will not take: how often, why, and when last (source time of the reading)."""

    asset: str
    point: str
    count: int
    reason: str
    last_source_time: int


class ForwarderStatus(msgspec.Struct):
    """What the console shows of one sink. ``away_since_s`` is monotonic seconds, None while the sink answers."""

    name: str
    cursor: int = 0
    written: int = 0
    refused: int = 0
    attempts_failed: int = 0
    away_since_s: float | None = None
    away_reason: str | None = None
    caught_up: bool = False


class Forwarder:
    """Owns batching, cursor and retry for one ``Sink``; see ``run``."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        readings: ReadingLog,
        cursor: Cursor,
        *,
        batch: int = BATCH,
        idle_s: float = IDLE_S,
        first_delay_s: float = FIRST_DELAY_S,
        longest_delay_s: float = LONGEST_DELAY_S,
    ) -> None:
        self.status = ForwarderStatus(name)
        self._sink = sink
        self._readings = readings
        self._cursor = cursor
        self._batch = batch
        self._idle_s = idle_s
        self._backoff = Backoff(first_delay_s, longest_delay_s)
        self._new = asyncio.Event()
        self._refusals: dict[tuple[str, str], Refusal] = {}

    @property
    def refusals(self) -> Sequence[Refusal]:
        """The points refused so far, at most a thousand of them, in order of first refusal."""
        return tuple(self._refusals.values())

    def wake(self) -> None:
        """There are new readings; costs nothing when we already know."""
        self._new.set()

    async def run(self) -> None:
        """Forward until cancelled. Raises StorageFailed when the cursor cannot be kept."""
        status = self.status
        status.cursor = await self._cursor.get()
        while True:
            self._new.clear()
            behind, batch = await self._readings.after(status.cursor, self._batch)
            status.caught_up = behind == status.cursor
            if status.caught_up:
                await self._more_readings()
                continue
            try:
                if batch:
                    await self._deliver(batch)
            except Unavailable as error:
                self._away(error)
                # What the sink asks for is heeded up to a point: a date in the next century is a fault of its own.
                await self._backoff.wait(min(error.retry_after_s or 0.0, LONGEST_ASKED_S))
                continue
            self._back()
            await self._cursor.set(behind)
            status.cursor = behind

    async def _more_readings(self) -> None:
        try:
            async with asyncio.timeout(self._idle_s):
                await self._new.wait()
        except TimeoutError:
            pass  # not everybody who adds readings wakes us; look again

    async def _deliver(self, batch: Sequence[Reading]) -> None:
        """All of ``batch`` is written or refused for good when this returns. Raises Unavailable."""
        refused = await _refused_by(self._sink, batch)
        self.status.written += len(batch) - len(refused)
        for reading, reason in refused:
            self._remember(reading, reason)

    def _remember(self, reading: Reading, reason: str) -> None:
        self.status.refused += 1
        key = (reading.asset, reading.point)
        known = self._refusals.get(key)
        if known is not None:
            known.count += 1
            known.reason = reason
            known.last_source_time = reading.source_time
        elif len(self._refusals) < REMEMBERED:
            self._refusals[key] = Refusal(reading.asset, reading.point, 1, reason, reading.source_time)
            _log.warning("sink_refuses_point", sink=self.status.name, point="/".join(key), reason=reason)

    def _away(self, error: Unavailable) -> None:
        status = self.status
        status.attempts_failed += 1
        status.away_reason = str(error)
        if status.away_since_s is None:
            status.away_since_s = time.monotonic()
            _log.warning("sink_away", sink=status.name, reason=str(error))

    def _back(self) -> None:
        status = self.status
        self._backoff.reset()
        if status.away_since_s is not None:
            _log.info("sink_back", sink=status.name, away_s=round(time.monotonic() - status.away_since_s, 1))
        status.away_since_s = status.away_reason = None


async def _refused_by(sink: Sink, batch: Sequence[Reading]) -> list[tuple[Reading, str]]:
    """Write ``batch``; what the sink refuses for good, with the reasons. Raises Unavailable.

    A sink that does not say which readings it refuses is asked piecewise, by halves. One that refuses ``DOUBT`` of
    them alone and has taken none is probed across the batch: if it takes nothing at all, something is wrong with it
    (another bucket, a proxy that answers for it) and not with our readings, so nothing is thrown away.
    """
    refused: list[tuple[Reading, str]] = []
    taken = 0
    pieces = [batch]
    while pieces:
        piece = pieces.pop()
        try:
            await sink.write(piece)
            taken += len(piece)
        except Rejected as error:
            if error.items:
                refused += [(piece[i], str(error)) for i in error.items]
                taken += len(piece) - len(error.items)
            elif len(piece) == 1:
                refused.append((piece[0], str(error)))
                if len(refused) == DOUBT and not taken:
                    taken += await _takes_any(sink, batch, str(error))
            else:
                half = len(piece) // 2
                pieces += [piece[half:], piece[:half]]
    return refused


async def _takes_any(sink: Sink, batch: Sequence[Reading], reason: str) -> int:
    """1 when the sink takes some reading of ``batch``; Unavailable when it takes none of an even sample."""
    for reading in batch[:: max(1, len(batch) // DOUBT)]:
        try:
            await sink.write([reading])
            return 1
        except Rejected:
            continue
    raise Unavailable(f"refuses everything: {reason}")
