"""python -m simulators load: as many devices as wanted, as fast as asked, and an account of every message.

Hand-packed MQTT 3.1.1 over raw asyncio. Each of ``connections`` connections carries its share of the devices (those
whose index leaves the same remainder) with at most ``inflight`` unacknowledged messages. A lost connection is made
again and everything unacknowledged is sent again, in order, marked DUP. Nothing is forgotten until its PUBACK.
Connections are made ``CONNECTS_PER_S`` a second, so that thousands of them are no storm.

What device ``index`` says in message ``sequence`` follows from the seed alone (``expected_values``), so that a judge
can recompute it; the device is ``device_id(index)``, its topic ``topic(index, …)``, its ``ts`` the ``sent_at`` of the
ledger in whole milliseconds, its ``seq`` the sequence. Values stay inside every shipped rule's limits, except that with
``alarms_every = K`` every K-th device is a pipe gauge that overflows (``freeboard`` −0.05 m instead of about 1.5 m) in
the messages whose sequence leaves a remainder of 10, 11 or 12 by 20: one alarm raised and cleared per 20 messages.

Every asset is ``simulated`` and so is every message, which says it before anything else: its alarms reach receivers of
tests alone, and sent by mistake to a real asset it is refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import gc
import json
import os
import random
import resource
import signal
import ssl
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from simulators import mqtt_wire
from simulators.ledger import LoadLedger

PROFILES = {"lamp": "generic/json-lamp", "pipe": "generic/json-pipe", "road": "generic/json-road"}
ALARM_PERIOD, ALARM_FIRST, ALARM_LAST = 20, 10, 12
MARK = '{"simulated":true,'  # the first bytes of every payload

_BACKOFF_S = (0.1, 2.0)  # first and longest pause between attempts to connect; ±50 % jitter
_CONNECT_TIMEOUT_S = 5.0
_STALL_S = 20.0  # nothing acknowledged for so long while something waits: the connection is given up
_TICK_S = 0.01
_LONGEST_TICK_S = 5.0  # of a connection that has nothing to do; 4,000 of them take 0.11 core, their pings with it
KEEP_ALIVE_S = 30
CONNECTS_PER_S = 200  # nats-server and mosquitto take several times as many without a queue
LATENCIES_KEPT = 1_000_000
USERNAME, PASSWORD = "CITYWATCH_MQTT_USERNAME", "CITYWATCH_MQTT_PASSWORD"  # in the environment: seen by no `ps`


@dataclass(frozen=True, slots=True)
class Plan:
    """What identifies the load: enough to recompute every payload."""

    seed: int = 1
    devices: int = 1000
    payload_values: int = 4
    alarms_every: int = 0
    first_sequence: int = 1


def device_id(index: int) -> str:
    """``load-000001`` is device 1, the first."""
    return f"load-{index:06d}"


def kind_of(index: int, alarms_every: int = 0) -> str:
    """Seven lamps, two pipes and a road gauge in ten; the devices that raise alarms are pipes."""
    if alarms_every and index % alarms_every == 0:
        return "pipe"
    return ("lamp", "lamp", "lamp", "lamp", "lamp", "lamp", "lamp", "pipe", "pipe", "road")[index % 10]


def topic(index: int, alarms_every: int = 0) -> str:
    """The MQTT topic of a device."""
    return f"citywatch/v1/{kind_of(index, alarms_every)}/{device_id(index)}/telemetry"


def in_alarm(index: int, sequence: int, alarms_every: int) -> bool:
    """Does this message report an overflowing pipe?"""
    return bool(alarms_every and index % alarms_every == 0 and ALARM_FIRST <= sequence % ALARM_PERIOD <= ALARM_LAST)


def expected_values(
    seed: int, device_index: int, seq: int, payload_values: int = 4, alarms_every: int = 0
) -> dict[str, float]:
    """The values of message ``seq`` of a device: point → number in the canonical unit, in the order sent.

    Every number is an integer over a power of ten, so its JSON text is exact: what a correct decoder reads is equal
    to it, not merely close.
    """
    mixed = _mix(seed, device_index, seq)
    kind = kind_of(device_index, alarms_every)
    if kind == "lamp":
        values = {
            "power": (850 + (mixed & 127)) / 10,
            "voltage": (2160 + (mixed >> 7 & 63)) / 10,
            "current": (400 + (mixed >> 13 & 63)) / 1000,
            "pf": (900 + (mixed >> 19 & 63)) / 1000,
            "temp": (200 + (mixed >> 25 & 63)) / 10,
            "energy": (10_000 + seq) / 10,
            "burn_hours": (50_000 + seq) / 10,
            "dim": 100.0,
        }
    elif kind == "pipe":
        values = {
            "level": (200 + (mixed & 63)) / 1000,
            "freeboard": -0.05 if in_alarm(device_index, seq, alarms_every) else (1500 + (mixed >> 7 & 63)) / 1000,
            "flow": (1000 + (mixed >> 13 & 63)) / 10,
            "velocity": (50 + (mixed >> 19 & 31)) / 100,
            "temp": (120 + (mixed >> 25 & 63)) / 10,
            "battery": 90.0,
        }
    else:
        values = {
            "depth": (mixed & 15) / 10,
            "battery": (800 + (mixed >> 7 & 127)) / 10,
            "rssi": -60.0 - (mixed >> 14 & 31),
            "battery_voltage": (3500 + (mixed >> 19 & 127)) / 1000,
        }
    return dict(list(values.items())[:payload_values])


def payload(plan: Plan, index: int, sequence: int, sent_ms: int) -> bytes:
    """The message itself; the fast path for four values says the same as ``expected_values``."""
    if plan.payload_values != 4:
        values = expected_values(plan.seed, index, sequence, plan.payload_values, plan.alarms_every)
        return f'{MARK}"ts":{sent_ms},"seq":{sequence},"values":{json.dumps(values)}}}'.encode()
    mixed = _mix(plan.seed, index, sequence)
    kind = kind_of(index, plan.alarms_every)
    if kind == "lamp":
        text = (
            f'{MARK}"ts":{sent_ms},"seq":{sequence},"values":{{"power":{(850 + (mixed & 127)) / 10},'
            f'"voltage":{(2160 + (mixed >> 7 & 63)) / 10},"current":{(400 + (mixed >> 13 & 63)) / 1000},'
            f'"pf":{(900 + (mixed >> 19 & 63)) / 1000}}}}}'
        )
    elif kind == "pipe":
        freeboard = -0.05 if in_alarm(index, sequence, plan.alarms_every) else (1500 + (mixed >> 7 & 63)) / 1000
        text = (
            f'{MARK}"ts":{sent_ms},"seq":{sequence},"values":{{"level":{(200 + (mixed & 63)) / 1000},'
            f'"freeboard":{freeboard},"flow":{(1000 + (mixed >> 13 & 63)) / 10},'
            f'"velocity":{(50 + (mixed >> 19 & 31)) / 100}}}}}'
        )
    else:
        text = (
            f'{MARK}"ts":{sent_ms},"seq":{sequence},"values":{{"depth":{(mixed & 15) / 10},'
            f'"battery":{(800 + (mixed >> 7 & 127)) / 10},"rssi":{-60.0 - (mixed >> 14 & 31)},'
            f'"battery_voltage":{(3500 + (mixed >> 19 & 127)) / 1000}}}}}'
        )
    return text.encode()


def _mix(seed: int, index: int, sequence: int) -> int:
    """Thirty-two well-mixed bits of three numbers (Knuth's multiplicative hash, one round of xor-shift)."""
    mixed = (seed * 7919 + index * 104_729 + sequence * 1_299_709) * 2_654_435_761 & 0xFFFFFFFFFF
    return mixed ^ mixed >> 17


@dataclass(frozen=True, slots=True)
class Target:
    """The broker and how hard to press it. ``rate``: messages a second of all connections; None = as fast as it goes.
    ``duration_s`` or ``count`` (messages of all connections) ends the sending, whichever comes first."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    connections: int = 8
    qos: int = 1
    inflight: int = 100
    rate: float | None = None
    duration_s: float | None = None
    count: int | None = None
    drain_s: float = 10.0
    client_prefix: str = "load"
    tls: ssl.SSLContext | None = None


class Generator:
    """The load of one plan on one target, with its account. ``await run()`` ends when all is sent and acknowledged,
    or ``drain_s`` after the sending ended."""

    def __init__(self, plan: Plan, target: Target, ledger: LoadLedger | None = None) -> None:
        self.plan = plan
        self.target = target
        self.records: array[int] = ledger.pending if ledger else array("q")
        self.sent = self.acked = self.resent = self.reconnects = self.refused = self.connected = 0
        self.latencies = Latencies()
        self.pace = Pace(CONNECTS_PER_S)
        self.stopping = asyncio.Event()
        self.settled = asyncio.Event()  # sending has ended and everything is acknowledged
        self._ledger = ledger
        self._links = [_Link(self, number) for number in range(target.connections)]

    @property
    def unacked(self) -> int:
        return self.sent - self.acked if self.target.qos else 0

    def stop(self) -> None:
        """End the sending now; what is under way is still waited for."""
        self.stopping.set()

    async def run(self, on_second: Callable[[Generator], None] | None = None) -> dict[str, Any]:
        """Send; returns the summary. ``on_second`` is called about once a second."""
        began, cpu = time.monotonic(), time.process_time()
        tasks = [asyncio.create_task(link.run(), name=f"load-link-{link.number}") for link in self._links]
        ticker = asyncio.create_task(self._every_second(on_second), name="load-second")
        try:
            await self._until_sent()
            sending_s = time.monotonic() - began
            sent = self.sent
            await self._until_acknowledged()
            total_s = time.monotonic() - began
        finally:
            for task in (*tasks, ticker):
                task.cancel()
            await asyncio.gather(*tasks, ticker, return_exceptions=True)
            self._account_for_the_rest()
        used = time.process_time() - cpu
        return {
            "type": "summary",
            "sent": self.sent,
            "acked": self.acked,
            "unacked": self.unacked,
            "resent": self.resent,
            "reconnects": self.reconnects,
            "refused": self.refused,
            "connections": len(self._links),
            "seconds": round(total_s, 3),
            "rate": round(sent / sending_s, 1) if sending_s else 0.0,
            "cpu_us_per_message": round(used / max(1, self.sent) * 1e6, 2),
            "cpu_share": round(used / total_s, 3) if total_s else 0.0,
            "ack_ms": self.latencies.in_ms(),
        }

    async def _until_sent(self) -> None:
        for link in self._links:
            link.allow()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.target.duration_s):
                await self.stopping.wait()
        self.stopping.set()

    async def _until_acknowledged(self) -> None:
        if self.target.qos and self.unacked:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.target.drain_s):
                    await self.settled.wait()

    async def _every_second(self, on_second: Callable[[Generator], None] | None) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._ledger is not None:
                self._ledger.flush()
            elif len(self.records) > 4_000_000:
                del self.records[:]
            if on_second is not None:
                on_second(self)

    def _account_for_the_rest(self) -> None:
        """What was never acknowledged is written down too, with 0 for the time of its acknowledgement."""
        for link in self._links:
            for device, sequence, sent_at, _packet in link.unacked.values():
                self.records.extend((device, sequence, sent_at, 0))
        if self._ledger is not None:
            self._ledger.flush()


class Latencies:
    """A fair sample of at most ``LATENCIES_KEPT`` times to the PUBACK, in µs: every second one is thrown away when it
    is full, and from then on only every second batch is taken."""

    def __init__(self) -> None:
        self._kept: array[int] = array("q")
        self._stride, self._batches = 1, 0

    def add(self, batch: array[int]) -> None:
        """Latencies that became known at once."""
        self._batches += 1
        if self._batches % self._stride:
            return
        self._kept.extend(batch)
        if len(self._kept) > LATENCIES_KEPT:
            del self._kept[::2]
            self._stride *= 2

    def in_ms(self) -> dict[str, float]:
        """Quantiles; empty when nothing was acknowledged."""
        ordered = sorted(self._kept)
        if not ordered:
            return {}
        at = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p999": 0.999, "max": 1.0}
        return {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000 for name, share in at.items()}


class Pace:
    """Lets so many through a second, in the order they come; who is late owes nothing."""

    def __init__(self, per_s: float) -> None:
        self._step = 1 / per_s
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        mine = max(now, self._next)
        self._next = mine + self._step
        if mine > now:
            await asyncio.sleep(mine - now)


class _Link(asyncio.Protocol):
    """One connection's life: connect → send, acknowledge → connection lost → wait → connect. Also its protocol."""

    def __init__(self, generator: Generator, number: int) -> None:
        plan, target = generator.plan, generator.target
        self.generator, self.number = generator, number
        self.target, self.plan = target, plan
        self.devices = range(number + 1, plan.devices + 1, target.connections)
        self.topics = [mqtt_wire.text(topic(index, plan.alarms_every)) for index in self.devices]
        self.unacked: dict[int, tuple[int, int, int, bytes]] = {}
        self.next_device, self.sequence = 0, plan.first_sequence
        self.packet_id = 0
        self.rate = target.rate / target.connections if target.rate else None
        self.phase = number / target.connections  # slow connections take turns within their interval
        share, rest = divmod(target.count or 0, target.connections)
        self.left = share + (number < rest) if target.count is not None else sys.maxsize
        self.started = 0.0
        self.made = 0
        self.transport: asyncio.Transport | None = None
        self.ready = False
        self.writable = True
        self.buffer = bytearray()
        self.lost: asyncio.Future[None] | None = None
        self.progress = 0.0

    def allow(self) -> None:
        """Sending may begin: the rate counts from now."""
        self.started = time.monotonic()

    async def run(self) -> None:
        """Keep a connection and pace the sending; until cancelled."""
        pause, longest = _BACKOFF_S
        loop = asyncio.get_running_loop()
        if not self.topics:
            return
        try:
            while True:
                self.lost = loop.create_future()
                await self.generator.pace.turn()
                try:
                    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                        await loop.create_connection(
                            lambda: self, self.target.host, self.target.port, ssl=self.target.tls
                        )
                except (OSError, TimeoutError):
                    pass
                else:
                    if await self._serve():
                        pause = _BACKOFF_S[0]
                self.generator.reconnects += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(longest, pause * 2)
        finally:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(mqtt_wire.DISCONNECT)
                self.transport.close()

    async def _serve(self) -> bool:
        """One connection until it is lost; returns whether the broker had let us in."""
        assert self.lost is not None
        self.progress = pinged = time.monotonic()
        was_ready = False
        while not self.lost.done():
            await asyncio.wait((self.lost,), timeout=self._until_due())
            now = time.monotonic()
            was_ready = was_ready or self.ready
            if self.ready:
                self.fill()
            if self.transport is None:
                continue
            if now - pinged > KEEP_ALIVE_S / 3 and self.ready:
                self.transport.write(mqtt_wire.PINGREQ)
                pinged = now
            if (self.unacked or not self.ready) and now - self.progress > _STALL_S:
                self.transport.abort()
        return was_ready

    def _until_due(self) -> float:
        """How long this connection may sleep: a slow one until its next message, one that is full a tick."""
        if self.rate is None or not self.ready or not self.started:
            return _TICK_S
        due = (self.made + 1 - self.phase) / self.rate - (time.monotonic() - self.started)
        return min(_LONGEST_TICK_S, max(_TICK_S, due))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports do not inherit
        self.buffer.clear()
        self.writable = True
        client_id = f"{self.target.client_prefix}-{self.plan.seed}-{self.number}"
        login = self.target.username, self.target.password
        self._write(mqtt_wire.connect(client_id, *login, keep_alive=KEEP_ALIVE_S))

    def connection_lost(self, exc: Exception | None) -> None:
        self.generator.connected -= self.ready
        self.ready = False
        self.transport = None
        if self.lost is not None and not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True

    def data_received(self, data: bytes) -> None:
        count, rest = divmod(len(data), 4)
        if not self.buffer and not rest and data[::4].count(mqtt_wire.PUBACK) == count and data[1::4].count(2) == count:
            packet_ids = array("H", data)  # the common case: nothing but PUBACKs, four bytes each
            if sys.byteorder == "little":
                packet_ids.byteswap()
            self._acknowledged(packet_ids[1::2])
            return
        self.buffer += data
        acknowledged: array[int] = array("H")
        for first, body in mqtt_wire.cut(self.buffer):
            if first == mqtt_wire.PUBACK:
                acknowledged.append(int.from_bytes(body[:2], "big"))
            elif first == mqtt_wire.CONNACK:
                self._let_in(body[1])
        self._acknowledged(acknowledged)

    # sending and accounting

    def _let_in(self, code: int) -> None:
        if code:
            self.generator.refused += 1
            print(f"load: the broker refuses us: {mqtt_wire.REFUSED.get(code, code)}", file=sys.stderr)
            assert self.transport is not None
            self.transport.close()
            return
        self.ready = True
        self.generator.connected += 1
        self.progress = time.monotonic()
        if self.unacked:
            self.generator.resent += len(self.unacked)
            self._write(b"".join(mqtt_wire.again(packet) for _, _, _, packet in self.unacked.values()))
        self.fill()

    def _acknowledged(self, packet_ids: array[int]) -> None:
        if not packet_ids:
            return
        now = time.time_ns() // 1000
        pop, note = self.unacked.pop, self.generator.records.extend
        waited: array[int] = array("q")
        for packet_id in packet_ids:
            entry = pop(packet_id, None)
            if entry is not None:
                note((entry[0], entry[1], entry[2], now))
                waited.append(now - entry[2])
        if waited:
            self.generator.acked += len(waited)
            self.progress = time.monotonic()
            self.generator.latencies.add(waited)
        if self.generator.stopping.is_set() and not self.generator.unacked:
            self.generator.settled.set()
        # Several acknowledgements make one write: a quarter of the window, or the next tick.
        if self.rate is None and len(self.unacked) <= self.target.inflight * 3 // 4:
            self.fill()

    def fill(self) -> None:
        """Send what window and rate allow, in one write."""
        generator = self.generator
        if not self.writable or not self.started or generator.stopping.is_set():
            return
        room = min(self.target.inflight - len(self.unacked), self.left)
        if self.rate is not None:
            room = min(room, int((time.monotonic() - self.started) * self.rate + self.phase) - self.made)
        if room <= 0:
            return
        if not self.unacked:
            self.progress = time.monotonic()  # the broker owes nothing until now
        now = time.time_ns() // 1000
        packets = self._packets(room, now, now // 1000)
        self.made += room
        self.left -= room
        generator.sent += room
        self._write(b"".join(packets))
        if not self.left and generator.sent == self.target.count:
            generator.stop()

    def _packets(self, count: int, now: int, now_ms: int) -> Iterator[bytes]:
        plan, devices, topics, unacked = self.plan, self.devices, self.topics, self.unacked
        for _ in range(count):
            place = self.next_device
            index, sequence = devices[place], self.sequence
            body = payload(plan, index, sequence, now_ms)
            if self.target.qos:
                self.packet_id = packet_id = self._free_packet_id()
                packet = mqtt_wire.publish(topics[place], body, packet_id)
                unacked[packet_id] = (index, sequence, now, packet)
            else:
                packet = mqtt_wire.publish_qos0(topics[place], body)
                self.generator.records.extend((index, sequence, now, 0))
            yield packet
            self.next_device = place + 1
            if self.next_device == len(topics):
                self.next_device = 0
                self.sequence += 1

    def _free_packet_id(self) -> int:
        packet_id = self.packet_id
        while True:
            packet_id = packet_id % 65535 + 1
            if packet_id not in self.unacked:
                return packet_id

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)


def write_load_assets(plan: Plan, path: Path, expected_interval: str = "1h") -> None:
    """The asset file of the load's devices: CSV, JSON, or YAML (every row in JSON's spelling), as the name ends.

    ``expected_interval`` is long on purpose: silence is not what a load test is about.
    """
    rows = [_asset_row(index, plan.alarms_every) for index in range(1, plan.devices + 1)]
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(
                ("asset", "kind", "name", "road", "town", "unit", "longitude", "latitude", "attr.rated_power", "device",
                 "profile", "address", "expected_interval", "simulated")
            )  # fmt: skip
            for row in rows:
                power = "100" if row["kind"] == "lamp" else ""
                name = row["asset"]
                writer.writerow((*row.values(), power, name, PROFILES[row["kind"]], name, expected_interval, "true"))
            return
        assets = [
            row | ({"attributes": {"rated_power": 100}} if row["kind"] == "lamp" else {}) | {"simulated": True}
            for row in rows
        ]
        devices = [
            {"device": row["asset"], "asset": row["asset"], "profile": PROFILES[row["kind"]], "address": row["asset"],
             "expected_interval": expected_interval}
            for row in rows
        ]  # fmt: skip
        if path.suffix == ".json":
            json.dump({"assets": assets, "devices": devices}, file, ensure_ascii=False)
            return
        for name, entries in (("assets", assets), ("devices", devices)):
            file.write(f"{name}:\n")
            file.writelines(f"- {json.dumps(entry, ensure_ascii=False)}\n" for entry in entries)


def _asset_row(index: int, alarms_every: int) -> dict[str, Any]:
    return {
        "asset": device_id(index), "kind": kind_of(index, alarms_every), "name": f"压测 {index}", "road": "水泊大街",
        "town": "水泊街道", "unit": "测试", "longitude": round(116.05 + index % 1000 * 1e-4, 4),
        "latitude": round(35.75 + index // 1000 * 1e-3, 3),
    }  # fmt: skip


def broker_of(url: str) -> tuple[str, int, str | None, str | None]:
    """Host, port, user name and password of ``mqtt[s]://[user:password@]host[:port]``. Raises ValueError."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == -1:
        # Not the whole address: a password may stand in it.
        where = url.rpartition("@")[2]
        raise ValueError(f"not an MQTT address: {where!r} (write mqtt://127.0.0.1:1883 or mqtts://host:8883)")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return parts.hostname, port or (8883 if parts.scheme == "mqtts" else 1883), username, password


def tls_of(url: str) -> ssl.SSLContext | None:
    """How to encrypt ``mqtts://``: by the certificates this machine trusts (and SSL_CERT_FILE). None for ``mqtt://``."""
    if urlsplit(url).scheme != "mqtts":
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def allow_open_files() -> int:
    """Let this process have as many open files, so connections, as it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def fleet_credentials(path: Path | None) -> tuple[str | None, str | None]:
    """User name and password of the multiplexing user in a credentials file; (None, None) without a file."""
    if path is None:
        return None, None
    fleet = json.loads(path.read_text(encoding="utf-8"))["fleet"]
    return fleet["username"], fleet["password"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m simulators load``."""
    parser.add_argument("--mqtt-url", help="mqtt[s]://[user:password@]host:port; without it only --assets-out is done")
    parser.add_argument("--credentials", type=Path, help='JSON with {"fleet": {"username": …, "password": …}}')
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rate", default="max", help="messages a second in all, or max")
    parser.add_argument("--for", dest="duration", type=float, metavar="SECONDS")
    parser.add_argument("--count", type=int, help="end after so many messages")
    parser.add_argument("--payload-values", type=int, default=4, metavar="N")
    parser.add_argument("--alarms-every", type=int, default=0, metavar="K")
    parser.add_argument("--first-sequence", type=int, default=1, metavar="N")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--inflight", type=int, default=100)
    parser.add_argument(
        "--drain", type=float, default=10.0, metavar="SECONDS", help="wait so long for the last PUBACKs"
    )
    parser.add_argument("--client-prefix", default="load")
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--assets-out", type=Path, metavar="FILE", help="write the asset file (.yaml .json .csv)")
    parser.add_argument("--expected-interval", default="1h")
    parser.add_argument("--status", action="store_true", help="a JSON line of rates every second")


def run(options: argparse.Namespace) -> int:
    """Carry out ``python -m simulators load``; prints the summary as one line of JSON. 1 when nothing got through."""
    plan = Plan(options.seed, options.devices, options.payload_values, options.alarms_every, options.first_sequence)
    if options.assets_out:
        write_load_assets(plan, options.assets_out, options.expected_interval)
    if not options.mqtt_url:
        return 0
    host, port, username, password = broker_of(options.mqtt_url)
    username, password = username or os.environ.get(USERNAME), password or os.environ.get(PASSWORD)
    if options.credentials:
        username, password = fleet_credentials(options.credentials)
    target = Target(
        host, port, username, password, min(options.connections, plan.devices), options.qos, options.inflight,
        None if options.rate == "max" else float(options.rate), options.duration, options.count, options.drain,
        options.client_prefix, tls_of(options.mqtt_url),
    )  # fmt: skip
    if target.connections + 100 > allow_open_files():
        raise ValueError(f"{target.connections} connections are more than this process may open (ulimit -Hn)")
    ledger = LoadLedger(options.ledger, asdict(plan)) if options.ledger else None
    gc.freeze()
    gc.disable()  # nothing here makes cycles at a rate
    try:
        runner = _runner()
        with runner:
            summary = runner.run(_with_signals(plan, target, ledger, options.status))
    finally:
        if ledger is not None:
            ledger.close()
    print(json.dumps(summary), flush=True)
    return 0 if summary["acked"] or not target.qos else 1


def _runner() -> asyncio.Runner:
    """With uvloop where it is installed: a third less CPU a message."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _with_signals(plan: Plan, target: Target, ledger: LoadLedger | None, status: bool) -> dict[str, Any]:
    generator = Generator(plan, target, ledger)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, generator.stop)
    return await generator.run(_print_status if status else None)


def _print_status(generator: Generator) -> None:
    counts = {"type": "rates", "sent": generator.sent, "acked": generator.acked, "unacked": generator.unacked}
    links = {"reconnects": generator.reconnects, "connected": generator.connected}
    print(json.dumps(counts | links), flush=True)
