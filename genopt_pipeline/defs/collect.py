"""Collecting ten-minute windows from a source into the store, one or thousands, without Dagster."""

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from genopt_pipeline.core.observations import CollectedBatch, CollectRequest, TrackedPost
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.sources.base import (
    MetricsSource,
    SourceRefusedError,
    TransientSourceError,
    WindowNotServableError,
)
from genopt_pipeline.sources.sandbox import SandboxSource
from genopt_pipeline.store import metrics, posts, source_states
from genopt_pipeline.store import weights as weight_store

#: Windows of a simulated account that are stored in one transaction: a day's. What a live source
#: delivers is paid for, so there each window is stored by itself.
CHUNK = 144
#: Days after posting that a live source may still read a post, by its own plan.
LIVE_TRACKING_DAYS = 30

Window = tuple[datetime, datetime]


@runtime_checkable
class BulkSource(Protocol):
    """A source that serves many past windows at once."""

    def collect_many(self, requests: Iterable[CollectRequest]) -> Iterator[CollectedBatch]:
        """Batches in the order of the requests."""


@runtime_checkable
class LiveSource(MetricsSource, Protocol):
    """A source that remembers what it need not look for again, and holds a connection."""

    @property
    def identity(self) -> str:
        """Which account of which platform it reads."""

    def stored(self) -> None:
        """The last batch is in the database."""

    def close(self) -> None:
        """Close the connection."""


