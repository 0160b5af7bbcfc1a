"""The real processes of a fault run: the gateway, its load, and a broker that is none of its children.

Each dies with this process, however that ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.faults.disk import HarnessError
from bench.faults.forkserver import FORKS, ForkedProcess
from simulators.load import Plan, write_load_assets

READY_S = 30.0  # a start takes 2 s of CPU; with three at once on two busy cores several times that
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
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
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
        assert self._process is not None
        return self._process.pid

    async def start(self) -> float:
        """Start and wait until it is ready; gives the seconds it took."""
        self.spawn()
        return await self.ready()

    def spawn(self) -> None:
        """Start and do not wait."""
        if self.running:
            raise HarnessError("the gateway is already running")
        (self.data / "run.json").unlink(missing_ok=True)
        arguments = ["run", "--config", str(self.config)]
        self._began = time.monotonic()
        forks = FORKS.get()
        if forks is not None and "LD_PRELOAD" not in self._environment:
            self._process = forks.spawn(arguments, self._environment, self.log)
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *arguments],
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
        return self.running

    async def kill(self) -> None:
        """kill -9; no handler runs."""
        if self._process is None:
            return
        self._process.kill()
        await asyncio.to_thread(self._process.wait, 10)

    async def stop(self, timeout_s: float = READY_S) -> tuple[int, float]:
        """SIGTERM; gives the exit code and the seconds it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
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
        write_load_assets(Plan(seed=seed, devices=devices, alarms_every=alarms_every), self.assets)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "simulators", "load", *self._plan]

    async def start(self, mqtt_url: str, credentials: Path | None, connections: int = 4) -> None:
        """Returns when its account is begun: it has read its modules and is about to send. A fault that comes sooner
        would hurt a gateway that nobody speaks to. Raises HarnessError."""
        command = [*self._command(), "--mqtt-url", mqtt_url, "--rate", str(self._rate), "--ledger", str(self.ledger)]
        # One message a device under way: after an outage the load catches up without two of one device in one instant.
        inflight = max(1, self._devices // connections)
        command += ["--connections", str(connections), "--drain", "30", "--inflight", str(inflight)]
        if credentials is not None:
            command += ["--credentials", str(credentials)]
        with (self._folder / f"{self._name}.log").open("wb") as log:
            # Not in a thread: a child that dies with its parent dies with the thread that made it.
            self._process = subprocess.Popen(  # noqa: ASYNC220
                command, stdout=subprocess.PIPE, stderr=log, cwd=REPOSITORY, preexec_fn=die_with_parent
            )
        await until(self.ledger.exists, "the load's account is begun", READY_S)

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


class OutsideBroker:
    """A mosquitto that the faults leave alone: what the gateway has acknowledged to it is gone from it for good.

    (The embedded broker dies with the gateway and then sends again what it no longer knows to be acknowledged, which
    is kind, but would hide a gateway that loses things.)
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise HarnessError("needs mosquitto")
        self.port = free_port()
        settings = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence false"]
        lines += ["max_queued_messages 0", "log_dest none"]
        settings.write_text("\n".join([*lines, ""]))
        self._process = subprocess.Popen(
            [program, "-c", str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
