"""Assets under maintenance, and alarms that are out of service until a time."""

from __future__ import annotations

import pytest

from gateway.core.engine import Engine
from gateway.core.model import (
    HOUR,
    SECOND,
    Asset,
    CommandName,
    Condition,
    Maintenance,
    MaintenanceChanged,
    OutOfService,
)
from tests.core.street import START, Street

HIGH = """
- {rule: high, applies_to: {kind: road}, when: {point: depth, above: 10, deadband: 2}, off_delay: 0s, response: look}
- {rule: splash, applies_to: {kind: road}, when: {point: rssi, above: -50}, event: true, response: look}
- {rule: low, applies_to: {kind: road}, when: {point: battery, below: 20}, on_delay: 60s, response: look}
"""
ALARM = "r1/high"
DAY = 24 * 3600
BEGIN, END = CommandName.MAINTENANCE, CommandName.END_MAINTENANCE


def street() -> Street:
    return Street(HIGH, [Asset("r1", "road"), Asset("r2", "road")])


def maintain(town: Street, at: float = 0, **arguments: float) -> Maintenance:
    """Put r1 under maintenance for an hour, if nothing else is said."""
    given = {"seconds": 3600.0} if "until" not in arguments else {}
    assert town.do(at, BEGIN, "r1", why="new pump", work="W-7", **{**given, **arguments}) is None
    return windows(town)[-1]


def windows(town: Street) -> list[Maintenance]:
    return [event.window for event in town.events if isinstance(event, MaintenanceChanged)]


def moment(seconds: float) -> int:
    return START + round(seconds * SECOND)


def test_what_stands_when_it_begins_is_out_of_service_and_says_for_which_work_until_when() -> None:
    town = street()
    town.send(0, depth=11.0)
    window = maintain(town, 10)
    assert (window.asset, window.since, window.until, window.by, window.reason, window.work) == (
        "r1", moment(10), moment(3610), "li", "new pump", "W-7",
    )  # fmt: skip
    record = town.record(ALARM)
    assert record.out_of_service == OutOfService("W-7", "li", "new pump", moment(10), moment(3610), window.id)
    assert town.story(ALARM) == [(0, "T3", "UNACK"), (10, "T22", "OOSRV")]
    step = town.transitions[-1]
    assert (step.by, step.why, step.notify) == ("li", "new pump", False)


def test_what_is_raised_meanwhile_is_born_out_of_service_and_told_to_nobody() -> None:
    town = street()
    maintain(town)
    town.send(10, depth=11.0)
    assert town.story(ALARM) == [(10, "T3", "OOSRV")]
    assert town.record(ALARM).cond is Condition.ACTIVE
    assert not town.transitions[-1].notify


def test_what_still_stands_when_it_is_over_is_new_and_told() -> None:
    town = street()
    maintain(town)
    town.send(10, depth=11.0)
    town.at(4000)
    assert town.story(ALARM)[-1] == (3600, "T23", "UNACK")
    assert (town.transitions[-1].notify, town.transitions[-1].by) == (True, None)
    assert windows(town)[-1].ended_at == moment(3600)
    assert windows(town)[-1].ended_by is None


def test_what_came_and_went_meanwhile_asks_nobody() -> None:
    town = street()
    maintain(town)
    town.send(10, depth=11.0, rssi=-40.0)
    town.send(20, depth=1.0)
    town.at(4000)
    assert town.story(ALARM) == [(10, "T3", "OOSRV"), (20, "T6", "OOSRV"), (3600, "T23", "NORM")]
    assert town.record("r1/splash").isa_state.value == "NORM"
    assert not any(step.notify for step in town.transitions)


def test_what_waited_to_be_acknowledged_still_does_afterwards() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.send(1, depth=1.0)
    maintain(town, 10)
    town.at(4000)
    assert town.story(ALARM)[-2:] == [(10, "T22", "OOSRV"), (3610, "T23", "RTNUN")]
    assert not town.transitions[-1].notify


def test_other_assets_and_what_is_normal_are_left_alone() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.send(1, depth=1.0)
    town.do(2, CommandName.ACKNOWLEDGE, ALARM)
    maintain(town, 10)
    town.send(20, "r2", depth=11.0)
    assert town.record(ALARM).out_of_service is None
    assert town.record("r2/high").isa_state.value == "UNACK"


