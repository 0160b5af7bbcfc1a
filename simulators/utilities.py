"""The city's other works: gas chambers, heating stations, water mains, parking, building sites. Simple, but plausible.

Nothing ticks: what runs away or settles does so by a formula from the last act on, and what wanders (traffic on a
parking lot, wind, noise) wanders between knots that a generator of their own draws. ``values(at)`` is what the thing's
device would report, named and in units as the JSON profiles have it (kPa, °C, %LEL, µg/m³, dB(A), m³/h), not rounded.
On a normal day nothing comes near a limit of the shipped rules; the acts are what does.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    from simulators.city import Asset

HOUR_S, DAY_S = 3600.0, 86400.0
LEL_PER_VOL = 20.0  # 5 %VOL of methane are 100 %LEL

Value: TypeAlias = bool | int | float | str
Course: TypeAlias = Callable[[float], float]


class Thing(Protocol):
    """What ``Utilities`` holds."""

    asset: Asset

    def values(self, at: float) -> dict[str, Value]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all of them share: the start, the seed, and the weather as courses over the seconds since the start."""

    start: datetime
    seed: int
    temperature: Course
    wetness: Course

    def moment(self, at: float) -> datetime:
        return self.start + timedelta(seconds=at)

    def hour(self, at: float) -> float:
        """Of the day, 0…24."""
        start = self.start.hour + self.start.minute / 60 + self.start.second / 3600
        return (start + at / HOUR_S) % 24

    def rng(self, *names: object) -> random.Random:
        return random.Random(":".join(map(str, (self.seed, *names))))


class _Wander:
    """A value between −1 and 1 that wanders: a new knot every ``every_s``, a smooth way between two."""

    def __init__(self, around: Surroundings, name: str, every_s: float) -> None:
        self._around, self._name, self._every_s = around, name, every_s
        self._knots: dict[int, float] = {}

    def __call__(self, at: float) -> float:
        place = math.floor(at / self._every_s)
        share = at / self._every_s - place
        smooth = share * share * (3 - 2 * share)
        return self._knot(place) * (1 - smooth) + self._knot(place + 1) * smooth

    def _knot(self, place: int) -> float:
        if place not in self._knots:
            if len(self._knots) > 8:
                self._knots.clear()
            self._knots[place] = self._around.rng(self._name, "knot", place).uniform(-1, 1)
        return self._knots[place]


@dataclass(frozen=True, slots=True)
class _Piece:
    since: float
    value: float
    goal: float
    per_s: float


class _Settling:
    """A value on its way to a goal, exponentially; acts set a new goal, a new rate, or the value itself."""

    def __init__(self, value: float = 0.0, per_s: float = 0.0) -> None:
        self._pieces = [_Piece(0.0, value, value, per_s)]

    def __call__(self, at: float) -> float:
        piece = self.piece(at)
        return piece.goal + (piece.value - piece.goal) * math.exp(-piece.per_s * max(0.0, at - piece.since))

    def piece(self, at: float) -> _Piece:
        return self._pieces[max(0, bisect.bisect_right(self._pieces, at, key=lambda piece: piece.since) - 1)]

    def go(self, at: float, goal: float, per_s: float, value: float | None = None) -> None:
        """Raises ValueError for an act before the last one."""
        if at < self._pieces[-1].since:
            raise ValueError(f"an act at {at} s after one at {self._pieces[-1].since} s")
        self._pieces.append(_Piece(at, self(at) if value is None else value, goal, per_s))


class _Switch:
    """Something that acts switch, and since when it is so."""

    def __init__(self, on: bool) -> None:
        self._changes = [(-math.inf, on)]

    def __call__(self, at: float) -> bool:
        return self._change(at)[1]

    def since(self, at: float) -> float:
        return self._change(at)[0]

    def turn(self, at: float, on: bool) -> None:
        if at < self._changes[-1][0]:
            raise ValueError(f"an act at {at} s after one at {self._changes[-1][0]} s")
        self._changes.append((at, on))

    def _change(self, at: float) -> tuple[float, bool]:
        return self._changes[bisect.bisect_right(self._changes, at, key=lambda change: change[0]) - 1]


