"""Commands of the simulated account: serving it in the shape of the X API."""

import secrets
import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, console

app = typer.Typer(help="The simulated account.", no_args_is_help=True)

#: How often the simulated engine looks whether a post is due.
ENGINE_SECONDS = 5.0


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
    token: Annotated[
        str | None, typer.Option(help="Token that requests must bear; made up unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve a simulated account in the shape of the X API, to try the live path without X.

    The simulated engine draws by the live weights of GENOPT_ACCOUNT and records its posts there.
    Prints the settings under which genopt collects from it. Ctrl-C stops it.
    """
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.sandbox.account import SandboxAccount
    from genopt_pipeline.sandbox.faults import RandomFaults
    from genopt_pipeline.sandbox.server import serve as start
    from genopt_pipeline.sandbox.server_answers import SandboxView
    from genopt_pipeline.sandbox.world import WORLDS
    from genopt_pipeline.store import source_states
    from genopt_pipeline.store import weights as weight_store

    settings = common.settings()
    pipeline = make_pipeline(settings)
    now = datetime.now(UTC)
    with pipeline.write() as connection:
        live = weight_store.live_weights(connection, settings.account)
        begun = source_states.keep_first(
            connection,
            settings.account,
            "sandbox_server",
            "start",
            (now - timedelta(days=days)).isoformat(),
        )
    if settings.sandbox_world not in WORLDS:
        raise CommandError(f"GENOPT_SANDBOX_WORLD: the worlds are {', '.join(sorted(WORLDS))}")
    world = WORLDS[settings.sandbox_world]
    if settings.sandbox_posts_per_day is not None:
        world = replace(world, posts_per_day=settings.sandbox_posts_per_day)
    account = SandboxAccount(
        seed=settings.sandbox_seed,
        start=datetime.fromisoformat(begun),
        world=world,
        generators=tuple(sorted(live.generators)),
    )
    view = SandboxView(account)
    engine = Engine(pipeline, settings.account, account, view)
    engine.publish(account.start, now)
    token = token or secrets.token_urlsafe(24)
    user_id = "1"
    plan = RandomFaults(settings.sandbox_seed, faults) if faults else None
    try:
        server = start(view, port=port, user_id=user_id, faults=plan, access_token=token)
    except OSError as error:
        raise CommandError(f"port {port} on 127.0.0.1 is in use") from error
    environment = {
        "GENOPT_SOURCE": "x_api",
        "GENOPT_X_BASE_URL": server.base_url,
        "GENOPT_X_USER_ID": user_id,
        "GENOPT_X_ACCESS_TOKEN": token,
    }
    if as_json:
        common.emit(environment)
    else:
        for name, value in environment.items():
            console.print(f"export {name}={value}", soft_wrap=True, highlight=False)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        while not stop.wait(ENGINE_SECONDS):
            engine.publish(now, datetime.now(UTC))
            now = engine.until
    finally:
        server.close()


class Engine:
    """A simulated content engine: draws by the weights in force and records its posts."""

    def __init__(self, pipeline: Any, account_id: str, account: Any, view: Any) -> None:
        self._pipeline = pipeline
        self._account_id = account_id
        self._account = account
        self._view = view
        self.until = account.start

    def publish(self, since: datetime, until: datetime) -> int:
        """Publish what is due in ``[since, until)``; returns how many posts."""
        from genopt_pipeline.core.observations import TrackedPost
        from genopt_pipeline.store import posts as post_store
        from genopt_pipeline.store import weights as weight_store

        with self._pipeline.write() as connection:

            def weights_at(at: datetime) -> tuple[dict[str, float], int]:
                weights = weight_store.weights_in_force(connection, self._account_id, at)
                return weights.by_name, weights.version

            drawn = self._account.engine_posts(since, until, weights_at)
            post_store.upsert_posts(connection, self._account_id, drawn, source="engine")
        self._view.add(
            [
                TrackedPost(
                    decision_id=post.decision_id,
                    tweet_id=post.tweet_id,
                    posted_at=post.posted_at,
                    generator_name=post.generator_name,
                )
                for post in drawn
            ]
        )
        self.until = until
        return len(drawn)
