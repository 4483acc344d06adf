"""What a person may do to weights: set, lock, disable, enable, add, archive, roll back.

Pure: from the states in force to the new ones. The others make room in proportion, and every
result keeps floor, cap, locks and the sum of exactly 1. Writing it is the store's.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from genopt_pipeline.core.generators import DRAWN_STATUSES, GeneratorStatus
from genopt_pipeline.core.guards import (
    UNITS,
    GuardConfig,
    GuardError,
    feasible_set,
    project,
    round_to_units,
    scale_targets,
)
from genopt_pipeline.core.policies.contract import GeneratorState

States = Mapping[str, GeneratorState]


class ControlError(ValueError):
    """What was asked cannot be done; the message says why."""


def set_weight(states: States, name: str, weight: float, guards: GuardConfig) -> States:
    """Give ``name`` exactly ``weight``, whatever its floor; the unlocked others make room."""
    state = _known(states, name)
    if state.status not in DRAWN_STATUSES:
        raise ControlError(f"{name} is {state.status}; enable it first")
    if not 0.0 <= weight <= 1.0:
        raise ControlError(f"a weight lies between 0 and 1, not at {weight:g}")
    return _settle({**states, name: replace(state, weight=weight)}, guards, held=name)


def lock(states: States, name: str) -> States:
    """Hold ``name`` at its weight; only an override changes it."""
    return {**states, name: replace(_known(states, name), locked=True)}


def unlock(states: States, name: str) -> States:
    """Let the policy change ``name`` again."""
    return {**states, name: replace(_known(states, name), locked=False)}


def retire(states: States, name: str, status: GeneratorStatus, guards: GuardConfig) -> States:
    """Take ``name`` out of the draw (``disabled`` or ``archived``); the others share its weight."""
    state = _known(states, name)
    return _settle(
        {**states, name: replace(state, weight=0.0, status=status, locked=False)}, guards
    )


def enable(
    states: States, name: str, guards: GuardConfig, *, status: GeneratorStatus = "active"
) -> States:
    """Put ``name`` into the draw with a fair chance: the mean share of the drawn generators."""
    state = _known(states, name)
    if state.status in DRAWN_STATUSES and state.weight > 0:
        return {**states, name: replace(state, status=status)}
    drawn = sum(item.status in DRAWN_STATUSES for item in states.values())
    fair = 1.0 / (drawn + (state.status not in DRAWN_STATUSES))
    locked = sum(item.weight for item in states.values() if item.locked)
    weight = min(fair, max(1.0 - locked, 0.0))
    wanted = replace(state, weight=weight, status=status)
    return _settle({**states, name: wanted}, guards, held=name)


def restore(states: States, earlier: States, guards: GuardConfig) -> States:
    """Go back to ``earlier`` weights and states; generators registered since are disabled."""
    new = {
        name: earlier.get(name, replace(state, weight=0.0, status="disabled", locked=False))
        for name, state in states.items()
    }
    total = sum(round(state.weight * UNITS) for state in new.values())
    return new if total == UNITS else _settle(new, guards)


def _known(states: States, name: str) -> GeneratorState:
    if name not in states:
        raise ControlError(f"{name!r} is not registered; registered are {', '.join(states)}")
    return states[name]


def _settle(states: States, guards: GuardConfig, *, held: str | None = None) -> States:
    names = tuple(states)
    weights = np.array([states[name].weight for name in names])
    locked = np.array([states[name].locked or name == held for name in names], dtype=np.bool_)
    try:
        bounds = feasible_set(
            names, weights, [states[name].status for name in names], locked, guards
        )
    except GuardError as error:
        raise ControlError(str(error)) from error
    lower, upper = bounds.lower[None, :], bounds.upper[None, :]
    settled = project(scale_targets(weights[None, :], lower, upper), lower, upper)
    units = round_to_units(settled, lower, upper)[0]
    return {
        name: replace(states[name], weight=int(unit) / UNITS)
        for name, unit in zip(names, units, strict=True)
    }
