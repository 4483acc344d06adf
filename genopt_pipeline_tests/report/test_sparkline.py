"""A sparkline has one mark a value, in their order."""

import math

from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.report.sparkline import sparkline


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True)), st.integers(1, 40))
def test_a_sparkline_has_one_mark_a_value_and_keeps_their_order(values, width):
    line = sparkline(values, width)
    shown = values[-width:]
    assert len(line) == len(shown)
    for (left, a), (right, b) in zip(
        zip(shown, line, strict=True), [*zip(shown, line, strict=True)][1:], strict=False
    ):
        if all(v is not None and math.isfinite(v) for v in (left, right)):
            assert (a <= b) if left <= right else (a >= b)
    for value, mark in zip(shown, line, strict=True):
        assert (mark == "·") == (value is None or not math.isfinite(value))
