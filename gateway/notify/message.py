"""What a notification says, as a CloudEvents 1.0 document: plain values, never a template over foreign text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.core.model import AlarmRecord, IsaState, Micros
from gateway.ports import Notification

SOURCE = "urn:citywatch"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cloud_event(notification: Notification) -> dict[str, Any]:
    """The document of one notification; ``id`` is its idempotency key."""
    step = notification.transition
    assert step is not None
    return {
        "specversion": "1.0",
        "id": notification.key,
        "source": SOURCE,
        "type": f"citywatch.alarm.{what_happened(notification)}",
        "subject": step.alarm_id,
        "time": _iso(step.at),
        "datacontenttype": "application/json",
        "data": {
            "alarm_id": step.alarm_id,
            "rev": step.rev,
            "cause": step.cause,
            "from": step.from_state.value,
            "to": step.to_state.value,
            "late": step.late,
            "attempt": notification.attempt,
            "alarm": _alarm(step.record),
        },
    }


def what_happened(notification: Notification) -> str:
    """raised, cleared or changed: what a person wants to know first."""
    step = notification.transition
    assert step is not None
    standing = (IsaState.UNACK, IsaState.ACKED)
    if step.to_state is IsaState.UNACK and step.from_state not in standing:
        return "raised"
    if step.from_state in standing and step.to_state in (IsaState.NORM, IsaState.RTNUN):
        return "cleared"
    return "changed"


def _alarm(record: AlarmRecord) -> dict[str, Any]:
    return {
        "asset": record.asset,
        "rule": record.rule,
        "kind": record.kind,
        "title": {"zh": record.title_zh, "en": record.title_en},
        "occurrence_id": record.occurrence_id,
        "simulated": record.simulated,
        "level": record.level.name,
        "state": record.isa_state.value,
        "active": record.is_active,
        "acked": record.acked,
        "value": record.value,
        "limit": record.limit,
        "unit": record.unit,
        "quality": record.quality.value,
        "active_at": None if record.active_at is None else _iso(record.active_at),
        "inactive_at": None if record.inactive_at is None else _iso(record.inactive_at),
        "parent_alarm_id": record.parent_alarm_id,
    }


def _iso(at: Micros) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat().replace("+00:00", "Z")
