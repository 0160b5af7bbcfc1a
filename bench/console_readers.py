"""python -m bench.console_readers URL: as many browsers at the live stream as there are lines on standard input.

Each line is the value of a Cookie header, a session of its own. Whatever comes is read and thrown away. A line of JSON
on standard output when all have been sent what stands, another one when standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

CHUNK = 1 << 16
OPEN_S = 60.0
STANDS = 200  # bytes: more than the words at the beginning of a stream
QUIET_S = 1.0


async def main(url: str) -> None:
    """Read the sessions up to an empty line, open the streams, read until standard input ends."""
    parts = urlsplit(url)
    cookies = list(iter(lambda: sys.stdin.readline().strip(), ""))
    head = (
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.hostname}:{parts.port}\r\n"
        "Accept: text/event-stream\r\nAccept-Encoding: gzip, deflate, br\r\n"
    )
    streams = [await asyncio.open_connection(parts.hostname, parts.port) for _ in cookies]
    counts = [0] * len(cookies)
    tasks = []
    for number, (cookie, (reader, writer)) in enumerate(zip(cookies, streams, strict=True)):
        writer.write(f"{head}Cookie: {cookie}\r\n\r\n".encode())
        tasks.append(asyncio.create_task(_discard(reader, counts, number), name=f"reader {number}"))
    async with asyncio.timeout(OPEN_S):
        before = -1
        while min(counts) < STANDS or sum(counts) != before:
            before = sum(counts)
            await asyncio.sleep(QUIET_S)
    _say({"open": len(streams), "bytes": sum(counts)})
    await asyncio.to_thread(sys.stdin.read)
    ended = sum(task.done() for task in tasks)
    _say({"ended": ended, "bytes": sum(counts), "cpu_s": round(time.process_time(), 2)})
    for _, writer in streams:
        writer.close()
    for task in tasks:
        task.cancel()


async def _discard(reader: asyncio.StreamReader, counts: list[int], number: int) -> None:
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in answer.split(b"\r\n", 1)[0]:
        raise ConnectionError(answer.decode("latin-1"))
    while data := await reader.read(CHUNK):
        counts[number] += len(data)


def _say(what: dict[str, float]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
