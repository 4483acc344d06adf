"""Bytes to rows: hash, encoding, and a CSV reader that survives what files go through.

Nothing here knows what a column means. Memory is bounded by ``MAX_ROW_CHARACTERS`` whatever
the file holds; a stray quotation mark costs the row it stands in, not the rest of the file.
"""

import codecs
import csv
import hashlib
import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from genopt_pipeline.sources.exports.cells import display_name, excerpt
from genopt_pipeline.sources.exports.records import ExportFormatError

#: The longest post X allows is 25,000 characters; csv gives up on fields of 131,072.
MAX_ROW_CHARACTERS: Final = 131_072
_CHUNK_BYTES: Final = 1 << 20
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FORMATS: Final = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive; save it as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV"),
    (b"\x1f\x8b", "compressed; unpack it"),
    (b"%PDF", "a PDF"),
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FileFacts:
    """What one pass over the bytes shows.

    ``encodings`` are candidates, likeliest first; the header decides between them.
    ``stamp`` is (size, mtime in ns) and tells whether the file changed since.
    """

    size: int
    content_hash: str
    encodings: tuple[str, ...]
    stamp: tuple[int, int]
    ends_with_newline: bool


def survey(path: Path) -> FileFacts:
    """Hash a file and find the encodings it can be read in.

    Raises
    ------
    ExportFormatError
        Not a regular file, empty, or of a format that is no text.
    OSError
        The file cannot be opened or read.
    """
    with _open_regular(path) as file:
        status = os.fstat(file.fileno())
        digest = hashlib.sha256()
        decoder = codecs.getincrementaldecoder("utf-8")()
        head, tail, valid_utf8 = b"", b"", True
        while chunk := file.read(_CHUNK_BYTES):
            head = head or chunk[:4096]
            tail = chunk[-1:]
            digest.update(chunk)
            if valid_utf8:
                try:
                    # never final: a file cut within a character is UTF-8 all the same
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    valid_utf8 = False
    if not head:
        raise ExportFormatError(f"{display_name(path)} is empty")
    for magic, what in _OTHER_FORMATS:
        if head.startswith(magic):
            raise ExportFormatError(f"{display_name(path)} is no CSV file but {what}")
    return FileFacts(
        size=status.st_size,
        content_hash=digest.hexdigest(),
        encodings=_encodings(head, valid_utf8=valid_utf8),
        stamp=(status.st_size, status.st_mtime_ns),
        ends_with_newline=tail in {b"\n", b"\r", b"\0"},
    )


def refuse_if_changed(path: Path, facts: FileFacts) -> None:
    """Raise ``ExportFormatError`` if the file is not the one that was surveyed any more."""
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != facts.stamp:
        raise ExportFormatError(f"{display_name(path)} changed while it was read; try again")


def _open_regular(path: Path) -> io.FileIO:
    # O_NONBLOCK: opening a FIFO must not wait for somebody to write into it
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ExportFormatError(f"{display_name(path)} is not a regular file")
    return io.FileIO(descriptor, "rb")


def _encodings(head: bytes, *, valid_utf8: bool) -> tuple[str, ...]:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return (encoding,)
    # Latin letters in UTF-16 have a NUL in every other byte.
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > len(head) // 5 and even < odd // 4:
        return ("utf-16-le",)
    if even > len(head) // 5 and odd < even // 4:
        return ("utf-16-be",)
    if valid_utf8:
        return ("utf-8",)
    # What spreadsheets write on Western, Japanese and Apple systems, and UTF-8 with damage.
    return ("cp1252", "utf-8", "cp932", "mac_roman")


