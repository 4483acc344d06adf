"""Closed-loop comparison of policies: the share of what could be earned that each one earns.

Here: running policies over the same simulated accounts, and the share of the oracle-over-uniform
gap that each captures, with intervals. Not here: one account's loop (``loop``), the policies
(``contenders``), and how results are shown (``report``, ``cli``).
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from genopt_pipeline.core.guards import GuardConfig
from genopt_pipeline.sandbox.contenders import CONTENDERS, Contender
from genopt_pipeline.sandbox.loop import (
    STEP_HOURS,
    Feedback,
    Track,
    account_seeds,
    oracle_value,
    run_loop,
    step_rates,
    uniform_value,
)
from genopt_pipeline.sandbox.randomness import FloatArray, WordArray
from genopt_pipeline.sandbox.world import HOURS_PER_DAY, WORLDS, World

_STEPS_PER_DAY: Final = round(HOURS_PER_DAY / STEP_HOURS)
_Named = TypeVar("_Named", World, Contender)

#: Makes the feedback of one run: what a policy is told instead of the true follows.
FeedbackFor = Callable[[World, WordArray], Feedback]


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """The outcome of a simulation.

    ``frame``: one row for each world, policy (and ``oracle``) and day, with

    - ``captured``, ``low``, ``high``: share of the gap between the uniform weights and the oracle
      that the policy's weights earned from the start to the day's end, and its 95 % interval over
      accounts; NaN in a world without a gap;
    - ``f_per_1k``: expected F/1K of the weights, mean over accounts and the days so far;
      ``f_per_1k_week``: the same over the last seven days;
    - ``followers``: expected follows from posts by then, mean over accounts;
    - ``over_uniform``, ``over_uniform_low``, ``over_uniform_high``: F/1K so far over that of
      uniform weights, minus 1;
    - ``top_weight``: mean over accounts of the largest weight; ``share_above_40``: share of
      accounts and steps so far in which a generator had more than 40 %.
    """

    frame: pd.DataFrame
    accounts: int
    days: int
    seed: int

    def table(self, day: int, value: str = "captured") -> pd.DataFrame:
        """One value at one day: a row a policy, a column a world, both in the order simulated."""
        at = self.frame[self.frame["day"] == day]
        if at.empty:
            raise ValueError(f"day {day} was not simulated; there are {self.days}")
        table = at.pivot_table(index="policy", columns="world", values=value, dropna=False)
        return table.reindex(
            index=list(dict.fromkeys(at["policy"])), columns=list(dict.fromkeys(at["world"]))
        )

    def to_json(self) -> str:
        """The frame as JSON records beside the settings; numbers that do not exist are null."""
        records: list[dict[str, Any]] = [
            {
                str(name): None if isinstance(value, float) and math.isnan(value) else value
                for name, value in record.items()
            }
            for record in self.frame.to_dict(orient="records")
        ]
        settings = {"accounts": self.accounts, "days": self.days, "seed": self.seed}
        return json.dumps({**settings, "results": records}, allow_nan=False)


def simulate(
    worlds: Sequence[str | World],
    policies: Sequence[str | Contender],
    *,
    accounts: int = 64,
    days: int = 90,
    seed: int = 1,
    guards: GuardConfig | None = None,
    feedback_for: FeedbackFor | None = None,
    progress: Callable[[float], None] | None = None,
) -> SimulationResult:
    """Run every policy over the same accounts of every world.

    Parameters
    ----------
    worlds, policies
        Names in ``WORLDS`` and ``CONTENDERS``, or worlds and contenders themselves.
    accounts, days, seed
        Size of the simulation; account k has the same luck under every policy and in every world.
    guards
        The safety limits, shared with the oracle.
    feedback_for
        What the policies are told; None: the true follows of every post.
    progress
        Called with the share done, from 0 to 1, increasing.

    Raises
    ------
    ValueError
        An unknown name, or fewer than two accounts (there would be no interval).
    """
    chosen_worlds = [_named(world, WORLDS, "world") for world in worlds]
    chosen = [_named(policy, CONTENDERS, "policy") for policy in policies]
    if accounts < 2 or days < 1:
        raise ValueError(f"{accounts} accounts over {days} days: at least 2 over 1 are needed")
    guards = guards or GuardConfig()
    seeds = account_seeds(seed, accounts)
    work = [
        world.posts_per_day * (contender.targets is not None or 0.2)
        for world in chosen_worlds
        for contender in chosen
    ]
    done = [0.0, *np.cumsum(work) / sum(work)]
    frames: list[pd.DataFrame] = []
    parts = iter(itertools.pairwise(done))
    for world in chosen_worlds:
        rates, exists = step_rates(world, seeds, days)
        low = uniform_value(rates, exists)
        high = oracle_value(rates, exists, guards)
        for contender in chosen:
            begin, end = next(parts)
            track = run_loop(
                world,
                contender,
                seeds=seeds,
                days=days,
                guards=guards,
                feedback=None if feedback_for is None else feedback_for(world, seeds),
                progress=None if progress is None else _part(progress, begin, end),
            )
            frames.append(_summary(world, contender.name, track, low, high))
        oracle = Track(high, np.full((*high.shape, 1), np.nan), np.zeros(accounts))
        frames.append(_summary(world, "oracle", oracle, low, high))
    return SimulationResult(pd.concat(frames, ignore_index=True), accounts, days, seed)


def _named(given: str | _Named, known: Mapping[str, _Named], kind: str) -> _Named:
    if not isinstance(given, str):
        return given
    if given not in known:
        raise ValueError(f"unknown {kind} {given!r}; there are {', '.join(known)}")
    return known[given]


def _part(report: Callable[[float], None], begin: float, end: float) -> Callable[[float], None]:
    return lambda share: report(float(begin + share * (end - begin)))


def ratio_of_sums(part: FloatArray, whole: FloatArray) -> tuple[float, float, float]:
    """Σ part / Σ whole over accounts, and its 95 % interval; NaN where the whole sums to 0.

    Linearised (the residuals part − ratio·whole are what a jackknife by account sees), with
    Student's t for the number of accounts. The mean of ratios would let accounts without much to
    gain decide.
    """
    n = len(part)
    total = float(whole.sum())
    if abs(total) <= 1e-9 * max(n, 1):
        return math.nan, math.nan, math.nan
    ratio = float(part.sum()) / total
    residual = part - ratio * whole
    error = math.sqrt(n / (n - 1) * float((residual**2).sum())) / abs(total)
    margin = float(stats.t.ppf(0.975, n - 1)) * error
    return ratio, ratio - margin, ratio + margin


def _summary(
    world: World, policy: str, track: Track, low: FloatArray, high: FloatArray
) -> pd.DataFrame:
    n_days = track.value.shape[1] // _STEPS_PER_DAY
    earned, uniform, best = (np.cumsum(value, axis=1) for value in (track.value, low, high))
    top = track.weights.max(axis=2)
    above = np.cumsum((top > 0.4).mean(axis=0))
    per_step = world.mean_impressions / 1000.0 * world.posts_per_day / _STEPS_PER_DAY
    rows = []
    for day in range(1, n_days + 1):
        last = day * _STEPS_PER_DAY - 1
        week = slice(max(last + 1 - 7 * _STEPS_PER_DAY, 0), last + 1)
        gain, gap = earned[:, last] - uniform[:, last], best[:, last] - uniform[:, last]
        captured = ratio_of_sums(gain, gap)
        over = ratio_of_sums(gain, uniform[:, last])
        known = not np.isnan(top[:, last]).any()
        rows.append(
            {
                "world": world.name,
                "policy": policy,
                "day": day,
                "captured": captured[0],
                "low": captured[1],
                "high": captured[2],
                "f_per_1k": float(earned[:, last].mean()) / (last + 1),
                "f_per_1k_week": float(track.value[:, week].mean()),
                "followers": float(earned[:, last].mean()) * per_step,
                "over_uniform": over[0],
                "over_uniform_low": over[1],
                "over_uniform_high": over[2],
                "top_weight": float(top[:, last].mean()),
                "share_above_40": float(above[last]) / (last + 1) if known else math.nan,
            }
        )
    return pd.DataFrame(rows)
