"""Nothing simulated can page a crew: two lamps break, one of them only in a simulator, and two receivers listen."""

from __future__ import annotations

import json
from pathlib import Path

from bench.faults.processes import free_port
from gateway.sources.broker import derived_password, secret_file
from simulators.witness import Witness
from tests.acceptance.running import publisher, running_gateway

ASSETS = """
assets:
  - {asset: lamp-1, kind: lamp, attributes: {rated_power: 100 W}}
  - {asset: lamp-s, kind: lamp, attributes: {rated_power: 100 W}, simulated: true}
devices:
  - {device: lamp-1, asset: lamp-1, profile: generic/json-lamp}
  - {device: lamp-s, asset: lamp-s, profile: generic/json-lamp}
"""
RULES = """
- rule: lamp-hot
  title: {zh: 灯温过高, en: Lamp too hot}
  applies_to: {kind: lamp}
  when: {point: temp, above: 80 °C, level: I}
  response: {zh: 断电, en: Switch it off}
"""


def told_of(witness: Witness) -> list[tuple[str, bool]]:
    """Alarm and provenance of every notification."""
    documents = [json.loads(body)["data"] for (body,) in witness.rows("body")]
    return [(document["alarm_id"], document["alarm"]["simulated"]) for document in documents]


async def test_each_side_is_told_of_its_own_lamp_and_a_simulator_cannot_speak_for_a_real_one(tmp_path: Path) -> None:
    (tmp_path / "assets.yaml").write_text(ASSETS, encoding="utf-8")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "hot.yaml").write_text(RULES, encoding="utf-8")
    port = free_port()
    async with Witness(tmp_path / "crew.db") as crew, Witness(tmp_path / "testers.db") as testers:
        settings = {
            "mqtt": [{"id": "main", "embedded": True, "port": port, "fleet_users": ["fleet"]}],
            "assets": [str(tmp_path / "assets.yaml")],
            "rules": [str(tmp_path / "rules")],
            "receivers": [
                {"name": "crew", "url": crew.url, "allow_loopback": True},
                {"name": "testers", "url": testers.url, "allow_loopback": True, "simulated": True},
            ],
        }
        async with running_gateway(tmp_path, settings) as gateway:
            secret = secret_file(gateway.data / "secrets" / "broker_secret")
            url = f"mqtt://127.0.0.1:{port}"
            async with publisher(url, "fleet", derived_password(secret, "fleet")) as client:
                for lamp, body in (
                    ("lamp-s", {"values": {"temp": 95}, "simulated": True}),
                    ("lamp-1", {"values": {"temp": 91}, "simulated": True}),  # refused: a real lamp
                    ("lamp-1", {"values": {"temp": 90}}),
                ):
                    await client.publish(f"citywatch/v1/lamp/{lamp}/telemetry", json.dumps(body).encode(), qos=1)
            await gateway.received(3)

            async def told() -> bool:
                return bool(told_of(crew) and told_of(testers))

            await gateway.until(told, "both receivers were told")
            assert told_of(crew) == [("lamp-1/lamp-hot", False)]
            assert told_of(testers) == [("lamp-s/lamp-hot", True)]
            assert (await gateway.get("alarms/lamp-s%2Flamp-hot"))["simulated"] is True
            assert (await gateway.get("alarms/lamp-1%2Flamp-hot"))["value"] == 90
            [refused] = (await gateway.get("rejected"))["items"]
            assert (refused["device"], refused["code"]) == ("lamp-1", "simulated")
