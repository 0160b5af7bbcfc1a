"""The bridges: who crosses, what the girder feels of it, and what drifts."""

from __future__ import annotations

import math
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.bridges import Bridge, Bridges, moment, profile, sag
from simulators.city import Asset
from simulators.lighting import CHINA

MIDNIGHT = datetime(2025, 7, 20, 0, 0, tzinfo=CHINA)
HOUR, DAY = 3600.0, 86400.0


def bridge(limit: float = 30.0, daily: float | None = None, seed: int = 1, temperature: float = 20.0) -> Bridge:
    attributes = {"posted_limit": limit, "design_strain": 180.0, "span": 25.0}
    if daily is not None:
        attributes["daily_vehicles"] = daily
    asset = Asset("bridge-1", "bridge", "运河桥", "水泊大街", "水泊街道", "县桥梁管理所", 116.1, 35.8, {}, attributes)
    return Bridges([asset], MIDNIGHT, seed, lambda at: temperature).bridges["bridge-1"]


def empty(seed: int = 1, temperature: float = 20.0) -> Bridge:
    """One that nobody crosses unless sent."""
    return bridge(daily=1e-9, seed=seed, temperature=temperature)


# the traffic


@pytest.mark.parametrize("limit", [10.0, 20.0, 30.0, 55.0])
def test_no_ordinary_vehicle_is_near_the_limit_and_axle_loads_add_up_to_the_weight(limit: float) -> None:
    for vehicle in bridge(limit).vehicles(0.0, DAY):
        assert vehicle.gvw_t <= 0.9 * limit + 0.03  # axle loads are rounded
        assert round(sum(vehicle.axles_t), 2) == vehicle.gvw_t
        assert len(vehicle.axles_t) == len(vehicle.spacings_m) + 1
        assert min(vehicle.axles_t) > 0
        assert 15 <= vehicle.speed_km_h <= 60
        assert vehicle.lane in (1, 2)


def test_a_day_has_its_vehicles_two_peaks_and_a_quiet_night() -> None:
    its = bridge(daily=6000.0)
    hours = [len(its.vehicles(hour * HOUR, (hour + 1) * HOUR)) for hour in range(24)]
    assert sum(hours) == pytest.approx(6000, rel=0.06)
    assert max(range(12), key=hours.__getitem__) == 7
    assert max(range(12, 24), key=hours.__getitem__) == 17
    assert max(hours[0:5]) < 0.1 * max(hours)


def test_the_profile_never_exceeds_what_arrivals_are_thinned_from() -> None:
    assert max(profile(minute / 60) for minute in range(1440)) <= 1.1


def test_all_classes_cross_a_strong_bridge_and_only_light_ones_a_weak_one() -> None:
    kinds = {vehicle.kind for vehicle in bridge(55.0).vehicles(0.0, DAY)}
    assert kinds == {"car", "van", "bus", "truck-2", "truck-3", "truck-4", "truck-6"}
    assert "truck-6" not in {vehicle.kind for vehicle in bridge(20.0).vehicles(0.0, DAY)}


def test_traffic_is_the_same_whoever_asks_in_whatever_pieces() -> None:
    whole = bridge().vehicles(0.0, DAY)
    its = bridge()
    pieces = [vehicle for start in range(0, 86400, 700) for vehicle in its.vehicles(start, min(DAY, start + 700))]
    backwards = [bridge().vehicles(hour * HOUR, (hour + 1) * HOUR) for hour in (20, 3)]
    assert pieces == whole
    assert backwards == [[v for v in whole if hour * HOUR <= v.at < (hour + 1) * HOUR] for hour in (20, 3)]


# what the girder feels


