"""Story files → stories; and the runner of ``citywatch test-rules``.

The format is a contract (docs/rules.md). Every mistake is named with file, line and key; values may carry units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from gateway.config.assets import ATTRIBUTE_UNITS, LINKS, UNIT_OF_ENDING
from gateway.config.rule_reader import RULE_KINDS
from gateway.config.rules import load_rules
from gateway.config.shipped import read_tree, shipped
from gateway.config.units import duration, format_duration, quantity
from gateway.config.yaml_source import Path as Key
from gateway.config.yaml_source import YamlSource, checked, did_you_mean, read_yaml
from gateway.core.model import (
    SECOND,
    Asset,
    Command,
    CommandName,
    Device,
    IsaState,
    Level,
    Micros,
    Quality,
    Reading,
    Value,
)
from gateway.core.rule import RuleSet
from gateway.core.storyteller import (
    Change,
    Do,
    Expectation,
    Input,
    Raised,
    Send,
    StateIs,
    Story,
    StoryResult,
    TransitionsAre,
    tell,
)
from gateway.core.vocabulary import COMMON, points_of, unit_of
from gateway.errors import ConfigError, Mistake

DEFAULT_START = "2025-01-01T00:00:00+08:00"
MAX_INPUTS = 200_000  # a year of five-minute readings is half of it
_INPUT_KEYS = ("at", "every", "until", "source_at", "historical", "sequence", "do", "alarm", "by")
# out_of_service, as the stories spell it, and out-of-service, as the API does.
_COMMANDS = {name.value.replace("-", "_"): name for name in CommandName} | {name.value: name for name in CommandName}


def _time(value: Any) -> Micros:
    if not isinstance(value, (str, int, float)):
        raise ValueError("not a duration (write 90s, 10m, 2h or 11m45s)")
    return duration(value)


def _state(value: Any) -> IsaState:
    if value in IsaState.__members__:
        return IsaState[value]
    raise ValueError(f"not a state: {value!r}{did_you_mean(str(value), IsaState)} ({', '.join(IsaState)})")


def _level(value: Any) -> Level:
    if value in Level.__members__:
        return Level[value]
    raise ValueError(f"not a level: {value!r} (I, II, III or IV)")


TimeField = Annotated[Micros, BeforeValidator(_time)]
StateField = Annotated[IsaState, BeforeValidator(_state)]
LevelField = Annotated[Level, BeforeValidator(_level)]


Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _File(_Strict):
    rules: str | None = None
    enable: list[str] = []
    assets: dict[str, Any] = {}
    stories: list[Any]


class _Story(_Strict):
    name: str
    start: str = DEFAULT_START
    input: list[Any] = []
    expect: list[Any]


class _Input(_Strict):
    at: TimeField
    every: TimeField | None = None
    until: TimeField | None = None
    source_at: TimeField | None = None
    historical: bool = False
    sequence: int | None = None
    do: str | None = None
    alarm: str | None = None
    by: str = "story"


class _StateIs(_Strict):
    at: TimeField
    alarm: str
    state: StateField
    level: LevelField | None = None


class _Change(_Strict):
    at: TimeField
    to: StateField
    level: LevelField | None = None


class _TransitionsAre(_Strict):
    transitions: str
    are: list[_Change]


class _Raised(_Strict):
    until: TimeField
    raised: dict[str, int]
    of: str = "*"


def run_stories(paths: Sequence[Path] = (), rules: Path | None = None) -> list[StoryResult]:
    """Run every story of the files and folders ``paths`` (default: the shipped ones), against the rules each file names
    or, when given, those of ``rules``. Raises ConfigError with every mistake."""
    return [tell(story) for story in load_stories(paths or [shipped("rules") / "tests"], rules)]


def load_stories(
    paths: Iterable[Path], rules: Path | None = None, rules_of: Callable[[Path | None], RuleSet] | None = None
) -> list[Story]:
    """All stories of files and folders; ``rules_of`` as in ``parse_stories``. Raises ConfigError with every mistake."""
    mistakes: list[Mistake] = []
    stories: list[Story] = []
    for path in paths:
        try:
            files = (
                {str(path / name): text for name, text in read_tree(path).items()}
                if path.is_dir()
                else {str(path): _text(path)}
            )
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        for file, text in files.items():
            try:
                stories += parse_stories(text, file, rules, rules_of)
            except ConfigError as error:
                mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return stories


def parse_stories(
    text: str, file: str, rules: Path | None = None, rules_of: Callable[[Path | None], RuleSet] | None = None
) -> list[Story]:
    """The stories of one file; ``rules`` in it is relative to the file. ``rules_of`` gives the rules of a file or
    folder (None: all of them), by default as they are on the disk. Raises ConfigError."""
    source = read_yaml(text, file)
    model = checked(_File, source)
    where = rules
    if where is None and model.rules is not None:
        where = Path(file).parent / model.rules
    reader = _Reader(source, (rules_of or rules_at)(where))
    reader.enable(model.enable)
    stories = reader.read(model)
    if reader.mistakes:
        raise ConfigError(reader.mistakes)
    return stories


def rules_at(where: Path | None) -> RuleSet:
    """The rules of a file or folder; None: the shipped ones. Raises ConfigError."""
    folder = shipped("rules") if where is None else where
    texts = read_tree(folder) if folder.is_dir() else {str(folder): _text(folder)}
    kept = {name: text for name, text in texts.items() if not name.startswith("tests/")}
    return load_rules(kept, complete=folder.is_dir())


def report(result: StoryResult) -> list[str]:
    """What to tell about one story: one line if it passed; else each failed expectation, and what happened."""
    story = result.story
    if result.passed:
        return [f"ok    {story.file}: {story.name}"]
    lines = [f"FAIL  {story.file}: {story.name}"]
    for failure in result.failures:
        at = format_duration(failure.at)
        line = f" (line {failure.line})" if failure.line is not None else ""
        lines.append(f"      at {at} {failure.alarm}: expected {failure.expected}, got {failure.got}{line}")
    for step in result.transitions:
        at = format_duration(step.at - story.start)
        change = f"{step.from_state.value} → {step.to_state.value} {step.record.level.name}"
        lines.append(f"      · {at} {step.alarm_id} {step.cause} {change}")
    return lines


def to_json(result: StoryResult) -> dict[str, Any]:
    """``report`` for programs: times in seconds from the story's start."""
    story = result.story
    return {
        "file": story.file,
        "story": story.name,
        "passed": result.passed,
        "failures": [
            {"at": f.at / SECOND, "alarm": f.alarm, "expected": f.expected, "got": f.got, "line": f.line}
            for f in result.failures
        ],
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigError([Mistake(str(path), None, "", f"cannot be read: {reason}")]) from error


class _Reader:
    """Reads one story file; gathers its mistakes."""

    def __init__(self, source: YamlSource, rules: RuleSet) -> None:
        self.source = source
        self.rules = rules
        self.mistakes: list[Mistake] = []
        self.assets: dict[str, Asset] = {}
        self.devices: list[Device] = []
        self.commands = 0

    def say(self, path: Key, message: str) -> None:
        self.mistakes.append(self.source.mistake(path, message))

    def enable(self, names: Sequence[str]) -> None:
        """Switch on rules that ship switched off, for the stories of this file."""
        rules = dict(self.rules.rules)
        for number, name in enumerate(names):
            if name not in rules:
                self.say(("enable", number), f"there is no rule {name}{did_you_mean(name, rules)}")
                continue
            variants = tuple((assets, replace(rule, enabled=True)) for assets, rule in rules[name].overrides)
            rules[name] = replace(rules[name], enabled=True, overrides=variants)
        self.rules = RuleSet(rules)

    def parsed(self, model: type[Model], data: Any, path: Key) -> Model | None:
        try:
            return checked(model, self.source, data, path)
        except ConfigError as error:
            self.mistakes += error.mistakes
            return None

    def read(self, file: _File) -> list[Story]:
        for asset_id, data in file.assets.items():
            self._asset(asset_id, data, ("assets", asset_id))
        stories: list[Story] = []
        for i, data in enumerate(file.stories):
            path = ("stories", i)
            model = self.parsed(_Story, data, path)
            if model is None:
                continue
            try:
                start = _moment(model.start)
            except ValueError as error:
                self.say((*path, "start"), str(error))
                continue
            inputs = [x for j, item in enumerate(model.input) for x in self._input(item, (*path, "input", j), start)]
            expect = [self._expectation(item, (*path, "expect", j)) for j, item in enumerate(model.expect)]
            stories.append(
                Story(
                    model.name,
                    self.source.file,
                    start,
                    self.rules,
                    tuple(self.assets.values()),
                    tuple(self.devices),
                    tuple(inputs),
                    tuple(found for found in expect if found is not None),
                )
            )
        return stories

    # -- assets -------------------------------------------------------------------------------------------------------

    def _asset(self, asset_id: str, data: Any, path: Key) -> None:
        """``{kind: lamp, feeder: F1, attributes: {…}, profile: …, interval: 15s}``"""
        if not isinstance(data, dict) or data.get("kind") not in RULE_KINDS:
            kind = data.get("kind") if isinstance(data, dict) else None
            self.say(path, f"an asset has a kind; {kind!r} is none{did_you_mean(str(kind), RULE_KINDS)}")
            return
        links: dict[str, str] = {}
        interval: Micros | None = None
        for key, value in data.items():
            if key in LINKS:
                links[key] = str(value)
            elif key == "interval":
                try:
                    interval = _time(value)
                except ValueError as error:
                    self.say((*path, key), str(error))
            elif key not in ("kind", "attributes", "profile", "name"):
                known = (*LINKS, "kind", "attributes", "profile", "interval", "name")
                self.say((*path, key), f"no such key{did_you_mean(str(key), known)}")
        attributes = self._attributes(data.get("attributes") or {}, (*path, "attributes"))
        self.assets[asset_id] = Asset(
            asset_id, data["kind"], str(data.get("name", "")), links=links, attributes=attributes
        )
        self.devices.append(Device(asset_id, asset_id, str(data.get("profile", "")), expected_interval=interval))

    def _attributes(self, data: Any, path: Key) -> dict[str, str | float | bool]:
        found: dict[str, str | float | bool] = {}
        for name, value in data.items() if isinstance(data, dict) else ():
            unit = ATTRIBUTE_UNITS.get(name) or next((u for end, u in UNIT_OF_ENDING.items() if name.endswith(end)), "")
            if isinstance(value, bool) or (isinstance(value, str) and not unit):
                found[name] = value
                continue
            try:
                found[name] = quantity(value, unit)
            except ValueError as error:
                self.say((*path, name), str(error))
        return found

    # -- input --------------------------------------------------------------------------------------------------------

    def _input(self, data: Any, path: Key, start: Micros) -> list[Input]:
        if not isinstance(data, dict):
            self.say(path, "an input is a mapping: {at: 10s, lamp-1: {power: 0}}")
            return []
        plain = {key: value for key, value in data.items() if key not in self.assets}
        about = {key: value for key, value in data.items() if key in self.assets}
        for key in list(plain):
            if key not in _INPUT_KEYS and isinstance(plain[key], dict):
                self.say((*path, key), f"there is no asset {key}{did_you_mean(str(key), self.assets)}")
                return []
        arguments = {key: plain.pop(key) for key in list(plain) if "do" in plain and key not in _INPUT_KEYS}
        model = self.parsed(_Input, plain, path)
        if model is None:
            return []
        if model.do is not None:
            return self._command(model, arguments, path)
        if not about:
            self.say(path, "nothing arrives: name an asset, or say what to `do`")
        times = [model.at]
        if (model.every is None) != (model.until is None):
            self.say(path, "`every` and `until` come together")
        elif model.every is not None and model.until is not None:
            if model.every <= 0 or (model.until - model.at) // model.every > MAX_INPUTS:
                self.say((*path, "every"), f"more than {MAX_INPUTS} inputs")
                return []
            times = list(range(model.at, model.until + 1, model.every))
        values = {key: self._values(key, given, (*path, key)) for key, given in about.items()}
        sends: list[Input] = []
        for at in times:
            measured = start + at if model.source_at is None else start + model.source_at + at - model.at
            readings = [
                Reading(
                    asset_id,
                    point,
                    value,
                    quality,
                    measured,
                    start + at,
                    asset_id,
                    reason,
                    model.historical,
                    model.sequence,
                )
                for asset_id, given in values.items()
                for point, value, quality, reason in given
            ]
            sends.append(Send(at, tuple(readings)))
        return sends

    def _values(self, asset_id: str, data: Any, path: Key) -> list[tuple[str, Value, Quality, str | None]]:
        if not isinstance(data, dict):
            self.say(path, "values are a mapping: {power: 0}")
            return []
        kind = self.assets[asset_id].kind
        found: list[tuple[str, Value, Quality, str | None]] = []
        for point, given in data.items():
            unit = unit_of(kind, point)
            if unit is None:
                near = did_you_mean(str(point), [*points_of(kind), *COMMON])
                self.say((*path, point), f"{kind} has no point `{point}`{near}")
                continue
            quality, reason = Quality.GOOD, None
            if isinstance(given, dict):
                word = given.get("quality", "good")
                if word not in list(Quality):
                    self.say((*path, point, "quality"), f"not a quality: {word!r} (good, uncertain, bad)")
                    continue
                quality, reason = Quality(word), given.get("reason")
                given = given.get("value")
            try:
                value: Value = quantity(given, unit) if isinstance(given, str) and unit else given
            except ValueError as error:
                self.say((*path, point), str(error))
                continue
            if value is not None and not isinstance(value, (str, int, float, bool)):
                self.say((*path, point), "not a value")
                continue
            found.append((point, value, quality, reason))
        return found

    def _command(self, model: _Input, arguments: dict[str, Any], path: Key) -> list[Input]:
        name = _COMMANDS.get(model.do or "")
        if name is None:
            self.say((*path, "do"), f"there is no command {model.do}{did_you_mean(model.do or '', _COMMANDS)}")
            return []
        if model.alarm is None:
            self.say(path, "`alarm` is missing")
            return []
        why = arguments.pop("why", None)
        if "for" in arguments:
            try:
                arguments["seconds"] = _time(arguments.pop("for")) / SECOND
            except ValueError as error:
                self.say((*path, "for"), str(error))
        self.commands += 1
        command = Command(f"story-{self.commands}", name, model.alarm, model.by, "story", None, why, arguments)
        return [Do(model.at, command)]

    # -- expectations -------------------------------------------------------------------------------------------------

    def _expectation(self, data: Any, path: Key) -> Expectation | None:
        line = self.source.line(path)
        if isinstance(data, dict) and "transitions" in data:
            are = self.parsed(_TransitionsAre, data, path)
            if are is None:
                return None
            self._alarm(are.transitions, (*path, "transitions"))
            changes = tuple(Change(change.at, change.to, change.level) for change in are.are)
            return TransitionsAre(are.transitions, changes, line)
        if isinstance(data, dict) and "raised" in data:
            raised = self.parsed(_Raised, data, path)
            if raised is None:
                return None
            for rule in raised.raised:
                if self.rules.get(rule) is None:
                    self.say((*path, "raised", rule), f"there is no rule {rule}{did_you_mean(rule, self.rules.rules)}")
            return Raised(raised.until, raised.raised, raised.of, line)
        if isinstance(data, dict) and ("alarm" in data or "state" in data):
            state = self.parsed(_StateIs, data, path)
            if state is None:
                return None
            self._alarm(state.alarm, (*path, "alarm"))
            return StateIs(state.at, state.alarm, state.state, state.level, line)
        self.say(path, "expect {at, alarm, state}, {transitions, are} or {until, raised}")
        return None

    def _alarm(self, alarm_id: str, path: Key) -> None:
        """An expectation about an alarm that cannot exist would always be met."""
        asset, _, rule = alarm_id.rpartition("/")
        if asset not in self.assets:
            self.say(path, f"there is no asset {asset}{did_you_mean(asset, self.assets)}")
        if self.rules.get(rule) is None:
            self.say(path, f"there is no rule {rule}{did_you_mean(rule, self.rules.rules)}")


def _moment(text: str) -> Micros:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"not a time: {text!r} (write 2025-07-20T20:00:00+08:00)") from error
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone: +08:00")
    return round(moment.timestamp()) * SECOND
