"""How well each post does, at fixed rates: the mode of the frailties under the changes.

Here: the EM that finds them, for a month (sparse) and for a few days (dense). Not here: the rates.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import sparse

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.frames import FloatArray
from genopt_pipeline.core.attribution.skellam import hidden_counts

_TINY: Final = 1e-12
#: steps of the EM in one round of the extrapolation
_ROUND: Final = 3


def settle(
    exposure: sparse.csr_array | FloatArray,
    rate: FloatArray,
    theta: FloatArray,
    *,
    delta: FloatArray,
    organic: FloatArray,
    unfollows: FloatArray,
    a: float,
    config: AttributionConfig,
) -> FloatArray:
    """The mode θ, (P,), under Skellam changes and a Gamma(a, a) prior, beginning with ``theta``.

    ``exposure`` is (J, P), ``rate`` each post's λ; changes, organic follows and unfollows are the
    windows'. Two steps of the EM and an extrapolation from them, if it stays positive, to its fixed
    point (SQUAREM; Varadhan and Roland 2008).
    """
    back = exposure.T.tocsr() if sparse.issparse(exposure) else exposure.T
    prior = a + rate * np.asarray(back @ np.ones(len(delta)))
    unfollows = np.maximum(unfollows, _TINY)

    def step(theta: FloatArray) -> FloatArray:
        mean = np.maximum(organic + exposure @ (rate * theta), _TINY)
        follows, _, _ = hidden_counts(delta, mean, unfollows)
        return np.asarray((a + rate * theta * (back @ (follows / mean))) / prior)

    return _fixed_point(step, theta, config.max_iterations // _ROUND + 1, config.tolerance)


def _fixed_point(
    step: Callable[[FloatArray], FloatArray], at: FloatArray, rounds: int, tolerance: float
) -> FloatArray:
    for _ in range(rounds):
        one = step(at)
        first = one - at
        if np.abs(first).max(initial=0.0) < tolerance:
            return one
        two = step(one)
        second = two - one - first
        length = float(np.sqrt((first @ first) / (second @ second + _TINY)))
        far = at + 2.0 * length * first + length**2 * second
        at = step(np.where(far > 0.0, far, two)) if length > 1.0 else two
    return at
