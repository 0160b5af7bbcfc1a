"""Scenarios: a start, a city, a weather, and a timeline of what is done to it (``scenarios/*.yaml``).

```yaml
scenario: storm-20                       # as its file is called
title: {zh: 二十年一遇暴雨, en: A storm of twenty years}
start: 2025-07-20T17:00:00+08:00         # local time; also the time of the devices at --speed max
lasts: 5h
assets: 500
seed: 1
weather:
  mean: 26                               # °C; swing: between the coldest and the warmest hour
  swing: 8
  rain:
    - {at: "18:00", storm: {formula: jining, return_period: 20, lasts: 2h, peak: 0.4}}
    - {at: 4h, shower: {peak: 20, lasts: 20m}}
enable: [gas-leak]                       # rules that ship switched off
timeline:
  - {at: "18:05", do: feeder-loses-mains, asset: F03, for: 25m}
  - {at: 1h, do: lamp-fails, asset: {kind: lamp, pick: 3, apart: 40}, for: 2h}
  - {at: "18:30", do: cover-stolen, asset: {kind: manhole}, as: theft}
  - {at: "19:10", end: theft}
floor: {recall: 0.98, precision: 0.95, level_I_recall: 1}
```

Times are of the clock ("18:05", the first after the start) or since the start (1h5m). ``repeat: 20m`` plays the
timeline again and again, each time with other victims.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from simulators.acts import ACTS, Act
from simulators.city import DEMO_INTERVALS, FIELD_INTERVALS, LARGEST, SMALLEST
from simulators.weather import FORMULAS, ChicagoStorm, IntensityFormula, Shower, Storm, Weather

FOLDER = Path(__file__).parent / "scenarios"
FLOORS = ("recall", "precision", "level_I_recall", "false_alarms_max", "median_delay_over_rule_intervals_max")
LONGEST_S = 40 * 86_400.0
MOST_VICTIMS = 10_000

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


class ScenarioError(ValueError):
    """A scenario cannot be played; the text names the file and every mistake, a line each."""


def duration_s(text: object) -> float:
    """``90s``, ``5m``, ``1h30m``, ``2d``, or a number of seconds. Raises ValueError."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        if not 0 <= text < math.inf:
            raise ValueError(f"not a duration: {text!r}")
        return float(text)
    match = _DURATION.fullmatch(str(text).strip())
    if match is None or not match[0]:
        raise ValueError(f"not a duration: {text!r} (write 90s, 5m or 1h30m)")
    return sum(float(part or 0) * factor for part, factor in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


Duration = Annotated[float, BeforeValidator(duration_s), Field(ge=0, le=LONGEST_S)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Title(_Model):
    zh: str
    en: str


class FormulaModel(_Model):
    """q = 167·A1·(1 + C·lg P) ÷ (t + b)^n, L/(s·ha); ``source`` says where the coefficients are from."""

    a1: float
    c: float
    b: float
    n: float
    source: str
    verified: bool = False


class StormModel(_Model):
    """A design storm: a shipped formula by name, or one of your own."""

    formula: str | FormulaModel = "jining"
    return_period: Annotated[float, Field(gt=0, le=1000)]
    lasts: Duration = 7200.0
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.4

    @model_validator(mode="after")
    def _known(self) -> StormModel:
        if isinstance(self.formula, str) and self.formula not in FORMULAS:
            raise ValueError(f"no formula {self.formula!r}: {', '.join(FORMULAS)}")
        return self

    def made(self) -> Storm:
        if isinstance(self.formula, str):
            formula = FORMULAS[self.formula]
        else:
            given = self.formula
            formula = IntensityFormula(given.a1, given.c, given.b, given.n, given.source, given.verified)
        return ChicagoStorm(formula, self.return_period, self.lasts / 60, self.peak)


class ShowerModel(_Model):
    """``peak`` in mm/h."""

    peak: Annotated[float, Field(gt=0, le=600)]
    lasts: Duration

    def made(self) -> Storm:
        return Shower(self.peak, self.lasts)


class RainModel(_Model):
    at: str | float
    storm: StormModel | None = None
    shower: ShowerModel | None = None

    @model_validator(mode="after")
    def _one(self) -> RainModel:
        if (self.storm is None) == (self.shower is None):
            raise ValueError("say either `storm` or `shower`")
        return self


class WeatherModel(_Model):
    mean: float = 22.0
    swing: float = 8.0
    rain: tuple[RainModel, ...] = ()


class Choice(_Model):
    """Assets by what they are: ``pick`` of them by the seed, each at least ``apart`` places from the next in the list,
    ``where`` their links say so (`$name`: the victim of another act), none of ``but``. ``row``: so many neighbours."""

    kind: str | None = None
    pick: Annotated[int, Field(ge=1, le=MOST_VICTIMS)] = 1
    apart: Annotated[int, Field(ge=1)] = 1
    row: Annotated[int, Field(ge=1, le=100)] = 1
    where: Mapping[str, str] = {}
    but: tuple[str, ...] = ()
    profile: str | None = None


class Entry(BaseModel):
    """One line of the timeline; what is not a key of its own is a parameter of the act."""

    model_config = ConfigDict(extra="allow", frozen=True)

    at: str | float
    do: str | None = None
    end: str | None = None
    asset: str | Choice | None = None
    lasts: Annotated[Duration | None, Field(alias="for")] = None
    every: Duration | None = None
    until: str | float | None = None
    name: Annotated[str | None, Field(alias="as")] = None

    @model_validator(mode="after")
    def _act_or_end(self) -> Entry:
        if (self.do is None) == (self.end is None):
            raise ValueError("say either `do` or `end`")
        if self.do is None:
            for name in ("asset", "lasts", "every", "until", "name", *self.parameters):
                if getattr(self, name) is not None:
                    raise ValueError(f"`end` takes no {_KEYS.get(name, name)!r}")
            return self
        act = ACTS.get(self.do)
        if act is None:
            raise ValueError(f"nothing called {self.do!r} can be done: {', '.join(sorted(ACTS))}")
        for name, given in self.parameters.items():
            if name not in act.takes:
                raise ValueError(f"{self.do} takes no {name!r}: {', '.join(act.takes) or 'nothing'}")
            if isinstance(act.takes[name], float) and not _is_number(given):
                raise ValueError(f"{self.do}: {name} must be a number, not {given!r}")
        if isinstance(self.asset, Choice) and self.asset.kind and not act.kinds & {self.asset.kind, "*"}:
            raise ValueError(f"{self.do} befalls {' or '.join(sorted(act.kinds))}, not {self.asset.kind!r}")
        if (self.every is None) != (self.until is None):
            raise ValueError("`every` and `until` go together")
        if self.lasts is not None and act.end is None:
            raise ValueError(f"{self.do} is over at once: `for` makes no sense")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def act(self) -> Act:
        assert self.do is not None
        return ACTS[self.do]


_KEYS = {"lasts": "for", "name": "as"}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class Scenario(_Model):
    """A whole scenario, checked."""

    scenario: Name
    title: Title
    start: AwareDatetime
    lasts: Duration
    assets: Annotated[int, Field(ge=SMALLEST, le=LARGEST)] = 500
    seed: int = 1
    pace: Literal["field", "demo"] = "field"
    intervals: Mapping[str, Annotated[float, BeforeValidator(duration_s), Field(ge=1, le=86_400)]] = {}
    weather: WeatherModel = WeatherModel()
    enable: tuple[Name, ...] = ()
    timeline: tuple[Entry, ...] = ()
    repeat: Duration | None = None
    floor: Mapping[Literal[FLOORS], float] = {}  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _fits(self) -> Scenario:
        unknown = [kind for kind in self.intervals if kind not in FIELD_INTERVALS]
        if unknown:
            raise ValueError(f"intervals: no kind {unknown[0]!r}: {', '.join(FIELD_INTERVALS)}")
        for rain in self.weather.rain:
            self.second(rain.at)
        if self.repeat == 0:
            raise ValueError("repeat: must be longer than nothing")
        for number, entry in enumerate(self.timeline):
            try:
                at = self.second(entry.at)
                if entry.until is not None and self.second(entry.until) < at:
                    raise ValueError("`until` is before `at`")
            except ValueError as error:
                raise ValueError(f"timeline[{number}]: {error}") from None
            if at > self.lasts:
                raise ValueError(f"timeline[{number}]: begins when the scenario is over")
        named = {entry.name: self.second(entry.at) for entry in reversed(self.timeline) if entry.name is not None}
        for number, entry in enumerate(self.timeline):
            at = self.second(entry.at)
            for name in (*references(entry), *(() if entry.end is None else (entry.end,))):
                if name not in named or named[name] > at:
                    raise ValueError(f"timeline[{number}]: nothing that is done before it is called {name!r}")
        return self

    def second(self, at: str | float) -> float:
        """Seconds since the start. Raises ValueError."""
        match = _CLOCK.fullmatch(at.strip()) if isinstance(at, str) else None
        if match is None:
            return duration_s(at)
        hour, minute, second = (int(part or 0) for part in match.groups())
        moment = self.start.replace(hour=hour, minute=minute, second=second, microsecond=0)
        if moment < self.start:
            moment += timedelta(days=1)
        return (moment - self.start).total_seconds()

    @property
    def city_intervals(self) -> dict[str, int]:
        base = DEMO_INTERVALS if self.pace == "demo" else FIELD_INTERVALS
        return {**base, **{kind: round(seconds) for kind, seconds in self.intervals.items()}}

    def made_weather(self, start: datetime | None = None) -> Weather:
        begin = start or self.start
        events = []
        for rain in self.weather.rain:
            model = rain.storm or rain.shower
            assert model is not None
            events.append((self.second(rain.at), model.made()))
        midnight = -(begin.hour * 3600.0 + begin.minute * 60.0 + begin.second)
        return Weather(events, self.weather.mean, self.weather.swing, midnight)


def shipped_scenarios() -> list[str]:
    """Their names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_scenario(name: str) -> Scenario:
    """A shipped scenario by its name, or a file. Raises ScenarioError with every mistake."""
    path = Path(name)
    if not path.suffix:
        path = FOLDER / f"{name}.yaml"
        if not path.exists():
            raise ScenarioError(f"there is no scenario {name!r}: {', '.join(shipped_scenarios())}, or a file")
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > 1_000_000:
            raise ScenarioError(f"{name}: longer than a million characters")
        document = yaml.load(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{name}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ScenarioError(f"{name}: not YAML: {error}") from error
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        raise ScenarioError("\n".join(_mistakes(path.name, error))) from error


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's numbers of base 60: 18:05 is a time of the clock, quoted or not."""


_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"),
    "tag:yaml.org,2002:float": re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _regexp in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _regexp, list("-+.0123456789"))


def _mistakes(file: str, error: ValidationError) -> Iterator[str]:
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in one["loc"]).lstrip(".")
        yield f"{file}: {place}: {one['msg'].removeprefix('Value error, ')}" if place else f"{file}: {one['msg']}"


def references(entry: Entry) -> Sequence[str]:
    """Names of earlier acts (`$name`) that an entry speaks of."""
    choice = entry.asset
    if isinstance(choice, str):
        return [choice[1:]] if choice.startswith("$") else []
    if choice is None:
        return []
    return [text[1:] for text in (*choice.where.values(), *choice.but) if text.startswith("$")]
