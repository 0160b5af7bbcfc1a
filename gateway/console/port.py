"""What the console needs from the rest of the house; the composition root hands it in.

``Records`` is the store as it is. ``ConsolePort`` adds what only the running gateway knows. Both are read-only but for
``submit``: a person changes what the gateway knows by a command through the journal, and by nothing else.
``write_point`` goes to a device, and what it did there comes back as a reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.console.desk import Desk
from gateway.console.equipment import Equipment
from gateway.console.rule_port import Rulebook, RuleChanges, Trials
from gateway.console.upkeep import Upkeep
from gateway.core.bands import Band
from gateway.core.calls import CallStatus
from gateway.core.case_fields import Receiving
from gateway.core.cases import CaseRow, CaseStatus, TicketRow
from gateway.core.component_code import Layout
from gateway.core.load import FloodWatch
from gateway.core.model import (
    AlarmRecord,
    Asset,
    Command,
    CommandDone,
    Device,
    Level,
    Maintenance,
    Micros,
    Quality,
    Transition,
    Value,
)
from gateway.core.notification import Message
from gateway.core.points import PointState
from gateway.core.records import (
    EVERYWHERE,
    AlarmFilter,
    AssetFilter,
    AssetRow,
    AuditRow,
    CanaryRow,
    CommandRow,
    Identity,
    MaintenanceState,
    Page,
    PhotoRow,
    RejectedRow,
    Role,
    Scope,
    SentRow,
    StrangerRow,
    TokenRow,
    UserChange,
    UserRow,
    WorkFilter,
)
from gateway.core.routing import Routing
from gateway.core.standing import Standing
from gateway.core.why import Explanation


class PointView(msgspec.Struct, frozen=True):
    """The current value of one point of one asset.

    ``stale``: no good reading for longer than the point may be silent.
    """

    point: str
    value: Value
    unit: str
    quality: Quality
    source_time: Micros
    received_at: Micros
    device: str
    reason: str | None = None
    stale: bool = False


class RawRow(msgspec.Struct, frozen=True):
    """One stored reading."""

    time: Micros
    value: Value
    quality: Quality
    reason: str | None = None


class StepRow(msgspec.Struct, frozen=True):
    """The good readings of one step, which begins at ``time``, and how many bad ones there were beside."""

    time: Micros
    count: int
    min: float | None
    mean: float | None
    max: float | None
    last: Value
    bad: int = 0


class Part(msgspec.Struct, frozen=True):
    """One part of the gateway: well or not, a word for people, and figures for programs."""

    name: str
    ok: bool
    text: str = ""
    figures: dict[str, float | int | str | bool | None] = {}


class Health(msgspec.Struct, frozen=True):
    """The gateway does its job when every part is ok. ``rates``: frames, readings and transitions a second."""

    version: str
    started_at: Micros
    now: Micros
    parts: list[Part]
    rates: dict[str, float] = {}

    @property
    def ok(self) -> bool:
        return all(part.ok for part in self.parts)


class People(Protocol):
    """Users. CommandRefused with the codes exists, invalid, weak_password, not_found, last_admin,
    signs_in_elsewhere."""

    async def users(self, limit: int, cursor: str | None = None) -> Page[UserRow]: ...
    async def user(self, name: str) -> UserRow | None: ...
    async def user_of(self, subject: str) -> UserRow | None: ...
    async def create(
        self,
        name: str,
        role: Role,
        at: Micros,
        *,
        full_name: str = "",
        scope: Scope = EVERYWHERE,
        password: str | None = None,
        must_change: bool = False,
        subject: str | None = None,
    ) -> UserRow: ...
    async def change(self, name: str, change: UserChange, at: Micros) -> UserRow: ...
    async def set_password(self, name: str, password: str, at: Micros, *, must_change: bool) -> UserRow: ...
    async def verified(self, name: str, password: str) -> UserRow | None: ...
    async def begin_session(self, user: UserRow, now: Micros, lasts: Micros) -> str | None: ...


class OidcOptions(msgspec.Struct, frozen=True):
    """An OpenID Connect provider: people who sign in there are users here, with the role that ``roles`` gives for a
    value of ``role_claim``, or ``default_role``; with neither they are refused."""

    issuer: str
    client_id: str
    client_secret: str
    title_zh: str
    title_en: str
    role_claim: str | None = None
    roles: dict[str, Role] = {}
    default_role: Role | None = None


class Links(Protocol):
    """Links and codes in messages, by which people answer without signing in."""

    def row_of(self, token: str) -> int | None: ...
    def good(self, token: str, row: int, message: Message) -> bool: ...
    def code(self, key: str) -> str: ...


class InboundSms(msgspec.Struct, frozen=True):
    """A gateway that posts what people answer by SMS: the secret it shows, and the names of its fields."""

    secret: str
    number: str = "number"
    text: str = "text"


class PlatformOptions(msgspec.Struct, frozen=True):
    """A case platform that may speak to us: the key that it signs with, and how its messages are read. ``simulated``:
    it is about simulated assets, and about no others."""

    name: str
    key: bytes
    receiving: Receiving
    simulated: bool = False


class Figures(Protocol):
    """Figures out of the recorded steps."""

    async def alarms_by(
        self, since: Micros, until: Micros, width: Micros, scope: Scope = EVERYWHERE
    ) -> list[tuple[Micros, Level, int]]:
        """(begin, level, count) of the alarms that asked for attention, in periods of ``width``."""
        ...

    async def raised(self, rule: str, kind: str, since: Micros) -> dict[str, int]:
        """By asset of ``kind``: how often since then its alarm of ``rule`` asked for attention, annunciated or not."""
        ...

    async def bands(
        self, asset: str, rules: Sequence[str] | None, since: Micros, until: Micros, limit: int
    ) -> tuple[list[Band], bool]:
        """When alarms of an asset stood, and whether more than ``limit`` steps were left out."""
        ...


class Cases(Protocol):
    """Cases with the city's platforms, and their tickets; ValueError for a cursor that is not of that list."""

    async def find(self, platform: str, key: str, number: str) -> CaseRow | None: ...
    async def change(
        self, platform: str, key: str, change: Callable[[CaseRow | None], CaseRow | None]
    ) -> CaseRow | None: ...
    async def page(
        self, states: Sequence[CaseStatus], limit: int, cursor: str | None, scope: Scope, alarm_id: str | None = None
    ) -> Page[CaseRow]: ...
    async def ticket(self, platform: str, number: str) -> TicketRow | None: ...
    async def keep_ticket(self, row: TicketRow) -> TicketRow: ...
    async def tickets(
        self, limit: int, cursor: str | None, scope: Scope, *, matched: bool | None
    ) -> Page[TicketRow]: ...
    async def near(
        self, kinds: Sequence[str], rules: Sequence[str], since: Micros, limit: int, *, simulated: bool
    ) -> list[AlarmRecord]: ...
    async def fold(
        self,
        rules: Sequence[str],
        since: Micros,
        until: Micros,
        scope: Scope,
        take: Callable[[Transition], None],
        most: int,
    ) -> bool: ...


