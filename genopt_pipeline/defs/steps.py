"""What each asset does in one window of one account, without Dagster.

Each step reads, calls core, writes in the caller's transaction and returns what it saw. *Now* is
the window's end. Running a step again writes the same rows.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection

import genopt_pipeline
from genopt_pipeline.core import attribution, episodes, increments, performance, policies
from genopt_pipeline.core.policies.contract import ThompsonConfig, jsonable
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import attribution as attribution_store
from genopt_pipeline.store import metrics, snapshots
from genopt_pipeline.store import performance as performance_store
from genopt_pipeline.store import posts as post_store
from genopt_pipeline.store import weights as weight_store

#: Data that a full fit of an account reads before its window.
FIT_LOOKBACK = timedelta(days=30)
#: The windows between two fits split by what the last one learned.
FIT_EVERY = timedelta(days=1)
#: They read the time in which a live post gained exposure, and twice the reach of the follow lag.
STEP_LOOKBACK = timedelta(hours=increments.CREDIT_HOURS) + timedelta(hours=60)
#: A post's readings that its increments inside the look-back need lie in this time before it.
READINGS_MARGIN = timedelta(hours=increments.CREDIT_HOURS) + timedelta(hours=4)
#: A gap is merged into the next window that has a reading, but not over more than this.
LONGEST_MERGED_GAP = timedelta(days=3)
TWO_HOURS = timedelta(hours=2)
#: Posts of the last days whose totals each fit states again (between fits, those it reads).
RESTATED_DAYS = timedelta(days=7)
UNKNOWN_GENERATOR = "(unknown)"


# Follower deltas -----------------------------------------------------------------------------


def delta_step(
    connection: Connection, account_id: str, start: datetime, end: datetime
) -> dict[str, Any]:
    """Store the follower change of one window.

    Where a later window was merged over this one, because this one was a gap then, the later one
    is computed again: no change is counted in two windows.
    """
    row = _write_delta(connection, account_id, start, end)
    for later_start, later_end in attribution_store.windows_merged_over(
        connection, account_id, start, end
    ):
        _write_delta(connection, account_id, later_start, later_end)
    return row


def _write_delta(
    connection: Connection, account_id: str, start: datetime, end: datetime
) -> dict[str, Any]:
    earliest = start - LONGEST_MERGED_GAP
    counts = metrics.follower_readings(
        connection, account_id, earliest - increments.BOUNDARY_TOLERANCE, end
    )
    row = increments.follower_delta(counts, start, end, earliest=earliest)
    attribution_store.write_delta(connection, account_id, row)
    return row


# Attribution ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttributionInputs:
    """Deltas and exposures of a stretch of time, read once for all windows in it."""

    since: datetime
    deltas: pd.DataFrame
    exposures: pd.DataFrame
    posted_at: pd.Series

    def between(self, since: datetime, end: datetime) -> "AttributionInputs":
        """What was known at ``end``, from ``since`` on."""
        first, until = pd.Timestamp(since), pd.Timestamp(end)
        deltas = self.deltas
        exposures = self.exposures
        return AttributionInputs(
            since,
            deltas[(deltas["window_start"] >= first) & (deltas["window_end"] <= until)],
            exposures[(exposures["window_start"] >= first) & (exposures["window_start"] < until)],
            self.posted_at,
        )


def read_attribution_inputs(
    connection: Connection, account_id: str, start: datetime, end: datetime
) -> AttributionInputs:
    """Inputs of all windows in ``[start, end)``: of a single one that needs no fit, a few days."""
    alone = end - start <= TWO_HOURS and _learned_before(connection, account_id, start) is not None
    return _read_inputs(
        connection, account_id, start - (STEP_LOOKBACK if alone else FIT_LOOKBACK), end
    )


def _read_inputs(
    connection: Connection, account_id: str, since: datetime, end: datetime
) -> AttributionInputs:
    readings = metrics.last_readings(
        connection, account_id, since - READINGS_MARGIN, end, window=TWO_HOURS
    )
    readings["generator_name"] = readings["generator_name"].fillna(UNKNOWN_GENERATOR)
    return AttributionInputs(
        since,
        attribution_store.read_deltas(connection, account_id, since, end),
        increments.exposure_increments(readings, TWO_HOURS),
        readings.groupby("post_id")["posted_at"].first(),
    )


def _learned_before(
    connection: Connection, account_id: str, start: datetime
) -> attribution.Learned | None:
    """What the last fit learned; None where the window is to be fitted in full.

    That is the first window of every day (UTC), so that the same windows are fitted whenever they
    are run, and any that has no fit of the last day before it.
    """
    if start.hour == 0:
        return None
    document = attribution_store.last_learned(
        connection,
        account_id,
        since=start - FIT_EVERY,
        before=start,
        code_version=genopt_pipeline.__version__,
    )
    return None if document is None else attribution.Learned.from_json(document)


def _attribute(
    connection: Connection,
    account_id: str,
    start: datetime,
    end: datetime,
    inputs: AttributionInputs,
) -> tuple[attribution.Attribution, AttributionInputs]:
    """The attribution of the last window, and the inputs it was made of."""
    learned = _learned_before(connection, account_id, start)
    if learned is not None:
        known = inputs.between(start - STEP_LOOKBACK, end)
        if attribution.exposure_kind(known.exposures) == learned.exposure_kind:
            result = attribution.attribute_step(known.deltas, known.exposures, learned)
            last = result.posts[
                result.posts["window_start"] == known.deltas["window_start"].iloc[-1]
            ]
            gained = last.loc[last["followers"] > 0.0, "post_id"]
            # a lag so long that older posts still gain: their totals need their whole life
            if (known.posted_at[gained] >= pd.Timestamp(known.since)).all():
                return result, known
    if inputs.since > start - FIT_LOOKBACK:
        inputs = _read_inputs(connection, account_id, start - FIT_LOOKBACK, end)
    known = inputs.between(end - FIT_LOOKBACK, end)
    return attribution.attribute_followers(known.deltas, known.exposures), known


def attribution_step(
    connection: Connection,
    account_id: str,
    start: datetime,
    end: datetime,
    inputs: AttributionInputs,
) -> dict[str, Any]:
    """Attribute one window's change; a gap has no attribution and says so."""
    deltas = inputs.deltas
    of_window = deltas[deltas["window_end"] == pd.Timestamp(end)]
    if of_window.empty:
        attribution_store.clear_attribution(connection, account_id, start)
        return {"gap": True, "posts": 0}
    covers_from = of_window["window_start"].iloc[0]
    delta = float(of_window["delta"].iloc[0])
    result, known = _attribute(connection, account_id, start, end, inputs)
    shares = result.posts[result.posts["window_start"] == covers_from].set_index("post_id")
    totals = result.totals[result.totals["followers"].notna()].set_index("post_id")
    restated = max(end - RESTATED_DAYS, known.since)
    recent = known.posted_at[known.posted_at >= pd.Timestamp(restated)].index
    credited = totals.index.intersection(shares.index.union(recent)).sort_values()
    rows = pd.DataFrame(
        {
            "decision_id": credited,
            "followers": shares["followers"].reindex(credited).fillna(0.0).to_numpy(),
            "variance": shares["variance"].reindex(credited).fillna(0.0).to_numpy(),
            "followers_to_date": totals["followers"].reindex(credited).to_numpy(),
            "variance_to_date": totals["variance"].reindex(credited).to_numpy(),
            "information": totals["information"].reindex(credited).to_numpy(),
        }
    )
    line = result.baseline[result.baseline["window_start"] == covers_from].iloc[0]
    quarantined = covers_from in set(result.quarantined["window_start"])
    baseline = {
        "delta": delta,
        "followers": float(line["followers"]),
        "organic": _number(line.get("organic")),
        "unfollows": _number(line.get("unfollows")),
        "quarantined": quarantined,
    }
    parameters = {
        **jsonable(dict(result.parameters)),
        "code_version": genopt_pipeline.__version__,
        "warnings": list(result.warnings),
    }
    stored = dict(parameters)
    if result.parameters["estimated"]:
        stored["learned"] = result.learned.as_json()
    attribution_store.write_attribution(
        connection, account_id, start, end, posts=rows, baseline=baseline, parameters=stored
    )
    return {
        "gap": False,
        "posts": len(rows),
        "delta": delta,
        "credited": float(rows["followers"].sum()),
        "baseline": baseline["followers"],
        "quarantined": quarantined,
        "parameters": parameters,
    }


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


