"""People who sign in, scopes, saved views, notes, shift handovers, changes of rules; transitions that can be searched.

Sessions are made anew: who was signed in signs in again. Roles are renumbered: maintainer and engineer came between.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _people()
    _console()
    _transitions()


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("full_name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.SmallInteger(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("password", sa.String(length=256), nullable=True),
        sa.Column("must_change", sa.Boolean(), nullable=False),
        sa.Column("subject", sa.String(length=320), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("subject", name="users_subject"),
    )
    op.drop_table("sessions")
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("user", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("sessions_by_token", "sessions", ["token_hash"], unique=False)
    op.create_index("sessions_by_user", "sessions", ["user"], unique=False)
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("scope", sa.Text(), nullable=False, server_default="{}"))
    with op.batch_alter_table("tokens") as table:
        table.alter_column("scope", server_default=None)
    # admin 4 → 6 before supervisor 3 → 4
    op.execute("UPDATE tokens SET role = 6 WHERE role = 4")
    op.execute("UPDATE tokens SET role = 4 WHERE role = 3")


def _console() -> None:
    op.create_table(
        "saved_views",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("page", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "page", "name"),
    )
    op.create_table(
        "asset_notes",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("asset", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("asset_notes_by_asset", "asset_notes", ["asset", "id"], unique=False)
    op.create_table(
        "handovers",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("left_by", sa.Text(), nullable=False),
        sa.Column("left_at", sa.BigInteger(), nullable=False),
        sa.Column("left_words", sa.Text(), nullable=False),
        sa.Column("taken_by", sa.Text(), nullable=True),
        sa.Column("taken_at", sa.BigInteger(), nullable=True),
        sa.Column("taken_words", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "rule_changes",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("rule", sa.String(length=128), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("undoes", sa.BigInteger(), nullable=True),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rule_changes_by_rule", "rule_changes", ["rule", "id"], unique=False)


def _transitions() -> None:
    columns: dict[str, sa.types.TypeEngine[Any]] = {
        "asset": sa.String(length=64),
        "kind": sa.String(length=32),
        "level": sa.SmallInteger(),
        "cause": sa.String(length=16),
    }
    with op.batch_alter_table("transitions") as table:
        for name, type_ in columns.items():
            table.add_column(sa.Column(name, type_, nullable=True))
        table.add_column(sa.Column("by", sa.Text(), nullable=True))
    op.execute(_FILL_POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _FILL_SQLITE)
    with op.batch_alter_table("transitions") as table:
        for name, type_ in columns.items():
            table.alter_column(name, existing_type=type_, nullable=False)
    op.drop_index("transitions_by_time", table_name="transitions")
    op.create_index("transitions_by_time", "transitions", ["at", "alarm_id", "rev"], unique=False)
    op.create_index("transitions_by_asset", "transitions", ["asset", "at"], unique=False)
    op.create_index("audit_by_time", "audit", ["at", "id"], unique=False)
    failed = sa.text("state = 'failed'")
    op.create_index("outbox_failed", "outbox", ["id"], unique=False, sqlite_where=failed, postgresql_where=failed)


_FILL_SQLITE = """
UPDATE transitions SET
  asset = document ->> '$.record.asset',
  kind = document ->> '$.record.kind',
  level = document ->> '$.record.level',
  cause = document ->> '$.cause',
  "by" = document ->> '$.by'
"""
_FILL_POSTGRESQL = """
UPDATE transitions SET
  asset = document::json #>> '{record,asset}',
  kind = document::json #>> '{record,kind}',
  level = (document::json #>> '{record,level}')::smallint,
  cause = document::json ->> 'cause',
  "by" = document::json ->> 'by'
"""
