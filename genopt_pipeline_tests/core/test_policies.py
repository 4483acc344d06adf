import itertools
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.estimation import (
    EstimationConfig,
    PostBatch,
    Posterior,
    SufficientStatistics,
    sufficient_statistics,
)
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.policies import (
    ExponentialConfig,
    GeneratorState,
    GuardConfig,
    GuardError,
    OptimizerConfig,
    ProposalInputError,
    ThompsonConfig,
    propose_batch,
    propose_both,
    propose_weights,
)
from genopt_pipeline.core.policies.contract import read_states
from genopt_pipeline.core.policies.exponential import performance_table
from genopt_pipeline.core.policies.inputs import read_posts
from genopt_pipeline.core.policies.prices import best_value
from genopt_pipeline.core.policies.proposal import bounds_for, propose_from_table
from genopt_pipeline.core.policies.thompson import thompson_shares

NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
NAMES = list(DEFAULT_WEIGHTS)
BOTH = ("thompson", "exponential")


def posts_of(counts, names=NAMES, *, rates=None, seed=0, days=7.0):
    """``counts[k]`` posts of each generator, spread over the last days; F/1K as given."""
    rng = np.random.default_rng(seed)
    generator = np.repeat(np.arange(len(names)), counts)
    n = len(generator)
    rates = np.full(len(names), 2.0) if rates is None else np.asarray(rates)
    impressions = np.round(np.exp(rng.normal(7, 1, n))) + 1
    age_days = days * rng.permutation(np.arange(n) + 0.5) / max(n, 1)
    return pd.DataFrame(
        {
            "post_id": [f"p{i}" for i in range(n)],
            "generator_name": np.array(names, dtype=object)[generator],
            "posted_at": pd.to_datetime(
                [NOW - timedelta(days=float(age)) for age in age_days], utc=True
            ),
            "impressions": impressions,
            "followers": rng.poisson(rates[generator] * impressions / 1000).astype(float),
            "selection_probability": 1 / len(names),
        }
    )


