"""Between a device and the broker: gateways that fail, weak links, duplicates, delays, memories, wrong clocks.

A ``Radio`` is asked for every message a device sends (``deliver``) and says when it arrives, if it does. A scenario
breaks it with the methods named after what happens; nothing is broken at first, and then a message arrives at once and
as it was. What a device kept during an outage comes out of ``due`` afterwards; ``next_at`` says when to ask.

Pure: time is an argument, in seconds since the start, and never goes back from one call to the next. Chance comes from
one generator a device, so that what befalls one device does not depend on how many others there are.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from simulators.messages import Message

FACTORY_S = 946_684_800  # 2000-01-01T00:00:00Z, where the clock of most real-time chips begins after a power loss

# Path loss of 868 MHz over land: 128.95 dB at 1 km and 23.2 dB a decade, 7.8 dB of shadowing; Petäjäjärvi et al., "On
# the coverage of LPWANs", ITST 2015. Shadowing is drawn once a device; what changes from message to message is less.
LOSS_AT_1_KM_DB, LOSS_A_DECADE_DB, SHADOWING_DB, FADING_DB = 128.95, 23.2, 7.8, 2.5
SENT_DBM = 16.0  # 14 dBm and the gateway's antenna, 2 dBi
NOISE_DBM = -117.0  # of 125 kHz: -174 + 51, and 6 dB of the receiver's own
BEST_SNR = 12.0  # a LoRa receiver reports no more, however near
# The weakest signal-to-noise ratio a spreading factor is heard at: Semtech's SX1276 data sheet.
FLOOR_SNR: Mapping[int, float] = {7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}
MARGIN_DB = 10.0  # what adaptive data rate keeps in hand

Delivery = tuple[float, Message]
Marker = Callable[[Message, float], Message]


@dataclass(frozen=True, slots=True)
class Signal:
    """How a gateway heard a message: dBm, dB, and the spreading factor it was sent with."""

    gateway: str
    rssi: int
    snr: float
    spreading: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a device does with messages nobody hears: it keeps the newest ``messages`` (0: none) and sends them after
    the outage, oldest first, ``per_s`` a second, beginning within ``within_s``: devices do not all come back at once.
    What it measures meanwhile goes out beside them, at once.
    ``mark`` makes a kept message one of history, where the device's format can say so: (it, when it is sent) → it."""

    messages: int = 0
    per_s: float = 1.0
    within_s: tuple[float, float] = (1.0, 30.0)
    mark: Marker | None = None


FORGETFUL = Memory()


@dataclass(slots=True)
class _Clock:
    """A clock that was wrong by ``offset_s`` at ``since`` and gains ``drift_ppm`` from then on."""

    since: float
    offset_s: float
    drift_ppm: float = 0.0
    stuck: bool = False

    def offset(self, at: float) -> float:
        if self.stuck:
            return self.offset_s - (at - self.since)
        return self.offset_s + (at - self.since) * self.drift_ppm * 1e-6


@dataclass(slots=True)
class _Path:
    """One device's way to its gateway, and what is wrong with it."""

    rng: random.Random
    gateway: str
    distance_m: float
    shadowing_db: float
    attenuation_db: float = 0.0
    loss: float = 0.0
    duplicates: float | None = None
    late: float | None = None
    memory: Memory = FORGETFUL
    kept: deque[Message] = field(default_factory=deque)
    sending: bool = False  # a step of its back-fill is in the calendar

    @property
    def mean_snr(self) -> float:
        return self.rssi_dbm - NOISE_DBM

    @property
    def rssi_dbm(self) -> float:
        loss = LOSS_AT_1_KM_DB + LOSS_A_DECADE_DB * math.log10(max(self.distance_m, 10.0) / 1000)
        return SENT_DBM - loss + self.shadowing_db - self.attenuation_db

    @property
    def spreading(self) -> int:
        """The fastest that leaves the margin, as adaptive data rate chooses; a lid over the antenna slows it down."""
        for factor, floor in FLOOR_SNR.items():
            if self.mean_snr >= floor + MARGIN_DB:
                return factor
        return 12

    @property
    def unheard(self) -> float:
        """How probable it is that fading takes the signal below the floor."""
        below = FLOOR_SNR[self.spreading] - self.mean_snr
        return 0.5 * (1 + math.erf(below / (FADING_DB * math.sqrt(2))))


