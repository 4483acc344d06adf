"""The policy ``exponential``: scores between the worst and the best F/1K, raised to a power.

Here: from a table of per-generator counts to target weights. Not here: the guards, and where the
counts come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genopt_pipeline.core.policies.contract import ExponentialConfig, Target
from genopt_pipeline.core.policies.inputs import PostArrays
from genopt_pipeline.core.tiers import ONE_FOLLOWER

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PerformanceTable:
    """Counts of one account's generators in a window, arrays of shape (generators,).

    f_per_1k is NaN where there were no impressions (not measured, which is not zero).
    """

    names: tuple[str, ...]
    posts: NDArray[np.int64]
    followers: Floats
    impressions: Floats
    f_per_1k: Floats
    viral_posts: NDArray[np.int64]
    failed_posts: NDArray[np.int64]


def performance_table(
    posts: PostArrays, names: Sequence[str], config: ExponentialConfig
) -> PerformanceTable:
    """Sum posts by generator. F/1K is the ratio of sums, not the mean of ratios."""
    n = len(names)

    def total(values: Floats) -> Floats:
        return np.bincount(posts.generator, weights=values, minlength=n).astype(np.float64)

    judged = posts.impressions > config.judged_impressions
    viral = judged & (posts.followers * 1000.0 > config.viral_f_per_1k * posts.impressions)
    failed = judged & (posts.followers < ONE_FOLLOWER)
    followers, impressions = total(posts.followers), total(posts.impressions)
    seen = impressions > 0
    f_per_1k = np.full(n, np.nan)
    f_per_1k[seen] = 1000.0 * followers[seen] / impressions[seen]
    return PerformanceTable(
        names=tuple(names),
        posts=np.bincount(posts.generator, minlength=n),
        followers=followers,
        impressions=impressions,
        f_per_1k=f_per_1k,
        viral_posts=np.bincount(posts.generator[viral], minlength=n),
        failed_posts=np.bincount(posts.generator[failed], minlength=n),
    )


def exponential_target(
    table: PerformanceTable, drawn: NDArray[np.bool_], floor: float, config: ExponentialConfig
) -> Target:
    """Target shares by the score-and-power rule.

    Over the drawn generators with ``min_posts`` posts and a measured F/1K,
    ``x = (F - min F) / (max(max F, 0.1) - min F)`` (0.5 when all are equal), ``x ** exponent``,
    times the viral boost where F/1K exceeds the viral limit and a post was viral, times the
    failure penalty where more than half of the posts failed, times 1.1 where a post was viral and
    none failed, at least ``min_score``; target = score share * (1 - exploration) + exploration/n.
    Generators with too few posts get the mean target of the others; failing ones (many posts, no
    follower gained) the floor.
    """
    n = int(drawn.sum())
    judged = drawn & (table.posts >= config.min_posts) & np.isfinite(table.f_per_1k)
    failing = judged & (table.posts >= config.failing_posts) & (table.followers < ONE_FOLLOWER)
    shares = np.where(drawn, 1.0 / n, 0.0)
    if judged.any():
        rate = table.f_per_1k[judged]
        low, high = rate.min(), rate.max()
        # the 0.1 keeps an account of tiny rates from being stretched over the whole scale
        score = np.full(rate.shape, 0.5) if high == low else (rate - low) / (max(high, 0.1) - low)
        score = score**config.exponent
        viral, failed = table.viral_posts[judged], table.failed_posts[judged]
        score = np.where(
            (rate > config.viral_f_per_1k) & (viral > 0), score * config.viral_boost, score
        )
        score = np.where(failed > table.posts[judged] * 0.5, score * config.failure_penalty, score)
        score = np.where((viral > 0) & (failed == 0), score * config.clean_viral_factor, score)
        score = np.maximum(score, config.min_score)
        target = score / score.sum() * (1.0 - config.exploration) + config.exploration / n
        shares = np.where(drawn, target.mean(), 0.0)
        shares[judged] = target
        if (drawn & ~failing).any():
            rest = drawn & ~failing
            shares[rest] *= (1.0 - floor * failing.sum()) / shares[rest].sum()
            shares[failing] = floor
    reasons = tuple(_reason(table, k, judged, failing, config) for k in range(len(table.names)))
    return Target(shares, reasons, failing, table.f_per_1k, evidence=bool(judged.any()))


def _reason(
    table: PerformanceTable,
    k: int,
    judged: NDArray[np.bool_],
    failing: NDArray[np.bool_],
    config: ExponentialConfig,
) -> str:
    posts = int(table.posts[k])
    if failing[k]:
        return f"failing: no follower from {posts} posts"
    if not judged[k]:
        why = "no impressions measured" if posts >= config.min_posts else "new"
        return f"{why}: {posts} post{'' if posts == 1 else 's'}, gets the mean of the others"
    ranked = np.flatnonzero(judged)
    rank = 1 + int((table.f_per_1k[ranked] > table.f_per_1k[k]).sum())
    extras = []
    if table.viral_posts[k]:
        extras.append(f"{table.viral_posts[k]} viral")
    if table.failed_posts[k]:
        extras.append(f"{table.failed_posts[k]} without a follower")
    noted = f" ({', '.join(extras)})" if extras else ""
    return f"F/1K {table.f_per_1k[k]:.3g} over {posts} posts{noted}, rank {rank} of {len(ranked)}"
