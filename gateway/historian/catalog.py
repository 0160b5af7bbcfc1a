"""The database of the historian: its one file, its settings, its tables, and the names of its Parquet files.

history/history.duckdb      progress, series, hot tables (the newest readings), the list of the files below
history/series.parquet      which asset, point and device a series number stands for: the files without the database
history/2025-07-20/raw-00000042.parquet     readings of one UTC day by their source time, sorted by series and time
history/2025-07-20/1m-00000057.parquet      … per minute; 1h per hour
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import duckdb

from gateway.core.model import HOUR, MINUTE, Micros
from gateway.errors import StorageFailed
from gateway.historian.columns import POSITION_SHIFT

FILE_NAME = "history.duckdb"
DAY: Micros = 24 * HOUR
MEMORY_LIMIT = "80MB"  # the whole gateway stays below 350 MB; sorting a million rows spills beyond this
CHECKPOINT_AT = "32MB"  # 600,000 rows: a checkpoint held appends for 0.1 s here, every half minute at 20,000 rows/s

Kind: TypeAlias = Literal["raw", "1m", "1h"]
STEPS: dict[Kind, Micros] = {"1m": MINUTE, "1h": HOUR}

HOT_COLUMNS = "series, time, received, value, text, flags, reason, sequence, cursor"
# In the files ``delay`` = received − time: small numbers pack well, and the two times are exact again when added.
FILE_COLUMNS = "series, time, received - time AS delay, value, text, flags, reason, sequence, cursor"
READ_COLUMNS = "series, time, time + delay AS received, value, text, flags, reason, sequence, cursor"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS progress (position BIGINT NOT NULL);
INSERT INTO progress SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM progress);
CREATE TABLE IF NOT EXISTS series (
    series INTEGER NOT NULL, asset VARCHAR NOT NULL, point VARCHAR NOT NULL, device VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS hot_tables (number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS days (day INTEGER PRIMARY KEY, changed BIGINT NOT NULL, rolled_up BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    number BIGINT NOT NULL, kind VARCHAR NOT NULL, day INTEGER NOT NULL, rows BIGINT NOT NULL, bytes BIGINT NOT NULL,
    first_cursor BIGINT NOT NULL, last_cursor BIGINT NOT NULL, first_time BIGINT NOT NULL, last_time BIGINT NOT NULL,
    made_at BIGINT NOT NULL, crc BIGINT NOT NULL, obsolete_at BIGINT);
"""
_HOT = """
CREATE TABLE hot_{number} (
    series INTEGER NOT NULL, time BIGINT NOT NULL, received BIGINT NOT NULL, value DOUBLE, text VARCHAR,
    flags UTINYINT NOT NULL, reason VARCHAR, sequence BIGINT, cursor BIGINT NOT NULL)
"""
_FILE_NAME = re.compile(r"(raw|1m|1h)-(\d{8,})\.parquet")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PartFile:
    """One Parquet file. Cursors and times are inclusive; ``day`` counts from 1970-01-01 UTC."""

    number: int
    kind: Kind
    day: int
    rows: int
    bytes: int
    first_cursor: int
    last_cursor: int
    first_time: Micros
    last_time: Micros
    made_at: Micros
    crc: int

    def path(self, folder: Path) -> Path:
        return file_path(folder, self.kind, self.day, self.number)


FILE_FIELDS = "number, kind, day, rows, bytes, first_cursor, last_cursor, first_time, last_time, made_at, crc"


def file_path(folder: Path, kind: Kind, day: int, number: int) -> Path:
    return folder / day_name(day) / f"{kind}-{number:08d}.parquet"


def describe(db: Any, path: Path, kind: Kind, number: int, made_at: Micros) -> PartFile:
    """The catalogue's entry for a finished file, read out of it. Raises duckdb.Error when it cannot be read."""
    span = "min(cursor), max(cursor), min(time), max(time)"
    if kind != "raw":
        span = f"0, 0, min(step), max(step) + {STEPS[kind] - 1}"
    row = db.execute(f"SELECT count(*), {span} FROM {parquet([path])}").fetchone()
    rows, first_cursor, last_cursor, first_time, last_time = row
    return PartFile(
        number,
        kind,
        first_time // DAY,
        rows,
        path.stat().st_size,
        first_cursor,
        last_cursor,
        first_time,
        last_time,
        made_at,
        checksum(path),
    )


def checksum(path: Path) -> int:
    """CRC-32 of a file; -1 when it cannot be read."""
    crc = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                crc = zlib.crc32(block, crc)
    except OSError:
        return -1
    return crc


def day_name(day: int) -> str:
    """``2025-07-20`` for the days a calendar has; a device that believes otherwise gets a folder all the same."""
    try:
        return f"{_EPOCH + timedelta(days=day):%Y-%m-%d}"
    except OverflowError:
        return f"day{day:+d}"


