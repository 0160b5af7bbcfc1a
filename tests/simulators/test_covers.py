"""The covers: what moves them, what water does to them, and what their sensors see."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.city import Asset, inclinations
from simulators.covers import AREA_M2, Cover, Covers, CoverState

DAY = 86400.0


def cover(temperature: float = 20.0, **attributes: float) -> tuple[Covers, Cover]:
    asset = Asset("cover-1", "manhole", "雨水井盖", "青年路", "梁山街道", "县市政养护中心", 116.1, 35.8, {}, attributes)
    covers = Covers([asset], 1, lambda at: temperature)
    return covers, covers.covers["cover-1"]


def test_a_cover_at_rest_lies_as_it_was_installed() -> None:
    covers, its = cover(baseline_tilt=2.5)
    covers.now = DAY
    assert (its.lean, its.tilt, its.state, its.water, its.shock) == (2.5, 0.0, CoverState.CLOSED, False, False)


def test_a_three_axis_sensor_reports_the_angles_its_baseline_had() -> None:
    x, y, z = inclinations(3.2, 1.1)
    _, its = cover(baseline_x=x, baseline_y=y, baseline_z=z)
    assert its.inclinations == pytest.approx((x, y, z), abs=0.1)
    assert its.towards == pytest.approx(1.1, abs=0.01)


def test_an_opened_cover_is_open_and_the_crew_leaves_it_almost_as_it_was() -> None:
    covers, its = cover(baseline_tilt=2.0)
    its.opened(100.0, 70.0)
    its.closed(500.0)
    assert (its.state_at(99.0), its.state_at(100.0), its.state_at(500.0)) == ("closed", "open", "closed")
    covers.now = 600.0
    assert 0 <= its.tilt <= 1.5


def test_a_stolen_cover_is_missing_and_its_sensor_tumbles() -> None:
    _, its = cover()
    its.stolen(100.0)
    assert its.state_at(101.0) is CoverState.MISSING
    assert 60 <= its.tilt_at(101.0) <= 120


def test_a_shifted_cover_leans_by_less_than_the_alarm_and_counts_as_closed() -> None:
    _, its = cover()
    its.shifted(100.0)
    assert 5 <= its.tilt_at(200.0) < 15
    assert its.state_at(200.0) is CoverState.CLOSED


def test_a_shock_is_over_within_two_seconds_and_changes_nothing() -> None:
    _, its = cover(baseline_tilt=1.0)
    its.shaken(100.0, 30.0)
    assert its.tilt_at(99.9) == 0
    assert its.tilt_at(100.0) == 30
    assert its.shock_at(101.0)
    assert 0 < its.tilt_at(101.0) < 30
    assert its.tilt_at(102.0) == 0
    assert not its.shock_at(102.0)
    assert its.state_at(100.0) is CoverState.CLOSED


@settings(deadline=None)
@given(st.floats(40, 90))
def test_water_lifts_a_cover_when_its_pressure_bears_the_weight(mass: float) -> None:
    _, its = cover(mass_kg=mass)
    head = its.lift_head_m
    assert head * 1000 * AREA_M2 * 9.81 == pytest.approx(mass * 9.81)
    its.surcharge(100.0, head - 0.001)
    assert not its.floats_at(100.0)
    its.surcharge(200.0, head + 0.001)
    assert its.floats_at(200.0)


def test_a_cover_that_floated_lies_ajar_or_open_when_the_water_has_gone() -> None:
    ends = set()
    for number in range(40):
        asset = Asset(f"cover-{number}", "manhole", "", "", "", "", 116.1, 35.8, {}, {"mass_kg": 50.0})
        its = Covers([asset], 1).covers[asset.asset]
        for at, head in ((60.0, 0.05), (120.0, 0.2), (180.0, 0.3), (240.0, 0.1), (300.0, 0.0), (360.0, -0.5)):
            its.surcharge(at, head)
        assert its.state_at(100.0) is CoverState.CLOSED
        assert its.state_at(150.0) is CoverState.AJAR
        assert its.tilt_at(150.0) > 15
        assert its.floats_at(250.0)
        assert not its.floats_at(300.0)
        ends.add(its.state_at(400.0))
    assert ends == {CoverState.AJAR, CoverState.OPEN}


def test_the_water_float_is_wet_from_thirty_centimetres_below_the_cover() -> None:
    _, its = cover()
    changes = [
        its.water_stands(at, freeboard) for at, freeboard in ((10.0, 1.0), (20.0, 0.29), (30.0, 0.1), (40.0, 0.5))
    ]
    assert changes == [False, True, False, True]
    assert [its.water_at(at) for at in (15.0, 25.0, 35.0, 45.0)] == [False, True, True, False]
    assert its.freeboard_m == 0.5


def test_an_open_or_missing_cover_does_not_float() -> None:
    _, its = cover()
    its.stolen(10.0)
    its.surcharge(20.0, 1.0)
    its.surcharge(30.0, 0.0)
    assert its.state_at(40.0) is CoverState.MISSING


def test_the_battery_goes_down_evenly_and_seems_lower_in_the_cold() -> None:
    _, warm = cover(20.0)
    _, cold = cover(-5.0)
    day, tenth = (warm.battery_at(0.0) - warm.battery_at(days * DAY) for days in (1, 10))
    assert 0 < 10 * day == pytest.approx(tenth)
    assert warm.battery_at(0.0) - cold.battery_at(0.0) == pytest.approx(4.5)
    warm.battery_is(DAY, 18.0, 24.0)
    assert warm.battery_at(1.5 * DAY) == pytest.approx(6.0)
    assert warm.battery_at(3 * DAY) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1000), max_size=30))
def test_asking_often_or_seldom_gives_the_same_lie(asked: list[float]) -> None:
    def story(ask: list[float]) -> list[float]:
        covers, its = cover(baseline_tilt=1.5)
        acts: list[tuple[float, Callable[[], object]]] = [
            (100.0, lambda: its.shifted(100.0)),
            (200.0, lambda: its.surcharge(200.0, 0.4)),
            (300.0, lambda: its.surcharge(300.0, -1.0)),
            (400.0, lambda: its.closed(400.0)),
            (500.0, lambda: its.shaken(500.0)),
        ]
        for at, act in acts:
            for asks in ask:
                if asks < at:
                    its.lean_at(asks)
            act()
        covers.now = 600.0
        return [*(its.lean_at(at) for at in (50.0, 150.0, 250.0, 350.0, 450.0, 500.5, 600.0)), its.battery]

    assert story(asked) == story([])


def test_acts_out_of_order_are_refused() -> None:
    _, its = cover()
    its.opened(100.0)
    with pytest.raises(ValueError, match=r"an act at 50\.0 s after one at 100\.0 s"):
        its.closed(50.0)


def test_a_lean_is_never_more_than_upside_down() -> None:
    _, its = cover(baseline_tilt=5.0)
    its.opened(1.0, 179.0)
    assert its.lean_at(2.0) == 180
    assert math.isfinite(its.lean_at(2.0))
