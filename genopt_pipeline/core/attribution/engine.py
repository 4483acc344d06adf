"""The attribution of one account: check, fit or take what was learned before, split, report.

Here: the public function and the order of its parts. Not here: the parts.
"""

import math

import numpy as np
import pandas as pd

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.fit import fit
from genopt_pipeline.core.attribution.frames import FloatArray, Problem, build_problem
from genopt_pipeline.core.attribution.jumps import learn_jumps
from genopt_pipeline.core.attribution.learned import Learned
from genopt_pipeline.core.attribution.rates import exposure_per_impression, generator_rates
from genopt_pipeline.core.attribution.report import report
from genopt_pipeline.core.attribution.result import Attribution
from genopt_pipeline.core.attribution.rhythm import FLAT, estimate_rhythm, on_clock
from genopt_pipeline.core.attribution.split import Entries, PostModel, Search, Solved, split
from genopt_pipeline.core.attribution.step import solve_step


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
    return report(problem, solve(problem, config), config)


def attribute_step(
    deltas: pd.DataFrame,
    exposures: pd.DataFrame,
    learned: Learned,
    *,
    config: AttributionConfig = AttributionConfig(),
) -> Attribution:
    """The same of a few days, by what an earlier attribution of the account learned.

    Its parameters and rates are taken as they are, and only the posts' luck is found and the
    windows split, at a hundredth of the cost. What a post gained before these days is not in its
    total.

    Parameters
    ----------
    deltas, exposures, config
        As in ``attribute_followers``.
    learned
        ``Attribution.learned`` of an attribution of, better, a month.

    Raises
    ------
    ValueError
        Malformed input, or exposures in another unit than ``learned.exposure_kind``.
    """
    problem = build_problem(deltas, exposures, config)
    return report(problem, solve_step(problem, config, learned), config)


def solve(
    problem: Problem,
    config: AttributionConfig,
    learned: Learned | None = None,
    *,
    variance: bool = True,
) -> Solved:
    """The attribution of an arranged problem: for callers that repeat it for many accounts.

    ``learned``: lag, frailty and unfollows of an earlier fit, then not estimated again.
    ``variance``: whether the posts' is wanted.
    """
    jumps = learn_jumps(problem)
    used = jumps.plausible(problem, config)
    if not used.any():
        used[:] = True
    slot = config.exposure_window_hours
    rhythm = estimate_rhythm(problem, slot) if config.estimate_rhythm else FLAT
    per_impression = exposure_per_impression(problem, config)
    fitted = fit(
        on_clock(problem, rhythm), used, config, per_impression, learned, variance=variance
    )
    rates = generator_rates(problem, fitted, per_impression)
    entries = fitted.exposure.tocoo()
    window, post = (places.astype(np.int64) for places in entries.coords)
    return Solved(
        learned=Learned(
            exposure_kind=problem.exposure_kind,
            rhythm=rhythm,
            jumps=jumps,
            lag_hours=fitted.lag_hours,
            frailty_variance=fitted.frailty_variance,
            unfollows_per_hour=fitted.unfollows_per_hour,
            organic_per_hour=fitted.organic_per_hour,
            net_per_hour=fitted.net_per_hour,
            level=fitted.level,
            level_per_1k=_middle(rates.rate),
            rate_spread=fitted.rate_spread,
            generators=tuple(problem.generators),
            rate=fitted.rate,
            split_rate=fitted.split_rate,
            log_sd=np.sqrt(np.diag(fitted.log_covariance)),
            rate_per_1k=rates.rate,
            log_sd_per_1k=rates.log_sd,
            information=rates.information,
        ),
        rates=rates,
        used=used,
        typical=jumps.typical(problem),
        posts=PostModel(
            rate=fitted.rate[problem.generator_of],
            split_rate=fitted.split_rate[problem.generator_of],
            log_sd=np.sqrt(np.diag(fitted.log_covariance))[problem.generator_of],
            frailty=fitted.frailty,
            exposure=np.asarray(fitted.exposure.sum(axis=0), dtype=np.float64).ravel(),
            explained=fitted.explained,
        ),
        split=split(
            problem,
            used,
            Entries(window, post, entries.data),
            fitted.split_rate[problem.generator_of] * fitted.frailty,
            organic=fitted.organic,
            unfollows=fitted.unfollows,
        ),
        search=Search(
            dict(fitted.errors), fitted.log_likelihood, fitted.iterations, fitted.converged
        ),
    )


def _middle(rates: FloatArray) -> float:
    """Geometric mean of the rates that are known; NaN if none is."""
    known = rates[np.isfinite(rates) & (rates > 0.0)]
    return float(np.exp(np.log(known).mean())) if len(known) else math.nan
