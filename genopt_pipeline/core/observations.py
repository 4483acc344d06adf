"""What sources deliver and the store keeps: records of what was observed, validated.

Values that were not observed are ``None``, never zero. Nothing here knows where a record came
from or where it goes.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt


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
