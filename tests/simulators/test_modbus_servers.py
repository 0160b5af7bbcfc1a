"""The Modbus devices answer by the published maps: read back with a client, and with the map of the profile."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from simulators.modbus_servers import ModbusServers, registers_of
from simulators.weather import Weather
from simulators.world import World
from tests.simulators.playing import START, small_city

MAP = Path(__file__).parents[2] / "device_profiles" / "generic" / "pump-station-3p.yaml"
CITY = small_city()


@pytest.fixture
def world() -> World:
    """Whoever lets time pass in it opens it first: its drains have an engine of their own."""
    start = datetime.fromisoformat(START)
    return World(CITY, 1, start, Weather(), round(start.timestamp() * 1000))


@pytest_asyncio.fixture
async def servers(world: World) -> AsyncIterator[ModbusServers]:
    async with ModbusServers(world) as servers:
        yield servers


async def read(servers: ModbusServers, device: str, function_code: int, address: int, count: int) -> list[int]:
    """The words, as an ordinary client gets them; raises AssertionError with the exception's code."""
    client = AsyncModbusTcpClient("127.0.0.1", port=servers.ports[device], timeout=3, retries=0)
    assert await client.connect()
    try:
        method = client.read_holding_registers if function_code == 3 else client.read_input_registers
        answer = await method(address, count=count, device_id=1)
        assert not answer.isError(), f"exception {answer.exception_code}"
        return list(answer.registers)
    finally:
        client.close()


