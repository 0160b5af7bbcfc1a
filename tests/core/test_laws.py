"""The laws of docs/alarms.md, over random scripts of readings, silences, commands, restarts and late wake-ups."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import plan
from gateway.core.model import (
    AlarmRecord,
    Asset,
    CommandName,
    Condition,
    IsaState,
    MaintenanceChanged,
    Quality,
    Shelve,
    Transition,
)
from tests.core.street import START, Street

RULES = """
- rule: road-depth
  applies_to: {kind: road}
  when:
    point: depth
    above:
      - {limit: 5, level: IV, on_delay: 20s}
      - {limit: 15, level: II, on_delay: 10s}
      - {limit: 25, level: I, on_delay: 0s}
    deadband: 3
  off_delay: 15s
  suppress_when: [{cause: basin-flooded, link: catchment}]
  settle: 10s
  response: close the road
- rule: wet
  applies_to: {kind: road}
  when: {point: depth, above: 10, deadband: 5}
  latch: true
  response: look
- rule: battery
  applies_to: {kind: road}
  when: {point: battery, below: 20, deadband: 5}
  on_delay: 2 readings
  level: III
- rule: offline
  applies_to: {kind: road}
  when: {silent: 3}
  on_bad_data: assume_active
  suppress_when: [{cause: basin-flooded, link: catchment}]
  response: look
- rule: jump
  applies_to: {kind: road}
  when: {point: depth, rate: {over: 30s, above: 12}}
  response: look
- rule: splash
  applies_to: {kind: road}
  when: {point: rssi, above: -50}
  event: true
  response: look
- rule: often
  applies_to: {kind: road}
  when: {point: depth, above: 9, deadband: 1}
  realarm: {after: 20s, times: 2}
  chatter: {activations: 2, within: 30s}
  confirm: true
  level: I
  response: look
- rule: restless
  applies_to: {kind: road}
  when:
    all:
      - {point: depth, window: {over: 40s, function: spread, above: 20}}
      - not: {stands: {rule: basin-flooded, link: catchment}}
  response: look
- rule: flickers
  applies_to: {kind: road}
  when: {point: device_fault, window: {over: 60s, function: changes, above: 2}}
  response: look
- rule: deep-often
  applies_to: {kind: road}
  when: {point: depth, window: {over: 60s, function: count, counting: {above: 9}, above: 2, deadband: 0}}
  response: look
- rule: clock
  applies_to: {kind: road}
  when: {point: clock_skew, above: 20, deadband: 5, on_delay: 2 readings}
  response: look
- rule: unlike
  applies_to: {kind: road}
  when: {point: depth, deviation: {from: {neighbours: catchment}, above: 10}}
  on_delay: 5s
  overrides: [{assets: r2, set: {"when.deviation.above": 4, on_delay: 0s}}]
  response: look
- rule: dry
  applies_to: {kind: road}
  when:
    any:
      - {point: depth, frozen: {over: 30s, change: 1, link: catchment, moved: 5}}
      - {expr: "depth < 1.0 && battery > 50.0"}
      - {stands: {rule: wet, neighbours: catchment}}
  schedule: {between: ["23:07", "23:09"]}
  shadow: true
  response: look
- rule: deep-and-fed
  applies_to: {kind: road}
  when:
    all:
      - {point: battery, above: 15, deadband: 3}
      - {point: depth, above: 12, deadband: 2}
  response: look
- rule: anywhere
  applies_to: {kind: road}
  when: {stands: {rule: wet, anywhere: true}}
  on_delay: 3s
  response: look
- rule: basin-flooded
  applies_to: {kind: catchment}
  when: {share: {of: road, link: catchment, where: {any: [{point: depth, above: 15}, {silent: 3}]}, above: 60 %}}
  on_delay: 12s
  level: I
  response: everybody
