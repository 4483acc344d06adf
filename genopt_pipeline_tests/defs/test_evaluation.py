"""What weights are worth, in real runs: metadata of snapshots, and the check of the draw."""

from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from genopt_pipeline.defs import evaluation
from genopt_pipeline.defs.jobs import OPTIMIZE, PUBLISH
from genopt_pipeline_tests.scenario import START, Installation, hours, instance_on, work_through

END = START + timedelta(days=1)
NOW = END + timedelta(minutes=13)


@pytest.fixture
def installation(make_settings, tmp_path):
    settings = make_settings(start=START, sandbox_posts_per_day=90, holdout_share=0.2)
    with instance_on(settings, tmp_path) as instance:
        made = Installation(settings, instance, NOW)
        work_through(made.pipeline, START, END)
        yield made


def sample_ratio(result):
    return next(
        found
        for found in result.get_asset_check_evaluations()
        if found.check_name == "sample_ratio"
    )


def value_of(metadata, name):
    return metadata[name].value


@pytest.mark.slow
def test_snapshots_say_what_weights_are_worth_and_the_check_tells_a_false_draw(installation):
    assert installation.run(OPTIMIZE, END - hours(6)).success
    event = installation.instance.get_latest_materialization_event(dg.AssetKey("weight_snapshots"))
    metadata = event.asset_materialization.metadata
    rows = [record.data for record in metadata["main/worth"].records]
    assert [row["weights"] for row in rows] == ["in force", "proposed", "shadow", "default"]
    assert all(row["off_policy_f_per_1k"] > 0 and row["model_f_per_1k"] > 0 for row in rows)
    assert value_of(metadata, "main/value/default") == pytest.approx(
        rows[3]["model_f_per_1k"], abs=1e-4
    )
    assert 0 <= value_of(metadata, "main/sample_ratio_p") <= 1
    assert {f"main/guard_price/{guard}" for guard in evaluation.GUARDS} <= set(metadata)
    with installation.pipeline.read() as connection:
        found, snapshot = evaluation.newest_appraisal(
            connection, "main", installation.settings, NOW
        )
    assert snapshot["window_end"] == END
    assert value_of(metadata, "main/value/proposed") == pytest.approx(
        found.of("proposed").model.f_per_1k, abs=1e-4
    )
    assert found.holdout.holdout_posts > 5

    published = installation.run(PUBLISH)
    assert published.success
    check = sample_ratio(published)
    assert check.passed
    assert check.asset_key == dg.AssetKey("content_metadata")
    assert check.metadata["main/posts"].value > 60

    with installation.pipeline.write() as connection:
        # an engine that always takes the same one, and says that it drew
        connection.execute(
            text("""
                UPDATE genopt.content_metadata SET generator_name = 'explorer'
                 WHERE generator_name = 'humanVoice'
            """)
        )
    check = sample_ratio(installation.run(PUBLISH))
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert "main" in check.description
    drawn = {row.data["generator"]: row.data for row in check.metadata["main/draws"].records}
    assert drawn["humanVoice"]["posts"] == 0
    assert drawn["explorer"]["posts"] > 2 * drawn["explorer"]["expected"]

    # the check belongs to an asset without partitions: nothing stays planned
    records = installation.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("content_metadata"), "sample_ratio"), limit=10
    )
    assert {record.status.value for record in records} == {"SUCCEEDED", "FAILED"}
