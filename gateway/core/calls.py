"""What people are called about: alarms alike in what a route groups by, and what is held back from one person.

Plain state of ``core/escalation.py``, which moves it; kept in snapshots.
"""

from __future__ import annotations

import msgspec

from gateway.core.model import AlarmRecord, Asset, Micros
from gateway.core.routing import GroupBy, Route, Target, While

_ACCEPTED = frozenset({"ACCEPTED", "ON_SITE", "DONE", "VERIFYING", "CLOSED"})
_NO_WORK = frozenset({"NONE", "CLOSED"})


class Member(msgspec.Struct, array_like=True):
    """An alarm in a call. ``record``: as of its newest transition. ``event``: one without a return, which stands until
    somebody acknowledges it. ``told``: a message named it. ``due``: the times of its rule's ``sla`` that are still to
    come: (at, "respond" or "resolve", over or nearly so)."""

    record: AlarmRecord
    event: bool
    told: bool = False
    due: list[tuple[Micros, str, bool]] = []

    def wants(self, how: While) -> bool:
        """Is a step for this still to be taken?"""
        record = self.record
        stands = record.is_active or (self.event and not record.acked)
        return record.annunciated and stands and (how is While.ACTIVE or not record.acked)


class Sent(msgspec.Struct, array_like=True):
    """Messages made at one moment, and the alarms they are about that nobody acts on yet."""

    keys: list[str]
    open: set[str]


class Call(msgspec.Struct, array_like=True):
    """One group on one route; see the module's docstring.

    ``id``: of the first alarm's raise. ``flush_at``: when those not yet told are; ``quiet``: it was put off by quiet
    hours. ``base``: when the first were told; None before. ``step``: the next one of the route; ``repeats`` so far, the
    next ``repeat_at``. ``times_at``: the first ``due`` of all members. ``reached``: everybody told by a step so far,
    last at ``told_at``; ``reminded``: those told of times. ``parts``: further messages so far, for their keys.
    ``over``: those told of that are over."""

    id: str
    no: int
    route: str
    values: tuple[str, ...]
    members: dict[str, Member]
    over: dict[str, AlarmRecord]
    flush_at: Micros | None
    quiet: bool = False
    base: Micros | None = None
    step: int = 0
    repeats: int = 0
    repeat_at: Micros | None = None
    told_at: Micros = 0
    times_at: Micros | None = None
    reached: list[str] = []
    reminded: list[str] = []
    sent: list[Sent] = []
    parts: int = 0
    scheduled: Micros | None = None


class Held(msgspec.Struct, array_like=True):
    """What a limit held back from one person, by alarm id: ``alarms`` that they do not know of, and those they know of
    that are ``over``."""

    due_at: Micros
    alarms: dict[str, AlarmRecord] = {}
    over: dict[str, AlarmRecord] = {}


class CallStatus(msgspec.Struct, frozen=True):
    """A call about an alarm, as people look at it. ``told``: whether this alarm was; ``told_at``: when the call was for
    the last time; ``waits_until``: when those not yet told will be. ``next_…``: what comes unless somebody acts:
    "first", "step", "repeat", or "time" (one of the rule's is nearly over, or over)."""

    route: str
    title_zh: str
    title_en: str
    alarms: int
    told: bool
    told_at: Micros | None
    waits_until: Micros | None
    quiet: bool
    reached: tuple[str, ...]
    repeats: int
    next_at: Micros | None = None
    next_what: str = ""
    next_tell: tuple[Target, ...] = ()


def values_of(route: Route, record: AlarmRecord, asset: Asset) -> tuple[str, ...]:
    """What the alarms of one call on this route have in common. Simulated alarms are never called with real ones."""
    found = [str(record.simulated)]
    for by in route.group.by:
        match by:
            case GroupBy.CAUSE:
                found.append(record.parent_alarm_id or record.alarm_id)
            case GroupBy.RULE:
                found.append(record.rule)
            case GroupBy.KIND:
                found.append(record.kind)
            case GroupBy.ROAD:
                found.append(asset.road)
            case GroupBy.TOWN:
                found.append(asset.town)
            case GroupBy.UNIT:
                found.append(asset.unit)
            case GroupBy.LEVEL:
                found.append(record.level.name)
            case GroupBy.ALL:
                pass
    return tuple(found)


def still_due(record: AlarmRecord, what: str) -> bool:
    """Nobody responded; it is not resolved."""
    if not record.annunciated:
        return False
    if what == "respond":
        return not record.acked and record.work not in _ACCEPTED
    return record.is_active or record.work not in _NO_WORK


def matters(record: AlarmRecord) -> bool:
    """Must a digest still tell of it?"""
    return record.annunciated and (record.is_active or not record.acked)
