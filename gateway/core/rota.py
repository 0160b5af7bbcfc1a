"""Who is on duty: shifts, rotations, holidays, swaps, and who answers when nobody is.

A rota is a list of shifts in civil time. At any moment the first shift of the list that is on counts, so what is said
of holidays stands before what is said of all days. A shift belongs to the day on which it begins: the night shift of a
Friday is Friday's until it ends on Saturday morning, and so are its people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from gateway.core.case_clock import Calendar
from gateway.core.model import Micros

SEARCH_DAYS = 400  # a rotation takes at most a year; what does not change until then changes never
_WINDOW_DAYS = 8

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


class DayKind(StrEnum):
    """Every day is one of these."""

    WORKDAYS = "workdays"  # the days worked for a holiday too
    HOLIDAYS = "holidays"  # public ones, on whatever day of the week
    WEEKENDS = "weekends"  # the other days off


@dataclass(frozen=True, slots=True)
class Swap:
    """From ``begin`` until ``end`` ``person`` stands in for ``instead_of``, wherever that one would be on duty."""

    begin: Micros
    end: Micros
    instead_of: str
    person: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Duty:
    """``people`` on duty, and why they are: "shift", "swap" or "fallback"; ``shift`` is its name, ``swaps`` those that
    changed who it is."""

    people: tuple[str, ...]
    why: str
    shift: str = ""
    swaps: tuple[Swap, ...] = ()


@dataclass(frozen=True, slots=True)
class Shift:
    """From ``begin`` to the next ``end`` (equal: a day and a night), on the days of the ``weekdays`` (0 = Monday) and
    of the ``kinds``. ``turns``: who is on duty together; with more than one, each has it for ``every`` days, the first
    from ``since`` on."""

    shift: str
    begin: time
    end: time
    turns: tuple[tuple[str, ...], ...]
    every: int = 1
    since: date = date(2024, 1, 1)  # a Monday
    weekdays: frozenset[int] = frozenset()
    kinds: frozenset[DayKind] = frozenset(DayKind)

    def begins_on(self, day: date, calendar: Calendar) -> bool:
        return day.weekday() in self.weekdays or kind_of(day, calendar) in self.kinds

    def people(self, day: date) -> tuple[str, ...]:
        """Whose turn it is in the shift that begins on ``day``."""
        return self.turns[(day - self.since).days // self.every % len(self.turns)] if self.turns else ()

    def span(self, day: date, calendar: Calendar) -> tuple[Micros, Micros]:
        """Begin and end of the shift of a day."""
        zone = ZoneInfo(calendar.timezone)
        last = day if self.end > self.begin else day + timedelta(1)
        return _instant(datetime.combine(day, self.begin, zone)), _instant(datetime.combine(last, self.end, zone))


@dataclass(frozen=True, slots=True)
class Rota:
    """``fallback``: who answers when no shift is on. ``calendar`` gives the zone and the kinds of days."""

    rota: str
    fallback: tuple[str, ...]
    shifts: tuple[Shift, ...] = ()
    swaps: tuple[Swap, ...] = ()
    calendar: Calendar = field(default_factory=Calendar)

    def on_duty(self, at: Micros) -> Duty:
        """Who is on duty at a moment; somebody always is."""
        today = self._day(at)
        for shift in self.shifts:
            for day in (today, today - timedelta(1)):
                if shift.begins_on(day, self.calendar):
                    begin, end = shift.span(day, self.calendar)
                    if begin <= at < end and (people := shift.people(day)):
                        return self._swapped(people, shift, at)
        return Duty(self.fallback, "fallback")

    def next_change(self, at: Micros) -> Micros | None:
        """The first moment after ``at`` at which another duty begins; None when there is none within ``SEARCH_DAYS``
        days."""
        now, day = self.on_duty(at), self._day(at)
        for window in range(0, SEARCH_DAYS, _WINDOW_DAYS):
            edges = set(self._edges(day + timedelta(window), day + timedelta(window + _WINDOW_DAYS)))
            for edge in sorted(edges):
                if edge > at and self.on_duty(edge) != now:
                    return edge
        return None

    def _swapped(self, people: tuple[str, ...], shift: Shift, at: Micros) -> Duty:
        standing = {one.instead_of: one for one in self.swaps if one.begin <= at < one.end}
        used = tuple(standing[person] for person in people if person in standing)
        if not used:
            return Duty(people, "shift", shift.shift)
        found = dict.fromkeys(standing[person].person if person in standing else person for person in people)
        return Duty(tuple(found), "swap", shift.shift, used)

    def _edges(self, first: date, last: date) -> Iterator[Micros]:
        """Every moment from the begin of the day ``first`` to that of ``last`` at which somebody may come or go."""
        zone = ZoneInfo(self.calendar.timezone)
        begin, end = (_instant(datetime.combine(day, time(0), zone)) for day in (first, last))
        edges = [edge for swap in self.swaps for edge in (swap.begin, swap.end)]
        for number in range(-1, (last - first).days):
            day = first + timedelta(number)
            for shift in self.shifts:
                if shift.begins_on(day, self.calendar):
                    edges += shift.span(day, self.calendar)
        return (edge for edge in edges if begin <= edge < end)

    def _day(self, at: Micros) -> date:
        return (_EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(self.calendar.timezone)).date()


def kind_of(day: date, calendar: Calendar) -> DayKind:
    if calendar.is_workday(day):
        return DayKind.WORKDAYS
    return DayKind.HOLIDAYS if day in calendar.holidays else DayKind.WEEKENDS


def _instant(moment: datetime) -> Micros:
    return (moment - _EPOCH) // _MICRO
