"""Whole runs: a scene, its faults, and the verdict.

``STORIES`` take one kind of fault each; the long form (``campaign``) runs them many times with other chances. ``TOURS``
lead one gateway through many of them and are the short form: most of a story's time is Python starting. ``SABOTAGE``
names the story that must fail on each broken build.

A story gets an empty folder, a source of chance and environment for the gateway (the sabotage), and gives a Verdict.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

from bench.faults import faults
from bench.faults import strangers as stranger
from bench.faults.database import DONE, error, refusing, scripted_database
from bench.faults.disk import HarnessError, LoopDisk, can_mount
from bench.faults.faults import HISTORY, JOURNAL, STORE, WRITES, FakedClock
from bench.faults.scene import Scene
from bench.judge import Finding, Verdict, expect

Story = Callable[[Path, random.Random, Mapping[str, str]], Awaitable[Verdict]]

POISON = b"poison-frame"
# 40 devices at 300 messages a second raise and clear every 2.7 s, the first about a second into the silence. Told only
# when the sink speaks again they would be 5 s late. Told at once they were up to 3.4 s late with four scenes on two
# busy cores, and 0.4 s with the machine to itself.
SILENT_S, TOLD_S = 6.0, 4.0
TOUR_RATE = 150.0  # messages a second: a tour is long, and several run at once on two cores


async def kills(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F01, F03, F04, F06, F27: the process and its broker are killed, stopped and paused under load."""
    async with Scene.open(folder, environment=environment, alarms_every=2) as scene:
        await scene.start()
        for fault in (faults.kill_9, faults.broker_kill_9, faults.kill_9_twice, faults.pause, faults.sigterm):
            await fault(scene, chance)
        await asyncio.sleep(0.5)
        return await scene.conclude()


