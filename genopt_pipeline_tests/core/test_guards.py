import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.guards import (
    UNITS,
    GuardConfig,
    GuardError,
    feasible_set,
    guarded_step,
    project,
    round_to_units,
    scale_targets,
)


@st.composite
def situations(draw):
    """Weights in force, statuses, locks and a target, feasible or not, of 1 to 200 generators."""
    n = draw(st.integers(1, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.dirichlet(np.full(n, draw(st.sampled_from([0.1, 1.0, 10.0]))))
    if draw(st.booleans()):
        weights = np.round(weights, 4)
    weights *= draw(st.sampled_from([1.0, 1.0, 0.49, 1.33]))
    status = rng.choice(
        ["active", "testing", "disabled", "archived"],
        size=n,
        p=draw(st.sampled_from([[1.0, 0, 0, 0], [0.7, 0.1, 0.1, 0.1]])),
    )
    locked = rng.random(n) < draw(st.sampled_from([0.0, 0.0, 0.1, 0.4]))
    target = rng.dirichlet(np.full(n, draw(st.sampled_from([0.02, 1.0]))))
    config = GuardConfig(
        floor=draw(st.sampled_from([0.0, 0.01, 0.02, 0.1])),
        cap=draw(st.sampled_from([1.0, 0.5, 0.3])),
        step=draw(st.sampled_from([0.05, 0.3, 1.0])),
    )
    return weights, status, locked, target, config


def _bounds(situation):
    weights, status, locked, _, config = situation
    names = [f"g{k:03d}" for k in range(len(weights))]
    try:
        return feasible_set(names, weights, status, locked, config)
    except GuardError:  # what it says has tests of its own below
        return None


@given(situations())
@settings(max_examples=150, deadline=None)
def test_stored_weights_sum_to_exactly_one_within_floor_and_cap_with_locks_kept(situation):
    weights, status, locked, target, config = situation
    bounds = _bounds(situation)
    if bounds is None:
        return
    lower, upper = bounds.lower[None], bounds.upper[None]
    *_, feasible = guarded_step(weights[None], target[None], lower, upper, config.step)
    units = round_to_units(feasible, lower, upper)[0]
    drawn = np.isin(status, ["active", "testing"])
    held = drawn & locked
    assert units.sum() == UNITS
    assert (units >= 0).all()
    assert (units[~drawn] == 0).all()
    assert (feasible[0][held] == weights[held]).all()
    assert abs(feasible[0].sum() - 1.0) < 1e-9
    free = drawn & ~locked
    assert (feasible[0][free] >= bounds.floor).all()
    assert (feasible[0][free] <= config.cap).all()
    give = 1 if free.sum() * np.ceil(bounds.floor * UNITS) > UNITS - units[held].sum() else 0
    assert (units[free] >= np.ceil(bounds.floor * UNITS - 1e-6) - give).all()
    assert (units[free] <= np.floor(config.cap * UNITS + 1e-6) + 1).all()
    if free.any():
        assert (np.abs(units[held] / UNITS - weights[held]) <= 0.5 / UNITS + 1e-12).all()


@given(situations())
@settings(max_examples=150, deadline=None)
def test_one_cycle_goes_at_most_the_step_towards_the_target(situation):
    weights, _, _, target, config = situation
    bounds = _bounds(situation)
    if bounds is None:
        return
    lower, upper = bounds.lower[None], bounds.upper[None]
    base, _, feasible = guarded_step(weights[None], target[None], lower, upper, config.step)
    wanted = scale_targets(target[None], lower, upper)
    way = np.linalg.norm(wanted - base)
    assert np.linalg.norm(feasible - base) <= config.step * way + 1e-9


@given(situations())
@settings(max_examples=150, deadline=None)
def test_the_projection_is_the_nearest_feasible_point(situation):
    """Karush-Kuhn-Tucker: entries between their bounds moved by one c, pinned ones by no more."""
    _, _, _, target, _ = situation
    bounds = _bounds(situation)
    if bounds is None:
        return
    points = 3.0 * target - 0.5 / len(target)
    nearest = project(points[None], bounds.lower[None], bounds.upper[None])[0]
    moved = nearest - points
    between = (nearest > bounds.lower) & (nearest < bounds.upper)
    at_floor = (nearest == bounds.lower) & (bounds.lower < bounds.upper)
    at_cap = (nearest == bounds.upper) & (bounds.lower < bounds.upper)
    assert abs(nearest.sum() - 1.0) < 1e-9
    if between.any():
        c = moved[between].mean()
        assert np.allclose(moved[between], c, atol=1e-9)
        assert (moved[at_floor] >= c - 1e-9).all()
        assert (moved[at_cap] <= c + 1e-9).all()


@given(situations())
@settings(max_examples=50, deadline=None)
def test_feasible_weights_are_not_moved_by_the_projection(situation):
    bounds = _bounds(situation)
    if bounds is None:
        return
    rows = (bounds.lower[None], bounds.upper[None])
    once = project(situation[0][None], *rows)
    assert np.array_equal(project(once, *rows), once) or np.allclose(
        project(once, *rows), once, rtol=0, atol=1e-15
    )


def test_default_weights_with_the_default_guards_stay_to_the_last_digit():
    weights = np.array(list(DEFAULT_WEIGHTS.values()))
    bounds = feasible_set(
        list(DEFAULT_WEIGHTS), weights, ["active"] * 12, np.zeros(12, bool), GuardConfig()
    )
    rows = (bounds.lower[None], bounds.upper[None])
    base, _, feasible = guarded_step(weights[None], weights[None], *rows, 0.3)
    assert np.array_equal(base[0], weights)
    assert (round_to_units(feasible, *rows)[0] / UNITS == weights).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_repeating_a_cycle_with_the_same_target_converges_and_then_changes_nothing(seed, n):
    rng = np.random.default_rng(seed)
    weights, target = rng.dirichlet(np.ones(n)), rng.dirichlet(np.full(n, 0.3))
    bounds = feasible_set(
        [str(k) for k in range(n)], weights, ["active"] * n, np.zeros(n, bool), GuardConfig()
    )
    rows = (bounds.lower[None], bounds.upper[None])
    units = round_to_units(project(weights[None], *rows), *rows)
    for _ in range(60):
        before = units
        *_, feasible = guarded_step(units / UNITS, target[None], *rows, 0.3)
        units = round_to_units(feasible, *rows)
    assert np.array_equal(units, before)


@given(situations())
@settings(max_examples=50, deadline=None)
def test_many_accounts_at_once_get_the_weights_that_each_gets_alone(situation):
    weights, _, _, target, config = situation
    bounds = _bounds(situation)
    if bounds is None:
        return
    lower, upper = np.repeat(bounds.lower[None], 3, 0), np.repeat(bounds.upper[None], 3, 0)
    points = np.stack([weights, target, (weights + target) / 2])
    together = guarded_step(points, points[::-1], lower, upper, config.step)[2]
    alone = [
        guarded_step(points[[k]], points[[2 - k]], lower[[k]], upper[[k]], config.step)[2][0]
        for k in range(3)
    ]
    assert np.allclose(together, np.stack(alone), rtol=0, atol=1e-14)


def test_a_floor_that_takes_more_than_half_of_the_weight_is_lowered_with_a_warning():
    n = 200
    bounds = feasible_set(
        [str(k) for k in range(n)], np.full(n, 1 / n), ["active"] * n, np.zeros(n, bool),
        GuardConfig(floor=0.02),
    )  # fmt: skip
    assert bounds.floor == 1 / (2 * n)
    assert "0.02" in bounds.warnings[0]


@pytest.mark.parametrize(
    ("weights", "named"),
    [([0.7, 0.4, 0.0], ["alpha 0.7", "beta 0.4"]), ([0.5, 0.49, 0.01], ["alpha", "beta"])],
)
def test_infeasible_locks_are_an_error_that_names_them(weights, named):
    with pytest.raises(GuardError) as caught:
        feasible_set(
            ["alpha", "beta", "gamma"], np.array(weights), ["active"] * 3,
            np.array([True, True, False]), GuardConfig(),
        )  # fmt: skip
    assert all(name in str(caught.value) for name in named)
    assert "gamma" not in str(caught.value)


def test_locks_on_all_generators_must_sum_to_one():
    names, locked = ["alpha", "beta"], np.array([True, True])
    feasible_set(names, np.array([0.3, 0.7]), ["active"] * 2, locked, GuardConfig())
    with pytest.raises(GuardError, match=r"alpha 0\.3, beta 0\.6"):
        feasible_set(names, np.array([0.3, 0.6]), ["active"] * 2, locked, GuardConfig())


def test_a_cap_that_cannot_hold_the_weight_is_an_error_that_says_what_would():
    with pytest.raises(GuardError, match=r"at least 0\.5"):
        feasible_set(
            ["a", "b"], np.array([0.5, 0.5]), ["active"] * 2, np.zeros(2, bool),
            GuardConfig(cap=0.4),
        )  # fmt: skip


def test_a_disabled_generator_gives_its_weight_to_the_others_even_when_locked():
    weights = np.array([0.5, 0.3, 0.2])
    bounds = feasible_set(
        ["a", "b", "c"], weights, ["disabled", "active", "active"], np.array([True, False, False]),
        GuardConfig(),
    )  # fmt: skip
    base = project(weights[None], bounds.lower[None], bounds.upper[None])[0]
    assert np.allclose(base, [0.0, 0.55, 0.45], rtol=0, atol=1e-15)


def test_locked_weights_with_more_than_four_decimals_are_stored_at_the_nearest_unit():
    weights = np.array([0.123456, 0.5, 0.376544])
    bounds = feasible_set(
        ["a", "b", "c"], weights, ["active"] * 3, np.array([True, False, False]), GuardConfig()
    )
    rows = (bounds.lower[None], bounds.upper[None])
    base = project(weights[None], *rows)
    assert base[0, 0] == 0.123456
    assert round_to_units(base, *rows)[0].tolist() == [1235, 5000, 3765]


@pytest.mark.parametrize(
    "bad",
    [
        {"floor": -0.1},
        {"floor": float("nan")},
        {"cap": 1.5},
        {"step": 0.0},
        {"step": float("inf")},
        {"floor": 0.6, "cap": 0.5},
    ],
)
def test_settings_outside_their_range_are_refused_by_name(bad):
    with pytest.raises(GuardError, match="|".join(bad)):
        GuardConfig(**bad)
