"""What a person may do to weights: set, lock, disable, enable, add, archive, roll back.

Pure: from the states in force to the new ones. The others make room in proportion. Every result
sums to exactly 1 and leaves the other locks as they are, and where a command moves weights, floor
and cap hold for every drawn generator that is not locked. Writing it is the store's.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from genopt_pipeline.core.generators import DRAWN_STATUSES, GeneratorStatus
from genopt_pipeline.core.guards import (
    UNITS,
    GuardConfig,
    GuardError,
    feasible_set,
    floor_in_force,
    project,
    round_to_units,
    scale_targets,
)
from genopt_pipeline.core.policies.contract import GeneratorState

States = Mapping[str, GeneratorState]


class ControlError(ValueError):
    """What was asked cannot be done; the message says why."""


def set_weight(states: States, name: str, weight: float, guards: GuardConfig) -> States:
    """Give ``name`` exactly ``weight``; the unlocked others make room.

    Floor and cap bind ``name`` too, unless it is locked.
    """
    state = _known(states, name)
    if state.status not in DRAWN_STATUSES:
        raise ControlError(f"{name} is {state.status}; enable it first")
    if not 0.0 <= weight <= 1.0:
        raise ControlError(f"a weight lies between 0 and 1, not at {weight:g}")
    _check_room(states, name, weight, guards)
    return _settle({**states, name: replace(state, weight=weight)}, guards, held=name)


def _check_room(states: States, name: str, weight: float, guards: GuardConfig) -> None:
    """Refuse a weight that ``name``'s own bounds or those of the others leave no room for."""
    drawn = {key: state for key, state in states.items() if state.status in DRAWN_STATUSES}
    others = {key: state for key, state in drawn.items() if key != name}
    locks = {key: state.weight for key, state in others.items() if state.locked}
    floor, cap = floor_in_force(len(drawn), guards), guards.cap
    low, high = math.ceil(floor * UNITS - 1e-6), math.floor(cap * UNITS + 1e-6)
    units, free = round(weight * UNITS), len(others) - len(locks)
    left = UNITS - sum(round(held * UNITS) for held in locks.values())
    beside = "; locked: " + ", ".join(f"{k} {w:g}" for k, w in locks.items()) if locks else ""
    if not drawn[name].locked and units < low:
        raise ControlError(
            f"{weight:g} is below the floor, {floor:.4g}, of a generator that is drawn; lock "
            f"{name} first to hold it lower, or disable it"
        )
    if not drawn[name].locked and units > high:
        raise ControlError(
            f"{weight:g} is above the cap, {cap:.4g}; lock {name} first to hold it higher"
        )
    if units > left - free * low:
        raise ControlError(
            f"{weight:g} is more than can be left to {name}, {(left - free * low) / UNITS:.4g}: "
            f"the {free} others that are free keep the floor of {floor:.4g} each{beside}"
        )
    if units < left - free * high:
        raise ControlError(
            f"{weight:g} is less than must be left to {name}, {(left - free * high) / UNITS:.4g}: "
            f"the {free} others that are free have the cap of {cap:.4g} each{beside}"
        )


def lock(states: States, name: str) -> States:
    """Hold ``name`` at its weight; only an override changes it."""
    return {**states, name: replace(_known(states, name), locked=True)}


def unlock(states: States, name: str, guards: GuardConfig) -> States:
    """Let the policy change ``name`` again; the floor and the cap bind it again, too."""
    state = _known(states, name)
    drawn = sum(item.status in DRAWN_STATUSES for item in states.values())
    weight = min(max(state.weight, floor_in_force(drawn, guards)), guards.cap)
    return _settle({**states, name: replace(state, weight=weight, locked=False)}, guards)


def retire(states: States, name: str, status: GeneratorStatus, guards: GuardConfig) -> States:
    """Take ``name`` out of the draw (``disabled`` or ``archived``); the others share its weight.

    Its lock ends, since the weight that it held is gone.
    """
    state = _known(states, name)
    return _settle(
        {**states, name: replace(state, weight=0.0, status=status, locked=False)}, guards
    )


def enable(
    states: States, name: str, guards: GuardConfig, *, status: GeneratorStatus = "active"
) -> States:
    """Put ``name`` into the draw with a fair chance: the mean share of the drawn generators.

    An archived one too: its name stays taken, so this is the only way back for it.
    Where locks leave the others less than that, it is their mean share.
    """
    state = _known(states, name)
    if state.status in DRAWN_STATUSES and state.weight > 0:
        return {**states, name: replace(state, status=status)}
    others = [item for key, item in states.items() if key != name and item.status in DRAWN_STATUSES]
    free = sum(not item.locked for item in others)
    locked = sum(item.weight for item in others if item.locked)
    fair = min(1.0 / (len(others) + 1), (1.0 - locked) / (free + 1))
    wanted = replace(state, weight=fair, status=status)
    return _settle({**states, name: wanted}, guards, held=name)


def restore(states: States, earlier: States, guards: GuardConfig) -> States:
    """Go back to ``earlier`` weights and states, within today's floor and cap.

    Generators registered since leave the draw.
    """
    new = {name: earlier.get(name) or _out(state) for name, state in states.items()}
    return _settle(new, guards)


def _out(state: GeneratorState) -> GeneratorState:
    """Out of the draw; who is so already stays as they are."""
    if state.status not in DRAWN_STATUSES:
        return state
    return replace(state, weight=0.0, status="disabled", locked=False)


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