# Performance ---------------------------------------------------------------------------------

#: Look-backs of the performance history, in days.
LOOKBACK_DAYS = (1.0, 3.0, 7.0, 14.0, 30.0)


def look_backs(settings: Settings) -> list[float]:
    """Days of the look-backs that are stored: the usual ones and the gate's."""
    return sorted({*LOOKBACK_DAYS, float(settings.window_days)})


def performance_step(
    connection: Connection, account_id: str, settings: Settings, end: datetime
) -> pd.DataFrame:
    """Store the per-generator tables of all look-backs before ``end``; returns the report's.

    The frame has one row a generator with the columns of ``generator_performance_history``.
    """
    in_force = weight_store.weights_in_force(connection, account_id, end)
    posts = performance_store.posts_as_of(
        connection,
        account_id,
        at=end,
        # a trend compares the look-back with as much time before it
        since=end - 2 * timedelta(days=max(look_backs(settings))),
        estimator=settings.estimator,
    )
    posts = posts.rename(columns={"post_id": "decision_id"})
    report = pd.DataFrame()
    for days in look_backs(settings):
        table = performance.summarize(
            posts, list(in_force.generators), now=end, lookback=timedelta(days=days)
        )
        rows = [
            {
                **row,
                "period_start": end - timedelta(days=days),
                "period_end": end,
                "experiment_arm": "all",
                "weight_used": in_force.generators[row["generator_name"]].weight,
                "estimator": settings.estimator,
            }
            for row in records(table)
        ]
        performance_store.write_history(connection, account_id, rows)
        if days == float(settings.window_days):
            report = pd.DataFrame(rows)
    return report


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of plain Python values; what is not known becomes None."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [
        {str(key): value.item() if hasattr(value, "item") else value for key, value in row.items()}
        for row in plain.to_dict("records")
    ]


