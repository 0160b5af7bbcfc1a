"""The current value and freshness of every point, recent values where a rule needs them, and what was seen before.

A *packet* is what one device measured at one moment: readings of one message with the same device, sequence and source
time. Its key (device, sequence or source time) is what makes a redelivery recognisable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from gateway.core.model import HOUR, Device, Micros, Quality, Reading, Value

if TYPE_CHECKING:
    from gateway.core.alarms import Alarm
    from gateway.core.plan import Plan

NEVER: Micros = -1
WINDOW_ROOM = 512  # samples of one window at most


class PointState(msgspec.Struct, gc=False, array_like=True):
    """The newest live reading of one point.

    ``source_time`` is the device's time, but never more than a minute ahead of ours: one bogus stamp must not make
    every honest one after it look old. NEVER: only late or historical readings so far. ``good_at``: when the last good
    reading came, on the engine's listening clock. ``no``: the point's own bit in the memory of packets.
    """

    no: int
    value: Value = None
    quality: Quality = Quality.BAD
    source_time: Micros = NEVER
    received_at: Micros = NEVER
    good_at: Micros = NEVER
    reason: str | None = None

    @property
    def reported(self) -> bool:
        return self.source_time != NEVER


class Window:
    """Values of one point within the last ``span``, thinned to at most 257: a change over ten minutes does not need
    every one of 20,000 samples. A change between true and false is never thinned away while
    there is room."""

    __slots__ = ("samples", "span")

    def __init__(self, span: Micros, samples: Sequence[tuple[Micros, float]] = ()) -> None:
        self.span = span
        self.samples = list(samples)  # a deque is 600 bytes before the first sample; a county has 10,000 of these

    def add(self, at: Micros, value: float, is_state: bool = False) -> None:
        """A sample newer than all before it; ``is_state``: true or false as 1 or 0."""
        samples = self.samples
        if (
            not samples
            or at - samples[-1][0] >= self.span // 256
            or (is_state and value != samples[-1][1] and len(samples) < WINDOW_ROOM)
        ):
            samples.append((at, value))
        oldest = at - self.span
        gone = 0
        while gone + 1 < len(samples) and samples[gone + 1][0] <= oldest:  # the one before the span says how far back
            gone += 1
        if gone:
            del samples[:gone]

    def reaches_back(self, at: Micros, share: float = 0.5) -> bool:
        """Whether we know the values of at least this share of the span before ``at``."""
        return bool(self.samples) and at - self.samples[0][0] >= self.span * share

    def values(self, at: Micros) -> list[float]:
        """Those within the span before ``at``, oldest first."""
        oldest = at - self.span
        return [value for then, value in self.samples if then >= oldest]

    def moved(self, at: Micros, by: float) -> bool:
        """Whether the values within the span before ``at`` lie ``by`` or more apart. The newest say so soonest."""
        samples = self.samples
        if not samples:
            return False
        least = most = samples[-1][1]
        oldest = at - self.span
        for then, value in reversed(samples):
            if then < oldest:
                return False
            if value < least:
                least = value
            elif value > most:
                most = value
            if most - least >= by - 1e-12:
                return True
        return False

    def change(self, at: Micros, value: float) -> float | None:
        """``value`` at ``at`` minus the oldest sample not older than the span; None before the second sample."""
        oldest = at - self.span
        for then, old in self.samples:
            if then >= oldest:
                return value - old if then < at else None
        return None


class Tally(Window):
    """Only the values between ``low`` and ``high``, each of them: for counting the readings beyond a limit."""

    __slots__ = ("high", "low")

    def __init__(self, span: Micros, low: float, high: float, samples: Sequence[tuple[Micros, float]] = ()) -> None:
        super().__init__(span, samples)
        self.low = low
        self.high = high

    def add(self, at: Micros, value: float, is_state: bool = False) -> None:
        if self.low < value < self.high:
            samples = self.samples
            samples.append((at, value))
            oldest = at - self.span
            while samples[0][0] < oldest or len(samples) > WINDOW_ROOM:
                del samples[0]

    def reaches_back(self, at: Micros, share: float = 0.5) -> bool:
        """None of them is a number too."""
        return True


class WindowKey(NamedTuple):
    """Which window of a point: how long, and whether only the values between ``low`` and ``high`` count."""

    point: str
    span: Micros
    low: float = -math.inf
    high: float = math.inf

    def window(self, samples: Sequence[tuple[Micros, float]] = ()) -> Window:
        """An empty one, or with what it held."""
        if self.low == -math.inf and self.high == math.inf:
            return Window(self.span, samples)
        return Tally(self.span, self.low, self.high, samples)


class Group:
    """The members of a share: how many there are, and which fulfil the condition now."""

    __slots__ = ("size", "true")

    def __init__(self) -> None:
        self.size = 0
        self.true: set[str] = set()


class DeviceState:
    """When a device was last heard (on the listening clock), and what it sent last."""

    __slots__ = ("device", "interval", "lateness", "newest", "no", "seen", "silenced", "skew", "watches")

    def __init__(self, device: Device, no: int, seen: Micros) -> None:
        self.device = device
        self.no = no
        self.seen = seen
        self.newest: Micros = NEVER  # source time of the newest packet: anything later cannot have been seen before
        self.skew = 0.0  # how far its clock was from ours at its newest live packet, s; only where a rule asks
        self.lateness: Micros = 0
        self.interval: Micros | None = None
        self.watches: list[Watch] = []
        self.silenced = 0  # how many of the watches have found it silent


NOTHING: dict[Any, Any] = {}
Key = TypeVar("Key")
Kept = TypeVar("Kept")


def own(mapping: dict[Key, Kept]) -> dict[Key, Kept]:
    """``mapping``, or a new one in place of the shared empty one: assign it back before changing it."""
    return {} if mapping is NOTHING else mapping


class AssetState:
    """Everything the engine knows of one asset: its points, its alarms, what it is watched for."""

    __slots__ = (
        "alarms", "counted", "devices", "groups", "id", "live", "parents", "plan", "points", "safe", "safe_members",
        "silent", "windows",
    )  # fmt: skip

    def __init__(self, asset_id: str, plan: Plan) -> None:
        self.id = asset_id
        self.plan = plan
        self.points: dict[str, PointState] = {}
        # Most assets have no alarm, no window, no group and nothing silent: they share one empty mapping, which nobody
        # may change; ``own`` and whole new mappings take its place.
        self.alarms: dict[str, Alarm] = NOTHING
        self.live = 0  # bit i: the alarm of the plan's check i is not simply normal
        self.safe = 0  # bit i: check i cannot be true now, by its guard
        self.safe_members = 0  # bit i: nor can membership i, if nothing is silent
        self.silent: dict[str, int] = NOTHING  # silence → how many devices (or points) are silent now
        self.windows: dict[WindowKey, Window] = NOTHING
        self.groups: dict[str, Group] = NOTHING
        self.parents: tuple[tuple[AssetState, Group] | None, ...] = ()  # beside plan.memberships
        self.counted: tuple[str, ...] = ()  # between leaving its groups and joining them anew: where it counted
        self.devices: tuple[str, ...] = ()


class Watch:
    """Waits for the silence of one device, or of one point of its asset.

    The deadline is lazy: a message only notes when it came; when the old deadline fires, the watch looks again.
    """

    __slots__ = ("asset", "device", "key", "no", "point", "scheduled", "silent", "since", "wait")

    def __init__(
        self, no: int, asset: AssetState, device: DeviceState, key: str, wait: Micros, since: Micros, point: str | None
    ) -> None:
        self.no = no
        self.asset = asset
        self.device = device
        self.key = key
        self.wait = wait
        self.since = since  # when watching began, on the listening clock
        self.point = point
        self.silent = False
        self.scheduled: Micros | None = None

    def due(self, deaf: Micros) -> Micros | None:
        """When to look again; None when the silence is known already."""
        return None if self.silent else self.expires(deaf)

    def expires(self, deaf: Micros) -> Micros:
        """When silence is proven if nothing more comes; ``deaf``: how long the gateway has not listened in all."""
        seen = self.device.seen
        if self.point is not None:
            state = self.asset.points.get(self.point)
            seen = state.good_at if state is not None else NEVER
        return max(seen, self.since) + self.wait + deaf


class Packets:
    """Which packets were seen: two generations of at most ``size`` keys each, so memory is bounded and the last
    ``size`` are always known.

    A key is a 64-bit hash (of integers only: the same in every process); among 10^5 keys two collide once in 10^9 years
    of 20,000 messages a second. The value holds the bits of the points seen and a fingerprint of their values.
    """

    __slots__ = ("old", "size", "young")

    def __init__(self, size: int = 50_000) -> None:
        self.size = size
        self.young: dict[int, tuple[int, int | None]] = {}
        self.old: dict[int, tuple[int, int | None]] = {}

    def seen(self, key: int) -> tuple[int, int | None]:
        """(bits of the points, fingerprint); (0, None) for a packet never seen."""
        return self.young.get(key) or self.old.get(key) or (0, None)

    def remember(self, key: int, bits: int, fingerprint: int | None) -> None:
        young = self.young
        young[key] = (bits, fingerprint)
        if len(young) >= self.size:
            self.old = young
            self.young = {}

    def dump(self) -> list[tuple[list[int], list[bytes]]]:
        """Old and young generation as (keys, bits); bits as bytes, since a device may have more than 64 points."""
        return [
            (list(kept), [bits.to_bytes((bits.bit_length() + 7) // 8, "little") for bits, _ in kept.values()])
            for kept in (self.old, self.young)
        ]

    def load(self, dumped: Sequence[tuple[list[int], list[bytes]]]) -> None:
        """Fingerprints are not kept (text hashes differ between processes): a conflict with a packet from before a
        restart counts as a plain duplicate."""
        generations: list[dict[int, tuple[int, int | None]]] = [
            {key: (int.from_bytes(bits, "little"), None) for key, bits in zip(keys, all_bits, strict=True)}
            for keys, all_bits in dumped
        ]
        self.old, self.young = generations


def packet_keys(device: DeviceState, reading: Reading, now: Micros) -> tuple[int, ...]:
    """Keys under which the packet of ``reading`` may be known; the first is its own. Empty: never a duplicate.

    A device that counts but has no clock is remembered by the hour: its counter wraps, or starts anew with the device.
    """
    sequence = reading.sequence
    if reading.has_source_time:
        return (hash((device.no, -1 if sequence is None else sequence, reading.source_time)),)
    if sequence is None:
        return ()
    hour = now // HOUR
    return (hash((device.no, sequence, hour, 0)), hash((device.no, sequence, hour - 1, 0)))
