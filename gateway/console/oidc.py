"""Signing in with the city's own account: OpenID Connect, authorization code with PKCE.

``start`` sends the browser to the provider with a state, a nonce and a challenge that only this browser can answer for:
they stand in a cookie of ten minutes, signed with a key of this process. ``callback`` takes the code back to the
provider itself, and believes the ID token only when one of the provider's keys signed it, for us, now, with our nonce.
Who somebody is, is the provider's ``sub`` and nothing else: names and e-mail addresses are given anew to other people.

No step can be told where to send the browser: it comes back to our page, with ``?sign_in=<why not>`` when it failed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import httpx
import msgspec
import structlog
from fastapi import APIRouter, Query, Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, import_key
from starlette.responses import RedirectResponse, Response

from gateway.console.gate import Principal, cookie
from gateway.console.people import Door, address_of
from gateway.console.port import ConsolePort, OidcOptions
from gateway.console.problems import Problem
from gateway.console.throttle import Sparingly
from gateway.core.passwords import normal_name
from gateway.core.records import SESSION_LASTS, AuditRow, Role, SignedInBy, UserChange, UserRow
from gateway.errors import CommandRefused

log = structlog.get_logger("console")

ANSWER_S = 10.0  # the provider stands in the same city
MAX_ANSWER = 256 << 10  # a key set of a large provider is 10 kB
KEPT_S = 3600.0  # metadata and keys; an unknown key is asked for sooner
AGAIN_S = 10.0  # after a failure, and between two looks for a key that is not there
FLOW_S = 600  # from the provider's page to ours and back, with a second factor
LEEWAY_S = 60  # between two clocks

# Signatures with keys that only the provider has. Never none, never a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
MAX_SUBJECT = 255  # OpenID Connect Core 2

_SAFE = re.compile(r"^https://|^http://(127\.0\.0\.1|localhost|\[::1\])(?=[:/]|$)")
_ODD = re.compile(r"[^\w.@-]+")


class Refused(Exception):
    """This sign-in ends here; ``code`` is told to the page, the text to the log. It never leaves this module."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Flow(msgspec.Struct, frozen=True):
    """One way to the provider and back."""

    state: str
    nonce: str
    verifier: str
    at: float


