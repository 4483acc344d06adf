"""Commands of the simulated account: serving it in the shape of the X API."""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import Connection

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, console

if TYPE_CHECKING:
    from genopt_pipeline.defs.resources import Pipeline
    from genopt_pipeline.sandbox.account import SandboxAccount
    from genopt_pipeline.sandbox.server_answers import SandboxView

app = typer.Typer(help="The simulated account.", no_args_is_help=True)

#: How often the simulated engine looks whether a post is due.
ENGINE_SECONDS = 5.0
#: X's number of the simulated account.
USER_ID = "1"


@app.callback()
def _group() -> None:
    """The simulated account."""


@app.command("serve")
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any.")] = 0,
    days: Annotated[int, typer.Option(min=0, max=30, help="Days of posts to begin with.")] = 2,
    faults: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of requests that get a fault.")
    ] = 0.0,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this fault, such as usage_capped; may be repeated.", metavar="FAULT"
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Token that requests must bear; made up unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve a simulated account in the shape of the X API, to try the live path without X.

    The simulated engine draws by the live weights of GENOPT_ACCOUNT and records its posts there.
    Prints the settings under which genopt collects from it; each fault is named on standard error.
    Ctrl-C stops it; started again it goes on with the same account.
    """
    import logging

    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.sandbox.account import SandboxAccount
    from genopt_pipeline.sandbox.faults import ALL_FAULTS, RandomFaults
    from genopt_pipeline.sandbox.server import serve as start
    from genopt_pipeline.sandbox.server_answers import SandboxView
    from genopt_pipeline.sandbox.world import WORLDS
    from genopt_pipeline.store import weights as weight_store

    unknown = sorted(set(only or ()) - set(ALL_FAULTS))
    if unknown:
        raise typer.BadParameter(f"unknown fault {unknown[0]!r}; known are {', '.join(ALL_FAULTS)}")
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    logging.getLogger("genopt_pipeline.sandbox.server").setLevel(logging.INFO)
    settings = common.settings()
    if settings.sandbox_world not in WORLDS:
        raise CommandError(f"GENOPT_SANDBOX_WORLD: the worlds are {', '.join(sorted(WORLDS))}")
    world = WORLDS[settings.sandbox_world]
    if settings.sandbox_posts_per_day is not None:
        world = replace(world, posts_per_day=settings.sandbox_posts_per_day)
    pipeline = make_pipeline(settings)
    now = datetime.now(UTC)
    with pipeline.write() as connection:
        live = weight_store.live_weights(connection, settings.account)
        begun = _begin(connection, settings.account, now - timedelta(days=days))
    account = SandboxAccount(
        seed=settings.sandbox_seed,
        start=begun,
        world=world,
        generators=tuple(sorted(live.generators)),
        holdout_share=settings.holdout_share,
    )
    view = SandboxView(account)
    engine = Engine(pipeline, settings.account, account, view)
    engine.publish(now)
    token = token or secrets.token_urlsafe(24)
    rate = faults or (1.0 if only else 0.0)
    plan = RandomFaults(settings.sandbox_seed, rate, faults=only or ALL_FAULTS) if rate else None
    try:
        server = start(view, port=port, user_id=USER_ID, faults=plan, access_token=token)
    except OSError as error:
        raise CommandError(f"port {port} on 127.0.0.1 is in use") from error
    environment = {
        "GENOPT_ACCOUNT": settings.account,
        "GENOPT_SOURCE": "x_api",
        "GENOPT_X_BASE_URL": server.base_url,
        "GENOPT_X_USER_ID": USER_ID,
        "GENOPT_X_ACCESS_TOKEN": token,
    }
    if as_json:
        common.emit(environment)
    else:
        for name, value in environment.items():
            sys.stdout.write(f"export {name}={value}\n")
    sys.stdout.flush()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        while not stop.wait(ENGINE_SECONDS):
            engine.publish(datetime.now(UTC))
    finally:
        server.close()


def _begin(connection: Connection, account_id: str, start: datetime) -> datetime:
    """When the served account began; an account that holds other posts is not written to.

    Raises
    ------
    CommandError
        The account has a source or posts of its own.
    """
    from genopt_pipeline.store import posts, source_states

    begun = source_states.get_state(connection, account_id, "sandbox_server", "start")
    if begun is not None:
        return datetime.fromisoformat(begun)
    bound = source_states.get_state(connection, account_id, "live", "source")
    if bound is not None or posts.has_posts(connection, account_id):
        raise CommandError(
            f"account {account_id!r} has posts of its own, and simulated ones would be mixed with "
            "them; set GENOPT_ACCOUNT to a new account and run `genopt migrate`"
        )
    source_states.set_state(connection, account_id, "sandbox_server", "start", start.isoformat())
    return start


@contextmanager
def served(*, days: int) -> Iterator[dict[str, str]]:
    """A server in a process of its own; yields the settings under which it is collected from.

    Raises
    ------
    CommandError
        It did not start.
    """
    command = [sys.executable, "-m", "genopt_pipeline.cli", "sandbox", "serve", "--json"]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant arguments
        [*command, "--days", str(days)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
        start_new_session=True,
    )
    try:
        yield _announced(process)
    finally:
        process.terminate()
        process.wait()


def _announced(process: "subprocess.Popen[str]") -> dict[str, str]:
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if line.rstrip() == "}":
            environment: dict[str, str] = json.loads("".join(lines))
            return environment
    raise CommandError("the sandbox server did not start")


class Engine:
    """A simulated content engine: draws by the weights in force and records its posts."""

    def __init__(
        self,
        pipeline: "Pipeline",
        account_id: str,
        account: "SandboxAccount",
        view: "SandboxView",
    ) -> None:
        self._pipeline = pipeline
        self._account_id = account_id
        self._account = account
        self._view = view
        self._until = account.start

    def publish(self, until: datetime) -> int:
        """Publish what has become due before ``until``; returns how many posts."""
        from genopt_pipeline.core.observations import TrackedPost
        from genopt_pipeline.store import posts as post_store
        from genopt_pipeline.store import weights as weight_store

        with self._pipeline.write() as connection:

            def weights_at(at: datetime) -> tuple[dict[str, float], int]:
                weights = weight_store.weights_in_force(connection, self._account_id, at)
                return weights.by_name, weights.version

            drawn = self._account.engine_posts(self._until, until, weights_at)
            post_store.upsert_posts(connection, self._account_id, drawn, source="engine")
        self._view.add(
            [
                TrackedPost(
                    decision_id=post.decision_id or "",
                    tweet_id=post.tweet_id,
                    posted_at=post.posted_at,
                    generator_name=post.generator_name,
                )
                for post in drawn
            ]
        )
        self._until = until
        return len(drawn)


def collect_first_window() -> None:
    """Collect the present window in a Dagster run and say what it was and what it costs."""
    from genopt_pipeline.cli.data import show_collected
    from genopt_pipeline.defs import history, jobs
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.defs.instance import open_instance
    from genopt_pipeline.defs.partitions import TEN_MINUTES, window_of
    from genopt_pipeline.store import metrics

    pipeline = make_pipeline(common.settings())
    window = window_of(pipeline.now(), TEN_MINUTES)
    with open_instance() as instance:
        stage = history.Stage("collect the present window", jobs.INGEST, window[0], window[0])
        try:
            history.run_history(pipeline, instance, [stage])
        except history.HistoryError as error:
            raise CommandError(str(error)) from error
    with pipeline.read() as connection:
        report = metrics.window_report(connection, pipeline.settings.account, window[0])
    console.print(f"collected {window[0]:%Y-%m-%d %H:%M} UTC through the X client")
    show_collected(report or {})
