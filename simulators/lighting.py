"""Street lighting: when lamps should burn, what they draw, how the voltage falls along the cable, and what breaks.

Nothing ticks. A feeder and a lamp remember only their *changes* (an act of a scenario, a switching of the plan); what
they are at any second, and what they have used until then, is worked out from those when somebody asks. So asking
often or seldom gives the same numbers, and a lamp nobody asks costs nothing. ``Lighting.now`` is the second that the
plain properties (``lamp.power_w``, ``feeder.energy_kwh``…) speak of; the methods with ``at`` answer for any second.

How a circuit is wired here: the cabinet's contactor feeds the lamps; the lamps' controllers hang on a conductor that
is always live, so they measure voltage by day too. A lamp whose own relay has stuck burns from that conductor.

Times are seconds since ``start``; acts on a circuit and its lamps must come in the order of their time.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from simulators.city import Asset

CHINA = timezone(timedelta(hours=8))
NOMINAL_V = 220.0
MAINS_V = 226.0  # at the cabinet: transformers are set a little high, for the far end
STANDING = 0.02  # share of the rated power that a burning lamp draws whatever its dimming
SPACING_M = 30.0
END_SAG_V = 9.0  # what a cable is chosen for: 226 − 9 leaves a good margin to the 198 V of CJJ 45
CABLES_MM2 = (10.0, 16.0, 25.0, 35.0, 50.0, 70.0, 95.0, 120.0, 150.0, 185.0, 240.0)
COPPER_OHM_MM2_M = 0.0195  # warm
LIFE_H = 50_000.0

Phase: TypeAlias = int  # 0, 1, 2 = A, B, C


class Sun:
    """Sunrise and sunset at one place (degrees north and east), to the second; each day is worked out once."""

    def __init__(self, latitude: float = 35.80, longitude: float = 116.10, zone: tzinfo = CHINA) -> None:
        from astral import Observer  # 30 ms that only the lighting clock needs

        self._observer, self._zone = Observer(latitude, longitude), zone
        self._days: dict[date, tuple[datetime, datetime]] = {}

    def rise(self, day: date) -> datetime:
        return self._day(day)[0]

    def set(self, day: date) -> datetime:
        return self._day(day)[1]

    def is_up(self, moment: datetime) -> bool:
        rise, fall = self._day(moment.astimezone(self._zone).date())
        return rise <= moment < fall

    def _day(self, day: date) -> tuple[datetime, datetime]:
        if day not in self._days:
            from astral.sun import sunrise, sunset

            both = (tell(self._observer, date=day, tzinfo=self._zone) for tell in (sunrise, sunset))
            rise, fall = ((moment + timedelta(seconds=0.5)).replace(microsecond=0) for moment in both)
            self._days[day] = rise, fall
        return self._days[day]


class Command(NamedTuple):
    """What the lamps of a circuit are told: burn or not, how bright (percent), and whether half-night lamps burn."""

    on: bool
    dim: float
    half: bool


OFF = Command(False, 0.0, False)


@dataclass(frozen=True, slots=True)
class LightingPlan:
    """The county's lighting clock. On ``on_offset`` after sunset, off ``off_offset`` before sunrise; ``steps`` are dim
    levels from a time of the night on; half-night lamps (半夜灯) go dark at ``half_night_off``. Times before noon
    belong to the morning after."""

    on_offset: timedelta = timedelta(minutes=10)
    off_offset: timedelta = timedelta(minutes=10)
    steps: tuple[tuple[time, float], ...] = ((time(23, 0), 50.0),)
    half_night_off: time = time(0, 0)
    sun: Sun = field(default_factory=Sun)

    def night(self, day: date, zone: tzinfo) -> list[tuple[datetime, Command]]:
        """The switchings of the night that begins on ``day``, in order; the last is OFF."""
        on = self.sun.set(day) + self.on_offset
        off = self.sun.rise(day + timedelta(days=1)) - self.off_offset

        def moment(clock: time) -> datetime:
            return datetime.combine(day + timedelta(days=clock < time(12)), clock, zone)

        half = moment(self.half_night_off)
        steps = sorted((moment(clock), dim) for clock, dim in self.steps)
        switchings = [(on, Command(True, 100.0, True))]
        for at in sorted({half, *(at for at, _ in steps)}):
            dim = next((dim for since, dim in reversed(steps) if since <= at), 100.0)
            command = Command(True, dim, at < half)
            if at <= on:
                switchings[0] = (on, command)
            elif at < off:
                switchings.append((at, command))
        return [*switchings, (off, OFF)]


def drawn(dim: float) -> float:
    """The share of its rated power a burning lamp draws at ``dim`` percent."""
    return STANDING + (1 - STANDING) * dim / 100


class Burnt(NamedTuple):
    """Seconds of full power, and seconds of burning, since some moment: of lamps that burn all night (``full``), of
    half-night lamps (``half``), and of a lamp whose relay has stuck (``live``)."""

    full: float = 0.0
    half: float = 0.0
    full_s: float = 0.0
    half_s: float = 0.0
    live: float = 0.0
    live_s: float = 0.0

    def plus(self, other: Burnt) -> Burnt:
        return Burnt(*(mine + its for mine, its in zip(self, other, strict=True)))


NOTHING = Burnt()


class PlanLine:
    """A plan laid out in seconds from ``start``, as far as anybody asked, with its integrals up to each switching."""

    def __init__(self, plan: LightingPlan, start: datetime) -> None:
        self._plan, self._start = plan, start
        self._zone = start.tzinfo
        if self._zone is None:
            raise ValueError("start needs a time zone")
        self._next = start.date() - timedelta(days=2)
        self._times: list[float] = []
        self._commands: list[Command] = []
        self._burnt: list[Burnt] = []
        self._last = 0  # most questions are about the same hours as the one before
        self._add_night()

    def command(self, at: float) -> Command:
        return self._commands[self._place(at)]

    def burnt(self, at: float) -> Burnt:
        """Up to ``at``, since the line's beginning; ``live`` stays 0."""
        place = self._place(at)
        return _after(self._burnt[place], self._commands[place], at - self._times[place])

    def switchings(self, begin: float, end: float) -> list[float]:
        """The moments in (begin, end) when the plan changes something."""
        self._place(end)
        low, high = bisect.bisect_right(self._times, begin), bisect.bisect_left(self._times, end)
        return self._times[low:high]

    def burning_moment(self, since: float, seconds: float) -> float:
        """When a lamp of all nights has burnt so many seconds more, counted from ``since``."""
        wanted = self.burnt(since).full_s + seconds
        while self._burnt[-1].full_s < wanted:
            self._add_night()
        place = bisect.bisect_left(self._burnt, wanted, key=lambda burnt: burnt.full_s) - 1
        return self._times[place] + wanted - self._burnt[place].full_s

    def _place(self, at: float) -> int:
        while self._times[-1] <= at:
            self._add_night()
        if not self._times[self._last] <= at < self._times[self._last + 1]:
            place = bisect.bisect_right(self._times, at) - 1
            if place < 0:
                raise ValueError(f"{at} s is long before the start")
            self._last = place
        return self._last

    def _add_night(self) -> None:
        assert self._zone is not None
        for moment, command in self._plan.night(self._next, self._zone):
            at = (moment - self._start).total_seconds()
            if self._times:
                passed = at - self._times[-1]
                self._burnt.append(_after(self._burnt[-1], self._commands[-1], passed))
            else:
                self._burnt.append(Burnt())
            self._times.append(at)
            self._commands.append(command)
        self._next += timedelta(days=1)


