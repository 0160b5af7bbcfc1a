"""``citywatch doctor``: can this configuration work on this machine now? One finding a line.

It looks from outside: it opens no data file of a running gateway and changes nothing but a probe file it deletes.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import httpx

from gateway import disk
from gateway.check import check_everything
from gateway.clock import EARLIEST
from gateway.config.assets import load_asset_files
from gateway.config.bundle import load_configuration
from gateway.config.settings import MqttSettings, Settings, load_settings
from gateway.core.modbus_address import parse_address
from gateway.core.model import SECOND
from gateway.core.profile import Point, Profile, Transport
from gateway.core.registers import BlockRead, plan_reads
from gateway.errors import ConfigError
from gateway.journal.embedded import MIN_SQLITE, sync_probe
from gateway.lock import is_running
from gateway.sources.broker import find_server, loss_window

PROBE_TIMEOUT_S = 3.0
PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
LYING_SYNC_US = 20.0  # a 4 kB write and sync faster than this is not on a disk (reliability F14)


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok`` False: it cannot work like this. A note is ok and still worth reading."""

    subject: str
    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'BAD '} {self.subject:<12} {self.text}"

    def as_json(self) -> dict[str, object]:
        return {"subject": self.subject, "ok": self.ok, "text": self.text}


def examine(config: Path) -> list[Finding]:
    """All findings for the settings in ``config``. Raises ConfigError when they cannot be read at all."""
    settings = load_settings(config)
    return list(_findings(settings, config))


def _findings(settings: Settings, config: Path) -> Iterator[Finding]:
    report = check_everything(config)
    yield Finding("files", report.ok, report.lines()[-1])
    running = is_running(settings.data)
    yield Finding("gateway", True, "is running" if running else "is not running")
    yield from _disk(settings)
    yield _clock()
    yield from _libraries()
    yield from _port("console", settings.console.host, settings.console.port, running)
    for broker in settings.mqtt:
        yield from _broker(broker, running)
    for stations in settings.hj212:
        yield from _port(f"hj212 {stations.id}", stations.host, stations.port, running)
    yield from _modbus(settings)
    for sink in settings.sinks:
        yield _http(f"sink {sink.name}", sink.url.rstrip("/") + "/health")
    for receiver in settings.receivers:
        url = getattr(receiver, "url", None)  # those with a secret address are asked only when they are used
        if url is not None:
            parts = urlsplit(url)
            port = parts.port or PORTS.get(parts.scheme, 80)
            yield _reach(f"receiver {receiver.name}", parts.hostname or "", port)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data
    while not folder.exists():
        folder = folder.parent
    try:
        room = disk.room(folder)
        full = disk.DiskGuard(settings.disk.reserve).judge(room)
        text = f"{room.free / 2**30:.1f} GiB free, {room.used:.0f} % used, in {folder}"
        yield Finding("disk", not full, text + (": below the reserve, no telemetry would be taken" if full else ""))
        p50 = sync_probe(folder)
        lying = p50 < LYING_SYNC_US
        yield Finding(
            "sync",
            not lying,
            f"write and sync of 4 kB takes {p50:.0f} µs"
            + (": faster than any disk; what is acknowledged would not survive a power cut" if lying else ""),
        )
    except OSError as error:
        yield Finding("disk", False, f"{folder}: {error.strerror or error}")


def _clock() -> Finding:
    ok = time.time() * 1e6 >= EARLIEST
    return Finding("clock", ok, time.strftime("%Y-%m-%d %H:%M:%S %z") + ("" if ok else ": plainly wrong"))


def _modbus(settings: Settings) -> Iterator[Finding]:
    """How every Modbus device named in the asset files is read, and whether it can be reached."""
    try:
        _, configuration = load_configuration(settings)
        files = {str(file): file for file in settings.assets}
        _, devices = load_asset_files(files, configuration.profiles, None)
    except ConfigError:
        return  # `files` has said so
    for device in devices:
        profile = configuration.profiles.get(device.profile)
        if profile is None or profile.transport is not Transport.MODBUS:
            continue
        line, unit = parse_address(device.address)
        interval = device.expected_interval or profile.expected_interval or settings.modbus.default_interval
        plan = ", ".join(_block(block, profile) for block in plan_reads(profile))
        text = f"unit {unit} on {line.name}, every {interval / SECOND:g} s: {plan}"
        if may_be_set := ", ".join(_settable(point) for point in profile.points if point.write is not None):
            text += f"; may be set{'' if settings.modbus.allow_writes else ' (switched off)'}: {may_be_set}"
        if line.places:
            host, port = line.places[0]
            reach = _reach(f"modbus {device.device}", host, port)
            yield Finding(reach.subject, reach.ok, f"{text}; {reach.text}")
        else:
            there = Path(line.port).exists()
            yield Finding(f"modbus {device.device}", there, text if there else f"{text}; there is no {line.port}")


def _block(block: BlockRead, profile: Profile) -> str:
    """``3:0+39 (17 values)``: function code, first address, how many, and how many values of the profile lie in it."""
    values = sum(
        register.function == block.function_code and block.address <= register.address < block.address + block.count
        for register in profile.registers
    )
    return f"{block.function_code}:{block.address}+{block.count} ({values} values)"


def _settable(point: Point) -> str:
    """``p1_setpoint 0 to 100 %``, or the name alone where there is nothing but states."""
    limits = point.write
    if limits is None or limits.low == -math.inf:
        return point.name
    return f"{point.name} {limits.low:g} to {limits.high:g} {point.unit}".rstrip()


def _libraries() -> Iterator[Finding]:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    yield Finding("database", version >= MIN_SQLITE, f"SQLite {apsw.sqlite_lib_version()}")


def _broker(broker: MqttSettings, running: bool) -> Iterator[Finding]:
    subject = f"mqtt {broker.id}"
    if broker.embedded:
        yield Finding(subject, True, f"embedded: {find_server()}")
        yield from _port(subject, "127.0.0.1", broker.port, running)
    else:
        parts = urlsplit(broker.url or "")
        secure = parts.scheme == "mqtts"
        port = parts.port or (8883 if secure else 1883)
        yield _reach(subject, parts.hostname or "", port, broker if secure else None)
    for text in loss_window(broker.url or "embedded"):
        yield Finding(subject, True, text)


def _port(subject: str, host: str, port: int, running: bool) -> Iterator[Finding]:
    if port == 0:
        return
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            yield Finding(subject, True, f"port {port} on {host} is free")
        except OSError as error:
            text = f"port {port} on {host}: {error.strerror}"
            yield Finding(subject, running, text + (" (by the running gateway)" if running else "; stop who holds it"))


def _reach(subject: str, host: str, port: int, tls: MqttSettings | None = None) -> Finding:
    async def connect() -> str:
        context = None
        if tls is not None:
            context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
            if tls.certificate_file is not None:
                context.load_cert_chain(tls.certificate_file, tls.key_file)
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        writer.close()
        return f"{host}:{port} answers"

    try:
        return Finding(subject, True, asyncio.run(connect()))
    except (OSError, TimeoutError, ssl.SSLError) as error:
        return Finding(subject, False, f"{host}:{port} does not answer: {str(error) or 'no answer in time'}")


def _http(subject: str, url: str) -> Finding:
    try:
        answer = httpx.get(url, timeout=PROBE_TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(subject, False, f"{url} does not answer: {error}")
    return Finding(subject, answer.status_code < 500, f"{url} answers {answer.status_code}")
