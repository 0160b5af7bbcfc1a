"""What happens in the streets: mains and lamps, covers, rain, pipes, wet wells with their pumps, vehicles on bridges.

Simple but honest: water is conserved in the wells, a lamp's power follows its dimming, voltage sags along the feeder,
strain follows temperature and load. Times are seconds since the simulation began; everything random comes from
generators seeded by the city's seed and the thing's own name, so that one thing's behaviour does not depend on how
many others there are. Scenarios change the public fields; ``World.advance`` does the rest, in steps of one second.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from simulators.city import Asset, City, inclinations

STEP_S = 1.0
MAINS_V = 226.0
LAMP_PF = 0.96


def seeded(seed: int, *names: object) -> random.Random:
    """A generator of its own for each thing."""
    return random.Random(":".join(map(str, (seed, *names))))


@dataclass(slots=True)
class Feeder:
    """A lighting circuit. ``mains``: is there voltage; ``commanded``: should the lamps burn; ``dim`` in percent."""

    asset: Asset
    mains: bool = True
    commanded: bool = True
    dim: float = 100.0
    door_open: bool = False
    leak_ma: float = 3.0
    energy_kwh: float = 0.0
    lamps: list[Lamp] = field(default_factory=list)

    @property
    def lit(self) -> bool:
        return self.mains and self.commanded

    @property
    def load_w(self) -> float:
        """What its lamps draw now."""
        return sum(lamp.power_w for lamp in self.lamps)


@dataclass(slots=True)
class Lamp:
    """A lamp ``distance`` (0…1) down its feeder. ``broken``: it stays dark whatever is commanded."""

    asset: Asset
    feeder: Feeder
    distance: float
    energy_kwh: float
    burn_hours: float
    broken: bool = False

    @property
    def power_w(self) -> float:
        """Power drawn now: rated × dimming, with 2 % of standing losses; nothing when dark."""
        if self.broken or not self.feeder.lit:
            return 0.0
        return self.asset.number("rated_power") * (0.02 + 0.98 * self.feeder.dim / 100)

    @property
    def voltage_v(self) -> float:
        """Mains less the sag along the cable, 5 V at the far end under full load; 0 without mains."""
        if not self.feeder.mains:
            return 0.0
        return MAINS_V - (5.0 * self.distance * self.feeder.dim / 100 if self.feeder.lit else 0.0)


@dataclass(slots=True)
class Cover:
    """A manhole cover: it leans by ``tilt`` degrees towards ``towards`` beyond how it lay when installed."""

    asset: Asset
    camber: float
    towards: float
    tilt: float = 0.0
    battery: float = 96.0
    water: bool = False

    @property
    def lean(self) -> float:
        """Degrees from level, as the sensor sees it."""
        return min(180.0, self.camber + self.tilt)

    @property
    def inclinations(self) -> tuple[float, float, float]:
        return inclinations(self.lean, self.towards)

    @property
    def state(self) -> str:
        if self.tilt > 45:
            return "open"
        return "ajar" if self.tilt > 15 else "closed"


@dataclass(slots=True)
class Rain:
    """The shower over the city: a bell of ``peak_mm_h`` around ``peak_at`` (s), ``width_s`` wide; 0 = dry."""

    peak_mm_h: float = 0.0
    peak_at: float = 0.0
    width_s: float = 60.0
    fallen_mm: float = 0.0

    def intensity(self, at: float) -> float:
        """mm/h at that moment."""
        if not self.peak_mm_h:
            return 0.0
        away = (at - self.peak_at) / self.width_s
        value = self.peak_mm_h * math.exp(-0.5 * away * away)
        return value if value > 0.1 else 0.0


@dataclass(slots=True)
class Pipe:
    """A storm drain: its level follows the rain with a lag of a minute and a half."""

    asset: Asset
    base: float
    response: float
    level_m: float
    lag_s: float = 90.0

    def step(self, rain_mm_h: float) -> None:
        ceiling = self.asset.number("ground")
        target = min(ceiling, self.base + self.response * rain_mm_h)
        self.level_m += (target - self.level_m) * STEP_S / self.lag_s

    @property
    def flow_m3_h(self) -> float:
        """Manning's curve, roughly: flow grows with the 5/3 power of the level."""
        filled = min(1.0, self.level_m / self.asset.number("diameter"))
        return 900.0 * math.pow(self.asset.number("diameter"), 8 / 3) * math.pow(filled, 5 / 3)

    @property
    def velocity_m_s(self) -> float:
        return 0.3 + 1.2 * min(1.0, self.level_m / self.asset.number("diameter"))


