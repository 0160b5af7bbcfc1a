"""citywatch backtest: kept readings, hot and in files, through the rules that are tried and the rules in force."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.backtest import backtest, differing
from gateway.config.stories import rules_at
from gateway.core.assets_json import to_json
from gateway.core.model import MINUTE, SECOND, Asset, AssetsChanged, Device, Micros, Quality, Reading
from gateway.core.rule import RuleSet
from gateway.errors import ConfigError
from gateway.historian.historian import Historian
from gateway.store.store import Store

REPOSITORY = Path(__file__).parents[1]
BEGIN: Micros = 1_752_993_000 * SECOND
STRICT = """
- rule: road-depth
  title: {zh: 道路积水, en: Road flooding}
  applies_to: {kind: road}
  when: {point: depth, above: 3 cm, deadband: 1 cm}
  level: III
  on_delay: 2m
  response: {zh: 封闭道路, en: Close the road}
"""
DEPTHS = [1.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0]


async def _kept(data: Path) -> Historian:
    """Sixteen minutes of two gauges, one of them always dry; half of it in Parquet files. The historian stays open, as
    a running gateway's does."""
    data.mkdir()  # noqa: ASYNC240
    roads = [Asset("road-1", "road"), Asset("road-2", "road")]
    mounted = [Device(road.asset, road.asset, "generic/json-road", expected_interval=MINUTE) for road in roads]
    store = await Store.open(data)
    await store.commit(1, [AssetsChanged(BEGIN, to_json(roads, mounted))])
    await store.close()
    historian = await Historian.open(data / "history")
    for minute, depth in enumerate(DEPTHS):
        at = BEGIN + minute * MINUTE
        batch = [
            Reading(road, "depth", value, Quality.GOOD, at, at, road, None, False, minute)
            for road, value in (("road-1", depth), ("road-2", 0.0))
        ]
        await historian.append([(minute + 2, batch)])
        if minute == len(DEPTHS) // 2:
            historian._hot_since = 0  # old enough to be sealed
            await historian.compact(at)
    return historian


async def test_a_stricter_rule_is_heard_beside_the_one_in_force(tmp_path: Path) -> None:
    historian = await _kept(tmp_path / "data")
    try:
        assert list((tmp_path / "data" / "history").glob("*/*.parquet")), "some of it lies in files"
        rules = tmp_path / "strict.yaml"
        rules.write_text(STRICT, encoding="utf-8")
        words = ["backtest", str(rules), "--data", str(tmp_path / "data"), "--from", "2025-07-20T06:30:00Z"]
        done = await asyncio.to_thread(citywatch, *words, "--to", "2025-07-20T07:00:00Z")
    finally:
        await historian.close()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["readings"] == 2 * len(DEPTHS)
    tried, force = report["tried"], report["in_force"]
    assert tried["by_rule"] == {"road-depth": 2}, "3 cm is passed twice for more than two minutes"
    assert force["by_rule"] == {"gauge-offline": 2, "road-depth": 1}, "5 cm only once; then both fall silent"
    assert [(alarm["at"], alarm["alarm_id"], alarm["level"], alarm["value"]) for alarm in tried["alarms"]] == [
        ("2025-07-20T06:33:00Z", "road-1/road-depth", "III", 4.0),
        ("2025-07-20T06:39:00Z", "road-1/road-depth", "III", 9.0),
    ]
    assert tried["operator_load"]["periods"] == [2, 0, 0]
    assert report["difference"]["rules"] == {"road-depth": {"tried": 2, "in_force": 1}}
    assert report["difference"]["only_tried"] == report["difference"]["only_in_force"] == []
    assert not list((tmp_path / "data").glob("picture-*")), "nothing is left behind"


async def test_what_both_sides_share_is_heard_once_and_counts_on_both(tmp_path: Path) -> None:
    historian = await _kept(tmp_path / "data")
    await historian.close()
    rules = tmp_path / "rules"
    shutil.copytree(REPOSITORY / "rules", rules, ignore=shutil.ignore_patterns("tests"))

    def told() -> dict[str, Any]:
        words = ["backtest", str(rules), "--data", str(tmp_path / "data"), "--from", "2025-07-20T06:30:00Z"]
        done = citywatch(*words, "--to", "2025-07-20T07:30:00Z")
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    same = told()
    assert same["tried"] == same["in_force"]
    text = (rules / "drainage.yaml").read_text(encoding="utf-8")
    assert "limit: 5 cm" in text
    (rules / "drainage.yaml").write_text(text.replace("limit: 5 cm", "limit: 3 cm", 1), encoding="utf-8")
    changed = told()
    assert changed["in_force"] == same["in_force"], "however much of it was heard by the other engine"
    first = [report["alarms"][0] for report in (changed["tried"], changed["in_force"])]
    assert {one["alarm_id"] for one in first} == {"road-1/road-depth"}
    assert first[0]["at"] < first[1]["at"], "the lower limit is passed earlier"


def test_what_may_differ_is_what_changed_and_what_depends_on_it() -> None:
    force = rules_at(REPOSITORY / "rules")
    assert differing(force, force) == set()
    rule = force.rules["gauge-step"]
    tried = RuleSet({**force.rules, "gauge-step": replace(rule, on_delay=rule.on_delay + MINUTE)})
    found = differing(force, tried)
    assert {"gauge-step", "pipe-filling", "pipe-near-ground"} <= found, "they are held down by it"
    assert "lamp-out" not in found


async def test_a_period_without_readings_and_a_folder_that_is_none(tmp_path: Path) -> None:
    historian = await _kept(tmp_path / "data")
    await historian.close()
    rules = tmp_path / "strict.yaml"
    rules.write_text(STRICT, encoding="utf-8")
    with pytest.raises(ConfigError, match="must lie before"):
        backtest(rules, tmp_path / "data", BEGIN, BEGIN)
    with pytest.raises(ConfigError, match="is not the data folder"):
        backtest(rules, tmp_path, BEGIN, BEGIN + MINUTE)
    with pytest.raises(ConfigError, match="cannot be read"):
        backtest(tmp_path / "none.yaml", tmp_path / "data", BEGIN, BEGIN + MINUTE)


def citywatch(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gateway", *words], capture_output=True, text=True, cwd=REPOSITORY)


async def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    historian = await _kept(tmp_path / "data")
    await historian.close()
    rules = tmp_path / "strict.yaml"
    rules.write_text(STRICT, encoding="utf-8")
    words = ["backtest", str(rules), "--data", str(tmp_path / "data"), "--from", "2025-07-20T06:00:00Z"]
    wrong = citywatch(*words, "--to", "tomorrow")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr
    rules.write_text(STRICT.replace("depth,", "depht,"), encoding="utf-8")
    mistaken = citywatch(*words, "--to", "2025-07-20T07:00:00Z")
    assert mistaken.returncode == 2
    assert "did you mean `depth`?" in mistaken.stderr
