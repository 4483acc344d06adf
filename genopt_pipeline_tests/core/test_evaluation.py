import numpy as np
import pytest
from scipy import stats

from genopt_pipeline.core.estimation import (
    EstimationConfig,
    PostBatch,
    posterior,
    sufficient_statistics,
)
from genopt_pipeline.core.evaluation import (
    expected_counts,
    holdout_uplift,
    model_uplift,
    model_value,
    off_policy_value,
    sample_ratio,
)
from genopt_pipeline.core.policies import ThompsonConfig
from genopt_pipeline.core.policies.thompson import thompson_shares


def drawn_posts(rng, probabilities, rates, n):
    """Posts drawn by known probabilities, with overdispersed followers."""
    generator = rng.choice(len(rates), size=n, p=probabilities)
    impressions = np.exp(rng.normal(7, 1, n))
    frailty = rng.gamma(1 / 0.7, 0.7, n)
    followers = rng.poisson(rates[generator] * impressions / 1000 * frailty).astype(float)
    return generator, followers, impressions


RATES = np.array([1.0, 2.0, 4.0])
LOGGED = np.array([0.5, 0.3, 0.2])
NEW = np.array([0.1, 0.2, 0.7])


def test_the_off_policy_value_of_the_logged_weights_is_the_plain_ratio():
    rng = np.random.default_rng(1)
    generator, followers, impressions = drawn_posts(rng, LOGGED, RATES, 400)
    p = LOGGED[generator]
    value = off_policy_value(p, p, followers, impressions)
    assert value.f_per_1k == pytest.approx(1000 * followers.sum() / impressions.sum())
    assert value.effective_posts == pytest.approx(400)


def test_off_policy_intervals_cover_the_true_value_of_other_weights():
    rng = np.random.default_rng(2)
    covered, values = 0, []
    for _ in range(300):
        generator, followers, impressions = drawn_posts(rng, LOGGED, RATES, 400)
        value = off_policy_value(NEW[generator], LOGGED[generator], followers, impressions)
        covered += value.low <= NEW @ RATES <= value.high
        values.append(value.f_per_1k)
    assert 0.84 <= covered / 300 <= 0.96
    assert np.mean(values) == pytest.approx(NEW @ RATES, rel=0.02)


def test_posts_without_a_known_probability_are_left_out_and_counted():
    p = np.array([0.5, np.nan, 0.0, 0.5])
    value = off_policy_value(np.full(4, 0.5), p, np.array([1.0, 9, 9, 3]), np.full(4, 1000.0))
    assert (value.f_per_1k, value.posts, value.left_out) == (2.0, 2, 2)


def test_without_posts_there_is_no_value_and_it_is_not_zero():
    none = np.empty(0)
    assert off_policy_value(none, none, none, none).f_per_1k is None


def test_holdout_uplift_covers_the_truth_and_is_unknown_without_followers():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        _, followers, impressions = drawn_posts(rng, LOGGED, np.full(3, 3.0), 400)
        _, held_followers, held_impressions = drawn_posts(rng, LOGGED, np.full(3, 2.0), 100)
        uplift = holdout_uplift(
            np.concatenate([followers, held_followers]),
            np.concatenate([impressions, held_impressions]),
            np.arange(500) >= 400,
        )
        covered += uplift.low <= 0.5 <= uplift.high
    assert 0.82 <= covered / 300 <= 0.96
    nobody = holdout_uplift(np.zeros(10), np.full(10, 500.0), np.arange(10) > 4)
    assert nobody.gain is None


def _known(rng, rates, n):
    generator, followers, impressions = drawn_posts(rng, np.full(3, 1 / 3), rates, n)
    batch = PostBatch(1, 3, np.zeros(n, int), generator, np.full(n, 100.0), impressions, followers)
    config = EstimationConfig()
    return posterior(sufficient_statistics(batch, config), config)


def test_the_model_values_weights_near_the_truth_and_equal_weights_have_no_uplift():
    known = _known(np.random.default_rng(4), RATES, 3000)
    assert model_value(known, NEW[None])[0].f_per_1k == pytest.approx(NEW @ RATES, rel=0.1)
    same = model_uplift(known, NEW[None], NEW[None])[0]
    assert (same.gain, same.log_sd) == (pytest.approx(0.0, abs=1e-12), pytest.approx(0.0))
    better = model_uplift(known, NEW[None], LOGGED[None])[0]
    assert better.low <= NEW @ RATES / (LOGGED @ RATES) - 1 <= better.high


