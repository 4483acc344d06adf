"""What the weights of an account are worth, and replays of its history: store, then core.

Without Dagster, and without writing: assets, checks, commands and the report all ask here.
"""

import bisect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from genopt_pipeline.core import appraisal, backtest, policies
from genopt_pipeline.core.appraisal import EVALUATION_DAYS, Appraisal, DrawCheck
from genopt_pipeline.core.generators import DRAWN_STATUSES
from genopt_pipeline.defs import steps
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import evaluation as store
from genopt_pipeline.store import posts as post_store
from genopt_pipeline.store import snapshots
from genopt_pipeline.store import weights as weight_store

#: The guards whose price is known, see ``core.policies.prices``.
GUARDS = ("floor", "cap", "locks", "step")
#: Columns of the table that the UI and the report show of an appraisal.
WORTH_COLUMNS = (
    "weights",
    "off_policy_f_per_1k",
    "off_policy_90",
    "model_f_per_1k",
    "model_90",
    "gain_over_default",
)


def states_of(weights: weight_store.Weights) -> dict[str, policies.GeneratorState]:
    """Weights as the policies take them."""
    return {
        name: policies.GeneratorState(float(row.weight), row.status, row.locked)  # type: ignore[arg-type]  # the database checks the status
        for name, row in weights.generators.items()
    }


def draw_check(
    connection: Connection, account_id: str, end: datetime, *, days: float = EVALUATION_DAYS
) -> DrawCheck:
    """Did the engine draw by the weights in the days before ``end``."""
    counts = store.draw_counts(connection, account_id, end - timedelta(days=days), end)
    versions = {count.weights_version for count in counts if count.weights_version is not None}
    return appraisal.check_draws(
        counts,
        store.weights_by_version(connection, account_id, versions),
        store.first_weights(connection, account_id),
    )


def appraise(
    connection: Connection,
    account_id: str,
    settings: Settings,
    end: datetime,
    *,
    snapshot: Mapping[str, Any] | None = None,
    posts: pd.DataFrame | None = None,
    in_force_at: datetime | None = None,
) -> Appraisal:
    """What the weights in force, those of a snapshot, and the defaults are worth at ``end``.

    in_force_at: when the weights in force were so; at ``end`` unless given. snapshot: a row of
    ``weight_snapshots``; its proposal and its shadow's are appraised, whether or not they pass the
    gate. posts: as of ``end``, if they were read already.
    """
    weights = weight_store.weights_in_force(connection, account_id, in_force_at or end)
    states = states_of(weights)
    if posts is None:
        posts = steps.snapshot_posts(connection, account_id, settings, end)
    weightings: dict[str, Mapping[str, float]] = {}
    prices = None
    if snapshot is not None:
        weightings["proposed"] = snapshot["proposal"]["weights"]
        prices = snapshot["proposal"]["diagnostics"].get("prices")
        if snapshot["shadow"] is not None:
            weightings["shadow"] = snapshot["shadow"]["weights"]
    return appraisal.appraise(
        posts,
        states,
        weightings,
        default=_default(weights, store.first_weights(connection, account_id)),
        draws=draw_check(connection, account_id, end),
        now=end,
        prices=prices,
    )


def newest_appraisal(
    connection: Connection, account_id: str, settings: Settings, now: datetime
) -> tuple[Appraisal, dict[str, Any] | None]:
    """The newest snapshot and an appraisal of it at its end; at ``now`` where there is none.

    The weights in force are those of ``now``: the snapshot's own, if it was published.
    """
    snapshot = store.newest_snapshot(connection, account_id, now)
    end = now if snapshot is None else snapshot["window_end"]
    found = appraise(connection, account_id, settings, end, snapshot=snapshot, in_force_at=now)
    return found, snapshot


def _default(weights: weight_store.Weights, first: Mapping[str, float]) -> dict[str, float]:
    drawn = {
        name: float(row.weight) if row.status in DRAWN_STATUSES else 0.0
        for name, row in weights.generators.items()
    }
    return appraisal.default_weights(drawn, first)


def worth_numbers(found: Appraisal) -> dict[str, float]:
    """What of an appraisal is worth plotting over time, by name; what is unknown is left out."""
    numbers = {f"value/{worth.name}": worth.model.f_per_1k for worth in found.worths}
    numbers |= {
        f"value_from_posts/{worth.name}": worth.off_policy.f_per_1k for worth in found.worths
    }
    numbers |= {
        "holdout_uplift": found.holdout.gain,
        "sample_ratio_p": found.draws.ratio.p_value,
        **{f"guard_price/{k}": v for k, v in (found.prices or {}).items() if k in GUARDS},
    }
    return {name: value for name, value in numbers.items() if value is not None}


def worth_rows(found: Appraisal) -> list[dict[str, Any]]:
    """The rows of an appraisal as words and numbers; unknown is None."""
    return [
        {
            "weights": worth.name.replace("_", " "),
            "off_policy_f_per_1k": worth.off_policy.f_per_1k,
            "off_policy_90": _interval(worth.off_policy.low, worth.off_policy.high),
            "model_f_per_1k": worth.model.f_per_1k,
            "model_90": _interval(worth.model.low, worth.model.high),
            "gain_over_default": worth.over_default.gain,
        }
        for worth in found.worths
    ]


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3g} to {high:.3g}"


