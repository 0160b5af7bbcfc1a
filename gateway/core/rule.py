"""A rule is the rationalisation record of an alarm: what must be true, for how long, who must do what about it.

Compiled and frozen: every number is in the canonical unit of its point, every name was checked when the file was read
(``config/rules.py``). A rule that names no response is an *event*: recorded, never annunciated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeAlias

from gateway.core.model import HOUR, MINUTE, Level, Micros
from gateway.core.schedule import Schedule

DEFAULT_LEVEL = Level.IV
DEFAULT_SETTLE: Micros = MINUTE  # a feeder's lamps report within a minute of its return; then their own alarms count
DEFAULT_MAX_SHELVED: Micros = 8 * HOUR  # one shift: the next one must see the alarm again


@dataclass(frozen=True, slots=True)
class PointFactor:
    """A point as a factor in a limit: its value × ``scale`` (0.01 for %), ``absent`` if it was never reported."""

    point: str
    scale: float = 1.0
    absent: float | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """factor × Π attributes × Π points + plus: a limit that may depend on the asset and on what it reports.

    ``attributes``: (name, default); an asset without the attribute and without a default has no such limit.
    """

    factor: float
    attributes: tuple[tuple[str, float | None], ...] = ()
    points: tuple[PointFactor, ...] = ()
    plus: float = 0.0


ZERO = Number(0.0)


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of a ladder. What is None is taken from the rule (level, on-delay) or from the on-delay (off-delay).

    ``on_readings``: so many readings in a row instead of a time, for sensors that speak twice a day.
    """

    limit: Number = ZERO
    level: Level | None = None
    on_delay: Micros | None = None
    on_readings: int = 1
    off_delay: Micros | None = None
    source: str = ""


class Side(StrEnum):
    """On which side of the limit the alarm lies."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Limit:
    """``point`` (or, with ``over``, its change within that time) beyond a limit, or up a ladder of limits.

    ``inclusive``: the limit itself is already too much. Stays true until the value is inside by ``deadband``.
    ``absent``: the truth when the point was never reported; None: unknown.
    """

    point: str
    side: Side
    steps: tuple[Step, ...]
    deadband: Number = ZERO
    inclusive: bool = True
    over: Micros | None = None
    unit: str = ""
    absent: bool | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """``point`` below ``low`` or above ``high``; the ends of the band are still good."""

    point: str
    low: Number
    high: Number
    step: Step = Step()
    deadband: Number = ZERO
    unit: str = ""
    absent: bool | None = None


@dataclass(frozen=True, slots=True)
class Is:
    """``point`` is one of ``values``; true and 1 are different values."""

    point: str
    values: tuple[str | float | bool, ...]
    step: Step = Step()
    absent: bool | None = None


@dataclass(frozen=True, slots=True)
class Silent:
    """No good reading for ``intervals`` × the expected interval + ``plus``: of ``point``, or from a device at all."""

    intervals: float
    plus: Micros = 0
    point: str | None = None
    step: Step = Step()


@dataclass(frozen=True, slots=True)
class Share:
    """How many % of the assets of kind ``of`` whose ``link`` names this asset fulfil ``where``, beyond a limit.

    Unknown while there are fewer than ``least`` of them: one dark lamp of one is no lost circuit.
    """

    of: str
    link: str
    where: Condition
    side: Side
    steps: tuple[Step, ...]
    deadband: Number = ZERO
    inclusive: bool = True
    least: int = 1
    unit: str = "%"


class Over(StrEnum):
    """What is made of the values of one point within a time."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    COUNT = "count"  # of readings; a window holds at most 257 of them
    SPREAD = "spread"  # greatest minus least
    CHANGES = "changes"  # how often the value became another one


