"""The draw: which arm a post belongs to, and which generator writes it.

What belongs here: the arms, the weights each arm draws by, and the inverse-CDF draw from a
uniform number that the caller supplies. What does not: where the weights come from, and where
uniform numbers come from (both are arguments).

The database has the same functions in SQL for engines in other languages, so each rule here is
one that SQL can state exactly:

- Names are ordered by code point (``COLLATE "C"`` in SQL, ``sorted`` here), never by a locale.
- A generator of weight 0 takes no part in any arm: it is disabled, archived or locked at nothing.
- Ties in ``variant_b`` are broken by name.

Both sides compute in double precision; their probabilities agree to about 1e-15, so they draw the
same generator unless ``u`` lies that close to a boundary.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal, get_args

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS

Arm = Literal["control", "variant_a", "variant_b", "holdout"]

#: Every arm that a post can carry.
ARMS: Final[tuple[str, ...]] = get_args(Arm)

#: The share of the posts that each arm gets, in the order of the draw. Sums to 1. An optional
#: holdout takes its share from all three alike.
ARM_SHARES: Final[dict[str, float]] = {"control": 0.60, "variant_a": 0.25, "variant_b": 0.15}

#: How far ``variant_a`` goes from the learned weights to the uniform ones.
FLATTENING: Final = 0.30
#: What ``variant_b`` multiplies the weights of the least drawn third by, before renormalising.
RAISE_LOWEST: Final = 1.3
#: What ``variant_b`` multiplies all other weights by, before renormalising.
LOWER_OTHERS: Final = 0.9
#: How far a sum of weights may be from 1: rounding of sums, never a forgotten generator.
SUM_TOLERANCE: Final = 1e-9


class InvalidWeightsError(ValueError):
    """Weights that nothing may be drawn by; the message says what is wrong with which."""


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are not a probability distribution.

    A sum other than 1 is a fault of whoever made the weights. To renormalise here would hide it,
    and drawing regardless would never reach the last names (sum above 1) or favour the very last
    one (sum below 1).

    Raises
    ------
    InvalidWeightsError
        No weights; a weight that is negative, infinite or not a number; a sum that is off 1 by
        more than ``SUM_TOLERANCE``.
    """
    if not weights:
        raise InvalidWeightsError("there are no weights to draw by: register a generator first")
    for name in sorted(weights):
        if not (math.isfinite(weights[name]) and weights[name] >= 0):
            raise InvalidWeightsError(
                f"the weight of {name!r} is {weights[name]!r}; it must be a finite number >= 0"
            )
    total = math.fsum(weights.values())
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise InvalidWeightsError(
            f"the weights of {len(weights)} generators sum to {total!r}, not to 1"
        )


