"""What a benchmark needs that is tried in a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from bench.faults.forkserver import FORKS, ForkServer
from tests.acceptance.conftest import fork_server
from tests.servers import need_debian

__all__ = ["fork_server"]


@pytest.fixture
def as_a_benchmark(fork_server: ForkServer) -> Iterator[None]:
    """A benchmark is a process of its own and may make its logs quiet; here others come after it. Its gateways are
    forked, as those of the acceptance tests."""
    need_debian("mosquitto", "mosquitto")
    token = FORKS.set(fork_server)
    yield
    FORKS.reset(token)
    structlog.reset_defaults()
