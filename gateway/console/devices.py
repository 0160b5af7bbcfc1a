"""Devices over HTTP: points in trouble, one device and its raw frames, frames offered again, how Modbus is polled."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field, model_validator

from gateway.console import models, views
from gateway.console.equipment import (
    Block,
    DeviceNow,
    PolledLine,
    PolledUnit,
    ProfilePoint,
    SeenFrame,
    Trouble,
    TroubledPoint,
)
from gateway.console.gate import Principal, in_scope, needs, scope_of, visible_device
from gateway.console.paging import Cursor, Limit, listed, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.model import SECOND, Device, FrameKind, Micros, ModbusCycle, Reading, Replayed
from gateway.core.records import AuditRow, RejectedRow, Role, Scope
from gateway.errors import Unavailable

SLICE_S = 0.004  # how long the loop is held while points are looked through
ASSETS_AT_ONCE = 1_000  # ids read from the store at a time
SURVEYS = 2  # at once: each looks through the whole city
SEARCHES = 1  # in the journal
PATIENCE_S = 8.0  # how long one waits for one's turn
SHOWN_BYTES = 16 << 10  # of a payload
MOST_REPLAYED = 1_000  # frames in one request: 4 MB at most
SPARKPLUG = "spBv1.0/"

_TELEMETRY = frozenset({FrameKind.MQTT.value, FrameKind.MODBUS.value, FrameKind.HJ212.value})
_decode_cycle = msgspec.msgpack.Decoder(ModbusCycle).decode

Position = Annotated[int, Path(ge=0, le=2**62)]
Index = Annotated[int, Path(ge=0, le=2**31)]


class TroubledPointView(models.Out):
    """A point that needs a look. ``state``: silent (nothing for three expected intervals), or its newest value is bad
    or uncertain, with the reason. ``since``: when it was last heard (silent), or last good; null when it never was."""

    asset: str
    point: str
    state: Literal["silent", "bad", "uncertain"]
    value: models.Scalar
    unit: str
    quality: models.QualityName
    reason: str | None
    since: models.Time | None
    received_time: models.Time
    device: str


class ProfilePointView(models.Out):
    """A point of the device's profile. ``low`` and ``high``: beyond these a value is bad; ``settable``: a person may
    set it, between ``set_low`` and ``set_high``; ``states``: the words it may say; ``now``: its newest value, null when
    there was none."""

    point: str
    unit: str
    type: str
    low: float | None
    high: float | None
    states: list[str]
    settable: bool
    set_low: float | None
    set_high: float | None
    now: models.PointOut | None


class DeviceLine(models.DeviceView):
    """``last_heard``: when its newest live reading came, null when none did since the start; ``online``: heard within
    three expected intervals, null when nobody said how often it speaks."""

    last_heard: models.Time | None
    online: bool | None


class ProfileView(models.Out):
    """A kind of device. ``kinds``: the kinds of assets that it can be mounted on."""

    profile: str
    kinds: list[str]
    title: models.Title
    transport: str


class DeviceDetail(DeviceLine):
    """One device: its profile with the points and what they read now, and its account in the ledger (null when nothing
    was ever received)."""

    kind: str | None
    title: models.Title
    transport: str
    interval_s: float | None
    allowed_lateness_s: float
    points: list[ProfilePointView]
    ledger: models.LedgerView | None


class FrameReadingView(models.Out):
    point: str
    value: models.Scalar
    unit: str
    quality: models.QualityName
    reason: str | None
    source_time: models.Time
    historical: bool


class BlockReadView(models.Out):
    """The answer to one Modbus request: register words (or bits), or why there was none."""

    function_code: int
    address: int
    count: int
    words: list[int]
    error: str | None


class FrameView(models.Out):
    """A raw frame of the journal. The payload is cut to 16 kB; ``payload_text`` is null when it is not UTF-8, ``reads``
    unless it is a Modbus cycle. ``readings`` are what it says by the profile in force now, or ``code`` and ``error``
    why it says nothing."""

    position: int
    index: int
    received_time: models.Time
    kind: str
    source: str
    address: str
    principal: str
    retained: bool
    payload_size: int
    payload_text: str | None
    payload_hex: str
    payload_base64: str
    reads: list[BlockReadView] | None
    readings: list[FrameReadingView]
    code: str | None
    error: str | None


class FramesView(models.Out):
    """Newest first. The journal was searched back to ``searched_back_to`` (null: it is empty), through
    ``searched_frames`` frames; ``whole``: it holds no older ones."""

    items: list[FrameView]
    searched_back_to: models.Time | None
    searched_frames: int
    whole: bool


class ReplayedView(models.Out):
    """What became of a frame that was offered again. ``outcome``: stored, duplicate, or the code of its rejection with
    ``reason``; null when it is journaled (``offered``) and not yet decided. ``historical`` of its ``readings`` were too
    old for a live alarm."""

    offered: bool = True
    outcome: str | None
    reason: str | None
    readings: int
    historical: int


class ReplayedMany(models.Out):
    """``outcomes`` and ``skipped``: how many, by outcome ("offered" when not yet decided) and by why they were not
    offered. ``cursor``: where to go on when there are more."""

    offered: int
    outcomes: dict[str, int]
    skipped: dict[str, int]
    cursor: str | None


class Replaying(models.In):
    why: Annotated[str, Field(min_length=1, max_length=1000)]


class ReplayingMany(models.In):
    """Frames of a ``device``, or of one ``code`` of rejection, or both; the newest 1,000 of them, behind ``cursor``."""

    device: Annotated[str, Field(max_length=128)] | None = None
    code: Annotated[str, Field(max_length=64)] | None = None
    cursor: Annotated[str, Field(max_length=1000)] | None = None
    why: Annotated[str, Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _something(self) -> ReplayingMany:
        if self.device is None and self.code is None:
            raise ValueError("say `device` or `code`")
        return self


class PlacedPointView(models.Out):
    point: str
    register_name: str
    address: int
    count: int


class BlockView(models.Out):
    """One request of a polling cycle: ``count`` registers or bits from ``first_address`` (0-based, as on the wire)."""

    function_code: int
    first_address: int
    count: int
    points: list[PlacedPointView]


class ModbusUnitView(models.Out):
    """One device behind an endpoint. ``reason``: why its newest cycle failed."""

    device: str
    asset: str
    unit: int
    interval_s: float
    cycles: int
    failed_reads: int
    overruns: int
    reason: str | None
    blocks: list[BlockView]


class ModbusLineView(models.Out):
    """One endpoint as it is polled. ``overruns``: cycles left out because an earlier one took too long."""

    address: str
    connected: bool
    on_standby: bool
    since: models.Time | None
    cycles: int
    overruns: int
    writes: int
    reconnects: int
    timeouts: int
    reason: str | None
    units: list[ModbusUnitView]


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["devices"])
    desk = gateway.records.desk
    surveying = asyncio.Semaphore(SURVEYS)
    searching = asyncio.Semaphore(SEARCHES)

    async def noted(who: Principal, subject: str, why: str, outcome: str) -> None:
        line = AuditRow(0, gateway.now(), who.name, who.channel, "replay", subject, outcome, why)
        await gateway.records.add_audit(f"replay:{secrets.token_hex(16)}", line)

    async def offered(rows: Sequence[RejectedRow], who: Principal, subject: str, why: str) -> Sequence[Replayed | None]:
        try:
            return await gateway.equipment.replay(rows, who.name)
        except Unavailable:
            await noted(who, subject, why, "unavailable")
            raise

    @router.get("/points", response_model=models.ListOf[TroubledPointView])
    async def points(
        request: Request,
        state: Annotated[list[str] | None, Query(description="silent, bad, uncertain; all when left out.")] = None,
        kind: Annotated[list[str] | None, Query(description="Kinds of asset.")] = None,
        q: Annotated[str | None, Query(max_length=200, description="In ids and names of assets and devices.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Points that are silent, bad or uncertain now, by asset and point."""
        states = frozenset(listed(state, "state", {one.name: one for one in Trouble}) or Trouble)
        kinds = tuple(listed(kind, "kind", None))
        async with _turn(surveying):
            found = await _survey(gateway, states, kinds, q or None, limit + 1, cursor, scope_of(request))
        more = len(found) > limit
        last = found[limit - 1] if more else None
        return {
            "items": [_troubled(one) for one in found[:limit]],
            "cursor": f"{last.asset}/{last.point}" if last is not None else None,
        }

    @router.get("/devices", response_model=models.ListOf[DeviceLine])
    async def devices(
        request: Request,
        asset: Annotated[str | None, Query(max_length=200)] = None,
        profile: Annotated[str | None, Query(max_length=200)] = None,
        q: Annotated[str | None, Query(max_length=200, description="In ids, addresses and assets.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """The electronics, by id; those now mounted on ``asset`` when it is given."""

        def view(device: Device) -> dict[str, Any]:
            last_heard, online = gateway.equipment.heard(device)
            return {**views.device(device), "last_heard": views.iso_or_none(last_heard), "online": online}

        return await page(gateway.records.devices(asset, limit, cursor, scope_of(request), q or None, profile), view)

    @router.get("/profiles", response_model=list[ProfileView])
    async def profiles() -> list[dict[str, Any]]:
        """The kinds of devices that are known, by id: what a device that is claimed can be."""
        return [
            {
                "profile": one.id,
                "kinds": list(one.kinds),
                "title": {"zh": one.title_zh, "en": one.title_en},
                "transport": one.transport.value,
            }
            for one in gateway.equipment.profiles()
        ]

    @router.get("/devices/{device_id}", response_model=DeviceDetail)
    async def device(device_id: str, request: Request) -> dict[str, Any]:
        """One device: profile, points, ledger, last heard, online."""
        visible_device(request, gateway, device_id)
        found = gateway.equipment.device(device_id)
        if found is None:
            raise Problem("not_found", f"there is no device {device_id!r}")
        current = {point.point: views.point(point) for point in gateway.points(found.device.asset)}
        return {
            **_device(found),
            "points": [{**_profile_point(point), "now": current.get(point.point)} for point in found.points],
            "ledger": gateway.ledger(device_id),
        }

    @router.get("/devices/{device_id}/frames", response_model=FramesView)
    async def frames(
        device_id: str, request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> dict[str, Any]:
        """The newest raw frames of the device that the journal still has, and what they decode to now. The search goes
        back for two seconds at most, and says how far it came."""
        visible_device(request, gateway, device_id)
        async with _turn(searching):
            found = await gateway.equipment.frames(device_id, limit)
        if found is None:
            raise Problem("not_found", f"there is no device {device_id!r}")
        units = {point.point: point.unit for point in _points_of(gateway, device_id)}
        return {
            "items": await asyncio.to_thread(lambda: [_frame(one, units) for one in found.items]),
            "searched_back_to": views.iso_or_none(found.back_to),
            "searched_frames": found.looked,
            "whole": found.whole,
        }

    @router.post("/rejected/replay", response_model=ReplayedMany)
    async def replay_many(
        body: ReplayingMany, request: Request, who: Annotated[Principal, Depends(needs(Role.SUPERVISOR))]
    ) -> dict[str, Any]:
        """Offer up to 1,000 rejected frames again, as ``/rejected/{position}/{index}/replay`` does. Needs the role
        supervisor."""
        scope = scope_of(request)
        try:
            found = await desk.rejected_frames(body.device, body.code, MOST_REPLAYED, body.cursor, scope)
        except ValueError as error:
            raise Problem("bad_cursor") from error
        good: list[RejectedRow] = []
        skipped: Counter[str] = Counter()
        for row in found.items:
            reason = _not_again(row)
            if reason is None:
                good.append(row)
            else:
                skipped[reason[0]] += 1
        good.reverse()  # in the order in which they came
        subject = body.device or f"code {body.code}"
        outcomes = Counter(_outcome(one) for one in await offered(good, who, subject, body.why)) if good else Counter()
        told = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
        await noted(who, subject, f"{body.why} ({told or 'nothing'})", "done")
        return {
            "offered": len(good),
            "outcomes": dict(sorted(outcomes.items())),
            "skipped": dict(sorted(skipped.items())),
            "cursor": found.cursor,
        }

    @router.post("/rejected/{position}/{index}/replay", response_model=ReplayedView)
    async def replay(
        position: Position,
        index: Index,
        body: Replaying,
        request: Request,
        who: Annotated[Principal, Depends(needs(Role.SUPERVISOR))],
    ) -> dict[str, Any]:
        """Offer a rejected frame again, under the profiles and registrations in force now. It is read as of the time it
        first came: beyond the allowed lateness its readings are history and drive no live alarm. 409 when its payload
        was cut, or when it must not be offered again. Needs the role supervisor."""
        row = await desk.rejected_frame(position, index)
        if row is None or not _ours(request, gateway, row):
            raise Problem("not_found", f"no rejected frame is kept of {position}/{index}")
        reason = _not_again(row)
        subject = f"{row.device or 'unknown'}/{position}/{index}"
        if reason is not None:
            await noted(who, subject, body.why, "not_allowed")
            raise Problem("not_allowed", reason[1])
        (outcome,) = await offered([row], who, subject, body.why)
        await noted(who, subject, body.why, _outcome(outcome))
        if outcome is None:
            return {"offered": True, "outcome": None, "reason": None, "readings": 0, "historical": 0}
        return {
            "offered": True,
            "outcome": outcome.outcome,
            "reason": outcome.reason,
            "readings": outcome.readings,
            "historical": outcome.historical,
        }

    @router.get("/modbus", response_model=models.ListOf[ModbusLineView])
    async def modbus(
        request: Request, limit: Limit = 100, cursor: Annotated[str | None, Query(max_length=1000)] = None
    ) -> dict[str, Any]:
        """Modbus endpoints as they are really polled, with the read plan of every device, by address."""
        lines = list(_seen_lines(request, gateway))
        start = next((n for n, line in enumerate(lines, 1) if line.address == cursor), None) if cursor else 0
        if start is None:
            raise Problem("bad_cursor")
        shown = lines[start : start + limit]
        more = len(lines) > start + limit
        return {"items": [_line(line) for line in shown], "cursor": shown[-1].address if more else None}

    return router


@contextlib.asynccontextmanager
async def _turn(work: asyncio.Semaphore) -> AsyncIterator[None]:
    """One's turn at something of which little goes on at once. Raises Unavailable rather than letting people queue."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await work.acquire()
    except TimeoutError as error:
        raise Unavailable("others are asking for the same; try again soon") from error
    try:
        yield
    finally:
        work.release()


# -- points -----------------------------------------------------------------------------------------------------------


async def _survey(
    gateway: ConsolePort,
    states: frozenset[Trouble],
    kinds: tuple[str, ...],
    q: str | None,
    most: int,
    cursor: str | None,
    scope: Scope,
) -> list[TroubledPoint]:
    """At most ``most`` points behind ``cursor`` (asset/point). The store says which assets, and in which order; they
    are looked at in slices, so that a city of 50,000 holds nobody up."""
    found: list[TroubledPoint] = []
    after, point = _place(cursor)
    clock = asyncio.get_running_loop().time
    if point:  # what is left of the asset where the page before ended
        found += [one for one in _troubles(gateway, after, states) if one.point > point]
    while len(found) < most:
        ids = await gateway.records.desk.asset_ids(kinds, q, after, ASSETS_AT_ONCE, scope)
        began = clock()
        for asset_id in ids:
            found += _troubles(gateway, asset_id, states)
            if len(found) >= most:
                break
            if clock() - began > SLICE_S:
                await asyncio.sleep(0)
                began = clock()
        if len(ids) < ASSETS_AT_ONCE:
            break
        after = ids[-1]
    return found[:most]


def _troubles(gateway: ConsolePort, asset_id: str, states: frozenset[Trouble]) -> Iterator[TroubledPoint]:
    return (one for one in gateway.equipment.troubles(asset_id) if one.trouble in states)


def _place(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    asset, slash, point = cursor.partition("/")
    if not slash or not asset or not point:
        raise Problem("bad_cursor")
    return asset, point


def _troubled(one: TroubledPoint) -> dict[str, Any]:
    return {
        "asset": one.asset,
        "point": one.point,
        "state": one.trouble.value,
        "value": one.value,
        "unit": one.unit,
        "quality": one.quality.value,
        "reason": one.reason,
        "since": views.iso_or_none(one.since),
        "received_time": views.iso(one.received_at),
        "device": one.device,
    }


# -- devices ----------------------------------------------------------------------------------------------------------


def _points_of(gateway: ConsolePort, device_id: str) -> Sequence[ProfilePoint]:
    found = gateway.equipment.device(device_id)
    return found.points if found is not None else ()


def _device(found: DeviceNow) -> dict[str, Any]:
    return {
        **views.device(found.device),
        "kind": found.asset.kind if found.asset is not None else None,
        "title": {"zh": found.title_zh, "en": found.title_en},
        "transport": found.transport,
        "interval_s": _seconds(found.interval),
        "allowed_lateness_s": found.lateness / SECOND,
        "last_heard": views.iso_or_none(found.last_heard),
        "online": found.online,
    }


def _profile_point(point: ProfilePoint) -> dict[str, Any]:
    return {
        "point": point.point,
        "unit": point.unit,
        "type": point.type,
        "low": point.low,
        "high": point.high,
        "states": list(point.states),
        "settable": point.may_be_set,
        "set_low": point.set_low,
        "set_high": point.set_high,
    }


def _seconds(span: Micros | None) -> float | None:
    return None if span is None else span / SECOND


def _frame(seen: SeenFrame, units: dict[str, str]) -> dict[str, Any]:
    frame, decoded = seen.frame, seen.decoded
    payload = frame.payload[:SHOWN_BYTES]
    rejection = decoded.rejection
    return {
        "position": seen.position,
        "index": seen.index,
        "received_time": views.iso(frame.received_at),
        "kind": frame.kind.value,
        "source": frame.source,
        "address": frame.address,
        "principal": frame.principal,
        "retained": frame.retained,
        "payload_size": len(frame.payload),
        "payload_text": _text(payload),
        "payload_hex": payload.hex(" "),
        "payload_base64": base64.b64encode(payload).decode(),
        "reads": _reads(frame.payload) if frame.kind is FrameKind.MODBUS else None,
        "readings": [_frame_reading(reading, units) for reading in decoded.readings],
        "code": rejection.code if rejection is not None else None,
        "error": rejection.reason if rejection is not None else None,
    }


def _frame_reading(reading: Reading, units: dict[str, str]) -> dict[str, Any]:
    return {
        "point": reading.point,
        "value": reading.value,
        "unit": units.get(reading.point, ""),
        "quality": reading.quality.value,
        "reason": reading.reason,
        "source_time": views.iso(reading.source_time),
        "historical": reading.historical,
    }


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _reads(payload: bytes) -> list[dict[str, Any]] | None:
    try:
        cycle = _decode_cycle(payload)
    except (msgspec.DecodeError, ValueError):
        return None
    return [
        {
            "function_code": read.function_code,
            "address": read.address,
            "count": read.count or len(read.words),
            "words": read.words,
            "error": read.error,
        }
        for read in cycle.reads
    ]


# -- frames that are offered again ------------------------------------------------------------------------------------


def _not_again(row: RejectedRow) -> tuple[str, str] | None:
    """(code, reason) why a kept frame cannot be offered again."""
    if len(row.payload) < row.payload_size:
        return "cut", f"only {len(row.payload)} of its {row.payload_size} bytes were kept"
    if row.code == "crashed":
        return "crashed", "this frame made the gateway fail; it is not offered again"
    if row.kind not in _TELEMETRY:
        return "no_telemetry", f"a frame of kind {row.kind} is no telemetry"
    if row.address.startswith(SPARKPLUG):
        return "sparkplug", "a Sparkplug message has its meaning from the session it was part of; ask for a rebirth"
    return None


def _ours(request: Request, gateway: ConsolePort, row: RejectedRow) -> bool:
    """Whether the caller may see it: a frame belongs where its device is; one of nobody's is for the whole city."""
    if not scope_of(request):
        return True
    device = gateway.device(row.device) if row.device is not None else None
    return device is not None and in_scope(request, gateway.asset(device.asset))


def _outcome(outcome: Replayed | None) -> str:
    return "offered" if outcome is None else outcome.outcome


# -- Modbus -----------------------------------------------------------------------------------------------------------


def _seen_lines(request: Request, gateway: ConsolePort) -> Iterator[PolledLine]:
    """The lines with those of their units that the caller may see; a line without any is not there."""
    whole = not scope_of(request)
    for line in gateway.equipment.lines():
        if whole:
            yield line
            continue
        units = tuple(unit for unit in line.units if in_scope(request, gateway.asset(unit.asset)))
        if units:
            yield msgspec.structs.replace(line, units=units)


def _line(line: PolledLine) -> dict[str, Any]:
    return {
        "address": line.address,
        "connected": line.connected,
        "on_standby": line.on_standby,
        "since": views.iso_or_none(line.since),
        "cycles": line.cycles,
        "overruns": line.overruns,
        "writes": line.writes,
        "reconnects": line.reconnects,
        "timeouts": line.timeouts,
        "reason": line.reason,
        "units": [_unit(unit) for unit in line.units],
    }


def _unit(unit: PolledUnit) -> dict[str, Any]:
    return {
        "device": unit.device,
        "asset": unit.asset,
        "unit": unit.unit,
        "interval_s": unit.interval / SECOND,
        "cycles": unit.cycles,
        "failed_reads": unit.failed_reads,
        "overruns": unit.overruns,
        "reason": unit.reason,
        "blocks": [_block(block) for block in unit.blocks],
    }


def _block(block: Block) -> dict[str, Any]:
    return {
        "function_code": block.function_code,
        "first_address": block.address,
        "count": block.count,
        "points": [
            {"point": one.point, "register_name": one.register, "address": one.address, "count": one.count}
            for one in block.points
        ],
    }
