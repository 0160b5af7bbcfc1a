"""Rules over HTTP: looking, checking, telling stories, changing, undoing; the real rulebook on real files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.config.bundle import read_rules
from gateway.config.rule_text import rule_texts
from gateway.config.rules import load_rules
from gateway.config.settings import Settings
from gateway.core.assets_json import to_json
from gateway.core.model import HOUR, Asset, AssetsChanged
from gateway.core.records import Role, Scope
from gateway.errors import ConfigError
from tests.console.city import START, Running, record, running, step

NEW = """\
# Ours.
- rule: lamp-hot
  title: {zh: 灯具过热, en: Lamp too hot}
  applies_to: {kind: lamp}
  when: {point: temp, above: 90 °C, deadband: 5 °C}
  response: {zh: 检查灯具, en: Check the lamp}
"""
HOT = NEW.replace("90 °C", "80 °C")


class Desk:
    """An engineer at work, on files of their own."""

    def __init__(self, console: Running, client: httpx.AsyncClient, data: Path) -> None:
        self.console = console
        self.client = client
        self.folder = data / "rules" / "console"

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def rule(self, name: str) -> dict[str, Any]:
        return dict(await self.get(f"rules/{name}"))

    async def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        return await self.client.request(method, f"/api/v1/{path}", json=body or None)

    async def done(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.ask(method, path, **body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def refused(self, code: str, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.ask(method, path, **body)
        assert answer.json()["code"] == code, answer.text
        return dict(answer.json())

    def files(self) -> dict[str, str]:
        if not self.folder.is_dir():
            return {}
        return {path.stem: path.read_text(encoding="utf-8") for path in self.folder.iterdir()}

    async def changes(self, rule: str) -> list[dict[str, Any]]:
        return list((await self.get(f"rules/{rule}/changes"))["items"])

    async def audit(self) -> list[tuple[str, str, str, str | None]]:
        page = await self.console.gateway.store.audit(100)
        return [(line.action, line.subject, line.outcome, line.why) for line in reversed(page.items)]


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with running(tmp_path) as console, console.client(Role.ENGINEER) as client:
        client.timeout = httpx.Timeout(60)
        yield Desk(console, client, tmp_path)


# -- looking ----------------------------------------------------------------------------------------------------------


async def test_the_list_has_every_rule_in_words_with_what_stands_of_it(desk: Desk) -> None:
    await desk.console.gateway.commit(step(record()), step(record("lamp-2", rev=3), cause="T7"))
    before = await desk.get("rules", q="路灯不亮")
    found = next(item for item in before["items"] if item["rule"] == "lamp-out")
    assert found["title"] == {"zh": "路灯不亮", "en": "Lamp out"}
    assert (found["kinds"], found["levels"], found["origin"], found["file"]) == (
        ["lamp"],
        ["IV"],
        "shipped",
        "lighting.yaml",
    )
    assert found["words"]["en"][1] == "Raised when: all of these are true:"
    assert len(found["words"]["zh"]) == len(found["words"]["en"])
    assert found["standing"] == 2
    assert found["raised_24h"] == 0, "they were raised long ago"
    assert (found["changed_at"], found["changed_by"]) == (None, None)
    everything = (await desk.get("rules"))["items"]
    names = [item["rule"] for item in everything]
    assert len(names) == len(load_rules(read_rules(Settings())[0]))
    companion = everything[names.index("bridge-strain-instrument")]
    assert (companion["part_of"], companion["rev"]) == ("bridge-strain", None)
    assert {item["rule"] for item in (await desk.get("rules", kind="bridge", enabled=False))["items"]} == {
        item["rule"] for item in everything if "bridge" in item["kinds"] and not item["enabled"]
    }
    first = await desk.get("rules", limit=50)
    second = await desk.get("rules", limit=50, cursor=first["cursor"])
    assert [item["rule"] for item in (*first["items"], *second["items"])] == names
    assert second["cursor"] is None
    assert (await desk.ask("GET", "rules?cursor=nonsense")).json()["code"] == "bad_cursor"


async def test_what_was_raised_today_counts_and_only_where_one_may_look(desk: Desk) -> None:
    gateway = desk.console.gateway
    gateway.processor.registry.upsert([Asset("far", "lamp", town="别处")], [])
    await gateway.commit(AssetsChanged(START, to_json([Asset("far", "lamp", town="别处")], [])))
    now = gateway.now() - HOUR
    await gateway.commit(step(record(), at=now), step(record("far"), at=now))
    found = (await desk.get("rules", q="lamp-out"))["items"][0]
    assert (found["standing"], found["raised_24h"]) == (2, 2)
    secret = await gateway.store.create_token("there", Role.ENGINEER, START, None, Scope(towns=("别处",)))
    async with desk.console.client(None) as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        theirs = (await client.get("/api/v1/rules/lamp-out")).json()
        assert (theirs["standing"], theirs["raised_24h"]) == (1, 1)
        body = {"yaml": theirs["yaml"], "why": "w", "rev": theirs["rev"]}
        for method, path in (
            ("PUT", "rules/lamp-out"),
            ("DELETE", "rules/lamp-out?why=w"),
            ("PATCH", "rules/lamp-out"),
        ):
            answer = await client.request(method, f"/api/v1/{path}", json=body | {"enabled": False})
            assert answer.json()["code"] == "narrowed", "rules are the whole city's"


async def test_one_rule_comes_with_its_text_its_limits_and_its_stories(desk: Desk) -> None:
    found = await desk.rule("road-depth")
    filed = rule_texts(read_rules(Settings())[0]["drainage.yaml"], "")["road-depth"]
    assert found["yaml"] == found["base_yaml"] == filed.text
    assert found["rev"] == filed.rev
    assert found["data"] == filed.data
    assert found["plain"]["id"] == "road-depth"
    assert [(one["value"], one["holds"], one["level"], one["side"]) for one in found["limits"]] == [
        (5, 2, "IV", "above"),
        (15, 12, "II", "above"),
        (25, 22, "I", "above"),
    ]
    stories = {(one["file"], one["story"]) for one in found["stories"]}
    assert len(stories) >= 5
    assert all(file.endswith(".yaml") for file, _ in stories)
    assert found["history"] == 0
    assert (await desk.ask("GET", "rules/nothing")).status_code == 404


async def test_limits_on_an_asset_are_numbers(desk: Desk) -> None:
    found = await desk.get("rules/lamp-out/limits", asset="lamp-1")
    assert [(one["point"], one["value"], one["unit"], one["measure"]) for one in found] == [
        ("power", 20.0, "W", "value")
    ]
    assert await desk.get("rules/lamp-out/limits", asset="lamp-2") == [], "it has no rated power"
    assert (await desk.ask("GET", "rules/lamp-out/limits?asset=nobody")).status_code == 404
    assert (await desk.ask("GET", "rules/nothing/limits?asset=lamp-1")).status_code == 404


async def test_the_limits_of_all_rules_on_an_asset_come_with_their_rule(desk: Desk) -> None:
    found = await desk.get("assets/lamp-1/limits")
    assert ("lamp-out", "power", 20.0) in [(one["rule"], one["point"], one["value"]) for one in found]
    assert (await desk.ask("GET", "assets/nobody/limits")).status_code == 404


# -- checking and stories ---------------------------------------------------------------------------------------------

WRONG = [
    HOT.replace("deadband", "dedband"),
    HOT.replace("temp", "tepm"),
    HOT.replace("- rule: lamp-hot", "- rule: Lamp Hot"),
    HOT.replace("kind: lamp", "kind: lantern"),
    HOT + "  suppress_when: [{cause: circuit-lots}, {cause: lamp-hot}]\n",
    HOT + "  on_delay: soon\n  level: V\n",
    HOT + HOT.replace("lamp-hot", "lamp-warm"),
    HOT.replace("lamp-hot", "bridge-strain-instrument"),
    "rule: lamp-hot\n",
    "- [",
    "- rule: lamp-hot\n  when: {stands: {rule: no-such}}\n  applies_to: {kind: lamp}\n",
    "\n\n   # only words\n",
]


async def test_a_check_says_what_citywatch_check_says(desk: Desk) -> None:
    files, _ = read_rules(Settings())
    for text in WRONG:
        found = await desk.done("POST", "rules/check", yaml=text)
        name = "rule" if text == "- [" else next(iter(rule_texts(text, "")), "rule")
        with pytest.raises(ConfigError) as caught:
            load_rules(files, over={f"console/{name}.yaml": text})
        assert [(one["file"], one["line"], one["message"]) for one in found["mistakes"]] == [
            (None if one.file == f"console/{name}.yaml" else one.file, one.line, one.message)
            for one in caught.value.mistakes
        ]
        assert found["words"] is found["plain"] is None
    assert desk.files() == {}


async def test_a_good_text_is_understood_and_nothing_is_changed(desk: Desk) -> None:
    found = await desk.done("POST", "rules/check", yaml=NEW, rule="lamp-hot")
    assert found["mistakes"] == []
    assert found["plain"]["id"] == "lamp-hot"
    assert found["data"]["when"]["above"] == "90 °C"
    assert "Raised when: the lamp temperature is 90 °C or more (deadband 5 °C)" in found["words"]["en"]
    assert found["limits"][0]["value"] == 90
    other = await desk.done("POST", "rules/check", yaml=NEW, rule="lamp-out")
    assert other["mistakes"] == [{"file": None, "line": 2, "key": "rule", "message": "this must be the rule lamp-out"}]
    assert (await desk.ask("GET", "rules/lamp-hot")).status_code == 404
    assert desk.console.gateway.house.put_in_force == 0


async def test_stories_are_told_with_the_text_in_place_of_the_rule(desk: Desk) -> None:
    text = (await desk.rule("road-depth"))["yaml"]
    good = await desk.done("POST", "rules/stories", yaml=text, rule="road-depth")
    assert (good["failed"], good["mistakes"]) == (0, [])
    assert good["passed"] >= 10
    changed = await desk.done(
        "POST", "rules/stories", yaml=text.replace("limit: 15 cm", "limit: 16 cm"), rule="road-depth"
    )
    assert changed["failed"] >= 1
    assert changed["passed"] + changed["failed"] == good["passed"]
    first = changed["stories"][0]
    assert not first["passed"]
    assert first["names"]
    failure = first["failures"][0]
    assert failure["alarm"].endswith("/road-depth")
    assert failure["expected"] != failure["got"]
    assert isinstance(failure["line"], int)
    assert {step["alarm_id"].partition("/")[2] for step in first["steps"]} >= {"road-depth"}
    assert "from" in first["steps"][0]
    assert (await desk.rule("road-depth"))["origin"] == "shipped", "nothing was put in force"


async def test_a_wrong_text_is_told_no_stories_and_one_person_asks_one_at_a_time(desk: Desk) -> None:
    wrong = await desk.refused("rule_mistakes", "POST", "rules/stories", yaml=WRONG[0], rule="lamp-hot")
    assert wrong["mistakes"][0]["line"] == 5
    text = (await desk.rule("cabinet-door"))["yaml"]
    body = {"yaml": text, "rule": "cabinet-door"}
    answers = await asyncio.gather(*(desk.ask("POST", "rules/stories", **body) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
    assert (await desk.ask("POST", "rules/stories", **body)).status_code == 200, "and then again"


async def test_stories_of_a_site_are_told_too_and_a_broken_one_is_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "tests").mkdir(parents=True)
    (site / "ours.yaml").write_text(NEW, encoding="utf-8")
    (site / "tests" / "hot.yaml").write_text(STORY, encoding="utf-8")
    (site / "tests" / "broken.yaml").write_text(STORY.replace("lamp-1/lamp-hot", "lamp-9/lamp-hot"), encoding="utf-8")
    async with running(tmp_path / "data") as console, console.client(Role.ENGINEER) as client:
        console.gateway.site_rules = (site,)
        desk = Desk(console, client, tmp_path / "data")
        client.timeout = httpx.Timeout(60)
        found = await desk.rule("lamp-hot")
        assert (found["origin"], found["file"], found["stories"]) == (
            "site", "ours.yaml", [{"file": "broken.yaml", "story": "hot"}, {"file": "hot.yaml", "story": "hot"}],
        )  # fmt: skip
        told = await desk.done("POST", "rules/stories", yaml=found["yaml"], rule="lamp-hot")
        assert [(one["story"], one["passed"], one["names"]) for one in told["stories"]][:1] == [("hot", True, True)]
        assert "broken.yaml" in told["mistakes"][0]
        assert "lamp-9" in told["mistakes"][0]
        told = await desk.done("POST", "rules/stories", yaml=found["yaml"].replace("90 °C", "95 °C"), rule="lamp-hot")
        assert [(one["story"], one["passed"]) for one in told["stories"]][:1] == [("hot", False)]


STORY = """\
rules: ../ours.yaml
assets: {lamp-1: {kind: lamp}}
stories:
  - name: hot
    input: [{at: 0s, lamp-1: {temp: 91}}]
    expect: [{at: 0s, alarm: lamp-1/lamp-hot, state: UNACK}]
