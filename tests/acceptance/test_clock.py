"""F48: a machine without a battery wakes up in the year 2000, and learns the time a little later."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from bench.faults.faults import FakedClock
from gateway.clock import EARLIEST
from gateway.core.model import SECOND
from tests.acceptance.running import publisher, running_gateway
from tests.servers import mosquitto, need_debian

CITY = {
    "assets": [{"asset": "road-1", "kind": "road"}],
    "devices": [{"device": "road-1", "asset": "road-1", "profile": "generic/json-road", "expected_interval": "1h"}],
}
TOPIC = "citywatch/v1/road/road-1/telemetry"


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_clock_that_is_wrong_at_start_is_said_and_believed_only_when_it_is_set(tmp_path: Path) -> None:
    need_debian("faketime", "faketime")
    clock = FakedClock(tmp_path / "clock")
    clock.step(f"-{int(time.time()) - 946_684_800}")  # seconds: it is 2000-01-01
    (tmp_path / "assets.yaml").write_text(yaml.safe_dump(CITY), encoding="utf-8")
    async with mosquitto() as broker, publisher(broker.url) as client:
        settings = {"mqtt": [{"id": "main", "url": broker.url}], "assets": [str(tmp_path / "assets.yaml")]}
        async with running_gateway(tmp_path, settings, clock.environment) as gateway:

            async def linked() -> bool:
                return bool((await gateway.get("health"))["parts"]["mqtt main"]["ok"])

            async def own_alarm(state: str) -> dict[str, Any] | None:
                page = await gateway.get("alarms", asset="gateway", rule="gateway-clock-step")
                return next((alarm for alarm in page["items"] if alarm["state"] == state), None)

            await gateway.until(linked, "the broker is there")
            assert (await gateway.get("health"))["parts"]["clock"]["ok"] is False
            await gateway.until(lambda: own_alarm("UNACK"), "its own alarm about the clock")
            await client.publish(TOPIC, b'{"depth": 2}', qos=1)
            await gateway.received(1)
            (before,) = await gateway.get("assets/road-1/points")
            assert abs(seconds(before["received_time"]) - EARLIEST / SECOND) < 3_600, "no earlier than this program"

            clock.step("+0")

            async def set_right() -> bool:
                health = await gateway.get("health")
                return bool(health["parts"]["clock"]["ok"]) and abs(seconds(health["now"]) - time.time()) < 60

            await gateway.until(set_right, "time goes on from the clock that was set")
            await gateway.until(lambda: own_alarm("RTNUN"), "the alarm about the clock clears")
            await client.publish(TOPIC, b'{"depth": 3}', qos=1)
            await gateway.received(2)
            (after,) = await gateway.get("assets/road-1/points")
            assert (after["value"], abs(seconds(after["received_time"]) - time.time()) < 60) == (3.0, True)
            alarms = {alarm["alarm_id"] for alarm in await gateway.all_pages("alarms")}
            assert alarms == {"gateway/gateway-clock-step"}, "two years that leapt by are nobody's silence"
