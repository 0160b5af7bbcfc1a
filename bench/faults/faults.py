"""The faults, one function each: hurt a running scene, wait until it works again, note what must have held meanwhile.

Numbers are those of the catalogue (docs/reliability.md). What holds at the end of a scene is the judge's business.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.faults.disk import HarnessError, LoopDisk
from bench.faults.evidence import DataFolder
from bench.faults.processes import READY_S, die_with_parent, until
from bench.faults.scene import STRANGERS, Scene
from bench.faults.strangers import publish, telemetry
from bench.judge import expect

STOP_S = 5.0  # F04: SIGTERM under load ends in order within this
LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

STORE, HISTORY, JOURNAL = "store.db-wal", "history/history.duckdb.wal", "journal.db-wal"
WRITES = {STORE: 60, HISTORY: 12, JOURNAL: 40}  # a few batches: one is about twenty, three and four writes

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
    # Not in a thread: a child that dies with its parent dies with the thread that made it.
    tracer = subprocess.Popen(words, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: ASYNC220
    try:
        yield
    finally:
        tracer.terminate()  # it lets go of the gateway; killed, it would leave it with half a system call
        await asyncio.to_thread(tracer.wait, 10)


async def kill_at_any_boundary(scene: Scene, chance: random.Random, file: str) -> None:
    """F02 at a random place of the next few batches."""
    await kill_at_boundary(scene, file, chance.randint(1, WRITES[file]))


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


def flip_bit(path: Path, chance: random.Random, first: int = 0) -> int:
    """F21: one bit of ``path`` at or behind byte ``first`` is another; gives the place."""
    place = chance.randrange(first, path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    return place


async def fills_up(scene: Scene, disk: LoopDisk, reserve_mb: int) -> None:
    """F16: less than the reserve is free: telemetry waits, the alarm about it is raised; all goes on when there is
    room again. Nothing is to be done by hand."""
    async with scene.fault("F16 disk full"):
        ballast = disk.mountpoint / "ballast"
        free = shutil.disk_usage(disk.mountpoint).free
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - (reserve_mb * 3 // 4 << 20))
        await until(lambda: scene.gateway.said("disk full") > 0, "the word that the disk is full", 10)
        before, after = -1, 0
        for _ in range(20):  # what had been taken before is still being counted
            await asyncio.sleep(0.4)
            before, after = after, (await scene.get("ledger"))["received"]
            if before == after:
                break
        await asyncio.sleep(1.0)
        after = (await scene.get("ledger"))["received"]
        scene.facts.append(
            expect("F16 no telemetry is taken while the disk is full", after == before, f"{before} → {after}")
        )
        await alarm_stands(scene, "gateway/gateway-disk-full")
        ballast.unlink()
        await until(lambda: scene.gateway.said("room on the disk again") > 0, "telemetry taken again", 10)


async def disk_errs(scene: Scene, chance: random.Random) -> None:
    """F15: a sync fails; it is said once, by the dying process, and by an alarm of the next one."""
    await sync_fails(scene, chance.randint(20, 80))
    said = scene.gateway.said("our own disk failed")
    scene.facts.append(expect("F15 the log says once that the disk failed", said == 1, said))
    await alarm_stands(scene, "gateway/gateway-journal-failed")


async def torn_and_flipped(scene: Scene, chance: random.Random) -> None:
    """F20, F21, F23: a half-written batch follows the last commit, and a bit of the newest snapshot is another."""
    snapshots = scene.gateway.data / "snapshots"
    await until(lambda: any(snapshots.glob("*.snapshot")), "a snapshot", 10)
    async with scene.fault("F20 torn tail, F21 flipped bit in a snapshot"):
        await scene.gateway.kill()
        with (scene.gateway.data / JOURNAL).open("ab") as file:
            file.write(chance.randbytes(chance.randint(1, 4096)))
        flip_bit(max(snapshots.glob("*.snapshot")), chance)
        await scene.gateway.start()


async def alarm_stands(scene: Scene, alarm_id: str, seconds: float = 10.0) -> None:
    """Notes whether the gateway's alarm about itself is raised within ``seconds``."""
    state = "none"
    for _ in range(round(seconds / 0.2)):
        page = await scene.get("alarms", asset="gateway")
        states = {alarm["alarm_id"]: alarm["state"] for alarm in page["items"]}
        state = states.get(alarm_id, "none")
        if state in ("UNACK", "ACKED"):
            break
        await asyncio.sleep(0.2)
    scene.facts.append(expect(f"its own alarm {alarm_id} is raised", state in ("UNACK", "ACKED"), state))


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
    steps: list[dict[str, Any]] = []
    for _ in range(100):
        kept = DataFolder(scene.gateway.data).transitions()
        steps = [t.document for t in kept if t.alarm_id == f"{road}/road-depth"]
        if steps:
            break
        await asyncio.sleep(0.1)
    raised = [step for step in steps if step["to_state"] == "UNACK"]
    late = [step for step in raised if step["late"]]
    what = [(step["cause"], step["to_state"], step["at"], step["late"]) for step in steps]
    scene.facts.append(
        expect("F52 an overdue alarm is raised once and marked late", len(raised) == len(late) == 1, what)
    )