def test_the_influence_lines_peak_in_the_middle_and_end_at_the_supports() -> None:
    assert [moment(x, 20.0) for x in (-1.0, 0.0, 5.0, 10.0, 15.0, 20.0, 21.0)] == [0, 0, 2.5, 5, 2.5, 0, 0]
    assert [sag(x, 20.0) for x in (0.0, 10.0, 20.0)] == [0, 1, 0]
    assert 0.6 < sag(5.0, 20.0) == sag(15.0, 20.0) < 0.7  # 11/16


@settings(max_examples=30, deadline=None)
@given(st.floats(5, 60), st.floats(5, 60), st.floats(0, 5), st.sampled_from([1, 2]))
def test_two_vehicles_strain_and_bend_the_girder_as_the_sum_of_both(
    first: float, second: float, gap: float, lane: int
) -> None:
    alone, other, both = empty(), empty(), empty()
    for its in (alone, both):
        its.overload(100.0, first)
    for its in (other, both):
        its.overload(100.0 + gap, second, lane)
    for step in range(60):
        at = 99.0 + step / 5
        assert both.load_strain_at(at) == pytest.approx(alone.load_strain_at(at) + other.load_strain_at(at))
        assert both.deflection_at(at) == pytest.approx(alone.deflection_at(at) + other.deflection_at(at))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1439))
def test_the_statistics_of_a_minute_are_those_of_many_samples(minute: int) -> None:
    its = bridge(daily=8000.0)
    at = 60.0 * (minute + 1)
    samples = [its.strain_at(at - 60 + (step + 0.5) / 20) for step in range(1200)]
    mean = sum(samples) / len(samples)
    got = its.minute(at).strain
    assert got.mean == pytest.approx(mean, abs=0.1)
    assert got.rms == pytest.approx(math.sqrt(sum((s - mean) ** 2 for s in samples) / len(samples)), abs=0.2)
    assert got.max == pytest.approx(max(samples), abs=3)
    assert got.max >= max(samples) - 1e-6
    assert got.min <= min(samples) + 1e-6


def test_the_mean_of_ten_minutes_is_the_mean_of_its_minutes() -> None:
    its = bridge(daily=8000.0)
    at = 8 * HOUR
    minutes = [its.minute(at - 60 * back).strain.mean for back in range(10)]
    assert its.strain_mean_at(at) == pytest.approx(sum(minutes) / 10, abs=1e-6)


@pytest.mark.parametrize("limit", [10.0, 20.0, 30.0, 55.0])
def test_a_normal_day_stays_far_from_the_design_values(limit: float) -> None:
    its = bridge(limit, daily=8000.0, temperature=34.0)
    minutes = [its.minute(60.0 * (number + 1)) for number in range(0, 1440, 3)]
    means = [its.strain_mean_at(60.0 * (number + 1)) for number in range(0, 1440, 3)]
    assert max(means) < 0.3 * its.design_ue
    assert max(minute.strain.max for minute in minutes) < 0.95 * its.design_ue
    assert max(minute.deflection.mean for minute in minutes) < 0.3 * its.design_mm
    peaks = sorted(
        max(its.load_strain_at(v.at + share * (v.leaves(its.span_m) - v.at)) for share in (0.4, 0.5, 0.6))
        for v in its.vehicles(7 * HOUR, 9 * HOUR)
    )
    assert peaks[int(0.85 * len(peaks))] < 0.4 * its.design_ue


def test_an_overloaded_convoy_shows_in_weights_and_strain() -> None:
    its = bridge(30.0)
    before = its.minute(10 * HOUR + 60).strain.max
    convoy = its.convoy(10 * HOUR + 5, [48.0, 52.0, 61.0])
    after = its.minute(10 * HOUR + 60)
    assert [vehicle.gvw_t for vehicle in convoy] == pytest.approx([48.0, 52.0, 61.0], abs=0.03)
    assert after.heaviest_t == convoy[-1].gvw_t > 1.5 * its.limit_t
    assert after.strain.max > before + 30
    assert [v for v in its.vehicles(10 * HOUR, 10 * HOUR + 60) if v.gvw_t > 30] == convoy


