"""When a rule is in force: by the clock on the wall, by the days of the week, by the sun.

A schedule answers two questions about any moment: is it on, and when does that change next. Civil times are those of
its zone, summer time included; a span may go across midnight. The sun's times are those of its place (astral).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from gateway.core.model import HOUR, Micros

SEARCH_DAYS = 9  # from one Monday past the next, whatever days are named
SEARCH: Micros = 7 * 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sun is looked at, in degrees."""

    latitude: float
    longitude: float


LIANGSHAN = Place(35.80, 116.10)  # the county seat; the sun differs by 5 min from end to end of the county


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a day: a civil time, or dawn's or dusk's sun at the horizon; moved by ``offset``."""

    civil: time | None = None
    rises: bool = False
    offset: Micros = 0


@dataclass(frozen=True, slots=True)
class Span:
    """From one moment to the next occurrence of the other; ``days``: of the week (0 = Monday) on which it begins."""

    begin: Moment
    end: Moment
    days: frozenset[int] = frozenset(range(7))
    season: tuple[tuple[int, int], tuple[int, int]] | None = None  # (month, day) of its first and last day

    def begins_on(self, day: date) -> bool:
        if day.weekday() not in self.days:
            return False
        if self.season is None:
            return True
        first, last = self.season
        today = (day.month, day.day)
        return first <= today <= last if first <= last else today >= first or today <= last


@dataclass(frozen=True, slots=True)
class Schedule:
    """On during any of the spans. ``zone``: an IANA name."""

    spans: tuple[Span, ...]
    zone: str = "Asia/Shanghai"
    place: Place = LIANGSHAN

    def is_on(self, at: Micros) -> bool:
        return any(begin <= at < end for begin, end in self._around(at))

    def next_change(self, at: Micros) -> Micros:
        """The first moment after ``at`` at which it goes on or off; the end of the search, some days on, when there is
        none before."""
        now = self.is_on(at)
        edges = sorted({edge for pair in self._around(at) for edge in pair if edge > at})
        return next((edge for edge in edges if self.is_on(edge) is not now), at + SEARCH)

    def _around(self, at: Micros) -> list[tuple[Micros, Micros]]:
        zone = ZoneInfo(self.zone)
        today = _moment(at).astimezone(zone).date()
        return _spans(self, today)

    def spans_of(self, first: date, last: date) -> Iterator[tuple[Micros, Micros]]:
        """Begin and end of every span that begins on one of these days."""
        zone = ZoneInfo(self.zone)
        day = first
        while day <= last:
            for span in self.spans:
                if span.begins_on(day):
                    begin = self._at(span.begin, day, zone)
                    end = self._at(span.end, day, zone)
                    if begin is not None and end is not None and end <= begin:
                        end = self._at(span.end, day + _DAY, zone)
                    if begin is not None and end is not None:
                        yield begin, end
            day += _DAY

    def _at(self, moment: Moment, day: date, zone: tzinfo) -> Micros | None:
        """None where the sun does not rise or set on that day."""
        if moment.civil is not None:
            return _micros(datetime.combine(day, moment.civil, zone)) + moment.offset
        found = _sun(self.place, day, self.zone, moment.rises)
        return None if found is None else found + moment.offset


@lru_cache(maxsize=64)
def _spans(schedule: Schedule, today: date) -> list[tuple[Micros, Micros]]:
    return list(schedule.spans_of(today - 2 * _DAY, today + SEARCH_DAYS * _DAY))


@lru_cache(maxsize=256)
def _sun(place: Place, day: date, zone: str, rises: bool) -> Micros | None:
    """Sunrise or sunset of a civil day."""
    from astral import Observer, sun  # 30 ms that only a schedule by the sun needs

    observer = Observer(place.latitude, place.longitude)
    try:
        found = (sun.sunrise if rises else sun.sunset)(observer, day, ZoneInfo(zone))
    except ValueError:
        return None
    return _micros(found)


def _moment(at: Micros) -> datetime:
    return _EPOCH + timedelta(microseconds=at)


def _micros(moment: datetime) -> Micros:
    return (moment - _EPOCH) // timedelta(microseconds=1)
