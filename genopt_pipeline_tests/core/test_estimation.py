from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special as exact

from genopt_pipeline.core.estimation import (
    EstimationConfig,
    PostBatch,
    compare,
    log_reach,
    mature_exposure,
    posterior,
    probability_best,
    sufficient_statistics,
)
from genopt_pipeline.core.estimation.special import digamma, log_gamma, trigamma

CONFIG = EstimationConfig()
STILL = EstimationConfig(half_life_days=1e6, hazard_per_day=0.0, drift_days=())


def simulated(rng, accounts, posts, *, generators=12, spread=0.5, frailty=0.7, days=20.0):
    """Posts of accounts with known rates, as seen now: younger ones are partly grown."""
    n = accounts * posts
    rate = 2.0 * np.exp(spread * rng.normal(size=(accounts, generators)))
    account = np.repeat(np.arange(accounts), posts)
    generator = rng.integers(0, generators, n)
    age = rng.uniform(0.5, 24 * days, n)
    final = np.exp(rng.normal(7, 1, n))
    mean = rate[account, generator] * final / 1000 * rng.gamma(1 / frailty, frailty, n)
    followers = rng.poisson(mean * -np.expm1(-age / CONFIG.followers_hours)).astype(float)
    seen = final * -np.expm1(-age / CONFIG.impressions_hours)
    return PostBatch(accounts, generators, account, generator, age, seen, followers), rate


def test_special_functions_agree_with_scipy():
    x = np.concatenate([np.linspace(1, 60, 2000), np.geomspace(60, 1e6, 50)])
    for ours, scipys, at_one in (
        (log_gamma, exact.gammaln, 1e-5),
        (digamma, exact.digamma, 2e-5),
        (trigamma, lambda values: exact.polygamma(1, values), 1e-4),
    ):
        before = x.copy()
        error = np.abs(ours(x) - scipys(x))
        assert error.max() < at_one
        assert error[x > 5].max() < 1e-7 * max(1.0, at_one / 1e-5)
        assert (x == before).all()


def test_exposure_grows_into_the_final_impressions_and_starts_at_the_ratio_of_time_constants():
    ages = np.array([0.0, 1.0, 8.0, 48.0, 1000.0])
    final = 5000.0
    seen = final * -np.expm1(-np.maximum(ages, 1e-3) / CONFIG.impressions_hours)
    exposure = mature_exposure(ages, seen, CONFIG)
    expected = final / 1000 * -np.expm1(-np.maximum(ages, 1e-3) / CONFIG.followers_hours)
    assert exposure == pytest.approx(expected)
    assert exposure[0] / (seen[0] / 1000) == pytest.approx(0.5, rel=1e-3)


def test_young_posts_do_not_bias_a_generator_that_only_has_young_ones():
    rng = np.random.default_rng(1)
    batch, _ = simulated(rng, 400, 240, generators=2, spread=0.0)
    young = (batch.generator == 1) & (batch.age_hours > 12)
    keep = ~young
    part = PostBatch(
        400, 2, batch.account[keep], batch.generator[keep], batch.age_hours[keep],
        batch.impressions[keep], batch.followers[keep],
    )  # fmt: skip
    s = sufficient_statistics(part, STILL)
    pooled = s.followers.sum(axis=(0, 2)) / s.exposure.sum(axis=(0, 2))
    assert pooled[1] == pytest.approx(pooled[0], rel=0.1)


def test_no_single_post_is_worth_more_followers_than_one_over_the_dispersion():
    rng = np.random.default_rng(2)
    batch, _ = simulated(rng, 1, 200)
    batch.impressions[0], batch.followers[0], batch.age_hours[0] = 1e7, 50_000.0, 60 * 24.0
    with_post = sufficient_statistics(batch, STILL)
    rest = PostBatch(
        1, 12, batch.account[1:], batch.generator[1:], batch.age_hours[1:],
        batch.impressions[1:], batch.followers[1:],
    )  # fmt: skip
    without = sufficient_statistics(rest, STILL)
    k = batch.generator[0]
    gained = with_post.exposure[0, k, -1] - without.exposure[0, k, -1]
    rate = with_post.followers[0, k].sum() / with_post.exposure[0, k].sum()
    assert 0 < gained * rate < 4.0 / with_post.dispersion[0]


def test_dispersion_is_found_in_the_posts():
    for frailty in (0.2, 0.7, 2.0):
        batch, _ = simulated(np.random.default_rng(3), 60, 600, frailty=frailty)
        found = sufficient_statistics(batch, STILL).dispersion
        assert np.median(found) == pytest.approx(frailty, rel=0.25)


