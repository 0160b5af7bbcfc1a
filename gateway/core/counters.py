"""Counters that wrap or begin anew → totals that only grow.

A 24-bit energy meter wraps at 16,777,216 Wh, a new meter begins at 0: neither is theft. A drop by more than half of
what the counter can hold is a wrap, any other drop a reset; either way the total goes on from where it was. What was
measured before the newest reading (late, historical) gets its total and moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from gateway.core.model import Micros, Reading

UNBOUNDED = math.inf  # a counter that is only ever reset


class Count(msgspec.Struct, array_like=True, gc=False):
    """One counter of one device: what it said last, and what to add to it; ``before``: what was added until the newest
    wrap or reset."""

    raw: float
    time: Micros
    offset: float = 0.0
    before: float = 0.0


class Counters:
    """All counters of all devices. ``known`` is the whole state."""

    def __init__(self, known: dict[str, dict[str, Count]] | None = None) -> None:
        self.known: dict[str, dict[str, Count]] = {} if known is None else known

    def totals(self, device: str, readings: Sequence[Reading], wraps: Mapping[str, float]) -> list[Reading]:
        """``readings`` of one message, with those of the points in ``wraps`` (point → what it wraps at) as totals."""
        mine = self.known.get(device)
        if mine is None:
            mine = self.known[device] = {}
        return [
            self._total(mine, reading, wraps[reading.point])
            if reading.point in wraps and type(reading.value) in (int, float)
            else reading
            for reading in readings
        ]

    @staticmethod
    def _total(mine: dict[str, Count], reading: Reading, wraps_at: float) -> Reading:
        raw = reading.value
        assert isinstance(raw, (int, float))
        count = mine.get(reading.point)
        if count is None:
            mine[reading.point] = Count(raw, reading.source_time)
            return reading
        if reading.historical or reading.source_time < count.time:
            offset = count.offset if raw <= count.raw else count.before
        else:
            if raw < count.raw:
                count.before = count.offset
                count.offset += wraps_at if count.raw - raw > wraps_at / 2 else count.raw
            count.raw, count.time = raw, reading.source_time
            offset = count.offset
        if not offset:
            return reading
        return msgspec.structs.replace(reading, value=float(f"{raw + offset:.15g}"))
