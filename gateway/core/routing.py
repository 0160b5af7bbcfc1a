"""Whom to tell, when, and how often: the tree of routes, as ``config/routes.py`` compiles it from ``routes.yaml``.

Two kinds of listener. A *feed* is a machine (webhook, log, MQTT): it gets every annunciated transition that it takes,
at once. *Routes* lead to people: an alarm goes down the tree from the root; of the children of a route it enters the
first that matches, and those after it as long as ``go_on`` says so; the deepest ones entered count. The time-bound part
(waiting, escalating, repeating, limiting) is ``core/escalation.py``.

Pure: a question about a record, an asset and a moment; the answer is the same in every replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from gateway.core.case_clock import Calendar
from gateway.core.cases import CAUSES, QUIET
from gateway.core.model import MINUTE, AlarmRecord, Asset, Level, Micros, Transition
from gateway.core.notification import Channel
from gateway.core.rota import Rota
from gateway.core.rule import Rule
from gateway.core.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Feed:
    """``receivers`` get what is at least as severe as ``level`` and, where these say something, of one of ``kinds`` and
    with one of the rule's addressees (``notify``) in ``groups``. ``simulated``: they get the alarms of simulated assets
    and no others; None: both, for what is no person. ``cases``: they get every step that may matter to a case
    (``core/cases.py``) of a rule with ``case``."""

    receivers: tuple[str, ...]
    level: Level = Level.IV
    kinds: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    simulated: bool | None = False
    cases: bool = False

    def takes(self, transition: Transition, rule: Rule | None) -> bool:
        record = transition.record
        # A clear is told to everybody who was told of the worst level the alarm ever had.
        level = min(record.level, record.max_level)
        addressees = rule.notify if rule is not None else ()
        told = self._of_case(transition, rule) if self.cases else transition.notify
        return (
            told
            and self.simulated in (None, record.simulated)
            and level <= self.level
            and (not self.kinds or record.kind in self.kinds)
            and (not self.groups or any(group in self.groups for group in addressees))
        )

    @staticmethod
    def _of_case(transition: Transition, rule: Rule | None) -> bool:
        if rule is None:  # removed with its file: its cases end
            return transition.cause == "T24"
        return rule.case and (transition.cause in QUIET or (transition.notify and transition.cause in CAUSES))


def receivers(transition: Transition, rule: Rule | None, feeds: Iterable[Feed]) -> tuple[str, ...]:
    """Names of all machines told of ``transition``, each once, in the order of the feeds; never for shadow alarms."""
    if transition.record.shadow:
        return ()
    found: dict[str, None] = {}
    for feed in feeds:
        if feed.takes(transition, rule):
            found.update(dict.fromkeys(feed.receivers))
    return tuple(found)


class While(StrEnum):
    """As long as what a step is taken, and an alarm is repeated."""

    UNACKNOWLEDGED = "unacknowledged"  # nobody has said that they act (and it stands, or wants acknowledgement)
    ACTIVE = "active"  # acknowledged or not, its condition is true


class GroupBy(StrEnum):
    """What alarms of one message have in common."""

    CAUSE = "cause"  # the alarm that explains them, else nothing but itself
    RULE = "rule"
    KIND = "kind"
    ROAD = "road"
    TOWN = "town"
    UNIT = "unit"
    LEVEL = "level"
    ALL = "all"  # whatever comes down this route


class TargetKind(StrEnum):
    PERSON = "person"
    TEAM = "team"
    ROTA = "rota"


@dataclass(frozen=True, slots=True)
class Target:
    kind: TargetKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"


@dataclass(frozen=True, slots=True)
class Match:
    """Every field narrows; an empty one does not. ``level``: at least as severe. ``rules``: patterns (``lamp-*``).
    ``addressees``: one of the rule's ``notify``. ``during``: the moment it was raised is in the schedule;
    ``unless``: it is not. ``attributes``: of the asset, equal."""

    level: Level = Level.IV
    kinds: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    roads: tuple[str, ...] = ()
    towns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    addressees: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str | float | bool], ...] = ()
    during: Schedule | None = None
    simulated: bool = False
    unless: Schedule | None = None

    def misses(self, record: AlarmRecord, asset: Asset, rule: Rule | None, at: Micros) -> str | None:
        """The first field that does not match, by its name in the file; None when all do."""
        if record.simulated is not self.simulated:
            return "simulated"
        if record.level > self.level:
            return "level"
        if self.kinds and record.kind not in self.kinds:
            return "kind"
        if self.rules and not any(fnmatchcase(record.rule, pattern) for pattern in self.rules):
            return "rule"
        if self.assets and not any(fnmatchcase(record.asset, pattern) for pattern in self.assets):
            return "asset"
        for name, wanted, is_ in (
            ("road", self.roads, asset.road), ("town", self.towns, asset.town), ("unit", self.units, asset.unit),
        ):  # fmt: skip
            if wanted and is_ not in wanted:
                return name
        notify = rule.notify if rule is not None else ()
        if self.addressees and not any(one in self.addressees for one in notify):
            return "notify"
        if any(asset.attributes.get(name) != value for name, value in self.attributes):
            return "attributes"
        if self.during is not None and not self.during.is_on(at):
            return "during"
        if self.unless is not None and self.unless.is_on(at):
            return "unless"
        return None


@dataclass(frozen=True, slots=True)
class Step:
    """``after`` the alarm was told for the first time, ``tell`` these, if it is still so."""

    after: Micros
    tell: tuple[Target, ...]
    if_still: While = While.UNACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class Grouping:
    """Alarms equal in ``by`` are one message. The first waits for others for ``wait``; after a message of the group at
    least ``interval`` passes to the next. Level I waits for nothing."""

    by: tuple[GroupBy, ...] = (GroupBy.CAUSE,)
    wait: Micros = 0
    interval: Micros = 0


@dataclass(frozen=True, slots=True)
class Repeat:
    """The newest step's people again ``every`` so long, at most ``times``, while it is ``if_still`` so."""

    every: Micros
    times: int
    if_still: While = While.UNACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class Route:
    """One leaf or branch of the tree; what a branch says its children inherit (the reader has done so).

    ``quiet``: what is raised then waits for its end, never level I. ``cleared``: those who were told are told of the
    end. ``dispatch``: work is given to these by itself, when the first step is taken. ``warn``, ``overdue``: who hears
    that a time of the rule's ``sla`` is nearly over, or over; empty: those of the first, of the last step.
    """

    name: str
    match: Match = Match()
    steps: tuple[Step, ...] = ()
    group: Grouping = Grouping()
    repeat: Repeat | None = None
    quiet: Schedule | None = None
    cleared: bool = True
    dispatch: str | None = None
    warn: tuple[Target, ...] = ()
    overdue: tuple[Target, ...] = ()
    go_on: bool = False
    routes: tuple[Route, ...] = ()
    line: int | None = None
    title_zh: str = ""
    title_en: str = ""

    @property
    def all_routes(self) -> Iterator[Route]:
        """Itself and every route below, in the order in which they are looked at."""
        yield self
        for child in self.routes:
            yield from child.all_routes


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can be told. ``user``: the account in the console, for what the person does there and for work
    (default: the same name). ``numbers``: telephone numbers from which answers come."""

    person: str
    name: str
    channels: tuple[Channel, ...]
    language: str = "zh"
    user: str = ""
    numbers: tuple[str, ...] = ()
    name_en: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``messages`` ``within`` a time, for one person and one rule, and ``in_all`` for one person; what is over
    it comes as one digest ``digest`` after the first that was held. Never level I."""

    messages: int = 3
    in_all: int = 8
    within: Micros = 10 * MINUTE
    digest: Micros = 5 * MINUTE