def test_a_vehicle_in_the_far_lane_is_felt_less() -> None:
    near, far = empty(), empty()
    near.overload(10.0, 30.0, lane=1)
    far.overload(10.0, 30.0, lane=2)
    assert far.load_strain_at(12.0) == pytest.approx(0.7 * near.load_strain_at(12.0))


def test_temperature_comes_late_and_mostly_leaves_the_mean_of_ten_minutes_alone() -> None:
    asset = empty().asset
    its = Bridges([asset], MIDNIGHT, 1, lambda at: 20.0 if at < HOUR else 30.0).bridges["bridge-1"]
    course = [its.structure_c(at) for at in (HOUR - 1, HOUR + 1, 2 * HOUR, 4 * HOUR, 8 * HOUR)]
    assert course[0] == pytest.approx(20.0)
    assert course == sorted(course)
    assert course[1] < 23
    assert course[2] < 26
    assert course[4] == pytest.approx(30.0)
    raw = its.strain_at(8 * HOUR) - its.strain_at(HOUR - 1)
    assert raw == pytest.approx(18.0)
    assert its.strain_mean_at(8 * HOUR) - its.strain_mean_at(HOUR - 1) == pytest.approx(0.05 * 18.0)


def test_a_drift_goes_on_from_where_it_stood_until_it_is_reset() -> None:
    its = empty()
    zero = its.strain_mean_at(HOUR)
    its.strain_drifts(HOUR, 10.0)
    its.strain_drifts(3 * HOUR, 0.0)
    its.strain_jumps(5 * HOUR, 40.0)
    its.strain_reset(6 * HOUR)
    seen = [its.strain_mean_at(hour * HOUR) - zero for hour in (1, 2, 3, 4, 5, 6, 7)]
    assert seen == pytest.approx([0, 10, 20, 20, 60, 0, 0])


def test_tilt_and_crack_grow_as_told() -> None:
    its = empty()
    its.tilt_drifts(0.0, 0.01)
    its.crack_grows(0.0, 0.02)
    assert its.tilt_at(DAY) - its.tilt_at(0.0) == pytest.approx(0.24)
    assert its.crack_at(7 * DAY) - its.crack_at(0.0) == pytest.approx(0.14)
    assert 0 < its.crack_at(0.0) < 0.25


def test_a_loose_sensor_jumps_about_and_feels_little_of_the_load() -> None:
    its = bridge(daily=6000.0)
    its.sensor_loosens(10 * HOUR)
    calm = [its.strain_at(9 * HOUR + 60 * minute) for minute in range(50)]
    loose = [its.strain_at(10 * HOUR + 60 * minute) for minute in range(50)]
    assert max(loose) - min(loose) > 60 > max(calm) - min(calm) - 60
    assert its.minute(10.5 * HOUR).strain.rms < bridge(daily=6000.0).minute(10.5 * HOUR).strain.rms
    its.sensor_fixed(11 * HOUR)
    assert its.strain_at(11.5 * HOUR) == bridge(daily=6000.0).strain_at(11.5 * HOUR)


def test_asking_often_or_seldom_gives_the_same_bridge() -> None:
    often, seldom = bridge(), bridge()
    for minute in range(600):
        often.minute(60.0 * (minute + 1))
        often.strain_mean_at(60.0 * (minute + 1))
    at = 10 * HOUR
    assert often.minute(at) == seldom.minute(at)
    assert often.strain_mean_at(at) == seldom.strain_mean_at(at)
    assert often.on_pad_at(at) == seldom.on_pad_at(at)


def test_the_pad_weighs_heavy_vehicles_only_and_is_mostly_empty() -> None:
    its = bridge(daily=4000.0)
    weights = [its.on_pad_at(8 * HOUR + 5.0 * step) for step in range(720)]
    assert all(weight == 0 or 3.5 <= weight <= 27.03 for weight in weights)
    assert 0 < sum(weight > 0 for weight in weights) < 360
