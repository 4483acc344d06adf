"""Fit of the model to one account: rates by generalised least squares, the rest by likelihood.

Here: the search for rates, baseline, lag, frailty and unfollows, and the frailty of each post. Not
here: the equations (``likelihood``), the prior of the rates (``shrinkage``), the report
(``engine``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import sparse

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.frailties import settle
from genopt_pipeline.core.attribution.frames import BoolArray, FloatArray, Problem
from genopt_pipeline.core.attribution.lag import exposure_matrix
from genopt_pipeline.core.attribution.learned import Learned
from genopt_pipeline.core.attribution.likelihood import (
    Changes,
    Equations,
    Noise,
    arrange_changes,
    equations,
)
from genopt_pipeline.core.attribution.model import Fit
from genopt_pipeline.core.attribution.rates import ExposurePerImpression, common_variance
from genopt_pipeline.core.attribution.shrinkage import Rates, shrink

_TINY: Final = 1e-12
#: of the account's growth, before anything is known: posts, organic net growth, unfollows
_FIRST_NET_SHARE: Final = 0.2
_FIRST_UNFOLLOW_SHARE: Final = 0.1
#: sd of the prior of the organic net growth, in units of the account's growth
_NET_SD: Final = 3.0
#: log sd of the priors of lag, frailty and unfollows about their medians, the step of their
#: numerical derivatives, and the range of the logs about the median
_LOG_SD: Final = {"lag": 0.5, "frailty": 1.0, "unfollows": 1.5}
_DIFFERENCE: Final = {"lag": 0.15, "frailty": 0.3, "unfollows": 0.3}
_RANGE: Final = 3.0
_LONGEST_STEP: Final = 0.8
_NEWTON_STEPS: Final = 4
_GLS_STEPS: Final = 3
_LOWEST_FRAILTY: Final = 0.02
#: spread of the prior of the rates to split by: hardly any prior
_WIDE_SPREAD: Final = 2.5
#: generators whose rates show how far they are apart, and the least that is kept of a rate
_FEWEST_TO_SPREAD: Final = 3
_LEAST_KEPT: Final = 0.25
#: log sd at which a generator's rate counts as unknown
_UNKNOWN_SD: Final = 10.0
#: posts whose variance is computed at once, to bound the memory
_POSTS_AT_ONCE: Final = 256
#: scalings of the rates to the right total, and the relative error at which they stop
_LEVELLINGS: Final = 3
_LEVEL: Final = 0.005
#: arrivals below this share of a post's are left out of the fit (not of the split)
_NEGLIGIBLE: Final = 1e-3


def fit(
    problem: Problem,
    used: BoolArray,
    config: AttributionConfig,
    per_impression: ExposurePerImpression,
    learned: Learned | None = None,
    *,
    variance: bool = True,
) -> Fit:
    """All rates and parameters; ``problem`` is on the audience's clock.

    With parameters ``learned`` in an earlier fit of the account only the rates and the
    baseline are fitted, at a tenth of the cost. ``variance``: whether each post's is wanted.
    """
    search = _Search(problem, used, config, per_impression, known=learned is not None)
    logs = search.start(learned)
    state = search.state(logs, learned=learned)
    errors: dict[str, float] = {}
    steps = 0
    for steps in range(1, (_NEWTON_STEPS if search.free else 0) + 1):  # noqa: B007 - reported
        logs, moved, errors = search.newton(logs, state)
        state = search.state(logs, state)
        if moved < config.newton_tolerance:
            break
    converged = not search.free or moved < 5.0 * config.newton_tolerance
    unsure = search.moved_by_parameters(logs, state, errors)
    return search.finish(logs, state, errors, steps, converged, unsure, variance=variance)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Rates at given parameters."""

    changes: Changes
    equations: Equations
    noise: Noise
    rates: Rates
    net: float
    net_sd: float
    #: the rates' own information and score, given the baseline
    information: FloatArray
    score: FloatArray


