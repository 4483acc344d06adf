"""What every set of weights must satisfy, whichever policy proposed it.

Here: the feasible set, the step limit, the Euclidean projection and the rounding to stored
weights. Not here: what the weights should be (``policies``), and what the data say
(``estimation``).

All functions work on rows: an array of shape ``(accounts, generators)``, so that one account and
100,000 cost the same code. A generator that may not move has equal bounds: a locked one its
weight, a disabled one 0. Stored weights are integers of 1/10,000, the resolution of the
database, so that "sums to exactly 1" is a statement about integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from genopt_pipeline.core.generators import DRAWN_STATUSES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Stored weights are multiples of 1/UNITS (numeric(6,4)).
UNITS: Final = 10_000

#: Below this, a difference between sums of weights is floating-point noise.
_NOISE: Final = 1e-9


class GuardError(ValueError):
    """The weights or settings leave no feasible set; the message names what to change."""


@dataclass(frozen=True)
class GuardConfig:
    """The safety limits.

    floor, cap: bounds of the weight of a drawn, unlocked generator.
    step: share of the way from the weights in force to the target that one cycle may go.
    """

    floor: float = 0.02
    cap: float = 1.0
    step: float = 0.30

    def __post_init__(self) -> None:
        """Refuse settings that no set of weights can meet."""
        for name, value, low in (("floor", self.floor, 0.0), ("cap", self.cap, 0.0)):
            if not (np.isfinite(value) and low <= value <= 1.0):
                raise GuardError(f"{name} must be a number from 0 to 1, not {value!r}")
        if not (np.isfinite(self.step) and 0.0 < self.step <= 1.0):
            raise GuardError(f"step must be a number above 0 and at most 1, not {self.step!r}")
        if self.floor > self.cap:
            raise GuardError(f"floor {self.floor:g} is above cap {self.cap:g}")


@dataclass(frozen=True)
class FeasibleSet:
    """Bounds of one account's weights, which sum to 1. Arrays of shape (generators,)."""

    lower: Floats
    upper: Floats
    free: Bools
    floor: float
    warnings: tuple[str, ...]

    @property
    def free_mass(self) -> float:
        """What the unlocked generators share."""
        return float(1.0 - self.lower[~self.free].sum())


def floor_in_force(drawn: int, config: GuardConfig) -> float:
    """The floor for so many drawn generators: all floors together take at most half."""
    return 1.0 / (2 * drawn) if drawn * config.floor > 0.5 else config.floor


def feasible_set(
    names: Sequence[str],
    weights: Floats,
    statuses: Sequence[str],
    locked: Bools,
    config: GuardConfig,
) -> FeasibleSet:
    """Bounds for one account.

    Locked generators keep their weight, whatever the floor says; disabled and archived ones have
    0, locked or not. Where ``n * floor`` exceeds 1/2 the floor is ``1 / (2 n)``: a floor that
    takes more than half of the weight leaves nothing to learn with.

    Raises
    ------
    GuardError
        No generator is drawn, or locks, floor and cap contradict each other; the locks are named.
    """
    drawn = np.array([status in DRAWN_STATUSES for status in statuses], dtype=np.bool_)
    held = locked & drawn
    free = drawn & ~locked
    n = int(drawn.sum())
    if n == 0:
        raise GuardError("no generator is active or testing, so there is none to give weight to")
    warnings: list[str] = []
    floor = floor_in_force(n, config)
    if floor < config.floor:
        warnings.append(
            f"floor {config.floor:g} for {n} generators would take {n * config.floor:.0%} of the "
            f"weight; {floor:.4g} is used"
        )
    lower = np.where(free, floor, np.where(held, weights, 0.0))
    upper = np.where(free, config.cap, lower)
    locks = ", ".join(
        f"{name} {weight:g}" for name, weight, h in zip(names, weights, held, strict=True) if h
    )
    held_mass, n_free = float(weights[held].sum()), int(free.sum())
    if n_free == 0 and abs(held_mass - 1.0) > _NOISE:
        raise GuardError(
            f"every drawn generator is locked and the locks sum to {held_mass:g}, not 1: {locks}; "
            "unlock one"
        )
    if lower.sum() > 1.0 + _NOISE:
        raise GuardError(
            f"locked weights sum to {held_mass:g} and leave less than the floor {floor:g} for "
            f"each of {n_free} others: {locks}; unlock one or lower it"
        )
    if upper.sum() < 1.0 - _NOISE:
        because = f" beside the locks {locks}" if locks else ""
        raise GuardError(
            f"cap {config.cap:g} leaves {n_free} generators less weight than they must "
            f"share{because}; raise it to at least {(1.0 - held_mass) / n_free:.4g}"
        )
    return FeasibleSet(lower, upper, free, floor, tuple(warnings))


