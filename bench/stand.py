"""The test stand: a broker, the gateway and the load as real processes, and what they cost.

    async with Stand(folder) as stand:
        gateway = await stand.gateway("mosquitto", Plan(devices=10_000))
        await gateway.load.start(gateway.mqtt_url, 5_000, seconds=6)
        summary = await gateway.load.ended()

Every process dies with this one. Ports are free ones of loopback.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import psutil

from bench.faults.disk import HarnessError
from bench.faults.processes import REPOSITORY, GatewayProcess, die_with_parent, free_port
from gateway.sources.broker import derived_password, find_server, secret_file
from simulators.load import Plan, write_load_assets

BrokerKind = Literal["mosquitto", "nats", "embedded"]

FLEET = "fleet"
CONNECTIONS, INFLIGHT = 8, 1000
START_S = 20.0
READY_S = 120.0  # 100,000 devices are read, checked and journaled in 10 s here
DRAIN_S = 180.0  # what a trial above the limit left behind
POLL_S = 0.05

MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 2000
set_tcp_nodelay true
{user}
"""

NATS = """\
server_name: bench
host: 127.0.0.1
port: -1
jetstream {{ store_dir: {store}, max_file_store: 8GB, max_memory_store: 64MB }}
mqtt {{ host: 127.0.0.1, port: {port}, ack_wait: "30s", max_ack_pending: 2000 }}
"""

_FIRST_TOKEN = re.compile(r"first token, shown only now \(administrator\): (\S+)")


