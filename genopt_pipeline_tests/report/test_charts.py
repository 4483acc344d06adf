"""The figures hold the numbers of their frames; unknown is a gap."""

import math

import pandas as pd
import pytest

from genopt_pipeline.report import charts
from genopt_pipeline_tests.report.report_data import NOW, report_data

DATA = report_data()


def test_each_generator_has_a_panel_with_its_rates_and_one_without_posts_has_none():
    figure = charts.f_per_1k_over_time(DATA.history)
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert set(lines) == {"coach", "explorer"}
    for name, trace in lines.items():
        expected = DATA.history[DATA.history["generator_name"] == name]["f_per_1k"]
        assert list(trace.y) == pytest.approx(expected.tolist())


def test_an_unknown_rate_is_a_gap_and_not_a_zero():
    history = DATA.history.copy()
    history.loc[history["generator_name"].eq("coach").idxmax(), "f_per_1k"] = math.nan
    coach = next(t for t in charts.f_per_1k_over_time(history).data if t.name == "coach")
    assert coach.y[0] is None


def test_more_generators_than_can_be_read_are_cut_and_the_title_says_so():
    rows = [
        {
            "period_end": NOW,
            "generator_name": f"g{i}",
            "f_per_1k": float(i),
            "f_per_1k_low": 0.0,
            "f_per_1k_high": math.nan,
        }
        for i in range(40)
    ]
    figure = charts.f_per_1k_over_time(pd.DataFrame(rows))
    shown = [trace.name for trace in figure.data if trace.name]
    assert len(shown) == charts.MOST_PANELS
    assert shown[0] == "g39"
    assert "24 highest of 40" in figure.layout.title.text


def test_the_weights_of_each_time_stack_up_to_one():
    figure = charts.weights_over_time(DATA.weights_history)
    for values in zip(*(trace.y for trace in figure.data), strict=True):
        assert sum(values) == pytest.approx(1)


DRAWS = pd.DataFrame(
    {"generator_name": ["<b>x</b>", "idle"], "posts": [9, 0], "expected": [7.5, 1.5]}
)


def test_posts_stand_beside_those_that_the_weights_of_their_time_called_for():
    posts, expected = charts.posts_against_weights(DRAWS).data
    assert list(posts.y) == [9, 0]
    assert list(expected.y) == [7.5, 1.5]


def test_a_single_time_has_a_day_around_it_and_not_a_part_of_a_millisecond():
    for draw, frame, column in (
        (charts.f_per_1k_over_time, DATA.history, "period_end"),
        (charts.weights_over_time, DATA.weights_history, "effective_at"),
        (charts.attribution_over_time, DATA.attribution, "window_start"),
    ):
        at = frame[column].max()
        first, last = draw(frame[frame[column] == at]).layout.xaxis.range
        assert pd.Timestamp(first) < at < pd.Timestamp(last)
        assert pd.Timestamp(last) - pd.Timestamp(first) == pd.Timedelta(days=1)
        assert draw(frame).layout.xaxis.range is None


def test_posts_and_baseline_add_up_to_the_change_of_the_account():
    posts, baseline = charts.attribution_over_time(DATA.attribution).data
    assert [p + b for p, b in zip(posts.y, baseline.y, strict=True)] == [4.0, 1.0]


@pytest.mark.parametrize(
    ("draw", "frame"),
    [
        (charts.f_per_1k_over_time, DATA.history),
        (charts.weights_over_time, DATA.weights_history),
        (charts.attribution_over_time, DATA.attribution),
        (charts.posts_against_weights, DRAWS),
    ],
)
def test_a_frame_without_rows_gives_a_figure_that_says_so(draw, frame):
    figure = draw(frame.iloc[:0])
    assert not figure.data
    assert figure.layout.annotations[0].text


def test_a_name_is_text_in_every_label():
    hostile = report_data(names=("<b>x</b>", "explorer", "idle"))
    for figure in (
        charts.f_per_1k_over_time(hostile.history),
        charts.weights_over_time(hostile.weights_history),
        charts.posts_against_weights(DRAWS),
    ):
        assert "<b>" not in figure.to_json().replace("\\u003c", "<")


def test_shares_captured_have_a_panel_a_world_and_worlds_without_a_gap_have_none():
    rows = [
        {
            "world": world,
            "policy": policy,
            "day": day,
            "captured": math.nan if world == "null" else day / 10,
            "low": 0.0,
            "high": 1.0,
        }
        for world in ("calm", "null", "rough")
        for policy in ("oracle", "<b>thompson")
        for day in (1, 2, 3)
    ]
    figure = charts.captured_over_time(pd.DataFrame(rows))
    assert [note.text for note in figure.layout.annotations] == ["calm", "rough"]
    lines = [trace for trace in figure.data if trace.name]
    assert [trace.name for trace in lines] == ["oracle", "&lt;b&gt;thompson"] * 2
    assert all(list(trace.y) == [0.1, 0.2, 0.3] for trace in lines)
    only_null = pd.DataFrame([row for row in rows if row["world"] == "null"])
    assert "nothing to capture" in charts.captured_over_time(only_null).layout.annotations[0].text
