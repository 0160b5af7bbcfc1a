"""What goes wrong, when: the timelines a simulated city lives through.

``evening`` is the demo's: within its first three minutes a cover opens, a pump fails to start, a circuit loses its
supply, an overloaded truck crosses and a sensor talks nonsense; then everything is mended, and twenty minutes
later it begins again with other victims. ``calm`` is a city in which nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

from simulators.devices import Note, Scenario, Simulation, Step
from simulators.physics import seeded

Change: TypeAlias = Callable[[Simulation], None]

EVENING_S = 1200.0  # one round
NONSENSE_ORDER = ("nan", "nan-text", "wrong-types", "out-of-range", "truncated", "not-utf8", "year-1970")


def calm(simulation: Simulation) -> Iterator[Step]:
    """Nothing."""
    return iter(())


def evening(simulation: Simulation) -> Iterator[Step]:
    """Rounds of ``EVENING_S``, each with victims of its own; endless."""
    number = 0
    while True:
        yield from _Evening(simulation, number).steps()
        number += 1


SCENARIOS: dict[str, Scenario] = {"calm": calm, "evening": evening}


class _Evening:
    """One round: picks its victims, then tells its acts in order of time."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation = simulation
        self.begin_at = number * EVENING_S
        rng = seeded(simulation.seed, "evening", number)
        city, world = simulation.city, simulation.world
        plain = [d.asset for d in city.devices if d.profile == "generic/json-manhole"]
        lorawan = [d.asset for d in city.devices if d.profile == "milesight/em320-tilt"]
        self.opened, self.weak = rng.sample(plain, 2)
        self.tilted = rng.choice(lorawan)
        self.station = rng.choice(list(world.stations))
        self.feeder = rng.choice(list(world.feeders))
        others = [lamp.asset.asset for lamp in world.lamps.values() if lamp.feeder.asset.asset != self.feeder]
        self.dark = rng.choice(others)
        self.road = rng.choice(list(world.roads))
        self.gauge = rng.choice(list(world.pipes))
        self.times_limit = rng.uniform(1.55, 1.7)
        with_pad = {d.asset for d in city.devices if d.is_modbus}
        self.strip = next(bridge for bridge in world.bridges if bridge not in with_pad)
        self.pad = next(bridge for bridge in world.bridges if bridge in with_pad)

    def steps(self) -> Iterator[Step]:
        """All acts, in order."""
        acts = (
            self._rain, self._lamp, self._cover, self._battery, self._pump, self._tilt, self._flooded_road,
            self._circuit, self._trucks, self._nonsense,
        )  # fmt: skip
        return iter(sorted((step for act in acts for step in act()), key=lambda step: step.at))

    def _begin(
        self, after: float, fault: str, asset: str, words: tuple[str, str], do: Change, rule: str = "", **extra: bool
    ) -> Step:
        """A fault begins; ``words``: Chinese, English; ``rule`` is the one that should raise; ``speak=True``: the
        asset's device reports at once."""
        return self._step(after, fault, asset, "begin", words, do, (f"{asset}/{rule}",) if rule else (), **extra)

    def _end(self, after: float, fault: str, asset: str, words: tuple[str, str], do: Change, **extra: bool) -> Step:
        return self._step(after, fault, asset, "end", words, do, (), **extra)

    def _step(
        self,
        after: float,
        fault: str,
        asset: str,
        step: str,
        words: tuple[str, str],
        do: Change,
        expect: tuple[str, ...],
        speak: bool = False,
    ) -> Step:
        at = self.begin_at + after
        name = self.simulation.city.asset(asset).name
        note = Note(at, fault, asset, step, words[0].format(name), words[1].format(asset), expect)
        return Step(at, note, do, (self.simulation.device_of(asset),) if speak else ())

    def _rain(self) -> Iterator[Step]:
        peak_at = self.begin_at + 130
        shower = change(self.simulation.world.rain, peak_mm_h=38.0, peak_at=peak_at, width_s=55.0)
        yield self._begin(10, "rain", "rain-01", ("一阵阵雨开始", "a shower begins"), shower)

    def _lamp(self) -> Iterator[Step]:
        lamp, asset = self.simulation.world.lamps[self.dark], self.dark
        words = ("{}熄灭", "{} goes dark")
        yield self._begin(15, "lamp-out", asset, words, change(lamp, broken=True), "lamp-out", speak=True)
        words = ("{}已修复", "{} is repaired")
        yield self._end(700, "lamp-out", asset, words, change(lamp, broken=False), speak=True)

    def _cover(self) -> Iterator[Step]:
        cover, asset = self.simulation.world.covers[self.opened], self.opened
        words = ("{}被打开", "{} is opened")
        yield self._begin(30, "cover-open", asset, words, change(cover, tilt=64.0), "manhole-open", speak=True)
        words = ("{}已盖好", "{} is closed again")
        yield self._end(120, "cover-open", asset, words, change(cover, tilt=0.0), speak=True)

    def _battery(self) -> Iterator[Step]:
        cover, asset = self.simulation.world.covers[self.weak], self.weak
        words = ("{}电池电量低", "{} has a weak battery")
        yield self._begin(45, "battery-low", asset, words, change(cover, battery=14.0), "manhole-battery", speak=True)
        words = ("{}已换电池", "{} gets a new battery")
        yield self._end(300, "battery-low", asset, words, change(cover, battery=100.0), speak=True)

    def _pump(self) -> Iterator[Step]:
        """The controller's outputs hang while water comes in: from second 5 no pump starts, at second 50 the well
        stands 0.12 m above the start level."""
        station, asset = self.simulation.world.stations[self.station], self.station
        usual = station.inflow_m3_s

        def hang(simulation: Simulation) -> None:
            rise = station.asset.number("start_level") + 0.12 - station.level_m
            station.inflow_m3_s = max(0.05, rise * station.area_m2 / 45)
            for pump in station.pumps:
                pump.refuses, pump.running = True, False

        def run(simulation: Simulation) -> None:
            station.inflow_m3_s = usual
            for pump in station.pumps:
                pump.refuses = False

        yield Step(self.begin_at + 5, None, hang)
        words = ("{}水位超过启泵水位，水泵未启动", "{}: above the start level, no pump starts")
        yield self._begin(50, "pump-no-start", asset, words, change(station, inflow_m3_s=0.12), "pump-no-start")
        words = ("{}水泵恢复运行", "{}: the pumps run again")
        yield self._end(150, "pump-no-start", asset, words, run)

    def _tilt(self) -> Iterator[Step]:
        cover, asset = self.simulation.world.covers[self.tilted], self.tilted
        words = ("{}倾斜 22°", "{} tilts by 22°")
        yield self._begin(70, "cover-tilted", asset, words, change(cover, tilt=22.0), "manhole-tilted", speak=True)
        words = ("{}已复位", "{} is level again")
        yield self._end(200, "cover-tilted", asset, words, change(cover, tilt=0.0), speak=True)

    def _flooded_road(self) -> Iterator[Step]:
        surface, asset = self.simulation.world.roads[self.road], self.road
        for after, depth in ((40.0, 9.0), (85.0, 18.0)):
            words = (f"{{}}积水上涨至 {depth:g} 厘米", f"{{}}: the water rises to {depth:g} cm")
            yield self._begin(after, "road-water", asset, words, change(surface, target_cm=depth), "road-depth")
        words = ("{}积水消退", "{}: the water drains")
        yield self._end(240, "road-water", asset, words, change(surface, target_cm=0.0))

    def _circuit(self) -> Iterator[Step]:
        feeder, asset = self.simulation.world.feeders[self.feeder], self.feeder
        words = ("{}失电，回路路灯熄灭", "{} loses its supply, its lamps go dark")
        yield self._begin(80, "circuit-lost", asset, words, change(feeder, mains=False), "circuit-lost", speak=True)
        words = ("{}恢复供电", "{} is live again")
        yield self._end(230, "circuit-lost", asset, words, change(feeder, mains=True), speak=True)

    def _trucks(self) -> Iterator[Step]:
        world = self.simulation.world
        strip, pad = world.bridges[self.strip], world.bridges[self.pad]
        heavy = round(strip.asset.number("posted_limit") * self.times_limit, 1)
        over = round(pad.asset.number("posted_limit") * 1.15, 1)
        at = self.begin_at + 110

        def cross(simulation: Simulation) -> None:
            simulation.soon(at, lambda now: simulation.crossing(self.strip, now, heavy))

        words = (f"{heavy} 吨超载货车驶上{{}}", f"a truck of {heavy} t crosses {{}}")
        yield self._begin(110, "overload", self.strip, words, cross, "bridge-overload")
        words = (f"{over} 吨货车停上{{}}称重台", f"a truck of {over} t stands on the pad of {{}}")
        stand = change(pad, on_pad_t=over, pad_until=at + 72)
        yield self._begin(170, "overload", self.pad, words, stand, "bridge-overload")
        words = ("货车驶离{}称重台", "the truck leaves the pad of {}")
        yield self._end(182, "overload", self.pad, words, change(pad, on_pad_t=0.0))

    def _nonsense(self) -> Iterator[Step]:
        device = self.simulation.device_of(self.gauge)

        def speak(simulation: Simulation) -> None:
            for number, what in enumerate(NONSENSE_ORDER):
                make = partial(simulation.report, device, what=what)
                simulation.soon(self.begin_at + 130 + 2 * number, make)
            if simulation.stranger:
                simulation.soon(self.begin_at + 145, simulation.from_a_stranger)

        words = ("{}的液位计发送乱码", "the gauge of {} talks nonsense")
        yield self._begin(130, "nonsense", self.gauge, words, speak, "gauge-fault")
        words = ("{}的液位计恢复正常", "the gauge of {} speaks sense again")
        yield self._end(146, "nonsense", self.gauge, words, change(self.gauge))


def change(thing: object, **fields: float | bool) -> Change:
    """An act that sets public fields of a thing in the world."""

    def do(simulation: Simulation) -> None:
        for name, value in fields.items():
            setattr(thing, name, value)

    return do
