"""People over HTTP: signing in and out, passwords; for administrators users and tokens."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from gateway.console import models, views
from gateway.console.gate import Gate, Principal, cookie_name, needs, principal_of, same_site
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.console.throttle import Sparingly, Throttle
from gateway.core.model import Micros
from gateway.core.passwords import LONGEST, normal_name, one_time_password
from gateway.core.records import SESSION_LASTS, AuditRow, Role, Scope, SignedInBy, TokenRow, UserChange, UserRow
from gateway.core.vocabulary import KINDS
from gateway.errors import CommandRefused

Admin = Annotated[Principal, Depends(needs(Role.ADMIN, whole_city=True))]

# --------------------------------------------------------------------------------------------- what is sent and given

Name = Annotated[str, Field(pattern=r"^\w[\w.@-]{0,63}$")]
FullName = Annotated[str, Field(max_length=100)]
# Spaces at its ends belong to a password.
Password = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=LONGEST)]
Place = Annotated[str, Field(min_length=1, max_length=200)]
Why = Annotated[str | None, Field(max_length=500, description="For the audit.")]


class ScopeView(models.Out):
    """The part of the city that somebody sees: assets of one of the kinds, in one of the towns, of one of the units; an
    empty list does not narrow."""

    kinds: list[str]
    towns: list[str]
    units: list[str]


class ScopeIn(models.In):
    """As it is given; what is left out does not narrow."""

    kinds: Annotated[tuple[Literal[KINDS], ...], Field(max_length=50)] = ()  # type: ignore[valid-type]
    towns: Annotated[tuple[Place, ...], Field(max_length=50)] = ()
    units: Annotated[tuple[Place, ...], Field(max_length=50)] = ()

    def scope(self) -> Scope:
        return Scope(*(tuple(sorted(set(words))) for words in (self.kinds, self.towns, self.units)))


class WhoView(models.Out):
    """Who the console takes you for. ``must_change``: nothing but changing the password is allowed before that."""

    name: str
    full_name: str
    role: models.RoleName
    scope: ScopeView
    must_change: bool
    by: Literal["password", "token", "oidc"]


class PasswordSignIn(models.In):
    name: Annotated[str, Field(min_length=1, max_length=64)]
    password: Password


class TokenSignIn(models.In):
    token: Annotated[str, Field(min_length=1, max_length=200)]


class PasswordChange(models.In):
    """``new``: 10 to 128 characters, not the name, none of the most common."""

    old: Password
    new: Password


class OidcView(models.Out):
    title: models.Title


class SiteNameView(models.Out):
    """``timezone``: IANA name of the site's civil time, in which pages show all times."""

    name_zh: str
    name_en: str
    timezone: str


class SignInWaysView(models.Out):
    """``oidc``: where ``GET /api/v1/oidc/start`` leads; null when it leads nowhere."""

    password: bool
    token: bool
    oidc: OidcView | None
    site: SiteNameView


class UserView(models.Out):
    """A person who signs in; ``by``: with a password here, or with the city's own sign-in."""

    name: str
    full_name: str
    role: models.RoleName
    scope: ScopeView
    by: Literal["password", "oidc"]
    must_change: bool
    created_at: models.Time
    changed_at: models.Time
    disabled_at: models.Time | None


class NewUserView(models.Out):
    """``password`` is shown this once; the person changes it at the first sign-in."""

    user: UserView
    password: str


class OneTimePasswordView(models.Out):
    """Shown this once; the person changes it at the next sign-in."""

    name: str
    password: str


class NewUser(models.In):
    name: Name
    full_name: FullName = ""
    role: models.RoleName
    scope: ScopeIn = ScopeIn()
    why: Why = None


class ChangedUser(models.In):
    """What is left out stays as it is."""

    full_name: FullName | None = None
    role: models.RoleName | None = None
    scope: ScopeIn | None = None
    disabled: bool | None = None
    why: Why = None


class TokenView(models.Out):
    token_id: str
    name: str
    role: models.RoleName
    scope: ScopeView
    created_at: models.Time
    expires_at: models.Time | None
    revoked_at: models.Time | None


class NewTokenView(models.Out):
    """``token`` is shown this once and never again."""

    token: str
    name: str
    role: models.RoleName
    scope: ScopeView


class NewToken(models.In):
    name: Name
    role: models.RoleName
    scope: ScopeIn = ScopeIn()
    expires_at: AwareDatetime | None = None
    why: Why = None


