"""The city's storm drains: gauge wells on the pipes, low points of the roads, and the pump stations with their PLCs.

The water itself is SWMM's (``simulators.swmm``): catchments run off into the gauge wells, branches of pipes lead to a
station's inlet, the inlet to its wet well, pumps lift the water into the river. What this file adds is what SWMM has no
notion of: the controller that decides by what its level sensor tells it, pumps that are told to run and do not, rags in
an impeller, a drain that silts up, mains that fail.

``advance`` goes in steps of STEP_S: what the controllers decided from the last levels holds for the next step.
Scenarios change the public fields of ``pipes``, ``roads`` and ``stations`` in between.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Literal

from simulators.city import Asset, City
from simulators.swmm import (
    Balance,
    Conduit,
    Drainage,
    DrainageState,
    Junction,
    Link,
    Network,
    Node,
    Outfall,
    Subcatchment,
    Well,
)
from simulators.swmm import Pump as PumpLink
from simulators.weather import Weather

STEP_S = 5.0
# Dry and with all pumps standing, levels creep by a millimetre a step: the engine is asked every third step then.
QUIET_STEP_S = 15.0
BRANCH = 6  # gauge wells in a row, at most, before a branch reaches the station's inlet
# Rain that comes straight to the station's inlet through the trunk sewer, past the gauged branches.
TRUNK_SHARE = 0.5
# A low point collects the streets around it.
LOW_POINT_WEIGHT = 1.5
# Pipes are laid so that they carry about a storm of two years, no steeper and no flatter than can be built.
DESIGN_RAIN_MM_H = 70.0
FLATTEST, STEEPEST = 0.0015, 0.012
# A low point's gullies lead to the gauge well's drain. They swallow this much rain on the land around, clean; what
# comes down faster stands in the hollow, of which there are so many m² to a hectare of that land.
GULLY_RAIN_MM_H = 70.0
HOLLOW_M2_HA = (900.0, 1800.0)
GULLY_DEPTH_M, GULLY_LEAD_M = 0.8, 30.0
STREET_M2 = 3000.0  # where water leaves an ordinary gauge well it spreads along the street
ROUGHNESS = 0.014
# A cover held down: no more than this much head can stand on a street before something else gives way.
HIGHEST_SURCHARGE_M = 3.0
OPEN_LOSS = 0.2  # velocity heads lost in a clean gauge well
LEAK_LAG_S = 15.0
RUNNING_L_S = 1.0

Sensor = Literal["ok", "failed", "stuck"]


@dataclass(slots=True)
class Pipe:
    """A gauge well and the drain that leaves it.

    ``blocked`` 0…1 is how much of that drain's cross-section is closed (by silt, a root, a beam), so the level at the
    gauge rises. It reaches SWMM as a local loss of a sudden contraction, which it can change while it runs; above
    ``SHUT_FROM`` the drain is as good as shut.
    """

    asset: Asset
    slope: float
    length_m: float
    level_m: float = 0.0
    flow_m3_h: float = 0.0
    flooding_l_s: float = 0.0
    blocked: float = 0.0

    @property
    def velocity_m_s(self) -> float:
        """Of the water in the drain, as deep as at the gauge."""
        area = wetted_m2(self.diameter_m, self.level_m)
        return round(self.flow_m3_h / 3600 / area, 3) if area > 1e-3 else 0.0

    @property
    def diameter_m(self) -> float:
        return self.asset.number("diameter")

    @property
    def ground_m(self) -> float:
        """From the drain's invert to the street."""
        return self.asset.number("ground")

    @property
    def filled(self) -> float:
        """Level over diameter: above 1 the drain is under pressure."""
        return self.level_m / self.diameter_m

    @property
    def freeboard_m(self) -> float:
        """From the water up to the street; negative when it stands on the street."""
        return self.ground_m - self.level_m

    @property
    def loss(self) -> float:
        """Velocity heads lost between this well and the next; infinity when the drain is shut."""
        open_share = 1.0 - min(max(self.blocked, 0.0), 1.0)
        if open_share < 1 - SHUT_FROM:
            return math.inf
        # The jet through the opening contracts (Weisbach) and its velocity head is lost behind it.
        jet = open_share * (0.63 + 0.37 * open_share**3)
        return OPEN_LOSS + (1 / jet - 1) ** 2

    @property
    def full_m3_s(self) -> float:
        """What the drain carries when it is just full (Manning)."""
        return manning_full_m3_s(self.diameter_m, self.slope)

    @property
    def surcharge_m(self) -> float:
        """How far the head would stand above the street if the street did not take the water (negative: below it).

        The water that now escapes would have to go through the drain as well: the friction that costs, on top of the
        head that stands there.
        """
        through = self.flow_m3_h / 3600
        wanted = through + self.flooding_l_s / 1000
        extra = self.slope * self.length_m * max(0.0, wanted**2 - through**2) / self.full_m3_s**2
        return min(HIGHEST_SURCHARGE_M, extra - self.freeboard_m)


