"""The split of every window's change among posts and baseline, and what a solved account is.

With expected follows m_j = b·h_j + Σ_p λθe and unfollows n_j, the E step of the Skellam model
gives the follows Ā_j behind a change. Post p gets the share λθe_pj/m_j of them, the organic line
b·h_j/m_j, and what they exceed the change by are the unfollows: Σ_p F_pj + organic − Ū_j = D_j.

Here: this arithmetic and the arrays of its result. Not here: where λ, θ, b and u come from
(``fit``, ``step``), nor the frames made of it (``report``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from genopt_pipeline.core.attribution.frames import BoolArray, FloatArray, IntArray, Problem
from genopt_pipeline.core.attribution.learned import Learned
from genopt_pipeline.core.attribution.rates import GeneratorRates
from genopt_pipeline.core.attribution.skellam import hidden_counts


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Expected arrivals by window and post, (N,) each: places, and units of exposure."""

    window: IntArray
    post: IntArray
    exposure: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Credit of each of the N entries, and what the windows (J,) and posts (P,) make of it."""

    window: IntArray
    post: IntArray
    credit: FloatArray
    variance: FloatArray
    #: expected unfollows of each window
    unfollows: FloatArray
    #: credit of each post so far, and the variance of its split
    total: FloatArray
    total_variance: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class PostModel:
    """What the model says of P posts; arrays (P,)."""

    #: its generator's λ drawn together, λ to split by, and the log sd of the first
    rate: FloatArray
    split_rate: FloatArray
    log_sd: FloatArray
    #: θ_p
    frailty: FloatArray
    #: exposure whose follows have arrived
    exposure: FloatArray
    #: λ²e_pᵀV⁻¹e_p; None if it was not wanted
    explained: FloatArray | None


@dataclass(frozen=True, slots=True)
class Search:
    """How the search for the parameters ended."""

    #: standard errors: b, u an hour; log lag, log φ; of what was not estimated, none
    errors: Mapping[str, float]
    log_likelihood: float
    iterations: int
    converged: bool


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """An account's changes split among its posts, as arrays; windows J, posts P, generators K."""

    learned: Learned
    #: of the problem's generators
    rates: GeneratorRates
    #: windows that took part, and the change that is typical of each
    used: BoolArray
    typical: FloatArray
    posts: PostModel
    split: Split
    #: None where the parameters were learned before
    search: Search | None


def split(
    problem: Problem,
    used: BoolArray,
    entries: Entries,
    rate: FloatArray,
    *,
    organic: FloatArray,
    unfollows: FloatArray,
) -> Split:
    """Split all windows; ``rate`` is λθ of each post, ``organic`` and ``unfollows`` of each window.

    Windows that do not take part stay wholly on the baseline.
    """
    j, p = entries.window, entries.post
    windows, posts = len(problem.delta), len(problem.posts)
    expected = rate[p] * entries.exposure * used[j]
    m = organic + np.bincount(j, expected, windows)
    follows, left, hidden = hidden_counts(problem.delta, m, unfollows)
    share = expected / m[j]
    credit = follows[j] * share
    variance = credit * (1.0 - share) + hidden[j] * share**2
    return Split(
        window=j,
        post=p,
        credit=credit,
        variance=variance,
        unfollows=np.where(used, left, np.maximum(-problem.delta, 0.0)),
        total=np.bincount(p, credit, posts).astype(np.float64),
        total_variance=np.bincount(p, variance, posts).astype(np.float64),
    )
