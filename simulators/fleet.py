"""The living city: the simulation's messages sent over MQTT in their own time, its Modbus devices answering beside.

Each connection keeps what it has not had acknowledged and sends it again after a reconnect, as devices with a store
do: QoS 1, so a gateway sees duplicates then. What does not fit the store (``STORE`` messages a connection) is dropped
oldest first and counted; it was never acknowledged, so nobody was promised anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt

from simulators.city import City, write_whole
from simulators.devices import Message, Note, Simulation
from simulators.ledger import CityLedger
from simulators.load import broker_of
from simulators.modbus_servers import ModbusServers
from simulators.scenarios import SCENARIOS

STORE = 20_000
WINDOW = 50
_PUBACK_TIMEOUT_S = 10.0
_BACKOFF_S = (0.2, 5.0)

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class CityOptions:
    """How a city is run. ``mqtt_url`` None: Modbus only. ``own_credentials``: so many lamps connect as themselves."""

    city: City
    mqtt_url: str | None
    credentials: Mapping[str, Any] = field(default_factory=dict)
    own_credentials: int = 0
    connections: int = 4
    modbus_ports: Mapping[str, int] = field(default_factory=dict)
    modbus_ports_file: Path | None = None
    seed: int = 1
    speed: float = 1.0
    duration_s: float | None = None
    scenario: str = "evening"
    stranger: bool = True
    start_ms: int | None = None


@dataclass(slots=True)
class _Waiting:
    """A message until its PUBACK has come."""

    message: Message
    sent_at: int = 0
    attempts: int = 0


class Link:
    """One MQTT connection: connect → publish → lost → wait → connect, with a store of what is not acknowledged."""

    def __init__(
        self, name: str, url: str, username: str | None, password: str | None, ledger: CityLedger | None, say: Say
    ) -> None:
        self.name = name
        self.sent = self.acked = self.dropped = 0
        self._host, self._port, url_user, url_password = broker_of(url)
        self._username, self._password = username or url_user, password or url_password
        self._ledger, self._say = ledger, say
        self._store: deque[_Waiting] = deque()
        self._under_way: dict[int, _Waiting] = {}
        self._order = 0
        self._arrived = asyncio.Event()
        self._up: bool | None = None

    @property
    def idle(self) -> bool:
        return not self._store and not self._under_way

    def offer(self, message: Message) -> None:
        """Take a message to send as soon as possible, in the order of the calls."""
        if len(self._store) >= STORE:
            self._store.popleft()
            self.dropped += 1
        self._store.append(_Waiting(message))
        self._arrived.set()

    async def run(self) -> None:
        """Keep the connection; until cancelled."""
        pause, longest = _BACKOFF_S
        while True:
            client = aiomqtt.Client(
                self._host,
                self._port,
                username=self._username,
                password=self._password,
                identifier=self.name,
                timeout=_PUBACK_TIMEOUT_S,
                keepalive=30,
            )
            try:
                async with client:
                    self._report(True)
                    pause = _BACKOFF_S[0]
                    await self._publish_all(client)
            except aiomqtt.MqttError as error:
                self._report(False, str(error))
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(longest, pause * 2)

    async def _publish_all(self, client: aiomqtt.Client) -> None:
        window = asyncio.Semaphore(WINDOW)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    while not self._store:
                        self._arrived.clear()
                        await self._arrived.wait()
                    await window.acquire()
                    waiting = self._store.popleft()
                    self._order += 1
                    self._under_way[self._order] = waiting
                    # Tasks begin in the order of their creation, and publish() hands over before it waits.
                    publishing = self._publish(client, self._order, waiting, window)
                    tasks.create_task(publishing, name=f"{self.name}-publish")
        except* aiomqtt.MqttError as group:
            raise aiomqtt.MqttError(str(group.exceptions[0])) from group
        finally:
            self._store.extendleft(self._under_way[order] for order in sorted(self._under_way, reverse=True))
            self._under_way.clear()

    async def _publish(self, client: aiomqtt.Client, order: int, waiting: _Waiting, window: asyncio.Semaphore) -> None:
        message = waiting.message
        waiting.attempts += 1
        if waiting.attempts == 1:
            waiting.sent_at = time.time_ns() // 1000
            self.sent += 1
        self._note(waiting, None)
        await client.publish(message.topic, message.payload, qos=1)
        self.acked += 1
        self._note(waiting, time.time_ns() // 1000)
        del self._under_way[order]
        window.release()

    def _note(self, waiting: _Waiting, acked_at: int | None) -> None:
        if self._ledger is not None:
            message = waiting.message
            self._ledger.message(
                message.device,
                message.sequence,
                message.topic,
                message.what,
                message.payload,
                waiting.sent_at,
                acked_at,
                waiting.attempts,
            )

    def _report(self, up: bool, why: str = "") -> None:
        """Say it once when the connection goes, and once when it comes."""
        if up != self._up:
            self._up = up
            self._say({"type": "link", "link": self.name, "up": up} | ({"why": why} if why else {}))


class Fleet:
    """All connections, and which device speaks over which."""

    def __init__(self, options: CityOptions, ledger: CityLedger | None, say: Say) -> None:
        self.links: list[Link] = []
        self._own: dict[str, Link] = {}
        if options.mqtt_url is None:
            return
        fleet = options.credentials.get("fleet", {})
        for number in range(options.connections):
            name = f"city-{options.seed}-{number}"
            self.links.append(Link(name, options.mqtt_url, fleet.get("username"), fleet.get("password"), ledger, say))
        passwords = options.credentials.get("devices", {})
        lamps = [d.device for d in options.city.devices if d.profile == "generic/json-lamp"]
        known = [device for device in lamps if device in passwords] or lamps
        for device in known[: options.own_credentials]:
            link = Link(device, options.mqtt_url, device, passwords.get(device), ledger, say)
            self._own[device] = link
        self._numbers = {device.device: number for number, device in enumerate(options.city.devices)}

    @property
    def all_links(self) -> list[Link]:
        return [*self.links, *self._own.values()]

    def offer(self, message: Message) -> None:
        """Hand a message to its device's connection; a device always has the same one, so its order is kept."""
        if not self.links:
            return
        own = self._own.get(message.device)
        (own or self.links[self._numbers.get(message.device, 0) % len(self.links)]).offer(message)

    async def drain(self, seconds: float) -> None:
        """Wait until everything is acknowledged, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not all(link.idle for link in self.all_links):  # noqa: ASYNC110  at the very end, once
                    await asyncio.sleep(0.02)


async def run_city(options: CityOptions, ledger: CityLedger | None, say: Say, stop: asyncio.Event) -> dict[str, Any]:
    """Run the city until ``stop`` is set or its time is over; returns the summary. Raises OSError for a port in use.

    ``say`` gets what happens, one dictionary each: ``ready`` (Modbus ports), ``link`` (up or down), ``fault`` (begin
    or end, in both languages, with the alarms expected), ``rates`` (each second), at the end ``summary``.
    """
    start_ms = options.start_ms if options.start_ms is not None else time.time_ns() // 1_000_000
    simulation = Simulation(
        options.city, options.seed, start_ms, options.speed, SCENARIOS[options.scenario], stranger=options.stranger
    )
    fleet = Fleet(options, ledger, say)
    async with ModbusServers(options.city, simulation.world, options.modbus_ports) as modbus:
        if options.modbus_ports_file is not None:
            write_whole(options.modbus_ports_file, json.dumps(modbus.ports) + "\n")
        say({"type": "ready", "modbus": modbus.ports, "assets": len(options.city.assets)})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(link.run(), name=link.name) for link in fleet.all_links]
            tasks.append(group.create_task(_every_second(fleet, modbus, ledger, say), name="city-second"))
            await _live(simulation, options, fleet, ledger, say, stop)
            await fleet.drain(5.0)
            for task in tasks:
                task.cancel()
        summary = {"type": "summary", **_counts(fleet, modbus)}
    say(summary)
    return summary


async def _live(
    simulation: Simulation,
    options: CityOptions,
    fleet: Fleet,
    ledger: CityLedger | None,
    say: Say,
    stop: asyncio.Event,
) -> None:
    """Let simulated time follow real time."""
    began = time.monotonic()
    end = options.duration_s if options.duration_s is not None else float("inf")
    while not stop.is_set():
        passed = min(end, time.monotonic() - began)
        for happening in simulation.until(passed * options.speed):
            if isinstance(happening, Message):
                fleet.offer(happening)
            else:
                _tell(happening, ledger, say)
        if passed >= end:
            return
        # Modbus answers come from the world too: it may not stand still longer than a step.
        pause = min((simulation.next_at / options.speed) - passed, 1.0 / max(1.0, options.speed), end - passed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, pause)):
                await stop.wait()


def _tell(note: Note, ledger: CityLedger | None, say: Say) -> None:
    if ledger is not None:
        ledger.fault(time.time_ns() // 1000, note.fault, note.asset, note.step, note.zh, note.en)
    say({"type": "fault", "at": note.at, "fault": note.fault, "asset": note.asset, "step": note.step, "zh": note.zh,
         "en": note.en, "expect": list(note.expect)})  # fmt: skip


async def _every_second(fleet: Fleet, modbus: ModbusServers, ledger: CityLedger | None, say: Say) -> None:
    while True:
        await asyncio.sleep(1.0)
        if ledger is not None:
            ledger.flush()
        say({"type": "rates", **_counts(fleet, modbus)})


def _counts(fleet: Fleet, modbus: ModbusServers) -> dict[str, int]:
    links = fleet.all_links
    return {
        "sent": sum(link.sent for link in links),
        "acked": sum(link.acked for link in links),
        "dropped": sum(link.dropped for link in links),
        "modbus_requests": modbus.requests,
    }
