"""Every command once, on one small installation: a new command that is not visited fails here."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from sqlalchemy import text

from genopt_pipeline.cli.main import app
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.store import server
from genopt_pipeline_tests.cli.virtual import VirtualCli
from genopt_pipeline_tests.conftest import DATA
from genopt_pipeline_tests.scenario import START, Clock, work_through

DAYS = 2
NOW = START + timedelta(days=DAYS, minutes=13)
WAIT_SECONDS = 180
#: Their exit code says what they found, which a small installation without a daemon decides.
MAY_FIND = ("health", "alerts", "validate")


def commands(group=None, prefix=()):
    """Every command of the application, those of groups by their whole name."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield " ".join((*prefix, name)), command


ALL = dict(commands())


def visited(arguments):
    return max((name for name in ALL if " ".join(arguments).startswith(name)), key=len)


class Tour:
    """Runs commands in this process at a virtual time and remembers which."""

    def __init__(self, cli):
        self._cli = cli
        self.visited = set()

    def __call__(self, *arguments, code=0):
        words = [str(argument) for argument in arguments]
        self.visited.add(visited(words))
        if words[0] in MAY_FIND:
            out, err, got = self._cli.raw(*words, "--json")
            assert got in (0, 1), err
            assert "Traceback" not in err
            return json.loads(out)
        return self._cli(*words, code=code)


@pytest.fixture
def role(admin):
    """A role of the server that owns nothing."""
    with admin.connect() as connection:
        connection.execute(text("CREATE ROLE tour_reader LOGIN"))
    yield "tour_reader"
    with admin.connect() as connection:
        connection.execute(text("DROP ROLE tour_reader"))


@pytest.fixture
def genopt(role, make_settings, monkeypatch, capsys, tmp_path):
    del role  # made before the database, and dropped after it with its rights
    tmp_path.chmod(0o755)
    settings = make_settings(start=START)
    clock = Clock(NOW)
    work_through(make_pipeline(settings, clock=clock), START, START + timedelta(days=DAYS))
    return Tour(VirtualCli(settings, monkeypatch, capsys, clock))


CASE = {"id": 1, "performance": [], "current": {"a": 0.5, "b": 0.5}}
COUNTS = {
    "deltas": [
        {"window_start": "2026-10-01T00:00Z", "window_end": "2026-10-01T02:00Z", "delta": 7}
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


def walk(genopt, tmp_path, role):
    """The commands that end by themselves."""
    assert genopt("migrate")["account"] == "main"
    assert genopt("db-url")["url"].startswith("postgresql://")
    assert genopt("settings")
    assert genopt("validate")["findings"]
    assert genopt("grant", role, "--as", "reader")["statements"]

    drawn = genopt("select", "--arm", "variant_a", "--seed", 1)
    assert drawn["weights_version"] == 1
    at = (START + timedelta(hours=1)).isoformat()
    genopt(
        *("record-post", "d1", drawn["generator_name"], "--posted-at", at, "--arm", "variant_a"),
        *("--probability", drawn["probability"], "--weights-version", 1),
    )
    genopt("record-post", "d2", "news reader", "--posted-at", at, code=1)
    assert genopt("quarantine")["counts"] == {"generator_name": 1}
    assert genopt("quarantine", "--resolve", "news reader", "newsReporter")["posts"] == 1
    assert genopt("collect")["account"] == "main"
    assert genopt("import", DATA / "content_export_2025_en.csv")["files"]

    shown = genopt("optimize", "--dry-run")
    assert genopt("optimize")["weights"] == shown["weights"]
    for command, content in (("propose", CASE), ("attribute", COUNTS)):
        path = tmp_path / f"{command}.jsonl"
        path.write_text(json.dumps(content))
        assert genopt(command, path)

    because = ("--reason", "the tour")
    assert genopt("set-weight", "coach", 0.2, *because)["weights"]["coach"] == 0.2
    for command in ("lock", "unlock", "disable", "enable", "archive"):
        assert genopt(command, "coach", *because)["generator"] == "coach"
    assert genopt("add-generator", "poet", *because)["weights"]["poet"] > 0.02
    first = genopt("history", "--limit", 100)[-1]
    assert first["event_type"] == "initial_weights"
    back = genopt("rollback", "--to", first["id"], *because)
    assert back["weights"]["coach"] == 0.08
    assert genopt("weights")["weights"] == back["weights"]
    assert genopt("weights", "--at", at)["version"] == 1

    assert genopt("dashboard")["weights_sum"] == 1
    assert genopt("health")["status"] in {"healthy", "degraded", "critical"}
    assert "alerts" in genopt("alerts")
    assert genopt("explain", "coach")["generator"] == "coach"
    assert genopt("report")
    assert genopt("backtest")
    assert genopt("simulate", "--accounts", 2, "--days", 2)
    assert genopt("prune", "--dry-run")["dry_run"]


class Process:
    """A command in a process of its own, on an embedded server of its own."""

    def __init__(self, home):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.visited = set()
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GENOPT_")
        } | {"GENOPT_HOME": str(home), "GENOPT_PORT": str(self.port)}

    def __call__(self, *arguments, **environment):
        self.visited.add(visited(arguments))
        done = subprocess.run(
            [sys.executable, "-m", "genopt_pipeline.cli", *arguments, "--json"],
            env=self._environment | environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until(self, ready, *arguments, **environment):
        """Start a command that goes on, wait until ``ready``, and stop it as Ctrl-C does."""
        self.visited.add(visited(arguments))
        with tempfile.TemporaryFile("w+") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "genopt_pipeline.cli", *arguments],
                env=self._environment | environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                deadline = time.monotonic() + WAIT_SECONDS
                while not ready(_read(out)):
                    assert process.poll() is None, _read(out)
                    assert time.monotonic() < deadline, _read(out)
                    time.sleep(0.5)
                process.send_signal(signal.SIGINT)
                return process.wait(WAIT_SECONDS), _read(out)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def _read(file):
    file.seek(0)
    return file.read()


@pytest.fixture
def genopt_process():
    # a short path: unix sockets allow about a hundred bytes
    home = Path(tempfile.mkdtemp(prefix="tour-", dir="/tmp"))
    home.chmod(0o755)
    yield Process(home)
    server.stop_embedded(home)
    shutil.rmtree(home, ignore_errors=True)


def start_and_stop(genopt):
    """The commands that start something, and the one that stops it."""
    done = genopt("demo", "--days", "1", "--no-serve")
    assert done["weights_sum"] == 1

    def answers(_):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{genopt.port}/server_info") as page:
                return page.status == 200
        except OSError:
            return False

    code, said = genopt.until(answers, "up")
    assert code in (0, 130), said
    genopt("migrate", GENOPT_ACCOUNT="other")
    code, said = genopt.until(
        lambda out: out.count("GENOPT_") >= 5 and out.rstrip().endswith("}"),
        *("sandbox", "serve", "--json"),
        GENOPT_ACCOUNT="other",
    )
    assert code in (0, 130), said
    assert genopt("down")["stopped"] is True


@pytest.mark.slow
def test_every_command_is_visited(genopt, genopt_process, tmp_path, role):
    walk(genopt, tmp_path, role)
    start_and_stop(genopt_process)
    assert genopt.visited | genopt_process.visited == set(ALL)


def test_every_command_says_what_it_does_and_what_each_option_means():
    for name, command in ALL.items():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name}"
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options or name == "up", name