@dataclass(slots=True)
class RoadSurface:
    """Water on a road's lowest point: ``target_cm`` is where a scenario drives it, filling and draining alike."""

    asset: Asset
    depth_cm: float = 0.0
    target_cm: float = 0.0

    def step(self, rain_mm_h: float) -> None:
        target = max(self.target_cm, rain_mm_h / 30.0)
        self.depth_cm += (target - self.depth_cm) * STEP_S / 15.0


@dataclass(slots=True)
class Pump:
    """One pump of a station. ``refuses``: it is told to start and does not."""

    running: bool = False
    fault: bool = False
    auto: bool = True
    refuses: bool = False
    code: int = 0
    hours: float = 0.0
    starts: int = 0

    def command(self, run: bool) -> None:
        if run and not self.running and not self.refuses and not self.fault:
            self.running, self.starts = True, self.starts + 1
        elif not run:
            self.running = False


@dataclass(slots=True)
class Station:
    """A storm-water station: a wet well of ``area_m2``, three equal pumps, started one by one as the level rises.

    Levels (m above the floor) are the asset's L1…L6: all stop below the stop level, first pump at the start level L2,
    second at L3, third at L4. The lead pump rotates with every stop, as real stations do, to even out the hours.
    """

    asset: Asset
    rng: random.Random
    level_m: float
    inflow_m3_s: float
    area_m2: float = 40.0
    pump_m3_s: float = 0.2
    outfall_m: float = 0.4
    mains: bool = True
    answering: bool = True
    just_restarted: bool = False
    level_sensor_ok: bool = True
    life: int = 0
    lead: int = 0
    pumps: list[Pump] = field(default_factory=lambda: [Pump(), Pump(), Pump()])

    @property
    def flow_m3_h(self) -> float:
        return 3600.0 * self.pump_m3_s * sum(pump.running for pump in self.pumps)

    @property
    def current_a(self) -> float:
        """Of one running pump: a little more the higher it has to lift."""
        head = max(0.0, 6.0 - self.level_m)
        return self.asset.number("rated_current") * (0.82 + 0.02 * head)

    def step(self, rain_mm_h: float) -> None:
        inflow = self.inflow_m3_s + 0.0012 * rain_mm_h
        out = self.pump_m3_s * sum(pump.running for pump in self.pumps)
        self.level_m = max(0.0, self.level_m + (inflow - out) * STEP_S / self.area_m2)
        self.life = (self.life + 1) % 65536
        for pump in self.pumps:
            pump.hours += STEP_S / 3600 if pump.running else 0.0
            if not self.mains:
                pump.running = False
        if self.mains:
            self._control()

    def _control(self) -> None:
        if self.level_m <= self.asset.number("stop_level"):
            if any(pump.running for pump in self.pumps):
                self.lead = (self.lead + 1) % 3
            for pump in self.pumps:
                pump.command(False)
            return
        starts = (self.asset.number("start_level"), self.asset.number("L3"), self.asset.number("L4"))
        for place, start in enumerate(starts):
            pump = self.pumps[(self.lead + place) % 3]
            if self.level_m >= start and pump.auto:
                pump.command(True)


@dataclass(slots=True)
class Vehicle:
    """A vehicle as the weighing strip sees it; axle loads add up to its weight."""

    gvw_t: float
    speed_km_h: float
    lane: int
    axles_t: list[float]


@dataclass(slots=True)
class Bridge:
    """A bridge with strain and temperature sensors; ``on_pad_t`` is what stands on its static weighing pad,
    until ``pad_until``."""

    asset: Asset
    rng: random.Random
    strain_offset: float
    on_pad_t: float = 0.0
    pad_until: float = 0.0
    traffic_strain: float = 0.0

    def temperature_c(self, at: float) -> float:
        """A summer evening that cools by a degree in half an hour."""
        return 29.0 - at / 1800.0

    def strain_ue(self, at: float) -> float:
        """Offset, 1.8 µε a kelvin of temperature, and what traffic adds for the moment."""
        return self.strain_offset + 1.8 * (self.temperature_c(at) - 20.0) + self.traffic_strain

    def vehicle(self, gvw_t: float | None = None) -> Vehicle:
        """A vehicle comes: an ordinary one (well below the posted limit), or one of that weight."""
        limit = self.asset.number("posted_limit")
        weight = gvw_t if gvw_t is not None else min(0.85 * limit, 1.2 + self.rng.expovariate(1 / 3.0))
        count = 2 if weight < 10 else 3 if weight < 25 else 5
        shares = [self.rng.uniform(0.8, 1.2) for _ in range(count)]
        axles = [round(weight * share / sum(shares), 2) for share in shares]
        return Vehicle(round(sum(axles), 2), round(self.rng.uniform(28, 58), 1), self.rng.choice((1, 2)), axles)


