"""Every follower is credited once, whatever the counts; parameters and rates are recovered."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.attribution import (
    Attribution,
    AttributionConfig,
    Learned,
    attribute_followers,
    attribute_step,
)
from genopt_pipeline.core.attribution.engine import solve
from genopt_pipeline.core.attribution.frames import build_problem
from genopt_pipeline.core.attribution.report import count_interval
from genopt_pipeline.sandbox.attributed import ObservedAccount, observe_account
from genopt_pipeline.sandbox.loop import account_seeds
from genopt_pipeline.sandbox.world import WORLDS, audience_hours

START = pd.Timestamp("2026-03-02", tz="UTC")
WINDOW = pd.Timedelta(hours=2)


def changes(*delta: float, start: pd.Timestamp = START) -> pd.DataFrame:
    """Two-hour windows that follow each other."""
    first = start + WINDOW * np.arange(len(delta))
    return pd.DataFrame({"window_start": first, "window_end": first + WINDOW, "delta": delta})


def gains(*rows: tuple[str, str, int, float]) -> pd.DataFrame:
    """Rows of post, generator, number of the window, impressions."""
    frame = pd.DataFrame(rows, columns=["post_id", "generator_name", "window", "impressions"])
    frame["window_start"] = START + WINDOW * frame.pop("window").astype(float)
    return frame


def assert_conserved(result: Attribution, deltas: pd.DataFrame) -> None:
    """Posts and baseline of every window sum to its change."""
    credited = result.posts.groupby("window_start")["followers"].sum()
    line = result.baseline.set_index("window_start")
    total = line["followers"].add(credited, fill_value=0.0)
    given_ = deltas.set_index("window_start")["delta"].astype(float).sort_index()
    assert total.index.equals(given_.index)
    scale = np.maximum(1.0, line[["organic", "unfollows"]].abs().max(axis=1))
    assert ((total - given_).abs() <= 1e-9 * np.maximum(scale, given_.abs())).all()
    assert (result.posts["followers"] >= 0).all()
    assert np.allclose(line["organic"] - line["unfollows"], line["followers"], atol=1e-9)


@pytest.fixture(scope="module")
def account() -> ObservedAccount:
    return observe_account(WORLDS["stationary"], int(account_seeds(5, 1)[0]), 20)


@pytest.fixture(scope="module")
def attributed(account: ObservedAccount) -> Attribution:
    return attribute_followers(account.deltas, account.exposures)


@pytest.fixture(scope="module")
def attributed_impressions(account: ObservedAccount) -> Attribution:
    return attribute_followers(account.deltas, without_clicks(account))


def without_clicks(account: ObservedAccount) -> pd.DataFrame:
    return account.exposures.assign(profile_clicks=np.nan)


# Conservation ---------------------------------------------------------------------------------

counts = st.integers(-100_000, 100_000) | st.floats(-1e5, 1e5)
rows = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.integers(-2, 30),
        st.floats(0, 1e9, allow_subnormal=False),
        st.none() | st.integers(0, 10**6),
        st.none() | st.integers(0, 10**4),
    ),
    max_size=40,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(counts, min_size=1, max_size=24),
    rows,
    st.sets(st.integers(0, 23)),
    st.booleans(),
)
def test_posts_and_baseline_sum_to_the_change_of_every_window(delta, seen, missing, estimate):
    deltas = changes(*delta)
    deltas = deltas[[j not in missing or j == 0 for j in range(len(deltas))]]
    exposures = gains(*[(f"p{p}", f"g{p % 3}", j, i) for p, j, i, _, _ in seen])
    exposures["profile_clicks"] = np.array([row[3] for row in seen], dtype=float)
    exposures["platform_follows"] = np.array([row[4] for row in seen], dtype=float)
    config = AttributionConfig(estimate_lag=estimate, estimate_frailty=estimate)
    assert_conserved(attribute_followers(deltas, exposures, config=config), deltas)


def test_a_simulated_month_is_conserved_and_its_total_is_right(account, attributed):
    assert_conserved(attributed, account.deltas)
    assert attributed.totals["followers"].sum() == pytest.approx(account.follows.sum(), rel=0.2)


def test_a_gap_is_merged_into_the_next_window_and_nothing_is_lost(account):
    """Windows 50 to 52 had no reading: their change came with the fourth window's."""
    deltas = account.deltas.copy()
    merged = deltas.loc[50:53, "delta"].sum()
    deltas = deltas.drop([50, 51, 52])
    deltas.loc[53, "window_start"] = account.deltas.loc[50, "window_start"]
    deltas.loc[53, "delta"] = merged
    result = attribute_followers(deltas, account.exposures)
    assert_conserved(result, deltas)
    whole = attribute_followers(account.deltas, account.exposures)
    assert result.totals["followers"].sum() == pytest.approx(
        whole.totals["followers"].sum(), rel=0.05
    )


