"""Time, silence, assets that change, rules that change, restarts."""

from __future__ import annotations

import pytest

from gateway.core.engine import Engine
from gateway.core.model import (
    Asset,
    Command,
    CommandName,
    Condition,
    Decoded,
    Device,
    Event,
    Level,
    Quality,
    Reading,
)
from gateway.core.registry import Registry
from gateway.core.rule import RuleSet
from tests.core.street import ROAD, START, Street, rules_of

S = 1_000_000

SILENT = """
- rule: offline
  applies_to: {kind: road}
  when: {silent: 3}
  response: look
- rule: depth-silent
  applies_to: {kind: road}
  when: {point: depth, silent: {intervals: 2, plus: 30s}}
  response: look
"""


def test_deadlines_fire_at_their_own_time_however_late_the_engine_wakes() -> None:
    street = Street()
    street.send(0, depth=6.0)
    assert street.engine.next_deadline == START + 120 * S
    street.at(100_000)
    assert street.transitions[0].at == START + 120 * S
    assert street.engine.next_deadline is None


def test_a_deadline_of_this_instant_comes_before_the_reading_of_this_instant() -> None:
    street = Street()
    street.send(0, depth=6.0)
    street.send(120, depth=0.0)
    assert street.story() == [(120, "T3", "UNACK")]


def test_time_never_goes_back() -> None:
    street = Street()
    street.at(100)
    street.at(50)
    assert street.now == 100


def test_a_clock_that_is_set_right_runs_no_delay_and_makes_nobody_silent() -> None:
    street = Street(ROAD + SILENT, interval_s=lambda _: 60)
    street.send(0, depth=6.0)
    year = 365 * 86_400
    street.engine.leap(START + 30 * S, START + (30 + year) * S)
    street.at(year + 119)
    assert street.transitions == []
    street.at(year + 120)
    assert street.story() == [(year + 120, "T3", "UNACK")]
    street.at(year + 200)
    assert street.story("r1/offline") == [(year + 180, "T3", "UNACK")]


def test_silence_is_counted_from_the_last_good_live_reading() -> None:
    street = Street(SILENT, interval_s=lambda _: 60)
    street.send(0, depth=1.0)
    street.send(100, depth=None, quality=Quality.BAD)
    street.send(110, measured=0, depth=1.0)  # a duplicate proves nothing
    street.send(120, measured=-3600, depth=1.0)  # nor does last hour's
    street.at(500)
    assert street.story("r1/offline") == [(180, "T3", "UNACK")]
    street.send(600, depth=1.0)
    assert street.story("r1/offline")[-1] == (600, "T6", "RTNUN")


def test_a_point_can_be_silent_while_its_device_speaks() -> None:
    street = Street(SILENT, interval_s=lambda _: 60)
    for second in range(0, 400, 10):
        street.send(second, battery=90.0)
        if second < 100:
            street.send(second, depth=1.0)
    assert street.story("r1/depth-silent") == [(90 + 150, "T3", "UNACK")]
    assert street.story("r1/offline") == []
    street.send(400, depth=1.0)
    assert street.story("r1/depth-silent")[-1] == (400, "T6", "RTNUN")


def test_a_device_that_never_spoke_is_missed_from_the_day_it_was_registered() -> None:
    street = Street(SILENT, interval_s=lambda _: 60)
    street.at(1000)
    assert street.story("r1/offline") == [(180, "T3", "UNACK")]


def test_silence_keeps_one_entry_in_the_heap_however_many_messages_come() -> None:
    street = Street(SILENT, interval_s=lambda _: 60)
    for second in range(0, 3600, 2):
        street.send(second, depth=1.0)
    assert len(street.engine._heap) == 2


def test_the_gateway_was_deaf_so_nobody_was_silent() -> None:
    street = Street(SILENT, interval_s=lambda _: 60)
    street.send(0, depth=1.0)
    street.engine.blind(street.engine.now, START + 7200 * S)
    street.at(7200, late=True)
    assert street.transitions == []
    street.at(7200 + 179)
    assert street.story("r1/offline") == []
    street.at(7200 + 180)
    assert street.story("r1/offline") == [(7380, "T3", "UNACK")]


def test_the_engine_may_be_made_before_it_knows_the_time() -> None:
    registry = Registry()
    registry.upsert([Asset("r1", "road")], [Device("r1", "r1", "p")])
    engine = Engine(registry, rules_of(SILENT), lambda _: 60 * S)
    events: list[Event] = []
    engine.advance(START, events)
    assert events == []
    assert engine.next_deadline == START + 150 * S


