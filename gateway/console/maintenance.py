"""Maintenance over HTTP: which assets are or will be out of service, until when, for which work; planning, ending.

Whatever is raised on an asset meanwhile is recorded and told to nobody (``core/maintenance.py``).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, Field

from gateway.console import models, views
from gateway.console.commands import IdempotencyKey, carry_out, must_be
from gateway.console.gate import principal_of, scope_of, visible
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.maintenance import window_id
from gateway.core.model import CommandName, Maintenance
from gateway.core.records import MaintenanceState, Role


class MaintenanceView(models.Out):
    """``ended_by`` is null when its time had come, or when it is not over."""

    id: str
    asset: str
    state: MaintenanceState
    since: models.Time
    until: models.Time
    work: str
    reason: str
    by: str
    created_at: models.Time
    ended_at: models.Time | None
    ended_by: str | None


class Planning(models.In):
    """From ``since`` (now, when left out; at most a year ahead) until ``until``, at most 30 days."""

    asset: Annotated[str, Field(min_length=1, max_length=64)]
    since: AwareDatetime | None = None
    until: AwareDatetime
    work: Annotated[str, Field(min_length=1, max_length=200)]
    reason: models.Words


class Ending(models.In):
    comment: models.MaybeWords = None


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["maintenance"])
    records = gateway.records

    def view(window: Maintenance) -> dict[str, Any]:
        state = MaintenanceState.ENDED
        if window.ended_at is None:
            state = MaintenanceState.PLANNED if window.since > gateway.now() else MaintenanceState.OPEN
        return {
            "id": window.id,
            "asset": window.asset,
            "state": state.value,
            "since": views.iso(window.since),
            "until": views.iso(window.until),
            "work": window.work,
            "reason": window.reason,
            "by": window.by,
            "created_at": views.iso(window.created_at),
            "ended_at": views.iso_or_none(window.ended_at),
            "ended_by": window.ended_by,
        }

    async def existing(id_: str, request: Request) -> Maintenance:
        window = await records.work.maintenance_by_id(id_)
        if window is None:
            raise Problem("not_found", f"there is no maintenance {id_!r}")
        visible(request, gateway, window.asset, f"maintenance {id_!r}")
        return window

    @router.get("/maintenance", response_model=models.ListOf[MaintenanceView])
    async def windows(
        request: Request,
        state: Annotated[MaintenanceState | None, Query(description="Default: planned and open.")] = None,
        asset: Annotated[str | None, Query(max_length=64)] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Assets under maintenance, or that will be, the latest end first."""
        found = records.work.maintenance(state, asset, gateway.now(), limit, cursor, scope_of(request))
        return await page(found, view)

    @router.post("/maintenance", response_model=MaintenanceView, status_code=201)
    async def plan(body: Planning, request: Request, idempotency_key: IdempotencyKey = None) -> dict[str, Any]:
        """Put an asset out of service for a time, now or later; one asset's times do not overlap. Needs the role
        maintainer."""
        who = principal_of(request)
        visible(request, gateway, body.asset)
        await must_be(gateway, who, Role.MAINTAINER, CommandName.MAINTENANCE, body.asset)
        until = views.micros(body.until.isoformat())
        since = None if body.since is None else views.micros(body.since.isoformat())
        command_id, _ = await carry_out(
            gateway,
            who,
            idempotency_key,
            CommandName.MAINTENANCE,
            body.asset,
            why=body.reason,
            arguments={"work": body.work, "since": since, "until": until},
        )
        return view(await existing(window_id(command_id), request))

    @router.post("/maintenance/{id}/end", response_model=MaintenanceView)
    async def end(
        id: str, body: Ending, request: Request, idempotency_key: IdempotencyKey = None
    ) -> dict[str, Any]:  # fmt: skip
        """End it before its time, or call it off. What still stands is told again. Needs the role maintainer."""
        who = principal_of(request)
        window = await existing(id, request)
        await must_be(gateway, who, Role.MAINTAINER, CommandName.END_MAINTENANCE, window.asset)
        await carry_out(
            gateway,
            who,
            idempotency_key,
            CommandName.END_MAINTENANCE,
            window.asset,
            why=body.comment,
            arguments={"id": window.id},
        )
        return view(await existing(id, request))

    return router
