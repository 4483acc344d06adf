"""From sufficient statistics to what is known of each generator's present rate.

Here: shrinkage between generators, change points, and the posterior of log rates. Not here: how
posts were counted (``statistics``), and which generator is best (``comparison``).

Model: the rates of an account's generators are ``Gamma(1/tau^2, 1/(tau^2 mu))``, with mean mu and
coefficient of variation tau; weighted followers y with exposure e are then gamma-Poisson,
``log p(y | tau) = lgamma(a + y) - lgamma(a) + a log(b / (b + e)) + y log(1 / (b + e)) + const``
with ``a = 1/tau^2, b = a/mu``. tau is integrated over a grid, mu is its estimate given tau.

Accounts are of one of several kinds, and the data of all generators together say which. In a
steady one a rate may have changed once at one of the cuts: the posts before the cut and after it
then have rates of their own, both from the same prior. In a drifting one all rates wander about the
level, with one of the time constants ``drift_days``; how far back posts still count then follows
from how much of each generator was seen, instead of from a half-life that fits none.
"""

from collections.abc import Sequence
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
    without cuts). drift: (accounts,) probability that the rates wander all the time. level:
    (accounts,) the account's mean rate. spread: (accounts,) posterior mean of tau. differ:
    (accounts,) posterior probability that tau exceeds 0.15, that is, that the generators differ
    by more than noise.
    """

    log_mean: Floats
    log_sd: Floats
    interval_log_sd: Floats
    shrink: Floats
    change_probability: Floats
    change_days: Floats
    drift: Floats
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
    total_y, total_e = followers.sum(axis=2), exposure.sum(axis=2)
    tau = np.array(config.spread_grid)
    level = _levels(total_y, total_e, tau)
    prior = _Prior(1.0 / tau[:, None] ** 2, level[:, :, None])
    steady = _steady(followers, exposure, prior, config)
    kinds = [steady] + [
        _drifting(followers, exposure, prior, days, config) for days in config.drift_days
    ]
    # (kinds, accounts, tau): how probable each kind of account is, with each spread
    by_kind = np.stack([kind.log_evidence.sum(axis=2) for kind in kinds])
    by_kind += _log_kind_prior(config)[:, None, None] + _log_spread_prior(config)
    by_kind -= by_kind.max(axis=(0, 2), keepdims=True)
    weight = np.exp(by_kind)
    weight /= weight.sum(axis=(0, 2), keepdims=True)

    def mixed(values: Sequence[Floats]) -> Floats:
        return np.asarray(_mixture([w[:, :, None] for w in weight], values).sum(axis=1))

    log_mean = mixed([kind.mean for kind in kinds])
    square = mixed([kind.variance + kind.mean**2 for kind in kinds])
    # a sum of squares less a square can lose all its digits, but no variance is below 0
    variance = np.maximum(square - log_mean**2, 1e-12)
    shrink = mixed([kind.shrink for kind in kinds])
    weight_tau = weight.sum(axis=0)
    of_level = (weight_tau * _level_variance(total_e, level, tau)).sum(axis=1)
    cuts = np.stack([(weight[0][:, :, None] * cut).sum(axis=1) for cut in steady.cuts], axis=1)
    days = np.array(config.cut_days)
    seen_any = total_e.sum(axis=1) > 0
    return Posterior(
        log_mean=log_mean,
        log_sd=np.sqrt(variance),
        interval_log_sd=np.sqrt(variance + shrink**2 * of_level[:, None]),
        shrink=shrink,
        change_probability=cuts.sum(axis=1),
        change_days=days[np.argmax(cuts, axis=1)],
        drift=weight[1:].sum(axis=(0, 2)),
        level=np.where(seen_any, (weight_tau * level).sum(axis=1), np.nan),
        spread=weight_tau @ tau,
        differ=weight_tau[:, tau > _NOTICEABLE_SPREAD].sum(axis=1),
    )


@dataclass(frozen=True)
class _Prior:
    """``Gamma(shape, shape / level)``: shape (tau, 1), level (accounts, tau, 1)."""

    shape: Floats
    level: Floats


@dataclass(frozen=True)
class _Kind:
    """What follows if the account is of one kind; (accounts, tau, generators).

    log_evidence: log likelihood of the generator's followers, up to what all kinds share. mean,
    variance: of the present log rate. shrink: the prior's share in it. cuts: for each cut, the
    probability that the rate changed there; none where rates drift.
    """

    log_evidence: Floats
    mean: Floats
    variance: Floats
    shrink: Floats
    cuts: Sequence[Floats]


def _steady(y: Floats, e: Floats, prior: _Prior, config: EstimationConfig) -> _Kind:
    """A rate that never changed, or once, at one of the cuts."""
    a, b = prior.shape, prior.shape / prior.level
    constant = a * np.log(b) - log_gamma(a)
    before_y = y.sum(axis=2)[:, None, :]
    before_e = e.sum(axis=2)[:, None, :]
    since_y, since_e = np.zeros_like(before_y), np.zeros_like(before_e)
    evidence, means, squares, shrinks = [], [], [], []
    # segments: what came after each cut, the last one being the whole history
    for at, log_prior in enumerate(_log_change_prior(config)):
        since_y, since_e = since_y + y[:, None, :, at], since_e + e[:, None, :, at]
        alpha, beta = a + since_y, b + since_e
        log_beta = np.log(beta)
        likely = log_gamma(alpha) - alpha * log_beta + (constant + log_prior)
        if at < len(config.cut_days):
            old_alpha = a + np.maximum(before_y - since_y, 0.0)
            old_beta = b + np.maximum(before_e - since_e, 0.0)
            likely += log_gamma(old_alpha) - old_alpha * np.log(old_beta) + constant
        mean = digamma(alpha) - log_beta
        evidence.append(likely)
        means.append(mean)
        squares.append(trigamma(alpha) + mean**2)
        shrinks.append(b / beta)
    top = evidence[0]
    for likely in evidence[1:]:
        top = np.maximum(top, likely)
    weights = [np.exp(likely - top) for likely in evidence]
    total = np.asarray(sum(weights))
    weights = [weight / total for weight in weights]
    mean = _mixture(weights, means)
    return _Kind(
        log_evidence=np.log(total) + top,
        mean=mean,
        variance=_mixture(weights, squares) - mean**2,
        shrink=_mixture(weights, shrinks),
        cuts=weights[:-1],
    )


def _mixture(weights: Sequence[Floats], values: Sequence[Floats]) -> Floats:
    """Sum of products: the expectation over parts with these probabilities."""
    total: Floats = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total + weight * value
    return total


def _drifting(
    y: Floats, e: Floats, prior: _Prior, correlation_days: float, config: EstimationConfig
) -> _Kind:
    """A log rate that wanders about the account's level, forgetting itself with a time constant.

    A filter over the bins from the oldest to the newest, the rate constant within each. Over a
    time t the log rate keeps ``r = exp(-t / correlation_days)`` of its distance to the level, and
    its variance becomes ``r^2 v + (1 - r^2) v0``: the stationary autoregression whose spread is
    the prior's at all times. On gammas, whose log variance is about 1/shape, this reads
    ``1/a' = r^2/a + (1 - r^2)/a0``, and the location log(a/b) shrinks by r. The evidence is the
    product of the negative binomial probabilities of each bin given the older ones.
    """
    edges = np.array([0.0, *config.cut_days, config.horizon_days])
    middles = (edges[1:] + edges[:-1]) / 2.0
    log_level = np.log(prior.level)
    inverse_prior = 1.0 / prior.shape
    log_b_prior = np.log(prior.shape) - log_level
    shape = np.broadcast_to(prior.shape, (*prior.level.shape[:2], y.shape[1]))
    log_b = np.broadcast_to(log_b_prior, shape.shape)
    evidence = np.zeros(shape.shape)
    for at in range(y.shape[2] - 1, -1, -1):
        seen = shape + y[:, None, :, at]
        exposed = np.exp(log_b) + e[:, None, :, at]
        log_exposed = np.log(exposed)
        evidence += log_gamma(seen) - log_gamma(shape) + shape * log_b - seen * log_exposed
        kept = np.exp(-(middles[at] - (middles[at - 1] if at else 0.0)) / correlation_days)
        location = kept * (np.log(seen) - log_exposed) + (1.0 - kept) * log_level
        shape = 1.0 / (kept**2 / seen + (1.0 - kept**2) * inverse_prior)
        log_b = np.log(shape) - location
    return _Kind(
        log_evidence=evidence,
        mean=digamma(shape) - log_b,
        variance=trigamma(shape),
        shrink=np.minimum(np.exp(log_b_prior - log_b), 1.0),
        cuts=(),
    )


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


def _log_kind_prior(config: EstimationConfig) -> Floats:
    """Log prior of a steady account, then of one that drifts with each time constant."""
    drifting = len(config.drift_days)
    if drifting == 0:
        return np.zeros(1)
    share = config.drift_probability
    with np.errstate(divide="ignore"):
        log: Floats = np.log(np.array([1.0 - share] + [share / drifting] * drifting))
    return log


def _log_spread_prior(config: EstimationConfig) -> Floats:
    """Log prior mass of each tau on the grid: log-normal density times the log spacing."""
    log_tau = np.log(np.array(config.spread_grid))
    if len(log_tau) == 1:
        return np.zeros(1)
    z = (log_tau - np.log(config.spread_median)) / config.spread_sd
    prior: Floats = -0.5 * z**2 + np.log(np.gradient(log_tau))
    return prior
