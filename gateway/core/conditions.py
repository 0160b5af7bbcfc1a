"""Is this true now? Conditions become closures over an asset's points: a limit costs a look-up and a compare.

Three truths: True, False, and None = cannot be known (no reading yet, or a bad or uncertain one); ``all``, ``any`` and
``not`` follow Kleene. Every rung of a rule has two tests: ``raises`` (the limit), and ``holds`` (still beyond the limit
less the deadband), which is what keeps a value inside the deadband from chattering.

What of it is asked when, and for which assets: ``core/plan.py``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from gateway.core.model import Level, Micros, Quality, Value
from gateway.core.points import AssetState
from gateway.core.rule import (
    All,
    Any,
    Condition,
    Is,
    Limit,
    Not,
    Number,
    Outside,
    Pumps,
    Share,
    Side,
    Silent,
    Step,
)

Truth: TypeAlias = bool | None
Test: TypeAlias = Callable[[AssetState], Truth]
Reader: TypeAlias = Callable[[AssetState], float | None]
Compare: TypeAlias = Callable[[float, float], bool]

GOOD = Quality.GOOD
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


class Missing(Exception):
    """The asset lacks an attribute a limit needs; the text names it."""


class Compiler:
    """Compiles conditions against the attributes of one asset, and notes what they look at."""

    def __init__(
        self, attributes: Mapping[str, str | float | bool], groups: tuple[tuple[str, Share], ...] = ()
    ) -> None:
        self.attributes = attributes
        self.groups = groups
        self.points: set[str] = set()
        self.silences: dict[str, Silence] = {}
        self.windows: set[tuple[str, Micros]] = set()
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
            case Limit() | Outside() | Is() | Silent() | Share():
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

    def _leaf(self, leaf: Limit | Outside | Is | Silent | Share, step: Step, hold: bool, pump: int) -> Test:
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
        key = (point, span)
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
            return window.change(state.source_time, state.value)

        def test(asset: AssetState) -> Truth:
            found = change(asset)
            return None if found is None else compare(found, bound)

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


def _step_at(leaf: Limit | Outside | Is | Silent | Share, level: Level | None) -> Step | None:
    """The rung of ``leaf`` that must be true at ``level``: the mildest that is at least as severe; None when it has no
    such rung. A leaf without levels is asked at every level."""
    own = leaf.steps if isinstance(leaf, (Limit, Share)) else (leaf.step,)
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


def negated(inner: Test) -> Test:
    def test(asset: AssetState) -> Truth:
        found = inner(asset)
        return None if found is None else not found

    return test