class _Search:
    """The fit of one account in progress."""

    def __init__(
        self,
        problem: Problem,
        used: BoolArray,
        config: AttributionConfig,
        per_impression: ExposurePerImpression,
        *,
        known: bool,
    ) -> None:
        self._used, self._config, self._per_impression = used, config, per_impression
        self._hours = problem.hours[used]
        self._delta = problem.delta[used]
        hours = float(self._hours.sum())
        # exposure in units of a mean hour's: rates and baseline then have one scale
        total = float(problem.amount.sum())
        self._scale = total / hours if total > 0.0 else 1.0
        self._problem = replace(problem, amount=problem.amount / self._scale)
        #: followers an hour, to scale what is not known yet
        self._growth = max(float(np.abs(self._delta).sum()), 1.0) / hours
        clicks = problem.exposure_kind.startswith("profile_clicks")
        self._medians = {
            "lag": config.lag_hours,
            "frailty": config.click_frailty_variance if clicks else config.frailty_variance,
            "unfollows": _FIRST_UNFOLLOW_SHARE * self._growth,
        }
        wanted = {
            "lag": config.estimate_lag,
            "frailty": config.estimate_frailty,
            "unfollows": True,
        }
        some = bool(len(problem.amount)) and len(self._delta) > 2
        self.free = [name for name in self._medians if wanted[name] and some and not known]
        self._net_prior = (_FIRST_NET_SHARE * self._growth, (_NET_SD * self._growth) ** -2)
        self._changes_at: dict[float, Changes] = {}
        self._exposures: dict[float, sparse.csr_array] = {}

    def start(self, learned: Learned | None) -> dict[str, float]:
        """Logs of lag, frailty and unfollows to begin with."""
        first = self._medians
        if learned is not None:
            first = {
                "lag": learned.lag_hours,
                "frailty": learned.frailty_variance,
                "unfollows": learned.unfollows_per_hour,
            }
        return {name: float(np.log(value)) for name, value in first.items()}

    def _changes(self, log_lag: float) -> Changes:
        if log_lag not in self._changes_at:
            problem = self._problem
            exposure = exposure_matrix(problem, float(np.exp(log_lag)))
            self._exposures[log_lag] = exposure
            self._changes_at[log_lag] = arrange_changes(
                self._delta,
                self._hours,
                _without_negligible(exposure[np.flatnonzero(self._used)]),
                problem.generator_of,
                len(problem.generators),
            )
        return self._changes_at[log_lag]

    def state(
        self,
        logs: Mapping[str, float],
        before: _State | None = None,
        *,
        learned: Learned | None = None,
    ) -> _State:
        """Rates by generalised least squares, whose weights depend on the rates: a few steps."""
        changes = self._changes(logs["lag"])
        k = changes.n_generators
        total = float(changes.design[:, :k].sum())
        first = (1.0 - _FIRST_NET_SHARE) * self._growth * float(self._hours.sum())
        level = first / total if total > 0.0 else 1.0
        steps = _GLS_STEPS - 1
        if before is not None:
            rate, net, spread = before.noise.rate, before.net, before.rates.spread
        elif learned is not None:
            place = learned.position(self._problem.generators)
            rate = np.append(learned.rate * self._scale, level)[place]
            net, spread, steps = learned.net_per_hour, learned.rate_spread, 1
        else:
            steps = _GLS_STEPS
            rate, net = np.full(k, level), self._net_prior[0]
            spread = self._config.rate_spread
        for _ in range(steps):
            noise = Noise(
                rate, net, float(np.exp(logs["unfollows"])), float(np.exp(logs["frailty"]))
            )
            solved = equations(changes, noise)
            net, net_variance = self._net(solved, rate, spread)
            cross = solved.information[:-1, -1]
            information = solved.information[:-1, :-1]
            score = solved.score[:-1] - cross * net
            rates = shrink(information, score, rate, level, self._config.rate_spread)
            rate, spread = rates.rate, rates.spread
        return _State(
            changes,
            solved,
            noise,
            rates,
            net,
            float(np.sqrt(net_variance)),
            information,
            score,
        )

    def _net(self, solved: Equations, rate: FloatArray, spread: float) -> tuple[float, float]:
        """Posterior mean and variance of b − u, the rates integrated out.

        Over a normal prior of the rates, which is linear in the changes and so takes nothing from
        the baseline on average; that rates are positive would.
        """
        k = len(rate)
        level = float(np.exp(np.log(rate).mean())) if k else 1.0
        away = np.eye(k) - 1.0 / max(k, 1)
        prior = np.zeros((k + 1, k + 1))
        prior[:k, :k] = away / (level**2 * np.expm1(spread**2)) + 1e-6 / level**2
        mean, prior[k, k] = self._net_prior
        score = solved.score + np.append(np.zeros(k), prior[k, k] * mean)
        inverse = np.linalg.inv(solved.information + prior)
        return float(inverse[k] @ score), float(inverse[k, k])

    def newton(
        self, logs: dict[str, float], state: _State
    ) -> tuple[dict[str, float], float, dict[str, float]]:
        """A step of Newton's method on the penalised restricted likelihood of the parameters.

        Returns the new logs, the largest move, and the standard errors of the logs.
        """

        def value(point: FloatArray) -> float:
            return self._log_posterior(
                logs | dict(zip(self.free, point.tolist(), strict=True)), state
            )

        at = np.array([logs[name] for name in self.free])
        step = np.array([_DIFFERENCE[name] for name in self.free])
        here, gradient, hessian = _derivatives(value, at, step)
        curvature = _positive(-hessian, np.array([_LOG_SD[name] for name in self.free]) ** -2)
        move = np.clip(np.linalg.solve(curvature, gradient), -_LONGEST_STEP, _LONGEST_STEP)
        middle = np.log([self._medians[name] for name in self.free])
        for _ in range(3):
            new = np.clip(at + move, middle - _RANGE, middle + _RANGE)
            if value(new) >= here:
                break
            move *= 0.4
        else:
            new = at
        errors = np.sqrt(np.diag(np.linalg.inv(curvature)))
        return (
            logs | dict(zip(self.free, new.tolist(), strict=True)),
            float(np.max(np.abs(new - at))),
            dict(zip(self.free, errors.tolist(), strict=True)),
        )

    def _log_posterior(self, logs: Mapping[str, float], state: _State) -> float:
        noise = Noise(
            state.noise.rate,
            state.net,
            float(np.exp(logs["unfollows"])),
            float(np.exp(logs["frailty"])),
        )
        solved = equations(self._changes(logs["lag"]), noise)
        level, spread = state.rates.level, max(state.rates.spread, 0.1)
        k = len(solved.score) - 1
        mean = np.append(np.full(k, level), self._net_prior[0])
        precision = np.append(np.full(k, (spread * level) ** -2), self._net_prior[1])
        prior = sum(
            ((logs[name] - np.log(self._medians[name])) / _LOG_SD[name]) ** 2 for name in self.free
        )
        return solved.log_likelihood(mean, precision) - 0.5 * float(prior)

    def moved_by_parameters(
        self, logs: Mapping[str, float], state: _State, errors: Mapping[str, float]
    ) -> FloatArray:
        """Variance of the log rates, (K,), that comes from parameters known with an error.

        Each is moved by its standard error, and the rates follow.
        """
        here = np.log(state.rates.rate)
        variance = np.zeros(len(here))
        for name, error in errors.items():
            moved = self.state({**logs, name: logs[name] + min(error, _LONGEST_STEP)}, state)
            variance += (np.log(moved.rates.rate) - here) ** 2
        return variance

    def finish(
        self,
        logs: Mapping[str, float],
        state: _State,
        errors: Mapping[str, float],
        steps: int,
        converged: bool,
        unsure: FloatArray,
        *,
        variance: bool,
    ) -> Fit:
        """The fitted model, with each post's frailty."""
        problem = self._problem
        lag, frailty = float(np.exp(logs["lag"])), float(np.exp(logs["frailty"]))
        unfollows = float(np.exp(logs["unfollows"]))
        organic = Noise(state.noise.rate, state.net, unfollows, frailty).organic
        split, split_covariance = self._split_rates(state)
        theta = self._frailties(state, split, frailty)
        exposure = self._exposures[logs["lag"]]
        split, theta = self._levelled(
            exposure, split, theta, state.net, organic, unfollows, frailty
        )
        u_error = errors.get("unfollows", _LOG_SD["unfollows"]) * unfollows
        named = {
            "b_per_hour": float(np.hypot(state.net_sd, u_error)),
            "u_per_hour": u_error,
        } | {f"log_{name}": errors[name] for name in ("lag", "frailty") if name in errors}
        scale = self._scale
        by_net = _moved_by_net(state, state.rates)
        return Fit(
            exposure=exposure * scale,
            split_rate=split / scale,
            split_covariance=split_covariance,
            rate=state.rates.rate / scale,
            log_covariance=state.rates.log_covariance + by_net,
            log_mean=state.rates.log_mean - np.log(scale),
            log_sd=np.sqrt(state.rates.log_sd**2 + np.diag(by_net) + unsure),
            frailty=theta,
            explained=self.explained(state, split) if variance else None,
            organic=organic * problem.hours,
            unfollows=unfollows * problem.hours,
            organic_per_hour=organic,
            unfollows_per_hour=unfollows,
            net_per_hour=state.net,
            lag_hours=lag,
            frailty_variance=frailty,
            level=state.rates.level / scale,
            rate_spread=state.rates.spread,
            errors=named,
            log_likelihood=state.equations.log_scale,
            iterations=steps,
            converged=converged,
        )

    def _levelled(
        self,
        exposure: sparse.csr_array,
        split: FloatArray,
        theta: FloatArray,
        net: float,
        organic: float,
        unfollows: float,
        frailty: float,
    ) -> tuple[FloatArray, FloatArray]:
        """The rates scaled so that posts get in total what the baseline leaves, and the frailties.

        The modes of the frailties, which are positive, credit one or two per cent more than the
        unbiased solution; the rates are scaled together, so that nothing else changes.
        """
        wanted = float(self._delta.sum()) - net * float(self._hours.sum())
        seen = exposure[np.flatnonzero(self._used)]
        total = np.asarray(seen.sum(axis=0)).ravel()
        for _ in range(_LEVELLINGS):
            own = split[self._problem.generator_of]
            theta = settle(
                seen,
                own,
                theta,
                delta=self._delta,
                organic=organic * self._hours,
                unfollows=unfollows * self._hours,
                a=1.0 / frailty,
                config=self._config,
            )
            # at the mode θ = (a + F)/(a + λe)
            credited = float((theta * (1.0 / frailty + own * total) - 1.0 / frailty).sum())
            if not (wanted > 0.0 and credited > 0.0) or abs(wanted / credited - 1.0) < _LEVEL:
                break
            split = split * np.clip((wanted / credited) ** 2, 0.5, 2.0)
        return split, theta

    def _split_rates(self, state: _State) -> tuple[FloatArray, FloatArray]:
        """The rates to split by, (K,), and the covariance of their logs, (K, K).

        From impressions these are the account's own, hardly drawn together: the estimation that
        reads the credit draws rates together itself, and credit drawn together before would look
        to it like generators that hardly differ. Followers per profile click, which are no rates
        of generators but a nuisance on the way to them, are drawn together, which is then taken
        out of the rates per impression as a whole.
        """
        if self._problem.exposure_kind.startswith("profile_clicks"):
            rates = state.rates
            return _as_likelihood(
                rates.rate,
                rates.log_covariance + _moved_by_net(state, rates),
                self._per_impression,
            )
        rates = shrink(
            state.information,
            state.score,
            state.rates.rate,
            state.rates.level,
            _WIDE_SPREAD,
            learn_spread=False,
        )
        scale = state.rates.rate
        known = state.information * np.outer(scale, scale)
        alone = np.linalg.inv(known + np.eye(len(scale)) / _UNKNOWN_SD**2)
        moves = alone @ (scale * state.equations.information[:-1, -1])
        return rates.rate, alone + np.outer(moves, moves) * state.net_sd**2

    def _frailties(self, state: _State, rate: FloatArray, frailty: float) -> FloatArray:
        """Best linear θ̂, (P,)."""
        changes = state.changes
        expected = changes.design @ np.append(rate, state.net)
        back = changes.exposure.T @ state.equations.solve(changes.delta - expected)
        theta = 1.0 + frailty * rate[changes.generator_of] * back
        return np.asarray(np.maximum(theta, _LOWEST_FRAILTY))

    def explained(self, state: _State, rate: FloatArray) -> FloatArray:
        """λ²e_pᵀV⁻¹e_p of each post, λ its generator's rate: how well the changes see it."""
        exposure = state.changes.exposure
        seen = np.zeros(exposure.shape[1])
        for first in range(0, len(seen), _POSTS_AT_ONCE):
            some = exposure[:, first : first + _POSTS_AT_ONCE].toarray()
            seen[first : first + some.shape[1]] = (some * state.equations.solve(some)).sum(axis=0)
        return seen * rate[state.changes.generator_of] ** 2


