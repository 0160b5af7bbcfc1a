"""Is this true now? Conditions become closures over an asset's points: a limit costs a look-up and a compare.

Three truths: True, False, and None = cannot be known (no reading yet, or a bad or uncertain one); ``all``, ``any`` and
``not`` follow Kleene. Every rung of a rule has two tests: ``raises`` (the limit), and ``holds`` (still beyond the limit
less the deadband), which is what keeps a value inside the deadband from chattering.

What of it is asked when, and for which assets: ``core/plan.py``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Protocol, TypeAlias, assert_never

from gateway.core.expression import evaluator
from gateway.core.model import Level, Micros, Quality, Value
from gateway.core.points import NEVER, AssetState, WindowKey
from gateway.core.rule import (
    All,
    Any,
    Bad,
    Condition,
    Deviation,
    Expression,
    Frozen,
    Is,
    Leaf,
    Limit,
    Not,
    Number,
    Outside,
    Over,
    Pumps,
    Share,
    Side,
    Silent,
    Stands,
    Step,
    Window,
)
from gateway.core.schedule import Schedule

Truth: TypeAlias = bool | None
Test: TypeAlias = Callable[[AssetState], Truth]
Reader: TypeAlias = Callable[[AssetState], float | None]
Compare: TypeAlias = Callable[[float, float], bool]

GOOD, BAD = Quality.GOOD, Quality.BAD
MAX_PUMPS = 12  # the largest station in the county has 6; an asset may say `pumps: n`

_NEVER: Test = lambda _: False  # noqa: E731


@dataclass(frozen=True, slots=True)
class Evidence:
    """One limit inside a condition: how to tell whether it decided, and the numbers to show to people."""

    test: Test
    value: Callable[[AssetState], Value]
    limit: Reader
    unit: str
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence to watch for. ``key`` is the same for every rule that asks for the same silence."""

    key: str
    intervals: float
    plus: Micros
    point: str | None


class Surroundings(Protocol):
    """What a condition may ask beyond the asset's own points."""

    def neighbours(self, asset: AssetState, link: str) -> Iterable[AssetState]:
        """The other assets of the same kind whose ``link`` names the same parent."""
        ...

    def stands(self, asset: AssetState, rule: str, link: str | None) -> bool:
        """Whether the alarm of ``rule`` is up on this asset, or on the one its ``link`` names."""
        ...

    def stands_anywhere(self, rule: str) -> bool:
        """Whether any alarm of ``rule`` is up."""
        ...

    def edge(self, schedule: Schedule) -> Edge:
        """Whether it is its time now, kept up to date."""
        ...


class Edge(Protocol):
    @property
    def on(self) -> bool: ...


class Missing(Exception):
    """The asset lacks an attribute a limit needs; the text names it."""


