"""Settings of the estimation, with units in their names.

Here: numbers that the estimation takes as given. Not here: any arithmetic.
"""

import itertools
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EstimationConfig:
    """How posts become rates. Rates are followers per 1,000 impressions (F/1K).

    impressions_hours, followers_hours: time constants of the growth of a post's impressions and
    followers, ``G(t) = 1 - exp(-t / constant)``. followers_hours_scale: by how much, on the log
    scale, accounts commonly differ in the second, which is refitted for each from its own posts.
    half_life_days, horizon_days: weight of old posts, and how far back posts are read. The
    half-life is long, since what drifts is forgotten by its own model, where it drifts.
    dispersion, dispersion_posts: prior of the negative binomial's phi, and the posts it is worth.
    spread_grid, spread_median, spread_sd: values of tau, the coefficient of variation of rates
    between generators, and its log-normal prior.
    cut_days: ages at which a rate may have changed. hazard_per_day: prior rate of such changes.
    drift_days, drift_probability: correlation times of rates that wander all the time, and the
    prior probability that an account's rates do, shared equally among them.
    common_hours, common_margin: length of the periods whose posts may share a factor, and how many
    standard errors the variance of such factors must exceed 0 by to be believed.
    """

    impressions_hours: float = 8.0
    followers_hours: float = 16.0
    followers_hours_scale: float = 0.15
    half_life_days: float = 365.0
    horizon_days: float = 70.0
    dispersion: float = 0.7
    dispersion_posts: float = 8.0
    spread_grid: tuple[float, ...] = (0.04, 0.12, 0.25, 0.45, 0.8)
    spread_median: float = 0.4
    spread_sd: float = 0.7
    cut_days: tuple[float, ...] = (2.0, 4.0, 7.0, 11.0, 16.0, 23.0, 32.0, 45.0)
    hazard_per_day: float = 1.0 / 120.0
    drift_days: tuple[float, ...] = (25.0, 90.0)
    drift_probability: float = 0.5
    common_hours: float = 24.0
    common_margin: float = 2.0

    def __post_init__(self) -> None:
        """Refuse settings that leave the model undefined, by name."""
        for name in (
            "impressions_hours",
            "followers_hours",
            "followers_hours_scale",
            "half_life_days",
            "horizon_days",
            "dispersion",
            "dispersion_posts",
            "spread_median",
            "spread_sd",
            "common_hours",
            "common_margin",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a number above 0, not {value!r}")
        if not (math.isfinite(self.hazard_per_day) and 0 <= self.hazard_per_day < 1):
            raise ValueError(f"hazard_per_day must be from 0 to below 1: {self.hazard_per_day!r}")
        if not (math.isfinite(self.drift_probability) and 0 <= self.drift_probability < 1):
            raise ValueError(
                f"drift_probability must be from 0 to below 1: {self.drift_probability!r}"
            )
        if not all(math.isfinite(days) and days > 0 for days in self.drift_days):
            raise ValueError("drift_days must hold numbers above 0")
        if not self.spread_grid or min(self.spread_grid) <= 0 or max(self.spread_grid) > 1:
            raise ValueError("spread_grid must hold values above 0 and at most 1")
        edges = (0.0, *self.cut_days, self.horizon_days)
        if any(b <= a for a, b in itertools.pairwise(edges)):
            raise ValueError("cut_days must rise from above 0 to below horizon_days")
