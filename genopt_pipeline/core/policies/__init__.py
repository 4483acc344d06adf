"""Policies: from what is known of the generators to the weights to draw them by.

Here: ``propose_weights`` and ``propose_both``, the two functions that assets and commands call.
Each policy has its module; guards are in ``core.guards``, evidence in ``core.estimation``.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import pandas as pd

from genopt_pipeline.core.guards import GuardConfig, GuardError
from genopt_pipeline.core.policies.contract import (
    ExponentialConfig,
    GeneratorState,
    Objective,
    OptimizerConfig,
    PolicyName,
    ProposalInputError,
    ThompsonConfig,
    WeightChange,
    WeightProposal,
    jsonable,
    read_states,
)
from genopt_pipeline.core.policies.exponential import exponential_target, performance_table
from genopt_pipeline.core.policies.inputs import read_posts
from genopt_pipeline.core.policies.proposal import assemble, bounds_for, state_arrays
from genopt_pipeline.core.policies.thompson import propose_batch, thompson_target

__all__ = [
    "ExponentialConfig",
    "GeneratorState",
    "GuardConfig",
    "GuardError",
    "Objective",
    "OptimizerConfig",
    "PolicyName",
    "ProposalInputError",
    "ThompsonConfig",
    "WeightChange",
    "WeightProposal",
    "jsonable",
    "propose_batch",
    "propose_both",
    "propose_weights",
]


def propose_weights(
    posts: pd.DataFrame,
    current: Mapping[str, GeneratorState] | Mapping[str, float],
    *,
    now: datetime,
    config: OptimizerConfig | None = None,
    force: bool = False,
) -> WeightProposal:
    """Weights for one account from the posts seen by ``now``.

    posts: one row a post with ``post_id, generator_name, posted_at (UTC), impressions,
    followers`` as totals seen by ``now``, and optionally ``information`` in (0, 1], the share of
    a counted follower that an attributed one is worth. ``impressions`` or ``followers`` null:
    not measured, and the post is left out. current: the weights in force of every registered
    generator. ``force`` passes the gate on the number of posts.

    Deterministic: the same rows in any order give the same bytes.

    Raises
    ------
    ProposalInputError, GuardError
        See there. Single bad posts are left out with a warning instead.
    """
    config = config or OptimizerConfig()
    states = read_states(current)
    bounds = bounds_for(states, config)
    arrays, warnings = read_posts(posts, tuple(states), now=now)
    window = arrays.younger_than(config.window_days)
    _, _, drawn = state_arrays(states)
    if config.policy == "exponential":
        table = performance_table(window, tuple(states), config.exponential)
        target = exponential_target(table, drawn, bounds.floor, config.exponential)
    else:
        target = thompson_target(
            arrays,
            drawn,
            bounds.floor,
            config.thompson,
            config.estimation,
            names=tuple(states),
            objective=config.objective,
        )
    return assemble(
        policy=config.policy,
        states=states,
        bounds=bounds,
        target=target,
        posts_in_window=len(window),
        now=now,
        config=config,
        warnings=warnings,
        force=force,
    )


def propose_both(
    posts: pd.DataFrame,
    current: Mapping[str, GeneratorState] | Mapping[str, float],
    *,
    now: datetime,
    config: OptimizerConfig | None = None,
    force: bool = False,
) -> tuple[WeightProposal, WeightProposal]:
    """The proposal of the configured policy, and that of the other one, its shadow."""
    config = config or OptimizerConfig()
    other: PolicyName = "thompson" if config.policy == "exponential" else "exponential"
    return (
        propose_weights(posts, current, now=now, config=config, force=force),
        propose_weights(posts, current, now=now, config=replace(config, policy=other), force=force),
    )
