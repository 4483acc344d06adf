"""What a database says of its own set-up: privileges, search path, partitions, names, clock."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

from genopt_pipeline.store.engine import CONNECT_TIMEOUT_SECONDS
from genopt_pipeline.store.schema import SCHEMA, metadata


def missing_privileges(connection: Connection) -> dict[str, Collection[str]]:
    """Privileges that the connected role lacks on the schema and its tables."""
    missing: dict[str, list[str]] = {}
    if not connection.scalar(
        text("SELECT has_schema_privilege(:schema, 'USAGE')"), {"schema": SCHEMA}
    ):
        return {f"schema {SCHEMA}": ["USAGE"]}
    rows = connection.execute(
        text("""
            SELECT name, privilege
              FROM unnest(CAST(:names AS text[])) AS name,
                   unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
             WHERE NOT has_table_privilege(name, privilege)
             ORDER BY name, privilege
        """),
        {"names": [table.fullname for table in metadata.sorted_tables]},
    )
    for name, privilege in rows:
        missing.setdefault(name, []).append(privilege)
    # batches go in through a staging table
    if not connection.scalar(
        text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
    ):
        missing["the database"] = ["TEMPORARY"]
    return dict(missing)


def visible_schemas(url: URL) -> list[str]:
    """Schemas on the search path of a connection that asks for none, as psql's are."""
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    )
    try:
        with engine.connect() as connection:
            return list(connection.scalar(text("SELECT current_schemas(false)")) or ())
    finally:
        engine.dispose()


def snapshot_months(connection: Connection) -> list[str]:
    """Months (YYYYMM) that ``post_metric_snapshots`` has partitions for."""
    return list(
        connection.scalars(
            text("""
                SELECT right(c.relname, 6) FROM pg_inherits i
                  JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = 'genopt.post_metric_snapshots'::regclass
                   AND c.relname ~ '_[0-9]{6}$' ORDER BY 1
            """)
        )
    )


def names_resolved_otherwise(connection: Connection, account_id: str) -> list[str]:
    """Registered generators whose own name an alias gives to another, or to none."""
    return list(
        connection.scalars(
            text("""
                SELECT generator_name FROM genopt.generator_weights
                 WHERE account_id = :account
                   AND genopt.resolve_generator(:account, generator_name)
                       IS DISTINCT FROM generator_name
                 ORDER BY 1
            """),
            {"account": account_id},
        )
    )


def database_time(connection: Connection) -> datetime:
    """The database's clock."""
    value: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return value


def table_exists(connection: Connection, name: str) -> bool:
    """Whether a table of that name is on the search path."""
    return bool(connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name}))
