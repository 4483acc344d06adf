"""What is known of an account's loop: the newest times and counts, null where there is nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Row, text

#: A post counts as one that should be measured only after a whole two-hour window with a known
#: change that it could be credited with, and this long after, for the runs that credit it.
_A_WINDOW = timedelta(hours=2)
_RUNS_TAKE = timedelta(minutes=30)


def loop_facts(
    connection: Connection, account_id: str, *, now: datetime, window_days: float
) -> dict[str, Any]:
    """Newest observations and counts of the window before ``now``, by the names health uses.

    Posts of the window are those that could be measured by now: a follower change is known for
    the time after them. An account whose followers are not read (imports) has no such changes;
    there every post counts.
    """
    row = connection.execute(
        text("""
            WITH measurable AS (
                SELECT decision_id FROM genopt.content_metadata
                 WHERE account_id = :account AND status IN ('posted', 'deleted')
                   AND posted_at >= :since
                   AND posted_at < CASE
                       WHEN EXISTS (SELECT FROM genopt.follower_counts WHERE account_id = :account)
                       THEN (SELECT max(window_end) FROM genopt.follower_deltas
                              WHERE account_id = :account AND delta IS NOT NULL
                                AND window_end <= :credited) - CAST(:a_window AS interval)
                       ELSE :now END
            )
            SELECT (SELECT max(observed_at) FROM genopt.outcomes
                     WHERE account_id = :account AND source IS DISTINCT FROM 'export')
                       AS last_metrics_at,
                   (SELECT max(observed_at) FROM genopt.follower_counts
                     WHERE account_id = :account) AS last_followers_at,
                   (SELECT max(period_end) FROM genopt.generator_performance_history
                     WHERE account_id = :account) AS last_performance_at,
                   (SELECT max(created_at) FROM genopt.optimization_events
                     WHERE account_id = :account
                       AND event_type IN ('weight_update', 'skipped', 'refused'))
                       AS last_optimization_at,
                   (SELECT max(posted_at) FROM genopt.content_metadata
                     WHERE account_id = :account AND status IN ('posted', 'deleted')
                       AND posted_at <= :now) AS last_post_at,
                   (SELECT count(*) FROM measurable) AS posts_in_window,
                   (SELECT count(*) FROM measurable
                      JOIN genopt.outcomes o ON o.account_id = :account
                       AND o.decision_id = measurable.decision_id
                     WHERE o.impressions IS NOT NULL AND o.followers_gained IS NOT NULL)
                       AS posts_measured,
                   (SELECT count(*) FROM genopt.quarantine
                     WHERE account_id = :account AND resolved_at IS NULL) AS quarantined
        """),
        {
            "account": account_id,
            "now": now,
            "since": now - timedelta(days=window_days),
            "credited": now - _RUNS_TAKE,
            "a_window": _A_WINDOW,
        },
    ).one()
    return dict(row._mapping)  # noqa: SLF001 - the documented way to a mapping


def attribution_by_window(connection: Connection, account_id: str, since: datetime) -> pd.DataFrame:
    """[window_start, posts, baseline]: followers credited in each window from ``since`` on."""
    rows = connection.execute(
        text("""
            SELECT b.window_start, coalesce(sum(p.followers), 0) AS posts, b.followers AS baseline
              FROM genopt.follower_baseline b
              LEFT JOIN genopt.post_followers p USING (account_id, window_start)
             WHERE b.account_id = :account AND b.window_start >= :since
             GROUP BY b.window_start, b.followers ORDER BY b.window_start
        """),
        {"account": account_id, "since": since},
    ).all()
    return pd.DataFrame(rows, columns=["window_start", "posts", "baseline"])


_NUMBERS = (
    "posts_count",
    "posts_measured",
    "followers_gained",
    "impressions",
    "f_per_1k",
    "f_per_1k_low",
    "f_per_1k_high",
    "viral_posts",
)


def newest_performance(
    connection: Connection, account_id: str, *, days: float
) -> pd.DataFrame | None:
    """The newest table of ``generator_performance_history`` over ``days`` days; None without one.

    One row a generator, with period_start and period_end; what is not known is NaN.
    """
    rows = connection.execute(
        text("""
            SELECT * FROM genopt.generator_performance_history h
             WHERE account_id = :account AND experiment_arm = 'all'
               AND period_end - period_start = make_interval(secs => :seconds)
               AND period_end = (
                   SELECT max(period_end) FROM genopt.generator_performance_history
                    WHERE account_id = :account AND experiment_arm = 'all'
                      AND period_end - period_start = make_interval(secs => :seconds))
             ORDER BY generator_name
        """),
        {"account": account_id, "seconds": days * 86400},
    ).mappings()
    table = pd.DataFrame([dict(row) for row in rows])
    if table.empty:
        return None
    return table.astype(dict.fromkeys(_NUMBERS, "float64"))


def conservation(
    connection: Connection, account_id: str, since: datetime, until: datetime
) -> Sequence[Row[Any]]:
    """Rows (window_start, delta, credited) of the known changes in ``[since, until)``.

    ``credited`` is what posts and baseline sum to; None where the change is not attributed.
    """
    return connection.execute(
        text("""
            SELECT d.window_start, d.delta,
                   b.followers + coalesce(sum(p.followers), 0) AS credited
              FROM genopt.follower_deltas d
              LEFT JOIN genopt.follower_baseline b USING (account_id, window_start)
              LEFT JOIN genopt.post_followers p USING (account_id, window_start)
             WHERE d.account_id = :account AND d.delta IS NOT NULL
               AND d.window_start >= :since AND d.window_start < :until
             GROUP BY d.window_start, d.delta, b.followers ORDER BY d.window_start
        """),
        {"account": account_id, "since": since, "until": until},
    ).all()


@dataclass(frozen=True)
class Coverage:
    """Gaps with their reasons by the window's start; mean coverage, None without windows."""

    gaps: dict[datetime, str]
    coverage: float | None


