"""Why an alarm stands, and why one does not."""

from __future__ import annotations

import pytest

from gateway.core.model import Asset, CommandName, Quality
from tests.core.street import ROAD, START, Street

RULES = (
    ROAD
    + """
- {rule: off, applies_to: {kind: road}, when: {point: depth, above: 5}, enabled: false, response: look}
- {rule: posted, applies_to: {kind: road}, when: {point: depth, above: {attribute: my_limit}}, response: look}
- rule: at-night
  applies_to: {kind: road}
  when: {point: depth, above: 1}
  schedule: {between: ["01:00", "02:00"]}
  response: look
- {rule: bright, applies_to: {kind: lamp}, when: {point: power, above: 5}, response: look}
"""
)


def street() -> Street:
    return Street(RULES, [Asset("r1", "road")])


def codes(town: Street, alarm: str = "r1/road-depth") -> list[str]:
    return [reason.code for reason in town.engine.why(alarm).reasons]


def test_below_the_limit_by_how_much() -> None:
    town = street()
    town.send(0, depth=2.5)
    why = town.engine.why("r1/road-depth")
    assert (why.applies, why.stands, codes(town)) == (True, False, ["below"])
    assert [(rung.limit, rung.distance) for rung in why.rungs] == [(5.0, -2.5), (15.0, -12.5)]
    assert [rung.beyond for rung in why.rungs] == [False, False]
    assert "2.5" in why.reasons[0].zh
    assert "2.5" in why.reasons[0].en


def test_pending_since_when_and_until_when() -> None:
    town = street()
    town.send(10, depth=6.0)
    why = town.engine.why("r1/road-depth")
    assert codes(town) == ["pending"]
    assert (why.rungs[0].pending_since, why.rungs[0].raises_at) == (START + 10_000_000, START + 130_000_000)


def test_why_it_stands_with_its_limit_and_what_keeps_it_from_clearing() -> None:
    town = street()
    town.send(0, depth=6.0)
    town.at(120)
    assert codes(town)[0] == "above"
    town.send(130, depth=4.0)
    assert codes(town) == ["above", "deadband"]
    town.send(140, depth=1.0)
    assert codes(town) == ["above", "clearing"]
    assert town.engine.why("r1/road-depth").rungs[0].clears_at == START + 260_000_000


def test_bad_data_holds_and_what_never_spoke_cannot_be_known() -> None:
    town = street()
    assert codes(town) == ["never_reported"]
    town.send(0, depth=6.0)
    town.send(10, depth=None, quality=Quality.BAD)
    assert codes(town)[0] == "bad_data"
    assert town.engine.why("r1/road-depth").rungs[0].raises_at is None, "no deadline fires meanwhile"


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        (CommandName.SHELVE, {"seconds": 600}, "shelved"),
        (CommandName.OUT_OF_SERVICE, {"work": "W-1"}, "out_of_service"),
    ],
)
def test_what_a_person_set_aside_says_so_first(
    command: CommandName, arguments: dict[str, str | int | float | bool | None], code: str
) -> None:
    town = street()
    town.send(0, depth=6.0)
    assert town.do(130, command, why="works on the road", **arguments) is None
    assert codes(town)[0] == code


@pytest.mark.parametrize(
    ("alarm", "code"),
    [
        ("r9/road-depth", "no_asset"),
        ("r1/road-deep", "no_rule"),
        ("r1/off", "disabled"),
        ("r1/posted", "lacks"),
        ("r1/bright", "other_kind"),
    ],
)
def test_why_a_rule_says_nothing_of_an_asset(alarm: str, code: str) -> None:
    why = street().engine.why(alarm)
    assert (why.applies, why.stands, why.reasons[0].code) == (False, False, code)
    assert why.reasons[0].zh
    assert why.reasons[0].en


def test_outside_its_schedule_it_says_when_it_begins() -> None:
    town = street()  # it is 23:06
    town.send(0, depth=6.0)
    why = town.engine.why("r1/at-night")
    assert (why.reasons[0].code, why.in_schedule) == ("schedule", False)
    assert why.schedule_changes_at == START + (53 * 60 + 20 + 3600) * 1_000_000


def test_out_of_service_until_when() -> None:
    town = street()
    town.send(0, depth=6.0)
    town.at(130)
    town.do(130, CommandName.OUT_OF_SERVICE, why="painting", work="W-1", seconds=600)
    town.at(190)
    reason = town.engine.why("r1/road-depth").reasons[0]
    assert (reason.code, reason.zh) == ("out_of_service", "停用检修：W-1（li：painting），9 分钟后自动恢复")
    assert reason.en == "out of service for W-1 (li: painting), for another 9 min"


def test_an_asset_under_maintenance_says_so_before_anything_is_raised() -> None:
    town = street()
    town.do(0, CommandName.MAINTENANCE, "r1", why="new gauge", work="W-7", seconds=3 * 86400)
    town.send(10, depth=1.0)
    why = town.engine.why("r1/road-depth")
    assert codes(town) == ["maintenance", "below"]
    assert "2 天后自动恢复" in why.reasons[0].zh
    assert why.maintenance is not None
    assert why.maintenance.work == "W-7"
    town.send(20, depth=6.0)
    town.at(200)
    assert codes(town) == ["out_of_service", "above"]


def test_work_that_is_verified_says_since_when_and_what_it_waits_for() -> None:
    town = street()
    town.send(0, depth=6.0)
    town.at(130)
    town.do(130, CommandName.DISPATCH, to="crew-1")
    town.do(131, CommandName.ACCEPT)
    town.do(132, CommandName.DONE, why="pumped", cause_code="leaves")
    town.at(432)
    why = town.engine.why("r1/road-depth")
    assert codes(town)[0] == "verifying"
    assert why.verifying is not None
    assert (why.verifying.since, why.verifying.waits_for) == (START + 132_000_000, ["depth"])
    assert why.reasons[0].zh == "处置已报完成 5 分钟，核实中：depth 尚无新的有效数据"
    assert why.reasons[0].en == "said to be done 5 min ago, and verified: no fresh reading of depth yet"
    town.send(440, depth=6.0)
    why = town.engine.why("r1/road-depth")
    assert why.verifying is not None
    assert (why.verifying.waits_for, why.verifying.still_true) == ([], True)
    assert why.verifying.decides_at == START + 560_000_000
    assert "sent again" in why.reasons[0].en
    town.send(450, depth=1.0)
    why = town.engine.why("r1/road-depth")
    assert why.verifying is not None
    assert (why.verifying.still_true, why.verifying.decides_at) == (False, None), "the alarm must clear first"
    assert "closed" in why.reasons[0].en
    town.at(571)
    assert town.record().work == "CLOSED"
    assert town.engine.why("r1/road-depth").verifying is None
