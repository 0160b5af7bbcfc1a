"""A broker made of bytes: says exactly what the test wants, also what no real broker would say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.sources.held_intake import WAIT_S

CONNECT, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 4, 5, 6, 7, 8, 12, 14

CONNACK_5 = b"\x20\x03\x00\x00\x00"
CONNACK_311 = b"\x20\x02\x00\x00"
PINGRESP = b"\xd0\x00"


def length(number: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = bytearray()
    while True:
        number, byte = divmod(number, 128)
        encoded.append(byte | 0x80 if number else byte)
        if not number:
            return bytes(encoded)


def publish(
    topic: str | bytes, payload: bytes, packet_id: int | None = 1, *, qos: int = 1, properties: bytes | None = b""
) -> bytes:
    """A PUBLISH packet; ``properties`` None: MQTT 3.1.1."""
    name = topic.encode() if isinstance(topic, str) else topic
    body = len(name).to_bytes(2, "big") + name
    if qos:
        assert packet_id is not None
        body += packet_id.to_bytes(2, "big")
    if properties is not None:
        body += length(len(properties)) + properties
    body += payload
    return bytes([0x30 | qos << 1]) + length(len(body)) + body


class Line:
    """One accepted connection, seen from the broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def packet(self) -> tuple[int, bytes]:
        """Type and body of the next packet of the client."""
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readexactly(1))[0]
            size, shift = 0, 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                size |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            return head >> 4, await self.reader.readexactly(size)

    async def expect(self, kind: int) -> bytes:
        got, body = await self.packet()
        while got == PINGREQ and kind != PINGREQ:
            self.send(PINGRESP)
            got, body = await self.packet()
        assert got == kind, f"packet type {got} instead of {kind}"
        return body

    async def welcome(self) -> bytes:
        """CONNECT and SUBSCRIBE as a well-behaved broker answers them; the body of the CONNECT."""
        connect = await self.expect(CONNECT)
        version = connect[6]
        self.send(CONNACK_5 if version == 5 else CONNACK_311)
        subscribe = await self.expect(SUBSCRIBE)
        answer = subscribe[:2] + (b"\x00" if version == 5 else b"") + b"\x01\x01"
        self.send(b"\x90" + length(len(answer)) + answer)
        return connect

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def says_nothing(self, for_s: float = 0.05) -> bool:
        """No packet but pings for so long."""
        try:
            async with asyncio.timeout(for_s):
                return not await self.reader.read(1)
        except TimeoutError:
            return True

    async def closed_by_client(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        self.writer.transport.abort()


class RawBroker:
    def __init__(self) -> None:
        self.port = 0
        self._lines: asyncio.Queue[Line] = asyncio.Queue()
        self.all: list[Line] = []

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def line(self) -> Line:
        """The next connection of a client."""
        async with asyncio.timeout(WAIT_S):
            return await self._lines.get()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.all.append(line)
        self._lines.put_nowait(line)


@asynccontextmanager
async def raw_broker() -> AsyncIterator[RawBroker]:
    broker = RawBroker()
    server = await asyncio.start_server(broker._accepted, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for line in broker.all:
            line.close()
        await server.wait_closed()
