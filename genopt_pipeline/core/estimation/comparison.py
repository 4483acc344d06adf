"""Which generator is best, and what choosing another costs.

Here: P(best) and expected loss by quadrature, for any number of accounts. Not here: how rates
were estimated (``posterior``), and what weights follow (``policies.thompson``).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from genopt_pipeline.core.estimation.statistics import Floats

#: Cells of the quadrature. 64 are within 0.002 of the exact value (a test compares).
CELLS = 64

#: Accounts at a time: arrays of 128 KB stay in the cache and are not mapped anew each time.
_ROWS = 20

#: The grid reaches this many standard deviations above the highest mean.
_REACH = 5.0


@dataclass(frozen=True)
class Comparison:
    """best: (accounts, generators) probability of the highest rate, rows sum to 1.

    loss: expected shortfall of choosing this generator, as a share of the best rate's
    expectation: ``1 - E[rate_k] / E[max rate]``.
    """

    best: Floats
    loss: Floats


def probability_best(log_mean: Floats, log_sd: Floats, present: NDArray[np.bool_]) -> Floats:
    """``P(best)_k = integral dF_k prod_{j != k} F_j`` for independent normal log rates.

    All arrays (accounts, generators). The integral runs over the range in which the maximum can
    lie: from the greatest ``mean - 5 sd`` to the greatest ``mean + 5 sd``. Mass of k below that
    range cannot be the best, and rows are normalised. Positions that are not present get 0.
    """
    best = np.empty(log_mean.shape)
    for start in range(0, len(best), _ROWS):
        rows = slice(start, start + _ROWS)
        best[rows] = _quadrature(log_mean[rows], log_sd[rows], present[rows])[0]
    return best


def compare(log_mean: Floats, log_sd: Floats, present: NDArray[np.bool_]) -> Comparison:
    """P(best) and expected loss; see ``probability_best``."""
    best, edges, below = _quadrature(log_mean, log_sd, present)
    # distribution of the maximum: the product of all at the edges
    of_max = np.diff(np.exp(np.log(below).sum(axis=1)), axis=1)
    middles = 0.5 * (edges[:, :-1] + edges[:, 1:])
    expected_max = (of_max * np.exp(middles)).sum(axis=1) / np.maximum(of_max.sum(axis=1), 1e-300)
    expected = np.exp(log_mean + log_sd**2 / 2.0)
    loss = np.where(present, np.maximum(1.0 - expected / expected_max[:, None], 0.0), np.nan)
    return Comparison(best, loss)


def _quadrature(
    log_mean: Floats, log_sd: Floats, present: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """P(best), the edges of the cells (accounts, cells + 1), and F of each generator at them."""
    sd = np.maximum(log_sd, 1e-9)
    low = np.where(present, log_mean - _REACH * sd, -np.inf).max(axis=1)
    high = np.where(present, log_mean + _REACH * sd, -np.inf).max(axis=1)
    empty = ~present.any(axis=1)
    low, high = np.where(empty, 0.0, low), np.where(empty, 1.0, high)
    step = (high - low) / CELLS
    edges = low[:, None] + step[:, None] * np.arange(CELLS + 1)
    below = edges[:, None, :] - log_mean[:, :, None]
    below /= sd[:, :, None]
    special.ndtr(below, out=below)
    np.maximum(below, 1e-300, out=below)
    below[~present] = 1.0
    best = np.diff(below, axis=2)
    middle = below[:, :, :-1] + below[:, :, 1:]
    middle *= 0.5
    # the product over the others is the product over all, over one's own
    best /= middle
    log_all = np.log(middle, out=middle).sum(axis=1)
    best *= np.exp(log_all)[:, None, :]
    shares = np.where(present, best.sum(axis=2), 0.0)
    total = shares.sum(axis=1, keepdims=True)
    shares /= np.where(total > 0, total, 1.0)
    return shares, edges, below
