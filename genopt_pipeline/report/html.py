"""The report as one HTML page that needs nothing else: no network, no server.

What belongs here: the page. What does not: reading anything, and the charts (``charts``).

The page is safe to open and to send. All text from outside is escaped; the data of the charts stand
in blocks that a browser does not run; and a Content-Security-Policy allows only the scripts that
this module wrote, by their hashes, and no connection at all. Every chart has its figures in a
table, so nothing is lost without JavaScript or for those who cannot see the charts.
"""

import base64
import hashlib
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from genopt_pipeline.core.alerts import Alert
from genopt_pipeline.core.appraisal import Appraisal, DrawCheck
from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.core.performance import account_totals
from genopt_pipeline.report import charts
from genopt_pipeline.report.markdown import (
    UNKNOWN,
    between,
    format_cell,
    gains,
    rate,
    what_happened,
)

#: Rows of a chart's table; a longer one ends with the number left out, never silently.
MOST_ROWS: Final = 400

_START_CHARTS: Final = """
for (const block of document.querySelectorAll('script[type="application/json"]')) {
  const figure = JSON.parse(block.textContent);
  const target = document.getElementById(block.dataset.target);
  Plotly.newPlot(target, figure.data, figure.layout, {responsive: true, displaylogo: false});
}
"""

_NO_SCRIPT: Final = (
    "<noscript><p>The charts need JavaScript; the tables hold their figures.</p></noscript>"
)

_PERFORMANCE_COLUMNS: Final = {
    "rank": "Rank",
    "generator_name": "Generator",
    "weight": "Weight",
    "posts_count": "Posts",
    "posts_measured": "Measured",
    "impressions": "Impressions",
    "followers_gained": "Followers",
    "f_per_1k": "F/1K",
    "interval": "90 % interval",
    "tier": "Tier",
    "relative_tier": "Against account",
    "trend": "Trend",
    "engagement_rate": "Engagement",
    "viral_posts": "Viral",
    "failed_posts": "Failed",
}
#: Columns of numbers that are formatted before the table is made.
_NUMBERS_IN_WORDS: Final = frozenset(
    {"weight", "interval", "f_per_1k", "engagement_rate", "followers_gained"}
)


@dataclass(frozen=True)
class ReportData:
    """What the report shows of one account.

    Attributes
    ----------
    account, as_of, period, estimator
        Whose figures, of what time, over what period, from which count of followers.
    summary
        A table of ``performance.summarize``.
    weights
        Live weight of each generator.
    alerts
        Those that are open; empty says that none is.
    draws
        Posts of the period whose draw is known, and how many the weights then in force called for;
        None: not known of any.
    lookbacks
        A table of ``performance.summarize_lookbacks``; None: not shown.
    history, weights_history, attribution
        What the functions of ``charts`` take. None is "could not be read"; a frame without rows
        is "nothing yet". They are said differently.
    health, events
        The health report, latest events (rows of ``optimization_events``).
    explanations
        Why each generator has its weight, in words.
    appraisal
        What the weights are worth, by every way of knowing; None: not shown.
    notes
        What the reader must know of these figures, such as a source that is simulated.
    """

    account: str
    as_of: datetime
    period: str
    estimator: str
    summary: pd.DataFrame
    weights: Mapping[str, float]
    alerts: Sequence[Alert]
    draws: DrawCheck | None = None
    lookbacks: pd.DataFrame | None = None
    history: pd.DataFrame | None = None
    weights_history: pd.DataFrame | None = None
    attribution: pd.DataFrame | None = None
    health: HealthReport | None = None
    events: Sequence[Mapping[str, Any]] = ()
    explanations: Mapping[str, str] | None = None
    appraisal: Appraisal | None = None
    notes: Sequence[str] = ()


def render_report(data: ReportData) -> str:
    """Return the report as one HTML page, about 5 MB of which plotly's JavaScript is nearly all.

    The same data give the same page, byte for byte.
    """
    sections = [_health(data), _alerts(data), _performance(data), *_charts(data)]
    sections += [_lookbacks(data), _explanations(data), _appraisal(data), _events(data)]
    notes = "".join(f"<p><strong>Note:</strong> {_escape(note)}</p>" for note in data.notes)
    return page(
        f"genopt report, account {data.account}",
        f"Account {data.account}",
        [_as_of(data), notes, _totals(data), *sections],
    )


