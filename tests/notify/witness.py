"""A webhook receiver that writes down what it gets and answers as the test's script says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvents document."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Witness:
    """``answers`` are used up one a request; then everything is 204."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int) -> list[Request]:
        """Returns when ``count`` requests have come."""
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    @property
    def keys(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.requests]


def status(code: int, *headers: str, body: bytes = b"") -> Answer:
    """An ordinary answer."""

    async def write(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return write


async def nothing(writer: asyncio.StreamWriter) -> None:
    """Accepts, and closes before the answer."""


def endless(chunk: bytes = b"x" * 65536) -> Answer:
    """A body without end."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(chunk)
            await writer.drain()

    return write


async def hang(writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def witness(*answers: Answer, port: int = 0) -> AsyncIterator[Witness]:
    """Listens on loopback while the context lasts; on ``port``, or on one that is free."""
    seen = Witness(answers=list(answers))
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            async with seen.came:
                seen.requests.append(Request(first.split()[1], headers, body))
                seen.came.notify_all()
            await (seen.answers.pop(0) if seen.answers else status(204))(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            serving.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield seen
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
