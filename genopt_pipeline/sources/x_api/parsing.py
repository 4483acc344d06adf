"""What a post, a user or an analytics row of the X API says: validated record by record.

Here: both dialects of names, unknown fields ignored, absent ones None, wrong ones a reason. A bad
record never takes a good one with it. Not here: requests, money, and what to do about it.

A count that is no whole number is not a count: "12", "12.3K", 3.5, true and -1 are rejected.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from genopt_pipeline.core.observations import MetricReading, ObservedPost, RejectedRecord
from genopt_pipeline.core.polling import PAGE_POSTS_MAX
from genopt_pipeline.sources.x_api.errors import XApiTransientError, last_segment
from genopt_pipeline.sources.x_api.redaction import Redactor

#: no post of the platform is older; and no clock is this much ahead
_FIRST_POST: Final = datetime(2006, 3, 1, tzinfo=UTC)
_FUTURE: Final = timedelta(hours=1)

#: at most what a 64-bit column holds, and what a double holds exactly
Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
TweetId = Annotated[str, StringConstraints(strict=True, pattern=r"^[1-9][0-9]{0,18}$")]


def _iso_text(value: object) -> object:
    if not isinstance(value, str) or not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", value):
        raise ValueError("no ISO 8601 time")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_iso_text)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Metrics(_Answer):
    """Public, non-public and organic metrics share one set of names."""

    retweets: Count | None = Field(
        None, validation_alias=AliasChoices("retweet_count", "repost_count")
    )
    replies: Count | None = Field(None, validation_alias="reply_count")
    likes: Count | None = Field(None, validation_alias="like_count")
    quotes: Count | None = Field(
        None, validation_alias=AliasChoices("quote_count", "quote_post_count")
    )
    bookmarks: Count | None = Field(None, validation_alias="bookmark_count")
    impressions: Count | None = Field(None, validation_alias="impression_count")
    url_clicks: Count | None = Field(None, validation_alias="url_link_clicks")
    profile_clicks: Count | None = Field(None, validation_alias="user_profile_clicks")
    engagements: Count | None = Field(None, validation_alias="engagements")


class _Post(_Answer):
    id: TweetId
    created_at: Time | None = None
    public_metrics: _Metrics | None = None
    non_public_metrics: _Metrics | None = None
    organic_metrics: _Metrics | None = None

    def counts(self) -> dict[str, int | None]:
        """Each count from the first set that has it: public, non-public, organic."""
        sets = (self.public_metrics, self.non_public_metrics, self.organic_metrics)
        return {
            name: next(
                (
                    value
                    for metrics in sets
                    if metrics is not None and (value := getattr(metrics, name)) is not None
                ),
                None,
            )
            for name in _Metrics.model_fields
        }


class _UserMetrics(_Answer):
    followers_count: Count | None = None


class _User(_Answer):
    id: TweetId
    public_metrics: _UserMetrics | None = None


class _AnalyticsMetrics(_Answer):
    impressions: Count | None = None
    likes: Count | None = None
    retweets: Count | None = Field(None, validation_alias=AliasChoices("retweets", "reposts"))
    replies: Count | None = None
    quotes: Count | None = Field(
        None, validation_alias=AliasChoices("quote_tweets", "quote_posts", "quotes")
    )
    bookmarks: Count | None = None
    url_clicks: Count | None = None
    profile_clicks: Count | None = Field(None, validation_alias="user_profile_clicks")
    engagements: Count | None = None
    platform_follows: Count | None = Field(None, validation_alias="follows")
    platform_unfollows: Count | None = Field(None, validation_alias="unfollows")


class _AnalyticsPost(_Answer):
    id: TweetId
    timestamped_metrics: list[Any] = Field(default_factory=list)


class _AnalyticsRow(_Answer):
    metrics: _AnalyticsMetrics


@dataclass(frozen=True)
class PostPage:
    """One answer with posts: good ones, rejected ones, and those that X could not give."""

    posts: list[ObservedPost] = field(default_factory=list)
    readings: list[MetricReading] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    #: every id that the answer shows, of rejected posts too: they are billed all the same
    shown_ids: list[str] = field(default_factory=list)
    deleted_ids: list[str] = field(default_factory=list)
    #: id -> problem, of posts that exist and cannot be read
    refused: dict[str, str] = field(default_factory=dict)
    next_token: str | None = None


def parse_post_page(
    document: Mapping[str, Any],
    *,
    place: str,
    received_at: datetime,
    redactor: Redactor,
    known: Mapping[str, tuple[str | None, datetime]],
) -> PostPage:
    """Posts and readings of a timeline page or of an answer by ids.

    ``known`` gives decision id and time of posts that are tracked; a reading of an unknown post
    without a time of its own is rejected, since nobody could place it.

    Raises
    ------
    XApiTransientError
        ``data`` is no list, so that no record can be told from another, or longer than any page.
    """
    page = PostPage(next_token=_next_token(document))
    for index, raw in enumerate(_records(document, place)):
        where = f"{place}, data[{index}]"
        if isinstance(raw, Mapping) and _is_tweet_id(raw.get("id")):
            page.shown_ids.append(str(raw["id"]))
        try:
            post = _Post.model_validate(raw)
        except ValidationError as error:
            page.rejected.append(rejected_record("post", where, error, raw, redactor))
            continue
        decision_id, posted_at = known.get(post.id, (None, None))
        posted_at = posted_at or post.created_at
        reason = _time_fault(posted_at, received_at)
        if posted_at is None or reason is not None:
            page.rejected.append(
                RejectedRecord(
                    kind="post", place=where, reason=reason or "", raw=_raw(raw, redactor)
                )
            )
            continue
        page.posts.append(
            ObservedPost(decision_id=decision_id, tweet_id=post.id, posted_at=posted_at)
        )
        page.readings.append(
            MetricReading(
                decision_id=decision_id,
                tweet_id=post.id,
                observed_at=received_at,
                **post.counts(),
            )
        )
    _read_problems(document, page, redactor)
    return page


def parse_followers(document: Mapping[str, Any], *, user_id: str) -> int | None:
    """The follower count of the user; None if the answer does not hold it.

    Raises
    ------
    ValidationError
        The answer holds something that is no count.
    ValueError
        The answer is about another user.
    """
    user = _User.model_validate(document.get("data"))
    if user.id != user_id:
        raise ValueError(f"the token belongs to user {user.id}, not to {user_id}")
    return None if user.public_metrics is None else user.public_metrics.followers_count


def parse_analytics(
    document: Mapping[str, Any],
    *,
    place: str,
    observed_at: datetime,
    decision_ids: Mapping[str, str | None],
    redactor: Redactor,
) -> tuple[list[MetricReading], list[RejectedRecord]]:
    """Totals over the requested range, one row a post (granularity ``total``)."""
    readings: list[MetricReading] = []
    rejected: list[RejectedRecord] = []
    for index, raw in enumerate(_records(document, place)):
        where = f"{place}, data[{index}]"
        try:
            post = _AnalyticsPost.model_validate(raw)
            rows = [_AnalyticsRow.model_validate(row) for row in post.timestamped_metrics]
        except ValidationError as error:
            rejected.append(rejected_record("analytics", where, error, raw, redactor))
            continue
        if len(rows) != 1 or post.id not in decision_ids:
            rejected.append(
                RejectedRecord(
                    kind="analytics",
                    place=where,
                    reason=(
                        "a post that was not asked for"
                        if post.id not in decision_ids
                        else f"{len(rows)} rows where one total was asked for"
                    ),
                    raw=_raw(raw, redactor),
                )
            )
            continue
        readings.append(
            MetricReading(
                decision_id=decision_ids[post.id],
                tweet_id=post.id,
                observed_at=observed_at,
                **rows[0].metrics.model_dump(),
            )
        )
    return readings, rejected


def rejected_record(
    kind: str, place: str, error: ValidationError, raw: object, redactor: Redactor
) -> RejectedRecord:
    """A record that failed validation, with the fields and reasons, and without secrets."""
    reasons = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'record'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return RejectedRecord(
        kind=kind,
        place=place,
        reason=redactor.text("; ".join(reasons), max_chars=500),
        raw=_raw(raw, redactor),
    )


def _records(document: Mapping[str, Any], place: str) -> list[Any]:
    data = document.get("data", [])
    if not isinstance(data, list):
        raise XApiTransientError(
            f"{place}: data is {type(data).__name__}, not a list: ask again later",
            kind="wrong_shape",
            maybe_billed=True,
        )
    if len(data) > PAGE_POSTS_MAX:
        # what many pages hold together is bounded by what one may hold
        raise XApiTransientError(
            f"{place}: {len(data)} records, more than an answer can have",
            kind="too_many_records",
            retry_now=False,
            maybe_billed=True,
        )
    return data


def _is_tweet_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,18}", value) is not None


def _raw(raw: object, redactor: Redactor) -> dict[str, Any]:
    value = redactor.record(raw)
    return value if isinstance(value, dict) else {"value": value}


def _time_fault(posted_at: datetime | None, received_at: datetime) -> str | None:
    if posted_at is None:
        return "created_at: missing, and the post is not known"
    if not _FIRST_POST <= posted_at <= received_at + _FUTURE:
        return f"created_at: {posted_at.isoformat()} cannot be"
    return None


def _next_token(document: Mapping[str, Any]) -> str | None:
    meta = document.get("meta")
    token = meta.get("next_token") if isinstance(meta, Mapping) else None
    if isinstance(token, str) and re.fullmatch(r"[A-Za-z0-9_.~=-]{1,200}", token):
        return token
    return None


def _read_problems(document: Mapping[str, Any], page: PostPage, redactor: Redactor) -> None:
    """Problems of single posts beside the good ones."""
    errors = document.get("errors")
    if not isinstance(errors, list):
        return
    given = set(page.shown_ids)
    for entry in errors:
        if not isinstance(entry, Mapping):
            continue
        tweet = entry.get("resource_id", entry.get("value"))
        problem = entry.get("type")
        about_post = entry.get("resource_type", "tweet") in {"tweet", "post"}
        if not about_post or not _is_tweet_id(tweet) or not isinstance(problem, str):
            continue
        name = last_segment(problem)
        # a post that is shown lacks a field at most, which is None already
        if str(tweet) in given:
            continue
        if name == "resource-not-found":
            page.deleted_ids.append(str(tweet))
        else:
            page.refused[str(tweet)] = redactor.text(name, max_chars=60)
