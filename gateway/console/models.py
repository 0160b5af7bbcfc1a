"""The shapes of the API for OpenAPI and for checking what comes in; ``views.py`` makes what goes out."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

Item = TypeVar("Item")

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]  # ISO 8601 with zone, as ``views`` makes it
Scalar: TypeAlias = bool | int | float | str | None
LevelName = Literal["I", "II", "III", "IV"]
StateName = Literal["NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV"]
RoleName = Literal["viewer", "operator", "maintainer", "supervisor", "engineer", "admin"]
QualityName = Literal["good", "uncertain", "bad"]
WorkName = Literal["NONE", "DISPATCHED", "ACCEPTED", "ON_SITE", "DONE", "VERIFYING", "CLOSED", "REJECTED"]


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(populate_by_name=True)


class In(BaseModel):
    """What a caller sends: an unknown member is a mistake."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class ListOf(Out, Generic[Item]):
    """One page; give ``cursor`` back to get the next one, null at the end."""

    items: list[Item]
    cursor: str | None = None


class Title(Out):
    zh: str
    en: str


class OutOfServiceView(Out):
    """``until``: it comes back by itself then; ``maintenance``: the window of its asset that took it out."""

    work: str
    by: str
    reason: str
    since: Time
    until: Time | None
    maintenance: str | None


class OrderView(Out):
    """Work on an alarm. ``id``: the occurrence it was opened for; ``to``: a person, team or rota. ``…_at`` are the
    gateway's times, ``…_device_at`` what the crew's phone said of what it could tell only later. ``distance_m``: how
    far from the asset they were when they said to be on site; ``waits_for``: the points whose fresh readings decide
    since ``verify_since``; ``closed_by``: null when the readings closed it."""

    id: str
    to: str
    by: str
    since: Time
    comment: str | None
    reworks: int
    reopened: int
    accepted_by: str | None
    accepted_at: Time | None
    accepted_device_at: Time | None
    refused_by: str | None
    refused_at: Time | None
    refused_device_at: Time | None
    refused_why: str | None
    on_site_by: str | None
    on_site_at: Time | None
    on_site_device_at: Time | None
    distance_m: float | None
    accuracy_m: float | None
    far: bool
    done_by: str | None
    done_at: Time | None
    done_device_at: Time | None
    cause_code: str | None
    action: str | None
    photos: list[str]
    verify_since: Time | None
    waits_for: list[str]
    closed_by: str | None
    closed_at: Time | None
    close_why: str | None


class AlarmView(Out):
    """The live record of one alarm."""

    alarm_id: str
    asset: str
    rule: str
    kind: str
    title: Title
    state: StateName
    active: bool
    annunciated: bool
    level: LevelName
    last_level: LevelName
    max_level: LevelName
    colour: Literal["red", "orange", "yellow", "blue"]
    occurrence_id: str
    rev: int
    enabled: bool
    condition: Literal["NORMAL", "PENDING_ON", "ACTIVE", "PENDING_OFF"]
    acked: bool
    confirmed: bool
    latched: bool
    shelve: Literal["UNSHELVED", "TIMED", "ONE_SHOT"]
    unshelve_at: Time | None
    suppressed_by: list[str]
    out_of_service: OutOfServiceView | None
    quality: QualityName
    chattering: bool
    stale: bool
    first_in_group: bool
    parent_alarm_id: str | None
    repeat_count: int
    realarm_count: int
    active_at: Time | None
    detected_at: Time | None
    inactive_at: Time | None
    acked_at: Time | None
    closed_at: Time | None
    acked_by: str | None
    ack_channel: str | None
    comment: str | None
    assigned_to: str | None
    silenced: bool
    cause_code: str | None
    retroactive: bool
    simulated: bool
    shadow: bool
    work: WorkName
    order: OrderView | None
    value: Scalar
    limit: float | None
    unit: str


class TransitionView(Out):
    """One recorded step; ``cause`` is the row of the table in docs/alarms.md, ``alarm`` the record after it."""

    alarm_id: str
    rev: int
    at: Time
    cause: str
    from_: StateName = Field(alias="from")
    to: StateName
    notify: bool
    by: str | None
    why: str | None
    late: bool
    alarm: AlarmView


class PointOut(Out):
    point: str
    value: Scalar
    unit: str
    quality: QualityName
    reason: str | None
    source_time: Time
    received_time: Time
    device: str
    stale: bool


class RawView(Out):
    time: Time
    value: Scalar
    quality: QualityName
    reason: str | None


class ReasonView(Out):
    """One sentence; ``code`` for programs."""

    code: str
    zh: str
    en: str


class RungView(Out):
    """One level of a rule now: ``beyond`` its limit (null: cannot be known), by ``distance``; pending since, raises at
    (null while it waits for readings or for good data); clearing likewise."""

    level: LevelName
    on: bool
    beyond: bool | None
    value: Scalar
    limit: float | None
    unit: str
    distance: float | None
    source: str
    on_delay_s: float
    off_delay_s: float
    pending_since: Time | None
    raises_at: Time | None
    readings_left: int
    clearing_since: Time | None
    clears_at: Time | None