def test_a_jump_is_quarantined_stays_on_the_baseline_and_moves_no_post(account, attributed):
    deltas = account.deltas.copy()
    deltas["delta"] = deltas["delta"].astype(float)
    deltas.loc[100, "delta"] += 5_000
    result = attribute_followers(deltas, account.exposures)
    assert_conserved(result, deltas)
    assert result.quarantined["window_start"].tolist() == [deltas.loc[100, "window_start"]]
    at_jump = result.posts["window_start"] == deltas.loc[100, "window_start"]
    assert result.posts.loc[at_jump, "followers"].sum() == 0.0
    before = attributed.totals["followers"].sum()
    assert result.totals["followers"].sum() == pytest.approx(before, rel=0.1)
    assert any("beyond what the model allows" in warning for warning in result.warnings)


def test_exposure_outside_of_all_windows_earns_nothing_and_is_unknown_not_zero():
    result = attribute_followers(changes(3, 4), gains(("a", "g", 0, 10.0), ("b", "h", 9, 10.0)))
    totals = result.totals.set_index("post_id")
    assert np.isnan(totals.loc["b", "followers"])
    assert totals.loc["a", "followers"] > 0
    assert any("lie in no window" in warning for warning in result.warnings)


def test_without_posts_everything_is_baseline():
    deltas = changes(3, -1, 0)
    empty = gains().astype({"impressions": float})
    empty["window_start"] = pd.DatetimeIndex([], tz="UTC")
    result = attribute_followers(deltas, empty)
    assert result.baseline["followers"].tolist() == [3.0, -1.0, 0.0]
    assert result.posts.empty


# What is learned ------------------------------------------------------------------------------


def test_rates_parameters_and_rhythm_are_recovered_within_their_errors():
    """Over accounts, three quarters at least lie within two standard errors (95 % if normal)."""
    world = WORLDS["stationary"]
    hits: dict[str, list[bool]] = {name: [] for name in ("b", "u", "lag", "rate")}
    for seed in account_seeds(6, 4):
        seen = observe_account(world, int(seed), 30)
        result = attribute_followers(seen.deltas, without_clicks(seen))
        found, error = result.parameters, result.parameters["standard_errors"]
        b, u = world.organic_follows_per_day / 24, world.unfollows_per_day / 24
        hits["b"].append(abs(found["b_per_hour"] - b) < 2 * error["b_per_hour"])
        hits["u"].append(abs(found["u_per_hour"] - u) < 2 * error["u_per_hour"])
        off = np.log(found["lag_hours"] / world.follow_lag_hours)
        hits["lag"].append(abs(off) < 2 * error["log_lag"])
        table = result.generators.set_index("generator_name")
        off = np.log(table["rate_per_1k"] / seen.rates[: len(table)]) / table["sd_log"]
        hits["rate"].extend(off.abs() < 2)
        level = np.array(found["rhythm"])
        middles = np.arange(len(level)) * 2.0
        true = (audience_hours(world, middles + 2) - audience_hours(world, middles)) / 2
        assert np.sqrt(np.mean((level - true) ** 2)) < 0.12
    assert all(np.mean(hit) >= 0.75 for hit in hits.values()), hits


