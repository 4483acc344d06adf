"""Engines and connections to genopt's database, and what can be wrong with it.

Functions of the store take a ``Connection``; who opens it decides where a transaction ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from genopt_pipeline.store.schema import SCHEMA

CONNECT_TIMEOUT_SECONDS = 10


#: SQLSTATE of a disk that is full.
DISK_FULL = "53100"


class DatabaseUnavailableError(RuntimeError):
    """The database did not answer; nothing is known about its data."""


class DatabaseFullError(RuntimeError):
    """The database's disk is full; the transaction was rolled back whole."""


def open_engine(url: URL, *, search_path: str = f"{SCHEMA},public") -> Engine:
    """Engine for genopt's database; connects when first used.

    Migrations take another ``search_path``: a schema that is on the path looks like the default
    one when tables are compared with their declarations.
    """
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=2,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "options": f"-c search_path={search_path} -c timezone=UTC",
            "application_name": "genopt",
        },
    )


def describe(error: DBAPIError) -> str:
    """The first line of what the server or driver said."""
    return first_line(error.orig)


def first_line(error: BaseException | None) -> str:
    """The first line of an error's message, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def place_of(url: URL) -> str:
    """A database's address as a person reads it: no driver, no password, a socket's path plain."""
    shown = url.set(drivername="postgresql").render_as_string(hide_password=True)
    return shown.replace("%2F", "/")


@contextmanager
def reading_errors(url: URL) -> Iterator[None]:
    """Turn a failed connection, and a full disk, into one clear error.

    Raises
    ------
    DatabaseUnavailableError
        The server cannot be reached, refuses the user, or has no such database.
    DatabaseFullError
        Its disk is full.
    """
    try:
        yield
    except (OperationalError, psycopg.OperationalError) as error:
        # COPY speaks to the driver itself, whose errors nobody wraps
        original = error.orig if isinstance(error, OperationalError) else error
        place = place_of(url)
        if getattr(original, "sqlstate", None) == DISK_FULL:
            raise DatabaseFullError(
                f"the disk of the database {place} is full ({first_line(original)}); nothing was "
                "half-written: make room, then run the same again"
            ) from error
        raise DatabaseUnavailableError(
            f"the database {place} does not answer: {first_line(original)}"
        ) from error


def lock_account(connection: Connection, account_id: str) -> None:
    """Serialise writers of one account until the transaction ends.

    Writers touch many rows of an account in different orders; one lock taken first keeps them from
    deadlocks.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtext('genopt.account'), hashtext(:account))"),
        {"account": account_id},
    )
