"""The account's changes as a linear mixed model: what they say about rates, and how surely.

With one row a window, E(D) = Xβ, X = [Σ_{p∈g} e_p for each generator g, length of the window],
β = [λ_g, b − u], and

    Var(D) = V = diag(m + n) + Σ_p φ λ_g(p)² e_p e_pᵀ,       m = b·h + Σ_p λ e_p,   n = u·h:

Poisson noise of follows and unfollows, and the posts' frailties, each of which acts on all windows
of its post. β by generalised least squares solves XᵀV⁻¹(D − Xβ) = 0, which is unbiased whatever V
is, and is the fixed point of the EM's M step for λ with a flat prior: with the best linear θ̂_p =
1 + φ λ e_pᵀV⁻¹(D − Xβ) its row for g says Σ_{p∈g} (θ̂_p − 1) = 0. Solving it takes two or three
steps, where the EM needs hundreds: it converges at the rate of the missing information, which here
is most of it. Its inverse XᵀV⁻¹X is the information that the changes hold.

V is banded, since a post lives for a few days: all is linear in the number of windows.

Here: V, the equations and the restricted likelihood at given parameters. Not here: the search for
the parameters (``fit``), shrinkage (``shrinkage``).
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from genopt_pipeline.core.attribution.frames import FloatArray, IntArray

#: expected follows of a window are not taken below this
_TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """The J windows that take part: changes, lengths, exposures, and which post is whose."""

    delta: FloatArray
    hours: FloatArray
    #: e_jp, (J, P), stored by post
    exposure: sparse.csc_array
    #: X, (J, K + 1)
    design: FloatArray
    generator_of: IntArray
    #: the products e_jp e_kp, k ≤ j, of all posts: place in the band of V, and generator
    pair_place: IntArray
    pair_generator: IntArray
    pair_product: FloatArray
    bandwidth: int

    @property
    def n_generators(self) -> int:
        """K."""
        return int(self.design.shape[1]) - 1


def arrange_changes(
    delta: FloatArray,
    hours: FloatArray,
    exposure: sparse.csc_array,
    generator_of: IntArray,
    n_generators: int,
) -> Changes:
    """Everything that V and X are made of, once for a lag."""
    n_windows = len(delta)
    row = exposure.indices.astype(np.int64)
    length = np.diff(exposure.indptr).astype(np.int64)
    post = np.repeat(np.arange(len(length)), length)
    generator = generator_of[post]
    design = (
        np.bincount(
            row * (n_generators + 1) + generator, exposure.data, n_windows * (n_generators + 1)
        )
        .astype(np.float64)
        .reshape(n_windows, n_generators + 1)
    )
    design[:, -1] = hours
    # an entry is paired with itself and with the entries of its post that come before it
    before = np.arange(len(row)) - exposure.indptr[post] + 1
    left = np.repeat(np.arange(len(row)), before)
    right = left - (np.arange(len(left)) - np.repeat(np.cumsum(before) - before, before))
    offset = row[left] - row[right]
    return Changes(
        delta=delta,
        hours=hours,
        exposure=exposure,
        design=design,
        generator_of=generator_of,
        pair_place=offset * n_windows + row[right],
        pair_generator=generator[left],
        pair_product=exposure.data[left] * exposure.data[right],
        bandwidth=int(offset.max(initial=0)) + 1,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """What V depends on beside the exposures."""

    #: λ_g, (K,)
    rate: FloatArray
    #: b − u an hour
    net: float
    #: u an hour
    unfollows: float
    #: φ
    frailty: float

    @property
    def organic(self) -> float:
        """Organic follows an hour, b; above zero also where the net growth is far below it."""
        return max(self.net + self.unfollows, 0.05 * self.unfollows, _TINY)


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """The normal equations at given noise."""

    #: Cholesky factor of V, banded, lower
    factor: FloatArray
    #: XᵀV⁻¹X and XᵀV⁻¹D
    information: FloatArray
    score: FloatArray
    #: −½(log|V| + DᵀV⁻¹D)
    log_scale: float

    def solve(self, columns: FloatArray) -> FloatArray:
        """V⁻¹ times ``columns`` (J,) or (J, n)."""
        return np.asarray(linalg.cho_solve_banded((self.factor, True), columns, check_finite=False))

    def log_likelihood(self, prior_mean: FloatArray, prior_precision: FloatArray) -> float:
        """Log density of D with β integrated out over a normal prior of independent components."""
        with_prior = self.information + np.diag(prior_precision)
        score = self.score + prior_precision * prior_mean
        chol = np.linalg.cholesky(with_prior)
        half = linalg.solve_triangular(chol, score, lower=True)
        return float(
            self.log_scale
            + 0.5 * (half @ half)
            - np.log(np.diag(chol)).sum()
            + 0.5 * np.log(prior_precision).sum()
            - 0.5 * (prior_precision * prior_mean**2).sum()
        )


def equations(changes: Changes, noise: Noise) -> Equations:
    """Build V, factor it, and condense the data into the normal equations."""
    rate, n_windows = noise.rate, len(changes.delta)
    expected = changes.design[:, :-1] @ rate + noise.organic * changes.hours
    shared = (noise.frailty * rate**2)[changes.pair_generator] * changes.pair_product
    band = (
        np.bincount(changes.pair_place, shared, changes.bandwidth * n_windows)
        .astype(np.float64)
        .reshape(changes.bandwidth, n_windows)
    )
    band[0] += np.maximum(expected, _TINY) + noise.unfollows * changes.hours
    factor = linalg.cholesky_banded(band, lower=True, check_finite=False)
    columns = np.column_stack([changes.design, changes.delta])
    products = columns.T @ linalg.cho_solve_banded((factor, True), columns, check_finite=False)
    return Equations(
        factor=factor,
        information=products[:-1, :-1],
        score=products[:-1, -1],
        log_scale=float(-np.log(factor[0]).sum() - 0.5 * products[-1, -1]),
    )
