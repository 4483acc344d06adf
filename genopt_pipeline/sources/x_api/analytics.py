"""The optional analytics endpoint: follows that X ascribes to posts, and totals of past hours.

Here: probing it once and remembering what came of it, reading totals up to now, and up to a past
full hour. Not here: attribution; what X ascribes to posts is kept apart from what the project
attributes, and the two are never added.

A past window can be served only if it holds a full hour: the endpoint's finest grain is an hour,
so of ten-minute windows every sixth can be had again, with totals as of that hour. The follower
count of the past cannot be had at all.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from genopt_pipeline.core.observations import MetricReading, RejectedRecord, TrackedPost
from genopt_pipeline.sources.base import WindowNotServableError
from genopt_pipeline.sources.x_api.client import XApiClient
from genopt_pipeline.sources.x_api.config import AnalyticsConfig
from genopt_pipeline.sources.x_api.errors import X_API_ERRORS, XApiRefusedError
from genopt_pipeline.sources.x_api.gathering import Gathering
from genopt_pipeline.sources.x_api.ledger import BudgetLedger
from genopt_pipeline.sources.x_api.parsing import parse_analytics

_PATH: Final = "/2/tweets/analytics"
_IDS_PER_REQUEST: Final = 100
_FIELDS: Final = (
    "follows,unfollows,impressions,engagements,likes,retweets,replies,quote_tweets,bookmarks,"
    "url_clicks,user_profile_clicks"
)
#: answers that mean: this account or plan does not have the endpoint
_ABSENT: Final = frozenset(
    {
        "client_forbidden",
        "client_not_enrolled",
        "forbidden",
        "http_400",
        "http_405",
        "http_410",
        "invalid_request",
        "not_authorized",
        "not_found",
        "unsupported_authentication",
    }
)


def is_due(config: AnalyticsConfig, ledger: BudgetLedger, now: datetime) -> bool:
    """Whether the endpoint is to be read (or probed) in this window."""
    if config.mode == "off":
        return False
    known = ledger.analytics
    wait = (
        timedelta(days=config.probe_again_days)
        if known.status == "absent"
        else timedelta(minutes=config.every_minutes)
    )
    return known.last_asked_at is None or now - known.last_asked_at >= wait


def past_hour(
    config: AnalyticsConfig, window_start: datetime, window_end: datetime, now: datetime
) -> datetime | None:
    """The full hour in ``[window_start, window_end)`` that the endpoint can still give; or None.

    Whether the account has the endpoint is another question.
    """
    if config.mode == "off":
        return None
    last = window_end - timedelta(microseconds=1)
    hour = last.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    settled = now - hour >= timedelta(minutes=config.settle_minutes)
    recent = now - hour <= timedelta(days=config.past_days)
    return hour if hour >= window_start and settled and recent else None


def read_platform_follows(
    client: XApiClient,
    ledger: BudgetLedger,
    posts: Sequence[TrackedPost],
    gathering: Gathering,
    *,
    now: datetime,
) -> None:
    """Read the follows of ``posts`` up to now; an absent endpoint is remembered, not an error."""
    for chunk in _chunks(posts):
        try:
            readings, rejected = _totals(client, chunk, until=now)
        except X_API_ERRORS as error:
            if isinstance(error, XApiRefusedError) and error.kind in _ABSENT:
                ledger.learn_analytics("absent", f"{error.kind}: {error}")
                return
            gathering.fail("analytics", error)
            return
        gathering.rejected.extend(rejected)
        gathering.platform.update(
            (reading.tweet_id, reading) for reading in readings if reading.tweet_id is not None
        )
        ledger.learn_analytics("present")


def read_past_hour(
    client: XApiClient,
    ledger: BudgetLedger,
    posts: Sequence[TrackedPost],
    gathering: Gathering,
    *,
    hour: datetime,
) -> None:
    """Totals of every post as of a past full hour, with ``observed_at`` that hour.

    Raises
    ------
    WindowNotServableError
        The endpoint is not there any more; that is remembered, so that no past window is asked
        for again before it is probed anew.
    XApiTransientError, XApiRateLimitedError, XApiRefusedError
        A past window is whole or not at all: it can be asked for again.
    """
    live = [post for post in posts if post.posted_at < hour]
    for chunk in _chunks(live):
        try:
            readings, rejected = _totals(client, chunk, until=hour, observed_at=hour)
        except XApiRefusedError as error:
            if error.kind not in _ABSENT:
                raise
            ledger.learn_analytics("absent", f"{error.kind}: {error}")
            raise WindowNotServableError(
                f"X does not serve the past hour {hour:%Y-%m-%d %H:%M} UTC: {error}; it stays a gap"
            ) from error
        gathering.rejected.extend(rejected)
        for reading in readings:
            gathering.add_reading(reading)


def _chunks(posts: Sequence[TrackedPost]) -> Iterator[list[TrackedPost]]:
    """Posts of similar age together, since a request has one range of time for all of them."""
    known = sorted((p for p in posts if p.tweet_id is not None), key=lambda p: p.posted_at)
    for start in range(0, len(known), _IDS_PER_REQUEST):
        yield known[start : start + _IDS_PER_REQUEST]


def _totals(
    client: XApiClient,
    posts: Sequence[TrackedPost],
    *,
    until: datetime,
    observed_at: datetime | None = None,
) -> tuple[list[MetricReading], list[RejectedRecord]]:
    # the range begins before every post of the request, so a total is one since the post went live
    begin = posts[0].posted_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    answer = client.get(
        "analytics",
        _PATH,
        {
            "ids": ",".join(post.tweet_id or "" for post in posts),
            "start_time": _iso(begin),
            "end_time": _iso(until),
            "granularity": "total",
            "analytics.fields": _FIELDS,
        },
    )
    return parse_analytics(
        answer.document,
        place="analytics",
        observed_at=observed_at or answer.received_at,
        decision_ids={post.tweet_id or "": post.decision_id for post in posts},
        redactor=client.redactor,
    )


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
