"""``genopt validate``: looks at everything an installation needs, before the first post.

Nothing is written, no post is read, and nothing is sent unless ``online`` asks for one request.
"""

import os
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from genopt_pipeline.core import validation
from genopt_pipeline.core.validation import Finding, Validation, skipped
from genopt_pipeline.defs.build import build_defs
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.defs.sources import simulated_by_default, x_api_source, x_user_id
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.settings import Settings
from genopt_pipeline.sources.base import SourceError
from genopt_pipeline.store import monitoring, setup, source_states
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import (
    DatabaseUnavailableError,
    describe,
    open_engine,
    reading_errors,
)
from genopt_pipeline.store.migrate import SchemaVersionError, check_revision, head_revision
from genopt_pipeline.store.server import (
    DatabaseUrlError,
    DatabaseUrls,
    EmbeddedServerError,
    NoInstallationError,
    data_directory,
    resolve_urls,
)

DAGSTER_FILES: Final = ("dagster.yaml", "workspace.yaml")
#: Findings about genopt's tables, which need the database.
_OF_DATABASE: Final = (
    "privileges",
    "search_path",
    "account",
    "weights",
    "aliases",
    "quarantine",
    "table_partitions",
    "clock",
    "policy",
    "source",
)
MIGRATE: Final = "Run `genopt migrate`."
SOURCE_ACTION: Final = "Set GENOPT_SOURCE to x_api or exports, unless this is a trial."


def validate(pipeline: Pipeline, *, dagster_home: Path, online: bool = False) -> Validation:
    """Look at everything, and go on after what is wrong.

    Parameters
    ----------
    pipeline
        The installation, whose settings have been read.
    dagster_home
        The folder that should hold dagster.yaml and workspace.yaml.
    online
        Also ask the X API who the token belongs to: one request, which X may bill.
    """
    settings, now = pipeline.settings, pipeline.now()
    findings = [
        validation.judge_variables(
            {name for name in os.environ if name.startswith("GENOPT_")},
            {f"GENOPT_{name.upper()}" for name in Settings.model_fields},
        ),
        validation.judge_start(settings.start, now),
        _home(settings.home),
        _tokens(settings.home),
        _drop_folder(settings.drop_folder),
        _webhook(settings.alert_webhook_url is not None),
    ]
    urls, finding = _urls(pipeline)
    findings.append(finding)
    if urls is None:
        because = "the database cannot be reached"
        findings += [skipped(name, because) for name in ("revision", *_OF_DATABASE, "dagster")]
        findings += [_files(dagster_home), skipped("daemon", because)]
    else:
        findings += _database(pipeline, urls.genopt, online=online)
        findings += _dagster(urls.dagster, dagster_home, now)
    findings.append(_definitions(pipeline))
    return Validation(tuple(findings))


