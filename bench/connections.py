"""10,000 devices, each with a connection and a login of its own, held for a minute by the embedded broker.

Each says a message a minute (QoS 1), which the broker has on disk before it answers. The devices are one process of
aiomqtt connections, as the simulated city has them; broker and devices share the cores.

    python -m bench.connections 2000 20
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import psutil
import structlog

from bench.faults.disk import HarnessError
from bench.faults.processes import REPOSITORY, die_with_parent
from bench.report import say
from bench.stand import cpu_s, rss_bytes
from gateway.sources.broker import BrokerOptions, EmbeddedBroker
from simulators.load import CONNECTS_PER_S, allow_open_files

CONNECTIONS, MEASURE_S = 10_000, 60.0
SPARE_FILES = 100

TARGETS = {
    "connections_missing": "== 0",
    "lost": "== 0",
    "not_acknowledged": "== 0",
    "broker_cpu_cores": "<= 0.5",
    "clients_cpu_cores": "<= 0.7",
}


def run(connections: int = CONNECTIONS, seconds: float = MEASURE_S) -> dict[str, Any]:
    """Figures; about two minutes with the defaults."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    files = allow_open_files()
    if files < connections + SPARE_FILES:
        raise HarnessError(f"{connections} connections need more than {files} open files (ulimit -Hn)")
    with tempfile.TemporaryDirectory(prefix="citywatch-bench-") as name:
        figures = asyncio.run(_measure(Path(name), connections, seconds))
    say(f"  {figures}")
    return figures


async def _measure(folder: Path, connections: int, seconds: float) -> dict[str, Any]:
    devices = [f"lc-{number:05d}" for number in range(connections)]
    broker = EmbeddedBroker(BrokerOptions(folder / "broker", folder / "secrets", port=0))
    began = time.monotonic()
    await broker.start(devices)
    started_s = time.monotonic() - began
    watching = asyncio.create_task(broker.run(), name="broker")
    try:
        pid = broker.stats().pid
        assert pid is not None
        figures = await _devices_beside(broker, pid, devices, seconds)
        return figures | {"broker_start_s": round(started_s, 2), "broker_restarts": broker.stats().restarts}
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await broker.stop()


async def _devices_beside(broker: EmbeddedBroker, pid: int, devices: list[str], seconds: float) -> dict[str, Any]:
    empty = rss_bytes(pid)
    fleet = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.connections_fleet", broker.url, str(seconds), stdin=PIPE, stdout=PIPE,
        cwd=REPOSITORY, preexec_fn=die_with_parent,
    )  # fmt: skip
    assert fleet.stdin is not None
    assert fleet.stdout is not None
    try:
        began, connected_s, cpu, held, files = time.monotonic(), 0.0, 0.0, empty, 0
        fleet.stdin.write(json.dumps({device: broker.password(device) for device in devices}).encode())
        fleet.stdin.close()
        said: dict[str, Any] = {}
        async for line in fleet.stdout:
            said = json.loads(line)
            if "sent" not in said:
                # The last of these lines is when the minute begins.
                connected_s, cpu, held = time.monotonic() - began, cpu_s(pid), rss_bytes(pid)
                files = psutil.Process(pid).num_fds()
        took = time.monotonic() - began - connected_s
        spent = cpu_s(pid) - cpu
        await fleet.wait()
        if "sent" not in said:
            raise HarnessError(f"the devices ended early, {said.get('up', 0)} of {len(devices)} connected")
        return {
            "connections_up": said["up"],
            "connections_missing": len(devices) - said["up"],
            "lost": said["lost"],
            "sent": said["sent"],
            "acknowledged": said["acknowledged"],
            "not_acknowledged": said["sent"] - said["acknowledged"],
            "connected_per_s": round(len(devices) / connected_s),
            "pace_per_s": CONNECTS_PER_S,
            "broker_cpu_cores": round(spent / took, 3),
            "clients_cpu_cores": said["cpu"],
            "broker_kb_per_connection": round((held - empty) / 1024 / len(devices), 1),
            "client_kb_per_connection": said["kb_each"],
            "broker_files": files,
            "client_files": said["files"],
        }
    finally:
        if fleet.returncode is None:
            fleet.kill()
            await fleet.wait()


if __name__ == "__main__":
    print(json.dumps(run(*(int(word) for word in sys.argv[1:]))))
