"""Whole runs: a scene, its faults, and the verdict. Each is short enough for every test run, and random enough to be
run a thousand times (``campaign``). The same stories run on broken builds (``SABOTAGE``) must fail.

A story gets an empty folder, a source of chance and environment for the gateway (the sabotage), and gives a Verdict.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from bench.faults import faults
from bench.faults.database import DONE, error, refusing, scripted_database
from bench.faults.disk import HarnessError, LoopDisk, can_mount
from bench.faults.faults import FakedClock
from bench.faults.processes import until
from bench.faults.scene import Scene
from bench.judge import Verdict, expect

Story = Callable[[Path, random.Random, Mapping[str, str]], Awaitable[Verdict]]

POISON = b"poison-frame"

STORE, HISTORY, JOURNAL = "store.db-wal", "history/history.duckdb.wal", "journal.db-wal"
WRITES = {STORE: 60, HISTORY: 12, JOURNAL: 40}  # a few batches: one is about twenty, three and four writes


async def kills(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F01, F03, F04, F06, F27: the process and its broker are killed, stopped and paused under load."""
    async with Scene.open(folder, environment=environment, alarms_every=2) as scene:
        await scene.start()
        for fault in (faults.kill_9, faults.broker_kill_9, faults.kill_9_twice, faults.pause, faults.sigterm):
            await fault(scene, chance)
        await asyncio.sleep(0.5)
        return await scene.conclude()


