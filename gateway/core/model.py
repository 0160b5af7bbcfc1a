"""The words of the house: frames come in, readings are decoded from them, alarms are decided, events go out.

Times are integers: microseconds since 1970-01-01 UTC (``Micros``); durations are integers of microseconds too.
Hot values are frozen ``msgspec.Struct`` without garbage-collector tracking: a county makes thousands a second.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from gateway.core.notification import Message, MessagesWithdrawn

Micros: TypeAlias = int
SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE

Value: TypeAlias = float | int | bool | str | None


class Quality(StrEnum):
    """OPC UA's three words for how far a reading can be trusted."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Level(IntEnum):
    """Alarm level: I is the worst (red), IV the mildest (blue). A smaller number is more severe."""

    I = 1  # noqa: E741  the field's own name
    II = 2
    III = 3
    IV = 4


class FrameKind(StrEnum):
    """What a frame in the journal is. Everything that changes state is one of these."""

    MQTT = "mqtt"  # address = topic, payload = the message
    MODBUS = "modbus"  # address = device id, payload = msgpack of ModbusCycle
    HJ212 = "hj212"  # address = MN of the station, payload = one telegram
    COMMAND = "command"  # address = command id, payload = msgpack of Command
    CONFIG = "config"  # address = hash of the configuration bundle now in force
    ASSETS = "assets"  # payload = JSON {"assets": […], "devices": […]} to add or change
    TICK = "tick"  # a deadline is due: brings only time
    START = "start"  # the gateway came up: payload = JSON of Start; what lies before it was not seen live
    BLIND = "blind"  # the gateway saw nothing for a while (paused, loop blocked): payload = JSON of Blind
    SYSTEM = "system"  # the gateway about itself: payload = JSON {point: value} of the asset "gateway"
    REPLAY = "replay"  # a rejected frame that a person offers again: address = replay id, payload = msgpack of Replay


class Start(msgspec.Struct, frozen=True):
    """How the gateway came up: whether it had been stopped in order, and the storage failure that ended it, if one."""

    clean: bool
    failure: str | None = None


class Blind(msgspec.Struct, frozen=True):
    """From ``since`` until the frame's received time nothing could be received: silence then proves nothing.

    ``leap``: no time passed at all, the clock was set right; every delay goes on from where it was.
    """

    since: Micros
    leap: bool = False


