"""Feedback through attribution: policies learn from the account's follower count alone.

Here: what an account's two-hour readings show (``observe_account``), and the followers that
``core.attribution`` credits to its posts from them. Not here: the attribution itself, and the loop
that asks (``loop``).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import numpy as np
import pandas as pd

from genopt_pipeline.core.attribution import AttributionConfig
from genopt_pipeline.core.attribution.engine import solve
from genopt_pipeline.core.attribution.frames import (
    Increments,
    Problem,
    Windows,
    arrange_problem,
)
from genopt_pipeline.core.attribution.learned import Learned
from genopt_pipeline.core.attribution.step import solve_step
from genopt_pipeline.sandbox.loop import GENERATORS, STEP_HOURS, Feedback, Observed
from genopt_pipeline.sandbox.organic import organic_follows_until, unfollows_until
from genopt_pipeline.sandbox.posts import (
    Levels,
    Posts,
    click_events,
    count_levels,
    describe_posts,
    follow_events,
    impressions_at,
)
from genopt_pipeline.sandbox.randomness import (
    FloatArray,
    IntArray,
    Stream,
    WordArray,
    uniform_pair,
)
from genopt_pipeline.sandbox.world import (
    HOURS_PER_DAY,
    World,
    audience_hours,
    path_at,
    posts_between,
    rate_path,
)

WINDOW_HOURS: Final = 2.0
_WINDOWS_A_STEP: Final = round(STEP_HOURS / WINDOW_HOURS)
#: How far back a fit reads, and the age up to which it restates a post's credit.
_LOOKBACK_STEPS: Final = round(30 * HOURS_PER_DAY / STEP_HOURS)
_RESTATED_HOURS: Final = 7 * HOURS_PER_DAY
#: How far back a step between two fits reads: it restates the posts that are still followed.
_STEP_LOOKBACK_STEPS: Final = round(6 * HOURS_PER_DAY / STEP_HOURS)
#: Posts are followed for so long; what they gain later is not seen.
_FOLLOWED_HOURS: Final = 5 * HOURS_PER_DAY
#: Lag, frailty and unfollows of an account are fitted once a week, its rates once a day.
_REFIT_STEPS: Final = round(7 * HOURS_PER_DAY / STEP_HOURS)
_RATES_STEPS: Final = round(HOURS_PER_DAY / STEP_HOURS)
_ORIGIN: Final = pd.Timestamp(datetime(2026, 1, 5, tzinfo=UTC))

ExposureSource = Literal["impressions", "profile_clicks"]


@dataclass(frozen=True, slots=True, eq=False)
class _Exposure:
    """What posts gained in the windows of one step, ordered by account; arrays over rows."""

    post: IntArray
    window: IntArray
    impressions: FloatArray
    clicks: FloatArray
    first_of_account: IntArray

    def of(self, account: int) -> slice:
        """The rows of one account."""
        return slice(int(self.first_of_account[account]), int(self.first_of_account[account + 1]))


class DeltaFeedback:
    """The followers of each post as attribution sees them, step after step, for all accounts."""

    def __init__(
        self,
        world: World,
        seeds: WordArray,
        exposure: ExposureSource,
        *,
        use_information: bool = True,
    ) -> None:
        self._world, self._seeds, self._exposure = world, seeds, exposure
        self._use_information = use_information
        self._config = AttributionConfig()
        self._generators = [f"g{k:02d}" for k in range(GENERATORS)]
        self._learned: dict[int, Learned] = {}
        self._steps: list[_Exposure] = []
        self._deltas: list[FloatArray] = []
        self._batches: list[tuple[int, Posts, Levels]] = []
        self._follow = _Pending()
        self._click = _Pending()
        self._followers = np.zeros(0)
        self._information = np.zeros(0)
        self._baseline = self._organic(0.0)

    def __call__(self, seen: Observed) -> tuple[FloatArray, FloatArray]:
        """Followers and information of every post so far; NaN followers: not yet credited."""
        self._take_in(seen)
        missing = len(seen.account) - len(self._followers)
        self._followers = np.concatenate([self._followers, np.full(missing, np.nan)])
        self._information = np.concatenate([self._information, np.ones(missing)])
        for account in range(len(self._seeds)):
            self._attribute(account, seen)
        return self._followers.copy(), self._information.copy()

    def _organic(self, hours: float) -> FloatArray:
        net = [
            int(organic_follows_until(self._world, int(seed), hours))
            - int(unfollows_until(self._world, int(seed), hours))
            for seed in self._seeds
        ]
        return np.array(net, dtype=np.float64)

    def _take_in(self, seen: Observed) -> None:
        """Read the windows of the step that has just ended."""
        follows = follow_events(self._world, seen.new_posts)
        self._follow.add(follows.row + seen.first_new, follows.follow_clock)
        if self._exposure == "profile_clicks":
            idle = click_events(self._world, seen.new_posts)
            for events in (follows, idle):
                self._click.add(events.row + seen.first_new, events.click_clock)
        levels = count_levels(self._world, seen.new_posts)
        self._batches.append((seen.first_new, seen.new_posts, levels))
        oldest = seen.now_hours - _FOLLOWED_HOURS
        self._batches = [
            (first, posts, levels)
            for first, posts, levels in self._batches
            if len(posts) and posts.posted_hours[-1] >= oldest
        ]
        begin = seen.now_hours - STEP_HOURS
        edges = begin + WINDOW_HOURS * np.arange(_WINDOWS_A_STEP + 1)
        clocks = audience_hours(self._world, edges)
        n, first = len(seen.account), self._batches[0][0] if self._batches else len(seen.account)
        delta = np.zeros((len(self._seeds), _WINDOWS_A_STEP))
        pieces: list[tuple[IntArray, IntArray, FloatArray, FloatArray]] = []
        for k in range(_WINDOWS_A_STEP):
            came = self._follow.until(float(clocks[k + 1]))
            baseline = self._organic(float(edges[k + 1]))
            delta[:, k] = baseline - self._baseline
            delta[:, k] += np.bincount(seen.account[came], minlength=len(self._seeds))
            self._baseline = baseline
            clicked = np.bincount(self._click.until(float(clocks[k + 1])), minlength=n)[first:]
            grown = np.zeros(n - first)
            for row, posts, levels in self._batches:
                gain = impressions_at(posts, float(clocks[k + 1]), levels)
                gain = gain - impressions_at(posts, float(clocks[k]), levels)
                grown[row - first : row - first + len(posts)] = gain
            some = np.flatnonzero((grown > 0) | (clicked > 0))
            window = np.full(len(some), seen.step * _WINDOWS_A_STEP - _WINDOWS_A_STEP + k)
            pieces.append((some + first, window, grown[some], clicked[some].astype(np.float64)))
        post, window, impressions, clicks = (
            np.concatenate(parts) for parts in zip(*pieces, strict=True)
        )
        order = np.argsort(seen.account[post], kind="stable")
        starts = np.searchsorted(seen.account[post][order], np.arange(len(self._seeds) + 1))
        self._steps.append(
            _Exposure(post[order], window[order], impressions[order], clicks[order], starts)
        )
        self._deltas.append(delta)
        self._steps, self._deltas = self._steps[-_LOOKBACK_STEPS:], self._deltas[-_LOOKBACK_STEPS:]

    def _attribute(self, account: int, seen: Observed) -> None:
        # spread over the steps, and the same whatever other accounts are simulated beside
        turn = seen.step - int(self._seeds[account] % _REFIT_STEPS)
        learned = self._learned.get(account)
        lookback, restated = _STEP_LOOKBACK_STEPS, _FOLLOWED_HOURS
        if learned is None or turn % _RATES_STEPS == 0:
            lookback, restated = _LOOKBACK_STEPS, _RESTATED_HOURS
        arranged = self._arrange(account, seen, lookback)
        if arranged is None:
            return
        posts, problem = arranged
        # before the first click of all the exposure is in another unit
        if learned is not None and learned.exposure_kind != problem.exposure_kind:
            learned = None
        if learned is not None and lookback == _STEP_LOOKBACK_STEPS:
            solved = solve_step(problem, self._config, learned, variance=False)
        else:
            again = None if turn % _REFIT_STEPS == 0 else learned
            solved = solve(problem, self._config, again, variance=False)
            self._learned[account] = solved.learned
        keep = problem.covered & (seen.posted_hours[posts] >= seen.now_hours - restated)
        self._followers[posts[keep]] = solved.split.total[keep]
        if self._use_information:
            self._information[posts[keep]] = solved.rates.information[seen.generator[posts[keep]]]

    def _arrange(
        self, account: int, seen: Observed, lookback: int
    ) -> tuple[IntArray, Problem] | None:
        """The posts seen in the last steps, and what is known of them; None if none."""
        steps, deltas = self._steps[-lookback:], self._deltas[-lookback:]
        rows = [(step, step.of(account)) for step in steps]
        row = np.concatenate([step.post[part] for step, part in rows])
        delta = np.concatenate([step[account] for step in deltas])
        first = seen.step * _WINDOWS_A_STEP - len(delta)
        if not len(row):
            return None
        window = np.concatenate([step.window[part] for step, part in rows])
        impressions = np.concatenate([step.impressions[part] for step, part in rows])
        clicks = np.concatenate([step.clicks[part] for step, part in rows])
        posts, post = np.unique(row, return_inverse=True)
        nothing = np.full(len(post), np.nan)
        return posts, arrange_problem(
            _ORIGIN + pd.to_timedelta(WINDOW_HOURS * (first + np.arange(len(delta))), unit="h"),
            Windows(
                WINDOW_HOURS * np.arange(float(len(delta))),
                WINDOW_HOURS * np.arange(1.0, len(delta) + 1.0),
                delta,
            ),
            Increments(
                post=post,
                seen_hours=WINDOW_HOURS * (window - first).astype(np.float64),
                impressions=impressions,
                profile_clicks=clicks if self._exposure == "profile_clicks" else nothing,
                platform_follows=nothing,
            ),
            posts=posts.tolist(),
            generators=self._generators,
            generator_of=seen.generator[posts],
            config=self._config,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ObservedAccount:
    """What an account's readings show of a stretch of time, and what really happened.

    ``deltas`` and ``exposures`` are as ``attribute_followers`` reads them, with both impressions
    and profile clicks; posts are numbered, generators named by ``generator_names``.
    """

    deltas: pd.DataFrame
    exposures: pd.DataFrame
    generator_names: tuple[str, ...]
    #: true F/1K of each generator, (generators,), at the start
    rates: FloatArray
    #: of each post: its generator, when it went live, its impressions and true follows so far
    generator: IntArray
    posted_hours: FloatArray
    impressions: FloatArray
    follows: FloatArray


def observe_account(world: World, seed: int, days: float) -> ObservedAccount:
    """``days`` days of one account that draws its generators with equal weights."""
    index, posted = posts_between(world, seed, 0.0, days * HOURS_PER_DAY)
    _, draw = uniform_pair(seed, Stream.SELECTION, index)
    generator = np.floor(GENERATORS * draw).astype(np.int64)
    path = rate_path(world, np.array([seed], dtype=np.uint64), math.ceil(days) + 1, GENERATORS)
    log_rate = path_at(world, path, np.zeros_like(index), posted, generator)
    posts = describe_posts(world, seed, index, generator, posted, log_rate)
    edges = np.arange(0.0, days * HOURS_PER_DAY + 1e-6, WINDOW_HOURS)
    clock = audience_hours(world, edges)
    windows, n = len(edges) - 1, len(index)

    def counted(row: IntArray, event_clock: FloatArray) -> FloatArray:
        window = np.searchsorted(clock, event_clock, side="left") - 1
        inside = (window >= 0) & (window < windows)
        counts = np.bincount(window[inside] * n + row[inside], minlength=windows * n)
        return counts.reshape(windows, n).astype(np.float64)

    follows, idle = follow_events(world, posts), click_events(world, posts)
    came = counted(follows.row, follows.follow_clock)
    clicks = counted(follows.row, follows.click_clock) + counted(idle.row, idle.click_clock)
    seen = np.diff(impressions_at(posts, clock[:, None]), axis=0).astype(np.float64)
    organic = organic_follows_until(world, seed, edges) - unfollows_until(world, seed, edges)
    times = _ORIGIN + pd.to_timedelta(edges, unit="h")
    names = tuple(f"g{k:02d}" for k in range(GENERATORS))
    window, post = np.nonzero((seen > 0) | (clicks > 0))
    return ObservedAccount(
        deltas=pd.DataFrame(
            {
                "window_start": times[:-1],
                "window_end": times[1:],
                "delta": came.sum(axis=1) + np.diff(organic),
            }
        ),
        exposures=pd.DataFrame(
            {
                "post_id": post,
                "generator_name": np.array(names, dtype=object)[generator[post]],
                "window_start": times[window],
                "impressions": seen[window, post],
                "profile_clicks": clicks[window, post],
                "platform_follows": np.nan,
            }
        ),
        generator_names=names,
        rates=np.exp(path[0, 0]),
        generator=generator,
        posted_hours=posted,
        impressions=seen.sum(axis=0),
        follows=came.sum(axis=0),
    )


class _Pending:
    """Events still to come: the row of the post and the audience's clock."""

    def __init__(self) -> None:
        self._row = np.zeros(0, dtype=np.int64)
        self._clock = np.zeros(0)

    def add(self, row: IntArray, clock: FloatArray) -> None:
        self._row = np.concatenate([self._row, row])
        self._clock = np.concatenate([self._clock, clock])

    def until(self, clock: float) -> IntArray:
        """Rows of the events up to ``clock``, which are then no longer pending."""
        come = self._clock <= clock
        rows = self._row[come]
        self._row, self._clock = self._row[~come], self._clock[~come]
        return rows


def from_deltas(
    exposure: ExposureSource, *, use_information: bool = True
) -> Callable[[World, WordArray], Feedback]:
    """Feedback for ``simulate``: true follows are hidden, only the follower count is seen.

    ``exposure`` is what the source reports of each post beside it. ``use_information``: whether
    the policy is told that a credited follower is worth less than a counted one. About 6 ms an
    account and step: meant for tens of accounts.
    """

    def feedback_for(world: World, seeds: WordArray) -> Feedback:
        return DeltaFeedback(world, seeds, exposure, use_information=use_information)

    return feedback_for
