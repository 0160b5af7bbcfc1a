"""The whole city in motion: weather, drains, lighting, covers, bridges, utilities and radio, on one clock.

The parts know nothing of one another; what links them is here: rain wets the cables, a drain under pressure lifts the
covers on it, the day's temperature bends the bridges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType

from simulators.bridges import Bridges
from simulators.city import City
from simulators.covers import Covers
from simulators.lighting import Lighting, LightingPlan
from simulators.radio import Radio
from simulators.stormwater import Stormwater
from simulators.utilities import Utilities
from simulators.weather import Weather

DRIES_IN_S = 3 * 3600.0  # cables and joints stay wet for hours after the rain
SOAKED_MM = 4.0  # so much rain within that time, and everything is wet


class World:
    """Everything that has a state, while the context is open. ``now``: how far it has been advanced, seconds since
    ``start``. ``start_ms``: what a device's clock shows then."""

    def __init__(
        self, city: City, seed: int, start: datetime, weather: Weather, start_ms: int, plan: LightingPlan | None = None
    ) -> None:
        self.city, self.seed, self.start, self.weather = city, seed, start, weather
        self.now = 0.0
        temperature = weather.temperature_c
        self.drains = Stormwater(city, weather)
        self.lighting = Lighting(city.assets, plan or LightingPlan(), start, seed, self.wetness)
        self.covers = Covers(city.assets, seed, temperature)
        self.bridges = Bridges(city.assets, start, seed, temperature)
        self.utilities = Utilities(city.assets, start, seed, temperature, self.wetness)
        self.networks = [asset.asset for asset in city.of_kind("network")]
        self.radio = Radio(seed, start_ms, len(self.networks))
        self.answers_after_s: dict[str, float] = {}  # Modbus devices that are slow; infinity: they never answer
        self._over_drains = [
            (cover, asset.links["pipe"])
            for asset in city.of_kind("manhole")
            if "pipe" in asset.links
            for cover in [self.covers.covers[asset.asset]]
        ]
        self._lifted_at = -1.0
        self._stack = ExitStack()
        for device in city.devices:
            network = city.asset(device.asset).links.get("network")
            if network is not None and not device.is_modbus:
                self.radio.home_is(device.device, self.radio_gateway(network))

    def __enter__(self) -> World:
        self._stack.enter_context(self.drains)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def radio_gateway(self, network: str) -> str:
        """The radio's name for a network asset."""
        return self.radio.gateways[self.networks.index(network)]

    def hour_of_day(self, at: float) -> float:
        """The hour of the day, 0…24."""
        return self.bridges.hour_of_day(at)

    def wetness(self, at: float) -> float:
        """0 (dry) … 1 (soaked): by the rain of the last hours."""
        return min(1.0, self.weather.fallen_mm(at - DRIES_IN_S, at) / SOAKED_MM)

    def advance(self, to: float) -> Iterator[str]:
        """Let the time pass up to ``to``; gives the covers that something happened to on the way."""
        if to <= self.now:
            return
        while self.drains.now + self.drains.step_s <= to + 1e-9:
            self.drains.advance(self.drains.now + self.drains.step_s)
            at = self.drains.now
            if self.drains.run_until == self._lifted_at:
                continue  # no water has moved since
            self._lifted_at = self.drains.run_until
            for cover, pipe in self._over_drains:
                head = self.drains.surcharge_m(pipe)
                if (head > -1.0 or cover.water_at(at)) and cover.water_stands(at, -head):
                    self._now(at)
                    yield cover.asset.asset
        self._now(to)

    def _now(self, at: float) -> None:
        self.now = at
        self.lighting.now = self.covers.now = self.bridges.now = at
