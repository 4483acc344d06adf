"""How far generators' rates are drawn together, learned from the account itself.

The logs of an account's rates are taken as normal about a common level, with standard deviation τ:
rates are positive and differ by factors. The changes see the rates themselves, so that with
information A and score s of the rates the log posterior of η = log λ is

    sᵀλ − ½ λᵀAλ − Σ_g (η_g − η̄)²/(2τ²) − (η̄ − η_0)²/(2·σ_0²),       λ = exp η,

whose mode and curvature Newton's method finds for every τ of a grid at once; τ is weighted by
Laplace's evidence. Where labels mean nothing the spread comes out small and the rates equal; where
data are plenty the prior does not matter.

Here: the posterior of the rates given the normal equations. Not here: the equations.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from genopt_pipeline.core.attribution.frames import FloatArray

_SPREADS: Final = np.array([0.04, 0.08, 0.15, 0.25, 0.4, 0.6, 0.9, 1.4])
#: log sd of the prior of τ about its median
_SPREAD_SD: Final = 0.8
#: sd σ_0 of the prior of the level, on the log scale
_LEVEL_SD: Final = 1.5
_STEPS: Final = 12
_LONGEST_STEP: Final = 1.0
_TOLERANCE: Final = 1e-4
#: no log rate is further from the first value of the level
_RANGE: Final = 6.0
#: the marginals of the log rates: nodes, and how far they reach, in standard deviations
_NODES: Final = 61
_WIDEST: Final = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Posterior of the K rates."""

    #: medians, (K,)
    rate: FloatArray
    #: (K, K) covariance of the logs, the uncertainty of level and spread included
    log_covariance: FloatArray
    #: the common level exp η̄, and τ
    level: float
    spread: float
    #: mean and sd of the logs, (K,), from the marginals themselves: a rate that may be next to
    #: nothing has a long lower tail, of which the mode knows nothing
    log_mean: FloatArray
    log_sd: FloatArray


def shrink(
    information: FloatArray,
    score: FloatArray,
    first: FloatArray,
    level: float,
    median_spread: float,
    *,
    learn_spread: bool = True,
) -> Rates:
    """Posterior of the rates from their information (K, K) and score (K,), likelihood's alone.

    ``first``: rates to begin with. ``level``: the prior's level, above zero. ``median_spread``:
    the prior's median of τ, or τ itself where it is not learned.
    """
    k = len(score)
    if k == 0:
        nothing = np.zeros(0)
        return Rates(nothing, np.zeros((0, 0)), level, median_spread, nothing, nothing)
    spreads = _SPREADS if learn_spread else np.array([median_spread])
    together = np.full((k, k), 1.0 / k)
    apart = (np.eye(k) - together) / spreads[:, None, None] ** 2
    prior = apart + together / (k * _LEVEL_SD**2)
    centre = np.log(level)
    eta = np.tile(np.log(np.clip(first, level * 1e-2, level * 1e2)), (len(spreads), 1))
    matrix = prior
    for _ in range(_STEPS):
        rate = np.exp(eta)
        residual = score - rate @ information
        gradient = rate * residual - np.einsum("tij,tj->ti", prior, eta - centre)
        # the expected curvature, which is positive; the observed one need not be
        matrix = rate[:, :, None] * information * rate[:, None, :] + prior
        move = np.clip(
            np.linalg.solve(matrix, gradient[:, :, None])[:, :, 0], -_LONGEST_STEP, _LONGEST_STEP
        )
        eta = np.clip(eta + move, centre - _RANGE, centre + _RANGE)
        if np.abs(move).max() < _TOLERANCE:
            break
    rate = np.exp(eta)
    inverse = np.linalg.inv(matrix)
    off = eta - centre
    log_weight = (
        rate @ score
        - 0.5 * np.einsum("ti,ij,tj->t", rate, information, rate)
        - 0.5 * np.einsum("ti,tij,tj->t", off, prior, off)
        - 0.5 * np.linalg.slogdet(matrix)[1]
        - (k - 1) * np.log(spreads)
    )
    if learn_spread:
        log_weight -= 0.5 * (np.log(spreads / median_spread) / _SPREAD_SD) ** 2
        log_weight += np.log(np.gradient(np.log(spreads)))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    middle = weight @ eta
    between = eta - middle
    log_mean, log_sd = _marginals(eta, np.einsum("tii->ti", inverse), spreads, weight)
    return Rates(
        rate=np.exp(middle),
        log_covariance=np.einsum("t,tij->ij", weight, inverse)
        + np.einsum("t,ti,tj->ij", weight, between, between),
        level=float(np.exp(middle.mean())),
        spread=float(weight @ spreads),
        log_mean=log_mean,
        log_sd=log_sd,
    )


def _marginals(
    eta: FloatArray, variance: FloatArray, spreads: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and sd of each log rate, (K,), by quadrature.

    At each τ the curvature at the mode is the prior's 1/τ² and what the changes say of λ itself: a
    normal likelihood c(λ − λ_c)²/2, whose c and λ_c follow from curvature and mode. On the log
    scale that is not normal. Arrays (τ, K); ``weight`` of each τ.
    """
    tau2 = spreads[:, None] ** 2
    level = eta.mean(axis=1, keepdims=True)
    rate = np.exp(eta)
    told = np.maximum(1.0 / variance - 1.0 / tau2, 1e-3 / tau2) / rate**2
    centre = rate + (eta - level) / (tau2 * told * rate)
    # in units of the sd at the mode: fine where much is known, and into the tail where little is
    off = np.linspace(-_WIDEST, _WIDEST, _NODES)
    at = eta[:, :, None] + np.sqrt(variance)[:, :, None] * off
    log_density = -0.5 * told[:, :, None] * (np.exp(at) - centre[:, :, None]) ** 2
    log_density -= 0.5 * (at - level[:, :, None]) ** 2 / tau2[:, :, None]
    density = np.exp(log_density - log_density.max(axis=2, keepdims=True))
    density /= density.sum(axis=2, keepdims=True)
    mean = (density * at).sum(axis=2)
    square = (density * (at - mean[:, :, None]) ** 2).sum(axis=2)
    middle = weight @ mean
    return middle, np.sqrt(weight @ (square + (mean - middle) ** 2))
