"""routes.yaml: what it means, and what is said of every mistake in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.check import check_everything
from gateway.config.bundle import Bundle, compile_bundle, load_configuration, read_bundle
from gateway.config.calendars import FIRST_YEAR, SITE, country_days, site_text
from gateway.config.routes import load_routes
from gateway.config.rules import load_rules
from gateway.config.settings import Settings, SiteSettings, parse_settings
from gateway.config.shipped import read_tree, shipped
from gateway.config.yaml_source import plain_yaml, read_yaml
from gateway.core.case_clock import Calendar, deadline
from gateway.core.model import HOUR, MINUTE, AlarmRecord, Asset, Level, Micros
from gateway.core.notification import Channel
from gateway.core.rota import Rota
from gateway.core.routing import (
    GroupBy,
    Grouping,
    Limit,
    Repeat,
    Route,
    Routing,
    Step,
    Target,
    TargetKind,
    While,
)
from gateway.errors import ConfigError, Mistake

DAY: Micros = 24 * HOUR
RECEIVERS = ("sms", "mail", "duty-desk")
RULES = load_rules({name: text for name, text in read_tree(shipped("rules")).items() if not name.startswith("tests/")})

FILE = """\
people:
  - person: zhang
    name: {zh: 张伟, en: Zhang Wei}
    numbers: ["+86 138 0537 0001"]
    channels: [{receiver: sms, to: "13805370001"}, {receiver: mail, to: zhang@example.gov.cn}]
  - {person: li, name: 李娜, language: en, user: lina, channels: [{receiver: sms, to: "13805370002"}]}
  - {person: wang, channels: [{receiver: duty-desk}]}
teams:
  - team: lighting
    name: {zh: 路灯班, en: Lighting crew}
    members: [person:zhang, rota:night]
  - {team: heads, members: [person:wang, team:lighting]}
rotas:
  - rota: night
    name: {zh: 夜班, en: Night desk}
    shifts:
      - {shift: day, from: "08:00", until: "18:00", days: workdays, people: [zhang]}
      - shift: night
        from: "18:00"
        until: "08:00"
        people: [zhang, [li, wang]]
        rotate: {every: 1w, since: 2026-01-05}
    swaps:
      - {from: 2026-01-06 18:00, until: 2026-01-07 08:00, instead_of: zhang, person: wang, why: 探亲}
    fallback: [wang]
limits: {messages: 2, in_all: 5, within: 5m, digest: 10m}
calendar:
  holidays: [2026-03-02]
  workdays: [2026-10-01]
  working_hours: [["08:30", "12:00"], ["13:30", "17:30"]]
canary: [person:zhang]
route:
  steps: [{tell: rota:night}, {after: 10m, tell: [team:heads], if_still: active}]
  group: {by: [cause, road], wait: 30s, interval: 5m}
  repeat: {every: 30m, times: 4}
  quiet: {from: "22:00", until: "07:00"}
  warn: [team:lighting]
  routes:
    - route: lamps
      title: {zh: 路灯, en: Lamps}
      match: {kind: lamp, notify: lighting-crew}
      steps: [{tell: team:lighting}]
      dispatch: lighting
      quiet: none
      repeat: none
      routes:
        - route: dark-row
          match: {level: II, rule: ["lamp-out-*"], road: 水泊大街}
          cleared: false
    - route: night-floods
      match: {level: I, during: {sun: down}, unless: {from: "12:00", until: "13:00", days: [sat, sun]}}
      overdue: [person:wang]
      go_on: true
    - route: storms
      match: {attributes: {risk: high, lanes: 4}}
      steps: []