class GasChamber:
    """A detector in a chamber of ``volume`` (m³) beside a gas main. Gas that leaks in mixes with the air that changes:
    V·dc/dt = q·(100 − c) − n·V·c (c in %VOL, q in m³/h, n changes an hour), so c settles at 100·q/(q + n·V)."""

    def __init__(self, asset: Asset, around: Surroundings) -> None:
        rng = around.rng(asset.asset, "gas")
        self.asset, self._around = asset, around
        self.volume_m3 = _number(asset, "volume", rng.uniform(5.0, 12.0))
        self.main_kpa = _number(asset, "main_pressure", rng.choice((200.0, 300.0, 320.0)))
        self._changes_h = rng.uniform(0.8, 1.6)
        self._sewer_lel = rng.uniform(0.1, 0.4)
        self._peak_m3_h = rng.uniform(400.0, 900.0)
        self._drift = _Wander(around, f"{asset.asset}:drift", 2 * HOUR_S)
        # Every joint seeps a little: 1.2–1.6 %LEL with the air it is given.
        self._seep_m3_h = rng.uniform(0.0006, 0.0008) * self._changes_h * self.volume_m3
        self._leak_m3_h, self._air_h = 0.0, self._changes_h
        goal, per_s = self._goal()
        self._vol = _Settling(goal, per_s)
        self._valve = _Switch(True)

    def lel_at(self, at: float) -> float:
        return self._sewer_lel * (1.0 + 0.4 * self._drift(at)) + LEL_PER_VOL * self._vol(at)

    def values(self, at: float) -> dict[str, Value]:
        gas, demand = self.lel_at(at), 0.35 + 0.65 * _meals(self._around.hour(at))
        valve = self._valve(at)
        pressure = self.main_kpa * (1.02 - 0.05 * demand) if valve else self.main_kpa * 0.05
        flow = self._peak_m3_h * demand if valve else 0.0
        return {"gas": gas, "alarm": gas >= 25.0, "valve": valve, "pressure": pressure, "flow": flow}

    def leaks(self, at: float, m3_h: float) -> None:
        """In 8 m³ with 1.2 changes an hour, 0.05 m³/h settle at 12 %LEL, 0.3 at 60, 0.6 beyond the limit itself."""
        self._becomes(at, m3_h, self._air_h)

    def leak_stopped(self, at: float) -> None:
        """As tight as before."""
        self._becomes(at, 0.0, self._air_h)

    def exhaust_blocked(self, at: float) -> None:
        """The air changes ten times slower: what always seeps out now gathers."""
        self._becomes(at, self._leak_m3_h, self._changes_h / 10)

    def ventilated(self, at: float, changes_h: float | None = None) -> None:
        """Fans at the open chamber, or (without a number) as it always was."""
        self._becomes(at, self._leak_m3_h, self._changes_h if changes_h is None else changes_h)

    def puff(self, at: float, lel: float) -> None:
        """A bubble of sewer gas, which then goes with the air."""
        goal, per_s = self._goal()
        self._vol.go(at, goal, per_s, self._vol(at) + lel / LEL_PER_VOL)

    def valve_shut(self, at: float) -> None:
        """The main is shut off: nothing flows, and what leaked stops."""
        self._valve.turn(at, False)
        self.leak_stopped(at)

    def valve_opened(self, at: float) -> None:
        self._valve.turn(at, True)

    def _becomes(self, at: float, leak_m3_h: float, air_h: float) -> None:
        self._leak_m3_h, self._air_h = leak_m3_h, air_h
        goal, per_s = self._goal()
        self._vol.go(at, goal, per_s)

    def _goal(self) -> tuple[float, float]:
        fresh = self._air_h * self.volume_m3
        gas = self._leak_m3_h + self._seep_m3_h
        return 100 * gas / (gas + fresh), (gas + fresh) / self.volume_m3 / HOUR_S


