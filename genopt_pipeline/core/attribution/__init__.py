"""Which post brought the followers: an account's follower changes credited to posts, once each.

Here: the attribution of one account, pure functions of two data frames. Not here: estimation of
generators over time and weights (``estimation``, ``policies``); storage; windows of Dagster.
"""

from genopt_pipeline.core.attribution.cases import attribute_case
from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.engine import attribute_followers, attribute_step
from genopt_pipeline.core.attribution.frames import exposure_kind
from genopt_pipeline.core.attribution.learned import Learned
from genopt_pipeline.core.attribution.result import Attribution

__all__ = [
    "Attribution",
    "AttributionConfig",
    "Learned",
    "attribute_case",
    "attribute_followers",
    "attribute_step",
    "exposure_kind",
]
