"""Scenarios are read whole or refused with the file, the place and the reason of every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from simulators.acts import ACTS
from simulators.city import DEMO_INTERVALS, FIELD_INTERVALS
from simulators.scenario import FOLDER, Scenario, ScenarioError, duration_s, load_scenario, shipped_scenarios
from tests.simulators.playing import scenario

SHIPPED = {
    "broker-restart", "burst-main", "calm-day", "cover-stolen-at-night", "evening", "feeder-cut", "float-up",
    "gas-in-a-well", "gateway-outage", "leakage-in-rain", "overload-convoy", "sensor-fault-only", "sensor-faults",
    "site-at-night", "storm-20", "storm-pump-failure", "strain-drift", "switch-on-at-dusk",
}  # fmt: skip

GOOD = """
scenario: trial
title: {zh: 试验, en: Trial}
start: 2025-07-20T17:00:00+08:00
lasts: 5h
assets: 150
weather:
  rain:
    - {at: 18:00, storm: {return_period: 20, lasts: 2h}}
enable: [gas-leak]
timeline:
  - {at: 18:05, do: feeder-loses-mains, asset: F01, for: 25m}
  - {at: 1h10m, do: cover-opened, asset: {kind: manhole, pick: 2}, degrees: 64, as: opened}
  - {at: "19:10", end: opened}
floor: {recall: 0.98}
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "trial.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        load_scenario(written(tmp_path, text))
    return str(refused.value).splitlines()


def test_at_least_the_promised_scenarios_are_shipped() -> None:
    assert set(shipped_scenarios()) >= SHIPPED
    assert shipped_scenarios() == sorted(path.stem for path in FOLDER.iterdir() if path.suffix == ".yaml")


@pytest.mark.parametrize("name", shipped_scenarios())
def test_every_shipped_scenario_can_be_loaded_and_says_what_it_is_called(name: str) -> None:
    loaded = load_scenario(name)
    assert loaded.scenario == name
    assert any("\u4e00" <= character <= "\u9fff" for character in loaded.title.zh), "Chinese"
    assert loaded.title.en.isascii()
    assert loaded.start.utcoffset() is not None
    assert all(0 <= loaded.second(entry.at) <= loaded.lasts for entry in loaded.timeline)
    assert loaded == load_scenario(str(FOLDER / f"{name}.yaml"))


def test_together_the_shipped_scenarios_use_rain_and_most_of_what_can_be_done() -> None:
    loaded = [load_scenario(name) for name in shipped_scenarios()]
    done = {entry.do for one in loaded for entry in one.timeline if entry.do is not None}
    assert done <= set(ACTS)
    assert len(done) > len(ACTS) / 2
    assert sum(bool(one.weather.rain) for one in loaded) >= 4