@st.composite
def accounts(draw):
    """An account of 1 to 60 generators in any state, with posts that may be strange."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = [f"g{k:03d}" for k in range(n)]
    weights = np.round(rng.dirichlet(np.ones(n)), 4)
    status = rng.choice(
        ["active", "testing", "disabled", "archived"], size=n, p=[0.8, 0.1, 0.05, 0.05]
    )
    locked = rng.random(n) < draw(st.sampled_from([0.0, 0.1]))
    states = {
        name: GeneratorState(float(w), str(s), bool(lock))
        for name, w, s, lock in zip(names, weights, status, locked, strict=True)
    }
    counts = rng.integers(0, draw(st.sampled_from([1, 4, 20])) + 1, n)
    posts = posts_of(counts, names, rates=np.exp(rng.normal(0, 1, n)), seed=int(rng.integers(99)))
    if len(posts) and draw(st.booleans()):
        odd = draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, -5.0, 0.0]), max_size=4))
        for value in odd:
            column = rng.choice(["impressions", "followers"])
            posts.loc[rng.integers(len(posts)), column] = value
        posts = pd.concat([posts, posts.head(2)], ignore_index=True)
    return posts, states


@pytest.mark.parametrize("policy", BOTH)
@given(account=accounts())
@settings(max_examples=60, deadline=None)
def test_any_account_gets_weights_that_keep_every_guarantee_or_an_error(policy, account):
    posts, states = account
    try:
        proposal = propose_weights(posts, states, now=NOW, config=OptimizerConfig(policy=policy))
    except (ProposalInputError, GuardError) as error:
        said = str(error)
        proposal = None
    if proposal is None:
        assert any(name in said for name in states) or "no generator" in said
        return
    units = {name: round(weight * 10_000) for name, weight in proposal.weights.items()}
    assert sum(units.values()) == 10_000
    assert set(units) == set(states)
    floor = proposal.diagnostics["floor"]
    for name, state in states.items():
        assert proposal.weights[name] == units[name] / 10_000
        if state.status in {"disabled", "archived"}:
            assert units[name] == 0
        elif state.locked:
            assert proposal.weights[name] == state.weight
        else:
            assert units[name] >= math.floor(floor * 10_000 - 1e-6)
    json.loads(proposal.to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize("policy", BOTH)
@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_and_generators_changes_no_byte(policy, seed):
    posts = posts_of([6] * 12, rates=np.linspace(0.5, 4, 12), seed=seed)
    config = OptimizerConfig(policy=policy)
    plain = propose_weights(posts, DEFAULT_WEIGHTS, now=NOW, config=config)
    shuffled = propose_weights(
        posts.sample(frac=1, random_state=seed),
        dict(reversed(DEFAULT_WEIGHTS.items())),
        now=NOW,
        config=config,
    )
    assert shuffled.to_json() == plain.to_json()


@pytest.mark.parametrize("policy", BOTH)
def test_renaming_the_generators_renames_the_weights_and_nothing_else(policy):
    rates = np.linspace(0.5, 4, 12)
    states = dict(zip(NAMES, np.linspace(0.05, 0.7 / 6, 12), strict=True))
    renamed = {name: f"x{99 - k}" for k, name in enumerate(NAMES)}
    posts = posts_of([6] * 12, rates=rates)
    other = posts.assign(generator_name=posts["generator_name"].map(renamed))
    config = OptimizerConfig(policy=policy)
    first = propose_weights(posts, states, now=NOW, config=config).unrounded_weights
    second = propose_weights(
        other, {renamed[name]: weight for name, weight in states.items()}, now=NOW, config=config
    ).unrounded_weights
    for name in NAMES:
        assert second[renamed[name]] == pytest.approx(first[name], abs=1e-12)


@pytest.mark.parametrize("policy", BOTH)
@given(seed=st.integers(0, 500), k=st.integers(0, 11), more=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_more_followers_never_give_a_generator_a_smaller_target(policy, seed, k, more):
    posts = posts_of([5] * 12, seed=seed)
    better = posts.copy()
    of_k = np.flatnonzero(posts["generator_name"] == NAMES[k])
    # spread over its posts, as a better generator would earn them
    share = posts["impressions"].to_numpy()[of_k]
    better.loc[of_k, "followers"] += more * share / share.sum()
    config = OptimizerConfig(
        policy=policy,
        # dispersion and good days are matters of all posts together; held, so that only the
        # generator's rate moves
        estimation=EstimationConfig(dispersion_posts=1e9, common_margin=1e9),
    )
    old, new = (
        propose_weights(p, DEFAULT_WEIGHTS, now=NOW, config=config).diagnostics["target"][NAMES[k]]
        for p in (posts, better)
    )
    assert new >= old - 1e-9


def _known(rng, n):
    """Any posterior of n generators of one account, as ``thompson`` takes it."""
    mean, sd, shrink = rng.normal(0, 0.7, n), rng.uniform(0.05, 1.0, n), rng.uniform(0, 1, n)
    nothing = np.zeros((1, n))
    return Posterior(
        log_mean=mean[None],
        log_sd=sd[None],
        interval_log_sd=sd[None],
        shrink=shrink[None],
        change_probability=nothing,
        change_days=nothing,
        drift=np.zeros(1),
        level=np.ones(1),
        spread=np.full(1, 0.5),
        differ=rng.uniform(0, 1, 1),
    )


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40), lift=st.floats(0.001, 3.0))
@settings(max_examples=80, deadline=None)
def test_a_better_posterior_never_gets_a_smaller_target(seed, n, lift):
    rng = np.random.default_rng(seed)
    known, k = _known(rng, n), int(rng.integers(n))
    better = known.log_mean.copy()
    better[0, k] += lift
    present = np.ones((1, n), dtype=bool)
    config = ThompsonConfig()
    old = thompson_shares(known, present, config)[0]
    new = thompson_shares(replace(known, log_mean=better), present, config)[0]
    # one thousandth of room: the two integrals run over different cells
    assert new[k] >= old[k] - 1e-3
    assert new.sum() == pytest.approx(1.0)
    assert (new >= config.exploration / n - 1e-12).all()


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_targets_and_weights_of_permuted_generators_are_permuted(seed, n):
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    bins = len(EstimationConfig().cut_days) + 1
    exposure = rng.gamma(0.5, 5.0, (1, n, bins)) * (rng.random((1, n, 1)) < 0.9)
    statistics = SufficientStatistics(
        followers=rng.poisson(2.0 * exposure).astype(float),
        exposure=exposure,
        posts=np.full((1, n), 9),
        dispersion=np.array([0.7]),
    )
    permuted = replace(
        statistics,
        followers=statistics.followers[:, order],
        exposure=statistics.exposure[:, order],
    )
    weights = rng.dirichlet(np.ones(n))[None]
    lower, upper = np.full((1, n), min(0.02, 0.5 / n)), np.ones((1, n))
    exact, _ = propose_batch(statistics, weights, lower, upper)
    other, _ = propose_batch(permuted, weights[:, order], lower, upper)
    assert other[0] == pytest.approx(exact[0, order], abs=1e-9)


def _posts_of_different_reach(seed=0):
    """The first generator has the best F/1K, the second ten times the reach."""
    names = ["sharp", "wide", "c", "d"]
    posts = posts_of([60] * 4, names, rates=[4.0, 2.0, 1.0, 1.0], seed=seed)
    wide = posts["generator_name"] == "wide"
    posts.loc[wide, ["impressions", "followers"]] *= 10.0
    return posts, dict.fromkeys(names, 0.25)


def test_the_objective_decides_and_the_proposal_says_what_the_other_would_be_worth():
    posts, weights = _posts_of_different_reach()
    for objective, best in (("f_per_1k", "sharp"), ("followers_per_post", "wide")):
        config = OptimizerConfig(objective=objective)
        proposal = propose_weights(posts, weights, now=NOW, config=config)
        assert max(proposal.weights, key=proposal.weights.get) == best
        told = proposal.diagnostics["objectives"]
        assert proposal.diagnostics["objective"] == objective
        assert told["agree"] is False
        assert told["best"] == {"f_per_1k": "sharp", "followers_per_post": "wide"}
        assert 1.0 < told["gain_per_post"] < 6.0
        assert proposal.diagnostics["generators"]["wide"]["reach_ratio"] > 3.0


def test_where_reach_is_equal_the_objectives_agree_and_a_switch_is_worth_nothing():
    posts = posts_of([60] * 4, list("abcd"), rates=[4.0, 2.0, 1.0, 1.0])
    posts["impressions"] = 1000.0
    proposal = propose_weights(posts, dict.fromkeys("abcd", 0.25), now=NOW)
    assert proposal.diagnostics["objectives"]["agree"] is True
    assert abs(proposal.diagnostics["objectives"]["gain_per_post"]) < 0.02
    nothing = propose_weights(posts.head(0), dict.fromkeys("abcd", 0.25), now=NOW)
    assert nothing.diagnostics["objectives"]["gain_per_post"] is None


def test_counts_without_posts_cannot_serve_followers_per_post():
    config = OptimizerConfig(objective="followers_per_post")
    table = performance_table(
        read_posts(posts_of([9] * 12), NAMES, now=NOW)[0], NAMES, config.exponential
    )
    states = read_states(DEFAULT_WEIGHTS)
    with pytest.raises(ProposalInputError, match="single posts"):
        propose_from_table(table, states, bounds=bounds_for(states, config), now=NOW, config=config)


@pytest.mark.parametrize("policy", BOTH)
def test_without_new_evidence_the_weights_converge_and_then_stay(policy):
    posts = posts_of([8] * 12, rates=np.linspace(0.5, 4, 12))
    config = OptimizerConfig(policy=policy)
    weights = dict(DEFAULT_WEIGHTS)
    targets, moved = [], []
    for _ in range(40):
        proposal = propose_weights(posts, weights, now=NOW, config=config)
        targets.append(proposal.diagnostics["target"])
        moved.append(sum(abs(c.new_weight - c.old_weight) for c in proposal.changes))
        weights = proposal.weights
    assert all(target == pytest.approx(targets[0], abs=1e-12) for target in targets)
    assert moved[-1] == 0.0
    assert all(later <= earlier + 2e-3 for earlier, later in itertools.pairwise(moved))


@pytest.mark.parametrize("policy", BOTH)
def test_below_twenty_posts_in_the_window_the_weights_stay_and_say_why(policy):
    posts = posts_of([1] * 12 + [0] * 0, rates=np.linspace(0.5, 4, 12))
    config = OptimizerConfig(policy=policy)
    proposal = propose_weights(posts, DEFAULT_WEIGHTS, now=NOW, config=config)
    assert proposal.decision == "skipped"
    assert proposal.weights == DEFAULT_WEIGHTS
    assert proposal.changes == ()
    assert "12 posts" in proposal.reason
    assert "20" in proposal.reason


@pytest.mark.parametrize("policy", BOTH)
def test_old_posts_do_not_open_the_gate(policy):
    posts = posts_of([10] * 12)
    posts["posted_at"] -= pd.Timedelta(days=8)
    proposal = propose_weights(
        posts, DEFAULT_WEIGHTS, now=NOW, config=OptimizerConfig(policy=policy)
    )
    assert (proposal.decision, proposal.posts_analyzed) == ("skipped", 0)


@pytest.mark.parametrize("policy", BOTH)
def test_force_passes_the_gate_but_never_without_any_evidence(policy):
    config = OptimizerConfig(policy=policy)
    some = posts_of([4, 4, 4] + [0] * 9, rates=np.linspace(0.5, 4, 12))
    none = some.head(0)
    forced = propose_weights(some, DEFAULT_WEIGHTS, now=NOW, config=config, force=True)
    assert forced.decision == "proposed"
    empty = propose_weights(none, DEFAULT_WEIGHTS, now=NOW, config=config, force=True)
    assert (empty.decision, empty.weights) == ("skipped", DEFAULT_WEIGHTS)


def _targets_of_the_first(counts, followers_of_first):
    """Target of the first of four generators, the others earning 1 follower from 500 views."""
    names = ["first", "b", "c", "d"]
    posts = posts_of(counts, names, days=6.5)
    posts["posted_at"] -= pd.Timedelta(hours=6)
    first = posts["generator_name"] == "first"
    posts["impressions"] = 500.0
    posts["followers"] = np.where(first, followers_of_first, 1.0)
    proposal = propose_weights(posts, dict.fromkeys(names, 0.25), now=NOW)
    return proposal.diagnostics["target"]["first"]


def test_three_lucky_posts_move_weights_less_than_three_hundred():
    few = _targets_of_the_first([3, 60, 60, 60], 1.5)
    many = _targets_of_the_first([300, 60, 60, 60], 1.5)
    assert few < 0.85 * many


def test_a_lead_of_half_a_percent_moves_weights_less_than_a_lead_of_a_hundred():
    slight = _targets_of_the_first([25] * 4, 1.005)
    large = _targets_of_the_first([25] * 4, 2.0)
    assert abs(slight - 0.25) < 0.07
    assert large > 0.6


@pytest.mark.parametrize("policy", BOTH)
def test_a_failing_generator_is_driven_to_the_floor_and_recovers_with_its_results(policy):
    names = ["bad", "b", "c", "d"]
    states = dict.fromkeys(names, 0.25)
    config = OptimizerConfig(policy=policy)
    bad = posts_of([40] * 4, names, rates=[0, 3, 3, 3])
    proposal = propose_weights(bad, states, now=NOW, config=config)
    assert proposal.diagnostics["failing"] == ["bad"]
    assert proposal.diagnostics["target"]["bad"] == pytest.approx(0.02)
    assert "failing" in proposal.explanations["bad"]
    good = posts_of([40] * 4, names, rates=[6, 3, 3, 3])
    again = propose_weights(good, proposal.weights, now=NOW, config=config)
    assert again.diagnostics["failing"] == []
    assert again.weights["bad"] > proposal.weights["bad"]


def test_no_follower_in_ten_posts_is_not_failing_where_that_is_what_good_posts_show():
    names = ["quiet", "b", "c", "d"]
    posts = posts_of([10, 100, 100, 100], names, rates=[0.0, 0.07, 0.07, 0.07], seed=3)
    posts.loc[posts["generator_name"] == "quiet", "followers"] = 0.0
    proposal = propose_weights(posts, dict.fromkeys(names, 0.25), now=NOW)
    assert proposal.diagnostics["failing"] == []


def test_a_new_generator_gets_the_mean_target_of_the_others_under_exponential():
    names = ["new", "b", "c", "d"]
    posts = posts_of([2, 20, 20, 20], names, rates=[9, 1, 2, 3])
    proposal = propose_weights(
        posts,
        dict.fromkeys(names, 0.25),
        now=NOW,
        config=OptimizerConfig(policy="exponential"),
    )
    target = proposal.diagnostics["target"]
    assert target["new"] == pytest.approx(np.mean([target[name] for name in "bcd"]))
    assert "new" in proposal.explanations["new"]


def test_a_new_generator_gets_a_fair_chance_under_thompson():
    names = ["new", "b", "c", "d"]
    posts = posts_of([0, 30, 30, 30], names, rates=[2, 1, 2, 3])
    facts = propose_weights(posts, {"new": 0.0, "b": 0.4, "c": 0.3, "d": 0.3}, now=NOW)
    assert facts.diagnostics["generators"]["new"]["p_best"] > 0.02
    assert facts.weights["new"] >= 0.02


def test_without_any_evidence_the_reason_says_that_it_is_the_prior_alone():
    nothing = posts_of([1] * 12).head(0)
    reasons = propose_weights(nothing, DEFAULT_WEIGHTS, now=NOW).explanations.values()
    assert all("the prior alone" in reason for reason in reasons)
    assert not any("other generators" in reason for reason in reasons)


def test_both_policies_are_computed_and_the_configured_one_is_published():
    posts = posts_of([6] * 12, rates=np.linspace(0.5, 4, 12))
    for policy in BOTH:
        published, shadow = propose_both(
            posts, DEFAULT_WEIGHTS, now=NOW, config=OptimizerConfig(policy=policy)
        )
        assert published.policy == policy
        assert {published.policy, shadow.policy} == set(BOTH)


def test_every_change_says_what_was_seen_and_what_was_wanted():
    posts = posts_of([8] * 12, rates=np.linspace(0.5, 4, 12))
    proposal = propose_weights(posts, DEFAULT_WEIGHTS, now=NOW)
    assert proposal.changes
    for change in proposal.changes:
        assert change.new_weight == proposal.weights[change.generator]
        assert change.old_weight == DEFAULT_WEIGHTS[change.generator]
        assert all(word in change.reason for word in ("F/1K", "90 %", "P(best)", "posts", "target"))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("impressions", np.inf, "infinite"),
        ("impressions", -1.0, "negative impressions"),
        ("followers", -np.inf, "infinite"),
        ("generator_name", "NewsReporter", "unknown generator NewsReporter"),
        ("information", 0.0, "information"),
        ("posted_at", pd.Timestamp(NOW) + pd.Timedelta(hours=1), "after now"),
    ],
)
def test_a_post_that_cannot_be_is_left_out_by_name(column, value, said):
    posts = posts_of([8] * 12).assign(information=1.0)
    rest = posts.drop(index=5)
    posts.loc[5, column] = value
    proposal = propose_weights(posts, DEFAULT_WEIGHTS, now=NOW)
    assert any(said in warning and "p5" in warning for warning in proposal.warnings)
    assert proposal.weights == propose_weights(rest, DEFAULT_WEIGHTS, now=NOW).weights


def test_text_where_numbers_belong_is_left_out_by_name():
    posts = posts_of([8] * 12)
    posts["impressions"] = posts["impressions"].astype(object)
    posts.loc[5, "impressions"] = "12.3K"
    proposal = propose_weights(posts, DEFAULT_WEIGHTS, now=NOW)
    assert any("p5" in warning and "not a number" in warning for warning in proposal.warnings)
    assert proposal.posts_analyzed == 95


def test_an_unmeasured_post_is_unknown_and_not_a_failure():
    posts = posts_of([8] * 12)
    extra = posts.head(5).assign(post_id=[f"q{i}" for i in range(5)], followers=np.nan)
    with_unmeasured = pd.concat([posts, extra], ignore_index=True)
    for policy in BOTH:
        config = OptimizerConfig(policy=policy)
        proposals = [
            propose_weights(p, DEFAULT_WEIGHTS, now=NOW, config=config)
            for p in (posts, with_unmeasured)
        ]
        assert proposals[0].weights == proposals[1].weights


def test_a_repeated_row_counts_once_and_a_contradicted_post_not_at_all():
    posts = posts_of([8] * 12)
    repeated = pd.concat([posts, posts.iloc[[5]]], ignore_index=True)
    contradicted = pd.concat([posts, posts.iloc[[5]].assign(followers=999.0)], ignore_index=True)
    plain, twice, without, both = (
        propose_weights(p, DEFAULT_WEIGHTS, now=NOW)
        for p in (posts, repeated, posts.drop(index=5), contradicted)
    )
    assert twice.to_json() == plain.to_json()
    assert both.weights == without.weights
    assert any("p5" in warning for warning in both.warnings)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -0.1, "0.5", None, True])
def test_a_weight_that_is_none_is_an_error_that_names_the_generator(weight):
    with pytest.raises(ProposalInputError, match="coach"):
        propose_weights(posts_of([8] * 12), {**DEFAULT_WEIGHTS, "coach": weight}, now=NOW)


def test_times_without_a_zone_and_missing_columns_are_errors():
    posts = posts_of([8] * 12)
    with pytest.raises(ProposalInputError, match="time zone"):
        propose_weights(posts, DEFAULT_WEIGHTS, now=NOW.replace(tzinfo=None))
    naive = posts.assign(posted_at=posts["posted_at"].dt.tz_localize(None))
    with pytest.raises(ProposalInputError, match="time zone"):
        propose_weights(naive, DEFAULT_WEIGHTS, now=NOW)
    with pytest.raises(ProposalInputError, match="impressions"):
        propose_weights(posts.drop(columns="impressions"), DEFAULT_WEIGHTS, now=NOW)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ExponentialConfig(exploration=1.2),
        lambda: ExponentialConfig(viral_boost=0.5),
        lambda: ExponentialConfig(failure_penalty=-1.0),
        lambda: ThompsonConfig(sharpness=math.nan),
        lambda: OptimizerConfig(policy="greedy"),
        lambda: OptimizerConfig(objective="likes"),
        lambda: OptimizerConfig(window_days=0.0),
        lambda: GuardConfig(step=2.0),
    ],
)
def test_settings_outside_their_range_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        bad()


def test_many_accounts_at_once_get_the_weights_that_each_gets_alone():
    frames = [posts_of([7] * 12, rates=np.linspace(0.5, 4, 12), seed=s, days=6) for s in range(5)]
    states = dict(sorted(DEFAULT_WEIGHTS.items()))
    names = list(states)
    batch = PostBatch(
        accounts=5,
        generators=12,
        account=np.repeat(np.arange(5), [len(f) for f in frames]),
        generator=np.concatenate([[names.index(g) for g in f["generator_name"]] for f in frames]),
        age_hours=np.concatenate(
            [((pd.Timestamp(NOW) - f["posted_at"]) / pd.Timedelta(hours=1)) for f in frames]
        ),
        impressions=np.concatenate([f["impressions"] for f in frames]),
        followers=np.concatenate([f["followers"] for f in frames]),
    )
    statistics = sufficient_statistics(batch, EstimationConfig())
    weights = np.tile(np.array(list(states.values())), (5, 1))
    _, units = propose_batch(statistics, weights, np.full((5, 12), 0.02), np.ones((5, 12)), chunk=2)
    for row, frame in zip(units, frames, strict=True):
        alone = propose_weights(frame, states, now=NOW).weights
        assert [round(alone[name] * 10_000) for name in names] == row.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_the_price_of_guards_is_measured_against_the_best_possible_weights(seed, n):
    rng = np.random.default_rng(seed)
    rates, lower, upper = rng.gamma(2.0, size=n), np.full(n, 0.02), np.full(n, 0.9)
    best = best_value(rates, lower, upper)
    for _ in range(20):
        weights = rng.dirichlet(np.ones(n)) * (1 - 0.02 * n) + 0.02
        if (weights <= 0.9).all():
            assert weights @ rates <= best + 1e-9