def test_a_delay_that_runs_out_at_the_moment_it_begins_wakes_nobody() -> None:
    town = street()
    maintain(town, 0, since=moment(60), seconds=600)
    town.send(0, battery=10.0)
    town.at(60)
    assert town.story("r1/low") == [(60, "T3", "OOSRV")]


def test_it_may_be_planned_for_later() -> None:
    town = street()
    town.send(0, depth=11.0)
    window = maintain(town, 10, since=moment(7200), seconds=600)
    assert (window.since, window.until) == (moment(7200), moment(7800))
    town.at(7199)
    assert town.record(ALARM).isa_state.value == "UNACK"
    town.at(10_000)
    assert town.story(ALARM)[1:] == [(7200, "T22", "OOSRV"), (7800, "T23", "UNACK")]


def test_somebody_ends_it_early() -> None:
    town = street()
    town.send(0, depth=11.0)
    window = maintain(town, 10)
    assert town.do(100, END, "r1", why="the pump fits", id=window.id) is None
    assert town.story(ALARM)[-1] == (100, "T23", "UNACK")
    assert (town.transitions[-1].by, town.transitions[-1].why, town.transitions[-1].notify) == (
        "li", "the pump fits", True,
    )  # fmt: skip
    assert (windows(town)[-1].ended_at, windows(town)[-1].ended_by) == (moment(100), "li")
    town.at(5000)
    assert len(windows(town)) == 2, "and it does not end a second time"


def test_what_was_planned_can_be_called_off() -> None:
    town = street()
    window = maintain(town, 0, since=moment(7200), seconds=600)
    assert town.do(1, END, "r1") == ("not_found", "r1 has no such maintenance, or it is over"), "none is open"
    assert town.do(2, END, "r1", id=window.id) is None
    town.send(7300, depth=11.0)
    assert town.record(ALARM).isa_state.value == "UNACK"
    assert town.do(7400, END, "r1", id=window.id) == ("not_found", "r1 has no such maintenance, or it is over")


def test_an_alarm_is_not_put_back_alone_while_its_asset_is_under_maintenance() -> None:
    town = street()
    town.send(0, depth=11.0)
    maintain(town, 10)
    refused = town.do(20, CommandName.IN_SERVICE, ALARM)
    assert refused == ("not_allowed", "r1 is under maintenance: end that")


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"seconds": 31 * DAY}, "invalid", "seconds: a number up to 2592000"),
        ({"until": moment(31 * DAY)}, "invalid", "until: at most 30 days"),
        ({"until": moment(0)}, "invalid", "until: that is over already"),
        ({"seconds": 30}, "invalid", "until: at least a minute after the beginning, and not over already"),
        ({"since": moment(400 * DAY), "seconds": 600}, "invalid", "since: at most a year from now"),
        ({}, "not_allowed", "say until when (argument `until` or `seconds`)"),
        ({"seconds": 600, "work": ""}, "not_allowed", "say for which work (argument `work`)"),
        ({"seconds": 600, "since": "noon"}, "invalid", "since: a time"),
    ],
)
def test_who_why_for_what_and_until_when_are_always_said(more: dict[str, object], code: str, said: str) -> None:
    arguments = {"work": "W-7", **more}
    assert street().do(10, BEGIN, "r1", why="new pump", **arguments) == (code, said)  # type: ignore[arg-type]


def test_it_needs_a_reason_and_an_asset() -> None:
    town = street()
    assert town.do(1, BEGIN, "r1", work="W-7", seconds=600) == ("not_allowed", "maintenance needs a reason")
    assert town.do(1, BEGIN, "r9", why="x", work="W-7", seconds=600) == ("not_found", "there is no asset r9")


def test_two_windows_of_one_asset_do_not_overlap_but_may_follow_one_another() -> None:
    town = street()
    town.send(0, depth=11.0)
    first = maintain(town, 10, since=moment(100), until=moment(200))
    refused = town.do(11, BEGIN, "r1", why="x", work="W-8", since=moment(150), seconds=600)
    assert refused == ("not_allowed", f"r1 is under maintenance then already ({first.id})")
    maintain(town, 12, since=moment(200), until=moment(300))
    town.at(1000)
    assert town.story(ALARM)[1:] == [(100, "T22", "OOSRV"), (200, "T22", "OOSRV"), (300, "T23", "UNACK")]


