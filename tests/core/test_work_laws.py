"""The laws of work (core/work.py), over the scripts of ``test_laws``, whose other laws hold for it too."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import AlarmRecord, CommandName, Quality, Transition, WorkState
from gateway.core.work import COMMANDS, LEAST_HOLD, OPEN, REOPENS_WITHIN
from tests.core import test_laws
from tests.core.street import START
from tests.core.test_laws import Script, depths, play, street, times, told

# Two roads under water, and crews that hurry: so that most scripts get as far as the readings' verdict.
ROADS = st.sampled_from(("r1", "r2"))
ALARMS = st.sampled_from(
    [f"{road}/{rule}" for road in ("r1", "r2") for rule in ("wet", "often", "road-depth", "splash", "offline")]
)
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 9, 15, 31, 61, 90]),
        st.one_of(
            st.tuples(st.just("depth"), ROADS, depths),
            st.tuples(st.just("depth"), ROADS, st.sampled_from([0.0, 40.0])),
            st.tuples(st.just("depth"), ROADS, st.sampled_from([0.0, 40.0])),
            st.tuples(st.just("job"), ALARMS, st.just(0)),
            st.tuples(st.just("job"), ALARMS, st.just(0)),
            st.tuples(st.just("do"), ALARMS, st.sampled_from(sorted(COMMANDS))),
            st.tuples(st.just("do"), ALARMS, st.sampled_from([CommandName.SHELVE, CommandName.OUT_OF_SERVICE])),
            st.tuples(st.just("rssi"), ROADS, st.sampled_from([-90.0, -40.0])),
            st.tuples(st.just("bad"), ROADS, st.sampled_from([Quality.BAD, Quality.UNCERTAIN])),
            st.tuples(st.just("late"), ROADS, depths),
            st.tuples(st.just("window"), ROADS, st.sampled_from([0, 15, 70])),
            st.tuples(st.just("deaf"), st.just(""), st.sampled_from([5, 60, 300])),
        ),
    ),
    min_size=20,
    max_size=60,
)

POINTS = {  # of the rules that look at readings of their asset and no others
    "road-depth": ("depth",), "wet": ("depth",), "battery": ("battery",), "often": ("depth",),
    "deep-often": ("depth",), "deep-and-fed": ("battery", "depth"),
}  # fmt: skip
LEADS_TO = {
    "W1": {"DISPATCHED"}, "W2": {"ACCEPTED"}, "W3": {"REJECTED"}, "W4": {"ON_SITE"}, "W5": {"DONE", "VERIFYING"},
    "W6": {"CLOSED"}, "W7": {"DISPATCHED"}, "W8": {"DISPATCHED"}, "W9": {"CLOSED"}, "W10": {"CLOSED", "DISPATCHED"},
}  # fmt: skip


def before_and_after(transitions: list[Transition]) -> list[tuple[AlarmRecord, Transition]]:
    """Every step of work with the record before it."""
    last: dict[str, AlarmRecord] = {}
    found: list[tuple[AlarmRecord, Transition]] = []
    for step in transitions:
        if step.cause.startswith("W"):
            found.append((last[step.alarm_id], step))
        last[step.alarm_id] = step.record
    return found


@given(steps)
def test_work_changes_neither_the_condition_nor_the_level_and_tells_nobody(script: Script) -> None:
    for before, step in before_and_after(told(script).transitions):
        after = step.record
        assert (after.cond, after.level, after.latched, after.occurrence_id) == (
            before.cond, before.level, before.latched, before.occurrence_id,
        )  # fmt: skip
        assert not step.notify
        assert after.acked is before.acked or (step.cause == "W2" and after.acked)


@given(steps)
def test_the_condition_changes_work_by_a_relapse_alone(script: Script) -> None:
    last: dict[str, AlarmRecord] = {}
    for step in told(script).transitions:
        before = last.get(step.alarm_id)
        last[step.alarm_id] = step.record
        if before is None or step.cause.startswith("W"):
            continue
        same = (step.record.work, step.record.order) == (before.work, before.order)
        gone = step.record.work == "NONE" and before.work == "CLOSED" and step.cause in ("T3", "T7", "T26")
        assert same or gone, step


@given(steps)
def test_every_row_leads_to_its_states_and_an_order_is_there_when_work_is(script: Script) -> None:
    town = told(script)
    for before, step in before_and_after(town.transitions):
        assert step.record.work in LEADS_TO[step.cause]
        assert step.record.work in WorkState.__members__
        order = step.record.order
        assert order is not None
        assert order.to
        assert (step.record.work == "CLOSED") is (order.closed_at is not None)
        assert (step.record.work in ("DONE", "VERIFYING", "CLOSED")) or order.done_at is None
        assert (step.by is None) is (step.cause in ("W6", "W7", "W8"))
        if before.order is not None and order.id == before.order.id:
            assert order.reworks >= before.order.reworks
            assert order.reopened >= before.order.reopened
        if step.cause in ("W6", "W7"):
            assert before.work == "VERIFYING"
        if step.cause == "W8":
            assert before.order is not None
            assert before.order.closed_at is not None
            assert step.at - before.order.closed_at <= REOPENS_WITHIN
    for record in town.engine.alarms():
        assert (record.work == "NONE") is (record.order is None)
        assert record.work in OPEN | {"NONE", "CLOSED", "REJECTED"}


@given(steps)
def test_readings_close_work_only_when_they_are_good_and_newer_than_it(script: Script) -> None:
    town = street()
    good: dict[tuple[str, str], list[int]] = {}
    done: dict[str, int] = {}
    seen = 0
    for at, step in times(script):
        play(town, at, step)
        for event in town.transitions[seen:]:
            rule = event.record.rule
            if event.cause in ("W6", "W7") and rule in POINTS:
                assert event.record.order is not None
                done_at = done[event.alarm_id]
                for point in POINTS[rule]:
                    fresh = [t for t in good.get((event.record.asset, point), []) if done_at < t <= event.at]
                    ever = (event.record.asset, point) in good
                    assert fresh or not ever, f"{event.alarm_id} by old {point}"
                    if fresh and event.cause == "W6" and len(POINTS[rule]) == 1:
                        assert event.at - fresh[0] >= LEAST_HOLD
            if event.record.work == "VERIFYING" and event.record.order is not None:
                done[event.alarm_id] = event.record.order.done_at or 0
        seen = len(town.transitions)
        kind, road, what = step
        if kind in ("depth", "battery"):
            good.setdefault((road, kind), []).append(START + round(at * 1e6))
        elif kind == "bad":
            good.setdefault((road, "depth"), []).clear()
            assert what is not Quality.GOOD


@given(steps)
def test_folding_the_steps_of_work_gives_the_live_record(script: Script) -> None:
    test_laws.test_law_7_folding_the_recorded_transitions_gives_the_live_record.hypothesis.inner_test(script)


@given(steps, st.randoms(use_true_random=False))
def test_waking_late_gives_the_same_work(script: Script, random: Any) -> None:
    inner = test_laws.test_law_8_waking_late_gives_the_same_transitions_as_waking_on_time.hypothesis.inner_test
    inner(script, random)


@given(steps, st.integers(0, 60))
def test_a_restart_anywhere_leaves_work_as_it_was(script: Script, where: int) -> None:
    test_laws.test_a_restart_anywhere_changes_nothing.hypothesis.inner_test(script, where)


@given(steps)
def test_the_same_script_gives_the_same_work(script: Script) -> None:
    test_laws.test_the_same_script_gives_the_same_bytes.hypothesis.inner_test(script)


@given(steps, st.randoms(use_true_random=False))
def test_a_duplicated_delivery_closes_and_reopens_nothing(script: Script, random: Any) -> None:
    inner = test_laws.test_law_11_a_duplicated_delivery_gives_the_same_alarms_as_a_clean_one.hypothesis.inner_test
    inner(script, random)
