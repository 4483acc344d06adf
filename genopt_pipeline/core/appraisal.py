"""What the weightings of an account are worth, by every way there is of knowing it.

Here: off-policy value, the model's value, the worth of the optimizer and the check of the draw of
one account brought together, as assets, commands and the report show them; and the reading of a
proposal for one generator. Not here: the estimators (``evaluation``), and where posts and
proposals come from.

Off-policy values use the probability with which each post was drawn inside its arm. Exposure is
corrected for age as the estimation does, so that the young posts, which the newest weights favour,
do not make those weights look poor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from genopt_pipeline.core.changes import is_significant
from genopt_pipeline.core.estimation import (
    EstimationConfig,
    PostBatch,
    Posterior,
    mature_exposure,
    posterior,
    sufficient_statistics,
)
from genopt_pipeline.core.evaluation import (
    SampleRatio,
    Uplift,
    Value,
    holdout_uplift,
    model_uplift,
    model_value,
    off_policy_value,
    sample_ratio,
)
from genopt_pipeline.core.generators import DRAWN_STATUSES
from genopt_pipeline.core.policies.contract import GeneratorState, jsonable
from genopt_pipeline.core.policies.inputs import PostArrays, read_posts
from genopt_pipeline.core.selection import ARMS, arm_weights

#: Posts of so many days say what a weighting would have earned.
EVALUATION_DAYS: Final = 30.0

#: A difference of weights below half the last stored decimal is none.
_NOTHING: Final = 5e-5

Guard = Literal["gate", "not_drawn", "lock", "floor", "cap", "room", "step", "none"]


@dataclass(frozen=True)
class DrawCount:
    """How many posts of a generator were drawn in one arm by one version of the weights."""

    weights_version: int | None
    experiment_arm: str | None
    generator_name: str
    posts: int


@dataclass(frozen=True)
class DrawCheck:
    """Does the engine draw by the weights: the test, and the counts behind it.

    left_out: posts whose arm or version of the weights is not known; nothing is expected of them.
    """

    ratio: SampleRatio
    observed: Mapping[str, int]
    expected: Mapping[str, float]
    left_out: int

    @property
    def is_mismatch(self) -> bool:
        """Whether the draw departs from the weights."""
        return self.ratio.is_mismatch()


@dataclass(frozen=True)
class Worth:
    """One weighting and what it is worth, in F/1K.

    off_policy: from the posts that were drawn. model: from the estimated present rates.
    over_in_force, over_default: the model's relative gain. untried: share of the weighting on
    generators without a post that could be used; of these the off-policy value knows nothing.
    """

    name: str
    weights: Mapping[str, float]
    off_policy: Value
    model: Value
    over_in_force: Uplift
    over_default: Uplift
    untried: float


@dataclass(frozen=True)
class Appraisal:
    """All that is known at ``as_of`` of what the weights of an account are worth.

    as_drawn: F/1K of the same posts as they were drawn. holdout: the control arm over the arm
    drawn by default weights. prices: what each guard takes, see ``policies.prices``; None without
    a proposal.
    """

    as_of: datetime
    days: float
    worths: tuple[Worth, ...]
    as_drawn: Value
    holdout: Uplift
    draws: DrawCheck
    prices: Mapping[str, float | None] | None = None

    def of(self, name: str) -> Worth | None:
        """The weighting of that name, if it was appraised."""
        return next((worth for worth in self.worths if worth.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what is not known is None."""
        values = jsonable(asdict(self))
        assert isinstance(values, dict)  # noqa: S101 - tells the type checker
        values["as_of"] = self.as_of.isoformat()
        values["draws"] |= {"mismatch": self.draws.is_mismatch}
        return values


def check_draws(
    counts: Sequence[DrawCount],
    weights: Mapping[int, Mapping[str, float]],
    defaults: Mapping[str, float],
) -> DrawCheck:
    """Compare the draws with what each version of the weights and each arm called for.

    weights: of every version that counts name. defaults: what the holdout arm draws by.
    """
    observed: dict[str, int] = {}
    expected: dict[str, float] = {}
    left_out = 0
    drawn_by: dict[tuple[int, str], int] = {}
    for count in counts:
        version, arm = count.weights_version, count.experiment_arm
        if version is None or arm not in ARMS or version not in weights:
            left_out += count.posts
            continue
        observed[count.generator_name] = observed.get(count.generator_name, 0) + count.posts
        drawn_by[version, arm] = drawn_by.get((version, arm), 0) + count.posts
    for (version, arm), posts in sorted(drawn_by.items()):
        for name, weight in arm_weights(weights[version], arm, defaults=defaults).items():
            expected[name] = expected.get(name, 0.0) + posts * weight
    return DrawCheck(sample_ratio(observed, expected), observed, expected, left_out)


def default_weights(in_force: Mapping[str, float], first: Mapping[str, float]) -> dict[str, float]:
    """The weights the account started with, on the generators that are drawn now."""
    return arm_weights(in_force, "holdout", defaults=first)


