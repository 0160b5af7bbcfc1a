"""A small OpenID Connect provider on loopback, with keys of its own; what it says wrongly can be chosen."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.console.server import ConsoleServer

ZHAO = {"sub": "10001", "preferred_username": "zhao", "name": "赵工"}
CLIENT, SECRET = "citywatch", "a secret: with / odd & letters"


@dataclass
class Provider:
    """``person``: the claims of whoever is at the keyboard; ``claims``: what an ID token says otherwise (None: not at
    all); ``sign``: how it is signed."""

    issuer: str = ""
    person: dict[str, Any] = field(default_factory=lambda: dict(ZHAO))
    claims: dict[str, Any] = field(default_factory=dict)
    sign: str = "RS256"
    metadata: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, Response] = field(default_factory=dict)
    by_post: bool = False
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first", "use": "sig"}))
    ec: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"}))
    stranger: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first"}))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/jwks", self._jwks),
            ]
        )

    async def _metadata(self, request: Request) -> Response:
        self.asked.append("metadata")
        usual = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post" if self.by_post else "client_secret_basic"],
        }
        return self.broken.get("metadata") or JSONResponse(usual | self.metadata)

    async def _authorize(self, request: Request) -> Response:
        """Whoever comes is the person, and agrees."""
        query = dict(request.query_params)
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        back = urlencode({"code": code, "state": query["state"]})
        return RedirectResponse(f"{query['redirect_uri']}?{back}", 302)

    async def _token(self, request: Request) -> Response:
        self.asked.append("token")
        if "token" in self.broken:
            return self.broken["token"]
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if self.by_post:
            who = (form.get("client_id"), form.get("client_secret"))
        else:
            basic = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
            name, _, secret = basic.partition(":")
            who = (unquote(name), unquote(secret))
        query = self.codes.pop(form.get("code", ""), None)  # once
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
        if (
            who != (CLIENT, SECRET)
            or query is None
            or challenge != query["code_challenge"]
            or form.get("redirect_uri") != query["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": query["nonce"]}
        said = {name: value for name, value in (claims | self.person | self.claims).items() if value is not None}
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self._signed(said)})

    def _signed(self, claims: dict[str, Any]) -> str:
        match self.sign:
            case "none":
                return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."
            case "HS256 with the public key":  # key confusion: libraries refuse to sign so, and this is by hand
                text = f"{_part({'alg': 'HS256', 'kid': 'first'})}.{_part(claims)}"
                digest = hmac.digest(self.key.as_pem(private=False), text.encode(), "sha256")
                return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
            case "HS256 with the client's secret":
                key = OctKey.import_key(SECRET * 2)
                return jwt.encode({"alg": "HS256"}, claims, key)
            case "a stranger's key":
                return jwt.encode({"alg": "RS256", "kid": "first"}, claims, self.stranger)
            case "a key of its own header":
                header = {"alg": "RS256", "jwk": self.stranger.as_dict(private=False)}
                return jwt.encode(header, claims, self.stranger)
            case "ES256":
                return jwt.encode({"alg": "ES256", "kid": "ec"}, claims, self.ec)
            case "nothing":
                return "not.a.token"
            case _:
                return jwt.encode({"alg": "RS256", "kid": str(self.key.kid)}, claims, self.key)

    async def _jwks(self, request: Request) -> Response:
        self.asked.append("jwks")
        shared = {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")}
        odd = {"kty": "RSA", "kid": "odd", "n": "!", "e": "AQAB"}
        keys = [shared, odd, self.key.as_dict(private=False), self.ec.as_dict(private=False)]
        return self.broken.get("jwks") or JSONResponse({"keys": keys})


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """One that runs."""
    made = Provider()
    server = ConsoleServer(made.app(), port=0)
    async with asyncio.TaskGroup() as group:
        await server.start()
        made.issuer = server.url
        group.create_task(server.run(), name="provider")
        try:
            yield made
        finally:
            await server.stop()
