"""What goes into a proposal of weights and what comes out.

Here: the settings, the state of a generator, and the proposal with its reasons, ready for JSON.
Not here: any arithmetic (``exponential``, ``thompson``, ``guards``).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from genopt_pipeline.core.estimation.config import EstimationConfig
from genopt_pipeline.core.generators import DRAWN_STATUSES, GeneratorStatus
from genopt_pipeline.core.guards import GuardConfig

PolicyName = Literal["thompson", "exponential"]
Objective = Literal["f_per_1k", "followers_per_post"]
Decision = Literal["proposed", "skipped"]


class ProposalInputError(ValueError):
    """What was given cannot be used; the message names the generator, column or setting."""


@dataclass(frozen=True)
class GeneratorState:
    """A generator as it is in force: its weight, whether it is drawn, whether it may change."""

    weight: float
    status: GeneratorStatus = "active"
    locked: bool = False


@dataclass(frozen=True)
class ExponentialConfig:
    """Settings of the score-and-power policy. F/1K is followers per 1,000 impressions."""

    exponent: float = 1.3
    exploration: float = 0.15
    viral_boost: float = 1.5
    failure_penalty: float = 0.5
    clean_viral_factor: float = 1.1
    viral_f_per_1k: float = 5.0
    #: a post without a follower has failed, and one with many is viral, above this many impressions
    judged_impressions: float = 100.0
    min_score: float = 0.01
    min_posts: int = 3
    failing_posts: int = 10

    def __post_init__(self) -> None:
        """Refuse factors that would turn a reward into a penalty or a score negative."""
        _in_range("exponent", self.exponent, above=0.0)
        _in_range("exploration", self.exploration, low=0.0, high=1.0)
        _in_range("viral_boost", self.viral_boost, low=1.0)
        _in_range("failure_penalty", self.failure_penalty, low=0.0, high=1.0)
        _in_range("clean_viral_factor", self.clean_viral_factor, low=1.0)
        _in_range("viral_f_per_1k", self.viral_f_per_1k, low=0.0)
        _in_range("judged_impressions", self.judged_impressions, low=0.0)
        _in_range("min_score", self.min_score, above=0.0)
        _in_range("min_posts", self.min_posts, low=1)
        _in_range("failing_posts", self.failing_posts, low=1)


@dataclass(frozen=True)
class ThompsonConfig:
    """Settings of the policy by probability of being best.

    exploration: share of the weight spread evenly. sharpness: power of P(best) of a well-known
    generator where generators differ; 1 where they do not. failing_share, failing_probability:
    a generator fails when its rate is below this share of the account's with at least this
    probability.
    """

    exploration: float = 0.15
    sharpness: float = 4.0
    failing_share: float = 0.2
    failing_probability: float = 0.9

    def __post_init__(self) -> None:
        """Refuse settings outside their range, by name."""
        _in_range("exploration", self.exploration, low=0.0, high=1.0)
        _in_range("sharpness", self.sharpness, low=1.0)
        _in_range("failing_share", self.failing_share, above=0.0, high=1.0)
        _in_range("failing_probability", self.failing_probability, low=0.5, high=1.0)


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of one optimization cycle.

    objective: what ``thompson`` seeks: the best F/1K, or the most followers a post, which is F/1K
    times reach. ``exponential`` is about F/1K by definition.
    min_posts_window: below so many posts in the last ``window_days`` the weights stay.
    """

    policy: PolicyName = "thompson"
    objective: Objective = "f_per_1k"
    guards: GuardConfig = field(default_factory=GuardConfig)
    exponential: ExponentialConfig = field(default_factory=ExponentialConfig)
    thompson: ThompsonConfig = field(default_factory=ThompsonConfig)
    estimation: EstimationConfig = field(default_factory=EstimationConfig)
    window_days: float = 7.0
    min_posts_window: int = 20

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.policy not in get_args(PolicyName):
            raise ProposalInputError(
                f"policy must be one of {', '.join(get_args(PolicyName))}, not {self.policy!r}"
            )
        if self.objective not in get_args(Objective):
            raise ProposalInputError(
                f"objective must be one of {', '.join(get_args(Objective))}, not {self.objective!r}"
            )
        _in_range("window_days", self.window_days, above=0.0)
        _in_range("min_posts_window", self.min_posts_window, low=0)