async def full_rate(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F01, F03: killed at twenty instants, every time twice, while 1,500 messages a second go through the embedded
    broker (which syncs each; what it does not take at once waits in the devices)."""
    async with Scene.open(folder, environment=environment, devices=200, rate=1_500.0, alarms_every=4) as scene:
        await scene.start()
        for _ in range(20):
            await faults.kill_9_twice(scene, chance)
        return await scene.conclude()


async def broker_away(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F27: the broker answers nobody for a minute."""
    async with Scene.open(folder, environment=environment, alarms_every=2) as scene:
        await scene.start()
        await asyncio.sleep(1.0)
        await faults.broker_stopped(scene, chance, 60.0)
        await asyncio.sleep(3.0)
        return await scene.conclude()


async def boundaries(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F02: killed at exactly the k-th write or sync of the store's, the historian's and the journal's log."""
    async with Scene.open(folder, environment=environment, outside_broker=True, alarms_every=1) as scene:
        await scene.start()
        for file in chance.sample((STORE, HISTORY, JOURNAL), 3):
            await asyncio.sleep(0.3)
            await faults.kill_at_any_boundary(scene, chance, file)
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
        await faults.disk_errs(scene, chance)
        await faults.torn_and_flipped(scene, chance)
        await asyncio.sleep(0.5)
        return await scene.conclude()


async def full_disk(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F16: the disk fills up and is freed again."""
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
            await faults.fills_up(scene, disk, 32)
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
    verdict.findings.append(nobody_fell_silent(verdict))
    return verdict


def nobody_fell_silent(verdict: Verdict) -> Finding:
    """F47: no alarm of silence in the whole run."""
    silent = [name for name in verdict.raised if name.endswith(("-silent", "/offline"))]
    return expect("F47 no device falls silent because the clock leapt", not silent, silent)


async def strangers(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F09, F59, A02–A04, A07: frames that raise, bad configuration, and people who want to be somebody else."""
    rules = folder / "rules"
    rules.mkdir(parents=True)
    sabotage = {**environment, "CITYWATCH_RAISE_ON": POISON.decode()}
    async with Scene.open(folder, environment=sabotage, rules=[str(rules)]) as scene:
        await scene.start()
        await stranger.poison(scene, POISON)
        await stranger.bad_reload(scene, rules)
        await stranger.speaks_as_another(scene)
        await stranger.takes_a_client_id(scene)
        await stranger.retained_poison(scene)
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
                await asyncio.sleep(SILENT_S)
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
        expect(f"F61 no alarm waits for the sink (told within {TOLD_S:g} s)", late < TOLD_S, f"{late:.1f} s"),
    ]
    return verdict


async def crasher(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F10: one frame ends the process whenever it is decided."""
    deadly = {**environment, "CITYWATCH_CRASH_ON": POISON.decode()}
    async with Scene.open(folder, environment=deadly, outside_broker=True) as scene:
        await scene.start()
        await stranger.crasher(scene, POISON)
        return await scene.conclude(raises=POISON)


STORIES: dict[str, Story] = {
    "kills": kills,
    "full_rate": full_rate,
    "broker_away": broker_away,
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


async def tour_of_people(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F01, F03, F04, F06, F09, F27, F59, A02–A04, A07 with the embedded broker."""
    rules = folder / "rules"
    rules.mkdir(parents=True)
    environment = {**environment, "CITYWATCH_RAISE_ON": POISON.decode()}
    async with Scene.open(folder, environment=environment, alarms_every=2, rate=TOUR_RATE, rules=[str(rules)]) as scene:
        await scene.start()
        await stranger.poison(scene, POISON)
        await stranger.bad_reload(scene, rules)
        await stranger.speaks_as_another(scene)
        await stranger.takes_a_client_id(scene)
        for fault in (faults.kill_9, faults.broker_kill_9, faults.pause, faults.kill_9_twice):
            await fault(scene, chance)
        await stranger.retained_poison(scene)  # stops in order, under load
        return await scene.conclude(raises=POISON)


async def tour_of_the_machine(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F02, F15, F20, F21, F23, and where a disk of our own can be mounted F13 and F16."""
    with LoopDisk(folder, 256) if can_mount() else nullcontext() as disk:
        data = disk.mountpoint / "data" if disk is not None else None
        reserve = {"reserve": "32 MB"}
        async with Scene.open(
            folder,
            environment=environment,
            outside_broker=True,
            alarms_every=1,
            rate=TOUR_RATE,
            data=data,
            disk=reserve,
        ) as scene:
            await scene.start()
            await asyncio.sleep(0.3)
            await faults.kill_at_any_boundary(scene, chance, chance.choice((STORE, HISTORY, JOURNAL)))
            if disk is not None:
                await faults.fills_up(scene, disk, 32)
            await faults.disk_errs(scene, chance)
            await faults.torn_and_flipped(scene, chance)
            if disk is not None:
                await faults.power_cut(scene, chance, disk)
            await asyncio.sleep(0.3)
            return await scene.conclude()


async def tour_of_time(folder: Path, chance: random.Random, environment: Mapping[str, str]) -> Verdict:
    """F47, F52: a clock that leaps, two hours away."""
    faked = FakedClock(folder)
    environment = {**environment, **faked.environment}
    async with Scene.open(folder, environment=environment, outside_broker=True, rate=TOUR_RATE) as scene:
        await scene.start()
        await faults.clock_steps(scene, faked, 2.0)
        await faults.away_for_two_hours(scene, faked, again=False)
        verdict = await scene.conclude()
    verdict.findings.append(nobody_fell_silent(verdict))
    return verdict


TOURS: dict[str, Story] = {
    "people": tour_of_people,
    "machine": tour_of_the_machine,
    "time": tour_of_time,
    "crasher": crasher,
    "sink": sink,
}

# Which story must notice which defect. Each of them holds on a sound build, or it would prove nothing.
SABOTAGE: dict[str, Story] = {
    "synchronous_off": power_of_the_gateway,
    "ack_before_commit": in_journal,
    "outbox_after_state": between_store_and_outbox,
    "cursor_before_readings": in_history,
}