class VerifyingView(Out):
    """Work that is said to be done. ``waits_for``: points (or devices) without a good reading since; ``still_true``:
    what fresh readings say of the condition (null: nothing), which counts at ``decides_at`` if it lasts."""

    since: Time
    waits_for: list[str]
    still_true: bool | None
    decides_at: Time | None


class ExplanationView(Out):
    """Why an alarm stands, or does not; the deciding reason first. ``maintenance``: of its asset, now."""

    applies: bool
    stands: bool
    reasons: list[ReasonView]
    rungs: list[RungView]
    never_reported: list[str]
    in_schedule: bool
    schedule_changes_at: Time | None
    silent: bool
    verifying: VerifyingView | None
    maintenance: OutOfServiceView | None


class WhyView(Out):
    """Why an alarm is what it is, or is not: the record if there is one, its newest step, the rule in force, what its
    asset reports now, the explanation, and the readings of the last half hour by point."""

    alarm: AlarmView | None
    last_transition: TransitionView | None
    rule: dict[str, Any] | None
    points: list[PointOut]
    explanation: ExplanationView
    samples: dict[str, list[RawView]]


class FloodView(Out):
    since: Time
    until: Time | None
    alarms: int


class LoadNowView(Out):
    """The last ten minutes; ``flood`` while more came than one person can take in."""

    alarms_10_min: int
    flood: FloodView | None


class RuleLoadView(Out):
    rule: str
    alarms: int
    share: float


class DelaysView(Out):
    count: int
    median_s: float | None
    p90_s: float | None
    longest_s: float | None


class LoadView(Out):
    """Operator load of a period (ISA-18.2). ``share_above_10``: % of its 10-min periods with more than ten alarms;
    ``periods``: their counts."""

    since: Time
    until: Time
    alarms: int
    per_10_min: float
    peak_10_min: int
    share_above_10: float
    by_level: dict[str, int]
    most_frequent: list[RuleLoadView]
    floods: list[FloodView]
    chattering: int
    stale: int
    to_acknowledge: DelaysView
    to_clear: DelaysView
    periods: list[int]
    now: LoadNowView


class ShadowView(Out):
    """A rule on trial beside the rule in force: occurrences and seconds in which both stood, or one alone."""

    shadow: str
    other: str | None
    occurrences: int
    both: int
    only_shadow: int
    only_other: int
    both_s: float
    only_shadow_s: float
    only_other_s: float
    assets_that_differ: list[str]


class ComponentView(Out):
    """A 16-digit component code of the city's platform, in its parts."""

    code: str
    county: str
    major: str
    minor: str
    sequence: str


class AssetView(Out):
    """``component``: null unless the settings name the layout of the codes."""

    asset: str
    kind: str
    name: str
    road: str
    town: str
    unit: str
    longitude: float | None
    latitude: float | None
    links: dict[str, str]
    attributes: dict[str, str | float | bool]
    simulated: bool
    component: ComponentView | None
    state: Literal["normal", "alarm"]
    standing_alarms: int
    worst_level: LevelName | None


class LinkView(Out):
    """``link`` is the name of the tie: feeder, network, station, catchment …"""

    link: str
    asset: str
    kind: str
    name: str


class AssetDetail(AssetView):
    """``parents``: what it names in its links; ``children``: what names it, the first 200 of ``children_total``."""

    parents: list[LinkView]
    children: list[LinkView]
    children_total: int


class DeviceView(Out):
    device: str
    asset: str
    profile: str
    address: str
    expected_interval_s: float | None
    attributes: dict[str, str | float | bool]


class CredentialsView(Out):
    """How a device logs in to the embedded broker. ``password`` is shown this once."""

    user: str
    password: str


class WrittenView(Out):
    """A point that was set. ``value``: as the device holds it, which is what was asked for to its own resolution."""

    device: str
    point: str
    value: Scalar
    written_at: Time


class StrangerView(Out):
    """A device that speaks and is not registered. Its frames: ``GET /rejected?device=``."""

    name: str
    frames: int
    first_time: Time
    last_time: Time
    source: str
    topic: str


class LedgerView(Out):
    """received = stored + duplicate + rejected_total + in_flight, counted in frames."""

    device: str | None
    received: int
    stored: int
    duplicate: int
    rejected: dict[str, int]
    rejected_total: int
    in_flight: int
    readings: int
    bad_readings: int
    conflicts: int
    extra_points: int
    balanced: bool


class LedgerOut(LedgerView):
    """The account in all, with a page of the devices' accounts (none when one device was asked for)."""

    devices: list[LedgerView] = []
    cursor: str | None = None


class RejectedView(Out):
    """A frame that became no readings. The payload is cut to 4 kB; ``payload_text`` is null when it is not UTF-8."""

    position: int
    index: int
    received_time: Time
    device: str | None
    code: str
    reason: str
    kind: str
    source: str
    address: str
    principal: str
    retained: bool
    payload_size: int
    payload_text: str | None
    payload_base64: str


