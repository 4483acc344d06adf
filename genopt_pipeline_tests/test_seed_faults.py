"""The faults of the earlier system: each in miniature as it was, and that it is gone.

The earlier rules are written out here in a line or two, only for the contrast: they show that the
scenario is the one in which the fault appeared.
"""

import itertools
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from genopt_pipeline.core import increments, performance, selection
from genopt_pipeline.core.attribution import attribute_followers
from genopt_pipeline.core.episodes import follow, judge
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.observations import TrackedPost
from genopt_pipeline.core.performance import summarize
from genopt_pipeline.core.policies import GeneratorState, OptimizerConfig, propose_weights
from genopt_pipeline.core.tiers import absolute_tier
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.ledger import PostLedger
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import DatabaseUnavailableError
from genopt_pipeline.store.selector import record_post
from genopt_pipeline.store.weights import Event, GeneratorRow

NOW = datetime(2026, 10, 1, tzinfo=UTC)
NAMES = sorted(DEFAULT_WEIGHTS)
EQUAL = dict.fromkeys(NAMES, 1 / 12)
BOTH = ("thompson", "exponential")


def posts_of(by_name, *, now=NOW, spread_hours=100.0):
    """One frame of posts; for each generator its posts as (impressions, followers)."""
    rows = [(name, *post) for name, posts in by_name.items() for post in posts]
    # in turns, so that no generator's posts are younger than another's
    turn = np.array([k for posts in by_name.values() for k in range(len(posts))])
    ages = 30 + spread_hours * (turn + 0.5) / max(turn.max(initial=0) + 1, 1)
    frame = pd.DataFrame(
        {
            "post_id": [f"p{i}" for i in range(len(rows))],
            "decision_id": [f"p{i}" for i in range(len(rows))],
            "generator_name": [row[0] for row in rows],
            "posted_at": pd.to_datetime([now - timedelta(hours=age) for age in ages], utc=True),
            "impressions": [float(row[1]) for row in rows],
            "followers": [float(row[2]) for row in rows],
            "selection_probability": 1 / 12,
        }
    )
    frame[["likes", "retweets", "replies", "quality_score"]] = np.nan
    return frame


def propose(posts, states, policy="thompson", now=NOW):
    return propose_weights(posts, states, now=now, config=OptimizerConfig(policy=policy))


def units(weights):
    return sum(round(weight * 10_000) for weight in weights.values())


def update(connection, by="0.0100"):
    """Publish weights in which coach has so much more, and humanVoice so much less."""
    live = weight_store.live_weights(connection, "main")
    rows = dict(live.generators)
    for name, sign in (("coach", 1), ("humanVoice", -1)):
        row = rows[name]
        rows[name] = GeneratorRow(row.weight + sign * Decimal(by), row.status, row.locked)
    weight_store.change_weights(
        connection,
        "main",
        rows,
        expected_version=live.version,
        effective_at=NOW,
        event=Event("weight_update"),
    )


# 1. Attribution --------------------------------------------------------------------------------


def simulated(seed, days=14, posts_per_day=15):
    """A simulated account: counts every two hours, readings of its posts, and the truth."""
    start = datetime(2026, 9, 7, tzinfo=UTC)
    account = SandboxAccount(seed=seed, start=start, world=WORLDS["stationary"])
    end = start + timedelta(days=days)
    drawn = account.engine_posts(start, end, lambda _: (EQUAL, 1))
    posts = [
        TrackedPost(
            decision_id=post.decision_id,
            tweet_id=post.tweet_id,
            posted_at=post.posted_at,
            generator_name=post.generator_name,
        )
        for post in drawn
    ]
    ledger = PostLedger(account, posts)
    times = [start + timedelta(hours=2 * k) for k in range(12 * days + 1)]
    counts = np.array([ledger.followers_count(at) for at in times])
    by_id = {post.decision_id: post for post in posts}
    readings = pd.DataFrame(
        [
            {
                "post_id": reading.decision_id,
                "generator_name": by_id[reading.decision_id].generator_name,
                "posted_at": by_id[reading.decision_id].posted_at,
                # what is known at the end of a window belongs to it
                "observed_at": at - timedelta(seconds=1),
                "impressions": reading.impressions,
                "profile_clicks": reading.profile_clicks,
                "platform_follows": None,
            }
            for at in times[1:]
            for reading in ledger.readings([post.decision_id for post in posts], at)
        ]
    )
    for column in ("posted_at", "observed_at"):
        readings[column] = pd.to_datetime(readings[column], utc=True)
    deltas = pd.DataFrame(
        {
            "window_start": pd.to_datetime(times[:-1], utc=True),
            "window_end": pd.to_datetime(times[1:], utc=True),
            "delta": np.diff(counts),
        }
    )
    true = dict(
        zip(by_id, ledger.true_follows(list(by_id), end).tolist(), strict=True),
    )
    return account, posts, readings, deltas, true