def test_information_below_one_lowers_the_evidence_and_not_the_rate():
    batch, _ = simulated(np.random.default_rng(4), 20, 300)
    fuzzy = PostBatch(**{**vars(batch), "information": np.full(len(batch.account), 0.2)})
    sharp, blunt = (sufficient_statistics(b, CONFIG) for b in (batch, fuzzy))
    assert blunt.exposure.sum() < 0.4 * sharp.exposure.sum()
    rates = [s.followers.sum() / s.exposure.sum() for s in (sharp, blunt)]
    assert rates[1] == pytest.approx(rates[0], rel=0.08)
    sds = [posterior(s, CONFIG).log_sd.mean() for s in (sharp, blunt)]
    assert sds[1] > 1.08 * sds[0]


def test_credit_tells_of_the_dispersion_only_as_far_as_it_is_known():
    """What is credited to a post of which nothing is known is its mean: that is no dispersion."""
    batch, rate = simulated(np.random.default_rng(5), 30, 300)
    mean = rate[batch.account, batch.generator] * mature_exposure(
        batch.age_hours, batch.impressions, CONFIG
    )
    found = [
        np.median(
            sufficient_statistics(
                replace(batch, followers=mean, information=np.full(len(mean), information)), STILL
            ).dispersion
        )
        for information in (1.0, 0.1, 0.001)
    ]
    assert found[0] == pytest.approx(0.05)
    assert found[0] < found[1] < found[2]
    assert found[2] == pytest.approx(CONFIG.dispersion, rel=0.05)


def test_ninety_percent_intervals_hold_the_true_rate_ninety_percent_of_the_time():
    # with five posts a generator the spread between generators is itself uncertain
    for posts, least in ((60, 0.83), (300, 0.86), (900, 0.87)):
        batch, rate = simulated(np.random.default_rng(5), 400, posts)
        known = posterior(sufficient_statistics(batch, STILL), STILL)
        z = (np.log(rate) - known.log_mean) / known.interval_log_sd
        assert least <= np.mean(np.abs(z) < 1.645) <= 0.95
        assert abs(np.mean(z)) < 0.25


def test_p_best_is_calibrated():
    """Of the generators given a probability of about p, a share of about p is the best."""
    batch, rate = simulated(np.random.default_rng(6), 1500, 120)
    known = posterior(sufficient_statistics(batch, STILL), STILL)
    best = compare(known.log_mean, known.log_sd, np.ones(rate.shape, bool)).best
    is_best = rate == rate.max(axis=1, keepdims=True)
    for low, high in ((0.02, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.8), (0.8, 1.0)):
        inside = (best >= low) & (best < high)
        share, said = is_best[inside].mean(), best[inside].mean()
        noise = np.sqrt(said * (1 - said) / inside.sum())
        assert abs(share - said) < 0.05 + 3 * noise, (low, high, share, said)


def test_p_best_agrees_with_a_great_many_draws():
    rng = np.random.default_rng(7)
    for _ in range(4):
        mean, sd = rng.normal(0, 0.5, 12), rng.uniform(0.05, 0.8, 12)
        best = probability_best(mean[None], sd[None], np.ones((1, 12), bool))[0]
        draws = mean + sd * rng.normal(size=(400_000, 12))
        counted = np.bincount(draws.argmax(axis=1), minlength=12) / 400_000
        assert np.abs(best - counted).max() < 0.004
        assert best.sum() == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
@settings(max_examples=30, deadline=None)
def test_a_higher_mean_never_lowers_p_best(seed, n):
    rng = np.random.default_rng(seed)
    mean, sd = rng.normal(0, 1, n), rng.uniform(0.05, 1, n)
    k = int(rng.integers(n))
    higher = mean.copy()
    higher[k] += rng.uniform(0.01, 1)
    present = np.ones((2, n), bool)
    best = probability_best(np.stack([mean, higher]), np.stack([sd, sd]), present)
    # one thousandth of room: the two integrals run over different cells
    assert best[1, k] >= best[0, k] - 1e-3


def test_expected_loss_is_that_of_draws_and_absent_generators_have_none():
    rng = np.random.default_rng(8)
    mean, sd = rng.normal(0, 0.5, (1, 5)), rng.uniform(0.1, 0.5, (1, 5))
    present = np.array([[True, True, True, True, False]])
    result = compare(mean, sd, present)
    draws = np.exp(mean[0, :4] + sd[0, :4] * rng.normal(size=(400_000, 4)))
    expected = 1 - draws.mean(axis=0) / draws.max(axis=1).mean()
    assert result.loss[0, :4] == pytest.approx(expected, abs=0.01)
    assert np.isnan(result.loss[0, 4])
    assert result.best[0, 4] == 0.0


