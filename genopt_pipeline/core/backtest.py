"""Replaying a history: what a policy would have set, and what that would have been worth.

Here: the replay, window by window, from what was known at the time. Not here: reading the history
(``store``), simulated futures (``sandbox``): a replay cannot show what posts would have done that
were never written, only reweigh those that were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from genopt_pipeline.core.estimation.statistics import Floats
from genopt_pipeline.core.evaluation import Value, off_policy_value
from genopt_pipeline.core.policies import (
    GeneratorState,
    OptimizerConfig,
    ProposalInputError,
    WeightProposal,
    propose_weights,
)
from genopt_pipeline.core.policies.contract import read_states

_COLUMNS = (
    "post_id",
    "generator_name",
    "posted_at",
    "observed_at",
    "impressions",
    "followers",
    "selection_probability",
)


@dataclass(frozen=True)
class Backtest:
    """A replay. ``proposals`` in order of time, each in force until the next.

    value: off-policy F/1K of the replayed weights, from the posts drawn while each was in force.
    logged: F/1K of the same posts as they were drawn. Both from the last known totals.
    """

    proposals: tuple[WeightProposal, ...]
    value: Value
    logged: Value

    def weights_table(self) -> pd.DataFrame:
        """Stored weights by time: columns as_of, decision and one for each generator."""
        return pd.DataFrame(
            [{"as_of": p.as_of, "decision": p.decision, **p.weights} for p in self.proposals]
        )


def totals_as_of(history: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """The newest totals of each post observed by ``now``, for posts that were live by then."""
    known = history[(history["observed_at"] <= now) & (history["posted_at"] < now)]
    newest = known.sort_values(["observed_at", "post_id"], kind="stable")
    return newest.drop_duplicates("post_id", keep="last").drop(columns="observed_at")


def backtest(
    history: pd.DataFrame,
    current: Mapping[str, GeneratorState] | Mapping[str, float],
    *,
    start: datetime,
    end: datetime,
    every: timedelta = timedelta(hours=6),
    config: OptimizerConfig | None = None,
) -> Backtest:
    """Replay ``[start, end)`` under a policy, one proposal every six hours.

    history: rows ``post_id, generator_name, posted_at, observed_at, impressions, followers,
    selection_probability`` with totals as seen at ``observed_at``; several rows a post as it
    grew. At each time the policy sees only rows observed by then. current: the generators and
    weights at ``start``; statuses and locks hold throughout.

    Raises
    ------
    ProposalInputError
        A column is missing or the range is empty; else as ``propose_weights``.
    """
    missing = [column for column in _COLUMNS if column not in history.columns]
    if missing:
        raise ProposalInputError(f"the history lacks the columns {', '.join(missing)}")
    if not start < end or every <= timedelta(0):
        raise ProposalInputError(f"there is no window between {start} and {end}")
    states = read_states(current)
    outcome = totals_as_of(history, end + timedelta(days=36_500)).sort_values("posted_at")
    proposals: list[WeightProposal] = []
    new: list[Floats] = []
    logged: list[Floats] = []
    followers: list[Floats] = []
    impressions: list[Floats] = []
    now = start
    while now < end:
        proposal = propose_weights(totals_as_of(history, now), states, now=now, config=config)
        proposals.append(proposal)
        states = {
            name: GeneratorState(proposal.weights[name], state.status, state.locked)
            for name, state in states.items()
        }
        until = min(now + every, end)
        drawn = outcome[(outcome["posted_at"] >= now) & (outcome["posted_at"] < until)]
        new.append(np.array([proposal.weights.get(g, np.nan) for g in drawn["generator_name"]]))
        logged.append(drawn["selection_probability"].to_numpy(np.float64))
        followers.append(drawn["followers"].to_numpy(np.float64))
        impressions.append(drawn["impressions"].to_numpy(np.float64))
        now = until
    counts = np.concatenate(followers), np.concatenate(impressions)
    probability = np.concatenate(logged)
    return Backtest(
        tuple(proposals),
        value=off_policy_value(np.concatenate(new), probability, *counts),
        logged=off_policy_value(probability, probability, *counts),
    )
