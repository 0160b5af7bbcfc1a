"""The four clocks of a case: how much of the time to respond or to resolve is used, and when it is over.

A rule says ``sla: {respond: 30m, resolve: 3d, clock: working_days}``. Which time counts is the clock's affair:

``urgent``
    Every hour, at night and on holidays too (紧急工作时).
``working_hours``
    Only the working hours of working days (工作时). Opened Friday 17:30, 4 h are over on Monday at 11:30.
``working_days``
    Whole working days (工作日). The day on which the case is opened does not count, at whatever hour that was; a day is
    over when work ends, so 1 day from Friday is Monday 18:00, whether it was opened on Friday at 8:00, at 23:00 or on
    Sunday. These are articles 201 and 203 of the Civil Code (the day of the beginning is not counted; where there are
    business hours, their end is the end of the last day), and nobody has to argue about the minute of an opening.
    Within a working day its 24 hours are spread over its working hours: half of one day is used at 14:00, and a warning
    at a share of the time comes while somebody is at work.
``natural_days``
    Calendar days (自然日), from the moment of opening to the same time on the clock so many days later; weekends and
    holidays count. In a zone with summer time such a day may have 23 or 25 hours and counts as one all the same.

For all of them the deadline is the first moment at which the whole time is used, so a time that ends with the morning's
work is over at 12:00, not at 14:00. Nothing is later than ``LONGEST`` after the opening.

Pure and quick: the working time of a year is laid out once and searched by halves.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.core.model import HOUR, Micros

CLOCKS = ("urgent", "working_hours", "working_days", "natural_days")

DAY: Micros = 24 * HOUR
LONGEST_YEARS = 10
LONGEST: Micros = LONGEST_YEARS * 365 * DAY  # a calendar without a working day must not search for ever

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_MIDNIGHT = time(0)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Working time of a place.

    ``holidays``: days off besides the weekend; ``workdays``: days that are worked although they are a weekend's or a
    holiday (调休); ``hours``: begin and end of each span of work, in order, 00:00 as an end is the day's;
    ``weekend``: days of the week, 0 = Monday.
    """

    timezone: str = "Asia/Shanghai"
    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()
    hours: tuple[tuple[time, time], ...] = ((time(8), time(12)), (time(14), time(18)))
    weekend: frozenset[int] = frozenset({5, 6})

    def is_workday(self, day: date) -> bool:
        return day in self.workdays or (day not in self.holidays and day.weekday() not in self.weekend)


def deadline(clock: str, start: Micros, lasts: Micros, calendar: Calendar) -> Micros:
    """When a time of ``lasts`` that begins at ``start`` is used up; ``start`` itself for no time at all.

    ``lasts`` of days (``working_days``, ``natural_days``) is in days of 24 hours. Raises ValueError for no such clock.
    """
    if lasts <= 0:
        return start
    match clock:
        case "urgent":
            found = start + lasts
        case "working_hours":
            found = _after_hours(start, lasts, calendar)
        case "working_days":
            found = _after_days(start, lasts, calendar)
        case "natural_days":
            found = _same_time(start, lasts, calendar)
        case _:
            raise ValueError(f"there is no clock {clock}: one of {', '.join(CLOCKS)}")
    return min(found, start + LONGEST)


def elapsed(clock: str, start: Micros, until: Micros, calendar: Calendar) -> Micros:
    """How much of a time that begins at ``start`` is used at ``until``, in the measure of ``deadline``, which is the
    first moment at which it comes to ``lasts``; it never runs backwards. Raises ValueError for no such clock."""
    until = min(until, start + LONGEST)
    if clock not in CLOCKS:
        raise ValueError(f"there is no clock {clock}: one of {', '.join(CLOCKS)}")
    if until <= start:
        return 0
    match clock:
        case "working_hours":
            return _hours_between(start, until, calendar)
        case "working_days":
            return _days_between(start, until, calendar)
        case "natural_days":
            return _time_between(start, until, calendar)
        case _:
            return until - start


def reached(clock: str, start: Micros, lasts: Micros, share: float, calendar: Calendar) -> Micros:
    """When ``share`` (0 to 1) of the time is used: the moment to warn. Of a time that counts working hours, a moment in
    working hours."""
    return deadline(clock, start, round(lasts * share), calendar)


# -- the working time of a year ---------------------------------------------------------------------------------------


class _Year(NamedTuple):
    """Spans of work in order (``begins``, ``ends``, and the work ``before`` each, ``all`` in all), and the working days
    (``days``, as ordinals; the first span of each, ``first``, with one more at the end)."""

    begins: tuple[Micros, ...]
    ends: tuple[Micros, ...]
    before: tuple[Micros, ...]
    all: Micros
    days: tuple[int, ...]
    first: tuple[int, ...]

    def until(self, moment: Micros) -> Micros:
        """The work of the year before ``moment``."""
        at = bisect_right(self.begins, moment) - 1
        return 0 if at < 0 else self.before[at] + min(moment, self.ends[at]) - self.begins[at]

    def when(self, work: Micros) -> Micros:
        """When so much of the work of the year is done; 0 < work ≤ all."""
        at = bisect_left(self.before, work) - 1
        return self.begins[at] + work - self.before[at]

    def bounds(self, day: int) -> tuple[Micros, Micros]:
        """The work of the year before the working day with this index, and up to its end."""
        after = self.first[day + 1]
        return self.before[self.first[day]], self.before[after] if after < len(self.before) else self.all


