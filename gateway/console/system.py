"""The gateway about itself over HTTP: health, ledger, rejected frames, audit, metrics, live stream."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.console import models, views
from gateway.console.feed import Feed, Part
from gateway.console.gate import Gate, Principal, needs, principal_of, scope_of, visible_device
from gateway.console.load import load_now
from gateway.console.pages import accepted
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.console.stream import EventStream
from gateway.core.records import Role
from gateway.errors import Unavailable

MAX_STREAMS = 300  # three times the hundred consoles of the largest centre

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def public_routes(gateway: ConsolePort) -> APIRouter:
    """What needs no name."""
    router = APIRouter(tags=["system"])

    @router.get("/health", response_model=models.HealthView, responses={503: {"model": models.HealthView}})
    async def health(request: Request) -> JSONResponse:
        """200 while the gateway does its job, 503 with the reasons otherwise. Who is signed in and sees the whole city
        is told the parts with their texts and figures."""
        report = gateway.health()
        who: Principal | None = request.scope.get("state", {}).get("principal")
        inside = who is not None and not who.scope and not who.must_change
        return JSONResponse(views.health(report, inside=inside), 200 if report.ok else 503)

    return router


def routes(gateway: ConsolePort, feed: Feed, gate: Gate) -> APIRouter:
    """What needs a name, and in part a role."""
    router = APIRouter(tags=["system"])
    records = gateway.records

    @router.get("/stream", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
    async def stream(
        request: Request, last_event_id: Annotated[str | None, Header()] = None, packed: bool = False
    ) -> Response:
        """Server-Sent Events: ``snapshot`` (the standing alarms), then ``alarm`` (each transition) and ``load`` (alarms
        of the last 10 min, flood or not); ``alive`` every 15 s. ``Last-Event-ID`` goes on where the reader stopped, or
        gives a fresh snapshot. ``packed``: as gzip, for a reader that accepts it."""
        if feed.subscribers >= MAX_STREAMS:
            raise Unavailable(f"{MAX_STREAMS} streams are open already")
        principal = principal_of(request)
        secure = request.url.scheme == "https"
        part = Part(principal.scope, gateway.asset, partial(load_now, gateway)) if principal.scope else None
        return EventStream(
            feed.batches(last_event_id, part),
            lambda: gate.still_good(principal, request.headers, secure=secure),
            packed=packed and "gzip" in accepted(request.headers.get("accept-encoding", "")),
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

    return router


def metrics_route(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["system"])

    @router.get("/metrics", response_class=Response, responses={200: {"content": {_PROMETHEUS: {}}}})
    async def metrics(who: Annotated[Principal, Depends(needs(Role.VIEWER, whole_city=True))]) -> Response:
        """Prometheus text format."""
        return Response(gateway.metrics(), media_type=_PROMETHEUS)

    return router
