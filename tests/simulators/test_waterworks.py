"""The water network: a calm day, a burst and where it is felt; and the public example our figures were taken from."""

from __future__ import annotations

import importlib
import importlib.util
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from simulators import waterworks
from simulators.city import Asset
from simulators.lighting import CHINA
from simulators.waterworks import (
    JUNCTIONS,
    PIPES,
    Burst,
    Pressures,
    WaterworksMissing,
    add_burst,
    junction_of,
    pressures,
    run,
    waterworks_available,
)

EIGHT = datetime(2025, 7, 20, 8, 0, tzinfo=CHINA)
HOUR, DAY = 3600.0, 86400.0
QUARTER_STEPS = 3  # of five minutes

needs_wntr = pytest.mark.skipif(
    not waterworks_available(), reason="WNTR IS MISSING: the water network is not tested (pip install citywatch[water])"
)


@pytest.fixture(scope="module")
def calm() -> Pressures:
    return pressures(EIGHT, 2 * DAY)


def _falls(course: tuple[float, ...]) -> list[float]:
    """By how much the pressure falls within each quarter of an hour, m."""
    return [before - after for before, after in zip(course, course[QUARTER_STEPS:], strict=False)]


@needs_wntr
def test_on_a_calm_day_every_junction_has_pressure_and_nothing_falls_like_a_burst(calm: Pressures) -> None:
    for course in calm.table.values():
        assert len(course) == 2 * 288 + 1
        assert min(course) > 20  # 0.14 MPa are 14.3 m
        assert max(course) < 50
        assert max(_falls(course)) < 2  # the rules look for 3 and 5 m


@needs_wntr
def test_pressure_is_highest_while_the_city_sleeps(calm: Pressures) -> None:
    for junction in JUNCTIONS:
        assert calm.metres(junction, 19 * HOUR) > calm.metres(junction, 10 * HOUR)  # 3:00 and 18:00


@needs_wntr
def test_a_burst_is_felt_deepest_at_its_place_at_the_neighbours_too_and_ends_when_closed(calm: Pressures) -> None:
    its = pressures(EIGHT, DAY, [Burst("W07", 0.006, 2 * HOUR, 6 * HOUR)])
    lost = {junction: calm.metres(junction, 3 * HOUR) - its.metres(junction, 3 * HOUR) for junction in JUNCTIONS}
    assert max(lost, key=lost.__getitem__) == "W07"
    assert max(_falls(its.table["W07"])) > 5.1  # 0.05 MPa: the rule for a burst
    for first, second, _ in PIPES:
        if "W07" in (first, second):
            assert max(_falls(its.table[first if second == "W07" else second])) > 3.1  # 0.03 MPa: its witness
    assert min(its.table["W07"]) > 14.3  # an absolute limit never sees it
    for junction in JUNCTIONS:
        assert its.metres(junction, 2 * HOUR - 300) == pytest.approx(calm.metres(junction, 2 * HOUR - 300))
        assert abs(its.metres(junction, 20 * HOUR) - calm.metres(junction, 20 * HOUR)) < 3


@needs_wntr
def test_a_larger_hole_takes_more_pressure() -> None:
    left = [
        pressures(EIGHT, 3 * HOUR, [Burst("W06", area, HOUR, 3 * HOUR)]).metres("W06", 2 * HOUR)
        for area in (0.002, 0.004, 0.008)
    ]
    assert left[0] > left[1] + 1 > left[2] + 2


@needs_wntr
def test_a_burst_at_a_place_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError):
        pressures(EIGHT, HOUR, [Burst("W99", 0.01, 0.0, HOUR)])


@needs_wntr
def test_a_burst_in_the_public_network_takes_ten_metres_at_both_nodes() -> None:
    """Net3 with a leak of 0.05 m² at node 123 from 10:00 to 14:00: the figures the rules were made from."""
    wntr: Any = importlib.import_module("wntr")
    network = wntr.network.WaterNetworkModel(str(Path(wntr.__file__).parent / "library" / "networks" / "Net3.inp"))
    network.options.time.duration = 24 * 3600
    add_burst(network, Burst("123", 0.05, 10 * HOUR, 14 * HOUR))
    its = run(network, ["123", "121"])
    hours = (9, 10, 11, 12, 14, 15)
    assert [its.metres("123", hour * HOUR) for hour in hours] == pytest.approx(
        [46.9, 36.3, 35.2, 38.1, 45.9, 45.1], abs=0.06
    )
    assert [its.metres("121", hour * HOUR) for hour in hours] == pytest.approx(
        [50.6, 40.8, 39.6, 42.2, 48.8, 48.0], abs=0.06
    )


def test_between_two_steps_the_pressure_lies_between_them_and_outside_it_stays() -> None:
    its = Pressures({"W01": (30.0, 36.0, 33.0)})
    seen = [its.metres("W01", at) for at in (-5.0, 0.0, 100.0, 300.0, 450.0, 600.0, 9999.0)]
    assert seen == pytest.approx([30, 30, 32, 36, 34.5, 33, 33])
    assert its.kpa("W01", 0.0) == pytest.approx(294.2, abs=0.05)
    assert Pressures({"W01": (30.0,)}).metres("W01", 100.0) == 30.0
    with pytest.raises(KeyError):
        its.metres("W02", 0.0)


def test_the_network_is_looped_and_takes_all_of_the_demand() -> None:
    assert len(PIPES) >= len(JUNCTIONS) + 3
    assert sum(share for _, share, _, _ in JUNCTIONS.values()) == pytest.approx(1.0)
    assert sum(waterworks.PATTERN) / 24 == pytest.approx(1.0, abs=0.03)
    reached, frontier = {"W01"}, ["W01"]
    while frontier:
        here = frontier.pop()
        for first, second, millimetres in PIPES:
            assert millimetres >= 100
            assert math.dist(JUNCTIONS[first][2:], JUNCTIONS[second][2:]) > 0.3
            for there in {first, second} if here in (first, second) else ():
                if there not in reached:
                    reached.add(there)
                    frontier.append(there)
    assert reached == set(JUNCTIONS)


def test_sensors_stand_at_the_junction_they_name_or_at_the_next_one() -> None:
    assets = [
        Asset(f"water-{number}", "water", "", "", "", "", 116.1, 35.8, {}, {"junction": "W05"} if number == 1 else {})
        for number in range(14)
    ]
    where = junction_of([*assets, Asset("lamp-1", "lamp", "", "", "", "", 116.1, 35.8)])
    assert (where["water-0"], where["water-1"], where["water-2"], where["water-12"]) == ("W01", "W05", "W03", "W01")
    assert "lamp-1" not in where


def test_without_wntr_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not waterworks_available()
    with pytest.raises(WaterworksMissing, match=r"pip install citywatch\[water\]"):
        pressures(EIGHT, HOUR)
