"""The receiver that is always there: one structured line in the log for each notification."""

from __future__ import annotations

import structlog

from gateway.notify.message import what_happened
from gateway.notify.wording import Form, Wording
from gateway.ports import Notification

log = structlog.get_logger("alarm")


class LogReceiver:
    """Never unavailable. ``wording``: for what people are told, which has no words without it."""

    at_once = 64  # it is a line of text: a storm must not wait for the outbox's turns
    patient = True  # nor others for its lines

    def __init__(self, wording: Wording | None = None) -> None:
        self._wording = wording

    async def send(self, notification: Notification) -> None:
        repeat = {"possible_repeat": True} if notification.doubtful else {}
        message, step = notification.message, notification.transition
        if message is not None:
            text = self._wording.of(notification, Form.SHORT).body if self._wording is not None else message.kind.value
            log.warning(
                f"{message.recipient}: {text}",
                event_kind=message.kind.value,
                level=message.level.name,
                address=notification.address,
                alarms=message.count,
                key=notification.key,
                **repeat,
            )
            return
        assert step is not None
        log.warning(
            f"{step.alarm_id} {step.from_state.value} → {step.to_state.value}",
            event_kind=what_happened(step),
            level=step.record.level.name,
            title=step.record.title_zh or step.record.title_en,
            value=step.record.value,
            unit=step.record.unit,
            key=notification.key,
            **repeat,
        )
