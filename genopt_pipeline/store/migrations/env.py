"""Alembic's environment: runs the migrations on a connection that the caller supplies."""

from alembic import context

from genopt_pipeline.store.migrations.env_filter import is_ours
from genopt_pipeline.store.schema import SCHEMA, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table="schema_version",
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=is_ours,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
