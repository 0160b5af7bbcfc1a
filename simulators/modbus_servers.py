"""The Modbus TCP side of the city: the pump stations' controllers, a cabinet meter and a load cell, a port each.

Register maps: ``device_profiles/generic/pump-station-3p.yaml`` (its comment is the map), Eastron SDM630 (input
registers, float32, high word first) and the four-wire load-cell transmitter (holding registers, int32, high word
first). Every request is answered with what the world is at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.bridges import Bridge
from simulators.city import MODBUS_UNIT
from simulators.stormwater import Station
from simulators.world import World

STATION_WORDS = 39
METER_WORDS = 0x160
LOAD_CELL_WORDS = 86

_METER_POINTS = {
    "voltage_a": 0x00, "voltage_b": 0x02, "voltage_c": 0x04, "current_a": 0x06, "current_b": 0x08, "current_c": 0x0A,
    "power_a": 0x0C, "power_b": 0x0E, "power_c": 0x10, "pf_a": 0x1E, "pf_b": 0x20, "pf_c": 0x22, "power": 0x34,
    "pf": 0x3E, "frequency": 0x46, "import": 0x48, "total": 0x156,
}  # fmt: skip


def station_words(station: Station) -> list[int]:
    """Holding registers 0–38 of a pump station's controller. All zero just after a restart."""
    words = [0] * STATION_WORDS
    if station.just_restarted:
        return words
    float_wet = station.level_m >= station.asset.number("L6")
    words[0] = int(station.mains) | 0b10 | float_wet << 2
    words[1] = station.life
    sensed = station.sensed_m
    words[2] = 65535 if sensed is None else min(65534, round(sensed * 1000))
    words[3] = round(station.outfall_m * 1000) & 0xFFFF
    words[4:6] = _float32(station.flow_m3_h)
    words[6] = round(10 * (62.0 if station.flow_m3_h else 4.0))
    words[7] = 1
    for number, pump in enumerate(station.pumps):
        current = station.pump_current_a(pump)
        # Three phases at 400 V, power factor 0.86.
        power_kw = current * 400 * 3**0.5 * 0.86 / 1000
        words[10 + 10 * number : 19 + 10 * number] = [
            int(pump.running) | pump.fault << 1 | pump.auto << 2,
            round(current * 10),
            5000 if pump.running else 0,
            round(power_kw * 10),
            pump.code,
            *_uint32(int(pump.hours)),
            *_uint32(pump.starts),
        ]
    return words


def meter_words(world: World) -> list[int]:
    """Input registers of the cabinet's energy meter: all feeders of the city hang on it."""
    feeders = world.lighting.feeders.values()
    watts = sum(feeder.load_w for feeder in feeders)
    voltage = 230.2
    values = {f"voltage_{phase}": voltage for phase in "abc"}
    values |= {f"power_{phase}": watts / 3 for phase in "abc"}
    values |= {f"current_{phase}": watts / 3 / voltage / 0.96 for phase in "abc"}
    values |= {f"pf_{phase}": 0.96 for phase in "abc"}
    energy = 52_000.0 + sum(feeder.energy_kwh for feeder in feeders)
    values |= {"power": watts, "pf": 0.96, "frequency": 50.0, "import": energy, "total": energy}
    words = [0] * METER_WORDS
    for point, address in _METER_POINTS.items():
        words[address : address + 2] = _float32(values[point])
    return words


def load_cell_words(bridge: Bridge) -> list[int]:
    """Holding registers of the weighing pad: hundredths of a tonne; status (8) says two decimals, and zero."""
    weight = round(bridge.on_pad_t * 100)
    words = [0] * LOAD_CELL_WORDS
    words[8] = 2 | (weight == 0) << 7
    words[30:32] = words[80:82] = words[82:84] = _uint32(weight)
    words[44:46] = _uint32(8_000 + 37 * weight)
    return words


