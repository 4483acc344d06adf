"""Writes posts and days out as X's analytics exports, in every dialect and in every state.

The headers are spelled here once more, as the files have them, so that a slip in the reader's
own table shows. Nothing here reads.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

Cells = Callable[["PostTotals"], str]

CONTENT_FIELDS = (
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
OLD_FIELDS = (
    "impressions",
    "engagements",
    "engagement rate",
    "retweets",
    "replies",
    "likes",
    "profile_visits",
    "url_clicks",
    "hashtag_clicks",
    "detail_expands",
    "permalink_clicks",
    "app opens",
    "app installs",
    "platform_follows",
    "email tweet",
    "dial phone",
    "media views",
    "media engagements",
)
OLD_EN = [
    "impressions",
    "engagements",
    "engagement rate",
    "retweets",
    "replies",
    "likes",
    "user profile clicks",
    "url clicks",
    "hashtag clicks",
    "detail expands",
    "permalink clicks",
    "app opens",
    "app installs",
    "follows",
    "email tweet",
    "dial phone",
    "media views",
    "media engagements",
]
OLD_PT = [
    "impressões",
    "engajamentos",
    "taxa de engajamento",
    "retweets",
    "respostas",
    "favoritos",
    "cliques no perfil do usuário:",
    "cliques no URL",
    "cliques em hashtags:",
    "expansões de detalhes:",
    "cliques no link permanente",
    "aberturas de aplicativos",
    "instalações de aplicativo:",
    "seguiram",
    "Tweet enviado por e-mail",
    "número de telefone discado",
    "visualizações da mídia",
    "engajamentos com mídia",
]


@dataclass(frozen=True)
class PostTotals:
    """What an export says of one post; ``counts`` by the reader's names, None for an empty cell."""

    tweet_id: int
    posted_at: datetime
    counts: Mapping[str, int | None]
    text: str = "a post"
    handle: str = "somebody"

    @property
    def permalink(self) -> str:
        return f"https://x.com/{self.handle}/status/{self.tweet_id}"


@dataclass(frozen=True)
class PostDialect:
    """Header and cells of one post-level dialect."""

    name: str
    header: tuple[str, ...]
    #: "id", "date", "text", "link", or the name of a count, for each column
    columns: tuple[str, ...]
    write_date: Callable[[datetime], str]
    quote_all: bool = False
    line_end: str = "\n"

    @property
    def counts(self) -> tuple[str, ...]:
        return tuple(name for name in self.columns if name in CONTENT_FIELDS)


def long_date(moment: datetime | date) -> str:
    """``Fri, Feb 6, 2026``."""
    return f"{moment:%a, %b} {moment.day}, {moment.year}"


def short_date(moment: datetime | date) -> str:
    """``Mon Feb 03 2025``."""
    return f"{moment:%a %b %d %Y}"


def minute(moment: datetime) -> str:
    """``2018-10-31 18:03 +0000``."""
    return f"{moment:%Y-%m-%d %H:%M} +0000"


_CONTENT_COLUMNS = ("id", "date", "text", "link", *CONTENT_FIELDS)
_OLD_COLUMNS = ("id", "link", "text", "date", *OLD_FIELDS, *(f"promoted {f}" for f in OLD_FIELDS))

CONTENT_EN = PostDialect(
    "content_en",
    (
        "Post id",
        "Date",
        "Post text",
        "Post Link",
        "Impressions",
        "Likes",
        "Engagements",
        "Bookmarks",
        "Shares",
        "New follows",
        "Replies",
        "Reposts",
        "Profile visits",
        "Detail Expands",
        "URL Clicks",
        "Hashtag Clicks",
        "Permalink Clicks",
    ),
    _CONTENT_COLUMNS,
    long_date,
)
CONTENT_EN_EARLY = PostDialect(
    "content_en_early_2025",
    (
        "Post id",
        "Date",
        "Post text",
        "Link",
        "Impressions",
        "Likes",
        "Engagements",
        "Bookmarks",
        "Share",
        "New follows",
        "Replies",
        "Reposts",
        "Profile visits",
        "Detail expands",
        "Url clicks",
        "Hashtag clicks",
        "Permalink clicks",
    ),
    _CONTENT_COLUMNS,
    short_date,
    line_end="\r\n",
)
CONTENT_JA = PostDialect(
    "content_ja",
    (
        "ポストID",
        "日付",
        "ポスト本文",
        "ポストのリンク",
        "インプレッション数",
        "いいね",
        "エンゲージメント",
        "ブックマーク",
        "共有された回数\\",
        "新しいフォロー",
        "返信",
        "リポスト",
        "プロフィールへのアクセス数",
        "詳細のクリック数",
        "URLのクリック数",
        "ハッシュタグのクリック数",
        "パーマリンクのクリック数",
    ),
    _CONTENT_COLUMNS,
    long_date,
)
PER_POST = PostDialect(
    "per_post_until_2023",
    (
        "Tweet id",
        "Tweet permalink",
        "Tweet text",
        "time",
        *OLD_EN,
        *(f"promoted {cell}" for cell in OLD_EN),
    ),
    _OLD_COLUMNS,
    minute,
    quote_all=True,
)
PER_POST_2016 = PostDialect(
    "per_post_until_2023",
    tuple(cell.replace("likes", "favorites") for cell in PER_POST.header),
    _OLD_COLUMNS,
    minute,
    quote_all=True,
)
PER_POST_PT = PostDialect(
    "per_post_until_2023_pt",
    (
        "id do Tweet",
        "link permanente do Tweet",
        "texto do Tweet",
        "horário",
        *OLD_PT,
        *(f"{cell} promovido(a)(s)" for cell in OLD_PT),
    ),
    _OLD_COLUMNS,
    minute,
    quote_all=True,
)
POST_DIALECTS = {
    "content_en": CONTENT_EN,
    "content_en_early_2025": CONTENT_EN_EARLY,
    "content_ja": CONTENT_JA,
    "per_post_until_2023": PER_POST,
    "per_post_until_2016": PER_POST_2016,
    "per_post_until_2023_pt": PER_POST_PT,
}

