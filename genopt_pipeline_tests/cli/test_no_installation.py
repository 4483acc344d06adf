"""Where there is no installation, only the commands that make one leave anything behind."""

import shlex
import sys

import pytest

from genopt_pipeline.cli.main import main

NEEDS_ONE = [
    "health",
    "weights",
    "quarantine",
    "dashboard",
    "alerts",
    "history",
    "report",
    "explain coach",
    "select",
    "db-url",
    "collect",
    "optimize",
    "optimize --dry-run",
    "backtest",
    "record-post d1 coach",
    "set-weight coach 0.1 --reason x",
    "grant somebody --as reader",
    "prune --dry-run",
    "sandbox serve",
]


@pytest.fixture
def genopt(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(command):
        monkeypatch.setattr(sys, "argv", ["genopt", *shlex.split(command)])
        with pytest.raises(SystemExit) as exited:
            main()
        assert list(tmp_path.iterdir()) == []
        return exited.value.code, capsys.readouterr()

    return run


@pytest.mark.parametrize("command", NEEDS_ONE)
def test_a_command_that_needs_an_installation_makes_none_and_names_the_folder(
    genopt, tmp_path, command
):
    code, said = genopt(command)
    assert code == 1
    assert said.err.startswith(f"error: there is no genopt in {tmp_path}/.genopt")
    assert "(GENOPT_HOME=.genopt is relative to this folder)" in said.err
    assert "`genopt up`, `genopt demo` or `genopt migrate` first" in said.err
    assert said.err.count("\n") == 1


def test_an_absolute_home_is_named_without_the_hint(genopt, tmp_path, monkeypatch):
    monkeypatch.setenv("GENOPT_HOME", str(tmp_path / "none"))
    _, said = genopt("health")
    assert f"there is no genopt in {tmp_path}/none; correct GENOPT_HOME" in said.err


def test_validate_finds_it_and_says_what_to_do(genopt, tmp_path):
    code, said = genopt("validate")
    assert code == 1
    told = " ".join(said.out.split())
    assert "there is no genopt in" in told
    assert "→ Correct GENOPT_HOME, or run `genopt up`" in told


def test_there_is_nothing_to_stop(genopt):
    assert genopt("down")[0] == 0
