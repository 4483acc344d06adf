"""Knowing that it works, as commands: dashboard, explain, backtest, on an account that learned."""

from datetime import timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len
from sqlalchemy import create_engine, text

from genopt_pipeline.defs import steps
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import evaluation as evaluation_store
from genopt_pipeline.store import performance as performance_store
from genopt_pipeline.store import snapshots
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline_tests.cli.test_optimize import dump
from genopt_pipeline_tests.cli.virtual import VirtualCli
from genopt_pipeline_tests.scenario import START, Clock, hours, work_through

SIX_HOURS = hours(6)
END = START + timedelta(days=2)
LATER = timedelta(minutes=13)

# one worker makes the account's history once
pytestmark = pytest.mark.xdist_group("learned")


@pytest.fixture(scope="module")
def learned(pg_server, admin, template, tmp_path_factory):
    """A database whose account published its weights every six hours for two days."""
    name = "learned_template"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        connection.execute(text(f"ALTER DATABASE {name} SET search_path = genopt, public"))
    url = pg_server.set(drivername="postgresql+psycopg", database=name)
    clock = Clock(START)
    settings = settings_for(url, tmp_path_factory.mktemp("learned"))
    pipeline = make_pipeline(settings, clock=clock)
    for cycle in range((END - START) // SIX_HOURS):
        start = START + cycle * SIX_HOURS
        end = start + SIX_HOURS
        clock.at = end + LATER
        work_through(pipeline, start, end)
        with pipeline.write() as connection:
            row = steps.snapshot_step(connection, "main", settings, start, end)
            steps.write_snapshot(connection, "main", row, backfilled=False)
            snapshots.publish_current(connection, "main", now=clock.at, created_by="the test")
    pipeline.engine.dispose()
    yield name
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
def shared(learned, pg_server, admin):
    """A copy for the tests that change nothing of account main."""
    name = "learned_shared"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {learned}"))
        connection.execute(text(f"ALTER DATABASE {name} SET search_path = genopt, public"))
    yield pg_server.set(drivername="postgresql+psycopg", database=name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
def clock():
    return Clock(END + LATER)


@pytest.fixture
def own(learned, new_database):
    """A copy for one test."""
    return new_database(learned)


def settings_for(url, home):
    return Settings(
        home=home,
        database_url=url.render_as_string(hide_password=False),
        dagster_database_url=url.render_as_string(hide_password=False),
        start=START,
        sandbox_posts_per_day=45,
        holdout_share=0.15,
    )


@pytest.fixture
def on(tmp_path, monkeypatch, capsys, clock):
    """Commands on a database."""
    monkeypatch.setenv("COLUMNS", "80")

    def make(url):
        return VirtualCli(settings_for(url, tmp_path), monkeypatch, capsys, clock)

    return make


@pytest.fixture
def genopt(on, shared):
    return on(shared)


@pytest.fixture
def pipeline_on(tmp_path, clock):
    made = []

    def make(url):
        made.append(make_pipeline(settings_for(url, tmp_path), clock=clock))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.engine.dispose()


@pytest.fixture
def pipeline(pipeline_on, shared):
    return pipeline_on(shared)


def assert_fits(out, width=80):
    assert out.strip()
    assert [line for line in out.splitlines() if cell_len(line) > width] == []


def execute(url, statement, **values):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


# The dashboard


def test_the_dashboard_shows_all_that_is_tracked_on_eighty_columns(genopt):
    data = genopt("dashboard")
    assert data["weights_sum"] == 1.0
    assert data["simulated"] is True
    assert len(data["generators"]) == 12
    best, worst = data["top_performer"], data["bottom_performer"]
    figures = {row["generator_name"]: row["performance"] for row in data["generators"]}
    judged = {name: row["f_per_1k"] for name, row in figures.items() if row["posts_measured"] >= 3}
    assert best == max(judged, key=judged.get)
    assert worst == min(judged, key=judged.get)
    assert data["appraisal"]["draws"]["ratio"]["posts"] > 60
    worths = {worth["name"]: worth for worth in data["appraisal"]["worths"]}
    live = {row["generator_name"]: row["weight"] for row in data["generators"]}
    assert worths["in_force"]["weights"] == worths["proposed"]["weights"] == live
    assert worths["in_force"]["over_default"] == worths["proposed"]["over_default"]
    out, _, code = genopt.raw("dashboard")
    assert code == 0
    assert_fits(out)
    assert "a simulated account" in out
    assert f"top {best}" in out
    for name in figures:
        assert (
            sum(line.strip().startswith(name) or f" {name} " in line for line in out.splitlines())
            >= 2
        )
    for word in ("health:", "over the holdout", "draw against weights", "price of the guards"):
        assert word in out


@pytest.mark.parametrize("count", [1, 200])
def test_any_number_of_generators_fits_and_an_account_without_posts_shows_dashes(
    genopt, pipeline, monkeypatch, count
):
    names = [f"generator{i:03d}" for i in range(count)]
    with pipeline.write() as connection:
        weight_store.ensure_account(connection, f"of{count}", dict.fromkeys(names, 1 / count))
    monkeypatch.setenv("GENOPT_ACCOUNT", f"of{count}")
    data = genopt("dashboard")
    assert len(data["generators"]) == count
    assert data["totals"]["f_per_1k"] is None
    assert data["top_performer"] is None
    assert data["appraisal"]["draws"]["ratio"]["p_value"] is None
    assert {worth["off_policy"]["f_per_1k"] for worth in data["appraisal"]["worths"]} == {None}
    out, _, code = genopt.raw("dashboard")
    assert code == 0
    assert_fits(out)
    assert all(name in out for name in names)
    out, _, code = genopt.raw("explain", "Generator_000")
    assert code == 0
    assert_fits(out)
    assert "no snapshot of weights has been computed yet" in out
    error = genopt("backtest", code=1)
    assert "no posts to replay" in error


# One generator


def test_explain_says_everything_about_one_generator(genopt, pipeline):
    found = genopt("explain", "News Reporter (breaking)")
    assert found["generator"] == "newsReporter"
    assert found["aliases"] == ["newsreporter"]
    with pipeline.read() as connection:
        snapshot = snapshots.read_snapshot(connection, "main", END - SIX_HOURS)
        live = weight_store.live_weights(connection, "main")
    decision = found["decision"]
    assert decision["explanation"] == snapshot["proposal"]["explanations"]["newsReporter"]
    assert decision["weight_after"] == found["weight"] == live.by_name["newsReporter"]
    assert decision["shadow"]["policy"] == "exponential"
    assert 0 <= decision["engine"]["p_best"] <= 1
    assert set(decision["prices"]) >= {"floor", "cap", "locks", "step"}
    assert [row["lookback"] for row in found["lookbacks"]] == ["24 h", "3 d", "7 d", "14 d", "30 d"]
    assert found["lookbacks"][-1]["posts_count"] == len(found["posts"])
    assert all(set(post) >= {"attributed", "platform", "impressions"} for post in found["posts"])
    assert found["life_time"]["total_posts"] == len(found["posts"])
    total = sum(post["attributed"] for post in found["posts"])
    assert total == pytest.approx(found["lookbacks"][-1]["followers_gained"])
    weights = [change["new_weight"] for change in found["weight_history"]]
    assert weights[0] == 0.12
    assert weights[-1] == found["weight"]
    assert [c["old_weight"] for c in found["weight_history"][1:]] == weights[:-1]

    out, _, code = genopt.raw("explain", "newsReporter")
    assert code == 0
    assert_fits(out)
    for word in ("P(best)", "decided by", "shadow, exponential", "attributed", "weight update"):
        assert word in out


def test_explain_tells_what_was_done_by_hand_and_what_was_found(on, own, pipeline_on, clock):
    genopt = on(own)
    with pipeline_on(own).write() as connection:
        for name in ("coach", "explorer"):
            weight_store.record_event(
                connection,
                "main",
                weight_store.Event(
                    "viral_boost",
                    reason=f"{name} goes viral",
                    changes=[{"generator": name, "old_weight": 0.1, "new_weight": 0.2}],
                ),
                effective_at=clock.at,
            )
    genopt("set-weight", "coach", "0.3", "--reason", "a hunch")
    genopt("lock", "coach", "--reason", "keep it")
    found = genopt("explain", "coach")
    assert found["locked"] is True
    last = found["weight_history"][-2:]
    assert [change["event_type"] for change in last] == ["manual_override", "locked"]
    assert [change["reason"] for change in last] == ["a hunch", "keep it"]
    assert last[0]["new_weight"] == 0.3
    assert [event["reason"] for event in found["findings"]] == ["coach goes viral"]
    out, _, _ = genopt.raw("explain", "coach")
    assert "active, locked" in out
    assert "viral boost: coach goes viral" in out
    assert "explorer goes viral" not in out


def test_a_generator_registered_after_the_last_window_has_its_weight_and_no_decision_yet(on, own):
    genopt = on(own)
    genopt("add-generator", "brandNew", "--reason", "a new voice")
    found = genopt("explain", "brandNew")
    assert found["status"] == "testing"
    assert found["weight"] > 0
    assert found["decision"] is None
    assert "registered after the last window ended" in found["undecided"]
    genopt("disable", "brandNew", "--reason", "not yet")
    out, err, code = genopt.raw("explain", "brandNew")
    assert code == 0, err
    assert_fits(out)
    assert "no decision on it yet" in out
    assert "0.0000" in out
    assert "disabled" in out
    assert genopt("explain", "coach")["undecided"] is None


def test_a_generator_that_nobody_knows_is_one_clear_line(genopt):
    error = genopt("explain", "newsReader", code=1)
    assert error.count("\n") == 1
    assert "newsReporter" in error


# Replays


def test_a_replay_under_the_settings_in_force_is_what_was_published(genopt, pipeline):
    start = START + SIX_HOURS
    found = genopt("backtest", "--from", start.isoformat())
    assert found["to"] == END.isoformat()
    with pipeline.read() as connection:
        for step in found["path"]:
            at = start.fromisoformat(step["as_of"])
            snapshot = snapshots.read_snapshot(connection, "main", at - SIX_HOURS)
            assert step["decision"] == snapshot["decision"]
            assert step["weights"] == snapshot["weights"]
    assert found["skipped"] < found["windows"] == 7
    values = {value["name"]: value for value in found["values"]}
    assert set(values) == {"replayed", "in_force", "default"}
    for value in (*values.values(), {"off_policy": found["as_drawn"]}):
        assert value["off_policy"]["low"] < value["off_policy"]["f_per_1k"]
    assert values["default"]["replayed_over"]["log_sd"] > 0


def test_a_replay_takes_any_policy_setting_and_range_and_writes_nothing(genopt, shared):
    before = dump(shared)
    begin = START + timedelta(days=1)
    found = genopt(
        *("backtest", "--policy", "exponential", "--from", begin.strftime("%Y-%m-%dT%H:%M")),
        *("--to", (END - hours(3)).isoformat(), "--every", 3, "--step", 1, "--exploration", 0.5),
        *("--window-days", 2, "--min-posts", 5, "--floor", 0.03, "--cap", 0.2),
    )
    assert found["policy"] == "exponential"
    assert found["settings"] == {
        "step": 1.0,
        "floor": 0.03,
        "cap": 0.2,
        "exploration": 0.5,
        "window_days": 2.0,
        "min_posts": 5,
    }
    assert found["windows"] == 7
    for step in found["path"]:
        assert sum(step["weights"].values()) == pytest.approx(1, abs=1e-12)
        assert min(step["weights"].values()) >= 0.03
        assert max(step["weights"].values()) <= 0.2
    out, err, code = genopt.raw("backtest", "--policy", "exponential")
    assert code == 0
    assert "Traceback" not in err
    assert_fits(out)
    assert "replay of exponential" in out
    assert dump(shared) == before


def test_without_known_probabilities_posts_say_nothing_and_the_model_still_does(on, own):
    genopt = on(own)
    execute(own, "UPDATE genopt.content_metadata SET selection_probability = NULL")
    found = genopt("backtest")
    assert {value["off_policy"]["f_per_1k"] for value in found["values"]} == {None}
    assert found["as_drawn"]["f_per_1k"] is None
    assert found["as_drawn"]["left_out"] == found["posts"]
    assert all(value["model"]["f_per_1k"] > 0 for value in found["values"])
    assert "are not known" in " ".join(genopt.raw("backtest")[0].split())
    appraisal = genopt("dashboard")["appraisal"]
    assert appraisal["as_drawn"]["f_per_1k"] is None


def test_a_range_that_holds_nothing_and_a_time_that_is_none_are_refused(genopt, clock):
    assert "lies in the future" in genopt(
        "backtest", "--to", (clock.at + hours(12)).isoformat(), code=1
    )
    assert "there is nothing between" in genopt(
        "backtest", "--from", END.isoformat(), "--to", START.isoformat(), code=1
    )
    assert "not an ISO time" in genopt("backtest", "--from", "yesterday", code=2)
    assert "cap" in genopt("backtest", "--floor", "0.3", "--cap", "0.1", code=1)


def test_the_history_of_a_replay_is_at_each_step_what_was_known_then(pipeline_on, own):
    # the platform's count comes in readings of its own, without impressions
    execute(
        own,
        """INSERT INTO genopt.post_metric_snapshots
               (account_id, decision_id, window_start, observed_at, source, platform_follows)
           SELECT account_id, decision_id, window_start, observed_at + interval '1 second',
                  'another', impressions / 300
             FROM genopt.post_metric_snapshots WHERE extract(minute FROM observed_at) < 30""",
    )
    for estimator in ("attributed", "platform"):
        assert_replayed_as_known(pipeline_on(own), estimator)


def assert_replayed_as_known(pipeline, estimator):
    start, every = START + hours(12), hours(9)
    columns = ["impressions", "followers", "information", "selection_probability"]
    with pipeline.read() as connection:
        history = evaluation_store.replay_history(
            connection,
            "main",
            start=start,
            end=END,
            until=END,
            every=every,
            since=START,
            estimator=estimator,
        )
        for step in range(5):
            at = start + step * every
            seen = performance_store.posts_as_of(
                connection, "main", at=at, since=START, estimator=estimator
            ).set_index("post_id")
            seen = seen[seen["impressions"].notna() | seen["followers"].notna()]
            known = history[(history["observed_at"] <= at) & (history["posted_at"] < at)]
            known = known.sort_values("observed_at", kind="stable").drop_duplicates(
                "post_id", keep="last"
            )
            known = known.set_index("post_id")
            assert len(known) > 15
            assert known[columns].sort_index().equals(seen[columns].sort_index()), at


def test_the_report_has_a_section_on_what_the_weights_are_worth(genopt):
    path = genopt("report")["report"]
    page = Path(path).read_text(encoding="utf-8")
    assert "What the weights are worth" in page
    assert "Check of the draw" in page
    assert "the other policy" in page