def test_a_replaced_sensor_leaves_points_and_alarms_to_the_asset() -> None:
    street = Street(ROAD + SILENT, interval_s=lambda _: 60)
    street.send(0, depth=6.0)
    street.at(100)
    street.engine.apply_assets(
        [], [Device("r1", "depot", "p"), Device("new", "r1", "p")], street.engine.now, street.events
    )
    street.at(120)
    assert street.record().cond is Condition.ACTIVE
    point = street.engine.point("r1", "depth")
    assert point is not None
    assert point.value == 6.0
    street.at(2000)  # only the new device is missed, since it was mounted
    assert street.story("r1/offline") == [(280, "T3", "UNACK")]


def test_a_limit_follows_the_attribute_it_is_made_of_and_the_alarm_keeps_its_state() -> None:
    rules = """
- rule: overload
  applies_to: {kind: bridge}
  when: {point: gvw, above: {attribute: posted_limit}, inclusive: false}
  response: stop it
"""
    street = Street(rules, [Asset("b1", "bridge")])
    assert street.engine.not_applicable("b1") == {"overload": "attribute posted_limit"}
    street.send(0, "b1", gvw=25.0)
    assert street.transitions == []
    bridge = Asset("b1", "bridge", attributes={"posted_limit": 20.0})
    street.engine.apply_assets([bridge], [], street.engine.now, street.events)
    assert street.story("b1/overload") == [(0, "T3", "UNACK")]
    street.do(1, CommandName.ACKNOWLEDGE, "b1/overload")
    wider = Asset("b1", "bridge", attributes={"posted_limit": 30.0})
    street.engine.apply_assets([wider], [], street.engine.now, street.events)
    assert street.story("b1/overload")[-1] == (1, "T6", "NORM")


def test_a_removed_rule_closes_its_alarms_with_the_reason_and_a_kept_one_keeps_its_state() -> None:
    other = """
- rule: battery
  applies_to: {kind: road}
  when: {point: battery, below: 20, deadband: 5}
  response: change it
"""
    street = Street(ROAD + other)
    street.send(0, depth=6.0, battery=10.0)
    street.at(121)
    street.do(122, CommandName.ACKNOWLEDGE)
    street.engine.replace_rules(rules_of(ROAD), street.engine.now, street.events)
    assert street.story("r1/battery") == [(0, "T3", "UNACK"), (122, "T24", "NORM")]
    assert street.transitions[-1].why == "rule battery was removed"
    assert not street.record("r1/battery").enabled
    assert street.record().acked
    assert street.do(123, CommandName.ACKNOWLEDGE, "r1/battery") == (
        "not_allowed",
        "the rule of this alarm is not in force",
    )
    street.engine.replace_rules(rules_of(ROAD + other), street.engine.now, street.events)
    assert street.story("r1/battery")[-1] == (123, "T3", "UNACK")
    assert street.record("r1/battery").rev == 3
    assert street.record("r1/battery").enabled


def test_a_disabled_rule_is_not_in_force() -> None:
    street = Street()
    street.send(0, depth=6.0)
    street.at(121)
    disabled = rules_of(ROAD.replace("off_delay: 120s", "off_delay: 120s\n  enabled: false"))
    street.engine.replace_rules(disabled, street.engine.now, street.events)
    assert street.transitions[-1].why == "rule road-depth is not in force here"
    street.send(130, depth=30.0)
    street.at(1000)
    assert len(street.story()) == 2


def test_a_changed_limit_takes_effect_at_once_and_a_shorter_ladder_keeps_what_fits() -> None:
    street = Street()
    street.send(0, depth=20.0)
    street.at(121)
    assert street.record().level is Level.II
    shorter = rules_of(
        """
- rule: road-depth
  applies_to: {kind: road}
  when: {point: depth, above: {limit: 5, level: IV, on_delay: 120s}, deadband: 3}
  response: close the road
"""
    )
    street.engine.replace_rules(shorter, street.engine.now, street.events)
    assert street.record().cond is Condition.ACTIVE
    street.send(130, depth=0.0)
    street.at(300)
    assert street.story()[-1] == (250, "T6", "RTNUN")


