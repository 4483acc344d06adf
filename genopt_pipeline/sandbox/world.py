"""The world a simulated account lives in: its parameters, its clock, its generators' true rates.

Here: ``World``, the named ``WORLDS``, the audience clock, and the true F/1K of every generator at
any time. Not here: what single posts earn (``posts``), followers that come without a post
(``organic``), and which generator is drawn (``account``, ``simulate``).

Times are hours since the account's start (float), UTC. Everything is a pure function of the
world, a seed and the place asked for; see ``randomness``.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from genopt_pipeline.sandbox.randomness import (
    FloatArray,
    IntArray,
    Stream,
    normal_pair,
    uniform,
)

HOURS_PER_DAY: Final = 24.0
HOURS_PER_WEEK: Final = 168.0


@dataclass(frozen=True)
class World:
    """Parameters of the generative model; ``docs/engine/simulation.md`` derives each of them.

    A post of generator g gets N impressions, log-normal with median ``median_impressions`` and
    log sd ``reach_sigma``; they arrive exponentially with ``maturity_hours``. It earns
    Poisson(N·θ·λ_g/1000) follows: λ_g is the generator's F/1K when the post goes live and θ the
    post's frailty, mean 1 and variance ``post_frailty``. Each follow comes through a profile click
    and an exponential lag after it.
    """

    name: str
    posts_per_day: float = 15.0
    median_impressions: float = 1000.0
    reach_sigma: float = 1.0
    #: log sd between generators of their median reach (0: reach does not depend on the generator)
    reach_spread: float = 0.0
    median_f_per_1k: float = 2.0
    #: sd between generators of the natural log of F/1K
    rate_spread: float = 0.5
    #: variance of the post's factor θ, whose mean is 1
    post_frailty: float = 0.7
    #: θ log-normal instead of gamma: rare posts earn a large part of all follows
    heavy_tailed: bool = False
    maturity_hours: float = 8.0
    #: log sd between posts of the maturity time
    maturity_sigma: float = 0.25
    follow_lag_hours: float = 3.0
    #: follows per profile click of a generator at the median rate
    follows_per_click: float = 0.16
    #: how much of a generator's log rate lies in getting clicked (the rest in converting)
    click_share_of_rate: float = 0.5
    #: share of the follows that the platform itself ascribes to the post
    platform_share: float = 0.12
    organic_follows_per_day: float = 10.0
    unfollows_per_day: float = 5.0
    initial_followers: int = 5_000
    day_amplitude: float = 0.5
    peak_hour: float = 18.0
    week_amplitude: float = 0.1
    #: hour of the week (0 is Monday 00:00 UTC) at which the account starts
    start_hour_of_week: float = 0.0
    #: correlation time of the generators' log rates (infinite: they never change)
    drift_days: float = math.inf
    #: day on which the best generator and the one of ``switch_rank`` (0 is the best) exchange rates
    switch_day: float | None = None
    switch_rank: int = 11
    #: day on which the last generator appears, better than all others by ``new_arm_lead`` in log
    new_arm_day: float | None = None
    new_arm_lead: float = 0.1
    #: log sd of a factor common to all posts of one day
    shock_sigma: float = 0.0
    likes_per_1k: float = 18.0
    retweets_per_1k: float = 2.5
    replies_per_1k: float = 3.0
    quotes_per_1k: float = 0.5
    bookmarks_per_1k: float = 2.0
    url_clicks_per_1k: float = 4.0
    #: log sd between posts of their engagement, beside the part it shares with θ
    engagement_sigma: float = 0.5

    def __post_init__(self) -> None:
        positive = (
            "posts_per_day",
            "median_impressions",
            "median_f_per_1k",
            "maturity_hours",
            "follow_lag_hours",
            "drift_days",
        )
        for field in positive:
            if not getattr(self, field) > 0.0:
                raise ValueError(f"world {self.name!r}: {field} must be positive")
        if not 0.0 < self.follows_per_click < 1.0:
            raise ValueError(f"world {self.name!r}: follows_per_click must lie between 0 and 1")
        if self.day_amplitude + self.week_amplitude >= 1.0:
            raise ValueError(f"world {self.name!r}: the rhythm would stop or turn back the clock")

    @property
    def mean_impressions(self) -> float:
        """Expected impressions of a post, over the log-normal reach."""
        return self.median_impressions * math.exp((self.reach_sigma**2 + self.reach_spread**2) / 2)


_BASE: Final = World("stationary")

#: The worlds that policies are compared in, by name; each differs from the first in what it names.
WORLDS: Final[dict[str, World]] = {
    world.name: world
    for world in (
        _BASE,
        replace(_BASE, name="drift", drift_days=60.0),
        replace(_BASE, name="switch", switch_day=45.0),
        replace(_BASE, name="new_arm", new_arm_day=30.0),
        replace(_BASE, name="heavy_tail", reach_sigma=1.8, post_frailty=1.5, heavy_tailed=True),
        replace(_BASE, name="null", rate_spread=0.0),
        replace(_BASE, name="sparse", posts_per_day=5.0),
        replace(_BASE, name="dense", posts_per_day=50.0),
        replace(_BASE, name="shocks", shock_sigma=0.8),
    )
}


def audience_hours(world: World, t_hours: npt.ArrayLike) -> FloatArray:
    """The audience's clock Λ(t) = ∫₀ᵗ s(u) du: hours weighted by how many people are there.

    s has mean 1, a daily and a weekly wave. Views, follows, organic follows and unfollows happen
    in these hours, which gives all of them one rhythm, and exact counts for any interval of real
    time: Λ is strictly increasing, since the amplitudes sum to less than 1.
    """
    t = np.asarray(t_hours, dtype=np.float64)
    total = t.copy()
    for amplitude, period, peak in (
        (world.day_amplitude, HOURS_PER_DAY, world.peak_hour),
        (world.week_amplitude, HOURS_PER_WEEK, 84.0),
    ):
        omega = 2.0 * math.pi / period
        offset = world.start_hour_of_week - peak
        total += amplitude / omega * (np.sin(omega * (t + offset)) - math.sin(omega * offset))
    return total


def audience_rate(world: World, t_hours: npt.ArrayLike) -> FloatArray:
    """s(t) = dΛ/dt: the audience present at t relative to its mean of 1."""
    t = np.asarray(t_hours, dtype=np.float64)
    rate = np.ones_like(t)
    for amplitude, period, peak in (
        (world.day_amplitude, HOURS_PER_DAY, world.peak_hour),
        (world.week_amplitude, HOURS_PER_WEEK, 84.0),
    ):
        omega = 2.0 * math.pi / period
        rate += amplitude * np.cos(omega * (t + world.start_hour_of_week - peak))
    return rate


def rate_path(world: World, seeds: npt.ArrayLike, days: int, n_generators: int = 12) -> FloatArray:
    """Natural log of every generator's true F/1K at the start of days 0 … ``days``.

    Shape (accounts, days + 1, generators). With drift, log rates follow the stationary
    autoregression x' = ρx + √(1 − ρ²)·ε, ρ = exp(−1/``drift_days``), so that the spread between
    generators is the same at all times. A longer path begins with the shorter one. A new
    generator has a rate before its day as well; ``available`` says whether it can be drawn.
    """
    seeds = np.atleast_1d(np.asarray(seeds, dtype=np.uint64))
    generators = np.arange(n_generators)
    z, _ = normal_pair(seeds[:, None], Stream.RATE, generators[None, :])
    path = np.repeat(z[:, None, :], days + 1, axis=1)
    if math.isfinite(world.drift_days):
        rho = math.exp(-1.0 / world.drift_days)
        steps, _ = normal_pair(
            seeds[:, None, None],
            Stream.DRIFT,
            np.arange(1, days + 1)[None, :, None],
            generators[None, None, :],
        )
        for day in range(1, days + 1):
            path[:, day] = rho * path[:, day - 1] + math.sqrt(1.0 - rho**2) * steps[:, day - 1]
    path = math.log(world.median_f_per_1k) + world.rate_spread * path
    if world.new_arm_day is not None:
        path[..., -1] = path[..., :-1].max(axis=-1) + world.new_arm_lead
    if world.switch_day is not None and world.switch_day <= days:
        first = math.ceil(world.switch_day)
        order = np.argsort(-path[:, first], axis=-1, kind="stable")
        best, other = order[:, :1], order[:, min(world.switch_rank, n_generators - 1)][:, None]
        rows = np.arange(len(seeds))[:, None]
        later = path[:, first:]
        swapped = later.copy()
        swapped[rows, :, best] = later[rows, :, other]
        swapped[rows, :, other] = later[rows, :, best]
        path[:, first:] = swapped
    return path


def path_at(
    world: World, path: FloatArray, account: IntArray, t_hours: FloatArray, generator: IntArray
) -> FloatArray:
    """Log F/1K from a path: linear between days where rates drift, else the day's own value."""
    day = t_hours / HOURS_PER_DAY
    left = np.floor(day).astype(np.int64)
    value: FloatArray = path[account, left, generator]
    if math.isfinite(world.drift_days):
        right = path[account, np.minimum(left + 1, path.shape[1] - 1), generator]
        value = value + (day - left) * (right - value)
    return value


