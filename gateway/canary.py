"""The path from a reading to a person's phone, proven every few minutes: an alarm that is none, and how long it took.

    frame ──journaled──▶ engine ──decided──▶ store ──stored──▶ dispatcher ──claimed──▶ receiver ──handed over──▶ people

It goes the way of every other alarm: a SYSTEM frame in the journal, the rule ``canary``, a message in the outbox to the
``canary`` of the routes. Without such targets it proves the path as far as the store. One that has not been handed over
to all of them within ``patience`` is lost, and that is an alarm (``canary_lost``) until the next one gets through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import prometheus_client as prometheus
import structlog

from gateway.clock import Clock
from gateway.core.model import SECOND, FrameKind, Micros, Transition
from gateway.core.notification import Message, MessageKind
from gateway.core.records import CanaryOutcome, CanaryRow
from gateway.errors import StorageFailed, Unavailable
from gateway.notify.dispatcher import Handed
from gateway.ports import Intake

log = structlog.get_logger("canary")

RULE = "canary"
HOPS = ("journaled", "decided", "stored", "claimed", "handed_over")
FIRST_AFTER: Micros = 30 * SECOND  # a start has enough to do
KEPT = 5  # canaries that are still waited for; one that is late for so long will not come
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Canaries(Protocol):
    """What a canary needs of the store."""

    async def put(self, row: CanaryRow) -> None: ...


class _Flight(msgspec.Struct):
    """One canary on its way: gateway time of each hop, and the people who have not got it yet."""

    number: int
    at: Micros
    waits_for: set[str]
    times: dict[str, Micros]
    arrived: asyncio.Event
    lost: bool = False


class Canary:
    """``people`` gives those whom the next one goes to; ``report_lost`` is told whether the newest one was lost.
    ``run`` until cancelled; StorageFailed leaves it."""

    def __init__(
        self,
        clock: Clock,
        intake: Intake,
        canaries: Canaries,
        people: Callable[[Micros], Sequence[str]],
        report_lost: Callable[[bool], None],
        *,
        every: Micros,
        patience: Micros,
    ) -> None:
        self._clock = clock
        self._intake = intake
        self._canaries = canaries
        self._people = people
        self._report_lost = report_lost
        self._every = every
        self._patience = patience
        self._flights: dict[int, _Flight] = {}
        self.histogram = prometheus.Histogram(
            "citywatch_canary_seconds", "Time of each hop of a path test.", ["hop"], buckets=BUCKETS, registry=None
        )

    async def run(self) -> None:
        await self._sleep(FIRST_AFTER)
        while True:
            began = self._clock.now()
            await self.fly()
            await self._sleep(self._every - (self._clock.now() - began))

    async def fly(self) -> CanaryRow:
        """Send one, and wait for it as long as there is patience; what became of it."""
        at = self._clock.now()
        number = at // SECOND
        flight = _Flight(number, at, set(self._people(at)), {}, asyncio.Event())
        self._flights[number] = flight
        while len(self._flights) > KEPT:
            del self._flights[next(iter(self._flights))]
        journaled = self._intake.offer(FrameKind.SYSTEM, "gateway", "", msgspec.json.encode({"canary": number}))
        try:
            async with asyncio.timeout(self._patience / SECOND / self._clock.pace):
                await asyncio.shield(journaled)
                flight.times["journaled"] = self._clock.now()
                await flight.arrived.wait()
        except TimeoutError:
            flight.lost = True
        return await self._landed(flight)

    async def _landed(self, flight: _Flight) -> CanaryRow:
        row = _row(flight, CanaryOutcome.LOST if flight.lost else CanaryOutcome.DELIVERED)
        self._report_lost(flight.lost)
        if flight.lost:
            log.error("path test lost", number=flight.number, missing=sorted(flight.waits_for), hops=row.hops)
        else:
            del self._flights[flight.number]
            for hop, milliseconds in row.hops.items():
                self.histogram.labels(hop).observe(milliseconds / 1000)
        await self._write(row)
        return row

    async def _write(self, row: CanaryRow) -> None:
        try:
            await self._canaries.put(row)
        except StorageFailed:
            raise
        except Unavailable as error:
            log.warning("path test not written down", reason=str(error))

    # -- what is heard on the way -------------------------------------------------------------------------------------

    def decided(self, transition: Transition) -> None:
        """The engine has made an alarm of it. Called in the store's thread, when it begins to write."""
        self._note(transition.record.value, "decided")

    def stored(self, transitions: Sequence[Transition]) -> None:
        """These were committed."""
        for transition in transitions:
            if transition.record.rule == RULE:
                flight = self._note(transition.record.value, "stored")
                if flight is not None and not flight.waits_for:
                    flight.arrived.set()

    def handed(self, handed: Handed) -> None:
        """A receiver has taken a message."""
        message = handed.row.message
        if message is None or message.kind is not MessageKind.CANARY:
            return
        flight = self._flights.get(_number(message))
        if flight is None:
            return
        # The last of them counts: everybody has it then.
        flight.times["claimed"] = max(handed.claimed_at, flight.times.get("claimed", 0))
        flight.times["handed_over"] = max(handed.at, flight.times.get("handed_over", 0))
        flight.waits_for.discard(message.recipient)
        if flight.waits_for:
            return
        flight.arrived.set()
        if flight.lost:
            self._flights.pop(flight.number, None)
            log.warning("path test arrived late", number=flight.number, seconds=round((handed.at - flight.at) / SECOND))
            late = asyncio.ensure_future(self._write(_row(flight, CanaryOutcome.LATE)))
            late.add_done_callback(lambda task: task.exception())

    def _note(self, value: object, hop: str) -> _Flight | None:
        flight = self._flights.get(int(value)) if isinstance(value, (int, float)) else None
        if flight is not None:
            flight.times.setdefault(hop, self._clock.now())
        return flight

    async def _sleep(self, span: Micros) -> None:
        await asyncio.sleep(max(0, span) / SECOND / self._clock.pace)


def _row(flight: _Flight, outcome: CanaryOutcome) -> CanaryRow:
    """Each hop in milliseconds since the one before it."""
    hops: dict[str, float] = {}
    before = flight.at
    for hop in HOPS:
        if hop in flight.times:
            hops[hop] = round(max(0, flight.times[hop] - before) / 1000, 3)
            before = max(before, flight.times[hop])
    return CanaryRow(str(flight.number), flight.at, outcome, hops)


def _number(message: Message) -> int:
    value = message.lines[0].value if message.lines else None
    return int(value) if isinstance(value, (int, float)) else 0
