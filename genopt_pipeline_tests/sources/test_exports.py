"""Exports as they are downloaded: every dialect, the real samples, the facts about the file."""

import hashlib
import os
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from genopt_pipeline.sources.exports import (
    DAY_COUNTS,
    POST_COUNTS,
    ExportedPost,
    ExportFile,
    ExportFormatError,
    open_export,
    read_export,
)
from genopt_pipeline.sources.exports.dialects import DIALECTS, match_header, normalise_header
from genopt_pipeline.sources.exports.layout import date_in_name
from genopt_pipeline_tests.sources.export_files import (
    CONTENT_EN,
    CONTENT_EN_EARLY,
    OVERVIEW_HEADER,
    POST_DIALECTS,
    PostTotals,
    Wear,
    fifteen_digits,
    long_date,
    scientific,
    short_date,
    write_overview,
    write_posts,
)

DATA = Path(__file__).parents[1] / "data"
REAL_COLUMNS = {
    "imp": "impressions",
    "like": "likes",
    "eng": "engagements",
    "book": "bookmarks",
    "share": "shares",
    "fol": "platform_follows",
    "rep": "replies",
    "rt": "retweets",
    "prof": "profile_visits",
    "url": "url_clicks",
}


def rows_add_up(export: ExportFile) -> bool:
    return export.rows_read == (
        export.rows_kept + sum(export.skipped.values()) + len(export.rejected)
    )


def totals(export: ExportFile) -> dict[str, int | None]:
    """Sum of each count over the rows that have it; None where none has."""
    rows = [item.counts() for item in (*export.posts, *export.days)]
    found = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        found[name] = sum(values) if values else None
    return found


@pytest.fixture(scope="module")
def real() -> pd.DataFrame:
    return pd.read_csv(DATA / "real_posts_numeric.csv", dtype={"post_id": "int64"})


@pytest.fixture(scope="module")
def real_posts(real) -> list[PostTotals]:
    return [
        PostTotals(
            tweet_id=int(row["post_id"]),
            posted_at=datetime.fromisoformat(row["created_at"]),
            counts={
                name: None if pd.isna(row[column]) else int(row[column])
                for column, name in REAL_COLUMNS.items()
            },
            # a text with all that makes CSV hard, of the length of the real one
            text=('a "quoted", text\n' * 30)[: int(row["text_len"])],
        )
        for row in real.to_dict("records")
    ]


@pytest.mark.parametrize("name", POST_DIALECTS)
def test_real_posts_written_in_each_dialect_read_back_with_equal_totals(
    name, real, real_posts, tmp_path
):
    dialect = POST_DIALECTS[name]
    export = read_export(write_posts(tmp_path / "export.csv", real_posts, dialect))

    assert (export.dialect, export.kind) == (dialect.name, "posts")
    assert export.rows_read == len(export.posts) == len(real)
    assert not export.rejected
    assert not export.skipped
    assert not export.unknown_columns
    read = totals(export)
    for column, field in REAL_COLUMNS.items():
        expected = int(real[column].sum()) if field in dialect.counts else None
        assert read[field] == expected, field
    assert {post.tweet_id for post in export.posts} == set(real["post_id"].astype(str))
    assert [post.text_length for post in export.posts] == real["text_len"].tolist()


def test_what_was_empty_is_none_and_what_was_zero_is_zero(real, real_posts, tmp_path):
    export = read_export(write_posts(tmp_path / "export.csv", real_posts, CONTENT_EN))

    unknown = [post.bookmarks is None for post in export.posts]
    assert unknown == real["book"].isna().tolist()
    assert sum(post.platform_follows == 0 for post in export.posts) == (real["fol"] == 0).sum()


def test_the_time_of_day_comes_from_the_id(real, real_posts, tmp_path):
    export = read_export(write_posts(tmp_path / "export.csv", real_posts, CONTENT_EN))

    assert {post.posted_at_precision for post in export.posts} == {"exact"}
    written = pd.to_datetime(real["created_at"])
    read = pd.Series([post.posted_at for post in export.posts])
    assert ((read - written).abs() < pd.Timedelta(seconds=1)).all()
    assert read.dt.hour.nunique() == 24


def by_pandas(name: str) -> pd.DataFrame:
    return pd.read_csv(DATA / name, dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    ("name", "dialect", "ghosts"),
    [
        ("content_export_2025_en.csv", "content_en_early_2025", 0),
        ("content_export_2026_ja.csv", "content_ja", 2),
    ],
)
def test_content_samples_read_as_they_are_with_the_totals_pandas_finds(name, dialect, ghosts):
    export = read_export(DATA / name)
    table = by_pandas(name)

    assert export.dialect == dialect
    assert export.rows_read == len(table) == 25
    assert export.skipped == ({"ghost row": ghosts} if ghosts else {})
    assert not export.rejected
    by_position = dict(zip(table.columns[4:], POST_COUNTS, strict=True))
    assert totals(export) == {
        field: table[column].astype(int).sum() for column, field in by_position.items()
    }
    written = table[table.iloc[:, 0] != ""]
    assert [post.tweet_id for post in export.posts] == written.iloc[:, 0].tolist()
    assert [post.permalink for post in export.posts] == written.iloc[:, 3].tolist()


