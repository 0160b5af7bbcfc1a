"""A supervisor sets the speed of a pump: through the API to the device, and back as a reading."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.acceptance.running import RunningGateway, running_gateway

PATH = "devices/cim-1/points/p1_setpoint"


async def settings_of(folder: Path, port: int, *, allow_writes: bool) -> dict[str, Any]:
    city = {
        "assets": [{"asset": "station", "kind": "pump"}],
        "devices": [
            {"device": "cim-1", "asset": "station", "profile": "grundfos/cim", "address": f"127.0.0.1:{port}/1"}
        ],
    }
    (folder / "assets.yaml").write_text(yaml.safe_dump(city), encoding="utf-8")
    return {"mqtt": [], "modbus": {"allow_writes": allow_writes}, "assets": [str(folder / "assets.yaml")]}


async def setpoint(gateway: RunningGateway) -> Any:
    points = await gateway.get("assets/station/points")
    return next((point["value"] for point in points if point["point"] == "p1_setpoint"), None)


async def test_a_setpoint_reaches_the_pump_and_is_read_back(tmp_path: Path) -> None:
    words = [SimData(0, values=[0] * 400, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    server = ModbusTcpServer(SimDevice(1, simdata=(bits, bits, words, words)), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    listener: Any = server.transport
    port = listener.sockets[0].getsockname()[1]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.shutdown)
        settings = await settings_of(tmp_path, port, allow_writes=True)
        gateway = await stack.enter_async_context(running_gateway(tmp_path, settings))

        async def polled() -> bool:
            return bool(await gateway.get("assets/station/points"))

        await gateway.until(polled, "the pump is read")
        done = await gateway.post(PATH, {"value": 62.504, "why": "storm tonight"})
        assert (done.status_code, done.json()["value"]) == (200, 62.5)

        async def back() -> bool:
            return bool(await setpoint(gateway) == 62.5)

        # Much sooner than the interval of 10 s: the unit is asked again at once.
        await gateway.until(back, "the setpoint is read back", 5.0)
        for value, status in ((101, 422), ("full", 422), (True, 422)):
            assert (await gateway.post(PATH, {"value": value, "why": "w"})).status_code == status
        assert (await gateway.post("devices/cim-1/points/life", {"value": 1, "why": "w"})).status_code == 422
        assert (await gateway.post("devices/cim-2/points/life", {"value": 1, "why": "w"})).status_code == 404
        await server.shutdown()  # type: ignore[no-untyped-call]
        away = await gateway.post(PATH, {"value": 50, "why": "w"})
        assert away.status_code == 503, away.text
        outcomes = [line["outcome"] for line in await gateway.all_pages("audit") if line["action"] == "write-point"]
        assert outcomes[::2] == ["unavailable", "not_found", "invalid", "invalid", "invalid", "invalid", "done"]
        assert set(outcomes[1::2]) == {"asked"}


async def test_a_gateway_that_was_not_told_to_write_does_not(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, await settings_of(tmp_path, 9, allow_writes=False)) as gateway:
        refused = await gateway.post(PATH, {"value": 62.5, "why": "w"})
        assert (refused.status_code, refused.json()["code"]) == (403, "writes_off")