@dataclass(frozen=True, slots=True)
class Window:
    """``function`` of the good values of ``point`` within ``over``, beyond a limit or up a ladder. Unknown while the
    values do not reach back for at least half of ``over`` (``min``, ``max``, ``count`` and ``changes`` above a limit
    may be true before: more values cannot take it back). ``counting``: ``count`` takes only the values beyond that
    limit, and none of them is 0."""

    point: str
    function: Over
    over: Micros
    side: Side
    steps: tuple[Step, ...]
    deadband: Number = ZERO
    inclusive: bool = True
    unit: str = ""
    counting: tuple[Side, Number] | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    """The values of ``point`` moved by less than ``change`` in all of ``over``, while those of at least one other asset
    whose ``link`` names the same parent moved by ``moved`` or more. Without a ``link`` nobody is asked."""

    point: str
    over: Micros
    change: float
    link: str | None = None
    moved: float = 0.0
    step: Step = Step()
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Deviation:
    """``point`` differs from a reference by more than a limit, or a ladder of limits: from ``number`` (an attribute, a
    plan), from ``other`` (another point of the asset), or from the median of the assets whose ``link`` names the same
    parent."""

    point: str
    steps: tuple[Step, ...]
    number: Number | None = None
    other: str | None = None
    link: str | None = None
    deadband: Number = ZERO
    inclusive: bool = True
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Stands:
    """The alarm of ``rule`` is active or latched: on this asset, on the one its ``link`` names (``beside``: on another
    asset whose link names the same one), or ``anywhere``."""

    rule: str
    link: str | None = None
    beside: bool = False
    anywhere: bool = False
    step: Step = Step()


@dataclass(frozen=True, slots=True)
class Bad:
    """The newest reading of any of ``points`` is bad: a sentinel, out of range, an error of the device."""

    points: tuple[str, ...]
    step: Step = Step()


@dataclass(frozen=True, slots=True)
class Expression:
    """A CEL expression over ``points`` and ``attributes`` by their names; unknown while any point it names is."""

    text: str
    points: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    step: Step = Step()


@dataclass(frozen=True, slots=True)
class All:
    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    of: Condition


@dataclass(frozen=True, slots=True)
class Pumps:
    """``of`` for pump 1, 2, 3 … in place of ``pN_``: true for any of them, or for ``every`` one. Pumps that never
    reported do not exist."""

    of: Condition
    every: bool = False


# The closed union of conditions.
Ladder: TypeAlias = Limit | Share | Window | Deviation
Leaf: TypeAlias = Ladder | Outside | Is | Silent | Frozen | Stands | Bad | Expression
Condition: TypeAlias = Leaf | All | Any | Not | Pumps


class OnBadData(StrEnum):
    """T28: what a rule does while the data it needs is bad or uncertain."""

    HOLD = "hold"
    INSTRUMENT_ALARM = "instrument_alarm"  # hold, and a companion rule alarms for the instrument
    ASSUME_ACTIVE = "assume_active"
    ASSUME_NORMAL = "assume_normal"


@dataclass(frozen=True, slots=True)
class Cause:
    """While alarm ``rule`` of the asset this asset's ``link`` names stands (None: of this asset itself), this alarm is
    suppressed by it."""

    rule: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Sla:
    respond: Micros | None = None
    resolve: Micros | None = None
    clock: str = "urgent"


@dataclass(frozen=True, slots=True)
class Standard:
    """The row of the city's standard for cases that the rule stands for (立案条件, 结案条件, 监管主体, 责任主体; the
    处置时限 is the rule's ``sla``): texts in Chinese and in English. ``major``, ``minor``: its class in the city's
    catalogue of components and events; "" where nobody said. ``source``: where the row comes from."""

    opened_when: tuple[str, str]
    closed_when: tuple[str, str]
    supervised_by: tuple[str, str]
    responsible: tuple[str, str]
    major: str = ""
    minor: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Realarm:
    """T11: an acknowledged alarm that is still active asks again ``after`` so long, at most ``times``."""

    after: Micros
    times: int


@dataclass(frozen=True, slots=True)
class Chatter:
    """T29: so many activations ``within`` a time are chattering; it ends after ``QUIET_WINDOWS`` of these times."""

    activations: int = 3
    within: Micros = MINUTE


QUIET_WINDOWS = 10


