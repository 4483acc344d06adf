"""What files go through between download and import, and files that are no exports at all."""

import csv
import os
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genopt_pipeline.sources.exports import (
    ExportFile,
    ExportFormatError,
    open_export,
    read_export,
)
from genopt_pipeline.sources.exports.rows import MAX_ROW_CHARACTERS
from genopt_pipeline_tests.sources.export_files import (
    CONTENT_EN,
    CONTENT_FIELDS,
    CONTENT_JA,
    PER_POST,
    PER_POST_PT,
    POST_DIALECTS,
    PostTotals,
    Wear,
    fifteen_digits,
    post_rows,
    to_bytes,
    write_overview,
    write_posts,
)

START = datetime(2026, 2, 6, 12, tzinfo=UTC)
EXPORTED_AT = datetime(2026, 6, 1, tzinfo=UTC)


def tweet_id_at(moment: datetime) -> int:
    return (int(moment.timestamp() * 1000) - 1_288_834_974_657) << 22 | 598


def some_posts(number: int = 20, *, text: str = "a post, with a comma") -> list[PostTotals]:
    """Posts an hour apart; each count of each post is different."""
    return [
        PostTotals(
            tweet_id=tweet_id_at(START + timedelta(hours=index)),
            posted_at=START + timedelta(hours=index),
            counts={
                name: 1000 * (index + 1) + position for position, name in enumerate(CONTENT_FIELDS)
            },
            text=text,
        )
        for index in range(number)
    ]


def rows_add_up(export: ExportFile) -> bool:
    return export.rows_read == (
        export.rows_kept + sum(export.skipped.values()) + len(export.rejected)
    )


def read(path: Path) -> ExportFile:
    export = read_export(path, exported_at=EXPORTED_AT)
    assert rows_add_up(export)
    return export


def read_bytes(tmp_path: Path, content: bytes) -> ExportFile:
    path = tmp_path / "export.csv"
    path.write_bytes(content)
    return read(path)


def same(export: ExportFile, posts: list[PostTotals]) -> bool:
    found = [(post.tweet_id, *post.counts().values()) for post in export.posts]
    return found == [(str(p.tweet_id), *(p.counts[n] for n in CONTENT_FIELDS)) for p in posts]


@pytest.mark.parametrize(
    "wear",
    [
        Wear(encoding="utf-8-sig"),
        Wear(encoding="utf-16"),
        Wear(encoding="utf-16-le"),
        Wear(encoding="utf-16-be"),
        Wear(encoding="utf-16", delimiter="\t"),
        Wear(encoding="utf-32"),
        Wear(encoding="cp1252"),
        Wear(encoding="latin-1", delimiter=";"),
        Wear(encoding="mac_roman"),
        Wear(line_end="\r\n"),
        Wear(line_end="\r"),
        Wear(delimiter=";"),
        Wear(delimiter="\t"),
        Wear(delimiter=";", first_line="sep=;\n"),
        Wear(first_line="\n\n"),
        Wear(write_count=lambda count: f"{count}.0"),
        Wear(write_count=lambda count: f"{count:,}"),
        Wear(delimiter=";", write_count=lambda count: f"{count:,}".replace(",", ".")),
        Wear(delimiter=";", write_count=lambda count: f"{count},0"),
        Wear(write_count=lambda count: f"{count:,}".replace(",", "\u202f")),
        Wear(write_id=lambda tweet_id: f"'{tweet_id}"),
        Wear(write_id=fifteen_digits),
        Wear(header=str.upper),
        Wear(header=lambda cell: f"  {cell} "),
        Wear(write_date=lambda moment: f"{moment.month}/{moment.day}/{moment.year}"),
        Wear(write_date=lambda moment: f"{moment:%d.%m.%Y}"),
        Wear(write_date=lambda moment: f"{moment:%Y年%m月%d日}"),
    ],
)
def test_an_export_that_went_through_a_spreadsheet_reads_as_before(wear, tmp_path):
    posts = some_posts(text="Größe, „naïve“ café\nand a second line")
    export = read(write_posts(tmp_path / "export.csv", posts, CONTENT_EN, wear))
    assert same(export, posts)
    assert not export.rejected
    assert not export.skipped


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp932"])
def test_the_japanese_dialect_survives_the_encodings_of_japanese_spreadsheets(encoding, tmp_path):
    posts = some_posts(text="能力、表示、ソース")
    export = read(write_posts(tmp_path / "e.csv", posts, CONTENT_JA, Wear(encoding=encoding)))
    assert export.dialect == "content_ja"
    assert same(export, posts)
    assert {post.text_length for post in export.posts} == {9}


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "mac_roman"])
def test_the_portuguese_dialect_survives_encodings_without_unicode(encoding, tmp_path):
    posts = some_posts(text="promoção")
    export = read(write_posts(tmp_path / "e.csv", posts, PER_POST_PT, Wear(encoding=encoding)))
    assert export.dialect == "per_post_until_2023_pt"
    assert sum(post.impressions or 0 for post in export.posts) == sum(
        post.counts["impressions"] or 0 for post in posts
    )
    assert not export.unknown_columns
    assert {post.text_length for post in export.posts} == {8}


