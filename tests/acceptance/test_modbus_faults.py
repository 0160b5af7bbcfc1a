"""F41, F43–F46: pump stations whose PLCs misbehave, each in its own way, beside one that is well, seen through the API.

All really hold the same water level. While one lies, hangs or answers nonsense its points are bad with the reason; not
one value that it never had is ever stored as good, and the station beside it does not notice.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio
import yaml

from tests.acceptance.running import RunningGateway, running_gateway
from tests.sources.faulty_modbus import Away, FaultyModbus, Request, Script, faulty_modbus

LEVEL_MM = 1850
REGISTERS: list[int] = [
    0b11, 7, LEVEL_MM, 900, *struct.unpack(">2H", struct.pack(">f", 412.5)), 1200, 1, 0, 0,
    *(0b101, 305, 5000, 180, 0, 0, 1200, 0, 340, 0),
    *(0b100, 0, 0, 0, 0, 0, 900, 0, 280, 0),
    *(0b100, 0, 0, 0, 0, 0, 10, 0, 4, 0),
]  # fmt: skip


def well(request: Request) -> bytes:
    return request.answer(words=REGISTERS[request.address : request.address + request.count])


async def healthy(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return well(request)


async def hangs(_request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return None


async def answers_late(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
    """Long after anybody waits for it, and with a level that would be an alarm."""

    def too_late() -> None:
        if not writer.is_closing():
            writer.write(request.answer(words=[9_999] * request.count))

    asyncio.get_running_loop().call_later(0.7, too_late)
    return None


async def answer_of_an_earlier_request(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return request.answer(transaction=(request.transaction - 1) & 0xFFFF, words=[9_999] * request.count)


async def refuses(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return request.exception(request.number % 11 + 1)


async def another_unit(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return request.answer(unit=9, words=[9_999] * request.count)


async def too_short(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return request.answer(words=[9_999] * (request.count // 2))


async def another_function(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return request.answer(function_code=4, words=[9_999] * request.count)


async def closes_within_the_frame(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
    writer.write(request.answer(words=[9_999] * request.count)[:20])
    await writer.drain()
    raise Away


async def reboots_to_zeros(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return request.answer(words=[0] * request.count)


MISBEHAVIOURS: dict[str, tuple[Script, str]] = {
    "hangs": (hangs, "no answer within"),
    "answers late": (answers_late, "no answer within"),
    "an answer of an earlier request": (answer_of_an_earlier_request, ""),
    "exceptions": (refuses, "exception"),
    "answers as another unit": (another_unit, "unit"),
    "short": (too_short, ""),
    "another function": (another_function, ""),
    "closes within the frame": (closes_within_the_frame, ""),
    "reboots to zeros": (reboots_to_zeros, "restart"),
}


WANTED = 30.0  # seconds: a device that speaks again is read again by itself within these


class Stations:
    """The gateway, one PLC for each misbehaviour, and one that is always well ("fine")."""

    def __init__(self, gateway: RunningGateway, plcs: dict[str, FaultyModbus]) -> None:
        self.gateway = gateway
        self.plcs = plcs

    async def level(self, station: str) -> dict[str, Any]:
        points = {point["point"]: point for point in await self.gateway.get(f"assets/{station}/points")}
        return points.get("wetwell", {"quality": "none", "value": None, "reason": None})

    async def until_level(self, station: str, quality: str) -> dict[str, Any]:
        async def there() -> dict[str, Any] | None:
            level = await self.level(station)
            return level if level["quality"] == quality else None

        found: dict[str, Any] = await self.gateway.until(there, f"{station} is {quality}", WANTED)
        return found

    async def stored(self, station: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = await self.gateway.all_pages("readings", asset=station, point="wetwell")
        return items


@pytest_asyncio.fixture
async def stations(tmp_path: Path) -> AsyncIterator[Stations]:
    async with AsyncExitStack() as stack:
        names = [station_of(misbehaviour) for misbehaviour in MISBEHAVIOURS] + ["fine"]
        plcs = {name: await stack.enter_async_context(faulty_modbus(healthy)) for name in names}
        attributes = {"L1": 0.5, "L6": 4.0, "ground": 5.0, "start_level": 2.5}
        city = {
            "assets": [{"asset": name, "kind": "pump", "attributes": attributes} for name in names],
            "devices": [
                {
                    "device": f"plc-{name}", "asset": name, "profile": "generic/pump-station-3p",
                    "address": f"127.0.0.1:{plc.port}/1", "expected_interval": "1s",
                }
                for name, plc in plcs.items()
            ],
        }  # fmt: skip
        (tmp_path / "assets.yaml").write_text(yaml.safe_dump(city), encoding="utf-8")
        settings = {"mqtt": [], "modbus": {"timeout": "400ms"}, "assets": [str(tmp_path / "assets.yaml")]}
        yield Stations(await stack.enter_async_context(running_gateway(tmp_path, settings)), plcs)


def station_of(misbehaviour: str) -> str:
    return misbehaviour.replace(" ", "-")


async def test_a_plc_that_misbehaves_is_bad_with_its_reason_and_never_wrong(stations: Stations) -> None:
    names = [station_of(misbehaviour) for misbehaviour in MISBEHAVIOURS]
    for name in (*names, "fine"):
        assert (await stations.until_level(name, "good"))["value"] == LEVEL_MM / 1000
    before = len(await stations.stored("fine"))
    for misbehaviour, (script, _) in MISBEHAVIOURS.items():
        stations.plcs[station_of(misbehaviour)].script = script
    for misbehaviour, (_, says) in MISBEHAVIOURS.items():
        level = await stations.until_level(station_of(misbehaviour), "bad")
        assert level["value"] is None, misbehaviour
        assert says in level["reason"], misbehaviour
    await asyncio.sleep(4.0)  # a few more cycles of it
    assert len(await stations.stored("fine")) - before >= 3, "the station that is well is read as before"
    for name in names:
        stations.plcs[name].script = healthy
    for name in names:
        assert (await stations.until_level(name, "good"))["value"] == LEVEL_MM / 1000, name

    for name in (*names, "fine"):
        stored = await stations.stored(name)
        assert {item["value"] for item in stored if item["quality"] == "good"} == {LEVEL_MM / 1000}, name
        assert all(item["reason"] for item in stored if item["quality"] == "bad"), name
        assert {item["quality"] for item in stored} == ({"good"} if name == "fine" else {"good", "bad"})
    raised = {alarm["alarm_id"].partition("/")[2] for alarm in await stations.gateway.all_pages("alarms")}
    assert raised <= {"station-stale"}, "what a liar says about the water wakes nobody"
    assert (await stations.gateway.get("ledger"))["balanced"]
    said = stations.gateway.process.log.read_text(encoding="utf-8")
    assert "pymodbus" not in said
    for name in names:
        # A PLC that answers zeros is well as far as the wire goes: that is for decoding to see.
        lines = 0 if name == station_of("reboots to zeros") else 2
        assert said.count(f'"device": "plc-{name}"') == lines, "one warning when it goes, one info when it comes"
