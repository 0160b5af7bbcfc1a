"""Damaged journals: every batch that is whole is kept, the others are named, and no wrong frame is ever read."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.journal import embedded, salvage
from gateway.journal.embedded import EmbeddedJournal
from tests.journal.appender import batch
from tests.journal.test_embedded import as_written, everything, filled

COUNT = 120
FLIPS = 50


@pytest.fixture
async def crashed(tmp_path: Path) -> Path:
    """A journal as a kill leaves it: half of it in the file, half in the log, some of it released."""
    live = tmp_path / "live"
    journal = await EmbeddedJournal.open(live)
    for position in range(1, COUNT + 1):
        await journal.append(batch(position))
        if position == COUNT // 2:
            await journal.release(10)
            await journal._write(lambda: journal._db.wal_checkpoint())
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        shutil.copy(live / name, copy / name)
    await journal.close()
    return copy


def beside(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def recovered(folder: Path) -> EmbeddedJournal:
    """Opened, verified; whatever it reads is what was written."""
    journal = await EmbeddedJournal.open(folder, verify_from=0)
    frames = await everything(journal)
    assert frames == as_written(frames)
    return journal


@pytest.mark.faults
async def test_a_flipped_bit_is_found_or_harmless_wherever_it_is(crashed: Path, tmp_path: Path) -> None:
    draw = random.Random(21)
    sizes = {name: (crashed / name).stat().st_size for name in ("journal.db", "journal.db-wal")}
    told = 0
    for number in range(FLIPS):
        folder = tmp_path / f"flip-{number}"
        shutil.copytree(crashed, folder)
        name = draw.choice(sorted(sizes))
        place, bit = draw.randrange(sizes[name]), draw.randrange(8)
        with (folder / name).open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << bit]))
        journal = await recovered(folder)
        kept = set(await everything(journal))
        lost = set(range(11, COUNT + 1)) - kept
        assert len(lost) <= 1, (name, place, journal.damage)
        if lost:
            assert journal.damage, (name, place)
        told += bool(journal.damage)
        assert await journal.append(batch(journal.last_position + 1)) > COUNT - 1
        await journal.close()
        shutil.rmtree(folder)
    assert told > FLIPS // 3


@pytest.mark.faults
@pytest.mark.parametrize("cut", [1, 100, 4095, 4096])
async def test_a_torn_tail_costs_the_torn_batch_only(crashed: Path, cut: int) -> None:
    log = crashed / "journal.db-wal"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - cut)
    journal = await recovered(crashed)
    assert set(await everything(journal)) == set(range(11, COUNT))
    await journal.advance_to(COUNT)  # a follower knew better
    assert journal.damage == [f"journal batch {COUNT}: missing since batch {COUNT}"]
    assert await journal.append(batch(COUNT + 1)) == COUNT + 1
    await journal.close()


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
async def test_a_file_cut_in_half_gives_up_what_is_left(crashed: Path, name: str) -> None:
    path = crashed / name
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    journal = await recovered(crashed)
    kept = set(await everything(journal))
    assert len(kept) > COUNT // 4
    if name == "journal.db":
        assert journal.damage[0].startswith("journal.db was rebuilt")
        assert beside(crashed, "journal.db.damaged-*")
    await journal.close()


async def test_a_removed_file_leaves_what_is_in_its_log(crashed: Path) -> None:
    (crashed / "journal.db").unlink()
    journal = await recovered(crashed)
    assert set(await everything(journal)) >= set(range(COUNT // 2 + 1, COUNT + 1))
    assert "gone" in journal.damage[0]
    await journal.close()


async def test_the_wreck_of_the_header_costs_nothing(crashed: Path) -> None:
    with (crashed / "journal.db").open("r+b") as file:
        file.write(random.Random(1).randbytes(4096))
    journal = await recovered(crashed)
    assert set(await everything(journal)) >= set(range(11, COUNT + 1))
    await journal.close()
    journal = await EmbeddedJournal.open(crashed, verify_from=0)
    assert journal.damage == []
    await journal.close()


@pytest.mark.parametrize("step", ["sync_folder", "finish_swap"])
async def test_a_rebuild_killed_before_its_swap_is_finished_by_the_next_start(
    crashed: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with (crashed / "journal.db").open("r+b") as file:
        file.write(bytes(4096))

    def die(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(salvage, step, die)
        with pytest.raises(KeyboardInterrupt):
            salvage.rebuild(crashed / "journal.db", "test", datetime.now(UTC))
    journal = await recovered(crashed)
    assert set(await everything(journal)) >= set(range(11, COUNT + 1))
    assert not beside(crashed, "journal.db.rebuil*")
    await journal.close()


async def test_damaged_payloads_are_kept_for_inspection(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 5)
    await journal._write(lambda: journal._db.execute("UPDATE batch SET first_at = first_at + 1 WHERE position = 3"))
    assert set(await everything(journal)) == {1, 2, 4, 5}
    assert journal.damage == ["journal batch 3: checksum does not match"]
    assert await journal.quarantined() == [(3, "checksum does not match")]
    kept = await journal._write(lambda: journal._db.execute("SELECT payload FROM quarantine").get)
    assert kept == embedded.seal(3, batch(3), bytes(16)).payload
    await journal.close()
