"""The command ``genopt``: registers the commands; each lives in the module of its kind."""

import sys

import typer

import genopt_pipeline
from genopt_pipeline.cli import (
    common,
    control,
    data,
    decide,
    monitoring,
    sandbox,
    server,
    simulation,
    views,
)

app = typer.Typer(
    name="genopt",
    help="Learns which content generators earn followers, and sets their weights.",
    no_args_is_help=True,
    # with it the lines of a docstring are joined, and broken where the terminal ends
    rich_markup_mode="markdown",
    add_completion=True,
    pretty_exceptions_show_locals=False,
)

START = "Start and stop"
DATA = "Data in"
WEIGHTS = "Weights"
LOOK = "Look"

app.command("up", rich_help_panel=START)(server.up)
app.command("down", rich_help_panel=START)(server.down)
app.command("migrate", rich_help_panel=START)(server.migrate)
app.command("demo", rich_help_panel=START)(server.demo)
app.command("db-url", rich_help_panel=START)(server.db_url)
app.command("grant", rich_help_panel=START)(server.grant)
app.command("prune", rich_help_panel=START)(server.prune)
app.command("collect", rich_help_panel=DATA)(data.collect)
app.command("import", rich_help_panel=DATA)(data.import_)
app.command("record-post", rich_help_panel=DATA)(data.record_post)
app.command("quarantine", rich_help_panel=DATA)(data.quarantine)
app.command("select", rich_help_panel=WEIGHTS)(data.select)
app.command("optimize", rich_help_panel=WEIGHTS)(decide.optimize)
app.command("propose", rich_help_panel=WEIGHTS)(decide.propose)
app.command("attribute", rich_help_panel=WEIGHTS)(decide.attribute)
app.add_typer(sandbox.app, name="sandbox", rich_help_panel=START)
CONTROL = "Control by hand"
app.command("set-weight", rich_help_panel=CONTROL)(control.set_weight)
app.command("lock", rich_help_panel=CONTROL)(control.lock)
app.command("unlock", rich_help_panel=CONTROL)(control.unlock)
app.command("disable", rich_help_panel=CONTROL)(control.disable)
app.command("enable", rich_help_panel=CONTROL)(control.enable)
app.command("add-generator", rich_help_panel=CONTROL)(control.add_generator)
app.command("archive", rich_help_panel=CONTROL)(control.archive)
app.command("rollback", rich_help_panel=CONTROL)(control.rollback)
app.command("dashboard", rich_help_panel=LOOK)(views.dashboard)
app.command("health", rich_help_panel=LOOK)(views.health)
app.command("alerts", rich_help_panel=LOOK)(monitoring.alerts)
app.command("validate", rich_help_panel=START)(monitoring.validate)
app.command("settings", rich_help_panel=START)(monitoring.settings_)
app.command("weights", rich_help_panel=LOOK)(control.weights)
app.command("history", rich_help_panel=LOOK)(views.history)
app.command("explain", rich_help_panel=LOOK)(views.explain)
app.command("report", rich_help_panel=LOOK)(views.report)
TRY = "Try out"
app.command("backtest", rich_help_panel=TRY)(simulation.backtest)
app.command("simulate", rich_help_panel=TRY)(simulation.simulate)


def _version(show: bool) -> None:
    if show:
        sys.stdout.write(f"genopt {genopt_pipeline.__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Learns which content generators earn followers, and sets their weights."""
    del version


def main() -> None:
    """Run a command; known failures are one line and exit 1, Ctrl-C is exit 130."""
    with common.one_line_errors():
        try:
            app()
        except KeyboardInterrupt:
            common.errors.print("interrupted; running the command again goes on from here")
            raise SystemExit(130) from None
