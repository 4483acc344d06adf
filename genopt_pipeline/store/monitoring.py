"""What is known of an account's loop: the newest times and counts, null where there is nothing."""

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text


def loop_facts(
    connection: Connection, account_id: str, *, now: datetime, window_days: float
) -> dict[str, Any]:
    """Newest observations and counts of the window before ``now``, by the names health uses."""
    row = connection.execute(
        text("""
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
                   (SELECT count(*) FROM genopt.content_metadata
                     WHERE account_id = :account AND status IN ('posted', 'deleted')
                       AND posted_at >= :since AND posted_at < :now) AS posts_in_window,
                   (SELECT count(*) FROM genopt.content_metadata c
                      JOIN genopt.outcomes o USING (account_id, decision_id)
                     WHERE c.account_id = :account AND c.status IN ('posted', 'deleted')
                       AND c.posted_at >= :since AND c.posted_at < :now
                       AND o.impressions IS NOT NULL AND o.followers_gained IS NOT NULL)
                       AS posts_measured,
                   (SELECT count(*) FROM genopt.quarantine
                     WHERE account_id = :account AND resolved_at IS NULL) AS quarantined
        """),
        {"account": account_id, "now": now, "since": now - timedelta(days=window_days)},
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
