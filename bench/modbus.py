"""1,000 Modbus TCP endpoints, one cycle of 60 registers a second each: block reads a second, CPU, and how punctual.

The source polls for real over loopback; what it offers is counted and thrown away. Jitter: by how much a device's
requests miss its own grid of one second, as the devices saw it. The same again with 50 of them dead: they take
connections and answer nothing.

    python -m bench.modbus
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from statistics import median
from typing import Any

import structlog
import uvloop

from bench.faults.processes import REPOSITORY
from bench.report import percentile, say
from gateway.core.modbus_address import Line
from gateway.core.model import SECOND, FrameKind
from gateway.core.registers import BlockRead
from gateway.sources.modbus import ModbusEndpoint, ModbusOptions, ModbusSource, ModbusUnit

ENDPOINTS, DEAD = 1_000, 50
REGISTERS = 60
SETTLE_S, MEASURE_S = 10.0, 20.0

TARGETS = {
    "reads_per_second": ">= 990",
    "cpu_cores": "<= 1",
    "jitter_p99_ms": "<= 200",
    "with_dead.jitter_p99_ratio": "<= 1.1",
}


def run(endpoints: int = ENDPOINTS, dead: int = DEAD, seconds: float = MEASURE_S) -> dict[str, Any]:
    """Figures; about a minute and a half with the defaults."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # the dead are many
    figures = uvloop.run(_measure(endpoints, 0, seconds))
    beside = uvloop.run(_measure(endpoints, dead, seconds))
    # Below 5 ms a ratio would be one of noise.
    beside["jitter_p99_ratio"] = round(max(beside["jitter_p99_ms"], 5.0) / max(figures["jitter_p99_ms"], 5.0), 2)
    say(f"  {figures}; with {dead} dead: {beside}")
    return {**figures, "with_dead": beside}


class _Counter:
    """A ``ports.Intake`` that counts."""

    def __init__(self) -> None:
        self.cycles = 0
        self.full = False

    def offer(
        self,
        kind: FrameKind,
        source: str,
        address: str,
        payload: bytes,
        *,
        retained: bool = False,
        duplicate_hint: bool = False,
        principal: str = "",
    ) -> asyncio.Future[int]:
        self.cycles += 1
        return asyncio.get_running_loop().create_future()

    async def room(self) -> None:
        return


async def _measure(endpoints: int, dead: int, seconds: float) -> dict[str, Any]:
    fleet = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.modbus_fleet", str(endpoints), str(dead), stdin=PIPE, stdout=PIPE,
        limit=256 << 20, cwd=REPOSITORY,
    )  # fmt: skip
    assert fleet.stdin is not None
    assert fleet.stdout is not None
    ports = json.loads(await fleet.stdout.readline())
    block = (BlockRead(3, 0, REGISTERS),)
    wanted = tuple(
        ModbusEndpoint(Line((("127.0.0.1", port),)), (ModbusUnit(f"plc-{n}", 1, block, SECOND),))
        for n, port in enumerate(ports)
    )
    intake = _Counter()
    source = asyncio.create_task(ModbusSource(ModbusOptions(wanted)).run(intake))
    await asyncio.sleep(SETTLE_S)
    began, cpu, cycles = time.monotonic(), time.process_time(), intake.cycles
    await asyncio.sleep(seconds)
    took, cpu, cycles = time.monotonic() - began, time.process_time() - cpu, intake.cycles - cycles
    fleet.stdin.close()
    asked = json.loads(await fleet.stdout.readline())
    source.cancel()
    await asyncio.gather(source, return_exceptions=True)
    await fleet.wait()
    late = sorted(
        lateness for times in asked for lateness in _off_grid([at for at in times if began <= at <= began + took])
    )
    return {
        "endpoints": endpoints,
        "reads_per_second": round(sum(began <= at <= began + took for times in asked for at in times) / took),
        "cpu_cores": round(cpu / took, 3),
        "jitter_p50_ms": round(percentile(late, 0.5) * 1e3, 1),
        "jitter_p99_ms": round(percentile(late, 0.99) * 1e3, 1),
        "jitter_max_ms": round(late[-1] * 1e3, 1),
        "dead": dead,
        "cycles_offered_per_second": round(cycles / took),
    }


def _off_grid(times: Sequence[float]) -> list[float]:
    """How far each moment lies from the device's own grid of a second, through the middle of them all."""
    if not times:
        return []
    phase = median(at - n for n, at in enumerate(times))
    return [abs(at - n - phase) for n, at in enumerate(times)]


if __name__ == "__main__":
    print(json.dumps(run()))
