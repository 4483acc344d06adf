"""Where Dagster keeps its runs, events and ticks: the PostgreSQL that the settings name.

``dagster.yaml`` names this class, so the web server, the daemon and every run find the same
database as the commands of genopt do, be it the embedded server or a deployment's own.
"""

from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import URL

from genopt_pipeline.settings import load_settings
from genopt_pipeline.store.migrate import create_database
from genopt_pipeline.store.server import resolve_urls


def storage_url(url: URL) -> str:
    """The URL as Dagster's storage takes it: psycopg2, which its NOTIFY statements need."""
    return url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


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
        url = resolve_urls(load_settings()).dagster
        create_database(url)
        return cls(postgres_url=storage_url(url), inst_data=inst_data)
