"""Tests of the path to people over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends

from gateway.console import models, views
from gateway.console.gate import Principal, needs
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.core.records import CanaryRow, Role


class HopsView(models.Out):
    """Milliseconds of each hop since the one before it; null where it did not come so far."""

    journaled: float | None
    decided: float | None
    stored: float | None
    claimed: float | None
    handed_over: float | None


class CanaryView(models.Out):
    """One test. ``late``: handed over when nobody waited for it any more; ``total_ms``: as far as it came."""

    id: str
    at: models.Time
    outcome: Literal["delivered", "late", "lost"]
    hops: HopsView
    total_ms: float


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["system"])

    @router.get("/canaries", response_model=models.ListOf[CanaryView])
    async def canaries(
        who: Annotated[Principal, Depends(needs(Role.VIEWER, whole_city=True))],
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Tests of the path from a reading to people's phones, the newest first."""
        return await page(gateway.records.canaries.newest(limit, cursor), _view)

    return router


def _view(row: CanaryRow) -> dict[str, Any]:
    names = HopsView.model_fields
    return {
        "id": row.id,
        "at": views.iso(row.at),
        "outcome": row.outcome.value,
        "hops": {name: row.hops.get(name) for name in names},
        "total_ms": round(sum(row.hops.values()), 3),
    }
