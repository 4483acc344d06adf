"""What weightings are worth, told by posts, by the model, by the holdout; and whether draws fit."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from genopt_pipeline.core.appraisal import (
    DrawCount,
    appraise,
    binding_guard,
    check_draws,
    default_weights,
)
from genopt_pipeline.core.guards import GuardConfig
from genopt_pipeline.core.policies import GeneratorState, OptimizerConfig, propose_weights
from genopt_pipeline.core.selection import arm_weights, draw

NOW = datetime(2026, 5, 1, tzinfo=UTC)
RATES = {"a": 1.0, "b": 2.0, "c": 6.0, "idle": 3.0}
WEIGHTS = {"a": 0.4, "b": 0.4, "c": 0.2, "idle": 0.0}
STATES = {name: GeneratorState(weight) for name, weight in WEIGHTS.items()} | {
    "idle": GeneratorState(0.0, "disabled")
}
NO_DRAWS = check_draws([], {}, {})


def posts_of(count=600, seed=0, weights=WEIGHTS, holdout=0.0, first=WEIGHTS):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        arm = "holdout" if rng.random() < holdout else "control"
        name, probability = draw(first if arm == "holdout" else weights, rng.random())
        impressions = float(np.round(rng.lognormal(7, 0.6)))
        rows.append(
            {
                "post_id": f"p{i}",
                "generator_name": name,
                # old enough to have all that they will ever have
                "posted_at": NOW - timedelta(days=5 + 24 * i / count),
                "experiment_arm": arm,
                "selection_probability": probability,
                "impressions": impressions,
                "followers": float(rng.poisson(RATES[name] * impressions / 1000)),
            }
        )
    frame = pd.DataFrame(rows)
    frame["posted_at"] = pd.to_datetime(frame["posted_at"], utc=True)
    return frame


def appraised(posts, **weightings):
    return appraise(posts, STATES, weightings, default=WEIGHTS, draws=NO_DRAWS, now=NOW)


def test_both_ways_of_knowing_find_what_weights_would_earn():
    best = {"a": 0.1, "b": 0.1, "c": 0.8}
    found = appraised(posts_of(3000), proposed=best)
    truth = sum(best[name] * RATES[name] for name in best)
    proposed, in_force = found.of("proposed"), found.of("in_force")
    for value in (proposed.off_policy, proposed.model):
        assert value.low < value.f_per_1k < value.high
        assert value.f_per_1k == pytest.approx(truth, rel=0.15)
    assert proposed.over_in_force.low > 0.5
    assert in_force.over_in_force.gain == 0
    assert found.as_drawn == in_force.off_policy
    assert found.of("default").over_default.gain == 0
    assert found.of("nothing") is None


def test_weight_on_generators_that_never_posted_is_told_as_untried():
    found = appraised(posts_of(100), proposed={"a": 0.5, "idle": 0.5})
    assert found.of("proposed").untried == 0.5
    assert found.of("in_force").untried == 0.0


def test_unknown_probabilities_leave_the_posts_out_and_nothing_is_guessed():
    posts = posts_of(50)
    posts["selection_probability"] = np.nan
    found = appraised(posts)
    assert found.as_drawn.f_per_1k is None
    assert found.as_drawn.left_out == 50
    assert found.of("in_force").off_policy.f_per_1k is None
    assert found.of("in_force").model.f_per_1k is not None
    assert found.holdout.gain is None
    assert found.to_dict()["as_drawn"]["f_per_1k"] is None


def test_an_account_without_posts_is_worth_nothing_known():
    found = appraised(posts_of(1).iloc[:0])
    for worth in found.worths:
        assert worth.off_policy.f_per_1k is None
        assert worth.model.f_per_1k is None
        assert worth.over_default.gain is None
    assert found.draws.ratio.p_value is None
    assert not found.draws.is_mismatch


def test_the_holdout_measures_what_learning_earns():
    learned = {"a": 0.1, "b": 0.1, "c": 0.8, "idle": 0.0}
    posts = posts_of(2000, weights=learned, holdout=0.3, first=WEIGHTS)
    truth = 5.1 / 2.4 - 1
    found = appraised(posts)
    assert found.holdout.low < truth < found.holdout.high
    assert found.holdout.holdout_posts == (posts["experiment_arm"] == "holdout").sum()
    # posts of other arms belong to neither side
    posts.loc[posts.index[:500], "experiment_arm"] = "variant_a"
    assert appraised(posts).holdout.posts < found.holdout.posts


def test_young_posts_do_not_make_the_weights_that_favour_them_look_poor():
    posts = posts_of(2000)
    young = posts.assign(
        posted_at=NOW - timedelta(hours=4),
        # at four hours 39 % of the impressions have come and 22 % of the followers
        impressions=posts["impressions"] * -math.expm1(-4 / 8),
        followers=posts["followers"] * -math.expm1(-4 / 16),
    )
    old = appraised(posts).as_drawn.f_per_1k
    assert appraised(young).as_drawn.f_per_1k == pytest.approx(old, rel=0.02)


def counts_of(posts, version=1):
    grouped = posts.groupby(["experiment_arm", "generator_name"]).size()
    return [DrawCount(version, arm, name, int(n)) for (arm, name), n in grouped.items()]


def test_honest_draws_of_several_versions_and_arms_fit_and_others_do_not():
    second = {"a": 0.1, "b": 0.2, "c": 0.7, "idle": 0.0}
    counts = counts_of(posts_of(800, holdout=0.2)) + counts_of(
        posts_of(800, seed=1, weights=second, holdout=0.2), version=2
    )
    versions = {1: WEIGHTS, 2: second}
    found = check_draws(counts, versions, WEIGHTS)
    assert sum(found.expected.values()) == pytest.approx(1600)
    assert found.ratio.posts == 1600
    assert not found.is_mismatch
    # drawn by the first weights all along, though the second were in force
    stale = counts_of(posts_of(1600, holdout=0.2), version=2)
    assert check_draws(stale, versions, WEIGHTS).is_mismatch


def test_each_arm_is_held_to_its_own_probabilities():
    flat = arm_weights(WEIGHTS, "variant_a")
    posts = posts_of(3000, weights=flat).assign(experiment_arm="variant_a")
    assert not check_draws(counts_of(posts), {1: WEIGHTS}, WEIGHTS).is_mismatch
    as_control = posts.assign(experiment_arm="control")
    assert check_draws(counts_of(as_control), {1: WEIGHTS}, WEIGHTS).is_mismatch


def test_a_draw_that_had_no_probability_is_a_mismatch_by_itself_and_unknown_ones_are_left_out():
    impossible = check_draws([DrawCount(1, "control", "idle", 1)], {1: WEIGHTS}, WEIGHTS)
    assert impossible.is_mismatch
    assert impossible.ratio.impossible == ("idle",)
    unknown = [
        DrawCount(None, "control", "a", 2),
        DrawCount(1, None, "a", 3),
        DrawCount(9, "control", "a", 4),
        DrawCount(1, "another arm", "a", 5),
    ]
    found = check_draws(unknown, {1: WEIGHTS}, WEIGHTS)
    assert found.left_out == 14
    assert not found.observed


def test_default_weights_are_those_of_the_generators_that_are_drawn():
    now = {"a": 0.5, "b": 0.0, "c": 0.5}
    assert default_weights(now, {"a": 0.2, "b": 0.6, "c": 0.2}) == {"a": 0.5, "b": 0.0, "c": 0.5}


@pytest.mark.parametrize("policy", ["thompson", "exponential"])
def test_the_guard_that_is_named_is_the_one_that_the_proposal_tells_of(policy):
    states = {name: GeneratorState(weight) for name, weight in WEIGHTS.items()} | {
        "idle": GeneratorState(0.0, "disabled"),
        "b": GeneratorState(0.4, locked=True),
        "a": GeneratorState(0.02),
        "c": GeneratorState(0.58),
    }
    config = OptimizerConfig(policy=policy)
    proposal = propose_weights(posts_of(200), states, now=NOW, config=config)
    named = {
        name: binding_guard(
            state=state,
            decision=proposal.decision,
            target=proposal.diagnostics["target"][name],
            unrounded=proposal.unrounded_weights[name],
            floor=proposal.diagnostics["floor"],
            cap=config.guards.cap,
            step=config.guards.step,
        )
        for name, state in states.items()
    }
    told = proposal.explanations
    assert named["idle"] == "not_drawn"
    assert "not drawn" in told["idle"]
    assert named["b"] == "lock"
    assert "locked" in told["b"]
    for name in ("a", "c"):
        words = {"floor": "held at the floor", "cap": "held at the cap", "room": "to make room"}
        assert [key for key, word in words.items() if word in told[name]] == [
            key for key in words if key == named[name]
        ]


def test_a_reason_does_not_tell_of_a_shift_that_is_next_to_nothing():
    states = {"a": GeneratorState(0.06), "b": GeneratorState(0.4), "c": GeneratorState(0.54)}
    config = OptimizerConfig(guards=GuardConfig(floor=0.06))
    proposal = propose_weights(posts_of(2000), states, now=NOW, config=config)
    assert proposal.decision == "proposed"
    for name in ("b", "c"):
        target = proposal.diagnostics["target"][name]
        stepped = states[name].weight + config.guards.step * (target - states[name].weight)
        assert 5e-5 < abs(proposal.unrounded_weights[name] - stepped) < 0.05 * stepped
        assert "shifted" not in proposal.explanations[name]


def guard(**changes):
    known = {
        "state": GeneratorState(0.1),
        "decision": "proposed",
        "target": 0.4,
        "unrounded": 0.19,
        "floor": 0.02,
        "cap": 0.3,
        "step": 0.3,
    }
    return binding_guard(**(known | changes))


def test_each_guard_has_its_name():
    assert guard() == "step"
    assert guard(decision="skipped") == "gate"
    assert guard(target=0.1, unrounded=0.1) == "none"
    assert guard(state=GeneratorState(0.025), target=0.0, unrounded=0.02) == "floor"
    assert guard(state=GeneratorState(0.29), target=0.9, unrounded=0.3) == "cap"
    assert guard(unrounded=0.05) == "room"


def test_what_moved_the_weight_further_is_named_and_next_to_nothing_is_not():
    assert guard(unrounded=0.18) == "step"  # 0.09 by the step, 0.01 for others
    storyteller = {"state": GeneratorState(0.12), "target": 0.0123}
    assert guard(**storyteller, unrounded=0.0875) == "step"
    assert guard(target=0.1, unrounded=0.0999) == "none"
    assert guard(target=0.1, unrounded=0.09) == "room"
