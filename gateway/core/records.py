"""What the store keeps, the console shows and the dispatcher sends: pages, filters and stored rows.

Plain values only, so that ``store``, ``console`` and ``notify`` can speak of the same things without knowing one
another. Times are microseconds UTC.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Generic, TypeVar

import msgspec

from gateway.core.model import HOUR, AlarmRecord, Asset, Device, IsaState, Level, Maintenance, Micros, Transition
from gateway.core.notification import Message

Item = TypeVar("Item")

MAX_PAGE = 1000  # a page a browser draws in one go; more is an export
SESSION_LASTS: Micros = 12 * HOUR  # a shift; then the page asks for the password again
SESSION_IDLE: Micros = 2 * HOUR  # a browser that asks nothing for so long was left behind; an open stream asks


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """One page of a list; ``cursor`` is opaque and leads to the next page, None at the end."""

    items: list[Item]
    cursor: str | None = None


class Scope(msgspec.Struct, frozen=True):
    """The part of the city that somebody sees and acts on: assets of one of ``kinds`` in one of ``towns`` that belong
    to one of ``units``. An empty tuple does not narrow; the empty scope is the whole city."""

    kinds: tuple[str, ...] = ()
    towns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    def covers(self, asset: Asset) -> bool:
        return (
            (not self.kinds or asset.kind in self.kinds)
            and (not self.towns or asset.town in self.towns)
            and (not self.units or asset.unit in self.units)
        )

    def __bool__(self) -> bool:
        """Does it narrow at all?"""
        return bool(self.kinds or self.towns or self.units)


EVERYWHERE = Scope()


class AlarmFilter(msgspec.Struct, frozen=True):
    """Which alarms: every field narrows; an empty tuple or None does not. ``q`` is searched in ids and titles;
    ``scope`` is what the one who asks may see."""

    states: tuple[IsaState, ...] = ()
    levels: tuple[Level, ...] = ()
    kinds: tuple[str, ...] = ()
    asset: str | None = None
    rule: str | None = None
    q: str | None = None
    scope: Scope = EVERYWHERE


class WorkFilter(msgspec.Struct, frozen=True):
    """Which work: alarms whose order is in one of ``states``, dispatched to one of ``to`` (empty: to anybody), whose
    alarm has changed at ``since`` or later."""

    states: tuple[str, ...]
    to: tuple[str, ...] = ()
    since: Micros | None = None
    scope: Scope = EVERYWHERE


class MaintenanceState(StrEnum):
    PLANNED = "planned"
    OPEN = "open"
    ENDED = "ended"


class PhotoRow(msgspec.Struct, frozen=True):
    """A photo of what a crew saw at an alarm. ``id`` is the SHA-256 of its content."""

    id: str
    alarm_id: str
    occurrence_id: str
    at: Micros
    by: str
    media_type: str
    size: int


class AssetState(StrEnum):
    NORMAL = "normal"  # no alarm stands on it
    ALARM = "alarm"  # at least one annunciated or suppressed alarm stands on it


class AssetFilter(msgspec.Struct, frozen=True):
    """Which assets; as ``AlarmFilter``."""

    kinds: tuple[str, ...] = ()
    road: str | None = None
    town: str | None = None
    unit: str | None = None
    state: AssetState | None = None
    q: str | None = None
    scope: Scope = EVERYWHERE


class AssetRow(msgspec.Struct, frozen=True):
    """An asset with what stands on it now; ``worst_level`` is None when nothing does."""

    asset: Asset
    standing_alarms: int = 0
    worst_level: Level | None = None

    @property
    def state(self) -> AssetState:
        return AssetState.ALARM if self.standing_alarms else AssetState.NORMAL


class Known(msgspec.Struct, frozen=True):
    """Everything the store knows of the state at its position: enough to go on without a snapshot."""

    configuration: str | None
    assets: list[Asset]
    devices: list[Device]
    alarms: list[AlarmRecord]
    maintenance: list[Maintenance] = []  # that is not over


class RejectedRow(msgspec.Struct, frozen=True):
    """A frame that became no readings, as kept for inspection. ``payload`` is cut to 4 kB when it was longer."""

    position: int
    index: int
    received_at: Micros
    device: str | None
    code: str
    reason: str
    kind: str
    source: str
    address: str
    principal: str
    retained: bool
    payload: bytes
    payload_size: int


class StrangerRow(msgspec.Struct, frozen=True):
    """A device that speaks and is not registered: what of it is still kept among the rejected frames. ``source`` and
    ``address`` (the topic) are those of its newest frame."""

    name: str
    frames: int
    first_at: Micros
    last_at: Micros
    source: str
    address: str


class CommandRow(msgspec.Struct, frozen=True):
    """A command and its outcome; ``refused`` is (code, text) or None."""

    command_id: str
    name: str
    alarm_id: str
    by: str
    channel: str
    why: str | None
    at: Micros
    refused: tuple[str, str] | None


class AuditRow(msgspec.Struct, frozen=True):
    """Who did what to what, why, through which channel, and how it ended ("done", or the code of the refusal)."""

    id: int
    at: Micros
    who: str
    channel: str
    action: str
    subject: str
    outcome: str
    why: str | None = None


class Role(IntEnum):
    """What a person or a token may do; each role may do everything the ones before it may.

    Viewer: look. Operator: work the alarms. Maintainer: take assets out of and back into service. Supervisor (of a
    shift): shelve level I, clear by force, claim devices, set their points, read the audit. Engineer: change rules.
    Admin: people and tokens.
    """

    VIEWER = 1
    OPERATOR = 2
    MAINTAINER = 3
    SUPERVISOR = 4
    ENGINEER = 5
    ADMIN = 6

    @property
    def word(self) -> str:
        return self.name.lower()


class TokenRow(msgspec.Struct, frozen=True):
    """A bearer token as stored: never the token, only its SHA-256. ``token_id`` is the first 12 hex digits of it."""

    token_id: str
    name: str
    role: Role
    created_at: Micros
    expires_at: Micros | None = None
    revoked_at: Micros | None = None
    scope: Scope = EVERYWHERE


class UserRow(msgspec.Struct, frozen=True):
    """A person who signs in. ``must_change``: somebody else made the password. ``by_password``: one is set;
    ``subject``: who it is to the OIDC provider ("<issuer> <sub>"). A session begun before ``changed_at`` is void."""

    name: str
    full_name: str
    role: Role
    scope: Scope
    must_change: bool
    by_password: bool
    created_at: Micros
    changed_at: Micros
    disabled_at: Micros | None = None
    subject: str | None = None


class UserChange(msgspec.Struct, frozen=True):
    """What is changed of a user; None leaves it as it is."""

    full_name: str | None = None
    role: Role | None = None
    scope: Scope | None = None
    disabled: bool | None = None


class SignedInBy(StrEnum):
    PASSWORD = "password"
    TOKEN = "token"
    OIDC = "oidc"


class Identity(msgspec.Struct, frozen=True):
    """Whom a token or a session stands for."""

    name: str
    role: Role
    scope: Scope
    by: SignedInBy
    full_name: str = ""
    must_change: bool = False


class NoteRow(msgspec.Struct, frozen=True):
    """What somebody wrote about an asset."""

    id: int
    asset: str
    at: Micros
    who: str
    text: str


class SavedView(msgspec.Struct, frozen=True):
    """A page of the console as somebody likes it: ``query`` is its address bar. ``owner`` "" shares it with all."""

    owner: str
    page: str
    name: str
    query: str
    changed_at: Micros


class HandoverRow(msgspec.Struct, frozen=True):
    """A shift's report, frozen when the leaving shift signed it (``left_…``); ``taken_…`` is None until the next one
    has. ``report`` is the JSON of the API's handover report ("" in lists), ``scope`` the part of the city it is of."""

    id: int
    since: Micros
    until: Micros
    report: str
    left_by: str
    left_at: Micros
    left_words: str
    taken_by: str | None = None
    taken_at: Micros | None = None
    taken_words: str | None = None
    scope: Scope = EVERYWHERE


