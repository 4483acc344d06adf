"""The drop folder: exports that lie in it are imported in a Dagster run, once each.

Here: which files are due, the sensor that asks for them, the job that imports them. Not here: the
import of one file (``importing``). Nothing in the folder is moved, renamed or written.

What was imported is remembered by content in ``export_files``, what failed in the quarantine, and
the labels that were applied last in ``source_states``: a renamed copy is nothing new, a file that
was mended is, and new labels make every file due once more, which changes only generators.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg

from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.importing import ImportSummary, import_export
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.sources.exports import ExportFormatError, Labels, read_labels
from genopt_pipeline.store import imports, quarantine, source_states
from genopt_pipeline.store import weights as weight_store

IMPORT: Final = "import_exports"
#: Not the job's name: a repository has one namespace for both.
IMPORT_OP: Final = "import_files"
#: The file with generators, beside the exports.
LABELS_NAME: Final = "labels.csv"
_SOURCE: Final = "drop_folder"
_FAILED_FILE: Final = "export_file"


@dataclass(frozen=True)
class Seen:
    """A file as the sensor saw it: its size and time of change, since when, and its content."""

    size: int
    mtime_ns: int
    since: float
    content_hash: str | None = None


@dataclass(frozen=True)
class Due:
    """What a run is to import."""

    files: tuple[tuple[str, str], ...]
    labels: str | None
    labels_hash: str | None


def look(
    folder: Path, before: Mapping[str, Seen], *, now: datetime, settle_seconds: float
) -> dict[str, Seen]:
    """The CSV files of the folder; those that are settled have their content hash.

    A file is settled when neither size nor time of change differed for ``settle_seconds``: what
    is still being written is left alone.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    seen: dict[str, Seen] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".csv" or path.name.startswith(".") or not path.is_file():
            continue
        status = path.stat()
        found = Seen(status.st_size, status.st_mtime_ns, now.timestamp())
        known = before.get(path.name)
        if known is not None and (known.size, known.mtime_ns) == (found.size, found.mtime_ns):
            found = known
        if found.content_hash is None and now.timestamp() - found.since >= settle_seconds:
            found = Seen(found.size, found.mtime_ns, found.since, _hash(path))
        seen[path.name] = found
    return seen


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def due(pipeline: Pipeline, folder: Path, seen: Mapping[str, Seen]) -> Due | None:
    """The settled files that were not imported with these labels yet, and did not fail before.

    None while the labels are still being written, or if nothing is due.
    """
    account_id = pipeline.settings.account
    labels = next((name for name in seen if name.lower() == LABELS_NAME), None)
    labels_hash = None if labels is None else seen[labels].content_hash
    if labels is not None and labels_hash is None:
        return None
    hashes = {
        item.content_hash: name
        for name, item in sorted(seen.items(), reverse=True)
        if name != labels and item.content_hash is not None
    }
    with pipeline.read() as connection:
        imported = imports.imported_hashes(connection, account_id, hashes)
        failed = quarantine.known_places(
            connection, account_id, _FAILED_FILE, [*hashes, labels_hash or ""]
        )
        applied = source_states.get_state(connection, account_id, _SOURCE, "labels")
    if labels_hash in failed:
        labels = labels_hash = None
    again = labels_hash is not None and labels_hash != applied
    files = tuple(
        (str(folder / name), content_hash)
        for content_hash, name in sorted(hashes.items(), key=lambda item: item[1])
        if content_hash not in failed and (again or content_hash not in imported)
    )
    if not files:
        return None
    return Due(files, None if labels is None else str(folder / labels), labels_hash)


@dataclass
class Dropped:
    """What became of the files of a run."""

    summaries: list[ImportSummary]
    failures: dict[str, str]
    #: changed or gone since the sensor saw them; the next tick looks again
    left: list[str]


def import_due(pipeline: Pipeline, account_id: str, wanted: Due) -> Dropped:
    """Import the files, each in a transaction of its own; a bad one does not stop the others.

    A file that is no export goes to quarantine under its content, and is not tried again.
    """
    done = Dropped([], {}, [])
    labels = _labels(pipeline, account_id, wanted, done)
    for name, content_hash in wanted.files:
        path = Path(name)
        try:
            if _hash(path) != content_hash:
                done.left.append(name)
                continue
            done.summaries.append(import_export(pipeline, account_id, path, labels=labels))
        except FileNotFoundError:
            done.left.append(name)
        except (ExportFormatError, OSError) as error:
            _fail(pipeline, account_id, path.name, content_hash, str(error), done)
    if labels is not None and not done.left:
        with pipeline.write() as connection:
            source_states.set_state(connection, account_id, _SOURCE, "labels", wanted.labels_hash)
    return done


def _labels(pipeline: Pipeline, account_id: str, wanted: Due, done: Dropped) -> Labels | None:
    if wanted.labels is None or wanted.labels_hash is None:
        return None
    try:
        return read_labels(wanted.labels)
    except (ExportFormatError, OSError) as error:
        name = Path(wanted.labels).name
        _fail(pipeline, account_id, name, wanted.labels_hash, str(error), done)
        return None


def _fail(
    pipeline: Pipeline, account_id: str, name: str, content_hash: str, reason: str, done: Dropped
) -> None:
    done.failures[name] = reason
    with pipeline.write() as connection:
        quarantine.put(
            connection,
            account_id,
            name,
            [(_FAILED_FILE, content_hash, reason, {"file": name, "content_hash": content_hash})],
        )


