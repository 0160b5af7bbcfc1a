"""The receiver that is always there: one structured line in the log for each notification."""

from __future__ import annotations

import structlog

from gateway.notify.message import what_happened
from gateway.ports import Notification

log = structlog.get_logger("alarm")


class LogReceiver:
    """Never unavailable."""

    async def send(self, notification: Notification) -> None:
        step = notification.transition
        assert step is not None
        log.warning(
            f"{step.alarm_id} {step.from_state.value} → {step.to_state.value}",
            event_kind=what_happened(notification),
            level=step.record.level.name,
            title=step.record.title_zh or step.record.title_en,
            value=step.record.value,
            unit=step.record.unit,
            key=notification.key,
        )
