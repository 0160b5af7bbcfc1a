"""A whole gateway in this process: every part as in ``citywatch run``, with a clock whose hands the test may move.

async with living(tmp_path, {"assets": […]}) as gateway:
    await gateway.say("citywatch/v1/lamp/lamp-1/telemetry", b"{}")
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from gateway.app import Gateway
from gateway.clock import Clock
from gateway.config.settings import load_settings
from gateway.core.model import SECOND, FrameKind, Micros
from gateway.core.records import EVERYWHERE, Role, Scope

PATIENCE_S = 10.0


class Hands:
    """Wall and monotonic time of a gateway: the machine's, and what was added."""

    def __init__(self) -> None:
        self.added = 0

    def nanoseconds(self) -> int:
        return time.time_ns() + self.added


@dataclass
class Living:
    """Frames go in where the sources put theirs; everything else goes over HTTP."""

    gateway: Gateway
    hands: Hands
    tokens: dict[Role, str]

    def client(self, role: Role = Role.ADMIN, token: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token or self.tokens[role]}"}
        url = f"{self.gateway.addresses.console_url}/api/v1/"
        return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=20, verify=False)

    async def narrowed(self, role: Role, scope: Scope) -> str:
        """A token for a part of the city."""
        name = f"narrow-{role.word}-{abs(hash(scope))}"
        return await self.gateway.store.create_token(name, role, self.gateway.clock.now(), None, scope)

    async def say(self, address: str, payload: bytes, kind: FrameKind = FrameKind.MQTT, source: str = "main") -> None:
        """One frame, taken in and decided."""
        await self.gateway.intake.offer(kind, source, address, payload)
        await self.gateway.pipeline.settled()

    async def pass_time(self, span: Micros) -> None:
        """Move the hands without leaving the gateway blind: its heart beats meanwhile."""
        left = span
        while left > 0:
            self.hands.added += min(left, SECOND) * 1000
            left -= SECOND
            self.gateway.intake.heartbeat()
        await self.gateway.intake.offer(FrameKind.TICK, "timer", "", b"")
        await self.gateway.pipeline.settled()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110  many things make it true
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def living(
    folder: Path, city: Mapping[str, Any], settings: Mapping[str, Any] | None = None, life: int = 1
) -> AsyncIterator[Living]:
    """A gateway that is ready, with ``city`` (assets and devices) in its asset file; stopped in order at the end.
    ``life``: which one of this folder; its tokens are named so."""
    assets, file = folder / "assets.yaml", folder / "citywatch.yaml"
    assets.write_text(yaml.safe_dump(dict(city)), encoding="utf-8")
    usual = {"data": str(folder / "data"), "console": {"port": 0}, "assets": [str(assets)]}
    file.write_text(yaml.safe_dump(usual | dict(settings or {})), encoding="utf-8")
    hands = Hands()

    def make_clock(last: Micros) -> Clock:
        return Clock(last, wall=hands.nanoseconds, monotonic=hands.nanoseconds)

    gateway = Gateway(load_settings(file), file, make_clock)
    ready = asyncio.Event()
    task = asyncio.create_task(gateway.run(lambda _: ready.set()), name="gateway")
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        now = gateway.clock.now()
        tokens = {
            role: await gateway.store.create_token(f"{role.word}-{life}", role, now, None, EVERYWHERE) for role in Role
        }
        yield Living(gateway, hands, tokens)
    finally:
        waiting.cancel()
        gateway.stop()
        await task
        gc.unfreeze()
