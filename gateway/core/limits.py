"""The numeric limits of a rule, one by one: for people who want to see them listed, or drawn over a chart.

A limit may follow from attributes of the asset and from other points; ``limits_on`` makes it a number for one asset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from gateway.core.conditions import rounded
from gateway.core.model import Asset, Level, Micros, Value
from gateway.core.plan import raised_by_hazard
from gateway.core.rule import (
    All,
    Any,
    Condition,
    Deviation,
    Limit,
    Number,
    Outside,
    Pumps,
    Rule,
    Side,
    Window,
    steps,
)

_NUMBERED = re.compile(r"^p(\d{1,2})_")


class LimitView(msgspec.Struct, frozen=True):
    """One limit. ``measure``: what is held against it: the "value", its "change" within ``over``, its "deviation" from
    a reference, or mean, min, max, count, spread or changes of a window of ``over``. ``inclusive``: the limit itself is
    already beyond.

    ``value`` is None while it depends on the asset: then it is ``factor`` × ``attribute`` (× ``points``, where it is a
    share of what they report) + ``plus``, ``default`` being the attribute where the asset has none. ``holds``: a
    standing alarm is over beyond this (the limit less the deadband); None when it is not known, or the rule says
    otherwise when it is over."""

    point: str
    unit: str
    side: Side
    level: Level
    measure: str = "value"
    over: Micros | None = None
    inclusive: bool = True
    value: float | None = None
    holds: float | None = None
    attribute: str | None = None
    factor: float | None = None
    plus: float = 0.0
    default: float | None = None
    points: tuple[str, ...] = ()


class _Found(msgspec.Struct, frozen=True):
    """A limit with the numbers behind it."""

    view: LimitView
    limit: Number
    deadband: Number | None


def limits_of(rule: Rule) -> list[LimitView]:
    """As the rule has them, in the order in which it says them; none of what is no number (states, silence, CEL)."""
    return list(dict.fromkeys(_resolved(found, None, {}) for found in _found(rule)))


def limits_on(rule: Rule, asset: Asset, points: Mapping[str, Value]) -> list[LimitView]:
    """As they are on ``asset``: overrides applied, attributes filled in; ``points`` is what it reports now, for limits
    that are a share of a point, and one line a pump. A limit whose attribute the asset lacks is left out."""
    known = {name: float(v) for name, v in asset.attributes.items() if not isinstance(v, (bool, str))}
    seen: dict[LimitView, None] = {}
    for found in _found(rule.variant(asset.asset)):
        if any(name not in known and default is None for name, default in found.limit.attributes):
            continue
        view = _resolved(found, known, points)
        view = msgspec.structs.replace(view, level=raised_by_hazard(view.level, asset))
        seen.update(dict.fromkeys(_by_pump(view, points)))
    return list(seen)


def _by_pump(view: LimitView, points: Mapping[str, Value]) -> Sequence[LimitView]:
    if not view.point.startswith("pN_"):
        return [view]
    rest = view.point.removeprefix("pN_")
    found = (match for name in points if (match := _NUMBERED.match(name)) and name[match.end() :] == rest)
    return [msgspec.structs.replace(view, point=f"p{number}_{rest}") for number in sorted(int(one[1]) for one in found)]


def _resolved(found: _Found, attributes: Mapping[str, float] | None, points: Mapping[str, Value]) -> LimitView:
    """With its value, as far as that is known. ``attributes`` None: of no asset, so no default counts either."""
    value = _number(found.limit, attributes, points)
    deadband = None if found.deadband is None else _number(found.deadband, attributes, points)
    holds = None
    if value is not None and deadband is not None:
        holds = rounded(value - deadband if found.view.side is Side.ABOVE else value + deadband)
    return msgspec.structs.replace(found.view, value=value, holds=holds)


def _number(number: Number, attributes: Mapping[str, float] | None, points: Mapping[str, Value]) -> float | None:
    product = number.factor
    for name, default in number.attributes:
        value = None if attributes is None else attributes.get(name, default)
        if value is None:
            return None
        product *= value
    for factor in number.points:
        now = points.get(factor.point)
        if isinstance(now, (int, float)) and not isinstance(now, bool):
            product *= now * factor.scale
        elif factor.absent is not None and attributes is not None:
            product *= factor.absent
        else:
            return None
    return rounded(product + number.plus)


def _found(rule: Rule) -> Iterator[_Found]:
    bands = rule.clear_when is None and not rule.event
    for found in _in(rule.when, rule.level):
        yield found if bands else msgspec.structs.replace(found, deadband=None)


def _in(condition: Condition, level: Level) -> Iterator[_Found]:
    """``level``: of a limit that names none. Beside something that names one, in an ``all``, it is that."""
    match condition:
        case All(of):
            named = [step.level for step in steps(condition) if step.level is not None]
            for part in of:
                yield from _in(part, min(named, default=level))
        case Any(of):
            for part in of:
                yield from _in(part, level)
        case Pumps(part):
            yield from _in(part, level)
        case Limit():
            measure = "value" if condition.over is None else "change"
            yield from _ladder(condition, condition.side, level, measure, condition.over)
        case Window():
            yield from _ladder(condition, condition.side, level, condition.function.value, condition.over)
        case Deviation():
            yield from _ladder(condition, Side.ABOVE, level, "deviation", None)
        case Outside():
            worst = condition.step.level or level
            for side, number in ((Side.BELOW, condition.low), (Side.ABOVE, condition.high)):
                view = LimitView(condition.point, condition.unit, side, worst, inclusive=False)
                yield _symbolic(view, number, condition.deadband)
        case _:  # a share is of others; `not` turns a limit round; the rest has no numbers
            return


def _ladder(
    leaf: Limit | Window | Deviation, side: Side, level: Level, measure: str, over: Micros | None
) -> Iterator[_Found]:
    for step in leaf.steps:
        view = LimitView(leaf.point, leaf.unit, side, step.level or level, measure, over, leaf.inclusive)
        yield _symbolic(view, step.limit, leaf.deadband)


def _symbolic(view: LimitView, number: Number, deadband: Number) -> _Found:
    """``view`` with how its number comes about."""
    if number.attributes or number.points:
        names = " × ".join(name for name, _ in number.attributes)
        default = number.attributes[0][1] if len(number.attributes) == 1 else None
        view = msgspec.structs.replace(
            view,
            attribute=names or None,
            factor=number.factor,
            plus=number.plus,
            default=default,
            points=tuple(factor.point for factor in number.points),
        )
    return _Found(view, number, deadband)