@dataclass
class Collected:
    """What was collected of an account: counts, and the source's report of each window."""

    posts: int = 0
    readings: int = 0
    follower_counts: int = 0
    quarantined: int = 0
    #: live posts of the last days that no generator is known of
    posts_without_generator: int = 0
    reports: dict[datetime, dict[str, Any]] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What the source warns of, each once."""
        told = (report.get("warnings", ()) for report in self.reports.values())
        return list(dict.fromkeys(warning for warnings in told for warning in warnings))

    @property
    def help_needed(self) -> list[str]:
        """Problems of steps that a person has to solve, each once; the rest was stored."""
        return list(
            dict.fromkeys(
                f"{problem['step']}: {problem['message']}"
                for report in self.reports.values()
                for problem in report.get("problems", ())
                if problem["help_needed"]
            )
        )


@contextmanager
def opened_source(
    pipeline: Pipeline, account_id: str, first_window: datetime
) -> Iterator[MetricsSource | None]:
    """The source of an account, closed at the end; None where nothing is collected."""
    source = pipeline.source(account_id, first_window)
    try:
        yield source
    finally:
        if isinstance(source, LiveSource):
            source.close()


def collect_windows(
    pipeline: Pipeline,
    account_id: str,
    windows: Sequence[Window],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Collected:
    """Collect ``windows`` (ascending) of an account and store what was observed.

    A window is stored whole in one transaction; a second run of a window changes nothing that
    the first one stored.

    Raises
    ------
    SourceError
        The source refused or failed; windows before it are stored, none is stored by half.
    """
    total = Collected()
    if not windows:
        return total
    with opened_source(pipeline, account_id, windows[0][0]) as source:
        if source is None:
            return total
        _bind(pipeline, account_id, source)
        now = pipeline.now()
        for window_start, window_end in windows:
            if not source.can_serve(window_start, window_end, now=now):
                raise WindowNotServableError(
                    f"{source.name} cannot serve the window {window_start:%Y-%m-%d %H:%M} to "
                    f"{window_end:%H:%M} UTC of account {account_id!r} at {now:%Y-%m-%d %H:%M}; "
                    "it stays a gap"
                )
        live = isinstance(source, LiveSource)
        size = 1 if live else CHUNK
        with _alone(pipeline, account_id) if live else nullcontext():
            for first in range(0, len(windows), size):
                chunk = windows[first : first + size]
                _collect_chunk(pipeline, account_id, source, chunk, now, total)
                progress(len(chunk))
    with pipeline.read() as connection:
        total.posts_without_generator = posts.count_without_generator(
            connection,
            account_id,
            since=windows[-1][1] - timedelta(days=LIVE_TRACKING_DAYS),
            until=windows[-1][1],
        )
    return total


def _collect_chunk(
    pipeline: Pipeline,
    account_id: str,
    source: MetricsSource,
    chunk: Sequence[Window],
    now: datetime,
    total: Collected,
) -> None:
    if isinstance(source, SandboxSource):
        _publish_sandbox_posts(pipeline, account_id, source, chunk)
    requests = _requests(pipeline, account_id, source, chunk, now)
    if isinstance(source, BulkSource):
        batches = list(source.collect_many(requests))
    else:
        batches = [source.collect(request) for request in requests]
    with pipeline.write() as connection:
        stored = metrics.store_batches(
            connection,
            account_id,
            [(start, end, batch) for (start, end), batch in zip(chunk, batches, strict=True)],
            source=source.name,
        )
    if isinstance(source, LiveSource):
        source.stored()
    total.posts += stored.posts
    total.readings += stored.readings
    total.follower_counts += stored.follower_counts
    total.quarantined += stored.quarantined
    total.reports |= {
        start: {"readings": len(batch.readings), **batch.report}
        for (start, _), batch in zip(chunk, batches, strict=True)
    }


@contextmanager
def _alone(pipeline: Pipeline, account_id: str) -> Iterator[None]:
    """No other process spends the account's budget meanwhile.

    Raises
    ------
    TransientSourceError
        Another process is collecting the account.
    """
    with pipeline.engine.connect() as connection:
        if not source_states.begin_collecting(connection, account_id):
            raise TransientSourceError(
                f"another process is collecting account {account_id!r} just now; try again later"
            )
        try:
            yield
        finally:
            source_states.end_collecting(connection, account_id)


def _bind(pipeline: Pipeline, account_id: str, source: MetricsSource) -> None:
    """An account has one live source: simulated and real figures are never mixed."""
    identity = source.identity if isinstance(source, LiveSource) else source.name
    with pipeline.write() as connection:
        bound = source_states.keep_first(connection, account_id, "live", "source", identity)
    if bound != identity:
        raise SourceRefusedError(
            f"account {account_id!r} was collected from {bound} before; figures of {identity} "
            "would be mixed with it. Set GENOPT_ACCOUNT to an account of its own"
        )


def _requests(
    pipeline: Pipeline,
    account_id: str,
    source: MetricsSource,
    chunk: Sequence[Window],
    now: datetime,
) -> list[CollectRequest]:
    days = pipeline.settings.track_days if isinstance(source, BulkSource) else LIVE_TRACKING_DAYS
    tracking = timedelta(days=days)
    with pipeline.read() as connection:
        tracked = posts.tracked_posts(
            connection,
            account_id,
            posted_from=chunk[0][0] - tracking,
            posted_before=chunk[-1][1],
        )
    times = [post.posted_at for post in tracked]
    return [
        CollectRequest.model_construct(
            account_id=account_id,
            window_start=start,
            window_end=end,
            now=now,
            tracked=tracked[
                bisect.bisect_left(times, start - tracking) : bisect.bisect_left(
                    times, start if isinstance(source, BulkSource) else end
                )
            ],
        )
        for start, end in chunk
    ]


def _publish_sandbox_posts(
    pipeline: Pipeline, account_id: str, source: SandboxSource, chunk: Sequence[Window]
) -> None:
    """Let the simulated engine publish what was due up to the start of each window."""
    length = chunk[0][1] - chunk[0][0]
    since, until = chunk[0][0] - length, chunk[-1][0]
    with pipeline.write() as connection:
        history = weight_store.weights_history(connection, account_id, since, until)
        effective = [item[0] for item in history]

        def weights_at(at: datetime) -> tuple[dict[str, float], int]:
            position = max(bisect.bisect_right(effective, at) - 1, 0)
            return history[position][2], history[position][1]

        drawn = source.account.engine_posts(since, until, weights_at)
        posts.upsert_posts(connection, account_id, drawn, source=source.name)


def all_posts_before(pipeline: Pipeline, account_id: str, at: datetime) -> list[TrackedPost]:
    """Every post of an account that went live before ``at``."""
    with pipeline.read() as connection:
        return posts.tracked_posts(
            connection,
            account_id,
            posted_from=pipeline.settings.start - timedelta(days=365 * 30),
            posted_before=at,
        )