def test_ghost_rows_are_counted_and_left_out(tmp_path):
    rows = post_rows(some_posts(3), CONTENT_EN)
    ghost = ["", "", "", "https://x.com/somebody/status/undefined", *["0"] * 13]
    export = read_bytes(tmp_path, to_bytes([rows[0], ghost, *rows[1:], ghost]))
    assert export.skipped == {"ghost row": 2}
    assert same(export, some_posts(3))


def test_a_ghost_row_with_numbers_is_quarantined_not_dropped(tmp_path):
    rows = post_rows(some_posts(1), CONTENT_EN)
    ghost = ["", "", "", "https://x.com/somebody/status/undefined", "7", *["0"] * 12]
    export = read_bytes(tmp_path, to_bytes([*rows, ghost]))
    assert "leads to no post" in export.rejected[0].reason


def test_a_row_given_twice_counts_once(tmp_path):
    rows = post_rows(some_posts(5), CONTENT_EN)
    export = read_bytes(tmp_path, to_bytes([*rows, *rows[1:]]))
    assert export.skipped == {"duplicate row": 5}
    assert same(export, some_posts(5))


def test_a_post_given_twice_with_other_numbers_is_quarantined_and_names_the_first_row(tmp_path):
    rows = post_rows(some_posts(5), CONTENT_EN)
    changed = [*rows[2][:4], "999999", *rows[2][5:]]
    export = read_bytes(tmp_path, to_bytes([*rows, changed]))
    assert same(export, some_posts(5))
    assert (export.rejected[0].row, export.rejected[0].column) == (7, "Post id")
    assert "row 3 has the same post with other numbers" in export.rejected[0].reason


def test_files_put_together_from_several_are_read_past_the_repeated_header(tmp_path):
    rows = post_rows(some_posts(4), CONTENT_EN)
    export = read_bytes(tmp_path, to_bytes([*rows[:3], rows[0], *rows[3:]]))
    assert export.skipped == {"repeated header": 1}
    assert same(export, some_posts(4))


@given(st.permutations(range(8)))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_rows_changes_nothing_but_the_row_numbers(tmp_path, order):
    posts = some_posts(8)
    export = read_bytes(tmp_path, to_bytes(post_rows([posts[i] for i in order], CONTENT_EN)))
    assert same(export, [posts[i] for i in order])


def test_a_file_cut_off_anywhere_keeps_every_whole_row(tmp_path):
    posts = some_posts(4, text='with "quotes",\nand two lines')
    content = to_bytes(post_rows(posts, CONTENT_EN))
    header_end = content.index(b"\n") + 1
    lines = content.splitlines(keepends=True)
    reader = csv.reader(content.decode().splitlines(keepends=True))
    ends = [sum(map(len, lines[: reader.line_num])) for _ in reader]
    for cut in range(header_end, len(content)):
        export = read_bytes(tmp_path, content[:cut])
        whole = sum(end <= cut for end in ends) - 1
        kept = [post.tweet_id for post in export.posts]
        assert kept[:whole] == [str(post.tweet_id) for post in posts[:whole]]
        # only the very last cell can be cut without showing, and then the file says so
        if len(kept) > whole:
            assert len(kept) == whole + 1
            assert any("no line end" in note for note in export.notes)


