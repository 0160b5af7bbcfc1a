"""A rule is the rationalisation record of an alarm: what must be true, for how long, who must do what about it.

Compiled and frozen: every number is in the canonical unit of its point, every name was checked when the file was read
(``config/rules.py``). A rule that names no response is an *event*: recorded, never annunciated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from gateway.core.model import HOUR, MINUTE, Level, Micros

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


# The closed union of conditions. Window, Frozen, Deviation and Expression join it with the rule language's second part.
Condition: TypeAlias = Limit | Outside | Is | Silent | Share | All | Any | Not | Pumps


class OnBadData(StrEnum):
    """T28: what a rule does while the data it needs is bad or uncertain."""

    HOLD = "hold"
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
    consequence: str = ""
    response_zh: str = ""
    response_en: str = ""
    notify: tuple[str, ...] = ()
    sla: Sla | None = None
    case: bool = False
    source: str = ""
    file: str = ""
    line: int | None = None

    @property
    def annunciates(self) -> bool:
        """A rule without a response tells nobody."""
        return bool(self.response_zh or self.response_en)


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
            case Limit() | Share():
                yield from part.steps
            case Outside() | Is() | Silent():
                yield part.step
            case _:
                pass
