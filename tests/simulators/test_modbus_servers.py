"""The Modbus devices answer by the published maps: read back with a client, and with the map of the profile."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from pymodbus.client import AsyncModbusTcpClient

from simulators.city import MODBUS_DEVICES, build_city
from simulators.modbus_servers import ModbusServers
from simulators.physics import World

MAP = Path(__file__).parents[2] / "device_profiles" / "generic" / "pump-station-3p.yaml"


@pytest.fixture
def world() -> World:
    city = build_city(1, 20)
    world = World(city, 1)
    world.advance(600.0)
    return world


@pytest_asyncio.fixture
async def servers(world: World) -> AsyncIterator[ModbusServers]:
    async with ModbusServers(build_city(1, 20), world) as servers:
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
    assert set(servers.ports) == set(MODBUS_DEVICES)
    assert len(set(servers.ports.values())) == len(MODBUS_DEVICES)


async def test_a_pump_station_read_by_the_profiles_map_says_what_the_world_is(
    world: World, servers: ModbusServers
) -> None:
    station = world.stations["PS-02"]
    station.level_m, station.pumps[1].running, station.pumps[2].fault = 2.345, True, True
    station.pumps[0].running, station.pumps[2].running, station.pumps[0].hours = False, False, 70_000.4
    station.pumps[1].starts = 65_537
    words = await read(servers, "plc-02", 3, 0, 39)
    points = yaml.safe_load(MAP.read_text(encoding="utf-8"))["points"]
    found = {name: point_of(words, point) for name, point in points.items()}
    expected = {
        "mains": True, "remote": True, "float_high": False, "wetwell": 2.345, "outfall": 0.4, "flow": 720.0,
        "p1_run": False, "p1_current": 0.0, "p1_hours": 70_000, "p2_run": True, "p2_fault": False, "p2_auto": True,
        "p2_freq": 50.0, "p2_starts": 65_537, "p3_run": False, "p3_fault": True, "p3_auto": True,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["p2_current"] == pytest.approx(station.current_a, abs=0.05)
    assert words[7] == 1  # the map's version


async def test_a_controller_that_has_just_restarted_answers_zeros(world: World, servers: ModbusServers) -> None:
    world.stations["PS-01"].just_restarted = True
    assert await read(servers, "plc-01", 3, 0, 39) == [0] * 39


async def test_a_broken_level_sensor_shows_its_sentinel(world: World, servers: ModbusServers) -> None:
    world.stations["PS-01"].level_sensor_ok = False
    assert (await read(servers, "plc-01", 3, 2, 1)) == [65535]


async def test_answers_follow_the_world(world: World, servers: ModbusServers) -> None:
    before = await read(servers, "plc-03", 3, 1, 1)
    world.advance(world.now + 10)
    assert await read(servers, "plc-03", 3, 1, 1) == [(before[0] + 10) % 65536]


async def test_the_cabinet_meter_speaks_float32_high_word_first_on_function_code_4(servers: ModbusServers) -> None:
    # Document C.4: 230.2 V is 43 66 33 33.
    assert await read(servers, "meter-01", 4, 0, 2) == [0x4366, 0x3333]
    with pytest.raises(AssertionError, match="exception 1"):
        await read(servers, "meter-01", 3, 0, 2)


async def test_the_load_cell_weighs_in_hundredths_of_a_tonne(world: World, servers: ModbusServers) -> None:
    assert (await read(servers, "loadcell-01", 3, 8, 1))[0] & 0b10000111 == 0b10000010  # zero, two decimals
    world.bridges["bridge-02"].on_pad_t = 55.20
    assert await read(servers, "loadcell-01", 3, 80, 2) == [0x0000, 0x1590]
    assert (await read(servers, "loadcell-01", 3, 8, 1))[0] & 0b10000111 == 0b00000010


async def test_registers_outside_the_map_are_refused(servers: ModbusServers) -> None:
    with pytest.raises(AssertionError, match="exception 2"):
        await read(servers, "plc-01", 3, 38, 2)


async def test_a_port_in_use_is_said_as_such_and_leaves_nothing_open(world: World, servers: ModbusServers) -> None:
    taken = {"plc-02": servers.ports["plc-02"]}
    with pytest.raises(OSError, match="plc-02 cannot listen"):
        async with ModbusServers(build_city(1, 20), world, taken):
            pass
