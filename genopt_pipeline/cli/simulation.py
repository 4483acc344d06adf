"""Commands that try policies out: on simulated accounts, and on the account's own past.

Neither writes to the database.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, Policy, console

#: Days at which the table of a simulation shows what was captured, beside its last day.
SHOWN_DAYS = (30, 90)


class FeedbackName(StrEnum):
    """What the simulated policies are told of each post's followers."""

    follows = "follows"
    impressions = "impressions"
    profile_clicks = "profile_clicks"


def simulate(
    worlds: Annotated[
        list[str] | None,
        typer.Option(
            help="Worlds, separated by commas, or all: stationary, drift, switch, new_arm, "
            "heavy_tail, null, sparse, dense, shocks. [default: stationary]"
        ),
    ] = None,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            help="Policies, separated by commas: uniform, default, exponential, best_takes_all, "
            "thompson. [default: all; the oracle comes along]"
        ),
    ] = None,
    accounts: Annotated[int, typer.Option(min=2, max=100_000, help="Simulated accounts.")] = 64,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days of each account.")] = 90,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same gives the same accounts.")] = 1,
    feedback: Annotated[
        FeedbackName,
        typer.Option(
            help="What the policies see: the true follows of each post, or only the account's "
            "follower count, attributed by impressions or by profile clicks (much slower)."
        ),
    ] = FeedbackName.follows,
    chart: Annotated[
        Path | None, typer.Option(help="Write a page with the chart, which works offline.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare policies in a closed loop on simulated accounts; uses no database.

    All numbers are simulated. Shows the share of the gap between equal weights and an oracle that
    each policy captures, with 95 % intervals over accounts, and the F/1K earned.
    """
    from genopt_pipeline.sandbox.attributed import from_deltas
    from genopt_pipeline.sandbox.contenders import CONTENDERS
    from genopt_pipeline.sandbox.simulate import simulate as run
    from genopt_pipeline.sandbox.world import WORLDS

    chosen_worlds = _chosen(worlds or ["stationary"], tuple(WORLDS), "world", "--worlds")
    chosen = _chosen(policies or ["all"], tuple(CONTENDERS), "policy", "--policies")
    if chart is not None and not chart.absolute().parent.is_dir():
        raise CommandError(f"{chart.absolute().parent} is not a folder; the chart has no place")
    settings = {
        "accounts": accounts,
        "days": days,
        "seed": seed,
        "feedback": feedback.value,
        "worlds": list(chosen_worlds),
        "policies": list(chosen),
    }
    with _progress("simulating", quiet=as_json) as progress:
        result = run(
            chosen_worlds,
            chosen,
            accounts=accounts,
            days=days,
            seed=seed,
            feedback_for=(
                None
                if feedback is FeedbackName.follows
                else from_deltas(
                    "impressions" if feedback is FeedbackName.impressions else "profile_clicks"
                )
            ),
            progress=progress,
        )
    shown = sorted({min(day, days) for day in SHOWN_DAYS} | {days})
    told = (
        f"{accounts} accounts, {days} days, seed {seed}, the policies see "
        + {
            "follows": "the true follows of each post",
            "impressions": "the follower count and impressions",
            "profile_clicks": "the follower count and profile clicks",
        }[feedback.value]
    )
    if chart is not None:
        from genopt_pipeline.report.simulation import render_simulation

        write_whole(chart, render_simulation(result.frame, shown_days=shown, settings=told))
    document = json.loads(result.to_json())
    if as_json:
        table = [row for row in document["results"] if row["day"] in shown]
        common.emit(
            {
                "simulated": True,
                **settings,
                "chart": None if chart is None else str(chart),
                "table": table,
                "results": document["results"],
            }
        )
        return
    from genopt_pipeline.cli import render

    console.print(render.simulation(document["results"], days=shown, told=told))
    if chart is not None:
        console.print(f"chart: {chart}", markup=False, soft_wrap=True)


def backtest(
    policy: Annotated[
        Policy | None, typer.Option(help="The policy to replay. [default: GENOPT_POLICY]")
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", help="ISO time to begin at. [default: 30 days before the end]"),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="ISO time to end at. [default: the last six-hour boundary]"),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, max=168, help="Hours between two optimizations.")
    ] = 6,
    step: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of the way to the target in a cycle. [default: GENOPT_AGGRESSIVENESS]",
        ),
    ] = None,
    exploration: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of the target spread evenly.")
    ] = None,
    window_days: Annotated[
        float | None, typer.Option(min=0.25, max=70.0, help="Days of the gate's window.")
    ] = None,
    min_posts: Annotated[
        int | None, typer.Option(min=0, help="Posts in the window below which nothing changes.")
    ] = None,
    floor: Annotated[
        float | None, typer.Option(min=0.0, max=0.5, help="Floor of a drawn generator's weight.")
    ] = None,
    cap: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Cap of a drawn generator's weight.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the account's stored history under any policy and setting; reads only.

    At each step the policy sees what was observed by then, and goes on from its own weights.
    What is not given is as in the settings. A replay reweighs the posts that were written: it
    cannot show what posts would have earned that were not.
    """
    from genopt_pipeline.cli import render
    from genopt_pipeline.defs import evaluation
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import weights as weight_store

    settings = common.settings()
    pipeline = make_pipeline(settings)
    now = pipeline.now()
    config = evaluation.replay_config(
        settings,
        policy=None if policy is None else policy.value,
        step=step,
        exploration=exploration,
        window_days=window_days,
        min_posts=min_posts,
        floor=floor,
        cap=cap,
    )
    with (
        pipeline.read() as connection,
        _progress("replaying", quiet=as_json) as progress,
    ):
        weight_store.live_weights(connection, settings.account)  # the account must be registered
        span = evaluation.replayable(connection, settings.account, now)
        if span is None:
            raise CommandError(f"account {settings.account!r} has no posts to replay")
        end = span[1] if until is None else common.time_of(until, "--to")
        start = (
            max(span[0], end - timedelta(days=30))
            if begin is None
            else common.time_of(begin, "--from")
        )
        if end > now:
            raise CommandError(f"--to {end:%Y-%m-%d %H:%M} lies in the future")
        if not start < end:
            raise CommandError(
                f"there is nothing between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC; "
                f"the account's posts lie between {span[0]:%Y-%m-%d %H:%M} and "
                f"{span[1]:%Y-%m-%d %H:%M}"
            )
        replayed = evaluation.replay(
            connection,
            settings.account,
            start=start,
            end=end,
            now=now,
            every=timedelta(hours=every),
            config=config,
            estimator=settings.estimator,
            progress=progress,
        )
    found = replayed.to_dict() | {
        "account": settings.account,
        "simulated": settings.source == "sandbox",
        "estimator": settings.estimator,
    }
    if as_json:
        common.emit(found)
    else:
        console.print(render.backtest(found))


def _chosen(given: Sequence[str], known: tuple[str, ...], kind: str, option: str) -> list[str]:
    names = [part.strip() for text in given for part in text.split(",") if part.strip()]
    if "all" in names:
        return list(known)
    for name in names:
        if name not in known:
            raise typer.BadParameter(
                f"unknown {kind} {name!r}; there are {', '.join(known)}, and all",
                param_hint=option,
            )
    if not names:
        raise typer.BadParameter(f"no {kind} is named", param_hint=option)
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def _progress(title: str, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that is told the share done; Ctrl-C is exit 130, in one line."""
    try:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet,
        ) as progress:
            task = progress.add_task(title, total=1.0)
            yield lambda share: progress.update(task, completed=share)
    except KeyboardInterrupt:
        common.errors.print("interrupted; nothing was written")
        raise SystemExit(130) from None


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
