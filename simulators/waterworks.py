"""The drinking-water network: pressures of a whole scenario, with bursts, from one run of wntr, read from a table.

wntr takes seconds to import, so it is imported only when a network is computed; without it ``waterworks_available``
says so, and the caller may fall back on ``utilities.WaterPoint``. The network is our own: a waterworks with a pump, a
tower tank on a rise, and twelve junctions in three loops, enough for a small town. It is computed once, offline, in
steps of five minutes; what anybody asks afterwards is interpolated between two steps.

Pressure in metres of water, leak area in m², times in seconds since the scenario's start.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulators.city import Asset

STEP_S = 300
KPA_PER_M = 9.80665
LEAK_COEFFICIENT = 0.75  # of discharge through a hole with turbulent edges, as wntr takes it too

# name: (elevation m, share of the day's mean demand, x km, y km)
JUNCTIONS = {
    "W01": (38.0, 0.05, 0.4, 0.0), "W02": (37.5, 0.09, 1.0, 0.0), "W03": (37.0, 0.11, 1.7, 0.0),
    "W04": (36.5, 0.08, 2.4, 0.0), "W05": (38.5, 0.07, 0.4, 0.7), "W06": (38.0, 0.12, 1.0, 0.7),
    "W07": (37.5, 0.12, 1.7, 0.7), "W08": (37.0, 0.08, 2.4, 0.7), "W09": (39.0, 0.06, 0.4, 1.4),
    "W10": (39.5, 0.09, 1.0, 1.4), "W11": (38.5, 0.08, 1.7, 1.4), "W12": (38.0, 0.05, 2.4, 1.4),
}  # fmt: skip
# (from, to, diameter mm); the length is the way between them
PIPES = (
    ("W01", "W02", 400), ("W02", "W03", 300), ("W03", "W04", 200), ("W05", "W06", 300), ("W06", "W07", 300),
    ("W07", "W08", 200), ("W09", "W10", 200), ("W10", "W11", 200), ("W11", "W12", 150), ("W01", "W05", 300),
    ("W02", "W06", 250), ("W03", "W07", 200), ("W04", "W08", 150), ("W05", "W09", 200), ("W06", "W10", 250),
    ("W07", "W11", 150), ("W08", "W12", 150),
)  # fmt: skip
# Demand at each hour of the day, as a multiple of its mean.
PATTERN = (
    0.45, 0.38, 0.34, 0.34, 0.42, 0.70, 1.15, 1.45, 1.30, 1.15, 1.15, 1.25,
    1.30, 1.10, 1.00, 1.00, 1.10, 1.35, 1.55, 1.50, 1.30, 1.05, 0.80, 0.60,
)  # fmt: skip
DEMAND_M3_H = 420.0


class WaterworksMissing(RuntimeError):
    """wntr is not installed; the message says how to."""


@dataclass(frozen=True, slots=True)
class Burst:
    """A hole of ``area_m2`` at a junction from ``begin`` to ``end``; the simulation sees both at its next step. One of
    0.004 m² takes 5 m there and 2 m at the far end of the town; one of 0.01 m², 15 m and 5 m."""

    junction: str
    area_m2: float
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Pressures:
    """Pressure (m) at each junction every ``STEP_S`` seconds from the start; before and after, the nearest step."""

    table: dict[str, tuple[float, ...]]

    def metres(self, junction: str, at: float) -> float:
        """Raises KeyError for a junction that is not in the network."""
        course = self.table[junction]
        place = min(max(0.0, at / STEP_S), len(course) - 1.0)
        step = min(math.floor(place), len(course) - 2) if len(course) > 1 else 0
        if len(course) == 1:
            return course[0]
        share = place - step
        return course[step] * (1 - share) + course[step + 1] * share

    def kpa(self, junction: str, at: float) -> float:
        return self.metres(junction, at) * KPA_PER_M


def waterworks_available() -> bool:
    """Is wntr there? Looks, but does not import it."""
    return all(importlib.util.find_spec(module) is not None for module in ("wntr", "six"))


def pressures(start: datetime, duration_s: float, bursts: Iterable[Burst] = ()) -> Pressures:
    """The pressures of a scenario in our network, from one simulation; seconds of work.

    Raises ``WaterworksMissing`` without wntr, and KeyError for a burst at a junction that is not there.
    """
    network = build_network(start, duration_s)
    for burst in bursts:
        add_burst(network, burst)
    return run(network, list(JUNCTIONS))


def build_network(start: datetime, duration_s: float) -> Any:
    """The town as a ``wntr.network.WaterNetworkModel``, its clock set to the scenario's start."""
    wntr = _wntr()
    network = wntr.network.WaterNetworkModel()
    clock = start.hour * 3600 + start.minute * 60 + start.second
    network.add_pattern("day", _smooth(PATTERN, 3600 // STEP_S))
    mean = DEMAND_M3_H / 3600
    for name, (elevation, share, x, y) in JUNCTIONS.items():
        network.add_junction(
            name, base_demand=mean * share, demand_pattern="day", elevation=elevation, coordinates=(x, y)
        )
    for number, (first, second, millimetres) in enumerate(PIPES, 1):
        length = 1000 * math.dist(JUNCTIONS[first][2:], JUNCTIONS[second][2:])
        network.add_pipe(f"P{number:02d}", first, second, length=length, diameter=millimetres / 1000, roughness=110)
    network.add_reservoir("WORKS", base_head=40.0, coordinates=(0.0, 0.0))
    network.add_curve("lift", "HEAD", [(DEMAND_M3_H / 3600 * 1.15, 32.5)])
    network.add_pump("PUMP", "WORKS", "W01", pump_type="HEAD", pump_parameter="lift")
    # Wide enough never to be full or empty on a normal day: a tank that shuts changes all pressures at a stroke, and
    # looks like a burst.
    network.add_tank(
        "TOWER", elevation=66.0, init_level=4.0, min_level=0.5, max_level=10.0, diameter=28.0, coordinates=(1.0, 2.0)
    )  # fmt: skip
    network.add_pipe("RISER", "W10", "TOWER", length=300, diameter=0.3, roughness=110)
    time = network.options.time
    time.duration = math.ceil(duration_s / STEP_S) * STEP_S
    time.hydraulic_timestep = time.report_timestep = STEP_S
    time.pattern_timestep, time.pattern_start, time.start_clocktime = STEP_S, clock, clock
    return network


def add_burst(network: Any, burst: Burst) -> None:
    """Raises KeyError for a junction that is not in the network."""
    node = network.get_node(burst.junction)
    node.add_leak(
        network, area=burst.area_m2, discharge_coeff=LEAK_COEFFICIENT, start_time=burst.begin, end_time=burst.end
    )  # fmt: skip


def run(network: Any, junctions: Sequence[str]) -> Pressures:
    """Simulate, and keep the pressures of these junctions as a table in steps of ``STEP_S``."""
    wntr = _wntr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        results = wntr.sim.WNTRSimulator(network).run_sim()
    frame = results.node["pressure"]
    seconds = [float(second) for second in frame.index]
    steps = range(math.floor(seconds[-1] / STEP_S) + 1)
    return Pressures(
        {
            junction: tuple(_resampled(seconds, [float(value) for value in frame[junction]], steps))
            for junction in junctions
        }
    )


def junction_of(assets: Iterable[Asset]) -> dict[str, str]:
    """Which junction each ``water`` asset measures: its attribute ``junction``, or the next one in turn."""
    names = list(JUNCTIONS)
    water = [asset for asset in assets if asset.kind == "water"]
    return {
        asset.asset: str(asset.attributes.get("junction", names[number % len(names)]))
        for number, asset in enumerate(water)
    }


def _smooth(hours: Sequence[float], parts: int) -> list[float]:
    """Each hour in so many parts, on straight lines from one hour to the next, round the clock."""
    following = [*hours[1:], hours[0]]
    return [
        now * (1 - part / parts) + then * part / parts
        for now, then in zip(hours, following, strict=True)
        for part in range(parts)
    ]


def _resampled(seconds: list[float], values: list[float], steps: range) -> Iterable[float]:
    """Values at multiples of ``STEP_S``: wntr reports at the network's own step."""
    place = 0
    for step in steps:
        at = float(step * STEP_S)
        while place < len(seconds) - 2 and seconds[place + 1] <= at:
            place += 1
        if len(seconds) == 1:
            yield values[0]
            continue
        share = (at - seconds[place]) / (seconds[place + 1] - seconds[place])
        yield values[place] * (1 - share) + values[place + 1] * share


def _wntr() -> Any:
    if not waterworks_available():
        raise WaterworksMissing("the water network needs wntr: pip install citywatch[water]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("wntr")
