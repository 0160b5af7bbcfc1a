"""The schema: from empty, from every older version, never from a newer one, and never half."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.errors import ConfigError
from gateway.store import dialect, migrate
from gateway.store.schema import REVISION, metadata
from gateway.store.store import Store
from tests.console.city import START, record, step
from tests.store.forked import forked


def engine_at(folder: Path) -> sa.Engine:
    return dialect.writer_engine(dialect.url_of(folder))


async def test_an_empty_folder_gets_the_newest_schema(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "made" / "by" / "us")
    assert store.schema_before is None
    await store.close()
    store = await Store.open(tmp_path / "made" / "by" / "us")
    assert store.schema_before == REVISION
    await store.close()


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    engine = engine_at(tmp_path)
    migrate.upgrade(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        indexes = {i["name"] for table in metadata.tables for i in sa.inspect(connection).get_indexes(table)}
    assert indexes >= {index.name for table in metadata.tables.values() for index in table.indexes}
    engine.dispose()


def test_there_is_one_line_of_migrations_and_the_code_knows_its_end() -> None:
    script = ScriptDirectory.from_config(migrate.configuration())
    assert script.get_heads() == [REVISION]
    assert len(script.get_bases()) == 1


async def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await store.close()
    engine = engine_at(tmp_path)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="newer"):
        await Store.open(tmp_path)


def test_a_failed_migration_leaves_the_old_schema_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has transactional DDL, and our driver begins before it."""
    engine = engine_at(tmp_path)
    made: list[str] = []

    def fail(*arguments: object, **more: object) -> None:
        made.append("table")
        if len(made) == 8:
            raise RuntimeError("killed here")

    sa.event.listen(sa.Table, "after_create", fail)
    try:
        with pytest.raises(RuntimeError):
            migrate.upgrade(engine)
    finally:
        sa.event.remove(sa.Table, "after_create", fail)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    assert migrate.upgrade(engine) is None
    with engine.connect() as connection:
        assert set(sa.inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    engine.dispose()


def migrate_until_killed(folder: Path, statements: int) -> None:
    """Upgrade an empty store; the process ends by SIGKILL before the statement of that number."""
    engine = engine_at(folder)
    left = [statements]

    def count(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(engine, "before_cursor_execute", count)
    migrate.upgrade(engine)


def test_the_second_schema_keeps_roles_and_makes_old_transitions_searchable(tmp_path: Path) -> None:
    from alembic import command

    engine = engine_at(tmp_path)
    with engine.connect() as connection:
        config = migrate.configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for name, role in (("eyes", 1), ("night", 2), ("boss", 3), ("root", 4)):
            connection.execute(
                sa.text("INSERT INTO tokens (hash, name, role, created_at) VALUES (:n, :n, :r, 0)"),
                {"n": name, "r": role},
            )
        document = """{"cause": "T10", "by": "li", "record": {"asset": "w1", "kind": "cover", "level": 2}}"""
        connection.execute(sa.text(f"INSERT INTO transitions VALUES ('w1/open', 1, 7, 9, '{document}')"))
        connection.commit()
    assert migrate.upgrade(engine) == "0001"
    with engine.connect() as connection:
        roles = connection.execute(sa.text("SELECT name, role, scope FROM tokens ORDER BY role")).all()
        step = connection.execute(sa.text('SELECT asset, kind, level, cause, "by", at FROM transitions')).one()
    assert [(name, role) for name, role, _ in roles] == [("eyes", 1), ("night", 2), ("boss", 4), ("root", 6)]
    assert {scope for *_, scope in roles} == {"{}"}
    assert tuple(step) == ("w1", "cover", 2, "T10", "li", 9)
    engine.dispose()


@pytest.mark.faults
@pytest.mark.parametrize("statements", [1, 6, 11, 16, 21, 26, 31, 38, 45, 52])
def test_kill_9_at_any_statement_of_a_migration_leaves_the_old_schema_whole(tmp_path: Path, statements: int) -> None:
    with forked(lambda say: migrate_until_killed(tmp_path, statements)) as child:
        assert child.wait() == -signal.SIGKILL
    engine = engine_at(tmp_path)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    migrate.upgrade(engine)
    engine.dispose()


def test_postgresql_understands_the_same_schema_and_statements() -> None:
    """No server here: compiled for its dialect, nothing SQLite-only is left."""
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateIndex, CreateTable

    target = postgresql.dialect()
    for table in metadata.sorted_tables:
        text = str(CreateTable(table).compile(dialect=target))
        for index in table.indexes:
            text += str(CreateIndex(index).compile(dialect=target))
        key = tuple(column.name for column in table.primary_key)
        text += str(dialect.upsert("postgresql", table, key=key).compile(dialect=target))
        assert "AUTOINCREMENT" not in text
        assert "ON CONFLICT" in text
    assert "BIGSERIAL" in str(CreateTable(metadata.tables["outbox"]).compile(dialect=target))


async def test_the_third_schema_keeps_what_waits_in_the_outbox(tmp_path: Path) -> None:
    """Notifications under way when the gateway is upgraded are sent afterwards, under the keys they had."""
    from alembic import command

    engine = engine_at(tmp_path)
    document = msgspec.json.encode(step(record("lamp-1"))).decode()
    with engine.connect() as connection:
        config = migrate.configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(
            sa.text("INSERT INTO transitions VALUES ('lamp-1/lamp-out', 1, 7, 9, :d, 'lamp-1', 'lamp', 4, 'T3', NULL)"),
            {"d": document},
        )
        for receiver, state in (("ops", "pending"), ("crew", "delivered"), ("desk", "sending")):
            connection.execute(
                sa.text(
                    "INSERT INTO outbox (alarm_id, rev, receiver, level, state, attempts, created_at, due_at)"
                    " VALUES ('lamp-1/lamp-out', 1, :r, 4, :s, 1, 9, 9)"
                ),
                {"r": receiver, "s": state},
            )
        connection.commit()
    engine.dispose()
    store = await Store.open(tmp_path)
    assert store.schema_before == "0002"
    [waiting] = await store.claim("ops", START, 60, 10)
    assert (waiting.key, waiting.attempt) == ("lamp-1/lamp-out/1/ops", 2)
    assert waiting.transition == step(record("lamp-1"))
    assert await store.claim("crew", START, 60, 10) == []
    await store.unclaim()
    [in_the_air] = await store.claim("desk", START, 60, 10)
    assert in_the_air.doubtful
    await store.close()
