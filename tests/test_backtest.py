"""citywatch backtest: kept readings, hot and in files, through the rules that are tried and the rules in force."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.backtest import backtest
from gateway.core.assets_json import to_json
from gateway.core.model import MINUTE, SECOND, Asset, AssetsChanged, Device, Micros, Quality, Reading
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
