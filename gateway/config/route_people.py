"""The people of ``routes.yaml``: persons, teams and rotas, and the names by which routes call them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from gateway.config.route_models import (
    MAX_BEHIND,
    PersonModel,
    RotaModel,
    RoutesModel,
    ShiftModel,
    SwapModel,
    TeamModel,
)
from gateway.config.rule_models import TextModel
from gateway.config.yaml_source import Path, YamlSource, checked, did_you_mean
from gateway.core.case_clock import Calendar
from gateway.core.correlation import circle
from gateway.core.model import Micros
from gateway.core.notification import Channel
from gateway.core.rota import DayKind, Rota, Shift, Swap
from gateway.core.routing import Person, Target, TargetKind
from gateway.errors import ConfigError, Mistake

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ALL = "all"

_NUMBER = re.compile(r"\+?\d{3,20}")
_BETWEEN_DIGITS = re.compile(r"[\s()-]")
_PERSON = "person:"  # may stand before a name where only a person's can

Model = TypeVar("Model", bound=BaseModel)


class Reader:
    """Reads parts of one file; gathers the mistakes in ``mistakes``, which readers of one file share."""

    def __init__(self, source: YamlSource, mistakes: list[Mistake]) -> None:
        self.source = source
        self.mistakes = mistakes

    def say(self, path: Path, message: str) -> None:
        self.mistakes.append(self.source.mistake(path, message))

    def read(self, model: type[Model], data: Any, path: Path) -> Model | None:
        """None after a mistake."""
        if not isinstance(data, dict):
            self.say(path, f"must be a mapping: {', '.join(keys(model)[:4])} …")
            return None
        try:
            return checked(model, self.source, data, path)
        except ConfigError as error:
            self.mistakes += error.mistakes
            return None

    def entry(self, path: Path, key: str, number: int) -> Path:
        """An entry of the list under ``key``; the key itself where one text stands for a list."""
        return (*path, key, number) if (*path, key, number) in self.source.lines else (*path, key)


class PeopleReader(Reader):
    """``receivers``: those of the settings, None when anything may be named."""

    def __init__(self, file: Reader, calendar: Calendar, receivers: Collection[str] | None) -> None:
        super().__init__(file.source, file.mistakes)
        self.calendar = calendar
        self.receivers = receivers
        self.names: dict[TargetKind, dict[str, Path]] = {kind: {} for kind in TargetKind}
        self.people: dict[str, Person] = {}
        self.teams: dict[str, tuple[Target, ...]] = {}
        self.rotas: dict[str, Rota] = {}
        self.titles: dict[str, tuple[str, str]] = {}

    def read_all(self, top: RoutesModel) -> None:
        self._take_names(TargetKind.PERSON, top.people)
        self._take_names(TargetKind.TEAM, top.teams)
        self._take_names(TargetKind.ROTA, top.rotas)
        self.people = self._people(top.people)
        self.teams = self._teams(top.teams)
        self.rotas = self._rotas(top.rotas)

    def _take_names(self, kind: TargetKind, entries: Sequence[Any]) -> None:
        """Names first, so that one may be used above where it stands. Of whatever kind, each is there once: work is
        given to a name, and that must be one person's, one team's or one rota's."""
        for number, entry in enumerate(entries):
            name = entry.get(kind.value) if isinstance(entry, dict) else None
            if not isinstance(name, str):
                continue
            path: Path = (f"{kind.value}s" if kind is not TargetKind.PERSON else "people", number, kind.value)
            taken = next((where[name] for where in self.names.values() if name in where), None)
            if taken is not None:
                self.say(path, f"the name {name} stands already in line {self.source.line(taken)}")
            else:
                self.names[kind][name] = path

    def _people(self, entries: Sequence[Any]) -> dict[str, Person]:
        found: dict[str, Person] = {}
        numbers: dict[str, str] = {}
        users: dict[str, str] = {}
        for index, entry in enumerate(entries):
            here: Path = ("people", index)
            model = self.read(PersonModel, entry, here)
            if model is None:
                continue
            if not model.channels:
                self.say((*here, "channels"), f"{model.person} can be told in no way: name a channel")
            for number, channel in enumerate(model.channels):
                self._receiver(channel.receiver, (*here, "channels", number, "receiver"))
            zh, en = title_of(model.name, model.person)
            found[model.person] = Person(
                model.person,
                zh,
                tuple(Channel(channel.receiver, channel.to) for channel in model.channels),
                model.language,
                model.user,
                tuple(self._numbers(model, numbers, here)),
                en,
            )
            account = model.user or model.person
            if users.setdefault(account, model.person) != model.person:
                self.say((*here, "user"), f"the account {account} is that of {users[account]}")
        return found

    def _numbers(self, model: PersonModel, taken: dict[str, str], path: Path) -> Iterator[str]:
        for index, text in enumerate(model.numbers):
            number = _BETWEEN_DIGITS.sub("", text)
            where = (*path, "numbers", index)
            if not _NUMBER.fullmatch(number):
                self.say(where, f"not a telephone number: {text!r}")
            elif taken.setdefault(number, model.person) != model.person:
                self.say(where, f"the number {text} is that of {taken[number]}: an answer must come from one person")
            else:
                yield number

    def _receiver(self, name: str, path: Path) -> None:
        if self.receivers is not None and name not in self.receivers:
            near = did_you_mean(name, self.receivers)
            self.say(path, f"the settings have no receiver {name}{near}{_of(self.receivers) if not near else ''}")

    def _teams(self, entries: Sequence[Any]) -> dict[str, tuple[Target, ...]]:
        found: dict[str, tuple[Target, ...]] = {}
        where: dict[str, Path] = {}
        for index, entry in enumerate(entries):
            here: Path = ("teams", index)
            model = self.read(TeamModel, entry, here)
            if model is None:
                continue
            if not model.members:
                self.say((*here, "members"), f"the team {model.team} has no members")
            found[model.team] = self.targets(model.members, (*here, "members"))
            where[model.team] = here
            self.titles[model.team] = title_of(model.name, model.team)
        inside = [
            (team, target.name) for team, targets in found.items() for target in targets
            if target.kind is TargetKind.TEAM
        ]  # fmt: skip
        ring = circle(inside)
        if ring:
            self.say((*where[ring[0]], "members"), f"the team contains itself: {' → '.join([*ring, ring[0]])}")
            return {}
        sizes: dict[str, int] = {}
        for team in found:
            if _behind(team, found, sizes) > MAX_BEHIND:
                self.say((*where[team], "members"), f"more than {MAX_BEHIND} people are behind it")
                return {}
        return found

    def targets(self, texts: Sequence[str], path: Path) -> tuple[Target, ...]:
        """``person:…``, ``team:…`` or ``rota:…``, each once."""
        found: dict[Target, None] = {}
        for number, text in enumerate(texts):
            target = self._target(text, (*path, number) if (*path, number) in self.source.lines else path)
            if target is not None:
                if target in found:
                    self.say(path, f"{text} stands here twice")
                found[target] = None
        return tuple(found)

    def _target(self, text: str, path: Path) -> Target | None:
        word, colon, name = text.partition(":")
        if not colon:
            kind = next((kind for kind, names in self.names.items() if text in names), None)
            everybody = [f"{kind.value}:{name}" for kind, names in self.names.items() for name in names]
            near = did_you_mean(f"{(kind or TargetKind.PERSON).value}:{text}", everybody)
            self.say(path, f"`{text}`: say whether it is a person, a team or a rota{near or ' (person:' + text + ')'}")
            return None
        if word not in list(TargetKind):
            self.say(path, f"there is no `{word}:`{did_you_mean(word, list(TargetKind))} (person, team or rota)")
            return None
        kind, name = TargetKind(word), name.strip()
        return Target(kind, name) if self.known(kind, name, path) else None

    def known(self, kind: TargetKind, name: str, path: Path) -> bool:
        if name in self.names[kind]:
            return True
        near = did_you_mean(name, self.names[kind])
        if not near:
            other = next((kind for kind, names in self.names.items() if name in names), None)
            near = f": {name} is a {other.value}" if other is not None else ""
        self.say(path, f"there is no {kind.value} {name}{near}")
        return False

    # -- duty -------------------------------------------------------------------------------------------------------

    def _rotas(self, entries: Sequence[Any]) -> dict[str, Rota]:
        found: dict[str, Rota] = {}
        for index, entry in enumerate(entries):
            here: Path = ("rotas", index)
            model = self.read(RotaModel, entry, here)
            if model is None:
                # The shifts can be looked at all the same, so that one run shows every mistake.
                for number, shift in enumerate(entries_of(entry, "shifts")):
                    self._shift(shift, (*here, "shifts", number))
                continue
            if not model.fallback:
                self.say((*here, "fallback"), "somebody must answer when nobody is on duty")
            for number, person in enumerate(model.fallback):
                self.known(TargetKind.PERSON, person.removeprefix(_PERSON), self.entry(here, "fallback", number))
            shifts = [self._shift(shift, (*here, "shifts", number)) for number, shift in enumerate(model.shifts)]
            right = tuple(shift for shift in shifts if shift is not None)
            swaps = self._swaps(model, right if len(right) == len(shifts) else None, here)
            fallback = tuple(dict.fromkeys(person.removeprefix(_PERSON) for person in model.fallback))
            found[model.rota] = Rota(model.rota, fallback, right, swaps, self.calendar)
            self.titles[model.rota] = title_of(model.name, model.rota)
        return found

    def _shift(self, data: Any, path: Path) -> Shift | None:
        model = self.read(ShiftModel, data, path)
        if model is None:
            return None
        before = len(self.mistakes)
        turns = [tuple(turn) if isinstance(turn, list) else (turn,) for turn in model.people]
        for number, turn in enumerate(turns):
            if not turn:
                self.say((*path, "people", number), "nobody has this turn")
            for person in turn:
                self.known(TargetKind.PERSON, person, (*path, "people", number))
        if model.rotate is None:
            turns = [tuple(dict.fromkeys(person for turn in turns for person in turn))]
        elif len(turns) < 2:
            self.say(
                (*path, "rotate"), "a rotation needs two turns: `people: [zhang, li]`, or pairs [[zhang, li], [wang]]"
            )
        week, kinds = self._shift_days(model.days, (*path, "days"))
        if len(self.mistakes) > before:
            return None
        shift = Shift(model.shift, model.from_, model.until, tuple(turns), weekdays=week, kinds=kinds)
        if model.rotate is not None:
            shift = replace(shift, every=model.rotate.every, since=model.rotate.since)
        return shift

    def _shift_days(self, words: Sequence[str], path: Path) -> tuple[frozenset[int], frozenset[DayKind]]:
        known = (ALL, *DayKind, *DAYS)
        for word in words:
            if word not in known:
                self.say(path, f"no such days: {word}{did_you_mean(word, known)} ({', '.join(known)})")
        if not words:
            self.say(path, "on which days? Leave it out for all")
        kinds = frozenset(DayKind) if ALL in words else frozenset(kind for kind in DayKind if kind in words)
        return frozenset(DAYS.index(day) for day in DAYS if day in words), kinds

    def _swaps(self, model: RotaModel, shifts: tuple[Shift, ...] | None, path: Path) -> tuple[Swap, ...]:
        """``shifts``: None when they have mistakes, and cannot be asked who is in them."""
        found: list[Swap] = []
        members = {person for shift in shifts or () for turn in shift.turns for person in turn}
        for index, data in enumerate(model.swaps):
            here = (*path, "swaps", index)
            swap = self.read(SwapModel, data, here)
            if swap is None:
                continue
            begin, end = self._instant(swap.from_), self._instant(swap.until)
            if end <= begin:
                self.say((*here, "until"), "a swap ends after it begins")
            known = self.known(TargetKind.PERSON, swap.instead_of, (*here, "instead_of"))
            if known and shifts is not None and swap.instead_of not in members:
                self.say((*here, "instead_of"), f"{swap.instead_of} is in no shift of this rota")
            self.known(TargetKind.PERSON, swap.person, (*here, "person"))
            for other in found:
                if other.instead_of == swap.instead_of and begin < other.end and other.begin < end:
                    self.say(here, f"{other.person} stands in for {swap.instead_of} at that time already")
                    break
            found.append(Swap(begin, end, swap.instead_of, swap.person, swap.why))
        return tuple(found)

    def _instant(self, civil: datetime) -> Micros:
        moment = civil.replace(tzinfo=ZoneInfo(self.calendar.timezone))
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def keys(model: type[BaseModel]) -> list[str]:
    return [given.alias or name for name, given in model.model_fields.items()]


def entries_of(data: Any, key: str) -> list[Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, list) else []


def title_of(given: TextModel, name: str) -> tuple[str, str]:
    """In Chinese and in English; one stands for the other where there is one."""
    return given.zh or given.en or name, given.en or given.zh or name


def _of(names: Collection[str]) -> str:
    return f" (there are {', '.join(sorted(names)[:8])})" if names else " (it has none yet)"


def _behind(team: str, teams: Mapping[str, tuple[Target, ...]], sizes: dict[str, int]) -> int:
    """How many people a team leads to, counted as often as they are named."""
    if team not in sizes:
        sizes[team] = sum(
            _behind(member.name, teams, sizes) if member.kind is TargetKind.TEAM and member.name in teams else 1
            for member in teams[team]
        )
    return sizes[team]