SHUT_FROM = 0.99


@dataclass(slots=True)
class RoadSurface:
    """A road's low point: the water its gullies cannot swallow or its drain's gauge well gives back (``hollow_m`` above
    the street), and what a scenario pours there (``leak_cm_target``: a burst main; it comes and goes in a minute)."""

    asset: Asset
    pipe: Pipe
    hollow_m: float = 0.0
    depth_cm: float = 0.0
    leak_cm_target: float = 0.0
    leak_cm: float = 0.0

    def step(self, seconds: float) -> None:
        self.leak_cm += (self.leak_cm_target - self.leak_cm) * -math.expm1(-seconds / LEAK_LAG_S)
        if abs(self.leak_cm) < 0.01 and not self.leak_cm_target:
            self.leak_cm = 0.0
        self.depth_cm = round(100 * max(0.0, self.hollow_m, -self.pipe.freeboard_m) + self.leak_cm, 2)


@dataclass(slots=True)
class Pump:
    """One pump of a station. ``refuses``: it is told to start and does not; ``blocked``: rags in its impeller, so it
    runs and draws current and moves nothing; ``auto`` False: somebody at its panel decides, with ``command``."""

    running: bool = False
    fault: bool = False
    auto: bool = True
    refuses: bool = False
    blocked: bool = False
    code: int = 0
    hours: float = 0.0
    starts: int = 0
    flow_m3_h: float = 0.0

    def command(self, run: bool) -> None:
        if run and not self.running and not self.refuses and not self.fault:
            self.running, self.starts = True, self.starts + 1
        elif not run:
            self.running = False


