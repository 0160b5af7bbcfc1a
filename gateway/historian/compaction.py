"""Hot tables become Parquet files, small files become large ones, closed days get rollups, old days go.

    hot_3 ──seal──▶ raw-41 (2025-07-20), raw-42 (2025-07-19: late readings)
    raw-34 … raw-41 ──merge──▶ raw-43                    8 files, or what a closed day has; at most 8 million rows
    the raw files of a closed day ──roll up──▶ 1m-44, 1h-45

Every step writes its files first, synced; one transaction then names them and forgets what they replace. Killed in
between, the next start deletes the strangers and does the step again. Replaced files stay for ``GRACE`` because a query
may be reading them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from gateway.core.model import HOUR, SECOND, Micros
from gateway.historian import catalog
from gateway.historian.catalog import DAY, FILE_COLUMNS, READ_COLUMNS, STEPS, Kind, PartFile, parquet
from gateway.historian.columns import BAD_BITS, QUALITY_MASK, UNTIMED

MERGE_FILES = 8  # a day at 20,000 readings/s makes 1,728 files of a million rows; merged by eight, 216
MERGE_ROWS = 8_000_000  # written and merged in 25 s with 80 MB here; a sink behind scans one such file at a time
ROLLUP_ROWS = 4_000_000  # rows of one pass of a rollup
DAY_CLOSES: Micros = HOUR  # after midnight, when almost everything late has come
LATE_FILES_WAIT: Micros = HOUR  # a new file of a closed day waits this long for company
GRACE: Micros = 60 * SECOND  # six times the longest query
CONFLICTS = 5  # the writer's small transactions and ours rarely meet twice

_ROWS: dict[Kind, str] = {"raw": "readings", "1m": "minute values", "1h": "hour values"}
_PARQUET = "FORMAT parquet, CODEC zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE {group}"
# A query for one series decodes one row group a file; half as large costs 0.3 bytes a reading more.
ROW_GROUP = 32_768

# The first reading by arrival is kept; one without the device's time is nobody's duplicate.
DISTINCT = f"""
QUALIFY row_number() OVER (
    PARTITION BY series, time, sequence, CASE WHEN flags & {UNTIMED} != 0 THEN cursor END ORDER BY cursor) = 1
"""


def believed(source: str) -> str:
    """SQL for the readings of the select ``source``, without what the bad ones say."""
    good = f"(flags & {QUALITY_MASK}) != {BAD_BITS}"
    said = f"CASE WHEN {good} THEN value END AS value, CASE WHEN {good} THEN text END AS text"
    return f"SELECT series, time, cursor, {said} FROM ({source} {DISTINCT})"


# The columns of a rollup, from ``believed`` readings; ``step`` is the begin of its minute or hour. ``count``: what
# says something; ``bad``: the rest.
AGGREGATES = """
    count(*) FILTER (value IS NOT NULL OR text IS NOT NULL) AS count,
    count(*) FILTER (value IS NULL AND text IS NULL) AS bad,
    count(value) AS numbers, min(value) AS min, max(value) AS max, sum(value) AS sum,
    last(value ORDER BY time, cursor) FILTER (value IS NOT NULL) AS last,
    max(time) FILTER (value IS NOT NULL) AS last_time,
    last(text ORDER BY time, cursor) FILTER (text IS NOT NULL) AS last_text,
    max(time) FILTER (text IS NOT NULL) AS last_text_time
"""


def floor_to(step: Micros) -> str:
    """SQL for the last multiple of ``step`` not after ``time``, for times before 1970 too."""
    return f"(time - ((time % {step}) + {step}) % {step})"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long readings, minute values and hour values stay, by source time; and how large all may grow.

    The oldest day goes first: its readings, then its minutes, then its hours; the newest two days never for size.
    """

    raw: Micros = 90 * DAY
    minutes: Micros = 2 * 365 * DAY
    hours: Micros = 10 * 365 * DAY
    max_bytes: int | None = None

    def of(self, kind: Kind) -> Micros:
        return {"raw": self.raw, "1m": self.minutes, "1h": self.hours}[kind]


