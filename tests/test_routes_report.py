"""``citywatch routes``: whom an alarm would be told to and why, and who is on duty; nothing is sent."""

from __future__ import annotations

import asyncio
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from rich.console import Console

from gateway import routes_report, routes_words
from gateway.cli import main
from gateway.config.bundle import load_configuration
from gateway.config.settings import parse_settings
from gateway.core.assets_json import to_json
from gateway.core.model import Asset, AssetsChanged, Level
from gateway.core.processor import Configuration
from gateway.core.routing import Match, Route
from gateway.core.rule import Rule, steps
from gateway.errors import ConfigError
from gateway.store.store import Store

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "deploy" / "routes.yaml"
EXAMPLE_RECEIVERS = ("sms", "voice", "mail", "desk")  # named at its head

ROUTES = """\
people:
  - {person: zhang, name: {zh: 张伟, en: Zhang Wei}, channels: [{receiver: sms, to: "1390001"}, {receiver: desk}]}
  - {person: li, name: {zh: 李娜, en: Li Na}, language: en, channels: [{receiver: sms, to: "1390002"}]}
  - {person: wang, name: {zh: 王强, en: Wang Qiang}, channels: [{receiver: desk}]}
teams:
  - {team: lighting, name: {zh: 路灯班, en: Lighting crew}, members: [rota:night]}
rotas:
  - rota: night
    name: {zh: 夜班, en: Night desk}
    shifts: [{shift: 大夜, from: "18:00", until: "08:00", people: [zhang, li], rotate: {every: 1d, since: 2026-01-05}}]
    swaps: [{from: 2026-01-06 18:00, until: 2026-01-07 08:00, instead_of: li, person: wang, why: 探亲}]
    fallback: [wang]
route:
  group: {by: [cause], wait: 30s}
  repeat: {every: 30m, times: 2}
  steps: [{tell: team:lighting}, {after: 10m, tell: person:wang}]
  routes:
    - route: floods
      title: {zh: 防汛, en: Floods}
      match: {kind: road}
      steps: [{tell: person:wang}]
    - route: quiet-lamps
      match: {level: III, kind: lamp, road: 青年路}
    - route: lamps
      match: {kind: lamp}
      quiet: {from: "22:00", until: "07:00"}
      dispatch: lighting
      repeat: none
    - {route: nobody, match: {kind: manhole}, steps: []}
"""

