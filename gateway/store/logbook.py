"""The log book: transitions and what people did beside them, in one list, newest first.

Two tables, one order: (time, transitions before actions, then their own keys). A page takes as much of each as it could
need and merges; the cursor is the place of its last line, so lines that are written later do not shift the next page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.core.model import AlarmRecord, CommandName, Level, Transition
from gateway.core.records import Entry, EntryFilter, Page
from gateway.store import dialect, schema
from gateway.store.queries import decode_cursor, encode_cursor, within

_TRANSITION = msgspec.json.Decoder(Transition)
_RECORD = msgspec.json.Decoder(AlarmRecord)

_TOLD, _DONE = 0, 1  # in one moment transitions stand before actions
_Place = tuple[int, int, str, int]  # time, which table, alarm id or "", rev or id
_COMMANDS = tuple(name.value for name in CommandName)
# Actions whose subject begins with an asset or a device; that of others (people, rules) may look like one.
_ON_ASSETS = (*_COMMANDS, "note", "claim", "write-point", "replay", "issue-credentials", "revoke-credentials")


def entries(connection: sa.Connection, wanted: EntryFilter, limit: int, cursor: str | None) -> Page[Entry]:
    """One page. Raises ValueError for a cursor of another list."""
    after: _Place | None = None
    if cursor is not None:
        at, table, name, number = decode_cursor(cursor, (int, int, str, int))
        after = (at, table, name, number)
    found = list(_transitions(connection, wanted, limit + 1, after))
    if wanted.actions and not wanted.levels and not wanted.causes:
        found += _actions(connection, wanted, limit + 1, after)
    # A stable sort: within one moment and table the order is the database's own, by its own collation.
    found.sort(key=lambda line: (-line[0][0], line[0][1]))
    shown = [entry for _, entry in found[:limit]]
    return Page(_titled(connection, shown), encode_cursor(found[limit - 1][0]) if len(found) > limit else None)


def _transitions(
    connection: sa.Connection, wanted: EntryFilter, limit: int, after: _Place | None
) -> Iterable[tuple[_Place, Entry]]:
    table = schema.transitions
    kind = connection.dialect.name
    statement = sa.select(table.c.document).order_by(table.c.at.desc(), table.c.alarm_id.desc(), table.c.rev.desc())
    statement = statement.where(*_period(wanted, table.c.at))
    for column, value in ((table.c.asset, wanted.asset), (table.c.alarm_id, wanted.alarm), (table.c.by, wanted.by)):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.kinds:
        statement = statement.where(table.c.kind.in_(wanted.kinds))
    if wanted.levels:
        statement = statement.where(table.c.level.in_([int(level) for level in wanted.levels]))
    if wanted.causes:
        statement = statement.where(table.c.cause.in_(wanted.causes))
    if wanted.q:
        named = sa.select(schema.alarms.c.alarm_id).where(
            schema.alarms.c.search.contains(wanted.q.lower(), autoescape=True)
        )
        # What was said has no column: it is looked for between its marks, which no other text holds unescaped.
        inside = msgspec.json.encode(wanted.q).decode()[1:-1]
        said = dialect.contains(kind, table.c.document, inside, between=('"why":"', '","late":'))
        statement = statement.where(sa.or_(table.c.alarm_id.in_(named), said))
    if wanted.scope:
        statement = statement.where(within(wanted.scope, table.c.asset))
    if after is not None:
        at, which, alarm_id, rev = after
        earlier = table.c.at < at
        if which == _TOLD:
            later_key = sa.or_(table.c.alarm_id < alarm_id, sa.and_(table.c.alarm_id == alarm_id, table.c.rev < rev))
            earlier = sa.or_(earlier, sa.and_(table.c.at == at, later_key))
        statement = statement.where(table.c.at <= at, earlier)
    for document in connection.execute(statement.limit(limit)).scalars():
        step = _TRANSITION.decode(document)
        yield (step.at, _TOLD, step.alarm_id, step.rev), _told(step)


def _told(step: Transition) -> Entry:
    record = step.record
    return Entry(
        key=f"t/{step.alarm_id}/{step.rev}",
        at=step.at,
        subject=step.alarm_id,
        who=step.by,
        alarm_id=step.alarm_id,
        asset=record.asset,
        title_zh=record.title_zh,
        title_en=record.title_en,
        level=record.level,
        from_state=step.from_state,
        to_state=step.to_state,
        cause=step.cause,
        why=step.why,
    )


def _actions(
    connection: sa.Connection, wanted: EntryFilter, limit: int, after: _Place | None
) -> Iterable[tuple[_Place, Entry]]:
    """Audit lines that no transition tells of. A line is about the asset, or the device's asset, that its subject
    begins with."""
    table = schema.audit
    kind = connection.dialect.name
    first = dialect.before_slash(kind, table.c.subject)
    asset, device = schema.assets.alias("named"), schema.devices.alias("speaking")  # none of what is asked around them
    named = sa.func.coalesce(
        sa.select(asset.c.asset).where(asset.c.asset == first).correlate(table).scalar_subquery(),
        sa.select(device.c.asset).where(device.c.device == first).correlate(table).scalar_subquery(),
    )
    owner = sa.case((table.c.action.in_(_ON_ASSETS), named))
    statement = sa.select(table, owner.label("asset")).order_by(table.c.at.desc(), table.c.id.desc())
    step = schema.transitions
    told = sa.exists().where(step.c.at == table.c.at, step.c.alarm_id == table.c.subject)
    carried_out = sa.and_(table.c.outcome == "done", table.c.action.in_(_COMMANDS))
    statement = statement.where(*_period(wanted, table.c.at), ~sa.and_(carried_out, told))
    if wanted.asset is not None:
        statement = statement.where(owner == wanted.asset)
    if wanted.alarm is not None:
        statement = statement.where(table.c.subject == wanted.alarm, table.c.action.in_(_COMMANDS))
    if wanted.by is not None:
        statement = statement.where(table.c.who == wanted.by)
    if wanted.kinds:
        of_kind = sa.exists().where(schema.assets.c.asset == owner, schema.assets.c.kind.in_(wanted.kinds))
        statement = statement.where(of_kind)
    if wanted.q:
        columns = (table.c.subject, table.c.who, table.c.action, table.c.why)
        statement = statement.where(sa.or_(*(dialect.contains(kind, column, wanted.q) for column in columns)))
    if wanted.scope:
        statement = statement.where(within(wanted.scope, owner))
    if after is not None:
        at, which, _, id_ = after
        earlier = table.c.at < at
        same = table.c.at == at if which == _TOLD else sa.and_(table.c.at == at, table.c.id < id_)
        statement = statement.where(table.c.at <= at, sa.or_(earlier, same))
    for row in connection.execute(statement.limit(limit)):
        yield (row.at, _DONE, "", row.id), _done(row)


def _done(row: Any) -> Entry:
    about_alarm = row.action in _COMMANDS and "/" in row.subject
    return Entry(
        key=f"a/{row.id}",
        at=row.at,
        subject=row.subject,
        who=row.who,
        alarm_id=row.subject if about_alarm else None,
        asset=row.asset,
        action=row.action,
        channel=row.channel,
        outcome=row.outcome,
        why=row.why,
    )


def _titled(connection: sa.Connection, found: list[Entry]) -> list[Entry]:
    """Actions upon alarms get the title and the level that the alarm has now."""
    names = {entry.alarm_id for entry in found if entry.alarm_id is not None and not entry.is_transition}
    if not names:
        return found
    table = schema.alarms
    statement = sa.select(table.c.record).where(table.c.alarm_id.in_(names))
    records = {record.alarm_id: record for record in map(_RECORD.decode, connection.execute(statement).scalars())}
    titled: list[Entry] = []
    for entry in found:
        record = records.get(entry.alarm_id or "") if not entry.is_transition else None
        if record is not None:
            zh, en, level = record.title_zh, record.title_en, Level(record.level)
            entry = msgspec.structs.replace(entry, title_zh=zh, title_en=en, level=level)
        titled.append(entry)
    return titled


def _period(wanted: EntryFilter, at: sa.ColumnElement[int]) -> list[sa.ColumnElement[bool]]:
    bounds: list[sa.ColumnElement[bool]] = []
    if wanted.since is not None:
        bounds.append(at >= wanted.since)
    if wanted.until is not None:
        bounds.append(at < wanted.until)
    return bounds