def test_dates_and_ids_of_the_content_samples_agree_within_a_day():
    for name in ("content_export_2025_en.csv", "content_export_2026_ja.csv"):
        table = by_pandas(name)
        table = table[table.iloc[:, 0] != ""]
        dates = pd.to_datetime(table.iloc[:, 1], format="mixed").dt.date
        for post, day in zip(read_export(DATA / name).posts, dates, strict=True):
            assert abs((post.posted_at.date() - day).days) <= 1


def test_the_daily_sample_reads_as_it_is_with_the_totals_pandas_finds():
    export = read_export(DATA / "daily_activity_2021_en.csv")
    table = by_pandas("daily_activity_2021_en.csv")

    assert (export.dialect, export.kind) == ("per_day_until_2023", "days")
    assert export.rows_read == len(export.days) == len(table) == 31
    columns = {
        "impressions": "impressions",
        "likes": "likes",
        "engagements": "engagements",
        "new_follows": "follows",
        "replies": "replies",
        "retweets": "retweets",
        "profile_visits": "user profile clicks",
        "posts_published": "Tweets published",
        "detail_expands": "detail expands",
        "url_clicks": "url clicks",
        "hashtag_clicks": "hashtag clicks",
        "permalink_clicks": "permalink clicks",
        "media_views": "media views",
        "media_engagements": "media engagements",
    }
    expected: dict[str, int | None] = dict.fromkeys(DAY_COUNTS)
    expected |= {field: table[column].astype(int).sum() for field, column in columns.items()}
    assert totals(export) == expected
    assert [day.day for day in export.days] == list(pd.to_datetime(table["Date"]).dt.date)


def test_an_overview_keeps_follows_and_unfollows_apart_whatever_the_order_of_days(tmp_path):
    first = date(2026, 2, 1)
    days = [
        (
            long_date(first + timedelta(days=offset)),
            {"impressions": 1000 + offset, "new_follows": 5 + offset, "unfollows": offset},
        )
        for offset in range(27, -1, -1)
    ]
    export = read_export(write_overview(tmp_path / "account_overview.csv", days))

    assert (export.dialect, export.kind) == ("account_overview", "days")
    assert export.days[0].day == date(2026, 2, 28)
    assert all(later.day > earlier.day for later, earlier in pairwise(export.days))
    assert [(day.new_follows, day.unfollows) for day in export.days] == [
        (5 + offset, offset) for offset in range(27, -1, -1)
    ]
    assert all(day.likes is None for day in export.days)


def test_a_spelling_stands_for_one_field_in_all_dialects_of_a_kind():
    for kind in ("posts", "days"):
        meaning: dict[str, str] = {}
        for dialect in DIALECTS:
            for field, spellings in dialect.columns.items() if dialect.kind == kind else ():
                for spelling in spellings:
                    assert meaning.setdefault(normalise_header(spelling), field) == field


def test_every_dialect_recognises_its_own_full_header():
    for dialect in DIALECTS:
        match = match_header([spellings[0] for spellings in dialect.columns.values()])
        assert match is not None
        assert match.dialect is dialect
        assert set(match.fields) == set(dialect.columns)


def test_a_header_of_two_dialects_mixed_is_read_whole(tmp_path):
    post = PostTotals(
        1886483849795768598, datetime(2025, 2, 3, tzinfo=UTC), {"impressions": 7, "shares": 3}
    )
    wear = Wear(header=lambda cell: {"Post Link": "Link", "Shares": "Share"}.get(cell, cell))
    export = read_export(write_posts(tmp_path / "mixed.csv", [post], CONTENT_EN, wear))

    assert (export.posts[0].impressions, export.posts[0].shares) == (7, 3)
    assert export.posts[0].permalink == post.permalink
    assert export.unknown_columns == ()


