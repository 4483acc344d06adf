"""Views fit 80 columns, show every generator and never show unknown as zero."""

import io
import math
from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from genopt_pipeline.cli import render
from genopt_pipeline.core.appraisal import Appraisal, DrawCheck, Worth
from genopt_pipeline.core.changes import BEGINNING
from genopt_pipeline.core.evaluation import SampleRatio, Uplift, Value
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.health import HealthObservations, check_health

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)


def text_of(renderable, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


def assert_fits(text, width=80):
    too_long = [line for line in text.splitlines() if cell_len(line) > width]
    assert not too_long


numbers = st.none() | st.floats(0, 1e6) | st.just(math.nan)
lines = st.builds(
    render.GeneratorLine,
    generator_name=st.text(min_size=1, max_size=40),
    weight=st.none() | st.floats(0, 1),
    status=st.sampled_from(["active", "testing", "disabled", "archived"]),
    locked=st.booleans(),
    posts_count=st.none() | st.integers(0, 99_999),
    f_per_1k=numbers,
    f_per_1k_low=numbers,
    f_per_1k_high=numbers,
    tier=st.sampled_from([None, "viral", "excellent", "failing"]),
    rank=st.none() | st.integers(1, 200),
    trend=st.sampled_from([None, "improving", "declining", "not_enough_data"]),
    history=st.lists(numbers, max_size=30),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(lines, max_size=8))
def test_the_dashboard_fits_eighty_columns_whatever_it_shows(generators):
    text = text_of(render.dashboard(render.DashboardView("main", NOW, 3, generators=generators)))
    assert_fits(text)
    assert text.isprintable() or "\x1b" not in text


@pytest.mark.parametrize("count", [0, 1, 12, 200])
def test_every_generator_has_its_line_with_name_and_weight_in_full(count):
    names = [*DEFAULT_WEIGHTS][:count] + [f"generator{i}" for i in range(count - 12)]
    view = render.DashboardView(
        "main",
        NOW,
        generators=[
            render.GeneratorLine(
                name,
                weight=0.0123,
                posts_count=1234,
                f_per_1k=12.345,
                f_per_1k_low=10.25,
                f_per_1k_high=112.5,
                tier="excellent",
                rank=index + 1,
                history=[1.0, 2.0] * 10,
            )
            for index, name in enumerate(names)
        ],
    )
    text = text_of(render.dashboard(view))
    assert_fits(text)
    for name in names:
        row = next(line for line in text.splitlines() if name in line.split())
        assert {"0.0123", "1234", "12.35", "10.25…112.50", "excellent"} <= set(row.split())


def test_unknown_and_zero_and_an_unreadable_database_look_different():
    def dashboard(**known):
        return text_of(render.dashboard(render.DashboardView("main", NOW, **known)))

    zero = dashboard(generators=[render.GeneratorLine("a", f_per_1k=0.0, posts_count=0)])
    unknown = dashboard(generators=[render.GeneratorLine("a")])
    row = next(line for line in unknown.splitlines() if " a " in line)
    assert "0.00" in zero
    assert "0" not in row
    assert render.UNKNOWN in row
    assert "no generator is registered" in dashboard()
    broken = dashboard(error="connection refused", generators=[render.GeneratorLine("a")])
    assert "cannot be read: connection refused" in broken
    assert "F/1K" not in broken


@pytest.mark.parametrize("value", [None, math.nan, math.inf, pd.NA, pd.NaT])
def test_what_is_not_a_number_is_a_dash(value):
    assert render.number(value) == render.UNKNOWN
    assert render.rate(value) == render.UNKNOWN


@given(st.floats(0, 1e9))
def test_a_rate_takes_little_room_and_keeps_its_size(value):
    text = render.rate(value)
    assert len(text) <= 6
    assert float(text) == pytest.approx(value, rel=0.5, abs=1e-300)


def test_a_name_with_markup_or_escape_codes_is_shown_as_text():
    hostile = "[red]x[/red]\x1b[2J\r\n"
    view = render.DashboardView(
        hostile,
        NOW,
        generators=[render.GeneratorLine(hostile)],
        alerts=[{"severity": "warning", "message": hostile, "opened_at": NOW}],
    )
    text = text_of(render.dashboard(view))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_health_says_the_verdict_the_reasons_and_what_to_do():
    report = check_health(HealthObservations(weights={"a": 0.7, "b": 0.5}), now=NOW)
    text = text_of(render.health(report))
    assert_fits(text)
    assert text.startswith("critical")
    assert "sum to 1.2" in text
    assert "→ Run `genopt rollback`." in text
    assert "no data" in text


LONG = "because " * 40


def test_history_alerts_and_explanations_fit_however_long_their_words_are():
    event = {
        "created_at": NOW,
        "event_type": "weight_update",
        "generators_updated": 0,
        "reason": LONG,
        "top_performer": "coach",
        "top_performer_f_per_1k": 2.5,
        "success": True,
    }
    failed = event | {
        "success": False,
        "error_message": "database away",
        "generators_updated": None,
    }
    text = text_of(render.history([event, failed]))
    assert_fits(text)
    assert "weight update" in text
    assert "top coach 2.50" in text
    assert "database away" in text
    assert "no events" in text_of(render.history([]))

    alerts = [{"severity": "critical", "message": LONG, "opened_at": NOW, "closed_at": None}]
    assert_fits(text_of(render.alerts(alerts)))
    assert "no alerts" in text_of(render.alerts([]))

    view = render.ExplainView(
        "coach",
        facts={"F/1K": 2.5, "posts": 12, "probability of being best": None},
        reasons=[LONG],
        f_per_1k_history=[1.0, None, 3.0],
        weight_history=[0.1, 0.2],
        changes=[{"created_at": NOW, "old_weight": 0.1, "new_weight": 0.2, "reason": LONG}],
    )
    text = text_of(render.explain(view))
    assert_fits(text)
    assert "▁·█" in text
    assert "0.1000" in text


def test_an_event_says_its_id_whose_state_it_changed_who_did_it_and_in_which_year():
    locked = {
        "id": 41,
        "event_type": "locked",
        "effective_at": NOW,
        "generators_updated": 0,
        "reason": "keep it",
        "created_by": "genopt lock (ann)",
        "states_changed": [
            {
                "generator": "coach",
                "old_status": "active",
                "new_status": "active",
                "old_locked": False,
                "new_locked": True,
            }
        ],
    }
    disabled = locked["states_changed"][0] | {"new_status": "disabled", "new_locked": False}
    new = {**disabled, "generator": "poet", "old_status": None, "old_locked": None}
    run = "dagster run 477c02e1-7610-4d91-9ebf-d4bdbe8e7939"
    first = {"id": 1, "event_type": "initial_weights", "effective_at": BEGINNING}
    others = locked | {"id": 42, "states_changed": [disabled, new], "created_by": run}
    text = text_of(render.history([others, locked, first]))
    assert_fits(text)
    said = " ".join(text.split())
    assert "41 2026-09-01 12:00 locked" in said
    assert "coach: locked" in said
    assert "by genopt lock (ann)" in said
    assert "coach: active → disabled" in said
    assert "poet: new, disabled" in said
    assert "by dagster run 477c02e1" in said
    assert "7610-4d91" not in said
    assert "1 from the start initial weights" in said
    assert "1970" not in said


def test_an_import_summary_adds_up_and_names_row_column_and_reason():
    summary = {
        "file": "export.csv",
        "dialect": "content export",
        "rows_read": 30,
        "rows_kept": 3,
        "skipped": {"ghost row": 2},
        "rows_rejected": 25,
        "rejected": [
            {"row": 7 + i, "column": "Impressions", "reason": f"12.{i}K is not a count"}
            for i in range(25)
        ],
    }
    text = text_of(render.import_summary(summary, limit=3))
    assert_fits(text)
    assert "30 rows read: 3 kept, 2 skipped (2 ghost row), 25 quarantined" in text
    assert "12.2K is not a count" in text
    assert "12.3K" not in text
    assert "and 22 more" in text


UNKNOWN_VALUE = Value(None, None, None, 0, 0.0)
NO_UPLIFT = Uplift(None, None, None, None, 0, 0)


def appraisal_of(ratio, prices=None, **worth):
    known = {
        "off_policy": UNKNOWN_VALUE,
        "model": UNKNOWN_VALUE,
        "over_in_force": NO_UPLIFT,
        "over_default": NO_UPLIFT,
        "untried": 1.0,
    }
    return Appraisal(
        as_of=NOW,
        days=30.0,
        worths=(Worth(name="in_force", weights={}, **(known | worth)),),
        as_drawn=UNKNOWN_VALUE,
        holdout=NO_UPLIFT,
        draws=DrawCheck(ratio, {}, {}, 0),
        prices=prices,
    )


def test_what_is_not_known_of_the_weights_is_a_dash_and_a_false_draw_is_said_aloud():
    fair = SampleRatio(None, 0, None, 3, ())
    text = text_of(render.appraisal(appraisal_of(fair)))
    assert_fits(text)
    assert "too few posts, 3 posts" in text
    assert "price of the guards" not in text
    row = next(line for line in text.splitlines() if line.startswith("in force"))
    assert set(row.split()[2:]) == {render.UNKNOWN}
    false = SampleRatio(50.0, 3, 1e-9, 500, ("[red]x[/red]",))
    text = text_of(render.appraisal(appraisal_of(false, prices={"floor": 0.25, "cap": None})))
    assert "does not draw by the weights (p 1e-09" in text
    assert "[red]x[/red]" in text
    assert "price of the guards in F/1K: floor 0.25" in text
    value = Value(2.5, 1.5, 3.5, 10, 9.0)
    gain = Uplift(0.001, -0.2, 0.3, 0.1, 0, 0)
    text = text_of(render.appraisal(appraisal_of(fair, off_policy=value, over_default=gain)))
    assert "1.50…3.50" in text
    row = next(line for line in text.splitlines() if line.startswith("in force"))
    assert row.split()[-2:] == ["+0%", "-20%…+30%"]


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=6, unique=True))
def test_a_replay_fits_whatever_its_generators_are_called(names):
    weights = {name: 1 / len(names) for name in names}
    value = {"f_per_1k": 1234.5, "low": 1.0, "high": 99999.0, "posts": 4}
    found = {
        "account": LONG,
        "policy": "thompson",
        "from": "2026-09-01T00:00:00+00:00",
        "to": "2026-09-08T00:00:00+00:00",
        "windows": 28,
        "every_hours": 6.0,
        "posts": 4,
        "skipped": 1,
        "simulated": True,
        "first_skip": LONG,
        "generators": sorted(names),
        "warnings": [LONG],
        "as_drawn": value,
        "values": [
            {
                "name": name,
                "off_policy": value,
                "model": value,
                "mean_weights": weights,
                "replayed_over": {"gain": 12.5, "low": -0.5, "high": 40.0},
            }
            for name in ("replayed", "in_force", "default")
        ],
        "path": [{"weights": weights, "in_force": {}}] * 28,
    }
    assert_fits(text_of(render.backtest(found)))


def test_a_generators_posts_and_look_backs_fit_with_both_counts_side_by_side():
    view = render.ExplainView(
        "coach",
        lookbacks=[{"lookback": "24 h", "posts_count": 0, "trend": "not_enough_data"}],
        posts=[
            {
                "posted_at": NOW,
                "decision_id": "d" * 90,
                "impressions": 1234567.0,
                "attributed": 0.0,
                "attributed_sd": 1.25,
                "platform": None,
            }
        ],
        posts_left_out=3,
        posts_days=7.0,
    )
    text = text_of(render.explain(view))
    assert_fits(text)
    row = next(line for line in text.splitlines() if "1,234,567" in line)
    assert row.split()[-3:] == ["0.0", "1.2", render.UNKNOWN]
    assert "… and 3 older" in text
    assert "none" in text_of(render.explain(render.ExplainView("coach", posts_days=7.0)))
