"""What an evaluation reads: draws by version and arm, first weights, one generator's past, replays.

Nothing here writes. Posts as seen at a time are read by ``store.performance``.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from genopt_pipeline.core.appraisal import DrawCount


def draw_counts(
    connection: Connection, account_id: str, since: datetime, until: datetime
) -> list[DrawCount]:
    """Posts that went live in ``[since, until)`` by version of the weights, arm and generator.

    Posts of a quarantined generator are nobody's draw. Posts that nobody drew (imports) have
    neither version nor arm.
    """
    rows = connection.execute(
        text("""
            SELECT weights_version, experiment_arm, generator_name, count(*) AS posts
              FROM genopt.content_metadata
             WHERE account_id = :account AND generator_name IS NOT NULL
               AND status IN ('posted', 'deleted')
               AND posted_at >= :since AND posted_at < :until
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """),
        {"account": account_id, "since": since, "until": until},
    )
    return [
        DrawCount(row.weights_version, row.experiment_arm, row.generator_name, row.posts)
        for row in rows
    ]


def weights_by_version(
    connection: Connection, account_id: str, versions: Iterable[int]
) -> dict[int, dict[str, float]]:
    """All weights of the versions asked for."""
    rows = connection.execute(
        text("""
            SELECT weights_version, weights_after FROM genopt.optimization_events
             WHERE account_id = :account AND weights_version = ANY(:versions)
        """),
        {"account": account_id, "versions": sorted(set(versions))},
    )
    return {row.weights_version: _numbers(row.weights_after) for row in rows}


def first_weights(connection: Connection, account_id: str) -> dict[str, float]:
    """The weights that the account began with."""
    value = connection.scalar(
        text("""
            SELECT weights_after FROM genopt.optimization_events
             WHERE account_id = :account AND event_type = 'initial_weights'
        """),
        {"account": account_id},
    )
    return _numbers(value or {})


def newest_snapshot(
    connection: Connection, account_id: str, until: datetime
) -> dict[str, Any] | None:
    """The snapshot of the latest window that ended by ``until``, or None."""
    row = (
        connection.execute(
            text("""
                SELECT * FROM genopt.weight_snapshots
                 WHERE account_id = :account AND window_end <= :until
                 ORDER BY window_start DESC LIMIT 1
            """),
            {"account": account_id, "until": until},
        )
        .mappings()
        .first()
    )
    return None if row is None else dict(row)


def resolve_generator(connection: Connection, account_id: str, raw: str) -> str | None:
    """The registered generator that a spelling stands for, or None."""
    name: str | None = connection.scalar(
        text("SELECT genopt.resolve_generator(:account, :raw)"),
        {"account": account_id, "raw": raw},
    )
    return name


def aliases(connection: Connection, account_id: str, generator: str) -> list[str]:
    """Keys of the spellings that stand for a generator, by name."""
    return list(
        connection.scalars(
            text("""
                SELECT alias_key FROM genopt.generator_aliases
                 WHERE account_id = :account AND generator_name = :generator ORDER BY alias_key
            """),
            {"account": account_id, "generator": generator},
        )
    )


def newest_lookbacks(
    connection: Connection, account_id: str, generator: str, until: datetime
) -> list[dict[str, Any]]:
    """Rows of the performance history that end last, one a look-back, shortest first."""
    rows = connection.execute(
        text("""
            SELECT * FROM genopt.generator_performance_history
             WHERE account_id = :account AND generator_name = :generator
               AND experiment_arm = 'all'
               AND period_end = (SELECT max(period_end) FROM genopt.generator_performance_history
                                  WHERE account_id = :account AND period_end <= :until)
             ORDER BY period_start DESC
        """),
        {"account": account_id, "generator": generator, "until": until},
    ).mappings()
    return [dict(row) for row in rows]


def generator_versions(
    connection: Connection, account_id: str, generator: str
) -> list[dict[str, Any]]:
    """Weight and state of a generator from each event that set weights on, oldest first.

    Rows: id, event_type, effective_at, weight, status, locked, reason, created_by; the reason is
    the generator's own where the event has one.
    """
    rows = connection.execute(
        text("""
            SELECT e.id, e.event_type, e.effective_at,
                   (e.weights_after ->> CAST(:generator AS text))::double precision AS weight,
                   e.states_after -> CAST(:generator AS text) ->> 'status' AS status,
                   (e.states_after -> CAST(:generator AS text) ->> 'locked')::boolean AS locked,
                   coalesce(c.value ->> 'reason', e.reason) AS reason, e.created_by
              FROM genopt.optimization_events e
              LEFT JOIN LATERAL (
                  SELECT value FROM jsonb_array_elements(e.changes)
                   WHERE value ->> 'generator' = :generator LIMIT 1) c ON true
             WHERE e.account_id = :account AND jsonb_exists(e.weights_after, :generator)
             ORDER BY e.weights_version
        """),
        {"account": account_id, "generator": generator},
    ).mappings()
    return [dict(row) for row in rows]


def generator_findings(
    connection: Connection, account_id: str, generator: str, limit: int
) -> list[dict[str, Any]]:
    """Newest events about a generator that set no weights, such as a failure that was detected."""
    rows = connection.execute(
        text("""
            SELECT id, event_type, effective_at, reason, created_by
              FROM genopt.optimization_events
             WHERE account_id = :account AND weights_version IS NULL
               AND changes @> jsonb_build_array(
                       jsonb_build_object('generator', CAST(:generator AS text)))
             ORDER BY id DESC LIMIT :limit
        """),
        {"account": account_id, "generator": generator, "limit": limit},
    ).mappings()
    return [dict(row) for row in rows]


def post_span(connection: Connection, account_id: str) -> tuple[datetime, datetime] | None:
    """When the first and the last post of a registered generator went live; None without."""
    row = connection.execute(
        text("""
            SELECT min(posted_at) AS first, max(posted_at) AS last FROM genopt.content_metadata
             WHERE account_id = :account AND generator_name IS NOT NULL
               AND status IN ('posted', 'deleted')
        """),
        {"account": account_id},
    ).one()
    return None if row.first is None else (row.first, row.last)


def replay_history(
    connection: Connection,
    account_id: str,
    *,
    start: datetime,
    end: datetime,
    until: datetime,
    every: timedelta,
    since: datetime,
    estimator: str,
) -> pd.DataFrame:
    """Totals of posts that went live in ``[since, end)``, as known at each step and at ``until``.

    A step is ``start`` plus a multiple of ``every``. Rows ``post_id, generator_name, posted_at,
    experiment_arm, selection_probability, observed_at, impressions, followers, information``;
    ``observed_at`` is the step at which the totals were first known, so that the newest row of a
    post by a step holds what ``posts_as_of`` gives at that step. The first row of an older post
    is at ``start``.
    """
    values = {
        "account": account_id,
        "start": start,
        "end": end,
        "until": until,
        "since": since,
        "every": every,
    }
    columns = ["post_id", "step", "impressions", "platform_follows"]
    # Right after many rows were written the planner takes them for few and joins by nested loops,
    # which took over ten minutes for 1.3 million readings instead of five seconds.
    connection.execute(text("SET LOCAL enable_nestloop = off"))
    readings = pd.DataFrame(
        connection.execute(
            text("""
                SELECT r.decision_id, r.step,
                       (array_agg(r.impressions ORDER BY r.observed_at DESC)
                           FILTER (WHERE r.impressions IS NOT NULL))[1],
                       (array_agg(r.platform_follows ORDER BY r.observed_at DESC)
                           FILTER (WHERE r.platform_follows IS NOT NULL))[1]
                  FROM (
                      SELECT s.decision_id, s.observed_at, s.impressions, s.platform_follows,
                             -- known from the first step after it was observed
                             greatest(0, floor(extract(epoch FROM s.observed_at - :start)
                                 / extract(epoch FROM CAST(:every AS interval))) + 1)::bigint
                                 AS step
                        FROM genopt.post_metric_snapshots s
                        JOIN genopt.content_metadata c USING (account_id, decision_id)
                       WHERE s.account_id = :account AND c.posted_at >= :since
                         AND c.posted_at < :end AND s.observed_at >= :since
                         AND s.observed_at >= c.posted_at AND s.observed_at < :until
                         AND s.observed_at < c.posted_at + interval '100 days'
                      UNION ALL
                      SELECT t.decision_id, t.exported_at, t.impressions, t.platform_follows,
                             greatest(0, floor(extract(epoch FROM t.exported_at - :start)
                                 / extract(epoch FROM CAST(:every AS interval))) + 1)::bigint
                        FROM genopt.post_export_totals t
                        JOIN genopt.content_metadata c USING (account_id, decision_id)
                       WHERE t.account_id = :account AND c.posted_at >= :since
                         AND c.posted_at < :end AND t.exported_at < :until
                  ) r GROUP BY 1, 2
            """),
            values,
        ).all(),
        columns=columns,
    )
    shares = pd.DataFrame(
        connection.execute(
            text("""
                SELECT DISTINCT ON (p.decision_id, step) p.decision_id,
                       greatest(0, ceil(extract(epoch FROM p.window_end - :start)
                           / extract(epoch FROM CAST(:every AS interval))))::bigint AS step,
                       p.followers_to_date, p.information
                  FROM genopt.post_followers p
                  JOIN genopt.content_metadata c USING (account_id, decision_id)
                 WHERE p.account_id = :account AND c.posted_at >= :since AND c.posted_at < :end
                   AND p.window_end <= :until
                 ORDER BY p.decision_id, step, p.window_end DESC
            """),
            values,
        ).all(),
        columns=["post_id", "step", "followers_attributed", "information"],
    )
    connection.execute(text("SET LOCAL enable_nestloop = on"))
    posts = pd.DataFrame(
        connection.execute(
            text("""
                SELECT decision_id, generator_name, posted_at, experiment_arm,
                       selection_probability
                  FROM genopt.content_metadata
                 WHERE account_id = :account AND generator_name IS NOT NULL
                   AND status IN ('posted', 'deleted')
                   AND posted_at >= :since AND posted_at < :end
            """),
            values,
        ).all(),
        columns=[
            "post_id",
            "generator_name",
            "posted_at",
            "experiment_arm",
            "selection_probability",
        ],
    )
    merged = readings.merge(shares, on=["post_id", "step"], how="outer")
    merged = merged.sort_values(["post_id", "step"], kind="stable")
    counts = ["impressions", "platform_follows", "followers_attributed", "information"]
    merged[counts] = merged[counts].astype("float64")
    # what was known at a step stays known until something newer is
    merged[counts] = merged.groupby("post_id")[counts].ffill()
    if estimator == "platform":
        merged["followers"], merged["information"] = merged["platform_follows"], 1.0
    else:
        merged["followers"] = merged["followers_attributed"]
    seen = pd.Timestamp(start) + merged["step"].astype("int64") * pd.Timedelta(every)
    # the last step can lie beyond what was read; nothing was known of then
    merged["observed_at"] = seen.where(seen <= pd.Timestamp(until), pd.Timestamp(until))
    frame = posts.merge(merged, on="post_id", how="inner")
    frame["posted_at"] = pd.to_datetime(frame["posted_at"], utc=True)
    frame["observed_at"] = pd.to_datetime(frame["observed_at"], utc=True)
    frame["selection_probability"] = frame["selection_probability"].astype("float64")
    return frame[
        [
            "post_id",
            "generator_name",
            "posted_at",
            "experiment_arm",
            "selection_probability",
            "observed_at",
            "impressions",
            "followers",
            "information",
        ]
    ]


def _numbers(weights: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(weight) for name, weight in weights.items()}
