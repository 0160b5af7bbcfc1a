"""Our facts of a case under the names that a platform uses, and its messages under ours: the compiled field map.

The map gives each fact one or more names of the platform's, nested ones too, and tables for its values; and the same
the other way round. Times, coordinates and language are as the platform wants them; inside everything is UTC, WGS-84
and our own words. Pure; ``config/case_fields.py`` reads the file, ``core/case_messages.py`` what comes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from gateway.core.case_facts import Facts, Language, Scalar, What, what_of
from gateway.core.case_match import Bounds
from gateway.core.cases import Pair
from gateway.core.civil import civil, micros
from gateway.core.gcj02 import to_gcj02
from gateway.core.model import Micros

Path = tuple[str, ...]  # of a nested name
Empty = Literal["omit", "null", "text"]

MAX_NUMBER = 100  # characters of a platform's own number, or of an id
_FURTHEST = 4_102_444_800  # 2100: a later time is milliseconds where seconds were meant, or nonsense


@dataclass(frozen=True, slots=True)
class TimeForm:
    """``form``: "iso", "unix" (seconds), "unix_ms", or one of ``strftime``; in the civil time of ``zone``."""

    form: str = "%Y-%m-%d %H:%M:%S"
    zone: str = "Asia/Shanghai"

    def write(self, at: Micros) -> str | int:
        match self.form:
            case "unix":
                return at // 1_000_000
            case "unix_ms":
                return at // 1_000
        local = civil(at, self.zone)
        return local.isoformat(timespec="seconds") if self.form == "iso" else local.strftime(self.form)

    def read(self, value: Any) -> Micros:
        """Raises ValueError for what is no such time."""
        if self.form in ("unix", "unix_ms"):
            seconds = float(value) / (1000 if self.form == "unix_ms" else 1)
            if not 0 <= seconds < _FURTHEST:
                raise ValueError(f"{value!r} is no time in {self.form}")
            return round(seconds * 1_000_000)
        text = str(value).strip()
        local = datetime.fromisoformat(text) if self.form == "iso" else datetime.strptime(text, self.form)
        if local.tzinfo is None:
            local = local.replace(tzinfo=ZoneInfo(self.zone))
        found = micros(local)
        if not 0 <= found < _FURTHEST * 1_000_000:
            raise ValueError(f"{text} is not a time of ours")
        return found


@dataclass(frozen=True, slots=True)
class Target:
    """One name of the platform's for the fact under ``path``. ``values``: what is sent for what we say; ``otherwise``:
    for what is not among these, where ``has_otherwise``, else it is sent as it is."""

    path: str
    name: Path
    values: Mapping[str, Scalar] = field(default_factory=dict)
    otherwise: Scalar = None
    has_otherwise: bool = False
    time: TimeForm | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """What the platform gets, in the order of the file. ``empty``: what becomes of a fact that is not there."""

    targets: tuple[Target, ...] = ()
    fixed: tuple[tuple[Path, Scalar], ...] = ()
    time: TimeForm = TimeForm()
    gcj02: bool = False
    language: Language = "zh"
    empty: Empty = "omit"


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the platform's number stands in what it answers. ``ok``: a name and the values that mean it has taken the
    case; many platforms say "no" with HTTP 200. ``message``: where it says why."""

    number: Path | None = None
    ok: tuple[Path, frozenset[str]] | None = None
    message: Path | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value stands in what the platform sends, and what its words mean."""

    name: Path
    values: Mapping[str, str | None] = field(default_factory=dict)
    time: TimeForm | None = None


@dataclass(frozen=True, slots=True)
class ClassOf:
    """What alarms of one of the platform's classes are."""

    kinds: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receiving:
    """What the platform sends: by its name for each of our fields. ``kind``: which message it is; None when there is
    only one kind. ``classes``: its classes of tickets."""

    id: Source | None = None
    kind: Source | None = None
    update: Mapping[str, Source] = field(default_factory=dict)
    ticket: Mapping[str, Source] = field(default_factory=dict)
    time: TimeForm = TimeForm()
    gcj02: bool = False
    classes: Mapping[str, ClassOf] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, slots=True)
