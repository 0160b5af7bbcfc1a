"""The tables: what the gateway must still know after a crash, besides readings and raw frames.

Times are microseconds UTC (BIGINT). A row that a program reads whole keeps its document as JSON; the columns beside it
are those that queries filter and sort by. Changing anything here needs a migration (``migrations/versions``); a test
compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa

REVISION = "0003"  # the newest migration
NORMAL_RANK = 9  # of a normal alarm: behind every standing one

metadata = sa.MetaData()

# SQLite gives a rowid only to INTEGER PRIMARY KEY; PostgreSQL wants 64 bits.
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

progress = sa.Table(  # "position": the journal position up to which the store is true; other names are cursors
    "progress",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

alarms = sa.Table(  # the live record of every alarm that ever had a transition
    "alarms",
    metadata,
    sa.Column("alarm_id", sa.String(200), primary_key=True),
    sa.Column("asset", sa.String(64), nullable=False),
    sa.Column("rule", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("rev", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("rank", sa.SmallInteger, nullable=False),  # the level while it stands, 9 when NORM: the list's order
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("search", sa.Text, nullable=False),  # id and titles, lower case
    sa.Column("work", sa.String(12), nullable=False),  # the work region
    sa.Column("work_to", sa.String(64), nullable=False),  # who has the work; "" while there is none
    sa.Column("record", sa.Text, nullable=False),
)
sa.Index("alarms_in_order", alarms.c.rank, alarms.c.changed_at.desc(), alarms.c.alarm_id)
sa.Index("alarms_by_asset", alarms.c.asset)
sa.Index("alarms_by_work", alarms.c.work, alarms.c.work_to, alarms.c.changed_at)

transitions = sa.Table(  # every recorded step, with the record after it; folding them gives ``alarms``
    "transitions",
    metadata,
    sa.Column("alarm_id", sa.String(200), primary_key=True),
    sa.Column("rev", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("asset", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("cause", sa.String(16), nullable=False),
    sa.Column("by", sa.Text),  # the person, when it was one
    sa.Column("document", sa.Text, nullable=False),
)
sa.Index("transitions_by_time", transitions.c.at, transitions.c.alarm_id, transitions.c.rev)
sa.Index("transitions_by_asset", transitions.c.asset, transitions.c.at)

outbox = sa.Table(  # one row a notification a machine (a transition), or a message a person
    "outbox",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(400), nullable=False),  # the same in every attempt and every replay
    sa.Column("thread", sa.String(300), nullable=False),  # rows of one thread leave in their order
    sa.Column("receiver", sa.String(64), nullable=False),
    sa.Column("recipient", sa.String(64), nullable=False),  # the person; "" where a machine is told
    sa.Column("kind", sa.String(12), nullable=False),  # "transition", or a MessageKind
    sa.Column("alarm_id", sa.String(200), nullable=False),  # of a message: the first alarm it names
    sa.Column("rev", sa.BigInteger, nullable=False),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("channel", sa.SmallInteger, nullable=False),  # which of the person's channels is tried
    sa.Column("doubtful", sa.Boolean, nullable=False),  # an earlier attempt may have arrived
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),  # pending: not before; sending: the attempt is lost after
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Column("message", sa.Text),  # core.notification.Message as JSON; null: the transition (alarm_id, rev)
    sa.UniqueConstraint("key", name="outbox_once"),
)
_OPEN = outbox.c.state.in_(("pending", "sending"))
sa.Index(
    "outbox_open",
    outbox.c.receiver,
    outbox.c.level,
    outbox.c.id,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)
sa.Index(
    "outbox_open_by_thread",
    outbox.c.receiver,
    outbox.c.thread,
    outbox.c.id,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)
sa.Index("outbox_by_recipient", outbox.c.recipient, outbox.c.id)
sa.Index("outbox_by_alarm", outbox.c.alarm_id, outbox.c.rev)

GIVEN_UP = "failed"
sa.Index(
    "outbox_failed",
    outbox.c.id,
    sqlite_where=outbox.c.state == GIVEN_UP,
    postgresql_where=outbox.c.state == GIVEN_UP,
)

rejected = sa.Table(  # frames that became no readings; a ring by bytes, oldest go first
    "rejected",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("index", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("device", sa.String(128), nullable=False),  # "" when unknown
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("retained", sa.Boolean, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("payload_size", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),  # what this row counts for in the caps
)
sa.Index("rejected_by_device", rejected.c.device, rejected.c.position, rejected.c["index"])

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("asset", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("road", sa.String(200), nullable=False),
    sa.Column("town", sa.String(200), nullable=False),
    sa.Column("unit", sa.String(200), nullable=False),
    sa.Column("search", sa.Text, nullable=False),  # id and name, lower case
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
sa.Index("assets_by_kind", assets.c.kind)

devices = sa.Table(
    "devices",
    metadata,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("asset", sa.String(64), nullable=False),
    sa.Column("profile", sa.String(128), nullable=False),
    sa.Column("address", sa.String(256), nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
sa.Index("devices_by_asset", devices.c.asset)

commands = sa.Table(  # what people asked for and how it ended: a command is carried out once
    "commands",
    metadata,
    sa.Column("command_id", sa.String(200), primary_key=True),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("alarm_id", sa.String(200), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("channel", sa.String(64), nullable=False),
    sa.Column("why", sa.Text),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("refused_code", sa.String(64)),
    sa.Column("refused_text", sa.Text),
)

audit = sa.Table(  # who, what, to what, why; ``once`` keeps a replay from writing the same line twice
    "audit",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("once", sa.String(240), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("channel", sa.String(64), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(256), nullable=False),
    sa.Column("outcome", sa.String(64), nullable=False),
    sa.Column("why", sa.Text),
    sa.UniqueConstraint("once", name="audit_once"),
)
sa.Index("audit_by_time", audit.c.at, audit.c.id)

configurations = sa.Table(  # every bundle of rules and profiles that was ever in force, by its hash
    "configurations",
    metadata,
    sa.Column("hash", sa.String(128), primary_key=True),
    sa.Column("bundle", sa.Text, nullable=False),
    sa.Column("saved_at", sa.BigInteger, nullable=False),
    sa.Column("current", sa.Boolean, nullable=False),
)

tokens = sa.Table(  # SHA-256 of 256 random bits: nothing to guess, so no slow hash is needed
    "tokens",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("role", sa.SmallInteger, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),  # core.access.Scope as JSON
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    sa.UniqueConstraint("name", name="tokens_name"),
)

users = sa.Table(  # people who sign in; the password as argon2 makes it, null for who signs in elsewhere (OIDC)
    "users",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("full_name", sa.String(100), nullable=False),
    sa.Column("role", sa.SmallInteger, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("password", sa.String(256)),
    sa.Column("must_change", sa.Boolean, nullable=False),  # somebody else knows the password
    sa.Column("subject", sa.String(320)),  # "<issuer> <sub>" of OIDC
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),  # role, scope, password: older sessions are void
    sa.Column("disabled_at", sa.BigInteger),
    sa.UniqueConstraint("subject", name="users_subject"),
)

sessions = sa.Table(  # browsers signed in, with a token or as a user; the cookie's hash, never the cookie
    "sessions",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("token_hash", sa.String(64)),
    sa.Column("user", sa.String(64)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)
sa.Index("sessions_by_token", sessions.c.token_hash)
sa.Index("sessions_by_user", sessions.c.user)

saved_views = sa.Table(  # filters and columns of a page of the console, by person; the owner "" shares with all
    "saved_views",
    metadata,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("page", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
)

asset_notes = sa.Table(  # what people wrote about an asset
    "asset_notes",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("asset", sa.String(64), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
sa.Index("asset_notes_by_asset", asset_notes.c.asset, asset_notes.c.id)

handovers = sa.Table(  # the report of a shift, frozen when the leaving shift signs; signed by both
    "handovers",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),  # whose shift: core.records.Scope as JSON
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("left_by", sa.Text, nullable=False),
    sa.Column("left_at", sa.BigInteger, nullable=False),
    sa.Column("left_words", sa.Text, nullable=False),
    sa.Column("taken_by", sa.Text),
    sa.Column("taken_at", sa.BigInteger),
    sa.Column("taken_words", sa.Text),
)

rule_changes = sa.Table(  # every change of a rule made through the API: null before: new; null after: removed
    "rule_changes",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("rule", sa.String(128), nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Column("undoes", sa.BigInteger),  # the id of the change it takes back
    sa.Column("kept", sa.Boolean, nullable=False),  # ``after`` is a file of the console's; else the rule files count
    sa.Column("settled", sa.Boolean, nullable=False),  # that file is as this row says
)
sa.Index("rule_changes_by_rule", rule_changes.c.rule, rule_changes.c.id)

photos = sa.Table(  # what a crew saw; the id is the SHA-256 of the content
    "photos",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("alarm_id", sa.String(200), primary_key=True),
    sa.Column("occurrence_id", sa.String(26), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("media_type", sa.String(32), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
sa.Index("photos_by_alarm", photos.c.alarm_id, photos.c.at)

maintenance = sa.Table(  # assets out of service for a time; the id is made from that of the command
    "maintenance",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("asset", sa.String(64), nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("work", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("ended_by", sa.Text),
)
sa.Index("maintenance_by_asset", maintenance.c.asset, maintenance.c.until)
sa.Index("maintenance_by_end", maintenance.c.until)

cases = sa.Table(  # alarms registered with the city's platform; the occurrence that a case began with is its key
    "cases",
    metadata,
    sa.Column("platform", sa.String(64), primary_key=True),
    sa.Column("occurrence_id", sa.String(26), primary_key=True),
    sa.Column("alarm_id", sa.String(200), nullable=False),
    sa.Column("number", sa.String(100)),  # the platform's own, once it has said it
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("opened_at", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("closed_at", sa.BigInteger),
    sa.Column("document", sa.Text, nullable=False),  # core.cases.CaseRow as JSON
)
sa.Index("cases_by_time", cases.c.opened_at.desc(), cases.c.platform, cases.c.occurrence_id)
sa.Index("cases_by_number", cases.c.platform, cases.c.number)
sa.Index("cases_by_alarm", cases.c.alarm_id, cases.c.opened_at)

tickets = sa.Table(  # what the platform tells us: reports of citizens, of inspectors
    "tickets",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("platform", sa.String(64), nullable=False),
    sa.Column("number", sa.String(100), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),  # when it was seen
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("class", sa.String(64), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("longitude", sa.Float),
    sa.Column("latitude", sa.Float),
    sa.Column("alarm_id", sa.String(200)),  # the alarm it is about, when one fits
    sa.Column("occurrence_id", sa.String(26)),
    sa.Column("document", sa.Text, nullable=False),  # core.cases.TicketRow as JSON
    sa.UniqueConstraint("platform", "number", name="tickets_once"),
)
sa.Index("tickets_by_time", tickets.c.at, tickets.c.id)

canaries = sa.Table(  # alarms that prove the whole path: when each was where
    "canaries",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),  # "delivered", "late", "lost"
    sa.Column("hops", sa.Text, nullable=False),  # {hop: ms since the one before}, as JSON
)
sa.Index("canaries_by_time", canaries.c.at)
