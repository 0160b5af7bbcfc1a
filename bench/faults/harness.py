"""Real processes for fault runs: the gateway, its load and its witness, and a scene that holds all three.

    async with Scene.open(folder, devices=40, rate=300) as scene:
        await scene.start()
        async with scene.fault("kill -9"):
            await scene.gateway.kill()
            await scene.gateway.start()
        verdict = await scene.conclude()

Every process dies with this one. Begin and end of every fault are lines of ``faults.jsonl``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from bench.faults.disk import HarnessError
from bench.faults.evidence import DataFolder, told_to
from bench.judge import ENDED, Case, Finding, Verdict, judge, recovered_within
from gateway.sources.broker import derived_password, secret_file
from simulators.witness import Answer, Witness

READY_S = 30.0  # a start takes 2 s here; three of them at once on two cores take three times as long
STOP_S = 5.0  # F04: SIGTERM under load ends in order within this
SETTLE_S = 40.0  # redelivery after a broker's restart begins after up to its ack_wait
RECOVERY_LIMIT_S = 15.0  # I9, issue 2
FLEET = "fleet"
STRANGERS = ("stranger-1", "stranger-2")  # pipe gauges with logins of their own
REPOSITORY = Path(__file__).resolve().parents[2]

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For ``preexec_fn``: the kernel kills this child when its parent is gone, however that ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A port that was free a moment ago; fixed for a scene, because the load must find the broker again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Wait for another process's doing. Raises HarnessError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise HarnessError(f"after {timeout_s:g} s still not: {what}")
        await asyncio.sleep(0.02)


class GatewayProcess:
    """``citywatch run`` on one settings file, started, hurt and stopped as often as wanted."""

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], data: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """``environment`` is laid over ours at every start."""
        self.folder = folder
        self.data = data
        self._environment = dict(environment or {})
        self.config = folder / "citywatch.yaml"
        self.log = folder / "gateway.log"
        self.ready_after_s: list[float] = []
        self.info: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.write_settings(settings)

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(dict(settings), allow_unicode=True), encoding="utf-8")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    @property
    def pid(self) -> int:
        """The gateway's own process id (not that of a tracer around it)."""
        return int(self.info["pid"])

    async def start(self, *, around: Sequence[str] = ()) -> float:
        """Start and wait until it is ready; gives the seconds it took."""
        self.spawn(around=around)
        return await self.ready()

    def spawn(self, *, around: Sequence[str] = ()) -> None:
        """Start and do not wait. ``around``: words before the command (strace)."""
        if self.running:
            raise HarnessError("the gateway is already running")
        (self.data / "run.json").unlink(missing_ok=True)
        command = [*around, sys.executable, "-m", "gateway", "run", "--config", str(self.config)]
        self._began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
                env={**os.environ, **self._environment},
                preexec_fn=die_with_parent,
            )

    async def ready(self, timeout_s: float = READY_S) -> float:
        """Wait until ``run.json`` says it works. Raises HarnessError with the end of its log when it does not."""
        deadline = time.monotonic() + timeout_s
        while not self._read_info():
            if not self.running:
                raise HarnessError(f"the gateway ended with {self.exit_code}:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise HarnessError(f"the gateway is not ready after {timeout_s:g} s:\n{self.last_words()}")
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - self._began
        self.ready_after_s.append(seconds)
        return seconds

    def _read_info(self) -> bool:
        try:
            info = json.loads((self.data / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        self.info = info
        return self.running and psutil.pid_exists(int(info["pid"]))

    async def kill(self) -> None:
        """kill -9; no handler runs."""
        if self._process is None:
            return
        for pid in {self._own_pid(), self._process.pid} - {None}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid or 0), signal.SIGKILL)
        await asyncio.to_thread(self._process.wait, 10)

    def _own_pid(self) -> int | None:
        """The pid in run.json if that process is ours and alive."""
        pid = self.info.get("pid")
        if self._process is None or pid is None or not psutil.pid_exists(pid):
            return None
        family = {self._process.pid, *(child.pid for child in psutil.Process(self._process.pid).children(True))}
        return pid if pid in family else None

    async def stop(self, timeout_s: float = READY_S) -> tuple[int, float]:
        """SIGTERM; gives the exit code and the seconds it took."""
        assert self._process is not None
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._own_pid() or self._process.pid, signal.SIGTERM)
        return await self.ended(timeout_s), time.monotonic() - began

    async def ended(self, timeout_s: float = READY_S) -> int:
        """Wait for its end; gives the exit code. Raises HarnessError when it does not end."""
        assert self._process is not None
        try:
            return await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise HarnessError(f"the gateway does not end:\n{self.last_words()}") from error

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def children(self, name: str) -> list[psutil.Process]:
        """Its child processes whose program is called ``name``."""
        try:
            return [c for c in psutil.Process(self.pid).children(recursive=True) if name in c.name()]
        except psutil.NoSuchProcess:
            return []

    def last_words(self, lines: int = 30) -> str:
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def said(self, text: str) -> int:
        """How often ``text`` stands in its log."""
        return self.log.read_text(encoding="utf-8", errors="replace").count(text) if self.log.exists() else 0


