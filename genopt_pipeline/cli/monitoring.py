"""Commands that watch over an installation: alerts, validate, settings."""

import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from genopt_pipeline.cli import common
from genopt_pipeline.cli.common import AsJson, CommandError, console
from genopt_pipeline.report.markdown import count
from genopt_pipeline.settings import Settings, load_settings

_VERDICTS = {"ok": "green", "skipped": "dim", "warning": "yellow", "error": "bold red"}


def alerts(
    past: Annotated[
        int, typer.Option("--past", min=0, max=1000, help="Also show so many that are over.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Open alerts of the account and since when: viral, failing, under- and over-used, stale data.

    Also draws that do not follow the weights, and critical health. Exits 1 while a warning or
    critical alert is open; information, such as a viral generator, is no fault.
    """
    from genopt_pipeline.cli import render
    from genopt_pipeline.defs.alerting import current_alerts, database_fault
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.store import alerts as alert_store

    settings = common.settings()
    pipeline = make_pipeline(settings)
    now = current_alerts(pipeline, settings.account)
    rows = [item.as_dict() for item in now.open]
    over: list[dict[str, Any]] = []
    if past and database_fault(now.health) is None:
        with pipeline.read() as connection:
            over = alert_store.recent_alerts(connection, settings.account, past)
    if as_json:
        common.emit(
            {
                "account": now.account_id,
                "as_of": now.as_of,
                "worst": now.worst,
                "alerts": rows,
                "past": [
                    {
                        "key": row["alert_key"],
                        **{
                            name: row[name]
                            for name in (
                                "severity",
                                "message",
                                "details",
                                "opened_at",
                                "closed_at",
                            )
                        },
                    }
                    for row in over
                ],
            }
        )
    else:
        console.print(render.alerts([*rows, *over]))
    if now.worst in {"warning", "critical"}:
        number = sum(row["severity"] in {"warning", "critical"} for row in rows)
        told = f"{count(number, 'alert')} {'is' if number == 1 else 'are'}"
        raise CommandError(f"{told} open, the worst is {now.worst}")


def validate(
    online: Annotated[
        bool,
        typer.Option("--online", help="Also ask the X API whose the token is (X may bill it)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Is the set-up right, before the first post? Looks at everything and says what to do.

    Settings, database, schema, privileges, weights, names, policy, source, files and permissions,
    Dagster. Reads only. Exits 1 if anything must be put right; warnings alone exit 0.
    """
    from genopt_pipeline.core.validation import Finding, Validation

    try:
        settings = load_settings()
    except ValidationError as error:
        found = Validation(
            tuple(
                Finding(
                    "settings", "error", f"{name}: {message}", "Correct it; see `genopt settings`."
                )
                for name, message in common.wrong_settings(error)
            )
        )
    else:
        found = _validate(settings, online=online)
    if as_json:
        common.emit(found.as_dict())
    else:
        console.print(_findings(found))
    if found.errors:
        raise CommandError(f"{len(found.errors)} of {len(found.findings)} checks must be put right")


def _validate(settings: Settings, *, online: bool) -> Any:
    from genopt_pipeline.cli.server import default_dagster_home
    from genopt_pipeline.defs.build import make_pipeline
    from genopt_pipeline.defs.validate import validate as look

    return look(make_pipeline(settings), dagster_home=default_dagster_home(), online=online)


def _findings(found: Any) -> RenderableType:
    from genopt_pipeline.cli.render import plain

    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for item in found.findings:
        said = plain(item.message)
        if item.action:
            said = Text.assemble(said, "\n", ("→ ", "bold"), plain(item.action))
        table.add_row(Text(item.verdict, _VERDICTS[item.verdict]), plain(item.check), said)
    verdict = (
        Text(
            f"{count(len(found.errors), 'error')}, {count(len(found.warnings), 'warning')}",
            "bold red",
        )
        if found.errors
        else Text(f"the set-up is right ({count(len(found.warnings), 'warning')})", "green")
    )
    return Group(table, verdict)


def settings_(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/settings.md.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Every setting with its value here, its default and what it means. Secrets are not shown."""
    if markdown:
        sys.stdout.write(settings_page())
        return
    values = common.settings()
    rows: list[dict[str, Any]] = [
        {
            "variable": variable(name),
            "value": _shown(getattr(values, name)),
            "default": default_of(field),
            "description": str(field.description),
            "allowed": _allowed(field),
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        common.emit(rows)
        return
    for row in rows:
        console.print(Text.assemble((row["variable"], "bold"), f"={row['value']}"), soft_wrap=True)
        one_of = f" One of {', '.join(row['allowed'])}." if row["allowed"] else ""
        said = Text(f"{row['description']}{one_of}", "dim")
        console.print(Padding(said, (0, 0, 0, 4)))


def variable(name: str) -> str:
    """Environment variable of a setting."""
    return f"GENOPT_{name.upper()}"


def default_of(field: FieldInfo) -> str:
    """A setting's default as the environment would hold it; empty if it is unset."""
    if field.default is PydanticUndefined or field.default is None:
        return ""
    return _shown(field.default)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(f"{item:g}" for item in value)
    if hasattr(value, "get_secret_value"):
        return "(set)"
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("+00:00", "Z")
    if isinstance(value, Path):
        return str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: FieldInfo) -> list[str]:
    """The values of a setting that has a few; empty for any other."""
    choices = [
        choice
        for each in (field.annotation, *get_args(field.annotation))
        for choice in get_args(each)
        if isinstance(choice, str)
    ]
    return list(dict.fromkeys(choices))


def settings_page() -> str:
    """The page ``docs/settings.md``, made from the declarations in ``settings``."""
    lines = [
        "# Settings",
        "",
        "Environment variables, read when a process begins. `genopt settings` shows the values in",
        "force, `genopt validate` says what is wrong with them. This page is made by",
        "`genopt settings --markdown`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = default_of(field)
        meaning = str(field.description)
        allowed = _allowed(field)
        if allowed:
            meaning += f" One of {', '.join(f'`{choice}`' for choice in allowed)}."
        cells = (f"`{variable(name)}`", f"`{default}`" if default else "unset", meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
