"""The whole loop in real Dagster runs on PostgreSQL, in virtual time."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._utils.schedules import cron_string_iterator
from sqlalchemy import text

from genopt_pipeline.defs import sensors
from genopt_pipeline.defs.jobs import ATTRIBUTE, INGEST, OPTIMIZE, PUBLISH
from genopt_pipeline.defs.partitions import SIX_HOURS, TEN_MINUTES, TWO_HOURS, key_of
from genopt_pipeline.defs.schedules import TICKS, next_ticks
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline_tests.scenario import START, Installation, everything, hours, instance_on

NOW = START + timedelta(days=14, hours=1, minutes=3)


@pytest.fixture
def installation(make_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    settings = make_settings(start=START, policy="exponential")
    with instance_on(settings, tmp_path) as instance:
        yield Installation(settings, instance, NOW)


def live(installation):
    with installation.pipeline.read() as connection:
        return weight_store.live_weights(connection, "main")


def conserved(installation):
    with installation.pipeline.read() as connection:
        return connection.execute(
            text("""
                SELECT max(abs(b.delta - b.followers - coalesce(p.followers, 0))) AS off,
                       count(*) AS windows
                  FROM genopt.follower_baseline b
                  LEFT JOIN (SELECT window_start, sum(followers) AS followers
                               FROM genopt.post_followers GROUP BY 1) p USING (window_start)
            """)
        ).one()


@pytest.mark.slow
def test_fourteen_days_backfilled_conserve_followers_and_publish_only_the_current_window(
    installation,
):
    installation.catch_up(START, NOW)

    result = conserved(installation)
    assert result.windows > 160
    assert result.off < 1e-6
    weights = live(installation)
    assert sum(row.weight for row in weights.generators.values()) == 1
    with installation.pipeline.read() as connection:
        events = weight_store.recent_events(connection, "main")
    kinds = [event["event_type"] for event in events]
    assert kinds == ["weight_update", "initial_weights"]
    assert events[0]["window_end"] == START + timedelta(days=14)
    first = everything(installation)
    assert len(first["weight_snapshots"]) == 56

    # parts of it again, as ranges and as single windows: the same bytes, nothing published twice
    middle = START + timedelta(days=9)
    assert installation.run(INGEST, middle, middle + hours(12)).success
    assert installation.run(ATTRIBUTE, middle + hours(6), middle + hours(18)).success
    assert installation.run(OPTIMIZE, middle + hours(6), middle + hours(12)).success
    assert installation.run(PUBLISH).success
    assert installation.run(ATTRIBUTE, middle).success
    assert installation.run(OPTIMIZE, middle).success
    second = everything(installation)
    for table in first:
        assert second[table] == first[table], table


def test_a_backfill_never_publishes(installation):
    now = START + timedelta(days=3, minutes=5)
    installation.clock.at = now
    assert installation.run(INGEST, START, now - timedelta(minutes=5)).success
    assert installation.run(ATTRIBUTE, START, START + timedelta(days=3) - TWO_HOURS).success
    assert installation.run(OPTIMIZE, START, START + timedelta(days=3) - SIX_HOURS).success
    before = live(installation)
    result = installation.run(PUBLISH)
    assert result.success
    assert live(installation) == before
    tick = evaluate(installation, "publish_current_window")
    assert not tick.run_requests
    assert "backfill" in tick.skip_message
    # computed again on time it may be published
    assert installation.run(OPTIMIZE, START + timedelta(days=3) - SIX_HOURS).success
    tick = evaluate(installation, "publish_current_window")
    assert len(tick.run_requests) == 1
    assert installation.run(PUBLISH, **{"dagster/backfill": "abc"}).success
    assert live(installation) == before
    assert installation.run(PUBLISH).success
    assert live(installation).version == before.version + 1
    assert installation.run(PUBLISH).success
    assert live(installation).version == before.version + 1


def evaluate(installation, name):
    sensor = next(item for item in installation.defs.sensors if item.name == name)
    context = dg.build_sensor_context(
        instance=installation.instance, resources={"pipeline": installation.pipeline}
    )
    return sensor.evaluate_tick(context)


@pytest.mark.parametrize(
    ("name", "tick", "window"),
    [
        ("every_ten_minutes", START + hours(30), START + hours(30)),
        ("every_two_hours", START + hours(30) + timedelta(minutes=4), START + hours(28)),
        ("every_six_hours", START + hours(30) + timedelta(minutes=12), START + hours(24)),
    ],
)
def test_a_schedules_tick_asks_for_its_window(installation, name, tick, window):
    schedule = next(item for item in installation.defs.schedules if item.name == name)
    context = dg.build_schedule_context(
        instance=installation.instance,
        scheduled_execution_time=tick,
        repository_def=installation.defs.get_repository_def(),
    )
    requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == [key_of(window)]


def test_every_schedule_and_sensor_says_what_it_does_and_a_schedule_when(installation):
    for schedule in installation.defs.schedules:
        assert schedule.description.startswith("Every "), schedule.name
        assert "UTC" in schedule.description
    assert all(len(sensor.description or "") > 40 for sensor in installation.defs.sensors)


def test_the_next_ticks_that_are_announced_are_those_of_the_schedules(installation):
    now = START + hours(30) + timedelta(minutes=3)
    for schedule in installation.defs.schedules:
        if schedule.name in TICKS:
            ticks = cron_string_iterator(now.timestamp(), schedule.cron_schedule, "UTC")
            assert next_ticks(now)[schedule.name] == next(ticks)


def test_missed_windows_are_asked_for_and_a_gap_in_readings_stays_a_gap(installation):
    now = START + hours(5)
    installation.clock.at = now
    assert installation.run(INGEST, START, START + hours(1)).success
    requests = sensors.missing_windows(installation.pipeline, now)
    assert [request.job_name for request in requests] == [INGEST]
    assert requests[0].tags[sensors.RANGE_START] == key_of(START + hours(1) + TEN_MINUTES)
    assert requests[0].tags[sensors.RANGE_END] == key_of(now - timedelta(minutes=30))

    # readings are missing from hour 1 to hour 5: the window has no end count, and says so
    assert installation.run(ATTRIBUTE, START, START + hours(2)).success
    rows = installation.rows("follower_deltas", "window_start")
    assert [row["delta"] for row in rows] == ["None", "None"]
    assert all(row["gap_reason"] != "None" for row in rows)


def test_after_downtime_no_follower_is_lost_or_counted_twice(installation):
    end = START + hours(12)
    installation.clock.at = end + timedelta(minutes=20)
    for first, last in ((0, 3), (9, 12)):
        assert installation.run(INGEST, START + hours(first), START + hours(last)).success
    assert installation.run(ATTRIBUTE, START, end - TWO_HOURS).success
    merged = installation.rows("follower_deltas", "window_start")
    assert [row["covers_from"] != row["window_start"] for row in merged].count(True) >= 1

    for _ in range(4):  # each pass of the sensor asks for what the one before made possible
        for request in sensors.missing_windows(installation.pipeline, installation.clock.at):
            first = request.tags.get(sensors.RANGE_START, request.partition_key)
            last = request.tags.get(sensors.RANGE_END, first)
            if request.job_name in (INGEST, ATTRIBUTE):
                times = [
                    datetime.strptime(key, "%Y-%m-%d-%H:%M").replace(tzinfo=UTC)
                    for key in (first, last)
                ]
                assert installation.run(request.job_name, *times).success

    rows = installation.rows("follower_deltas", "window_start")
    known = [row for row in rows if row["delta"] != "None"]
    assert all(row["covers_from"] == row["window_start"] for row in known)
    assert len(known) == 5  # the first has nothing before it to compare with
    counts = installation.rows("follower_counts", "observed_at")
    at = {row["observed_at"]: int(row["followers_count"]) for row in counts}
    change = at[str(end - TEN_MINUTES)] - at[str(START + TWO_HOURS - TEN_MINUTES)]
    assert sum(int(row["delta"]) for row in known) == change
    assert conserved(installation).off < 1e-6


def test_an_account_has_one_live_source(installation):
    installation.clock.at = START + hours(1)
    assert installation.run(INGEST, START + hours(1)).success
    with installation.pipeline.write() as connection:
        connection.execute(
            text("UPDATE genopt.source_states SET value = '\"x_api\"' WHERE source = 'live'")
        )
    refused = installation.run(INGEST, START + hours(1))
    assert not refused.success
    error = refused.get_step_failure_events()[0].step_failure_data.error
    assert "would be mixed" in str(error)


def test_a_publication_that_never_happened_is_asked_for_again(installation):
    now = START + hours(12) + timedelta(minutes=30)
    installation.clock.at = now
    assert installation.run(INGEST, START, START + hours(12) + timedelta(minutes=30)).success
    assert installation.run(ATTRIBUTE, START, START + hours(10)).success
    assert installation.run(OPTIMIZE, START + hours(6)).success
    jobs = [item.job_name for item in sensors.missing_windows(installation.pipeline, now)]
    assert jobs == [PUBLISH]
    assert installation.run(PUBLISH).success
    assert sensors.missing_windows(installation.pipeline, now) == []


def test_too_few_posts_change_nothing_and_an_event_says_why(installation):
    now = START + hours(12) + timedelta(minutes=13)
    installation.catch_up(START, now)
    before = live(installation)
    assert before.version == 1
    with installation.pipeline.read() as connection:
        newest = weight_store.recent_events(connection, "main")[0]
    assert newest["event_type"] == "skipped"
    assert "20" in newest["reason"]


def test_a_window_of_the_future_or_before_the_account_is_refused(installation):
    installation.clock.at = START + hours(12)
    assert installation.run(INGEST, START + hours(6)).success
    early = installation.run(INGEST, START)
    assert not early.success
    text_of_failure = str(early.get_step_failure_events()[0].step_failure_data.error)
    assert "cannot serve the window" in text_of_failure


def test_a_change_made_meanwhile_is_not_overwritten(installation):
    now = START + timedelta(days=3, minutes=5)
    installation.catch_up(START, now - timedelta(minutes=10))
    installation.clock.at = now
    last = START + timedelta(days=3)
    assert installation.run(INGEST, last - hours(1), last).success
    assert installation.run(ATTRIBUTE, START + timedelta(days=3) - TWO_HOURS).success
    assert installation.run(OPTIMIZE, START + timedelta(days=3) - SIX_HOURS).success
    with installation.pipeline.write() as connection:
        weights = weight_store.live_weights(connection, "main")
        weight_store.change_weights(
            connection,
            "main",
            weights.generators,
            expected_version=weights.version,
            effective_at=now,
            event=weight_store.Event("manual_override", reason="a person said so"),
        )
    changed = live(installation)
    assert installation.run(PUBLISH).success
    assert live(installation) == changed
    with installation.pipeline.read() as connection:
        assert weight_store.recent_events(connection, "main")[0]["event_type"] == "refused"
