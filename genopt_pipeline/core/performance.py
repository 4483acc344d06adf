"""The per-generator table of a look-back: posts, followers, F/1K with interval, tier, rank, trend.

What belongs here: sums over posts as seen at a stated time, and what follows from them. What does
not: where posts and their followers come from, the shrunken estimates that the policies use, and
weights.

Three states are kept apart. A generator without posts has ``posts_count`` 0 and no figures. One
whose posts were not measured has posts and no figures. One whose posts earned nobody has an F/1K of
0. Unknown is NaN or NA, never 0.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from genopt_pipeline.core.intervals import (
    Dispersion,
    FloatArray,
    Totals,
    fit_dispersion,
    rate_interval,
)
from genopt_pipeline.core.tiers import ONE_FOLLOWER, absolute_tier, relative_tier
from genopt_pipeline.core.trends import Trend, TrendConfig, compare_periods

#: The look-backs of the report, shortest first.
LOOKBACKS: Final[Mapping[str, timedelta]] = MappingProxyType(
    {
        "24h": timedelta(hours=24),
        "3d": timedelta(days=3),
        "7d": timedelta(days=7),
        "14d": timedelta(days=14),
        "30d": timedelta(days=30),
    }
)

#: What a frame of posts must have. ``views`` and ``followers_variance`` may be left out.
POST_COLUMNS: Final = (
    "decision_id",
    "generator_name",
    "posted_at",
    "impressions",
    "likes",
    "retweets",
    "replies",
    "followers",
    "quality_score",
)
_COUNTS: Final = ("impressions", "likes", "retweets", "replies")

#: The columns of the table, in order.
SUMMARY_COLUMNS: Final = (
    "generator_name",
    "period_start",
    "period_end",
    "posts_count",
    "posts_measured",
    "impressions",
    "followers_gained",
    "f_per_1k",
    "f_per_1k_low",
    "f_per_1k_high",
    "engagement_rate",
    "total_likes",
    "total_retweets",
    "total_replies",
    "total_views",
    "avg_likes",
    "avg_retweets",
    "avg_replies",
    "avg_quality_score",
    "viral_posts",
    "failed_posts",
    "tier",
    "relative_tier",
    "rank",
    "trend",
    "trend_ratio",
    "trend_p_value",
    "last_posted_at",
)
_NULLABLE_INTEGERS: Final = (
    "impressions",
    "total_likes",
    "total_retweets",
    "total_replies",
    "total_views",
    "viral_posts",
    "failed_posts",
    "rank",
)

#: Measured posts from which on a generator can be top or bottom performer.
PERFORMER_POSTS: Final = 3


@dataclass(frozen=True)
class PerformanceConfig:
    """Definitions behind the table.

    ``level`` is that of the interval of F/1K. A post is viral above ``viral_f_per_1k`` with at
    least one follower, failed with fewer than ``ONE_FOLLOWER``; either only above
    ``judged_impressions``, since the F/1K of a post that hardly anyone saw is chance.
    Followers come later than impressions, so young posts look worse than they are; the trend
    corrects exposure by (1 - exp(-age/followers τ)) / (1 - exp(-age/impressions τ)).
    """

    level: float = 0.90
    viral_f_per_1k: float = 5.0
    judged_impressions: int = 100
    impressions_tau_hours: float = 8.0
    followers_tau_hours: float = 16.0
    trend: TrendConfig = field(default_factory=TrendConfig)

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level!r}; it must be in (0, 1)")
        if not (self.impressions_tau_hours > 0 and self.followers_tau_hours > 0):
            raise ValueError("the time constants of impressions and followers must be positive")


@dataclass(frozen=True)
class AccountTotals:
    """The account over a look-back: sums over all generators; None where nothing is measured."""

    posts_count: int
    posts_measured: int
    impressions: int | None
    followers_gained: float | None
    f_per_1k: float | None


@dataclass(frozen=True)
class Performers:
    """The generators with the highest and the lowest F/1K; all None if none can be judged.

    With a single judged generator it is both.
    """

    top: str | None = None
    top_f_per_1k: float | None = None
    bottom: str | None = None
    bottom_f_per_1k: float | None = None


def summarize(
    posts: pd.DataFrame,
    generators: Iterable[str],
    *,
    now: datetime,
    lookback: timedelta | None = LOOKBACKS["7d"],
    arm: str | None = None,
    config: PerformanceConfig | None = None,
) -> pd.DataFrame:
    """Return the performance of every registered generator over ``[now - lookback, now)``.

    Parameters
    ----------
    posts
        One row a post with totals as seen at ``now``: ``POST_COLUMNS``, and ``experiment_arm``
        if ``arm`` is given. Counts, ``followers`` (of the chosen estimator) and ``quality_score``
        are nullable; ``followers_variance`` (optional, nullable) is the variance of attributed
        followers; ``views`` (optional) stands in for impressions in ``total_views``. The trend
        compares with the period of the same length before the look-back, so the frame should
        reach back twice the look-back; without it the trend is ``not_enough_data``. Posts outside
        both periods are ignored, and so are posts without a generator, which belong to nobody.
    generators
        All registered names; one row each, in sorted order, whether or not it has posts.
    now
        End of the period, UTC.
    lookback
        Length of the period; None for the whole life-time (then there is no trend).
    arm
        Only the posts of this experiment arm.

    Returns
    -------
    DataFrame
        ``SUMMARY_COLUMNS``. ``impressions``, ``followers_gained`` and F/1K are over the measured
        posts, those whose impressions and followers are both known; ``engagement_rate`` is the
        ratio of the sums of (likes + 2 retweets + 3 replies) and impressions over the posts
        where all four are known; averages are over the posts where the count is known. Rank is
        competition ranking by F/1K: ties share a rank, the next rank is skipped, unknown has none.

    Raises
    ------
    ValueError
        A column is missing, a name is not registered, a post appears twice, a time has no zone, a
        count is negative or infinite, a name is not unique, or the look-back is not positive.
    """
    config = config or PerformanceConfig()
    names = sorted(generators)
    frame = _checked(posts, names, now=now, arm=arm)
    if lookback is not None and lookback <= timedelta(0):
        raise ValueError(f"lookback is {lookback}; it must be positive")
    end = pd.Timestamp(now)
    start = None if lookback is None else end - lookback
    posts_by_name = _by_generator(frame, end)
    current: dict[str, _Columns] = {}
    before: dict[str, _Columns] = {}
    for name, columns in posts_by_name.items():
        age = columns["age_seconds"]
        if lookback is None:
            current[name] = _take(columns, age > 0)
            continue
        length = lookback.total_seconds()
        current[name] = _take(columns, (age > 0) & (age <= length))
        before[name] = _take(columns, (age > length) & (age <= 2 * length))

    now_by_name = _measured_by_generator(current, config)
    before_by_name = _measured_by_generator(before, config)
    dispersion = fit_dispersion((posts.followers, posts.exposure) for posts in now_by_name.values())
    both = fit_dispersion(
        (posts.followers, posts.trend_exposure)
        for posts in (*now_by_name.values(), *before_by_name.values())
    )
    rows = []
    for name in names:
        row = _row(current.get(name), now_by_name.get(name), dispersion=dispersion, config=config)
        if "last" in row:
            row["last_posted_at"] = frame["posted_at"].iloc[row.pop("last")]
        trend = _trend(now_by_name.get(name), before_by_name.get(name), both.mean, config)
        rows.append(
            {
                "generator_name": name,
                "period_start": pd.NaT if start is None else start,
                "period_end": end,
                **row,
                "trend": trend.direction,
                "trend_ratio": trend.ratio,
                "trend_p_value": trend.p_value,
            }
        )
    return _ranked(_typed(pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))))


def summarize_lookbacks(
    posts: pd.DataFrame,
    generators: Iterable[str],
    *,
    now: datetime,
    lookbacks: Mapping[str, timedelta] = LOOKBACKS,
    arm: str | None = None,
    config: PerformanceConfig | None = None,
) -> pd.DataFrame:
    """Return the tables of several look-backs beneath each other, with a first column ``lookback``.

    ``posts`` should reach back twice the longest look-back; see ``summarize``.
    """
    names = list(generators)
    tables = []
    for label, lookback in lookbacks.items():
        table = summarize(posts, names, now=now, lookback=lookback, arm=arm, config=config)
        table.insert(0, "lookback", label)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def account_totals(summary: pd.DataFrame) -> AccountTotals:
    """Return the sums over all generators of one table of ``summarize``."""
    measured = int(summary["posts_measured"].sum())
    impressions = followers = f_per_1k = None
    if measured:
        impressions = int(summary["impressions"].sum())
        followers = float(summary["followers_gained"].sum())
        f_per_1k = 1000.0 * followers / impressions if impressions else None
    return AccountTotals(
        posts_count=int(summary["posts_count"].sum()),
        posts_measured=measured,
        impressions=impressions,
        followers_gained=followers,
        f_per_1k=f_per_1k,
    )


def performers(summary: pd.DataFrame, *, min_posts: int = PERFORMER_POSTS) -> Performers:
    """Return the top and the bottom performer among those with ``min_posts`` measured posts.

    Ties go to the first name.
    """
    judged = summary[(summary["posts_measured"] >= min_posts) & summary["f_per_1k"].notna()]
    if judged.empty:
        return Performers()
    top = judged.sort_values(["f_per_1k", "generator_name"], ascending=[False, True]).iloc[0]
    bottom = judged.sort_values(["f_per_1k", "generator_name"]).iloc[0]
    return Performers(
        top=str(top["generator_name"]),
        top_f_per_1k=float(top["f_per_1k"]),
        bottom=str(bottom["generator_name"]),
        bottom_f_per_1k=float(bottom["f_per_1k"]),
    )


@dataclass(frozen=True)
class _Measured:
    """The measured posts of one generator; exposure in thousands of impressions."""

    followers: FloatArray
    variance: FloatArray
    impressions: FloatArray
    exposure: FloatArray
    trend_exposure: FloatArray


def _checked(
    posts: pd.DataFrame, names: list[str], *, now: datetime, arm: str | None
) -> pd.DataFrame:
    if now.tzinfo is None:
        raise ValueError("now has no time zone; all times are UTC")
    if len(set(names)) != len(names):
        raise ValueError("a generator is registered twice")
    needed = [*POST_COLUMNS, *(["experiment_arm"] if arm is not None else [])]
    missing = [column for column in needed if column not in posts.columns]
    if missing:
        raise ValueError(f"the frame of posts lacks {', '.join(missing)}")
    frame = posts if arm is None else posts[posts["experiment_arm"] == arm]
    frame = frame[frame["generator_name"].notna()].copy()
    if not isinstance(frame["posted_at"].dtype, pd.DatetimeTZDtype):
        if len(frame):
            raise ValueError("posted_at has no time zone; all times are UTC")
        frame["posted_at"] = pd.to_datetime(frame["posted_at"], utc=True)
    if frame["posted_at"].isna().any():
        raise ValueError("posted_at is null for a post; only posts that went live are judged")
    unknown = sorted(set(frame["generator_name"]) - set(names))
    if unknown:
        raise ValueError(f"posts name generators that are not registered: {', '.join(unknown)}")
    twice = frame["decision_id"][frame["decision_id"].duplicated()]
    if len(twice):
        raise ValueError(f"{len(twice)} posts appear twice, the first is {twice.iloc[0]!r}")
    for column in (*_COUNTS, "followers", "followers_variance", "views", "quality_score"):
        if column not in frame.columns:
            frame[column] = np.nan
        frame[column] = (
            pd.to_numeric(frame[column])
            .astype("Float64")
            .to_numpy(dtype=np.float64, na_value=np.nan)
        )
        if np.isinf(frame[column]).any():
            raise ValueError(f"{column} is infinite for a post")
    for column in (*_COUNTS, "followers_variance", "views"):
        if (frame[column] < 0).any():
            raise ValueError(f"{column} is negative for a post")
    # Sums of floats depend on their order; one order makes the result depend on the posts alone.
    return frame.sort_values(["posted_at", "decision_id"], kind="stable")


#: Columns of one generator's posts as arrays, (posts,), oldest first; NaN is unknown.
_Columns = Mapping[str, FloatArray]
_NUMBERS: Final = (*_COUNTS, "views", "followers", "followers_variance", "quality_score")


def _by_generator(frame: pd.DataFrame, end: pd.Timestamp) -> dict[str, _Columns]:
    """The posts of each generator, in their order: pandas is slow on many small groups."""
    columns = {name: frame[name].to_numpy(dtype=np.float64) for name in _NUMBERS}
    columns["age_seconds"] = (
        (end - frame["posted_at"]).dt.total_seconds().to_numpy(dtype=np.float64)
    )
    columns["position"] = np.arange(len(frame), dtype=np.float64)
    names = frame["generator_name"].to_numpy(dtype=object)
    return {str(name): _take(columns, names == name) for name in pd.unique(names)}


def _take(columns: _Columns, keep: npt.NDArray[np.bool_]) -> _Columns:
    return {name: values[keep] for name, values in columns.items()}


def _measured_by_generator(
    by_name: Mapping[str, _Columns], config: PerformanceConfig
) -> dict[str, _Measured]:
    result = {}
    for name in sorted(by_name):
        known = ~np.isnan(by_name[name]["impressions"]) & ~np.isnan(by_name[name]["followers"])
        if not known.any():
            continue
        posts = _take(by_name[name], known)
        exposure = posts["impressions"] / 1000.0
        age_hours = posts["age_seconds"] / 3600.0
        maturity = np.expm1(-age_hours / config.followers_tau_hours) / np.expm1(
            -age_hours / config.impressions_tau_hours
        )
        result[name] = _Measured(
            followers=posts["followers"],
            variance=np.nan_to_num(posts["followers_variance"], nan=0.0),
            impressions=posts["impressions"],
            exposure=exposure,
            trend_exposure=exposure * maturity,
        )
    return result


def _sum(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else math.nan


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _row(
    posts: _Columns | None,
    measured: _Measured | None,
    *,
    dispersion: Dispersion,
    config: PerformanceConfig,
) -> dict[str, Any]:
    if posts is None or not len(posts["impressions"]):
        return {"posts_count": 0, "posts_measured": 0}
    views = np.where(np.isnan(posts["views"]), posts["impressions"], posts["views"])
    row: dict[str, Any] = {
        "posts_count": len(views),
        "posts_measured": 0,
        "engagement_rate": _engagement_rate(posts),
        "total_likes": _sum(posts["likes"]),
        "total_retweets": _sum(posts["retweets"]),
        "total_replies": _sum(posts["replies"]),
        "total_views": _sum(views),
        "avg_likes": _mean(posts["likes"]),
        "avg_retweets": _mean(posts["retweets"]),
        "avg_replies": _mean(posts["replies"]),
        "avg_quality_score": _mean(posts["quality_score"]),
        # posts are in the order of time; where its latest one is in the frame
        "last": int(posts["position"][-1]),
    }
    if measured is None:
        return row
    totals = Totals.of(measured.followers, measured.exposure, measured.variance)
    low, high = rate_interval(totals, dispersion, level=config.level)
    impressions = float(measured.impressions.sum())
    f_per_1k = 1000.0 * totals.followers / impressions if impressions > 0 else math.nan
    judged = measured.impressions > config.judged_impressions
    # Multiplied out, and from whole impressions, so that a post or a sum at exactly 5 is not above.
    per_post_is_viral = 1000.0 * measured.followers > config.viral_f_per_1k * measured.impressions
    viral = judged & per_post_is_viral & (measured.followers >= 1.0)
    failed = judged & (measured.followers < ONE_FOLLOWER)
    return row | {
        "posts_measured": totals.posts,
        "impressions": impressions,
        "followers_gained": totals.followers,
        "f_per_1k": f_per_1k,
        "f_per_1k_low": low,
        "f_per_1k_high": high,
        "viral_posts": int(viral.sum()),
        "failed_posts": int(failed.sum()),
        "tier": absolute_tier(f_per_1k, posts_measured=totals.posts, followers=totals.followers),
    }


def _engagement_rate(posts: _Columns) -> float:
    engagements = posts["likes"] + 2 * posts["retweets"] + 3 * posts["replies"]
    complete = ~np.isnan(engagements + posts["impressions"])
    impressions = float(posts["impressions"][complete].sum())
    if impressions <= 0:
        return math.nan
    return float(engagements[complete].sum()) / impressions


def _trend(
    recent: _Measured | None,
    earlier: _Measured | None,
    dispersion: float,
    config: PerformanceConfig,
) -> Trend:
    if recent is None or earlier is None:
        return Trend("not_enough_data", None, None)
    return compare_periods(
        Totals.of(recent.followers, recent.trend_exposure, recent.variance),
        Totals.of(earlier.followers, earlier.trend_exposure, earlier.variance),
        dispersion=dispersion,
        config=config.trend,
    )


def _ranked(summary: pd.DataFrame) -> pd.DataFrame:
    account = account_totals(summary)
    summary["relative_tier"] = pd.Series(
        [
            relative_tier(
                f_per_1k,
                f_per_1k_high=high,
                account_f_per_1k=account.f_per_1k,
                posts_measured=int(posts),
            )
            for f_per_1k, high, posts in zip(
                summary["f_per_1k"],
                summary["f_per_1k_high"],
                summary["posts_measured"],
                strict=True,
            )
        ],
        index=summary.index,
        dtype=object,
    )
    # Rates that differ only by the rounding of their sums are equal.
    comparable = summary["f_per_1k"].map(lambda rate: float(f"{rate:.12g}"))
    summary["rank"] = comparable.rank(method="min", ascending=False).astype("Int64")
    return summary


def _typed(summary: pd.DataFrame) -> pd.DataFrame:
    for column in _NULLABLE_INTEGERS:
        summary[column] = pd.to_numeric(summary[column]).astype("Float64").astype("Int64")
    for column in ("posts_count", "posts_measured"):
        summary[column] = summary[column].astype("int64")
    for column in ("period_start", "period_end", "last_posted_at"):
        summary[column] = pd.to_datetime(summary[column], utc=True)
    for column in ("generator_name", "tier", "relative_tier", "trend"):
        values = summary[column].astype(object)
        summary[column] = values.where(values.notna(), None)
    rest = set(SUMMARY_COLUMNS).difference(
        _NULLABLE_INTEGERS,
        ("posts_count", "posts_measured", "period_start", "period_end", "last_posted_at"),
        ("generator_name", "tier", "relative_tier", "trend"),
    )
    for column in rest:
        summary[column] = pd.to_numeric(summary[column]).astype("float64")
    return summary