def test_the_models_uplift_of_learned_weights_covers_the_truth_and_beats_a_holdout():
    """Weights learned from the very posts that judge them: the usual optimism must not show."""
    rng = np.random.default_rng(7)
    accounts, posts = 150, 400
    rates = 2.0 * np.exp(0.5 * rng.normal(size=(accounts, 12)))
    account = np.repeat(np.arange(accounts), posts)
    generator = rng.integers(0, 12, len(account))
    impressions = np.exp(rng.normal(7, 1, len(account)))
    mean = rates[account, generator] * impressions / 1000
    followers = rng.poisson(mean * rng.gamma(1 / 0.7, 0.7, len(account))).astype(float)
    age = rng.uniform(100, 600, len(account))
    config = EstimationConfig(drift_days=())
    batch = PostBatch(accounts, 12, account, generator, age, impressions, followers)
    known = posterior(sufficient_statistics(batch, config), config)
    present = np.ones(rates.shape, dtype=bool)
    learned, uniform = thompson_shares(known, present, ThompsonConfig()), present / 12
    truth = np.log((learned * rates).sum(axis=1) / rates.mean(axis=1))
    uplifts = model_uplift(known, learned, uniform)
    said = np.log1p([uplift.gain for uplift in uplifts])
    covered = np.mean([u.low <= np.expm1(t) <= u.high for u, t in zip(uplifts, truth, strict=True)])
    assert 0.8 <= covered <= 0.98
    assert -0.1 < np.mean(said - truth) < 0.03
    # a tenth of the posts held out, the others drawn by the learned weights
    errors = []
    for a in range(40):
        arms = [drawn_posts(rng, p, rates[a], n) for p, n in ((learned[a], 360), (uniform[a], 40))]
        held = holdout_uplift(
            np.concatenate([arm[1] for arm in arms]),
            np.concatenate([arm[2] for arm in arms]),
            np.arange(400) >= 360,
        )
        errors.append(np.log1p(held.gain) - truth[a])
    assert np.std(said - truth) < 0.5 * np.std(errors)


def test_without_data_the_model_has_no_value():
    known = _known(np.random.default_rng(5), RATES, 0)
    assert model_value(known, NEW[None])[0].f_per_1k is None
    assert model_uplift(known, NEW[None], LOGGED[None])[0].gain is None


def test_an_honest_draw_is_accused_as_often_as_the_level_says():
    rng = np.random.default_rng(6)
    weights = np.array([0.4, 0.3, 0.2, 0.05, 0.03, 0.02])
    names = list("abcdef")
    p_values = []
    for _ in range(1000):
        counts = rng.multinomial(120, weights)
        result = sample_ratio(
            dict(zip(names, counts.tolist(), strict=True)),
            dict(zip(names, 120 * weights, strict=True)),
        )
        p_values.append(result.p_value)
    for level in (0.01, 0.05, 0.2):
        share = np.mean(np.array(p_values) < level)
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / 1000)


def test_a_draw_that_never_reaches_the_last_rows_is_found():
    weights = {"a": 0.4, "b": 0.4, "c": 0.1, "d": 0.1}
    counts = {"a": 250, "b": 250}
    result = sample_ratio(counts, expected_counts([weights], [500]))
    assert result.is_mismatch()


def test_drawing_what_has_no_weight_is_a_mismatch_whatever_the_counts():
    result = sample_ratio({"a": 100, "off": 1}, {"a": 101.0})
    assert result.impossible == ("off",)
    assert result.is_mismatch()


def test_too_few_posts_are_not_tested_and_small_cells_are_pooled():
    few = sample_ratio({"a": 3, "b": 1}, {"a": 2.0, "b": 2.0})
    assert few.p_value is None
    pooled = sample_ratio({"a": 46, "b": 2, "c": 2}, {"a": 45.0, "b": 3.0, "c": 2.0})
    assert pooled.degrees_of_freedom == 1
    changing = expected_counts([{"a": 1.0}, {"a": 0.5, "b": 0.5}], [10, 20])
    assert changing == {"a": 20.0, "b": 10.0}


def test_expectations_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="sum to"):
        sample_ratio({"a": 10}, {"a": 6.0})


def test_the_interval_from_posts_is_that_of_leaving_each_post_out():
    rng = np.random.default_rng(3)
    n = 40
    impressions = rng.lognormal(7, 1.5, n)
    followers = rng.poisson(impressions / 400).astype(float)
    logged, new = rng.uniform(0.1, 0.9, n), rng.uniform(0.1, 0.9, n)
    found = off_policy_value(new, logged, followers, impressions)
    weight = new / logged
    part, whole = weight * followers, weight * impressions / 1000
    without = (part.sum() - part) / (whole.sum() - whole)
    sd = np.sqrt(((without - found.f_per_1k) ** 2).sum())
    quantile = stats.t.ppf(0.95, found.effective_posts - 1)
    assert np.log(found.high / found.low) == pytest.approx(2 * quantile * sd / found.f_per_1k)


def test_a_post_with_nearly_all_the_reach_makes_the_interval_wide():
    even = np.full(20, 1000.0)
    one = np.array([1e6, *[1000.0] * 19])
    known = np.full(20, 0.5)
    followers = np.arange(20.0)
    wide = off_policy_value(known, known, followers, one)
    narrow = off_policy_value(known, known, followers, even)
    assert wide.high / wide.low > 100 * narrow.high / narrow.low


def test_posts_that_say_next_to_nothing_give_an_interval_and_no_overflow():
    known, followers = np.full(3, 0.5), np.array([0.0, 1.0, 1.0])
    found = off_policy_value(known, known, followers, np.array([1e15, 1000.0, 1000.0]))
    assert found.low <= found.f_per_1k <= found.high
    held = np.array([True, True, False, False])
    followers = np.array([1e-12, 1e-12, 1e9, 0.0])
    uplift = holdout_uplift(followers, np.full(4, 1000.0), held)
    assert uplift.low < uplift.gain < uplift.high
