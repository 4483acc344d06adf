"""From a solved account to frames, with intervals of posts and generators.

Here: the report and the intervals of counts. Not here: the solution (``engine``, ``step``).
"""

from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import special, stats

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.frames import FloatArray, Problem
from genopt_pipeline.core.attribution.result import Attribution
from genopt_pipeline.core.attribution.split import Solved

#: of a generator's rate, where it makes a post's followers unsure
_LARGEST_LOG_SD: Final = 1.5


def report(problem: Problem, solved: Solved, config: AttributionConfig) -> Attribution:
    """All frames of an attribution."""
    used, parts = solved.used, solved.split
    j, p, credit = parts.window, parts.post, parts.credit
    g = problem.generator_of
    n_windows, n_generators = len(problem.delta), len(problem.generators)
    net = problem.delta - np.bincount(j, credit, n_windows)
    unfollows = parts.unfollows

    names = np.asarray(problem.posts, dtype=object)
    generators = np.asarray(problem.generators, dtype=object)
    posts = pd.DataFrame(
        {
            "post_id": names[p],
            "generator_name": generators[g[p]],
            "window_start": problem.window_start[j],
            "followers": credit,
            "variance": parts.variance,
        }
    )
    baseline = pd.DataFrame(
        {
            "window_start": problem.window_start,
            "window_end": problem.origin + pd.to_timedelta(problem.end_hours, unit="h"),
            "followers": net,
            "organic": net + unfollows,
            "unfollows": unfollows,
        }
    )
    total = parts.total
    centre, total_variance = _post_moments(problem, solved)
    low, high = count_interval(centre, total_variance, config.interval)
    covered = problem.covered
    age = problem.end_hours[-1] - problem.first_hours
    totals = pd.DataFrame(
        {
            "post_id": names,
            "generator_name": generators[g],
            "followers": np.where(covered, total, np.nan),
            "variance": np.where(covered, total_variance, np.nan),
            "low": np.where(covered, low, np.nan),
            "high": np.where(covered, high, np.nan),
            "information": np.where(covered, solved.rates.information[g], np.nan),
            "impressions": problem.impressions,
            "final": age >= config.final_after_hours,
        }
    )
    rates = solved.rates
    z = float(special.ndtri(0.5 + config.interval / 2.0))
    generator_frame = pd.DataFrame(
        {
            "generator_name": generators,
            "posts": np.bincount(g, minlength=n_generators),
            "followers": np.bincount(g, total, n_generators),
            "impressions": np.bincount(g, problem.impressions, n_generators),
            "rate_per_1k": rates.rate,
            "sd_log": rates.log_sd,
            "low": rates.rate * np.exp(-z * rates.log_sd),
            "high": rates.rate * np.exp(z * rates.log_sd),
            "information": rates.information,
        }
    )
    quarantined = baseline.loc[~used, ["window_start", "window_end"]].assign(
        delta=problem.delta[~used], expected=solved.typical[~used]
    )
    return Attribution(
        posts=posts,
        baseline=baseline,
        totals=totals,
        generators=generator_frame,
        learned=solved.learned,
        parameters=_parameters(solved),
        quarantined=quarantined.reset_index(drop=True),
        warnings=tuple(_warnings(problem, solved)),
    )


def count_interval(
    mean: FloatArray, variance: FloatArray, probability: float
) -> tuple[FloatArray, FloatArray]:
    """Interval of a count with the given mean and variance, ends included.

    Negative binomial where the variance exceeds the mean; a count known better than that is a
    gamma's, rounded. A count cannot be cut at a given probability; an end is where half of its own
    probability completes the tail (mid-p), which covers as often as asked on average, not at least.
    Where zero is too probable to be cut off, the whole tail is the upper one's.
    """
    mean = np.maximum(mean, 1e-9)
    variance = np.maximum(variance, 1e-9)
    size = mean**2 / np.maximum(variance - mean, 1e-6 * mean)
    success = size / (size + mean)
    shape, scale = mean**2 / variance, variance / mean
    counted = variance >= mean
    zero = np.where(
        counted, stats.nbinom.pmf(0, size, success), special.gammainc(shape, 0.5 / scale)
    )
    outside = 1.0 - probability
    below = np.where(zero >= outside, 0.0, 0.5 * outside)
    above = outside - below
    low = np.maximum(np.asarray(stats.nbinom.ppf(below, size, success), dtype=np.float64), 0.0)
    low += _below_middle(low, size, success) < below
    high = np.asarray(stats.nbinom.ppf(1.0 - above, size, success), dtype=np.float64)
    high = np.maximum(high, low)
    high -= (_below_middle(high - 1.0, size, success) >= 1.0 - above) & (high > low)
    return (
        np.where(counted, low, np.round(special.gammaincinv(shape, below) * scale)),
        np.where(counted, high, np.round(special.gammaincinv(shape, 1.0 - above) * scale)),
    )


