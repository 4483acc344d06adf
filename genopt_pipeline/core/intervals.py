"""Intervals for a rate of followers per impression, honest about how uneven posts are.

What belongs here: the negative binomial dispersion of posts and the confidence interval of one
generator's ratio of sums. Nothing is shrunk towards other generators here; posteriors that are
belong to the estimation that the policies use.

The model. Post i with impressions I_i gains F_i followers, negative binomial with mean λ I_i and
variance λ I_i + φ (λ I_i)². The sum over a generator's posts has mean M = λ ΣI and variance

    V = M + φ κ M²,      κ = ΣI² / (ΣI)²,

and is taken as negative binomial with those two moments, shape 1 / (φκ). A Poisson interval leaves
out the second term and is far too short where posts are uneven. Followers that were attributed and
not counted have a variance v of their own; such a sum F is worth F/s counted followers in e/s of
exposure, s = 1 + v/F, which has the variance M + v.

The interval inverts the two one-sided tests (as Clopper and Pearson do for a binomial, Garwood for
a Poisson count): its ends are the M at which as few, or as many, followers as were seen have a
probability of (1 - level) / 2. So zero followers in few impressions still have an upper end.

The dispersion is unknown and few posts tell little of it. It is taken as common to the account's
generators, with a log-normal prior around what real posts show (shape about 1.4), and the
Cox-Reid adjusted profile likelihood (Cox and Reid 1987), which pays for having fitted each λ. The
tests are averaged over that distribution, not made at its peak: a peak near zero after three equal
posts would make the interval absurdly short.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, gammaln

FloatArray = npt.NDArray[np.float64]

#: Centre and standard deviation (natural log) of the prior of φ, and the grid it is computed on.
PRIOR_DISPERSION: Final = 0.7
PRIOR_LOG_SD: Final = 1.0
GRID: Final[FloatArray] = np.geomspace(0.02, 12.0, 17)

_FIXED_POINT_STEPS: Final = 12


@dataclass(frozen=True)
class Dispersion:
    """A distribution of φ: values and probabilities, both of the same length; sums to 1."""

    values: FloatArray
    probabilities: FloatArray

    @property
    def mean(self) -> float:
        """The expectation of φ."""
        return float(self.values @ self.probabilities)


@dataclass(frozen=True)
class Totals:
    """What the posts of one generator amount to; sums over posts that were measured.

    ``exposure`` is in thousands of impressions, ``kappa`` is Σe²/(Σe)², and
    ``attribution_variance`` is the sum of the variances of the posts' attributed followers.
    """

    posts: int
    followers: float
    exposure: float
    kappa: float
    attribution_variance: float = 0.0

    @classmethod
    def of(
        cls, followers: FloatArray, exposure: FloatArray, variance: FloatArray | None = None
    ) -> Self:
        """Add up posts: arrays of one length, exposure not negative, all of them known."""
        total = float(exposure.sum())
        return cls(
            posts=len(followers),
            followers=float(followers.sum()),
            exposure=total,
            kappa=float((exposure**2).sum() / total**2) if total > 0 else float("nan"),
            attribution_variance=0.0 if variance is None else float(variance.sum()),
        )

    @property
    def rate(self) -> float:
        """Followers per unit of exposure; NaN without exposure (0/0 is unknown, not zero)."""
        return self.followers / self.exposure if self.exposure > 0 else float("nan")


def fit_dispersion(groups: Iterable[tuple[FloatArray, FloatArray]]) -> Dispersion:
    """Return what the posts of several generators say of their common dispersion φ.

    Parameters
    ----------
    groups
        For each generator the followers and the exposure of its posts, arrays of one length.
        Groups without followers say nothing of φ and add nothing.

    Notes
    -----
    For each φ of the grid, λ is the maximum-likelihood rate (fixed point of
    λ = Σωy / Σωe with ω = 1/(1 + φλe)), and the logarithm of the likelihood is lowered by half the
    logarithm of the information about log λ, Σ m/(1 + φm).
    """
    phi = GRID[:, None]
    shape = 1.0 / phi
    log_likelihood = -0.5 * (np.log(GRID / PRIOR_DISPERSION) / PRIOR_LOG_SD) ** 2
    for followers, exposure in groups:
        seen = exposure > 0
        y = np.maximum(followers[seen], 0.0)[None, :]
        e = exposure[seen][None, :]
        if y.sum() <= 0 or y.size < 2:
            continue
        rate = np.full_like(phi, y.sum() / e.sum())
        for _ in range(_FIXED_POINT_STEPS):
            omega = 1.0 / (1.0 + phi * rate * e)
            rate = (omega * y).sum(axis=1, keepdims=True) / (omega * e).sum(axis=1, keepdims=True)
        m = rate * e
        log_likelihood += (
            gammaln(y + shape)
            - gammaln(shape)
            + y * np.log(phi * m)
            - (y + shape) * np.log1p(phi * m)
        ).sum(axis=1)
        log_likelihood -= 0.5 * np.log((m / (1.0 + phi * m)).sum(axis=1))
    probabilities = np.exp(log_likelihood - log_likelihood.max())
    return Dispersion(values=GRID, probabilities=probabilities / probabilities.sum())


def rate_interval(
    totals: Totals, dispersion: Dispersion, *, level: float = 0.90
) -> tuple[float, float]:
    """Return the confidence interval of followers per unit of exposure.

    Both ends are NaN without exposure; the upper end is NaN where so few and uneven posts do not
    bound the rate (one post of an account with wild ones). A net loss is a count of those who
    left, and its interval is the mirror image. ``level`` is the two-sided probability, in (0, 1).
    """
    if not totals.exposure > 0:
        return float("nan"), float("nan")
    # Credit that is uncertain by v is worth F/s counted followers in e/s of exposure; the half
    # keeps the scale finite where no follower is credited.
    credited = abs(totals.followers)
    scale = 1.0 + totals.attribution_variance / (credited + 0.5)
    count, exposure = credited / scale, totals.exposure / scale
    tail = (1.0 - level) / 2.0
    shape = 1.0 / (dispersion.values * totals.kappa)

    def at_most(mean: float) -> float:
        p = shape / (shape + mean)
        return float(betainc(shape, count + 1.0, p) @ dispersion.probabilities)

    def at_least(mean: float) -> float:
        p = shape / (shape + mean)
        return float(betaincc(shape, count, p) @ dispersion.probabilities)

    # P(at most) falls and P(at least) rises with the mean: one root each, found on a log scale.
    # Where there is no root, the posts do not bound the rate on that side.
    low = 0.0
    least = count * 1e-100
    if count > 0 and at_least(least) < tail < at_least(count):
        low = _root(lambda mean: at_least(mean) - tail, least, count)
    high = float("nan")
    most = (count + 10.0) * 1e6
    if at_most(most) < tail:
        high = _root(lambda mean: at_most(mean) - tail, max(count, 0.1), most)
    ends = (low / exposure, high / exposure)
    return ends if totals.followers >= 0 else (-ends[1], -ends[0])


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    log_mean = brentq(
        lambda log_mean: function(math.exp(log_mean)), math.log(low), math.log(high), xtol=1e-10
    )
    return math.exp(float(log_mean))