"""
ROADS = ("r1", "r2", "r3")
RULE_IDS = (
    "road-depth", "wet", "battery", "offline", "splash", "often", "restless", "unlike", "dry", "anywhere",
    "deep-and-fed", "deep-often", "clock",
)  # fmt: skip
ALARMS = tuple(f"{road}/{rule}" for road in ROADS for rule in RULE_IDS)

depths = st.sampled_from([0.0, 2.0, 2.1, 4.9, 5.0, 9.0, 12.0, 15.0, 22.0, 25.0, 40.0])
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 3, 7, 10, 15, 20, 31, 90]),
        st.one_of(
            st.tuples(st.just("depth"), st.sampled_from(ROADS), depths),
            st.tuples(st.just("battery"), st.sampled_from(ROADS), st.sampled_from([10.0, 19.0, 22.0, 90.0])),
            st.tuples(st.just("device_fault"), st.sampled_from(ROADS), st.booleans()),
            st.tuples(st.just("rssi"), st.sampled_from(ROADS), st.sampled_from([-90.0, -40.0])),
            st.tuples(st.just("bad"), st.sampled_from(ROADS), st.sampled_from([Quality.BAD, Quality.UNCERTAIN])),
            st.tuples(st.just("late"), st.sampled_from(ROADS), depths),
            st.tuples(
                st.just("do"),
                st.sampled_from(ALARMS),
                st.sampled_from(
                    [
                        CommandName.ACKNOWLEDGE,
                        CommandName.UNACKNOWLEDGE,
                        CommandName.SHELVE,
                        CommandName.UNSHELVE,
                        CommandName.RESET,
                        CommandName.COMMENT,
                        CommandName.OUT_OF_SERVICE,
                        CommandName.IN_SERVICE,
                        CommandName.CONFIRM,
                        CommandName.FORCE_CLEAR,
                        CommandName.SILENCE,
                        CommandName.DISPATCH,
                        CommandName.ACCEPT,
                        CommandName.REFUSE,
                        CommandName.ON_SITE,
                        CommandName.DONE,
                        CommandName.VERIFY,
                        CommandName.RETURN,
                        CommandName.CLOSE,
                    ]
                ),
            ),
            st.tuples(st.just("job"), st.sampled_from(ALARMS), st.just(0)),
            st.tuples(st.just("window"), st.sampled_from(ROADS), st.sampled_from([0, 15, 70])),
            st.tuples(st.just("deaf"), st.just(""), st.sampled_from([5, 60, 300])),
            st.tuples(st.just("nothing"), st.just(""), st.just(0)),
        ),
    ),
    max_size=60,
)
Script = list[tuple[int, tuple[str, Any, Any]]]


def street() -> Street:
    roads = [Asset(road, "road", links={"catchment": "c1"}) for road in ROADS]
    return Street(RULES, [Asset("c1", "catchment"), *roads], interval_s=lambda name: None if name == "c1" else 10)


def play(town: Street, at: float, step: tuple[str, Any, Any]) -> None:
    kind, whom, what = step
    match kind:
        case "depth" | "battery" | "rssi" | "device_fault":
            town.send(at, whom, **{kind: what})
        case "bad":
            town.send(at, whom, quality=what, depth=None)
        case "late":
            town.send(at, whom, measured=at - 700, depth=what)
        case "do":
            arguments: dict[CommandName, dict[str, Any]] = {
                CommandName.SHELVE: {"once": True} if whom.endswith("wet") else {"seconds": 40},
                CommandName.OUT_OF_SERVICE: {"work": "order 7"},
                CommandName.CONFIRM: {"cause_code": "blocked"},
                CommandName.DISPATCH: {"to": f"crew-{town.done % 3}"},
                CommandName.DONE: {"cause_code": "blocked"},
            }
            town.do(at, what, whom, why="because", **arguments.get(what, {}))
        case "job":  # the whole of it, up to where the readings decide
            for name in (CommandName.DISPATCH, CommandName.ACCEPT, CommandName.DONE):
                play(town, at, ("do", whom, name))
        case "window":  # maintenance that begins so much later; or the end of what is open
            since = START + round((at + what) * 1e6)
            if town.do(at, CommandName.MAINTENANCE, whom, why="because", work="order 7", since=since, seconds=90):
                town.do(at, CommandName.END_MAINTENANCE, whom)
        case "deaf":
            town.at(at)
            town.engine.blind(town.engine.now, START + round((at + what) * 1e6))
            town.at(at + what, late=True)
        case _:
            town.at(at)


def times(script: Script) -> list[tuple[float, tuple[str, Any, Any]]]:
    """The script with absolute times; what follows a deaf time comes after it."""
    at = 0.0
    timed: list[tuple[float, tuple[str, Any, Any]]] = []
    for wait, step in script:
        at += wait
        timed.append((at, step))
        if step[0] == "deaf":
            at += step[2]
    return timed


def told(script: Script) -> Street:
    town = street()
    for at, step in times(script):
        play(town, at, step)
    town.at(town.now + 500)
    return town


def recorded(record: AlarmRecord) -> AlarmRecord:
    """The record with pending folded away: waiting is not history."""
    active = record.cond in (Condition.ACTIVE, Condition.PENDING_OFF)
    return replace(record, cond=Condition.ACTIVE if active else Condition.NORMAL)


@given(steps)
def test_law_1_acknowledging_never_changes_the_condition_and_the_condition_never_acknowledges(script: Script) -> None:
    last: dict[str, AlarmRecord] = {}
    for step in told(script).transitions:
        before = last.get(step.alarm_id)
        last[step.alarm_id] = step.record
        if before is None:
            continue
        if step.cause in ("T10", "T11", "T12", "T17", "T22", "T23", "T25", "T31") or step.cause.startswith("W"):
            assert step.record.cond is before.cond
        elif not before.acked and step.by is None:
            assert not step.record.acked, step


@given(steps)
def test_law_2_nothing_asks_again_that_is_not_acknowledged_active_and_annunciated(script: Script) -> None:
    last: dict[str, AlarmRecord] = {}
    for step in told(script).transitions:
        if step.cause == "T11":
            before = last[step.alarm_id]
            assert before.acked
            assert before.is_active
            assert before.annunciated
            assert step.record.realarm_count == before.realarm_count + 1 <= 2
        last[step.alarm_id] = step.record


@given(steps)
def test_law_3_acknowledged_and_unlatched_it_is_over_when_it_is_normal(script: Script) -> None:
    last: dict[str, AlarmRecord] = {}
    for step in told(script).transitions:
        before = last.get(step.alarm_id)
        last[step.alarm_id] = step.record
        if step.cause == "T6" and before is not None and before.acked and not before.latched and before.annunciated:
            assert step.to_state is IsaState.NORM


@given(steps)
def test_law_4_what_is_shelved_or_suppressed_is_recorded_and_tells_nobody(script: Script) -> None:
    for step in told(script).transitions:
        if step.notify:
            assert step.record.annunciated
            assert step.to_state not in (IsaState.SHLVD, IsaState.DSUPR, IsaState.OOSRV)
        if step.record.shelve is not Shelve.UNSHELVED:
            assert step.record.unshelve_at is not None
            assert step.record.unshelve_at > step.at - 1


@given(steps)
def test_while_an_asset_is_under_maintenance_nobody_is_told_of_it(script: Script) -> None:
    town = told(script)
    windows = {event.window.id: event.window for event in town.events if isinstance(event, MaintenanceChanged)}
    for window in windows.values():
        end = window.until if window.ended_at is None else window.ended_at
        assert window.by
        assert window.reason
        assert end <= window.until
        for step in town.transitions:
            if step.record.asset == window.asset and window.since < step.at < end:
                assert not step.notify
                raised = step.cause in ("T3", "T7", "T8", "T26")
                assert step.to_state is IsaState.OOSRV or not raised


@given(steps)
def test_law_5_who_sets_an_alarm_aside_says_why_and_a_shelf_ends(script: Script) -> None:
    for step in told(script).transitions:
        if step.cause in ("T15", "T16", "T22", "T25", "T27"):
            assert step.by
            assert step.why
        if step.record.out_of_service is not None:
            away = step.record.out_of_service
            assert away.by
            assert away.reason
            assert away.work


@given(steps)
def test_law_6_every_notification_is_told_once_and_a_chattering_alarm_is_folded(script: Script) -> None:
    told_once: set[tuple[str, int]] = set()
    last: dict[str, AlarmRecord] = {}
    for step in told(script).transitions:
        before = last.get(step.alarm_id)
        last[step.alarm_id] = step.record
        if step.notify:
            assert (step.alarm_id, step.rev) not in told_once
            told_once.add((step.alarm_id, step.rev))
            assert not step.record.silenced
            assert not step.record.shadow
            if before is not None and before.chattering and step.record.chattering:
                assert step.record.level == 1, "only the worst is told while it chatters"


@given(steps)
def test_law_7_folding_the_recorded_transitions_gives_the_live_record(script: Script) -> None:
    town = told(script)
    folded: dict[str, Transition] = {}
    for step in town.transitions:
        before = folded.get(step.alarm_id)
        assert step.rev == step.record.rev == (before.rev if before else 0) + 1
        assert step.from_state is (before.to_state if before else IsaState.NORM)
        assert step.to_state is step.record.isa_state
        folded[step.alarm_id] = step
    live = {record.alarm_id: record for record in town.engine.alarms() if record.rev}
    assert set(live) == set(folded)
    for alarm_id, record in live.items():
        assert recorded(record) == recorded(folded[alarm_id].record)


@given(steps, st.randoms(use_true_random=False))
def test_law_8_waking_late_gives_the_same_transitions_as_waking_on_time(script: Script, random: Any) -> None:
    late = told(script)
    punctual = street()
    for at, step in times(script):
        while (due := punctual.engine.next_deadline) is not None and due <= START + at * 1e6:
            punctual.engine.advance(due, punctual.events)
            if random.random() < 0.5:
                punctual.at(min(at, punctual.now + random.random()))
        play(punctual, at, step)
    while (due := punctual.engine.next_deadline) is not None and due <= late.engine.now:
        punctual.engine.advance(due, punctual.events)
    punctual.engine.advance(late.engine.now, punctual.events)
    assert punctual.events == late.events
    assert list(punctual.engine.alarms()) == list(late.engine.alarms())


@given(steps)
def test_law_9_the_isa_state_is_total_and_unique(script: Script) -> None:
    for step in told(script).transitions:
        record = step.record
        plain = record.out_of_service is None and not record.suppressed_by and record.shelve is Shelve.UNSHELVED
        holds = {
            IsaState.OOSRV: record.out_of_service is not None,
            IsaState.DSUPR: record.out_of_service is None and bool(record.suppressed_by),
            IsaState.SHLVD: record.out_of_service is None
            and not record.suppressed_by
            and record.shelve is not Shelve.UNSHELVED,
            IsaState.UNACK: plain and record.is_active and not record.acked,
            IsaState.ACKED: plain and record.is_active and record.acked,
            IsaState.RTNUN: plain and not record.is_active and not record.acked,
            IsaState.NORM: plain and not record.is_active and record.acked,
        }
        if record.enabled:
            assert [state for state, true in holds.items() if true] == [record.isa_state]


@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(2.0, 5.0, exclude_min=True, exclude_max=True)), max_size=40),
    st.booleans(),
)
def test_law_10_values_inside_the_deadband_never_chatter(values: list[tuple[int, float]], active: bool) -> None:
    town = Street()
    for second in (0, 120):
        town.send(second, depth=6.0 if active else 0.0)
    before = town.story()
    assert len(before) == active
    at = 120
    for wait, value in values:
        at += wait
        town.send(at, depth=value)
    assert town.story() == before


@given(steps, st.randoms(use_true_random=False))
def test_law_11_a_duplicated_delivery_gives_the_same_alarms_as_a_clean_one(script: Script, random: Any) -> None:
    clean = told(script)
    noisy = street()
    sent: list[tuple[float, tuple[str, Any, Any]]] = []
    for at, step in times(script):
        play(noisy, at, step)
        measured = step[0] in ("depth", "battery", "rssi", "device_fault")
        if measured and all(s[0] != at or s[1][:2] != step[:2] for s in sent):
            sent.append((at, step))
        for then, (point, road, value) in random.sample(sent, min(len(sent), random.randrange(4))):
            again = noisy.send(max(at, noisy.now), road, measured=then, **{point: value})
            # Older than the lateness it is late all the same; a duplicate it is in any case.
            assert again.keep == []
            assert again.duplicates == 1
    noisy.at(noisy.now + 500)
    noisy.engine.advance(clean.engine.now, noisy.events)
    assert noisy.events == clean.events


@given(steps, st.integers(0, 60))
def test_a_restart_anywhere_changes_nothing(script: Script, where: int) -> None:
    whole = told(script)
    town = street()
    events = []
    for i, (at, step) in enumerate(times(script)):
        if i == where:
            events += town.events
            before = town.engine.snapshot()
            town = town.restarted()
            assert town.engine.snapshot() == before
        play(town, at, step)
    town.at(town.now + 500)
    assert events + town.events == whole.events
    assert list(town.engine.alarms()) == list(whole.engine.alarms())
    assert town.engine.next_deadline == whole.engine.next_deadline


@given(steps)
def test_what_guards_spare_would_have_changed_nothing(script: Script) -> None:
    guarded = told(script)
    guard = plan._guard
    plan._guard = lambda *_, **__: None
    try:
        everything_asked = told(script)
    finally:
        plan._guard = guard
    assert guarded.events == everything_asked.events


@given(steps)
def test_the_same_script_gives_the_same_bytes(script: Script) -> None:
    first, second = told(script), told(script)
    assert first.events == second.events
    assert first.engine.snapshot() == second.engine.snapshot()
