"""Gets every batch that is still whole out of a journal that SQLite can no longer read, and builds a new one of them.

SQLite gives up a file at the first wrong pointer, and ends its write-ahead log silently at the first wrong checksum. A
batch needs neither: its row carries a CRC over everything in it. So the pages of the file and of the log are walked one
by one, every leaf cell that parses into a row whose CRC holds is kept, and nothing else (the format is
sqlite.org/fileformat2.html).

The swap survives a crash at any instruction: the rebuilt file gets its name only when it is complete, and the next
start finishes what was begun. The damaged files stay beside it, for people, under their name and the time.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import apsw

from gateway.journal.record import INSERT, PAGE_SIZE, SCHEMA, Batch, find_damage

MAX_PAYLOAD = 64 << 20  # no batch is as large: the intake ends one at 4 MB and a frame

_TABLE_LEAF = 0x0D
_LOG_HEADER = struct.Struct(">IIIIIIII")  # magic, format, page size, checkpoint, salt 1 and 2, checksum 1 and 2
_FRAME_HEADER = struct.Struct(">IIIIII")  # page number, pages after commit (0: none), salt 1 and 2, checksum 1 and 2
_FRAME_SIZE = _FRAME_HEADER.size + PAGE_SIZE
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MAX_LOCAL = PAGE_SIZE - 35
_MIN_LOCAL = (PAGE_SIZE - 12) * 32 // 255 - 23

_Slice = bytes | memoryview


def find_lost_file(path: Path) -> str | None:
    """A log without its file means somebody removed the file: its batches are still in the log, and SQLite would
    delete that log at once."""
    log = beside(path, "-wal")
    if _size(path) == 0 and _size(log) > _LOG_HEADER.size:
        return "the file is gone or empty, its write-ahead log is not"
    return None


def committed_frames(path: Path) -> int:
    """How many frames of the log belong to finished commits, by their headers alone (checksums are SQLite's affair).

    More than SQLite counts itself means that it stopped at damage. At most one of those commits may be the torn last
    one of a power cut, which nobody was told about; all others were durable.
    """
    last = 0
    for number, (_, size, _) in enumerate(_log_frames(_map(beside(path, "-wal"))), 1):
        if size:
            last = number
    return last


def rebuild(path: Path, reason: str, now: datetime) -> str:
    """Replace the journal at ``path`` by one made of its readable batches; gives the sentence that says so.

    ``reason``: what is wrong with it. Raises OSError or apsw.Error when the new file cannot be written.
    """
    released = _released(path)
    building = beside(path, ".rebuilding")
    building.unlink(missing_ok=True)
    beside(building, "-journal").unlink(missing_ok=True)
    kept: set[int] = set()
    db = apsw.Connection(str(building))
    try:
        db.execute(SCHEMA)
        with db:
            for batch in _batches(path, kept):
                if batch.position > released:
                    kept.add(batch.position)
                    db.execute(INSERT, batch)
            db.execute("INSERT INTO state VALUES ('released', ?)", (released or min(kept, default=1) - 1,))
            db.execute("INSERT INTO state VALUES ('clean', 0)")
    finally:
        db.close()
    stamp = f".damaged-{now:%Y%m%dT%H%M%S}"
    building.rename(beside(path, f".rebuilt{stamp}"))
    sync_folder(path.parent)
    finish_swap(path)
    span = f", from {min(kept)} to {max(kept)}" if kept else ""
    return f"{path.name} was rebuilt ({reason}): {len(kept)} batches kept{span}; the old file is {path.name}{stamp}"


def finish_swap(path: Path) -> None:
    """Put a finished rebuild in the journal's place. Does nothing when there is none."""
    for rebuilt in path.parent.glob(f"{path.name}.rebuilt.*"):
        stamp = rebuilt.name.removeprefix(f"{path.name}.rebuilt")
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError, FileExistsError):
                os.link(beside(path, suffix), beside(path, f"{stamp}{suffix}"))
        for suffix in ("-wal", "-shm"):
            beside(path, suffix).unlink(missing_ok=True)
        rebuilt.replace(path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names made, changed or removed in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _released(path: Path) -> int:
    """Up to where batches had been given up on purpose, if SQLite can still say; 0 otherwise."""
    if _size(path) == 0:
        return 0
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            value = db.execute("SELECT value FROM state WHERE name = 'released'").get
        finally:
            db.close(True)
    except apsw.Error:
        return 0
    return value if isinstance(value, int) else 0


class _Pages:
    """The newest image of every page: the file's, overlaid by the log's."""

    def __init__(self, file: memoryview, overlay: dict[int, memoryview]) -> None:
        self._file = file
        self._overlay = overlay

    def get(self, number: int) -> memoryview | None:
        page = self._overlay.get(number)
        if page is not None:
            return page
        start = (number - 1) * PAGE_SIZE
        page = self._file[start : start + PAGE_SIZE] if number > 0 else None
        return page if page is not None and len(page) == PAGE_SIZE else None


def _batches(path: Path, kept: set[int]) -> Iterator[Batch]:
    """Every intact batch in file and log, in no order; those already ``kept`` are passed over."""
    file = _map(path)
    frames = list(_log_frames(_map(beside(path, "-wal"))))
    newest = _Pages(file, {number: page for number, _, page in frames})
    as_filed = _Pages(file, {})
    # Older images of a page come too: the newest one may be the damaged one.
    for _, _, page in reversed(frames):
        yield from _leaf_batches(page, newest, kept)
    for start in range(PAGE_SIZE, len(file) - PAGE_SIZE + 1, PAGE_SIZE):
        page = file[start : start + PAGE_SIZE]
        yield from _leaf_batches(page, newest, kept)
        if frames:
            yield from _leaf_batches(page, as_filed, kept)


def _map(path: Path) -> memoryview:
    """The bytes of a file (none if it is not there) without reading it all into memory."""
    try:
        with path.open("rb") as handle:
            if os.fstat(handle.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        return memoryview(b"")


def _log_frames(log: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(page number, size of the file after the commit or 0, page) of every frame of the log's present generation."""
    if len(log) < _LOG_HEADER.size + _FRAME_SIZE:
        return
    salts = _LOG_HEADER.unpack_from(log)[4:6]
    if not _log_header_holds(log):
        salts = _FRAME_HEADER.unpack_from(log, _LOG_HEADER.size)[2:4]
    for offset in range(_LOG_HEADER.size, len(log) - _FRAME_SIZE + 1, _FRAME_SIZE):
        number, size, salt1, salt2, _, _ = _FRAME_HEADER.unpack_from(log, offset)
        if (salt1, salt2) != salts:
            continue  # of an older generation, long in the file; or a damaged header
        start = offset + _FRAME_HEADER.size
        yield number, size, log[start : start + PAGE_SIZE]


def _log_header_holds(log: memoryview) -> bool:
    """SQLite's checksum over the first 24 bytes of the log; its byte order is the last bit of the magic number."""
    words = struct.unpack_from(">6I" if log[3] & 1 else "<6I", log)
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return (first, second) == _LOG_HEADER.unpack_from(log)[6:8]


def _leaf_batches(page: memoryview, pages: _Pages, kept: set[int]) -> Iterator[Batch]:
    if page[0] != _TABLE_LEAF:
        return
    for cell in range(min(int.from_bytes(page[3:5], "big"), (PAGE_SIZE - 8) // 2)):
        try:
            batch = _cell_batch(page, int.from_bytes(page[8 + 2 * cell : 10 + 2 * cell], "big"), pages, kept)
        except (IndexError, ValueError, struct.error):
            continue  # not a cell of ours, or a damaged one: the CRC would have said so too
        if batch is not None and find_damage(batch) is None:
            yield batch


def _cell_batch(page: memoryview, offset: int, pages: _Pages, kept: set[int]) -> Batch | None:
    """The row of one leaf cell, unchecked; None when it is kept already. Raises ValueError, IndexError on nonsense."""
    length, offset = _varint(page, offset)
    position, offset = _varint(page, offset)
    if position in kept or not 0 < length <= MAX_PAYLOAD:
        return None
    local = length
    if length > _MAX_LOCAL:
        local = _MIN_LOCAL + (length - _MIN_LOCAL) % (PAGE_SIZE - 4)
        local = local if local <= _MAX_LOCAL else _MIN_LOCAL
    parts = [page[offset : offset + local]]
    missing = length - len(parts[0])
    following = int.from_bytes(page[offset + local : offset + local + 4], "big")
    while missing > 0:
        overflow = pages.get(following)
        if overflow is None:
            raise ValueError("overflow page is not in the file")
        following = int.from_bytes(overflow[:4], "big")
        parts.append(overflow[4 : 4 + missing])
        missing -= len(parts[-1])
    return _record(position, b"".join(parts))


def _record(position: int, record: bytes) -> Batch:
    end, offset = _varint(record, 0)
    types = []
    while offset < end:
        kind, offset = _varint(record, offset)
        types.append(kind)
    if len(types) != 7 or types[0] != 0:
        raise ValueError("not a row of table batch")
    values: list[int | bytes] = []
    for kind in types[1:]:
        if kind in (8, 9):
            values.append(kind - 8)
            continue
        size = _INTEGER_SIZES[kind] if kind in _INTEGER_SIZES else (kind - 12) // 2 if kind >= 12 else -1
        if size < 0 or (kind % 2 and kind > 12):
            raise ValueError("not a type of table batch")
        piece = record[offset : offset + size]
        values.append(int.from_bytes(piece, "big", signed=True) if kind in _INTEGER_SIZES else piece)
        offset += size
    frames, first_at, last_at, crc, link, payload = values
    return Batch(position, frames, first_at, last_at, crc, link, payload)  # type: ignore[arg-type]  # CRC decides


def _varint(data: _Slice, offset: int) -> tuple[int, int]:
    """SQLite's big-endian variable-length integer (without the 9-byte form's sign: no position is negative)."""
    value = 0
    for count in range(8):
        byte = data[offset + count]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + count + 1
    return value << 8 | data[offset + 8], offset + 9
