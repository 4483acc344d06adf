"""Asset checks in real runs: they pass where all is right, and fail on what they are there for."""

from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from genopt_pipeline.core.health import HealthObservations, check_health
from genopt_pipeline.defs import checks
from genopt_pipeline.defs.build import build_defs
from genopt_pipeline.defs.jobs import ATTRIBUTE, INGEST, PUBLISH
from genopt_pipeline_tests.scenario import START, Installation, hours, instance_on

NOW = START + hours(6) + timedelta(minutes=5)
EXPECTED = {
    ("content_metadata", "no_unknown_generators"),
    ("raw_post_metrics", "data_are_fresh"),
    ("raw_follower_counts", "data_are_fresh"),
    ("generator_f_per_1k", "data_are_fresh"),
    ("follower_deltas", "covers_the_last_day"),
    ("post_followers", "conserves_followers"),
    ("generator_weights", "sum_to_one_and_equal_the_newest_event"),
    ("system_health", "not_critical"),
}


@pytest.fixture
def installation(make_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    with instance_on(make_settings(start=START), tmp_path) as instance:
        made = Installation(make_settings(start=START), instance, NOW)
        yield made
        made.pipeline.engine.dispose()


def keys_of(defs):
    graph = defs.resolve_asset_graph()
    return {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}


def test_every_check_says_what_it_means(installation):
    assert keys_of(installation.defs) >= EXPECTED
    graph = installation.defs.resolve_asset_graph()
    for key in graph.asset_check_keys:
        assert len(graph.get_check_spec(key).description or "") > 40, key


def evaluated(result):
    return {
        (event.asset_key.to_user_string(), event.check_name): event
        for event in result.get_asset_check_evaluations()
    }


def broken(installation, statement):
    """Write what the database's constraints and triggers would refuse."""
    with installation.pipeline.write() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement))


@pytest.mark.slow
def test_checks_pass_in_runs_and_fail_on_what_they_are_there_for(installation):
    ingested = installation.run(INGEST, START, NOW - timedelta(minutes=5))
    measured = installation.run(ATTRIBUTE, START, START + hours(4))
    published = installation.run(PUBLISH)
    seen = {}
    for result in (ingested, measured, published):
        assert result.success
        seen |= evaluated(result)
    assert set(seen) >= EXPECTED
    failed = {key for key, event in seen.items() if not event.passed}
    assert failed <= {("system_health", "not_critical")}  # nothing was optimized yet
    conserved = seen["post_followers", "conserves_followers"].metadata
    assert conserved["windows_looked_at"].value == 2
    assert 0 <= conserved["largest_difference"].value < checks.TOLERANCE
    report = published.asset_materializations_for_node("learning_report")[0].metadata
    assert report["main/report"].path.endswith("main.html")
    assert "| explorer |" in report["main/summary"].md_str
    # nothing is left planned for ever
    for asset, name in EXPECTED:
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        records = installation.instance.event_log_storage.get_asset_check_execution_history(
            key, limit=5
        )
        assert records, key
        assert {record.status.value for record in records} <= {"SUCCEEDED", "FAILED"}, key

    pipeline, end = installation.pipeline, START + hours(6)
    broken(installation, "UPDATE genopt.follower_baseline SET followers = followers + 1")
    result = checks.conserved(pipeline, ["main"], START, end)
    assert not result.passed
    assert result.metadata["largest_difference"] == pytest.approx(1.0)
    assert "credited" in str(result.metadata["not_conserved"])
    broken(installation, "DELETE FROM genopt.post_followers")
    broken(installation, "DELETE FROM genopt.follower_baseline")
    assert not checks.conserved(pipeline, ["main"], START, end).passed

    broken(
        installation,
        "UPDATE genopt.generator_weights SET weight = weight + 0.0001 "
        "WHERE generator_name = 'coach'",
    )
    assert "sum to 1.0001" in checks.in_force_result(pipeline, ["main"]).description
    broken(
        installation,
        "UPDATE genopt.generator_weights SET weight = weight - 0.0001 "
        "WHERE generator_name = 'explorer'",
    )
    unlike = checks.in_force_result(pipeline, ["main"])
    assert not unlike.passed
    assert "coach, explorer" in unlike.description

    assert checks.covered(pipeline, ["main"], end).passed
    broken(
        installation,
        "UPDATE genopt.follower_deltas SET delta = NULL, gap_reason = 'no reading' "
        "WHERE window_start = (SELECT max(window_start) FROM genopt.follower_deltas)",
    )
    gap = checks.covered(pipeline, ["main"], end)
    assert not gap.passed
    assert gap.severity == dg.AssetCheckSeverity.WARN
    assert "no reading" in str(gap.metadata["gaps"])

    # a backfill of old windows makes nothing fresh
    installation.clock.at = NOW + timedelta(days=3)
    late = evaluated(installation.run(ATTRIBUTE, START))
    stale = late["generator_f_per_1k", "data_are_fresh"]
    assert not stale.passed
    assert stale.severity == dg.AssetCheckSeverity.ERROR


def health_of(**changes):
    known = {
        "weights": {"a": 1.0},
        "last_metrics_at": NOW,
        "last_followers_at": NOW,
        "last_performance_at": NOW,
    }
    return check_health(HealthObservations(**(known | changes)), now=NOW)


def test_freshness_names_the_account_and_expects_nothing_of_one_that_imports_only():
    good = health_of()
    imported = health_of(collects=False, last_performance_at=None)
    judged = checks.freshness("generator_f_per_1k", {"main": good, "mine": imported})
    assert judged.passed
    assert "mine: no performance table yet; its metrics are imported" in judged.description
    assert checks.freshness("raw_post_metrics", {"main": good, "mine": imported}).passed
    old = health_of(last_performance_at=NOW - hours(30))
    judged = checks.freshness("generator_f_per_1k", {"main": good, "other": old})
    assert not judged.passed
    assert "other: the latest performance table is 30.0 hours old" in judged.description
    new = health_of(last_performance_at=None)
    assert not checks.freshness("generator_f_per_1k", {"new": new}).passed
    away = check_health(HealthObservations(database_error="gone"), now=NOW)
    assert not checks.freshness("raw_post_metrics", {"main": away}).passed


def test_a_name_that_nobody_knows_fails_its_check_and_is_shown(installation):
    with installation.pipeline.write() as connection:
        connection.execute(
            text("SELECT genopt.record_post('main', 'd1', 'news reader', 't1', :at)"), {"at": NOW}
        )
    (check,) = [
        item for item in checks.make_checks() if item.check_key.name == "no_unknown_generators"
    ]
    result = check(pipeline=installation.pipeline)
    assert not result.passed
    assert "news reader" in str(result.metadata["names"])


def test_all_definitions_load_whole(make_settings):
    from genopt_pipeline.defs.build import make_pipeline

    dg.Definitions.validate_loadable(build_defs(make_pipeline(make_settings())))
