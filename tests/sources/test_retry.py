"""gateway.retry: waits grow, never above the cap, and start small again after a reset."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.retry import Backoff


@given(
    first=st.floats(0.001, 10),
    factor=st.floats(1, 1000),
    attempts=st.integers(1, 2000),
    seed=st.integers(0, 2**32),
)
def test_no_wait_is_longer_than_the_cap_however_long_the_outage(
    first: float, factor: float, attempts: int, seed: int
) -> None:
    backoff = Backoff(first, first * factor, rng=random.Random(seed))
    delays = [backoff.next_delay_s() for _ in range(attempts)]
    assert all(0 <= delay <= first * factor * 1.000001 for delay in delays)
    assert delays[0] <= first


def test_waits_are_spread_from_zero_to_a_ceiling_that_doubles() -> None:
    longest = [0.0] * 6
    for seed in range(500):
        backoff = Backoff(1.0, 30.0, rng=random.Random(seed))
        longest = [max(so_far, backoff.next_delay_s()) for so_far in longest]
    assert longest == pytest.approx([1, 2, 4, 8, 16, 30], rel=0.05)


def test_after_a_reset_the_first_wait_is_short_again() -> None:
    backoff = Backoff(1.0, 30.0, rng=random.Random(1))
    for _ in range(20):
        backoff.next_delay_s()
    backoff.reset()
    assert backoff.attempts == 0
    assert backoff.next_delay_s() <= 1.0


@pytest.mark.parametrize(("first", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_a_back_off_that_makes_no_sense_is_refused(first: float, cap: float) -> None:
    with pytest.raises(ValueError, match="first_s"):
        Backoff(first, cap)


async def test_a_wait_can_be_cancelled() -> None:
    task = asyncio.ensure_future(Backoff(1000, 1000, rng=random.Random(3)).wait(at_least_s=1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
