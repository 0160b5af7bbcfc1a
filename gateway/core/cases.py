"""What the city's case platform (数字城管, 12345 …) is told of an alarm: from 立案 to 结案, whatever its sensor does.

Theory. A case is one trouble in the street. It begins when people are told of an alarm whose rule has ``case``, or are
sent to it, and ends when nobody has to do anything any more: the work is closed, or, where nobody was sent from here,
the alarm is over. An alarm that comes back meanwhile belongs to the same case, though its occurrence is another one; a
second case for the same hole helps nobody. The case bears the occurrence it began with as its key, for ever.

=========  ==============================  =============================================================================
event      from the row                    when
=========  ==============================  =============================================================================
opened     T3 T7 T26 T8 T11 T18 T21 T23    there is no open case, the alarm is annunciated and asks for something;
           T29, every W                    or somebody is sent
recurred   T3 T7 T26                       raised again while the case is open
level      T8                              its level has risen
acked      T10                             somebody has seen it (受理)
cleared    T6                              normal again; something is still to be done (acknowledge, reset, finish)
sent …     W1 W2 W3 W4 W5                  sent (派遣), accepted, refused (回退), on site, done (处置完成)
rework     W7, W10 that sends again        it was not right (返工)
reopened   W8; W1 and what is raised       after the case was closed: the same case again
           again of the same occurrence
closed     whatever makes it over          结案
=========  ==============================  =============================================================================

What follows from what is decided here alone; the receiver (``notify/case_platform.py``) tells it, and the figures count
the same steps without any platform.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from gateway.core.case_clock import Calendar, deadline
from gateway.core.model import HOUR, AlarmRecord, Micros, Transition, WorkState
from gateway.core.rule import Rule
from gateway.core.work import OPEN

replace = msgspec.structs.replace

Pair = tuple[str, str]  # Chinese, English


class CaseEvent(StrEnum):
    """What happened to a case, as the platform is told."""

    OPENED = "opened"
    RECURRED = "recurred"
    LEVEL = "level"
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ON_SITE = "on-site"
    DONE = "done"
    REWORK = "rework"
    REOPENED = "reopened"
    CLOSED = "closed"


class CaseStatus(StrEnum):
    """How far a case is, whoever said so last."""

    OPENING = "opening"  # on its way: nobody has taken it yet
    OPENED = "opened"
    HANDLING = "handling"
    DONE = "done"  # said to be, and not checked
    REWORK = "rework"
    CLOSED = "closed"
    REFUSED = "refused"  # the platform will not have it (不予立案, 作废)


EVENT_WORDS: dict[CaseEvent, Pair] = {
    CaseEvent.OPENED: ("立案", "case opened"),
    CaseEvent.RECURRED: ("再次发生", "raised again"),
    CaseEvent.LEVEL: ("级别上升", "level up"),
    CaseEvent.ACKNOWLEDGED: ("受理", "acknowledged"),
    CaseEvent.CLEARED: ("报警恢复", "alarm over"),
    CaseEvent.DISPATCHED: ("派遣", "dispatched"),
    CaseEvent.ACCEPTED: ("接单", "accepted"),
    CaseEvent.REFUSED: ("回退", "refused"),
    CaseEvent.ON_SITE: ("到场", "on site"),
    CaseEvent.DONE: ("处置完成", "done"),
    CaseEvent.REWORK: ("返工", "sent again"),
    CaseEvent.REOPENED: ("结案后复发", "opened again"),
    CaseEvent.CLOSED: ("结案", "case closed"),
}
STATUS_WORDS: dict[CaseStatus, Pair] = {
    CaseStatus.OPENING: ("待立案", "on its way"),
    CaseStatus.OPENED: ("已立案", "opened"),
    CaseStatus.HANDLING: ("处置中", "being handled"),
    CaseStatus.DONE: ("待核查", "to be checked"),
    CaseStatus.REWORK: ("返工", "rework"),
    CaseStatus.CLOSED: ("已结案", "closed"),
    CaseStatus.REFUSED: ("不予立案", "not taken"),
}
CLOSED_WORDS: dict[str, Pair] = {
    "readings": ("监测数据核实", "its readings agree"),
    "person": ("人工核查", "somebody has checked"),
    "recovered": ("报警已恢复", "the alarm is over"),
    "forced": ("强制结束", "cleared by force"),
    "rule": ("规则停用", "its rule is not in force any more"),
}
CLOCK_WORDS: dict[str, Pair] = {  # the clocks as cities call them
    "urgent": ("紧急工作时", "hours, night and day"),
    "working_hours": ("工作时", "working hours"),
    "working_days": ("工作日", "working days"),
    "natural_days": ("自然日", "calendar days"),
}
OVER = frozenset({CaseStatus.CLOSED, CaseStatus.REFUSED})
OPEN_STATUSES = tuple(status for status in CaseStatus if status not in OVER)

_RAISES = frozenset({"T3", "T7", "T26"})
_ASKS = _RAISES | {"T8", "T11", "T18", "T21", "T23", "T29"}
_EVENTS: dict[str, CaseEvent] = dict.fromkeys(_RAISES, CaseEvent.RECURRED) | {
    "T8": CaseEvent.LEVEL,
    "T10": CaseEvent.ACKNOWLEDGED,
    "T6": CaseEvent.CLEARED,
    "W1": CaseEvent.DISPATCHED,
    "W2": CaseEvent.ACCEPTED,
    "W3": CaseEvent.REFUSED,
    "W4": CaseEvent.ON_SITE,
    "W5": CaseEvent.DONE,
    "W7": CaseEvent.REWORK,
    "W8": CaseEvent.REOPENED,
    "W10": CaseEvent.REWORK,
}
_STATUS: dict[CaseEvent, CaseStatus] = {
    CaseEvent.OPENED: CaseStatus.OPENED,
    CaseEvent.DISPATCHED: CaseStatus.HANDLING,
    CaseEvent.ACCEPTED: CaseStatus.HANDLING,
    CaseEvent.REFUSED: CaseStatus.OPENED,
    CaseEvent.ON_SITE: CaseStatus.HANDLING,
    CaseEvent.DONE: CaseStatus.DONE,
    CaseEvent.REWORK: CaseStatus.REWORK,
    CaseEvent.REOPENED: CaseStatus.REWORK,
    CaseEvent.CLOSED: CaseStatus.CLOSED,
}
_HOW = {"W6": "readings", "W9": "person", "W10": "person", "T27": "forced", "T24": "rule"}

# Steps that matter to a case although nobody is annunciated by them: work, and whatever may end it.
QUIET = frozenset({"T6", "T10", "T13", "T24", "T25", "T27", *(f"W{number}" for number in range(1, 11))})
# The steps that may matter to a case; of all others nobody on the platform wants to hear.
CAUSES = QUIET | _ASKS


class Case(msgspec.Struct, frozen=True):
    """A case as far as it was told. ``key``: the occurrence it began with; ``occurrence``: the newest that belongs to
    it; ``rev``: the step of the alarm that was told last, 0 while none was. ``due_at``: when its time limit ends."""

    key: str
    alarm_id: str
    occurrence: str
    opened_at: Micros
    status: CaseStatus = CaseStatus.OPENING
    rev: int = 0
    due_at: Micros | None = None
    closed_at: Micros | None = None
    closed_how: str = ""
    reworks: int = 0
    reopened: int = 0

    @property
    def is_open(self) -> bool:
        return self.status not in OVER


def advance(case: Case | None, step: Transition) -> tuple[Case, CaseEvent] | None:
    """The newest case of an alarm (None: there never was one) after one more of its steps, and what that means to the
    platform; None when nothing has to be told. Steps of one alarm come in order; one that was told is told no more."""
    if step.cause not in CAUSES or (case is not None and step.rev <= case.rev):
        return None
    record = step.record
    if step.cause in _RAISES and record.work == WorkState.CLOSED:
        return None  # W8 follows, and says more
    over = is_over(record)
    if case is not None and case.rev == 0 and case.key == record.occurrence_id:
        # An attempt to open it, whose end nobody knows; what the platform has said of it since does not matter.
        return None if over else (told(case, step, CaseEvent.OPENED), CaseEvent.OPENED)
    if case is None or case.rev == 0 or not case.is_open:
        if over or not _asks(step):
            return None
        again = case is not None and case.rev > 0
        if case is not None and again and (step.cause == "W8" or case.occurrence == record.occurrence_id):
            return told(case, step, CaseEvent.REOPENED), CaseEvent.REOPENED
        new = Case(record.occurrence_id, step.alarm_id, record.occurrence_id, step.at)
        return told(new, step, CaseEvent.OPENED), CaseEvent.OPENED
    event = CaseEvent.CLOSED if over else _EVENTS.get(step.cause)
    return None if event is None else (told(case, step, event), event)


def is_over(record: AlarmRecord) -> bool:
    """Nobody has to do anything about it any more: the work is closed, or nobody was sent and the alarm is over."""
    if record.work == WorkState.CLOSED:
        return True
    return record.work == WorkState.NONE and record.closed_at is not None and not record.is_active


def _asks(step: Transition) -> bool:
    """It is worth a case: people are told of it and it waits for something, or somebody is sent."""
    record = step.record
    if step.cause.startswith("W"):
        return record.work in OPEN or record.work == WorkState.REJECTED
    return step.cause in _ASKS and step.notify and (record.is_active or not record.acked)


def told(case: Case, step: Transition, event: CaseEvent) -> Case:
    """The case after ``event`` has been told. What the platform has closed meanwhile stays closed, unless the event
    opens it again."""
    case = replace(
        case,
        occurrence=step.record.occurrence_id,
        rev=step.rev,
        reworks=case.reworks + (event is CaseEvent.REWORK),
        reopened=case.reopened + (event is CaseEvent.REOPENED),
    )
    if not case.is_open and event is not CaseEvent.REOPENED:
        return case
    if event is CaseEvent.OPENED and case.status is not CaseStatus.OPENING:
        return case
    closed = event is CaseEvent.CLOSED
    return replace(
        case,
        status=_STATUS.get(event, case.status),
        closed_at=step.at if closed else None,
        closed_how=_HOW.get(step.cause, "recovered") if closed else "",
    )


def speaker(platform: str) -> str:
    """Who does what a platform asks for."""
    return f"platform:{platform}"


def event_key(case: Case, step: Transition, event: CaseEvent) -> str:
    """The idempotency key of one event of one case: the same in every attempt, another for every other event."""
    return f"{case.key}/{step.rev}/{event.value}"


def due_at(rule: Rule | None, opened_at: Micros, calendar: Calendar) -> Micros | None:
    """When the time limit of a case (处置时限) ends; None when its rule names none."""
    if rule is None or rule.sla is None or rule.sla.resolve is None:
        return None
    return deadline(rule.sla.clock, opened_at, rule.sla.resolve, calendar)


def limit_words(rule: Rule | None) -> Pair:
    """The time limit as a city says it: 6 紧急工作时, 3 工作日; "" when there is none."""
    if rule is None or rule.sla is None or rule.sla.resolve is None:
        return "", ""
    days = rule.sla.clock.endswith("days")
    number = f"{rule.sla.resolve / (24 * HOUR if days else HOUR):.4g}"
    zh, en = CLOCK_WORDS[rule.sla.clock]
    return f"{number} {zh}", f"{number} {en}"


# -- what is kept -----------------------------------------------------------------------------------------------------


class Said(msgspec.Struct, frozen=True):
    """What the platform said of a case last: its own word for the status, and what we take it for."""

    at: Micros
    received_at: Micros
    word: str = ""
    status: CaseStatus | None = None
    by: str = ""
    text: str = ""


class CaseRow(msgspec.Struct, frozen=True):
    """A case with one platform. ``way``: how the newest event went there: "platform", "csv" (into the drop folder, as
    ``file``), or "" while none has. ``error``: why it did not go the usual way. ``dropped``: keys that went into the
    folder, the newest last; ``heard``: ids of the platform's messages."""

    platform: str
    case: Case
    title_zh: str = ""
    title_en: str = ""
    level: int = 4
    number: str | None = None
    changed_at: Micros = 0
    way: str = ""
    file: str = ""
    error: str | None = None
    dropped: tuple[str, ...] = ()
    said: Said | None = None
    heard: tuple[str, ...] = ()


