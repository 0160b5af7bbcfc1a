"""What people ask the store: lists by pages, single rows, counts. Reading only.

A cursor is the sort key of the last row given, so a page costs the same wherever it is, and rows that come or go
elsewhere do not shift it. An alarm that changes between two pages may move across the boundary; the live feed is for
those who must miss nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.core.model import AlarmRecord, Asset, Device, Level, Micros, Transition
from gateway.core.records import (
    AlarmFilter,
    AssetFilter,
    AssetRow,
    AssetState,
    AuditRow,
    CommandRow,
    Page,
    RejectedRow,
    Scope,
    StrangerRow,
)
from gateway.store import dialect, schema
from gateway.store.schema import NORMAL_RANK

Key = TypeVar("Key")

_RECORD = msgspec.json.Decoder(AlarmRecord)
_TRANSITION = msgspec.json.Decoder(Transition)
_ASSET = msgspec.json.Decoder(Asset)
_DEVICE = msgspec.json.Decoder(Device)

REPLAYED = "replay of "  # how the source of a frame begins that was offered again (core.processor)
_SNAPSHOT_PART = 1000  # rows read at once when everything is wanted


def alarms(connection: sa.Connection, wanted: AlarmFilter, limit: int, cursor: str | None) -> Page[AlarmRecord]:
    table = schema.alarms
    statement = sa.select(table.c.record, table.c.rank, table.c.changed_at, table.c.alarm_id)
    statement = statement.order_by(table.c.rank, table.c.changed_at.desc(), table.c.alarm_id)
    if wanted.states:
        statement = statement.where(table.c.state.in_([state.value for state in wanted.states]))
    if wanted.levels:
        statement = statement.where(table.c.level.in_([int(level) for level in wanted.levels]))
    if wanted.kinds:
        statement = statement.where(table.c.kind.in_(wanted.kinds))
    if wanted.asset is not None:
        statement = statement.where(table.c.asset == wanted.asset)
    if wanted.rule is not None:
        statement = statement.where(table.c.rule == wanted.rule)
    if wanted.q:
        statement = statement.where(table.c.search.contains(wanted.q.lower(), autoescape=True))
    if wanted.scope:
        statement = statement.where(within(wanted.scope, table.c.asset))
    if cursor is not None:
        rank, changed_at, alarm_id = decode_cursor(cursor, (int, int, str))
        statement = statement.where(
            sa.or_(
                table.c.rank > rank,
                sa.and_(table.c.rank == rank, table.c.changed_at < changed_at),
                sa.and_(table.c.rank == rank, table.c.changed_at == changed_at, table.c.alarm_id > alarm_id),
            )
        )
    rows = connection.execute(statement.limit(limit + 1)).all()
    return Page([_RECORD.decode(row.record) for row in rows[:limit]], _cursor(rows, limit, "rank changed_at alarm_id"))


def alarm(connection: sa.Connection, alarm_id: str) -> AlarmRecord | None:
    text = connection.execute(sa.select(schema.alarms.c.record).where(schema.alarms.c.alarm_id == alarm_id)).scalar()
    return None if text is None else _RECORD.decode(text)


def standing(connection: sa.Connection, limit: int, scope: Scope) -> list[AlarmRecord]:
    table = schema.alarms
    statement = sa.select(table.c.record).where(table.c.rank < NORMAL_RANK)
    if scope:
        statement = statement.where(within(scope, table.c.asset))
    statement = statement.order_by(table.c.rank, table.c.changed_at.desc(), table.c.alarm_id).limit(limit)
    return [_RECORD.decode(text) for text in connection.execute(statement).scalars()]


def history(connection: sa.Connection, alarm_id: str, limit: int, cursor: str | None) -> Page[Transition]:
    table = schema.transitions
    statement = sa.select(table.c.document, table.c.rev).where(table.c.alarm_id == alarm_id)
    if cursor is not None:
        statement = statement.where(table.c.rev < decode_cursor(cursor, (int,))[0])
    rows = connection.execute(statement.order_by(table.c.rev.desc()).limit(limit + 1)).all()
    return Page([_TRANSITION.decode(row.document) for row in rows[:limit]], _cursor(rows, limit, "rev"))


def transitions(connection: sa.Connection, after: int, limit: int) -> list[tuple[int, Transition]]:
    table = schema.transitions
    statement = sa.select(table.c.position, table.c.document).where(table.c.position > after)
    statement = statement.order_by(table.c.position, table.c.at, table.c.alarm_id, table.c.rev).limit(limit)
    return [(position, _TRANSITION.decode(document)) for position, document in connection.execute(statement)]


def transitions_between(
    connection: sa.Connection, since: Micros, until: Micros, limit: int, scope: Scope
) -> list[Transition]:
    """Steps with since ≤ at < until in their order, the first ``limit``."""
    table = schema.transitions
    statement = sa.select(table.c.document).where(table.c.at >= since, table.c.at < until)
    if scope:
        statement = statement.where(within(scope, table.c.asset))
    statement = statement.order_by(table.c.at, table.c.position, table.c.alarm_id, table.c.rev).limit(limit)
    return [_TRANSITION.decode(document) for document in connection.execute(statement).scalars()]


def assets(connection: sa.Connection, wanted: AssetFilter, limit: int, cursor: str | None) -> Page[AssetRow]:
    table = schema.assets
    statement = _assets().order_by(table.c.asset)
    if wanted.kinds:
        statement = statement.where(table.c.kind.in_(wanted.kinds))
    for column, value in ((table.c.road, wanted.road), (table.c.town, wanted.town), (table.c.unit, wanted.unit)):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.q:
        statement = statement.where(table.c.search.contains(wanted.q.lower(), autoescape=True))
    if wanted.state is not None:
        stands = sa.exists().where(schema.alarms.c.asset == table.c.asset, schema.alarms.c.rank < NORMAL_RANK)
        statement = statement.where(stands if wanted.state is AssetState.ALARM else ~stands)
    if wanted.scope:
        statement = statement.where(*_covers(wanted.scope, table))
    if cursor is not None:
        statement = statement.where(table.c.asset > decode_cursor(cursor, (str,))[0])
    rows = connection.execute(statement.limit(limit + 1)).all()
    return Page([_asset_row(row) for row in rows[:limit]], _cursor(rows, limit, "asset"))


def asset(connection: sa.Connection, asset_id: str) -> AssetRow | None:
    row = connection.execute(_assets().where(schema.assets.c.asset == asset_id)).first()
    return None if row is None else _asset_row(row)


def asset_ids(
    connection: sa.Connection, kinds: Sequence[str], q: str | None, after: str, limit: int, scope: Scope
) -> list[str]:
    """Ids behind ``after``, in order; ``q`` is searched in ids and names, of the assets and of their devices."""
    table, device = schema.assets, schema.devices
    statement = sa.select(table.c.asset).where(table.c.asset > after).order_by(table.c.asset).limit(limit)
    if kinds:
        statement = statement.where(table.c.kind.in_(kinds))
    if q:
        kind = connection.dialect.name
        mounted = sa.exists().where(device.c.asset == table.c.asset, dialect.contains(kind, device.c.device, q))
        statement = statement.where(sa.or_(table.c.search.contains(q.lower(), autoescape=True), mounted))
    if scope:
        statement = statement.where(*_covers(scope, table))
    return list(connection.execute(statement).scalars())


def devices(
    connection: sa.Connection,
    of_asset: str | None,
    limit: int,
    cursor: str | None,
    scope: Scope,
    q: str | None = None,
    profile: str | None = None,
) -> Page[Device]:
    """By id; ``q`` is searched in the ids, the addresses and the assets."""
    table = schema.devices
    statement = sa.select(table.c.document, table.c.device).order_by(table.c.device)
    if of_asset is not None:
        statement = statement.where(table.c.asset == of_asset)
    if profile is not None:
        statement = statement.where(table.c.profile == profile)
    if q:
        kind = connection.dialect.name
        columns = (table.c.device, table.c.address, table.c.asset)
        statement = statement.where(sa.or_(*(dialect.contains(kind, column, q) for column in columns)))
    if scope:
        statement = statement.where(within(scope, table.c.asset))
    if cursor is not None:
        statement = statement.where(table.c.device > decode_cursor(cursor, (str,))[0])
    rows = connection.execute(statement.limit(limit + 1)).all()
    return Page([_DEVICE.decode(row.document) for row in rows[:limit]], _cursor(rows, limit, "device"))


def everything(connection: sa.Connection) -> tuple[list[Asset], list[Device]]:
    found_assets = connection.execute(sa.select(schema.assets.c.document).order_by(schema.assets.c.asset)).scalars()
    all_assets = [_ASSET.decode(text) for text in found_assets]
    found = connection.execute(sa.select(schema.devices.c.document).order_by(schema.devices.c.device)).scalars()
    return all_assets, [_DEVICE.decode(text) for text in found]


def strangers(connection: sa.Connection, limit: int) -> list[StrangerRow]:
    """Names under which unregistered devices speak, the newest first."""
    table = schema.rejected
    unknown = sa.and_(table.c.code == "unknown_device", table.c.device != "")
    seen = (
        sa.select(
            table.c.device,
            sa.func.count().label("frames"),
            sa.func.min(table.c.received_at).label("first_at"),
            sa.func.max(table.c.received_at).label("last_at"),
            sa.func.max(table.c.position).label("position"),
        )
        .where(unknown)
        .group_by(table.c.device)
        .order_by(sa.desc("last_at"))
        .limit(limit)
        .subquery()
    )
    newest = (
        sa.select(
            table.c.device,
            table.c.source,
            table.c.address,
            seen.c.frames,
            seen.c.first_at,
            seen.c.last_at,
            table.c["index"],
        )
        .join(seen, sa.and_(table.c.device == seen.c.device, table.c.position == seen.c.position))
        .where(unknown)
    )
    found: dict[str, StrangerRow] = {}
    for row in connection.execute(newest.order_by(seen.c.last_at.desc(), table.c["index"])).mappings():
        found[row["device"]] = StrangerRow(
            row["device"], row["frames"], row["first_at"], row["last_at"], row["source"], row["address"]
        )
    return list(found.values())


def rejected(
    connection: sa.Connection,
    device: str | None,
    limit: int,
    cursor: str | None,
    scope: Scope,
    code: str | None = None,
    first_only: bool = False,
) -> Page[RejectedRow]:
    """Newest first; ``first_only``: without those that were offered again and rejected again."""
    table = schema.rejected
    position, index = table.c.position, table.c["index"]
    statement = sa.select(table).order_by(position.desc(), index.desc())
    if device is not None:
        statement = statement.where(table.c.device == device)
    if code is not None:
        statement = statement.where(table.c.code == code)
    if first_only:
        statement = statement.where(~table.c.source.startswith(REPLAYED))
    if scope:
        ours = sa.exists().where(schema.devices.c.device == table.c.device, within(scope, schema.devices.c.asset))
        statement = statement.where(ours)
    if cursor is not None:
        last_position, last_index = decode_cursor(cursor, (int, int))
        statement = statement.where(
            sa.or_(position < last_position, sa.and_(position == last_position, index < last_index))
        )
    rows = connection.execute(statement.limit(limit + 1)).mappings().all()
    items = [_rejected_row(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, encode_cursor((items[-1].position, items[-1].index)) if more else None)


def rejected_frame(connection: sa.Connection, position: int, index: int) -> RejectedRow | None:
    table = schema.rejected
    statement = sa.select(table).where(table.c.position == position, table.c["index"] == index)
    row = connection.execute(statement).mappings().first()
    return None if row is None else _rejected_row(row)


def _rejected_row(row: Any) -> RejectedRow:
    return RejectedRow(
        position=row["position"],
        index=row["index"],
        received_at=row["received_at"],
        device=row["device"] or None,
        code=row["code"],
        reason=row["reason"],
        kind=row["kind"],
        source=row["source"],
        address=row["address"],
        principal=row["principal"],
        retained=row["retained"],
        payload=bytes(row["payload"]),
        payload_size=row["payload_size"],
    )


def audit(connection: sa.Connection, limit: int, cursor: str | None) -> Page[AuditRow]:
    table = schema.audit
    statement = sa.select(table).order_by(table.c.id.desc())
    if cursor is not None:
        statement = statement.where(table.c.id < decode_cursor(cursor, (int,))[0])
    rows = connection.execute(statement.limit(limit + 1)).all()
    items = [
        AuditRow(row.id, row.at, row.who, row.channel, row.action, row.subject, row.outcome, row.why)
        for row in rows[:limit]
    ]
    return Page(items, _cursor(rows, limit, "id"))


def command(connection: sa.Connection, command_id: str) -> CommandRow | None:
    table = schema.commands
    row = connection.execute(sa.select(table).where(table.c.command_id == command_id)).first()
    if row is None:
        return None
    refused = None if row.refused_code is None else (row.refused_code, row.refused_text or "")
    return CommandRow(row.command_id, row.name, row.alarm_id, row.by, row.channel, row.why, row.at, refused)


def counts(connection: sa.Connection) -> dict[str, dict[str, int]]:
    def grouped(column: sa.Column[Any], where: sa.ColumnElement[bool] | None = None) -> dict[str, int]:
        statement = sa.select(column, sa.func.count()).group_by(column)
        statement = statement if where is None else statement.where(where)
        return {str(value): count for value, count in connection.execute(statement)}

    alarm, box = schema.alarms, schema.outbox
    return {
        "alarms": grouped(alarm.c.state),
        "levels": grouped(alarm.c.level, alarm.c.rank < NORMAL_RANK),
        "outbox": grouped(box.c.state),
    }


def within(scope: Scope, asset: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """The asset named in the column ``asset`` belongs to ``scope``. Asked row by row, by the key of the asset: a page
    that is read in its order stops when it is full."""
    if not scope:
        return sa.true()
    return sa.exists().where(schema.assets.c.asset == asset, *_covers(scope, schema.assets))


def _covers(scope: Scope, assets: sa.Table) -> list[sa.ColumnElement[bool]]:
    """``Scope.covers`` of a row of ``assets``."""
    pairs = ((assets.c.kind, scope.kinds), (assets.c.town, scope.towns), (assets.c.unit, scope.units))
    return [column.in_(allowed) for column, allowed in pairs if allowed]


def encode_cursor(key: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode().rstrip("=")


def _assets() -> sa.Select[Any]:
    """Assets with what stands on them; correlated, so that a page counts only its own rows."""
    alarm = schema.alarms
    stands = sa.and_(alarm.c.asset == schema.assets.c.asset, alarm.c.rank < NORMAL_RANK)
    count = sa.select(sa.func.count()).select_from(alarm).where(stands).scalar_subquery()
    worst = sa.select(sa.func.min(alarm.c.level)).where(stands).scalar_subquery()
    return sa.select(schema.assets.c.asset, schema.assets.c.document, count.label("standing"), worst.label("worst"))


def _asset_row(row: Any) -> AssetRow:
    return AssetRow(_ASSET.decode(row.document), row.standing, None if row.worst is None else Level(row.worst))


def _cursor(rows: Sequence[Any], limit: int, names: str) -> str | None:
    """The cursor behind ``rows[:limit]``, None when there is no further row."""
    if len(rows) <= limit:
        return None
    return encode_cursor([getattr(rows[limit - 1], name) for name in names.split()])


def decode_cursor(cursor: str, types: tuple[type, ...]) -> list[Any]:
    """The sort key in a cursor; ValueError when it is not one of ours."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise ValueError("not a cursor of this list") from error
    if not isinstance(key, list) or [type(part) for part in key] != list(types):
        raise ValueError("not a cursor of this list")
    if any(isinstance(part, int) and abs(part) >= 1 << 63 for part in key):
        raise ValueError("not a cursor of this list")
    return key
