"""How punctual delays are while 10,000 messages a second come in.

300 pipe gauges come near the ground within ten seconds and say nothing more: a minute later (the on-delay of
``pipe-near-ground``) each is an alarm by its deadline alone. ``engine_max_s``: how far the recorded time of the raise
lies from first sample + delay. ``told_max_s``: until it was read from the live stream.

    python -m bench.deadlines
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiomqtt

from bench.latency import write_gauges
from bench.report import say
from bench.stand import Gateway, Stand, wait_for
from bench.trial import LAG_S
from gateway.console.views import micros
from simulators.load import Plan

DEVICES = 10_000
RATE = 10_000.0
GAUGES = 300
SPREAD_S = 10.0
NEAR_GROUND_M = 0.3
RULE, DELAY_S = "pipe-near-ground", 60.0
PATIENCE_S = 60.0

TARGETS = {"engine_max_s": "<= 1", "told_max_s": "<= 1", "alarms": "== 300", "background_kept_up": "== 1"}


def run(gauges: int = GAUGES, rate: float = RATE, devices: int = DEVICES) -> dict[str, Any]:
    """Figures; about two minutes with the defaults."""
    with tempfile.TemporaryDirectory(prefix="citywatch-deadlines-") as folder:
        return asyncio.run(_measure(Path(folder), gauges, rate, devices))


async def _measure(folder: Path, gauges: int, rate: float, devices: int) -> dict[str, Any]:
    names = [f"gauge-{number:03}" for number in range(gauges)]
    file = folder / "gauges.yaml"
    write_gauges(file, names)
    async with Stand(folder) as stand:
        gateway = await stand.gateway("mosquitto", Plan(devices=devices), more_assets=[file])
        await gateway.warm()
        raised: dict[str, tuple[float, float]] = {}
        listening = asyncio.Event()
        reader = asyncio.create_task(_listen(gateway, raised, listening), name="stream")
        try:
            async with asyncio.timeout(PATIENCE_S):
                await listening.wait()
            before = await gateway.counts()
            await gateway.load.start(gateway.mqtt_url, rate)
            await _come_near_ground(gateway, names)

            async def all_raised() -> bool:
                return len(raised) >= gauges

            await wait_for(all_raised, f"{gauges} alarms", DELAY_S + PATIENCE_S)
            summary = await gateway.load.stop()
            sent = before.received + summary["sent"] + gauges
            lag = await wait_for(lambda: gateway.taken(sent), "all messages are in", PATIENCE_S)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
    by_engine, told = zip(*raised.values(), strict=True)
    say(f"  {len(raised)} deadlines beside {summary['rate']:,.0f} msg/s")
    return {
        "alarms": len(raised),
        "engine_max_s": round(max(map(abs, by_engine)), 3),
        "told_max_s": round(max(told), 3),
        "background_rate": round(summary["rate"]),
        "background_kept_up": int(lag <= LAG_S),
    }


async def _come_near_ground(gateway: Gateway, names: list[str]) -> None:
    port = gateway.broker.port if gateway.broker else 1883
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for name in names:
            body = json.dumps({"values": {"freeboard": NEAR_GROUND_M}})
            await client.publish(f"citywatch/v1/pipe/{name}/telemetry", body, qos=1)
            await asyncio.sleep(SPREAD_S / len(names))


async def _listen(gateway: Gateway, raised: dict[str, tuple[float, float]], listening: asyncio.Event) -> None:
    """Note of every raise (recorded time − deadline, time read − deadline), in s."""
    async with aclosing(gateway.events()) as events:
        async for name, event in events:
            now = time.time()
            if name == "snapshot":
                listening.set()
            asset, _, rule = str(event.get("alarm_id", "")).partition("/")
            if rule == RULE and event.get("cause") == "T3":
                deadline = micros(event["alarm"]["active_at"]) / 1e6 + DELAY_S
                raised.setdefault(asset, (micros(event["at"]) / 1e6 - deadline, now - deadline))


if __name__ == "__main__":
    print(json.dumps(run()))
