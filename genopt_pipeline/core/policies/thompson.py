"""The policy ``thompson``: weights by the probability of being the best, sharpened.

Here: from posteriors to target shares, for one account with its reasons or for any number of
accounts at once. Not here: the posterior (``estimation``), the guards (``guards``).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from genopt_pipeline.core.estimation.comparison import compare, probability_best
from genopt_pipeline.core.estimation.config import EstimationConfig
from genopt_pipeline.core.estimation.impressions import log_reach
from genopt_pipeline.core.estimation.posterior import Posterior, posterior
from genopt_pipeline.core.estimation.statistics import (
    Floats,
    Ints,
    PostBatch,
    SufficientStatistics,
    sufficient_statistics,
)
from genopt_pipeline.core.guards import guarded_step, round_to_units
from genopt_pipeline.core.policies.contract import Objective, Target, ThompsonConfig
from genopt_pipeline.core.policies.exponential import PerformanceTable
from genopt_pipeline.core.policies.inputs import PostArrays

#: Standard normal quantile of a 90 % interval.
_Z90 = 1.6448536269514722

#: A change of rate is mentioned from this probability on.
_CHANGE_WORTH_SAYING = 0.9


def thompson_shares(known: Posterior, present: NDArray[np.bool_], config: ThompsonConfig) -> Floats:
    """Target shares (accounts, generators): ``(1 - exploration) P(best)^kappa + exploration/n``.

    P(best)^kappa is normalised. A generator's kappa goes from 1 to ``sharpness`` with the fourth
    power of the probability that the generators differ at all (where they may not, sharpening
    would chase noise: it waits until that is nearly excluded), and with what is known of this one
    (``1 - shrink^4``): one that has hardly been tried keeps the whole of its chance, which in
    simulation finds a new best generator sooner and costs nothing elsewhere.
    """
    best = probability_best(known.log_mean, known.log_sd, present)
    return _shares(best, known, present, config)


def _shares(
    best: Floats, known: Posterior, present: NDArray[np.bool_], config: ThompsonConfig
) -> Floats:
    tried = 1.0 - known.shrink**4
    power = 1.0 + (config.sharpness - 1.0) * tried * known.differ[:, None] ** 4
    sharp = np.where(present, best**power, 0.0)
    sharp /= np.maximum(sharp.sum(axis=1, keepdims=True), 1e-300)
    uniform = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
    return np.asarray((1.0 - config.exploration) * sharp + config.exploration * uniform)


def failing_probability(known: Posterior, config: ThompsonConfig) -> Floats:
    """P(rate < ``failing_share`` of the account's), (accounts, generators); 0 where unknown."""
    limit = np.log(config.failing_share * np.where(known.level > 0, known.level, 1.0))
    below = special.ndtr((limit[:, None] - known.log_mean) / known.log_sd)
    return np.where(known.level[:, None] > 0, below, 0.0)


def propose_batch(
    statistics: SufficientStatistics,
    weights: Floats,
    lower: Floats,
    upper: Floats,
    *,
    step: float = 0.30,
    thompson: ThompsonConfig | None = None,
    estimation: EstimationConfig | None = None,
    reach: Floats | None = None,
    chunk: int = 192,
) -> tuple[Floats, Ints]:
    """Guarded weights of many accounts at once, in chunks, so that memory stays bounded.

    weights, lower, upper: (accounts, generators); equal bounds hold a generator where it is, both
    0 leave it out. reach: ``log_reach`` where followers per post are sought, (accounts,
    generators). Returns the weights before rounding, and in units of 1/10,000 as stored.
    There is no gate here; leave out accounts that should not move.
    """
    thompson, estimation = thompson or ThompsonConfig(), estimation or EstimationConfig()
    exact, stored = np.empty_like(weights), np.empty(weights.shape, dtype=np.int64)
    for start, part in enumerate(statistics.chunks(chunk)):
        rows = slice(start * chunk, (start + 1) * chunk)
        low, high = lower[rows], upper[rows]
        present = high > 0
        known = posterior(part, estimation, present)
        if reach is not None:
            known = per_post(known, reach[rows])
        targets = thompson_shares(known, present, thompson)
        exact[rows] = guarded_step(weights[rows], targets, low, high, step)[2]
        stored[rows] = round_to_units(exact[rows], low, high)
    return exact, stored


def per_post(known: Posterior, reach: Floats) -> Posterior:
    """The same of followers per post, in those of a post of the account's reach; see ``log_reach``.

    Only what compares generators changes; ``level`` and ``interval_log_sd`` stay those of rates.
    """
    return replace(known, log_mean=known.log_mean + reach)


def thompson_target(
    posts: PostArrays,
    drawn: NDArray[np.bool_],
    floor: float,
    config: ThompsonConfig,
    estimation: EstimationConfig,
    *,
    names: Sequence[str],
    objective: Objective = "f_per_1k",
) -> Target:
    """Target of one account from its posts."""
    n = len(posts)
    batch = PostBatch(
        accounts=1,
        generators=len(names),
        account=np.zeros(n, dtype=np.int64),
        generator=posts.generator,
        age_hours=posts.age_days * 24.0,
        impressions=posts.impressions,
        followers=posts.followers,
        information=posts.information,
    )
    statistics = sufficient_statistics(batch, estimation)
    reach = np.where(drawn, log_reach(batch, estimation), 0.0)
    return _target(statistics, names, drawn, floor, config, estimation, objective, reach)


def thompson_target_from_table(
    table: PerformanceTable,
    drawn: NDArray[np.bool_],
    floor: float,
    config: ThompsonConfig,
    estimation: EstimationConfig,
) -> Target:
    """Target of one account from counts alone: posts of unknown age, taken as equal and mature.

    With M followers expected of each of n posts, a follower is worth ``1 / (1 + phi M)``; M comes
    from the account's rate, so that weights do not depend on a generator's luck.
    """
    exposure, followers = table.impressions / 1000.0, np.maximum(table.followers, 0.0)
    total = exposure[drawn].sum()
    rate = followers[drawn].sum() / total if total > 0 else 0.0
    a_post = rate * exposure / np.maximum(table.posts, 1)
    weight = 1.0 / (1.0 + estimation.dispersion * a_post)
    bins = len(estimation.cut_days) + 1
    shape = (1, len(table.names), bins)
    y, e = np.zeros(shape), np.zeros(shape)
    y[0, :, 0], e[0, :, 0] = weight * followers, weight * exposure
    statistics = SufficientStatistics(y, e, table.posts[None, :], np.array([estimation.dispersion]))
    return _target(
        statistics, table.names, drawn, floor, config, estimation, "f_per_1k", reach=None
    )


def _target(
    statistics: SufficientStatistics,
    names: Sequence[str],
    drawn: NDArray[np.bool_],
    floor: float,
    config: ThompsonConfig,
    estimation: EstimationConfig,
    objective: Objective,
    reach: Floats | None,
) -> Target:
    present = drawn[None, :]
    known = posterior(statistics, estimation, present)
    sought = known
    if objective == "followers_per_post" and reach is not None:
        sought = per_post(known, reach)
    comparison = compare(sought.log_mean, sought.log_sd, present)
    shares = _shares(comparison.best, known, present, config)[0]
    objectives = _objectives(known, reach, names, present, config)
    fails = failing_probability(known, config)[0]
    failing = drawn & (fails > config.failing_probability)
    rest = drawn & ~failing
    if failing.any() and rest.any():
        shares[rest] *= (1.0 - floor * failing.sum()) / shares[rest].sum()
        shares[failing] = floor
    evidence = bool(statistics.exposure[0, drawn].sum() > 0)
    mean = np.exp(known.log_mean[0] + known.log_sd[0] ** 2 / 2.0)
    rates = np.where(drawn & evidence, mean, np.nan)
    facts = [
        _facts(k, statistics, known, float(comparison.best[0, k]), float(comparison.loss[0, k]))
        | {
            "p_failing": _digits(fails[k]),
            "reach_ratio": None if reach is None else _digits(np.exp(reach[0, k])),
        }
        for k in range(len(names))
    ]
    reasons = tuple(
        _reason(
            fact,
            failing=bool(failing[k]),
            p_failing=float(fails[k]),
            evidence=evidence,
            config=config,
        )
        if drawn[k]
        else "not drawn"
        for k, fact in enumerate(facts)
    )
    diagnostics = {
        "generators": {name: fact for name, fact, d in zip(names, facts, drawn, strict=True) if d},
        "objective": objective,
        "objectives": objectives,
        "level_f_per_1k": _digits(known.level[0]),
        "spread": _digits(known.spread[0]),
        "p_differ": _digits(known.differ[0]),
        "p_drift": _digits(known.drift[0]),
        "dispersion": _digits(statistics.dispersion[0]),
        "horizon_days": estimation.horizon_days,
        "half_life_days": estimation.half_life_days,
    }
    return Target(shares, reasons, failing, rates, evidence, diagnostics)


def _objectives(
    known: Posterior,
    reach: Floats | None,
    names: Sequence[str],
    present: NDArray[np.bool_],
    config: ThompsonConfig,
) -> dict[str, Any]:
    """Which generator each objective prefers, and what seeking followers per post would be worth.

    ``gain_per_post``: expected followers per post of that objective's target over those of the
    target for F/1K, minus 1; None where reach or rates are not known.
    """
    if reach is None or not np.isfinite(known.level[0]):
        return {"agree": None, "best": None, "gain_per_post": None}
    rate = np.exp(known.log_mean[0] + known.log_sd[0] ** 2 / 2.0 + reach[0])
    best, value = {}, {}
    for name, each in (("f_per_1k", known), ("followers_per_post", per_post(known, reach))):
        chance = probability_best(each.log_mean, each.log_sd, present)
        best[name] = names[int(np.argmax(chance[0]))]
        value[name] = float(_shares(chance, known, present, config)[0] @ rate)
    return {
        "agree": best["f_per_1k"] == best["followers_per_post"],
        "best": best,
        "gain_per_post": _digits(value["followers_per_post"] / value["f_per_1k"] - 1.0),
    }


def _facts(
    k: int, statistics: SufficientStatistics, known: Posterior, p_best: float, loss: float
) -> dict[str, Any]:
    """What is known of one generator; rates are F/1K, intervals hold 90 % of the posterior."""
    middle, sd = float(known.log_mean[0, k]), float(known.interval_log_sd[0, k])
    change = float(known.change_probability[0, k])
    return {
        "posts": int(statistics.posts[0, k]),
        "f_per_1k": _digits(np.exp(middle)),
        "f_per_1k_low": _digits(np.exp(middle - _Z90 * sd)),
        "f_per_1k_high": _digits(np.exp(middle + _Z90 * sd)),
        "log_mean": _digits(middle),
        "log_sd": _digits(known.log_sd[0, k]),
        "p_best": _digits(p_best),
        "expected_loss": _digits(loss),
        "shrink": _digits(known.shrink[0, k]),
        "p_change": _digits(change),
        "change_days_ago": float(known.change_days[0, k]),
    }


def _digits(value: Any) -> float | None:
    """Ten significant digits: what differs beyond is the processor's, not the data's."""
    number = float(value)
    return float(f"{number:.10g}") if np.isfinite(number) else None


def _reason(
    fact: dict[str, Any],
    *,
    failing: bool,
    p_failing: float,
    evidence: bool,
    config: ThompsonConfig,
) -> str:
    posts = fact["posts"]
    said = (
        f"F/1K {fact['f_per_1k']:.3g} (90 % {fact['f_per_1k_low']:.3g} to "
        f"{fact['f_per_1k_high']:.3g}), P(best) {fact['p_best']:.3f}, "
        f"{posts} post{'' if posts == 1 else 's'}"
    )
    if failing:
        said = (
            f"failing: below {config.failing_share:.0%} of the account's rate with probability "
            f"{p_failing:.2f}; {said}"
        )
    elif not evidence:
        said = f"nothing is measured of any generator, so this is the prior alone: {said}"
    elif posts == 0:
        said = f"new: {said}, so the account's other generators are all that is known"
    if fact["p_change"] > _CHANGE_WORTH_SAYING:
        said += (
            f", rate changed about {fact['change_days_ago']:g} days ago "
            f"(probability {fact['p_change']:.2f})"
        )
    return said
