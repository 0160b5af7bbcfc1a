"""The historian's folder as a reader of its own finds it: a still picture, also of a folder that is in use.

The database is copied while no checkpoint rewrites it (its log may grow: a copy ends at some transaction), the Parquet
files are linked, because a merged file is deleted a minute after it was replaced. Nothing in the folder is changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self

import duckdb

from gateway.core.model import Micros, Reading
from gateway.errors import StorageFailed
from gateway.historian import catalog
from gateway.historian.catalog import FILE_NAME, HOT_COLUMNS, READ_COLUMNS, PartFile, parquet
from gateway.historian.columns import (
    FLOAT,
    HISTORICAL,
    KIND_MASK,
    KIND_SHIFT,
    QUALITIES,
    QUALITY_MASK,
    UNTIMED,
    to_value,
)

# What the byte beside a value means: (a float as it is, quality, historical, the device gave a time).
_MEANINGS = [
    (flags >> KIND_SHIFT & KIND_MASK == FLOAT, QUALITIES[min(flags & QUALITY_MASK, 2)], bool(flags & HISTORICAL),
     not flags & UNTIMED)
    for flags in range(256)
]  # fmt: skip

TRIES = 10  # a checkpoint takes 0.1 s and comes every half minute
PICTURE = "picture-"  # then the reader's pid
MEMORY = "512MB"  # sorting ten million rows by arrival spills beyond this


class Archive:
    """Made by ``open``; a context manager."""

    def __init__(self, db: Any, picture: Path, files: list[PartFile], keys: list[tuple[str, str, str]]) -> None:
        self._db = db
        self._picture = picture
        self._files = files
        self._keys = keys
        self._wanted = ""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises StorageFailed when no whole copy can be had."""
        picture = _beside(folder)
        try:
            db = _copied(folder, picture)
            files = catalog.files(db, "kind = 'raw'")
            for file in files:
                target = file.path(picture)
                target.parent.mkdir(exist_ok=True)
                _link(file.path(folder), target)
            names = db.execute("SELECT asset, point, device FROM series ORDER BY series").fetchall()
        except (duckdb.Error, OSError) as error:
            shutil.rmtree(picture, ignore_errors=True)
            raise StorageFailed(f"the historian in {folder} cannot be read: {error}") from error
        return cls(db, picture, files, names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        shutil.rmtree(self._picture, ignore_errors=True)

    def only(self, assets: Collection[str]) -> None:
        """From now on count and give the readings of these assets alone."""
        numbers = [number for number, (asset, _, _) in enumerate(self._keys) if asset in assets]
        self._db.execute("CREATE OR REPLACE TEMP TABLE wanted (series INTEGER)")
        if numbers:
            self._db.execute("INSERT INTO wanted SELECT unnest($numbers)", {"numbers": numbers})
        self._wanted = " AND series IN (SELECT series FROM wanted)"

    def count(self, since: Micros, until: Micros) -> int:
        """About how many readings were received in that time: repeated ones count."""
        query = f"SELECT count(*) FROM ({self._source(since, until)})"
        return int(self._db.execute(query).fetchone()[0])

    def messages(self, since: Micros, until: Micros, rows: int) -> Iterator[list[list[Reading]]]:
        """Readings with since ≤ received < until in the order of their arrival, about ``rows`` at a time, message by
        message: what one device sent at one moment. What was delivered twice is here twice: the engine knows it again,
        and taking it out costs ten times the sorting."""
        wanted = "series, time, received, value, text, flags, reason, sequence"
        self._db.execute(f"SELECT {wanted} FROM ({self._source(since, until)}) ORDER BY cursor")
        keys, meanings = self._keys, _MEANINGS
        message: list[Reading] = []
        device, moment = "", 0
        while found := self._db.fetchmany(rows):
            batch: list[list[Reading]] = []
            for number, at, received, value, text, flags, reason, sequence in found:
                asset, point, speaker = keys[number]
                plain, quality, historical, timed = meanings[flags]
                if not plain:
                    value = to_value(flags, value, text)
                if received != moment or speaker != device:
                    if message:
                        batch.append(message)
                    message, device, moment = [], speaker, received
                message.append(
                    Reading(asset, point, value, quality, at, received, speaker, reason, historical, sequence, timed)
                )
            yield batch
        if message:
            yield [message]

    def _source(self, since: Micros, until: Micros) -> str:
        when = f"WHERE received >= {since} AND received < {until}{self._wanted}"
        sources = [f"SELECT {HOT_COLUMNS} FROM hot_{number} {when}" for number in catalog.hot_numbers(self._db)]
        paths = [file.path(self._picture) for file in self._files]
        if paths:
            sources.append(f"SELECT * FROM (SELECT {READ_COLUMNS} FROM {parquet(paths)}) {when}")
        return f"SELECT * FROM ({' UNION ALL '.join(sources)})"


def clear_pictures(data: Path) -> None:
    """Take away what readers that are dead left in a data folder: their links keep old files on the disk."""
    for picture in data.glob(f"{PICTURE}*"):
        pid = picture.name.removeprefix(PICTURE).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(picture, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """A folder of our own on the same file system where that can be written, else anywhere."""
    try:
        return Path(tempfile.mkdtemp(prefix=f"{PICTURE}{os.getpid()}-", dir=folder.parent))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="citywatch-picture-"))


def _copied(folder: Path, picture: Path) -> Any:
    """A connection to a copy of the database in which nothing was rewritten while it was copied."""
    database, log = folder / FILE_NAME, folder / f"{FILE_NAME}.wal"
    for _ in range(TRIES):
        before = database.stat()
        shutil.copy2(database, picture / FILE_NAME)
        (picture / log.name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(log, picture / log.name)
        after = database.stat()
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
            return _connect(picture)
        time.sleep(0.2)
    raise OSError("it is rewritten all the time")


def _connect(picture: Path) -> Any:
    db = duckdb.connect(str(picture / FILE_NAME))
    place = str(picture.resolve()).replace("'", "''")
    for setting in (
        "threads = 1",
        f"memory_limit = '{MEMORY}'",
        f"temp_directory = '{place}/tmp'",
        "preserve_insertion_order = false",
        "enable_progress_bar = false",
        f"allowed_directories = ['{place}']",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        db.execute(f"SET {setting}")
    return db


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
