"""Alembic's entry: runs the migrations on the connection that ``gateway.store.migrate`` hands over.

All pending migrations are one transaction, on SQLite too (our driver begins before DDL): a process killed in the middle
leaves the old schema, whole.
"""

from alembic import context

from gateway.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
