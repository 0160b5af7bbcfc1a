"""Every row of the table in core/work.py, as a short story."""

from __future__ import annotations

import pytest

from gateway.core.engine import Engine
from gateway.core.model import (
    HOUR,
    SECOND,
    Asset,
    CommandName,
    Condition,
    Quality,
    Transition,
    WorkOrder,
)
from gateway.core.work import FAR_M, MAX_PHOTOS, distance_m
from tests.core.street import START, Street, rules_of

HIGH = """
- rule: high
  applies_to: {kind: road}
  when: {point: depth, above: 10, deadband: 2}
  off_delay: 90s
  %s
  response: go there
"""
EVENT = "- {rule: high, applies_to: {kind: road}, when: {point: depth, above: 10}, event: true, response: look}"
ALARM = "r1/high"
DISPATCH, ACCEPT, REFUSE, ON_SITE, DONE = (
    CommandName.DISPATCH, CommandName.ACCEPT, CommandName.REFUSE, CommandName.ON_SITE, CommandName.DONE,
)  # fmt: skip
VERIFY, RETURN, CLOSE = CommandName.VERIFY, CommandName.RETURN, CommandName.CLOSE


def street(extra: str = "on_delay: 0s", assets: list[Asset] | None = None) -> Street:
    """Raised at 0 s."""
    town = Street(HIGH % extra, assets or [Asset("r1", "road", longitude=116.1, latitude=35.8)])
    town.send(0, depth=11.0)
    return town


def event() -> Street:
    """As ``street``, of something that has no return."""
    town = Street(EVENT)
    town.send(0, depth=11.0)
    return town


def order(town: Street, alarm: str = ALARM) -> WorkOrder:
    found = town.record(alarm).order
    assert found is not None
    return found


def state(town: Street, alarm: str = ALARM) -> str:
    return town.record(alarm).work


def dispatched(town: Street | None = None, at: float = 1, alarm: str = ALARM) -> Street:
    town = town or street()
    assert town.do(at, DISPATCH, alarm, why="bring the pump", to="crew-1") is None
    return town


def accepted(town: Street | None = None, at: float = 2, alarm: str = ALARM) -> Street:
    town = dispatched(town, at - 1, alarm)
    assert town.do(at, ACCEPT, alarm) is None
    return town


def verifying(town: Street | None = None, at: float = 10, alarm: str = ALARM) -> Street:
    """Said to be done at ``at``, with the alarm still active."""
    town = accepted(town, at - 1, alarm)
    assert town.do(at, DONE, alarm, why="pumped it out", cause_code="leaves") is None
    return town


def rows(town: Street, alarm: str = ALARM) -> list[tuple[float, str]]:
    return [(at, cause) for at, cause, _ in town.story(alarm) if cause.startswith("W")]


def last(town: Street) -> Transition:
    return town.transitions[-1]


# -- people -----------------------------------------------------------------------------------------------------------


def test_w1_somebody_is_sent_and_the_order_says_who_by_whom_why_and_for_which_occurrence() -> None:
    town = dispatched()
    record = town.record(ALARM)
    assert record.work == "DISPATCHED"
    assert order(town) == WorkOrder(record.occurrence_id, "crew-1", "li", START + SECOND, "bring the pump")
    assert (last(town).cause, last(town).by, last(town).why, last(town).notify) == ("W1", "li", "bring the pump", False)
    assert record.cond is Condition.ACTIVE
    assert not record.acked


def test_w1_needs_somebody_and_not_those_who_have_it_already() -> None:
    town = street()
    assert town.do(1, DISPATCH, ALARM) == ("not_allowed", "say whom to send (argument `to`)")
    dispatched(town, 2)
    assert town.do(3, DISPATCH, ALARM, to="crew-1") == ("not_allowed", "it is dispatched to crew-1 already")
    assert town.do(4, DISPATCH, "r1/none", to="crew-1") == ("not_found", "there is no alarm r1/none")


