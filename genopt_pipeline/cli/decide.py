"""Commands that decide on weights: optimize, propose."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, Policy, console
from genopt_pipeline.cli.data import read_lines
from genopt_pipeline.core.changes import is_significant
from genopt_pipeline.core.policies import PolicyName
from genopt_pipeline.store.snapshots import Publication

if TYPE_CHECKING:
    from genopt_pipeline.core.appraisal import Appraisal


def propose(
    file: Annotated[
        Path, typer.Argument(help="Cases, one JSON object a line; - is standard input.")
    ],
    policy: Annotated[
        Policy,
        typer.Option(
            help="The policy; exponential, since a table has no posts of known age, by which "
            "thompson sees change. The pipeline's own is GENOPT_POLICY."
        ),
    ] = Policy.exponential,
    as_json: Annotated[  # the output is JSON lines in any case
        bool, typer.Option("--json", help="Accepted for uniformity; the output is JSON lines.")
    ] = True,
) -> None:
    """Weights that a policy proposes for given tables; uses no database.

    Reads one case a line: {"id", "performance": [{name, total_posts, total_followers_gained,
    total_impressions, f_per_1k, viral_posts, failed_posts, status, locked?}], "current": {name:
    weight}, "config": {aggressiveness?, min_weight?, exploration_rate?, viral_boost?,
    failure_penalty?, min_posts_for_optimization?}}.

    Prints one line a case: {"id", "weights", "unrounded_weights", "changes", "warnings"} or
    {"id", "error"}. Exits 1 if a case had an error.
    """
    del as_json
    from genopt_pipeline.core.cases import propose_case

    name: PolicyName = "exponential" if policy == "exponential" else "thompson"
    failed = False
    for number, case in read_lines(file):
        if isinstance(case, CommandError):
            answer: dict[str, Any] = {"id": None, "error": str(case)}
        else:
            answer = propose_case(case, name)
            if "error" in answer and answer["id"] is None:
                answer["error"] = f"line {number}: {answer['error']}"
        failed |= "error" in answer
        sys.stdout.write(_one_line(answer) + "\n")
    if failed:
        raise SystemExit(1)


def _one_line(answer: dict[str, Any]) -> str:
    """JSON on one line; a name with half a surrogate pair, which no encoding has, is escaped."""
    line = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    return line if line.isascii() or _encodable(line) else json.dumps(answer, allow_nan=False)


def _encodable(line: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in line)


def attribute(
    file: Annotated[Path, typer.Argument(help="A JSON document; - is standard input.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Accepted for uniformity; the output is JSON.")
    ] = True,
) -> None:
    """Credit given follower changes to given posts; uses no database.

    Reads {"deltas": [{window_start, window_end, delta}], "exposures": [{post_id, generator_name,
    window_start, impressions, profile_clicks?, platform_follows?}], "config": {}?}.
    """
    del as_json
    from genopt_pipeline.core.attribution import attribute_case

    try:
        raw = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
        document = json.loads(raw)
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not a UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is the former
        raise CommandError(f"{file}: not JSON: {error}") from error
    answer = attribute_case(document)
    sys.stdout.write(_one_line(answer) + "\n")
    if "error" in answer:
        raise SystemExit(1)


def optimize(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the proposal; write nothing at all.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Ignore the gates on the number and age of data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Optimize on the data up to the last six-hour boundary and put the weights in force.

    The schedule does this every six hours; a window is published once. --dry-run writes nothing
    and shows the same proposal; once the window is published, or overtaken by a change by hand,
    it shows what the next window would do by the data so far. Exits 1 where the weights changed
    since the window ended: the next cycle starts from them.
    """
    from genopt_pipeline.defs import cycle
    from genopt_pipeline.defs.build import make_pipeline

    settings = common.settings()
    pipeline = make_pipeline(settings)
    if dry_run:
        done: cycle.Cycle | Publication = cycle.preview(pipeline, settings.account, force=force)
    else:
        done = cycle.publish(
            pipeline,
            settings.account,
            force=force,
            created_by="genopt optimize" + (" --force" if force else ""),
        )
    if isinstance(done, Publication):
        _nothing(settings.account, done, as_json=as_json)
        return
    row, publication = done.row, done.publication
    result = {
        "account": settings.account,
        "dry_run": dry_run,
        "decision": row["decision"],
        "reason": row["reason"],
        "window_start": done.window_start,
        "window_end": done.window_end,
        "as_of": done.as_of,
        "window_before": done.closed,
        "base_version": row["base_version"],
        "step": row["inputs"]["step"],
        "weights": row["weights"],
        "changes": row["proposal"]["changes"] if row["decision"] == "proposed" else [],
        "episodes": [asdict(item) for item in done.episodes]
        if row["decision"] == "proposed"
        else [],
        "explanations": row["proposal"]["explanations"],
        "warnings": row["proposal"]["warnings"],
        "shadow": {"policy": row["shadow"]["policy"], "weights": row["shadow"]["weights"]},
        "appraisal": done.worth.to_dict(),
        "published": None
        if publication is None
        else {"outcome": publication.outcome, "reason": publication.reason},
    }
    refused = publication is not None and publication.outcome == "refused"
    if as_json:
        common.emit(result)
    elif not refused:
        _show(result, done.worth)
    if publication is not None and refused:
        raise CommandError(publication.reason)


