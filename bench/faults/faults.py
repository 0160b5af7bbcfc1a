"""The faults, one function each: hurt a running scene, wait until it works again, note what must have held meanwhile.

Numbers are those of the catalogue (docs/reliability.md). What holds at the end of a scene is the judge's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt

from bench.faults.disk import HarnessError, LoopDisk
from bench.faults.evidence import DataFolder
from bench.faults.processes import READY_S, until
from bench.faults.scene import STRANGERS, Scene
from bench.judge import expect

STOP_S = 5.0  # F04: SIGTERM under load ends in order within this
LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

Fault = Callable[[Scene, random.Random], Awaitable[None]]


# -- the process ------------------------------------------------------------------------------------------------------


async def kill_9(scene: Scene, chance: random.Random) -> None:
    """F01: at a random instant under load."""
    await asyncio.sleep(chance.uniform(0.2, 1.5))
    async with scene.fault("F01 kill -9"):
        await scene.gateway.kill()
        await scene.gateway.start()


async def kill_9_twice(scene: Scene, chance: random.Random) -> None:
    """F03: again while it recovers, at any point of the start."""
    await asyncio.sleep(chance.uniform(0.2, 1.0))
    async with scene.fault("F03 kill -9, and again during recovery"):
        await scene.gateway.kill()
        scene.gateway.spawn()
        usual = scene.gateway.ready_after_s[-1] if scene.gateway.ready_after_s else 1.0
        await asyncio.sleep(chance.uniform(0.3, 1.0) * usual)
        await scene.gateway.kill()
        await scene.gateway.start()


async def sigterm(scene: Scene, chance: random.Random) -> None:
    """F04: an ordered stop under load ends with 0 within five seconds."""
    await asyncio.sleep(chance.uniform(0.2, 0.8))
    async with scene.fault("F04 SIGTERM"):
        code, seconds = await scene.gateway.stop()
        scene.facts.append(expect("F04 SIGTERM under load: exit 0 within 5 s", code == 0 and seconds <= STOP_S,
                                  f"exit {code} after {seconds:.1f} s"))  # fmt: skip
        await scene.gateway.start()


async def pause(scene: Scene, chance: random.Random, seconds: float = 2.0) -> None:
    """F06: stopped for a while (a suspended machine), then on."""
    async with scene.fault(f"F06 SIGSTOP {seconds:g} s"):
        scene.gateway.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        scene.gateway.signal(signal.SIGCONT)


async def broker_kill_9(scene: Scene, chance: random.Random) -> None:
    """F27: kill -9 of the embedded broker under load; the gateway brings it back."""
    brokers = scene.gateway.children("nats-server")
    scene.facts.append(expect("F27 the embedded broker is a child of the gateway", len(brokers) == 1, len(brokers)))
    async with scene.fault("F27 kill -9 of the broker"):
        for broker in brokers:
            broker.kill()
        await until(
            lambda: bool(new := scene.gateway.children("nats-server")) and new[0].pid != brokers[0].pid,
            "a new broker",
            READY_S,
        )


async def broker_stopped(scene: Scene, chance: random.Random, seconds: float = 3.0) -> None:
    """F27: the broker answers nobody for a while."""
    async with scene.fault(f"F27 broker stopped {seconds:g} s"):
        for broker in scene.gateway.children("nats-server"):
            broker.suspend()
        await asyncio.sleep(seconds)
        for broker in scene.gateway.children("nats-server"):
            broker.resume()


# -- disk and power ---------------------------------------------------------------------------------------------------


async def power_cut(scene: Scene, chance: random.Random, disk: LoopDisk) -> None:
    """F13: everything unsynced on the data folder's file system is gone, then the machine starts again."""
    await asyncio.sleep(chance.uniform(0.8, 1.6))
    async with scene.fault("F13 power cut"):
        disk.cut()
        await scene.gateway.kill()
        await asyncio.to_thread(disk.unmount)
        await asyncio.to_thread(disk.mount)
        await scene.gateway.start()


