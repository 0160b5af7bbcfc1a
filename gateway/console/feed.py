"""The live feed: a snapshot of the standing alarms, then every transition, for any number of browsers; and in between
how heavy the last ten minutes were, with the beginning and the end of a flood.

There is one ring of the last transitions and a place in it for each subscriber; nobody has a queue of their own. Who
falls out of the ring, because the line is slow or was cut for long, gets a fresh snapshot. So publishing never waits,
and a hundred slow browsers cost what one costs.

A reader who may see a part of the city only gets what happens there, from the same ring: their snapshot is of their
part, other events pass them by, and so do the figures of the whole city's load (null in their snapshot).

An event's id is ``<this process>-<number>``; with the id of the last one seen a browser goes on where it stopped, as
long as the ring reaches back that far and the process is the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import msgspec

from gateway.console import views
from gateway.core.load import FloodWatch
from gateway.core.model import AlarmRecord, Asset, Micros, Transition
from gateway.core.records import EVERYWHERE, Scope

RING = 4096  # transitions; a storm of 5,000 in 60 s is 50 s of patience with a slow line, and about 4 MB
SNAPSHOT_ALARMS = 5000  # more no operator reads; the snapshot says that it was cut
SNAPSHOT_KEPT_S = 1.0  # a hundred browsers that come back together share one
SNAPSHOTS_KEPT = 16  # one for each part of the city that somebody looks at, as a county has towns
BATCH = 100  # events sent at once: 100 kB, 5 ms of encoding
HEARTBEAT_S = 15.0

_encode = msgspec.json.Encoder().encode

StandingAlarms = Callable[[int, Scope], Awaitable[list[AlarmRecord]]]
AssetOf = Callable[[str], Asset | None]


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """``name``: snapshot, alarm, load or alive (then ``id`` is None: it does not move the reader's place). ``asset``:
    whose alarm it is, None when it is no asset's."""

    name: str
    id: str | None
    data: bytes
    asset: str | None = None

    def wire(self) -> bytes:
        """As Server-Sent Events want it. ``alive`` is a comment too, for readers that know no such event."""
        head = b": alive\n" if self.id is None else b"id: " + self.id.encode() + b"\n"
        return head + b"event: " + self.name.encode() + b"\ndata: " + self.data + b"\n\n"


@dataclass(slots=True)
class _Snapshot:
    """What stood in a part of the city at event number ``mark`` or a moment later; deltas behind ``mark`` bring it up
    to date."""

    mark: int
    taken: float
    event: FeedEvent


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
        self._taking = asyncio.Lock()
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
                for event in batch:
                    yield event

    async def batches(
        self, last_event_id: str | None = None, scope: Scope = EVERYWHERE, asset_of: AssetOf | None = None
    ) -> AsyncGenerator[list[FeedEvent], None]:
        """As ``subscribe``, with everything that is there already at once: in a storm the way of one event through the
        server costs more than the event. With a ``scope`` that narrows, only of the assets that ``asset_of`` gives and
        it covers."""
        self.subscribers += 1
        clock = asyncio.get_running_loop().time
        try:
            place = self._place(last_event_id)
            said = clock()
            while not self._closed:
                events: list[FeedEvent] = []
                if place is None or place < self._last - len(self._ring):
                    snapshot = await self._fresh_snapshot(scope)
                    place = snapshot.mark
                    self.snapshots_sent += 1
                    events.append(snapshot.event)
                elif place < self._last:
                    first, place = place + 1, min(self._last, place + BATCH)
                    events += [
                        self._event(number)
                        for number in range(first, place + 1)
                        if not scope or self._concerns(number, scope, asset_of)
                    ]
                else:
                    await self._news(said + HEARTBEAT_S - clock())
                if not events and clock() - said >= HEARTBEAT_S:
                    events.append(FeedEvent("alive", None, _encode({"at": views.iso(self._now())})))
                if events:
                    yield events
                    said = clock()
        finally:
            self.subscribers -= 1

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

    def _concerns(self, number: int, scope: Scope, asset_of: AssetOf | None) -> bool:
        """Whether event ``number`` is of an asset in ``scope``."""
        found = self._ring[self._index(number)]
        name = found.record.asset if isinstance(found, Transition) else found.asset
        asset = asset_of(name) if name is not None and asset_of is not None else None
        return asset is not None and scope.covers(asset)

    def _index(self, number: int) -> int:
        return number - self._last + len(self._ring) - 1

    async def _news(self, at_most_s: float) -> None:
        """Wait for a transition, the end, or the time."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, at_most_s)):
                await self._wake.wait()

    async def _fresh_snapshot(self, scope: Scope) -> _Snapshot:
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
            load = None if scope else self._load
            data = await asyncio.to_thread(_snapshot_data, alarms, views.iso(self._now()), load)
            made = _Snapshot(mark, taken, FeedEvent("snapshot", f"{self._boot}-{mark}", data))
            self._snapshots[scope] = made
            self._snapshots.move_to_end(scope)
            if len(self._snapshots) > SNAPSHOTS_KEPT:
                self._snapshots.popitem(last=False)
            return made


def _snapshot_data(alarms: list[AlarmRecord], at: str, load: dict[str, object] | None) -> bytes:
    shown = [views.alarm(record) for record in alarms[:SNAPSHOT_ALARMS]]
    return _encode({"at": at, "cut": len(alarms) > len(shown), "load": load, "alarms": shown})
