"""The SQLite that apsw carries, as a DB-API 2.0 module, so that SQLAlchemy can stand on it.

Debian's own SQLite (3.40.1 behind Python's ``sqlite3``) can corrupt a WAL database in a rare race when the WAL is
reset; it was fixed in 3.51.3. apsw's wheel brings a newer one.

Two differences from ``sqlite3``, both on purpose: a transaction begins before the *first statement of any kind*, so
DDL is transactional and two reads of one transaction see one state; and every result is fetched at once, so no
statement stays open and holds the WAL back.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import apsw

apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"

SAFE_VERSION = (3, 51, 3)
sqlite_version: str = apsw.sqlite_lib_version()
sqlite_version_info: tuple[int, ...] = tuple(int(part) for part in sqlite_version.split("."))


class Warning(Exception):
    pass


class Error(Exception):
    """Root of DB-API's errors; ``__cause__`` is apsw's own."""


class InterfaceError(Error):
    pass


class DatabaseError(Error):
    pass


class DataError(DatabaseError):
    pass


class OperationalError(DatabaseError):
    pass


class IntegrityError(DatabaseError):
    pass


class InternalError(DatabaseError):
    pass


class ProgrammingError(DatabaseError):
    pass


class NotSupportedError(DatabaseError):
    pass


Binary = bytes
STRING, BINARY, NUMBER, DATETIME, ROWID = str, bytes, float, datetime.datetime, int

_TRANSLATED: tuple[tuple[type[Exception], type[Error]], ...] = (
    (apsw.ConstraintError, IntegrityError),
    (apsw.TooBigError, DataError),
    (apsw.MismatchError, DataError),
    (apsw.MisuseError, ProgrammingError),
    (apsw.BindingsError, ProgrammingError),
    (apsw.RangeError, ProgrammingError),
    (apsw.ThreadingViolationError, ProgrammingError),
    (apsw.ConnectionClosedError, ProgrammingError),
    (apsw.InternalError, InternalError),
    (apsw.CorruptError, DatabaseError),
    (apsw.NotADBError, DatabaseError),
)


def _raise(error: Exception) -> NoReturn:
    for theirs, ours in _TRANSLATED:
        if isinstance(error, theirs):
            raise ours(str(error)) from error
    raise OperationalError(str(error) or type(error).__name__) from error


def connect(path: str, *, begin: str = "BEGIN", pragmas: Iterable[str] = (), busy_ms: int = 10_000) -> Connection:
    """Open ``path``. ``begin`` starts every transaction ("BEGIN IMMEDIATE" for a writer: it waits for its turn at the
    beginning, where waiting is harmless); ``pragmas`` run once, outside any transaction."""
    try:
        return Connection(path, begin, pragmas, busy_ms)
    except apsw.Error as error:
        _raise(error)


class Connection:
    """One connection; used by one thread at a time."""

    def __init__(self, path: str, begin: str, pragmas: Iterable[str], busy_ms: int) -> None:
        self._apsw = apsw.Connection(path)
        self._begin = begin
        self.isolation_level: str | None = ""  # None: autocommit, as in sqlite3
        self._apsw.set_busy_timeout(busy_ms)
        for pragma in pragmas:
            self._apsw.execute(f"PRAGMA {pragma}").fetchall()

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self._end("COMMIT")

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def close(self) -> None:
        self._apsw.close()

    def interrupt(self) -> None:
        """Make the statement running in another thread fail."""
        self._apsw.interrupt()

    def limit_time(self, expired: Callable[[], bool] | None) -> None:
        """Statements fail once ``expired()`` is true; asked every 10,000 steps of SQLite's machine, about 1 ms."""
        self._apsw.set_progress_handler(expired, 10_000)

    def create_function(self, name: str, count: int, function: Callable[..., Any], deterministic: bool = False) -> None:
        self._apsw.create_scalar_function(name, function, count, deterministic=deterministic)

    def _end(self, statement: str) -> None:
        try:
            if self._apsw.in_transaction:
                self._apsw.execute(statement)
        except apsw.Error as error:
            _raise(error)

    def _run(self, sql: str, run: Callable[[apsw.Cursor], Any]) -> tuple[Any, list[tuple[Any, ...]], int, int]:
        """Begin if need be, run, fetch; (description, rows, rows changed, last row id)."""
        described: list[Any] = [None]

        def describe(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
            described[0] = cursor.get_description()
            return True

        try:
            if self.isolation_level is not None and not self._apsw.in_transaction:
                self._apsw.execute(self._begin)
            before = self._apsw.total_changes()
            cursor = self._apsw.cursor()
            cursor.exec_trace = describe  # the only moment an empty result still knows its columns
            run(cursor)
            rows = cursor.fetchall()
            changed = self._apsw.total_changes() - before
            return described[0] or None, rows, changed, self._apsw.last_insert_rowid()
        except apsw.Error as error:
            _raise(error)

    def _run_many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> int:
        try:
            if self.isolation_level is not None and not self._apsw.in_transaction:
                self._apsw.execute(self._begin)
            before = self._apsw.total_changes()
            self._apsw.cursor().executemany(sql, parameters)
            return self._apsw.total_changes() - before
        except apsw.Error as error:
            _raise(error)


class Cursor:
    """DB-API cursor over rows already fetched."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self._rows: Iterator[tuple[Any, ...]] = iter(())

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Cursor:
        columns, rows, changed, last = self.connection._run(sql, lambda cursor: cursor.execute(sql, parameters))
        self.description = tuple((c[0], None, None, None, None, None, None) for c in columns) if columns else None
        self._rows = iter(rows)
        self.rowcount = -1 if columns and not changed else changed
        self.lastrowid = last
        return self

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> Cursor:
        self.rowcount = self.connection._run_many(sql, parameters)
        self.description, self._rows = None, iter(())
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        return [row for _, row in zip(range(size or self.arraysize), self._rows, strict=False)]

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def close(self) -> None:
        self._rows = iter(())

    def setinputsizes(self, sizes: Any) -> None:
        """DB-API asks for it; SQLite has no sizes."""

    def setoutputsize(self, size: Any, column: Any = None) -> None:
        """DB-API asks for it; SQLite has no sizes."""
