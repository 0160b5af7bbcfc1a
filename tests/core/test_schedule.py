"""Schedules: civil time across midnight and summer time, days, seasons, the sun."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import HOUR, MINUTE, Micros
from gateway.core.schedule import Moment, Place, Schedule, Span

SHANGHAI = ZoneInfo("Asia/Shanghai")
NIGHT = Schedule((Span(Moment(time(22)), Moment(time(6))),))
OFFICE = Schedule((Span(Moment(time(8)), Moment(time(18)), frozenset(range(5))),))
DAY = Schedule((Span(Moment(rises=True, offset=30 * MINUTE), Moment(offset=-30 * MINUTE)),))
HEATING = Schedule((Span(Moment(time(0)), Moment(time(0)), season=((11, 15), (3, 15))),))


def at(text: str, zone: str = "Asia/Shanghai") -> Micros:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return round(moment.timestamp() * 1e6)


def shown(moment: Micros, zone: str = "Asia/Shanghai") -> str:
    return f"{datetime.fromtimestamp(moment / 1e6, ZoneInfo(zone)):%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("schedule", "moment", "on", "changes"),
    [
        (NIGHT, "2025-07-20T21:59:59", False, "07-20 22:00"),
        (NIGHT, "2025-07-20T22:00:00", True, "07-21 06:00"),
        (NIGHT, "2025-07-21T05:59:59", True, "07-21 06:00"),
        (NIGHT, "2025-07-21T06:00:00", False, "07-21 22:00"),
        (OFFICE, "2025-07-18T17:59:59", True, "07-18 18:00"),
        (OFFICE, "2025-07-18T18:00:00", False, "07-21 08:00"),  # from Friday evening to Monday
        (HEATING, "2025-11-14T23:59:59", False, "11-15 00:00"),
        (HEATING, "2026-03-15T12:00:00", True, "03-16 00:00"),
    ],
)
def test_civil_time(schedule: Schedule, moment: str, on: bool, changes: str) -> None:
    assert schedule.is_on(at(moment)) is on
    assert shown(schedule.next_change(at(moment))) == changes


def test_the_sun_of_the_county_seat_and_not_of_another_place() -> None:
    """Sunrise 5:14, sunset 19:30 by the sunrise equation (declination 20.7°, equation of time 6.3 min); half an hour
    less at both ends."""
    noon = at("2025-07-20T12:00:00")
    assert DAY.is_on(noon)
    assert abs(DAY.next_change(noon) - at("2025-07-20T19:00:00")) < 5 * MINUTE
    midnight = at("2025-07-20T00:00:00")
    assert not DAY.is_on(midnight)
    assert abs(DAY.next_change(midnight) - at("2025-07-20T05:44:00")) < 5 * MINUTE
    kashgar = Schedule(DAY.spans, DAY.zone, Place(39.47, 75.99))
    assert kashgar.next_change(midnight) - DAY.next_change(midnight) > 2 * HOUR


def test_where_the_sun_does_not_set_nothing_breaks() -> None:
    north = Schedule((Span(Moment(rises=True), Moment()),), "Europe/Oslo", Place(78.2, 15.6))
    midsummer = at("2025-06-21T12:00:00", "Europe/Oslo")
    assert north.is_on(midsummer) is False
    assert north.next_change(midsummer) > midsummer


@pytest.mark.parametrize(
    ("begin", "hours"),
    [("2025-03-29T22:00:00", 7), ("2025-10-25T22:00:00", 9), ("2025-07-20T22:00:00", 8)],
)
def test_a_night_of_summer_time_has_seven_hours_or_nine(begin: str, hours: int) -> None:
    night = Schedule(NIGHT.spans, "Europe/Berlin")
    start = at(begin, "Europe/Berlin")
    assert night.is_on(start)
    assert night.next_change(start) - start == hours * HOUR


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),
    st.sampled_from([NIGHT, OFFICE, DAY, HEATING]),
)
def test_between_now_and_the_next_change_it_is_always_the_same(moment: datetime, schedule: Schedule) -> None:
    now = round(moment.timestamp()) * 1_000_000
    change = schedule.next_change(now)
    assert change > now
    on = schedule.is_on(now)
    step = max(MINUTE, (change - now) // 7)
    assert all(schedule.is_on(then) is on for then in range(now, change, step))
    assert schedule.is_on(change - 1) is on
    if change - now < 7 * timedelta(days=1) / timedelta(microseconds=1):
        assert schedule.is_on(change) is not on
