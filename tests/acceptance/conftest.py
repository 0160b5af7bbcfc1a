"""Gateways here are forked from a process that has read all modules: half of what a start takes is reading them, and
these tests start fifty. What a person does, test_evening.py does, from ``python -m gateway`` on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.faults.forkserver import FORKS, ForkServer


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def forked(request: pytest.FixtureRequest, fork_server: ForkServer) -> Iterator[None]:
    token = FORKS.set(None if request.path.name == "test_evening.py" else fork_server)
    yield
    FORKS.reset(token)