def rates_by_generator(followers, readings):
    """F/1K of each generator from followers by post, and their order's likeness to the truth."""
    last = readings.sort_values("observed_at").groupby("post_id").last()
    frame = pd.DataFrame(
        {
            "followers": pd.Series(followers).reindex(last.index).fillna(0.0),
            "impressions": last["impressions"].astype(float),
            "generator_name": last["generator_name"],
        }
    )
    sums = frame.groupby("generator_name")[["followers", "impressions"]].sum()
    return 1000 * sums["followers"] / sums["impressions"]


def test_no_follower_is_counted_twice_and_the_ranking_is_not_noise():
    earlier_rank, our_rank = [], []
    for seed in range(3):
        account, posts, readings, deltas, true = simulated(seed)
        day = pd.Timedelta(days=1)
        earlier = {
            post.decision_id: float(
                deltas.loc[
                    (deltas["window_start"] >= post.posted_at)
                    & (deltas["window_start"] < post.posted_at + day),
                    "delta",
                ].sum()
            )
            for post in posts
        }
        change = float(deltas["delta"].sum())
        assert sum(earlier.values()) > 12 * change  # 15 posts a day, each credited with the day

        exposures = increments.exposure_increments(readings, timedelta(hours=2))
        result = attribute_followers(deltas, exposures)
        credited = result.posts["followers"].sum() + result.baseline["followers"].sum()
        assert credited == pytest.approx(change, abs=1e-6)
        per_window = (
            result.posts.groupby("window_start")["followers"]
            .sum()
            .reindex(result.baseline["window_start"], fill_value=0.0)
            .to_numpy()
            + result.baseline["followers"].to_numpy()
        )
        assert np.allclose(per_window, deltas["delta"], atol=1e-9)
        ours = result.posts.groupby("post_id")["followers"].sum().to_dict()
        assert 0.6 < sum(ours.values()) / sum(true.values()) < 1.6

        truth = pd.Series(account.true_f_per_1k(NOW)).sort_index()
        for ranks, followers in ((earlier_rank, earlier), (our_rank, ours)):
            rates = rates_by_generator(followers, readings).reindex(truth.index)
            ranks.append(stats.spearmanr(truth, rates, nan_policy="omit").statistic)
    assert np.mean(earlier_rank) < 0.4
    assert np.mean(our_rank) > 0.6


def test_a_failed_scrape_is_a_gap_and_gains_nobody():
    start = NOW
    readings = [(0, 5000), (2, 5004), (4, None), (6, 5011)]  # the third scrape failed
    earlier = np.diff([0 if count is None else count for _, count in readings])
    assert earlier.tolist() == [4, -5004, 5011]  # the account lost, then "gained" itself

    counts = pd.DataFrame(
        [
            {
                "observed_at": pd.Timestamp(start + timedelta(hours=h, minutes=-5)),
                "followers_count": c,
            }
            for h, c in readings
            if c is not None
        ]
    )
    rows = [
        increments.follower_delta(
            counts,
            start + timedelta(hours=h),
            start + timedelta(hours=h + 2),
            earliest=start - timedelta(days=3),
        )
        for h in (0, 2, 4)
    ]
    assert [row["delta"] for row in rows] == [4, None, 7]
    assert "no follower count" in rows[1]["gap_reason"]
    assert rows[2]["covers_from"] == start + timedelta(hours=2)
    assert sum(row["delta"] or 0 for row in rows) == 5011 - 5000


