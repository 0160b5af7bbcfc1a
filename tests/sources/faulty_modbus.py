"""A Modbus TCP server that can be made to misbehave in every way the field knows; otherwise register = its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request as received. ``number`` counts them over all connections, from 0."""

    number: int
    transaction: int
    unit: int
    function_code: int
    address: int
    count: int

    @property
    def words(self) -> list[int]:
        """The right answer: every register holds its own address plus 1000 × the unit."""
        return [(self.address + i + 1000 * self.unit) & 0xFFFF for i in range(self.count)]

    def answer(
        self,
        *,
        transaction: int | None = None,
        protocol: int = 0,
        unit: int | None = None,
        function_code: int | None = None,
        words: list[int] | None = None,
        byte_count: int | None = None,
        length: int | None = None,
    ) -> bytes:
        """The right answer, with whatever is given instead."""
        if self.function_code in (1, 2):
            bits = sum((word & 1) << i for i, word in enumerate(words or self.words))
            data = bits.to_bytes((self.count + 7) // 8, "little")
        else:
            data = b"".join(word.to_bytes(2, "big") for word in (self.words if words is None else words))
        code = self.function_code if function_code is None else function_code
        body = bytes([code, len(data) if byte_count is None else byte_count]) + data
        return self.frame(body, transaction=transaction, protocol=protocol, unit=unit, length=length)

    def exception(self, code: int) -> bytes:
        return self.frame(bytes([self.function_code | 0x80, code]))

    def frame(
        self,
        body: bytes,
        *,
        transaction: int | None = None,
        protocol: int = 0,
        unit: int | None = None,
        length: int | None = None,
    ) -> bytes:
        return (
            (self.transaction if transaction is None else transaction).to_bytes(2, "big")
            + protocol.to_bytes(2, "big")
            + (len(body) + 1 if length is None else length).to_bytes(2, "big")
            + bytes([self.unit if unit is None else unit])
            + body
        )


class Away(Exception):
    """Raised by a script: close the connection now."""


# What to do with a request: the bytes to send, None for silence. May wait; may raise Away.
Script = Callable[[Request, asyncio.StreamWriter], Awaitable[bytes | None]]


async def well(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return request.answer()


class FaultyModbus:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.requests: list[Request] = []
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readexactly(7)
                body = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                number = int.from_bytes
                request = Request(
                    len(self.requests), number(head[0:2]), head[6], body[0], number(body[1:3]), number(body[3:5])
                )
                self.requests.append(request)
                answer = await self.script(request, writer)
                if answer is not None and not writer.is_closing():
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, Away):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


@asynccontextmanager
async def faulty_modbus(script: Script = well) -> AsyncIterator[FaultyModbus]:
    server = FaultyModbus(script)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
