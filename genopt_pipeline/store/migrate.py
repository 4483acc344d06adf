"""Preparing the databases: creating them, migrating the schema, checking its version."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.engine import make_url

from genopt_pipeline.store.engine import open_engine, reading_errors
from genopt_pipeline.store.schema import SCHEMA

MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaVersionError(RuntimeError):
    """The database's schema is not the one that this version of the code works with."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The newest revision that this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise SchemaVersionError("the package has no migrations; it is not installed whole")
    return head


def current_revision(connection: Connection) -> str | None:
    """The revision of the database; None if it was never migrated."""
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": SCHEMA}
    )
    return context.get_current_revision()


def check_revision(connection: Connection) -> None:
    """Refuse a database that this code does not fit.

    Raises
    ------
    SchemaVersionError
        The database is older (migrate), newer (upgrade the package) or was never migrated.
    """
    current, head = current_revision(connection), head_revision()
    if current == head:
        return
    if current is None:
        raise SchemaVersionError("the database has no genopt schema yet; run `genopt migrate`")
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current not in known:
        raise SchemaVersionError(
            f"the database is at revision {current}, which is newer than this version of genopt "
            f"knows ({head}); upgrade genopt, or use the database it was made for"
        )
    raise SchemaVersionError(
        f"the database is at revision {current} and this version of genopt needs {head}; "
        "run `genopt migrate`"
    )


def create_database(url: URL) -> bool:
    """Create the database of ``url`` unless it exists; True if it was created.

    Connects to the database itself first, so that a user without the right to create databases
    can work with one that an administrator made.
    """
    from psycopg import OperationalError as PsycopgError

    plain = url.set(drivername="postgresql+psycopg")
    engine = open_engine(plain)
    try:
        with engine.connect():
            return False
    except Exception as error:
        missing = f'database "{url.database}" does not exist'
        if not (isinstance(getattr(error, "orig", None), PsycopgError) and missing in str(error)):
            with reading_errors(plain):
                raise
            raise
    finally:
        engine.dispose()
    admin = create_engine(plain.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        with reading_errors(plain), admin.connect() as connection:
            quoted = connection.dialect.identifier_preparer.quote_identifier(str(url.database))
            exists = connection.scalar(
                text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": url.database}
            )
            if not exists:
                connection.execute(text(f"CREATE DATABASE {quoted} ENCODING 'UTF8'"))
    finally:
        admin.dispose()
    return True


def upgrade(url: URL, revision: str = "head") -> str:
    """Migrate the database to ``revision`` in one transaction and return where it stands.

    Raises
    ------
    SchemaVersionError
        The database is newer than this code.
    """
    engine = open_engine(url, search_path="public")
    try:
        with reading_errors(url), engine.begin() as connection:
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtext('genopt.migrate'))")
            )  # two processes may start at once
            current = current_revision(connection)
            if current is not None:
                script = ScriptDirectory.from_config(_config())
                known = {item.revision for item in script.walk_revisions()}
                if current not in known:
                    check_revision(connection)
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            command.upgrade(_config(connection), revision)
            name = connection.dialect.identifier_preparer.quote_identifier(str(url.database))
            # so that unqualified queries in psql find the tables
            connection.execute(text(f"ALTER DATABASE {name} SET search_path = {SCHEMA}, public"))
            return current_revision(connection) or "base"
    finally:
        engine.dispose()


def downgrade(url: URL, revision: str = "base") -> None:
    """Take the schema back to ``revision``; ``base`` removes every table with its data."""
    engine = open_engine(url, search_path="public")
    try:
        with reading_errors(url), engine.begin() as connection:
            command.downgrade(_config(connection), revision)
    finally:
        engine.dispose()


def url_from(value: str) -> URL:
    """Parse a URL and give it the driver that the store uses."""
    return make_url(value).set(drivername="postgresql+psycopg")