def appraise(
    posts: pd.DataFrame,
    states: Mapping[str, GeneratorState],
    weightings: Mapping[str, Mapping[str, float]],
    *,
    default: Mapping[str, float],
    draws: DrawCheck,
    now: datetime,
    days: float = EVALUATION_DAYS,
    prices: Mapping[str, float | None] | None = None,
    estimation: EstimationConfig | None = None,
) -> Appraisal:
    """Appraise weightings of one account; ``in_force`` and ``default`` are added by themselves.

    posts: as ``propose_weights`` takes them, with ``selection_probability`` and
    ``experiment_arm`` (null where not known).
    """
    estimation = estimation or EstimationConfig()
    in_force = {
        name: state.weight if state.status in DRAWN_STATUSES else 0.0
        for name, state in states.items()
    }
    every = {"in_force": in_force, **weightings, "default": dict(default)}
    known = posterior_of(posts, states, now=now, estimation=estimation)
    recent = posts[posts["posted_at"] >= pd.Timestamp(now - timedelta(days=days))]
    columns = logged_columns(recent, now=now, estimation=estimation)
    names = recent["generator_name"].to_numpy(dtype=object)
    usable = np.isfinite(columns["probability"]) & np.isfinite(
        columns["followers"] + columns["impressions"]
    )
    tried = set(names[usable])
    arm = recent["experiment_arm"].to_numpy(dtype=object)
    judged = (arm == "control") | (arm == "holdout")
    return Appraisal(
        as_of=now,
        days=days,
        worths=tuple(
            _worth(
                name,
                weights,
                known=known,
                order=tuple(sorted(states)),
                drawn=names,
                columns=columns,
                in_force=in_force,
                default=default,
                tried=tried,
            )
            for name, weights in every.items()
        ),
        as_drawn=off_policy_value(
            columns["probability"],
            columns["probability"],
            columns["followers"],
            columns["impressions"],
        ),
        holdout=holdout_uplift(
            columns["followers"][judged],
            columns["impressions"][judged],
            np.asarray(arm[judged] == "holdout", dtype=np.bool_),
        ),
        draws=draws,
        prices=prices,
    )


def logged_columns(
    posts: pd.DataFrame, *, now: datetime, estimation: EstimationConfig
) -> dict[str, Any]:
    """Arrays (posts,) for off-policy evaluation: probability, followers, impressions.

    Impressions are those whose followers can have come by ``now``: 1,000 times the exposure.
    """
    age = (pd.Timestamp(now) - posts["posted_at"]).dt.total_seconds().to_numpy(np.float64) / 3600.0
    impressions = posts["impressions"].to_numpy(np.float64)
    return {
        "probability": posts["selection_probability"].to_numpy(np.float64),
        "followers": posts["followers"].to_numpy(np.float64),
        "impressions": 1000.0 * mature_exposure(age, impressions, estimation),
    }


def posterior_of(
    posts: pd.DataFrame,
    states: Mapping[str, GeneratorState],
    *,
    now: datetime,
    estimation: EstimationConfig,
) -> Posterior:
    """What the posts say of each generator's present rate; generators in sorted order."""
    names = tuple(sorted(states))
    arrays: PostArrays = read_posts(posts, names, now=now)[0]
    statistics = sufficient_statistics(
        PostBatch(
            accounts=1,
            generators=len(names),
            account=np.zeros(len(arrays), dtype=np.int64),
            generator=arrays.generator,
            age_hours=arrays.age_days * 24.0,
            impressions=arrays.impressions,
            followers=arrays.followers,
            information=arrays.information,
        ),
        estimation,
    )
    drawn = np.array([states[name].status in DRAWN_STATUSES for name in names], dtype=np.bool_)
    return posterior(statistics, estimation, drawn[None, :])


def row_of(weights: Mapping[str, float], order: Sequence[str]) -> Any:
    """Weights as an array (1, generators); what is not named has none."""
    return np.array([[weights.get(name, 0.0) for name in order]], dtype=np.float64)


def _worth(
    name: str,
    weights: Mapping[str, float],
    *,
    known: Posterior,
    order: Sequence[str],
    drawn: Any,
    columns: Mapping[str, Any],
    in_force: Mapping[str, float],
    default: Mapping[str, float],
    tried: set[Any],
) -> Worth:
    mine = row_of(weights, order)
    return Worth(
        name=name,
        weights=dict(weights),
        off_policy=off_policy_value(
            np.array([weights.get(generator, 0.0) for generator in drawn], dtype=np.float64),
            columns["probability"],
            columns["followers"],
            columns["impressions"],
        ),
        model=model_value(known, mine)[0],
        over_in_force=model_uplift(known, mine, row_of(in_force, order))[0],
        over_default=model_uplift(known, mine, row_of(default, order))[0],
        untried=float(sum(w for generator, w in weights.items() if generator not in tried)),
    )


def binding_guard(
    *,
    state: GeneratorState,
    decision: str,
    target: float | None,
    unrounded: float,
    floor: float,
    cap: float,
    step: float,
) -> Guard:
    """Which guard decided a generator's proposed weight.

    ``step`` means that the step limit keeps the weight from its target; ``room`` that making room
    for the floor or cap of others moved it significantly, and further than its step did; ``none``
    that it is where the policy wants it. ``state`` is that of before the proposal.
    """
    if state.status not in DRAWN_STATUSES:
        return "not_drawn"
    if state.locked:
        return "lock"
    if decision == "skipped":
        return "gate"
    if target is None:
        return "none"
    stepped = state.weight + step * (target - state.weight)
    if unrounded <= floor + _NOTHING and stepped < floor - 1e-12:
        return "floor"
    if unrounded >= cap - _NOTHING and stepped > cap + 1e-12:
        return "cap"
    room, moved = unrounded - stepped, stepped - state.weight
    if is_significant(stepped, unrounded) and abs(room) > abs(moved):
        return "room"
    return "step" if abs(target - stepped) > _NOTHING else "none"
