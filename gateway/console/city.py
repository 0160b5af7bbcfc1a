"""The city over HTTP: assets, what they report now, devices, and readings of the past."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from gateway.console import models, views
from gateway.console.gate import Principal, in_scope, needs, scope_of, visible_device
from gateway.console.paging import Cursor, Limit, listed, page
from gateway.console.port import ConsolePort, RawRow, StepRow
from gateway.console.problems import Problem
from gateway.core.model import HOUR, MINUTE, SECOND, Micros
from gateway.core.records import AssetFilter, AssetRow, AssetState, AuditRow, Role
from gateway.core.vocabulary import unit_of
from gateway.errors import CommandRefused, ConfigError, Unavailable

GEOJSON = "application/geo+json"
MAX_READINGS = 10_000  # a week of minutes; a page of raw ones is about 1 MB
DAY: Micros = 24 * HOUR
MAX_STEPS = 100_000  # from…to in steps: a month of minutes twice over
MAX_STRANGERS = 1_000  # names looked at; a fleet of strangers is a configuration, not a list
QUERIES = 4  # readings queries at once: the historian has other work
QUERY_S = 10.0

_STEP = re.compile(r"^(\d{1,9})(s|m|h|d)$")
_STEP_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}

_GEO_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {GEOJSON: {"schema": {"type": "object"}}}}}


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["city"])
    records = gateway.records
    querying = asyncio.Semaphore(QUERIES)
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

    @router.get("/assets/{asset_id}", response_model=models.AssetView, responses=_GEO_ANSWER)
    async def asset(asset_id: str, request: Request) -> Any:
        """One asset."""
        row = await existing(request, asset_id)
        return geojson(asset_feature(row)) if wants_geojson(request) else asset_view(row)

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

    @router.get("/devices", response_model=models.ListOf[models.DeviceView])
    async def devices(
        request: Request,
        asset: Annotated[str | None, Query(max_length=200)] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """The electronics, by id; those now mounted on ``asset`` when it is given."""
        return await page(records.devices(asset, limit, cursor, scope_of(request)), views.device)

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

    @router.get("/readings", response_model=models.ReadingsView)
    async def readings(
        request: Request,
        asset: Annotated[str, Query(max_length=200)],
        point: Annotated[str, Query(max_length=64)],
        from_: Annotated[str | None, Query(alias="from", description="ISO 8601 with zone; default to − 24 h.")] = None,
        to: Annotated[str | None, Query(description="ISO 8601 with zone, not included; default now.")] = None,
        step: Annotated[str | None, Query(description="10s, 1m, 1h, 1d …; raw readings when left out.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_READINGS)] = 1000,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Readings of one point, oldest first: raw, or count, min, mean, max and last of every step."""
        row = await existing(request, asset)
        end = _time(to, "to") if to is not None else gateway.now() + 1
        start = _time(from_, "from") if from_ is not None else end - DAY
        width = None if step is None else _step(step)
        if start > end:
            raise Problem("invalid", "from is later than to")
        if width is not None and (end - start) // width > MAX_STEPS:
            raise Problem("invalid", f"more than {MAX_STEPS} steps: take a wider step or a shorter time")
        given = 0
        if cursor is not None:
            start, given = _cursor(cursor)
        rows = await _ask(querying, gateway, asset, point, start, end, width, limit + given + 1)
        rows = rows[given:]
        more = len(rows) > limit
        rows = rows[:limit]
        return {
            "asset": asset,
            "point": point,
            "unit": unit_of(row.asset.kind, point),
            "step_s": None if width is None else width / SECOND,
            "items": [views.reading(item) for item in rows],
            "cursor": _cursor_behind(rows, start, given) if more else None,
        }

    return router


async def _ask(
    querying: asyncio.Semaphore,
    gateway: ConsolePort,
    asset: str,
    point: str,
    start: Micros,
    end: Micros,
    step: Micros | None,
    limit: int,
) -> list[RawRow | StepRow]:
    """The historian's answer; raises Unavailable rather than letting questions pile up."""
    try:
        async with asyncio.timeout(QUERY_S), querying:
            return list(await gateway.readings(asset, point, start, end, step, limit))
    except TimeoutError as error:
        raise Unavailable("the historian is busy with other questions") from error


def _cursor_behind(rows: list[RawRow | StepRow], start: Micros, given: int) -> str:
    """``<time>.<n>``: go on at ``time``, of which ``n`` rows were given already (several may share a time)."""
    last = rows[-1].time
    same = sum(1 for row in rows if row.time == last)
    return f"{last}.{same + given if last == start else same}"


def _cursor(text: str) -> tuple[Micros, int]:
    match = re.match(r"^(-?\d{1,18})\.(\d{1,5})$", text)
    if match is None:
        raise Problem("bad_cursor")
    return int(match[1]), min(int(match[2]), MAX_READINGS)


def _time(text: str, name: str) -> Micros:
    try:
        return views.micros(text)
    except (ValueError, OverflowError) as error:
        raise Problem("invalid", f"{name}: {error}") from error


def _step(text: str) -> Micros:
    match = _STEP.match(text)
    if match is None or int(match[1]) == 0:
        raise Problem("invalid", "step: write 10s, 1m, 1h or 1d")
    return int(match[1]) * _STEP_UNITS[match[2]]


def wants_geojson(request: Request) -> bool:
    return GEOJSON in request.headers.get("accept", "")


def geojson(document: dict[str, Any]) -> Response:
    return JSONResponse(document, media_type=GEOJSON)
