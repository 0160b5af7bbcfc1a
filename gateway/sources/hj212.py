"""HJ 212 in: stations connect to us over TCP; a telegram is acknowledged when the journal has it on disk.

    connection → bytes → telegrams (``core.hj212.cut``) → HJ212 frame each → durable → answer, where one is wanted

What stands between two telegrams is noise: it becomes a frame of its own, and is rejected with its bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass

import structlog

from gateway.core import hj212
from gateway.core.model import FrameKind
from gateway.core.payload import Refused
from gateway.errors import ConfigError, Mistake
from gateway.ports import Intake

READ = 4096
MAX_STATIONS = 2_000  # connections at a time
IDLE_S = 3600.0  # a station speaks every minute; a connection that says nothing for an hour is a dead one
NOISE_KEPT = 1024  # bytes of noise in one frame

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hj212Options:
    """Where to listen. Other hosts than loopback must be asked for by name."""

    id: str = "hj212"
    host: str = "127.0.0.1"
    port: int = 0


class Hj212Source:
    """A ``ports.Source``."""

    def __init__(self, options: Hj212Options) -> None:
        self.id = options.id
        self._options = options
        self._server: asyncio.Server | None = None
        self.connections = 0
        self.port = options.port

    async def open(self) -> None:
        """Take the port, so that a wrong one is told at the start. Raises ConfigError."""
        try:
            self._server = await asyncio.start_server(
                self._refuse, self._options.host, self._options.port, start_serving=False
            )
        except OSError as error:
            said = f"cannot listen on {self._options.host}:{self._options.port}: {error.strerror or error}"
            raise ConfigError([Mistake("settings", None, f"hj212 {self.id}", said)]) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._server.close()
        await self._server.wait_closed()

    async def run(self, intake: Intake) -> None:
        """Listen until cancelled."""

        async def station(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._station(reader, writer, intake)

        server = await asyncio.start_server(station, self._options.host, self.port)
        self._server = server
        log.info("hj212 listens", source=self.id, host=self._options.host, port=self.port)
        async with server:
            await server.serve_forever()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def _station(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, intake: Intake) -> None:
        if self.connections >= MAX_STATIONS:
            writer.close()
            return
        self.connections += 1
        try:
            await self._converse(reader, writer, intake)
        except (ConnectionError, TimeoutError, OSError) as error:
            log.info("hj212 station gone", source=self.id, reason=str(error) or type(error).__name__)
        finally:
            self.connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, intake: Intake) -> None:
        buffer = bytearray()
        while True:
            await intake.room()
            async with asyncio.timeout(IDLE_S):
                data = await reader.read(READ)
            if not data:
                if buffer:
                    intake.offer(FrameKind.HJ212, self.id, "", bytes(buffer[:NOISE_KEPT]))
                return
            buffer += data
            while True:
                before = len(buffer)
                telegram, noise = hj212.cut(buffer)
                if noise.strip():
                    intake.offer(FrameKind.HJ212, self.id, "", noise[:NOISE_KEPT])
                if telegram is not None:
                    await self._take(telegram, writer, intake)
                elif len(buffer) == before or not buffer:
                    break

    async def _take(self, telegram: bytes, writer: asyncio.StreamWriter, intake: Intake) -> None:
        try:
            parsed = hj212.parse(telegram)
        except Refused:
            intake.offer(FrameKind.HJ212, self.id, "", telegram)
            return
        durable: Awaitable[int] = intake.offer(FrameKind.HJ212, self.id, parsed.station[:128], telegram)
        if parsed.wants_answer:
            await durable
            writer.write(hj212.answer(parsed))
            await writer.drain()
