"""How long from a device's message to the alarm on the live stream, while 5,000 other messages a second come in.

400 pipe gauges overflow once each (``freeboard`` below 0, the rule has no delay), one about every 50 ms, at uneven
times. Measured in one process on one clock: from before the publish (QoS 1, its own connection) until the alarm's event
was read from ``/api/v1/stream``. Beside it the same without the background.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import yaml

from bench.report import percentile, say
from bench.stand import Gateway, Stand, cpu_s, wait_for
from bench.trial import LAG_S
from simulators.load import Plan

DEVICES = 10_000
RATE = 5_000.0
PROBES = 400
QUIET_PROBES = 60
EVERY_S = 0.05  # on the average; an alarm storm is another test
SETTLE_S = 2.0
ARRIVE_S = 10.0
BACKGROUND_S = 60.0
RULE = "pipe-overflow"

TARGETS = {"p50_ms": "<= 20", "p99_ms": "<= 100", "alarms": ">= 300"}


def run(
    probes: int = PROBES, quiet_probes: int = QUIET_PROBES, rate: float = RATE, devices: int = DEVICES
) -> dict[str, Any]:
    """Figures; about a minute with the defaults."""
    with tempfile.TemporaryDirectory(prefix="citywatch-latency-") as folder:
        return asyncio.run(_measure(Path(folder), probes, quiet_probes, rate, devices))


async def _measure(folder: Path, probes: int, quiet_probes: int, rate: float, devices: int) -> dict[str, Any]:
    gauges = folder / "probes.yaml"
    names = [f"probe-{number:04}" for number in range(probes + quiet_probes)]
    write_gauges(gauges, names)
    async with Stand(folder) as stand:
        gateway = await stand.gateway("mosquitto", Plan(devices=devices), more_assets=[gauges])
        await gateway.warm()
        async with Probe.open(gateway) as probe:
            for name in names:
                await probe.say(name, 1.5)
            await asyncio.sleep(SETTLE_S)
            quiet = await probe.alarms(names[probes:])
            before = await gateway.counts()
            await gateway.load.start(gateway.mqtt_url, rate)
            wanted = before.received + rate * SETTLE_S
            await wait_for(lambda: gateway.received(wanted), "the background has begun", BACKGROUND_S)
            cpu, began = cpu_s(gateway.pid), time.monotonic()
            busy = await probe.alarms(names[:probes])
            share = (cpu_s(gateway.pid) - cpu) / (time.monotonic() - began)
            summary = await gateway.load.stop()
            sent = before.received + summary["sent"] + probes
            lag = await wait_for(lambda: gateway.taken(sent), "all messages are in", BACKGROUND_S)
    say(f"  {len(busy)} alarms beside {summary['rate']:,.0f} msg/s")
    return {
        **_percentiles(busy),
        "alarms": len(busy),
        "background_rate": round(summary["rate"]),
        "background_kept_up": lag <= LAG_S,
        "gateway_cpu_share": round(share, 3),
        "quiet": _percentiles(quiet),
    }


class Probe:
    """A publisher and a reader of the stream in one process."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._sent: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._connected = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, gateway: Gateway) -> AsyncIterator[Probe]:
        """Connected to the broker, and with the stream's first snapshot read."""
        async with aiomqtt.Client("127.0.0.1", gateway.broker.port if gateway.broker else 1883) as client:
            probe = cls(client)
            reader = asyncio.create_task(probe._read(gateway), name="stream reader")
            try:
                async with asyncio.timeout(ARRIVE_S):
                    await probe._connected.wait()
                yield probe
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    async def say(self, name: str, freeboard: float) -> None:
        body = json.dumps({"values": {"freeboard": freeboard}})
        await self._client.publish(f"citywatch/v1/pipe/{name}/telemetry", body, qos=1)

    async def alarms(self, names: list[str]) -> list[float]:
        """Let each gauge overflow once; gives the seconds each alarm took, ascending. Raises HarnessError when one
        never came."""
        draw = random.Random(1)
        for name in names:
            self._sent[name] = time.perf_counter()
            await self.say(name, -0.05)
            # Uneven, so that every phase of batching, checkpoint and snapshot is met.
            await asyncio.sleep(EVERY_S * draw.uniform(0.2, 1.8))

        async def all_came() -> bool:
            return all(name in self._took for name in names)

        await wait_for(all_came, "every alarm has come", ARRIVE_S)
        return sorted(self._took[name] for name in names)

    async def _read(self, gateway: Gateway) -> None:
        async with aclosing(gateway.events()) as events:
            async for name, event in events:
                if name == "snapshot":
                    self._connected.set()
                self._note(event, time.perf_counter())

    def _note(self, event: Mapping[str, Any], now: float) -> None:
        name, _, rule = str(event.get("alarm_id", "")).partition("/")
        if rule == RULE and event.get("to") == "UNACK" and name in self._sent:
            self._took.setdefault(name, now - self._sent[name])


def write_gauges(path: Path, names: list[str]) -> None:
    """An asset file of pipe gauges that send only what a probe tells them to."""
    assets = [{"asset": name, "kind": "pipe", "name": name, "simulated": True} for name in names]
    devices = [
        {"device": name, "asset": name, "profile": "generic/json-pipe", "address": name, "expected_interval": "1h"}
        for name in names
    ]
    path.write_text(yaml.safe_dump({"assets": assets, "devices": devices}), encoding="utf-8")


def _percentiles(ordered: list[float]) -> dict[str, float]:
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: round(percentile(ordered, share) * 1e3, 1) for name, share in shares.items()}


if __name__ == "__main__":
    print(json.dumps(run()))
