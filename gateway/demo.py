"""``citywatch demo``: the simulated city as a process of its own, the gateway in this one, a picture in the terminal.

this process: gateway + embedded broker + page          child: python -m simulators city
    ◀────────── real MQTT, Modbus TCP and HJ 212 ──────────▶
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import webbrowser
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.app import Gateway, run_gateway
from gateway.core.ledger import UNKNOWN
from gateway.core.model import Transition
from gateway.core.passwords import one_time_password
from gateway.core.records import Role
from gateway.errors import CitywatchError
from gateway.simulated_city import SimulatedCity, city_settings, run_simulators
from gateway.terminal import DemoStatus, DemoView, Ledger, Step

USER = "demo"
OWN_LOGINS = 2  # lamps that log in as themselves, to show that it works
SCENARIO = "evening"
ROUTES = Path(__file__).with_name("demo_routes.yaml")
REFRESH_S = 0.5
FAULT_LINES = 20


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Ports (0: any free one), data folder (None: a fresh one, deleted at the end), size of the city, how long (None:
    until Ctrl-C)."""

    port: int
    mqtt_port: int
    data: Path | None
    seed: int
    assets: int
    seconds: float | None
    browser: bool


def run_demo(options: DemoOptions) -> int:
    """Run the demo; gives the exit code. Raises ConfigError when a port is in use or the folder cannot be written."""
    folder = options.data or Path(tempfile.mkdtemp(prefix="citywatch-demo-"))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    demo = _Demo(options, folder)
    try:
        run_simulators("assets", *demo.played, "--out", str(folder / "assets.json"), "--map-out", str(folder))
        routes = folder / "routes.yaml"
        if not routes.exists():  # theirs, once they have changed it
            shutil.copyfile(ROUTES, routes)
        settings = city_settings(folder, port=options.port, mqtt_port=options.mqtt_port, routes=routes)
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
        self.played = ("--scenario", SCENARIO, "--seed", str(options.seed), "--devices", str(options.assets))
        self._faults: deque[str] = deque(maxlen=FAULT_LINES)
        self._note = ""
        self._city = SimulatedCity(folder)
        self._task: asyncio.Task[None] | None = None

    def begin(self, gateway: Gateway) -> None:
        """The gateway is ready."""
        self._task = asyncio.get_running_loop().create_task(self._run(gateway), name="demo")

    def end(self) -> None:
        """The child goes too."""
        self._city.stop()

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
        await self._city.start(gateway, self.played, gateway.view.some_lamps(OWN_LOGINS))
        async for message in self._city.says():
            self._heard(message)
        self._note = f"the simulated city ended (code {await self._city.ended()}): see {self._city.log}"

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] == "fault":
            self._faults.appendleft(f"{_minutes(message['at'])}  {message['zh']}  {message['en']}")

    async def _picture(self, gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        addresses = gateway.addresses
        password = await _somebody(gateway)
        with DemoView(timezone=ZoneInfo(gateway.settings.site.timezone)) as view:
            view.announce(
                [
                    ("网页 Page", addresses.console_url + "/"),
                    ("接口 API", addresses.console_url + "/docs"),
                    ("MQTT", addresses.mqtt_url or ""),
                    ("数据 Data", str(self._folder)),
                ],
                addresses.first_token or "",
                (USER, password),
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


async def _somebody(gateway: Gateway) -> str:
    """A user who may do everything in this demonstration; gives the password, a new one at every start."""
    people, at, password = gateway.store.people, gateway.clock.now(), one_time_password(secrets.choice)
    if await people.user(USER) is None:
        await people.create(USER, Role.ADMIN, at, full_name="演示 Demo", password=password)
    else:
        await people.set_password(USER, password, at, must_change=False)
    return password


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
