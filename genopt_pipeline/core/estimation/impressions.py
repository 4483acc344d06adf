"""How far the posts of each generator reach, for the objective "followers per post".

Here: the log of a generator's final impressions, shrunk towards the account's. Not here: followers
per impression (``posterior``), and how followers depend on reach (``reach``).

The logs x of a post's final impressions are taken as normal about the generator's mean, with one
variance s^2 for the account; means are normal about the account's, with variance t^2. With n posts
(weighted, ``(sum w)^2 / sum w^2``) a generator's mean has variance ``v = s^2 / n``, and is drawn
towards the account's by ``t^2 / (t^2 + v)``; t^2 by moments (DerSimonian and Laird 1986). Only this
mean is used: within an account the error of reach is small beside that of rates.
"""

import numpy as np

from genopt_pipeline.core.estimation.config import EstimationConfig
from genopt_pipeline.core.estimation.statistics import Floats, PostBatch, maturity

#: Posts younger than this are left out: their final impressions are hardly more than a guess.
_YOUNGEST_HOURS = 1.0


def log_reach(batch: PostBatch, config: EstimationConfig) -> Floats:
    """Log of each generator's reach over the account's, (accounts, generators).

    0 where nothing is known of a generator: it is taken to reach as far as the others.
    """
    keep = (
        (batch.age_hours >= _YOUNGEST_HOURS)
        & (batch.age_hours < config.horizon_days * 24.0)
        & (batch.impressions > 0)
    )
    shape = (batch.accounts, batch.generators)
    cell = batch.account[keep] * batch.generators + batch.generator[keep]
    age = batch.age_hours[keep]
    x = np.log(batch.impressions[keep] / maturity(age, config.impressions_hours))
    w = np.exp2(-age / (24.0 * config.half_life_days))

    def sums(values: Floats) -> Floats:
        cells = shape[0] * shape[1]
        return np.bincount(cell, weights=values, minlength=cells).astype(np.float64).reshape(shape)

    weight = sums(w)
    seen = weight > 0
    mean = sums(w * x) / np.where(seen, weight, 1.0)
    squares = sums(w * (x - mean.ravel()[cell]) ** 2).sum(axis=1)
    posts = np.where(seen, weight**2 / np.where(seen, sums(w**2), 1.0), 0.0)
    freedom = posts.sum(axis=1) - seen.sum(axis=1)
    # the weighted squares of n posts about one mean hold (n - 1) / n of the variance
    total = weight.sum(axis=1)
    share = freedom / np.where(freedom > 0, posts.sum(axis=1), 1.0)
    within = squares / np.where(total * share > 0, total * share, np.inf)
    error = np.where(seen, within[:, None] / np.where(seen, posts, 1.0), np.inf)
    precision = np.where(error > 0, 1.0 / np.where(error > 0, error, 1.0), 0.0)
    between = _between(mean, precision)[:, None]
    together = np.where(precision > 0, 1.0 / (between + 1.0 / np.maximum(precision, 1e-300)), 0.0)
    over = together.sum(axis=1, keepdims=True)
    middle = (together * mean).sum(axis=1, keepdims=True) / np.where(over > 0, over, 1.0)
    return np.asarray(np.where(precision > 0, between * together * (mean - middle), 0.0))


def _between(mean: Floats, precision: Floats) -> Floats:
    """Variance (accounts,) of the generators' true means, by moments, at least 0."""
    total = precision.sum(axis=1)
    safe = np.where(total > 0, total, 1.0)
    middle = (precision * mean).sum(axis=1) / safe
    excess = (precision * (mean - middle[:, None]) ** 2).sum(axis=1)
    excess -= np.maximum((precision > 0).sum(axis=1) - 1, 0)
    scale = total - (precision**2).sum(axis=1) / safe
    return np.asarray(np.maximum(excess, 0.0) / np.where(scale > 0, scale, np.inf))