def test_replacing_rules_by_the_same_rules_changes_nothing() -> None:
    street = Street(ROAD + SILENT, interval_s=lambda _: 60)
    street.send(0, depth=6.0)
    before = street.engine.snapshot()
    street.engine.replace_rules(rules_of(ROAD + SILENT), street.engine.now, street.events)
    assert street.engine.snapshot() == before


def test_a_restart_from_a_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    street = Street(ROAD + SILENT, interval_s=lambda _: 60)
    street.send(0, depth=20.0)
    street.send(70, sequence=3, depth=6.0)
    street.do(71, CommandName.ACKNOWLEDGE)
    again = street.restarted()
    assert again.engine.snapshot() == street.engine.snapshot()
    already = len(street.events)
    for one in (street, again):
        one.send(80, measured=70, sequence=3, depth=6.0)
        one.send(90, depth=1.0)
        one.at(5000)
    assert again.events == street.events[already:]
    assert list(again.engine.alarms()) == list(street.engine.alarms())
    assert again.engine.snapshot() == street.engine.snapshot()


def test_a_held_timer_is_still_held_after_a_restart() -> None:
    street = Street()
    street.send(0, depth=6.0)
    street.send(10, depth=None, quality=Quality.BAD)
    again = street.restarted()
    again.at(1000)
    assert again.transitions == []


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x93\x01\x02\x03", b"not a snapshot"])
def test_a_damaged_snapshot_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Street().engine.restore(damage)


def test_a_command_given_twice_is_carried_out_once() -> None:
    street = Street()
    street.send(0, depth=6.0)
    street.at(121)
    command = Command("once", CommandName.ACKNOWLEDGE, "r1/road-depth", "li", "web")
    street.engine.command(command, street.engine.now, street.events)
    street.engine.command(command, street.engine.now, street.events)
    assert [t.cause for t in street.transitions] == ["T3", "T10"]
    assert street.events[-1] == street.events[-2]


def test_every_rule_of_a_frame_is_asked_once_after_all_its_readings() -> None:
    rules = """
- rule: dark
  applies_to: {kind: lamp}
  when: {all: [{point: cmd_on, is: true}, {point: power, below: 20}]}
  response: go
"""
    street = Street(rules, [Asset("l1", "lamp")])
    street.send(0, "l1", cmd_on=False, power=0.0)
    street.send(1, "l1", cmd_on=True, power=95.0)  # between the two readings it would have been dark
    assert street.transitions == []


def test_assets_of_one_kind_with_equal_attributes_share_one_plan() -> None:
    lamps = [Asset(f"l{n}", "lamp", attributes={"rated_power": 100.0, "pole": f"p{n}"}) for n in range(50)]
    rules = """
- rule: dark
  applies_to: {kind: lamp}
  when: {point: power, below: 20 %, of: [rated_power]}
  response: go
"""
    street = Street(rules, lamps)
    assert len({id(state.plan) for state in street.engine._assets.values()}) == 1


def test_an_engine_without_rules_keeps_current_values() -> None:
    registry = Registry()
    registry.upsert([Asset("r1", "road")], [Device("r1", "r1", "p")])
    engine = Engine(registry, RuleSet(), lambda _: None)
    events: list[Event] = []
    engine.advance(START, events)
    reading = Reading("r1", "depth", 3.0, Quality.GOOD, START, START, "r1")
    assert engine.observe(Decoded("r1", [reading]), events).keep == [reading]
    assert engine.points("r1")["depth"].value == 3.0
    assert engine.next_deadline is None


def test_an_asset_is_as_quiet_as_its_device_that_was_heard_last_and_as_the_gateway_could_hear() -> None:
    street = Street(assets=[Asset("r1", "road"), Asset("r2", "road")], interval_s={"r1": 60, "spare": 60}.get)
    assert street.engine.quiet("r2") is None
    assert street.engine.quiet("nothing") is None
    assert street.engine.heard("r2", 3) is None
    street.send(0, "r1", depth=1)
    street.at(120)
    assert street.engine.quiet("r1") == 2
    assert street.engine.heard("r1", 2) is True
    assert street.engine.heard("r1", 1.9) is False
    street.engine.apply_assets([], [Device("spare", "r1", "p")], street.engine.now, street.events)
    street.at(180)
    assert street.engine.quiet("r1") == 1, "a device that was mounted just now has been quiet since then"
    street.engine.blind(START + 180 * S, START + 600 * S)
    street.at(600)
    assert street.engine.quiet("r1") == 1
