"""Posts as they come, made into arrays, with what could not be used set aside by name.

Here: checks of the frame of posts that every policy reads. Not here: what a policy makes of the
posts, nor where they come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genopt_pipeline.core.policies.contract import ProposalInputError

REQUIRED_COLUMNS = ("post_id", "generator_name", "posted_at", "impressions", "followers")

#: A warning lists so many posts by name, and counts the others.
_NAMED = 5


@dataclass(frozen=True)
class PostArrays:
    """The usable posts of one account, arrays of shape (posts,), oldest first.

    generator: position in the sorted names. age_days: time since posting. impressions and
    followers: totals seen so far (followers may be fractional, and negative where the platform
    reports net figures). information: in (0, 1], how much of a counted follower a follower is.
    """

    generator: NDArray[np.int64]
    age_days: NDArray[np.float64]
    impressions: NDArray[np.float64]
    followers: NDArray[np.float64]
    information: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of posts."""
        return len(self.generator)

    def younger_than(self, days: float) -> "PostArrays":
        """The posts of the last so many days, the window closed at its start."""
        keep = self.age_days <= days
        return PostArrays(
            self.generator[keep],
            self.age_days[keep],
            self.impressions[keep],
            self.followers[keep],
            self.information[keep],
        )


def read_posts(
    posts: pd.DataFrame, names: Sequence[str], *, now: datetime
) -> tuple[PostArrays, tuple[str, ...]]:
    """Arrays of the usable posts, and a warning for every kind of post that was left out.

    Left out, never guessed: posts of unknown generators, of the future, without a time, without
    impressions or followers (not measured), with numbers that cannot be (text, infinite, negative
    impressions, information outside (0, 1]), and posts given twice with different counts. Exact
    repetitions count once.

    Raises
    ------
    ProposalInputError
        A column is missing, or times (``posted_at``, ``now``) have no time zone.
    """
    missing = [column for column in REQUIRED_COLUMNS if column not in posts.columns]
    if missing:
        raise ProposalInputError(f"posts lack the columns {', '.join(missing)}")
    if now.tzinfo is None:
        raise ProposalInputError("now has no time zone; give UTC")
    repeated = list(posts.columns[posts.columns.duplicated()])
    if repeated:
        raise ProposalInputError(f"posts have the columns {', '.join(map(str, repeated))} twice")
    ids = posts["post_id"].to_numpy(dtype=object)
    warnings: list[str] = []
    usable = np.ones(len(posts), dtype=np.bool_)

    def leave_out(bad: NDArray[np.bool_], why: str) -> None:
        bad = bad & usable
        if bad.any():
            warnings.append(f"left out {_some(ids[bad])}: {why}")
            usable[bad] = False

    position = {name: k for k, name in enumerate(names)}
    given_names = posts["generator_name"].to_numpy(dtype=object)
    generator = np.array(
        [position.get(name, -1) if isinstance(name, str) else -1 for name in given_names],
        dtype=np.int64,
    )
    unknown = generator < 0
    if unknown.any():
        strange = sorted({str(name) for name in given_names[unknown]})
        leave_out(unknown, f"unknown generator {', '.join(strange[:_NAMED])}")
    age_days = _age_days(posts["posted_at"], now)
    leave_out(~np.isfinite(age_days), "no time of posting")
    leave_out(age_days < 0, "posted after now")
    impressions, odd = _numbers(posts["impressions"])
    leave_out(odd, "impressions are not a number")
    followers, odd = _numbers(posts["followers"])
    leave_out(odd, "followers are not a number")
    leave_out(np.isinf(impressions) | np.isinf(followers), "infinite counts")
    leave_out(impressions < 0, "negative impressions")
    unmeasured = usable & (np.isnan(impressions) | np.isnan(followers))
    usable[unmeasured] = False  # not measured yet: no warning, and no zero either
    information = np.ones(len(posts))
    if "information" in posts.columns:
        given, odd = _numbers(posts["information"])
        information = np.where(np.isnan(given) & ~odd, 1.0, given)
        leave_out(odd | ~((information > 0) & (information <= 1)), "information outside (0, 1]")
    usable = _without_repetitions(
        ids, (generator, age_days, impressions, followers, information), usable, leave_out
    )
    order = np.flatnonzero(usable)
    # one order whatever the order of the rows, so that sums are the same to the last digit
    order = order[
        np.lexsort(
            (
                information[order],
                followers[order],
                impressions[order],
                generator[order],
                -age_days[order],
            )
        )
    ]
    arrays = PostArrays(
        generator[order],
        age_days[order],
        impressions[order],
        followers[order],
        information[order],
    )
    return arrays, tuple(warnings)


def _without_repetitions(
    ids: NDArray[Any],
    columns: tuple[NDArray[Any], ...],
    usable: NDArray[np.bool_],
    leave_out: Any,
) -> NDArray[np.bool_]:
    codes, distinct = pd.factorize(ids, use_na_sentinel=False)
    counts = np.bincount(codes[usable], minlength=len(distinct))
    if counts.max(initial=0) <= 1:
        return usable
    first = np.full(len(counts), -1)
    rows = np.flatnonzero(usable)
    first[codes[rows][::-1]] = rows[::-1]
    original = first[codes]
    differs = np.zeros(len(ids), dtype=np.bool_)
    for column in columns:
        differs |= usable & (column != column[original])
    leave_out(np.isin(codes, codes[differs]), "given more than once with different values")
    usable[usable & (original != np.arange(len(ids)))] = False
    return usable


def _age_days(posted_at: "pd.Series[Any]", now: datetime) -> NDArray[np.float64]:
    if posted_at.dtype == object or pd.api.types.is_string_dtype(posted_at.dtype):
        posted_at = pd.to_datetime(posted_at, errors="coerce", utc=True)
    if not isinstance(posted_at.dtype, pd.DatetimeTZDtype):
        if len(posted_at) == 0 or posted_at.isna().all():
            return np.full(len(posted_at), np.nan)
        raise ProposalInputError("posted_at has no time zone; give UTC")
    age_ns = (pd.Timestamp(now) - posted_at).to_numpy(dtype="timedelta64[ns]")
    return np.asarray(age_ns / np.timedelta64(1, "D"), dtype=np.float64)


def _numbers(column: "pd.Series[Any]") -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values as floats (NaN where null), and which were given but are no numbers."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan), np.ones(len(column), dtype=np.bool_)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(
            len(column), dtype=np.bool_
        )
    text = np.array([isinstance(value, str | bool) for value in column], dtype=np.bool_)
    values = pd.to_numeric(column, errors="coerce")
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    odd = text | (column.notna().to_numpy() & np.isnan(numbers))
    return np.where(odd, np.nan, numbers), odd


def _some(ids: NDArray[Any]) -> str:
    named = ", ".join(str(post_id) for post_id in ids[:_NAMED])
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"post{'s' if len(ids) > 1 else ''} {named}{more}"
