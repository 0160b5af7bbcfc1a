"""The shapes of the API of rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, model_validator

from gateway.console.models import FloodView, LevelName, Out, Scalar, StateName, Time, Title

RuleId = Annotated[str, Field(max_length=128)]
Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Yaml = Annotated[str, Field(min_length=1, max_length=50_000, description="The text of one rule: `- rule: …`.")]
Rev = Annotated[
    str | None, Field(max_length=64, description="The `rev` of the rule as the person saw it; null for a new one.")
]


class WordsView(Out):
    """A rule in words, line by line, the same lines in both languages. A line that belongs under the one before it
    begins with two spaces for each step, and a dot."""

    zh: list[str]
    en: list[str]


class LimitOut(Out):
    """One numeric limit. ``measure``: what is held against it. ``value`` is null while it depends on the asset (it is
    ``factor`` × ``attribute`` × ``points`` + ``plus``). ``holds``: a standing alarm is over beyond this."""

    point: str
    unit: str
    side: Literal["above", "below"]
    level: LevelName
    measure: Literal["value", "change", "deviation", "mean", "min", "max", "count", "spread", "changes"]
    over_s: float | None
    inclusive: bool
    value: float | None
    holds: float | None
    attribute: str | None
    factor: float | None
    plus: float
    default: float | None
    points: list[str]


class AssetLimitOut(LimitOut):
    """A limit with the rule it is of."""

    rule: str


class CaseClassView(Out):
    major: str
    minor: str


class StandardView(Out):
    """The row of the city's standard for cases: 立案条件, 结案条件, 监管主体, 责任主体, and the 处置时限 (``resolve_s``
    on the rule's clock, as its ``sla`` says)."""

    opened_when: Title
    closed_when: Title
    supervised_by: Title
    responsible: Title
    resolve_s: float | None
    clock: Literal["urgent", "working_hours", "working_days", "natural_days"] | None
    case_class: CaseClassView
    source: str


class RuleView(Out):
    """A rule in force. ``part_of``: it is the instrument alarm of that rule, and has no text and no ``rev`` of its own.
    ``case``: its alarms become cases on the city's platform. ``standing`` and ``raised_24h`` count alarms of assets
    that the caller may see."""

    rule: str
    title: Title
    kinds: list[str]
    levels: list[LevelName]
    enabled: bool
    shadow: bool
    shadow_of: str | None
    part_of: str | None
    words: WordsView
    source: str
    consequence: str
    response: Title
    notify: list[str]
    case: bool
    standard: StandardView | None
    origin: Literal["shipped", "site", "console"]
    file: str
    line: int | None
    rev: str | None
    changed_at: Time | None
    changed_by: str | None
    standing: int
    raised_24h: int


class StoryNameView(Out):
    file: str
    story: str


class RuleDetail(RuleView):
    """``yaml``: the rule's own text with the comments that belong to it; ``base_yaml``: what the rule files say, null
    for a rule made at the console. ``data``: the text as JSON; ``plain``: the rule as it was understood, every number
    in the unit of its point. ``history``: how many changes were made through the API."""

    yaml: str | None
    base_yaml: str | None
    data: dict[str, Any] | None
    plain: dict[str, Any]
    limits: list[LimitOut]
    stories: list[StoryNameView]
    history: int


class RuleAfter(Out):
    """The rule after a change; null when there is no such rule any more."""

    rule: RuleDetail | None


class MistakeView(Out):
    """``file``: null for the text that was sent, else another file; ``line`` is counted from 1."""

    file: str | None
    line: int | None
    key: str
    message: str


class CheckView(Out):
    """What ``citywatch check`` would say, and the rule as it was understood when there is no mistake."""

    mistakes: list[MistakeView]
    words: WordsView | None
    plain: dict[str, Any] | None
    data: dict[str, Any] | None
    limits: list[LimitOut] | None


