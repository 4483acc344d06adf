"""From a policy's target to a proposal: gate, guards, rounding, and the reason for every change.

Here: what is common to all policies. Not here: what a policy wants (its own module), and what
happens to a proposal (publishing it is no business of core).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from genopt_pipeline.core.changes import is_significant
from genopt_pipeline.core.generators import DRAWN_STATUSES
from genopt_pipeline.core.guards import (
    UNITS,
    FeasibleSet,
    Floats,
    feasible_set,
    guarded_step,
    round_to_units,
    scale_targets,
)
from genopt_pipeline.core.policies.contract import (
    GeneratorState,
    OptimizerConfig,
    PolicyName,
    ProposalInputError,
    Target,
    WeightChange,
    WeightProposal,
)
from genopt_pipeline.core.policies.exponential import PerformanceTable, exponential_target
from genopt_pipeline.core.policies.prices import guard_prices
from genopt_pipeline.core.policies.thompson import thompson_target_from_table

#: Sums of weights in force may differ from 1 by this much without a word (stored decimals).
_SUM_TOLERANCE = 1e-6


def state_arrays(states: Mapping[str, GeneratorState]) -> tuple[Floats, Any, Any]:
    """Weights, locks and whether drawn, each of shape (generators,), in the mapping's order."""
    weights = np.array([state.weight for state in states.values()], dtype=np.float64)
    locked = np.array([state.locked for state in states.values()], dtype=np.bool_)
    drawn = np.array([s.status in DRAWN_STATUSES for s in states.values()], dtype=np.bool_)
    return weights, locked, drawn


def bounds_for(states: Mapping[str, GeneratorState], config: OptimizerConfig) -> FeasibleSet:
    """Today's feasible set for these generators; see ``guards.feasible_set``."""
    weights, locked, _ = state_arrays(states)
    return feasible_set(
        tuple(states), weights, [s.status for s in states.values()], locked, config.guards
    )


def propose_from_table(
    table: PerformanceTable,
    states: Mapping[str, GeneratorState],
    *,
    bounds: FeasibleSet,
    now: datetime,
    config: OptimizerConfig,
    warnings: tuple[str, ...] = (),
    force: bool = False,
) -> WeightProposal:
    """A proposal from per-generator counts alone, all taken to be of the window.

    The table's rows are in the order of ``states``.

    Raises
    ------
    ProposalInputError
        The objective is followers per post, which needs the reach of single posts.
    """
    if config.objective != "f_per_1k":
        raise ProposalInputError(f"the objective {config.objective} needs single posts, not counts")
    _, _, drawn = state_arrays(states)
    if config.policy == "exponential":
        target = exponential_target(table, drawn, bounds.floor, config.exponential)
    else:
        target = thompson_target_from_table(
            table, drawn, bounds.floor, config.thompson, config.estimation
        )
    return assemble(
        policy=config.policy,
        states=states,
        bounds=bounds,
        target=target,
        posts_in_window=int(table.posts.sum()),
        now=now,
        config=config,
        warnings=warnings,
        force=force,
    )


