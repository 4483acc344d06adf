"""Terminal views: plain data in, rich renderables out.

What belongs here: layout and wording, right on a terminal of 80 columns, for any number of
generators. What does not: reading anything (no database, no settings, no clock).

Text that came from outside (names, reasons, files) is put into ``Text`` without markup and without
control characters, so a generator called ``[red]`` or one with an escape sequence in its name
shows as what it is. What is not known is an en dash, never 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.report.sparkline import sparkline

UNKNOWN: Final = "–"
_TREND_MARKS: Final = {"improving": "↑", "stable": "→", "declining": "↓"}
_TIER_STYLES: Final = {
    "viral": "bold magenta",
    "excellent": "bold green",
    "good": "green",
    "average": "",
    "poor": "yellow",
    "failing": "bold red",
}
_STATUS_STYLES: Final = {
    "healthy": "green",
    "no_data": "yellow",
    "degraded": "yellow",
    "critical": "bold red",
    "info": "cyan",
    "warning": "yellow",
}
#: What stands behind the name of a generator that is not simply active.
_STATUS_MARKS: Final = {"testing": "T", "disabled": "D", "archived": "A"}


@dataclass(frozen=True)
class GeneratorLine:
    """One generator of the dashboard; None is unknown. ``history`` is F/1K, oldest first."""

    generator_name: str
    weight: float | None = None
    status: str = "active"
    locked: bool = False
    posts_count: int | None = None
    f_per_1k: float | None = None
    f_per_1k_low: float | None = None
    f_per_1k_high: float | None = None
    tier: str | None = None
    rank: int | None = None
    trend: str | None = None
    history: Sequence[float | None] = ()


@dataclass(frozen=True)
class DashboardView:
    """What the dashboard shows. ``error`` is why figures could not be read, if they could not."""

    account: str
    as_of: datetime | None = None
    weights_version: int | None = None
    period: str = "7 days"
    estimator: str = "attributed"
    generators: Sequence[GeneratorLine] = ()
    posts_count: int | None = None
    impressions: int | None = None
    followers_gained: float | None = None
    f_per_1k: float | None = None
    alerts: Sequence[Mapping[str, Any]] = ()
    latest_event: Mapping[str, Any] | None = None
    quarantined: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class ExplainView:
    """What is shown of one generator: facts in order, reasons in words, histories, changes."""

    generator_name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    f_per_1k_history: Sequence[float | None] = ()
    weight_history: Sequence[float | None] = ()
    changes: Sequence[Mapping[str, Any]] = ()


def plain(value: Any) -> Text:
    """Return text from outside on one line, without markup and control characters."""
    printable = "".join(c if c.isprintable() else " " for c in str(value))
    return Text(" ".join(printable.split()))


def number(value: Any, form: str = ".3g") -> str:
    """Return a number in a format, or an en dash where it is None, NaN or NA."""
    try:
        known = value is not None and math.isfinite(float(value))
    except TypeError:  # pandas.NA has no float
        known = False
    return format(value, form) if known else UNKNOWN


def rate(value: Any) -> str:
    """Return an F/1K in at most six characters: two decimals, more below 0.1, fewer above 1000."""
    if number(value) == UNKNOWN:
        return UNKNOWN
    size = abs(float(value))
    if size == 0 or 0.0995 <= size < 999.995:
        return f"{value:.2f}"
    return f"{value:.4f}" if 0.00095 <= size < 0.0995 else f"{value:.0e}"


def dashboard(view: DashboardView) -> RenderableType:
    """Return the dashboard; at most 80 columns wide."""
    head = Text.assemble(
        ("genopt", "bold"),
        " account ",
        plain(view.account),
        f"  weights version {number(view.weights_version, 'd')}",
        f"  {view.as_of:%Y-%m-%d %H:%M} UTC" if view.as_of else "",
    )
    if view.error is not None:
        reason = Text.assemble(("the figures cannot be read: ", "bold red"), plain(view.error))
        return Group(head, reason)
    totals = Text(
        f"last {view.period}: {number(view.posts_count, ',d')} posts, "
        f"{number(view.impressions, ',d')} impr., "
        f"{number(view.followers_gained, ',.1f')} followers, "
        f"F/1K {rate(view.f_per_1k)} ({view.estimator})"
    )
    parts: list[RenderableType] = [head, totals, _generator_table(view.generators)]
    if not view.generators:
        parts.append(Text("no generator is registered yet: run `genopt migrate`", "yellow"))
    marks = _legend(view.generators)
    if marks:
        parts.append(Text(marks, "dim"))
    if view.quarantined:
        parts.append(Text(f"{view.quarantined} records in quarantine", "yellow"))
    if view.alerts:
        parts.append(alerts(view.alerts))
    if view.latest_event is not None:
        parts.append(history([view.latest_event]))
    return Group(*parts)


def health(report: HealthReport) -> RenderableType:
    """Return the health report: the verdict, then each check with what to do."""
    verdict = Text.assemble(
        (report.status, _STATUS_STYLES[report.status]), f"  {report.checked_at:%Y-%m-%d %H:%M} UTC"
    )
    table = _table("check", "status", "reason and what to do", flexible=(2,))
    for check in report.checks:
        said = plain(check.reason)
        if check.action and check.status != "healthy":
            said = Text.assemble(said, "\n", ("→ ", "bold"), plain(check.action))
        status = Text(check.status.replace("_", " "), _STATUS_STYLES[check.status])
        table.add_row(plain(check.name), status, said)
    return Group(verdict, table)


def alerts(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return alerts; rows have severity, message, and opened_at and closed_at if known."""
    if not rows:
        return Text("no alerts", "green")
    table = _table("severity", "since", "until", "alert", flexible=(3,))
    for row in rows:
        severity = str(row["severity"])
        closed = row.get("closed_at")
        table.add_row(
            Text(severity, _STATUS_STYLES.get(severity, "")),
            _moment(row.get("opened_at")),
            _moment(closed) if closed else "now",
            plain(row["message"]),
        )
    return table