def true_log_rates(
    world: World, seed: int, t_hours: npt.ArrayLike, n_generators: int = 12
) -> FloatArray:
    """Natural log of each generator's true F/1K at times ``t_hours``; shape t + (generators,).

    Shocks are not in it: they are common to all generators and 1 in the mean.
    """
    t = np.atleast_1d(np.asarray(t_hours, dtype=np.float64))
    days = math.floor(float(t.max(initial=0.0)) / HOURS_PER_DAY) + 1
    path = rate_path(world, seed, days, n_generators)
    zero = np.zeros((t.size, n_generators), dtype=np.int64)
    values = path_at(
        world, path, zero, t.reshape(-1, 1) + zero, np.arange(n_generators)[None, :] + zero
    )
    return values.reshape(*np.shape(t_hours), n_generators)


def available(
    world: World, t_hours: npt.ArrayLike, n_generators: int = 12
) -> npt.NDArray[np.bool_]:
    """Whether each generator exists at ``t_hours``; shape t + (generators,)."""
    t = np.asarray(t_hours, dtype=np.float64)
    exists = np.ones((*t.shape, n_generators), dtype=np.bool_)
    if world.new_arm_day is not None:
        exists[..., -1] = t >= world.new_arm_day * HOURS_PER_DAY
    return exists