def _home(home: Path) -> Finding:
    path = home.resolve()
    action = "Set GENOPT_HOME to a folder that this user can write."
    existing = next(each for each in (path, *path.parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("home", "error", f"{path} (GENOPT_HOME) cannot be written", action)
    if existing != path:
        return Finding("home", "ok", f"{path} does not exist yet and can be made")
    return validation.judge_home_mode(str(path), path.stat().st_mode)


def _tokens(home: Path) -> Finding:
    files = sorted(home.resolve().glob("x_tokens_*.json"))
    return validation.judge_private_files({str(path): path.lstat().st_mode for path in files})


def _drop_folder(folder: Path | None) -> Finding:
    if folder is None:
        return Finding("drop_folder", "ok", "no folder is watched for exports")
    path = folder.resolve()
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        return Finding(
            "drop_folder",
            "error",
            f"{path} (GENOPT_DROP_FOLDER) is no folder that can be read",
            "Make it, or let the daemon's user read it.",
        )
    return Finding("drop_folder", "ok", f"exports put into {path} are imported")


def _webhook(is_set: bool) -> Finding:
    # the address was judged with the settings; it is a secret, so nothing of it is shown
    return Finding(
        "webhook",
        "ok",
        "alerts go to the log and to the webhook" if is_set else "alerts go to the log only",
    )


def _urls(pipeline: Pipeline) -> tuple[DatabaseUrls | None, Finding]:
    try:
        urls = resolve_urls(pipeline.settings)
        engine = open_engine(urls.genopt)
        try:
            with reading_errors(urls.genopt), engine.connect() as connection:
                version = connection.connection.dbapi_connection.info.parameter_status(  # type: ignore[union-attr]  # psycopg's own connection
                    "server_version"
                )
        finally:
            engine.dispose()
    except DatabaseUnavailableError as error:
        action = "Start PostgreSQL or correct GENOPT_DATABASE_URL"
        if "does not exist" in str(error):
            action = "Run `genopt migrate`, which creates the database, or correct the address"
        return None, Finding("database", "error", str(error), f"{action}.")
    except NoInstallationError as error:
        where, _, action = str(error).partition("; ")
        return None, Finding("database", "error", where, f"{action[0].upper()}{action[1:]}.")
    except (DatabaseUrlError, EmbeddedServerError) as error:
        return None, Finding("database", "error", str(error), "Correct the address or the folder.")
    if pipeline.settings.database_url is None:
        answers = (
            f"the embedded PostgreSQL {version} in {data_directory(pipeline.settings.home)} answers"
        )
    else:
        answers = f"the PostgreSQL {version} that GENOPT_DATABASE_URL names answers"
    return urls, Finding("database", "ok", answers)


@contextmanager
def _asking(check: str, findings: list[Finding], names: tuple[str, ...]) -> Any:
    """Turn a refusal of the database into a finding, and what was not reached into skips."""
    try:
        yield
    except DBAPIError as error:
        findings.append(
            Finding(
                check,
                "error",
                f"the database refused: {describe(error)}",
                "Run `genopt grant ROLE --as worker` as the role that ran `genopt migrate`.",
            )
        )
        told = {item.check for item in findings}
        findings += [skipped(name, "the database refused") for name in names if name not in told]


def _database(pipeline: Pipeline, url: URL, *, online: bool) -> list[Finding]:
    findings: list[Finding] = []
    settings = pipeline.settings
    engine = open_engine(url)
    try:
        with _asking("revision", findings, _OF_DATABASE), engine.connect() as connection:
            try:
                check_revision(connection)
            except SchemaVersionError as error:
                findings.append(Finding("revision", "error", str(error), MIGRATE))
                because = "the schema is not of this version"
                return findings + [skipped(name, because) for name in _OF_DATABASE]
            findings.append(
                Finding("revision", "ok", f"the schema is at revision {head_revision()}")
            )
            lacking = setup.missing_privileges(connection)
            findings += [validation.judge_privileges(lacking), _search_path(url)]
            findings += _account(connection, settings.account, pipeline)
            findings.append(
                validation.judge_months(setup.snapshot_months(connection), pipeline.now())
            )
            findings.append(
                validation.judge_clock(setup.database_time(connection) - datetime.now(UTC))
            )
            bound = source_states.get_state(connection, settings.account, "live", "source")
            findings.append(_source(pipeline, bound, online=online))
    finally:
        engine.dispose()
    return findings


def _search_path(url: URL) -> Finding:
    visible = setup.visible_schemas(url)
    if "genopt" in visible:
        return Finding("search_path", "ok", "unqualified queries find the tables")
    return Finding(
        "search_path",
        "warning",
        f"a plain connection sees the schemas {', '.join(visible) or '(none)'}, not genopt: "
        "queries without `genopt.` do not find the tables",
        "Run `genopt migrate`; or ALTER ROLE … RESET search_path, if the role has one of its own.",
    )


def _account(connection: Any, account_id: str, pipeline: Pipeline) -> list[Finding]:
    settings = pipeline.settings
    try:
        live = weight_store.live_weights(connection, account_id)
    except weight_store.UnknownAccountError as error:
        because, register = "the account is not registered", weight_store.REGISTER
        return [
            Finding(
                "account",
                "error",
                str(error).split(";")[0],
                f"{register[0].upper()}{register[1:]}.",
            ),
            *(skipped(name, because) for name in ("weights", "aliases", "quarantine", "policy")),
        ]
    findings = [
        Finding("account", "ok", f"account {account_id!r} is registered"),
        validation.judge_weights({name: row.weight for name, row in live.generators.items()}),
    ]
    otherwise = setup.names_resolved_otherwise(connection, account_id)
    findings.append(
        Finding(
            "aliases",
            "error",
            f"an alias gives the own name of {', '.join(otherwise)} to another generator",
            "Remove the alias from genopt.generator_aliases.",
        )
        if otherwise
        else Finding("aliases", "ok", "every generator is found by its own name")
    )
    unknown = monitoring.unknown_generators(connection, account_id)
    findings.append(
        Finding(
            "quarantine",
            "warning",
            f"{sum(unknown.values())} records name unknown generators: {', '.join(unknown)}",
            "See `genopt quarantine`; give each name to a generator with its --resolve.",
        )
        if unknown
        else Finding("quarantine", "ok", "no record names an unknown generator")
    )
    findings.append(
        validation.judge_policy(
            live.by_name,
            {name: row.status for name, row in live.generators.items()},
            {name for name, row in live.generators.items() if row.locked},
            floor=settings.min_weight,
            cap=settings.max_weight,
            step=settings.aggressiveness,
        )
    )
    return findings


def _source(pipeline: Pipeline, bound: Any, *, online: bool) -> Finding:
    settings = pipeline.settings
    reads = f"x_api:{x_user_id(settings)}" if settings.source == "x_api" else settings.source
    if settings.source != "exports" and bound is not None and bound != reads:
        return Finding(
            "source",
            "error",
            f"account {settings.account!r} has readings of {bound}, but the settings name {reads}: "
            "the two would be mixed",
            "Set GENOPT_SOURCE and GENOPT_X_USER_ID back, or GENOPT_ACCOUNT to another account.",
        )
    if settings.source == "exports":
        said = "nothing is collected; metrics come with `genopt import`"
        return Finding("source", "ok", said)
    if settings.source == "sandbox":
        if settings.sandbox_world not in WORLDS:
            return Finding(
                "source",
                "error",
                f"GENOPT_SANDBOX_WORLD is {settings.sandbox_world!r}",
                f"Set it to one of {', '.join(sorted(WORLDS))}.",
            )
        if (simulated := simulated_by_default(settings)) is not None:
            return Finding("source", "warning", simulated, SOURCE_ACTION)
        said = "a simulated account: its figures are not those of a real one"
        return Finding("source", "ok", said)
    try:
        source = x_api_source(pipeline, settings.account)
        try:
            if not online:
                said = f"credentials for {settings.x_base_url} are there; not tried (--online does)"
                return Finding("source", "ok", said)
            count = source.check_access()
        finally:
            source.close()
    except SourceError as error:
        action = "Correct the GENOPT_X_ variables; see docs/x_api.md."
        return Finding("source", "error", str(error), action)
    return Finding("source", "ok", f"the X API answers for the account ({count:,} followers)")


def _files(home: Path) -> Finding:
    missing = [name for name in DAGSTER_FILES if not (home / name).is_file()]
    if missing:
        return Finding(
            "dagster_files",
            "error",
            f"{home} has no {' and no '.join(missing)}",
            "Set DAGSTER_HOME to the folder that holds dagster.yaml and workspace.yaml.",
        )
    return Finding("dagster_files", "ok", f"{home} holds {' and '.join(DAGSTER_FILES)}")


def _dagster(url: URL, home: Path, now: datetime) -> list[Finding]:
    files = _files(home)
    plain = url.set(drivername="postgresql+psycopg")
    engine = open_engine(plain, search_path="public")
    try:
        with reading_errors(plain), engine.connect() as connection:
            prepared = setup.table_exists(connection, "daemon_heartbeats")
    except DatabaseUnavailableError as error:
        if "does not exist" in str(error):
            action = "Run `genopt migrate`, which creates it."
        else:
            action = "Start PostgreSQL or correct GENOPT_DAGSTER_DATABASE_URL."
        return [
            files,
            Finding("dagster", "error", str(error), action),
            skipped("daemon", "Dagster's storage cannot be reached"),
        ]
    finally:
        engine.dispose()
    storage = Finding("dagster", "ok", "Dagster's storage answers")
    if not prepared or files.verdict == "error":
        return [files, storage, validation.judge_heartbeat(None, now)]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    newest = datetime.fromtimestamp(max(beats), tz=UTC) if beats else None
    return [files, storage, validation.judge_heartbeat(newest, now)]


def _definitions(
    pipeline: Pipeline, build: Callable[[Pipeline], dg.Definitions] = build_defs
) -> Finding:
    try:
        defs = build(pipeline)
        dg.Definitions.validate_loadable(defs)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with them is the finding
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding(
            "definitions",
            "error",
            f"Dagster cannot load the definitions: {first}",
            "Run `dagster definitions validate -w workspace.yaml` for the whole message.",
        )
    count = len(defs.resolve_all_asset_keys())
    return Finding("definitions", "ok", f"Dagster loads the definitions ({count} assets)")
