from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.polling import (
    PAGE_POSTS_MIN,
    BudgetState,
    PollCandidate,
    PollingConfig,
    PriceTable,
    page_sizes,
    plan_polling,
    plan_report,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def post(number, age_hours, *, seen_hours_ago=None, impressions=None):
    return PollCandidate(
        tweet_id=str(number),
        posted_at=NOW - timedelta(hours=age_hours),
        last_observed_at=None if seen_hours_ago is None else NOW - timedelta(hours=seen_hours_ago),
        last_impressions=impressions,
    )


@st.composite
def accounts(draw):
    posts = draw(
        st.lists(
            st.builds(
                post,
                st.integers(1, 300),
                st.floats(0, 40 * 24),
                seen_hours_ago=st.one_of(st.none(), st.floats(0, 72)),
                impressions=st.one_of(st.none(), st.integers(0, 10**6)),
            ),
            max_size=150,
            unique_by=lambda p: p.tweet_id,
        )
    )
    ids = [p.tweet_id for p in posts]
    billed = frozenset(draw(st.sets(st.sampled_from(ids)))) if ids else frozenset()
    today = len(billed) + draw(st.integers(0, 20))
    limit = st.one_of(st.none(), st.integers(0, 400))
    config = PollingConfig(
        posts_per_utc_day=draw(limit),
        posts_per_month=draw(st.one_of(st.none(), st.integers(0, 5000))),
    )
    budget = BudgetState(
        billed_today=billed,
        posts_today=today,
        posts_this_month=today + draw(st.integers(0, 2000)),
        timeline_requests_left=draw(st.one_of(st.none(), st.integers(0, 6))),
        lookup_requests_left=draw(st.one_of(st.none(), st.integers(0, 3))),
    )
    return posts, budget, config


@given(accounts())
@settings(max_examples=100, deadline=None)
def test_a_plan_never_bills_more_than_is_left_of_the_day_and_the_month(case):
    posts, budget, config = case
    plan = plan_polling(posts, budget, now=NOW, config=config)
    for limit, spent in (
        (config.posts_per_utc_day, budget.posts_today),
        (config.posts_per_month, budget.posts_this_month),
    ):
        if limit is None:
            continue
        left = max(limit - spent, 0)
        assert plan.newly_billed_posts <= left
        # a page may hold posts that nobody knew of: even then the budget holds
        assert sum(page_sizes(plan.timeline_posts)) <= left
        if plan.discover:
            assert left >= PAGE_POSTS_MIN


@given(accounts())
@settings(max_examples=100, deadline=None)
def test_every_tracked_post_is_either_wanted_or_skipped_with_a_reason(case):
    posts, budget, config = case
    plan = plan_polling(posts, budget, now=NOW, config=config)
    outcome = Counter([*plan.wanted_ids, *(p.tweet_id for p in plan.skipped)])
    assert outcome == Counter(p.tweet_id for p in posts)
    assert set(plan.lookup_ids) <= set(plan.wanted_ids)


@given(accounts())
@settings(max_examples=100, deadline=None)
def test_posts_that_are_billed_already_are_read_again_whatever_the_budget(case):
    posts, budget, config = case
    if budget.lookup_requests_left is not None:
        return
    plan = plan_polling(posts, budget, now=NOW, config=config)
    free = {
        p.tweet_id
        for p in posts
        if p.tweet_id in budget.billed_today and NOW - p.posted_at < timedelta(days=7)
    }
    assert free <= set(plan.wanted_ids)


@given(accounts())
@settings(max_examples=100, deadline=None)
def test_the_requests_that_the_headers_allow_are_not_exceeded(case):
    posts, budget, config = case
    plan = plan_polling(posts, budget, now=NOW, config=config)
    if budget.timeline_requests_left is not None:
        assert len(page_sizes(plan.timeline_posts)) <= budget.timeline_requests_left
        assert budget.timeline_requests_left > 0 or not plan.discover
    if budget.lookup_requests_left is not None:
        assert len(plan.lookup_ids) <= 100 * budget.lookup_requests_left


@given(accounts(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_tracked_posts_does_not_matter(case, random):
    posts, budget, config = case
    shuffled = list(posts)
    random.shuffle(shuffled)
    assert plan_polling(shuffled, budget, now=NOW, config=config) == plan_polling(
        posts, budget, now=NOW, config=config
    )


def test_posts_are_due_every_window_for_seven_days_then_daily_until_thirty():
    posts = [
        post(1, 1, seen_hours_ago=0.2),
        post(2, 167, seen_hours_ago=0.2),
        post(3, 169, seen_hours_ago=0.2),
        post(4, 169, seen_hours_ago=12.1),
        post(5, 29.9 * 24, seen_hours_ago=30),
        post(6, 30 * 24),
    ]
    plan = plan_polling(posts, BudgetState(), now=NOW)
    assert plan.wanted_ids == ("1", "2", "4", "5")
    assert {p.tweet_id: p.reason for p in plan.skipped} == {"3": "read_today", "6": "too_old"}


def test_deleted_posts_and_posts_without_an_id_are_named_and_not_read():
    posts = [post(1, 1), PollCandidate(tweet_id=None, posted_at=NOW)]
    plan = plan_polling(posts, BudgetState(deleted={"1"}), now=NOW)
    assert plan.wanted_ids == ()
    assert {p.reason for p in plan.skipped} == {"deleted", "no_tweet_id"}


def test_a_short_budget_goes_to_the_posts_whose_next_reading_tells_most():
    posts = [
        post(1, 0.2),  # never read
        post(2, 6, seen_hours_ago=1, impressions=5000),  # growing fast
        post(3, 6, seen_hours_ago=1, impressions=10),  # hardly seen
        post(4, 150, seen_hours_ago=13, impressions=9000),  # grown up
    ]
    places = [
        plan_polling(
            posts,
            BudgetState(),
            now=NOW,
            config=PollingConfig(posts_per_utc_day=PAGE_POSTS_MIN + n),
        ).wanted_ids
        for n in range(1, 5)
    ]
    assert [set(w) for w in places] == [{"1"}, {"1", "2"}, {"1", "2", "3"}, {"1", "2", "3", "4"}]


def test_the_month_is_spread_evenly_over_the_days_that_are_left():
    posts = [post(n, n * 0.5) for n in range(1, 200)]
    config = PollingConfig(posts_per_month=1100)
    # the 20th: eleven days are left, 100 places for each
    plan = plan_polling(posts, BudgetState(), now=NOW, config=config)
    assert plan.newly_billed_posts + plan.reserved_posts <= 100
    assert {p.reason for p in plan.skipped} == {"month_budget"}
    assert plan.projection.budget_ends_on is not None
    assert any("for want of budget" in text for text in plan.warnings)


def test_an_isolated_old_post_is_asked_for_by_id_and_a_dense_run_is_read_from_the_timeline():
    young = [post(n, n * 0.1) for n in range(1, 51)]
    billed_old = [post(n, 24 * 8 + n, seen_hours_ago=1) for n in range(100, 160)]
    straggler = post(200, 24 * 29, seen_hours_ago=30)
    plan = plan_polling([*young, *billed_old, straggler], BudgetState(), now=NOW)
    # 60 undue posts lie between: 60 × $0.001 is dearer than 1 × $0.005
    assert plan.timeline_posts == 50
    assert plan.lookup_ids == ("200",)
    assert plan.newly_billed_usd == pytest.approx(50 * 0.001 + 0.005)
    # were they billed already, the timeline would be the cheaper way
    billed = {p.tweet_id for p in billed_old}
    plan = plan_polling(
        [*young, *billed_old, straggler],
        BudgetState(billed_today=billed, posts_today=60, posts_this_month=60),
        now=NOW,
    )
    assert plan.lookup_ids == ()
    assert plan.newly_billed_usd == pytest.approx(51 * 0.001)


def test_the_projection_multiplies_the_daily_bill_by_the_days_of_the_month():
    posts = [post(n, n * 1.6) for n in range(1, 106)]  # 15 posts a day for seven days
    now = datetime(2026, 11, 1, tzinfo=UTC)
    shifted = [
        PollCandidate(tweet_id=p.tweet_id, posted_at=p.posted_at - (NOW - now)) for p in posts
    ]
    plan = plan_polling(
        shifted, BudgetState(), now=now, config=PollingConfig(prices=PriceTable(0.002, 0.01, 0.0))
    )
    rate = len([p for p in shifted if now - p.posted_at < timedelta(days=7)]) / 7
    assert plan.projection.wanted_posts_per_day == pytest.approx(rate * 30, rel=0.02)
    assert plan.projection.projected_usd == pytest.approx(
        plan.projection.projected_posts * 0.002, rel=1e-9
    )


def test_the_end_of_a_budget_is_announced_before_it_comes():
    config = PollingConfig(posts_per_utc_day=100)
    quiet = BudgetState(posts_today=79, posts_this_month=79)
    loud = BudgetState(posts_today=80, posts_this_month=80)
    assert not any("spent" in w for w in plan_polling([], quiet, now=NOW, config=config).warnings)
    assert any(
        "80 of the day's 100" in w for w in plan_polling([], loud, now=NOW, config=config).warnings
    )


def test_the_report_counts_what_was_skipped_and_why():
    posts = [post(1, 1), post(2, 24 * 31), post(3, 24 * 32)]
    report = plan_report(plan_polling(posts, BudgetState(), now=NOW))
    assert report["wanted_posts"] == 1
    assert report["skipped"] == {"too_old": 2}


@given(st.integers(0, 3200))
def test_pages_hold_all_posts_asked_for_and_respect_the_limits_of_a_page(posts):
    sizes = page_sizes(posts)
    assert sum(sizes) >= posts
    assert all(PAGE_POSTS_MIN <= size <= 100 for size in sizes)
    assert sum(sizes) - posts < PAGE_POSTS_MIN


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="frequent_until_days"):
        PollingConfig(frequent_until_days=40)
    with pytest.raises(ValueError, match="posts_per_month"):
        PollingConfig(posts_per_month=-1)
