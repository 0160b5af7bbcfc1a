"""Brings the store's schema up to this program's, or refuses a schema that is newer than the program.

Alembic is loaded only when there is something to do: an ordinary start is half a second and 7 MB the better for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.errors import ConfigError, Mistake
from gateway.store import dialect
from gateway.store.schema import REVISION

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).with_name("migrations")


def configuration() -> Config:
    """Alembic's configuration, without an alembic.ini. To write a new migration:
    ``alembic.command.revision(configuration(), "what it does")``."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def upgrade(engine: sa.Engine) -> str | None:
    """Run what is pending, in one transaction. Returns the revision found before, None for an empty database.

    Raises ConfigError when the database was written by a newer citywatch: an older program would misread it.
    """
    with engine.connect() as connection:
        before = dialect.schema_version_of(connection)
        connection.rollback()
        if before == REVISION:
            return before

        from alembic import command
        from alembic.script import ScriptDirectory

        config = configuration()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if before is not None and before not in known:
            raise ConfigError([Mistake(engine.url.render_as_string(hide_password=True), None, "", _newer(before))])
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    return before


def must_be_current(engine: sa.Engine) -> None:
    """Raises ConfigError unless the schema is this program's."""
    with engine.connect() as connection:
        found = dialect.schema_version_of(connection)
    if found != REVISION:
        said = f"the running gateway has schema {found}, this citywatch {REVISION}: restart the gateway first"
        raise ConfigError([Mistake(engine.url.render_as_string(hide_password=True), None, "", said)])


def _newer(revision: str) -> str:
    return (
        f"the store has schema {revision}, which this citywatch does not know: it was written by a newer version. "
        "Start that version, or restore a backup made before the upgrade."
    )
