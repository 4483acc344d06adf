"""Reads an export of X: opens it, finds its dialect, and turns rows into posts or days.

``read_export`` reads a file whole, ``open_export`` row by row in bounded memory. Neither
knows of a database, of generators or of the clock.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final, Literal

from genopt_pipeline.sources.exports.cells import (
    CellError,
    DateCell,
    DateOrder,
    before_snowflakes,
    clean_permalink,
    display_name,
    excerpt,
    is_ghost,
    parse_count,
    parse_date,
    resolve_tweet_id,
    snowflake_time,
)
from genopt_pipeline.sources.exports.dialects import (
    DATE,
    PERMALINK,
    TEXT,
    TWEET_ID,
    count_fields,
    normalise_header,
)
from genopt_pipeline.sources.exports.layout import (
    EARLIEST_ZONE,
    Layout,
    determine_exported_at,
    find_layout,
)
from genopt_pipeline.sources.exports.records import (
    ExportedAtOrigin,
    ExportedDay,
    ExportedPost,
    ExportFile,
    ExportKind,
    RejectedRow,
    TimePrecision,
)
from genopt_pipeline.sources.exports.rows import (
    FileFacts,
    Progress,
    Row,
    RowReader,
    open_text,
    refuse_if_changed,
    survey,
)

SkipReason = Literal["blank row", "ghost row", "repeated header", "duplicate row"]


class _Skip(Exception):  # noqa: N818 - a row without content is no error
    """The row holds nothing to keep."""

    def __init__(self, reason: SkipReason) -> None:
        super().__init__(reason)
        self.reason = reason


class _RowError(Exception):
    """The row is to be quarantined. ``in_disorder``: its lines may hold other rows."""

    def __init__(self, reason: str, column: str | None, *, in_disorder: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column
        self.in_disorder = in_disorder


class ExportReader:
    """One export, to be iterated over once: yields posts or days, and quarantined rows.

    The facts about the file are known from the start; the counts grow with the iteration.
    At its end ``rows_read == rows_kept + sum(skipped.values()) + rows_rejected``. Memory is
    bounded by one row, besides one number for each post's id, which finds duplicates.
    """

    def __init__(
        self,
        path: Path,
        *,
        facts: FileFacts,
        layout: Layout,
        exported_at: datetime,
        exported_at_origin: ExportedAtOrigin,
        progress: Progress | None = None,
    ) -> None:
        self.path = path
        self.content_hash = facts.content_hash
        self.encoding = layout.encoding
        self.delimiter = layout.delimiter
        self.dialect = layout.match.dialect.name
        self.kind: ExportKind = layout.match.dialect.kind
        self.unknown_columns = layout.match.unknown
        self.exported_at = exported_at
        self.exported_at_origin: ExportedAtOrigin = exported_at_origin
        self.rows_read = 0
        self.rows_kept = 0
        self.rows_rejected = 0
        self.skipped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._facts = facts
        self._layout = layout
        self._progress = progress
        self._header = layout.match.header
        self._fields = layout.match.fields
        self._counts = [
            (name, self._fields[name]) for name in count_fields(self.kind) if name in self._fields
        ]
        self._absent: dict[str, int | None] = {
            name: None for name in count_fields(self.kind) if name not in self._fields
        }
        self._normalised = [normalise_header(cell) for cell in self._header]
        self._decimal_comma = layout.delimiter == ";"
        self._date_order: DateOrder | None = None
        self._date_order_known = False
        #: row number and a digest of the content by id, packed into one integer
        self._seen: dict[int, int] = {}

    def __iter__(self) -> Iterator[ExportedPost | ExportedDay | RejectedRow]:
        """Read the file.

        Raises
        ------
        ExportFormatError
            The file changed while it was read; what was yielded is not to be kept.
        OSError
            The file can no longer be read.
        """
        if self.rows_read:
            raise RuntimeError(f"{display_name(self.path)} was read already; open it again")
        text = open_text(self.path, self.encoding, progress=self._progress, total=self._facts.size)
        with closing(text):
            rows = RowReader(text, delimiter=self.delimiter)
            for row in rows:
                if row.number <= self._layout.header_row:
                    continue
                self.rows_read += 1
                result = self._read(row, rows)
                if result is not None:
                    yield result
        refuse_if_changed(self.path, self._facts)
        if self.rows_read and not self._facts.ends_with_newline:
            self.notes["the last line has no line end; if the file was cut off, it ends there"] += 1

    def _read(self, row: Row, rows: RowReader) -> ExportedPost | ExportedDay | RejectedRow | None:
        try:
            cells = self._cut(row)
            result = self._post(row, cells) if self.kind == "posts" else self._day(row, cells)
        except _Skip as skip:
            self.skipped[skip.reason] += 1
            return None
        except _RowError as error:
            if error.in_disorder:
                rows.resynchronise(row, width=len(self._header))
            self.rows_rejected += 1
            return RejectedRow(
                file=display_name(self.path),
                row=row.number,
                column=error.column,
                reason=error.reason,
                raw=self._raw(row),
            )
        self.rows_kept += 1
        return result

    def _cut(self, row: Row) -> Sequence[str]:
        """Cells of the row, as many as the header has."""
        if row.problem is not None:
            raise _RowError(row.problem, None, in_disorder=True)
        if row.is_blank:
            raise _Skip("blank row")
        cells, width = row.cells, len(self._header)
        if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            cells = cells[:width]
        if len(cells) != width:
            cut_off = "; the row was cut off" if len(cells) < width else ""
            raise _RowError(
                f"has {len(cells)} cells where the header has {width}{cut_off}",
                None,
                in_disorder=True,
            )
        if self._is_header(cells):
            raise _Skip("repeated header")
        return cells

    def _is_header(self, cells: Sequence[str]) -> bool:
        """Whether the row repeats the header, as in files put together from several."""
        return not cells[0][:1].isdigit() and all(
            normalise_header(cell[:80]) == header
            for cell, header in zip(cells, self._normalised, strict=True)
        )

    def _read_counts(self, cells: Sequence[str]) -> dict[str, int | None]:
        counts: dict[str, int | None] = {}
        for name, position in self._counts:
            try:
                counts[name] = parse_count(cells[position], decimal_comma=self._decimal_comma)
            except CellError as error:
                raise _RowError(str(error), self._header[position]) from None
        return counts

    def _post(self, row: Row, cells: Sequence[str]) -> ExportedPost:
        id_cell, permalink_cell = self._cell(cells, TWEET_ID), self._cell(cells, PERMALINK)
        id_column = self._column(TWEET_ID) or self._column(PERMALINK)
        if is_ghost(id_cell, permalink_cell):
            if any(self._read_counts(cells).values()):
                raise _RowError("the row has numbers but leads to no post", id_column)
            raise _Skip("ghost row")
        try:
            tweet_id, from_permalink = resolve_tweet_id(id_cell, permalink_cell)
        except CellError as error:
            # two posts in one row: a quotation mark swallowed the line end between them
            raise _RowError(str(error), id_column, in_disorder=True) from None
        posted_at, precision = self._posted_at(tweet_id, cells)
        counts = self._read_counts(cells)
        if posted_at > self.exported_at:
            raise _RowError(
                f"posted at {posted_at:%Y-%m-%d %H:%M} UTC, after the export"
                f" ({self.exported_at:%Y-%m-%d %H:%M}, from {ORIGINS[self.exported_at_origin]})",
                id_column,
            )
        self._refuse_duplicate(row, tweet_id, tuple(counts.values()), id_column)
        if from_permalink:
            self.notes["the id was taken from the permalink"] += 1
        return ExportedPost(
            row=row.number,
            tweet_id=str(tweet_id),
            id_quality="from_permalink" if from_permalink else "exact",
            posted_at=posted_at,
            posted_at_precision=precision,
            permalink=clean_permalink(permalink_cell),
            text_length=len(cells[self._fields[TEXT]]) if TEXT in self._fields else None,
            **counts,
            **self._absent,
        )

    def _posted_at(self, tweet_id: int, cells: Sequence[str]) -> tuple[datetime, TimePrecision]:
        column = self._column(DATE)
        exact = snowflake_time(tweet_id)
        try:
            written = parse_date(self._cell(cells, DATE))
        except CellError as error:
            if exact is None:
                raise _RowError(str(error), column) from None
            self.notes["the date was not readable; the id has the time"] += 1
            return exact, "exact"
        if exact is not None:
            # The date is one of the account's time zone, which is unknown: a day of play.
            if written is not None and not any(
                abs((day - exact.date()).days) <= 1 for day in written.days
            ):
                raise _RowError(
                    f"the date is {written.days[0]}, but the id was made"
                    f" at {exact:%Y-%m-%d %H:%M} UTC",
                    column,
                    in_disorder=True,
                )
            return exact, "exact"
        if written is None:
            raise _RowError("neither the id nor a date says when it was posted", column)
        try:
            day = written.resolve(None)
        except CellError as error:
            raise _RowError(str(error), column) from None
        if not before_snowflakes(day):
            raise _RowError(f"{tweet_id} is no id of a post of {day}", self._column(TWEET_ID))
        if written.time is not None:
            return written.time, "minute"
        return datetime.combine(day, time(), UTC), "day"

    def _day(self, row: Row, cells: Sequence[str]) -> ExportedDay:
        column = self._column(DATE)
        try:
            written = parse_date(self._cell(cells, DATE))
            if written is None:
                raise _RowError("no date", column)
            day = written.days[0] if len(written.days) == 1 else self._resolve(written)
        except CellError as error:
            raise _RowError(str(error), column) from None
        counts = self._read_counts(cells)
        if datetime.combine(day, time(), UTC) - EARLIEST_ZONE > self.exported_at:
            raise _RowError(
                f"the day {day} begins after the export"
                f" ({self.exported_at:%Y-%m-%d %H:%M}, from {ORIGINS[self.exported_at_origin]})",
                column,
            )
        self._refuse_duplicate(row, day.toordinal(), tuple(counts.values()), column)
        return ExportedDay(row=row.number, day=day, **counts, **self._absent)

    def _refuse_duplicate(
        self, row: Row, key: int, content: tuple[int | None, ...], column: str | None
    ) -> None:
        """Skip a row seen already; quarantine one that says otherwise than the first."""
        digest = hash(content) & 0xFFFF_FFFF_FFFF_FFFF
        first = self._seen.setdefault(key, row.number << 64 | digest)
        if first >> 64 == row.number:
            return
        if first & 0xFFFF_FFFF_FFFF_FFFF == digest:
            raise _Skip("duplicate row")
        raise _RowError(
            f"row {first >> 64} has the same {'post' if self.kind == 'posts' else 'day'}"
            " with other numbers, and was kept",
            column,
        )

    def _resolve(self, written: DateCell) -> date:
        """Settle day and month by the dates of the whole file, which are read for it once."""
        if not self._date_order_known:
            self._date_order = self._learn_date_order()
            self._date_order_known = True
        return written.resolve(self._date_order)

    def _learn_date_order(self) -> DateOrder | None:
        orders: set[DateOrder] = set()
        with closing(open_text(self.path, self.encoding)) as text:
            for row in RowReader(text, delimiter=self.delimiter):
                if row.number <= self._layout.header_row or self._fields[DATE] >= len(row.cells):
                    continue
                try:
                    written = parse_date(row.cells[self._fields[DATE]])
                except CellError:
                    continue
                if written is not None and len(written.written) == 1:
                    orders.update(written.written)
        return orders.pop() if len(orders) == 1 else None

    def _cell(self, cells: Sequence[str], field: str) -> str:
        position = self._fields.get(field)
        return "" if position is None else cells[position]

    def _column(self, field: str) -> str | None:
        position = self._fields.get(field)
        return None if position is None else self._header[position]

    def _raw(self, row: Row) -> Mapping[str, str]:
        if row.problem is not None or len(row.cells) < len(self._header):
            return {"line": row.line_excerpt()}
        text = self._fields.get(TEXT)
        return {
            excerpt(self._header[position]): excerpt(row.cells[position], 200)
            for position in range(len(self._header))
            if position != text
        }


ORIGINS: Final[Mapping[ExportedAtOrigin, str]] = {
    "argument": "the date given",
    "file_name": "the date in the file's name",
    "file_mtime": "the file's time of change",
}


def open_export(
    path: str | os.PathLike[str],
    *,
    exported_at: datetime | None = None,
    progress: Progress | None = None,
) -> ExportReader:
    """Open an export for reading row by row.

    ``exported_at`` is when the export was made: the argument, else a date in the file's name
    (the end of that day in the last time zone on Earth, or the file's mtime where that falls
    on the day), else the mtime. ``progress`` is called with bytes read and bytes in all.

    Raises
    ------
    ExportFormatError
        The file is no export in any known dialect; one line that names what was found.
    ValueError
        ``exported_at`` without a time zone.
    OSError
        The file cannot be opened or read.
    """
    where = Path(path)
    if exported_at is not None and exported_at.tzinfo is None:
        raise ValueError("exported_at needs a time zone")
    facts = survey(where)
    layout = find_layout(where, facts)
    moment, origin = determine_exported_at(where, facts, exported_at)
    return ExportReader(
        where,
        facts=facts,
        layout=layout,
        exported_at=moment,
        exported_at_origin=origin,
        progress=progress,
    )


def read_export(
    path: str | os.PathLike[str],
    *,
    exported_at: datetime | None = None,
    progress: Progress | None = None,
) -> ExportFile:
    """Read an export whole; see ``open_export`` for arguments and errors."""
    reader = open_export(path, exported_at=exported_at, progress=progress)
    posts: list[ExportedPost] = []
    days: list[ExportedDay] = []
    rejected: list[RejectedRow] = []
    for item in reader:
        match item:
            case ExportedPost():
                posts.append(item)
            case ExportedDay():
                days.append(item)
            case RejectedRow():
                rejected.append(item)
    return ExportFile(
        path=str(reader.path),
        dialect=reader.dialect,
        kind=reader.kind,
        content_hash=reader.content_hash,
        encoding=reader.encoding,
        delimiter=reader.delimiter,
        exported_at=reader.exported_at,
        exported_at_origin=reader.exported_at_origin,
        posts=tuple(posts),
        days=tuple(days),
        rejected=tuple(rejected),
        skipped=dict(reader.skipped),
        notes=dict(reader.notes),
        unknown_columns=reader.unknown_columns,
        rows_read=reader.rows_read,
    )