class HeatStation:
    """A heat exchanger station. ``plan_temp`` (°C) is what it is to deliver; its curve adds or takes a few degrees with
    the weather, never so many that the rule (10 °C below plan) would speak. ``room_temp`` is that of a room at the end.

    When heat is missing, the supply follows within an hour and the room within a day (two first-order lags in a row).
    """

    SUPPLY_PER_S: ClassVar[float] = 1 / HOUR_S
    ROOM_PER_S: ClassVar[float] = 1 / (14 * HOUR_S)

    def __init__(self, asset: Asset, around: Surroundings) -> None:
        rng = around.rng(asset.asset, "heat")
        self.asset, self._around = asset, around
        self.plan_c = _number(asset, "plan_temp", 50.0)
        self._room_c = rng.uniform(20.3, 22.0)
        self._flow_m3_h = rng.uniform(60.0, 140.0)
        self._start_m3 = rng.uniform(20_000.0, 200_000.0)
        self._static_kpa = rng.uniform(380.0, 520.0)
        self._drift = _Wander(around, f"{asset.asset}:heat", HOUR_S)
        self._lack = _Settling(per_s=self.SUPPLY_PER_S)
        self._room_lack: list[tuple[float, float]] = [(0.0, 0.0)]
        self._lost_kpa = _Settling()

    def in_season(self, at: float) -> bool:
        """From 15 November to 15 March."""
        day = self._around.moment(at)
        return (day.month, day.day) >= (11, 15) or (day.month, day.day) <= (3, 15)

    def values(self, at: float) -> dict[str, Value]:
        outside = self._around.temperature(at)
        if not self.in_season(at):
            cellar = self._cellar_c(at)
            room = max(cellar, min(30.0, 0.5 * (outside + 24.0)))
            return {
                "supply_temp": cellar, "return_temp": cellar + 0.2, "room_temp": room, "flow": 0.0,
                "pressure": self._static_kpa - self._lost_kpa(at), "velocity": 0.0, "total": self._total(at),
            }  # fmt: skip
        cold = min(1.2, max(0.3, (20.0 - outside) / 27.0))
        curve = self.plan_c + min(8.0, max(-5.0, 0.35 * (2.0 - outside))) + 0.8 * self._drift(at)
        supply = curve - self._lack(at) * (curve - self._cellar_c(at))
        spread = (supply - self._cellar_c(at)) * (0.48 if self.plan_c > 70 else 0.28) * (0.6 + 0.4 * cold)
        room = self._room_c + 0.3 * self._drift(at) - self._room(at) * max(0.0, self._room_c - outside - 3.0)
        return {
            "supply_temp": supply, "return_temp": supply - max(0.0, spread), "room_temp": room,
            "flow": self._flow_m3_h, "pressure": self._static_kpa + 120.0 - self._lost_kpa(at),
            "velocity": self._flow_m3_h / 90.0, "total": self._total(at),
        }  # fmt: skip

    def heat_fails(self, at: float, lack: float = 0.6) -> None:
        """The primary side gives less: ``lack`` (0…1) of the heat is missing from now on."""
        room = self._room(at)
        self._lack.go(at, lack, self.SUPPLY_PER_S)
        self._room_lack.append((at, room))

    def heat_back(self, at: float) -> None:
        self.heat_fails(at, 0.0)

    def leaks(self, at: float, kpa: float = 250.0) -> None:
        """Water is lost: within half an hour the pressure is lower by so much."""
        self._lost_kpa.go(at, kpa, 1 / 600)

    def refilled(self, at: float) -> None:
        self._lost_kpa.go(at, 0.0, 1 / 600)

    def _room(self, at: float) -> float:
        """The share of heat the room lacks: the supply's lack d(t) = g + (d₀ − g)·e^(−at), through a slower lag b:
        r(t) = g + A·e^(−at) + (r₀ − g − A)·e^(−bt) with A = (d₀ − g)·b/(b − a)."""
        place = max(0, bisect.bisect_right(self._room_lack, (at, math.inf)) - 1)
        since, before = self._room_lack[place]
        piece, passed = self._lack.piece(at), max(0.0, at - since)
        fast, slow = self.SUPPLY_PER_S, self.ROOM_PER_S
        share = (piece.value - piece.goal) * slow / (slow - fast)
        return (
            piece.goal
            + share * math.exp(-fast * passed)
            + (before - piece.goal - share) * math.exp(-slow * passed)
        )  # fmt: skip

    def _cellar_c(self, at: float) -> float:
        return 14.0 + 0.3 * min(30.0, max(-10.0, self._around.temperature(at)))

    def _total(self, at: float) -> float:
        """The meter: it turns in the seasons only."""
        begin, end = self._around.start, self._around.moment(max(0.0, at))
        seconds = 0.0
        for year in range(begin.year - 1, end.year + 1):
            opens = datetime(year, 11, 15, tzinfo=begin.tzinfo)
            closes = datetime(year + 1, 3, 16, tzinfo=begin.tzinfo)
            seconds += max(0.0, (min(end, closes) - max(begin, opens)).total_seconds())
        return self._start_m3 + self._flow_m3_h * seconds / HOUR_S


