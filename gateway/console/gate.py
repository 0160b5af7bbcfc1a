"""The door of the console: nothing behind it is reached without a name, but for what is listed as public here.

Two ways to show who one is: ``Authorization: Bearer <token>`` for programs; for browsers a session cookie, given for a
password or a token by ``POST /api/v1/session``. A write with a cookie must also prove that our own page made it: the
header ``X-Citywatch``, which another site cannot send unasked, and an ``Origin`` that is this very host. Who has a
password that somebody else made may do nothing but change it.

The door also caps bodies, and puts the security headers on every answer.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import Any

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.console import link_page
from gateway.console.pages import is_page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem, problem_response
from gateway.core.model import SECOND, Asset, Micros
from gateway.core.records import EVERYWHERE, Identity, Role, SignedInBy
from gateway.core.records import Scope as Area

MAX_BODY = 64 << 10  # the longest body is an action with a comment of 1,000 characters
MAX_PHOTO = 5 << 20  # a phone's camera makes 2 to 4 MB of 12 megapixels
TRUST_FOR: Micros = 2 * SECOND  # how long a token looked up is believed; a revoked one ends within this
REMEMBERED = 1000  # tokens and sessions in use at the same time
MAX_SECRET = 200  # ours have 46 characters

PUBLIC_PATHS = frozenset(  # beside the pages
    {"/openapi.json", "/api/v1/health", "/api/v1/sign-in-ways", "/api/v1/oidc/start", "/api/v1/oidc/callback"}
)
WITH_A_FOREIGN_PASSWORD = frozenset(  # somebody else knows it: what is allowed all the same
    {("GET", "/api/v1/session"), ("DELETE", "/api/v1/session"), ("PUT", "/api/v1/session/password")}
)
PUBLIC_METHODS = {"/api/v1/session": frozenset({"POST"}), "/api/v1/inbound/sms": frozenset({"POST"})}
_PLATFORM = re.compile(r"/api/v1/inbound/cases/[^/]+")  # the signature of the body is the right to speak
_LINK = re.compile(r"/a/[^/]+")  # the token in the path is the right to ask

_PHOTOS = re.compile(r"/api/v1/alarms/[^/]+/[^/]+/photos")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:{tiles}; worker-src 'self' blob:; connect-src 'self'{tiles}; "
    "font-src 'self'; style-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(self), microphone=(), payment=(), usb=()",
}


class Principal(msgspec.Struct, frozen=True):
    """Who is asking, and for which part of the city. ``channel``: "api" with a token, "console" with a session."""

    name: str
    role: Role
    channel: str
    session: str | None = None
    scope: Area = EVERYWHERE
    full_name: str = ""
    must_change: bool = False
    by: SignedInBy = SignedInBy.TOKEN


class Gate:
    """ASGI middleware, the outermost; leaves the principal in ``scope["state"]["principal"]`` (None when public).

    ``tiles``: the origin of the map's tiles, the one foreign place that a page may load from; "" for none."""

    def __init__(self, app: ASGIApp, gateway: ConsolePort, tiles: str = "") -> None:
        self._app = app
        self._gateway = gateway
        policy = POLICY.format(tiles=tiles and f" {tiles}")
        self._headers = {"Content-Security-Policy": policy} | HEADERS
        self._link_headers = {"Content-Security-Policy": link_page.POLICY} | HEADERS
        self._known: OrderedDict[tuple[str, str], tuple[Micros, Identity]] = OrderedDict()
        self._forgotten = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        wanted = self._headers if not _LINK.fullmatch(scope["path"]) else self._link_headers
        send = _with_headers(send, wanted, private=not is_page(scope["path"]))
        try:
            headers = Headers(scope=scope)
            principal = await self.identify(headers, secure=scope.get("scheme") == "https")
            if not is_public(scope["method"], scope["path"]):
                if principal is None:
                    raise Problem("unauthenticated")
                if principal.session is not None and scope["method"] not in SAFE_METHODS:
                    same_site(scope, headers)
                if principal.must_change and (scope["method"], scope["path"]) not in WITH_A_FOREIGN_PASSWORD:
                    raise Problem("must_change")
            scope.setdefault("state", {})["principal"] = principal
            receive = _capped(scope, headers, receive)
        except Problem as problem:
            return await problem_response(problem.code, problem.why)(scope, receive, send)
        await self._app(scope, receive, send)

    async def identify(self, headers: Headers, *, secure: bool) -> Principal | None:
        """Who this is; None when nobody we know. A wrong Authorization header is never made good by a cookie."""
        authorization = headers.get("authorization")
        if authorization is not None:
            scheme, _, secret = authorization.partition(" ")
            found = await self._look_up("token", secret.strip()) if scheme.lower() == "bearer" else None
            return None if found is None else _principal(found, "api", None)
        session_id = cookie(headers, cookie_name(secure))
        found = await self._look_up("session", session_id) if session_id else None
        return None if found is None else _principal(found, "console", session_id)

    async def still_good(self, principal: Principal, headers: Headers, *, secure: bool) -> bool:
        """The same principal would be let in now."""
        return await self.identify(headers, secure=secure) == principal

    def forget(self) -> None:
        """A token, user or session was ended or changed here: look everything up afresh."""
        self._known.clear()
        self._forgotten += 1

    async def _look_up(self, kind: str, secret: str) -> Identity | None:
        if not secret or len(secret) > MAX_SECRET:
            return None
        now = self._gateway.now()
        known = self._known.get((kind, secret))
        if known is not None and now - known[0] < TRUST_FOR:
            return known[1]
        forgotten = self._forgotten
        found = await self._ask(kind, secret, now)
        if found is None:
            self._known.pop((kind, secret), None)  # what is not known is not remembered: guessing fills nothing
        elif forgotten == self._forgotten:  # else this may be how it was before a change
            self._known[kind, secret] = (now, found)
            self._known.move_to_end((kind, secret))
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    async def _ask(self, kind: str, secret: str, now: Micros) -> Identity | None:
        if kind == "session":
            return await self._gateway.records.session(secret, now)
        row = await self._gateway.records.token(secret, now)
        return None if row is None else Identity(row.name, row.role, row.scope, SignedInBy.TOKEN)