"""


def texts(text: str, site: SiteSettings | None = None) -> dict[str, str]:
    return {"routes.yaml": text, SITE: site_text(site or SiteSettings(), today=date(2026, 3, 1))}


def load(text: str) -> Routing:
    return load_routes(texts(text), RULES, RECEIVERS)


def mistakes(text: str) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return caught.value.mistakes


def only(text: str) -> Mistake:
    (mistake,) = mistakes(text)
    return mistake


def at(text: str, zone: str = "Asia/Shanghai") -> Micros:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1e6)


def find(routing: Routing, name: str) -> Route:
    return next(route for route in routing.root.all_routes if route.name == name)


def target(text: str) -> Target:
    kind, name = text.split(":")
    return Target(TargetKind(kind), name)


# -- what it means ------------------------------------------------------------------------------------------------


def test_people_have_names_channels_and_numbers_from_which_they_answer() -> None:
    people = load(FILE).people
    zhang, li, wang = people["zhang"], people["li"], people["wang"]
    assert (zhang.name, zhang.name_en, zhang.language) == ("张伟", "Zhang Wei", "zh")
    assert zhang.numbers == ("+8613805370001",)
    assert zhang.channels == (Channel("sms", "13805370001"), Channel("mail", "zhang@example.gov.cn"))
    assert (li.name, li.name_en, li.language, li.user) == ("李娜", "李娜", "en", "lina")
    assert (wang.name, wang.channels) == ("wang", (Channel("duty-desk"),))


def test_a_team_is_people_other_teams_and_who_is_on_duty() -> None:
    routing = load(FILE)
    assert routing.titles["lighting"] == ("路灯班", "Lighting crew")
    monday = at("2026-01-05T20:00")
    assert routing.people_of((target("team:heads"),), monday) == ("wang", "zhang")
    assert routing.people_of((target("team:heads"),), monday + 7 * DAY) == ("wang", "zhang", "li")


def test_a_rota_has_turns_swaps_and_somebody_for_the_rest() -> None:
    rota = load(FILE).rotas["night"]
    assert rota.on_duty(at("2026-01-05T12:00")).shift == "day"
    assert rota.on_duty(at("2026-01-05T20:00")).people == ("zhang",)
    assert rota.on_duty(at("2026-01-12T20:00")).people == ("li", "wang")
    swapped = rota.on_duty(at("2026-01-06T20:00"))
    assert (swapped.people, swapped.why, swapped.swaps[0].why) == (("wang",), "swap", "探亲")
    assert rota.on_duty(at("2026-01-10T12:00")).why == "fallback"


def test_without_a_rotation_all_of_a_shift_are_on_duty_together() -> None:
    text = FILE.replace("people: [zhang]}", "people: [zhang, [li, zhang]]}")
    assert load(text).rotas["night"].on_duty(at("2026-01-05T12:00")).people == ("zhang", "li")


def test_the_calendar_is_the_countrys_with_the_sites_own_days_over_it() -> None:
    calendar = load(FILE).calendar
    assert calendar.is_workday(date(2026, 2, 14))  # a Saturday, worked for the Spring Festival
    assert not calendar.is_workday(date(2026, 2, 17))
    assert not calendar.is_workday(date(2026, 3, 2))  # the site's own holiday
    assert calendar.is_workday(date(2026, 10, 1))  # and a day that it works
    assert calendar.hours == ((time(8, 30), time(12)), (time(13, 30), time(17, 30)))
    over = deadline("working_hours", at("2026-02-27T17:00"), HOUR, calendar)
    assert over == at("2026-02-28T09:00")  # half an hour on Friday, and on the Saturday that is worked


def test_a_day_worked_for_a_holiday_may_be_off_here_all_the_same() -> None:
    text = FILE.replace("holidays: [2026-03-02]", "holidays: [2026-02-14]")
    assert not load(text).calendar.is_workday(date(2026, 2, 14))


def test_a_country_of_none_has_weekends_only() -> None:
    text = "calendar: {country: none}\n"
    given = {"routes.yaml": text, SITE: site_text(SiteSettings(), "none")}
    assert load_routes(given).calendar == Calendar()


def test_what_a_route_leaves_out_is_its_parents() -> None:
    routing = load(FILE)
    root, lamps, row, floods = (find(routing, name) for name in ("root", "lamps", "dark-row", "night-floods"))
    assert root.steps == (
        Step(0, (target("rota:night"),)),
        Step(10 * MINUTE, (target("team:heads"),), While.ACTIVE),
    )
    assert root.group == Grouping((GroupBy.CAUSE, GroupBy.ROAD), 30_000_000, 5 * MINUTE)
    assert root.repeat == Repeat(30 * MINUTE, 4)
    assert root.quiet is not None
    assert root.quiet.is_on(at("2026-01-06T06:59"))
    assert not root.quiet.is_on(at("2026-01-06T07:00"))
    assert (lamps.quiet, lamps.repeat) == (None, None), "`none` is said"
    assert (lamps.group, lamps.warn, lamps.dispatch) == (root.group, root.warn, "lighting")
    assert (row.steps, row.dispatch, row.cleared) == (lamps.steps, "lighting", False)
    assert (row.title_zh, lamps.title_zh, lamps.title_en) == ("dark-row", "路灯", "Lamps")
    assert (floods.steps, floods.repeat, floods.overdue) == (root.steps, root.repeat, (target("person:wang"),))
    assert find(routing, "storms").steps == (), "an empty list says: nobody"
    assert lamps.line == FILE[: FILE.index("- route: lamps")].count("\n") + 1


def test_every_field_of_a_match_narrows() -> None:
    routing = load(FILE)
    lamp = Asset("L-1", "lamp", road="水泊大街")
    rule = RULES.get("lamp-out-row")
    record = AlarmRecord("L-1/lamp-out-row", "L-1", "lamp-out-row", "lamp", level=Level.II)
    noon, night = at("2026-01-05T12:30"), at("2026-01-05T23:00")
    assert [route.name for route in routing.of(record, lamp, rule, noon)] == ["dark-row"]
    other_road = Asset("L-1", "lamp", road="人民路")
    assert [route.name for route in routing.of(record, other_road, rule, noon)] == ["lamps"]
    flood = AlarmRecord("R-1/road-depth", "R-1", "road-depth", "road", level=Level.I)
    road = Asset("R-1", "road", attributes={"risk": "high", "lanes": 4.0})
    depth = RULES.get("road-depth")
    assert [route.name for route in routing.of(flood, road, depth, night)] == ["night-floods"]
    assert routing.of(flood, road, depth, noon) == (), "the route storms tells nobody"
    (missed,) = [c for c in routing.choices(flood, road, depth, noon) if c.route.name == "night-floods"]
    assert missed.misses == "during"
    plain = Asset("R-1", "road")
    assert [route.name for route in routing.of(flood, plain, depth, noon)] == ["root"]


def test_unless_is_the_time_in_which_a_route_is_passed_by() -> None:
    text = FILE.replace("during: {sun: down}, ", "")
    routing = load(text)
    flood = AlarmRecord("R-1/road-depth", "R-1", "road-depth", "road", level=Level.I)
    road, depth = Asset("R-1", "road"), RULES.get("road-depth")
    for moment, missed in (("2026-01-10T12:30", "unless"), ("2026-01-10T13:00", None), ("2026-01-09T12:30", None)):
        (choice,) = [c for c in routing.choices(flood, road, depth, at(moment)) if c.route.name == "night-floods"]
        assert choice.misses == missed, moment


def test_alarms_of_simulated_assets_go_down_a_tree_that_asks_for_them_and_no_other() -> None:
    text = FILE.replace("route:\n  steps", "route:\n  match: {simulated: true}\n  steps")
    simulated = AlarmRecord("R-1/road-depth", "R-1", "road-depth", "road", simulated=True)
    asset, rule, noon = Asset("R-1", "road", simulated=True), RULES.get("road-depth"), at("2026-01-05T12:00")
    assert load(FILE).of(simulated, asset, rule, noon) == ()
    assert [route.name for route in load(text).of(simulated, asset, rule, noon)] == ["root"]


def test_times_are_those_of_the_sites_zone() -> None:
    routing = load_routes(texts(FILE, SiteSettings(timezone="Europe/Berlin")), RULES, RECEIVERS)
    assert routing.calendar.timezone == "Europe/Berlin"
    assert routing.root.quiet is not None
    assert routing.root.quiet.is_on(at("2026-07-06T06:30", "Europe/Berlin"))
    assert not routing.root.quiet.is_on(at("2026-07-06T22:30"))  # half past four in the afternoon there
    assert routing.rotas["night"].swaps[0].begin == at("2026-01-06T18:00", "Europe/Berlin")


def test_a_file_that_says_nothing_tells_nobody() -> None:
    for text in ("", "people: []\n", "# nobody yet\n"):
        routing = load(text)
        assert (routing.root.steps, routing.root.routes, routing.people) == ((), (), {}), text
        assert routing.limit == Limit()


# -- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        # names
        ("tell: team:lighting", "tell: team:lihgting", "route.routes[0].steps[0].tell", "did you mean `lighting`"),
        ("tell: rota:night}", "tell: rota:knight}", "route.steps[0].tell", "there is no rota knight: did you mean `n"),
        ("overdue: [person:wang]", "overdue: [person:wnag]", "route.routes[1].overdue[0]", "did you mean `wang`"),
        ("overdue: [person:wang]", "overdue: [team:wang]", "route.routes[1].overdue[0]", "wang is a person"),
        ("canary: [person:zhang]", "canary: [zhang]", "canary[0]", "did you mean `person:zhang`"),
        ("canary: [person:zhang]", "canary: [crew:zhang]", "canary[0]", "person, team or rota"),
        (
            '{receiver: sms, to: "13805370001"}',
            "{receiver: smms}",
            "people[0].channels[0].receiver",
            "did you mean `sms`",
        ),
        ("dispatch: lighting", "dispatch: lightning", "route.routes[0].dispatch", "did you mean `lighting`"),
        ("dispatch: lighting", "dispatch: zhang", "route.routes[0].dispatch", "a team or a rota"),
        ("instead_of: zhang", "instead_of: zhnag", "rotas[0].swaps[0].instead_of", "did you mean `zhang`"),
        ("fallback: [wang]", "fallback: [wnag]", "rotas[0].fallback[0]", "did you mean `wang`"),
        ("people: [zhang]}", "people: [zhnag]}", "rotas[0].shifts[0].people[0]", "did you mean `zhang`"),
        ("kind: lamp", "kind: lmap", "route.routes[0].match.kind", "did you mean `lamp`"),
        ("lamp-out-*", "lamp-otu-*", "route.routes[0].routes[0].match.rule[0]", "there is no rule lamp-otu-*"),
        (
            "notify: lighting-crew",
            "notify: lihgting-crew",
            "route.routes[0].match.notify",
            "did you mean `lighting-crew`",
        ),
        # people and teams
        ("person: wang,", "person: li,", "people[2].person", "stands already in line 6"),
        ("team: heads", "team: wang", "teams[1].team", "the name wang stands already in line 7"),
        ("channels: [{receiver: duty-desk}]", "channels: []", "people[2].channels", "can be told in no way"),
        ('"+86 138 0537 0001"', "13805370001", "people[0].numbers[0]", "write it in quotes"),
        ('"+86 138 0537 0001"', "zhang's phone", "people[0].numbers[0]", "not a telephone number"),
        ("user: lina", "user: zhang", "people[1].user", "the account zhang is that of zhang"),
        (
            "[person:zhang, rota:night]",
            "[person:zhang, team:heads]",
            "teams[0].members",
            "contains itself: lighting → heads → lighting",
        ),
        ("[person:zhang, rota:night]", "[team:lighting]", "teams[0].members", "contains itself: lighting → lighting"),
        ("[person:zhang, rota:night]", "[]", "teams[0].members", "has no members"),
        ("[person:zhang, rota:night]", "[person:zhang, person:zhang]", "teams[0].members", "twice"),
        # rotas
        ("fallback: [wang]", "fallback: []", "rotas[0].fallback", "somebody must answer"),
        ("days: workdays", "days: wrokdays", "rotas[0].shifts[0].days", "did you mean `workdays`"),
        ('from: "08:00"', 'from: "8:00"', "rotas[0].shifts[0].from", "not a time of day"),
        ("every: 1w", "every: 10m", "rotas[0].shifts[1].rotate.every", "days or weeks"),
        ("since: 2026-01-05", "since: 5.1.2026", "rotas[0].shifts[1].rotate.since", "write 2026-10-01"),
        ("until: 2026-01-07 08:00", "until: 2026-01-07", "rotas[0].swaps[0].until", "write 2026-10-01 18:00"),
        ("until: 2026-01-07 08:00", "until: 2026-01-06 08:00", "rotas[0].swaps[0].until", "ends after it begins"),
        # time
        ("workdays: [2026-10-01]", "workdays: [2026-03-02]", "calendar.workdays", "among the holidays too"),
        ('["13:30", "17:30"]', '["11:30", "17:30"]', "calendar.working_hours[1]", "one after the other"),
        ('["13:30", "17:30"]', '["17:30", "13:30"]', "calendar.working_hours[1]", "one after the other"),
        ('{from: "22:00", until: "07:00"}', '{from: "22:00"}', "route.quiet", "and `until: 07:00`"),
        ('{from: "22:00", until: "07:00"}', "[]", "route.quiet", "one span or a list"),
        ("days: [sat, sun]", "days: [sat, snun]", "route.routes[1].match.unless.days[1]", "did you mean `sun`"),
        ("in_all: 5", "in_all: 1", "limits.in_all", "cannot be fewer"),
        ("within: 5m", "within: 0s", "limits.within", "between 1s and 7d"),
        # routes
        ("{tell: rota:night}", "{tell: []}", "route.steps[0].tell", "a step tells somebody"),
        ("{after: 10m, tell", "{tell", "route.steps[1].after", "each step comes later than the one before"),
        ("after: 10m", "after: 31d", "route.steps[1].after", "longer than 30d"),
        ("if_still: active", "if_still: actve", "route.steps[1].if_still", "'unacknowledged' or 'active'"),
        ("wait: 30s", "wait: 2h", "route.group.wait", "longer than 1h"),
        ("by: [cause, road]", "by: [cause, all]", "route.group.by", "`all` groups whatever comes"),
        ("every: 30m, times: 4", "every: 30s, times: 4", "route.repeat.every", "between 1m and 7d"),
        ("go_on: true", 'quiet: {from: "22:00", until: "07:00"}', "route.routes[1].quiet", "level I come here"),
        ("route: night-floods", "rotue: night-floods", "route.routes[1].rotue", "did you mean `route`"),
        ("- route: night-floods", "- cleared: true", "route.routes[1]", "`route` is missing"),
        ("route: storms", "route: lamps", "route.routes[2].route", "the route lamps stands already in line 39"),
        ("route: storms", "route: Storms!", "route.routes[2].route", "should match pattern"),
        ("level: II, rule", "level: 2, rule", "route.routes[0].routes[0].match.level", "not a level"),
        ("level: II, rule", "kind: pump, rule", "route.routes[0].routes[0].match.kind", "above it only kind lamp"),
        (
            "level: II, rule",
            "simulated: true, rule",
            "route.routes[0].routes[0].match.simulated",
            "a tree of their own",
        ),
        ("limits:", "limit:", "limit", "did you mean `limits`"),
    ],
)
def test_a_mistake_is_told_with_its_line_its_key_and_what_was_meant(old: str, new: str, key: str, said: str) -> None:
    line = FILE[: FILE.index(old)].count("\n") + 1
    found = mistakes(FILE.replace(old, new, 1))
    mistake = next((one for one in found if said in one.message), None)
    assert mistake is not None, [str(one) for one in found]
    assert (mistake.file, mistake.line, mistake.key) == ("routes.yaml", line, key)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("    fallback: [wang]\n", "", 14, "`fallback` is missing"),
        ("people: [zhang, [li, wang]]", "people: [[zhang, li]]", 22, "needs two turns"),
        ("route: night-floods", "go_on: true", 53, "this key stands here twice"),
    ],
)
def test_a_mistake_is_told_where_something_should_be(old: str, new: str, line: int, said: str) -> None:
    assert any(one.line == line and said in one.message for one in mistakes(FILE.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("why", "first", "second", "reached"),
    [
        ("nothing is asked for", "", "kind: lamp", False),
        ("the same", "kind: lamp", "kind: lamp", False),
        ("more kinds than the second asks for", "kind: [lamp, pump]", "kind: lamp", False),
        ("fewer kinds", "kind: lamp", "kind: [lamp, pump]", True),
        ("milder ones too", "level: III", "level: II", False),
        ("only worse ones", "level: II", "level: III", True),
        ("a pattern that takes the rule", "rule: lamp-*", "rule: lamp-out", False),
        ("a pattern that takes one of two", "rule: lamp-*", "rule: [lamp-out, circuit-lost]", True),
        ("two patterns are compared as they are written", "rule: lamp-*", "rule: lamp-out-*", True),
        ("all the addressees", "notify: [pump-crew, drainage]", "notify: drainage", False),
        ("one of the addressees", "notify: drainage", "notify: [pump-crew, drainage]", True),
        ("attributes it does not ask for", "attributes: {a: 1}", "attributes: {a: 1, b: 2}", False),
        ("other attributes", "attributes: {a: 1}", "attributes: {a: 2}", True),
        ("only at night", "during: {sun: down}", "kind: lamp", True),
        ("the same night", "during: {sun: down}", "during: {sun: down}, kind: lamp", False),
        ("not at night", "unless: {sun: down}", "kind: lamp", True),
        ("one of its roads", "road: [a, b]", "road: b", False),
        ("another town", "town: a", "town: b", True),
        ("other assets", "asset: P-*", "asset: P-1", False),
    ],
)
def test_a_route_behind_one_that_takes_all_of_it_can_never_be_reached(
    why: str, first: str, second: str, reached: bool
) -> None:
    text = f"""\
