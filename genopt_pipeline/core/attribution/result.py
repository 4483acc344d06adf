"""What an attribution is: frames of credit, with uncertainty. Not here: how it is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from genopt_pipeline.core.attribution.learned import Learned


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Followers of one account, each credited once.

    In every window the followers of ``posts`` and of ``baseline`` sum to the observed change
    (to 1e-9, relative to the largest number of the window where that is larger than one).
    Followers are expected counts, hence fractional. Rows are in order of time, then of post.
    """

    #: post_id, generator_name, window_start, followers, variance
    posts: pd.DataFrame
    #: window_start, window_end, followers (= organic − unfollows), organic, unfollows
    baseline: pd.DataFrame
    #: post_id, generator_name, followers, variance, low, high, information, impressions, final;
    #: null for a post that was seen only while the follower count was not
    totals: pd.DataFrame
    #: generator_name, posts, followers, impressions, rate_per_1k, sd_log, low, high, information
    generators: pd.DataFrame
    #: estimated parameters by name, JSON-serialisable
    parameters: Mapping[str, Any]
    #: window_start, window_end, delta, expected: jumps, held wholly on the baseline
    quarantined: pd.DataFrame
    #: for the account's later attributions
    learned: Learned
    warnings: tuple[str, ...] = field(default=())
