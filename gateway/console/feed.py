"""The live feed: a snapshot of the standing alarms, then every transition, for any number of browsers; and in between
how heavy the last ten minutes were, with the beginning and the end of a flood.

There is one ring of the last transitions and a place in it for each subscriber; nobody has a queue of their own. Who
falls out of the ring, because the line is slow or was cut for long, gets a fresh snapshot. So publishing never waits,
and a hundred slow browsers cost what one costs.

A reader who may see a part of the city only gets what happens there, from the same ring: their snapshot and their load
are of their part, and other events pass them by.

An event's id is ``<this process>-<number>``; with the id of the last one seen a browser goes on where it stopped, as
long as the ring reaches back that far and the process is the same.
"""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from math import inf

import msgspec

from gateway.console import views
from gateway.core.load import FloodWatch
from gateway.core.model import AlarmRecord, Asset, Micros, Transition
from gateway.core.records import EVERYWHERE, Scope

PULSE_S = 0.2  # readers are told together, five times a second at most: fifty of them cost little more than one
RING = 4096  # transitions; a storm of 5,000 in 60 s is 50 s of patience with a slow line, and about 4 MB
SNAPSHOT_ALARMS = 20_000  # 18 MB, 0.3 s to make; more no operator reads, and the snapshot says that it was cut
SNAPSHOT_KEPT_S = 1.0  # a hundred browsers that come back together share one
SNAPSHOTS_KEPT = 16  # one for each part of the city that somebody looks at, as a county has towns
BATCH = 200  # events sent at once: 200 kB, 10 ms of encoding
WIRES = 8  # batches kept as they go out, for the other readers who stand at the same place
PACK_LEVEL = 1  # 20,000 alarms become 0.6 MB within 30 ms; level 6 saves a sixth of that and takes three times as long
HEARTBEAT_S = 15.0
PART_LOAD_S = 5.0  # how often the load of a part of the city is counted, for all its readers

_encode = msgspec.json.Encoder().encode

StandingAlarms = Callable[[int, Scope], Awaitable[list[AlarmRecord]]]
AssetOf = Callable[[str], Asset | None]


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the city that a reader may see: its assets by id, and its load of the last ten minutes."""

    scope: Scope
    asset_of: AssetOf
    load_of: Callable[[Scope], Awaitable[FloodWatch]]

    def has(self, asset_id: str | None) -> bool:
        asset = self.asset_of(asset_id) if asset_id is not None else None
        return asset is not None and self.scope.covers(asset)


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """``name``: snapshot, alarm, load or alive; ``id`` None: it does not move the reader's place. ``asset``: whose
    alarm it is, None when it is no asset's."""

    name: str
    id: str | None
    data: bytes
    asset: str | None = None

    def wire(self) -> bytes:
        """As Server-Sent Events want it. ``alive`` is a comment too, for readers that know no such event."""
        head = b": alive\n" if self.id is None else b"id: " + self.id.encode() + b"\n"
        return head + b"event: " + self.name.encode() + b"\ndata: " + self.data + b"\n\n"


class Batch:
    """Events that go out together, in their order; ``wire``: the bytes of all of them."""

    __slots__ = ("_packed", "events", "wire")

    def __init__(self, events: Sequence[FeedEvent]) -> None:
        self.events = events
        self.wire = b"".join([event.wire() for event in events])
        self._packed: bytes | None = None

    def packed(self) -> bytes:
        """``wire`` deflated (RFC 1951), for all readers once: it may stand behind any other batch, looks back into none
        and ends no stream."""
        if self._packed is None:
            self._packed = deflated(self.wire)
        return self._packed


@dataclass(slots=True)
class _Snapshot:
    """What stood in a part of the city at event number ``mark`` or a moment later; deltas behind ``mark`` bring it up
    to date."""

    mark: int
    taken: float
    batch: Batch


