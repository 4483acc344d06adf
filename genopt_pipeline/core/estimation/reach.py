"""How followers depend on reach: a model of single posts, and checks of it against real ones.

Here: a regression of followers on impressions by kind of post, and posterior predictive checks.
Not here: the rates that policies use (``posterior``), which take followers as proportional to
impressions; this model measures how far from the truth that is.

``log m = intercept + effect_kind + (1 + slope) x + curve x^2``, with x the log of impressions over
their median, and ``Var F = m + phi m^(2 - power)``: a negative binomial whose dispersion may
shrink with the mean (NB-P, Greene 2008). Slope, curve and power 0 give the plain model. Fitted to
the greatest posterior density, with normal priors, and a Laplace approximation around it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from genopt_pipeline.core.estimation.statistics import Floats, Ints

#: Prior standard deviations: effect of a kind, slope, curve, log phi about log 0.7, power.
_EFFECT_SD, _SLOPE_SD, _CURVE_SD, _PHI_SD, _POWER_SD = 0.4, 0.5, 0.2, 1.0, 0.4


@dataclass(frozen=True)
class ReachModel:
    """A fitted model. ``parameters``: intercept, slope, curve, log phi, power, effects of kinds.

    covariance: (parameters, parameters) of the Laplace approximation. reach: the median
    impressions, at which ``x = 0``. plain: whether slope, curve and power were held at 0.
    log_likelihood: at the parameters.
    """

    parameters: Floats
    covariance: Floats
    reach: float
    plain: bool
    log_likelihood: float

    @property
    def slope(self) -> float:
        """Elasticity of F/1K with respect to impressions at the median reach."""
        return float(self.parameters[1])

    def f_per_1k(self) -> Floats:
        """F/1K of each kind at the median reach."""
        rates: Floats = np.exp(self.parameters[0] + self.parameters[5:]) * 1000.0 / self.reach
        return rates


@dataclass(frozen=True)
class Check:
    """A statistic of the observed posts beside its posterior predictive 90 % interval."""

    observed: float
    low: float
    median: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the observed value lies within the interval."""
        return self.low <= self.observed <= self.high


def fit_reach_model(
    kind: Ints, impressions: Floats, followers: Floats, *, kinds: int, plain: bool = False
) -> ReachModel:
    """Fit the model to posts: arrays (posts,), kind below ``kinds``, impressions above 0.

    Raises
    ------
    ValueError
        A post has no impressions or unknown counts, or nobody followed at all.
    """
    if not (np.isfinite(followers).all() and (impressions > 0).all() and (followers >= 0).all()):
        raise ValueError("the reach model needs posts with impressions and known follower counts")
    if followers.sum() <= 0:
        raise ValueError("nobody followed: there is no dependence on reach to fit")
    reach = float(np.median(impressions))
    x = np.log(impressions / reach)
    free = np.array([True, not plain, not plain, True, not plain] + [True] * kinds)
    sd = np.array(
        [np.inf, _SLOPE_SD, _CURVE_SD, _PHI_SD, _POWER_SD] + [_EFFECT_SD] * kinds, dtype=np.float64
    )
    start = np.zeros(5 + kinds)
    start[0] = np.log(followers.sum() / impressions.sum() * reach)
    start[3] = np.log(0.7)
    prior_mean = np.zeros_like(start)
    prior_mean[3] = np.log(0.7)

    def loss(values: Floats) -> float:
        parameters = start.copy()
        parameters[free] = values
        prior = 0.5 * (((parameters - prior_mean) / sd) ** 2).sum()
        return float(prior - _log_likelihood(parameters, kind, x, followers))

    found = optimize.minimize(loss, start[free], method="BFGS", options={"gtol": 1e-3})
    parameters = start.copy()
    parameters[free] = found.x
    covariance = np.zeros((len(start), len(start)))
    covariance[np.ix_(free, free)] = np.array(found.hess_inv, dtype=np.float64)
    return ReachModel(
        parameters, covariance, reach, plain, _log_likelihood(parameters, kind, x, followers)
    )


def predictive_checks(
    model: ReachModel,
    kind: Ints,
    impressions: Floats,
    followers: Floats,
    *,
    rng: np.random.Generator,
    draws: int = 400,
) -> Mapping[str, Check]:
    """Share of posts without a follower, share of followers of the top tenth, total, greatest.

    Parameters are drawn from the Laplace approximation and followers from the model, post by
    post, so that the intervals hold both uncertainties. Where nobody follows in a draw, its top
    tenth has no share and is left out.
    """
    x = np.log(impressions / model.reach)
    drawn = rng.multivariate_normal(model.parameters, model.covariance, size=draws)
    simulated = np.empty((draws, 4))
    for row, parameters in enumerate(drawn):
        mean, shape = _mean_and_shape(parameters, kind, x)
        simulated[row] = _statistics(rng.negative_binomial(shape, shape / (shape + mean)))
    low, median, high = np.nanquantile(simulated, [0.05, 0.5, 0.95], axis=0)
    names = ("zero_share", "top_tenth_share", "followers", "greatest")
    return {
        name: Check(float(o), float(a), float(b), float(c))
        for name, o, a, b, c in zip(names, _statistics(followers), low, median, high, strict=True)
    }


def _statistics(followers: NDArray[np.generic]) -> Floats:
    ordered = np.sort(np.asarray(followers, dtype=np.float64))[::-1]
    total = float(ordered.sum())
    top = float(ordered[: max(len(ordered) // 10, 1)].sum())
    return np.array(
        [np.mean(ordered == 0), top / total if total > 0 else np.nan, total, ordered[0]]
    )


def _mean_and_shape(parameters: Floats, kind: Ints, x: Floats) -> tuple[Floats, Floats]:
    intercept, slope, curve, log_phi, power = parameters[:5]
    log_mean = intercept + parameters[5:][kind] + (1.0 + slope) * x + curve * x**2
    log_mean = np.clip(log_mean, -25.0, 15.0)
    return np.exp(log_mean), np.exp(np.clip(power * log_mean - log_phi, -12.0, 12.0))


def _log_likelihood(parameters: Floats, kind: Ints, x: Floats, followers: Floats) -> float:
    mean, shape = _mean_and_shape(parameters, kind, x)
    total = shape + mean
    terms = (
        special.gammaln(shape + followers)
        - special.gammaln(shape)
        - special.gammaln(followers + 1.0)
        + shape * np.log(shape / total)
        + followers * np.log(mean / total)
    )
    return float(terms.sum())
