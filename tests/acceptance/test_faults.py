"""The short form of the fault campaign: processes are hurt, a judge decides, broken builds are caught.

Each is a tour of ``bench.faults.stories``; the long form is ``citywatch bench faults --runs N``. They mostly wait for
processes to start and brokers to send again, so several run at once; a test asks for one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from bench.faults.campaign import caught
from bench.faults.disk import can_mount
from bench.faults.forkserver import forked_starts
from bench.faults.stories import SABOTAGE, TOURS
from bench.judge import Verdict
from tests.servers import need_debian

pytestmark = pytest.mark.faults

SEED = 20_250_720
AT_ONCE = 4  # two cores are busy with three starts at a time, and half of the time is waiting
NEEDS = {
    "machine": ("strace", "strace"),
    "time": ("faketime", "faketime"),
    "ack_before_commit": ("strace", "strace"),
    "outbox_after_state": ("strace", "strace"),
    "cursor_before_readings": ("strace", "strace"),
}

Outcome: TypeAlias = "Verdict | tuple[bool, list[str]] | BaseException"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What became of every tour and every broken build this machine can run."""
    runs: dict[str, Callable[[Path], Awaitable[Verdict | tuple[bool, list[str]]]]] = {}
    results: dict[str, Outcome] = {}
    for name in (*TOURS, *SABOTAGE):
        try:
            _prepare(name)
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            results[name] = reason
            continue
        runs[name] = _tour(name) if name in TOURS else _defect(name)

    async def run_all() -> None:
        free = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with free:
                try:
                    results[name] = await runs[name](tmp_path_factory.mktemp(name))
                except Exception as error:  # its own test will raise it
                    results[name] = error

        async with asyncio.TaskGroup() as group:
            for name in runs:
                group.create_task(one(name), name=name)

    with forked_starts():
        asyncio.run(run_all())
    return results


def _tour(name: str) -> Callable[[Path], Awaitable[Verdict]]:
    return lambda folder: TOURS[name](folder, random.Random(SEED), {})


def _defect(name: str) -> Callable[[Path], Awaitable[tuple[bool, list[str]]]]:
    return lambda folder: caught(name, folder, SEED)


def _prepare(name: str) -> None:
    if name in NEEDS:
        need_debian(*NEEDS[name])
    need_debian("mosquitto", "mosquitto")
    if name == "synchronous_off" and not can_mount():
        pytest.skip("needs root and loop devices: power cuts and full disks are NOT tested here")


@pytest.mark.parametrize("tour", TOURS)
def test_nothing_is_lost_doubled_or_changed(tour: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[tour]
    if isinstance(outcome, BaseException):
        raise outcome
    assert isinstance(outcome, Verdict)
    assert outcome.holds, f"{tour}\n{outcome}"


@pytest.mark.parametrize("defect", SABOTAGE)
def test_a_broken_build_is_caught(defect: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[defect]
    if isinstance(outcome, BaseException):
        raise outcome
    assert isinstance(outcome, tuple)
    assert outcome[0], f"{defect} was not noticed by its story, which therefore proves nothing"
