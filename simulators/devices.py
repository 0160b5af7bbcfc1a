"""The devices: what each one says about its asset, when, and in which words. Pure: no sockets, no clock.

``Simulation`` is the whole city as one stream of messages and notes in the order of their time; the same (city, seed,
start, speed, scenario) gives the same bytes. The encoders are written from the published formats and the documents of
the contract, not from the gateway's decoders.
"""

from __future__ import annotations

import heapq
import itertools
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from simulators.city import City, Device
from simulators.faults import NONSENSE, Values, telemetry
from simulators.physics import Bridge, Cover, Feeder, Lamp, Pipe, RoadSurface, Vehicle, World, seeded

Snapshot: TypeAlias = Callable[[float], "dict[str, object]"]


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message. ``at``: seconds since the start, in simulated time. ``what``: "telemetry", or the name of the
    nonsense it is on purpose."""

    at: float
    device: str
    sequence: int
    topic: str
    payload: bytes
    what: str = "telemetry"


@dataclass(frozen=True, slots=True)
class Note:
    """Something the scenario did, for people and for the ledger. ``expect``: alarms (asset/rule) this should raise."""

    at: float
    fault: str
    asset: str
    step: str  # begin or end
    zh: str
    en: str
    expect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One act of a scenario: ``do`` changes the world; the devices in ``speak`` report at once. An act without a note
    only prepares another."""

    at: float
    note: Note | None
    do: Callable[[Simulation], None]
    speak: tuple[str, ...] = ()


Scenario: TypeAlias = Callable[["Simulation"], Iterator[Step]]


