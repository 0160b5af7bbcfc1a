"""Everything the rules ask of one kind of asset, compiled, and which reading makes which rule be asked.

A plan is compiled once and shared by all assets of one kind and profile whose limits come from equal attributes: a
hundred thousand lamps have a handful of plans.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.core.conditions import (
    Compiler,
    Evidence,
    Missing,
    Silence,
    Surroundings,
    Test,
    constant,
    negated,
    scheduled,
)
from gateway.core.model import Asset, Level, Micros, Quality, Value
from gateway.core.points import AssetState, WindowKey
from gateway.core.rule import (
    All,
    Any,
    Bad,
    Condition,
    Deviation,
    Expression,
    Limit,
    Not,
    Number,
    OnBadData,
    Outside,
    Pumps,
    Rule,
    RuleSet,
    Share,
    Side,
    Silent,
    Window,
    parts,
    steps,
)
from gateway.core.schedule import Schedule

Band: TypeAlias = tuple[str, float, float]

GOOD = Quality.GOOD
PERCENT = 0.01  # scale of a point in %: profiles let none beyond 100 % pass
HAZARD = "hazard_source"  # attribute: true for an asset on the county's list of major hazard sources


@dataclass(frozen=True, slots=True)
class Rung:
    """One level of one rule on one kind of asset, ready to ask."""

    level: Level
    raises: Test
    holds: Test
    on_delay: Micros
    on_readings: int
    off_delay: Micros
    evidence: tuple[Evidence, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule compiled for a plan. ``rungs`` run from mild to severe; a severe one true implies the milder ones.

    ``band``: (point, low, high) when the rule looks at one number only and is certainly false for low <= value < high.
    ``guard``: (point, low, high) when it looks at more, and cannot be true while that point is good and in between.
    """

    index: int
    rule: Rule
    rungs: tuple[Rung, ...]
    points: frozenset[str]
    silences: tuple[Silence, ...]
    windows: tuple[WindowKey, ...]
    groups: tuple[str, ...]
    alarms: frozenset[str]
    band: Band | None
    guard: Band | None

    def evidence(self, asset: AssetState, rung: int) -> tuple[Value, float | None, str]:
        """Value, limit and unit of the limit that decides at ``rung``: the first that is true, else the first."""
        found = self.rungs[rung].evidence
        for item in found:
            if item.test(asset):
                return item.value(asset), item.limit(asset), item.unit
        return (found[0].value(asset), found[0].limit(asset), found[0].unit) if found else (None, None, "")

    def quality(self, asset: AssetState) -> Quality:
        """The worst quality among the points the rule looks at; points never reported do not count."""
        worst = Quality.GOOD
        for name in self.points:
            state = asset.points.get(name)
            if state is not None and state.reported and state.quality is not GOOD:
                if state.quality is Quality.BAD:
                    return Quality.BAD
                worst = state.quality
        return worst


@dataclass(frozen=True, slots=True)
class Membership:
    """An asset of this plan counts towards ``group`` of the asset its ``link`` names while ``where`` is true.

    ``guard``: as that of a check, for an asset of which nothing is silent. ``alarms``: the rules it asks whether they
    stand.
    """

    group: str
    rule: str
    link: str
    where: Test
    points: frozenset[str]
    silences: tuple[Silence, ...]
    guard: Band | None
    alarms: frozenset[str] = frozenset()


@dataclass(slots=True)
class PointPlan:
    """What one point touches. A good number within [low, high) touches no ``banded`` check that is normal."""

    low: float = -math.inf
    high: float = math.inf
    banded: int = 0  # bit i: check i looks at this point only, through its band
    always: int = 0  # bit i: check i must be asked
    events: int = 0  # bit i: check i is an event without a return: asked once per reading
    memberships: int = 0
    windows: tuple[WindowKey, ...] = ()
    guards: tuple[tuple[int, int, float, float], ...] = ()  # (checks, memberships, low, high): not true in between