class Canaries(Protocol):
    """Tests of the path to people."""

    async def newest(self, limit: int, cursor: str | None = None) -> Page[CanaryRow]: ...


class Work(Protocol):
    """Work in the field, and maintenance; ValueError for a cursor that is not of that list."""

    async def orders(self, wanted: WorkFilter, limit: int, cursor: str | None = None) -> Page[AlarmRecord]: ...
    async def steps(self, alarm_id: str, limit: int) -> list[Transition]: ...
    async def add_photo(
        self, alarm_id: str, occurrence_id: str, at: Micros, by: str, media_type: str, content: bytes, most: int
    ) -> tuple[PhotoRow, bool] | None: ...
    async def photo(self, id_: str, scope: Scope) -> tuple[PhotoRow, bytes] | None: ...
    async def photos(self, alarm_id: str) -> list[PhotoRow]: ...
    async def maintenance(
        self,
        state: MaintenanceState | None,
        asset: str | None,
        now: Micros,
        limit: int,
        cursor: str | None = None,
        scope: Scope = EVERYWHERE,
    ) -> Page[Maintenance]: ...
    async def maintenance_by_id(self, id_: str) -> Maintenance | None: ...


class Records(Protocol):
    """The store's questions; ValueError for a cursor that is not of that list, Unavailable when it takes too long."""

    @property
    def people(self) -> People: ...

    @property
    def desk(self) -> Desk: ...

    @property
    def figures(self) -> Figures: ...

    @property
    def rule_changes(self) -> RuleChanges: ...

    @property
    def work(self) -> Work: ...

    @property
    def canaries(self) -> Canaries: ...

    @property
    def cases(self) -> Cases: ...

    async def alarms(self, wanted: AlarmFilter, limit: int, cursor: str | None = None) -> Page[AlarmRecord]: ...
    async def alarm(self, alarm_id: str) -> AlarmRecord | None: ...
    async def standing(self, limit: int, scope: Scope = EVERYWHERE) -> list[AlarmRecord]: ...
    async def history(self, alarm_id: str, limit: int, cursor: str | None = None) -> Page[Transition]: ...
    async def transitions_between(
        self, since: Micros, until: Micros, limit: int, scope: Scope = EVERYWHERE
    ) -> list[Transition]: ...
    async def assets(self, wanted: AssetFilter, limit: int, cursor: str | None = None) -> Page[AssetRow]: ...
    async def asset(self, asset_id: str) -> AssetRow | None: ...
    async def devices(
        self,
        asset: str | None,
        limit: int,
        cursor: str | None = None,
        scope: Scope = EVERYWHERE,
        q: str | None = None,
        profile: str | None = None,
    ) -> Page[Device]: ...
    async def rejected(
        self, device: str | None, limit: int, cursor: str | None = None, scope: Scope = EVERYWHERE
    ) -> Page[RejectedRow]: ...
    async def strangers(self, limit: int) -> list[StrangerRow]: ...
    async def audit(self, limit: int, cursor: str | None = None) -> Page[AuditRow]: ...
    async def add_audit(self, once: str, row: AuditRow) -> None: ...
    async def command(self, command_id: str) -> CommandRow | None: ...
    async def sent(self, row: int) -> SentRow | None: ...
    async def sent_to(self, recipient: str, since: Micros, limit: int) -> list[SentRow]: ...
    async def tokens(self) -> list[TokenRow]: ...
    async def token(self, secret: str, now: Micros) -> TokenRow | None: ...
    async def create_token(
        self, name: str, role: Role, at: Micros, expires_at: Micros | None = None, scope: Scope = EVERYWHERE
    ) -> str: ...
    async def revoke_token(self, name: str, at: Micros) -> bool: ...
    async def session(self, session_id: str, now: Micros) -> Identity | None: ...
    async def create_session(self, secret: str, now: Micros, lasts: Micros) -> str | None: ...
    async def end_session(self, session_id: str) -> None: ...