def _after(burnt: Burnt, command: Command, seconds: float) -> Burnt:
    if not command.on:
        return burnt
    power, half = drawn(command.dim) * seconds, float(command.half)
    return Burnt(
        burnt.full + power, burnt.half + half * power, burnt.full_s + seconds, burnt.half_s + half * seconds
    )  # fmt: skip


class LampState(StrEnum):
    """``broken``: dark whatever is told. ``day_burner``: its relay has stuck closed. ``cycling``: goes out when hot and
    strikes again when cool. ``dim_failed``: burns when told, at one level whatever is told."""

    OK = "ok"
    BROKEN = "broken"
    DAY_BURNER = "day_burner"
    CYCLING = "cycling"
    DIM_FAILED = "dim_failed"


CYCLE_S = 240.0  # 15 changes in half an hour; a discharge lamp at its end needs minutes to cool and strike
CYCLE_ON_S = 150.0


@dataclass(frozen=True, slots=True)
class _Circuit:
    """How a feeder stands between two acts. ``hand``: told by hand, not by the plan. ``shift``: volts on A, B, C."""

    mains: bool = True
    contactor: str = "works"  # or open, closed: it has stuck
    hand: Command | None = None
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    door_open: bool = False
    leak_ma: float = 0.0
    wet_leak_ma: float = 0.0


class _View(NamedTuple):
    """A feeder at one second. ``full``, ``half``, ``live``: the share of its full power that a sound lamp, a sound
    half-night lamp and a lamp with a stuck relay draws; ``burnt`` since the scenario's start."""

    at: float
    circuit: _Circuit
    command: Command
    full: float
    half: float
    live: float
    burnt: Burnt


