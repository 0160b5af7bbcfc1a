"""Path tests and how they ended, for three months."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.core.model import HOUR, Micros
from gateway.core.records import CanaryOutcome, CanaryRow, Page
from gateway.store import dialect, schema
from gateway.store.queries import decode_cursor, encode_cursor

KEEP: Micros = 90 * 24 * HOUR

Result = TypeVar("Result")


class _Run(Protocol):
    def __call__(self, work: Callable[[sa.Connection], Result]) -> Awaitable[Result]: ...


class Canaries:
    """``read`` and ``write`` are the store's."""

    def __init__(self, read: _Run, write: _Run) -> None:
        self._read = read
        self._write = write

    async def put(self, row: CanaryRow) -> None:
        """Write one down, or how it ended after all; the oldest go."""
        table = schema.canaries
        values = {
            "id": row.id,
            "at": row.at,
            "outcome": row.outcome.value,
            "hops": msgspec.json.encode(row.hops).decode(),
        }

        def write(connection: sa.Connection) -> None:
            connection.execute(dialect.upsert(connection.dialect.name, table, key=("id",)), values)
            connection.execute(sa.delete(table).where(table.c.at < row.at - KEEP))

        await self._write(write)

    async def newest(self, limit: int, cursor: str | None = None) -> Page[CanaryRow]:
        """Newest first. ValueError for a cursor that is not ours."""
        table = schema.canaries
        statement = sa.select(table).order_by(table.c.at.desc())
        if cursor is not None:
            statement = statement.where(table.c.at < decode_cursor(cursor, (int,))[0])

        def read(connection: sa.Connection) -> Page[CanaryRow]:
            rows = connection.execute(statement.limit(limit + 1)).all()
            items = [
                CanaryRow(r.id, r.at, CanaryOutcome(r.outcome), msgspec.json.decode(r.hops, type=dict[str, float]))
                for r in rows[:limit]
            ]
            return Page(items, encode_cursor([items[-1].at]) if len(rows) > limit else None)

        return await self._read(read)