class Frame(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One thing that arrived, raw, with the time we received it: the unit of the journal.

    ``source``: id of the source in the settings ("mqtt", "modbus", "api", "timer").
    ``received_at``: gateway time (anchor + monotonic), never decreasing along the journal.
    ``principal``: the authenticated sender where the transport tells us, else "".
    """

    kind: FrameKind
    source: str
    address: str
    payload: bytes
    received_at: Micros
    retained: bool = False
    duplicate_hint: bool = False
    principal: str = ""


class Replay(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A frame that was rejected at (position, index), as it came then: ``frame.received_at`` is when it first came."""

    frame: Frame
    position: int
    index: int


class Replayed(msgspec.Struct, frozen=True, gc=False):
    """What became of a frame that was offered again. ``outcome``: "stored", "duplicate", or the code of its rejection
    with the reason. ``readings``: how many were kept, ``historical``: of these, how many were too old for a live
    alarm."""

    replay_id: str
    outcome: str
    reason: str | None = None
    readings: int = 0
    historical: int = 0


class ModbusRead(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer to one block read. ``words`` are register words, or 0/1 per bit for function codes 1 and 2;
    ``error`` is the reason when there was no valid answer (then ``words`` is empty)."""

    function_code: int
    address: int
    words: list[int]
    error: str | None = None
    count: int = 0


class ModbusCycle(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All block reads of one device in one polling cycle: the payload of a MODBUS frame."""

    reads: list[ModbusRead]


class Reading(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One value of one point of one asset.

    ``value`` is in the canonical unit of the point; None when ``quality`` is bad and no value makes sense.
    ``source_time`` is the device's clock, or ``received_at`` when it gave none (then ``has_source_time`` is False).
    ``historical``: flagged so by the device, or too late for a live alarm: stored, never drives a live alarm.
    """

    asset: str
    point: str
    value: Value
    quality: Quality
    source_time: Micros
    received_at: Micros
    device: str
    reason: str | None = None
    historical: bool = False
    sequence: int | None = None
    has_source_time: bool = True


class Rejection(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why a whole frame could not become readings. ``code`` is one of a small closed set for counting."""

    code: str  # unknown_topic unknown_device wrong_device bad_payload unknown_point retained crashed …
    reason: str
    device: str | None = None


class Decoded(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What decode made of one frame: readings, or a rejection, never both empty and silent."""

    device: str | None
    readings: list[Reading]
    rejection: Rejection | None = None
    extra_points: tuple[str, ...] = ()


class Condition(StrEnum):
    """The condition region of an alarm; PENDING_OFF is still active."""

    NORMAL = "NORMAL"
    PENDING_ON = "PENDING_ON"
    ACTIVE = "ACTIVE"
    PENDING_OFF = "PENDING_OFF"


_ACTIVE, _PENDING_OFF = Condition.ACTIVE, Condition.PENDING_OFF  # looking a member up costs more than asking for it


class Shelve(StrEnum):
    UNSHELVED = "UNSHELVED"
    TIMED = "TIMED"
    ONE_SHOT = "ONE_SHOT"


class IsaState(StrEnum):
    """ISA-18.2 state, derived from the regions, never stored as the truth."""

    NORM = "NORM"
    UNACK = "UNACK"
    ACKED = "ACKED"
    RTNUN = "RTNUN"
    SHLVD = "SHLVD"
    DSUPR = "DSUPR"
    OOSRV = "OOSRV"


class OutOfService(msgspec.Struct, frozen=True):
    """Somebody works on it. ``until``: it comes back by itself then; None: when somebody says so. ``maintenance``: the
    window of its asset (``Maintenance.id``) that took it out."""

    work: str
    by: str
    reason: str
    since: Micros
    until: Micros | None = None
    maintenance: str | None = None


class WorkState(StrEnum):
    """The work region of an alarm; the rows between them are those of ``core/work.py``."""

    NONE = "NONE"
    DISPATCHED = "DISPATCHED"
    ACCEPTED = "ACCEPTED"
    ON_SITE = "ON_SITE"
    DONE = "DONE"
    VERIFYING = "VERIFYING"
    CLOSED = "CLOSED"
    REJECTED = "REJECTED"


class WorkOrder(msgspec.Struct, frozen=True, gc=False):
    """Work on an alarm: who was sent (``to``: a person, team or rota) by whom and since when, and how far they are.

    ``id`` is the occurrence it was opened for. Every time is the gateway's; ``…_device_at`` is when the crew's phone
    says it was, of what it could tell only later. ``comment``: what whoever sent them said last. ``far``: on site, but
    more than a bound away from the asset. ``waits_for``: the points whose fresh readings decide, since
    ``verify_since``. ``closed_by`` is None when the readings closed it. ``reworks``: how often it was done and was not
    right; ``reopened``: how often the alarm came back after it was closed.
    """

    id: str
    to: str
    by: str
    since: Micros
    comment: str | None = None
    reworks: int = 0
    reopened: int = 0
    accepted_by: str | None = None
    accepted_at: Micros | None = None
    accepted_device_at: Micros | None = None
    refused_by: str | None = None
    refused_at: Micros | None = None
    refused_device_at: Micros | None = None
    refused_why: str | None = None
    on_site_by: str | None = None
    on_site_at: Micros | None = None
    on_site_device_at: Micros | None = None
    distance_m: float | None = None
    accuracy_m: float | None = None
    far: bool = False
    done_by: str | None = None
    done_at: Micros | None = None
    done_device_at: Micros | None = None
    cause_code: str | None = None
    action: str | None = None
    photos: tuple[str, ...] = ()
    verify_since: Micros | None = None
    waits_for: tuple[str, ...] = ()
    closed_by: str | None = None
    closed_at: Micros | None = None
    close_why: str | None = None


class Maintenance(msgspec.Struct, frozen=True):
    """An asset out of service from ``since`` until ``until``: whatever is raised on it then is recorded and told to
    nobody. ``ended_at``: when it was over; ``ended_by`` is None when its time had come."""

    id: str
    asset: str
    since: Micros
    until: Micros
    work: str
    reason: str
    by: str
    created_at: Micros
    ended_at: Micros | None = None
    ended_by: str | None = None


class AlarmRecord(msgspec.Struct, frozen=True, gc=False):
    """The live record of one alarm; the fields and their meaning are those of docs/alarms.md.

    ``rev`` rises by one with every recorded transition: the optimistic lock of every command, and the key that makes
    storing a transition twice harmless.
    """

    alarm_id: str
    asset: str
    rule: str
    kind: str
    occurrence_id: str = ""
    rev: int = 0
    enabled: bool = True
    cond: Condition = Condition.NORMAL
    level: Level = Level.IV
    last_level: Level = Level.IV
    max_level: Level = Level.IV
    acked: bool = True
    confirmed: bool = False
    latched: bool = False
    shelve: Shelve = Shelve.UNSHELVED
    unshelve_at: Micros | None = None
    suppressed_by: tuple[str, ...] = ()
    out_of_service: OutOfService | None = None
    quality: Quality = Quality.GOOD
    chattering: bool = False
    stale: bool = False
    first_in_group: bool = False
    parent_alarm_id: str | None = None
    repeat_count: int = 0
    realarm_count: int = 0
    active_at: Micros | None = None
    detected_at: Micros | None = None
    inactive_at: Micros | None = None
    acked_at: Micros | None = None
    closed_at: Micros | None = None
    acked_by: str | None = None
    ack_channel: str | None = None
    comment: str | None = None
    assigned_to: str | None = None
    silenced: bool = False
    cause_code: str | None = None
    retroactive: bool = False
    simulated: bool = False
    shadow: bool = False
    work: str = "NONE"  # a WorkState; order is None while it is NONE
    value: Value = None
    limit: float | None = None
    unit: str = ""
    title_zh: str = ""
    title_en: str = ""
    order: WorkOrder | None = None

    @property
    def is_active(self) -> bool:
        return self.cond is _ACTIVE or self.cond is _PENDING_OFF or self.latched

    @property
    def annunciated(self) -> bool:
        return (
            self.enabled
            and self.shelve is Shelve.UNSHELVED
            and not self.suppressed_by
            and self.out_of_service is None
            and not self.shadow
        )

    @property
    def isa_state(self) -> IsaState:
        if self.out_of_service is not None:
            return IsaState.OOSRV
        if self.suppressed_by:
            return IsaState.DSUPR
        if self.shelve is not Shelve.UNSHELVED:
            return IsaState.SHLVD
        if self.is_active:
            return IsaState.ACKED if self.acked else IsaState.UNACK
        return IsaState.NORM if self.acked else IsaState.RTNUN


class Transition(msgspec.Struct, frozen=True, gc=False):
    """One recorded step of one alarm: what happened, when, and the record after it.

    ``cause`` is the row of the table in ``core/alarms.py`` ("T3") or ``core/work.py`` ("W1"). ``notify``: people are
    told. ``late``: a deadline that fired after its time because the gateway was away.
    """

    alarm_id: str
    rev: int
    at: Micros
    cause: str
    from_state: IsaState
    to_state: IsaState
    record: AlarmRecord
    notify: bool = False
    by: str | None = None
    why: str | None = None
    late: bool = False


class FrameRejected(msgspec.Struct, frozen=True):
    """A frame kept for inspection instead of readings. (position, index) is its place in the journal."""

    position: int
    index: int
    frame: Frame
    rejection: Rejection


class CommandName(StrEnum):
    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    OUT_OF_SERVICE = "out-of-service"
    IN_SERVICE = "in-service"
    RESET = "reset"
    COMMENT = "comment"
    ASSIGN = "assign"
    CONFIRM = "confirm"
    FORCE_CLEAR = "force-clear"
    SILENCE = "silence"
    LEARN_BASELINE = "learn-baseline"
    DISPATCH = "dispatch"
    ACCEPT = "accept"
    REFUSE = "refuse"
    ON_SITE = "on-site"
    DONE = "done"
    VERIFY = "verify"
    RETURN = "return"
    CLOSE = "close"
    MAINTENANCE = "maintenance"  # addressed to an asset, as the next one
    END_MAINTENANCE = "end-maintenance"


class Command(msgspec.Struct, frozen=True):
    """What a person asks for, of an alarm (or, where the name says so, of an asset). ``command_id`` makes it once-only;
    ``rev`` is what the person saw (None: any)."""

    command_id: str
    name: CommandName
    alarm_id: str
    by: str
    channel: str
    rev: int | None = None
    why: str | None = None
    arguments: dict[str, str | int | float | bool | None] = {}


class CommandDone(msgspec.Struct, frozen=True):
    """The outcome of a command; ``refused`` is None when it was carried out, else (code, text)."""

    command: Command
    at: Micros
    refused: tuple[str, str] | None = None


class AssetsChanged(msgspec.Struct, frozen=True):
    """Assets and devices added or changed, as given (JSON)."""

    at: Micros
    payload: bytes


class MaintenanceChanged(msgspec.Struct, frozen=True):
    """A window was planned, has been called off, or is over."""

    at: Micros
    window: Maintenance


# Messages are in a module that builds on this one.
Event: TypeAlias = (
    "Transition | FrameRejected | CommandDone | AssetsChanged | MaintenanceChanged | Message | MessagesWithdrawn"
)


class Asset(msgspec.Struct, frozen=True):
    """A thing in the street. ``attributes`` hold numbers in canonical units and strings; links (feeder, network,
    catchment, station) name other assets and make the cause graph. ``simulated``: it stands in no street; what is said
    of it never reaches a crew."""

    asset: str
    kind: str
    name: str = ""
    road: str = ""
    town: str = ""
    unit: str = ""
    longitude: float | None = None
    latitude: float | None = None
    links: dict[str, str] = {}
    attributes: dict[str, str | float | bool] = {}
    simulated: bool = False


class Device(msgspec.Struct, frozen=True):
    """The electronics now mounted on an asset. ``address`` is its MQTT device id, or its Modbus endpoint
    ``host:port/unit``; ``expected_interval`` overrides the profile's."""

    device: str
    asset: str
    profile: str
    address: str = ""
    expected_interval: Micros | None = None
    attributes: dict[str, str | float | bool] = {}