def _in_range(
    name: str,
    value: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> None:
    if not math.isfinite(value) or not (low <= value <= high) or value <= above:
        bounds = [f"at least {low:g}"] if low > -math.inf else []
        bounds += [f"above {above:g}"] if above > -math.inf else []
        bounds += [f"at most {high:g}"] if high < math.inf else []
        raise ProposalInputError(f"{name} must be {' and '.join(bounds)}, not {value!r}")


@dataclass(frozen=True)
class Target:
    """What a policy would like: shares of the drawn generators and the reason for each.

    shares: (generators,), sum 1 over the drawn ones, 0 elsewhere. reasons: one sentence each.
    rates: (generators,) F/1K as the policy sees it, NaN where unknown. evidence: whether any
    generator could be judged; without evidence nothing may move. diagnostics: JSON values.
    """

    shares: NDArray[np.float64]
    reasons: tuple[str, ...]
    failing: NDArray[np.bool_]
    rates: NDArray[np.float64]
    evidence: bool
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightChange:
    """A stored weight that changes. ``change_percent`` is None where the old weight was 0."""

    generator: str
    old_weight: float
    new_weight: float
    change_percent: float | None
    reason: str


@dataclass(frozen=True)
class WeightProposal:
    """The weights a policy proposes for one account, and why.

    weights: as stored: four decimals, sum exactly 1. unrounded_weights: before that rounding.
    decision: ``skipped`` where the evidence does not pass the gate; the weights are then those in
    force (projected onto today's feasible set, which moves nothing where they are in it).
    explanations: for every generator a sentence with the numbers behind it.
    diagnostics: per generator and overall, JSON values only; unknown numbers are None.
    """

    policy: PolicyName
    as_of: datetime
    decision: Decision
    reason: str
    weights: dict[str, float]
    unrounded_weights: dict[str, float]
    changes: tuple[WeightChange, ...]
    explanations: dict[str, str]
    warnings: tuple[str, ...]
    diagnostics: dict[str, Any]
    posts_analyzed: int
    period_days: float

    def to_dict(self) -> dict[str, Any]:
        """The proposal as JSON values; NaN and infinities become None."""
        values = asdict(self)
        values["as_of"] = self.as_of.isoformat()
        result = jsonable(values)
        assert isinstance(result, dict)  # noqa: S101 - tells the type checker
        return result

    def to_json(self) -> str:
        """The same bytes for the same proposal: keys sorted, no blanks, no NaN."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def jsonable(value: Any) -> Any:
    """Plain JSON values: tuples become lists, numpy scalars numbers, non-finite numbers None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "item") and callable(value.item):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_states(
    current: Mapping[str, GeneratorState] | Mapping[str, float],
) -> dict[str, GeneratorState]:
    """The states by name in sorted order, from states or bare weights.

    Sorted, so that the order in which a mapping was filled cannot change a proposal.

    Raises
    ------
    ProposalInputError
        A weight is not a number from 0 on, or a status is unknown; the generator is named.
    """
    if not current:
        raise ProposalInputError("no generators were given")
    states: dict[str, GeneratorState] = {}
    for name in sorted(current, key=_checked_name):
        given = current[name]
        state = given if isinstance(given, GeneratorState) else GeneratorState(given)
        weight = number_from(state.weight)
        if weight is None or not math.isfinite(weight) or weight < 0:
            raise ProposalInputError(
                f"the weight of {name} must be a number from 0 on, not {state.weight!r}"
            )
        if state.status not in get_args(GeneratorStatus):
            raise ProposalInputError(
                f"the status of {name} must be one of {', '.join(get_args(GeneratorStatus))}, "
                f"not {state.status!r}"
            )
        if not isinstance(state.locked, bool):
            raise ProposalInputError(f"locked of {name} must be true or false: {state.locked!r}")
        states[name] = GeneratorState(weight, state.status, state.locked)
    if not any(state.status in DRAWN_STATUSES for state in states.values()):
        raise ProposalInputError(
            "no generator is active or testing, so there is none to give weight to: "
            + ", ".join(f"{name} is {state.status}" for name, state in states.items())
        )
    return states


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ProposalInputError(f"a generator's name must be a text, not {name!r}")
    return name


def number_from(value: object) -> float | None:
    """A float from a number, or None where the value is no number (text, bool, null)."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float | Decimal):
        return _finite_or_nan(value)
    if hasattr(value, "item") and callable(value.item):  # numpy scalars
        item = value.item()
        return None if isinstance(item, bool | str | bytes) else _finite_or_nan(item)
    return None


def _finite_or_nan(value: Any) -> float:
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):  # an integer beyond the range of a double
        return math.nan
