"""The formulas of the attribution agree with their definitions, computed the slow way."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, special, stats

from genopt_pipeline.core.attribution.lag import arrived
from genopt_pipeline.core.attribution.likelihood import Noise, arrange_changes, equations
from genopt_pipeline.core.attribution.rhythm import FLAT, Rhythm
from genopt_pipeline.core.attribution.shrinkage import shrink
from genopt_pipeline.core.attribution.skellam import bessel_ratio, hidden_counts, log_likelihood

RNG = np.random.default_rng(3)


# Skellam --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delta", "m", "n"), [(3, 2.5, 0.7), (-4, 1.0, 3.0), (0, 6.0, 5.0)])
def test_hidden_counts_are_the_moments_of_the_sum_over_all_pairs(delta, m, n):
    """Given A − U = d, by summing the joint probabilities of A and U."""
    unfollows = np.arange(max(0, -delta), 200)
    weight = stats.poisson.pmf(unfollows + delta, m) * stats.poisson.pmf(unfollows, n)
    weight /= weight.sum()
    mean = weight @ unfollows
    arguments = (np.array([float(delta)]), np.array([m]), np.array([n]))
    follows, gone, variance = hidden_counts(*arguments)
    assert gone[0] == pytest.approx(mean, rel=1e-5)
    assert follows[0] - gone[0] == pytest.approx(delta, abs=1e-12)
    assert variance[0] == pytest.approx(weight @ unfollows**2 - mean**2, rel=1e-3)
    assert log_likelihood(*arguments)[0] == pytest.approx(stats.skellam.logpmf(delta, m, n))


def test_the_bessel_ratio_is_that_of_bessel_functions_and_survives_where_they_overflow():
    order, z = np.meshgrid(np.arange(0.0, 40.0, 3.0), np.array([0.01, 1.0, 30.0, 300.0]))
    assert bessel_ratio(order, z) == pytest.approx(
        special.ive(order + 1, z) / special.ive(order, z), rel=1e-5
    )
    huge = bessel_ratio(np.array([1e6, 0.0]), np.array([1e3, 1e9]))
    assert np.isfinite(huge).all()
    assert huge[1] == pytest.approx(1.0, rel=1e-6)


# Least squares --------------------------------------------------------------------------------


def small_account() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """30 windows, 12 posts of 3 generators that live for eight windows each."""
    exposure = np.zeros((30, 12))
    for post in range(12):
        exposure[2 * post : 2 * post + 8, post] = RNG.gamma(2.0, size=8)
    delta = RNG.poisson(3.0, 30).astype(float)
    return exposure, delta, RNG.uniform(0.5, 2.0, 30), np.arange(12) % 3


def test_the_normal_equations_and_the_likelihood_are_those_of_the_dense_model():
    exposure, delta, hours, generator_of = small_account()
    noise = Noise(np.array([0.2, 0.5, 0.9]), net=0.3, unfollows=0.1, frailty=0.7)
    changes = arrange_changes(delta, hours, sparse.csc_array(exposure), generator_of, 3)
    design = np.column_stack(
        [exposure[:, generator_of == g].sum(axis=1) for g in range(3)] + [hours]
    )
    assert changes.design == pytest.approx(design)
    independent = design[:, :3] @ noise.rate + 0.4 * hours + 0.1 * hours
    weights = 0.7 * noise.rate[generator_of] ** 2
    variance = np.diag(independent) + (exposure * weights) @ exposure.T
    solved = equations(changes, noise)
    inverse = np.linalg.inv(variance)
    assert solved.information == pytest.approx(design.T @ inverse @ design)
    assert solved.score == pytest.approx(design.T @ inverse @ delta)
    assert solved.solve(delta) == pytest.approx(inverse @ delta)
    mean, precision = np.array([0.4, 0.4, 0.4, 0.2]), np.array([2.0, 2.0, 2.0, 0.5])
    integrated = variance + design @ np.diag(1 / precision) @ design.T
    expected = stats.multivariate_normal(design @ mean, integrated).logpdf(delta)
    found = solved.log_likelihood(mean, precision)
    assert found - 0.5 * len(delta) * np.log(2 * np.pi) == pytest.approx(expected)


def test_least_squares_are_a_fixed_point_of_the_m_step():
    """At the solution the best linear frailties of every generator have mean 1."""
    exposure, delta, hours, generator_of = small_account()
    rate, net = np.array([0.2, 0.3, 0.4]), 0.3
    changes = arrange_changes(delta, hours, sparse.csc_array(exposure), generator_of, 3)
    solved = equations(changes, Noise(rate, net, 0.1, 0.7))
    beta = np.linalg.solve(solved.information, solved.score)
    back = exposure.T @ solved.solve(delta - changes.design @ beta)
    theta = 1 + 0.7 * rate[generator_of] * back
    for generator in range(3):
        assert theta[generator_of == generator].mean() == pytest.approx(1.0, abs=1e-9)


# Shrinkage ------------------------------------------------------------------------------------


def test_plenty_of_information_is_not_shrunk_and_none_gives_the_level():
    true = np.array([0.5, 1.0, 4.0])
    plenty = np.eye(3) * 1e6
    rates = shrink(plenty, plenty @ true, np.ones(3), 1.0, 0.5)
    assert rates.rate == pytest.approx(true, rel=1e-2)
    nothing = shrink(np.zeros((3, 3)), np.zeros(3), np.ones(3), 2.0, 0.5)
    assert nothing.rate == pytest.approx([2.0] * 3)


def test_a_rate_that_is_well_known_has_the_sd_of_its_information_and_a_small_one_a_long_tail():
    rate = np.array([0.5, 1.0, 2.0, 4.0])
    known = np.eye(4) * 1e4 / rate**2
    sure = shrink(known, known @ rate, rate, 1.5, 0.5)
    assert sure.log_sd == pytest.approx(0.01, rel=0.05)
    assert sure.log_mean == pytest.approx(np.log(rate), abs=0.01)
    vague = np.eye(4) * 4.0
    unsure = shrink(vague, vague @ np.array([0.0, 1.0, 2.0, 4.0]), np.ones(4), 1.5, 0.8)
    assert unsure.log_mean[0] < np.log(unsure.rate[0]) - 0.1
    assert unsure.log_sd[0] > 2.0 * unsure.log_sd[3]


def test_equal_rates_are_found_to_be_equal_and_different_ones_to_differ():
    spreads = []
    for rates in (np.ones(12), np.exp(np.linspace(-1, 1, 12))):
        information = np.diag(400.0 / rates)
        seen = rates + RNG.normal(size=12) * np.sqrt(rates / 400.0)
        found = shrink(information, information @ seen, np.ones(12), 1.0, 0.5)
        spreads.append(found.spread)
    assert spreads[0] < 0.12
    assert spreads[1] == pytest.approx(0.63, abs=0.25)


def test_shrinkage_is_equivariant_under_permutation_and_change_of_unit():
    information = np.diag(RNG.uniform(5, 50, 6)) + 0.5
    score = information @ RNG.uniform(0.5, 2.0, 6)
    plain = shrink(information, score, np.ones(6), 1.0, 0.5)
    order = RNG.permutation(6)
    permuted = shrink(information[np.ix_(order, order)], score[order], np.ones(6), 1.0, 0.5)
    assert permuted.rate == pytest.approx(plain.rate[order], rel=1e-3)
    scaled = shrink(information / 1e4, score / 1e2, np.full(6, 1e2), 1e2, 0.5)
    assert scaled.rate == pytest.approx(1e2 * plain.rate, rel=1e-3)


# Time -----------------------------------------------------------------------------------------


def test_follows_arrive_once_each_whatever_the_windows():
    edges = np.array([0.0, 0.5, 2.0, 3.0, 9.0, 500.0])
    share = np.diff(arrived(edges, np.full_like(edges, 2.0), 3.0))
    assert (share >= 0).all()
    assert share.sum() == pytest.approx(1.0)
    middles = (np.arange(20_000) + 0.5) / 10_000  # when in the two hours the exposure came
    assert arrived(np.array([3.0]), np.array([2.0]), 3.0)[0] == pytest.approx(
        np.mean(1 - np.exp(-(3.0 - middles) / 3.0)), rel=1e-6
    )


def test_the_clock_has_mean_speed_one_and_starts_at_its_origin():
    level = RNG.uniform(0.3, 2.0, 84)
    rhythm = Rhythm(2.0, level / level.mean())
    origin = pd.Timestamp("2026-03-04T05:00", tz="UTC")
    hours = np.linspace(-50.0, 400.0, 2000)
    clock = rhythm.clock(hours, origin)
    assert (np.diff(clock) > 0).all()
    assert rhythm.clock(np.array([0.0]), origin)[0] == pytest.approx(0.0, abs=1e-9)
    week = rhythm.clock(np.array([13.0, 13.0 + 168.0]), origin)
    assert week[1] - week[0] == pytest.approx(168.0)
    assert FLAT.clock(hours, origin).tolist() == hours.tolist()