class Simulation:
    """The city's devices over time. ``start_ms``: wall-clock time of second 0. With ``speed`` 60 a simulated minute
    passes in a second; the devices' clocks run on the wall's time, so nothing they say is ahead of it.

    ``stranger``: a device nobody knows may also speak (needs credentials that allow it).
    """

    def __init__(
        self,
        city: City,
        seed: int,
        start_ms: int,
        speed: float = 1.0,
        scenario: Scenario | None = None,
        *,
        stranger: bool = True,
    ) -> None:
        self.city, self.seed, self.start_ms, self.speed = city, seed, start_ms, speed
        self.stranger = stranger
        self.world = World(city, seed)
        self.sequences: dict[str, int] = {}
        self._kinds = {asset.asset: asset.kind for asset in city.assets}
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[float], Iterator[Message | Note]]]] = []
        self._devices = {device.device: device for device in city.devices}
        self._snapshots = {d.device: self._snapshot_of(d) for d in city.devices if not d.is_modbus}
        for device in city.devices:
            if not device.is_modbus:
                phase = seeded(seed, device.device, "phase").uniform(0, device.interval_s)
                self._at(round(phase, 3), self._periodic(device))
        for bridge in self.world.bridges.values():
            self._at(bridge.rng.uniform(3, 12), self._traffic(bridge))
        if scenario is not None:
            self._play(scenario(self))

    @property
    def next_at(self) -> float:
        """When the next thing happens, in simulated seconds."""
        return self._due[0][0]

    def until(self, at: float) -> Iterator[Message | Note]:
        """Everything that happens up to ``at``, in order; the world is advanced on the way."""
        while self._due and self._due[0][0] <= at:
            due, _, happen = heapq.heappop(self._due)
            self.world.advance(due)
            yield from happen(due)
        self.world.advance(at)

    def device_ms(self, at: float) -> int:
        """What a device's clock shows at simulated second ``at``: epoch milliseconds."""
        return self.start_ms + round(at * 1000 / self.speed)

    def device_of(self, asset: str) -> str:
        """The first device mounted on an asset."""
        return next(device.device for device in self.city.devices if device.asset == asset)

    def report(self, device_id: str, at: float, what: str = "telemetry") -> Message:
        """What a device says now; ``what`` may name a nonsense of ``faults.NONSENSE`` instead."""
        device = self._devices[device_id]
        values = self._snapshots[device_id](at)
        sequence = self._next_sequence(device_id)
        if what == "telemetry" and device.profile == "milesight/em320-tilt":
            payload = em320_tilt(self.world.covers[device.asset])
        else:
            payload = NONSENSE.get(what, telemetry)(self.device_ms(at), sequence, values)
        return Message(at, device_id, sequence, self._topic(device), payload, what)

    def say(self, device_id: str, at: float, values: Values) -> Message:
        """A message of a device with just these values: an event, not its periodic report."""
        sequence = self._next_sequence(device_id)
        payload = telemetry(self.device_ms(at), sequence, values)
        return Message(at, device_id, sequence, self._topic(self._devices[device_id]), payload)

    def crossing(self, bridge_id: str, at: float, gvw_t: float | None = None) -> Message:
        """A vehicle crosses a bridge's weighing strip: an ordinary one, or one of that weight."""
        bridge = self.world.bridges[bridge_id]
        vehicle = bridge.vehicle(gvw_t)
        bridge.traffic_strain += 0.8 * vehicle.gvw_t
        return self.say(self.device_of(bridge_id), at, vehicle_values(vehicle))

    def from_a_stranger(self, at: float) -> Message:
        """A device that nobody has registered."""
        sequence = self._next_sequence("lv-99")
        payload = telemetry(self.device_ms(at), sequence, {"level": 0.5})
        return Message(at, "lv-99", sequence, "citywatch/v1/pipe/lv-99/telemetry", payload, "unknown-device")

    def soon(self, at: float, make: Callable[[float], Message]) -> None:
        """Let ``make`` speak at ``at``."""
        self._at(at, lambda now: iter((make(now),)))

    # the calendar

    def _at(self, at: float, happen: Callable[[float], Iterator[Message | Note]]) -> None:
        heapq.heappush(self._due, (at, next(self._order), happen))

    def _periodic(self, device: Device) -> Callable[[float], Iterator[Message | Note]]:
        def happen(at: float) -> Iterator[Message | Note]:
            self._at(at + device.interval_s, happen)
            yield self.report(device.device, at)

        return happen

    def _traffic(self, bridge: Bridge) -> Callable[[float], Iterator[Message | Note]]:
        """Vehicles, one about every 12 s; on the bridge with a weighing pad every other one stops on it."""
        has_pad = any(d.asset == bridge.asset.asset and d.is_modbus for d in self.city.devices)

        def leave(at: float) -> Iterator[Message | Note]:
            if at >= bridge.pad_until:
                bridge.on_pad_t = 0.0
            return iter(())

        def happen(at: float) -> Iterator[Message | Note]:
            self._at(at + 3 + bridge.rng.expovariate(1 / 9.0), happen)
            if not has_pad:
                yield self.crossing(bridge.asset.asset, at)
            elif not bridge.on_pad_t:
                bridge.on_pad_t, bridge.pad_until = bridge.vehicle().gvw_t, at + 8.0
                bridge.traffic_strain += 0.8 * bridge.on_pad_t
                self._at(bridge.pad_until, leave)

        return happen

    def _play(self, steps: Iterator[Step]) -> None:
        """Put the scenario's next act into the calendar; one at a time, so that a scenario may be endless."""
        step = next(steps, None)
        if step is None:
            return

        def happen(at: float) -> Iterator[Message | Note]:
            step.do(self)
            if step.note is not None:
                yield step.note
            for device_id in step.speak:
                yield self.report(device_id, at)
            self._play(steps)

        self._at(step.at, happen)

    # what they say

    def _next_sequence(self, device_id: str) -> int:
        sequence = self.sequences.get(device_id, 0) + 1
        self.sequences[device_id] = sequence
        return sequence

    def _topic(self, device: Device) -> str:
        return f"citywatch/v1/{self._kinds[device.asset]}/{device.address or device.device}/telemetry"

    def _snapshot_of(self, device: Device) -> Snapshot:
        world, rng = self.world, seeded(self.seed, device.device, "noise")
        kind, asset = self._kinds[device.asset], device.asset
        if kind == "lamp":
            lamp = world.lamps[asset]
            return lambda at: lamp_values(lamp, rng)
        if kind == "feeder":
            feeder = world.feeders[asset]
            return lambda at: feeder_values(feeder, rng)
        if kind == "manhole":
            cover = world.covers[asset]
            return lambda at: cover_values(cover, rng)
        if kind == "pipe":
            pipe = world.pipes[asset]
            return lambda at: pipe_values(pipe, rng)
        if kind == "road":
            road = world.roads[asset]
            return lambda at: road_values(road, rng)
        if kind == "rain":
            gauge = RainGauge(world, device.interval_s)
            return gauge.values
        bridge = world.bridges[asset]
        return lambda at: bridge_values(bridge, at, rng)


def lamp_values(lamp: Lamp, rng: random.Random) -> dict[str, object]:
    """A lamp controller's report; it lives for minutes on its capacitor when the mains are gone."""
    power = lamp.power_w * rng.uniform(0.98, 1.02)
    voltage = lamp.voltage_v + rng.uniform(-1, 1) if lamp.feeder.mains else 0.0
    return {
        "on": power > 0,
        "cmd_on": lamp.feeder.commanded,
        "dim": lamp.feeder.dim,
        "power": round(power, 1),
        "voltage": round(voltage, 1),
        "current": round(power / (voltage * 0.96), 3) if voltage else 0.0,
        "pf": round(0.96 + rng.uniform(-0.01, 0.01), 3) if power else 0.0,
        "energy": round(lamp.energy_kwh, 3),
        "burn_hours": round(lamp.burn_hours, 2),
        "temp": round(31.0 + (12.0 if power else 0.0) + rng.uniform(-1, 1), 1),
    }


