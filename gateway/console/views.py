"""How our values look in JSON: one function a kind of thing, used by the API and by the live feed alike, so that both
say the same. ``models.py`` describes the same shapes for OpenAPI; a test holds them together.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from gateway.console.port import Health, PointView, RawRow, StepRow
from gateway.core.agreement import Agreement
from gateway.core.component_code import Layout, parse_component_code
from gateway.core.load import Flood, FloodWatch, LoadReport
from gateway.core.model import (
    AlarmRecord,
    Asset,
    Device,
    Level,
    Micros,
    OutOfService,
    Transition,
    Value,
    WorkOrder,
)
from gateway.core.records import AssetRow, AuditRow, RejectedRow, StrangerRow
from gateway.core.why import Explanation

COLOURS = {Level.I: "red", Level.II: "orange", Level.III: "yellow", Level.IV: "blue"}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = -62_135_596_800 * 1_000_000  # the year 1
_LATEST = 253_402_300_799 * 1_000_000  # the year 9999, the last that ISO 8601 writes with four digits


def iso(at: Micros) -> str:
    """Microseconds UTC as ISO 8601 with zone: ``2025-07-20T12:00:00.5Z``; times beyond the calendar are clamped."""
    seconds, micros = divmod(max(_EARLIEST, min(at, _LATEST)), 1_000_000)
    text = _iso_second(seconds)
    return f"{text}.{micros:06}".rstrip("0") + "Z" if micros else text + "Z"


@lru_cache(maxsize=256)  # an evening's alarms have few seconds
def _iso_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def iso_or_none(at: Micros | None) -> str | None:
    return None if at is None else iso(at)


def micros(text: str) -> Micros:
    """ISO 8601 with a zone as microseconds UTC. A "+" that a URL turned into a space is understood.
    Raises ValueError."""
    moment = datetime.fromisoformat(text.strip().replace(" ", "+") if " " in text.strip()[19:] else text.strip())
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone: 2025-07-20T20:00:00+08:00, or …Z")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def out_of_service(found: OutOfService | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "work": found.work,
        "by": found.by,
        "reason": found.reason,
        "since": iso(found.since),
        "until": iso_or_none(found.until),
        "maintenance": found.maintenance,
    }


def order(found: WorkOrder | None) -> dict[str, Any] | None:
    if found is None:
        return None
    plain: dict[str, Any] = msgspec.structs.asdict(found)
    times = {name: iso_or_none(at) for name, at in plain.items() if name.endswith("_at") or name.endswith("since")}
    return plain | times | {"photos": list(found.photos), "waits_for": list(found.waits_for)}


def alarm(record: AlarmRecord) -> dict[str, Any]:
    return {
        "alarm_id": record.alarm_id,
        "asset": record.asset,
        "rule": record.rule,
        "kind": record.kind,
        "title": {"zh": record.title_zh, "en": record.title_en},
        "state": record.isa_state.value,
        "active": record.is_active,
        "annunciated": record.annunciated,
        "level": record.level.name,
        "last_level": record.last_level.name,
        "max_level": record.max_level.name,
        "colour": COLOURS[record.level],
        "occurrence_id": record.occurrence_id,
        "rev": record.rev,
        "enabled": record.enabled,
        "condition": record.cond.value,
        "acked": record.acked,
        "confirmed": record.confirmed,
        "latched": record.latched,
        "shelve": record.shelve.value,
        "unshelve_at": iso_or_none(record.unshelve_at),
        "suppressed_by": list(record.suppressed_by),
        "out_of_service": out_of_service(record.out_of_service),
        "quality": record.quality.value,
        "chattering": record.chattering,
        "stale": record.stale,
        "first_in_group": record.first_in_group,
        "parent_alarm_id": record.parent_alarm_id,
        "repeat_count": record.repeat_count,
        "realarm_count": record.realarm_count,
        "active_at": iso_or_none(record.active_at),
        "detected_at": iso_or_none(record.detected_at),
        "inactive_at": iso_or_none(record.inactive_at),
        "acked_at": iso_or_none(record.acked_at),
        "closed_at": iso_or_none(record.closed_at),
        "acked_by": record.acked_by,
        "ack_channel": record.ack_channel,
        "comment": record.comment,
        "assigned_to": record.assigned_to,
        "silenced": record.silenced,
        "cause_code": record.cause_code,
        "retroactive": record.retroactive,
        "simulated": record.simulated,
        "shadow": record.shadow,
        "work": record.work,
        "order": order(record.order),
        "value": record.value,
        "limit": record.limit,
        "unit": record.unit,
    }


def transition(step: Transition) -> dict[str, Any]:
    return {
        "alarm_id": step.alarm_id,
        "rev": step.rev,
        "at": iso(step.at),
        "cause": step.cause,
        "from": step.from_state.value,
        "to": step.to_state.value,
        "notify": step.notify,
        "by": step.by,
        "why": step.why,
        "late": step.late,
        "alarm": alarm(step.record),
    }


def explanation(found: Explanation) -> dict[str, Any]:
    return {
        "applies": found.applies,
        "stands": found.stands,
        "reasons": [{"code": r.code, "zh": r.zh, "en": r.en} for r in found.reasons],
        "rungs": [
            {
                "level": rung.level.name,
                "on": rung.on,
                "beyond": rung.beyond,
                "value": rung.value,
                "limit": rung.limit,
                "unit": rung.unit,
                "distance": rung.distance,
                "source": rung.source,
                "on_delay_s": rung.on_delay / 1e6,
                "off_delay_s": rung.off_delay / 1e6,
                "pending_since": iso_or_none(rung.pending_since),
                "raises_at": iso_or_none(rung.raises_at),
                "readings_left": rung.readings_left,
                "clearing_since": iso_or_none(rung.clearing_since),
                "clears_at": iso_or_none(rung.clears_at),
            }
            for rung in found.rungs
        ],
        "never_reported": [point.point for point in found.points if not point.reported],
        "in_schedule": found.in_schedule,
        "schedule_changes_at": iso_or_none(found.schedule_changes_at),
        "silent": found.silent,
        "verifying": None
        if found.verifying is None
        else {
            "since": iso(found.verifying.since),
            "waits_for": found.verifying.waits_for,
            "still_true": found.verifying.still_true,
            "decides_at": iso_or_none(found.verifying.decides_at),
        },
        "maintenance": out_of_service(found.maintenance),
    }


def flood(found: Flood | None) -> dict[str, Any] | None:
    return (
        None
        if found is None
        else {"since": iso(found.since), "until": iso_or_none(found.until), "alarms": found.alarms}
    )


def load_now(watch: FloodWatch) -> dict[str, Any]:
    return {"alarms_10_min": watch.count, "flood": flood(watch.flood)}


def load_report(report: LoadReport) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found | {
        "since": iso(report.since),
        "until": iso(report.until),
        "floods": [flood(one) for one in report.floods],
    }


def agreement(found: Agreement) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def component(thing: Asset, layout: Layout | None) -> dict[str, str] | None:
    """The asset's component code in its parts; None without a code or a layout, or when the code is none of the
    layout's (it was taken before the settings named one)."""
    code = thing.attributes.get("component_code")
    if layout is None or not isinstance(code, str):
        return None
    try:
        parts = parse_component_code(code, layout)
    except ValueError:
        return None
    return {
        "code": code, "county": parts.county, "major": parts.major, "minor": parts.minor, "sequence": parts.sequence,
    }  # fmt: skip


