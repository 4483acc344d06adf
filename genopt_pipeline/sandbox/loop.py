"""The closed loop: accounts that post by their weights, and a policy that learns from the result.

Here: many accounts of one world under one policy, six hours at a time. Not here: what the policies
are (``contenders``), and how runs are compared (``simulate``).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from genopt_pipeline.core.estimation import PostBatch
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.guards import UNITS, GuardConfig, guarded_step, project, round_to_units
from genopt_pipeline.sandbox.contenders import WINDOW_HOURS, BoolArray, Contender
from genopt_pipeline.sandbox.posts import (
    Posts,
    describe_posts,
    follow_events,
    impressions_at,
)
from genopt_pipeline.sandbox.randomness import (
    FloatArray,
    IntArray,
    Stream,
    WordArray,
    derived_seeds,
    uniform_pair,
)
from genopt_pipeline.sandbox.world import (
    HOURS_PER_DAY,
    World,
    audience_hours,
    available,
    path_at,
    rate_path,
    schedule_hours,
)

STEP_HOURS: Final = 6.0
GENERATORS: Final = len(DEFAULT_WEIGHTS)
#: No optimization below so many posts in the window.
MIN_POSTS: Final = 20
#: An oracle keeps the same share for exploration as the policies.
_ORACLE_EXPLORATION: Final = 0.15

#: Turns the step's posts and their true follows into the followers (n,) and the information (n,)
#: that the policy is told of (NaN followers: nothing about this post). Without feedback the policy
#: is told the true follows.
Feedback = Callable[["Observed"], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What has happened in all accounts by the end of a step; arrays over posts in time order."""

    step: int
    now_hours: float
    account: IntArray
    generator: IntArray
    posted_hours: FloatArray
    impressions: FloatArray
    #: follows that each post has really earned so far
    follows: FloatArray
    #: the posts that went live in this step, for who follows single events
    new_posts: Posts
    first_new: int


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What a policy did with the accounts of a world."""

    #: expected F/1K of the weights in force in each step: (accounts, steps)
    value: FloatArray
    #: the weights in force in each step: (accounts, steps, generators)
    weights: FloatArray
    #: follows that the posts of each account earned by the end
    follows: FloatArray


def step_rates(world: World, seeds: WordArray, days: float) -> tuple[FloatArray, BoolArray]:
    """True F/1K in the middle of every step, (accounts, steps, generators), and what exists."""
    n_steps = round(days * HOURS_PER_DAY / STEP_HOURS)
    middle = (np.arange(n_steps) + 0.5) * STEP_HOURS
    path = rate_path(world, seeds, math.ceil(days) + 1, GENERATORS)
    shape = (len(seeds), n_steps, GENERATORS)
    account = np.broadcast_to(np.arange(len(seeds))[:, None, None], shape)
    generator = np.broadcast_to(np.arange(GENERATORS), shape)
    times = np.broadcast_to(middle[None, :, None], shape)
    exists = available(world, np.arange(n_steps) * STEP_HOURS, GENERATORS)
    return np.exp(path_at(world, path, account, times, generator)), exists


def guards_for(exists: BoolArray, guards: GuardConfig) -> tuple[FloatArray, FloatArray]:
    """Bounds of the weights where only some generators exist; shapes as ``exists``."""
    return np.where(exists, guards.floor, 0.0), np.where(exists, guards.cap, 0.0)


def oracle_value(rates: FloatArray, exists: BoolArray, guards: GuardConfig) -> FloatArray:
    """F/1K (accounts, steps) of who knows the true rates, under the same floor and exploration.

    It moves at once; no step limit holds it, so that it bounds every policy from above.
    """
    lower, upper = guards_for(exists, guards)
    best = np.where(exists, rates, -np.inf).argmax(axis=-1)
    targets = _ORACLE_EXPLORATION * exists / exists.sum(axis=-1, keepdims=True) + np.zeros_like(
        rates
    )
    np.put_along_axis(
        targets,
        best[..., None],
        np.take_along_axis(targets, best[..., None], axis=-1) + 1.0 - _ORACLE_EXPLORATION,
        axis=-1,
    )
    flat = targets.reshape(-1, GENERATORS)
    weights = project(
        flat,
        np.broadcast_to(lower, rates.shape).reshape(flat.shape),
        np.broadcast_to(upper, rates.shape).reshape(flat.shape),
    )
    return np.asarray((weights.reshape(rates.shape) * rates).sum(axis=-1))


def uniform_value(rates: FloatArray, exists: BoolArray) -> FloatArray:
    """F/1K (accounts, steps) of equal weights over the generators that exist."""
    return np.asarray((rates * exists).sum(axis=-1) / exists.sum(axis=-1))


def run_loop(
    world: World,
    contender: Contender,
    *,
    seeds: WordArray,
    days: float,
    guards: GuardConfig | None = None,
    feedback: Feedback | None = None,
    progress: Callable[[float], None] | None = None,
) -> Track:
    """Let every account post for ``days`` days, the policy setting its weights every six hours.

    The luck of a post (its time, reach, frailty and the uniform its generator is drawn with) is
    the same under every policy: policies are compared on the same accounts. Posts are drawn by
    the learned weights (the control arm).
    """
    guards = guards or GuardConfig()
    rates, exists = step_rates(world, seeds, days)
    n_accounts, n_steps = rates.shape[:2]
    path = rate_path(world, seeds, math.ceil(days) + 1, GENERATORS)
    book = _Book(world, seeds, days)
    weights = _first_weights(contender, exists[0], n_accounts)
    value = np.empty((n_accounts, n_steps))
    history = np.empty((n_accounts, n_steps, GENERATORS))
    for step in range(n_steps):
        if contender.targets is None:
            weights = _first_weights(contender, exists[step], n_accounts)
        elif step > 0:
            present = np.broadcast_to(exists[step], weights.shape)
            weights = _next_weights(contender, book, weights, present, guards, feedback, step)
        history[:, step] = weights
        value[:, step] = (weights * rates[:, step]).sum(axis=1)
        book.publish(path, weights, step)
        if progress is not None:
            progress((step + 1) / n_steps)
    return Track(value, history, book.all_follows())


def _first_weights(contender: Contender, exists: BoolArray, accounts: int) -> FloatArray:
    start = (
        np.ones(GENERATORS) if contender.starts_uniform else np.array([*DEFAULT_WEIGHTS.values()])
    )
    start = start * exists
    return np.tile(start / start.sum(), (accounts, 1))


def _next_weights(
    contender: Contender,
    book: "_Book",
    weights: FloatArray,
    present: BoolArray,
    guards: GuardConfig,
    feedback: Feedback | None,
    step: int,
) -> FloatArray:
    assert contender.targets is not None  # noqa: S101 - the caller asked; tells the type checker
    observed = book.observe(step)
    followers, information = (observed.follows, None) if feedback is None else feedback(observed)
    told = np.flatnonzero(~np.isnan(followers))
    posts = PostBatch(
        accounts=len(weights),
        generators=GENERATORS,
        account=observed.account[told],
        generator=observed.generator[told],
        age_hours=observed.now_hours - observed.posted_hours[told],
        impressions=observed.impressions[told],
        followers=followers[told],
        information=None if information is None else information[told],
    )
    lower, upper = guards_for(present, guards)
    targets, evidence = contender.targets(posts, present)
    recent = posts.age_hours <= WINDOW_HOURS
    enough = np.bincount(posts.account[recent], minlength=len(weights)) >= MIN_POSTS
    base, _, moved = guarded_step(weights, targets, lower, upper, guards.step)
    moved = np.where((enough & evidence)[:, None], moved, base)
    return round_to_units(moved, lower, upper) / UNITS


class _Book:
    """The posts of all accounts in time order, and what each has earned so far."""

    def __init__(self, world: World, seeds: WordArray, days: float) -> None:
        self._world, self._seeds = world, seeds
        slot = HOURS_PER_DAY / world.posts_per_day
        index = np.arange(math.ceil(days * HOURS_PER_DAY / slot))
        posted = schedule_hours(world, seeds[:, None], index[None, :])
        account = np.repeat(np.arange(len(seeds)), len(index))
        numbers = np.tile(index, len(seeds))
        order = np.argsort(posted.ravel(), kind="stable")
        self._account, self._index = account[order], numbers[order]
        self._posted = posted.ravel()[order]
        _, self._draw = uniform_pair(seeds[self._account], Stream.SELECTION, self._index)
        n = len(order)
        self._generator = np.zeros(n, dtype=np.int64)
        self._impressions = np.zeros(n)
        self._follows = np.zeros(n)
        self._live = 0
        self._first_new = 0
        self._batches: list[tuple[int, Posts]] = []
        self._pending_row = np.zeros(0, dtype=np.int64)
        self._pending_clock = np.zeros(0)

    def publish(self, path: FloatArray, weights: FloatArray, step: int) -> None:
        """Let the posts of a step go live, their generators drawn by the weights in force."""
        first, last = self._live, int(np.searchsorted(self._posted, (step + 1) * STEP_HOURS))
        rows = slice(first, last)
        account, posted = self._account[rows], self._posted[rows]
        cumulative = np.cumsum(weights, axis=1)[account]
        drawn = (self._draw[rows, None] >= cumulative).sum(axis=1)
        # rounding can leave the last cumulative sum a hair below 1
        final = GENERATORS - 1 - np.argmax(weights[account][:, ::-1] > 0, axis=1)
        generator = np.minimum(drawn, final)
        self._generator[rows] = generator
        posts = describe_posts(
            self._world,
            self._seeds[account],
            self._index[rows],
            generator,
            posted,
            path_at(self._world, path, account, posted, generator),
        )
        events = follow_events(self._world, posts)
        self._pending_row = np.concatenate([self._pending_row, events.row + first])
        self._pending_clock = np.concatenate([self._pending_clock, events.follow_clock])
        self._batches.append((first, posts))
        self._first_new, self._live = first, last

    def observe(self, step: int) -> Observed:
        """Everything seen at the start of a step."""
        now = step * STEP_HOURS
        clock = float(audience_hours(self._world, now))
        come = self._pending_clock <= clock
        np.add.at(self._follows, self._pending_row[come], 1.0)
        self._pending_row, self._pending_clock = (
            self._pending_row[~come],
            self._pending_clock[~come],
        )
        # after ten maturity times a post's impressions are complete to the last one in 20,000
        oldest = now - 12 * self._world.maturity_hours - STEP_HOURS
        for first, posts in reversed(self._batches):
            if len(posts) and posts.posted_hours[-1] < oldest:
                break
            self._impressions[first : first + len(posts)] = impressions_at(posts, clock)
        live = slice(0, self._live)
        return Observed(
            step=step,
            now_hours=now,
            account=self._account[live],
            generator=self._generator[live],
            posted_hours=self._posted[live],
            impressions=self._impressions[live],
            follows=self._follows[live],
            new_posts=self._batches[-1][1],
            first_new=self._first_new,
        )

    def all_follows(self) -> FloatArray:
        """Follows (accounts,) that the posts earn in the end, those still to come included."""
        total = np.bincount(self._account, weights=self._follows, minlength=len(self._seeds))
        coming = np.bincount(self._account[self._pending_row], minlength=len(self._seeds))
        return np.asarray(total + coming, dtype=np.float64)


def account_seeds(seed: int, accounts: int, *, first: int = 0) -> WordArray:
    """Seeds of the accounts of a simulation; the same accounts in every world."""
    return derived_seeds(seed, accounts, first=first)
