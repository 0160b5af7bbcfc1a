"""A small HTTP server that answers writes as told: the database that fails, dawdles and refuses."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[list[str]], Answer]

_LINE = re.compile(r"(?P<kind>\w+),asset=(?P<asset>[^, ]+)\S* (?P<field>\w+)=(?P<value>\S+) (?P<time>\d+)$")
_NUMBERS = {"true": 1.0, "false": 0.0}

DONE: Answer = (204, {}, b"")


def error(status: int, message: str, **headers: str) -> Answer:
    body = json.dumps({"code": "invalid", "message": message}).encode()
    return status, {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}, body


def refusing(asset: str, point: str) -> Script:
    """Answers as InfluxDB does to a write that holds one line of a wrong type, without saying which."""
    return lambda lines: (
        error(422, "partial write: field type conflict: dropped=1")
        if any(f",asset={asset}," in line and f" {point}=" in line for line in lines)
        else DONE
    )


class ScriptedDatabase:
    """Takes POST /api/v2/write; ``script`` answers given the lines; 204 keeps them in ``stored`` (a set: identity)."""

    def __init__(self) -> None:
        self.script: Script = lambda lines: DONE
        self.health = b'{"name": "influxdb", "status": "pass"}'
        self.stored: set[str] = set()
        self.writes: list[list[str]] = []
        self.headers: dict[str, str] = {}
        self.target = ""
        self.closed = False  # take the connection and close it again: as good as not there
        self.silent = False  # take the request and never answer
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def points(self) -> set[tuple[str, str, int, float]]:
        """What is stored: (asset, point, source time in ms, value); counts of bad readings left out."""
        found = (_LINE.match(line) for line in self.stored)
        return {
            (
                m["asset"],
                m["field"],
                int(m["time"]),
                _NUMBERS[m["value"]] if m["value"] in _NUMBERS else float(m["value"]),
            )
            for m in found
            if m is not None and m["kind"] != "quality" and not m["value"].startswith('"')
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.closed and (request := await reader.readline()):
                method, self.target, _ = request.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (line := await reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if self.silent:
                    await asyncio.Event().wait()
                if self.closed:
                    return
                if method == "GET":
                    answer: Answer = (200, {}, self.health)
                else:
                    self.headers = headers
                    lines = gzip.decompress(body).decode().split("\n")
                    self.writes.append(lines)
                    answer = self.script(lines)
                    if answer[0] == 204:
                        self.stored.update(lines)
                status, extra, content = answer
                head = "".join(f"{k}: {v}\r\n" for k, v in extra.items())
                if status != 204:
                    head += f"Content-Length: {len(content)}\r\n"
                writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away; that is its right
        finally:
            writer.close()


@asynccontextmanager
async def scripted_database() -> AsyncIterator[ScriptedDatabase]:
    database = ScriptedDatabase()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(database.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    database.port = server.sockets[0].getsockname()[1]
    try:
        yield database
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