class RuleChangeRow(msgspec.Struct, frozen=True):
    """One change of a rule through the API: its YAML text in force before and after; ``before`` None: it was new;
    ``after`` None: removed. ``undoes``: the id of the change it takes back. ``kept``: ``after`` lies among the rules
    changed at the console; else what the rule files say counts again."""

    id: int
    at: Micros
    who: str
    why: str
    rule: str
    before: str | None
    after: str | None
    undoes: int | None = None
    kept: bool = True


class EntryFilter(msgspec.Struct, frozen=True):
    """Which entries of the log book: since ≤ at < until; every other field narrows as in ``AlarmFilter``. ``q`` is
    searched in the id and the titles of the alarm and in what people wrote. ``actions``: also what people did that no
    transition tells of (refusals, sign-ins, claims …)."""

    since: Micros | None = None
    until: Micros | None = None
    asset: str | None = None
    alarm: str | None = None
    kinds: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    causes: tuple[str, ...] = ()
    by: str | None = None
    q: str | None = None
    scope: Scope = EVERYWHERE
    actions: bool = False


class Entry(msgspec.Struct, frozen=True):
    """One line of the log book: a transition, or an action of a person. ``key`` is unique and stays the same."""

    key: str
    at: Micros
    subject: str
    who: str | None = None
    alarm_id: str | None = None
    asset: str | None = None
    title_zh: str = ""
    title_en: str = ""
    level: Level | None = None
    from_state: IsaState | None = None
    to_state: IsaState | None = None
    cause: str | None = None
    action: str | None = None
    channel: str | None = None
    outcome: str | None = None
    why: str | None = None

    @property
    def is_transition(self) -> bool:
        return self.cause is not None