def shock_factor(world: World, seed: npt.ArrayLike, t_hours: npt.ArrayLike) -> FloatArray:
    """The factor, mean 1, on the follows of all posts that go live on the day of ``t_hours``."""
    t = np.asarray(t_hours, dtype=np.float64)
    if world.shock_sigma == 0.0:
        return np.ones(np.broadcast_shapes(np.shape(seed), t.shape))
    z, _ = normal_pair(seed, Stream.SHOCK, np.floor(t / HOURS_PER_DAY).astype(np.int64))
    return np.exp(world.shock_sigma * z - world.shock_sigma**2 / 2)


def schedule_hours(world: World, seed: npt.ArrayLike, index: npt.ArrayLike) -> FloatArray:
    """When post ``index`` of an account goes live: once in each of its ``24/posts_per_day`` hours.

    The place inside the slot is random (its middle four fifths), so the times increase with the
    index and never fall on the edges of windows.
    """
    slot = HOURS_PER_DAY / world.posts_per_day
    return (np.asarray(index) + 0.1 + 0.8 * uniform(seed, Stream.SCHEDULE, index)) * slot


def posts_between(
    world: World, seed: int, begin_hours: float, end_hours: float
) -> tuple[IntArray, FloatArray]:
    """Indices and times of the posts that go live in ``[begin_hours, end_hours)``, in order."""
    slot = HOURS_PER_DAY / world.posts_per_day
    first = max(math.floor(begin_hours / slot), 0)
    last = max(math.floor(end_hours / slot) + 1, first)
    index = np.arange(first, last)
    posted = schedule_hours(world, seed, index)
    inside = (posted >= begin_hours) & (posted < end_hours)
    return index[inside], posted[inside]
