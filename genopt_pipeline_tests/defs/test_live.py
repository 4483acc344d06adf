"""The live path: the command, the X client, the loopback server and the database together."""

import json
import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy import text

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


@pytest.fixture
def served(environment):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "genopt_pipeline.cli",
            "sandbox",
            "serve",
            "--days",
            "2",
            "--token",
            TOKEN,
            "--json",
        ],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip() == "}":
            break
    yield json.loads("".join(lines))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()


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


def test_missing_credentials_are_one_clear_line(environment):
    done = genopt(environment | {"GENOPT_SOURCE": "x_api"}, "collect")
    assert done.returncode == 1
    assert "GENOPT_X_USER_ID" in done.stderr
    done = genopt(environment | {"GENOPT_SOURCE": "x_api", "GENOPT_X_USER_ID": "1"}, "collect")
    assert done.returncode == 1
    assert "GENOPT_X_ACCESS_TOKEN" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
