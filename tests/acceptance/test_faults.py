"""The short form of the fault campaign: processes are hurt, a judge decides, broken builds are caught.

Each story is one of ``bench.faults.stories``; the long form is ``citywatch bench faults --runs N``. They spend most of
their time waiting for processes to start and brokers to send again, so several run at once; a test asks for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from bench.faults.campaign import caught, run_story
from bench.faults.disk import can_mount
from bench.faults.stories import SABOTAGE, STORIES
from bench.judge import Verdict
from tests.servers import need_debian

pytestmark = pytest.mark.faults

SEED = 20_250_720
AT_ONCE = 3  # more only makes the starts, which are all Python and no waiting, slower on two cores
NEEDS = {
    "boundaries": ("strace", "strace"),
    "ack_before_commit": ("strace", "strace"),
    "damage": ("strace", "strace"),
    "clock": ("faketime", "faketime"),
    "outbox_after_state": ("strace", "strace"),
    "cursor_before_readings": ("strace", "strace"),
}
NEEDS_DISK = ("power", "power_of_the_gateway", "full_disk", "synchronous_off")

Outcome: TypeAlias = "Verdict | tuple[bool, list[str]] | BaseException"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What became of every story and every broken build this machine can run."""
    runs: dict[str, Callable[[Path], Awaitable[Verdict | tuple[bool, list[str]]]]] = {}
    results: dict[str, Outcome] = {}
    for name in (*STORIES, *SABOTAGE):
        try:
            _prepare(name)
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            results[name] = reason
            continue
        runs[name] = _story(name) if name in STORIES else _defect(name)

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

    asyncio.run(run_all())
    return results


def _story(name: str) -> Callable[[Path], Awaitable[Verdict]]:
    return lambda folder: run_story(name, folder, SEED)


def _defect(name: str) -> Callable[[Path], Awaitable[tuple[bool, list[str]]]]:
    return lambda folder: caught(name, folder, SEED)


def _prepare(name: str) -> None:
    if name in NEEDS:
        need_debian(*NEEDS[name])
    need_debian("mosquitto", "mosquitto")
    if name in NEEDS_DISK and not can_mount():
        pytest.skip("needs root and loop devices: power cuts and full disks are NOT tested here")


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_lost_doubled_or_changed(story: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[story]
    if isinstance(outcome, BaseException):
        raise outcome
    assert isinstance(outcome, Verdict)
    assert outcome.holds, f"{story}\n{outcome}"


@pytest.mark.parametrize("defect", SABOTAGE)
def test_a_broken_build_is_caught(defect: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[defect]
    if isinstance(outcome, BaseException):
        raise outcome
    assert isinstance(outcome, tuple)
    assert outcome[0], f"{defect} was not noticed by its story, which therefore proves nothing"