class FieldMap:
    """The whole file."""

    title: Pair = ("", "")
    sending: Sending = Sending()
    answer: Answer = Answer()
    receiving: Receiving = Receiving()


# -- out --------------------------------------------------------------------------------------------------------------


def write(sending: Sending, known: Facts) -> dict[str, Any]:
    """The document for the platform."""
    document: dict[str, Any] = {}
    for target, value in _values(sending, known):
        if value is None or value == "":
            if sending.empty == "omit":
                continue
            value = None if sending.empty == "null" else ""
        _put(document, target, value)
    for name, value in sending.fixed:
        _put(document, name, value)
    return document


def columns(sending: Sending) -> list[str]:
    """The same names in a line, for a table."""
    return [".".join(name) for name in (*(t.name for t in sending.targets), *(name for name, _ in sending.fixed))]


def cells(sending: Sending, known: Facts) -> list[Scalar]:
    """What stands under ``columns``."""
    return [*(value for _, value in _values(sending, known)), *(value for _, value in sending.fixed)]


def _values(sending: Sending, known: Facts) -> list[tuple[Path, Scalar]]:
    known = known | _shifted(known, sending.gcj02)
    return [(target.name, _value(target, known.get(target.path), sending)) for target in sending.targets]


def _value(target: Target, value: Scalar, sending: Sending) -> Scalar:
    if value is not None and what_of(target.path) is What.TIME and isinstance(value, int):
        return (target.time or sending.time).write(value)
    if target.values or target.has_otherwise:
        said = word_of(value)
        if said in target.values:
            return target.values[said]
        if target.has_otherwise:
            return target.otherwise
    return value


def _shifted(known: Facts, gcj02: bool) -> Facts:
    longitude, latitude = known.get("asset.longitude"), known.get("asset.latitude")
    if not isinstance(longitude, (int, float)) or not isinstance(latitude, (int, float)):
        return {}
    if gcj02:
        longitude, latitude = to_gcj02(longitude, latitude)
    longitude, latitude = round(longitude, 7), round(latitude, 7)  # a centimetre
    return {
        "asset.longitude": longitude,
        "asset.latitude": latitude,
        "asset.coordinates": f"{longitude:.7f},{latitude:.7f}",
    }


def _put(document: dict[str, Any], name: Path, value: Scalar) -> None:
    for part in name[:-1]:
        document = document.setdefault(part, {})
    document[name[-1]] = value


def word_of(value: Any) -> str:
    """A value as a key of a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return "" if value is None else str(value)


# -- what it answers --------------------------------------------------------------------------------------------------


def read_answer(answer: Answer, body: bytes) -> tuple[str | None, str | None]:
    """(the platform's number of the case, why it has not taken it). Without a word about either, it has taken it."""
    document = _decoded(body)
    number = text_of(value_at(document, answer.number), MAX_NUMBER) if answer.number is not None else ""
    if answer.ok is None:
        return number or None, None
    name, good = answer.ok
    said = word_of(value_at(document, name))
    if said in good:
        return number or None, None
    message = text_of(value_at(document, answer.message), 200) if answer.message is not None else ""
    return None, f"{'.'.join(name)} = {said or 'nothing'}" + (f": {message}" if message else "")


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def value_at(document: Any, name: Path | None) -> Any:
    for part in name or ():
        if isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        elif isinstance(document, dict):
            document = document.get(part)
        else:
            return None
    return document


def text_of(value: Any, most: int) -> str:
    """One line of at most ``most`` characters, whatever it was; nothing of what is no scalar."""
    if not isinstance(value, (str, int, float, bool)):
        return ""
    text = "".join(c if c.isprintable() else " " for c in word_of(value)[: 4 * most])
    return " ".join(text.split())[:most]
