"""What people at the desk ask and write down, beside the alarms themselves: the log book, shifts, notes, views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import sqlalchemy as sa

from gateway.core.model import Micros, Transition
from gateway.core.records import (
    EVERYWHERE,
    Entry,
    EntryFilter,
    HandoverRow,
    NoteRow,
    NotificationRow,
    OutboxFilter,
    Page,
    RejectedRow,
    SavedView,
    Scope,
)
from gateway.core.shift import ShiftLists
from gateway.store import logbook, notes, outbox, queries, schema, shifts

Result = TypeVar("Result")


class Transact(Protocol):
    """Runs something with a connection, in a transaction of its own, in a thread of the store's."""

    async def __call__(self, work: Callable[[sa.Connection], Result]) -> Result: ...


class Desk:
    """A part of ``Store``, which hands it its ways to read and to write; errors are those of the store's methods.
    ValueError for a cursor that is not of that list."""

    def __init__(self, read: Transact, write: Transact) -> None:
        self._read = read
        self._write = write

    async def entries(self, wanted: EntryFilter, limit: int, cursor: str | None = None) -> Page[Entry]:
        """The log book, newest first."""
        return await self._read(lambda c: logbook.entries(c, wanted, limit, cursor))

    async def notifications(
        self, wanted: OutboxFilter, limit: int, cursor: str | None = None, scope: Scope = EVERYWHERE
    ) -> Page[NotificationRow]:
        """What was, is and will be sent, newest first."""
        return await self._read(lambda c: outbox.page(c, wanted, limit, cursor, scope))

    # ------------------------------------------------------------------ shifts

    async def shift_lists(self, at: Micros, scope: Scope = EVERYWHERE) -> ShiftLists:
        """How the alarms stood just before ``at``."""
        return await self._read(lambda c: shifts.lists(c, at, scope))

    async def shelvings(self, alarm_ids: Sequence[str], before: Micros) -> dict[str, Transition]:
        """The newest step that shelved each of these alarms."""
        return await self._read(lambda c: shifts.shelvings(c, alarm_ids, before))

    async def add_handover(self, row: HandoverRow) -> HandoverRow:
        """Keep a report that the leaving shift has signed; gives it with its id."""
        return await self._write(lambda c: shifts.add(c, row))

    async def handovers(self, limit: int, cursor: str | None = None, scope: Scope = EVERYWHERE) -> Page[HandoverRow]:
        """Newest first, without the reports."""
        return await self._read(lambda c: shifts.handovers(c, scope, limit, cursor))

    async def handover(self, id_: int, scope: Scope = EVERYWHERE) -> HandoverRow | None:
        """One with its report; None when there is none within ``scope``."""
        return await self._read(lambda c: shifts.handover(c, id_, scope))

    async def take_handover(self, id_: int, by: str, at: Micros, words: str) -> bool:
        """The next shift signs; False when it is signed already, or when ``by`` is who left."""
        return await self._write(lambda c: shifts.take(c, id_, by, at, words))

    # ------------------------------------------------------------------ notes and views

    async def add_note(self, asset: str, at: Micros, who: str, text: str) -> NoteRow:
        return await self._write(lambda c: notes.add(c, asset, at, who, text))

    async def notes(self, asset: str, limit: int, cursor: str | None = None) -> Page[NoteRow]:
        """What was written about an asset, newest first."""
        return await self._read(lambda c: notes.of_asset(c, asset, limit, cursor))

    async def notes_between(
        self, since: Micros, until: Micros, limit: int, scope: Scope = EVERYWHERE
    ) -> tuple[int, list[NoteRow]]:
        """How many notes were written in a time, and the newest of them."""
        return await self._read(lambda c: notes.between(c, since, until, scope, limit))

    async def views(self, owner: str, page: str | None = None) -> list[SavedView]:
        """Somebody's views and the shared ones (owner "")."""
        return await self._read(lambda c: notes.views(c, owner, page))

    async def put_view(self, view: SavedView, most: int) -> bool:
        """Add or replace a view; False when its owner has ``most`` others."""
        return await self._write(lambda c: notes.put_view(c, view, most))

    async def delete_view(self, owner: str, page: str, name: str) -> bool:
        """False when there is none of that name."""
        return await self._write(lambda c: notes.delete_view(c, owner, page, name))

    # ------------------------------------------------------------------ devices

    async def asset_ids(self, kinds: Sequence[str], q: str | None, after: str, limit: int, scope: Scope) -> list[str]:
        """Ids behind ``after``, in order; ``q`` is searched in ids and names, of the assets and of their devices."""
        return await self._read(lambda c: queries.asset_ids(c, kinds, q, after, limit, scope))

    async def rejected_frame(self, position: int, index: int) -> RejectedRow | None:
        """One frame that became no readings, while it is kept."""
        return await self._read(lambda c: queries.rejected_frame(c, position, index))

    async def rejected_frames(
        self, device: str | None, code: str | None, limit: int, cursor: str | None = None, scope: Scope = EVERYWHERE
    ) -> Page[RejectedRow]:
        """Frames as they first came, not those that were offered again and rejected again; newest first."""
        return await self._read(lambda c: queries.rejected(c, device, limit, cursor, scope, code=code, first_only=True))

    async def configuration_since(self) -> Micros | None:
        """When the configuration in force was taken over."""
        table = schema.configurations
        statement = sa.select(table.c.saved_at).where(table.c.current)
        return await self._read(lambda c: c.execute(statement).scalar())
