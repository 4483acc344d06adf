"""The state of the fitted model: what is known of one account after the fit.

Here: the parameters and the intensities they imply. Not here: how they are found (``fit``), nor
what is reported (``engine``).
"""

from dataclasses import dataclass

from scipy import sparse

from genopt_pipeline.core.attribution.frames import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """J windows, P posts, K generators; rates are followers per unit of exposure."""

    #: expected arrivals (J, P) in units of exposure
    exposure: sparse.csr_array
    #: windows that took part in the fit
    used: BoolArray
    #: λ_g, and the covariance of the log rates
    rate: FloatArray
    rate_covariance: FloatArray
    #: θ_p
    frailty: FloatArray
    #: expected organic follows and unfollows of each window
    organic: FloatArray
    unfollows: FloatArray
    organic_per_hour: float
    unfollows_per_hour: float
    lag_hours: float
    #: variance 1/a of the frailty's prior, and the sd τ of the log rates'
    frailty_variance: float
    rate_spread: float
    log_likelihood: float
    iterations: int
    converged: bool
