"""The gateway about itself over HTTP: health, ledger, rejected frames, audit, metrics, live stream, tokens, sign-in."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.console import models, views
from gateway.console.feed import Feed
from gateway.console.gate import Gate, Principal, cookie_name, needs, principal_of, same_site, scope_of, visible_device
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.console.stream import EventStream
from gateway.core.model import HOUR, Micros
from gateway.core.records import AuditRow, Role
from gateway.errors import Unavailable

SESSION: Micros = 12 * HOUR  # a shift; then the page asks for the token again
MAX_STREAMS = 300  # three times the hundred consoles of the largest centre

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def public_routes(gateway: ConsolePort) -> APIRouter:
    """What needs no name."""
    router = APIRouter(tags=["system"])

    @router.get("/health", response_model=models.HealthView, responses={503: {"model": models.HealthView}})
    async def health() -> JSONResponse:
        """200 while the gateway does its job, 503 with the reasons otherwise."""
        report = gateway.health()
        return JSONResponse(views.health(report), 200 if report.ok else 503)

    @router.post("/session", response_model=models.WhoView)
    async def sign_in(body: models.SignIn, request: Request) -> Response:
        """Change a token for a session cookie; for our own page only."""
        same_site(request.scope, request.headers)
        records, now = gateway.records, gateway.now()
        row = await records.token(body.token, now)
        session_id = await records.create_session(body.token, now, SESSION) if row is not None else None
        if row is None or session_id is None:
            raise Problem("unauthenticated", "this token is not known, has expired, or was revoked")
        line = AuditRow(0, now, row.name, "console", "sign-in", row.name, "done")
        await records.add_audit(f"sign-in:{secrets.token_hex(16)}", line)
        answer = JSONResponse({"name": row.name, "role": row.role.word})
        secure = request.url.scheme == "https"
        answer.set_cookie(
            cookie_name(secure), session_id, SESSION // 1_000_000, secure=secure, httponly=True, samesite="strict"
        )
        return answer

    return router


def routes(gateway: ConsolePort, feed: Feed, gate: Gate) -> APIRouter:
    """What needs a name, and in part a role."""
    router = APIRouter(tags=["system"])
    records = gateway.records

    @router.get("/stream", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    async def stream(request: Request, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        """Server-Sent Events: ``snapshot`` (the standing alarms), then ``alarm`` (each transition) and ``load`` (alarms
        of the last 10 min, flood or not); ``alive`` every 15 s. ``Last-Event-ID`` goes on where the reader stopped, or
        gives a fresh snapshot."""
        if feed.subscribers >= MAX_STREAMS:
            raise Unavailable(f"{MAX_STREAMS} streams are open already")
        principal = principal_of(request)
        secure = request.url.scheme == "https"
        return EventStream(
            feed.batches(last_event_id, principal.scope, gateway.asset),
            lambda: gate.still_good(principal, request.headers, secure=secure),
        )

    @router.get("/ledger", response_model=models.LedgerOut)
    async def ledger(
        request: Request,
        device: Annotated[str | None, Query(max_length=128)] = None,
        limit: Limit = 100,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> dict[str, Any]:
        """What became of every frame, of one device, or in all and by device; in all for who sees the whole city."""
        if device is not None:
            visible_device(request, gateway, device)
        elif scope_of(request):
            raise Problem("narrowed")
        account = gateway.ledger(device)
        if account is None:
            raise Problem("not_found", "nothing was ever received from this device")
        if device is not None:
            return dict(account)
        names = gateway.ledger_devices(cursor or "", limit + 1)
        accounts = [found for name in names[:limit] if (found := gateway.ledger(name)) is not None]
        return {**account, "devices": accounts, "cursor": names[limit - 1] if len(names) > limit else None}

    @router.get("/rejected", response_model=models.ListOf[models.RejectedView])
    async def rejected(
        request: Request,
        device: Annotated[str | None, Query(max_length=128)] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Frames that became no readings, with the reason, newest first."""
        return await page(records.rejected(device, limit, cursor, scope_of(request)), views.rejected)

    @router.get("/audit", response_model=models.ListOf[models.AuditView])
    async def audit(
        who: Annotated[Principal, Depends(needs(Role.SUPERVISOR, whole_city=True))],
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Who did what, newest first. Needs the role supervisor."""
        return await page(records.audit(limit, cursor), views.audit)

    @router.get("/session", response_model=models.WhoView)
    async def who(request: Request) -> dict[str, Any]:
        """Who the console takes you for."""
        principal = principal_of(request)
        return {"name": principal.name, "role": principal.role.word}

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

    @router.get("/tokens", response_model=list[models.TokenView])
    async def tokens(who: Annotated[Principal, Depends(needs(Role.ADMIN))]) -> list[dict[str, Any]]:
        """All tokens; never the secrets. Needs the role admin."""
        return [views.token(row) for row in await records.tokens()]

    @router.post("/tokens", response_model=models.NewTokenView, status_code=201)
    async def create_token(
        body: models.NewToken, who: Annotated[Principal, Depends(needs(Role.ADMIN))]
    ) -> dict[str, Any]:
        """A new token. Needs the role admin."""
        now = gateway.now()
        until = None if body.expires_at is None else views.micros(body.expires_at.isoformat())
        try:
            secret = await records.create_token(body.name, Role[body.role.upper()], now, until)
        except ValueError as error:
            raise Problem("exists", str(error)) from error
        line = AuditRow(0, now, who.name, who.channel, "create-token", body.name, "done", f"role {body.role}")
        await records.add_audit(f"token:{secrets.token_hex(16)}", line)
        return {"token": secret, "name": body.name, "role": body.role}

    @router.delete("/tokens/{name}", status_code=204)
    async def revoke_token(name: str, who: Annotated[Principal, Depends(needs(Role.ADMIN))]) -> Response:
        """A token and its sessions end now. Needs the role admin; nobody can revoke the token they are using."""
        if name == who.name:
            raise Problem("not_allowed", "this is the token you are using")
        if not await records.revoke_token(name, gateway.now()):
            raise Problem("not_found", f"there is no token {name!r}")
        gate.forget()
        line = AuditRow(0, gateway.now(), who.name, who.channel, "revoke-token", name, "done")
        await records.add_audit(f"token:{secrets.token_hex(16)}", line)
        return Response(status_code=204)

    return router


def metrics_route(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["system"])

    @router.get("/metrics", response_class=Response, responses={200: {"content": {_PROMETHEUS: {}}}})
    async def metrics(who: Annotated[Principal, Depends(needs(Role.VIEWER, whole_city=True))]) -> Response:
        """Prometheus text format."""
        return Response(gateway.metrics(), media_type=_PROMETHEUS)

    return router