def history(events: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return events of ``optimization_events``, in the order given."""
    if not events:
        return Text("no events yet")
    table = _table("time (UTC)", "event", "changed", "what happened", flexible=(3,))
    for event in events:
        ok = event.get("success") is not False
        told = [event.get("reason"), None if ok else event.get("error_message")]
        if event.get("top_performer"):
            top = f"top {event['top_performer']} {rate(event.get('top_performer_f_per_1k'))}"
            told.append(top)
        table.add_row(
            _moment(event.get("effective_at") or event.get("created_at")),
            Text(str(event["event_type"]).replace("_", " "), "" if ok else "bold red"),
            number(event.get("generators_updated"), "d"),
            plain("; ".join(str(part) for part in told if part)),
        )
    return table


def explain(view: ExplainView) -> RenderableType:
    """Return all that is known of one generator, and why its weight is what it is."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in view.facts.items():
        shown = number(value, ".4g") if value is None or isinstance(value, float) else str(value)
        facts.add_row(plain(name), plain(shown))
    if view.f_per_1k_history:
        facts.add_row("F/1K over time", sparkline(view.f_per_1k_history, 40))
    if view.weight_history:
        facts.add_row("weight over time", sparkline(view.weight_history, 40))
    parts: list[RenderableType] = [Text(plain(view.generator_name).plain, "bold"), facts]
    parts += [Text.assemble("• ", plain(reason)) for reason in view.reasons]
    if view.changes:
        table = _table("time (UTC)", "old", "new", "reason", right=(1, 2), flexible=(3,))
        for change in view.changes:
            table.add_row(
                _moment(change.get("effective_at") or change.get("created_at")),
                number(change.get("old_weight"), ".4f"),
                number(change.get("new_weight"), ".4f"),
                plain(change.get("reason") or ""),
            )
        parts.append(table)
    return Group(*parts)


def import_summary(summary: Mapping[str, Any], *, limit: int = 20) -> RenderableType:
    """Return what an import read, skipped and quarantined.

    ``summary`` has file, dialect, rows_read, rows_kept, rows_rejected, skipped (reason to count)
    and rejected (rows with row, column and reason); at most ``limit`` of the last are shown.
    """
    skipped: Mapping[str, int] = summary.get("skipped") or {}
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    head = Text.assemble(
        (plain(summary["file"]).plain, "bold"), f": {plain(summary['dialect']).plain}"
    )
    counts = Text(
        f"{summary['rows_read']:,} rows read: {summary['rows_kept']:,} kept, "
        f"{sum(skipped.values()):,} skipped{f' ({reasons})' if reasons else ''}, "
        f"{summary['rows_rejected']:,} quarantined"
    )
    rejected = list(summary.get("rejected") or ())
    if not rejected:
        return Group(head, counts)
    table = _table("row", "column", "why it is in quarantine", right=(0,), flexible=(2,))
    for row in rejected[:limit]:
        table.add_row(
            plain(row.get("row") or UNKNOWN),
            plain(row.get("column") or UNKNOWN),
            plain(row["reason"]),
        )
    left = int(summary["rows_rejected"]) - min(limit, len(rejected))
    more: list[RenderableType] = [Text(f"… and {left:,} more in quarantine")] if left > 0 else []
    return Group(head, counts, table, *more)


def _generator_table(lines: Sequence[GeneratorLine]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("#", justify="right", width=3)
    table.add_column("generator", no_wrap=True, overflow="ellipsis", min_width=9, max_width=17)
    for name, width in (("weight", 6), ("posts", 5), ("F/1K", 6), ("90 %", 13)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    table.add_column("tier", no_wrap=True, min_width=9)
    table.add_column("", width=1)
    table.add_column("over time", width=9)
    known_last = sorted(
        lines, key=lambda line: (line.rank is None, line.rank or 0, line.generator_name)
    )
    for line in known_last:
        mark = ("L" if line.locked else "") + _STATUS_MARKS.get(line.status, "")
        name = plain(line.generator_name).plain
        interval = UNKNOWN
        if number(line.f_per_1k_low) != UNKNOWN:
            interval = f"{rate(line.f_per_1k_low)}…{rate(line.f_per_1k_high)}"
        table.add_row(
            number(line.rank, "d"),
            Text.assemble((f"{mark} ", "yellow") if mark else "", name),
            number(line.weight, ".4f"),
            number(line.posts_count, "d"),
            rate(line.f_per_1k),
            interval,
            Text(line.tier or UNKNOWN, _TIER_STYLES.get(line.tier or "", "")),
            _TREND_MARKS.get(line.trend or "", "?" if line.trend else UNKNOWN),
            sparkline(line.history, 9),
        )
    return table


def _legend(lines: Sequence[GeneratorLine]) -> str:
    marks = {"L": "locked"} if any(line.locked for line in lines) else {}
    marks |= {
        mark: status
        for status, mark in _STATUS_MARKS.items()
        if any(line.status == status for line in lines)
    }
    if any(line.trend == "not_enough_data" for line in lines):
        marks["?"] = "not enough data for a trend"
    return ", ".join(f"{mark} {meaning}" for mark, meaning in marks.items())


def _table(*names: str, right: tuple[int, ...] = (), flexible: tuple[int, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for index, name in enumerate(names):
        table.add_column(
            name,
            justify="right" if index in right else "left",
            overflow="fold",
            no_wrap=index not in flexible and index not in right,
            ratio=1 if index in flexible else None,
        )
    return table


def _moment(at: Any) -> str:
    return f"{at:%m-%d %H:%M}" if isinstance(at, datetime) else UNKNOWN
