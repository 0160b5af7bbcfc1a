"""Every row of the table in core/alarms.py, as a short story."""

from __future__ import annotations

import pytest

from gateway.core.alarms import occurrence_id
from gateway.core.model import Asset, CommandName, Condition, IsaState, Level, Quality, Shelve
from tests.core.street import ROAD, START, Street

PLAIN = """
- rule: high
  applies_to: {kind: road}
  when: {point: depth, above: 10, deadband: 2}
  level: II
  %s
  response: go there
"""


def plain(extra: str = "on_delay: 0s", assets: list[Asset] | None = None) -> Street:
    return Street(PLAIN % extra, assets)


def test_t1_t2_a_condition_that_goes_away_before_its_delay_was_never_an_alarm() -> None:
    street = Street()
    street.send(0, depth=6.0)
    assert street.record().cond is Condition.PENDING_ON
    street.send(60, depth=4.0)
    street.at(3600)
    assert street.transitions == []
    assert street.engine.alarm("r1/road-depth") is None
    assert street.engine.counters.fleeting == 1
    assert street.engine.fleeting == {"road-depth": 1}


def test_t3_the_delay_over_the_alarm_is_active_since_the_first_true_reading() -> None:
    street = Street()
    street.send(10, depth=6.0)
    street.send(60, depth=7.5)
    street.at(200)
    record = street.record()
    assert street.story() == [(130, "T3", "UNACK")]
    assert (record.active_at, record.detected_at) == (START + 10_000_000, START + 130_000_000)
    assert (record.value, record.limit, record.unit, record.level) == (7.5, 5.0, "cm", Level.IV)
    assert street.transitions[0].notify


def test_t4_t5_back_beyond_the_deadband_it_is_the_same_occurrence() -> None:
    street = Street()
    street.send(0, depth=6.0)
    street.send(130, depth=1.0)
    assert street.record().cond is Condition.PENDING_OFF
    assert street.record().isa_state is IsaState.UNACK
    street.send(140, depth=4.0)
    assert street.record().cond is Condition.ACTIVE
    street.at(1000)
    assert street.story() == [(120, "T3", "UNACK")]


def test_t6_unacknowledged_it_waits_for_somebody_acknowledged_it_is_over() -> None:
    street = plain()
    street.send(0, depth=10.0)
    street.send(1, depth=8.0)
    assert street.story("r1/high") == [(0, "T3", "UNACK"), (1, "T6", "RTNUN")]
    street.do(2, CommandName.ACKNOWLEDGE, "r1/high")
    assert street.record("r1/high").isa_state is IsaState.NORM
    assert street.record("r1/high").closed_at == START + 2_000_000
    street.send(3, depth=10.0)
    street.do(4, CommandName.ACKNOWLEDGE, "r1/high")
    street.send(5, depth=8.0)
    assert street.story("r1/high")[-1] == (5, "T6", "NORM")


def test_t7_raised_again_before_anybody_acknowledged() -> None:
    street = plain()
    street.send(0, depth=11.0)
    first = street.record("r1/high").occurrence_id
    street.send(1, depth=0.0)
    street.send(2, depth=11.0)
    record = street.record("r1/high")
    assert street.story("r1/high")[-1] == (2, "T7", "UNACK")
    assert record.repeat_count == 1
    assert record.occurrence_id > first


def test_t8_a_rise_wants_a_new_acknowledgement_t9_a_fall_does_not() -> None:
    street = Street()
    for second in range(0, 300, 10):
        street.send(second, depth=6.0)
    street.do(300, CommandName.ACKNOWLEDGE)
    street.send(310, depth=20.0)
    street.at(370)
    assert street.story()[-1] == (370, "T8", "UNACK")
    assert street.transitions[-1].notify
    street.do(371, CommandName.ACKNOWLEDGE)
    street.send(380, depth=6.0)
    street.at(600)
    record = street.record()
    assert street.story()[-1] == (500, "T9", "ACKED")
    assert not street.transitions[-1].notify
    assert (record.level, record.last_level, record.max_level) == (Level.IV, Level.II, Level.II)