def test_w1_others_are_sent_whatever_the_first_have_done_and_the_order_stays_the_same() -> None:
    town = accepted()
    first = order(town)
    assert town.do(5, DISPATCH, ALARM, to="crew-2") is None
    assert (state(town), order(town).to, order(town).accepted_by) == ("DISPATCHED", "crew-2", None)
    assert order(town).id == first.id
    assert order(town).comment is None, "the words were for the others"
    assert town.record(ALARM).acked, "somebody has seen it"


def test_w1_a_rule_on_trial_sends_nobody() -> None:
    town = street("shadow: true")
    assert town.do(1, DISPATCH, ALARM, to="crew-1") == ("not_allowed", "a rule on trial sends nobody")


def test_w2_accepting_acknowledges_in_the_same_step() -> None:
    town = dispatched()
    before = town.record(ALARM)
    assert town.do(2, ACCEPT, ALARM) is None
    record = town.record(ALARM)
    assert (record.work, record.acked, record.acked_by, record.ack_channel) == ("ACCEPTED", True, "li", "web")
    assert record.rev == before.rev + 1
    assert (last(town).from_state.value, last(town).to_state.value, last(town).cause) == ("UNACK", "ACKED", "W2")
    assert (order(town).accepted_by, order(town).accepted_at) == ("li", START + 2 * SECOND)


def test_w2_what_is_over_and_waits_for_somebody_is_closed_by_accepting_it() -> None:
    town = street()
    town.send(1, depth=0.0)
    town.at(100)
    accepted(town, 102)
    record = town.record(ALARM)
    assert (record.isa_state.value, record.closed_at) == ("NORM", START + 102 * SECOND)


def test_w2_what_was_acknowledged_stays_as_it_was() -> None:
    town = street()
    town.do(1, CommandName.ACKNOWLEDGE, ALARM, why="seen")
    accepted(town, 3)
    assert town.record(ALARM).acked_at == START + SECOND


def test_w2_only_what_was_dispatched_can_be_accepted() -> None:
    town = street()
    nobody = ("not_allowed", "nobody was sent: there is no work on this alarm")
    assert town.do(1, ACCEPT, ALARM) == nobody
    accepted(town, 3)
    assert town.do(4, ACCEPT, ALARM) == ("not_allowed", "accept is not possible while the work is ACCEPTED")


def test_w3_a_refusal_has_a_reason_and_somebody_else_must_be_sent() -> None:
    town = dispatched()
    assert town.do(2, REFUSE, ALARM) == ("not_allowed", "refuse needs a reason")
    assert town.do(3, REFUSE, ALARM, why="no pump here") is None
    assert (state(town), order(town).refused_by, order(town).refused_why) == ("REJECTED", "li", "no pump here")
    assert not town.record(ALARM).acked
    assert town.do(4, DISPATCH, ALARM, to="crew-1") is None, "the same may be asked again"
    assert (state(town), order(town).refused_by) == ("DISPATCHED", None)


def test_w3_what_was_accepted_can_still_be_refused_but_not_what_is_done() -> None:
    town = accepted()
    assert town.do(5, REFUSE, ALARM, why="called away") is None
    verifying(town, 20)
    assert town.do(21, REFUSE, ALARM, why="x") == (
        "not_allowed", "refuse is not possible while the work is VERIFYING",
    )  # fmt: skip


def test_w4_on_site_says_how_far_from_the_asset_and_not_where() -> None:
    town = accepted()
    assert town.do(5, ON_SITE, ALARM, longitude=116.101, latitude=35.8, accuracy_m=12) is None
    found = order(town)
    assert (state(town), found.on_site_by, found.on_site_at) == ("ON_SITE", "li", START + 5 * SECOND)
    assert (found.distance_m, found.accuracy_m, found.far) == (pytest.approx(90.2, abs=0.2), 12.0, False)


def test_w4_too_far_away_is_written_down_and_not_refused() -> None:
    town = accepted()
    assert town.do(5, ON_SITE, ALARM, longitude=116.2, latitude=35.8, accuracy_m=50) is None
    assert order(town).far
    assert order(town).distance_m == pytest.approx(9019, abs=20)


