"""What each guard costs, in the account's F/1K.

Here: the value of the best weights with and without a guard, from estimated rates. Not here:
enforcing the guards (``core.guards``).
"""

import numpy as np
from numpy.typing import NDArray

from genopt_pipeline.core.guards import FeasibleSet, Floats


def best_value(rates: Floats, lower: Floats, upper: Floats) -> float:
    """Greatest ``sum w rate`` over ``lower <= w <= upper, sum w = 1``: fill from the best down."""
    weights = lower.astype(np.float64).copy()
    left = 1.0 - weights.sum()
    for k in np.argsort(-rates, kind="stable"):
        more = min(left, float(upper[k] - weights[k]))
        weights[k] += more
        left -= more
    return float(weights @ rates)


def guard_prices(
    rates: Floats,
    target: Floats,
    proposed: Floats,
    bounds: FeasibleSet,
    drawn: NDArray[np.bool_],
) -> dict[str, float | None]:
    """Expected F/1K of the target and of the proposal, and what each guard takes from the best.

    ``floor``, ``cap`` and ``locks`` are the losses of the best possible weights by that guard
    alone, at the estimated rates; ``step`` is what the proposal still lacks to the target. All in
    followers per 1,000 impressions; None where the rate of a drawn generator is unknown.
    """
    keys = ("proposed", "target", "best", "floor", "cap", "locks", "step")
    if not np.isfinite(rates[drawn]).all():
        return dict.fromkeys(keys)
    known = np.where(drawn, rates, 0.0)
    zero, one = np.zeros_like(known), drawn.astype(np.float64)
    unguarded = best_value(known, zero, one)
    floors = np.where(bounds.free, bounds.lower, 0.0)
    caps = np.where(bounds.free, bounds.upper, one)
    held = drawn & ~bounds.free
    values = {
        "proposed": float(known @ proposed),
        "target": float(known @ target),
        "best": best_value(known, bounds.lower, bounds.upper),
        "floor": unguarded - best_value(known, floors, one),
        "cap": unguarded - best_value(known, zero, caps),
        "locks": unguarded
        - best_value(known, np.where(held, bounds.lower, 0.0), np.where(held, bounds.upper, one)),
        "step": float(known @ (target - proposed)),
    }
    return dict(values)