@asynccontextmanager
async def tampered(scene: Scene, file: str, calls: str, what: str) -> AsyncIterator[None]:
    """While open, ``what`` (strace's words, ``signal=…`` or ``error=…``) befalls the gateway at system calls ``calls``
    on ``file`` of the data folder."""
    path = str(scene.gateway.data / file)
    words = [_strace(), "-f", "-qq", "-o", os.devnull, "-p", str(scene.gateway.pid), "-P", path,
             "-e", f"trace={calls}", "-e", f"inject={calls}:{what}"]  # fmt: skip
    tracer = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            tracer.terminate()  # it lets go of the gateway; killed, it would leave it with half a system call
        await tracer.wait()


async def kill_at_boundary(scene: Scene, file: str, when: int, calls: str = "pwrite64,write,fdatasync,fsync") -> None:
    """F02: kill -9 at exactly the ``when``-th write or sync of ``file`` from now on, and start again."""
    async with scene.fault(f"F02 kill at write {when} of {file}"):
        async with tampered(scene, file, calls, f"signal=SIGKILL:when={when}"):
            code = await scene.gateway.ended()
        scene.facts.append(expect(f"F02 the kill at write {when} of {file} happened", code == -9, code))
        await scene.gateway.start()


async def sync_fails(scene: Scene, when: int) -> None:
    """F15: the ``when``-th sync of the journal's log from now on answers EIO, once; the process must say so and end."""
    async with scene.fault("F15 EIO at fdatasync"):
        async with tampered(scene, "journal.db-wal", "fdatasync,fsync", f"error=EIO:when={when}"):
            code = await scene.gateway.ended()
        scene.facts.append(expect("F15 a failed sync ends the process with a failure", code == 1, code))
        await scene.gateway.start()


def _strace() -> str:
    found = shutil.which("strace")
    if found is None:
        raise HarnessError("needs strace")
    return found


def truncate_tail(path: Path, count: int) -> None:
    """F20: the last ``count`` bytes never reached the disk."""
    with path.open("r+b") as file:
        file.truncate(max(0, path.stat().st_size - count))


def flip_bit(path: Path, chance: random.Random, first: int = 0) -> int:
    """F21: one bit of ``path`` at or behind byte ``first`` is another; gives the place."""
    place = chance.randrange(first, path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    return place


# -- time -------------------------------------------------------------------------------------------------------------


class FakedClock:
    """F47, F48: the wall clock a process sees; its monotonic clock stays true."""

    def __init__(self, folder: Path) -> None:
        if not LIBFAKETIME.exists():
            raise HarnessError("needs libfaketime")
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "faketime"
        self.step("+0")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBFAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, offset: str) -> None:
        """``+1d``, ``-1d``, ``+0``: from now on the process sees the true time moved by this."""
        beside = self._file.with_suffix(".new")
        beside.write_text(offset)
        beside.replace(self._file)


async def clock_steps(scene: Scene, clock: FakedClock, seconds: float = 2.0) -> None:
    """F47: the wall clock leaps a day forward, then back; neither is believed at once."""
    for offset in ("+1d", "+0"):
        async with scene.fault(f"F47 wall clock {offset}"):
            clock.step(offset)
            await asyncio.sleep(seconds)


async def away_for_two_hours(scene: Scene, clock: FakedClock, again: bool) -> None:
    """F52: a road is flooded, the gateway dies before the delay of the alarm is over and comes back two hours later:
    the alarm is raised once, as of when it was due, and marked late. One more start (``again``) raises nothing."""
    road = STRANGERS[2]
    async with scene.fault("F52 two hours away"):
        await publish(scene, road, scene.password(road), [telemetry("road", road, 1, {"depth": 30.0})])
        await scene.arrived(road, 1)
        await scene.gateway.kill()
        clock.step("+2h")
        await scene.gateway.start()
        if again:
            await asyncio.sleep(0.5)
            await scene.gateway.kill()
            await scene.gateway.start()
    steps = [t.document for t in DataFolder(scene.gateway.data).transitions() if t.alarm_id == f"{road}/road-depth"]
    raised = [step for step in steps if step["to_state"] == "UNACK"]
    late = [step for step in raised if step["late"]]
    what = [(step["cause"], step["to_state"], step["at"], step["late"]) for step in steps]
    scene.facts.append(
        expect("F52 an overdue alarm is raised once and marked late", len(raised) == len(late) == 1, what)
    )


