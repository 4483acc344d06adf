"""The state of the fitted model: what is known of one account after the fit.

Here: the parameters and the intensities they imply. Not here: how they are found (``fit``), nor
what is reported (``engine``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy import sparse

from genopt_pipeline.core.attribution.frames import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """J windows, P posts, K generators; rates are followers per unit of exposure.

    Hours are those of the audience's clock.
    """

    #: expected arrivals (J, P) in units of exposure
    exposure: sparse.csr_array
    #: λ_g that followers are split by, (K,)
    split_rate: FloatArray
    #: covariance of its log, (K, K): from the changes alone, or with the prior, as it was estimated
    split_covariance: FloatArray
    #: posterior median of λ_g, drawn together, and covariance of its log, (K,) and (K, K)
    rate: FloatArray
    log_covariance: FloatArray
    #: mean and sd of its log, (K,), skewness and unsure parameters included: what to report of it
    log_mean: FloatArray
    log_sd: FloatArray
    #: θ_p of the split
    frailty: FloatArray
    #: λ²e_pᵀV⁻¹e_p of each post, (P,); None if it was not wanted
    explained: FloatArray | None
    #: expected organic follows and unfollows of each window
    organic: FloatArray
    unfollows: FloatArray
    organic_per_hour: float
    unfollows_per_hour: float
    #: b − u
    net_per_hour: float
    lag_hours: float
    #: φ = 1/a, the variance of the frailty
    frailty_variance: float
    #: λ̄ and τ, the level of the rates and the sd of their logs
    level: float
    rate_spread: float
    #: standard errors: b, u an hour; log lag, log φ; of what was not estimated, none
    errors: Mapping[str, float]
    log_likelihood: float
    iterations: int
    converged: bool
