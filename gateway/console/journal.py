"""The log book over HTTP: every step of every alarm and what people did beside them, for reading and as a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from gateway.console import models, views
from gateway.console.gate import principal_of
from gateway.console.paging import Cursor, Limit, listed, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.console.sheets import MEDIA_TYPES, Download, Sheet
from gateway.console.words import ACTIONS, CAUSES, OUTCOMES, STATES, Language, word
from gateway.core.model import Level, Micros
from gateway.core.records import MAX_PAGE, Entry, EntryFilter, Role
from gateway.errors import Unavailable

MAX_ROWS = 200_000  # of one file: 30 MB; a spreadsheet ends at a million, and so does patience
EXPORTS = 2  # at once: each reads the store from end to end

_COLUMNS: dict[Language, tuple[str, ...]] = {
    "zh": ("时间", "类型", "级别", "设施", "报警", "原状态", "新状态", "人员", "事项", "对象", "结果", "说明"),
    "en": ("time", "what", "level", "asset", "alarm", "from", "to", "who", "event", "subject", "outcome", "words"),
}
_WIDTHS = (24, 8, 6, 18, 24, 12, 12, 14, 20, 30, 14, 50)
_TYPES = {"zh": ("报警", "操作"), "en": ("alarm", "action")}


class EntryView(models.Out):
    """One line of the log book. Of a transition: ``from``, ``to`` and ``cause`` (the row of the table in
    docs/alarms.md); of an action: ``action``, ``channel`` and ``outcome``, and the title and level that its alarm has
    now. ``key`` is unique."""

    key: str
    type: Literal["transition", "action"]
    at: models.Time
    who: str | None
    alarm_id: str | None
    asset: str | None
    title: models.Title | None
    level: models.LevelName | None
    from_: models.StateName | None = Field(alias="from")
    to: models.StateName | None
    cause: str | None
    action: str | None
    channel: str | None
    subject: str
    outcome: str | None
    why: str | None


def entry(line: Entry) -> dict[str, Any]:
    return {
        "key": line.key,
        "type": "transition" if line.is_transition else "action",
        "at": views.iso(line.at),
        "who": line.who,
        "alarm_id": line.alarm_id,
        "asset": line.asset,
        "title": {"zh": line.title_zh, "en": line.title_en} if line.title_zh or line.title_en else None,
        "level": None if line.level is None else line.level.name,
        "from": None if line.from_state is None else line.from_state.value,
        "to": None if line.to_state is None else line.to_state.value,
        "cause": line.cause,
        "action": line.action,
        "channel": line.channel,
        "subject": line.subject,
        "outcome": line.outcome,
        "why": line.why,
    }


def _wanted(
    request: Request,
    since: Annotated[str | None, Query(max_length=40, description="ISO 8601 with zone, included.")] = None,
    until: Annotated[str | None, Query(max_length=40, description="ISO 8601 with zone, not included.")] = None,
    asset: Annotated[str | None, Query(max_length=200)] = None,
    alarm: Annotated[str | None, Query(max_length=200, description="An alarm's id.")] = None,
    kind: Annotated[list[str] | None, Query(description="Kinds of asset, comma-separated or repeated.")] = None,
    level: Annotated[list[str] | None, Query(description="I, II, III, IV; then transitions only.")] = None,
    cause: Annotated[list[str] | None, Query(description="T3, T10 …; then transitions only.")] = None,
    by: Annotated[str | None, Query(max_length=200, description="Who did it.")] = None,
    q: Annotated[str | None, Query(max_length=200, description="In ids, titles and what people said.")] = None,
) -> EntryFilter:
    """The filters of the list and of the file. What is no step of an alarm is for supervisors and above."""
    principal = principal_of(request)
    bounds: dict[str, Micros | None] = {}
    for name, text in (("since", since), ("until", until)):
        try:
            bounds[name] = None if text is None else views.micros(text)
        except (ValueError, OverflowError) as error:
            raise Problem("invalid", f"{name}: {error}") from error
    return EntryFilter(
        since=bounds["since"],
        until=bounds["until"],
        asset=asset,
        alarm=alarm,
        kinds=tuple(listed(kind, "kind", None)),
        levels=tuple(listed(level, "level", Level.__members__)),
        causes=tuple(listed(cause, "cause", None)),
        by=by,
        q=q or None,
        scope=principal.scope,
        actions=principal.role >= Role.SUPERVISOR,
    )


Wanted = Annotated[EntryFilter, Depends(_wanted)]


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["journal"])
    exporting = asyncio.Semaphore(EXPORTS)

    @router.get("/journal", response_model=models.ListOf[EntryView])
    async def journal(wanted: Wanted, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
        """Everything that happened, newest first: each step of each alarm, and for supervisors also what people did
        that no step tells of (refusals, sign-ins, claims, changes of rules)."""
        return await page(gateway.records.desk.entries(wanted, limit, cursor), entry)

    @router.get(
        "/journal/export",
        response_class=Response,
        responses={200: {"content": {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()}}},
    )
    async def export(
        wanted: Wanted,
        form: Annotated[Literal["csv", "xlsx"], Query(alias="format")] = "csv",
        lang: Annotated[Language, Query(description="Of the header and the words.")] = "zh",
    ) -> Response:
        """The same as a file, in the time of the site; at most 200,000 lines, and the last one says so if there were
        more."""
        if exporting.locked():
            raise Unavailable(f"{EXPORTS} files are being written already")
        zone = ZoneInfo(gateway.timezone)
        return Download(_written(gateway, exporting, wanted, form, lang, zone), form, f"citywatch-journal.{form}")

    return router


async def _written(
    gateway: ConsolePort, exporting: asyncio.Semaphore, wanted: EntryFilter, form: str, lang: Language, zone: ZoneInfo
) -> AsyncGenerator[bytes, None]:
    """The file in pieces. A page is asked for when the one before was taken; to make rows of it is a thread's work."""
    columns = (f"{_COLUMNS[lang][0]} ({zone.key})", *_COLUMNS[lang][1:])
    async with exporting:
        sheet = await asyncio.to_thread(Sheet, form, columns, _WIDTHS)
        try:
            rows, cursor = 0, None
            while True:
                found = await gateway.records.desk.entries(wanted, min(MAX_PAGE, MAX_ROWS - rows), cursor)
                rows, cursor = rows + len(found.items), found.cursor
                piece = await asyncio.to_thread(_rows, sheet, found.items, lang, zone)
                if piece:
                    yield piece
                if cursor is None or rows >= MAX_ROWS:
                    break
            cut = None if cursor is None else _cut(lang)
            async for piece in _rest(sheet, cut):
                yield piece
        finally:
            await asyncio.to_thread(sheet.close)


