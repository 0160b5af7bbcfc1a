"""One rule as a file has it → a checked, frozen rule: every name looked up, every number in the unit of its point.

A reader gathers mistakes and goes on, so that one run shows them all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import time
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.config.assets import ASSET_KINDS, ATTRIBUTE_UNITS, LINKS
from gateway.config.rule_models import (
    BadModel,
    DeviationModel,
    ExprModel,
    FactorBodyModel,
    FrozenModel,
    IsModel,
    LeafModel,
    LimitBodyModel,
    LimitModel,
    NumberBodyModel,
    OutsideModel,
    RateModel,
    RuleModel,
    ScheduleModel,
    ShareModel,
    SilentBodyModel,
    SilentModel,
    StandardModel,
    StandsBodyModel,
    StandsModel,
    TextModel,
    WindowBodyModel,
    WindowModel,
)
from gateway.config.units import convert, duration, quantity
from gateway.config.yaml_source import Path, YamlSource, checked, did_you_mean
from gateway.core.expression import names_of
from gateway.core.model import Level
from gateway.core.points import WINDOW_ROOM
from gateway.core.rule import (
    DEFAULT_LEVEL,
    ZERO,
    All,
    Bad,
    Cause,
    Chatter,
    Condition,
    Deviation,
    Expression,
    Frozen,
    Is,
    Limit,
    Not,
    Number,
    OnBadData,
    Outside,
    Over,
    PointFactor,
    Pumps,
    Realarm,
    Rule,
    Share,
    Side,
    Silent,
    Sla,
    Standard,
    Stands,
    Step,
    Window,
    parts,
    steps,
)
from gateway.core.rule import Any as AnyOf
from gateway.core.schedule import LIANGSHAN, Moment, Place, Schedule, Span
from gateway.core.vocabulary import COMMON, points_of, unit_of
from gateway.errors import ConfigError, Mistake

RULE_KINDS: tuple[str, ...] = (*ASSET_KINDS, "gateway")
MAX_DEPTH = 8  # of all / any / not: what nobody can read, nobody can check

# Deadband where the rule names none, as a share of the limit: ISA-18.2 and EEMUA 191 (secondary sources) propose 5 %
# for level and flow, 2 % for pressure, 1 % for temperature.
DEADBANDS: dict[str, float] = {"m": 0.05, "cm": 0.05, "mm": 0.05, "m³/h": 0.05, "m/s": 0.05, "°C": 0.01}
DEFAULT_DEADBAND = 0.02

_LEAVES = (
    "above", "below", "outside", "is", "rate", "silent", "share", "window", "frozen", "deviation", "stands", "bad",
    "expr",
)  # fmt: skip
_COMBINATIONS = ("all", "any", "not", "any_pump", "every_pump")
_SEASON = re.compile(r"(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOMENT = re.compile(r"(?:(\d\d):(\d\d)(?::(\d\d))?|(sunrise|sunset)(?:\s*([+-])\s*(\S+))?)")
_RULE_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

Model = TypeVar("Model", bound=BaseModel)


class RuleReader:
    """Reads one rule; gathers its mistakes."""

    def __init__(self, source: YamlSource, path: Path) -> None:
        self.source = source
        self.path = path
        self.mistakes: list[Mistake] = []
        self.kinds: tuple[str, ...] = ()
        self.level: Level | None = None

    def say(self, path: Path, message: str) -> None:
        self.mistakes.append(self.source.mistake(path, message))

    def read(self, model: type[Model], data: Any, path: Path) -> Model | None:
        try:
            return checked(model, self.source, data, path)
        except ConfigError as error:
            self.mistakes += error.mistakes
            return None

    # -- the rule -----------------------------------------------------------------------------------------------------

    def rule(self, data: Any) -> Rule | None:
        path = self.path
        if not isinstance(data, dict):
            self.say(path, "a rule is a mapping: `rule: name`, `applies_to`, `when`, …")
            return None
        model = self.read(RuleModel, data, path)
        if model is None:
            # The conditions can be checked all the same, so that one run shows every mistake.
            self._kinds_of(data.get("applies_to"), path)
            if self.kinds and "when" in data:
                self.condition(data["when"], (*path, "when"))
            return None
        if not _RULE_ID.fullmatch(model.rule):
            self.say((*path, "rule"), f"{model.rule!r} is not a rule name (small letters, digits and hyphens)")
        self._kinds_of(data["applies_to"], path)
        self.level = model.level
        when = self.condition(model.when, (*path, "when"))
        clear = self.condition(model.clear_when, (*path, "clear_when")) if model.clear_when is not None else None
        if clear is not None and any(step.level is not None for step in steps(clear)):
            self.say((*path, "clear_when"), "`clear_when` has no levels")
        for number, cause in enumerate(model.suppress_when):
            self._link(cause.link, (*path, "suppress_when", number, "link"))
        if model.on_bad_data is OnBadData.ASSUME_NORMAL and not model.bad_data_reason:
            self.say((*path, "on_bad_data"), "assume_normal needs a written `bad_data_reason`")
        if when is not None and model.event:
            self._check_event(model, when)
        if model.shadow_of is not None and not model.shadow:
            self.say((*path, "shadow_of"), "only a rule with `shadow: true` is compared with another")
        if model.standard is not None:
            self._check_standard(model.standard, (*path, "standard"))
        schedule = self._schedule(model.schedule, (*path, "schedule"))
        if when is None or self.mistakes:
            return None
        responds = bool(model.response.zh or model.response.en)
        return Rule(
            id=model.rule,
            kinds=self.kinds,
            when=when,
            title_zh=model.title.zh or model.title.en or model.rule,
            title_en=model.title.en or model.rule,
            profile=model.applies_to.profile,
            attributes=tuple(sorted(model.applies_to.attributes.items())),
            enabled=model.enabled,
            level=model.level or DEFAULT_LEVEL,
            on_delay=model.on_delay.time or 0,
            on_readings=model.on_delay.readings,
            off_delay=model.off_delay,
            clear_when=clear,
            event=model.event,
            latch=model.latch,
            ack_required=responds if model.ack_required is None else model.ack_required,
            on_bad_data=model.on_bad_data,
            bad_data_reason=model.bad_data_reason,
            suppress_when=tuple(Cause(cause.cause, cause.link) for cause in model.suppress_when),
            settle=model.settle,
            max_time_shelved=model.max_time_shelved,
            consequence=model.consequence,
            response_zh=model.response.zh,
            response_en=model.response.en,
            notify=tuple(model.notify),
            sla=Sla(model.sla.respond, model.sla.resolve, model.sla.clock) if model.sla is not None else None,
            case=model.case,
            standard=_standard(model.standard) if model.standard is not None else None,
            schedule=schedule,
            realarm=Realarm(model.realarm.after, model.realarm.times) if model.realarm is not None else None,
            chatter=Chatter(model.chatter.activations, model.chatter.within),
            confirm=model.confirm,
            shadow=model.shadow,
            shadow_of=model.shadow_of,
            source=model.source,
            file=self.source.file,
            line=self.source.line(path),
        )

    def _kinds_of(self, applies_to: Any, path: Path) -> None:
        kind = applies_to.get("kind") if isinstance(applies_to, dict) else None
        named = kind if isinstance(kind, list) else [kind]
        for name in named:
            if isinstance(name, str) and name not in RULE_KINDS:
                self.say((*path, "applies_to", "kind"), f"there is no kind {name}{did_you_mean(name, RULE_KINDS)}")
        self.kinds = tuple(name for name in named if isinstance(name, str) and name in RULE_KINDS)

    def _check_event(self, model: RuleModel, when: Condition) -> None:
        if not isinstance(when, (Limit, Is, Outside)):
            self.say((*self.path, "event"), "an event is a condition on one point")
        delayed = model.on_delay.time or model.on_delay.readings > 1 or any(step.on_delay for step in steps(when))
        if delayed or model.off_delay or model.clear_when is not None:
            self.say((*self.path, "event"), "an event without a return has no delays and no `clear_when`")

    def _check_standard(self, model: StandardModel, path: Path) -> None:
        for name in ("opened_when", "closed_when", "supervised_by", "responsible"):
            if not any(text.strip() for text in _both(getattr(model, name))):
                self.say((*path, name), "must say something")

    # -- conditions ---------------------------------------------------------------------------------------------------

    def condition(self, data: Any, path: Path, depth: int = 0) -> Condition | None:
        if depth > MAX_DEPTH:
            self.say(path, f"conditions are nested deeper than {MAX_DEPTH} levels")
            return None
        if not isinstance(data, dict):
            self.say(path, "a condition is a mapping, such as {point: depth, above: 5 cm}")
            return None
        said = [key for key in (*_LEAVES, *_COMBINATIONS) if key in data]
        if len(said) != 1:
            self._which(data, said, path)
            return None
        match said[0]:
            case "above" | "below":
                return self._limit(data, path)
            case "outside":
                return self._outside(data, path)
            case "is":
                return self._is(data, path)
            case "rate":
                return self._rate(data, path)
            case "silent":
                return self._silent(data, path)
            case "share":
                return self._share(data, path, depth)
            case "window":
                return self._window(data, path)
            case "frozen":
                return self._frozen(data, path)
            case "deviation":
                return self._deviation(data, path)
            case "stands":
                return self._stands(data, path)
            case "bad":
                return self._bad(data, path)
            case "expr":
                return self._expr(data, path)
            case combination:
                return self._combined(combination, data, path, depth)

    def _which(self, data: Mapping[str, Any], said: list[str], path: Path) -> None:
        if said:
            self.say(path, f"`{said[0]}` and `{said[1]}` in one condition: combine two with `all` or `any`")
            return
        known = (*_LEAVES, *_COMBINATIONS)
        if isinstance(data.get("point"), str):
            self._point(data["point"], (*path, "point"))
        for key in data:
            near = did_you_mean(str(key), known)
            if near and key not in LimitModel.model_fields:
                self.say((*path, key), f"no such condition{near}")
                return
        self.say(path, f"what must be true? Say one of {', '.join(known)}")

    def _combined(self, kind: str, data: Mapping[str, Any], path: Path, depth: int) -> Condition | None:
        for key in data:
            if key != kind:
                self.say((*path, key), f"beside `{kind}` there can be no `{key}`; put it inside")
                return None
        inner = data[kind]
        here = (*path, kind)
        if kind in ("not", "any_pump", "every_pump"):
            part = self.condition(inner, here, depth + 1)
            if part is None:
                return None
            if kind == "not":
                if any(step.level is not None for step in steps(part)):
                    self.say(here, "there are no levels inside `not`")
                return Not(part)
            return Pumps(part, kind == "every_pump")
        if not isinstance(inner, list) or not inner:
            self.say(here, f"`{kind}` is a list of conditions")
            return None
        read = [self.condition(item, (*here, i), depth + 1) for i, item in enumerate(inner)]
        found = [part for part in read if part is not None]
        if len(found) != len(read):
            return None
        return All(tuple(found)) if kind == "all" else AnyOf(tuple(self._levelled(found, here)))

    def _levelled(self, branches: list[Condition], path: Path) -> list[Condition]:
        """Of the branches of an ``any``, either all have levels or none: one without takes the level of the rule."""
        with_levels = [any(step.level is not None for step in steps(branch)) for branch in branches]
        if not any(with_levels) or all(with_levels):
            return branches
        if self.level is None:
            self.say(path, "some branches have a level and some have none: give the rule a `level` for these")
            return branches
        levelled: list[Condition] = []
        for branch, has_level in zip(branches, with_levels, strict=True):
            found = branch if has_level else _at_level(branch, self.level)
            if found is None:
                self.say(path, "a `not` beside branches with levels must stand in an `all` with something positive")
            levelled.append(found or branch)
        return levelled

    def _limit(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(LimitModel, data, path)
        if model is None:
            return None
        unit = self._point(model.point, (*path, "point"))
        side = Side.ABOVE if model.above is not None else Side.BELOW
        factors = self._factors(model.of, (*path, "of")) if model.of is not None else None
        if unit is None or (model.of is not None and factors is None):
            return None
        raw = model.above if side is Side.ABOVE else model.below
        found = self._steps(raw, (*path, side.value), unit, side, model, factors)
        if not found:
            return None
        deadband = self._deadband(model.deadband, path, unit, found, factors)
        inclusive = side is Side.ABOVE if model.inclusive is None else model.inclusive
        return Limit(model.point, side, found, deadband, inclusive, None, unit, model.absent)

    def _rate(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(RateModel, data, path)
        if model is None:
            return None
        unit = self._point(model.point, (*path, "point"))
        body, here = model.rate, (*path, "rate")
        side = self._side(body.above, body.below, here)
        if unit is None or side is None:
            return None
        raw = body.above if side is Side.ABOVE else body.below
        found = self._steps(raw, (*here, side.value), unit, side, model, None)
        if not found:
            return None
        if body.over <= 0:
            self.say((*here, "over"), "the time must be longer than nothing")
        deadband = self._deadband(body.deadband, here, unit, found, None)
        inclusive = side is Side.ABOVE if body.inclusive is None else body.inclusive
        return Limit(model.point, side, found, deadband, inclusive, body.over, unit)

    def _outside(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(OutsideModel, data, path)
        if model is None:
            return None
        unit = self._point(model.point, (*path, "point"))
        band, here = model.outside, (*path, "outside")
        if not isinstance(band, list) or len(band) != 2:
            self.say(here, "the good band is a list of two limits: [198 V, 231 V]")
            return None
        if unit is None:
            return None
        low, high = (self._number(end, (*here, i), unit, None) for i, end in enumerate(band))
        if low is None or high is None:
            return None
        if _plain(low) and _plain(high) and low.factor >= high.factor:
            self.say(here, "the first limit must be lower than the second")
            return None
        deadband = self._deadband(model.deadband, path, unit, (Step(low), Step(high)), None)
        return Outside(model.point, low, high, _step(model), deadband, unit, model.absent)

    def _is(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(IsModel, data, path)
        if model is None:
            return None
        if self._point(model.point, (*path, "point")) is None:
            return None
        wanted = model.wanted if isinstance(model.wanted, list) else [model.wanted]
        if not wanted or not all(isinstance(value, (str, int, float, bool)) for value in wanted):
            self.say((*path, "is"), "a state, a code, true or false, or a list of these")
            return None
        return Is(model.point, tuple(wanted), _step(model), model.absent)

    def _silent(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(SilentModel, data, path)
        if model is None:
            return None
        if model.point is not None and self._point(model.point, (*path, "point")) is None:
            return None
        raw = model.silent if isinstance(model.silent, dict) else {"intervals": model.silent}
        body = self.read(SilentBodyModel, raw, (*path, "silent"))
        return None if body is None else Silent(body.intervals, body.plus, model.point, _step(model))

    def _share(self, data: Mapping[str, Any], path: Path, depth: int) -> Condition | None:
        model = self.read(ShareModel, data, path)
        if model is None:
            return None
        body, here = model.share, (*path, "share")
        if body.of not in ASSET_KINDS:
            self.say((*here, "of"), f"there is no kind {body.of}{did_you_mean(body.of, ASSET_KINDS)}")
            return None
        self._link(body.link, (*here, "link"))
        side = self._side(body.above, body.below, here)
        outer, self.kinds = self.kinds, (body.of,)
        where = self.condition(body.where, (*here, "where"), depth + 1)
        self.kinds = outer
        if side is None or where is None:
            return None
        if any(isinstance(part, Share) for part in parts(where)):
            self.say((*here, "where"), "a share cannot be counted inside a share")
            return None
        raw = body.above if side is Side.ABOVE else body.below
        found = self._steps(raw, (*here, side.value), "%", side, model, None)
        if not found:
            return None
        deadband = self._deadband(body.deadband, here, "%", found, None)
        inclusive = side is Side.ABOVE if body.inclusive is None else body.inclusive
        return Share(body.of, body.link, where, side, found, deadband, inclusive, body.least)

    def _window(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(WindowModel, data, path)
        if model is None:
            return None
        unit = self._point(model.point, (*path, "point"))
        body, here = model.window, (*path, "window")
        side = self._side(body.above, body.below, here)
        if unit is None or side is None:
            return None
        if body.over <= 0:
            self.say((*here, "over"), "the time must be longer than nothing")
        shown = "" if body.function in (Over.COUNT, Over.CHANGES) else unit
        raw = body.above if side is Side.ABOVE else body.below
        found = self._steps(raw, (*here, side.value), shown, side, model, None)
        if not found:
            return None
        deadband = self._deadband(body.deadband, here, shown, found, None)
        inclusive = side is Side.ABOVE if body.inclusive is None else body.inclusive
        counting = None
        if body.counting is not None:
            counting = self._counting(body, (*here, "counting"), unit, found)
            if counting is None:
                return None
        return Window(model.point, body.function, body.over, side, found, deadband, inclusive, shown, counting)

    def _counting(
        self, body: WindowBodyModel, path: Path, unit: str, found: tuple[Step, ...]
    ) -> tuple[Side, Number] | None:
        """``counting: {above: 55 t}``: beyond which limit a reading counts."""
        wanted = body.counting
        if wanted is None or body.function is not Over.COUNT:
            self.say(path, "only `function: count` counts the readings beyond a limit")
            return None
        if any(abs(step.limit.factor) >= WINDOW_ROOM for step in found):
            self.say(path[:-1], f"a window counts up to {WINDOW_ROOM}")
            return None
        side = self._side(wanted.above, wanted.below, path)
        if side is None:
            return None
        raw = wanted.above if side is Side.ABOVE else wanted.below
        limit = self._number(raw, (*path, side.value), unit, None)
        return None if limit is None else (side, limit)

    def _frozen(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(FrozenModel, data, path)
        if model is None:
            return None
        unit = self._point(model.point, (*path, "point"))
        body, here = model.frozen, (*path, "frozen")
        self._link(body.link, (*here, "link"))
        if body.over <= 0:
            self.say((*here, "over"), "the time must be longer than nothing")
        if unit is None:
            return None
        try:
            change = quantity(body.change, unit)
            moved = quantity(body.moved, unit) if body.moved is not None else change
        except ValueError as error:
            self.say(here, str(error))
            return None
        return Frozen(model.point, body.over, change, body.link, moved, _step(model), unit)

    def _deviation(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        """``from``: {attribute: …}, {point: …}, {neighbours: link}, or a number."""
        model = self.read(DeviationModel, data, path)
        if model is None:
            return None
        unit = self._point(model.point, (*path, "point"))
        body, here = model.deviation, (*path, "deviation")
        if unit is None:
            return None
        number = other = link = None
        given = body.from_
        if isinstance(given, dict) and set(given) == {"point"} and isinstance(given["point"], str):
            other = given["point"]
            unit_of_other = self._point(other, (*here, "from", "point"))
            if unit_of_other is None:
                return None
            if unit_of_other != unit:
                self.say((*here, "from"), f"`{other}` is measured in {unit_of_other}, `{model.point}` in {unit}")
        elif isinstance(given, dict) and set(given) == {"neighbours"}:
            link = str(given["neighbours"])
            self._link(link, (*here, "from", "neighbours"))
        else:
            number = self._number(given, (*here, "from"), unit, None)
            if number is None:
                return None
        found = self._steps(body.above, (*here, "above"), unit, Side.ABOVE, model, None)
        if not found:
            return None
        deadband = self._deadband(body.deadband, here, unit, found, None)
        inclusive = True if body.inclusive is None else body.inclusive
        return Deviation(model.point, found, number, other, link, deadband, inclusive, unit)

    def _stands(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(StandsModel, data, path)
        if model is None:
            return None
        raw = model.stands if isinstance(model.stands, dict) else {"rule": model.stands}
        body = self.read(StandsBodyModel, raw, (*path, "stands"))
        if body is None:
            return None
        self._link(body.link, (*path, "stands", "link"))
        self._link(body.neighbours, (*path, "stands", "neighbours"))
        if (body.link is not None) + (body.neighbours is not None) + body.anywhere > 1:
            self.say((*path, "stands"), "`link`, `neighbours` or `anywhere`, not two of them")
        link, beside = body.link or body.neighbours, body.neighbours is not None
        return Stands(body.rule, link, beside, body.anywhere, _step(model))

    def _bad(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(BadModel, data, path)
        if model is None:
            return None
        points = model.bad if isinstance(model.bad, list) else [model.bad]
        for point in points:
            if self._point(point, (*path, "bad")) is None:
                return None
        return Bad(tuple(points), _step(model))

    def _expr(self, data: Mapping[str, Any], path: Path) -> Condition | None:
        model = self.read(ExprModel, data, path)
        if model is None:
            return None
        try:
            names = names_of(model.expr)
        except ValueError as error:
            self.say((*path, "expr"), str(error))
            return None
        points = tuple(n for n in names if all(unit_of(kind, n) is not None for kind in self.kinds))
        attributes = tuple(name for name in names if name not in points)
        for name in attributes:
            if name not in model.attributes and name not in ATTRIBUTE_UNITS:
                known = [*(p for kind in self.kinds for p in points_of(kind)), *COMMON, *ATTRIBUTE_UNITS]
                hint = did_you_mean(name, known) or " (attributes of your own are listed under `attributes`)"
                self.say(
                    (*path, "expr"), f"`{name}` is neither a point of {', '.join(self.kinds)} nor an attribute{hint}"
                )
                return None
        if not points:
            self.say((*path, "expr"), "it looks at no point")
            return None
        return Expression(model.expr, points, attributes, _step(model))

    # -- schedules ----------------------------------------------------------------------------------------------------

    def _schedule(self, given: ScheduleModel | list[ScheduleModel] | None, path: Path) -> Schedule | None:
        """Spans by the clock or by the sun; several are or-ed and must share zone and place."""
        if given is None:
            return None
        models = given if isinstance(given, list) else [given]
        spans = [span for model in models if (span := self._span(model, path)) is not None]
        if len(spans) != len(models) or not models:
            return None
        zone, place = models[0].zone, models[0].place
        if any((model.zone, model.place) != (zone, place) for model in models):
            self.say(path, "all parts of a schedule have the same `zone` and `place`")
            return None
        try:
            where = LIANGSHAN if place is None else Place(*place)
            schedule = Schedule(tuple(spans), zone, where)
            schedule.is_on(0)
        except (TypeError, ValueError, LookupError, OSError):
            self.say(
                path, f"no such zone or place: {zone}, {place} (a zone as Asia/Shanghai, a place as [35.8, 116.1])"
            )
            return None
        return schedule

    def _span(self, model: ScheduleModel, path: Path) -> Span | None:
        if model.between is None and model.sun is None and model.season is not None:
            model.between = ["00:00", "24:00"]
        if (model.between is None) == (model.sun is None):
            self.say(path, "say `between: [22:00, 06:00]` or `sun: up`, `sun: down`")
            return None
        if model.sun is not None:
            # ``margin``: so long after the sun is up (or down), and as long before it is no more.
            rise, set_ = Moment(rises=True, offset=model.margin), Moment(rises=False, offset=-model.margin)
            if model.sun == "up":
                ends = (rise, set_)
            else:
                ends = (Moment(rises=False, offset=model.margin), Moment(rises=True, offset=-model.margin))
        else:
            between = model.between
            if not isinstance(between, list) or len(between) != 2:
                self.say((*path, "between"), "two moments: [22:00, 06:00], [sunset + 30m, 24:00]")
                return None
            moments = [_moment(text) for text in between]
            if moments[0] is None or moments[1] is None:
                self.say((*path, "between"), "a moment is 22:00, sunrise, or sunset + 30m")
                return None
            ends = (moments[0], moments[1])
        days = _DAYS if model.days is None else tuple(model.days)
        for day in days:
            if day not in _DAYS:
                self.say((*path, "days"), f"no such day: {day}{did_you_mean(day, _DAYS)} ({', '.join(_DAYS)})")
                return None
        season = [_SEASON.fullmatch(text) for text in model.season or ()]
        if model.season is not None and (len(season) != 2 or None in season):
            self.say((*path, "season"), 'first and last day of a season: ["11-15", "03-15"]')
            return None
        within = tuple((int(match[1]), int(match[2])) for match in season if match is not None)
        return Span(*ends, frozenset(_DAYS.index(day) for day in days), (within[0], within[1]) if within else None)

    # -- numbers ------------------------------------------------------------------------------------------------------

    def _side(self, above: Any, below: Any, path: Path) -> Side | None:
        if (above is None) == (below is None):
            self.say(path, "say either `above` or `below`")
            return None
        return Side.ABOVE if above is not None else Side.BELOW

    def _steps(
        self, raw: Any, path: Path, unit: str, side: Side, leaf: LeafModel, factors: _Product | None
    ) -> tuple[Step, ...]:
        """One limit or a ladder. A ladder climbs: each rung is further out and more severe than the one before."""
        is_ladder = isinstance(raw, list)
        found: list[Step] = []
        for i, item in enumerate(raw if is_ladder else [raw]):
            here = (*path, i) if is_ladder else path
            if isinstance(item, dict) and "limit" in item:
                body = self.read(LimitBodyModel, item, here)
                if body is None:
                    return ()
                limit = self._number(body.limit, (*here, "limit"), unit, factors)
                shape: LeafModel | LimitBodyModel = body
            else:
                if isinstance(item, dict) and "attribute" not in item:
                    self.say(here, "a limit has a `limit`, or is `{attribute: …}`")
                    return ()
                limit, shape = self._number(item, here, unit, factors), leaf
            if limit is None:
                return ()
            step = _step(shape, limit)
            found.append(replace(step, level=step.level or leaf.level) if not is_ladder else step)
        if is_ladder:
            return self._ladder(found, path, side)
        return tuple(found)

    def _ladder(self, found: list[Step], path: Path, side: Side) -> tuple[Step, ...]:
        if not found:
            self.say(path, "an empty ladder")
        if any(step.level is None for step in found):
            self.say(path, "every rung of a ladder has a `level`")
            return ()
        sign = 1 if side is Side.ABOVE else -1
        for i, (mild, severe) in enumerate(pairwise(found), 1):
            if (severe.level or 0) >= (mild.level or 0):
                self.say((*path, i), "each rung must be more severe than the one before (I is the worst)")
                return ()
            comparable = mild.limit.attributes == severe.limit.attributes and mild.limit.points == severe.limit.points
            further = sign * (severe.limit.factor + severe.limit.plus - mild.limit.factor - mild.limit.plus)
            if comparable and further <= 0:
                self.say((*path, i), f"each limit must lie further {side.value} than the one before")
                return ()
        return tuple(found)

    def _number(self, raw: Any, path: Path, unit: str, factors: _Product | None) -> Number | None:
        try:
            if isinstance(raw, dict):
                body = self.read(NumberBodyModel, raw, path)
                if body is None:
                    return None
                if factors is not None:
                    self.say(path, "with `of`, a limit is a share: 20 %")
                    return None
                factor = body.factor
                known = ATTRIBUTE_UNITS.get(body.attribute)
                if known is not None and known != unit:
                    factor *= convert(1.0, known, unit)
                default = None if body.default is None else quantity(body.default, known or unit)
                return Number(factor, ((body.attribute, default),), (), quantity(body.plus, unit))
            if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
                self.say(path, "not a limit: write a number with its unit, or {attribute: name}")
                return None
            if factors is not None:
                if not isinstance(raw, str) or "%" not in raw:
                    self.say(path, "with `of`, a limit is a share: 20 %")
                    return None
                return Number(quantity(raw, "%") / 100.0, factors.attributes, factors.points)
            return Number(quantity(raw, unit))
        except ValueError as error:
            self.say(path, str(error))
            return None

    def _deadband(self, raw: Any, path: Path, unit: str, found: tuple[Step, ...], factors: _Product | None) -> Number:
        if raw is None:
            share = DEADBANDS.get(unit, DEFAULT_DEADBAND)
            least = min((step.limit for step in found), key=lambda limit: abs(limit.factor))
            return Number(float(f"{abs(least.factor) * share:.6g}"), least.attributes, least.points)
        number = self._number(raw, (*path, "deadband"), unit, factors)
        if number is not None and (number.factor < 0 or number.plus < 0):
            self.say((*path, "deadband"), "a deadband cannot be negative")
        return number or ZERO

    def _factors(self, raw: list[Any], path: Path) -> _Product | None:
        """``of: [rated_power, dim]``: what a share is taken of; points of the kind, else attributes of the asset."""
        attributes: list[tuple[str, float | None]] = []
        points: list[PointFactor] = []
        for i, item in enumerate(raw):
            if isinstance(item, dict):
                body = self.read(FactorBodyModel, item, (*path, i))
                if body is None or self._point(body.point, (*path, i, "point")) is None:
                    return None
                points.append(self._factor(body.point, body.absent, (*path, i, "absent")))
            elif isinstance(item, str) and all(unit_of(kind, item) is not None for kind in self.kinds):
                points.append(self._factor(item, None, (*path, i)))
            elif isinstance(item, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", item):
                attributes.append((item, None))
            else:
                self.say((*path, i), "the name of a point or of an attribute")
                return None
        return _Product(tuple(attributes), tuple(points))

    def _factor(self, point: str, absent: Any, path: Path) -> PointFactor:
        unit = unit_of(self.kinds[0], point) or ""
        scale = 0.01 if unit == "%" else 1.0
        if absent is None:
            return PointFactor(point, scale)
        try:
            return PointFactor(point, scale, quantity(absent, unit) * scale)
        except ValueError as error:
            self.say(path, str(error))
            return PointFactor(point, scale)

    # -- names --------------------------------------------------------------------------------------------------------

    def _point(self, point: str, path: Path) -> str | None:
        """The unit of ``point``, which every kind of the rule must know; None after a mistake."""
        units = {kind: unit_of(kind, point) for kind in self.kinds}
        for kind, unit in units.items():
            if unit is None:
                known = [*points_of(kind), *COMMON]
                self.say(path, f"{kind} has no point `{point}`{did_you_mean(point, known)}")
                return None
        if len(set(units.values())) > 1:
            self.say(path, f"`{point}` has different units: " + ", ".join(f"{k} {u}" for k, u in units.items()))
            return None
        return next(iter(units.values()), None)

    def _link(self, link: str | None, path: Path) -> None:
        if link is not None and link not in LINKS:
            self.say(path, f"there is no link {link}{did_you_mean(link, LINKS)} ({', '.join(LINKS)})")


@dataclass(frozen=True, slots=True)
class _Product:
    attributes: tuple[tuple[str, float | None], ...]
    points: tuple[PointFactor, ...]


def _moment(text: Any) -> Moment | None:
    """``22:00``, ``sunrise``, ``sunset - 30m``; 24:00 is midnight."""
    match = _MOMENT.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    hour, minute, second, sun, sign, offset = match.groups()
    try:
        if sun is None:
            return Moment(time(int(hour) % 24 if hour == "24" else int(hour), int(minute), int(second or 0)))
        moved = 0 if offset is None else duration(offset) * (1 if sign == "+" else -1)
        return Moment(rises=sun == "sunrise", offset=moved)
    except ValueError:
        return None


def _plain(number: Number) -> bool:
    return not number.attributes and not number.points


def _step(shape: LeafModel | LimitBodyModel, limit: Number = ZERO) -> Step:
    delay = shape.on_delay
    return Step(
        limit,
        shape.level,
        delay.time if delay is not None else None,
        delay.readings if delay is not None else 1,
        shape.off_delay,
        shape.source,
    )


def _standard(model: StandardModel) -> Standard:
    return Standard(
        _both(model.opened_when),
        _both(model.closed_when),
        _both(model.supervised_by),
        _both(model.responsible),
        model.case_class.major,
        model.case_class.minor,
        model.source,
    )


def _both(text: TextModel) -> tuple[str, str]:
    """In Chinese and English; what was said in one language stands for the other."""
    return text.zh or text.en, text.en or text.zh


def _at_level(condition: Condition, level: Level) -> Condition | None:
    """``condition`` with ``level`` on what decides in it; None when nothing in it can bear a level."""
    match condition:
        case Limit() | Share() | Window() | Deviation():
            return replace(condition, steps=tuple(replace(step, level=level) for step in condition.steps))
        case Outside() | Is() | Silent() | Frozen() | Stands() | Bad() | Expression():
            return replace(condition, step=replace(condition.step, level=level))
        case All(of):
            for i, part in enumerate(of):
                found = _at_level(part, level)
                if found is not None:
                    return All((*of[:i], found, *of[i + 1 :]))
            return None
        case AnyOf(of):
            each = [_at_level(part, level) for part in of]
            present = tuple(part for part in each if part is not None)
            return AnyOf(present) if len(present) == len(each) else None
        case Pumps(part, every):
            found = _at_level(part, level)
            return None if found is None else Pumps(found, every)
        case Not():
            return None
