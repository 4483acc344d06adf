"""The table of a look-back adds up, keeps unknown apart from zero, and its intervals cover."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.intervals import Totals, fit_dispersion, rate_interval
from genopt_pipeline.core.performance import (
    LOOKBACKS,
    SUMMARY_COLUMNS,
    account_totals,
    performers,
    summarize,
    summarize_lookbacks,
)
from genopt_pipeline.core.tiers import absolute_tier, relative_tier
from genopt_pipeline.core.trends import TrendConfig, compare_periods

NOW = datetime(2026, 9, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


def post(name, hours_ago, impressions, followers, **more):
    return {
        "generator_name": name,
        "posted_at": NOW - timedelta(hours=hours_ago),
        "impressions": impressions,
        "followers": followers,
        "likes": None,
        "retweets": None,
        "replies": None,
        "quality_score": None,
        "experiment_arm": "control",
        **more,
    }


def frame(rows):
    columns = [*post("x", 0, 0, 0), "decision_id"]
    numbered = [{"decision_id": f"d{i}", **row} for i, row in enumerate(rows)]
    result = pd.DataFrame(numbered, columns=columns)
    result["posted_at"] = pd.to_datetime(result["posted_at"], utc=True)
    return result


def row_of(summary, name):
    return summary.set_index("generator_name").loc[name]


counts = st.none() | st.integers(0, 100_000)
post_rows = st.builds(
    post,
    st.sampled_from(["a", "b", "c"]),
    st.floats(0.01, 400),
    counts,
    st.none() | st.integers(0, 4000).map(lambda eighths: eighths / 8),
    likes=counts,
    retweets=counts,
    replies=counts,
)


@settings(max_examples=15, deadline=None)
@given(st.lists(post_rows, max_size=25), st.randoms(use_true_random=False))
def test_the_rows_add_up_to_the_posts_of_the_window_in_any_order(rows, rng):
    posts = frame(rows)
    summary = summarize(posts, ["a", "b", "c", "idle"], now=NOW, lookback=WEEK)
    inside = posts[posts["posted_at"] >= NOW - WEEK]
    measured = inside.dropna(subset=["impressions", "followers"])
    assert summary["posts_count"].sum() == len(inside)
    assert summary["posts_measured"].sum() == len(measured)
    assert summary["impressions"].sum() == measured["impressions"].sum()
    assert summary["followers_gained"].sum() == pytest.approx(measured["followers"].sum())
    assert summary["total_likes"].sum() == inside["likes"].sum()
    shuffled = rng.sample(range(len(posts)), len(posts))
    again = summarize(posts.iloc[shuffled], ["idle", "c", "b", "a"], now=NOW, lookback=WEEK)
    pd.testing.assert_frame_equal(summary, again)


@settings(max_examples=15, deadline=None)
@given(st.lists(post_rows, max_size=25))
def test_f_per_1k_lies_in_its_interval_and_ranks_follow_it(rows):
    summary = summarize(frame(rows), ["a", "b", "c"], now=NOW, lookback=WEEK)
    known = summary[summary["f_per_1k"].notna()]
    assert (known["f_per_1k_low"] <= known["f_per_1k"] * (1 + 1e-9)).all()
    bounded = known[known["f_per_1k_high"].notna()]
    assert (bounded["f_per_1k_high"] > bounded["f_per_1k"]).all()
    for _, one in known.iterrows():
        better = (known["f_per_1k"] > one["f_per_1k"] * (1 + 1e-9)).sum()
        assert one["rank"] == better + 1
    assert summary.loc[summary["f_per_1k"].isna(), "rank"].isna().all()


def test_no_posts_and_unmeasured_posts_and_no_followers_are_three_different_things():
    posts = frame(
        [
            post("unmeasured", 5, 1000, None),
            post("unmeasured", 6, None, 3.0),
            post("nobody", 5, 1000, 0.0),
        ]
    )
    summary = summarize(posts, ["idle", "nobody", "unmeasured"], now=NOW, lookback=WEEK)
    idle, nobody, unmeasured = (row_of(summary, n) for n in ("idle", "nobody", "unmeasured"))
    assert (idle.posts_count, unmeasured.posts_count, nobody.posts_count) == (0, 2, 1)
    assert unmeasured.posts_measured == 0
    assert nobody.f_per_1k == 0
    assert nobody.followers_gained == 0
    assert nobody["rank"] == 1
    for unknown in (idle, unmeasured):
        assert math.isnan(unknown.f_per_1k)
        assert math.isnan(unknown.followers_gained)
        assert unknown.tier is None
        assert unknown.impressions is pd.NA
        assert unknown["rank"] is pd.NA
        assert unknown.failed_posts is pd.NA


def test_an_empty_frame_gives_a_row_for_each_generator_and_no_figures():
    summary = summarize(frame([]), ["a", "b"], now=NOW)
    assert list(summary.columns) == list(SUMMARY_COLUMNS)
    assert list(summary["generator_name"]) == ["a", "b"]
    assert (summary["trend"] == "not_enough_data").all()
    assert account_totals(summary).f_per_1k is None
    assert performers(summary).top is None
    assert list(summarize(frame([]), [], now=NOW).columns) == list(SUMMARY_COLUMNS)


def test_the_look_back_includes_its_start_and_excludes_its_end():
    posts = frame([post("a", 0, 1, 0.0), post("a", 168, 2, 0.0), post("a", 168.001, 4, 0.0)])
    assert row_of(summarize(posts, ["a"], now=NOW, lookback=WEEK), "a").impressions == 2
    assert row_of(summarize(posts, ["a"], now=NOW, lookback=None), "a").impressions == 6


def test_engagement_is_a_ratio_of_sums_over_posts_whose_counts_are_all_known():
    posts = frame(
        [
            post("a", 1, 1000, None, likes=10, retweets=5, replies=2),
            post("a", 2, 9000, None, likes=0, retweets=0, replies=0),
            post("a", 3, 10, None, likes=10, retweets=None, replies=9),
        ]
    )
    row = row_of(summarize(posts, ["a"], now=NOW), "a")
    assert row.engagement_rate == pytest.approx((10 + 2 * 5 + 3 * 2) / 10_000)
    assert row.avg_likes == pytest.approx(20 / 3)
    assert row.avg_retweets == pytest.approx(2.5)


def test_viral_and_failed_posts_need_more_than_a_hundred_impressions():
    posts = frame(
        [
            post("a", 1, 100, 1.0),  # F/1K of 10, but hardly seen
            post("a", 2, 101, 1.0),  # viral
            post("a", 3, 1000, 5.0),  # exactly 5 is not above 5
            post("a", 4, 101, 0.9),  # F/1K of 8.9, but not one follower
            post("a", 5, 101, 0.49),  # failed: nobody, probably
            post("a", 6, 100, 0.0),  # too few saw it to call it failed
            post("a", 7, 101, 0.5),
        ]
    )
    row = row_of(summarize(posts, ["a"], now=NOW), "a")
    assert (row.viral_posts, row.failed_posts) == (1, 1)


def test_a_mean_exactly_on_a_boundary_belongs_to_the_lower_tier_even_from_rounded_sums():
    for impressions, followers in ((1100, 5.5), (6600, 33.0), (1230, 6.15)):
        rows = [post("a", i, impressions, followers) for i in range(1, 8)]
        assert row_of(summarize(frame(rows), ["a"], now=NOW), "a").tier == "excellent"


@pytest.mark.parametrize(
    ("f_per_1k", "tier"),
    [
        (5.0001, "viral"),
        (5.0, "excellent"),
        (3.0001, "excellent"),
        (3.0, "good"),
        (1.5001, "good"),
        (1.5, "average"),
        (0.5001, "average"),
        (0.5, "poor"),
        (0.0001, "poor"),
    ],
)
def test_the_upper_bound_of_a_tier_belongs_to_it(f_per_1k, tier):
    assert absolute_tier(f_per_1k, posts_measured=100) == tier


def test_failing_takes_ten_posts_and_a_net_loss_is_failing_too():
    assert absolute_tier(0.0, posts_measured=9) == "poor"
    assert absolute_tier(0.0, posts_measured=10) == "failing"
    assert absolute_tier(-2.0, posts_measured=10) == "failing"
    assert absolute_tier(0.04, posts_measured=10, followers=0.4) == "failing"
    assert absolute_tier(0.04, posts_measured=10, followers=1.0) == "poor"
    assert absolute_tier(None, posts_measured=0) is None
    assert absolute_tier(math.nan, posts_measured=0) is None


def test_a_small_account_has_all_relative_tiers_where_the_absolute_ones_say_poor():
    tiers = [
        relative_tier(x, f_per_1k_high=1.0, account_f_per_1k=0.03, posts_measured=20)
        for x in (0.2, 0.08, 0.04, 0.02, 0.005)
    ]
    assert tiers == ["viral", "excellent", "good", "average", "poor"]
    assert absolute_tier(0.2, posts_measured=20) == "poor"


def test_zero_followers_fail_relatively_only_when_the_account_would_have_earned_some():
    chance = relative_tier(0.0, f_per_1k_high=0.5, account_f_per_1k=0.07, posts_measured=10)
    failure = relative_tier(0.0, f_per_1k_high=0.3, account_f_per_1k=2.0, posts_measured=10)
    assert (chance, failure) == ("poor", "failing")
    for no_scale in (0.0, -1.0, None):
        assert (
            relative_tier(1.0, f_per_1k_high=2.0, account_f_per_1k=no_scale, posts_measured=10)
            is None
        )


def test_equal_rates_share_a_rank_and_the_next_one_is_skipped():
    rows = [post("a", 1, 1000, 2.0), post("b", 1, 3000, 6.0), post("c", 1, 1000, 1.0)]
    summary = summarize(frame([*rows, post("d", 1, 10, None)]), list("abcd"), now=NOW)
    assert summary["rank"].tolist() == [1, 1, 3, pd.NA]
    found = performers(summary, min_posts=1)
    assert (found.top, found.bottom, found.bottom_f_per_1k) == ("a", "c", 1.0)
    assert performers(summary, min_posts=3).top is None


def test_a_look_back_table_is_the_single_table_of_that_look_back():
    rng = np.random.default_rng(3)
    rows = [post("ab"[i % 2], 3 * i + 1, 500, float(rng.poisson(2))) for i in range(300)]
    stacked = summarize_lookbacks(frame(rows), ["a", "b"], now=NOW)
    assert list(stacked["lookback"].unique()) == list(LOOKBACKS)
    one = stacked[stacked["lookback"] == "14d"].drop(columns="lookback").reset_index(drop=True)
    alone = summarize(frame(rows), ["a", "b"], now=NOW, lookback=timedelta(days=14))
    pd.testing.assert_frame_equal(one, alone)


def test_an_arm_is_summed_alone():
    rows = [
        post("a", 1, 1000, 2.0),
        post("a", 2, 500, 4.0, experiment_arm="variant_a"),
        post("a", 3, 300, 1.0, experiment_arm=None),
    ]
    assert row_of(summarize(frame(rows), ["a"], now=NOW), "a").impressions == 1800
    assert row_of(summarize(frame(rows), ["a"], now=NOW, arm="variant_a"), "a").impressions == 500


def test_posts_without_a_generator_are_credited_to_nobody():
    rows = [post("a", 1, 1000, 2.0), post(None, 1, 5000, 9.0)]
    assert account_totals(summarize(frame(rows), ["a"], now=NOW)).impressions == 1000


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: p.assign(generator_name="A"), "not registered: A"),
        (lambda p: pd.concat([p, p]), "'d0'"),
        (lambda p: p.assign(impressions=-1), "impressions is negative"),
        (lambda p: p.assign(followers=math.inf), "followers is infinite"),
        (lambda p: p.assign(posted_at=p["posted_at"].dt.tz_localize(None)), "no time zone"),
        (lambda p: p.assign(posted_at=pd.NaT), "posted_at"),
        (lambda p: p.drop(columns=["likes", "followers"]), "lacks likes, followers"),
        (lambda p: p.assign(impressions="12.3K"), "12.3K"),
    ],
)
def test_input_that_contradicts_itself_is_an_error_that_names_it(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        summarize(change(frame([post("a", 1, 1000, 2.0)])), ["a"], now=NOW)


@pytest.mark.parametrize("dispersion", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("f_per_1k", [0.07, 0.5, 5.0])
def test_ninety_percent_intervals_cover_the_true_rate(f_per_1k, dispersion):
    """Exact for discrete counts means at least 90 %; with few followers it is more."""
    rng = np.random.default_rng(11)
    covered = total = 0
    for _ in range(30):
        accounts = []
        for n in (3, 8, 15, 40, 80):
            exposure = rng.lognormal(0.0, 1.0, n)
            mean = f_per_1k * exposure
            if dispersion:
                mean = rng.gamma(1 / dispersion, dispersion * mean)
            accounts.append((rng.poisson(mean).astype(float), exposure))
        fitted = fit_dispersion(accounts)
        for followers, exposure in accounts:
            low, high = rate_interval(Totals.of(followers, exposure), fitted)
            covered += low <= f_per_1k and (math.isnan(high) or f_per_1k <= high)
            total += 1
    assert covered / total > 0.86


def test_the_interval_is_not_merely_wide():
    rng = np.random.default_rng(5)
    exposure = rng.lognormal(0.0, 0.5, 100)
    followers = rng.poisson(2.0 * exposure).astype(float)
    low, high = rate_interval(
        Totals.of(followers, exposure), fit_dispersion([(followers, exposure)])
    )
    assert high / low < 2.0


@given(st.floats(0, 50), st.floats(0.1, 20), st.floats(0.02, 1))
def test_uncertain_credit_widens_the_interval(followers, exposure, kappa):
    dispersion = fit_dispersion([])
    sure = rate_interval(Totals(9, followers, exposure, kappa), dispersion)
    fuzzy = rate_interval(Totals(9, followers, exposure, kappa, followers + 0.5), dispersion)
    assert fuzzy[0] <= sure[0] * (1 + 1e-6) + 1e-9
    assert math.isnan(fuzzy[1]) or fuzzy[1] >= sure[1] * (1 - 1e-6)


def test_a_net_loss_has_the_mirrored_interval_and_no_exposure_has_none():
    dispersion = fit_dispersion([])
    low, high = rate_interval(Totals(9, 7.0, 3.0, 0.2), dispersion)
    assert rate_interval(Totals(9, -7.0, 3.0, 0.2), dispersion) == (-high, -low)
    assert all(math.isnan(x) for x in rate_interval(Totals(2, 0.0, 0.0, math.nan), dispersion))


def test_overdispersion_is_found_where_it_is_and_not_where_it_is_not():
    rng = np.random.default_rng(8)
    exposure = rng.lognormal(0.0, 1.0, 400)
    plain = rng.poisson(2.0 * exposure).astype(float)
    wild = rng.poisson(rng.gamma(0.5, 4.0 * exposure)).astype(float)
    assert fit_dispersion([(plain, exposure)]).mean < 0.1
    assert 1.4 < fit_dispersion([(wild, exposure)]).mean < 2.8


def trend_of(recent, earlier, posts=40, **config):
    kappa = 1 / posts
    return compare_periods(
        Totals(posts, recent, 40.0, kappa),
        Totals(posts, earlier, 40.0, kappa),
        dispersion=0.7,
        config=TrendConfig(**config),
    ).direction


def test_a_doubled_rate_improves_a_halved_one_declines_and_an_equal_one_is_stable():
    assert trend_of(200, 80) == "improving"
    assert trend_of(80, 200) == "declining"
    assert trend_of(100, 100) == "stable"


def test_few_posts_or_few_followers_are_not_enough_data_and_not_stable():
    assert trend_of(100, 100, posts=2) == "not_enough_data"
    assert trend_of(1, 1) == "not_enough_data"
    assert trend_of(0, 0) == "not_enough_data"


def test_a_certain_but_tiny_change_is_stable():
    assert trend_of(1.03e8, 1e8, posts=10_000_000) == "stable"
    assert trend_of(1.2e8, 1e8, posts=10_000_000) == "improving"


def test_followers_that_stop_coming_or_turn_to_leaving_are_a_decline():
    assert trend_of(0, 80) == "declining"
    assert trend_of(-60, 80) == "declining"
    assert trend_of(80, 0) == "improving"


def test_equal_periods_are_seldom_called_a_trend():
    rng = np.random.default_rng(21)
    found = 0
    for _ in range(400):
        exposure = rng.lognormal(0.0, 1.0, (2, 30))
        followers = rng.poisson(rng.gamma(1 / 0.7, 0.7 * 2.0 * exposure)).astype(float)
        trend = compare_periods(
            Totals.of(followers[0], exposure[0]),
            Totals.of(followers[1], exposure[1]),
            dispersion=0.7,
        )
        found += trend.direction in {"improving", "declining"}
    assert found / 400 < 0.09


def test_posts_too_young_to_have_brought_followers_are_not_a_decline():
    """Followers lag impressions; a constant generator seen through the lag must not decline."""
    rows = []
    for i in range(400):
        age = 48 * (i + 0.5) / 400
        impressions = round(50_000 * -math.expm1(-age / 8))
        rows.append(post("a", age, impressions, 100.0 * -math.expm1(-age / 16)))
    row = row_of(summarize(frame(rows), ["a"], now=NOW, lookback=timedelta(hours=24)), "a")
    assert row.trend == "stable"
    assert row.trend_ratio == pytest.approx(1.0, abs=1e-3)
