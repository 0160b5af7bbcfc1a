"""How soon the gateway serves again after ``kill -9`` with a million frames in its journal.

The frames come in through the broker; the kill falls into the running load. Then the gateway is started again, and the
clock runs from the start of the process until ``/api/v1/health`` says ok *and* a probe sent after the kill has been
journaled and decided. Beside it: the same once more with every snapshot lost, when the journal alone must do.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import aiomqtt

from bench.faults.disk import HarnessError
from bench.report import say
from bench.stand import Gateway, Stand, rss_bytes, wait_for
from simulators.load import Plan, device_id, topic

FRAMES = 1_000_000
DEVICES = 10_000
RATE = 15_000.0
REPLAY_S = 600.0

TARGETS = {"serving_after_s": "<= 15", "frames_in_journal": ">= 1000000"}


def run(
    frames: int = FRAMES, devices: int = DEVICES, rate: float = RATE, *, without_snapshots: bool = True
) -> dict[str, Any]:
    """Figures; about three minutes with the defaults."""
    with tempfile.TemporaryDirectory(prefix="citywatch-recovery-") as folder:
        return asyncio.run(_measure(Path(folder), frames, devices, rate, without_snapshots))


async def _measure(folder: Path, frames: int, devices: int, rate: float, without_snapshots: bool) -> dict[str, Any]:
    # The probe's device is the last one; the load leaves it alone.
    async with Stand(folder) as stand:
        gateway = await stand.gateway("mosquitto", Plan(devices=devices + 1))
        gateway.load.plan = Plan(devices=devices)
        began = time.monotonic()
        await gateway.load.start(gateway.mqtt_url, rate, count=frames * 2)
        await wait_for(lambda: gateway.received(frames), f"{frames:,} frames have come", REPLAY_S)
        filled_s = time.monotonic() - began
        await gateway.process.kill()
        await gateway.load.stop()
        say(f"  {frames:,} frames in {filled_s:.0f} s, killed")
        figures = await _again(gateway, devices + 1, 1)
        say(f"  with the snapshot: {figures}")
        await gateway.idle()
        figures["frames_in_journal"] = (await gateway.ledger())["received"]
        figures["journal_mb"] = round(sum(f.stat().st_size for f in gateway.process.data.glob("journal.db*")) / 1e6)
        if without_snapshots:
            await gateway.process.kill()
            shutil.rmtree(gateway.process.data / "snapshots")
            figures["without_snapshots"] = await _again(gateway, devices + 1, 2)
            say(f"  without: {figures['without_snapshots']}")
        return figures


async def _again(gateway: Gateway, probe: int, probes: int) -> dict[str, Any]:
    """Start again, with a probe waiting at the broker; ``probes``: how many there were so far."""
    assert gateway.broker is not None
    async with aiomqtt.Client("127.0.0.1", gateway.broker.port) as client:
        body = json.dumps({"simulated": True, "seq": probes, "values": {"power": 90}})
        await client.publish(topic(probe), body, qos=1)
    began = time.monotonic()
    gateway.process.spawn()
    await wait_for(lambda: _well(gateway), "it says that it is well", REPLAY_S)
    ready_s = time.monotonic() - began

    async def taken() -> bool:
        return int((await gateway.ledger(device_id(probe)))["received"]) >= probes

    await wait_for(taken, "the probe is in", REPLAY_S)
    serving_s = time.monotonic() - began
    await gateway.process.ready()
    recovered = _recovered(gateway)
    return {
        "serving_after_s": round(serving_s, 2),
        "healthy_after_s": round(ready_s, 2),
        "replay_s": recovered["seconds"],
        "replayed_frames": recovered["frames"],
        "rss_peak_mb": round(rss_bytes(gateway.pid, peak=True) / 1e6),
    }


async def _well(gateway: Gateway) -> bool:
    if not gateway.process.running:
        raise HarnessError(f"the gateway ended:\n{gateway.process.last_words()}")
    health = await gateway.health()
    return health is not None and health["status"] == "ok"


def _recovered(gateway: Gateway) -> dict[str, Any]:
    """What the gateway itself said of its last recovery."""
    for line in reversed(gateway.process.log.read_text(encoding="utf-8", errors="replace").splitlines()):
        if '"event": "recovered"' in line:
            return dict(json.loads(line))
    raise HarnessError(f"it said nothing of a recovery:\n{gateway.process.last_words()}")


if __name__ == "__main__":
    print(json.dumps(run()))
