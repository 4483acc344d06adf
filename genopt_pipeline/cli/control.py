"""Commands by which a person changes weights; each is an event with its reason."""

import getpass
import os
from typing import Annotated, Any

import typer
from rich.table import Table

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, console
from genopt_pipeline.store.engine import DatabaseFullError, DatabaseUnavailableError

Generator = Annotated[str, typer.Argument(help="The generator.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the event.")]


def _do(
    action: str,
    reason: str,
    as_json: bool,
    *,
    generator: str | None = None,
    weight: float | None = None,
    to_event: int | None = None,
) -> None:
    from genopt_pipeline.core.control import ControlError
    from genopt_pipeline.defs import control
    from genopt_pipeline.defs.build import make_pipeline

    settings = common.settings()
    command = "add-generator" if action == "add" else action.replace("_", "-")
    try:
        done = control.apply(
            make_pipeline(settings),
            settings.account,
            control.Command(
                action,
                reason,
                created_by=f"genopt {command} ({getpass.getuser()})",
                generator=generator,
                weight=weight,
                to_event=to_event,
            ),
        )
    except ControlError as error:
        raise CommandError(str(error)) from error
    _tell_dagster(done)
    if as_json:
        common.emit(done)
        return
    named = f" {done['generator']}" if done["generator"] else ""
    console.print(f"{command}{named}: version {done['version']} is in force", markup=False)
    for change in done["states"]:
        console.print(
            f"  {change['generator']}: {change['old_state']} → {change['new_state']}", markup=False
        )
    for change in done["changes"]:
        console.print(
            f"  {change['generator']}: {change['old_weight']:.4f} → {change['new_weight']:.4f}",
            markup=False,
        )


def _tell_dagster(done: dict[str, Any]) -> None:
    """Record the change on the asset's page too, where there is a Dagster; it holds anyway."""
    from genopt_pipeline.cli.server import dagster_home
    from genopt_pipeline.defs.control_job import materialization
    from genopt_pipeline.defs.instance import existing_instance

    try:
        os.environ["DAGSTER_HOME"] = str(dagster_home())
    except CommandError:
        return
    try:
        with existing_instance() as instance:
            if instance is not None:
                instance.report_runless_asset_event(materialization(done))
    except (DatabaseUnavailableError, DatabaseFullError) as error:
        common.errors.print(f"warning: Dagster was not told: {error}", markup=False)


def weights(
    at: Annotated[
        str | None, typer.Option("--at", help="ISO time of which to show them; now unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the weights in force, now or at an earlier time, with status and locks."""
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import weights as weight_store

    settings = common.settings()
    pipeline = make_pipeline(settings)
    now = pipeline.now()
    moment = now if at is None else common.time_of(at, "--at")
    if moment > now:
        raise CommandError(f"--at {moment:%Y-%m-%d %H:%M} lies in the future")
    with pipeline.read() as connection:
        weight_store.live_weights(connection, settings.account)  # the account must be registered
        found = weight_store.weights_in_force(connection, settings.account, moment)
        registered_at = weight_store.registered_at(connection, settings.account)
    # nothing was in force yet: the first weights are taken for all time before the account
    assumed = moment < registered_at and found.version == 1
    if as_json:
        common.emit(
            {
                "account": settings.account,
                "at": moment,
                "assumed": assumed,
                "version": found.version,
                "weights": found.by_name,
                "states": {
                    name: {"status": row.status, "locked": row.locked}
                    for name, row in found.generators.items()
                },
            }
        )
        return
    title = f"version {found.version}, in force at {moment:%Y-%m-%d %H:%M} UTC"
    if assumed:
        title = (
            f"the account was registered at {registered_at:%Y-%m-%d %H:%M} UTC, after "
            f"{moment:%Y-%m-%d %H:%M}: its first weights, taken for all time before"
        )
    table = Table(title=title)
    for column in ("generator", "weight", "state"):
        table.add_column(column, justify="right" if column == "weight" else "left")
    for name, row in sorted(found.generators.items(), key=lambda item: (-item[1].weight, item[0])):
        table.add_row(name, f"{row.weight:.4f}", row.status + (", locked" if row.locked else ""))
    console.print(table)


def set_weight(
    generator: Generator,
    weight: Annotated[float, typer.Argument(min=0.0, max=1.0, help="Its new weight.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Give a generator a weight; the unlocked others make room in proportion.

    Unless it is locked, the weight lies between floor and cap.
    """
    _do("set_weight", reason, as_json, generator=generator, weight=weight)


def lock(generator: Generator, reason: Reason, as_json: AsJson = False) -> None:
    """Hold a generator at its weight: no optimization changes it."""
    _do("lock", reason, as_json, generator=generator)


def unlock(generator: Generator, reason: Reason, as_json: AsJson = False) -> None:
    """Let the optimization change a generator again, between floor and cap."""
    _do("unlock", reason, as_json, generator=generator)


def disable(generator: Generator, reason: Reason, as_json: AsJson = False) -> None:
    """Take a generator out of the draw; its lock ends and the others share its weight."""
    _do("disable", reason, as_json, generator=generator)


def enable(generator: Generator, reason: Reason, as_json: AsJson = False) -> None:
    """Put a disabled or archived generator back into the draw with a fair chance."""
    _do("enable", reason, as_json, generator=generator)


def add_generator(generator: Generator, reason: Reason, as_json: AsJson = False) -> None:
    """Register a new generator, in testing, with a fair chance."""
    _do("add", reason, as_json, generator=generator)


def archive(generator: Generator, reason: Reason, as_json: AsJson = False) -> None:
    """Retire a generator: as disable, and shown as one that is not meant to come back."""
    _do("archive", reason, as_json, generator=generator)


def rollback(
    reason: Reason,
    to: Annotated[
        int | None,
        typer.Option(help="Id of the event to go back to; the version before unless given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the weights and states of an earlier event, as a new event."""
    _do("rollback", reason, as_json, to_event=to)
