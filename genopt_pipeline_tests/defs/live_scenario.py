"""An installation that collects from a sandbox server through the X client, in virtual time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import dagster as dg
from sqlalchemy import text

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.observations import ObservedPost, TrackedPost
from genopt_pipeline.defs.build import build_defs, make_pipeline
from genopt_pipeline.defs.partitions import TEN_MINUTES, key_of, window_of
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.defs.sources import make_source
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.server import SandboxServer, serve
from genopt_pipeline.sandbox.server_answers import SandboxView
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.store import posts as post_store
from genopt_pipeline_tests.scenario import START, Clock

TOKEN = "user-token-7f3a9c51e2d84b06"
USER = "42"


@dataclass
class Live:
    """Server, pipeline and clock; ``posts`` are all that the account will ever publish."""

    server: SandboxServer
    settings: object
    clock: Clock
    pipeline: Pipeline
    posts: list[ObservedPost]
    instance: dg.DagsterInstance | None = None

    @property
    def window(self):
        return window_of(self.clock.at, TEN_MINUTES)

    def due(self):
        return [post for post in self.posts if post.posted_at <= self.clock.at]

    def record(self, posts=None):
        """The engine records its posts that have gone live."""
        new = self.due() if posts is None else posts
        with self.pipeline.write() as connection:
            post_store.upsert_posts(connection, "main", new, source="engine")

    def ingest(self, job="ingest", **options):
        """A real Dagster run of the present window."""
        options.setdefault("partition_key", key_of(self.window[0]))
        return (
            build_defs(self.pipeline)
            .resolve_job_def(job)
            .execute_in_process(instance=self.instance, raise_on_error=False, **options)
        )

    def query(self, statement, **values):
        with self.pipeline.read() as connection:
            return connection.execute(text(statement), values).all()


def account(posts_per_day=15.0, seed=3):
    return SandboxAccount(
        seed=seed, start=START, world=replace(WORLDS["stationary"], posts_per_day=posts_per_day)
    )


def engine_posts(simulated, days):
    return simulated.engine_posts(
        START, START + timedelta(days=days), lambda _: (DEFAULT_WEIGHTS, 1)
    )


def tracked(posts):
    return [
        TrackedPost(
            decision_id=post.decision_id,
            tweet_id=post.tweet_id,
            posted_at=post.posted_at,
            generator_name=post.generator_name,
        )
        for post in posts
    ]


def quick_source(pipeline, account_id, first_window):
    """The source of an installation, which does not really wait between two tries."""
    source = make_source(pipeline, account_id, first_window)
    if source is not None:
        source._client._sleep = lambda _: None
    return source


@contextmanager
def live(
    make_settings,
    *,
    instance=None,
    days=2.0,
    schedule_days=3.0,
    faults=None,
    server_options=None,
    posts_per_day=15.0,
    **settings,
) -> Iterator[Live]:
    """An account that is ``days`` old, whose posts are not recorded yet."""
    simulated = account(posts_per_day)
    posts = engine_posts(simulated, days + schedule_days)
    clock = Clock(START + timedelta(days=days, minutes=1))
    with serve(
        SandboxView(simulated, tracked(posts)),
        user_id=USER,
        faults=faults,
        clock=clock,
        stall_seconds=0.1,
        **{"access_token": TOKEN, **(server_options or {})},
    ) as server:
        made = make_settings(
            **{
                "source": "x_api",
                "start": START,
                "x_base_url": server.base_url,
                "x_user_id": USER,
                "x_access_token": TOKEN,
                **settings,
            }
        )
        pipeline = make_pipeline(made, clock=clock, sources=quick_source)
        yield Live(server, made, clock, pipeline, list(posts), instance)
        pipeline.engine.dispose()