@dataclass(slots=True)
class Station:
    """A storm-water station as its PLC runs it.

    Pump k of the rotation starts at L2, L3, L4 and stops at the stop level, 0.2 m and 0.4 m above it; when all stand,
    the next one takes the lead. All levels are metres above the well's floor.

    ``frozen``: the PLC's program stands still and its outputs with it; its registers answer as they were.

    The PLC believes ``sensed_m``. ``level_sensor``: "failed" gives it nothing, so it falls back on its two floats (L6
    starts all, L1 stops all) and otherwise leaves the pumps as they are; "stuck" gives it the last level for ever,
    which it cannot know. The float at L1 is wired into the motor circuits and stops the pumps whatever the PLC thinks.
    ``second_m`` is the other gauge of the well, a pressure cell the PLC only shows.
    """

    asset: Asset
    level_m: float
    second_offset_m: float = 0.0
    inlet_m: float = 0.0
    outfall_m: float = 0.4
    flooding_l_s: float = 0.0
    mains: bool = True
    answering: bool = True
    just_restarted: bool = False
    frozen: bool = False
    level_sensor: Sensor = "ok"
    life: int = 0
    lead: int = 0
    wanted: int = 0
    pumps: list[Pump] = field(default_factory=lambda: [Pump(), Pump(), Pump()])
    stuck_m: float = 0.0
    start_levels: list[float] = field(init=False, repr=False)
    stop_levels: list[float] = field(init=False, repr=False)
    low_m: float = field(init=False, repr=False)
    high_m: float = field(init=False, repr=False)

    @property
    def level_sensor_ok(self) -> bool:
        """Does the sensor give a number (right or wrong)?"""
        return self.level_sensor != "failed"

    @property
    def sensed_m(self) -> float | None:
        """The level as the PLC has it; None when it has none."""
        match self.level_sensor:
            case "ok":
                return self.level_m
            case "stuck":
                return self.stuck_m
            case "failed":
                return None

    @property
    def second_m(self) -> float:
        return max(0.0, self.level_m + self.second_offset_m)

    @property
    def flow_m3_h(self) -> float:
        """What the pumps move."""
        return sum(pump.flow_m3_h for pump in self.pumps)

    @property
    def current_a(self) -> float:
        """Of one running pump: a little more the higher it has to lift."""
        head = max(0.0, self.asset.number("ground") - self.level_m)
        return self.asset.number("rated_current") * (0.82 + 0.02 * head)

    def pump_current_a(self, pump: Pump) -> float:
        """Of that pump: rags in the impeller load it beyond its rating."""
        if not pump.running:
            return 0.0
        return self.asset.number("rated_current") * 1.12 if pump.blocked else self.current_a

    def __post_init__(self) -> None:
        number, places = self.asset.number, range(len(self.pumps))
        known = [number("start_level"), number("L3"), number("L4")]
        self.start_levels = [known[place] if place < 3 else known[2] + 0.4 * (place - 2) for place in places]
        self.stop_levels = [number("stop_level") + 0.2 * place for place in places]
        self.low_m, self.high_m = number("L1"), number("L6")

    def step(self, seconds: float) -> None:
        """The controller's turn: time counts up, then it decides by what it knows."""
        if self.frozen:
            return
        if self.level_sensor != "stuck":
            self.stuck_m = self.level_m
        for pump in self.pumps:
            pump.hours += seconds / 3600 if pump.running else 0.0
            if pump.fault or not self.mains:
                pump.running = False
        if not self.mains:
            self.wanted = 0
            return
        self.life = (self.life + round(seconds)) % 65536
        self._control()

    def settings(self) -> Iterator[float]:
        """What each pump moves, as a share of its flow."""
        for pump in self.pumps:
            yield 1.0 if pump.running and not pump.blocked else 0.0

    def _control(self) -> None:
        self.wanted = self._demand()
        if self.level_m <= self.low_m:
            self.wanted = 0
            for pump in self.pumps:
                pump.command(False)
        running = any(pump.running for pump in self.pumps if pump.auto)
        order = [self.pumps[(self.lead + place) % len(self.pumps)] for place in range(len(self.pumps))]
        able = [pump for pump in order if pump.auto and not pump.fault]
        for place, pump in enumerate(able):
            pump.command(place < self.wanted)
        if running and not self.wanted:
            self.lead = (self.lead + 1) % len(self.pumps)

    def _demand(self) -> int:
        """How many pumps the level asks for."""
        level = self.sensed_m
        if level is None:
            if self.level_m >= self.high_m:
                return len(self.pumps)
            return 0 if self.level_m <= self.low_m else self.wanted
        started = sum(level >= start for start in self.start_levels)
        held = sum(level > stop for stop in self.stop_levels)
        return min(max(started, self.wanted), held)


