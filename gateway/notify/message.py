"""What a notification says, as a CloudEvents 1.0 document: plain values, never a template over foreign text.

``citywatch.alarm.…`` for machines, ``citywatch.message.…`` for people; ``possible_repeat`` is there, and true, when an
earlier attempt may have arrived.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from gateway.core.model import AlarmRecord, IsaState, Micros, Transition
from gateway.core.notification import Line, Message
from gateway.ports import Notification

SOURCE = "urn:citywatch"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Text(Protocol):
    """What ``notify/wording.py`` makes."""

    @property
    def title(self) -> str: ...
    @property
    def body(self) -> str: ...


def cloud_event(notification: Notification, words: Text | None = None) -> dict[str, Any]:
    """The document of one notification; ``id`` is its idempotency key. ``words``: what a person reads."""
    message = notification.message
    if message is None:
        kind, subject, at, data = _of_transition(notification)
    else:
        kind, subject, at, data = f"message.{message.kind.value}", message.recipient, message.at, _of_message(message)
        data["address"] = notification.address
        if words is not None:
            data |= {"title": words.title, "text": words.body}
    data["attempt"] = notification.attempt
    if notification.doubtful:
        data["possible_repeat"] = True
    return {
        "specversion": "1.0",
        "id": notification.key,
        "source": SOURCE,
        "type": f"citywatch.{kind}",
        "subject": subject,
        "time": _iso(at),
        "datacontenttype": "application/json",
        "data": data,
    }


def _of_transition(notification: Notification) -> tuple[str, str, Micros, dict[str, Any]]:
    step = notification.transition
    assert step is not None
    data = {
        "alarm_id": step.alarm_id,
        "rev": step.rev,
        "cause": step.cause,
        "from": step.from_state.value,
        "to": step.to_state.value,
        "late": step.late,
        "alarm": alarm(step.record),
    }
    return f"alarm.{what_happened(step)}", step.alarm_id, step.at, data


def _of_message(message: Message) -> dict[str, Any]:
    return {
        "recipient": message.recipient,
        "language": message.language,
        "level": message.level.name,
        "simulated": message.simulated,
        "count": message.count,
        "about": message.text,
        "due_at": None if message.due_at is None else _iso(message.due_at),
        "route": message.route,
        "step": message.step,
        "alarms": [_line(line) for line in message.lines],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "alarm_id": line.alarm_id,
        "occurrence_id": line.occurrence_id,
        "asset": line.asset,
        "rule": line.rule,
        "kind": line.kind,
        "title": {"zh": line.title_zh, "en": line.title_en},
        "level": line.level.name,
        "state": line.state.value,
        "value": line.value,
        "limit": line.limit,
        "unit": line.unit,
        "active_at": None if line.active_at is None else _iso(line.active_at),
        "inactive_at": None if line.inactive_at is None else _iso(line.inactive_at),
    }


def what_happened(step: Transition) -> str:
    """raised, cleared or changed: what a person wants to know first."""
    standing = (IsaState.UNACK, IsaState.ACKED)
    if step.to_state is IsaState.UNACK and step.from_state not in standing:
        return "raised"
    if step.from_state in standing and step.to_state in (IsaState.NORM, IsaState.RTNUN):
        return "cleared"
    return "changed"


def alarm(record: AlarmRecord) -> dict[str, Any]:
    """A live record as JSON types."""
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
