"""Tells people: follows the outbox, one lane a receiver, and writes down how each attempt ended.

Retry, order and receipts live here, once, for every receiver: notifications of one alarm reach one receiver in the
order of its transitions; what fails is tried again after 1 s … 5 min with jitter for a day; a slow receiver delays only
itself. An attempt whose end was never written down (the process died) is made again with the same key.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from gateway.core.model import HOUR, SECOND, Micros, Transition
from gateway.core.notification import Message
from gateway.core.records import OutboxOutcome, OutboxRow, OutboxState
from gateway.errors import Rejected, Unavailable
from gateway.ports import Receiver

log = structlog.get_logger("notify")

FIRST_RETRY: Micros = 1 * SECOND
LAST_RETRY: Micros = 300 * SECOND
GIVE_UP_AFTER: Micros = 24 * HOUR
LEASE: Micros = 60 * SECOND  # longer than any send may take; then the attempt counts as lost
SEND_S = 30.0  # a receiver has its own, shorter time-out; this one is for a receiver that forgot it
AT_ONCE = 8  # sends in the air at one receiver, each of another alarm
IDLE_S = 30.0  # look at the outbox even when nobody said there was news


class Outbox(Protocol):
    """What the dispatcher needs of the store."""

    async def claim(self, receiver: str, now: Micros, lease: Micros, limit: int) -> list[OutboxRow]: ...
    async def mark(self, outcomes: Sequence[OutboxOutcome]) -> None: ...
    async def next_due(self, receiver: str) -> Micros | None: ...
    async def unclaim(self) -> int: ...


class Notification(msgspec.Struct, frozen=True):
    """One transition for one machine, or one message for one person at ``address``. ``key`` is the same in every
    attempt: a receiver that knows it ignores it. ``doubtful``: an earlier attempt may have arrived."""

    key: str
    transition: Transition | None
    attempt: int
    message: Message | None = None
    address: str = ""
    doubtful: bool = False


class LaneStatistics(msgspec.Struct):
    """What one lane has done since the start; ``down_since`` is set while its receiver is unavailable."""

    delivered: int = 0
    failed: int = 0
    retried: int = 0
    in_air: int = 0
    down_since: Micros | None = None
    last_error: str | None = None


class Dispatcher:
    """``receivers``: by the names that the outbox uses. ``now``: gateway time.

    ``run`` until cancelled; call ``wake`` when the store has committed something. StorageFailed leaves ``run``.
    """

    def __init__(
        self,
        outbox: Outbox,
        receivers: Mapping[str, Receiver],
        now: Callable[[], Micros],
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._outbox = outbox
        self._receivers = dict(receivers)
        self._now = now
        self._rng = rng or random.Random()
        self._news = {name: asyncio.Event() for name in receivers}
        self.statistics = {name: LaneStatistics() for name in receivers}

    def wake(self) -> None:
        """There may be new rows. Cheap; call it from anywhere in the loop."""
        for event in self._news.values():
            event.set()

    async def run(self) -> None:
        lost = await self._outbox.unclaim()
        if lost:
            log.info("notifications whose end is not known are sent again", count=lost)
        async with asyncio.TaskGroup() as group:
            for name, receiver in self._receivers.items():
                group.create_task(self._lane(name, receiver), name=f"notify-{name}")

    async def _lane(self, name: str, receiver: Receiver) -> None:
        """Keep up to AT_ONCE sends in the air; write their ends down, together when they come together."""
        news, statistics = self._news[name], self.statistics[name]
        flying: set[asyncio.Task[OutboxOutcome]] = set()
        try:
            while True:
                news.clear()
                room = AT_ONCE - len(flying)
                rows = await self._outbox.claim(name, self._now(), LEASE, room) if room else []
                flying |= {asyncio.create_task(self._attempt(name, receiver, r), name=f"notify-{r.key}") for r in rows}
                statistics.in_air = len(flying)
                done = await self._wait(name, news, flying)
                flying -= done
                if done:
                    await self._outbox.mark([task.result() for task in done])
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _wait(
        self, name: str, news: asyncio.Event, flying: set[asyncio.Task[OutboxOutcome]]
    ) -> set[asyncio.Task[OutboxOutcome]]:
        """Until a send ends, there is news (and room for it), or the next one is due. Returns the ended sends."""
        due = await self._outbox.next_due(name) if len(flying) < AT_ONCE else None
        pause = IDLE_S if due is None else min(IDLE_S, max(0.0, (due - self._now()) / SECOND))
        woken = asyncio.create_task(news.wait(), name=f"notify-{name}-news")
        try:
            waiting: set[asyncio.Task[OutboxOutcome] | asyncio.Task[bool]] = {*flying}
            if len(flying) < AT_ONCE:
                waiting.add(woken)
            await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            await asyncio.gather(woken, return_exceptions=True)
        return {task for task in flying if task.done()}

    async def _attempt(self, name: str, receiver: Receiver, row: OutboxRow) -> OutboxOutcome:
        """One send, and what follows from how it ended."""
        statistics = self.statistics[name]
        try:
            async with asyncio.timeout(SEND_S):
                await receiver.send(_notification(row))
        except Rejected as error:
            return self._failed(name, row, str(error))
        except Unavailable as error:
            return self._again(name, row, str(error), error.retry_after_s)
        except TimeoutError:
            return self._again(name, row, f"no answer within {SEND_S:g} s", None)
        except Exception as error:  # the top of the lane: a receiver's bug must not silence everybody
            return self._again(name, row, f"{type(error).__name__}: {error}", None)
        statistics.delivered += 1
        if statistics.down_since is not None:
            log.info("receiver is back", receiver=name, after_s=round((self._now() - statistics.down_since) / SECOND))
            statistics.down_since = None
        return OutboxOutcome(row.id, OutboxState.DELIVERED, self._now())

    def _again(self, name: str, row: OutboxRow, error: str, retry_after_s: float | None) -> OutboxOutcome:
        now, statistics = self._now(), self.statistics[name]
        if now - row.created_at >= GIVE_UP_AFTER:
            return self._failed(name, row, f"given up after a day: {error}")
        statistics.retried += 1
        statistics.last_error = error
        if statistics.down_since is None:
            statistics.down_since = now
            log.warning("receiver is not available: kept, and tried again", receiver=name, reason=error)
        wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(row.attempt - 1, 20))
        wait = max(round(wait * self._rng.uniform(0.5, 1.0)), round(min(retry_after_s or 0.0, 3600.0) * SECOND))
        return OutboxOutcome(row.id, OutboxState.PENDING, now, now + wait, error)

    def _failed(self, name: str, row: OutboxRow, error: str) -> OutboxOutcome:
        statistics = self.statistics[name]
        statistics.failed += 1
        statistics.last_error = error
        log.error("notification failed for good", receiver=name, key=row.key, attempt=row.attempt, reason=error)
        return OutboxOutcome(row.id, OutboxState.FAILED, self._now(), error=error)


def _notification(row: OutboxRow) -> Notification:
    message = row.message
    address = message.channels[row.channel].address if message is not None else ""
    return Notification(row.key, row.transition, row.attempt, message, address, row.doubtful)