def test_two_rungs_whose_delays_end_together_are_one_transition() -> None:
    street = Street(ROAD.replace("60s", "120s"))
    street.send(0, depth=20.0)
    street.at(500)
    assert street.story() == [(120, "T3", "UNACK")]
    assert street.record().level is Level.II


def test_t10_the_acknowledgement_says_who_when_and_how() -> None:
    street = plain()
    street.send(0, depth=11.0)
    assert street.do(5, CommandName.ACKNOWLEDGE, "r1/high", why="crew on the way") is None
    record = street.record("r1/high")
    assert (record.acked_by, record.ack_channel, record.comment) == ("li", "web", "crew on the way")
    assert record.cond is Condition.ACTIVE
    assert street.do(6, CommandName.ACKNOWLEDGE, "r1/high") == ("not_allowed", "there is nothing to acknowledge")


def test_t12_an_acknowledgement_can_be_taken_back_with_a_comment() -> None:
    street = plain()
    street.send(0, depth=11.0)
    street.do(1, CommandName.ACKNOWLEDGE, "r1/high")
    refused = street.do(2, CommandName.UNACKNOWLEDGE, "r1/high")
    assert refused is not None
    assert refused[0] == "not_allowed"
    assert street.do(3, CommandName.UNACKNOWLEDGE, "r1/high", why="wrong road") is None
    assert street.story("r1/high")[-1] == (3, "T12", "UNACK")


def test_t13_t14_a_latched_alarm_stays_until_it_is_normal_acknowledged_and_reset() -> None:
    street = plain("latch: true")
    street.send(0, depth=11.0)
    assert street.do(1, CommandName.RESET, "r1/high") == ("not_allowed", "the condition is still active")
    street.send(2, depth=0.0)
    assert street.record("r1/high").isa_state is IsaState.UNACK
    assert not street.transitions[-1].notify  # it is not over
    assert street.do(3, CommandName.RESET, "r1/high") == ("not_allowed", "acknowledge it first")
    street.do(4, CommandName.ACKNOWLEDGE, "r1/high")
    assert street.record("r1/high").isa_state is IsaState.ACKED
    assert street.do(5, CommandName.RESET, "r1/high") is None
    assert street.record("r1/high").isa_state is IsaState.NORM


def test_t7_a_latched_alarm_raised_again_calls_again() -> None:
    street = plain("latch: true")
    street.send(0, depth=11.0)
    street.do(1, CommandName.ACKNOWLEDGE, "r1/high")
    street.send(2, depth=0.0)
    street.send(3, depth=11.0)
    assert street.story("r1/high")[-1] == (3, "T7", "UNACK")


def test_t15_t18_a_shelf_ends_by_itself_and_the_alarm_is_back_unacknowledged() -> None:
    street = plain()
    street.send(0, depth=11.0)
    street.do(1, CommandName.ACKNOWLEDGE, "r1/high")
    assert street.do(2, CommandName.SHELVE, "r1/high", why="road works", seconds=60) is None
    assert street.record("r1/high").isa_state is IsaState.SHLVD
    street.at(100)
    assert street.story("r1/high")[-2:] == [(2, "T15", "SHLVD"), (62, "T18", "UNACK")]
    assert street.transitions[-1].notify


def test_law_4_a_shelved_alarm_goes_on_being_recorded_and_tells_nobody() -> None:
    street = plain()
    street.send(0, depth=11.0)
    street.do(1, CommandName.SHELVE, "r1/high", why="road works", seconds=600)
    street.send(2, depth=0.0)
    street.send(3, depth=11.0)
    assert street.story("r1/high")[-2:] == [(2, "T6", "SHLVD"), (3, "T7", "SHLVD")]
    assert [t.notify for t in street.transitions] == [True, False, False, False]


def test_t16_t19_a_one_shot_shelf_ends_with_the_occurrence() -> None:
    street = plain()
    street.send(0, depth=11.0)
    street.do(1, CommandName.SHELVE, "r1/high", why="known", once=True)
    street.send(2, depth=0.0)
    assert street.story("r1/high")[-2:] == [(2, "T6", "SHLVD"), (2, "T19", "RTNUN")]
    assert street.record("r1/high").unshelve_at is None


