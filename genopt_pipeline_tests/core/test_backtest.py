from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from genopt_pipeline.core.backtest import backtest, totals_as_of
from genopt_pipeline.core.policies import OptimizerConfig, ProposalInputError, propose_weights

START = datetime(2026, 3, 1, tzinfo=UTC)
RATES = {"a": 1.0, "b": 2.0, "c": 5.0}


def history_of(days=20, per_day=15, seed=0):
    """Posts drawn evenly, seen when young and when mature."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(days * per_day):
        name = str(rng.choice(list(RATES)))
        posted = START + timedelta(days=(i + 0.5) / per_day)
        impressions = float(np.round(np.exp(rng.normal(7, 0.7))))
        followers = float(rng.poisson(RATES[name] * impressions / 1000))
        for hours, share in ((5, 0.3), (120, 1.0)):
            rows.append(
                {
                    "post_id": f"p{i}",
                    "generator_name": name,
                    "posted_at": posted,
                    "observed_at": posted + timedelta(hours=hours),
                    "impressions": np.floor(share * impressions),
                    "followers": np.floor(share * followers),
                    "selection_probability": 1 / 3,
                }
            )
    return pd.DataFrame(rows)


EVEN = dict.fromkeys(RATES, 1 / 3)


@pytest.mark.parametrize("policy", ["thompson", "exponential"])
def test_a_replay_learns_the_best_generator_and_is_worth_more_than_the_log(policy):
    result = backtest(
        history_of(),
        EVEN,
        start=START + timedelta(days=3),
        end=START + timedelta(days=20),
        config=OptimizerConfig(policy=policy),
    )
    last = result.proposals[-1].weights
    assert max(last, key=last.__getitem__) == "c"
    assert result.value.f_per_1k > result.logged.f_per_1k
    assert len(result.weights_table()) == len(result.proposals) == 17 * 4


def test_a_replay_sees_nothing_that_was_observed_later():
    history = history_of(8)
    cut = START + timedelta(days=6)
    changed = history.copy()
    later = changed["observed_at"] > cut
    changed.loc[later, "followers"] = 500.0
    window = {"start": START + timedelta(days=3), "end": cut + timedelta(hours=6)}
    plain, other = (backtest(h, EVEN, **window) for h in (history, changed))
    assert [p.to_json() for p in plain.proposals] == [p.to_json() for p in other.proposals]
    assert plain.logged != other.logged


def test_each_step_of_a_replay_is_the_proposal_of_that_time():
    history = history_of(8)
    start = START + timedelta(days=5)
    result = backtest(history, EVEN, start=start, end=start + timedelta(hours=12))
    first, second = result.proposals
    again = propose_weights(totals_as_of(history, start), EVEN, now=start)
    assert first.to_json() == again.to_json()
    assert second.as_of == start + timedelta(hours=6)


def test_a_replay_of_nothing_is_refused():
    with pytest.raises(ProposalInputError, match="no window"):
        backtest(history_of(2), EVEN, start=START, end=START)
    with pytest.raises(ProposalInputError, match="observed_at"):
        backtest(
            history_of(2).drop(columns="observed_at"),
            EVEN,
            start=START,
            end=START + timedelta(days=1),
        )


def test_a_replay_is_compared_with_other_weights_by_posts_and_by_the_model():
    start, end = START + timedelta(days=3), START + timedelta(days=12)
    poor = {"a": 0.9, "b": 0.05, "c": 0.05}
    seen = []
    result = backtest(
        history_of(12),
        EVEN,
        start=start,
        end=end,
        alternatives={"even": lambda _: EVEN, "poor": lambda _: poor},
        progress=seen.append,
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1
    found = {weighting.name: weighting for weighting in result.weightings}
    assert list(found) == ["replayed", "even", "poor"]
    assert found["replayed"].off_policy == result.value
    assert found["even"].off_policy.f_per_1k == pytest.approx(result.logged.f_per_1k)
    assert found["even"].mean_weights == pytest.approx(EVEN)
    assert found["replayed"].replayed_over.gain == 0
    assert 0 < found["even"].replayed_over.low < found["poor"].replayed_over.low
    for weighting in found.values():
        assert weighting.model.low < weighting.off_policy.f_per_1k < weighting.model.high


def test_without_known_probabilities_a_replay_has_no_value_from_posts():
    history = history_of(6).assign(selection_probability=np.nan)
    result = backtest(history, EVEN, start=START + timedelta(days=3), end=START + timedelta(days=6))
    assert result.value.f_per_1k is None
    assert result.value.left_out == 45
    assert result.weightings[0].model.f_per_1k > 0
