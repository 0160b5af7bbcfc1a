"""``citywatch user``: people who sign in, from the command line, whether the gateway runs or not.

The command writes to the store itself. A gateway that runs notices within seconds, because it asks the store who
somebody is; one that does not run is kept from starting for that moment (docs/decisions/0012).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import uvloop

from gateway.config.settings import Settings
from gateway.core.passwords import one_time_password
from gateway.core.records import MAX_PAGE, AuditRow, Role, Scope, UserChange, UserRow
from gateway.core.vocabulary import KINDS
from gateway.errors import ConfigError, Mistake
from gateway.lock import DataLock, is_running
from gateway.store.store import Store

CHANNEL = "command"

Result = TypeVar("Result")


def add_user(settings: Settings, name: str, role: Role, full_name: str, scope: Scope, password: str | None) -> str:
    """A new user; ``password`` None: a one-time one is made. Gives the password. Raises CommandRefused."""
    made = one_time_password(secrets.choice) if password is None else password

    async def work(store: Store) -> None:
        user = await store.people.create(
            name, role, _now(), full_name=full_name, scope=scope, password=made, must_change=password is None
        )
        await _noted(store, "create-user", user.name, f"role {role.word}{_where(scope)}")

    _at_store(settings, work)
    return made


def set_password(settings: Settings, name: str, password: str | None) -> str:
    """As ``add_user``, for somebody who is there; their sessions end."""
    made = one_time_password(secrets.choice) if password is None else password

    async def work(store: Store) -> None:
        user = await store.people.set_password(name, made, _now(), must_change=password is None)
        await _noted(store, "reset-password", user.name, None)

    _at_store(settings, work)
    return made


def disable(settings: Settings, name: str, *, disabled: bool) -> None:
    """Their sessions end, and no new one begins; or they may sign in again."""

    async def work(store: Store) -> None:
        user = await store.people.change(name, UserChange(disabled=disabled), _now())
        await _noted(store, "change-user", user.name, "disabled" if disabled else "enabled")

    _at_store(settings, work)


def users(settings: Settings) -> list[UserRow]:
    """Everybody, by name."""

    async def work(store: Store) -> list[UserRow]:
        page = await store.people.users(MAX_PAGE)
        found = page.items
        while page.cursor is not None:
            page = await store.people.users(MAX_PAGE, page.cursor)
            found += page.items
        return found

    return _at_store(settings, work)


def scope_from(kinds: str | None, towns: str | None, units: str | None) -> Scope:
    """From lists with commas. Raises ConfigError for a kind that is none: such a user would see nothing."""
    scope = Scope(
        *(tuple(sorted({w.strip() for w in (text or "").split(",")} - {""})) for text in (kinds, towns, units))
    )
    if unknown := set(scope.kinds) - set(KINDS):
        said = f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}"
        raise ConfigError([Mistake("--kinds", None, "", said)])
    return scope


def line_of(user: UserRow) -> str:
    """One line of ``citywatch user list``."""
    marks = [
        "" if user.by_password else "signs in elsewhere",
        "must change the password" if user.must_change else "",
        "disabled" if user.disabled_at is not None else "",
    ]
    where = _where(user.scope).removeprefix("; ") or "the whole city"
    said = "; ".join(mark for mark in marks if mark)
    return f"{user.name:<20} {user.role.word:<11} {user.full_name or '-':<20} {where}{f'  ({said})' if said else ''}"


def _at_store(settings: Settings, work: Callable[[Store], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        async with _store_of(settings.data) as store:
            return await work(store)

    return uvloop.run(run())


@contextlib.asynccontextmanager
async def _store_of(data: Path) -> AsyncIterator[Store]:
    """The store of a data folder, beside the gateway if one runs there, else with its lock held."""
    _must_be_ours(data)
    lock = DataLock(data)
    beside = is_running(data)
    if not beside:
        lock.take()  # raises when a gateway has started in this moment: ask again
    try:
        store = await Store.open(data, beside=beside)
        try:
            yield store
        finally:
            await store.close()
    finally:
        lock.release()


def _must_be_ours(data: Path) -> None:
    """Raises ConfigError when somebody else owns the folder: files of root would keep its gateway out."""
    if data.exists() and (owner := data.stat().st_uid) != os.geteuid():
        said = f"belongs to {_user_name(owner)}: run this as that user (sudo -u {_user_name(owner)} citywatch user …)"
        raise ConfigError([Mistake(str(data), None, "data", said)])


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


async def _noted(store: Store, action: str, name: str, why: str | None) -> None:
    line = AuditRow(0, _now(), _caller(), CHANNEL, action, name, "done", why)
    await store.add_audit(f"{action}:{secrets.token_hex(16)}", line)


def _caller() -> str:
    """Who types: the account that became root, where sudo says so."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        return f"#{os.getuid()}"


def _now() -> int:
    """The machine's clock. The gateway's own may be another: sessions end by being ended, not by comparing times."""
    return time.time_ns() // 1000


def _where(scope: Scope) -> str:
    words = ((name, getattr(scope, name)) for name in ("kinds", "towns", "units"))
    return "".join(f"; {name} {', '.join(values)}" for name, values in words if values)
