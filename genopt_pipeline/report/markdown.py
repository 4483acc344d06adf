"""Tables in markdown, for metadata that the Dagster UI shows.

What belongs here: frames in, markdown out. Charts of the HTML report are in ``charts``. The
Dagster UI strips images that are not served over http, so a chart in metadata is a column of
sparklines (``sparkline``), and what should be plotted over time is numeric metadata.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from genopt_pipeline.core.changes import BEGINNING

UNKNOWN: Final = "–"
_ESCAPED: Final = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>#|~"} | {"&": "&amp;"})


def escape_markdown(value: object) -> str:
    """Return text in which nothing is markup, on one line, fit for a cell of a table."""
    printable = "".join(c if c.isprintable() else " " for c in str(value))
    return " ".join(printable.split()).translate(_ESCAPED)


def format_cell(value: Any, digits: int = 4) -> str:
    """Return a value as a table shows it: unknown as a dash, times in UTC to the minute."""
    if value is None or value is pd.NaT or value is pd.NA:
        return UNKNOWN
    if isinstance(value, float | np.floating):
        return _decimal(float(value), digits)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,d}"
    if isinstance(value, datetime):
        return moment(value)
    return str(value)


def count(number: int, thing: str) -> str:
    """Return a number of things whose plural takes an s."""
    return f"{number:,d} {thing}{'' if number == 1 else 's'}"


def moment(at: datetime) -> str:
    """Return a time to the minute; an account's first weights hold from no time in particular."""
    return "from the start" if at == BEGINNING else f"{at:%Y-%m-%d %H:%M}"


def rate(value: Any) -> str:
    """Return an F/1K in at most six characters: two decimals, more below 0.1, fewer above 1000."""
    if value is None or pd.isna(value) or not math.isfinite(value):
        return UNKNOWN
    size = abs(float(value))
    if size == 0 or 0.0995 <= size < 999.995:
        return f"{value:.2f}"
    return f"{value:.4f}" if 0.00095 <= size < 0.0995 else f"{value:.0e}"


def between(low: Any, high: Any) -> str:
    """Return an interval of rates, or a dash; an upper end that is a dash bounds nothing."""
    lower, upper = rate(low), rate(high)
    if lower == UNKNOWN:
        return UNKNOWN
    if low < 0.005 and upper != UNKNOWN and high >= 0.1:
        lower = "0.00"  # beside such an upper end the size of the lower one says nothing
    return f"{lower}…{upper}"


def gains(low: float | None, high: float | None) -> str:
    """Return an interval of relative gains in whole percent, or a dash."""
    return UNKNOWN if low is None or high is None else f"{low:+z.0%}…{high:+z.0%}"


def what_happened(event: Mapping[str, Any]) -> str:
    """Return an event of ``optimization_events`` in words: whose state changed, and why."""
    failed = event.get("success") is False
    told = [*_states(event.get("states_changed") or ()), event.get("reason")]
    told += [event.get("error_message")] if failed else []
    return "; ".join(str(part) for part in told if part)


def _states(changed: Sequence[Mapping[str, Any]], most: int = 4) -> list[str]:
    said = []
    for each in changed[:most]:
        if each["old_status"] is None:
            words = [f"new, {each['new_status']}"]
        elif each["old_status"] != each["new_status"]:
            words = [f"{each['old_status']} → {each['new_status']}"]
        else:
            words = []
        if each["new_locked"] != bool(each["old_locked"]):
            words.append("locked" if each["new_locked"] else "unlocked")
        said.append(f"{each['generator']}: {', '.join(words)}")
    left = len(changed) - most
    return [*said, f"and {left} more"] if left > 0 else said


def markdown_table(
    frame: pd.DataFrame, columns: Sequence[str] | Mapping[str, str] | None = None
) -> str:
    """Return a frame as a markdown table; numbers to the right, unknown as a dash.

    Parameters
    ----------
    frame
        Any frame; its index is not shown.
    columns
        The columns to show, in order, or a mapping of columns to headings; None for all.

    Raises
    ------
    KeyError
        A column that the frame does not have.
    """
    headings = (
        dict(columns)
        if isinstance(columns, Mapping)
        else {name: name for name in (frame.columns if columns is None else columns)}
    )
    absent = [name for name in headings if name not in frame.columns]
    if absent:
        raise KeyError(f"the frame has no column {', '.join(map(repr, absent))}")
    right = [
        pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
        for name in headings
    ]
    lines = [
        _line(escape_markdown(heading) for heading in headings.values()),
        _line("---:" if is_right else "---" for is_right in right),
    ]
    lines += [
        _line(escape_markdown(format_cell(value)) for value in row)
        for row in zip(*(frame[name].tolist() for name in headings), strict=True)
    ]
    return "\n".join(lines) + "\n"


def _decimal(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{digits}g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
