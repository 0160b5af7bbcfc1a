"""What a broken sensor makes of the truth: it sticks, drifts, jumps, goes out of range, talks nonsense.

Pure: a fault is set at a second and ends at one; ``sensed`` is what the device believes. Which points a fault changes
is the device's main ones (``MAIN``); a device without any of them is not touched.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

# What a device is mounted for, first found first; the rest of its report stays as it is. Bridges have a tilt beside
# their strain, and gas, heat and dust stations a pressure beside what they are for.
MAIN = (
    "level",
    "depth",
    "power",
    "wetwell",
    "strain_mean",
    "tilt",
    "gas",
    "supply_temp",
    "pm10",
    "pressure",
    "gvw",
    "rain_1h",
)
OUT_OF_RANGE = 98_765.4


class Fault(StrEnum):
    """``sticks``: the same value for ever. ``drifts``: ``size`` units an hour. ``spikes``: now and then off by
    ``size``. ``out-of-range``: a value no such sensor can have. ``noisy``: ``size`` of noise."""

    STICKS = "sticks"
    DRIFTS = "drifts"
    SPIKES = "spikes"
    OUT_OF_RANGE = "out-of-range"
    NOISY = "noisy"


@dataclass(slots=True)
class _Broken:
    fault: Fault
    since: float
    size: float
    rng: random.Random
    held: dict[str, object] = field(default_factory=dict)


class Sensors:
    """Which sensors are broken, and how."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._broken: dict[str, _Broken] = {}

    def breaks(self, device: str, fault: Fault, at: float, size: float = 0.0) -> None:
        self._broken[device] = _Broken(fault, at, size, random.Random(f"{self._seed}:{device}:{fault}"))

    def is_mended(self, device: str) -> None:
        self._broken.pop(device, None)

    def fault(self, device: str) -> Fault | None:
        broken = self._broken.get(device)
        return None if broken is None else broken.fault

    def sensed(self, device: str, values: dict[str, object], at: float) -> dict[str, object]:
        """``values`` as the device has them."""
        broken = self._broken.get(device)
        if broken is None:
            return values
        name = next((point for point in MAIN if isinstance(values.get(point), (int, float))), None)
        if name is None:
            return values
        true = values[name]
        assert isinstance(true, (int, float))
        seen: object = true
        match broken.fault:
            case Fault.STICKS:
                seen = broken.held.setdefault(name, true)
            case Fault.DRIFTS:
                seen = round(true + broken.size * (at - broken.since) / 3600, 3)
            case Fault.SPIKES:
                seen = round(true + (broken.size if broken.rng.random() < 0.3 else 0.0), 3)
            case Fault.OUT_OF_RANGE:
                seen = OUT_OF_RANGE
            case Fault.NOISY:
                seen = round(true + broken.rng.gauss(0.0, broken.size), 3)
        return {**values, name: seen}
