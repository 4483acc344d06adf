"""Weight snapshots: what the policy proposes for a window, and its publication."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from genopt_pipeline.core.changes import change_percent, is_significant
from genopt_pipeline.core.episodes import Judgement, Outcome, Transition, follow
from genopt_pipeline.core.policies import GeneratorState
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import lock_account

CYCLE = timedelta(hours=6)


@dataclass(frozen=True)
class Publication:
    """What came of an attempt: ``published``, ``skipped``, ``refused`` or ``nothing``."""

    outcome: str
    reason: str
    window_start: datetime | None = None
    version: int | None = None
    episodes: tuple[Transition, ...] = ()


def write_snapshot(connection: Connection, account_id: str, row: Mapping[str, Any]) -> None:
    """Store the snapshot of a window, replacing what an earlier run of it stored."""
    lock_account(connection, account_id)
    columns = (
        "window_end",
        "decision",
        "reason",
        "policy",
        "weights",
        "proposal",
        "shadow",
        "base_version",
        "inputs",
        "code_version",
        "backfilled",
    )
    connection.execute(
        text(f"""
            INSERT INTO genopt.weight_snapshots (account_id, window_start, {", ".join(columns)})
            VALUES (:account, :window_start, {", ".join(":" + name for name in columns)})
            ON CONFLICT (account_id, window_start) DO UPDATE SET
                {", ".join(f"{name} = excluded.{name}" for name in columns[:-1])},
                -- what was computed when it was due stays so when it is computed again
                backfilled = weight_snapshots.backfilled AND excluded.backfilled
        """).bindparams(
            bindparam("weights", type_=JSONB),
            bindparam("proposal", type_=JSONB),
            bindparam("shadow", type_=JSONB(none_as_null=True)),
            bindparam("inputs", type_=JSONB),
        ),
        {"account": account_id, **row},
    )


def read_snapshot(
    connection: Connection, account_id: str, window_start: datetime
) -> dict[str, Any] | None:
    """The snapshot of a window, or None."""
    row = (
        connection.execute(
            text("""
                SELECT * FROM genopt.weight_snapshots
                 WHERE account_id = :account AND window_start = :start
            """),
            {"account": account_id, "start": window_start},
        )
        .mappings()
        .first()
    )
    return None if row is None else dict(row)


def decided(connection: Connection, account_id: str, window_start: datetime) -> bool:
    """Whether the snapshot of a window was published, or an event says why not."""
    return bool(
        connection.scalar(
            text("""
                SELECT true FROM genopt.optimization_events
                 WHERE account_id = :account AND window_start = :start
                   AND event_type IN ('weight_update', 'skipped', 'refused') LIMIT 1
            """),
            {"account": account_id, "start": window_start},
        )
    )


def current_window(now: datetime) -> tuple[datetime, datetime]:
    """The last six-hour window that has ended by ``now``: the only one that may be published."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = midnight + CYCLE * ((now - midnight) // CYCLE)
    return end - CYCLE, end


def published(
    connection: Connection, account_id: str, window_start: datetime
) -> Publication | None:
    """That a window is published already, with the version it became; None if it is not."""
    done = connection.execute(
        text("""
            SELECT weights_version FROM genopt.optimization_events
             WHERE account_id = :account AND window_start = :start
               AND event_type = 'weight_update' LIMIT 1
        """),
        {"account": account_id, "start": window_start},
    ).first()
    if done is None:
        return None
    return Publication(
        "nothing",
        f"the window {window_start:%F %R} is published already",
        window_start,
        done.weights_version,
    )


def closed(connection: Connection, account_id: str, now: datetime) -> str | None:
    """Why the current window can no longer be published; None while it can."""
    window_start, window_end = current_window(now)
    done = published(connection, account_id, window_start)
    if done is not None:
        return done.reason
    live = weight_store.live_weights(connection, account_id).version
    base = weight_store.weights_in_force(connection, account_id, window_end).version
    return None if live == base else _overtaken(live, base)


def _overtaken(live: int, base: int) -> str:
    return (
        f"the weights changed (version {live}) after the snapshot was computed from version "
        f"{base}; the next cycle starts from the new ones"
    )


