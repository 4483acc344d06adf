"""Where an export's header stands and how its text is cut, and when the export was made.

Everything that is settled before the first row is read.
"""

import re
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from genopt_pipeline.sources.exports.cells import display_name
from genopt_pipeline.sources.exports.dialects import (
    HeaderMatch,
    describe_mismatch,
    match_header,
)
from genopt_pipeline.sources.exports.records import ExportedAtOrigin, ExportFormatError
from genopt_pipeline.sources.exports.rows import FileFacts, Row, RowReader, open_text

_HEADER_WITHIN_ROWS: Final = 100
DELIMITERS: Final = (",", ";", "\t")
_NAME_DATE: Final = re.compile(r"(?<![0-9])(20[0-9]{2})([-_.]?)([0-9]{2})\2([0-9]{2})(?![0-9])")
_SEPARATOR_LINE: Final = re.compile(r'"?sep=(.)"?,*\s*', re.IGNORECASE)
#: The account's calendar days begin up to 14 h before and end up to 12 h after those of UTC.
EARLIEST_ZONE: Final = timedelta(hours=14)
_LATEST_ZONE: Final = timedelta(hours=12)


@dataclass(frozen=True)
class Layout:
    """How the text of a file is to be cut, and where its header ends."""

    encoding: str
    delimiter: str
    header_row: int
    match: HeaderMatch


def determine_exported_at(
    path: Path, facts: FileFacts, given: datetime | None
) -> tuple[datetime, ExportedAtOrigin]:
    """When the export was made, and how that is known; see ``open_export``."""
    if given is not None:
        return given.astimezone(UTC), "argument"
    changed = datetime.fromtimestamp(facts.stamp[1] // 10**9, UTC)
    day = date_in_name(path.name)
    if day is None:
        return changed, "file_mtime"
    begins = datetime.combine(day, time(), UTC)
    ends = begins + timedelta(days=1)
    if begins - EARLIEST_ZONE <= changed <= ends + _LATEST_ZONE:
        return changed, "file_name"
    return ends + _LATEST_ZONE, "file_name"


def date_in_name(name: str) -> date | None:
    """Find the last date in a file name such as ``…_2026-02-14_2026-02-27.csv``."""
    found = None
    for match in _NAME_DATE.finditer(name):
        try:
            found = date(int(match[1]), int(match[3]), int(match[4]))
        except ValueError:
            continue
    return found


def find_layout(path: Path, facts: FileFacts) -> Layout:
    """Try encodings and delimiters; the header that tells most decides."""
    best: Layout | None = None
    first_seen: tuple[str, ...] | None = None
    for encoding in facts.encodings:
        for delimiter in DELIMITERS:
            with closing(open_text(path, encoding)) as text:
                header = header_row(RowReader(text, delimiter=delimiter))
            if header is None:
                continue
            cells = tuple(header.cells)
            if first_seen is None or len(cells) > len(first_seen):
                first_seen = cells
            try:
                match = match_header(cells)
            except ValueError as error:
                raise ExportFormatError(f"{display_name(path)}: {error}") from None
            if match is not None and (best is None or match.known > best.match.known):
                best = Layout(encoding, delimiter, header.number, match)
    if best is not None:
        return best
    if first_seen is None:
        raise ExportFormatError(f"{display_name(path)} holds no header row")
    raise ExportFormatError(
        f"{display_name(path)} is no known export: {describe_mismatch(first_seen)}"
    )


def header_row(rows: RowReader) -> Row | None:
    """Find the first row with content, past the ``sep=;`` line that spreadsheets leave."""
    for row in rows:
        if row.number > _HEADER_WITHIN_ROWS or row.problem is not None:
            return None
        if row.is_blank or _SEPARATOR_LINE.fullmatch(row.lines[0]):
            continue
        while not row.cells[-1].strip():
            row.cells.pop()
        return row
    return None