class Stormwater:
    """The drains of a city under a weather, from time 0 on, while the context is open (the engine is a process).

    with Stormwater(city, weather) as drains:
        drains.advance(600.0)
        drains.pipes["pipe-01"].filled, drains.stations["PS-01"].level_m
    """

    def __init__(self, city: City, weather: Weather, step_s: float = STEP_S) -> None:
        """Raises ValueError or KeyError when the city's drains do not fit together."""
        self.weather = weather
        self.now = 0.0
        self.step_s = step_s
        layout = _Layout(city)
        self.network = layout.network()
        self.pipes: Mapping[str, Pipe] = {pipe.asset: layout.pipes[pipe.asset] for pipe in city.of_kind("pipe")}
        self.roads: Mapping[str, RoadSurface] = layout.roads
        self.stations: Mapping[str, Station] = layout.stations
        self._drainage = Drainage(self.network, routing_step_s=step_s, wet_step_s=step_s)
        self._blocked: dict[str, float] = {}
        self._engine_at = 0.0
        self._pump_names = {station_id: _pump_names(station) for station_id, station in self.stations.items()}
        self._settings: dict[str, float] = {}

    def __enter__(self) -> Stormwater:
        self._drainage.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drainage.__exit__(kind, error, trace)

    @property
    def balance(self) -> Balance:
        """Where the water came from and went so far."""
        return self._drainage.balance()

    @property
    def run_until(self) -> float:
        """How far the engine has come: on a dry day with its pumps at rest it takes longer steps."""
        return self._engine_at

    def surcharge_m(self, pipe_id: str) -> float:
        """How far the head at a gauge well would stand above the street if nothing relieved it: what lifts covers."""
        return self.pipes[pipe_id].surcharge_m

    def advance(self, at_s: float) -> None:
        """Let the time pass up to ``at_s``, in whole steps. Raises swmm.DrainageError when the engine is gone."""
        while self.now + self.step_s <= at_s + 1e-9:
            self._step(self.now + self.step_s)

    def _step(self, to_s: float) -> None:
        """The controllers decide, the water runs, the roads fill."""
        settings: dict[str, float] = {}
        for station in self.stations.values():
            station.step(self.step_s)
            settings |= zip(self._pump_names[station.asset.asset], station.settings(), strict=True)
        losses = self._losses()
        if losses or settings != self._settings:
            # What has changed holds from now on: the engine first catches up under what held until now.
            self._run(self.now, {}, {})
            self._settings = settings
        fallen = self.weather.fallen_mm(self._engine_at, to_s)
        quiet = fallen < 1e-9 and not losses and not any(settings.values())
        if not quiet or to_s - self._engine_at >= QUIET_STEP_S:
            self._run(to_s, settings, losses)
        self.now = to_s
        for road in self.roads.values():
            road.step(self.step_s)

    def _run(self, to_s: float, settings: Mapping[str, float], losses: Mapping[str, float]) -> None:
        """Let the engine come up to that time."""
        seconds = to_s - self._engine_at
        if seconds <= 0:
            return
        fallen = self.weather.fallen_mm(self._engine_at, to_s)
        # On a dry day the difference of two sums may leave a rounding error.
        state = self._drainage.advance(to_s, fallen * 3600 / seconds if fallen >= 1e-9 else 0.0, settings, losses)
        self._engine_at = to_s
        self._read(state)

    def _losses(self) -> dict[str, float]:
        """Of the pipes whose blockage has changed."""
        changed = {
            pipe_id: pipe for pipe_id, pipe in self.pipes.items() if pipe.blocked != self._blocked.get(pipe_id, 0.0)
        }
        self._blocked |= {pipe_id: pipe.blocked for pipe_id, pipe in changed.items()}
        return {_drain(pipe_id): pipe.loss for pipe_id, pipe in changed.items()}

    def _read(self, state: DrainageState) -> None:
        for pipe_id, pipe in self.pipes.items():
            pipe.level_m = state.depth_m[pipe_id]
            pipe.flow_m3_h = round(3600 * state.flow_m3_s[_drain(pipe_id)], 1)
            pipe.flooding_l_s = state.flooding_l_s[pipe_id]
        for road in self.roads.values():
            road.hollow_m = state.depth_m[_hollow(road.pipe.asset.asset)] - GULLY_DEPTH_M
        for station_id, station in self.stations.items():
            station.level_m = state.depth_m[station_id]
            station.inlet_m = state.depth_m[_inlet(station_id)]
            station.flooding_l_s = state.flooding_l_s[station_id] + state.flooding_l_s[_inlet(station_id)]
            station.outfall_m = round(RIVER_M + state.depth_m[_outlet(station_id)], 3)
            for name, pump in zip(self._pump_names[station_id], station.pumps, strict=True):
                pump.flow_m3_h = round(3600 * state.flow_m3_s[name], 1)


RIVER_M = 0.4


