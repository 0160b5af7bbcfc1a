"""The Chinese map coordinates GCJ-02 and our WGS-84, by the published formula: some hundred metres apart.

Everything that is kept here is WGS-84. Positions become GCJ-02 only on their way to somebody who draws or counts in it.
"""

from __future__ import annotations

import math

_AXIS_M = 6_378_245.0  # semi-major axis of Krasovsky 1940
_EE = 0.006693421622965943  # its first eccentricity, squared
_CLOSE = 1e-9  # degrees, a tenth of a millimetre
_ROUNDS = 10  # each is some thousand times closer than the one before


def to_gcj02(longitude: float, latitude: float) -> tuple[float, float]:
    """Degrees WGS-84 → degrees GCJ-02; outside China nothing is shifted."""
    if not (72.004 <= longitude <= 137.8347 and 0.8293 <= latitude <= 55.8271):
        return longitude, latitude
    x, y = longitude - 105.0, latitude - 35.0
    waves = 20 * math.sin(6 * x * math.pi) + 20 * math.sin(2 * x * math.pi)
    root_x = math.sqrt(abs(x))
    north = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root_x
    north += (waves + 20 * math.sin(y * math.pi) + 40 * math.sin(y / 3 * math.pi)) * 2 / 3
    north += (160 * math.sin(y / 12 * math.pi) + 320 * math.sin(y / 30 * math.pi)) * 2 / 3
    east = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root_x
    east += (waves + 20 * math.sin(x * math.pi) + 40 * math.sin(x / 3 * math.pi)) * 2 / 3
    east += (150 * math.sin(x / 12 * math.pi) + 300 * math.sin(x / 30 * math.pi)) * 2 / 3
    radians = math.radians(latitude)
    magic = 1 - _EE * math.sin(radians) ** 2
    root = math.sqrt(magic)
    return (
        longitude + east * 180 / (_AXIS_M / root * math.cos(radians) * math.pi),
        latitude + north * 180 / (_AXIS_M * (1 - _EE) / (magic * root) * math.pi),
    )


def from_gcj02(longitude: float, latitude: float) -> tuple[float, float]:
    """Degrees GCJ-02 → degrees WGS-84, to a tenth of a millimetre: the formula has no inverse, so it is approached."""
    x, y = longitude, latitude
    for _ in range(_ROUNDS):
        there = to_gcj02(x, y)
        off_x, off_y = longitude - there[0], latitude - there[1]
        x, y = x + off_x, y + off_y
        if abs(off_x) < _CLOSE and abs(off_y) < _CLOSE:
            break
    return x, y
