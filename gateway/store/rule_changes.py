"""Changes of rules made through the API: each is written down before the file is touched, and settled after.

intend   the row and an audit line "asked": from here on the change is made, if need be by the next start
settle   the file says what the row says; audit line "done"
drop     the file could not be written: the row goes, audit line with the reason
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from gateway.core.model import Micros
from gateway.core.records import EVERYWHERE, AuditRow, Page, RuleChangeRow, Scope
from gateway.store.desk import Transact
from gateway.store.queries import decode_cursor, encode_cursor, within
from gateway.store.schema import NORMAL_RANK, alarms, rule_changes, transitions
from gateway.store.text import clean

Audit = Callable[[sa.Connection, Sequence[tuple[str, AuditRow]]], None]

RAISES = ("T3", "T7", "T26")


class RuleChanges:
    """A part of ``Store``, which hands it its ways to read and to write, and to write audit lines."""

    def __init__(self, read: Transact, write: Transact, audit: Audit) -> None:
        self._read = read
        self._write = write
        self._audit = audit

    async def intend(self, row: RuleChangeRow, channel: str) -> RuleChangeRow:
        """Write down what is going to be done; gives the row with its id."""

        def write(connection: sa.Connection) -> RuleChangeRow:
            values = {
                "at": row.at,
                "who": clean(row.who, 200),
                "why": clean(row.why, 2000),
                "rule": row.rule,
                "before": row.before,
                "after": row.after,
                "undoes": row.undoes,
                "kept": row.kept,
                "settled": False,
            }
            made = connection.execute(sa.insert(rule_changes).returning(rule_changes.c.id), values).scalar_one()
            self._audit(connection, [_line(made, row, channel, row.at, "asked")])
            return RuleChangeRow(made, row.at, row.who, row.why, row.rule, row.before, row.after, row.undoes, row.kept)

        return await self._write(write)

    async def settle(self, row: RuleChangeRow, channel: str, at: Micros) -> None:
        """It has been done."""

        def write(connection: sa.Connection) -> None:
            this = rule_changes.c.id == row.id
            connection.execute(sa.update(rule_changes).where(this).values(settled=True))
            self._audit(connection, [_line(row.id, row, channel, at, "done")])

        await self._write(write)

    async def drop(self, row: RuleChangeRow, channel: str, at: Micros, outcome: str) -> None:
        """It could not be done: as if it had never been asked for, but in the audit."""

        def write(connection: sa.Connection) -> None:
            connection.execute(sa.delete(rule_changes).where(rule_changes.c.id == row.id))
            self._audit(connection, [_line(row.id, row, channel, at, outcome)])

        await self._write(write)

    async def unsettled(self) -> list[RuleChangeRow]:
        """What a dead process left undone, oldest first."""
        statement = sa.select(rule_changes).where(~rule_changes.c.settled).order_by(rule_changes.c.id)
        return await self._read(lambda c: [_row(row) for row in c.execute(statement)])

    async def page(self, rule: str | None, limit: int, cursor: str | None = None) -> Page[RuleChangeRow]:
        """Newest first, of one rule or of all. ValueError for a cursor that is not of this list."""

        def read(connection: sa.Connection) -> Page[RuleChangeRow]:
            statement = sa.select(rule_changes).where(rule_changes.c.settled).order_by(rule_changes.c.id.desc())
            if rule is not None:
                statement = statement.where(rule_changes.c.rule == rule)
            if cursor is not None:
                statement = statement.where(rule_changes.c.id < decode_cursor(cursor, (int,))[0])
            rows = connection.execute(statement.limit(limit + 1)).all()
            items = [_row(row) for row in rows[:limit]]
            return Page(items, encode_cursor([items[-1].id]) if len(rows) > limit else None)

        return await self._read(read)

    async def one(self, id_: int) -> RuleChangeRow | None:
        statement = sa.select(rule_changes).where(rule_changes.c.id == id_, rule_changes.c.settled)

        def read(connection: sa.Connection) -> RuleChangeRow | None:
            row = connection.execute(statement).first()
            return None if row is None else _row(row)

        return await self._read(read)

    async def newest(self) -> dict[str, tuple[RuleChangeRow, int]]:
        """For each rule that was ever changed: its newest change, and how many there were."""
        table = rule_changes
        last = sa.select(sa.func.max(table.c.id).label("id"), sa.func.count().label("changes"))
        grouped = last.where(table.c.settled).group_by(table.c.rule).subquery()
        statement = sa.select(table, grouped.c.changes).join(grouped, table.c.id == grouped.c.id)
        return await self._read(lambda c: {row.rule: (_row(row), row.changes) for row in c.execute(statement)})

    async def activity(self, since: Micros, scope: Scope = EVERYWHERE) -> dict[str, tuple[int, int]]:
        """By rule: alarms that stand now, and raises since then, on assets within ``scope``."""

        def read(connection: sa.Connection) -> dict[str, tuple[int, int]]:
            rule = alarms.c.rule
            standing = sa.select(rule, sa.func.count()).where(alarms.c.rank < NORMAL_RANK).group_by(rule)
            if scope:
                standing = standing.where(within(scope, alarms.c.asset))
            found = {str(name): (int(count), 0) for name, count in connection.execute(standing)}
            # `asset/rule`, and an asset's id has no slash
            of = sa.func.substr(transitions.c.alarm_id, sa.func.length(transitions.c.asset) + 2).label("rule")
            raised = sa.select(of, sa.func.count()).where(transitions.c.at >= since, transitions.c.cause.in_(RAISES))
            if scope:
                raised = raised.where(within(scope, transitions.c.asset))
            for name, count in connection.execute(raised.group_by(of)):
                found[str(name)] = (found.get(str(name), (0, 0))[0], int(count))
            return found

        return await self._read(read)


def _line(id_: int, row: RuleChangeRow, channel: str, at: Micros, outcome: str) -> tuple[str, AuditRow]:
    action = "change-rule" if row.after is not None else "remove-rule"
    once = f"rule-change:{id_}:{row.at}:{outcome}"  # an id may come again when its row was dropped
    return once, AuditRow(0, at, row.who, channel, action, row.rule, outcome, row.why)


def _row(row: sa.Row[tuple[object, ...]]) -> RuleChangeRow:
    return RuleChangeRow(row.id, row.at, row.who, row.why, row.rule, row.before, row.after, row.undoes, row.kept)
