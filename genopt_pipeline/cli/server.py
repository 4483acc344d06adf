"""Commands that start, stop and prepare an installation: up, down, migrate, demo, db-url."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, console
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import migrate as migrations
from genopt_pipeline.store import server
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import open_engine, place_of, reading_errors

#: The account of `up --live`, apart from that of the demo.
LIVE_ACCOUNT = "live"
Days = Annotated[int, typer.Option("--days", min=1, max=365, help="Days of history.")]


def default_dagster_home() -> Path:
    """DAGSTER_HOME, or the checkout that this file is in; nothing is said of what it holds."""
    named = os.environ.get("DAGSTER_HOME")
    return Path(named) if named else Path(__file__).resolve().parents[2]


def dagster_home() -> Path:
    """The folder with dagster.yaml and workspace.yaml.

    Raises
    ------
    CommandError
        DAGSTER_HOME is not set and this is not a checkout.
    """
    home = default_dagster_home()
    for name in ("dagster.yaml", "workspace.yaml"):
        if not (home / name).is_file():
            raise CommandError(
                f"{home} has no {name}; set DAGSTER_HOME to the folder that holds dagster.yaml "
                "and workspace.yaml"
            )
    return home


def prepare_databases(settings: Settings) -> tuple[server.DatabaseUrls, bool, str]:
    """Create and migrate the databases; their addresses, whether ours is new, and its revision."""
    urls = server.resolve_urls(settings, create=True)
    created = migrations.create_database(urls.genopt)
    migrations.create_database(urls.dagster)
    return urls, created, migrations.upgrade(urls.genopt)


def prepare(settings: Settings) -> dict[str, Any]:
    """Create and migrate the databases and register the account; returns what was done."""
    urls, created, revision = prepare_databases(settings)
    engine = open_engine(urls.genopt)
    try:
        with engine.begin() as connection:
            registered = weight_store.ensure_account(connection, settings.account, DEFAULT_WEIGHTS)
    finally:
        engine.dispose()
    return {
        "database": place_of(urls.genopt),
        "created": created,
        "revision": revision,
        "account": settings.account,
        "account_registered": registered,
    }


def migrate(as_json: AsJson = False) -> None:
    """Create the databases if missing and bring the schema up to date; safe to repeat."""
    done = prepare(common.settings())
    if as_json:
        common.emit(done)
    else:
        console.print(
            f"{done['database']} is at revision {done['revision']}, "
            f"account {done['account']!r} is registered"
        )


def grant(
    role: Annotated[str, typer.Argument(help="An existing database role.")],
    part: Annotated[
        str,
        typer.Option(
            "--as", help="engine (draws and records posts), reader, or worker (the loop)."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Give a database role no more than its part needs; safe to repeat."""
    from genopt_pipeline.store import grants

    if part not in grants.PARTS:
        raise typer.BadParameter(
            f"{part!r} is none of {', '.join(grants.PARTS)}", param_hint="--as"
        )
    known: grants.Part = next(name for name in grants.PARTS if name == part)
    url = server.resolve_urls(common.settings()).genopt
    engine = open_engine(url)
    try:
        with reading_errors(url), engine.begin() as connection:
            migrations.check_revision(connection)
            statements = grants.grant(connection, role, known)
    except grants.GrantError as error:
        raise CommandError(str(error)) from error
    finally:
        engine.dispose()
    if as_json:
        common.emit({"role": role, "as": part, "statements": statements})
    else:
        console.print(f"{role} is {part} now:", markup=False)
        for statement in statements:
            console.print(f"  {statement}", markup=False, highlight=False, soft_wrap=True)