def test_without_a_rhythm_in_the_impressions_the_clock_is_real_time():
    world = replace(WORLDS["stationary"], day_amplitude=0.0, week_amplitude=0.0)
    seen = observe_account(world, int(account_seeds(6, 1)[0]), 20)
    level = attribute_followers(seen.deltas, seen.exposures).parameters["rhythm"]
    assert np.std(level) < 0.12


def test_a_short_history_has_no_rhythm(account):
    early = account.deltas["window_end"] <= account.deltas["window_start"][0] + 60 * WINDOW
    exposures = account.exposures
    exposures = exposures[exposures["window_start"] < account.deltas["window_end"][early].iloc[-1]]
    result = attribute_followers(account.deltas[early], exposures)
    assert result.parameters["rhythm"] == "flat"


def test_shuffled_labels_give_no_spread(account, attributed):
    names = account.exposures.groupby("post_id")["generator_name"].first()
    shuffled = pd.Series(np.random.default_rng(1).permutation(names.to_numpy()), index=names.index)
    exposures = account.exposures.assign(generator_name=account.exposures["post_id"].map(shuffled))
    lost = attribute_followers(account.deltas, exposures)
    # what remains is chance: posts differ, and a generator has few of them
    spread = np.log(lost.generators["rate_per_1k"]).std()
    assert spread < 0.6 * np.log(attributed.generators["rate_per_1k"]).std()


def test_twice_the_posting_rate_does_not_change_f_per_1k():
    levels = []
    for per_day in (10.0, 20.0):
        world = replace(WORLDS["stationary"], posts_per_day=per_day, rate_spread=0.0)
        rates = [
            attribute_followers(seen.deltas, seen.exposures).generators["rate_per_1k"].mean()
            for seen in (observe_account(world, int(s), 30) for s in account_seeds(8, 3))
        ]
        levels.append(np.mean(rates))
    assert levels == pytest.approx([world.median_f_per_1k] * 2, rel=0.15)


def test_profile_clicks_are_worth_more_than_impressions(account, attributed):
    other = attribute_followers(account.deltas, without_clicks(account))
    errors = []
    for result in (attributed, other):
        totals = result.totals.set_index("post_id")["followers"]
        errors.append(
            np.square(totals - account.follows[totals.index.to_numpy(dtype=np.int64)]).mean()
        )
    assert errors[0] < 0.5 * errors[1]
    assert (attributed.generators["information"] > other.generators["information"]).mean() > 0.8


def test_what_credited_followers_are_worth_lies_between_nothing_and_a_counted_one(attributed):
    known = attributed.totals["information"].dropna()
    assert ((known > 0) & (known <= 1)).all()


def test_credit_by_profile_clicks_is_not_drawn_together_before_it_is_read():
    """Over accounts, log rates of credit against true ones have slope one."""
    true, credited = [], []
    for seed in account_seeds(9, 10):
        seen = observe_account(WORLDS["stationary"], int(seed), 30)
        totals = attribute_followers(seen.deltas, seen.exposures).totals
        by_generator = totals.groupby("generator_name")[["followers", "impressions"]].sum()
        log_rate = np.log(by_generator["followers"] / by_generator["impressions"]).to_numpy()
        credited.extend(log_rate - log_rate.mean())
        log_true = np.log(seen.rates[[int(name[1:]) for name in by_generator.index]])
        true.extend(log_true - log_true.mean())
    slope = np.dot(true, credited) / np.dot(true, true)
    # two standard errors; drawn together as a posterior it would be 0.78
    assert slope == pytest.approx(1.0, abs=0.12)


def test_carried_parameters_give_the_same_rates_as_the_fit_they_come_from(account):
    config = AttributionConfig()
    problem = build_problem(account.deltas, without_clicks(account), config)
    first = solve(problem, config)
    again = solve(problem, config, first.learned, variance=False)
    assert again.learned.lag_hours == pytest.approx(first.learned.lag_hours)
    assert np.abs(np.log(again.learned.rate / first.learned.rate)).max() < 0.1
    assert again.split.total.sum() == pytest.approx(first.split.total.sum(), rel=0.02)


