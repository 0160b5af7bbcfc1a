"""Backtest: what rules would have made of the readings that are kept, through the engine that is in force every night.

    citywatch backtest RULES --data DIR --from T --to T

Readings come from the historian in the order in which they arrived (hot tables and Parquet files), assets and devices
from the store; the data folder may belong to a running gateway and is only read. Reported: alarms by rule and level,
the operator load they would have made, and the difference. What people did (acknowledged, shelved) is not repeated:
every alarm is new.

Rules that are the same on both sides, and depend on nothing that differs, raise the same alarms: they are heard once. A
second engine, in a process of its own, hears the rest of the rules in force and what these depend on.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from heapq import merge
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.config.bundle import load_configuration
from gateway.config.settings import Settings
from gateway.config.stories import rules_at
from gateway.console import views
from gateway.core.engine import Engine
from gateway.core.load import LoadReport, OperatorLoad, asks
from gateway.core.model import Asset, Decoded, Device, Event, Micros, Reading, Transition
from gateway.core.processor import DEFAULT_LATENESS, GATEWAY
from gateway.core.profile import Profile
from gateway.core.registry import Registry
from gateway.core.rule import RuleSet, depending_on, with_dependencies
from gateway.errors import CitywatchError, ConfigError, Mistake, StorageFailed
from gateway.historian.archive import Archive
from gateway.store.still import city_of

SHOWN = 1_000  # alarms listed one by one; the counts are of all
STEP_ROWS = 50_000


def backtest(
    rules: Path, data: Path, since: Micros, until: Micros, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """The report as JSON types. Raises ConfigError for rules that cannot be loaded and for a folder without data.
    ``progress`` is called with readings done and readings in all."""
    if not since < until:
        raise ConfigError([Mistake("--from", None, "", "must lie before --to")])
    if not (data / "history").is_dir() or not (data / "store.db").exists():
        raise ConfigError([Mistake(str(data), None, "", "is not the data folder of a gateway")])
    tried, force = rules_at(rules), load_configuration(Settings(data=data))[1].rules
    apart = differing(force, tried)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:  # starts nothing unless it is asked
        other = beside.submit(_listen_apart, data, since, until, frozenset(apart)) if apart else None
        trial, readings = _listen(tried, data, since, until, set(force.rules) - apart, progress)
        new = trial.end(until, readings)
        steps, fleeting = other.result() if other is not None else ([], 0)
    old = _in_force(force, trial, steps, fleeting, since, until, readings)
    return {
        "rules": str(rules),
        "from": views.iso(since),
        "to": views.iso(until),
        "readings": new.readings,
        "tried": new.report(),
        "in_force": old.report(),
        "difference": difference(new, old),
    }


def differing(force: RuleSet, tried: RuleSet) -> set[str]:
    """The rules in force whose alarms may be others than with the rules tried: what differs, and what depends on it."""
    apart = {rule for rule in {*force.rules, *tried.rules} if force.get(rule) != tried.get(rule)}
    return (depending_on(apart, force) | depending_on(apart, tried)) & set(force.rules)


def _listen(
    rules: RuleSet,
    data: Path,
    since: Micros,
    until: Micros,
    noted: Collection[str],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, int]:
    """Let rules hear the readings of a data folder; how many there were. ``noted``: rules whose steps are kept."""
    _, configuration = load_configuration(Settings(data=data))
    assets, devices = asyncio.run(city_of(data))
    trial = Trial(rules, assets, devices, configuration.profiles, since, noted=noted)
    done = 0
    gc.disable()  # millions of short-lived readings and no circles among them
    try:
        with Archive.open(data / "history") as archive:
            total = archive.count(since, until) if progress is not None else 0
            for messages in archive.messages(since, until, STEP_ROWS):
                for readings in messages:
                    trial.hear(readings)
                    done += len(readings)
                if progress is not None:
                    progress(done, total)
    finally:
        gc.enable()
    return trial, done


def _listen_apart(data: Path, since: Micros, until: Micros, apart: frozenset[str]) -> tuple[list[Transition], int]:
    """The steps of some of the rules in force, and how many of their alarms were fleeting."""
    force = load_configuration(Settings(data=data))[1].rules
    wanted = with_dependencies(apart, force)
    rules = RuleSet({rule.id: rule for rule in force if rule.id in wanted})
    trial, readings = _listen(rules, data, since, until, apart)
    trial.end(until, readings)
    return trial.steps, trial.fleeting(apart)


def _in_force(
    force: RuleSet,
    trial: Trial,
    steps: Sequence[Transition],
    fleeting: int,
    since: Micros,
    until: Micros,
    readings: int,
) -> Heard:
    """What the rules in force made of it: what they share with the rules that were tried, and the ``steps`` of the
    others."""
    tally = Tally(since)
    for step in merge(trial.steps, steps, key=lambda step: step.at):
        tally.take(step)
    return tally.heard(list(force.rules), until, readings, trial.fleeting(trial.noted) + fleeting)


class Heard(msgspec.Struct):
    """What one set of rules made of the readings. ``alarms``: raises by alarm; ``told``: raises that asked for
    attention, the first of them."""

    rule_ids: list[str]
    readings: int
    raises: dict[str, int]
    levels: dict[str, int]
    alarms: dict[str, int]
    told: list[Transition]
    told_in_all: int
    fleeting: int
    load: LoadReport

    def report(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "raises": sum(self.raises.values()),
            "by_rule": dict(sorted(self.raises.items())),
            "by_level": dict(sorted(self.levels.items())),
            "fleeting": self.fleeting,
            "operator_load": views.load_report(self.load),
            "alarms": [
                {
                    "at": views.iso(step.at),
                    "alarm_id": step.alarm_id,
                    "level": step.record.level.name,
                    "value": step.record.value,
                    "limit": step.record.limit,
                    "unit": step.record.unit,
                }
                for step in self.told
            ],
            "alarms_cut": self.told_in_all - len(self.told),
        }


class Tally:
    """Adds up the steps of alarms in the order of their times. ``about``: the one rule whose load is asked for, raises
    are counted of all; ``among``: what happens on these assets counts."""

    def __init__(self, since: Micros, about: str | None = None, among: Collection[str] | None = None) -> None:
        self._about = about
        self._among = among
        self._load = OperatorLoad(since)
        self._raises: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._alarms: Counter[str] = Counter()
        self._told: list[Transition] = []
        self._told_in_all = 0

    def take(self, step: Transition) -> None:
        if self._among is not None and step.record.asset not in self._among:
            return
        raised = step.cause in ("T3", "T7", "T26")
        if raised:
            self._raises[step.record.rule] += 1
        if self._about is not None and step.record.rule != self._about:
            return
        self._load.take(step)
        if raised:
            self._levels[step.record.level.name] += 1
            self._alarms[step.alarm_id] += 1
            if asks(step):
                self._told_in_all += 1
                if len(self._told) < SHOWN:
                    self._told.append(step)

    def heard(self, rule_ids: list[str], until: Micros, readings: int, fleeting: int) -> Heard:
        return Heard(
            rule_ids,
            readings,
            dict(self._raises),
            dict(self._levels),
            dict(self._alarms),
            self._told,
            self._told_in_all,
            fleeting,
            self._load.report(until),
        )


class Trial:
    """One set of rules listening. ``about`` and ``among`` as in ``Tally``; ``noted``: rules whose steps are kept in
    ``steps``."""

    def __init__(
        self,
        rules: RuleSet,
        assets: Iterable[Asset],
        devices: Iterable[Device],
        profiles: dict[str, Profile],
        since: Micros,
        about: str | None = None,
        among: Collection[str] | None = None,
        noted: Collection[str] = (),
    ) -> None:
        def interval(device: Device) -> Micros | None:
            profile = profiles.get(device.profile)
            return device.expected_interval or (profile.expected_interval if profile is not None else None)

        def lateness(device: Device) -> Micros:
            profile = profiles.get(device.profile)
            return profile.allowed_lateness if profile is not None else DEFAULT_LATENESS

        registry = Registry()
        registry.upsert([GATEWAY, *assets], devices)
        self.noted = frozenset(noted)
        self.steps: list[Transition] = []
        self._rules = rules
        self._engine = Engine(registry, rules, interval, lateness)
        self._tally = Tally(since, about, among)
        self._events: list[Event] = []
        self._engine.advance(since, self._events)

    def hear(self, readings: list[Reading]) -> None:
        """One message."""
        first = readings[0]
        self._engine.advance(first.received_at, self._events)
        self._engine.observe(Decoded(first.device, readings), self._events)
        if self._events:
            self._note()

    def end(self, until: Micros, readings: int) -> Heard:
        self._engine.advance(until, self._events)
        self._note()
        fleeting = self._engine.fleeting.total()
        return self._tally.heard(list(self._rules.rules), until, readings, fleeting)

    def fleeting(self, rules: Iterable[str]) -> int:
        """Pending alarms of these rules that went away before their delay."""
        return sum(self._engine.fleeting[rule] for rule in rules)

    def _note(self) -> None:
        for event in self._events:
            if isinstance(event, Transition):
                self._tally.take(event)
                if event.record.rule in self.noted:
                    self.steps.append(event)
        self._events.clear()


def difference(new: Heard, old: Heard) -> dict[str, Any]:
    """By rule that was tried: raises with the rules tried and with those in force; and which alarms only one raised."""
    tried = set(new.rule_ids)
    mine = set(new.alarms)
    theirs = {alarm_id for alarm_id in old.alarms if alarm_id.rpartition("/")[2] in tried}
    rules = sorted(tried & {*new.raises, *old.raises})
    return {
        "rules": {rule: {"tried": new.raises.get(rule, 0), "in_force": old.raises.get(rule, 0)} for rule in rules},
        "only_tried": sorted(mine - theirs)[:SHOWN],
        "only_in_force": sorted(theirs - mine)[:SHOWN],
    }


def run_backtest(rules: Path, data: Path, since: str, until: str) -> dict[str, Any]:
    """The command: times as people write them, a progress bar where there is a terminal."""
    try:
        begin, end = views.micros(since), views.micros(until)
    except ValueError as error:
        raise ConfigError([Mistake("--from, --to", None, "", str(error))]) from error
    columns = (TextColumn("backtest"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("readings", total=None)
            return backtest(rules, data, begin, end, lambda done, total: bar.update(task, completed=done, total=total))
    except StorageFailed as error:
        raise CitywatchError(str(error)) from error
