"""Bridges: the vehicles that cross, what the girder's strain and deflection make of them, temperature, and damage.

Nothing ticks. The vehicles of an hour are drawn from a generator of that hour, when somebody asks for it; the strain at
a second, or the statistics of a minute, look only at the vehicles that are on the bridge then. ``Bridges.now`` is the
second the plain properties speak of; the methods with ``at`` answer for any second.

The span is a simply supported beam. An axle of load P at x from the support bends the middle of the span by P·x/2 (and
P·(L−x)/2 beyond it): a triangle that the axle draws as it rolls. Strain is proportional to the moment, so vehicles add
up, and the sum is a line of straight pieces: its mean, extremes and root mean square are exact, without sampling.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.city import Asset

HOUR_S = 3600.0
ORDINARY = 0.9  # no ordinary vehicle weighs more than this share of the posted limit
POINT_SHARE = 0.45  # of the design strain: what the posted limit, as one wheel in the middle, would cause
LANES = {1: 1.0, 2: 0.7}  # how much of a vehicle in this lane the girder with the sensor bears
THERMAL_UE_K = 1.8  # what a self-compensating gauge still shows of a kelvin
FIT_LEFT = 0.05  # the share of temperature's strain that the unit's temperature fit does not take out
PAD_S = 8.0  # a vehicle on the static weighing pad
PAD_FROM_T = 3.5  # only these have to stop on it


@dataclass(frozen=True, slots=True)
class VehicleClass:
    """``share`` of the traffic by day; weights in t (from, most often, to); ``shares`` of the axles in the weight and
    ``spacings`` between them (m); speeds in km/h. ``by_night``: how much of its share is left at night."""

    name: str
    code: int
    share: float
    weight_t: tuple[float, float, float]
    shares: tuple[float, ...]
    spacings_m: tuple[float, ...]
    speed_km_h: tuple[float, float]


CLASSES = (
    VehicleClass("car", 1, 0.735, (1.0, 1.5, 2.4), (0.54, 0.46), (2.7,), (34, 60)),
    VehicleClass("van", 2, 0.12, (1.8, 2.6, 4.4), (0.48, 0.52), (3.4,), (32, 56)),
    VehicleClass("bus", 3, 0.045, (8.5, 12.0, 17.5), (0.37, 0.63), (5.8,), (28, 46)),
    VehicleClass("truck-2", 4, 0.055, (4.5, 8.0, 17.0), (0.36, 0.64), (4.5,), (28, 50)),
    VehicleClass("truck-3", 5, 0.02, (9.0, 17.0, 24.5), (0.26, 0.37, 0.37), (4.1, 1.35), (26, 48)),
    VehicleClass("truck-4", 6, 0.015, (13.0, 22.0, 30.5), (0.19, 0.19, 0.31, 0.31), (1.9, 4.2, 1.35), (25, 46)),
    VehicleClass(
        "truck-6", 7, 0.01, (16.0, 34.0, 48.5), (0.13, 0.175, 0.175, 0.174, 0.173, 0.173),
        (3.3, 1.35, 6.6, 1.31, 1.31), (25, 45),
    ),
)  # fmt: skip
HEAVY = CLASSES[-1]


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle as the weighing strip sees it; its axle loads add up to its weight. ``at``: its first axle comes onto
    the span."""

    at: float
    gvw_t: float
    speed_km_h: float
    lane: int
    axles_t: tuple[float, ...]
    offsets_m: tuple[float, ...]  # how far each axle is behind the first
    kind: str
    code: int

    @property
    def speed_m_s(self) -> float:
        return self.speed_km_h / 3.6

    @property
    def spacings_m(self) -> tuple[float, ...]:
        return tuple(after - before for before, after in itertools.pairwise(self.offsets_m))

    def leaves(self, span_m: float) -> float:
        """When its last axle leaves the span."""
        return self.at + (span_m + self.offsets_m[-1]) / self.speed_km_h * 3.6


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a quantity over some time; ``rms`` is of its deviation from the mean, as dynamic strain is reported."""

    mean: float
    min: float
    max: float
    rms: float


@dataclass(frozen=True, slots=True)
class Minute:
    """What a monitoring unit reports of its last interval: strain in µε, deflection in mm (down is positive),
    acceleration in m/s²; the vehicles that came in it."""

    strain: Statistics
    deflection: Statistics
    accel_rms: float
    vehicles: int
    heaviest_t: float


def moment(x_m: float, span_m: float) -> float:
    """Influence line of the bending moment in the middle of the span (m): load at ``x_m`` from the support."""
    return max(0.0, min(x_m, span_m - x_m)) / 2


def sag(x_m: float, span_m: float) -> float:
    """Influence line of the deflection in the middle, as a share of what the load causes when it stands there."""
    near = max(0.0, min(x_m, span_m - x_m))
    return near * (3 * span_m * span_m - 4 * near * near) / (span_m * span_m * span_m)


def profile(hour: float) -> float:
    """How dense traffic is at an hour of the day (0…24), about 1 at the peaks of 7:30 and 17:30."""
    plateau = 0.5 / (1 + math.exp(-(hour - 6.3) * 2.5)) / (1 + math.exp((hour - 20.5) * 1.1))
    morning = 0.5 * math.exp(-0.5 * ((hour - 7.5) / 0.8) ** 2)
    evening = 0.5 * math.exp(-0.5 * ((hour - 17.5) / 1.0) ** 2)
    return 0.025 + plateau + morning + evening


_DAY_H = sum(profile((quarter + 0.5) / 4) / 4 for quarter in range(96))  # hours of peak traffic that make up a day
_LAG = [math.exp(-0.25 * step) / sum(math.exp(-0.25 * each) for each in range(12)) for step in range(12)]
_PEAK = 1.1  # above all of ``profile``


@dataclass(frozen=True, slots=True)
class _Slope:
    since: float
    value: float
    per_s: float


class _Drift:
    """A value that runs away at a rate which acts change: straight pieces."""

    def __init__(self) -> None:
        self._slopes = [_Slope(0.0, 0.0, 0.0)]

    def value(self, at: float) -> float:
        place = bisect.bisect_right(self._slopes, max(0.0, at), key=lambda slope: slope.since) - 1
        slope = self._slopes[place]
        return slope.value + slope.per_s * (max(0.0, at) - slope.since)

    def runs(self, at: float, per_s: float, jump: float = 0.0) -> None:
        if at < self._slopes[-1].since:
            raise ValueError(f"a drift at {at} s after one at {self._slopes[-1].since} s")
        self._slopes.append(_Slope(at, self.value(at) + jump, per_s))


class Bridge:
    """One bridge. Attributes: ``posted_limit`` (t), ``design_strain`` (µε); and, if given, ``span`` (m, 20),
    ``design_deflection`` (mm, span/800), ``daily_vehicles`` (about 6,000), ``thermal_strain`` (µε/K, 1.8)."""

    def __init__(self, asset: Asset, bridges: Bridges) -> None:
        rng = random.Random(f"{bridges.seed}:{asset.asset}:bridge")
        self.asset, self._bridges = asset, bridges
        self.limit_t = asset.number("posted_limit")
        self.span_m = _number(asset, "span", 20.0)
        self.design_ue = asset.number("design_strain")
        self.design_mm = _number(asset, "design_deflection", 1000 * self.span_m / 800)
        self.daily_vehicles = _number(asset, "daily_vehicles", round(rng.uniform(4_000, 8_000)))
        self.thermal_ue_k = _number(asset, "thermal_strain", THERMAL_UE_K)
        self.strain_offset = rng.uniform(15.0, 30.0)
        self.tilt_offset = rng.uniform(-0.03, 0.03)
        self.crack_offset = rng.uniform(0.04, 0.12)
        # A moment of limit × L/4 causes POINT_SHARE of the design values.
        self.ue_per_tm = POINT_SHARE * self.design_ue / (self.limit_t * self.span_m / 4)
        self.mm_per_t = POINT_SHARE * self.design_mm / self.limit_t
        self._classes = [
            kind for kind in CLASSES if kind.weight_t[0] <= 0.8 * ORDINARY * self.limit_t
        ]  # fmt: skip
        self._hours: OrderedDict[int, list[Vehicle]] = OrderedDict()
        self._extra: list[Vehicle] = []
        self._strain, self._tilt, self._crack = _Drift(), _Drift(), _Drift()
        self._loose: list[tuple[float, bool]] = [(-math.inf, False)]

    # now

    @property
    def on_pad_t(self) -> float:
        """What stands on its static weighing pad."""
        return self.on_pad_at(self._bridges.now)

    @property
    def traffic_strain(self) -> float:
        return self.load_strain_at(self._bridges.now)

    # vehicles

    def vehicles(self, begin: float, end: float) -> list[Vehicle]:
        """Those that come in [begin, end), in order of time."""
        found, extra = self.traffic(begin, end), _between(self._extra, begin, end)
        return sorted(found + extra, key=_came) if extra else found

    def traffic(self, begin: float, end: float) -> list[Vehicle]:
        """The same without those that an act has sent."""
        found: list[Vehicle] = []
        for hour in range(math.floor(begin / HOUR_S), math.floor(end / HOUR_S) + 1):
            found += _between(self._of_hour(hour), begin, end)
        return found

    def on_span(self, begin: float, end: float) -> list[Vehicle]:
        """Those that are on the span at any time in [begin, end]."""
        early = begin - (self.span_m + 20.0) / 3.0  # nobody is longer, or slower than 3 m/s
        return [v for v in self.vehicles(early, math.nextafter(end, math.inf)) if v.leaves(self.span_m) > begin]

    def on_pad_at(self, at: float) -> float:
        """What stands on the static weighing pad, where heavy vehicles stop for some seconds each (t)."""
        standing = [v for v in self.vehicles(at - PAD_S, math.nextafter(at, math.inf)) if v.gvw_t >= PAD_FROM_T]
        return standing[0].gvw_t if standing else 0.0

    # strain, deflection, and the rest

    def load_strain_at(self, at: float) -> float:
        """What the vehicles on it cause at that second, µε."""
        return sum(self._strain_of(vehicle, at) for vehicle in self.on_span(at, at))

    def strain_at(self, at: float) -> float:
        """All of it: offset, drift, temperature, vehicles."""
        return self._still(at) + self.load_strain_at(at) * self._felt(at)

    def strain_mean_at(self, at: float, over_s: float = 600.0) -> float:
        """The mean of the last ten minutes less what temperature does, as the unit's fit knows it."""
        loads = self._load_integral(at - over_s, at) / over_s
        thermal = FIT_LEFT * self.thermal_ue_k * (self.structure_c(at) - 20.0)
        return self.strain_offset + self._strain.value(at) + thermal + loads * self._felt(at) + self._rattle(at)

    def deflection_at(self, at: float) -> float:
        """Downwards in the middle, mm, by the vehicles on it."""
        return sum(self._deflection_of(vehicle, at) for vehicle in self.on_span(at, at))

    def tilt_at(self, at: float) -> float:
        """Of the pier, degrees: a hundredth up and down with temperature, and any drift."""
        return self.tilt_offset + 0.0006 * (self.structure_c(at) - 20.0) + self._tilt.value(at)

    def crack_at(self, at: float) -> float:
        """Width, mm: it opens a little in the cold, and grows if it grows."""
        return max(0.0, self.crack_offset - 0.0004 * (self.structure_c(at) - 20.0) + self._crack.value(at))

    def structure_c(self, at: float) -> float:
        """The girder's temperature: the air's of the last hours, the latest counting most (about two hours behind)."""
        air = self._bridges.temperature
        return sum(weight * air(at - 1800.0 * step) for step, weight in enumerate(_LAG))

    def minute(self, at: float, over_s: float = 60.0) -> Minute:
        """The statistics of the interval that ends at ``at``."""
        begin = at - over_s
        vehicles = self.on_span(begin, at)
        came = [vehicle for vehicle in vehicles if vehicle.at >= begin]
        line = self._line(vehicles, begin, at)
        strain = _statistics(line, self._still(at), self._felt(at))
        stays = [(vehicle.at, vehicle.leaves(self.span_m), vehicle) for vehicle in vehicles]
        bends = [
            (time, sum(self._deflection_of(vehicle, time) for on, off, vehicle in stays if on < time < off))
            for time, _ in line
        ]
        deflection = _statistics(bends, 0.0, 1.0)
        energy = sum((0.012 * v.gvw_t * v.speed_m_s / 10) ** 2 * (v.leaves(self.span_m) - v.at) for v in came)
        accel = math.sqrt(0.003**2 + energy / over_s / 100)
        return Minute(strain, deflection, accel, len(came), max((v.gvw_t for v in came), default=0.0))

    # acts

    def overload(self, at: float, gvw_t: float, lane: int = 1, speed_km_h: float = 32.0) -> Vehicle:
        """A six-axle truck of that weight comes, whatever the sign says."""
        vehicle = _loaded(HEAVY, at, gvw_t, speed_km_h, lane, HEAVY.shares)
        bisect.insort(self._extra, vehicle, key=_came)
        return vehicle

    def convoy(self, at: float, weights_t: Iterable[float], gap_s: float = 4.0, lane: int = 1) -> list[Vehicle]:
        """Several of them behind each other, ``gap_s`` apart."""
        return [self.overload(at + number * gap_s, gvw_t, lane) for number, gvw_t in enumerate(weights_t)]

    def strain_drifts(self, at: float, ue_per_h: float) -> None:
        """Of the gauge or of the girder; 0 stops it where it is."""
        self._strain.runs(at, ue_per_h / 3600)

    def strain_jumps(self, at: float, ue: float) -> None:
        """A tendon, or the glue of the gauge, gives."""
        self._strain.runs(at, 0.0, ue)

    def strain_reset(self, at: float) -> None:
        """Mended, and zeroed anew."""
        self._strain.runs(at, 0.0, -self._strain.value(at))

    def tilt_drifts(self, at: float, deg_per_h: float) -> None:
        self._tilt.runs(at, deg_per_h / 3600)

    def crack_grows(self, at: float, mm_per_day: float) -> None:
        self._crack.runs(at, mm_per_day / 86400)

    def sensor_loosens(self, at: float) -> None:
        """Its gauge hangs on by a corner: it feels a third of the load, and jumps about from minute to minute."""
        self._loose.append((at, True))

    def sensor_fixed(self, at: float) -> None:
        self._loose.append((at, False))

    # how

    def _of_hour(self, hour: int) -> list[Vehicle]:
        if hour in self._hours:
            self._hours.move_to_end(hour)
            return self._hours[hour]
        rng = random.Random(f"{self._bridges.seed}:{self.asset.asset}:traffic:{hour}")
        peak_per_s = _PEAK * self.daily_vehicles / (_DAY_H * HOUR_S)
        at, vehicles = hour * HOUR_S, []
        while True:
            at += rng.expovariate(peak_per_s)
            if at >= (hour + 1) * HOUR_S:
                break
            clock = self._bridges.hour_of_day(at)
            if rng.random() * _PEAK < profile(clock):
                vehicles.append(self._ordinary(rng, at, clock))
        self._hours[hour] = vehicles
        if len(self._hours) > 4:  # what a minute and the ten minutes before it look at
            self._hours.popitem(last=False)
        return vehicles

    def _ordinary(self, rng: random.Random, at: float, clock: float) -> Vehicle:
        kind = rng.choices(self._classes, [each.share for each in self._classes])[0]
        low, often, high = kind.weight_t
        gvw = min(rng.triangular(low, high, often), rng.uniform(0.8, ORDINARY) * self.limit_t)
        crowded = 0.75 if 7.0 <= clock < 8.5 or 17.0 <= clock < 18.5 else 1.0
        speed = rng.uniform(*kind.speed_km_h) * crowded
        shares = tuple(share * rng.uniform(0.93, 1.07) for share in kind.shares)
        return _loaded(kind, at, gvw, speed, 1 if rng.random() < 0.6 else 2, shares)

    def _strain_of(self, vehicle: Vehicle, at: float) -> float:
        front = (at - vehicle.at) * vehicle.speed_m_s
        axles = zip(vehicle.axles_t, vehicle.offsets_m, strict=True)
        bending = sum(load * moment(front - offset, self.span_m) for load, offset in axles)
        return self.ue_per_tm * LANES.get(vehicle.lane, 1.0) * bending

    def _deflection_of(self, vehicle: Vehicle, at: float) -> float:
        front = (at - vehicle.at) * vehicle.speed_m_s
        axles = zip(vehicle.axles_t, vehicle.offsets_m, strict=True)
        bending = sum(load * sag(front - offset, self.span_m) for load, offset in axles)
        return self.mm_per_t * LANES.get(vehicle.lane, 1.0) * bending

    def _line(self, vehicles: Iterable[Vehicle], begin: float, end: float) -> list[tuple[float, float]]:
        """The load strain from ``begin`` to ``end``: (second, µε) at each bend, straight between them. An axle bends
        it when it comes onto the span, passes the middle, and leaves."""
        bends: list[tuple[float, float]] = []
        for vehicle in vehicles:
            speed = vehicle.speed_m_s
            slope = self.ue_per_tm * LANES.get(vehicle.lane, 1.0) * speed / 2
            for load, offset in zip(vehicle.axles_t, vehicle.offsets_m, strict=True):
                on = vehicle.at + offset / speed
                half = self.span_m / 2 / speed
                rise = slope * load
                bends += ((on, rise), (on + half, -2 * rise), (on + 2 * half, rise))
        bends.sort()
        value = sum(self._strain_of(vehicle, begin) for vehicle in vehicles)
        slope = sum(change for at, change in bends if at <= begin)
        line, last = [(begin, value)], begin
        for at, change in bends:
            if begin < at < end:
                value += slope * (at - last)
                line.append((at, value))
                slope, last = slope + change, at
        line.append((end, value + slope * (end - last)))
        return line

    def _load_integral(self, begin: float, end: float) -> float:
        """∫ of the load strain, µε·s: a vehicle that crosses wholly within leaves P·L²/8 ÷ its speed."""
        total = 0.0
        for vehicle in self.on_span(begin, end):
            factor = self.ue_per_tm * LANES.get(vehicle.lane, 1.0) / vehicle.speed_m_s
            if vehicle.at >= begin and vehicle.leaves(self.span_m) <= end:
                total += factor * vehicle.gvw_t * self.span_m * self.span_m / 8
                continue
            first, last = ((time - vehicle.at) * vehicle.speed_m_s for time in (begin, end))
            for load, offset in zip(vehicle.axles_t, vehicle.offsets_m, strict=True):
                total += factor * load * (self._area(last - offset) - self._area(first - offset))
        return total

    def _area(self, x_m: float) -> float:
        """∫ of the moment's influence line from the support to x, m²."""
        x = min(max(0.0, x_m), self.span_m)
        if x <= self.span_m / 2:
            return x * x / 4
        rest = self.span_m - x
        return self.span_m * self.span_m / 8 - rest * rest / 4

    def _still(self, at: float) -> float:
        """The strain without vehicles."""
        thermal = self.thermal_ue_k * (self.structure_c(at) - 20.0)
        return self.strain_offset + self._strain.value(at) + thermal + self._rattle(at)

    def _is_loose(self, at: float) -> bool:
        return self._loose[bisect.bisect_right(self._loose, at, key=lambda change: change[0]) - 1][1]

    def _felt(self, at: float) -> float:
        return 0.3 if self._is_loose(at) else 1.0

    def _rattle(self, at: float) -> float:
        if not self._is_loose(at):
            return 0.0
        rng = random.Random(f"{self._bridges.seed}:{self.asset.asset}:loose:{math.floor(at / 60)}")
        return rng.gauss(0.0, 0.15 * self.design_ue)