def test_w4_a_bad_fix_is_not_far() -> None:
    town = accepted()
    assert distance_m(116.12, 35.8, 116.1, 35.8) == pytest.approx(1804, abs=5)
    assert FAR_M < 1800
    assert town.do(5, ON_SITE, ALARM, longitude=116.12, latitude=35.8, accuracy_m=2000) is None
    assert not order(town).far


def test_w4_without_a_position_or_of_an_asset_without_a_place_nothing_is_said_of_the_distance() -> None:
    town = accepted()
    assert town.do(5, ON_SITE, ALARM) is None
    assert (order(town).distance_m, order(town).far) == (None, False)
    town = accepted(street(assets=[Asset("r1", "road")]))
    assert town.do(5, ON_SITE, ALARM, longitude=116.1, latitude=35.8) is None
    assert order(town).distance_m is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"longitude": 116.1}, "longitude and latitude come together"),
        ({"longitude": 200.0, "latitude": 1.0}, "longitude: a number within ±180"),
        ({"longitude": "east", "latitude": 1.0}, "longitude: a number within ±180"),
    ],
)
def test_w4_a_position_is_one(arguments: dict[str, str | float], said: str) -> None:
    assert accepted().do(5, ON_SITE, ALARM, **arguments) == ("invalid", said)


def test_w4_only_who_has_accepted_arrives() -> None:
    assert dispatched().do(5, ON_SITE, ALARM) == (
        "not_allowed", "on-site is not possible while the work is DISPATCHED",
    )  # fmt: skip


def test_w5_done_says_what_it_was_and_what_was_done_and_the_readings_are_asked() -> None:
    town = accepted()
    assert town.do(5, DONE, ALARM, why="pumped") == ("not_allowed", "say what it was (argument `cause_code`)")
    assert town.do(5, DONE, ALARM, cause_code="leaves") == ("not_allowed", "done needs words about what was done")
    town.do(6, ON_SITE, ALARM)
    assert town.do(7, DONE, ALARM, why="pumped", cause_code="leaves", photos="aa bb aa") is None
    found = order(town)
    assert (state(town), found.done_by, found.done_at) == ("VERIFYING", "li", START + 7 * SECOND)
    assert (found.cause_code, found.action, found.photos) == ("leaves", "pumped", ("aa", "bb"))
    assert (found.verify_since, found.waits_for) == (START + 7 * SECOND, ("depth",))
    assert town.record(ALARM).cond is Condition.ACTIVE


def test_w5_so_many_photos_and_no_more() -> None:
    many = " ".join(f"p{i}" for i in range(MAX_PHOTOS + 1))
    refused = accepted().do(5, DONE, ALARM, why="pumped", cause_code="leaves", photos=many)
    assert refused == ("invalid", f"at most {MAX_PHOTOS} photos")


def test_w5_where_no_reading_can_tell_a_person_must_look() -> None:
    town = event()
    verifying(town)
    assert (state(town), order(town).verify_since) == ("DONE", None)
    town.send(20, depth=1.0)
    town.at(7200)
    assert state(town) == "DONE"


def test_w5_the_crew_may_ask_that_a_person_looks() -> None:
    town = accepted()
    town.do(5, DONE, ALARM, why="took the gauge away", cause_code="sensor", by_person=True)
    town.send(20, depth=1.0)
    town.at(7200)
    assert state(town) == "DONE"


def test_w9_a_person_closes_with_a_reason_from_wherever_it_is() -> None:
    town = street()
    assert town.do(1, CLOSE, ALARM, why="x") == ("not_allowed", "nobody was sent: there is no work on this alarm")
    dispatched(town, 2)
    assert town.do(3, CLOSE, ALARM) == ("not_allowed", "close needs a reason")
    assert town.do(4, CLOSE, ALARM, why="false alarm") is None
    found = order(town)
    assert (state(town), found.closed_by, found.closed_at, found.close_why) == (
        "CLOSED", "li", START + 4 * SECOND, "false alarm",
    )  # fmt: skip
    assert town.record(ALARM).cond is Condition.ACTIVE, "the alarm is another matter"
    assert town.do(5, CLOSE, ALARM, why="x") == ("not_allowed", "close is not possible while the work is CLOSED")


