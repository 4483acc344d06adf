"""The dialects of X's analytics exports, and which of them a header is written in.

Only headers are looked at here: a dialect is a list of header cells and the field each of
them stands for. New spellings (another language, a renamed column) are added here and
nowhere else.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from genopt_pipeline.sources.exports.cells import excerpt
from genopt_pipeline.sources.exports.records import DAY_COUNTS, POST_COUNTS, ExportKind

#: fields of a row that are not counts
TWEET_ID: Final = "tweet_id"
PERMALINK: Final = "permalink"
TEXT: Final = "text"
DATE: Final = "date"


@dataclass(frozen=True)
class Dialect:
    """One way of writing an export: header cells by the field they stand for.

    ``required`` lists alternatives: of each group one field must be there. ``ignored`` are
    header cells that belong to the dialect and hold nothing that is kept.
    """

    name: str
    kind: ExportKind
    description: str
    columns: Mapping[str, tuple[str, ...]]
    required: tuple[tuple[str, ...], ...]
    ignored: tuple[str, ...] = ()

    def missing(self, fields: Mapping[str, int]) -> list[str]:
        """Header cells (the usual spelling) of the required fields not in ``fields``."""
        return [
            " or ".join(self.columns[name][0] for name in group)
            for group in self.required
            if not any(name in fields for name in group)
        ]


@dataclass(frozen=True)
class HeaderMatch:
    """A header read as a dialect: where each field stands, and what nobody knows."""

    dialect: Dialect
    #: position of each field in the row
    fields: Mapping[str, int]
    header: tuple[str, ...]
    unknown: tuple[str, ...]
    #: number of header cells that the dialect itself knows
    known: int


_POST_REQUIRED: Final = ((TWEET_ID, PERMALINK), ("impressions",))
_PROMOTED: Final = ("promoted", "promovido(a)(s)")

_CONTENT_EN = Dialect(
    name="content_en",
    kind="posts",
    description="content export, English, mid-2025 on",
    columns={
        TWEET_ID: ("Post id",),
        DATE: ("Date",),
        TEXT: ("Post text",),
        PERMALINK: ("Post Link",),
        "impressions": ("Impressions",),
        "likes": ("Likes",),
        "engagements": ("Engagements",),
        "bookmarks": ("Bookmarks",),
        "shares": ("Shares",),
        "platform_follows": ("New follows",),
        "replies": ("Replies",),
        "retweets": ("Reposts",),
        "profile_visits": ("Profile visits",),
        "detail_expands": ("Detail Expands",),
        "url_clicks": ("URL Clicks",),
        "hashtag_clicks": ("Hashtag Clicks",),
        "permalink_clicks": ("Permalink Clicks",),
    },
    required=_POST_REQUIRED,
)

_CONTENT_EN_EARLY = Dialect(
    name="content_en_early_2025",
    kind="posts",
    description="content export, English, late 2024 to early 2025",
    columns={
        **_CONTENT_EN.columns,
        PERMALINK: ("Link",),
        "shares": ("Share",),
        "detail_expands": ("Detail expands",),
        "url_clicks": ("Url clicks",),
        "hashtag_clicks": ("Hashtag clicks",),
        "permalink_clicks": ("Permalink clicks",),
    },
    required=_POST_REQUIRED,
)

_CONTENT_JA = Dialect(
    name="content_ja",
    kind="posts",
    description="content export, Japanese",
    columns={
        TWEET_ID: ("ポストID",),
        DATE: ("日付",),
        TEXT: ("ポスト本文",),
        PERMALINK: ("ポストのリンク",),
        "impressions": ("インプレッション数",),
        "likes": ("いいね",),
        "engagements": ("エンゲージメント",),
        "bookmarks": ("ブックマーク",),
        "shares": ("共有された回数",),
        "platform_follows": ("新しいフォロー",),
        "replies": ("返信",),
        "retweets": ("リポスト",),
        "profile_visits": ("プロフィールへのアクセス数",),
        "detail_expands": ("詳細のクリック数",),
        "url_clicks": ("URLのクリック数",),
        "hashtag_clicks": ("ハッシュタグのクリック数",),
        "permalink_clicks": ("パーマリンクのクリック数",),
    },
    required=_POST_REQUIRED,
)

_PER_POST = Dialect(
    name="per_post_until_2023",
    kind="posts",
    description="per-tweet export, English, until 2023",
    columns={
        TWEET_ID: ("Tweet id",),
        PERMALINK: ("Tweet permalink",),
        TEXT: ("Tweet text",),
        DATE: ("time",),
        "impressions": ("impressions",),
        "engagements": ("engagements",),
        "retweets": ("retweets",),
        "replies": ("replies",),
        "likes": ("likes", "favorites"),  # favorites before 2017
        "profile_visits": ("user profile clicks",),
        "url_clicks": ("url clicks",),
        "hashtag_clicks": ("hashtag clicks",),
        "detail_expands": ("detail expands",),
        "permalink_clicks": ("permalink clicks",),
        "platform_follows": ("follows",),
    },
    required=_POST_REQUIRED,
    ignored=(
        "engagement rate",
        "app opens",
        "app installs",
        "email tweet",
        "dial phone",
        "media views",
        "media engagements",
    ),
)

_PER_POST_PT = Dialect(
    name="per_post_until_2023_pt",
    kind="posts",
    description="per-tweet export, Portuguese, until 2023",
    columns={
        TWEET_ID: ("id do Tweet",),
        PERMALINK: ("link permanente do Tweet",),
        TEXT: ("texto do Tweet",),
        DATE: ("horário",),
        "impressions": ("impressões",),
        "engagements": ("engajamentos",),
        "retweets": ("retweets",),
        "replies": ("respostas",),
        "likes": ("favoritos", "curtidas"),
        "profile_visits": ("cliques no perfil do usuário:",),
        "url_clicks": ("cliques no URL",),
        "hashtag_clicks": ("cliques em hashtags:",),
        "detail_expands": ("expansões de detalhes:",),
        "permalink_clicks": ("cliques no link permanente",),
        "platform_follows": ("seguiram",),
    },
    required=_POST_REQUIRED,
    ignored=(
        "taxa de engajamento",
        "aberturas de aplicativos",
        "instalações de aplicativo:",
        "Tweet enviado por e-mail",
        "número de telefone discado",
        "visualizações da mídia",
        "engajamentos com mídia",
    ),
)

_PER_DAY = Dialect(
    name="per_day_until_2023",
    kind="days",
    description="per-day export, English, until 2023",
    columns={
        DATE: ("Date",),
        "posts_published": ("Tweets published",),
        "impressions": ("impressions",),
        "engagements": ("engagements",),
        "retweets": ("retweets",),
        "replies": ("replies",),
        "likes": ("likes", "favorites"),
        "profile_visits": ("user profile clicks",),
        "url_clicks": ("url clicks",),
        "hashtag_clicks": ("hashtag clicks",),
        "detail_expands": ("detail expands",),
        "permalink_clicks": ("permalink clicks",),
        "new_follows": ("follows",),
        "media_views": ("media views",),
        "media_engagements": ("media engagements",),
    },
    required=((DATE,), ("posts_published",), ("impressions",)),
    ignored=("engagement rate", "app opens", "app installs", "email tweet", "dial phone"),
)

_OVERVIEW = Dialect(
    name="account_overview",
    kind="days",
    description="account overview export, English",
    columns={
        DATE: ("Date",),
        "impressions": ("Impressions",),
        "likes": ("Likes",),
        "engagements": ("Engagements",),
        "bookmarks": ("Bookmarks",),
        "shares": ("Shares",),
        "new_follows": ("New follows",),
        # without it, a content export that lost its ids would pass for an overview
        "unfollows": ("Unfollows",),
        "replies": ("Replies",),
        "retweets": ("Reposts",),
        "profile_visits": ("Profile visits",),
        "posts_published": ("Create Post",),
        "video_views": ("Video views",),
        "media_views": ("Media views",),
    },
    required=((DATE,), ("impressions",), ("new_follows",), ("unfollows",)),
)

#: In order of preference where a header fits two equally well.
DIALECTS: Final = (
    _CONTENT_EN,
    _CONTENT_EN_EARLY,
    _CONTENT_JA,
    _PER_POST,
    _PER_POST_PT,
    _OVERVIEW,
    _PER_DAY,
)


def normalise_header(cell: str) -> str:
    """Reduce a header cell to what tells it apart: no marks, case, quotes or doubled spaces.

    One Japanese header carries a stray backslash, Portuguese ones a stray colon.
    """
    text = unicodedata.normalize("NFKC", cell).replace("\\", "").replace("\ufeff", "")
    return " ".join(text.strip("\"' \t\r\n").rstrip(":").split()).casefold()


def _spellings(dialect: Dialect) -> dict[str, str]:
    return {
        normalise_header(spelling): name
        for name, spellings in dialect.columns.items()
        for spelling in spellings
    }


_BY_DIALECT: Final = {dialect.name: _spellings(dialect) for dialect in DIALECTS}
_IGNORED: Final = frozenset(
    normalise_header(cell) for dialect in DIALECTS for cell in dialect.ignored
)
#: A mixed header (X renames columns one at a time) is read with the spellings of all dialects
#: of its kind. A test holds that no spelling stands for two fields of one kind.
_BY_KIND: Final[dict[ExportKind, dict[str, str]]] = {
    kind: {
        spelling: name
        for dialect in reversed(DIALECTS)
        if dialect.kind == kind
        for spelling, name in _BY_DIALECT[dialect.name].items()
    }
    for kind in ("posts", "days")
}


def match_header(header: Sequence[str]) -> HeaderMatch | None:
    """Read a header as the dialect that knows most of its cells; None if none fits.

    Raises
    ------
    ValueError
        Two columns stand for the same field; the message names them.
    """
    best: HeaderMatch | None = None
    for dialect in DIALECTS:
        match = _read_as(dialect, header)
        if match is not None and (best is None or match.known > best.known):
            best = match
    if best is not None:
        _refuse_doubles(best)
    return best


def _read_as(dialect: Dialect, header: Sequence[str]) -> HeaderMatch | None:
    own, shared = _BY_DIALECT[dialect.name], _BY_KIND[dialect.kind]
    fields: dict[str, int] = {}
    unknown: list[str] = []
    known = 0
    for position, cell in enumerate(header):
        spelling = normalise_header(cell)
        name = shared.get(spelling)
        known += spelling in own
        if name is not None:
            fields.setdefault(name, position)
        elif spelling and not _is_ignored(spelling):
            unknown.append(cell)
    if dialect.missing(fields) or known == 0:
        return None
    if dialect.kind == "days" and any(
        _BY_KIND["posts"].get(normalise_header(cell)) in {TWEET_ID, PERMALINK} for cell in header
    ):
        return None
    return HeaderMatch(dialect, fields, tuple(header), tuple(unknown), known)


def _is_ignored(spelling: str) -> bool:
    return spelling in _IGNORED or spelling.startswith(_PROMOTED) or spelling.endswith(_PROMOTED)


def _refuse_doubles(match: HeaderMatch) -> None:
    shared = _BY_KIND[match.dialect.kind]
    for position, cell in enumerate(match.header):
        name = shared.get(normalise_header(cell))
        if name is not None and match.fields[name] != position:
            first = match.header[match.fields[name]]
            raise ValueError(
                f"columns {excerpt(first)!r} and {excerpt(cell)!r} (number"
                f" {match.fields[name] + 1} and {position + 1}) mean the same"
            )


def describe_mismatch(header: Sequence[str]) -> str:
    """Say in one line which headers were found, which dialect is nearest and what it misses."""
    shown = ", ".join(repr(excerpt(cell, 40)) for cell in header[:8])
    if len(header) > 8:
        shown += f" and {len(header) - 8} more"
    cells = {normalise_header(cell) for cell in header}
    scores = [(len(cells & _BY_DIALECT[d.name].keys()), d) for d in DIALECTS]
    score, nearest = max(scores, key=lambda pair: pair[0])
    if score == 0:
        return f"found the columns {shown}; no column of any known export is among them"
    spellings = _BY_DIALECT[nearest.name]
    found = {spellings[cell]: 0 for cell in cells if cell in spellings}
    missing = ", ".join(repr(name) for name in nearest.missing(found)) or "nothing required"
    return (
        f"found the columns {shown}; nearest is the {nearest.description},"
        f" of which {missing} is missing"
    )


def count_fields(kind: ExportKind) -> tuple[str, ...]:
    """Names of the counts that a row of this kind can hold."""
    return POST_COUNTS if kind == "posts" else DAY_COUNTS