def project(points: Floats, lower: Floats, upper: Floats) -> Floats:
    """Nearest points, in the Euclidean sense, with ``lower <= w <= upper`` and sum 1.

    ``w = clip(x + c, lower, upper)`` for one c a row. The sum is piecewise linear and
    non-decreasing in c, with breaks where an entry reaches a bound, so c is found exactly by
    sorting the breaks. Rows that are feasible already come back unchanged. All arrays have the
    shape (rows, generators); rows must satisfy ``sum(lower) <= 1 <= sum(upper)``.
    """
    inside = ((points >= lower) & (points <= upper)).all(axis=1)
    settled = inside & (np.abs(points.sum(axis=1) - 1.0) <= 1e-15 * points.shape[1])
    if settled.all():
        return points.copy()
    breaks = np.concatenate([lower - points, upper - points], axis=1)
    order = np.argsort(breaks, axis=1, kind="stable")
    at = np.take_along_axis(breaks, order, axis=1)
    slope = np.cumsum(np.where(order < points.shape[1], 1.0, -1.0), axis=1)
    total = np.zeros_like(at)
    total[:, 1:] = np.cumsum(slope[:, :-1] * np.diff(at, axis=1), axis=1)
    total += lower.sum(axis=1, keepdims=True)
    # the last break at which the sum is still at most 1
    k = np.maximum((total <= 1.0).sum(axis=1) - 1, 0)[:, None]
    rise = np.take_along_axis(slope, k, axis=1)
    short = 1.0 - np.take_along_axis(total, k, axis=1)
    shift = np.take_along_axis(at, k, axis=1) + short / np.maximum(rise, 1.0)
    # solved once more on the entries that are between their bounds, free of the summed rounding
    moved = points + shift
    between = (moved > lower) & (moved < upper)
    pinned = np.where(between, points, np.clip(moved, lower, upper)).sum(axis=1, keepdims=True)
    count = between.sum(axis=1, keepdims=True)
    shift = np.where(count > 0, (1.0 - pinned) / np.maximum(count, 1), shift)
    moved = np.where(between, points + shift, np.clip(moved, lower, upper))
    return np.where(settled[:, None], points, np.clip(moved, lower, upper))


def scale_targets(targets: Floats, lower: Floats, upper: Floats) -> Floats:
    """Targets of the movable generators scaled to the mass they share; the others their bound.

    Shapes (rows, generators). A row whose movable targets are all 0 gets equal targets.
    """
    free = lower < upper
    mass = 1.0 - np.where(free, 0.0, lower).sum(axis=1, keepdims=True)
    wanted = np.where(free, targets, 0.0)
    total = wanted.sum(axis=1, keepdims=True)
    equal = free / np.maximum(free.sum(axis=1, keepdims=True), 1)
    share = np.where(total > 0, wanted / np.where(total > 0, total, 1.0), equal)
    return np.where(free, share * mass, lower)


def guarded_step(
    weights: Floats, targets: Floats, lower: Floats, upper: Floats, step: float
) -> tuple[Floats, Floats, Floats]:
    """One guarded cycle: base, stepped and feasible weights, each (rows, generators).

    base = ``weights`` projected onto today's set; stepped = base + step (target - base); the
    last is stepped, projected. Projection does not expand and leaves the base where it is, so
    ``|feasible - base| <= step |target - base|`` whatever the target.
    """
    base = project(weights, lower, upper)
    stepped = base + step * (scale_targets(targets, lower, upper) - base)
    return base, stepped, project(stepped, lower, upper)


def round_to_units(weights: Floats, lower: Floats, upper: Floats) -> Ints:
    """Weights as integers of 1/UNITS that sum to exactly UNITS, by largest remainder.

    Floors are kept (a floor between two units counts as the upper one) and so are caps; a locked
    weight with more than four decimals goes to the nearest unit, since no more can be stored,
    and where every generator is locked such weights share the remaining units. Ties of the
    remainder go to the earlier column. Shapes (rows, generators).
    """
    exact = weights * UNITS
    whole = np.rint(exact)
    exact = np.where(np.abs(exact - whole) < 1e-6, whole, exact)  # 0.07 * 10000 is 700.0000000001
    free = lower < upper
    low = np.where(free, np.ceil(lower * UNITS - 1e-6), np.rint(exact))
    high = np.where(free, np.floor(upper * UNITS + 1e-6), np.rint(exact))
    all_held = ~free.any(axis=1, keepdims=True)
    low = np.where(all_held, np.floor(exact), low)
    high = np.where(all_held, np.ceil(exact), high)
    # where whole units cannot meet both bounds (three generators capped at 1/3), one unit of give
    low = np.where(free & (low.sum(axis=1, keepdims=True) > UNITS), np.maximum(low - 1, 0), low)
    high = np.where(free & (high.sum(axis=1, keepdims=True) < UNITS), high + 1, high)
    units = np.clip(np.floor(exact), low, high)
    remainder = np.round(exact - units, 9)
    while True:
        missing = UNITS - units.sum(axis=1, keepdims=True)
        if not missing.any():
            return units.astype(np.int64)
        can_move = np.where(missing > 0, units < high, units > low)
        if not (can_move | (missing == 0)).any(axis=1).all():
            raise GuardError("no weights of four decimals satisfy these locks, floor and cap")
        key = np.where(can_move, np.where(missing > 0, -remainder, remainder), np.inf)
        rank = np.empty_like(key)
        np.put_along_axis(
            rank,
            np.argsort(key, axis=1, kind="stable"),
            np.broadcast_to(np.arange(key.shape[1], dtype=float), key.shape),
            axis=1,
        )
        move = np.where(can_move & (rank < np.abs(missing)), np.sign(missing), 0.0)
        units = units + move
        remainder = remainder - move