def test_w9_what_was_refused_can_be_closed() -> None:
    town = dispatched()
    town.do(2, REFUSE, ALARM, why="nothing to do")
    assert town.do(3, CLOSE, ALARM, why="so be it") is None
    assert state(town) == "CLOSED"


def test_w10_a_person_verifies_what_no_reading_can() -> None:
    town = verifying(event())
    assert town.do(20, VERIFY, ALARM, why="looked at it") is None
    assert (state(town), order(town).closed_by, order(town).close_why) == ("CLOSED", "li", "looked at it")
    assert last(town).cause == "W10"


def test_w10_a_person_sends_it_back_with_a_reason() -> None:
    town = verifying(event())
    assert town.do(20, RETURN, ALARM) == ("not_allowed", "return needs a reason")
    assert town.do(21, RETURN, ALARM, why="the cover is still loose") is None
    found = order(town)
    assert (state(town), found.to, found.reworks, found.comment) == (
        "DISPATCHED", "crew-1", 1, "the cover is still loose",
    )  # fmt: skip
    assert (found.accepted_by, found.done_at, found.photos) == (None, None, ())


def test_w10_a_person_may_answer_for_readings_that_do_not_come() -> None:
    town = verifying()
    assert town.do(7200, VERIFY, ALARM, why="the gauge is dead, the road is dry") is None
    assert state(town) == "CLOSED"
    assert accepted().do(5, VERIFY, ALARM) == ("not_allowed", "verify is not possible while the work is ACCEPTED")


# -- the readings -----------------------------------------------------------------------------------------------------


def test_w6_fresh_readings_that_are_normal_for_the_off_delay_close_it() -> None:
    town = verifying()
    town.send(30, depth=1.0)
    town.send(60, depth=1.0)
    town.at(119)
    assert (state(town), town.record(ALARM).cond) == ("VERIFYING", Condition.PENDING_OFF)
    town.at(120)
    found = order(town)
    assert [row for row in town.story(ALARM) if row[0] == 120] == [(120, "T6", "NORM"), (120, "W6", "NORM")]
    assert (found.closed_by, found.closed_at, found.close_why) == (None, START + 120 * SECOND, None)
    assert not last(town).notify


def test_w6_the_hold_is_a_minute_at_least() -> None:
    town = Street(HIGH.replace("90s", "0s") % "on_delay: 0s")
    town.send(0, depth=11.0)
    verifying(town)
    town.send(30, depth=1.0)
    town.at(89)
    assert (state(town), town.record(ALARM).cond) == ("VERIFYING", Condition.NORMAL)
    town.at(90)
    assert state(town) == "CLOSED"


def test_w6_an_alarm_that_was_over_before_it_was_done_waits_for_a_new_reading_too() -> None:
    town = street()
    town.send(5, depth=1.0)
    town.at(100)
    assert town.record(ALARM).cond is Condition.NORMAL
    verifying(town, 110)
    town.at(5000)
    assert state(town) == "VERIFYING"
    town.send(5001, depth=1.0)
    town.at(5091)
    assert rows(town)[-1] == (5091, "W6")


def test_w6_old_data_bad_data_and_silence_close_nothing() -> None:
    town = verifying()
    town.send(20, measured=5, depth=1.0)  # what lay in the device
    town.at(400)
    assert state(town) == "VERIFYING"
    town.send(410, depth=None, quality=Quality.BAD)
    town.send(420, depth=1.0, quality=Quality.UNCERTAIN)
    town.send(430, historical=True, depth=1.0)
    town.at(20 * 3600)
    assert state(town) == "VERIFYING"


def test_w6_bad_data_in_between_begins_the_hold_anew() -> None:
    town = verifying()
    town.send(30, depth=1.0)
    town.send(100, depth=None, quality=Quality.BAD)
    town.at(300)
    assert state(town) == "VERIFYING"
    town.send(310, depth=1.0)
    town.at(399)
    assert state(town) == "VERIFYING"
    town.at(400)
    assert rows(town)[-1] == (400, "W6")


