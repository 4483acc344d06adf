"""What every source of metrics promises, whatever it reads from.

A source answers one question: what was observed of this account in this window? It knows nothing
of databases, weights or Dagster. Values that were not observed are ``None``, never zero.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt


class SourceError(Exception):
    """A source could not answer; the message says what happened and what to do."""


class TransientSourceError(SourceError):
    """Trying again later can help (time-outs, 5xx, resets, broken bodies)."""


class RateLimitedError(TransientSourceError):
    """The source asks to wait until ``retry_at`` (UTC; None when it did not say)."""

    def __init__(self, message: str, *, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class SourceRefusedError(SourceError):
    """Trying again cannot help before a person acts (credentials, plan, credits, usage cap)."""


class WindowNotServableError(SourceRefusedError):
    """The window has passed and this source cannot say what was true then."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class ObservedPost(_Record):
    """A post that the source knows to exist.

    ``generator_name`` and the fields of the draw are None where the source cannot know them
    (the X API knows posts, not generators).
    """

    decision_id: str | None = None
    tweet_id: str | None = None
    posted_at: AwareDatetime
    generator_name: str | None = None
    generator_confidence: float | None = Field(default=None, ge=0, le=1)
    selection_probability: float | None = Field(default=None, gt=0, le=1)
    experiment_arm: str | None = None
    weights_version: NonNegativeInt | None = None
    quality_score: float | None = None
    status: Literal["posted", "deleted"] = "posted"


class MetricReading(_Record):
    """Totals of one post as seen at ``observed_at``; counts since the post went live."""

    decision_id: str | None = None
    tweet_id: str | None = None
    observed_at: AwareDatetime
    impressions: NonNegativeInt | None = None
    likes: NonNegativeInt | None = None
    retweets: NonNegativeInt | None = None
    replies: NonNegativeInt | None = None
    quotes: NonNegativeInt | None = None
    bookmarks: NonNegativeInt | None = None
    profile_clicks: NonNegativeInt | None = None
    url_clicks: NonNegativeInt | None = None
    engagements: NonNegativeInt | None = None
    #: follows and unfollows that the platform itself ascribes to the post
    platform_follows: NonNegativeInt | None = None
    platform_unfollows: NonNegativeInt | None = None


class FollowerReading(_Record):
    """The account's exact follower count as seen at ``observed_at``."""

    observed_at: AwareDatetime
    followers_count: NonNegativeInt


class RejectedRecord(_Record):
    """A record that could not be used: where it stood, why, and what it was."""

    kind: str
    place: str
    reason: str
    raw: dict[str, Any] = Field(default_factory=dict)


class TrackedPost(_Record):
    """A post of which the store wants a new reading, with what is already known of it."""

    decision_id: str
    tweet_id: str | None
    posted_at: AwareDatetime
    generator_name: str | None = None
    last_observed_at: AwareDatetime | None = None
    last_impressions: NonNegativeInt | None = None


class CollectRequest(_Record):
    """What to collect: the window ``[window_start, window_end)`` and the posts tracked in it."""

    account_id: str
    window_start: AwareDatetime
    window_end: AwareDatetime
    #: the time of the call; a live source refuses windows that do not contain it
    now: AwareDatetime
    tracked: Sequence[TrackedPost] = ()


class CollectedBatch(_Record):
    """What was observed. ``report`` holds counts and plans for the asset's metadata (JSON)."""

    posts: Sequence[ObservedPost] = ()
    readings: Sequence[MetricReading] = ()
    followers: Sequence[FollowerReading] = ()
    rejected: Sequence[RejectedRecord] = ()
    report: dict[str, Any] = Field(default_factory=dict)


class MetricsSource(Protocol):
    """A place that metrics come from."""

    @property
    def name(self) -> str:
        """Short name, stored with every observation."""

    def can_serve(self, window_start: datetime, window_end: datetime, *, now: datetime) -> bool:
        """Whether the source can say now what was true in the window."""

    def collect(self, request: CollectRequest) -> CollectedBatch:
        """Observe the posts and the follower count in the request's window.

        Raises
        ------
        WindowNotServableError
            The window has passed and cannot be served again.
        TransientSourceError, SourceRefusedError
            See there. Nothing is returned then; no half batch.
        """
