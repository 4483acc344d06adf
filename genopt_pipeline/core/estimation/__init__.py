"""Estimation: what the posts say about each generator's present rate, and how sure that is.

Here: from posts to sufficient statistics (``sufficient_statistics``), to posteriors
(``posterior``), to comparisons (``compare``), for any number of accounts at once. Not here: what
weights follow from it (``policies``).
"""

from genopt_pipeline.core.estimation.comparison import Comparison, compare, probability_best
from genopt_pipeline.core.estimation.config import EstimationConfig
from genopt_pipeline.core.estimation.impressions import log_reach
from genopt_pipeline.core.estimation.posterior import Posterior, posterior
from genopt_pipeline.core.estimation.statistics import (
    PostBatch,
    SufficientStatistics,
    mature_exposure,
    maturity,
    sufficient_statistics,
)

__all__ = [
    "Comparison",
    "EstimationConfig",
    "PostBatch",
    "Posterior",
    "SufficientStatistics",
    "compare",
    "log_reach",
    "mature_exposure",
    "maturity",
    "posterior",
    "probability_best",
    "sufficient_statistics",
]
