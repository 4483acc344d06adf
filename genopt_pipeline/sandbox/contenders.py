"""The policies that a closed loop compares: the product's own, and the bars they are held to.

Here: from the posts of many accounts to target shares. Not here: the loop (``loop``), and the
product's policies themselves, which are those of ``core`` unchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from genopt_pipeline.core.estimation import EstimationConfig, PostBatch, log_reach, posterior
from genopt_pipeline.core.estimation.statistics import sufficient_statistics
from genopt_pipeline.core.policies.contract import ExponentialConfig, Objective, ThompsonConfig
from genopt_pipeline.core.policies.exponential import PerformanceTable, exponential_target
from genopt_pipeline.core.policies.thompson import per_post, thompson_shares
from genopt_pipeline.sandbox.randomness import FloatArray

BoolArray = npt.NDArray[np.bool_]

#: The look-back of the user's calculator and of the gate.
WINDOW_HOURS: Final = 7 * 24.0
_ACCOUNTS_AT_ONCE: Final = 128

#: Posts seen so far and the generators that exist, both of all accounts -> target shares
#: (accounts, generators), and which accounts have any evidence to act on.
TargetRule = Callable[[PostBatch, BoolArray], tuple[FloatArray, BoolArray]]


@dataclass(frozen=True)
class Contender:
    """A policy in the loop. ``targets`` None: it never moves from its weights."""

    name: str
    targets: TargetRule | None
    #: begins (and, without targets, stays) with equal weights instead of the defaults
    starts_uniform: bool = False


def in_window(posts: PostBatch, hours: float = WINDOW_HOURS) -> PostBatch:
    """The posts of the last so many hours."""
    keep = posts.age_hours <= hours
    return replace(
        posts,
        account=posts.account[keep],
        generator=posts.generator[keep],
        age_hours=posts.age_hours[keep],
        impressions=posts.impressions[keep],
        followers=posts.followers[keep],
        information=None if posts.information is None else posts.information[keep],
    )


def _sums(posts: PostBatch, values: npt.NDArray[np.generic] | None = None) -> FloatArray:
    cells = posts.accounts * posts.generators
    index = posts.account * posts.generators + posts.generator
    sums = np.bincount(index, weights=values, minlength=cells)
    return sums.astype(np.float64).reshape(posts.accounts, posts.generators)


def _f_per_1k(followers: FloatArray, impressions: FloatArray) -> FloatArray:
    """Ratio of sums; NaN where nothing was seen."""
    seen = impressions > 0
    return np.where(seen, 1000.0 * followers / np.where(seen, impressions, 1.0), np.nan)


def exponential(config: ExponentialConfig | None = None) -> TargetRule:
    """The score-and-power policy of ``core`` on the last seven days."""
    settings = config or ExponentialConfig()
    floor = 0.02

    def targets(posts: PostBatch, present: BoolArray) -> tuple[FloatArray, BoolArray]:
        recent = in_window(posts)
        counts, followers = _sums(recent), _sums(recent, recent.followers)
        impressions = _sums(recent, recent.impressions)
        f_per_1k = _f_per_1k(followers, impressions)
        judged = recent.impressions > settings.judged_impressions
        high = recent.followers * 1000.0 > settings.viral_f_per_1k * recent.impressions
        viral = _sums(recent, judged & high)
        failed = _sums(recent, judged & (recent.followers <= 0))
        names = tuple(f"g{k}" for k in range(posts.generators))
        shares = np.empty(present.shape)
        evidence = np.empty(len(present), dtype=np.bool_)
        for a in range(posts.accounts):
            table = PerformanceTable(
                names=names,
                posts=counts[a].astype(np.int64),
                followers=followers[a],
                impressions=impressions[a],
                f_per_1k=f_per_1k[a],
                viral_posts=viral[a].astype(np.int64),
                failed_posts=failed[a].astype(np.int64),
            )
            target = exponential_target(table, present[a], floor, settings)
            shares[a], evidence[a] = target.shares, target.evidence
        return shares, evidence

    return targets


def best_takes_all(exploration: float = 0.15, min_posts: int = 3) -> TargetRule:
    """All but the exploration to the generator with the best F/1K of the last seven days.

    The simplest policy that learns, and so the honest bar. Generators with fewer than
    ``min_posts`` posts in the window are not judged.
    """

    def targets(posts: PostBatch, present: BoolArray) -> tuple[FloatArray, BoolArray]:
        recent = in_window(posts)
        rate = _f_per_1k(_sums(recent, recent.followers), _sums(recent, recent.impressions))
        judged = present & (_sums(recent) >= min_posts) & np.isfinite(rate)
        shares: FloatArray = exploration * present / present.sum(axis=1, keepdims=True)
        best = np.where(judged, rate, -np.inf).argmax(axis=1)
        shares[np.arange(len(shares)), best] += 1.0 - exploration
        return shares, np.asarray(judged.any(axis=1))

    return targets


def thompson(
    config: ThompsonConfig | None = None,
    estimation: EstimationConfig | None = None,
    objective: Objective = "f_per_1k",
) -> TargetRule:
    """The policy of ``core`` by the probability of being best, on all that it looks back on."""
    settings, estimate = config or ThompsonConfig(), estimation or EstimationConfig()

    def targets(posts: PostBatch, present: BoolArray) -> tuple[FloatArray, BoolArray]:
        statistics = sufficient_statistics(posts, estimate)
        reach = log_reach(posts, estimate) if objective == "followers_per_post" else None
        shares = np.empty(present.shape)
        for number, part in enumerate(statistics.chunks(_ACCOUNTS_AT_ONCE)):
            rows = slice(number * _ACCOUNTS_AT_ONCE, (number + 1) * _ACCOUNTS_AT_ONCE)
            known = posterior(part, estimate, present[rows])
            if reach is not None:
                known = per_post(known, reach[rows])
            shares[rows] = thompson_shares(known, present[rows], settings)
        return shares, np.asarray(statistics.posts.any(axis=1))

    return targets


#: The policies by name, with the settings of the product. The oracle is no contender: it knows
#: the true rates, and every result is measured against it.
CONTENDERS: Final[Mapping[str, Contender]] = {
    contender.name: contender
    for contender in (
        Contender("uniform", None, starts_uniform=True),
        Contender("default", None),
        Contender("exponential", exponential()),
        Contender("best_takes_all", best_takes_all()),
        Contender("thompson", thompson()),
    )
}
