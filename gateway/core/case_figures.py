"""Figures of cases, in the words that the cities' platforms use, from nothing but the recorded steps of the alarms.

Nobody says the formulas aloud, so they stand here and beside every answer: two honest counties must not report two
figures of the same year.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from gateway.core.cases import Case, CaseEvent, Pair, advance
from gateway.core.model import AlarmRecord, Micros, Transition

FORMULAS: dict[str, Pair] = {
    "registered": ("立案数：期内立案的案件", "cases opened in the period"),
    "closed": ("结案数：期内结案、期末仍为结案的案件", "cases closed in the period, and closed still at its end"),
    "due": ("应结案：处置时限在期内届满的案件", "cases whose time limit ended in the period"),
    "in_time_rate": ("按期结案率：应结案中，在时限前结案的比例", "of those due, closed within their time limit"),
    "rework_rate": (
        "返工率：期内结案的案件中，至少一次返工或结案后复发的比例",
        "of those closed in the period, sent again or opened again at least once",
    ),
    "average_handling": (
        "平均处置时间：期内结案的案件，从立案到结案的平均时长",
        "of those closed in the period, the mean time from opening to closing",
    ),
}


@dataclass(slots=True)
class CaseBook:
    """Folds the steps of many alarms into cases, each alarm's in order. ``due``: when the time limit of a case that
    begins with a record at a moment ends."""

    due: Callable[[AlarmRecord, Micros], Micros | None]
    finished: list[Case] = field(default_factory=list)
    newest: dict[str, Case] = field(default_factory=dict)

    def take(self, step: Transition) -> None:
        before = self.newest.get(step.alarm_id)
        moved = advance(before, step)
        if moved is None:
            return
        case, event = moved
        if event is CaseEvent.OPENED:
            if before is not None:
                self.finished.append(before)
            case = msgspec.structs.replace(case, due_at=self.due(step.record, case.opened_at))
        self.newest[step.alarm_id] = case

    @property
    def cases(self) -> list[Case]:
        return [*self.finished, *self.newest.values()]


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of a period: the words of ``FORMULAS``. ``in_time``: of those due; ``reworked`` and ``handling`` (the time
    of all together): of those closed."""

    registered: int = 0
    closed: int = 0
    due: int = 0
    in_time: int = 0
    reworked: int = 0
    handling: Micros = 0

    @property
    def in_time_rate(self) -> float | None:
        """按期结案率; None when nothing was due."""
        return self.in_time / self.due if self.due else None

    @property
    def rework_rate(self) -> float | None:
        """返工率; None when nothing was closed."""
        return self.reworked / self.closed if self.closed else None

    @property
    def average_handling(self) -> Micros | None:
        """平均处置时间."""
        return round(self.handling / self.closed) if self.closed else None


def figures(cases: Iterable[Case], since: Micros, until: Micros, now: Micros) -> Figures:
    """Of the cases that were opened, closed or due with since ≤ time < until, as things stand ``now``."""
    registered = closed = due = in_time = reworked = handling = 0
    for case in cases:
        registered += since <= case.opened_at < until
        if case.due_at is not None and since <= case.due_at < min(until, now):
            due += 1
            in_time += case.closed_at is not None and case.closed_at <= case.due_at
        if case.closed_at is not None and since <= case.closed_at < until:
            closed += 1
            reworked += case.reworks > 0 or case.reopened > 0
            handling += case.closed_at - case.opened_at
    return Figures(registered, closed, due, in_time, reworked, handling)
