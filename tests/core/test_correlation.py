"""Cause first: one alarm for the feeder, none for its lamps."""

from __future__ import annotations

from gateway.core.correlation import circle
from gateway.core.model import Asset, CommandName
from tests.core.street import Street, rules_of

RULES = """
- rule: lost
  applies_to: {kind: feeder}
  when: {point: mains, is: false}
  on_delay: 120s
  off_delay: 0s
  response: go
- rule: out
  applies_to: {kind: lamp}
  when: {point: power, below: 20}
  on_delay: 30s
  suppress_when: [{cause: lost, link: feeder}]
  settle: 60s
  response: go
"""


def street() -> Street:
    lamps = [Asset(f"l{n}", "lamp", links={"feeder": "F1"}) for n in (1, 2)]
    return Street(RULES, [Asset("F1", "feeder"), *lamps, Asset("l9", "lamp", links={"feeder": "F2"})])


def test_what_is_raised_while_the_cause_is_still_pending_tells_nobody() -> None:
    town = street()
    town.send(0, "F1", mains=False)
    town.send(1, "l1", power=0.0)
    town.send(1, "l9", power=0.0)
    town.at(200)
    assert town.story("l1/out") == [(31, "T3", "DSUPR")]
    assert town.story("l9/out") == [(31, "T3", "UNACK")]
    record = town.record("l1/out")
    assert (record.suppressed_by, record.parent_alarm_id) == (("F1/lost",), "F1/lost")
    assert [t.alarm_id for t in town.transitions if t.notify] == ["l9/out", "F1/lost"]


def test_t20_an_alarm_that_is_up_is_suppressed_when_its_cause_comes() -> None:
    town = street()
    town.send(0, "l1", power=0.0)
    town.at(40)
    town.send(50, "F1", mains=False)
    assert town.story("l1/out") == [(30, "T3", "UNACK"), (50, "T20", "DSUPR")]


def test_t21_back_after_the_settle_time_unacknowledged_if_it_is_still_active() -> None:
    town = street()
    town.send(0, "F1", mains=False)
    town.send(0, "l1", power=0.0)
    town.send(0, "l2", power=0.0)
    town.at(150)
    town.send(200, "F1", mains=True)
    town.send(210, "l2", power=95.0)
    town.at(1000)
    assert town.story("l1/out")[-1] == (260, "T21", "UNACK")
    assert [t.cause for t in town.transitions if t.notify and t.alarm_id == "l1/out"] == ["T21"]
    assert town.story("l2/out") == [(30, "T3", "DSUPR"), (240, "T6", "DSUPR"), (260, "T21", "NORM")]


def test_a_cause_that_comes_back_within_the_settle_time_suppresses_on() -> None:
    town = street()
    town.send(0, "F1", mains=False)
    town.send(0, "l1", power=0.0)
    town.send(150, "F1", mains=True)
    town.send(190, "F1", mains=False)
    town.at(230)
    assert town.story("l1/out") == [(30, "T3", "DSUPR")]
    town.send(240, "F1", mains=True)
    town.at(299)
    assert town.story("l1/out")[-1][1] == "T3"
    town.at(300)
    assert town.story("l1/out")[-1] == (300, "T21", "UNACK")


def test_a_cause_that_never_became_an_alarm_lets_its_effects_go() -> None:
    town = street()
    town.send(0, "F1", mains=False)
    town.send(0, "l1", power=0.0)
    town.send(60, "F1", mains=True)
    town.at(1000)
    assert town.story("F1/lost") == []
    assert town.story("l1/out") == [(30, "T3", "DSUPR"), (120, "T21", "UNACK")]


def test_acknowledged_before_it_was_suppressed_it_asks_again_when_the_cause_is_gone() -> None:
    town = street()
    town.send(0, "l1", power=0.0)
    town.do(40, CommandName.ACKNOWLEDGE, "l1/out")
    town.send(50, "F1", mains=False)
    town.send(100, "F1", mains=True)
    town.at(500)
    assert town.story("l1/out")[-2:] == [(50, "T20", "DSUPR"), (160, "T21", "UNACK")]


def test_a_lamp_moved_to_another_feeder_is_no_longer_explained_by_the_old_one() -> None:
    town = street()
    town.send(0, "F1", mains=False)
    town.engine.apply_assets([Asset("l1", "lamp", links={"feeder": "F2"})], [], town.engine.now, town.events)
    town.send(1, "l1", power=0.0)
    town.at(100)
    assert town.story("l1/out") == [(31, "T3", "UNACK")]


def test_removing_the_rule_of_the_cause_lets_its_effects_go() -> None:
    town = street()
    town.send(0, "F1", mains=False)
    town.send(0, "l1", power=0.0)
    town.at(200)
    without = RULES.split("- rule: out")[1].replace("  suppress_when: [{cause: lost, link: feeder}]\n", "")
    town.engine.replace_rules(rules_of("- rule: out" + without), town.engine.now, town.events)
    town.at(1000)
    assert town.story("l1/out")[-1] == (260, "T21", "UNACK")


def test_suppression_survives_a_restart() -> None:
    town = street()
    town.send(0, "F1", mains=False)
    town.send(0, "l1", power=0.0)
    town.send(150, "F1", mains=True)
    again = town.restarted()
    again.at(1000)
    assert again.story("l1/out") == [(210, "T21", "UNACK")]


def test_groups_follow_assets_that_come_in_any_order() -> None:
    rules = """
- rule: share
  applies_to: {kind: feeder}
  when: {share: {of: lamp, link: feeder, where: {point: power, below: 20}, above: 50 %}}
  response: go
"""
    town = Street(rules, [Asset("l1", "lamp", links={"feeder": "F1"}), Asset("l2", "lamp", links={"feeder": "F1"})])
    town.send(0, "l1", power=0.0)
    town.engine.apply_assets([Asset("F1", "feeder")], [], town.engine.now, town.events)
    assert town.story("F1/share") == [(0, "T3", "UNACK")]
    more = [Asset(f"l{n}", "lamp", links={"feeder": "F1"}) for n in (3, 4)]
    town.engine.apply_assets(more, [], town.engine.now, town.events)
    assert town.story("F1/share")[-1] == (0, "T6", "RTNUN")


def test_a_circle_of_causes_is_found() -> None:
    assert circle([("a", "b"), ("b", "c")]) == []
    assert sorted(circle([("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")])) == ["a", "b", "c"]
    assert circle([("a", "a")]) == ["a"]
