"""How ``routes.yaml`` is written: the shapes pydantic holds it against, before any name in it is looked up.

Each part is read by itself (``config/routes.py``), so that a mistake in one hides none in another: what is a part of
its own stands here as ``Any``.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.config.rule_models import DurationField, LevelField, TextField, TextModel
from gateway.core.model import HOUR, MINUTE, Micros
from gateway.core.routing import GroupBy, Limit, While

DAY: Micros = 24 * HOUR

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_EVERY = re.compile(r"(\d{1,3})\s*([dw])")

# More than any city has; what is larger is a program's mistake, and would be looked through for every alarm.
MAX_PEOPLE = 2000
MAX_TEAMS = 300
MAX_ROTAS = 300
MAX_ROUTES = 1000
MAX_DEPTH = 10  # of routes; deeper is a tree that nobody can follow at night
MAX_NAMES = 500  # in one list
MAX_BEHIND = 5000  # people behind one team, counted as often as they are named

LONGEST_STEP: Micros = 30 * DAY
LONGEST_WAIT: Micros = HOUR
SHORTEST_REPEAT: Micros = MINUTE
LONGEST_INTERVAL: Micros = 7 * DAY


def _time(value: Any) -> time:
    """24:00 is the 00:00 that ends the day: a span goes from its begin to the next end."""
    if not isinstance(value, str) or not (match := _TIME.fullmatch(value)):
        raise ValueError(f"not a time of day: {value!r} (write 08:00, or 24:00 for the end of the day)")
    return time(int(match[1] or 0), int(match[2] or 0))


def _day(value: Any) -> date:
    try:
        if isinstance(value, str) and len(value) == 10:
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError(f"not a day: {value!r} (write 2026-10-01)")


def _moment(value: Any) -> datetime:
    """Civil time of the site, without a zone."""
    try:
        if isinstance(value, str) and len(value) == 16:
            return datetime.strptime(value.replace("T", " "), "%Y-%m-%d %H:%M")
    except ValueError:
        pass
    raise ValueError(f"not a moment: {value!r} (write 2026-10-01 18:00)")


def _every(value: Any) -> int:
    match = _EVERY.fullmatch(value) if isinstance(value, str) else None
    days = int(match[1]) * (7 if match[2] == "w" else 1) if match is not None else 0
    if not 1 <= days <= 366:
        raise ValueError(f"not a number of days or weeks: {value!r} (write 1d, 1w or 2w; a year at most)")
    return days


def _quoted(value: Any) -> Any:
    if isinstance(value, (int, float)):
        raise ValueError(f"write it in quotes, digits may get lost else: {str(value)!r}")
    return value


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _none(value: Any) -> Any:
    return None if value == "none" else value


TimeField = Annotated[time, BeforeValidator(_time, json_schema_input_type=str)]
DayField = Annotated[date, BeforeValidator(_day, json_schema_input_type=str)]
MomentField = Annotated[datetime, BeforeValidator(_moment, json_schema_input_type=str)]
EveryField = Annotated[int, BeforeValidator(_every, json_schema_input_type=str)]
Id = Annotated[str, Field(pattern=r"^\w[\w.-]{0,63}$")]
RouteId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Short = Annotated[str, Field(max_length=200)]
Names = Annotated[
    list[Short], BeforeValidator(_list, json_schema_input_type=str | list[str]), Field(max_length=MAX_NAMES)
]
Quoted = Annotated[Short, BeforeValidator(_quoted)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class CalendarModel(_Part):
    country: Annotated[str, Field(pattern=r"^([A-Z]{2}|none)$")] = "CN"
    holidays: Annotated[list[DayField], Field(max_length=2000)] = []
    workdays: Annotated[list[DayField], Field(max_length=2000)] = []
    working_hours: Annotated[list[list[TimeField]], Field(min_length=1, max_length=6)] | None = None


class LimitsModel(_Part):
    messages: int = Field(default=Limit().messages, ge=1, le=1000)
    in_all: int = Field(default=Limit().in_all, ge=1, le=1000)
    within: DurationField = Limit().within
    digest: DurationField = Limit().digest


class ChannelModel(_Part):
    receiver: Short
    to: Quoted = ""


class PersonModel(_Part):
    person: Id
    name: TextField = TextModel()
    language: Literal["zh", "en"] = "zh"
    user: Short = ""
    numbers: Annotated[list[Quoted], Field(max_length=10)] = []
    channels: Annotated[list[ChannelModel], Field(max_length=10)]


class TeamModel(_Part):
    team: Id
    name: TextField = TextModel()
    members: Names


class RotateModel(_Part):
    every: EveryField
    since: DayField


class ShiftModel(_Part):
    shift: Annotated[str, Field(min_length=1, max_length=50)]
    from_: TimeField = Field(alias="from")
    until: TimeField
    days: Names = ["all"]
    people: Annotated[list[Short | list[Short]], Field(min_length=1, max_length=MAX_NAMES)]
    rotate: RotateModel | None = None


class SwapModel(_Part):
    from_: MomentField = Field(alias="from")
    until: MomentField
    instead_of: Short
    person: Short
    why: Short = ""


class RotaModel(_Part):
    rota: Id
    name: TextField = TextModel()
    shifts: Annotated[list[Any], Field(min_length=1, max_length=50)]
    swaps: Annotated[list[Any], Field(max_length=500)] = []
    fallback: Names


class SpanModel(_Part):
    """Part of the day: by the clock (``from``, ``until``), or while the sun is up or down."""

    from_: TimeField | None = Field(default=None, alias="from")
    until: TimeField | None = None
    sun: Literal["up", "down"] | None = None
    days: Names | None = None


class MatchModel(_Part):
    level: LevelField | None = None
    kind: Names = []
    rule: Names = []
    asset: Names = []
    road: Names = []
    town: Names = []
    unit: Names = []
    notify: Names = []
    attributes: Annotated[dict[str, str | float | bool], Field(max_length=50)] = {}
    during: Any = None
    unless: Any = None
    simulated: bool | None = None


class StepModel(_Part):
    after: DurationField = 0
    tell: Names
    if_still: While = Field(default=While.UNACKNOWLEDGED, strict=False)


class GroupModel(_Part):
    by: Annotated[
        list[Annotated[GroupBy, Field(strict=False)]], BeforeValidator(_list), Field(min_length=1, max_length=7)
    ] = [GroupBy.CAUSE]
    wait: DurationField = 0
    interval: DurationField = 0


class RepeatModel(_Part):
    every: DurationField
    times: int = Field(ge=1, le=100)
    if_still: While = Field(default=While.UNACKNOWLEDGED, strict=False)


class RouteModel(_Part):
    """What is left out is the parent's; ``none`` (or an empty list) says that there is none here."""

    route: RouteId = "root"
    title: TextField = TextModel()
    match: Any = None
    steps: Annotated[list[Any], Field(max_length=20)] | None = None
    group: GroupModel | None = None
    repeat: Annotated[RepeatModel | None, BeforeValidator(_none)] = None
    quiet: Annotated[Any, BeforeValidator(_none)] = None
    cleared: bool | None = None
    dispatch: Annotated[Short | None, BeforeValidator(_none)] = None
    warn: Names | None = None
    overdue: Names | None = None
    go_on: bool = False
    routes: Annotated[list[Any], Field(max_length=MAX_ROUTES)] = []


class RoutesModel(_Part):
    """The whole file."""

    people: Annotated[list[Any], Field(max_length=MAX_PEOPLE)] = []
    teams: Annotated[list[Any], Field(max_length=MAX_TEAMS)] = []
    rotas: Annotated[list[Any], Field(max_length=MAX_ROTAS)] = []
    limits: LimitsModel = LimitsModel()
    calendar: CalendarModel = CalendarModel()
    canary: Names = []
    route: Any = None