def db_url(
    programs: Annotated[
        bool,
        typer.Option(
            "--bin",
            help="Print the folder of psql, pg_dump and the others that came with genopt.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the database's URL as psql takes it: psql "$(genopt db-url)"."""
    if programs:
        folder = str(server.programs())
        if as_json:
            common.emit({"bin": folder})
        else:
            sys.stdout.write(folder + "\n")
        return
    url = server.psql_url(server.resolve_urls(common.settings()).genopt)
    if as_json:
        common.emit({"url": url})
    else:
        sys.stdout.write(url + "\n")


def down(
    force: Annotated[
        bool, typer.Option("--force", help="Stop it also under a running `genopt up`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the embedded PostgreSQL server; your data stay."""
    settings = common.settings()
    if settings.database_url is not None:
        raise CommandError("GENOPT_DATABASE_URL names a server that genopt does not manage")
    if not force and server.is_in_use(settings.home):
        raise CommandError(
            f"`genopt up` or `genopt demo` works on {settings.home.resolve()}: stop it first "
            "(Ctrl-C), or give --force"
        )
    stopped = server.stop_embedded(settings.home)
    if as_json:
        common.emit({"stopped": stopped})
    else:
        console.print("stopped" if stopped else "no embedded server is running")


def prune(
    keep_days: Annotated[
        int | None,
        typer.Option(min=0, help="Days of events to keep; GENOPT_KEEP_EVENTS_DAYS unless given."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old events and output of Dagster's finished runs; a daily schedule does the same.

    The newest materialization of every asset and partition stays, and genopt's own tables are not
    touched.
    """
    settings = common.settings()
    os.environ["DAGSTER_HOME"] = str(dagster_home())
    from genopt_pipeline.defs.instance import open_instance
    from genopt_pipeline.defs.prune import prune as prune_instance

    days = settings.keep_events_days if keep_days is None else keep_days
    with (
        open_instance() as instance,
        Progress(
            SpinnerColumn(),
            TextColumn("{task.completed:,.0f} events deleted"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=as_json or dry_run,
            transient=True,
        ) as progress,
    ):
        task = progress.add_task("", total=None)
        done = prune_instance(
            instance,
            before=datetime.now(UTC) - timedelta(days=days),
            dry_run=dry_run,
            progress=lambda count: progress.advance(task, count),
        )
    if as_json:
        common.emit(asdict(done))
    else:
        console.print(
            f"{done.events:,} events and the output of {done.runs:,} finished runs from before "
            f"{done.before:%Y-%m-%d %H:%M} UTC " + ("would go" if dry_run else "are deleted")
        )


def check_port(port: int) -> None:
    """Refuse a port that something listens on.

    Raises
    ------
    CommandError
        The port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"port {port} on 127.0.0.1 is in use; stop what listens there, or set GENOPT_PORT"
            ) from error


def _history(settings: Settings, days: int, *, quiet: bool) -> dict[str, Any]:
    # many small events: Dagster writes them in batches if told so before it is imported
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
    os.environ["DAGSTER_HOME"] = str(dagster_home())
    import logging

    from genopt_pipeline.defs import history
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.defs.instance import open_instance

    logging.getLogger("dagster").setLevel(logging.WARNING)
    # Dagster's storage tells the root logger of each try to connect; the last one is our error
    logging.getLogger().setLevel(logging.ERROR)
    begun = time.monotonic()
    pipeline = make_pipeline(settings)
    now = pipeline.now()
    start = history.start_of_history(pipeline, now, days)
    stages = history.plan(start, now)
    with (
        _in_use(settings),
        open_instance() as instance,
        Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=quiet,
        ) as progress,
    ):
        tasks: list[Any] = []

        def report(stage: history.Stage) -> None:
            for task in tasks:
                progress.update(task, total=1, completed=1)
            span = (
                f" ({stage.first:%Y-%m-%d %H:%M} to {stage.last:%Y-%m-%d %H:%M} UTC)"
                if stage.first and stage.last
                else ""
            )
            tasks.append(progress.add_task(stage.title + span, total=None))

        try:
            history.run_history(pipeline, instance, stages, progress=report)
        except history.HistoryError as error:
            raise CommandError(str(error)) from error
        for task in tasks:
            progress.update(task, total=1, completed=1)
    return summary(pipeline, start, now, time.monotonic() - begun)


def summary(pipeline: Any, start: datetime, now: datetime, seconds: float) -> dict[str, Any]:
    """What a demo ended with: counts, live weights and the newest event."""
    from genopt_pipeline.store import counts

    account = pipeline.settings.account
    with pipeline.read() as connection:
        live = weight_store.live_weights(connection, account)
        event = weight_store.recent_events(connection, account, limit=1)[0]
        rows = counts.row_counts(connection, account)
    return {
        "account": account,
        "from": start,
        "to": now,
        "seconds": round(seconds, 1),
        "rows": rows,
        "weights": {name: float(row.weight) for name, row in live.generators.items()},
        "weights_sum": float(sum(row.weight for row in live.generators.values())),
        "weights_version": live.version,
        "differ_from_defaults": live.by_name != dict(sorted(DEFAULT_WEIGHTS.items())),
        "newest_event": {
            "event_type": event["event_type"],
            "reason": event["reason"],
            "created_at": event["created_at"],
        },
    }


def demo(
    days: Days = 14,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Start the Dagster UI afterwards.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Give a simulated account a history and run the whole loop on it, in real Dagster runs.

    The numbers are simulated. All posts are drawn by the default weights, since a backfill never
    publishes; the last window's proposal is published at the end. `genopt simulate` shows learning
    over months. Running it again works through the same windows up to now and doubles nothing.
    """
    settings = common.settings()
    if settings.source != "sandbox":
        raise CommandError(
            f"the demo runs on the sandbox, but GENOPT_SOURCE is {settings.source!r}"
        )
    if serve:
        check_port(settings.port)
    prepare(settings)
    done = _history(settings, days, quiet=as_json)
    if as_json:
        common.emit(done)
    else:
        from genopt_pipeline.cli.views import show_dashboard

        show_dashboard(settings)
        console.print(
            f"{days} days of a simulated account in {done['seconds']:.0f} s; weights version "
            f"{done['weights_version']}: {done['newest_event']['reason']}"
        )
    if serve:
        serve_ui(settings)


def up(
    with_demo: Annotated[
        bool, typer.Option("--demo", help="First give a simulated account a history.")
    ] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Collect a simulated account through the X client from a server on this machine.",
        ),
    ] = False,
    days: Days = 14,
) -> None:
    """Start everything: database, migrations, the Dagster UI and daemon with its schedules.

    Ctrl-C stops the UI and the daemon; the embedded database goes on until `genopt down`.
    """
    if with_demo and live:
        raise typer.BadParameter("--demo and --live are two ways to begin; give one")
    if live:
        _up_live(days)
        return
    if with_demo:
        demo(days=days, serve=True, as_json=False)
        return
    settings = common.settings()
    check_port(settings.port)
    done = prepare(settings)
    console.print(f"{done['database']} is at revision {done['revision']}")
    from genopt_pipeline.defs.sources import simulated_by_default

    if (simulated := simulated_by_default(settings)) is not None:
        common.errors.print(f"warning: {simulated}", style="yellow", markup=False)
    serve_ui(settings)


def _up_live(days: int) -> None:
    """Serve a simulated account as X would, and collect it as a real one is collected."""
    from genopt_pipeline.cli import sandbox

    if "account" not in common.settings().model_fields_set:
        os.environ["GENOPT_ACCOUNT"] = LIVE_ACCOUNT
    settings = common.settings()
    if settings.source == "exports":
        raise CommandError("GENOPT_SOURCE is exports: nothing is collected")
    check_port(settings.port)
    prepare(settings)
    os.environ["DAGSTER_HOME"] = str(dagster_home())
    with sandbox.served(days=min(days, 30)) as environment:
        os.environ.update(environment)
        console.print(
            f"A simulated account is served in the shape of the X API at "
            f"{environment['GENOPT_X_BASE_URL']}; it is account {settings.account!r} here: set "
            f"GENOPT_ACCOUNT={settings.account} for `genopt dashboard` and the others."
        )
        sandbox.collect_first_window()
        serve_ui(common.settings())


def serve_ui(settings: Settings) -> None:
    """Run the Dagster UI and daemon until they are stopped.

    Raises
    ------
    CommandError
        They stopped by themselves.
    """
    with _in_use(settings):
        _serve(settings)


def _in_use(settings: Settings) -> contextlib.AbstractContextManager[None]:
    """While it lasts `genopt down` leaves the embedded server alone."""
    return (
        server.in_use(settings.home) if settings.database_url is None else contextlib.nullcontext()
    )


def _serve(settings: Settings) -> None:
    from genopt_pipeline.defs.schedules import next_ticks

    home = dagster_home()
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    if settings.database_url is None:
        environment["GENOPT_HOME"] = str(settings.home.resolve())
    environment.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
    console.print(
        f"Dagster UI: [link]http://127.0.0.1:{settings.port}[/link]  (Ctrl-C stops it; "
        "`genopt down` stops the embedded database)"
    )
    ticks = next_ticks(datetime.now(UTC))
    console.print(
        "next ticks (UTC): " + ", ".join(f"{name} {at:%H:%M}" for name, at in ticks.items()),
        highlight=False,
    )
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant arguments
        [
            sys.executable,
            "-m",
            "dagster",
            "dev",
            "-w",
            str(home / "workspace.yaml"),
            "-h",
            "127.0.0.1",
            "-p",
            str(settings.port),
        ],
        env=environment,
        cwd=home,
        start_new_session=True,
    )

    asked_at: list[float] = []

    def forward(signum: int, _frame: object) -> None:
        asked_at.append(time.monotonic())
        del signum
        process.send_signal(signal.SIGINT)

    previous = {
        number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while process.poll() is None:
            time.sleep(0.2)
            if asked_at:
                _insist(process, time.monotonic() - asked_at[0])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    stopped = bool(asked_at)
    if not stopped:
        raise CommandError(f"the Dagster UI stopped with exit code {process.returncode}")


def _insist(process: "subprocess.Popen[bytes]", waited_seconds: float) -> None:
    """Ask more and more plainly of a child, and its own children, that was told to stop."""
    for after_seconds, number in ((30.0, signal.SIGKILL), (15.0, signal.SIGTERM)):
        if waited_seconds > after_seconds:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            return
