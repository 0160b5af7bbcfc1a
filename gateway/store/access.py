"""Tokens and sessions. Both are 256 random bits, so their SHA-256 is all the store needs: there is nothing to guess,
and a slow password hash would only slow every request. A stolen store opens no door.
"""

from __future__ import annotations

import hashlib
import re
import secrets

import msgspec
import sqlalchemy as sa

from gateway.core.model import Micros
from gateway.core.records import EVERYWHERE, Role, Scope, TokenRow
from gateway.store.schema import sessions, tokens

PREFIX = "cw_"  # so that secret scanners and people recognise one
SESSIONS_PER_TOKEN = 100  # browsers signed in with one token; the oldest is signed out

_NAME = re.compile(r"^[\w.@-]{1,64}$")


def create_token(
    connection: sa.Connection,
    name: str,
    role: Role,
    at: Micros,
    expires_at: Micros | None,
    scope: Scope = EVERYWHERE,
) -> str:
    if not _NAME.match(name):
        raise ValueError("a token's name is 1 to 64 letters, digits, or . _ @ -")
    if connection.execute(sa.select(tokens.c.hash).where(tokens.c.name == name)).first() is not None:
        raise ValueError(f"there is already a token named {name}")
    secret = PREFIX + secrets.token_urlsafe(32)
    row = {
        "hash": _hash(secret),
        "name": name,
        "role": int(role),
        "scope": msgspec.json.encode(scope).decode(),
        "created_at": at,
        "expires_at": expires_at,
    }
    connection.execute(sa.insert(tokens), row)
    return secret


def first_token(connection: sa.Connection, at: Micros) -> str | None:
    usable = sa.select(tokens.c.hash).where(tokens.c.role == int(Role.ADMIN), _good(at)).limit(1)
    if connection.execute(usable).first() is not None:
        return None
    taken = set(connection.execute(sa.select(tokens.c.name)).scalars())
    name = next(n for n in ("admin", *(f"admin-{i}" for i in range(2, 10_000))) if n not in taken)
    return create_token(connection, name, Role.ADMIN, at, None)


def tokens_of(connection: sa.Connection) -> list[TokenRow]:
    return [_row(row) for row in connection.execute(sa.select(tokens).order_by(tokens.c.created_at, tokens.c.name))]


def revoke_token(connection: sa.Connection, name: str, at: Micros) -> bool:
    found = connection.execute(sa.select(tokens.c.hash).where(tokens.c.name == name)).scalar()
    if found is None:
        return False
    connection.execute(
        sa.update(tokens).where(tokens.c.hash == found, tokens.c.revoked_at.is_(None)).values(revoked_at=at)
    )
    connection.execute(sa.delete(sessions).where(sessions.c.token_hash == found))
    return True


def token(connection: sa.Connection, secret: str, now: Micros) -> TokenRow | None:
    row = connection.execute(sa.select(tokens).where(tokens.c.hash == _hash(secret), _good(now))).first()
    return None if row is None else _row(row)


def create_session(connection: sa.Connection, secret: str, now: Micros, lasts: Micros) -> str | None:
    if token(connection, secret, now) is None:
        return None
    owner = _hash(secret)
    connection.execute(sa.delete(sessions).where(sessions.c.expires_at <= now))
    oldest = (
        sa.select(sessions.c.hash)
        .where(sessions.c.token_hash == owner)
        .order_by(sessions.c.created_at.desc())
        .limit(SESSIONS_PER_TOKEN)
        .offset(SESSIONS_PER_TOKEN - 1)
    )
    gone = list(connection.execute(oldest).scalars())
    if gone:
        connection.execute(sa.delete(sessions).where(sessions.c.hash.in_(gone)))
    session_id = secrets.token_urlsafe(32)
    row = {"hash": _hash(session_id), "token_hash": owner, "created_at": now, "seen_at": now, "expires_at": now + lasts}
    connection.execute(sa.insert(sessions), row)
    return session_id


def session(connection: sa.Connection, session_id: str, now: Micros) -> TokenRow | None:
    statement = (
        sa.select(tokens)
        .join(sessions, sessions.c.token_hash == tokens.c.hash)
        .where(sessions.c.hash == _hash(session_id), sessions.c.expires_at > now, _good(now))
    )
    row = connection.execute(statement).first()
    return None if row is None else _row(row)


def end_session(connection: sa.Connection, session_id: str) -> None:
    connection.execute(sa.delete(sessions).where(sessions.c.hash == _hash(session_id)))


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
        scope=msgspec.json.decode(row.scope, type=Scope),
    )