class AuditView(Out):
    id: int
    at: Time
    who: str
    channel: str
    action: str
    subject: str
    outcome: str
    why: str | None


class PartView(Out):
    ok: bool
    text: str
    figures: dict[str, Scalar]


class HealthView(Out):
    status: Literal["ok", "failing"]
    version: str
    now: Time
    started_at: Time
    reasons: list[str]
    rates: dict[str, float]
    parts: dict[str, PartView]


class ProblemView(Out):
    """RFC 9457."""

    type: str
    title: str
    titles: Title
    status: int
    code: str
    detail: str | None = None


class DoneView(Out):
    """A command that was carried out, and the alarm after it."""

    command_id: str
    at: Time
    alarm: AlarmView


# --------------------------------------------------------------------------------------------- what callers send

Rev = Annotated[int, Field(ge=0, le=2**53, description="The rev of the alarm as the person saw it.")]
Words = Annotated[str, Field(min_length=1, max_length=1000)]
MaybeWords = Annotated[str | None, Field(max_length=1000)]


class Simple(In):
    """Acknowledge, unshelve, in-service, reset."""

    rev: Rev
    comment: MaybeWords = None


class Commented(In):
    """Un-acknowledge and comment: words are required."""

    rev: Rev
    comment: Words


class Shelving(In):
    """``seconds`` until the shelf ends; ``once``: it ends with the current or next active period too, and then
    ``seconds`` may be left out."""

    rev: Rev
    reason: Words
    seconds: Annotated[int | None, Field(ge=1, le=30 * 86400)] = None
    once: bool = False

    @model_validator(mode="after")
    def _ends(self) -> Shelving:
        if self.seconds is None and not self.once:
            raise ValueError("say for how many seconds")
        return self


class Confirming(In):
    """``cause_code``: what it was, in the words of the city's case platform."""

    rev: Rev
    comment: Words
    cause_code: Annotated[str, Field(min_length=1, max_length=64)]


class OutOfServicing(In):
    """``until``: back in service by itself, at most 30 days from now; else when somebody says so."""

    rev: Rev
    work: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Words
    until: AwareDatetime | None = None


class Assigning(In):
    """``to``: a person or crew."""

    rev: Rev
    to: Annotated[str, Field(min_length=1, max_length=100)]
    comment: MaybeWords = None


MaybeRev = Annotated[
    int | None, Field(ge=0, le=2**53, description="The rev as the person saw it; left out by what is told late.")
]
DeviceTime = Annotated[
    AwareDatetime | None,
    Field(description="When it was, of what a phone can tell only later: not before the dispatch, not in the future."),
]


class Dispatching(In):
    """``to``: a person, team or rota of the routes."""

    rev: MaybeRev = None
    to: Annotated[str, Field(min_length=1, max_length=64)]
    comment: MaybeWords = None


class Accepting(In):
    rev: MaybeRev = None
    comment: MaybeWords = None
    at: DeviceTime = None


class Refusing(In):
    rev: MaybeRev = None
    reason: Words
    at: DeviceTime = None


class Arriving(In):
    """Where the crew is, in WGS 84, and how good that fix is: together, or left out. Only the distance is kept."""

    rev: MaybeRev = None
    longitude: Annotated[float | None, Field(ge=-180, le=180)] = None
    latitude: Annotated[float | None, Field(ge=-90, le=90)] = None
    accuracy_m: Annotated[float | None, Field(ge=0, le=1e6)] = None
    comment: MaybeWords = None
    at: DeviceTime = None

    @model_validator(mode="after")
    def _both(self) -> Arriving:
        if (self.longitude is None) is not (self.latitude is None):
            raise ValueError("longitude and latitude come together")
        return self


class Finishing(In):
    """``cause_code``: what it was; ``action``: what was done; ``photos``: ids of photos of this alarm. ``by_person``:
    no reading can tell this time (the sensor is gone, say), somebody must look."""

    rev: MaybeRev = None
    cause_code: Annotated[str, Field(min_length=1, max_length=64)]
    action: Words
    photos: Annotated[list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]], Field(max_length=20)] = []
    by_person: bool = False
    at: DeviceTime = None


class Verifying(In):
    rev: MaybeRev = None
    comment: MaybeWords = None


class Reasoned(In):
    """Return and close: a reason is required."""

    rev: MaybeRev = None
    reason: Words


class Claim(In):
    """What an unregistered device is, and where. ``device``: the id it gets; its name on the wire when left out."""

    asset: Annotated[str, Field(max_length=64)]
    profile: Annotated[str, Field(max_length=200)]
    device: Annotated[str, Field(max_length=64)] | None = None
    expected_interval_s: Annotated[float, Field(gt=0)] | None = None
    attributes: Annotated[dict[str, str | float | bool], Field(max_length=50)] = {}
    why: Annotated[str, Field(max_length=1000)] | None = None


class WritePoint(In):
    """``value`` as the point reads: a number in its unit, true or false, or the name of a state."""

    value: StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=200)]
    why: Annotated[str, Field(min_length=1, max_length=500)]
