"""Alembic's environment: runs the migrations on a connection that the caller supplies."""

from alembic import context

from genopt_pipeline.store.schema import SCHEMA, metadata


def is_ours(name: str | None, type_: str, _parents: object) -> bool:
    """Leave other schemas, and the monthly partitions that are made at run time, alone."""
    if type_ == "schema":
        return name == SCHEMA
    return not (type_ == "table" and (name or "").startswith("post_metric_snapshots_"))


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