def test_rows_with_too_few_or_too_many_cells_are_quarantined(tmp_path):
    rows = post_rows(some_posts(4), CONTENT_EN)
    content = to_bytes([*rows[:2], rows[2][:-3], [*rows[3], "1"], [*rows[4], "", ""]])
    export = read_bytes(tmp_path, content)
    assert [row.row for row in export.rejected] == [3, 4]
    assert "has 14 cells where the header has 17" in export.rejected[0].reason
    assert same(export, [some_posts(4)[0], some_posts(4)[3]])


def test_a_stray_quotation_mark_costs_its_own_row_only(tmp_path):
    posts = some_posts(1000, text="plain")
    lines = to_bytes(post_rows(posts, CONTENT_EN)).splitlines(keepends=True)
    lines[500] = lines[500].replace(b"plain", b'"plain')
    export = read_bytes(tmp_path, b"".join(lines))
    assert same(export, posts[:499] + posts[500:])
    assert [row.row for row in export.rejected] == [501]


def test_a_quotation_mark_that_nothing_closes_costs_its_own_row_only(tmp_path):
    posts = some_posts(2000, text="plain")
    lines = _without_dates(posts)
    lines[500] = lines[500].replace("plain", '"plain')
    # what follows is longer than a row may be, and without any other quotation mark
    assert sum(map(len, lines[500:])) > MAX_ROW_CHARACTERS
    assert "".join(lines).count('"') == 1
    export = read_bytes(tmp_path, "".join(lines).encode())
    assert same(export, posts[:499] + posts[500:])
    assert [row.row for row in export.rejected] == [501]


def test_two_stray_quotation_marks_cost_their_two_rows_only(tmp_path):
    posts = some_posts(50, text="plain")
    lines = [line.replace('"', "") for line in _without_dates(posts)]
    for index in (10, 20):
        lines[index] = lines[index].replace("plain", '"plain')
    export = read_bytes(tmp_path, "".join(lines).encode())
    kept = {post.tweet_id for post in export.posts}
    lost = {str(post.tweet_id) for post in posts} - kept
    assert lost == {str(posts[9].tweet_id), str(posts[19].tweet_id)}


def _without_dates(posts: list[PostTotals]) -> list[str]:
    rows = post_rows(posts, CONTENT_EN, Wear(write_date=lambda moment: f"{moment:%Y-%m-%d}"))
    return to_bytes(rows).decode().splitlines(keepends=True)


def test_a_huge_field_costs_its_own_row_only(tmp_path):
    posts = some_posts(3)
    rows = post_rows(posts, CONTENT_EN)
    rows[2][2] = "x" * (3 * MAX_ROW_CHARACTERS)
    export = read_bytes(tmp_path, to_bytes(rows))
    assert same(export, [posts[0], posts[2]])
    assert "longer than 131,072 characters" in export.rejected[0].reason
    assert len(str(export.rejected[0].raw)) < 1000


def test_the_longest_post_that_x_allows_is_read(tmp_path):
    posts = some_posts(2, text='"' * 25_000)
    export = read_bytes(tmp_path, to_bytes(post_rows(posts, CONTENT_EN)))
    assert [post.text_length for post in export.posts] == [25_000, 25_000]


def test_a_nul_byte_costs_the_row_only_where_a_number_belongs(tmp_path):
    posts = some_posts(3)
    rows = post_rows(posts, CONTENT_EN)
    rows[1][2] = "te\0xt"
    rows[2][4] = "1\0"
    export = read_bytes(tmp_path, to_bytes(rows))
    assert same(export, [posts[0], posts[2]])
    assert export.rejected[0].column == "Impressions"
    # PostgreSQL stores no NUL
    assert "\0" not in repr(export.rejected[0])


