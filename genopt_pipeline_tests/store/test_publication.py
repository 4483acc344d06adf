"""What a publication writes: weights, statuses and events, together or not at all."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.store import snapshots
from genopt_pipeline.store import weights as weight_store

START = datetime(2026, 10, 1, tzinfo=UTC)
CYCLE = timedelta(hours=6)
FAILS = {"viral": None, "failing": True, "figures": "F/1K 0 over 12 posts in 7 days"}
FINE = {"viral": False, "failing": False, "figures": "F/1K 2 over 12 posts in 7 days"}
VIRAL = {"viral": True, "failing": False, "figures": "F/1K 8 over 12 posts in 7 days"}
UNKNOWN = {"viral": None, "failing": None, "figures": "0 measured posts in 7 days"}


@pytest.fixture
def cycle(engine):
    """Writes the snapshot of the next window, publishes it, and returns the event types."""
    state = {"n": 0}

    def run(judged, *, decision="proposed", backfilled=False, publish=True, shift=0.0):
        start = START + state["n"] * CYCLE
        state["n"] += 1
        with engine.begin() as connection:
            live = weight_store.live_weights(connection, "main")
            weights = dict(live.by_name)
            weights["coach"] = round(weights["coach"] + shift, 4)
            weights["humanVoice"] = round(weights["humanVoice"] - shift, 4)
            snapshots.write_snapshot(
                connection,
                "main",
                {
                    "window_start": start,
                    "window_end": start + CYCLE,
                    "decision": decision,
                    "reason": "3 posts in 7 days" if decision == "skipped" else None,
                    "policy": "exponential",
                    "weights": weights,
                    "proposal": {"changes": [{"generator": "coach", "reason": "rank 1 of 12"}]},
                    "shadow": {},
                    "base_version": live.version,
                    "inputs": {
                        "posts": 105,
                        "window_days": 7,
                        "top_performer": "coach",
                        "top_performer_f_per_1k": 8.0,
                        "bottom_performer": "explorer",
                        "bottom_performer_f_per_1k": 0.0,
                        "judged": judged,
                    },
                    "code_version": "0",
                    "backfilled": backfilled,
                },
            )
        if publish:
            return again(start)
        return start

    def again(start):
        with engine.begin() as connection:
            before = len(weight_store.recent_events(connection, "main", 1000))
            snapshots.publish_current(
                connection,
                "main",
                now=start + CYCLE + timedelta(minutes=13),
                created_by="a test",
                execution_time_ms=12.5,
            )
            events = weight_store.recent_events(connection, "main", 1000)
        return [event["event_type"] for event in reversed(events[: len(events) - before])]

    run.again = again
    run.state = state
    return run


def live(engine):
    with engine.connect() as connection:
        return weight_store.live_weights(connection, "main")


def newest(engine, event_type):
    with engine.connect() as connection:
        events = weight_store.recent_events(connection, "main", 1000)
    return next(event for event in events if event["event_type"] == event_type)


def test_a_weight_update_shows_exactly_what_was_stored(engine, cycle):
    assert cycle({}, shift=0.01) == ["weight_update"]
    event = newest(engine, "weight_update")
    assert {name: float(weight) for name, weight in event["weights_after"].items()} == live(
        engine
    ).by_name
    assert event["changes"] == [
        {
            "generator": "coach",
            "old_weight": DEFAULT_WEIGHTS["coach"],
            "new_weight": 0.09,
            "change_percent": 12.5,
            "significant": True,
            "reason": "rank 1 of 12",
        },
        {
            "generator": "humanVoice",
            "old_weight": DEFAULT_WEIGHTS["humanVoice"],
            "new_weight": 0.14,
            "change_percent": -6.67,
            "significant": True,
            "reason": event["reason"],
        },
    ]
    assert event["generators_updated"] == 2
    shown = {
        "posts_analyzed": 105,
        "period_days": 7,
        "top_performer": "coach",
        "top_performer_f_per_1k": 8.0,
        "bottom_performer": "explorer",
        "bottom_performer_f_per_1k": 0.0,
        "execution_time_ms": 12.5,
        "created_by": "a test",
        "window_start": START,
        "window_end": START + CYCLE,
        "effective_at": START + CYCLE + timedelta(minutes=13),
    }
    assert {key: event[key] for key in shown} == shown


def test_unchanged_weights_are_counted_as_no_update(engine, cycle):
    assert cycle({}) == ["weight_update"]
    event = newest(engine, "weight_update")
    assert event["generators_updated"] == 0
    assert event["changes"] == []


def test_a_viral_episode_is_one_event_however_many_cycles_see_it(engine, cycle):
    assert cycle({"coach": VIRAL}, shift=0.01) == ["viral_boost", "weight_update"]
    event = newest(engine, "viral_boost")
    assert event["changes"][0]["generator"] == "coach"
    assert (event["changes"][0]["old_weight"], event["changes"][0]["new_weight"]) == (0.08, 0.09)
    assert event["generators_updated"] == 0  # the update beside it counts them
    assert "went viral: F/1K 8" in event["reason"]
    for judged in (VIRAL, UNKNOWN, VIRAL):
        assert cycle({"coach": judged}) == ["weight_update"]
    assert cycle({"coach": FINE}) == ["viral_ended", "weight_update"]
    assert cycle({"coach": FINE}) == ["weight_update"]
    assert cycle({"coach": VIRAL}) == ["viral_boost", "weight_update"]


def test_a_failing_generator_is_in_testing_until_it_recovers(engine, cycle):
    assert cycle({"explorer": FAILS}) == ["failure_detected", "weight_update"]
    assert live(engine).generators["explorer"].status == "testing"
    for judged in (FAILS, UNKNOWN):
        assert cycle({"explorer": judged}) == ["weight_update"]
        assert live(engine).generators["explorer"].status == "testing"
    assert cycle({"explorer": FINE}) == ["recovered", "weight_update"]
    assert live(engine).generators["explorer"].status == "active"
    states = newest(engine, "weight_update")["states_after"]
    assert states["explorer"] == {"status": "active", "locked": False}


def test_a_skipped_cycle_judges_nobody_and_is_told_once(engine, cycle):
    start = cycle({"coach": VIRAL, "explorer": FAILS}, decision="skipped", publish=False)
    before = live(engine)
    assert cycle.again(start) == ["skipped"]
    assert cycle.again(start) == []
    assert live(engine) == before
    event = newest(engine, "skipped")
    assert event["reason"] == "3 posts in 7 days"
    assert event["posts_analyzed"] == 105


def test_a_publication_repeated_and_a_backfill_write_no_event(engine, cycle):
    start = cycle({"coach": VIRAL}, publish=False)
    assert cycle.again(start) == ["viral_boost", "weight_update"]
    assert cycle.again(start) == []
    assert cycle({"coach": FINE, "explorer": FAILS}, backfilled=True) == []
    assert cycle({"coach": VIRAL, "explorer": FINE}) == ["weight_update"]


def test_a_publication_that_fails_leaves_neither_event_nor_status(engine, cycle):
    start = cycle({"explorer": FAILS}, publish=False)
    before = live(engine)

    def fail_midway():
        with engine.begin() as connection:
            snapshots.publish_current(
                connection, "main", now=start + CYCLE + timedelta(minutes=13), created_by="a test"
            )
            connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(Exception, match="division by zero"):
        fail_midway()
    assert live(engine) == before
    assert cycle.again(start) == ["failure_detected", "weight_update"]


def test_a_generator_that_left_the_draw_begins_anew(engine, cycle):
    cycle({"explorer": FAILS})
    now = START + 10 * CYCLE
    for status, weight in (("disabled", "0"), ("active", "0.0200")):
        with engine.begin() as connection:
            before = weight_store.live_weights(connection, "main")
            rows = dict(before.generators)
            rows["explorer"] = weight_store.GeneratorRow(
                weight_store.quantize(weight), status, locked=False
            )
            given = rows["coach"].weight + before.generators["explorer"].weight
            rows["coach"] = weight_store.GeneratorRow(
                given - rows["explorer"].weight, "active", locked=False
            )
            weight_store.change_weights(
                connection,
                "main",
                rows,
                expected_version=before.version,
                effective_at=now,
                event=weight_store.Event("generator_disabled"),
            )
    cycle.state["n"] = 11
    assert cycle({"explorer": FAILS}) == ["failure_detected", "weight_update"]
