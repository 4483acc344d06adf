"""From two data frames to arrays, or an error that names column and row.

Here: validation, the choice of exposure, and the mapping of exposures to the windows that cover
them. Not here: the model (``lag``, ``fit``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from genopt_pipeline.core.attribution.config import AttributionConfig

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DELTA_COLUMNS: Final = ("window_start", "window_end", "delta")
EXPOSURE_COLUMNS: Final = ("post_id", "generator_name", "window_start", "impressions")
#: nullable, and null where the column is absent
OPTIONAL_COLUMNS: Final = ("profile_clicks", "platform_follows")

_HOUR: Final = pd.Timedelta(hours=1)
#: prior weight, in follows, of a post's platform follows against its other exposure
_PLATFORM_SHAPE: Final = 1.0
#: less exposure than this tells nothing of the share that the platform sees
_LEAST_EXPOSURE: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One account's counts as arrays: J windows in order of time, P posts and K generators by name.

    Hours count from the first window's start. Increments are the N exposures that a window covers.
    """

    origin: pd.Timestamp
    window_start: pd.DatetimeIndex
    start_hours: FloatArray
    end_hours: FloatArray
    delta: FloatArray
    posts: Sequence[object]
    generators: Sequence[object]
    generator_of: IntArray
    #: hours of each post's first exposure, covered or not
    first_hours: FloatArray
    #: whether any of the post's exposures lies in a window
    covered: BoolArray
    #: increments: post, window, start and end of the time they were counted in, and their amount
    increment_post: IntArray
    increment_window: IntArray
    increment_start: FloatArray
    increment_end: FloatArray
    amount: FloatArray
    #: their impressions, whatever the exposure is measured in
    increment_impressions: FloatArray
    #: covered impressions of each post, for rates per thousand of them
    impressions: FloatArray
    #: covered profile clicks of each post, NaN where any of them is unknown
    profile_clicks: FloatArray
    exposure_kind: str
    uncovered_rows: int
    uncovered_impressions: float

    @property
    def hours(self) -> FloatArray:
        """Length of each window in hours."""
        return self.end_hours - self.start_hours


