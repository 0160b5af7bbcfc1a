"""The journal: what it acknowledged is there, in order, after anything."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import apsw
import pytest

from gateway.core.model import Frame, FrameKind
from gateway.errors import StorageFailed
from gateway.journal import embedded
from gateway.journal.embedded import EmbeddedJournal, sync_probe
from tests.journal.appender import batch
from tests.servers import need_debian

KILLS = 10


async def everything(journal: EmbeddedJournal, after: int = 0) -> dict[int, list[Frame]]:
    return {position: list(frames) async for position, frames in journal.read(after)}


async def filled(folder: Path, count: int) -> EmbeddedJournal:
    journal = await EmbeddedJournal.open(folder)
    for position in range(1, count + 1):
        assert await journal.append(batch(position)) == position
    return journal


def as_written(positions: Iterable[int]) -> dict[int, list[Frame]]:
    return {position: batch(position) for position in positions}


async def test_batches_come_back_in_order_from_any_position(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 200)
    assert await everything(journal) == as_written(range(1, 201))
    assert await everything(journal, 150) == as_written(range(151, 201))
    assert await everything(journal, 200) == {}
    assert journal.damage == []
    await journal.close()


async def test_a_new_journal_is_empty_and_clean(tmp_path: Path) -> None:
    journal = await EmbeddedJournal.open(tmp_path / "made")
    assert (journal.last_position, journal.first_position, journal.last_received_at) == (0, 1, 0)
    assert journal.previous_shutdown_clean
    assert await everything(journal) == {}
    await journal.close()


async def test_a_reopened_journal_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 7)
    await journal.close()
    journal = await EmbeddedJournal.open(tmp_path)
    assert journal.previous_shutdown_clean
    assert journal.last_position == 7
    assert journal.last_received_at == batch(7)[-1].received_at
    assert await journal.append(batch(8)) == 8
    assert await everything(journal) == as_written(range(1, 9))
    assert journal.damage == []
    await journal.close()


async def test_reading_ends_where_the_journal_ended_when_it_began(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 3)
    seen = []
    async for position, _ in journal.read(0):
        seen.append(position)
        await journal.append(batch(journal.last_position + 1))
    assert seen == [1, 2, 3]
    await journal.close()


async def test_appends_of_many_tasks_get_a_position_each(tmp_path: Path) -> None:
    journal = await EmbeddedJournal.open(tmp_path)
    positions = await asyncio.gather(*(journal.append(batch(n)) for n in range(1, 60)))
    assert sorted(positions) == list(range(1, 60))
    assert await journal.verify(0) == 59
    await journal.close()


async def test_released_batches_are_gone_and_the_newest_stays(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 100)
    await journal.release(40)
    assert journal.first_position == 41
    assert await everything(journal) == as_written(range(41, 101))
    await journal.release(10_000)
    assert journal.first_position == 100
    await journal.close()
    journal = await EmbeddedJournal.open(tmp_path, verify_from=0)
    assert (journal.first_position, journal.last_position) == (100, 100)
    assert await journal.append(batch(101)) == 101
    assert await journal.verify(0) == 2
    assert journal.damage == []
    await journal.close()


async def test_appends_go_on_between_the_steps_of_a_release(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 400)
    release = asyncio.create_task(journal.release(399))
    appended = 0
    while not release.done():
        await journal.append(batch(journal.last_position + 1))
        appended += 1
    assert appended >= 5  # 399 batches are 13 steps; each append waits for one of them at most
    await journal.close()


async def test_room_of_released_batches_goes_back_to_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "FREE_PAGES_KEPT", 100)
    monkeypatch.setattr(embedded, "CHECKPOINT_PAGES", 50)
    journal = await EmbeddedJournal.open(tmp_path)
    large = [frame for position in range(10, 2000, 10) for frame in batch(position)]
    for _ in range(8):
        await journal.append(large)
    await journal.close()
    before = (tmp_path / "journal.db").stat().st_size
    journal = await EmbeddedJournal.open(tmp_path)
    await journal.release(7)
    await journal.close()
    assert (tmp_path / "journal.db").stat().st_size < before / 3


async def test_the_log_is_written_back_and_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "CHECKPOINT_PAGES", 20)
    journal = await filled(tmp_path, 500)
    assert (tmp_path / "journal.db-wal").stat().st_size < 100 * 4200
    await journal.close()


async def test_an_empty_batch_is_the_callers_mistake(tmp_path: Path) -> None:
    journal = await EmbeddedJournal.open(tmp_path)
    with pytest.raises(ValueError, match="at least one frame"):
        await journal.append([])
    assert await journal.append(batch(1)) == 1
    await journal.close()


async def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 1)
    await journal.close()
    await journal.close()
    with pytest.raises(StorageFailed, match="closed"):
        await journal.append(batch(2))


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
async def test_a_file_removed_while_open_stops_the_journal(tmp_path: Path, name: str) -> None:
    journal = await filled(tmp_path, 3)
    (tmp_path / name).unlink()
    with pytest.raises(StorageFailed, match="removed"):
        await journal.append(batch(4))
    with pytest.raises(StorageFailed, match="failed before"):
        await journal.append(batch(4))
    await journal.close()


async def test_positions_a_follower_has_passed_are_never_given_again(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 5)
    await journal.advance_to(3)
    assert journal.last_position == 5
    await journal.advance_to(9)
    assert journal.damage == ["journal batch 9: missing since batch 6"]
    assert await journal.append(batch(10)) == 10
    await journal.close()
    journal = await EmbeddedJournal.open(tmp_path, verify_from=0)
    assert journal.last_position == 10
    assert await everything(journal) == as_written([1, 2, 3, 4, 5, 10])
    assert journal.damage == []  # told once
    assert await journal.quarantined() == [(9, "missing since batch 6")]
    await journal.close()


async def test_a_rewritten_batch_breaks_the_chain_though_its_checksum_holds(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 5)
    await journal.close()
    forged = embedded.seal(3, batch(4), b"someone else's 16")
    with apsw.Connection(str(tmp_path / "journal.db")) as db:
        db.execute("DELETE FROM batch WHERE position = 3")
        db.execute(embedded._INSERT, forged)
    journal = await EmbeddedJournal.open(tmp_path, verify_from=0)
    assert [note.split(":")[0] for note in journal.damage] == ["journal batch 3", "journal batch 4"]
    await journal.close()


def test_the_probe_measures_a_sync(tmp_path: Path) -> None:
    assert 0 < sync_probe(tmp_path, rounds=5) < 1e6


# -- killed, and disks that fail ----------------------------------------------------------------------------------


def start(folder: Path, count: int, *wrapper: str) -> subprocess.Popen[str]:
    command = [*wrapper, sys.executable, "-m", "tests.journal.appender", str(folder), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.faults
async def test_no_acknowledged_batch_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    draw = random.Random(2)
    acknowledged = 0
    for _ in range(KILLS):
        appender = start(tmp_path, 1_000_000)
        assert appender.stdout is not None
        wanted = acknowledged + draw.randrange(1, 150)
        for line in appender.stdout:
            word, number = line.split()
            assert int(number) >= acknowledged
            if word == "ack" and int(number) >= wanted:
                break
        appender.kill()
        lines = [f"ack {number}", *appender.stdout]
        appender.wait()
        appender.stdout.close()
        acknowledged = max(int(line.split()[1]) for line in lines if line.startswith("ack ") and line.split()[1:])
    journal = await EmbeddedJournal.open(tmp_path, verify_from=0)
    assert not journal.previous_shutdown_clean
    assert journal.damage == []
    assert journal.last_position in (acknowledged, acknowledged + 1)  # the last one may be there unacknowledged
    assert await everything(journal) == as_written(range(1, journal.last_position + 1))
    await journal.close()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("inject", "kind"),
    [
        ("fdatasync:error=EIO:when=20+", "error"),
        ("pwrite64:error=ENOSPC:when=60+", "full"),
        ("pwrite64:error=EIO:when=60", "error"),
    ],
)
async def test_after_a_disk_error_nothing_is_acknowledged(tmp_path: Path, inject: str, kind: str) -> None:
    strace = need_debian("strace", "strace")
    calls = inject.split(":")[0]
    wrapper = (str(strace), "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={inject}")
    appender = start(tmp_path, 300, *wrapper)
    output, _ = appender.communicate(timeout=60)
    lines = output.splitlines()
    if not lines:
        pytest.skip("strace may not trace here")
    failures = [number for number, line in enumerate(lines) if line.startswith("failed")]
    assert len(failures) == 1
    assert lines[failures[0]].split()[1] == kind
    assert lines[failures[0] + 1 :] == ["refused"]
    acknowledged = [int(line.split()[1]) for line in lines if line.startswith("ack")]
    journal = await EmbeddedJournal.open(tmp_path, verify_from=0)
    assert journal.last_position >= acknowledged[-1]
    assert await everything(journal) == as_written(range(1, journal.last_position + 1))
    assert journal.damage == []
    await journal.close()


# -- looking back -----------------------------------------------------------------------------------------------------


def said(device: str, at: int) -> Frame:
    return Frame(FrameKind.MQTT, "main", f"citywatch/v1/lamp/{device}/telemetry", b"x%d" % at, at)


async def spoken(folder: Path, batches: int) -> EmbeddedJournal:
    """A batch a second: lamp-1 twice in every tenth, others in all."""
    journal = await EmbeddedJournal.open(folder)
    for second in range(1, batches + 1):
        frames = [said("lamp-2", second), said("lamp-3", second)]
        if second % 10 == 0:
            frames[1:1] = [said("lamp-1", second), said("lamp-1", second)]
        await journal.append(frames)
    return journal


def lamp_1(frame: Frame) -> str | None:
    return frame.payload.decode() if "/lamp-1/" in frame.address else None


async def test_the_newest_frames_of_a_device_are_found_from_the_end_backwards(tmp_path: Path) -> None:
    journal = await spoken(tmp_path, 300)
    found = await journal.search_back([b"lamp-1"], lamp_1, 3)
    assert [(position, index, made) for position, index, _, made in found.items] == [
        (300, 2, "x300"),
        (300, 1, "x300"),
        (290, 2, "x290"),
    ]
    assert (found.back_to, found.whole) == (290, False)
    found = await journal.search_back([b"lamp-1"], lamp_1, 1000)
    assert (len(found.items), found.back_to, found.frames, found.whole) == (60, 1, 660, True)
    nothing = await journal.search_back([b"lamp-9"], lamp_1, 3)
    assert (nothing.items, nothing.back_to, nothing.whole) == ([], 1, True)
    await journal.close()


async def test_a_search_gives_up_after_its_time_or_its_bytes_and_says_how_far_it_came(tmp_path: Path) -> None:
    journal = await spoken(tmp_path, 300)
    found = await journal.search_back([b"lamp-1"], lamp_1, 1000, size=5_000)
    assert not found.whole
    assert found.back_to is not None
    assert 1 < found.back_to < 300
    assert found.items
    out_of_time = await journal.search_back([b"lamp-1"], lamp_1, 1000, seconds=0)
    assert (out_of_time.items, out_of_time.back_to, out_of_time.whole) == ([], None, False)
    await journal.close()


async def test_a_search_passes_over_damage_and_what_was_released_and_tells_nobody(tmp_path: Path) -> None:
    journal = await spoken(tmp_path, 100)
    await journal.release(40)
    with apsw.Connection(str(tmp_path / "journal.db")) as other:
        other.execute("UPDATE batch SET payload = zeroblob(length(payload)) WHERE position = 90")
    found = await journal.search_back([b"lamp-1"], lamp_1, 1000)
    assert [position for position, index, _, _ in found.items if index == 2] == [100, 80, 70, 60, 50]
    assert (found.back_to, found.whole) == (41, True)
    assert journal.damage == []
    await journal.close()


async def test_an_empty_journal_has_nothing_to_look_through(tmp_path: Path) -> None:
    journal = await EmbeddedJournal.open(tmp_path)
    found = await journal.search_back([b"lamp-1"], lamp_1, 5)
    assert (found.items, found.back_to, found.frames, found.whole) == ([], None, 0, True)
    await journal.close()