class WaterPoint:
    """A pressure logger on a drinking-water main, without a network behind it (``waterworks`` has one): pressure falls
    as the city draws, and a burst nearby takes it down within minutes."""

    def __init__(self, asset: Asset, around: Surroundings) -> None:
        rng = around.rng(asset.asset, "water")
        self.asset, self._around = asset, around
        self._night_kpa = rng.uniform(310.0, 380.0)
        self._sag_kpa = rng.uniform(30.0, 70.0)
        self._flow_m3_h = rng.uniform(40.0, 160.0)
        self._start_m3 = rng.uniform(50_000.0, 900_000.0)
        self._drift = _Wander(around, f"{asset.asset}:water", 900.0)
        self._lost_kpa = _Settling()

    def values(self, at: float) -> dict[str, Value]:
        demand = _meals(self._around.hour(at))
        pressure = self._night_kpa - self._sag_kpa * demand + 3.0 * self._drift(at) - self._lost_kpa(at)
        flow = self._flow_m3_h * (0.25 + 0.75 * demand)
        total = self._start_m3 + self._flow_m3_h * 0.6 * at / HOUR_S
        return {"pressure": max(0.0, pressure), "flow": flow, "total": total, "velocity": flow / 110.0}

    def burst(self, at: float, kpa: float = 100.0) -> None:
        """It takes ``kpa`` away at this place (half of it at a neighbour: call it there too)."""
        self._lost_kpa.go(at, kpa, 1 / 180)

    def burst_closed(self, at: float) -> None:
        self._lost_kpa.go(at, 0.0, 1 / 400)


class ParkingLot:
    """A lot with barriers: ``spaces``, and how many are free. Offices fill it by day, or shops in the evening."""

    def __init__(self, asset: Asset, around: Surroundings) -> None:
        rng = around.rng(asset.asset, "lot")
        self.asset, self._around = asset, around
        self.spaces = round(_number(asset, "spaces", rng.randrange(60, 400, 10)))
        self._centre_h, self._width_h = rng.choice(((11.5, 4.0), (18.5, 3.0), (14.0, 5.0)))
        self._base, self._top = rng.uniform(0.08, 0.2), rng.uniform(0.72, 0.92)
        self._wander = _Wander(around, f"{asset.asset}:lot", 1200.0)
        self._crowd, self._wrong = _Settling(), _Settling()

    def occupied_at(self, at: float) -> int:
        away = (self._around.hour(at) - self._centre_h + 12) % 24 - 12
        share = self._base + (self._top - self._base) * math.exp(-((away / self._width_h) ** 4))
        share += 0.05 * self._wander(at) + self._crowd(at)
        return min(self.spaces, max(0, round(self.spaces * share)))

    def values(self, at: float) -> dict[str, Value]:
        free = self.spaces - self.occupied_at(at) + round(self._wrong(at))
        return {"free": max(0, free), "spaces": self.spaces}

    def fills(self, at: float) -> None:
        """A fair or a match: within half an hour it is full."""
        self._crowd.go(at, 1.2, 1 / 600)

    def empties(self, at: float) -> None:
        self._crowd.go(at, 0.0, 1 / 1200)

    def miscounts(self, at: float, spaces: int) -> None:
        """A barrier that counts wrongly shows so many too many; 0 puts it right."""
        self._wrong.go(at, float(spaces), 1.0, float(spaces))