class Compiler:
    """Compiles conditions against the attributes of one asset, and notes what they look at."""

    def __init__(
        self,
        attributes: Mapping[str, str | float | bool],
        groups: tuple[tuple[str, Share], ...] = (),
        surroundings: Surroundings | None = None,
    ) -> None:
        self.attributes = attributes
        self.groups = groups
        self.surroundings = surroundings
        self.alarms: set[str] = set()
        self.points: set[str] = set()
        self.silences: dict[str, Silence] = {}
        self.windows: set[WindowKey] = set()
        self.evidence: list[Evidence] = []
        self.missing: str = ""

    def test(self, condition: Condition, level: Level | None, hold: bool, pump: int = 0) -> Test | None:
        """The test of ``condition`` at ``level`` (None: its first steps); None when the asset lacks what it needs."""
        match condition:
            case All(of):
                tests = [self.test(part, level, hold, pump) for part in of]
                present = [test for test in tests if test is not None]
                return _all(present) if len(present) == len(tests) else None
            case Any(of):
                return self._any_of(of, level, hold, pump)
            case Not(part):
                inner = self.test(part, level, False, pump)
                return None if inner is None else negated(inner)
            case Pumps(part, every):
                return self._pumps(part, level, hold, every)
            case (
                Limit() | Outside() | Is() | Silent() | Share() | Window() | Frozen() | Deviation() | Stands() | Bad()
                | Expression()
            ):  # fmt: skip
                step = _step_at(condition, level)
                if step is None:
                    return _NEVER
                try:
                    return self._leaf(condition, step, hold, pump)
                except Missing as missing:
                    self.missing = str(missing)
                    return None
            case _:
                assert_never(condition)

    def _any_of(self, of: tuple[Condition, ...], level: Level | None, hold: bool, pump: int) -> Test | None:
        """Any of the branches the asset can have; a branch of which nothing was ever reported does not count."""
        present: list[tuple[Test, tuple[str, ...]]] = []
        never = False
        for part in of:
            test, own = self._with_points(part, level, hold, pump)
            if test is _NEVER:
                never = True
            elif test is not None:
                present.append((test, tuple(sorted(own))))
        if not present:
            return _NEVER if never else None
        return present[0][0] if len(present) == 1 else _any(present)

    def _with_points(self, part: Condition, level: Level | None, hold: bool, pump: int) -> tuple[Test | None, set[str]]:
        """The test of ``part`` and the points it looks at."""
        before, self.points = self.points, set()
        test = self.test(part, level, hold, pump)
        own, self.points = self.points, before | self.points
        return test, own

    def _leaf(self, leaf: Leaf, step: Step, hold: bool, pump: int) -> Test:
        match leaf:
            case Limit():
                return self._limit(leaf, step, hold, pump)
            case Outside():
                return self._outside(leaf, hold, pump)
            case Is():
                return self._is(leaf, pump)
            case Silent():
                silence = silence_of(leaf, pump)
                self.silences[silence.key] = silence
                key = silence.key
                return lambda asset: key in asset.silent
            case Share():
                return self._share(leaf, step, hold)
            case Window():
                return self._window(leaf, step, hold, pump)
            case Frozen():
                return self._frozen(leaf, pump)
            case Deviation():
                return self._deviation(leaf, step, hold, pump)
            case Stands():
                return self._stands(leaf)
            case Bad():
                return self._bad(leaf, pump)
            case Expression():
                return self._expression(leaf, pump)
            case _:
                assert_never(leaf)

    def _limit(self, leaf: Limit, step: Step, hold: bool, pump: int) -> Test:
        point = self._point(leaf.point, pump)
        compare, limit, margin = self._threshold(leaf.side, leaf.inclusive, step.limit, leaf.deadband, hold, pump)
        absent = leaf.absent
        if leaf.over is not None:
            return self._rate(leaf, point, leaf.over, compare, limit, margin)
        fixed = constant(limit)
        if fixed is not None and constant(self.fold(leaf.deadband, pump)) is not None:
            bound = rounded(fixed + margin)

            def plain(asset: AssetState) -> Truth:
                state = asset.points.get(point)
                if state is None:
                    return absent
                value = state.value
                kind = type(value)
                if state.quality is not GOOD or (kind is not float and kind is not int) or value != value:
                    return None if state.reported else absent
                return compare(value, bound)  # type: ignore[arg-type]

            test = plain
        else:
            limit_of = self._reader(limit)
            margin_of = self._margin_reader(leaf, hold, pump)

            def relative(asset: AssetState) -> Truth:
                state = asset.points.get(point)
                if state is None:
                    return absent
                value = state.value
                kind = type(value)
                if state.quality is not GOOD or (kind is not float and kind is not int) or value != value:
                    return None if state.reported else absent
                bound = limit_of(asset)
                extra = margin_of(asset)
                if bound is None or extra is None:
                    return None
                return compare(value, bound + extra)  # type: ignore[arg-type]

            test = relative
        self.evidence.append(Evidence(test, _value_of(point), self._reader(limit), leaf.unit))
        return test

    def _rate(self, leaf: Limit, point: str, span: Micros, compare: Compare, limit: Number, margin: float) -> Test:
        fixed = constant(limit)
        if fixed is None:
            raise Missing("a constant limit of change")
        bound = rounded(fixed + margin)
        key = WindowKey(point, span)
        self.windows.add(key)

        def change(asset: AssetState) -> float | None:
            state = asset.points.get(point)
            window = asset.windows.get(key)
            if (
                state is None
                or window is None
                or state.quality is not GOOD
                or not isinstance(state.value, (int, float))
            ):
                return None
            found = window.change(state.source_time, state.value)
            return None if found is None else rounded(found)

        near = abs(bound) * 1e-9

        def test(asset: AssetState) -> Truth:
            state = asset.points.get(point)
            window = asset.windows.get(key)
            if state is None or window is None or state.quality is not GOOD:
                return None
            value = state.value
            if not isinstance(value, (int, float)):
                return None
            found = window.change(state.source_time, value)
            if found is None:
                return None
            # Rounding decides nothing but close to the limit, and costs more than the rest.
            return compare(found if abs(found - bound) > near else rounded(found), bound)

        self.evidence.append(Evidence(test, change, lambda _: fixed, leaf.unit))
        return test

    def _threshold(
        self, side: Side, inclusive: bool, limit: Number, deadband: Number, hold: bool, pump: int
    ) -> tuple[Compare, Number, float]:
        """Comparison, limit and the constant margin to add. Inside by the deadband clears; without a deadband the
        limit itself decides both ways."""
        limit = self.fold(limit, pump)
        band = constant(self.fold(deadband, pump)) or 0.0
        wide = not hold or (band == 0.0 and not deadband.points)
        if side is Side.ABOVE:
            strict: Compare = operator.gt
            return (operator.ge if inclusive else strict, limit, 0.0) if wide else (strict, limit, -band)
        strict = operator.lt
        return (operator.le if inclusive else strict, limit, 0.0) if wide else (strict, limit, band)

    def _margin_reader(self, leaf: Limit, hold: bool, pump: int) -> Reader:
        deadband = self.fold(leaf.deadband, pump)
        if not hold:
            return lambda _: 0.0
        read = self._reader(deadband)
        if leaf.side is Side.BELOW:
            return read

        def negative(asset: AssetState) -> float | None:
            margin = read(asset)
            return None if margin is None else -margin

        return negative

    def _outside(self, leaf: Outside, hold: bool, pump: int) -> Test:
        point = self._point(leaf.point, pump)
        low, high = constant(self.fold(leaf.low, pump)), constant(self.fold(leaf.high, pump))
        band = constant(self.fold(leaf.deadband, pump)) if hold else 0.0
        if low is None or high is None or band is None:
            raise Missing("constant ends of the band")
        bottom, top = rounded(low + band), rounded(high - band)
        absent = leaf.absent

        def test(asset: AssetState) -> Truth:
            state = asset.points.get(point)
            if state is None:
                return absent
            value = state.value
            if state.quality is not GOOD or type(value) not in (float, int) or value != value:
                return None if state.reported else absent
            return not bottom <= value <= top  # type: ignore[operator]

        def limit(asset: AssetState) -> float | None:
            state = asset.points.get(point)
            below = state is not None and isinstance(state.value, (int, float)) and state.value < low
            return low if below else high

        self.evidence.append(Evidence(test, _value_of(point), limit, leaf.unit))
        return test

    def _is(self, leaf: Is, pump: int) -> Test:
        point = self._point(leaf.point, pump)
        absent = leaf.absent
        values = frozenset((type(v) is bool, float(v) if isinstance(v, (int, float)) else v) for v in leaf.values)
        if leaf.values in ((True,), (False,)) and type(leaf.values[0]) is bool:
            wanted = leaf.values[0]

            def boolean(asset: AssetState) -> Truth:
                state = asset.points.get(point)
                if state is None:
                    return absent
                if state.quality is not GOOD:
                    return None if state.reported else absent
                return state.value is wanted

            test: Test = boolean
        else:

            def coded(asset: AssetState) -> Truth:
                state = asset.points.get(point)
                if state is None:
                    return absent
                value = state.value
                if state.quality is not GOOD:
                    return None if state.reported else absent
                return (type(value) is bool, value) in values

            test = coded
        self.evidence.append(Evidence(test, _value_of(point), lambda _: None, "", False))
        return test

    def _share(self, leaf: Share, step: Step, hold: bool) -> Test:
        group = next(name for name, known in self.groups if known is leaf)
        compare, limit, margin = self._threshold(leaf.side, leaf.inclusive, step.limit, leaf.deadband, hold, 0)
        fixed = constant(limit)
        if fixed is None:
            raise Missing("a constant share")
        bound = rounded(fixed + margin)

        least = leaf.least

        def percent(asset: AssetState) -> float | None:
            members = asset.groups.get(group)
            return 100.0 * len(members.true) / members.size if members is not None and members.size >= least else None

        def test(asset: AssetState) -> Truth:
            found = percent(asset)
            return None if found is None else compare(found, bound)

        self.evidence.append(Evidence(test, percent, lambda _: fixed, "%"))
        return test

    def _window(self, leaf: Window, step: Step, hold: bool, pump: int) -> Test:
        point = self._point(leaf.point, pump)
        compare, limit, margin = self._threshold(leaf.side, leaf.inclusive, step.limit, leaf.deadband, hold, pump)
        fixed = constant(limit)
        if fixed is None:
            raise Missing("a constant limit of a window")
        bound = rounded(fixed + margin)
        key = WindowKey(point, leaf.over, *self._counted(leaf, pump))
        self.windows.add(key)
        function = _FUNCTIONS[leaf.function]
        counting = leaf.counting is not None
        # More values make a maximum greater and a minimum smaller: the truth that they cannot take back.
        certain = None if leaf.function is Over.MEAN else (leaf.function in _GROWS) is (leaf.side is Side.ABOVE)

        def found(asset: AssetState) -> float | None:
            state, window = asset.points.get(point), asset.windows.get(key)
            if state is None or window is None or state.quality is not GOOD:
                return None
            values = window.values(state.source_time)
            return function(values) if values or counting else None

        def test(asset: AssetState) -> Truth:
            value = found(asset)
            if value is None:
                return None
            truth = compare(value, bound)
            window, state = asset.windows[key], asset.points[point]
            return truth if truth is certain or window.reaches_back(state.source_time) else None

        self.evidence.append(Evidence(test, found, lambda _: fixed, leaf.unit))
        return test

    def _counted(self, leaf: Window, pump: int) -> tuple[float, float]:
        """Between which ends a value counts."""
        if leaf.counting is None:
            return -math.inf, math.inf
        side, limit = leaf.counting
        end = constant(self.fold(limit, pump))
        if end is None:
            raise Missing("a constant limit to count by")
        return (end, math.inf) if side is Side.ABOVE else (-math.inf, end)

    def _frozen(self, leaf: Frozen, pump: int) -> Test:
        point = self._point(leaf.point, pump)
        key = WindowKey(point, leaf.over)
        self.windows.add(key)
        change, moved, link = leaf.change, leaf.moved, leaf.link
        around = self.surroundings

        def spread(asset: AssetState) -> float | None:
            state, window = asset.points.get(point), asset.windows.get(key)
            if state is None or window is None or state.quality is not GOOD:
                return None
            values = window.values(state.source_time)
            return _spread(values) if values else None

        def test(asset: AssetState) -> Truth:
            state, window = asset.points.get(point), asset.windows.get(key)
            if state is None or window is None or state.quality is not GOOD:
                return None
            if window.moved(state.source_time, change):
                return False
            if not window.reaches_back(state.source_time, 1.0):
                return None
            if link is None or around is None:
                return True
            theirs = (spread(neighbour) for neighbour in around.neighbours(asset, link))
            return any(span is not None and span >= moved for span in theirs)

        self.evidence.append(Evidence(test, spread, lambda _: change, leaf.unit))
        return test

    def _deviation(self, leaf: Deviation, step: Step, hold: bool, pump: int) -> Test:
        point = self._point(leaf.point, pump)
        compare, limit, margin = self._threshold(Side.ABOVE, leaf.inclusive, step.limit, leaf.deadband, hold, pump)
        fixed = constant(limit)
        if fixed is None:
            raise Missing("a constant limit of deviation")
        bound = rounded(fixed + margin)
        reference = self._reference(leaf, point, pump)

        def differs(asset: AssetState) -> float | None:
            mine, theirs = _number_of(asset, point), reference(asset)
            return None if mine is None or theirs is None else rounded(abs(mine - theirs))

        def test(asset: AssetState) -> Truth:
            found = differs(asset)
            return None if found is None else compare(found, bound)

        self.evidence.append(Evidence(test, differs, lambda _: fixed, leaf.unit))
        return test

    def _reference(self, leaf: Deviation, point: str, pump: int) -> Reader:
        if leaf.number is not None:
            return self._reader(self.fold(leaf.number, pump))
        if leaf.other is not None:
            other = self._point(leaf.other, pump)
            return lambda asset: _number_of(asset, other)
        link, around = leaf.link or "", self.surroundings

        def middle(asset: AssetState) -> float | None:
            if around is None:
                return None
            values = [_number_of(neighbour, point) for neighbour in around.neighbours(asset, link)]
            known = [value for value in values if value is not None]
            return median(known) if known else None

        return middle

    def _stands(self, leaf: Stands) -> Test:
        self.alarms.add(leaf.rule)
        rule, link, around = leaf.rule, leaf.link, self.surroundings
        if around is None:
            raise Missing("the alarms around it")
        if leaf.anywhere:
            return lambda _: around.stands_anywhere(rule)
        if leaf.beside and link is not None:
            return lambda asset: any(around.stands(other, rule, None) for other in around.neighbours(asset, link))
        return lambda asset: around.stands(asset, rule, link)

    def _bad(self, leaf: Bad, pump: int) -> Test:
        points = tuple(self._point(name, pump) for name in leaf.points)

        def test(asset: AssetState) -> Truth:
            known = False
            for name in points:
                state = asset.points.get(name)
                if state is not None and state.source_time != NEVER:
                    if state.quality is BAD:
                        return True
                    known = True
            return False if known else None

        def reason(asset: AssetState) -> Value:
            states = (asset.points.get(name) for name in points)
            return next((s.reason for s in states if s is not None and s.quality is Quality.BAD), None)

        self.evidence.append(Evidence(test, reason, lambda _: None, "", False))
        return test

    def _expression(self, leaf: Expression, pump: int) -> Test:
        points = tuple(self._point(name, pump) for name in leaf.points)
        attributes = {name: self.attributes.get(name) for name in leaf.attributes}
        lacking = [name for name, value in attributes.items() if value is None]
        if lacking:
            raise Missing(f"attribute {lacking[0]}")
        evaluate = evaluator(leaf.text)

        def test(asset: AssetState) -> Truth:
            values: dict[str, Value] = dict(attributes)
            for name in points:
                state = asset.points.get(name)
                if state is None or state.quality is not GOOD:
                    return None
                values[name] = state.value
            return evaluate(values)

        def first(asset: AssetState) -> Value:
            state = asset.points.get(points[0]) if points else None
            return state.value if state is not None else None

        self.evidence.append(Evidence(test, first, lambda _: None, "", False))
        return test

    def _pumps(self, part: Condition, level: Level | None, hold: bool, every: bool) -> Test | None:
        wanted = self.attributes.get("pumps", MAX_PUMPS)
        count = int(wanted) if isinstance(wanted, (int, float)) and 1 <= wanted <= MAX_PUMPS else MAX_PUMPS
        tests: list[tuple[Test, tuple[str, ...]]] = []
        for number in range(1, count + 1):
            test, looks_at = self._with_points(part, level, hold, number)
            own = tuple(sorted(name for name in looks_at if name.startswith(f"p{number}_")))
            if test is None:
                return None
            if test is _NEVER:
                return _NEVER
            tests.append((test, own))

        def some(asset: AssetState) -> Truth:
            result: Truth = None
            known = False
            for test, own in tests:
                if not any(name in asset.points for name in own):
                    continue
                found = test(asset)
                if found is not None and found is not every:
                    return found
                known, result = True, (None if found is None or (known and result is None) else found)
            return result

        return some

    def _point(self, name: str, pump: int) -> str:
        point = name.replace("pN_", f"p{pump}_", 1) if pump and name.startswith("pN_") else name
        self.points.add(point)
        return point

    def fold(self, number: Number, pump: int) -> Number:
        """``number`` with the asset's attributes multiplied in. Raises Missing."""
        factor = number.factor
        for name, default in number.attributes:
            value = self.attributes.get(name, default)
            if value is None or isinstance(value, (str, bool)):
                raise Missing(f"attribute {name}")
            factor *= value
        if number.points and pump:
            renamed = tuple(type(p)(self._point(p.point, pump), p.scale, p.absent) for p in number.points)
            return Number(factor, (), renamed, number.plus)
        return Number(factor, (), number.points, number.plus)

    def _reader(self, number: Number) -> Reader:
        """Reads a folded number from an asset; None while a point in it is unknown."""
        fixed = constant(number)
        if fixed is not None:
            return lambda _: fixed
        base, plus, factors = number.factor, number.plus, number.points
        self.points.update(factor.point for factor in factors)

        def read(asset: AssetState) -> float | None:
            product = base
            for factor in factors:
                state = asset.points.get(factor.point)
                if state is None or not state.reported:
                    if factor.absent is None:
                        return None
                    product *= factor.absent
                elif state.quality is not GOOD or not isinstance(state.value, (int, float)):
                    return None
                else:
                    product *= state.value * factor.scale
            return product + plus

        return read


