"""Which source an account has, made from the settings."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from genopt_pipeline.core.polling import PollingConfig, PriceTable
from genopt_pipeline.defs.collect import all_posts_before
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.settings import Settings
from genopt_pipeline.sources.base import MetricsSource, SourceRefusedError
from genopt_pipeline.sources.sandbox import SandboxSource
from genopt_pipeline.sources.x_api import (
    AnalyticsConfig,
    XApiConfig,
    XApiSource,
    oauth_credentials,
)
from genopt_pipeline.store import source_states
from genopt_pipeline.store import weights as weight_store


def make_source(
    pipeline: Pipeline, account_id: str, first_window: datetime
) -> MetricsSource | None:
    """The source of an account; None where nothing is collected for it.

    Only the configured account has one: credentials and the simulation belong to one account.
    """
    settings = pipeline.settings
    if account_id != settings.account or settings.source == "exports":
        return None
    if settings.source == "x_api":
        return x_api_source(pipeline, account_id)
    return sandbox_source(pipeline, account_id, first_window)


class DatabaseStateStore:
    """What the X source remembers, each change in a transaction of its own.

    The budget is written before the request that spends it, so it must not wait for the batch.
    """

    def __init__(self, pipeline: Pipeline, account_id: str) -> None:
        self._pipeline = pipeline
        self._account_id = account_id

    def get(self, key: str) -> dict[str, Any] | None:
        """The document last set, or None."""
        with self._pipeline.read() as connection:
            value: dict[str, Any] | None = source_states.get_state(
                connection, self._account_id, "x_api", key
            )
            return value

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Replace the whole document."""
        with self._pipeline.write() as connection:
            source_states.set_state(connection, self._account_id, "x_api", key, dict(value))


def x_user_id(settings: Settings) -> str | None:
    """The account's number: as set, else as a user token of OAuth 1.0a begins with it."""
    if settings.x_user_id is not None or settings.x_access_token is None:
        return settings.x_user_id
    number, dash, _ = settings.x_access_token.get_secret_value().partition("-")
    first_generation = settings.x_consumer_key is not None and dash and number.isdigit()
    return number if first_generation else None


def _lacking(settings: Settings) -> str:
    """What is not set of either way to authenticate."""
    ways = {
        "OAuth 1.0a": (
            "x_consumer_key",
            "x_consumer_secret",
            "x_access_token",
            "x_access_token_secret",
        ),
        "OAuth 2.0": ("x_user_id", "x_access_token"),
    }
    told = []
    for way, names in ways.items():
        unset = [f"GENOPT_{name.upper()}" for name in names if getattr(settings, name) is None]
        if unset:
            told.append(f"{way} lacks {', '.join(unset)}")
        elif way == "OAuth 1.0a":
            # its token begins with the account's number, and this one does not
            told.append("GENOPT_X_USER_ID is not set")
    return (
        "; ".join(told)
        + ". Set those of one way (OAuth 2.0 also takes GENOPT_X_REFRESH_TOKEN with "
        "GENOPT_X_CLIENT_ID, by which its token is renewed); see docs/x_api.md"
    )


def x_api_source(pipeline: Pipeline, account_id: str) -> XApiSource:
    """The X API of the configured account.

    Raises
    ------
    SourceRefusedError
        A setting is missing or wrong; the message names it, never its value.
    """
    settings = pipeline.settings
    user_id = x_user_id(settings)
    if user_id is None or settings.x_access_token is None:
        raise SourceRefusedError(f"GENOPT_SOURCE is x_api, but {_lacking(settings)}")
    try:
        config = XApiConfig(
            user_id=user_id,
            credentials=oauth_credentials(
                access_token=settings.x_access_token,
                access_token_secret=settings.x_access_token_secret,
                consumer_key=settings.x_consumer_key,
                consumer_secret=settings.x_consumer_secret,
                refresh_token=settings.x_refresh_token,
                client_id=settings.x_client_id,
                client_secret=settings.x_client_secret,
                token_path=settings.home.resolve() / f"x_tokens_{account_id}.json",
            ),
            base_url=settings.x_base_url,
            fields_parameter=settings.x_fields_parameter,
            polling=PollingConfig(
                frequent_until_days=float(settings.track_days),
                posts_per_utc_day=settings.x_posts_per_utc_day,
                posts_per_month=settings.x_posts_per_month,
                prices=PriceTable(
                    timeline_post_usd=settings.x_timeline_post_usd,
                    lookup_post_usd=settings.x_lookup_post_usd,
                    user_usd=settings.x_user_usd,
                ),
            ),
            analytics=AnalyticsConfig(mode=settings.x_analytics),
        )
    except ValueError as error:
        raise SourceRefusedError(f"the X API cannot be used: {error}") from error
    return XApiSource(config, DatabaseStateStore(pipeline, account_id), clock=pipeline.now)


def simulated_by_default(settings: Settings) -> str | None:
    """What to tell somebody whose own database is going to be filled with simulated posts."""
    if settings.source != "sandbox" or settings.database_url is None:
        return None
    return (
        "GENOPT_DATABASE_URL names a database of your own, but GENOPT_SOURCE is sandbox: a "
        f"simulated account is collected into {settings.account!r}"
    )


def sandbox_source(pipeline: Pipeline, account_id: str, first_window: datetime) -> SandboxSource:
    """The simulated account, which begins with the first window that is ever asked of it."""
    settings = pipeline.settings
    if settings.sandbox_world not in WORLDS:
        raise ValueError(
            f"GENOPT_SANDBOX_WORLD is {settings.sandbox_world!r}; the worlds are "
            f"{', '.join(sorted(WORLDS))}"
        )
    world = WORLDS[settings.sandbox_world]
    if settings.sandbox_posts_per_day is not None:
        world = replace(world, posts_per_day=settings.sandbox_posts_per_day)
    with pipeline.write() as connection:
        start = datetime.fromisoformat(
            source_states.keep_first(
                connection, account_id, SandboxSource.name, "start", first_window.isoformat()
            )
        )
        first = weight_store.weights_in_force(connection, account_id, start).generators
    account = SandboxAccount(
        seed=settings.sandbox_seed,
        start=start,
        world=world,
        generators=tuple(sorted(first)),
        holdout_share=settings.holdout_share,
    )
    return SandboxSource(account, lambda at: all_posts_before(pipeline, account_id, at))
