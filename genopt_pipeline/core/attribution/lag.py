"""When the follows of an impression arrive: an exponential lag, integrated over windows.

Here: the kernel that turns increments of exposure into expected arrivals in each window. Not here:
the estimation of the lag (``fit``).
"""

from typing import Final

import numpy as np
from scipy import sparse

from genopt_pipeline.core.attribution.frames import FloatArray, IntArray, Problem

#: arrivals later than this many lags are neglected (e⁻⁷, one in a thousand)
_REACH_LAGS: Final = 7.0


def arrived(age_hours: FloatArray, width_hours: FloatArray, lag_hours: float) -> FloatArray:
    """Share of follows arrived at ``age_hours`` after the start of a window of exposure.

    Exposure is uniform over ``width_hours`` w, the lag exponential with mean L. With t the age,
    H(t) = 0 before the window, (t − L(1 − e^(−t/L)))/w inside it, and
    1 − L(e^(−(t−w)/L) − e^(−t/L))/w after it.
    """
    t = np.maximum(age_hours, 0.0)
    after = np.maximum(t - width_hours, 0.0)
    inside = np.minimum(t, width_hours)
    tail = np.exp(-after / lag_hours) - np.exp(-t / lag_hours)
    share: FloatArray = (inside - lag_hours * tail) / width_hours
    return np.maximum(share, 0.0)


def arrival_shares(
    window_start: FloatArray,
    window_end: FloatArray,
    start: FloatArray,
    end: FloatArray,
    lag_hours: float,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Share of the exposure between ``start`` and ``end`` whose follows arrive in each window.

    Entries in order of the exposures (S,), then of the windows (J,) they reach: window, exposure,
    share.
    """
    first = np.searchsorted(window_end, start, side="right")
    last = np.searchsorted(window_start, end + _REACH_LAGS * lag_hours, side="left")
    width = int(np.max(last - first, initial=1))
    windows = first[:, None] + np.arange(width)
    source, step = np.nonzero(windows < np.minimum(last, len(window_end))[:, None])
    j = windows[source, step]
    width_hours = (end - start)[source]
    share = arrived(window_end[j] - start[source], width_hours, lag_hours) - arrived(
        window_start[j] - start[source], width_hours, lag_hours
    )
    return j, source, share


def exposure_matrix(problem: Problem, lag_hours: float) -> sparse.csr_array:
    """Expected arrivals e_pj, in units of exposure: sparse, shape (windows, posts).

    What arrives outside of all windows is in none of them. A post has an entry, perhaps zero, for
    each window in which it was seen.
    """
    n_windows, n_posts = len(problem.delta), len(problem.posts)
    if not len(problem.amount):
        return sparse.csr_array((n_windows, n_posts))
    starts, slot = np.unique(problem.increment_start, return_inverse=True)
    ends = np.zeros(len(starts))
    ends[slot] = problem.increment_end
    window, source, share = arrival_shares(
        problem.start_hours, problem.end_hours, starts, ends, lag_hours
    )
    to_windows = sparse.csr_array((share, (window, source)), shape=(n_windows, len(starts)))
    increments = sparse.csr_array(
        (problem.amount, (slot, problem.increment_post)), shape=(len(starts), n_posts)
    )
    matrix = sparse.csr_array(to_windows @ increments)
    matrix.sort_indices()
    return matrix