def rounded(number: float) -> float:
    """Twelve digits are more than any sensor has, and 0.8 − 0.1 is 0.7 again."""
    return float(f"{number:.12g}")


def constant(number: Number) -> float | None:
    """The value of a folded number that depends on no point."""
    return None if number.points or number.attributes else rounded(number.factor + number.plus)


def silence_of(leaf: Silent, pump: int = 0) -> Silence:
    point = leaf.point.replace("pN_", f"p{pump}_", 1) if leaf.point is not None and pump else leaf.point
    return Silence(f"{leaf.intervals:g}x+{leaf.plus}:{point or ''}", leaf.intervals, leaf.plus, point)


def _value_of(point: str) -> Callable[[AssetState], Value]:
    def read(asset: AssetState) -> Value:
        state = asset.points.get(point)
        return state.value if state is not None else None

    return read


def _number_of(asset: AssetState, point: str) -> float | None:
    """The good number a point holds now."""
    state = asset.points.get(point)
    if state is None or state.quality is not GOOD:
        return None
    value = state.value
    return float(value) if (type(value) is float or type(value) is int) and value == value else None


def _spread(values: Sequence[float]) -> float:
    return rounded(max(values) - min(values))


def _changes(values: Sequence[float]) -> float:
    return float(sum(before != after for before, after in pairwise(values)))


