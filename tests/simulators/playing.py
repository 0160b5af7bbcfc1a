"""Short scenarios in small cities, played as fast as they go."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from simulators.city import DEMO_INTERVALS, FIELD_INTERVALS, City, build_city
from simulators.messages import Message, Note
from simulators.scenario import Scenario
from simulators.simulation import Happening, Simulation
from simulators.stormwater import STEP_S

START = "2025-07-20T20:00:00+08:00"


@functools.cache
def small_city(seed: int = 1, assets: int = 120, *, demo: bool = False) -> City:
    """Cities are frozen: one is enough for all tests of a process."""
    return build_city(seed, assets, DEMO_INTERVALS if demo else FIELD_INTERVALS)


def scenario(*timeline: Mapping[str, Any], **others: Any) -> Scenario:
    """Of an evening, two hours long, unless said otherwise. Raises ValueError."""
    usual = {"scenario": "test", "title": {"zh": "试验", "en": "A test"}, "start": START, "lasts": "2h", "assets": 120}
    return Scenario.model_validate({**usual, "timeline": list(timeline), **others})


def simulation(*timeline: Mapping[str, Any], seed: int = 1, polls: bool = False, **others: Any) -> Simulation:
    """Of such a scenario in a small city."""
    played = scenario(*timeline, **others)
    city = small_city(seed, played.assets, demo=played.pace == "demo")
    return Simulation(played, city, seed, polls=polls)


def play(seconds: float, *timeline: Mapping[str, Any], **others: Any) -> list[Happening]:
    """All that happens in so many seconds of it."""
    if seconds < STEP_S:  # the drains' engine, a process that takes a quarter of a second to start, is not asked yet
        return list(simulation(*timeline, **others).until(seconds))
    with simulation(*timeline, **others) as played:
        return list(played.until(seconds))


def messages(happenings: list[Happening]) -> list[Message]:
    return [happening for happening in happenings if isinstance(happening, Message)]


def notes(happenings: list[Happening]) -> list[Note]:
    return [happening for happening in happenings if isinstance(happening, Note)]