# --------------------------------------------------------------------------------------------- as values look in JSON


def scope_view(scope: Scope) -> dict[str, Any]:
    return {"kinds": list(scope.kinds), "towns": list(scope.towns), "units": list(scope.units)}


def who_view(principal: Principal) -> dict[str, Any]:
    return {
        "name": principal.name,
        "full_name": principal.full_name,
        "role": principal.role.word,
        "scope": scope_view(principal.scope),
        "must_change": principal.must_change,
        "by": principal.by.value,
    }


def user_view(row: UserRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "full_name": row.full_name,
        "role": row.role.word,
        "scope": scope_view(row.scope),
        "by": "password" if row.subject is None else "oidc",
        "must_change": row.must_change,
        "created_at": views.iso(row.created_at),
        "changed_at": views.iso(row.changed_at),
        "disabled_at": views.iso_or_none(row.disabled_at),
    }


def token_view(row: TokenRow) -> dict[str, Any]:
    return {
        "token_id": row.token_id,
        "name": row.name,
        "role": row.role.word,
        "scope": scope_view(row.scope),
        "created_at": views.iso(row.created_at),
        "expires_at": views.iso_or_none(row.expires_at),
        "revoked_at": views.iso_or_none(row.revoked_at),
    }


# --------------------------------------------------------------------------------------------- signing in


class Door:
    """Sign-ins of one console: how often somebody may try, what the audit is told, and the cookie."""

    def __init__(self, gateway: ConsolePort, gate: Gate) -> None:
        self._gateway = gateway
        self._gate = gate
        self.throttle = Throttle(lambda: gateway.now())
        self._sparingly = Sparingly()

    async def by_password(self, request: Request, name: str, password: str) -> Response:
        name, address = normal_name(name), address_of(request)
        self.throttle.begin(name, address)
        people, now = self._gateway.records.people, self._gateway.now()
        user = await people.verified(name, password)
        session = await people.begin_session(user, now, SESSION_LASTS) if user is not None else None
        if user is None or session is None:
            known = await people.user(name) is not None
            # Of a name that nobody has only that much is kept: it may be a password in the wrong field.
            await self.failed(name if known else "?", "sign-in", address)
            raise Problem("bad_sign_in")
        self.throttle.succeeded(name, address)
        by = SignedInBy.PASSWORD
        who = Principal(user.name, user.role, "console", session, user.scope, user.full_name, user.must_change, by)
        return await self.signed_in(request, who)

    async def by_token(self, request: Request, token: str) -> Response:
        address = address_of(request)
        self.throttle.begin(None, address)
        records, now = self._gateway.records, self._gateway.now()
        row = await records.token(token, now)
        session = await records.create_session(token, now, SESSION_LASTS) if row is not None else None
        if row is None or session is None:
            await self.failed("?", "sign-in", address)
            raise Problem("bad_sign_in", "this token is not known, has expired, or was revoked")
        self.throttle.succeeded(None, address)
        return await self.signed_in(request, Principal(row.name, row.role, "console", session, row.scope))

    async def signed_in(self, request: Request, who: Principal, answer: Response | None = None) -> Response:
        """The cookie on ``answer`` (default: who it is), and a line in the audit. What this browser had before ends."""
        before: Principal | None = request.scope.get("state", {}).get("principal")
        if before is not None and before.session is not None:
            await self._gateway.records.end_session(before.session)
            self._gate.forget()
        await self.noted(who, "sign-in", who.name, f"by {who.by.value} from {address_of(request)}")
        answer = answer if answer is not None else JSONResponse(who_view(who))
        assert who.session is not None
        set_cookie(request, answer, who.session)
        return answer

    async def failed(self, name: str, action: str, address: str) -> None:
        """A line in the audit, while there are few."""
        now = self._gateway.now()
        count = self._sparingly.worth(now)
        if count == 0:
            return
        why = f"from {address}" if count == 1 else f"from {address}; {count} more within the hour"
        line = AuditRow(0, now, name, "console", action, name, "refused", why)
        await self._gateway.records.add_audit(f"{action}:{secrets.token_hex(16)}", line)

    async def noted(self, who: Principal, action: str, subject: str, why: str | None = None) -> None:
        line = AuditRow(0, self._gateway.now(), who.name, who.channel, action, subject, "done", why)
        await self._gateway.records.add_audit(f"{action}:{secrets.token_hex(16)}", line)


