"""The field map of a case platform: YAML → checked and compiled, with every mistake at once, its line and the nearest
name that exists. How it is written: docs/cases.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.config.rule_models import DurationField, TextField, TextModel
from gateway.config.shipped import read_text
from gateway.config.units import quantity
from gateway.config.yaml_source import Path, YamlSource, checked, did_you_mean, read_yaml
from gateway.core.case_facts import ATTRIBUTE, NEEDED, PATHS, What, what_of
from gateway.core.case_fields import (
    Answer,
    ClassOf,
    Empty,
    FieldMap,
    Receiving,
    Sending,
    Source,
    Target,
    TimeForm,
)
from gateway.core.case_match import Bounds
from gateway.core.cases import CaseStatus
from gateway.core.model import HOUR
from gateway.core.vocabulary import KINDS
from gateway.errors import ConfigError, Mistake

DEFAULT = FilePath(__file__).with_name("case_fields.yaml")

MAX_FIELDS = 300
MAX_CLASSES = 2000
MAX_DEPTH = 8  # of a nested name
FURTHEST_M = 2000.0
LONGEST = 7 * 24 * HOUR

STATUSES = tuple(status.value for status in CaseStatus if status is not CaseStatus.OPENING)
UPDATE = ("key", "number", "status", "at", "by", "text")
TICKET = ("number", "class", "status", "text", "place", "road", "longitude", "latitude", "coordinates", "at")
FORMS = ("iso", "unix", "unix_ms")

# What both strftime and strptime understand the same on every machine.
_FORM = re.compile(r"(?:%[YmdHMSfzyjT]|[^%])+")

Model = TypeVar("Model", bound=BaseModel)


def _keys_as_text(value: Any) -> Any:
    """YAML's 1 and true are words of a table like any other."""
    if not isinstance(value, Mapping):
        return value
    return {("true" if k is True else "false" if k is False else str(k)): v for k, v in value.items()}


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Word = str | int | float | bool | None
Table = Annotated[dict[str, Word], BeforeValidator(_keys_as_text), Field(max_length=2000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
NameList = Annotated[list[Name], BeforeValidator(_names), Field(max_length=50)]
Coordinates = Literal["wgs84", "gcj02"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TimeModel(_Part):
    format: str = TimeForm().form
    zone: str = TimeForm().zone


class TargetModel(_Part):
    name: Name
    values: Table = {}
    otherwise: Word = None
    time: TimeModel | None = None


class SendModel(_Part):
    language: Literal["zh", "en"] = "zh"
    coordinates: Coordinates = "wgs84"
    time: TimeModel = TimeModel()
    empty: Empty = "omit"
    fields: Annotated[dict[str, Any], Field(max_length=MAX_FIELDS)]
    fixed: Annotated[dict[str, Word], Field(max_length=MAX_FIELDS)] = {}


class OkModel(_Part):
    name: Name
    values: Annotated[list[Word], Field(min_length=1, max_length=50)]


class AnswerModel(_Part):
    number: Name | None = None
    ok: OkModel | None = None
    message: Name | None = None


class SourceModel(_Part):
    name: Name
    values: Table = {}
    time: TimeModel | None = None


class ClassModel(_Part):
    kinds: NameList = []
    rules: NameList = []


class MatchModel(_Part):
    distance: str | int | float = "150 m"
    within: DurationField = Bounds().within
    recent: DurationField = Bounds().recent


class ReceiveModel(_Part):
    coordinates: Coordinates = "wgs84"
    time: TimeModel = TimeModel()
    id: Any = None
    type: Any = None
    update: dict[str, Any] = {}
    ticket: dict[str, Any] = {}
    classes: Annotated[dict[str, Any], BeforeValidator(_keys_as_text), Field(max_length=MAX_CLASSES)] = {}
    match: MatchModel = MatchModel()


class FileModel(_Part):
    title: TextField = TextModel()
    send: Any
    answer: AnswerModel = AnswerModel()
    receive: Any = None


def read_case_fields(file: FilePath | None, rules: Iterable[str] | None = None) -> FieldMap:
    """The map in ``file``, or the shipped one. ``rules``: the names there are, where they are known. Raises
    ConfigError."""
    path = DEFAULT if file is None else file
    return load_case_fields(read_text(path), str(path), rules)


def load_case_fields(text: str, file: str, rules: Iterable[str] | None = None) -> FieldMap:
    """Raises ConfigError with every mistake."""
    reader = _Reader(read_yaml(text, file), None if rules is None else tuple(rules))
    found = reader.map()
    if found is None or reader.mistakes:
        raise ConfigError(reader.mistakes)
    return found


class _Reader:
    """Gathers mistakes and goes on."""

    def __init__(self, source: YamlSource, rules: Sequence[str] | None) -> None:
        self.source = source
        self.rules = rules
        self.mistakes: list[Mistake] = []

    def say(self, path: Path, message: str) -> None:
        self.mistakes.append(self.source.mistake(path, message))

    def read(self, model: type[Model], data: Any, path: Path) -> Model | None:
        if not isinstance(data, dict):
            self.say(path, f"must be a mapping of {', '.join(model.model_fields)}")
            return None
        try:
            return checked(model, self.source, data, path)
        except ConfigError as error:
            self.mistakes += error.mistakes
            return None

    def map(self) -> FieldMap | None:
        top = self.read(FileModel, self.source.data, ())
        if top is None:
            return None
        sending = self._sending(top.send)
        receiving = Receiving() if top.receive is None else self._receiving(top.receive)
        answer = self._answer(top.answer)
        title = (top.title.zh or top.title.en, top.title.en or top.title.zh)
        return None if sending is None or receiving is None else FieldMap(title, sending, answer, receiving)

    # -- out ----------------------------------------------------------------------------------------------------------

    def _sending(self, data: Any) -> Sending | None:
        model = self.read(SendModel, data, ("send",))
        if model is None:
            return None
        targets: list[Target] = []
        taken: dict[tuple[str, ...], Path] = {}
        for path, given in model.fields.items():
            here: Path = ("send", "fields", path)
            if what_of(path) is None:
                self.say(here, f"there is no fact {path}{did_you_mean(path, [*PATHS, ATTRIBUTE])}")
                continue
            for number, one in enumerate(given if isinstance(given, list) else [given]):
                at = (*here, number) if isinstance(given, list) else here
                target = self._target(path, one, at)
                if target is not None and self._free(target.name, at, taken):
                    targets.append(target)
        fixed = []
        for text, value in model.fixed.items():
            here = ("send", "fixed", text)
            name = self._name(text, here)
            if name is not None and self._free(name, here, taken):
                fixed.append((name, value))
        for needed in NEEDED:
            if needed not in model.fields:
                self.say(("send", "fields"), f"`{needed}` must have a name: {PATHS[needed][2]}")
        time = self._time(model.time, ("send", "time"))
        return Sending(
            tuple(targets), tuple(fixed), time, model.coordinates == "gcj02", model.language, model.empty
        )  # fmt: skip

    def _target(self, path: str, given: Any, here: Path) -> Target | None:
        """A name, or a mapping with more."""
        model = (
            TargetModel.model_construct(name=given) if isinstance(given, str) else self.read(TargetModel, given, here)
        )
        name = self._name(model.name, here) if model is not None else None
        if model is None or name is None:
            return None
        is_time = what_of(path) is What.TIME
        if model.time is not None and not is_time:
            self.say((*here, "time"), f"`{path}` is no time")
        if is_time and (model.values or "otherwise" in model.model_fields_set):
            self.say(here, f"`{path}` is a time: it has a format, no values")
        time = self._time(model.time, (*here, "time")) if model.time is not None else None
        return Target(path, name, dict(model.values), model.otherwise, "otherwise" in model.model_fields_set, time)

    def _free(self, name: tuple[str, ...], here: Path, taken: dict[tuple[str, ...], Path]) -> bool:
        """No two facts under one name, and no fact where others are nested."""
        for other in taken:
            shorter = min(len(name), len(other))
            if name[:shorter] == other[:shorter]:
                said = "this name is given twice" if name == other else "one of these would hide the other"
                self.say(
                    here, f"{'.'.join(name)}: {said} ({'.'.join(other)} stands in line {self._line(taken[other])})"
                )
                return False
        taken[name] = here
        return True

    def _line(self, path: Path) -> int | None:
        return self.source.line(path)

    def _answer(self, model: AnswerModel) -> Answer:
        here: Path = ("answer",)
        ok = None
        if model.ok is not None:
            name = self._name(model.ok.name, (*here, "ok", "name"))
            ok = None if name is None else (name, frozenset(_word(value) for value in model.ok.values))
        return Answer(
            None if model.number is None else self._name(model.number, (*here, "number")),
            ok,
            None if model.message is None else self._name(model.message, (*here, "message")),
        )

    # -- in -----------------------------------------------------------------------------------------------------------

    def _receiving(self, data: Any) -> Receiving | None:
        model = self.read(ReceiveModel, data, ("receive",))
        if model is None:
            return None
        here: Path = ("receive",)
        update = self._fields(model.update, UPDATE, (*here, "update"))
        ticket = self._fields(model.ticket, TICKET, (*here, "ticket"))
        self._statuses(update.get("status"), (*here, "update", "status", "values"))
        if not update and not ticket:
            self.say(here, "say what comes in: `update`, `ticket`, or both")
        if update and not ("key" in update or "number" in update):
            self.say((*here, "update"), "the case must be named: `key` (ours) or `number` (theirs)")
        if ticket and "number" not in ticket:
            self.say((*here, "ticket"), "`number` is missing")
        if ("longitude" in ticket) is not ("latitude" in ticket):
            self.say((*here, "ticket"), "`longitude` and `latitude` come together")
        classes = {
            name: found for name, given in model.classes.items() if (found := self._class(name, given)) is not None
        }
        if ticket and not classes:
            self.say((*here, "classes"), "without classes no ticket is ever about an alarm")
        return Receiving(
            self._source(model.id, (*here, "id")) if model.id is not None else None,
            self._kind(model.type, bool(update and ticket), (*here, "type")),
            update,
            ticket,
            self._time(model.time, (*here, "time")),
            model.coordinates == "gcj02",
            classes,
            self._bounds(model.match, (*here, "match")),
        )

    def _fields(self, given: dict[str, Any], known: Sequence[str], path: Path) -> dict[str, Source]:
        found: dict[str, Source] = {}
        for key, value in given.items():
            here = (*path, str(key))
            if key not in known:
                self.say(here, f"no such field{did_you_mean(str(key), known)} ({', '.join(known)})")
                continue
            source = self._source(value, here, is_time=key == "at", has_values=key == "status")
            if source is not None:
                found[key] = source
        return found

    def _source(self, given: Any, here: Path, *, is_time: bool = False, has_values: bool = False) -> Source | None:
        model = (
            SourceModel.model_construct(name=given) if isinstance(given, str) else self.read(SourceModel, given, here)
        )
        name = self._name(model.name, here) if model is not None else None
        if model is None or name is None:
            return None
        if model.values and not has_values:
            self.say((*here, "values"), "there is no table for this: it is kept as it is said")
        if model.time is not None and not is_time:
            self.say((*here, "time"), "this is no time")
        values = {word: None if value is None else str(value) for word, value in model.values.items()}
        return Source(name, values, None if model.time is None else self._time(model.time, (*here, "time")))

    def _kind(self, given: Any, needed: bool, here: Path) -> Source | None:
        if given is None:
            if needed:
                self.say(
                    here[:-1], "`type` must tell an update from a ticket: {name: …, values: {…: update, …: ticket}}"
                )
            return None
        source = self._source(given, here, has_values=True)
        if source is None:
            return None
        for word, meant in source.values.items():
            if meant not in ("update", "ticket"):
                self.say((*here, "values", word), f"{meant} is neither update nor ticket")
        if not source.values:
            self.say(here, "`values` must say which word is an update and which a ticket")
        return source

    def _statuses(self, source: Source | None, path: Path) -> None:
        for word, meant in (source.values if source is not None else {}).items():
            if meant is not None and meant not in STATUSES:
                self.say(
                    (*path, word), f"there is no status {meant}{did_you_mean(meant, STATUSES)} ({', '.join(STATUSES)})"
                )

    def _class(self, name: str, given: Any) -> ClassOf | None:
        here: Path = ("receive", "classes", name)
        model = self.read(ClassModel, given, here)
        if model is None:
            return None
        if not model.kinds and not model.rules:
            self.say(here, "say which `kinds` or `rules` alarms of this class are of")
        for kind in model.kinds:
            if kind not in KINDS:
                self.say((*here, "kinds"), f"there is no kind {kind}{did_you_mean(kind, KINDS)}")
        for pattern in model.rules:
            if self.rules is not None and not any(fnmatchcase(rule, pattern) for rule in self.rules):
                self.say((*here, "rules"), f"there is no rule {pattern}{did_you_mean(pattern, self.rules)}")
        return ClassOf(tuple(model.kinds), tuple(model.rules))

    def _bounds(self, model: MatchModel, here: Path) -> Bounds:
        try:
            metres = quantity(model.distance, "m")
        except ValueError as error:
            self.say((*here, "distance"), str(error))
            return Bounds()
        if not 0 < metres <= FURTHEST_M:
            self.say((*here, "distance"), f"between 1 m and {FURTHEST_M:g} m")
        for name, length in (("within", model.within), ("recent", model.recent)):
            if not 0 < length <= LONGEST:
                self.say((*here, name), "between 1s and 7d")
        return Bounds(metres, model.within, model.recent)

    # -- both ---------------------------------------------------------------------------------------------------------

    def _name(self, text: str, here: Path) -> tuple[str, ...] | None:
        """``data.position.x`` → its parts."""
        parts = tuple(text.split("."))
        if not 1 <= len(parts) <= MAX_DEPTH or not all(part.strip() == part and part for part in parts):
            self.say(here, f"{text!r} is not a name: words, nested by dots, at most {MAX_DEPTH} deep")
            return None
        return parts

    def _time(self, model: TimeModel, here: Path) -> TimeForm:
        if model.format not in FORMS and not (_FORM.fullmatch(model.format) and "%" in model.format):
            known = "%Y-%m-%d %H:%M:%S"
            self.say((*here, "format"), f"not a format: {model.format!r} (iso, unix, unix_ms, or such as {known!r})")
        try:
            zone = ZoneInfo(model.zone).key
        except (ValueError, LookupError, OSError):
            self.say((*here, "zone"), f"no such time zone: {model.zone!r} (write Asia/Shanghai)")
            zone = TimeForm().zone
        return TimeForm(model.format, zone)


def _word(value: Word) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