class Compactor:
    """Works on its own cursor of the database, in one thread."""

    def __init__(self, db: Any, folder: Path) -> None:
        self.db = db
        self._folder = folder
        self._checked = 0
        self.damage: list[str] = []
        """One sentence for each file found damaged, for people."""

    def sealed(self) -> list[int]:
        """Hot tables that are written no more."""
        return catalog.hot_numbers(self.db)[:-1]

    def export(self, number: int, now: Micros) -> None:
        """Write the sealed table ``hot_<number>`` to files, a day each, and drop it."""
        table = f"hot_{number}"
        day = f"{floor_to(DAY)} // {DAY}"
        days = self.db.execute(f"SELECT {day}, count(*) FROM {table} GROUP BY 1 ORDER BY 1").fetchall()
        made: list[PartFile] = []
        for day_number, _ in days:
            start = day_number * DAY
            source = f"SELECT {FILE_COLUMNS} FROM {table} WHERE time >= {start} AND time < {start + DAY}"
            made += self._write("raw", day_number, f"{source} {DISTINCT} ORDER BY series, time, cursor", now, len(made))
        self._write_series()

        def commit() -> None:
            self._register(made)
            for file in made:
                self.db.execute(
                    "INSERT INTO days VALUES (?, ?, 0) ON CONFLICT DO UPDATE SET changed = excluded.changed",
                    [file.day, file.number],
                )
            self.db.execute(f"DROP TABLE {table}")
            self.db.execute("DELETE FROM hot_tables WHERE number = ?", [number])

        self._transaction(commit)

    def merge_one(self, now: Micros) -> bool:
        """Merge one run of files of one day; False when there is none worth it."""
        by_day: dict[int, list[PartFile]] = {}
        for file in catalog.files(self.db, "kind = 'raw'"):
            by_day.setdefault(file.day, []).append(file)
        for day, files in sorted(by_day.items()):
            run = _run_to_merge(files, closed=_closed(day, now), now=now)
            if run and not self._whole(run):
                return True
            if run:
                source = parquet([file.path(self._folder) for file in run])
                query = f"SELECT {FILE_COLUMNS} FROM (SELECT {READ_COLUMNS} FROM {source}) {DISTINCT}"
                made = self._write("raw", day, f"{query} ORDER BY series, time, cursor", now)
                self._transaction(lambda run=run, made=made: self._replace(run, made, now))
                return True
        return False

    def roll_up_one(self, now: Micros) -> bool:
        """Make the rollups of one closed day that has none, or has changed since; False when there is no such day."""
        query = "SELECT day, changed FROM days WHERE changed != rolled_up ORDER BY day"
        for day, changed in self.db.execute(query).fetchall():
            raw = catalog.files(self.db, "kind = 'raw' AND day = ?", [day])
            if not _closed(day, now) or not raw:
                continue
            if not self._whole(raw):
                return True
            old = catalog.files(self.db, "kind != 'raw' AND day = ?", [day])
            made: list[PartFile] = []
            for kind in STEPS:
                for source in self._rollup_sources(raw):
                    query = f"""
                        SELECT series, {floor_to(STEPS[kind])} AS step, {AGGREGATES}
                        FROM ({believed(source)}) GROUP BY 1, 2 ORDER BY 1, 2
                    """
                    made += self._write(kind, day, query, now, len(made))

            def commit(day: int = day, changed: int = changed, old: Any = old, made: Any = made) -> None:
                self._replace(old, made, now)
                self.db.execute("UPDATE days SET rolled_up = ? WHERE day = ?", [changed, day])

            self._transaction(commit)
            return True
        return False

    def retain(self, retention: Retention, now: Micros) -> list[PartFile]:
        """Give up the files ``retention`` does not keep; gives them."""
        files = catalog.files(self.db)
        gone = [file for file in files if (file.day + 1) * DAY <= now - retention.of(file.kind)]
        if retention.max_bytes is not None:
            order: list[Kind] = ["raw", "1m", "1h"]
            kept = sorted(
                (file for file in files if file not in gone and (file.day + 2) * DAY <= now),
                key=lambda file: (order.index(file.kind), file.day),
            )
            excess = sum(file.bytes for file in files) - sum(file.bytes for file in gone) - retention.max_bytes
            for file in kept:
                if excess <= 0:
                    break
                gone.append(file)
                excess -= file.bytes
        if gone:
            self._transaction(lambda: self._replace(gone, [], now))
        return gone

    def check_one(self) -> None:
        """Read the next file in turn back against its checksum: the disk is asked before a person is."""
        files = sorted(catalog.files(self.db), key=lambda file: file.number)
        for file in [file for file in files if file.number > self._checked] or files:
            self._checked = file.number
            self._whole([file])
            return

    def set_aside_named(self, text: str) -> bool:
        """Set aside the files named in an error's ``text`` that are damaged; True when there was one."""
        named = [file for file in catalog.files(self.db) if str(file.path(self._folder).resolve()) in text]
        return not self._whole(named)

    def _whole(self, files: list[PartFile]) -> bool:
        """Whether all are as they were written. Others are renamed to ``….damaged``, told, and asked no more."""
        broken = [file for file in files if catalog.checksum(file.path(self._folder)) != file.crc]
        for file in broken:
            path = file.path(self._folder)
            self._transaction(
                lambda number=file.number: self.db.execute("DELETE FROM files WHERE number = ?", [number])
            )
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_suffix(".damaged"))
            name = path.relative_to(self._folder)
            self.damage.append(f"historian file {name} is damaged: {file.rows} {_ROWS[file.kind]} set aside")
        return not broken

    def sweep(self, now: Micros) -> None:
        """Delete files that were replaced or given up more than ``GRACE`` ago."""
        query = f"SELECT {catalog.FILE_FIELDS} FROM files WHERE obsolete_at <= ?"
        old = [PartFile(*row) for row in self.db.execute(query, [now - GRACE]).fetchall()]
        for file in old:
            path = file.path(self._folder)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other files are in it
                path.parent.rmdir()
        if old:
            numbers = ", ".join(str(file.number) for file in old)
            self._transaction(lambda: self.db.execute(f"DELETE FROM files WHERE number IN ({numbers})"))

    def _rollup_sources(self, raw: list[PartFile]) -> Iterator[str]:
        """Selects of the day's readings, each of a range of series and of about ``ROLLUP_ROWS`` rows."""
        source = parquet([file.path(self._folder) for file in raw])
        if sum(file.rows for file in raw) <= ROLLUP_ROWS:
            yield f"SELECT {READ_COLUMNS} FROM {source}"
            return
        first, rows = 0, 0
        counts = f"SELECT series, count(*) FROM {source} GROUP BY 1 ORDER BY 1"
        for series, count in self.db.execute(counts).fetchall():
            if rows and rows + count > ROLLUP_ROWS:
                yield f"SELECT {READ_COLUMNS} FROM {source} WHERE series >= {first} AND series < {series}"
                first, rows = series, 0
            rows += count
        yield f"SELECT {READ_COLUMNS} FROM {source} WHERE series >= {first}"

    def _write(self, kind: Kind, day: int, query: str, now: Micros, offset: int = 0) -> list[PartFile]:
        """Write the rows of ``query`` to a new file of ``kind``; none when there are no rows."""
        number = catalog.next_number(self.db) + offset
        path = catalog.file_path(self._folder, kind, day, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        target = str(part.resolve()).replace("'", "''")
        rows = self.db.execute(f"COPY ({query}) TO '{target}' ({_PARQUET.format(group=ROW_GROUP)})").fetchone()[0]
        if not rows:
            part.unlink()
            return []
        part.rename(path)
        catalog.sync(path)
        return [catalog.describe(self.db, path, kind, number, now)]

    def _write_series(self) -> None:
        """Keep the meaning of series numbers beside the files: they outlive the database."""
        path = self._folder / "series.parquet"
        part = path.with_suffix(".part")
        target = str(part.resolve()).replace("'", "''")
        self.db.execute(f"COPY (FROM series ORDER BY series) TO '{target}' (FORMAT parquet, CODEC zstd)")
        part.rename(path)
        catalog.sync(path)

    def _register(self, made: list[PartFile]) -> None:
        for file in made:
            catalog.add_file(self.db, file)

    def _replace(self, old: list[PartFile], made: list[PartFile], now: Micros) -> None:
        self._register(made)
        if old:
            numbers = ", ".join(str(file.number) for file in old)
            self.db.execute(f"UPDATE files SET obsolete_at = ? WHERE number IN ({numbers})", [now])

    def _transaction(self, work: Any) -> None:
        """Run ``work`` in one transaction, again when it met one of the writer's."""
        for attempt in range(CONFLICTS):
            self.db.execute("BEGIN")
            try:
                work()
                self.db.execute("COMMIT")
                return
            except duckdb.TransactionException:
                _roll_back(self.db)
                if attempt == CONFLICTS - 1:
                    raise
            except BaseException:
                _roll_back(self.db)
                raise


def _roll_back(db: Any) -> None:
    with contextlib.suppress(duckdb.Error):
        db.execute("ROLLBACK")


def _closed(day: int, now: Micros) -> bool:
    return (day + 1) * DAY + DAY_CLOSES <= now


def _run_to_merge(files: list[PartFile], *, closed: bool, now: Micros) -> list[PartFile]:
    """The next files of one day (in order of arrival) to make one of; empty when it is not worth it yet."""
    quiet = closed and max(file.made_at for file in files) <= now - LATE_FILES_WAIT
    wanted = 2 if quiet else MERGE_FILES
    run: list[PartFile] = []
    rows = 0
    for file in files:
        if rows + file.rows > MERGE_ROWS:
            if len(run) >= wanted:
                return run
            run, rows = [], 0
        run.append(file)
        rows += file.rows
    return run if len(run) >= wanted else []
