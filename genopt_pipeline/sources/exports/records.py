"""What a reading of an export gives: posts, days, quarantined rows, and where they came from.

Only values live here. How a cell becomes a value is in ``cells``, how a file becomes rows in
``rows`` and ``reader``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal

from genopt_pipeline.sources.base import (
    MetricReading,
    ObservedPost,
    RejectedRecord,
    SourceError,
)

ExportKind = Literal["posts", "days"]
IdQuality = Literal["exact", "from_permalink"]
TimePrecision = Literal["exact", "minute", "day"]
ExportedAtOrigin = Literal["argument", "file_name", "file_mtime"]

#: Counts of an ``ExportedPost``, in the order of its fields.
POST_COUNTS: Final = (
    "impressions",
    "likes",
    "engagements",
    "bookmarks",
    "shares",
    "platform_follows",
    "replies",
    "retweets",
    "profile_visits",
    "detail_expands",
    "url_clicks",
    "hashtag_clicks",
    "permalink_clicks",
)

#: Counts of an ``ExportedDay``, in the order of its fields.
DAY_COUNTS: Final = (
    "impressions",
    "likes",
    "engagements",
    "bookmarks",
    "shares",
    "new_follows",
    "unfollows",
    "replies",
    "retweets",
    "profile_visits",
    "posts_published",
    "detail_expands",
    "url_clicks",
    "hashtag_clicks",
    "permalink_clicks",
    "video_views",
    "media_views",
    "media_engagements",
)


class ExportFormatError(SourceError):
    """The file as a whole cannot be read; the message is one line and names the file."""


@dataclass(frozen=True, slots=True)
class ExportedPost:
    """Totals of one post at the date of the export: a snapshot, not a trajectory.

    Counts run from the post's publication to the export; None where the export has no such
    column or no value in it. ``row`` is the row a spreadsheet shows (the header is row 1).
    """

    row: int
    tweet_id: str
    id_quality: IdQuality
    posted_at: datetime
    posted_at_precision: TimePrecision
    permalink: str | None
    #: in code points; the text itself is not kept
    text_length: int | None
    impressions: int | None
    likes: int | None
    engagements: int | None
    bookmarks: int | None
    shares: int | None
    #: follows that the platform itself ascribes to the post
    platform_follows: int | None
    replies: int | None
    retweets: int | None
    profile_visits: int | None
    detail_expands: int | None
    url_clicks: int | None
    hashtag_clicks: int | None
    permalink_clicks: int | None

    def counts(self) -> dict[str, int | None]:
        """Every count by name."""
        return {name: getattr(self, name) for name in POST_COUNTS}

    def observed_post(self, *, generator_name: str | None = None) -> ObservedPost:
        """The post as a source reports it; the generator comes from labels, never from here."""
        return ObservedPost(
            tweet_id=self.tweet_id, posted_at=self.posted_at, generator_name=generator_name
        )

    def reading(self, *, observed_at: datetime) -> MetricReading:
        """The totals as one reading at ``observed_at``, the time of the export."""
        return MetricReading(
            tweet_id=self.tweet_id,
            observed_at=observed_at,
            impressions=self.impressions,
            likes=self.likes,
            retweets=self.retweets,
            replies=self.replies,
            bookmarks=self.bookmarks,
            profile_clicks=self.profile_visits,
            url_clicks=self.url_clicks,
            engagements=self.engagements,
            platform_follows=self.platform_follows,
        )


@dataclass(frozen=True, slots=True)
class ExportedDay:
    """Activity of the whole account on one calendar day of the account's time zone.

    The export does not say which zone that is. None where the export has no such column or
    no value in it.
    """

    row: int
    day: date
    impressions: int | None
    likes: int | None
    engagements: int | None
    bookmarks: int | None
    shares: int | None
    new_follows: int | None
    unfollows: int | None
    replies: int | None
    retweets: int | None
    profile_visits: int | None
    posts_published: int | None
    detail_expands: int | None
    url_clicks: int | None
    hashtag_clicks: int | None
    permalink_clicks: int | None
    video_views: int | None
    media_views: int | None
    media_engagements: int | None

    def counts(self) -> dict[str, int | None]:
        """Every count by name."""
        return {name: getattr(self, name) for name in DAY_COUNTS}


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was quarantined: where it stands, which column was at fault, and why.

    ``raw`` holds excerpts of the cells by column (or of the line, where it could not be cut
    into columns) without the post's text; NUL bytes are shown as ``␀``, since PostgreSQL can
    store none.
    """

    file: str
    row: int
    column: str | None
    reason: str
    raw: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """File, row and column in words."""
        column = "" if self.column is None else f", column {self.column}"
        return f"{self.file}, row {self.row}{column}"

    def record(self, *, kind: str) -> RejectedRecord:
        """The same as every source reports what it could not use."""
        return RejectedRecord(kind=kind, place=self.place, reason=self.reason, raw=dict(self.raw))


@dataclass(frozen=True)
class ExportFile:
    """One export, read whole.

    ``rows_read`` counts every row below the header and equals
    ``len(posts) + len(days) + sum(skipped.values()) + len(rejected)``.
    """

    path: str
    dialect: str
    kind: ExportKind
    content_hash: str
    encoding: str
    delimiter: str
    exported_at: datetime
    exported_at_origin: ExportedAtOrigin
    posts: tuple[ExportedPost, ...]
    days: tuple[ExportedDay, ...]
    rejected: tuple[RejectedRow, ...]
    #: rows that hold nothing to keep, by reason
    skipped: Mapping[str, int]
    #: how often something had to be settled while rows were kept, by what it was
    notes: Mapping[str, int]
    #: header cells that no dialect knows
    unknown_columns: tuple[str, ...]
    rows_read: int

    @property
    def rows_kept(self) -> int:
        """Number of posts or days."""
        return len(self.posts) + len(self.days)
