"""What was sent and what was acknowledged, by identity: the simulators' own account, for an independent judge.

Two forms. A load generator at 40,000 messages a second writes ``LoadLedger``: a JSON line of parameters, then records
of four little-endian int64: device index, sequence, sent at, acknowledged at (microseconds UTC; 0 = never). The city
writes ``CityLedger``: SQLite, a row a message. Both survive a ``kill -9`` of their writer up to the last second:
whole records are appended, a torn last one is ignored by the reader.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

_MAGIC = b"citywatch load ledger 1\n"
_RECORD = 32  # four int64


class Sent(NamedTuple):
    """One message: which device (index), which sequence number, when it left, when its PUBACK came (0: never)."""

    device: int
    sequence: int
    sent_at: int
    acked_at: int


class LoadLedger:
    """The writer. ``extend`` four numbers a message into ``pending``; ``flush`` puts them on the file."""

    def __init__(self, path: Path, parameters: dict[str, Any]) -> None:
        """Begins a new file with ``parameters`` (whatever the reader needs to recompute values)."""
        self.pending: array[int] = array("q")
        self._file = path.open("wb", buffering=0)
        self._file.write(_MAGIC + json.dumps(parameters).encode() + b"\n")

    def flush(self) -> None:
        """Append what is pending in one write; the page cache keeps it whatever happens to this process."""
        if self.pending:
            self._file.write(self.pending.tobytes())
            del self.pending[:]

    def close(self) -> None:
        self.flush()
        self._file.close()


def read_parameters(path: Path) -> dict[str, Any]:
    """The parameters a load ledger was begun with. Raises ValueError when it is not one."""
    with path.open("rb") as file:
        if file.readline() != _MAGIC:
            raise ValueError(f"{path}: not a load ledger")
        parameters: dict[str, Any] = json.loads(file.readline())
        return parameters


def read_load_ledger(path: Path) -> Iterator[Sent]:
    """Every record of a load ledger, in the order of acknowledgement; those never acknowledged come last (they are
    there only when the generator ended in order). Raises ValueError when it is not a ledger."""
    read_parameters(path)
    with path.open("rb") as file:
        file.readline()
        file.readline()
        while block := file.read(_RECORD * 8192):
            numbers = array("q", block[: len(block) // _RECORD * _RECORD])
            for start in range(0, len(numbers), 4):
                yield Sent(*numbers[start : start + 4])


class CityLedger:
    """A row a message of the city, in SQLite: device, sequence, topic, what it was, sent, acknowledged, how often.

    ``what`` is "telemetry", or the name of the nonsense it was on purpose. Times are microseconds UTC.
    """

    _TABLE = """CREATE TABLE IF NOT EXISTS messages (
        device TEXT NOT NULL, sequence INTEGER NOT NULL, topic TEXT NOT NULL, what TEXT NOT NULL, payload BLOB NOT NULL,
        sent_at INTEGER NOT NULL, acked_at INTEGER, attempts INTEGER NOT NULL, PRIMARY KEY (device, sequence))"""
    _FAULTS = """CREATE TABLE IF NOT EXISTS faults (
        at INTEGER NOT NULL, fault TEXT NOT NULL, asset TEXT NOT NULL, step TEXT NOT NULL, zh TEXT NOT NULL,
        en TEXT NOT NULL)"""

    def __init__(self, path: Path) -> None:
        self._rows: list[tuple[str, int, str, str, bytes, int, int | None, int]] = []
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # Only a kill of this process matters here, not a power cut: no syncs.
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(self._TABLE)
        self._database.execute(self._FAULTS)

    def __enter__(self) -> CityLedger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def message(
        self,
        device: str,
        sequence: int,
        topic: str,
        what: str,
        payload: bytes,
        sent_at: int,
        acked_at: int | None,
        attempts: int,
    ) -> None:
        """Note one message; a later note of the same (device, sequence) replaces it."""
        self._rows.append((device, sequence, topic, what, payload, sent_at, acked_at, attempts))

    def fault(self, at: int, fault: str, asset: str, step: str, zh: str, en: str) -> None:
        """Note a fault that began or ended."""
        self._database.execute("INSERT INTO faults VALUES (?,?,?,?,?,?)", (at, fault, asset, step, zh, en))

    def flush(self) -> None:
        """Write what was noted, in one transaction."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO messages VALUES (?,?,?,?,?,?,?,?)", rows)
        self._database.execute("COMMIT")

    def close(self) -> None:
        self.flush()
        self._database.close()
