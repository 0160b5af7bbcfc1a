"""The four clocks of a case: the worked cases of a city's platform, holidays with make-up days, summer time, laws."""

from __future__ import annotations

import time as clock
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.case_clock import CLOCKS, DAY, LONGEST, Calendar, deadline, elapsed, reached
from gateway.core.model import HOUR, MINUTE, SECOND, Micros


def days(month: int, *numbers: int, year: int = 2026) -> set[date]:
    return {date(year, month, number) for number in numbers}


PLAIN = Calendar()
# Spring Festival 2026: off from Sunday 15 to Monday 23 February, worked on the Saturdays before and after.
COUNTY = Calendar(
    holidays=frozenset(days(2, 16, 17, 18, 19, 20, 23) | days(10, 1, 2, 5, 6, 7)), workdays=frozenset(days(2, 14, 28))
)
BERLIN = Calendar("Europe/Berlin")
NOBODY_WORKS = Calendar(weekend=frozenset(range(7)))
ROUND_THE_CLOCK = Calendar("Europe/Berlin", hours=((time(0), time(0)),), weekend=frozenset())


def at(text: str, zone: str = "Asia/Shanghai") -> Micros:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1e6)


def shown(moment: Micros, zone: str = "Asia/Shanghai") -> str:
    return f"{datetime.fromtimestamp(moment / 1e6, ZoneInfo(zone)):%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("why", "clock", "opened", "lasts", "over"),
    [
        # 2025-07-18 is a Friday.
        ("half an hour on Friday, the rest on Monday", "working_hours", "2025-07-18T17:30", 4 * HOUR, "07-21 11:30"),
        ("opened on a Saturday: all of it on Monday", "working_hours", "2025-07-19T10:00", 4 * HOUR, "07-21 12:00"),
        ("half an hour before noon, half after it", "working_hours", "2025-07-17T11:30", HOUR, "07-17 14:30"),
        ("an urgent case knows no evening", "urgent", "2025-07-18T17:30", 4 * HOUR, "07-18 21:30"),
        ("what ends with the morning's work ends at noon", "working_hours", "2025-07-17T11:00", HOUR, "07-17 12:00"),
        ("opened at noon", "working_hours", "2025-07-17T12:00", HOUR, "07-17 15:00"),
        ("opened before work begins", "working_hours", "2025-07-17T03:00", HOUR, "07-17 09:00"),
        ("opened after work", "working_hours", "2025-07-17T22:00", HOUR, "07-18 09:00"),
        ("24 working hours are three days", "working_hours", "2025-07-17T09:00", 24 * HOUR, "07-22 09:00"),
        ("opened at work: the day is not counted", "working_days", "2025-07-17T09:00", DAY, "07-18 18:00"),
        ("nor at whatever hour it was opened", "working_days", "2025-07-17T23:00", DAY, "07-18 18:00"),
        ("nor before work began", "working_days", "2025-07-17T00:00", DAY, "07-18 18:00"),
        ("from Friday to Monday", "working_days", "2025-07-18T09:00", DAY, "07-21 18:00"),
        ("opened on Sunday: Monday is the first day", "working_days", "2025-07-20T09:00", DAY, "07-21 18:00"),
        ("three working days over a weekend", "working_days", "2025-07-17T16:00", 3 * DAY, "07-22 18:00"),
        ("half a working day is the morning", "working_days", "2025-07-17T16:00", DAY // 2, "07-18 12:00"),
        ("seven days to the same time", "natural_days", "2025-07-18T17:30", 7 * DAY, "07-25 17:30"),
        ("weekends count", "natural_days", "2025-07-18T17:30", DAY, "07-19 17:30"),
        ("hours of a natural day", "natural_days", "2025-07-18T17:30", 6 * HOUR, "07-18 23:30"),
        ("a month", "natural_days", "2025-07-18T17:30", 30 * DAY, "08-17 17:30"),
    ],
)
def test_a_time_is_over(why: str, clock: str, opened: str, lasts: Micros, over: str) -> None:
    assert shown(deadline(clock, at(opened), lasts, PLAIN)) == over, why


