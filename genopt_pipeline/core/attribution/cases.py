"""One attribution as a JSON document in and out, for ``genopt attribute FILE.json``.

Here: reading the document's shape and writing results as plain values. Not here: the attribution.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.engine import attribute_followers
from genopt_pipeline.core.attribution.frames import (
    DELTA_COLUMNS,
    EXPOSURE_COLUMNS,
    OPTIONAL_COLUMNS,
)

_TIMES: Final = ("window_start", "window_end")


def attribute_case(document: Mapping[str, Any]) -> dict[str, Any]:
    """Attribute the counts of a document; errors come back as ``{"error": message}``.

    ``document`` holds ``deltas`` (records of window_start, window_end, delta), ``exposures``
    (records of post_id, generator_name, window_start, impressions and perhaps profile_clicks and
    platform_follows) and perhaps ``config`` (fields of ``AttributionConfig``). Times are ISO 8601
    with an offset. The answer has ``posts``, ``baseline``, ``totals``, ``generators``,
    ``quarantined`` (records), ``parameters`` and ``warnings``; what is unknown is null.
    """
    try:
        config = _config(document)
        deltas = _frame(document, "deltas", DELTA_COLUMNS, DELTA_COLUMNS)
        exposures = _frame(
            document, "exposures", EXPOSURE_COLUMNS, (*EXPOSURE_COLUMNS, *OPTIONAL_COLUMNS)
        )
        result = attribute_followers(deltas, exposures, config=config)
    except ValueError as error:
        return {"error": str(error)}
    return {
        "posts": _records(result.posts),
        "baseline": _records(result.baseline),
        "totals": _records(result.totals),
        "generators": _records(result.generators),
        "parameters": {name: _plain(value) for name, value in result.parameters.items()},
        "quarantined": _records(result.quarantined),
        "warnings": list(result.warnings),
    }


def _config(document: Mapping[str, Any]) -> AttributionConfig:
    if not isinstance(document, Mapping):
        raise ValueError(f"the document must be an object, not {type(document).__name__}")
    settings = document.get("config", {})
    if not isinstance(settings, Mapping):
        raise ValueError(f"config must be an object, not {type(settings).__name__}")
    known = {field.name for field in dataclasses.fields(AttributionConfig)}
    unknown = sorted(str(name) for name in settings if name not in known)
    if unknown:
        raise ValueError(f"config: unknown setting {', '.join(unknown)}")
    return AttributionConfig(**settings)


def _frame(
    document: Mapping[str, Any], name: str, required: tuple[str, ...], columns: tuple[str, ...]
) -> pd.DataFrame:
    rows = document.get(name)
    if not isinstance(rows, list):
        raise ValueError(f"{name} must be a list of records")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"{name}: row {number} is {row!r}, not a record")
        missing = [column for column in required if column not in row]
        if missing:
            raise ValueError(f"{name}: {', '.join(missing)} in row {number} is missing")
    values: dict[str, Any] = {}
    for column in columns:
        cells = [row.get(column) for row in rows]
        if column in _TIMES:
            cells = [_time(name, column, number, cell) for number, cell in enumerate(cells)]
        values[column] = pd.Series(cells, dtype=object)
    return pd.DataFrame(values, columns=list(columns))


def _time(name: str, column: str, row: int, cell: object) -> pd.Timestamp:
    if not isinstance(cell, str):
        raise ValueError(f"{name}: {column} in row {row} is {cell!r}, not an ISO 8601 time")
    try:
        time = pd.Timestamp(cell)
    except ValueError as error:
        raise ValueError(f"{name}: {column} in row {row} is {cell!r}, not a time") from error
    if pd.isna(time):
        raise ValueError(f"{name}: {column} in row {row} is {cell!r}, not a time")
    return time


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = [str(name) for name in frame.columns]
    return [
        dict(zip(columns, map(_plain, row), strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
