"""A process that appends to a historian, and compacts, until it is killed; run by the crash tests.

``python -m tests.historian.writer FOLDER COUNT``: prints ``open POSITION``, then ``ack POSITION`` for every append
that returned, ``failed REASON`` at the first StorageFailed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.core.model import SECOND, Micros, Quality, Reading
from gateway.errors import StorageFailed
from gateway.historian import historian as module
from gateway.historian.historian import Historian

START: Micros = 1_763_942_400 * SECOND - 900 * SECOND  # a quarter of an hour before midnight UTC
EVERY = 10  # positions between two compactions


def batch(position: int) -> list[Reading]:
    """The readings every test writes at ``position``: fifteen seconds later at each."""
    time = START + position * 15 * SECOND
    return [
        Reading(
            f"lamp-{lamp}", point, float(position * 100 + lamp), Quality.GOOD, time, time + 30_000 + lamp, f"dev-{lamp}"
        )
        for lamp in range(position % 7 + 1)
        for point in ("power", "voltage")
    ]


async def main(folder: Path, count: int) -> None:
    module.SEAL_ROWS = 60
    historian = await Historian.open(folder)
    print("open", historian.position, flush=True)
    try:
        for _ in range(count):
            position = historian.position + 1
            await historian.append([(position, batch(position))])
            print("ack", position, flush=True)
            if position % EVERY == 0:
                await historian.compact(START + position * 15 * SECOND)
    except StorageFailed as failure:
        print("failed", "full" if failure.disk_full else "error", failure, flush=True)
    await historian.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
