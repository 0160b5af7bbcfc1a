"""Real servers for tests: brokers and databases of the Debian archive, on free loopback ports, gone when the test is.

    async with mosquitto() as broker:              # or with users={"dev": "pw"}, acl="…", lines=["max_inflight …"]
        ... broker.url, broker.port
        await broker.kill(); await broker.start()  # kill -9, and again on the same port with the same data
    async with victoria_metrics() as database:
        ... database.url
        await database.flush(); rows = await database.export('{__name__=~".+"}')

A server dies with the test process, whatever kills that.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

START_TIMEOUT_S = 20.0  # mosquitto takes 0.05 s, VictoriaMetrics 0.5 s, on two busy cores several times that
STOP_TIMEOUT_S = 10.0

_SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
_tried: set[str] = set()


def find_program(program: str) -> Path | None:
    """``program`` on PATH or in the system's own folders (Debian keeps servers in /usr/sbin)."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_PATHS])
    found = shutil.which(program, path=path)
    return Path(found) if found else None


def need_debian(package: str, program: str) -> Path:
    """The path of ``program``, installed from the Debian ``package`` if need be and if we are root.

    Otherwise the test is skipped, saying what to install; with CI=true it fails instead, so that nothing is passed
    over in silence there.
    """
    found = find_program(program)
    if found is None and package not in _tried:
        _tried.add(package)
        _apt_install(package)
        found = find_program(program)
    if found is None:
        _without(f"this test needs {program}: apt-get install {package}")
    return found


def need_debian_file(package: str, file: Path) -> None:
    """As ``need_debian``, for a package without a program: a font, say."""
    if not file.exists() and package not in _tried:
        _tried.add(package)
        _apt_install(package)
    if not file.exists():
        _without(f"this test needs {file}: apt-get install {package}")


def _without(message: str) -> NoReturn:
    """Skip, saying why; in CI fail, so that nothing is passed over in silence there."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _apt_install(package: str) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with open(Path(tempfile.gettempdir(), "citywatch-apt.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once would find dpkg locked
        # RUNLEVEL=1: the package must not start its own server on the well-known port.
        for command in ([apt, "update", "-q"], [apt, "install", "-q", "-y", "--no-install-recommends", package]):
            subprocess.run(
                command, env={**environment, "RUNLEVEL": "1"}, timeout=300, check=False, stdout=subprocess.DEVNULL
            )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses now. For servers that cannot be told "0"."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def die_with_parent() -> None:
    """For ``preexec_fn``: the kernel kills the child when the thread that started it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG


class Server:
    """One server process with a folder and a port of its own; may be killed, stopped and started again.

    ``arguments(port, folder)`` gives the command line. ``log`` collects its output over all starts.
    """

    def __init__(self, name: str, folder: Path, arguments: Callable[[int, Path], list[str]], port: int | None) -> None:
        self.name = name
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = arguments
        self._port_is_given = port is not None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Returns when the server answers. Takes another port when somebody was faster on a port we had chosen."""
        for last_attempt in (False, False, True):
            self._spawn()
            if await self._until_ready():
                return
            await self.kill()
            if last_attempt or self._port_is_given or "in use" not in self.output():
                break
            self.port = free_port()
        raise AssertionError(f"{self.name} did not start on port {self.port}:\n{self.output()[-4000:]}")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end and wait; its exit code. Kills it when it does not."""
        if not self.running:
            return await self._wait(0.1)
        self.signal(number)
        try:
            return await self._wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return await self.kill()

    async def kill(self) -> int:
        """kill -9 and wait; its exit code."""
        if self.running:
            self.signal(signal.SIGKILL)
        return await self._wait(STOP_TIMEOUT_S)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT make it hang and go on."""
        os.kill(self.pid, number)

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def ready(self) -> bool:
        """Does it answer? Here: does it accept a connection."""
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 1)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments(self.port, self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=die_with_parent,
            )

    async def _until_ready(self) -> bool:
        """False when the process ended, or does not answer in time."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.running:
            if await self.ready() and self.running:
                return True
            await asyncio.sleep(0.02)
        return False

    async def _wait(self, timeout_s: float) -> int:
        if self.process is None:
            return 0
        return await asyncio.to_thread(self.process.wait, timeout_s)


