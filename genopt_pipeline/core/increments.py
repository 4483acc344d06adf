"""From totals as observed to changes in windows, without inventing what was not observed.

Pure functions on frames; a missing reading stays missing and a gap stays a gap.
"""

from datetime import datetime, timedelta
from typing import Final

import pandas as pd

#: A count at a window's boundary may have been read this long before it, no longer.
BOUNDARY_TOLERANCE: Final = timedelta(minutes=30)
#: A post first seen later than this after posting has impressions of unknown windows.
FIRST_READING_TOLERANCE: Final = timedelta(hours=4)
#: Length of the slots in which one reading is due.
SLOT: Final = timedelta(minutes=10)
#: A post's exposure is credited for this long after posting.
CREDIT_HOURS: Final = 96.0


def boundary_count(counts: pd.DataFrame, at: datetime) -> tuple[int, datetime] | None:
    """Follower count that holds at the boundary ``at``: the last one read before it.

    ``counts`` is a frame [observed_at, followers_count], sorted by time. None where the last
    reading is older than ``BOUNDARY_TOLERANCE``: then the count at ``at`` is unknown. It depends
    on ``at`` alone, so neighbouring windows share their boundary and their changes telescope.
    """
    position = counts["observed_at"].searchsorted(pd.Timestamp(at), side="left")
    if position == 0:
        return None
    row = counts.iloc[int(position) - 1]
    observed_at = row["observed_at"].to_pydatetime()
    if at - observed_at > BOUNDARY_TOLERANCE:
        return None
    return int(row["followers_count"]), observed_at


def follower_delta(
    counts: pd.DataFrame, window_start: datetime, window_end: datetime, *, earliest: datetime
) -> dict[str, object]:
    """Net follower change of one window, as a row of ``follower_deltas``.

    Where the count at ``window_start`` is unknown, the change is counted from the last boundary
    before it (in steps of the window's length, not before ``earliest``) at which it is known: a
    missed window is merged into the next. Where the count at ``window_end`` is unknown the window
    is a gap: ``delta`` is None, with the reason.
    """
    length = window_end - window_start
    inside = counts[
        (counts["observed_at"] >= pd.Timestamp(window_start))
        & (counts["observed_at"] < pd.Timestamp(window_end))
    ]
    slots = ((inside["observed_at"] - pd.Timestamp(window_start)) // SLOT).nunique()
    row: dict[str, object] = {
        "window_start": window_start,
        "window_end": window_end,
        "delta": None,
        "covers_from": None,
        "followers_start": None,
        "followers_end": None,
        "observed_from": None,
        "observed_to": None,
        "readings": len(inside),
        "coverage": slots / (length / SLOT),
        "gap_reason": None,
    }
    end = boundary_count(counts, window_end)
    if end is None:
        row["gap_reason"] = "no follower count was read in the half hour before the window's end"
        return row
    covers_from = window_start
    start = boundary_count(counts, covers_from)
    while start is None and covers_from - length >= earliest:
        covers_from -= length
        start = boundary_count(counts, covers_from)
    if start is None:
        row["gap_reason"] = "no earlier follower count to compare with"
        return row
    return row | {
        "delta": end[0] - start[0],
        "covers_from": covers_from,
        "followers_start": start[0],
        "followers_end": end[0],
        "observed_from": start[1],
        "observed_to": end[1],
    }


def exposure_increments(readings: pd.DataFrame, window: timedelta) -> pd.DataFrame:
    """Impressions and profile clicks that each post gained in each window.

    Parameters
    ----------
    readings
        [post_id, generator_name, posted_at, observed_at, impressions, profile_clicks,
        platform_follows]: totals as observed, the last one of each post and window is enough;
        the three totals are nullable.
    window
        Length of the windows, which are aligned to midnight UTC.

    Returns
    -------
    pandas.DataFrame
        [post_id, generator_name, window_start, impressions, profile_clicks, platform_follows]:
        increments, not negative (counts can fall when the platform revises them; what was gained
        before is not gained again). A post first seen long after posting has no increment in the
        window of its first reading, since it is unknown when its impressions came; nor has one
        more than ``CREDIT_HOURS`` after posting.
    """
    columns = ["impressions", "profile_clicks", "platform_follows"]
    keys = ["post_id", "generator_name", "window_start"]
    if readings.empty:
        return pd.DataFrame(columns=[*keys, *columns])
    frame = readings.sort_values(["post_id", "observed_at"]).reset_index(drop=True)
    frame["window_start"] = frame["observed_at"].dt.floor(pd.Timedelta(window))
    frame = frame.drop_duplicates(["post_id", "window_start"], keep="last")
    for column in columns:
        totals = frame[column].astype("Float64").groupby(frame["post_id"]).cummax()
        before = totals.groupby(frame["post_id"]).transform(lambda values: values.ffill().shift())
        first = before.isna() & ~frame["post_id"].duplicated()
        fresh = frame["observed_at"] - frame["posted_at"] <= FIRST_READING_TOLERANCE
        frame[column] = (totals - before).mask(first & fresh, totals)
    age_hours = (frame["window_start"] - frame["posted_at"]).dt.total_seconds() / 3600
    kept = frame["impressions"].notna() & (age_hours < CREDIT_HOURS)
    return frame.loc[kept, [*keys, *columns]].reset_index(drop=True)
