"""The X API as a source of metrics: one window of one account, collected as far as it goes.

Here: whether a window can be served, the order of the steps, blocks (cap, credits), the batch and
its report. Not here: HTTP, parsing, the plan, the bill; each has its module.

For one thread and one account. Everything that has to be known in the next window is in the
``StateStore``, so a source can be made anew for each.
"""

import logging
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from genopt_pipeline.core.observations import CollectedBatch, CollectRequest, TrackedPost
from genopt_pipeline.core.polling import PollCandidate, PollPlan, plan_polling, plan_report
from genopt_pipeline.sources.base import WindowNotServableError
from genopt_pipeline.sources.x_api import analytics
from genopt_pipeline.sources.x_api.client import XApiClient
from genopt_pipeline.sources.x_api.config import XApiConfig
from genopt_pipeline.sources.x_api.errors import X_API_ERRORS, XApiError, XApiRefusedError
from genopt_pipeline.sources.x_api.gathering import Gathering
from genopt_pipeline.sources.x_api.ledger import BudgetLedger
from genopt_pipeline.sources.x_api.reading import LiveWindow
from genopt_pipeline.sources.x_api.state import StateStore
from genopt_pipeline.sources.x_api.transport import DeadlineTransport

log = logging.getLogger("genopt_pipeline.sources.x_api")

#: errors after which collection rests, and how long until it is tried again
_PROBE_AFTER: Final = {
    "usage_capped": timedelta(days=1),
    "no_credits": timedelta(hours=1),
}
_LATEST_RESET_DAY: Final = 28


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


