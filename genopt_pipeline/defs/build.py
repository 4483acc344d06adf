"""Putting the definitions together; production and tests call the same function."""

import logging
import warnings
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from genopt_pipeline.defs.alerting import alert_sensor
from genopt_pipeline.defs.assets.attribution import attribution_assets
from genopt_pipeline.defs.assets.ingestion import ingestion_assets
from genopt_pipeline.defs.assets.monitoring import monitoring_assets
from genopt_pipeline.defs.assets.optimization import optimization_assets
from genopt_pipeline.defs.assets.performance import performance_assets
from genopt_pipeline.defs.checks import make_checks
from genopt_pipeline.defs.control_job import make_control_job
from genopt_pipeline.defs.drop_folder import make_drop_folder
from genopt_pipeline.defs.jobs import make_jobs
from genopt_pipeline.defs.partitions import make_partitions
from genopt_pipeline.defs.prune import make_prune_job
from genopt_pipeline.defs.resources import MakeSource, Pipeline
from genopt_pipeline.defs.schedules import make_schedules
from genopt_pipeline.defs.sensors import make_sensors
from genopt_pipeline.defs.sources import make_source, simulated_by_default
from genopt_pipeline.settings import Settings, load_settings

# ``backfill_policy`` is marked beta; that we rely on it is held by a test, not told at every start
warnings.filterwarnings("ignore", category=dg.BetaWarning)

log = logging.getLogger("genopt_pipeline")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def make_pipeline(
    settings: Settings | None = None,
    *,
    sources: MakeSource = make_source,
    clock: Callable[[], datetime] = _utc_now,
) -> Pipeline:
    """An installation at work, by default the one that the environment describes."""
    return Pipeline(settings or load_settings(), make_source=sources, clock=clock)


def build_defs(pipeline: Pipeline | None = None) -> dg.Definitions:
    """All assets, jobs, schedules and sensors; by default of what the environment describes."""
    if pipeline is None:  # the web server, the daemon or a run begins
        pipeline = make_pipeline()
        if (simulated := simulated_by_default(pipeline.settings)) is not None:
            log.warning("%s", simulated)
    partitions = make_partitions(pipeline.settings.start)
    jobs = make_jobs(partitions)
    prune_job, daily_prune = make_prune_job()
    import_job, drop_folder = make_drop_folder()
    return dg.Definitions(
        assets=[
            *ingestion_assets(partitions),
            *attribution_assets(partitions),
            *performance_assets(partitions),
            *optimization_assets(partitions),
            *monitoring_assets(),
        ],
        asset_checks=make_checks(),
        jobs=[*jobs.all, prune_job, import_job, make_control_job()],
        schedules=[*make_schedules(jobs), daily_prune],
        sensors=[*make_sensors(jobs), drop_folder, alert_sensor()],
        resources={"pipeline": pipeline},
        # steps of one run share a connection and follow each other: processes would only cost
        executor=dg.in_process_executor,
    )
