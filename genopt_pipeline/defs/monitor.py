"""Health and report of an account, from the store through core. Without Dagster."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pandas as pd

from genopt_pipeline.core import performance
from genopt_pipeline.core.health import HealthObservations, HealthReport, check_health
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.report.html import ReportData, render_report
from genopt_pipeline.store import monitoring
from genopt_pipeline.store import performance as performance_store
from genopt_pipeline.store import snapshots as snapshot_store
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import DatabaseUnavailableError

#: Days that the report's charts go back.
REPORT_DAYS = 30
SIMULATED = "these figures come from the sandbox: a simulated account, not a real one"


def account_health(pipeline: Pipeline, account_id: str) -> HealthReport:
    """Health at the pipeline's *now*; a database that does not answer is a finding, not an error.

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
    except DatabaseUnavailableError as error:
        observed = HealthObservations(database_error=str(error))
    else:
        observed = HealthObservations(
            weights=live.by_name,
            collects=account_id == settings.account and settings.source != "exports",
            **facts,
        )
    return check_health(observed, now=now)


def report_page(pipeline: Pipeline, account_id: str) -> str:
    """The report of an account as one offline HTML page."""
    now, settings = pipeline.now(), pipeline.settings
    since = now - timedelta(days=REPORT_DAYS)
    health = account_health(pipeline, account_id)
    start, end = snapshot_store.current_window(now)
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
        snapshot = snapshot_store.read_snapshot(connection, account_id, start)
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