class World:
    """Everything that has a state, by asset id; ``now`` is how far it has been advanced."""

    def __init__(self, city: City, seed: int) -> None:
        self.now = 0.0
        self.seed = seed
        self.rain = Rain()
        self.feeders = {a.asset: Feeder(a) for a in city.of_kind("feeder")}
        self.lamps = self._lamps(city)
        self.covers: dict[str, Cover] = {}
        for asset in city.of_kind("manhole"):
            rng = seeded(seed, asset.asset)
            camber, towards = _camber(asset)
            self.covers[asset.asset] = Cover(asset, camber, towards, battery=round(rng.uniform(55, 99), 1))
        self.pipes: dict[str, Pipe] = {}
        for asset in city.of_kind("pipe"):
            rng = seeded(seed, asset.asset)
            base = asset.number("diameter") * rng.uniform(0.08, 0.2)
            response = asset.number("diameter") * rng.uniform(0.006, 0.014)
            self.pipes[asset.asset] = Pipe(asset, base, response, base)
        self.roads = {a.asset: RoadSurface(a) for a in city.of_kind("road")}
        self.stations: dict[str, Station] = {}
        for asset in city.of_kind("pump"):
            rng = seeded(seed, asset.asset)
            station = Station(asset, rng, rng.uniform(0.95, 1.7), rng.uniform(0.04, 0.08))
            for pump in station.pumps:
                pump.hours, pump.starts = rng.uniform(800, 6000), rng.randint(500, 4000)
            self.stations[asset.asset] = station
        self.bridges = {
            a.asset: Bridge(a, seeded(seed, a.asset), seeded(seed, a.asset, "strain").uniform(20, 45))
            for a in city.of_kind("bridge")
        }

    def _lamps(self, city: City) -> dict[str, Lamp]:
        of_feeder: dict[str, list[Asset]] = {}
        for asset in city.of_kind("lamp"):
            of_feeder.setdefault(asset.links["feeder"], []).append(asset)
        lamps = {}
        for feeder_id, assets in of_feeder.items():
            for number, asset in enumerate(assets):
                rng = seeded(self.seed, asset.asset)
                lamp = Lamp(
                    asset, self.feeders[feeder_id], (number + 1) / len(assets),
                    round(rng.uniform(200, 2500), 1), round(rng.uniform(2000, 20000), 1),
                )  # fmt: skip
                self.feeders[feeder_id].lamps.append(lamp)
                lamps[asset.asset] = lamp
        return lamps

    def advance(self, to: float) -> None:
        """Let the time pass up to ``to``, in whole steps."""
        while self.now + STEP_S <= to:
            self.now += STEP_S
            self._step()

    def _step(self) -> None:
        intensity = self.rain.intensity(self.now)
        self.rain.fallen_mm += intensity * STEP_S / 3600
        for pipe in self.pipes.values():
            pipe.step(intensity)
        for road in self.roads.values():
            road.step(intensity)
        for station in self.stations.values():
            station.step(intensity)
        for bridge in self.bridges.values():
            bridge.traffic_strain *= 0.8
        if int(self.now) % 15 == 0:
            self._burn(15.0)

    def _burn(self, seconds: float) -> None:
        """Energy and hours of the lamps and of their feeders."""
        for lamp in self.lamps.values():
            power = lamp.power_w
            lamp.energy_kwh += power * seconds / 3.6e6
            lamp.burn_hours += seconds / 3600 if power else 0.0
        for feeder in self.feeders.values():
            feeder.energy_kwh += feeder.load_w * seconds / 3.6e6


def _camber(asset: Asset) -> tuple[float, float]:
    """How a cover lay when it was installed: degrees from level, and towards where (radians)."""
    if "baseline_tilt" in asset.attributes:
        return asset.number("baseline_tilt"), 0.0
    x, y = (math.sin(math.radians(asset.number(f"baseline_{axis}"))) for axis in "xy")
    return math.degrees(math.asin(min(1.0, math.hypot(x, y)))), math.atan2(y, x)
