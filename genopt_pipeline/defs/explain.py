"""Everything that is known of one generator, and the newest figures of all: store, then core.

Without Dagster, and without writing: what ``genopt explain`` and ``genopt dashboard`` show.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from genopt_pipeline.core import performance
from genopt_pipeline.core.appraisal import Appraisal, binding_guard
from genopt_pipeline.core.names import suggest
from genopt_pipeline.defs import evaluation, steps
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import evaluation as store
from genopt_pipeline.store import performance as performance_store
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.weights import UnknownGeneratorError

#: Posts of so many days are listed, and at most so many of them on a screen.
POST_DAYS = 7.0
#: Days of the F/1K and weights that are drawn over time.
HISTORY_DAYS = 30.0
#: Periods of the performance history further apart than this are a hole.
LONGEST_STEP = timedelta(hours=12)

_INTEGERS = ("rank", "impressions", "viral_posts", "failed_posts")
_LIFE_TIME = (
    "total_posts",
    "total_impressions",
    "total_followers_gained",
    "avg_f_per_1k",
    "avg_engagement_rate",
    "viral_post_count",
    "failed_post_count",
    "times_selected",
    "last_used",
    "notes",
)
_LOOKBACKS = {1.0: "24 h", 3.0: "3 d", 7.0: "7 d", 14.0: "14 d", 30.0: "30 d"}


def resolve(connection: Connection, account_id: str, raw: str) -> str:
    """The registered generator that a spelling stands for.

    Raises
    ------
    UnknownGeneratorError
        There is none; names those that are spelled alike.
    UnknownAccountError
        The account is not registered.
    """
    known = weight_store.live_weights(connection, account_id).generators
    name = store.resolve_generator(connection, account_id, raw)
    if name is None:
        near = suggest(raw, known) or tuple(known)
        raise UnknownGeneratorError(
            f"{raw!r} is no generator of account {account_id!r}; there are {', '.join(near)}"
        )
    return name


def explain_generator(
    connection: Connection, account_id: str, settings: Settings, raw: str, *, now: datetime
) -> tuple[dict[str, Any], Appraisal]:
    """All that is known of a generator, as JSON values and times, and the account's appraisal.

    Raises
    ------
    UnknownGeneratorError, UnknownAccountError
        See :func:`resolve`.
    """
    name = resolve(connection, account_id, raw)
    live = weight_store.live_weights(connection, account_id)
    found, snapshot = evaluation.newest_appraisal(connection, account_id, settings, now)
    row = live.generators[name]
    versions = store.generator_versions(connection, account_id, name)
    posts = _posts(connection, account_id, settings, name, now)
    decision = (
        None if snapshot is None else _decision(connection, account_id, settings, name, snapshot)
    )
    shown = {
        "account": account_id,
        "as_of": now,
        "simulated": settings.source == "sandbox",
        "generator": name,
        "aliases": store.aliases(connection, account_id, name),
        "status": row.status,
        "locked": row.locked,
        "weight": float(row.weight),
        "weights_version": live.version,
        "estimator": settings.estimator,
        "life_time": next(
            {key: each[key] for key in _LIFE_TIME}
            for each in performance_store.life_time_table(connection, account_id)
            if each["generator_name"] == name
        ),
        "lookbacks": lookbacks(connection, account_id, settings, name, now),
        "decision": decision,
        "undecided": _undecided(snapshot) if decision is None else None,
        "appraisal": found.to_dict(),
        "posts_days": POST_DAYS,
        "posts": posts,
        "f_per_1k_history": over_time(
            performance_store.read_history(
                connection,
                account_id,
                since=now - timedelta(days=HISTORY_DAYS),
                until=now,
                days=settings.window_days,
            ),
            name,
            40,
        ),
        "weight_history": changes_of(versions),
        "findings": store.generator_findings(connection, account_id, name, 20),
    }
    return shown, found


def lookbacks(
    connection: Connection, account_id: str, settings: Settings, name: str, now: datetime
) -> list[dict[str, Any]]:
    """The newest figures of a generator for every look-back, shortest first.

    From the stored history; where there is none (imports only), from the posts as known now.
    """
    rows = store.newest_lookbacks(connection, account_id, name, now)
    if not rows:
        posts = _all_posts(connection, account_id, settings, now)
        names = list(weight_store.live_weights(connection, account_id).generators)
        rows = [
            next(row for row in steps.records(table) if row["generator_name"] == name)
            for table in (
                performance.summarize(posts, names, now=now, lookback=timedelta(days=days))
                for days in steps.LOOKBACK_DAYS
            )
        ]
    labelled = []
    for row in rows:
        days = (row["period_end"] - row["period_start"]) / timedelta(days=1)
        labelled.append({"lookback": _LOOKBACKS.get(days, f"{days:g} d"), **row})
    return labelled


def _all_posts(
    connection: Connection, account_id: str, settings: Settings, now: datetime
) -> pd.DataFrame:
    return performance_store.posts_as_of(
        connection, account_id, at=now, since=None, estimator=settings.estimator
    ).rename(columns={"post_id": "decision_id"})


def _decision(
    connection: Connection,
    account_id: str,
    settings: Settings,
    name: str,
    snapshot: Mapping[str, Any],
) -> dict[str, Any] | None:
    """What the newest snapshot says of a generator, and what the shadow would have liked.

    None for a generator that was registered after its window had ended.
    """
    proposal, shadow = snapshot["proposal"], snapshot["shadow"] or {}
    in_force = weight_store.weights_in_force(connection, account_id, snapshot["window_end"])
    before = evaluation.states_of(in_force).get(name)
    if before is None:
        return None
    diagnostics = proposal["diagnostics"]
    step = snapshot["inputs"].get("step", settings.aggressiveness)
    cap = snapshot["inputs"].get("cap", settings.max_weight)
    target = diagnostics["target"].get(name)
    known: Mapping[str, Any] = next(
        (
            each["diagnostics"]["generators"][name]
            for each in (proposal, shadow)
            if name in each.get("diagnostics", {}).get("generators", {})
        ),
        {},
    )
    return {
        "window_start": snapshot["window_start"],
        "window_end": snapshot["window_end"],
        "decision": snapshot["decision"],
        "reason": snapshot["reason"],
        "policy": snapshot["policy"],
        "explanation": proposal["explanations"].get(name),
        "weight_before": before.weight,
        "weight_after": snapshot["weights"].get(name),
        "target": target,
        "guard": binding_guard(
            state=before,
            decision=snapshot["decision"],
            target=target,
            unrounded=proposal["unrounded_weights"].get(name, math.nan),
            floor=diagnostics["floor"],
            cap=cap,
            step=step,
        ),
        "guard_settings": {"floor": diagnostics["floor"], "cap": cap, "step": step},
        "engine": known or None,
        "prices": diagnostics.get("prices"),
        "shadow": {
            "policy": shadow["policy"],
            "explanation": shadow["explanations"].get(name),
            "target": shadow["diagnostics"]["target"].get(name),
            "weight": shadow["weights"].get(name),
        }
        if shadow
        else None,
    }


def _undecided(snapshot: Mapping[str, Any] | None) -> str:
    """Why there is no decision on a generator."""
    if snapshot is None:
        return "no snapshot of weights has been computed yet"
    return (
        "no decision on it yet: it was registered after the last window ended "
        f"({snapshot['window_end']:%Y-%m-%d %H:%M} UTC)"
    )


def _posts(
    connection: Connection, account_id: str, settings: Settings, name: str, now: datetime
) -> list[dict[str, Any]]:
    """Posts of the last days, newest first, with both counts of followers side by side."""
    frame = performance_store.posts_as_of(
        connection,
        account_id,
        at=now,
        since=now - timedelta(days=POST_DAYS),
        estimator=settings.estimator,
    )
    own = frame[frame["generator_name"] == name].sort_values("posted_at", ascending=False)
    return [
        {
            "decision_id": post["post_id"],
            "posted_at": post["posted_at"],
            "experiment_arm": post["experiment_arm"],
            "selection_probability": post["selection_probability"],
            "impressions": post["impressions"],
            "attributed": post["followers_attributed"],
            "attributed_sd": _root(post["followers_variance"])
            if settings.estimator == "attributed"
            else None,
            "platform": post["platform_follows"],
        }
        for post in steps.records(own)
    ]


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)


def changes_of(versions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The events at which weight or state of a generator changed, oldest first, with old values."""
    changes = []
    before: Mapping[str, Any] | None = None
    for row in versions:
        now = (row["weight"], row["status"], row["locked"])
        old = None if before is None else (before["weight"], before["status"], before["locked"])
        if now != old:
            changes.append(
                {
                    "event_id": row["id"],
                    "event_type": row["event_type"],
                    "effective_at": row["effective_at"],
                    "old_weight": None if before is None else before["weight"],
                    "new_weight": row["weight"],
                    "status": row["status"],
                    "locked": row["locked"],
                    "reason": row["reason"],
                    "created_by": row["created_by"],
                }
            )
        before = row
    return changes


