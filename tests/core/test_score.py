"""The verdict of a drill: raised in time, raised for nothing, and what counts as what."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.model import SECOND, AlarmRecord, Condition, IsaState, Level, Transition
from gateway.core.score import Act, Expected, Hazard, Truth, score

S = SECOND


def step_of(
    at: float,
    cause: str,
    to: IsaState,
    *,
    asset: str = "w1",
    level: Level = Level.II,
    active: bool = True,
    parent: str | None = None,
) -> Transition:
    """One step of the alarm "gas"; at in seconds."""
    record = AlarmRecord(
        f"{asset}/gas", asset, "gas", "gas", level=level, cond=Condition.ACTIVE if active else Condition.NORMAL,
        suppressed_by=("f1/lost",) if to is IsaState.DSUPR else (), parent_alarm_id=parent,
    )  # fmt: skip
    return Transition(record.alarm_id, 1, round(at * S), cause, IsaState.NORM, to, record)


def expected(since: float, due: float, level: Level = Level.II, rule: str = "gas", delay: float = 0) -> Expected:
    return Expected("w1", rule, level, round(since * S), round(due * S), round(delay * S), 10 * S)


def hazard(since: float, until: float | None, rule: str = "gas") -> Hazard:
    return Hazard("w1", rule, round(since * S), None if until is None else round(until * S))


def truth(*parts: Expected | Hazard | Act) -> Truth:
    return Truth(
        [part for part in parts if isinstance(part, Act)],
        [part for part in parts if isinstance(part, Expected)],
        [part for part in parts if isinstance(part, Hazard)],
    )


def raised(at: float, level: Level = Level.II, **more: Any) -> Transition:
    return step_of(at, "T3", IsaState.UNACK, level=level, **more)


def test_an_alarm_in_time_is_detected_and_its_delay_is_measured_from_the_onset() -> None:
    found = score(truth(hazard(90, 300), expected(100, 150, delay=20)), [raised(125)], {})
    rule = found.rules["gas"]
    assert (rule.expected, rule.detected, rule.raised, rule.false) == (1, 1, 1, 0)
    assert (rule.delays, rule.over) == ([25.0], [0.5]), "five seconds beyond the rule's own are half an interval"
    assert (found.missed, found.false_alarms) == ([], [])


def test_one_that_comes_too_late_is_missed_and_says_when_it_came_and_why_it_was_not_there() -> None:
    due = 150 * S
    found = score(truth(hazard(90, 300), expected(100, 150)), [raised(151)], {("w1/gas", due): ("没有数据", "no data")})
    assert found.total.detected == 0
    (missed,) = found.missed
    assert (missed.late_at, missed.why_zh, missed.why_en) == (151 * S, "没有数据", "no data")
    assert found.total.false == 0, "late is not false"


def test_what_follows_an_event_in_its_own_moment_does_not_undo_it() -> None:
    third = [step_of(100, "T26", IsaState.RTNUN, active=False), step_of(100, "T29", IsaState.RTNUN, active=False)]
    assert score(truth(expected(100, 115)), third, {}).missed == [], "it chatters, and it was raised"
    before = [step_of(90, "T26", IsaState.RTNUN, active=False), step_of(100, "T10", IsaState.NORM, active=False)]
    assert len(score(truth(expected(100, 115)), before, {}).missed) == 1, "the one before is another vehicle's"


def test_one_that_never_comes_is_missed() -> None:
    found = score(truth(expected(100, 150)), [], {})
    assert (found.missed[0].late_at, found.missed[0].why_en) == (None, "")


def test_outside_every_hazard_of_its_own_rule_and_asset_it_is_false() -> None:
    elsewhere = hazard(0, None, rule="dust")
    found = score(truth(hazard(90, 300), elsewhere), [raised(89), raised(301)], {})
    assert [step.at for step in found.false_alarms] == [89 * S, 301 * S]
    assert (found.rules["gas"].raised, found.rules["gas"].false) == (2, 2)
    assert score(truth(hazard(90, None)), [raised(10_000)], {}).false_alarms == [], "to the end"


def test_too_mild_an_alarm_is_none_and_worse_than_asked_for_will_do() -> None:
    mild = score(truth(hazard(0, None), expected(100, 150, Level.II)), [raised(110, Level.III)], {})
    assert mild.total.detected == 0
    worse = score(truth(hazard(0, None), expected(100, 150, Level.II)), [raised(110, Level.I)], {})
    assert worse.total.detected == 1
    grown = [raised(110, Level.III), step_of(140, "T8", IsaState.UNACK, level=Level.II)]
    assert score(truth(hazard(0, None), expected(100, 150, Level.II)), grown, {}).total.delays == [40.0]


def test_what_stands_already_was_detected_at_once_and_what_went_away_before_was_not() -> None:
    standing = [raised(50)]
    assert score(truth(hazard(0, None), expected(100, 150)), standing, {}).total.delays == [0.0]
    gone = [raised(50), step_of(60, "T6", IsaState.RTNUN, active=False)]
    assert score(truth(hazard(0, None), expected(100, 150)), gone, {}).total.detected == 0


def test_one_that_its_cause_holds_down_was_seen_but_is_no_alarm_of_its_own() -> None:
    held = [step_of(110, "T3", IsaState.DSUPR)]
    found = score(truth(expected(100, 150)), held, {})
    assert (found.total.detected, found.total.raised, found.total.false) == (1, 0, 0)


def test_level_one_is_counted_by_itself() -> None:
    steps = [raised(110, Level.I)]
    found = score(truth(hazard(0, None), expected(100, 150, Level.I), expected(200, 250, Level.I, "dust")), steps, {})
    assert found.level_one == (2, 1)


def test_incidents_of_an_act_are_what_was_raised_on_what_it_touches_while_it_lasts() -> None:
    act = Act("cut-1", "cut", "f1", "断电", "cut", 100 * S, 200 * S, ("w1",))
    steps = [
        raised(99),
        raised(150),
        raised(160, parent="f1/lost"),  # explained by another
        step_of(170, "T3", IsaState.UNACK, asset="w2"),  # not touched by it
        raised(201),
    ]
    assert score(truth(act, hazard(0, None)), steps, {}).incidents == {"cut-1": 1}


@pytest.mark.parametrize("cause", ["T10", "T6", "T20"])
def test_nothing_but_a_raise_is_a_raise(cause: str) -> None:
    steps = [step_of(110, cause, IsaState.ACKED)]
    assert score(truth(), steps, {}).total.raised == 0


def test_figures_of_a_rule_are_none_where_there_is_nothing_to_divide_by() -> None:
    report = score(truth(expected(100, 150)), [], {}).rules["gas"].report()
    assert (report["recall"], report["precision"], report["delay_median_s"]) == (0.0, None, None)
    both = (
        score(truth(hazard(0, None), expected(100, 150), expected(300, 350)), [raised(110)], {}).rules["gas"].report()
    )
    assert (both["recall"], both["precision"]) == (1.0, 1.0), "it stands when the second is due"