def page(title: str, heading: str, parts: Sequence[str]) -> str:
    """Return an offline page of parts that are HTML already; title and heading are text."""
    scripts = (get_plotlyjs(), _START_CHARTS)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_escape(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n<main>",
            f"<h1>{_escape(heading)}</h1>",
            _NO_SCRIPT,
            *(part for part in parts if part),
            "</main>",
            *(f"<script>{script}</script>" for script in scripts),
            "</body>\n</html>\n",
        ]
    )


def _as_of(data: ReportData) -> str:
    now = data.as_of if data.health is None else data.health.checked_at
    return (
        f'<p class="muted">Figures of {data.as_of:%Y-%m-%d %H:%M} UTC, {_escape(data.period)}; '
        f"followers {_escape(data.estimator)}. Weights, health and alerts are those of "
        f"{now:%Y-%m-%d %H:%M} UTC.</p>"
    )


def _totals(data: ReportData) -> str:
    totals = account_totals(data.summary)
    figures = {
        "F/1K": rate(totals.f_per_1k),
        "Followers gained": _number(totals.followers_gained, ",.1f"),
        "Impressions": _number(totals.impressions, ",d"),
        "Posts": f"{totals.posts_count:,d}",
        "of them measured": f"{totals.posts_measured:,d}",
        "Generators drawn": str(sum(weight > 0 for weight in data.weights.values())),
    }
    items = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in figures.items())
    return f'<dl class="figures">{items}</dl>'


def _health(data: ReportData) -> str:
    if data.health is None:
        return ""
    rows = [
        [
            f'<th scope="row">{_escape(check.name)}</th>',
            f"<td>{_badge(check.status)}</td>",
            f"<td>{_escape(check.reason)}</td>",
            f"<td>{_escape(check.action)}</td>",
        ]
        for check in data.health.checks
    ]
    table = _table("Checks", ["Check", "Status", "Found", "What to do"], rows)
    opened = "" if data.health.status == "healthy" else " open"
    return _section(
        f"Health: {_badge(data.health.status)}",
        f"<details{opened}><summary>All checks</summary>{table}</details>",
    )


def _alerts(data: ReportData) -> str:
    if not data.alerts:
        return _section("Alerts", "<p>No alert is open.</p>")
    rows = [
        [f"<td>{_badge(alert.severity)}</td>", f"<td>{_escape(alert.message)}</td>"]
        for alert in data.alerts
    ]
    return _section("Alerts", _table("Open alerts", ["Severity", "Alert"], rows))


def _performance(data: ReportData) -> str:
    summary = data.summary.assign(
        weight=[_number(data.weights.get(name), ".4f") for name in data.summary["generator_name"]],
        f_per_1k=[rate(value) for value in data.summary["f_per_1k"]],
        engagement_rate=[_number(value, ".2%") for value in data.summary["engagement_rate"]],
        followers_gained=[_number(value, ",.1f") for value in data.summary["followers_gained"]],
        interval=[
            between(low, high)
            for low, high in zip(
                data.summary["f_per_1k_low"], data.summary["f_per_1k_high"], strict=True
            )
        ],
    ).sort_values(["rank", "generator_name"], na_position="last")
    if summary.empty:
        return _section("Generators", "<p>No generator is registered yet.</p>")
    explained = (
        "<p>F/1K is followers gained per 1000 impressions, a ratio of sums over the measured "
        "posts. Its interval allows for how uneven posts are. A dash is not known; a zero is "
        "zero. A question mark: not enough data for a trend.</p>"
    )
    return _section(
        "Generators",
        explained + _frame_table(f"Figures, {data.period}", summary, _PERFORMANCE_COLUMNS),
    )


def _charts(data: ReportData) -> list[str]:
    draws = pd.DataFrame(_draws(data.draws), columns=["generator_name", "posts", "expected"])
    return [
        _chart("F/1K over time", "f-per-1k", data.history, charts.f_per_1k_over_time),
        _chart("Weights over time", "weights", data.weights_history, charts.weights_over_time),
        _chart(
            "Posts against weights",
            "shares",
            draws,
            charts.posts_against_weights,
        ),
        _chart(
            "Where followers came from",
            "attribution",
            data.attribution,
            charts.attribution_over_time,
        ),
    ]


def _draws(draws: DrawCheck | None) -> list[tuple[str, int, float]]:
    if draws is None:
        return []
    names = sorted(
        draws.observed.keys() | draws.expected.keys(),
        key=lambda name: (-draws.expected.get(name, 0.0), name),
    )
    return [(name, draws.observed.get(name, 0), draws.expected.get(name, 0.0)) for name in names]


