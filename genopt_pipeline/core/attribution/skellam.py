"""The Skellam distribution: follows less unfollows, of which only the difference is observed.

D = A − U, A ~ Poisson(m), U ~ Poisson(n). Given D = d, the smaller of the two counts, X, has the
Bessel distribution with order ν = |d| and argument z = 2√(mn) (Yuan and Kalbfleisch 2000):
P(X = x) ∝ (z/2)^(2x+ν) / (x! Γ(x+ν+1)). Its moments follow from r = I_{ν+1}(z)/I_ν(z):

    E X = (z/2)·r,      E X(X + ν) = z²/4   ⇒   Var X = z²/4 − ν·E X − (E X)².

Here: these moments and the log-likelihood, vectorised and free of overflow. Not here: the model.
"""

import numpy as np
from scipy import special

from genopt_pipeline.core.attribution.frames import FloatArray

#: steps of the backward recurrence; each shrinks the error of the start value
_STEPS = 12
#: below this order the scaled Bessel function is taken directly, above by Debye's expansion
_DEBYE_ORDER = 30.0


def bessel_ratio(order: FloatArray, z: FloatArray) -> FloatArray:
    """I_{ν+1}(z)/I_ν(z) for real ν ≥ 0 and z ≥ 0, shape of the arguments.

    The relative error is below 1e-5, and below 1e-12 where z is small against ν + 10.

    Amos' bounds (1974) give r_{ν+N}, and r_ν = 1/(2(ν+1)/z + r_{ν+1}) carries it back, which
    contracts errors; a quotient of Bessel functions would be 0/0 for large orders.
    """
    top = order + _STEPS
    ratio = np.asarray(z / (top + 0.5 + np.hypot(top + 1.0, z)))
    twice = np.asarray(2.0 * top)
    for _ in range(_STEPS):
        # r = z/(2(order + step + 1) + z r), in place: this is most of the EM's time
        ratio *= z
        ratio += twice
        np.divide(z, ratio, out=ratio)
        twice -= 2.0
    return ratio


def hidden_counts(
    delta: FloatArray, follows: FloatArray, unfollows: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Given the difference: expected A, expected U and the variance that both share.

    ``follows`` and ``unfollows`` are the Poisson means m and n. E A − E U equals ``delta``, to
    rounding.
    """
    z = 2.0 * np.sqrt(follows * unfollows)
    order = np.abs(delta)
    smaller = 0.5 * z * bessel_ratio(order, z)
    variance = np.maximum(0.25 * z * z - order * smaller - smaller * smaller, 0.0)
    return (
        np.maximum(delta, 0.0) + smaller,
        np.maximum(-delta, 0.0) + smaller,
        np.minimum(variance, smaller),
    )


def log_bessel_i(order: FloatArray, z: FloatArray) -> FloatArray:
    """Log I_ν(z) for real ν ≥ 0 and z > 0: direct for small orders, else Debye's expansion.

    The expansion, uniform in z, is cut after its third term: relative error below 1e-7 at ν ≥ 30.
    """
    small = order < _DEBYE_ORDER
    nu = np.where(small, 1.0, order)
    with np.errstate(under="ignore"):
        scaled = special.ive(np.where(small, order, 0.0), z)
    # a tiny argument underflows; there the first term of the series is exact
    series = order * np.log(0.5 * z) - special.gammaln(order + 1.0)
    direct = np.where(scaled > 1e-290, np.log(np.maximum(scaled, 1e-290)) + z, series)
    x = z / nu
    root = np.sqrt(1.0 + x * x)
    p = 1.0 / root
    u1 = (3.0 * p - 5.0 * p**3) / 24.0
    u2 = (81.0 * p**2 - 462.0 * p**4 + 385.0 * p**6) / 1152.0
    u3 = (30375.0 * p**3 - 369603.0 * p**5 + 765765.0 * p**7 - 425425.0 * p**9) / 414720.0
    debye = (
        nu * (root + np.log(x / (1.0 + root)))
        - 0.5 * np.log(2.0 * np.pi * nu * root)
        + np.log1p(u1 / nu + u2 / nu**2 + u3 / nu**3)
    )
    return np.where(small, direct, debye)


def log_likelihood(delta: FloatArray, follows: FloatArray, unfollows: FloatArray) -> FloatArray:
    """Log probability of each difference; ``follows`` and ``unfollows`` must be positive."""
    z = 2.0 * np.sqrt(follows * unfollows)
    tilt = 0.5 * delta * (np.log(follows) - np.log(unfollows))
    value: FloatArray = tilt - follows - unfollows + log_bessel_i(np.abs(delta), z)
    return value