def arm_weights(
    weights: Mapping[str, float],
    arm: str,
    *,
    defaults: Mapping[str, float] = DEFAULT_WEIGHTS,
) -> dict[str, float]:
    """Return the weights that an arm draws by.

    With n generators of positive weight (the drawn ones; a weight of 0 stays 0 in every arm):

    - ``control``: the learned weights themselves.
    - ``variant_a``: ``w + 0.30 * (1/n - w)``, 30 % of the way to uniform.
    - ``variant_b``: the ``max(1, n // 3)`` drawn generators with the lowest weights times 1.3, all
      others times 0.9, divided by the new sum. Equal weights are ordered by name (code points), so
      with twelve equal weights the first four names are raised. With n = 1 nothing changes.
    - ``holdout``: ``defaults`` restricted to the drawn generators, divided by their sum. A drawn
      generator without a default has 0 here: the arm shows what the account would have done
      without learning. Where no drawn generator has a default, the account had nothing to start
      from but equal weights, and the arm is uniform.

    Parameters
    ----------
    weights
        Learned weight of each generator; finite, not negative, sum 1.
    arm
        One of ``ARMS``.
    defaults
        The weights the account started with.

    Returns
    -------
    dict
        The same names in sorted order; sum 1 up to rounding (well inside ``SUM_TOLERANCE``).

    Raises
    ------
    InvalidWeightsError
        See ``check_weights``.
    ValueError
        An unknown arm.
    """
    check_weights(weights)
    learned = {name: float(weights[name]) for name in sorted(weights)}
    drawn = [name for name, weight in learned.items() if weight > 0]
    if arm == "control":
        return learned
    if arm == "variant_a":
        uniform = 1.0 / len(drawn)
        flattened = {name: learned[name] + FLATTENING * (uniform - learned[name]) for name in drawn}
        return {name: flattened.get(name, 0.0) for name in learned}
    if arm == "variant_b":
        lowest = sorted(drawn, key=lambda name: (learned[name], name))[: max(1, len(drawn) // 3)]
        return _normalised(
            {
                name: weight * (RAISE_LOWEST if name in lowest else LOWER_OTHERS)
                for name, weight in learned.items()
            }
        )
    if arm == "holdout":
        started_with = {name: float(defaults.get(name, 0.0)) for name in drawn}
        if not any(started_with.values()):
            started_with = dict.fromkeys(drawn, 1.0)
        return _normalised({name: started_with.get(name, 0.0) for name in learned})
    raise ValueError(f"unknown arm {arm!r}; the arms are {', '.join(ARMS)}")


def draw(weights: Mapping[str, float], u: float) -> tuple[str, float]:
    """Draw one generator by inverse CDF over the names in sorted order.

    The name returned is the first whose cumulative weight exceeds ``u``. Where rounding leaves the
    last cumulative sum a hair below 1 and ``u`` above it, it is the last name of positive weight,
    so a generator of weight 0 is never drawn, and none of positive weight is out of reach.

    Parameters
    ----------
    weights
        Weight of each generator; finite, not negative, sum 1.
    u
        A uniform number in [0, 1).

    Returns
    -------
    tuple
        The generator's name and the probability with which it was drawn, which is its weight.

    Raises
    ------
    InvalidWeightsError
        See ``check_weights``.
    ValueError
        ``u`` outside [0, 1).
    """
    check_weights(weights)
    _check_uniform(u)
    return _inverse_cdf({name: float(weights[name]) for name in sorted(weights)}, u)


def arm_shares(holdout_share: float = 0.0) -> dict[str, float]:
    """Return the share of the posts of each arm, in the order of the draw; sum 1.

    Raises
    ------
    ValueError
        ``holdout_share`` outside [0, 1).
    """
    if not 0.0 <= holdout_share < 1.0:
        raise ValueError(f"holdout_share is {holdout_share!r}; it must be in [0, 1)")
    shares = {arm: share * (1.0 - holdout_share) for arm, share in ARM_SHARES.items()}
    return shares | {"holdout": holdout_share}


def draw_arm(u: float, holdout_share: float = 0.0) -> str:
    """Draw the arm of a post from a uniform number in [0, 1).

    The order is that of ``ARM_SHARES`` and then ``holdout``, which lies at the upper end of the
    unit interval and takes its share from the other three alike.

    Raises
    ------
    ValueError
        ``u`` or ``holdout_share`` outside [0, 1).
    """
    _check_uniform(u)
    return _inverse_cdf(arm_shares(holdout_share), u)[0]


def marginal_weights(
    weights: Mapping[str, float],
    holdout_share: float = 0.0,
    *,
    defaults: Mapping[str, float] = DEFAULT_WEIGHTS,
) -> dict[str, float]:
    """Return the probability of each generator when the arm too is drawn.

    This is the mixture of the arms' weights by their shares: what the shares of all posts should
    look like, as against the learned weights, which only the control arm draws by.
    """
    mixture = dict.fromkeys(sorted(weights), 0.0)
    for arm, share in arm_shares(holdout_share).items():
        if share > 0:
            for name, weight in arm_weights(weights, arm, defaults=defaults).items():
                mixture[name] += share * weight
    return mixture


def _normalised(masses: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(masses.values())
    return {name: mass / total for name, mass in masses.items()}


def _inverse_cdf(masses: Mapping[str, float], u: float) -> tuple[str, float]:
    cumulative = 0.0
    last: tuple[str, float] | None = None
    for name, mass in masses.items():
        if mass <= 0:
            continue
        cumulative += mass
        last = (name, mass)
        if u < cumulative:
            break
    if last is None:
        raise InvalidWeightsError("every weight is 0: nothing can be drawn")
    return last


def _check_uniform(u: float) -> None:
    if not 0.0 <= u < 1.0:
        raise ValueError(f"u is {u!r}; it must be in [0, 1)")