async def boundaries(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F02: killed at exactly the k-th write or sync of the store's, the historian's and the journal's log."""
    async with Scene.open(folder, environment=environment, outside_broker=True, alarms_every=1) as scene:
        await scene.start()
        for file in chance.sample((STORE, HISTORY, JOURNAL), 3):
            await asyncio.sleep(0.3)
            await faults.kill_at_boundary(scene, file, chance.randint(1, WRITES[file]))
        return await scene.conclude()


async def in_journal(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F02: killed in the middle of an append to the journal: nothing of that batch was acknowledged."""
    async with Scene.open(folder, environment=environment, outside_broker=True) as scene:
        await scene.start()
        await asyncio.sleep(chance.uniform(0.2, 0.5))
        await faults.kill_at_boundary(scene, JOURNAL, chance.randint(1, WRITES[JOURNAL]), "pwrite64,write")
        return await scene.conclude()


async def between_store_and_outbox(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F02, F53: killed when the store has written an odd number of transactions: each is whole, with its outbox."""
    async with Scene.open(folder, environment=environment, outside_broker=True, alarms_every=1) as scene:
        await scene.start()
        await faults.kill_at_boundary(scene, STORE, 2 * chance.randint(2, 8) + 1, "fdatasync,fsync")
        return await scene.conclude()


async def in_history(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F02: killed in the middle of an append of the historian."""
    async with Scene.open(folder, environment=environment, outside_broker=True) as scene:
        await scene.start()
        await faults.kill_at_boundary(scene, HISTORY, chance.randint(4, 16))
        return await scene.conclude()


async def power(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F13: the power of gateway and broker fails under load."""
    return await _power_cut(folder, chance, environment, outside_broker=False)


async def power_of_the_gateway(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F13: the power of the gateway's machine fails; the broker stands elsewhere and will not send again."""
    return await _power_cut(folder, chance, environment, outside_broker=True)


async def _power_cut(
    folder: Path, chance: random.Random, environment: Mapping[str, str], outside_broker: bool
) -> Verdict:
    if not can_mount():
        raise HarnessError("needs root and loop devices")
    with LoopDisk(folder, 256) as disk:
        async with Scene.open(
            folder,
            environment=environment,
            outside_broker=outside_broker,
            data=disk.mountpoint / "data",
            disk={"reserve": "8 MB"},
        ) as scene:
            await scene.start()
            await faults.power_cut(scene, chance, disk)
            await asyncio.sleep(0.5)
            return await scene.conclude()


async def damage(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F15, F20, F21, F23: a sync fails; then bytes follow the last commit, and bits of the newest snapshot flip."""
    async with Scene.open(folder, environment=environment, outside_broker=True) as scene:
        await scene.start()
        await asyncio.sleep(0.5)
        await faults.sync_fails(scene, chance.randint(20, 80))
        said = scene.gateway.said("our own disk failed")
        scene.facts.append(expect("F15 the log says once that the disk failed", said == 1, said))
        await _alarm_stands(scene, "gateway/gateway-journal-failed")
        folder_of_snapshots = scene.gateway.data / "snapshots"
        await until(lambda: any(folder_of_snapshots.glob("*.snapshot")), "a snapshot", 10)
        async with scene.fault("F20 torn tail, F21 flipped bit in a snapshot"):
            await scene.gateway.kill()
            with (scene.gateway.data / JOURNAL).open("ab") as file:
                file.write(chance.randbytes(chance.randint(1, 4096)))  # a batch that was being written
            faults.flip_bit(max(folder_of_snapshots.glob("*.snapshot")), chance)
            await scene.gateway.start()
        await asyncio.sleep(0.5)
        return await scene.conclude()


async def full_disk(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F16: the disk fills up; telemetry waits, the alarm about it is raised, and all goes on when there is room."""
    if not can_mount():
        raise HarnessError("needs root and loop devices")
    with LoopDisk(folder, 192) as disk:
        async with Scene.open(
            folder,
            environment=environment,
            outside_broker=True,
            data=disk.mountpoint / "data",
            disk={"reserve": "32 MB"},
        ) as scene:
            await scene.start()
            await asyncio.sleep(0.5)
            async with scene.fault("F16 disk full"):
                ballast = disk.mountpoint / "ballast"
                free = shutil.disk_usage(disk.mountpoint).free
                with ballast.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, free - (24 << 20))
                await until(lambda: scene.gateway.said("disk full") > 0, "the word that the disk is full", 10)
                await asyncio.sleep(0.5)
                before = (await scene.get("ledger"))["received"]
                await asyncio.sleep(1.0)
                after = (await scene.get("ledger"))["received"]
                scene.facts.append(
                    expect("F16 no telemetry is taken while the disk is full", after == before, f"{before} → {after}")
                )
                await _alarm_stands(scene, "gateway/gateway-disk-full")
                ballast.unlink()
                await until(lambda: scene.gateway.said("room on the disk again") > 0, "telemetry taken again", 10)
            await asyncio.sleep(0.5)
            return await scene.conclude()


async def clock(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F47, F52: the wall clock leaps a day forward and back; then two hours pass while an alarm waits for its delay."""
    faked = FakedClock(folder)
    async with Scene.open(folder, environment={**environment, **faked.environment}) as scene:
        await scene.start()
        await asyncio.sleep(0.5)
        await faults.clock_steps(scene, faked, 2.5)
        await faults.away_for_two_hours(scene, faked, again=chance.random() < 0.5)
        verdict = await scene.conclude()
    silent = [t for t in verdict.raised if t.endswith(("-silent", "/offline"))]
    verdict.findings.append(expect("F47 no device falls silent because the clock leapt", not silent, silent))
    return verdict


async def strangers(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F09, F59, A02–A04, A07: frames that raise, bad configuration, and people who want to be somebody else."""
    rules = folder / "rules"
    rules.mkdir(parents=True)
    sabotage = {**environment, "CITYWATCH_RAISE_ON": POISON.decode()}
    async with Scene.open(folder, environment=sabotage, rules=[str(rules)]) as scene:
        await scene.start()
        await faults.poison(scene, POISON)
        await faults.bad_reload(scene, rules)
        await faults.speaks_as_another(scene)
        await faults.takes_a_client_id(scene)
        await faults.retained_poison(scene)
        return await scene.conclude(raises=POISON)


async def sink(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F61: the sink is away, then ill, then silent, then refuses one point; the rest of the gateway never notices."""
    refused = ("load-000007", "freeboard" if chance.random() < 0.5 else "level")
    async with scripted_database() as database:
        database.closed = True
        sinks = [{"name": "influx", "url": database.url}]
        async with Scene.open(
            folder, environment=environment, alarms_every=2, outside_broker=True, sinks=sinks
        ) as scene:
            await scene.start()
            async with scene.fault("F61 sink away"):
                await asyncio.sleep(1.5)
            async with scene.fault("F61 sink ill"):
                database.closed, database.script = False, lambda lines: error(500, "internal")
                await asyncio.sleep(1.5)
            async with scene.fault("F61 sink silent"):
                database.script, database.silent = lambda lines: DONE, True
                await asyncio.sleep(1.5)
            async with scene.fault("F61 sink refuses one point"):
                database.script, database.silent = refusing(*refused), False
                await asyncio.sleep(0.5)

            async def held() -> set[tuple[str, str, int, float]]:
                """What the sink holds once nothing more arrives, and what it refused as if it held it."""
                before = -1
                while before != len(database.stored) or not database.stored:
                    before = len(database.stored)
                    await asyncio.sleep(2.0)
                return database.points()

            verdict = await scene.conclude(sink=held, sink_refuses={refused})
            named = scene.gateway.said("/".join(refused))
            late = scene.slowest_notification_s()
    verdict.findings += [
        expect("F61 the refused point is named once", named == 1, named),
        expect("F61 no alarm waits for the sink (told within 2 s)", late < 2.0, f"{late:.1f} s"),
    ]
    return verdict


async def crasher(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F10: one frame ends the process whenever it is decided."""
    deadly = {**environment, "CITYWATCH_CRASH_ON": POISON.decode()}
    async with Scene.open(folder, environment=deadly, outside_broker=True) as scene:
        await scene.start()
        await faults.crasher(scene, POISON)
        return await scene.conclude(raises=POISON)


STORIES: dict[str, Story] = {
    "kills": kills,
    "boundaries": boundaries,
    "power": power,
    "power_of_the_gateway": power_of_the_gateway,
    "damage": damage,
    "full_disk": full_disk,
    "clock": clock,
    "sink": sink,
    "strangers": strangers,
    "crasher": crasher,
}

# Which story must notice which defect. Each of them holds on a sound build, or it would prove nothing.
SABOTAGE: dict[str, Story] = {
    "synchronous_off": power_of_the_gateway,
    "ack_before_commit": in_journal,
    "outbox_after_state": between_store_and_outbox,
    "cursor_before_readings": in_history,
}


async def _alarm_stands(scene: Scene, alarm_id: str, seconds: float = 10.0) -> None:
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
