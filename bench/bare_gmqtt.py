"""The yardstick for ingest: a bare gmqtt subscriber that journals and acknowledges, and nothing else.

    python -m bench.bare_gmqtt --mqtt-url mqtt://127.0.0.1:1883 --for 10     # gmqtt 0.8.0 as its authors meant it
    python -m bench.bare_gmqtt --mqtt-url … --for 10 --client ours           # the same with gateway.sources.mqtt

Either way messages gather for at most 10 ms or 1,000 and go into one SQLite table (WAL, ``synchronous=FULL``, one
transaction a batch, in a thread) before they are acknowledged; no frames, no decoding, no alarms. Prints one line of
JSON: messages a second over the time in which messages came, and CPU microseconds a message, all threads together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apsw
import uvloop
from gmqtt import Client

from gateway.core.model import FrameKind
from gateway.sources.mqtt import TOPICS, MqttOptions, MqttSource

GATHER_S = 0.010
BATCH = 1000


class Table:
    """The durable table: ``offer`` gives the future of the batch that will hold the message."""

    def __init__(self, path: Path) -> None:
        self._database = apsw.Connection(str(path))
        self._database.execute("PRAGMA journal_mode=WAL").fetchall()
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("CREATE TABLE message (topic TEXT, payload BLOB)")
        self._rows: list[tuple[str, bytes]] = []
        self._durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._work = asyncio.Event()
        self._writing: asyncio.Future[int] | None = None
        self.batches = 0

    async def drain(self) -> None:
        """Returns when everything offered is durable."""
        while self._rows or self._writing is not None:
            await asyncio.shield(self._writing or self._durable)

    def offer(self, topic: str, payload: bytes) -> asyncio.Future[int]:
        self._rows.append((topic, payload))
        self._work.set()
        return self._durable

    async def run(self) -> None:
        while True:
            await self._work.wait()
            if len(self._rows) < BATCH:
                await asyncio.sleep(GATHER_S)
            rows, durable = self._rows, self._durable
            self._writing = durable
            self._rows, self._durable = [], asyncio.get_running_loop().create_future()
            self._work.clear()
            await asyncio.to_thread(self._write, rows)
            self.batches += 1
            durable.set_result(0)
            self._writing = None

    def _write(self, rows: Sequence[tuple[str, bytes]]) -> None:
        with self._database:
            self._database.executemany("INSERT INTO message VALUES (?, ?)", rows)


class OurIntake:
    """``ports.Intake`` in front of the same table."""

    full = False

    def __init__(self, offer: Callable[[str, bytes], asyncio.Future[int]]) -> None:
        self._offer = offer

    def offer(
        self,
        kind: FrameKind,
        source: str,
        address: str,
        payload: bytes,
        *,
        retained: bool = False,
        duplicate_hint: bool = False,
        principal: str = "",
    ) -> asyncio.Future[int]:
        return self._offer(address, payload)

    async def room(self) -> None:
        return


@dataclass(slots=True)
class Count:
    """What came, and when the first and the newest of it."""

    messages: int = 0
    first: float = 0.0
    last: float = 0.0

    def one(self) -> None:
        self.messages += 1
        self.last = time.monotonic()
        self.first = self.first or self.last


async def with_gmqtt(url: str, user: str | None, password: str | None, table: Table, count: Count) -> None:
    """gmqtt's own client; the handler ends, and with it comes the PUBACK, when the batch is durable."""

    async def on_message(_client: Any, topic: str, payload: bytes, _qos: int, _properties: Any) -> int:
        count.one()
        return await table.offer(topic, payload)

    logging.getLogger("gmqtt").setLevel(logging.CRITICAL)  # the last acknowledgements find a closed socket
    client = Client("bare", clean_session=False, optimistic_acknowledgement=False, receive_maximum=2000)
    client.on_message = on_message
    if user is not None:
        client.set_auth_credentials(user, password)
    parts = urlsplit(url)
    await client.connect(parts.hostname, parts.port or 1883, keepalive=20)
    for topic in TOPICS:
        client.subscribe(topic, qos=1)
    try:
        await asyncio.Event().wait()
    finally:
        await client.disconnect()


async def with_ours(url: str, user: str | None, password: str | None, table: Table, count: Count) -> None:
    def offer(topic: str, payload: bytes) -> asyncio.Future[int]:
        count.one()
        return table.offer(topic, payload)

    options = MqttOptions("main", url, "bare", username=user, password=password, receive_maximum=2000)
    await MqttSource(options).run(OurIntake(offer))


CLIENTS: dict[str, Callable[[str, str | None, str | None, Table, Count], Awaitable[None]]] = {
    "gmqtt": with_gmqtt,
    "ours": with_ours,
}


async def measure(client: str, url: str, seconds: float, user: str | None, password: str | None) -> dict[str, Any]:
    """Receive for ``seconds``, or until SIGTERM; the figures."""
    with tempfile.TemporaryDirectory(prefix="citywatch-bare-") as folder:
        table, count = Table(Path(folder, "messages.db")), Count()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        writer = asyncio.ensure_future(table.run())
        receiver = asyncio.ensure_future(CLIENTS[client](url, user, password, table, count))
        before = _cpu_s()
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({stopping, writer, receiver}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        spent = _cpu_s() - before
        for task in (receiver, writer):
            if task.done():
                task.result()
        receiver.cancel()
        await table.drain()
        writer.cancel()
        stopping.cancel()
        await asyncio.wait({receiver, writer, stopping})
        took = count.last - count.first
        return {
            "client": client,
            "messages": count.messages,
            "rate": round(count.messages / took) if took > 0 else 0,
            "cpu_us_per_message": round(spent / count.messages * 1e6, 1) if count.messages else None,
            "messages_per_batch": round(count.messages / table.batches, 1) if table.batches else None,
        }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.bare_gmqtt", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mqtt-url", required=True)
    parser.add_argument("--for", dest="seconds", type=float, default=10.0, help="seconds; SIGTERM ends it earlier")
    parser.add_argument("--client", choices=sorted(CLIENTS), default="gmqtt")
    parser.add_argument("--username")
    parser.add_argument("--password")
    given = parser.parse_args(arguments)
    print(json.dumps(uvloop.run(measure(given.client, given.mqtt_url, given.seconds, given.username, given.password))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