@dataclass(frozen=True, slots=True)
class Choice:
    """One route an alarm went into, or passed by: ``misses`` names the field that did not match."""

    route: Route
    misses: str | None
    depth: int
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything ``routes.yaml`` says. Without a file: nobody, and the calendar of the country."""

    root: Route = field(default_factory=lambda: Route("root"))
    people: Mapping[str, Person] = field(default_factory=dict)
    teams: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    rotas: Mapping[str, Rota] = field(default_factory=dict)
    limit: Limit = Limit()
    calendar: Calendar = field(default_factory=Calendar)
    canary: tuple[Target, ...] = ()
    titles: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # of teams and rotas, in Chinese and English

    def of(self, record: AlarmRecord, asset: Asset, rule: Rule | None, at: Micros) -> tuple[Route, ...]:
        """The routes an alarm raised ``at`` goes down to; empty when nobody is to be told."""
        return tuple(choice.route for choice in self.choices(record, asset, rule, at) if choice.chosen)

    def choices(self, record: AlarmRecord, asset: Asset, rule: Rule | None, at: Micros) -> list[Choice]:
        """Every route that was looked at, in order, with why not."""
        found: list[Choice] = []
        missed = self.root.match.misses(record, asset, rule, at)
        if missed is not None:
            return [Choice(self.root, missed, 0)]
        self._descend(self.root, record, asset, rule, at, 0, found)
        return found

    def _descend(
        self, route: Route, record: AlarmRecord, asset: Asset, rule: Rule | None, at: Micros, depth: int,
        found: list[Choice],
    ) -> None:  # fmt: skip
        place = len(found)
        found.append(Choice(route, None, depth))
        entered = False
        for child in route.routes:
            missed = child.match.misses(record, asset, rule, at)
            if missed is not None:
                found.append(Choice(child, missed, depth + 1))
                continue
            entered = True
            self._descend(child, record, asset, rule, at, depth + 1, found)
            if not child.go_on:
                break
        if not entered:
            found[place] = Choice(route, None, depth, chosen=bool(route.steps))

    def people_of(self, targets: Sequence[Target], at: Micros) -> tuple[str, ...]:
        """Names of the persons behind ``targets`` at a moment, each once, in order. A rota gives who is on duty, else
        its fallback."""
        found: dict[str, None] = {}
        for target in targets:
            for person in self._behind(target, at):
                found[person] = None
        return tuple(found)

    def _behind(self, target: Target, at: Micros) -> Iterator[str]:
        match target.kind:
            case TargetKind.PERSON:
                yield target.name
            case TargetKind.TEAM:
                for member in self.teams[target.name]:
                    yield from self._behind(member, at)  # the reader saw to it that no team holds itself
            case TargetKind.ROTA:
                yield from self.rotas[target.name].on_duty(at).people

    def named(self, name: str) -> tuple[Target, ...]:
        """Whom a name means to whom work is given: a person, a team, a rota, an account; nobody we know."""
        for kind, known in (
            (TargetKind.PERSON, self.people), (TargetKind.TEAM, self.teams), (TargetKind.ROTA, self.rotas),
        ):  # fmt: skip
            if name in known:
                return (Target(kind, name),)
        person = self.person_of_user(name)
        return () if person is None else (Target(TargetKind.PERSON, person.person),)

    def person_of_user(self, user: str) -> Person | None:
        """The person whose account ``user`` is."""
        for person in self.people.values():
            if (person.user or person.person) == user:
                return person
        return None

    def teams_of(self, person: str, at: Micros) -> frozenset[str]:
        """Teams and rotas to which a person belongs at a moment; for "my work"."""
        teams = {name for name, targets in self.teams.items() if person in self.people_of(targets, at)}
        duties = {name for name, rota in self.rotas.items() if person in rota.on_duty(at).people}
        return frozenset(teams | duties)