def address_of(request: Request) -> str:
    """Where the request came from; of a proxy that the settings trust, where it had it from."""
    return request.client.host if request.client is not None else "?"


def set_cookie(request: Request, answer: Response, session: str) -> None:
    secure = request.url.scheme == "https"
    lasts = SESSION_LASTS // 1_000_000
    answer.set_cookie(cookie_name(secure), session, lasts, secure=secure, httponly=True, samesite="strict")


def public_routes(gateway: ConsolePort, door: Door) -> APIRouter:
    """What needs no name."""
    router = APIRouter(tags=["people"])

    @router.get("/sign-in-ways", response_model=SignInWaysView)
    async def sign_in_ways() -> dict[str, Any]:
        """How one signs in here, and what the city calls the place."""
        oidc = gateway.oidc
        name_zh, name_en = gateway.site_name
        title = None if oidc is None else {"title": {"zh": oidc.title_zh, "en": oidc.title_en}}
        return {
            "password": True,
            "token": True,
            "oidc": title,
            "site": {"name_zh": name_zh, "name_en": name_en, "timezone": gateway.timezone},
        }

    @router.post("/session", response_model=WhoView)
    async def sign_in(body: PasswordSignIn | TokenSignIn, request: Request) -> Response:
        """A session cookie for a name and password, or for a token; for our own page only. Who tries too often waits:
        429 with `Retry-After`."""
        same_site(request.scope, request.headers)
        if isinstance(body, TokenSignIn):
            return await door.by_token(request, body.token)
        return await door.by_password(request, body.name, body.password)

    return router


