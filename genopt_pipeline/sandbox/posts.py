"""What posts of a simulated account earn: impressions, clicks, follows, likes, at any time.

Here: the latent quantities of posts and their cumulative counts, vectorised over the posts of any
number of accounts. Not here: which generator wrote a post, and how readings are reported
(``account``, ``sources.sandbox``).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from genopt_pipeline.sandbox.randomness import (
    FloatArray,
    IntArray,
    Stream,
    WordArray,
    event_rows,
    normal_pair,
    poisson_quantile,
    uniform,
    uniform_pair,
)
from genopt_pipeline.sandbox.world import World, audience_hours, shock_factor

#: Counts that a post collects in proportion to its impressions, in the order of their streams.
ENGAGEMENTS: Final = ("likes", "retweets", "replies", "quotes", "bookmarks", "url_clicks")


@dataclass(frozen=True, slots=True, eq=False)
class Posts:
    """Latent quantities of n posts; every array has shape (n,)."""

    seed: WordArray
    index: IntArray
    generator: IntArray
    posted_hours: FloatArray
    #: the audience's clock when the post went live
    posted_clock: FloatArray
    #: impressions the post gets in the end
    impressions: IntArray
    maturity_hours: FloatArray
    #: expected follows per 1,000 impressions, the post's own frailty and the day's shock included
    f_per_1k: FloatArray
    #: the generator's part of it
    generator_f_per_1k: FloatArray
    frailty: FloatArray
    #: follows the post earns in the end
    follows: IntArray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Single follows or clicks: the row of the post, the audience's clock of click and follow."""

    row: IntArray
    click_clock: FloatArray
    #: NaN for a click that led to no follow
    follow_clock: FloatArray


def describe_posts(
    world: World,
    seed: npt.ArrayLike,
    index: npt.ArrayLike,
    generator: npt.ArrayLike,
    posted_hours: npt.ArrayLike,
    log_rate: npt.ArrayLike,
) -> Posts:
    """Draw the latent quantities of posts.

    ``seed`` is that of the post's account (a number, or one a post); ``log_rate`` the natural log
    of the generator's true F/1K when the post went live. Each post's numbers depend on its own
    arguments alone, and on the generator only through its rate and reach.
    """
    number = np.atleast_1d(np.asarray(index, dtype=np.int64))
    seeds = np.broadcast_to(np.asarray(seed, dtype=np.uint64), number.shape)
    arm = np.broadcast_to(np.asarray(generator, dtype=np.int64), number.shape)
    posted = np.broadcast_to(np.asarray(posted_hours, dtype=np.float64), number.shape)
    reach_z, maturity_z = normal_pair(seeds, Stream.REACH, number)
    log_reach = world.reach_sigma * reach_z
    if world.reach_spread > 0.0:
        level, _ = normal_pair(seeds, Stream.REACH_LEVEL, arm)
        log_reach = log_reach + world.reach_spread * level
    impressions = np.floor(world.median_impressions * np.exp(log_reach)).astype(np.int64)
    frailty_u, count_u = uniform_pair(seeds, Stream.FRAILTY, number)
    frailty = _frailty(world, frailty_u)
    generator_rate = np.exp(np.broadcast_to(np.asarray(log_rate, dtype=np.float64), number.shape))
    rate = generator_rate * frailty * shock_factor(world, seeds, posted)
    return Posts(
        seed=seeds,
        index=number,
        generator=arm,
        posted_hours=posted,
        posted_clock=audience_hours(world, posted),
        impressions=impressions,
        maturity_hours=world.maturity_hours * np.exp(world.maturity_sigma * maturity_z),
        f_per_1k=rate,
        generator_f_per_1k=generator_rate,
        frailty=frailty,
        follows=poisson_quantile(count_u, impressions * rate / 1000.0),
    )


def _frailty(world: World, u: FloatArray) -> FloatArray:
    """θ with mean 1 and variance ``post_frailty``, by its quantile function."""
    if world.post_frailty == 0.0:
        return np.ones_like(u)
    if world.heavy_tailed:
        sigma = np.sqrt(np.log1p(world.post_frailty))
        return np.asarray(np.exp(sigma * special.ndtri(u) - sigma**2 / 2))
    shape = 1.0 / world.post_frailty
    return np.asarray(special.gammaincinv(shape, u) / shape)


