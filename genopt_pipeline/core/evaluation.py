"""Whether it works: values of weightings, the worth of the optimizer, honesty of the draw.

Here: off-policy evaluation from logged selection probabilities, the model's value of a weighting,
uplift over a holdout, and the sample-ratio check. Not here: replaying a history (``backtest``).
Values are F/1K, followers per 1,000 impressions; intervals hold 90 %. What cannot be known from
the data is None.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from genopt_pipeline.core.estimation.posterior import Posterior
from genopt_pipeline.core.estimation.statistics import Floats

_Z90 = 1.6448536269514722

#: Beyond this a ratio is as good as unbounded; its exponential would overflow later.
_LARGEST_LOG = 300.0

#: The chi-squared approximation wants at least so many expected in a cell; smaller are pooled.
_SMALLEST_CELL = 5.0


@dataclass(frozen=True)
class Value:
    """An estimated F/1K with its 90 % interval; None where the data cannot say.

    posts: how many were used. effective_posts: how many equally weighted ones they are worth,
    ``(sum rho)^2 / sum rho^2``. left_out: posts without a known selection probability.
    """

    f_per_1k: float | None
    low: float | None
    high: float | None
    posts: int
    effective_posts: float
    left_out: int = 0


@dataclass(frozen=True)
class Uplift:
    """Relative gain, 0.25 for 25 % more, with its 90 % interval; None where it cannot be known.

    log_sd: standard deviation of the log of the ratio.
    """

    gain: float | None
    low: float | None
    high: float | None
    log_sd: float | None
    posts: int
    holdout_posts: int


@dataclass(frozen=True)
class SampleRatio:
    """Chi-squared test of the draw. p_value is None where there are too few posts to test.

    impossible: generators that were drawn although their probability was 0.
    """

    chi_squared: float | None
    degrees_of_freedom: int
    p_value: float | None
    posts: int
    impossible: tuple[str, ...]

    def is_mismatch(self, level: float = 0.001) -> bool:
        """Whether the draw departs from the weights; the level is low, the check runs often."""
        return bool(self.impossible) or (self.p_value is not None and self.p_value < level)


def off_policy_value(
    new_probability: Floats, logged_probability: Floats, followers: Floats, impressions: Floats
) -> Value:
    """Self-normalised value of other weights, from posts drawn by the logged ones.

    All arrays (posts,): the probability with which the evaluated weights would have drawn the
    post's generator, that with which it was drawn, and the post's counts. With
    ``rho = new / logged`` the value is ``sum rho F / sum rho E``, the ratio of two Horvitz-
    Thompson sums (Swaminathan and Joachims 2015, self-normalised estimator); its variance is the
    jackknife's, ``sum (rho (F - V E) / (1 - h))^2 / (sum rho E)^2`` with h the post's share of
    ``sum rho E``: a few posts with most of the reach pull V to themselves, and their plain
    residuals are too small. Student's t has the effective posts less one as its degrees of
    freedom. Posts whose logged probability is not in (0, 1], or with unknown counts, are left out
    and counted.
    """
    known = (
        (logged_probability > 0)
        & (logged_probability <= 1)
        & np.isfinite(new_probability)
        & np.isfinite(followers)
        & np.isfinite(impressions)
    )
    rho = new_probability[known] / logged_probability[known]
    gained, exposure = followers[known], impressions[known] / 1000.0
    n, left_out = int(known.sum()), int((~known).sum())
    seen = float(rho @ exposure)
    squares = float(rho @ rho)
    effective = float(rho.sum()) ** 2 / squares if squares > 0 else 0.0
    if seen <= 0:
        return Value(None, None, None, n, effective, left_out)
    value = float(rho @ gained) / seen
    if effective < 2.0:
        return Value(value, None, None, n, effective, left_out)
    sd = _ratio_sd(rho * gained, rho * exposure)
    return Value(value, *_interval(value, sd, _quantile(effective - 1.0)), n, effective, left_out)


def model_value(known: Posterior, weights: Floats) -> list[Value]:
    """Value of weights (accounts, generators) from the posterior, one for each account.

    Mean ``sum w E[rate]`` and variance ``sum w^2 Var[rate]`` with log-normal rates. Accounts
    without any data have no value.
    """
    mean = np.exp(known.log_mean + known.log_sd**2 / 2.0)
    variance = mean**2 * np.expm1(known.log_sd**2)
    values = (weights * mean).sum(axis=1)
    sds = np.sqrt((weights**2 * variance).sum(axis=1))
    return [
        Value(float(v), *_interval(float(v), float(sd)), 0, 0.0)
        if np.isfinite(level)
        else Value(None, None, None, 0, 0.0)
        for v, sd, level in zip(values, sds, known.level, strict=True)
    ]


def model_uplift(known: Posterior, weights: Floats, baseline: Floats) -> list[Uplift]:
    """Gain of weights over baseline weights by the model, one for each account.

    Both (accounts, generators). The gradient of ``log(sum w rate) - log(sum b rate)`` in the log
    rates is the difference of each generator's shares of the two values, so what both have in
    common does not add to the uncertainty.
    """
    rate = np.exp(known.log_mean)
    mine, theirs = weights * rate, baseline * rate
    over = np.log(mine.sum(axis=1)) - np.log(theirs.sum(axis=1))
    slope = mine / mine.sum(axis=1, keepdims=True) - theirs / theirs.sum(axis=1, keepdims=True)
    log_sd = np.sqrt((slope**2 * known.log_sd**2).sum(axis=1))
    return [
        _uplift(float(log), float(sd), 0, 0)
        if np.isfinite(level)
        else Uplift(None, None, None, None, 0, 0)
        for log, sd, level in zip(over, log_sd, known.level, strict=True)
    ]


def holdout_uplift(followers: Floats, impressions: Floats, holdout: NDArray[np.bool_]) -> Uplift:
    """What the optimizer is worth: F/1K of the posts drawn by learned weights over the holdout's.

    Arrays (posts,), unknown counts left out. In each arm the log of the ratio of sums has the
    jackknife's variance, see ``off_policy_value``, relative to the ratio's square; whatever the
    distribution of followers. Student's t has Welch's degrees of freedom.
    """
    known = np.isfinite(followers) & np.isfinite(impressions)
    arms = []
    for arm in (known & ~holdout, known & holdout):
        gained, exposure = followers[arm], impressions[arm] / 1000.0
        n, total = int(arm.sum()), float(gained.sum())
        if n < 2 or total <= 0 or exposure.sum() <= 0:
            arms.append((n, math.nan, math.nan))
            continue
        rate = total / float(exposure.sum())
        arms.append((n, math.log(rate), (_ratio_sd(gained, exposure) / rate) ** 2))
    (n, rate, variance), (n_held, rate_held, variance_held) = arms
    both = variance + variance_held
    if not both > 0:
        return _uplift(rate - rate_held, math.sqrt(both), n, n_held)
    freedom = both**2 / (variance**2 / (n - 1) + variance_held**2 / (n_held - 1))
    return _uplift(rate - rate_held, math.sqrt(both), n, n_held, _quantile(freedom))


def sample_ratio(observed: Mapping[str, int], expected: Mapping[str, float]) -> SampleRatio:
    """Does the engine draw by the weights? Pearson's test of counts against their expectation.

    expected: sum over the posts of the probability that each generator had when the post was
    drawn, so that weights may have changed in between (the counts then vary a little less than
    the test assumes, which makes it cautious). Generators of which fewer than 5 are expected are
    taken together; a pool that stays below 5 joins the smallest other cell.
    """
    names = sorted(set(observed) | set(expected))
    seen = np.array([observed.get(name, 0) for name in names], dtype=np.float64)
    due = np.array([expected.get(name, 0.0) for name in names], dtype=np.float64)
    if not (np.isfinite(due).all() and (due >= 0).all() and (seen >= 0).all()):
        raise ValueError("counts and expectations must be numbers from 0 on")
    posts = int(seen.sum())
    if abs(due.sum() - posts) > 1e-6 * max(posts, 1):
        raise ValueError(
            f"the expectations sum to {due.sum():g} but {posts} posts were drawn: the "
            "probabilities of every drawn post must sum to 1"
        )
    impossible = tuple(n for n, s, d in zip(names, seen, due, strict=True) if s > 0 and d == 0)
    cells = _pooled(list(zip(due.tolist(), seen.tolist(), strict=True)))
    if len(cells) < 2:
        return SampleRatio(None, 0, None, posts, impossible)
    chi = sum((s - d) ** 2 / d for d, s in cells)
    return SampleRatio(
        chi, len(cells) - 1, float(stats.chi2.sf(chi, len(cells) - 1)), posts, impossible
    )


def expected_counts(
    weights_in_force: Sequence[Mapping[str, float]], posts: Sequence[int]
) -> dict[str, float]:
    """Expected draws: for each set of weights the number of posts drawn by it."""
    total: dict[str, float] = {}
    for weights, count in zip(weights_in_force, posts, strict=True):
        for name, weight in weights.items():
            total[name] = total.get(name, 0.0) + weight * count
    return total


def _pooled(cells: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Cells (expected, observed) with the small ones pooled; empty expectations are dropped."""
    large = sorted(cell for cell in cells if cell[0] >= _SMALLEST_CELL)
    small = [cell for cell in cells if 0 < cell[0] < _SMALLEST_CELL]
    if not small:
        return large
    pool = (sum(d for d, _ in small), sum(s for _, s in small))
    if pool[0] >= _SMALLEST_CELL or not large:
        return [*large, pool]
    return [(large[0][0] + pool[0], large[0][1] + pool[1]), *large[1:]]


