"""What a device costs when there are many: CPU a message and memory, at 1,000 and at 100,000 devices.

Both times the same load: every device has spoken (the smaller fleet speaks as often in all), then a fixed rate is
measured. The memory of a further device is the difference of the two processes, at rest, by 99,000.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import say
from bench.stand import Gateway, Stand, children_cpu_s, cpu_s, rss_bytes, wait_for
from simulators.load import Plan

FEW, MANY = 1_000, 100_000
RATE = 5_000.0
WARM_RATE = 8_000.0
SECONDS = 40.0  # two snapshots fall into it: one comes every 100,000 frames
DRAIN_S = 120.0

TARGETS = {"cpu_ratio": "<= 1.25", "bytes_per_further_device": "<= 4096"}


def run(few: int = FEW, many: int = MANY, rate: float = RATE, seconds: float = SECONDS) -> dict[str, Any]:
    """Figures; about three minutes with the defaults."""
    found = {}
    for devices in (few, many):
        with tempfile.TemporaryDirectory(prefix="citywatch-scale-") as folder:
            found[devices] = asyncio.run(_measure(Path(folder), devices, 2 * many, rate, seconds))
        say(f"  {devices:,} devices: {found[devices]}")
    small, large = found[few], found[many]
    return {
        "cpu_ratio": round(large["cpu_us_per_message"] / small["cpu_us_per_message"], 3),
        "bytes_per_further_device": round((large["rss_mb"] - small["rss_mb"]) * 1e6 / (many - few)),
        f"devices_{few}": small,
        f"devices_{many}": large,
    }


async def _measure(folder: Path, devices: int, warm: int, rate: float, seconds: float) -> dict[str, Any]:
    async with Stand(folder) as stand:
        began = time.monotonic()
        gateway = await stand.gateway("mosquitto", Plan(devices=devices))
        ready_s = time.monotonic() - began
        await _load(gateway, WARM_RATE, count=warm)
        cpu, snapshots = cpu_s(gateway.pid), children_cpu_s(gateway.pid)
        sent = await _load(gateway, rate, seconds=seconds)
        return {
            "cpu_us_per_message": round((cpu_s(gateway.pid) - cpu) / sent * 1e6, 1),
            "of_which_snapshots_us": round((children_cpu_s(gateway.pid) - snapshots) / sent * 1e6, 1),
            "rss_mb": round(rss_bytes(gateway.pid) / 1e6, 1),
            "rss_peak_mb": round(rss_bytes(gateway.pid, peak=True) / 1e6, 1),
            "first_start_s": round(ready_s, 1),
        }


async def _load(gateway: Gateway, rate: float, *, seconds: float | None = None, count: int | None = None) -> int:
    """Send, wait until all is decided and in history; gives how many it were."""
    before = await gateway.counts()
    await gateway.load.start(gateway.mqtt_url, rate, seconds=seconds, count=count)
    sent: int = (await gateway.load.ended())["sent"]
    await wait_for(lambda: gateway.taken(before.received + sent), "all messages are in", DRAIN_S)
    await gateway.idle()
    return sent


if __name__ == "__main__":
    print(json.dumps(run()))