# Weight snapshots ----------------------------------------------------------------------------


def optimizer_config(settings: Settings) -> policies.OptimizerConfig:
    """The policies' settings, from the installation's."""
    return policies.OptimizerConfig(
        policy=settings.policy,
        objective=settings.objective,
        guards=policies.GuardConfig(
            floor=settings.min_weight,
            cap=settings.max_weight,
            step=settings.aggressiveness,
        ),
        exponential=policies.ExponentialConfig(
            exploration=settings.exploration_rate, min_posts=settings.min_posts_for_optimization
        ),
        thompson=ThompsonConfig(exploration=settings.exploration_rate),
        window_days=float(settings.window_days),
        min_posts_window=settings.min_posts_window,
    )


def data_gate(
    connection: Connection, account_id: str, settings: Settings, end: datetime
) -> str | None:
    """Why the data of a window do not allow an optimization; None if they do."""
    history = performance_store.read_history(
        connection, account_id, since=end - TWO_HOURS, until=end, days=settings.window_days
    )
    if history.empty:
        return f"generator_f_per_1k has no rows for {end:%Y-%m-%d %H:%M}: its window did not run"
    if settings.estimator == "attributed":
        deltas = attribution_store.read_deltas(connection, account_id, end - timedelta(days=1), end)
        if deltas.empty:
            return "no follower change is known of the last 24 hours: the data are stale"
        age = end - deltas["window_end"].max().to_pydatetime()
        if age > timedelta(hours=6):
            return f"the newest follower change is {age.total_seconds() / 3600:.0f} hours old"
    return None


