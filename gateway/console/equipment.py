"""What the console needs of the running gateway for those who look after the devices; a part of the port.

Addresses and values are what is on the wire; times are gateway time.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from gateway.core.model import Asset, Decoded, Device, Frame, Micros, Quality, Replayed, Value
from gateway.core.profile import Profile
from gateway.core.records import RejectedRow


class Trouble(StrEnum):
    """Why a point needs a look: nothing heard for too long, or what was heard cannot be trusted."""

    SILENT = "silent"
    BAD = "bad"
    UNCERTAIN = "uncertain"


class TroubledPoint(msgspec.Struct, frozen=True):
    """A point whose value is old or not good. ``since``: when it was last heard (silent), or last good; None when it
    never was."""

    asset: str
    point: str
    trouble: Trouble
    value: Value
    unit: str
    quality: Quality
    reason: str | None
    since: Micros | None
    received_at: Micros
    device: str


class ProfilePoint(msgspec.Struct, frozen=True):
    """A point as a profile describes it. ``low``/``high``: what is believed; ``set_low``/``set_high``: what may be set,
    where it ``may_be_set``. None: no bound. ``states``: the words it may say."""

    point: str
    unit: str
    type: str
    low: float | None
    high: float | None
    states: tuple[str, ...]
    may_be_set: bool = False
    set_low: float | None = None
    set_high: float | None = None


class DeviceNow(msgspec.Struct, frozen=True):
    """One device and what is known of it. ``last_heard``: when its newest live reading came, None when there was none;
    ``online``: heard within three expected intervals, None when nobody said how often it speaks."""

    device: Device
    asset: Asset | None
    title_zh: str
    title_en: str
    transport: str
    interval: Micros | None
    lateness: Micros
    points: tuple[ProfilePoint, ...]
    last_heard: Micros | None
    online: bool | None


class SeenFrame(msgspec.Struct, frozen=True):
    """A raw frame of the journal, and what it decodes to with the profile in force."""

    position: int
    index: int
    frame: Frame
    decoded: Decoded


class SeenFrames(msgspec.Struct, frozen=True):
    """Newest first. The search went back to what was received at ``back_to`` (None: the journal is empty) through
    ``looked`` frames; ``whole``: that is all the journal still has."""

    items: list[SeenFrame]
    back_to: Micros | None
    looked: int
    whole: bool


class PlacedPoint(msgspec.Struct, frozen=True):
    """Where a point's raw value stands: ``count`` registers (or bits) from ``address`` on."""

    point: str
    register: str
    address: int
    count: int


class Block(msgspec.Struct, frozen=True):
    """One request of a polling cycle."""

    function_code: int
    address: int
    count: int
    points: tuple[PlacedPoint, ...]


class PolledUnit(msgspec.Struct, frozen=True):
    """One device behind a line. ``reason``: why its newest cycle failed, None when it did not."""

    device: str
    asset: str
    unit: int
    interval: Micros
    cycles: int
    failed_reads: int
    overruns: int
    reason: str | None
    blocks: tuple[Block, ...]


class PolledLine(msgspec.Struct, frozen=True):
    """One endpoint: a device, or a bus of units. ``since``: of the last change of ``connected``."""

    address: str
    connected: bool
    on_standby: bool
    since: Micros | None
    cycles: int
    overruns: int
    writes: int
    reconnects: int
    timeouts: int
    reason: str | None
    units: tuple[PolledUnit, ...]


class Equipment(Protocol):
    """Devices, what they say and how they are asked. Only for the event loop."""

    def troubles(self, asset_id: str) -> Sequence[TroubledPoint]:
        """The points of one asset that are silent, bad or uncertain, by name. Some microseconds."""
        ...

    def profiles(self) -> Sequence[Profile]:
        """What kinds of devices are known, by id."""
        ...

    def device(self, device_id: str) -> DeviceNow | None: ...

    def heard(self, device: Device) -> tuple[Micros | None, bool | None]:
        """When its newest live reading came, and whether it is online; as in ``DeviceNow``."""
        ...

    async def frames(self, device_id: str, limit: int) -> SeenFrames | None:
        """The newest raw frames of a device in the journal; None when there is no such device. Takes up to a few
        seconds and says how far it came."""
        ...

    def lines(self) -> Sequence[PolledLine]:
        """Modbus as it is really polled, in order of address."""
        ...

    async def replay(self, rows: Sequence[RejectedRow], by: str) -> Sequence[Replayed | None]:
        """Offer rejected frames again; what became of each, None where that is not known yet. Raises Unavailable when
        no telemetry is taken now: then nothing was offered."""
        ...
