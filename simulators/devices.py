"""The devices: what each one says about its asset, and in which words. Pure: no sockets, no clock.

``Voices`` has one voice a device: ``values`` is what it measures (canonical names, the sensor's noise on them),
``message`` the bytes it sends. The encoders are written from the published formats and the documents of the contract,
not from the gateway's decoders.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping
from typing import TypeAlias

from simulators import lorawan
from simulators.bridges import Bridge, Vehicle
from simulators.city import City, Device
from simulators.covers import Cover
from simulators.hj212 import CODES
from simulators.hj212 import Station as DustStation
from simulators.lighting import Feeder, Lamp
from simulators.messages import Message
from simulators.modbus_servers import registers_of
from simulators.nonsense import NONSENSE, telemetry
from simulators.sensors import OUT_OF_RANGE, Sensors
from simulators.stormwater import Pipe, RoadSurface
from simulators.weather import Weather
from simulators.world import World

Measured: TypeAlias = Callable[[float], dict[str, object]]
HJ212 = "hj212"  # stands where others have a topic

RAIN_H = (1, 3, 6, 12)
TIP_MM = 0.2


def seeded(seed: int, *names: object) -> random.Random:
    """A generator of its own for each thing."""
    return random.Random(":".join(map(str, (seed, *names))))


class Voices:
    """What the devices of a world say. ``device_ms``: what the true time of a second is to a device's clock."""

    def __init__(self, world: World, sensors: Sensors, start_ms: int, speed: float = 1.0) -> None:
        self.world, self.sensors = world, sensors
        self._start_ms, self._speed = start_ms, speed
        self._city: City = world.city
        self._kinds = {asset.asset: asset.kind for asset in world.city.assets}
        self._devices = {device.device: device for device in world.city.devices}
        self._network = lorawan.NetworkServer(world.radio, start_ms, speed=speed)
        self._measured = {d.device: self._measure(d) for d in world.city.devices if not d.is_modbus}
        self._registers = registers_of(world)
        self._sequences: dict[str, int] = {}

    def device_ms(self, device: str, at: float) -> int:
        """What a device's clock shows at simulated second ``at``: epoch milliseconds."""
        seconds = (at / self._speed) + self.world.radio.clock(device, at)
        return self._start_ms + round(seconds * 1000)

    def registers(self, device: str) -> bytes:
        """A Modbus device's registers from address 0 on, as it would answer now, big-endian."""
        words = self._registers[device]()
        return struct.pack(f">{len(words)}H", *words)

    def report(self, device_id: str, at: float, what: str = "telemetry") -> Message:
        """What a device says of its own accord; ``what`` may name a nonsense of ``nonsense.NONSENSE`` instead."""
        values = self.sensors.sensed(device_id, self._measured[device_id](at), at)
        return self._message(self._devices[device_id], at, values, what)

    def say(self, device_id: str, at: float, values: dict[str, object]) -> Message:
        """A message of a device with just these values: an event, not its periodic report."""
        return self._message(self._devices[device_id], at, values, "telemetry")

    def crossing(self, device_id: str, at: float, vehicle: Vehicle) -> Message:
        """A vehicle crosses the weighing strip."""
        return self.say(device_id, at, vehicle_values(vehicle))

    def from_a_stranger(self, at: float) -> Message:
        """A device that nobody has registered."""
        sequence = self._next("lv-99")
        payload = telemetry(self.device_ms("lv-99", at), sequence, {"level": 0.5})
        return Message(at, "lv-99", sequence, "citywatch/v1/pipe/lv-99/telemetry", payload, "unknown-device")

    def as_history(self, message: Message, at: float) -> Message:
        """A kept message as its device sends it after an outage (a ``radio.Marker``)."""
        device = self._devices[message.device]
        if device.profile in lorawan.HISTORY_PROFILES:
            return self._network.as_history(message, at)
        if device.is_lorawan or not message.payload.endswith(b"}"):
            return message
        return Message(message.at, message.device, message.sequence, message.topic,
                       message.payload[:-1] + b',"historical":true}', message.what)  # fmt: skip

    # -- in which words -----------------------------------------------------------------------------------------------

    def _message(self, device: Device, at: float, values: dict[str, object], what: str) -> Message:
        sequence = self._next(device.device)
        ms = self.device_ms(device.device, at)
        if device.is_hj212:
            numbers = {name: value for name, value in values.items() if name in CODES and isinstance(value, float)}
            telegram = DustStation(device.address).real_time(ms, numbers)
            return Message(at, device.device, sequence, HJ212, telegram.data, what)
        if device.is_lorawan and what == "telemetry":
            attributes = {
                name: value for name, value in self._city.asset(device.asset).attributes.items()
                if isinstance(value, (int, float))
            }  # fmt: skip
            # No frame has room for a number that no such sensor can have: the device says that its sensor has failed.
            held = {name: None if value == OUT_OF_RANGE else value for name, value in values.items()}
            frame = lorawan.encode(device.profile, held, attributes)
            return self._network.uplink(device.device, device.profile, at, sequence, frame)
        payload = NONSENSE.get(what, telemetry)(ms, sequence, values)
        if device.is_lorawan:
            topic = self._network.topic(device.device)
        else:
            topic = f"citywatch/v1/{self._kinds[device.asset]}/{device.device}/telemetry"
        return Message(at, device.device, sequence, topic, payload, what)

    def _next(self, device_id: str) -> int:
        sequence = self._sequences.get(device_id, 0) + 1
        self._sequences[device_id] = sequence
        return sequence

    # -- what it measures ---------------------------------------------------------------------------------------------

    def _measure(self, device: Device) -> Measured:
        world, rng, asset = self.world, seeded(self.world.seed, device.device, "noise"), device.asset
        match self._kinds[asset]:
            case "lamp":
                lamp = world.lighting.lamps[asset]
                return lambda at: lamp_values(lamp, rng)
            case "feeder":
                feeder = world.lighting.feeders[asset]
                return lambda at: feeder_values(feeder, rng)
            case "manhole":
                cover = world.covers.covers[asset]
                if device.is_lorawan:
                    return lambda at: tilt_sensor_values(cover)
                return lambda at: cover_values(cover, rng)
            case "pipe":
                pipe = world.drains.pipes[asset]
                if device.is_lorawan:
                    return lambda at: {"level": round(max(0.0, pipe.level_m), 2), "battery": 92.0}
                return lambda at: pipe_values(pipe, rng)
            case "road":
                road = world.drains.roads[asset]
                return lambda at: road_values(road, rng)
            case "rain":
                gauge = RainGauge(world.weather)
                return gauge.values
            case "bridge":
                bridge = world.bridges.bridges[asset]
                return lambda at: bridge_values(bridge, at, device.interval_s, rng)
            case _:
                thing = world.utilities.things[asset]
                return lambda at: rounded(thing.values(at))


