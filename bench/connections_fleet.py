"""Thousands of devices in one process, each with a connection and a login of its own, for ``bench.connections``.

    python -m bench.connections_fleet URL SECONDS < passwords > counts

On standard input: JSON, device → password, and the names in the order of their connecting. Each says a message a
minute, spread over the minute. On standard output JSON lines: ``{"up": n}`` each second until all are connected, then
one with the counts of ``SECONDS``. The connections are those of the simulated city.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from typing import Any

import psutil

from simulators.fleet import Link
from simulators.load import CONNECTS_PER_S, Pace, allow_open_files
from simulators.messages import Message

EVERY_S = 60.0
DRAIN_S = 10.0


class _Tally:
    """Which connections are up, how often one was lost, and how many messages were handed to them."""

    def __init__(self) -> None:
        self._up: set[str] = set()
        self.lost = self.messages = 0

    @property
    def up(self) -> int:
        return len(self._up)

    def hear(self, what: dict[str, Any]) -> None:
        """What a connection says of itself; one whose first attempt failed was never up, so it is not lost."""
        if what["up"]:
            self._up.add(what["link"])
        elif what["link"] in self._up:
            self._up.remove(what["link"])
            self.lost += 1


async def run(url: str, seconds: float, passwords: dict[str, str]) -> None:
    allow_open_files()
    process = psutil.Process()
    before = process.memory_info().rss
    tally, pace = _Tally(), Pace(CONNECTS_PER_S)
    links = [Link(device, url, device, password, None, tally.hear, pace) for device, password in passwords.items()]
    tasks = [asyncio.create_task(link.run(), name=link.name) for link in links]
    deadline = time.monotonic() + 3 * len(links) / CONNECTS_PER_S + 30
    while tally.up < len(links) and time.monotonic() < deadline:
        await asyncio.sleep(1.0)
        print(json.dumps({"up": tally.up}), flush=True)
    gc.collect()
    held = process.memory_info().rss
    began, cpu, lost = time.monotonic(), time.process_time(), tally.lost
    tasks.append(asyncio.create_task(_speak(links, tally), name="speak"))
    await asyncio.sleep(seconds)
    took, spent = time.monotonic() - began, time.process_time() - cpu
    tasks.pop().cancel()
    drained = time.monotonic() + DRAIN_S
    while not all(link.idle for link in links) and time.monotonic() < drained:  # noqa: ASYNC110  at the very end, once
        await asyncio.sleep(0.05)
    counts = {
        "up": tally.up,
        "lost": tally.lost - lost,
        "sent": tally.messages,
        "acknowledged": sum(link.acked for link in links),
        "cpu": round(spent / took, 3),
        "files": process.num_fds(),
        "kb_each": round((held - before) / 1024 / len(links), 1),
    }
    print(json.dumps(counts), flush=True)
    os._exit(0)  # ten thousand farewells would take longer than they are worth


async def _speak(links: list[Link], tally: _Tally) -> None:
    """One message a minute from each, all of them spread evenly."""
    began = time.monotonic()
    for number in range(sys.maxsize):
        link = links[number % len(links)]
        at = EVERY_S * number / len(links)
        await asyncio.sleep(began + at - time.monotonic())
        topic = f"citywatch/v1/lamp/{link.name}/telemetry"
        payload = b'{"simulated":true,"ts":%d,"values":{"power":95.0,"voltage":226.1,"on":true}}' % (
            time.time_ns() // 1_000_000
        )
        tally.messages += 1
        link.offer(Message(at, link.name, number, topic, payload))


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], float(sys.argv[2]), json.load(sys.stdin)))
