"""A scene: one gateway with its load, its witnesses and its broker in one folder, to be hurt and then judged.

    async with Scene.open(folder, devices=40, rate=300) as scene:
        await scene.start()
        async with scene.fault("kill -9"):
            await scene.gateway.kill()
            await scene.gateway.start()
        verdict = await scene.conclude()

The load is simulated: its alarms go to ``testers``. Those of the strangers and the gateway's own are real and go to
``crew``. Begin and end of every fault are lines of ``faults.jsonl``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.faults.disk import HarnessError
from bench.faults.evidence import DataFolder, told_to
from bench.faults.processes import GatewayProcess, LoadProcess, OutsideBroker, free_port
from bench.judge import LOG, Case, Finding, Verdict, judge, recovered_within
from gateway.sources.broker import derived_password, secret_file
from simulators.witness import Witness

QUIET_S = 0.4  # all is here and nothing more came for so long
LOST_S = 13.0  # something is missing and nothing came for so long: the embedded broker sends again after 10 s
# I9: 15 s for a gateway that has the machine to itself (bench/recovery.py); here several start at once beside their
# loads, brokers and tracers.
RECOVERY_LIMIT_S = 30.0
FLEET = "fleet"
RECEIVERS = {"crew": False, "testers": True}  # name → told of simulated assets, or of all others
STRANGERS = ("stranger-1", "stranger-2", "stranger-3")  # two pipe gauges and a road gauge with logins of their own


@dataclass
class Scene:
    """One gateway with its load and its witnesses in one folder. Made by ``Scene.open``."""

    folder: Path
    gateway: GatewayProcess
    load: LoadProcess
    broker: OutsideBroker | None
    facts: list[Finding] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    _loading: bool = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        *,
        devices: int = 40,
        rate: float = 300.0,
        seed: int = 1,
        alarms_every: int = 4,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        outside_broker: bool = False,
        **settings: Any,
    ) -> AsyncIterator[Scene]:
        """A fresh folder with everything but running gateway and load. ``settings`` are laid over the usual ones."""
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        load = LoadProcess(folder, "load", devices, rate, seed, alarms_every)
        broker = OutsideBroker(folder) if outside_broker else None
        embedded = {"embedded": True, "port": free_port(), "fleet_users": [FLEET]}
        async with contextlib.AsyncExitStack() as stack:
            urls = {name: (await stack.enter_async_context(Witness(_told(folder, name)))).url for name in RECEIVERS}
            usual: dict[str, Any] = {
                "data": str(data or folder / "data"),
                "mqtt": [{"url": broker.url} if broker else embedded],
                "console": {"port": 0},
                "assets": [str(load.assets), str(_strangers(folder))],
                "snapshots": {"frames": 1_000, "interval": "2s"},
                "receivers": [
                    {"name": name, "url": urls[name], "allow_loopback": True, "simulated": simulated}
                    for name, simulated in RECEIVERS.items()
                ],
            }
            both = usual | settings
            gateway = GatewayProcess(folder, both, data or folder / "data", environment or {})
            scene = cls(folder, gateway, load, broker)
            try:
                yield scene
            finally:
                load.kill()
                await gateway.kill()
                if broker is not None:
                    broker.kill()

    async def start(self, *, load: bool = True) -> None:
        """The gateway, and when it is ready the load."""
        await self.gateway.start()
        if load:
            await self._start_load()

    @property
    def mqtt_url(self) -> str:
        return self.broker.url if self.broker is not None else str(self.gateway.info["mqtt_url"])

    async def _start_load(self) -> None:
        self._loading = True
        if self.broker is not None:
            await self.load.start(self.mqtt_url, None)
            return
        credentials = self.folder / "credentials.json"
        credentials.write_text(json.dumps({"fleet": {"username": FLEET, "password": self.password(FLEET)}}))
        await self.load.start(self.mqtt_url, credentials)

    @asynccontextmanager
    async def fault(self, name: str) -> AsyncIterator[None]:
        """Writes when the fault began and ended."""
        begin = time.time_ns() // 1000
        self._note({"fault": name, "at": begin, "step": "begin"})
        try:
            yield
        finally:
            self._note({"fault": name, "at": time.time_ns() // 1000, "step": "end", "since": begin})

    def _note(self, line: Mapping[str, Any]) -> None:
        with (self.folder / "faults.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")

    # -- asking the gateway -------------------------------------------------------------------------------------------

    async def get(self, path: str, **query: Any) -> Any:
        """An answer of the API as JSON. Raises HarnessError when there is none."""
        try:
            async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5) as client:
                answer = await client.get(
                    f"{self.gateway.info['console_url'].rstrip('/')}/api/v1/{path}",
                    params=query,
                    headers={"Authorization": f"Bearer {self.token()}"},
                )
        except httpx.HTTPError as error:
            raise HarnessError(f"GET {path}: {error or type(error).__name__}") from error
        if answer.status_code not in (200, 503):
            raise HarnessError(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def token(self) -> str:
        """The administrator's token: said at the very first start (of each store), so it is found in the log."""
        said = re.findall(r"first token, shown only now \(administrator\): (\S+)", self.gateway.log.read_text())
        if not said:
            raise HarnessError("the gateway never said its first token")
        return str(said[-1])

    def password(self, user: str) -> str:
        """What the embedded broker wants from a device or a fleet user; the one outside lets everybody in."""
        if self.broker is not None:
            return ""
        return derived_password(secret_file(self.gateway.data / "secrets" / "broker_secret"), user)

    async def settle(self) -> dict[str, Any]:
        """Wait until everything acknowledged has arrived and been decided; gives the gateway's ledger."""
        wanted = self.summary.get("acked", 0)
        balance: dict[str, Any] = {}
        since = time.monotonic()
        while True:
            before, balance = balance, await self.get("ledger", limit=1000)
            if before.get("received") != balance["received"] or balance["in_flight"]:
                since = time.monotonic()
            ours = [one for one in balance["devices"] if one["device"].startswith("load-")]
            complete = sum(one["stored"] + one["rejected_total"] for one in ours) >= wanted
            if time.monotonic() - since > (QUIET_S if complete else LOST_S):
                return balance  # the judge will say what is missing
            await asyncio.sleep(0.1)

    async def arrived(self, device: str, stored: int, timeout_s: float = 10.0) -> int:
        """Wait until ``stored`` frames of a device are stored; gives how many are."""
        deadline = time.monotonic() + timeout_s
        found = 0
        while found < stored and time.monotonic() < deadline:
            with contextlib.suppress(HarnessError):  # not found: nothing has come from it yet
                found = int((await self.get("ledger", device=device))["stored"])
            await asyncio.sleep(0.05)
        return found

    async def conclude(
        self,
        *,
        raises: bytes | None = None,
        sink: Callable[[], Awaitable[set[tuple[str, str, int, float]]]] | None = None,
        sink_refuses: set[tuple[str, str]] | None = None,
        damage_expected: bool = False,
    ) -> Verdict:
        """End the load, let everything arrive, stop the gateway in order, and judge the folder."""
        if self._loading:
            self.summary = await self.load.stop()
        if not self.gateway.running:
            await self.gateway.start()
        balance = await self.settle()
        await self._outbox_empty()
        held = await sink() if sink is not None else None
        # At rest: a word of the gateway about itself may be on its way at any moment, and counts as in flight.
        while (balance := await self.get("ledger"))["in_flight"]:  # noqa: ASYNC110  it happens in another process
            await asyncio.sleep(0.02)
        code, seconds = await self.gateway.stop()
        case = Case(
            self.gateway.data,
            [self.load.ledger] if self._loading else [],
            {name: _told(self.folder, name) for name in RECEIVERS},
            balance,
            held,
            sink_refuses or set(),
            {LOG: None, **RECEIVERS},
            raises,
            damage_expected=damage_expected,
        )
        verdict = await asyncio.to_thread(judge, case)
        verdict.findings += [
            *self.facts,
            Finding("F04 an ordered stop ends with 0", 1, int(code != 0), [f"exit {code}"] if code else []),
            recovered_within(self.gateway.ready_after_s, RECOVERY_LIMIT_S),
        ]
        verdict.figures |= {
            "recovery_max_s": round(max(self.gateway.ready_after_s, default=0.0), 3),
            "stop_s": round(seconds, 3),
            "starts": float(len(self.gateway.ready_after_s)),
            "resent": float(self.summary.get("resent", 0)),
        }
        return verdict

    def slowest_notification_s(self) -> float:
        """The longest time between a step of an alarm and its first arrival at a witness."""
        steps = {(t.alarm_id, t.rev): int(t.document["at"]) for t in DataFolder(self.gateway.data).transitions()}
        delays: dict[tuple[str, int], float] = {}
        for one in (one for name in RECEIVERS for one in told_to(_told(self.folder, name))):
            key = (one.alarm_id, one.rev)
            if key in steps:
                delays.setdefault(key, (one.received_at - steps[key]) / 1e6)
        return max(delays.values(), default=0.0)

    async def _outbox_empty(self) -> None:
        """Wait for the last notification as long as any goes out; what is still open then is the judge's business."""
        folder = DataFolder(self.gateway.data)
        since, before = time.monotonic(), -1
        while (still_open := folder.open_notifications()) and time.monotonic() - since < LOST_S:
            if still_open != before:
                since, before = time.monotonic(), still_open
            await asyncio.sleep(0.1)


def _told(folder: Path, receiver: str) -> Path:
    """Where the witness of a receiver writes down what it was told."""
    return folder / f"{receiver}.db"


def _strangers(folder: Path) -> Path:
    """The asset file of three gauges that send only what a fault tells them to. They count as real ones."""
    path = folder / "strangers.yaml"
    kinds = dict(zip(STRANGERS, ("pipe", "pipe", "road"), strict=True))
    assets = [{"asset": name, "kind": kind, "name": name} for name, kind in kinds.items()]
    devices = [
        {"device": name, "asset": name, "profile": f"generic/json-{kind}", "address": name, "expected_interval": "12h"}
        for name, kind in kinds.items()
    ]
    path.write_text(yaml.safe_dump({"assets": assets, "devices": devices}), encoding="utf-8")
    return path
