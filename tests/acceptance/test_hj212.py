"""A dust station on a running gateway: its values, its ledger, its rejected telegrams, all as of any other device."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import yaml

from bench.faults.processes import free_port
from gateway.core import hj212
from tests.acceptance.running import running_gateway

CITY = {
    "assets": [{"asset": "site-1", "kind": "site"}],
    "devices": [
        {"device": "dust-1", "asset": "site-1", "profile": "generic/hj212-dust", "address": "A110000_0001"},
    ],
}


def telegram(pm25: str, station: str = "A110000_0001") -> bytes:
    now = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 8 * 3600))
    return hj212.wrap(
        f"QN={now}001;ST=22;CN=2011;PW=1;MN={station};Flag=5;CP=&&DataTime={now};a34004-Rtd={pm25},a34004-Flag=N&&"
    )


def spoiled(whole: bytes) -> bytes:
    """With every bit of its checksum the other way: a fixed wrong one is right now and then (the standard's low byte
    takes eight values only)."""
    return whole[:-6] + b"%04X\r\n" % (int(whole[-6:-2], 16) ^ 0xFFFF)


async def test_a_station_is_heard_acknowledged_and_accounted_for(tmp_path: Path) -> None:
    assets, port = tmp_path / "assets.yaml", free_port()
    assets.write_text(yaml.safe_dump(CITY), encoding="utf-8")
    async with running_gateway(tmp_path, {"hj212": [{"port": port}], "assets": [str(assets)]}) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for sent in (telegram("35.2"), telegram("36.1", "STRANGER")):
            writer.write(sent)
            async with asyncio.timeout(10):
                assert hj212.parse(await reader.readuntil(b"\r\n")).fields["CN"] == "9014"
        broken = spoiled(telegram("37"))
        writer.write(broken)
        ledger = await gateway.received(3)
        assert (ledger["stored"], ledger["rejected"], ledger["balanced"]) == (
            1, {"unknown_device": 1, "bad_payload": 1}, True,
        )  # fmt: skip
        [point] = await gateway.get("assets/site-1/points")
        assert (point["point"], point["value"], point["unit"]) == ("pm25", 35.2, "µg/m³")
        assert [one["name"] for one in await gateway.get("unknown-devices")] == ["STRANGER"]
        kept = (await gateway.get("rejected"))["items"][0]
        assert kept["payload_text"].encode() == broken
        writer.close()
        await gateway.process.kill()
        await gateway.start()
        assert (await gateway.received(3))["stored"] == 1
