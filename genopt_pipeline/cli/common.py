"""What all commands share: settings, output as text or JSON, and errors as one line."""

import contextlib
import errno
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from genopt_pipeline.core.policies import GuardError, ProposalInputError
from genopt_pipeline.core.selection import InvalidWeightsError
from genopt_pipeline.settings import Settings, load_settings
from genopt_pipeline.sources.base import SourceError
from genopt_pipeline.store.engine import (
    DISK_FULL,
    DatabaseFullError,
    DatabaseUnavailableError,
    describe,
)
from genopt_pipeline.store.migrate import SchemaVersionError
from genopt_pipeline.store.posts import UnknownPostError
from genopt_pipeline.store.quarantine import NotInQuarantineError
from genopt_pipeline.store.server import (
    DatabaseUrlError,
    EmbeddedServerError,
    NoInstallationError,
    last_trouble,
)
from genopt_pipeline.store.weights import (
    StaleVersionError,
    UnknownAccountError,
    UnknownGeneratorError,
)

console = Console()
errors = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class Policy(StrEnum):
    """The product's policies."""

    thompson = "thompson"
    exponential = "exponential"


class CommandError(Exception):
    """A command could not do what was asked; the message is what the user reads."""


#: Errors whose message was written for the user.
TOLD = (
    CommandError,
    SourceError,
    DatabaseUnavailableError,
    DatabaseFullError,
    SchemaVersionError,
    DatabaseUrlError,
    EmbeddedServerError,
    NoInstallationError,
    StaleVersionError,
    UnknownAccountError,
    UnknownGeneratorError,
    UnknownPostError,
    NotInQuarantineError,
    InvalidWeightsError,
    ProposalInputError,
    GuardError,
)


def settings() -> Settings:
    """The settings, or one clear line per variable that is wrong.

    Raises
    ------
    CommandError
        A variable has a value that is not allowed.
    """
    try:
        return load_settings()
    except ValidationError as error:
        lines = [f"{name}: {message}" for name, message in wrong_settings(error)]
        raise CommandError("; ".join(lines)) from error


def wrong_settings(error: ValidationError) -> list[tuple[str, str]]:
    """Variable and message of each wrong setting; no value is repeated, it may be a secret."""
    return [
        (
            f"GENOPT_{item['loc'][0]}".upper() if item["loc"] else "GENOPT_*",
            item["msg"].removeprefix("Value error, "),
        )
        for item in error.errors(include_input=False, include_url=False)
    ]


def time_of(value: str, option: str | None = None) -> datetime:
    """An ISO time from the command line; one without a zone is UTC.

    Raises
    ------
    typer.BadParameter
        It is none.
    """
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise typer.BadParameter(
            f"{value!r} is not an ISO time such as 2026-02-27T12:00Z", param_hint=option
        ) from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def emit(value: Any) -> None:
    """Print a value as JSON; times in ISO format, numbers of the database as numbers."""
    sys.stdout.write(json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if hasattr(value, "as_tuple"):  # Decimal
        return float(value)
    if hasattr(value, "item"):
        return value.item()
    return str(value)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print known failures as one line and exit 1; a bug still shows its traceback."""
    try:
        yield
    except DatabaseUnavailableError as error:
        _fail(" ".join(str(error).split()) + _embedded_trouble())
    except TOLD as error:
        _fail(" ".join(str(error).split()))
    except DBAPIError as error:
        _fail(_database(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(f"the disk is full: {error.filename or error.strerror}; nothing was half-written")
        place = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or error}{place}")


def _embedded_trouble() -> str:
    try:
        known = load_settings()
    except ValidationError:
        return ""
    told = last_trouble(known.home) if known.database_url is None else None
    return f"; the embedded server's log says: {told}" if told else ""


def _database(error: DBAPIError) -> str:
    state = getattr(error.orig, "sqlstate", None)
    said = describe(error)
    if state == DISK_FULL:
        return f"the disk of the database is full ({said}); nothing was written"
    return f"the database refused: {said}; nothing was written"


def _fail(message: str) -> None:
    errors.print("error:", style="red", end=" ")
    errors.print(message, markup=False)
    raise SystemExit(1)
