"""The tree of ``routes.yaml``: which alarm goes down which way, and what is done with it there.

What a route leaves out it has from its parent; that is settled here, so that ``core/routing.py`` looks at one route at
a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from gateway.config.calendars import Site
from gateway.config.route_models import (
    LONGEST_INTERVAL,
    LONGEST_STEP,
    LONGEST_WAIT,
    MAX_DEPTH,
    MAX_ROUTES,
    SHORTEST_REPEAT,
    GroupModel,
    MatchModel,
    RouteModel,
    SpanModel,
    StepModel,
)
from gateway.config.route_people import ALL, DAYS, PeopleReader, Reader, entries_of, title_of
from gateway.config.rule_reader import RULE_KINDS
from gateway.config.units import format_duration
from gateway.config.yaml_source import Path, did_you_mean
from gateway.core.model import Level
from gateway.core.routing import GroupBy, Grouping, Match, Repeat, Route, Step, Target, TargetKind
from gateway.core.rule import RuleSet
from gateway.core.schedule import Moment, Schedule, Span

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class _Above:
    """What a route has from those above it. ``matches``: theirs, from the root down."""

    steps: tuple[Step, ...] = ()
    group: Grouping = field(default_factory=Grouping)
    repeat: Repeat | None = None
    quiet: Schedule | None = None
    cleared: bool = True
    dispatch: str | None = None
    warn: tuple[Target, ...] = ()
    overdue: tuple[Target, ...] = ()
    matches: tuple[Match, ...] = ()


class TreeReader(Reader):
    """``rules``: those whose names may be used; None when they are not known."""

    def __init__(self, people: PeopleReader, site: Site, rules: RuleSet | None) -> None:
        super().__init__(people.source, people.mistakes)
        self.people = people
        self.site = site
        self.rules = rules
        self.routes: dict[str, Path] = {}

    def root(self, data: Any) -> Route | None:
        """The whole tree; None after a mistake in the root itself."""
        return self._route(data, ("route",), 0, _Above())

    def _route(self, data: Any, path: Path, depth: int, above: _Above) -> Route | None:
        if depth > MAX_DEPTH:
            self.say(path, f"routes are nested deeper than {MAX_DEPTH} levels")
            return None
        model = self.read(RouteModel, data, path)
        if model is None:
            # Its children can be looked at all the same.
            self._children(entries_of(data, "routes"), path, depth, replace(above, matches=()), compare=False)
            return None
        self._name_route(model, path, depth)
        before = len(self.mistakes)
        match = self._match(model.match, (*path, "match"), above)
        settled = self._settled(model, path, above, match)
        if len(self.mistakes) == before:
            self._must_be_reachable(path, settled.matches)
            self._check_quiet(model, path, settled)
        routes = self._children(model.routes, path, depth, settled, compare=True)
        title = title_of(model.title, model.route)
        return Route(
            model.route,
            match,
            settled.steps,
            settled.group,
            settled.repeat,
            settled.quiet,
            settled.cleared,
            settled.dispatch,
            settled.warn,
            settled.overdue,
            model.go_on,
            routes,
            self.source.line(path),
            *title,
        )

    def _name_route(self, model: RouteModel, path: Path, depth: int) -> None:
        """The name goes into what is kept of every message, so a route below the root must have one of its own."""
        if depth and "route" not in model.model_fields_set:
            self.say(path, "`route` is missing: the name of the route")
        elif model.route in self.routes:
            line = self.source.line(self.routes[model.route])
            self.say((*path, "route"), f"the route {model.route} stands already in line {line}")
        else:
            self.routes[model.route] = path
        if len(self.routes) == MAX_ROUTES + 1:
            self.say(path, f"more than {MAX_ROUTES} routes")

    def _children(
        self, entries: Sequence[Any], path: Path, depth: int, above: _Above, compare: bool
    ) -> tuple[Route, ...]:
        if len(self.routes) > MAX_ROUTES:
            return ()
        found: list[Route] = []
        for index, entry in enumerate(entries):
            here = (*path, "routes", index)
            before = len(self.mistakes)
            route = self._route(entry, here, depth + 1, above)
            if route is None:
                continue
            if compare and len(self.mistakes) == before:
                for other in found:
                    if not other.go_on and _covers(other.match, (*above.matches, route.match)):
                        line = "" if other.line is None else f" in line {other.line}"
                        self.say(
                            here, f"can never be reached: {other.name}{line} takes all of it (`go_on: true` there?)"
                        )
                        break
            found.append(route)
        return tuple(found)

    def _settled(self, model: RouteModel, path: Path, above: _Above, match: Match) -> _Above:
        """What holds for a route: what it says, else what those above say."""
        said = model.model_fields_set
        changes: dict[str, Any] = {"matches": (*above.matches, match)}
        if model.steps is not None:
            changes["steps"] = self._steps(model.steps, (*path, "steps"))
        if model.group is not None:
            changes["group"] = self._group(model.group, (*path, "group"))
        if "repeat" in said:
            one = model.repeat
            changes["repeat"] = None if one is None else Repeat(one.every, one.times, one.if_still)
            if one is not None and not SHORTEST_REPEAT <= one.every <= LONGEST_INTERVAL:
                between = f"between {format_duration(SHORTEST_REPEAT)} and {format_duration(LONGEST_INTERVAL)}"
                self.say((*path, "repeat", "every"), between)
        if "quiet" in said:
            changes["quiet"] = None if model.quiet is None else self._schedule(model.quiet, (*path, "quiet"))
        if model.cleared is not None:
            changes["cleared"] = model.cleared
        if "dispatch" in said:
            changes["dispatch"] = model.dispatch
            if model.dispatch is not None:
                self._crew(model.dispatch, (*path, "dispatch"))
        for key, texts in (("warn", model.warn), ("overdue", model.overdue)):
            if texts is not None:
                changes[key] = self.people.targets(texts, (*path, key))
        return replace(above, **changes)

    def _steps(self, entries: Sequence[Any], path: Path) -> tuple[Step, ...]:
        found: list[Step] = []
        for index, entry in enumerate(entries):
            here = (*path, index)
            model = self.read(StepModel, entry, here)
            if model is None:
                continue
            if not model.tell:
                self.say((*here, "tell"), "a step tells somebody")
            if model.after > LONGEST_STEP:
                self.say((*here, "after"), f"longer than {format_duration(LONGEST_STEP)}")
            found.append(Step(model.after, self.people.targets(model.tell, (*here, "tell")), model.if_still))
        if len(found) == len(entries):
            for number, (one, next_) in enumerate(pairwise(found), 1):
                if next_.after <= one.after:
                    self.say((*path, number, "after"), "each step comes later than the one before")
        return tuple(found)

    def _group(self, model: GroupModel, path: Path) -> Grouping:
        if GroupBy.ALL in model.by and len(model.by) > 1:
            self.say((*path, "by"), "`all` groups whatever comes: beside it there is nothing to say")
        for key, length, most in (("wait", model.wait, LONGEST_WAIT), ("interval", model.interval, LONGEST_INTERVAL)):
            if length > most:
                self.say((*path, key), f"longer than {format_duration(most)}")
        return Grouping(tuple(dict.fromkeys(model.by)), model.wait, model.interval)

    def _crew(self, name: str, path: Path) -> None:
        crews = [*self.people.names[TargetKind.TEAM], *self.people.names[TargetKind.ROTA]]
        if name not in crews:
            near = did_you_mean(name.partition(":")[2] or name, crews)
            self.say(path, f"work is given to a team or a rota by its name; there is none called {name}{near}")

    def _check_quiet(self, model: RouteModel, path: Path, settled: _Above) -> None:
        if model.quiet is not None and _level(settled.matches) is Level.I:
            self.say((*path, "quiet"), "only alarms of level I come here, and they wait for nothing")

    # -- when ---------------------------------------------------------------------------------------------------------

    def _schedule(self, data: Any, path: Path) -> Schedule | None:
        """One span, or a list of them."""
        given = data if isinstance(data, list) else [data]
        if not given or len(given) > 20:
            self.say(path, "one span or a list of at most 20: {from: 22:00, until: 07:00, days: [mon, tue]}")
            return None
        spans: list[Span] = []
        for number, item in enumerate(given):
            here = (*path, number) if isinstance(data, list) else path
            model = self.read(SpanModel, item, here)
            span = self._span(model, here) if model is not None else None
            if span is None:
                return None
            spans.append(span)
        return Schedule(tuple(spans), self.site.timezone, self.site.place)

    def _span(self, model: SpanModel, path: Path) -> Span | None:
        by_clock = model.from_ is not None and model.until is not None
        if by_clock == (model.sun is not None) or (model.from_ is None) != (model.until is None):
            self.say(path, "say `from: 22:00` and `until: 07:00`, or `sun: up`, or `sun: down`")
            return None
        days = DAYS if model.days is None or model.days == [ALL] else tuple(model.days)
        for number, day in enumerate(days):
            if day not in DAYS:
                self.say((*path, "days", number), f"no such day: {day}{did_you_mean(day, DAYS)} ({', '.join(DAYS)})")
                return None
        week = frozenset(DAYS.index(day) for day in days)
        if model.sun is not None:
            rise, set_ = Moment(rises=True), Moment(rises=False)
            return Span(rise, set_, week) if model.sun == "up" else Span(set_, rise, week)
        return Span(Moment(model.from_), Moment(model.until), week)

    # -- which alarms -------------------------------------------------------------------------------------------------

    def _match(self, data: Any, path: Path, above: _Above) -> Match:
        simulated = above.matches[-1].simulated if above.matches else False
        if data is None:
            return Match(simulated=simulated)
        model = self.read(MatchModel, data, path)
        if model is None:
            return Match(simulated=simulated)
        for number, kind in enumerate(model.kind):
            if kind not in RULE_KINDS:
                self.say(self.entry(path, "kind", number), f"there is no kind {kind}{did_you_mean(kind, RULE_KINDS)}")
        if self.rules is not None:
            self._rules_exist(model, path, self.rules)
        if model.simulated is not None and above.matches and model.simulated is not simulated:
            self.say(
                (*path, "simulated"), "can never be reached: simulated alarms have a tree of their own, from the root"
            )
        during, unless = (
            self._schedule(span, (*path, key)) if span is not None else None
            for key, span in (("during", model.during), ("unless", model.unless))
        )
        return Match(
            model.level or Level.IV,
            tuple(model.kind),
            tuple(model.rule),
            tuple(model.asset),
            tuple(model.road),
            tuple(model.town),
            tuple(model.unit),
            tuple(model.notify),
            tuple(sorted(model.attributes.items())),
            during,
            simulated if model.simulated is None else model.simulated,
            unless,
        )

    def _rules_exist(self, model: MatchModel, path: Path, rules: RuleSet) -> None:
        """A name that no rule has would be a route that nothing ever takes, found out at night."""
        for number, pattern in enumerate(model.rule):
            if not any(fnmatchcase(rule.id, pattern) for rule in rules):
                near = did_you_mean(pattern, rules.rules)
                self.say(self.entry(path, "rule", number), f"there is no rule {pattern}{near}")
        addressees = {name for rule in rules for one in rule.all_variants for name in one.notify}
        for number, name in enumerate(model.notify):
            if name not in addressees:
                near = did_you_mean(name, sorted(addressees))
                self.say(self.entry(path, "notify", number), f"no rule notifies {name}{near}")

    def _must_be_reachable(self, path: Path, matches: tuple[Match, ...]) -> None:
        """What a route asks for must be left by those above it."""
        own, above = matches[-1], matches[:-1]
        for key, wanted, narrowed in (
            ("kind", own.kinds, [one.kinds for one in above]),
            ("road", own.roads, [one.roads for one in above]),
            ("town", own.towns, [one.towns for one in above]),
            ("unit", own.units, [one.units for one in above]),
        ):
            for names in narrowed:
                if wanted and names and not set(wanted) & set(names):
                    message = f"can never be reached: above it only {key} {', '.join(names[:5])} is let through"
                    self.say((*path, "match", key), message)
                    break


def _level(matches: Sequence[Match]) -> Level:
    """The mildest level that comes through all of these."""
    return min((match.level for match in matches), default=Level.IV)


def _covers(wide: Match, narrow: Sequence[Match]) -> bool:
    """Whether everything that comes through all of ``narrow`` (from the root down) comes through ``wide``."""
    return (
        wide.level >= _level(narrow)
        and _within([match.kinds for match in narrow], wide.kinds)
        and _within([match.roads for match in narrow], wide.roads)
        and _within([match.towns for match in narrow], wide.towns)
        and _within([match.units for match in narrow], wide.units)
        and _within([match.addressees for match in narrow], wide.addressees)
        and _patterns_within([match.rules for match in narrow], wide.rules)
        and _patterns_within([match.assets for match in narrow], wide.assets)
        and set(wide.attributes) <= {pair for match in narrow for pair in match.attributes}
        and (wide.during is None or any(match.during == wide.during for match in narrow))
        and (wide.unless is None or any(match.unless == wide.unless for match in narrow))
    )


def _within(narrow: Sequence[tuple[str, ...]], wide: tuple[str, ...]) -> bool:
    return not wide or any(names and set(names) <= set(wide) for names in narrow)


def _patterns_within(narrow: Sequence[tuple[str, ...]], wide: tuple[str, ...]) -> bool:
    def inside(pattern: str) -> bool:
        return pattern in wide or (not _WILD.search(pattern) and any(fnmatchcase(pattern, one) for one in wide))

    return not wide or any(patterns and all(map(inside, patterns)) for patterns in narrow)
