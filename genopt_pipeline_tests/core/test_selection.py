"""The draw reaches every generator exactly as often as its weight says."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.selection import (
    ARM_SHARES,
    ARMS,
    InvalidWeightsError,
    arm_shares,
    arm_weights,
    check_weights,
    draw,
    draw_arm,
    marginal_weights,
)

DRAWS = 100_000


@st.composite
def weight_sets(draw_value):
    """Weights as the store holds them: four decimals, sum exactly 1, some of them zero."""
    n = draw_value(st.integers(1, 40))
    cuts = sorted(draw_value(st.lists(st.integers(0, 10_000), min_size=n - 1, max_size=n - 1)))
    units = np.diff([0, *cuts, 10_000])
    names = draw_value(st.permutations([f"g{i:02d}" for i in range(n)]))
    return {name: int(unit) / 10_000 for name, unit in zip(names, units, strict=True)}


@pytest.mark.parametrize("arm", ARMS)
def test_a_hundred_thousand_draws_agree_with_the_weights_of_each_arm(arm):
    learned = DEFAULT_WEIGHTS | {"disabledOne": 0.0}
    weights = arm_weights(learned, arm)
    uniforms = np.random.default_rng(20_260_801).random(DRAWS)
    # The function under test is called for every draw; only the counting is vectorised.
    counts = dict.fromkeys(weights, 0)
    for u in uniforms:
        counts[draw(weights, float(u))[0]] += 1
    assert counts.pop("disabledOne") == 0
    expected = [weights[name] * DRAWS for name in counts]
    assert stats.chisquare(list(counts.values()), expected).pvalue > 0.001


def test_a_hundred_thousand_draws_of_the_arm_agree_with_their_shares():
    uniforms = np.random.default_rng(7).random(DRAWS)
    for holdout_share in (0.0, 0.1):
        shares = {arm: share for arm, share in arm_shares(holdout_share).items() if share}
        counts = dict.fromkeys(shares, 0)
        for u in uniforms:
            counts[draw_arm(float(u), holdout_share)] += 1
        expected = [share * DRAWS for share in shares.values()]
        assert stats.chisquare(list(counts.values()), expected).pvalue > 0.001


def test_the_chi_squared_test_would_notice_weights_that_sum_to_1_33():
    """The earlier system drew by such weights; its last rows were never reached."""
    overfull = {f"g{i}": 1.33 / 12 for i in range(12)}
    with pytest.raises(InvalidWeightsError, match=r"sum to 1\.33"):
        draw(overfull, 0.5)


@given(weight_sets(), st.sampled_from(ARMS))
def test_every_arm_is_a_distribution_over_the_drawn_generators(weights, arm):
    result = arm_weights(weights, arm, defaults={"g00": 0.5, "g01": 0.5})
    check_weights(result)
    assert list(result) == sorted(weights)
    assert all(result[name] == 0 for name, weight in weights.items() if weight == 0)
    if arm != "holdout":
        assert all(result[name] > 0 for name, weight in weights.items() if weight > 0)


@given(weight_sets())
def test_control_draws_by_the_learned_weights_unchanged(weights):
    assert arm_weights(weights, "control") == weights


@given(weight_sets())
def test_variant_a_goes_three_tenths_of_the_way_to_uniform(weights):
    drawn = [name for name, weight in weights.items() if weight > 0]
    flattened = arm_weights(weights, "variant_a")
    for name in drawn:
        to_uniform = 1 / len(drawn) - weights[name]
        assert flattened[name] - weights[name] == pytest.approx(0.3 * to_uniform, abs=1e-12)


@given(weight_sets())
def test_variant_b_raises_the_lowest_third_against_the_rest_by_1_3_to_0_9(weights):
    drawn = sorted((w, name) for name, w in weights.items() if w > 0)
    raised = {name for _, name in drawn[: max(1, len(drawn) // 3)]}
    result = arm_weights(weights, "variant_b")
    factor = {name: result[name] / w for w, name in drawn}
    if len(drawn) == 1:
        assert result[drawn[0][1]] == 1
        return
    for low in raised:
        for other in factor.keys() - raised:
            assert factor[low] / factor[other] == pytest.approx(1.3 / 0.9)


def test_variant_b_breaks_ties_by_code_point_so_that_sql_can_do_the_same():
    weights = dict.fromkeys(("b", "a", "B", "é", "_", "C"), 1 / 6)
    result = arm_weights(weights, "variant_b")
    assert {name for name, weight in result.items() if weight > 1 / 6} == {"B", "C"}


def test_holdout_draws_by_the_defaults_of_the_generators_that_are_still_drawn():
    learned = {"humanVoice": 0.5, "coach": 0.3, "newcomer": 0.2, "newsReporter": 0.0}
    result = arm_weights(learned, "holdout")
    total = DEFAULT_WEIGHTS["humanVoice"] + DEFAULT_WEIGHTS["coach"]
    assert result["humanVoice"] == pytest.approx(DEFAULT_WEIGHTS["humanVoice"] / total)
    assert result["coach"] == pytest.approx(DEFAULT_WEIGHTS["coach"] / total)
    assert result["newcomer"] == result["newsReporter"] == 0


def test_holdout_is_uniform_for_an_account_that_shares_no_generator_with_the_defaults():
    result = arm_weights({"reply": 0.7, "link": 0.3, "gone": 0.0}, "holdout")
    assert result == {"gone": 0.0, "link": 0.5, "reply": 0.5}


@given(weight_sets(), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_the_name_whose_cell_of_the_unit_interval_holds_u(weights, u):
    name, probability = draw(weights, u)
    assert probability == weights[name] > 0
    below = math.fsum(weight for other, weight in weights.items() if other < name)
    assert below - 1e-12 <= u <= below + weights[name] + 1e-12


@given(weight_sets())
def test_both_ends_of_the_unit_interval_reach_the_first_and_the_last_drawn_name(weights):
    drawn = sorted(name for name, weight in weights.items() if weight > 0)
    assert draw(weights, 0.0)[0] == drawn[0]
    assert draw(weights, math.nextafter(1.0, 0.0))[0] == drawn[-1]


def test_a_sum_that_rounds_below_one_still_draws_a_generator_at_the_upper_end():
    weights = dict.fromkeys("abcdefghij", 0.1)
    # added one by one, as the draw goes; from Python 3.12 on sum() makes up for the rounding
    assert list(itertools.accumulate(weights.values()))[-1] < 1
    assert draw(weights | {"k": 0.0}, math.nextafter(1.0, 0.0)) == ("j", 0.1)


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({}, "no weights"),
        ({"a": 0.5, "b": 0.4}, "sum to 0.9"),
        ({"a": 0.5, "b": 0.5 + 1e-8}, "not to 1"),
        ({"a": 1.5, "b": -0.5}, "'b' is -0.5"),
        ({"a": math.nan, "b": 1.0}, "'a' is nan"),
        ({"a": math.inf, "b": 0.0}, "'a' is inf"),
    ],
)
def test_weights_that_are_no_distribution_are_refused_and_never_renormalised(weights, complaint):
    with pytest.raises(InvalidWeightsError, match=complaint):
        draw(weights, 0.5)
    with pytest.raises(InvalidWeightsError, match=complaint):
        arm_weights(weights, "variant_a")


@pytest.mark.parametrize("u", [1.0, -1e-9, math.nan, math.inf])
def test_a_number_outside_the_unit_interval_is_refused(u):
    with pytest.raises(ValueError, match="u is"):
        draw({"a": 1.0}, u)
    with pytest.raises(ValueError, match="u is"):
        draw_arm(u)


@pytest.mark.parametrize("share", [1.0, -0.1, math.nan])
def test_a_holdout_share_outside_the_unit_interval_is_refused(share):
    with pytest.raises(ValueError, match="holdout_share is"):
        draw_arm(0.5, share)


def test_an_unknown_arm_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown arm 'variant_c'"):
        arm_weights({"a": 1.0}, "variant_c")


def test_the_shares_of_the_arms_are_those_of_the_specification_and_sum_to_one():
    assert ARM_SHARES == {"control": 0.60, "variant_a": 0.25, "variant_b": 0.15}
    assert math.fsum(arm_shares(0.1).values()) == pytest.approx(1)
    assert arm_shares(0.1)["control"] == pytest.approx(0.54)


@given(weight_sets(), st.floats(0, 0.5))
def test_drawing_arm_and_generator_is_drawing_by_the_marginal_weights(weights, holdout_share):
    mixture = marginal_weights(weights, holdout_share)
    check_weights(mixture)
    for name in weights:
        expected = sum(
            share * arm_weights(weights, arm)[name]
            for arm, share in arm_shares(holdout_share).items()
        )
        assert mixture[name] == pytest.approx(expected, abs=1e-12)
