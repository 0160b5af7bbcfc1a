"""What a stopped gateway left on its disk, read without any of the gateway's own readers.

The journal is read as SQLite rows of MessagePack, the store as SQLite rows of JSON, the history as DuckDB and Parquet
tables: if the gateway's readers hid something, it would show here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import duckdb
import msgspec

from gateway.core.model import Frame

_frames = msgspec.msgpack.Decoder(list[Frame])


_QUALITIES = ("good", "uncertain", "bad")  # the lowest two bits of a row's flags


class KeptReading(NamedTuple):
    """One row of history. ``source_time`` in microseconds; ``value`` None when the reading was bad."""

    asset: str
    point: str
    source_time: int
    value: float | str | None
    quality: str
    sequence: int | None


class KeptTransition(NamedTuple):
    """One row of ``transitions``: the whole document, and the place it came from."""

    alarm_id: str
    rev: int
    position: int
    document: dict[str, Any]


class KeptOutbox(NamedTuple):
    alarm_id: str
    rev: int
    receiver: str
    state: str


class Told(NamedTuple):
    """One notification as a witness received it: ``answered`` is the HTTP status it gave, 0 for none; ``simulated``:
    what the message says of its alarm, None when it says nothing."""

    key: str
    alarm_id: str
    rev: int
    state: str
    received_at: int
    answered: int
    simulated: bool | None


def told_to(witness: Path) -> list[Told]:
    """What a witness wrote down, in the order it heard it."""
    with _readonly(witness) as database:
        return [
            Told(key, alarm, rev, state, at, _status(answer), json.loads(body)["data"]["alarm"].get("simulated"))
            for key, alarm, rev, state, at, answer, body in database.execute(
                "SELECT key, alarm, rev, state, received_at, answer, body FROM notifications WHERE alarm IS NOT NULL "
                "ORDER BY number"
            )
        ]


def _status(answer: str) -> int:
    """Of an answer as it stands in the witness's table; 0 when it came too late or not at all."""
    return int(answer[:3]) if answer[:3].isdigit() and "after" not in answer else 0


@contextmanager
def _readonly(path: Path) -> Iterator[Any]:
    database = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        database.set_busy_timeout(5_000)
        yield database
    finally:
        database.close()


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The data folder of a gateway that has stopped."""

    path: Path

    def batches(self) -> Iterator[tuple[int, list[Frame]]]:
        """Every batch of the journal that is not in quarantine, in order of position."""
        with _readonly(self.path / "journal.db") as database:
            for position, payload in database.execute("SELECT position, payload FROM batch ORDER BY position"):
                yield position, _frames.decode(payload)

    def skipped(self) -> dict[int, frozenset[int]]:
        """Frames that ended the process again and again and are passed over in every replay: position → indexes."""
        try:
            noted = json.loads((self.path / "replay.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return {int(position): frozenset(indexes) for position, indexes in noted.get("skip", {}).items()}

    def quarantined(self) -> list[tuple[int, str]]:
        """Damaged batches the journal set aside: position, reason."""
        with _readonly(self.path / "journal.db") as database:
            return list(database.execute("SELECT position, reason FROM quarantine ORDER BY position"))

    def readings(self) -> Iterator[KeptReading]:
        """Every row of history, in the tables and in the files, in no order."""
        folder = self.path / "history"
        if not (folder / "history.duckdb").exists():
            return
        database = duckdb.connect(str(folder / "history.duckdb"), read_only=True)
        try:
            sources = [f"hot_{n}" for (n,) in database.execute("SELECT number FROM hot_tables").fetchall()]
            kept = database.execute("SELECT number FROM files WHERE kind = 'raw' AND obsolete_at IS NULL").fetchall()
            names = {f"raw-{number:08d}.parquet" for (number,) in kept}
            sources += [f"'{path}'" for path in folder.glob("*/raw-*.parquet") if path.name in names]
            for source in sources:
                rows = database.execute(
                    f"SELECT asset, point, time, value, text, flags, sequence FROM {source} JOIN series USING (series)"
                )
                while batch := rows.fetchmany(50_000):
                    for asset, point, at, value, text, flags, sequence in batch:
                        held = text if value is None else value
                        yield KeptReading(asset, point, at, held, _QUALITIES[flags & 3], sequence)
        finally:
            database.close()

    def transitions(self) -> list[KeptTransition]:
        """By alarm and rev."""
        with _readonly(self.path / "store.db") as database:
            return [
                KeptTransition(alarm_id, rev, position, json.loads(document))
                for alarm_id, rev, position, document in database.execute(
                    "SELECT alarm_id, rev, position, document FROM transitions ORDER BY alarm_id, rev"
                )
            ]

    def alarm_records(self) -> dict[str, dict[str, Any]]:
        """The live record of every alarm."""
        with _readonly(self.path / "store.db") as database:
            return {i: json.loads(record) for i, record in database.execute("SELECT alarm_id, record FROM alarms")}

    def outbox(self) -> list[KeptOutbox]:
        with _readonly(self.path / "store.db") as database:
            return [KeptOutbox(*row) for row in database.execute("SELECT alarm_id, rev, receiver, state FROM outbox")]

    def open_notifications(self) -> int:
        """How many notifications have not ended; asked of a gateway that runs, too."""
        with _readonly(self.path / "store.db") as database:
            query = "SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending')"
            return int(database.execute(query).fetchone()[0])

    def rejected(self) -> dict[str, int]:
        """How many frames are kept per code of rejection."""
        with _readonly(self.path / "store.db") as database:
            return dict(database.execute("SELECT code, count(*) FROM rejected GROUP BY code"))

    def store_position(self) -> int:
        with _readonly(self.path / "store.db") as database:
            row = database.execute("SELECT position FROM progress WHERE name = 'position'").fetchone()
            return int(row[0]) if row else 0

    def bundles(self) -> dict[str, str]:
        """Every configuration that was ever in force: hash → JSON."""
        with _readonly(self.path / "store.db") as database:
            return dict(database.execute("SELECT hash, bundle FROM configurations"))