def debian(package: str, program: str) -> str:
    """The path of ``program``. Raises HarnessError that says which Debian ``package`` brings it."""
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if found is None:
        raise HarnessError(f"{program} is not installed: apt-get install {package}")
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, all its threads, and the children it has waited for (the gateway's snapshots)."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system) + children_cpu_s(pid)


def children_cpu_s(pid: int) -> float:
    """CPU seconds of the children that a process has waited for: of the gateway, its snapshots."""
    times = psutil.Process(pid).cpu_times()
    return float(times.children_user + times.children_system)


def rss_bytes(pid: int, *, peak: bool = False) -> int:
    """Resident memory of a process; ``peak``: the most it ever was. Linux."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise HarnessError(f"process {pid} is gone")
    return int(found[1]) * 1024


def forget_rss_peak(pid: int) -> None:
    """From here on ``rss_bytes(peak=True)`` is the most since now. Linux."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def wait_for(condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float) -> float:
    """Ask until it is so; gives the seconds it took. Raises HarnessError."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > timeout_s:
            raise HarnessError(f"after {timeout_s:g} s still not: {what}")
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began


class Broker:
    """One broker process; ``url`` is where it listens."""

    def __init__(self, kind: BrokerKind, folder: Path) -> None:
        self.kind = kind
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise HarnessError("the broker does not run")
        return self._process.pid

    async def start(self) -> None:
        """Returns when it accepts connections. Raises HarnessError with its last words when it does not."""
        self._folder.mkdir(parents=True)
        log = self._folder / "broker.log"
        self._spawn(log)
        try:
            await wait_for(self._answers, "the broker answers", START_S)
        except HarnessError as error:
            raise HarnessError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from error

    def _spawn(self, log: Path) -> None:
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command(), stdout=out, stderr=out, cwd=self._folder, preexec_fn=die_with_parent
            )

    def _command(self) -> list[str]:
        configuration = self._folder / "broker.conf"
        if self.kind == "mosquitto":
            user = "user root" if os.geteuid() == 0 else ""
            configuration.write_text(MOSQUITTO.format(port=self.port, user=user))
            return [debian("mosquitto", "mosquitto"), "-c", str(configuration)]
        configuration.write_text(NATS.format(port=self.port, store=json.dumps(str(self._folder / "store"))))
        return [str(find_server()), "-c", str(configuration)]

    async def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise HarnessError("the broker ended")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


class Load:
    """``python -m simulators load`` at a fixed rate; successive loads on one gateway go on with the sequences."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self._folder = folder
        self._sequence = plan.first_sequence
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, url: str, rate: float, *, seconds: float | None = None, count: int | None = None) -> None:
        """Begin to send ``rate`` messages a second for ``seconds`` or ``count`` messages; ``url`` bears the login."""
        plan = asdict(self.plan) | {"first_sequence": self._sequence}
        options = {name.replace("_", "-"): value for name, value in plan.items()}
        options |= {"mqtt-url": url, "rate": rate, "connections": CONNECTIONS, "inflight": INFLIGHT, "drain": 30}
        options |= {name: value for name, value in (("for", seconds), ("count", count)) if value is not None}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        with (self._folder / "load.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "simulators", "load", *words,
                cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip

    def go_on_at(self, place: int, period: int) -> None:
        """The next load begins with a sequence that is ``place`` within ``period``."""
        self._sequence += (place - self._sequence) % period

    async def ended(self) -> dict[str, Any]:
        """Wait for the end of the sending and the last acknowledgement; gives the load's own summary."""
        assert self._process is not None
        output, _ = await self._process.communicate()
        self._process = None
        if not output.strip():
            raise HarnessError(f"the load said nothing: {(self._folder / 'load.log').read_text()[-2000:]}")
        summary: dict[str, Any] = json.loads(output.splitlines()[-1])
        # Each connection goes round its own devices: none is further than this.
        self._sequence += math.ceil(summary["sent"] / self.plan.devices) + 2
        return summary

    async def stop(self) -> dict[str, Any]:
        """End the sending now; gives the summary."""
        assert self._process is not None
        self._process.terminate()
        return await self.ended()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the messages are: ``received`` from the broker, ``waiting`` for the journal, ``behind`` the historian's
    lag in batches; ``settled``: everything journaled has been decided."""

    received: int
    acknowledged: int
    waiting: int
    behind: int
    settled: bool


class Gateway:
    """``citywatch run`` with its assets, seen from outside."""

    def __init__(
        self, folder: Path, broker: Broker | None, plan: Plan, more_assets: Sequence[Path], settings: Mapping[str, Any]
    ) -> None:
        """``broker`` None: its own, embedded. ``settings`` are laid over the usual ones."""
        folder.mkdir(parents=True)
        assets = folder / "assets.csv"
        write_load_assets(plan, assets)
        self.broker = broker
        self.load = Load(plan, folder)
        self._port = free_port()
        mqtt: dict[str, Any] = {"embedded": True, "port": free_port(), "fleet_users": [FLEET]}
        usual = {
            "data": str(folder / "data"),
            "mqtt": [mqtt if broker is None else {"url": broker.url}],
            "console": {"port": self._port},
            "assets": [str(assets), *map(str, more_assets)],
        }
        self.process = GatewayProcess(folder, usual | dict(settings), folder / "data")
        self._http = httpx.AsyncClient(
            trust_env=False, verify=False, timeout=10, base_url=f"http://127.0.0.1:{self._port}/api/v1"
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def mqtt_url(self) -> str:
        """Where the load sends to, with the login it needs there."""
        if self.broker is not None:
            return self.broker.url
        secret = secret_file(self.process.data / "secrets" / "broker_secret")
        return f"mqtt://{FLEET}:{derived_password(secret, FLEET)}@{self.process.info['mqtt_url'].rpartition('/')[2]}"

    @property
    def broker_pid(self) -> int:
        if self.broker is not None:
            return self.broker.pid
        return self.process.children("nats-server")[0].pid

    async def start(self) -> float:
        """Returns when it is ready and its session at the broker exists; the seconds it took."""
        self.process.spawn()
        seconds = await self.process.ready(READY_S)
        await wait_for(self.connected, "the gateway reads from the broker", START_S)
        return seconds

    async def events(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """The live stream as a browser reads it: name and data of every event. Raises HarnessError when refused."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        timeout = httpx.Timeout(10, read=60)
        async with (
            httpx.AsyncClient(trust_env=False, verify=False, timeout=timeout, headers=headers) as client,
            client.stream("GET", f"{self.base_url}/api/v1/stream") as answer,
        ):
            if answer.status_code != 200:
                raise HarnessError(f"the stream answers {answer.status_code}")
            name = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    yield name, json.loads(line[6:])

    async def connected(self) -> bool:
        health = await self.health()
        return health is not None and bool(health["parts"]["mqtt main"]["ok"])

    async def health(self) -> dict[str, Any] | None:
        """The answer of /health to somebody with a name, who is told the figures; None when there is none."""
        try:
            headers = {"Authorization": f"Bearer {self.token()}"}
            return dict((await self._http.get("/health", headers=headers)).json())
        except (httpx.HTTPError, ValueError):
            return None

    async def counts(self) -> Counts:
        """Raises HarnessError when the gateway does not answer."""
        health = await self.health()
        if health is None:
            raise HarnessError(f"the gateway does not answer:\n{self.process.last_words()}")
        parts = {name: part["figures"] for name, part in health["parts"].items()}
        link, journal = parts["mqtt main"], parts["journal"]
        return Counts(
            link["received"],
            link["acknowledged"],
            journal["waiting"],
            parts["historian"]["behind"],
            parts["engine"]["position"] == journal["position"],
        )

    async def received(self, messages: float) -> bool:
        """So many have come since the start."""
        return (await self.counts()).received >= messages

    async def taken(self, received: int) -> bool:
        """``received`` messages since the start have come, and everything has been journaled and decided."""
        counts = await self.counts()
        return counts.received >= received and not counts.waiting and counts.settled

    async def warm(self, rate: float = 4_000.0) -> int:
        """Let every device speak twice: the first message of a device makes its state and costs many times a later one.
        Gives how many messages that were."""
        before = await self.counts()
        await self.load.start(self.mqtt_url, rate, count=2 * self.load.plan.devices)
        sent: int = (await self.load.ended())["sent"]
        await wait_for(lambda: self.taken(before.received + sent), "the first messages are in", DRAIN_S)
        await self.idle()
        return sent

    async def idle(self) -> None:
        """Wait until nothing comes any more and the historian has everything."""
        before: Counts | None = None

        async def quiet() -> bool:
            nonlocal before
            last, before = before, await self.counts()
            still = last is not None and last.received == before.received and not before.waiting
            if not still or before.behind > 2:
                await asyncio.sleep(0.25)
                return False
            return True

        await wait_for(quiet, "the gateway has caught up", DRAIN_S)

    async def ledger(self, device: str | None = None) -> dict[str, Any]:
        """The gateway's account of one device (all zero when it never spoke), or of all."""
        query: dict[str, str | int] = {"limit": 1} if device is None else {"device": device}
        answer = await self._http.get("/ledger", params=query, headers={"Authorization": f"Bearer {self.token()}"})
        if answer.status_code == 404:
            return {"received": 0, "stored": 0}
        if answer.status_code != 200:
            raise HarnessError(f"ledger: {answer.status_code} {answer.text[:500]}")
        return dict(answer.json())

    def token(self) -> str:
        """The administrator's, said once at the very first start."""
        found = _FIRST_TOKEN.search(self.process.log.read_text(encoding="utf-8", errors="replace"))
        if found is None:
            raise HarnessError("the gateway never said its first token")
        return found[1]

    def history_overflows(self) -> int:
        """How often the historian fell so far behind that it had to read the journal again."""
        return self.process.said("historian is behind")

    async def close(self) -> None:
        await self.load.kill()
        await self._http.aclose()
        await self.process.kill()


@dataclass
class Stand:
    """Makes brokers and gateways in ``folder`` and ends them all when left."""

    folder: Path
    _brokers: list[Broker] = field(default_factory=list)
    _gateways: list[Gateway] = field(default_factory=list)

    async def broker(self, kind: BrokerKind) -> Broker:
        """A started broker: mosquitto without persistence, or nats-server with its default sync."""
        broker = Broker(kind, self.folder / f"{kind}-{len(self._brokers)}")
        self._brokers.append(broker)
        await broker.start()
        return broker

    async def gateway(self, kind: BrokerKind, plan: Plan, more_assets: Sequence[Path] = (), **settings: Any) -> Gateway:
        """A started gateway for the plan's devices; the broker is one of ``broker``'s or the embedded one."""
        broker = None if kind == "embedded" else await self.broker(kind)
        gateway = Gateway(self.folder / f"gateway-{len(self._gateways)}", broker, plan, more_assets, settings)
        self._gateways.append(gateway)
        await gateway.start()
        return gateway

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gateway in self._gateways:
            await gateway.close()
        for broker in self._brokers:
            broker.kill()
