"""Tiers of F/1K: the user's absolute ones, and the same steps relative to the account's mean.

What belongs here: boundaries and the two rules that apply them. What does not: how F/1K and its
interval come about (``performance``), and what a policy does with a generator of some tier.

Absolute tiers speak of an account with an F/1K of 1.5 to 2. Real accounts have 0.001 to 5, and
where the whole account earns 0.05 every generator would be "poor". The relative tier asks the
question that matters there: how does this generator compare with the account's own mean?
"""

import math
from typing import Final, Literal

Tier = Literal["viral", "excellent", "good", "average", "poor", "failing"]

#: Lower bounds (exclusive) of the tiers in followers per 1000 impressions. A tier's upper bound
#: belongs to it, so exactly 5 is excellent and exactly 0.5 poor.
ABSOLUTE_BOUNDS: Final[tuple[tuple[float, Tier], ...]] = (
    (5.0, "viral"),
    (3.0, "excellent"),
    (1.5, "good"),
    (0.5, "average"),
)

#: The same bounds as multiples of the account's mean, which takes the place of 1.5, the bound
#: between average and good: above the mean is good, above twice the mean excellent.
RELATIVE_BOUNDS: Final[tuple[tuple[float, Tier], ...]] = tuple(
    (bound / 1.5, tier) for bound, tier in ABSOLUTE_BOUNDS
)

#: Measured posts from which a generator without followers is failing rather than poor.
FAILING_POSTS: Final = 10
#: Below this many followers there is none. Attributed followers are fractions: a sum of 0.3 says
#: that probably nobody came.
ONE_FOLLOWER: Final = 0.5
#: Relative failing: the upper end of the 90 % interval lies below this share of the mean, so with
#: 95 % confidence the generator earns less than a fifth of what the account does.
FAILING_SHARE_OF_MEAN: Final = 0.2


def absolute_tier(
    f_per_1k: float | None, *, posts_measured: int, followers: float | None = None
) -> Tier | None:
    """Return the tier of an F/1K, or None where it is not known.

    Failing is an F/1K of zero or less over ``FAILING_POSTS`` posts or more; a net loss of
    followers is failing too. Where the number of followers is given, fewer than ``ONE_FOLLOWER``
    count as none. Fewer posts without a follower are poor: too few to call it a failure.

    Parameters
    ----------
    f_per_1k
        Followers per 1000 impressions; None or NaN if unknown.
    posts_measured
        Posts behind it.
    followers
        Followers behind it, if known.
    """
    if f_per_1k is None or math.isnan(f_per_1k):
        return None
    nobody_came = f_per_1k <= 0 or (followers is not None and followers < ONE_FOLLOWER)
    if nobody_came and posts_measured >= FAILING_POSTS:
        return "failing"
    return _step(f_per_1k, ABSOLUTE_BOUNDS)


def relative_tier(
    f_per_1k: float | None,
    *,
    f_per_1k_high: float | None,
    account_f_per_1k: float | None,
    posts_measured: int,
) -> Tier | None:
    """Return the tier of an F/1K as a multiple of the account's mean, or None if unknown.

    A generator fails relative to its account when even the upper end of its 90 % interval is
    below ``FAILING_SHARE_OF_MEAN`` of the mean, over ``FAILING_POSTS`` posts or more. Zero
    followers in ten posts is not failing where a good generator would show zero as well. An
    account whose mean is zero or negative gives no scale, hence None.
    """
    if (
        f_per_1k is None
        or account_f_per_1k is None
        or math.isnan(f_per_1k)
        or not account_f_per_1k > 0
    ):
        return None
    if (
        posts_measured >= FAILING_POSTS
        and f_per_1k_high is not None
        and f_per_1k_high < FAILING_SHARE_OF_MEAN * account_f_per_1k
    ):
        return "failing"
    return _step(f_per_1k / account_f_per_1k, RELATIVE_BOUNDS)


def _step(value: float, bounds: tuple[tuple[float, Tier], ...]) -> Tier:
    for bound, tier in bounds:
        if value > bound:
            return tier
    return "poor"