class TicketRow(msgspec.Struct, frozen=True):
    """What the platform passes on to us: a report of a citizen or an inspector, and the alarm that it is about, where
    one fits. ``why``: how that was found, or why none was; ``others``: alarms that fit too."""

    id: int
    platform: str
    number: str
    at: Micros
    received_at: Micros
    class_: str = ""
    status: str = ""
    place: str = ""
    text: str = ""
    longitude: float | None = None
    latitude: float | None = None
    alarm_id: str | None = None
    occurrence_id: str | None = None
    score: float | None = None
    why_zh: str = ""
    why_en: str = ""
    others: tuple[str, ...] = ()


KEPT = 100  # keys and ids that a row remembers: a case has some ten events


def arrived(
    row: CaseRow,
    step: Transition,
    event: CaseEvent,
    at: Micros,
    *,
    number: str | None = None,
    dropped: tuple[str, str, str] | None = None,
) -> CaseRow:
    """The row, as it is now, after an event has reached the platform (with the number it gave), or the drop folder
    (``dropped``: key, file, why it did not go the usual way)."""
    key, file, error = dropped if dropped is not None else ("", "", None)
    return replace(
        row,
        case=told(row.case, step, event),
        number=number or row.number,
        level=int(step.record.level),
        changed_at=at,
        way="csv" if dropped is not None else "platform",
        file=file,
        error=error,
        dropped=(*row.dropped, key)[-KEPT:] if key else row.dropped,
    )


def echoed(row: CaseRow, step: Transition) -> CaseRow:
    """The row after a step that the platform itself has brought about: it knows, and so does the row already."""
    return replace(row, case=replace(row.case, rev=step.rev, occurrence=step.record.occurrence_id))


def hear(row: CaseRow, message_id: str, said: Said, number: str | None) -> CaseRow | None:
    """The row after the platform said something of its case; None when it has said this before. What is older than
    what it said last is kept by nobody but changes nothing; handling and done do not open a closed case again."""
    if message_id in row.heard:
        return None
    heard = (*row.heard, message_id)[-KEPT:]
    row = replace(row, heard=heard, number=row.number or number)
    if row.said is not None and said.at < row.said.at:
        return row
    case, status = row.case, said.status
    if status is None or status is CaseStatus.OPENING or status is case.status:
        status = case.status
    elif status in OVER:
        case = replace(case, status=status, closed_at=said.at, closed_how="platform")
    elif case.is_open or status in (CaseStatus.REWORK, CaseStatus.OPENED):
        again = status is CaseStatus.REWORK
        case = replace(case, status=status, closed_at=None, closed_how="", reworks=case.reworks + again)
    return replace(row, case=case, said=said, changed_at=said.received_at)
