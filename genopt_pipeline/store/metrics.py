"""Observations: storing what a source delivered, and reading it as it was seen at a time.

Batches go in by COPY into a staging table and from there in one statement, so a batch is stored
whole or not at all, and delivering it again changes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from genopt_pipeline.core.observations import CollectedBatch
from genopt_pipeline.store import posts as post_store
from genopt_pipeline.store import quarantine
from genopt_pipeline.store.engine import lock_account
from genopt_pipeline.store.schema import METRICS

_COLUMNS = ", ".join(METRICS)


@dataclass(frozen=True)
class Stored:
    """What became of a batch."""

    posts: int
    readings: int
    follower_counts: int
    quarantined: int


def _staging(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    connection.execute(
        text(f"""
            CREATE TEMPORARY TABLE IF NOT EXISTS staged_readings (
                decision_id text, tweet_id text, window_start timestamptz,
                observed_at timestamptz, {", ".join(f"{name} bigint" for name in METRICS)}
            ) ON COMMIT DELETE ROWS
        """)
    )
    # not TRUNCATE, which makes a new file each time; the table is empty but for a second batch
    connection.execute(text("DELETE FROM staged_readings"))
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    with (
        driver.cursor() as cursor,
        cursor.copy(
            f"COPY staged_readings (decision_id, tweet_id, window_start, observed_at, {_COLUMNS}) "
            "FROM STDIN"
        ) as copy,
    ):
        for row in rows:
            copy.write_row(row)


def store_batches(
    connection: Connection,
    account_id: str,
    batches: Sequence[tuple[datetime, datetime, CollectedBatch]],
    *,
    source: str,
) -> Stored:
    """Store what was collected in windows (start, end, batch), in the caller's transaction.

    A reading of a post that is not known goes to quarantine. Stored readings are never changed:
    a second delivery of the same post, time and source is the first one.
    """
    lock_account(connection, account_id)
    new_posts = sum(
        post_store.upsert_posts(connection, account_id, batch.posts, source=source)
        for _, _, batch in batches
    )
    rows = [
        (
            reading.decision_id,
            reading.tweet_id,
            window_start,
            reading.observed_at,
            *(getattr(reading, name) for name in METRICS),
        )
        for window_start, _, batch in batches
        for reading in batch.readings
    ]
    stored = rejected = 0
    if rows:
        observed = [row[3] for row in rows]
        connection.execute(
            text("SELECT genopt.ensure_snapshot_partitions(:first, :last)"),
            {"first": min(observed), "last": max(observed) + timedelta(days=62)},
        )
        _staging(connection, rows)
        connection.execute(
            text("""
                UPDATE staged_readings s SET decision_id = c.decision_id
                  FROM genopt.content_metadata c
                 WHERE c.account_id = :account AND c.tweet_id = s.tweet_id
                   AND s.decision_id IS DISTINCT FROM c.decision_id AND s.tweet_id IS NOT NULL
            """),
            {"account": account_id},
        )
        rejected += _quarantine_orphans(connection, account_id, source)
        stored = connection.execute(
            text(f"""
                INSERT INTO genopt.post_metric_snapshots
                    (account_id, decision_id, window_start, observed_at, source, {_COLUMNS})
                SELECT :account, decision_id, window_start, observed_at, :source, {_COLUMNS}
                  FROM staged_readings
                ON CONFLICT DO NOTHING
            """),
            {"account": account_id, "source": source},
        ).rowcount
        _update_outcomes(connection, account_id, source)
    counts = _store_followers(connection, account_id, batches, source)
    rejected += quarantine.put(
        connection,
        account_id,
        source,
        (
            (record.kind, record.place, record.reason, record.raw)
            for _, _, batch in batches
            for record in batch.rejected
        ),
    )
    _store_windows(connection, account_id, batches, source)
    return Stored(
        posts=new_posts,
        readings=max(int(stored), 0),
        follower_counts=counts,
        quarantined=rejected,
    )


def _quarantine_orphans(connection: Connection, account_id: str, source: str) -> int:
    orphans = connection.execute(
        text(f"""
            DELETE FROM staged_readings s
             WHERE NOT EXISTS (SELECT FROM genopt.content_metadata c
                                WHERE c.account_id = :account AND c.decision_id = s.decision_id)
            RETURNING decision_id, tweet_id, observed_at, {_COLUMNS}
        """),
        {"account": account_id},
    ).mappings()
    return quarantine.put(
        connection,
        account_id,
        source,
        (
            (
                "reading",
                f"post {row['tweet_id'] or row['decision_id']} at {row['observed_at'].isoformat()}",
                "reading of a post that is not in content_metadata",
                {key: value for key, value in row.items() if value is not None},
            )
            for row in orphans
        ),
    )


def _update_outcomes(connection: Connection, account_id: str, source: str) -> None:
    # a total that this reading does not hold keeps its last known value
    assignments = ", ".join(f"{name} = coalesce(excluded.{name}, o.{name})" for name in METRICS)
    connection.execute(
        text(f"""
            INSERT INTO genopt.outcomes AS o
                (account_id, decision_id, observed_at, source, {_COLUMNS}, views, engagement_rate)
            SELECT DISTINCT ON (decision_id) :account, decision_id, observed_at, :source,
                   {_COLUMNS}, impressions,
                   (likes + 2 * retweets + 3 * replies)::double precision / nullif(impressions, 0)
              FROM staged_readings ORDER BY decision_id, observed_at DESC
            ON CONFLICT (account_id, decision_id) DO UPDATE SET
                observed_at = excluded.observed_at, source = excluded.source, {assignments},
                views = coalesce(excluded.views, o.views),
                engagement_rate = coalesce(excluded.engagement_rate, o.engagement_rate)
            WHERE o.observed_at IS NULL OR o.observed_at < excluded.observed_at
        """),
        {"account": account_id, "source": source},
    )


def _store_followers(
    connection: Connection,
    account_id: str,
    batches: Sequence[tuple[datetime, datetime, CollectedBatch]],
    source: str,
) -> int:
    rows = [
        {
            "account": account_id,
            "observed_at": reading.observed_at,
            "source": source,
            "window_start": window_start,
            "count": reading.followers_count,
        }
        for window_start, _, batch in batches
        for reading in batch.followers
    ]
    if not rows:
        return 0
    result = connection.execute(
        text("""
            INSERT INTO genopt.follower_counts
                (account_id, observed_at, source, window_start, followers_count)
            VALUES (:account, :observed_at, :source, :window_start, :count)
            ON CONFLICT DO NOTHING
        """),
        rows,
    )
    return max(int(result.rowcount), 0)


def _store_windows(
    connection: Connection,
    account_id: str,
    batches: Sequence[tuple[datetime, datetime, CollectedBatch]],
    source: str,
) -> None:
    if not batches:
        return
    connection.execute(
        text("""
            INSERT INTO genopt.collected_windows
                (account_id, window_start, window_end, source, posts_read, rejected, report)
            VALUES (:account, :start, :end, :source, :read, :rejected, CAST(:report AS jsonb))
            ON CONFLICT DO NOTHING
        """),
        [
            {
                "account": account_id,
                "start": start,
                "end": end,
                "source": source,
                "read": len(batch.readings),
                "rejected": len(batch.rejected),
                "report": json.dumps(batch.report, default=str, sort_keys=True),
            }
            for start, end, batch in batches
        ],
    )


@dataclass(frozen=True)
class WindowRows:
    """What is stored of a ten-minute window; times and followers are None where nothing is."""

    readings: int = 0
    newest_reading: datetime | None = None
    follower_counts: int = 0
    newest_count: datetime | None = None
    followers: int | None = None
    rejected: int = 0


#: A reading may be timed a little outside the window that collected it, by another clock.
_WINDOW_MARGIN = timedelta(hours=1)


def window_rows(
    connection: Connection, account_id: str, since: datetime, until: datetime
) -> dict[datetime, WindowRows]:
    """What is stored of each collected window that starts in ``[since, until)``."""
    rows = connection.execute(
        text("""
            SELECT w.window_start, coalesce(m.readings, 0) AS readings, m.newest_reading,
                   coalesce(f.follower_counts, 0) AS follower_counts, f.newest_count, f.followers,
                   w.rejected
              FROM (SELECT window_start, sum(rejected) AS rejected FROM genopt.collected_windows
                     WHERE account_id = :account
                       AND window_start >= :since AND window_start < :until
                     GROUP BY window_start) w
              LEFT JOIN (SELECT window_start, count(*) AS readings,
                                max(observed_at) AS newest_reading
                           FROM genopt.post_metric_snapshots
                          WHERE account_id = :account
                            AND observed_at >= :earliest AND observed_at < :latest
                            AND window_start >= :since AND window_start < :until
                          GROUP BY window_start) m USING (window_start)
              LEFT JOIN (SELECT window_start, count(*) AS follower_counts,
                                max(observed_at) AS newest_count,
                                (array_agg(followers_count ORDER BY observed_at DESC))[1]
                                    AS followers
                           FROM genopt.follower_counts
                          WHERE account_id = :account
                            AND observed_at >= :earliest AND observed_at < :latest
                            AND window_start >= :since AND window_start < :until
                          GROUP BY window_start) f USING (window_start)
        """),
        {
            "account": account_id,
            "since": since,
            "until": until,
            "earliest": since - _WINDOW_MARGIN,
            "latest": until + _WINDOW_MARGIN,
        },
    )
    return {
        row.window_start: WindowRows(
            readings=int(row.readings),
            newest_reading=row.newest_reading,
            follower_counts=int(row.follower_counts),
            newest_count=row.newest_count,
            followers=row.followers,
            rejected=int(row.rejected),
        )
        for row in rows
    }


def newest_reading(connection: Connection, account_id: str, *, before: datetime) -> datetime | None:
    """Time of the newest counts of a post, collected or imported; None if there are none."""
    newest: datetime | None = connection.scalar(
        text("""
            SELECT greatest(
                (SELECT max(observed_at) FROM genopt.post_metric_snapshots
                  WHERE account_id = :account AND observed_at < :before),
                (SELECT max(exported_at) FROM genopt.post_export_totals
                  WHERE account_id = :account AND exported_at < :before))
        """),
        {"account": account_id, "before": before},
    )
    return newest


def collected_windows(
    connection: Connection, account_id: str, source: str, since: datetime, until: datetime
) -> set[datetime]:
    """Starts of the windows in ``[since, until)`` that were collected from ``source``."""
    return set(
        connection.scalars(
            text("""
                SELECT window_start FROM genopt.collected_windows
                 WHERE account_id = :account AND source = :source
                   AND window_start >= :since AND window_start < :until
            """),
            {"account": account_id, "source": source, "since": since, "until": until},
        )
    )


def window_report(
    connection: Connection, account_id: str, window_start: datetime
) -> dict[str, Any] | None:
    """What the source reported of a collected window; None for a gap."""
    report: dict[str, Any] | None = connection.scalar(
        text("""
            SELECT report FROM genopt.collected_windows
             WHERE account_id = :account AND window_start = :start
             ORDER BY collected_at DESC LIMIT 1
        """),
        {"account": account_id, "start": window_start},
    )
    return report


def newest_report(connection: Connection, account_id: str) -> dict[str, Any] | None:
    """What the source reported of the newest window that was collected; None if none was."""
    report: dict[str, Any] | None = connection.scalar(
        text("""
            SELECT report FROM genopt.collected_windows
             WHERE account_id = :account ORDER BY window_start DESC, collected_at DESC LIMIT 1
        """),
        {"account": account_id},
    )
    return report


def follower_readings(
    connection: Connection, account_id: str, since: datetime, until: datetime
) -> pd.DataFrame:
    """Follower counts read in ``[since, until)``: [observed_at, followers_count], sorted."""
    rows = connection.execute(
        text("""
            SELECT observed_at, followers_count FROM genopt.follower_counts
             WHERE account_id = :account AND observed_at >= :since AND observed_at < :until
             ORDER BY observed_at, source
        """),
        {"account": account_id, "since": since, "until": until},
    ).all()
    frame = pd.DataFrame(rows, columns=["observed_at", "followers_count"])
    frame["observed_at"] = pd.to_datetime(frame["observed_at"], utc=True)
    return frame


def last_readings(
    connection: Connection,
    account_id: str,
    since: datetime,
    until: datetime,
    *,
    window: timedelta,
) -> pd.DataFrame:
    """Last reading of each post in each window of ``[since, until)``.

    Columns as :func:`genopt_pipeline.core.increments.exposure_increments` takes them.
    """
    rows = connection.execute(
        text("""
            SELECT DISTINCT ON (s.decision_id, w)
                   s.decision_id AS post_id, c.generator_name, c.posted_at, s.observed_at,
                   s.impressions, s.profile_clicks, s.platform_follows,
                   date_bin(:window, s.observed_at, TIMESTAMPTZ 'epoch') AS w
              FROM genopt.post_metric_snapshots s
              JOIN genopt.content_metadata c USING (account_id, decision_id)
             WHERE s.account_id = :account AND s.observed_at >= :since AND s.observed_at < :until
               AND s.impressions IS NOT NULL
             ORDER BY s.decision_id, w, s.observed_at DESC, s.source
        """),
        {"account": account_id, "since": since, "until": until, "window": window},
    ).all()
    frame = pd.DataFrame(
        rows,
        columns=[
            "post_id",
            "generator_name",
            "posted_at",
            "observed_at",
            "impressions",
            "profile_clicks",
            "platform_follows",
            "w",
        ],
    ).drop(columns="w")
    for column in ("posted_at", "observed_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame


def first_window(connection: Connection, account_id: str, since: datetime) -> datetime | None:
    """Start of the first window collected from ``since`` on; None if there is none."""
    value: datetime | None = connection.scalar(
        text("""
            SELECT min(window_start) FROM genopt.collected_windows
             WHERE account_id = :account AND window_start >= :since
        """),
        {"account": account_id, "since": since},
    )
    return value
