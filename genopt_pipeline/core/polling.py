"""Which posts to read now: by age, by what a reading would tell, and by what it costs.

Here: the polling plan of one collection, its cost and its projection to the month. Not here: the
requests themselves, the count of what was billed, and the clock.

A source bills a post once a UTC day, however often it is read in it, and the newest posts of the
account's own timeline cost less than posts asked for by id. So the plan decides which posts get
one of today's billed places; a post that has one is read for nothing for the rest of the day.
"""

import calendar
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

SkipReason = Literal[
    "too_old", "read_today", "deleted", "no_tweet_id", "day_budget", "month_budget", "requests"
]

#: How many posts one page of the timeline, or one request by ids, holds at most and at least.
PAGE_POSTS_MAX: Final = 100
PAGE_POSTS_MIN: Final = 5

_SECONDS_PER_HOUR: Final = 3600.0
_HOURS_PER_DAY: Final = 24.0


@dataclass(frozen=True)
class PriceTable:
    """Prices in USD, each once per object and UTC day.

    The defaults are those of X's pay-per-use price list as of August 2026; analytics is not on it.
    """

    timeline_post_usd: float = 0.001
    lookup_post_usd: float = 0.005
    user_usd: float = 0.010


@dataclass(frozen=True)
class PollingConfig:
    """How often posts are read, and what may be spent. None as a budget means no limit."""

    frequent_until_days: float = 7.0
    daily_until_days: float = 30.0
    #: time constant of a post's impressions, G(t) = 1 − exp(−t/τ)
    impressions_tau_hours: float = 8.0
    posts_per_utc_day: int | None = None
    posts_per_month: int | None = None
    prices: PriceTable = PriceTable()
    #: share of a budget from which on its end is announced
    warn_at_share: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.frequent_until_days <= self.daily_until_days:
            raise ValueError("frequent_until_days must be positive and at most daily_until_days")
        if not self.impressions_tau_hours > 0:
            raise ValueError("impressions_tau_hours must be positive")
        for name in ("posts_per_utc_day", "posts_per_month"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass(frozen=True)
class PollCandidate:
    """A tracked post; ``tweet_id`` is None while the post's id is not known."""

    tweet_id: str | None
    posted_at: datetime
    last_observed_at: datetime | None = None
    last_impressions: int | None = None


@dataclass(frozen=True)
class BudgetState:
    """What was spent so far; the ``*_requests_left`` are None while no header has told them."""

    billed_today: Collection[str] = frozenset()
    #: posts billed this UTC day; more than ``billed_today`` where it is not known which they were
    posts_today: int = 0
    #: posts billed this UTC month, today's included
    posts_this_month: int = 0
    usd_this_month: float = 0.0
    deleted: Collection[str] = frozenset()
    timeline_requests_left: int | None = None
    lookup_requests_left: int | None = None


@dataclass(frozen=True)
class SkippedPost:
    """A post that is not read in this window, and why."""

    tweet_id: str | None
    reason: SkipReason


@dataclass(frozen=True)
class Projection:
    """What the account will have cost at the end of the UTC month, if it goes on like this."""

    posts_this_month: int
    usd_this_month: float
    #: posts a day that the schedule wants, and that the budget lets it have
    wanted_posts_per_day: float
    posts_per_day: float
    projected_posts: float
    projected_usd: float
    #: UTC day on which the month's budget ends when every wanted post is read; None: it lasts
    budget_ends_on: str | None


@dataclass(frozen=True)
class PollPlan:
    """What to read in this window.

    ``timeline_posts`` newest posts of the own timeline (0: only those newer than what is known,
    or none when ``discover`` is false), then ``lookup_ids`` by id. ``wanted_ids`` are all posts
    that should get a reading, newest first; a wanted post that the timeline does not show is to
    be asked for by id, if ``wanted_billed`` or the budget allow it.
    """

    timeline_posts: int
    discover: bool
    wanted_ids: tuple[str, ...]
    lookup_ids: tuple[str, ...]
    skipped: tuple[SkippedPost, ...]
    #: posts that this plan adds to today's bill, new ones not counted
    newly_billed_posts: int
    newly_billed_usd: float
    #: places kept for posts that are not known yet
    reserved_posts: int
    #: places left today before this plan; None without a budget
    posts_left_today: int | None
    projection: Projection
    warnings: tuple[str, ...]


def plan_polling(
    candidates: Sequence[PollCandidate],
    budget: BudgetState,
    *,
    now: datetime,
    config: PollingConfig | None = None,
) -> PollPlan:
    """Plan the readings of the window that ``now`` (UTC) lies in.

    A post is due in every window until ``frequent_until_days``, then once a UTC day until
    ``daily_until_days``. Posts already billed today are all read. The others compete for the
    places that are left by the impressions that a reading is expected to reveal by the end of
    the UTC day: Î·(exp(−a₀/τ) − exp(−a₁/τ)), a₀ the age at the last reading (0 if never read),
    a₁ the age at midnight, Î = impressions/G(a₀), or the median of the others where not known.

    The month's budget is spread evenly over the days that are left of it, so it cannot end early.
    """
    config = config or PollingConfig()
    now = now.astimezone(UTC)
    skipped: list[SkippedPost] = []
    timeline: list[tuple[PollCandidate, str]] = []
    due: list[tuple[PollCandidate, str]] = []
    for post in sorted(_unique(candidates), key=lambda p: (p.posted_at, p.tweet_id or "")):
        reason = _not_due(post, budget, now, config)
        if post.tweet_id is not None and reason not in {"too_old", "deleted"}:
            timeline.append((post, post.tweet_id))
        if reason is not None:
            skipped.append(SkippedPost(post.tweet_id, reason))
        elif post.tweet_id is not None:
            due.append((post, post.tweet_id))
    timeline.reverse()
    due.reverse()

    arrivals_per_day = _arrivals_per_day(candidates, now, config)
    hard_left, soft_left, limiting = _places_left(budget, now, config)
    reserved = 0
    if soft_left is not None:
        rest_of_day = (_midnight_after(now) - now).total_seconds() / (24 * _SECONDS_PER_HOUR)
        reserved = min(soft_left, max(PAGE_POSTS_MIN, math.ceil(arrivals_per_day * rest_of_day)))

    billed = [tweet for _, tweet in due if tweet in budget.billed_today]
    competing = [(post, tweet) for post, tweet in due if tweet not in budget.billed_today]
    chosen = [tweet for _, tweet in competing]
    if soft_left is not None and len(competing) > soft_left - reserved:
        value = _expected_new_impressions([post for post, _ in competing], now, config)
        order = sorted(range(len(competing)), key=lambda i: (-value[i], i))
        keep = set(order[: soft_left - reserved])
        chosen = [tweet for i, (_, tweet) in enumerate(competing) if i in keep]
        skipped.extend(
            SkippedPost(tweet, limiting) for i, (_, tweet) in enumerate(competing) if i not in keep
        )
    if budget.timeline_requests_left == 0:
        # by id they would cost several times as much; a later window has the timeline again
        skipped.extend(SkippedPost(tweet, "requests") for tweet in chosen)
        chosen = []
    wanted_set = {*billed, *chosen}
    wanted = [tweet for _, tweet in due if tweet in wanted_set]

    depth, lookups, cost = _cheapest_route(
        [tweet for _, tweet in timeline], wanted, budget, hard_left, soft_left, reserved, config
    )
    if budget.lookup_requests_left is not None:
        room = budget.lookup_requests_left * PAGE_POSTS_MAX
        skipped.extend(SkippedPost(tweet, "requests") for tweet in lookups[room:])
        dropped = set(lookups[room:])
        lookups = lookups[:room]
        wanted = [tweet for tweet in wanted if tweet not in dropped]
    discover = budget.timeline_requests_left != 0 and (
        hard_left is None or hard_left >= PAGE_POSTS_MIN
    )
    projection = _project(budget, arrivals_per_day, now, config)
    return PollPlan(
        timeline_posts=depth,
        discover=discover,
        wanted_ids=tuple(wanted),
        lookup_ids=tuple(lookups),
        skipped=tuple(skipped),
        newly_billed_posts=cost[0],
        newly_billed_usd=cost[1],
        reserved_posts=reserved,
        posts_left_today=hard_left,
        projection=projection,
        warnings=tuple(_warnings(budget, projection, skipped, discover=discover, config=config)),
    )


def plan_report(plan: PollPlan, *, examples: int = 10) -> dict[str, Any]:
    """The plan as JSON for people: counts, reasons with some examples, costs and warnings."""
    reasons = Counter(post.reason for post in plan.skipped)
    shown = {
        reason: [p.tweet_id for p in plan.skipped if p.reason == reason and p.tweet_id][:examples]
        for reason in reasons
    }
    projection = plan.projection
    return {
        "timeline_posts": plan.timeline_posts,
        "lookup_posts": len(plan.lookup_ids),
        "wanted_posts": len(plan.wanted_ids),
        "discover": plan.discover,
        "newly_billed_posts": plan.newly_billed_posts,
        "newly_billed_usd": round(plan.newly_billed_usd, 6),
        "reserved_posts": plan.reserved_posts,
        "posts_left_today": plan.posts_left_today,
        "skipped": dict(sorted(reasons.items())),
        "skipped_examples": shown,
        "posts_this_month": projection.posts_this_month,
        "usd_this_month": round(projection.usd_this_month, 6),
        "wanted_posts_per_day": round(projection.wanted_posts_per_day, 3),
        "posts_per_day": round(projection.posts_per_day, 3),
        "projected_month_posts": round(projection.projected_posts, 1),
        "projected_month_usd": round(projection.projected_usd, 4),
        "budget_ends_on": projection.budget_ends_on,
        "warnings": list(plan.warnings),
    }


def page_sizes(posts: int) -> list[int]:
    """Sizes of the timeline's pages that together show ``posts`` newest posts."""
    sizes = [PAGE_POSTS_MAX] * (posts // PAGE_POSTS_MAX)
    if rest := posts % PAGE_POSTS_MAX:
        sizes.append(max(rest, PAGE_POSTS_MIN))
    return sizes


def _unique(candidates: Sequence[PollCandidate]) -> list[PollCandidate]:
    """Each tweet once: the entry that was read last."""
    best: dict[str, PollCandidate] = {}
    without_id = [post for post in candidates if post.tweet_id is None]
    never = datetime.min.replace(tzinfo=UTC)
    for post in candidates:
        if post.tweet_id is None:
            continue
        known = best.get(post.tweet_id)
        if known is None or (post.last_observed_at or never) > (known.last_observed_at or never):
            best[post.tweet_id] = post
    return without_id + list(best.values())


def _not_due(
    post: PollCandidate, budget: BudgetState, now: datetime, config: PollingConfig
) -> SkipReason | None:
    if post.tweet_id is None:
        return "no_tweet_id"
    if post.tweet_id in budget.deleted:
        return "deleted"
    age = now - post.posted_at
    if age >= timedelta(days=config.daily_until_days):
        return "too_old"
    if age < timedelta(days=config.frequent_until_days):
        return None
    seen = post.last_observed_at
    if seen is not None and seen.astimezone(UTC).date() >= now.date():
        return "read_today"
    return None


def _midnight_after(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _days_left_in_month(now: datetime) -> int:
    """UTC days of the month that are not over, today included."""
    return calendar.monthrange(now.year, now.month)[1] - now.day + 1


def _places_left(
    budget: BudgetState, now: datetime, config: PollingConfig
) -> tuple[int | None, int | None, SkipReason]:
    """Hard limit, paced limit, and which budget the paced limit comes from."""
    hard: int | None = None
    soft: int | None = None
    limiting: SkipReason = "day_budget"
    if config.posts_per_utc_day is not None:
        hard = soft = max(config.posts_per_utc_day - budget.posts_today, 0)
    if config.posts_per_month is not None:
        month_left = max(config.posts_per_month - budget.posts_this_month, 0)
        at_day_start = max(
            config.posts_per_month - (budget.posts_this_month - budget.posts_today), 0
        )
        paced = max(math.ceil(at_day_start / _days_left_in_month(now)) - budget.posts_today, 0)
        hard = month_left if hard is None else min(hard, month_left)
        if soft is None or paced < soft:
            soft, limiting = min(paced, month_left), "month_budget"
    return hard, soft, limiting


def _arrivals_per_day(
    candidates: Sequence[PollCandidate], now: datetime, config: PollingConfig
) -> float:
    """Posts a day that went live lately."""
    horizon = timedelta(days=config.frequent_until_days)
    recent = [p.posted_at for p in candidates if timedelta(0) <= now - p.posted_at < horizon]
    if not recent:
        return 0.0
    # a young account has not posted for the whole horizon; a day is the least that is a rate
    span_days = max((now - min(recent)).total_seconds() / (24 * _SECONDS_PER_HOUR), 1.0)
    return len(recent) / min(span_days, config.frequent_until_days)


def _expected_new_impressions(
    posts: Sequence[PollCandidate], now: datetime, config: PollingConfig
) -> list[float]:
    tau = config.impressions_tau_hours
    midnight = _midnight_after(now)
    totals: list[float | None] = []
    unseen: list[float] = []
    for post in posts:
        seen_at = post.last_observed_at
        age_seen = (
            0.0
            if seen_at is None
            else max((seen_at - post.posted_at).total_seconds() / _SECONDS_PER_HOUR, 0.0)
        )
        age_end = (midnight - post.posted_at).total_seconds() / _SECONDS_PER_HOUR
        unseen.append(math.exp(-age_seen / tau) - math.exp(-max(age_end, age_seen) / tau))
        grown = -math.expm1(-age_seen / tau)
        # below 5 % grown the extrapolation says more about the clock than about the post
        known = post.last_impressions is not None and grown > 0.05
        totals.append((post.last_impressions or 0) / grown if known else None)
    known_totals = sorted(total for total in totals if total is not None)
    typical = known_totals[len(known_totals) // 2] if known_totals else 1.0
    # a post without impressions so far is still worth more than one that is not read at all
    return [
        max(typical if total is None else total, 1.0) * part
        for total, part in zip(totals, unseen, strict=True)
    ]


def _cheapest_route(
    timeline: Sequence[str],
    wanted: Sequence[str],
    budget: BudgetState,
    hard_left: int | None,
    soft_left: int | None,
    reserved: int,
    config: PollingConfig,
) -> tuple[int, list[str], tuple[int, float]]:
    """How deep to read the timeline; what it does not reach goes by id.

    The timeline shows also posts that are not wanted, billed all the same, so deeper is not
    always cheaper. A page may hold nothing but posts unknown so far: it is only asked for when
    the budget could bear that (``hard_left``), so that the budget holds whatever the page shows.
    """
    wanted_set = set(wanted)
    prices = config.prices
    unbilled_before = [0]
    wanted_before = [0]
    wanted_unbilled_before = [0]
    for tweet in timeline:
        is_new = tweet not in budget.billed_today
        is_wanted = tweet in wanted_set
        unbilled_before.append(unbilled_before[-1] + is_new)
        wanted_before.append(wanted_before[-1] + is_wanted)
        wanted_unbilled_before.append(wanted_unbilled_before[-1] + (is_new and is_wanted))
    options: list[tuple[float, int, int]] = []
    for depth in [0, *(i + 1 for i, tweet in enumerate(timeline) if tweet in wanted_set)]:
        sizes = page_sizes(depth)
        reached = min(sum(sizes), len(timeline))
        if hard_left is not None and sum(sizes) > hard_left:
            continue
        requests_left = budget.timeline_requests_left
        if depth and requests_left is not None and len(sizes) > requests_left:
            continue
        by_id_new = wanted_unbilled_before[-1] - wanted_unbilled_before[reached]
        new = unbilled_before[reached] + by_id_new
        if soft_left is not None and depth and new > soft_left - reserved:
            continue
        usd = (
            unbilled_before[reached] * prices.timeline_post_usd + by_id_new * prices.lookup_post_usd
        )
        by_id = wanted_before[-1] - wanted_before[reached]
        requests = max(len(sizes), 1) + math.ceil(by_id / PAGE_POSTS_MAX)
        options.append((usd, requests, depth))
    usd, _, depth = min(options)
    reached = min(sum(page_sizes(depth)), len(timeline))
    shown = set(timeline[:reached])
    by_id_posts = [tweet for tweet in wanted if tweet not in shown]
    new = unbilled_before[reached] + sum(t not in budget.billed_today for t in by_id_posts)
    return depth, by_id_posts, (new, usd)


def _project(
    budget: BudgetState, arrivals_per_day: float, now: datetime, config: PollingConfig
) -> Projection:
    prices = config.prices
    days_left = _days_left_in_month(now)
    wanted = max(arrivals_per_day * config.daily_until_days, float(budget.posts_today))
    allowed = wanted
    if config.posts_per_utc_day is not None:
        allowed = min(allowed, float(config.posts_per_utc_day))
    before_today = budget.posts_this_month - budget.posts_today
    rest = allowed * days_left
    ends_on: str | None = None
    if config.posts_per_month is not None:
        month_left = max(config.posts_per_month - before_today, 0)
        if rest > month_left:
            lasts_days = int(month_left // allowed)
            ends_on = (now.date() + timedelta(days=lasts_days)).isoformat()
            rest = float(month_left)
    todo_posts = max(rest - budget.posts_today, 0.0)
    # the account itself was billed today if any post was, or will be: at most once too often
    todo_usd = todo_posts * prices.timeline_post_usd + days_left * prices.user_usd
    return Projection(
        posts_this_month=budget.posts_this_month,
        usd_this_month=budget.usd_this_month,
        wanted_posts_per_day=wanted,
        posts_per_day=rest / days_left,
        projected_posts=before_today + max(rest, float(budget.posts_today)),
        projected_usd=budget.usd_this_month + todo_usd,
        budget_ends_on=ends_on,
    )


def _warnings(
    budget: BudgetState,
    projection: Projection,
    skipped: Sequence[SkippedPost],
    *,
    discover: bool,
    config: PollingConfig,
) -> list[str]:
    found: list[str] = []
    for name, spent, limit in (
        ("day", budget.posts_today, config.posts_per_utc_day),
        ("month", budget.posts_this_month, config.posts_per_month),
    ):
        if limit is not None and spent >= config.warn_at_share * limit:
            found.append(f"{spent} of the {name}'s {limit} posts are spent")
    if projection.budget_ends_on is not None:
        found.append(
            f"reading all {projection.wanted_posts_per_day:.0f} posts a day would end the month's "
            f"budget of {config.posts_per_month} posts on {projection.budget_ends_on}; it is "
            "spread over the month instead, and posts are skipped: raise it, or track fewer days"
        )
    over = sum(post.reason in {"day_budget", "month_budget"} for post in skipped)
    if over:
        found.append(f"{over} posts are not read in this window, for want of budget")
    requests = sum(post.reason == "requests" for post in skipped)
    if requests:
        found.append(f"{requests} posts are not read in this window, for want of requests")
    if not discover:
        found.append("new posts are not looked for in this window: no budget or requests left")
    return found