@dataclass(slots=True)
class Plan:
    """Everything the rules ask of one kind of asset, compiled."""

    checks: tuple[Check, ...] = ()
    memberships: tuple[Membership, ...] = ()
    by_point: dict[str, PointPlan] = field(default_factory=dict)
    by_rule: dict[str, int] = field(default_factory=dict)
    silences: tuple[Silence, ...] = ()
    by_silence: dict[str, tuple[int, int]] = field(default_factory=dict)  # key → (checks, memberships)
    groups: dict[str, int] = field(default_factory=dict)  # group → check
    not_applicable: dict[str, str] = field(default_factory=dict)  # rule → what the asset lacks for it
    by_schedule: dict[Schedule, int] = field(default_factory=dict)  # schedule → checks that follow it
    by_alarm: dict[str, tuple[int, int]] = field(default_factory=dict)  # rule asked for → (checks, memberships)


def groups_of(rule: Rule) -> tuple[tuple[str, Share], ...]:
    """Every share a rule asks for, under the name of its group of members."""
    found = [*_shares(rule.when), *(_shares(rule.clear_when) if rule.clear_when is not None else ())]
    return tuple((f"{rule.id}#{number}", leaf) for number, leaf in enumerate(found))


def compile_check(rule: Rule, index: int, asset: Asset, surroundings: Surroundings | None = None) -> Check:
    """``rule`` for assets like ``asset``. Raises Missing when it cannot apply to them."""
    groups = groups_of(rule)
    compiler = Compiler(asset.attributes, groups, surroundings)
    levels = sorted({step.level for step in steps(rule.when) if step.level is not None}, reverse=True)
    wanted: list[Level | None] = [*levels] or [None]
    rungs: list[Rung] = []
    for level in wanted:
        compiler.evidence = []
        raises = compiler.test(rule.when, level, False)
        if raises is None:
            raise Missing(compiler.missing)
        found = tuple(sorted(compiler.evidence, key=lambda item: not item.numeric))  # a number says more than a state
        holds: Test | None = compiler.test(rule.when, level, True)
        if rule.clear_when is not None:
            clears = compiler.test(rule.clear_when, None, False)
            holds = None if clears is None else negated(clears)
        if holds is None:
            raise Missing(compiler.missing)
        if rule.schedule is not None:
            if surroundings is None:
                raise Missing("a clock")
            raises, holds = (scheduled(test, rule.schedule, surroundings) for test in (raises, holds))
        on_delay, on_readings, off_delay = delays(rule, level)
        said = next((step.source for step in steps(rule.when) if step.level == level and step.source), rule.source)
        severity = raised_by_hazard(level or rule.level, asset)
        rungs.append(Rung(severity, raises, holds, on_delay, on_readings, off_delay, found, said))
    return Check(
        index,
        rule,
        tuple(rungs),
        frozenset(compiler.points),
        tuple(compiler.silences.values()),
        tuple(sorted(compiler.windows)),
        tuple(name for name, _ in groups),
        frozenset(compiler.alarms),
        _band(rule, compiler),
        None if rule.event or rule.on_bad_data is OnBadData.ASSUME_ACTIVE else _guard(rule.when, compiler),
    )


def raised_by_hazard(level: Level, asset: Asset) -> Level:
    """Z1: every alarm on a major hazard source (重大危险源) is one level worse."""
    return Level(max(Level.I, level - 1)) if asset.attributes.get(HAZARD) is True else level


def delays(rule: Rule, level: Level | None) -> tuple[Micros, int, Micros]:
    """On-delay, on-readings, off-delay of the rung at ``level``; the clear delay is the on-delay unless said."""
    mine = [step for step in steps(rule.when) if step.level == level]
    on_delay = next((step.on_delay for step in mine if step.on_delay is not None), rule.on_delay)
    on_readings = next((step.on_readings for step in mine if step.on_readings > 1), rule.on_readings)
    off_delay = next((step.off_delay for step in mine if step.off_delay is not None), rule.off_delay)
    return on_delay, on_readings, on_delay if off_delay is None else off_delay


def _band(rule: Rule, compiler: Compiler) -> Band | None:
    """The values of the one point of a plain limit for which its mildest rung is certainly false."""
    leaf = rule.when
    if (
        rule.event
        or rule.clear_when is not None
        or rule.on_bad_data
        in (
            OnBadData.ASSUME_ACTIVE,
            OnBadData.ASSUME_NORMAL,
        )
    ):
        return None
    if isinstance(leaf, Limit) and leaf.over is None:
        bound = constant(compiler.fold(leaf.steps[0].limit, 0))
        if bound is None:
            return None
        if leaf.side is Side.ABOVE:
            return leaf.point, -math.inf, bound
        return leaf.point, math.nextafter(bound, math.inf), math.inf
    if isinstance(leaf, Outside):
        low, high = constant(compiler.fold(leaf.low, 0)), constant(compiler.fold(leaf.high, 0))
        return None if low is None or high is None else (leaf.point, low, high)
    return None


