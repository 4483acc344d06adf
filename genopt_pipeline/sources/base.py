"""What every source of metrics promises, whatever it reads from.

A source answers one question: what was observed of this account in this window? It knows nothing
of databases, weights or Dagster. Values that were not observed are ``None``, never zero.
"""

from datetime import datetime
from typing import Protocol

from genopt_pipeline.core.observations import (
    CollectedBatch,
    CollectRequest,
    FollowerReading,
    MetricReading,
    ObservedPost,
    RejectedRecord,
    TrackedPost,
)

__all__ = [
    "CollectRequest",
    "CollectedBatch",
    "FollowerReading",
    "MetricReading",
    "MetricsSource",
    "ObservedPost",
    "RateLimitedError",
    "RejectedRecord",
    "SourceError",
    "SourceRefusedError",
    "TrackedPost",
    "TransientSourceError",
    "WindowNotServableError",
]


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
