"""Alerts are episodes: they begin once, end once, and do not end because data went missing."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.core.alerts import (
    Alert,
    AlertChange,
    AlertConfig,
    Findings,
    find_alerts,
    transitions,
    webhook_payload,
)
from genopt_pipeline.core.evaluation import sample_ratio
from genopt_pipeline.core.health import HealthObservations, check_health
from genopt_pipeline.core.performance import summarize

NOW = datetime(2026, 9, 1, tzinfo=UTC)
WEIGHTS = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}


def table(posts_by_name, generators=tuple(WEIGHTS)):
    """A summary; for each generator a list of (impressions, followers)."""
    rows = [
        (name, impressions, followers)
        for name, posts in posts_by_name.items()
        for impressions, followers in posts
    ]
    frame = pd.DataFrame(
        {
            "decision_id": [f"d{i}" for i in range(len(rows))],
            "generator_name": [row[0] for row in rows],
            "posted_at": [NOW - timedelta(hours=1 + i / 100) for i in range(len(rows))],
            "impressions": [row[1] for row in rows],
            "followers": [row[2] for row in rows],
        }
    )
    frame["posted_at"] = pd.to_datetime(frame["posted_at"], utc=True)
    frame[["likes", "retweets", "replies", "quality_score"]] = np.nan
    return summarize(frame, generators, now=NOW)


def keys(findings):
    return {alert.key for alert in findings.alerts}


AVERAGE = [(1000, 2.0)] * 20


def test_an_even_account_gives_no_alerts():
    summary = table(dict.fromkeys(WEIGHTS, AVERAGE))
    assert find_alerts(summary, weights=WEIGHTS).alerts == ()


def test_a_viral_and_a_failing_generator_are_found_with_their_numbers():
    summary = table({"a": [(1000, 9.0)] * 5, "b": [(1000, 0.0)] * 12, "c": AVERAGE})
    found = find_alerts(summary, weights=WEIGHTS)
    by_key = {alert.key: alert for alert in found.alerts}
    assert {"viral:a", "failing:b"} <= by_key.keys()
    assert by_key["viral:a"].details["f_per_1k"] == 9.0
    assert by_key["failing:b"].severity == "warning"
    assert json.loads(json.dumps(by_key["viral:a"].details))
    assert "viral:d" in found.unjudged


def test_a_viral_episode_ends_lower_than_it_begins():
    between = table({"a": [(1000, 4.5)] * 5})
    assert "viral:a" not in keys(find_alerts(between, weights=WEIGHTS))
    assert "viral:a" in keys(find_alerts(between, weights=WEIGHTS, open_keys={"viral:a"}))
    below = table({"a": [(1000, 4.0)] * 5})
    assert "viral:a" not in keys(find_alerts(below, weights=WEIGHTS, open_keys={"viral:a"}))


def test_merit_without_weight_is_under_used_and_weight_without_merit_is_over_used():
    summary = table({"a": [(1000, 9.0)] * 30, "b": [(1000, 0.5)] * 30, "c": AVERAGE, "d": AVERAGE})
    skewed = {"a": 0.02, "b": 0.58, "c": 0.2, "d": 0.2}
    assert {"under_used:weight:a", "over_used:weight:b"} <= keys(
        find_alerts(summary, weights=skewed)
    )
    learned = {"a": 0.58, "b": 0.02, "c": 0.2, "d": 0.2}
    assert not any("weight" in key for key in keys(find_alerts(summary, weights=learned)))
    disabled = {"a": 0.0, "b": 0.6, "c": 0.2, "d": 0.2}
    assert "under_used:weight:a" not in keys(find_alerts(summary, weights=disabled))


def test_a_generator_drawn_far_from_its_weight_is_reported_and_one_near_it_is_not():
    summary = table({"a": AVERAGE * 3, "b": AVERAGE})
    found = find_alerts(
        summary, weights=WEIGHTS, expected_posts={"a": 20.0, "b": 20.0, "c": 20.0, "d": 20.0}
    )
    assert {k for k in keys(found) if ":draw:" in k} == {
        "over_used:draw:a",
        "under_used:draw:c",
        "under_used:draw:d",
    }


def test_a_draw_that_ignores_the_weights_is_a_mismatch_and_too_few_posts_are_no_verdict():
    off = sample_ratio({"a": 90, "b": 10}, {"a": 50, "b": 50})
    assert keys(find_alerts(None, weights=WEIGHTS, sample_ratio=off)) == {"sample_ratio"}
    fair = sample_ratio({"a": 48, "b": 52}, {"a": 50, "b": 50})
    assert not find_alerts(None, weights=WEIGHTS, sample_ratio=fair).alerts
    few = find_alerts(None, weights=WEIGHTS, sample_ratio=sample_ratio({"a": 1}, {"a": 1}))
    assert "sample_ratio" in few.unjudged
    impossible = sample_ratio({"a": 1, "b": 0}, {"a": 0.0, "b": 1.0})
    found = find_alerts(None, weights=WEIGHTS, sample_ratio=impossible)
    assert "a, which had no weight" in found.alerts[0].message


def test_stale_data_are_an_alert_and_an_account_without_data_is_not():
    old = HealthObservations(weights={"a": 1.0}, last_metrics_at=NOW - timedelta(hours=7))
    found = find_alerts(None, weights={"a": 1.0}, health=check_health(old, now=NOW))
    assert keys(found) == {"stale_data:metrics"}
    assert found.alerts[0].severity == "critical"
    new = check_health(HealthObservations(weights={"a": 1.0}), now=NOW)
    assert not find_alerts(None, weights={"a": 1.0}, health=new).alerts


def test_a_budget_near_its_end_is_told_before_it_ends_and_once():
    near = HealthObservations(weights={"a": 1.0}, source_warnings=("66 of 80 posts are spent",))
    found = find_alerts(None, weights={"a": 1.0}, health=check_health(near, now=NOW))
    assert keys(found) == {"health:source"}
    assert "66 of 80 posts are spent" in found.alerts[0].message
    later = HealthObservations(weights={"a": 1.0}, source_warnings=("70 of 80 posts are spent",))
    found = find_alerts(None, weights={"a": 1.0}, health=check_health(later, now=NOW))
    assert keys(found) == {"health:source"}


def test_missing_data_and_an_unreadable_database_do_not_end_an_alert():
    is_open = {"viral:a": "info", "under_used:draw:b": "warning", "stale_data:metrics": "warning"}
    idle = find_alerts(table({}), weights=WEIGHTS, open_keys=is_open)
    assert transitions(is_open, idle).closed == ()
    down = check_health(HealthObservations(database_error="gone"), now=NOW)
    gone = find_alerts(None, weights=WEIGHTS, health=down, open_keys=is_open)
    assert transitions(is_open, gone).closed == ()
    assert [alert.key for alert in transitions(is_open, gone).opened] == ["health:database"]


def test_an_alert_about_a_generator_that_is_no_longer_registered_ends():
    is_open = {"viral:removed": "info"}
    found = find_alerts(table({"a": AVERAGE}), weights=WEIGHTS, open_keys=is_open)
    assert transitions(is_open, found).closed == ("viral:removed",)


states = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["info", "warning"]))


@given(st.lists(st.tuples(states, st.sets(st.sampled_from("abcdef"))), max_size=12))
def test_following_transitions_reports_each_episode_once_and_keeps_the_state(history):
    is_open: dict[str, str] = {}
    for holding, unjudged in history:
        alerts = tuple(Alert(k, "viral", s, k) for k, s in holding.items())
        current = Findings(alerts, frozenset(unjudged - holding.keys()))
        changed = transitions(is_open, current)
        for key in changed.closed:
            del is_open[key]
        for alert in changed.opened:
            assert alert.key not in is_open
            is_open[alert.key] = alert.severity
        assert holding.items() <= is_open.items()
        assert is_open.keys() - holding.keys() <= unjudged
        again = transitions(is_open, current)
        assert (again.opened, again.closed) == ((), ())


def change(**values):
    return AlertChange(
        **(
            {
                "account_id": "main",
                "key": "viral:<!channel>",
                "opened_at": NOW,
                "over": False,
                "at": NOW,
                "severity": "info",
                "message": "<!channel> & co is viral",
            }
            | values
        )
    )


def test_the_webhook_message_names_the_account_and_cannot_mention_a_channel():
    over = change(key="failing:b", over=True, message="b is failing", at=NOW + timedelta(hours=3))
    text = webhook_payload("main", [change(), over])["text"]
    assert "account main" in text
    assert "[over] b is failing (until 2026-09-01 03:00 UTC" in text
    assert "<" not in text
    assert "&lt;!channel&gt; &amp; co" in text


def test_a_change_has_one_id_however_often_it_is_told_and_every_change_another():
    later = {"at": NOW + timedelta(hours=1), "message": "other words", "severity": "warning"}
    assert change().change_id == change(**later).change_id
    others = [
        change(over=True),
        change(key="viral:b"),
        change(account_id="other"),
        change(opened_at=NOW + timedelta(seconds=1)),
    ]
    assert len({item.change_id for item in [change(), *others]}) == 5
    assert all(item.change_id in item.line for item in others)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="must end at or below"):
        AlertConfig(viral_f_per_1k=3.0)
    with pytest.raises(ValueError, match="draw_ratio"):
        AlertConfig(draw_ratio=1.0)
