"""Tokens and sessions. Both are 256 random bits, so their SHA-256 is all the store needs: there is nothing to guess,
and a slow password hash would only slow every request. A stolen store opens no door.

A session is a browser's, signed in with a token or as a user (``people.py``). It ends after a time, when nothing was
asked for a while, and with what it was given for: a token that is revoked, a user who is disabled or changed.
"""

from __future__ import annotations

import hashlib
import re
import secrets

import msgspec
import sqlalchemy as sa

from gateway.core.model import MINUTE, Micros
from gateway.core.records import (
    EVERYWHERE,
    SESSION_IDLE,
    Identity,
    Role,
    Scope,
    SignedInBy,
    TokenRow,
)
from gateway.errors import CommandRefused
from gateway.store.schema import sessions, tokens, users

PREFIX = "cw_"  # so that secret scanners and people recognise one
SESSIONS_EACH = 100  # browsers signed in with one token or as one user; the oldest is signed out
SEEN_EVERY: Micros = MINUTE  # how exactly it is known when a session was last used: a write a minute at most

_NAME = re.compile(r"\w[\w.@-]{0,63}")
_SCOPE = msgspec.json.Decoder(Scope)


def create_token(
    connection: sa.Connection,
    name: str,
    role: Role,
    at: Micros,
    expires_at: Micros | None,
    scope: Scope = EVERYWHERE,
) -> str:
    if not is_name(name):
        raise ValueError("a token's name is 1 to 64 letters, digits, or . _ @ -, and begins with a letter or digit")
    if (taken := taken_by(connection, name)) is not None:
        raise ValueError(f"there is already a {taken} named {name}")
    secret = PREFIX + secrets.token_urlsafe(32)
    row = {
        "hash": _hash(secret),
        "name": name,
        "role": int(role),
        "scope": scope_json(scope),
        "created_at": at,
        "expires_at": expires_at,
    }
    connection.execute(sa.insert(tokens), row)
    return secret


def first_token(connection: sa.Connection, at: Micros) -> str | None:
    if has_admin(connection, at):
        return None
    taken = set(connection.execute(sa.select(tokens.c.name)).scalars())
    taken |= set(connection.execute(sa.select(users.c.name)).scalars())
    name = next(n for n in ("admin", *(f"admin-{i}" for i in range(2, 10_000))) if n not in taken)
    return create_token(connection, name, Role.ADMIN, at, None)


def has_admin(connection: sa.Connection, now: Micros) -> bool:
    """Is there a token or a user left that may change tokens and users?"""
    by_token = sa.select(tokens.c.scope).where(tokens.c.role == int(Role.ADMIN), _good(now))
    by_user = sa.select(users.c.scope).where(
        users.c.role == int(Role.ADMIN),
        users.c.disabled_at.is_(None),
        sa.or_(users.c.password.is_not(None), users.c.subject.is_not(None)),
    )
    return any(
        not scope_of(text) for statement in (by_user, by_token) for text in connection.execute(statement).scalars()
    )


def tokens_of(connection: sa.Connection) -> list[TokenRow]:
    return [_row(row) for row in connection.execute(sa.select(tokens).order_by(tokens.c.created_at, tokens.c.name))]


def revoke_token(connection: sa.Connection, name: str, at: Micros) -> bool:
    found = connection.execute(sa.select(tokens.c.hash).where(tokens.c.name == name)).scalar()
    if found is None:
        return False
    had = has_admin(connection, at)
    connection.execute(
        sa.update(tokens).where(tokens.c.hash == found, tokens.c.revoked_at.is_(None)).values(revoked_at=at)
    )
    if had and not has_admin(connection, at):  # two administrators who end each other in one moment
        raise CommandRefused("last_admin", f"{name} is the last that may change users and tokens")
    connection.execute(sa.delete(sessions).where(sessions.c.token_hash == found))
    return True


def token(connection: sa.Connection, secret: str, now: Micros) -> TokenRow | None:
    row = connection.execute(sa.select(tokens).where(tokens.c.hash == _hash(secret), _good(now))).first()
    return None if row is None else _row(row)


def create_token_session(connection: sa.Connection, secret: str, now: Micros, lasts: Micros) -> str | None:
    if token(connection, secret, now) is None:
        return None
    return _begin(connection, now, now + lasts, token_hash=_hash(secret))


