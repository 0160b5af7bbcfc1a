"""The truth of a drill: when a thing really was in danger, so that somebody can ask whether the rules saw it.

Judged is the state of the world, never what a sensor said of it. The limits are those of the city's own table
(domain rules E.1–E.6), written here a second time on purpose: a rule that was changed by mistake cannot confirm itself.

For each asset and rule there are two answers at any moment. It *may* be an alarm: the state is at the limit or beyond,
within what a sensor can tell (``possible``). It *certainly* is one: beyond the limit by more than that (``certain``, as
severe as the level). What certainly is for the rule's delay and two reports more is expected to be raised; what is
raised while it may be is never false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from simulators.simulation import Simulation

I, II, III, IV = 1, 2, 3, 4  # noqa: E741  the county's names of its levels
GRACE_S = 15.0  # journeys, group commits, a poll that was late
AFTER_S = 60.0  # an alarm in its last second of delay when the danger ends
EVENT_S = 30.0
READINGS = -1.0  # a delay that is counted in readings: two of them are one interval


class State(NamedTuple):
    """``certain``: (level, the rule's delay in seconds), the worst that certainly is. ``possible``: may it be one."""

    possible: bool
    certain: tuple[int, float] | None = None


CALM = State(False)
MAY_BE = State(True)


@dataclass(frozen=True, slots=True)
class Expected:
    """An alarm that must be there by ``due``; seconds since the start."""

    asset: str
    rule: str
    level: int
    since: float
    due: float
    delay: float
    interval: float


@dataclass(frozen=True, slots=True)
class Hazard:
    """A time in which the alarm may be raised; None: to the end."""

    asset: str
    rule: str
    since: float
    until: float | None


class Watch(NamedTuple):
    """One rule's truth. ``asks``: (simulation, asset, second) → the state now. ``at_once``: the device does not wait
    for its heartbeat to say it (it measures every EVENT_S)."""

    rule: str
    kinds: tuple[str, ...]
    asks: Callable[[Simulation, str, float], State]
    at_once: bool = False


def _ladder(value: float, rungs: Sequence[tuple[float, int, float]], tolerance: float) -> State:
    """``rungs``: (limit, level, delay), mildest first; larger is worse."""
    if value < rungs[0][0] - tolerance:
        return CALM
    certain = [(level, delay) for limit, level, delay in rungs if value >= limit + tolerance]
    return State(True, certain[-1] if certain else None)


# -- lighting ---------------------------------------------------------------------------------------------------------


def _has_supply(sim: Simulation, lamp: str, at: float) -> bool:
    feeder = sim.world.lighting.lamps[lamp].feeder
    return feeder.mains and (feeder.contactor or not feeder.commanded)


def _lamp_out(sim: Simulation, asset: str, at: float) -> State:
    lighting = sim.world.lighting
    if not lighting.should_be_lit(asset, at) or lighting.is_lit(asset, at):
        return CALM
    # A circuit that is dark explains its lamps, and one that has just come back needs its minute.
    return State(True, (IV, 600.0) if _has_supply(sim, asset, at) and not sim.unheard(asset, at) else None)


def _lamp_row(sim: Simulation, asset: str, at: float) -> State:
    links = sim.world.city.asset(asset).links
    row = [asset, links.get("before"), links.get("after")]
    states = [_lamp_out(sim, lamp, at) for lamp in row if lamp is not None]
    if len(states) < 3 or not all(state.possible for state in states):
        return CALM
    return State(True, (III, 600.0) if all(state.certain for state in states) else None)


def _day_burner(sim: Simulation, asset: str, at: float) -> State:
    lighting = sim.world.lighting
    if lighting.should_be_lit(asset, at) or lighting.lamps[asset].power_at(at) < 10.0:
        return CALM
    return State(True, (IV, 900.0) if sim.sun_is_up(at, margin_s=1800.0 + 900.0) else None)


def _lamp_voltage(sim: Simulation, asset: str, at: float) -> State:
    volts = sim.world.lighting.lamps[asset].voltage_at(at)
    if volts == 0.0 or 198.0 + 1.0 < volts < 231.0 - 1.0:
        # Without supply there is nothing to measure; the controller is silent then.
        return MAY_BE if volts == 0.0 else CALM
    certain = volts > 232.0 or volts < 197.0
    return State(True, (III, 300.0) if certain and not sim.unheard(asset, at) else None)


def _circuit(sim: Simulation, asset: str, at: float) -> State:
    feeder = sim.world.lighting.feeders[asset]
    if not feeder.commanded:
        return CALM
    if not feeder.mains or not feeder.contactor:
        return State(True, (II, 120.0) if not sim.unheard(asset, at) else None)
    lit = sum(lamp.power_w > 0 for lamp in feeder.lamps)
    return MAY_BE if lit < 0.5 * len(feeder.lamps) else CALM


def _leakage(sim: Simulation, asset: str, at: float) -> State:
    leak = sim.world.lighting.feeders[asset].leak_at(at)
    wet = sim.storm_mode(at)
    if leak < (29.0 if wet else 97.0):
        return CALM
    return State(True, (I if wet else II, 10.0) if leak > 105.0 and not sim.unheard(asset, at) else None)


def _cabinet_door(sim: Simulation, asset: str, at: float) -> State:
    return State(True, (III, 30.0)) if sim.world.lighting.feeders[asset].door_open else CALM


def _lit_share(sim: Simulation, asset: str, at: float) -> State:
    lamps = sim.world.lighting.lamps
    if not any(feeder.told(at).on for feeder in sim.world.lighting.feeders.values()):
        return CALM
    should = [lamp for lamp in lamps if sim.world.lighting.should_be_lit(lamp, at)]
    lit = sum(sim.world.lighting.is_lit(lamp, at) and not sim.unheard(lamp, at) for lamp in should)
    return MAY_BE if should and lit < 0.985 * len(should) else CALM


# -- covers -----------------------------------------------------------------------------------------------------------


def _tilt(sim: Simulation, asset: str, at: float) -> float:
    """As a sensor that was mounted on the level it lay on sees it; two inclinations differ by at most that. A shock is
    not how it lies."""
    return sim.world.covers.covers[asset].rests_at(at)


def _tilted(sim: Simulation, asset: str, at: float) -> State:
    tilt = _tilt(sim, asset, at)
    if tilt < 7.0:
        return CALM
    is_open = sim.world.covers.covers[asset].state_at(at) in ("open", "missing") or tilt > 42.0
    return State(True, (II, 30.0) if tilt > 18.0 and not is_open and not _wet_there(sim, asset, at) else None)


def _open(sim: Simulation, asset: str, at: float) -> State:
    cover = sim.world.covers.covers[asset]
    if cover.state_at(at) in ("open", "missing"):
        return State(True, (I, 0.0) if not _wet_there(sim, asset, at) and not sim.unheard(asset, at) else None)
    return MAY_BE if _tilt(sim, asset, at) > 40.0 else CALM


def _open_and_water(sim: Simulation, asset: str, at: float) -> State:
    cover = sim.world.covers.covers[asset]
    tilt = _tilt(sim, asset, at)
    if tilt < 7.0 or not (_wet_there(sim, asset, at) or sim.may_be_storm(at)):
        return CALM
    is_open = cover.state_at(at) in ("open", "missing")
    # The LoRaWAN tilt sensor has no float; there only the storm can tell.
    sees_water = sim.storm_mode(at) or (cover.water_at(at) and sim.has_float(asset))
    return State(True, (I, 30.0) if is_open and sees_water and not sim.unheard(asset, at) else None)


def _wet_there(sim: Simulation, asset: str, at: float) -> bool:
    return sim.world.covers.covers[asset].water_at(at) or sim.may_be_storm(at)


def _cover_battery(sim: Simulation, asset: str, at: float) -> State:
    left = sim.world.covers.covers[asset].battery_at(at)
    return _ladder(-left, ((-20.0, IV, READINGS), (-10.0, III, READINGS)), 0.6)


# -- drains -----------------------------------------------------------------------------------------------------------


def _filling(sim: Simulation, asset: str, at: float) -> State:
    pipe = sim.world.drains.pipes[asset]
    state = _ladder(100 * pipe.filled, ((60.0, IV, READINGS), (80.0, III, READINGS), (100.0, II, READINGS)), 2.0)
    # Near the ground a worse alarm of the same pipe says it, and this one is shown under it.
    return State(state.possible, state.certain if pipe.freeboard_m > 0.6 and not sim.faulty(asset, at) else None)


def _near_ground(sim: Simulation, asset: str, at: float) -> State:
    freeboard = sim.world.drains.pipes[asset].freeboard_m
    if freeboard > 0.72:
        return CALM
    return State(True, (II, 60.0) if 0.05 < freeboard < 0.48 and not sim.faulty(asset, at) else None)


def _overflow(sim: Simulation, asset: str, at: float) -> State:
    freeboard = sim.world.drains.pipes[asset].freeboard_m
    if freeboard > 0.22:
        return CALM
    return State(True, (I, 0.0) if freeboard < -0.01 and not sim.faulty(asset, at) else None)


def _gauge_fault(sim: Simulation, asset: str, at: float) -> State:
    return sim.sensor_state(asset, at)


def _gauge_step(sim: Simulation, asset: str, at: float) -> State:
    return State(sim.sensor_state(asset, at).possible)


def _raining(sim: Simulation, asset: str, at: float) -> State:
    """A sum of an hour that gauges round and sample each minute."""
    fallen = sim.world.weather.fallen_mm(at - 3600.0, at)
    heard = not sim.faulty(asset, at)
    return State(fallen > 1.7, (IV, 0.0) if fallen > 2.3 and heard else None)


def _storm(sim: Simulation, asset: str, at: float) -> State:
    return State(sim.may_be_storm(at), (IV, 0.0) if sim.storm_mode(at) and not sim.faulty(asset, at) else None)


def _road_depth(sim: Simulation, asset: str, at: float) -> State:
    depth = sim.world.drains.roads[asset].depth_cm
    state = _ladder(depth, ((5.0, IV, 120.0), (15.0, II, 60.0), (25.0, I, 60.0)), 0.5)
    if not state.possible and depth > 1.5:
        return MAY_BE  # it still stands: cleared 3 cm below
    return State(state.possible, None if sim.faulty(asset, at) else state.certain)


def _rain_sum(sim: Simulation, asset: str, at: float) -> State:
    weather = sim.world.weather

    def fallen(hours: float) -> float:
        return weather.fallen_mm(at - hours * 3600, at)

    worst: tuple[int, float] | None = None
    possible = fallen(3) > 9.0 and any(
        fallen(hours) > limit - 1 for hours, limit in ((12, 50), (6, 50), (3, 50), (3, 100))
    )
    for hours, limit, level in ((12, 50.0, IV), (6, 50.0, III), (3, 50.0, II), (3, 100.0, I)):
        if fallen(hours) > limit + 1.0 and fallen(3) > 11.0:
            worst = (level, 0.0)
    return State(possible, None if sim.faulty(asset, at) else worst)


# -- pump stations ----------------------------------------------------------------------------------------------------


def _wetwell(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.drains.stations[asset]
    limit = station.asset.number("L6") - 0.3
    if station.level_m < limit - 0.33:
        return CALM
    sure = limit + 0.03 < station.level_m < limit + 0.27
    return State(True, (II, 60.0) if sure and sim.gauge_tells(asset) else None)


def _wetwell_high_high(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.drains.stations[asset]
    limit = station.asset.number("L6")
    if station.level_m < limit - 0.33:
        return CALM
    return State(True, (I, 10.0) if station.level_m > limit + 0.03 and sim.gauge_tells(asset) else None)


def _no_start(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.drains.stations[asset]
    start = station.asset.number("start_level") + 0.1
    if station.level_m < start - 0.12 or any(pump.running for pump in station.pumps):
        return CALM
    auto = any(pump.auto for pump in station.pumps)
    sure = station.level_m > start + 0.03 and auto and sim.gauge_tells(asset) and station.mains
    return State(True, (I if sim.storm_mode(at) else II, 60.0) if sure else None)


def _dry_run(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.drains.stations[asset]
    running = any(pump.running for pump in station.pumps)
    return MAY_BE if running and station.level_m < station.asset.number("L1") else CALM


def _overcurrent(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.drains.stations[asset]
    worst = max((station.pump_current_a(pump) for pump in station.pumps if pump.running), default=0.0)
    state = _ladder(100 * worst / station.asset.number("rated_current"), ((110.0, III, 60.0), (130.0, II, 60.0)), 1.0)
    return State(state.possible, state.certain if sim.answers(asset) else None)


def _station_power(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.drains.stations[asset]
    if station.mains:
        return CALM
    return State(True, (I if sim.storm_mode(at) else II, 5.0) if sim.answers(asset) else None)


def _stale(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.drains.stations[asset]
    if sim.answers(asset) and not station.frozen and station.mains:
        return CALM
    if not sim.answers(asset):
        return State(True, (III, 15.0))
    # A PLC without mains runs on its own battery; one whose program stands still repeats itself.
    return State(True, (III, 60.0) if station.frozen else None)


def _not_auto(sim: Simulation, asset: str, at: float) -> State:
    return State(True, (III, 1800.0)) if not all(p.auto for p in sim.world.drains.stations[asset].pumps) else CALM


# -- bridges ----------------------------------------------------------------------------------------------------------


def _strain(sim: Simulation, asset: str, at: float) -> State:
    bridge = sim.world.bridges.bridges[asset]
    design = bridge.design_ue
    strain = bridge.strain_mean_at(at)
    state = _ladder(strain, ((0.8 * design, II, READINGS), (design, I, READINGS)), 0.02 * design)
    return State(state.possible or strain > 0.74 * design, state.certain)


# -- radio ------------------------------------------------------------------------------------------------------------


def _offline(intervals: float, plus_s: float = 0.0, level: int = IV) -> Callable[[Simulation, str, float], State]:
    def asks(sim: Simulation, asset: str, at: float) -> State:
        since = sim.unheard_since(asset)
        if since is None:
            # What comes late, or with a clock that stands, is not heard in its time by anybody.
            return State(sim.out_of_time(asset, at))
        alone = not sim.network_is_cut(asset) and not sim.dark_circuit(asset)
        interval = sim.interval_of(asset)
        return State(True, (level, intervals * interval + plus_s) if alone else None)

    return asks


def _network(sim: Simulation, asset: str, at: float) -> State:
    """A network is counted lost by the kinds of which it has ten or more."""
    if not sim.is_cut(asset):
        return CALM
    slowest = sim.slowest_counted(asset)
    return State(True, (III, 3 * slowest + 60.0) if slowest is not None else None)


# -- utilities --------------------------------------------------------------------------------------------------------


def _gas(sim: Simulation, asset: str, at: float) -> State:
    lel = sim.world.utilities.gas[asset].lel_at(at)
    state = _ladder(lel, ((10.0, III, 2 * READINGS), (20.0, II, READINGS), (50.0, I, READINGS)), 1.0)
    return MAY_BE if not state.possible and lel > 7.0 else state


def _cold(sim: Simulation, asset: str, at: float) -> State:
    station = sim.world.utilities.heat[asset]
    if not station.in_season(at):
        return MAY_BE
    supply = station.values(at)["supply_temp"]
    assert isinstance(supply, float)
    below = station.plan_c - 10.0 - supply
    return State(below > -6.0, (III, 1800.0) if below > 0.5 else None)


def _dust(sim: Simulation, asset: str, at: float) -> State:
    """The rule has the mean of 15 minutes: it follows the minute's value within so long."""
    pm10 = sim.world.utilities.sites[asset].values(at)["pm10"]
    assert isinstance(pm10, float)
    state = _ladder(pm10, ((150.0, IV, 900.0), (250.0, III, 900.0)), 40.0)
    return MAY_BE if not state.possible and sim.was(asset, "dust", at, pm10 > 110.0, 1200.0) else state


def _night_noise(sim: Simulation, asset: str, at: float) -> State:
    site = sim.world.utilities.sites[asset]
    laeq = site.values(at)["laeq"]
    assert isinstance(laeq, float)
    hour = sim.world.hour_of_day(at)
    night = hour >= 22.0 or hour < 6.0
    about = hour >= 21.9 or hour < 6.5  # its mean of a quarter of an hour, and what stands until it clears
    if not about or not sim.was(asset, "noise", at, laeq > 52.0, 1500.0):
        return CALM
    return State(True, (III, 1200.0) if laeq > 60.0 and night and (hour >= 22.4 or hour < 5.6) else None)


def _night_peak(sim: Simulation, asset: str, at: float) -> State:
    lmax = sim.world.utilities.sites[asset].values(at)["lmax"]
    assert isinstance(lmax, float)
    return MAY_BE if sim.was(asset, "lmax", at, lmax > 66.0, 1500.0) else CALM


def _day_noise(sim: Simulation, asset: str, at: float) -> State:
    laeq = sim.world.utilities.sites[asset].values(at)["laeq"]
    assert isinstance(laeq, float)
    return MAY_BE if sim.was(asset, "laeq", at, laeq > 67.0, 1500.0) else CALM


def _dropped_kpa(sim: Simulation, asset: str, at: float) -> float:
    """How much pressure has gone within a quarter of an hour."""
    point = sim.world.utilities.water[asset]
    now, before = point.values(at)["pressure"], point.values(at - 900.0)["pressure"]
    assert isinstance(now, float)
    assert isinstance(before, float)
    return before - now


def _pressure_drop(sim: Simulation, asset: str, at: float) -> State:
    dropped = _dropped_kpa(sim, asset, at)
    if not sim.was(asset, "drop", at, dropped > 18.0, 1200.0):
        return CALM
    return State(True, (IV, 0.0) if dropped > 38.0 else None)


def _burst(sim: Simulation, asset: str, at: float) -> State:
    """A fast drop here, and a drop at a neighbour too."""
    dropped = _dropped_kpa(sim, asset, at)
    if not sim.was(asset, "burst", at, dropped > 40.0, 1200.0):
        return CALM
    neighbours = sim.neighbours(asset, "network")
    agreed = any(_dropped_kpa(sim, other, at) > 38.0 for other in neighbours)
    return State(True, (II, 0.0) if dropped > 60.0 and agreed else None)


def _water_low(sim: Simulation, asset: str, at: float) -> State:
    pressure = sim.world.utilities.water[asset].values(at)["pressure"]
    assert isinstance(pressure, float)
    return State(pressure < 165.0, (II, 600.0) if pressure < 135.0 else None)


WATCHES: tuple[Watch, ...] = (
    Watch("lamp-out", ("lamp",), _lamp_out),
    Watch("lamp-out-row", ("lamp",), _lamp_row),
    Watch("lamp-day-burner", ("lamp",), _day_burner),
    Watch("lamp-voltage", ("lamp",), _lamp_voltage),
    Watch("lamp-offline", ("lamp",), _offline(3)),
    Watch("circuit-lost", ("feeder",), _circuit),
    Watch("feeder-leakage", ("feeder",), _leakage),
    Watch("cabinet-door", ("feeder",), _cabinet_door),
    Watch("cabinet-offline", ("feeder", "cabinet"), _offline(3, level=III)),
    Watch("lit-share-low", ("area",), _lit_share),
    Watch("manhole-tilted", ("manhole",), _tilted, at_once=True),
    Watch("manhole-open", ("manhole",), _open, at_once=True),
    Watch("manhole-open-water", ("manhole",), _open_and_water, at_once=True),
    Watch("manhole-battery", ("manhole",), _cover_battery),
    Watch("manhole-silent", ("manhole",), _offline(2, 7200.0)),
    Watch("pipe-filling", ("pipe",), _filling),
    Watch("pipe-near-ground", ("pipe",), _near_ground),
    Watch("pipe-overflow", ("pipe",), _overflow),
    Watch("gauge-fault", ("pipe",), _gauge_fault),
    Watch("gauge-step", ("pipe",), _gauge_step),
    Watch("gauge-offline", ("pipe", "road", "rain"), _offline(3)),
    Watch("road-depth", ("road",), _road_depth),
    Watch("raining", ("rain",), _raining),
    Watch("rain-sum", ("rain",), _rain_sum),
    Watch("storm-mode", ("rain",), _storm),
    Watch("wetwell-high", ("pump",), _wetwell),
    Watch("wetwell-high-high", ("pump",), _wetwell_high_high),
    Watch("pump-no-start", ("pump",), _no_start),
    Watch("pump-dry-run", ("pump",), _dry_run),
    Watch("pump-overcurrent", ("pump",), _overcurrent),
    Watch("pump-not-auto", ("pump",), _not_auto),
    Watch("station-power-lost", ("pump",), _station_power),
    Watch("station-stale", ("pump",), _stale),
    Watch("bridge-strain", ("bridge",), _strain),
    Watch("bridge-offline", ("bridge",), _offline(3, level=III)),
    Watch("network-lost", ("network",), _network),
    Watch("gas-leak", ("gas",), _gas),
    Watch("heat-supply-low", ("heat",), _cold),
    Watch("site-dust", ("site",), _dust),
    Watch("site-noise-day", ("site",), _day_noise),
    Watch("site-noise-night", ("site",), _night_noise),
    Watch("site-noise-night-peak", ("site",), _night_peak),
    Watch("water-pressure-low", ("water",), _water_low),
    Watch("pressure-drop", ("water",), _pressure_drop),
    Watch("water-burst", ("water",), _burst),
    *(Watch(f"{kind}-offline", (kind,), _offline(3)) for kind in ("water", "gas", "heat", "parking", "site")),
)

# A vehicle is an event: it is judged as it crosses. Shares of the posted limit, and the level from there on.
OVERLOAD = ((1.0, IV), (1.2, III), (1.5, I))
OVERLOAD_TOLERANCE = 0.02


@dataclass(slots=True)
class _Course:
    """One asset and rule so far."""

    possible_since: float | None = None
    certain: dict[int, tuple[float, float]] = field(default_factory=dict)  # level → (since when it certainly is, delay)
    told: set[int] = field(default_factory=set)
    worst_delay: float = 0.0


class Truth:
    """Looks at the world whenever something is said or done, and says what must be raised and what may be."""

    def __init__(self, simulation: Simulation, rules: frozenset[str]) -> None:
        """``rules``: those that ship switched off and are judged all the same, since the scenario switches them on."""
        self._simulation = simulation
        self._courses: dict[tuple[str, str], _Course] = {}
        off = OFF_BY_DEFAULT - rules
        self._watches: dict[str, list[Watch]] = {}
        for watch in WATCHES:
            if watch.rule not in off:
                for kind in watch.kinds:
                    self._watches.setdefault(kind, []).append(watch)

    def look(self, asset: str, kind: str, at: float) -> Iterator[Expected | Hazard]:
        """The state of one asset now: alarms that are due by now, and hazards that have ended."""
        for watch in self._watches.get(kind, ()):
            state = watch.asks(self._simulation, asset, at)
            key = (asset, watch.rule)
            course = self._courses.get(key)
            if course is None:
                if not state.possible:
                    continue
                course = self._courses[key] = _Course()
            yield from self._goes_on(asset, watch, course, state, at)

    def crosses(self, asset: str, share: float, at: float, interval: float) -> Iterator[Expected | Hazard]:
        """A vehicle of so much of the posted limit."""
        if share < 1.0 - OVERLOAD_TOLERANCE:
            return
        yield Hazard(asset, "bridge-overload", at - 1.0, at + GRACE_S)
        levels = [level for limit, level in OVERLOAD if share >= limit + OVERLOAD_TOLERANCE]
        if levels:
            yield Expected(asset, "bridge-overload", levels[-1], at, at + GRACE_S, 0.0, 1.0)

    def end(self, at: float) -> Iterator[Hazard]:
        """What may still be."""
        for (asset, rule), course in sorted(self._courses.items()):
            if course.possible_since is not None:
                yield Hazard(asset, rule, course.possible_since - 1.0, None)

    def _goes_on(
        self, asset: str, watch: Watch, course: _Course, state: State, at: float
    ) -> Iterator[Expected | Hazard]:
        interval = EVENT_S if watch.at_once else self._simulation.interval_of(asset)
        if state.possible and course.possible_since is None:
            course.possible_since = at
            course.worst_delay = 0.0
        level = None if state.certain is None else state.certain[0]
        for known in list(course.certain):
            if level is None or known < level:
                del course.certain[known]
                course.told.discard(known)
        if state.certain is not None:
            level, delay = state.certain
            delay = -delay * interval if delay < 0 else delay
            course.worst_delay = max(course.worst_delay, delay)
            if level not in course.certain:
                course.certain[level] = at, delay
                self._simulation.looks_again(asset, at + delay + 2 * interval + GRACE_S)
            for known, (since, its_delay) in course.certain.items():
                due = since + its_delay + 2 * interval + GRACE_S
                if known not in course.told and at >= due:
                    course.told.add(known)
                    yield Expected(asset, watch.rule, known, since, at, its_delay, interval)
        if not state.possible and course.possible_since is not None:
            until = at + course.worst_delay + 2 * interval + AFTER_S
            yield Hazard(asset, watch.rule, course.possible_since - 1.0, until)
            course.possible_since = None


OFF_BY_DEFAULT = frozenset({
    "cabinet-door", "pump-not-auto", "gas-leak", "heat-supply-low", "site-dust", "site-noise-day", "site-noise-night",
    "site-noise-night-peak", "water-pressure-low", "pressure-drop", "water-burst",
})  # fmt: skip
