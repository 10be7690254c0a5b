"""Alembic's entry: runs the migrations over the connection that `assistance.storage.migrate` hands in."""

from __future__ import annotations

from alembic import context

from assistance.storage.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("Run migrations with `assistance migrate`; it knows the database and takes the lock.")

context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
