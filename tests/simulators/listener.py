"""A plain MQTT subscriber that keeps everything: what the broker really delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiomqtt

from tests import servers


@dataclass
class Heard:
    """Messages in the order of their arrival: (topic, payload)."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, count: int, seconds: float = 20.0) -> None:
        """Wait until so many have come. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while len(self.messages) < count:
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def listening(broker: servers.Broker) -> AsyncIterator[Heard]:
    """Subscribed to everything while the context is open; the subscription is there when it begins."""
    heard = Heard()

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            heard.messages.append((str(message.topic), message.payload))
            heard.arrived.set()

    async with aiomqtt.Client(broker.host, broker.port, timeout=10) as client:
        await client.subscribe("#", qos=1)
        task = asyncio.create_task(listen(client), name="listener")
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