class Provider:
    """The provider as its metadata describe it. ``now`` is civil time in seconds: the provider's clock is its own."""

    def __init__(self, options: OidcOptions, now: Callable[[], float] = time.time) -> None:
        self._options = options
        self._now = now
        self._asking = asyncio.Lock()
        self._metadata: dict[str, Any] | None = None
        self._metadata_at = -KEPT_S
        self._keys: KeySet | None = None
        self._keys_at = -KEPT_S
        self._failed_at = -AGAIN_S

    async def address(self, flow: Flow, redirect_uri: str) -> str:
        """Where the browser goes. Raises Refused."""
        metadata = await self._described()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(flow.verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._options.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile",
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = metadata["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def claims(self, code: str, flow: Flow, redirect_uri: str) -> dict[str, Any]:
        """What the provider says of who came back with ``code``. Raises Refused."""
        metadata = await self._described()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": flow.verifier,
        }
        options, basic = self._options, None
        if "client_secret_basic" in metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]):
            basic = httpx.BasicAuth(quote(options.client_id, safe=""), quote(options.client_secret, safe=""))
        else:
            form |= {"client_id": options.client_id, "client_secret": options.client_secret}
        answer = await _asked("POST", metadata["token_endpoint"], data=form, auth=basic)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Refused("failed", "the provider sent no ID token")
        return self._checked(await self._decoded(token), flow)

    async def _decoded(self, token: str) -> dict[str, Any]:
        """The claims of a token that one of the provider's keys has signed; a key we do not know is looked for once."""
        for attempt in (1, 2):
            keys = await self._key_set(afresh=attempt == 2)
            try:
                return dict(jwt.decode(token, keys, algorithms=ALGORITHMS).claims)
            except (JoseError, ValueError, TypeError) as error:
                why = f"the ID token is not signed as it must be: {type(error).__name__}"
        raise Refused("failed", why)

    def _checked(self, claims: dict[str, Any], flow: Flow) -> dict[str, Any]:
        """OpenID Connect Core 3.1.3.7."""
        options, now = self._options, self._now()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        wrong = [
            name
            for name, right in (
                ("iss", claims.get("iss") == options.issuer),
                ("aud", options.client_id in audiences),
                ("azp", claims.get("azp", options.client_id) == options.client_id),
                ("azp", len(audiences) == 1 or "azp" in claims),
                ("exp", _number(claims.get("exp")) and claims["exp"] > now - LEEWAY_S),
                ("iat", _number(claims.get("iat")) and claims["iat"] < now + LEEWAY_S),
                ("nbf", "nbf" not in claims or (_number(claims["nbf"]) and claims["nbf"] < now + LEEWAY_S)),
                ("nonce", hmac.compare_digest(str(claims.get("nonce", "")).encode(), flow.nonce.encode())),
                ("sub", isinstance(claims.get("sub"), str) and 0 < len(claims["sub"]) <= MAX_SUBJECT),
            )
            if not right
        ]
        if wrong:
            raise Refused("failed", f"the ID token is not for us, or not for now: {', '.join(wrong)}")
        return claims

    async def _described(self) -> dict[str, Any]:
        async with self._asking:
            if self._metadata is None or time.monotonic() - self._metadata_at >= KEPT_S:
                self._metadata = self._metadata_of(
                    await self._once(f"{self._options.issuer.rstrip('/')}/.well-known/openid-configuration")
                )
                self._metadata_at = time.monotonic()
            return self._metadata

    def _metadata_of(self, answer: dict[str, Any]) -> dict[str, Any]:
        if answer.get("issuer") != self._options.issuer:
            raise Refused("unavailable", f"the provider calls itself {str(answer.get('issuer'))[:200]!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(answer.get(name), str) or _SAFE.match(answer[name]) is None:
                raise Refused("unavailable", f"the provider's {name} is no https address")
        return answer

    async def _key_set(self, *, afresh: bool) -> KeySet:
        metadata = await self._described()
        async with self._asking:
            age = time.monotonic() - self._keys_at
            if self._keys is None or age >= (AGAIN_S if afresh else KEPT_S):
                answer = await self._once(metadata["jwks_uri"])
                self._keys, self._keys_at = _keys_in(answer), time.monotonic()
            return self._keys

    async def _once(self, url: str) -> dict[str, Any]:
        """What ``url`` answers; after a failure it is left in peace for a while, however many people try."""
        if time.monotonic() - self._failed_at < AGAIN_S:
            raise Refused("unavailable", "the provider did not answer a moment ago")
        try:
            return await _asked("GET", url)
        except Refused:
            self._failed_at = time.monotonic()
            raise


def _keys_in(answer: dict[str, Any]) -> KeySet:
    """The keys that check signatures; one that cannot be read, or that is a secret to be shared, is none."""
    found = answer.get("keys")
    keys = []
    for key in found[:100] if isinstance(found, list) else []:
        if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP") and key.get("use") != "enc":
            with contextlib.suppress(JoseError, ValueError, TypeError, KeyError):
                keys.append(import_key(key))
    return KeySet(keys)


class _Cookies:
    """Flows in the browser's own keeping, signed: nothing to remember, and nothing a stranger could fill."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def sealed(self, flow: Flow) -> str:
        text = base64.urlsafe_b64encode(msgspec.json.encode(flow)).decode()
        return f"{text}.{self._signature(text)}"

    def opened(self, value: str | None) -> Flow | None:
        """None for what is not ours, or too old."""
        text, _, signature = (value or "").rpartition(".")
        if not text or not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            return None
        flow = msgspec.json.decode(base64.urlsafe_b64decode(text), type=Flow)
        return flow if 0 <= time.monotonic() - flow.at < FLOW_S else None

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


class SingleSignOn:
    """Sign-ins of one console through its provider."""

    def __init__(self, gateway: ConsolePort, door: Door) -> None:
        self._gateway = gateway
        self._door = door
        self._cookies = _Cookies()
        self._sparingly = Sparingly()
        self._provider: Provider | None = None

    def provider(self) -> Provider:
        """Raises the problem not_found when the settings name none."""
        options = self._gateway.oidc
        if options is None:
            raise Problem("not_found", "the settings name no OpenID Connect provider")
        if self._provider is None:
            self._provider = Provider(options)
        return self._provider

    async def start(self, request: Request) -> Response:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(state, nonce, verifier, time.monotonic())
        provider = self.provider()
        try:
            answer = RedirectResponse(await provider.address(flow, _redirect_uri(request)), 303)
        except Refused as refused:
            return self._back(request, refused)
        secure = request.url.scheme == "https"
        # Lax, because the provider's page sends the browser back: a strict cookie would stay at home.
        answer.set_cookie(
            _cookie_name(secure), self._cookies.sealed(flow), FLOW_S, secure=secure, httponly=True, samesite="lax"
        )
        return answer

    async def callback(self, request: Request, state: str, code: str, error: str, issuer: str | None) -> Response:
        provider, address = self.provider(), address_of(request)
        try:
            self._door.throttle.begin(None, address)
        except Problem:
            return self._back(request, Refused("too_many", "too many tries"))
        try:
            flow = self._cookies.opened(cookie(request.headers, _cookie_name(request.url.scheme == "https")))
            if flow is None or not hmac.compare_digest(flow.state.encode(), state.encode()):
                raise Refused("failed", "this browser did not begin this sign-in, or too long ago")
            if issuer is not None and issuer != self._options.issuer:  # RFC 9207
                raise Refused("failed", "the answer is another provider's")
            if error or not code:
                raise Refused(
                    "cancelled" if error == "access_denied" else "failed", f"the provider said {error!r:.100}"
                )
            claims = await provider.claims(code, flow, _redirect_uri(request))
            user = await self._user(claims)
        except Refused as refused:
            await self._door.failed("?", "sign-in", address)
            return self._back(request, refused)
        now = self._gateway.now()
        session = await self._gateway.records.people.begin_session(user, now, SESSION_LASTS)
        if session is None:
            await self._door.failed(user.name, "sign-in", address)
            return self._back(request, Refused("disabled", f"{user.name} is disabled"))
        self._door.throttle.succeeded(None, address)
        who = Principal(
            user.name, user.role, "console", session, user.scope, user.full_name, user.must_change, SignedInBy.OIDC
        )
        return await self._door.signed_in(request, who, self._forgotten(request, RedirectResponse("/", 303)))

    @property
    def _options(self) -> OidcOptions:
        assert self._gateway.oidc is not None
        return self._gateway.oidc

    async def _user(self, claims: Mapping[str, Any]) -> UserRow:
        """Who it is here: made when unknown, with the role that the provider says. Raises Refused."""
        people, options = self._gateway.records.people, self._options
        subject = f"{options.issuer} {claims['sub']}"
        said = role_of(options, claims)
        user = await people.user_of(subject)
        if user is None:
            if (role := said or options.default_role) is None:
                raise Refused("no_role", "none of the person's roles means anything here")
            return await self._made(subject, claims, role)
        if user.disabled_at is not None:
            raise Refused("disabled", f"{user.name} is disabled")
        if said is None and options.default_role is None:
            raise Refused("no_role", f"none of {user.name}'s roles means anything here any more")
        if said is None or said is user.role:
            return user
        try:
            changed = await people.change(user.name, UserChange(role=said), self._gateway.now())
        except CommandRefused as refused:
            raise Refused("failed", str(refused)) from refused
        await self._noted("change-user", user.name, f"role {user.role.word} → {said.word}, as the provider says")
        return changed

    async def _made(self, subject: str, claims: Mapping[str, Any], role: Role) -> UserRow:
        full_name = "".join(c for c in str(claims.get("name") or "") if c.isprintable())[:100]
        for name in names_for(claims):
            try:
                user = await self._gateway.records.people.create(
                    name, role, self._gateway.now(), full_name=full_name, subject=subject
                )
            except CommandRefused as refused:
                if refused.code == "exists":
                    continue
                raise Refused("failed", str(refused)) from refused
            await self._noted("create-user", user.name, f"role {role.word}, as the provider says")
            return user
        raise Refused("failed", "no name is free for this person")

    async def _noted(self, action: str, name: str, why: str) -> None:
        line = AuditRow(0, self._gateway.now(), name, "oidc", action, name, "done", why)
        await self._gateway.records.add_audit(f"{action}:{secrets.token_hex(16)}", line)

    def _back(self, request: Request, refused: Refused) -> Response:
        if (count := self._sparingly.worth(self._gateway.now())) > 0:
            why = str(refused)[:300]
            log.warning("sign-ins through the provider failed", count=count, code=refused.code, why=why)
        return self._forgotten(request, RedirectResponse(f"/?sign_in={refused.code}", 303))

    def _forgotten(self, request: Request, answer: Response) -> Response:
        secure = request.url.scheme == "https"
        answer.delete_cookie(_cookie_name(secure), secure=secure, httponly=True, samesite="lax")
        return answer


def routes(gateway: ConsolePort, door: Door) -> APIRouter:
    """Both are for browsers, and public: they are the way in."""
    router = APIRouter(tags=["people"])
    sign_on = SingleSignOn(gateway, door)
    elsewhere: dict[int | str, dict[str, Any]] = {303: {"description": "To the provider, or back to the page"}}

    @router.get("/oidc/start", status_code=303, response_class=RedirectResponse, responses=elsewhere)
    async def start(request: Request) -> Response:
        """To the provider of the settings. What fails comes back to the page as `/?sign_in=` with `unavailable`,
        `cancelled`, `failed`, `no_role`, `disabled` or `too_many`."""
        return await sign_on.start(request)

    @router.get("/oidc/callback", status_code=303, response_class=RedirectResponse, responses=elsewhere)
    async def callback(
        request: Request,
        state: Annotated[str, Query(max_length=200)] = "",
        code: Annotated[str, Query(max_length=4000)] = "",
        error: Annotated[str, Query(max_length=200)] = "",
        iss: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        """Back from the provider: a session cookie, and on to the page."""
        return await sign_on.callback(request, state, code, error, iss)

    return router


def role_of(options: OidcOptions, claims: Mapping[str, Any]) -> Role | None:
    """The highest role that the claim gives; a dot in its name goes inside (``realm_access.roles``)."""
    if options.role_claim is None:
        return None
    found: Any = claims.get(options.role_claim)
    if found is None:
        found = claims
        for part in options.role_claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    values = found if isinstance(found, list) else [found]
    return max(
        (options.roles[value] for value in values if isinstance(value, str) and value in options.roles), default=None
    )


def names_for(claims: Mapping[str, Any]) -> list[str]:
    """Names somebody may get here, the best first; which one is a matter of looks only."""
    wished = _ODD.sub("-", normal_name(str(claims.get("preferred_username") or claims.get("name") or ""))).strip("-.@")
    if not wished:
        wished = "user-" + hashlib.sha256(str(claims["sub"]).encode()).hexdigest()[:8]
    return [wished[:60], *(f"{wished[:60]}-{number}" for number in range(2, 20))]


async def _asked(
    method: str, url: str, *, data: Mapping[str, str] | None = None, auth: httpx.Auth | None = None
) -> dict[str, Any]:
    """A JSON object of the provider; Refused when there is none in time. No redirect is followed."""
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            httpx.AsyncClient(timeout=ANSWER_S, follow_redirects=False) as client,
            client.stream(method, url, data=data, auth=auth, headers={"Accept": "application/json"}) as answer,
        ):
            content = b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER:
                    raise Refused("unavailable", f"{url} answers more than {MAX_ANSWER} bytes")
            if answer.status_code >= 500 or answer.is_redirect:
                raise Refused("unavailable", f"{url} answered {answer.status_code}")
            if answer.status_code != 200:
                raise Refused("failed", f"{url} answered {answer.status_code}: {content[:200]!r}")
    except (httpx.HTTPError, TimeoutError) as error:
        raise Refused("unavailable", f"{url} cannot be reached: {type(error).__name__}") from error
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused("unavailable", f"{url} does not answer as it should") from error


def _redirect_uri(request: Request) -> str:
    """Our own address as the browser has it; the provider compares it with the one it was told."""
    return f"{request.url.scheme}://{request.url.netloc}/api/v1/oidc/callback"


def _cookie_name(secure: bool) -> str:
    return "__Host-citywatch-oidc" if secure else "citywatch-oidc"


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
