"""Gateway time: a wall-clock anchor taken at start plus the monotonic clock; it never steps back.

A wall clock that jumps while we run (a day forward would make every device fall silent at once) is reported and not
believed: small differences are slewed away, steps over ``STEP`` only mark the clock uncertain until they are gone.
A wall clock that is plainly wrong at start (behind the journal, or before this program was written) is not believed
either: time goes on from the last journal entry and is re-anchored once, when the wall clock becomes plausible.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.model import MINUTE, SECOND, Micros

STEP: Micros = MINUTE  # reliability F47: a wall step above 60 s is not followed
SLEW_PER_CHECK: Micros = 5_000  # 5 ms a second: 60 s are gone after 200 minutes, a delay is off by 0.5 % at most
EARLIEST: Micros = 1_735_689_600 * SECOND  # 2025-01-01: no gateway of this version ran before


@dataclass(frozen=True, slots=True)
class ClockReport:
    """``offset`` = wall − gateway time; ``uncertain``: the two disagree by more than ``STEP`` now."""

    offset: Micros
    uncertain: bool
    changed: bool
    reanchored: bool = False


class Clock:
    """One per process. ``last_received_at`` is the newest time in the journal (0 for a new one).

    ``pace``: seconds of gateway time a second of the machine. It is 1 wherever anything is real; a drill over real
    wires brings clocks of its own that go faster.
    """

    def __init__(
        self,
        last_received_at: Micros = 0,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
        pace: float = 1.0,
    ) -> None:
        self.pace = pace
        self._wall = wall
        self._monotonic = monotonic
        self._anchor_monotonic = monotonic() // 1000
        wall_now = wall() // 1000
        earliest = max(last_received_at, EARLIEST)
        # A second of disagreement with our own journal is the slewing of the last run, not a wrong clock.
        self.wrong_at_start = wall_now < earliest - SECOND
        self._anchor_wall = max(wall_now, earliest) if not self.wrong_at_start else earliest
        self._last = last_received_at
        self.uncertain = self.wrong_at_start

    def now(self) -> Micros:
        """Gateway time, never earlier than anything it returned before."""
        now = self._anchor_wall + self._monotonic() // 1000 - self._anchor_monotonic
        if now > self._last:
            self._last = now
            return now
        return self._last

    def check(self) -> ClockReport:
        """Compare with the wall clock; call about once a second. Slews small differences, reports steps."""
        offset = self._wall() // 1000 - self.now()
        if self.wrong_at_start and offset > STEP:
            # The wall clock was in the past at start and has been set since: this is the one step we believe.
            self._anchor_wall += offset
            self.wrong_at_start = False
            self.uncertain = False
            return ClockReport(offset, uncertain=False, changed=True, reanchored=True)
        uncertain = abs(offset) > STEP
        changed = uncertain != self.uncertain
        self.uncertain = uncertain
        if not uncertain:
            self.wrong_at_start = False
            self._anchor_wall += max(-SLEW_PER_CHECK, min(SLEW_PER_CHECK, offset))
        return ClockReport(offset, uncertain, changed)