def _lookbacks(data: ReportData) -> str:
    if data.lookbacks is None or data.lookbacks.empty:
        return ""
    labels = list(dict.fromkeys(data.lookbacks["lookback"]))
    by_name = {
        name: rows.set_index("lookback")
        for name, rows in data.lookbacks.groupby("generator_name", sort=True)
    }
    body = []
    for name, rows in by_name.items():
        cells = [f'<th scope="row">{_escape(name)}</th>']
        for label in labels:
            trend = str(rows.loc[label, "trend"])
            mark = "" if trend in {"stable", "not_enough_data"} else f" {_badge(trend)}"
            cells.append(f'<td class="n">{rate(rows.loc[label, "f_per_1k"])}{mark}</td>')
        body.append(cells)
    table = _table("F/1K of each look-back", ["Generator", *labels], body, numeric=set(labels))
    note = (
        "<p>A trend compares with the period of the same length before; it is shown where the "
        "change is significant (5 %) and at least a tenth.</p>"
    )
    return _section("Look-backs", note + table)


def _explanations(data: ReportData) -> str:
    if not data.explanations:
        return ""
    rows = [
        [f'<th scope="row">{_escape(name)}</th>', f"<td>{_escape(text)}</td>"]
        for name, text in sorted(data.explanations.items())
    ]
    return _section("Why these weights", _table("Reasons", ["Generator", "Reason"], rows))


_WORTHS: Final = {
    "in_force": "in force",
    "proposed": "proposed",
    "shadow": "the other policy's",
    "default": "default",
}


def _appraisal(data: ReportData) -> str:
    found = data.appraisal
    if found is None:
        return ""
    rows = [
        [
            f'<th scope="row">{_escape(_WORTHS.get(worth.name, worth.name))}</th>',
            *(
                f'<td class="n">{cell}</td>'
                for cell in (
                    rate(worth.off_policy.f_per_1k),
                    between(worth.off_policy.low, worth.off_policy.high),
                    rate(worth.model.f_per_1k),
                    between(worth.model.low, worth.model.high),
                    _number(worth.over_default.gain, "+z.0%"),
                    gains(worth.over_default.low, worth.over_default.high),
                )
            ),
        ]
        for worth in found.worths
    ]
    headings = ["From posts", "90 % interval", "By the model", "90 %", "Over default", "90 % of it"]
    table = _table(
        "F/1K that the weights would earn", ["Weights", *headings], rows, numeric=set(headings)
    )
    used, left_out = found.as_drawn.posts, found.as_drawn.left_out
    explained = (
        f"<p>From posts: the {used:,d} posts of the last {found.days:g} days whose probability of "
        f"being drawn is known, reweighed ({left_out:,d} left out). By the model: the present "
        "rates that the estimation believes in, with less noise and with its assumptions.</p>"
    )
    return _section("What the weights are worth", explained + table + _proofs(found))


def _proofs(found: Appraisal) -> str:
    holdout, ratio = found.holdout, found.draws.ratio
    said = (
        f"no holdout of measured posts ({holdout.holdout_posts} posts)"
        if holdout.gain is None
        else f"{holdout.gain:+z.0%} (90 % {gains(holdout.low, holdout.high)}) from "
        f"{holdout.posts:,d} posts against {holdout.holdout_posts:,d} held out"
    )
    draw = "too few posts to test" if ratio.p_value is None else f"p = {ratio.p_value:.3g}"
    if found.draws.is_mismatch:
        draw += ": the engine does not draw by the weights"
    lines = [f"Learned weights over the holdout: {said}.", f"Check of the draw: {draw}."]
    prices = {k: v for k, v in (found.prices or {}).items() if v is not None}
    if prices:
        kinds = [f"{k} {rate(prices[k])}" for k in ("floor", "cap", "locks", "step")]
        lines.append(f"What the guards cost in F/1K: {', '.join(kinds)}.")
    return "<ul>" + "".join(f"<li>{_escape(line)}</li>" for line in lines) + "</ul>"


def _events(data: ReportData) -> str:
    if not data.events:
        return _section("Decisions", "<p>No decision has been made yet.</p>")
    rows = [
        [
            f'<td class="n">{_cell(event.get("id"))}</td>',
            f"<td>{_cell(event.get('effective_at') or event.get('created_at'))}</td>",
            f"<td>{_escape(str(event['event_type']).replace('_', ' '))}</td>",
            f'<td class="n">{_cell(event.get("generators_updated"))}</td>',
            f"<td>{_escape(what_happened(event))}</td>",
            f"<td>{_escape(event.get('created_by') or '')}</td>",
        ]
        for event in data.events
    ]
    return _section(
        "Decisions",
        _table(
            "Latest events",
            ["Id", "Time (UTC)", "Event", "Changed", "What happened", "By"],
            rows,
            numeric={"Id", "Changed"},
        ),
    )


