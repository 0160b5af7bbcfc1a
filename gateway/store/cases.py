"""Cases with the city's platforms, what these pass on to us, and the steps that figures of cases are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.core.cases import CAUSES, CaseRow, CaseStatus, TicketRow
from gateway.core.model import AlarmRecord, Micros, Transition
from gateway.core.records import Page, Scope
from gateway.store import dialect, schema
from gateway.store.queries import decode_cursor, encode_cursor, within
from gateway.store.schema import NORMAL_RANK
from gateway.store.text import clean

Result = TypeVar("Result")

STEPS_AT_ONCE = 2_000  # decoded in one go: 0.1 s of a reader's thread

_JSON = msgspec.json.Encoder()
_CASE = msgspec.json.Decoder(CaseRow)
_TICKET = msgspec.json.Decoder(TicketRow)
_RECORD = msgspec.json.Decoder(AlarmRecord)
_TRANSITION = msgspec.json.Decoder(Transition)


class Transact(Protocol):
    """Runs something with a connection, in a transaction of its own, in a thread of the store's."""

    async def __call__(self, work: Callable[[sa.Connection], Result]) -> Result: ...


class Cases:
    """A part of ``Store``, which hands it its ways to read and to write; errors are those of the store's methods.
    ValueError for a cursor that is not of that list."""

    def __init__(self, read: Transact, write: Transact) -> None:
        self._read = read
        self._write = write

    # ------------------------------------------------------------------ cases

    async def newest(self, platform: str, alarm_id: str) -> CaseRow | None:
        """The case of an alarm that was opened last."""
        return await self._read(lambda c: _newest(c, platform, alarm_id))

    async def find(self, platform: str, key: str, number: str) -> CaseRow | None:
        """The case with our key, else the one with the platform's number ("" for neither)."""
        return await self._read(lambda c: _by_key(c, platform, key) or _by_number(c, platform, number))

    async def change(
        self, platform: str, key: str, change: Callable[[CaseRow | None], CaseRow | None]
    ) -> CaseRow | None:
        """Make a row of what is there now (None: nothing), in one transaction; None from ``change`` leaves it. Gives
        the row as it is then. ``change`` runs in the writer's thread."""
        return await self._write(lambda c: _change(c, platform, key, change))

    async def page(
        self, states: Sequence[CaseStatus], limit: int, cursor: str | None, scope: Scope, alarm_id: str | None = None
    ) -> Page[CaseRow]:
        """Cases, the newest first; ``states``: empty for all; ``alarm_id``: only those of one alarm."""
        return await self._read(lambda c: _page(c, states, limit, cursor, scope, alarm_id))

    # ------------------------------------------------------------------ tickets

    async def ticket(self, platform: str, number: str) -> TicketRow | None:
        return await self._read(lambda c: _ticket(c, platform, number))

    async def keep_ticket(self, row: TicketRow) -> TicketRow:
        """New, or in place of the one with its number; gives it with its id."""
        return await self._write(lambda c: _keep_ticket(c, row))

    async def tickets(self, limit: int, cursor: str | None, scope: Scope, *, matched: bool | None) -> Page[TicketRow]:
        """Tickets, the newest first; ``matched``: only those about an alarm of ours, or only the others. Those about
        none are outside every scope that narrows."""
        return await self._read(lambda c: _tickets(c, limit, cursor, scope, matched))

    async def near(
        self, kinds: Sequence[str], rules: Sequence[str], since: Micros, limit: int, *, simulated: bool
    ) -> list[AlarmRecord]:
        """Alarms of one of ``kinds``, or whose rule is like one of ``rules`` (patterns), that stand or have changed
        since a time; the newest ``limit``. None of rules on trial."""
        found = await self._read(lambda c: _near(c, kinds, rules, since, limit))
        return [one for one in found if one.simulated is simulated and not one.shadow]

    # ------------------------------------------------------------------ figures

    async def fold(
        self,
        rules: Sequence[str],
        since: Micros,
        until: Micros,
        scope: Scope,
        take: Callable[[Transition], None],
        most: int,
    ) -> bool:
        """Give ``take`` every step with since ≤ at < until that may matter to a case of ``rules``, each alarm's in
        order, in a thread of the store's; False when there were more than ``most``."""
        after: tuple[str, int] | None = None
        given = 0
        while given < most:
            read = min(STEPS_AT_ONCE, most - given)
            begin = after

            def portion(
                connection: sa.Connection, begin: tuple[str, int] | None = begin, read: int = read
            ) -> tuple[int, tuple[str, int] | None]:
                steps = _steps(connection, rules, since, until, scope, begin, read)
                for step in steps:
                    take(step)
                return len(steps), (steps[-1].alarm_id, steps[-1].rev) if steps else None

            count, after = await self._read(portion)
            given += count
            if count < read:
                return True
        return False


