"""Storms add up to what their formula says, and warm days are warm in the afternoon."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.weather import FORMULAS, Blocks, ChicagoStorm, IntensityFormula, Shower, Storm, Weather

JINAN = FORMULAS["jinan"]

# Shenzhen's official table of 2024: the numerator is already multiplied out for its return period, so C is 0 here.
SHENZHEN = [
    pytest.param(5013.674, 21.838, 0.657, 60, 99.719, id="west, 20 years, an hour"),
    pytest.param(3487.962, 16.257, 0.537, 180, 220.740, id="west, 100 years, three hours"),
    pytest.param(5226.599, 21.591, 0.703, 30, 58.706, id="middle, 10 years, half an hour"),
    pytest.param(3120.729, 12.940, 0.572, 120, 136.770, id="Shenshan, 20 years, two hours"),
]


@pytest.mark.parametrize(("numerator", "b", "n", "minutes", "depth_mm"), SHENZHEN)
def test_a_verified_formula_gives_the_published_depth(
    numerator: float, b: float, n: float, minutes: float, depth_mm: float
) -> None:
    formula = IntensityFormula(numerator / 167, 0.0, b, n, source="Shenzhen 2024", verified=True)
    assert formula.depth_mm(20, minutes) == pytest.approx(depth_mm, abs=0.001)


@pytest.mark.parametrize(
    ("town", "return_period", "depths_mm"),
    [
        ("jinan", 2, {5: 11.6, 10: 18.7, 15: 24.0, 30: 35.0, 60: 48.7, 120: 65.7, 180: 77.7}),
        ("jinan", 5, {5: 14.9, 10: 24.2, 15: 31.0, 30: 45.2, 60: 62.8, 120: 84.8, 180: 100.2}),
        ("jinan", 20, {5: 20.0, 10: 32.4, 15: 41.5, 30: 60.5, 60: 84.1, 120: 113.6, 180: 134.3}),
        ("jinan", 50, {5: 23.3, 10: 37.8, 15: 48.5, 30: 70.7, 60: 98.2, 120: 132.6, 180: 156.8}),
        ("jining", 2, {5: 9.9, 10: 17.0, 15: 22.4, 30: 33.6, 60: 46.6, 120: 60.9, 180: 70.0}),
        ("jining", 20, {5: 16.9, 10: 28.9, 15: 38.2, 30: 57.3, 60: 79.5, 120: 103.8, 180: 119.2}),
    ],
)
def test_the_shandong_formulas_give_the_depths_noted_for_them(
    town: str, return_period: float, depths_mm: dict[int, float]
) -> None:
    for minutes, depth_mm in depths_mm.items():
        assert FORMULAS[town].depth_mm(return_period, minutes) == pytest.approx(depth_mm, abs=0.051)


def test_nobody_has_verified_the_shandong_formulas_and_they_say_so() -> None:
    assert all(not formula.verified and formula.source for formula in FORMULAS.values())


def test_the_jinan_storm_of_twenty_years_is_the_noted_one_bin_for_bin() -> None:
    noted = (
        "2.054 2.219 2.424 2.686 3.035 3.528 4.286 5.638 8.869 19.430 12.685 7.924 "
        "5.935 4.830 4.121 3.624 3.254 2.966 2.735 2.545 2.386 2.250 2.132 2.028"
    )
    bins = ChicagoStorm(JINAN, 20, 120).bins(5)
    assert bins == pytest.approx([float(word) for word in noted.split()], abs=0.0006)
    assert sum(bins) == pytest.approx(113.585, abs=0.001)


storms = st.builds(
    ChicagoStorm,
    formula=st.builds(
        IntensityFormula,
        a1=st.floats(2, 40),
        c=st.floats(0, 1.5),
        b=st.floats(2, 30),
        n=st.floats(0.4, 0.95),
        source=st.just("invented"),
        verified=st.just(False),
    ),
    return_period=st.sampled_from([1, 2, 5, 20, 50, 100]),
    duration_min=st.integers(20, 360),
    peak_ratio=st.floats(0.2, 0.8),
)


@given(storms, st.sampled_from([1.0, 5.0, 7.0, 10.0]))
def test_a_storm_holds_what_its_formula_says_and_has_one_peak(storm: ChicagoStorm, minutes: float) -> None:
    bins = storm.bins(minutes)
    assert sum(bins) == pytest.approx(storm.formula.depth_mm(storm.return_period, storm.duration_min), rel=1e-9)
    assert min(bins) > 0
    # The last piece may be a short one, so it is left out of the comparison.
    whole = bins[: int(storm.duration_min // minutes)]
    peak = whole.index(max(whole))
    assert abs(peak + 0.5 - storm.peak_min / minutes) <= 1
    assert list(whole[: peak + 1]) == sorted(whole[: peak + 1])
    assert list(whole[peak:]) == sorted(whole[peak:], reverse=True)


@given(storms)
def test_the_peak_bin_holds_the_moment_of_the_peak(storm: ChicagoStorm) -> None:
    bins = storm.bins(storm.duration_min / 40)
    place = storm.peak_min / (storm.duration_min / 40)
    assert bins[min(39, int(place))] >= 0.5 * max(bins)
    assert storm.intensity_mm_h(60 * storm.peak_min) >= max(bins) * 60 / (storm.duration_min / 40)


@given(storms, st.floats(0.01, 0.99))
def test_intensity_is_how_fast_the_depth_grows(storm: ChicagoStorm, share: float) -> None:
    at = share * storm.duration_s
    if abs(at - 60 * storm.peak_min) < 2:
        return  # the peak is a cusp
    grown = (storm.fallen_mm(at + 0.5) - storm.fallen_mm(at - 0.5)) * 3600
    assert storm.intensity_mm_h(at) == pytest.approx(grown, rel=1e-3)


def test_it_does_not_rain_before_or_after_a_storm() -> None:
    storm = ChicagoStorm(JINAN, 20, 120)
    assert storm.intensity_mm_h(-1) == storm.intensity_mm_h(7201) == 0
    assert storm.fallen_mm(-100) == 0
    assert storm.fallen_mm(1e6) == storm.fallen_mm(7200)


def test_a_shower_adds_up_to_half_its_peak_over_its_time() -> None:
    shower = Shower(peak_mm_h=10, duration_s=3600)
    assert shower.total_mm == pytest.approx(5.0)
    assert shower.fallen_mm(3600) == pytest.approx(5.0)
    assert shower.intensity_mm_h(1800) == pytest.approx(10.0)
    assert shower.intensity_mm_h(0) == pytest.approx(0.0)


@pytest.mark.parametrize("storm", [ChicagoStorm(JINAN, 2, 60), Shower(20, 1800), Blocks((1.0, 4.0, 2.0), 300.0)])
def test_every_rain_adds_up_to_its_intensities(storm: Storm) -> None:
    summed = math.fsum(storm.intensity_mm_h(at + 0.5) / 3600 for at in range(int(storm.duration_s)))
    assert storm.fallen_mm(storm.duration_s) == pytest.approx(summed, rel=2e-3)


def test_rain_of_several_events_adds_up_exactly_whatever_the_steps() -> None:
    storm, shower = ChicagoStorm(JINAN, 5, 60), Shower(8, 1200)
    weather = Weather([(100.0, storm), (3000.0, shower)])
    whole = weather.fallen_mm(0, 10_000)
    assert whole == pytest.approx(storm.fallen_mm(1e9) + shower.total_mm)
    assert sum(weather.fallen_mm(at, at + 5) for at in range(0, 10_000, 5)) == pytest.approx(whole, rel=1e-9)
    assert weather.intensity(50) == 0
    assert weather.intensity(3600) > storm.intensity_mm_h(3500)


def test_the_weather_knows_when_the_next_rain_begins() -> None:
    weather = Weather([(100.0, Shower(8, 200)), (1000.0, Shower(8, 200))])
    assert weather.dry_until(0) == 100
    assert weather.dry_until(150) == 150
    assert weather.dry_until(500) == 1000
    assert weather.dry_until(5000) == math.inf


def test_the_day_is_warmest_at_three_and_coldest_before_sunrise() -> None:
    weather = Weather(mean_temperature_c=20, daily_swing_c=10, local_midnight_offset_s=-3600.0)
    course = {at: weather.temperature_c(at) for at in range(0, 86400, 300)}
    assert max(course, key=course.__getitem__) == 14 * 3600
    assert min(course, key=course.__getitem__) == 4 * 3600
    assert max(course.values()) == pytest.approx(25)
    assert min(course.values()) == pytest.approx(15)
    steps = [abs(weather.temperature_c(at + 300) - weather.temperature_c(at)) for at in course]
    assert max(steps) < 0.2