def asset(row: AssetRow, layout: Layout | None = None) -> dict[str, Any]:
    thing = row.asset
    return {
        "asset": thing.asset,
        "kind": thing.kind,
        "name": thing.name,
        "road": thing.road,
        "town": thing.town,
        "unit": thing.unit,
        "longitude": thing.longitude,
        "latitude": thing.latitude,
        "links": thing.links,
        "attributes": thing.attributes,
        "simulated": thing.simulated,
        "component": component(thing, layout),
        "state": row.state.value,
        "standing_alarms": row.standing_alarms,
        "worst_level": None if row.worst_level is None else row.worst_level.name,
    }


def link(name: str, other: Asset) -> dict[str, Any]:
    return {"link": name, "asset": other.asset, "kind": other.kind, "name": other.name}


def device(thing: Device) -> dict[str, Any]:
    interval = thing.expected_interval
    return {
        "device": thing.device,
        "asset": thing.asset,
        "profile": thing.profile,
        "address": thing.address or thing.device,
        "expected_interval_s": None if interval is None else interval / 1_000_000,
        "attributes": thing.attributes,
    }


def point(current: PointView) -> dict[str, Any]:
    return {
        "point": current.point,
        "value": current.value,
        "unit": current.unit,
        "quality": current.quality.value,
        "reason": current.reason,
        "source_time": iso(current.source_time),
        "received_time": iso(current.received_at),
        "device": current.device,
        "stale": current.stale,
    }