class DroppedFile(dg.Config):
    """A file and the content that it had when it was found."""

    path: str
    content_hash: str


class ImportExports(dg.Config):
    """Files to import, and the labels beside them."""

    files: list[DroppedFile]
    labels: str | None = None
    labels_hash: str | None = None


def make_drop_folder() -> tuple[dg.JobDefinition, dg.SensorDefinition]:
    """The job that imports, and the sensor that asks for it."""

    @dg.op(
        name=IMPORT_OP,
        pool="import",
        retry_policy=transient_retries(),
        description="Imports X exports, each whole or not at all; bad rows and bad files go to "
        "quarantine with the reason.",
    )
    def import_files(
        context: dg.OpExecutionContext,
        config: ImportExports,
        pipeline: dg.ResourceParam[Pipeline],
    ) -> None:
        wanted = Due(
            tuple((item.path, item.content_hash) for item in config.files),
            config.labels,
            config.labels_hash,
        )
        with explained():
            done = import_due(pipeline, pipeline.settings.account, wanted)
        for summary in done.summaries:
            context.log_event(
                dg.AssetMaterialization("content_metadata", metadata=_summary_metadata(summary))
            )
        for name in done.left:
            context.log.info("%s changed meanwhile; it is looked at again", name)
        context.add_output_metadata(
            {
                "files_imported": len(done.summaries),
                "files_failed": len(done.failures),
                "rows_kept": sum(summary.rows_kept for summary in done.summaries),
                "rows_quarantined": sum(summary.rows_rejected for summary in done.summaries),
                "failures": dg.MetadataValue.json(done.failures),
            }
        )
        if done.failures:
            # once a file: its content is in quarantine now, and no tick asks for it again
            raise dg.Failure(
                description="; ".join(f"{name}: {why}" for name, why in done.failures.items()),
                allow_retries=False,
            )

    @dg.job(
        name=IMPORT,
        description="Imports exports of the drop folder.",
        executor_def=dg.in_process_executor,
    )
    def import_job() -> None:
        import_files()

    @dg.sensor(
        name="import_drop_folder",
        job=import_job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Imports the exports that are put into GENOPT_DROP_FOLDER, once each, with the "
        f"generators of its {LABELS_NAME}. Moves nothing.",
    )
    def import_drop_folder(
        context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.SensorResult:
        settings = pipeline.settings
        if settings.drop_folder is None:
            return dg.SensorResult(skip_reason="GENOPT_DROP_FOLDER is not set")
        folder = settings.drop_folder.resolve()
        now = pipeline.now()
        try:
            seen = look(
                folder,
                _read_cursor(context.cursor),
                now=now,
                settle_seconds=settings.drop_folder_settle_seconds,
            )
        except OSError as error:
            return dg.SensorResult(skip_reason=f"{folder} cannot be read: {error.strerror}")
        cursor = json.dumps({name: asdict(item) for name, item in seen.items()})
        with pipeline.read() as connection:
            if settings.account not in weight_store.list_accounts(connection):
                said = f"account {settings.account!r} is not registered: {weight_store.REGISTER}"
                if seen and cursor != context.cursor:  # once, until the files change
                    context.log.warning("%s waits: %s", folder, said)
                return dg.SensorResult(skip_reason=said, cursor=cursor)
        wanted = due(pipeline, folder, seen)
        if wanted is None:
            waiting = sum(item.content_hash is None for item in seen.values())
            return dg.SensorResult(
                skip_reason=f"nothing new of {len(seen)} files"
                + (f"; {waiting} may still be written" if waiting else ""),
                cursor=cursor,
            )
        return dg.SensorResult(run_requests=[_request(wanted, now)], cursor=cursor)

    return import_job, import_drop_folder


def _request(wanted: Due, now: datetime) -> dg.RunRequest:
    content = _digest([*(item for _, item in wanted.files), wanted.labels_hash or ""])
    return dg.RunRequest(
        # an hourly key: what is still due after a failed run is asked for again, not at every tick
        run_key=f"drop:{content}:{now:%Y%m%d%H}",
        run_config={
            "ops": {
                IMPORT_OP: {
                    "config": {
                        "files": [
                            {"path": path, "content_hash": found} for path, found in wanted.files
                        ],
                        "labels": wanted.labels,
                        "labels_hash": wanted.labels_hash,
                    }
                }
            }
        },
    )


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read_cursor(cursor: str | None) -> dict[str, Seen]:
    return {name: Seen(**item) for name, item in json.loads(cursor or "{}").items()}


def _summary_metadata(summary: ImportSummary) -> dict[str, Any]:
    return {
        "dagster/row_count": summary.rows_kept,
        "file": Path(summary.file).name,
        "dialect": summary.dialect,
        "exported_at": dg.MetadataValue.timestamp(summary.exported_at),
        "exported_at_origin": summary.exported_at_origin,
        "imported_before": summary.repeated,
        "rows_read": summary.rows_read,
        "rows_skipped": dg.MetadataValue.json(summary.skipped),
        "rows_quarantined": summary.rows_rejected,
        "quarantined_rows": dg.MetadataValue.json(summary.rejected),
        "labelled": summary.labelled,
        "unlabelled": summary.unlabelled,
        "unknown_names": summary.quarantined_names,
    }