@dataclass(frozen=True, slots=True)
class Rule:
    """See docs/rules.md for the meaning of every key."""

    id: str
    kinds: tuple[str, ...]
    when: Condition
    title_zh: str = ""
    title_en: str = ""
    profile: str | None = None
    attributes: tuple[tuple[str, str | float | bool], ...] = ()
    enabled: bool = True
    level: Level = DEFAULT_LEVEL
    on_delay: Micros = 0
    on_readings: int = 1
    off_delay: Micros | None = None
    clear_when: Condition | None = None
    event: bool = False
    latch: bool = False
    ack_required: bool = True
    on_bad_data: OnBadData = OnBadData.HOLD
    bad_data_reason: str = ""
    suppress_when: tuple[Cause, ...] = ()
    settle: Micros = DEFAULT_SETTLE
    max_time_shelved: Micros = DEFAULT_MAX_SHELVED
    schedule: Schedule | None = None
    realarm: Realarm | None = None
    chatter: Chatter = Chatter()
    confirm: bool = False
    shadow: bool = False
    shadow_of: str | None = None
    overrides: tuple[tuple[tuple[str, ...], Rule], ...] = ()
    consequence: str = ""
    response_zh: str = ""
    response_en: str = ""
    notify: tuple[str, ...] = ()
    sla: Sla | None = None
    case: bool = False
    standard: Standard | None = None
    source: str = ""
    file: str = ""
    line: int | None = None

    @property
    def annunciates(self) -> bool:
        """A rule without a response tells nobody, and one on trial neither."""
        return bool(self.response_zh or self.response_en) and not self.shadow

    @property
    def all_variants(self) -> tuple[Rule, ...]:
        """Itself and every override."""
        return (self, *(rule for _, rule in self.overrides))

    def variant(self, asset: str) -> Rule:
        """The rule as it is for ``asset``: the first of ``overrides`` one of whose patterns fits, else itself."""
        for patterns, rule in self.overrides:
            if any(fnmatchcase(asset, pattern) for pattern in patterns):
                return rule
        return self


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules by id, in the order of their files; disabled ones too."""

    rules: Mapping[str, Rule] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules.values())

    def __len__(self) -> int:
        return len(self.rules)

    def get(self, rule_id: str) -> Rule | None:
        return self.rules.get(rule_id)


def parts(condition: Condition) -> Iterator[Condition]:
    """``condition`` and everything inside it, but not the members' condition of a share."""
    yield condition
    match condition:
        case All(of) | Any(of):
            for part in of:
                yield from parts(part)
        case Not(part) | Pumps(part):
            yield from parts(part)
        case _:
            pass


def steps(condition: Condition) -> Iterator[Step]:
    """Every rung of every limit in ``condition``."""
    for part in parts(condition):
        match part:
            case Limit() | Share() | Window() | Deviation():
                yield from part.steps
            case Outside() | Is() | Silent() | Frozen() | Stands() | Bad() | Expression():
                yield part.step
            case _:
                pass


def depends_on(rule: Rule) -> frozenset[str]:
    """The rules without which ``rule`` cannot be judged: those that suppress it, and those whose alarms it asks for."""
    named = {cause.rule for variant in rule.all_variants for cause in variant.suppress_when}
    conditions = [one for variant in rule.all_variants for one in (variant.when, variant.clear_when) if one is not None]
    while conditions:
        for part in parts(conditions.pop()):
            if isinstance(part, Stands):
                named.add(part.rule)
            elif isinstance(part, Share):
                conditions.append(part.where)
    return frozenset(named)


def depending_on(names: Iterable[str], rules: RuleSet) -> set[str]:
    """These rules, and those of ``rules`` that cannot be judged without one of them, however far away."""
    needs = {rule.id: depends_on(rule) for rule in rules}
    return closure(names, lambda name: (rule for rule, wants in needs.items() if name in wants))


def with_dependencies(names: Iterable[str], rules: RuleSet) -> set[str]:
    """These rules, and those of ``rules`` without which they cannot be judged, however far away."""
    needs = {rule.id: depends_on(rule) & rules.rules.keys() for rule in rules}
    return closure(names, lambda name: needs.get(name, frozenset()))


def closure(begin: Iterable[str], step: Callable[[str], Iterable[str]]) -> set[str]:
    """Everything that ``step`` leads to, again and again."""
    found = set(begin)
    todo = list(found)
    while todo:
        new = set(step(todo.pop())) - found
        found |= new
        todo += new
    return found
