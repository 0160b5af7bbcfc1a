"""``citywatch drill``: the verdict at max speed and over real wires, the same twice, and what is said when it is no."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from gateway.config.shipped import shipped
from gateway.core.model import SECOND, CommandName, Condition, IsaState, ModbusCycle
from gateway.core.registers import BlockRead
from gateway.drill import DrillOptions, Operator, as_text, cycle, drill, in_words, shortfalls
from gateway.drill_live import live_drill
from gateway.drill_report import html_page
from gateway.errors import ConfigError
from tests.core.test_score import step_of

REPOSITORY = Path(__file__).parents[1]
SCENARIO: dict[str, Any] = {
    "scenario": "five-minutes",
    "title": {"zh": "五分钟", "en": "Five minutes"},
    "start": "2025-04-12T22:00:00+08:00",
    "lasts": "5m",
    "assets": 120,
    "timeline": [
        {"at": 30, "do": "cover-opened", "asset": {"kind": "manhole", "profile": "generic/json-manhole"}, "for": "3m"},
        {"at": 60, "do": "overload", "asset": "bridge-01", "times_limit": 1.7},
        {"at": 90, "do": "station-loses-mains", "asset": {"kind": "pump"}, "for": "2m"},
        {"at": 100, "do": "nonsense", "asset": {"kind": "pipe", "profile": "generic/json-pipe"}, "what": "truncated"},
    ],
    "floor": {"recall": 1, "precision": 1, "level_I_recall": 1},
}  # fmt: skip


def written(folder: Path, **changes: Any) -> str:
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump({**SCENARIO, **changes}, allow_unicode=True), encoding="utf-8")
    return str(path)


def without(folder: Path, rule: str) -> Path:
    """The shipped rules, one of them never true."""
    for file in shipped("rules").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        text = re.sub(rf"^- rule: {rule}\b.*$", rf"- rule: {rule}\n  enabled: false", text, flags=re.MULTILINE)
        (folder / file.name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return drill(DrillOptions(written(tmp_path_factory.mktemp("drill"))))


def test_everything_that_was_done_is_found_and_nothing_else(report: dict[str, Any]) -> None:
    assert report["passed"], report["missed"] + report["false_alarms"]
    assert report["total"]["expected"] >= 3
    assert report["total"]["false"] == 0
    assert report["level_I"] == {"expected": 2, "detected": 2}
    assert {"manhole-open", "bridge-overload", "station-power-lost"} <= set(report["by_rule"])
    assert report["rejected"] == {"bad_payload": 1}
    assert report["ledger"]["balanced"]
    done = {act["act"].rsplit("-", 1)[0]: act for act in report["acts"]}
    assert set(done) == {"cover-opened", "overload", "station-loses-mains", "nonsense"}
    assert done["cover-opened"]["incidents"] >= 1


def test_the_same_scenario_and_seed_give_the_same_report_to_the_last_byte(
    report: dict[str, Any], tmp_path: Path
) -> None:
    again = drill(DrillOptions(written(tmp_path)))
    assert as_text(again).encode() == as_text(report).encode()
    other = drill(DrillOptions(written(tmp_path), seed=2))
    assert as_text(other) != as_text(report)


def test_a_rule_that_is_switched_off_is_missed_with_its_reason_and_the_verdict_is_no(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    found = drill(DrillOptions(written(tmp_path), rules=without(rules, "station-power-lost")))
    assert not found["passed"]
    (missed,) = found["missed"]
    assert missed["alarm_id"].endswith("/station-power-lost")
    assert missed["why"]["zh"]
    assert missed["why"]["en"]
    assert any(short.startswith("recall") for short in found["short_of_floor"])
    said = in_words(found)
    assert "不合格" in said
    assert missed["alarm_id"] in said


def test_a_rule_that_raises_for_nothing_is_counted_false(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    without(rules, "none-of-them")
    text = (rules / "pump.yaml").read_text(encoding="utf-8")
    (rules / "pump.yaml").write_text(
        text + "\n- rule: any-water\n  title: {zh: 误报, en: For nothing}\n  applies_to: {kind: pump}\n"
        "  when: {point: wetwell, above: 0.01 m}\n  level: III\n  consequence: None.\n"
        "  response: {zh: 无, en: None}\n  notify: [nobody]\n",
        encoding="utf-8",
    )
    found = drill(DrillOptions(written(tmp_path, lasts="3m", timeline=[]), rules=rules))
    assert found["total"]["false"] >= 3
    assert found["by_rule"]["any-water"]["precision"] == 0.0
    assert found["false_alarms"][0]["alarm_id"].endswith("/any-water")
    assert found["false_alarms_per_1000_asset_days"] > 0


def test_the_page_shows_the_verdict_in_both_languages_at_the_sites_time(report: dict[str, Any]) -> None:
    page = html_page(report)
    assert "合格 PASSED" in page
    assert "五分钟" in page
    assert "2025-04-12T22:00:00+08:00" in page
    assert "<script" not in page
    assert page.count("<svg") == 1
    hostile = {**report, "title": {"zh": "<b>x", "en": "</title>"}}
    assert "<b>x" not in html_page(hostile)


def test_over_real_wires_the_verdict_is_the_same(report: dict[str, Any], tmp_path: Path) -> None:
    # As a process of its own: a whole gateway says its words to a log of its own.
    done = command(written(tmp_path), "--speed", "12", "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["missed"] == []
    assert found["false_alarms"] == []
    assert found["level_I"] == report["level_I"]
    assert found["ledger"]["balanced"]
    assert found["rejected"] == {"bad_payload": 1}
    # Bytes on sockets at twelve times the pace: what is raised is the same, when it is not to the second.
    assert {name for name, rule in found["by_rule"].items() if rule["raised"]} == {
        name for name, rule in report["by_rule"].items() if rule["raised"]
    }


def test_too_fast_or_unknown_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 60"):
        live_drill(DrillOptions(written(tmp_path), speed=61.0))
    with pytest.raises(ConfigError, match="2025 or later"):
        live_drill(DrillOptions(written(tmp_path, start="2024-04-12T22:00:00+08:00"), speed=10.0))
    for play in (drill, live_drill):
        with pytest.raises(ConfigError, match="no scenario 'nowhere'"):
            play(DrillOptions("nowhere", speed=2.0))


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "drill", *words], capture_output=True, text=True, cwd=REPOSITORY, timeout=120
    )


def test_the_command_writes_its_report_and_its_exit_code_is_the_verdict(tmp_path: Path) -> None:
    below = written(tmp_path, lasts="2m", timeline=[], floor={"false_alarms_max": -1})
    done = command(below, "--report", str(tmp_path / "out" / "report.json"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "wanted at most -1" in done.stdout
    assert json.loads((tmp_path / "out" / "report.json").read_text())["scenario"] == "five-minutes"
    assert "不合格 FAILED" in (tmp_path / "out" / "report.html").read_text()
    good = command(written(tmp_path, lasts="2m", timeline=[], floor={}), "--json", "--seed", "3", "--assets", "130")
    assert good.returncode == 0, good.stderr
    assert (json.loads(good.stdout)["seed"], json.loads(good.stdout)["assets"]) == (3, 130)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "no scenario 'nowhere'"),
        (("evening", "--speed", "0.5"), "max, or 1 to 3600"),
        (("evening", "--speed", "fast"), "max, or 1 to 3600"),
        (("evening", "--assets", "7"), "120"),
    ],
)
def test_wrong_words_are_exit_2(words: tuple[str, ...], said: str) -> None:
    done = command(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_floors_and_ceilings() -> None:
    figures = {"recall": 0.97, "false_alarms": 2.0}
    assert shortfalls(figures, {"recall": 0.97, "false_alarms_max": 2}) == []
    assert shortfalls(figures, {"recall": 0.98, "false_alarms_max": 1}) == [
        "recall 0.97, wanted at least 0.98",
        "false_alarms 2, wanted at most 1",
    ]


def test_the_one_on_duty_acknowledges_what_asks_for_it_and_resets_what_has_latched() -> None:
    operator = Operator()
    raised = step_of(10, "T3", IsaState.UNACK)
    asks = msgspec.structs.replace(raised, record=msgspec.structs.replace(raised.record, acked=False, latched=True))
    operator.hear([asks])
    assert list(operator.commands(129 * SECOND)) == []
    ((command, at),) = operator.commands(131 * SECOND)
    assert (command.name, command.alarm_id, at) == (CommandName.ACKNOWLEDGE, "w1/gas", 131 * SECOND)
    normal = msgspec.structs.replace(asks.record, acked=True, cond=Condition.NORMAL)
    operator.hear([msgspec.structs.replace(asks, at=200 * SECOND, record=normal)])
    ((command, _),) = operator.commands(801 * SECOND)
    assert command.name is CommandName.RESET
    operator.hear([asks, msgspec.structs.replace(asks, record=msgspec.structs.replace(asks.record, acked=True))])
    assert list(operator.commands(2000 * SECOND)) == [], "somebody else was quicker"


def test_registers_become_the_cycle_that_the_modbus_source_would_have_journaled() -> None:
    blocks = [BlockRead(3, 1, 2)]
    read = msgspec.msgpack.decode(cycle(blocks, bytes([0, 9, 0, 1, 2, 0]), None), type=ModbusCycle).reads[0]
    assert (read.address, list(read.words), read.error, read.count) == (1, [1, 512], None, 2)
    dead = msgspec.msgpack.decode(cycle(blocks, b"", "timeout"), type=ModbusCycle).reads[0]
    assert (list(dead.words), dead.error) == ([], "timeout")
