"""Keeps every reading: appended behind the journal, asked for while it is being written, as small as it can be.

    append ──▶ writer thread: hot table of DuckDB, with the journal position, in one synced transaction
    compact ─▶ compactor thread: hot tables → Parquet files a day, merged, rolled up; old ones deleted (``compaction``)
    readings, after ─▶ reader threads (``queries``)

The historian is a follower: an alarm never waits for it, and after a crash it goes on from ``position`` out of the
journal. Readings of a position it has already are passed over, so appending twice stores once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, overload

import duckdb
import numpy as np

from gateway import sabotage
from gateway.core.model import HOUR, Micros, Quality, Reading
from gateway.errors import StorageFailed, Unavailable
from gateway.historian import catalog, queries
from gateway.historian.columns import (
    HISTORICAL,
    NO_SEQUENCE,
    UNTIMED,
    Columns,
    SeriesKey,
    clean,
    encode,
    series_key,
    to_quality,
    to_value,
)
from gateway.historian.compaction import Compactor, Retention
from gateway.historian.queries import Sample, Step

SEAL_ROWS = 1_000_000  # a query for one series scans the hot table: 3 ms a million rows here
SEAL_AGE: Micros = HOUR  # a small site's readings reach a file, and so a second copy of the structure, within the hour
QUERY_S = 10.0  # the longest a question may take before it is interrupted
READERS = 2
MAX_LIMIT = 1_000_000
AHEAD_ROWS = 20_000  # a sink far behind scans a file of 8 million rows once for so many, not once a batch
AHEAD_KEPT = 4  # sinks that may be behind at the same time
MEMORY_RETRIES = 5  # a question may hold the memory for an instant; the append waits for it

T = TypeVar("T")
_Row = tuple[Any, ...]


class Historian:
    """Made by ``open``; one per folder (the folder's lock is the caller's)."""

    def __init__(self, folder: Path, retention: Retention) -> None:
        self._folder = folder
        self._retention = retention
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="historian-writer")
        self._compactor_thread = ThreadPoolExecutor(1, thread_name_prefix="historian-compactor")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="historian-reader")
        self._cursors: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._busy: set[Any] = set()
        self._failure: StorageFailed | None = None
        self._closed = False
        self._db: Any = None
        self._compactor: Compactor | None = None
        self._hot = 1
        self._hot_rows = 0
        self._hot_since: Micros | None = None
        self._numbers: dict[SeriesKey, int] = {}
        self._keys: list[SeriesKey] = []
        self._ahead: OrderedDict[int, tuple[int, list[_Row]]] = OrderedDict()
        self.position = 0
        """The last journal position whose readings are durable here."""
        self._damage: list[str] = []

    @classmethod
    async def open(cls, folder: Path, *, retention: Retention | None = None) -> Historian:
        """Open or create the historian in ``folder``. Raises StorageFailed when it cannot be opened.

        A database that cannot be read is set aside and made anew from the Parquet files; ``position`` is then that of
        the newest of them, and the journal gives the rest.
        """
        historian = cls(folder, retention or Retention())
        try:
            await historian._run(historian._writer, historian._open)
        except BaseException:
            await historian.close()
            raise
        return historian

    async def close(self) -> None:
        """Write the log into the file and end the threads. Harmless twice or after a failure."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        self._compactor_thread.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)
        try:
            await loop.run_in_executor(self._writer, self._close)
        finally:
            self._writer.shutdown(wait=False)

    @property
    def damage(self) -> list[str]:
        """One sentence for each piece of damage found since ``open``, for people."""
        return self._damage + (self._compactor.damage if self._compactor else [])

    # -- writing ----------------------------------------------------------------------------------------------------

    async def append(self, items: Sequence[tuple[int, Sequence[Reading]]]) -> None:
        """Store the readings of journal positions (rising; a position has all its readings in one item), durable when
        it returns. Positions up to ``position`` are passed over.

        Raises StorageFailed after any error of the disk, and then for every later call.
        """
        await self._run(self._writer, self._append, items)

    async def compact(self, now: Micros) -> None:
        """Do what is due: seal, merge, roll up, sweep. Call it about once a minute; appends and questions go on.

        Raises Unavailable when it could not be done now (no room, no memory): nothing is lost, call it again later.
        """
        await self._run(self._writer, self._seal_if_old, now)
        await self._tidy(self._compact, now)

    async def retain(self, now: Micros) -> list[str]:
        """Give up what the retention does not keep; gives the names of the files. Call it about once an hour."""
        return await self._tidy(self._retain, now)

    # -- reading ----------------------------------------------------------------------------------------------------

    @overload
    async def readings(
        self, asset: str, point: str, start: Micros, end: Micros, *, limit: int = ..., quality: Quality | None = ...
    ) -> list[Sample]: ...

    @overload
    async def readings(
        self, asset: str, point: str, start: Micros, end: Micros, step: Micros, *, limit: int = ...
    ) -> list[Step]: ...

    async def readings(
        self,
        asset: str,
        point: str,
        start: Micros,
        end: Micros,
        step: Micros | None = None,
        *,
        limit: int = 10_000,
        quality: Quality | None = None,
    ) -> list[Sample] | list[Step]:
        """One point of one asset from ``start`` to before ``end`` by source time, the first ``limit``.

        Without ``step``: as they were given, of ``quality`` if one is asked for. With ``step`` (µs): count, min, mean,
        max and last of each step, of readings that are not bad, and how many were; the range is widened to whole steps.
        Raises Unavailable when the answer takes longer than ``QUERY_S`` or more memory than there is.
        """
        limit = max(1, min(limit, MAX_LIMIT))
        if start >= end:
            return []
        series = await self._ask(queries.series_of, clean(asset), clean(point))
        if not series:
            return []
        if step is None:
            return await self._ask(queries.samples, series, start, end, limit, quality)
        if step <= 0:
            raise ValueError("a step is longer than nothing")
        return await self._ask(queries.steps, series, start, end, step, limit)

    async def resolution(self, start: Micros, end: Micros) -> Micros:
        """The finest step in which all that is kept of that time can be told; 0: the readings themselves are there."""
        return await self._ask(queries.resolution, start, end)

    async def after(self, cursor: int, limit: int) -> tuple[int, list[Reading]]:
        """Up to ``limit`` readings behind ``cursor`` (0: from the beginning) in the order they arrived.

        Gives the cursor to go on from: an opaque number that stays valid for as long as the readings are kept, also
        across compaction. No readings and the same cursor: there are no more yet.
        """
        ahead = self._ahead.pop(cursor, None)
        end, rows = ahead if ahead is not None else (cursor, [])
        while not rows:
            before = end
            end, rows = await self._ask(queries.arrived, before, max(limit, AHEAD_ROWS))
            if end == before:
                return before, []
        batch = rows[:limit]
        if len(batch) < len(rows):
            self._ahead[batch[-1][8]] = (end, rows[limit:])
            while len(self._ahead) > AHEAD_KEPT:
                self._ahead.popitem(last=False)
            end = batch[-1][8]
        return end, [self._to_reading(row) for row in batch]

    async def stats(self) -> dict[str, int | None]:
        """Figures for health and metrics: rows, files, bytes and the span of days."""
        return await self._ask(self._stats)

    # -- in the writer thread ---------------------------------------------------------------------------------------

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
        if self._closed:
            raise StorageFailed("historian is closed")
        return await asyncio.get_running_loop().run_in_executor(thread, self._guarded, work, *arguments)

    def _guarded(self, work: Callable[..., T], *arguments: Any) -> T:
        """The first error of the disk is remembered and refuses every write after it."""
        if self._failure is not None:
            raise StorageFailed(f"historian failed before: {self._failure}", disk_full=self._failure.disk_full)
        try:
            return work(*arguments)
        except StorageFailed as failure:
            self._failure = failure
            raise
        except (duckdb.Error, OSError) as error:
            self._failure = catalog.storage_failed(error)
            raise self._failure from error

    def _append(self, items: Sequence[tuple[int, Sequence[Reading]]]) -> None:
        items = [item for item in items if item[0] > self.position]
        if not items:
            return
        numbers, new = self._number(items)
        columns = encode(items, numbers) if len(numbers) else None
        position = items[-1][0]
        if sabotage.CURSOR_BEFORE_READINGS:
            self._db.execute("UPDATE progress SET position = ?", [position])
        for attempt in range(MEMORY_RETRIES):
            try:
                self._insert(columns, new, position)
                break
            except duckdb.OutOfMemoryException:
                if attempt == MEMORY_RETRIES - 1:
                    raise
                time.sleep(0.2)
        self.position = position
        if columns is not None:
            self._hot_rows += len(numbers)
            if self._hot_since is None:
                self._hot_since = int(columns["received"][0])
            if self._hot_rows >= SEAL_ROWS:
                self._seal()

    def _number(
        self, items: Sequence[tuple[int, Sequence[Reading]]]
    ) -> tuple[np.ndarray[Any, np.dtype[np.int32]], list[SeriesKey]]:
        """The series number of every reading, and the series seen for the first time, numbered on from the others."""
        readings = chain.from_iterable(batch for _, batch in items)
        keys = list(map(series_key, readings))
        try:
            return np.fromiter(map(self._numbers.__getitem__, keys), np.int32, len(keys)), []
        except KeyError:
            known = len(self._keys)
            for key in keys:
                if key not in self._numbers:
                    self._learn(key)
            return np.fromiter(map(self._numbers.__getitem__, keys), np.int32, len(keys)), self._keys[known:]

    def _learn(self, key: SeriesKey) -> None:
        self._numbers[key] = len(self._keys)
        asset, point, device = map(clean, key)
        # The same tuple wherever it can be: a city has 400,000 of them.
        self._keys.append(key if key == (asset, point, device) else (asset, point, device))

    def _insert(self, columns: Columns | None, new: Sequence[SeriesKey], position: int) -> None:
        """Rows, new series and the position in one transaction."""
        db = self._db
        db.execute("BEGIN")
        try:
            if new:
                # As columns: one by one, 40,000 series of a city's first minute took 12 s.
                first = len(self._keys) - len(new)
                names = (np.array(column, dtype=object) for column in zip(*new, strict=True))
                numbers = np.arange(first, len(self._keys), dtype=np.int32)
                columns_of_new = ("series", "asset", "point", "device")
                db.register("unknown", dict(zip(columns_of_new, (numbers, *names), strict=True)))
                db.execute("INSERT INTO series SELECT series, asset, point, device FROM unknown")
                db.unregister("unknown")
            if columns is not None:
                db.register("arriving", columns)
                text = "text" if "text" in columns else "NULL"
                reason = "reason" if "reason" in columns else "NULL"
                sequence = f"nullif(sequence, {NO_SEQUENCE})" if "sequence" in columns else "NULL"
                db.execute(
                    f"INSERT INTO hot_{self._hot} SELECT series, time, received, value, {text}, flags, {reason}, "
                    f"{sequence}, cursor FROM arriving"
                )
                db.unregister("arriving")
            db.execute("UPDATE progress SET position = ?", [position])
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                db.execute("ROLLBACK")
            raise

    def _seal(self) -> None:
        """Begin a new hot table; the compactor takes the old one."""
        self._db.execute("BEGIN")
        catalog.new_hot_table(self._db, self._hot + 1)
        self._db.execute("COMMIT")
        self._hot += 1
        self._hot_rows, self._hot_since = 0, None

    def _seal_if_old(self, now: Micros) -> None:
        if self._hot_since is not None and now - self._hot_since >= SEAL_AGE:
            self._seal()

    # -- open and close, in the writer thread too -------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._db = catalog.connect(self._folder)
        except duckdb.Error as error:
            if not _is_damage(error):
                raise
            self._db = self._rebuild(error)
        catalog.remove_strangers(self._db, self._folder)
        self.position = self._db.execute("SELECT position FROM progress").fetchone()[0]
        for number, *key in self._db.execute("SELECT * FROM series ORDER BY series").fetchall():
            if number != len(self._keys):
                raise StorageFailed(f"historian: series {len(self._keys)} is missing from {catalog.FILE_NAME}")
            self._learn((key[0], key[1], key[2]))
        self._hot = catalog.hot_numbers(self._db)[-1]
        self._hot_rows, self._hot_since = self._db.execute(
            f"SELECT count(*), min(received) FROM hot_{self._hot}"
        ).fetchone()
        self._compactor = Compactor(self._db.cursor(), self._folder)
        for _ in range(READERS):
            self._cursors.put(self._db.cursor())

    def _rebuild(self, error: Exception) -> Any:
        """Set a damaged database aside and make a new one that knows the Parquet files."""
        stamp = f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        for suffix in ("", ".wal"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._folder / f"{catalog.FILE_NAME}{suffix}", self._folder / f"history.{stamp}{suffix}")
        db = catalog.connect(self._folder)
        kept = catalog.adopt(db, self._folder)
        reason = str(error).splitlines()[0]
        self._damage.append(
            f"{catalog.FILE_NAME} was rebuilt from {kept} files ({reason}); the old one is history.{stamp}"
        )
        return db

    def _close(self) -> None:
        if self._db is not None:
            while self._busy:  # an interrupt between two statements is lost, so again until it is heard
                for cursor in tuple(self._busy):
                    cursor.interrupt()
                time.sleep(0.01)
            with contextlib.suppress(duckdb.Error):
                self._db.close()

    # -- in the compactor thread ------------------------------------------------------------------------------------

    async def _tidy(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run in the compactor thread. Its failures are not the writer's: the hot tables hold everything meanwhile."""
        if self._closed:
            raise StorageFailed("historian is closed")

        def translated() -> T:
            try:
                return work(*arguments)
            except (duckdb.Error, OSError) as error:
                raise Unavailable(f"compaction has to wait: {catalog.storage_failed(error)}") from error

        return await asyncio.get_running_loop().run_in_executor(self._compactor_thread, translated)

    def _compact(self, now: Micros) -> None:
        compactor = self._compactor
        assert compactor is not None
        self._busy.add(compactor.db)
        try:
            for number in compactor.sealed():
                compactor.export(number, now)
            while compactor.merge_one(now):
                pass
            while compactor.roll_up_one(now):
                pass
            compactor.sweep(now)
            compactor.check_one()
        finally:
            self._busy.discard(compactor.db)

    def _retain(self, now: Micros) -> list[str]:
        assert self._compactor is not None
        gone = self._compactor.retain(self._retention, now)
        return [str(file.path(self._folder).relative_to(self._folder)) for file in gone]

    # -- in a reader thread -----------------------------------------------------------------------------------------

    async def _ask(self, question: Callable[..., T], *arguments: Any) -> T:
        """Answer, if need be without the files that turn out to be damaged."""
        if self._closed:
            raise Unavailable("historian is closed")
        assert self._compactor is not None
        try:
            return await self._answer(question, *arguments)
        except Unavailable as error:
            if isinstance(error.__cause__, duckdb.InterruptException | duckdb.OutOfMemoryException):
                raise
            named = str(error.__cause__)
            if not await self._tidy(self._compactor.set_aside_named, named):
                raise
        return await self._answer(question, *arguments)

    async def _answer(self, question: Callable[..., T], *arguments: Any) -> T:
        """Answer in a reader thread, on a free cursor; interrupted when it takes too long or nobody waits any more."""
        running: list[Any] = []

        def answer() -> T:
            cursor = self._cursors.get()
            running.append(cursor)
            self._busy.add(cursor)
            try:
                return question(cursor, self._folder, *arguments)
            except duckdb.InterruptException as error:
                raise Unavailable(f"the question took longer than {QUERY_S:g} s; ask for less") from error
            except duckdb.OutOfMemoryException as error:
                raise Unavailable("the question takes more memory than there is; ask for less") from error
            except duckdb.Error as error:
                raise Unavailable(f"historian cannot answer: {str(error).splitlines()[0]}") from error
            finally:
                running.clear()
                self._busy.discard(cursor)
                self._cursors.put(cursor)

        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._readers, answer)
        timer = loop.call_later(QUERY_S, lambda: [cursor.interrupt() for cursor in running])
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            for cursor in running:
                cursor.interrupt()
            raise
        finally:
            timer.cancel()

    def _to_reading(self, row: _Row) -> Reading:
        number, source_time, received_at, value, text, flags, reason, sequence, _ = row
        asset, point, device = self._keys[number]
        return Reading(
            asset,
            point,
            to_value(flags, value, text),
            to_quality(flags),
            source_time,
            received_at,
            device,
            reason,
            bool(flags & HISTORICAL),
            sequence,
            not flags & UNTIMED,
        )

    def _stats(self, db: Any, folder: Path) -> dict[str, int | None]:
        kinds = "SELECT kind, count(*), sum(rows), sum(bytes), min(day), max(day) FROM files WHERE obsolete_at IS NULL"
        figures: dict[str, int | None] = {"position": self.position, "series": len(self._keys)}
        figures["hot_rows"] = sum(
            db.execute(f"SELECT count(*) FROM hot_{number}").fetchone()[0] for number in catalog.hot_numbers(db)
        )
        for kind, count, rows, size, first, last in db.execute(f"{kinds} GROUP BY kind ORDER BY kind").fetchall():
            figures |= {f"{kind}_files": count, f"{kind}_rows": int(rows), f"{kind}_bytes": int(size)}
            if kind == "raw":
                figures |= {"first_day": first * catalog.DAY, "last_day": last * catalog.DAY}
        size = 0
        for name in (catalog.FILE_NAME, f"{catalog.FILE_NAME}.wal"):
            with contextlib.suppress(FileNotFoundError):
                size += (folder / name).stat().st_size
        figures["database_bytes"] = size
        return figures


def _is_damage(error: Exception) -> bool:
    """Whether an error at open says that the file is broken, not that it is locked, forbidden or has no room."""
    if isinstance(error, duckdb.PermissionException | duckdb.OutOfMemoryException):
        return False
    text = str(error).lower()
    return not any(
        word in text for word in ("lock", "permission", "no space", "read-only file system", "too many open")
    )