OVERVIEW_HEADER = (
    "Date",
    "Impressions",
    "Likes",
    "Engagements",
    "Bookmarks",
    "Shares",
    "New follows",
    "Unfollows",
    "Replies",
    "Reposts",
    "Profile visits",
    "Create Post",
    "Video views",
    "Media views",
)
OVERVIEW_FIELDS = (
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
    "video_views",
    "media_views",
)


@dataclass(frozen=True)
class Wear:
    """What a file went through between the download and the import."""

    encoding: str = "utf-8"
    delimiter: str = ","
    line_end: str | None = None
    write_id: Callable[[int], str] = str
    write_count: Callable[[int], str] = str
    write_date: Callable[[datetime], str] | None = None
    header: Callable[[str], str] = field(default=lambda cell: cell)
    keep_permalink: bool = True
    first_line: str = ""


AS_DOWNLOADED = Wear()


def scientific(tweet_id: int) -> str:
    """What Excel shows of an id: ``1.47689E+18``."""
    return f"{tweet_id:.5E}"


def fifteen_digits(tweet_id: int) -> str:
    """What Excel keeps of an id: 15 digits, then zeros."""
    digits = str(tweet_id)
    return digits[:15] + "0" * (len(digits) - 15)


def through_a_double(tweet_id: int) -> str:
    """What pandas and most scripts make of an id that stood beside an empty cell."""
    return str(int(float(tweet_id)))


def post_rows(
    posts: Iterable[PostTotals], dialect: PostDialect, wear: Wear = AS_DOWNLOADED
) -> list[list[str]]:
    """Header and one row a post, as cells."""
    write_date = wear.write_date or dialect.write_date
    rows = [[wear.header(cell) for cell in dialect.header]]
    for post in posts:
        row = []
        for column in dialect.columns:
            if column == "id":
                row.append(wear.write_id(post.tweet_id))
            elif column == "link":
                row.append(post.permalink if wear.keep_permalink else "")
            elif column == "text":
                row.append(post.text)
            elif column == "date":
                row.append(write_date(post.posted_at))
            elif column in CONTENT_FIELDS:
                count = post.counts.get(column)
                row.append("" if count is None else wear.write_count(count))
            else:
                row.append("-" if column.startswith("promoted") else "0")
        rows.append(row)
    return rows


def to_bytes(
    rows: Sequence[Sequence[str]], *, quote_all: bool = False, wear: Wear = AS_DOWNLOADED
) -> bytes:
    """Cells as the bytes of a file."""
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=wear.delimiter,
        lineterminator=wear.line_end or "\n",
        quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
    )
    writer.writerows(rows)
    return (wear.first_line + text.getvalue()).encode(wear.encoding, errors="replace")


def write_posts(
    path: Path,
    posts: Iterable[PostTotals],
    dialect: PostDialect,
    wear: Wear = AS_DOWNLOADED,
) -> Path:
    """Write posts in a dialect; gives the path back."""
    worn = Wear(**{**wear.__dict__, "line_end": wear.line_end or dialect.line_end})
    path.write_bytes(
        to_bytes(post_rows(posts, dialect, worn), quote_all=dialect.quote_all, wear=worn)
    )
    return path


def write_overview(
    path: Path,
    days: Iterable[tuple[str, Mapping[str, int | None]]],
    wear: Wear = AS_DOWNLOADED,
) -> Path:
    """Write an account overview; each day is its date cell and its counts."""
    rows: list[list[str]] = [list(OVERVIEW_HEADER)]
    for day, counts in days:
        cells = [counts.get(name) for name in OVERVIEW_FIELDS]
        rows.append([day, *("" if c is None else wear.write_count(c) for c in cells)])
    path.write_bytes(to_bytes(rows, wear=wear))
    return path