def test_w6_a_device_that_falls_silent_again_vouches_for_nothing() -> None:
    town = Street(HIGH % "on_delay: 0s", interval_s=lambda _: 10)
    town.send(0, depth=11.0)
    verifying(town)
    town.send(15, depth=1.0)
    town.at(3600)
    assert (state(town), town.record(ALARM).cond) == ("VERIFYING", Condition.NORMAL)
    for second in range(3610, 3720, 10):
        town.send(second, depth=1.0)
    assert rows(town)[-1] == (3700, "W6")


def test_w6_every_point_the_rule_looks_at_must_be_fresh() -> None:
    both = """
- rule: high
  applies_to: {kind: road}
  when: {any: [{point: depth, above: 10}, {point: battery, below: 5}]}
  off_delay: 60s
  response: go there
"""
    town = Street(both)
    town.send(0, depth=11.0, battery=50.0)
    verifying(town)
    assert order(town).waits_for == ("battery", "depth")
    for second in range(30, 300, 30):
        town.send(second, depth=1.0)
    assert state(town) == "VERIFYING"
    town.send(300, battery=50.0)
    town.at(360)
    assert rows(town)[-1] == (360, "W6")


@pytest.mark.parametrize("how", ["shelve", "out_of_service"])
def test_w6_w8_work_goes_on_while_the_alarm_is_set_aside(how: str) -> None:
    town = verifying()
    if how == "shelve":
        town.do(12, CommandName.SHELVE, ALARM, why="known", seconds=8 * 3600)
    else:
        town.do(12, CommandName.OUT_OF_SERVICE, ALARM, why="repair", work="W-1")
    town.send(30, depth=1.0)
    town.at(120)
    assert state(town) == "CLOSED"
    town.send(200, depth=11.0)
    assert state(town) == "DISPATCHED"
    assert not any(step.notify for step in town.transitions[1:])


def test_w6_outside_the_hours_of_its_rule_nothing_is_proved() -> None:
    town = Street(HIGH % 'schedule: {between: ["23:00", "23:10"]}')  # the street begins at 23:06:40
    town.send(0, depth=11.0)
    verifying(town)
    town.at(250)
    for second in range(260, 3000, 60):
        town.send(second, depth=1.0)
    assert state(town) == "VERIFYING"
    day = 24 * 3600
    town.at(day)  # 23:06:40 of the next day
    assert state(town) == "VERIFYING", "and what was measured outside them proves nothing within"
    town.send(day, depth=1.0)
    town.at(day + 200)
    assert rows(town)[-1] == (day + 90, "W6")


def test_w6_of_silence_a_device_that_speaks_again_proves_the_repair() -> None:
    silent = "- {rule: offline, applies_to: {kind: road}, when: {silent: 3}, off_delay: 0s, response: look}"
    town = Street(silent, interval_s=lambda _: 10)
    town.send(0, depth=1.0)
    town.at(40)
    assert town.record("r1/offline").cond is Condition.ACTIVE
    verifying(town, 60, "r1/offline")
    town.at(600)
    assert town.record("r1/offline").work == "VERIFYING"
    for second in range(600, 800, 10):
        town.send(second, depth=1.0)
    assert [cause for _, cause in rows(town, "r1/offline")] == ["W1", "W2", "W5", "W6"]


def test_w6_of_a_share_those_count_whose_readings_are_fresh() -> None:
    rules = """
- rule: flooded
  applies_to: {kind: feeder}
  when: {share: {of: road, link: feeder, where: {point: depth, above: 5}, above: 50 %}}
  off_delay: 60s
  response: go there
"""
    roads = [Asset(f"r{n}", "road", links={"feeder": "f"}) for n in range(1, 6)]
    town = Street(rules, [Asset("f", "feeder"), *roads])
    for road in roads:
        town.send(0, road.asset, depth=9.0)
    verifying(town, 10, "f/flooded")
    for n in (1, 2):
        town.send(20, f"r{n}", depth=1.0)
    town.at(400)
    assert town.record("f/flooded").work == "VERIFYING", "two of five are fresh: the others may be deep"
    town.send(401, "r3", depth=1.0)
    town.at(600)
    assert rows(town, "f/flooded")[-1][1] == "W6", "three are dry for certain: whatever the others are"
    assert town.record("f/flooded").cond is Condition.NORMAL