def point_of(words: list[int], point: dict[str, Any]) -> float | bool:
    """One point of the profile's map out of registers 0–38, decoded here by hand."""
    address = point["address"]
    if "bit" in point:
        return bool(words[address] >> point["bit"] & 1)
    sizes = {"uint16": ">H", "int16": ">h", "uint32": ">I", "float32": ">f"}
    form = sizes[point["type"]]
    raw = b"".join(word.to_bytes(2, "big") for word in words[address : address + struct.calcsize(form) // 2])
    value: float = struct.unpack(form, raw)[0]
    scale: float = point.get("scale", 1)
    return value * scale / (1000 if point.get("unit") == "mm" else 1)


async def test_every_modbus_device_listens_on_a_port_of_its_own(servers: ModbusServers) -> None:
    assert list(servers.ports) == CITY.modbus_devices
    assert len(set(servers.ports.values())) == len(CITY.modbus_devices) == 6


async def test_a_pump_station_read_by_the_profiles_map_says_what_the_world_is(
    world: World, servers: ModbusServers
) -> None:
    station = world.drains.stations["PS-02"]
    station.level_m, station.outfall_m, station.pumps[1].flow_m3_h = 2.345, 0.4, 720.0
    station.pumps[1].running, station.pumps[2].fault, station.pumps[2].code = True, True, 7
    station.pumps[0].running, station.pumps[2].running, station.pumps[0].hours = False, False, 70_000.4
    station.pumps[0].auto, station.pumps[1].starts = False, 65_537
    words = await read(servers, "plc-02", 3, 0, 39)
    points = yaml.safe_load(MAP.read_text(encoding="utf-8"))["points"]
    found = {name: point_of(words, point) for name, point in points.items()}
    expected = {
        "mains": True, "remote": True, "float_high": False, "wetwell": 2.345, "outfall": 0.4, "flow": 720.0,
        "p1_run": False, "p1_current": 0.0, "p1_hours": 70_000, "p1_auto": False, "p2_run": True, "p2_fault": False,
        "p2_auto": True, "p2_freq": 50.0, "p2_starts": 65_537, "p3_run": False, "p3_fault": True, "p3_auto": True,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["p2_current"] == pytest.approx(station.current_a, abs=0.05)
    assert words[7] == 1  # the map's version


async def test_a_station_without_mains_and_with_a_full_well_says_both(world: World, servers: ModbusServers) -> None:
    station = world.drains.stations["PS-03"]
    station.mains, station.level_m = False, station.asset.number("L6") + 0.1
    assert (await read(servers, "plc-03", 3, 0, 1))[0] & 0b101 == 0b100


async def test_a_controller_that_has_just_restarted_answers_zeros(world: World, servers: ModbusServers) -> None:
    world.drains.stations["PS-01"].just_restarted = True
    assert await read(servers, "plc-01", 3, 0, 39) == [0] * 39


async def test_a_broken_level_sensor_shows_its_sentinel(world: World, servers: ModbusServers) -> None:
    world.drains.stations["PS-01"].level_sensor = "failed"
    assert (await read(servers, "plc-01", 3, 2, 1)) == [65535]


async def test_answers_follow_the_world(world: World, servers: ModbusServers) -> None:
    before = await read(servers, "plc-03", 3, 1, 1)
    with world:
        assert list(world.advance(10)) == []
    assert await read(servers, "plc-03", 3, 1, 1) == [(before[0] + 10) % 65536]


async def test_a_controller_whose_program_stands_still_answers_what_it_was(
    world: World, servers: ModbusServers
) -> None:
    before = await read(servers, "plc-03", 3, 0, 39)
    station = world.drains.stations["PS-03"]
    station.frozen, station.level_m, station.mains = True, 3.21, False
    with world:
        assert list(world.advance(10)) == []
    assert await read(servers, "plc-03", 3, 0, 39) == before
    station.frozen = False
    assert await read(servers, "plc-03", 3, 0, 39) != before


async def test_a_device_that_never_answers_is_silent_and_the_others_are_not(
    world: World, servers: ModbusServers
) -> None:
    world.answers_after_s["plc-01"] = math.inf
    client = AsyncModbusTcpClient("127.0.0.1", port=servers.ports["plc-01"], timeout=0.3, retries=0)
    assert await client.connect()
    with pytest.raises(ModbusIOException, match="No response"):
        await client.read_holding_registers(0, count=1, device_id=1)
    client.close()
    assert await read(servers, "plc-02", 3, 7, 1) == [1]
    world.answers_after_s["plc-01"] = 0.05
    assert await read(servers, "plc-01", 3, 7, 1) == [1]


async def test_the_cabinet_meter_speaks_float32_high_word_first_on_function_code_4(
    world: World, servers: ModbusServers
) -> None:
    # Document C.4: 230.2 V is 43 66 33 33.
    assert await read(servers, "meter-01", 4, 0, 2) == [0x4366, 0x3333]
    watts = sum(feeder.load_w for feeder in world.lighting.feeders.values())
    assert watts > 1000
    words = await read(servers, "meter-01", 4, 0x34, 2)
    assert struct.unpack(">f", struct.pack(">HH", *words))[0] == pytest.approx(watts)
    with pytest.raises(AssertionError, match="exception 1"):
        await read(servers, "meter-01", 3, 0, 2)


async def test_the_load_cell_weighs_in_hundredths_of_a_tonne(world: World, servers: ModbusServers) -> None:
    bridge = world.bridges.bridges["bridge-02"]
    while bridge.on_pad_t:
        world.bridges.now += 1
    assert (await read(servers, "loadcell-01", 3, 8, 1))[0] & 0b10000111 == 0b10000010  # zero, two decimals
    bridge.overload(world.bridges.now, 55.2)
    weight = round(bridge.on_pad_t * 100)
    assert weight == pytest.approx(5520, abs=6)  # axles are rounded to tens of kilograms
    assert await read(servers, "loadcell-01", 3, 80, 2) == [0, weight]
    assert (await read(servers, "loadcell-01", 3, 8, 1))[0] & 0b10000111 == 0b00000010


async def test_registers_outside_the_map_are_refused(servers: ModbusServers) -> None:
    with pytest.raises(AssertionError, match="exception 2"):
        await read(servers, "plc-01", 3, 38, 2)


async def test_what_is_streamed_is_what_a_client_reads(world: World, servers: ModbusServers) -> None:
    words = registers_of(world)
    assert list(words) == CITY.modbus_devices
    assert words["plc-04"]() == await read(servers, "plc-04", 3, 0, 39)
    assert words["meter-01"]()[:40] == await read(servers, "meter-01", 4, 0, 40)


async def test_a_port_in_use_is_said_as_such_and_leaves_nothing_open(world: World, servers: ModbusServers) -> None:
    taken = {"plc-02": servers.ports["plc-02"]}
    second = ModbusServers(world, taken)
    with pytest.raises(OSError, match="plc-02 cannot listen"):
        async with second:
            pass
    assert second.ports == {}