def publish_current(
    connection: Connection,
    account_id: str,
    *,
    now: datetime,
    created_by: str,
    execution_time_ms: float | None = None,
) -> Publication:
    """Publish the snapshot of the current window, once, or write why not.

    Only the window that ended last can be published, so a backfill of the past cannot reach the
    live weights; only from the version that the snapshot was computed from, so a change made
    meanwhile is never overwritten. A window has at most one ``weight_update`` event, before it
    those of the episodes that begin or end with it, all in the caller's transaction.
    """
    lock_account(connection, account_id)
    window_start, window_end = current_window(now)
    snapshot = read_snapshot(connection, account_id, window_start)
    if snapshot is None:
        return Publication("nothing", f"there is no snapshot of the window {window_start:%F %R}")
    if snapshot["backfilled"]:
        return Publication(
            "nothing",
            f"the snapshot of the window {window_start:%F %R} was computed by a backfill only; "
            "backfills are never published",
            window_start,
        )
    done = published(connection, account_id, window_start)
    if done is not None:
        return done
    told = decided(connection, account_id, window_start)
    facts = _facts(snapshot, window_start, window_end, created_by, execution_time_ms)
    if snapshot["decision"] == "skipped":
        if not told:
            weight_store.record_event(
                connection,
                account_id,
                weight_store.Event("skipped", reason=snapshot["reason"], **facts),
                effective_at=now,
            )
        return Publication("skipped", snapshot["reason"], window_start)
    live = weight_store.live_weights(connection, account_id)
    if live.version != snapshot["base_version"]:
        reason = _overtaken(live.version, snapshot["base_version"])
        if not told:
            weight_store.record_event(
                connection,
                account_id,
                weight_store.Event(
                    "refused", reason=reason, success=False, error_message=reason, **facts
                ),
                effective_at=now,
            )
        return Publication("refused", reason, window_start)
    outcome = followed(connection, account_id, snapshot, live)
    generators = {
        name: weight_store.GeneratorRow(
            weight_store.quantize(snapshot["weights"][name]), outcome.statuses[name], row.locked
        )
        for name, row in live.generators.items()
    }
    for transition in outcome.transitions:
        name = transition.generator
        old, new = live.generators[name].weight, generators[name].weight
        weight_store.record_event(
            connection,
            account_id,
            weight_store.Event(
                transition.event_type,
                reason=transition.reason,
                changes=[
                    {
                        "generator": name,
                        "old_weight": float(old),
                        "new_weight": float(new),
                        "change_percent": change_percent(old, new),
                        "significant": is_significant(old, new),
                        "reason": transition.reason,
                    }
                ],
                **facts,
            ),
            effective_at=now,
        )
    version = weight_store.change_weights(
        connection,
        account_id,
        generators,
        expected_version=live.version,
        effective_at=now,
        event=weight_store.Event(
            "weight_update",
            reason=f"optimization of the window {window_start:%F %R}",
            changes=snapshot["proposal"].get("changes", []),
            **facts,
        ),
    )
    return Publication(
        "published", f"version {version}", window_start, version, outcome.transitions
    )


def followed(
    connection: Connection,
    account_id: str,
    snapshot: Mapping[str, Any],
    live: weight_store.Weights,
) -> Outcome:
    """What a snapshot's publication says of episodes and statuses; writes nothing."""
    states = {
        name: GeneratorState(float(row.weight), row.status, row.locked)  # type: ignore[arg-type]  # the database checks the status
        for name, row in live.generators.items()
    }
    # a snapshot of an earlier version judged nobody: nothing begins or ends with it
    given = snapshot["inputs"].get("judged", {})
    judged = {name: Judgement(**values) for name, values in given.items()}
    return follow(states, weight_store.open_episodes(connection, account_id), judged)


def _facts(
    snapshot: Mapping[str, Any],
    window_start: datetime,
    window_end: datetime,
    created_by: str,
    execution_time_ms: float | None,
) -> dict[str, Any]:
    inputs = snapshot["inputs"]
    return {
        "created_by": created_by,
        "window_start": window_start,
        "window_end": window_end,
        "posts_analyzed": inputs.get("posts"),
        "period_days": inputs.get("window_days"),
        "top_performer": inputs.get("top_performer"),
        "top_performer_f_per_1k": inputs.get("top_performer_f_per_1k"),
        "bottom_performer": inputs.get("bottom_performer"),
        "bottom_performer_f_per_1k": inputs.get("bottom_performer_f_per_1k"),
        "execution_time_ms": execution_time_ms,
    }
