"""Manhole covers: how they lie, who moves them, when water lifts them, and what their battery has left.

Nothing ticks: a cover remembers its changes, and how it lies at any second is worked out from the last one. Angles are
degrees from level. ``Covers.now`` is the second the plain properties (``cover.lean``, ``cover.state``…) speak of;
the methods with ``at`` answer for any second. Acts on one cover must come in the order of their time.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from simulators.city import inclinations

if TYPE_CHECKING:
    from simulators.city import Asset

AREA_M2 = 0.38  # a cover of 0.7 m across
WATER_KG_M3 = 1000.0
FLOAT_M = 0.3  # the water float hangs so far below the cover
SHOCK_S = 1.8  # vendors ignore what is over within 2 s
LIFE_YEARS = 10.0
AJAR_DEG, OPEN_DEG = 15.0, 45.0


class CoverState(StrEnum):
    CLOSED = "closed"
    AJAR = "ajar"
    OPEN = "open"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class _Lie:
    """How it lies since a moment. ``bobs``: on the water. ``missing``: carried away, its sensor with it."""

    since: float
    tilt: float = 0.0
    missing: bool = False
    bobs: bool = False


@dataclass(frozen=True, slots=True)
class _Charge:
    since: float
    percent: float
    percent_per_day: float


class Cover:
    """One cover. ``camber`` and ``towards`` (radians) are how it lay when its sensor was mounted; ``tilt`` is how far
    it leans beyond that, the same way.

    It weighs 40–90 kg (``mass_kg``; an attribute of that name decides). Water lifts it when its pressure on the area
    from below bears the weight: ``lift_head_m`` = mass / (1000 kg/m³ · 0.38 m²), 0.11 m for a light composite cover
    and 0.24 m for heavy iron, above the ground.
    """

    def __init__(self, asset: Asset, covers: Covers) -> None:
        rng = random.Random(f"{covers.seed}:{asset.asset}:cover")
        self.asset, self._covers = asset, covers
        self.camber, self.towards = _camber(asset)
        self.mass_kg = _number(asset, "mass_kg", rng.uniform(40.0, 90.0))
        self.lift_head_m = self.mass_kg / (WATER_KG_M3 * AREA_M2)
        self.freeboard_m = _number(asset, "freeboard", 3.0)
        self._rng = random.Random(f"{covers.seed}:{asset.asset}:acts")
        self._lies = [_Lie(-math.inf)]
        self._wet: list[tuple[float, bool]] = [(-math.inf, False)]
        self._shocks: list[tuple[float, float]] = []
        drain = 100.0 / (LIFE_YEARS * 365.25) * rng.uniform(0.8, 1.5)
        self._charges = [_Charge(0.0, rng.uniform(55.0, 99.0), drain)]

    # now

    @property
    def tilt(self) -> float:
        return self.tilt_at(self._covers.now)

    @property
    def lean(self) -> float:
        """Degrees from level, as the sensor sees it."""
        return self.lean_at(self._covers.now)

    @property
    def inclinations(self) -> tuple[float, float, float]:
        """The three angles to the horizontal that a three-axis sensor reports."""
        return inclinations(self.lean, self.towards)

    @property
    def state(self) -> CoverState:
        return self.state_at(self._covers.now)

    @property
    def water(self) -> bool:
        return self.water_at(self._covers.now)

    @property
    def battery(self) -> float:
        return self.battery_at(self._covers.now)

    @property
    def shock(self) -> bool:
        return self.shock_at(self._covers.now)

    # at any second

    def rests_at(self, at: float) -> float:
        """How far it leans but for the second of a shock."""
        lie = self._lie(at)
        return lie.tilt + (2.0 * math.sin(2 * math.pi * (at - lie.since) / 7.0) if lie.bobs else 0.0)

    def tilt_at(self, at: float) -> float:
        tilt = self.rests_at(at)
        place = bisect.bisect_right(self._shocks, (at, math.inf)) - 1
        if place >= 0 and at - self._shocks[place][0] < SHOCK_S:
            tilt += self._shocks[place][1] * (1.0 - (at - self._shocks[place][0]) / SHOCK_S)
        return tilt

    def lean_at(self, at: float) -> float:
        return min(180.0, self.camber + self.tilt_at(at))

    def state_at(self, at: float) -> CoverState:
        """As it lies; the second of a shock does not count."""
        lie = self._lie(at)
        if lie.missing:
            return CoverState.MISSING
        if lie.tilt > OPEN_DEG:
            return CoverState.OPEN
        return CoverState.AJAR if lie.tilt > AJAR_DEG else CoverState.CLOSED

    def floats_at(self, at: float) -> bool:
        return self._lie(at).bobs

    def shock_at(self, at: float) -> bool:
        """Is it being shaken?"""
        place = bisect.bisect_right(self._shocks, (at, math.inf)) - 1
        return place >= 0 and at - self._shocks[place][0] < SHOCK_S

    def water_at(self, at: float) -> bool:
        """Is the water float wet?"""
        return self._wet[bisect.bisect_right(self._wet, at, key=lambda change: change[0]) - 1][1]

    def battery_at(self, at: float) -> float:
        """Percent, as the sensor estimates it from the voltage, which cold lowers: 0.3 a kelvin below 10 °C."""
        place = bisect.bisect_right(self._charges, max(at, 0.0), key=lambda charge: charge.since) - 1
        charge = self._charges[place]
        left = charge.percent - charge.percent_per_day * (max(at, 0.0) - charge.since) / 86400
        cold = 0.3 * max(0.0, 10.0 - self._covers.temperature(at))
        return min(100.0, max(0.0, left - cold))

    # acts

    def opened(self, at: float, degrees: float = 70.0) -> None:
        """Somebody lifts it; it leans by ``degrees``."""
        self._lies_now(_Lie(at, degrees))

    def stolen(self, at: float) -> None:
        """It is carried away, and the sensor tumbles with it: it comes to rest at 60–120°."""
        self._lies_now(_Lie(at, self._rng.uniform(60.0, 120.0), missing=True))

    def shifted(self, at: float, degrees: float | None = None) -> None:
        """A wheel has pushed it half out of its frame: 5–15°, flat enough to be overlooked."""
        self._lies_now(_Lie(at, self._rng.uniform(5.0, 14.5) if degrees is None else degrees))

    def closed(self, at: float) -> None:
        """The crew puts it (or a new one) back; it never lies quite as before: up to 1.5° remain."""
        self._lies_now(_Lie(at, self._rng.uniform(0.0, 1.5)))

    def shaken(self, at: float, degrees: float | None = None) -> None:
        """Traffic knocks it: for less than two seconds it leans further, then it lies as before."""
        peak = self._rng.uniform(12.0, 35.0) if degrees is None else degrees
        if self._shocks and at < self._shocks[-1][0]:
            raise ValueError(f"{self.asset.asset}: a shock at {at} s after one at {self._shocks[-1][0]} s")
        self._shocks.append((at, peak))

    def water_stands(self, at: float, freeboard_m: float) -> bool:
        """The water in its well stands so far below the ground (negative: its head is above). Whether something has
        changed that the sensor sees: its float, or the cover's lie."""
        self.freeboard_m = freeboard_m
        lies, wets = len(self._lies), len(self._wet)
        wet = freeboard_m < FLOAT_M
        if wet != self._wet[-1][1]:
            self._check(at, self._wet[-1][0])
            self._wet.append((at, wet))
        lie, head = self._lies[-1], -freeboard_m
        if lie.bobs and head < 0.5 * self.lift_head_m:
            self._settles(at)
        elif head >= self.lift_head_m and not lie.bobs and not lie.missing and lie.tilt <= OPEN_DEG:
            self._lies_now(_Lie(at, max(lie.tilt, self._rng.uniform(18.0, 32.0)), bobs=True))
        return (lies, wets) != (len(self._lies), len(self._wet))

    def surcharge(self, at: float, head_m: float) -> bool:
        """As ``water_stands``, for a water head above the ground."""
        return self.water_stands(at, -head_m)

    def battery_is(self, at: float, percent: float, percent_per_day: float | None = None) -> None:
        """A new or a bad battery: what is left, and how fast it goes from now on (as before, unless given)."""
        last = self._charges[-1]
        self._check(at, last.since)
        rate = last.percent_per_day if percent_per_day is None else percent_per_day
        self._charges.append(_Charge(at, percent, rate))

    # how

    def _settles(self, at: float) -> None:
        """The water goes, and the cover comes down where it was carried: mostly across the hole, often beside it."""
        beside = self._rng.random() < 0.4
        self._lies_now(_Lie(at, self._rng.uniform(50.0, 85.0) if beside else self._rng.uniform(17.0, 40.0)))

    def _lies_now(self, lie: _Lie) -> None:
        self._check(lie.since, self._lies[-1].since)
        self._lies.append(lie)

    def _check(self, at: float, last: float) -> None:
        if at < last:
            raise ValueError(f"{self.asset.asset}: an act at {at} s after one at {last} s")

    def _lie(self, at: float) -> _Lie:
        last = self._lies[-1]
        return last if at >= last.since else self._lies[bisect.bisect_right(self._lies, at, key=_since) - 1]


def _since(lie: _Lie) -> float:
    return lie.since


class Covers:
    """All covers by asset id. ``temperature``: of the air in the wells, °C at a second."""

    def __init__(
        self, assets: Iterable[Asset], seed: int, temperature: Callable[[float], float] = lambda at: 20.0
    ) -> None:
        self.now = 0.0
        self.seed, self.temperature = seed, temperature
        self.covers = {asset.asset: Cover(asset, self) for asset in assets if asset.kind == "manhole"}


def _number(asset: Asset, attribute: str, otherwise: float) -> float:
    return asset.number(attribute) if attribute in asset.attributes else otherwise


def _camber(asset: Asset) -> tuple[float, float]:
    """How a cover lay when it was installed: degrees from level, and towards where (radians)."""
    if "baseline_x" in asset.attributes:
        x, y = (math.sin(math.radians(asset.number(f"baseline_{axis}"))) for axis in "xy")
        return math.degrees(math.asin(min(1.0, math.hypot(x, y)))), math.atan2(y, x)
    return _number(asset, "baseline_tilt", 0.0), 0.0
