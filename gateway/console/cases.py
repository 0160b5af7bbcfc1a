"""Cases with the city's platforms over HTTP, what citizens reported there, and the figures of cases."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from gateway.console import models, views
from gateway.console.gate import Principal, needs, scope_of, visible
from gateway.console.paging import Cursor, Limit, listed, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.case_figures import FORMULAS, CaseBook, Figures, figures
from gateway.core.cases import OPEN_STATUSES, STATUS_WORDS, CaseRow, CaseStatus, Said, TicketRow, due_at
from gateway.core.model import HOUR, SECOND, AlarmRecord, Level, Micros, Transition
from gateway.core.records import Role
from gateway.core.rule import Rule
from gateway.errors import Unavailable

LOOKBACK: Micros = 90 * 24 * HOUR  # how long before a period a case may have been opened that is due or closed in it
LONGEST: Micros = 400 * 24 * HOUR  # a year's report, and some days
MOST_STEPS = 200_000  # 10 s of a thread; a county's cases of a year have some 50,000
AT_ONCE = 2

StatusName = Literal["opening", "opened", "handling", "done", "rework", "closed", "refused"]


class SaidView(models.Out):
    """What the platform said last: its own word, and what it is taken for (null: nothing we know)."""

    at: models.Time
    word: str
    status: StatusName | None
    by: str
    text: str


class CaseView(models.Out):
    """A case. ``key``: ours, the same for ever; ``number``: the platform's. ``way``: how the newest event went there:
    ``platform``, ``csv`` (into ``file`` of the drop folder, for ``error``), or null while none has. ``dropped``: how
    many events lie in the drop folder. ``closed_how``: readings, person, recovered, forced, rule, platform."""

    platform: str
    key: str
    number: str | None
    alarm_id: str
    title: models.Title
    level: models.LevelName
    status: StatusName
    status_name: models.Title
    opened_at: models.Time
    due_at: models.Time | None
    overdue: bool
    changed_at: models.Time
    closed_at: models.Time | None
    closed_how: str | None
    reworks: int
    reopened: int
    way: Literal["platform", "csv"] | None
    file: str | None
    error: str | None
    dropped: int
    said: SaidView | None


class TicketView(models.Out):
    """What somebody reported to a platform. ``alarm_id``: the alarm that it is about, null when none fits; ``why``: how
    that was found; ``score`` 0 to 1, for people to judge by; ``others``: alarms that fit too."""

    id: int
    platform: str
    number: str
    at: models.Time
    received_at: models.Time
    class_: str = Field(alias="class")
    status: str
    place: str
    text: str
    longitude: float | None
    latitude: float | None
    alarm_id: str | None
    occurrence_id: str | None
    score: float | None
    why: models.Title
    others: list[str]


class CaseFiguresView(models.Out):
    """Figures of a period in the words of the cities' platforms; ``formulas`` says each aloud. Rates are null when
    there is nothing that they could be of."""

    from_: models.Time = Field(alias="from")
    to: models.Time
    registered: int
    closed: int
    due: int
    in_time: int
    in_time_rate: float | None
    reworked: int
    rework_rate: float | None
    average_handling_s: float | None
    formulas: dict[str, models.Title]


def case(row: CaseRow, now: Micros) -> dict[str, Any]:
    found = row.case
    zh, en = STATUS_WORDS[found.status]
    late = found.closed_at if found.closed_at is not None else now
    return {
        "platform": row.platform,
        "key": found.key,
        "number": row.number,
        "alarm_id": found.alarm_id,
        "title": {"zh": row.title_zh, "en": row.title_en},
        "level": Level(row.level).name,
        "status": found.status.value,
        "status_name": {"zh": zh, "en": en},
        "opened_at": views.iso(found.opened_at),
        "due_at": views.iso_or_none(found.due_at),
        "overdue": found.due_at is not None and late > found.due_at,
        "changed_at": views.iso(row.changed_at),
        "closed_at": views.iso_or_none(found.closed_at),
        "closed_how": found.closed_how or None,
        "reworks": found.reworks,
        "reopened": found.reopened,
        "way": row.way or None,
        "file": row.file or None,
        "error": row.error,
        "dropped": len(row.dropped),
        "said": None if row.said is None else _said(row.said),
    }


def _said(found: Said) -> dict[str, Any]:
    status = None if found.status is None else found.status.value
    return {"at": views.iso(found.at), "word": found.word, "status": status, "by": found.by, "text": found.text}


def ticket(row: TicketRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "platform": row.platform,
        "number": row.number,
        "at": views.iso(row.at),
        "received_at": views.iso(row.received_at),
        "class": row.class_,
        "status": row.status,
        "place": row.place,
        "text": row.text,
        "longitude": row.longitude,
        "latitude": row.latitude,
        "alarm_id": row.alarm_id,
        "occurrence_id": row.occurrence_id,
        "score": row.score,
        "why": {"zh": row.why_zh, "en": row.why_en},
        "others": list(row.others),
    }


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["cases"])
    records = gateway.records
    counting = asyncio.Semaphore(AT_ONCE)

    @router.get("/cases", response_model=models.ListOf[CaseView])
    async def cases(
        request: Request,
        who: Annotated[Principal, Depends(needs(Role.OPERATOR))],
        state: Annotated[
            list[str] | None, Query(description="Statuses, or `open` for all that are; comma-separated or repeated.")
        ] = None,
        alarm: Annotated[str | None, Query(max_length=200, description="Of one alarm.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Alarms that were registered with the city's platforms, the newest first. Needs the role operator."""
        known = {status.value.upper(): status for status in CaseStatus}
        asked = listed(state, "state", {**known, "OPEN": None})
        wanted = [one for one in asked if one is not None] + (list(OPEN_STATUSES) if None in asked else [])
        if alarm is not None:
            visible(request, gateway, alarm.partition("/")[0], f"alarm {alarm!r}")
        now = gateway.now()
        found = records.cases.page(wanted, limit, cursor, scope_of(request), alarm)
        return await page(found, lambda row: case(row, now))

    @router.get("/cases/figures", response_model=CaseFiguresView)
    async def figures_of_cases(
        request: Request,
        since: Annotated[str, Query(alias="from", max_length=40, description="ISO 8601 with zone, included.")],
        until: Annotated[str, Query(alias="to", max_length=40, description="ISO 8601 with zone, not included.")],
        simulated: Annotated[bool, Query(description="Of simulated assets, and no others.")] = False,
    ) -> dict[str, Any]:
        """立案数, 结案数, 应结案, 按期结案率, 返工率 and 平均处置时间 of a period, from the recorded steps of the
        alarms that the caller may see, of rules that become cases now; also without any platform."""
        begin, end = _moment(since, "from"), _moment(until, "to")
        if not begin < end <= begin + LONGEST:
            raise Problem("invalid", "from must lie before to, by at most 400 days")
        if counting.locked():
            raise Unavailable("figures are being counted already")
        async with counting:
            found = await _figures(gateway, request, begin, end, simulated)
        handling = found.average_handling
        return {
            "from": views.iso(begin),
            "to": views.iso(end),
            "registered": found.registered,
            "closed": found.closed,
            "due": found.due,
            "in_time": found.in_time,
            "in_time_rate": found.in_time_rate,
            "reworked": found.reworked,
            "rework_rate": found.rework_rate,
            "average_handling_s": None if handling is None else handling / SECOND,
            "formulas": {name: {"zh": zh, "en": en} for name, (zh, en) in FORMULAS.items()},
        }

    @router.get("/tickets", response_model=models.ListOf[TicketView])
    async def tickets(
        request: Request,
        who: Annotated[Principal, Depends(needs(Role.OPERATOR))],
        matched: Annotated[bool | None, Query(description="Only those about an alarm, or only the others.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """What citizens and inspectors reported to the city's platforms, the newest first. Those about no alarm are for
        who sees the whole city. Needs the role operator."""
        return await page(records.cases.tickets(limit, cursor, scope_of(request), matched=matched), ticket)

    return router


async def _figures(gateway: ConsolePort, request: Request, since: Micros, until: Micros, simulated: bool) -> Figures:
    rules = {one.rule.id: one.rule for one in (await gateway.rulebook.rules()).values() if one.rule.case}
    calendar = gateway.routing.calendar

    def due(record: AlarmRecord, opened_at: Micros) -> Micros | None:
        rule: Rule | None = rules.get(record.rule)
        return due_at(None if rule is None else rule.variant(record.asset), opened_at, calendar)

    book = CaseBook(due)

    def take(step: Transition) -> None:
        if step.record.simulated is simulated and not step.record.shadow:
            book.take(step)

    whole = await gateway.records.cases.fold(list(rules), since - LOOKBACK, until, scope_of(request), take, MOST_STEPS)
    if not whole:
        raise Problem("invalid", f"there are more than {MOST_STEPS} steps in this time: ask for a shorter period")
    return figures(book.cases, since, until, gateway.now())


def _moment(text: str, name: str) -> Micros:
    try:
        return views.micros(text)
    except (ValueError, OverflowError) as error:
        raise Problem("invalid", f"{name}: {error}") from error