def _principal(found: Identity, channel: str, session: str | None) -> Principal:
    return Principal(
        found.name, found.role, channel, session, found.scope, found.full_name, found.must_change, found.by
    )


def is_public(method: str, path: str) -> bool:
    if path in PUBLIC_METHODS:
        return method in PUBLIC_METHODS[path]
    if method == "POST" and (_LINK.fullmatch(path) or _PLATFORM.fullmatch(path)):
        return True
    return method in SAFE_METHODS and (path in PUBLIC_PATHS or is_page(path))


def same_site(scope: Scope, headers: Headers) -> None:
    """Raises Problem unless a page of this very host made the request."""
    own = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
    if headers.get("x-citywatch") is None or headers.get("origin") not in (own, own.replace("http://", "https://", 1)):
        raise Problem("cross_site", "a write with a session needs the header X-Citywatch and an Origin of this host")


def cookie_name(secure: bool) -> str:
    """``__Host-`` binds the cookie to this host and to TLS; browsers refuse the prefix without TLS."""
    return "__Host-citywatch" if secure else "citywatch"


def principal_of(request: Request) -> Principal:
    """The principal that the gate let in."""
    principal: Principal | None = request.scope.get("state", {}).get("principal")
    if principal is None:
        raise Problem("unauthenticated")
    return principal


def needs(role: Role, *, whole_city: bool = False) -> Any:
    """A route's dependency: the principal, who has at least ``role``; with ``whole_city`` also one whose scope does
    not narrow, for what is about the gateway or the city as a whole."""

    def check(request: Request) -> Principal:
        principal = principal_of(request)
        if principal.role < role:
            raise Problem("forbidden", f"this needs the role {role.word}; yours is {principal.role.word}")
        if whole_city and principal.scope:
            raise Problem("narrowed")
        return principal

    check.__name__ = f"needs_{role.word}{'_of_the_whole_city' if whole_city else ''}"
    return check


def scope_of(request: Request) -> Area:
    """The part of the city that the caller may see. A list passes it to the store (``AlarmFilter.scope``,
    ``queries.within``), so that its pages stay full."""
    return principal_of(request).scope


def in_scope(request: Request, asset: Asset | None) -> bool:
    """Whether the caller may see ``asset``; None (there is none) is seen by whoever sees the whole city."""
    scope = scope_of(request)
    return not scope or (asset is not None and scope.covers(asset))


def visible(request: Request, gateway: ConsolePort, asset_id: str, what: str | None = None) -> None:
    """Raises the problem not_found unless the caller may see the asset: what is outside their scope is not there.
    ``what`` names the thing that was asked for ("alarm 'a/b'"). Whether the asset exists is the route's own question
    for callers who see the whole city."""
    scope = scope_of(request)  # spares the look-up: most people see everything
    if scope and not in_scope(request, gateway.asset(asset_id)):
        raise Problem("not_found", f"there is no {what or f'asset {asset_id!r}'}")


def visible_device(request: Request, gateway: ConsolePort, device_id: str) -> None:
    """As ``visible``, of a device: it is where its asset is."""
    if not scope_of(request):
        return
    device = gateway.device(device_id)
    if device is None or not in_scope(request, gateway.asset(device.asset)):
        raise Problem("not_found", f"there is no device {device_id!r}")


def cookie(headers: Headers, name: str) -> str | None:
    """The value of a cookie that was sent."""
    raw = headers.get("cookie")
    if raw is None or len(raw) > 8192:
        return None
    try:
        found = SimpleCookie(raw).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _capped(scope: Scope, headers: Headers, receive: Receive) -> Receive:
    """``receive`` that ends with 413 when the body is longer than MAX_BODY (of a photo MAX_PHOTO), whatever
    Content-Length said."""
    most = MAX_PHOTO if scope["method"] == "POST" and _PHOTOS.fullmatch(scope["path"]) else MAX_BODY
    declared = headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > most:
        raise Problem("too_large", f"at most {most} bytes")
    seen = 0

    async def capped() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise Problem("too_large", f"at most {most} bytes")
        return message

    return capped


def _with_headers(send: Send, wanted: dict[str, str], *, private: bool) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in wanted.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store" if private else "no-cache")
        await send(message)

    return with_headers