def over_time(history: pd.DataFrame, name: str, count: int) -> list[float | None]:
    """F/1K of a generator at ``count`` evenly spaced times of the history, None where it is not.

    ``history`` is that of all generators, so that holes of one show as holes.
    """
    if history.empty:
        return []
    ends = sorted(set(history["period_end"]))
    own = history[history["generator_name"] == name].set_index("period_end")["f_per_1k"]
    count = min(count, len(ends))
    first, last = ends[0], ends[-1]
    values: list[float | None] = []
    for k in range(count):
        at = last if count == 1 else first + (last - first) * k / (count - 1)
        known = [end for end in ends if end <= at]
        end = known[-1] if known else first
        value = own.get(end) if at - end <= LONGEST_STEP else None
        values.append(None if value is None or pd.isna(value) else float(value))
    return values


def newest_figures(
    connection: Connection, account_id: str, settings: Settings, now: datetime
) -> tuple[pd.DataFrame, pd.DataFrame, str, datetime]:
    """The newest table of performance, the history behind it, its period in words, and its time.

    The table is of the stored history; an account without one (imports only) gets the life-time
    of its posts as known now.
    """
    history = performance_store.read_history(
        connection,
        account_id,
        since=now - timedelta(days=HISTORY_DAYS),
        until=now,
        days=settings.window_days,
    )
    if not history.empty:
        end = history["period_end"].max()
        table = history[history["period_end"] == end].copy()
        # SQL's nulls made floats of them
        table[list(_INTEGERS)] = table[list(_INTEGERS)].astype("Int64")
        return (
            table,
            history,
            f"last {settings.window_days} days",
            pd.Timestamp(end).to_pydatetime(),
        )
    names = list(weight_store.live_weights(connection, account_id).generators)
    posts = _all_posts(connection, account_id, settings, now)
    return performance.summarize(posts, names, now=now, lookback=None), history, "life-time", now
