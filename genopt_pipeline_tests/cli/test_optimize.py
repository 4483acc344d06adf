"""``genopt optimize``: a dry run writes nothing at all, and a run does what the dry run showed."""

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.store.server import psql_url
from genopt_pipeline_tests.cli.virtual import VirtualCli
from genopt_pipeline_tests.scenario import START, Clock, work_through

NOW = START + timedelta(days=3, minutes=13)


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
def pipeline(make_settings, clock):
    return make_pipeline(make_settings(start=START, policy="exponential"), clock=clock)


@pytest.fixture
def genopt(pipeline, clock, monkeypatch, capsys):
    work_through(pipeline, START, START + timedelta(days=3))
    return VirtualCli(pipeline.settings, monkeypatch, capsys, clock)


def dump(url):
    """Every row of every table, every sequence, and the name of every other relation."""
    engine = create_engine(url)
    found = {}
    with engine.connect() as connection:
        relations = connection.execute(
            text("""
                SELECT n.nspname, c.relname, c.relkind FROM pg_class c
                  JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
            """)
        ).all()
        for schema, name, kind in relations:
            place = f'"{schema}"."{name}"'
            columns = "last_value, is_called" if kind == "S" else "t::text"
            rows = (
                connection.execute(text(f"SELECT {columns} FROM {place} t")).all()
                if kind in "rpS"
                else []
            )
            found[place, kind] = sorted(map(str, rows))
    engine.dispose()
    return found


def test_a_dry_run_writes_nothing_at_all_and_shows_what_a_run_then_does(genopt, database):
    before = dump(database)
    assert sum(map(len, before.values())) > 1000
    shown = genopt("optimize", "--dry-run")
    out, _, code = genopt.raw("optimize", "--dry-run", "--force")
    assert code == 0
    assert "dry run" in out
    assert dump(database) == before

    assert shown["decision"] == "proposed"
    assert shown["published"] is None
    assert shown["changes"]
    done = genopt("optimize")
    assert done["published"]["outcome"] == "published"
    assert done["weights"] == shown["weights"]
    events = genopt("history", "--limit", "50")
    update = next(event for event in events if event["event_type"] == "weight_update")
    assert {change["generator"]: change["new_weight"] for change in update["changes"]} == {
        change["generator"]: change["new_weight"] for change in shown["changes"]
    }
    written = [event["event_type"] for event in events[1:-1]]
    assert sorted(written) == sorted(item["event_type"] for item in shown["episodes"])
    assert update["execution_time_ms"] > 0
    assert dump(database) != before


def test_a_window_is_published_once_and_never_over_a_change_made_by_hand(genopt, clock):
    genopt("set-weight", "coach", "0.2", "--reason", "a hunch")
    error = genopt("optimize", code=1)
    assert "the weights changed (version 2)" in error
    assert error.count("\n") == 1
    clock.at += timedelta(hours=6)
    skipped = genopt("optimize")
    assert skipped["decision"] == "skipped"
    assert "did not run" in skipped["reason"]
    forced = genopt("optimize", "--force")
    assert forced["published"]["outcome"] == "published"
    assert forced["weights"]["coach"] < 0.2
    assert genopt("optimize", "--force")["published"]["outcome"] == "nothing"


def test_once_the_window_is_decided_a_dry_run_shows_the_next_one_from_the_weights_in_force(
    genopt, clock, database, pipeline
):
    first = genopt("optimize", "--dry-run")
    assert first["window_before"] is None
    published = genopt("optimize")["weights"]
    before = dump(database)
    following = genopt("optimize", "--dry-run")
    assert "is published already" in following["window_before"]
    assert following["window_start"] == first["window_end"]
    assert following["as_of"] == first["as_of"]  # nothing was collected since
    assert {c["generator"]: c["old_weight"] for c in following["changes"]}.items() <= (
        published.items()
    )
    assert value(following, "in_force") == value(first, "proposed")

    out, _, code = genopt.raw("optimize")
    assert code == 0
    assert out.startswith("nothing: the window 2026-09-03 18:00 is published already (version 2)")
    assert len(out.splitlines()) == 1
    assert dump(database) == before

    genopt("set-weight", "coach", "0.2", "--reason", "a hunch")
    told = value(genopt("optimize", "--dry-run"), "in_force")
    assert told == value(genopt("dashboard"), "in_force")
    assert told != value(following, "in_force")
    clock.at += timedelta(hours=2)
    work_through(pipeline, START + timedelta(days=3), START + timedelta(days=3, hours=2))
    by_hand = genopt("optimize", "--dry-run")
    assert by_hand["as_of"] > following["as_of"]
    old = next(c["old_weight"] for c in by_hand["changes"] if c["generator"] == "coach")
    assert old == 0.2