class Broker(Server):
    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"


class Database(Server):
    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def ready(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, verify=False, timeout=1) as client:
                return (await client.get(f"{self.url}/health")).status_code == 200
        except httpx.HTTPError:
            return False

    async def flush(self) -> None:
        """What was written can be read when this returns."""
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=10) as client:
            (await client.get(f"{self.url}/internal/force_flush")).raise_for_status()

    async def export(self, match: str) -> list[dict[str, Any]]:
        """Raw series: ``{"metric": {"__name__": "lamp_power", …}, "values": […], "timestamps": [ms, …]}``."""
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
            answer = await client.get(f"{self.url}/api/v1/export", params={"match[]": match})
        answer.raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines() if line]


@asynccontextmanager
async def mosquitto(
    *,
    port: int | None = None,
    users: Mapping[str, str] | None = None,
    acl: str | None = None,
    lines: Sequence[str] = (),
    persistence: bool = False,
    autosave_interval_s: int = 1800,
) -> AsyncIterator[Broker]:
    """Mosquitto on loopback.

    ``users``: name → password, and nobody else may connect (default: anonymous). ``acl``: text of the ACL file.
    ``lines``: further lines of mosquitto.conf. With ``persistence`` sessions survive a graceful stop.
    """
    program = need_debian("mosquitto", "mosquitto")
    with tempfile.TemporaryDirectory(prefix="citywatch-mosquitto-") as name:
        folder = Path(name)
        settings = ["persistence true", f"persistence_location {folder}/", f"autosave_interval {autosave_interval_s}"]
        settings = settings if persistence else ["persistence false"]
        if os.geteuid() == 0:
            settings.append("user root")  # else it gives up root and cannot write into our folder
        if users is None:
            settings.append("allow_anonymous true")
        else:
            settings += ["allow_anonymous false", f"password_file {_password_file(folder, users)}"]
        if acl is not None:
            (folder / "acl").write_text(acl)
            (folder / "acl").chmod(0o600)
            settings.append(f"acl_file {folder / 'acl'}")

        def arguments(port: int, folder: Path) -> list[str]:
            conf = folder / "mosquitto.conf"
            conf.write_text("\n".join([f"listener {port} 127.0.0.1", *settings, *lines, ""]))
            return [str(program), "-c", str(conf)]

        broker = Broker("mosquitto", folder, arguments, port)
        try:
            await broker.start()
            yield broker
        finally:
            await broker.kill()


@asynccontextmanager
async def victoria_metrics(*, port: int | None = None) -> AsyncIterator[Database]:
    """VictoriaMetrics on loopback; takes InfluxDB line protocol at /api/v2/write and keeps it for a century."""
    program = need_debian("victoria-metrics", "victoria-metrics")
    with tempfile.TemporaryDirectory(prefix="citywatch-victoria-") as name:

        def arguments(port: int, folder: Path) -> list[str]:
            return [
                str(program),
                f"-storageDataPath={folder / 'data'}",
                f"-httpListenAddr=127.0.0.1:{port}",
                "-retentionPeriod=100y",
                "-search.latencyOffset=0s",
                "-search.disableCache",
                "-memory.allowedBytes=64MB",
            ]

        database = Database("victoria-metrics", Path(name), arguments, port)
        try:
            await database.start()
            yield database
        finally:
            await database.kill()


def _password_file(folder: Path, users: Mapping[str, str]) -> Path:
    path = folder / "passwords"
    path.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
    path.chmod(0o600)
    # -U turns plain passwords into hashes in place.
    subprocess.run([need_debian("mosquitto", "mosquitto_passwd"), "-U", path], check=True, timeout=60)
    return path