@lru_cache(maxsize=64)  # of two calendars (before and after a reload) every year that a deadline may touch
def _year(calendar: Calendar, year: int) -> _Year:
    zone = ZoneInfo(calendar.timezone)
    begins: list[Micros] = []
    ends: list[Micros] = []
    before: list[Micros] = []
    days: list[int] = []
    first: list[int] = []
    work = 0
    for ordinal in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()):
        day = date.fromordinal(ordinal)
        if not calendar.is_workday(day):
            continue
        at = len(begins)
        for opens, closes in calendar.hours:
            begin = _instant(day, opens, zone)
            if ends:
                begin = max(begin, ends[-1])
            end = _instant(day + timedelta(closes == _MIDNIGHT), closes, zone)
            if end > begin:  # else the hour does not exist: clocks were put forward
                begins.append(begin)
                ends.append(end)
                before.append(work)
                work += end - begin
        if len(begins) > at:
            days.append(ordinal)
            first.append(at)
    return _Year(tuple(begins), tuple(ends), tuple(before), work, tuple(days), (*first, len(begins)))


def _after_hours(start: Micros, lasts: Micros, calendar: Calendar) -> Micros:
    first = _local(start, calendar).year
    for number in range(first, first + LONGEST_YEARS + 1):
        year = _year(calendar, number)
        done = year.until(start)
        if year.all - done >= lasts:
            return year.when(done + lasts)
        lasts -= year.all - done
    return start + LONGEST


def _hours_between(start: Micros, until: Micros, calendar: Calendar) -> Micros:
    total = 0
    for number in range(_local(start, calendar).year, _local(until, calendar).year + 1):
        year = _year(calendar, number)
        total += year.until(until) - year.until(start)
    return total


def _after_days(start: Micros, lasts: Micros, calendar: Calendar) -> Micros:
    opened = _local(start, calendar).date()
    whole, part = divmod(lasts - 1, DAY)  # so many whole days, then into the next as far as ``part`` + 1
    for number in range(opened.year, opened.year + LONGEST_YEARS + 1):
        year = _year(calendar, number)
        day = bisect_right(year.days, opened.toordinal()) + whole
        if day < len(year.days):
            done, all_ = year.bounds(day)
            return year.when(done - (-(part + 1) * (all_ - done) // DAY))
        whole = day - len(year.days)
    return start + LONGEST


def _days_between(start: Micros, until: Micros, calendar: Calendar) -> Micros:
    opened, last = _local(start, calendar).date(), _local(until, calendar).date()
    total = 0
    for number in range(opened.year, last.year + 1):
        year = _year(calendar, number)
        before, today = bisect_right(year.days, opened.toordinal()), bisect_left(year.days, last.toordinal())
        if today < before:
            continue
        total += (today - before) * DAY
        if today < len(year.days) and year.days[today] == last.toordinal():
            done, all_ = year.bounds(today)
            total += (year.until(until) - done) * DAY // (all_ - done)
    return total


# -- calendar days ----------------------------------------------------------------------------------------------------


def _same_time(start: Micros, lasts: Micros, calendar: Calendar) -> Micros:
    days, part = divmod(min(lasts, LONGEST), DAY)
    begin = _days_later(start, days, calendar)
    if not part:
        return begin
    length = _days_later(start, days + 1, calendar) - begin
    return begin - (-part * length // DAY)


def _time_between(start: Micros, until: Micros, calendar: Calendar) -> Micros:
    days = max(0, (until - start) // DAY - 2)  # clocks are put back by hours; over the date line, by a day
    while _days_later(start, days + 1, calendar) <= until:
        days += 1
    begin = _days_later(start, days, calendar)
    length = _days_later(start, days + 1, calendar) - begin
    return days * DAY + (until - begin) * DAY // length


def _days_later(start: Micros, days: int, calendar: Calendar) -> Micros:
    """The same time on the clock, so many days later; where clocks were put forward over it, as much later."""
    if not days:
        return start
    return (_local(start, calendar).replace(fold=0) + timedelta(days) - _EPOCH) // _MICRO


# -- civil time -------------------------------------------------------------------------------------------------------


def _local(moment: Micros, calendar: Calendar) -> datetime:
    return (_EPOCH + timedelta(microseconds=moment)).astimezone(ZoneInfo(calendar.timezone))


def _instant(day: date, at: time, zone: ZoneInfo) -> Micros:
    return (datetime.combine(day, at, zone) - _EPOCH) // _MICRO
