"""Commands that bring data in or draw: collect, import, record-post, select, quarantine."""

import getpass
import json
import random
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, console


def collect(as_json: AsJson = False) -> None:
    """Collect the current ten-minute window, as the schedule does.

    Exit 1 also where a part failed that a person has to mend; the rest is stored.
    """
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.defs.collect import collect_windows
    from genopt_pipeline.defs.partitions import TEN_MINUTES, window_of

    settings = common.settings()
    if settings.source == "exports":
        raise CommandError(
            "GENOPT_SOURCE is exports: nothing is collected; use `genopt import FILE`"
        )
    pipeline = make_pipeline(settings)
    window = window_of(pipeline.now(), TEN_MINUTES)
    done = collect_windows(pipeline, settings.account, [window])
    result = {
        "account": settings.account,
        "window_start": window[0],
        "window_end": window[1],
        "posts": done.posts,
        "readings": done.readings,
        "follower_counts": done.follower_counts,
        "quarantined": done.quarantined,
        "posts_without_generator": done.posts_without_generator,
        "report": done.reports.get(window[0], {}),
    }
    if as_json:
        common.emit(result)
    else:
        console.print(
            f"{window[0]:%Y-%m-%d %H:%M} to {window[1]:%H:%M} UTC: {done.readings} new readings, "
            f"{done.follower_counts} follower counts, {done.posts} new posts, "
            f"{done.quarantined} quarantined"
        )
        show_collected(done.reports.get(window[0], {}))
        for warning in done.warnings:
            console.print(f"warning: {warning}", markup=False)
    if done.help_needed:
        raise CommandError("; ".join(done.help_needed))


