"""Rule files → checked, frozen rules: every mistake of every file at once, with file, line, key and a suggestion.

How a rule is written: docs/rules.md. Units are converted here, once; limits, names of points, kinds and causes are
checked here, so that the engine never meets a name it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from gateway.config.rule_reader import RuleReader
from gateway.config.yaml_source import Path, YamlSource, did_you_mean, read_yaml
from gateway.core.correlation import circle
from gateway.core.model import SECOND
from gateway.core.rule import (
    Bad,
    Condition,
    Deviation,
    Frozen,
    Is,
    Limit,
    OnBadData,
    Outside,
    Rule,
    RuleSet,
    Sla,
    Stands,
    Window,
    parts,
)
from gateway.errors import ConfigError, Mistake

INSTRUMENT = "-instrument"  # what the name of a companion ends with
_STEP_INTO = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_]*)|\[(\d{1,3})\]")


def load_rules(files: Mapping[str, str], *, over: Mapping[str, str] | None = None, complete: bool = True) -> RuleSet:
    """All rules of ``files`` (name → text), in order. ``over``: files of one rule each (``…/<rule>.yaml``), which
    replaces the one of that id, in its place, or is added. Not ``complete``: these are some of the rules, causes may
    stand in other files. Raises ConfigError with all mistakes of all files."""
    gathered = _Gathered()
    for name, text in files.items():
        gathered.read(name, text)
    for name, text in (over or {}).items():
        gathered.read(name, text, only=PurePosixPath(name).stem)
    mistakes, rules, sources = gathered.mistakes, gathered.rules, gathered.sources
    mistakes += _wrong_causes(rules, sources, complete)
    mistakes += _wrong_names(rules, sources, complete)
    mistakes += _taken_names(rules, sources)
    if mistakes:
        raise ConfigError(mistakes)
    return RuleSet({one.id: one for rule in rules.values() for one in (rule, *_companion(rule))})


class _Gathered:
    """Rules with where they stand, and the mistakes of single rules."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self.sources: dict[str, tuple[YamlSource, Path]] = {}
        self.mistakes: list[Mistake] = []

    def read(self, name: str, text: str, only: str | None = None) -> None:
        """One file. ``only``: it holds this one rule, in place of another of that id."""
        try:
            source = read_yaml(text, name)
        except ConfigError as error:
            self.mistakes += error.mistakes
            return
        if source.data is None and only is None:
            return
        if not isinstance(source.data, list):
            self.mistakes.append(Mistake(name, 1, "", "a rule file is a list: `- rule: …`"))
            return
        if only is not None and len(source.data) != 1:
            self.mistakes.append(Mistake(name, 1, "", f"must be one rule, not {len(source.data)}"))
            return
        for index, item in enumerate(source.data):
            reader = RuleReader(source, (index,))
            rule = reader.rule(item)
            if rule is not None:
                rule = _with_overrides(rule, item, reader)
            self.mistakes += reader.mistakes
            if rule is not None:
                self._take(rule, source, (index,), only)

    def _take(self, rule: Rule, source: YamlSource, path: Path, only: str | None) -> None:
        if only is not None and rule.id != only:
            self.mistakes.append(source.mistake((*path, "rule"), f"this must be the rule {only}"))
        elif only is None and rule.id in self.rules:
            first = self.rules[rule.id]
            message = f"rule {rule.id} stands already in {first.file}:{first.line}"
            self.mistakes.append(source.mistake((*path, "rule"), message))
        else:
            self.rules[rule.id] = rule
            self.sources[rule.id] = (source, path)


def _with_overrides(rule: Rule, data: dict[str, Any], reader: RuleReader) -> Rule:
    """``rule`` with its variants: each is read as if the file said so."""
    found: list[tuple[tuple[str, ...], Rule]] = []
    for number, given in enumerate(data.get("overrides") or ()):
        path = (*reader.path, "overrides", number)
        changed = {key: deepcopy(value) for key, value in data.items() if key != "overrides"}
        for place, value in given["set"].items():
            if not _put(changed, place, value):
                reader.say((*path, "set", place), f"the rule has no `{place}` to set")
                return rule
        if changed.get("rule") != rule.id or changed.get("applies_to") != data["applies_to"]:
            reader.say((*path, "set"), "an override changes numbers, not the rule's name nor what it applies to")
            return rule
        inner = RuleReader(reader.source, reader.path)
        variant = inner.rule(changed)
        reader.mistakes += [replace(mistake, key=f"{mistake.key} (as overrides[{number}] sets it)",
                                    line=reader.source.line((*path, "set"))) for mistake in inner.mistakes]  # fmt: skip
        if variant is not None:
            assets = given["assets"]
            found.append((tuple(assets) if isinstance(assets, list) else (assets,), variant))
    return replace(rule, overrides=tuple(found))


