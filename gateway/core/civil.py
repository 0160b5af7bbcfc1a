"""Microseconds UTC and the civil time of a zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.core.model import Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def civil(at: Micros, zone: str) -> datetime:
    return (_EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone))


def micros(moment: datetime) -> Micros:
    """Of a time with its zone."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
