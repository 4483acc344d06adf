"""No policy moves weights further in one cycle than the step allows, whatever the account."""

import numpy as np
import pytest
from hypothesis import given, settings

from genopt_pipeline.core.guards import GuardError, feasible_set, project
from genopt_pipeline.core.policies import OptimizerConfig, ProposalInputError, propose_weights
from genopt_pipeline_tests.core.test_policies import NOW, accounts


@pytest.mark.parametrize("policy", ["thompson", "exponential"])
@given(account=accounts())
@settings(max_examples=60, deadline=None)
def test_a_cycle_goes_at_most_the_step_from_the_nearest_feasible_weights(policy, account):
    posts, states = account
    config = OptimizerConfig(policy=policy)
    try:
        proposal = propose_weights(posts, states, now=NOW, config=config, force=True)
    except (ProposalInputError, GuardError):  # what it says has tests of its own
        return
    names = sorted(states)
    old = np.array([states[name].weight for name in names])
    bounds = feasible_set(
        names,
        old,
        [states[name].status for name in names],
        np.array([states[name].locked for name in names]),
        config.guards,
    )
    base = project(old[None], bounds.lower[None], bounds.upper[None])[0]
    new = np.array([proposal.unrounded_weights[name] for name in names])
    target = np.array([proposal.diagnostics["target"][name] for name in names])
    assert np.linalg.norm(new - base) <= 0.30 * np.linalg.norm(target - base) + 1e-9
    stored = np.array([proposal.weights[name] for name in names])
    # each is rounded by a unit at most, and what that leaves over is shared by units
    assert np.abs(stored - new).sum() <= 2e-4 * len(names)
