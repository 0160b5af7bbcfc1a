"""A thousand Modbus TCP devices in one process, for ``bench.modbus``: they answer at once, and note when.

    python -m bench.modbus_fleet 1000 50 < stop > times

On the first line of standard output stand the ports, as JSON; when standard input ends, the moments at which each
device that answers was asked, in seconds of the monotonic clock. The last ``dead`` ones take connections and never
answer.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time

HEADER = 7


class _Device(asyncio.Protocol):
    """Answers reads of holding registers; register n holds n."""

    def __init__(self, asked: list[float] | None) -> None:
        self._asked = asked
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._asked is None:
            return
        self._waiting += data
        while len(self._waiting) >= HEADER + 5:
            request, self._waiting = self._waiting[: HEADER + 5], self._waiting[HEADER + 5 :]
            self._asked.append(time.monotonic())
            address, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
            words = b"".join((address + i & 0xFFFF).to_bytes(2, "big") for i in range(count))
            body = bytes((request[6], request[7], len(words))) + words
            self._transport.write(request[:4] + len(body).to_bytes(2, "big") + body)


async def serve(devices: int, dead: int) -> None:
    loop = asyncio.get_running_loop()
    asked: list[list[float]] = [[] for _ in range(devices - dead)]
    notes: list[list[float] | None] = [*asked, *([None] * dead)]
    servers = [
        await loop.create_server(functools.partial(_Device, times), "127.0.0.1", 0, backlog=8) for times in notes
    ]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps(asked), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
