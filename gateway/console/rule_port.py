"""What the console needs from the rest of the house to show, check, try and change rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from gateway.core.limits import LimitView
from gateway.core.load import LoadReport
from gateway.core.model import Micros
from gateway.core.records import EVERYWHERE, Page, RuleChangeRow, Scope
from gateway.core.rule import Rule
from gateway.core.words import Words
from gateway.errors import Mistake


class Origin(StrEnum):
    SHIPPED = "shipped"
    SITE = "site"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class RuleInForce:
    """A rule with its text, and the text as ``data`` of JSON types. ``part_of``: it is the instrument alarm of that
    rule and has no text of its own (and then no ``rev``). ``base``: what the rule files say, None when the rule was
    made at the console."""

    rule: Rule
    words: Words
    origin: Origin
    text: str | None
    data: dict[str, Any] | None
    rev: str | None
    base: str | None
    part_of: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """``mistakes`` of files other than the given text have their ``file``; "" is the text itself."""

    mistakes: list[Mistake] = field(default_factory=list)
    rule: Rule | None = None
    words: Words | None = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ChangeBy:
    """Who changes a rule, why, and through what."""

    who: str
    why: str
    channel: str


class StoryName(msgspec.Struct, frozen=True):
    file: str
    story: str


class Rulebook(Protocol):
    """The rules in force, and the ways to change them.

    Changes raise ConfigError with the mistakes (the file of a mistake in the given text is ""), CommandRefused with
    stale_rev, not_found or not_allowed, or Unavailable; then nothing has changed."""

    async def rules(self) -> Mapping[str, RuleInForce]:
        """Every rule in force by id, in the order of their files."""
        ...

    def limits(self, rule_id: str, asset_id: str) -> list[LimitView] | None:
        """The limits of a rule on an asset; None when one of the two does not exist."""
        ...

    async def stories(self, rule_id: str) -> Sequence[StoryName]:
        """The stories that name the rule."""
        ...

    async def check(self, text: str, rule_id: str | None) -> Checked:
        """The text of one rule as ``citywatch check`` sees it, in place of the one in force; ``rule_id``: it must be
        that one. Changes nothing."""
        ...

    async def put(self, rule_id: str, text: str, rev: str | None, by: ChangeBy) -> RuleInForce:
        """Put a text in force. ``rev``: of the text that was looked at, None for a rule that is new."""
        ...

    async def put_on_trial(self, rule_id: str, text: str, rev: str | None, by: ChangeBy) -> RuleInForce:
        """Let a text run beside the rule in force, as ``<rule>-trial``: recorded, told to nobody."""
        ...

    async def switch(self, rule_id: str, enabled: bool, rev: str | None, by: ChangeBy) -> RuleInForce:
        """Put a rule out of force or back."""
        ...

    async def reset(self, rule_id: str, rev: str | None, by: ChangeBy) -> RuleInForce | None:
        """Back to what the rule files say; None when they say nothing of this rule. ``rev`` None: whatever it is."""
        ...

    async def undo(self, change_id: int, by: ChangeBy) -> RuleInForce | None:
        """Put back what was in force before a change that is still the newest of its rule."""
        ...


class RuleChanges(Protocol):
    """The changes of rules that were made, as the store has them. ValueError for a cursor that is not of that list."""

    async def page(self, rule: str | None, limit: int, cursor: str | None = None) -> Page[RuleChangeRow]: ...
    async def one(self, id_: int) -> RuleChangeRow | None: ...
    async def newest(self) -> dict[str, tuple[RuleChangeRow, int]]: ...
    async def activity(self, since: Micros, scope: Scope = EVERYWHERE) -> dict[str, tuple[int, int]]: ...


# -- trying a rule ----------------------------------------------------------------------------------------------------


class Raised(msgspec.Struct, frozen=True):
    """One alarm that was told."""

    at: Micros
    alarm_id: str
    level: str
    value: float | int | str | bool | None
    limit: float | None
    unit: str


class Side(msgspec.Struct, frozen=True):
    """What the rule made of the readings; ``load``: of this rule alone. ``raises``: told or not."""

    raises: int
    levels: dict[str, int]
    load: LoadReport
    alarms: list[Raised]
    alarms_cut: int


class AssetDifference(msgspec.Struct, frozen=True):
    asset: str
    before: int
    after: int


class RuleDifference(msgspec.Struct, frozen=True):
    rule: str
    before: int
    after: int


class Comparison(msgspec.Struct, frozen=True):
    """``assets``: those on which the rule was raised another number of times, the greatest differences first;
    ``others``: other rules that were, because this one changed."""

    rule: str
    since: Micros
    until: Micros
    readings: int
    before: Side
    after: Side
    assets: list[AssetDifference]
    assets_cut: int
    others: list[RuleDifference]


class StoryFailure(msgspec.Struct, frozen=True):
    """An expectation that did not hold, ``at_s`` from the story's start; ``line`` of the story's file."""

    at_s: float
    alarm: str
    expected: str
    got: str
    line: int | None


class StoryStep(msgspec.Struct, frozen=True):
    """What happened in a story: one recorded step of an alarm."""

    at_s: float
    alarm_id: str
    cause: str
    from_state: str
    to_state: str
    level: str
    value: float | int | str | bool | None
    limit: float | None
    unit: str


class StoryOutcome(msgspec.Struct, frozen=True):
    """``names``: the story expects something of the rule; else it only could be changed by it. ``steps``: of one that
    failed."""

    file: str
    story: str
    passed: bool
    names: bool
    failures: list[StoryFailure]
    steps: list[StoryStep]


class StoriesReport(msgspec.Struct, frozen=True):
    """Failed ones first; ``mistakes``: story files that cannot be read."""

    rule: str
    stories: list[StoryOutcome]
    mistakes: list[str]


class BacktestState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Backtest(msgspec.Struct):
    """One comparison that was asked for; ``progress`` 0 to 1."""

    id: str
    rule: str
    who: str
    asked_at: Micros
    since: Micros
    until: Micros
    assets: tuple[str, ...]
    state: BacktestState = BacktestState.WAITING
    progress: float = 0.0
    report: Comparison | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.state not in (BacktestState.WAITING, BacktestState.RUNNING)


class Trials(Protocol):
    """Tries texts of rules in processes of their own. The texts have been checked. Unavailable when too much is asked
    at once, or when the process did not end in time."""

    async def stories(self, rule_id: str, text: str, who: str) -> StoriesReport:
        """Tell every story that the rule could change, with this text in its place."""
        ...

    def begin(self, rule_id: str, text: str, who: str, since: Micros, until: Micros, assets: Sequence[str]) -> Backtest:
        """Ask for a comparison with the rule in force over the readings that are kept; one runs at a time."""
        ...

    def backtests(self) -> Sequence[Backtest]:
        """Those of this life of the process that are still kept, the newest first."""
        ...

    def backtest(self, id_: str) -> Backtest | None: ...

    def cancel(self, id_: str) -> Backtest | None:
        """End one that waits or runs; None when there is none of that id."""
        ...
