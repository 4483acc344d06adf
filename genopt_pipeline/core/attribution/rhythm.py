"""When the audience is there: its clock, from the hours in which impressions arrive.

A post that is complete shows at every hour how many of its impressions are still to come. With
ΔX_pj the impressions of post p in slot j, and R_pj those still to come in its middle, the hazard

    ΔX_pj / R_pj = α(age) · s(hour of the day) · s'(day of the week)

has one factor for the post's age and two for the audience; iterative proportional fitting separates
them. Follows, organic follows and unfollows need the same people, so all rates of the model are
constant on the clock Λ(t) = ∫ s s' du. A baseline that is constant in real time instead would give
the account's busy hours to the posts, which are seen in just those hours.

Here: the factors and the clock. Not here: what happens on the clock (``lag``, ``fit``).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from genopt_pipeline.core.attribution.frames import FloatArray, Problem

_DAY: Final = 24.0
_WEEK: Final = 168.0
#: ages at which arrivals are compared; the bins of α, in slots
_OLDEST_HOURS: Final = 36.0
_AGE_BIN_SLOTS: Final = 3
#: a post seen for so long is taken as complete
_COMPLETE_HOURS: Final = 60.0
#: below so much history, or so few complete posts, the clock is real time
_SHORTEST_HISTORY_HOURS: Final = 7 * _DAY
_FEWEST_POSTS: Final = 20
_SWEEPS: Final = 12
#: every factor starts from 1 with the weight of so many large posts: more would flatten the rhythm,
#: and so give the busy hours' organic follows to posts
_STEADYING_POSTS: Final = 0.03
#: no hour counts for less or more than this of the mean one
_RANGE: Final = (0.05, 8.0)


@dataclass(frozen=True, slots=True, eq=False)
class Rhythm:
    """The audience in each cell of the week relative to its mean of 1; Monday 00:00 UTC first."""

    cell_hours: float
    level: FloatArray

    @property
    def is_flat(self) -> bool:
        """Whether the clock is real time."""
        return len(self.level) == 1

    def clock(self, hours: FloatArray, origin: pd.Timestamp) -> FloatArray:
        """Λ at ``hours`` after ``origin``; the same shape, increasing, mean speed 1."""
        if self.is_flat:
            return hours
        edges = np.concatenate([[0.0], np.cumsum(self.level) * self.cell_hours])
        edges *= _WEEK / edges[-1]
        knots = self.cell_hours * np.arange(len(edges))
        since_monday = hours + _hour_of_week(origin)
        weeks = np.floor(since_monday / _WEEK)
        passed = weeks * _WEEK + np.interp(since_monday - weeks * _WEEK, knots, edges)
        start = float(np.interp(_hour_of_week(origin), knots, edges))
        return np.asarray(passed - start)


#: Real time.
FLAT: Final = Rhythm(_WEEK, np.ones(1))


def on_clock(problem: Problem, rhythm: Rhythm) -> Problem:
    """The same problem with all its hours on the audience's clock."""
    if rhythm.is_flat:
        return problem

    def clock(hours: FloatArray) -> FloatArray:
        return rhythm.clock(hours, problem.origin)

    return replace(
        problem,
        start_hours=clock(problem.start_hours),
        end_hours=clock(problem.end_hours),
        increment_start=clock(problem.increment_start),
        increment_end=clock(problem.increment_end),
    )


def estimate_rhythm(problem: Problem, slot_hours: float) -> Rhythm:
    """The audience's rhythm from the impressions; real time where they do not show it."""
    per_day = round(_DAY / slot_hours)
    last = float(problem.end_hours[-1])
    if abs(per_day * slot_hours - _DAY) > 1e-9 or per_day < 2 or last < _SHORTEST_HISTORY_HOURS:
        return FLAT
    n_posts = len(problem.posts)
    # posts keep their first slot even where it was not covered: the age counts from there
    first = np.floor((problem.first_hours + 1e-6) / slot_hours).astype(np.int64)
    slot = np.floor((problem.increment_start + 1e-6) / slot_hours).astype(np.int64)
    complete = problem.covered & (last - problem.first_hours >= _COMPLETE_HOURS)
    complete &= problem.first_hours >= 0.0
    if int(complete.sum()) < _FEWEST_POSTS:
        return FLAT
    ages = round(_OLDEST_HOURS / slot_hours)
    age = slot - first[problem.increment_post]
    early = age <= ages
    seen = np.bincount(
        problem.increment_post[early] * (ages + 1) + age[early],
        problem.increment_impressions[early],
        n_posts * (ages + 1),
    ).reshape(n_posts, ages + 1)
    to_come = problem.impressions[:, None] - np.cumsum(seen, axis=1) + 0.5 * seen
    at = first[:, None] + np.arange(ages + 1)
    watched = np.zeros(int(at.max()) + 1, dtype=np.bool_)
    watched[slot] = True
    # in its first slot a post was live for an unknown part of it
    counts = complete[:, None] & watched[at] & (np.arange(ages + 1) > 0) & (to_come > 0.0)
    post, step = np.nonzero(counts)
    came, risk = seen[post, step], to_come[post, step]
    if came.sum() <= 0.0:
        return FLAT
    cell = at[post, step] + round(_hour_of_week(problem.origin) / slot_hours)
    hour, day = cell % per_day, (cell // per_day) % 7
    age_bin = np.minimum((step - 1) // _AGE_BIN_SLOTS, ages // _AGE_BIN_SLOTS - 1)
    # impressions of one post are not independent: a large post's worth steadies every factor
    total = problem.impressions[complete]
    steadying = _STEADYING_POSTS * float((total**2).sum() / total.sum())
    # cells of age, hour and day are few: sum over posts once
    key = (age_bin * per_day + hour) * 7 + day
    shape = (int(age_bin.max()) + 1, per_day, 7)
    size = shape[0] * per_day * 7
    came = np.bincount(key, came, size).reshape(shape)
    risk = np.bincount(key, risk, size).reshape(shape)
    by_hour, by_day = np.ones(per_day), np.ones(7)
    for _ in range(_SWEEPS):
        audience = by_hour[:, None] * by_day
        hazard = came.sum((1, 2)) / np.maximum((risk * audience).sum((1, 2)), 1e-12)
        expected = np.einsum("ahd,a->hd", risk, hazard)
        by_hour = _factor(came.sum((0, 2)), expected @ by_day, steadying)
        by_day = _factor(came.sum((0, 1)), by_hour @ expected, steadying)
    level = np.clip((by_day[:, None] * by_hour).ravel(), *_RANGE)
    return Rhythm(slot_hours, level / level.mean())


def _factor(came: FloatArray, expected: FloatArray, steadying: float) -> FloatArray:
    factor = (came + steadying) / (expected + steadying)
    return np.asarray(factor / factor.mean())


def _hour_of_week(time: pd.Timestamp) -> float:
    midnight = time.normalize()
    return float(time.weekday() * _DAY + (time - midnight) / pd.Timedelta(hours=1))