def _as_likelihood(
    rate: FloatArray, covariance: FloatArray, per_impression: ExposurePerImpression
) -> tuple[FloatArray, FloatArray]:
    """Rates and covariance that, drawn together once more, give the posterior of F/1K that is.

    With followers per click drawn together, log F/1K has posterior mean μ and variance s² about the
    account's level, and over generators the variance τ² = Var(μ) + mean s². Divided by that prior
    the posterior is a likelihood with mean μ/k and variance s²/k, k = 1 − s²/τ². Who reads credit
    by these rates may draw it together as if it had been counted.
    """
    unit, unit_variance = per_impression.unit, per_impression.log_variance
    known = np.isfinite(unit) & (unit > 0.0)
    log_unit = np.log(np.where(known, unit, 1.0))
    if known.sum() < _FEWEST_TO_SPREAD:
        return rate, covariance
    whole = covariance + np.diag(unit_variance)
    own = np.maximum(np.diag(whole) - common_variance(whole), 0.0)
    middle = np.log(rate) + log_unit
    middle -= middle[known].mean()
    variance = float(middle[known].var(ddof=1) + own[known].mean())
    keep = np.where(known, np.clip(1.0 - own / max(variance, _TINY), _LEAST_KEPT, 1.0), 1.0)
    moved = np.where(known, middle * (1.0 / keep - 1.0), 0.0)
    widened = np.sqrt(np.outer(1.0 / keep, 1.0 / keep))
    return rate * np.exp(moved), whole * widened - np.diag(unit_variance)


