"""Health and report of an account, from the store through core. Without Dagster."""

import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
from sqlalchemy.exc import DBAPIError

from genopt_pipeline.core import performance
from genopt_pipeline.core.health import (
    HealthConfig,
    HealthObservations,
    HealthReport,
    check_health,
)
from genopt_pipeline.defs import evaluation
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.report.html import ReportData, render_report
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import metrics, monitoring
from genopt_pipeline.store import performance as performance_store
from genopt_pipeline.store import snapshots as snapshot_store
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import DatabaseUnavailableError, describe
from genopt_pipeline.store.migrate import SchemaVersionError
from genopt_pipeline.store.server import EmbeddedServerError

#: Days that the report's charts go back.
REPORT_DAYS = 30
SIMULATED = "these figures come from the sandbox: a simulated account, not a real one"


def health_config(settings: Settings) -> HealthConfig:
    """The thresholds of health, from the installation's settings."""
    return HealthConfig(
        metrics_age_hours=settings.health_metrics_age_hours,
        followers_age_hours=settings.health_followers_age_hours,
        performance_age_hours=settings.health_performance_age_hours,
        optimization_age_hours=settings.health_optimization_age_hours,
        post_age_hours=settings.health_post_age_hours,
        measured_share=settings.health_measured_share,
        failed_runs_24h=settings.health_failed_runs_24h,
        quarantined=settings.health_quarantined,
        clock_skew_minutes=settings.health_clock_skew_minutes,
    )


def failed_runs(instance: dg.DagsterInstance, now: datetime) -> int:
    """Runs that failed in the 24 hours before ``now``."""
    return instance.get_runs_count(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - timedelta(hours=24)
        )
    )


def account_health(
    pipeline: Pipeline, account_id: str, *, failed_runs_24h: int | None = None
) -> HealthReport:
    """Health at the pipeline's *now*; a database that does not answer is a finding, not an error.

    ``failed_runs_24h`` is None where Dagster's runs are not at hand.

    Raises
    ------
    UnknownAccountError
        The account is not registered.
    """
    now, settings = pipeline.now(), pipeline.settings
    try:
        with pipeline.read() as connection:
            live = weight_store.live_weights(connection, account_id)
            facts = monitoring.loop_facts(
                connection, account_id, now=now, window_days=settings.window_days
            )
            collected = metrics.newest_report(connection, account_id)
    except (DatabaseUnavailableError, EmbeddedServerError) as error:
        observed = HealthObservations(database_error=str(error))
    except SchemaVersionError as error:
        observed = HealthObservations(
            database_error=str(error), database_action="Bring it to this version."
        )
    except DBAPIError as error:
        observed = HealthObservations(
            database_error=describe(error),
            database_action="See `genopt validate`: the role may lack a privilege.",
        )
    else:
        observed = HealthObservations(
            weights=live.by_name,
            collects=account_id == settings.account and settings.source != "exports",
            failed_runs_24h=failed_runs_24h,
            source_warnings=(None if collected is None else tuple(collected.get("warnings", ()))),
            **facts,
        )
    return check_health(observed, now=now, config=health_config(settings))


def report_page(pipeline: Pipeline, account_id: str) -> str:
    """The report of an account as one offline HTML page."""
    now, settings = pipeline.now(), pipeline.settings
    since = now - timedelta(days=REPORT_DAYS)
    health = account_health(pipeline, account_id)
    end = snapshot_store.current_window(now)[1]
    with pipeline.read() as connection:
        live = weight_store.live_weights(connection, account_id)
        posts = performance_store.posts_as_of(
            connection,
            account_id,
            at=end,
            since=end - timedelta(days=2 * REPORT_DAYS),
            estimator=settings.estimator,
        ).rename(columns={"post_id": "decision_id"})
        history = performance_store.read_history(
            connection, account_id, since=since, until=now, days=settings.window_days
        )
        versions = weight_store.weights_history(connection, account_id, since, now)
        appraisal, snapshot = evaluation.newest_appraisal(connection, account_id, settings, now)
        data = ReportData(
            account=account_id,
            as_of=end,
            period=f"{settings.window_days} days",
            estimator=settings.estimator,
            summary=performance.summarize(
                posts,
                list(live.generators),
                now=end,
                lookback=timedelta(days=settings.window_days),
            ),
            weights=live.by_name,
            history=history if len(history) else pd.DataFrame({"f_per_1k": []}),
            weights_history=pd.DataFrame(
                [
                    {
                        "effective_at": max(effective_at, since),
                        "generator_name": name,
                        "weight": weight,
                    }
                    for effective_at, _, weights in versions
                    for name, weight in weights.items()
                ]
            ),
            attribution=monitoring.attribution_by_window(connection, account_id, since),
            health=health,
            events=weight_store.recent_events(connection, account_id, limit=20),
            appraisal=appraisal,
            explanations=None if snapshot is None else snapshot["proposal"].get("explanations"),
            notes=(SIMULATED,) if settings.source == "sandbox" else (),
        )
    return render_report(data)


def write_report(pipeline: Pipeline, account_id: str) -> Path:
    """Write the report whole or not at all, and return where it is."""
    folder = pipeline.settings.home.resolve() / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    page = report_page(pipeline, account_id)
    path = folder / f"{account_id}.html"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=folder, suffix=".part", delete=False
    ) as file:
        file.write(page)
    os.replace(file.name, path)  # noqa: PTH105 - atomic, and the same on every platform
    return path
