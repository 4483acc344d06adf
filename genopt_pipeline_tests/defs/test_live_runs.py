"""Dagster runs of ``ingest`` through the X client and a real socket: what is stored and shown."""

import logging
from datetime import timedelta

import dagster as dg
import pytest

from genopt_pipeline.defs import failures
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.defs.collect import collect_windows
from genopt_pipeline.defs.monitor import account_health
from genopt_pipeline.defs.partitions import TEN_MINUTES, key_of
from genopt_pipeline.defs.sensors import missing_windows
from genopt_pipeline.sandbox.faults import AlwaysFault, FaultQueue, RandomFaults
from genopt_pipeline.sources.base import TransientSourceError
from genopt_pipeline.store import selector, source_states
from genopt_pipeline_tests.defs.live_scenario import live
from genopt_pipeline_tests.scenario import instance_on

POSTS = dg.AssetKey("raw_post_metrics")


@pytest.fixture
def instance(make_settings, tmp_path):
    with instance_on(make_settings(), tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr(failures, "DELAY_SECONDS", 0.01)


def shown(result):
    """Metadata of the posts' materialization, as the UI shows it."""
    [found] = [m for m in result.asset_materializations_for_node("collect") if m.asset_key == POSTS]
    return {name: value.value for name, value in found.metadata.items()}


def test_a_run_shows_its_plan_its_bill_and_what_the_month_will_cost(make_settings, instance):
    faults = RandomFaults(4, 0.3, faults=["http_503", "reset", "other_dialect", "unknown_fields"])
    with live(make_settings, instance=instance, faults=faults) as x:
        x.record()
        result = x.ingest()
        assert result.success
        told = shown(result)
        posts = len(x.due())
        assert told["dagster/partition_row_count"] == told["main/posts_read"] == posts
        assert told["main/posts_planned"] == posts
        assert told["main/posts_skipped"] == 0
        assert told["main/budget/posts_billed_today"] == posts
        assert told["main/budget/usd_this_month"] == pytest.approx(0.01 + 0.001 * posts)
        assert told["main/budget/projected_month_usd"] > 0.001 * posts
        assert "main/budget/posts_left_today" not in told  # there is no budget: unknown, not zero
        assert abs(told["main/clock_skew_seconds"]) < 2
        assert told["main/analytics_status"] == "present"
        assert told["main/requests_left/timeline"] < 900
        assert told["main/rate_limits"]["timeline"]["limit"] == 900
        assert told["posts_without_generator"] == 0
        stored = x.query("SELECT count(*), count(DISTINCT decision_id) FROM genopt.outcomes")
        assert stored == [(posts, posts)]
        assert x.query("SELECT count(*) FROM genopt.follower_counts") == [(1,)]


def test_a_budget_is_kept_what_it_skips_is_named_and_its_end_is_warned_of(
    make_settings, instance, caplog
):
    with live(make_settings, instance=instance, days=5.0, x_posts_per_utc_day=40) as x:
        x.record()
        told = shown(x.ingest())
        assert told["main/posts_skipped"] == told["main/posts_skipped/day_budget"] > 0
        assert told["main/posts_planned"] + told["main/posts_skipped"] == len(x.due())
        assert told["main/budget/posts_billed_today"] <= 40
        assert told["main/plan"]["skipped_examples"]["day_budget"]
        assert any("want of budget" in warning for warning in told["main/warnings"])
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                x.clock.at += timedelta(hours=6)
                x.record()
                assert x.ingest().success
        assert any("of the day's 40 posts are spent" in r.getMessage() for r in caplog.records)
        reasons = account_health(x.pipeline, "main").reasons
        assert any("of the day's 40 posts are spent" in reason for reason in reasons)
        assert max(map(len, x.server.answerer.billed.values())) <= 40


@pytest.mark.parametrize(
    ("fault", "advice", "requests"),
    [
        ("usage_capped", "cap on posts is used up", 2),  # the second asks when the cap is reset
        ("no_credits", "no credits left", 1),
        ("unauthorized", "check GENOPT_X_ACCESS_TOKEN", 1),
        ("client_forbidden", "look at the app's project and plan", 3),  # each step is refused
    ],
)
def test_what_a_person_has_to_mend_fails_the_run_at_once_and_says_what_to_do(
    make_settings, instance, fault, advice, requests
):
    with live(make_settings, instance=instance, faults=AlwaysFault(fault)) as x:
        x.record()
        result = x.ingest()
        assert not result.success
        [failure] = result.get_step_failure_events()
        assert advice in failure.step_failure_data.error_display_string
        assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
        assert sum(x.server.requests.values()) == requests
        assert x.query("SELECT count(*) FROM genopt.collected_windows") == [(0,)]
        if fault in {"usage_capped", "no_credits"}:
            x.clock.at += TEN_MINUTES
            again = x.ingest()
            [failure] = again.get_step_failure_events()
            assert "collection rests" in failure.step_failure_data.error_display_string
            assert sum(x.server.requests.values()) == requests


def test_what_was_observed_before_a_refusal_is_stored_and_the_run_still_fails(
    make_settings, instance
):
    with live(
        make_settings, instance=instance, faults=AlwaysFault("no_credits", endpoint="timeline")
    ) as x:
        x.record()
        result = x.ingest()
        assert not result.success
        [failure] = result.get_step_failure_events()
        assert "timeline" in failure.step_failure_data.error_display_string
        assert "no credits left" in failure.step_failure_data.error_display_string
        assert x.query("SELECT count(*) FROM genopt.follower_counts") == [(1,)]
        assert shown(result)["main/complete"] is False


def test_a_transient_failure_is_retried_and_then_leaves_a_gap_that_nobody_asks_for(
    make_settings, instance
):
    with live(make_settings, instance=instance, x_analytics="off") as x:
        x.record()
        assert x.ingest().success
        x.clock.at += TEN_MINUTES
        lost = x.window[0]
        x.server.faults = AlwaysFault("not_json")
        result = x.ingest()
        assert not result.success
        retries = [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
        assert len(retries) == failures.RETRIES
        x.server.faults = FaultQueue([])
        x.clock.at += timedelta(hours=3)
        assert x.ingest().success
        late = x.ingest(partition_key=key_of(lost))
        assert not late.success
        [failure] = late.get_step_failure_events()
        assert "it stays a gap" in failure.step_failure_data.error_display_string
        assert (lost,) not in x.query("SELECT window_start FROM genopt.collected_windows")
        asked = missing_windows(x.pipeline, x.clock.at)
        assert not [request for request in asked if request.job_name == "ingest"]


def test_of_missed_windows_those_with_a_full_hour_are_asked_for_once_where_x_has_analytics(
    make_settings, instance
):
    with live(make_settings, instance=instance) as x:
        x.record()
        assert x.ingest().success
        x.clock.at += timedelta(hours=5)
        x.record()
        assert x.ingest().success
        sent = dict(x.server.requests)
        asked = missing_windows(x.pipeline, x.clock.at)
        assert dict(x.server.requests) == sent
        keys = [request.partition_key for request in asked]
        # the hour that is not an hour old yet is not settled
        assert keys == [key_of(x.window[0] - timedelta(hours=h)) for h in (4, 3, 2, 1)]
        for request in asked:
            assert x.ingest(partition_key=request.partition_key).success
        assert not [r for r in missing_windows(x.pipeline, x.clock.at) if r.job_name == "ingest"]
        past = x.query(
            "SELECT DISTINCT observed_at FROM genopt.post_metric_snapshots "
            "WHERE window_start < :now AND window_start > :first ORDER BY 1",
            now=x.window[0],
            first=x.window[0] - timedelta(hours=5),
        )
        assert [key_of(at) for (at,) in past] == keys
        assert x.query("SELECT count(*) FROM genopt.follower_counts") == [(2,)]


def test_when_x_takes_analytics_away_missed_windows_are_not_asked_for_any_more(
    make_settings, instance
):
    with live(make_settings, instance=instance) as x:
        x.record()
        assert x.ingest().success
        x.clock.at += timedelta(hours=5)
        assert x.ingest().success
        asked = [r for r in missing_windows(x.pipeline, x.clock.at) if r.job_name == "ingest"]
        x.server.answerer.has_analytics = False
        assert not x.ingest(partition_key=asked[0].partition_key).success
        x.clock.at += timedelta(hours=1, minutes=10)
        later = [r for r in missing_windows(x.pipeline, x.clock.at) if r.job_name == "ingest"]
        assert later == []


def test_posts_are_matched_by_their_id_and_those_without_a_generator_are_kept_and_reported(
    make_settings, instance
):
    with live(make_settings, instance=instance) as x:
        known, unknown = x.due()[:-3], x.due()[-3:]
        x.record(known)
        told = shown(x.ingest())
        assert told["main/unmatched_posts"] == 3
        assert told["posts_without_generator"] == 3
        rows = x.query(
            "SELECT decision_id, generator_name FROM genopt.content_metadata "
            "WHERE tweet_id = ANY(:ids)",
            ids=[post.tweet_id for post in unknown],
        )
        assert {tuple(row) for row in rows} == {(f"x:{p.tweet_id}", None) for p in unknown}
        # the engine is late: it claims a post, and the readings go with it
        late = unknown[0]
        with x.pipeline.write() as connection:
            selector.record_post(
                connection,
                "main",
                late.decision_id,
                late.generator_name,
                tweet_id=late.tweet_id,
                posted_at=late.posted_at,
            )
        x.clock.at += TEN_MINUTES
        told = shown(x.ingest())
        assert told["posts_without_generator"] == 2
        assert told["main/unmatched_posts"] == 0
        readings = x.query(
            "SELECT s.decision_id, count(*) FROM genopt.post_metric_snapshots s "
            "JOIN genopt.content_metadata c USING (account_id, decision_id) "
            "WHERE c.tweet_id = :id GROUP BY 1",
            id=late.tweet_id,
        )
        assert readings == [(late.decision_id, 2)]


def test_a_deleted_post_is_marked_keeps_its_history_and_is_never_polled_again(
    make_settings, instance
):
    with live(make_settings, instance=instance) as x:
        x.record()
        assert x.ingest().success
        victim = x.due()[5]
        x.server.answerer.deleted.add(victim.tweet_id)
        x.clock.at += TEN_MINUTES
        assert shown(x.ingest())["main/deleted"] == [victim.tweet_id]
        lookups = x.server.requests["lookup"]
        for _ in range(3):
            x.clock.at += TEN_MINUTES
            x.record()  # the engine records it once more
            assert x.ingest().success
        assert x.server.requests["lookup"] == lookups
        assert x.query(
            "SELECT c.status, count(*) FROM genopt.content_metadata c "
            "JOIN genopt.post_metric_snapshots s USING (account_id, decision_id) "
            "WHERE c.decision_id = :id GROUP BY 1",
            id=victim.decision_id,
        ) == [("deleted", 1)]


def test_while_a_process_collects_an_account_another_one_waits_its_turn(make_settings, monkeypatch):
    monkeypatch.setattr(source_states, "LOCK_WAIT_SECONDS", 0.2)
    with live(make_settings) as x, x.pipeline.engine.connect() as connection:
        x.record()
        assert source_states.begin_collecting(connection, "main")
        with pytest.raises(TransientSourceError, match="another process is collecting"):
            collect_windows(x.pipeline, "main", [x.window])
        assert sum(x.server.requests.values()) == 0
        source_states.end_collecting(connection, "main")
        assert collect_windows(x.pipeline, "main", [x.window]).readings == len(x.due())


def test_without_credentials_what_was_collected_is_still_worked_on(make_settings):
    with live(make_settings) as x:
        x.record()
        collect_windows(x.pipeline, "main", [x.window])
        x.clock.at += timedelta(hours=5)
        without = make_pipeline(
            x.settings.model_copy(update={"x_access_token": None}), clock=x.clock
        )
        assert {r.job_name for r in missing_windows(without, x.clock.at)} == {
            "attribute_and_measure"
        }
        without.engine.dispose()