def snapshot_posts(
    connection: Connection, account_id: str, settings: Settings, end: datetime
) -> pd.DataFrame:
    """The posts that a snapshot of the window that ends at ``end`` is computed from."""
    return performance_store.posts_as_of(
        connection,
        account_id,
        at=end,
        since=end - post_store.LONGEST_LOOKBACK,
        estimator=settings.estimator,
    )


def snapshot_step(
    connection: Connection,
    account_id: str,
    settings: Settings,
    start: datetime,
    end: datetime,
    *,
    force: bool = False,
    posts: pd.DataFrame | None = None,
    in_force_at: datetime | None = None,
) -> dict[str, Any]:
    """Compute the snapshot of one window as a row of ``weight_snapshots``; writes nothing.

    posts: those of :func:`snapshot_posts`, if they were read already. in_force_at: when the
    weights that it starts from were in force; at ``end`` unless given.
    """
    in_force = weight_store.weights_in_force(connection, account_id, in_force_at or end)
    states = {
        name: policies.GeneratorState(float(row.weight), row.status, row.locked)  # type: ignore[arg-type]  # the database checks the status
        for name, row in in_force.generators.items()
    }
    if posts is None:
        posts = snapshot_posts(connection, account_id, settings, end)
    config = optimizer_config(settings)
    proposal, shadow = policies.propose_both(posts, states, now=end, config=config, force=force)
    refusal = None if force else data_gate(connection, account_id, settings, end)
    skipped = refusal is not None or proposal.decision == "skipped"
    weights = in_force.by_name if skipped else proposal.weights
    window = posts[posts["posted_at"] >= pd.Timestamp(end - timedelta(days=settings.window_days))]
    table = performance.summarize(
        posts.rename(columns={"post_id": "decision_id"}),
        list(states),
        now=end,
        lookback=timedelta(days=settings.window_days),
    )
    best = performance.performers(table, min_posts=settings.min_posts_for_optimization)
    judged = episodes.judge(
        table,
        proposal,
        states,
        config=episodes.EpisodeConfig(min_posts=settings.min_posts_for_optimization),
    )
    inputs: dict[str, Any] = {
        "posts": len(window),
        "window_days": settings.window_days,
        "posts_read": len(posts),
        "estimator": settings.estimator,
        "as_of": end.isoformat(),
        "sha256": frame_hash(posts),
        "step": config.guards.step,
        "cap": config.guards.cap,
        "top_performer": best.top,
        "top_performer_f_per_1k": best.top_f_per_1k,
        "bottom_performer": best.bottom,
        "bottom_performer_f_per_1k": best.bottom_f_per_1k,
        "judged": {name: judgement.to_dict() for name, judgement in judged.items()},
    }
    return {
        "window_start": start,
        "window_end": end,
        "decision": "skipped" if skipped else "proposed",
        "reason": (refusal or proposal.reason) if skipped else None,
        "policy": settings.policy,
        "weights": {name: round(weight, 4) for name, weight in sorted(weights.items())},
        "proposal": proposal.to_dict(),
        "shadow": shadow.to_dict(),
        "base_version": in_force.version,
        "inputs": inputs,
        "code_version": genopt_pipeline.__version__,
    }


def write_snapshot(
    connection: Connection, account_id: str, row: dict[str, Any], *, backfilled: bool
) -> None:
    """Store a snapshot computed by :func:`snapshot_step`."""
    snapshots.write_snapshot(connection, account_id, {**row, "backfilled": backfilled})


def frame_hash(frame: pd.DataFrame) -> str:
    """SHA-256 of a frame's rows, to tell whether two runs had the same input."""
    text = json.dumps(records(frame), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
