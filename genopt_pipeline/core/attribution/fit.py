"""Fit of the model by expectation-maximisation, monotone in the penalised likelihood."""

import numpy as np

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.frames import BoolArray, Problem
from genopt_pipeline.core.attribution.lag import exposure_matrix
from genopt_pipeline.core.attribution.model import Fit
from genopt_pipeline.core.attribution.skellam import hidden_counts, log_likelihood

_TINY = 1e-12


def fit(problem: Problem, used: BoolArray, config: AttributionConfig) -> Fit:
    """Posterior mode of all rates by EM at a fixed lag."""
    exposure = exposure_matrix(problem, config.lag_hours)
    coo = exposure.tocoo()
    keep = used[coo.coords[0]]
    j, p, e = coo.coords[0][keep], coo.coords[1][keep], coo.data[keep]
    g = problem.generator_of
    n_windows, n_posts, n_generators = (
        len(problem.delta),
        len(problem.posts),
        len(problem.generators),
    )
    hours = np.where(used, problem.hours, 0.0)
    delta = problem.delta
    total_hours = hours.sum()
    total_exposure = e.sum()
    e_post = np.bincount(p, e, n_posts)
    a = 1.0 / config.frailty_variance
    kappa = 1.0 / config.rate_spread**2
    gain = max(float(delta[used].sum()), 1.0)
    mean_rate = 0.7 * gain / total_exposure if total_exposure > 0.0 else 0.0
    b = max(0.3 * gain / total_hours, 0.01) if total_hours > 0 else 0.01
    u = 0.1 * b + 0.01
    rate = np.full(n_generators, mean_rate)
    theta = np.ones(n_posts)
    last, iteration, converged = -np.inf, 0, False
    for iteration in range(1, config.max_iterations + 1):  # noqa: B007 - reported below
        r = (rate[g] * theta)[p] * e
        m = np.maximum(b * hours + np.bincount(j, r, n_windows), _TINY)
        n = np.maximum(u * hours, _TINY)
        follows, unfollows, _ = hidden_counts(delta, m, n)
        credit = np.bincount(p, r * (follows / m)[j], n_posts)
        omega = a / (a + rate[g] * e_post)
        theta = (a + credit) / (a + rate[g] * e_post)
        if mean_rate > 0.0:
            mean_rate = float((omega * credit).sum() / max((omega * e_post).sum(), _TINY))
            mean_rate = max(mean_rate, _TINY)
            rate = (kappa + np.bincount(g, omega * credit, n_generators)) / (
                kappa / mean_rate + np.bincount(g, omega * e_post, n_generators)
            )
        if total_hours > 0:
            b = max(float((follows * b * hours / m)[used].sum() / total_hours), 1e-9)
            u = max(float(unfollows[used].sum() / total_hours), 1e-9)
        value = float(log_likelihood(delta[used], m[used], n[used]).sum())
        converged = abs(value - last) < config.tolerance * (1.0 + abs(value))
        if converged:
            break
        last = value
    information = np.bincount(g, rate[g] * e_post * omega, n_generators) + kappa
    return Fit(
        exposure=exposure,
        used=used,
        rate=rate,
        rate_covariance=np.diag(1.0 / information),
        frailty=theta,
        organic=b * problem.hours,
        unfollows=u * problem.hours,
        organic_per_hour=b,
        unfollows_per_hour=u,
        lag_hours=config.lag_hours,
        frailty_variance=config.frailty_variance,
        rate_spread=config.rate_spread,
        log_likelihood=last,
        iterations=iteration,
        converged=converged,
    )