def _nothing(account: str, found: Publication, *, as_json: bool) -> None:
    if as_json:
        common.emit(
            {
                "account": account,
                "dry_run": False,
                "decision": None,
                "window_start": found.window_start,
                "published": {"outcome": found.outcome, "reason": found.reason},
            }
        )
        return
    console.print(
        f"{found.outcome}: {found.reason} (version {found.version}); "
        "`genopt optimize --dry-run` shows what the next one would do",
        markup=False,
        soft_wrap=True,
    )


def _show(result: dict[str, Any], worth: "Appraisal") -> None:
    from genopt_pipeline.cli import render

    changes = {change["generator"]: change for change in result["changes"]}
    table = Table(
        title=f"{result['window_start']:%Y-%m-%d %H:%M} to {result['window_end']:%H:%M} UTC: "
        f"{result['decision']}"
        + (f" (dry run; data up to {result['as_of']:%H:%M})" if result["dry_run"] else "")
    )
    table.add_column("generator")
    table.add_column("old", justify="right")
    table.add_column("new", justify="right")
    table.add_column("change", justify="right")
    table.add_column("why", overflow="fold")
    for name, weight in result["weights"].items():
        change = changes.get(name, {})
        old, percent = change.get("old_weight", weight), change.get("change_percent")
        table.add_row(
            name,
            f"{old:.4f}",
            f"{weight:.4f}",
            Text(
                "" if percent is None else f"{percent:+.0f}%",
                "bold" if is_significant(old, weight) else "",
            ),
            change.get("reason") or result["explanations"].get(name, ""),
        )
    if result["window_before"]:
        console.print(
            f"{result['window_before']}. Shown is the next window, so far:",
            markup=False,
            soft_wrap=True,
        )
    console.print(table)
    console.print(
        f"change: in percent of the old weight; a cycle goes {result['step']:.0%} of the way to a "
        "target",
        highlight=False,
    )
    for warning in result["warnings"]:
        console.print(f"warning: {warning}", markup=False)
    if result["reason"]:
        console.print(f"skipped: {result['reason']}", markup=False)
    for episode in result["episodes"]:
        console.print(f"{episode['event_type']}: {episode['reason']}", markup=False)
    if result["published"] and result["published"]["outcome"] != "refused":
        console.print(
            f"{result['published']['outcome']}: {result['published']['reason']}", markup=False
        )
    console.print()
    console.print(render.appraisal(worth, in_force="in force" if result["dry_run"] else "before"))
