"""The policy ``thompson``: weights by the probability of being the best, sharpened.

Here: from posteriors to target shares, for any number of accounts. Not here: the posterior
(``estimation``), the guards (``guards``).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genopt_pipeline.core.estimation.comparison import probability_best
from genopt_pipeline.core.estimation.posterior import Posterior
from genopt_pipeline.core.estimation.statistics import Floats


@dataclass(frozen=True)
class ThompsonConfig:
    """exploration: share of uniform. sharpness: the power of P(best), where generators differ."""

    exploration: float = 0.15
    sharpness: float = 2.0


def thompson_shares(known: Posterior, present: NDArray[np.bool_], config: ThompsonConfig) -> Floats:
    """Target shares (accounts, generators)."""
    best = probability_best(known.log_mean, known.log_sd, present)
    power = 1.0 + (config.sharpness - 1.0) * known.differ[:, None]
    sharp = np.where(present, best, 0.0) ** power
    sharp = np.where(present, sharp, 0.0)
    sharp /= np.maximum(sharp.sum(axis=1, keepdims=True), 1e-300)
    uniform = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
    return (1.0 - config.exploration) * sharp + config.exploration * uniform
