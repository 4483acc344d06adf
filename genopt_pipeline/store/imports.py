"""Imported exports: totals of posts and days at the date of each export."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from genopt_pipeline.store.schema import METRICS

_COLUMNS = ", ".join(METRICS)
_DAY_COLUMNS = (
    "impressions",
    "engagements",
    "new_follows",
    "unfollows",
    "profile_visits",
    "posts_created",
)


def imported_before(connection: Connection, account_id: str, content_hash: str) -> datetime | None:
    """The export date that a file with this content was imported under; None if it was not."""
    at: datetime | None = connection.scalar(
        text("""
            SELECT exported_at FROM genopt.export_files
             WHERE account_id = :account AND content_hash = :hash
        """),
        {"account": account_id, "hash": content_hash},
    )
    return at


def imported_hashes(connection: Connection, account_id: str, hashes: Collection[str]) -> set[str]:
    """Those of the content hashes that were imported."""
    return set(
        connection.scalars(
            text("""
                SELECT content_hash FROM genopt.export_files
                 WHERE account_id = :account AND content_hash = ANY(:hashes)
            """),
            {"account": account_id, "hashes": list(hashes)},
        )
    )


def decision_ids(
    connection: Connection, account_id: str, tweet_ids: Sequence[str]
) -> dict[str, tuple[str, str | None]]:
    """(decision_id, generator) of the known posts among ``tweet_ids``."""
    rows = connection.execute(
        text("""
            SELECT tweet_id, decision_id, generator_name FROM genopt.content_metadata
             WHERE account_id = :account AND tweet_id = ANY(:ids)
        """),
        {"account": account_id, "ids": list(tweet_ids)},
    )
    return {row.tweet_id: (row.decision_id, row.generator_name) for row in rows}


def write_post_totals(
    connection: Connection,
    account_id: str,
    exported_at: datetime,
    content_hash: str,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Store totals {decision_id, metrics} at an export's date and bring ``outcomes`` up to date.

    A later file of the same date takes the place of an earlier one in the columns that it has;
    totals of another date are another row.
    """
    if not rows:
        return
    values = [
        {
            "account": account_id,
            "exported_at": exported_at,
            "hash": content_hash,
            "decision_id": row["decision_id"],
            **{name: row.get(name) for name in METRICS},
        }
        for row in rows
    ]
    connection.execute(
        text(f"""
            INSERT INTO genopt.post_export_totals AS t
                (account_id, decision_id, exported_at, content_hash, {_COLUMNS})
            VALUES (:account, :decision_id, :exported_at, :hash,
                    {", ".join(":" + name for name in METRICS)})
            ON CONFLICT (account_id, decision_id, exported_at) DO UPDATE SET
                content_hash = excluded.content_hash,
                {", ".join(f"{name} = coalesce(excluded.{name}, t.{name})" for name in METRICS)}
        """),
        values,
    )
    connection.execute(
        text(f"""
            INSERT INTO genopt.outcomes AS o
                (account_id, decision_id, observed_at, source, {_COLUMNS}, views, engagement_rate)
            SELECT account_id, decision_id, exported_at, 'export', {_COLUMNS}, impressions,
                   (likes + 2 * retweets + 3 * replies)::double precision / nullif(impressions, 0)
              FROM genopt.post_export_totals
             WHERE account_id = :account AND exported_at = :exported_at AND content_hash = :hash
            ON CONFLICT (account_id, decision_id) DO UPDATE SET
                observed_at = excluded.observed_at, source = excluded.source,
                {", ".join(f"{name} = coalesce(excluded.{name}, o.{name})" for name in METRICS)},
                views = coalesce(excluded.views, o.views),
                engagement_rate = coalesce(excluded.engagement_rate, o.engagement_rate)
            WHERE o.observed_at IS NULL OR o.observed_at <= excluded.observed_at
        """),
        {"account": account_id, "exported_at": exported_at, "hash": content_hash},
    )


def write_days(
    connection: Connection,
    account_id: str,
    exported_at: datetime,
    content_hash: str,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Store daily totals of the account {day, ...} at an export's date."""
    if not rows:
        return
    connection.execute(
        text(f"""
            INSERT INTO genopt.account_export_days
                (account_id, day, exported_at, content_hash, {", ".join(_DAY_COLUMNS)})
            VALUES (:account, :day, :exported_at, :hash,
                    {", ".join(":" + name for name in _DAY_COLUMNS)})
            ON CONFLICT (account_id, day, exported_at) DO UPDATE SET
                content_hash = excluded.content_hash,
                {", ".join(f"{name} = excluded.{name}" for name in _DAY_COLUMNS)}
        """),
        [
            {
                "account": account_id,
                "exported_at": exported_at,
                "hash": content_hash,
                "day": row["day"],
                **{name: row.get(name) for name in _DAY_COLUMNS},
            }
            for row in rows
        ],
    )


def record_file(connection: Connection, account_id: str, row: Mapping[str, Any]) -> None:
    """Remember an imported file by its content."""
    connection.execute(
        text("""
            INSERT INTO genopt.export_files
                (account_id, content_hash, file_name, dialect, exported_at, rows_read, rows_kept,
                 rows_skipped, rows_rejected)
            VALUES (:account, :content_hash, :file_name, :dialect, :exported_at, :rows_read,
                    :rows_kept, :rows_skipped, :rows_rejected)
            ON CONFLICT (account_id, content_hash) DO NOTHING
        """),
        {"account": account_id, **row},
    )