def routes(gateway: ConsolePort, gate: Gate, door: Door) -> APIRouter:
    """What needs a name, and in part the role admin."""
    router = APIRouter(tags=["people"])
    records, people = gateway.records, gateway.records.people

    @router.get("/session", response_model=WhoView)
    async def who(request: Request) -> dict[str, Any]:
        """Who the console takes you for."""
        return who_view(principal_of(request))

    @router.delete("/session", status_code=204)
    async def sign_out(request: Request) -> Response:
        """End the session of this browser."""
        principal = principal_of(request)
        if principal.session is not None:
            await records.end_session(principal.session)
            gate.forget()
        answer = Response(status_code=204)
        secure = request.url.scheme == "https"
        answer.delete_cookie(cookie_name(secure), secure=secure, httponly=True, samesite="strict")
        return answer

    @router.put("/session/password", response_model=WhoView)
    async def change_password(body: PasswordChange, request: Request) -> Response:
        """Change your own password. Your other sessions end; this one gets a new cookie."""
        principal = principal_of(request)
        if principal.session is None or principal.by is not SignedInBy.PASSWORD:
            raise Problem("signs_in_elsewhere")
        address = address_of(request)
        door.throttle.begin(principal.name, address)
        if await people.verified(principal.name, body.old) is None:
            await door.failed(principal.name, "change-password", address)
            raise Problem("wrong_password")
        door.throttle.succeeded(principal.name, address)
        if body.new == body.old:
            raise Problem("weak_password", "this is the old one")
        now = gateway.now()
        user = await people.set_password(principal.name, body.new, now, must_change=False)
        session = await people.begin_session(user, now, SESSION_LASTS)
        gate.forget()
        await door.noted(principal, "change-password", principal.name)
        if session is None:  # disabled in this very moment
            raise Problem("unauthenticated")
        changed = Principal(
            user.name, user.role, "console", session, user.scope, user.full_name, False, SignedInBy.PASSWORD
        )
        answer = JSONResponse(who_view(changed))
        set_cookie(request, answer, session)
        return answer

    # ----------------------------------------------------------------------------------------- users

    @router.get("/users", response_model=models.ListOf[UserView])
    async def users(who: Admin, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
        """Users by name. Needs the role admin."""
        return await page(people.users(limit, cursor), user_view)

    @router.post("/users", response_model=NewUserView, status_code=201)
    async def create_user(body: NewUser, who: Admin) -> dict[str, Any]:
        """A new user with a one-time password. Needs the role admin."""
        password = one_time_password(secrets.choice)
        user = await people.create(
            body.name,
            Role[body.role.upper()],
            gateway.now(),
            full_name=body.full_name,
            scope=body.scope.scope(),
            password=password,
            must_change=True,
        )
        await door.noted(who, "create-user", user.name, _told(f"role {body.role}{_where(user.scope)}", body.why))
        return {"user": user_view(user), "password": password}

    @router.patch("/users/{name}", response_model=UserView)
    async def change_user(name: str, body: ChangedUser, who: Admin) -> dict[str, Any]:
        """Change a user's role, scope or full name, or disable them; their sessions end. Nobody does that to
        themselves, and the last administrator stays one. Needs the role admin."""
        before = await people.user(name)
        if before is None:
            raise Problem("not_found", f"there is no user {name!r}")
        change = UserChange(
            full_name=body.full_name,
            role=None if body.role is None else Role[body.role.upper()],
            scope=None if body.scope is None else body.scope.scope(),
            disabled=body.disabled,
        )
        if before.name == who.name and (change.role, change.scope, change.disabled) != (None, None, None):
            raise Problem("own_account")
        try:
            user = await people.change(before.name, change, gateway.now())
        except CommandRefused as refused:
            await _refused(gateway, who, "change-user", before.name, refused.code)
            raise
        gate.forget()
        await door.noted(who, "change-user", user.name, _told(_difference(before, user), body.why))
        return user_view(user)

    @router.post("/users/{name}/password", response_model=OneTimePasswordView)
    async def reset_password(name: str, who: Admin) -> dict[str, Any]:
        """A one-time password for somebody who has lost theirs; their sessions end. Needs the role admin."""
        if normal_name(name) == who.name:
            raise Problem("own_account", "change your own password with PUT /api/v1/session/password")
        password = one_time_password(secrets.choice)
        user = await people.set_password(name, password, gateway.now(), must_change=True)
        gate.forget()
        await door.noted(who, "reset-password", user.name)
        return {"name": user.name, "password": password}

    # ----------------------------------------------------------------------------------------- tokens

    @router.get("/tokens", response_model=list[TokenView])
    async def tokens(who: Admin) -> list[dict[str, Any]]:
        """All tokens; never the secrets. Needs the role admin."""
        return [token_view(row) for row in await records.tokens()]

    @router.post("/tokens", response_model=NewTokenView, status_code=201)
    async def create_token(body: NewToken, who: Admin) -> dict[str, Any]:
        """A new token. Needs the role admin."""
        now, scope = gateway.now(), body.scope.scope()
        until: Micros | None = None if body.expires_at is None else views.micros(body.expires_at.isoformat())
        try:
            secret = await records.create_token(body.name, Role[body.role.upper()], now, until, scope)
        except ValueError as error:
            raise Problem("exists", str(error)) from error
        await door.noted(who, "create-token", body.name, _told(f"role {body.role}{_where(scope)}", body.why))
        return {"token": secret, "name": body.name, "role": body.role, "scope": scope_view(scope)}

    @router.delete("/tokens/{name}", status_code=204)
    async def revoke_token(name: str, who: Admin) -> Response:
        """A token and its sessions end now. Needs the role admin; nobody can revoke the token they are using."""
        if name == who.name:
            raise Problem("not_allowed", "this is the token you are using")
        if not await records.revoke_token(name, gateway.now()):
            raise Problem("not_found", f"there is no token {name!r}")
        gate.forget()
        await door.noted(who, "revoke-token", name)
        return Response(status_code=204)

    return router


async def _refused(gateway: ConsolePort, who: Principal, action: str, subject: str, outcome: str) -> None:
    line = AuditRow(0, gateway.now(), who.name, who.channel, action, subject, outcome)
    await gateway.records.add_audit(f"{action}:{secrets.token_hex(16)}", line)


def _told(what: str, why: str | None) -> str:
    return what if not why else f"{what}: {why}"


def _where(scope: Scope) -> str:
    """Of a scope that narrows, what it is, as the audit says it."""
    words = ((name, getattr(scope, name)) for name in ("kinds", "towns", "units"))
    return "".join(f"; {name} {', '.join(values)}" for name, values in words if values)


def _difference(before: UserRow, after: UserRow) -> str:
    """What a change was, as the audit says it."""
    said = []
    if before.role is not after.role:
        said.append(f"role {before.role.word} → {after.role.word}")
    if before.scope != after.scope:
        said.append(f"scope{_where(before.scope) or '; all'} →{_where(after.scope) or '; all'}".replace(";", ""))
    if before.full_name != after.full_name:
        said.append("full name")
    if (before.disabled_at is None) is not (after.disabled_at is None):
        said.append("disabled" if after.disabled_at is not None else "enabled")
    return ", ".join(said) or "nothing"