def assemble(
    *,
    policy: PolicyName,
    states: Mapping[str, GeneratorState],
    bounds: FeasibleSet,
    target: Target,
    posts_in_window: int,
    now: datetime,
    config: OptimizerConfig,
    warnings: tuple[str, ...] = (),
    force: bool = False,
) -> WeightProposal:
    """Gate, guard and round a target, and say why each weight changes.

    ``force`` passes the gate whatever the number of posts (a person asked for it).
    """
    names = tuple(states)
    weights, locked, drawn = state_arrays(states)
    lower, upper = bounds.lower[None, :], bounds.upper[None, :]
    too_few = posts_in_window < config.min_posts_window and not force
    skipped = too_few or not target.evidence
    base, stepped, feasible = (
        rows[0]
        for rows in guarded_step(
            weights[None, :], target.shares[None, :], lower, upper, config.guards.step
        )
    )
    wanted = scale_targets(target.shares[None, :], lower, upper)[0]
    unrounded = base if skipped else feasible
    stored = round_to_units(unrounded[None, :], lower, upper)[0]
    notes = list(bounds.warnings) + list(warnings)
    in_force = float(weights[drawn].sum())
    if abs(in_force - 1.0) > _SUM_TOLERANCE:
        notes.append(
            f"the weights in force sum to {in_force:.6g}, not 1; the nearest set that does is used"
        )
    held = [n for n, w, d in zip(names, weights, locked & drawn, strict=True) if d and _odd(w)]
    if held:
        notes.append(
            f"locked weights with more than four decimals are stored rounded: {', '.join(held)}"
        )
    if too_few:
        reason = (
            f"{posts_in_window} posts in {config.window_days:g} days, fewer than "
            f"{config.min_posts_window}: the weights stay"
        )
    elif skipped:
        reason = "no generator has enough measured posts to be judged: the weights stay"
    else:
        reason = f"{posts_in_window} posts in {config.window_days:g} days"
    explanations = {
        name: _explain(
            states[name],
            target.reasons[k],
            wanted=float(wanted[k]),
            stepped=float(stepped[k]),
            result=float(feasible[k]),
            bounds=bounds,
            k=k,
            step=config.guards.step,
            skipped=skipped,
        )
        for k, name in enumerate(names)
    }
    return WeightProposal(
        policy=policy,
        as_of=now,
        decision="skipped" if skipped else "proposed",
        reason=reason,
        weights={name: int(units) / UNITS for name, units in zip(names, stored, strict=True)},
        unrounded_weights={n: float(w) for n, w in zip(names, unrounded, strict=True)},
        changes=_changes(names, weights, stored, explanations),
        explanations=explanations,
        warnings=tuple(notes),
        diagnostics={
            "floor": bounds.floor,
            "target": {n: float(w) for n, w in zip(names, wanted, strict=True)},
            "failing": [n for n, f in zip(names, target.failing, strict=True) if f],
            "prices": guard_prices(target.rates, wanted, feasible, bounds, drawn),
            **target.diagnostics,
        },
        posts_analyzed=posts_in_window,
        period_days=config.window_days,
    )


def _odd(weight: float) -> bool:
    return bool(abs(weight * UNITS - round(weight * UNITS)) > 1e-6)


def _changes(
    names: tuple[str, ...], weights: Floats, stored: Any, explanations: Mapping[str, str]
) -> tuple[WeightChange, ...]:
    changes = []
    for k, name in enumerate(names):
        old, new = float(weights[k]), int(stored[k]) / UNITS
        if abs(new - old) * UNITS < 1e-6:
            continue
        percent = round(100.0 * (new - old) / old, 2) if old > 0 else None
        changes.append(WeightChange(name, old, new, percent, explanations[name]))
    return tuple(changes)


def _explain(
    state: GeneratorState,
    reason: str,
    *,
    wanted: float,
    stepped: float,
    result: float,
    bounds: FeasibleSet,
    k: int,
    step: float,
    skipped: bool,
) -> str:
    if state.status not in DRAWN_STATUSES:
        return f"{state.status}: not drawn"
    if state.locked:
        return f"locked at {state.weight:g} ({reason})"
    said = f"{reason}; target {wanted:.4f}"
    if skipped:
        return f"{said}; too few posts in the window to act on"
    said += f", {step:.0%} of the way from {state.weight:.4f}"
    if stepped < bounds.lower[k] and result <= bounds.lower[k] + 1e-12:
        return f"{said}, held at the floor {bounds.floor:.4g}"
    if stepped > bounds.upper[k] and result >= bounds.upper[k] - 1e-12:
        return f"{said}, held at the cap {bounds.upper[k]:.4g}"
    if is_significant(stepped, result):  # rounding is no reason
        return f"{said}, shifted by {result - stepped:+.4f} to make room for the floor or the cap"
    return said
