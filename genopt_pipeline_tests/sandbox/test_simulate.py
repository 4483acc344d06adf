"""The closed loop compares policies on the same luck, against bounds that hold."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from genopt_pipeline.core.estimation import PostBatch
from genopt_pipeline.core.guards import GuardConfig
from genopt_pipeline.sandbox.contenders import CONTENDERS, Contender, thompson
from genopt_pipeline.sandbox.loop import (
    account_seeds,
    oracle_value,
    run_loop,
    step_rates,
    uniform_value,
)
from genopt_pipeline.sandbox.simulate import ratio_of_sums, simulate
from genopt_pipeline.sandbox.world import WORLDS

SEEDS = account_seeds(5, 6)
ALL = ("stationary", "drift", "switch", "new_arm", "heavy_tail", "null", "sparse", "shocks")


def test_the_same_seed_gives_the_same_result_and_an_account_does_not_see_the_others():
    world = WORLDS["stationary"]
    for name in ("exponential", "best_takes_all", "thompson"):
        one = run_loop(world, CONTENDERS[name], seeds=SEEDS, days=12)
        again = run_loop(world, CONTENDERS[name], seeds=SEEDS, days=12)
        assert (one.weights == again.weights).all()
        alone = run_loop(world, CONTENDERS[name], seeds=SEEDS[2:3], days=12)
        np.testing.assert_allclose(alone.weights[0], one.weights[2], atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_no_policy_beats_the_oracle_or_breaks_the_guards(name: str):
    world = WORLDS[name]
    guards = GuardConfig()
    days = 40 if name == "new_arm" else 10
    rates, exists = step_rates(world, SEEDS, days)
    oracle = oracle_value(rates, exists, guards)
    assert (oracle >= uniform_value(rates, exists) - 1e-12).all()
    for policy in ("exponential", "best_takes_all", "thompson"):
        track = run_loop(world, CONTENDERS[policy], seeds=SEEDS, days=days)
        np.testing.assert_allclose(track.weights.sum(axis=2), 1.0, atol=1e-12)
        assert (track.weights[:, ~exists] == 0).all()
        assert (track.weights[:, exists] >= guards.floor - 1e-12).all()
        assert (track.value <= oracle + 1e-9).all()
        jump = np.abs(np.diff(track.weights, axis=1)).max(axis=2)
        changed = (exists[1:] != exists[:-1]).any(axis=1)
        assert (jump[:, ~changed] <= guards.step + 1e-3).all()


def test_no_weight_moves_before_there_are_twenty_posts():
    world = replace(WORLDS["stationary"], posts_per_day=2.0)
    track = run_loop(world, CONTENDERS["thompson"], seeds=SEEDS, days=9)
    assert (track.weights == track.weights[:, :1]).all()


def test_a_policy_that_knows_the_best_generator_earns_almost_what_the_oracle_does():
    world = WORLDS["stationary"]
    rates, exists = step_rates(world, SEEDS, 30)
    best = rates[:, 0].argmax(axis=1)

    def knows(posts: PostBatch, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = np.zeros(present.shape)
        shares[np.arange(len(shares)), best] = 1.0
        return shares, np.ones(len(shares), dtype=bool)

    track = run_loop(world, Contender("knows", knows), seeds=SEEDS, days=30)
    oracle = oracle_value(rates, exists, GuardConfig())
    np.testing.assert_allclose(track.value[:, -1], oracle[:, -1], rtol=1e-3)


def test_policies_see_only_what_has_happened():
    seen: list[PostBatch] = []

    def looks(posts: PostBatch, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(replace(posts, followers=posts.followers.copy()))
        return present / present.sum(axis=1, keepdims=True), np.ones(len(present), dtype=bool)

    track = run_loop(WORLDS["stationary"], Contender("looks", looks), seeds=SEEDS, days=8)
    for before, after in itertools.pairwise(seen):
        n = len(before.account)
        assert (before.age_hours > 0).all()
        assert (after.generator[:n] == before.generator).all()
        assert (after.followers[:n] >= before.followers).all()
        assert (after.impressions[:n] >= before.impressions - 1e-9).all()
    total = np.bincount(seen[-1].account, weights=seen[-1].followers)
    assert (total <= track.follows).all()


def test_learning_pays_where_generators_differ():
    result = simulate(["dense"], ["uniform", "default", "thompson"], accounts=8, days=20, seed=3)
    table = result.table(20)["dense"]
    assert table["uniform"] == pytest.approx(0.0, abs=1e-12)
    assert table["oracle"] == pytest.approx(1.0)
    assert table["thompson"] > 0.3 > table["default"]


def test_where_reach_differs_followers_per_post_earn_more_followers_than_f_per_1k():
    world = replace(WORLDS["stationary"], posts_per_day=30.0, reach_spread=0.7)
    seeds = account_seeds(7, 10)
    earned = {
        objective: run_loop(
            world, Contender(objective, thompson(objective=objective)), seeds=seeds, days=25
        ).follows.sum()
        for objective in ("f_per_1k", "followers_per_post")
    }
    assert earned["followers_per_post"] > 1.15 * earned["f_per_1k"]


def test_a_world_without_a_gap_has_no_share_of_it():
    result = simulate(["null"], ["thompson"], accounts=4, days=6, seed=3)
    last = result.frame[result.frame["day"] == 6]
    assert last["captured"].isna().all()
    np.testing.assert_allclose(last["over_uniform"], 0.0, atol=1e-9)
    assert json.loads(result.to_json())["results"][0]["captured"] is None


def test_progress_rises_to_one():
    calls: list[float] = []
    simulate(
        ["stationary", "sparse"], ["uniform", "default"], accounts=2, days=2, progress=calls.append
    )
    assert calls == sorted(calls)
    assert calls[-1] == pytest.approx(1.0)


def test_a_ratio_of_sums_and_its_interval():
    whole = np.array([1.0, 2.0, 3.0, 4.0])
    assert ratio_of_sums(0.5 * whole, whole) == pytest.approx((0.5, 0.5, 0.5))
    ratio, low, high = ratio_of_sums(np.array([1.0, 0.0, 2.0, 3.0]), whole)
    assert ratio == pytest.approx(0.6)
    assert low < ratio < high
    assert all(math.isnan(value) for value in ratio_of_sums(whole, np.zeros(4)))


def test_unknown_names_and_too_few_accounts_are_refused():
    with pytest.raises(ValueError, match="unknown world 'mars'"):
        simulate(["mars"], ["uniform"])
    with pytest.raises(ValueError, match="unknown policy 'best'"):
        simulate(["null"], ["best"])
    with pytest.raises(ValueError, match="at least 2"):
        simulate(["null"], ["uniform"], accounts=1)
