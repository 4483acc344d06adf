"""Sensors: publishing what was proposed on time, and asking for windows that were missed."""

import logging
from datetime import datetime, timedelta

import dagster as dg

from genopt_pipeline.defs.assets.optimization import is_backfill
from genopt_pipeline.defs.collect import opened_source
from genopt_pipeline.defs.jobs import Jobs
from genopt_pipeline.defs.partitions import (
    SIX_HOURS,
    TEN_MINUTES,
    TWO_HOURS,
    key_of,
    window_of,
    windows,
)
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.sources.base import SourceRefusedError
from genopt_pipeline.store import metrics, performance, snapshots
from genopt_pipeline.store import weights as weight_store

log = logging.getLogger("genopt_pipeline.sensors")

#: How far back missed windows are asked for.
FILL_DAYS = 7
#: A window is missed this long after its schedule should have run.
GRACE = timedelta(minutes=15)
#: Runs of ingestion that one tick asks for at most.
RUNS_AT_ONCE = 12
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def make_sensors(jobs: Jobs) -> list[dg.SensorDefinition]:
    """The publishing and the gap-filling sensor, running from the start."""

    @dg.sensor(
        name="publish_current_window",
        job=jobs.publish,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Publishes a new snapshot of the window that ended last. Snapshots of other "
        "windows, and those that a backfill made, are never published.",
    )
    def publish_current_window(
        context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.RunRequest | dg.SkipReason:
        start, _ = snapshots.current_window(pipeline.now())
        key = key_of(start)
        newest = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey("weight_snapshots"), asset_partitions=[key]
            ),
            limit=20,
        ).records
        for record in newest:
            run = context.instance.get_run_by_id(record.run_id)
            if run is not None and not is_backfill(run.tags):
                return dg.RunRequest(run_key=f"publish:{key}:{record.storage_id}")
        if newest:
            return dg.SkipReason(f"the snapshot of {key} was made by a backfill only")
        return dg.SkipReason(f"there is no snapshot of the current window {key} yet")

    @dg.sensor(
        name="fill_gaps",
        jobs=jobs.all,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for windows of the last days that were missed: those that the source "
        "can still serve, and those whose data are there but were not worked on.",
    )
    def fill_gaps(
        context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.SensorResult:
        del context
        requests = missing_windows(pipeline, pipeline.now())
        if not requests:
            return dg.SensorResult(skip_reason="no window is missing")
        return dg.SensorResult(run_requests=requests)

    return [publish_current_window, fill_gaps]


def missing_windows(pipeline: Pipeline, now: datetime) -> list[dg.RunRequest]:
    """Requests for missed windows, one stage at a time: what is worked on needs its data first."""
    account_id = pipeline.settings.account
    since = max(pipeline.settings.start, window_of(now, SIX_HOURS)[0] - timedelta(days=FILL_DAYS))
    with pipeline.read() as connection:
        accounts = weight_store.list_accounts(connection)
        if account_id not in accounts:
            return []
        first = metrics.first_window(connection, account_id, since)
        if first is None:
            return []
        measured = performance.measured_ends(connection, account_id, since, now)
        start, end = snapshots.current_window(now)
        snapshot = snapshots.read_snapshot(connection, account_id, start)
        decided = snapshots.decided(connection, account_id, start)
    ingestion = _missing_ingestion(pipeline, account_id, first, now)
    if ingestion:
        return ingestion
    begin = window_of(first, TWO_HOURS)[0]
    ended = window_of(now - GRACE, TWO_HOURS)[0]
    late = [
        (window_start, window_end)
        for window_start, window_end in windows(begin, ended, TWO_HOURS)
        if window_end not in measured
    ]
    if late:
        return [_range("attribute_and_measure", run, now) for run in _runs(late)]
    if end not in measured or now - end <= GRACE:
        return []
    if snapshot is not None and not snapshot["backfilled"] and not decided:
        # publishing failed, or was never asked for
        return [dg.RunRequest(job_name="publish_weights", run_key=f"fill:publish:{now:%Y%m%d%H}")]
    if snapshot is None:
        return [
            dg.RunRequest(
                job_name="optimize",
                partition_key=key_of(start),
                run_key=f"fill:optimize:{key_of(start)}",
            )
        ]
    return []


def _missing_ingestion(
    pipeline: Pipeline, account_id: str, first: datetime, now: datetime
) -> list[dg.RunRequest]:
    try:
        with opened_source(pipeline, account_id, first) as source:
            if source is None:
                return []
            until = window_of(now - GRACE, TEN_MINUTES)[0]
            with pipeline.read() as connection:
                have = metrics.collected_windows(connection, account_id, source.name, first, until)
            missed = [
                (start, end)
                for start, end in windows(first, until, TEN_MINUTES)
                if start not in have and source.can_serve(start, end, now=now)
            ]
    except SourceRefusedError as error:
        # the runs of the present window fail and say so; what was collected is still worked on
        log.warning("no window is asked for again: %s", error)
        return []
    # of a live source only some windows can be had again, and each is a run of its own: the newest
    # first, the others at the next ticks
    return [_range("ingest", run, now) for run in _runs(missed)[-RUNS_AT_ONCE:]]


def _runs(
    missed: list[tuple[datetime, datetime]],
) -> list[list[tuple[datetime, datetime]]]:
    """Neighbouring windows together, so that a long gap is one run."""
    runs: list[list[tuple[datetime, datetime]]] = []
    for window in missed:
        if runs and runs[-1][-1][1] == window[0]:
            runs[-1].append(window)
        else:
            runs.append([window])
    return runs


def _range(job: str, run: list[tuple[datetime, datetime]], now: datetime) -> dg.RunRequest:
    first, last = key_of(run[0][0]), key_of(run[-1][0])
    # an hourly key: what still misses after a failed run is asked for again, not at every tick
    run_key = f"fill:{job}:{first}:{last}:{now:%Y%m%d%H}"
    if first == last:
        return dg.RunRequest(job_name=job, partition_key=first, run_key=run_key)
    return dg.RunRequest(job_name=job, run_key=run_key, tags={RANGE_START: first, RANGE_END: last})
