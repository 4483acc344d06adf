"""Single cells: what is a count, a date, an id, and what is not."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.sources.exports.cells import (
    MAX_COUNT,
    SNOWFLAKE_EPOCH_MS,
    CellError,
    parse_count,
    parse_date,
    resolve_tweet_id,
    snowflake_time,
)
from genopt_pipeline_tests.sources.export_files import (
    fifteen_digits,
    long_date,
    scientific,
    short_date,
    through_a_double,
)

# up to 2075; the last doubles below 2**63 are no longer ids
SNOWFLAKES = st.integers(min_value=10**15, max_value=9 * 10**18)
COUNTS = st.integers(min_value=0, max_value=MAX_COUNT)
# %b and %a are English in the C locale that tests run in
DAYS = st.dates(min_value=date(2006, 3, 21), max_value=date(2080, 1, 1))


def link(tweet_id: int) -> str:
    return f"https://x.com/somebody/status/{tweet_id}"


@given(COUNTS)
def test_a_count_survives_every_display_format_of_a_whole_number(count):
    for cell in (str(count), f" {count} ", f"{count}.0", f"{count}.00", f"{count:,}"):
        assert parse_count(cell) == count
    for group in (" ", "\u00a0", "\u202f", "'", "’"):
        assert parse_count(f"{count:,}".replace(",", group)) == count


@given(COUNTS)
def test_a_count_survives_the_formats_of_a_decimal_comma(count):
    for cell in (str(count), f"{count},0", f"{count}.0", f"{count:,}".replace(",", ".")):
        assert parse_count(cell, decimal_comma=True) == count


@pytest.mark.parametrize("cell", ["", " ", "-", "–", "\u00a0"])
def test_nothing_measured_is_none_never_zero(cell):
    assert parse_count(cell) is None


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("12.3K", "abbreviation"),
        ("1.2M", "abbreviation"),
        ("3万", "abbreviation"),
        ("12K", "abbreviation"),
        ("1.5E+05", "rounded"),
        ("-5", "negative"),
        ("1.5", "whole number"),
        ("1.000", "whole number"),
        ("1,5", "whole number"),
        ("12,34", "whole number"),
        ("1,234.5", "whole number"),
        ("1,2345", "whole number"),
        ("nan", "not a count"),
        ("None", "not a count"),
        ("١٢٣", "not a count"),
        ("5 likes", "not a count"),
        ("5\0", "not a count"),
        ("0x1F", "not a count"),
        ("1_000", "not a count"),
        (str(MAX_COUNT + 1), "larger than any count"),
        ("9" * 5000, "larger than any count"),
    ],
)
def test_what_is_not_exactly_one_whole_number_is_refused_with_the_reason(cell, why):
    with pytest.raises(CellError, match=why):
        parse_count(cell)


def test_a_thousand_or_one_is_not_guessed():
    for cell, decimal_comma in (("1.000", False), ("1,000", True)):
        with pytest.raises(CellError):
            parse_count(cell, decimal_comma=decimal_comma)
    assert parse_count("1,000") == 1000
    assert parse_count("1.000", decimal_comma=True) == 1000


@given(st.text(max_size=30), st.booleans())
def test_any_cell_gives_a_count_or_none_or_a_reason(cell, decimal_comma):
    try:
        count = parse_count(cell, decimal_comma=decimal_comma)
    except CellError:
        return
    assert count is None or 0 <= count <= MAX_COUNT


@given(DAYS)
def test_a_day_survives_every_format_it_is_written_in(day):
    for cell in (
        long_date(day),
        short_date(day),
        day.isoformat(),
        f"{day:%Y/%m/%d}",
        f"{day.year}/{day.month}/{day.day}",
        f"{day.year}年{day.month}月{day.day}日",
        f"{day:%d.%m.%Y}",
        f"{day:%Y-%m-%d} 18:03 +0000",
        f"{day:%Y-%m-%d}T18:03:59.123Z",
    ):
        parsed = parse_date(cell)
        assert parsed is not None
        assert parsed.days == (day,), cell


def test_a_time_with_an_offset_is_turned_to_utc():
    parsed = parse_date("2018-10-31 23:30 -0200")
    assert parsed is not None
    assert parsed.time == datetime(2018, 11, 1, 1, 30, tzinfo=UTC)
    assert parsed.days == (date(2018, 11, 1),)


@given(DAYS)
def test_a_slash_date_means_both_days_it_can_mean(day):
    parsed = parse_date(f"{day:%m/%d/%Y}")
    assert parsed is not None
    assert day in parsed.days
    assert parsed.resolve("month_first") == day
    swapped = day.day <= 12 and day.day != day.month
    assert len(parsed.days) == (2 if swapped else 1)


@pytest.mark.parametrize(
    "cell", ["yesterday", "2021-13-01", "2021-02-30", "Fri, Foo 6, 2026", "13/13/2021", "44228"]
)
def test_what_is_no_date_is_refused(cell):
    with pytest.raises(CellError, match="not a date"):
        parse_date(cell)


@given(st.text(max_size=40))
def test_any_cell_gives_a_date_or_none_or_a_reason(cell):
    try:
        parsed = parse_date(cell)
    except CellError:
        return
    assert parsed is None or len(parsed.days) in {1, 2}


@given(
    st.datetimes(min_value=datetime(2010, 11, 5), max_value=datetime(2070, 1, 1)),  # noqa: DTZ001 - hypothesis wants naive bounds
    st.integers(0, 2**22 - 1),
)
def test_the_time_of_an_id_is_the_millisecond_it_was_made_from(moment, sequence):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    milliseconds = round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))
    tweet_id = (milliseconds - SNOWFLAKE_EPOCH_MS) << 22 | sequence
    assert snowflake_time(tweet_id) == moment


def test_ids_from_before_2010_carry_no_time():
    assert snowflake_time(20) is None
    assert snowflake_time(29_700_859_247) is None


@given(SNOWFLAKES)
def test_a_whole_id_is_kept_with_and_without_a_permalink(tweet_id):
    for cell in (str(tweet_id), f"'{tweet_id}", f'="{tweet_id}"', f" {tweet_id} "):
        assert resolve_tweet_id(cell, link(tweet_id)) == (tweet_id, False)
    if tweet_id % 1000:
        assert resolve_tweet_id(str(tweet_id), "") == (tweet_id, False)


@given(SNOWFLAKES)
def test_a_spoilt_id_is_taken_from_the_permalink_and_never_changed(tweet_id):
    for spoilt in (
        scientific(tweet_id),
        scientific(tweet_id).replace(".", ","),
        fifteen_digits(tweet_id),
        through_a_double(tweet_id),
        repr(float(tweet_id)),
        f"{float(tweet_id):.1f}",
        "",
        "#####",
    ):
        assert resolve_tweet_id(spoilt, link(tweet_id))[0] == tweet_id, spoilt


@given(SNOWFLAKES, SNOWFLAKES)
def test_an_id_and_a_permalink_of_different_posts_are_refused(one, other):
    if abs(one - other) > 10**13:
        for cell in (str(one), scientific(one), f"{float(one):.1f}", f"{float(one):.15E}"):
            with pytest.raises(CellError):
                resolve_tweet_id(cell, link(other))


def test_an_id_of_one_digit_left_agrees_with_what_rounds_to_it_only():
    assert resolve_tweet_id("2E+18", link(1886483849795768598)) == (1886483849795768598, True)
    with pytest.raises(CellError):
        resolve_tweet_id("2E+18", link(1344951626893848576))


@given(SNOWFLAKES.filter(lambda value: value >= 10**17))
def test_a_spoilt_id_without_a_permalink_is_refused(tweet_id):
    for spoilt in (scientific(tweet_id), fifteen_digits(tweet_id), repr(float(tweet_id)), ""):
        with pytest.raises(CellError):
            resolve_tweet_id(spoilt, "")


@pytest.mark.parametrize(
    "permalink",
    [
        "https://twitter.com/a/status/1886483849795768598",
        "https://x.com/a/status/1886483849795768598?s=20",
        "https://mobile.twitter.com/a/statuses/1886483849795768598",
        "https://x.com/i/web/status/1886483849795768598/photo/1",
    ],
)
def test_every_form_of_permalink_gives_the_id(permalink):
    assert resolve_tweet_id("", permalink) == (1886483849795768598, True)


@pytest.mark.parametrize("permalink", ["https://x.com/a/status/", "x", link(10**19), link(0)])
def test_a_permalink_without_a_possible_id_is_refused(permalink):
    with pytest.raises(CellError):
        resolve_tweet_id("", permalink)