class StoryFailureView(Out):
    """``at_s``: from the story's start; ``line``: of the story's file."""

    at_s: float
    alarm: str
    expected: str
    got: str
    line: int | None


class StoryStepView(Out):
    at_s: float
    alarm_id: str
    cause: str
    from_: StateName = Field(alias="from")
    to: StateName
    level: LevelName
    value: Scalar
    limit: float | None
    unit: str


class StoryView(Out):
    """``names``: it expects something of the rule; others only could be changed by it. ``steps``: what happened in a
    story that failed."""

    file: str
    story: str
    passed: bool
    names: bool
    failures: list[StoryFailureView]
    steps: list[StoryStepView]


class StoriesView(Out):
    """Failed ones first. ``mistakes``: story files that cannot be read."""

    rule: str
    passed: int
    failed: int
    stories: list[StoryView]
    mistakes: list[str]


class RaisedView(Out):
    at: Time
    alarm_id: str
    level: LevelName
    value: Scalar
    limit: float | None
    unit: str


class SideView(Out):
    """``raises``: told or not. ``alarms``: the first that were told, ``alarms_cut`` more. ``periods``: alarms told in
    each ten minutes from the beginning on."""

    raises: int
    levels: dict[LevelName, int]
    told: int
    per_10_min: float
    peak_10_min: int
    share_above_10: float
    floods: list[FloodView]
    periods: list[int]
    alarms: list[RaisedView]
    alarms_cut: int


class AssetDifferenceView(Out):
    asset: str
    before: int
    after: int


class RuleDifferenceView(Out):
    rule: str
    before: int
    after: int


class ComparisonView(Out):
    """``before``: the rule in force, ``after``: the text that was tried, as if it were switched on. ``assets``: where
    the two were raised another number of times; ``others``: other rules that were, because of it."""

    since: Time
    until: Time
    readings: int
    before: SideView
    after: SideView
    assets: list[AssetDifferenceView]
    assets_cut: int
    others: list[RuleDifferenceView]


class BacktestView(Out):
    """``progress`` 0 to 1. Kept in memory only: a restart forgets it."""

    id: str
    rule: str
    who: str
    asked_at: Time
    since: Time
    until: Time
    assets: list[str]
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    progress: float
    report: ComparisonView | None
    error: str | None


class RuleChangeView(Out):
    """One change, as texts and as a unified diff. ``before`` null: the rule was new; ``after`` null: it is gone.
    ``kept``: ``after`` lies among the rules changed at the console; else what the rule files say counts again."""

    id: int
    at: Time
    who: str
    why: str
    rule: str
    before: str | None
    after: str | None
    kept: bool
    undoes: int | None
    diff: str


# --------------------------------------------------------------------------------------------- what callers send


class _Asked(Out):
    """Texts stay as they are: lines are counted in them, and their indentation counts."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Check(_Asked):
    yaml: Yaml
    rule: RuleId | None = Field(default=None, description="It must be this rule; any when left out.")


class TellStories(_Asked):
    yaml: Yaml
    rule: RuleId


class Compare(_Asked):
    """``assets``: what it does on these alone, which is quicker; then nothing is said of other rules."""

    yaml: Yaml
    rule: RuleId
    since: AwareDatetime
    until: AwareDatetime
    assets: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=1000)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _a_time(self) -> Compare:
        if not self.since < self.until:
            raise ValueError("`since` lies before `until`")
        if (self.until - self.since).days > 31:
            raise ValueError("at most 31 days; `citywatch backtest` takes longer ones")
        return self


class PutRule(_Asked):
    """``shadow``: on trial beside the rule in force, as ``<rule>-trial``: recorded, told to nobody."""

    yaml: Yaml
    why: Why
    rev: Rev
    shadow: bool = False


class SwitchRule(_Asked):
    enabled: bool
    why: Why
    rev: Rev


class ResetRule(_Asked):
    why: Why
    rev: Rev = None


class Because(_Asked):
    why: Why
