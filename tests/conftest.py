"""What every test may use, and what every test must leave behind: no task, no process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from gateway.store import people
from tests import servers

# Two shared cores: the time one example takes says nothing. More examples: HYPOTHESIS_PROFILE=long.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest_asyncio.fixture
async def mosquitto() -> AsyncIterator[servers.Broker]:
    """A mosquitto of this test's own, open to anybody on loopback."""
    async with servers.mosquitto() as broker:
        yield broker


@pytest_asyncio.fixture
async def victoria_metrics() -> AsyncIterator[servers.Database]:
    """A VictoriaMetrics of this test's own."""
    async with servers.victoria_metrics() as database:
        yield database


@pytest.fixture
def costly_passwords() -> None:
    """Ask for it to have passwords hashed as dearly as in a city's gateway."""


@pytest.fixture
def cheap_passwords(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash takes no time. What it is and takes in a city's gateway, tests/store/test_people.py says."""
    if "costly_passwords" not in request.fixturenames:
        monkeypatch.setattr(people, "TIME_COST", 1)
        monkeypatch.setattr(people, "MEMORY_KIB", 8)


@pytest_asyncio.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    """Fails an asynchronous test after which a task still runs. Added to each of them below."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)  # a task that has just been cancelled by a fixture's end takes one turn to finish
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task() and not task.done()]
    if left:
        await asyncio.wait(left, timeout=0.2)
    names = [f"{task.get_name()}: {task.get_coro()}" for task in left if not task.done()]
    assert not names, "tasks left behind:\n" + "\n".join(names)


@pytest.fixture(scope="module", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fails a file of tests after which a process started by it still runs, and ends that process."""
    before = _children()
    yield
    left = {pid: _command(pid) for pid in _children() - before}
    running = {pid: command for pid, command in left.items() if command}
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    assert not running, f"processes left behind: {running}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Only asynchronous tests get the fixture, and so only they get a loop. First in, so last out: after the
    # fixtures of the test have taken their own tasks down.
    for item in items:
        if isinstance(item, pytest.Function) and asyncio.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_left_behind")


def _children() -> set[int]:
    """Direct child processes of ours; empty where the kernel does not tell."""
    pids: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            pids.update(int(word) for word in path.read_text().split())
        except OSError:
            continue  # that thread has just ended
    return pids


def _command(pid: int) -> str:
    """Its command line; "" for a zombie or one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