def test_a_new_column_is_named_and_passed_over(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("Post id,Impressions,Quotes,Likes\n1886483849795768598,10,99,2\n")
    export = read_export(path)

    assert export.unknown_columns == ("Quotes",)
    assert (export.posts[0].impressions, export.posts[0].likes) == (10, 2)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["is empty"]),
        (b"\n \n\n", ["no header row"]),
        (b"just some words\nand more\n", ["'just some words'", "no column of any known export"]),
        (
            b"Post id,Date,Likes\n1,2,3\n",
            ["'Post id', 'Date', 'Likes'", "'Impressions' is missing"],
        ),
        (
            b"Video overview,,\nDate,Views,Watch Time (ms)\n",
            ["'Video overview'", "no column of any known export"],
        ),
        (b"PK\x03\x04rest of a workbook", ["Excel workbook"]),
        (b"Post id,post ID,Impressions\n1,1,1\n", ["'Post id' and 'post ID'", "mean the same"]),
        (
            # a content export whose ids were removed is no account overview
            b"Date,Impressions,Likes,Engagements,New follows\n",
            ["'Post id or Post Link' is missing"],
        ),
    ],
)
def test_a_file_no_dialect_fits_gives_one_line_that_says_what_was_found(content, parts, tmp_path):
    path = tmp_path / "strange.csv"
    path.write_bytes(content)
    with pytest.raises(ExportFormatError) as error:
        read_export(path)

    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("strange.csv")
    for part in parts:
        assert part in message


def test_a_directory_and_a_pipe_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path, tmp_path / "pipe.csv"):
        with pytest.raises(ExportFormatError, match="not a regular file"):
            read_export(path)


def one_post(path: Path, *, posted: str = "2026-02-06") -> Path:
    tweet_id = (
        int(datetime.fromisoformat(f"{posted}T12:00:00+00:00").timestamp() * 1000)
        - 1_288_834_974_657
    ) << 22
    moment = datetime.fromisoformat(posted).replace(tzinfo=UTC)
    return write_posts(path, [PostTotals(tweet_id, moment, {"impressions": 1})], CONTENT_EN)


def set_mtime(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def test_the_export_date_is_the_argument_before_all(tmp_path):
    path = one_post(tmp_path / "content_2026-02-01_2026-02-07.csv")
    moment = datetime(2026, 3, 1, 10, tzinfo=UTC)
    export = read_export(path, exported_at=moment)
    assert (export.exported_at, export.exported_at_origin) == (moment, "argument")
    with pytest.raises(ValueError, match="time zone"):
        read_export(path, exported_at=datetime(2026, 3, 1))  # noqa: DTZ001 - what is refused


def test_the_export_date_in_the_name_is_the_end_of_that_day_in_the_last_time_zone(tmp_path):
    path = one_post(tmp_path / "account_analytics_content_2026-02-01_2026-02-07.csv")
    export = read_export(path)
    assert export.exported_at_origin == "file_name"
    assert export.exported_at == datetime(2026, 2, 8, 12, tzinfo=UTC)

    on_the_day = datetime(2026, 2, 7, 15, tzinfo=UTC)
    set_mtime(path, on_the_day)
    assert read_export(path).exported_at == on_the_day


def test_the_export_date_is_the_time_of_change_where_nothing_else_says(tmp_path):
    path = one_post(tmp_path / "content.csv")
    moment = datetime(2026, 4, 5, 6, 7, 8, tzinfo=UTC)
    set_mtime(path, moment)
    export = read_export(path)
    assert (export.exported_at, export.exported_at_origin) == (moment, "file_mtime")


def test_a_post_later_than_its_export_is_quarantined_with_both_times(tmp_path):
    path = one_post(tmp_path / "content.csv", posted="2026-02-06")
    export = read_export(path, exported_at=datetime(2026, 2, 1, tzinfo=UTC))
    assert not export.posts
    assert "posted at 2026-02-06 12:00" in export.rejected[0].reason
    assert "the date given" in export.rejected[0].reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("account_analytics_content_2026-02-14_2026-02-27.csv", date(2026, 2, 27)),
        ("tweet_activity_metrics_somebody_20210801_20210901_en.csv", date(2021, 9, 1)),
        ("content_2026-02-27 (1).csv", date(2026, 2, 27)),
        ("content_2026-13-40.csv", None),
        ("export_1886483849795768598.csv", None),
        ("content.csv", None),
    ],
)
def test_the_date_in_a_name_is_the_last_whole_date(name, expected):
    assert date_in_name(name) == expected


def test_the_hash_is_that_of_the_bytes(tmp_path):
    path = one_post(tmp_path / "content.csv")
    assert read_export(path).content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_row_by_row_reading_yields_what_reading_whole_gives_and_tells_its_progress(
    real_posts, tmp_path
):
    path = write_posts(tmp_path / "export.csv", real_posts[:2000], CONTENT_EN_EARLY)
    seen: list[tuple[int, int]] = []
    reader = open_export(path, progress=lambda done, total: seen.append((done, total)))
    items = list(reader)

    assert tuple(items) == read_export(path).posts
    assert (reader.rows_read, reader.rows_kept, reader.rows_rejected) == (2000, 2000, 0)
    size = path.stat().st_size
    assert {total for _, total in seen} == {size}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == size
    with pytest.raises(RuntimeError, match="read already"):
        list(reader)


