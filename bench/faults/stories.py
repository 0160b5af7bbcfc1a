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
from bench.faults.harness import Scene, until
from bench.judge import Verdict, expect

Story = Callable[[Path, random.Random, Mapping[str, str]], Awaitable[Verdict]]

POISON = b"poison-frame"


async def kills(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F01, F03, F04, F06, F27: the process and its broker are killed, stopped and paused under load."""
    async with Scene.open(folder, environment=environment, alarms_every=2) as scene:
        await scene.start()
        for fault in (
            faults.kill_9,
            faults.kill_9_twice,
            faults.broker_kill_9,
            faults.sigterm,
            faults.pause,
            faults.kill_9,
        ):
            await fault(scene, chance)
        await asyncio.sleep(0.5)
        return await scene.conclude()


async def boundaries(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F02: killed at exactly the k-th write of the store's, the historian's and the journal's log."""
    async with Scene.open(folder, environment=environment, alarms_every=1) as scene:
        await scene.start()
        # Of one batch: the store writes about twenty times, the historian three times, the journal four times.
        for file, last in (("store.db-wal", 60), ("history/history.duckdb.wal", 12), ("journal.db-wal", 40)):
            await faults.kill_at_boundary(scene, file, chance.randint(3, last))
        return await scene.conclude()


async def power(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F13: the power of the data folder's disk fails under load."""
    if not can_mount():
        raise HarnessError("needs root and loop devices")
    with LoopDisk(folder, 256) as disk:
        async with Scene.open(
            folder, environment=environment, data=disk.mountpoint / "data", disk={"reserve": "8 MB"}
        ) as scene:
            await scene.start()
            for _ in range(2):
                await faults.power_cut(scene, chance, disk)
            await asyncio.sleep(0.5)
            return await scene.conclude()


async def failing_disk(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F15: a sync fails; nothing behind it is acknowledged, the process says so and ends."""
    async with Scene.open(folder, environment=environment) as scene:
        await scene.start(around=faults.failing_sync(scene, chance.randint(40, 120)))
        await faults.sync_fails(scene)
        said = scene.gateway.said("our own disk failed")
        scene.facts.append(expect("F15 the log says once that the disk failed", said == 1, said))
        await _alarm_stands(scene, "gateway/gateway-journal-failed")
        return await scene.conclude()


async def full_disk(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F16: the disk fills up; telemetry waits, the alarm about it is raised, and all goes on when there is room."""
    if not can_mount():
        raise HarnessError("needs root and loop devices")
    with LoopDisk(folder, 192) as disk:
        async with Scene.open(
            folder, environment=environment, data=disk.mountpoint / "data", disk={"reserve": "32 MB"}
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


async def damage(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F20, F21, F23: bits of the newest snapshot flip, and bytes behind the last commit are torn off."""
    async with Scene.open(folder, environment=environment) as scene:
        await scene.start()
        await asyncio.sleep(3.0)
        async with scene.fault("F20 torn tail, F21 flipped bit in a snapshot"):
            await scene.gateway.kill()
            wal = scene.gateway.data / "journal.db-wal"
            with wal.open("ab") as file:
                file.write(chance.randbytes(chance.randint(1, 4096)))  # a batch that was being written
            snapshots = sorted((scene.gateway.data / "snapshots").glob("*.snapshot"))
            scene.facts.append(expect("F21 there is a snapshot to damage", bool(snapshots)))
            for snapshot in snapshots[-1:]:
                faults.flip_bit(snapshot, chance)
            await scene.gateway.start()
        await asyncio.sleep(0.5)
        return await scene.conclude()


async def clock(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F47, F48: the wall clock is wrong at the start, leaps a day forward, and back."""
    faked = FakedClock(folder)
    async with Scene.open(folder, environment={**environment, **faked.environment}) as scene:
        await scene.start()
        await asyncio.sleep(0.5)
        await faults.clock_steps(scene, faked, 2.5)
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
        async with Scene.open(folder, environment=environment, alarms_every=2, sinks=sinks) as scene:
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


STORIES: dict[str, Story] = {
    "kills": kills,
    "boundaries": boundaries,
    "power": power,
    "failing_disk": failing_disk,
    "full_disk": full_disk,
    "damage": damage,
    "clock": clock,
    "sink": sink,
    "strangers": strangers,
}

# Which story must notice which defect.
SABOTAGE: dict[str, str] = {
    "synchronous_off": "power",
    "ack_before_commit": "kills",
    "outbox_after_state": "boundaries",
    "cursor_before_readings": "boundaries",
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
