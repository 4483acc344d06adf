"""Generators' rates per thousand impressions, and what credited followers are worth.

**Information.** A policy's estimation reads credited followers as if they had been counted, each
post's with the variance m + φm² about its mean m. Were they counted, log λ_g would be known with
precision I_c = Σ_p m_p/(1 + φ m_p). From the account's changes it is known with precision
I_o = 1/(C_gg − 1/(1ᵀC⁻¹1)): C is the covariance of the logs, with the other generators and the
baseline estimated along; subtracted is the variance of the level that all generators share, for the
estimation compares generators given the level and adds its error where a rate is stated by itself.
I_c − I_o is the missing information of Orchard and Woodbury (1972), and ρ_g = I_o/I_c is what to
multiply the counts with so that their precision is the real one. Frailty is in both: where a post
brings many followers it swamps the uncertainty of the split, and ρ is near one. A formula without
it, Σ Ā π²/Σ Ā π, takes the split's noise for all the noise there is and discounts many times too
much.

**Profile clicks.** The rate of a generator is then clicks per impression, which are counted, times
followers per click, which are attributed: log variances add. Clicks are overdispersed by the posts'
frailty, hence each post's count n as well has weight 1/(1 + φ_c n).

Here: these two computations on the fitted model. Not here: the fit.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.frames import FloatArray, Problem
from genopt_pipeline.core.attribution.model import Fit

#: weight of the prior dispersion of clicks, in posts, and its bounds
_PRIOR_POSTS: Final = 8.0
_DISPERSION_RANGE: Final = (0.02, 20.0)
_LEAST_INFORMATION: Final = 1e-3
#: nothing is known of a rate beyond this
_UNKNOWN_LOG_SD: Final = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorRates:
    """F/1K of K generators; arrays (K,), NaN where a generator had no impression."""

    #: posterior median, and sd of the log
    rate: FloatArray
    log_sd: FloatArray
    #: ρ_g in (0, 1]
    information: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ExposurePerImpression:
    """Of K generators: exposure per impression (NaN: none seen), and its log's variance."""

    unit: FloatArray
    log_variance: FloatArray
    #: of the posts' clicks given their impressions, φ_c
    dispersion: float


def generator_rates(
    problem: Problem, fitted: Fit, per_impression: ExposurePerImpression
) -> GeneratorRates:
    """Rates per 1,000 impressions from rates per unit of exposure."""
    g, k = problem.generator_of, len(problem.generators)
    unit, unit_variance = per_impression.unit, per_impression.log_variance
    expected = (fitted.rate * unit)[g] * problem.impressions
    known = np.isfinite(expected) & (expected > 0.0)
    dispersion = per_impression.dispersion + fitted.frailty_variance
    counted = np.bincount(g[known], expected[known] / (1.0 + dispersion * expected[known]), k)
    covariance = fitted.split_covariance + np.diag(unit_variance)
    observed = 1.0 / np.maximum(np.diag(covariance) - common_variance(covariance), 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(counted > 0.0, observed / counted, 1.0)
    information = np.clip(np.where(np.isfinite(ratio), ratio, 1.0), _LEAST_INFORMATION, 1.0)
    return GeneratorRates(
        rate=1000.0 * np.exp(fitted.log_mean) * unit,
        log_sd=np.minimum(np.sqrt(fitted.log_sd**2 + unit_variance), _UNKNOWN_LOG_SD),
        information=information,
    )


def common_variance(covariance: FloatArray) -> float:
    """Variance of what K log rates share, their best weighted mean: 1/(1ᵀC⁻¹1)."""
    return float(1.0 / np.linalg.inv(covariance).sum()) if len(covariance) else 0.0


def exposure_per_impression(problem: Problem, config: AttributionConfig) -> ExposurePerImpression:
    """From the counts of a problem; of impressions themselves one, known exactly."""
    g, k = problem.generator_of, len(problem.generators)
    impressions = np.bincount(g, problem.impressions, k)
    amount = np.bincount(g[problem.increment_post], problem.amount, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        plain = np.where(impressions > 0.0, amount / impressions, np.nan)
    if problem.exposure_kind != "profile_clicks":
        return ExposurePerImpression(plain, np.zeros(k), 0.0)
    clicks, seen = problem.profile_clicks, problem.impressions
    usable = np.isfinite(clicks) & (seen > 0.0)
    if not usable.any() or clicks[usable].sum() <= 0.0:
        return ExposurePerImpression(plain, np.zeros(k), 0.0)
    own, x, n = g[usable], clicks[usable], seen[usable]
    level = float(x.sum() / n.sum())
    phi = config.frailty_variance
    for _ in range(2):
        weight = 1.0 / (1.0 + phi * level * n)
        x_sum, n_sum = np.bincount(own, weight * x, k), np.bincount(own, weight * n, k)
        # a generator without posts of its own has the account's ratio
        unit = (x_sum + level) / (n_sum + 1.0)
        expected = unit[own] * n
        share = (phi * expected / (1.0 + phi * expected)) ** 2
        freedom = len(x) / max(len(x) - len(np.unique(own)), 1)
        excess = (freedom * (x - expected) ** 2 - expected) / expected**2
        phi = float(
            np.clip(
                (_PRIOR_POSTS * config.frailty_variance + (share * excess).sum())
                / (_PRIOR_POSTS + share.sum()),
                *_DISPERSION_RANGE,
            )
        )
    held = np.bincount(own, expected / (1.0 + phi * expected), k)
    return ExposurePerImpression(unit, 1.0 / np.maximum(held, 1e-3), phi)
