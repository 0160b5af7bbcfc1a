"""A batch on disk proves itself: every changed bit shows, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Frame, FrameKind
from gateway.journal.record import FIRST_HASH, Batch, find_damage, link_hash, open_batch, seal

TIMES = st.integers(0, 2**53)
FRAMES = st.lists(
    st.builds(
        Frame,
        kind=st.sampled_from(FrameKind),
        source=st.text(max_size=8),
        address=st.text(max_size=40),
        payload=st.binary(max_size=200),
        received_at=TIMES,
        retained=st.booleans(),
        duplicate_hint=st.booleans(),
        principal=st.text(max_size=8),
    ),
    min_size=1,
    max_size=5,
)


@given(FRAMES, st.integers(1, 2**40), st.binary(min_size=16, max_size=16))
def test_what_is_sealed_is_what_is_opened(frames: list[Frame], position: int, before: bytes) -> None:
    batch = seal(position, frames, before)
    assert open_batch(batch) == frames
    assert (batch.position, batch.frames) == (position, len(frames))
    assert (batch.first_at, batch.last_at) == (frames[0].received_at, frames[-1].received_at)
    assert batch.hash == link_hash(position, batch.payload, before)


@given(FRAMES, st.data())
def test_one_flipped_bit_in_any_column_is_damage(frames: list[Frame], data: st.DataObject) -> None:
    batch = seal(7, frames, FIRST_HASH)
    column = data.draw(st.sampled_from(Batch._fields))
    value: Any = getattr(batch, column)
    if isinstance(value, bytes):
        bit = data.draw(st.integers(0, len(value) * 8 - 1))
        flipped: Any = bytes(byte ^ (1 << bit % 8) if i == bit // 8 else byte for i, byte in enumerate(value))
    else:
        flipped = value ^ 1 << data.draw(st.integers(0, 31))
    damaged = batch._replace(**{column: flipped})
    assert find_damage(damaged) is not None
    with pytest.raises(ValueError, match="checksum"):
        open_batch(damaged)


@pytest.mark.parametrize(
    ("column", "value"),
    [("position", None), ("crc", "text"), ("hash", None), ("payload", 12), ("frames", 1.5)],
)
def test_a_column_of_another_type_is_damage_and_no_exception(column: str, value: object) -> None:
    batch = seal(1, [Frame(FrameKind.TICK, "timer", "", b"", 1)], FIRST_HASH)
    assert find_damage(batch._replace(**{column: value})) is not None  # type: ignore[arg-type]