async def _rest(sheet: Sheet, cut: str | None) -> AsyncGenerator[bytes, None]:
    pieces = await asyncio.to_thread(sheet.finish, cut)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def _rows(sheet: Sheet, found: list[Entry], lang: Language, zone: ZoneInfo) -> bytes:
    return sheet.rows([_cells(line, lang, zone) for line in found])


def _cells(line: Entry, lang: Language, zone: ZoneInfo) -> list[str]:
    title = line.title_zh if lang == "zh" else line.title_en
    event = word(CAUSES, line.cause, lang) if line.is_transition else word(ACTIONS, line.action, lang)
    return [
        _local(line.at, zone),
        _TYPES[lang][0 if line.is_transition else 1],
        line.level.name if line.level is not None else "",
        line.asset or "",
        title,
        word(STATES, line.from_state, lang),
        word(STATES, line.to_state, lang),
        line.who or "",
        event,
        line.subject,
        word(OUTCOMES, line.outcome, lang),
        line.why or "",
    ]


def _cut(lang: Language) -> str:
    if lang == "zh":
        return f"仅导出前 {MAX_ROWS} 行；请缩小时间范围"
    return f"only the first {MAX_ROWS} lines; ask for a shorter time"


def _local(at: Micros, zone: ZoneInfo) -> str:
    """Civil time at the site, to the millisecond: ``2025-07-20 20:00:00.000``."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    return moment.astimezone(zone).replace(tzinfo=None).isoformat(" ", "milliseconds")