@pytest.mark.parametrize(
    ("why", "clock", "opened", "lasts", "over"),
    [
        ("the Saturday before the festival is worked", "working_hours", "2026-02-13T17:30", 4 * HOUR, "02-14 11:30"),
        ("then nine days off", "working_hours", "2026-02-14T17:00", 2 * HOUR, "02-24 09:00"),
        ("the Saturday after it is worked too", "working_days", "2026-02-27T10:00", DAY, "02-28 18:00"),
        ("three working days over the whole festival", "working_days", "2026-02-13T10:00", 3 * DAY, "02-25 18:00"),
        ("opened on New Year's Eve", "working_days", "2026-02-16T20:00", DAY, "02-24 18:00"),
        ("an urgent case goes on through it", "urgent", "2026-02-16T20:00", 4 * HOUR, "02-17 00:00"),
        ("natural days count holidays", "natural_days", "2026-02-14T10:00", 7 * DAY, "02-21 10:00"),
        ("from September over the National Day week", "working_hours", "2026-09-30T16:00", 4 * HOUR, "10-08 10:00"),
    ],
)
def test_holidays_and_the_days_worked_for_them(why: str, clock: str, opened: str, lasts: Micros, over: str) -> None:
    assert shown(deadline(clock, at(opened), lasts, COUNTY)) == over, why


def test_a_day_both_holiday_and_worked_is_worked() -> None:
    calendar = Calendar(holidays=frozenset(days(2, 18)), workdays=frozenset(days(2, 18)))
    assert calendar.is_workday(date(2026, 2, 18))


def test_a_time_goes_on_over_the_end_of_the_year() -> None:
    assert shown(deadline("working_hours", at("2025-12-31T17:00"), 3 * HOUR, PLAIN)) == "01-01 10:00"
    assert shown(deadline("working_days", at("2025-12-30T17:00"), 2 * DAY, PLAIN)) == "01-01 18:00"
    used = elapsed("working_hours", at("2024-12-31T17:00"), at("2026-01-01T09:00"), PLAIN)
    # 31 December, all 261 working days of 2025, and an hour.
    assert used == HOUR + 261 * 8 * HOUR + HOUR


def test_the_share_of_a_time_that_counts_work_is_reached_at_work() -> None:
    opened = at("2025-07-18T17:30")
    assert shown(reached("working_days", opened, DAY, 0.75, PLAIN)) == "07-21 16:00"
    assert shown(reached("working_days", opened, 3 * DAY, 0.5, PLAIN)) == "07-22 12:00"
    assert shown(reached("working_hours", opened, 4 * HOUR, 0.75, PLAIN)) == "07-21 10:30"
    assert shown(reached("urgent", opened, 4 * HOUR, 0.75, PLAIN)) == "07-18 20:30"
    assert reached("working_days", opened, DAY, 1.0, PLAIN) == deadline("working_days", opened, DAY, PLAIN)
    assert reached("working_days", opened, DAY, 0.0, PLAIN) == opened


def test_how_much_is_used_stands_still_while_nobody_works() -> None:
    opened = at("2025-07-18T17:30")
    at_close = elapsed("working_hours", opened, at("2025-07-18T18:00"), PLAIN)
    assert at_close == 30 * MINUTE
    assert elapsed("working_hours", opened, at("2025-07-21T08:00"), PLAIN) == at_close
    assert elapsed("working_hours", opened, at("2025-07-21T08:01"), PLAIN) == at_close + MINUTE
    assert elapsed("working_days", opened, at("2025-07-21T08:00"), PLAIN) == 0
    assert elapsed("working_days", opened, at("2025-07-21T12:30"), PLAIN) == DAY // 2
    assert elapsed("working_days", opened, at("2025-07-21T18:00"), PLAIN) == DAY