class ParkingBay:
    """One bay at the kerb: cars come and go, more by day. A day is drawn by its own generator, from four in the morning
    to the next four, when the last has left."""

    def __init__(self, asset: Asset, around: Surroundings) -> None:
        self.asset, self._around = asset, around
        start = around.start
        self._four_s = 4 * HOUR_S - (start.hour * HOUR_S + start.minute * 60.0 + start.second)
        self._days: dict[int, list[tuple[float, float]]] = {}
        self._blocked = _Switch(False)

    def occupied_at(self, at: float) -> bool:
        return self._blocked(at) or self._stay(at) is not None

    def since_at(self, at: float) -> float | None:
        """When the car that stands there came; None when it is free."""
        stay = self._stay(at)
        came = [stay[0]] if stay is not None else []
        if self._blocked(at):
            came.append(self._blocked.since(at))
        return min(came, default=None)

    def values(self, at: float) -> dict[str, Value]:
        since = self.since_at(at)
        if since is None:
            return {"occupied": False}
        return {"occupied": True, "since": self._around.moment(math.floor(since)).isoformat(timespec="seconds")}

    def blocked(self, at: float) -> None:
        """Somebody leaves a car, or a heap of sand, for days."""
        self._blocked.turn(at, True)

    def cleared(self, at: float) -> None:
        self._blocked.turn(at, False)

    def _stay(self, at: float) -> tuple[float, float] | None:
        stays = self._day(math.floor((at - self._four_s) / DAY_S))
        place = bisect.bisect_right(stays, (at, math.inf)) - 1
        return stays[place] if place >= 0 and at < stays[place][1] else None

    def _day(self, day: int) -> list[tuple[float, float]]:
        if day not in self._days:
            if len(self._days) > 2:
                self._days.clear()
            rng = self._around.rng(self.asset.asset, "bay", day)
            at, end = self._four_s + day * DAY_S, self._four_s + (day + 1) * DAY_S
            stays = []
            while True:
                busy = 0.15 + 0.85 * math.exp(-((((self._around.hour(at) - 14.0 + 12) % 24 - 12) / 6.5) ** 4))
                came = at + 120.0 + rng.expovariate(busy / (0.5 * HOUR_S))
                left = min(came + 300.0 + rng.expovariate(1 / (1.1 * HOUR_S)), end - rng.uniform(60.0, HOUR_S))
                if left <= came:
                    break
                stays.append((came, left))
                at = left
            self._days[day] = stays
        return self._days[day]


class BuildingSite:
    """A dust and noise station at a site that works from 6:30 to 11:30 and from 13:30 to 18:30."""

    WORKS: ClassVar[tuple[tuple[float, float], ...]] = ((6.5, 11.5), (13.5, 18.5))

    def __init__(self, asset: Asset, around: Surroundings) -> None:
        rng = around.rng(asset.asset, "site")
        self.asset, self._around = asset, around
        self._town_pm10 = rng.uniform(42.0, 62.0)
        self._works_pm10 = rng.uniform(18.0, 32.0)
        self._works_db = rng.uniform(61.0, 65.5)
        self._night_db = rng.uniform(42.0, 47.0)
        self._air, self._wind = (
            _Wander(around, f"{asset.asset}:{of}", every) for of, every in (("air", 2400), ("wind", 600))
        )
        self._burst, self._spray = _Settling(), _Settling(1.0)
        self._night_work: list[tuple[float, float, float]] = []

    def works_at(self, at: float) -> bool:
        hour = self._around.hour(at)
        return any(begin <= hour < end for begin, end in self.WORKS)

    def values(self, at: float) -> dict[str, Value]:
        minute = self._around.rng(self.asset.asset, "minute", math.floor(at / 60))
        dry = 1.0 - 0.6 * min(1.0, max(0.0, self._around.wetness(at)))
        town = self._town_pm10 * (1.0 + 0.2 * self._air(at)) * (0.4 + 0.6 * dry)
        own = (self._works_pm10 * (1.0 + 0.4 * self._air(at + 1e6)) if self.works_at(at) else 0.0) + self._burst(at)
        own = max(0.0, own) * dry * self._spray(at) * minute.uniform(0.9, 1.1)
        laeq, lmax = self._noise(at, minute)
        hour, outside = self._around.hour(at), self._around.temperature(at)
        damp = min(100.0, 62.0 + 12.0 * math.cos(2 * math.pi * (hour - 5) / 24) + 30.0 * self._around.wetness(at))
        return {
            "pm25": 0.5 * town + 0.15 * own, "pm10": town + own, "tsp": 1.5 * town + 2.2 * own,
            "laeq": laeq, "lmax": lmax, "wind": 2.2 + 1.6 * self._wind(at), "temp": outside, "rh": damp,
            "wind_direction": (180.0 + 150.0 * self._wind(at / 8)) % 360, "pressure": 100.9 - 0.03 * (outside - 20.0),
        }  # fmt: skip

    def dust_burst(self, at: float, pm10: float = 320.0) -> None:
        """Earth is tipped in the wind: so much more µg/m³ within a minute or two, until ``dust_settles``."""
        self._burst.go(at, pm10, 1 / 60)

    def dust_settles(self, at: float) -> None:
        self._burst.go(at, 0.0, 1 / 300)

    def spray(self, at: float, on: bool) -> None:
        """Cannons take two thirds of the site's own dust."""
        self._spray.go(at, 0.33 if on else 1.0, 1 / 300)

    def loud_night_work(self, at: float, until: float, laeq: float = 66.0) -> None:
        """Concrete is poured, whatever the hour."""
        self._night_work.append((at, until, laeq))

    def _noise(self, at: float, minute: random.Random) -> tuple[float, float]:
        """LAeq and Lmax of the minute: street noise by day, the works, and what was not permitted, as energies."""
        hour = self._around.hour(at)
        awake = 1 / (1 + math.exp(-(hour - 6.6) * 3)) / (1 + math.exp((hour - 20.8) * 3))
        sources = [self._night_db + 9.0 * awake + minute.uniform(-1.5, 1.5)]
        if self.works_at(at):
            sources.append(self._works_db + minute.uniform(-2.0, 2.0))
        sources += [loud + minute.uniform(-1.5, 1.5) for since, until, loud in self._night_work if since <= at < until]
        laeq = 10 * math.log10(sum(10 ** (decibels / 10) for decibels in sources))
        return laeq, laeq + minute.uniform(4.0, 12.0)


