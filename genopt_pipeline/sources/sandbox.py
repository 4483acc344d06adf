"""Metrics of a simulated account, for any past window, as a live source would have seen them.

Here: the sandbox behind ``MetricsSource``, one window at a time or thousands. Not here: the
account itself (``sandbox``), and what is done with the readings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from genopt_pipeline.core.observations import (
    CollectedBatch,
    CollectRequest,
    FollowerReading,
    TrackedPost,
)
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.ledger import PostLedger
from genopt_pipeline.sources.base import WindowNotServableError

#: All posts of the account that went live before a time, tracked or not, deleted ones included.
PostsBefore = Callable[[datetime], Sequence[TrackedPost]]


class SandboxSource:
    """``MetricsSource`` over a simulated account.

    Everything is observed at the window's start, so a window has the same bytes whenever it is
    asked for. The follower count is the sum of what every post has earned so far, so the source
    must know all posts and not only those tracked in the window: ``posts_before(t)`` returns
    them, from the database in the pipeline.
    """

    name = "sandbox"

    def __init__(
        self,
        account: SandboxAccount,
        posts_before: PostsBefore,
        *,
        platform_follows: bool = False,
    ) -> None:
        self.account = account
        self._posts_before = posts_before
        self._platform_follows = platform_follows
        self._ledger = PostLedger(account)

    def can_serve(self, window_start: datetime, window_end: datetime, *, now: datetime) -> bool:
        """Every window from the account's start to the current one; never one of the future."""
        return self.account.start <= window_start < window_end and window_start <= now

    def collect(self, request: CollectRequest) -> CollectedBatch:
        """Totals of the tracked posts and the follower count at the window's start.

        Raises
        ------
        WindowNotServableError
            The window lies before the account's start or in the future.
        """
        return next(self.collect_many([request]))

    def collect_many(self, requests: Iterable[CollectRequest]) -> Iterator[CollectedBatch]:
        """The batches of many windows, in their order; the same bytes as one by one.

        The account's posts are asked for once, up to the latest window.

        Raises
        ------
        WindowNotServableError
            As ``collect``, before any batch is yielded.
        """
        asked = list(requests)
        for request in asked:
            self._refuse_unservable(request)
        if not asked:
            return
        latest = max(request.window_start for request in asked)
        self._ledger.add(self._posts_before(latest))
        for request in asked:
            self._ledger.add(request.tracked)
        for request in asked:
            yield self._batch(request)

    def _refuse_unservable(self, request: CollectRequest) -> None:
        if self.can_serve(request.window_start, request.window_end, now=request.now):
            return
        raise WindowNotServableError(
            f"the sandbox account starts at {self.account.start.isoformat()} and knows nothing "
            f"beyond {request.now.isoformat()}; it cannot serve the window from "
            f"{request.window_start.isoformat()} to {request.window_end.isoformat()}"
        )

    def _batch(self, request: CollectRequest) -> CollectedBatch:
        at = request.window_start
        readings = self._ledger.readings(
            [post.decision_id for post in request.tracked],
            at,
            platform_follows=self._platform_follows,
        )
        return CollectedBatch(
            readings=readings,
            followers=[
                FollowerReading(observed_at=at, followers_count=self._ledger.followers_count(at))
            ],
            report={
                "source": self.name,
                "world": self.account.world.name,
                "tracked": len(request.tracked),
                "not_live_yet": len(request.tracked) - len(readings),
            },
        )
