"""The historian: one point's last 24 hours asked for while 20,000 readings a second are being written; bytes a reading.

A fleet of 250 lamps has reported four points every minute for a day, compacted hour by hour as in life. Then, for eight
seconds, 2,000 readings of as many points are appended every 100 ms, while questions for a random point's day come one
after the other. Targets: p95 ≤ 50 ms, ≤ 6 bytes a reading.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from gateway.core.model import HOUR, MINUTE, SECOND, Micros, Quality, Reading
from gateway.historian.historian import Historian

LAMPS = 250
RATE = 20_000
WRITE_EVERY_S = 0.1
MEASURE_S = 8.0
START: Micros = 1_763_942_400 * SECOND

_LEVELS = {"power": (95.0, 1.5, 1), "voltage": (229.0, 1.0, 1), "current": (0.41, 0.01, 2), "dim": (100.0, 0.0, 0)}


def run() -> dict[str, Any]:
    """Figures as JSON; takes about 20 seconds."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> dict[str, Any]:
    draw = random.Random(1)
    historian = await Historian.open(folder)
    begin, cpu = time.perf_counter(), time.process_time()
    appended = await _fill_a_day(historian, draw)
    stored = await historian.stats()
    figures: dict[str, Any] = {
        "fill_readings": appended,
        "fill_s": round(time.perf_counter() - begin, 1),
        "fill_cpu_s": round(time.process_time() - cpu, 1),
        "bytes_per_reading": round((stored["raw_bytes"] or 0) / (stored["raw_rows"] or 1), 2),
        "files": stored["raw_files"],
    }
    stop = asyncio.Event()
    writing = asyncio.create_task(_write(historian, draw, stop))
    await asyncio.sleep(0.5)
    times, rows = [], 0
    end = time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        asked = time.perf_counter()
        found = await historian.readings(
            f"lamp-{draw.randrange(LAMPS)}", draw.choice(list(_LEVELS)), START, START + 24 * HOUR
        )
        times.append(time.perf_counter() - asked)
        rows = len(found)
        await asyncio.sleep(0.01)
    stop.set()
    written, slowest = await writing
    await historian.close()
    times.sort()
    return figures | {
        "written_per_s": round(written / (MEASURE_S + 0.5)),
        "slowest_append_ms": round(slowest * 1e3, 1),
        "questions": len(times),
        "rows_each": rows,
        "p50_ms": round(times[len(times) // 2] * 1e3, 1),
        "p95_ms": round(times[len(times) * 95 // 100] * 1e3, 1),
        "max_ms": round(times[-1] * 1e3, 1),
        "rss_mb": round(psutil.Process().memory_info().rss / 1e6),
    }


async def _fill_a_day(historian: Historian, draw: random.Random) -> int:
    """A message of four points a lamp and minute, 20 ms early or late, received 5 to 30 ms after."""
    appended = 0
    for ten_minutes in range(24 * 6):
        items = []
        for minute in range(10):
            at = START + (ten_minutes * 10 + minute) * MINUTE
            readings: list[Reading] = []
            for lamp in range(LAMPS):
                source = at + lamp * MINUTE // LAMPS + draw.randrange(-20, 20) * 1000
                readings += _message(draw, f"lamp-{lamp}", source, source + draw.randrange(5_000, 30_000))
            items.append((1 + ten_minutes * 10 + minute, readings))
            appended += len(readings)
        await historian.append(items)
        if ten_minutes % 6 == 5:
            await historian.compact(START + (ten_minutes + 2) * 10 * MINUTE)
    return appended


def _message(draw: random.Random, lamp: str, source: Micros, received: Micros) -> list[Reading]:
    return [
        Reading(lamp, point, round(draw.gauss(mean, spread), digits), Quality.GOOD, source, received, lamp)
        for point, (mean, spread, digits) in _LEVELS.items()
    ]


async def _write(historian: Historian, draw: random.Random, stop: asyncio.Event) -> tuple[int, float]:
    """Append at ``RATE``; gives the readings written and the longest append."""
    count = int(RATE * WRITE_EVERY_S)
    written, slowest = 0, 0.0
    began = time.perf_counter()
    now = START + 24 * HOUR
    values = [draw.random() for _ in range(count)]
    while not stop.is_set():
        now += int(WRITE_EVERY_S * SECOND)
        readings = [
            Reading(f"lamp-{i // 4}", f"live-{i % 4}", value, Quality.GOOD, now, now, f"lamp-{i // 4}")
            for i, value in enumerate(values)
        ]
        begin = time.perf_counter()
        await historian.append([(historian.position + 1, readings)])
        slowest = max(slowest, time.perf_counter() - begin)
        written += count
        await asyncio.sleep(max(0.0, began + written / RATE - time.perf_counter()))
    return written, slowest