def rounded(values: Mapping[str, bool | int | float | str]) -> dict[str, object]:
    """To a hundredth, as such devices report."""
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in values.items()}


def lamp_values(lamp: Lamp, rng: random.Random) -> dict[str, object]:
    """A lamp controller's report; it lives for minutes on its capacitor when the mains are gone."""
    power = lamp.power_w * rng.uniform(0.99, 1.01)
    voltage = lamp.voltage_v
    voltage += rng.uniform(-0.5, 0.5) if voltage else 0.0
    return {
        "on": power > 0,
        "cmd_on": lamp.commanded,
        "dim": lamp.dim,
        "power": round(power, 1),
        "voltage": round(voltage, 1),
        "current": round(power / (voltage * lamp.pf), 3) if voltage else 0.0,
        "pf": round(lamp.pf + rng.uniform(-0.005, 0.005), 3) if power else 0.0,
        "energy": round(lamp.energy_kwh, 3),
        "burn_hours": round(lamp.burn_hours, 2),
        "temp": round(31.0 + (12.0 if power else 0.0) + rng.uniform(-1, 1), 1),
    }


def feeder_values(feeder: Feeder, rng: random.Random) -> dict[str, object]:
    """A lighting cabinet's report: three phases, contactor, mains, leakage."""
    values: dict[str, object] = {}
    for phase, volts, amperes in zip("abc", feeder.voltages, feeder.currents, strict=True):
        values[f"voltage_{phase}"] = round(volts + (rng.uniform(-0.5, 0.5) if volts else 0.0), 1)
        values[f"current_{phase}"] = round(amperes * rng.uniform(0.99, 1.01), 2)
    load = feeder.load_w
    return (
        values
        | {
            "power": round(load / 1000, 3),
            "energy": round(feeder.energy_kwh, 3),
            "pf": round(feeder.pf, 3) if load else 0.0,
            "leak": round(feeder.leak_ma * rng.uniform(0.97, 1.03), 1),
            "contactor": feeder.contactor,
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
        "cover": cover.state.value,
        "water": cover.water,
        "battery": round(cover.battery, 1),
        "temp": round(22.0 + rng.uniform(-0.5, 0.5), 1),
        "rssi": rng.randint(-95, -70),
    }


def tilt_sensor_values(cover: Cover) -> dict[str, object]:
    """A three-axis tilt sensor: the angles to the horizontal, and whether it is past its own threshold."""
    x, y, z = cover.inclinations
    values: dict[str, object] = {"battery": float(round(cover.battery)), "angle_x": x, "angle_y": y, "angle_z": z}
    passed = "trigger" if cover.tilt > 15 else "normal"
    return values | {f"threshold_{axis}": passed for axis in "xyz"}


def pipe_values(pipe: Pipe, rng: random.Random) -> dict[str, object]:
    return {
        "level": round(max(0.0, pipe.level_m + rng.uniform(-0.003, 0.003)), 3),
        "flow": round(pipe.flow_m3_h, 1),
        "velocity": round(pipe.velocity_m_s, 2),
        "temp": round(18.0 + rng.uniform(-0.1, 0.1), 1),
    }


def road_values(road: RoadSurface, rng: random.Random) -> dict[str, object]:
    depth = road.depth_cm + (rng.uniform(-0.1, 0.1) if road.depth_cm else 0.0)
    return {"depth": round(max(0.0, depth), 1), "battery": 88.0}


class RainGauge:
    """A tipping bucket of 0.2 mm: it reports the tips since its last report, and sums over its own memory."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._counted = 0

    def values(self, at: float) -> dict[str, object]:
        tips = self._tips(at)
        fallen, self._counted = tips - self._counted, tips
        sums: dict[str, object] = {
            f"rain_{hours}h": round((tips - self._tips(at - hours * 3600)) * TIP_MM, 1) for hours in RAIN_H
        }
        return {
            "rain": round(fallen * TIP_MM, 1),
            "intensity": round(self._weather.intensity(at), 1),
            **sums,
            "total": round(tips * TIP_MM, 1),
        }

    def _tips(self, at: float) -> int:
        """Since the start of the world, and the day before it."""
        return int(self._weather.fallen_mm(-86_400.0, at) / TIP_MM + 1e-9)


def bridge_values(bridge: Bridge, at: float, interval_s: float, rng: random.Random) -> dict[str, object]:
    """The statistics of a bridge's sensors over its interval."""
    minute = bridge.minute(at, interval_s)
    return {
        "strain": round(minute.strain.max + rng.uniform(-0.8, 0.8), 2),
        "strain_mean": round(bridge.strain_mean_at(at) + rng.uniform(-0.4, 0.4), 2),
        "deflection": round(minute.deflection.max + rng.uniform(-0.05, 0.05), 3),
        "tilt": round(bridge.tilt_at(at) + rng.uniform(-0.001, 0.001), 4),
        "crack": round(bridge.crack_at(at), 3),
        "accel_rms": round(minute.accel_rms, 5),
        "temp": round(bridge.structure_c(at), 2),
        "wind": round(max(0.0, 2.4 + rng.gauss(0, 0.5)), 1),
    }


def vehicle_values(vehicle: Vehicle) -> dict[str, object]:
    """What the weighing strip says of one vehicle. No plates: no rule needs them."""
    axles = [round(axle, 2) for axle in vehicle.axles_t]
    return {
        "lane": vehicle.lane,
        "speed": round(vehicle.speed_km_h, 1),
        "class": vehicle.code,
        "axles": axles,
        "gvw": round(sum(axles), 2),
    }
