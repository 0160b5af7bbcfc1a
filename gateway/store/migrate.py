"""Brings the store's schema up to this program's, or refuses a schema that is newer than the program."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from gateway.errors import ConfigError, Mistake
from gateway.store import dialect

_FOLDER = Path(__file__).with_name("migrations")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def head() -> str:
    """The revision this program needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None, "the package has no migrations"
    return revision


def upgrade(engine: sa.Engine) -> str | None:
    """Run what is pending, in one transaction. Returns the revision found before, None for an empty database.

    Raises ConfigError when the database was written by a newer citywatch: an older program would misread it.
    """
    config = _config()
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    with engine.connect() as connection:
        before = dialect.schema_version_of(connection)
        connection.rollback()
        if before is not None and before not in known:
            raise ConfigError(
                [
                    Mistake(
                        engine.url.render_as_string(hide_password=True),
                        None,
                        "",
                        f"the store has schema {before}, which this citywatch does not know: it was written by a newer "
                        f"version. Start that version, or restore a backup made before the upgrade.",
                    )
                ]
            )
        if before != script.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    return before