_FUNCTIONS: dict[Over, Callable[[Sequence[float]], float]] = {
    Over.MEAN: fmean,
    Over.MIN: min,
    Over.MAX: max,
    Over.COUNT: lambda values: float(len(values)),
    Over.SPREAD: _spread,
    Over.CHANGES: _changes,
}
_GROWS = (Over.MAX, Over.COUNT, Over.SPREAD, Over.CHANGES)


def _step_at(leaf: Leaf, level: Level | None) -> Step | None:
    """The rung of ``leaf`` that must be true at ``level``: the mildest that is at least as severe; None when it has no
    such rung. A leaf without levels is asked at every level."""
    own = leaf.steps if isinstance(leaf, (Limit, Share, Window, Deviation)) else (leaf.step,)
    if level is None or own[0].level is None:
        return own[0]
    severe = [step for step in own if step.level is not None and step.level <= level]
    return max(severe, key=lambda step: step.level or level) if severe else None


def _all(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    each = tuple(tests)

    def test(asset: AssetState) -> Truth:
        result: Truth = True
        for part in each:
            found = part(asset)
            if found is False:
                return False
            if found is None:
                result = None
        return result

    return test


def _any(tests: list[tuple[Test, tuple[str, ...]]]) -> Test:
    each = tuple(tests)

    def test(asset: AssetState) -> Truth:
        unknown = False
        known = False
        for part, own in each:
            found = part(asset)
            if found is True:
                return True
            if found is False:
                known = True
            elif not unknown:
                unknown = any(name in asset.points for name in own)
        return False if known and not unknown else None

    return test


def scheduled(inner: Test, schedule: Schedule, surroundings: Surroundings) -> Test:
    """``inner`` while it is its time, else false."""

    edge = surroundings.edge(schedule)

    def test(asset: AssetState) -> Truth:
        return inner(asset) if edge.on else False

    return test


def negated(inner: Test) -> Test:
    def test(asset: AssetState) -> Truth:
        found = inner(asset)
        return None if found is None else not found

    return test
