"""Commands run in this process against a test installation, whose clock stands where it is put."""

import functools
import json
import sys

import pytest

from genopt_pipeline.cli.main import main
from genopt_pipeline.defs import build


class VirtualCli:
    """``genopt`` on one installation; ``now`` is what commands take for the time."""

    def __init__(self, settings, monkeypatch, capsys, clock):
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        environment = {
            "GENOPT_HOME": str(settings.home),
            "GENOPT_DATABASE_URL": settings.database_url.get_secret_value(),
            "GENOPT_DAGSTER_DATABASE_URL": settings.dagster_database_url.get_secret_value(),
            "GENOPT_START": settings.start.isoformat(),
            "GENOPT_POLICY": settings.policy,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(
            build, "make_pipeline", functools.partial(build.make_pipeline, clock=clock)
        )

    def __call__(self, *arguments, code=0):
        """Run a command with --json; returns its JSON, or stderr where it must fail."""
        out, err, got = self.raw(*arguments, "--json")
        assert got == code, f"{' '.join(map(str, arguments))}: exit {got}: {err or out}"
        if code:
            assert "Traceback" not in err
            return err
        return json.loads(out)

    def raw(self, *arguments):
        """Standard output, standard error and exit code."""
        self._monkeypatch.setattr(sys, "argv", ["genopt", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        captured = self._capsys.readouterr()
        exit_code = exited.value.code
        return captured.out, captured.err, 0 if exit_code is None else exit_code
