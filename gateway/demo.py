"""``citywatch demo``: the simulated city as a process of its own, the gateway in this one, a picture in the terminal.

this process: gateway + embedded broker + page          child: python -m simulators city
    ◀────────────── real MQTT, real Modbus TCP ──────────────▶
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import webbrowser
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.app import Gateway, run_gateway
from gateway.config.settings import ConsoleSettings, MqttSettings, Settings
from gateway.core.ledger import UNKNOWN
from gateway.core.model import Transition
from gateway.errors import CitywatchError
from gateway.terminal import DemoStatus, DemoView, Ledger, Step

FLEET = "city"  # the one login that carries the simulated devices
OWN_LOGINS = 2  # lamps that log in as themselves, to show that it works
LAMP_SHARE = 300 / 424  # of the default city; ``--devices`` scales the lamps
REFRESH_S = 0.5
FAULT_LINES = 20


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Ports (0: any free one), data folder (None: a fresh one, deleted at the end), how long (None: until Ctrl-C)."""

    port: int
    mqtt_port: int
    data: Path | None
    seed: int
    devices: int
    seconds: float | None
    browser: bool


def run_demo(options: DemoOptions) -> int:
    """Run the demo; gives the exit code. Raises ConfigError when a port is in use or the folder cannot be written."""
    folder = options.data or Path(tempfile.mkdtemp(prefix="citywatch-demo-"))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    demo = _Demo(options, folder)
    try:
        assets = folder / "assets.json"
        _simulators("assets", "--seed", str(options.seed), "--devices", str(demo.lamps), "--out", str(assets))
        settings = Settings(
            data=folder / "data",
            mqtt=(MqttSettings(id="demo", embedded=True, port=options.mqtt_port, fleet_users=(FLEET,)),),
            assets=(assets,),
            console=ConsoleSettings(port=options.port),
        )
        return run_gateway(settings, None, demo.begin, log_file=folder / "citywatch.log")
    finally:
        demo.end()
        if options.data is None:
            shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    """What runs beside the gateway: the simulators' process and the picture."""

    def __init__(self, options: DemoOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self.lamps = max(10, round(options.devices * LAMP_SHARE))
        self._faults: deque[str] = deque(maxlen=FAULT_LINES)
        self._note = ""
        self._city: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, gateway: Gateway) -> None:
        """The gateway is ready."""
        self._task = asyncio.get_running_loop().create_task(self._run(gateway), name="demo")

    def end(self) -> None:
        """The child is told to go; it goes with us in any case."""
        if self._city is not None and self._city.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody has told the loop yet
                self._city.terminate()

    async def _run(self, gateway: Gateway) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._live_city(gateway), name="city")
                group.create_task(self._picture(gateway), name="picture")
        except* (CitywatchError, OSError) as errors:
            self._note = str(errors.exceptions[0])
        finally:
            gateway.stop()

    async def _live_city(self, gateway: Gateway) -> None:
        """Start the simulators and listen to what they break."""
        broker = gateway.broker
        assert broker is not None, "the demo's broker is the embedded one"
        own = gateway.view.some_lamps(OWN_LOGINS)
        credentials = self._folder / "credentials.json"
        logins = {
            "fleet": {"username": FLEET, "password": broker.password(FLEET)},
            "devices": {device: broker.password(device) for device in own},
        }
        with os.fdopen(os.open(credentials, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(logins, file)
        self._city = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "simulators", "--die-with-parent", "city",
            "--mqtt-url", broker.url, "--credentials", str(credentials), "--own-credentials", str(len(own)),
            "--assets", str(self._folder / "assets.json"), "--seed", str(self._options.seed),
            "--devices", str(self.lamps), "--scenario", "evening",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=(self._folder / "simulators.log").open("wb"),
        )  # fmt: skip
        assert self._city.stdout is not None
        async for line in self._city.stdout:
            self._heard(json.loads(line))
        code = await self._city.wait()
        self._note = f"the simulated city ended (code {code}): see {self._folder / 'simulators.log'}"

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] == "fault":
            self._faults.appendleft(f"{_minutes(message['at'])}  {message['zh']}  {message['en']}")

    async def _picture(self, gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        addresses = gateway.addresses
        with DemoView(timezone=ZoneInfo(gateway.settings.site.timezone)) as view:
            view.announce(
                [
                    ("网页 Page", addresses.console_url + "/"),
                    ("接口 API", addresses.console_url + "/docs"),
                    ("MQTT", addresses.mqtt_url or ""),
                    ("数据 Data", str(self._folder)),
                ],
                addresses.first_token or "",
            )
            if self._options.browser and not view.quiet:
                # A browser that is not there must not hold up the city.
                await asyncio.to_thread(webbrowser.open, addresses.console_url)
            while self._options.seconds is None or loop.time() - began < self._options.seconds:
                view.update(self._status(gateway, loop.time() - began))
                await asyncio.sleep(REFRESH_S)
            view.update(self._status(gateway, loop.time() - began))
        # Time is up: leaving the group alone would wait for the city, which never ends by itself.
        self.end()

    def _status(self, gateway: Gateway, elapsed_s: float) -> DemoStatus:
        view, ledger = gateway.view, gateway.pipeline.processor.ledger
        rates, total = view.rates(), ledger.total
        in_flight = gateway.pipeline.in_flight
        return DemoStatus(
            elapsed_s=elapsed_s,
            messages_per_s=rates["frames"],
            readings_per_s=rates["readings"],
            messages=total.received,
            readings=total.readings,
            devices=gateway.pipeline.processor.registry.device_count,
            devices_heard=sum(name != UNKNOWN for name in ledger.accounts),
            alarms=Counter(view.standing()),
            newest=[_step(gateway, t) for t in reversed(view.newest)],
            faults=list(self._faults),
            ledger=Ledger(total.received + in_flight, total.stored, total.duplicate, total.rejected_total, in_flight),
            note=self._note,
        )


def _step(gateway: Gateway, transition: Transition) -> Step:
    record = transition.record
    asset = gateway.pipeline.processor.registry.asset(record.asset)
    return Step(
        transition.at,
        record.level,
        transition.to_state,
        record.title_zh,
        record.title_en,
        record.asset,
        asset.name if asset is not None else "",
    )


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _simulators(*words: str) -> None:
    """Run one command of the simulators to its end; it dies with us."""
    done = subprocess.run(
        [sys.executable, "-m", "simulators", "--die-with-parent", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise CitywatchError(f"the simulators failed: {done.stderr.strip().splitlines()[-1:]}")