@dataclass(frozen=True, slots=True)
class _Health:
    """How a lamp is between two changes, and what it had used (Ws) and burnt (s) when this began."""

    since: float
    state: LampState
    level: float = 100.0
    used_ws: float = 0.0
    burnt_s: float = 0.0


class Lamp:
    """A lamp ``distance`` (0…1) down its feeder. Age tells in its light and its power factor: its driver draws 3 % less
    and the current rises by one over 50,000 h. The age is that of the start: a scenario is short beside it."""

    __slots__ = (
        "_health", "_start_burn_h", "_start_kwh", "asset", "distance", "feeder", "full_w", "half_night", "number",
        "pf", "position_m", "rated_w",
    )  # fmt: skip

    def __init__(self, asset: Asset, feeder: Feeder, number: int, distance: float, position_m: float) -> None:
        rng = random.Random(f"{feeder.lighting.seed}:{asset.asset}:age")
        self.asset, self.feeder, self.number = asset, feeder, number
        self.distance, self.position_m = distance, position_m
        self.half_night = bool(asset.attributes.get("half_night", False))
        self.rated_w = asset.number("rated_power")
        self._start_burn_h = rng.uniform(2_000, 20_000)
        worn = self._start_burn_h / LIFE_H
        self.full_w = self.rated_w * (1.0 - 0.03 * worn)
        self.pf = 0.97 - 0.04 * worn
        # What it has used so far: nights that were dimmed for a good half of them.
        self._start_kwh = self.full_w / 1000 * self._start_burn_h * rng.uniform(0.68, 0.76)
        self._health = [_Health(-math.inf, LampState.OK)]

    # now

    @property
    def power_w(self) -> float:
        """Power drawn now: rated × dimming, with 2 % of standing losses; nothing when dark."""
        return self.power_at(self.feeder.lighting.now)

    @property
    def voltage_v(self) -> float:
        return self.voltage_at(self.feeder.lighting.now)

    @property
    def current_a(self) -> float:
        return self.current_at(self.feeder.lighting.now)

    @property
    def energy_kwh(self) -> float:
        return self.energy_at(self.feeder.lighting.now)

    @property
    def burn_hours(self) -> float:
        return self.burn_hours_at(self.feeder.lighting.now)

    @property
    def commanded(self) -> bool:
        return self.commanded_at(self.feeder.lighting.now)

    @property
    def dim(self) -> float:
        """What it is told now, in percent; 0 while it is told to be dark."""
        return self.told(self.feeder.lighting.now).dim

    @property
    def state(self) -> LampState:
        return self.state_at(self.feeder.lighting.now)

    @property
    def broken(self) -> bool:
        return self.state is LampState.BROKEN

    # at any second

    def state_at(self, at: float) -> LampState:
        return self._at(at).state

    def told(self, at: float) -> Command:
        """Its own command: that of the circuit, less what half-night lamps are spared."""
        command = self.feeder.told(at)
        return command if command.half or not self.half_night else OFF

    def commanded_at(self, at: float) -> bool:
        return self.told(at).on

    def power_at(self, at: float) -> float:
        return self.full_w * self._share(at)

    def current_at(self, at: float) -> float:
        power = self.power_at(at)
        return power / (self.voltage_at(at) * self.pf) if power else 0.0

    def voltage_at(self, at: float) -> float:
        """The cabinet's voltage less what the cable up to here takes for all lamps of this phase; 0 without mains."""
        phase = self.number % 3
        supply = self.feeder.voltage_at(phase, at)
        return max(0.0, supply - self.feeder.sag_at(self, at)) if supply else 0.0

    def energy_at(self, at: float) -> float:
        health = self._at(at)
        return self._start_kwh + (health.used_ws + self._used(health, at)[0]) / 3.6e6

    def burn_hours_at(self, at: float) -> float:
        health = self._at(at)
        return self._start_burn_h + (health.burnt_s + self._used(health, at)[1]) / 3600

    def lumen_share_at(self, at: float) -> float:
        """Its light as a share of what it gave when new: 70 % are left after ``LIFE_H`` at full power (L70)."""
        power = self._share(at)
        if not power:
            return 0.0
        left = math.exp(math.log(0.7) * self.burn_hours_at(at) / LIFE_H)
        return left * (power - STANDING) / (1 - STANDING)

    # acts

    def breaks(self, at: float) -> None:
        self._becomes(at, LampState.BROKEN)

    def burns_by_day(self, at: float) -> None:
        self._becomes(at, LampState.DAY_BURNER)

    def cycles(self, at: float) -> None:
        self._becomes(at, LampState.CYCLING)

    def stops_dimming(self, at: float, level: float = 100.0) -> None:
        """It burns at ``level`` percent from now on, whatever it is told."""
        self._becomes(at, LampState.DIM_FAILED, level)

    def is_mended(self, at: float) -> None:
        self._becomes(at, LampState.OK)

    # how

    def _at(self, at: float) -> _Health:
        if at >= self._health[-1].since:
            return self._health[-1]
        return self._health[bisect.bisect_right(self._health, at, key=lambda health: health.since) - 1]

    def _becomes(self, at: float, state: LampState, level: float = 100.0) -> None:
        last = self._health[-1]
        self.feeder.check_order(at)
        used, burnt = self._used(last, at)
        health = _Health(at, state, level, last.used_ws + used, last.burnt_s + burnt)
        if at == last.since:
            self._health[-1] = health
        else:
            self._health.append(health)
        self.feeder.load_changed(at)

    def _share(self, at: float) -> float:
        """The share of its full power it draws."""
        health, view = self._at(at), self.feeder.view(at)
        share = view.half if self.half_night else view.full
        match health.state:
            case LampState.OK:
                return share
            case LampState.BROKEN:
                return 0.0
            case LampState.DAY_BURNER:
                return view.live
            case LampState.DIM_FAILED:
                return drawn(health.level) if share else 0.0
            case LampState.CYCLING:
                return share if (at - health.since) % CYCLE_S < CYCLE_ON_S else 0.0

    def _used(self, health: _Health, at: float) -> tuple[float, float]:
        """Ws used and seconds burnt from when it became so until ``at``."""
        since = max(0.0, health.since)
        if at <= since or health.state is LampState.BROKEN:
            return 0.0, 0.0
        if health.state is LampState.CYCLING:
            return self._used_cycling(health, since, at)
        before, after = self.feeder.burnt(since), self.feeder.burnt(at)
        if health.state is LampState.DAY_BURNER:
            return self.full_w * (after.live - before.live), after.live_s - before.live_s
        if self.half_night:
            power, burnt = after.half - before.half, after.half_s - before.half_s
        else:
            power, burnt = after.full - before.full, after.full_s - before.full_s
        if health.state is LampState.DIM_FAILED:
            power = burnt * drawn(health.level)
        return self.full_w * power, burnt

    def _used_cycling(self, health: _Health, begin: float, end: float) -> tuple[float, float]:
        """Between two switchings the power is the same in each cycle: the seconds it burns are counted."""
        used = burnt = 0.0
        moments = [begin, *self.feeder.switchings(begin, end), end]
        for since, until in itertools.pairwise(moments):
            seconds = _cycled(until - health.since) - _cycled(since - health.since)
            view = self.feeder.view(since)
            share = view.half if self.half_night else view.full
            used += self.full_w * share * seconds
            burnt += seconds if share else 0.0
        return used, burnt


