"""Messages to people in the outbox; work, photos, maintenance, cases, tickets of the city's platform, canaries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _outbox()
    _work()
    _platform()


def _outbox() -> None:
    """A new table: the old one is unique in what is not any more."""
    for index in ("outbox_open", "outbox_open_by_alarm", "outbox_failed"):
        op.drop_index(index, table_name="outbox")
    op.rename_table("outbox", "outbox_before")
    op.create_table(
        "outbox",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("thread", sa.String(length=300), nullable=False),
        sa.Column("receiver", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("alarm_id", sa.String(length=200), nullable=False),
        sa.Column("rev", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("doubtful", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key", name="outbox_once"),
    )
    op.execute(
        "INSERT INTO outbox (key, thread, receiver, recipient, kind, alarm_id, rev, level, state, attempts, channel,"
        " doubtful, created_at, due_at, ended_at, error)"
        " SELECT alarm_id || '/' || rev || '/' || receiver, alarm_id, receiver, '', 'transition', alarm_id, rev, level,"
        " state, attempts, 0, (1 = 0), created_at, due_at, ended_at, error FROM outbox_before ORDER BY id"
    )
    op.drop_table("outbox_before")
    waiting = sa.text("state IN ('pending', 'sending')")
    failed = sa.text("state = 'failed'")
    op.create_index(
        "outbox_open", "outbox", ["receiver", "level", "id"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_index(
        "outbox_open_by_thread", "outbox", ["receiver", "thread", "id"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_index("outbox_failed", "outbox", ["id"], sqlite_where=failed, postgresql_where=failed)
    op.create_index("outbox_by_recipient", "outbox", ["recipient", "id"])
    op.create_index("outbox_by_alarm", "outbox", ["alarm_id", "rev"])


def _work() -> None:
    with op.batch_alter_table("alarms") as table:
        table.add_column(sa.Column("work", sa.String(length=12), nullable=False, server_default="NONE"))
        table.add_column(sa.Column("work_to", sa.String(length=64), nullable=False, server_default=""))
    with op.batch_alter_table("alarms") as table:
        table.alter_column("work", server_default=None)
        table.alter_column("work_to", server_default=None)
    op.create_index("alarms_by_work", "alarms", ["work", "work_to", "changed_at"])
    op.create_table(
        "photos",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("alarm_id", sa.String(length=200), nullable=False),
        sa.Column("occurrence_id", sa.String(length=26), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("media_type", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", "alarm_id"),
    )
    op.create_index("photos_by_alarm", "photos", ["alarm_id", "at"])
    op.create_table(
        "maintenance",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("asset", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("work", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("maintenance_by_asset", "maintenance", ["asset", "until"])
    op.create_index("maintenance_by_end", "maintenance", ["until"])


def _platform() -> None:
    op.create_table(
        "cases",
        sa.Column("platform", sa.String(length=64), nullable=False),
        sa.Column("occurrence_id", sa.String(length=26), nullable=False),
        sa.Column("alarm_id", sa.String(length=200), nullable=False),
        sa.Column("number", sa.String(length=100), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "occurrence_id"),
    )
    op.create_index("cases_by_number", "cases", ["platform", "number"])
    op.create_index("cases_by_alarm", "cases", ["alarm_id", "opened_at"])
    op.create_index("cases_by_time", "cases", [sa.text("opened_at DESC"), "platform", "occurrence_id"])
    op.create_table(
        "tickets",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("platform", sa.String(length=64), nullable=False),
        sa.Column("number", sa.String(length=100), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("class", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("alarm_id", sa.String(length=200), nullable=True),
        sa.Column("occurrence_id", sa.String(length=26), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("platform", "number", name="tickets_once"),
    )
    op.create_index("tickets_by_time", "tickets", ["at", "id"])
    op.create_table(
        "canaries",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("hops", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("canaries_by_time", "canaries", ["at"])
