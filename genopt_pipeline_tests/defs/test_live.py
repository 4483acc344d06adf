"""The live path: the command, the X client, the loopback server and the database together."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import dagster as dg
import pytest
from sqlalchemy import text

from genopt_pipeline.cli import sandbox
from genopt_pipeline.cli.server import dagster_home
from genopt_pipeline.defs.instance import open_instance
from genopt_pipeline.defs.sources import x_user_id
from genopt_pipeline.settings import Settings
from genopt_pipeline.store.engine import open_engine

TOKEN = "a-very-secret-token-4711"


@pytest.fixture
def environment(make_settings):
    settings = make_settings()
    return {
        **os.environ,
        "GENOPT_DATABASE_URL": settings.database_url.get_secret_value(),
        "GENOPT_DAGSTER_DATABASE_URL": settings.dagster_database_url.get_secret_value(),
        "GENOPT_HOME": str(settings.home),
    }


def genopt(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "genopt_pipeline.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )


@contextmanager
def serving(environment, *options):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "genopt_pipeline.cli", "sandbox", "serve"),
            *("--days", "2", "--token", TOKEN, "--json", *options),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip() == "}":
            break
    told = json.loads("".join(lines))
    said = {}
    try:
        yield told, said
    finally:
        process.send_signal(signal.SIGINT)
        said["stderr"] = process.communicate(timeout=30)[1]
        assert process.returncode == 0


@pytest.fixture
def served(environment):
    with serving(environment) as (told, _):
        yield told


@pytest.mark.slow
def test_genopt_collects_a_window_from_the_served_account_and_leaks_no_token(
    environment, served, database
):
    live = environment | served
    first = genopt(live, "collect", "--json")
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert result["readings"] > 15
    assert result["follower_counts"] == 1
    assert result["report"]["complete"]
    assert "plan" in result["report"]
    second = genopt(live, "collect", "--json")
    assert second.returncode == 0, second.stderr

    engine = open_engine(database)
    with engine.connect() as connection:
        unmatched = connection.scalar(
            text("""
                SELECT count(*) FROM genopt.post_metric_snapshots s
                  JOIN genopt.content_metadata c USING (account_id, decision_id)
                 WHERE c.generator_name IS NULL
            """)
        )
        everything = connection.execute(
            text("""
                SELECT string_agg(t::text, ' ') FROM (
                    SELECT to_jsonb(s) FROM genopt.source_states s
                    UNION ALL SELECT to_jsonb(w) FROM genopt.collected_windows w
                    UNION ALL SELECT to_jsonb(q) FROM genopt.quarantine q
                    UNION ALL SELECT to_jsonb(e) FROM genopt.optimization_events e) t
            """)
        ).scalar_one()
    engine.dispose()
    assert unmatched == 0
    for told in (first, second):
        everything += told.stdout + told.stderr
    assert TOKEN not in everything
    # the account is the simulation's now; the simulation behind it would be another source of it
    other = genopt(environment | {"GENOPT_SOURCE": "sandbox"}, "collect")
    assert other.returncode == 1
    assert "was collected from x_api:1 before" in other.stderr


def test_a_fault_on_demand_fails_the_command_with_one_clear_line_and_is_named_by_the_server(
    environment,
):
    with serving(environment, "--only", "no_credits") as (told, said):
        done = genopt(environment | told, "collect", "--json")
        assert done.returncode == 1
        assert "no credits left" in done.stderr.strip().splitlines()[-1]
        assert done.stdout == ""
    assert "fault no_credits in request 1 (users/me)" in said["stderr"]


def test_simulated_posts_are_not_mixed_into_an_account_that_has_posts(environment, engine):
    with engine.begin() as connection:
        connection.execute(text("SELECT genopt.record_post('main', 'mine-1', 'coach')"))
    done = genopt(environment, "sandbox", "serve")
    assert done.returncode == 1
    assert "has posts of its own" in done.stderr


@pytest.mark.slow
def test_up_live_begins_with_a_dagster_run_of_the_present_window(
    environment, monkeypatch, capsys, tmp_path
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home()))
    with sandbox.served(days=1) as told:
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        sandbox.collect_first_window()
    assert "posts planned" in capsys.readouterr().out
    with open_instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("raw_post_metrics"))
    metadata = event.asset_materialization.metadata
    assert metadata["main/posts_read"].value > 5


def test_missing_credentials_are_one_clear_line(environment):
    done = genopt(environment | {"GENOPT_SOURCE": "x_api"}, "collect")
    assert done.returncode == 1
    assert "GENOPT_X_USER_ID" in done.stderr
    done = genopt(environment | {"GENOPT_SOURCE": "x_api", "GENOPT_X_USER_ID": "1"}, "collect")
    assert done.returncode == 1
    assert "GENOPT_X_ACCESS_TOKEN" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"x_user_id": "7"}, "7"),
        ({"x_access_token": "77-abc-def", "x_consumer_key": "k"}, "77"),
        ({"x_access_token": "77-abc-def"}, None),  # of OAuth 2.0, where it means nothing
        ({"x_access_token": "abc", "x_consumer_key": "k"}, None),
        ({}, None),
    ],
)
def test_a_user_token_of_oauth_1_tells_whose_it_is(values, number):
    assert x_user_id(Settings(**values)) == number
