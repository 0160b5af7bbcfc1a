"""An engineer arrives with a gauge nobody registered: it is seen, claimed by one call, and its next message counts.

Through the embedded broker, which a LoRaWAN network server (ChirpStack's topics) uses as well. A device that takes
another's place on an asset goes on with the asset's history.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import yaml

from bench.faults.processes import free_port
from gateway.sources.broker import derived_password, secret_file
from tests.acceptance.running import RunningGateway, publisher, running_gateway

EUI = "24e124713d000001"
UPLINK = {"fPort": 85, "data": base64.b64encode(bytes.fromhex("01756403821E00")).decode(), "rxInfo": []}
CITY = {
    "assets": [
        {"asset": "pipe-1", "kind": "pipe", "attributes": {"mount_height": 3}},
        {"asset": "lamp-1", "kind": "lamp"},
    ],
    "devices": [{"device": "old-lc", "asset": "lamp-1", "profile": "generic/json-lamp"}],
}


async def values(gateway: RunningGateway, asset: str) -> dict[str, Any]:
    return {point["point"]: point["value"] for point in await gateway.get(f"assets/{asset}/points")}


async def test_a_stranger_is_seen_claimed_and_heard(tmp_path: Path) -> None:
    assets, port = tmp_path / "assets.yaml", free_port()
    assets.write_text(yaml.safe_dump(CITY), encoding="utf-8")
    broker = {"embedded": True, "port": port, "fleet_users": ["lora"], "networks": ["citywatch", "chirpstack"]}
    settings = {"mqtt": [broker], "assets": [str(assets)]}
    topic = f"application/7/device/{EUI}/event/up"
    async with running_gateway(tmp_path, settings) as gateway:
        secret = secret_file(gateway.data / "secrets" / "broker_secret")
        async with publisher(f"mqtt://127.0.0.1:{port}", "lora", derived_password(secret, "lora")) as client:
            await client.publish(topic, json.dumps(UPLINK).encode(), qos=1)
            await client.publish(topic, json.dumps(UPLINK).encode(), qos=1)
            await gateway.received(2)
            [stranger] = await gateway.get("unknown-devices")
            assert (stranger["name"], stranger["frames"], stranger["topic"]) == (EUI, 2, topic)
            kept = await gateway.get("rejected", device=EUI)
            assert json.loads(kept["items"][0]["payload_text"]) == UPLINK

            claim = f"unknown-devices/{EUI}/claim"
            for body, said in (
                ({"asset": "pipe-9", "profile": "milesight/em500-udl"}, "there is no asset `pipe-9`"),
                ({"asset": "pipe-1", "profile": "milesight/em500-ud"}, "did you mean `milesight/em500-udl`?"),
                ({"asset": "lamp-1", "profile": "milesight/em500-udl"}, "is for pipe, manhole, and lamp-1 is a lamp"),
            ):
                refused = await gateway.post(claim, body)
                assert refused.status_code == 422
                assert said in refused.json()["detail"]
            done = await gateway.post(
                claim,
                {"asset": "pipe-1", "profile": "milesight/em500-udl", "device": "gauge-1", "why": "installed today"},
            )
            assert done.status_code == 201, done.text
            assert (done.json()["device"], done.json()["address"]) == ("gauge-1", EUI)
            assert await gateway.get("unknown-devices") == []
            assert (await gateway.post(claim, {"asset": "pipe-1", "profile": "milesight/em500-udl"})).status_code == 409

            await client.publish(topic, json.dumps(UPLINK).encode(), qos=1)
            await gateway.received(3)
            assert (await values(gateway, "pipe-1"))["level"] == 2.97
            [line] = [one for one in (await gateway.get("audit"))["items"] if one["action"] == "claim"]
            assert (line["subject"], line["why"]) == ("gauge-1", "installed today")

            # A new controller on the same lamp: the asset's history goes on.
            for device, power in (("old-lc", 90), ("new-lc", 91)):
                if device == "new-lc":
                    await client.publish("citywatch/v1/lamp/new-lc/telemetry", b'{"power": 1}', qos=1)
                    await gateway.received(5)
                    taken = {"asset": "lamp-1", "profile": "generic/json-lamp"}
                    assert (await gateway.post("unknown-devices/new-lc/claim", taken)).status_code == 201
                body = json.dumps({"power": power}).encode()
                await client.publish(f"citywatch/v1/lamp/{device}/telemetry", body, qos=1)
            await gateway.received(6)

            async def both() -> bool:
                found = await gateway.get("readings", asset="lamp-1", point="power")
                return [row["value"] for row in found["items"]] == [90, 91]

            await gateway.until(both, "one history of both devices")

        url, path = f"mqtt://127.0.0.1:{port}", "devices/new-lc/credentials"
        first = derived_password(secret, "new-lc")
        async with publisher(url, "new-lc", first) as device:
            issued = await gateway.post(path, {})
            assert issued.status_code == 201, issued.text
            assert (issued.json()["user"], issued.json()["password"] != first) == ("new-lc", True)
            with pytest.raises(aiomqtt.MqttError):  # its connection was cut
                async with asyncio.timeout(10):
                    await anext(device.messages)
        with pytest.raises(aiomqtt.MqttError):
            async with publisher(url, "new-lc", first):
                pass
        second = issued.json()["password"]
        async with publisher(url, "new-lc", second) as device:
            await device.publish("citywatch/v1/lamp/new-lc/telemetry", b'{"power": 92}', qos=1)
        await gateway.received(7)
        async with gateway.client() as client:
            assert (await client.delete(path)).status_code == 204
        await gateway.process.kill()
        await gateway.start()
        with pytest.raises(aiomqtt.MqttError):
            async with publisher(url, "new-lc", second):
                pass
