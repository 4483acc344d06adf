"""``genopt simulate``: simulated and said so, the same for the same seed, stopped cleanly."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from rich.cells import cell_len

from genopt_pipeline.cli.main import main
from genopt_pipeline.sandbox.contenders import CONTENDERS
from genopt_pipeline.sandbox.simulate import simulate
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.settings import Settings

SMALL = ("--accounts", "4", "--days", "3", "--seed", "7")


@pytest.fixture
def genopt(monkeypatch, capsys, tmp_path):
    """The command in this process, far from any database."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("GENOPT_HOME", str(tmp_path / "none"))

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["genopt", "simulate", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == code, captured.err
        return captured.err if code else captured.out

    return run


def test_the_json_holds_what_was_simulated_and_says_that_it_is(genopt, tmp_path):
    chosen = ("--worlds", "stationary,sparse", "--policies", "uniform", "--policies", "default")
    answer = json.loads(genopt(*SMALL, *chosen, "--json"))
    assert answer["simulated"] is True
    assert answer["worlds"] == ["stationary", "sparse"]
    assert answer["policies"] == ["uniform", "default"]
    same = simulate(answer["worlds"], answer["policies"], accounts=4, days=3, seed=7)
    assert answer["results"] == json.loads(same.to_json())["results"]
    assert {row["day"] for row in answer["table"]} == {3}
    assert {row["policy"] for row in answer["table"]} == {"uniform", "default", "oracle"}
    oracle = next(row for row in answer["table"] if row["policy"] == "oracle")
    assert oracle["captured"] == pytest.approx(1)
    assert not (tmp_path / "none").exists()


def test_every_policy_and_world_fits_eighty_columns_and_no_gap_is_a_dash(genopt):
    out = genopt(*SMALL, "--worlds", "all")
    assert [line for line in out.splitlines() if cell_len(line) > 80] == []
    assert out.startswith("simulated accounts: no number here was measured on a real one")
    lines = out.splitlines()
    for world in WORLDS:
        at = next(i for i, line in enumerate(lines) if line.split()[:1] == [world])
        block = lines[at + 2 : at + 3 + len(CONTENDERS)]
        assert [line.split()[0] for line in block] == [*CONTENDERS, "oracle"]
        if world == "null":
            assert all(line.split()[1] == "–" for line in block)


def test_feedback_through_attribution_gives_other_results_than_true_follows(genopt):
    few = ("--accounts", 2, "--days", 3, "--policies", "thompson", "--json")
    told = json.loads(genopt(*few, "--feedback", "profile_clicks"))
    true = json.loads(genopt(*few))
    assert told["feedback"] == "profile_clicks"
    assert told["table"][0]["policy"] == "thompson"
    assert told["table"] != true["table"]


def test_the_chart_is_a_page_that_needs_nothing_else(genopt, tmp_path):
    chart = tmp_path / "chart.html"
    out = genopt(*SMALL, "--policies", "default", "--chart", chart)
    assert str(chart) in out
    page = chart.read_text(encoding="utf-8")
    assert "no number here was measured on a real one" in page
    assert "Plotly.newPlot" in page
    assert "Content-Security-Policy" in page
    assert 'src="http' not in page
    assert [path.name for path in tmp_path.iterdir()] == ["chart.html"]


def test_what_is_not_known_is_a_usage_error_that_names_what_is(genopt, tmp_path):
    assert "stationary" in genopt("--worlds", "moon", code=2)
    assert "thompson" in genopt("--policies", "luck", code=2)
    genopt("--accounts", 1, code=2)
    genopt("--feedback", "likes", code=2)
    error = genopt("--chart", tmp_path / "nowhere" / "chart.html", code=1)
    assert error.count("\n") == 1
    assert "is not a folder" in error


def test_ctrl_c_ends_it_in_one_line_and_leaves_no_chart(tmp_path):
    chart = tmp_path / "chart.html"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "genopt_pipeline.cli", "simulate"),
            *("--worlds", "dense", "--accounts", "500", "--chart", str(chart)),
        ],
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = ""
    while "simulating" not in said:
        said += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not out.strip()
    assert "interrupted; nothing was written" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_help_and_settings_name_every_world_and_policy(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["genopt", "simulate", "--help"])
    with pytest.raises(SystemExit):
        main()
    said = set(re.findall(r"\w+", capsys.readouterr().out))
    assert said >= {*WORLDS, *CONTENDERS}
    described = set(re.findall(r"\w+", Settings.model_fields["sandbox_world"].description))
    assert described >= set(WORLDS)


def test_the_lines_of_a_help_text_are_as_long_as_the_terminal_is_wide(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["genopt", "prune", "--help"])
    with pytest.raises(SystemExit):
        main()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "own tables are not touched." in lines
