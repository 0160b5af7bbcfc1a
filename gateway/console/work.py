"""Work in the field over HTTP: my orders, one order with everything its crew needs, and photos. What people do about an
order are actions of its alarm (``alarms.py``)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import JSONResponse, Response

from gateway.console import models, views
from gateway.console.gate import Principal, needs, principal_of, scope_of, visible
from gateway.console.paging import Cursor, Limit, listed, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.case_clock import Calendar, deadline
from gateway.core.model import AlarmRecord, Asset, WorkState
from gateway.core.records import AuditRow, PhotoRow, Role, WorkFilter
from gateway.core.work import WAITING

MAX_PHOTOS = 100  # of one alarm, all its orders together
MAX_STEPS = 200  # of one order: most have six

SIGNATURES = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))

_PATH = "/alarms/{alarm_id:alarm_id}/photos"
_BODY = {"schema": {"type": "string", "format": "binary"}}


class PlaceView(models.Out):
    """Where to go; coordinates in WGS 84."""

    name: str
    kind: str
    road: str
    town: str
    unit: str
    longitude: float | None
    latitude: float | None


class DueView(models.Out):
    """By when somebody must respond and the alarm be resolved: the times of its rule's ``sla``, by its clock, since the
    alarm was detected; null where the rule does not say."""

    respond_by: models.Time | None
    resolve_by: models.Time | None


class WorkItem(models.Out):
    alarm: models.AlarmView
    place: PlaceView | None
    due: DueView


class PhotoView(models.Out):
    """``id`` is the SHA-256 of the photo."""

    id: str
    alarm_id: str
    occurrence_id: str
    at: models.Time
    by: str
    media_type: str
    size: int


class WorkDetail(WorkItem):
    """``response``: what the rule says is to be done; ``photos``: of the alarm, oldest first; ``steps`` of its work,
    newest first."""

    response: models.Title
    photos: list[PhotoView]
    steps: list[models.TransitionView]


def place(asset: Asset | None) -> dict[str, Any] | None:
    if asset is None:
        return None
    return {
        "name": asset.name or asset.asset,
        "kind": asset.kind,
        "road": asset.road,
        "town": asset.town,
        "unit": asset.unit,
        "longitude": asset.longitude,
        "latitude": asset.latitude,
    }


def due(record: AlarmRecord, rule: Mapping[str, Any] | None, calendar: Calendar) -> dict[str, Any]:
    sla, since = (rule or {}).get("sla"), record.detected_at
    if sla is None or since is None:
        return {"respond_by": None, "resolve_by": None}

    def over(lasts: int | None) -> str | None:
        return None if lasts is None else views.iso(deadline(sla["clock"], since, lasts, calendar))

    return {"respond_by": over(sla["respond"]), "resolve_by": over(sla["resolve"])}


def photo(row: PhotoRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "alarm_id": row.alarm_id,
        "occurrence_id": row.occurrence_id,
        "at": views.iso(row.at),
        "by": row.by,
        "media_type": row.media_type,
        "size": row.size,
    }


def media_type_of(content: bytes) -> str | None:
    """JPEG, PNG or WebP by the first bytes; None for everything else."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((name for begin, name in SIGNATURES if content.startswith(begin)), None)


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["work"])
    records = gateway.records

    def item(record: AlarmRecord) -> dict[str, Any]:
        return {
            "alarm": views.alarm(record),
            "place": place(gateway.asset(record.asset)),
            "due": due(record, gateway.rule(record.rule), gateway.routing.calendar),
        }

    async def existing(request: Request, alarm_id: str) -> AlarmRecord:
        visible(request, gateway, alarm_id.partition("/")[0], f"alarm {alarm_id!r} yet")
        record = await records.alarm(alarm_id)
        if record is None:
            raise Problem("not_found", f"there is no alarm {alarm_id!r} yet")
        return record

    @router.get("/work", response_model=models.ListOf[WorkItem])
    async def work(
        request: Request,
        state: Annotated[
            list[str] | None, Query(description="Of the work, comma-separated or repeated; default all but CLOSED.")
        ] = None,
        to: Annotated[list[str] | None, Query(description="Persons, teams or rotas.")] = None,
        mine: Annotated[bool, Query(description="Dispatched to me, or to a team or rota of mine.")] = False,
        since: Annotated[str | None, Query(max_length=40, description="Changed since; ISO 8601 with zone.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Alarms with work, what changed last first; each filter narrows."""
        states = [one.value for one in listed(state, "state", WorkState.__members__)]
        names = set(listed(to, "to", None))
        if mine:
            user = principal_of(request).name
            ours = {user, *gateway.teams_of(user)}
            names = names & ours if names else ours
            if not names:
                return {"items": [], "cursor": None}
        try:
            begin = None if since is None else views.micros(since)
        except ValueError as error:
            raise Problem("invalid", f"since: {error}") from error
        wanted = WorkFilter(tuple(states or sorted(WAITING)), tuple(sorted(names)), begin, scope_of(request))
        return await page(records.work.orders(wanted, limit, cursor), item)

    @router.get("/work/{alarm_id:alarm_id}", response_model=WorkDetail)
    async def order(alarm_id: str, request: Request) -> dict[str, Any]:
        """Everything the crew needs: the alarm, where it is, what is to be done, the photos, the steps so far."""
        record = await existing(request, alarm_id)
        if record.order is None:
            raise Problem("not_found", f"nobody was sent to {alarm_id!r}")
        rule = gateway.rule(record.rule) or {}
        return {
            **item(record),
            "response": {"zh": rule.get("response_zh", ""), "en": rule.get("response_en", "")},
            "photos": [photo(row) for row in await records.work.photos(alarm_id)],
            "steps": [views.transition(step) for step in await records.work.steps(alarm_id, MAX_STEPS)],
        }

    @router.post(
        _PATH,
        response_model=PhotoView,
        status_code=201,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": dict.fromkeys(("image/jpeg", "image/png", "image/webp"), _BODY),
            }
        },
        responses={200: {"model": PhotoView, "description": "It was there already"}},
    )
    async def add_photo(
        alarm_id: str, request: Request, who: Annotated[Principal, Depends(needs(Role.MAINTAINER))]
    ) -> Response:
        """Add a photo: the body is the image, at most 5 MB. The same photo again is the same id. Needs the role
        maintainer."""
        record = await existing(request, alarm_id)
        content = await request.body()
        media_type = media_type_of(content)
        if media_type is None:
            raise Problem("invalid", "a photo is a JPEG, PNG or WebP image")
        occurrence = record.order.id if record.order is not None else record.occurrence_id
        now = gateway.now()
        added = await records.work.add_photo(alarm_id, occurrence, now, who.name, media_type, content, MAX_PHOTOS)
        if added is None:
            raise Problem("not_allowed", f"there are {MAX_PHOTOS} photos of this alarm already")
        row, new = added
        if new:
            line = AuditRow(0, now, who.name, who.channel, "photo", alarm_id, "done", row.id)
            await records.add_audit(f"photo:{secrets.token_hex(16)}", line)
        return JSONResponse(photo(row), 201 if new else 200)

    @router.get(
        "/photos/{photo_id}",
        response_class=Response,
        responses={200: {"content": dict.fromkeys(("image/jpeg", "image/png", "image/webp"), _BODY)}},
    )
    async def one(photo_id: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")], request: Request) -> Response:
        """The photo itself. Who may see its alarm may see it."""
        found = await records.work.photo(photo_id, scope_of(request))
        if found is None:
            raise Problem("not_found", "there is no such photo")
        row, content = found
        headers = {
            "Content-Disposition": f'inline; filename="{row.id[:12]}.{row.media_type.partition("/")[2]}"',
            "Cache-Control": "private, max-age=86400",  # its name is its content
        }
        return Response(content, media_type=row.media_type, headers=headers)

    return router