def _guard(condition: Condition, compiler: Compiler, nothing_silent: bool = False) -> Band | None:
    """The values of one point for which ``condition`` cannot be true, whatever the others are. ``nothing_silent``: what
    asks for silence is known to be false."""
    match condition:
        case All(of):
            return next((found for part in of if (found := _guard(part, compiler)) is not None), None)
        case Any(of) if nothing_silent:
            spoken = [part for part in of if not isinstance(part, (Silent, Bad))]
            found = _guard(spoken[0], compiler) if len(spoken) == 1 else None
            doubted = {point for part in of if isinstance(part, Bad) for point in part.points}
            return found if found is not None and doubted <= {found[0]} else None
        case Limit() if condition.over is None and "pN_" not in condition.point:
            try:
                limit = compiler.fold(condition.steps[0].limit, 0)
            except Missing:
                return None
            bound = constant(limit)
            if bound is not None and condition.side is Side.ABOVE:
                return condition.point, -math.inf, bound
            if bound is None and limit.factor >= 0 and all(point.scale == PERCENT for point in limit.points):
                bound = limit.factor + limit.plus  # a share of itself is the most it can be
            if bound is not None and condition.side is Side.BELOW:
                return condition.point, math.nextafter(bound, math.inf), math.inf
            return None
        case _:
            return None


def applies(rule: Rule, asset: Asset, profiles: Iterable[str]) -> bool:
    """Whether ``rule`` speaks of ``asset``, on which devices with these profiles are mounted."""
    return (
        rule.enabled
        and asset.kind in rule.kinds
        and (rule.profile is None or rule.profile in profiles)
        and all(asset.attributes.get(name) == wanted for name, wanted in rule.attributes)
    )


def links_of(rules: RuleSet) -> tuple[str, ...]:
    """The links over which any rule counts members."""
    return tuple(sorted({leaf.link for rule in rules for _, leaf in groups_of(rule)}))


def attributes_of(rules: RuleSet) -> frozenset[str]:
    """Names of all attributes any rule looks at: assets equal in these share a plan."""
    names = {"pumps", HAZARD}
    for rule in (variant for common in rules for variant in common.all_variants):
        names.update(name for name, _ in rule.attributes)
        conditions = [rule.when, *([rule.clear_when] if rule.clear_when is not None else [])]
        while conditions:
            for part in parts(conditions.pop()):
                numbers: list[Number] = []
                match part:
                    case Expression():
                        names.update(part.attributes)
                    case Deviation():
                        numbers = [part.deadband, *(step.limit for step in part.steps)]
                        numbers += [part.number] if part.number is not None else []
                    case Limit() | Share() | Window():
                        numbers = [part.deadband, *(step.limit for step in part.steps)]
                    case Outside():
                        numbers = [part.low, part.high, part.deadband]
                    case _:
                        pass
                if isinstance(part, Window) and part.counting is not None:
                    numbers.append(part.counting[1])
                if isinstance(part, Share):
                    conditions.append(part.where)
                names.update(name for number in numbers for name, _ in number.attributes)
    return frozenset(names)


def compile_plan(
    rules: RuleSet, asset: Asset, profiles: Iterable[str], surroundings: Surroundings | None = None
) -> Plan:
    """Everything the rules ask of assets like ``asset``."""
    plan = Plan()
    checks: list[Check] = []
    variants = [rule for common in rules if applies(rule := common.variant(asset.asset), asset, profiles)]
    for rule in causes_first(variants):
        try:
            check = compile_check(rule, len(checks), asset, surroundings)
        except Missing as missing:
            plan.not_applicable[rule.id] = str(missing)
            continue
        checks.append(check)
        plan.by_rule[rule.id] = check.index
        for group in check.groups:
            plan.groups[group] = check.index
    plan.checks = tuple(checks)
    plan.memberships = tuple(_memberships(rules, asset, surroundings))
    _index(plan)
    return plan


