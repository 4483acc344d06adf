"""Reads a labels file: which generator wrote which post.

Names are given back as written; which generator an odd spelling means, and whether it exists,
is decided where posts enter the database. The file goes through the same reader as an export,
so byte-order marks, semicolons and spreadsheet damage are met the same way.
"""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from genopt_pipeline.sources.exports.cells import CellError, display_name, excerpt, resolve_tweet_id
from genopt_pipeline.sources.exports.dialects import normalise_header
from genopt_pipeline.sources.exports.layout import DELIMITERS, header_row
from genopt_pipeline.sources.exports.records import ExportFormatError, RejectedRow
from genopt_pipeline.sources.exports.rows import (
    FileFacts,
    Row,
    RowReader,
    open_text,
    refuse_if_changed,
    survey,
)

LabelKey = Literal["post_id", "decision_id"]

_KEYS: Final[Mapping[str, LabelKey]] = {
    "post_id": "post_id",
    "post id": "post_id",
    "tweet_id": "post_id",
    "tweet id": "post_id",
    "decision_id": "decision_id",
    "decision id": "decision_id",
}
_GENERATOR: Final = frozenset({"generator_name", "generator name", "generator"})
_MAX_NAME: Final = 200


@dataclass(frozen=True)
class Labels:
    """Generators by post id (X's) or by decision id (the content engine's).

    ``rows_read == rows_kept + sum(skipped.values()) + len(rejected)``. A key that is given
    two different generators has neither: all its rows are in ``rejected``.
    """

    path: str
    key: LabelKey
    generators: Mapping[str, str]
    rejected: tuple[RejectedRow, ...]
    skipped: Mapping[str, int]
    rows_read: int
    content_hash: str

    @property
    def rows_kept(self) -> int:
        """Number of labels."""
        return len(self.generators)

    def generator_of(self, *, tweet_id: str | None, decision_id: str | None) -> str | None:
        """Generator of a post known by either id; None where the file has no label for it."""
        known = tweet_id if self.key == "post_id" else decision_id
        return None if known is None else self.generators.get(known)


@dataclass(frozen=True)
class _Layout:
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    header_row: int
    key: LabelKey
    key_position: int
    name_position: int


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read a file with the columns ``post_id,generator_name`` or ``decision_id,generator_name``.

    Other columns are passed over.

    Raises
    ------
    ExportFormatError
        The file has not these columns, or both keys, or changed while it was read.
    OSError
        The file cannot be opened or read.
    """
    where = Path(path)
    facts = survey(where)
    layout = _find_layout(where, facts)
    labelled: dict[str, tuple[str, Row]] = {}
    contradicted: dict[str, list[Row]] = {}
    rejected: list[RejectedRow] = []
    skipped: Counter[str] = Counter()
    rows_read = 0

    def reject(row: Row, column: str | None, reason: str) -> None:
        rejected.append(
            RejectedRow(
                display_name(where), row.number, column, reason, {"line": row.line_excerpt()}
            )
        )

    with closing(open_text(where, layout.encoding)) as text:
        rows = RowReader(text, delimiter=layout.delimiter)
        for row in rows:
            if row.number <= layout.header_row:
                continue
            rows_read += 1
            if row.is_blank:
                skipped["blank row"] += 1
                continue
            if row.problem is not None or not _wide_enough(row, layout):
                rows.resynchronise(row, width=len(layout.header))
                reject(row, None, row.problem or _wrong_width(row, layout))
                continue
            try:
                key, name = _label(row, layout)
            except _LabelError as error:
                reject(row, layout.header[error.position], str(error))
                continue
            if key in contradicted:
                contradicted[key].append(row)
                continue
            earlier = labelled.setdefault(key, (name, row))
            if earlier[1] is row:
                continue
            if earlier[0] == name:
                skipped["duplicate row"] += 1
            else:
                contradicted[key] = [earlier[1], row]
    for key, contradicting in contradicted.items():
        del labelled[key]
        others = ", ".join(str(row.number) for row in contradicting)
        for row in contradicting:
            reject(
                row,
                layout.header[layout.name_position],
                f"{layout.key} {excerpt(key)} is given different generators in rows {others}",
            )
    refuse_if_changed(where, facts)
    return Labels(
        path=str(where),
        key=layout.key,
        generators={key: name for key, (name, _) in labelled.items()},
        rejected=tuple(sorted(rejected, key=lambda item: item.row)),
        skipped=dict(skipped),
        rows_read=rows_read,
        content_hash=facts.content_hash,
    )


class _LabelError(ValueError):
    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.position = position


def _label(row: Row, layout: _Layout) -> tuple[str, str]:
    key, name = row.cells[layout.key_position].strip(), row.cells[layout.name_position].strip()
    if layout.key == "post_id":
        try:
            key = str(resolve_tweet_id(key, "")[0])
        except CellError as error:
            raise _LabelError(str(error), layout.key_position) from None
    elif not key or len(key) > _MAX_NAME or not key.isprintable():
        raise _LabelError(f"{excerpt(key)!r} is not a decision id", layout.key_position)
    if not name:
        raise _LabelError("no generator is named", layout.name_position)
    if len(name) > _MAX_NAME or not name.isprintable():
        raise _LabelError(f"{excerpt(name)!r} is no generator's name", layout.name_position)
    return key, name


def _wide_enough(row: Row, layout: _Layout) -> bool:
    width = len(layout.header)
    return len(row.cells) == width or (
        len(row.cells) > width and not any(cell.strip() for cell in row.cells[width:])
    )


def _wrong_width(row: Row, layout: _Layout) -> str:
    return f"has {len(row.cells)} cells where the header has {len(layout.header)}"


def _find_layout(path: Path, facts: FileFacts) -> _Layout:
    found: tuple[str, ...] | None = None
    for encoding in facts.encodings:
        for delimiter in DELIMITERS:
            with closing(open_text(path, encoding)) as text:
                row = header_row(RowReader(text, delimiter=delimiter))
            if row is None:
                continue
            header = tuple(row.cells)
            found = header if found is None or len(header) > len(found) else found
            spelled = [normalise_header(cell) for cell in header]
            keys = [index for index, cell in enumerate(spelled) if cell in _KEYS]
            names = [index for index, cell in enumerate(spelled) if cell in _GENERATOR]
            if len(keys) == len(names) == 1:
                key = _KEYS[spelled[keys[0]]]
                return _Layout(encoding, delimiter, header, row.number, key, keys[0], names[0])
    shown = ", ".join(repr(excerpt(cell, 40)) for cell in (found or ())[:8])
    raise ExportFormatError(
        f"{display_name(path)} is no labels file: it needs the columns post_id,generator_name or"
        f" decision_id,generator_name; found {shown or 'no header row'}"
    )
