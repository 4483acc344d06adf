"""What this project relies on in Dagster. A failure here means that Dagster changed."""

import inspect
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.test_utils import instance_for_test
from dagster_shared.check import CheckError

from genopt_pipeline.defs.assets.optimization import BACKFILL_TAGS
from genopt_pipeline.defs.partitions import make_partitions
from genopt_pipeline.defs.sensors import RANGE_END, RANGE_START

START = datetime(2026, 9, 1, tzinfo=UTC)
PARTITIONS = make_partitions(START)


def asset(name, partitions, **more):
    @dg.asset(name=name, partitions_def=partitions, **more)
    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        window = context.partition_time_window
        return dg.MaterializeResult(metadata={"start": window.start.isoformat()})

    return body


def test_a_six_hour_window_has_36_ten_minute_and_3_two_hour_parents_by_default():
    ten = asset("ten", PARTITIONS.ten_minutes)
    two = asset("two", PARTITIONS.two_hours, deps=["ten"])
    six = asset("six", PARTITIONS.six_hours, deps=["ten", "two"])
    graph = dg.Definitions(assets=[ten, two, six]).resolve_asset_graph()
    parents = {
        name: dg.TimeWindowPartitionMapping()
        .get_upstream_mapped_partitions_result_for_partitions(
            downstream_partitions_subset=PARTITIONS.six_hours.subset_with_partition_keys(
                ["2026-09-02-06:00"]
            ),
            downstream_partitions_def=PARTITIONS.six_hours,
            upstream_partitions_def=graph.get(dg.AssetKey(name)).partitions_def,
            current_time=START + timedelta(days=9),
        )
        .partitions_subset
        for name in ("ten", "two")
    }
    assert {name: len(subset) for name, subset in parents.items()} == {"ten": 36, "two": 3}


def test_one_job_holds_one_partitions_definition():
    assets = [asset("ten", PARTITIONS.ten_minutes), asset("two", PARTITIONS.two_hours)]
    definitions = dg.Definitions(
        assets=assets, jobs=[dg.define_asset_job("both", selection=["ten", "two"])]
    )
    with pytest.raises(dg.DagsterInvalidDefinitionError):
        definitions.resolve_job_def("both")


def test_a_single_run_backfill_sees_the_whole_range_as_one_window():
    seen = []

    @dg.asset(partitions_def=PARTITIONS.two_hours, backfill_policy=dg.BackfillPolicy.single_run())
    def two(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        seen.append((context.partition_time_window, len(context.partition_keys)))
        return dg.MaterializeResult(metadata={"dagster/row_count": 1})

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [two],
            instance=instance,
            tags={RANGE_START: "2026-09-01-00:00", RANGE_END: "2026-09-01-10:00"},
        )
        assert result.success
        assert len(instance.get_materialized_partitions(dg.AssetKey("two"))) == 6
    window, keys = seen[0]
    assert (window.start, window.end) == (START, START + timedelta(hours=12))
    assert keys == 6


def test_a_backfill_marks_its_runs_with_the_tags_that_forbid_publishing():
    from dagster._core.storage.tags import BACKFILL_ID_TAG

    assert BACKFILL_ID_TAG in BACKFILL_TAGS
    assert RANGE_START in BACKFILL_TAGS


def test_a_schedule_over_a_partitioned_job_takes_no_time_of_its_own():
    job = dg.define_asset_job("job", partitions_def=PARTITIONS.two_hours)
    with pytest.raises(CheckError, match="cron_schedule"):
        dg.build_schedule_from_partitioned_job(job, cron_schedule="4 */2 * * *")


def test_the_window_that_is_under_way_is_a_partition_with_an_end_offset():
    now = START + timedelta(minutes=25)
    keys = PARTITIONS.ten_minutes.get_partition_keys(current_time=now)
    assert list(keys) == ["2026-09-01-00:00", "2026-09-01-00:10", "2026-09-01-00:20"]
    assert list(PARTITIONS.two_hours.get_partition_keys(current_time=now)) == []


def test_a_failure_that_allows_no_retries_is_not_tried_again_within_the_run():
    tries = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=3))
    def refused() -> None:
        tries.append(1)
        raise dg.Failure(description="no", allow_retries=False)

    assert not dg.materialize([refused], raise_on_error=False).success
    assert len(tries) == 1


def test_a_check_of_a_partitioned_asset_can_be_embedded_and_is_recorded():
    @dg.asset(
        partitions_def=PARTITIONS.two_hours,
        check_specs=[dg.AssetCheckSpec("holds", asset="two")],
    )
    def two() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(check_name="holds", passed=True)]
        )

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([two], instance=instance, partition_key="2026-09-01-00:00")
        assert [item.passed for item in result.get_asset_check_evaluations()] == [True]


def check_rows(instance):
    with instance.event_log_storage.index_connection() as connection:
        rows = connection.execute(
            sa.text("SELECT partition, execution_status FROM asset_check_executions ORDER BY id")
        )
        return [tuple(row) for row in rows]


def test_an_embedded_check_stays_planned_for_every_partition_so_ours_stand_alone():
    @dg.asset(
        partitions_def=PARTITIONS.two_hours,
        check_specs=[dg.AssetCheckSpec("holds", asset="embedded")],
    )
    def embedded() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(check_name="holds", passed=True)]
        )

    key = "2026-09-01-00:00"
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([embedded], instance=instance, partition_key=key)
        assert check_rows(instance) == [(key, "PLANNED"), (None, "SUCCEEDED")]

    @dg.asset(partitions_def=PARTITIONS.two_hours)
    def alone(context: dg.AssetExecutionContext) -> None:
        context.log_event(
            dg.AssetCheckEvaluation(asset_key=context.asset_key, check_name="holds", passed=True)
        )

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([alone], instance=instance, partition_key=key)
        assert check_rows(instance) == [(None, "SUCCEEDED")]


def test_dagsters_storage_does_not_work_on_psycopg_3(pg_server):
    url = pg_server.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    from dagster_postgres.utils import create_pg_connection

    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with create_pg_connection(engine) as connection, pytest.raises(sa.exc.ProgrammingError):
        # what the event log's storage does for every event
        connection.execute(sa.text("NOTIFY run_events, :id"), {"id": "1"})
    engine.dispose()


def test_retention_has_no_key_for_the_event_log():
    with (
        pytest.raises(dg.DagsterInvalidConfigError),
        instance_for_test(overrides={"retention": {"event_log": {"purge_after_days": 30}}}),
    ):
        pass


def test_the_private_parts_in_use_are_there():
    from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
    from dagster_postgres import PostgresEventLogStorage

    assert {"id", "run_id", "dagster_event_type", "asset_key", "partition", "timestamp"} <= set(
        SqlEventLogStorageTable.c.keys()
    )
    assert "event_id" in AssetEventTagsTable.c
    for name in (
        "store_event_batch",
        "prepare_insert_event_batch",
        "_store_asset_event_tags",
        "_store_asset_event",
        "index_transaction",
    ):
        assert callable(getattr(PostgresEventLogStorage, name)), name
    assert "postgres_url" in inspect.signature(PostgresEventLogStorage).parameters
