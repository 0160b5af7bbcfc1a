"""What the tests of the sources share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from gateway.ports import Source
from gateway.retry import Backoff
from tests.sources.held_intake import HeldIntake

Running = Callable[[Source, HeldIntake], "asyncio.Task[None]"]


def impatient() -> Backoff:
    """A back-off for tests: tries again at once."""
    return Backoff(first_s=0.01, cap_s=0.05)


async def end(task: asyncio.Task[None]) -> None:
    """Cancel and wait; an error of the task comes out here."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    """Starts a source; it is ended after the test at the latest."""
    tasks: list[asyncio.Task[None]] = []

    def start(source: Source, intake: HeldIntake) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(source.run(intake), name="source under test")
        tasks.append(task)
        return task

    yield start
    for task in tasks:
        await end(task)
