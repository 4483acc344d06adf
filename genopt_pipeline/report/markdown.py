"""Tables and small charts in markdown, for metadata that the Dagster UI shows.

What belongs here: text in, markdown out. Charts of the HTML report are in ``charts``.
"""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

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
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value)


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


def svg_line_chart(
    series: Mapping[str, Sequence[float | None]],
    *,
    title: str,
    width: int = 480,
    height: int = 120,
) -> str:
    """Return lines over their position as a markdown image with the SVG inside (a data URI).

    An unknown value breaks its line. The title is also the image's alternative text. Without any
    known value the chart says so.
    """
    known = [value for values in series.values() for run in _runs(values) for _, value in run]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    span = high - low or 1.0
    steps = max((len(values) for values in series.values()), default=1)
    left, top, right, bottom = 8, 22, width - 60, height - 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="14" fill="#222">{html.escape(title)}</text>',
    ]
    if known:
        parts += [
            f'<text x="{right + 4}" y="{top + 4}" fill="#555">{high:.3g}</text>',
            f'<text x="{right + 4}" y="{bottom}" fill="#555">{low:.3g}</text>',
        ]
    else:
        parts.append(f'<text x="{left}" y="{height / 2:.0f}" fill="#555">no data yet</text>')
    for index, (name, values) in enumerate(series.items()):
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        for run in _runs(values):
            points = " ".join(
                f"{left + (right - left) * i / max(steps - 1, 1):.1f},"
                f"{bottom - (bottom - top) * (v - low) / span:.1f}"
                for i, v in run
            )
            # a single value is a line of no length, which the round cap makes a dot
            points = points if len(run) > 1 else f"{points} {points}"
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
                f'stroke-linecap="round"><title>{html.escape(name)}</title></polyline>'
            )
    encoded = base64.b64encode("".join([*parts, "</svg>"]).encode()).decode("ascii")
    return f"![{escape_markdown(title)}](data:image/svg+xml;base64,{encoded})"


#: Twelve colours that stay apart on white, also for the colour-blind when neighbours differ.
LINE_COLOURS: Final = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#b8860b",
    "#009e9e",
    "#aa3377",
    "#555555",
    "#e07b00",
    "#332288",
    "#88aa00",
    "#882255",
    "#117733",
)


def _decimal(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{digits}g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is not None and math.isfinite(value):
            runs[-1].append((index, float(value)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