@dataclass(frozen=True)
class Replay:
    """A backtest of an account and what it was run on."""

    result: backtest.Backtest
    start: datetime
    end: datetime
    every: timedelta
    config: policies.OptimizerConfig
    posts: int
    in_force: tuple[Mapping[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: settings, values, and the path of the weights; what is unknown is None."""
        proposals = self.result.proposals
        first = proposals[0]
        return {
            "policy": self.config.policy,
            "from": self.start.isoformat(),
            "to": self.end.isoformat(),
            "every_hours": self.every.total_seconds() / 3600,
            "settings": {
                "step": self.config.guards.step,
                "floor": self.config.guards.floor,
                "cap": self.config.guards.cap,
                "exploration": self.config.exponential.exploration
                if self.config.policy == "exponential"
                else self.config.thompson.exploration,
                "window_days": self.config.window_days,
                "min_posts": self.config.min_posts_window,
            },
            "posts": self.posts,
            "windows": len(proposals),
            "skipped": sum(proposal.decision == "skipped" for proposal in proposals),
            "first_skip": next(
                (proposal.reason for proposal in proposals if proposal.decision == "skipped"), None
            ),
            "warnings": list(dict.fromkeys(w for p in proposals for w in p.warnings)),
            "as_drawn": policies.jsonable(asdict(self.result.logged)),
            "values": policies.jsonable(
                [asdict(weighting) for weighting in self.result.weightings]
            ),
            "generators": sorted(first.weights),
            "path": [
                {
                    "as_of": proposal.as_of.isoformat(),
                    "decision": proposal.decision,
                    "reason": proposal.reason,
                    "weights": proposal.weights,
                    "in_force": dict(in_force),
                }
                for proposal, in_force in zip(proposals, self.in_force, strict=True)
            ],
        }


def replay_config(
    settings: Settings,
    *,
    policy: policies.PolicyName | None = None,
    step: float | None = None,
    exploration: float | None = None,
    window_days: float | None = None,
    min_posts: int | None = None,
    floor: float | None = None,
    cap: float | None = None,
) -> policies.OptimizerConfig:
    """The settings in force with what is given in their place.

    Raises
    ------
    ProposalInputError, GuardError
        A value outside its range.
    """
    config = steps.optimizer_config(settings)
    guards = {"step": step, "floor": floor, "cap": cap}
    given = {name: value for name, value in guards.items() if value is not None}
    config = replace(config, guards=replace(config.guards, **given))
    if exploration is not None:
        config = replace(
            config,
            exponential=replace(config.exponential, exploration=exploration),
            thompson=replace(config.thompson, exploration=exploration),
        )
    return replace(
        config,
        policy=config.policy if policy is None else policy,
        window_days=config.window_days if window_days is None else window_days,
        min_posts_window=config.min_posts_window if min_posts is None else min_posts,
    )


def replayable(
    connection: Connection, account_id: str, now: datetime
) -> tuple[datetime, datetime] | None:
    """Six-hour boundaries around the account's posts, at most up to ``now``; None without posts."""
    span = store.post_span(connection, account_id)
    if span is None:
        return None
    cycle = snapshots.CYCLE
    start = snapshots.current_window(span[0])[1]
    end = snapshots.current_window(span[1] + cycle)[1]
    return start, min(end, snapshots.current_window(now)[1])


def replay(
    connection: Connection,
    account_id: str,
    *,
    start: datetime,
    end: datetime,
    now: datetime,
    every: timedelta,
    config: policies.OptimizerConfig,
    estimator: str,
    progress: Callable[[float], None] | None = None,
) -> Replay:
    """Replay the stored history of ``[start, end)`` under a policy and settings.

    It starts from the weights, statuses and locks in force at ``start``, and sees at each step
    what was observed by then. Compared with the weights that were in force, and with the defaults.
    """
    at_start = weight_store.weights_in_force(connection, account_id, start)
    default = _default(at_start, store.first_weights(connection, account_id))
    versions = weight_store.weights_history(connection, account_id, start, end)
    times = [effective_at for effective_at, _, _ in versions]

    def in_force(at: datetime) -> Mapping[str, float]:
        return versions[max(bisect.bisect_right(times, at) - 1, 0)][2]

    history = store.replay_history(
        connection,
        account_id,
        start=start,
        end=end,
        until=now,
        every=every,
        since=start - post_store.LONGEST_LOOKBACK,
        estimator=estimator,
    )
    result = backtest.backtest(
        history,
        states_of(at_start),
        start=start,
        end=end,
        every=every,
        config=config,
        alternatives={"in_force": in_force, "default": lambda _: default},
        progress=progress,
    )
    return Replay(
        result,
        start,
        end,
        every,
        config,
        posts=int(history.loc[history["posted_at"] >= pd.Timestamp(start), "post_id"].nunique()),
        in_force=tuple(in_force(proposal.as_of) for proposal in result.proposals),
    )
