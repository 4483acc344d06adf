"""Which source an account has, made from the settings."""

from dataclasses import replace
from datetime import datetime

from genopt_pipeline.defs.collect import all_posts_before
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.sources.base import MetricsSource, SourceRefusedError
from genopt_pipeline.sources.sandbox import SandboxSource
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
        raise SourceRefusedError(
            "GENOPT_SOURCE=x_api is not connected to the pipeline yet; use sandbox or exports"
        )
    return sandbox_source(pipeline, account_id, first_window)


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