def _float32(value: float) -> list[int]:
    """Two words, high word first (ABCD)."""
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def _uint32(value: int) -> list[int]:
    return list(divmod(value, 65536))


def registers_of(world: World) -> dict[str, Callable[[], list[int]]]:
    """Every Modbus device's registers, as they would be read now."""
    return {device: words for device, (_, words) in _sources(world).items()}


def _plc(station: Station) -> Callable[[], list[int]]:
    """A controller's registers; one whose program stands still answers what they were."""
    last: list[int] = []

    def words() -> list[int]:
        nonlocal last
        if not station.frozen or not last:
            last = station_words(station)
        return last

    return words


def _sources(world: World) -> dict[str, tuple[int, Callable[[], list[int]]]]:
    """Device → (function code it answers, its registers now)."""
    sources: dict[str, tuple[int, Callable[[], list[int]]]] = {}
    for device in world.city.devices:
        match device.profile:
            case "generic/pump-station-3p":
                sources[device.device] = 3, _plc(world.drains.stations[device.asset])
            case "eastron/sdm630":
                sources[device.device] = 4, partial(meter_words, world)
            case "generic/load-cell":
                sources[device.device] = 3, partial(load_cell_words, world.bridges.bridges[device.asset])
    return sources


class ModbusServers:
    """All Modbus devices of the city, listening while the context is open.

    async with ModbusServers(world) as servers:
        servers.ports["plc-01"]
    """

    def __init__(
        self, world: World, ports: Mapping[str, int] | None = None, host: str = "127.0.0.1", speed: float = 1.0
    ) -> None:
        """``ports``: device → port wanted; without it each gets one that is free. ``speed``: of the city, for answers
        that are late."""
        self._host, self._speed = host, speed
        self._wanted = ports or {}
        self._slow = world.answers_after_s
        self._words = _sources(world)
        self._servers: dict[str, ModbusTcpServer] = {}
        self._over = asyncio.Event()  # nobody waits any longer for a slow answer
        self.requests = 0

    @property
    def ports(self) -> dict[str, int]:
        """Which port each device listens on."""
        found = {}
        for device, server in self._servers.items():
            assert isinstance(server.transport, asyncio.Server)
            found[device] = int(server.transport.sockets[0].getsockname()[1])
        return found

    async def __aenter__(self) -> ModbusServers:
        """Raises OSError when a port cannot be had."""
        try:
            for device, (function_code, words) in self._words.items():
                simulated = self._device(device, function_code, words)
                server = ModbusTcpServer(simulated, address=(self._host, self._wanted.get(device, 0)))
                try:
                    await server.serve_forever(background=True)
                except RuntimeError as error:
                    raise OSError(f"{device} cannot listen on {self._host}:{self._wanted.get(device, 0)}") from error
                self._servers[device] = server
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for server in self._servers.values():
            await server.shutdown()  # type: ignore[no-untyped-call]
        self._servers.clear()

    def _device(self, device: str, function_code: int, words: Callable[[], list[int]]) -> SimDevice:
        async def refresh(
            code: int, start: int, address: int, count: int, current: list[int], written: object
        ) -> ExcCodes | None:
            self.requests += 1
            if (seconds := self._slow.get(device)) is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(seconds / self._speed, 3600.0)):
                        await self._over.wait()
            if code != function_code:
                return ExcCodes.ILLEGAL_FUNCTION
            now = words()
            current[: len(now)] = now
            return None

        def bits() -> list[SimData]:
            return [SimData(0, values=[False] * 16, datatype=DataType.BITS, readonly=True)]

        def registers() -> list[SimData]:
            return [SimData(0, count=len(words()), datatype=DataType.REGISTERS, readonly=True)]

        # Holding and input registers are both there, so that the wrong function code is refused as such.
        return SimDevice(MODBUS_UNIT, simdata=(bits(), bits(), registers(), registers()), action=refresh)