class _Layout:
    """How the assets become a network. Every station's floor is datum; its streets lie around ``ground``."""

    def __init__(self, city: City) -> None:
        self._city = city
        self._low_points = {road.links["pipe"] for road in city.of_kind("road") if "pipe" in road.links}
        self.pipes: dict[str, Pipe] = {}
        self.roads: dict[str, RoadSurface] = {}
        self.stations: dict[str, Station] = {}

    def network(self) -> Network:
        """Everything; fills ``pipes``, ``roads`` and ``stations`` on the way."""
        subcatchments: list[Subcatchment] = []
        nodes: list[Node] = []
        links: list[Link] = []
        drains: dict[str, list[Asset]] = {station.asset: [] for station in self._city.of_kind("pump")}
        for asset in self._city.of_kind("pipe"):
            drains[asset.links["station"]].append(asset)
        for asset in self._city.of_kind("pump"):
            ordered = sorted(drains[asset.asset], key=lambda pipe: pipe.asset)
            rng = random.Random(f"{self._city.seed}:{asset.asset}:drains")
            baseflow_l_s = rng.uniform(30.0, 60.0)
            self._station(asset, rng, baseflow_l_s, not ordered, nodes, links)
            share = TRUNK_SHARE if ordered else 1.0
            subcatchments.append(_catchment(asset, _inlet(asset.asset), share))
            for branch in branches(ordered):
                self._branch(asset, branch, len(ordered), rng, baseflow_l_s, subcatchments, nodes, links)
        for road in self._city.of_kind("road"):
            self.roads[road.asset] = RoadSurface(road, self.pipes[road.links["pipe"]])
        return Network(subcatchments, nodes, links)

    def _station(
        self, asset: Asset, rng: random.Random, baseflow_l_s: float, alone: bool, nodes: list[Node], links: list[Link]
    ) -> None:
        """Inlet, wet well, pumps, and the way to the river; ``alone``: no branch brings the dry-weather flow."""
        name, number = asset.asset, asset.number
        level, offset = round(rng.uniform(0.9, 1.7), 3), round(rng.uniform(-0.02, 0.02), 3)
        pumps = [Pump(hours=rng.uniform(800, 6000), starts=rng.randint(500, 4000)) for _ in range(int(number("pumps")))]
        self.stations[name] = station = Station(asset, level, offset, pumps=pumps)
        depth = number("ground")
        nodes += [
            Junction(_inlet(name), depth - INLET.depth_m, INLET.depth_m, INLET.ponded_m2, baseflow_l_s * alone),
            Well(name, 0.0, depth, number("well_area"), station.level_m),
            # With a chamber behind the pumps SWMM loses 0.1 % of the water when they switch, with a mere junction 1 %.
            Well(_outlet(name), 3.0, 4.0, 40.0),
            Outfall(f"river:{name}", 2.5),
        ]
        links += [
            Conduit(f"trunk:{name}", _inlet(name), name, INLET.length_m, INLET.diameter_m, INLET.roughness,
                    end_offset_m=INLET.end_m),
            *(PumpLink(pump, name, _outlet(name), number("pump_flow")) for pump in _pump_names(station)),
            Conduit(f"river-pipe:{name}", _outlet(name), f"river:{name}", 60.0, 1.5),
        ]  # fmt: skip

    def _branch(
        self,
        station: Asset,
        branch: Sequence[Asset],
        of_station: int,
        rng: random.Random,
        baseflow_l_s: float,
        subcatchments: list[Subcatchment],
        nodes: list[Node],
        links: list[Link],
    ) -> None:
        """A row of gauge wells down to the station's inlet, laid from there upwards."""
        # The larger a pipe, the more land it was laid for.
        weights = [
            pipe.number("diameter") ** 2 * (LOW_POINT_WEIGHT if pipe.asset in self._low_points else 1.0)
            for pipe in branch
        ]
        share = (1 - TRUNK_SHARE) * len(branch) / of_station / sum(weights)
        paved_m2 = station.number("catchment_area") * 1e4 * station.number("imperviousness")
        invert = station.number("ground") - INLET.depth_m
        below = _inlet(station.asset)
        for place in reversed(range(len(branch))):
            asset = branch[place]
            name, length = asset.asset, round(rng.uniform(70.0, 120.0), 1)
            runoff_m3_s = share * sum(weights[: place + 1]) * paved_m2 * DESIGN_RAIN_MM_H / 3.6e6
            slope = design_slope(asset.number("diameter"), runoff_m3_s)
            self.pipes[name] = pipe = Pipe(asset, slope, length)
            invert += slope * length
            base_l_s = round(baseflow_l_s / of_station, 2)
            nodes.append(Junction(name, round(invert, 3), pipe.ground_m, STREET_M2, base_l_s))
            links.append(Conduit(_drain(name), name, below, length, pipe.diameter_m, ROUGHNESS, loss=OPEN_LOSS))
            outlet = name
            if name in self._low_points:
                outlet = _hollow(name)
                self._low_point(pipe, invert, share * weights[place] * paved_m2, rng, nodes, links)
            subcatchments.append(_catchment(station, outlet, share * weights[place]))
            below = name

    def _low_point(
        self, pipe: Pipe, invert: float, paved_m2: float, rng: random.Random, nodes: list[Node], links: list[Link]
    ) -> None:
        """A hollow in the street whose gullies lead to that gauge well, to the crown of its drain."""
        name = pipe.asset.asset
        fall = max(0.1, pipe.ground_m - GULLY_DEPTH_M - pipe.diameter_m)
        wanted = paved_m2 * GULLY_RAIN_MM_H / 3.6e6
        lead_m = round((wanted / manning_full_m3_s(1.0, fall / GULLY_LEAD_M)) ** 0.375, 3)
        room = paved_m2 / 1e4 * rng.uniform(*HOLLOW_M2_HA)
        gully = invert + pipe.ground_m - GULLY_DEPTH_M
        nodes.append(Junction(_hollow(name), round(gully, 3), GULLY_DEPTH_M, round(room, 1)))
        end = round(gully - fall - invert, 3)
        links.append(Conduit(f"gullies:{name}", _hollow(name), name, GULLY_LEAD_M, lead_m, ROUGHNESS, end_offset_m=end))


