"""Which covers still learn how they lie when all is well, and what they have learned.

A cover whose asset has no baseline learns one from its first 24 hours (``tilt.BaselineLearner``); the outcome becomes
attributes of the asset, as if somebody had written them into the asset file, and stays until a file says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.core.model import Asset, Micros, Quality, Reading
from gateway.core.tilt import BaselineLearner

KIND = "manhole"
PREFIX = "baseline_"
INCLINATIONS = ("angle_x", "angle_y", "angle_z")
PLAIN = ("tilt",)


def has_baseline(asset: Asset) -> bool:
    return any(name.startswith(PREFIX) for name in asset.attributes)


def with_learned(asset: Asset, known: Asset | None) -> Asset:
    """``asset`` as a file gives it, with the baseline that ``known`` has learned if the file names none."""
    if asset.kind != KIND or known is None or has_baseline(asset):
        return asset
    learned = {name: value for name, value in known.attributes.items() if name.startswith(PREFIX)}
    return msgspec.structs.replace(asset, attributes={**asset.attributes, **learned}) if learned else asset


class Baselines:
    """``learners`` is the whole state beside the assets; ``wanted`` names the covers that have none yet."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.learners: dict[str, BaselineLearner] = {}

    def assets_changed(self, assets: Iterable[Asset]) -> None:
        """Look again at these assets."""
        for asset in assets:
            if asset.kind == KIND and not has_baseline(asset):
                self.wanted.add(asset.asset)
            else:
                self.wanted.discard(asset.asset)
                self.learners.pop(asset.asset, None)

    def observe(self, asset_id: str, readings: Sequence[Reading], at: Micros) -> dict[str, float] | None:
        """The readings of one frame of a wanted cover; gives the baseline as attributes when it is learned."""
        good = {
            r.point: r.value
            for r in readings
            if r.quality is Quality.GOOD and not r.historical and isinstance(r.value, (int, float))
        }
        learner = self.learners.get(asset_id)
        if learner is None:
            names = INCLINATIONS if all(name in good for name in INCLINATIONS) else PLAIN
            if not all(name in good for name in names):
                return None
            learner = self.learners[asset_id] = BaselineLearner(names)
        values = tuple(float(good[name]) for name in learner.names if name in good)
        return learner.add(at, values) if len(values) == len(learner.names) else None
