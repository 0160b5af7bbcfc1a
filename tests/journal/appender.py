"""A process that appends to a journal until it is killed, or its disk fails; run by the crash tests.

``python -m tests.journal.appender FOLDER COUNT``: prints ``open POSITION``, then ``ack POSITION`` for every batch the
journal confirmed, ``failed REASON`` at the first StorageFailed, and ``refused`` when a later append is refused too.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.core.model import Frame, FrameKind
from gateway.errors import StorageFailed
from gateway.journal.embedded import EmbeddedJournal


def batch(position: int) -> list[Frame]:
    """The frames every test writes at ``position``: of different sizes, recognisable."""
    size = (position * 7919) % 9000 if position % 10 == 0 else 40 + position % 200
    payload = str(position).encode() * size
    return [
        Frame(FrameKind.MQTT, "mqtt", f"citywatch/v1/lamp/lamp-{i}/telemetry", payload[:size], position * 1000 + i)
        for i in range(1 + position % 5)
    ]


async def main(folder: Path, count: int) -> None:
    journal = await EmbeddedJournal.open(folder)
    print("open", journal.last_position, flush=True)
    try:
        for _ in range(count):
            print("ack", await journal.append(batch(journal.last_position + 1)), flush=True)
    except StorageFailed as failure:
        print("failed", "full" if failure.disk_full else "error", failure, flush=True)
        try:
            await journal.append(batch(1))
        except StorageFailed:
            print("refused", flush=True)
    await journal.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
