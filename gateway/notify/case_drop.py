"""Where cases go when their platform is away: a CSV file a day in a folder, for people or a program to bring over.

A file is whole whenever it is looked at: the new one is written beside the old, on the disk for good, and then takes
its name. It is UTF-8 with a byte-order mark, which Excel wants, and no cell of it is a formula. One key stands in a
file once, however often it is put there.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from gateway.core.case_facts import Scalar
from gateway.core.civil import civil
from gateway.core.model import Micros
from gateway.core.spreadsheet import cell
from gateway.errors import Unavailable

WHY = "未送达原因"  # the last column: why it is here and not with the platform
MAX_FILES = 1000  # of one day: each with other columns, because the field map was changed
_BOM = b"\xef\xbb\xbf"


class CaseDrop:
    """``columns``: the names of the cells; ``key``: which of them is the key. ``zone``: whose day it is."""

    def __init__(self, folder: Path, platform: str, columns: Sequence[str], key: int, zone: str) -> None:
        self._folder = folder
        self._platform = platform
        self._header = [cell(name) for name in (*columns, WHY)]
        self._key = key
        self._zone = zone
        self._writing = asyncio.Lock()  # the file is read, and written anew

    async def put(self, cells: Sequence[Scalar], why: str, at: Micros) -> str:
        """Add a row to the file of the day; gives the file's name. Raises Unavailable when it cannot be written: then
        it is not there."""
        row = [cell(one) for one in (*cells, why)]
        async with self._writing:
            try:
                return await asyncio.to_thread(self._put, row, f"{self._platform}-{civil(at, self._zone):%Y-%m-%d}")
            except OSError as error:
                raise Unavailable(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _put(self, row: list[str], name: str) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, MAX_FILES):
            path = self._folder / (f"{name}.csv" if number == 1 else f"{name}-{number}.csv")
            try:
                before = path.read_bytes()
            except FileNotFoundError:
                self._write(path, _BOM + _lines([self._header, row]))
                return path.name
            found = self._rows(before)
            if found is None:
                continue
            if not any(one[self._key : self._key + 1] == [row[self._key]] for one in found):
                gap = b"" if before.endswith(b"\n") else b"\r\n"
                self._write(path, before + gap + _lines([row]))
            return path.name
        raise OSError(f"there are {MAX_FILES} files of one day")

    def _rows(self, content: bytes) -> list[list[str]] | None:
        """The rows of a file with our columns; None for any other file."""
        try:
            rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (UnicodeDecodeError, csv.Error):  # saved by somebody in another encoding, say
            return None
        return rows[1:] if rows and rows[0] == self._header else None

    def _write(self, path: Path, content: bytes) -> None:
        beside = path.with_name(f".{path.name}.part")
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode("utf-8", "replace")
