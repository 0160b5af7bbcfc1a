"""Counters that wrap or begin anew become totals that only grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.counters import UNBOUNDED, Counters
from gateway.core.model import SECOND, Quality, Reading

WRAP = 16_777.216


def reading(second: float, value: float | None, historical: bool = False) -> Reading:
    quality = Quality.GOOD if value is not None else Quality.BAD
    at = round(second * SECOND)
    return Reading("lamp", "energy", value, quality, at, at, "lc", None, historical, None, True)


def totals(*readings: Reading, wraps_at: float = WRAP) -> list[object]:
    counters = Counters()
    return [counters.totals("lc", [one], {"energy": wraps_at})[0].value for one in readings]


def test_a_wrap_goes_on_and_a_reset_too() -> None:
    assert totals(reading(0, 16_777), reading(1, 0.5), reading(2, 1.5)) == [16_777, 16_777.716, 16_778.716]
    assert totals(reading(0, 500), reading(1, 20), reading(2, 30)) == [500, 520, 530]
    assert totals(reading(0, 5e6), reading(1, 1), wraps_at=UNBOUNDED) == [5e6, 5_000_001]


def test_what_was_measured_before_moves_nothing() -> None:
    told = totals(
        reading(10, 16_777), reading(20, 0.5), reading(5, 16_776.5), reading(15, 0.25, True), reading(21, 0.75)
    )
    assert told == [16_777, 16_777.716, 16_776.5, 16_777.466, 16_777.966]


def test_a_bad_reading_and_other_points_stay_as_they_are() -> None:
    assert totals(reading(0, 10), reading(1, None), reading(2, 11)) == [10, None, 11]
    other = reading(3, 4)
    assert Counters().totals("lc", [other], {"starts": WRAP}) == [other]


@given(st.lists(st.floats(0, 5_000, allow_nan=False), min_size=1, max_size=40))
def test_a_counter_of_24_bits_read_often_enough_is_the_sum_of_its_steps(steps: list[float]) -> None:
    counters, true = Counters(), 0.0
    for second, step in enumerate(steps):
        true += step
        [told] = counters.totals("lc", [reading(second, true % WRAP)], {"energy": WRAP})
        assert isinstance(told.value, (int, float))
        assert abs(told.value - true) < 1e-6
