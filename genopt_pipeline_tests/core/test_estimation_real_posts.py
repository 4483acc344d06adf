from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genopt_pipeline.core.estimation import (
    EstimationConfig,
    PostBatch,
    posterior,
    sufficient_statistics,
)
from genopt_pipeline.core.estimation.reach import fit_reach_model, predictive_checks

POSTS = Path(__file__).parents[1] / "data" / "real_posts_numeric.csv"
KINDS = ("reply", "link", "long text", "short text")
SOURCES = ("tomd", "hip", "debru")


def real_posts(source):
    """Kinds, impressions and follows of one account's posts that were seen at all."""
    posts = pd.read_csv(POSTS)
    posts = posts[(posts["source"] == source) & (posts["imp"] > 0) & posts["fol"].notna()]
    kind = np.select(
        [posts["is_reply"] == 1, posts["has_link"] == 1, posts["text_len"] >= 140], [0, 1, 2], 3
    )
    return kind, posts["imp"].to_numpy(float), posts["fol"].to_numpy(float)


@pytest.mark.parametrize("source", SOURCES)
def test_posts_without_a_follower_and_the_top_tenth_are_as_the_reach_model_predicts(source):
    kind, impressions, followers = real_posts(source)
    model = fit_reach_model(kind, impressions, followers, kinds=len(KINDS))
    checks = predictive_checks(
        model, kind, impressions, followers, rng=np.random.default_rng(0), draws=200
    )
    assert checks["zero_share"].holds, checks
    assert checks["top_tenth_share"].holds, checks


def test_followers_rise_faster_than_reach_where_there_are_enough_to_tell():
    kind, impressions, followers = real_posts("tomd")
    full = fit_reach_model(kind, impressions, followers, kinds=len(KINDS))
    plain = fit_reach_model(kind, impressions, followers, kinds=len(KINDS), plain=True)
    assert full.log_likelihood > plain.log_likelihood + 50
    assert full.slope > 0.2


@pytest.mark.parametrize("source", SOURCES)
def test_the_rates_of_kinds_of_real_posts_lie_within_the_range_of_their_raw_ratios(source):
    kind, impressions, followers = real_posts(source)
    config = EstimationConfig(
        half_life_days=1e6, horizon_days=1e6, hazard_per_day=0.0, drift_days=()
    )
    batch = PostBatch(
        1, 4, np.zeros(len(kind), int), kind, np.full(len(kind), 5e3), impressions, followers
    )
    known = posterior(sufficient_statistics(batch, config), config)
    raw = [followers[kind == k].sum() / impressions[kind == k].sum() * 1000 for k in range(4)]
    assert (np.exp(known.log_mean[0]) < max(raw) * 1.05).all()
    assert (np.exp(known.log_mean[0]) > 0).all()
    assert (known.interval_log_sd[0] > known.log_sd[0]).all()


def test_posts_without_impressions_are_refused():
    with pytest.raises(ValueError, match="impressions"):
        fit_reach_model(np.zeros(2, int), np.array([0.0, 5.0]), np.ones(2), kinds=1)
    with pytest.raises(ValueError, match="nobody"):
        fit_reach_model(np.zeros(2, int), np.array([9.0, 5.0]), np.zeros(2), kinds=1)
