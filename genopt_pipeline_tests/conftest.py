"""A real PostgreSQL for every test that needs one: one server a test run, a fresh copy a test."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy import URL, Engine, create_engine, make_url, text

from genopt_pipeline.settings import Settings
from genopt_pipeline.store import migrate, server
from genopt_pipeline.store.engine import open_engine

hypothesis_settings.register_profile(
    "genopt", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
hypothesis_settings.load_profile("genopt")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name values by their argument where their text has an address, which differs by process."""
    del config
    return argname if " at 0x" in repr(val) else None


DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GENOPT_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def pg_home() -> Iterator[Path]:
    """Data folder of this worker's server; stopped and removed at the end."""
    # a short path: unix sockets allow about a hundred bytes
    home = Path(tempfile.mkdtemp(prefix="genopt-", dir="/tmp"))
    home.chmod(0o755)
    yield home
    server.stop_embedded(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def pg_server(pg_home: Path) -> URL:
    """The server's maintenance database."""
    return server.start_embedded(pg_home)


@pytest.fixture(scope="session")
def admin(pg_server: URL) -> Iterator[Engine]:
    engine = create_engine(
        pg_server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def template(pg_server: URL, admin: Engine) -> str:
    """A migrated database that tests copy."""
    url = pg_server.set(drivername="postgresql+psycopg", database="genopt_template")
    migrate.create_database(url)
    migrate.upgrade(url)
    return "genopt_template"


@pytest.fixture
def new_database(pg_server: URL, admin: Engine) -> Iterator[Callable[[str | None], URL]]:
    """Makes databases, empty or copied from a template, and drops them afterwards."""
    made: list[str] = []

    def make(copy_of: str | None = None) -> URL:
        name = f"t{uuid.uuid4().hex[:12]}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {copy_of or 'template1'}"))
            if copy_of:
                connection.execute(text(f"ALTER DATABASE {name} SET search_path = genopt, public"))
        made.append(name)
        return pg_server.set(drivername="postgresql+psycopg", database=name)

    yield make
    with admin.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
def database(new_database: Callable[[str | None], URL], template: str) -> URL:
    """A freshly migrated database with account main and its default weights."""
    return new_database(template)


@pytest.fixture
def engine(database: URL) -> Iterator[Engine]:
    engine = open_engine(database)
    yield engine
    engine.dispose()


@pytest.fixture
def dagster_database(new_database: Callable[[str | None], URL]) -> URL:
    return new_database(None)


@pytest.fixture
def make_settings(database: URL, dagster_database: URL, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a test installation, with what the test changes."""

    def make(**values: object) -> Settings:
        defaults: dict[str, object] = {
            "home": tmp_path,
            "database_url": make_url(database).render_as_string(hide_password=False),
            "dagster_database_url": make_url(dagster_database).render_as_string(
                hide_password=False
            ),
        }
        return Settings(**(defaults | values))

    return make