# 2. Names --------------------------------------------------------------------------------------


def test_posts_match_their_generator_in_any_spelling_and_an_unknown_name_is_reported(engine):
    spellings = {"NewsReporter": "newsReporter", "news_reporter": "newsReporter"}
    spellings |= {"HumanVoice (story)": "humanVoice", "DATA NERD": "dataNerd"}
    assert not set(spellings) & set(DEFAULT_WEIGHTS)  # earlier: joined by equality, so no match
    with engine.begin() as connection:
        for number, raw in enumerate(spellings):
            got = record_post(connection, "main", f"d{number}", raw, posted_at=NOW)
            assert got == spellings[raw]
        assert record_post(connection, "main", "d9", "somebodyElse", posted_at=NOW) is None
    with engine.connect() as connection:
        matched = connection.execute(
            text("""
                SELECT c.generator_name, count(*) FROM genopt.content_metadata c
                  JOIN genopt.generator_weights USING (account_id, generator_name) GROUP BY 1
            """)
        ).all()
        quarantined = connection.execute(
            text("SELECT reason, raw ->> 'decision_id' FROM genopt.quarantine")
        ).all()
    assert dict(map(tuple, matched)) == {"newsReporter": 2, "humanVoice": 1, "dataNerd": 1}
    assert [tuple(row) for row in quarantined] == [("unknown generator 'somebodyElse'", "d9")]


# 3. Invariants ---------------------------------------------------------------------------------

ONE_STAR = {name: [(1000, 20.0 if name == "coach" else 0.1)] * 10 for name in NAMES}


@pytest.mark.parametrize("policy", BOTH)
def test_the_floor_holds_after_everything_else(policy):
    targets = np.array([0.9] + [0.001] * 11)
    earlier = np.maximum(targets, 0.02)
    assert (earlier / earlier.sum()).min() < 0.02  # the normalisation came after the floor

    states = {name: GeneratorState(weight) for name, weight in DEFAULT_WEIGHTS.items()}
    for _ in range(40):
        proposal = propose(posts_of(ONE_STAR), states, policy)
        assert min(proposal.weights.values()) >= 0.02
        states = {name: GeneratorState(weight) for name, weight in proposal.weights.items()}
    assert max(proposal.weights, key=proposal.weights.get) == "coach"


@pytest.mark.parametrize("policy", BOTH)
def test_a_viral_boost_never_moves_the_sum_from_one(policy):
    earlier = dict(DEFAULT_WEIGHTS)
    for name in ("humanVoice", "newsReporter", "storyteller"):
        earlier[name] *= 1.5  # after the normalisation
    assert sum(earlier.values()) == pytest.approx(1.195)

    viral = {name: [(1000, 9.0 if name < "e" else 1.0)] * 10 for name in NAMES}
    proposal = propose(posts_of(viral), DEFAULT_WEIGHTS, policy)
    assert units(proposal.weights) == 10_000


@pytest.mark.parametrize("policy", BOTH)
def test_the_same_posts_do_not_boost_again_in_every_cycle(policy):
    earlier, trajectory = 0.08, []
    states = {name: GeneratorState(weight) for name, weight in DEFAULT_WEIGHTS.items()}
    viral = {name: [(1000, 9.0 if name == "coach" else 2.0)] * 10 for name in NAMES}
    posts = posts_of(viral)
    for _ in range(40):
        earlier *= 1.5
        proposal = propose(posts, states, policy)
        target = proposal.diagnostics["target"]["coach"]
        trajectory.append(proposal.weights["coach"])
        assert trajectory[-1] <= target + 1e-4
        states = {name: GeneratorState(weight) for name, weight in proposal.weights.items()}
    assert earlier > 1e5
    assert trajectory[-1] == trajectory[-2]  # the same evidence has one answer, and it stays
    assert trajectory == sorted(trajectory)