class XApiSource:
    """A ``MetricsSource`` on the X API (or on a server in its shape).

    Parameters
    ----------
    config
        Where, as whom, within which bounds and budget.
    state
        Keeps the bill, the rate limits and what the API lacks, by user.
    transport, clock, monotonic, sleep, rng
        The hands: connection, time (UTC), durations, waiting, jitter. A transport that is handed
        in stays open when the source is closed only if its owner keeps it so.
    """

    def __init__(
        self,
        config: XApiConfig,
        state: StateStore,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._ledger = BudgetLedger(
            state, f"x_api/{config.user_id}", clock=clock, prices=config.polling.prices
        )
        self._client = XApiClient(
            config,
            self._ledger,
            transport=transport or DeadlineTransport(monotonic=monotonic),
            clock=clock,
            monotonic=monotonic,
            sleep=sleep,
            rng=rng,
        )

    @property
    def name(self) -> str:
        """Short name, stored with every observation."""
        return "x_api"

    @property
    def identity(self) -> str:
        """Which account it reads."""
        return f"{self.name}:{self._config.user_id}"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def can_serve(self, window_start: datetime, window_end: datetime, *, now: datetime) -> bool:
        """The window is the present one, or holds a full hour that analytics can still give.

        Sends and changes nothing, so that a sensor may ask while a window is being collected.
        """
        if window_start <= now < window_end:
            return True
        if self._past_hour(window_start, window_end, now) is None:
            return False
        self._ledger.look()
        return self._ledger.analytics.status == "present" and not self._rests(now)

    def stored(self) -> None:
        """The last batch is in the database: what it showed need not be looked for again."""
        self._ledger.confirm()

    def collect(self, request: CollectRequest) -> CollectedBatch:
        """Observe the account in the request's window.

        What was delivered is returned even if a later step failed: ``report["problems"]`` names
        each failed step, ``report["complete"]`` is then false.

        Raises
        ------
        WindowNotServableError
            The window is not the present one and analytics cannot give it.
        XApiTransientError, XApiRateLimitedError, XApiRefusedError
            Nothing at all was observed, and why.
        """
        self._ledger.open()
        now = self._clock()
        if request.window_start <= request.now < request.window_end:
            # the caller's now decides about the window, the source's clock about what is true: a
            # caller that takes now from an old window would store today's numbers as old ones
            if not request.window_start <= now < request.window_end:
                raise WindowNotServableError(
                    f"the window {_span(request)} is not the present one: it is "
                    f"{now:%Y-%m-%d %H:%M:%S} UTC; numbers of now are not filled into it"
                )
            return self._collect_live(request, now)
        return self._collect_past(request, now)

    def check_access(self) -> int:
        """Ask once whose the token is; returns the account's followers. X may bill the request.

        Raises
        ------
        XApiTransientError, XApiRateLimitedError, XApiRefusedError
            X did not answer, or the token is not the account's.
        """
        config, gathering = self._config, Gathering()
        self._ledger.open()
        self._client.begin_window(self._monotonic() + config.limits.request_seconds)
        window = LiveWindow(config, self._client, self._ledger, gathering, {}, now=self._clock())
        window.read_followers()
        self._ledger.close()
        _raise_first(gathering)
        if not gathering.followers:
            raise XApiRefusedError(
                "X answered without the account's follower count", kind="no_count"
            )
        return gathering.followers[0].followers_count

    # -- the present window ------------------------------------------------------------------

    def _collect_live(self, request: CollectRequest, now: datetime) -> CollectedBatch:
        self._rest_if_blocked(now)
        config, ledger = self._config, self._ledger
        window_left = (request.window_end - now).total_seconds()
        self._client.begin_window(
            self._monotonic() + min(config.limits.collect_seconds, window_left)
        )
        gathering = Gathering()
        plan = plan_polling(
            [_candidate(post) for post in request.tracked],
            ledger.budget_state(),
            now=now,
            config=config.polling,
        )
        known: dict[str, tuple[str | None, datetime]] = {
            post.tweet_id or "": (post.decision_id, post.posted_at)
            for post in request.tracked
            if _has_id(post)
        }
        window = LiveWindow(config, self._client, ledger, gathering, known, now=now)
        if config.read_followers:
            window.read_followers()
        if not gathering.stopped and analytics.is_due(config.analytics, ledger, now):
            young = timedelta(days=config.polling.frequent_until_days)
            deleted = ledger.budget_state().deleted
            posts = [
                post
                for post in request.tracked
                if _has_id(post)
                and post.tweet_id not in deleted
                and timedelta(0) < now - post.posted_at < young
            ]
            analytics.read_platform_follows(self._client, ledger, posts, gathering, now=now)
        if not gathering.stopped:
            gone = ledger.budget_state().deleted
            order = sorted((t for t in known if t not in gone), key=int, reverse=True)
            window.read_timeline(plan, order)
        if not gathering.stopped:
            window.read_by_id(self._stragglers(plan, gathering))
        self._learn_blocks(gathering, now)
        ledger.close()
        if not gathering.observed_anything and not gathering.rejected:
            _raise_first(gathering)
        return self._batch(request, gathering, plan)

    def _stragglers(self, plan: PollPlan, gathering: Gathering) -> list[str]:
        """Wanted posts that the timeline did not show.

        If the timeline failed, posts that it would have shown cheaply wait for the next window,
        unless they are billed already.
        """
        planned = set(plan.lookup_ids)
        return [
            tweet
            for tweet in plan.wanted_ids
            if tweet not in gathering.shown
            and (tweet in planned or gathering.timeline_complete or self._ledger.is_billed(tweet))
        ]

    def _batch(
        self, request: CollectRequest, gathering: Gathering, plan: PollPlan | None
    ) -> CollectedBatch:
        tracked = {post.tweet_id for post in request.tracked}
        unmatched = sorted(t for t in gathering.shown if t not in tracked)
        skews = self._client.skews_seconds
        skew = statistics.median(skews) if skews else None
        warnings = list(plan.warnings) if plan is not None else []
        if skew is not None and abs(skew) > self._config.max_clock_skew_seconds:
            warnings.append(
                f"this machine's clock differs from X's by {-skew:+.0f} s: set it (NTP), since "
                "observations carry its time"
            )
        known = self._ledger.analytics
        report: dict[str, Any] = {
            **gathering.report(),
            "plan": None if plan is None else plan_report(plan),
            "requests": dict(self._client.requests),
            "faults": dict(self._client.faults),
            "unmatched_posts": len(unmatched),
            "unmatched_examples": unmatched[-10:],
            "clock_skew_seconds": None if skew is None else round(skew, 1),
            "rate_limits": {
                name: {
                    "limit": rate.limit,
                    "remaining": rate.remaining,
                    "reset_at": None if rate.reset_at is None else rate.reset_at.isoformat(),
                }
                for name, rate in self._ledger.rates().items()
            },
            "budget": self._budget(plan),
            "analytics": {
                "mode": self._config.analytics.mode,
                "status": known.status,
                "since": None if known.since is None else known.since.isoformat(),
                "reason": known.reason,
            },
            "warnings": warnings,
        }
        for warning in warnings:
            log.warning("%s", warning)
        return CollectedBatch(
            posts=tuple(gathering.posts.values()),
            readings=tuple(gathering.merged_readings()),
            followers=tuple(gathering.followers),
            rejected=tuple(gathering.rejected),
            report=report,
        )

    def _budget(self, plan: PollPlan | None) -> dict[str, Any]:
        """What was spent up to now, what is left, and what the month is going to cost."""
        polling, spent = self._config.polling, self._ledger.budget_state()
        per_day, per_month = polling.posts_per_utc_day, polling.posts_per_month
        return {
            "posts_today": spent.posts_today,
            "posts_per_utc_day": per_day,
            "posts_left_today": None if per_day is None else max(per_day - spent.posts_today, 0),
            "posts_this_month": spent.posts_this_month,
            "posts_per_month": per_month,
            "posts_left_this_month": (
                None if per_month is None else max(per_month - spent.posts_this_month, 0)
            ),
            "usd_this_month": round(spent.usd_this_month, 6),
            "projected_month_usd": (
                None if plan is None else round(plan.projection.projected_usd, 4)
            ),
            "prices_usd": asdict(polling.prices),
        }

    # -- blocks ------------------------------------------------------------------------------

    def _rests(self, now: datetime) -> bool:
        blocked = self._ledger.blocked
        if blocked is None or (blocked.until is not None and now >= blocked.until):
            return False
        return now < blocked.next_probe_at

    def _rest_if_blocked(self, now: datetime) -> None:
        blocked = self._ledger.blocked
        if blocked is None or not self._rests(now):
            return
        until = "" if blocked.until is None else f", at the latest until {blocked.until:%Y-%m-%d}"
        raise XApiRefusedError(
            f"collection rests since {blocked.since:%Y-%m-%d %H:%M} UTC{until}: {blocked.message}; "
            f"the next try is at {blocked.next_probe_at:%Y-%m-%d %H:%M} UTC",
            kind=blocked.kind,
            stops_window=True,
        )

    def _learn_blocks(self, gathering: Gathering, now: datetime) -> None:
        for problem in gathering.problems:
            probe_after = _PROBE_AFTER.get(problem.kind)
            if probe_after is None:
                continue
            until = self._cap_reset(now) if problem.kind == "usage_capped" else None
            self._ledger.block(problem.kind, problem.message, until=until, probe_after=probe_after)
            return
        if gathering.shown or gathering.timeline_complete:
            self._ledger.unblock()

    def _cap_reset(self, now: datetime) -> datetime:
        """When the cap on posts is reset: X's own day if it says so, else the month's end."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        day: object = None
        try:
            data = self._client.get("usage", "/2/usage/tweets", {}).document.get("data")
        except X_API_ERRORS as error:
            log.warning("the day of the cap's reset is not known: %s", error)
        else:
            day = data.get("cap_reset_day") if isinstance(data, dict) else None
        reset_day = day if isinstance(day, int) and 1 <= day <= 31 else 1
        reset = midnight.replace(day=min(reset_day, _LATEST_RESET_DAY))
        if reset <= midnight:
            reset = (reset.replace(day=1) + timedelta(days=32)).replace(day=reset.day)
        return reset

    # -- past windows ------------------------------------------------------------------------

    def _past_hour(
        self, window_start: datetime, window_end: datetime, now: datetime
    ) -> datetime | None:
        if window_end > now:
            return None
        return analytics.past_hour(self._config.analytics, window_start, window_end, now)

    def _collect_past(self, request: CollectRequest, now: datetime) -> CollectedBatch:
        hour = self._past_hour(request.window_start, request.window_end, now)
        if hour is None or self._ledger.analytics.status != "present":
            raise WindowNotServableError(
                f"the window {_span(request)} is not the present one, and X cannot say what was "
                f"true then (analytics: {self._ledger.analytics.status}; it can give windows that "
                "hold a full hour, some time later): it stays a gap"
            )
        self._rest_if_blocked(now)
        self._client.begin_window(self._monotonic() + self._config.limits.collect_seconds)
        gathering = Gathering()
        analytics.read_past_hour(self._client, self._ledger, request.tracked, gathering, hour=hour)
        self._ledger.close()
        return self._batch(request, gathering, None)


def _has_id(post: TrackedPost) -> bool:
    """Whether the post can be asked for: ids are numbers of up to 19 digits."""
    tweet = post.tweet_id
    return tweet is not None and tweet.isascii() and tweet.isdigit() and len(tweet) < 20


def _candidate(post: TrackedPost) -> PollCandidate:
    tweet = post.tweet_id if _has_id(post) else None
    return PollCandidate(tweet, post.posted_at, post.last_observed_at, post.last_impressions)


def _span(request: CollectRequest) -> str:
    return f"[{request.window_start:%Y-%m-%d %H:%M}, {request.window_end:%H:%M}) UTC"


def _raise_first(gathering: Gathering) -> None:
    """The error that explains best why nothing was observed; returns if there was none."""
    errors: list[XApiError] = [p.error for p in gathering.problems if p.error is not None]
    stopping = [e for e in errors if isinstance(e, XApiRefusedError) and e.stops_window]
    for error in (*stopping, *reversed(errors)):
        raise error
