"""From one cell to one value: counts, dates and post ids, or a reason why not.

Every function is pure and says no with a ``CellError``; which row and file the cell stood in
is the caller's to know. A spreadsheet's display format is undone only where one reading is
possible.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

DateOrder = Literal["day_first", "month_first"]

#: largest count PostgreSQL's bigint holds
MAX_COUNT: Final = 2**63 - 1
#: X's ids carry the milliseconds since this Unix time above their lowest 22 bits
SNOWFLAKE_EPOCH_MS: Final = 1_288_834_974_657
#: Ids were sequential until November 2010, when the last of them had eleven digits; the first
#: ids that carry a time are far above.
FIRST_SNOWFLAKE_ID: Final = 10**11
_SNOWFLAKE_START: Final = date(2010, 11, 4)

_NOT_MEASURED: Final = frozenset({"", "-", "–", "—"})
_SPACES: Final = str.maketrans(dict.fromkeys("\u00a0\u202f\u2009", " "))
_GROUPED_WITH_COMMA: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.0{1,2})?")
_GROUPED_WITH_POINT: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+(?:,0{1,2})?")
_GROUPED_OTHERWISE: Final = re.compile(r"[0-9]{1,3}(?:([ '’])[0-9]{3})(?:\1[0-9]{3})*")
_WHOLE_WITH_ZEROS: Final = re.compile(r"([0-9]+)[.,]0{1,2}")
_ABBREVIATED: Final = re.compile(
    r"[0-9][0-9.,]*\s*(?:k|m|b|mil|mi|mio|tsd|万|億|千)\.?", re.IGNORECASE
)
_SCIENTIFIC: Final = re.compile(r"([0-9])(?:[.,]([0-9]+))?[eE]\+?([0-9]{1,2})")

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
        start=1,
    )
}
_ENGLISH_DATE: Final = re.compile(
    r"(?:[A-Za-z]{3,9},? )?([A-Za-z]{3})[a-z]* ([0-9]{1,2}),? ([0-9]{4})"
)
_ISO_DATE: Final = re.compile(
    r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})"
    r"(?:[T ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]+)?)?"
    r" ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_CJK_DATE: Final = re.compile(r"([0-9]{4})年([0-9]{1,2})月([0-9]{1,2})日")
_NUMERIC_DATE: Final = re.compile(r"([0-9]{1,2})([/.-])([0-9]{1,2})\2([0-9]{4})(?: [0-9:]+)?")

_PERMALINK_ID: Final = re.compile(r"/status(?:es)?/([0-9]{1,19})(?![0-9])")
_GHOST_PERMALINK: Final = re.compile(r"/status(?:es)?/(?:undefined|null|NaN)?/?$")
_PERMALINK_HOST: Final = re.compile(r"https?://(?:[a-z]+\.)?(?:x|twitter)\.com/", re.IGNORECASE)


class CellError(ValueError):
    """The cell has no value that can be trusted; the message is the reason."""


def excerpt(text: str, limit: int = 60) -> str:
    """The start of a cell for a message: on one line, printable, at most ``limit`` characters."""
    shown = "".join(c if c.isprintable() else "␀" if c == "\0" else " " for c in text[:limit])
    return shown + "…" if len(text) > limit else shown


def display_name(path: Path) -> str:
    """Name of a file for messages and records; bytes in it that are no text become spaces."""
    return excerpt(path.name, 255)


def parse_count(cell: str, *, decimal_comma: bool = False) -> int | None:
    """Parse a count: a whole number, None where nothing was measured.

    Accepts what spreadsheets make of whole numbers (``76.0``, ``1,234``, ``1 234``). With
    ``decimal_comma`` (files cut by semicolons) point and comma change roles.

    Raises
    ------
    CellError
        For anything that is not exactly one whole number: abbreviations (``12.3K`` stands for
        a hundred counts), scientific notation, negative or fractional numbers, ``1.000``
        where it may be one or a thousand, numbers beyond ``MAX_COUNT``, words.
    """
    if cell.isascii() and cell.isdigit() and len(cell) <= 18:
        return int(cell)
    text = cell.translate(_SPACES).strip()
    if text in _NOT_MEASURED:
        return None
    grouped = _GROUPED_WITH_POINT if decimal_comma else _GROUPED_WITH_COMMA
    decimal_mark, group_mark = (",", ".") if decimal_comma else (".", ",")
    if text.isascii() and text.isdigit():
        digits = text
    elif match := _WHOLE_WITH_ZEROS.fullmatch(text):
        digits = match[1]
    elif grouped.fullmatch(text):
        digits = text.split(decimal_mark)[0].replace(group_mark, "")
    elif match := _GROUPED_OTHERWISE.fullmatch(text):
        digits = text.replace(match[1], "")
    else:
        raise CellError(_why_no_count(text))
    # int() refuses more than 4,300 digits, so the length is looked at first
    significant = digits.lstrip("0") or "0"
    if len(significant) > 19 or int(significant) > MAX_COUNT:
        raise CellError(f"{excerpt(text)!r} is larger than any count")
    return int(significant)


def _why_no_count(text: str) -> str:
    shown = repr(excerpt(text))
    if _ABBREVIATED.fullmatch(text):
        return f"{shown} is an abbreviation, not a count"
    if _SCIENTIFIC.fullmatch(text):
        return f"{shown} was rounded by a spreadsheet"
    if text.startswith(("-", "−")) and text[1:2].isdigit():
        return f"{shown} is negative; a count is not"
    if re.fullmatch(r"[0-9.,]+", text):
        return f"{shown} is not a whole number, or not clearly one"
    return f"{shown} is not a count"


@dataclass(frozen=True, slots=True)
class DateCell:
    """The calendar days a date cell may mean, and the time if it has one.

    Two days where a spreadsheet's ``03/02/2025`` leaves day and month open, else one;
    ``written`` says which order would have given which day.
    """

    days: tuple[date, ...]
    time: datetime | None = None
    written: tuple[DateOrder, ...] = ()

    def resolve(self, order: DateOrder | None) -> date:
        """Give the one day meant, under the order that the file as a whole shows.

        Raises
        ------
        CellError
            The order is open.
        """
        if len(self.days) == 1:
            return self.days[0]
        if order is None:
            raise CellError(
                "day and month cannot be told apart anywhere in this file; "
                "use the export as downloaded, not opened and saved by a spreadsheet"
            )
        return self.days[self.written.index(order)]


def parse_date(cell: str) -> DateCell | None:
    """Parse a date as exports and spreadsheets write it; None for an empty cell.

    A time without an offset is read as UTC, as the old per-post export wrote it.

    Raises
    ------
    CellError
        The cell holds something that is no date.
    """
    text = cell.translate(_SPACES).strip()
    if text in _NOT_MEASURED:
        return None
    try:
        if match := _ENGLISH_DATE.fullmatch(text):
            month = _MONTHS.get(match[1].lower())
            if month is not None:
                return DateCell((date(int(match[3]), month, int(match[2])),))
        elif match := _ISO_DATE.fullmatch(text):
            return _iso(match)
        elif match := _CJK_DATE.fullmatch(text):
            return DateCell((date(int(match[1]), int(match[2]), int(match[3])),))
        elif match := _NUMERIC_DATE.fullmatch(text):
            return _numeric(match)
    except (ValueError, OverflowError):
        # a month 13, a 30th of February, an offset that leaves the calendar
        pass
    raise CellError(f"{excerpt(text)!r} is not a date")


def _iso(match: re.Match[str]) -> DateCell:
    day = date(int(match[1]), int(match[2]), int(match[3]))
    if match[4] is None:
        return DateCell((day,))
    offset = timedelta()
    if match[7] and match[7][0] in "+-":
        sign = -1 if match[7][0] == "-" else 1
        offset = sign * timedelta(hours=int(match[7][1:3]), minutes=int(match[7][-2:]))
    local = datetime(
        day.year, day.month, day.day, int(match[4]), int(match[5]), int(match[6] or 0), tzinfo=UTC
    )
    utc = local - offset
    return DateCell((utc.date(),), time=utc)


def _numeric(match: re.Match[str]) -> DateCell:
    first, second, year = int(match[1]), int(match[3]), int(match[4])
    # Where days are set off by points or hyphens with the year last, the day comes first.
    orders: tuple[DateOrder, ...] = (
        ("day_first", "month_first") if match[2] == "/" else ("day_first",)
    )
    days: dict[DateOrder, date] = {}
    for order in orders:
        day, month = (first, second) if order == "day_first" else (second, first)
        if 1 <= month <= 12:
            days[order] = date(year, month, day)
    if not days:
        raise ValueError
    if len(set(days.values())) == 1 and len(days) == 2:
        return DateCell((date(year, first, first),))
    return DateCell(tuple(days.values()), written=tuple(days))


def snowflake_time(tweet_id: int) -> datetime | None:
    """Time of a post (UTC, to the millisecond) from its id; None for ids before November 2010."""
    if tweet_id < FIRST_SNOWFLAKE_ID:
        return None
    milliseconds = (tweet_id >> 22) + SNOWFLAKE_EPOCH_MS
    return datetime.fromtimestamp(milliseconds // 1000, UTC) + timedelta(
        milliseconds=milliseconds % 1000
    )


def before_snowflakes(day: date) -> bool:
    """Whether a post of that day can have an id that carries no time."""
    return day <= _SNOWFLAKE_START + timedelta(days=1)


def is_ghost(id_cell: str, permalink_cell: str) -> bool:
    """Whether a row stands for no post: no id, and a permalink to ``status/undefined`` or none."""
    link = permalink_cell.strip()
    return id_cell.strip() in {"", "undefined", "null"} and (
        not link or _GHOST_PERMALINK.search(link) is not None
    )


def clean_permalink(cell: str) -> str | None:
    """The permalink, if it is a link to a post on X; else None."""
    text = cell.strip()
    if len(text) <= 300 and _PERMALINK_HOST.match(text) and _PERMALINK_ID.search(text):
        return text
    return None


def resolve_tweet_id(id_cell: str, permalink_cell: str) -> tuple[int, bool]:
    """Find the id of a post from its two cells; ``(id, whether it came from the permalink)``.

    Spreadsheets keep 15 digits of an id (``1.47689E+18``, ``1476890000000000000``) or the
    nearest double; the permalink then still has all of them.

    Raises
    ------
    CellError
        No whole id in either cell, or two ids that are not the same post's.
    """
    match = _PERMALINK_ID.search(permalink_cell)
    linked = int(match[1]) if match else None
    if linked is not None and not 0 < linked <= MAX_COUNT:
        raise CellError(f"{excerpt(permalink_cell)!r} holds no possible post id")
    text = _unguarded(id_cell)
    if text.isascii() and text.isdigit() and len(text) <= 19 and 0 < int(text) <= MAX_COUNT:
        return _from_digits(int(text), linked)
    spoilt = not text or text.strip("#") == "" or _agrees(text, linked)
    if linked is not None and spoilt:
        return linked, True
    shown = repr(excerpt(id_cell))
    if linked is not None:
        raise CellError(f"{shown} is not the id in the permalink, {linked}")
    if text and _approximate(text) is not None:
        raise CellError(f"{shown} lost its digits to a spreadsheet and there is no permalink")
    raise CellError(f"{shown} is not a post id" if text else "no post id and no permalink")


def _from_digits(value: int, linked: int | None) -> tuple[int, bool]:
    if linked is None:
        # A true id of 19 digits ends in four zeros once in 10,000 times: asking for the link then
        # costs less than a post that does not exist.
        if value >= 10**17 and value == _fifteen_digits(value):
            raise CellError(f"{value} looks cut to 15 digits by a spreadsheet; no permalink")
        return value, False
    if value == linked:
        return value, False
    if value in {_fifteen_digits(linked), _fifteen_digits(linked, half_up=True)} or (
        value >= 2**53 and float(value) == float(linked)
    ):
        return linked, True
    raise CellError(f"id {value} and permalink {linked} are two different posts")


def _unguarded(cell: str) -> str:
    """The cell without what people put around ids so that a spreadsheet leaves them alone."""
    text = cell.strip()
    if text.startswith('="') and text.endswith('"'):
        text = text[2:-1]
    return text.strip("'’\"\u200e\u200f\ufeff ")


def _fifteen_digits(value: int, *, half_up: bool = False) -> int:
    unit: int = 10 ** max(len(str(value)) - 15, 0)
    return (value + (unit // 2 if half_up else 0)) // unit * unit


def _approximate(text: str) -> tuple[int, int] | None:
    """Value and possible error of a number in scientific notation or with a decimal zero."""
    if match := _SCIENTIFIC.fullmatch(text):
        fraction = match[2] or ""
        unit_exponent = int(match[3]) - len(fraction)
        if not 0 <= unit_exponent <= 18:
            return None
        unit: int = 10**unit_exponent
        # rounded to the digits shown, and before that to a double
        return int(match[1] + fraction) * unit, max(unit // 2, 256)
    if (match := _WHOLE_WITH_ZEROS.fullmatch(text)) and len(match[1]) <= 19:
        # a double of this size is a multiple of 256
        return int(match[1]), 256
    return None


def _agrees(text: str, linked: int | None) -> bool:
    about = _approximate(text)
    return about is not None and linked is not None and abs(about[0] - linked) <= about[1]