def causes_first(rules: Iterable[Rule]) -> list[Rule]:
    """In their order, but for one thing: what suppresses an alarm of the same asset is judged before that alarm, so
    that one reading that raises both tells nobody of the effect. Of two that suppress each other one stays first."""
    known = {rule.id: rule for rule in rules}
    ordered: dict[str, Rule] = {}
    under_way: set[str] = set()

    def take(rule: Rule) -> None:
        if rule.id in ordered or rule.id in under_way:
            return
        under_way.add(rule.id)
        for cause in rule.suppress_when:
            if cause.link is None and cause.rule in known:
                take(known[cause.rule])
        ordered[rule.id] = rule

    for rule in known.values():
        take(rule)
    return list(ordered.values())


def _memberships(rules: RuleSet, asset: Asset, surroundings: Surroundings | None) -> Iterable[Membership]:
    for rule in rules:
        if not rule.enabled:
            continue
        for group, leaf in groups_of(rule):
            if leaf.of != asset.kind:
                continue
            inner = Compiler(asset.attributes, surroundings=surroundings)
            where = inner.test(leaf.where, None, False)
            if where is not None:
                silences = tuple(inner.silences.values())
                guard = _guard(leaf.where, inner, nothing_silent=True)
                yield Membership(
                    group, rule.id, leaf.link, where, frozenset(inner.points), silences, guard, frozenset(inner.alarms)
                )


def _shares(condition: Condition) -> Iterable[Share]:
    """Shares in the order in which the compiler meets them."""
    match condition:
        case Share():
            yield condition
        case All(of) | Any(of):
            for part in of:
                yield from _shares(part)
        case Not(part) | Pumps(part):
            yield from _shares(part)
        case _:
            pass


def _add_guard(plan: Plan, guard: Band, checks: int, memberships: int) -> None:
    """One entry for each band of values, with everything that cannot be true in it."""
    point, low, high = guard
    touched = plan.by_point.setdefault(point, PointPlan())
    others = []
    for known in touched.guards:
        if known[2:] == (low, high):
            checks, memberships = checks | known[0], memberships | known[1]
        else:
            others.append(known)
    touched.guards = (*others, (checks, memberships, low, high))


def _index(plan: Plan) -> None:
    """What each point and each silence touches."""
    silences: dict[str, Silence] = {}
    for check in plan.checks:
        bit = 1 << check.index
        for silence in check.silences:
            silences[silence.key] = silence
            mine, theirs = plan.by_silence.get(silence.key, (0, 0))
            plan.by_silence[silence.key] = (mine | bit, theirs)
        if check.rule.schedule is not None:
            plan.by_schedule[check.rule.schedule] = plan.by_schedule.get(check.rule.schedule, 0) | bit
        for alarm in check.alarms:
            mine, theirs = plan.by_alarm.get(alarm, (0, 0))
            plan.by_alarm[alarm] = (mine | bit, theirs)
        for point in check.points:
            touched = plan.by_point.setdefault(point, PointPlan())
            if check.rule.event:
                touched.events |= bit
            elif check.band is not None:
                touched.banded |= bit
                touched.low = max(touched.low, check.band[1])
                touched.high = min(touched.high, check.band[2])
            else:
                touched.always |= bit
        if check.band is None and check.guard is not None:
            _add_guard(plan, check.guard, bit, 0)
        for window in check.windows:
            touched = plan.by_point.setdefault(window.point, PointPlan())
            if window not in touched.windows:
                touched.windows += (window,)
    for number, membership in enumerate(plan.memberships):
        for silence in membership.silences:
            silences[silence.key] = silence
            mine, theirs = plan.by_silence.get(silence.key, (0, 0))
            plan.by_silence[silence.key] = (mine, theirs | 1 << number)
        for alarm in membership.alarms:
            mine, theirs = plan.by_alarm.get(alarm, (0, 0))
            plan.by_alarm[alarm] = (mine, theirs | 1 << number)
        for point in membership.points:
            plan.by_point.setdefault(point, PointPlan()).memberships |= 1 << number
        if membership.guard is not None:
            _add_guard(plan, membership.guard, 0, 1 << number)
    plan.silences = tuple(silences.values())