class LoadProcess:
    """``python -m simulators load``: messages with an account of each."""

    def __init__(self, folder: Path, name: str, devices: int, rate: float, seed: int, alarms_every: int) -> None:
        self.ledger = folder / f"{name}.ledger"
        self.assets = folder / f"{name}-assets.yaml"
        self._folder, self._name = folder, name
        self._plan = ["--devices", str(devices), "--seed", str(seed), "--alarms-every", str(alarms_every)]
        self._rate = rate
        self._devices = devices
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run([*self._command(), "--assets-out", str(self.assets)], check=True, cwd=REPOSITORY, timeout=60)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "simulators", "load", *self._plan]

    def start(self, mqtt_url: str, credentials: Path | None, connections: int = 4) -> None:
        command = [*self._command(), "--mqtt-url", mqtt_url, "--rate", str(self._rate), "--ledger", str(self.ledger)]
        # One message a device under way: after an outage the load catches up without two of one device in one instant.
        inflight = max(1, self._devices // connections)
        command += ["--connections", str(connections), "--drain", "30", "--inflight", str(inflight)]
        if credentials is not None:
            command += ["--credentials", str(credentials)]
        with (self._folder / f"{self._name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, cwd=REPOSITORY, preexec_fn=die_with_parent
            )

    async def stop(self) -> dict[str, Any]:
        """End the sending, wait for the last acknowledgements; gives its summary."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.to_thread(self._process.communicate, None, 60)
        lines = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
        summaries = [line for line in lines if line.get("type") == "summary"]
        if not summaries:
            raise HarnessError(f"the load said nothing: {(self._folder / f'{self._name}.log').read_text()[-2000:]}")
        return dict(summaries[-1])

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait(10)
            if self._process.stdout is not None:
                self._process.stdout.close()


@dataclass
class Scene:
    """One gateway with its load and its witness in one folder. Made by ``Scene.open``."""

    folder: Path
    gateway: GatewayProcess
    load: LoadProcess
    witness: Witness
    settings: dict[str, Any]
    environment: Mapping[str, str]
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
        answers: Sequence[Answer] = (),
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Scene]:
        """A fresh folder with everything but running processes. ``settings`` are laid over the usual ones."""
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        load = LoadProcess(folder, "load", devices, rate, seed, alarms_every)
        async with Witness(folder / "witness.db", answers) as witness:
            usual: dict[str, Any] = {
                "data": str(data or folder / "data"),
                "mqtt": [{"embedded": True, "port": free_port(), "fleet_users": [FLEET]}],
                "console": {"port": 0},
                "assets": [str(load.assets), str(_strangers(folder))],
                "snapshots": {"frames": 1_000, "interval": "2s"},
                "receivers": [{"name": "witness", "url": witness.url, "allow_loopback": True}],
            }
            both = usual | settings
            gateway = GatewayProcess(folder, both, data or folder / "data", environment or {})
            scene = cls(folder, gateway, load, witness, both, environment or {})
            try:
                yield scene
            finally:
                load.kill()
                await gateway.kill()

    async def start(self, *, around: Sequence[str] = (), load: bool = True) -> None:
        """The gateway, and when it is ready the load."""
        await self.gateway.start(around=around)
        if load:
            self.start_load()

    def start_load(self) -> None:
        credentials = self.folder / "credentials.json"
        credentials.write_text(json.dumps({"fleet": {"username": FLEET, "password": self.password(FLEET)}}))
        self.load.start(str(self.gateway.info["mqtt_url"]), credentials)
        self._loading = True

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
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
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
        """The administrator's token: said once, at the very first start, so it is found in the log."""
        found = re.search(r"first token, shown only now \(administrator\): (\S+)", self.gateway.log.read_text())
        if found is None:
            raise HarnessError("the gateway never said its first token")
        return found[1]

    def password(self, user: str) -> str:
        """What the embedded broker wants from a device or a fleet user."""
        return derived_password(secret_file(self.gateway.data / "secrets" / "broker_secret"), user)

    async def settle(self, timeout_s: float = SETTLE_S) -> dict[str, Any]:
        """Wait until everything acknowledged has arrived and been decided; gives the gateway's ledger."""
        wanted = self.summary.get("acked", 0)
        deadline = time.monotonic() + timeout_s
        balance: dict[str, Any] = {}
        quiet = 0
        while time.monotonic() < deadline:
            before, balance = balance, await self.get("ledger")
            same = before.get("received") == balance["received"] >= wanted
            quiet = quiet + 1 if same and not balance["in_flight"] else 0
            if quiet >= 3:
                return balance
            await asyncio.sleep(0.15)
        return balance  # the judge will say what is missing

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
        balance = await self.get("ledger")
        code, seconds = await self.gateway.stop()
        case = Case(
            self.gateway.data,
            [self.load.ledger] if self._loading else [],
            self.folder / "witness.db",
            balance,
            held,
            sink_refuses or set(),
            ["log", *(r["name"] for r in self.settings["receivers"])],
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
        """The longest time between a step of an alarm and its first arrival at the witness."""
        steps = {(t.alarm_id, t.rev): int(t.document["at"]) for t in DataFolder(self.gateway.data).transitions()}
        delays: dict[tuple[str, int], float] = {}
        for one in told_to(self.folder / "witness.db"):
            key = (one.alarm_id, one.rev)
            if key in steps:
                delays.setdefault(key, (one.received_at - steps[key]) / 1e6)
        return max(delays.values(), default=0.0)

    async def _outbox_empty(self, timeout_s: float = 15.0) -> None:
        """Wait for the last notification; what is still open then is the judge's business."""
        deadline = time.monotonic() + timeout_s
        folder = DataFolder(self.gateway.data)
        while time.monotonic() < deadline:
            if all(row.state in ENDED for row in folder.outbox()):
                return
            await asyncio.sleep(0.1)


def _strangers(folder: Path) -> Path:
    """The asset file of two pipe gauges that send only what a fault tells them to."""
    path = folder / "strangers.yaml"
    pipes = [{"asset": name, "kind": "pipe", "name": name} for name in STRANGERS]
    devices = [
        {"device": name, "asset": name, "profile": "generic/json-pipe", "address": name, "expected_interval": "1h"}
        for name in STRANGERS
    ]
    path.write_text(yaml.safe_dump({"assets": pipes, "devices": devices}), encoding="utf-8")
    return path