def test_a_generator_without_posts_gets_the_prior_of_its_account():
    batch, _ = simulated(np.random.default_rng(9), 1, 400, generators=5)
    keep = batch.generator != 4
    part = PostBatch(
        1, 5, batch.account[keep], batch.generator[keep], batch.age_hours[keep],
        batch.impressions[keep], batch.followers[keep],
    )  # fmt: skip
    known = posterior(sufficient_statistics(part, STILL), STILL)
    assert known.shrink[0, 4] == pytest.approx(1.0)
    assert np.exp(known.log_mean[0, 4] + known.log_sd[0, 4] ** 2 / 2) == pytest.approx(
        known.level[0], rel=0.35
    )
    assert known.log_sd[0, 4] > known.log_sd[0, :4].max()


def test_equal_generators_are_drawn_together_and_different_ones_are_not():
    same, _ = simulated(np.random.default_rng(10), 50, 400, spread=0.0)
    apart, _ = simulated(np.random.default_rng(10), 50, 400, spread=0.5)
    null, real = (posterior(sufficient_statistics(b, STILL), STILL) for b in (same, apart))
    assert np.median(null.differ) < 0.5
    assert np.median(real.differ) > 0.95
    assert null.spread.mean() < 0.18
    assert real.spread.mean() > 0.4


def test_a_change_of_rate_is_seen_and_dated_and_the_new_rate_believed():
    rng = np.random.default_rng(11)
    batch, rate = simulated(rng, 60, 900, days=40.0)
    changed = (batch.generator == 0) & (batch.age_hours < 10 * 24)
    followers = np.where(changed, 5.0 * batch.followers, batch.followers)
    batch = PostBatch(**{**vars(batch), "followers": followers})
    config = EstimationConfig(half_life_days=1e6)
    known = posterior(sufficient_statistics(batch, config), config)
    assert np.median(known.change_probability[:, 0]) > 0.9
    assert np.median(known.change_probability[:, 1:]) < 0.6
    assert np.median(known.change_days[:, 0]) in {7.0, 11.0, 16.0}
    now = np.exp(known.log_mean[:, 0]) / rate[:, 0]
    assert 3.5 < np.median(now) < 5.5


def test_no_data_is_unknown_and_not_zero():
    empty = np.empty(0)
    none = PostBatch(1, 3, empty.astype(int), empty.astype(int), empty, empty, empty)
    known = posterior(sufficient_statistics(none, CONFIG), CONFIG)
    assert np.isnan(known.level[0])
    best = probability_best(known.log_mean, known.log_sd, np.ones((1, 3), bool))
    assert best[0] == pytest.approx(1 / 3)


def test_chunks_of_accounts_give_what_all_together_give():
    batch, _ = simulated(np.random.default_rng(12), 30, 100)
    statistics = sufficient_statistics(batch, CONFIG)
    whole = posterior(statistics, CONFIG).log_mean
    parts = np.concatenate([posterior(p, CONFIG).log_mean for p in statistics.chunks(7)])
    assert np.allclose(whole, parts, rtol=0, atol=1e-12)


def _wandering(rng, accounts, correlation_days, *, days=60, posts_a_day=15):
    """Posts of accounts whose log rates follow an autoregression (never, where infinite)."""
    rho = np.exp(-1.0 / correlation_days)
    path = np.empty((days + 1, accounts, 12))
    path[0] = rng.normal(size=path.shape[1:])
    for day in range(1, days + 1):
        path[day] = rho * path[day - 1] + np.sqrt(1 - rho**2) * rng.normal(size=path.shape[1:])
    n = accounts * days * posts_a_day
    account = np.repeat(np.arange(accounts), days * posts_a_day)
    generator, age = rng.integers(0, 12, n), rng.uniform(0, 24 * days, n)
    log_rate = np.log(2) + 0.5 * path[(age / 24).astype(int), account, generator]
    final = np.exp(rng.normal(7, 1, n))
    mean = np.exp(log_rate) * final / 1000 * rng.gamma(1 / 0.7, 0.7, n)
    followers = rng.poisson(mean * -np.expm1(-age / CONFIG.followers_hours)).astype(float)
    seen = final * -np.expm1(-age / CONFIG.impressions_hours)
    return PostBatch(accounts, 12, account, generator, age, seen, followers), 2 * np.exp(
        0.5 * path[0]
    )


def test_accounts_whose_rates_drift_are_told_from_those_whose_rates_stay():
    found = {}
    for days in (30.0, np.inf):
        batch, now = _wandering(np.random.default_rng(13), 40, days)
        statistics = sufficient_statistics(batch, CONFIG)
        known = posterior(statistics, CONFIG)
        steady = EstimationConfig(drift_days=())
        error, blind = (
            np.abs(p.log_mean - np.log(now)).mean() for p in (known, posterior(statistics, steady))
        )
        found[days] = np.median(known.drift), error / blind
        z = (np.log(now) - known.log_mean) / known.interval_log_sd
        assert np.mean(np.abs(z) < 1.645) > (0.75 if days < 100 else 0.85)
    assert found[30.0][0] > 0.3
    assert found[np.inf][0] < 0.1
    # knowing that they drift brings the present rates nearer, and costs nothing where they do not
    assert found[30.0][1] < 0.97
    assert found[np.inf][1] < 1.01