def _newest(connection: sa.Connection, platform: str, alarm_id: str) -> CaseRow | None:
    table = schema.cases
    statement = sa.select(table.c.document).where(table.c.alarm_id == alarm_id, table.c.platform == platform)
    text = connection.execute(statement.order_by(table.c.opened_at.desc()).limit(1)).scalar()
    return None if text is None else _CASE.decode(text)


def _by_key(connection: sa.Connection, platform: str, key: str) -> CaseRow | None:
    table = schema.cases
    if not key:
        return None
    statement = sa.select(table.c.document).where(table.c.platform == platform, table.c.occurrence_id == key)
    text = connection.execute(statement).scalar()
    return None if text is None else _CASE.decode(text)


def _by_number(connection: sa.Connection, platform: str, number: str) -> CaseRow | None:
    table = schema.cases
    if not number:
        return None
    statement = sa.select(table.c.document).where(table.c.platform == platform, table.c.number == number)
    text = connection.execute(statement.order_by(table.c.opened_at.desc()).limit(1)).scalar()
    return None if text is None else _CASE.decode(text)


def _change(
    connection: sa.Connection, platform: str, key: str, change: Callable[[CaseRow | None], CaseRow | None]
) -> CaseRow | None:
    before = _by_key(connection, platform, key)
    row = change(before)
    if row is None or row == before:
        return before
    values = {
        "platform": platform,
        "occurrence_id": key,
        "alarm_id": row.case.alarm_id,
        "number": None if row.number is None else clean(row.number, 100),
        "status": row.case.status.value,
        "opened_at": row.case.opened_at,
        "changed_at": row.changed_at,
        "closed_at": row.case.closed_at,
        "document": _JSON.encode(row).decode(),
    }
    statement = dialect.upsert(connection.dialect.name, schema.cases, key=("platform", "occurrence_id"))
    connection.execute(statement, values)
    return row


