"""Everything that differs between SQLite and PostgreSQL: engines, upserts, checks, and reading their errors.

The rest of the store is SQLAlchemy Core that both understand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, registry, sqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.interfaces import DBAPIModule
from sqlalchemy.pool import QueuePool, StaticPool

from gateway.errors import StorageFailed
from gateway.store import apsw_dbapi

READERS = 4  # short read connections; the console's queries are milliseconds
READ_TIME_S = 5.0  # a query that takes longer is an attack or a missing index: it fails, alone


class SQLiteDialect_apsw(SQLiteDialect_pysqlite):
    """SQLAlchemy's SQLite on apsw: ``sqlite+apsw:///file``."""

    driver = "apsw"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> DBAPIModule:
        return apsw_dbapi  # type: ignore[return-value]

    def create_connect_args(self, url: sa.URL) -> Any:
        return ([url.database or ":memory:"], {})

    def on_connect(self) -> None:  # type: ignore[override]
        return None  # pysqlite's REGEXP and floor() are not ours

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        return False


registry.register("sqlite.apsw", __name__, "SQLiteDialect_apsw")


def url_of(place: Path | str) -> sa.URL:
    """A data folder (the file is ``store.db`` in it) or a database URL, as a URL."""
    if isinstance(place, Path) or "://" not in place:
        return sa.URL.create("sqlite+apsw", database=str(Path(place).absolute() / "store.db"))
    url = sa.make_url(place)
    return url.set(drivername="sqlite+apsw") if url.get_backend_name() == "sqlite" else url


def writer_engine(url: sa.URL, synchronous: str = "FULL") -> sa.Engine:
    """The one connection that writes, kept open. Raises StorageFailed when this SQLite is too old."""
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, poolclass=StaticPool)
    if apsw_dbapi.sqlite_version_info < apsw_dbapi.SAFE_VERSION:
        raise StorageFailed(
            f"SQLite {apsw_dbapi.sqlite_version} can corrupt a WAL database; apsw with SQLite 3.51.3 or newer is needed"
        )
    pragmas = (
        "journal_mode=WAL",
        f"synchronous={synchronous}",  # FULL: NORMAL lost 2,600-3,900 committed rows per power cut
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-8000",  # kB; the working set is the live alarms and the outbox's head
        "journal_size_limit=67108864",
    )
    arguments = {"begin": "BEGIN IMMEDIATE", "pragmas": pragmas}
    return sa.create_engine(url, poolclass=StaticPool, connect_args=arguments)


def reader_engine(url: sa.URL) -> sa.Engine:
    """Connections that cannot write; each statement is stopped after READ_TIME_S."""
    if url.get_backend_name() != "sqlite":
        engine = sa.create_engine(url, pool_size=READERS, max_overflow=0)

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(READ_TIME_S * 1000)}")

        return engine
    arguments = {"begin": "BEGIN", "pragmas": ("query_only=ON", "temp_store=MEMORY", "cache_size=-2000")}
    engine = sa.create_engine(url, poolclass=QueuePool, pool_size=READERS, max_overflow=0, connect_args=arguments)

    @sa.event.listens_for(engine, "checkout")
    def _limit(connection: Any, record: Any, proxy: Any) -> None:
        until = time.monotonic() + READ_TIME_S
        connection.limit_time(lambda: time.monotonic() > until)

    return engine


def upsert(
    dialect: str,
    table: sa.Table,
    *,
    key: tuple[str, ...],
    where: Callable[[Any], sa.ColumnElement[bool]] | None = None,
    keep: bool = False,
) -> Any:
    """INSERT that meets an existing ``key``: ``keep`` leaves the old row, else every other column is replaced where
    ``where(excluded)`` is true."""
    statement: Any = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    if keep:
        return statement.on_conflict_do_nothing(index_elements=key)
    changed = {
        c.name: statement.excluded[c.name] for c in table.columns if c.name not in key and c.autoincrement is not True
    }
    return statement.on_conflict_do_update(
        index_elements=key, set_=changed, where=where(statement.excluded) if where is not None else None
    )


class ManyRows:
    """An INSERT that is given thousands of rows at a time: compiled once, its rows handed to the driver as they are.

    SQLAlchemy looks at every value of every row once more: a tenth of all the work of a storm. The values must be such
    as the driver takes: numbers, text, None, and bool. Every row has the columns of the first one ever given.
    """

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._text = ""
        self._order: tuple[str, ...] | None = None  # None: the driver takes rows by name

    def write(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """All ``rows``; nothing when there are none."""
        if not rows:
            return
        if not self._text:
            compiled = self._statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
            self._text = str(compiled)
            self._order = tuple(compiled.positiontup) if compiled.positional else None
        order = self._order
        given: Any = list(rows) if order is None else [tuple([row[name] for name in order]) for row in rows]
        connection.exec_driver_sql(self._text, given)


def contains(
    dialect: str, column: sa.ColumnElement[Any], text: str, between: tuple[str, str] = ("", "")
) -> sa.ColumnElement[bool]:
    """``text`` stands in ``column``, whatever its case; with ``between`` somewhere between these two."""

    def plain(part: str) -> str:
        return part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

    before, behind = map(plain, between)
    pattern = f"%{before}%{plain(text)}%{behind}%" if before or behind else f"%{plain(text)}%"
    if dialect == "postgresql":
        return column.ilike(pattern, escape="\\")
    return column.like(pattern, escape="\\")  # SQLite's LIKE takes ASCII letters for equal by itself


def before_slash(dialect: str, column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """The text of ``column`` up to its first slash, all of it when there is none."""
    find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
    return sa.func.substr(column, 1, find(column.concat("/"), "/") - 1)


def check(connection: sa.Connection) -> None:
    """SQLite's quick_check; raises StorageFailed with the first complaint. PostgreSQL looks after itself."""
    if connection.dialect.name != "sqlite":
        return
    answer = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if answer != "ok":
        raise StorageFailed(f"store.db is damaged: {answer}")


def schema_version_of(connection: sa.Connection) -> str | None:
    """The Alembic revision in the database, None in an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return version


def private(url: sa.URL) -> None:
    """The SQLite file exists and only its owner can read it."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def is_disk_full(error: BaseException) -> bool:
    """True when the database's own answer was "no room"."""
    return _caused_by(error, "FullError", "DiskFull")


def is_timeout(error: BaseException) -> bool:
    """True when a read was stopped because it took longer than READ_TIME_S."""
    return _caused_by(error, "InterruptError", "QueryCanceled")


def _caused_by(error: BaseException, *names: str) -> bool:
    """One of the driver's exceptions (apsw's, psycopg's) is somewhere down the chain of causes."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in names:
            return True
        seen = seen.__cause__
    return False
