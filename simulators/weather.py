"""The weather over the simulated city: design storms, showers, and how warm it is. Nothing here has a state.

Rain comes from functions whose integral is known, so that a rain gauge that tips exactly and a drain that is computed
in steps agree on how much has fallen. Times are seconds since the simulation began; intensities mm/h; depths mm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# 1 mm/min on one hectare is 10 m³/min = 166.7 L/s; the standards (GB 50014) print 167 and so do the formula tables.
L_S_HA_PER_MM_MIN = 167.0
HOTTEST_AT_S = 15 * 3600.0  # mid-afternoon, two to three hours after the sun stood highest
COLDEST_AT_S = 5 * 3600.0  # the hour before sunrise in summer


@dataclass(frozen=True, slots=True)
class IntensityFormula:
    """A town's storm formula q = 167·A1·(1 + C·lg P) ÷ (t + b)^n in L/(s·ha), t in minutes, P in years.

    ``verified``: somebody has seen the official publication; otherwise ``source`` says what is known.
    """

    a1: float
    c: float
    b: float
    n: float
    source: str
    verified: bool

    def strength(self, return_period: float) -> float:
        """The numerator of the mm/min form: A1·(1 + C·lg P)."""
        return self.a1 * (1 + self.c * math.log10(return_period))

    def l_s_ha(self, return_period: float, minutes: float) -> float:
        """The mean intensity of the strongest ``minutes`` of a storm of ``return_period`` years, in L/(s·ha)."""
        return L_S_HA_PER_MM_MIN * self.strength(return_period) / math.pow(minutes + self.b, self.n)

    def depth_mm(self, return_period: float, minutes: float) -> float:
        """How much falls in the strongest ``minutes`` of a storm of ``return_period`` years."""
        return minutes * self.l_s_ha(return_period, minutes) / L_S_HA_PER_MM_MIN


FORMULAS = {
    "jinan": IntensityFormula(
        1421.481 / L_S_HA_PER_MM_MIN, 0.932, 7.347, 0.617,
        source="Jinan, quoted from memory in the project's notes; no publication was found", verified=False,
    ),
    "jining": IntensityFormula(
        2451.987 / L_S_HA_PER_MM_MIN, 0.893, 16.249, 0.733,
        source="Jining, quoted from memory and less certain than Jinan's; ask the county's weather bureau",
        verified=False,
    ),
}  # fmt: skip


class Storm(Protocol):
    """Rain as a function of the seconds since it began."""

    @property
    def duration_s(self) -> float: ...

    def fallen_mm(self, after_s: float) -> float:
        """How much has fallen by then: 0 before it begins, all of it when it is over."""
        ...

    def intensity_mm_h(self, after_s: float) -> float:
        """How hard it rains at that moment: 0 outside the storm."""
        ...


@dataclass(frozen=True, slots=True)
class ChicagoStorm:
    """The storm whose every stretch around its peak is as strong as the formula says (Keifer and Chu 1957).

    ``peak_ratio`` r: the peak comes at r·T. On either side the depth between the peak and x minutes away is
    S(x, ρ) = ρ·(x/ρ)·a ÷ (x/ρ + b)^n with ρ = r before it and 1 − r after it; the intensity is its derivative.
    """

    formula: IntensityFormula
    return_period: float
    duration_min: float
    peak_ratio: float = 0.4

    @property
    def duration_s(self) -> float:
        return 60.0 * self.duration_min

    @property
    def peak_min(self) -> float:
        """When it rains hardest, in minutes after the beginning."""
        return self.peak_ratio * self.duration_min

    def depth_mm(self, minutes: float) -> float:
        """H(t): what has fallen ``minutes`` after the beginning."""
        minutes = min(max(minutes, 0.0), self.duration_min)
        before, after = self.peak_ratio, 1 - self.peak_ratio
        risen = self._side(self.peak_min, before)
        if minutes <= self.peak_min:
            return risen - self._side(self.peak_min - minutes, before)
        return risen + self._side(minutes - self.peak_min, after)

    def fallen_mm(self, after_s: float) -> float:
        return self.depth_mm(after_s / 60)

    def intensity_mm_h(self, after_s: float) -> float:
        minutes = after_s / 60
        if not 0 <= minutes <= self.duration_min:
            return 0.0
        share = self.peak_ratio if minutes <= self.peak_min else 1 - self.peak_ratio
        x = abs(minutes - self.peak_min) / share
        b, n = self.formula.b, self.formula.n
        return 60 * self.formula.strength(self.return_period) * ((1 - n) * x + b) / math.pow(x + b, n + 1)

    def bins(self, minutes: float) -> tuple[float, ...]:
        """The storm in equal pieces of so many minutes, mm each; the last one ends with the storm."""
        count = math.ceil(self.duration_min / minutes - 1e-9)
        edges = [self.depth_mm(number * minutes) for number in range(count + 1)]
        return tuple(late - early for early, late in itertools.pairwise(edges))

    def _side(self, minutes: float, share: float) -> float:
        """S(x, ρ)."""
        x = minutes / share
        return share * self.formula.strength(self.return_period) * x / math.pow(x + self.formula.b, self.formula.n)


@dataclass(frozen=True, slots=True)
class Shower:
    """An ordinary shower: a raised cosine that begins and ends with nothing; its total is peak × duration ÷ 2."""

    peak_mm_h: float
    duration_s: float

    @property
    def total_mm(self) -> float:
        return self.peak_mm_h * self.duration_s / 7200

    def fallen_mm(self, after_s: float) -> float:
        share = min(max(after_s / self.duration_s, 0.0), 1.0)
        return self.total_mm * (share - math.sin(2 * math.pi * share) / (2 * math.pi))

    def intensity_mm_h(self, after_s: float) -> float:
        share = after_s / self.duration_s
        return self.peak_mm_h * 0.5 * (1 - math.cos(2 * math.pi * share)) if 0 <= share <= 1 else 0.0


@dataclass(frozen=True, slots=True)
class Blocks:
    """A measured or tabulated rain: ``mm`` in each of equal pieces of ``piece_s`` seconds, steady within a piece."""

    mm: tuple[float, ...]
    piece_s: float

    @property
    def duration_s(self) -> float:
        return self.piece_s * len(self.mm)

    def fallen_mm(self, after_s: float) -> float:
        whole, rest = divmod(min(max(after_s, 0.0), self.duration_s), self.piece_s)
        begun = self.mm[int(whole)] * rest / self.piece_s if rest else 0.0
        return math.fsum((*self.mm[: int(whole)], begun))

    def intensity_mm_h(self, after_s: float) -> float:
        return self.mm[int(after_s / self.piece_s)] * 3600 / self.piece_s if 0 <= after_s < self.duration_s else 0.0


@dataclass(frozen=True, slots=True)
class Weather:
    """All rain of a simulation, and its temperatures.

    ``events``: (begins at, storm); they may overlap. ``local_midnight_offset_s``: the simulation's time at which a
    local day begins (any of them: −68,400 when it begins at 19:00). ``daily_swing_c``: between the coldest and the
    warmest hour.
    """

    events: Sequence[tuple[float, Storm]] = ()
    mean_temperature_c: float = 24.0
    daily_swing_c: float = 8.0
    local_midnight_offset_s: float = 0.0

    def intensity(self, at_s: float) -> float:
        """mm/h at that moment."""
        return sum(storm.intensity_mm_h(at_s - begins) for begins, storm in self.events)

    def fallen_mm(self, since_s: float, at_s: float) -> float:
        """What fell between two moments."""
        return sum(storm.fallen_mm(at_s - begins) - storm.fallen_mm(since_s - begins) for begins, storm in self.events)

    def dry_until(self, at_s: float) -> float:
        """When the next rain begins, as seen from ``at_s``: that moment itself when it rains, infinity for never."""
        begins = [max(at_s, start) for start, storm in self.events if at_s < start + storm.duration_s]
        return min(begins, default=math.inf)

    def temperature_c(self, at_s: float) -> float:
        """The air's temperature: half a cosine up from 05:00 to 15:00, half a cosine down to the next 05:00."""
        of_day = (at_s - self.local_midnight_offset_s) % 86400
        warming = HOTTEST_AT_S - COLDEST_AT_S
        since = (of_day - COLDEST_AT_S) % 86400
        if since <= warming:
            course = -math.cos(math.pi * since / warming)
        else:
            course = math.cos(math.pi * (since - warming) / (86400 - warming))
        return self.mean_temperature_c + 0.5 * self.daily_swing_c * course