def _chart(title: str, key: str, frame: pd.DataFrame | None, draw: Any) -> str:
    if frame is None:
        return _section(title, "<p>These figures could not be read.</p>")
    heading, inner = _figure(key, draw(frame))
    table = ""
    if len(frame):
        rows = _frame_table(title, frame, {name: name.replace("_", " ") for name in frame.columns})
        table = f"<details><summary>The same as a table</summary>{rows}</details>"
    return _section(heading, inner + table)


def chart_section(key: str, frame: pd.DataFrame, draw: Callable[[pd.DataFrame], go.Figure]) -> str:
    """Return a section with a chart; its figures belong into a table of their own."""
    return _section(*_figure(key, draw(frame)))


def frame_section(
    heading: str, caption: str, frame: pd.DataFrame, columns: Mapping[str, str]
) -> str:
    """Return a section with a table of the columns, by name and heading."""
    return _section(_escape(heading), _frame_table(caption, frame, columns))


def _figure(key: str, figure: go.Figure) -> tuple[str, str]:
    # The heading of the section is the title; the figure needs none of its own.
    heading = _escape(figure.layout.title.text)
    figure.update_layout(title=None, margin_t=40)
    # In a block that is not run, only "</script" and "<!--" could end it early.
    figure_json = str(figure.to_json()).replace("<", "\\u003c")
    height = int(figure.layout.height)
    return heading, (
        f'<figure><div class="chart" id="{key}" role="img" aria-label="{heading}" '
        f'style="min-height:{height}px"></div>'
        f'<script type="application/json" data-target="{key}">{figure_json}</script></figure>'
    )


def _frame_table(caption: str, frame: pd.DataFrame, columns: Mapping[str, str]) -> str:
    numeric = {
        heading
        for name, heading in columns.items()
        if pd.api.types.is_numeric_dtype(frame[name]) or name in _NUMBERS_IN_WORDS
    }
    shown = frame.tail(MOST_ROWS)
    rows = []
    for values in zip(*(shown[name].tolist() for name in columns), strict=True):
        cells = []
        for (name, heading), value in zip(columns.items(), values, strict=True):
            if name == "generator_name":
                cells.append(f'<th scope="row">{_escape(value)}</th>')
            elif name == "trend" and isinstance(value, str):
                cells.append(f"<td>{_trend(value)}</td>")
            elif name in {"tier", "relative_tier"} and isinstance(value, str):
                cells.append(f"<td>{_badge(value)}</td>")
            else:
                kind = ' class="n"' if heading in numeric else ""
                digits = 3 if name == "f_per_1k" else 4
                cells.append(f"<td{kind}>{_escape(format_cell(value, digits))}</td>")
        rows.append(cells)
    left = len(frame) - len(shown)
    note = f"; the latest {MOST_ROWS:,} of {len(frame):,} rows" if left else ""
    return _table(caption + note, list(columns.values()), rows, numeric=numeric)


def _table(
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: set[str] | None = None,
) -> str:
    """Cells are HTML already, each with its own tag; headings and caption are text."""
    head = "".join(
        f'<th scope="col"{" class=n" if heading in (numeric or set()) else ""}>'
        f"{_escape(heading)}</th>"
        for heading in headings
    )
    body = "".join(f"<tr>{''.join(row)}</tr>\n" for row in rows)
    # A wide table scrolls by itself, so it takes the focus for those who use the keyboard.
    return (
        f'<div class="wide" role="region" aria-label="{_escape(caption)}" tabindex="0"><table>'
        f"<caption>{_escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _section(heading: str, inner: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{inner}\n</section>"


def _badge(value: str) -> str:
    return f'<span class="badge {_escape(value)}">{_escape(value.replace("_", " "))}</span>'


def _trend(value: str) -> str:
    return "?" if value == "not_enough_data" else _badge(value)


def _cell(value: Any) -> str:
    return _escape(format_cell(value))


def _number(value: Any, form: str = ".3g") -> str:
    return UNKNOWN if value is None or pd.isna(value) else format(value, form)


def _escape(value: object) -> str:
    printable = "".join(c if c.isprintable() else " " for c in str(value))
    return html.escape(printable, quote=True)


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    # plotly sets style attributes and makes images of its own from data and blobs
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


@cache
def _style() -> str:
    return resources.files("genopt_pipeline.report").joinpath("page.css").read_text("utf-8")
