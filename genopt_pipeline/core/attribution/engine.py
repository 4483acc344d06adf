"""The attribution of one account: check, fit, split, report.

Here: the public function and the split that conserves followers. Not here: the model's fit.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import special, stats

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.fit import fit
from genopt_pipeline.core.attribution.frames import (
    BoolArray,
    FloatArray,
    IntArray,
    Problem,
    build_problem,
)
from genopt_pipeline.core.attribution.model import Carried, Fit
from genopt_pipeline.core.attribution.rates import GeneratorRates, generator_rates
from genopt_pipeline.core.attribution.result import Attribution
from genopt_pipeline.core.attribution.rhythm import FLAT, Rhythm, estimate_rhythm, on_clock
from genopt_pipeline.core.attribution.skellam import hidden_counts

#: of a generator's rate, where it makes a post's followers unsure
_LARGEST_LOG_SD: Final = 1.5


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
    solved = solve(problem, config)
    return _report(problem, solved, config)


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """An account's changes split among its posts, as arrays; windows J, posts P, generators K."""

    fitted: Fit
    rhythm: Rhythm
    #: windows that took part, and what was expected of each
    used: BoolArray
    expected: FloatArray
    #: the split, one entry for each window and post: places, credit, share of the follows, variance
    window: IntArray
    post: IntArray
    credit: FloatArray
    share: FloatArray
    variance: FloatArray
    #: expected unfollows of each window
    unfollows: FloatArray
    #: credit of each post so far, and the generators' rates
    total: FloatArray
    rates: GeneratorRates


def solve(
    problem: Problem,
    config: AttributionConfig,
    carried: Carried | None = None,
    *,
    variance: bool = True,
) -> Solved:
    """The attribution of an arranged problem: for callers that repeat it for many accounts.

    ``carried``: lag, frailty and unfollows of an earlier fit, then not estimated again.
    ``variance``: whether the posts' is wanted.
    """
    used, expected = _find_jumps(problem, config)
    slot = config.exposure_window_hours
    rhythm = estimate_rhythm(problem, slot) if config.estimate_rhythm else FLAT
    fitted = fit(on_clock(problem, rhythm), used, config, carried, variance=variance)
    coo = fitted.exposure.tocoo()
    j, p = coo.coords
    own = fitted.split_rate[problem.generator_of] * fitted.frailty
    r = own[p] * coo.data * used[j]
    n_windows = len(problem.delta)
    m = fitted.organic + np.bincount(j, r, n_windows)
    follows, unfollows, hidden = hidden_counts(problem.delta, m, fitted.unfollows)
    share = r / m[j]
    credit = follows[j] * share
    return Solved(
        fitted=fitted,
        rhythm=rhythm,
        used=used,
        expected=expected,
        window=j.astype(np.int64),
        post=p.astype(np.int64),
        credit=credit,
        share=share,
        variance=credit * (1.0 - share) + hidden[j] * share**2,
        unfollows=np.where(used, unfollows, np.maximum(-problem.delta, 0.0)),
        total=np.bincount(p, credit, len(problem.posts)).astype(np.float64),
        rates=generator_rates(problem, fitted, config),
    )


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


def _report(problem: Problem, solved: Solved, config: AttributionConfig) -> Attribution:
    fitted, used = solved.fitted, solved.used
    j, p, credit, variance = solved.window, solved.post, solved.credit, solved.variance
    g = problem.generator_of
    n_windows, n_generators = len(problem.delta), len(problem.generators)
    net = problem.delta - np.bincount(j, credit, n_windows)
    unfollows = solved.unfollows

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
    total = solved.total
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
        delta=problem.delta[~used], expected=solved.expected[~used]
    )
    return Attribution(
        posts=posts,
        baseline=baseline,
        totals=totals,
        generators=generator_frame,
        parameters=_parameters(problem, solved),
        quarantined=quarantined.reset_index(drop=True),
        warnings=tuple(_warnings(problem, fitted, used)),
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
    fitted, g = solved.fitted, problem.generator_of
    rate = fitted.split_rate[g]
    seen = np.asarray(fitted.exposure.sum(axis=0)).ravel()
    mean = rate * seen
    spread = 1.0 + fitted.frailty_variance * mean
    assert fitted.explained is not None  # noqa: S101 - solve was asked for the variance
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(mean > 0.0, spread * fitted.explained / mean, 0.0)
    reliability = np.clip(ratio, 0.0, 1.0)
    remains = mean * spread * (1.0 - reliability) * np.maximum(fitted.frailty, 0.5)
    split = np.bincount(solved.post, solved.variance, len(mean))
    known = np.maximum(remains, split)
    if problem.exposure_kind == "profile_clicks":
        known = known * (1.0 - np.minimum(rate, 0.9))
    rests = (1.0 - reliability) * seen
    unsure = np.minimum(np.sqrt(np.diag(fitted.log_covariance)), _LARGEST_LOG_SD)[g]
    centre = np.maximum(solved.total + rests * (fitted.rate - fitted.split_rate)[g], 0.0)
    return centre, np.asarray(known + (unsure * fitted.rate[g] * rests) ** 2)


def _parameters(problem: Problem, solved: Solved) -> dict[str, Any]:
    fitted = solved.fitted
    return {
        "b_per_hour": fitted.organic_per_hour,
        "u_per_hour": fitted.unfollows_per_hour,
        "lag_hours": fitted.lag_hours,
        "a": 1.0 / fitted.frailty_variance,
        "level_per_exposure": fitted.level,
        "rate_spread": fitted.rate_spread,
        "standard_errors": dict(fitted.errors),
        "rhythm": "flat"
        if solved.rhythm.is_flat
        else [round(float(s), 3) for s in solved.rhythm.level],
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
        found.append(
            f"the search for the parameters stopped after {fitted.iterations} steps before it "
            "converged"
        )
    return found
