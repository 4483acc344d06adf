"""Followers who come and go without any post: two Poisson processes on the audience's clock.

Here: exact counts for any interval. Not here: follows that posts earn (``posts``).
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from genopt_pipeline.sandbox.randomness import (
    FloatArray,
    IntArray,
    Stream,
    event_rows,
    poisson_quantile,
    uniform,
)
from genopt_pipeline.sandbox.world import HOURS_PER_DAY, World, audience_hours

#: The process is laid down in pieces of this many days, so that any hour can be had alone.
_BLOCK_DAYS = 32


@lru_cache(maxsize=256)
def _block(seed: int, count: Stream, time: Stream, per_day: float, block: int) -> FloatArray:
    """Sorted clock times (audience hours since the start) of the events of one block of days."""
    days = np.arange(block * _BLOCK_DAYS, (block + 1) * _BLOCK_DAYS)
    counts = poisson_quantile(uniform(seed, count, days), np.full(len(days), per_day))
    row, number = event_rows(counts)
    times: FloatArray = np.sort(
        (days[row] + uniform(seed, time, days[row], number)) * HOURS_PER_DAY
    )
    times.flags.writeable = False
    return times


def _count(seed: int, count: Stream, time: Stream, per_day: float, clock: FloatArray) -> IntArray:
    total = np.zeros(clock.shape, dtype=np.int64)
    last = int(clock.max(initial=0.0) // (HOURS_PER_DAY * _BLOCK_DAYS))
    for block in range(last + 1):
        events = _block(seed, count, time, per_day, block)
        total += np.searchsorted(events, clock, side="right")
    return total


def organic_follows_until(world: World, seed: int, t_hours: npt.ArrayLike) -> IntArray:
    """Organic follows from the account's start to ``t_hours`` (any shape; hours since the start).

    The count of an interval is the difference of two of these, so counts add up exactly.
    """
    clock = audience_hours(world, t_hours)
    rate = world.organic_follows_per_day
    return _count(seed, Stream.ORGANIC_COUNT, Stream.ORGANIC_TIME, rate, clock)


def unfollows_until(world: World, seed: int, t_hours: npt.ArrayLike) -> IntArray:
    """Unfollows from the account's start to ``t_hours``; otherwise as the organic follows."""
    clock = audience_hours(world, t_hours)
    rate = world.unfollows_per_day
    return _count(seed, Stream.UNFOLLOW_COUNT, Stream.UNFOLLOW_TIME, rate, clock)
