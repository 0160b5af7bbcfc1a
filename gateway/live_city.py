"""The city in memory, as the console's map and overview read it: registry, engine and what stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.core.model import Asset, Device, Transition
from gateway.core.points import PointState
from gateway.core.processor import Processor
from gateway.core.standing import Standing


class LiveCity:
    """Implements ``console.port.City``. ``processor`` gives the one in use: recovery makes another."""

    def __init__(self, processor: Callable[[], Processor]) -> None:
        self._processor = processor
        self._standing: Standing | None = None

    @property
    def version(self) -> int:
        return self._processor().registry.version

    @property
    def standing(self) -> Standing:
        if self._standing is None:
            # The engine may be a step ahead of what is recorded; that step is on its way, and comes as well.
            engine = self._processor().engine
            self._standing = Standing(engine.alarms() if engine is not None else ())
        return self._standing

    def count(self, transitions: Sequence[Transition]) -> None:
        """These were committed."""
        if self._standing is not None:
            for transition in transitions:
                self._standing.take(transition.record)

    def assets(self) -> Sequence[Asset]:
        return list(self._processor().registry.assets())

    def asset(self, asset_id: str) -> Asset | None:
        return self._processor().registry.asset(asset_id)

    def named_by(self, asset_id: str) -> Sequence[tuple[str, str]]:
        return list(self._processor().registry.named_by(asset_id))

    def point(self, asset_id: str, point: str) -> PointState | None:
        engine = self._processor().engine
        return engine.point(asset_id, point) if engine is not None else None

    def devices(self) -> Sequence[Device]:
        return list(self._processor().registry.devices())

    def quiet(self, asset_id: str) -> float | None:
        engine = self._processor().engine
        return engine.quiet(asset_id) if engine is not None else None

    def heard(self, device_id: str, intervals: float) -> bool | None:
        engine = self._processor().engine
        return engine.heard(device_id, intervals) if engine is not None else None