def test_w7_fresh_readings_that_are_still_beyond_the_limit_send_the_same_people_again() -> None:
    town = verifying()
    town.send(30, depth=11.0)
    town.at(89)
    assert state(town) == "VERIFYING"
    town.at(90)
    found = order(town)
    assert (state(town), found.to, found.by, found.reworks) == ("DISPATCHED", "crew-1", "li", 1)
    assert (found.since, found.done_at, found.comment) == (START + 90 * SECOND, None, "bring the pump")
    assert (last(town).cause, last(town).by) == ("W7", None)
    assert town.record(ALARM).acked


def test_w7_lasts_the_on_delay_of_the_rule() -> None:
    town = Street(HIGH % "on_delay: 5m")
    for second in range(0, 310, 10):
        town.send(second, depth=11.0)
    verifying(town, 320)
    for second in range(330, 640, 10):
        town.send(second, depth=11.0)
    assert rows(town)[-1] == (630, "W7")


def test_w7_old_readings_send_nobody() -> None:
    town = verifying()
    town.send(30, measured=9, depth=11.0)
    town.at(7200)
    assert state(town) == "VERIFYING"


def closed(at: float = 120) -> Street:
    town = verifying()
    town.send(30, depth=1.0)
    town.at(at)
    assert state(town) == "CLOSED"
    return town


def test_w8_raised_again_within_a_day_the_same_people_are_sent_again() -> None:
    town = closed()
    first = order(town)
    town.send(3600, depth=11.0)
    assert town.story(ALARM)[-2:] == [(3600, "T3", "UNACK"), (3600, "W8", "UNACK")]
    again = order(town)
    assert (state(town), again.id, again.to, again.reopened, again.closed_at) == (
        "DISPATCHED", first.id, "crew-1", 1, None,
    )  # fmt: skip
    assert town.record(ALARM).occurrence_id != again.id


def test_w8_after_a_day_it_is_another_matter() -> None:
    town = closed()
    town.send(120 + 24 * 3600 + 1, depth=11.0)
    assert (state(town), town.record(ALARM).order) == ("NONE", None)
    dispatched(town, 120 + 24 * 3600 + 2)
    assert order(town).reopened == 0
    assert order(town).id == town.record(ALARM).occurrence_id


def test_w8_an_event_that_happens_again_too() -> None:
    town = verifying(event())
    town.do(20, VERIFY, ALARM)
    town.send(60, depth=12.0)
    assert rows(town)[-1] == (60, "W8")


def test_w1_of_the_same_occurrence_is_the_same_order_again_of_another_a_new_one() -> None:
    town = dispatched()
    town.do(2, CLOSE, ALARM, why="false alarm")
    first = order(town).id
    dispatched(town, 3)
    assert (order(town).id, order(town).reopened) == (first, 1)


def test_an_order_that_is_open_stays_open_when_the_alarm_is_raised_again() -> None:
    town = accepted()
    before = order(town)
    town.send(10, depth=1.0)
    town.at(200)
    town.send(300, depth=11.0)
    assert (state(town), order(town)) == ("ACCEPTED", before)


# -- time, rules, restarts --------------------------------------------------------------------------------------------


def test_a_phone_tells_later_when_it_was_and_the_step_has_our_time() -> None:
    town = dispatched()
    at = START + 7200 * SECOND
    said = {name: START + second * SECOND for name, second in (("accept", 60), ("site", 600), ("done", 1800))}
    assert town.do(7200, ACCEPT, ALARM, device_at=said["accept"]) is None
    assert town.do(7200, ON_SITE, ALARM, device_at=said["site"]) is None
    assert town.do(7200, DONE, ALARM, why="pumped", cause_code="leaves", device_at=said["done"]) is None
    found = order(town)
    assert (found.accepted_at, found.on_site_at, found.done_at) == (at, at, at)
    assert (found.accepted_device_at, found.on_site_device_at, found.done_device_at) == tuple(said.values())
    assert last(town).at == at