def test_t17_unshelving_by_hand_acknowledges() -> None:
    street = plain()
    street.send(0, depth=11.0)
    street.do(1, CommandName.SHELVE, "r1/high", why="known", seconds=600)
    street.do(2, CommandName.UNSHELVE, "r1/high")
    assert street.story("r1/high")[-1] == (2, "T17", "ACKED")
    street.at(1000)
    assert street.record("r1/high").shelve is Shelve.UNSHELVED


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        (None, {"seconds": 60}, "needs a reason"),
        ("x", {}, "how many seconds"),
        ("x", {"seconds": 0}, "ends after at most"),
        ("x", {"seconds": 8 * 3600 + 1}, "ends after at most"),
        ("x", {"seconds": True}, "how many seconds"),
        ("x", {"seconds": "long"}, "how many seconds"),
    ],
)
def test_a_shelf_has_a_reason_and_an_end(why: str | None, arguments: dict[str, float], said: str) -> None:
    street = plain()
    street.send(0, depth=11.0)
    refused = street.do(1, CommandName.SHELVE, "r1/high", why=why, **arguments)
    assert refused is not None
    assert refused[0] == "not_allowed"
    assert said in refused[1]


def test_t26_an_event_happens_and_wants_acknowledgement() -> None:
    street = plain("event: true")
    street.send(0, depth=12.0)
    street.send(1, depth=13.0)
    assert street.story("r1/high") == [(0, "T26", "RTNUN"), (1, "T7", "RTNUN")]
    assert street.record("r1/high").repeat_count == 1
    assert [t.record.rev for t in street.transitions] == [1, 2]
    street.do(2, CommandName.ACKNOWLEDGE, "r1/high")
    street.send(103, depth=12.0)
    assert street.story("r1/high")[-1] == (103, "T26", "RTNUN")


def test_an_event_without_a_response_is_recorded_and_wakes_nobody() -> None:
    street = Street((PLAIN % "event: true").replace("response", "consequence"))
    street.send(0, depth=12.0)
    assert street.story("r1/high") == [(0, "T26", "NORM")]
    assert not street.transitions[0].notify


def test_t28_bad_data_holds_the_alarm_and_its_deadlines_are_not_moved() -> None:
    street = Street()
    street.send(0, depth=6.0)
    street.send(100, depth=None, quality=Quality.BAD)
    street.at(200)
    assert street.transitions == []
    street.send(210, depth=6.0)  # overdue since 120: at once
    assert street.story() == [(210, "T3", "UNACK")]
    street.send(220, depth=0.0)
    street.send(230, depth=0.0, quality=Quality.UNCERTAIN)
    street.at(1000)
    assert street.record().cond is Condition.PENDING_OFF
    assert street.record().quality is Quality.UNCERTAIN
    street.send(1001, depth=0.0)
    assert street.story()[-2:] == [(1001, "T28", "UNACK"), (1001, "T6", "RTNUN")]


def test_t28_good_again_before_the_deadline_it_fires_on_time() -> None:
    street = Street()
    street.send(0, depth=6.0)
    street.send(60, depth=None, quality=Quality.BAD)
    street.send(90, depth=6.0)
    street.at(500)
    assert street.story() == [(120, "T3", "UNACK")]


def test_t28_a_rule_may_assume_the_worst_or_with_a_reason_the_best() -> None:
    worst = plain("on_bad_data: assume_active")
    worst.send(0, depth=None, quality=Quality.BAD)
    assert worst.story("r1/high") == [(0, "T3", "UNACK")]
    best = plain(
        "{on_bad_data: assume_normal, bad_data_reason: the second gauge decides}".strip("{}").replace(", ", "\n  ")
    )
    best.send(0, depth=12.0)
    best.send(1, depth=None, quality=Quality.BAD)
    assert best.story("r1/high") == [(0, "T3", "UNACK"), (1, "T6", "RTNUN")]


def test_t32_a_late_sample_is_kept_and_touches_nothing() -> None:
    street = plain()
    street.send(0, depth=0.0)
    observed = street.send(3600, measured=60, depth=50.0)
    assert [r.historical for r in observed.keep] == [True]
    assert street.transitions == []
    assert street.engine.counters.late == 1


