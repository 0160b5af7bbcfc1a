"""What is told to a person: messages about alarms, and the channels they go through. Plain values.

A *notification* is one transition for one machine (a webhook, the log): every annunciated step, at once. A *message* is
for a person: grouped, limited, escalated by ``core/escalation.py``, and written in words by ``notify/wording.py`` when
it is sent. Both wait in the outbox.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from gateway.core.model import AlarmRecord, IsaState, Level, Micros, Value

MAX_LINES = 20  # alarms that a message names; of more it says how many


class MessageKind(StrEnum):
    """Why somebody is told."""

    RAISED = "raised"  # the first step of a route
    ESCALATED = "escalated"  # a later one: nobody has done anything yet
    REMINDER = "reminder"  # the same people again
    CLEARED = "cleared"  # it is over
    DIGEST = "digest"  # what a limit or quiet hours held back
    WORK = "work"  # work was given to the person, came back, or was given to another
    DUE = "due"  # the time to respond or to resolve is nearly over
    OVERDUE = "overdue"  # it is over
    CANARY = "canary"  # proves the path; nobody has to do anything


class Channel(msgspec.Struct, frozen=True):
    """A way to a person: the ``receiver`` that carries it, and the person's ``address`` there (number, mailbox, id; ""
    where the receiver itself is the address)."""

    receiver: str
    address: str = ""


class Line(msgspec.Struct, frozen=True):
    """One alarm of a message, as it was when the message was made."""

    alarm_id: str
    occurrence_id: str
    rev: int
    asset: str
    rule: str
    kind: str
    level: Level
    state: IsaState
    title_zh: str
    title_en: str
    value: Value = None
    limit: float | None = None
    unit: str = ""
    active_at: Micros | None = None
    inactive_at: Micros | None = None


class Message(msgspec.Struct, frozen=True):
    """One message for one person.

    ``key`` is the same in every attempt and in every replay, and another for every (occurrence or group, step,
    recipient). ``thread``: messages of one thread reach one person in their order. ``lines``: the worst first, at most
    MAX_LINES of ``count``. ``due_at``: with DUE and OVERDUE, the deadline. ``text``: what DUE, OVERDUE and WORK are
    about ("respond", "resolve", "dispatched", "reopened", …). ``channels``: in the order in which they are tried.
    """

    key: str
    thread: str
    recipient: str
    kind: MessageKind
    at: Micros
    level: Level
    lines: tuple[Line, ...]
    count: int
    route: str
    step: int
    channels: tuple[Channel, ...]
    language: str = "zh"
    simulated: bool = False
    due_at: Micros | None = None
    text: str = ""


class MessagesWithdrawn(msgspec.Struct, frozen=True):
    """Messages that need not be sent any more, unless they are on their way: somebody acts, or it is over."""

    at: Micros
    keys: tuple[str, ...]
    why: str


def line_of(record: AlarmRecord) -> Line:
    return Line(
        record.alarm_id,
        record.occurrence_id,
        record.rev,
        record.asset,
        record.rule,
        record.kind,
        record.level,
        record.isa_state,
        record.title_zh,
        record.title_en,
        record.value,
        record.limit,
        record.unit,
        record.active_at,
        record.inactive_at,
    )


def lines_of(records: Iterable[AlarmRecord]) -> tuple[Line, ...]:
    """The worst and oldest first, at most MAX_LINES."""
    ordered = sorted(records, key=lambda record: (record.level, record.active_at or 0, record.alarm_id))
    return tuple(line_of(record) for record in ordered[:MAX_LINES])
