"""The city's case platform as a receiver: cases opened, updated and closed there, as ``core/cases.py`` decides.

Every message holds the whole case as it is then, not only what has changed, so a platform that has missed one is right
again with the next. It goes as a signed POST under its own idempotency key (header and field), and again with the same
key until the platform has answered. A platform that has been away for longer than ``patience`` gets a file instead
(``case_drop.py``), and so does a case that it will not take; the case's row says so.

Before the first attempt the case is written down, so that the platform may speak of it before our own request has come
back. What it has done itself is not told to it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from gateway.core.case_clock import Calendar
from gateway.core.case_facts import Facts, facts
from gateway.core.case_fields import FieldMap, cells, columns, read_answer, write
from gateway.core.cases import (
    Case,
    CaseEvent,
    CaseRow,
    CaseStatus,
    advance,
    arrived,
    due_at,
    echoed,
    event_key,
    speaker,
)
from gateway.core.component_code import Layout
from gateway.core.model import SECOND, Asset, Micros, Transition
from gateway.core.rule import Rule
from gateway.errors import Rejected, Unavailable
from gateway.notify.case_drop import CaseDrop
from gateway.notify.webhook import SignedPost
from gateway.ports import Notification

log = structlog.get_logger("cases")

MEDIA_TYPE = "application/json; charset=utf-8"
PROBE_EVERY: Micros = 30 * SECOND  # how often a platform that is away is asked again: each attempt may take 10 s
REMEMBERED = 10_000  # keys whose first failure is known; of one that is forgotten the patience begins anew


class CaseBook(Protocol):
    """What is kept of cases: ``Store.cases``."""

    async def newest(self, platform: str, alarm_id: str) -> CaseRow | None: ...
    async def change(
        self, platform: str, key: str, change: Callable[[CaseRow | None], CaseRow | None]
    ) -> CaseRow | None: ...


class CaseWorld(Protocol):
    """What else a case says: the asset, the rule as it is for that asset, and the working time of the place."""

    @property
    def calendar(self) -> Calendar: ...
    @property
    def layout(self) -> Layout | None: ...
    def asset(self, asset_id: str) -> Asset | None: ...
    def rule(self, rule_id: str, asset_id: str) -> Rule | None: ...


class Delivery(msgspec.Struct, frozen=True):
    """How an event got out: the platform's number, or (file, why) of the drop folder; ``refused``: for good."""

    number: str | None = None
    file: str = ""
    why: str = ""
    refused: bool = False