def test_what_a_phone_says_lies_between_the_dispatch_and_now() -> None:
    town = dispatched(at=100)
    assert town.do(200, ACCEPT, ALARM, device_at=START + 300 * SECOND) == ("invalid", "at: that is in the future")
    assert town.do(200, ACCEPT, ALARM, device_at=START + 30 * SECOND) == ("invalid", "at: that was before the dispatch")
    assert town.do(200, ACCEPT, ALARM, device_at=START + 90 * SECOND) is None, "a clock may be a little off"
    assert order(town).accepted_device_at == START + 100 * SECOND
    assert town.do(201, REFUSE, ALARM, why="no", device_at="noon") == ("invalid", "at: a time")


def test_readings_are_measured_against_our_clock_and_not_the_phones() -> None:
    town = accepted()
    town.send(3000, depth=1.0)
    town.do(3600, DONE, ALARM, why="pumped", cause_code="leaves", device_at=START + 1800 * SECOND)
    town.at(7200)
    assert state(town) == "VERIFYING"


def test_when_the_rule_goes_nobody_judges_and_a_person_looks() -> None:
    town = verifying()
    events = town.events
    town.engine.replace_rules(rules_of("[]"), town.engine.now, events)
    assert (state(town), last(town).cause) == ("DONE", "T24")
    assert town.do(20, VERIFY, ALARM, why="looked") is None
    assert state(town) == "CLOSED"


def test_work_goes_on_when_the_rule_has_gone() -> None:
    town = dispatched()
    town.engine.replace_rules(rules_of("[]"), town.engine.now, town.events)
    assert town.do(2, ACCEPT, ALARM) is None
    assert town.do(3, DONE, ALARM, why="pumped", cause_code="leaves") is None
    assert state(town) == "DONE"


def test_a_verification_goes_on_after_a_restart() -> None:
    town = verifying()
    town.send(30, depth=1.0)
    town.at(60)
    town = town.restarted()
    town.at(500)
    assert [(t.cause, t.at - START) for t in town.transitions] == [("T6", 120 * SECOND), ("W6", 120 * SECOND)]


def test_from_the_store_alone_it_waits_for_readings_anew() -> None:
    town = verifying()
    town.send(30, depth=1.0)
    other = Street(HIGH % "on_delay: 0s", interval_s=lambda _: None)
    other.engine = Engine(other.registry, other.rules, other._interval)
    other.engine.adopt(list(town.engine.alarms()), town.engine.now)
    other.at(4000)
    assert other.record(ALARM).work == "VERIFYING"
    other.send(4001, depth=1.0)
    other.at(4091)
    assert other.record(ALARM).work == "CLOSED"


def test_the_shelf_of_an_alarm_from_the_store_ends_too() -> None:
    town = street()
    town.do(1, CommandName.SHELVE, ALARM, why="known", seconds=60)
    other = Street(HIGH % "on_delay: 0s")
    other.engine = Engine(other.registry, other.rules, other._interval)
    other.engine.adopt(list(town.engine.alarms()), town.engine.now)
    other.at(100)
    assert [(t.cause, t.at - START) for t in other.transitions] == [("T18", 61 * SECOND)]


def test_what_ended_while_the_gateway_was_away_ends_at_its_own_time() -> None:
    town = verifying()
    town.send(30, depth=1.0)
    town.engine.blind(town.engine.now, START + HOUR)
    town.engine.advance(START + HOUR, town.events, late=True)
    assert [(t.cause, t.at, t.late) for t in town.transitions[-1:]] == [("W6", START + 120 * SECOND, True)]


def test_the_same_command_again_does_nothing() -> None:
    town = dispatched()
    town.done -= 1  # the same command id
    assert town.do(3, DISPATCH, ALARM, to="crew-2") is None
    assert order(town).to == "crew-1"


def test_a_stale_rev_is_refused() -> None:
    town = street()
    refused = town.do(1, DISPATCH, ALARM, rev=99, to="crew-1")
    assert refused is not None
    assert refused[0] == "stale_rev"
