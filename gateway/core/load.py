"""Operator load: how many alarms ask for attention, for any period and right now (ISA-18.2, EEMUA 191; docs/alarms.md).

Counted is what was annunciated to ask for something: raises, rises, alarms that come back or ask again. About one in
10 min can be lived with, two managed; above ten begins a flood.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from statistics import median

import msgspec

from gateway.core.model import MINUTE, IsaState, Level, Micros, Transition

PERIOD: Micros = 10 * MINUTE
FLOOD_BEGINS = 10  # more than so many annunciated alarms in 10 min …
FLOOD_ENDS = 5  # … until there are fewer than so many
MOST_FREQUENT = 10
ASKS = frozenset({"T3", "T7", "T8", "T11", "T18", "T21", "T23", "T26"})


def asks(step: Transition) -> bool:
    """Whether this step asked an operator for attention."""
    return step.notify and step.cause in ASKS


class Flood(msgspec.Struct, frozen=True):
    """One flood; ``until`` is None while it lasts."""

    since: Micros
    until: Micros | None
    alarms: int


class RuleLoad(msgspec.Struct, frozen=True):
    rule: str
    alarms: int
    share: float


class Delays(msgspec.Struct, frozen=True):
    """Seconds: the median, the 90 % and the longest, of ``count``."""

    count: int
    median_s: float | None = None
    p90_s: float | None = None
    longest_s: float | None = None


class LoadReport(msgspec.Struct, frozen=True):
    """``share_above_10``: % of the 10-min periods with more than ten. ``stale``: alarms that became stale (T30)."""

    since: Micros
    until: Micros
    alarms: int
    per_10_min: float
    peak_10_min: int
    share_above_10: float
    by_level: dict[str, int]
    most_frequent: list[RuleLoad]
    floods: list[Flood]
    chattering: int
    stale: int
    to_acknowledge: Delays
    to_clear: Delays
    periods: list[int]


class FloodWatch:
    """The last ten minutes, step by step. Steps come in the order of their times."""

    def __init__(self) -> None:
        self._times: deque[Micros] = deque()
        self._since: Micros | None = None
        self._alarms = 0
        self.ended: list[Flood] = []

    def take(self, step: Transition) -> None:
        if asks(step):
            self.advance(step.at)
            self._times.append(step.at)
            if self._since is not None:
                self._alarms += 1
            elif len(self._times) > FLOOD_BEGINS:
                self._since, self._alarms = self._times[0], len(self._times)

    def advance(self, now: Micros) -> None:
        """Let time pass: what is older than ten minutes no longer counts; a flood may end."""
        times = self._times
        while times and times[0] <= now - PERIOD:
            gone = times.popleft()
            if self._since is not None and len(times) < FLOOD_ENDS:
                self.ended.append(Flood(self._since, min(now, gone + PERIOD), self._alarms))
                self._since = None

    @property
    def count(self) -> int:
        """Alarms of the last ten minutes."""
        return len(self._times)

    @property
    def flood(self) -> Flood | None:
        """The flood that lasts now."""
        return None if self._since is None else Flood(self._since, None, self._alarms)


class OperatorLoad:
    """Adds up the steps of a period, in the order of their times."""

    def __init__(self, since: Micros) -> None:
        self._since = since
        self._periods: Counter[int] = Counter()
        self._levels: Counter[str] = Counter()
        self._rules: Counter[str] = Counter()
        self._watch = FloodWatch()
        self._chattering = self._stale = 0
        self._acknowledged: list[float] = []
        self._cleared: list[float] = []

    def take(self, step: Transition) -> None:
        self._watch.take(step)
        record = step.record
        if asks(step):
            self._periods[(step.at - self._since) // PERIOD] += 1
            self._levels[record.level.name] += 1
            self._rules[record.rule] += 1
        if record.shadow or record.detected_at is None:
            return
        took_s = (step.at - record.detected_at) / 1e6
        match step.cause:
            case "T10" | "W2" if step.from_state in (IsaState.UNACK, IsaState.RTNUN):
                self._acknowledged.append(took_s)
            case "T6":
                self._cleared.append(took_s)
            case "T29" if record.chattering:
                self._chattering += 1
            case "T30":
                self._stale += 1
            case _:
                pass

    def report(self, until: Micros) -> LoadReport:
        count = max(1, -(-(until - self._since) // PERIOD))
        periods = [self._periods.get(i, 0) for i in range(count)]
        total = sum(self._levels.values())
        self._watch.advance(until)
        flood = self._watch.flood
        return LoadReport(
            self._since,
            until,
            total,
            round(total / count, 3),
            max(periods),
            round(100 * sum(n > FLOOD_BEGINS for n in periods) / count, 2),
            {level.name: self._levels.get(level.name, 0) for level in Level},
            [RuleLoad(rule, n, round(100 * n / total, 2)) for rule, n in self._rules.most_common(MOST_FREQUENT)],
            [*self._watch.ended, *([flood] if flood is not None else [])],
            self._chattering,
            self._stale,
            _delays(self._acknowledged),
            _delays(self._cleared),
            periods,
        )


def report_of(steps: Iterable[Transition], since: Micros, until: Micros) -> LoadReport:
    """The load of a period; ``steps`` are those within it, in order."""
    load = OperatorLoad(since)
    for step in steps:
        load.take(step)
    return load.report(until)


def _delays(seconds: list[float]) -> Delays:
    if not seconds:
        return Delays(0)
    ordered = sorted(seconds)
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return Delays(len(ordered), round(median(ordered), 3), round(p90, 3), round(ordered[-1], 3))
