"""The shift over HTTP: what is handed over, and who signed for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from gateway.console import models, views
from gateway.console.gate import Principal, needs, scope_of
from gateway.console.notes import NoteView, note
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.load import LoadReport, report_of
from gateway.core.model import HOUR, AlarmRecord, Level, Micros, Transition
from gateway.core.records import AuditRow, HandoverRow, Role, Scope
from gateway.core.shift import MOST, Handed, has_words

PERIOD: Micros = 12 * HOUR  # a shift
LONGEST: Micros = 7 * 24 * HOUR
MAX_STEPS = 200_000  # twelve hours with five alarms a second; a worse storm is told of in shorter parts
AT_ONCE = 2  # reports being made; each decodes the steps of its shift

When = Annotated[str | None, Query(max_length=40, description="ISO 8601 with zone.")]
Id = Annotated[int, Path(ge=1, le=2**62)]


class HandedAlarm(models.Out):
    """An alarm as it is handed over: what the next shift must know at a glance."""

    alarm_id: str
    asset: str
    title: models.Title
    level: models.LevelName
    state: models.StateName
    value: models.Scalar
    limit: float | None
    unit: str
    active_at: models.Time | None
    acked_by: str | None
    assigned_to: str | None
    comment: str | None
    repeat_count: int
    simulated: bool


class ShelvedAlarm(HandedAlarm):
    """``until``: when the shelf ends by itself; ``by`` and ``reason``: who shelved it, and why."""

    until: models.Time | None
    by: str | None
    reason: str | None


class AwayAlarm(HandedAlarm):
    """Out of service: for which work, by whom, why and since when."""

    work: str
    by: str
    reason: str
    since: models.Time


class HandedList(models.Out):
    """``total`` alarms; ``items`` are the worst 500 of them, newest first within a level."""

    total: int
    items: list[HandedAlarm]


class ShelvedList(models.Out):
    total: int
    items: list[ShelvedAlarm]


class AwayList(models.Out):
    total: int
    items: list[AwayAlarm]


class LevelCounts(models.Out):
    """``raised``: alarms that asked for attention in this time; ``standing``: at its end, whatever was done with
    them."""

    raised: int
    standing: int


class WordsView(models.Out):
    """What somebody said when they did something to an alarm; ``cause`` is the row of the table in docs/alarms.md."""

    at: models.Time
    who: str
    cause: str
    alarm_id: str
    asset: str
    title: models.Title
    text: str


class WordsList(models.Out):
    """``total`` in this time; ``items`` are the newest 500."""

    total: int
    items: list[WordsView]


class NoteList(models.Out):
    total: int
    items: list[NoteView]


class ShiftLoadView(models.Out):
    """Operator load of the shift; as ``GET /operator-load``, without its periods."""

    alarms: int
    per_10_min: float
    peak_10_min: int
    share_above_10: float
    most_frequent: list[models.RuleLoadView]
    to_acknowledge: models.DelaysView
    to_clear: models.DelaysView


class ScopeView(models.Out):
    """Whose shift it is: kinds, towns and units; an empty list does not narrow."""

    kinds: list[str]
    towns: list[str]
    units: list[str]


class ShiftView(models.Out):
    """What a shift hands over. The lists are as they stood at ``until``; ``suppressed`` alarms hang under their causes.
    ``open_work``: assigned, and the occurrence not closed. ``gateway``: why the gateway is not well, when the report is
    made."""

    since: models.Time
    until: models.Time
    made_at: models.Time
    scope: ScopeView
    unacknowledged: HandedList
    acknowledged: HandedList
    shelved: ShelvedList
    out_of_service: AwayList
    chattering: HandedList
    stale: HandedList
    open_work: HandedList
    suppressed: int
    levels: dict[str, LevelCounts]
    floods: list[models.FloodView]
    load: ShiftLoadView
    comments: WordsList
    notes: NoteList
    gateway: list[str]


class SignatureView(models.Out):
    who: str
    at: models.Time
    words: str


class HandoverLine(models.Out):
    """A signed shift. ``taken`` is null until the next shift has signed."""

    id: int
    since: models.Time
    until: models.Time
    scope: ScopeView
    left: SignatureView
    taken: SignatureView | None


class HandoverView(HandoverLine):
    """With its report, as it was when the leaving shift signed."""

    report: ShiftView


class HandingOver(models.In):
    """The time of the shift, and what there is to say. ``since`` and ``until`` as those of ``GET /shift``."""

    since: Annotated[str, Field(max_length=40)] | None = None
    until: Annotated[str, Field(max_length=40)] | None = None
    words: Annotated[str, Field(min_length=1, max_length=2000)]


class TakingOver(models.In):
    words: Annotated[str, Field(max_length=2000)] = ""


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["shift"])
    desk = gateway.records.desk
    making = asyncio.Semaphore(AT_ONCE)

    async def report(since: Micros, until: Micros, scope: Scope) -> dict[str, Any]:
        async with making:
            return await _report(gateway, since, until, scope)

    async def noted(who: Principal, action: str, id_: int, why: str | None) -> None:
        line = AuditRow(0, gateway.now(), who.name, who.channel, action, f"handover {id_}", "done", why)
        await gateway.records.add_audit(f"{action}:{secrets.token_hex(16)}", line)

    async def existing(request: Request, id_: int) -> HandoverRow:
        row = await desk.handover(id_, scope_of(request))
        if row is None:
            raise Problem("not_found", f"there is no handover {id_}")
        return row

    @router.get("/shift", response_model=ShiftView)
    async def shift(request: Request, since: When = None, until: When = None) -> dict[str, Any]:
        """What is handed over after a shift, by default of the last 12 hours, at most of 7 days."""
        return await report(*_period(gateway, since, until), scope_of(request))

    @router.post("/handovers", response_model=HandoverView, status_code=201)
    async def hand_over(body: HandingOver, who: Annotated[Principal, Depends(needs(Role.OPERATOR))]) -> dict[str, Any]:
        """Freeze the report and sign for the leaving shift. Needs the role operator."""
        begin, end = _period(gateway, body.since, body.until)
        text = msgspec.json.encode(await report(begin, end, who.scope)).decode()
        row = HandoverRow(0, begin, end, text, who.name, gateway.now(), body.words, scope=who.scope)
        row = await desk.add_handover(row)
        await noted(who, "hand-over", row.id, body.words)
        return _with_report(row)

    @router.get("/handovers", response_model=models.ListOf[HandoverLine])
    async def handovers(request: Request, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
        """Signed shifts of what the caller may see, newest first."""
        return await page(desk.handovers(limit, cursor, scope_of(request)), _line)

    @router.get("/handovers/{handover_id}", response_model=HandoverView)
    async def handover(handover_id: Id, request: Request) -> dict[str, Any]:
        """One with its report."""
        return _with_report(await existing(request, handover_id))

    @router.post("/handovers/{handover_id}/take", response_model=HandoverLine)
    async def take(
        handover_id: Id, body: TakingOver, request: Request, who: Annotated[Principal, Depends(needs(Role.OPERATOR))]
    ) -> dict[str, Any]:
        """Sign for the next shift: by another person than who left, and once. Needs the role operator."""
        row = await existing(request, handover_id)
        if not await desk.take_handover(handover_id, who.name, gateway.now(), body.words):
            taken = (await existing(request, handover_id)).taken_by
            said = f"{taken} has taken it over" if taken is not None else f"{row.left_by} left it: another must sign"
            raise Problem("not_allowed", said)
        await noted(who, "take-over", handover_id, body.words or None)
        return _line(await existing(request, handover_id))

    return router


def _period(gateway: ConsolePort, since: str | None, until: str | None) -> tuple[Micros, Micros]:
    try:
        end = views.micros(until) if until is not None else gateway.now()
        begin = views.micros(since) if since is not None else end - PERIOD
    except (ValueError, OverflowError) as error:
        raise Problem("invalid", str(error)) from error
    if not begin < end <= begin + LONGEST:
        raise Problem("invalid", "`since` lies before `until`, at most 7 days")
    return begin, end


async def _report(gateway: ConsolePort, since: Micros, until: Micros, scope: Scope) -> dict[str, Any]:
    desk = gateway.records.desk
    lists = await desk.shift_lists(until, scope)
    shelved = lists.shelved.alarms
    shelvings = await desk.shelvings([alarm.alarm_id for alarm in shelved], until)
    notes_total, notes = await desk.notes_between(since, until, MOST, scope)
    steps = await gateway.records.transitions_between(since, until, MAX_STEPS + 1, scope)
    if len(steps) > MAX_STEPS:
        raise Problem("invalid", f"more than {MAX_STEPS} steps in this time; ask for a shorter one")
    load, words = await asyncio.to_thread(_added_up, steps, since, until)
    return {
        "since": views.iso(since),
        "until": views.iso(until),
        "made_at": views.iso(gateway.now()),
        "scope": _scope(scope),
        "unacknowledged": _handed(lists.unacknowledged),
        "acknowledged": _handed(lists.acknowledged),
        "shelved": _handed(lists.shelved, lambda alarm: _shelf(alarm, shelvings.get(alarm.alarm_id))),
        "out_of_service": _handed(lists.out_of_service, _away),
        "chattering": _handed(lists.chattering),
        "stale": _handed(lists.stale),
        "open_work": _handed(lists.open_work),
        "suppressed": lists.suppressed,
        "levels": {
            level.name: {"raised": load.by_level[level.name], "standing": lists.standing[level]} for level in Level
        },
        "floods": [views.flood(one) for one in load.floods],
        "load": _load(load),
        "comments": {"total": len(words), "items": [_words(step) for step in words[: -MOST - 1 : -1]]},
        "notes": {"total": notes_total, "items": [note(one) for one in notes]},
        "gateway": views.health(gateway.health(), inside=not scope)["reasons"],
    }


def _added_up(steps: Sequence[Transition], since: Micros, until: Micros) -> tuple[LoadReport, list[Transition]]:
    return report_of(steps, since, until), [step for step in steps if has_words(step)]


def _handed(found: Handed, view: Callable[[AlarmRecord], dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"total": found.total, "items": [(view or _alarm)(record) for record in found.alarms]}


def _alarm(record: AlarmRecord) -> dict[str, Any]:
    return {
        "alarm_id": record.alarm_id,
        "asset": record.asset,
        "title": {"zh": record.title_zh, "en": record.title_en},
        "level": record.level.name,
        "state": record.isa_state.value,
        "value": record.value,
        "limit": record.limit,
        "unit": record.unit,
        "active_at": views.iso_or_none(record.active_at),
        "acked_by": record.acked_by,
        "assigned_to": record.assigned_to,
        "comment": record.comment,
        "repeat_count": record.repeat_count,
        "simulated": record.simulated,
    }


def _shelf(record: AlarmRecord, step: Transition | None) -> dict[str, Any]:
    by, reason = (step.by, step.why) if step is not None else (None, None)
    return {**_alarm(record), "until": views.iso_or_none(record.unshelve_at), "by": by, "reason": reason}


def _away(record: AlarmRecord) -> dict[str, Any]:
    away = record.out_of_service
    assert away is not None
    told = {"work": away.work, "by": away.by, "reason": away.reason, "since": views.iso(away.since)}
    return {**_alarm(record), **told}


def _load(load: LoadReport) -> dict[str, Any]:
    told = views.load_report(load)
    return {name: told[name] for name in ShiftLoadView.model_fields}


def _words(step: Transition) -> dict[str, Any]:
    return {
        "at": views.iso(step.at),
        "who": step.by,
        "cause": step.cause,
        "alarm_id": step.alarm_id,
        "asset": step.record.asset,
        "title": {"zh": step.record.title_zh, "en": step.record.title_en},
        "text": step.why,
    }


def _scope(scope: Scope) -> dict[str, list[str]]:
    return {"kinds": list(scope.kinds), "towns": list(scope.towns), "units": list(scope.units)}


def _line(row: HandoverRow) -> dict[str, Any]:
    taken = None
    if row.taken_by is not None and row.taken_at is not None:
        taken = {"who": row.taken_by, "at": views.iso(row.taken_at), "words": row.taken_words or ""}
    return {
        "id": row.id,
        "since": views.iso(row.since),
        "until": views.iso(row.until),
        "scope": _scope(row.scope),
        "left": {"who": row.left_by, "at": views.iso(row.left_at), "words": row.left_words},
        "taken": taken,
    }


def _with_report(row: HandoverRow) -> dict[str, Any]:
    return {**_line(row), "report": msgspec.json.decode(row.report)}
