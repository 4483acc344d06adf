"""What the UI shows of a partition is that partition's, whatever run made it."""

from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from genopt_pipeline.defs.jobs import ATTRIBUTE, INGEST, OPTIMIZE
from genopt_pipeline.defs.partitions import SIX_HOURS, TWO_HOURS, key_of
from genopt_pipeline_tests.scenario import START, Installation, hours, instance_on

NOW = START + timedelta(days=1, hours=12, minutes=5)
ROWS = "dagster/partition_row_count"


@pytest.fixture
def installation(make_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    # not one of the usual look-backs: its table is stored like theirs
    settings = make_settings(start=START, window_days=5)
    with instance_on(settings, tmp_path) as instance:
        made = Installation(settings, instance, NOW)
        yield made
        made.pipeline.engine.dispose()


def told(result, asset):
    """Metadata of each partition that a run materialized, by its key."""
    found = {}
    for event in result.get_asset_materialization_events():
        made = event.step_materialization_data.materialization
        if made.asset_key == dg.AssetKey(asset):
            found[made.partition] = {name: value.value for name, value in made.metadata.items()}
    return found


def query(installation, statement):
    with installation.pipeline.read() as connection:
        return {key_of(row[0]): tuple(row[1:]) for row in connection.execute(text(statement))}


def seconds(at):
    return None if at is None else at.timestamp()


def test_every_partition_of_a_range_is_told_its_own_rows_data_time_and_rounded_numbers(
    installation,
):
    last = NOW - timedelta(minutes=5)
    ingested = installation.run(INGEST, START, last)
    measured = installation.run(ATTRIBUTE, START, START + hours(34))
    proposed = installation.run(OPTIMIZE, START, START + hours(24))
    assert all(result.success for result in (ingested, measured, proposed))

    stored = query(
        installation,
        "SELECT window_start, count(*), max(observed_at) FROM genopt.post_metric_snapshots "
        "GROUP BY 1",
    )
    shown = told(ingested, "raw_post_metrics")
    assert len(shown) == 36 * 6 + 1
    for key, metadata in shown.items():
        rows, newest = stored.get(key, (0, None))
        assert metadata[ROWS] == rows, key
        assert metadata.get("data_time") == seconds(newest), key
        assert "dagster/row_count" not in metadata
    assert len({metadata[ROWS] for metadata in shown.values()}) > 5
    counted = told(ingested, "raw_follower_counts")
    counts = query(
        installation,
        "SELECT window_start, observed_at, followers_count FROM genopt.follower_counts",
    )
    assert {key: (m["data_time"], m["main/followers"], m[ROWS]) for key, m in counted.items()} == {
        key: (at.timestamp(), followers, 1) for key, (at, followers) in counts.items()
    }
    # what is known of now is told of the newest window alone
    assert [key for key in shown if "posts_without_generator" in shown[key]] == [key_of(last)]

    deltas = told(measured, "follower_deltas")
    expected = query(
        installation, "SELECT window_start, delta IS NULL, observed_to FROM genopt.follower_deltas"
    )
    assert {key: (m[ROWS], m["gaps"], m.get("data_time")) for key, m in deltas.items()} == {
        key: (1, int(gap), seconds(newest)) for key, (gap, newest) in expected.items()
    }
    assert sum(m["gaps"] for m in deltas.values()) == 1
    credited = told(measured, "post_followers")
    expected = query(
        installation, "SELECT window_start, count(*) FROM genopt.post_followers GROUP BY 1"
    )
    assert {key: m[ROWS] for key, m in credited.items() if m[ROWS]} == {
        key: count for key, (count,) in expected.items()
    }
    tables = told(measured, "generator_f_per_1k")
    expected = query(
        installation,
        "SELECT period_end - interval '2 hours', count(*) "
        "FROM genopt.generator_performance_history GROUP BY 1",
    )
    assert {key: m[ROWS] for key, m in tables.items()} == {
        key: count for key, (count,) in expected.items()
    }
    for key, metadata in tables.items():
        start = START + TWO_HOURS * list(tables).index(key)
        assert key == key_of(start)
        newest = max((at for rows, at in stored.values() if at < start + TWO_HOURS), default=None)
        assert metadata.get("data_time") == seconds(newest), key
    # life-time figures are today's: no past window had them
    assert [key for key in tables if "main/life_time" in tables[key]] == [key_of(START + hours(34))]

    snapshots = told(proposed, "weight_snapshots")
    assert len(snapshots) == 5
    expected = query(
        installation, "SELECT window_start, decision = 'skipped' FROM genopt.weight_snapshots"
    )
    assert {key: (m[ROWS], m["skipped"]) for key, m in snapshots.items()} == {
        key: (1, int(skipped)) for key, (skipped,) in expected.items()
    }
    for key, metadata in snapshots.items():
        end = START + SIX_HOURS * (list(snapshots).index(key) + 1)
        assert (
            metadata["data_time"] == max(at for rows, at in stored.values() if at < end).timestamp()
        )

    # the same once more, and alone: the same is said, but for what this run itself added
    again = told(installation.run(INGEST, last - hours(1), last), "raw_post_metrics")
    alone = told(installation.run(INGEST, last), "raw_post_metrics")
    for repeated in (again, alone):
        for key, metadata in repeated.items():
            assert metadata[ROWS] == shown[key][ROWS] > 0
            assert metadata["data_time"] == shown[key]["data_time"] <= NOW.timestamp()
            assert metadata["run/readings_stored"] == 0
    assert len(again) == 7
    (_,) = alone
    (table,) = told(installation.run(ATTRIBUTE, START + hours(20)), "generator_f_per_1k").values()
    assert table == tables[key_of(START + hours(20))]

    numbers = {
        name: value
        for result, asset in (
            (measured, "follower_deltas"),
            (measured, "post_followers"),
            (measured, "generator_f_per_1k"),
            (proposed, "weight_snapshots"),
        )
        for metadata in told(result, asset).values()
        for name, value in metadata.items()
        if isinstance(value, float) and name != "data_time"
    }
    assert len(numbers) > 20
    assert all(value == round(value, 4) for value in numbers.values())
    assert numbers["main/execution_time_ms"] == round(numbers["main/execution_time_ms"], 1)
