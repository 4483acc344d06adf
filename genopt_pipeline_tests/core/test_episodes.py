"""An episode begins once and ends once, however often the same posts are looked at."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.core.changes import change_percent, describe_changes, is_significant
from genopt_pipeline.core.episodes import (
    BEGINS,
    ENDS,
    PROVEN,
    EpisodeConfig,
    Judgement,
    follow,
    judge,
)
from genopt_pipeline.core.performance import summarize
from genopt_pipeline.core.policies import GeneratorState, OptimizerConfig, propose_weights

NOW = datetime(2026, 10, 1, tzinfo=UTC)
STATES = {name: GeneratorState(0.25) for name in ("a", "b", "c", "d")}


def posts_of(by_name):
    """One frame of posts; for each generator its posts as (impressions, followers)."""
    rows = [(name, *post) for name, posts in by_name.items() for post in posts]
    frame = pd.DataFrame(
        {
            "post_id": [f"p{i}" for i in range(len(rows))],
            "decision_id": [f"p{i}" for i in range(len(rows))],
            "generator_name": [row[0] for row in rows],
            "posted_at": [NOW - timedelta(hours=30 + i / 10) for i in range(len(rows))],
            "impressions": [float(row[1]) for row in rows],
            "followers": [float(row[2]) for row in rows],
            "selection_probability": 0.25,
        }
    )
    frame["posted_at"] = pd.to_datetime(frame["posted_at"], utc=True)
    frame[["likes", "retweets", "replies", "quality_score"]] = np.nan
    return frame


def judged(by_name, policy="exponential", states=STATES):
    posts = posts_of(by_name)
    proposal = propose_weights(posts, states, now=NOW, config=OptimizerConfig(policy=policy))
    return judge(summarize(posts, list(states), now=NOW), proposal, states)


AVERAGE = [(1000, 2.0)] * 12


@pytest.mark.parametrize("policy", ["exponential", "thompson"])
def test_a_generator_is_viral_above_five_with_a_viral_post_and_no_longer_at_four(policy):
    def says(posts):
        return judged({"a": posts, "b": AVERAGE, "c": AVERAGE}, policy)["a"].viral

    assert says([(1000, 8.0)] * 4) is True
    assert says([(1000, 5.0)] * 4) is None  # exactly 5 is excellent, and above 4
    assert says([(1000, 4.0)] * 4) is False
    assert says([(1000, 8.0)] * 2) is None  # two posts judge nobody
    assert says([(90, 8.0)] * 4) is None  # no post that more than a hundred people saw


@pytest.mark.parametrize("policy", ["exponential", "thompson"])
def test_a_generator_that_earns_nobody_fails_and_one_without_posts_is_not_judged(policy):
    result = judged({"a": [(1000, 0.0)] * 30, "b": AVERAGE, "c": AVERAGE}, policy)
    assert result["a"].failing is True
    assert result["b"].failing is False
    assert result["d"].failing is None
    assert result["d"].viral is None


def test_under_thompson_a_generator_recovers_when_failing_is_as_improbable_as_not():
    def says(followers):
        posts = {"a": [(1000, followers)] * 30, "b": AVERAGE * 3, "c": AVERAGE * 3}
        return judged(posts, "thompson")["a"]

    states = [says(followers / 20).failing for followers in range(21)]
    assert states[0] is True
    assert states[-1] is False
    order = [True, None, False]
    assert sorted(states, key=order.index) == states
    assert None in states  # between the two bounds nothing changes


def test_a_generator_that_is_not_drawn_is_not_judged():
    states = STATES | {"a": GeneratorState(0.0, "disabled"), "b": GeneratorState(0.5)}
    result = judged({"a": [(1000, 8.0)] * 12, "b": AVERAGE, "c": AVERAGE}, states=states)
    assert "a" not in result


NOTHING = Judgement(None, None, "no posts")
FAILS = Judgement(False, True, "F/1K 0")
FINE = Judgement(False, False, "F/1K 2")
VIRAL = Judgement(True, False, "F/1K 8")


def types(outcome):
    return [transition.event_type for transition in outcome.transitions]


def test_a_failing_generator_goes_to_testing_once_and_comes_back_by_itself():
    states = {"a": GeneratorState(1.0)}
    begun = follow(states, set(), {"a": FAILS})
    assert types(begun) == ["failure_detected"]
    assert begun.statuses == {"a": "testing"}
    states = {"a": GeneratorState(1.0, "testing")}
    for still in (FAILS, NOTHING, FAILS):
        again = follow(states, {("failing", "a")}, {"a": still})
        assert types(again) == []
        assert again.statuses == {"a": "testing"}
    over = follow(states, {("failing", "a")}, {"a": FINE})
    assert types(over) == ["recovered"]
    assert over.statuses == {"a": "active"}


def test_a_new_generator_leaves_testing_once_it_has_been_judged():
    states = {"a": GeneratorState(1.0, "testing")}
    assert types(follow(states, set(), {"a": NOTHING})) == []
    proven = follow(states, set(), {"a": FINE})
    assert types(proven) == [PROVEN]
    assert proven.statuses == {"a": "active"}


def test_a_locked_generator_keeps_its_status_and_its_episodes_are_told():
    states = {"a": GeneratorState(1.0, "active", locked=True)}
    begun = follow(states, set(), {"a": FAILS})
    assert types(begun) == ["failure_detected"]
    assert begun.statuses == {"a": "active"}


@given(st.lists(st.sampled_from([NOTHING, FAILS, FINE, VIRAL]), max_size=30))
def test_beginnings_and_ends_take_turns_whatever_the_windows_say(windows):
    states, open_episodes, events = {"a": GeneratorState(1.0)}, set(), []
    for window in windows:
        outcome = follow(states, open_episodes, {"a": window})
        states = {"a": GeneratorState(1.0, outcome.statuses["a"])}
        for event_type in types(outcome):
            events.append(event_type)
            for kind in BEGINS:
                if event_type == BEGINS[kind]:
                    open_episodes.add((kind, "a"))
                if event_type == ENDS[kind]:
                    open_episodes.remove((kind, "a"))
        assert (("failing", "a") in open_episodes) == (states["a"].status == "testing")
    for kind in BEGINS:
        turns = [event for event in events if event in (BEGINS[kind], ENDS[kind])]
        assert turns == [(BEGINS[kind], ENDS[kind])[i % 2] for i in range(len(turns))]


def test_an_end_beyond_the_beginning_is_refused():
    with pytest.raises(ValueError, match="at or below"):
        EpisodeConfig(viral_f_per_1k=4.0, viral_ends_f_per_1k=5.0)


def test_a_change_is_significant_relative_to_the_generators_own_weight():
    assert change_percent(0.02, 0.03) == 50.0
    assert is_significant(0.02, 0.03)
    assert not is_significant(0.40, 0.41)
    assert is_significant(0.02, 0.021)
    assert not is_significant(0.02, 0.0209)
    assert change_percent(0, 0.05) is None
    assert is_significant(0, 0.05)
    assert not is_significant(0, 0)
    changes = describe_changes(
        {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.6, "b": 0.3, "c": 0.1}, {"a": "best"}, otherwise="?"
    )
    assert [(change["generator"], change["reason"]) for change in changes] == [
        ("a", "best"),
        ("c", "?"),
    ]