class Utilities:
    """All of them by asset id; kinds of assets that are not among ``KINDS`` are left out. ``temperature``: outside,
    °C; ``wetness``: 0 (dry) … 1 (soaked)."""

    KINDS: ClassVar[tuple[str, ...]] = ("gas", "heat", "water", "parking", "site")

    def __init__(
        self,
        assets: Iterable[Asset],
        start: datetime,
        seed: int,
        temperature: Course = lambda at: 20.0,
        wetness: Course = lambda at: 0.0,
    ) -> None:
        around = Surroundings(start, seed, temperature, wetness)
        self.gas: dict[str, GasChamber] = {}
        self.heat: dict[str, HeatStation] = {}
        self.water: dict[str, WaterPoint] = {}
        self.lots: dict[str, ParkingLot] = {}
        self.bays: dict[str, ParkingBay] = {}
        self.sites: dict[str, BuildingSite] = {}
        for asset in assets:
            match asset.kind:
                case "gas":
                    self.gas[asset.asset] = GasChamber(asset, around)
                case "heat":
                    self.heat[asset.asset] = HeatStation(asset, around)
                case "water":
                    self.water[asset.asset] = WaterPoint(asset, around)
                case "parking" if asset.attributes.get("lot"):
                    self.lots[asset.asset] = ParkingLot(asset, around)
                case "parking":
                    self.bays[asset.asset] = ParkingBay(asset, around)
                case "site":
                    self.sites[asset.asset] = BuildingSite(asset, around)
                case _:
                    pass
        self.things: dict[str, Thing] = {
            **self.gas, **self.heat, **self.water, **self.lots, **self.bays, **self.sites,
        }  # fmt: skip


def _number(asset: Asset, attribute: str, otherwise: float) -> float:
    return asset.number(attribute) if attribute in asset.attributes else otherwise


def _meals(hour: float) -> float:
    """How much households draw, 0…1: morning, noon, and most in the evening."""
    peaks = ((7.0, 1.3, 0.75), (12.0, 1.2, 0.6), (19.0, 1.9, 0.9))
    return min(1.0, 0.1 + sum(high * math.exp(-0.5 * ((hour - at) / wide) ** 2) for at, wide, high in peaks))