@pytest.mark.parametrize("policy", BOTH)
def test_no_cap_cuts_a_viral_leader(policy):
    weights = {name: 0.5 if name == "coach" else 0.5 / 11 for name in NAMES}
    assert min(weights["coach"] * 1.5, 0.4) < weights["coach"]  # earlier: boosted, then capped

    proposal = propose(posts_of(ONE_STAR), weights, policy)
    assert proposal.weights["coach"] > 0.5


def test_a_draw_reaches_every_generator():
    overfull = dict.fromkeys(NAMES, 1.33 / 12)
    uniforms = np.random.default_rng(1).random(100_000)
    reached = np.searchsorted(np.cumsum(list(overfull.values())), uniforms, side="right")
    never = set(range(12)) - set(reached.tolist())
    assert never == {10, 11}  # earlier: the last rows were never drawn

    with pytest.raises(selection.InvalidWeightsError):
        selection.draw(overfull, 0.5)
    drawn = {selection.draw(EQUAL, float(u))[0] for u in uniforms[:5000]}
    assert drawn == set(NAMES)


def test_the_database_refuses_weights_that_do_not_sum_to_one(engine):
    with engine.connect() as connection:
        connection.execute(
            text("UPDATE genopt.generator_weights SET weight = weight * 1.33 WHERE weight < 0.1")
        )
        with pytest.raises(DBAPIError, match="not to 1"):
            connection.commit()


# 4. Locks and recovery -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", BOTH)
def test_a_locked_weight_does_not_move_in_fifty_cycles(policy):
    earlier = dict(DEFAULT_WEIGHTS)
    for _ in range(50):
        earlier["coach"] *= 1.05  # only the lock kept humanVoice out of this line …
        total = sum(earlier.values())
        earlier = {name: weight / total for name, weight in earlier.items()}
    assert earlier["humanVoice"] < 0.10  # … and the normalisation moved it all the same

    states = {name: GeneratorState(weight) for name, weight in DEFAULT_WEIGHTS.items()}
    states["humanVoice"] = GeneratorState(0.15, locked=True)
    posts = posts_of(ONE_STAR)
    for _ in range(50):
        proposal = propose(posts, states, policy)
        assert proposal.weights["humanVoice"] == 0.15
        assert units(proposal.weights) == 10_000
        states = {
            name: GeneratorState(weight, locked=name == "humanVoice")
            for name, weight in proposal.weights.items()
        }
    assert states["coach"].weight > 0.3


def test_the_database_refuses_to_move_a_locked_weight(engine):
    with engine.begin() as connection:
        live = weight_store.live_weights(connection, "main")
        rows = live.generators | {"coach": GeneratorRow(Decimal("0.0800"), "active", locked=True)}
        weight_store.change_weights(
            connection, "main", rows, expected_version=1, effective_at=NOW, event=Event("locked")
        )
    with pytest.raises(DBAPIError, match="locked"), engine.begin() as connection:
        update(connection)


@pytest.mark.parametrize("policy", BOTH)
def test_a_failing_generator_comes_back_by_itself(policy):
    states = {name: GeneratorState(weight) for name, weight in DEFAULT_WEIGHTS.items()}
    bad = {name: [(1000, 0.0 if name == "coach" else 2.0)] * 30 for name in NAMES}
    good = {name: [(1000, 2.0)] * 30 for name in NAMES}
    earlier, open_episodes, statuses, weights = "active", set(), [], []
    for day in range(28):
        # a generator that recovers shows it in new posts; the failures grow old
        now = NOW + timedelta(days=day)
        frames = [posts_of(bad, now=NOW)]
        if day >= 8:
            later = posts_of(good, now=now, spread_hours=24.0 * (day - 7))
            later["post_id"] = later["decision_id"] = "q" + later["post_id"]
            frames.append(later)
        posts = pd.concat(frames, ignore_index=True)
        proposal = propose(posts, states, policy, now)
        judged = judge(summarize(posts, NAMES, now=now), proposal, states)
        if earlier == "active" and judged["coach"].failing:
            earlier = "testing"  # and then only the active ones were looked at
        outcome = follow(states, open_episodes, judged)
        for item in outcome.transitions:
            if item.event_type == "failure_detected":
                open_episodes.add(("failing", item.generator))
            if item.event_type == "recovered":
                open_episodes.remove(("failing", item.generator))
        states = {
            name: GeneratorState(proposal.weights[name], outcome.statuses[name]) for name in NAMES
        }
        statuses.append(states["coach"].status)
        weights.append(states["coach"].weight)
    assert earlier == "testing"
    assert statuses[0] == "testing"
    assert statuses[-1] == "active"
    changes = [a for a, b in itertools.pairwise(statuses) if a != b]
    assert changes == ["testing"]
    assert min(weights) < 0.03
    assert weights[-1] > 0.04