class Bridges:
    """All bridges by asset id. ``temperature``: of the air, °C at a second."""

    def __init__(
        self,
        assets: Iterable[Asset],
        start: datetime,
        seed: int,
        temperature: Callable[[float], float] = lambda at: 20.0,
    ) -> None:
        self.now = 0.0
        self.seed, self.temperature = seed, temperature
        self._start_h = start.hour + start.minute / 60 + start.second / 3600
        self.bridges = {asset.asset: Bridge(asset, self) for asset in assets if asset.kind == "bridge"}

    def hour_of_day(self, at: float) -> float:
        return (self._start_h + at / HOUR_S) % 24


def _number(asset: Asset, attribute: str, otherwise: float) -> float:
    return asset.number(attribute) if attribute in asset.attributes else otherwise


def _came(vehicle: Vehicle) -> float:
    return vehicle.at


def _between(vehicles: list[Vehicle], begin: float, end: float) -> list[Vehicle]:
    """Those of a list in order of time that come in [begin, end)."""
    first, last = (bisect.bisect_left(vehicles, at, key=_came) for at in (begin, end))
    return vehicles[first:last]


def _loaded(
    kind: VehicleClass, at: float, gvw_t: float, speed_km_h: float, lane: int, shares: tuple[float, ...]
) -> Vehicle:
    """Loads in hundredths of a tonne, as a strip reports them; the weight is their sum."""
    axles = tuple(round(gvw_t * share / sum(shares), 2) for share in shares)
    weight = round(sum(axles), 2)
    offsets = (0.0, *itertools.accumulate(kind.spacings_m))
    return Vehicle(at, weight, round(speed_km_h, 1), lane, axles, offsets, kind.name, kind.code)


def _statistics(line: list[tuple[float, float]], still: float, felt: float) -> Statistics:
    """Of a line of straight pieces, scaled by ``felt`` and lifted by ``still``."""
    area = squares = 0.0
    for (begin, low), (end, high) in itertools.pairwise(line):
        area += (end - begin) * (low + high) / 2
        squares += (end - begin) * (low * low + low * high + high * high) / 3
    over = line[-1][0] - line[0][0]
    mean = area / over
    rms = math.sqrt(max(0.0, squares / over - mean * mean))
    values = [value for _, value in line]
    return Statistics(still + felt * mean, still + felt * min(values), still + felt * max(values), felt * rms)
