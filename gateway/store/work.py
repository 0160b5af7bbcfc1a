"""Work in the field as people look at it: whose it is, its steps, maintenance, the photos of what the crews saw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.core.model import AlarmRecord, Maintenance, Micros, Transition
from gateway.core.records import EVERYWHERE, MaintenanceState, Page, PhotoRow, Scope, WorkFilter
from gateway.store import dialect, schema
from gateway.store.queries import decode_cursor, encode_cursor, within
from gateway.store.text import clean

Result = TypeVar("Result")

_RECORD = msgspec.json.Decoder(AlarmRecord)
_TRANSITION = msgspec.json.Decoder(Transition)


class Transact(Protocol):
    """Runs something with a connection, in a transaction of its own, in a thread of the store's."""

    async def __call__(self, work: Callable[[sa.Connection], Result]) -> Result: ...


class Work:
    """A part of ``Store``, which hands it its ways to read and to write; errors are those of the store's methods.
    ValueError for a cursor that is not of that list."""

    def __init__(self, read: Transact, write: Transact) -> None:
        self._read = read
        self._write = write

    async def orders(self, wanted: WorkFilter, limit: int, cursor: str | None = None) -> Page[AlarmRecord]:
        """Alarms by their work, what changed last first."""
        return await self._read(lambda c: _orders(c, wanted, limit, cursor))

    async def steps(self, alarm_id: str, limit: int) -> list[Transition]:
        """The newest steps of the work on an alarm, the newest first."""
        table = schema.transitions
        statement = sa.select(table.c.document).where(table.c.alarm_id == alarm_id, table.c.cause.startswith("W"))
        statement = statement.order_by(table.c.rev.desc()).limit(limit)
        return await self._read(lambda c: [_TRANSITION.decode(text) for text in c.execute(statement).scalars()])

    # ------------------------------------------------------------------ maintenance

    async def maintenance(
        self,
        state: MaintenanceState | None,
        asset: str | None,
        now: Micros,
        limit: int,
        cursor: str | None = None,
        scope: Scope = EVERYWHERE,
    ) -> Page[Maintenance]:
        """Windows in a state (None: planned or open), the latest end first."""
        return await self._read(lambda c: _windows(c, state, asset, now, limit, cursor, scope))

    async def maintenance_by_id(self, id_: str) -> Maintenance | None:
        table = schema.maintenance
        statement = sa.select(table).where(table.c.id == id_)
        return await self._read(lambda c: next(map(_window, c.execute(statement)), None))

    async def open_maintenance(self) -> list[Maintenance]:
        """Every window that is not over, planned ones too."""
        table = schema.maintenance
        statement = sa.select(table).where(table.c.ended_at.is_(None)).order_by(table.c.since, table.c.id)
        return await self._read(lambda c: [_window(row) for row in c.execute(statement)])

    # ------------------------------------------------------------------ photos

    async def add_photo(
        self, alarm_id: str, occurrence_id: str, at: Micros, by: str, media_type: str, content: bytes, most: int
    ) -> tuple[PhotoRow, bool] | None:
        """Keep a photo; gives its row and whether it is new. None when the alarm has ``most`` others already."""
        row = PhotoRow(
            hashlib.sha256(content).hexdigest(),
            clean(alarm_id, 200),
            occurrence_id,
            at,
            clean(by, 200),
            media_type,
            len(content),
        )
        return await self._write(lambda c: _add(c, row, content, most))

    async def photo(self, id_: str, scope: Scope) -> tuple[PhotoRow, bytes] | None:
        """A photo with its content; None when there is none at an alarm within ``scope``."""
        return await self._read(lambda c: _photo(c, id_, scope))

    async def photos(self, alarm_id: str) -> list[PhotoRow]:
        """Those of an alarm, oldest first."""
        return await self._read(lambda c: _photos(c, alarm_id))


