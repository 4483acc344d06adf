"""From posts to sufficient statistics: maturity, good days, forgetting, overdispersion.

Here: one pass over the posts of any number of accounts. Not here: what the statistics say about
rates (``posterior``).

A post of age t that has I impressions and F followers so far will have ``I / G_I(t)``
impressions, of whose followers the share ``G_F(t)`` has come; its exposure is
``E = I G_F(t) / G_I(t)``, in thousands, so that ``E[F] = rate * E`` at any age. Followers of a
post are negative binomial, ``Var F = m + phi m^2`` with ``m = rate * E``, so a post is worth
``omega = 1 / (1 + phi m)`` of a Poisson count: with ``y = sum omega F`` and
``e = sum omega E``, ``Var y = rate * e``, as if y were a Poisson count with exposure e. The m in
omega is that of the account's rate; a factor for each generator restores ``Var y = rate * e``.
The time constant of G_F is refitted for each account, and what all posts of a day share is taken
into E, before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genopt_pipeline.core.estimation.config import EstimationConfig

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Ages below this are treated as this; the exposure has the finite limit of the time constants.
_YOUNGEST_HOURS = 1e-3

#: Up to this age posts tell how fast followers come, and of these multiples of the default which.
_GROWING_HOURS = 120.0
_GROWTH_FACTORS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)

#: Shape of the gamma prior that steadies first guesses of rates, as if so many followers.
_FIRST_GUESS_SHAPE = 4.0


@dataclass(frozen=True)
class PostBatch:
    """Posts of many accounts as flat arrays of shape (posts,), in any order.

    account, generator: positions, below ``accounts`` and ``generators``. age_hours: since
    posting. impressions, followers: totals so far. information: in (0, 1], what an attributed
    follower is worth of a counted one.
    """

    accounts: int
    generators: int
    account: Ints
    generator: Ints
    age_hours: Floats
    impressions: Floats
    followers: Floats
    information: Floats | None = None


@dataclass(frozen=True)
class SufficientStatistics:
    """What the posts say about the rates; addable over disjoint sets of posts of equal ``phi``.

    followers, exposure: (accounts, generators, bins) sums of omega d rho F and omega d rho E,
    exposure in 1,000 impressions, by age of the post: bin b lies between edges b and b + 1 of
    ``(0, *cut_days, horizon_days)``. posts: (accounts, generators) posts read, undiscounted.
    dispersion: (accounts,) phi.
    """

    followers: Floats
    exposure: Floats
    posts: Ints
    dispersion: Floats

    def chunks(self, size: int) -> Iterator["SufficientStatistics"]:
        """The same statistics in slices of at most ``size`` accounts."""
        for start in range(0, len(self.posts), size):
            part = slice(start, start + size)
            yield replace(
                self,
                followers=self.followers[part],
                exposure=self.exposure[part],
                posts=self.posts[part],
                dispersion=self.dispersion[part],
            )


def maturity(age_hours: Floats, constant_hours: float | Floats) -> Floats:
    """Share of a post's final count that has come by this age: ``1 - exp(-t / constant)``."""
    return -np.expm1(-np.maximum(age_hours, _YOUNGEST_HOURS) / constant_hours)


def mature_exposure(age_hours: Floats, impressions: Floats, config: EstimationConfig) -> Floats:
    """Exposure of posts in 1,000 impressions: ``I G_F / G_I / 1000``."""
    ratio = maturity(age_hours, config.followers_hours) / maturity(
        age_hours, config.impressions_hours
    )
    return impressions * ratio / 1000.0