def feeder_values(feeder: Feeder, rng: random.Random) -> dict[str, object]:
    """A lighting cabinet's report: three phases, contactor, mains, leakage."""
    live = 1.0 if feeder.mains else 0.0
    share_kw = feeder.load_w / 3000
    values: dict[str, object] = {
        f"voltage_{phase}": round(live * (226.0 + rng.uniform(-1.5, 1.5)), 1) for phase in "abc"
    }
    for phase in "abc":
        values[f"current_{phase}"] = round(share_kw * rng.uniform(0.97, 1.03) * 1000 / (226.0 * 0.96), 2)
    return (
        values
        | {
            "power": round(3 * share_kw, 3),
            "energy": round(feeder.energy_kwh, 3),
            "pf": 0.96 if share_kw else 0.0,
            "leak": round(live * feeder.leak_ma * rng.uniform(0.8, 1.2), 1),
            "contactor": feeder.lit,
            "cmd_on": feeder.commanded,
            "mains": feeder.mains,
            "door_open": feeder.door_open,
        }
        | ({"frequency": round(50.0 + rng.uniform(-0.03, 0.03), 2)} if feeder.mains else {})
    )


def cover_values(cover: Cover, rng: random.Random) -> dict[str, object]:
    """A cover sensor's report. ``tilt`` is how it leans from level; what it leaned when installed is the asset's."""
    return {
        "tilt": round(cover.lean + rng.uniform(-0.15, 0.15), 2),
        "cover": cover.state,
        "water": cover.water,
        "battery": round(cover.battery, 1),
        "temp": round(22.0 + rng.uniform(-0.5, 0.5), 1),
        "rssi": rng.randint(-95, -70),
    }


def em320_tilt(cover: Cover) -> bytes:
    """Milesight EM320-TILT's frame: battery (01 75) and three angles (03 D4), each (hundredths of a degree << 1) with
    bit 0 set where the threshold of 15° is passed; little-endian."""
    flag = int(cover.tilt > 15)
    words = ((round(angle * 100) << 1) | flag for angle in cover.inclinations)
    return struct.pack("<BBBBBhhh", 0x01, 0x75, round(cover.battery), 0x03, 0xD4, *words)


def pipe_values(pipe: Pipe, rng: random.Random) -> dict[str, object]:
    return {
        "level": round(max(0.0, pipe.level_m + rng.uniform(-0.003, 0.003)), 3),
        "flow": round(pipe.flow_m3_h, 1),
        "velocity": round(pipe.velocity_m_s, 2),
        "temp": round(18.0 + rng.uniform(-0.1, 0.1), 1),
    }


def road_values(road: RoadSurface, rng: random.Random) -> dict[str, object]:
    return {"depth": round(max(0.0, road.depth_cm + rng.uniform(-0.1, 0.1)), 1), "battery": 88.0}


class RainGauge:
    """A tipping bucket of 0.2 mm: it reports tips, and sums over its own memory."""

    def __init__(self, world: World, interval_s: int) -> None:
        self._world, self._interval_s = world, interval_s
        self._tips: list[tuple[float, float]] = []
        self._counted = 0.0

    def values(self, at: float) -> dict[str, object]:
        whole = int(self._world.rain.fallen_mm / 0.2) * 0.2
        fallen = round(whole - self._counted, 1)
        self._counted = whole
        if fallen:
            self._tips.append((at, fallen))
        self._tips = [(when, amount) for when, amount in self._tips if at - when < 12 * 3600]
        values: dict[str, object] = {
            f"rain_{hours}h": round(sum((amount for when, amount in self._tips if at - when < hours * 3600), 0.0), 1)
            for hours in (1, 3, 6, 12)
        }
        return {
            "rain": fallen,
            "intensity": round(self._world.rain.intensity(at), 1),
            **values,
            "total": round(whole, 1),
        }


def bridge_values(bridge: Bridge, at: float, rng: random.Random) -> dict[str, object]:
    """The minute's statistics of a bridge's sensors."""
    strain = bridge.strain_ue(at) + rng.uniform(-0.8, 0.8)
    return {
        "strain": round(strain, 2),
        "strain_mean": round(strain - bridge.traffic_strain / 2, 2),
        "deflection": round(0.4 + 0.03 * bridge.traffic_strain + rng.uniform(-0.05, 0.05), 3),
        "tilt": round(0.021 + rng.uniform(-0.001, 0.001), 4),
        "crack": 0.08,
        "accel_rms": round(0.004 + 0.0002 * bridge.traffic_strain, 5),
        "temp": round(bridge.temperature_c(at), 2),
        "wind": round(max(0.0, 2.4 + rng.gauss(0, 0.5)), 1),
    }


def vehicle_values(vehicle: Vehicle) -> dict[str, object]:
    """What the weighing strip says of one vehicle. No plates: no rule needs them."""
    return {"lane": vehicle.lane, "speed": vehicle.speed_km_h, "axles": vehicle.axles_t, "gvw": vehicle.gvw_t}