# A step between two fits ----------------------------------------------------------------------


def last_days(account: ObservedAccount, exposures: pd.DataFrame, windows: int = 78):
    """The last windows, and the posts that are seen from their beginning there."""
    deltas = account.deltas.iloc[-windows:]
    since = deltas["window_start"].iloc[0]
    first = exposures.groupby("post_id")["window_start"].min()
    return deltas, exposures[exposures["window_start"] >= since], first.index[first > since]


@pytest.mark.parametrize("clicks", [False, True])
def test_a_step_credits_what_the_fit_of_the_whole_month_credits(account, clicks):
    exposures = account.exposures if clicks else without_clicks(account)
    whole = attribute_followers(account.deltas, exposures)
    deltas, recent, complete = last_days(account, exposures)
    learned = Learned.from_json(json.loads(json.dumps(whole.learned.as_json())))
    step = attribute_step(deltas, recent, learned)
    assert_conserved(step, deltas)
    # posts that went live so late that older ones, known in part only, are gone
    recently = account.posted_hours[complete] >= 20 * 24 - 96
    expected, found = (
        result.totals.set_index("post_id").loc[complete[recently]] for result in (whole, step)
    )
    assert len(found) > 40
    for column in ("followers", "variance", "information"):
        assert found[column].to_numpy() == pytest.approx(
            expected[column].to_numpy(), rel=0.02, abs=0.02
        )
    assert step.parameters["lag_hours"] == whole.parameters["lag_hours"]
    assert not step.parameters["estimated"]
    assert whole.parameters["estimated"]


@settings(max_examples=40, deadline=None)
@given(delta=st.lists(counts, min_size=1, max_size=24), seen=rows)
def test_a_step_conserves_whatever_comes(attributed_impressions, delta, seen):
    deltas = changes(*delta)
    exposures = gains(*[(f"p{p}", f"g0{p % 3}", j, i) for p, j, i, _, _ in seen])
    learned = attributed_impressions.learned
    assert_conserved(attribute_step(deltas, exposures, learned), deltas)


def test_a_generator_that_the_fit_did_not_know_has_the_accounts_level(account):
    exposures = without_clicks(account)
    whole = attribute_followers(account.deltas, exposures)
    deltas, recent, _ = last_days(account, exposures)
    recent = recent.assign(generator_name=recent["generator_name"].replace("g03", "new"))
    step = attribute_step(deltas, recent, whole.learned)
    assert_conserved(step, deltas)
    rates = step.generators.set_index("generator_name")
    assert "g03" not in rates.index
    known = rates.drop(index="new")
    assert known["rate_per_1k"].min() < rates.loc["new", "rate_per_1k"] < known["rate_per_1k"].max()
    assert rates.loc["new", "information"] == rates["information"].min()


def test_a_step_in_another_unit_of_exposure_is_an_error(account, attributed):
    deltas, recent, _ = last_days(account, without_clicks(account))
    with pytest.raises(ValueError, match="per unit of profile_clicks, but these exposures are imp"):
        attribute_step(deltas, recent, attributed.learned)


def test_the_result_does_not_depend_on_the_order_of_rows_or_the_unit_of_exposure(account):
    shuffled = attribute_followers(
        account.deltas.sample(frac=1, random_state=1),
        without_clicks(account).sample(frac=1, random_state=2),
    )
    scaled = without_clicks(account)
    scaled["impressions"] *= 1000.0
    plain = attribute_followers(account.deltas, without_clicks(account))
    pd.testing.assert_frame_equal(shuffled.totals, plain.totals)
    thousand = attribute_followers(account.deltas, scaled)
    assert np.allclose(thousand.totals["followers"], plain.totals["followers"], rtol=1e-6)
    assert np.allclose(
        1000.0 * thousand.generators["rate_per_1k"], plain.generators["rate_per_1k"], rtol=1e-6
    )


