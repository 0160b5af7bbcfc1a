"""Shifts: how the alarms stood at a moment, what people said meanwhile, and the handovers that were signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.core.model import AlarmRecord, Micros, Transition
from gateway.core.records import HandoverRow, Page, Scope
from gateway.core.shift import ShiftLists
from gateway.core.work import WAITING
from gateway.store import schema
from gateway.store.queries import decode_cursor, encode_cursor, within
from gateway.store.schema import NORMAL_RANK
from gateway.store.text import clean

_RECORD = msgspec.json.Decoder(AlarmRecord)
_TRANSITION = msgspec.json.Decoder(Transition)
_SCOPE = msgspec.json.Decoder(Scope)
_JSON = msgspec.json.Encoder()

_ROWS = 500  # read at once: the lists keep few of them
_SHELVING = ("T15", "T16")


def lists(connection: sa.Connection, at: Micros, scope: Scope) -> ShiftLists:
    """How the alarms of ``scope`` stood just before ``at``. What has changed since is taken from its history."""
    found = ShiftLists()
    alarm, step = schema.alarms, schema.transitions
    # Beside what stands: one that is normal may still chatter, and work on it may still be open.
    matters = sa.or_(
        alarm.c.rank < NORMAL_RANK,
        alarm.c.record.contains('"chattering":true'),
        ~alarm.c.record.contains('"assigned_to":null'),
        alarm.c.work.in_(sorted(WAITING)),
    )
    now = sa.select(alarm.c.alarm_id, alarm.c.record).where(alarm.c.changed_at < at, matters)
    for text in _in_parts(connection, now.where(within(scope, alarm.c.asset))):
        found.take(_RECORD.decode(text))
    earlier = step.alias()
    newest = (
        sa.select(sa.func.max(earlier.c.rev))
        .where(earlier.c.alarm_id == alarm.c.alarm_id, earlier.c.at < at)
        .scalar_subquery()
    )
    then = (
        sa.select(alarm.c.alarm_id, step.c.document)
        .select_from(alarm)
        .join(step, sa.and_(step.c.alarm_id == alarm.c.alarm_id, step.c.rev == newest))
        .where(alarm.c.changed_at >= at, within(scope, alarm.c.asset))
    )
    for text in _in_parts(connection, then):
        found.take(_TRANSITION.decode(text).record)
    return found


def _in_parts(connection: sa.Connection, statement: sa.Select[Any]) -> Iterator[str]:
    """The second column of a statement whose first is the alarm's id; a part of the rows in memory at a time."""
    alarm_id = schema.alarms.c.alarm_id
    statement = statement.order_by(alarm_id).limit(_ROWS)
    rows = connection.execute(statement).all()
    while rows:
        yield from (row[1] for row in rows)
        rows = connection.execute(statement.where(alarm_id > rows[-1][0])).all() if len(rows) == _ROWS else []


def shelvings(connection: sa.Connection, alarm_ids: Sequence[str], before: Micros) -> dict[str, Transition]:
    """For each alarm the newest step before ``before`` that shelved it: it knows who and why."""
    step = schema.transitions
    newest = (
        sa.select(step.c.alarm_id, sa.func.max(step.c.rev).label("rev"))
        .where(step.c.alarm_id.in_(alarm_ids), step.c.cause.in_(_SHELVING), step.c.at < before)
        .group_by(step.c.alarm_id)
        .subquery()
    )
    statement = sa.select(step.c.document).join(
        newest, sa.and_(step.c.alarm_id == newest.c.alarm_id, step.c.rev == newest.c.rev)
    )
    steps = map(_TRANSITION.decode, connection.execute(statement).scalars())
    return {one.alarm_id: one for one in steps}


# -- handovers --------------------------------------------------------------------------------------------------------


def add(connection: sa.Connection, row: HandoverRow) -> HandoverRow:
    """Keep a signed report; ``row.id`` is ignored, and the ``taken_…`` are empty."""
    table = schema.handovers
    values = {
        "since": row.since,
        "until": row.until,
        "scope": _JSON.encode(row.scope).decode(),
        "report": row.report,
        "left_by": clean(row.left_by, 200),
        "left_at": row.left_at,
        "left_words": clean(row.left_words, 2000),
    }
    made = connection.execute(sa.insert(table).returning(table.c.id), values).scalar_one()
    return msgspec.structs.replace(row, id=made)


def handovers(connection: sa.Connection, scope: Scope, limit: int, cursor: str | None) -> Page[HandoverRow]:
    """Newest first, without their reports; of the parts of the city that lie within ``scope``."""
    table = schema.handovers
    columns = [column for column in table.c if column.name != "report"]
    statement = sa.select(*columns).order_by(table.c.id.desc())
    if scope:
        parts = connection.execute(sa.select(table.c.scope).distinct()).scalars()
        statement = statement.where(table.c.scope.in_([part for part in parts if contains(scope, _SCOPE.decode(part))]))
    if cursor is not None:
        statement = statement.where(table.c.id < decode_cursor(cursor, (int,))[0])
    rows = connection.execute(statement.limit(limit + 1)).mappings().all()
    more = len(rows) > limit
    return Page(
        [_row({"report": "", **row}) for row in rows[:limit]], encode_cursor([rows[limit - 1]["id"]]) if more else None
    )


def handover(connection: sa.Connection, id_: int, scope: Scope) -> HandoverRow | None:
    table = schema.handovers
    row = connection.execute(sa.select(table).where(table.c.id == id_)).mappings().first()
    found = _row(row) if row is not None else None
    return found if found is not None and contains(scope, found.scope) else None


def take(connection: sa.Connection, id_: int, by: str, at: Micros, words: str) -> bool:
    """The next shift signs. False when it is signed already, or by the one who left."""
    table = schema.handovers
    name = clean(by, 200)
    result = connection.execute(
        sa.update(table)
        .where(table.c.id == id_, table.c.taken_by.is_(None), table.c.left_by != name)
        .values(taken_by=name, taken_at=at, taken_words=clean(words, 2000))
    )
    return bool(result.rowcount)


def contains(whole: Scope, part: Scope) -> bool:
    """Everything in ``part`` is in ``whole``."""
    return all(
        not allowed or (bool(asked) and set(asked) <= set(allowed))
        for allowed, asked in ((whole.kinds, part.kinds), (whole.towns, part.towns), (whole.units, part.units))
    )


def _row(row: Any) -> HandoverRow:
    return HandoverRow(**{**row, "scope": _SCOPE.decode(row["scope"])})
