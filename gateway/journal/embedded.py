"""The durable log of everything that arrives, in one SQLite file: an acknowledged batch is on the disk.

    append ──▶ one writer thread, one connection: encode → checksum → INSERT → WAL synced (synchronous=FULL) → position
    read   ──▶ reader threads, a connection per chunk: rows → checksum and chain → frames; damaged rows to quarantine
    release ─▶ the writer again, a small step at a time between appends

WAL with ``synchronous=FULL`` because NORMAL lost 2,590 to 3,890 committed rows per power cut and FULL none
(docs/reliability.md 0.9). The first failed write or sync is final: the object refuses everything after it, and the next
``open`` reads what is really there. Damage is never an empty answer: rows that fail their checksum are moved to table
``quarantine``, a file SQLite cannot read is rebuilt from its pages (``salvage``), and both are told in ``damage``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import apsw

from gateway import sabotage
from gateway.core.model import Frame, Micros
from gateway.errors import StorageFailed
from gateway.journal import salvage
from gateway.journal.record import COLUMNS, FIRST_HASH, SCHEMA, Batch, find_damage, link_hash, open_batch, seal

FILE_NAME = "journal.db"
MIN_SQLITE = (3, 51, 3)  # 3.7.0–3.51.2 can corrupt a WAL that is reset while a reader opens it
CHECKPOINT_PAGES = 2_000  # 8 MB: a checkpoint of this size held the writer for 12 ms here, once in 2 s at full load
WAL_LIMIT = 64 << 20  # a log grown while a reader was slow is cut back to this
CHUNK_BATCHES = 64  # what one reader connection fetches before it is closed again …
CHUNK_BYTES = 4 << 20  # … or this much, so that a follower far behind holds little in memory
RELEASE_BATCHES = 32  # one delete step: 1–3 ms between two appends …
RELEASE_BYTES = 1 << 20  # … also when the batches are large
FREE_PAGES_KEPT = 16_384  # 64 MB of free pages wait for new batches; above it and a quarter of the file …
VACUUM_PAGES = 256  # … they are given back to the file system, 1 MB a step
QUARANTINE_BYTES = 64 << 20  # damaged payloads kept for inspection; beyond it only their place and reason
CHECK_S = 4.0  # the longest the structure check may take at open (1.5 GB here); rows prove themselves anyway
POSITION_LEAP = 1_000  # no crash leaves so many damaged batches at the end
SEARCH_S = 2.0  # the longest that somebody at the console waits for what a device said last …
SEARCH_BYTES = 256 << 20  # … and the most that is read for it: an hour of a county
BUSY_MS = 5_000  # a reader that recovers the WAL index holds the others for milliseconds

_INSERT = f"INSERT INTO batch ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_QUARANTINE = """
INSERT OR REPLACE INTO quarantine
SELECT :position, :reason, frames, first_at, last_at, crc, hash,
       CASE WHEN (SELECT coalesce(sum(length(payload)), 0) FROM quarantine) < :room THEN payload END
FROM (SELECT 1) LEFT JOIN batch ON batch.position = :position
"""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")


@dataclass(slots=True)
class _Chunk:
    """A stretch of the journal up to position ``reached``. A run of lost positions is one entry, at its last one."""

    reached: int
    intact: list[tuple[int, list[Frame]]] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What ``search_back`` came upon, newest first: (position, index, frame, what ``look`` made of it). It looked
    through ``frames`` frames, back to the one received at ``back_to`` (None: there are none); ``whole``: that is the
    journal's first."""

    items: list[tuple[int, int, Frame, T]]
    back_to: Micros | None
    frames: int
    whole: bool


