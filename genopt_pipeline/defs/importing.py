"""Importing X exports into the store: one file, one transaction. Without Dagster."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from genopt_pipeline.core.generators import equal_weights
from genopt_pipeline.core.observations import ObservedPost
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.sources.exports import (
    ExportedDay,
    ExportedPost,
    ExportReader,
    Labels,
    RejectedRow,
    open_export,
)
from genopt_pipeline.store import imports, performance, posts, quarantine
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import lock_account

BATCH = 2000


@dataclass
class ImportSummary:
    """What was read of a file, and what became of it."""

    file: str
    dialect: str
    kind: str
    exported_at: datetime
    exported_at_origin: str
    rows_read: int = 0
    rows_kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rows_rejected: int = 0
    labels_rejected: int = 0
    labelled: int = 0
    unlabelled: int = 0
    quarantined_names: int = 0
    repeated: bool = False
    totals: dict[str, int] = field(default_factory=dict)


#: Rejected rows that a summary lists; all of them are in quarantine.
LISTED = 20


def import_export(
    pipeline: Pipeline,
    account_id: str,
    path: Path,
    *,
    labels: Labels | None = None,
    exported_at: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportSummary:
    """Import one export; safe to repeat.

    Raises
    ------
    ExportFormatError
        The file is no export; nothing is written.
    """
    reader = open_export(path, exported_at=exported_at, progress=progress)
    summary = ImportSummary(
        file=str(path),
        dialect=reader.dialect,
        kind=reader.kind,
        exported_at=reader.exported_at,
        exported_at_origin=reader.exported_at_origin,
    )
    with pipeline.write() as connection:
        weight_store.live_weights(connection, account_id)  # the account must be registered
        lock_account(connection, account_id)
        before_at = imports.imported_before(connection, account_id, reader.content_hash)
        summary.repeated = before_at is not None
        if before_at is not None and exported_at is None:
            # the same bytes are the same export, whatever the file's age says now
            summary.exported_at, summary.exported_at_origin = before_at, "the first import"
        before = quarantine.count_unresolved(connection, account_id).get("generator_name", 0)
        rows = iter(reader)
        while batch := tuple(islice(rows, BATCH)):
            _store(connection, account_id, reader, batch, labels, summary)
        if labels is not None:
            summary.labels_rejected = len(labels.rejected)
            _quarantine(connection, account_id, Path(labels.path).name, labels.rejected)
        summary.rows_read = reader.rows_read
        summary.rows_kept = reader.rows_kept
        summary.skipped = dict(reader.skipped)
        summary.quarantined_names = (
            quarantine.count_unresolved(connection, account_id).get("generator_name", 0) - before
        )
        imports.record_file(
            connection,
            account_id,
            {
                "content_hash": reader.content_hash,
                "file_name": path.name,
                "dialect": reader.dialect,
                "exported_at": summary.exported_at,
                "rows_read": reader.rows_read,
                "rows_kept": reader.rows_kept,
                "rows_skipped": sum(reader.skipped.values()),
                "rows_rejected": summary.rows_rejected,
            },
        )
        performance.refresh_life_time(connection, account_id, estimator=pipeline.settings.estimator)
    return summary


def _store(
    connection: Connection,
    account_id: str,
    reader: ExportReader,
    batch: tuple[ExportedPost | ExportedDay | RejectedRow, ...],
    labels: Labels | None,
    summary: ImportSummary,
) -> None:
    exported = [item for item in batch if isinstance(item, ExportedPost)]
    days = [item for item in batch if isinstance(item, ExportedDay)]
    rejected = [item for item in batch if isinstance(item, RejectedRow)]
    _reject(connection, account_id, Path(summary.file).name, rejected, summary)
    known = imports.decision_ids(connection, account_id, [post.tweet_id for post in exported])
    keys = {
        post.tweet_id: known.get(post.tweet_id, (f"x:{post.tweet_id}", None)) for post in exported
    }
    observed = []
    for post in exported:
        decision_id, generator = keys[post.tweet_id]
        if generator is None and labels is not None:
            generator = labels.generator_of(tweet_id=post.tweet_id, decision_id=decision_id)
        summary.labelled += generator is not None
        summary.unlabelled += generator is None
        observed.append(
            ObservedPost(
                decision_id=decision_id,
                tweet_id=post.tweet_id,
                posted_at=post.posted_at,
                generator_name=generator,
            )
        )
    posts.upsert_posts(connection, account_id, observed, source="import")
    imports.write_post_totals(
        connection,
        account_id,
        summary.exported_at,
        reader.content_hash,
        [
            {
                **post.reading(observed_at=summary.exported_at).model_dump(),
                # a reading of an export knows the post by X's id only
                "decision_id": keys[post.tweet_id][0],
            }
            for post in exported
        ],
    )
    imports.write_days(
        connection,
        account_id,
        summary.exported_at,
        reader.content_hash,
        [{"day": day.day, "posts_created": day.posts_published, **day.counts()} for day in days],
    )
    for post in exported:
        for name in ("impressions", "platform_follows"):
            value = getattr(post, name)
            if value is not None:
                summary.totals[name] = summary.totals.get(name, 0) + value


def _reject(
    connection: Connection,
    account_id: str,
    source: str,
    rows: list[RejectedRow] | tuple[RejectedRow, ...],
    summary: ImportSummary,
) -> None:
    listed = [
        {"file": row.file, "row": row.row, "column": row.column, "reason": row.reason}
        for row in rows
    ]
    summary.rejected += listed[: max(LISTED - len(summary.rejected), 0)]
    summary.rows_rejected += len(rows)
    _quarantine(connection, account_id, source, rows)


def _quarantine(
    connection: Connection,
    account_id: str,
    source: str,
    rows: list[RejectedRow] | tuple[RejectedRow, ...],
) -> None:
    quarantine.put(
        connection,
        account_id,
        source,
        (
            (
                "export_row",
                f"row {row.row}" + (f", column {row.column}" if row.column else ""),
                row.reason,
                row.raw,
            )
            for row in rows
        ),
    )


def register_from_labels(pipeline: Pipeline, account_id: str, labels: Labels) -> bool:
    """Register an account with the generators that ``labels`` names, equally weighted.

    False if the account is registered already.
    """
    with pipeline.write() as connection:
        return weight_store.ensure_account(
            connection, account_id, equal_weights(set(labels.generators.values()))
        )
