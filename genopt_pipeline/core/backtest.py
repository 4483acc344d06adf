"""Replaying a history: what a policy would have set, and what that would have been worth.

Here: the replay, window by window, from what was known at the time. Not here: reading the history
(``store``), simulated futures (``sandbox``): a replay cannot show what posts would have done that
were never written, only reweigh those that were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from genopt_pipeline.core.appraisal import posterior_of, row_of
from genopt_pipeline.core.estimation import mature_exposure
from genopt_pipeline.core.estimation.statistics import Floats
from genopt_pipeline.core.evaluation import (
    Uplift,
    Value,
    model_uplift,
    model_value,
    off_policy_value,
)
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

#: Weights that were, or would have been, in force at a time.
WeightsAt = Callable[[datetime], Mapping[str, float]]

REPLAYED = "replayed"


@dataclass(frozen=True)
class Weighting:
    """What a path of weights over the replayed range is worth, in F/1K.

    off_policy: from the posts of the range, each reweighed by the weights of its time; None where
    the probabilities of the draws are not known. mean_weights: over the windows. model: their
    value at the rates estimated at the end of the range. replayed_over: the model's relative gain
    of the replayed weights over these; it is told by posts that the policy learned from, so it is
    kind to the replay.
    """

    name: str
    off_policy: Value
    mean_weights: Mapping[str, float]
    model: Value
    replayed_over: Uplift


@dataclass(frozen=True)
class Backtest:
    """A replay. ``proposals`` in order of time, each in force until the next.

    value: off-policy F/1K of the replayed weights, from the posts drawn while each was in force.
    logged: F/1K of the same posts as they were drawn. Both from the last known totals, exposure
    corrected for the age at which they were seen. weightings: the replayed weights and each of
    the alternatives, by every way of knowing.
    """

    proposals: tuple[WeightProposal, ...]
    value: Value
    logged: Value
    weightings: tuple[Weighting, ...] = field(default=())

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
    alternatives: Mapping[str, WeightsAt] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Backtest:
    """Replay ``[start, end)`` under a policy, one proposal every six hours.

    history: rows ``post_id, generator_name, posted_at, observed_at, impressions, followers,
    selection_probability`` with totals as seen at ``observed_at``; several rows a post as it
    grew. At each time the policy sees only rows observed by then; what was seen after ``end``
    only says what the posts were worth. current: the generators and weights at ``start``;
    statuses and locks hold throughout. alternatives: other weights to compare with, by name.
    progress: called with the share done, from 0 to 1, increasing.

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
    config = config or OptimizerConfig()
    states = read_states(current)
    outcome = _outcomes(history, config)
    proposals: list[WeightProposal] = []
    paths: dict[str, list[Mapping[str, float]]] = {REPLAYED: []}
    paths |= {name: [] for name in alternatives or {}}
    new: dict[str, list[Floats]] = {name: [] for name in paths}
    drawn: list[pd.DataFrame] = []
    now = start
    while now < end:
        proposal = propose_weights(totals_as_of(history, now), states, now=now, config=config)
        proposals.append(proposal)
        states = {
            name: GeneratorState(proposal.weights[name], state.status, state.locked)
            for name, state in states.items()
        }
        until = min(now + every, end)
        part = outcome[(outcome["posted_at"] >= now) & (outcome["posted_at"] < until)]
        drawn.append(part)
        for name, path in paths.items():
            weights = proposal.weights if name == REPLAYED else (alternatives or {})[name](now)
            path.append(weights)
            new[name].append(
                np.array([weights.get(g, np.nan) for g in part["generator_name"]], np.float64)
            )
        now = until
        if progress is not None:
            progress((now - start) / (end - start))
    posts = pd.concat(drawn)
    counts = posts["followers"].to_numpy(np.float64), posts["exposed"].to_numpy(np.float64)
    probability = posts["selection_probability"].to_numpy(np.float64)
    values = {
        name: off_policy_value(np.concatenate(parts), probability, *counts)
        for name, parts in new.items()
    }
    # at the end's rates, all paths alike: at the rates believed at the time a policy would be
    # judged by its own errors
    known = posterior_of(totals_as_of(history, end), states, now=end, estimation=config.estimation)
    order = tuple(sorted(states))
    means = {
        name: {g: float(np.mean([weights.get(g, 0.0) for weights in path])) for g in order}
        for name, path in paths.items()
    }
    replayed = row_of(means[REPLAYED], order)
    return Backtest(
        tuple(proposals),
        value=values[REPLAYED],
        logged=off_policy_value(probability, probability, *counts),
        weightings=tuple(
            Weighting(
                name,
                values[name],
                means[name],
                model_value(known, row_of(means[name], order))[0],
                model_uplift(known, replayed, row_of(means[name], order))[0],
            )
            for name in paths
        ),
    )


def _outcomes(history: pd.DataFrame, config: OptimizerConfig) -> pd.DataFrame:
    """The last known totals of each post, with ``exposed``: impressions whose followers can be."""
    last = history.sort_values(["observed_at", "post_id"], kind="stable")
    last = last.drop_duplicates("post_id", keep="last").sort_values("posted_at")
    seconds = (last["observed_at"] - last["posted_at"]).dt.total_seconds()
    age_hours = np.asarray(seconds, dtype=np.float64) / 3600.0
    impressions = np.asarray(last["impressions"], dtype=np.float64)
    exposed = 1000.0 * mature_exposure(age_hours, impressions, config.estimation)
    return last.assign(exposed=exposed)
