"""What one window has observed so far, and what went wrong in it.

Here: the accumulator that the steps of a window write into, and its report. Not here: requests.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from genopt_pipeline.core.observations import (
    FollowerReading,
    MetricReading,
    ObservedPost,
    RejectedRecord,
)
from genopt_pipeline.sources.x_api.errors import (
    XApiError,
    XApiRateLimitedError,
    XApiRefusedError,
)
from genopt_pipeline.sources.x_api.parsing import PostPage

_PLATFORM_FIELDS = ("platform_follows", "platform_unfollows")


@dataclass(frozen=True)
class StepProblem:
    """A step that did not bring all that it should, and the error if there was one."""

    step: str
    kind: str
    message: str
    error: XApiError | None = None

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        retry_at = self.error.retry_at if isinstance(self.error, XApiRateLimitedError) else None
        return {
            "step": self.step,
            "kind": self.kind,
            "message": self.message,
            "help_needed": isinstance(self.error, XApiRefusedError),
            "retry_at": None if retry_at is None else retry_at.isoformat(),
        }


@dataclass
class Gathering:
    """Observations of one window, each post once."""

    posts: dict[str, ObservedPost] = field(default_factory=dict)
    #: by post and time: a page that shifts or repeats shows a post again, at another moment
    readings: dict[tuple[str, datetime], MetricReading] = field(default_factory=dict)
    #: follows that the platform ascribes to posts, read before the metrics
    platform: dict[str, MetricReading] = field(default_factory=dict)
    followers: list[FollowerReading] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    problems: list[StepProblem] = field(default_factory=list)
    #: posts that exist and cannot be read, with X's reason
    refused: dict[str, str] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    #: no further request of this window can succeed
    stopped: bool = False
    timeline_complete: bool = False

    def add_page(self, page: PostPage) -> int:
        """Take over a page; returns how many of its posts were not shown before."""
        new = [tweet for tweet in dict.fromkeys(page.shown_ids) if tweet not in self.shown]
        self.shown.update(new)
        for post in page.posts:
            if post.tweet_id is not None:
                self.posts.setdefault(post.tweet_id, post)
        for reading in page.readings:
            self.add_reading(reading)
        self.rejected.extend(page.rejected)
        return len(new)

    def add_reading(self, reading: MetricReading) -> None:
        """Keep a reading of a post that X has named."""
        if reading.tweet_id is not None:
            self.readings.setdefault((reading.tweet_id, reading.observed_at), reading)

    def fail(self, step: str, error: XApiError) -> None:
        """Note an error; the steps that can still succeed go on."""
        self.problems.append(StepProblem(step, error.kind, str(error), error))
        if isinstance(error, XApiRefusedError) and error.stops_window:
            self.stopped = True

    def note(self, step: str, kind: str, message: str) -> None:
        """Note something that is missing without an error."""
        self.problems.append(StepProblem(step, kind, message))

    def mark_deleted(self, tweet_id: str, decision_id: str | None, posted_at: datetime) -> None:
        """X knows the post no more."""
        self.deleted.add(tweet_id)
        self.posts[tweet_id] = ObservedPost(
            decision_id=decision_id, tweet_id=tweet_id, posted_at=posted_at, status="deleted"
        )

    def merged_readings(self) -> list[MetricReading]:
        """Readings with the platform's follows beside them, by time and post.

        The follows were read before the metrics, so at the reading's time they were known; they
        are never newer than it. A post with follows only keeps a reading of its own.
        """
        merged: list[MetricReading] = []
        read = {tweet for tweet, _ in self.readings}
        for (tweet, _), reading in self.readings.items():
            platform = self.platform.get(tweet)
            if platform is None:
                merged.append(reading)
                continue
            merged.append(
                reading.model_copy(
                    update={name: getattr(platform, name) for name in _PLATFORM_FIELDS}
                )
            )
        merged.extend(
            MetricReading(
                decision_id=platform.decision_id,
                tweet_id=tweet,
                observed_at=platform.observed_at,
                platform_follows=platform.platform_follows,
                platform_unfollows=platform.platform_unfollows,
            )
            for tweet, platform in self.platform.items()
            if tweet not in read
        )
        return sorted(merged, key=lambda r: (r.observed_at, int(r.tweet_id or 0)))

    @property
    def observed_anything(self) -> bool:
        """Whether a batch would hold more than a report."""
        return bool(self.posts or self.readings or self.platform or self.followers)

    def report(self) -> dict[str, Any]:
        """Counts and problems for the asset's metadata."""
        return {
            "posts_seen": len(self.shown),
            "readings": len(self.merged_readings()),
            "deleted": sorted(self.deleted),
            "refused_posts": dict(sorted(self.refused.items())[:20]),
            "rejected": dict(Counter(record.kind for record in self.rejected)),
            "problems": [problem.as_json() for problem in self.problems],
            "complete": not self.problems,
        }
