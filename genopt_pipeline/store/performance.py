"""Posts as they were seen at a time, and the per-generator tables made from them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from genopt_pipeline.store import schema
from genopt_pipeline.store.engine import lock_account

_POST_COLUMNS = (
    "post_id",
    "generator_name",
    "posted_at",
    "experiment_arm",
    "selection_probability",
    "weights_version",
    "quality_score",
    "impressions",
    "likes",
    "retweets",
    "replies",
    "profile_clicks",
    "observed_at",
    "followers_attributed",
    "followers_variance",
    "information",
    "platform_follows",
)


def posts_as_of(
    connection: Connection,
    account_id: str,
    *,
    at: datetime,
    since: datetime | None,
    estimator: str,
) -> pd.DataFrame:
    """Posts of registered generators that went live in ``[since, at)``, as seen at ``at``.

    Nothing observed at ``at`` or later is used, so the frame of a past time does not change when
    more is collected. Columns: post_id, generator_name, posted_at, experiment_arm,
    selection_probability, weights_version, quality_score, impressions, likes, retweets, replies,
    profile_clicks, observed_at, followers (by ``estimator``), followers_variance, information,
    followers_attributed, platform_follows. What was not measured is null.
    """
    rows = connection.execute(
        text("""
            SELECT c.decision_id, c.generator_name, c.posted_at, c.experiment_arm,
                   c.selection_probability, c.weights_version, c.quality_score,
                   m.impressions, m.likes, m.retweets, m.replies, m.profile_clicks, m.observed_at,
                   f.followers_to_date, f.variance_to_date, f.information,
                   -- the platform's count may come from another reading than the rest
                   coalesce(m.platform_follows, k.platform_follows)
              FROM genopt.content_metadata c
              LEFT JOIN LATERAL (
                  SELECT * FROM (
                      (SELECT s.observed_at, s.impressions, s.likes, s.retweets, s.replies,
                              s.profile_clicks, s.platform_follows
                         FROM genopt.post_metric_snapshots s
                        WHERE s.account_id = c.account_id AND s.decision_id = c.decision_id
                          AND s.observed_at < :at AND s.observed_at >= c.posted_at
                          AND s.observed_at < c.posted_at + interval '100 days'
                          AND s.impressions IS NOT NULL
                        ORDER BY s.observed_at DESC LIMIT 1)
                      UNION ALL
                      (SELECT e.exported_at, e.impressions, e.likes, e.retweets, e.replies,
                              e.profile_clicks, e.platform_follows
                         FROM genopt.post_export_totals e
                        WHERE e.account_id = c.account_id AND e.decision_id = c.decision_id
                          AND e.exported_at < :at AND e.impressions IS NOT NULL
                        ORDER BY e.exported_at DESC LIMIT 1)
                  ) either ORDER BY observed_at DESC LIMIT 1
              ) m ON true
              LEFT JOIN LATERAL (
                  SELECT * FROM (
                      (SELECT s.observed_at, s.platform_follows
                         FROM genopt.post_metric_snapshots s
                        WHERE m.platform_follows IS NULL
                          AND s.account_id = c.account_id AND s.decision_id = c.decision_id
                          AND s.observed_at < :at AND s.observed_at >= c.posted_at
                          AND s.observed_at < c.posted_at + interval '100 days'
                          AND s.platform_follows IS NOT NULL
                        ORDER BY s.observed_at DESC LIMIT 1)
                      UNION ALL
                      (SELECT e.exported_at, e.platform_follows
                         FROM genopt.post_export_totals e
                        WHERE m.platform_follows IS NULL
                          AND e.account_id = c.account_id AND e.decision_id = c.decision_id
                          AND e.exported_at < :at AND e.platform_follows IS NOT NULL
                        ORDER BY e.exported_at DESC LIMIT 1)
                  ) either ORDER BY observed_at DESC LIMIT 1
              ) k ON true
              LEFT JOIN LATERAL (
                  SELECT p.followers_to_date, p.variance_to_date, p.information
                    FROM genopt.post_followers p
                   WHERE p.account_id = c.account_id AND p.decision_id = c.decision_id
                     AND p.window_end <= :at
                   ORDER BY p.window_end DESC LIMIT 1
              ) f ON true
             WHERE c.account_id = :account AND c.generator_name IS NOT NULL
               AND c.status IN ('posted', 'deleted')
               AND c.posted_at < :at
               AND (CAST(:since AS timestamptz) IS NULL OR c.posted_at >= :since)
             ORDER BY c.posted_at, c.decision_id
        """),
        {"account": account_id, "at": at, "since": since},
    ).all()
    frame = pd.DataFrame(rows, columns=_POST_COLUMNS)
    for column in ("posted_at", "observed_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    numbers = [
        "selection_probability",
        "quality_score",
        "impressions",
        "likes",
        "retweets",
        "replies",
        "profile_clicks",
        "followers_attributed",
        "followers_variance",
        "information",
        "platform_follows",
    ]
    frame[numbers] = frame[numbers].astype("float64")
    if estimator == "platform":
        frame["followers"] = frame["platform_follows"]
        # a count is not an estimate: nothing to add to its sampling noise
        frame["followers_variance"] = 0.0
        frame["information"] = 1.0
    else:
        frame["followers"] = frame["followers_attributed"]
    return frame


def write_history(connection: Connection, account_id: str, rows: Sequence[dict[str, Any]]) -> int:
    """Store rows of ``generator_performance_history``, replacing those of the same period."""
    if not rows:
        return 0
    lock_account(connection, account_id)
    columns = [
        column.name
        for column in schema.generator_performance_history.columns
        if column.name != "account_id"
    ]
    keys = {"generator_name", "period_start", "period_end", "experiment_arm"}
    connection.execute(
        text(f"""
            INSERT INTO genopt.generator_performance_history (account_id, {", ".join(columns)})
            VALUES (:account_id, {", ".join(":" + name for name in columns)})
            ON CONFLICT (account_id, generator_name, period_start, period_end, experiment_arm)
            DO UPDATE SET
                {", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)}
        """),
        [{"account_id": account_id, **{name: row.get(name) for name in columns}} for row in rows],
    )
    return len(rows)


def read_history(
    connection: Connection, account_id: str, *, since: datetime, until: datetime, days: float
) -> pd.DataFrame:
    """History rows of periods of ``days`` days that end in ``(since, until]``, oldest first."""
    rows = connection.execute(
        text("""
            SELECT * FROM genopt.generator_performance_history
             WHERE account_id = :account AND experiment_arm = 'all'
               AND period_end > :since AND period_end <= :until
               AND period_end - period_start = make_interval(secs => :seconds)
             ORDER BY period_end, generator_name
        """),
        {"account": account_id, "since": since, "until": until, "seconds": days * 86400},
    ).mappings()
    return pd.DataFrame([dict(row) for row in rows])


def refresh_life_time(connection: Connection, account_id: str, *, estimator: str) -> None:
    """Bring the latest figures up to date: ``outcomes`` and the columns of ``generator_weights``.

    They are recomputed from everything stored, so the order in which windows ran does not matter
    and a backfill of an old window does not put old figures in their place.
    """
    lock_account(connection, account_id)
    connection.execute(
        text("""
            INSERT INTO genopt.outcomes AS o
                (account_id, decision_id, followers_attributed, followers_variance,
                 followers_information, attributed_as_of)
            SELECT DISTINCT ON (p.decision_id)
                   p.account_id, p.decision_id, p.followers_to_date, p.variance_to_date,
                   p.information, p.window_end
              FROM genopt.post_followers p WHERE p.account_id = :account
             ORDER BY p.decision_id, p.window_end DESC
            ON CONFLICT (account_id, decision_id) DO UPDATE SET
                followers_attributed = excluded.followers_attributed,
                followers_variance = excluded.followers_variance,
                followers_information = excluded.followers_information,
                attributed_as_of = excluded.attributed_as_of
            WHERE (o.followers_attributed, o.followers_variance, o.followers_information,
                   o.attributed_as_of) IS DISTINCT FROM
                  (excluded.followers_attributed, excluded.followers_variance,
                   excluded.followers_information, excluded.attributed_as_of)
        """),
        {"account": account_id},
    )
    source = "o.platform_follows" if estimator == "platform" else "o.followers_attributed"
    connection.execute(
        text(f"""
            UPDATE genopt.outcomes o SET followers_gained = {source}
             WHERE o.account_id = :account AND o.followers_gained IS DISTINCT FROM {source}
        """),
        {"account": account_id},
    )
    connection.execute(
        text("""
            SELECT genopt.update_generator_stats(generator_name, account_id)
              FROM genopt.generator_weights WHERE account_id = :account
             ORDER BY generator_name
        """),
        {"account": account_id},
    )


def life_time_table(connection: Connection, account_id: str) -> list[dict[str, Any]]:
    """Rows of ``generator_weights`` with the summary's 7-day figures, best F/1K first."""
    rows = connection.execute(
        text("""
            SELECT w.*, s.posts_7d, s.followers_7d, s.impressions_7d, s.f_per_1k_7d, s.trend
              FROM genopt.generator_weights w
              JOIN genopt.generator_performance_summary s USING (account_id, generator_name)
             WHERE w.account_id = :account
             ORDER BY w.avg_f_per_1k DESC NULLS LAST, w.generator_name
        """),
        {"account": account_id},
    ).mappings()
    return [dict(row) for row in rows]


def measured_ends(
    connection: Connection, account_id: str, since: datetime, until: datetime
) -> set[datetime]:
    """Ends of the windows in ``(since, until]`` that are measured and need no second look.

    A window needs one if readings of it were stored after its change was computed, or if its
    change was computed again and is not attributed yet.
    """
    return set(
        connection.scalars(
            text("""
                SELECT DISTINCT h.period_end FROM genopt.generator_performance_history h
                  JOIN genopt.follower_deltas d
                    ON d.account_id = h.account_id AND d.window_end = h.period_end
                 WHERE h.account_id = :account AND h.period_end > :since AND h.period_end <= :until
                   AND (d.delta IS NULL OR EXISTS (
                       SELECT FROM genopt.follower_baseline b
                        WHERE b.account_id = d.account_id AND b.window_start = d.window_start))
                   AND NOT EXISTS (
                       SELECT FROM genopt.collected_windows c
                        WHERE c.account_id = d.account_id AND c.window_start >= d.window_start
                          AND c.window_start < d.window_end AND c.collected_at > d.computed_at)
            """),
            {"account": account_id, "since": since, "until": until},
        )
    )
