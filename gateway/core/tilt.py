"""How far a cover leans from where it was put: the angle between two gravity vectors, and learning the first of them.

Tilt sensors report three inclinations to the horizontal; their sines are the gravity vector in the sensor's own frame.
Axis-by-axis differences would mistake a sensor mounted askew for a tilted cover; the angle between vectors does not.
"""

from __future__ import annotations

from math import acos, degrees, radians, sin, sqrt
from statistics import median

import msgspec

from gateway.core.model import HOUR, Micros

LEARNING_TIME: Micros = 24 * HOUR
FEWEST_SAMPLES = 3  # a battery sensor speaks twice a day; the median of three ignores one kick
MOST_SAMPLES = 512  # above it every second sample goes: an hour's median needs no more


def gravity_length(x: float, y: float, z: float) -> float:
    """Length of the vector of three inclinations in degrees: 1 at rest, something else when the sensor is shaken."""
    return sqrt(sin(radians(x)) ** 2 + sin(radians(y)) ** 2 + sin(radians(z)) ** 2)


def tilt_between(x: float, y: float, z: float, x0: float, y0: float, z0: float) -> float:
    """Angle in degrees, 0–180, between the present inclinations and the baseline's (all in degrees).

    Raises ZeroDivisionError when one of the vectors has no length (no gravity: a dead sensor).
    """
    a = (sin(radians(x)), sin(radians(y)), sin(radians(z)))
    b = (sin(radians(x0)), sin(radians(y0)), sin(radians(z0)))
    lengths = sqrt(sum(p * p for p in a)) * sqrt(sum(p * p for p in b))
    cosine = sum(p * q for p, q in zip(a, b, strict=True)) / lengths
    return degrees(acos(max(-1.0, min(1.0, cosine))))


class BaselineLearner(msgspec.Struct):
    """Learns one cover's baseline as the median of its first 24 hours; the fields are its whole state (snapshot them).

    ``names`` are the points it learns from, and the attributes it will set: ("angle_x", "angle_y", "angle_z") →
    baseline_x/y/z, ("tilt",) → baseline_tilt. Feed it only good live readings.
    """

    names: tuple[str, ...]
    started_at: Micros | None = None
    samples: list[tuple[float, ...]] = []
    stride: int = 1
    skipped: int = 0

    def add(self, at: Micros, values: tuple[float, ...]) -> dict[str, float] | None:
        """One observation of all ``names`` at engine time ``at``. Returns the baseline as asset attributes once 24 h
        and three samples are there, else None."""
        if len(values) != len(self.names):
            raise ValueError(f"{len(values)} values for {self.names}")
        if self.started_at is None:
            self.started_at = at
        self.skipped += 1
        if self.skipped >= self.stride:
            self.skipped = 0
            self.samples.append(values)
            if len(self.samples) > MOST_SAMPLES:
                self.samples = self.samples[::2]
                self.stride *= 2
        if at - self.started_at < LEARNING_TIME or len(self.samples) < FEWEST_SAMPLES:
            return None
        return {
            f"baseline_{name.removeprefix('angle_')}": round(median(column), 4)
            for name, column in zip(self.names, zip(*self.samples, strict=True), strict=True)
        }
