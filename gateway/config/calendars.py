"""Time and place of a site, as one small text beside the routes: its zone, its position, the holidays of its country.

The holidays come from the ``holidays`` library when the operator's files are read, and stay with the configuration from
then on: a replay counts the days that were known then, whatever library is installed now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache

import msgspec

from gateway.config.settings import SiteSettings
from gateway.core.case_clock import LONGEST_YEARS, Calendar
from gateway.core.schedule import LIANGSHAN, Place
from gateway.errors import ConfigError, Mistake

SITE = "site.json"  # its name among the texts of a bundle; those of the operator end in .yaml
COUNTRY = "CN"
NO_COUNTRY = "none"  # as a country: weekends, and the days that the site names itself
FIRST_YEAR = 2020  # journals and backtests reach back; nobody has readings of ours from before


class CountryDays(msgspec.Struct, frozen=True):
    """Days off that are no weekend's, days worked that are (调休), and days of the week that are the weekend (0 =
    Monday). Of a year whose exchanges the government has not announced yet, ``workdays`` says nothing."""

    country: str = NO_COUNTRY
    holidays: tuple[date, ...] = ()
    workdays: tuple[date, ...] = ()
    weekend: tuple[int, ...] = (5, 6)


class Site(msgspec.Struct, frozen=True):
    """``days`` is None where the library does not know the country."""

    timezone: str = "Asia/Shanghai"
    latitude: float = LIANGSHAN.latitude
    longitude: float = LIANGSHAN.longitude
    days: CountryDays | None = CountryDays()

    @property
    def place(self) -> Place:
        return Place(self.latitude, self.longitude)

    @property
    def calendar(self) -> Calendar:
        """Before the site has said what is different with it."""
        days = self.days or CountryDays()
        return Calendar(
            self.timezone, frozenset(days.holidays), frozenset(days.workdays), weekend=frozenset(days.weekend)
        )


def site_text(site: SiteSettings, country: str = COUNTRY, today: date | None = None) -> str:
    """The text for a bundle. ``today``: the years of its deadlines are in it; None for the day it is."""
    last = (today or date.today()).year + LONGEST_YEARS
    days = CountryDays() if country == NO_COUNTRY else country_days(country, last)
    return msgspec.json.encode(Site(site.timezone, site.latitude, site.longitude, days), order="sorted").decode()


def site_of(texts: Mapping[str, str]) -> Site:
    """What ``site_text`` wrote; of texts without it, the default. Raises ConfigError when it is damaged."""
    text = texts.get(SITE)
    if text is None:
        return Site()
    try:
        return msgspec.json.decode(text, type=Site)
    except msgspec.MsgspecError as error:
        raise ConfigError([Mistake(SITE, None, "", f"not the time and place of a site: {error}")]) from error


@lru_cache(maxsize=8)
def country_days(country: str, last_year: int) -> CountryDays | None:
    """Of the years from ``FIRST_YEAR`` on; None for a country that the library does not know. Takes a third of a second
    the first time, which is the library's own start."""
    import holidays  # only where files are read

    try:
        found = holidays.country_holidays(country, years=range(FIRST_YEAR, last_year + 1))
    except (NotImplementedError, AttributeError, KeyError):
        return None
    years = range(FIRST_YEAR, last_year + 1)
    worked = sorted(day for day in getattr(found, "weekend_workdays", ()) if day.year in years)
    weekend = tuple(sorted(day for day in range(7) if day in found.weekend))
    return CountryDays(country, tuple(sorted(day for day in found if day.year in years)), tuple(worked), weekend)
