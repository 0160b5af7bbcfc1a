"""How well the rules did against the truth of a drill: what should have been raised was, and nothing else.

The truth comes from the simulators (``simulators/truth.py``), judged on the real state of things and never on what a
sensor said of it:

- a ``Hazard`` is a stretch of time in which an alarm *may* stand on an asset: the thing is, or may be, as its rule
  describes it. Within it lie ``Expected`` alarms: from ``since`` on it certainly is so, and has lasted long enough that
  by ``due`` the alarm must be there, as severe as ``level`` or more.
- an alarm raised outside every hazard of its asset and rule is false.

An expected alarm that is held down by its cause (suppressed, or folded below a flood) was detected: the operator sees
the cause.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

from gateway.core.model import SECOND, IsaState, Level, Micros, Transition

# What makes an alarm stand or stand worse, or come up from under its cause; an event is raised and over at once.
RAISES = frozenset({"T3", "T7", "T8", "T18", "T20", "T21", "T26"})
NEW = frozenset({"T3", "T7", "T26"})


class Act(msgspec.Struct, frozen=True):
    """Something that was done to the city: a fault injected, a storm, a person's work. ``scope``: the assets it can
    touch. ``until``: when it was over."""

    act: str
    cause: str
    asset: str
    zh: str
    en: str
    since: Micros
    until: Micros | None = None
    scope: tuple[str, ...] = ()


class Expected(msgspec.Struct, frozen=True):
    """An alarm that must be raised: the rule's nominal ``delay`` and the device's ``interval`` after ``since``, and by
    ``due``."""

    asset: str
    rule: str
    level: Level
    since: Micros
    due: Micros
    delay: Micros
    interval: Micros
    act: str = ""

    @property
    def alarm_id(self) -> str:
        return f"{self.asset}/{self.rule}"


class Hazard(msgspec.Struct, frozen=True):
    """A time in which the alarm may be raised; ``until`` has the rule's own delay added. None: to the end."""

    asset: str
    rule: str
    since: Micros
    until: Micros | None
    act: str = ""


class Truth(msgspec.Struct, frozen=True):
    acts: list[Act]
    expected: list[Expected]
    hazards: list[Hazard]


class Missed(msgspec.Struct, frozen=True):
    """An expected alarm that was not there in time; ``late_at``: when it came after all. ``why``: what the engine said
    of it when it was due."""

    expected: Expected
    late_at: Micros | None
    why_zh: str
    why_en: str


class RuleScore(msgspec.Struct):
    """One rule. ``delays``: seconds from the onset to the alarm, of what was detected; ``over``: the part of them
    beyond the rule's own delay, in sampling intervals."""

    rule: str
    expected: int = 0
    detected: int = 0
    raised: int = 0
    false: int = 0
    delays: list[float] = []
    over: list[float] = []

    def report(self) -> dict[str, Any]:
        return {
            "expected": self.expected,
            "detected": self.detected,
            "raised": self.raised,
            "false": self.false,
            "recall": _share(self.detected, self.expected),
            "precision": _share(self.raised - self.false, self.raised),
            "delay_median_s": round(median(self.delays), 1) if self.delays else None,
            "delay_p95_s": round(_quantile(self.delays, 0.95), 1) if self.delays else None,
            "delay_over_rule_intervals_median": round(median(self.over), 2) if self.over else None,
        }


class Score(msgspec.Struct, frozen=True):
    """``level_I``: expected and detected at level I. ``false_alarms``: raises that no hazard explains, in order.
    ``incidents``: per act, how many alarms that no cause explains were raised on what it touched."""

    rules: dict[str, RuleScore]
    missed: list[Missed]
    false_alarms: list[Transition]
    level_one: tuple[int, int]
    incidents: dict[str, int]

    @property
    def total(self) -> RuleScore:
        every = RuleScore("")
        for one in self.rules.values():
            every.expected += one.expected
            every.detected += one.detected
            every.raised += one.raised
            every.false += one.false
            every.delays = every.delays + one.delays
            every.over = every.over + one.over
        return every


def score(truth: Truth, steps: Sequence[Transition], why: Mapping[tuple[str, Micros], tuple[str, str]]) -> Score:
    """Compare. ``steps``: all recorded transitions of rules in force, in order (no shadow). ``why``: what the engine
    said, in Chinese and English, of (alarm_id, due) that had not been raised when it was due."""
    of_alarm: dict[str, list[Transition]] = defaultdict(list)
    for step in steps:
        of_alarm[step.alarm_id].append(step)
    rules: dict[str, RuleScore] = {}
    missed: list[Missed] = []
    one_expected = one_detected = 0
    for expected in truth.expected:
        rule = rules.setdefault(expected.rule, RuleScore(expected.rule, delays=[], over=[]))
        rule.expected += 1
        one_expected += expected.level is Level.I
        at = _detected_at(expected, of_alarm.get(expected.alarm_id, ()))
        if at is not None and at <= expected.due:
            rule.detected += 1
            one_detected += expected.level is Level.I
            delay = max(0, at - expected.since)
            rule.delays.append(delay / SECOND)
            rule.over.append(max(0, delay - expected.delay) / max(SECOND, expected.interval))
        else:
            zh, en = why.get((expected.alarm_id, expected.due), ("", ""))
            missed.append(Missed(expected, at, zh, en))
    hazards: dict[str, list[Hazard]] = defaultdict(list)
    for hazard in truth.hazards:
        hazards[f"{hazard.asset}/{hazard.rule}"].append(hazard)
    false: list[Transition] = []
    for step in steps:
        if step.cause not in NEW or step.to_state is IsaState.DSUPR or not step.record.annunciated:
            continue
        rule = rules.setdefault(step.record.rule, RuleScore(step.record.rule, delays=[], over=[]))
        rule.raised += 1
        if not any(_within(step.at, hazard) for hazard in hazards.get(step.alarm_id, ())):
            rule.false += 1
            false.append(step)
    return Score(
        dict(sorted(rules.items())), missed, false, (one_expected, one_detected), _incidents(truth.acts, steps)
    )


def _detected_at(expected: Expected, steps: Iterable[Transition]) -> Micros | None:
    """When the alarm first stood as severe as expected, at ``since`` or later; it may have stood before."""
    standing: Micros | None = None
    for step in steps:
        record = step.record
        severe = record.level <= expected.level
        if step.at <= expected.since:
            now = step.at == expected.since
            if severe and (record.is_active or (is_event(step) and now)):
                standing = step.at
            elif not (now and standing == step.at):  # what follows in the same moment (chattering) undoes nothing
                standing = None
        elif standing is not None:
            return expected.since
        elif step.cause in RAISES and severe:
            return step.at
    return expected.since if standing is not None else None


def is_event(step: Transition) -> bool:
    """It happened and was over in the same moment (a vehicle)."""
    return step.cause in ("T26", "T7") and not step.record.is_active


def _within(at: Micros, hazard: Hazard) -> bool:
    return hazard.since <= at and (hazard.until is None or at <= hazard.until)


def _incidents(acts: Iterable[Act], steps: Sequence[Transition]) -> dict[str, int]:
    """Alarms raised by themselves (under no other) while an act lasted, on what it could touch."""
    counts: Counter[str] = Counter()
    raises = [s for s in steps if s.cause in NEW and s.to_state is not IsaState.DSUPR and s.record.annunciated]
    for act in acts:
        scope = {act.asset, *act.scope}
        counts[act.act] += sum(
            act.since <= step.at and (act.until is None or step.at <= act.until) and step.record.asset in scope
            for step in raises
            if step.record.parent_alarm_id is None
        )
    return dict(counts)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
