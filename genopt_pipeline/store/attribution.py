"""Follower deltas and their attribution: one window is written whole, again and again the same."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from genopt_pipeline.store.engine import lock_account

_DELTA = (
    "window_end",
    "delta",
    "covers_from",
    "followers_start",
    "followers_end",
    "observed_from",
    "observed_to",
    "readings",
    "coverage",
    "gap_reason",
)


def write_delta(connection: Connection, account_id: str, row: Mapping[str, Any]) -> None:
    """Store the change of one window, replacing what an earlier run of it stored."""
    lock_account(connection, account_id)
    # the attribution of another change would be wrong now; its window is to be run again
    clear_attribution(connection, account_id, row["window_start"], unless_delta=row["delta"])
    connection.execute(
        text(f"""
            INSERT INTO genopt.follower_deltas (account_id, window_start, {", ".join(_DELTA)})
            VALUES (:account, :window_start, {", ".join(":" + name for name in _DELTA)})
            ON CONFLICT (account_id, window_start) DO UPDATE SET
                {", ".join(f"{name} = excluded.{name}" for name in _DELTA)},
                computed_at = now()
        """),
        {"account": account_id, **row},
    )


def windows_merged_over(
    connection: Connection, account_id: str, window_start: datetime, window_end: datetime
) -> list[tuple[datetime, datetime]]:
    """Later windows whose change reaches back into this one, oldest first."""
    rows = connection.execute(
        text("""
            SELECT window_start, window_end FROM genopt.follower_deltas
             WHERE account_id = :account AND window_start > :start AND covers_from < :end
             ORDER BY window_start
        """),
        {"account": account_id, "start": window_start, "end": window_end},
    )
    return [(row.window_start, row.window_end) for row in rows]


def clear_attribution(
    connection: Connection,
    account_id: str,
    window_start: datetime,
    *,
    unless_delta: int | None = None,
) -> None:
    """Remove the attribution of a window, unless it is of the delta given."""
    parameters = {"account": account_id, "start": window_start, "delta": unless_delta}
    stale = connection.scalar(
        text("""
            SELECT true FROM genopt.follower_baseline
             WHERE account_id = :account AND window_start = :start
               AND delta IS DISTINCT FROM CAST(:delta AS double precision)
        """),
        parameters,
    )
    if not stale:
        return
    for table in ("post_followers", "follower_baseline"):
        connection.execute(
            text(
                f"DELETE FROM genopt.{table} WHERE account_id = :account AND window_start = :start"
            ),
            parameters,
        )


def read_deltas(
    connection: Connection, account_id: str, since: datetime, until: datetime
) -> pd.DataFrame:
    """Known changes of windows in ``[since, until)``: [window_start, window_end, delta].

    ``window_start`` is where the change is counted from, so a row that follows a gap is longer.
    """
    rows = connection.execute(
        text("""
            SELECT covers_from, window_end, delta FROM genopt.follower_deltas
             WHERE account_id = :account AND covers_from >= :since AND window_end <= :until
               AND delta IS NOT NULL
             ORDER BY window_end
        """),
        {"account": account_id, "since": since, "until": until},
    ).all()
    frame = pd.DataFrame(rows, columns=["window_start", "window_end", "delta"])
    for column in ("window_start", "window_end"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame.astype({"delta": "int64"})


def last_learned(
    connection: Connection,
    account_id: str,
    *,
    since: datetime,
    before: datetime,
    code_version: str,
) -> Mapping[str, Any] | None:
    """What the newest full fit of a window that started in (since, before) learned, if any."""
    document: Mapping[str, Any] | None = connection.scalar(
        text("""
            SELECT parameters -> 'learned' FROM genopt.follower_baseline
             WHERE account_id = :account AND window_start > :since AND window_start < :before
               AND parameters -> 'learned' IS NOT NULL
               AND parameters ->> 'code_version' = :version
             ORDER BY window_start DESC LIMIT 1
        """),
        {"account": account_id, "since": since, "before": before, "version": code_version},
    )
    return document


def write_attribution(
    connection: Connection,
    account_id: str,
    window_start: datetime,
    window_end: datetime,
    *,
    posts: pd.DataFrame,
    baseline: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> int:
    """Store a window's attribution whole, replacing an earlier one; returns the posts credited.

    ``posts`` has [decision_id, followers, variance, followers_to_date, variance_to_date,
    information]; ``baseline`` has delta, followers, organic, unfollows, quarantined.
    """
    lock_account(connection, account_id)
    window = {"account": account_id, "start": window_start, "end": window_end}
    for table in ("post_followers", "follower_baseline"):
        connection.execute(
            text(
                f"DELETE FROM genopt.{table} WHERE account_id = :account AND window_start = :start"
            ),
            window,
        )
    connection.execute(
        text("""
            INSERT INTO genopt.follower_baseline
                (account_id, window_start, window_end, delta, followers, organic, unfollows,
                 quarantined, parameters)
            VALUES (:account, :start, :end, :delta, :followers, :organic, :unfollows,
                    :quarantined, :parameters)
        """).bindparams(bindparam("parameters", type_=JSONB)),
        {**window, **baseline, "parameters": dict(parameters)},
    )
    if posts.empty:
        return 0
    plain = posts.astype(object).where(posts.notna(), None)
    rows = [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]
    connection.execute(
        text("""
            INSERT INTO genopt.post_followers
                (account_id, window_start, window_end, decision_id, followers, variance,
                 followers_to_date, variance_to_date, information)
            VALUES (:account, :start, :end, :decision_id, :followers, :variance,
                    :followers_to_date, :variance_to_date, :information)
        """),
        [{**window, **row} for row in rows],
    )
    return len(rows)
