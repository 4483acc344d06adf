"""Pruning what Dagster keeps of old runs: events, their tags and captured output.

Dagster has no retention for its event log, and a year of ten-minute runs is over a gigabyte. What
people look up stays: the newest materialization of every asset and partition with its metadata
(so lineage, partition status and plots are whole), the newest result of every check, and every
run's row. What goes, once it is older than asked: the step-by-step log of finished runs, what newer
materializations and checks have replaced, and captured output.
genopt's own tables are never touched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import text

from genopt_pipeline.defs.resources import Pipeline

#: Events deleted in one transaction, so that a run is never kept waiting for long.
BATCH = 5_000
PRUNE = "prune"
#: Results of checks have a table of their own, which the UI reads; the newest of each check stays.
_OLD_RESULTS = text("""
    DELETE FROM asset_check_executions e
     WHERE e.create_timestamp < :before AND EXISTS (
        SELECT FROM asset_check_executions newer
         WHERE newer.asset_key = e.asset_key AND newer.check_name = e.check_name
           AND newer.id > e.id)
""")
_FINISHED_RUNS = text("""
    SELECT run_id FROM runs
     WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED') AND update_timestamp < :before
""")

#: Ids of the events that go. A planned materialization of a failed run stays: the UI shows the
#: partition as failed by it. Events of a run that has no row any more belong to nobody.
_DUE = """
    SELECT e.id FROM event_logs e LEFT JOIN runs r ON r.run_id = e.run_id
     WHERE e.timestamp < :before AND e.id > :after
       AND (r.run_id IS NULL OR r.status IN ('SUCCESS', 'FAILURE', 'CANCELED'))
       AND e.dagster_event_type IS DISTINCT FROM 'ASSET_OBSERVATION'
       AND CASE e.dagster_event_type
           WHEN 'ASSET_MATERIALIZATION' THEN CASE WHEN e.partition IS NULL
               THEN EXISTS (SELECT FROM event_logs newer
                             WHERE newer.dagster_event_type = e.dagster_event_type
                               AND newer.asset_key = e.asset_key
                               AND newer.partition IS NULL AND newer.id > e.id)
               ELSE EXISTS (SELECT FROM event_logs newer
                             WHERE newer.dagster_event_type = e.dagster_event_type
                               AND newer.asset_key = e.asset_key
                               AND newer.partition = e.partition AND newer.id > e.id) END
           WHEN 'ASSET_MATERIALIZATION_PLANNED' THEN coalesce(r.status, 'SUCCESS') = 'SUCCESS'
           ELSE true END
"""


@dataclass(frozen=True)
class Pruned:
    """What went, or would go: events, and finished runs whose captured output is gone."""

    before: datetime
    events: int
    runs: int
    dry_run: bool


def prune(
    instance: dg.DagsterInstance,
    *,
    before: datetime,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Pruned:
    """Delete what finished runs left behind before ``before``; safe to interrupt and to repeat.

    Raises
    ------
    TypeError
        Dagster's storage is not a SQL database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"cannot prune {type(storage).__name__}: it is no SQL database")
    at = {"before": before.astimezone(UTC).replace(tzinfo=None), "after": 0}
    with storage.index_connection() as connection:
        runs = list(connection.execute(_FINISHED_RUNS, at).scalars())
        if dry_run:
            due = connection.execute(text(f"SELECT count(*) FROM ({_DUE}) due"), at)
            return Pruned(before, int(due.scalar_one()), len(runs), dry_run)
    events = 0
    while ids := _delete_batch(storage, at):
        events += len(ids)
        at["after"] = ids[-1]
        progress(len(ids))
    with storage.index_transaction() as connection:
        connection.execute(_OLD_RESULTS, at)
    for run_id in runs:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return Pruned(before, events, len(runs), dry_run)


def _delete_batch(storage: SqlEventLogStorage, at: dict[str, Any]) -> list[int]:
    with storage.index_transaction() as connection:
        due = connection.execute(text(f"{_DUE} ORDER BY e.id LIMIT {BATCH}"), at)
        ids = [int(row) for row in due.scalars()]
        tags, events = AssetEventTagsTable.c.event_id, SqlEventLogStorageTable.c.id
        connection.execute(AssetEventTagsTable.delete().where(tags.in_(ids)))
        connection.execute(SqlEventLogStorageTable.delete().where(events.in_(ids)))
    return ids


def make_prune_job() -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job that prunes, and its daily schedule."""

    @dg.op(
        name="prune_dagster_storage",
        description="Deletes events and captured output of runs that finished before the days of "
        "GENOPT_KEEP_EVENTS_DAYS; keeps the newest materialization of every partition.",
    )
    def prune_dagster_storage(
        context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> None:
        days = pipeline.settings.keep_events_days
        done = prune(context.instance, before=pipeline.now() - timedelta(days=days))
        context.log.info(
            "%s events and the output of %s runs from before %s were deleted",
            done.events,
            done.runs,
            done.before.date(),
        )
        context.add_output_metadata({"events": done.events, "runs": done.runs, "keep_days": days})

    @dg.job(
        name=PRUNE,
        description="Keeps Dagster's event log from growing for ever.",
        executor_def=dg.in_process_executor,
    )
    def prune_job() -> None:
        prune_dagster_storage()

    schedule = dg.ScheduleDefinition(
        name="every_day_prune",
        job=prune_job,
        cron_schedule="37 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every day at 3:37 (UTC): deletes old events and output of Dagster's runs.",
    )
    return prune_job, schedule