def _page(
    connection: sa.Connection,
    states: Sequence[CaseStatus],
    limit: int,
    cursor: str | None,
    scope: Scope,
    alarm_id: str | None,
) -> Page[CaseRow]:
    table = schema.cases
    statement = sa.select(table.c.document, table.c.opened_at, table.c.platform, table.c.occurrence_id)
    if alarm_id is not None:
        statement = statement.where(table.c.alarm_id == alarm_id)
    if states:
        statement = statement.where(table.c.status.in_([state.value for state in states]))
    if scope:
        asset = dialect.before_slash(connection.dialect.name, table.c.alarm_id)
        statement = statement.where(within(scope, asset))
    if cursor is not None:
        opened_at, platform, key = decode_cursor(cursor, (int, str, str))
        behind = sa.tuple_(table.c.platform, table.c.occurrence_id) > sa.tuple_(sa.literal(platform), sa.literal(key))
        statement = statement.where(
            sa.or_(table.c.opened_at < opened_at, sa.and_(table.c.opened_at == opened_at, behind))
        )
    statement = statement.order_by(table.c.opened_at.desc(), table.c.platform, table.c.occurrence_id)
    rows = connection.execute(statement.limit(limit + 1)).all()
    items = [_CASE.decode(row.document) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(items)
    last = rows[limit - 1]
    return Page(items, encode_cursor([last.opened_at, last.platform, last.occurrence_id]))


def _ticket(connection: sa.Connection, platform: str, number: str) -> TicketRow | None:
    table = schema.tickets
    statement = sa.select(table.c.id, table.c.document).where(table.c.platform == platform, table.c.number == number)
    row = connection.execute(statement).first()
    return None if row is None else _ticket_row(row)


def _ticket_row(row: Any) -> TicketRow:
    return msgspec.structs.replace(_TICKET.decode(row.document), id=row.id)


def _keep_ticket(connection: sa.Connection, row: TicketRow) -> TicketRow:
    values = {
        "platform": row.platform,
        "number": clean(row.number, 100),
        "at": row.at,
        "received_at": row.received_at,
        "class": clean(row.class_, 64),
        "status": clean(row.status, 32),
        "place": clean(row.place, 500),
        "text": clean(row.text, 2000),
        "longitude": row.longitude,
        "latitude": row.latitude,
        "alarm_id": row.alarm_id,
        "occurrence_id": row.occurrence_id,
        "document": _JSON.encode(row).decode(),
    }
    table = schema.tickets
    same = sa.and_(table.c.platform == row.platform, table.c.number == values["number"])
    known = connection.execute(sa.select(table.c.id).where(same)).scalar()
    if known is not None:
        connection.execute(sa.update(table).where(table.c.id == known), values)
        return msgspec.structs.replace(row, id=known)
    made = connection.execute(sa.insert(table).returning(table.c.id), values).scalar_one()
    return msgspec.structs.replace(row, id=made)


def _tickets(
    connection: sa.Connection, limit: int, cursor: str | None, scope: Scope, matched: bool | None
) -> Page[TicketRow]:
    table = schema.tickets
    statement = sa.select(table.c.id, table.c.at, table.c.document)
    if matched is not None:
        statement = statement.where(table.c.alarm_id.is_not(None) if matched else table.c.alarm_id.is_(None))
    if scope:
        asset = dialect.before_slash(connection.dialect.name, table.c.alarm_id)
        statement = statement.where(table.c.alarm_id.is_not(None), within(scope, asset))
    if cursor is not None:
        at, id_ = decode_cursor(cursor, (int, int))
        statement = statement.where(sa.or_(table.c.at < at, sa.and_(table.c.at == at, table.c.id < id_)))
    rows = connection.execute(statement.order_by(table.c.at.desc(), table.c.id.desc()).limit(limit + 1)).all()
    items = [_ticket_row(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, encode_cursor([rows[limit - 1].at, rows[limit - 1].id]) if more else None)


def _near(
    connection: sa.Connection, kinds: Sequence[str], rules: Sequence[str], since: Micros, limit: int
) -> list[AlarmRecord]:
    table = schema.alarms
    likes = [table.c.rule.like(_like(pattern), escape="\\") for pattern in rules]
    if not kinds and not likes:
        return []
    statement = (
        sa.select(table.c.record)
        .where(
            sa.or_(table.c.kind.in_(kinds), *likes),
            sa.or_(table.c.rank < NORMAL_RANK, table.c.changed_at >= since),
        )
        .order_by(table.c.changed_at.desc())
        .limit(limit)
    )
    return [_RECORD.decode(text) for text in connection.execute(statement).scalars()]


def _like(pattern: str) -> str:
    """``manhole-*`` as LIKE says it."""
    for sign in "\\%_":
        pattern = pattern.replace(sign, f"\\{sign}")
    return pattern.replace("*", "%").replace("?", "_")


def _steps(
    connection: sa.Connection,
    rules: Sequence[str],
    since: Micros,
    until: Micros,
    scope: Scope,
    after: tuple[str, int] | None,
    limit: int,
) -> list[Transition]:
    table, alarm = schema.transitions, schema.alarms
    statement = (
        sa.select(table.c.document)
        .join(alarm, alarm.c.alarm_id == table.c.alarm_id)
        .where(
            alarm.c.rule.in_(rules),
            table.c.cause.in_(sorted(CAUSES)),
            table.c.at >= since,
            table.c.at < until,
            within(scope, table.c.asset),
        )
    )
    if after is not None:
        alarm_id, rev = after
        same = sa.and_(table.c.alarm_id == alarm_id, table.c.rev > rev)
        statement = statement.where(table.c.alarm_id >= alarm_id, sa.or_(table.c.alarm_id > alarm_id, same))
    statement = statement.order_by(table.c.alarm_id, table.c.rev).limit(limit)
    return [_TRANSITION.decode(text) for text in connection.execute(statement).scalars()]
