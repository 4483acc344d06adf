"""A simulated account draws like a real engine and keeps one book of totals."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.observations import ObservedPost, TrackedPost
from genopt_pipeline.core.selection import ARM_SHARES, arm_weights
from genopt_pipeline.sandbox.account import SNOWFLAKE_EPOCH_MS, SandboxAccount, snowflake
from genopt_pipeline.sandbox.ledger import PostLedger
from genopt_pipeline.sandbox.world import WORLDS

START = datetime(2026, 3, 5, 9, 30, tzinfo=UTC)
ACCOUNT = SandboxAccount(7, START, WORLDS["stationary"])


def default_weights(_: datetime) -> tuple[Mapping[str, float], int]:
    return DEFAULT_WEIGHTS, 1


def tracked(posts: list[ObservedPost]) -> list[TrackedPost]:
    return [
        TrackedPost(
            decision_id=post.decision_id or "",
            tweet_id=post.tweet_id,
            posted_at=post.posted_at,
            generator_name=post.generator_name,
        )
        for post in posts
    ]


def posts_of(days: float, account: SandboxAccount = ACCOUNT) -> list[TrackedPost]:
    return tracked(account.engine_posts(START, START + timedelta(days=days), default_weights))


@given(st.lists(st.floats(0, 24 * 30), min_size=3, max_size=3))
@settings(max_examples=30, deadline=None)
def test_the_schedule_is_the_same_however_it_is_cut_into_windows(hours: list[float]):
    a, b, c = sorted(START + timedelta(hours=hour) for hour in hours)
    whole = ACCOUNT.engine_posts(a, c, default_weights)
    pieces = [
        *ACCOUNT.engine_posts(a, b, default_weights),
        *ACCOUNT.engine_posts(b, c, default_weights),
    ]
    assert pieces == whole
    assert all(a <= post.posted_at < c for post in whole)


def test_posts_have_ids_of_their_own_and_a_tweet_id_that_tells_the_time():
    posts = ACCOUNT.engine_posts(START, START + timedelta(days=30), default_weights)
    assert len(posts) == 450
    assert len({post.decision_id for post in posts}) == len(posts)
    assert len({post.tweet_id for post in posts}) == len(posts)
    for number, post in enumerate(posts):
        assert post.decision_id is not None
        assert post.tweet_id is not None
        assert ACCOUNT.index_of(post.decision_id) == number
        milliseconds = (int(post.tweet_id) >> 22) + SNOWFLAKE_EPOCH_MS
        assert datetime.fromtimestamp(milliseconds / 1000, UTC) == post.posted_at


def test_a_snowflake_counts_milliseconds_since_its_epoch():
    epoch = datetime(2010, 11, 4, 1, 42, 54, 657000, tzinfo=UTC)
    assert snowflake(epoch, 5) == "5"
    assert snowflake(epoch + timedelta(milliseconds=1), 0) == str(1 << 22)


def test_arms_and_generators_are_drawn_by_their_weights():
    weights = dict.fromkeys(DEFAULT_WEIGHTS, 0.0) | {
        "coach": 0.6,
        "storyteller": 0.3,
        "dataNerd": 0.1,
    }
    posts = ACCOUNT.engine_posts(START, START + timedelta(days=800), lambda _: (weights, 4))
    n = len(posts)
    arms = Counter(post.experiment_arm for post in posts)
    for arm, share in ARM_SHARES.items():
        assert abs(arms[arm] - n * share) < 5 * (n * share * (1 - share)) ** 0.5
        drawn = Counter(post.generator_name for post in posts if post.experiment_arm == arm)
        for name, weight in arm_weights(weights, arm).items():
            sd = (arms[arm] * weight * (1 - weight)) ** 0.5
            assert abs(drawn[name] - arms[arm] * weight) <= 5 * sd
    for post in posts:
        assert post.generator_name is not None
        assert post.experiment_arm is not None
        in_arm = arm_weights(weights, post.experiment_arm)
        assert post.selection_probability == in_arm[post.generator_name]
        assert post.generator_confidence == weights[post.generator_name]
        assert post.weights_version == 4


def test_the_engine_draws_by_the_weights_in_force_when_it_posts():
    change = START + timedelta(days=2)

    def weights_at(t: datetime) -> tuple[Mapping[str, float], int]:
        return ({"coach": 1.0}, 1) if t < change else ({"explorer": 1.0}, 2)

    for post in ACCOUNT.engine_posts(START, START + timedelta(days=4), weights_at):
        expected = ("coach", 1) if post.posted_at < change else ("explorer", 2)
        assert (post.generator_name, post.weights_version) == expected


def test_the_luck_of_a_post_does_not_depend_on_the_weights():
    uniform = dict.fromkeys(DEFAULT_WEIGHTS, 1 / 12)
    window = (START, START + timedelta(days=5))
    one = ACCOUNT.engine_posts(*window, default_weights)
    other = ACCOUNT.engine_posts(*window, lambda _: (uniform, 1))
    assert [post.posted_at for post in one] == [post.posted_at for post in other]
    a, b = (ACCOUNT.describe(tracked(posts)) for posts in (one, other))
    assert (a.impressions == b.impressions).all()
    assert (a.frailty == b.frailty).all()


@given(st.lists(st.floats(0, 24 * 20), min_size=2, max_size=2), st.randoms())
@settings(max_examples=20, deadline=None)
def test_readings_do_not_depend_on_the_other_posts_of_the_book(hours: list[float], order: object):
    posts = posts_of(10)
    at = START + timedelta(hours=max(hours))
    live = [post.decision_id for post in posts if post.posted_at <= at]
    book = PostLedger(ACCOUNT, posts)
    shuffled = list(posts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    other = PostLedger(ACCOUNT, shuffled[:70])
    other.add(posts)
    assert book.readings(live, at, platform_follows=True) == other.readings(
        live, at, platform_follows=True
    )
    assert book.followers_count(at) == other.followers_count(at)
    for post, reading in list(zip(posts, book.readings(live, at), strict=False))[-3:]:
        assert PostLedger(ACCOUNT, [post]).readings([post.decision_id], at) == [reading]


def test_readings_never_fall_and_platform_follows_are_a_small_part_of_the_true_ones():
    posts = posts_of(6)
    ids = [post.decision_id for post in posts]
    book = PostLedger(ACCOUNT, posts)
    previous: dict[str, dict[str, int]] = {}
    for hour in range(0, 24 * 30, 7):
        at = START + timedelta(hours=hour)
        for reading in book.readings(ids, at, platform_follows=True):
            counts = reading.model_dump(exclude={"decision_id", "tweet_id", "observed_at"})
            counts = {name: count for name, count in counts.items() if count is not None}
            assert reading.decision_id is not None
            for name, count in previous.get(reading.decision_id, {}).items():
                assert counts[name] >= count, name
            previous[reading.decision_id] = counts
    true = book.true_follows(ids, START + timedelta(days=90))
    seen = np.array([previous[decision]["platform_follows"] for decision in ids])
    assert (seen <= true).all()
    assert 0 < seen.sum() < 0.3 * true.sum()


def test_the_follower_count_is_everything_that_happened_so_far():
    quiet = replace(ACCOUNT.world, organic_follows_per_day=0.0, unfollows_per_day=0.0)
    account = SandboxAccount(7, START, quiet)
    posts = posts_of(8, account)
    ids = [post.decision_id for post in posts]
    book = PostLedger(account, posts)
    for day in (0, 3, 8, 60):
        at = START + timedelta(days=day)
        earned = int(book.true_follows(ids, at).sum())
        assert book.followers_count(at) == quiet.initial_followers + earned
    assert earned == account.describe(posts).follows.sum() > 0


def test_a_post_recorded_by_hand_earns_too_and_a_new_generator_has_a_rate_of_its_own():
    by_hand = [
        TrackedPost(
            decision_id=f"mine-{number}",
            tweet_id=None,
            posted_at=START + timedelta(hours=number),
            generator_name=name,
        )
        for number, name in enumerate(["poet", "poet", None, "coach"])
    ]
    described = ACCOUNT.describe(by_hand)
    assert (described.index < 0).all()
    rates = described.generator_f_per_1k
    assert rates[0] == rates[1]
    assert rates[2] == pytest.approx(ACCOUNT.world.median_f_per_1k)
    assert rates[3] == pytest.approx(ACCOUNT.true_f_per_1k(START)["coach"])
    readings = PostLedger(ACCOUNT, by_hand).readings(
        [post.decision_id for post in by_hand], START + timedelta(days=3)
    )
    assert len(readings) == 4
    assert all(reading.impressions for reading in readings)


def test_a_post_before_its_time_has_no_reading():
    posts = posts_of(1)
    book = PostLedger(ACCOUNT, posts)
    ids = [post.decision_id for post in posts]
    half = posts[7].posted_at
    assert [r.decision_id for r in book.readings(ids, half)] == ids[:8]


def test_the_hour_of_the_week_comes_from_the_start():
    assert ACCOUNT.world.start_hour_of_week == 3 * 24 + 9.5
    elsewhere = SandboxAccount(7, START.astimezone(), WORLDS["stationary"])
    assert elsewhere == ACCOUNT


def test_an_account_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        SandboxAccount(7, START.replace(tzinfo=None), WORLDS["stationary"])
    with pytest.raises(ValueError, match="different names"):
        SandboxAccount(7, START, WORLDS["stationary"], ("a", "a"))
