"""Which failures a second try can mend, and how a failure is told."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from genopt_pipeline.sources.base import (
    RateLimitedError,
    SourceRefusedError,
    TransientSourceError,
)
from genopt_pipeline.store.engine import DatabaseFullError, DatabaseUnavailableError
from genopt_pipeline.store.migrate import SchemaVersionError
from genopt_pipeline.store.server import DatabaseUrlError

#: Tries after the first, and the seconds before the first of them.
RETRIES = 3
DELAY_SECONDS = 5.0

#: Description of the failure of a step that was told to stop.
INTERRUPTED = "interrupted; what was stored is whole, and running it again goes on from here"


def transient_retries() -> dg.RetryPolicy:
    """Tries again what may pass by itself; :func:`explained` says what that is."""
    return dg.RetryPolicy(
        max_retries=RETRIES,
        delay=DELAY_SECONDS,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )


@contextmanager
def explained() -> Iterator[None]:
    """Turn known failures into a ``Failure`` with a message a person can act on.

    So is an interruption (Ctrl-C, a run ended in the UI): with a retry policy Dagster would try
    the step again, and go on as if nobody had asked it to stop.

    A refusal (credentials, a window that is gone, a database of another version) is not tried
    again; a time-out or an unreachable database is. Neither is a rate limit: the source has waited
    for a near reset itself, and the next window comes after a far one.
    """
    try:
        yield
    except dg.DagsterExecutionInterruptedError as error:
        raise dg.Failure(description=INTERRUPTED, allow_retries=False) from error
    except (
        RateLimitedError,
        SourceRefusedError,
        SchemaVersionError,
        DatabaseUrlError,
        DatabaseFullError,
        ValueError,
    ) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except (TransientSourceError, DatabaseUnavailableError) as error:
        raise dg.Failure(description=str(error), allow_retries=True) from error
