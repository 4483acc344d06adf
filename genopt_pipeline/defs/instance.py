"""Where Dagster keeps its runs, events and ticks: the PostgreSQL that the settings name.

``dagster.yaml`` names this class, so the web server, the daemon and every run find the same
database as the commands of genopt do, be it the embedded server or a deployment's own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy import URL

from genopt_pipeline.settings import load_settings
from genopt_pipeline.store import setup
from genopt_pipeline.store.engine import (
    DatabaseUnavailableError,
    first_line,
    open_engine,
    place_of,
    reading_errors,
)
from genopt_pipeline.store.migrate import create_database
from genopt_pipeline.store.server import resolve_urls


def storage_url(url: URL) -> str:
    """The URL as Dagster's storage takes it: psycopg2, which its NOTIFY statements need."""
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of ``DAGSTER_HOME``, whose database's failures are told as ours are.

    Raises
    ------
    DatabaseUnavailableError, DatabaseFullError
        Dagster's database does not answer, or its disk is full.
    """
    url = resolve_urls(load_settings()).dagster
    try:
        with reading_errors(url), dg.DagsterInstance.get() as instance:
            yield instance
    except DagsterPostgresException as error:
        said = first_line(error.__cause__ or error)
        raise DatabaseUnavailableError(
            f"Dagster's database {place_of(url)} does not answer: {said}"
        ) from error


@contextmanager
def existing_instance() -> Iterator[dg.DagsterInstance | None]:
    """The instance of ``DAGSTER_HOME`` if its database holds one already; None without one.

    Raises
    ------
    DatabaseUnavailableError, DatabaseFullError
        It was there, and fails.
    """
    url = resolve_urls(load_settings()).dagster.set(drivername="postgresql+psycopg")
    engine = open_engine(url, search_path="public")
    try:
        with reading_errors(url), engine.connect() as connection:
            there = setup.table_exists(connection, "event_logs")
    except DatabaseUnavailableError:
        there = False
    finally:
        engine.dispose()
    if not there:
        yield None
        return
    with open_instance() as instance:
        yield instance


class BatchingEventLogStorage(PostgresEventLogStorage):
    """Dagster's event log that also writes planned materializations in batches.

    Dagster batches what was materialized, but writes what is planned one by one, each with four
    new connections: 50 s for the 4,040 events of a fortnight of ten-minute windows, against 2 s.
    Only with ``DAGSTER_EVENT_BATCH_SIZE`` set; the rows are the same.
    """

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store planned materializations of one batch in two statements."""
        planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        if not events or {event.get_dagster_event().event_type for event in events} != {planned}:
            super().store_event_batch(events)
            return
        statement = self.prepare_insert_event_batch(events)
        with self._connect() as connection:
            rows = connection.execute(statement.returning(SqlEventLogStorageTable.c.id)).fetchall()
        ids = [int(row[0]) for row in rows]
        newest = {
            event.get_dagster_event().asset_key: (event, event_id)
            for event, event_id in zip(events, ids, strict=True)
        }
        with self.index_transaction() as connection:
            self._store_asset_event_tags(connection, events, ids)
            for event, event_id in newest.values():
                self._store_asset_event(connection, event, event_id)


class GenoptStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage at the address that genopt's settings name."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the settings say everything."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Any,  # noqa: ARG003 - the signature is Dagster's
    ) -> "GenoptStorage":
        """Start the embedded server if needed, create the database if missing, and connect."""
        # `dagster dev` is a beginning, too
        url = resolve_urls(load_settings(), create=True).dagster
        create_database(url)
        storage = cls(postgres_url=storage_url(url), inst_data=inst_data)
        storage._event_log_storage = BatchingEventLogStorage(
            storage.postgres_url, storage.should_autocreate_tables
        )
        return storage