# 5. Evidence -----------------------------------------------------------------------------------


def test_three_lucky_posts_weigh_less_than_three_hundred():
    def gain(lucky):
        posts = {name: [(1000, 2.0)] * 30 for name in NAMES} | {"coach": [(1000, 4.0)] * lucky}
        proposal = propose(posts_of(posts), EQUAL)
        return proposal.weights["coach"] - 1 / 12

    def earlier(lucky):  # the score knows the rate and not the number of posts behind it
        rate = 4.0 * lucky / lucky
        return (rate - 2.0) / (4.0 - 2.0)

    assert earlier(3) == earlier(300)
    assert gain(300) > 3 * gain(3) > 0


def test_a_lead_of_half_a_percent_moves_weights_less_than_one_of_a_hundred():
    def gain(lead):
        posts = {name: [(10_000, 20.0)] * 30 for name in NAMES}
        posts["coach"] = [(10_000, 20.0 * (1 + lead))] * 30
        proposal = propose(posts_of(posts), EQUAL)
        return proposal.weights["coach"] - 1 / 12

    def earlier(lead):  # scaled between the lowest and the highest rate, whatever lies between
        rates = np.array([2.0] * 11 + [2.0 * (1 + lead)])
        return ((rates - rates.min()) / (rates.max() - rates.min()))[-1]

    assert earlier(0.005) == pytest.approx(earlier(1.0))
    assert gain(1.0) > 5 * max(gain(0.005), 0.001)


# 6. Writing ------------------------------------------------------------------------------------


def test_what_a_dry_run_uses_cannot_write(make_settings):
    """``genopt optimize --dry-run`` works on this connection; see cli/test_optimize.py."""
    pipeline = make_pipeline(make_settings())
    with pytest.raises(DBAPIError, match="read-only"), pipeline.read() as connection:
        connection.execute(
            text("UPDATE genopt.generator_weights SET status = 'testing' WHERE weight < 0.05")
        )
    with pytest.raises(DBAPIError, match="read-only"), pipeline.read() as connection:
        weight_store.record_event(connection, "main", Event("failure_detected"), effective_at=NOW)


def test_an_event_shows_the_weights_that_are_stored(engine):
    with engine.begin() as connection:
        update(connection)
    with engine.connect() as connection:
        stored = weight_store.live_weights(connection, "main").by_name
        event = weight_store.recent_events(connection, "main", 1)[0]
    assert {name: float(weight) for name, weight in event["weights_after"].items()} == stored
    for change in event["changes"]:
        assert change["new_weight"] == stored[change["generator"]]
        assert change["old_weight"] == DEFAULT_WEIGHTS[change["generator"]]
    # earlier: one set was proposed and logged, another written; here the commit is refused
    another = text("""
        UPDATE genopt.generator_weights
           SET weight = weight + CASE generator_name WHEN 'coach' THEN 0.01 ELSE -0.01 END
         WHERE generator_name IN ('coach', 'dataNerd')
    """)
    with engine.connect() as connection:
        update(connection)
        connection.execute(another)
        with pytest.raises(DBAPIError, match="without an event"):
            connection.commit()


