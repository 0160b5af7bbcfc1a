"""``citywatch drill --speed N``: the same scenario over real wires, the whole gateway's clock N times as fast.

    run_gateway (embedded broker, Modbus, HJ 212) ◀── python -m simulators city --wait --scenario-clock --speed N
          └─transitions──▶ Judge ◀──truth, as JSON lines on its stdout──┘

The gateway's time stands still at the scenario's start until the city is ready; both begin at the same moment. What
takes real time on the wires counts N times as much, so that an expected alarm is due ``WIRES_S`` · N later than at max.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.app import Gateway, run_gateway
from gateway.clock import EARLIEST, Clock
from gateway.config.settings import ModbusSettings
from gateway.config.shipped import shipped
from gateway.core.model import SECOND, Micros, Transition
from gateway.core.score import Act, Expected, Hazard
from gateway.drill import (
    Begin,
    DrillOptions,
    Judge,
    Operator,
    Progressed,
    records,
    shifted,
    shifted_act,
    shifted_hazard,
)
from gateway.errors import CitywatchError, CommandRefused, ConfigError, Mistake, Unavailable
from gateway.simulated_city import MODULE, SimulatedCity, city_settings, run_simulators

WIRES_S = 0.25  # a message, a group commit, a poll; on a machine that does the city's work as well
FASTEST = 60.0  # beyond it a Modbus device's three seconds are shorter than a busy machine's pauses
OPERATOR_S = 0.1
CONNECTED_WITHIN_S = 20.0
MODBUS_TIMEOUT_S = 3.0


class DrillClock:
    """Machine time → the scenario's: it stands at ``start`` until ``begin``, then goes ``speed`` times as fast."""

    def __init__(self, start: Micros, speed: float) -> None:
        self._start, self._speed = start, speed
        self._began: int | None = None

    def begin(self) -> None:
        self._began = time.monotonic_ns()

    def elapsed_ns(self) -> int:
        return 0 if self._began is None else round((time.monotonic_ns() - self._began) * self._speed)

    def make(self, last_received_at: Micros) -> Clock:
        """What ``run_gateway`` asks for."""
        return Clock(
            last_received_at,
            wall=lambda: self._start * 1000 + self.elapsed_ns(),
            monotonic=self.elapsed_ns,
            pace=self._speed,
        )


