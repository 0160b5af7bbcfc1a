"""The outbox's rows: claim, mark, when next. The order per alarm and receiver is kept here, by the claim."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from gateway.core.model import Level, Micros, Transition
from gateway.core.records import NotificationRow, OutboxOutcome, OutboxRow, OutboxState, Page, Scope
from gateway.store.queries import decode_cursor, encode_cursor, within
from gateway.store.schema import OPEN, outbox, transitions

_TRANSITION = msgspec.json.Decoder(Transition)

_earlier = outbox.alias("earlier")
_IS_OPEN = outbox.c.state.in_(OPEN)
_IS_FIRST = ~sa.exists().where(
    _earlier.c.receiver == outbox.c.receiver,
    _earlier.c.alarm_id == outbox.c.alarm_id,
    _earlier.c.rev < outbox.c.rev,
    _earlier.c.state.in_(OPEN),
)


def claim(connection: sa.Connection, receiver: str, now: Micros, lease: Micros, limit: int) -> list[OutboxRow]:
    statement = (
        sa.select(outbox.c.id, outbox.c.receiver, outbox.c.attempts, outbox.c.created_at, transitions.c.document)
        .join(transitions, sa.and_(transitions.c.alarm_id == outbox.c.alarm_id, transitions.c.rev == outbox.c.rev))
        .where(outbox.c.receiver == receiver, _IS_OPEN, outbox.c.due_at <= now, _IS_FIRST)
        .order_by(outbox.c.level, outbox.c.id)
        .limit(limit)
    )
    rows = [
        OutboxRow(row.id, row.receiver, row.attempts + 1, row.created_at, _TRANSITION.decode(row.document))
        for row in connection.execute(statement)
    ]
    if rows:
        connection.execute(
            sa.update(outbox)
            .where(outbox.c.id.in_([row.id for row in rows]))
            .values(state=OutboxState.SENDING.value, attempts=outbox.c.attempts + 1, due_at=now + lease)
        )
    return rows


def mark(connection: sa.Connection, outcomes: Sequence[OutboxOutcome]) -> None:
    if not outcomes:
        return
    ended = {OutboxState.DELIVERED, OutboxState.FAILED}
    connection.execute(
        sa.update(outbox)
        .where(outbox.c.id == sa.bindparam("which"))
        .values(
            state=sa.bindparam("to_state"),
            due_at=sa.bindparam("then"),
            ended_at=sa.bindparam("ended"),
            error=sa.bindparam("why"),
        ),
        [
            {
                "which": outcome.id,
                "to_state": outcome.state.value,
                "then": outcome.due_at,
                "ended": outcome.at if outcome.state in ended else None,
                "why": None if outcome.error is None else outcome.error[:500],
            }
            for outcome in outcomes
        ],
    )


def next_due(connection: sa.Connection, receiver: str) -> Micros | None:
    statement = sa.select(sa.func.min(outbox.c.due_at)).where(outbox.c.receiver == receiver, _IS_OPEN, _IS_FIRST)
    due: Micros | None = connection.execute(statement).scalar()
    return due


def unclaim(connection: sa.Connection) -> int:
    result = connection.execute(
        sa.update(outbox)
        .where(outbox.c.state == OutboxState.SENDING.value)
        .values(state=OutboxState.PENDING.value, due_at=outbox.c.created_at)
    )
    return int(result.rowcount)


def rows(connection: sa.Connection, state: OutboxState, limit: int) -> list[tuple[str, str | None]]:
    statement = (
        sa.select(outbox.c.alarm_id, outbox.c.rev, outbox.c.receiver, outbox.c.error)
        .where(outbox.c.state == state.value)
        .order_by(outbox.c.id.desc())
        .limit(limit)
    )
    return [(f"{row.alarm_id}/{row.rev}/{row.receiver}", row.error) for row in connection.execute(statement)]


def page(
    connection: sa.Connection, state: OutboxState | None, limit: int, cursor: str | None, scope: Scope
) -> Page[NotificationRow]:
    """Notifications for people to look at, newest first; pending ones also while they are being sent."""
    statement = (
        sa.select(outbox, transitions.c.document)
        .join(transitions, sa.and_(transitions.c.alarm_id == outbox.c.alarm_id, transitions.c.rev == outbox.c.rev))
        .order_by(outbox.c.id.desc())
    )
    match state:
        case None:
            pass
        case OutboxState.FAILED:
            # Said as the index says it: a bound value would not be known to fit.
            statement = statement.where(outbox.c.state == sa.literal_column(f"'{OutboxState.FAILED.value}'"))
        case OutboxState.PENDING | OutboxState.SENDING:
            statement = statement.where(_IS_OPEN)
        case OutboxState.DELIVERED:
            statement = statement.where(outbox.c.state == state.value)
    if scope:
        statement = statement.where(within(scope, transitions.c.asset))
    if cursor is not None:
        statement = statement.where(outbox.c.id < decode_cursor(cursor, (int,))[0])
    found = connection.execute(statement.limit(limit + 1)).all()
    items = [
        NotificationRow(
            row.id,
            OutboxState(row.state),
            row.receiver,
            Level(row.level),
            row.attempts,
            row.created_at,
            row.due_at,
            row.ended_at,
            row.error,
            _TRANSITION.decode(row.document),
        )
        for row in found[:limit]
    ]
    return Page(items, encode_cursor([items[-1].id]) if len(found) > limit else None)
