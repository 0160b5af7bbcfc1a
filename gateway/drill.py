"""``citywatch drill``: a simulated city with known faults through the production engine, and a verdict on the rules.

    python -m simulators stream ──records on a pipe──▶ Processor on virtual time ──transitions──▶ core/score.py

At ``--speed max`` there are no sockets and no waiting: the simulators (a process of their own) write what devices send,
and what is true, in the order of its time; the processor hears it with that time as its clock. The same scenario and
seed give the same report, byte for byte. At any other speed ``live_drill`` runs the whole gateway over real wires, its
clock as fast as the city's.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.config.assets import load_assets
from gateway.config.bundle import load_configuration
from gateway.config.settings import Settings
from gateway.config.stories import rules_at
from gateway.console import views
from gateway.core import hj212
from gateway.core.assets_json import to_json
from gateway.core.load import OperatorLoad
from gateway.core.model import (
    SECOND,
    Command,
    CommandName,
    Condition,
    Event,
    Frame,
    FrameKind,
    FrameRejected,
    Level,
    Micros,
    ModbusCycle,
    ModbusRead,
    Transition,
)
from gateway.core.networks import split
from gateway.core.processor import Configuration, Processor
from gateway.core.registers import BlockRead, plan_reads
from gateway.core.rule import Rule, RuleSet
from gateway.core.score import Act, Expected, Hazard, Score, Truth, is_event, score
from gateway.drill_report import html_page
from gateway.errors import CitywatchError, ConfigError, Mistake

BATCH = 256  # frames decided at a time: what a full intake gives
SHOWN_IN_WORDS = 20
SHOWN = 500  # missed and false alarms listed one by one; the counts are of all
MAX_RECORD = 64 << 20  # the first one holds the asset file of a city of 50,000

_DAY: Micros = 86_400 * SECOND


Progressed: TypeAlias = Callable[[float, float], None]  # (seconds of the scenario so far, of all)


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """``scenario``: a shipped one by name, or a file. ``assets``, ``seed``: other than the scenario's. ``speed``: None
    for as fast as it goes. ``rules``: a file or folder of rules instead of the shipped ones."""

    scenario: str
    seed: int | None = None
    assets: int | None = None
    speed: float | None = None
    rules: Path | None = None


Play: TypeAlias = Callable[[DrillOptions, Progressed | None], dict[str, Any]]


class Begin(msgspec.Struct, frozen=True):
    """The first record: what is played. Times are Micros since the epoch, durations seconds."""

    scenario: str
    title_zh: str
    title_en: str
    seed: int
    start: Micros
    lasts_s: float
    enable: list[str]
    floor: dict[str, float]
    assets: dict[str, Any]


def run_drill(options: DrillOptions, report: Path | None, play: Play | None = None) -> dict[str, Any]:
    """The command: a progress bar where there is a terminal, and the files that ``report`` names (.json, and .html
    beside it). ``play``: ``drill`` or ``live_drill``. Raises ConfigError for a scenario or rules that cannot be
    loaded."""
    columns = (TextColumn("drill"), BarColumn(), TextColumn("{task.fields[clock]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("drill", total=None, clock="")

        def progress(done_s: float, total_s: float) -> None:
            clock = f"{int(done_s) // 3600}:{int(done_s) // 60 % 60:02d} / {total_s / 3600:g} h"
            bar.update(task, completed=done_s, total=total_s, clock=clock)

        answer = (play or drill)(options, progress)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(as_text(answer), encoding="utf-8")
        report.with_suffix(".html").write_text(html_page(answer), encoding="utf-8")
    return answer


def as_text(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False, indent=1) + "\n"


def in_words(answer: dict[str, Any]) -> str:
    """For a terminal: the verdict, and what was wrong."""
    total, one = answer["total"], answer["level_I"]
    lines = [
        f"{'PASSED 合格' if answer['passed'] else 'FAILED 不合格'}  {answer['scenario']}  {answer['title']['zh']} "
        f"{answer['title']['en']}",
        f"  recall {total['recall']}  precision {total['precision']}  level I {one['detected']}/{one['expected']}  "
        f"median delay {total['delay_median_s']} s  false {total['false']}  expected {total['expected']}  "
        f"raised {total['raised']}",
    ]
    lines += [f"  below the floor: {said}" for said in answer["short_of_floor"]]
    lines += [
        f"  missed {missed['alarm_id']} ({missed['level']}) since {missed['since']}: {missed['why']['zh']} / "
        f"{missed['why']['en']}"
        for missed in answer["missed"][:SHOWN_IN_WORDS]
    ]
    lines += [
        f"  false  {wrong['alarm_id']} ({wrong['level']}) at {wrong['at']}: {wrong['value']} {wrong['unit']}"
        for wrong in answer["false_alarms"][:SHOWN_IN_WORDS]
    ]
    return "\n".join(lines)


def drill(options: DrillOptions, progress: Progressed | None = None) -> dict[str, Any]:
    """Play a scenario as fast as it goes; the report as JSON types."""
    words = [sys.executable, "-P", "-m", "simulators", "--die-with-parent", "stream", options.scenario]
    if options.seed is not None:
        words += ["--seed", str(options.seed)]
    if options.assets is not None:
        words += ["--assets", str(options.assets)]
    gc.disable()  # millions of short-lived readings, and no circles among them
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as city:
            assert city.stdout is not None
            assert city.stderr is not None
            try:
                answer = _play(options, records(city.stdout), progress)
            except EOFError as error:
                said = city.stderr.read().decode(errors="replace").strip().splitlines()[-20:]
                code = city.wait()
                if code == 2:
                    mistakes = [Mistake("scenario", None, "", line) for line in said]
                    raise ConfigError(mistakes) from error
                raise CitywatchError(f"the simulated city ended (code {code}): {' | '.join(said[-3:])}") from error
            except BaseException:
                city.kill()
                raise
    finally:
        gc.enable()
    return answer


def records(pipe: IO[bytes]) -> Iterator[list[Any]]:
    """The records of ``simulators stream``: each four bytes of length (big-endian), then MessagePack: an array whose
    first element names it. Raises EOFError when it ends before its last record."""
    decode = msgspec.msgpack.Decoder(list[Any]).decode
    buffer = bytearray()
    start = 0
    while True:
        while len(buffer) - start < 4 or len(buffer) - start - 4 < int.from_bytes(buffer[start : start + 4], "big"):
            del buffer[:start]
            start = 0
            if len(buffer) >= 4 and int.from_bytes(buffer[:4], "big") > MAX_RECORD:
                raise CitywatchError("the simulated city says something else than records")
            part = pipe.read1(1 << 20)  # type: ignore[attr-defined]
            if not part:
                raise EOFError
            buffer += part
        size = int.from_bytes(buffer[start : start + 4], "big")
        record = decode(memoryview(buffer)[start + 4 : start + 4 + size])
        start += 4 + size
        yield record
        if record[0] == "end":
            return


def _play(options: DrillOptions, heard: Iterator[list[Any]], progress: Progressed | None) -> dict[str, Any]:
    begin = msgspec.convert(next(heard)[1], Begin)
    configuration = drill_configuration(options.rules, begin.enable)
    assets, devices = load_assets(json.dumps(begin.assets), "city.json", set(configuration.profiles))
    blocks = {
        device.device: plan_reads(configuration.profiles[device.profile])
        for device in devices
        if configuration.profiles[device.profile].registers
    }
    player = _Player(configuration, begin.start)
    player.feed(FrameKind.CONFIG, begin.start, configuration.hash, b"")
    player.feed(FrameKind.ASSETS, begin.start, "", to_json(assets, devices))
    judge = player.judge
    for record in heard:
        match record:
            case ["mqtt", at, topic, payload]:
                for one, part in split(topic, payload):
                    player.feed(FrameKind.MQTT, begin.start + at, one, part)
            case ["modbus", at, device, words, error]:
                player.feed(FrameKind.MODBUS, begin.start + at, device, cycle(blocks[device], words, error))
            case ["hj212", at, telegram]:
                player.feed(FrameKind.HJ212, begin.start + at, hj212.parse(telegram).station, telegram)
            case ["due", expected]:
                player.expects(shifted(msgspec.convert(expected, Expected), begin.start))
            case ["hazard", hazard]:
                judge.hazards.append(shifted_hazard(msgspec.convert(hazard, Hazard), begin.start))
            case ["act", act]:
                judge.acts.append(shifted_act(msgspec.convert(act, Act), begin.start))
            case ["now", at]:
                if progress is not None:
                    progress(at / SECOND, begin.lasts_s)
            case ["end", at]:
                player.until(begin.start + at)
            case _:
                raise CitywatchError(f"the simulated city says what nobody understands: {record[0]!r}")
    player.flush()
    ledger = player.processor.ledger.balance(None)
    return judge.report(begin, options, len(assets), len(devices), ledger)


def drill_configuration(rules: Path | None, enable: Sequence[str]) -> Configuration:
    """The shipped profiles, and rules: the shipped ones or those at ``rules``, with some switched on."""
    _, configuration = load_configuration(Settings())
    tried = configuration.rules if rules is None else rules_at(rules)
    return Configuration(configuration.hash, configuration.profiles, _enabled(tried, enable))


def _enabled(rules: RuleSet, names: Sequence[str]) -> RuleSet:
    found: dict[str, Rule] = dict(rules.rules)
    for name in names:
        if name in found:
            variants = tuple((assets, replace(rule, enabled=True)) for assets, rule in found[name].overrides)
            found[name] = replace(found[name], enabled=True, overrides=variants)
    return RuleSet(found)


def cycle(blocks: Sequence[BlockRead], words: bytes, error: str | None) -> bytes:
    """One polling cycle of a device whose registers are ``words`` from address 0 on (big-endian), as the Modbus source
    would have journaled it; ``error``: why it does not answer."""
    reads = []
    for block in blocks:
        part = words[2 * block.address : 2 * (block.address + block.count)]
        values = [] if error else list(struct.unpack(f">{len(part) // 2}H", part))
        reads.append(ModbusRead(block.function_code, block.address, values, error, block.count))
    return msgspec.msgpack.encode(ModbusCycle(reads))


class _Player:
    """The processor, its clock and its batches: as the pipeline would, with the time of the records."""

    def __init__(self, configuration: Configuration, start: Micros) -> None:
        self.processor = Processor({configuration.hash: configuration})
        self.judge = Judge(start)
        self._operator = Operator()
        self._batch: list[Frame] = []
        self._position = 0
        self._due: list[tuple[Micros, int, Expected]] = []
        self._order = itertools.count()

    def expects(self, expected: Expected) -> None:
        """To be looked at when it is due."""
        heapq.heappush(self._due, (expected.due, next(self._order), expected))

    def feed(self, kind: FrameKind, at: Micros, address: str, payload: bytes) -> None:
        while self._due and self._due[0][0] < at:
            self._look()
        for command, when in self._operator.commands(at):
            asked = msgspec.msgpack.encode(command)
            self._batch.append(Frame(FrameKind.COMMAND, "drill", command.alarm_id, asked, when))
        self._batch.append(Frame(kind, "drill", address, payload, at))
        if len(self._batch) >= BATCH or kind in (FrameKind.CONFIG, FrameKind.ASSETS):
            self.flush()

    def until(self, at: Micros) -> None:
        """Let the time come: every deadline up to ``at`` is met."""
        while self._due and self._due[0][0] <= at:
            self._look()
        self._tick(at)

    def _look(self) -> None:
        due, _, expected = heapq.heappop(self._due)
        self._tick(due)
        assert self.processor.engine is not None
        self.judge.due(expected, self.processor.engine.why)

    def _tick(self, at: Micros) -> None:
        self._batch.append(Frame(FrameKind.TICK, "drill", "", b"", at))
        self.flush()

    def flush(self) -> None:
        if self._batch:
            self._position += 1
            outcome = self.processor.process(self._position, self._batch)
            self._batch = []
            self.judge.hear(outcome.events)
            self._operator.hear(outcome.events)
            self.judge.readings += len(outcome.readings)


class Operator:
    """The one who works during a drill: acknowledges what asks for it, resets what has latched once it is normal.

    Without him a second event of an alarm would be hidden behind the first; what he does is by the clock, so it is the
    same in every run.
    """

    ACKNOWLEDGES_AFTER: Micros = 120 * SECOND
    RESETS_AFTER: Micros = 600 * SECOND

    def __init__(self) -> None:
        self._wants: list[tuple[Micros, int, CommandName, str]] = []
        self._order = itertools.count()
        self._last: dict[str, Transition] = {}

    def hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, Transition) or event.record.shadow:
                continue
            self._last[event.alarm_id] = event
            record = event.record
            if not record.acked and record.annunciated:
                self._want(event.at + self.ACKNOWLEDGES_AFTER, CommandName.ACKNOWLEDGE, event.alarm_id)
            if record.latched and record.cond is Condition.NORMAL:
                self._want(event.at + self.RESETS_AFTER, CommandName.RESET, event.alarm_id)

    def _want(self, at: Micros, name: CommandName, alarm_id: str) -> None:
        heapq.heappush(self._wants, (at, next(self._order), name, alarm_id))

    def commands(self, now: Micros) -> Iterator[tuple[Command, Micros]]:
        """What he does by ``now``; what he had meant to do and is no longer needed is left out."""
        while self._wants and self._wants[0][0] <= now:
            _, number, name, alarm_id = heapq.heappop(self._wants)
            record = self._last[alarm_id].record
            if (name is CommandName.ACKNOWLEDGE and record.acked) or (name is CommandName.RESET and not record.latched):
                continue
            yield Command(f"drill-{number}", name, alarm_id, "drill", "drill", why="drill"), now


class Judge:
    """Hears what the rules did and what was true; gives the report. Times are Micros since the epoch."""

    def __init__(self, start: Micros) -> None:
        self.acts: list[Act] = []
        self.hazards: list[Hazard] = []
        self.readings = 0
        self._expected: list[Expected] = []
        self._steps: list[Transition] = []
        self._raised: set[str] = set()
        self._why: dict[tuple[str, Micros], tuple[str, str]] = {}
        self.rejected: Counter[str] = Counter()
        self._start = start
        self._load = OperatorLoad(start)

    def hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, FrameRejected):
                self.rejected[event.rejection.code] += 1
            elif isinstance(event, Transition) and not event.record.shadow:
                self._load.take(event)
                self._steps.append(event)
                self._raised.add(event.alarm_id)

    def due(self, expected: Expected, why: Callable[[str], Any]) -> None:
        """An alarm should be there by now; what the engine says of it is kept in case it is not."""
        self._expected.append(expected)
        explanation = why(expected.alarm_id)
        said = explanation.reasons
        self._why[expected.alarm_id, expected.due] = (
            "；".join(reason.zh for reason in said[:3]),
            "; ".join(reason.en for reason in said[:3]),
        )

    def report(self, begin: Begin, options: DrillOptions, assets: int, devices: int, ledger: Any) -> dict[str, Any]:
        end = begin.start + round(begin.lasts_s * SECOND)
        truth = Truth(self.acts, self._expected, self.hazards)
        found = score(truth, self._steps, self._why)
        asset_days = assets * (end - begin.start) / _DAY
        total = found.total
        expected_one, detected_one = found.level_one
        figures = {
            "recall": 1.0 if not total.expected else total.detected / total.expected,
            "precision": 1.0 if not total.raised else (total.raised - total.false) / total.raised,
            "level_I_recall": 1.0 if not expected_one else detected_one / expected_one,
            "false_alarms": float(total.false),
            "median_delay_over_rule_intervals": total.report()["delay_over_rule_intervals_median"] or 0.0,
        }
        short = shortfalls(figures, begin.floor)
        return {
            "scenario": begin.scenario,
            "title": {"zh": begin.title_zh, "en": begin.title_en},
            "seed": begin.seed,
            "speed": "max" if options.speed is None else options.speed,
            "rules": "shipped" if options.rules is None else options.rules.name,
            "enabled": begin.enable,
            "timezone": Settings().site.timezone,
            "start": views.iso(begin.start),
            "end": views.iso(end),
            "lasts_s": begin.lasts_s,
            "assets": assets,
            "devices": devices,
            "readings": self.readings,
            "ledger": ledger,
            "rejected": dict(sorted(self.rejected.items())),
            "passed": not short,
            "floor": begin.floor,
            "short_of_floor": short,
            "total": total.report(),
            "level_I": {"expected": expected_one, "detected": detected_one},
            "false_alarms_per_1000_asset_days": round(1000 * total.false / asset_days, 3) if asset_days else None,
            "by_rule": {name: rule.report() for name, rule in found.rules.items()},
            "missed": [_missed(one) for one in found.missed[:SHOWN]],
            "false_alarms": [_false(step) for step in found.false_alarms[:SHOWN]],
            "operator_load": views.load_report(self._load.report(end)),
            "acts": [
                {
                    "act": act.act, "cause": act.cause, "asset": act.asset, "zh": act.zh, "en": act.en,
                    "since": views.iso(act.since), "until": None if act.until is None else views.iso(act.until),
                    "incidents": found.incidents.get(act.act, 0),
                }
                for act in self.acts
            ],
            "timeline": self._timeline(found, end),
        }  # fmt: skip

    def _timeline(self, found: Score, end: Micros) -> list[dict[str, Any]]:
        """For the picture: per alarm the hazards, what was expected, and when it stood, as [from, to] in seconds."""
        begin = self._start
        rows: dict[str, dict[str, Any]] = {}

        def row(alarm_id: str) -> dict[str, Any]:
            return rows.setdefault(alarm_id, {"alarm": alarm_id, "hazards": [], "expected": [], "stood": []})

        def seconds(at: Micros) -> float:
            return round(float(at - begin) / SECOND, 1)

        for hazard in self.hazards:
            until = end if hazard.until is None else min(end, hazard.until)
            row(f"{hazard.asset}/{hazard.rule}")["hazards"].append([seconds(hazard.since), seconds(until)])
        for expected in self._expected:
            row(expected.alarm_id)["expected"].append(
                [seconds(expected.since), seconds(expected.due), expected.level.name]
            )
        open_: dict[str, tuple[Micros, Level, bool]] = {}
        for step in self._steps:
            record = step.record
            if is_event(step):
                row(step.alarm_id)["stood"].append([seconds(step.at), seconds(step.at), record.level.name, True])
                continue
            before = open_.pop(step.alarm_id, None)
            told = record.annunciated
            if before is not None and before[0] < step.at:
                row(step.alarm_id)["stood"].append([seconds(before[0]), seconds(step.at), before[1].name, before[2]])
            if record.is_active:
                open_[step.alarm_id] = (step.at, record.level, told)
        for alarm_id, (since, level, told) in open_.items():
            row(alarm_id)["stood"].append([seconds(since), seconds(end), level.name, told])
        late = {one.expected.alarm_id for one in found.missed}
        wrong = {step.alarm_id for step in found.false_alarms}
        for alarm_id, one in rows.items():
            one["missed"], one["false"] = alarm_id in late, alarm_id in wrong
        # A hazard in which nothing was due and nothing stood tells nobody anything.
        return [one for _, one in sorted(rows.items()) if one["expected"] or one["stood"]]


def shortfalls(figures: dict[str, float], floor: dict[str, float]) -> list[str]:
    """Where the drill stays below what the scenario asks for, in words. Keys that end in ``_max`` are ceilings."""
    found = []
    for name, wanted in floor.items():
        key = name.removesuffix("_max")
        value = figures[key]
        if (value > wanted) if name.endswith("_max") else (value < wanted):
            found.append(f"{key} {value:.4g}, wanted {'at most' if name.endswith('_max') else 'at least'} {wanted:g}")
    return found


def _missed(one: Any) -> dict[str, Any]:
    expected = one.expected
    return {
        "alarm_id": expected.alarm_id,
        "level": expected.level.name,
        "since": views.iso(expected.since),
        "due": views.iso(expected.due),
        "late_at": None if one.late_at is None else views.iso(one.late_at),
        "why": {"zh": one.why_zh, "en": one.why_en},
        "act": expected.act,
    }


def _false(step: Transition) -> dict[str, Any]:
    record = step.record
    return {
        "alarm_id": step.alarm_id,
        "level": record.level.name,
        "at": views.iso(step.at),
        "value": record.value,
        "limit": record.limit,
        "unit": record.unit,
    }


def shifted(one: Expected, by: Micros) -> Expected:
    return msgspec.structs.replace(one, since=one.since + by, due=one.due + by)


def shifted_hazard(one: Hazard, by: Micros) -> Hazard:
    return msgspec.structs.replace(one, since=one.since + by, until=None if one.until is None else one.until + by)


def shifted_act(one: Act, by: Micros) -> Act:
    return msgspec.structs.replace(one, since=one.since + by, until=None if one.until is None else one.until + by)
