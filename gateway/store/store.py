"""The gateway's memory of decisions: alarms, transitions, outbox, assets and audit, true up to one journal position.

One connection writes, in one thread: ``commit`` puts everything that follows from a stretch of the journal into *one*
transaction together with the position, so a crash between any two instructions changes nothing a user can see. Reads go
through a small pool of other connections and never wait for the writer (WAL).

Committing the same events again changes nothing: every row has a key that comes from the event itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from gateway import sabotage
from gateway.core.model import (
    AlarmRecord,
    Asset,
    Device,
    Event,
    Level,
    Micros,
    Transition,
)
from gateway.core.records import (
    EVERYWHERE,
    MAX_PAGE,
    AlarmFilter,
    AssetFilter,
    AssetRow,
    AuditRow,
    CommandRow,
    Identity,
    Known,
    OutboxOutcome,
    OutboxRow,
    OutboxState,
    Page,
    RejectedRow,
    Role,
    Scope,
    SentRow,
    StrangerRow,
    TokenRow,
)
from gateway.errors import StorageFailed, Unavailable
from gateway.store import access, dialect, migrate, outbox, queries
from gateway.store.canaries import Canaries
from gateway.store.cases import Cases
from gateway.store.desk import Desk
from gateway.store.figures import Figures
from gateway.store.people import People
from gateway.store.rejected import RejectedRing
from gateway.store.rule_changes import RuleChanges
from gateway.store.schema import configurations, progress
from gateway.store.work import Work
from gateway.store.writer import EventWriter

Result = TypeVar("Result")

Receivers = Callable[[Transition], Iterable[str]]
"""Names of the receivers that must be told of a transition whose ``notify`` is set."""

POSITION = "position"


class Store:
    """Open with ``await Store.open(folder)``; close with ``await store.close()``.

    Every method raises StorageFailed when the disk or the database fails; after a failed *write* every later write
    raises too, because what is on the disk is then unknown until it is opened again. A query that takes too long raises
    Unavailable.
    """

    def __init__(
        self,
        url: sa.URL,
        receivers: Receivers | None,
        for_simulated: frozenset[str],
        rejected_bytes: int,
        rejected_bytes_device: int,
    ) -> None:
        self.receivers: Receivers = receivers or (lambda transition: ())
        self._for_simulated = for_simulated
        self._url = url
        self._writing = ThreadPoolExecutor(1, "store-writer")
        self._reading = ThreadPoolExecutor(dialect.READERS, "store-reader")
        self._rejected = RejectedRing(rejected_bytes, rejected_bytes_device)
        self._position = 0
        self._failed: StorageFailed | None = None
        self._configuration: str | None = None
        self.schema_before: str | None = None
        self.people = People(self._read, self._write)
        self.desk = Desk(self._read, self._write)
        self.figures = Figures(self._read)
        self.canaries = Canaries(self._read, self._write)
        self.work = Work(self._read, self._write)
        self.cases = Cases(self._read, self._write)
        self.rule_changes = RuleChanges(self._read, self._write, lambda c, lines: self._events.audit(c, lines))

    @classmethod
    async def open(
        cls,
        place: Path | str,
        *,
        receivers: Receivers | None = None,
        for_simulated: frozenset[str] = frozenset(),
        rejected_bytes: int = 64 << 20,
        rejected_bytes_device: int = 2 << 20,
        beside: bool = False,
    ) -> Store:
        """Open or create the store in a data folder, or at a database URL; checks the file and runs migrations.

        ``receivers`` may be replaced at any time (attribute). ``for_simulated``: the only ones that are ever told of
        simulated assets, whatever ``receivers`` says. ``rejected_bytes``: budget for rejected frames in all,
        ``rejected_bytes_device`` for those of one device, so that one noisy sensor cannot push out all other evidence.
        ``beside``: another process is at home in this store, and a short work is done beside it: nothing is checked or
        upgraded. Raises ConfigError for a schema newer than this program (``beside``: for any other), StorageFailed for
        a damaged file.
        """
        store = cls(dialect.url_of(place), receivers, for_simulated, rejected_bytes, rejected_bytes_device)
        try:
            await store._in_writer(store._open_beside if beside else store._open)
        except BaseException:
            store.people.close()
            store._writing.shutdown(wait=False)
            store._reading.shutdown(wait=False)
            raise
        return store

    def _open(self) -> None:
        dialect.private(self._url)
        self._connect()
        with self._writer.connect() as connection:
            dialect.check(connection)
        self.schema_before = migrate.upgrade(self._writer)
        self._prepare()

    def _open_beside(self) -> None:
        self._connect()
        migrate.must_be_current(self._writer)
        self._prepare()

    def _connect(self) -> None:
        synchronous = "OFF" if sabotage.SYNCHRONOUS_OFF else "FULL"
        self._writer = dialect.writer_engine(self._url, synchronous)
        self._readers = dialect.reader_engine(self._url)

    def _prepare(self) -> None:
        kind = self._writer.dialect.name
        self._events = EventWriter(kind, self._rejected)
        # Made once: building one of these costs more than running it.
        self._exactly = dialect.upsert(kind, progress, key=("name",))
        self._forward = dialect.upsert(
            kind, progress, key=("name",), where=lambda excluded: excluded.position > progress.c.position
        )
        with self._writer.connect() as connection:
            self._position = _progress(connection, POSITION)
            self._rejected.load(connection)
            self._configuration = connection.execute(
                sa.select(configurations.c.hash).where(configurations.c.current)
            ).scalar()

    async def close(self) -> None:
        """Ends what is running, then closes every connection."""

        def close() -> None:
            self._readers.dispose()
            self._writer.dispose()

        self.people.close()
        await asyncio.get_running_loop().run_in_executor(self._writing, close)
        self._writing.shutdown()
        self._reading.shutdown()

    # ------------------------------------------------------------------ the one path

    @property
    def position(self) -> int:
        """The journal position up to which everything here is true; 0 in an empty store."""
        return self._position

    async def commit(self, position: int, events: Sequence[Event]) -> None:
        """Store ``events``, which follow from the journal up to ``position``, and the position, all or nothing."""
        receivers = self.receivers
        if sabotage.OUTBOX_AFTER_STATE:  # on purpose wrong: the campaign must notice
            await self._write(lambda c: self._advance(c, position, events, lambda transition: ()))
            await asyncio.sleep(0.02)  # wide enough for the campaign's kills to fall into
        await self._write(lambda c: self._advance(c, position, events, receivers))
        self._position = max(self._position, position)

    def _advance(self, connection: sa.Connection, position: int, events: Sequence[Event], receivers: Receivers) -> None:
        self._events.write(connection, position, events, receivers, self._for_simulated)
        connection.execute(self._forward, {"name": POSITION, "position": position})

    # ------------------------------------------------------------------ alarms, assets, evidence

    async def alarms(self, wanted: AlarmFilter, limit: int, cursor: str | None = None) -> Page[AlarmRecord]:
        """Alarms, worst and newest first, the normal ones last. ValueError for a cursor that is not ours."""
        return await self._read(lambda c: queries.alarms(c, wanted, limit, cursor))

    async def alarm(self, alarm_id: str) -> AlarmRecord | None:
        return await self._read(lambda c: queries.alarm(c, alarm_id))

    async def standing(self, limit: int, scope: Scope = EVERYWHERE) -> list[AlarmRecord]:
        """Every alarm that is not NORM, worst and newest first: what a browser is shown at connect."""
        return await self._read(lambda c: queries.standing(c, limit, scope))

    async def history(self, alarm_id: str, limit: int, cursor: str | None = None) -> Page[Transition]:
        """Transitions of one alarm, newest first."""
        return await self._read(lambda c: queries.history(c, alarm_id, limit, cursor))

    async def transitions(self, after: int, limit: int) -> list[tuple[int, Transition]]:
        """(position, transition) of all alarms behind journal position ``after``, in order of the journal."""
        return await self._read(lambda c: queries.transitions(c, after, limit))

    async def transitions_between(
        self, since: Micros, until: Micros, limit: int, scope: Scope = EVERYWHERE
    ) -> list[Transition]:
        """Steps with since ≤ at < until in their order, the first ``limit``."""
        return await self._read(lambda c: queries.transitions_between(c, since, until, limit, scope))

    async def assets(self, wanted: AssetFilter, limit: int, cursor: str | None = None) -> Page[AssetRow]:
        """Assets by id."""
        return await self._read(lambda c: queries.assets(c, wanted, limit, cursor))

    async def asset(self, asset_id: str) -> AssetRow | None:
        return await self._read(lambda c: queries.asset(c, asset_id))

    async def devices(
        self,
        asset: str | None,
        limit: int,
        cursor: str | None = None,
        scope: Scope = EVERYWHERE,
        q: str | None = None,
        profile: str | None = None,
    ) -> Page[Device]:
        """Devices by id; those of one asset, of one profile, with ``q`` in id, address or asset where it is given."""
        return await self._read(lambda c: queries.devices(c, asset, limit, cursor, scope, q, profile))

    async def everything(self) -> tuple[list[Asset], list[Device]]:
        """All assets and devices, for a start without a snapshot."""
        return await self._read(queries.everything)

    async def known(self) -> Known:
        """The state as far as the store has it."""
        assets, devices = await self.everything()
        alarms: list[AlarmRecord] = []
        page = await self.alarms(AlarmFilter(), MAX_PAGE)
        while True:
            alarms += page.items
            if page.cursor is None:
                return Known(self._configuration, assets, devices, alarms, await self.work.open_maintenance())
            page = await self.alarms(AlarmFilter(), MAX_PAGE, page.cursor)

    async def rejected(
        self, device: str | None, limit: int, cursor: str | None = None, scope: Scope = EVERYWHERE
    ) -> Page[RejectedRow]:
        """Rejected frames, newest first. Those of no registered device are outside every scope that narrows."""
        return await self._read(lambda c: queries.rejected(c, device, limit, cursor, scope))

    async def strangers(self, limit: int) -> list[StrangerRow]:
        """Devices that speak and are not registered, as far as their frames are kept; the newest first."""
        return await self._read(lambda c: queries.strangers(c, limit))

    async def audit(self, limit: int, cursor: str | None = None) -> Page[AuditRow]:
        """Audit lines, newest first."""
        return await self._read(lambda c: queries.audit(c, limit, cursor))

    async def add_audit(self, once: str, row: AuditRow) -> None:
        """Write a line (``row.id`` is ignored); a line with the same ``once`` is written only once."""
        await self._write(lambda c: self._events.audit(c, [(once, row)]))

    async def command(self, command_id: str) -> CommandRow | None:
        """A command that was already carried out or refused."""
        return await self._read(lambda c: queries.command(c, command_id))

    async def counts(self) -> dict[str, dict[str, int]]:
        """For health and metrics: alarms by ISA state, standing alarms by level, outbox rows by state."""
        return await self._read(queries.counts)

    # ------------------------------------------------------------------ outbox

    async def claim(self, receiver: str, now: Micros, lease: Micros, limit: int) -> list[OutboxRow]:
        """Take up to ``limit`` due notifications of a receiver for ``lease``: worst level first, at most one a
        thread (of a machine: an alarm), and never one whose predecessor in its thread is still open."""
        return await self._write(lambda c: outbox.claim(c, receiver, now, lease, limit))

    async def mark(self, outcomes: Sequence[OutboxOutcome]) -> None:
        """Write down how attempts ended."""
        await self._write(lambda c: outbox.mark(c, outcomes))

    async def next_due(self, receiver: str) -> Micros | None:
        """When the earliest open notification of a receiver may be tried; None when none is open."""
        return await self._read(lambda c: outbox.next_due(c, receiver))

    async def unclaim(self) -> int:
        """At start: attempts that a dead process left in the air become pending again. Returns how many."""
        return await self._write(outbox.unclaim)

    async def rehome(self, known: Collection[str], at: Micros) -> tuple[int, list[tuple[str, Level]]]:
        """At start: what waits at receivers that are not among ``known`` moves to another channel of its person or is
        given up. How many moved; key and level of those given up."""
        return await self._write(lambda c: outbox.rehome(c, known, at))

    async def sent(self, row: int) -> SentRow | None:
        """The message in this row of the outbox; None when there is none, or it is no message."""
        return await self._read(lambda c: outbox.sent(c, row))

    async def sent_to(self, recipient: str, since: Micros, limit: int) -> list[SentRow]:
        """The newest messages to a person since a time."""
        return await self._read(lambda c: outbox.sent_to(c, recipient, since, limit))

    async def outbox_rows(self, state: OutboxState, limit: int) -> list[tuple[str, str | None]]:
        """(idempotency key, last error) of notifications in one state, newest first."""
        return await self._read(lambda c: outbox.rows(c, state, limit))

    # ------------------------------------------------------------------ configuration, cursors, access

    @property
    def current_config_hash(self) -> str | None:
        """The hash given to the last ``save_config``."""
        return self._configuration

    async def save_config(self, hash: str, bundle: str, at: Micros) -> None:
        """Keep a configuration bundle (JSON) under its hash and make it the current one."""

        def write(connection: sa.Connection) -> None:
            connection.execute(sa.update(configurations).where(configurations.c.current).values(current=False))
            row = {"hash": hash, "bundle": bundle, "saved_at": at, "current": True}
            connection.execute(dialect.upsert(self._writer.dialect.name, configurations, key=("hash",)), row)

        await self._write(write)
        self._configuration = hash

    async def config(self, hash: str) -> str | None:
        """The bundle with this hash."""
        statement = sa.select(configurations.c.bundle).where(configurations.c.hash == hash)
        return await self._read(lambda c: c.execute(statement).scalar())

    async def cursor(self, name: str) -> int:
        """A follower's own position; 0 when it has none yet."""
        return await self._read(lambda c: _progress(c, f"cursor:{name}"))

    async def set_cursor(self, name: str, position: int) -> None:
        row = {"name": f"cursor:{name}", "position": position}
        await self._write(lambda c: c.execute(self._exactly, row))

    async def create_token(
        self, name: str, role: Role, at: Micros, expires_at: Micros | None = None, scope: Scope = EVERYWHERE
    ) -> str:
        """A new bearer token, returned this once and never again. ValueError when the name is taken or not a name."""
        return await self._write(lambda c: access.create_token(c, name, role, at, expires_at, scope))

    async def first_token(self, at: Micros) -> str | None:
        """An administrator's token if there is neither one that can be used nor an administrator, else None."""
        return await self._write(lambda c: access.first_token(c, at))

    async def tokens(self) -> list[TokenRow]:
        return await self._read(access.tokens_of)

    async def revoke_token(self, name: str, at: Micros) -> bool:
        """The token and its sessions end now; False when there is none of that name. CommandRefused (last_admin) when
        nobody would be left who may change users and tokens."""
        return await self._write(lambda c: access.revoke_token(c, name, at))

    async def token(self, secret: str, now: Micros) -> TokenRow | None:
        """Whose token this is; None when unknown, expired or revoked."""
        return await self._read(lambda c: access.token(c, secret, now))

    async def create_session(self, secret: str, now: Micros, lasts: Micros) -> str | None:
        """A new session id for the owner of a token, None when the token is not good."""
        return await self._write(lambda c: access.create_token_session(c, secret, now, lasts))

    async def session(self, session_id: str, now: Micros) -> Identity | None:
        """Whose session this is; None when unknown, over, long unused, or what it was given for is not good any
        more. To ask is to use it."""
        found = await self._read(lambda c: access.session(c, session_id, now))
        if found is None:
            return None
        identity, write_down = found
        if write_down:
            await self._write(lambda c: access.seen(c, session_id, now))
        return identity

    async def end_session(self, session_id: str) -> None:
        await self._write(lambda c: access.end_session(c, session_id))

    # ------------------------------------------------------------------ how

    async def _write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run ``work`` in one transaction in the writer's thread."""

        def run() -> Result:
            if self._failed is not None:
                raise StorageFailed(f"the store failed before: {self._failed}") from self._failed
            try:
                with self._writer.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                self._failed = _failure("write", error)
                self._rejected.forget()
                raise self._failed from error

        return await self._in_writer(run)

    async def _in_writer(self, run: Callable[[], Result]) -> Result:
        """``run`` in the writer's thread; not abandoned when the caller is cancelled, so positions stay in order."""
        future = asyncio.get_running_loop().run_in_executor(self._writing, _translated, run)
        return await asyncio.shield(future)

    async def _read(self, work: Callable[[sa.Connection], Result]) -> Result:
        def run() -> Result:
            try:
                with self._readers.connect() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if dialect.is_timeout(error):
                    raise Unavailable(f"the query took longer than {dialect.READ_TIME_S:g} s") from error
                raise _failure("read", error) from error

        return await asyncio.get_running_loop().run_in_executor(self._reading, run)


def _translated(run: Callable[[], Result]) -> Result:
    try:
        return run()
    except SQLAlchemyError as error:
        raise _failure("open", error) from error
    except OSError as error:
        raise StorageFailed(f"the store cannot be opened: {error}") from error


def _failure(what: str, error: Exception) -> StorageFailed:
    cause = error.__cause__ or error
    return StorageFailed(f"the store failed to {what}: {cause}", disk_full=dialect.is_disk_full(error))


def _progress(connection: sa.Connection, name: str) -> int:
    return connection.execute(sa.select(progress.c.position).where(progress.c.name == name)).scalar() or 0
