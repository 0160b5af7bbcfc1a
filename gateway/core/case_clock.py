"""The four clocks of a case: when the time to respond or to resolve is over."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.model import Micros


@dataclass(frozen=True, slots=True)
class Calendar:
    """Working time of a place."""

    timezone: str = "Asia/Shanghai"


def deadline(clock: str, start: Micros, lasts: Micros, calendar: Calendar) -> Micros:
    return start + lasts
