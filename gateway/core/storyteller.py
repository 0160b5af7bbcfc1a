"""Tells a timed story to a fresh engine and compares what it did with what the story expects.

Inputs of one instant arrive together, in file order; an expectation is checked after every input and every deadline up
to and including its instant. Format: docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeAlias

from gateway.core.engine import Engine
from gateway.core.model import (
    Asset,
    Command,
    Decoded,
    Device,
    Event,
    IsaState,
    Level,
    Micros,
    Reading,
    Transition,
)
from gateway.core.registry import Registry
from gateway.core.rule import RuleSet

RAISES = frozenset({"T3", "T7", "T26"})


@dataclass(frozen=True, slots=True)
class Send:
    """Readings that arrive ``at`` (from the story's start; their times are absolute already)."""

    at: Micros
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Do:
    at: Micros
    command: Command


Input: TypeAlias = Send | Do


@dataclass(frozen=True, slots=True)
class StateIs:
    at: Micros
    alarm: str
    state: IsaState
    level: Level | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One recorded transition that changes the state or the level, or raises again."""

    at: Micros
    to: IsaState
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class TransitionsAre:
    alarm: str
    changes: tuple[Change, ...]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Raised:
    """How often which rule raised until then on assets whose id matches ``of``; every other rule must be at 0. What a
    cause suppressed from the first moment does not count."""

    until: Micros
    counts: dict[str, int]
    of: str = "*"
    line: int | None = None


Expectation: TypeAlias = StateIs | TransitionsAre | Raised


@dataclass(frozen=True, slots=True)
class Story:
    name: str
    file: str
    start: Micros
    rules: RuleSet
    assets: tuple[Asset, ...]
    devices: tuple[Device, ...]
    inputs: tuple[Input, ...]
    expect: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that did not hold. Times are from the story's start."""

    at: Micros
    alarm: str
    expected: str
    got: str
    line: int | None = None


@dataclass(slots=True)
class StoryResult:
    story: Story
    failures: list[Failure] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures


def tell(story: Story) -> StoryResult:
    """Run one story from nothing."""
    result = StoryResult(story)
    intervals = {device.device: device.expected_interval for device in story.devices}
    registry = Registry()
    engine = Engine(registry, story.rules, lambda device: intervals.get(device.device))
    events: list[Event] = []
    engine.advance(story.start, events)
    engine.apply_assets(story.assets, story.devices, story.start, events)
    waiting = sorted(story.inputs, key=lambda item: item.at)
    checks = [item for item in story.expect if not isinstance(item, TransitionsAre)]
    times = sorted({item.at for item in waiting} | {_time(item) for item in story.expect})
    position = 0
    for at in times:
        engine.advance(story.start + at, events)
        readings: list[Reading] = []
        while position < len(waiting) and waiting[position].at == at:
            item = waiting[position]
            position += 1
            if isinstance(item, Send):
                readings.extend(item.readings)
                continue
            _send(engine, readings, events)
            engine.command(item.command, story.start + at, events)
        _send(engine, readings, events)
        for check in checks:
            if _time(check) == at:
                result.failures.extend(_checked(check, engine, events, story))
    result.transitions = [event for event in events if isinstance(event, Transition)]
    for expected in story.expect:
        if isinstance(expected, TransitionsAre):
            result.failures.extend(_compared(expected, result.transitions, story.start))
    return result


def _send(engine: Engine, readings: list[Reading], events: list[Event]) -> None:
    if readings:
        engine.observe(Decoded(readings[0].device, list(readings)), events)
        readings.clear()


def _time(expectation: Expectation) -> Micros:
    match expectation:
        case StateIs(at):
            return at
        case Raised(until):
            return until
        case TransitionsAre(_, changes):
            return max((change.at for change in changes), default=0)


def _checked(check: Expectation, engine: Engine, events: Iterable[Event], story: Story) -> Iterable[Failure]:
    match check:
        case StateIs(at, alarm, state, level, line):
            record = engine.alarm(alarm)
            is_state = record.isa_state if record is not None else IsaState.NORM
            is_level = record.level if record is not None and is_state is not IsaState.NORM else None
            if is_state is not state or (level is not None and is_level is not level):
                yield Failure(at, alarm, _shown(state, level), _shown(is_state, is_level), line)
        case Raised(until, counts, of, line):
            got: dict[str, int] = dict.fromkeys(counts, 0)
            for event in events:
                if (
                    isinstance(event, Transition)
                    and event.cause in RAISES
                    and not event.record.suppressed_by
                    and fnmatchcase(event.record.asset, of)
                ):
                    got[event.record.rule] = got.get(event.record.rule, 0) + 1
            for rule, count in got.items():
                if count != counts.get(rule, 0):
                    yield Failure(until, f"{of}/{rule}", f"raised {counts.get(rule, 0)} times", f"{count} times", line)
        case TransitionsAre():
            return


def _compared(check: TransitionsAre, transitions: Iterable[Transition], start: Micros) -> Iterable[Failure]:
    got: list[Change] = []
    level: Level | None = None
    for transition in transitions:
        if transition.alarm_id != check.alarm:
            continue
        record = transition.record
        if transition.from_state is not transition.to_state or record.level is not level or transition.cause in RAISES:
            got.append(Change(transition.at - start, transition.to_state, record.level))
        level = record.level
    same = len(got) == len(check.changes) and all(
        mine.at == theirs.at and mine.to is theirs.to and theirs.level in (None, mine.level)
        for mine, theirs in zip(got, check.changes, strict=True)
    )
    if not same:
        yield Failure(_time(check), check.alarm, _list(check.changes), _list(got), check.line)


def _shown(state: IsaState, level: Level | None) -> str:
    return f"{state.value} {level.name}" if level is not None else state.value


def _list(changes: Iterable[Change]) -> str:
    return ", ".join(f"{change.at / 1e6:g}s → {_shown(change.to, change.level)}" for change in changes) or "nothing"