def test_the_zeros_a_crash_leaves_at_the_end_are_one_quarantined_row(tmp_path):
    posts = some_posts(3)
    export = read_bytes(tmp_path, to_bytes(post_rows(posts, CONTENT_EN)) + b"\0" * 5000)
    assert same(export, posts)
    assert len(export.rejected) == 1


def test_a_file_name_that_is_no_text_is_named_in_text_on_one_line(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.csv"))
    path.write_text("Post id,Impressions\nx,1\n")
    rejected = read(path).rejected[0]
    assert rejected.file == "caf  .csv"
    assert rejected.place.encode()
    path.write_text("nothing known\n")
    with pytest.raises(ExportFormatError, match=r"^caf  \.csv is no known export"):
        read_export(path)


def test_a_row_whose_id_and_date_disagree_is_quarantined(tmp_path):
    rows = post_rows(some_posts(2), CONTENT_EN)
    rows[1][1] = "Fri, Feb 27, 2026"
    export = read_bytes(tmp_path, to_bytes(rows))
    assert len(export.posts) == 1
    assert export.rejected[0].column == "Date"
    assert "the date is 2026-02-27, but the id was made at 2026-02-06" in export.rejected[0].reason


def test_a_date_that_cannot_be_read_is_noted_since_the_id_has_the_time(tmp_path):
    wear = Wear(write_date=lambda _: "6 févr. 2026")
    export = read(write_posts(tmp_path / "export.csv", some_posts(3), CONTENT_EN, wear))
    assert same(export, some_posts(3))
    assert export.notes == {"the date was not readable; the id has the time": 3}


def test_a_post_from_before_ids_had_times_has_the_precision_of_its_date(tmp_path):
    moment = datetime(2009, 5, 6, 7, 8, tzinfo=UTC)
    post = PostTotals(1_714_611_111, moment, {"impressions": 5})
    day = read(write_posts(tmp_path / "content.csv", [post], CONTENT_EN)).posts[0]
    assert (day.posted_at, day.posted_at_precision) == (datetime(2009, 5, 6, tzinfo=UTC), "day")
    minute = read(write_posts(tmp_path / "old.csv", [post], PER_POST)).posts[0]
    assert (minute.posted_at, minute.posted_at_precision) == (moment, "minute")


def test_a_short_id_of_a_recent_post_is_quarantined(tmp_path):
    post = PostTotals(12345, START, {"impressions": 5})
    export = read(write_posts(tmp_path / "content.csv", [post], CONTENT_EN))
    assert "is no id of a post of 2026-02-06" in export.rejected[0].reason


def days_from(first: date, number: int, write: str) -> list[tuple[str, dict[str, int | None]]]:
    return [
        (f"{first + timedelta(days=index):{write}}", {"impressions": index, "new_follows": 1})
        for index in range(number)
    ]


@pytest.mark.parametrize("write", ["%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d"])
def test_the_order_of_day_and_month_is_learnt_from_the_whole_file(write, tmp_path):
    first = date(2026, 1, 1)
    path = write_overview(tmp_path / "overview.csv", days_from(first, 28, write))
    export = read(path)
    assert [day.day for day in export.days] == [first + timedelta(days=i) for i in range(28)]


def test_days_whose_order_nothing_shows_are_quarantined_not_guessed(tmp_path):
    path = write_overview(tmp_path / "overview.csv", days_from(date(2026, 1, 1), 12, "%d/%m/%Y"))
    export = read(path)
    # the first of January is the same either way
    assert [day.day for day in export.days] == [date(2026, 1, 1)]
    assert len(export.rejected) == 11
    assert all("cannot be told apart" in row.reason for row in export.rejected)


def test_a_day_given_twice_and_a_day_after_the_export_are_quarantined(tmp_path):
    days = [
        ("Fri, Feb 6, 2026", {"impressions": 1}),
        ("Fri, Feb 6, 2026", {"impressions": 2}),
        ("Fri, Feb 6, 2026", {"impressions": 1}),
        ("Wed, Jul 1, 2026", {"impressions": 1}),
        ("", {"impressions": 1}),
    ]
    export = read(write_overview(tmp_path / "overview.csv", days))
    assert [day.impressions for day in export.days] == [1]
    assert export.skipped == {"duplicate row": 1}
    assert [row.row for row in export.rejected] == [3, 5, 6]


@pytest.mark.parametrize("bad", ["12.3K", "-1", "1.5", "many", "1e5"])
@pytest.mark.parametrize("field", CONTENT_FIELDS)
def test_a_cell_that_is_no_count_quarantines_its_row_and_names_its_column(field, bad, tmp_path):
    rows = post_rows(some_posts(3), CONTENT_EN)
    position = CONTENT_EN.columns.index(field)
    rows[2][position] = bad
    export = read_bytes(tmp_path, to_bytes(rows))
    assert same(export, [some_posts(3)[0], some_posts(3)[2]])
    rejected = export.rejected[0]
    assert (rejected.row, rejected.column) == (3, CONTENT_EN.header[position])
    assert bad in rejected.reason


HEADERS = st.sampled_from(
    [",".join(dialect.header).encode() + b"\n" for dialect in POST_DIALECTS.values()]
    + [b"Date,Impressions,New follows,Unfollows\n", b"Date,Tweets published,impressions\n"]
)
CELL = st.one_of(
    st.sampled_from(
        [
            b"",
            b"-",
            b"0",
            b"12",
            b"1.0",
            b"12.3K",
            b'"',
            b'""',
            b'"a\nb"',
            b"\xff\xfe",
            b"\0",
            b"2019770265215930588",
            b"https://x.com/a/status/2019770265215930588",
            b"https://x.com/a/status/undefined",
            b'"Fri, Feb 6, 2026"',
            b"2026-02-06",
            b"02/06/2026",
            b"1.47689E+18",
        ]
    ),
    st.binary(max_size=12),
)
ROWS = st.lists(st.lists(CELL, max_size=20).map(b",".join), max_size=12).map(b"\n".join)


def gives_a_result_or_a_format_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_bytes(content)
    try:
        export = read_export(path, exported_at=EXPORTED_AT)
    except ExportFormatError:
        return
    assert rows_add_up(export)
    assert len({post.tweet_id for post in export.posts}) == len(export.posts)
    for item in (*export.posts, *export.days):
        assert all(count is None or count >= 0 for count in item.counts().values())
    for row in export.rejected:
        assert "\0" not in repr(row.raw)
        assert "\n" not in row.reason


@given(st.binary(max_size=400))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_result_or_a_format_error(tmp_path, content):
    gives_a_result_or_a_format_error(tmp_path, content)


@given(HEADERS, ROWS)
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_below_a_known_header_are_all_accounted_for(tmp_path, header, rows):
    gives_a_result_or_a_format_error(tmp_path, header + rows)


@given(st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_export_with_bytes_changed_anywhere_is_still_accounted_for(tmp_path, data):
    content = bytearray(to_bytes(post_rows(some_posts(5, text='a "b"\nc'), CONTENT_EN)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    gives_a_result_or_a_format_error(tmp_path, bytes(content))


def test_memory_does_not_grow_with_the_texts_of_a_file(tmp_path):
    def peak(posts: list[PostTotals]) -> int:
        path = write_posts(tmp_path / "export.csv", posts, CONTENT_EN)
        tracemalloc.start()
        for _ in open_export(path, exported_at=EXPORTED_AT):
            pass
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    # 8 MB of text against 40 KB: what is held is the id of each post, not the file
    posts = some_posts(400)
    long = [PostTotals(p.tweet_id, p.posted_at, p.counts, text="x" * 20_000) for p in posts]
    assert peak(long) < peak(posts) + 2_000_000