# Which exposure -------------------------------------------------------------------------------


def test_clicks_known_for_some_posts_only_leave_the_others_their_impressions(account):
    exposures = account.exposures.copy()
    exposures.loc[exposures["post_id"] % 2 == 1, "profile_clicks"] = np.nan
    result = attribute_followers(account.deltas, exposures)
    assert_conserved(result, account.deltas)
    assert result.parameters["exposure"] == "profile_clicks"
    totals = result.totals.set_index("post_id")["followers"]
    true = pd.Series(account.follows)
    for odd in (0, 1):
        posts = totals.index[totals.index.to_numpy() % 2 == odd]
        assert totals[posts].sum() == pytest.approx(true[posts].sum(), rel=0.25)


def test_clicks_of_nobody_are_no_exposure(account):
    result = attribute_followers(account.deltas, without_clicks(account))
    assert result.parameters["exposure"] == "impressions"
    with pytest.raises(ValueError, match="profile_clicks is wanted as exposure"):
        attribute_followers(
            account.deltas,
            without_clicks(account),
            config=AttributionConfig(exposure="profile_clicks"),
        )


# Malformed input ------------------------------------------------------------------------------

GOOD = gains(("a", "g", 0, 10.0), ("a", "g", 1, 5.0), ("b", "h", 1, 7.0))


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("impressions", 1, np.nan, "exposures: impressions in row 1 is nan"),
        ("impressions", 1, np.inf, "exposures: impressions in row 1 is inf"),
        ("impressions", 2, -1.0, "exposures: impressions in row 2 is -1.0"),
        ("generator_name", 1, "other", "post_id 'a' has another generator before"),
        ("generator_name", 0, None, "exposures: generator_name in row 0"),
        ("window_start", 1, START, "occurs twice for post_id 'a'"),
    ],
)
def test_a_fault_in_an_exposure_is_named_with_its_row(column, row, value, message):
    bad = GOOD.copy()
    bad.loc[row, column] = value
    with pytest.raises(ValueError, match=message.replace("'", ".")):
        attribute_followers(changes(1, 2), bad)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("delta", 1, np.nan, "deltas: delta in row 1 is nan"),
        ("delta", 0, -np.inf, "deltas: delta in row 0 is -inf"),
        ("window_end", 0, START, "window_end in row 0 .* is not after window_start"),
        ("window_end", 0, START + 1.5 * WINDOW, "windows must not overlap"),
        ("window_start", 1, pd.NaT, "deltas: window_start in row 1 is null"),
    ],
)
def test_a_fault_in_a_change_is_named_with_its_row(column, row, value, message):
    bad = changes(1.0, 2.0)
    bad.loc[row, column] = value
    with pytest.raises(ValueError, match=message):
        attribute_followers(bad, GOOD)


def test_no_changes_at_all_is_an_error():
    with pytest.raises(ValueError, match="deltas: no rows"):
        attribute_followers(changes(1).iloc[:0], GOOD)


@pytest.mark.parametrize(
    "setting",
    [
        {"lag_hours": 0.0},
        {"frailty_variance": np.nan},
        {"click_frailty_variance": -1.0},
        {"interval": 1.0},
        {"max_iterations": 0},
        {"exposure": "likes"},
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        AttributionConfig(**setting)


# Intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "variance"), [(0.3, 0.5), (3.0, 9.0), (40.0, 400.0)])
def test_an_interval_of_counts_covers_what_it_says(mean, variance):
    size = mean**2 / (variance - mean)
    drawn = np.random.default_rng(1).negative_binomial(size, size / (size + mean), 4000)
    low, high = count_interval(np.array([mean]), np.array([variance]), 0.9)
    inside = np.mean((drawn >= low) & (drawn <= high))
    middle = np.mean(0.5 * ((drawn == low) + (drawn == high)))
    assert inside - middle < 0.9 + 0.02
    assert inside > 0.9 - 0.07
