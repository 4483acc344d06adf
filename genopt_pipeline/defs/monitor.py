"""Health of an account, from the store through core."""

from datetime import datetime, timedelta

import dagster as dg
from sqlalchemy.exc import DBAPIError

from genopt_pipeline.core.health import (
    HealthConfig,
    HealthObservations,
    HealthReport,
    check_health,
)
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import metrics, monitoring
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import DatabaseUnavailableError, describe
from genopt_pipeline.store.migrate import SchemaVersionError
from genopt_pipeline.store.server import EmbeddedServerError


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
