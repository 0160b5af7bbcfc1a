"""A running gateway as its users have it: a process started by ``citywatch run``, its API, its live stream.

async with running_gateway(tmp_path, settings) as gateway:
    await gateway.publish("citywatch/v1/lamp/lamp-1/telemetry", b"{}")
    alarms = await gateway.get("alarms")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiomqtt
import httpx

from bench.faults.processes import GatewayProcess

PATIENCE_S = 20.0
TOKEN = re.compile(r"first token, shown only now \(administrator\): (\S+)")


class RunningGateway:
    """Start, stop and kill are ``process``'s; everything else goes over the wire, as an administrator."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        usual = {"data": str(self.data), "console": {"port": 0}}
        self.process = GatewayProcess(folder, usual | dict(settings), self.data, environment)

    async def start(self) -> float:
        """Gives the seconds until it was ready."""
        return await self.process.start()

    @property
    def token(self) -> str:
        """Said once, at the very first start."""
        found = TOKEN.search(self.process.log.read_text(encoding="utf-8", errors="replace"))
        assert found is not None, f"no token in the log:\n{self.process.last_words()}"
        return found[1]

    @property
    def url(self) -> str:
        return str(self.process.info["console_url"])

    def client(self, token: str | None = None, timeout_s: float = 10.0) -> httpx.AsyncClient:
        """A client of the API; ``token``: another one than the administrator's."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.AsyncClient(
            base_url=f"{self.url}/api/v1/", headers=headers, trust_env=False, timeout=timeout_s, verify=False
        )

    async def get(self, path: str, **query: Any) -> Any:
        async with self.client() as client:
            answer = await client.get(path, params=query)
        assert answer.status_code in (200, 503), f"GET {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    async def post(self, path: str, body: Mapping[str, Any], token: str | None = None) -> httpx.Response:
        async with self.client(token) as client:
            return await client.post(path, json=dict(body))

    async def all_pages(self, path: str, **query: Any) -> list[Any]:
        """Every item of a list, page by page."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            page = await self.get(path, limit=500, **query, **({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["cursor"]
            if cursor is None:
                return items

    async def until(self, ask: Callable[[], Awaitable[Any]], what: str, timeout_s: float = PATIENCE_S) -> Any:
        """Ask until the answer is true; gives it."""
        deadline = time.monotonic() + timeout_s
        while not (answer := await ask()):
            assert time.monotonic() < deadline, f"after {timeout_s:g} s still not: {what}\n{self.process.last_words()}"
            await asyncio.sleep(0.05)
        return answer

    async def received(self, frames: int) -> dict[str, Any]:
        """Wait until so many frames were taken in and decided; gives the ledger. While anything is in flight its counts
        are of no use to a test: a tick is in flight, too, and a batch stays so until what it gave is stored."""

        async def settled() -> dict[str, Any] | None:
            ledger: dict[str, Any] = await self.get("ledger", limit=500)
            return ledger if ledger["received"] >= frames and not ledger["in_flight"] else None

        ledger: dict[str, Any] = await self.until(settled, f"{frames} frames received")
        return ledger


class Stream:
    """One reader of the live stream, as a browser is."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_id: str | None = None

    async def next(self, *names: str) -> dict[str, Any]:
        """The data of the next event of one of these names (any but ``alive`` when none is given)."""
        name = ""
        async for line in self._lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("id: "):
                self.last_id = line.removeprefix("id: ")
            elif line.startswith("data: ") and (name in names if names else name != "alive"):
                data: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return {"event": name, **data}
        raise AssertionError("the stream has ended")

    async def alarm(self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next transition that is ``wanted``."""
        async with asyncio.timeout(timeout_s):
            while not wanted(event := await self.next("alarm")):
                pass
        return event


@contextlib.asynccontextmanager
async def listening(gateway: RunningGateway, last_id: str | None = None) -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": last_id} if last_id is not None else {}
    async with gateway.client(timeout_s=30) as client, client.stream("GET", "stream", headers=headers) as answer:
        assert answer.status_code == 200
        yield Stream(answer.aiter_lines())


@contextlib.asynccontextmanager
async def running_gateway(
    folder: Path, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> AsyncIterator[RunningGateway]:
    """A gateway that is ready; killed at the end unless it was stopped."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    gateway = RunningGateway(folder, settings, environment)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.process.kill()


def publisher(url: str, username: str | None = None, password: str | None = None) -> aiomqtt.Client:
    """A device with MQTT 3.1.1, as nearly all of them."""
    host, _, port = url.removeprefix("mqtt://").partition(":")
    version = aiomqtt.ProtocolVersion.V311
    return aiomqtt.Client(host, int(port), username=username, password=password, protocol=version, timeout=10)