ASSETS = """\
assets:
  - {asset: L-1, kind: lamp, name: 1号灯, road: 水泊大街, attributes: {rated_power: 100 W}}
  - {asset: R-1, kind: road, road: 公明大道}
  - {asset: M-1, kind: manhole}
  - {asset: S-1, kind: road, simulated: true}
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Answer]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """``citywatch routes …`` on a site with these routes and assets."""
    (tmp_path / "routes.yaml").write_text(ROUTES, encoding="utf-8")
    (tmp_path / "assets.yaml").write_text(ASSETS, encoding="utf-8")
    hooks = ", ".join(f'{{name: {name}, url: "https://desk.example.gov.cn/hook"}}' for name in ("sms", "desk"))
    config = tmp_path / "citywatch.yaml"
    config.write_text(
        f"data: data\nroutes: routes.yaml\nassets: [assets.yaml]\nreceivers: [{hooks}]\n", encoding="utf-8"
    )

    def call(*words: str) -> Answer:
        capsys.readouterr()
        try:
            main(["routes", *words, "--config", str(config)])
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        assert isinstance(code, int)
        return Answer(code, said.out, said.err)

    yield call
    structlog.reset_defaults()


def lines(answer: Any) -> list[tuple[float, str, str]]:
    """After how many seconds, what, to whom."""
    return [
        (one["after_s"], one["kind"], one["person"]["person"] if "person" in one else one["to"])
        for one in answer["timeline"]
    ]


# -- what would happen --------------------------------------------------------------------------------------------


def test_a_flood_is_told_in_half_a_minute_repeated_twice_and_then_overdue(cli: Cli) -> None:
    answer = cli("test", "R-1/road-depth", "--level", "II", "--at", "2026-01-05T12:00", "--json")
    assert answer.code == 0
    assert lines(answer.json) == [
        (30, "raised", "wang"),
        (720, "due", "wang"),  # four fifths of 15 minutes to respond
        (900, "overdue", "wang"),
        (1830, "reminder", "wang"),
        (3630, "reminder", "wang"),
        (11520, "due", "wang"),
        (14400, "overdue", "wang"),
    ]
    assert [(one["what"], one["due_at"]) for one in answer.json["timeline"] if one["what"]] == [
        ("respond", "2026-01-05T12:15:00+08:00"),
        ("respond", "2026-01-05T12:15:00+08:00"),
        ("resolve", "2026-01-05T16:00:00+08:00"),
        ("resolve", "2026-01-05T16:00:00+08:00"),
    ]


def test_the_worst_level_the_rule_has_is_taken_and_waits_for_nothing(cli: Cli) -> None:
    answer = cli("test", "R-1/road-depth", "--at", "2026-01-05T12:00", "--json").json
    (alarm,) = answer["alarms"]
    assert (alarm["level"], alarm["levels"]) == ("I", ["I", "II", "IV"])
    assert lines(answer)[0] == (0, "raised", "wang")


def test_quiet_hours_put_the_message_off_to_the_morning(cli: Cli) -> None:
    answer = cli("test", "L-1/lamp-out", "--at", "2026-01-05T23:00", "--json").json
    (route,) = answer["alarms"][0]["chosen"]
    assert route["quiet"] == {"hours": "22:00–07:00", "on": True, "until": "2026-01-06T07:00:00+08:00"}
    assert lines(answer)[:3] == [
        (8 * 3600, "dispatch", "lighting"),
        (8 * 3600, "digest", "zhang"),
        (8 * 3600 + 600, "escalated", "wang"),
    ]


def test_an_alarm_raised_just_before_quiet_hours_whose_group_waits_into_them_is_put_off(cli: Cli) -> None:
    answer = cli("test", "L-1/lamp-out", "--at", "2026-01-05T21:59:45", "--json").json
    (route,) = answer["alarms"][0]["chosen"]
    assert route["quiet"]["until"] == answer["timeline"][0]["at"] == "2026-01-06T07:00:00+08:00"
    before = cli("test", "L-1/lamp-out", "--at", "2026-01-05T21:59", "--json").json
    assert before["alarms"][0]["chosen"][0]["quiet"] == {"hours": "22:00–07:00", "on": False, "until": None}
    assert before["timeline"][0]["after_s"] == 30


@pytest.mark.parametrize(
    ("moment", "person", "why"),
    [
        ("2026-01-05T19:00", "zhang", "shift"),
        ("2026-01-06T19:00", "wang", "swap"),
        ("2026-01-06T12:00", "wang", "fallback"),
    ],
)
def test_the_way_to_each_person_is_told_with_their_duty(cli: Cli, moment: str, person: str, why: str) -> None:
    answer = cli("test", "L-1/lamp-out", "--at", moment, "--json").json
    told = next(one for one in answer["timeline"] if one["kind"] == "raised")
    (way,) = told["because"]
    assert told["person"]["person"] == person
    assert way["by"] == ["team:lighting", "rota:night"]
    assert (way["titles"][0]["zh"], way["duty"]["why"]) == ("路灯班", why)


def test_channels_are_told_in_the_order_in_which_they_are_tried(cli: Cli) -> None:
    answer = cli("test", "L-1/lamp-out", "--at", "2026-01-05T19:00", "--json").json
    told = next(one for one in answer["timeline"] if one["kind"] == "raised")
    assert told["channels"] == [{"receiver": "sms", "to": "1390001"}, {"receiver": "desk", "to": ""}]


def test_every_route_that_was_passed_by_says_which_field_did_not_match(cli: Cli) -> None:
    answer = cli("test", "L-1/lamp-out", "--at", "2026-01-05T19:00", "--json").json
    (alarm,) = answer["alarms"]
    assert [(one["route"], one["misses"], one["found"], one["wanted"]) for one in alarm["looked_at"]] == [
        ("root", None, None, None),
        ("floods", "kind", "lamp", "road"),
        ("quiet-lamps", "level", "IV", "III or worse"),
        ("lamps", None, None, None),
    ]
    assert [one["route"] for one in alarm["chosen"]] == ["lamps"]
    road = cli("test", "L-1/lamp-out", "--level", "III", "--at", "2026-01-05T19:00", "--json").json
    assert ("quiet-lamps", "road", "水泊大街", "青年路") in [
        (one["route"], one["misses"], one["found"], one["wanted"]) for one in road["alarms"][0]["looked_at"]
    ]


def test_times_of_a_rule_that_counts_working_hours_go_over_the_weekend(cli: Cli) -> None:
    """lamp-out: 24 working hours, which are three days; Friday to Wednesday."""
    answer = cli("test", "L-1/lamp-out", "--at", "2026-01-09T19:00", "--json").json
    sla = answer["alarms"][0]["sla"]
    assert sla["clock"] == "working_hours"
    (resolve,) = sla["times"]
    assert resolve["over_at"] == "2026-01-14T18:00:00+08:00"
    assert resolve["warn_at"] == "2026-01-14T11:12:00+08:00"  # 19 h 12 min of work


def test_several_alarms_at_once_are_grouped_as_they_would_be(cli: Cli, tmp_path: Path) -> None:
    words = ("test", "R-1/road-depth", "R-2/road-depth", "--level", "II", "--at", "2026-01-05T12:00", "--json")
    (tmp_path / "assets.yaml").write_text(ASSETS + "  - {asset: R-2, kind: road, road: 公明大道}\n", encoding="utf-8")
    apart = cli(*words).json
    assert [one["count"] for one in apart["timeline"] if one["kind"] == "raised"] == [1, 1]
    (tmp_path / "routes.yaml").write_text(ROUTES.replace("by: [cause]", "by: [road]"), encoding="utf-8")
    together = cli(*words).json
    (told,) = [one for one in together["timeline"] if one["kind"] == "raised"]
    assert (told["count"], told["alarms"]) == (2, ["R-1/road-depth", "R-2/road-depth"])


def test_an_alarm_that_nobody_is_told_of_is_the_answer_no(cli: Cli) -> None:
    answer = cli("test", "M-1/manhole-open", "--at", "2026-01-05T12:00", "--json")
    assert (answer.code, answer.json["told"], answer.json["timeline"]) == (1, False, [])


def test_simulated_assets_reach_no_crew(cli: Cli) -> None:
    answer = cli("test", "S-1/road-depth", "--at", "2026-01-05T12:00", "--json")
    assert answer.code == 1
    (root,) = answer.json["alarms"][0]["looked_at"]
    assert (root["misses"], root["found"], root["wanted"]) == ("simulated", "true", "false")


@pytest.mark.parametrize(("rule", "said"), [("storm-mode", "names no response"), ("pipe-silted", "switched off")])
def test_a_rule_that_tells_nobody_says_so(rule: str, said: str, tmp_path: Path) -> None:
    configuration = example()
    kind = configuration.rules.rules[rule].kinds[0]
    answer = routes_report.explained([f"A-1/{rule}"], configuration, {"A-1": Asset("A-1", kind)}, NOON, None)
    assert not answer["told"]
    assert said in answer["alarms"][0]["silent_because"][1]


def test_assets_of_the_data_folder_are_known_too(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "assets.yaml").write_text("assets: []\n", encoding="utf-8")
    assert cli("test", "R-1/road-depth").code == 2
    (tmp_path / "data").mkdir()
    asyncio.run(store_with(tmp_path / "data", Asset("R-1", "road")))
    assert cli("test", "R-1/road-depth", "--json").json["told"]


async def store_with(data: Path, asset: Asset) -> None:
    store = await Store.open(data)
    try:
        await store.commit(1, [AssetsChanged(NOON, to_json([asset], []))])
    finally:
        await store.close()


# -- wrong questions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("L-1",), "L-1: an alarm is asset/rule"),
        (("L-11/lamp-out",), "there is no asset L-11: did you mean `L-1`?"),
        (("L-1/lamp-otu",), "there is no rule lamp-otu: did you mean `lamp-out`?"),
        (("L-1/road-depth",), "L-1 is a lamp; the rule is for road"),
        (("L-1/lamp-out", "--at", "tomorrow"), "--at: not a moment: 'tomorrow'"),
    ],
)
def test_a_wrong_question_is_one_line_and_exit_code_2(cli: Cli, words: tuple[str, ...], said: str) -> None:
    answer = cli("test", *words)
    (line,) = answer.err.strip().splitlines()
    assert answer.code == 2
    assert said in line


def test_settings_without_routes_are_told_where_to_begin(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "citywatch.yaml").write_text("data: data\n", encoding="utf-8")
    for command in (("duty",), ("test", "L-1/lamp-out")):
        answer = cli(*command)
        assert (answer.code, "deploy/routes.yaml" in answer.err) == (2, True)


def test_mistakes_in_the_routes_are_told_before_anything_else(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES.replace("rota:night", "rota:knight"), encoding="utf-8")
    answer = cli("duty")
    assert answer.code == 2
    assert answer.err.startswith(str(tmp_path / "routes.yaml:6: "))


# -- duty ---------------------------------------------------------------------------------------------------------


def test_who_is_on_duty_until_when_and_who_is_next(cli: Cli) -> None:
    answer = cli("duty", "--at", "2026-01-06T20:00", "--json")
    (rota,) = answer.json["rotas"]
    assert (rota["title"]["zh"], [one["name"] for one in rota["people"]]) == ("夜班", ["王强"])
    assert (rota["why"], rota["shift"], rota["swaps"][0]["why"]) == ("swap", "大夜", "探亲")
    assert rota["until"] == "2026-01-07T08:00:00+08:00"
    assert (rota["next"]["why"], answer.code) == ("fallback", 0)


# -- for people ---------------------------------------------------------------------------------------------------


def test_people_read_it_in_chinese_and_english(cli: Cli) -> None:
    said = cli("test", "L-1/lamp-out", "--at", "2026-01-06T19:00").out
    for words in (
        "Ⅳ 蓝 blue", "路灯不亮 Lamp out", "1号灯", "✗ floods  防汛 Floods", "类型 kind: lamp ≠ road", "✓ lamps",
        "处置时限 time to resolve  24h → 01-09 Fri 18:00", "自动派单 work given", "路灯班 Lighting crew",
        "王强 Wang Qiang", "夜班 Night desk › 大夜 替班 standing in", "代 for 李娜 Li Na：探亲",
        "处置已超时 resolve overdue",
    ):  # fmt: skip
        assert words in said, words


def test_people_see_that_nobody_would_be_told(cli: Cli) -> None:
    assert "没有人会收到通知 Nobody would be told" in cli("test", "M-1/manhole-open").out


def test_reminders_to_the_same_people_are_one_line(cli: Cli) -> None:
    said = cli("test", "R-1/road-depth", "--level", "II", "--at", "2026-01-05T12:00").out
    (line,) = [line for line in said.splitlines() if "reminded" in line]
    assert "+30m30s" in line
    assert "再次提醒 reminded ×2 → 13:00" in line


def test_duty_is_read_in_chinese_and_english(cli: Cli) -> None:
    said = cli("duty", "--at", "2026-01-05T20:00").out
    assert "夜班 Night desk" in said
    assert "张伟 Zhang Wei" in said
    assert "01-06 Tue 08:00 → 王强 Wang Qiang" in said


# -- the example that is shipped ----------------------------------------------------------------------------------

NOON = routes_report.moment_of("2026-01-05T12:00", "Asia/Shanghai")


def configured(routes: Path, receivers: Sequence[str]) -> Configuration:
    """These routes with the shipped rules, and webhooks of these names."""
    hooks = ", ".join(f'{{name: {name}, url: "https://desk.example.gov.cn/hook"}}' for name in receivers)
    text = f"routes: {routes.name}\nreceivers: [{hooks}]\n"
    return load_configuration(parse_settings(text, "citywatch.yaml", routes.parent, {}))[1]


def example() -> Configuration:
    return configured(EXAMPLE, EXAMPLE_RECEIVERS)


def levels(rule: Rule) -> set[Level]:
    return {step.level or rule.level for step in steps(rule.when)}


def test_the_example_is_right_and_its_head_names_its_receivers() -> None:
    assert len(example().routing.people) > 10
    head = EXAMPLE.read_text(encoding="utf-8").split("\n\n")[0]
    assert f"({', '.join(EXAMPLE_RECEIVERS)})" in head


def test_the_example_tells_somebody_of_every_shipped_rule_at_each_of_its_levels() -> None:
    configuration = example()
    routing, untold = configuration.routing, []
    for rule in configuration.rules:
        if not rule.annunciates:
            continue
        for level in levels(rule):
            asset = Asset("A-1", rule.kinds[0])
            record = routes_report._raised(f"A-1/{rule.id}", configuration.rules, {"A-1": asset}, NOON, level).record
            names = [route.name for route in routing.of(record, asset, rule, NOON)]
            if not names or names == ["root"]:
                untold.append(f"{rule.id} {level.name}")
    assert not untold


def test_the_example_routes_every_addressee_that_a_shipped_rule_names() -> None:
    configuration = example()
    named = {name for rule in configuration.rules for name in rule.notify}
    routed = {name for route in configuration.routing.root.all_routes for name in route.match.addressees}
    assert named - routed == {"duty-desk"}, "which hears of levels I and II by a route of its own"


def test_in_the_example_level_i_reaches_the_duty_chief_at_any_hour() -> None:
    routing = example().routing
    (now,) = [route for route in routing.root.all_routes if route.match == Match(level=Level.I)]
    assert isinstance(now, Route)
    for hour in range(24):
        moment = NOON + hour * 3_600_000_000
        people = routing.people_of(now.steps[0].tell, moment)
        assert set(people) & set(routing.rotas["chief"].on_duty(moment).people), hour


def test_in_the_example_nobody_is_woken_for_a_lamp() -> None:
    configuration = example()
    lamp = Asset("L-1", "lamp", road="水泊大街")
    night = routes_report.moment_of("2026-01-05T23:30", "Asia/Shanghai")
    answer = routes_report.explained(["L-1/lamp-out"], configuration, {"L-1": lamp}, night, None)
    assert min(one["after_s"] for one in answer["timeline"]) == 8 * 3600


def test_the_screen_of_the_example_is_drawn_on_a_narrow_terminal_too() -> None:
    configuration = example()
    assets = {"R-1": Asset("R-1", "road", road="公明大道"), "L-1": Asset("L-1", "lamp", road="公明大道")}
    answer = routes_report.explained(["R-1/road-depth", "L-1/lamp-out"], configuration, assets, NOON, None)
    out = io.StringIO()
    routes_words.show_test(answer, Console(file=out, width=80, force_terminal=True, highlight=False))
    assert "钱海燕" in out.getvalue()


def test_a_moment_without_a_zone_is_the_sites() -> None:
    assert routes_report.moment_of("2026-01-05T12:00", "Europe/Berlin") - NOON == 7 * 3_600_000_000
    assert routes_report.moment_of("2026-01-05T12:00+08:00", "Europe/Berlin") == NOON
    with pytest.raises(ConfigError, match="not a moment"):
        routes_report.moment_of("noon", "Asia/Shanghai")


def test_the_smallest_file_of_the_manual_tells_somebody(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "routes.md").read_text(encoding="utf-8"), re.DOTALL)
    smallest = next(block for block in blocks if "people:" in block and "route:" in block)
    (tmp_path / "routes.yaml").write_text(smallest, encoding="utf-8")
    configuration = configured(tmp_path / "routes.yaml", ["duty-desk"])
    road = Asset("R-1", "road")
    assert routes_report.explained(["R-1/road-depth"], configuration, {"R-1": road}, NOON, None)["told"]


def test_the_parts_of_the_manual_are_right(tmp_path: Path) -> None:
    """Each block that is a part of a file, with the people it names."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "routes.md").read_text(encoding="utf-8"), re.DOTALL)
    names = ("zhang", "li", "wang", "zhao", "feng")
    people = "".join(f"  - {{person: {name}, channels: [{{receiver: duty-desk}}]}}\n" for name in names)
    parts = [block for block in blocks if block.startswith(("rotas:", "calendar:"))]
    steps_ = next(block for block in blocks if block.startswith("steps:"))
    chief = '  - {rota: chief, shifts: [{shift: a, from: "08:00", until: "08:00", people: [zhao]}], fallback: [zhao]}\n'
    text = f"people:\n{people}teams: [{{team: lighting, members: [person:li]}}]\n" + "".join(parts)
    text = text.replace("rotas:\n", "rotas:\n" + chief) + "route:\n" + textwrap.indent(steps_, "  ")
    (tmp_path / "routes.yaml").write_text(text, encoding="utf-8")
    routing = configured(tmp_path / "routes.yaml", ["duty-desk"]).routing
    assert len(parts) == 2
    assert len(routing.root.steps) == 3