def follow_events(world: World, posts: Posts) -> Events:
    """Every follow that the posts earn: a view with a profile click, and a lag after it."""
    row, number = event_rows(posts.follows)
    click_u, lag_u = uniform_pair(posts.seed[row], Stream.FOLLOW_TIME, posts.index[row], number)
    click = posts.posted_clock[row] - posts.maturity_hours[row] * np.log1p(-click_u)
    return Events(row, click, click - world.follow_lag_hours * np.log(lag_u))


def click_events(world: World, posts: Posts) -> Events:
    """Profile clicks that lead to no follow; all clicks are these and ``follow_events``.

    Of clicks at c per 1,000 impressions a share λ/c converts. Splitting a Poisson process gives
    two independent ones, so clicks without a follow are drawn by themselves, and a simulation
    that needs only the follows does not pay for the clicks. A generator's advantage lies partly
    in c: c_g = c₀·(λ_g/λ₀)^``click_share_of_rate``. The post's frailty acts on the clicks, so
    that given its clicks a post's follows are nearly Poisson.
    """
    relative = posts.generator_f_per_1k / world.median_f_per_1k
    conversion = world.follows_per_click * relative ** (1.0 - world.click_share_of_rate)
    idle = posts.f_per_1k * (1.0 / np.minimum(conversion, 0.95) - 1.0)
    counts = poisson_quantile(
        uniform(posts.seed, Stream.CLICK_COUNT, posts.index), posts.impressions * idle / 1000.0
    )
    row, number = event_rows(counts)
    u = uniform(posts.seed[row], Stream.CLICK_TIME, posts.index[row], number)
    click = posts.posted_clock[row] - posts.maturity_hours[row] * np.log1p(-u)
    return Events(row, click, np.full(len(row), np.nan))


def maturity(posts: Posts, clock: npt.ArrayLike) -> FloatArray:
    """G = 1 − exp(−age/maturity) of each post at the audience's clock; 0 before it went live."""
    age = np.maximum(np.asarray(clock, dtype=np.float64) - posts.posted_clock, 0.0)
    return -np.expm1(-age / posts.maturity_hours)


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Where the growing counts of n posts end, and how they round on the way; (n,) and (6, n)."""

    impression_offset: FloatArray
    #: expected final counts in the order of ``ENGAGEMENTS``
    engagement: FloatArray
    engagement_offset: FloatArray


def count_levels(world: World, posts: Posts) -> Levels:
    """The levels of posts, which do not change with time: worth keeping by who asks often.

    A post that earns followers is also liked more: half of its log frailty is in its engagement.
    """
    z, _ = normal_pair(posts.seed, Stream.ENGAGEMENT, posts.index)
    seen = posts.impressions * np.sqrt(posts.frailty) * np.exp(world.engagement_sigma * z) / 1000.0
    per_1k = np.array([getattr(world, f"{name}_per_1k") for name in ENGAGEMENTS])
    number = np.arange(1, len(ENGAGEMENTS) + 1)[:, None]
    return Levels(
        impression_offset=uniform(posts.seed, Stream.REACH, posts.index, 1),
        engagement=per_1k[:, None] * seen,
        engagement_offset=uniform(posts.seed, Stream.ENGAGEMENT, posts.index, number),
    )


def impressions_at(posts: Posts, clock: npt.ArrayLike, levels: Levels | None = None) -> IntArray:
    """Impressions seen by the audience's ``clock``: a number, (n,), or (times, 1).

    ⌊N·G + u⌋ with the post's own u in [0, 1): whole numbers, monotone, unbiased at every time.
    """
    if levels is None:
        offset = uniform(posts.seed, Stream.REACH, posts.index, 1)
    else:
        offset = levels.impression_offset
    return np.floor(posts.impressions * maturity(posts, clock) + offset).astype(np.int64)


def engagements_at(
    world: World, posts: Posts, clock: float, levels: Levels | None = None
) -> dict[str, IntArray]:
    """Likes, retweets and so on seen by ``clock``, (n,) each, rounded like impressions."""
    kept = count_levels(world, posts) if levels is None else levels
    counts = np.floor(kept.engagement * maturity(posts, clock) + kept.engagement_offset)
    return dict(zip(ENGAGEMENTS, counts.astype(np.int64), strict=True))


def counts_by(row: IntArray, event_clock: FloatArray, clock: float, n: int) -> IntArray:
    """How many events of each of n posts happened up to ``clock``, itself included."""
    return np.bincount(row[event_clock <= clock], minlength=n)