class Radio:
    """The ways of all devices. ``start_ms``: wall-clock time of second 0 (only a clock that fell back needs it).
    ``gateways``: how many, called gateway-1 …"""

    def __init__(self, seed: int, start_ms: int = 0, gateways: int = 4) -> None:
        self.seed, self.start_ms = seed, start_ms
        self.gateways = tuple(f"gateway-{number}" for number in range(1, gateways + 1))
        self.counts: Counter[str] = Counter()  # lost, duplicated, late, kept, overwritten, back-filled
        self._paths: dict[str, _Path] = {}
        self._clocks: dict[str, _Clock] = {}
        self._down: set[str] = set()
        self._duplicates: tuple[float, float, float] = (0.0, 1.0, 8.0)
        self._late: tuple[float, float, float] = (0.0, 30.0, 300.0)
        self._order = itertools.count()
        self._due: list[tuple[float, int, str]] = []
        self._calm = True

    # asked by the simulation

    def deliver(self, message: Message, at: float) -> list[Delivery]:
        """When a message sent at ``at`` arrives: nothing (lost, or kept for later), once, or several times."""
        if self._calm:
            return [(at, message)]
        path = self._path(message.device)
        if self._is_down(message.device, path):
            self._keep(path, message)
            return []
        chance = max(path.loss, path.unheard if path.attenuation_db else 0.0)
        if chance and path.rng.random() < chance:
            self.counts["lost"] += 1
            return []
        arrives = at
        share, least, most = self._late
        share = share if path.late is None else path.late
        if share and path.rng.random() < share:
            self.counts["late"] += 1
            arrives += path.rng.uniform(least, most)
        deliveries = [(arrives, message)]
        share, least, most = self._duplicates
        share = share if path.duplicates is None else path.duplicates
        if share and path.rng.random() < share:
            self.counts["duplicated"] += 1
            deliveries.append((arrives + path.rng.uniform(least, most), message))
        return deliveries

    @property
    def next_at(self) -> float:
        """When a device next sends something it has kept; infinity when none has."""
        return self._due[0][0] if self._due else math.inf

    def due(self, at: float) -> list[Delivery]:
        """What devices have sent of their memories up to ``at``, in the order of its time."""
        deliveries: list[Delivery] = []
        while self._due and self._due[0][0] <= at:
            when, _, device = heapq.heappop(self._due)
            path = self._path(device)
            path.sending = False
            if self._is_down(device, path) or not path.kept:
                continue
            message = path.kept.popleft()
            self.counts["back-filled"] += 1
            deliveries.append((when, path.memory.mark(message, when) if path.memory.mark else message))
            if path.kept:
                self._send_next(device, path, when + 1 / path.memory.per_s)
        return deliveries

    def clock(self, device: str, at: float) -> float:
        """By how many seconds the device's clock is ahead of the true time at ``at`` (negative: behind)."""
        clock = self._clocks.get(device)
        return clock.offset(at) if clock is not None else 0.0

    def signal(self, device: str) -> Signal:
        """How the device's gateway hears its next message."""
        path = self._path(device)
        rssi = path.rssi_dbm + path.rng.gauss(0, FADING_DB)
        snr = min(BEST_SNR, rssi - NOISE_DBM)
        return Signal(path.gateway, round(max(-140.0, min(-20.0, rssi))), round(max(-25.0, snr), 1), path.spreading)

    def home(self, device: str) -> str:
        """The gateway a device speaks to."""
        return self._path(device).gateway

    def is_down(self, device: str) -> bool:
        """The device, or the gateway it speaks to, is off the air."""
        return self._is_down(device, self._path(device))

    def kept(self, device: str) -> int:
        """How many messages the device is keeping."""
        return len(self._path(device).kept)

    # done by a scenario

    def place(self, device: str, gateway: str, distance_m: float) -> None:
        """Where a device stands; else gateway and distance (50 to 1,500 m) follow from the seed."""
        if gateway not in self.gateways:
            raise ValueError(f"no such gateway: {gateway}")
        path = self._path(device)
        path.gateway, path.distance_m = gateway, distance_m

    def home_is(self, device: str, gateway: str) -> None:
        """Which gateway a device speaks to; how far it stands from it follows from the seed."""
        if gateway not in self.gateways:
            raise ValueError(f"no such gateway: {gateway}")
        self._path(device).gateway = gateway

    def cut(self, name: str, at: float) -> None:
        """A gateway, or a single device, is off the air."""
        self._down.add(name)
        self._calm = False

    def restore(self, name: str, at: float) -> None:
        """It is back; what was kept behind it begins to come."""
        self._down.discard(name)
        for device, path in self._paths.items():
            if name in (device, path.gateway) and path.kept and not self._is_down(device, path):
                self._send_next(device, path, at + path.rng.uniform(*path.memory.within_s))
        self._settle()

    def remember(self, devices: Iterable[str], memory: Memory) -> None:
        """What these devices do with messages nobody hears."""
        for device in devices:
            self._path(device).memory = memory

    def attenuate(self, device: str, db: float) -> None:
        """Something stands over the antenna (0: no longer): weaker signal, slower rate, loss by what is left."""
        self._path(device).attenuation_db = db
        self._settle()

    def lose(self, device: str, share: float) -> None:
        """Lose this share of a device's messages, whatever its signal."""
        self._path(device).loss = share
        self._settle()

    def duplicate(self, share: float, device: str | None = None, *, after_s: tuple[float, float] = (1.0, 8.0)) -> None:
        """Deliver this share of messages twice, of one device or of all that have no share of their own; the second
        time ``after_s`` later, which holds for all devices."""
        if device is not None:
            self._path(device).duplicates = share
        self._duplicates = (self._duplicates[0] if device is not None else share, *after_s)
        self._settle()

    def delay(self, share: float, device: str | None = None, *, by_s: tuple[float, float] = (30.0, 300.0)) -> None:
        """Deliver this share of messages late, of one device or of all that have no share of their own; ``by_s``
        holds for all devices."""
        if device is not None:
            self._path(device).late = share
        self._late = (self._late[0] if device is not None else share, *by_s)
        self._settle()

    def skew(self, device: str, seconds: float, at: float, drift_ppm: float = 0.0) -> None:
        """Set a device's clock wrong; it gains ``drift_ppm`` from then on (a cheap quartz: 20 to 50)."""
        self._clocks[device] = _Clock(at, seconds, drift_ppm)

    def stick(self, device: str, at: float) -> None:
        """A device's clock stands still from now on."""
        self._clocks[device] = _Clock(at, self.clock(device, at), stuck=True)

    def factory_time(self, device: str, at: float) -> None:
        """A device has lost its time: its clock begins at 2000-01-01 again, and runs."""
        self._clocks[device] = _Clock(at, FACTORY_S - self.start_ms / 1000 - at)

    def set_right(self, device: str) -> None:
        """A device has been told the time."""
        self._clocks.pop(device, None)

    # inside

    def _path(self, device: str) -> _Path:
        path = self._paths.get(device)
        if path is None:
            rng = random.Random(f"{self.seed}:{device}:radio")
            # Gateways stand where the devices are: half of these within 450 m.
            distance_m = 50.0 * 30.0 ** rng.betavariate(2.0, 1.3)
            path = _Path(rng, rng.choice(self.gateways), distance_m, rng.gauss(0, SHADOWING_DB))
            self._paths[device] = path
        return path

    def _is_down(self, device: str, path: _Path) -> bool:
        return path.gateway in self._down or device in self._down

    def _keep(self, path: _Path, message: Message) -> None:
        if not path.memory.messages:
            self.counts["lost"] += 1
            return
        if len(path.kept) >= path.memory.messages:
            path.kept.popleft()
            self.counts["overwritten"] += 1
        path.kept.append(message)
        self.counts["kept"] += 1

    def _send_next(self, device: str, path: _Path, when: float) -> None:
        if not path.sending:
            path.sending = True
            heapq.heappush(self._due, (when, next(self._order), device))

    def _settle(self) -> None:
        """Is anything still broken?"""
        self._calm = not (
            self._down
            or self._duplicates[0]
            or self._late[0]
            or any(p.loss or p.attenuation_db or p.duplicates or p.late for p in self._paths.values())
        )