def live_drill(options: DrillOptions, progress: Progressed | None = None) -> dict[str, Any]:
    """Play a scenario over real wires; the report as JSON types. Raises ConfigError for a scenario, rules or a speed
    that cannot be played."""
    speed = options.speed
    assert speed is not None
    if speed > FASTEST:
        raise ConfigError([Mistake("--speed", None, "", f"over real wires at most {FASTEST:g}; or max")])
    begin = _begin(options)
    if begin.start < EARLIEST:
        raise ConfigError([Mistake(options.scenario, None, "start", "over real wires 2025 or later")])
    folder = Path(tempfile.mkdtemp(prefix="citywatch-drill-"))
    try:
        played = [
            "--scenario",
            options.scenario,
            "--seed",
            str(begin.seed),
            "--devices",
            str(len(begin.assets["assets"])),
        ]
        run_simulators("assets", *played, "--out", str(folder / "assets.json"))
        settings = city_settings(
            folder,
            rules=(_rules(options, begin, folder / "rules"),),
            modbus=ModbusSettings(timeout=round(MODBUS_TIMEOUT_S / speed * SECOND)),
        )
        drill = _LiveDrill(options, begin, played, folder, progress)
        code = run_gateway(settings, None, drill.begin, folder / "citywatch.log", drill.clock.make)
        if code or drill.answer is None:
            raise CitywatchError(f"the drill was not played to its end: {drill.failure or f'exit code {code}'}")
        return drill.answer
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begin(options: DrillOptions) -> Begin:
    """What is played, from the first record of the stream."""
    words = [*MODULE, "stream", options.scenario]
    if options.seed is not None:
        words += ["--seed", str(options.seed)]
    if options.assets is not None:
        words += ["--assets", str(options.assets)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as city:
        assert city.stdout is not None
        assert city.stderr is not None
        try:
            first = next(records(city.stdout))
        except EOFError as error:
            said = city.stderr.read().decode(errors="replace").strip().splitlines()
            raise ConfigError([Mistake("scenario", None, "", line) for line in said[-20:]]) from error
        finally:
            city.kill()
    return msgspec.convert(first[1], Begin)


def _rules(options: DrillOptions, begin: Begin, folder: Path) -> Path:
    """The rules as files: those that are tried, with what the scenario switches on, and none of the others."""
    folder.mkdir()
    tried = options.rules or shipped("rules")
    files = sorted(tried.glob("*.yaml")) if tried.is_dir() else [tried]
    for file in shipped("rules").glob("*.yaml"):
        (folder / file.name).write_text("[]\n", encoding="utf-8")
    for file in files:
        text = file.read_text(encoding="utf-8")
        for rule in begin.enable:
            switch = re.compile(rf"(^- rule: {re.escape(rule)}\b(?:(?!^- rule:).)*?^  enabled: )false\b", re.M | re.S)
            text = switch.sub(r"\1true", text)
        (folder / file.name).write_text(text, encoding="utf-8")
    return folder


class _LiveDrill:
    """What goes on beside the gateway: the city, the judge, the one who acknowledges."""

    def __init__(
        self,
        options: DrillOptions,
        begin: Begin,
        played: Sequence[str],
        folder: Path,
        progress: Progressed | None,
    ) -> None:
        assert options.speed is not None
        self.clock = DrillClock(begin.start, options.speed)
        self.answer: dict[str, Any] | None = None
        self.failure = ""
        self._options, self._begin, self._played, self._progress = options, begin, played, progress
        self._speed = options.speed
        self._city = SimulatedCity(folder)
        self._judge = Judge(begin.start)
        self._operator = Operator()
        self._late_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self, gateway: Gateway) -> None:
        """The gateway is ready."""
        gateway.on_transitions = self._hear
        self._task = asyncio.get_running_loop().create_task(self._run(gateway), name="drill")

    def _hear(self, transitions: Sequence[Transition]) -> None:
        self._judge.hear(transitions)
        self._operator.hear(transitions)

    async def _run(self, gateway: Gateway) -> None:
        operator = asyncio.create_task(self._operate(gateway), name="operator")
        try:
            await gateway.wired()
            await self._city.start(gateway, [
                *self._played, "--scenario-clock", "--wait", "--no-stranger", "--speed", f"{self._speed:g}",
                "--for", f"{self._begin.lasts_s / self._speed:.3f}",
            ])  # fmt: skip
            async for message in self._city.says():
                if message["type"] == "ready":
                    await self._all_answer(gateway)
                    self._city.begin()
                    self.clock.begin()
                self._heard(message, gateway)
            if (code := await self._city.ended()) != 0:
                words = self._city.log.read_text(errors="replace").strip().splitlines()
                self.failure = f"the simulated city ended (code {code}): {' | '.join(words[-3:])}"
                return
            await gateway.pipeline.settled()
            self.answer = self._report(gateway)
        finally:
            operator.cancel()
            self._city.stop()
            gateway.stop()

    async def _all_answer(self, gateway: Gateway) -> None:
        """Until every Modbus device, which nobody listened for when the gateway came up, has been read; or long
        enough."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECTED_WITHIN_S):
                while gateway.modbus is not None and not all(one.connected for one in gateway.modbus.stats()):  # noqa: ASYNC110  once
                    await asyncio.sleep(0.05)

    def _heard(self, message: dict[str, Any], gateway: Gateway) -> None:
        start = self._begin.start
        match message:
            case {"type": "rates" | "summary", "late_s": late_s}:
                self._late_s = late_s
                if self._progress is not None:
                    self._progress(min(self.clock.elapsed_ns() / 1e9, self._begin.lasts_s), self._begin.lasts_s)
            case {"type": "truth", "record": ["due", due]}:
                expected = shifted(msgspec.convert(due, Expected), start)
                later = msgspec.structs.replace(expected, due=expected.due + round(WIRES_S * self._speed * SECOND))
                asyncio.get_running_loop().call_later(WIRES_S, self._look, later, gateway)
            case {"type": "truth", "record": ["hazard", hazard]}:
                self._judge.hazards.append(shifted_hazard(msgspec.convert(hazard, Hazard), start))
            case {"type": "truth", "record": ["act", act]}:
                self._judge.acts.append(shifted_act(msgspec.convert(act, Act), start))
            case _:
                pass

    def _look(self, expected: Expected, gateway: Gateway) -> None:
        engine = gateway.pipeline.processor.engine
        assert engine is not None
        self._judge.due(expected, engine.why)

    async def _operate(self, gateway: Gateway) -> None:
        while True:
            await asyncio.sleep(OPERATOR_S)
            for command, _ in self._operator.commands(gateway.clock.now()):
                try:
                    await gateway.pipeline.submit(command)
                except (CommandRefused, Unavailable):
                    continue  # it changed in the meantime

    def _report(self, gateway: Gateway) -> dict[str, Any]:
        registry, ledger = gateway.pipeline.processor.registry, gateway.pipeline.processor.ledger
        self._judge.readings = ledger.total.readings
        self._judge.rejected.update(ledger.total.rejected)
        assets, devices = len(self._begin.assets["assets"]), registry.device_count
        answer = self._judge.report(self._begin, self._options, assets, devices, ledger.balance(None))
        answer["late_s"] = self._late_s
        if self._late_s > WIRES_S:
            too_fast = (
                f"the city was up to {self._late_s:.2f} s late: speed {self._speed:g} is too much for this machine"
            )
            answer["short_of_floor"].append(too_fast)
            answer["passed"] = False
        return answer
