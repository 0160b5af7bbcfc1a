"""When alarms stood, out of their recorded steps: the bands behind a chart."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.load import ASKS
from gateway.core.model import AlarmRecord, Level, Micros, Transition


class Band(msgspec.Struct, frozen=True):
    """An alarm stood with one ``level`` from ``since`` until ``until``; None: beyond the time that was asked for. Both
    are the same for an event, which happens and does not last."""

    alarm_id: str
    rule: str
    level: Level
    since: Micros
    until: Micros | None
    title_zh: str = ""
    title_en: str = ""


def bands_of(before: Iterable[Transition], steps: Iterable[Transition], start: Micros) -> list[Band]:
    """The bands of a period that begins at ``start``, by their beginning. ``before``: the newest step of each alarm
    before it; ``steps``: those within, in order. Standing is what the condition says: acknowledged, shelved or
    suppressed or not. Rules on trial have no bands."""
    open_: dict[str, tuple[Micros, AlarmRecord]] = {}
    found: list[Band] = []
    for step in before:
        if step.record.is_active and not step.record.shadow:
            open_[step.alarm_id] = (start, step.record)
    for step in steps:
        record = step.record
        if record.shadow:
            continue
        stood = open_.get(step.alarm_id)
        if stood is not None and (not record.is_active or stood[1].level is not record.level):
            del open_[step.alarm_id]
            found.append(_band(stood[1], stood[0], step.at))
        if record.is_active:
            open_.setdefault(step.alarm_id, (step.at, record))
        elif stood is None and step.cause in ASKS:
            found.append(_band(record, step.at, step.at))
    found += [_band(record, since, None) for since, record in open_.values()]
    return sorted(found, key=lambda band: (band.since, band.alarm_id))


def _band(record: AlarmRecord, since: Micros, until: Micros | None) -> Band:
    return Band(record.alarm_id, record.rule, record.level, since, until, record.title_zh, record.title_en)