def connect(folder: Path) -> Any:
    """Open the database of ``folder``, confined to it. Raises duckdb.Error."""
    folder.mkdir(parents=True, exist_ok=True)
    db = duckdb.connect(str(folder / FILE_NAME))
    place = str(folder.resolve()).replace("'", "''")
    for setting in (
        "threads = 1",  # every caller works in its own thread; a second worker would only take it from the pipeline
        f"memory_limit = '{MEMORY_LIMIT}'",
        f"checkpoint_threshold = '{CHECKPOINT_AT}'",
        f"temp_directory = '{place}/tmp'",
        "max_temp_directory_size = '4GB'",
        "parquet_metadata_cache = true",
        "preserve_insertion_order = false",
        "enable_progress_bar = false",  # or a slow query draws one across the terminal
        "pandas_analyze_sample = 0",  # columns of objects are text: never guess from a sample
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        f"allowed_directories = ['{place}']",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        db.execute(f"SET {setting}")
    db.execute("BEGIN")
    db.execute(_SCHEMA)
    if not db.execute("SELECT count(*) FROM hot_tables").fetchone()[0]:
        new_hot_table(db, 1)
    db.execute("COMMIT")
    return db


def new_hot_table(db: Any, number: int) -> None:
    db.execute(_HOT.format(number=number))
    db.execute("INSERT INTO hot_tables VALUES (?)", [number])


def hot_numbers(db: Any) -> list[int]:
    """Hot tables, oldest first; the last one is being written."""
    return [row[0] for row in db.execute("SELECT number FROM hot_tables ORDER BY number").fetchall()]


def files(db: Any, where: str = "", parameters: list[Any] | None = None) -> list[PartFile]:
    """The files in force that match ``where``, by their place in time of arrival."""
    condition = f"obsolete_at IS NULL{' AND ' + where if where else ''}"
    query = f"SELECT {FILE_FIELDS} FROM files WHERE {condition} ORDER BY first_cursor, number"
    return [PartFile(*row) for row in db.execute(query, parameters or []).fetchall()]


def add_file(db: Any, file: PartFile) -> None:
    db.execute(
        f"INSERT INTO files ({FILE_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        list(astuple(file)),
    )


def next_number(db: Any) -> int:
    return int(db.execute("SELECT coalesce(max(number), 0) + 1 FROM files").fetchone()[0])


def parquet(paths: list[Path], *, alike: bool = True) -> str:
    """``read_parquet`` over ``paths``, whose names are ours. ``alike``: all have the same columns."""
    names = ", ".join("'" + str(path.resolve()).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{names}]{'' if alike else ', union_by_name = true'})"


def sync(path: Path) -> None:
    """Make a finished file and its name durable."""
    for place, flags in ((path, os.O_RDWR), (path.parent, os.O_RDONLY), (path.parent.parent, os.O_RDONLY)):
        handle = os.open(place, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_strangers(db: Any, folder: Path) -> None:
    """Delete Parquet files no catalogue entry names: a crash left them half made."""
    known = {PartFile(*row).path(folder) for row in db.execute(f"SELECT {FILE_FIELDS} FROM files").fetchall()}
    for path in folder.glob("*/*.parquet*"):
        if path not in known and (_FILE_NAME.fullmatch(path.name) or path.suffix == ".part"):
            path.unlink()
    for path in folder.glob("tmp/*"):
        with contextlib.suppress(OSError):
            path.unlink()


def storage_failed(error: Exception) -> StorageFailed:
    """DuckDB's or the system's error as ours."""
    text = str(error)
    full = "No space left" in text or (isinstance(error, OSError) and error.errno == 28)
    return StorageFailed(f"historian: {type(error).__name__}: {text.splitlines()[0] if text else ''}", disk_full=full)


def adopt(db: Any, folder: Path) -> int:
    """Fill an empty database from the Parquet files of ``folder``; gives how many could be read.

    Unreadable ones are renamed to ``….damaged``. ``progress`` becomes the journal position of the newest reading in
    them: sealing ends between two positions, so that one is complete.
    """
    names = folder / "series.parquet"
    if names.exists():
        db.execute(f"INSERT INTO series SELECT series, asset, point, device FROM {parquet([names])} ORDER BY series")
    kept = 0
    for path in sorted(folder.glob("*/*.parquet")):
        found = _FILE_NAME.fullmatch(path.name)
        if not found:
            continue
        try:
            add_file(db, describe(db, path, cast(Kind, found[1]), int(found[2]), 0))
        except (duckdb.Error, TypeError):  # TypeError: it is a Parquet file without rows, so not one of ours
            path.rename(path.with_suffix(".damaged"))
            continue
        kept += 1
    db.execute("INSERT INTO days SELECT day, max(number), 0 FROM files WHERE kind = 'raw' GROUP BY day")
    db.execute(f"UPDATE progress SET position = (SELECT coalesce(max(last_cursor), 0) >> {POSITION_SHIFT} FROM files)")
    return kept
