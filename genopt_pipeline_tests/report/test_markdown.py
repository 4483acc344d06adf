"""Markdown shows what the frame holds and nothing that a text in it asks for."""

import base64
import math
import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.report.markdown import escape_markdown, markdown_table, svg_line_chart


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


def svg_of(markdown):
    encoded = re.fullmatch(r"!\[.*\]\(data:image/svg\+xml;base64,(\S+)\)", markdown).group(1)
    return ET.fromstring(base64.b64decode(encoded))  # noqa: S314  (our own output)


@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "P", "S"]), min_size=1),
        st.lists(st.none() | st.floats(-1e6, 1e6)),
        max_size=4,
    )
)
def test_a_line_chart_is_valid_svg_whose_points_lie_inside(series):
    root = svg_of(svg_line_chart(series, title="F/1K <b> & more", width=480, height=120))
    points = [p.get("points") for p in root.iter("{http://www.w3.org/2000/svg}polyline")]
    for x, y in (pair.split(",") for run in points for pair in run.split()):
        assert 0 <= float(x) <= 480
        assert 0 <= float(y) <= 120
    nothing = not any(v is not None for values in series.values() for v in values)
    assert nothing == ("no data yet" in "".join(root.itertext()))


def test_an_unknown_value_breaks_the_line():
    root = svg_of(svg_line_chart({"a": [1.0, 2.0, None, 3.0]}, title="t"))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


def test_the_title_is_the_alternative_text():
    at = datetime(2026, 9, 1, tzinfo=UTC)
    assert svg_line_chart({}, title=f"F/1K {at:%d}").startswith("![F/1K 01](data:")