class CasePlatform:
    """``book`` may be asked for only when something is sent. ``now``: gateway time."""

    def __init__(
        self,
        name: str,
        post: SignedPost,
        fields: FieldMap,
        drop: CaseDrop,
        book: Callable[[], CaseBook],
        world: CaseWorld,
        now: Callable[[], Micros],
        patience: Micros,
    ) -> None:
        self.name = name
        self._post = post
        self._fields = fields
        self._drop = drop
        self._book = book
        self._world = world
        self._now = now
        self._patience = patience
        self._failed: OrderedDict[str, Micros] = OrderedDict()  # since when each key could not be handed over
        self._asked_at: Micros | None = None
        self._why = ""  # it could not be reached when it was asked last
        self.down_since: Micros | None = None
        self.dropped = 0  # events that went into the folder since the start

    async def close(self) -> None:
        await self._post.close()

    async def send(self, notification: Notification) -> None:
        """Raises Unavailable (again later) or Rejected (it lies in the drop folder, and somebody must look)."""
        step = notification.transition
        if step is None:
            raise Rejected("a case platform takes cases, and no messages for people")
        book = self._book()
        row = await book.newest(self.name, step.alarm_id)
        moved = advance(None if row is None else row.case, step)
        if moved is None:
            return
        case, event = moved
        if row is None or row.case.key != case.key:
            row = await self._begin(book, case, step)
        if step.by == speaker(self.name):
            await book.change(self.name, case.key, lambda found: echoed(found or row, step))
            return
        delivery = await self._deliver(row, step, event)
        dropped = (event_key(case, step, event), delivery.file, delivery.why) if delivery.file else None
        now = self._now()

        def note(found: CaseRow | None) -> CaseRow:
            return arrived(found or row, step, event, now, number=delivery.number, dropped=dropped)

        await book.change(self.name, case.key, note)
        if delivery.refused:
            raise Rejected(f"{delivery.why}; it lies in {delivery.file}")

    async def _begin(self, book: CaseBook, case: Case, step: Transition) -> CaseRow:
        """Write a new case down, before anybody hears of it."""
        rule, record = self._rule(step), step.record
        limit = due_at(rule, case.opened_at, self._world.calendar)
        new = msgspec.structs.replace(case, status=CaseStatus.OPENING, rev=0, due_at=limit)
        row = CaseRow(
            self.name, new, record.title_zh, record.title_en, int(record.level), changed_at=self._now()
        )  # fmt: skip
        found = await book.change(self.name, case.key, lambda there: there or row)
        assert found is not None
        return found

    async def _deliver(self, row: CaseRow, step: Transition, event: CaseEvent) -> Delivery:
        """To the platform, or into the folder. Raises Unavailable while neither is so."""
        known = self._facts(row, step, event)
        key = event_key(row.case, step, event)
        if self._is_given_up():
            return await self._put(known, key, self._why)
        self._asked_at = self._now()
        try:
            body = msgspec.json.encode(write(self._fields.sending, known))
            number, why = read_answer(self._fields.answer, await self._post.post(body, key, MEDIA_TYPE))
            if why is not None:
                raise Unavailable(why)
        except Unavailable as error:
            self._why = str(error)
            left = self._left(key)
            if left > 0:
                asked = None if error.retry_after_s is None else min(error.retry_after_s, left / SECOND)
                raise Unavailable(str(error), asked, may_have_arrived=error.may_have_arrived) from error
            return await self._put(known, key, str(error))
        except Rejected as error:
            self._is_back()
            found = await self._put(known, key, str(error))
            return msgspec.structs.replace(found, refused=True)
        self._failed.pop(key, None)
        self._is_back()
        return Delivery(number)

    def _facts(self, row: CaseRow, step: Transition, event: CaseEvent) -> Facts:
        record, world = step.record, self._world
        return facts(
            arrived(row, step, event, self._now()),
            step,
            event,
            world.asset(record.asset),
            self._rule(step),
            world.calendar,
            language=self._fields.sending.language,
            layout=world.layout,
        )

    def _rule(self, step: Transition) -> Rule | None:
        return self._world.rule(step.record.rule, step.record.asset)

    # -- when it is away ----------------------------------------------------------------------------------------------

    def _left(self, key: str) -> Micros:
        """How much patience is left with an event that could not be handed over: none where the platform has been away
        for so long, or where this one has been refused for so long while others were taken."""
        now = self._now()
        if self.down_since is None:
            self.down_since = now
        since = self._failed.setdefault(key, now)
        if len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)
        return min(since, self.down_since) + self._patience - now

    def _is_given_up(self) -> bool:
        """It has been away for too long, and was asked just now."""
        now = self._now()
        if self.down_since is None or now - self.down_since < self._patience or self._asked_at is None:
            return False
        return now - self._asked_at < PROBE_EVERY

    def _is_back(self) -> None:
        if self.down_since is not None:
            log.info(
                "case platform is back", platform=self.name, after_s=round((self._now() - self.down_since) / SECOND)
            )
            self.down_since = None

    async def _put(self, known: Facts, key: str, why: str) -> Delivery:
        file = await self._drop.put(cells(self._fields.sending, known), why, self._now())
        self._failed.pop(key, None)
        self.dropped += 1
        log.warning("case goes into the drop folder", platform=self.name, key=key, file=file, reason=why)
        return Delivery(None, file, why)


def key_column(fields: FieldMap) -> int:
    """Which column of the drop files is the key."""
    return next(number for number, target in enumerate(fields.sending.targets) if target.path == "event.key")


def drop_columns(fields: FieldMap) -> list[str]:
    return columns(fields.sending)