def coverage(connection: Connection, account_id: str, end: datetime) -> Coverage:
    """How the windows of the 24 hours before ``end`` are covered, from the first change on.

    What lies before the account's first known change is no gap: there was nothing to compare with.
    """
    rows = connection.execute(
        text("""
            SELECT window_start, gap_reason, coverage FROM genopt.follower_deltas
             WHERE account_id = :account AND window_end <= :end AND window_end > :since
               AND window_start >= (SELECT min(window_start) FROM genopt.follower_deltas
                                     WHERE account_id = :account AND delta IS NOT NULL)
             ORDER BY window_start
        """),
        {"account": account_id, "end": end, "since": end - timedelta(days=1)},
    ).all()
    return Coverage(
        {row.window_start: row.gap_reason for row in rows if row.gap_reason is not None},
        sum(row.coverage for row in rows) / len(rows) if rows else None,
    )


def weights_unlike_event(connection: Connection, account_id: str) -> list[str]:
    """Generators whose live weight is not that of the newest event that set weights."""
    return list(
        connection.scalars(
            text("""
                WITH newest AS (
                    SELECT weights_after FROM genopt.optimization_events
                     WHERE account_id = :account AND weights_after IS NOT NULL
                     ORDER BY weights_version DESC LIMIT 1
                ), told AS (
                    SELECT key AS generator_name, value::numeric AS weight
                      FROM newest, jsonb_each_text(weights_after)
                ), live AS (
                    SELECT generator_name, weight FROM genopt.generator_weights
                     WHERE account_id = :account
                )
                SELECT coalesce(live.generator_name, told.generator_name)
                  FROM live FULL JOIN told USING (generator_name)
                 WHERE live.weight IS DISTINCT FROM told.weight ORDER BY 1
            """),
            {"account": account_id},
        )
    )


def unknown_generators(connection: Connection, account_id: str) -> dict[str, int]:
    """Names in quarantine that no generator is registered for, with how often each came."""
    rows = connection.execute(
        text("""
            SELECT coalesce(raw ->> 'generator_name', '(none)') AS name, count(*) AS records
              FROM genopt.quarantine
             WHERE account_id = :account AND kind = 'generator_name' AND resolved_at IS NULL
             GROUP BY 1 ORDER BY 2 DESC, 1
        """),
        {"account": account_id},
    )
    return {row.name: row.records for row in rows}
