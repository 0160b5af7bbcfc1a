"""Routes: which an alarm goes down, which it passes by and why, and who is behind a target."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from gateway.core.case_clock import Calendar
from gateway.core.model import AlarmRecord, Asset, Level, Micros
from gateway.core.rota import Rota, Shift
from gateway.core.routing import Match, Person, Route, Routing, Step, Target, TargetKind
from gateway.core.rule import Is, Rule
from gateway.core.schedule import Moment, Schedule, Span

NIGHT = Schedule((Span(Moment(time(22)), Moment(time(6))),))
LI, WANG = (Target(TargetKind.PERSON, name) for name in ("li", "wang"))
STEPS = (Step(0, (LI,)),)
RULE = Rule("lamp-out", ("lamp",), Is("lit", (False,)), notify=("lighting-crew", "duty-desk"))
ASSET = Asset("L-1", "lamp", road="水泊大街", town="梁山街道", unit="城管局", attributes={"risk": "high", "lanes": 4.0})
RECORD = AlarmRecord("L-1/lamp-out", "L-1", "lamp-out", "lamp", level=Level.III)


def at(text: str) -> Micros:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1e6)


NOON, LATE = at("2026-01-05T12:00"), at("2026-01-05T23:00")


def chosen(root: Route, record: AlarmRecord = RECORD, moment: Micros = NOON) -> list[str]:
    return [route.name for route in Routing(root).of(record, ASSET, RULE, moment)]


@pytest.mark.parametrize(
    ("match", "misses"),
    [
        ({}, None),
        ({"level": Level.III}, None),
        ({"level": Level.II}, "level"),
        ({"kinds": ("pump", "lamp")}, None),
        ({"kinds": ("pump",)}, "kind"),
        ({"rules": ("circuit-*", "lamp-*")}, None),
        ({"rules": ("lamp",)}, "rule"),
        ({"assets": ("L-*",)}, None),
        ({"assets": ("P-*",)}, "asset"),
        ({"roads": ("水泊大街",)}, None),
        ({"roads": ("青年路",)}, "road"),
        ({"towns": ("水泊街道",)}, "town"),
        ({"units": ("住建局",)}, "unit"),
        ({"addressees": ("drainage", "duty-desk")}, None),
        ({"addressees": ("drainage",)}, "notify"),
        ({"attributes": (("lanes", 4.0), ("risk", "high"))}, None),
        ({"attributes": (("lanes", 4.0), ("risk", "low"))}, "attributes"),
        ({"attributes": (("colour", "red"),)}, "attributes"),
        ({"during": NIGHT}, "during"),
        ({"unless": NIGHT}, None),
        ({"simulated": True}, "simulated"),
        ({"level": Level.II, "kinds": ("pump",)}, "level"),
    ],
)
def test_the_first_field_that_does_not_match_is_named(match: dict[str, Any], misses: str | None) -> None:
    assert Match(**match).misses(RECORD, ASSET, RULE, NOON) == misses


def test_night_is_judged_by_the_moment_the_alarm_was_raised() -> None:
    assert Match(during=NIGHT).misses(RECORD, ASSET, RULE, LATE) is None
    assert Match(unless=NIGHT).misses(RECORD, ASSET, RULE, LATE) == "unless"


def test_an_alarm_without_a_rule_has_no_addressee() -> None:
    assert Match(addressees=("lighting-crew",)).misses(RECORD, ASSET, None, NOON) == "notify"


def test_the_first_child_that_matches_takes_the_alarm_and_its_parent_does_not() -> None:
    first, second = Route("first", steps=STEPS), Route("second", steps=STEPS)
    assert chosen(Route("root", steps=STEPS, routes=(first, second))) == ["first"]


def test_a_child_that_goes_on_leaves_the_alarm_to_the_next_ones_too() -> None:
    first, second, third = (Route(name, steps=STEPS, go_on=name != "second") for name in ("first", "second", "third"))
    assert chosen(Route("root", steps=STEPS, routes=(first, second, third))) == ["first", "second"]


def test_where_no_child_matches_the_route_itself_counts() -> None:
    pumps = Route("pumps", Match(kinds=("pump",)), STEPS)
    assert chosen(Route("root", steps=STEPS, routes=(pumps,))) == ["root"]


def test_the_deepest_route_counts_and_a_child_of_a_route_that_goes_on_is_of_it() -> None:
    deep = Route("deep", Match(level=Level.III), STEPS)
    lamps = Route("lamps", Match(kinds=("lamp",)), STEPS, routes=(deep,), go_on=True)
    rest = Route("rest", steps=STEPS)
    assert chosen(Route("root", steps=STEPS, routes=(lamps, rest))) == ["deep", "rest"]


def test_a_route_without_steps_keeps_the_alarm_to_itself() -> None:
    silent = Route("silent", Match(kinds=("lamp",)))
    assert chosen(Route("root", steps=STEPS, routes=(silent,))) == []


def test_what_the_root_does_not_let_in_goes_nowhere() -> None:
    root = Route("root", Match(level=Level.II), STEPS)
    assert chosen(root) == []
    (choice,) = Routing(root).choices(RECORD, ASSET, RULE, NOON)
    assert (choice.route.name, choice.misses, choice.chosen) == ("root", "level", False)


def test_every_route_that_was_looked_at_is_told_with_its_depth_and_what_did_not_match() -> None:
    deep = Route("deep", Match(level=Level.I), STEPS)
    lamps = Route("lamps", Match(kinds=("lamp",)), STEPS, routes=(deep,))
    pumps, never = Route("pumps", Match(kinds=("pump",)), STEPS), Route("never", steps=STEPS)
    root = Route("root", steps=STEPS, routes=(pumps, lamps, never))
    found = Routing(root).choices(RECORD, ASSET, RULE, NOON)
    assert [(one.route.name, one.depth, one.misses, one.chosen) for one in found] == [
        ("root", 0, None, False),
        ("pumps", 1, "kind", False),
        ("lamps", 1, None, True),
        ("deep", 2, "level", False),
    ]


def test_a_simulated_alarm_never_goes_down_a_tree_of_real_ones() -> None:
    simulated = msgspec.structs.replace(RECORD, simulated=True)
    root = Route("root", steps=STEPS)
    assert chosen(root, simulated) == []
    assert chosen(replace(root, match=Match(simulated=True)), simulated) == ["root"]
    assert chosen(replace(root, match=Match(simulated=True))) == []


def test_all_routes_are_the_root_and_everything_below_in_order() -> None:
    tree = Route("root", routes=(Route("a", routes=(Route("b"),)), Route("c")))
    assert [route.name for route in tree.all_routes] == ["root", "a", "b", "c"]


def test_people_behind_targets_are_each_there_once_and_a_rota_gives_who_is_on_duty() -> None:
    shift = Shift("day", time(8), time(18), (("li",), ("sun",)), since=date(2026, 1, 5))
    routing = Routing(
        teams={"crew": (WANG, Target(TargetKind.ROTA, "desk")), "all": (Target(TargetKind.TEAM, "crew"), LI)},
        rotas={"desk": Rota("desk", ("chief",), (shift,), (), Calendar())},
    )
    everybody = (LI, Target(TargetKind.TEAM, "all"))
    assert routing.people_of(everybody, NOON) == ("li", "wang")
    assert routing.people_of(everybody, NOON + 24 * 3_600_000_000) == ("li", "wang", "sun")
    assert routing.people_of(everybody, LATE) == ("li", "wang", "chief")
    assert routing.teams_of("li", NOON) == {"crew", "all", "desk"}
    assert routing.teams_of("li", LATE) == {"all"}


def test_an_account_is_the_persons_own_name_unless_it_has_another() -> None:
    people = {"li": Person("li", "李娜", (), user="lina"), "wang": Person("wang", "王", ())}
    routing = Routing(people=people)
    assert routing.person_of_user("lina") is people["li"]
    assert routing.person_of_user("wang") is people["wang"]
    assert routing.person_of_user("li") is None
