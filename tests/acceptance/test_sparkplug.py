"""A Sparkplug node on a running gateway: asked for its birth, understood by alias afterwards, also across a kill."""

from __future__ import annotations

import asyncio
from pathlib import Path

import yaml

from bench.faults.processes import free_port
from gateway.core.sparkplug import parse
from gateway.sources.broker import derived_password, secret_file
from tests.acceptance.running import publisher, running_gateway
from tests.core.test_sparkplug import DOUBLE, UINT64, metric, payload

CITY = {
    "assets": [{"asset": "pipe-1", "kind": "pipe"}],
    "devices": [{"device": "gauge", "asset": "pipe-1", "profile": "generic/json-pipe"}],
}


async def test_a_node_is_asked_for_its_birth_and_understood_afterwards(tmp_path: Path) -> None:
    assets, port = tmp_path / "assets.yaml", free_port()
    assets.write_text(yaml.safe_dump(CITY), encoding="utf-8")
    broker = {"embedded": True, "port": port, "fleet_users": ["scada"], "networks": ["citywatch", "sparkplug"]}
    async with running_gateway(tmp_path, {"mqtt": [broker], "assets": [str(assets)]}) as gateway:
        secret = secret_file(gateway.data / "secrets" / "broker_secret")
        async with publisher(f"mqtt://127.0.0.1:{port}", "scada", derived_password(secret, "scada")) as node:
            await node.subscribe("spBv1.0/G/NCMD/E", qos=1)

            async def say(what: str, *metrics: bytes, seq: int) -> None:
                await node.publish(f"spBv1.0/G/{what}", payload(*metrics, seq=seq, time=None), qos=1)

            await say("DDATA/E/gauge", metric(alias=1, value=1.0), seq=5)
            async with asyncio.timeout(10):
                wish = await anext(node.messages)
            assert isinstance(wish.payload, bytes)
            assert [one.name for one in parse(wish.payload).metrics] == ["Node Control/Rebirth"]

            await say("NBIRTH/E", metric("bdSeq", value=1, datatype=UINT64), seq=0)
            await say("DBIRTH/E/gauge", metric("level", 1, 0.5, DOUBLE), seq=1)
            await say("DDATA/E/gauge", metric(alias=1, value=0.75), seq=2)
            await gateway.received(4)
            [point] = await gateway.get("assets/pipe-1/points")
            assert (point["point"], point["value"]) == ("level", 0.75)

        await gateway.process.kill()
        await gateway.start()
        async with publisher(f"mqtt://127.0.0.1:{port}", "scada", derived_password(secret, "scada")) as node:
            await node.publish("spBv1.0/G/DDATA/E/gauge", payload(metric(alias=1, value=0.8), seq=3, time=None), qos=1)
            ledger = await gateway.received(5)
            assert ledger["rejected"] == {"no_birth": 1}
            [point] = await gateway.get("assets/pipe-1/points")
            assert point["value"] == 0.8
