"""The journal: durable batches a second, one frame each and 500 each, and how fast they are read back."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from gateway.core.model import Frame, FrameKind
from gateway.journal.embedded import EmbeddedJournal, sync_probe

MEASURE_S = 3.0
LARGE = 500

_PAYLOAD = b'{"ts":1763900000.123,"values":{"power":95.3,"voltage":229.1,"current":0.41,"dim":100},"n":%08d}'


def run() -> dict[str, Any]:
    """Figures as JSON; takes about 8 seconds."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"sync_us": round(sync_probe(folder))}
    journal = await EmbeddedJournal.open(folder)
    for size in (1, LARGE):
        figures |= {f"batches_of_{size}": await _append(journal, [_frame(number) for number in range(size)])}
    frames, begin = 0, time.perf_counter()
    async for _, batch in journal.read(0):
        frames += len(batch)
    figures["read_frames_per_s"] = round(frames / (time.perf_counter() - begin))
    figures["bytes_per_frame"] = round(journal.size_bytes / frames)
    await journal.close()
    return figures


def _frame(number: int) -> Frame:
    topic = f"citywatch/v1/lamp/lamp-{number % 10_000}/telemetry"
    return Frame(FrameKind.MQTT, "mqtt", topic, _PAYLOAD % number, 1_763_900_000_000_000 + number)


async def _append(journal: EmbeddedJournal, batch: list[Frame]) -> dict[str, float]:
    times: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    while time.perf_counter() - began < MEASURE_S:
        begin = time.perf_counter()
        await journal.append(batch)
        times.append(time.perf_counter() - begin)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    times.sort()
    return {
        "batches_per_s": round(len(times) / took),
        "frames_per_s": round(len(times) * len(batch) / took),
        "cpu_us_per_frame": round(cpu / len(times) / len(batch) * 1e6, 2),
        "p50_ms": round(times[len(times) // 2] * 1e3, 2),
        "p99_ms": round(times[len(times) * 99 // 100] * 1e3, 2),
    }
