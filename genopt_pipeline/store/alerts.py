"""Alerts by episode: one row from opening to closing, and whether both were told.

Writers of an account's alerts are serialised by a lock of their own, so that each episode opens
once and closes once whoever evaluates; the database refuses a second open row of one key.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB

from genopt_pipeline.core.alerts import AlertChange, Findings, transitions
from genopt_pipeline.core.policies.contract import jsonable
from genopt_pipeline.store import schema


def open_alerts(connection: Connection, account_id: str) -> list[dict[str, Any]]:
    """Open episodes, oldest first, as dictionaries of their columns."""
    table = schema.alert_states
    rows = connection.execute(
        select(table)
        .where(table.c.account_id == account_id, table.c.closed_at.is_(None))
        .order_by(table.c.opened_at, table.c.alert_key)
    ).mappings()
    return [dict(row) for row in rows]


def recent_alerts(connection: Connection, account_id: str, limit: int = 20) -> list[dict[str, Any]]:
    """Episodes that are over, the newest end first."""
    table = schema.alert_states
    rows = connection.execute(
        select(table)
        .where(table.c.account_id == account_id, table.c.closed_at.is_not(None))
        .order_by(table.c.closed_at.desc(), table.c.alert_key)
        .limit(limit)
    ).mappings()
    return [dict(row) for row in rows]


def record(
    connection: Connection, account_id: str, findings: Findings, *, now: datetime
) -> list[AlertChange]:
    """Store what ``findings`` change about the open episodes; returns the changes to be told.

    Recording the same findings again changes nothing. An episode whose severity changed ends and
    begins; only its beginning is told.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtext('genopt.alerts'), hashtext(:account))"),
        {"account": account_id},
    )
    rows = {row["alert_key"]: row for row in open_alerts(connection, account_id)}
    changed = transitions({key: row["severity"] for key, row in rows.items()}, findings)
    begun = {alert.key for alert in changed.opened}
    changes: list[AlertChange] = []
    for key in changed.closed:
        connection.execute(
            text("""
                UPDATE genopt.alert_states
                   SET closed_at = :now,
                       closing_notified_at = CASE WHEN :replaced THEN CAST(:now AS timestamptz) END
                 WHERE account_id = :account AND alert_key = :key AND closed_at IS NULL
            """),
            {"account": account_id, "key": key, "now": now, "replaced": key in begun},
        )
        if key not in begun:
            changes.append(_change({**rows[key], "closed_at": now}, over=True))
    for alert in changed.opened:
        row = {
            "account_id": account_id,
            "alert_key": alert.key,
            "severity": alert.severity,
            "message": alert.message,
        }
        opened_at = connection.scalar(
            text("""
                INSERT INTO genopt.alert_states
                    (account_id, alert_key, opened_at, severity, message, details)
                SELECT :account_id, :alert_key,
                       -- an episode that begins at the very time of another is still another
                       greatest(:now, max(opened_at) + interval '1 microsecond'),
                       :severity, :message, :details
                  FROM genopt.alert_states
                 WHERE account_id = :account_id AND alert_key = :alert_key
                RETURNING opened_at
            """).bindparams(bindparam("details", type_=JSONB)),
            {**row, "now": now, "details": jsonable(alert.details)},
        )
        changes.append(_change({**row, "opened_at": opened_at}, over=False))
    return changes


def untold(connection: Connection, account_id: str, limit: int) -> list[AlertChange]:
    """At most ``limit`` changes that were not told yet, the oldest first.

    Their rows stay locked until the transaction ends; rows that another sender has locked are left
    to it.
    """
    rows = connection.execute(
        text("""
            SELECT * FROM genopt.alert_states
             WHERE account_id = :account
               AND (notified_at IS NULL OR (closed_at IS NOT NULL AND closing_notified_at IS NULL))
             ORDER BY opened_at, alert_key
             LIMIT :limit FOR UPDATE SKIP LOCKED
        """),
        {"account": account_id, "limit": limit},
    ).mappings()
    changes = []
    for row in rows:
        if row["notified_at"] is None:
            changes.append(_change(row, over=False))
        if row["closed_at"] is not None and row["closing_notified_at"] is None:
            changes.append(_change(row, over=True))
    changes.sort(key=lambda change: (change.at, change.over, change.key))
    return changes[:limit]


def count_untold(connection: Connection, account_id: str) -> int:
    """Changes that wait to be told."""
    value = connection.scalar(
        text("""
            SELECT count(*) FILTER (WHERE notified_at IS NULL)
                 + count(*) FILTER (WHERE closed_at IS NOT NULL AND closing_notified_at IS NULL)
              FROM genopt.alert_states WHERE account_id = :account
        """),
        {"account": account_id},
    )
    return int(value or 0)


def mark_told(connection: Connection, changes: Sequence[AlertChange], *, at: datetime) -> None:
    """Note that these changes were told."""
    for change in changes:
        column = "closing_notified_at" if change.over else "notified_at"
        connection.execute(
            text(f"""
                UPDATE genopt.alert_states SET {column} = :at
                 WHERE account_id = :account AND alert_key = :key AND opened_at = :opened
            """),
            {
                "account": change.account_id,
                "key": change.key,
                "opened": change.opened_at,
                "at": at,
            },
        )


def _change(row: Any, *, over: bool) -> AlertChange:
    return AlertChange(
        account_id=row["account_id"],
        key=row["alert_key"],
        opened_at=row["opened_at"],
        over=over,
        at=row["closed_at"] if over else row["opened_at"],
        severity=row["severity"],
        message=row["message"],
    )