def create_user_session(
    connection: sa.Connection, name: str, changed_at: Micros, now: Micros, lasts: Micros
) -> str | None:
    """A session for a user who is still as at ``changed_at``, when the password was looked at."""
    same = sa.select(users.c.name).where(
        users.c.name == name, users.c.changed_at == changed_at, users.c.disabled_at.is_(None)
    )
    if connection.execute(same).first() is None:
        return None
    # The command line changes users by its own clock: a session is never older than what it was given for.
    return _begin(connection, max(now, changed_at), now + lasts, user=name)


def _begin(
    connection: sa.Connection, now: Micros, until: Micros, *, token_hash: str | None = None, user: str | None = None
) -> str:
    connection.execute(sa.delete(sessions).where(sessions.c.expires_at <= now))
    owned = sessions.c.user == user if user is not None else sessions.c.token_hash == token_hash
    oldest = (
        sa.select(sessions.c.hash)
        .where(owned)
        .order_by(sessions.c.created_at.desc(), sessions.c.hash)
        .limit(SESSIONS_EACH)
        .offset(SESSIONS_EACH - 1)
    )
    gone = list(connection.execute(oldest).scalars())
    if gone:
        connection.execute(sa.delete(sessions).where(sessions.c.hash.in_(gone)))
    session_id = secrets.token_urlsafe(32)
    row = {
        "hash": _hash(session_id),
        "token_hash": token_hash,
        "user": user,
        "created_at": now,
        "seen_at": now,
        "expires_at": until,
    }
    connection.execute(sa.insert(sessions), row)
    return session_id


def session(connection: sa.Connection, session_id: str, now: Micros) -> tuple[Identity, bool] | None:
    """Whose session this is, and whether it is time to write down that it was seen."""
    found = connection.execute(
        sa.select(sessions).where(
            sessions.c.hash == _hash(session_id),
            sessions.c.expires_at > now,
            sessions.c.seen_at > now - SESSION_IDLE,
        )
    ).first()
    if found is None:
        return None
    if found.user is not None:
        identity = _user_of(connection, found.user, found.created_at)
    else:
        row = connection.execute(sa.select(tokens).where(tokens.c.hash == found.token_hash, _good(now))).first()
        identity = None if row is None else identity_of(_row(row))
    return None if identity is None else (identity, found.seen_at <= now - SEEN_EVERY)


def _user_of(connection: sa.Connection, name: str, since: Micros) -> Identity | None:
    """The user of a session that began at ``since``, unless it is void."""
    row = connection.execute(
        sa.select(users).where(users.c.name == name, users.c.disabled_at.is_(None), users.c.changed_at <= since)
    ).first()
    if row is None:
        return None
    by = SignedInBy.PASSWORD if row.subject is None else SignedInBy.OIDC
    return Identity(row.name, Role(row.role), scope_of(row.scope), by, row.full_name, row.must_change)


def seen(connection: sa.Connection, session_id: str, now: Micros) -> None:
    connection.execute(
        sa.update(sessions).where(sessions.c.hash == _hash(session_id), sessions.c.seen_at < now).values(seen_at=now)
    )


def end_session(connection: sa.Connection, session_id: str) -> None:
    connection.execute(sa.delete(sessions).where(sessions.c.hash == _hash(session_id)))


def end_sessions_of(connection: sa.Connection, user: str) -> None:
    connection.execute(sa.delete(sessions).where(sessions.c.user == user))


def identity_of(row: TokenRow) -> Identity:
    return Identity(row.name, row.role, row.scope, SignedInBy.TOKEN)


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def taken_by(connection: sa.Connection, name: str) -> str | None:
    """What has this name: "token", "user", or nothing. One name means one somebody in every audit line."""
    if connection.execute(sa.select(tokens.c.hash).where(tokens.c.name == name)).first() is not None:
        return "token"
    if connection.execute(sa.select(users.c.name).where(users.c.name == name)).first() is not None:
        return "user"
    return None


def scope_json(scope: Scope) -> str:
    return msgspec.json.encode(scope).decode()


def scope_of(text: str) -> Scope:
    return _SCOPE.decode(text)


def _good(now: Micros) -> sa.ColumnElement[bool]:
    return sa.and_(tokens.c.revoked_at.is_(None), sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _row(row: sa.Row[tuple[object, ...]]) -> TokenRow:
    return TokenRow(
        token_id=row.hash[:12],
        name=row.name,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        scope=scope_of(row.scope),
    )