def test_a_file_is_a_scenario_too_with_its_times_on_the_clock_or_since_the_start(tmp_path: Path) -> None:
    loaded = load_scenario(written(tmp_path, GOOD))
    assert [loaded.second(entry.at) for entry in loaded.timeline] == [3900, 4200, 7800]
    assert loaded.lasts == 18_000
    assert loaded.timeline[0].lasts == 1500
    assert loaded.timeline[1].parameters == {"degrees": 64}
    assert loaded.made_weather().fallen_mm(0, 3600) == 0
    assert loaded.made_weather().fallen_mm(3600, 3 * 3600) > 50, "twenty years' storm, quoted or not"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("1d2h3m4s", 93_784), ("0.5h", 1800), (12, 12),
     (1.5, 1.5), (0, 0)],
)  # fmt: skip
def test_durations_are_read(text: object, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 minutes", "m5", "-5m", "5m1h", True, None, -1, float("nan"), float("inf")]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(text)


@pytest.mark.parametrize(
    ("at", "seconds"),
    [("20:00", 0), ("20:00:30", 30), ("23:59", 14_340), ("00:00", 14_400), ("9:05", 47_100), ("19:59", 86_340),
     ("1h5m", 3900), (90, 90.0), ("2d", 172_800)],
)  # fmt: skip
def test_a_time_of_the_clock_is_the_first_after_the_start_and_all_else_is_since_the_start(
    at: str | float, seconds: float
) -> None:
    assert scenario(lasts="2d").second(at) == seconds


@pytest.mark.parametrize("at", ["24:00", "7:60", "noon", "", -5, "-5m"])
def test_what_is_no_time_is_refused_with_its_place(at: object) -> None:
    with pytest.raises(ValueError, match=r"timeline\[0\]"):
        scenario({"at": at, "do": "stranger-speaks", "as": "one"})


def test_repeats_and_paces() -> None:
    fast = scenario(pace="demo", intervals={"lamp": "3m", "rain": 7}, repeat="20m")
    assert fast.repeat == 1200
    assert fast.city_intervals == {**DEMO_INTERVALS, "lamp": 180, "rain": 7}
    assert scenario().city_intervals == FIELD_INTERVALS
    assert scenario().repeat is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"titel": {"zh": "a", "en": "b"}}, "titel: Extra inputs"),
    ({"title": {"zh": "a"}}, "title.en: Field required"),
    ({"scenario": "Trial Run"}, "scenario: String should match"),
    ({"start": "2025-07-20T17:00:00"}, "start: Input should have timezone"),
    ({"lasts": "soon"}, "lasts: not a duration: 'soon'"),
    ({"lasts": "100d"}, "lasts: Input should be less than"),
    ({"assets": 5}, "assets: Input should be greater than or equal to 120"),
    ({"assets": 60_000}, "assets: Input should be less than or equal to 50000"),
    ({"pace": "slow"}, "pace: Input should be"),
    ({"intervals": {"lmap": 5}}, "intervals: no kind 'lmap': lamp, feeder"),
    ({"intervals": {"lamp": 0}}, "intervals.lamp: Input should be greater"),
    ({"repeat": 0}, "repeat: must be longer"),
    ({"weather": {"wind": 5}}, "weather.wind: Extra inputs"),
    ({"weather": {"rain": [{"at": 5}]}}, "weather.rain[0]: say either `storm` or `shower`"),
    ({"weather": {"rain": [{"at": 5, "storm": {"formula": "atlantis", "return_period": 2}}]}},
     "rain[0].storm: no formula 'atlantis': "),
    ({"weather": {"rain": [{"at": "25:00", "shower": {"peak": 5, "lasts": 60}}]}}, "not a duration: '25:00'"),
    ({"floor": {"recal": 1}}, "floor.recal"),
    ({"timeline": [{"at": 5}]}, "timeline[0]: say either `do` or `end`"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "end": "x"}]}, "timeline[0]: say either `do` or `end`"),
    ({"timeline": [{"do": "stranger-speaks"}]}, "timeline[0].at: Field required"),
    ({"timeline": [{"at": 5, "do": "lamp-failz"}]}, "[0]: nothing called 'lamp-failz' can be done: battery-low"),
    ({"timeline": [{"at": 5, "do": "cover-opened", "degres": 3}]}, "[0]: cover-opened takes no 'degres': degrees"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "degrees": 3}]}, "[0]: lamp-fails takes no 'degrees': nothing"),
    ({"timeline": [{"at": 5, "do": "cover-opened", "degrees": "far"}]}, "degrees must be a number, not 'far'"),
    ({"timeline": [{"at": 5, "do": "cover-opened", "degrees": True}]}, "degrees must be a number, not True"),
    ({"timeline": [{"at": 5, "do": "cover-opened", "degrees": float("inf")}]}, "degrees must be a number, not '.inf'"),
    ({"timeline": [{"at": 5, "do": "overload", "for": "5m"}]}, "overload is over at once: `for` makes no sense"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "asset": {"kind": "manhole"}}]}, "befalls lamp, not 'manhole'"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "asset": {"kin": "lamp"}}]}, "timeline[0].asset"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "asset": {"pick": 0}}]}, "timeline[0].asset"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "every": "5m"}]}, "[0]: `every` and `until` go together"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "until": "5m"}]}, "[0]: `every` and `until` go together"),
    ({"timeline": [{"at": 99, "do": "lamp-fails", "every": 5, "until": 9}]}, "timeline[0]: `until` is before `at`"),
    ({"timeline": [{"at": "3h", "do": "lamp-fails"}]}, "timeline[0]: begins when the scenario is over"),
    ({"timeline": [{"at": 5, "end": "theft"}]}, "timeline[0]: nothing that is done before it is called 'theft'"),
    ({"timeline": [{"at": 9, "do": "lamp-fails", "as": "a"}, {"at": 5, "end": "a"}]}, "[1]: nothing that is done"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "asset": "$x"}]}, "before it is called 'x'"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "asset": {"but": ["F01", "$y"]}}]}, "before it is called 'y'"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "asset": {"where": {"feeder": "$z"}}}]}, "before it is called 'z'"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "as": "a"}, {"at": 6, "end": "a", "asset": "F01"}]},
     "[1]: `end` takes no 'asset'"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "as": "a"}, {"at": 6, "end": "a", "for": 5}]}, "takes no 'for'"),
    ({"timeline": [{"at": 5, "do": "lamp-fails", "as": "a"}, {"at": 6, "end": "a", "ast": 5}]}, "takes no 'ast'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_what_is_wrong_is_refused_with_its_place_and_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    usual = {"scenario": "trial", "title": {"zh": "试验", "en": "Trial"}, "start": "2025-07-20T17:00:00+08:00",
             "lasts": "2h"}  # fmt: skip
    lines = mistakes(tmp_path, yaml.safe_dump({**usual, **change}, allow_unicode=True))
    assert all(line.startswith("trial.yaml: ") for line in lines)
    assert any(reason in line for line in lines), lines
    assert load_scenario(written(tmp_path, yaml.safe_dump(usual))).timeline == ()


