"""The summary for the UI has the report's figures, and says what is unknown."""

from dataclasses import replace

import pytest

from genopt_pipeline.core.performance import account_totals
from genopt_pipeline.report.summary import render_summary
from genopt_pipeline_tests.report.report_data import report_data


def rows_of(markdown):
    """Cells of the generators' table, by generator."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return {
        cells[0]: cells[1:] for cells in ([c.strip() for c in x[1:-1].split("|")] for x in lines)
    }


def test_it_names_totals_alerts_the_last_event_and_every_generator_with_weight_and_reason():
    data = replace(report_data(), explanations={"coach": "earns most"})
    shown = render_summary(data)
    assert f"F/1K {account_totals(data.summary).f_per_1k:.2f}" in shown
    for alert in data.alerts:
        assert alert.severity in shown
    assert data.events
    assert "**Last event**" in shown
    rows = rows_of(shown)
    assert set(data.weights) < set(rows)
    assert "earns most" in rows["coach"]
    assert "0.5" in rows["coach"]
    # a generator without posts has no F/1K: a dash, not a zero
    assert rows["idle"][:2] == ["–", "–"]


@pytest.mark.parametrize("changes", [{"alerts": []}, {"events": ()}, {"explanations": None}])
def test_it_is_written_without_alerts_events_or_reasons(changes):
    shown = render_summary(replace(report_data(), **changes))
    assert ("No alert is open." in shown) == ("alerts" in changes or not report_data().alerts)
    assert set(rows_of(shown)) >= {"coach", "explorer", "idle"}
