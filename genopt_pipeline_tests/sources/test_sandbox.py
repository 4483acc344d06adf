"""The sandbox keeps what a source of metrics promises."""

from datetime import UTC, datetime, timedelta

import pytest

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.observations import CollectRequest, TrackedPost
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.sources.base import MetricsSource, WindowNotServableError
from genopt_pipeline.sources.sandbox import SandboxSource

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=5, minutes=3)
TEN_MINUTES = timedelta(minutes=10)
ACCOUNT = SandboxAccount(11, START, WORLDS["stationary"])
POSTS = [
    TrackedPost(
        decision_id=post.decision_id or "",
        tweet_id=post.tweet_id,
        posted_at=post.posted_at,
        generator_name=post.generator_name,
    )
    for post in ACCOUNT.engine_posts(START, NOW, lambda _: (DEFAULT_WEIGHTS, 1))
]


def source(**settings: bool) -> SandboxSource:
    return SandboxSource(
        ACCOUNT, lambda t: [post for post in POSTS if post.posted_at < t], **settings
    )


def request(start: datetime, now: datetime = NOW) -> CollectRequest:
    return CollectRequest(
        account_id="main",
        window_start=start,
        window_end=start + TEN_MINUTES,
        now=now,
        tracked=[post for post in POSTS if start - timedelta(days=2) < post.posted_at < start],
    )


def windows() -> list[datetime]:
    return [START + TEN_MINUTES * 37 * number for number in range(19)]


def test_the_sandbox_is_a_source_of_metrics():
    promised: MetricsSource = source()
    assert promised.name == "sandbox"


def test_a_window_has_the_same_bytes_now_next_year_alone_and_in_bulk():
    asked = [request(start) for start in windows()]
    bulk = [batch.model_dump_json() for batch in source().collect_many(asked)]
    backwards = source()
    for single, expected in reversed(list(zip(asked, bulk, strict=True))):
        later = single.model_copy(update={"now": NOW + timedelta(days=365)})
        assert backwards.collect(single).model_dump_json() == expected
        assert source().collect(later).model_dump_json() == expected


def test_everything_is_observed_at_the_start_of_the_window():
    for batch, start in zip(source().collect_many(map(request, windows())), windows(), strict=True):
        assert [reading.observed_at for reading in batch.followers] == [start]
        assert all(reading.observed_at == start for reading in batch.readings)
        tracked = [post.decision_id for post in request(start).tracked]
        assert [reading.decision_id for reading in batch.readings] == tracked


def test_follower_counts_hold_posts_that_are_tracked_no_longer():
    start = START + timedelta(days=5)
    nothing_tracked = request(start).model_copy(update={"tracked": ()})
    assert source().collect(nothing_tracked).followers == source().collect(request(start)).followers


def test_counts_grow_by_what_the_windows_between_show():
    counts = [
        batch.followers[0].followers_count
        for batch in source().collect_many(map(request, windows()))
    ]
    assert counts[0] == ACCOUNT.world.initial_followers
    assert counts[-1] > counts[0]


def test_what_the_platform_does_not_report_is_null():
    start = START + timedelta(days=3)
    assert all(r.platform_follows is None for r in source().collect(request(start)).readings)
    reporting = source(platform_follows=True).collect(request(start))
    assert all(r.platform_follows is not None for r in reporting.readings)


def test_the_current_window_is_served_and_the_future_is_refused():
    current = START + timedelta(days=5)
    assert source().collect(request(current)).readings
    for start in (current + TEN_MINUTES, START - TEN_MINUTES):
        assert not source().can_serve(start, start + TEN_MINUTES, now=NOW)
        with pytest.raises(WindowNotServableError, match="cannot serve the window"):
            source().collect(request(start))
        with pytest.raises(WindowNotServableError):
            next(source().collect_many([request(current), request(start)]))


def test_no_windows_give_no_batches():
    assert list(source().collect_many([])) == []
