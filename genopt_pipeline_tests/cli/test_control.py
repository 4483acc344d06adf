"""A tour of the commands by which a person changes weights, on a real database."""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest

from genopt_pipeline_tests.conftest import DATA
from genopt_pipeline_tests.scenario import instance_on


@pytest.fixture
def genopt(make_settings):
    settings = make_settings()
    environment = {
        **os.environ,
        "GENOPT_DATABASE_URL": settings.database_url.get_secret_value(),
        "GENOPT_HOME": str(settings.home),
    }

    def run(*arguments, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "genopt_pipeline.cli", *map(str, arguments), "--json"],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    run.environment = environment
    return run


@pytest.mark.slow
def test_a_tour_of_manual_control(genopt):
    done = genopt("set-weight", "coach", "0.2", "--reason", "a hunch")
    assert done["weights"]["coach"] == 0.2
    genopt("lock", "Coach", "--reason", "keep it")
    assert genopt("disable", "explorer", "--reason", "tired")["weights"]["explorer"] == 0
    assert genopt("enable", "explorer", "--reason", "back")["weights"]["explorer"] > 0
    added = genopt("add-generator", "poet", "--reason", "new voice")
    assert added["weights"]["poet"] > 0.02
    assert added["weights"]["coach"] == 0.2
    assert genopt("archive", "poet", "--reason", "no")["weights"]["poet"] == 0
    genopt("unlock", "coach", "--reason", "free")
    events = genopt("history", "--limit", "50")
    first = next(event for event in events if event["event_type"] == "initial_weights")
    back = genopt("rollback", "--to", first["id"], "--reason", "start again")
    assert back["weights"]["coach"] == 0.08
    assert [event["event_type"] for event in events] == [
        "unlocked",
        "generator_archived",
        "generator_added",
        "generator_enabled",
        "generator_disabled",
        "locked",
        "manual_override",
        "initial_weights",
    ]
    assert all(event["reason"] for event in events)
    changed = {event["event_type"]: event["states_changed"] for event in events}
    assert [each["generator"] for each in changed["locked"]] == ["coach"]
    assert changed["generator_disabled"][0]["new_status"] == "disabled"
    assert changed["manual_override"] == changed["initial_weights"] == []
    data = genopt("dashboard")
    assert data["weights_sum"] == 1.0
    assert len(data["generators"]) == 13


def test_a_change_by_command_shows_on_the_page_of_the_weights(
    make_settings, genopt, tmp_path, monkeypatch
):
    settings = make_settings()
    monkeypatch.setitem(
        genopt.environment,
        "GENOPT_DAGSTER_DATABASE_URL",
        settings.dagster_database_url.get_secret_value(),
    )
    with instance_on(settings, tmp_path) as instance:
        genopt("add-generator", "poet", "--reason", "new voice")
        event = instance.get_latest_materialization_event(dg.AssetKey("generator_weights"))
        shown = event.asset_materialization.metadata
    assert shown["main/version"].value == 2
    assert shown["dagster/row_count"].value == 13
    assert shown["generator"].value == "poet"


def test_what_cannot_be_done_is_one_clear_line(genopt):
    assert "not registered" in genopt("lock", "nobody", "--reason", "x", code=1)
    assert "nothing to do" in genopt("unlock", "coach", "--reason", "x", code=1)
    assert "spelled like" in genopt("add-generator", "Human Voice", "--reason", "x", code=1)
    assert "no weights in force" in genopt("rollback", "--to", "99", "--reason", "x", code=1)


@pytest.mark.slow
def test_an_unknown_name_is_reported_and_resolved(genopt):
    error = genopt("record-post", "d1", "news reader", "--posted-at", "2026-10-01", code=1)
    assert "Traceback" not in error
    told = genopt("quarantine")
    assert told["counts"] == {"generator_name": 1}
    assert told["records"][0]["suggestions"][0] == "newsReporter"
    assert genopt("quarantine", "--resolve", "news reader", "newsReporter")["posts"] == 1
    assert genopt("quarantine")["counts"] == {}


@pytest.mark.slow
def test_a_post_is_moved_only_by_a_correction_with_a_reason(genopt):
    genopt("record-post", "d1", "coach", "--arm", "control", "--probability", "0.08")
    error = genopt("record-post", "d1", "storyteller", code=1)
    assert "is recorded with generator coach, not storyteller" in error
    assert "record-post --correct" in error
    assert error.count("\n") == 1
    genopt("record-post", "d1", "storyteller", "--correct", code=2)
    because = ("--correct", "--reason", "mixed up")
    assert genopt("record-post", "d1", "storyteller", *because)["generator_name"] == "storyteller"
    event = genopt("history", "--limit", "1")[0]
    assert event["event_type"] == "post_corrected"
    assert [row["reason"] for row in genopt("explain", "coach")["findings"]] == [event["reason"]]
    for wrong in (("--arm", "foo"), ("--status", "foo"), ("--probability", "0")):
        assert wrong[1] in genopt("record-post", "d2", "coach", *wrong, code=2)


@pytest.mark.slow
def test_rows_and_files_in_quarantine_are_closed_with_a_reason_and_stay_closed(genopt, tmp_path):
    lines = (DATA / "content_export_2025_en.csv").read_text("utf-8-sig").splitlines(keepends=True)
    for name, bad in (("a.csv", ["not,a,row\n"]), ("b.csv", ["no,row\n", "nor,this,one\n"])):
        (tmp_path / name).write_text("".join([lines[0], *bad, *lines[1:]]))
        genopt("import", tmp_path / name)
    told = genopt("quarantine")
    assert told["counts"] == {"export_row": 3}
    [record] = [item for item in told["records"] if item["source"] == "a.csv"]

    assert "--reason" in genopt("quarantine", "--resolve-record", record["id"], code=2)
    why = ("--reason", "corrected and imported again")
    refused = genopt(
        "quarantine", "--resolve-record", record["id"], "--resolve-record", 99999, *why, code=1
    )
    assert "no open record 99999" in refused
    assert genopt("quarantine")["counts"] == {"export_row": 3}
    assert genopt("quarantine", "--resolve-record", record["id"], *why)["unresolved"] == 2
    assert "b.csv" in genopt("quarantine", "--resolve-file", "a.csv", *why, code=1)
    assert genopt("quarantine", "--resolve-file", "b.csv", *why)["resolved"] == 2
    assert genopt("dashboard")["quarantine"] == {}
    genopt("import", tmp_path / "b.csv")
    assert genopt("quarantine")["counts"] == {}


def test_attribution_of_given_counts_is_conserved(genopt, tmp_path):
    document = {
        "deltas": [
            {"window_start": "2026-10-01T00:00Z", "window_end": "2026-10-01T02:00Z", "delta": 7},
            {"window_start": "2026-10-01T02:00Z", "window_end": "2026-10-01T04:00Z", "delta": -2},
        ],
        "exposures": [
            {
                "post_id": "p1",
                "generator_name": "coach",
                "window_start": "2026-10-01T00:00Z",
                "impressions": 1000,
            }
        ],
    }
    path = tmp_path / "case.json"
    path.write_text(json.dumps(document))
    answer = genopt("attribute", path)
    for delta in document["deltas"]:
        start = delta["window_start"][:13]
        lines = [*answer["posts"], *answer["baseline"]]
        total = sum(line["followers"] for line in lines if line["window_start"].startswith(start))
        assert total == pytest.approx(delta["delta"], abs=1e-9)