def test_an_alarm_can_be_out_of_service_until_a_time() -> None:
    town = street()
    town.send(0, depth=11.0)
    assert town.do(1, CommandName.OUT_OF_SERVICE, ALARM, why="repair", work="W-1", until=moment(600)) is None
    assert town.record(ALARM).out_of_service == OutOfService("W-1", "li", "repair", moment(1), moment(600))
    town.at(1000)
    assert town.story(ALARM)[1:] == [(1, "T22", "OOSRV"), (600, "T23", "UNACK")]
    assert town.transitions[-1].notify


@pytest.mark.parametrize("until", [moment(1), moment(31 * DAY), "noon"])
def test_and_the_time_is_one_to_come_within_thirty_days(until: object) -> None:
    town = street()
    town.send(0, depth=11.0)
    refused = town.do(2, CommandName.OUT_OF_SERVICE, ALARM, why="repair", work="W-1", until=until)  # type: ignore[arg-type]
    assert refused is not None
    assert refused[0] == "invalid"


def test_out_of_service_without_an_end_waits_for_somebody_also_through_maintenance() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(1, CommandName.OUT_OF_SERVICE, ALARM, why="repair", work="W-1")
    maintain(town, 10)
    town.at(5000)
    assert town.record(ALARM).isa_state.value == "OOSRV"
    assert town.do(5001, CommandName.IN_SERVICE, ALARM) is None


def test_one_whose_own_time_is_over_during_maintenance_stays_out_for_that() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(1, CommandName.OUT_OF_SERVICE, ALARM, why="repair", work="W-1", seconds=599)
    window = maintain(town, 10)
    town.at(700)
    away = town.record(ALARM).out_of_service
    assert away is not None
    assert (away.work, away.maintenance) == ("W-7", window.id)
    town.at(5000)
    assert town.story(ALARM)[-1] == (3610, "T23", "UNACK")
    assert [step.notify for step in town.transitions] == [True, False, False, True]


def test_a_restart_forgets_no_window() -> None:
    town = street()
    maintain(town, 0)
    maintain(town, 1, since=moment(7200), seconds=600)
    town = town.restarted()
    town.send(10, depth=11.0)
    assert town.story(ALARM) == [(10, "T3", "OOSRV")]
    town.at(9000)
    assert [cause for _, cause, _ in town.story(ALARM)] == ["T3", "T23", "T22", "T23"]
    assert [window.ended_at for window in windows(town)] == [moment(3600), moment(7800)]


def test_from_the_store_alone_windows_and_their_ends_go_on() -> None:
    town = street()
    town.send(0, depth=11.0)
    first = maintain(town, 10)
    second = maintain(town, 11, since=moment(7200), seconds=600)
    other = street()
    other.engine = Engine(other.registry, other.rules, other._interval)
    other.engine.adopt(list(town.engine.alarms()), town.engine.now, [first, second])
    other.send(20, rssi=-40.0)
    assert other.story("r1/splash") == [(20, "T26", "OOSRV")]
    other.at(9000)
    assert other.story(ALARM) == [
        (3610, "T23", "UNACK"), (7200, "T22", "OOSRV"), (7800, "T23", "UNACK"),
    ]  # fmt: skip
    assert [window.ended_at for window in windows(other)] == [moment(3610), moment(7800)]


def test_what_began_and_ended_while_the_gateway_was_away_did_so_at_its_time() -> None:
    town = street()
    town.send(0, depth=11.0)
    maintain(town, 10, since=moment(100), until=moment(200))
    town.engine.blind(moment(50), moment(3600))
    town.engine.advance(START + HOUR, town.events, late=True)
    assert [(step.cause, step.at, step.late) for step in town.transitions[1:]] == [
        ("T22", moment(100), True), ("T23", moment(200), True),
    ]  # fmt: skip


def test_the_engine_says_which_windows_an_asset_has() -> None:
    town = street()
    later = maintain(town, 0, since=moment(7200), seconds=600)
    now = maintain(town, 1)
    assert town.engine.maintenance_of("r1") == [now, later]
    assert town.engine.maintenance_of("r2") == []
