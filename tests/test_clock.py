"""Gateway time: never back, never a step, whatever the wall clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import EARLIEST, SLEW_PER_CHECK, STEP, Clock
from gateway.core.model import HOUR, MINUTE, SECOND, Micros

NOON: Micros = EARLIEST + 500 * 24 * HOUR


class Times:
    """A wall clock and a monotonic clock that a test moves by hand."""

    def __init__(self, wall: Micros = NOON) -> None:
        self.wall_at = wall
        self.monotonic_at: Micros = 7 * HOUR

    def wall(self) -> int:
        return self.wall_at * 1000

    def monotonic(self) -> int:
        return self.monotonic_at * 1000

    def pass_(self, time: Micros) -> None:
        self.wall_at += time
        self.monotonic_at += time

    def clock(self, last_received_at: Micros = 0) -> Clock:
        return Clock(last_received_at, wall=self.wall, monotonic=self.monotonic)


def test_time_passes_with_the_monotonic_clock() -> None:
    times = Times()
    clock = times.clock()
    times.pass_(10 * SECOND)
    assert clock.now() == NOON + 10 * SECOND


def test_a_wall_clock_a_day_ahead_is_reported_once_and_not_believed() -> None:
    times = Times()
    clock = times.clock()
    times.wall_at += 24 * HOUR
    report = clock.check()
    assert report.uncertain
    assert report.changed
    times.pass_(SECOND)
    assert not clock.check().changed
    assert clock.now() == NOON + SECOND


def test_a_wall_clock_that_comes_back_ends_the_uncertainty_without_a_step() -> None:
    times = Times()
    clock = times.clock()
    times.wall_at += 24 * HOUR
    clock.check()
    times.wall_at -= 24 * HOUR
    report = clock.check()
    assert not report.uncertain
    assert report.changed
    assert clock.now() == NOON


def test_a_small_difference_is_slewed_away() -> None:
    times = Times()
    clock = times.clock()
    times.wall_at += SECOND
    for _ in range(200):
        times.pass_(SECOND)
        clock.check()
    assert clock.now() == times.wall_at


def test_slewing_back_never_makes_time_go_back() -> None:
    times = Times()
    clock = times.clock()
    times.wall_at -= 10 * SECOND
    before = clock.now()
    clock.check()
    assert clock.now() >= before


def test_a_wall_clock_of_1970_at_start_goes_on_from_the_journal() -> None:
    times = Times(wall=0)
    clock = times.clock(last_received_at=NOON)
    assert clock.uncertain
    times.pass_(5 * SECOND)
    assert clock.now() == NOON + 5 * SECOND


def test_a_wrong_clock_at_start_is_re_anchored_once_when_it_is_set() -> None:
    times = Times(wall=0)
    clock = times.clock(last_received_at=NOON)
    times.pass_(SECOND)
    times.wall_at = NOON + HOUR
    report = clock.check()
    assert report.reanchored
    assert clock.now() == NOON + HOUR
    times.wall_at += 24 * HOUR
    assert not clock.check().reanchored
    assert clock.now() == NOON + HOUR


def test_a_clock_behind_the_journal_by_less_than_a_second_is_not_wrong() -> None:
    assert not Times().clock(last_received_at=NOON + SECOND // 2).uncertain


@given(st.lists(st.tuples(st.integers(0, 5 * MINUTE), st.integers(-48 * HOUR, 48 * HOUR)), max_size=50))
def test_time_never_goes_back_and_never_runs_more_than_the_slew_ahead(moves: list[tuple[int, int]]) -> None:
    times = Times()
    clock = times.clock()
    before = clock.now()
    for passed, step in moves:
        times.pass_(passed)
        times.wall_at += step
        clock.check()
        now = clock.now()
        assert before <= now <= before + passed + SLEW_PER_CHECK
        before = now
        if step > STEP:
            times.wall_at -= step
