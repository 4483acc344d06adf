"""Health tells no data, zero and an unreadable database apart, and says what to do."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.health import HealthConfig, HealthObservations, check_health

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
GOOD = HealthObservations(
    weights=DEFAULT_WEIGHTS,
    last_metrics_at=NOW - timedelta(minutes=9),
    last_followers_at=NOW - timedelta(minutes=9),
    last_performance_at=NOW - timedelta(hours=1),
    last_optimization_at=NOW - timedelta(hours=5),
    last_post_at=NOW - timedelta(hours=2),
    posts_in_window=100,
    posts_measured=99,
    quarantined=0,
    failed_runs_24h=0,
)


def status_of(observed, name):
    report = check_health(observed, now=NOW)
    return {check.name: check.status for check in report.checks}[name]


def test_a_loop_that_runs_is_healthy_and_gives_no_reasons():
    report = check_health(GOOD, now=NOW)
    assert (report.status, report.reasons) == ("healthy", ())


def test_an_unreadable_database_is_critical_and_claims_nothing_else():
    report = check_health(replace(GOOD, database_error="connection refused"), now=NOW)
    assert report.status == "critical"
    assert [check.name for check in report.checks] == ["database"]
    assert "connection refused" in report.reasons[0]


def test_an_account_before_its_first_post_has_no_data_which_is_neither_an_error_nor_a_zero():
    report = check_health(HealthObservations(weights=DEFAULT_WEIGHTS), now=NOW)
    statuses = {check.name: check.status for check in report.checks}
    assert report.status == "degraded"
    assert statuses["posts"] == statuses["metrics"] == statuses["coverage"] == "no_data"
    assert statuses["database"] == statuses["weights"] == "healthy"
    none_measured = replace(GOOD, posts_measured=0)
    assert status_of(none_measured, "coverage") == "critical"
    assert status_of(replace(GOOD, posts_in_window=0), "coverage") == "no_data"


@pytest.mark.parametrize(
    ("field", "check", "limits"),
    [
        ("last_metrics_at", "metrics", HealthConfig().metrics_age_hours),
        ("last_followers_at", "followers", HealthConfig().followers_age_hours),
        ("last_performance_at", "performance", HealthConfig().performance_age_hours),
        ("last_optimization_at", "optimization", HealthConfig().optimization_age_hours),
        ("last_post_at", "posts", HealthConfig().post_age_hours),
    ],
)
def test_each_age_degrades_and_then_is_critical_beyond_its_limits(field, check, limits):
    for hours, expected in (
        (limits[0], "healthy"),
        (limits[0] + 0.01, "degraded"),
        (limits[1], "degraded"),
        (limits[1] + 0.01, "critical"),
    ):
        observed = replace(GOOD, **{field: NOW - timedelta(hours=hours)})
        assert status_of(observed, check) == expected


def test_a_time_in_the_future_is_a_wrong_clock_and_not_fresh_data():
    observed = replace(GOOD, last_metrics_at=NOW + timedelta(hours=1))
    assert status_of(observed, "metrics") == "degraded"
    assert "future" in check_health(observed, now=NOW).reasons[0]


@pytest.mark.parametrize(
    "weights",
    [None, {}, {"a": 0.5}, {"a": 1.33}, {"a": math.nan, "b": 1.0}, {"a": 1.5, "b": -0.5}],
)
def test_weights_that_are_no_distribution_are_critical(weights):
    assert check_health(replace(GOOD, weights=weights), now=NOW).status == "critical"


def test_an_account_fed_by_imports_is_not_blamed_for_old_readings():
    observed = replace(GOOD, collects=False, last_metrics_at=None, last_followers_at=None)
    assert check_health(observed, now=NOW).status == "healthy"


def test_quarantine_and_failed_runs_degrade_by_their_number():
    assert status_of(replace(GOOD, quarantined=1), "quarantine") == "degraded"
    assert status_of(replace(GOOD, failed_runs_24h=1), "runs") == "degraded"
    assert status_of(replace(GOOD, failed_runs_24h=10), "runs") == "critical"


def test_failed_runs_that_were_not_counted_are_unknown_and_count_neither_way():
    uncounted = replace(GOOD, failed_runs_24h=None)
    assert status_of(uncounted, "runs") == "unknown"
    assert check_health(uncounted, now=NOW).status == "healthy"
    assert check_health(replace(uncounted, quarantined=1), now=NOW).status == "degraded"


times = st.none() | st.timedeltas(timedelta(0), timedelta(days=9)).map(lambda age: NOW - age)


@given(times, times, times, st.none() | st.integers(0, 50), st.none() | st.integers(0, 20))
def test_the_whole_is_the_worst_of_its_parts_and_every_fault_says_what_to_do(
    metrics, optimization, post, quarantined, failed
):
    observed = replace(
        GOOD,
        last_metrics_at=metrics,
        last_optimization_at=optimization,
        last_post_at=post,
        quarantined=quarantined,
        failed_runs_24h=failed,
    )
    report = check_health(observed, now=NOW)
    statuses = {check.status for check in report.checks}
    assert (report.status == "critical") == ("critical" in statuses)
    assert (report.status == "healthy") == (statuses <= {"healthy", "unknown"})
    assert all(check.action for check in report.checks if check.status in {"degraded", "critical"})
    faults = [check for check in report.checks if check.status not in {"healthy", "unknown"}]
    assert len(report.reasons) == len(faults)
    assert json.loads(json.dumps(report.as_dict()))["status"] == report.status


def test_limits_that_fall_are_refused():
    with pytest.raises(ValueError, match="metrics_age_hours"):
        HealthConfig(metrics_age_hours=(6, 1))
    with pytest.raises(ValueError, match="measured_share"):
        HealthConfig(measured_share=(0.2, 0.8))


def test_what_the_source_warns_of_degrades_and_is_over_when_it_warns_no_more():
    warned = replace(GOOD, source_warnings=("60 of the day's 80 posts are spent",))
    report = check_health(warned, now=NOW)
    assert report.status == "degraded"
    assert any("60 of the day's 80 posts" in reason for reason in report.reasons)
    quiet = check_health(replace(GOOD, source_warnings=()), now=NOW)
    assert quiet.status == "healthy"
    assert {check.name for check in quiet.checks} == {check.name for check in report.checks}