@dataclass(frozen=True, slots=True)
class _Inlet:
    """The last well before a station and the trunk from it, as in ``swmm.published_drill``."""

    depth_m: float = 3.0
    ponded_m2: float = 2300.0
    length_m: float = 106.0
    diameter_m: float = 1.54
    roughness: float = 0.014
    end_m: float = 2.5


INLET = _Inlet()


def branches(pipes: Sequence[Asset]) -> list[Sequence[Asset]]:
    """A station's gauge wells, in their order, cut into as few rows of at most BRANCH as there must be, as even as
    can be."""
    count = math.ceil(len(pipes) / BRANCH)
    edges = [len(pipes) * number // count for number in range(count + 1)] if count else []
    return [pipes[begin:end] for begin, end in pairwise(edges)]


def manning_full_m3_s(diameter_m: float, slope: float) -> float:
    """What a round pipe carries when it is full."""
    return math.pi / 4 * diameter_m**2 * math.pow(diameter_m / 4, 2 / 3) * math.sqrt(slope) / ROUGHNESS


def design_slope(diameter_m: float, flow_m3_s: float) -> float:
    """The slope at which a pipe of that diameter carries that flow, as far as it can be built."""
    wanted = (flow_m3_s / manning_full_m3_s(diameter_m, 1.0)) ** 2
    return min(STEEPEST, max(FLATTEST, wanted))


def wetted_m2(diameter_m: float, level_m: float) -> float:
    """The cross-section of the water in a round pipe."""
    filled = min(1.0, max(0.0, level_m / diameter_m))
    angle = 2 * math.acos(1 - 2 * filled)
    return diameter_m**2 / 8 * (angle - math.sin(angle))


def _catchment(station: Asset, outlet: str, share: float) -> Subcatchment:
    """A share of a station's catchment. Its width keeps the flow paths of all shares alike."""
    area = station.number("catchment_area") * share
    return Subcatchment(
        f"land:{outlet}", outlet, round(area, 4), station.number("imperviousness"), width_m=round(140 * area, 1)
    )


def _hollow(pipe_id: str) -> str:
    return f"hollow:{pipe_id}"


def _drain(pipe_id: str) -> str:
    return f"drain:{pipe_id}"


def _inlet(station_id: str) -> str:
    return f"inlet:{station_id}"


def _outlet(station_id: str) -> str:
    return f"outlet:{station_id}"


def _pump_names(station: Station) -> list[str]:
    return [f"{station.asset.asset}:pump-{number}" for number in range(1, len(station.pumps) + 1)]
