"""How a rule file is written: the shapes pydantic holds it against, before anything is looked up or converted.

Durations, levels and delays become numbers here; limits stay as they stand, because their unit is that of a point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.config.units import duration
from gateway.core.model import Level, Micros
from gateway.core.rule import (
    DEFAULT_MAX_SHELVED,
    DEFAULT_SETTLE,
    Chatter,
    OnBadData,
    Over,
)

_READINGS = re.compile(r"\s*(\d{1,3})\s+readings?\s*")


@dataclass(frozen=True, slots=True)
class Delay:
    """An on-delay: a time, or a number of readings in a row."""

    time: Micros | None = None
    readings: int = 1


def _delay(value: Any) -> Delay:
    if isinstance(value, str) and (match := _READINGS.fullmatch(value)):
        if int(match[1]) < 1:
            raise ValueError("at least 1 reading")
        return Delay(0, int(match[1]))
    return Delay(_duration(value))


def _duration(value: Any) -> Micros:
    if not isinstance(value, (str, int, float)):
        raise ValueError("not a duration (write 90s, 10m, 2h or 11m45s)")
    length = duration(value)
    if length < 0:
        raise ValueError("a duration cannot be negative")
    return length


def _level(value: Any) -> Level:
    if isinstance(value, str) and value in Level.__members__:
        return Level[value]
    raise ValueError(f"not a level: {value!r} (I, II, III or IV; I is the worst)")


def _texts(value: Any) -> Any:
    return {"en": value} if isinstance(value, str) else value


def _code(value: Any) -> Any:
    if isinstance(value, (int, float)):
        raise ValueError(f"write it in quotes, zeros get lost else: {str(value)!r}")
    return value


DelayField = Annotated[Delay, BeforeValidator(_delay, json_schema_input_type=str | float)]
DurationField = Annotated[Micros, BeforeValidator(_duration, json_schema_input_type=str | float)]
CodeField = Annotated[str, BeforeValidator(_code, json_schema_input_type=str), Field(pattern=r"^[0-9A-Za-z-]{0,16}$")]
LevelField = Annotated[Level, BeforeValidator(_level, json_schema_input_type=Literal["I", "II", "III", "IV"])]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=False, arbitrary_types_allowed=True)


class TextModel(Strict):
    zh: str = ""
    en: str = ""


TextField = Annotated[TextModel, BeforeValidator(_texts, json_schema_input_type=TextModel | str)]


class AppliesToModel(Strict):
    kind: str | list[str]
    profile: str | None = None
    attributes: dict[str, str | float | bool] = {}


class CauseModel(Strict):
    cause: str
    link: str | None = None


class SlaModel(Strict):
    respond: DurationField | None = None
    resolve: DurationField | None = None
    clock: Literal["urgent", "working_hours", "working_days", "natural_days"] = "urgent"


class CaseClassModel(Strict):
    major: CodeField = ""
    minor: CodeField = ""


class StandardModel(Strict):
    opened_when: TextField
    closed_when: TextField
    supervised_by: TextField
    responsible: TextField
    case_class: CaseClassModel = CaseClassModel()
    source: str = ""


class RealarmModel(Strict):
    after: DurationField
    times: int = Field(ge=1, le=100)


class ChatterModel(Strict):
    activations: int = Field(default=3, ge=2, le=100)
    within: DurationField = Chatter().within


class ScheduleModel(Strict):
    between: Any = None
    sun: Literal["up", "down"] | None = None
    margin: DurationField = 0
    days: list[str] | None = None
    season: list[str] | None = None
    zone: str = "Asia/Shanghai"
    place: list[float] | None = None


class OverrideModel(Strict):
    assets: str | list[str]
    set: dict[str, Any]


class RuleModel(Strict):
    rule: str
    applies_to: AppliesToModel
    when: Any
    title: TextField = TextModel()
    level: LevelField | None = None
    on_delay: DelayField = Delay(0)
    off_delay: DurationField | None = None
    clear_when: Any = None
    event: bool = False
    latch: bool = False
    ack_required: bool | None = None
    on_bad_data: OnBadData = Field(default=OnBadData.HOLD, strict=False)
    bad_data_reason: str = ""
    suppress_when: list[CauseModel] = []
    settle: DurationField = DEFAULT_SETTLE
    max_time_shelved: DurationField = DEFAULT_MAX_SHELVED
    consequence: str = ""
    response: TextField = TextModel()
    notify: list[str] = []
    sla: SlaModel | None = None
    case: bool = False
    standard: StandardModel | None = None
    enabled: bool = True
    source: str = ""
    schedule: ScheduleModel | list[ScheduleModel] | None = None
    realarm: RealarmModel | None = None
    chatter: ChatterModel = ChatterModel()
    confirm: bool = False
    shadow: bool = False
    shadow_of: str | None = None
    overrides: list[OverrideModel] = []


class LeafModel(Strict):
    """What every single condition may carry."""

    level: LevelField | None = None
    on_delay: DelayField | None = None
    off_delay: DurationField | None = None
    source: str = ""


class LimitModel(LeafModel):
    point: str
    above: Any = None
    below: Any = None
    of: list[Any] | None = None
    deadband: Any = None
    inclusive: bool | None = None
    absent: bool | None = None


class OutsideModel(LeafModel):
    point: str
    outside: Any
    deadband: Any = None
    absent: bool | None = None


class IsModel(LeafModel):
    point: str
    wanted: Any = Field(alias="is")
    absent: bool | None = None


class RateBodyModel(Strict):
    over: DurationField
    above: Any = None
    below: Any = None
    deadband: Any = None
    inclusive: bool | None = None


class RateModel(LeafModel):
    point: str
    rate: RateBodyModel


class SilentBodyModel(Strict):
    intervals: float = Field(gt=0, strict=False)
    plus: DurationField = 0


class SilentModel(LeafModel):
    point: str | None = None
    silent: Any


class ShareBodyModel(Strict):
    of: str
    link: str
    where: Any
    least: int = Field(default=1, ge=1)
    above: Any = None
    below: Any = None
    deadband: Any = None
    inclusive: bool | None = None


class ShareModel(LeafModel):
    share: ShareBodyModel


class CountingModel(Strict):
    above: Any = None
    below: Any = None


class WindowBodyModel(Strict):
    over: DurationField
    function: Over = Field(strict=False)
    counting: CountingModel | None = None
    above: Any = None
    below: Any = None
    deadband: Any = None
    inclusive: bool | None = None


class WindowModel(LeafModel):
    point: str
    window: WindowBodyModel


class FrozenBodyModel(Strict):
    over: DurationField
    change: Any
    link: str | None = None
    moved: Any = None


class FrozenModel(LeafModel):
    point: str
    frozen: FrozenBodyModel


class DeviationBodyModel(Strict):
    from_: Any = Field(alias="from")
    above: Any
    deadband: Any = None
    inclusive: bool | None = None


class DeviationModel(LeafModel):
    point: str
    deviation: DeviationBodyModel


class StandsBodyModel(Strict):
    rule: str
    link: str | None = None
    neighbours: str | None = None
    anywhere: bool = False


class StandsModel(LeafModel):
    stands: Any


class BadModel(LeafModel):
    bad: str | list[str]


class ExprModel(LeafModel):
    expr: str
    attributes: list[str] = []


class LimitBodyModel(Strict):
    limit: Any
    level: LevelField | None = None
    on_delay: DelayField | None = None
    off_delay: DurationField | None = None
    source: str = ""


class NumberBodyModel(Strict):
    attribute: str
    factor: float = Field(default=1.0, strict=False)
    plus: Any = 0
    default: Any = None


class FactorBodyModel(Strict):
    point: str
    absent: Any = None