class City(Protocol):
    """What stands in the street and how it is now, from memory. Only for the event loop, and what was read is old after
    an ``await``."""

    @property
    def version(self) -> int:
        """Rises with every change of an asset or device."""
        ...

    @property
    def standing(self) -> Standing:
        """The alarms that stand, as far as they are recorded."""
        ...

    def assets(self) -> Sequence[Asset]: ...
    def asset(self, asset_id: str) -> Asset | None: ...

    def named_by(self, asset_id: str) -> Sequence[tuple[str, str]]:
        """(link, id) of every asset that names this one."""
        ...

    def point(self, asset_id: str, point: str) -> PointState | None:
        """The newest live reading; None when there was none yet."""
        ...

    def devices(self) -> Sequence[Device]: ...

    def quiet(self, asset_id: str) -> float | None:
        """For how many of its expected intervals its device that was heard last has been quiet; None when it has no
        device with an interval."""
        ...

    def heard(self, device_id: str, intervals: float) -> bool | None:
        """Whether a device was heard within so many of its expected intervals; None for one that has none."""
        ...


class ConsolePort(Protocol):
    """The running gateway, as the console sees it."""

    @property
    def records(self) -> Records:
        """The store."""
        ...

    @property
    def city(self) -> City:
        """Assets, current values and standing alarms."""
        ...

    @property
    def rulebook(self) -> Rulebook:
        """The rules in force, and how they are changed."""
        ...

    @property
    def trials(self) -> Trials:
        """How texts of rules are tried."""
        ...

    @property
    def component_code_layout(self) -> Layout | None:
        """How this city numbers its components; None when the settings do not say."""
        ...

    @property
    def site_name(self) -> tuple[str, str]:
        """What the city calls this, in Chinese and in English."""
        ...

    @property
    def equipment(self) -> Equipment:
        """Devices, what they say and how they are asked."""
        ...

    @property
    def upkeep(self) -> Upkeep:
        """The gateway and its files."""
        ...

    @property
    def timezone(self) -> str:
        """The name of the site's civil time ("Asia/Shanghai")."""
        ...

    @property
    def links(self) -> Links:
        """How answers to messages are known."""
        ...

    @property
    def platforms(self) -> Mapping[str, PlatformOptions]:
        """The case platforms that may speak to us, by name."""
        ...

    @property
    def inbound_sms(self) -> InboundSms | None:
        """Who may post answers by SMS; None when the settings name nobody."""
        ...

    @property
    def oidc(self) -> OidcOptions | None:
        """Where people may sign in instead of here; None when the settings name no place."""
        ...

    def now(self) -> Micros:
        """Gateway time."""
        ...

    async def submit(self, command: Command) -> CommandDone:
        """Journal, carry out and store a command. Raises CommandRefused with its code, or Unavailable when there is no
        answer in time (it is journaled and may still be carried out)."""
        ...

    def asset(self, asset_id: str) -> Asset | None:
        """An asset by id, from memory."""
        ...

    def device(self, device_id: str) -> Device | None:
        """A device by id, from memory."""
        ...

    def is_registered(self, name: str) -> bool:
        """Whether a device of that id or address is registered."""
        ...

    async def claim(self, wanted: Mapping[str, object]) -> Device:
        """Register a device; ``wanted`` has the keys of a device in an asset file. Raises ConfigError with the
        mistakes."""
        ...

    async def issue_credentials(self, device_id: str) -> tuple[str, str]:
        """User name and a new password of a device at the embedded broker. Raises ConfigError for a device that does
        not log in there."""
        ...

    async def revoke_credentials(self, device_id: str) -> None:
        """The device may not log in until credentials are issued again. Raises as ``issue_credentials``."""
        ...

    async def write_point(self, device_id: str, point: str, value: Value) -> Value:
        """Have the device set a point; gives the value as the device holds it, when the device has confirmed it.

        Raises CommandRefused (writes_off; not_found: no such device or point; invalid: a value the point does not
        take; device_refused), or Unavailable when it could not be sent or nobody knows what became of it."""
        ...

    def points(self, asset_id: str) -> Sequence[PointView]:
        """Current values of an asset, by name; empty when nothing was ever heard of it."""
        ...

    def why(self, alarm_id: str) -> Explanation:
        """Why an alarm stands, or does not; for any asset and rule."""
        ...

    def teams_of(self, user: str) -> frozenset[str]:
        """The names under which work is dispatched to the person whose account ``user`` is: their own in the routes,
        and those of their teams and rotas now."""
        ...

    @property
    def routing(self) -> Routing:
        """The routes in force."""
        ...

    def calls_of(self, alarm_id: str) -> tuple[list[CallStatus], list[str]]:
        """The calls people get about an alarm now, and those for whom it waits in a digest."""
        ...

    def load(self) -> FloodWatch:
        """Operator load of the last ten minutes."""
        ...

    def shadows(self) -> Mapping[str, str | None]:
        """Rules on trial, and which rule each is compared with."""
        ...

    def rule(self, rule_id: str) -> Mapping[str, object] | None:
        """A rule in force as plain data (JSON types), None when there is no such rule any more."""
        ...

    async def readings(
        self, asset: str, point: str, start: Micros, end: Micros, step: Micros | None, limit: int
    ) -> Sequence[RawRow] | Sequence[StepRow]:
        """Readings with start ≤ time < end, oldest first, at most ``limit``: raw ones, or one row a ``step`` (empty
        steps left out)."""
        ...

    async def resolution(self, start: Micros, end: Micros) -> Micros:
        """The finest step in which all that is kept of that time can be told; 0: the readings themselves are there."""
        ...

    def ledger(self, device: str | None) -> Mapping[str, object] | None:
        """``core.ledger.Ledger.balance``: of one device (None when there is no account of that name), or in all."""
        ...

    def ledger_devices(self, after: str, limit: int) -> Sequence[str]:
        """Names of the accounts behind ``after``, sorted."""
        ...

    def health(self) -> Health: ...

    def metrics(self) -> bytes:
        """Prometheus text format."""
        ...
