"""One number in one file, changed as a whole or not at all: how far a sink has followed the historian."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gateway.errors import StorageFailed


class FileCursor:
    """The cursor of one sink in ``<folder>/<name>.cursor``; one owner.

    A reader never sees half a number: the new file is written beside the old one, synced, and renamed over it, then
    the folder is synced. A file that holds no number is set aside as ``*.damaged`` and the cursor starts at 0 again:
    the sink is then filled from the beginning, which writes the same points over themselves.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.cursor"

    async def get(self) -> int:
        """The number last set; 0 at the first start. Raises StorageFailed."""
        return await asyncio.to_thread(self._read)

    async def set(self, cursor: int) -> None:
        """Durable when it returns. Raises StorageFailed."""
        await asyncio.to_thread(self._write, cursor)

    def _read(self) -> int:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StorageFailed(f"{self._file}: {error.strerror or error}") from error
        try:
            cursor = int(text)
        except ValueError:
            cursor = -1
        if cursor < 0:
            self._file.replace(self._file.with_suffix(".damaged"))
            return 0
        return cursor

    def _write(self, cursor: int) -> None:
        beside = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(beside, "wb") as file:
                file.write(b"%d\n" % cursor)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._file)
            folder = os.open(self._file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StorageFailed(f"{self._file}: {error.strerror or error}") from error