# -- other people's messages ------------------------------------------------------------------------------------------


async def publish(
    scene: Scene,
    username: str,
    password: str,
    messages: list[tuple[str, bytes]],
    *,
    client_id: str = "",
    retain: bool = False,
    seconds: float = 5.0,
) -> int:
    """QoS 1 messages from a client of our own; gives how many were acknowledged."""
    host, _, port = scene.mqtt_url.removeprefix("mqtt://").partition(":")
    acknowledged = 0
    try:
        async with asyncio.timeout(seconds):
            async with aiomqtt.Client(
                host,
                int(port),
                username=username,
                password=password or None,
                identifier=client_id or None,
                timeout=seconds,
            ) as client:
                for topic, payload in messages:
                    await client.publish(topic, payload, qos=1, retain=retain)
                    acknowledged += 1
    except (aiomqtt.MqttError, TimeoutError, OSError):
        pass  # refused, or cut off: that is an answer too
    return acknowledged


def telemetry(kind: str, device: str, sequence: int, values: dict[str, object]) -> tuple[str, bytes]:
    """Topic and payload of one message by hand."""
    body = {"ts": time.time_ns() // 1_000_000, "seq": sequence, "values": values}
    return f"citywatch/v1/{kind}/{device}/telemetry", json.dumps(body).encode()


async def accounts(scene: Scene, device: str | None = None) -> dict[str, int]:
    """Rejected frames by code, from the gateway's own ledger."""
    balance = await scene.get("ledger", **({"device": device} if device else {}))
    return dict(balance["rejected"])


async def rejected_rises(scene: Scene, code: str, by: int, before: int, what: str, seconds: float = 10.0) -> None:
    """Notes whether the count of ``code`` rose by ``by`` within ``seconds``."""
    deadline = time.monotonic() + seconds
    now = before
    while time.monotonic() < deadline and now < before + by:
        now = (await accounts(scene)).get(code, 0)
        await asyncio.sleep(0.1)
    scene.facts.append(expect(what, now == before + by, f"{code}: {before} → {now}, expected +{by}"))


async def bad_reload(scene: Scene, rules: Path) -> None:
    """F59: a rule file with a mistake arrives; the running configuration stays and the place is named."""
    async with scene.fault("F59 reload of a bad file"):
        before = (await scene.get("health")).get("configuration")
        wrong = rules / "mistaken.yaml"
        wrong.write_text("- rule: broken\n  applies_to: {kind: lamp}\n  when: {point: powr, above: 5}\n")
        scene.gateway.signal(signal.SIGHUP)
        await until(lambda: scene.gateway.said("mistaken.yaml") > 0, "the mistake in the log", 10)
        after = (await scene.get("health")).get("configuration")
        scene.facts.append(expect("F59 a bad file changes nothing", before == after, f"{before} → {after}"))
        named = "mistaken.yaml:3" in scene.gateway.last_words(200)
        scene.facts.append(expect("F59 the log names file and line", named, scene.gateway.last_words(5)))
        wrong.unlink()


async def poison(scene: Scene, marker: bytes, good: int = 500) -> None:
    """F09: frames that make the decision raise; every good one behind them is decided."""
    user = STRANGERS[0]
    async with scene.fault("F09 poison frames"):
        before = await accounts(scene)
        topic, _ = telemetry("pipe", user, 0, {})
        bad = [(topic, b'{"seq":%d,"note":"%b"}' % (i, marker)) for i in range(5)]
        after = [telemetry("pipe", user, i, {"level": 0.2}) for i in range(1, good + 1)]
        sent = await publish(scene, user, scene.password(user), bad + after, seconds=20)
        scene.facts.append(expect("F09 all frames were acknowledged by the broker", sent == 5 + good, sent))
        await rejected_rises(scene, "crashed", 5, before.get("crashed", 0), "F09 each poison frame is quarantined")
        stored = await scene.arrived(user, good)
        scene.facts.append(expect(f"F09 {good} of {good} frames behind it are stored", stored == good, stored))


async def crasher(scene: Scene, marker: bytes, good: int = 500) -> None:
    """F10: a frame that ends the process each time it is decided, in every replay too. Whoever supervises starts it
    again; at the third crash at this place the frame is passed over, and what came behind it is decided."""
    user = STRANGERS[0]
    async with scene.fault("F10 a frame that ends the process"):
        topic, _ = telemetry("pipe", user, 0, {})
        after = [telemetry("pipe", user, i, {"level": 0.2}) for i in range(1, good + 1)]
        await publish(scene, user, "", [(topic, b'{"note":"%b"}' % marker), *after], seconds=20)
        crashes = 0
        while crashes < 6:
            try:
                await scene.gateway.ended(3.0)
            except HarnessError:
                break  # it lives
            crashes += 1
            scene.gateway.spawn()
            with contextlib.suppress(HarnessError):
                await scene.gateway.ready()
        scene.facts.append(expect("F10 at most three crashes", 1 <= crashes <= 3, crashes))
        stored = await scene.arrived(user, good)
        scene.facts.append(expect(f"F10 {good} of {good} frames behind it are stored", stored == good, stored))
        rejected = (await accounts(scene)).get("crashed", 0)
        scene.facts.append(expect("F10 the frame is quarantined", rejected == 1, rejected))


async def speaks_as_another(scene: Scene) -> None:
    """A02: one device's login publishes on another's topic; nothing of it becomes a reading."""
    one, other, _ = STRANGERS
    async with scene.fault("A02 speaks as another"):
        await publish(scene, one, scene.password(one), [telemetry("pipe", other, 1, {"freeboard": -0.05})])
        await asyncio.sleep(0.5)
        try:
            balance = await scene.get("ledger", device=other)
        except HarnessError:
            balance = {"stored": 0}  # nothing ever came from it
        scene.facts.append(expect("A02 nothing is stored for the other device", balance["stored"] == 0, balance))
        refused = (await scene.get("health"))["parts"]["broker"]["figures"]["publishes_refused"]
        scene.facts.append(expect("A02 the refusal is counted", refused == 1, refused))


async def takes_a_client_id(scene: Scene) -> None:
    """A03, A04: client ids that can be guessed, and that of a device under way, are taken by another login."""
    user = STRANGERS[0]
    async with scene.fault("A03 A04 takes client ids"):
        for client_id in ("citywatch", "gateway", "citywatch.gateway", "load-1-0", "load-1-1"):
            await publish(scene, user, scene.password(user), [], client_id=client_id)
        secret = scene.gateway.data / "secrets"
        open_files = [f.name for f in secret.iterdir() if f.stat().st_mode & 0o077]
        scene.facts.append(
            expect("A03 the secrets, our client id among them, are ours alone", not open_files, open_files)
        )


async def retained_poison(scene: Scene) -> None:
    """A07: a device leaves an alarming message retained and recovers; a restart must not raise its alarm again."""
    user = STRANGERS[1]
    async with scene.fault("A07 retained poison"):
        alarming = telemetry("pipe", user, 1, {"freeboard": -0.05, "level": 3.0})
        well = telemetry("pipe", user, 2, {"freeboard": 1.5, "level": 0.2})
        await publish(scene, user, scene.password(user), [alarming], retain=True)
        await publish(scene, user, scene.password(user), [well])
        await scene.arrived(user, 2)
        before = await _alarms_of(scene, user)
        await scene.gateway.stop()
        await scene.gateway.start()
        await asyncio.sleep(1.0)
        after = await _alarms_of(scene, user)
        scene.facts.append(expect("A07 a retained message never raises an alarm", after == before, (before, after)))


async def _alarms_of(scene: Scene, asset: str) -> dict[str, int]:
    """Raises so far, by alarm: an alarm that came and went has a rev of its own for each step."""
    page = await scene.get("alarms", asset=asset)
    return {alarm["alarm_id"]: alarm["rev"] for alarm in page["items"]}