def test_a_file_that_changes_while_it_is_read_is_refused(real_posts, tmp_path):
    path = write_posts(tmp_path / "export.csv", real_posts[:2000], CONTENT_EN)
    reader = iter(open_export(path))
    next(reader)
    with path.open("a") as file:
        file.write("one more line\n")
    with pytest.raises(ExportFormatError, match="changed while it was read"):
        list(reader)


def test_an_export_becomes_posts_and_readings_of_a_source():
    export = read_export(DATA / "content_export_2025_en.csv")
    post = next(post for post in export.posts if post.platform_follows)
    observed = post.observed_post(generator_name="coach")
    reading = post.reading(observed_at=export.exported_at)

    assert observed.tweet_id == reading.tweet_id == post.tweet_id
    assert observed.posted_at < reading.observed_at == export.exported_at
    assert observed.generator_name == "coach"
    assert reading.platform_follows == post.platform_follows
    assert reading.profile_clicks == post.profile_visits
    assert reading.quotes is None


def test_post_texts_are_not_kept(tmp_path):
    secret = "unmistakable words"
    moment = datetime(2026, 2, 6, tzinfo=UTC)
    tweet_id = 2019770265215930588
    posts = [
        PostTotals(tweet_id, moment, {"impressions": 1}, text=secret),
        PostTotals(tweet_id + 1, moment, {"impressions": 1}, text=secret),
    ]
    wear = Wear(write_id=lambda i: str(i) if i == tweet_id else "no id")
    export = read_export(write_posts(tmp_path / "export.csv", posts, CONTENT_EN, wear))

    assert (len(export.posts), len(export.rejected)) == (1, 1)
    assert secret not in repr(export)


def test_a_quarantined_row_says_file_row_column_reason_and_what_stood_there(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text(
        "Post id,Post text,Impressions,Likes\n"
        '1886483849795768598,"two\nlines",10,1\n'
        "\n"
        "1886483842153779213,x,12.3K,1\n"
    )
    export = read_export(path)
    rejected = export.rejected[0]

    # the text with a line end is one row in a spreadsheet, the empty line is another
    assert (rejected.file, rejected.row, rejected.column) == ("export.csv", 4, "Impressions")
    assert "12.3K" in rejected.reason
    assert rejected.raw == {"Post id": "1886483842153779213", "Impressions": "12.3K", "Likes": "1"}
    record = rejected.record(kind="export_post")
    assert record.place == "export.csv, row 4, column Impressions"
    assert export.posts == (
        next(item for item in open_export(path) if isinstance(item, ExportedPost)),
    )
    assert export.skipped == {"blank row": 1}
    assert rows_add_up(export)


def test_an_id_spoilt_by_a_spreadsheet_is_taken_from_the_permalink(real, real_posts, tmp_path):
    for spoil in (scientific, fifteen_digits, lambda _: "", lambda _: "########"):
        wear = Wear(write_id=spoil)
        export = read_export(
            write_posts(tmp_path / "spoilt.csv", real_posts[:200], CONTENT_EN, wear)
        )
        assert [post.tweet_id for post in export.posts] == real["post_id"][:200].astype(
            str
        ).tolist()
        assert {post.id_quality for post in export.posts} == {"from_permalink"}
        assert export.notes == {"the id was taken from the permalink": 200}


def test_an_id_spoilt_by_a_spreadsheet_without_a_permalink_is_quarantined(real_posts, tmp_path):
    for spoil in (scientific, fifteen_digits):
        wear = Wear(write_id=spoil, keep_permalink=False)
        export = read_export(
            write_posts(tmp_path / "spoilt.csv", real_posts[:50], CONTENT_EN, wear)
        )
        assert not export.posts
        assert {row.column for row in export.rejected} == {"Post id"}
        assert all("spreadsheet" in row.reason for row in export.rejected)


def test_both_date_forms_are_read_in_both_content_dialects(real_posts, tmp_path):
    for dialect in (CONTENT_EN, CONTENT_EN_EARLY):
        for write_date in (long_date, short_date):
            wear = Wear(write_date=write_date)
            export = read_export(
                write_posts(tmp_path / "export.csv", real_posts[:50], dialect, wear)
            )
            assert len(export.posts) == 50
            assert not export.notes


def test_headers_of_an_overview_are_those_of_the_documentation():
    assert len(OVERVIEW_HEADER) == 14
    assert len(POST_DIALECTS["per_post_until_2023"].header) == 40