people: [{{person: li, channels: [{{receiver: sms}}]}}]
route:
  routes:
    - {{route: first, match: {{{first}}}, steps: [{{tell: person:li}}]}}
    - {{route: second, match: {{{second}}}, steps: [{{tell: person:li}}]}}
"""
    if reached:
        load(text)
        return
    mistake = only(text)
    assert (mistake.line, mistake.key) == (5, "route.routes[1]"), why
    assert "can never be reached: first in line 4 takes all of it" in mistake.message
    load(text.replace("route: first,", "route: first, go_on: true,"))


def test_what_a_parent_narrows_is_part_of_what_its_children_ask_for() -> None:
    text = """\
people: [{person: li, channels: [{receiver: sms}]}]
route:
  match: {level: II}
  steps: [{tell: person:li}]
  routes:
    - {route: first, match: {level: II, kind: [lamp, pump]}}
    - {route: second, match: {kind: lamp}}
"""
    assert "can never be reached" in only(text).message


def test_quiet_hours_that_level_i_has_from_its_parent_are_no_mistake() -> None:
    route = find(load(FILE), "night-floods")
    assert route.match.level is Level.I
    assert route.quiet is not None


def test_one_run_tells_every_mistake_of_every_part() -> None:
    text = (
        FILE.replace("receiver: duty-desk", "receiver: dutty-desk")
        .replace("members: [person:wang, team:lighting]", "members: [person:wnag]")
        .replace("since: 2026-01-05", "since: soon")
        .replace("within: 5m", "within: soon")
        .replace("kind: lamp", "kind: lmap")
        .replace("route: storms", "route: storms\n      colour: red")
    )
    found = mistakes(text)
    assert [one.line for one in sorted(found, key=lambda one: one.line or 0)] == [7, 12, 22, 26, 41, 55]
    assert len({one.key for one in found}) == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be a mapping"),
        ("people: zhang", "valid list"),
        ("route: [a]", "must be a mapping"),
        ("people: [zhang]", "must be a mapping: person, name, language, user"),
        ("route: {routes: [[]]}", "must be a mapping"),
        ("route: {match: lamp}", "must be a mapping"),
        ("route: {steps: [now]}", "must be a mapping"),
        ("rotas: [{rota: night, shifts: [now], fallback: li}]", "must be a mapping"),
        ("calendar: {country: cn}", "should match pattern"),
        ("a: *b", "not valid YAML"),
    ],
)
def test_what_has_the_wrong_shape_is_a_mistake_and_no_crash(text: str, said: str) -> None:
    assert any(said in one.message for one in mistakes(text))


def test_nobody_is_stood_in_for_by_two_at_a_time() -> None:
    swap = "{from: 2026-01-07 07:00, until: 2026-01-07 09:00, instead_of: zhang, person: li}"
    twice = FILE.replace("why: 探亲}", f"why: 探亲}}\n      - {swap}")
    assert "wang stands in for zhang at that time already" in only(twice).message
    load(twice.replace("2026-01-07 07:00", "2026-01-07 08:00"))


def test_only_who_is_in_the_rota_can_be_stood_in_for() -> None:
    text = FILE.replace("people: [zhang, [li, wang]]", "people: [zhang, li]")
    assert "wang is in no shift of this rota" in only(text.replace("instead_of: zhang", "instead_of: wang")).message


def test_a_mistake_of_a_rota_hides_none_of_its_shifts() -> None:
    text = FILE.replace("    fallback: [wang]\n", "").replace("people: [zhang]}", "people: [zhagn]}")
    assert [one.key for one in mistakes(text)] == ["rotas[0]", "rotas[0].shifts[0].people[0]"]


def test_a_team_of_teams_of_teams_is_bounded() -> None:
    people = ", ".join(f"{{person: p{n}, channels: [{{receiver: sms}}]}}" for n in range(100))
    lines = [f"people: [{people}]", "teams:"]
    lines.append("  - {team: t0, members: [" + ", ".join(f"person:p{n}" for n in range(100)) + "]}")
    for number in range(1, 60):
        lines.append(f"  - {{team: t{number}, members: [team:t{number - 1}, team:s{number - 1}]}}")
    for number in range(60):
        lines.append(f"  - {{team: s{number}, members: [team:t{number}]}}")
    assert any("more than 5000 people" in one.message for one in mistakes("\n".join(lines)))


def test_a_tree_too_deep_to_follow_is_refused() -> None:
    text, margin = "route:\n", "  "
    for number in range(12):
        text += f"{margin}routes:\n{margin}  - route: r{number}\n"
        margin += "    "
    assert any("deeper than 10" in one.message for one in mistakes(text))


def test_a_receiver_that_is_gone_does_not_keep_an_old_bundle_from_being_replayed() -> None:
    with pytest.raises(ConfigError, match="no receiver mail"):
        load_routes(texts(FILE), RULES, ["sms", "duty-desk"])
    assert load_routes(texts(FILE), RULES, None).people["zhang"].channels[1].receiver == "mail"


# -- with the rest of the configuration ---------------------------------------------------------------------------


def site(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "routes.yaml").write_text(text, encoding="utf-8")
    hooks = ", ".join(f'{{name: {name}, url: "https://desk.example.gov.cn/hook"}}' for name in RECEIVERS)
    return parse_settings(f"routes: routes.yaml\nreceivers: [{hooks}]\n", "citywatch.yaml", tmp_path, {})


def test_routes_are_part_of_the_configuration_and_of_its_hash(tmp_path: Path) -> None:
    bundle, configuration = load_configuration(site(tmp_path, FILE))
    assert set(configuration.routing.people) == {"zhang", "li", "wang"}
    assert bundle.routes["routes.yaml"] == FILE
    again = Bundle.from_json(bundle.to_json())
    assert again.hash == bundle.hash
    assert compile_bundle(again).routing == configuration.routing, "a replay asks nobody else"
    assert load_configuration(site(tmp_path, FILE + "# \n"))[0].hash != bundle.hash


def test_zone_and_place_of_the_site_travel_with_the_bundle(tmp_path: Path) -> None:
    settings = site(tmp_path, FILE).model_copy(update={"site": SiteSettings(timezone="Asia/Urumqi", latitude=43.8)})
    bundle, _ = load_configuration(settings)
    replayed = compile_bundle(Bundle.from_json(bundle.to_json())).routing
    assert replayed.calendar.timezone == "Asia/Urumqi"
    during = find(replayed, "night-floods").match.during
    assert during is not None
    assert (during.zone, during.place.latitude) == ("Asia/Urumqi", 43.8)


def test_without_routes_there_is_still_the_calendar_of_the_country() -> None:
    routing = compile_bundle(read_bundle(Settings())).routing
    assert routing.people == {}
    assert not routing.calendar.is_workday(date(2026, 10, 1))


def test_a_bundle_from_before_there_were_routes_keeps_its_hash_and_tells_nobody() -> None:
    old = Bundle({}, {})
    assert json.loads(old.to_json()) == {"profiles": {}, "rules": {}}
    assert compile_bundle(old).routing == Routing()


def test_mistakes_of_routes_are_told_with_those_of_rules_and_the_path_of_the_file(tmp_path: Path) -> None:
    settings = site(tmp_path, FILE.replace("receiver: sms", "receiver: smms"))
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "ours.yaml").write_text("- rule: x\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_configuration(settings.model_copy(update={"rules": (rules,)}))
    files = {mistake.file for mistake in caught.value.mistakes}
    assert files == {str(rules / "ours.yaml"), str(tmp_path / "routes.yaml")}


def test_check_counts_routes_and_people_and_tells_their_mistakes(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(FILE, encoding="utf-8")
    hooks = ", ".join(f'{{name: {name}, url: "https://desk.example.gov.cn/hook"}}' for name in RECEIVERS)
    config = tmp_path / "citywatch.yaml"
    config.write_text(f"data: data\nroutes: routes.yaml\nreceivers: [{hooks}]\n", encoding="utf-8")
    report = check_everything(config)
    assert report.ok, report.lines()
    assert (report.counts["routes"], report.counts["people"]) == (5, 3)
    config.write_text("data: data\nroutes: routes.yaml\n", encoding="utf-8")
    assert all("the settings have no receiver" in one.message for one in check_everything(config).mistakes)
    config.write_text("data: data\nroutes: roots.yaml\n", encoding="utf-8")
    (missing,) = check_everything(config).mistakes
    assert "cannot be read" in missing.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: routes.yml", "name it .yaml"),
        ("site: {timezone: Asia/Peking}", "no such time zone: 'Asia/Peking'"),
        ("site: {timezone: ../etc}", "no such time zone"),
    ],
)
def test_the_settings_name_a_yaml_file_and_a_zone_that_exists(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_settings(text, "citywatch.yaml", tmp_path, {})


# -- the country's days -------------------------------------------------------------------------------------------


def test_the_library_knows_the_holidays_and_the_days_worked_for_them() -> None:
    days = country_days("CN", 2036)
    assert days is not None
    assert {date(2026, 2, 14), date(2026, 2, 28)} <= set(days.workdays)
    assert {date(2026, 2, 17), date(2026, 10, 1)} <= set(days.holidays)
    assert not set(days.workdays) & set(days.holidays)
    assert days.weekend == (5, 6)
    years = {day.year for day in (*days.holidays, *days.workdays)}
    assert (min(years), max(years)) == (FIRST_YEAR, 2036)


def test_a_country_that_nobody_knows_is_a_mistake_at_its_line() -> None:
    given = {"routes.yaml": "calendar:\n  country: QQ\n", SITE: site_text(SiteSettings(), "QQ")}
    with pytest.raises(ConfigError) as caught:
        load_routes(given)
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.key) == (2, "calendar.country")


def test_a_rota_is_made_with_the_calendar_of_the_site() -> None:
    routing = load(FILE)
    assert isinstance(routing.rotas["night"], Rota)
    assert routing.rotas["night"].calendar == routing.calendar
    assert routing.rotas["night"].on_duty(at("2026-10-01T12:00")).shift == "day", "the site works on that day"


# -- whatever stands there ----------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**12),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.sampled_from(
        ["none", "all", "person:zhang", "rota:", ":", "I", "24:00", "2026-02-30", "1w", "-1s", "*", "[", ""]
    ),
    st.lists(st.sampled_from(["zhang", "rota:night", "mon", 7, None]), max_size=3),
    st.dictionaries(st.sampled_from(["from", "until", "match", "routes", "people", "x"]), st.integers(), max_size=2),
)


def places(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


WRITTEN = read_yaml(FILE, "routes.yaml").data


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(places(WRITTEN))[1:]), JUNK)
def test_anything_in_any_place_is_either_right_or_a_mistake_in_the_file(path: tuple[str | int, ...], junk: Any) -> None:
    data = deepcopy(WRITTEN)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    found: list[Mistake] = []
    try:
        load(plain_yaml(data))
    except ConfigError as error:
        found = error.mistakes or [Mistake("none", None, "", "an error without a mistake")]
    assert {mistake.file for mistake in found} <= {"routes.yaml"}