def _ratio_sd(part: Floats, whole: Floats) -> float:
    """Jackknife standard deviation of ``sum part / sum whole``, (posts,); whole is not all 0."""
    total = float(whole.sum())
    share = whole / total
    # one post that is everything leaves nothing to judge it by
    residual = (part - part.sum() / total * whole) / np.maximum(1.0 - share, 1e-9)
    return math.sqrt(float(residual @ residual)) / total


def _quantile(freedom: float) -> float:
    """95 % quantile of Student's t, for intervals that hold 90 %."""
    return float(stats.t.ppf(0.95, max(freedom, 1.0)))


def _interval(value: float, sd: float, quantile: float = _Z90) -> tuple[float, float]:
    """90 % interval on the log scale, since a rate is positive; symmetric where it is not."""
    if value <= 0:
        return value - quantile * sd, value + quantile * sd
    factor = math.exp(min(quantile * sd / value, _LARGEST_LOG))
    return value / factor, value * factor


def _uplift(
    log_ratio: float, log_sd: float, posts: int, holdout_posts: int, quantile: float = _Z90
) -> Uplift:
    if not (math.isfinite(log_ratio) and math.isfinite(log_sd)):
        return Uplift(None, None, None, None, posts, holdout_posts)
    gain, low, high = (
        math.expm1(min(log_ratio + z * log_sd, _LARGEST_LOG)) for z in (0.0, -quantile, quantile)
    )
    return Uplift(gain, low, high, log_sd, posts, holdout_posts)
