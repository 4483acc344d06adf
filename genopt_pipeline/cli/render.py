"""Terminal views: plain data in, rich renderables out.

What belongs here: layout and wording, right on a terminal of 80 columns, for any number of
generators. What does not: reading anything (no database, no settings, no clock).

Text that came from outside (names, reasons, files) is put into ``Text`` without markup and without
control characters, so a generator called ``[red]`` or one with an escape sequence in its name
shows as what it is. What is not known is an en dash, never 0.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from genopt_pipeline.core.appraisal import Appraisal
from genopt_pipeline.core.evaluation import Uplift
from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.core.performance import PERFORMER_POSTS
from genopt_pipeline.report.markdown import (
    UNKNOWN,
    between,
    count,
    gains,
    moment,
    rate,
    what_happened,
)
from genopt_pipeline.report.sparkline import sparkline

_BLANK: Final = Text("")
#: A run by its first eight digits, as Dagster's UI shows it.
_RUN_ID: Final = re.compile(r"(\b[0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
#: Values of a sparkline in the table of generators.
SPARKLINE: Final = 9
SIMULATED_ACCOUNT: Final = "a simulated account: no number here was measured on a real one"
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
    "unknown": "dim",
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
    relative_tier: str | None = None
    engagement_rate: float | None = None
    viral_posts: int | None = None
    failed_posts: int | None = None
    total_posts: int | None = None
    total_impressions: int | None = None
    total_f_per_1k: float | None = None


@dataclass(frozen=True)
class DashboardView:
    """What the dashboard shows. ``error`` is why figures could not be read, if they could not.

    ``top`` and ``bottom`` are performers with their F/1K; ``simulated`` whether the account is.
    """

    account: str
    as_of: datetime | None = None
    weights_version: int | None = None
    period: str = "last 7 days"
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
    top: tuple[str, float] | None = None
    bottom: tuple[str, float] | None = None
    health: HealthReport | None = None
    appraisal: Appraisal | None = None
    simulated: bool = False


@dataclass(frozen=True)
class ExplainView:
    """What is shown of one generator: facts in order, reasons in words, histories, changes.

    ``lookbacks`` are rows of ``generator_performance_history`` with ``lookback``; ``posts`` have
    posted_at, decision_id, impressions, attributed, attributed_sd and platform.
    """

    generator_name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    f_per_1k_history: Sequence[float | None] = ()
    weight_history: Sequence[float | None] = ()
    changes: Sequence[Mapping[str, Any]] = ()
    lookbacks: Sequence[Mapping[str, Any]] = ()
    posts: Sequence[Mapping[str, Any]] = ()
    posts_left_out: int = 0
    posts_days: float | None = None
    appraisal: Appraisal | None = None


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
    posts = f"{UNKNOWN} posts" if view.posts_count is None else count(view.posts_count, "post")
    totals = Text(
        f"{view.period}: {posts}, "
        f"{number(view.impressions, ',d')} impr., "
        f"{number(view.followers_gained, ',.1f')} followers, "
        f"F/1K {rate(view.f_per_1k)} ({view.estimator})"
    )
    parts: list[RenderableType] = [head]
    if view.simulated:
        parts.append(Text(SIMULATED_ACCOUNT, "yellow"))
    if view.health is not None:
        parts.append(_health_line(view.health))
    parts += [totals, *_performers(view), _generator_table(view.generators)]
    marks = _legend(view.generators)
    if marks:
        parts.append(Text(marks, "dim"))
    if view.generators:
        parts += [_BLANK, _detail_table(view.generators, view.period)]
    else:
        parts.append(Text("no generator is registered yet: run `genopt migrate`", "yellow"))
    if view.quarantined:
        parts.append(Text(f"{count(view.quarantined, 'record')} in quarantine", "yellow"))
    if view.alerts:
        parts.append(alerts(view.alerts))
    if view.appraisal is not None:
        parts += [_BLANK, appraisal(view.appraisal)]
    if view.latest_event is not None:
        parts += [_BLANK, history([view.latest_event])]
    return Group(*parts)


def _health_line(report: HealthReport) -> Text:
    """The verdict, and every check that is not healthy in a few words."""
    said = Text.assemble("health: ", (report.status, _STATUS_STYLES[report.status]))
    bad = [c for c in report.checks if c.status in {"degraded", "critical"}]
    for check in bad[:3]:
        said.append_text(Text.assemble("; ", plain(f"{check.name}: {check.reason}")))
    if bad:
        said.append(" (`genopt health` says more)", "dim")
    return said


def _performers(view: DashboardView) -> list[RenderableType]:
    if view.top is None or view.bottom is None:
        return []
    (best, high), (worst, low) = view.top, view.bottom
    return [
        Text.assemble(
            "top ",
            (plain(best).plain, "green"),
            f" {rate(high)}, bottom ",
            (plain(worst).plain, "yellow"),
            f" {rate(low)}",
            (f" of those with {PERFORMER_POSTS} measured posts", "dim"),
        )
    ]


def appraisal(found: Appraisal, *, in_force: str = "in force") -> RenderableType:
    """Return what the weights are worth, by every way of knowing.

    in_force: what to call those that were in force when the appraisal was made.
    """
    table = _table(
        "weights",
        "from posts",
        "its 90 %",
        "by the model",
        "its 90 %",
        "over default",
        "its 90 %",
        right=(1, 2, 3, 4, 5, 6),
    )
    for worth in found.worths:
        table.add_row(
            in_force if worth.name == "in_force" else worth.name,
            rate(worth.off_policy.f_per_1k),
            between(worth.off_policy.low, worth.off_policy.high),
            rate(worth.model.f_per_1k),
            between(worth.model.low, worth.model.high),
            number(worth.over_default.gain, "+z.0%"),
            gains(worth.over_default.low, worth.over_default.high),
        )
    lines: list[RenderableType] = [
        Text(
            f"F/1K that weights would earn; from the {found.as_drawn.posts:,d} posts of "
            f"{found.days:g} days that were drawn with a known probability"
        ),
        table,
        Text(f"learning over the holdout: {uplift(found.holdout)}"),
        _draw_line(found),
    ]
    price = prices(found.prices)
    if price is not None:
        lines.append(Text(price))
    return Group(*lines)


def prices(found: Mapping[str, float | None] | None) -> str | None:
    """What the guards cost, in words; None where it is not known."""
    known = {name: value for name, value in (found or {}).items() if value is not None}
    kinds = [
        f"{name} {rate(known[name])}" for name in ("floor", "cap", "locks", "step") if name in known
    ]
    return f"price of the guards in F/1K: {', '.join(kinds)}" if kinds else None


def uplift(found: Uplift) -> str:
    """A gain with its interval, or why there is none."""
    if found.gain is None or found.low is None or found.high is None:
        return f"{UNKNOWN} ({found.holdout_posts} measured posts are held out)"
    return (
        f"{found.gain:+z.0%} (90 % {gains(found.low, found.high)}), "
        f"{found.posts:,d} posts against {found.holdout_posts:,d}"
    )


def _draw_line(found: Appraisal) -> Text:
    ratio = found.draws.ratio
    if found.draws.is_mismatch:
        names = (
            f", drawn at probability 0: {', '.join(ratio.impossible)}" if ratio.impossible else ""
        )
        return Text.assemble(
            ("the engine does not draw by the weights", "bold red"),
            f" (p {number(ratio.p_value, '.2g')}{plain(names).plain})",
        )
    said = "too few posts" if ratio.p_value is None else f"p {ratio.p_value:.2g}"
    return Text(f"draw against weights: {said}, {ratio.posts:,d} posts")


def simulation(
    results: Sequence[Mapping[str, Any]], *, days: Sequence[int], told: str
) -> RenderableType:
    """Return a table a world: share captured at each of ``days``, F/1K at the last.

    ``results`` are the rows of ``SimulationResult.to_json``.
    """
    parts: list[RenderableType] = [
        Text("simulated accounts: no number here was measured on a real one", "yellow"),
        Text(told),
        Text("share captured of the gap between equal weights and the oracle, [95 % interval]"),
    ]
    by_place = {(row["world"], row["policy"], row["day"]): row for row in results}
    worlds = list(dict.fromkeys(row["world"] for row in results))
    policies = list(dict.fromkeys(row["policy"] for row in results))
    columns = [f"{day} days" for day in days]
    last = len(columns) + 1
    for world in worlds:
        table = _table(
            str(world),
            *columns,
            "F/1K",
            "last 7 d",
            "over equal",
            right=tuple(range(1, last + 3)),
        )
        for policy in policies:
            rows = [by_place[world, policy, day] for day in days]
            table.add_row(
                plain(policy),
                *(_share(row) for row in rows),
                rate(rows[-1]["f_per_1k"]),
                rate(rows[-1]["f_per_1k_week"]),
                number(rows[-1]["over_uniform"], "+z.0%"),
            )
        parts += [_BLANK, table]
    return Group(*parts)


def _share(row: Mapping[str, Any]) -> str:
    if number(row["captured"]) == UNKNOWN:
        return UNKNOWN
    return f"{row['captured']:z.2f} [{row['low']:z.2f}, {row['high']:z.2f}]"


def backtest(found: Mapping[str, Any]) -> RenderableType:
    """Return a replay: the path of the weights and what they would have been worth."""
    path = found["path"]
    parts: list[RenderableType] = [
        Text.assemble(
            (f"replay of {found['policy']}", "bold"),
            f", account {plain(found['account']).plain}, {found['from'][:16]} to "
            f"{found['to'][:16]} UTC, {count(found['windows'], 'window')} of "
            f"{found['every_hours']:g} h, {count(found['posts'], 'post')}, "
            f"{count(found['skipped'], 'window')} without a change",
        )
    ]
    if found["simulated"]:
        parts.append(Text(SIMULATED_ACCOUNT, "yellow"))
    if found["first_skip"]:
        parts.append(Text.assemble("first window without a change: ", plain(found["first_skip"])))
    weights = _table(
        "generator", "first", "last", "in force then", "default", "over time", right=(1, 2, 3, 4)
    )
    default = next(v["mean_weights"] for v in found["values"] if v["name"] == "default")
    final = path[-1]["weights"]
    for name in sorted(found["generators"], key=lambda g: (-final[g], g)):
        line = [entry["weights"][name] for entry in path]
        weights.add_row(
            _short(name),
            number(line[0], ".4f"),
            number(line[-1], ".4f"),
            number(path[-1]["in_force"].get(name), ".4f"),
            number(default.get(name), ".4f"),
            sparkline(_thinned(line, 16), 16),
        )
    parts += [_BLANK, weights, _BLANK]
    values = _table(
        "weights",
        "from posts",
        "its 90 %",
        "by the model",
        "its 90 %",
        "replay over",
        "its 90 %",
        right=(1, 2, 3, 4, 5, 6),
    )
    for value in found["values"]:
        over = {} if value["name"] == "replayed" else value["replayed_over"]
        values.add_row(
            "in force then" if value["name"] == "in_force" else value["name"],
            rate(value["off_policy"]["f_per_1k"]),
            between(value["off_policy"]["low"], value["off_policy"]["high"]),
            rate(value["model"]["f_per_1k"]),
            between(value["model"]["low"], value["model"]["high"]),
            number(over.get("gain"), "+z.0%"),
            gains(over.get("low"), over.get("high")),
        )
    drawn = found["as_drawn"]
    values.add_row(
        "as drawn",
        rate(drawn["f_per_1k"]),
        between(drawn["low"], drawn["high"]),
        *[UNKNOWN] * 4,
    )
    parts += [Text("F/1K"), values]
    if not drawn["posts"]:
        parts.append(
            Text(
                "nothing from posts: the probabilities with which these posts were drawn, or "
                "their results, are not known",
                "yellow",
            )
        )
    parts.append(
        Text(
            "The model judges by posts that the policy learned from, which is kind to the replay.",
            "dim",
        )
    )
    parts += [Text.assemble("warning: ", plain(warning)) for warning in found["warnings"][:5]]
    return Group(*parts)


def _thinned(values: Sequence[float | None], count: int) -> list[float | None]:
    """At most ``count`` of the values, evenly spaced, the last of them included."""
    if len(values) <= count:
        return list(values)
    return [values[round((k + 1) * len(values) / count) - 1] for k in range(count)]


def _short(name: str, width: int = 17) -> str:
    text = plain(name).plain
    return text if len(text) <= width else text[: width - 1] + "…"


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
    """Return rows of ``recent_events``, in the order given."""
    if not events:
        return Text("no events yet")
    table = _table(
        "id", "time (UTC)", "event", "changed", "what happened", right=(0, 3), flexible=(4,)
    )
    for event in events:
        ok = event.get("success") is not False
        told = [what_happened(event)]
        if event.get("top_performer"):
            top = f"top {event['top_performer']} {rate(event.get('top_performer_f_per_1k'))}"
            told.append(top)
        if event.get("created_by"):
            told.append("by " + _RUN_ID.sub(r"\1", str(event["created_by"])))
        table.add_row(
            number(event.get("id"), "d"),
            _moment(event.get("effective_at") or event.get("created_at")),
            Text(str(event["event_type"]).replace("_", " "), "" if ok else "bold red"),
            number(event.get("generators_updated"), "d"),
            plain("; ".join(part for part in told if part)),
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
    if view.lookbacks:
        parts += [_BLANK, _lookback_table(view.lookbacks)]
    if view.posts_days is not None:
        parts += [_BLANK, _posts_table(view)]
    if view.appraisal is not None:
        parts += [_BLANK, appraisal(view.appraisal)]
    if view.changes:
        parts.append(_BLANK)
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


def _lookback_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(
        "last",
        "posts",
        "followers",
        "F/1K",
        "90 %",
        "tier",
        "against mean",
        "rank",
        "trend",
        right=(1, 2, 3, 4, 7),
    )
    for row in rows:
        trend = row.get("trend")
        tier, relative = row.get("tier"), row.get("relative_tier")
        table.add_row(
            str(row["lookback"]),
            number(row.get("posts_count"), "d"),
            number(row.get("followers_gained"), ",.1f"),
            rate(row.get("f_per_1k")),
            between(row.get("f_per_1k_low"), row.get("f_per_1k_high")),
            Text(tier or UNKNOWN, _TIER_STYLES.get(tier or "", "")),
            relative or UNKNOWN,
            number(row.get("rank"), "d"),
            _TREND_MARKS.get(trend or "", "?" if trend else UNKNOWN),
        )
    return table


def _posts_table(view: ExplainView) -> RenderableType:
    title = Text(f"posts of the last {view.posts_days:g} days, followers by both counts")
    if not view.posts:
        return Group(title, Text("none"))
    table = _table(
        "posted (UTC)",
        "post",
        "impr.",
        "attributed",
        "±",
        "platform",
        right=(2, 3, 4, 5),
        flexible=(1,),
    )
    for post in view.posts:
        table.add_row(
            _moment(post.get("posted_at")),
            plain(post["decision_id"]),
            number(post.get("impressions"), ",.0f"),
            number(post.get("attributed"), ".1f"),
            number(post.get("attributed_sd"), ".1f"),
            number(post.get("platform"), ".0f"),
        )
    left = [Text(f"… and {view.posts_left_out} older")] if view.posts_left_out else []
    return Group(title, table, *left)


def _detail_table(lines: Sequence[GeneratorLine], period: str) -> Table:
    """What the first table has no room for: the relative tier, the posts, and the life-time."""
    table = _table(
        period,
        "against mean",
        "engaged",
        "viral",
        "failed",
        "posts ever",
        "impr. ever",
        "F/1K ever",
        right=(2, 3, 4, 5, 6, 7),
    )
    for line in _in_order(lines):
        relative = line.relative_tier
        table.add_row(
            _short(line.generator_name),
            Text(relative or UNKNOWN, _TIER_STYLES.get(relative or "", "")),
            number(line.engagement_rate, ".2%"),
            number(line.viral_posts, "d"),
            number(line.failed_posts, "d"),
            number(line.total_posts, "d"),
            _count(line.total_impressions),
            rate(line.total_f_per_1k),
        )
    return table


def _count(value: Any) -> str:
    """A count in at most eight characters."""
    if number(value) == UNKNOWN or float(value) < 10_000_000:
        return number(value, ",.0f")
    return f"{float(value):.2e}"


def _in_order(lines: Sequence[GeneratorLine]) -> list[GeneratorLine]:
    return sorted(lines, key=lambda line: (line.rank is None, line.rank or 0, line.generator_name))


def _generator_table(lines: Sequence[GeneratorLine]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("#", justify="right", width=3)
    table.add_column("generator", no_wrap=True, overflow="ellipsis", min_width=9, max_width=17)
    for name, width in (("weight", 6), ("posts", 5), ("F/1K", 6), ("90 %", 13)):
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    table.add_column("tier", no_wrap=True, min_width=9)
    table.add_column("", width=1)
    table.add_column("over time", width=9)
    for line in _in_order(lines):
        mark = ("L" if line.locked else "") + _STATUS_MARKS.get(line.status, "")
        name = plain(line.generator_name).plain
        table.add_row(
            number(line.rank, "d"),
            Text.assemble((f"{mark} ", "yellow") if mark else "", name),
            number(line.weight, ".4f"),
            number(line.posts_count, "d"),
            rate(line.f_per_1k),
            between(line.f_per_1k_low, line.f_per_1k_high),
            Text(line.tier or UNKNOWN, _TIER_STYLES.get(line.tier or "", "")),
            _TREND_MARKS.get(line.trend or "", "?" if line.trend else UNKNOWN),
            sparkline(line.history, SPARKLINE),
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
    return moment(at) if isinstance(at, datetime) else UNKNOWN
