"""The live record of every alarm, retained on an MQTT broker: ``citywatch/v1/alarms/<asset>/<rule>``.

Not told through the outbox, because a mirror also shows what is told to nobody (acknowledged, shelved, suppressed). It
follows the store's transitions by a cursor of its own: what was committed while the broker was away, or while we were
down, is published when both are back, each step once or once more, those of one alarm in their order.

At the very first start every alarm there is is published as it is, and from there on the steps.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiomqtt
import msgspec
import structlog

from gateway.core.model import SECOND, AlarmRecord, Micros, Transition
from gateway.core.records import MAX_PAGE, AlarmFilter, Page
from gateway.notify.dispatcher import LaneStatistics
from gateway.notify.message import alarm
from gateway.retry import Backoff

log = structlog.get_logger("notify")

_SILENT = logging.getLogger("gateway.notify.mirror")  # what happens to the line we say ourselves, once
_SILENT.setLevel(logging.CRITICAL)

TOPIC = "citywatch/v1/alarms"
AT_ONCE = 100  # published before the first is acknowledged; they leave in their order
WAITING = 10_000  # steps kept in memory for a broker that is away; beyond that they are read from the store again
TIMEOUT_S = 15.0
KEEPALIVE_S = 20
CURSOR_EVERY_S = 1.0  # how often the cursor is written; what is behind it is published once more after a crash


class Records(Protocol):
    """What a mirror needs of the store."""

    @property
    def position(self) -> int: ...
    async def transitions(self, after: int, limit: int) -> list[tuple[int, Transition]]: ...
    async def alarms(self, wanted: AlarmFilter, limit: int, cursor: str | None = None) -> Page[AlarmRecord]: ...
    async def cursor(self, name: str) -> int: ...
    async def set_cursor(self, name: str, position: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is: mqtt:// or mqtts:// with host and port. ``ca_file``: whom to believe, else the system's."""

    url: str
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None


