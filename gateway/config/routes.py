"""``routes.yaml`` → checked, frozen routing: who can be told, who is on duty when, and which alarm goes to whom.

How it is written: docs/routes.md. Every mistake is told at once, with file, line, key and the nearest name that exists.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import time
from typing import Any

from gateway.config import calendars
from gateway.config.calendars import COUNTRY, NO_COUNTRY, SITE, Site
from gateway.config.route_models import LONGEST_INTERVAL, CalendarModel, LimitsModel, RoutesModel
from gateway.config.route_people import PeopleReader, Reader, keys
from gateway.config.route_tree import TreeReader
from gateway.config.units import format_duration
from gateway.config.yaml_source import Path, YamlSource, did_you_mean, read_yaml
from gateway.core.case_clock import Calendar
from gateway.core.routing import Limit, Routing
from gateway.core.rule import RuleSet
from gateway.errors import ConfigError


def load_routes(
    texts: Mapping[str, str], rules: RuleSet | None = None, receivers: Collection[str] | None = None
) -> Routing:
    """What the texts of a bundle say: the routes, if there are any, and the time and place of the site.

    ``rules``: those whose names may be used; None when they are not known. ``receivers``: the names in
    ``citywatch.yaml``; None for routes that were in force once: what is gone now was there then. Raises ConfigError
    with every mistake.
    """
    site = calendars.site_of(texts)
    files = {name: text for name, text in texts.items() if name != SITE}
    if not files:
        return Routing(calendar=site.calendar)
    ((name, text),) = files.items()
    reader = _FileReader(read_yaml(text, name), site)
    found = reader.routing(rules, receivers)
    if found is None or reader.mistakes:
        raise ConfigError(reader.mistakes)
    return found


def country_in(text: str) -> str:
    """The country that routes name for their holidays, though they may have mistakes elsewhere."""
    try:
        data = read_yaml(text, "").data
    except ConfigError:
        return COUNTRY
    calendar = data.get("calendar") if isinstance(data, dict) else None
    country = calendar.get("country") if isinstance(calendar, dict) else None
    return country if isinstance(country, str) else COUNTRY


class _FileReader(Reader):
    """The file as a whole, and what belongs to no person and no route."""

    def __init__(self, source: YamlSource, site: Site) -> None:
        super().__init__(source, [])
        self.site = site

    def routing(self, rules: RuleSet | None, receivers: Collection[str] | None) -> Routing | None:
        """None after a mistake that leaves nothing to look at."""
        data = {} if self.source.data is None else self.source.data
        if not isinstance(data, dict):
            self.say((), "must be a mapping: people, teams, rotas, route")
            return None
        top = self._top(data)
        if top is None:
            return None
        calendar = self._calendar(top.calendar)
        people = PeopleReader(self, calendar, receivers)
        people.read_all(top)
        canary = people.targets(top.canary, ("canary",))
        tree = TreeReader(people, self.site, rules)
        root = tree.root(top.route if top.route is not None else {})
        limit = self._limit(top.limits)
        if root is None:
            return None
        return Routing(root, people.people, people.teams, people.rotas, limit, calendar, canary, people.titles)

    def _top(self, data: dict[str, Any]) -> RoutesModel | None:
        """The file as a whole; a mistake in one of its keys hides none in the others."""
        known = keys(RoutesModel)
        for key in data:
            if key not in known:
                self.say((str(key),), f"no such key{did_you_mean(str(key), known)}")
        given: dict[str, Any] = {}
        for key in known:
            if key in data:
                one = self.read(RoutesModel, {key: data[key]}, ())
                if one is not None:
                    given[key] = data[key]
        return self.read(RoutesModel, given, ())

    def _calendar(self, model: CalendarModel) -> Calendar:
        """The country's days, and over them those of the site."""
        here: Path = ("calendar",)
        if self.site.days is None:
            self.say((*here, "country"), f"the holidays of {model.country} are not known; say `{NO_COUNTRY}` for none")
        for day in set(model.holidays) & set(model.workdays):
            self.say((*here, "workdays"), f"{day} is among the holidays too")
        hours = self._hours(model.working_hours, (*here, "working_hours"))
        found = self.site.calendar
        off, worked = frozenset(model.holidays), frozenset(model.workdays)
        return replace(
            found,
            holidays=found.holidays | off,
            workdays=(found.workdays | worked) - off,
            hours=hours or found.hours,
        )

    def _hours(self, given: list[list[time]] | None, path: Path) -> tuple[tuple[time, time], ...]:
        spans: list[tuple[time, time]] = []
        before = 0
        for number, span in enumerate(given or ()):
            if len(span) != 2:
                self.say((*path, number), "begin and end of a span of work: [08:00, 12:00]")
                return ()
            begin, end = _minute(span[0]), _minute(span[1]) or 24 * 60
            if begin >= end or begin < before:
                self.say((*path, number), "spans of work are those of one day, one after the other")
                return ()
            before = end
            spans.append((span[0], span[1]))
        return tuple(spans)

    def _limit(self, model: LimitsModel) -> Limit:
        if model.in_all < model.messages:
            self.say(("limits", "in_all"), "cannot be fewer than of one rule (`messages`)")
        for key, length in (("within", model.within), ("digest", model.digest)):
            if not 0 < length <= LONGEST_INTERVAL:
                self.say(("limits", key), f"between 1s and {format_duration(LONGEST_INTERVAL)}")
        return Limit(model.messages, model.in_all, model.within, model.digest)


def _minute(moment: time) -> int:
    return moment.hour * 60 + moment.minute