def _cycled(seconds: float) -> float:
    whole = math.floor(seconds / CYCLE_S)
    return whole * CYCLE_ON_S + min(CYCLE_ON_S, seconds - whole * CYCLE_S)


@dataclass(frozen=True, slots=True)
class _Load:
    """The lamps of a feeder between two changes. ``power_w[group][phase]`` at full share, ``sag_v[group][lamp]`` by the
    currents that go with it; ``cycling`` lamps are looked at one by one. ``used_ws``: of all lamps when this began."""

    since: float
    power_w: dict[str, list[float]]
    sag_v: dict[str, list[float]]
    cycling: tuple[Lamp, ...]
    used_ws: float


class Feeder:
    """A lighting circuit: three phases with the lamps in turn on A, B and C, a contactor, a door, a meter."""

    def __init__(self, asset: Asset, lighting: Lighting) -> None:
        rng = random.Random(f"{lighting.seed}:{asset.asset}:feeder")
        self.asset, self.lighting = asset, lighting
        self.lamps: list[Lamp] = []
        self._offset_v = [rng.uniform(-0.7, 0.7) for _ in range(3)]
        self._dry_ma = rng.uniform(1.0, 3.0)
        self._wet_ma = rng.uniform(2.0, 6.0)
        self._times: list[float] = [-math.inf]
        self._circuits: list[_Circuit] = [_Circuit()]
        self._burnt: list[Burnt] = [Burnt()]
        self._loads: list[_Load] = []
        self._seen: _View | None = None
        self._ohm_m = 0.0

    # now

    @property
    def mains(self) -> bool:
        return self.circuit(self.lighting.now).mains

    @property
    def commanded(self) -> bool:
        return self.told(self.lighting.now).on

    @property
    def dim(self) -> float:
        return self.told(self.lighting.now).dim

    @property
    def contactor(self) -> bool:
        """Closed? It drops without mains, unless it has stuck."""
        return self.contactor_at(self.lighting.now)

    @property
    def lit(self) -> bool:
        """Do its lamps get current?"""
        return self.mains and self.contactor

    @property
    def door_open(self) -> bool:
        return self.circuit(self.lighting.now).door_open

    @property
    def load_w(self) -> float:
        """What its lamps draw now."""
        return self.load_at(self.lighting.now)

    @property
    def energy_kwh(self) -> float:
        return self.energy_at(self.lighting.now)

    @property
    def leak_ma(self) -> float:
        return self.leak_at(self.lighting.now)

    @property
    def voltages(self) -> tuple[float, float, float]:
        """Phases A, B, C at the cabinet."""
        a, b, c = (self.voltage_at(phase, self.lighting.now) for phase in range(3))
        return a, b, c

    @property
    def currents(self) -> tuple[float, float, float]:
        a, b, c = (self.current_at(phase, self.lighting.now) for phase in range(3))
        return a, b, c

    @property
    def pf(self) -> float:
        """Of all its load; 0 without any."""
        apparent = sum(volt * ampere for volt, ampere in zip(self.voltages, self.currents, strict=True))
        return min(1.0, self.load_w / apparent) if apparent else 0.0

    # at any second

    def circuit(self, at: float) -> _Circuit:
        return self.view(at).circuit

    def told(self, at: float) -> Command:
        return self.view(at).command

    def view(self, at: float) -> _View:
        """All that its lamps need to know of it; the last one is kept, since a report asks for many things at once."""
        if self._seen is None or self._seen.at != at:
            self._seen = self._look(at)
        return self._seen

    def contactor_at(self, at: float) -> bool:
        circuit = self.circuit(at)
        if circuit.contactor != "works":
            return circuit.contactor == "closed"
        return circuit.mains and self.told(at).on

    def load_at(self, at: float) -> float:
        return sum(self._phase_w(phase, at) for phase in range(3))

    def voltage_at(self, phase: Phase, at: float) -> float:
        """At the cabinet, phase to neutral: a volt up and down with the day (high when the city sleeps)."""
        circuit = self.circuit(at)
        if not circuit.mains:
            return 0.0
        day = math.cos(2 * math.pi * (self.lighting.clock_s(at) - 3 * 3600) / 86400)
        return MAINS_V + self._offset_v[phase] + day + circuit.shift[phase]

    def current_at(self, phase: Phase, at: float) -> float:
        power = self._phase_w(phase, at)
        mean_pf = self._mean_pf[phase]
        return power / (self.voltage_at(phase, at) * mean_pf) if power else 0.0

    def energy_at(self, at: float) -> float:
        """The meter: all its lamps have used since they were new, and what they use now."""
        load = self._load(at)
        return self._start_kwh + (load.used_ws + self._used_ws(load, at)) / 3.6e6

    def leak_at(self, at: float) -> float:
        """Leakage to earth in mA: some by the cable's length always, more in the wet, much where insulation is damaged.
        While the contactor is open only the conductor of the controllers leaks, a third of the sound part."""
        circuit = self.circuit(at)
        if not circuit.mains:
            return 0.0
        wet = min(1.0, max(0.0, self.lighting.wetness(at)))
        sound = self._dry_ma + 0.03 * len(self.lamps) + self._wet_ma * wet
        if not self.contactor_at(at):
            return 0.3 * sound
        return sound + circuit.leak_ma + circuit.wet_leak_ma * wet

    def burnt(self, at: float) -> Burnt:
        """Since the scenario's start, for lamps of this circuit."""
        return NOTHING if at <= 0 else self.view(at).burnt

    def switchings(self, begin: float, end: float) -> list[float]:
        """The moments in (begin, end) when its lamps' supply or command may change."""
        acts = [at for at in self._times if begin < at < end]
        return sorted({*acts, *self.lighting.line.switchings(begin, end)})

    def sag_at(self, lamp: Lamp, at: float) -> float:
        """Volts lost on the way to a lamp: every lamp of its phase loads the cable they share on the way."""
        load = self._load(at)
        shares = self._shares(at)
        sag = sum(volts[lamp.number] * shares[group] for group, volts in load.sag_v.items())
        for other in load.cycling:
            if other.number % 3 == lamp.number % 3:
                ampere = other.power_at(at) / (NOMINAL_V * other.pf)
                sag += ampere * self._ohm_m * min(lamp.position_m, other.position_m)
        return sag

    # acts

    def loses_mains(self, at: float) -> None:
        self._change(at, mains=False)

    def has_mains_back(self, at: float) -> None:
        self._change(at, mains=True)

    def contactor_sticks(self, at: float, *, closed: bool) -> None:
        """Open: the lamps stay dark at night. Closed: they burn by day, undimmed, since nobody tells them a level."""
        self._change(at, contactor="closed" if closed else "open")

    def contactor_works(self, at: float) -> None:
        self._change(at, contactor="works")

    def by_hand(self, at: float, on: bool, dim: float = 100.0) -> None:
        """Somebody switches the circuit, half-night lamps too; the plan does not reach it until ``by_plan``."""
        self._change(at, hand=Command(True, dim, True) if on else OFF)

    def by_plan(self, at: float) -> None:
        self._change(at, hand=None)

    def door(self, at: float, is_open: bool) -> None:
        self._change(at, door_open=is_open)

    def insulation_fails(self, at: float, wet_ma: float = 180.0) -> None:
        """A damaged cable: ``wet_ma`` more when everything is wet, nothing in dry weather."""
        self._change(at, wet_leak_ma=wet_ma)

    def earth_fault(self, at: float, milliampere: float) -> None:
        """A leak whatever the weather."""
        self._change(at, leak_ma=milliampere)

    def insulation_mended(self, at: float) -> None:
        self._change(at, leak_ma=0.0, wet_leak_ma=0.0)

    def supply_shifts(self, at: float, a: float, b: float, c: float) -> None:
        """Volts above or below normal on each phase (a wrong transformer tap; +40/−60/+25 for a broken neutral);
        zeros for normal."""
        self._change(at, shift=(a, b, c))

    # how

    def connect(self, lamps: list[Lamp]) -> None:
        """Once, by ``Lighting``: the lamps in the order of the cable, which is then chosen for them."""
        self.lamps = lamps

    def check_order(self, at: float) -> None:
        """An act in a past that has been settled would be counted only in part. Raises ValueError."""
        latest = max(self._times[-1], self._loads[-1].since if self._loads else -math.inf)
        if at < latest:
            raise ValueError(f"{self.asset.asset}: an act at {at} s after one at {latest} s")

    def load_changed(self, at: float) -> None:
        """A lamp has become another: the sums are made anew from that moment on."""
        last = self._load(at)
        load = self._summed(at, last.used_ws + self._used_ws(last, at))
        if at == last.since:
            self._loads[-1] = load
        else:
            self._loads.append(load)

    def _change(self, at: float, **what: object) -> None:
        self.check_order(at)
        circuit = replace(self._circuits[-1], **what)  # type: ignore[arg-type]
        self._seen = None
        if at == self._times[-1]:
            self._circuits[-1] = circuit
            return
        burnt = self.burnt(at)
        self._seen = None
        self._times.append(at)
        self._circuits.append(circuit)
        self._burnt.append(burnt)

    def _place(self, at: float) -> int:
        return len(self._times) - 1 if at >= self._times[-1] else bisect.bisect_right(self._times, at) - 1

    def _look(self, at: float) -> _View:
        place = self._place(at)
        circuit = self._circuits[place]
        command = self.lighting.line.command(at) if circuit.hand is None else circuit.hand
        full = half = live = 0.0
        if circuit.mains:
            if command.on:
                full = live = drawn(command.dim)
                half = full if command.half else 0.0
            else:
                live = 1.0
                full = half = 1.0 if circuit.contactor == "closed" else 0.0
            if circuit.contactor == "open":
                full = half = 0.0
        since = max(0.0, self._times[place])
        burnt = self._burnt[place]
        if circuit.mains and at > since:
            burnt = burnt.plus(self._burnt_in(circuit, since, at))
        return _View(at, circuit, command, full, half, live, burnt)

    def _burnt_in(self, circuit: _Circuit, begin: float, end: float) -> Burnt:
        """Under one circuit that has mains: as ``_look`` says, but summed over the plan's switchings."""
        seconds = end - begin
        if circuit.hand is None:
            before, after = self.lighting.line.burnt(begin), self.lighting.line.burnt(end)
            full, half = after.full - before.full, after.half - before.half
            full_s, half_s = after.full_s - before.full_s, after.half_s - before.half_s
        else:
            full, half, full_s, half_s, _, _ = _after(NOTHING, circuit.hand, seconds)
        dark_s = seconds - full_s
        live = full + dark_s
        if circuit.contactor == "open":
            full = half = full_s = half_s = 0.0
        elif circuit.contactor == "closed":
            full, half, full_s, half_s = live, half + dark_s, seconds, half_s + dark_s
        return Burnt(full, half, full_s, half_s, live, seconds)

    def _load(self, at: float) -> _Load:
        if not self._loads:
            self._begin()
        if at >= self._loads[-1].since:
            return self._loads[-1]
        return self._loads[bisect.bisect_right(self._loads, at, key=lambda load: load.since) - 1]

    def _begin(self) -> None:
        """The first time anybody looks: choose the cable, sum the lamps up, read the meter."""
        self._ohm_m = 1.0
        self._loads = [self._summed(-math.inf, 0.0, of=LampState.OK)]
        worst = max((sum(volts) for volts in zip(*self._loads[0].sag_v.values(), strict=True)), default=0.0)
        self._ohm_m = _cable_ohm_m(worst)
        self._loads = [self._summed(-math.inf, 0.0, of=LampState.OK)]
        self._start_kwh = sum(lamp.energy_at(0.0) for lamp in self.lamps)
        self._mean_pf = []
        for phase in range(3):
            lamps = self.lamps[phase::3]
            apparent = sum(lamp.full_w / lamp.pf for lamp in lamps)
            self._mean_pf.append(sum(lamp.full_w for lamp in lamps) / apparent if apparent else 1.0)

    def _summed(self, since: float, used_ws: float, of: LampState | None = None) -> _Load:
        """``of``: take all lamps to be so (how they began), whatever they are since."""
        power_w: dict[str, list[float]] = {}
        ampere: dict[str, list[float]] = {}
        cycling = []
        for lamp in self.lamps:
            health = lamp._at(since)
            state = of or health.state
            if state is LampState.CYCLING:
                cycling.append(lamp)
                continue
            if state is LampState.BROKEN:
                continue
            night = "half" if lamp.half_night else "full"
            group = {LampState.OK: night, LampState.DAY_BURNER: "live"}.get(state, night + "_fixed")
            power = lamp.full_w * (drawn(health.level) if group.endswith("fixed") else 1.0)
            power_w.setdefault(group, [0.0, 0.0, 0.0])[lamp.number % 3] += power
            flows = ampere.setdefault(group, [0.0] * len(self.lamps))
            flows[lamp.number] = power / (NOMINAL_V * lamp.pf)
        sag_v = {group: self._sags(flows) for group, flows in ampere.items()}
        return _Load(since, power_w, sag_v, tuple(cycling), used_ws)

    def _sags(self, flows: list[float]) -> list[float]:
        """Volts at each lamp: from one lamp of a phase to the next, what flows to all beyond passes the cable."""
        volts = [0.0] * len(flows)
        for phase in range(3):
            beyond = sum(flows[phase::3])
            sag = position = 0.0
            for number in range(phase, len(flows), 3):
                sag += beyond * self._ohm_m * (self.lamps[number].position_m - position)
                position = self.lamps[number].position_m
                volts[number] = sag
                beyond -= flows[number]
        return volts

    def _shares(self, at: float) -> dict[str, float]:
        """The share of its power each group draws."""
        view = self.view(at)
        return {
            "full": view.full, "half": view.half, "full_fixed": float(view.full > 0),
            "half_fixed": float(view.half > 0), "live": view.live,
        }  # fmt: skip

    def _phase_w(self, phase: Phase, at: float) -> float:
        load = self._load(at)
        shares = self._shares(at)
        steady = sum(watts[phase] * shares[group] for group, watts in load.power_w.items())
        return steady + sum(lamp.power_at(at) for lamp in load.cycling if lamp.number % 3 == phase)

    def _used_ws(self, load: _Load, at: float) -> float:
        since = max(0.0, load.since)
        if at <= since:
            return 0.0
        before, after = self.burnt(since), self.burnt(at)
        seconds = {
            "full": after.full - before.full, "half": after.half - before.half,
            "full_fixed": after.full_s - before.full_s, "half_fixed": after.half_s - before.half_s,
            "live": after.live - before.live,
        }  # fmt: skip
        used = sum(sum(watts) * seconds[group] for group, watts in load.power_w.items())
        return used + sum(lamp._used_cycling(lamp._at(since), since, at)[0] for lamp in load.cycling)