def test_t33_after_two_hours_away_overdue_deadlines_fire_once_in_order_marked_late() -> None:
    street = Street(assets=[Asset("r1", "road"), Asset("r2", "road")])
    street.send(0, "r1", depth=6.0)
    street.send(10, "r2", depth=20.0)
    again = street.restarted()
    again.engine.blind(street.engine.now, START + 7_200_000_000)
    again.at(7200, late=True)
    assert [((t.at - START) / 1e6, t.alarm_id, t.late) for t in again.transitions] == [
        (70, "r2/road-depth", True),
        (120, "r1/road-depth", True),
    ]
    again.at(9000)
    assert len(again.transitions) == 2


def test_a_stale_revision_is_refused_and_changes_nothing() -> None:
    street = plain()
    street.send(0, depth=11.0)
    refused = street.do(1, CommandName.ACKNOWLEDGE, "r1/high", rev=7)
    assert refused == ("stale_rev", "the alarm is at revision 1, you saw 7")
    assert street.record("r1/high").rev == 1
    assert street.do(2, CommandName.ACKNOWLEDGE, "r1/high", rev=1) is None


def test_comments_and_assignments_are_recorded() -> None:
    street = plain()
    street.send(0, depth=11.0)
    assert street.do(1, CommandName.COMMENT, "r1/high", why="water is clear") is None
    assert street.do(2, CommandName.ASSIGN, "r1/high", to="crew-3") is None
    record = street.record("r1/high")
    assert (record.comment, record.assigned_to, record.rev) == ("water is clear", "crew-3", 3)
    assert street.do(3, CommandName.ASSIGN, "r1/high") is not None


@pytest.mark.parametrize("name", [CommandName.OUT_OF_SERVICE, CommandName.IN_SERVICE, CommandName.LEARN_BASELINE])
def test_what_is_not_built_is_refused_by_name(name: CommandName) -> None:
    street = plain()
    street.send(0, depth=11.0)
    refused = street.do(1, name, "r1/high", why="x")
    assert refused is not None
    assert refused[0] == "not_allowed"


def test_an_alarm_that_never_was_cannot_be_commanded() -> None:
    street = plain()
    for alarm in ("r1/high", "r9/high", "nonsense"):
        refused = street.do(0, CommandName.ACKNOWLEDGE, alarm)
        assert refused is not None
        assert refused[0] == "not_found"


def test_occurrence_ids_sort_by_time_and_are_the_same_in_every_replay() -> None:
    first = occurrence_id("r1/high", 1, START)
    assert first == occurrence_id("r1/high", 1, START)
    assert len(first) == 26
    assert first < occurrence_id("a/a", 1, START + 1000)
    assert first != occurrence_id("r1/high", 2, START)


# -- the rows that ask again, set aside, sign off ---------------------------------------------------------------------


def test_t11_what_is_acknowledged_and_stays_active_asks_again_a_few_times() -> None:
    street = plain("realarm: {after: 30m, times: 2}")
    street.send(0, depth=12.0)
    street.do(60, CommandName.ACKNOWLEDGE, "r1/high")
    street.at(1_859)
    assert street.record("r1/high").acked
    street.at(1_860)
    assert street.story("r1/high")[-1] == (1_860, "T11", "UNACK")
    assert street.transitions[-1].notify
    street.do(2_000, CommandName.ACKNOWLEDGE, "r1/high")
    street.do(4_000, CommandName.ACKNOWLEDGE, "r1/high")
    street.at(20_000)
    assert [cause for _, cause, _ in street.story("r1/high")].count("T11") == 2
    assert street.record("r1/high").realarm_count == 2


def test_t22_t23_out_of_service_is_recorded_told_to_nobody_and_asks_again_when_it_is_back() -> None:
    street = plain()
    assert street.do(0, CommandName.OUT_OF_SERVICE, "r1/high", why="pump exchange", work="W-7") is not None  # never was
    street.send(1, depth=12.0)
    street.do(2, CommandName.ACKNOWLEDGE, "r1/high")
    refused = street.do(3, CommandName.OUT_OF_SERVICE, "r1/high", work="W-7")
    assert refused is not None
    assert "needs a reason" in refused[1]
    street.do(4, CommandName.OUT_OF_SERVICE, "r1/high", why="pump exchange", work="W-7")
    away = street.record("r1/high").out_of_service
    assert away is not None
    assert (away.work, away.by, away.reason) == ("W-7", "li", "pump exchange")
    street.send(5, depth=1.0)
    street.send(6, depth=12.0)
    assert [t.notify for t in street.transitions if t.at > START + 3_500_000] == [False, False, False]
    street.do(7, CommandName.IN_SERVICE, "r1/high")
    assert street.story("r1/high")[-1] == (7, "T23", "UNACK")
    assert street.transitions[-1].notify