def show_collected(report: dict[str, Any]) -> None:
    """Print the plan and the bill of a live window; nothing for other sources."""
    budget, plan = report.get("budget"), report.get("plan")
    if budget is None or plan is None:
        return
    skipped = ", ".join(f"{count} {reason}" for reason, count in plan["skipped"].items())
    left = budget["posts_left_today"]
    console.print(
        f"{plan['wanted_posts']} posts planned, {sum(plan['skipped'].values())} skipped"
        + (f" ({skipped})" if skipped else "")
        + f"; {budget['posts_today']} billed today"
        + (f", {left} left" if left is not None else "")
        + f"; ${budget['usd_this_month']:.2f} billed this month by X's price list, "
        f"${budget['projected_month_usd']:.2f} by its end if it goes on like this"
    )


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="X analytics exports, any dialect.", metavar="FILE…")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV of post_id,generator_name (or decision_id,generator_name)."),
    ] = None,
    exported_at: Annotated[
        str | None,
        typer.Option(help="When the export was made (ISO time); else from the file's name or age."),
    ] = None,
    new_account: Annotated[
        bool,
        typer.Option(
            help="Register GENOPT_ACCOUNT with the labels' generators, equally weighted, if it is "
            "not registered yet."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import X analytics exports: totals of posts or days at the date of the export.

    Good rows are kept; bad ones are quarantined with file, row, column and reason. Each file goes
    in whole or not at all, and importing it again changes nothing.
    """
    from genopt_pipeline.cli.server import prepare_databases
    from genopt_pipeline.defs import importing
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.sources.exports import read_labels
    from genopt_pipeline.store import server

    settings = common.settings()
    at = None if exported_at is None else common.time_of(exported_at, "--exported-at")
    pipeline = make_pipeline(settings)
    known = read_labels(labels) if labels else None
    if new_account:
        if known is None:
            raise CommandError("--new-account needs --labels, which name the generators")
        if not server.is_installed(settings):
            prepare_databases(settings)
        importing.register_from_labels(pipeline, settings.account, known)
    summaries: list[importing.ImportSummary] = []
    failures: list[str] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=as_json or not sys.stderr.isatty(),
    ) as progress:
        for path in files:
            task = progress.add_task(path.name, total=path.stat().st_size if path.exists() else 1)
            try:
                summaries.append(
                    importing.import_export(
                        pipeline,
                        settings.account,
                        path,
                        labels=known,
                        exported_at=at,
                        progress=lambda done, size, task=task: progress.update(  # type: ignore[misc]  # the default binds the task
                            task, completed=done, total=size
                        ),
                    )
                )
            except (*common.TOLD, FileNotFoundError, PermissionError, IsADirectoryError) as error:
                failures.append(f"{path}: {getattr(error, 'strerror', None) or error}")
    if as_json:
        common.emit({"files": [asdict(summary) for summary in summaries], "failures": failures})
    else:
        for summary in summaries:
            _show_import(summary)
    for failure in failures:
        common.errors.print("error:", style="red", end=" ")
        common.errors.print(" ".join(failure.split()), markup=False)
    if failures:
        raise SystemExit(1)


def _show_import(summary: Any) -> None:
    from genopt_pipeline.sources.exports import ORIGINS

    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.skipped.items()))
    console.print(
        f"[bold]{summary.file}[/bold]: {summary.dialect}, exported "
        f"{summary.exported_at:%Y-%m-%d %H:%M} UTC (from "
        f"{ORIGINS.get(summary.exported_at_origin, summary.exported_at_origin)})"
        + ("; imported before, so nothing changed" if summary.repeated else "")
    )
    console.print(
        f"  {summary.rows_read} rows read: {summary.rows_kept} kept, "
        f"{sum(summary.skipped.values())} skipped{f' ({skipped})' if skipped else ''}, "
        f"{summary.rows_rejected} quarantined"
    )
    if summary.kind == "posts":
        console.print(
            f"  {summary.labelled} posts with a generator, {summary.unlabelled} without; "
            f"{summary.quarantined_names} unknown generator names and {summary.labels_rejected} "
            "labels quarantined"
        )
    for row in summary.rejected:
        column = f", column {row['column']}" if row["column"] else ""
        console.print(f"  {row['file']}, row {row['row']}{column}: {row['reason']}", markup=False)
    if summary.rows_rejected > len(summary.rejected):
        console.print(f"  … {summary.rows_rejected - len(summary.rejected)} more in quarantine")


class Arm(StrEnum):
    """The arms of the experiment."""

    control = "control"
    variant_a = "variant_a"
    variant_b = "variant_b"
    holdout = "holdout"


class PostStatus(StrEnum):
    """What may become of a post."""

    draft = "draft"
    scheduled = "scheduled"
    posted = "posted"
    failed = "failed"
    deleted = "deleted"


def select(
    arm: Annotated[Arm, typer.Option("--arm", help="The arm to draw in.")] = Arm.control,
    seed: Annotated[int | None, typer.Option(help="Seed of the draw, for tests.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a generator by the weights in force, as an engine does."""
    from genopt_pipeline.store.selector import GeneratorSelector
    from genopt_pipeline.store.server import resolve_urls

    settings = common.settings()
    selector = GeneratorSelector(resolve_urls(settings).genopt, account=settings.account)
    try:
        chosen = selector.select(
            arm.value,
            random.Random(seed) if seed is not None else None,  # noqa: S311 - a draw, no secret
        )
    except (ValueError, LookupError) as error:
        raise CommandError(str(error)) from error
    finally:
        selector.close()
    if as_json:
        common.emit(asdict(chosen))
    else:
        sys.stdout.write(chosen.generator_name + "\n")


def record_post(
    decision_id: Annotated[str, typer.Argument(help="The engine's key of the post.")],
    generator: Annotated[str, typer.Argument(help="Generator that wrote it.")],
    tweet_id: Annotated[str | None, typer.Option(help="X's id of the post.")] = None,
    posted_at: Annotated[str | None, typer.Option(help="ISO time; now unless given.")] = None,
    status: Annotated[PostStatus, typer.Option(help="What became of it.")] = PostStatus.posted,
    arm: Annotated[Arm | None, typer.Option(help="Arm it was drawn in.")] = None,
    probability: Annotated[
        float | None, typer.Option(help="Probability it was drawn with.", max=1.0)
    ] = None,
    weights_version: Annotated[
        int | None, typer.Option(help="Version of the weights it was drawn by.")
    ] = None,
    quality_score: Annotated[float | None, typer.Option(help="The engine's score.")] = None,
    correct: Annotated[
        bool,
        typer.Option(
            "--correct", help="Give a recorded post to another generator; needs --reason."
        ),
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why it is corrected; kept with the event.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Record a post, or what became of it; recording it twice changes nothing.

    A post that is recorded with another generator is left alone, exit 1. --correct moves it, as
    an event; its probability is unknown then unless it is given.
    """
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import performance, posts, selector

    if probability is not None and probability <= 0.0:
        raise typer.BadParameter(f"{probability:g} is not above 0", param_hint="--probability")
    if correct != bool(reason and reason.strip()):
        raise typer.BadParameter("--correct and --reason go together")
    settings = common.settings()
    pipeline = make_pipeline(settings)
    if correct:
        with pipeline.write() as connection:
            name = posts.correct_post(
                connection,
                settings.account,
                decision_id,
                generator,
                experiment_arm=None if arm is None else arm.value,
                selection_probability=probability,
                weights_version=weights_version,
                reason=reason or "",
                created_by=f"genopt record-post --correct ({getpass.getuser()})",
                now=pipeline.now(),
            )
            performance.refresh_life_time(
                connection, settings.account, estimator=settings.estimator
            )
        if as_json:
            common.emit({"decision_id": decision_id, "generator_name": name})
        else:
            console.print(f"{decision_id}: {name} now", markup=False)
        return
    with pipeline.write() as connection:
        registered = selector.record_post(
            connection,
            settings.account,
            decision_id,
            generator,
            tweet_id=tweet_id,
            posted_at=None if posted_at is None else common.time_of(posted_at),
            status=status.value,
            experiment_arm=None if arm is None else arm.value,
            selection_probability=probability,
            weights_version=weights_version,
            quality_score=quality_score,
        )
    if as_json:
        common.emit({"decision_id": decision_id, "generator_name": registered})
    else:
        console.print(
            f"{decision_id}: {registered}"
            if registered
            else f"{decision_id}: unknown generator {generator!r}; the post is kept, the name is "
            "quarantined (`genopt quarantine`)"
        )
    if registered is None:
        raise SystemExit(1)


def quarantine(
    resolve: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="An unknown name and the generator it stands for: adds the alias and gives the "
            "generator its posts.",
            metavar="NAME GENERATOR",
        ),
    ] = None,
    resolve_record: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="ID",
            help="Mark this record as dealt with, such as a row whose corrected file was "
            "imported; needs --reason. May be given again.",
        ),
    ] = None,
    resolve_file: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Mark all records of this file as dealt with; needs --reason."
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why they are dealt with; kept with the records.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Records to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Records that could not be used, with the reason; marks those that were dealt with."""
    from genopt_pipeline.core.names import suggest
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import performance, posts
    from genopt_pipeline.store import quarantine as store
    from genopt_pipeline.store import weights as weight_store

    wanted = sum(item is not None for item in (resolve, resolve_record or None, resolve_file))
    if wanted > 1:
        raise typer.BadParameter("give one of --resolve, --resolve-record and --resolve-file")
    settled = bool(resolve_record) or resolve_file is not None
    if settled and not (reason or "").strip():
        raise typer.BadParameter("say with --reason how they were dealt with")
    if reason is not None and not settled:
        raise typer.BadParameter("--reason goes with --resolve-record or --resolve-file")
    settings = common.settings()
    pipeline = make_pipeline(settings)
    if settled:
        account, why, now = settings.account, str(reason).strip(), pipeline.now()
        with pipeline.write() as connection:
            done = (
                store.resolve_records(connection, account, resolve_record, reason=why, now=now)
                if resolve_record
                else store.resolve_source(
                    connection, account, str(resolve_file), reason=why, now=now
                )
            )
            left = sum(store.count_unresolved(connection, account).values())
        if as_json:
            common.emit({"resolved": done, "unresolved": left, "reason": why})
        else:
            console.print(f"{done} records are dealt with; {left} are open")
        return
    if resolve is not None:
        raw_name, generator = resolve
        with pipeline.write() as connection:
            known = weight_store.live_weights(connection, settings.account).generators
            if generator not in known:
                raise CommandError(f"{generator!r} is not registered: {', '.join(known)}")
            moved = store.resolve_name(
                connection, settings.account, raw_name, generator, now=pipeline.now()
            )
            performance.refresh_life_time(
                connection, settings.account, estimator=settings.estimator
            )
        if as_json:
            common.emit({"name": raw_name, "generator": generator, "posts": moved})
        else:
            console.print(f"{raw_name!r} stands for {generator}; {moved} posts are its own now")
        return
    with pipeline.read() as connection:
        known = weight_store.live_weights(connection, settings.account).generators
        records = store.unresolved(connection, settings.account, limit)
        counts = store.count_unresolved(connection, settings.account)
        now = pipeline.now()
        unlabelled = posts.count_without_generator(
            connection, settings.account, since=now - posts.LONGEST_LOOKBACK, until=now
        )
    for record in records:
        if record["kind"] == "generator_name":
            record["suggestions"] = suggest(record["raw"]["generator_name"], known)
    if as_json:
        common.emit({"counts": counts, "records": records, "posts_without_generator": unlabelled})
        return
    for record in records:
        hint = ", ".join(record.get("suggestions", ()))
        console.print(
            f"{record['id']}  {record['kind']}: {record['source']}, {record['place']}: "
            f"{record['reason']}" + (f" (did you mean {hint}?)" if hint else ""),
            markup=False,
        )
    console.print(", ".join(f"{n} {kind}" for kind, n in counts.items()) or "nothing in quarantine")
    if unlabelled:
        console.print(
            f"{unlabelled} posts of the last {posts.LONGEST_LOOKBACK.days} days have no generator; "
            "`genopt record-post KEY GENERATOR --tweet-id ID` gives one"
        )


def read_lines(path: Path) -> list[tuple[int, Any]]:
    """(line number, JSON value) of each line of a JSONL file; ``-`` is standard input.

    Raises
    ------
    CommandError
        The file cannot be read.
    """
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text"
        raise CommandError(f"{path}: {reason}") from error
    lines: list[tuple[int, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                lines.append((number, json.loads(line, object_pairs_hook=_without_repetition)))
            except (ValueError, RecursionError) as error:  # a number of 5,000 digits is the former
                lines.append((number, CommandError(f"line {number} is not JSON: {error}")))
    return lines


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ; of a key given twice nobody knows which value is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found
