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
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt

from simulators.city import City, write_whole
from simulators.devices import HJ212
from simulators.hj212 import StationLink, Telegram
from simulators.ledger import CityLedger
from simulators.load import CONNECTS_PER_S, Pace, allow_open_files, broker_of, tls_of
from simulators.messages import Message, Note
from simulators.modbus_servers import ModbusServers
from simulators.scenario import Scenario
from simulators.simulation import Happening, Simulation
from simulators.stream import record

STORE = 20_000
WINDOW = 50
_PUBACK_TIMEOUT_S = 10.0
_BACKOFF_S = (0.2, 5.0)
_KEEP_ALIVE_S = (45, 75)  # of each connection another: thousands made at once must not ask for a sign of life at once

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class CityOptions:
    """How a city is run. ``mqtt_url`` None: Modbus only. ``own_credentials``: so many lamps connect as themselves.
    ``hj212``: (host, port) where dust stations connect. ``scenario_clock``: devices' clocks show the scenario's time,
    as fast as it goes; else the wall's. ``wait``: the first second is when a line comes on stdin."""

    city: City
    scenario: Scenario
    mqtt_url: str | None
    hj212: tuple[str, int] | None = None
    credentials: Mapping[str, Any] = field(default_factory=dict)
    own_credentials: int = 0
    connections: int = 4
    modbus_ports: Mapping[str, int] = field(default_factory=dict)
    modbus_ports_file: Path | None = None
    seed: int = 1
    speed: float = 1.0
    duration_s: float | None = None
    scenario_clock: bool = False
    stranger: bool = True
    start_ms: int | None = None
    wait: bool = False


@dataclass(slots=True)
class _Waiting:
    """A message until its PUBACK has come."""

    message: Message
    sent_at: int = 0
    attempts: int = 0


