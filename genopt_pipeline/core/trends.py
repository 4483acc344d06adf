"""Whether a generator earns more than before: a test between two periods that do not overlap.

What belongs here: the comparison of one generator's posts in a look-back with its posts in the
period of the same length before it. What does not: which posts those are (``performance``).

A ratio alone calls every fluctuation a trend, and a test alone calls a change of 1 % one once
there are enough posts. A trend needs both. "Stable" is a statement too: a change worth knowing of
would have been seen. Where it would not, the answer is that there are not enough data.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

from genopt_pipeline.core.intervals import Totals

TrendDirection = Literal["improving", "stable", "declining", "not_enough_data"]

#: Continuity correction of the log ratio: half a follower on both sides keeps it finite.
_HALF: Final = 0.5


@dataclass(frozen=True)
class TrendConfig:
    """When a change is a trend.

    ``significance`` is two-sided. ``least_ratio``: a smaller change is called stable however
    certain it is. ``detectable_ratio``: stable is said only if a change by this factor would have
    been significant. ``min_posts``: measured posts that each period needs.
    """

    significance: float = 0.05
    least_ratio: float = 1.10
    detectable_ratio: float = 3.0
    min_posts: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.significance < 1:
            raise ValueError(f"significance is {self.significance!r}; it must be in (0, 1)")
        if not (self.least_ratio >= 1 and self.detectable_ratio > 1):
            raise ValueError("least_ratio must be at least 1 and detectable_ratio above 1")
        if self.min_posts < 1:
            raise ValueError(f"min_posts is {self.min_posts!r}; it must be at least 1")


@dataclass(frozen=True)
class Trend:
    """A comparison of two periods.

    ``ratio`` is the recent rate over the earlier one, None where the earlier period had no
    follower (a ratio to zero says nothing) or a period is not measured; ``p_value`` is that of no
    change, None where it could not be tested.
    """

    direction: TrendDirection
    ratio: float | None
    p_value: float | None


def compare_periods(
    recent: Totals, earlier: Totals, *, dispersion: float, config: TrendConfig | None = None
) -> Trend:
    """Test whether the rate of the recent period differs from that of the earlier one.

    The score test: under the null both periods have the common rate λ = (F₁ + F₀)/(e₁ + e₀), and

        Var(Fⱼ/eⱼ) = λ/eⱼ + φ κⱼ λ² + vⱼ/eⱼ²,      z = (F₁/e₁ - F₀/e₀) / sqrt(Var₁ + Var₀).

    Unlike a Wald test on the ratio it works with no follower in one of the periods. The standard
    deviation of the log ratio, with the same variances, decides between stable and not enough.

    Parameters
    ----------
    recent, earlier
        Totals of posts in two periods that do not overlap, exposure corrected for the posts' age.
    dispersion
        φ of the account's posts, not negative.
    """
    config = config or TrendConfig()
    too_few = Trend("not_enough_data", None, None)
    if min(recent.posts, earlier.posts) < config.min_posts:
        return too_few
    exposure = recent.exposure + earlier.exposure
    # Those who left are counts as well: a net loss has the variance of its size.
    moved = abs(recent.followers) + abs(earlier.followers)
    common = moved / exposure if exposure > 0 else 0.0
    if min(recent.exposure, earlier.exposure) <= 0 or common <= 0:
        return too_few

    difference = recent.rate - earlier.rate
    variance = _variance(recent, common, dispersion) + _variance(earlier, common, dispersion)
    z = difference / math.sqrt(variance)
    p_value = math.erfc(abs(z) / math.sqrt(2.0))
    ratio = recent.rate / earlier.rate if earlier.rate > 0 else None
    if p_value < config.significance:
        if not _differ_by(config.least_ratio, recent, earlier):
            return Trend("stable", ratio, p_value)
        return Trend("improving" if difference > 0 else "declining", ratio, p_value)
    sd_log = math.sqrt(variance) / common
    needed = math.log(config.detectable_ratio) / _two_sided_z(config.significance)
    return Trend("stable" if sd_log <= needed else "not_enough_data", ratio, p_value)


def _differ_by(factor: float, recent: Totals, earlier: Totals) -> bool:
    new = (recent.followers + _HALF) / recent.exposure
    old = (earlier.followers + _HALF) / earlier.exposure
    if min(new, old) <= 0:
        return True
    return abs(math.log(new / old)) > math.log(factor)


def _variance(totals: Totals, rate: float, dispersion: float) -> float:
    return (
        rate / totals.exposure
        + dispersion * totals.kappa * rate**2
        + totals.attribution_variance / totals.exposure**2
    )


def _two_sided_z(significance: float) -> float:
    return NormalDist().inv_cdf(1.0 - significance / 2.0)