def _orders(connection: sa.Connection, wanted: WorkFilter, limit: int, cursor: str | None) -> Page[AlarmRecord]:
    table = schema.alarms
    statement = sa.select(table.c.record, table.c.changed_at, table.c.alarm_id)
    statement = statement.where(table.c.work.in_(wanted.states))
    if wanted.to:
        statement = statement.where(table.c.work_to.in_(wanted.to))
    if wanted.since is not None:
        statement = statement.where(table.c.changed_at >= wanted.since)
    if wanted.scope:
        statement = statement.where(within(wanted.scope, table.c.asset))
    if cursor is not None:
        changed_at, alarm_id = decode_cursor(cursor, (int, str))
        same = sa.and_(table.c.changed_at == changed_at, table.c.alarm_id > alarm_id)
        statement = statement.where(sa.or_(table.c.changed_at < changed_at, same))
    rows = connection.execute(
        statement.order_by(table.c.changed_at.desc(), table.c.alarm_id).limit(limit + 1)
    ).all()  # fmt: skip
    items = [_RECORD.decode(row.record) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, encode_cursor([rows[limit - 1].changed_at, rows[limit - 1].alarm_id]) if more else None)


def _windows(
    connection: sa.Connection,
    state: MaintenanceState | None,
    asset: str | None,
    now: Micros,
    limit: int,
    cursor: str | None,
    scope: Scope,
) -> Page[Maintenance]:
    table = schema.maintenance
    over = table.c.ended_at.is_not(None)
    statement = sa.select(table).where(over if state is MaintenanceState.ENDED else ~over)
    if state is MaintenanceState.OPEN:
        statement = statement.where(table.c.since <= now)
    elif state is MaintenanceState.PLANNED:
        statement = statement.where(table.c.since > now)
    if asset is not None:
        statement = statement.where(table.c.asset == asset)
    if scope:
        statement = statement.where(within(scope, table.c.asset))
    if cursor is not None:
        until, id_ = decode_cursor(cursor, (int, str))
        same = sa.and_(table.c.until == until, table.c.id > id_)
        statement = statement.where(sa.or_(table.c.until < until, same))
    rows = connection.execute(statement.order_by(table.c.until.desc(), table.c.id).limit(limit + 1)).all()
    more = len(rows) > limit
    last = encode_cursor([rows[limit - 1].until, rows[limit - 1].id]) if more else None
    return Page([_window(row) for row in rows[:limit]], last)


def _window(row: Any) -> Maintenance:
    return Maintenance(**row._mapping)


_OF_A_PHOTO = [column for column in schema.photos.c if column is not schema.photos.c.content]


def _add(connection: sa.Connection, row: PhotoRow, content: bytes, most: int) -> tuple[PhotoRow, bool] | None:
    table = schema.photos
    of_alarm = sa.select(*_OF_A_PHOTO).where(table.c.alarm_id == row.alarm_id)
    known = connection.execute(of_alarm.where(table.c.id == row.id)).first()
    if known is not None:
        return _row(known), False
    count = sa.select(sa.func.count()).select_from(table).where(table.c.alarm_id == row.alarm_id)
    if connection.execute(count).scalar_one() >= most:
        return None
    values = {**msgspec.structs.asdict(row), "content": content}
    connection.execute(dialect.upsert(connection.dialect.name, table, key=("id", "alarm_id"), keep=True), values)
    return row, True


def _photo(connection: sa.Connection, id_: str, scope: Scope) -> tuple[PhotoRow, bytes] | None:
    table, alarm = schema.photos, schema.alarms
    statement = sa.select(table).join(alarm, alarm.c.alarm_id == table.c.alarm_id).where(table.c.id == id_)
    found = connection.execute(statement.where(within(scope, alarm.c.asset)).order_by(table.c.at).limit(1)).first()
    return None if found is None else (_row(found), bytes(found.content))


def _photos(connection: sa.Connection, alarm_id: str) -> list[PhotoRow]:
    table = schema.photos
    statement = sa.select(*_OF_A_PHOTO).where(table.c.alarm_id == alarm_id).order_by(table.c.at, table.c.id)
    return [_row(row) for row in connection.execute(statement)]


def _row(row: Any) -> PhotoRow:
    return PhotoRow(row.id, row.alarm_id, row.occurrence_id, row.at, row.by, row.media_type, row.size)