def build_problem(
    deltas: pd.DataFrame, exposures: pd.DataFrame, config: AttributionConfig
) -> Problem:
    """Check both frames and arrange them.

    Raises
    ------
    ValueError
        Naming the frame, the column and the row (its position) at fault.
    """
    start, end, delta = _read_deltas(deltas)
    order = np.argsort(start.asi8, kind="stable")
    start, end, delta = start[order], end[order], delta[order]
    overlap = np.flatnonzero(start[1:] < end[:-1])
    if overlap.size:
        j = int(overlap[0])
        raise ValueError(
            f"deltas: window_start in row {order[j + 1]} ({start[j + 1]}) lies before the "
            f"window_end in row {order[j]} ({end[j]}): windows must not overlap"
        )
    origin = start[0]
    start_hours = _hours(start, origin)
    end_hours = _hours(end, origin)

    columns = _read_exposures(exposures)
    seen = _hours(columns.window_start, origin)
    posts, post = np.unique(columns.post_id, return_inverse=True)
    generators, generator = np.unique(columns.generator_name, return_inverse=True)
    _refuse_duplicates(columns, post, generator)
    generator_of = np.zeros(len(posts), dtype=np.int64)
    generator_of[post] = generator
    return arrange_problem(
        start,
        Windows(start_hours, end_hours, delta),
        Increments(
            post=post.astype(np.int64),
            seen_hours=seen,
            impressions=columns.impressions,
            profile_clicks=columns.profile_clicks,
            platform_follows=columns.platform_follows,
        ),
        posts=list(posts),
        generators=list(generators),
        generator_of=generator_of,
        config=config,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Changes of the follower count in J windows that follow each other, (J,) each."""

    start_hours: FloatArray
    end_hours: FloatArray
    delta: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Increments:
    """What posts gained, one row for each post and time; NaN: unknown."""

    post: IntArray
    seen_hours: FloatArray
    impressions: FloatArray
    profile_clicks: FloatArray
    platform_follows: FloatArray


def arrange_problem(
    window_start: pd.DatetimeIndex,
    windows: Windows,
    columns: Increments,
    *,
    posts: Sequence[object],
    generators: Sequence[object],
    generator_of: IntArray,
    config: AttributionConfig,
) -> Problem:
    """The problem of arrays that are in order and free of errors; nothing is checked."""
    start_hours, end_hours = windows.start_hours, windows.end_hours
    post, seen = columns.post, columns.seen_hours
    first_hours = np.full(len(posts), np.inf)
    np.minimum.at(first_hours, post, seen)

    window = np.searchsorted(start_hours, seen, side="right") - 1
    inside = (window >= 0) & (seen < end_hours[np.maximum(window, 0)])
    covered = np.zeros(len(posts), dtype=np.bool_)
    covered[post[inside]] = True
    amount, kind = _choose_exposure(columns, post, len(posts), config)

    canonical = np.lexsort((post[inside], seen[inside]))
    kept = np.flatnonzero(inside)[canonical]
    lasts_until = np.minimum(seen[kept] + config.exposure_window_hours, end_hours[window[kept]])
    return Problem(
        origin=window_start[0],
        window_start=window_start,
        start_hours=start_hours,
        end_hours=end_hours,
        delta=windows.delta,
        posts=posts,
        generators=generators,
        generator_of=generator_of,
        first_hours=first_hours,
        covered=covered,
        increment_post=post[kept],
        increment_window=window[kept],
        increment_start=seen[kept],
        increment_end=lasts_until,
        amount=amount[kept],
        increment_impressions=columns.impressions[kept],
        impressions=np.bincount(post[kept], columns.impressions[kept], len(posts)).astype(float),
        profile_clicks=np.bincount(post[kept], columns.profile_clicks[kept], len(posts)).astype(
            float
        ),
        exposure_kind=kind,
        uncovered_rows=int((~inside).sum()),
        uncovered_impressions=float(columns.impressions[~inside].sum()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Exposures:
    post_id: npt.NDArray[np.object_]
    generator_name: npt.NDArray[np.object_]
    window_start: pd.DatetimeIndex
    impressions: FloatArray
    profile_clicks: FloatArray
    platform_follows: FloatArray


def _read_deltas(frame: pd.DataFrame) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex, FloatArray]:
    _require_columns(frame, "deltas", DELTA_COLUMNS)
    if frame.empty:
        raise ValueError("deltas: no rows; there is nothing to attribute without a follower change")
    _one_account(frame, "deltas")
    start = _times(frame, "deltas", "window_start")
    end = _times(frame, "deltas", "window_end")
    backwards = np.flatnonzero(end <= start)
    if backwards.size:
        row = int(backwards[0])
        raise ValueError(
            f"deltas: window_end in row {row} ({end[row]}) is not after window_start ({start[row]})"
        )
    return start, end, _numbers(frame, "deltas", "delta")


def _read_exposures(frame: pd.DataFrame) -> _Exposures:
    _require_columns(frame, "exposures", EXPOSURE_COLUMNS)
    _one_account(frame, "exposures")
    values = {
        name: _numbers(frame, "exposures", name, minimum=0.0, nullable=True)
        if name in frame.columns
        else np.full(len(frame), np.nan)
        for name in OPTIONAL_COLUMNS
    }
    return _Exposures(
        post_id=_keys(frame, "post_id"),
        generator_name=_keys(frame, "generator_name"),
        window_start=_times(frame, "exposures", "window_start"),
        impressions=_numbers(frame, "exposures", "impressions", minimum=0.0),
        profile_clicks=values["profile_clicks"],
        platform_follows=values["platform_follows"],
    )


def _require_columns(frame: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"{name}: column {', '.join(missing)} is missing")
    doubled = [column for column in columns if list(frame.columns).count(column) > 1]
    if doubled:
        raise ValueError(f"{name}: column {', '.join(doubled)} occurs twice")


def _one_account(frame: pd.DataFrame, name: str) -> None:
    if "account_id" in frame.columns and frame["account_id"].nunique(dropna=False) > 1:
        raise ValueError(f"{name}: column account_id holds several accounts; attribute one at once")


def _keys(frame: pd.DataFrame, column: str) -> npt.NDArray[np.object_]:
    values = frame[column].to_numpy(dtype=object)
    null = np.flatnonzero(frame[column].isna().to_numpy())
    if null.size:
        raise ValueError(f"exposures: {column} in row {int(null[0])} is null")
    kinds = {type(value) for value in values}
    if len(kinds) > 1 or not all(issubclass(kind, str | int | np.integer) for kind in kinds):
        row = next(
            i
            for i, value in enumerate(values)
            if type(value) is not type(values[0]) or not isinstance(value, str | int | np.integer)
        )
        raise ValueError(
            f"exposures: {column} in row {row} is {values[row]!r}; "
            "keys must be all text or all whole numbers"
        )
    return values


def _times(frame: pd.DataFrame, name: str, column: str) -> pd.DatetimeIndex:
    series = frame[column]
    if len(frame) == 0:
        return pd.DatetimeIndex([], tz="UTC").as_unit("us")
    if series.dtype == object:
        for row, value in enumerate(series):
            if not isinstance(value, pd.Timestamp) and not hasattr(value, "utcoffset"):
                raise ValueError(f"{name}: {column} in row {row} is {value!r}, not a time")
            if value is pd.NaT:
                raise ValueError(f"{name}: {column} in row {row} is null")
            if value.utcoffset() is None:
                raise ValueError(f"{name}: {column} in row {row} ({value}) has no time zone")
        series = pd.to_datetime(series, utc=True)
    if not isinstance(series.dtype, pd.DatetimeTZDtype):
        if np.issubdtype(np.asarray(series).dtype, np.datetime64):
            raise ValueError(f"{name}: {column} in row 0 ({series.iloc[0]}) has no time zone")
        raise ValueError(f"{name}: {column} in row 0 is {series.iloc[0]!r}, not a time")
    null = np.flatnonzero(series.isna().to_numpy())
    if null.size:
        raise ValueError(f"{name}: {column} in row {int(null[0])} is null")
    return pd.DatetimeIndex(series).tz_convert("UTC").as_unit("us")


def _numbers(
    frame: pd.DataFrame,
    name: str,
    column: str,
    *,
    minimum: float | None = None,
    nullable: bool = False,
) -> FloatArray:
    series = frame[column]
    if series.dtype == object:
        for row, value in enumerate(series):
            null = value is None or value is pd.NA or (isinstance(value, float) and value != value)  # noqa: PLR0124  # NaN is the only value unlike itself
            number = isinstance(value, int | float | np.integer | np.floating)
            if not null and (not number or isinstance(value, bool)):
                raise ValueError(f"{name}: {column} in row {row} is {value!r}, not a number")
    elif not pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_bool_dtype(
        series.dtype
    ):
        shown = f" (row 0 is {series.iloc[0]!r})" if len(series) else ""
        raise ValueError(f"{name}: {column} has type {series.dtype}, not numbers{shown}")
    elif pd.api.types.is_complex_dtype(series.dtype):
        raise ValueError(f"{name}: {column} has complex numbers (row 0 is {series.iloc[0]!r})")
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isinf(values) if nullable else ~np.isfinite(values)
    if minimum is not None:
        bad |= values < minimum
    rows = np.flatnonzero(bad)
    if rows.size:
        row = int(rows[0])
        wanted = "a finite number" if minimum is None else "a finite number, zero or more"
        raise ValueError(f"{name}: {column} in row {row} is {values[row]}, not {wanted}")
    return values


def _refuse_duplicates(columns: _Exposures, post: IntArray, generator: IntArray) -> None:
    if not len(post):
        return
    pairs = pd.DataFrame({"post": post, "time": columns.window_start.asi8})
    doubled = np.flatnonzero(pairs.duplicated().to_numpy())
    if doubled.size:
        row = int(doubled[0])
        raise ValueError(
            f"exposures: window_start in row {row} ({columns.window_start[row]}) occurs twice "
            f"for post_id {columns.post_id[row]!r}"
        )
    first = np.full(int(post.max()) + 1, -1, dtype=np.int64)
    first[post[::-1]] = generator[::-1]
    other = np.flatnonzero(generator != first[post])
    if other.size:
        row = int(other[0])
        raise ValueError(
            f"exposures: generator_name in row {row} is {columns.generator_name[row]!r}, but "
            f"post_id {columns.post_id[row]!r} has another generator before"
        )


def exposure_kind(exposures: pd.DataFrame, config: AttributionConfig = AttributionConfig()) -> str:
    """What ``attribute_followers`` would measure these exposures in.

    Raises
    ------
    ValueError
        A column that is wanted has no value, or has something else than numbers.
    """
    profile_clicks, platform_follows = (
        _numbers(exposures, "exposures", name, minimum=0.0, nullable=True)
        if name in exposures.columns
        else np.zeros(0)
        for name in OPTIONAL_COLUMNS
    )
    return _kind(profile_clicks, platform_follows, config)


def _kind(
    profile_clicks: FloatArray, platform_follows: FloatArray, config: AttributionConfig
) -> str:
    kind: str = config.exposure
    has_clicks = bool((profile_clicks > 0.0).any())
    has_platform = bool((platform_follows > 0.0).any())
    for wanted, present in (("profile_clicks", has_clicks), ("platform_follows", has_platform)):
        if kind == wanted and not present:
            raise ValueError(f"exposures: {wanted} is wanted as exposure, but no row has any")
    if kind == "auto":
        kind = "profile_clicks" if has_clicks else "impressions"
        return f"{kind}+platform_follows" if has_platform else kind
    if kind == "platform_follows":
        return "profile_clicks+platform_follows" if has_clicks else "impressions+platform_follows"
    return kind


def _choose_exposure(
    columns: Increments, post: IntArray, n_posts: int, config: AttributionConfig
) -> tuple[FloatArray, str]:
    """The amount of exposure of each row, and the name of what it is measured in.

    Clicks where they are known, else impressions times the account's clicks per impression; never
    the sum of two. Platform follows see only a small share of all follows, so they reweight a post
    rather than replace its exposure x: with c the visible share and y the post's platform follows,
    x·(s + y)/(s + c·x) is the posterior mean under a gamma prior of shape s, and gives back
    c⁻¹·y when y is large. It leaves the account's total exposure unbiased.
    """
    kind = _kind(columns.profile_clicks, columns.platform_follows, config)
    amount = columns.impressions.copy()
    if kind.startswith("profile_clicks"):
        known = np.isfinite(columns.profile_clicks)
        shown = float(columns.impressions[known].sum())
        ratio = (
            float(columns.profile_clicks[known].sum()) / shown if shown >= _LEAST_EXPOSURE else 0.0
        )
        amount = np.where(known, columns.profile_clicks, ratio * columns.impressions)
    if kind.endswith("platform_follows"):
        known = np.isfinite(columns.platform_follows)
        visible = np.bincount(post[known], columns.platform_follows[known], n_posts)
        base = np.bincount(post[known], amount[known], n_posts)
        share = visible.sum() / base.sum() if base.sum() >= _LEAST_EXPOSURE else 0.0
        amount = amount * ((_PLATFORM_SHAPE + visible) / (_PLATFORM_SHAPE + share * base))[post]
    return amount, kind


def _hours(times: pd.DatetimeIndex, origin: pd.Timestamp) -> FloatArray:
    return np.asarray((times - origin) / _HOUR, dtype=np.float64)