def test_one_failed_write_is_the_failure_of_all(engine):
    with engine.begin() as connection:
        connection.execute(
            text("""
                CREATE FUNCTION genopt.fail() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'the disk said no'; END $$;
                CREATE TRIGGER fail BEFORE UPDATE ON genopt.generator_weights FOR EACH ROW
                    WHEN (NEW.generator_name = 'humanVoice') EXECUTE FUNCTION genopt.fail();
            """)
        )
        before = weight_store.live_weights(connection, "main")
    with pytest.raises(DBAPIError, match="the disk said no"), engine.begin() as connection:
        update(connection)  # coach is written first, then humanVoice fails
    with engine.connect() as connection:
        assert weight_store.live_weights(connection, "main") == before
        assert len(weight_store.recent_events(connection, "main")) == 1


def test_readers_never_see_half_an_update(engine):
    seen, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            with engine.connect() as connection:
                seen.append(weight_store.live_weights(connection, "main"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(30):
            with engine.begin() as connection:
                update(connection, "0.0010" if number % 2 else "-0.0010")
    finally:
        stop.set()
        reader.join()
    assert len({weights.version for weights in seen}) > 1
    for weights in seen:
        assert sum(row.weight for row in weights.generators.values()) == 1
        even = weights.version % 2 == 0
        assert weights.by_name["coach"] == (0.079 if even else 0.08)


# 7. Trends, losses, nothing ----------------------------------------------------------------------


def two_weeks(before, after):
    """Posts of two neighbouring weeks at two rates."""
    frame = posts_of({"coach": [(1000, before)] * 40 + [(1000, after)] * 40})
    ages = np.concatenate([np.linspace(168 + 30, 330, 40), np.linspace(30, 160, 40)])
    frame["posted_at"] = pd.to_datetime([NOW - timedelta(hours=age) for age in ages], utc=True)
    return frame


@pytest.mark.parametrize(
    ("before", "after", "trend"),
    [(2, 4, "improving"), (4, 2, "declining"), (4, 4, "stable"), (2, -2, "declining")],
)
def test_a_trend_compares_two_periods(before, after, trend):
    posts = two_weeks(before, after)
    table = summarize(posts, ["coach"], now=NOW)
    recent = table.loc[0, "f_per_1k"]
    earlier = recent - recent  # the week was compared with itself
    assert earlier == 0
    assert table.loc[0, "trend"] == trend
    assert summarize(posts.head(2), ["coach"], now=NOW).loc[0, "trend"] == "not_enough_data"


@pytest.mark.parametrize("policy", BOTH)
def test_a_net_loss_is_failing(policy):
    loss = {name: [(1000, -3.0 if name == "coach" else 2.0)] * 30 for name in NAMES}
    posts = posts_of(loss)
    table = summarize(posts, NAMES, now=NOW).set_index("generator_name")
    rate = float(table.loc["coach", "f_per_1k"])
    assert rate != 0  # earlier: failing was "exactly 0"
    assert absolute_tier(rate, posts_measured=30) == "failing"
    assert table.loc["coach", "tier"] == "failing"
    proposal = propose(posts, EQUAL, policy)
    assert "coach" in proposal.diagnostics["failing"]
    assert proposal.weights["coach"] < 0.07


def test_no_data_zero_and_a_database_error_are_three_different_things(make_settings, database):
    posts = posts_of({"coach": [(1000, 0.0)] * 12, "dataNerd": [(np.nan, np.nan)] * 12})
    table = summarize(posts, ["coach", "dataNerd", "explorer"], now=NOW)
    table = table.set_index("generator_name")
    assert table["posts_count"].to_dict() == {"coach": 12, "dataNerd": 12, "explorer": 0}
    assert table.loc["coach", "f_per_1k"] == 0
    assert table.loc["coach", "tier"] == "failing"
    for unmeasured in ("dataNerd", "explorer"):
        assert pd.isna(table.loc[unmeasured, "f_per_1k"])
        assert table.loc[unmeasured, "tier"] is None
    nothing = performance.account_totals(summarize(posts.iloc[:0], NAMES, now=NOW))
    assert nothing.f_per_1k is None
    assert nothing.impressions is None

    wrong = make_url(database).set(host="127.0.0.1", port=1, query={})
    away = make_pipeline(make_settings(database_url=wrong.render_as_string(hide_password=False)))
    with pytest.raises(DatabaseUnavailableError, match="does not answer"), away.read():
        pass