class _CountedBytes(io.RawIOBase):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, progress: Progress | None, total: int) -> None:
        self._file = _open_regular(path)
        self._progress = progress
        self._total = total
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._file.readinto(buffer))
        self._done += count
        if self._progress is not None and count:
            self._progress(self._done, self._total)
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def open_text(
    path: Path, encoding: str, *, progress: Progress | None = None, total: int = 0
) -> TextIO:
    """Open a file for ``RowReader``; bytes that are no text become U+FFFD."""
    raw = _CountedBytes(path, progress, total)
    buffered = io.BufferedReader(raw, buffer_size=1 << 16)
    return io.TextIOWrapper(buffered, encoding=encoding, errors="replace", newline="")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as a spreadsheet would show it, numbered from 1.

    ``problem`` is set where the row could not be cut into cells; ``lines`` are the physical
    lines it was read from.
    """

    number: int
    cells: list[str]
    lines: tuple[str, ...]
    problem: str | None = None

    @property
    def is_blank(self) -> bool:
        """Whether no cell holds anything."""
        return self.problem is None and not any(cell.strip() for cell in self.cells)

    def line_excerpt(self) -> str:
        """The start of the row, for a message."""
        return excerpt("".join(self.lines[:3]), 200)


class _RowTooLongError(Exception):
    """A row passed ``MAX_ROW_CHARACTERS``."""


class RowReader:
    """Iterates over the rows of a delimited file.

    A row that opens a quotation mark and never closes it swallows what follows. Whoever finds
    a row in disorder calls ``resynchronise`` with it, and reading goes on at the first of its
    lines that is a whole row by itself.
    """

    def __init__(self, text: TextIO, *, delimiter: str) -> None:
        self._text = text
        self._delimiter = delimiter
        self._pending: deque[str] = deque()
        self._current: list[str] = []
        self._characters = 0
        self._ran_out = False
        self._number = 0
        self._csv = csv.reader(self._feed(), delimiter=delimiter)

    def __iter__(self) -> Iterator[Row]:
        """Rows from the current position to the end."""
        while (row := self.next_row()) is not None:
            yield row

    def next_row(self) -> Row | None:
        """Read the next row; None at the end."""
        self._current, self._characters, self._ran_out = [], 0, False
        problem = None
        cells: list[str] = []
        try:
            cells = next(self._csv)
        except StopIteration:
            if not self._current:
                return None
            problem = "a quotation mark is opened and never closed"
        except _RowTooLongError:
            problem = (
                f"longer than {MAX_ROW_CHARACTERS:,} characters; "
                "probably a quotation mark is opened and never closed"
            )
            self._restart()
        except csv.Error as error:
            problem = f"no CSV: {error}"
            self._restart()
        else:
            if self._ran_out:
                problem = "the file ends within a quoted cell; it was cut off"
        self._number += 1
        return Row(self._number, cells, tuple(self._current), problem)

    def resynchronise(self, row: Row, *, width: int) -> bool:
        """Go on at the first line of ``row`` that is a whole row of ``width`` cells by itself.

        Returns whether there was one. ``row`` must be the last row read.
        """
        for index, line in enumerate(row.lines[1:], start=1):
            if line.count(self._delimiter) < width - 1 or line.count('"') % 2:
                continue
            try:
                alone = next(csv.reader([line], delimiter=self._delimiter), [])
            except csv.Error:
                continue
            if len(alone) == width:
                self._pending.extendleft(reversed(row.lines[index:]))
                self._restart()
                return True
        return False

    def _restart(self) -> None:
        self._csv = csv.reader(self._feed(), delimiter=self._delimiter)

    def _feed(self) -> Iterator[str]:
        """Physical lines, each noted as part of the current row."""
        while True:
            if self._pending:
                line = self._pending.popleft()
            else:
                line = self._text.readline(MAX_ROW_CHARACTERS + 1)
                if not line:
                    # csv asks for more only where the row is not complete
                    self._ran_out = bool(self._current)
                    return
            self._characters += len(line)
            if self._characters > MAX_ROW_CHARACTERS:
                self._note_overlong(line)
                raise _RowTooLongError
            self._current.append(line)
            yield line

    def _note_overlong(self, line: str) -> None:
        if len(line) <= MAX_ROW_CHARACTERS:
            # the row is too long, not this line: it may be a good row by itself
            self._pending.appendleft(line)
            return
        self._current.append(line[:200])
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(MAX_ROW_CHARACTERS + 1)
