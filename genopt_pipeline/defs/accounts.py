"""Running one step for every account, so that one account's failure does not stop the others."""

from collections.abc import Callable
from typing import TypeVar

import dagster as dg

from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import DatabaseFullError, DatabaseUnavailableError

T = TypeVar("T")


def for_each_account(
    context: dg.AssetExecutionContext, pipeline: Pipeline, step: Callable[[str], T]
) -> dict[str, T]:
    """Run ``step`` for each registered account; returns the results by account.

    Raises
    ------
    dagster.Failure
        After all accounts were tried, if a step failed; names the accounts and reasons.
    DatabaseUnavailableError, DatabaseFullError
        At once: nothing can be done for any account.
    """
    with pipeline.read() as connection:
        accounts = weight_store.list_accounts(connection)
    results: dict[str, T] = {}
    failures: dict[str, Exception] = {}
    for account_id in accounts:
        try:
            results[account_id] = step(account_id)
        except (DatabaseUnavailableError, DatabaseFullError):
            raise
        except Exception as error:  # raised again below, with the account's name
            context.log.exception("account %s", account_id)
            failures[account_id] = error
    if failures and len(accounts) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise dg.Failure(
            description="; ".join(f"{name}: {error}" for name, error in failures.items()),
            allow_retries=False,
        ) from next(iter(failures.values()))
    return results