def test_t25_an_alarm_that_asks_for_a_second_sign_off_closes_only_with_it() -> None:
    street = plain("confirm: true")
    street.send(0, depth=12.0)
    street.do(1, CommandName.ACKNOWLEDGE, "r1/high")
    early = street.do(2, CommandName.CONFIRM, "r1/high", why="seen", cause_code="rain")
    assert early is not None
    street.send(3, depth=1.0)
    assert (street.record("r1/high").isa_state.value, street.record("r1/high").closed_at) == ("NORM", None)
    assert street.do(4, CommandName.CONFIRM, "r1/high", why="seen") is not None, "no cause code"
    assert street.do(5, CommandName.CONFIRM, "r1/high", why="seen", cause_code="rain") is None
    record = street.record("r1/high")
    assert (record.confirmed, record.cause_code, record.closed_at) == (True, "rain", START + 5_000_000)
    assert street.do(6, CommandName.CONFIRM, "r1/high", why="again", cause_code="rain") is not None


def test_t27_force_clear_is_refused_while_the_condition_is_true() -> None:
    street = plain("off_delay: 1h")
    street.send(0, depth=12.0)
    refused = street.do(1, CommandName.FORCE_CLEAR, "r1/high", why="sensor removed")
    assert refused == ("not_allowed", "the condition is still true")
    street.send(2, depth=None, quality=Quality.BAD)
    assert street.do(3, CommandName.FORCE_CLEAR, "r1/high", why="sensor removed") is None
    assert street.story("r1/high")[-1] == (3, "T27", "NORM")
    street.at(20_000)
    assert street.story("r1/high")[-1] == (3, "T27", "NORM"), "its timers are gone"


def test_t29_chattering_is_told_once_folded_and_summed_up_when_it_is_over() -> None:
    street = plain()
    for second in range(0, 60, 10):
        street.send(second, depth=12.0)
        street.send(second + 5, depth=1.0)
    causes = [cause for _, cause, _ in street.story("r1/high")]
    assert causes.count("T29") == 1
    told = [t.cause for t in street.transitions if t.notify]
    assert told == ["T3", "T6", "T7", "T6", "T7", "T29"], "then no more"
    assert street.record("r1/high").chattering
    street.at(50 + 600 - 1)
    assert street.record("r1/high").chattering
    street.at(50 + 600)
    over = street.transitions[-1]
    assert (over.cause, over.notify, over.record.chattering) == ("T29", True, False)
    assert over.why == "quiet again; 7 notifications were folded"


def test_t29_level_i_is_told_every_time() -> None:
    street = Street((PLAIN % "on_delay: 0s").replace("level: II", "level: I"))
    for second in range(0, 60, 10):
        street.send(second, depth=12.0)
        street.send(second + 5, depth=1.0)
    assert sum(t.notify for t in street.transitions) == len(street.transitions) == 13


def test_t30_an_alarm_that_stands_for_a_day_is_stale() -> None:
    street = plain()
    street.send(0, depth=12.0)
    street.at(86_399)
    assert not street.record("r1/high").stale
    street.at(86_400)
    assert street.story("r1/high")[-1] == (86_400, "T30", "UNACK")
    assert not street.transitions[-1].notify
    street.send(86_500, depth=1.0)
    assert not street.record("r1/high").stale


def test_t31_silence_lasts_until_it_is_told_again() -> None:
    street = plain()
    street.send(0, depth=12.0)
    street.do(1, CommandName.SILENCE, "r1/high")
    assert street.record("r1/high").silenced
    assert street.do(2, CommandName.SILENCE, "r1/high") is not None
    street.send(3, depth=1.0)
    assert not street.record("r1/high").silenced, "that it is over was told"
