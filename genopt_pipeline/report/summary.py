"""The report in short, as markdown: for metadata, which the Dagster UI shows on any machine.

Here: which of the report's figures. Not here: the whole report (``html``), how a table is written
(``markdown``).
"""

import pandas as pd

from genopt_pipeline.core.performance import account_totals
from genopt_pipeline.report.html import ReportData
from genopt_pipeline.report.markdown import UNKNOWN, between, escape_markdown, markdown_table, rate


def render_summary(data: ReportData) -> str:
    """Totals, open alerts, the last decision, and each generator's F/1K, weight and reason."""
    totals = account_totals(data.summary)
    followers = totals.followers_gained
    gained = UNKNOWN if followers is None else f"{followers:,.1f}"
    seen = UNKNOWN if totals.impressions is None else f"{totals.impressions:,d}"
    figures = (
        f"{escape_markdown(data.period)} to {data.as_of:%Y-%m-%d %H:%M} UTC: "
        f"**F/1K {rate(totals.f_per_1k)}**, {gained} followers "
        f"({escape_markdown(data.estimator)}), {seen} impressions, {totals.posts_count:,d} posts."
    )
    parts = [
        *(f"**Note:** {escape_markdown(note)}" for note in data.notes),
        figures,
        _alerts(data),
        _last_decision(data),
        _generators(data),
    ]
    return "\n\n".join(part for part in parts if part)


def _alerts(data: ReportData) -> str:
    lines = [f"- {alert.severity}: {escape_markdown(alert.message)}" for alert in data.alerts]
    return "\n".join(["**Open alerts**", "", *lines]) if lines else "No alert is open."


def _last_decision(data: ReportData) -> str:
    if not data.events:
        return ""
    newest = data.events[0]
    said = newest["reason"] or "no reason was given"
    return (
        f"**Last event**, {newest['created_at']:%Y-%m-%d %H:%M} UTC: "
        f"{escape_markdown(newest['event_type'])}: {escape_markdown(said)}"
    )


def _generators(data: ReportData) -> str:
    rows = data.summary.sort_values(["rank", "generator_name"], na_position="last")
    reasons = data.explanations or {}
    return markdown_table(
        pd.DataFrame(
            {
                "generator": rows["generator_name"],
                "F/1K": [rate(value) for value in rows["f_per_1k"]],
                "90 %": [
                    between(low, high)
                    for low, high in zip(rows["f_per_1k_low"], rows["f_per_1k_high"], strict=True)
                ],
                "weight": [data.weights.get(name) for name in rows["generator_name"]],
                "why": [reasons.get(name) for name in rows["generator_name"]],
                "tier": rows["tier"],
                "posts": rows["posts_count"],
            }
        )
    )
