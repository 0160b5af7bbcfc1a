"""One gateway per data folder: a lock that dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from gateway.errors import ConfigError, Mistake

FILE = "lock"


class DataLock:
    """Held from ``take`` until ``release`` or the end of the process, whatever ends it."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Raises ConfigError when another gateway works on this folder, or the folder cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path.open("a+", encoding="ascii")
        except OSError as error:
            raise ConfigError(
                [Mistake(str(self._path.parent), None, "data", f"cannot be written: {error.strerror or error}")]
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            self._file = None
            message = f"another gateway (process {holder}) works on this folder; stop it or name another folder"
            raise ConfigError([Mistake(str(self._path.parent), None, "data", message)]) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def fileno(self) -> int:
        """The number of the locked file; a forked child closes it, or the lock would outlive us in the child."""
        assert self._file is not None, "not taken"
        return self._file.fileno()

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_running(data: Path) -> bool:
    """Whether a gateway holds the lock of ``data`` now."""
    try:
        with (data / FILE).open("r", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
