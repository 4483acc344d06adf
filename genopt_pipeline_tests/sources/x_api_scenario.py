"""Virtual time, an account with a schedule, a server and a source: what the X API tests share."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.observations import CollectedBatch, CollectRequest, TrackedPost
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.server import SandboxServer, serve
from genopt_pipeline.sandbox.server_answers import SandboxView
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.sources.x_api import (
    AnalyticsConfig,
    MemoryStateStore,
    OAuth2Credentials,
    RequestLimits,
    XApiConfig,
    XApiSource,
)

TOKEN = "user-token-7f3a9c51e2d84b06"
USER = "42"
START = datetime(2026, 10, 1, tzinfo=UTC)
WINDOW = timedelta(minutes=10)


class VirtualTime:
    """A clock that moves when somebody sleeps, or is told to."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.slept_seconds = 0.0
        self._base = now

    def clock(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return (self.now - self._base).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept_seconds += seconds
        self.now += timedelta(seconds=seconds)


def account(*, posts_per_day: float = 15.0, seed: int = 3) -> SandboxAccount:
    return SandboxAccount(
        seed=seed, start=START, world=replace(WORLDS["stationary"], posts_per_day=posts_per_day)
    )


def engine_posts(simulated: SandboxAccount, days: float) -> list[TrackedPost]:
    posts = simulated.engine_posts(
        START, START + timedelta(days=days), lambda _: (DEFAULT_WEIGHTS, 1)
    )
    return [
        TrackedPost(
            decision_id=post.decision_id or "",
            tweet_id=post.tweet_id,
            posted_at=post.posted_at,
            generator_name=post.generator_name,
        )
        for post in posts
    ]


@dataclass
class Scenario:
    time: VirtualTime
    server: SandboxServer
    source: XApiSource
    config: XApiConfig
    state: MemoryStateStore
    posts: list[TrackedPost]

    def tracked(self) -> list[TrackedPost]:
        return [post for post in self.posts if post.posted_at <= self.time.now]

    def request(self, *, tracked: list[TrackedPost] | None = None) -> CollectRequest:
        start = self.time.now - (self.time.now - START) % WINDOW
        return CollectRequest(
            account_id="main",
            window_start=start,
            window_end=start + WINDOW,
            now=self.time.now,
            tracked=self.tracked() if tracked is None else tracked,
        )

    def collect(self, *, tracked: list[TrackedPost] | None = None) -> CollectedBatch:
        batch = self.source.collect(self.request(tracked=tracked))
        self.source.stored()
        return batch


@contextmanager
def scenario(
    *,
    faults=None,
    days: float = 3.0,
    schedule_days: float = 1.0,
    posts_per_day: float = 15.0,
    token: str | None = TOKEN,
    stall_seconds: float = 0.3,
    server_options: dict | None = None,
    real_time: bool = False,
    **config,
) -> Iterator[Scenario]:
    """A server over an account that is ``days`` old and a source that reads it."""
    simulated = account(posts_per_day=posts_per_day)
    posts = engine_posts(simulated, days + schedule_days)
    time = VirtualTime(START + timedelta(days=days, minutes=1))
    options = {"access_token": token, "user_id": USER, **(server_options or {})}
    config.setdefault("credentials", OAuth2Credentials(SecretStr(TOKEN)))
    config.setdefault("analytics", AnalyticsConfig(mode="off"))
    config.setdefault("limits", RequestLimits(wait_initial_seconds=0.2))
    with serve(
        SandboxView(simulated, posts),
        faults=faults,
        clock=time.clock,
        stall_seconds=stall_seconds,
        **options,
    ) as server:
        settings = XApiConfig(user_id=USER, base_url=server.base_url, **config)
        state = MemoryStateStore()
        hands = {} if real_time else {"monotonic": time.monotonic}
        source = XApiSource(
            settings,
            state,
            clock=time.clock,
            sleep=time.sleep,
            rng=random.Random(1),
            **hands,
        )
        try:
            yield Scenario(time, server, source, settings, state, posts)
        finally:
            source.close()
