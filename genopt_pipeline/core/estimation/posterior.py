"""From sufficient statistics to what is known of each generator's present rate.

Here: shrinkage between generators, change points, and the posterior of log rates. Not here: how
posts were counted (``statistics``), and which generator is best (``comparison``).

Model: the rates of an account's generators are ``Gamma(1/tau^2, 1/(tau^2 mu))``, with mean mu and
coefficient of variation tau; weighted followers y with exposure e are then gamma-Poisson,
``log p(y | tau) = lgamma(a + y) - lgamma(a) + a log(b / (b + e)) + y log(1 / (b + e)) + const``
with ``a = 1/tau^2, b = a/mu``. tau is integrated over a grid, mu is its estimate given tau. A rate
may have changed once at one of the cuts: the posts before the cut and after it then have rates
of their own, both from the same prior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genopt_pipeline.core.estimation.config import EstimationConfig
from genopt_pipeline.core.estimation.special import digamma, log_gamma, trigamma
from genopt_pipeline.core.estimation.statistics import Floats, SufficientStatistics

#: A rate below this, in followers per 1,000 impressions, is taken as this: logs need it.
_SMALLEST_RATE = 1e-6

#: Coefficients of variation up to this count as "the generators hardly differ".
_NOTICEABLE_SPREAD = 0.15


@dataclass(frozen=True)
class Posterior:
    """The present rate of each generator, on the log scale; rates are F/1K.

    log_mean, log_sd: (accounts, generators) moments of the log rate, given the account's level:
    right for comparing generators, which share the level's error. interval_log_sd: with that
    error, right for an interval of the rate itself. shrink: share of the prior
    in the estimate, 1 where there are no data. change_probability: (accounts, generators) that
    the rate changed within the horizon; change_days: most probable age of such a change (NaN
    without cuts). level: (accounts,) the account's mean rate. spread: (accounts,) posterior mean
    of tau. differ: (accounts,) posterior probability that tau exceeds 0.15, that is, that the
    generators differ by more than noise.
    """

    log_mean: Floats
    log_sd: Floats
    interval_log_sd: Floats
    shrink: Floats
    change_probability: Floats
    change_days: Floats
    level: Floats
    spread: Floats
    differ: Floats


def posterior(
    statistics: SufficientStatistics,
    config: EstimationConfig,
    present: NDArray[np.bool_] | None = None,
) -> Posterior:
    """Posterior of the present log rates of all accounts; memory grows with accounts.

    present: (accounts, generators), False for positions that hold no drawn generator; they take
    no part in the account's level and spread and get the prior. For many accounts call it on
    ``statistics.chunks``.
    """
    followers = np.maximum(statistics.followers, 0.0)
    exposure = statistics.exposure
    if present is not None:
        followers = np.where(present[:, :, None], followers, 0.0)
        exposure = np.where(present[:, :, None], exposure, 0.0)
    seen = np.cumsum(followers, axis=2), np.cumsum(exposure, axis=2)
    total_y, total_e = seen[0][:, :, -1], seen[1][:, :, -1]
    tau = np.array(config.spread_grid)
    shape = 1.0 / tau**2
    level = _levels(total_y, total_e, tau)
    rate = shape / level
    # segments: the last entry is the whole history, the others what came after each cut
    y = np.moveaxis(seen[0], 2, 1)[:, None]
    e = np.moveaxis(seen[1], 2, 1)[:, None]
    a, b = shape[None, :, None, None], rate[:, :, None, None]
    alpha, beta = a + y, b + e
    log_beta = np.log(beta)
    recent = log_gamma(alpha) - alpha * log_beta
    old = _log_marginal(a + (y[:, :, -1:] - y[:, :, :-1]), b + (e[:, :, -1:] - e[:, :, :-1]))
    constant = a * np.log(b) - log_gamma(a)
    # log evidence (accounts, tau, segments, generators) with one rate or with two
    evidence = recent + constant
    evidence[:, :, :-1] += old + constant
    evidence += _log_change_prior(config)[None, None, :, None]
    top = evidence.max(axis=2, keepdims=True)
    np.exp(evidence - top, out=evidence)
    marginal = evidence.sum(axis=2, keepdims=True)
    by_tau = (np.log(marginal) + top)[:, :, 0, :].sum(axis=2) + _log_spread_prior(config)[None]
    by_tau -= by_tau.max(axis=1, keepdims=True)
    weight_tau = np.exp(by_tau)
    weight_tau /= weight_tau.sum(axis=1, keepdims=True)
    weight = evidence * (weight_tau[:, :, None, None] / marginal)
    mean = digamma(alpha) - log_beta
    log_mean = np.einsum("atsk,atsk->ak", weight, mean)
    spread_of_means = (mean - log_mean[:, None, None, :]) ** 2
    variance = np.einsum("atsk,atsk->ak", weight, trigamma(alpha) + spread_of_means)
    shrink = np.einsum("atsk,atsk->ak", weight, b / beta)
    of_level = (weight_tau * _level_variance(total_e, level, tau)).sum(axis=1)
    cuts = weight.sum(axis=1)[:, :-1, :]
    days = np.array(config.cut_days)
    seen_any = total_e.sum(axis=1) > 0
    return Posterior(
        log_mean=log_mean,
        log_sd=np.sqrt(variance),
        interval_log_sd=np.sqrt(variance + shrink**2 * of_level[:, None]),
        shrink=shrink,
        change_probability=cuts.sum(axis=1),
        change_days=days[np.argmax(cuts, axis=1)],
        level=np.where(seen_any, (weight_tau * level).sum(axis=1), np.nan),
        spread=weight_tau @ tau,
        differ=weight_tau[:, tau > _NOTICEABLE_SPREAD].sum(axis=1),
    )


def _log_marginal(alpha: Floats, beta: Floats) -> Floats:
    return log_gamma(alpha) - alpha * np.log(beta)


def _levels(y: Floats, e: Floats, tau: Floats) -> Floats:
    """Mean rate of the generators given tau, (accounts, tau), by fixed-point iteration.

    Each generator's rate y/e has variance ``mu/e + tau^2 mu^2`` about the mean mu, so it weighs
    ``e / (1 + tau^2 mu e)``: pooling with weights e would return the rate of whichever generator
    is drawn most. Without a follower half a one is assumed, without exposure any scale does.
    """
    followers = np.maximum(y.sum(axis=1), 0.5)
    exposure = e.sum(axis=1)
    pooled = followers / np.where(exposure > 0, exposure, followers)
    mu = np.repeat(pooled[:, None], len(tau), axis=1)
    for _ in range(4):
        weight = 1.0 / (1.0 + tau[None, :, None] ** 2 * mu[:, :, None] * e[:, None, :])
        over = (weight * e[:, None, :]).sum(axis=2)
        found = (weight * y[:, None, :]).sum(axis=2) / np.where(over > 0, over, 1.0)
        mu = np.where((over > 0) & (found > 0), found, mu)
    levels: Floats = np.maximum(mu, _SMALLEST_RATE)
    return levels


def _level_variance(e: Floats, level: Floats, tau: Floats) -> Floats:
    """Variance of the log of the account's level given tau, (accounts, tau), at most 1."""
    expected = level[:, :, None] * e[:, None, :]
    information = (expected / (1.0 + tau[None, :, None] ** 2 * expected)).sum(axis=2)
    variance: Floats = 1.0 / np.maximum(information, 1.0)
    return variance


def _log_change_prior(config: EstimationConfig) -> Floats:
    """Log prior of a change at each cut, then of no change; (cuts + 1,).

    A cut stands for the interval up to half-way to its neighbours.
    """
    days = np.array(config.cut_days)
    middles = np.concatenate([[0.0], (days[:-1] + days[1:]) / 2.0, [config.horizon_days]])
    change = config.hazard_per_day * np.diff(middles)
    none = max(1.0 - float(change.sum()), np.exp(-float(change.sum())))
    with np.errstate(divide="ignore"):
        log: Floats = np.log(np.append(change, none))
    return log


def _log_spread_prior(config: EstimationConfig) -> Floats:
    """Log prior mass of each tau on the grid: log-normal density times the log spacing."""
    log_tau = np.log(np.array(config.spread_grid))
    if len(log_tau) == 1:
        return np.zeros(1)
    z = (log_tau - np.log(config.spread_median)) / config.spread_sd
    prior: Floats = -0.5 * z**2 + np.log(np.gradient(log_tau))
    return prior