def _cable_ohm_m(sag_at_one_ohm_m: float) -> float:
    """The cable an engineer would choose: the thinnest that loses no more than ``END_SAG_V`` at the far end under full
    load; beyond the thickest, several side by side."""
    for section in CABLES_MM2:
        if sag_at_one_ohm_m * COPPER_OHM_MM2_M / section <= END_SAG_V:
            return COPPER_OHM_MM2_M / section
    thickest = COPPER_OHM_MM2_M / CABLES_MM2[-1]
    return thickest / math.ceil(sag_at_one_ohm_m * thickest / END_SAG_V)


class Lighting:
    """All circuits and lamps, by asset id. ``now`` is the second the properties speak of; moving it costs nothing.

    ``wetness``: how wet everything is at a second, 0 (dry) … 1 (soaked). Raises ValueError for a lamp whose feeder is
    not among the assets.
    """

    def __init__(
        self,
        assets: Iterable[Asset],
        plan: LightingPlan,
        start: datetime,
        seed: int,
        wetness: Callable[[float], float] = lambda at: 0.0,
    ) -> None:
        self.now = 0.0
        self.plan, self.start, self.seed, self.wetness = plan, start, seed, wetness
        self.line = PlanLine(plan, start)
        self._midnight_s = start.hour * 3600.0 + start.minute * 60.0 + start.second
        assets = list(assets)
        self.feeders = {asset.asset: Feeder(asset, self) for asset in assets if asset.kind == "feeder"}
        self.lamps: dict[str, Lamp] = {}
        of_feeder: dict[str, list[Asset]] = {}
        for asset in assets:
            if asset.kind == "lamp":
                of_feeder.setdefault(asset.links["feeder"], []).append(asset)
        for feeder_id, lamps in of_feeder.items():
            if feeder_id not in self.feeders:
                raise ValueError(f"lamp {lamps[0].asset}: its feeder {feeder_id} is not there")
            self._connect(self.feeders[feeder_id], lamps)

    def should_be_lit(self, lamp: str, at: float) -> bool:
        """Is it commanded on at that second, by the plan or by hand? True also while its circuit has no mains."""
        return self.lamps[lamp].commanded_at(at)

    def is_lit(self, lamp: str, at: float) -> bool:
        """Does it give the light it is told to: a fifth of rated × dimming or more (any where it is told none)."""
        its = self.lamps[lamp]
        power, told = its.power_at(at), its.told(at)
        return power > 0 and power >= 0.2 * its.rated_w * told.dim / 100

    def clock_s(self, at: float) -> float:
        """Seconds since local midnight of the day of the start."""
        return self._midnight_s + at

    def natural_failures(self, until: float, mean_life_h: float = 60_000.0) -> Iterator[tuple[float, Lamp]]:
        """Which drivers fail up to ``until``, in order of time, for a scenario that lets them: a constant hazard by
        hours burnt, doubled for lamps at the end of their life. Nothing is broken by asking."""
        found = []
        for lamp in self.lamps.values():
            rng = random.Random(f"{self.seed}:{lamp.asset.asset}:failure")
            worn = lamp.burn_hours_at(0.0) / LIFE_H
            hours = rng.expovariate((1.0 + worn) / mean_life_h)
            if hours * 3600 <= until:  # it cannot burn longer than time passes
                at = self.line.burning_moment(0.0, hours * 3600)
                if at <= until:
                    found.append((at, lamp))
        yield from sorted(found, key=lambda failure: (failure[0], failure[1].asset.asset))

    def _connect(self, feeder: Feeder, assets: list[Asset]) -> None:
        placed = _along(assets)
        far = max(place for place, _ in placed) + 1
        spacing = float(feeder.asset.attributes.get("spacing", SPACING_M))
        lamps = [
            Lamp(asset, feeder, number, (place + 1) / far, (place + 1) * spacing)
            for number, (place, asset) in enumerate(placed)
        ]
        feeder.connect(lamps)
        self.lamps.update((lamp.asset.asset, lamp) for lamp in lamps)


def _along(assets: list[Asset]) -> list[tuple[int, Asset]]:
    """(how many poles from the cabinet, lamp), nearest first. Lamps that name their neighbours stand in that order, one
    or several rows beside each other; others in the order given."""
    by_id = {asset.asset: asset for asset in assets}
    places: dict[str, int] = {}
    for asset in assets:
        if asset.links.get("before") in by_id or asset.links.get("after") not in by_id:
            continue
        place, following = 0, asset.asset
        while following in by_id and following not in places:
            places[following] = place
            place, following = place + 1, by_id[following].links.get("after", "")
    for place, asset in enumerate(assets):
        places.setdefault(asset.asset, place)
    return sorted(((places[asset.asset], asset) for asset in assets), key=lambda placed: placed[0])
