"""Snapshots on disk: checked before they are believed, and never the only copy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.snapshots import SnapshotFolder


def test_the_newest_snapshot_at_or_before_a_position_is_found(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    for position in (10, 20, 30):
        folder.save(position, b"state %d" % position)
    assert folder.newest(25) == (20, b"state 20")
    assert folder.newest(30) == (30, b"state 30")
    assert folder.newest(9) is None


@pytest.mark.parametrize("place", [0, 3, 4, 5, -1])
def test_a_flipped_bit_makes_a_snapshot_be_passed_over_and_told(tmp_path: Path, place: int) -> None:
    folder = SnapshotFolder(tmp_path)
    folder.save(1, b"old")
    folder.save(2, b"new")
    path = tmp_path / "0000000000000002.snapshot"
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0x10
    path.write_bytes(raw)
    assert folder.newest(5) == (1, b"old")
    assert len(folder.damaged) == 1


def test_a_half_written_snapshot_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "0000000000000007.part").write_bytes(b"x")
    assert SnapshotFolder(tmp_path).newest(10) is None


def test_pruning_keeps_two_at_or_before_what_is_needed_and_all_after(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    for position in (10, 20, 30, 40):
        folder.save(position, b"x")
    assert folder.prune(35) == 20
    assert folder.positions() == [20, 30, 40]


async def test_a_snapshot_made_aside_holds_the_state_of_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    state = {"level": 1}
    saving = asyncio.create_task(folder.save_aside(7, lambda: repr(state).encode(), ()))
    await asyncio.sleep(0)
    state["level"] = 2
    await saving
    assert folder.newest(7) == (7, b"{'level': 1}")


async def test_a_child_that_fails_is_an_error_and_leaves_no_snapshot(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise RuntimeError("no")

    folder = SnapshotFolder(tmp_path)
    with pytest.raises(OSError, match="status 1"):
        await folder.save_aside(7, fail, ())
    assert folder.newest(7) is None
