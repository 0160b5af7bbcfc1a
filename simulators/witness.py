"""python -m simulators witness: a webhook receiver that writes down every notification, and can be told to misbehave.

Raw HTTP/1.1 over asyncio, so that it can also do what no well-bred server does: close before the answer, answer half.
Each request becomes a row of the SQLite file *before* it is answered; the row says which answer it got. The script is a
JSON list of answers, used one a request, each ``times`` times (default 1); after the last it answers 200:

    [{"status": 500, "times": 3}, {"status": 429, "retry_after": 2}, {"delay_s": 5}, {"close": true}, {"status": 200}]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

MAX_BODY = 1 << 20
_IDLE_TIMEOUT_S = 60.0

_TABLE = """CREATE TABLE IF NOT EXISTS notifications (
    number INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, path TEXT NOT NULL, key TEXT, alarm TEXT, rev INTEGER,
    state TEXT, level TEXT, signature TEXT, answer TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL)"""

REASONS = {200: "OK", 204: "No Content", 301: "Moved Permanently", 400: "Bad Request", 413: "Content Too Large",
           422: "Unprocessable Content", 429: "Too Many Requests", 500: "Internal Server Error",
           503: "Service Unavailable"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request is answered: after ``delay_s``, with ``status`` (and Retry-After in seconds), or by closing the
    connection without a word (``close``)."""

    status: int = 200
    delay_s: float = 0.0
    retry_after: float | None = None
    close: bool = False
    times: int = 1

    @property
    def name(self) -> str:
        """As it stands in the table: ``200``, ``429``, ``200 after 5 s``, ``closed``."""
        if self.close:
            return "closed"
        return f"{self.status} after {self.delay_s:g} s" if self.delay_s else str(self.status)


def read_script(rows: Iterable[Mapping[str, Any]]) -> list[Answer]:
    """A script as JSON has it. Raises TypeError for an unknown word."""
    return [Answer(**row) for row in rows]


class Witness:
    """The receiver. Listens while the context is open; ``url`` is where to send to."""

    def __init__(self, database: Path | str, script: Iterable[Answer] = (), port: int = 0) -> None:
        self.received = 0
        self.port = port
        self._answers = self._one_by_one(script)
        # Only a kill of this process matters, not a power cut.
        self._database = sqlite3.connect(database, isolation_level=None)
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(_TABLE)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/notify"

    def then(self, *answers: Answer) -> None:
        """From now on answer by this script."""
        self._answers = self._one_by_one(answers)

    def rows(self, columns: str = "key, alarm, rev, state, answer") -> list[tuple[Any, ...]]:
        """What was received, in order."""
        return self._database.execute(f"SELECT {columns} FROM notifications ORDER BY number").fetchall()

    async def __aenter__(self) -> Witness:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=MAX_BODY)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._database.close()

    @staticmethod
    def _one_by_one(script: Iterable[Answer]) -> Iterator[Answer]:
        for answer in script:
            for _ in range(answer.times):
                yield answer
        while True:
            yield Answer()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="witness-connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after another, until either side closes."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, TimeoutError):
                while await self._one(reader, writer):
                    pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(_IDLE_TIMEOUT_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *lines = head.split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            path = request.split(" ")[1] if request.count(" ") >= 2 else "?"
            length = int(headers.get("content-length", "0"))
            if length > MAX_BODY:
                writer.write(_response(Answer(413)))
                return False
            body = await reader.readexactly(length)
        answer = next(self._answers)
        self._note(path, headers, body, answer)
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        if answer.close:
            return False
        writer.write(_response(answer))
        await writer.drain()
        return headers.get("connection", "").lower() != "close"

    def _note(self, path: str, headers: Mapping[str, str], body: bytes, answer: Answer) -> None:
        self.received += 1
        alarm = _alarm_in(body)
        self._database.execute(
            "INSERT INTO notifications (received_at, path, key, alarm, rev, state, level, signature, answer, headers, "
            "body) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (
                time.time_ns() // 1000, path, headers.get("idempotency-key"), alarm.get("alarm_id"), alarm.get("rev"),
                alarm.get("state"), str(alarm.get("level", "")), headers.get("x-citywatch-signature"), answer.name,
                json.dumps(headers), body,
            ),
        )  # fmt: skip


def _alarm_in(body: bytes) -> Mapping[str, Any]:
    """What a notification says of its alarm, wherever it stands: on top, in ``data``, or in ``data``'s ``alarm``. The
    state of a step is what it led ``to``."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, Any] = {}
    for _ in range(3):
        if not isinstance(document, dict):
            break
        for name, key in (("alarm_id", "alarm_id"), ("rev", "rev"), ("to", "state"), ("state", "state"),
                          ("level", "level")):  # fmt: skip
            if isinstance(document.get(name), (str, int)):
                found.setdefault(key, document[name])
        document = document.get("data") or document.get("alarm")
    return found


def _response(answer: Answer) -> bytes:
    head = f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Scripted')}\r\nContent-Length: 0\r\n"
    if answer.retry_after is not None:
        head += f"Retry-After: {answer.retry_after:g}\r\n"
    return (head + "\r\n").encode()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m simulators witness``."""
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="SQLite file of what was received")
    parser.add_argument("--script", help="JSON list of answers, or @FILE")


def run(options: argparse.Namespace) -> int:
    """Carry out ``python -m simulators witness``: prints {"type": "ready", "url": …}, ends at SIGTERM or SIGINT."""
    text = options.script or "[]"
    try:
        script = read_script(json.loads(Path(text[1:]).read_text() if text.startswith("@") else text))
    except (TypeError, ValueError, OSError) as error:
        print(f"witness: cannot read the script: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_serve_until_told(options.out, script, options.port))


async def _serve_until_told(out: Path, script: list[Answer], port: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Witness(out, script, port) as witness:
        print(json.dumps({"type": "ready", "url": witness.url}), flush=True)
        await stop.wait()
        print(json.dumps({"type": "summary", "received": witness.received}), flush=True)
    return 0
