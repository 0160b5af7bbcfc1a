"""20,000 alarms raised within about a second, and cleared likewise: how soon all of them are stored and on the stream.

20,000 pipe gauges overflow, one message each, as fast as a broker hands them over; a reader of the live stream counts.
All the while a gauge that has nothing to do with it overflows and dries again five times a second: what waits for the
storm is seen in the time its alarms take. Outbox: read in the store's file when the last alarm has come.

    python -m bench.storm
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiomqtt

from bench.faults.evidence import DataFolder
from bench.latency import write_gauges
from bench.report import say
from bench.stand import Gateway, Stand, wait_for
from simulators.load import ALARM_FIRST, ALARM_LAST, ALARM_PERIOD, Plan

ALARMS = 20_000
RATE = 20_000.0
RULE = "pipe-overflow"
BYSTANDER = "bystander"
EVERY_S = 0.2
PATIENCE_S = 60.0

TARGETS = {
    "raised.on_stream_s": "<= 5",
    "raised.bystander_max_s": "<= 2",
    "cleared.on_stream_s": "<= 5",
    "cleared.bystander_max_s": "<= 2",
    "stored": "== 40000",
    "outboxed": "== 40000",
}


def run(alarms: int = ALARMS) -> dict[str, Any]:
    """Figures; about a minute."""
    with tempfile.TemporaryDirectory(prefix="citywatch-storm-") as folder:
        return asyncio.run(_measure(Path(folder), alarms))


async def _measure(folder: Path, alarms: int) -> dict[str, Any]:
    gauges = folder / "bystander.yaml"
    write_gauges(gauges, [BYSTANDER])
    plan = Plan(devices=alarms, alarms_every=1)
    async with Stand(folder) as stand:
        gateway = await stand.gateway("mosquitto", plan, more_assets=[gauges])
        await gateway.warm()
        raised = await _storm(gateway, "UNACK", alarms, ALARM_FIRST)
        cleared = await _storm(gateway, "RTNUN", alarms, ALARM_LAST + 1)
        kept = DataFolder(gateway.process.data)
        steps = [t for t in kept.transitions() if t.alarm_id.startswith("load-") and t.alarm_id.endswith(RULE)]
        outboxed = sum(row.alarm_id.startswith("load-") and row.alarm_id.endswith(RULE) for row in kept.outbox())
    say(f"  raised {raised}, cleared {cleared}")
    return {"alarms": alarms, "raised": raised, "cleared": cleared, "stored": len(steps), "outboxed": outboxed}


async def _storm(gateway: Gateway, state: str, alarms: int, sequence: int) -> dict[str, float]:
    """One message of every gauge; from the first message sent until the last alarm was read from the stream."""
    reader = _Reader(gateway, state)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(reader.run(), name="stream")
        await wait_for(reader.ready, "the stream is open", PATIENCE_S)
        bystander = group.create_task(reader.provoke(), name="bystander")
        await asyncio.sleep(2.0)
        gateway.load.go_on_at(sequence, ALARM_PERIOD)
        began = time.monotonic()
        await gateway.load.start(gateway.mqtt_url, RATE, count=alarms)
        summary = await gateway.load.ended()
        first = time.monotonic() - summary["seconds"]

        async def all_there() -> bool:
            return len(reader.seen) >= alarms

        await wait_for(all_there, f"{alarms} alarms on the stream", PATIENCE_S)
        last = max(reader.seen.values())
        await asyncio.sleep(1.0)
        reader.stop()  # not by cancelling: Python 3.11 can lose a cancellation inside a publish
        await bystander
        reading.cancel()
    delays = [took for at, took in reader.bystander if at >= began]
    return {
        "input_s": round(summary["seconds"], 2),
        "on_stream_s": round(last - first, 2),
        "bystander_max_s": round(max(delays, default=PATIENCE_S), 3),
        "bystander_alarms": len(delays),
    }


class _Reader:
    """A browser's end of the stream, and the one gauge whose alarms it waits for one by one."""

    def __init__(self, gateway: Gateway, state: str) -> None:
        self._gateway = gateway
        self._state = state
        self._open = False
        self._over = False
        self._came = asyncio.Event()
        self.seen: dict[str, float] = {}
        self.bystander: list[tuple[float, float]] = []

    async def ready(self) -> bool:
        return self._open

    def stop(self) -> None:
        """No more provocations."""
        self._over = True
        self._came.set()

    async def provoke(self) -> None:
        """Raise and clear the bystander's alarm, again and again, until ``stop``."""
        port = self._gateway.broker.port if self._gateway.broker else 1883
        async with aiomqtt.Client("127.0.0.1", port) as client:

            async def say(freeboard: float) -> None:
                body = json.dumps({"values": {"freeboard": freeboard}})
                await client.publish(f"citywatch/v1/pipe/{BYSTANDER}/telemetry", body, qos=1)

            await say(1.5)  # however the last storm left it
            await asyncio.sleep(EVERY_S)
            while not self._over:
                for freeboard in (-0.05, 1.5):
                    self._came.clear()
                    began = time.monotonic()
                    await say(freeboard)
                    if not self._over:
                        await self._came.wait()
                    if not self._over:
                        self.bystander.append((began, time.monotonic() - began))
                    await asyncio.sleep(EVERY_S)

    async def run(self) -> None:
        async with aclosing(self._gateway.events()) as events:
            async for name, event in events:
                self._open = self._open or name == "snapshot"
                self._note(event, time.monotonic())

    def _note(self, event: Mapping[str, Any], now: float) -> None:
        for alarm in event.get("alarms", ()):  # a reader that fell behind is given a fresh snapshot
            if alarm["rule"] == RULE and alarm["state"] == self._state and alarm["asset"] != BYSTANDER:
                self.seen.setdefault(alarm["alarm_id"], now)
        asset, _, rule = str(event.get("alarm_id", "")).partition("/")
        if rule != RULE:
            return
        if asset == BYSTANDER:
            if event["cause"] in ("T3", "T6", "T7"):
                self._came.set()
        elif event.get("to") == self._state:
            self.seen.setdefault(event["alarm_id"], now)


if __name__ == "__main__":
    print(json.dumps(run()))
