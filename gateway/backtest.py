"""Backtest: what rules would have made of the readings that are kept, through the engine that is in force every night.

    citywatch backtest RULES --data DIR --from T --to T

Readings come from the historian in the order in which they arrived (hot tables and Parquet files), assets and devices
from the store; the data folder may belong to a running gateway and is only read. Two engines hear the same: one with
the rules that are tried, one with the rules in force. Reported: alarms by rule and level, the operator load they would
have made, and the difference. What people did (acknowledged, shelved) is not repeated: every alarm is new.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
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
from gateway.core.rule import RuleSet
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
    rules_at(rules)  # mistakes are told before anything is read
    # Two processes, because two engines are the work; each reads for itself.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        other = beside.submit(listen, None, data, since, until)
        new = listen(rules, data, since, until, progress)
        old = other.result()
    return {
        "rules": str(rules),
        "from": views.iso(since),
        "to": views.iso(until),
        "readings": new.readings,
        "tried": new.report(),
        "in_force": old.report(),
        "difference": difference(new, old),
    }


def listen(
    rules: Path | None,
    data: Path,
    since: Micros,
    until: Micros,
    progress: Callable[[int, int], None] | None = None,
) -> Heard:
    """What the rules of a file or folder (None: those in force) make of the readings of a data folder."""
    _, configuration = load_configuration(Settings(data=data))
    tried = configuration.rules if rules is None else rules_at(rules)
    assets, devices = asyncio.run(city_of(data))
    trial = Trial(tried, assets, devices, configuration.profiles, since)
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
    return trial.end(until, done)


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


class Trial:
    """One set of rules listening. ``about``: the one rule whose load is asked for, raises are counted of all;
    ``among``: what happens on these assets counts."""

    def __init__(
        self,
        rules: RuleSet,
        assets: Iterable[Asset],
        devices: Iterable[Device],
        profiles: dict[str, Profile],
        since: Micros,
        about: str | None = None,
        among: Collection[str] | None = None,
    ) -> None:
        def interval(device: Device) -> Micros | None:
            profile = profiles.get(device.profile)
            return device.expected_interval or (profile.expected_interval if profile is not None else None)

        def lateness(device: Device) -> Micros:
            profile = profiles.get(device.profile)
            return profile.allowed_lateness if profile is not None else DEFAULT_LATENESS

        registry = Registry()
        registry.upsert([GATEWAY, *assets], devices)
        self._rules = rules
        self._about = about
        self._among = among
        self._engine = Engine(registry, rules, interval, lateness)
        self._load = OperatorLoad(since)
        self._raises: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._alarms: Counter[str] = Counter()
        self._told: list[Transition] = []
        self._told_in_all = 0
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
        return Heard(
            list(self._rules.rules),
            readings,
            dict(self._raises),
            dict(self._levels),
            dict(self._alarms),
            self._told,
            self._told_in_all,
            self._engine.counters.fleeting,
            self._load.report(until),
        )

    def _note(self) -> None:
        for event in self._events:
            if not isinstance(event, Transition):
                continue
            if self._among is not None and event.record.asset not in self._among:
                continue
            raised = event.cause in ("T3", "T7", "T26")
            if raised:
                self._raises[event.record.rule] += 1
            if self._about is not None and event.record.rule != self._about:
                continue
            self._load.take(event)
            if raised:
                self._levels[event.record.level.name] += 1
                self._alarms[event.alarm_id] += 1
                if asks(event):
                    self._told_in_all += 1
                    if len(self._told) < SHOWN:
                        self._told.append(event)
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