class Feed:
    """``standing`` gives the alarms that are not NORM (``Store.standing``); ``now`` is gateway time."""

    def __init__(self, standing: StandingAlarms, now: Callable[[], Micros], *, ring: int = RING) -> None:
        self._standing = standing
        self._now = now
        self._boot = secrets.token_hex(4)
        self._ring: deque[Transition | FeedEvent] = deque(maxlen=ring)
        self._last = 0
        self._wake = asyncio.Event()
        self._closed = False
        self._snapshots: OrderedDict[Scope, _Snapshot] = OrderedDict()
        self._load: dict[str, object] = {"alarms_10_min": 0, "flood": None}
        self._part_loads: OrderedDict[Scope, tuple[float, dict[str, object]]] = OrderedDict()
        self._taking = asyncio.Lock()
        self._wires: OrderedDict[tuple[int, int], Batch] = OrderedDict()
        self.subscribers = 0
        self.snapshots_sent = 0

    def publish(self, transitions: Sequence[Transition]) -> None:
        """Offer committed transitions; returns at once and cannot fail. Call it *after* the store has committed."""
        if transitions:
            self._ring.extend(transitions)
            self._last += len(transitions)
            self._wake.set()

    def publish_load(self, watch: FloodWatch) -> None:
        """Tell the operator load when it has changed. Call it every two seconds or so, not with every alarm."""
        told = views.load_now(watch)
        if told != self._load:
            self._load = told
            self._last += 1
            self._ring.append(FeedEvent("load", f"{self._boot}-{self._last}", _encode(told)))
            self._wake.set()

    def close(self) -> None:
        """Every subscription ends."""
        self._closed = True
        self._wake.set()

    async def subscribe(self, last_event_id: str | None = None) -> AsyncGenerator[FeedEvent, None]:
        """Events for one reader until ``close``. A reader that stops asking simply stands still."""
        async with aclosing(self.batches(last_event_id)) as batches:
            async for batch in batches:
                for event in batch.events:
                    yield event

    async def batches(self, last_event_id: str | None = None, part: Part | None = None) -> AsyncGenerator[Batch, None]:
        """As ``subscribe``, with everything that is there already at once, and then every PULSE_S: in a storm the way
        of one event through the server costs more than the event. With a ``part``, only what happens there."""
        self.subscribers += 1
        clock = asyncio.get_running_loop().time
        try:
            place = self._place(last_event_id)
            said = due = load_due = clock()
            load: dict[str, object] | None = None
            while not self._closed:
                batch: Batch | None = None
                if place is None or place < self._last - len(self._ring):
                    snapshot = await self._fresh_snapshot(part)
                    place = snapshot.mark
                    self.snapshots_sent += 1
                    batch = snapshot.batch
                elif self._last - place >= BATCH or (place < self._last and clock() >= due):
                    first, place = place + 1, min(self._last, place + BATCH)
                    batch = self._batch(first, place, part)
                    due = (clock() // PULSE_S + 1) * PULSE_S  # the same moments for everybody
                elif place < self._last:
                    await asyncio.sleep(due - clock())
                else:
                    await self._news(min(said + HEARTBEAT_S, load_due if part is not None else inf) - clock())
                if batch is None and part is not None and clock() >= load_due:
                    before, load, load_due = load, await self._part_load(part), clock() + PART_LOAD_S
                    if load != before:
                        batch = Batch([FeedEvent("load", None, _encode(load))])
                if batch is None and clock() - said >= HEARTBEAT_S:
                    batch = Batch([FeedEvent("alive", None, _encode({"at": views.iso(self._now())}))])
                if batch is not None:
                    yield batch
                    said = clock()
        finally:
            self.subscribers -= 1

    def _batch(self, first: int, last: int, part: Part | None) -> Batch | None:
        """Events ``first`` to ``last``, as far as they are of ``part``; None when none is."""
        if part is not None:
            ours = [number for number in range(first, last + 1) if part.has(self._asset(number))]
            return Batch([self._event(number) for number in ours]) if ours else None
        batch = self._wires.get((first, last))
        if batch is None:
            batch = self._wires[first, last] = Batch([self._event(number) for number in range(first, last + 1)])
            if len(self._wires) > WIRES:
                self._wires.popitem(last=False)
        return batch

    def _place(self, last_event_id: str | None) -> int | None:
        """The number in an id of this process, None when it is somebody else's, or nonsense."""
        boot, _, number = (last_event_id or "").partition("-")
        if boot != self._boot or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        return int(number) if int(number) <= self._last else None

    def _event(self, number: int) -> FeedEvent:
        """Event ``number``; made when the first reader wants it, then kept in its place."""
        index = self._index(number)
        found = self._ring[index]
        if isinstance(found, Transition):
            data = _encode(views.transition(found))
            found = FeedEvent("alarm", f"{self._boot}-{number}", data, found.record.asset)
            self._ring[index] = found
        return found

    def _asset(self, number: int) -> str | None:
        found = self._ring[self._index(number)]
        return found.record.asset if isinstance(found, Transition) else found.asset

    def _index(self, number: int) -> int:
        return number - self._last + len(self._ring) - 1

    async def _news(self, at_most_s: float) -> None:
        """Wait for a transition, the end, or the time."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, at_most_s)):
                await self._wake.wait()

    async def _part_load(self, part: Part) -> dict[str, object]:
        """What is told of the load of a part; counted once for all its readers."""
        clock = asyncio.get_running_loop().time
        async with self._taking:
            taken, told = self._part_loads.get(part.scope, (-inf, {}))
            if clock() - taken >= PART_LOAD_S * 0.9:  # readers who ask in turn share one, and none waits twice
                told = views.load_now(await part.load_of(part.scope))
                self._part_loads[part.scope] = (clock(), told)
                self._part_loads.move_to_end(part.scope)
                if len(self._part_loads) > SNAPSHOTS_KEPT:
                    self._part_loads.popitem(last=False)
            return told

    async def _fresh_snapshot(self, part: Part | None) -> _Snapshot:
        scope = part.scope if part is not None else EVERYWHERE
        load = await self._part_load(part) if part is not None else None
        clock = asyncio.get_running_loop().time
        async with self._taking:
            kept = self._snapshots.get(scope)
            if kept is not None and (
                kept.mark == self._last
                or (clock() - kept.taken < SNAPSHOT_KEPT_S and kept.mark >= self._last - len(self._ring))
            ):
                return kept
            mark = self._last  # read before the store is: what is committed meanwhile comes again, and does no harm
            taken = clock()
            alarms = await self._standing(SNAPSHOT_ALARMS + 1, scope)
            told = load if load is not None else self._load
            place = f"{self._boot}-{mark}"
            made = _Snapshot(
                mark, taken, await asyncio.to_thread(_snapshot, place, alarms, views.iso(self._now()), told)
            )
            self._snapshots[scope] = made
            self._snapshots.move_to_end(scope)
            if len(self._snapshots) > SNAPSHOTS_KEPT:
                self._snapshots.popitem(last=False)
            return made


def deflated(data: bytes) -> bytes:
    """A piece of a deflated stream that ends at a whole byte."""
    packer = zlib.compressobj(PACK_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def _snapshot(place: str, alarms: list[AlarmRecord], at: str, load: dict[str, object]) -> Batch:
    """Packed as well, since this is a thread of its own."""
    shown = [views.alarm(record) for record in alarms[:SNAPSHOT_ALARMS]]
    data = _encode({"at": at, "cut": len(alarms) > len(shown), "load": load, "alarms": shown})
    batch = Batch([FeedEvent("snapshot", place, data)])
    batch.packed()
    return batch