def geometry(thing: Asset) -> dict[str, Any] | None:
    """GeoJSON geometry (RFC 7946), null for an asset without coordinates."""
    if thing.longitude is None or thing.latitude is None:
        return None
    return {"type": "Point", "coordinates": [thing.longitude, thing.latitude]}


def asset_feature(row: AssetRow, layout: Layout | None = None) -> dict[str, Any]:
    properties = {name: value for name, value in asset(row, layout).items() if name not in ("longitude", "latitude")}
    return {"type": "Feature", "id": row.asset.asset, "geometry": geometry(row.asset), "properties": properties}


def reading(row: RawRow | StepRow) -> dict[str, Any]:
    if isinstance(row, RawRow):
        return {"time": iso(row.time), "value": row.value, "quality": row.quality.value, "reason": row.reason}
    return {
        "time": iso(row.time),
        "count": row.count,
        "min": row.min,
        "mean": row.mean,
        "max": row.max,
        "last": row.last,
        "bad": row.bad,
    }


def written(device_id: str, name: str, value: Value, at: Micros) -> dict[str, Any]:
    return {"device": device_id, "point": name, "value": value, "written_at": iso(at)}


def stranger(row: StrangerRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "frames": row.frames,
        "first_time": iso(row.first_at),
        "last_time": iso(row.last_at),
        "source": row.source,
        "topic": row.address,
    }


def rejected(row: RejectedRow) -> dict[str, Any]:
    """The payload as text when it is text, and always as base64: nonsense must survive being shown."""
    try:
        text: str | None = row.payload.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "position": row.position,
        "index": row.index,
        "received_time": iso(row.received_at),
        "device": row.device,
        "code": row.code,
        "reason": row.reason,
        "kind": row.kind,
        "source": row.source,
        "address": row.address,
        "principal": row.principal,
        "retained": row.retained,
        "payload_size": row.payload_size,
        "payload_text": text,
        "payload_base64": base64.b64encode(row.payload).decode(),
    }


def audit(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": iso(row.at),
        "who": row.who,
        "channel": row.channel,
        "action": row.action,
        "subject": row.subject,
        "outcome": row.outcome,
        "why": row.why,
    }


def health(report: Health, *, inside: bool) -> dict[str, Any]:
    """``inside``: with what only those may know who see the whole city; a stranger learns which part is not well."""
    return {
        "status": "ok" if report.ok else "failing",
        "version": report.version,
        "now": iso(report.now),
        "started_at": iso(report.started_at),
        "reasons": [f"{part.name}: {(inside and part.text) or 'not well'}" for part in report.parts if not part.ok],
        "rates": report.rates,
        "parts": {
            part.name: {"ok": part.ok, "text": part.text, "figures": part.figures} for part in report.parts if inside
        },
    }