def _below_middle(count: FloatArray, size: FloatArray, success: FloatArray) -> FloatArray:
    """P(X < count) + P(X = count)/2 of a negative binomial."""
    upto = stats.nbinom.cdf(count, size, success)
    return np.asarray(upto - 0.5 * stats.nbinom.pmf(count, size, success))


def _post_moments(problem: Problem, solved: Solved) -> tuple[FloatArray, FloatArray]:
    """Best guess of each post's true followers so far, and their variance about it, (P,) each.

    Before the changes are seen a post's followers have mean m = λe and variance m(1 + φm); their
    covariance with the changes is λ(1 + φm)e_p, so that the changes explain λ²(1 + φm)² e_pᵀV⁻¹e_p
    of it. The rest remains, and grows with the post's luck θ, as the split of its windows does.
    What the changes do not explain rests on the generator's rate. The guess takes for that part the
    rate that is drawn together, which is better than the one that splits; its own uncertainty moves
    that part. A profile click brings a follower or none, which varies less than a Poisson count by
    the factor 1 − λ.
    """
    posts, learned = solved.posts, solved.learned
    rate, seen = posts.split_rate, posts.exposure
    mean = rate * seen
    spread = 1.0 + learned.frailty_variance * mean
    assert posts.explained is not None  # noqa: S101 - the solution was asked for it
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(mean > 0.0, spread * posts.explained / mean, 0.0)
    reliability = np.clip(ratio, 0.0, 1.0)
    remains = mean * spread * (1.0 - reliability) * np.maximum(posts.frailty, 0.5)
    known = np.maximum(remains, solved.split.total_variance)
    if problem.exposure_kind == "profile_clicks":
        known = known * (1.0 - np.minimum(rate, 0.9))
    rests = (1.0 - reliability) * seen
    unsure = np.minimum(posts.log_sd, _LARGEST_LOG_SD)
    centre = np.maximum(solved.split.total + rests * (posts.rate - rate), 0.0)
    return centre, np.asarray(known + (unsure * posts.rate * rests) ** 2)


def _parameters(solved: Solved) -> dict[str, Any]:
    learned, search = solved.learned, solved.search
    named = {
        "b_per_hour": learned.organic_per_hour,
        "u_per_hour": learned.unfollows_per_hour,
        "lag_hours": learned.lag_hours,
        "a": 1.0 / learned.frailty_variance,
        "level_per_exposure": learned.level,
        "rate_spread": learned.rate_spread,
        "rhythm": "flat"
        if learned.rhythm.is_flat
        else [round(float(s), 3) for s in learned.rhythm.level],
        "exposure": learned.exposure_kind,
        "estimated": search is not None,
    }
    if search is None:
        return named
    return named | {
        "standard_errors": dict(search.errors),
        "loglik": search.log_likelihood,
        "iterations": search.iterations,
        "converged": search.converged,
    }


def _warnings(problem: Problem, solved: Solved) -> list[str]:
    found = []
    used, search = solved.used, solved.search
    if problem.uncovered_rows:
        found.append(
            f"{problem.uncovered_rows} exposure rows ({problem.uncovered_impressions:.0f} "
            "impressions) lie in no window with a follower change and are not credited"
        )
    if not used.all():
        found.append(
            f"{int((~used).sum())} windows changed beyond what the model allows; "
            "their change stays on the baseline"
        )
    if search is not None and not search.converged:
        found.append(
            f"the search for the parameters stopped after {search.iterations} steps before it "
            "converged"
        )
    return found
