"""The attribution of one account: check, fit, split, report.

Here: the public function and the split that conserves followers. Not here: the model's fit.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.fit import fit
from genopt_pipeline.core.attribution.frames import BoolArray, FloatArray, Problem, build_problem
from genopt_pipeline.core.attribution.model import Fit
from genopt_pipeline.core.attribution.result import Attribution
from genopt_pipeline.core.attribution.skellam import hidden_counts


def attribute_followers(
    deltas: pd.DataFrame,
    exposures: pd.DataFrame,
    *,
    config: AttributionConfig = AttributionConfig(),
) -> Attribution:
    """Credit an account's follower changes to its posts and to a baseline, no follower twice.

    Parameters
    ----------
    deltas
        ``window_start, window_end`` (UTC), ``delta`` (net follower change): one row a window;
        gaps are absent rows, a merged window is one longer row.
    exposures
        ``post_id, generator_name, window_start, impressions, profile_clicks`` (nullable),
        ``platform_follows`` (nullable): what each post gained in ``config.exposure_window_hours``
        from ``window_start`` on. Exposure outside of all windows is not credited.
    config
        See ``AttributionConfig``.

    Raises
    ------
    ValueError
        Malformed input; the message names the frame, the column and the row.
    """
    problem = build_problem(deltas, exposures, config)
    used, expected = _find_jumps(problem, config)
    fitted = fit(problem, used, config)
    return _report(problem, fitted, used, expected, config)


def _find_jumps(problem: Problem, config: AttributionConfig) -> tuple[BoolArray, FloatArray]:
    """Windows that take part, and what was expected of each."""
    hours, delta = problem.hours, problem.delta
    typical = float(np.median(delta / hours)) * hours
    spread = 1.4826 * float(np.median(np.abs(delta - typical)))
    raw = np.bincount(problem.increment_window, problem.amount, len(delta))
    scale = np.median(np.maximum(delta, 0.0)) / max(float(np.median(raw)), 1e-12)
    follows = np.maximum(np.abs(typical), spread**2) + scale * raw
    used = np.abs(delta - typical) <= (config.jump_sigmas * np.sqrt(follows) + config.jump_margin)
    if not used.any():
        used[:] = True
    return used, typical


def _report(
    problem: Problem, fitted: Fit, used: BoolArray, expected: FloatArray, config: AttributionConfig
) -> Attribution:
    coo = fitted.exposure.tocoo()
    j, p = coo.coords
    g = problem.generator_of
    n_windows, n_posts, n_generators = (
        fitted.exposure.shape[0],
        len(problem.posts),
        len(problem.generators),
    )
    r = (fitted.rate[g] * fitted.frailty)[p] * coo.data * used[j]
    m = fitted.organic + np.bincount(j, r, n_windows)
    follows, unfollows, hidden = hidden_counts(problem.delta, m, fitted.unfollows)
    share = r / m[j]
    credit = follows[j] * share
    variance = follows[j] * share * (1.0 - share) + hidden[j] * share**2
    sums = np.bincount(j, credit, n_windows)
    net = problem.delta - sums
    unfollows = np.where(used, unfollows, np.maximum(-problem.delta, 0.0))

    names = np.asarray(problem.posts, dtype=object)
    generators = np.asarray(problem.generators, dtype=object)
    posts = pd.DataFrame(
        {
            "post_id": names[p],
            "generator_name": generators[g[p]],
            "window_start": problem.window_start[j],
            "followers": credit,
            "variance": variance,
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
    total = np.bincount(p, credit, n_posts).astype(float)
    total_variance = np.bincount(p, variance, n_posts).astype(float)
    total_variance = (
        total_variance
        + fitted.frailty_variance / (1.0 + fitted.frailty_variance * total) * total**2
    )
    low, high = count_interval(total, total_variance, config.interval)
    kept = np.bincount(p, credit * share, n_posts)
    with np.errstate(invalid="ignore", divide="ignore"):
        information = np.where(total > 0.0, np.clip(kept / total, 1e-6, 1.0), 1.0)
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
            "information": np.where(covered, information, np.nan),
            "impressions": problem.impressions,
            "final": age >= config.final_after_hours,
        }
    )
    by_generator = np.zeros((n_windows, n_generators))
    np.add.at(by_generator, (j, g[p]), share)
    weight = follows[:, None] * by_generator
    impressions = np.bincount(g, problem.impressions, n_generators)
    amount = np.bincount(g[problem.increment_post], problem.amount, n_generators)
    with np.errstate(invalid="ignore", divide="ignore"):
        keeps = np.where(weight.sum(0) > 0.0, (weight * by_generator).sum(0) / weight.sum(0), 1.0)
        rate = np.where(impressions > 0.0, fitted.rate * amount / impressions * 1000.0, np.nan)
    sd = np.sqrt(np.diag(fitted.rate_covariance))
    z = float(stats.norm.ppf(0.5 + config.interval / 2.0))
    generator_frame = pd.DataFrame(
        {
            "generator_name": generators,
            "posts": np.bincount(g, minlength=n_generators),
            "followers": np.bincount(g, total, n_generators),
            "impressions": impressions,
            "rate_per_1k": rate,
            "sd_log": sd,
            "low": rate * np.exp(-z * sd),
            "high": rate * np.exp(z * sd),
            "information": np.clip(keeps, 1e-6, 1.0),
        }
    )
    quarantined = baseline.loc[~used, ["window_start", "window_end"]].assign(
        delta=problem.delta[~used], expected=expected[~used]
    )
    return Attribution(
        posts=posts,
        baseline=baseline,
        totals=totals,
        generators=generator_frame,
        parameters=_parameters(problem, fitted),
        quarantined=quarantined.reset_index(drop=True),
        warnings=tuple(_warnings(problem, fitted, used)),
    )


def count_interval(
    mean: FloatArray, variance: FloatArray, probability: float
) -> tuple[FloatArray, FloatArray]:
    """Interval of a count with the given mean and variance, by a negative binomial or Poisson."""
    tail = 0.5 - probability / 2.0
    mean = np.maximum(mean, 1e-9)
    excess = np.maximum(variance - mean, 1e-6 * mean)
    size = mean**2 / excess
    low = stats.nbinom.ppf(tail, size, size / (size + mean))
    high = stats.nbinom.ppf(1.0 - tail, size, size / (size + mean))
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def _parameters(problem: Problem, fitted: Fit) -> dict[str, Any]:
    return {
        "b_per_hour": fitted.organic_per_hour,
        "u_per_hour": fitted.unfollows_per_hour,
        "lag_hours": fitted.lag_hours,
        "a": 1.0 / fitted.frailty_variance,
        "rate_spread": fitted.rate_spread,
        "exposure": problem.exposure_kind,
        "loglik": fitted.log_likelihood,
        "iterations": fitted.iterations,
        "converged": fitted.converged,
    }


def _warnings(problem: Problem, fitted: Fit, used: BoolArray) -> list[str]:
    found = []
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
    if not fitted.converged:
        found.append(f"the fit stopped after {fitted.iterations} iterations before it converged")
    return found