def test_every_mistake_is_told_a_line_each(tmp_path: Path) -> None:
    text = (
        GOOD.replace("lasts: 5h", "lasts: ever").replace("do: cover-opened", "do: cover-opend").replace("en: T", "e: T")
    )
    lines = mistakes(tmp_path, text)
    assert [line.split(": ")[1] for line in lines] == ["title.en", "title.e", "lasts", "timeline[1]"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scenario: [", "not YAML"),
        ("[" * 1500, "not YAML"),
        ("&a [*a, !!python/object:os.system x]", "not YAML"),
        ("just words", "Input should be a valid dictionary"),
        ("", "Input should be a valid dictionary"),
        ("# " + "x" * 1_000_001, "longer than a million characters"),
    ],
)
def test_what_is_no_scenario_at_all_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    told = mistakes(tmp_path, text)
    assert "trial.yaml: " in told[0]
    assert any(reason in line for line in told)


def test_an_unknown_name_is_answered_with_those_that_there_are_and_a_file_that_is_not_there_as_such(
    tmp_path: Path,
) -> None:
    with pytest.raises(ScenarioError, match=r"there is no scenario 'storm-21': .*storm-20.*, or a file"):
        load_scenario("storm-21")
    with pytest.raises(ScenarioError, match=r"gone\.yaml: cannot be read"):
        load_scenario(str(tmp_path / "gone.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"title: \xff\xfe")
    with pytest.raises(ScenarioError, match=r"latin\.yaml: cannot be read"):
        load_scenario(str(tmp_path / "latin.yaml"))


def test_a_scenario_that_was_read_cannot_be_changed() -> None:
    frozen: Any = load_scenario("evening")
    assert isinstance(frozen, Scenario)
    with pytest.raises(ValueError, match="frozen"):
        frozen.seed = 5