class OutboxState(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"  # need not be sent any more: somebody acts, or it is over


class OutboxFilter(msgspec.Struct, frozen=True):
    """Which notifications: every field narrows. ``state``: pending ones also while they are sent. ``alarm``: about it;
    of messages about many, those that name it first."""

    state: OutboxState | None = None
    alarm: str | None = None
    recipient: str | None = None


class NotificationRow(msgspec.Struct, frozen=True):
    """One notification for one machine (``transition``), or one message for one person (``message``), as people look at
    it. ``kind``: "transition" or a MessageKind. ``attempts`` so far; ``doubtful``: one of them may have arrived;
    ``due_at``: when the next one is, while it is pending."""

    id: int
    key: str
    state: OutboxState
    receiver: str
    recipient: str
    kind: str
    level: Level
    attempts: int
    doubtful: bool
    created_at: Micros
    due_at: Micros
    ended_at: Micros | None
    error: str | None
    transition: Transition | None
    message: Message | None = None


class OutboxRow(msgspec.Struct, frozen=True):
    """One notification or message to be sent: exactly one of ``transition`` and ``message`` is there. ``key``: the same
    for every attempt, another for every other one. ``attempt`` counts from 1 and includes the present one. ``channel``:
    which of the message's channels it is now with. ``doubtful``: an earlier attempt may have arrived."""

    id: int
    receiver: str
    attempt: int
    created_at: Micros
    key: str
    level: Level
    transition: Transition | None = None
    message: Message | None = None
    channel: int = 0
    doubtful: bool = False


class OutboxOutcome(msgspec.Struct, frozen=True):
    """How one attempt ended: delivered, failed for good, or pending again from ``due_at``, with another ``receiver``
    and ``channel`` where these are given. ``doubtful``: nobody knows whether it arrived."""

    id: int
    state: OutboxState
    at: Micros
    due_at: Micros = 0
    error: str | None = None
    receiver: str | None = None
    channel: int | None = None
    doubtful: bool = False


class SentRow(msgspec.Struct, frozen=True):
    """A message that is out or waits."""

    key: str
    state: OutboxState
    created_at: Micros
    message: Message


class CanaryOutcome(StrEnum):
    DELIVERED = "delivered"
    LATE = "late"  # handed over after the patience had ended
    LOST = "lost"


class CanaryRow(msgspec.Struct, frozen=True):
    """One test of the path to people. ``hops``: milliseconds of each since the one before it (journaled, decided,
    stored, claimed, handed_over), as far as it came."""

    id: str
    at: Micros
    outcome: CanaryOutcome
    hops: dict[str, float]