def test_summer_time_moves_no_office_hour_and_makes_no_day_shorter() -> None:
    # In Berlin the clocks went forward on Sunday 30 March 2025 at 2:00, and back on Sunday 26 October at 3:00.
    friday = at("2025-03-28T17:30", BERLIN.timezone)
    assert shown(deadline("working_hours", friday, 4 * HOUR, BERLIN), BERLIN.timezone) == "03-31 11:30"
    assert shown(deadline("natural_days", friday, 7 * DAY, BERLIN), BERLIN.timezone) == "04-04 17:30"
    assert deadline("natural_days", friday, 7 * DAY, BERLIN) - friday == 7 * DAY - HOUR
    assert shown(deadline("urgent", friday, 7 * DAY, BERLIN), BERLIN.timezone) == "04-04 18:30"
    into_the_gap = at("2025-03-29T02:30", BERLIN.timezone)
    assert shown(deadline("natural_days", into_the_gap, DAY, BERLIN), BERLIN.timezone) == "03-30 03:30"
    autumn = at("2025-10-25T12:00", BERLIN.timezone)
    assert deadline("natural_days", autumn, DAY, BERLIN) - autumn == 25 * HOUR
    assert elapsed("natural_days", autumn, autumn + 25 * HOUR, BERLIN) == DAY


def test_a_day_worked_round_the_clock_has_as_many_hours_as_the_clock_gives_it() -> None:
    begin = at("2025-03-29T00:00", "Europe/Berlin")
    assert elapsed("working_hours", begin, at("2025-03-31T00:00", "Europe/Berlin"), ROUND_THE_CLOCK) == 47 * HOUR
    assert elapsed("working_days", begin - 1, at("2025-03-31T00:00", "Europe/Berlin"), ROUND_THE_CLOCK) == 2 * DAY


def test_an_hour_that_two_spans_fall_into_when_clocks_go_forward_is_worked_once() -> None:
    nights = Calendar("Europe/Berlin", hours=((time(2), time(2, 30)), (time(3), time(4))), weekend=frozenset())
    begin, end = at("2025-03-30T00:00", "Europe/Berlin"), at("2025-03-30T12:00", "Europe/Berlin")
    assert elapsed("working_hours", begin, end, nights) == HOUR


def test_a_date_line_that_swallows_a_day_breaks_nothing() -> None:
    samoa = Calendar("Pacific/Apia")  # went from 29 to 31 December 2011
    begin = at("2011-12-28T12:00", samoa.timezone)
    for lasts in range(0, 5 * DAY, 7 * HOUR):
        assert elapsed("natural_days", begin, deadline("natural_days", begin, lasts, samoa), samoa) >= lasts


@pytest.mark.parametrize("clock_", ["working_hours", "working_days"])
def test_where_nobody_ever_works_a_time_ends_after_ten_years(clock_: str) -> None:
    begin = at("2025-07-18T17:30")
    assert deadline(clock_, begin, HOUR, NOBODY_WORKS) == begin + LONGEST
    assert elapsed(clock_, begin, begin + DAY * 900, NOBODY_WORKS) == 0


@pytest.mark.parametrize("clock_", CLOCKS)
def test_nothing_ends_later_than_ten_years(clock_: str) -> None:
    begin = at("2025-07-18T17:30")
    assert deadline(clock_, begin, 5000 * DAY, PLAIN) == begin + LONGEST


@pytest.mark.parametrize("clock_", CLOCKS)
def test_no_time_at_all_is_over_at_once(clock_: str) -> None:
    assert deadline(clock_, at("2025-07-19T03:00"), 0, PLAIN) == at("2025-07-19T03:00")


def test_a_clock_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no clock sundial"):
        deadline("sundial", 0, HOUR, PLAIN)
    with pytest.raises(ValueError, match="no clock sundial"):
        elapsed("sundial", 0, HOUR, PLAIN)


# -- laws -------------------------------------------------------------------------------------------------------------

CALENDARS = st.sampled_from([PLAIN, COUNTY, BERLIN, ROUND_THE_CLOCK, Calendar("America/New_York")])
MOMENTS = st.integers(at("2024-12-01T00:00"), at("2027-12-01T00:00"))
TIMES = st.integers(1, 90 * DAY)


