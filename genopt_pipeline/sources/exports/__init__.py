"""X analytics exports: the files a user downloads, read without a database.

An export row is a total at the date of the export, not a trajectory. This package finds the
dialect by the header, keeps the good rows, quarantines the others with the reason, and keeps
no post texts. Storing what was read, and deciding which of two exports is newer, is done
elsewhere.
"""

from genopt_pipeline.sources.exports.dialects import DIALECTS, Dialect
from genopt_pipeline.sources.exports.labels import Labels, read_labels
from genopt_pipeline.sources.exports.reader import ORIGINS, ExportReader, open_export, read_export
from genopt_pipeline.sources.exports.records import (
    DAY_COUNTS,
    POST_COUNTS,
    ExportedDay,
    ExportedPost,
    ExportFile,
    ExportFormatError,
    RejectedRow,
)

__all__ = [
    "DAY_COUNTS",
    "DIALECTS",
    "ORIGINS",
    "POST_COUNTS",
    "Dialect",
    "ExportFile",
    "ExportFormatError",
    "ExportReader",
    "ExportedDay",
    "ExportedPost",
    "Labels",
    "RejectedRow",
    "open_export",
    "read_export",
    "read_labels",
]