def sufficient_statistics(batch: PostBatch, config: EstimationConfig) -> SufficientStatistics:
    """Statistics of all accounts in one pass; posts beyond the horizon count for nothing."""
    keep = batch.age_hours < config.horizon_days * 24.0
    age, impressions, followers = (
        x if keep.all() else x[keep] for x in (batch.age_hours, batch.impressions, batch.followers)
    )
    account = batch.account[keep]
    cell = account * batch.generators + batch.generator[keep]
    cells = batch.accounts * batch.generators
    exposure = mature_exposure(age, impressions, config)
    weight = np.exp2(-age / (24.0 * config.half_life_days))
    information = 1.0 if batch.information is None else batch.information[keep]
    weight = weight * information
    rate, _ = _first_rates(account, cell, exposure, followers, weight, batch, config)
    hours = _followers_hours(account, age, followers, rate[cell] * exposure, weight, batch, config)
    exposure = exposure * (maturity(age, hours[account]) / maturity(age, config.followers_hours))
    rate, level = _first_rates(account, cell, exposure, followers, weight, batch, config)
    common = _common_factor(account, age, followers, rate[cell] * exposure, batch, config)
    exposure = exposure * common
    mean = rate[cell] * exposure
    phi = _dispersion(account, cell, followers, mean, information, batch, config)
    # Weights from the generator's own rate would weigh its lucky posts down, for luck raises the
    # rate; weights from the account's rate do not, and the sums are then scaled to the
    # information that they really hold.
    omega = 1.0 / (1.0 + phi[account] * level[account] * exposure)
    held = np.bincount(cell, weights=weight * omega * mean, minlength=cells)
    spent = np.bincount(
        cell,
        weights=weight * omega**2 * mean * (1.0 + phi[account] * mean),
        minlength=cells,
    )
    worth = np.where(spent > 0, held / np.where(spent > 0, spent, 1.0), 1.0)
    weight = weight * omega * worth[cell]
    edges = 24.0 * np.array(config.cut_days)
    bins = len(edges) + 1
    slot = cell * bins + np.searchsorted(edges, age, side="right")
    shape = (batch.accounts, batch.generators, bins)

    def total(values: Floats) -> Floats:
        sums = np.bincount(slot, weights=values, minlength=cells * bins)
        return sums.astype(np.float64).reshape(shape)

    return SufficientStatistics(
        followers=total(weight * followers),
        exposure=total(weight * exposure),
        posts=np.bincount(cell, minlength=cells).reshape(shape[:2]),
        dispersion=phi,
    )


def _first_rates(
    account: Ints,
    cell: Ints,
    exposure: Floats,
    followers: Floats,
    weight: Floats,
    batch: PostBatch,
    config: EstimationConfig,
) -> tuple[Floats, Floats]:
    """Rates of generators, (accounts * generators,), and of accounts, to weigh posts by.

    Drawn towards the account's rate, so that a generator with one lucky post does not make its
    next posts look worthless.
    """
    n = batch.accounts * batch.generators

    def sums(index: Ints, values: Floats, length: int) -> Floats:
        return np.bincount(index, weights=values, minlength=length).astype(np.float64)

    level = _ratio(
        sums(account, weight * followers, batch.accounts),
        sums(account, weight * exposure, batch.accounts),
    )
    weight = weight / (1.0 + config.dispersion * level[account] * exposure)
    y, e = sums(cell, weight * followers, n), sums(cell, weight * exposure, n)
    by_account = (batch.accounts, batch.generators)
    level = _ratio(y.reshape(by_account).sum(axis=1), e.reshape(by_account).sum(axis=1))
    spread = np.repeat(level, batch.generators)
    steadied = (_FIRST_GUESS_SHAPE + np.maximum(y, 0.0)) * spread
    return steadied / (_FIRST_GUESS_SHAPE + e * spread), level


def _ratio(followers: Floats, exposure: Floats) -> Floats:
    """Followers over exposure, 0 where nothing was seen or followers fell."""
    return np.maximum(followers, 0.0) / np.where(exposure > 0, exposure, 1.0)


def _followers_hours(
    account: Ints,
    age_hours: Floats,
    followers: Floats,
    mean: Floats,
    weight: Floats,
    batch: PostBatch,
    config: EstimationConfig,
) -> Floats:
    """Time constant of the growth of followers, (accounts,), from posts that are still growing.

    A post's followers tell of the constant by how few of them have come at its age. Each constant
    of a grid gets the negative binomial likelihood of the young posts, their common level fitted
    (it may have changed, or not be known yet), and a prior on the log scale about the default,
    Student's t with three degrees of freedom: most accounts are near it, and one that is not can
    still say so. The result is the posterior mean of the logarithm; without young posts it is the
    default. mean: expected followers under the default.
    """
    young = age_hours < _GROWING_HOURS
    of, age = account[young], age_hours[young]
    gained, expected, weight = np.maximum(followers[young], 0.0), mean[young], weight[young]
    n, phi = batch.accounts, config.dispersion
    grown = maturity(age, config.followers_hours)
    log_likelihood = np.empty((n, len(_GROWTH_FACTORS)))
    for at, factor in enumerate(_GROWTH_FACTORS):
        m = expected * maturity(age, config.followers_hours * factor) / grown
        omega = weight / (1.0 + phi * m)
        fitted = np.bincount(of, weights=omega * m, minlength=n)
        level = np.bincount(of, weights=omega * gained, minlength=n)
        m = m * (level / np.where(fitted > 0, fitted, 1.0))[of]
        term = gained * np.log(np.maximum(m, 1e-12)) - (gained + 1.0 / phi) * np.log1p(phi * m)
        log_likelihood[:, at] = np.bincount(of, weights=weight * term, minlength=n)
    log_factor = np.log(np.array(_GROWTH_FACTORS))
    log_likelihood -= 2.0 * np.log1p((log_factor / config.followers_hours_scale) ** 2 / 3.0)
    chance = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    return np.asarray(config.followers_hours * np.exp(chance @ log_factor))