class AlarmMirror:
    """``address`` says where the broker is, None while nobody knows. ``simulated``: alarms of simulated assets, and no
    others. Call ``hear`` with what was committed, and ``run`` until cancelled; StorageFailed leaves it."""

    def __init__(
        self,
        name: str,
        records: Records,
        address: Callable[[], Address | None],
        now: Callable[[], Micros],
        *,
        simulated: bool = False,
    ) -> None:
        self.name = name
        self.statistics = LaneStatistics()
        self._records = records
        self._address = address
        self._now = now
        self._simulated = simulated
        self._news = asyncio.Event()
        self._waiting: deque[tuple[int, Transition]] = deque()
        self._behind = True  # what waits is not all there is: the store must be asked first
        self._passed = 0
        self._written = 0
        self._written_at = 0.0

    def hear(self, transitions: Sequence[Transition]) -> None:
        """These were committed just now. Cheap."""
        if self._behind:
            return
        if len(self._waiting) + len(transitions) > WAITING:
            self._behind = True
            self._waiting.clear()
        else:
            position = self._records.position
            self._waiting.extend((position, one) for one in transitions)
        self._news.set()

    async def run(self) -> None:
        self._passed = self._written = await self._records.cursor(self._cursor)
        backoff = Backoff()
        while True:
            try:
                await self._follow(backoff)
            except (aiomqtt.MqttError, OSError, TimeoutError) as error:
                self._is_away(f"{type(error).__name__}: {error}"[:200])
            await backoff.wait()

    @property
    def _cursor(self) -> str:
        return f"mirror:{self.name}"

    async def _follow(self, backoff: Backoff) -> None:
        """One connection, until it breaks."""
        address = self._address()
        if address is None:
            return
        async with _client(address) as client:
            # Nothing is subscribed: the first "message" is the end of the line.
            gone = asyncio.ensure_future(anext(client.messages))
            try:
                self._is_back()
                backoff.reset()
                while True:
                    self._news.clear()
                    if self._behind:
                        await self._catch_up(client, gone)
                    while self._waiting:
                        await self._publish_waiting(client, gone)
                    await self._write_cursor()
                    await self._until_news(gone)
            finally:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)

    async def _until_news(self, gone: asyncio.Future[Any]) -> None:
        """Until there is something to publish, or the cursor must be written. MqttError when the line is down."""
        late = CURSOR_EVERY_S if self._passed != self._written else None
        news = asyncio.create_task(self._news.wait(), name=f"mirror-{self.name}-news")
        try:
            await asyncio.wait({news, gone}, timeout=late, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            await asyncio.gather(news, return_exceptions=True)
        if gone.done():
            gone.result()

    # -- what is published --------------------------------------------------------------------------------------------

    async def _catch_up(self, client: aiomqtt.Client, gone: asyncio.Future[Any]) -> None:
        """From the store, up to where what is heard begins."""
        self._behind = False  # from here on what is committed waits here
        self._waiting.clear()
        if not self._passed:
            begin = self._records.position
            await self._publish_all(client, gone)
            self._passed = begin
        limit = MAX_PAGE
        while True:
            found = await self._records.transitions(self._passed, limit)
            whole = found
            if len(found) == limit:  # the last position may go on behind the page
                whole = [one for one in found if one[0] != found[-1][0]]
                if not whole:
                    limit *= 2
                    continue
            if not whole:
                return
            for begin in range(0, len(whole), AT_ONCE):
                await self._publish(client, gone, [_document(step) for _, step in whole[begin : begin + AT_ONCE]])
            self._passed = whole[-1][0]
            await self._write_cursor()

    async def _publish_all(self, client: aiomqtt.Client, gone: asyncio.Future[Any]) -> None:
        """Every alarm there ever was, as it is now."""
        cursor: str | None = None
        while True:
            page = await self._records.alarms(AlarmFilter(), MAX_PAGE, cursor)
            for begin in range(0, len(page.items), AT_ONCE):
                part = page.items[begin : begin + AT_ONCE]
                await self._publish(client, gone, [(record, None) for record in part])
            if page.cursor is None:
                return
            cursor = page.cursor

    async def _publish_waiting(self, client: aiomqtt.Client, gone: asyncio.Future[Any]) -> None:
        """The oldest that wait; they go on waiting until the broker has them."""
        waiting = self._waiting
        count = min(AT_ONCE, len(waiting))
        part = [waiting[number] for number in range(count)]
        await self._publish(client, gone, [_document(step) for position, step in part if position > self._passed])
        if self._behind:
            return  # overrun meanwhile: all of it is read from the store
        for _ in range(count):
            waiting.popleft()
        last = part[-1][0]
        self._passed = max(self._passed, last - 1 if waiting and waiting[0][0] == last else last)

    async def _publish(
        self,
        client: aiomqtt.Client,
        gone: asyncio.Future[Any],
        documents: Sequence[tuple[AlarmRecord, Transition | None]],
    ) -> None:
        """Returns when the broker has them all; what left before it broke may come twice."""
        wanted = [
            (record, step) for record, step in documents if not record.shadow and record.simulated is self._simulated
        ]
        if not wanted:
            return
        self.statistics.in_air = len(wanted)
        sends = asyncio.gather(
            *(
                client.publish(_topic(record), payload(record, step), qos=1, retain=True, timeout=TIMEOUT_S)
                for record, step in wanted
            )
        )
        try:
            await asyncio.wait({sends, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not sends.done():
                gone.result()
        finally:
            sends.cancel()
            ended = await asyncio.gather(sends, return_exceptions=True)
        if isinstance(ended[0], BaseException):
            raise ended[0]
        self.statistics.in_air = 0
        self.statistics.delivered += len(wanted)

    # -- how far, and how it goes -------------------------------------------------------------------------------------

    async def _write_cursor(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._passed != self._written and now - self._written_at >= CURSOR_EVERY_S:
            await self._records.set_cursor(self._cursor, self._passed)
            self._written, self._written_at = self._passed, now

    def _is_away(self, reason: str) -> None:
        self.statistics.retried += 1
        self.statistics.last_error = reason
        self.statistics.in_air = 0
        if self.statistics.down_since is None:
            self.statistics.down_since = self._now()
            log.warning("mirror's broker is not available: kept, and tried again", receiver=self.name, reason=reason)

    def _is_back(self) -> None:
        since, self.statistics.down_since = self.statistics.down_since, None
        if since is not None:
            log.info("mirror's broker is back", receiver=self.name, after_s=round((self._now() - since) / SECOND))


def payload(record: AlarmRecord, step: Transition | None) -> bytes:
    """The retained document: the live record, and the step that led to it where one did."""
    document: dict[str, Any] = {"alarm_id": record.alarm_id, "rev": record.rev, **alarm(record)}
    document |= {"annunciated": record.annunciated, "work": record.work}
    if step is not None:
        document |= {"cause": step.cause, "from": step.from_state.value, "by": step.by, "at": step.at // 1000}
    return msgspec.json.encode(document)


def _document(step: Transition) -> tuple[AlarmRecord, Transition]:
    return step.record, step


def _topic(record: AlarmRecord) -> str:
    return f"{TOPIC}/{_level(record.asset)}/{_level(record.rule)}"


def _level(name: str) -> str:
    """One level of a topic."""
    return "".join("_" if c in "/+#\0" else c for c in name)


def _client(address: Address) -> aiomqtt.Client:
    parts = urlsplit(address.url)
    tls = ssl.create_default_context(cafile=address.ca_file) if parts.scheme == "mqtts" else None
    return aiomqtt.Client(
        parts.hostname or "",
        parts.port or (8883 if tls is not None else 1883),
        username=address.username,
        password=address.password,
        protocol=aiomqtt.ProtocolVersion.V311,
        tls_context=tls,
        timeout=TIMEOUT_S,
        keepalive=KEEPALIVE_S,
        max_inflight_messages=AT_ONCE,
        logger=_SILENT,
    )
