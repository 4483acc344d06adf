"""One case of ``genopt propose``: a table of counts and weights in, proposed weights out.

Here: reading a case strictly and writing the answer. Not here: files, the command line, and the
policies themselves. A case is a JSON object::

    {"id": ..., "performance": [{"name", "total_posts", "total_followers_gained",
     "total_impressions", "f_per_1k", "viral_posts", "failed_posts", "status"?, "locked"?}],
     "current": {name: weight},
     "config"?: {"aggressiveness"?, "min_weight"?, "exploration_rate"?, "viral_boost"?,
                 "failure_penalty"?, "min_posts_for_optimization"?}}
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final, cast

import numpy as np

from genopt_pipeline.core.generators import GeneratorStatus
from genopt_pipeline.core.guards import GuardConfig, GuardError
from genopt_pipeline.core.policies.contract import (
    ExponentialConfig,
    GeneratorState,
    OptimizerConfig,
    PolicyName,
    ProposalInputError,
    jsonable,
    number_from,
    read_states,
)
from genopt_pipeline.core.policies.exponential import PerformanceTable
from genopt_pipeline.core.policies.proposal import bounds_for, propose_from_table

#: A case has no time; the answer does not depend on one.
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: At most this share of the way to the target in one cycle, whatever a case asks for.
_STEP_LIMIT: Final = GuardConfig().step

_CONFIG_KEYS: Final = (
    "aggressiveness",
    "min_weight",
    "exploration_rate",
    "viral_boost",
    "failure_penalty",
    "min_posts_for_optimization",
)

_COUNTS: Final = ("total_posts", "viral_posts", "failed_posts")
_SUMS: Final = ("total_followers_gained", "total_impressions")


def propose_case(line: Mapping[str, Any], policy: PolicyName) -> dict[str, Any]:
    """The answer to one case, or ``{"id", "error"}`` saying what is wrong with it and where.

    The answer has ``id, weights, unrounded_weights, changes, warnings``. ``weights`` are as
    stored: four decimals, sum exactly 1. ``aggressiveness`` is the share of the way to the target
    that one cycle goes, limited to 0.30; ``min_posts_for_optimization`` the posts a generator
    needs to be judged. Only errors of the case are answered; a fault of the program is raised.
    """
    case_id = line.get("id") if isinstance(line, Mapping) else None
    try:
        return {"id": jsonable(case_id), **_answer(line, policy)}
    except (ProposalInputError, GuardError) as error:
        return {"id": jsonable(case_id), "error": str(error)}


def _answer(line: Mapping[str, Any], policy: PolicyName) -> dict[str, Any]:
    if not isinstance(line, Mapping):
        raise ProposalInputError("a case must be a JSON object")
    config, notes = _read_config(line.get("config"), policy)
    current = line.get("current")
    if not isinstance(current, Mapping):
        raise ProposalInputError("current must be an object of weights by name")
    states, table = _read_performance(line.get("performance"), current)
    proposal = propose_from_table(
        table,
        states,
        bounds=bounds_for(states, config),
        now=_NO_TIME,
        config=config,
        warnings=notes,
    )
    warnings = list(proposal.warnings)
    if proposal.decision == "skipped":
        warnings.append(proposal.reason)
    return {
        "weights": proposal.weights,
        "unrounded_weights": proposal.unrounded_weights,
        "changes": [jsonable(asdict(change)) for change in proposal.changes],
        "warnings": warnings,
    }


def _read_config(given: Any, policy: PolicyName) -> tuple[OptimizerConfig, tuple[str, ...]]:
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise ProposalInputError("config must be an object")
    unknown = sorted(str(key) for key in given if key not in _CONFIG_KEYS)
    if unknown:
        raise ProposalInputError(
            f"config has unknown settings {', '.join(unknown)}; known are {', '.join(_CONFIG_KEYS)}"
        )
    values: dict[str, float] = {}
    for key, value in given.items():
        if value is None:
            continue
        number = number_from(value)
        if number is None or not np.isfinite(number):
            raise ProposalInputError(f"config {key} must be a number, not {value!r}")
        values[key] = number
    notes: list[str] = []
    step = values.get("aggressiveness", _STEP_LIMIT)
    if step > 1.0:
        raise ProposalInputError(f"config aggressiveness must be at most 1, not {step:g}")
    if step > _STEP_LIMIT:
        notes.append(
            f"aggressiveness {step:g} exceeds the limit of {_STEP_LIMIT:g} a cycle, which is used"
        )
        step = _STEP_LIMIT
    defaults = ExponentialConfig()
    min_posts = values.get("min_posts_for_optimization", defaults.min_posts)
    if min_posts != int(min_posts):
        raise ProposalInputError(
            f"config min_posts_for_optimization must be a whole number, not {min_posts:g}"
        )
    config = OptimizerConfig(
        policy=policy,
        guards=replace(
            GuardConfig(), step=step, floor=values.get("min_weight", GuardConfig().floor)
        ),
        exponential=replace(
            defaults,
            exploration=values.get("exploration_rate", defaults.exploration),
            viral_boost=values.get("viral_boost", defaults.viral_boost),
            failure_penalty=values.get("failure_penalty", defaults.failure_penalty),
            min_posts=int(min_posts),
        ),
    )
    return config, tuple(notes)


def _read_performance(
    rows: Any, current: Mapping[str, Any]
) -> tuple[dict[str, GeneratorState], PerformanceTable]:
    if not isinstance(rows, list | tuple):
        raise ProposalInputError("performance must be a list of objects")
    by_name: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ProposalInputError(f"performance row {number} is not an object")
        name = row.get("name")
        if not isinstance(name, str) or not name.strip():
            raise ProposalInputError(f"performance row {number} has no name: {name!r}")
        if name in by_name:
            raise ProposalInputError(f"performance has {name} twice")
        if name not in current:
            raise ProposalInputError(f"performance has {name}, which has no current weight")
        by_name[name] = row
    states = read_states(
        {
            name: GeneratorState(
                weight,
                cast("GeneratorStatus", by_name.get(name, {}).get("status", "active")),
                by_name.get(name, {}).get("locked", False),
            )
            for name, weight in current.items()
        }
    )
    counts = [_read_counts(name, by_name[name]) if name in by_name else None for name in states]
    column = {
        key: np.array([0.0 if row is None else row[key] for row in counts])
        for key in (*_COUNTS, *_SUMS)
    }
    return states, PerformanceTable(
        names=tuple(states),
        posts=column["total_posts"].astype(np.int64),
        followers=column["total_followers_gained"],
        impressions=column["total_impressions"],
        f_per_1k=np.array([np.nan if row is None else row["f_per_1k"] for row in counts]),
        viral_posts=column["viral_posts"].astype(np.int64),
        failed_posts=column["failed_posts"].astype(np.int64),
    )


def _read_counts(name: str, row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one row, checked one by one and against each other."""
    values: dict[str, float] = {}
    for key in (*_COUNTS, *_SUMS):
        number = number_from(row.get(key))
        if number is None or not np.isfinite(number):
            raise ProposalInputError(f"{name}: {key} must be a number, not {row.get(key)!r}")
        if number < 0 and key != "total_followers_gained":
            raise ProposalInputError(f"{name}: {key} must not be negative, but is {number:g}")
        if key in _COUNTS and (number != np.floor(number) or number > 1e15):
            raise ProposalInputError(f"{name}: {key} must be a whole number, not {number!r}")
        values[key] = number
    posts, followers, impressions = (
        values["total_posts"],
        values["total_followers_gained"],
        values["total_impressions"],
    )
    for key in ("viral_posts", "failed_posts"):
        if values[key] > posts:
            raise ProposalInputError(f"{name}: {key} {values[key]:g} of {posts:g} posts")
    if posts == 0 and (followers or impressions):
        raise ProposalInputError(f"{name}: impressions or followers without a post")
    if impressions == 0 and followers:
        raise ProposalInputError(f"{name}: {followers:g} followers without an impression")
    values["f_per_1k"] = _checked_rate(name, row.get("f_per_1k"), followers, impressions)
    return values


def _checked_rate(name: str, given: Any, followers: float, impressions: float) -> float:
    """F/1K as given, if it agrees with its counts; NaN where nothing was seen."""
    rate = 1000.0 * followers / impressions if impressions > 0 else np.nan
    if given is None:
        return rate
    number = number_from(given)
    if number is None or not np.isfinite(number):
        raise ProposalInputError(f"{name}: f_per_1k must be a number, not {given!r}")
    if impressions == 0:
        if number:
            raise ProposalInputError(f"{name}: f_per_1k {number:g} without an impression")
        return rate
    if abs(number - rate) > 0.005 + 0.01 * abs(rate):  # room for two decimals
        raise ProposalInputError(
            f"{name}: f_per_1k {number:g} contradicts {followers:g} followers from "
            f"{impressions:g} impressions, which are {rate:.4g}"
        )
    return number