def _put(data: Any, place: str, value: Any) -> bool:
    """Set what ``when.above[0].limit`` names; False when the way there does not exist. A last key may be new."""
    steps_ = [(name or int(index)) for name, index in _STEP_INTO.findall(place)]
    if not steps_ or "".join(match[0] for match in _STEP_INTO.finditer(place)) != place:
        return False
    for step in steps_[:-1]:
        if isinstance(step, int) if isinstance(data, dict) else not isinstance(step, int):
            return False
        try:
            data = data[step]
        except (LookupError, TypeError):
            return False
    last = steps_[-1]
    if isinstance(data, dict) and isinstance(last, str):
        data[last] = value
        return True
    if isinstance(data, list) and isinstance(last, int) and last < len(data):
        data[last] = value
        return True
    return False


def _companion(rule: Rule) -> Iterable[Rule]:
    """The instrument alarm of a rule that asks for one (``on_bad_data: instrument_alarm``)."""
    if rule.on_bad_data is OnBadData.INSTRUMENT_ALARM:
        points = tuple(dict.fromkeys(point for part in parts(rule.when) for point in _points_in(part)))
        yield Rule(
            id=rule.id + INSTRUMENT,
            kinds=rule.kinds,
            when=Bad(points),
            title_zh=f"{rule.title_zh}：仪表数据异常",
            title_en=f"{rule.title_en}: the instrument's data are bad",
            profile=rule.profile,
            attributes=rule.attributes,
            enabled=rule.enabled,
            off_delay=3600 * SECOND,
            consequence="The alarm it feeds is held as it was and can neither be raised nor cleared.",
            response_zh="检查仪表与接线",
            response_en="Check the instrument and its wiring",
            notify=("instrument",),
            sla=Sla(None, 3 * 24 * 3600 * SECOND, "working_days"),
            source=f"on_bad_data of {rule.id}",
            file=rule.file,
            line=rule.line,
        )


def instrument_of(rule_id: str, rules: Mapping[str, Rule]) -> str | None:
    """The rule whose instrument alarm ``rule_id`` is; None when it is a rule of its own."""
    owner = rule_id.removesuffix(INSTRUMENT)
    found = rules.get(owner) if owner != rule_id else None
    return owner if found is not None and found.on_bad_data is OnBadData.INSTRUMENT_ALARM else None


def _points_in(part: Condition) -> Iterable[str]:
    match part:
        case Limit() | Outside() | Is() | Window() | Frozen() | Deviation():
            yield part.point
        case _:
            pass


def _wrong_causes(
    rules: Mapping[str, Rule], sources: Mapping[str, tuple[YamlSource, Path]], complete: bool
) -> Iterable[Mistake]:
    for rule in rules.values():
        source, path = sources[rule.id]
        for number, cause in enumerate(rule.suppress_when):
            if complete and cause.rule not in rules:
                message = f"there is no rule {cause.rule}{did_you_mean(cause.rule, rules)}"
                yield source.mistake((*path, "suppress_when", number, "cause"), message)
    found = circle((rule.id, cause.rule) for rule in rules.values() for cause in rule.suppress_when)
    if found:
        source, path = sources[found[0]]
        yield source.mistake((*path, "suppress_when"), f"causes form a circle: {' → '.join([*found, found[0]])}")


def _taken_names(rules: Mapping[str, Rule], sources: Mapping[str, tuple[YamlSource, Path]]) -> Iterable[Mistake]:
    for rule in rules.values():
        owner = instrument_of(rule.id, rules)
        if owner is not None:
            source, path = sources[rule.id]
            yield source.mistake((*path, "rule"), f"that is the name of the instrument alarm of {owner}")


def _wrong_names(
    rules: Mapping[str, Rule], sources: Mapping[str, tuple[YamlSource, Path]], complete: bool
) -> Iterable[Mistake]:
    """Rules named by ``stands`` and ``shadow_of``."""
    asks: list[tuple[str, str]] = []
    for rule in rules.values():
        source, path = sources[rule.id]
        named = [part.rule for part in parts(rule.when) if isinstance(part, Stands)]
        asks += [(rule.id, other) for other in named]
        for other in (*named, *([rule.shadow_of] if rule.shadow_of is not None else [])):
            if complete and other not in rules:
                yield source.mistake(path, f"there is no rule {other}{did_you_mean(other, rules)}")
    found = circle(asks)
    if found:
        source, path = sources[found[0]]
        yield source.mistake(path, f"rules ask for one another in a circle: {' → '.join([*found, found[0]])}")
