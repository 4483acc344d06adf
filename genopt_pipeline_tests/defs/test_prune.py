"""Pruning Dagster's storage keeps what people look up and lets the rest go."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from genopt_pipeline.defs.jobs import INGEST
from genopt_pipeline.defs.prune import prune
from genopt_pipeline_tests.scenario import START, Installation, hours, instance_on

METRICS = dg.AssetKey("raw_post_metrics")


@pytest.fixture
def installation(make_settings, tmp_path):
    settings = make_settings(start=START)
    with instance_on(settings, tmp_path) as instance:
        installation = Installation(settings, instance, START + hours(2))
        for _ in range(2):  # the second time replaces the first
            assert installation.run(INGEST, START, START + hours(1)).success
        yield installation


def count(instance, where="true"):
    with instance.event_log_storage.index_connection() as connection:
        return connection.execute(text(f"SELECT count(*) FROM event_logs WHERE {where}")).scalar()


def partitions(instance):
    return instance.get_materialized_partitions(METRICS)


def results(instance):
    """The newest result of each check that was made, as the UI reads it."""
    checks = [
        dg.AssetCheckKey(dg.AssetKey(asset), "data_are_fresh")
        for asset in ("raw_post_metrics", "raw_follower_counts")
    ]
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    return {key: (record.status, record.event) for key, record in found.items()}


def newest(instance):
    return instance.get_latest_materialization_event(METRICS).asset_materialization.metadata


def test_old_events_go_and_the_newest_materialization_of_each_partition_stays(installation):
    instance = installation.instance
    keys, metadata, runs = partitions(instance), newest(instance), len(instance.get_runs())
    latest = results(instance)
    assert len(keys) == 7
    before = datetime.now(UTC) + timedelta(minutes=1)

    told = prune(instance, before=before, dry_run=True)
    assert told.events > 0
    every = count(instance)
    done = prune(instance, before=before)
    assert done.events == told.events
    assert count(instance) == every - done.events
    assert count(instance, "dagster_event_type = 'ASSET_MATERIALIZATION'") == 14
    assert count(instance, "asset_key IS NULL") == 0

    assert results(instance) == latest
    with instance.event_log_storage.index_connection() as connection:
        left = text(
            "SELECT count(*), count(DISTINCT (asset_key, check_name)) FROM asset_check_executions"
        )
        rows, checks = connection.execute(left).one()
    assert rows == checks == len(latest) > 0
    assert partitions(instance) == keys
    assert newest(instance) == metadata
    assert len(instance.get_runs()) == runs
    with instance.event_log_storage.index_connection() as connection:
        orphans = text(
            "SELECT count(*) FROM asset_event_tags t "
            "WHERE NOT EXISTS (SELECT FROM event_logs e WHERE e.id = t.event_id)"
        )
        assert connection.execute(orphans).scalar() == 0
    assert prune(instance, before=before).events == 0


def test_young_events_and_those_of_runs_under_way_stay(installation):
    instance = installation.instance
    every = count(instance)
    assert prune(instance, before=datetime.now(UTC) - timedelta(days=1)).events == 0
    run = instance.get_runs()[0]
    with instance.run_storage.connect() as connection:
        connection.execute(
            text("UPDATE runs SET status = 'STARTED' WHERE run_id = :id"), {"id": run.run_id}
        )
    prune(instance, before=datetime.now(UTC) + timedelta(minutes=1))
    assert 0 < count(instance, f"run_id = '{run.run_id}'") < every
    assert count(instance, f"run_id = '{run.run_id}' AND dagster_event_type = 'STEP_START'") == 1


def test_the_daily_job_prunes_by_the_setting(installation):
    instance = installation.instance
    installation.clock.at = datetime.now(UTC) + timedelta(days=31)
    every = count(instance)
    result = installation.defs.resolve_job_def("prune").execute_in_process(instance=instance)
    assert result.success
    assert count(instance, f"run_id <> '{result.run_id}'") < every
    schedule = next(item for item in installation.defs.schedules if item.name == "every_day_prune")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
