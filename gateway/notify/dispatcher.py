"""Tells people and machines: follows the outbox, one lane a receiver, and writes down how each attempt ended.

Retry, order and receipts live here, once, for every receiver: notifications of one alarm reach one receiver in the
order of its transitions; what fails is tried again after 1 s … 5 min with jitter for a day; a slow receiver delays only
itself. An attempt whose end was never written down (the process died) is made again with the same key.

A message for a person has more than one way to go. It stays with a receiver that is away as long as the level has
patience, then it goes the person's next way, and from the last one back to the first; a way that refuses it is not
tried again. How long a message has been with its way is known to this process only: after a restart the patience
begins anew.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from gateway.core.model import HOUR, MINUTE, SECOND, Level, Micros, Transition
from gateway.core.notification import Channel, Message
from gateway.core.records import OutboxOutcome, OutboxRow, OutboxState
from gateway.errors import Rejected, Unavailable
from gateway.ports import Receiver

log = structlog.get_logger("notify")

FIRST_RETRY: Micros = 1 * SECOND
LAST_RETRY: Micros = 300 * SECOND
GIVE_UP_AFTER: Micros = 24 * HOUR
LEASE: Micros = 60 * SECOND  # longer than any send may take; then the attempt counts as lost
SEND_S = 30.0  # a receiver has its own, shorter time-out; this one is for a receiver that forgot it
AT_ONCE = 8  # sends in the air at one receiver, each of another alarm; a receiver may say otherwise
CALM_S, LOOK_S = 10.0, 0.1  # the longest a patient receiver waits, and how often it looks
IDLE_S = 30.0  # look at the outbox even when nobody said there was news
MAX_RETRY_AFTER_S = 3600.0  # no receiver silences us longer than this

# How long a message waits for a receiver that is away before it goes the person's next way. A call that nobody answers
# rings for 20 to 30 s; whoever is told of level I must hear of it within a minute by some way.
PATIENCE: Mapping[Level, Micros] = {Level.I: 20 * SECOND, Level.II: MINUTE}
USUAL_PATIENCE: Micros = 5 * MINUTE
REMEMBERED = 20_000  # messages whose ways so far are known; of one that is forgotten the patience begins anew


class Outbox(Protocol):
    """What the dispatcher needs of the store."""

    async def claim(self, receiver: str, now: Micros, lease: Micros, limit: int) -> list[OutboxRow]: ...
    async def mark(self, outcomes: Sequence[OutboxOutcome]) -> None: ...
    async def next_due(self, receiver: str) -> Micros | None: ...
    async def unclaim(self) -> int: ...
    async def rehome(self, known: Collection[str], at: Micros) -> tuple[int, list[tuple[str, Level]]]: ...


class Notification(msgspec.Struct, frozen=True):
    """One transition for one machine, or one message for one person at ``address``. ``key`` is the same in every
    attempt: a receiver that knows it ignores it. ``doubtful``: an earlier attempt may have arrived. ``row``: its place
    in the outbox."""

    key: str
    transition: Transition | None
    attempt: int
    message: Message | None = None
    address: str = ""
    doubtful: bool = False
    row: int = 0


class LaneStatistics(msgspec.Struct):
    """What one lane has done since the start; ``moved``: messages that went their person's next way; ``down_since`` is
    set while its receiver is unavailable."""

    delivered: int = 0
    failed: int = 0
    retried: int = 0
    moved: int = 0
    in_air: int = 0
    down_since: Micros | None = None
    last_error: str | None = None


class Handed(msgspec.Struct, frozen=True):
    """An attempt that ended well: when it began, and when the receiver had taken it."""

    row: OutboxRow
    receiver: str
    claimed_at: Micros
    at: Micros


class _Ways(msgspec.Struct):
    """Of a message: since when it is with its present way, and the ways that refused it."""

    channel: int
    since: Micros
    refused: set[int]


class Dispatcher:
    """``receivers``: by the names that the outbox uses. ``now``: gateway time. ``on_handed`` hears of every delivery;
    it must not block or raise. ``busy``: a storm is being decided; receivers that are ``patient`` (the log) let it
    pass, for CALM_S at most, since their rows cost what the alarms of others wait for.

    ``run`` until cancelled; call ``wake`` when the store has committed something. StorageFailed leaves ``run``.
    ``undelivered``: what was given up since the start, by level.
    """

    def __init__(
        self,
        outbox: Outbox,
        receivers: Mapping[str, Receiver],
        now: Callable[[], Micros],
        *,
        rng: random.Random | None = None,
        on_handed: Callable[[Handed], None] = lambda _handed: None,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._outbox = outbox
        self._receivers = dict(receivers)
        self._now = now
        self._rng = rng or random.Random()
        self._on_handed = on_handed
        self._busy = busy
        self._news = {name: asyncio.Event() for name in receivers}
        self._ways: OrderedDict[int, _Ways] = OrderedDict()
        self.statistics = {name: LaneStatistics() for name in receivers}
        self.undelivered: Counter[Level] = Counter()

    def wake(self) -> None:
        """There may be new rows. Cheap; call it from anywhere in the loop."""
        for event in self._news.values():
            event.set()

    async def run(self) -> None:
        lost = await self._outbox.unclaim()
        if lost:
            log.info("notifications whose end is not known are sent again", count=lost)
        await self._rehome()
        async with asyncio.TaskGroup() as group:
            for name, receiver in self._receivers.items():
                group.create_task(self._lane(name, receiver), name=f"notify-{name}")

    async def _rehome(self) -> None:
        """What waits at receivers that the settings no longer name must not wait for ever."""
        moved, given_up = await self._outbox.rehome(self._receivers.keys(), self._now())
        if moved:
            log.warning("messages of receivers that are gone go another way", count=moved)
        if given_up:
            log.error("notifications failed for good: their receivers are gone", count=len(given_up))
            self.undelivered.update(level for _, level in given_up)

    async def _lane(self, name: str, receiver: Receiver) -> None:
        """Keep up to ``at_once`` sends in the air; write their ends down, together when they come together."""
        news, statistics = self._news[name], self.statistics[name]
        most: int = getattr(receiver, "at_once", AT_ONCE)
        patient: bool = getattr(receiver, "patient", False)
        flying: set[asyncio.Task[OutboxOutcome]] = set()
        try:
            while True:
                news.clear()
                if patient:
                    await self._until_calm()
                room = most - len(flying)
                rows = await self._outbox.claim(name, self._now(), LEASE, room) if room else []
                flying |= {asyncio.create_task(self._attempt(name, receiver, r), name=f"notify-{r.key}") for r in rows}
                statistics.in_air = len(flying)
                done = await self._wait(name, news, flying, len(flying) < most)
                flying -= done
                if done:
                    await self._write_down([task.result() for task in done])
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _until_calm(self) -> None:
        waited = 0.0
        while waited < CALM_S and self._busy():
            await asyncio.sleep(LOOK_S)
            waited += LOOK_S

    async def _write_down(self, outcomes: list[OutboxOutcome]) -> None:
        await self._outbox.mark(outcomes)
        for outcome in outcomes:
            if outcome.receiver is not None:
                self._news[outcome.receiver].set()

    async def _wait(
        self, name: str, news: asyncio.Event, flying: set[asyncio.Task[OutboxOutcome]], room: bool
    ) -> set[asyncio.Task[OutboxOutcome]]:
        """Until a send ends, there is news (and room for it), or the next one is due. Returns the ended sends."""
        due = await self._outbox.next_due(name) if room else None
        pause = IDLE_S if due is None else min(IDLE_S, max(0.0, (due - self._now()) / SECOND))
        woken = asyncio.create_task(news.wait(), name=f"notify-{name}-news")
        try:
            waiting: set[asyncio.Task[OutboxOutcome] | asyncio.Task[bool]] = {*flying}
            if room:
                waiting.add(woken)
            await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            await asyncio.gather(woken, return_exceptions=True)
        return {task for task in flying if task.done()}

    async def _attempt(self, name: str, receiver: Receiver, row: OutboxRow) -> OutboxOutcome:
        """One send, and what follows from how it ended."""
        began, statistics = self._now(), self.statistics[name]
        ways = self._ways_of(row, began) if row.message is not None else None
        try:
            async with asyncio.timeout(SEND_S):
                await receiver.send(_notification(row))
        except Rejected as error:
            return self._refused(name, row, ways, str(error))
        except Unavailable as error:
            return self._again(name, row, ways, error)
        except TimeoutError:
            return self._again(name, row, ways, Unavailable(f"no answer within {SEND_S:g} s", may_have_arrived=True))
        except Exception as error:  # the top of the lane: a receiver's bug must not silence everybody
            unknown = Unavailable(f"{type(error).__name__}: {error}", may_have_arrived=True)
            return self._again(name, row, ways, unknown)
        now = self._now()
        statistics.delivered += 1
        if statistics.down_since is not None:
            log.info("receiver is back", receiver=name, after_s=round((now - statistics.down_since) / SECOND))
            statistics.down_since = None
        self._ways.pop(row.id, None)
        self._on_handed(Handed(row, name, began, now))
        return OutboxOutcome(row.id, OutboxState.DELIVERED, now)

    # -- ways ---------------------------------------------------------------------------------------------------------

    def _ways_of(self, row: OutboxRow, now: Micros) -> _Ways:
        ways = self._ways.get(row.id)
        if ways is None:
            ways = self._ways[row.id] = _Ways(row.channel, now, set())
            if len(self._ways) > REMEMBERED:
                self._ways.popitem(last=False)
        elif ways.channel != row.channel:
            ways.channel, ways.since = row.channel, now
        return ways

    def _next_way(self, row: OutboxRow, refused: Collection[int]) -> int | None:
        """The channel after the present one that can be tried, perhaps the present one; None: every one refused."""
        channels: Sequence[Channel] = row.message.channels if row.message is not None else ()
        for further in range(1, len(channels) + 1):
            number = (row.channel + further) % len(channels)
            if number not in refused and channels[number].receiver in self._receivers:
                return number
        return None

    def _moved(self, name: str, row: OutboxRow, way: int, error: Unavailable | Rejected) -> OutboxOutcome:
        """On to another channel, at once."""
        assert row.message is not None
        now, receiver = self._now(), row.message.channels[way].receiver
        self.statistics[name].moved += 1
        self.statistics[name].last_error = str(error)
        log.warning(
            "message goes another way", receiver=name, to=receiver, key=row.key, attempt=row.attempt, reason=str(error)
        )
        doubtful = isinstance(error, Unavailable) and error.may_have_arrived
        return OutboxOutcome(row.id, OutboxState.PENDING, now, now, str(error), receiver, way, doubtful)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _refused(self, name: str, row: OutboxRow, ways: _Ways | None, error: str) -> OutboxOutcome:
        if ways is not None:
            ways.refused.add(row.channel)
            way = self._next_way(row, ways.refused)
            if way is not None and self._now() - row.created_at < GIVE_UP_AFTER:
                return self._moved(name, row, way, Rejected(error))
        return self._failed(name, row, error)

    def _again(self, name: str, row: OutboxRow, ways: _Ways | None, error: Unavailable) -> OutboxOutcome:
        now, statistics = self._now(), self.statistics[name]
        if now - row.created_at >= GIVE_UP_AFTER:
            return self._failed(name, row, f"given up after a day: {error}", doubtful=error.may_have_arrived)
        statistics.last_error = str(error)
        if statistics.down_since is None:
            statistics.down_since = now
            log.warning("receiver is not available: kept, and tried again", receiver=name, reason=str(error))
        wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(row.attempt - 1, 20))
        wait = round(wait * self._rng.uniform(0.5, 1.0))
        asked = round(min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S) * SECOND)
        if ways is not None:
            patience = PATIENCE.get(row.level, USUAL_PATIENCE)
            way = self._next_way(row, ways.refused)
            if way is not None and way != row.channel:
                left = ways.since + patience - now
                if left <= 0 or asked > left:
                    return self._moved(name, row, way, error)
                wait = min(wait, left)
            wait = min(wait, patience)
        statistics.retried += 1
        return OutboxOutcome(
            row.id, OutboxState.PENDING, now, now + max(wait, asked), str(error), doubtful=error.may_have_arrived
        )

    def _failed(self, name: str, row: OutboxRow, error: str, *, doubtful: bool = False) -> OutboxOutcome:
        statistics = self.statistics[name]
        statistics.failed += 1
        statistics.last_error = error
        self.undelivered[row.level] += 1
        self._ways.pop(row.id, None)
        log.error("notification failed for good", receiver=name, key=row.key, attempt=row.attempt, reason=error)
        return OutboxOutcome(row.id, OutboxState.FAILED, self._now(), error=error, doubtful=doubtful)


def _notification(row: OutboxRow) -> Notification:
    message = row.message
    address = message.channels[row.channel].address if message is not None else ""
    return Notification(row.key, row.transition, row.attempt, message, address, row.doubtful, row.id)