class Link:
    """One MQTT connection: connect → publish → lost → wait → connect, with a store of what is not acknowledged."""

    def __init__(
        self,
        name: str,
        url: str,
        username: str | None,
        password: str | None,
        ledger: CityLedger | None,
        say: Say,
        pace: Pace | None = None,
    ) -> None:
        """``pace``: lets the connections of a process come one after the other."""
        self.name = name
        self.sent = self.acked = self.dropped = 0
        self._host, self._port, url_user, url_password = broker_of(url)
        self._username, self._password = username or url_user, password or url_password
        self._tls = tls_of(url)
        self._ledger, self._say, self._pace = ledger, say, pace
        self._keep_alive_s = random.Random(name).randint(*_KEEP_ALIVE_S)
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
            if self._pace is not None:
                await self._pace.turn()
            client = aiomqtt.Client(
                self._host,
                self._port,
                username=self._username,
                password=self._password,
                identifier=self.name,
                timeout=_PUBACK_TIMEOUT_S,
                keepalive=self._keep_alive_s,
                tls_context=self._tls,
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
        self.stations: dict[str, StationLink] = {}
        self.late_s = 0.0  # the longest that a message has waited for us, in real seconds
        if options.hj212 is not None:
            dust = [device.device for device in options.city.devices if device.is_hj212]
            self.stations = {device: StationLink(*options.hj212) for device in dust}
        if options.mqtt_url is None:
            return
        allow_open_files()
        pace = Pace(CONNECTS_PER_S)
        fleet = options.credentials.get("fleet", {})
        for number in range(options.connections):
            name = f"city-{options.seed}-{number}"
            login = fleet.get("username"), fleet.get("password")
            self.links.append(Link(name, options.mqtt_url, *login, ledger, say, pace))
        passwords = options.credentials.get("devices", {})
        lamps = [d.device for d in options.city.devices if d.profile == "generic/json-lamp"]
        known = [device for device in lamps if device in passwords] or lamps
        for device in known[: options.own_credentials]:
            link = Link(device, options.mqtt_url, device, passwords.get(device), ledger, say, pace)
            self._own[device] = link
        self._numbers = {device.device: number for number, device in enumerate(options.city.devices)}

    @property
    def all_links(self) -> list[Link]:
        return [*self.links, *self._own.values()]

    def offer(self, message: Message) -> None:
        """Hand a message to its device's connection; a device always has the same one, so its order is kept."""
        if message.topic == HJ212:
            if (station := self.stations.get(message.device)) is not None:
                number = message.payload.partition(b"QN=")[2][:17].decode()
                station.offer(Telegram(number, message.payload))
            return
        if not self.links:
            return
        own = self._own.get(message.device)
        (own or self.links[self._numbers.get(message.device, 0) % len(self.links)]).offer(message)

    def _idle(self) -> bool:
        return all(link.idle for link in self.all_links) and not any(s.waiting for s in self.stations.values())

    async def drain(self, seconds: float) -> None:
        """Wait until everything is acknowledged, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._idle():  # noqa: ASYNC110  at the very end, once
                    await asyncio.sleep(0.02)


async def run_city(options: CityOptions, ledger: CityLedger | None, say: Say, stop: asyncio.Event) -> dict[str, Any]:
    """Run the city until ``stop`` is set or its time is over; returns the summary. Raises OSError for a port in use.

    ``say`` gets what happens, one dictionary each: ``ready`` (Modbus ports), ``link`` (up or down), ``fault`` (begin
    or end, in both languages), ``truth`` (records as of ``stream``), ``rates`` (each second), at the end ``summary``.
    """
    start_ms = options.start_ms if options.start_ms is not None else time.time_ns() // 1_000_000
    if options.scenario_clock:
        start_ms = round(options.scenario.start.timestamp() * 1000)
    simulation = Simulation(
        options.scenario,
        options.city,
        options.seed,
        start_ms=start_ms,
        speed=1.0 if options.scenario_clock else options.speed,
        stranger=options.stranger,
    )
    fleet = Fleet(options, ledger, say)
    with simulation:
        return await _run(options, simulation, fleet, ledger, say, stop)


async def _run(
    options: CityOptions,
    simulation: Simulation,
    fleet: Fleet,
    ledger: CityLedger | None,
    say: Say,
    stop: asyncio.Event,
) -> dict[str, Any]:
    async with ModbusServers(simulation.world, options.modbus_ports, speed=options.speed) as modbus:
        if options.modbus_ports_file is not None:
            write_whole(options.modbus_ports_file, json.dumps(modbus.ports) + "\n")
        say({"type": "ready", "modbus": modbus.ports, "assets": len(options.city.assets)})
        if options.wait:
            await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(link.run(), name=link.name) for link in fleet.all_links]
            tasks += [group.create_task(station.run(), name=name) for name, station in fleet.stations.items()]
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
            _hand_on(happening, fleet, ledger, say)
        # What was due while we slept or worked is late by as much.
        fleet.late_s = max(fleet.late_s, time.monotonic() - began - passed)
        if passed >= end:
            if options.scenario_clock:
                for happening in simulation.ends():
                    _hand_on(happening, fleet, ledger, say)
            return
        # Modbus answers come from the world too: it may not stand still longer than a step.
        pause = min((simulation.next_at / options.speed) - passed, 1.0 / max(1.0, options.speed), end - passed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, pause)):
                await stop.wait()


def _hand_on(happening: Happening, fleet: Fleet, ledger: CityLedger | None, say: Say) -> None:
    """Messages to their wires, notes to people, the truth to whoever judges."""
    if isinstance(happening, Message):
        fleet.offer(happening)
    elif isinstance(happening, Note):
        _tell(happening, ledger, say)
    elif (found := record(happening)) is not None:
        say({"type": "truth", "record": list(found)})


def _tell(note: Note, ledger: CityLedger | None, say: Say) -> None:
    if ledger is not None:
        ledger.fault(time.time_ns() // 1000, note.fault, note.asset, note.step, note.zh, note.en)
    say({"type": "fault", "at": note.at, "fault": note.fault, "asset": note.asset, "step": note.step, "zh": note.zh,
         "en": note.en})  # fmt: skip


async def _every_second(fleet: Fleet, modbus: ModbusServers, ledger: CityLedger | None, say: Say) -> None:
    while True:
        await asyncio.sleep(1.0)
        if ledger is not None:
            ledger.flush()
        say({"type": "rates", **_counts(fleet, modbus)})


def _counts(fleet: Fleet, modbus: ModbusServers) -> dict[str, float]:
    links = fleet.all_links
    return {
        "sent": sum(link.sent for link in links),
        "acked": sum(link.acked for link in links),
        "dropped": sum(link.dropped for link in links),
        "modbus_requests": modbus.requests,
        "late_s": round(fleet.late_s, 3),
    }