class EmbeddedJournal:
    """``ports.Journal`` on one file. Made by ``open``; one per folder (the folder's lock is the caller's)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="journal-reader")
        self._failure: StorageFailed | None = None
        self._closed = False
        self._hash = FIRST_HASH
        self._wal_pages = 0
        self._checkpoint: Future[None] | None = None
        self._db: Any = None
        self.last_position = 0
        """Position of the newest batch; 0 in an empty journal."""
        self.first_position = 1
        """Position of the oldest batch still here (``last_position + 1`` when there is none)."""
        self.last_received_at: Micros = 0
        """``received_at`` of the newest frame; 0 in an empty journal."""
        self.previous_shutdown_clean = True
        """False when the process before this one did not reach ``close``."""
        self.damage: list[str] = []
        """One sentence for each piece of damage found since ``open``, for people."""

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        synchronous: Literal["FULL", "EXTRA", "OFF"] = "FULL",
        verify_from: int | None = None,
    ) -> EmbeddedJournal:
        """Open or create the journal in ``folder``.

        ``verify_from``: check every batch behind this position now (the newest snapshot's position; 0 for all).
        Without it the newest batch only; every batch is checked again whenever it is read.
        Raises StorageFailed when the file can be neither read nor rebuilt, or SQLite is too old to be trusted.
        """
        journal = cls(folder)
        try:
            await journal._write(lambda: journal._open("OFF" if sabotage.SYNCHRONOUS_OFF else synchronous))
            await journal.verify(max(0, journal.last_position - 1) if verify_from is None else verify_from)
        except BaseException:
            await journal.close()
            raise
        return journal

    async def close(self) -> None:
        """Write the log into the file, mark the shutdown clean, end the threads. Harmless twice or after a failure."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self._close)
        finally:
            self._writer.shutdown(wait=False)
            self._readers.shutdown(wait=False)

    # -- ports.Journal ----------------------------------------------------------------------------------------------

    async def append(self, batch: Sequence[Frame]) -> int:
        """Make ``batch`` (at least one frame) durable; gives its position.

        Raises StorageFailed after any write or sync error, and then for every later call: nothing in ``batch`` may be
        acknowledged, although it may be found on the disk at the next start.
        """
        if not batch:
            raise ValueError("a batch holds at least one frame")
        position = await self._write(lambda: self._append(batch))
        if self._wal_pages >= CHECKPOINT_PAGES and (self._checkpoint is None or self._checkpoint.done()):
            # Behind the caller's back: the position is handed out first, the next append waits for it at most.
            self._checkpoint = self._writer.submit(self._run_checkpoint)
        return position

    async def read(self, after: int) -> AsyncIterator[tuple[int, Sequence[Frame]]]:
        """Every intact batch behind position ``after``, in order, up to the end at the time of the first step.

        Damaged batches are moved to quarantine, told in ``damage``, and passed over. Raises StorageFailed when SQLite
        itself cannot read the file: the next ``open`` rebuilds it.
        """
        loop = asyncio.get_running_loop()
        end = self.last_position
        while after < end:
            chunk = await loop.run_in_executor(self._readers, self._read_chunk, after, end)
            self.damage += [note for note in chunk.notes if note not in self.damage]
            if chunk.damaged:
                await self._quarantine(chunk.damaged)
            for position, frames in chunk.intact:
                yield position, frames
            after = chunk.reached

    async def search_back(
        self,
        marks: Sequence[bytes],
        look: Callable[[Frame], T | None],
        limit: int,
        *,
        seconds: float = SEARCH_S,
        size: int = SEARCH_BYTES,
    ) -> Found[T]:
        """The newest ``limit`` frames of which ``look`` makes something, from the end backwards; gives up after so many
        ``seconds`` or bytes. Only frames in whose address or payload one of ``marks`` stands are looked at. ``look``
        runs in a reader thread. Damaged batches are passed over; finding and telling them is ``read``'s.

        Raises StorageFailed when SQLite itself cannot read the file.
        """
        work = partial(self._search_back, tuple(marks), look, limit, time.monotonic() + seconds, size)
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def release(self, upto: int) -> None:
        """Delete batches up to ``upto``, all but the newest one (it carries the position and the chain onwards).

        Returns when they are gone; appends go in between the steps.
        """
        upto = min(upto, self.last_position - 1)
        while self.first_position <= upto:
            await self._write(lambda: self._release_step(upto))
        while await self._write(self._vacuum_step):
            pass

    # -- beyond the port --------------------------------------------------------------------------------------------

    async def advance_to(self, position: int) -> None:
        """Never give out a position up to ``position`` (the furthest follower's) again; tell when batches are lost.

        A follower that has passed positions this journal no longer has would take new batches there for old ones.
        """
        if position > self.last_position:
            await self._quarantine([(position, f"missing since batch {self.last_position + 1}")])
            self.last_position = position

    async def verify(self, after: int) -> int:
        """Check every batch behind ``after`` and its link to the one before; gives the number of intact ones."""
        intact = 0
        async for _ in self.read(after):
            intact += 1
        return intact

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, write-ahead log included."""
        total = 0
        for path in (self._path, salvage.beside(self._path, "-wal")):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    async def quarantined(self) -> list[tuple[int, str]]:
        """(position, reason) of every batch that was found damaged or missing and not yet released."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._list_quarantine)

    # -- in the writer thread ---------------------------------------------------------------------------------------

    async def _write(self, step: Callable[[], T]) -> T:
        if self._closed:
            raise StorageFailed("journal is closed")
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._guarded, step)

    def _guarded(self, step: Callable[[], T]) -> T:
        """Run one step; the first error of the disk is remembered and refuses every step after it."""
        if self._failure is not None:
            raise StorageFailed(f"journal failed before: {self._failure}", disk_full=self._failure.disk_full)
        try:
            return step()
        except StorageFailed as failure:
            self._failure = failure
            raise
        except (apsw.Error, OSError) as error:
            self._failure = _storage_failed(self._path, error)
            raise self._failure from error

    def _append(self, frames: Sequence[Frame]) -> int:
        batch = seal(self.last_position + 1, frames, self._hash)
        self._db.execute(_INSERT, batch)
        if not self._still_there():
            raise StorageFailed(f"{self._path} was removed or replaced while in use")
        self.last_position, self.last_received_at, self._hash = batch.position, batch.last_at, batch.hash
        return batch.position

    def _still_there(self) -> bool:
        """The names still lead to the files we write: an unlinked journal would take everything with it (F22)."""
        try:
            return self._identity() == self._opened
        except FileNotFoundError:
            return False

    def _identity(self) -> tuple[int, int]:
        return os.stat(self._path).st_ino, os.stat(f"{self._path}-wal").st_ino

    def _run_checkpoint(self) -> None:
        with contextlib.suppress(StorageFailed):  # remembered: the next append raises it
            self._guarded(lambda: self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE))
        self._wal_pages = 0

    def _release_step(self, upto: int) -> None:
        """Delete a few batches and move ``first_position`` behind them."""
        last, size = upto, 0
        sizes = "SELECT position, length(payload) FROM batch WHERE position <= ? ORDER BY position LIMIT ?"
        rows = self._db.execute(sizes, (upto, RELEASE_BATCHES)).fetchall()
        for row, (position, length) in enumerate(rows, 1):
            size += length
            if row == RELEASE_BATCHES or size >= RELEASE_BYTES:
                last = position
                break
        with self._db:
            self._db.execute("DELETE FROM batch WHERE position <= ?", (last,))
            self._db.execute("DELETE FROM quarantine WHERE position <= ?", (last,))
            self._db.execute("INSERT OR REPLACE INTO state VALUES ('released', ?)", (last,))
        self.first_position = last + 1

    def _vacuum_step(self) -> bool:
        free = self._db.pragma("freelist_count")
        if free <= max(FREE_PAGES_KEPT, self._db.pragma("page_count") // 4):
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return True

    async def _quarantine(self, damaged: list[tuple[int, str]]) -> None:
        """Move rows out of the stream and tell once."""
        self.damage += [_told(position, reason) for position, reason in damaged]
        with contextlib.suppress(StorageFailed):  # a disk that refuses writes may still be read
            await self._write(lambda: self._quarantine_rows(damaged))

    def _quarantine_rows(self, damaged: list[tuple[int, str]]) -> None:
        with self._db:
            for position, reason in damaged:
                self._db.execute(_QUARANTINE, {"position": position, "reason": reason, "room": QUARANTINE_BYTES})
                self._db.execute("DELETE FROM batch WHERE position = ?", (position,))

    # -- open and close, in the writer thread too -------------------------------------------------------------------

    def _open(self, synchronous: str) -> None:
        version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if version < MIN_SQLITE:
            wanted = ".".join(map(str, MIN_SQLITE))
            raise StorageFailed(f"SQLite {apsw.sqlite_lib_version()} can corrupt its log; {wanted} or newer is needed")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        salvage.finish_swap(self._path)
        reason = salvage.find_lost_file(self._path)
        if reason is None:
            try:
                self._connect(synchronous)
                reason = self._find_broken_log() or self._find_structural_damage()
            except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
                reason = str(error)
        if reason is not None:
            if self._db is not None:
                self._db.close(True)
            self.damage.append(salvage.rebuild(self._path, reason, datetime.now(UTC)))
            self._connect(synchronous)
        self._load()

    def _connect(self, synchronous: str) -> None:
        db = self._db = apsw.Connection(str(self._path))
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.set_busy_timeout(BUSY_MS)
        if not db.execute("SELECT count(*) FROM sqlite_schema").get:
            db.execute(SCHEMA)
        if db.execute("PRAGMA journal_mode = WAL").get != "wal":
            raise StorageFailed(f"{self._path}: this file system cannot hold a write-ahead log")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        db.execute("PRAGMA cell_size_check = ON")
        db.wal_autocheckpoint(0)
        db.set_wal_hook(self._wal_grew)
        salvage.sync_folder(self._path.parent)

    def _find_broken_log(self) -> str | None:
        """SQLite ends the log silently at the first frame whose checksum fails; commits behind it were durable once."""
        valid, _ = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        written = salvage.committed_frames(self._path)
        return None if written <= valid else f"the write-ahead log is damaged at frame {valid} of {written}"

    def _wal_grew(self, _db: Any, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return 0

    def _find_structural_damage(self) -> str | None:
        """What SQLite finds wrong with the file's structure within ``CHECK_S``, or None."""
        end = time.monotonic() + CHECK_S
        self._db.set_progress_handler(lambda: time.monotonic() > end, 10_000)
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA quick_check(3)")]
        except apsw.InterruptError:
            return None
        finally:
            self._db.set_progress_handler(None)
        return None if found == ["ok"] else "; ".join(found)

    def _load(self) -> None:
        state: dict[str, int] = dict(self._db.execute("SELECT name, value FROM state"))
        self.previous_shutdown_clean = bool(state.get("clean", 1))
        self.first_position = state.get("released", 0) + 1
        newest = self._newest_intact()
        if newest is not None:
            self.last_position, self.last_received_at, self._hash = newest.position, newest.last_at, newest.hash
        quarantined = self._db.execute("SELECT max(position) FROM quarantine").get or 0
        self.last_position = max(self.last_position, quarantined, self.first_position - 1)
        self._db.execute("INSERT OR REPLACE INTO state VALUES ('clean', 0)")
        self._opened = self._identity()

    def _newest_intact(self) -> Batch | None:
        """The batch that new ones follow. Damaged ones behind it go to quarantine, where their positions stay used."""
        newest, damaged = None, []
        for row in self._db.execute(f"SELECT {COLUMNS} FROM batch ORDER BY position DESC"):
            reason = find_damage(Batch(*row))
            if reason is None:
                newest = Batch(*row)
                break
            damaged.append((row[0], reason))
        for position, reason in reversed(damaged):
            believed = position
            if position - (newest.position if newest else 0) > POSITION_LEAP:
                # The damage is in the position itself: taken as it is, it would carry all later ones away.
                believed = (newest.position if newest else 0) + 1
                reason += f" (it claimed to be batch {position})"
                self._db.execute("UPDATE OR REPLACE batch SET position = ? WHERE position = ?", (believed, position))
            self._quarantine_rows([(believed, reason)])
            self.damage.append(_told(believed, reason))
        return newest

    def _close(self) -> None:
        if self._db is None:
            return
        with contextlib.suppress(StorageFailed):
            self._guarded(self._close_cleanly)
        self._db.close(True)

    def _close_cleanly(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO state VALUES ('clean', 1)")
        self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    # -- in a reader thread -----------------------------------------------------------------------------------------

    def _read_chunk(self, after: int, end: int) -> _Chunk:
        """The next stretch of the journal behind ``after``, at most to ``end``."""
        rows: list[Batch] = []
        size = 0
        try:
            with self._reader() as db:
                # The batch at ``after`` comes along for its hash.
                query = f"SELECT {COLUMNS} FROM batch WHERE position BETWEEN ? AND ? ORDER BY position"
                for row in db.execute(query, (after, end)):
                    rows.append(Batch(*row))
                    size += len(row[-1]) if isinstance(row[-1], bytes) else 0
                    if len(rows) > 1 and (len(rows) > CHUNK_BATCHES or size >= CHUNK_BYTES):
                        break
                reached = rows[-1].position if len(rows) > 1 and rows[-1].position < end else end
                known = db.execute("SELECT position FROM quarantine WHERE position BETWEEN ? AND ?", (after, reached))
                start = max(after + 1, self.first_position)
                return _examine(rows, {row[0] for row in known}, start, reached)
        except apsw.Error as error:
            raise _storage_failed(self._path, error) from error

    def _search_back(
        self, marks: tuple[bytes, ...], look: Callable[[Frame], T | None], limit: int, until: float, size: int
    ) -> Found[T]:
        items: list[tuple[int, int, Frame, T]] = []
        before, frames, back_to = self.last_position + 1, 0, None
        try:
            while size > 0 and time.monotonic() < until:
                rows = self._chunk_before(before)
                if not rows:
                    return Found(items, back_to, frames, True)
                for batch in rows:
                    before, frames = batch.position, frames + batch.frames
                    back_to = batch.first_at
                    size -= len(batch.payload)
                    for index, frame in _marked(batch, marks):
                        made = look(frame)
                        if made is not None:
                            items.append((batch.position, index, frame, made))
                            if len(items) >= limit:
                                return Found(items, frame.received_at, frames, False)
        except apsw.Error as error:
            raise _storage_failed(self._path, error) from error
        return Found(items, back_to, frames, False)

    def _chunk_before(self, position: int) -> list[Batch]:
        """Intact batches before ``position``, newest first; [] when there are none."""
        query = f"SELECT {COLUMNS} FROM batch WHERE position < ? ORDER BY position DESC"
        while True:
            rows: list[Batch] = []
            size = seen = 0
            with self._reader() as db:
                for row in db.execute(query, (position,)):
                    position, seen = row[0], seen + 1
                    batch = Batch(*row)
                    if find_damage(batch) is None:
                        rows.append(batch)
                        size += len(batch.payload)
                    if seen >= CHUNK_BATCHES or size >= CHUNK_BYTES:
                        break
            if rows or not seen:
                return rows

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Any]:
        db = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.set_busy_timeout(BUSY_MS)
            yield db
        finally:
            db.close(True)

    def _list_quarantine(self) -> list[tuple[int, str]]:
        with self._reader() as db:
            return list(db.execute("SELECT position, reason FROM quarantine ORDER BY position"))


def _examine(rows: Sequence[Batch], known: set[int], start: int, reached: int) -> _Chunk:
    """Sort ``rows`` (in order; one before ``start`` only lends its hash) into intact ones and damage.

    Every position from ``start`` to ``reached`` must be a row, or ``known`` to be in quarantine.
    """
    chunk = _Chunk(reached)
    by_position = {row.position: row for row in rows}
    previous: Batch | None = by_position.get(start - 1)
    if previous is not None and find_damage(previous) is not None:
        previous = None
    expected = start
    for position in sorted({*by_position, *known, reached + 1}):
        if position < start:
            continue
        if position > expected and position not in known:
            chunk.damaged.append((position - 1, f"missing since batch {expected}"))
        expected = position + 1
        row = by_position.get(position)
        if row is None:
            continue
        try:
            chunk.intact.append((position, open_batch(row)))
        except ValueError as error:
            chunk.damaged.append((position, str(error)))
            continue
        linked = previous is None or previous.position != position - 1
        if not linked and previous is not None and link_hash(position, row.payload, previous.hash) != row.hash:
            # Both are as somebody wrote them, so this is no fault of the disk, and neither can be told from the other.
            chunk.notes.append(_told(position, "does not follow the batch before it: one of the two was rewritten"))
        previous = row
    return chunk


def _marked(batch: Batch, marks: tuple[bytes, ...]) -> Iterator[tuple[int, Frame]]:
    """(index, frame) of the frames with one of ``marks`` in them, newest first. A batch without any is not unpacked."""
    if not any(mark in batch.payload for mark in marks):
        return
    try:
        frames = open_batch(batch)
    except ValueError:
        return
    for index in range(len(frames) - 1, -1, -1):
        frame = frames[index]
        address = frame.address.encode()
        if any(mark in address or mark in frame.payload for mark in marks):
            yield index, frame


def _told(position: int, reason: str) -> str:
    return f"journal batch {position}: {reason}"


def _storage_failed(path: Path, error: Exception) -> StorageFailed:
    full = isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in _NO_ROOM)
    return StorageFailed(f"{path}: {type(error).__name__}: {error}", disk_full=full)


def sync_probe(folder: Path, *, rounds: int = 50, limit_s: float = 1.0) -> float:
    """Median µs of writing 4 kB and ``fdatasync`` in ``folder``. Blocks for ``limit_s`` at most.

    Below 20 µs no disk was asked: the sync is a lie and a power cut loses what was acknowledged (F14).
    """
    times: list[float] = []
    end = time.monotonic() + limit_s
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        while len(times) < rounds and (not times or time.monotonic() < end):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), len(times) * 4096)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(times)