def _common_factor(
    account: Ints,
    age_hours: Floats,
    followers: Floats,
    mean: Floats,
    batch: PostBatch,
    config: EstimationConfig,
) -> Floats:
    """What all posts of a day shared, whoever wrote them: a factor for each post, (posts,).

    A day that is good for everyone (the account is mentioned somewhere, the platform shows it
    more) says nothing about generators, but looks like luck of those that were drawn on it. With
    ``x = sum omega F`` and ``m = sum omega mean`` of a day's posts, ``x`` would have variance m;
    what it has more is ``s m^2``, with s the variance of the common factor, found by moments over
    the account's days. The factor of a day is then ``(1 + s x) / (1 + s m)``, the mean of a gamma
    given x. From s its double standard error without any common factor is taken off first: where
    days do not differ, dividing by their luck would cost a generator that is drawn often its own.
    """
    block = (age_hours / config.common_hours).astype(np.int64)
    blocks = int(block.max(initial=0)) + 1
    slot = account * blocks + block
    omega = 1.0 / (1.0 + config.dispersion * mean)
    shape = (batch.accounts, blocks)
    n = batch.accounts * blocks
    x = np.bincount(slot, weights=omega * followers, minlength=n).reshape(shape)
    m = np.bincount(slot, weights=omega * mean, minlength=n).reshape(shape)
    square = np.maximum((m**2).sum(axis=1), 1e-300)
    excess = ((x - m) ** 2 - m).sum(axis=1) / square
    error = np.sqrt(2.0 * square + m.sum(axis=1)) / square
    variance = np.clip(excess - config.common_margin * error, 0.0, 4.0)[:, None]
    factor = (1.0 + variance * np.maximum(x, 0.0)) / (1.0 + variance * m)
    return np.asarray(factor.ravel()[slot])


def _dispersion(
    account: Ints,
    cell: Ints,
    followers: Floats,
    mean: Floats,
    information: Floats | float,
    batch: PostBatch,
    config: EstimationConfig,
) -> Floats:
    """Phi of shape (accounts,) by moments, steadied by the prior.

    What is credited varies less than what would be counted, for a post of which little is known
    gets what is usual. A credited post tells of the dispersion as much as its information says.

    ``((F - m)^2 - m) / m^2`` has expectation phi and, for large m, the same variance for every
    post; small m make it useless, so posts weigh ``(phi0 m / (1 + phi0 m))^2``, at most one post
    each, against the prior's ``dispersion_posts``. Squares about fitted means are too small by
    ``(n - k) / n`` with n posts of k generators.
    """
    accounts = batch.accounts
    n = np.bincount(account, minlength=accounts)
    seen = np.bincount(cell, minlength=accounts * batch.generators) > 0
    k = seen.reshape(accounts, batch.generators).sum(axis=1)
    freedom = np.maximum(n, 1) / np.maximum(n - k, 1)
    scaled = config.dispersion * mean
    # weight * ((F - m)^2 - m) / m^2 with the m^2 cancelled, so that m = 0 contributes 0
    share = information * (config.dispersion / (1.0 + scaled)) ** 2
    excess = np.bincount(
        account,
        weights=share * (freedom[account] * (followers - mean) ** 2 - mean),
        minlength=accounts,
    )
    posts = np.bincount(account, weights=share * mean**2, minlength=accounts)
    prior = config.dispersion_posts
    phi = (prior * config.dispersion + excess) / (prior + posts)
    return np.clip(phi, 0.05, 10.0)