def _moved_by_net(state: _State, rates: Rates) -> FloatArray:
    """Covariance of the log rates that comes from the baseline's uncertainty."""
    cross = state.equations.information[:-1, -1]
    moves = rates.log_covariance @ (rates.rate * cross)
    return np.outer(moves, moves) * state.net_sd**2


def _without_negligible(exposure: sparse.csr_array) -> sparse.csc_array:
    by_post = exposure.tocsc()
    by_post.sort_indices()
    total = np.asarray(by_post.sum(axis=0)).ravel()
    length = np.diff(by_post.indptr)
    keep = by_post.data > np.repeat(_NEGLIGIBLE * total, length)
    post = np.repeat(np.arange(len(length)), length)[keep]
    return sparse.csc_array(
        (
            by_post.data[keep],
            by_post.indices[keep],
            np.append(0, np.cumsum(np.bincount(post, minlength=len(length)))),
        ),
        shape=by_post.shape,
    )


def _derivatives(
    value: Callable[[FloatArray], float], at: FloatArray, step: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Value, gradient and Hessian by differences."""
    n = len(at)
    shift = np.diag(step)
    here = value(at)
    up = np.array([value(at + shift[i]) for i in range(n)])
    down = np.array([value(at - shift[i]) for i in range(n)])
    gradient = (up - down) / (2.0 * step)
    hessian = np.diag((up - 2.0 * here + down) / step**2)
    for i in range(n):
        for j in range(i):
            both = value(at + shift[i] + shift[j])
            hessian[i, j] = hessian[j, i] = (both - up[i] - up[j] + here) / (step[i] * step[j])
    return here, gradient, hessian


def _positive(matrix: FloatArray, least: FloatArray) -> FloatArray:
    """The matrix where it is no less certain than half the prior, else its diagonal."""
    if np.linalg.eigvalsh(matrix - 0.5 * np.diag(least)).min() > 0.0:
        return matrix
    return np.diag(np.maximum(np.diag(matrix), least))
