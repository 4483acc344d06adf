"""Markdown shows what the frame holds and nothing that a text in it asks for."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.report.markdown import UNKNOWN, between, count, escape_markdown, markdown_table
from genopt_pipeline.report.sparkline import sparkline


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_a_table_has_one_line_a_row_and_as_many_cells_as_columns_whatever_the_text(rows):
    frame = pd.DataFrame(rows, columns=["a", "b"], dtype=object)
    lines = markdown_table(frame).splitlines()
    assert len(lines) == len(rows) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3


@given(st.text())
def test_escaped_text_holds_no_bare_markup(text):
    bare = re.sub(r"\\.", "", escape_markdown(text))
    assert not set(bare) & set("\\`*_[]<>#|~")
    assert "\n" not in bare


def test_unknown_is_a_dash_zero_is_zero_and_columns_are_chosen_and_named():
    frame = pd.DataFrame(
        {
            "name": ["x", "y"],
            "rate": [0.0, math.nan],
            "rank": pd.array([1, None], dtype="Int64"),
            "at": pd.to_datetime(["2026-09-01T12:00Z", None]),
            "hidden": [1, 2],
        }
    )
    table = markdown_table(frame, {"name": "generator", "rate": "F/1K", "rank": "rank", "at": "at"})
    assert table.splitlines() == [
        "| generator | F/1K | rank | at |",
        "| --- | ---: | ---: | --- |",
        "| x | 0 | 1 | 2026-09-01 12:00 |",
        "| y | – | – | – |",
    ]
    with pytest.raises(KeyError, match="nothing"):
        markdown_table(frame, ["name", "nothing"])


def test_a_sparkline_stands_in_a_cell_as_it_is():
    bars = sparkline([1.0, None, 3.0])
    assert f"| {bars} |" in markdown_table(pd.DataFrame({"over time": [bars]}))


def test_one_thing_is_not_many():
    assert [count(number, "post") for number in (0, 1, 1200)] == [
        "0 posts",
        "1 post",
        "1,200 posts",
    ]


def test_an_interval_of_rates_has_no_digits_that_say_nothing():
    assert between(2e-6, 32.891) == "0.00…32.89"
    assert between(0.0004, 0.004) == "4e-04…0.0040"
    assert between(0.25, None) == f"0.25…{UNKNOWN}"
    assert between(None, 2.0) == between(math.nan, 2.0) == UNKNOWN
