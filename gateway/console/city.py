"""The city over HTTP: assets, what they report now, and devices."""

from __future__ import annotations

import json
import secrets
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from gateway.console import models, views
from gateway.console.gate import Principal, in_scope, needs, scope_of, visible_device
from gateway.console.paging import Cursor, Limit, listed, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.records import AssetFilter, AssetRow, AssetState, AuditRow, Role
from gateway.errors import CommandRefused, ConfigError, Unavailable

GEOJSON = "application/geo+json"
MAX_STRANGERS = 1_000  # names looked at; a fleet of strangers is a configuration, not a list
CHILDREN = 200  # assets that name one: a circuit has forty lamps, a network may have thousands

_GEO_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {GEOJSON: {"schema": {"type": "object"}}}}}


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["city"])
    records = gateway.records
    asset_view = partial(views.asset, layout=gateway.component_code_layout)
    asset_feature = partial(views.asset_feature, layout=gateway.component_code_layout)

    async def noted(who: Principal, action: str, subject: str, why: str | None = None, outcome: str = "done") -> None:
        line = AuditRow(0, gateway.now(), who.name, who.channel, action, subject, outcome, why)
        await records.add_audit(f"{action}:{secrets.token_hex(16)}", line)

    async def existing(request: Request, asset_id: str) -> AssetRow:
        row = await records.asset(asset_id)
        if row is None or not in_scope(request, row.asset):
            raise Problem("not_found", f"there is no asset {asset_id!r}")
        return row

    @router.get("/assets", response_model=models.ListOf[models.AssetView], responses=_GEO_ANSWER)
    async def assets(
        request: Request,
        kind: Annotated[list[str] | None, Query(description="Comma-separated or repeated.")] = None,
        road: Annotated[str | None, Query(max_length=200)] = None,
        town: Annotated[str | None, Query(max_length=200)] = None,
        unit: Annotated[str | None, Query(max_length=200)] = None,
        state: Annotated[str | None, Query(description="normal or alarm.")] = None,
        q: Annotated[str | None, Query(max_length=200, description="Part of the id or the name.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Any:
        """Assets by id, with the alarms that stand on them. GeoJSON with ``Accept: application/geo+json``."""
        states = listed([state] if state else None, "state", {s.name: s for s in AssetState})
        wanted = AssetFilter(
            kinds=tuple(listed(kind, "kind", None)),
            road=road,
            town=town,
            unit=unit,
            state=states[0] if states else None,
            q=q,
            scope=scope_of(request),
        )
        if not wants_geojson(request):
            return await page(records.assets(wanted, limit, cursor), asset_view)
        found = await page(records.assets(wanted, limit, cursor), asset_feature)
        return geojson({"type": "FeatureCollection", "features": found["items"], "cursor": found["cursor"]})

    @router.get("/assets/{asset_id}", response_model=models.AssetDetail, responses=_GEO_ANSWER)
    async def asset(asset_id: str, request: Request) -> Any:
        """One asset, with what it names and what names it."""
        row = await existing(request, asset_id)
        if wants_geojson(request):
            return geojson(asset_feature(row))
        city = gateway.city
        parents = [(link, city.asset(name)) for link, name in sorted(row.asset.links.items())]
        children = [(link, city.asset(name)) for link, name in sorted(city.named_by(asset_id))]
        seen = [(link, child) for link, child in children if child is not None and in_scope(request, child)]
        return asset_view(row) | {
            "parents": [views.link(link, parent) for link, parent in parents if parent and in_scope(request, parent)],
            "children": [views.link(link, child) for link, child in seen[:CHILDREN]],
            "children_total": len(seen),
        }

    @router.get("/assets/{asset_id}/points", response_model=list[models.PointOut], responses=_GEO_ANSWER)
    async def points(asset_id: str, request: Request) -> Any:
        """What the asset reports now. As GeoJSON: one feature at the asset's place, the points in its properties."""
        row = await existing(request, asset_id)
        current = [views.point(point) for point in gateway.points(asset_id)]
        if not wants_geojson(request):
            return current
        feature = asset_feature(row)
        feature["properties"]["points"] = {point.pop("point"): point for point in current}
        return geojson(feature)

    @router.post("/devices/{device_id}/credentials", response_model=models.CredentialsView, status_code=201)
    async def issue_credentials(
        device_id: str, request: Request, who: Annotated[Principal, Depends(needs(Role.ADMIN))]
    ) -> dict[str, str]:
        """A new password at the embedded broker; the one before is void at once. Needs the role admin."""
        visible_device(request, gateway, device_id)
        try:
            user, password = await gateway.issue_credentials(device_id)
        except ConfigError as error:
            raise Problem("not_found", "; ".join(m.message for m in error.mistakes)) from error
        await noted(who, "issue-credentials", device_id)
        return {"user": user, "password": password}

    @router.delete("/devices/{device_id}/credentials", status_code=204)
    async def revoke_credentials(
        device_id: str, request: Request, who: Annotated[Principal, Depends(needs(Role.ADMIN))]
    ) -> Response:
        """The device may not log in to the embedded broker until credentials are issued again. Needs the role admin."""
        visible_device(request, gateway, device_id)
        try:
            await gateway.revoke_credentials(device_id)
        except ConfigError as error:
            raise Problem("not_found", "; ".join(m.message for m in error.mistakes)) from error
        await noted(who, "revoke-credentials", device_id)
        return Response(status_code=204)

    @router.post("/devices/{device_id}/points/{point}", response_model=models.WrittenView)
    async def write_point(
        device_id: str,
        point: str,
        body: models.WritePoint,
        request: Request,
        who: Annotated[Principal, Depends(needs(Role.SUPERVISOR))],
    ) -> dict[str, Any]:
        """Have a device set a point; answered when the device has confirmed it. A 503 may leave it open whether the
        device carried it out: its detail says so. Needs the role supervisor, and `modbus: {allow_writes: true}`."""
        visible_device(request, gateway, device_id)
        subject, why = f"{device_id}/{point}", f"{json.dumps(body.value, ensure_ascii=False)[:100]}: {body.why}"
        # Twice: should the process die now, the audit still tells what was about to be done.
        await noted(who, "write-point", subject, why, "asked")
        outcome = "failed"
        try:
            value = await gateway.write_point(device_id, point, body.value)
            outcome = "done"
        except CommandRefused as refusal:
            outcome = refusal.code
            raise
        except Unavailable:
            outcome = "unavailable"
            raise
        finally:
            await noted(who, "write-point", subject, why, outcome)
        return views.written(device_id, point, value, gateway.now())

    @router.get("/unknown-devices", response_model=list[models.StrangerView])
    async def unknown_devices(
        who: Annotated[Principal, Depends(needs(Role.VIEWER, whole_city=True))], limit: Limit = 100
    ) -> list[dict[str, Any]]:
        """Devices that speak and are not registered, as far as their frames are kept; the newest first. They belong to
        no asset yet, so only who sees the whole city sees them."""
        rows = await records.strangers(MAX_STRANGERS)
        return [views.stranger(row) for row in rows if not gateway.is_registered(row.name)][:limit]

    @router.post("/unknown-devices/{name}/claim", response_model=models.DeviceView, status_code=201)
    async def claim(
        name: str, body: models.Claim, who: Annotated[Principal, Depends(needs(Role.SUPERVISOR, whole_city=True))]
    ) -> dict[str, Any]:
        """Register a device under the name it speaks by; its next message counts. Needs the role supervisor."""
        if gateway.is_registered(name):
            raise Problem("exists", f"{name} is registered already")
        device_id = body.device or name
        wanted = {
            "device": device_id,
            "asset": body.asset,
            "profile": body.profile,
            "address": name if name != device_id else "",
            "expected_interval": body.expected_interval_s,
            "attributes": body.attributes,
        }
        try:
            device = await gateway.claim(wanted)
        except ConfigError as error:
            raise Problem("invalid", "; ".join(f"{m.key}: {m.message}" for m in error.mistakes)) from error
        await noted(who, "claim", device.device, body.why)
        return views.device(device)

    return router


def wants_geojson(request: Request) -> bool:
    return GEOJSON in request.headers.get("accept", "")


def geojson(document: dict[str, Any]) -> Response:
    return JSONResponse(document, media_type=GEOJSON)
