"""What people write down for themselves and each other: notes about assets, and views of the console's pages."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.core.model import Micros
from gateway.core.records import NoteRow, Page, SavedView, Scope
from gateway.store import dialect, schema
from gateway.store.queries import decode_cursor, encode_cursor, within
from gateway.store.text import clean


def add(connection: sa.Connection, asset: str, at: Micros, who: str, text: str) -> NoteRow:
    table = schema.asset_notes
    who, text = clean(who, 200), clean(text, 2000)
    values = {"asset": asset, "at": at, "who": who, "text": text}
    made = connection.execute(sa.insert(table).returning(table.c.id), values).scalar_one()
    return NoteRow(made, asset, at, who, text)


def of_asset(connection: sa.Connection, asset: str, limit: int, cursor: str | None) -> Page[NoteRow]:
    """Newest first."""
    table = schema.asset_notes
    statement = sa.select(table).where(table.c.asset == asset).order_by(table.c.id.desc())
    if cursor is not None:
        statement = statement.where(table.c.id < decode_cursor(cursor, (int,))[0])
    rows = connection.execute(statement.limit(limit + 1)).all()
    items = [NoteRow(row.id, row.asset, row.at, row.who, row.text) for row in rows[:limit]]
    return Page(items, encode_cursor([items[-1].id]) if len(rows) > limit else None)


def between(
    connection: sa.Connection, since: Micros, until: Micros, scope: Scope, limit: int
) -> tuple[int, list[NoteRow]]:
    """How many were written with since ≤ at < until, and the newest of them."""
    table = schema.asset_notes
    wanted = (table.c.at >= since, table.c.at < until, within(scope, table.c.asset))
    total = connection.execute(sa.select(sa.func.count()).select_from(table).where(*wanted)).scalar_one()
    statement = sa.select(table).where(*wanted).order_by(table.c.id.desc()).limit(limit)
    rows = connection.execute(statement)
    return total, [NoteRow(row.id, row.asset, row.at, row.who, row.text) for row in rows]


# -- saved views ------------------------------------------------------------------------------------------------------


def views(connection: sa.Connection, owner: str, page: str | None) -> list[SavedView]:
    """Those of ``owner`` and the shared ones (owner ""), by page and name."""
    table = schema.saved_views
    statement = (
        sa.select(table).where(table.c.owner.in_((owner, ""))).order_by(table.c.page, table.c.name, table.c.owner)
    )
    if page is not None:
        statement = statement.where(table.c.page == page)
    return [
        SavedView(row.owner, row.page, row.name, row.query, row.changed_at) for row in connection.execute(statement)
    ]


def put_view(connection: sa.Connection, view: SavedView, most: int) -> bool:
    """Add or replace; False when the owner has ``most`` already."""
    table = schema.saved_views
    others = sa.select(sa.func.count()).select_from(table)
    others = others.where(table.c.owner == view.owner, ~sa.and_(table.c.page == view.page, table.c.name == view.name))
    if connection.execute(others).scalar_one() >= most:
        return False
    row = {
        "owner": view.owner,
        "page": view.page,
        "name": view.name,
        "query": view.query,
        "changed_at": view.changed_at,
    }
    connection.execute(dialect.upsert(connection.dialect.name, table, key=("owner", "page", "name")), row)
    return True


def delete_view(connection: sa.Connection, owner: str, page: str, name: str) -> bool:
    table = schema.saved_views
    gone = sa.delete(table).where(table.c.owner == owner, table.c.page == page, table.c.name == name)
    return bool(connection.execute(gone).rowcount)