def test_a_dry_run_after_a_change_by_hand_says_that_the_window_is_overtaken(genopt):
    genopt("set-weight", "coach", "0.2", "--reason", "a hunch")
    shown = genopt("optimize", "--dry-run")
    assert "the weights changed (version 2)" in shown["window_before"]
    assert shown["base_version"] == 2
    out, _, _ = genopt.raw("optimize", "--dry-run")
    assert "Shown is the next window" in out


def value(shown, weighting):
    worths = {worth["name"]: worth for worth in shown["appraisal"]["worths"]}
    return worths[weighting]["model"]["f_per_1k"]


def test_the_weights_of_an_earlier_time_are_shown_as_they_were(genopt, clock):
    before = genopt("weights")
    earlier = clock.at.isoformat()
    clock.at += timedelta(hours=1)
    genopt("set-weight", "coach", "0.2", "--reason", "a hunch")
    genopt("lock", "coach", "--reason", "keep it")
    now = genopt("weights")
    assert now["version"] == before["version"] + 2
    assert now["weights"]["coach"] == 0.2
    assert now["states"]["coach"] == {"status": "active", "locked": True}
    assert genopt("weights", "--at", earlier) == before
    assert "lies in the future" in genopt(
        "weights", "--at", (clock.at + timedelta(days=1)).isoformat(), code=1
    )
    out, _, _ = genopt.raw("weights")
    assert "active, locked" in out
    _, err, code = genopt.raw("weights", "--at", "yesterday")
    assert code == 2
    assert "not an ISO time" in err


def test_a_command_by_hand_names_the_generator_and_what_became_of_its_state(genopt):
    out, _, _ = genopt.raw("lock", "Coach", "--reason", "keep it")
    assert out.splitlines() == [
        "lock coach: version 2 is in force",
        "  coach: active → active, locked",
    ]
    out, _, _ = genopt.raw("disable", "coach", "--reason", "no")
    assert "  coach: active, locked → disabled" in out
    out, _, _ = genopt.raw("set-weight", "explorer", "0.2", "--reason", "a hunch")
    assert out.startswith("set-weight explorer: version 4 is in force")
    assert genopt("history")[0]["created_by"].startswith("genopt set-weight (")


def test_the_programs_that_came_with_the_server_dump_its_database(genopt, database):
    folder = Path(genopt("db-url", "--bin")["bin"])
    url = genopt("db-url")["url"]
    assert url == psql_url(database)
    done = subprocess.run(
        [folder / "pg_dump", "--schema-only", url], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "CREATE TABLE genopt.generator_weights" in done.stdout
    assert (folder / "psql").is_file()


def test_the_step_is_told_as_a_share_of_the_way_beside_changes_in_percent(genopt):
    out, _, _ = genopt.raw("optimize", "--dry-run")
    assert "in percent of the old weight; a cycle goes 30% of the way to a target" in " ".join(
        out.split()
    )


def test_before_the_account_was_registered_its_first_weights_are_said_to_be_assumed(
    genopt, clock, pipeline
):
    with pipeline.write() as connection:
        connection.execute(text("UPDATE genopt.accounts SET created_at = :at"), {"at": START})
    assert genopt("weights", "--at", (START - timedelta(days=1)).isoformat())["assumed"] is True
    assert genopt("weights")["assumed"] is False
    out, _, code = genopt.raw("weights", "--at", "2020-01-01")
    assert code == 0
    said = " ".join(out.split())
    assert "in force" not in said
    assert "its first weights" in said