@given(st.sampled_from(CLOCKS), CALENDARS, MOMENTS, TIMES)
def test_the_deadline_is_the_first_moment_at_which_the_time_is_used(
    clock_: str, calendar: Calendar, start: Micros, lasts: Micros
) -> None:
    over = deadline(clock_, start, lasts, calendar)
    assert over > start
    assert elapsed(clock_, start, over, calendar) >= lasts
    assert elapsed(clock_, start, over - 1, calendar) < lasts
    if clock_ in ("urgent", "working_hours"):
        assert elapsed(clock_, start, over, calendar) == lasts


@given(st.sampled_from(CLOCKS), CALENDARS, MOMENTS, TIMES, TIMES)
def test_more_time_is_never_over_earlier_and_what_is_used_never_becomes_less(
    clock_: str, calendar: Calendar, start: Micros, one: Micros, more: Micros
) -> None:
    assert deadline(clock_, start, one, calendar) <= deadline(clock_, start, one + more, calendar)
    assert elapsed(clock_, start, start + one, calendar) <= elapsed(clock_, start, start + one + more, calendar)
    if clock_ != "natural_days" or calendar in (PLAIN, COUNTY):  # else 2:45 may come before 2:30 in an autumn night
        assert deadline(clock_, start, one, calendar) <= deadline(clock_, start + more, one, calendar)


@given(st.sampled_from(["urgent", "working_hours"]), CALENDARS, MOMENTS, TIMES, TIMES)
def test_two_times_one_after_the_other_end_like_both_together(
    clock_: str, calendar: Calendar, start: Micros, one: Micros, other: Micros
) -> None:
    first = deadline(clock_, start, one, calendar)
    assert deadline(clock_, first, other, calendar) == deadline(clock_, start, one + other, calendar)
    assert elapsed(clock_, start, first + other, calendar) == one + elapsed(clock_, first, first + other, calendar)


@given(
    st.sampled_from(["working_days", "natural_days"]), st.sampled_from([PLAIN, COUNTY]), MOMENTS, st.integers(1, 60),
    st.integers(1, 60),
)  # fmt: skip
def test_whole_days_one_after_the_other_too(
    clock_: str, calendar: Calendar, start: Micros, one: int, other: int
) -> None:
    first = deadline(clock_, start, one * DAY, calendar)
    assert deadline(clock_, first, other * DAY, calendar) == deadline(clock_, start, (one + other) * DAY, calendar)


@given(st.sampled_from(["working_hours", "working_days"]), st.sampled_from([PLAIN, COUNTY]), MOMENTS, TIMES)
def test_a_time_that_counts_work_ends_at_work(clock_: str, calendar: Calendar, start: Micros, lasts: Micros) -> None:
    last = deadline(clock_, start, lasts, calendar) - 1
    local = datetime.fromtimestamp(last / 1e6, ZoneInfo(calendar.timezone))
    assert calendar.is_workday(local.date())
    assert any(opens <= local.time() <= closes for opens, closes in calendar.hours)


@given(st.sampled_from([PLAIN, COUNTY]), MOMENTS, st.integers(1, 60))
def test_working_days_counted_one_by_one_give_the_same(calendar: Calendar, start: Micros, number: int) -> None:
    day = datetime.fromtimestamp(start / 1e6, ZoneInfo(calendar.timezone)).date()
    left = number
    while left:
        day = date.fromordinal(day.toordinal() + 1)
        left -= calendar.is_workday(day)
    expected = at(f"{day}T18:00")
    assert deadline("working_days", start, number * DAY, calendar) == expected


def test_a_storm_of_five_thousand_alarms_has_its_deadlines_at_once() -> None:
    begin = at("2025-07-18T17:30")
    deadline("working_days", begin, 30 * DAY, COUNTY)  # the year is laid out
    started = clock.perf_counter()
    for number in range(5_000):
        deadline("working_days", begin + number * SECOND, 30 * DAY, COUNTY)
        deadline("working_hours", begin + number * SECOND, 24 * HOUR, COUNTY)
    assert clock.perf_counter() - started < 2.0  # 0.1 s on the machine this was written on
