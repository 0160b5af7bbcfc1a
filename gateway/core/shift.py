"""What one shift hands over to the next: which alarms stand, are set aside, chatter, are worked on.

Every list keeps the worst of its alarms and counts them all: in a storm nobody reads fifty thousand.
"""

from __future__ import annotations

from collections import Counter

from gateway.core.model import AlarmRecord, IsaState, Level, Transition
from gateway.core.work import WAITING

MOST = 500


class Handed:
    """One list: ``total`` alarms, of which ``alarms`` are the worst, newest first within a level."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: list[AlarmRecord] = []
        self.total = 0

    def add(self, record: AlarmRecord) -> None:
        self.total += 1
        self._kept.append(record)
        if len(self._kept) > 2 * self._most:
            self._kept = self.alarms

    @property
    def alarms(self) -> list[AlarmRecord]:
        return sorted(self._kept, key=_worst_first)[: self._most]


def _worst_first(record: AlarmRecord) -> tuple[int, int, str]:
    return record.level, -(record.detected_at or 0), record.alarm_id


class ShiftLists:
    """The lists of one moment; ``take`` every alarm that is not normal, chatters, is assigned or worked on. Rules on
    trial are nobody's work."""

    def __init__(self, most: int = MOST) -> None:
        self.unacknowledged = Handed(most)  # also what has gone away and still wants to be acknowledged
        self.acknowledged = Handed(most)
        self.shelved = Handed(most)
        self.out_of_service = Handed(most)
        self.chattering = Handed(most)
        self.stale = Handed(most)
        self.open_work = Handed(most)
        self.suppressed = 0
        self.standing: Counter[Level] = Counter()  # by level, whatever was done with them

    def take(self, record: AlarmRecord) -> None:
        if record.shadow:
            return
        state = record.isa_state
        match state:
            case IsaState.UNACK | IsaState.RTNUN:
                self.unacknowledged.add(record)
            case IsaState.ACKED:
                self.acknowledged.add(record)
            case IsaState.SHLVD:
                self.shelved.add(record)
            case IsaState.OOSRV:
                self.out_of_service.add(record)
            case IsaState.DSUPR:
                self.suppressed += 1
            case IsaState.NORM:
                pass
        if state is not IsaState.NORM:
            self.standing[record.level] += 1
        if record.chattering:
            self.chattering.add(record)
        if record.stale and record.is_active:
            self.stale.add(record)
        if is_open_work(record):
            self.open_work.add(record)


def is_open_work(record: AlarmRecord) -> bool:
    """Somebody was sent and the work is not closed, or it was assigned and the occurrence is not."""
    return record.work in WAITING or (record.assigned_to is not None and record.closed_at is None)


def has_words(step: Transition) -> bool:
    """A person wrote something with this step."""
    return step.by is not None and bool(step.why) and not step.record.shadow
