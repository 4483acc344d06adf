"""One step of an account whose parameters and rates were learned before.

Between two full fits the rates of generators, the baseline, the lag and the audience's clock hardly
move; what is new are posts, and how well each of them does. So a step finds the frailties θ_p of
the posts of a few days and splits their windows: from the best linear frailties

    θ̂_p = 1 + φλ e_pᵀV⁻¹(D − Σ λe − (b − u)h),     V = diag(m + n) + Σ_p φλ²e_p e_pᵀ

(V at the rates that are drawn together, as in the fit) by the EM of the split at fixed rates
(``fit`` says the same of a month). A few days are few windows and posts: everything is dense.

Here: the step. Not here: the fit that it relies on, and when to fit again, which is the caller's.
"""

from typing import Final

import numpy as np
from scipy import linalg

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.frailties import settle
from genopt_pipeline.core.attribution.frames import FloatArray, IntArray, Problem
from genopt_pipeline.core.attribution.lag import arrival_shares
from genopt_pipeline.core.attribution.learned import Learned
from genopt_pipeline.core.attribution.rates import GeneratorRates
from genopt_pipeline.core.attribution.split import Entries, PostModel, Solved, split

_LOWEST_FRAILTY: Final = 0.02
_TINY: Final = 1e-12


def solve_step(
    problem: Problem, config: AttributionConfig, learned: Learned, *, variance: bool = True
) -> Solved:
    """The attribution of a few days at the rates and parameters of an earlier fit.

    Raises
    ------
    ValueError
        The exposure is not measured in what the parameters were learned from.
    """
    if problem.exposure_kind != learned.exposure_kind and len(problem.amount):
        raise ValueError(
            f"the account's parameters are per unit of {learned.exposure_kind}, but these "
            f"exposures are {problem.exposure_kind}: fit it again"
        )
    used = learned.jumps.plausible(problem, config)
    place = learned.position(problem.generators)
    rate, split_rate, log_sd = _of_generators(learned, place)
    g = problem.generator_of
    exposure, hours = _arrivals(problem, learned)
    organic = learned.organic_per_hour * hours
    unfollows = np.maximum(learned.unfollows_per_hour * hours, _TINY)
    drawn, own, phi = rate[g], split_rate[g], learned.frailty_variance
    seen = exposure * used[:, None]
    noise = (seen * (phi * drawn**2)) @ seen.T
    noise.flat[:: len(hours) + 1] += seen @ drawn + organic + unfollows
    follow = np.where(used, problem.delta - seen @ own - learned.net_per_hour * hours, 0.0)
    factor = linalg.cho_factor(noise, lower=True, overwrite_a=True, check_finite=False)
    best = 1.0 + phi * own * (linalg.cho_solve(factor, follow, check_finite=False) @ seen)
    explained = None
    if variance:
        explained = own**2 * (seen * linalg.cho_solve(factor, seen, check_finite=False)).sum(axis=0)
    frailty = settle(
        seen[used],
        own,
        np.maximum(best, _LOWEST_FRAILTY),
        delta=problem.delta[used],
        organic=organic[used],
        unfollows=unfollows[used],
        a=1.0 / phi,
        config=config,
    )
    window, post = np.nonzero(exposure)
    return Solved(
        learned=learned,
        rates=_rates(learned, place),
        used=used,
        typical=learned.jumps.typical(problem),
        posts=PostModel(
            rate=drawn,
            split_rate=own,
            log_sd=log_sd[g],
            frailty=frailty,
            exposure=exposure.sum(axis=0),
            explained=explained,
        ),
        split=split(
            problem,
            used,
            Entries(window, post, exposure[window, post]),
            own * frailty,
            organic=organic,
            unfollows=unfollows,
        ),
        search=None,
    )


def _arrivals(problem: Problem, learned: Learned) -> tuple[FloatArray, FloatArray]:
    """Expected arrivals (J, P), in units of exposure, and the windows' length on the clock (J,)."""
    starts, slot = np.unique(problem.increment_start, return_inverse=True)
    ends = np.zeros(len(starts))
    ends[slot] = problem.increment_end
    windows, posts, slots = len(problem.delta), len(problem.posts), len(starts)
    clock = learned.rhythm.clock(
        np.concatenate([problem.start_hours, problem.end_hours, starts, ends]), problem.origin
    )
    begin, end = clock[:windows], clock[windows : 2 * windows]
    first, last = clock[2 * windows : 2 * windows + slots], clock[2 * windows + slots :]
    window, source, share = arrival_shares(begin, end, first, last, learned.lag_hours)
    to_windows = np.zeros((windows, slots))
    to_windows[window, source] = share
    increments = np.bincount(
        slot * posts + problem.increment_post, problem.amount, slots * posts
    ).reshape(slots, posts)
    return to_windows @ increments, end - begin


def _of_generators(learned: Learned, place: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """λ drawn together, λ to split by and the log sd; of an unknown generator, the prior's."""
    return (
        np.append(learned.rate, learned.level)[place],
        np.append(learned.split_rate, learned.level)[place],
        np.append(learned.log_sd, learned.rate_spread)[place],
    )


def _rates(learned: Learned, place: IntArray) -> GeneratorRates:
    """As they were learned; credit by the prior's rate is worth no more than that of any other."""
    least = np.min(learned.information, initial=1.0)
    return GeneratorRates(
        rate=np.append(learned.rate_per_1k, learned.level_per_1k)[place],
        log_sd=np.append(learned.log_sd_per_1k, learned.rate_spread)[place],
        information=np.append(learned.information, least)[place],
    )
