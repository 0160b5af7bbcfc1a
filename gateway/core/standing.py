"""Which alarms stand, by asset: kept in step with the recorded steps, so that nobody has to ask the whole city."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from enum import IntEnum

from gateway.core.model import AlarmRecord, IsaState, Level

_NONE: tuple[AlarmRecord, ...] = ()
_SET_ASIDE = frozenset({IsaState.SHLVD, IsaState.DSUPR, IsaState.OOSRV})


class AssetMark(IntEnum):
    """What a map shows of an asset; the smaller number of 1 to 4 wins."""

    NORMAL = 0
    UNACKNOWLEDGED = 1  # an alarm that nobody has acknowledged, standing or returned
    ACKNOWLEDGED = 2  # only acknowledged ones
    SET_ASIDE = 3  # only shelved, suppressed or out of service
    SILENT = 4  # no alarm, and not heard for long


class Standing:
    """Every alarm that is not NORM, but for those of rules on trial.

    Records may come twice and, at the start, late: one with an older ``rev`` than is known changes nothing.
    """

    def __init__(self, records: Iterable[AlarmRecord] = ()) -> None:
        self.changes = 0
        """Rises whenever something stands that did not, or the other way about, or as another."""
        self.counts: Counter[tuple[Level, IsaState]] = Counter()
        self._by_asset: dict[str, dict[str, AlarmRecord]] = {}
        for record in records:
            self.take(record)

    def take(self, record: AlarmRecord) -> None:
        """A record as it is now."""
        if record.shadow:
            return
        here = self._by_asset.get(record.asset)
        before = here.get(record.rule) if here is not None else None
        state = record.isa_state
        if before is not None:
            if before.rev > record.rev:
                return
            self._uncount(before)
        elif state is IsaState.NORM:
            return
        self.changes += 1
        if state is IsaState.NORM:
            assert here is not None
            del here[record.rule]
            if not here:
                del self._by_asset[record.asset]
            return
        self._by_asset.setdefault(record.asset, {})[record.rule] = record
        self.counts[record.level, state] += 1

    def _uncount(self, record: AlarmRecord) -> None:
        key = (record.level, record.isa_state)
        self.counts[key] -= 1
        if not self.counts[key]:
            del self.counts[key]

    def of(self, asset: str) -> Collection[AlarmRecord]:
        here = self._by_asset.get(asset)
        return here.values() if here is not None else _NONE

    def assets(self) -> Collection[str]:
        """Those on which something stands."""
        return self._by_asset.keys()

    def __len__(self) -> int:
        return self.counts.total()


def mark_of(records: Collection[AlarmRecord]) -> tuple[AssetMark, Level | None]:
    """What a map shows of an asset on which ``records`` stand, and the worst level among those that decide it: an alarm
    that is set aside does not colour an asset that has another one."""
    mark, level = AssetMark.NORMAL, None
    for record in records:
        state = record.isa_state
        if state is IsaState.NORM:
            continue
        aside = state in _SET_ASIDE
        own = AssetMark.ACKNOWLEDGED if state is IsaState.ACKED else AssetMark.UNACKNOWLEDGED
        if aside:
            own = AssetMark.SET_ASIDE
        if mark is AssetMark.NORMAL or aside is (mark is AssetMark.SET_ASIDE):
            level = record.level if level is None else min(level, record.level)
        elif not aside:
            level = record.level
        mark = own if mark is AssetMark.NORMAL else min(mark, own)
    return mark, level
