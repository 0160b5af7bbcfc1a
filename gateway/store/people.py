"""People who sign in: users with their roles, scopes and passwords.

Passwords are hashed with argon2id, off the loop and never more than two at once: guessing costs the guesser time, and
the gateway nothing it needs. Whoever asks for a user that is not there waits as long as for one who is.

Rules that hold whoever asks (a route, the command line): a name is one somebody's, token or user; a weak password is
not taken; somebody who may change tokens and users is always left; what somebody was allowed before a change ends with
it, because their sessions do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.core.model import Micros
from gateway.core.passwords import LONGEST, normal_name, normal_password, weakness
from gateway.core.records import EVERYWHERE, Page, Role, Scope, UserChange, UserRow
from gateway.errors import CommandRefused, Unavailable
from gateway.store import access
from gateway.store.queries import decode_cursor, encode_cursor
from gateway.store.schema import users

Result = TypeVar("Result")

# Above what OWASP's cheat sheet asks for (19 MiB, t=2, p=1). One thread each, because the other core decides alarms.
TIME_COST, MEMORY_KIB, PARALLELISM = 3, 32 << 10, 1  # 60-90 ms on the cores this was written on
AT_ONCE = 2
WAITING = 40  # sign-ins that may wait for their turn: two seconds' worth
NICENESS = 10  # of the threads: guessing must not delay an alarm

MAX_FULL_NAME = 100


class Runner(Protocol):
    """``Store._read`` and ``Store._write``."""

    def __call__(self, work: Callable[[sa.Connection], Result], /) -> Awaitable[Result]: ...


class People:
    """``Store.people``. Raises CommandRefused with the codes exists, invalid, weak_password, not_found, last_admin,
    signs_in_elsewhere."""

    def __init__(self, read: Runner, write: Runner) -> None:
        self._read = read
        self._write = write
        self._passwords = _Passwords()

    def close(self) -> None:
        self._passwords.close()

    async def users(self, limit: int, cursor: str | None = None) -> Page[UserRow]:
        """Users by name. ValueError for a cursor that is not ours."""
        return await self._read(lambda c: _users(c, limit, cursor))

    async def user(self, name: str) -> UserRow | None:
        return await self._read(lambda c: _user(c, users.c.name == normal_name(name)))

    async def user_of(self, subject: str) -> UserRow | None:
        """Who it is that an OIDC provider calls ``subject`` ("<issuer> <sub>")."""
        return await self._read(lambda c: _user(c, users.c.subject == subject))

    async def create(
        self,
        name: str,
        role: Role,
        at: Micros,
        *,
        full_name: str = "",
        scope: Scope = EVERYWHERE,
        password: str | None = None,
        must_change: bool = False,
        subject: str | None = None,
    ) -> UserRow:
        """A new user, with a password or with the ``subject`` of somebody who signs in elsewhere."""
        assert (password is None) is not (subject is None), "one way to sign in"
        name, full_name = normal_name(name), full_name.strip()
        if not access.is_name(name):
            raise CommandRefused(
                "invalid", "a user's name is 1 to 64 letters, digits, or . _ @ -, and begins with a letter or digit"
            )
        _check_full_name(full_name)
        hashed = None if password is None else await self._hashed(password, name, full_name)
        row = {
            "name": name,
            "full_name": full_name,
            "role": int(role),
            "scope": access.scope_json(scope),
            "password": hashed,
            "must_change": must_change,
            "subject": subject,
            "created_at": at,
            "changed_at": at,
        }

        def write(connection: sa.Connection) -> UserRow:
            if (taken := access.taken_by(connection, name)) is not None:
                raise CommandRefused("exists", f"there is already a {taken} named {name}")
            if subject is not None and _user(connection, users.c.subject == subject) is not None:
                raise CommandRefused("exists", "this person has a user already")
            connection.execute(sa.insert(users), row)
            return _found(connection, name)

        return await self._write(write)

    async def change(self, name: str, change: UserChange, at: Micros) -> UserRow:
        """``change`` in force: sessions end when it is about more than what the user is called."""
        name = normal_name(name)
        if change.full_name is not None:
            _check_full_name(change.full_name.strip())

        def write(connection: sa.Connection) -> UserRow:
            before = _found(connection, name)
            values: dict[str, Any] = {}
            if change.full_name is not None:
                values["full_name"] = change.full_name.strip()
            if change.role is not None and change.role is not before.role:
                values["role"] = int(change.role)
            if change.scope is not None and change.scope != before.scope:
                values["scope"] = access.scope_json(change.scope)
            if change.disabled is not None and change.disabled is (before.disabled_at is None):
                values["disabled_at"] = at if change.disabled else None
            if values.keys() - {"full_name"}:
                values["changed_at"] = max(at, before.changed_at)
                access.end_sessions_of(connection, name)
            if values:
                had = access.has_admin(connection, at)
                connection.execute(sa.update(users).where(users.c.name == name).values(values))
                if had and not access.has_admin(connection, at):
                    raise CommandRefused("last_admin", f"{name} is the last who may change users and tokens")
            return _found(connection, name)

        return await self._write(write)

    async def set_password(self, name: str, password: str, at: Micros, *, must_change: bool) -> UserRow:
        """A new password; every session of the user ends."""
        name = normal_name(name)
        row = await self.user(name)
        if row is None:
            raise CommandRefused("not_found", f"there is no user {name!r}")
        if row.subject is not None:
            raise CommandRefused("signs_in_elsewhere", f"{name} signs in elsewhere and has no password here")
        hashed = await self._hashed(password, name, row.full_name)

        def write(connection: sa.Connection) -> UserRow:
            before = _found(connection, name)
            values = {"password": hashed, "must_change": must_change, "changed_at": max(at, before.changed_at)}
            connection.execute(sa.update(users).where(users.c.name == name).values(values))
            access.end_sessions_of(connection, name)
            return _found(connection, name)

        return await self._write(write)

    async def verified(self, name: str, password: str) -> UserRow | None:
        """The user of this name if the password is theirs and they may sign in; None takes as long to say."""
        name = normal_name(name)
        found = await self._read(lambda c: c.execute(sa.select(users).where(users.c.name == name)).first())
        kept: str | None = found.password if found is not None else None
        right, fresh = await self._passwords.verify(kept, password)
        if not right or found is None or found.disabled_at is not None:
            return None
        if fresh is not None:
            renewed = sa.update(users).where(users.c.name == name, users.c.password == kept).values(password=fresh)
            await self._write(lambda c: c.execute(renewed))
        return _row(found)  # as they were when the password was looked at: ``begin_session`` compares

    async def begin_session(self, user: UserRow, now: Micros, lasts: Micros) -> str | None:
        """A new session id for ``user`` as they were when verified; None when they have been changed since."""
        return await self._write(lambda c: access.create_user_session(c, user.name, user.changed_at, now, lasts))

    async def _hashed(self, password: str, *names: str) -> str:
        if (why := weakness(password, *names)) is not None:
            raise CommandRefused("weak_password", why)
        return await self._passwords.hash(password)


class _Passwords:
    """argon2id in threads of its own."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords", initializer=_stand_back)
        self._waiting = 0
        self._nobodys: str | None = None
        self._once = threading.Lock()

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._hasher.hash(normal_password(password)))

    async def verify(self, kept: str | None, password: str) -> tuple[bool, str | None]:
        """Whether ``password`` is the one that was ``kept``, and how it is to be kept from now on when the parameters
        have changed. Without ``kept`` the answer is no, after the same work."""
        return await self._run(lambda: self._verify(kept, password))

    def _verify(self, kept: str | None, password: str) -> tuple[bool, str | None]:
        with self._once:
            if self._nobodys is None:
                self._nobodys = self._hasher.hash(secrets.token_hex(16))
        text = normal_password(password[:LONGEST])
        try:
            right = self._hasher.verify(kept or self._nobodys, text) and kept is not None and len(password) <= LONGEST
        except (VerificationError, InvalidHashError):
            return False, None
        fresh = self._hasher.hash(text) if right and self._hasher.check_needs_rehash(kept or "") else None
        return right, fresh

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= WAITING:
            raise Unavailable("too many people are signing in just now", 2.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _stand_back() -> None:
    """Whatever decides alarms goes before this thread (Linux; elsewhere threads have no niceness of their own)."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _check_full_name(text: str) -> None:
    if len(text) > MAX_FULL_NAME or not text.isprintable():
        raise CommandRefused("invalid", f"a full name has at most {MAX_FULL_NAME} printable characters")


def _users(connection: sa.Connection, limit: int, cursor: str | None) -> Page[UserRow]:
    statement = sa.select(users).order_by(users.c.name)
    if cursor is not None:
        statement = statement.where(users.c.name > decode_cursor(cursor, (str,))[0])
    rows = connection.execute(statement.limit(limit + 1)).all()
    items = [_row(row) for row in rows[:limit]]
    return Page(items, encode_cursor([items[-1].name]) if len(rows) > limit else None)


def _user(connection: sa.Connection, where: sa.ColumnElement[bool]) -> UserRow | None:
    row = connection.execute(sa.select(users).where(where)).first()
    return None if row is None else _row(row)


def _found(connection: sa.Connection, name: str) -> UserRow:
    row = _user(connection, users.c.name == name)
    if row is None:
        raise CommandRefused("not_found", f"there is no user {name!r}")
    return row


def _row(row: Any) -> UserRow:
    return UserRow(
        name=row.name,
        full_name=row.full_name,
        role=Role(row.role),
        scope=access.scope_of(row.scope),
        must_change=row.must_change,
        by_password=row.password is not None,
        created_at=row.created_at,
        changed_at=row.changed_at,
        disabled_at=row.disabled_at,
        subject=row.subject,
    )