"""


# -- changing ---------------------------------------------------------------------------------------------------------


async def test_a_new_text_is_put_in_force_written_down_and_taken_back(desk: Desk) -> None:
    before = await desk.rule("road-depth")
    text = before["yaml"].replace("limit: 5 cm", "limit: 6 cm")
    after = await desk.done("PUT", "rules/road-depth", yaml=text, why="  the kerbs are higher ", rev=before["rev"])
    assert (after["origin"], after["file"], after["line"]) == ("console", "console/road-depth.yaml", 1)
    assert (after["yaml"], after["base_yaml"]) == (text, before["yaml"])
    assert after["limits"][0]["value"] == 6
    assert (after["changed_by"], after["history"]) == ("engineer-1", 1)
    assert desk.files() == {"road-depth": text}
    assert desk.console.gateway.house.put_in_force == 1
    (change,) = await desk.changes("road-depth")
    assert (change["who"], change["why"], change["kept"], change["undoes"]) == (
        "engineer-1", "the kerbs are higher", True, None,
    )  # fmt: skip
    assert (change["before"], change["after"]) == (before["yaml"], text)
    assert "-      - {limit: 5 cm, level: IV, on_delay: 2m}\n+      - {limit: 6 cm" in change["diff"]

    back = await desk.done("POST", f"rule-changes/{change['id']}/undo", why="they are not")
    assert (back["rule"]["origin"], back["rule"]["rev"]) == ("shipped", before["rev"])
    assert desk.files() == {}
    newest, _ = await desk.changes("road-depth")
    assert (newest["undoes"], newest["kept"], newest["after"]) == (change["id"], False, before["yaml"])
    again = await desk.done("POST", f"rule-changes/{newest['id']}/undo", why="they are")
    assert again["rule"]["yaml"] == text
    assert [one["rule"] for one in (await desk.get("rule-changes", limit=2))["items"]] == ["road-depth"] * 2
    assert [line for line in await desk.audit() if line[1] == "road-depth"] == [
        ("change-rule", "road-depth", outcome, why)
        for why in ("the kerbs are higher", "they are not", "they are")
        for outcome in ("asked", "done")
    ]


async def test_a_text_with_a_mistake_changes_nothing(desk: Desk) -> None:
    now = await desk.rule("road-depth")
    text = now["yaml"].replace("deadband", "dedband")
    wrong = await desk.refused("rule_mistakes", "PUT", "rules/road-depth", yaml=text, why="w", rev=now["rev"])
    line = now["yaml"][: now["yaml"].index("deadband")].count("\n") + 1
    assert [(one["file"], one["line"], one["key"]) for one in wrong["mistakes"]] == [(None, line, "when.dedband")]
    assert wrong["titles"]["zh"]
    other = await desk.refused("rule_mistakes", "PUT", "rules/road-depth", yaml=NEW, why="w", rev=now["rev"])
    assert other["mistakes"][0]["message"] == "this must be the rule road-depth"
    assert await desk.rule("road-depth") == now
    assert (desk.files(), await desk.changes("road-depth"), await desk.audit()) == ({}, [], [])


async def test_a_rule_that_others_need_cannot_go(desk: Desk) -> None:
    await desk.done("PUT", "rules/lamp-hot", yaml=NEW, why="new", rev=None)
    needs = NEW.replace("lamp-hot", "lamp-hotter") + "  suppress_when: [{cause: lamp-hot}]\n"
    await desk.done("PUT", "rules/lamp-hotter", yaml=needs, why="new", rev=None)
    wrong = await desk.refused("rule_mistakes", "DELETE", "rules/lamp-hot", why="old")
    (mistake,) = wrong["mistakes"]
    assert mistake["file"].endswith("rules/console/lamp-hotter.yaml")
    assert mistake["message"].startswith("there is no rule lamp-hot")
    assert set(desk.files()) == {"lamp-hot", "lamp-hotter"}


async def test_who_looked_at_another_text_is_told_so(desk: Desk) -> None:
    seen = (await desk.rule("road-depth"))["rev"]
    text = (await desk.rule("road-depth"))["yaml"]
    mine, theirs = text.replace("5 cm", "6 cm", 1), text.replace("5 cm", "7 cm", 1)
    both = await asyncio.gather(
        *(desk.ask("PUT", "rules/road-depth", yaml=one, why="w", rev=seen) for one in (mine, theirs))
    )
    assert sorted(answer.status_code for answer in both) == [200, 409]
    loser = next(answer for answer in both if answer.status_code == 409).json()
    assert loser["code"] == "stale_rev"
    assert (await desk.rule("road-depth"))["rev"] in loser["detail"]
    await desk.refused("stale_rev", "PATCH", "rules/road-depth", enabled=False, why="w", rev=seen)
    await desk.refused("stale_rev", "DELETE", "rules/road-depth", why="w", rev=seen)
    await desk.refused("stale_rev", "PUT", "rules/road-depth", yaml=text, why="w", rev=None)
    await desk.refused("stale_rev", "PUT", "rules/lamp-hot", yaml=NEW, why="w", rev=seen)
    first = (await desk.changes("road-depth"))[-1]["id"]
    rev = (await desk.rule("road-depth"))["rev"]
    await desk.done("PATCH", "rules/road-depth", enabled=False, why="w", rev=rev)
    await desk.refused("stale_rev", "POST", f"rule-changes/{first}/undo", why="w")
    await desk.refused("not_found", "POST", "rule-changes/999/undo", why="w")


async def test_a_rule_is_switched_off_and_on_in_its_own_words(desk: Desk) -> None:
    now = await desk.rule("circuit-lost")
    off = await desk.done("PATCH", "rules/circuit-lost", enabled=False, why="the cabinets are rebuilt", rev=now["rev"])
    assert not off["enabled"]
    assert off["yaml"] == now["yaml"].replace("- rule: circuit-lost\n", "- rule: circuit-lost\n  enabled: false\n")
    assert "Switched off: it raises nothing" in off["words"]["en"]
    same = await desk.refused("not_allowed", "PATCH", "rules/circuit-lost", enabled=False, why="w", rev=off["rev"])
    assert "already" in same["detail"]
    on = await desk.done("PATCH", "rules/circuit-lost", enabled=True, why="done", rev=off["rev"])
    assert (on["enabled"], on["origin"]) == (True, "console"), "the text says so now"
    back = await desk.done("DELETE", "rules/circuit-lost?why=as+it+was")
    assert (back["rule"]["origin"], back["rule"]["yaml"]) == ("shipped", now["yaml"])
    door = await desk.rule("cabinet-door")
    assert (await desk.done("PATCH", "rules/cabinet-door", enabled=True, why="w", rev=door["rev"]))["enabled"]


async def test_a_text_on_trial_runs_beside_the_rule_in_force(desk: Desk) -> None:
    now = await desk.rule("road-depth")
    text = now["yaml"].replace("5 cm", "4 cm", 1)
    tried = await desk.done("PUT", "rules/road-depth", yaml=text, why="too late?", rev=now["rev"], shadow=True)
    assert (tried["rule"], tried["shadow"], tried["shadow_of"]) == ("road-depth-trial", True, "road-depth")
    head, *under = tried["yaml"].splitlines()[:3]
    assert head.startswith("- rule: road-depth-trial ")
    assert under == ["  shadow: true", "  shadow_of: road-depth"]
    assert await desk.rule("road-depth") == now, "the rule in force is as it was"
    another = text.replace("4 cm", "3 cm", 1)
    again = await desk.done("PUT", "rules/road-depth", yaml=another, why="later still", rev=now["rev"], shadow=True)
    assert again["limits"][0]["value"] == 3
    assert len(await desk.changes("road-depth-trial")) == 2
    await desk.refused("stale_rev", "PUT", "rules/road-depth", yaml=text, why="w", rev="0" * 12, shadow=True)
    wrong = await desk.refused(
        "rule_mistakes", "PUT", "rules/road-depth", yaml=NEW, why="w", rev=now["rev"], shadow=True
    )
    assert wrong["mistakes"][0]["message"] == "this must be the rule road-depth"
    gone = await desk.done("DELETE", "rules/road-depth-trial", why="enough")
    assert gone == {"rule": None}
    assert (await desk.ask("GET", "rules/road-depth-trial")).status_code == 404
    assert desk.files() == {}
    newest = (await desk.changes("road-depth-trial"))[0]
    assert newest["after"] is None
    back = await desk.done("POST", f"rule-changes/{newest['id']}/undo", why="once more")
    assert back["rule"]["yaml"] == again["yaml"]


async def test_what_cannot_be_changed_says_why(desk: Desk) -> None:
    companion = await desk.refused("not_allowed", "PUT", "rules/bridge-strain-instrument", yaml=NEW, why="w", rev=None)
    assert "bridge-strain" in companion["detail"]
    untouched = await desk.refused("not_allowed", "DELETE", "rules/road-depth", why="w")
    assert "as its file says" in untouched["detail"]
    await desk.refused("not_found", "DELETE", "rules/nothing", why="w")
    await desk.refused("not_found", "PATCH", "rules/nothing", enabled=True, why="w", rev=None)
    await desk.refused("not_found", "PUT", "rules/..%2Fetc", yaml=NEW, why="w", rev=None)
    now = await desk.rule("road-depth")
    same = await desk.refused(
        "not_allowed", "PUT", "rules/road-depth", yaml=now["yaml"] + "\n\n", why="w", rev=now["rev"]
    )
    assert "says so already" in same["detail"]
    for body in ({"why": " "}, {"why": ""}, {}):
        assert (await desk.ask("DELETE", "rules/road-depth", **body)).status_code == 422
    assert desk.files() == {}


async def test_a_text_as_it_was_filed_is_no_change_to_keep(desk: Desk) -> None:
    now = await desk.rule("road-depth")
    after = await desk.done(
        "PUT", "rules/road-depth", yaml=now["yaml"].replace("5 cm", "6 cm", 1), why="w", rev=now["rev"]
    )
    back = await desk.done("PUT", "rules/road-depth", yaml=now["yaml"], why="w", rev=after["rev"])
    assert back["origin"] == "shipped"
    assert desk.files() == {}


async def test_a_disk_that_refuses_leaves_everything_as_it_was(desk: Desk) -> None:
    now = await desk.rule("road-depth")
    desk.folder.parent.mkdir()
    desk.folder.write_text("a file where the folder should be")
    text = now["yaml"].replace("5 cm", "6 cm", 1)
    await desk.refused("unavailable", "PUT", "rules/road-depth", yaml=text, why="w", rev=now["rev"])
    assert await desk.changes("road-depth") == []
    assert [line[2] for line in await desk.audit()] == ["asked", "failed"]
    assert desk.console.gateway.house.put_in_force == 0
    desk.folder.unlink()
    assert (await desk.done("PUT", "rules/road-depth", yaml=text, why="w", rev=now["rev"]))["limits"][0]["value"] == 6


async def test_a_folder_that_somebody_else_changed_is_looked_at_first(desk: Desk) -> None:
    await desk.done("PUT", "rules/lamp-hot", yaml=NEW, why="new", rev=None)
    (desk.folder / "lamp-hot.yaml").write_text(HOT, encoding="utf-8")
    now = await desk.rule("lamp-hot")
    refused = await desk.refused("stale_rev", "PATCH", "rules/lamp-hot", enabled=False, why="w", rev=now["rev"])
    assert "console/lamp-hot.yaml was changed by somebody else" in refused["detail"]
    house = desk.console.gateway.house
    house._use(house.read_files())
    await house.rulebook.note_outside_changes()
    newest, first = await desk.changes("lamp-hot")
    assert (newest["who"], newest["before"], newest["after"]) == ("data folder", NEW, HOT)
    assert first["who"] == "engineer-1"
    await house.rulebook.note_outside_changes()
    assert len(await desk.changes("lamp-hot")) == 2, "once"
    (desk.folder / "lamp-hot.yaml").unlink()
    house._use(house.read_files())
    await house.rulebook.note_outside_changes()
    assert (await desk.changes("lamp-hot"))[0]["after"] is None
