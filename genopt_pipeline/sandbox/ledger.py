"""What a simulated account's posts have earned by a time: the sandbox's book of totals.

Here: readings of posts and the follower count at any moment, for one moment or thousands. Not
here: how they are asked for (``sources.sandbox``, the HTTP server).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import numpy as np

from genopt_pipeline.core.observations import MetricReading, TrackedPost
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.organic import organic_follows_until, unfollows_until
from genopt_pipeline.sandbox.posts import (
    Levels,
    Posts,
    click_events,
    count_levels,
    engagements_at,
    follow_events,
    impressions_at,
)
from genopt_pipeline.sandbox.randomness import FloatArray, IntArray, Stream, uniform
from genopt_pipeline.sandbox.world import audience_hours

#: Events are compared as whole microhours of the audience's clock (3.6 ms): integers, so that a
#: reading is the same to the last bit whichever other posts are in the book.
_TICKS_PER_HOUR: Final = 1_000_000
_ROW_SHIFT: Final = 42


def _ticks(clock: FloatArray) -> IntArray:
    return np.floor(clock * _TICKS_PER_HOUR).astype(np.int64)


class _EventIndex:
    """Events of many posts, so that counting those of some posts by a time is a binary search."""

    def __init__(self, row: IntArray, ticks: IntArray, n: int) -> None:
        self._keys = np.sort((row << _ROW_SHIFT) + np.maximum(ticks, 0))
        self._first = np.searchsorted(self._keys, np.arange(n) << _ROW_SHIFT)

    def count(self, rows: IntArray, tick: int) -> IntArray:
        """How many events of each row happened up to ``tick``, itself included."""
        found = np.searchsorted(self._keys, (rows << _ROW_SHIFT) + max(tick, 0), side="right")
        return found - self._first[rows]


class PostLedger:
    """Totals of an account's posts and its follower count at any time.

    Posts are added as they become known; adding one again changes nothing. A reading depends on
    its own post alone, the follower count on every post that was added and went live before.
    """

    def __init__(self, account: SandboxAccount, posts: Iterable[TrackedPost] = ()) -> None:
        self.account = account
        self._row: dict[str, int] = {}
        self._known: list[TrackedPost] = []
        self._stale = True
        self.add(posts)

    def __len__(self) -> int:
        return len(self._known)

    def add(self, posts: Iterable[TrackedPost]) -> None:
        """Enter posts of the account, in any order."""
        for post in posts:
            if post.decision_id not in self._row:
                self._row[post.decision_id] = len(self._known)
                self._known.append(post)
                self._stale = True

    def _refresh(self) -> None:
        if not self._stale:
            return
        world, n = self.account.world, len(self._known)
        posts = self.account.describe(self._known)
        follows, idle = follow_events(world, posts), click_events(world, posts)
        self._posts = posts
        self._levels = count_levels(world, posts)
        self._all_follows = np.sort(_ticks(follows.follow_clock))
        self._follows = _EventIndex(follows.row, _ticks(follows.follow_clock), n)
        self._clicks = _EventIndex(
            np.concatenate([follows.row, idle.row]),
            _ticks(np.concatenate([follows.click_clock, idle.click_clock])),
            n,
        )
        number = np.arange(len(follows.row)) - np.searchsorted(follows.row, follows.row)
        seen = (
            uniform(self.account.seed, Stream.FOLLOW_LAG, posts.index[follows.row], number)
            < world.platform_share
        )
        self._platform = _EventIndex(follows.row[seen], _ticks(follows.follow_clock[seen]), n)
        self._stale = False

    def followers_count(self, at: datetime) -> int:
        """The account's followers at ``at``: those it began with and everything since."""
        self._refresh()
        hours = self.account.hours(at)
        tick = self._tick(hours)
        earned = int(np.searchsorted(self._all_follows, tick, side="right"))
        organic = int(organic_follows_until(self.account.world, self.account.seed, hours))
        lost = int(unfollows_until(self.account.world, self.account.seed, hours))
        return self.account.world.initial_followers + earned + organic - lost

    def true_follows(self, decision_ids: Sequence[str], at: datetime) -> IntArray:
        """Follows that each post has really earned by ``at``: what no real source can tell."""
        self._refresh()
        return self._follows.count(self._rows(decision_ids), self._tick(self.account.hours(at)))

    def readings(
        self,
        decision_ids: Sequence[str],
        at: datetime,
        *,
        platform_follows: bool = False,
    ) -> list[MetricReading]:
        """Totals at ``at`` of those of the posts that are live by then, in the order given.

        ``platform_follows``: whether the platform reports the follows it ascribes to a post (a
        small share of the true ones); otherwise they are not measured.

        Raises
        ------
        KeyError
            A post that was not added.
        """
        self._refresh()
        hours = self.account.hours(at)
        rows = self._rows(decision_ids)
        rows = rows[self._posts.posted_hours[rows] <= hours]
        clock = float(audience_hours(self.account.world, hours))
        tick = self._tick(hours)
        posts, levels = _take(self._posts, self._levels, rows)
        totals = engagements_at(self.account.world, posts, clock, levels)
        totals["profile_clicks"] = self._clicks.count(rows, tick)
        totals["engagements"] = np.sum(list(totals.values()), axis=0)
        totals["impressions"] = impressions_at(posts, clock, levels)
        if platform_follows:
            totals["platform_follows"] = self._platform.count(rows, tick)
        names = list(totals)
        columns = zip(*(totals[name].tolist() for name in names), strict=True)
        return [
            MetricReading(
                decision_id=post.decision_id,
                tweet_id=post.tweet_id,
                observed_at=at,
                **dict(zip(names, values, strict=True)),
            )
            for post, values in zip((self._known[row] for row in rows), columns, strict=True)
        ]

    def _tick(self, hours: float) -> int:
        return int(_ticks(audience_hours(self.account.world, hours)))

    def _rows(self, decision_ids: Sequence[str]) -> IntArray:
        return np.array([self._row[decision] for decision in decision_ids], dtype=np.int64)


def _take(posts: Posts, levels: Levels, rows: IntArray) -> tuple[Posts, Levels]:
    """The same posts' entries of both, the row being the last axis of every array."""
    return (
        Posts(*(getattr(posts, name)[rows] for name in Posts.__slots__)),
        Levels(*(getattr(levels, name)[..., rows] for name in Levels.__slots__)),
    )