def test_a_day_that_is_good_for_everyone_is_not_taken_for_the_luck_of_a_generator():
    rng = np.random.default_rng(14)
    batch, rate = simulated(rng, 60, 600, days=40.0)
    day = (batch.age_hours / 24).astype(int)
    shock = np.exp(0.8 * rng.normal(size=(60, 41)) - 0.32)[batch.account, day]
    mean = rate[batch.account, batch.generator] * batch.impressions / 1000
    mean = mean * shock * rng.gamma(1 / 0.7, 0.7, len(day))
    shocked = PostBatch(**{**vars(batch), "followers": rng.poisson(mean).astype(float)})
    blind = EstimationConfig(
        half_life_days=1e6, hazard_per_day=0.0, drift_days=(), common_margin=1e9
    )

    def relative(config, posts):
        log_mean = posterior(sufficient_statistics(posts, config), config).log_mean
        error = log_mean - np.log(rate)
        return np.std(error - error.mean(axis=1, keepdims=True))

    assert relative(STILL, shocked) < 0.9 * relative(blind, shocked)
    assert relative(STILL, batch) < 1.02 * relative(blind, batch)


def test_how_fast_followers_come_is_fitted_to_the_account_and_the_default_without_enough_posts():
    late = np.random.default_rng(15)
    batch, _ = simulated(late, 40, 1500, generators=3, spread=0.3)
    mean = 2.0 * batch.impressions / -np.expm1(-batch.age_hours / CONFIG.impressions_hours) / 1000
    grown = -np.expm1(-batch.age_hours / 48.0)
    slow = PostBatch(**{**vars(batch), "followers": late.poisson(mean * grown).astype(float)})
    young = slow.age_hours < 24
    # with 48 instead of 16 hours a young post's exposure is about a third, and its rate as before
    exposure = sufficient_statistics(slow, STILL)
    of_young = PostBatch(
        40, 3, *(getattr(slow, name)[young] for name in (
            "account", "generator", "age_hours", "impressions", "followers")),
    )  # fmt: skip
    pooled = exposure.followers.sum() / exposure.exposure.sum()
    naive = (
        of_young.followers.sum()
        / mature_exposure(of_young.age_hours, of_young.impressions, CONFIG).sum()
    )
    bins = exposure.followers[:, :, 0].sum() / exposure.exposure[:, :, 0].sum()
    assert naive < 0.6 * pooled
    assert bins == pytest.approx(pooled, rel=0.25)
    one = PostBatch(
        1, 1, np.zeros(1, int), np.zeros(1, int), *(np.array([x]) for x in (6.0, 900.0, 2.0))
    )
    alone = sufficient_statistics(one, STILL)
    expected = mature_exposure(one.age_hours, one.impressions, STILL)
    ratio = alone.followers.sum() / alone.exposure.sum()
    assert ratio == pytest.approx(2.0 / expected[0], rel=0.1)


def test_reach_is_drawn_towards_the_accounts_and_zero_where_nothing_is_known():
    rng = np.random.default_rng(16)
    truth = 0.7 * rng.normal(size=(200, 6))
    n = 200 * 90
    account, generator = np.repeat(np.arange(200), 90), rng.integers(0, 5, n)
    age = rng.uniform(2, 200, n)
    final = np.exp(7 + truth[account, generator] + rng.normal(size=n))
    seen = final * -np.expm1(-age / CONFIG.impressions_hours)
    batch = PostBatch(200, 6, account, generator, age, seen, np.zeros(n))
    found = log_reach(batch, CONFIG)
    centred = truth[:, :5] - truth[:, :5].mean(axis=1, keepdims=True)
    assert np.corrcoef(found[:, :5].ravel(), centred.ravel())[0, 1] > 0.93
    assert found[:, :5].std() < centred.std()
    assert (found[:, 5] == 0).all()
    equal = PostBatch(**{**vars(batch), "impressions": np.exp(7 + rng.normal(size=n))})
    assert np.abs(log_reach(equal, STILL)).mean() < 0.08
    none = np.empty(0)
    empty = PostBatch(2, 3, none.astype(int), none.astype(int), none, none, none)
    assert (log_reach(empty, CONFIG) == 0).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"half_life_days": 0.0},
        {"drift_probability": 1.0},
        {"drift_days": (0.0,)},
        {"common_margin": float("nan")},
        {"dispersion": float("nan")},
        {"hazard_per_day": -1.0},
        {"cut_days": (5.0, 2.0)},
        {"spread_grid": ()},
    ],
)
def test_settings_that_leave_the_model_undefined_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        EstimationConfig(**bad)
