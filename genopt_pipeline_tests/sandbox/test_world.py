"""The world gives the same numbers in any order, and they are what the model says."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.sandbox.organic import organic_follows_until, unfollows_until
from genopt_pipeline.sandbox.posts import (
    Posts,
    click_events,
    counts_by,
    describe_posts,
    engagements_at,
    follow_events,
    impressions_at,
)
from genopt_pipeline.sandbox.randomness import (
    Stream,
    derived_seeds,
    philox,
    poisson_quantile,
    uniform,
)
from genopt_pipeline.sandbox.world import (
    WORLDS,
    World,
    audience_hours,
    audience_rate,
    available,
    posts_between,
    rate_path,
    schedule_hours,
    shock_factor,
    true_log_rates,
)

STATIONARY = WORLDS["stationary"]


def some_posts(world: World, n: int, seed: int = 7) -> Posts:
    index = np.arange(n)
    posted = schedule_hours(world, seed, index)
    rates = true_log_rates(world, seed, posted)
    return describe_posts(world, seed, index, index % 12, posted, rates[index, index % 12])


def test_the_counter_based_generator_gives_the_published_words():
    top = 0xFFFFFFFF
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    known = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((top, top, top, top), (top, top), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (*pi, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]
    for counter, key, words in known:
        assert tuple(int(word) for word in philox(counter, key)) == words


def test_uniform_numbers_are_uniform_and_streams_do_not_share_them():
    index = np.arange(50_000)
    first = uniform(3, Stream.REACH, index)
    second = uniform(3, Stream.FRAILTY, index)
    assert first.min() > 0.0
    assert first.max() < 1.0
    counts = np.histogram(first, bins=50, range=(0, 1))[0]
    chi_squared = float(((counts - 1000.0) ** 2 / 1000.0).sum())
    assert chi_squared < 49 + 5 * math.sqrt(2 * 49)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(len(index))
    assert len(np.unique(derived_seeds(3, 1000))) == 1000


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1e-3, 3000.0))
@settings(max_examples=60, deadline=None)
def test_a_poisson_quantile_is_the_smallest_count_that_reaches_u(u: float, mean: float):
    from scipy.stats import poisson

    k = int(poisson_quantile(np.array([u]), np.array([mean]))[0])
    assert poisson.cdf(k, mean) >= u - 1e-12
    assert k == 0 or poisson.cdf(k - 1, mean) < u


@pytest.mark.parametrize("name", WORLDS)
def test_a_post_is_the_same_alone_and_among_others(name: str):
    world = WORLDS[name]
    together = some_posts(world, 40)
    for number in (0, 17, 39):
        index = np.array([number])
        posted = schedule_hours(world, 7, index)
        rate = true_log_rates(world, 7, posted)[0, number % 12]
        alone = describe_posts(world, 7, index, index % 12, posted, rate)
        assert alone.impressions[0] == together.impressions[number]
        assert alone.follows[0] == together.follows[number]
        clock = float(alone.posted_clock[0]) + 5.0
        assert impressions_at(alone, clock)[0] == impressions_at(together, clock)[number]
        for events in (follow_events, click_events):
            rows = events(world, together)
            mine = rows.click_clock[rows.row == number]
            assert mine.tolist() == events(world, alone).click_clock.tolist()


def test_counts_never_fall_and_end_at_their_totals():
    world = STATIONARY
    posts = some_posts(world, 60)
    follows = follow_events(world, posts)
    times = np.linspace(0, 24 * 60, 400)
    previous: dict[str, np.ndarray] = {}
    for clock in audience_hours(world, times):
        now = engagements_at(world, posts, clock)
        now["impressions"] = impressions_at(posts, clock)
        now["follows"] = counts_by(follows.row, follows.follow_clock, clock, len(posts))
        now["clicks"] = counts_by(follows.row, follows.click_clock, clock, len(posts))
        assert (now["follows"] <= now["clicks"]).all()
        for name, counts in previous.items():
            assert (now[name] >= counts).all(), name
        not_live = posts.posted_clock > clock
        assert (now["impressions"][not_live] == 0).all()
        assert (now["follows"][not_live] == 0).all()
        previous = now
    assert (previous["impressions"] == posts.impressions).all()
    assert (previous["follows"] == posts.follows).all()


@given(st.integers(0, 2**64 - 1), st.lists(st.floats(0, 5000), min_size=3, max_size=3))
@settings(max_examples=30, deadline=None)
def test_organic_counts_of_adjoining_intervals_add_up(seed: int, times: list[float]):
    a, b, c = sorted(times)
    for until in (organic_follows_until, unfollows_until):
        at_a, at_b, at_c = (int(until(STATIONARY, seed, t)) for t in (a, b, c))
        assert 0 <= at_a <= at_b <= at_c
        assert until(STATIONARY, seed, np.array([c, a])).tolist() == [at_c, at_a]


def test_organic_follows_come_at_their_rate():
    days = 720
    seeds = [int(seed) for seed in derived_seeds(1, 20)]
    total = sum(int(organic_follows_until(STATIONARY, seed, 24.0 * days)) for seed in seeds)
    expected = STATIONARY.organic_follows_per_day * days * len(seeds)
    assert abs(total - expected) < 5 * math.sqrt(expected)


def test_expected_follows_are_the_rate_times_the_impressions():
    for name in ("stationary", "heavy_tail", "shocks"):
        world = WORLDS[name]
        index = np.arange(200_000)
        posted = schedule_hours(world, 5, index)
        posts = describe_posts(world, 5, index, 0, posted, math.log(2.0))
        ratio = posts.follows / (2.0 * world.mean_impressions / 1000.0)
        error = ratio.std() / math.sqrt(len(index))
        shocks = world.shock_sigma * 2 / math.sqrt(posted[-1] / 24)
        assert abs(ratio.mean() - 1.0) < 5 * (error + shocks), name


def test_the_frailty_has_mean_one_and_the_variance_asked_for():
    index = np.arange(300_000)
    for heavy in (False, True):
        world = replace(STATIONARY, heavy_tailed=heavy, post_frailty=0.5)
        theta = describe_posts(world, 2, index, 0, 1.0, 0.0).frailty
        assert theta.mean() == pytest.approx(1.0, abs=0.01)
        assert theta.var() == pytest.approx(0.5, rel=0.05)


def test_given_its_clicks_a_post_follows_like_a_coin():
    world = STATIONARY
    index = np.arange(40_000)
    posts = describe_posts(world, 9, index, 0, 1.0, math.log(world.median_f_per_1k))
    clicks = np.bincount(click_events(world, posts).row, minlength=len(index)) + posts.follows
    p = world.follows_per_click
    surprise = (posts.follows - p * clicks) ** 2 / np.maximum(p * (1 - p) * clicks, 1e-9)
    live = clicks > 20
    assert surprise[live].mean() == pytest.approx(1.0, abs=0.1)


def test_a_better_generator_never_costs_a_post_followers():
    world = STATIONARY
    index = np.arange(5_000)
    worse = describe_posts(world, 4, index, 0, 1.0, 0.5)
    better = describe_posts(world, 4, index, 1, 1.0, 0.9)
    assert (better.follows >= worse.follows).all()
    assert (better.impressions == worse.impressions).all()
    assert better.follows.sum() > worse.follows.sum()


def test_the_audience_clock_increases_and_runs_at_its_rate():
    for world in (STATIONARY, replace(STATIONARY, start_hour_of_week=55.5)):
        t = np.linspace(0.0, 24.0 * 21, 5_000)
        clock = audience_hours(world, t)
        assert clock[0] == 0.0
        assert (np.diff(clock) > 0).all()
        middle = (t[1:] + t[:-1]) / 2
        slope = np.diff(clock) / np.diff(t)
        np.testing.assert_allclose(slope, audience_rate(world, middle), rtol=1e-3)
        assert audience_hours(world, 24.0 * 700) == pytest.approx(24.0 * 700, rel=1e-9)


def test_two_starts_see_the_same_hour_of_the_week():
    monday = STATIONARY
    thursday = replace(STATIONARY, start_hour_of_week=72.0)
    assert audience_rate(monday, 80.0) == pytest.approx(float(audience_rate(thursday, 8.0)))


@given(st.floats(0, 2000), st.floats(0, 200), st.floats(0, 200))
@settings(max_examples=40, deadline=None)
def test_windows_share_out_the_posts_of_the_schedule(start: float, first: float, second: float):
    world = STATIONARY
    a, b, c = start, start + first, start + first + second
    left, right, whole = (posts_between(world, 3, *w)[0] for w in ((a, b), (b, c), (a, c)))
    assert [*left, *right] == whole.tolist()


def test_a_longer_path_of_rates_begins_with_the_shorter():
    for world in WORLDS.values():
        short, long = rate_path(world, 5, 60), rate_path(world, 5, 120)
        assert (long[:, :61] == short).all(), world.name


def test_drift_keeps_the_spread_between_generators():
    world = WORLDS["drift"]
    path = rate_path(world, derived_seeds(1, 300), 90)
    spread = (path - math.log(world.median_f_per_1k)).std(axis=(0, 2))
    np.testing.assert_allclose(spread, world.rate_spread, rtol=0.06)
    assert (path[:, 0] != path[:, 90]).all()


def test_the_switch_exchanges_the_best_generator_with_another():
    world = WORLDS["switch"]
    assert world.switch_day is not None
    t = 24.0 * world.switch_day
    before, after = true_log_rates(world, 11, [t - 1e-6, t])
    assert sorted(before) == sorted(after)
    moved = np.flatnonzero(before != after)
    assert len(moved) == 2
    assert before.argmax() in moved
    assert before.argmax() != after.argmax()


def test_the_new_generator_is_absent_before_its_day_and_the_best_after():
    world = WORLDS["new_arm"]
    assert world.new_arm_day is not None
    t = 24.0 * world.new_arm_day
    before, after = available(world, [t - 1e-6, t])
    assert before.tolist() == [True] * 11 + [False]
    assert after.all()
    assert true_log_rates(world, 11, t).argmax() == 11


def test_all_generators_of_the_null_world_are_equal():
    rates = true_log_rates(WORLDS["null"], 11, [0.0, 1000.0])
    assert (rates == rates[0, 0]).all()


def test_shocks_hit_all_posts_of_a_day_alike():
    world = WORLDS["shocks"]
    factor = shock_factor(world, 3, np.array([24.5, 47.5, 48.5]))
    assert factor[0] == factor[1] != factor[2]


def test_an_impossible_world_is_refused():
    with pytest.raises(ValueError, match="posts_per_day must be positive"):
        replace(STATIONARY, posts_per_day=0.0)
    with pytest.raises(ValueError, match="clock"):
        replace(STATIONARY, day_amplitude=0.95)
