"""Policies that learn from the follower count are told nothing that the count does not hold."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from genopt_pipeline.core.attribution.engine import solve
from genopt_pipeline.core.attribution.frames import Problem
from genopt_pipeline.core.attribution.split import Solved
from genopt_pipeline.core.attribution.step import solve_step
from genopt_pipeline.sandbox import attributed
from genopt_pipeline.sandbox.attributed import (
    DeltaFeedback,
    ExposureSource,
    from_deltas,
    observe_account,
)
from genopt_pipeline.sandbox.contenders import CONTENDERS
from genopt_pipeline.sandbox.loop import Observed, account_seeds, run_loop
from genopt_pipeline.sandbox.simulate import simulate
from genopt_pipeline.sandbox.world import WORLDS

SEEDS = account_seeds(2, 2)
DAYS = 6


@pytest.mark.parametrize("exposure", ["impressions", "profile_clicks"])
def test_what_the_windows_show_adds_up_to_what_happened(
    exposure: ExposureSource, monkeypatch: pytest.MonkeyPatch
):
    """Without organic growth an account's changes are the true follows of its posts."""
    world = replace(WORLDS["stationary"], organic_follows_per_day=0.0, unfollows_per_day=0.0)
    given: list[float] = []

    def watched(of: Callable[..., Solved]) -> Callable[..., Solved]:
        def solved(problem: Problem, *rest: Any, **options: Any) -> Solved:
            given.append(float(problem.delta.sum()))
            return of(problem, *rest, **options)

        return solved

    monkeypatch.setattr(attributed, "solve", watched(solve))
    monkeypatch.setattr(attributed, "solve_step", watched(solve_step))
    feedback = DeltaFeedback(world, SEEDS, exposure)
    true: list[float] = []
    credited: list[float] = []

    def watch(seen: Observed) -> tuple[np.ndarray, np.ndarray]:
        given.clear()
        told = feedback(seen)
        by_account = np.bincount(seen.account, weights=seen.follows, minlength=2)
        true.extend(by_account)
        credited.append(float(np.nansum(told[0])))
        assert given == by_account.tolist()
        return told

    run_loop(world, CONTENDERS["thompson"], seeds=SEEDS, days=DAYS, feedback=watch)
    assert true[-1] > 50
    assert credited[-1] == pytest.approx(sum(true[-2:]), rel=0.25)


def test_a_simulated_account_shows_what_its_posts_and_everyone_else_did():
    seen = observe_account(WORLDS["stationary"], int(SEEDS[0]), 10)
    assert seen.exposures["impressions"].sum() == seen.impressions.sum()
    shown = seen.exposures.groupby("post_id")["impressions"].sum()
    assert shown.to_numpy().tolist() == seen.impressions[shown.index.to_numpy()].tolist()
    organic = seen.deltas["delta"].sum() - seen.follows.sum()
    expected = 10 * (10 - 5)
    assert organic == pytest.approx(expected, abs=5 * np.sqrt(10 * 15))
    assert set(seen.generator) == set(range(len(seen.generator_names)))


def test_a_loop_that_learns_from_the_count_is_deterministic():
    results = [
        simulate(
            ["stationary"],
            ["thompson"],
            accounts=2,
            days=DAYS,
            seed=2,
            feedback_for=from_deltas("profile_clicks"),
        ).to_json()
        for _ in range(2)
    ]
    assert results[0] == results[1]


def test_posts_without_credit_are_unknown_and_not_zero():
    seen_unknown: list[bool] = []
    feedback = DeltaFeedback(WORLDS["stationary"], SEEDS, "impressions")

    def watch(seen: Observed) -> tuple[np.ndarray, np.ndarray]:
        followers, information = feedback(seen)
        unseen = seen.impressions == 0
        seen_unknown.append(bool(np.isnan(followers[unseen]).all()))
        assert ((information > 0) & (information <= 1)).all()
        assert np.isfinite(followers[seen.impressions > 5]).all()
        return followers, information

    run_loop(WORLDS["stationary"], CONTENDERS["thompson"], seeds=SEEDS, days=2, feedback=watch)
    assert all(seen_unknown)
