"""The report of an account as one page, from the store through core. Without Dagster."""

import tempfile
from datetime import timedelta
from pathlib import Path

import pandas as pd

from genopt_pipeline.defs import evaluation, explain
from genopt_pipeline.defs.alerting import current_alerts
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.report.html import ReportData, render_report
from genopt_pipeline.store import monitoring
from genopt_pipeline.store import weights as weight_store

SIMULATED = "these figures come from the sandbox: a simulated account, not a real one"


def report_data(
    pipeline: Pipeline, account_id: str, *, failed_runs_24h: int | None = None
) -> ReportData:
    """What the report of an account shows.

    ``failed_runs_24h`` is None where Dagster's runs are not at hand.
    """
    now, settings = pipeline.now(), pipeline.settings
    since = now - timedelta(days=explain.HISTORY_DAYS)
    alerts = current_alerts(pipeline, account_id, failed_runs_24h=failed_runs_24h)
    with pipeline.read() as connection:
        live = weight_store.live_weights(connection, account_id)
        # as the dashboard has it: of one time, and from the posts where there is no history
        table, history, period, as_of = explain.newest_figures(
            connection, account_id, settings, now
        )
        versions = weight_store.weights_history(connection, account_id, since, now)
        appraisal, snapshot = evaluation.newest_appraisal(connection, account_id, settings, now)
        return ReportData(
            account=account_id,
            as_of=as_of,
            period=period,
            estimator=settings.estimator,
            summary=table,
            weights=live.by_name,
            alerts=[item.alert for item in alerts.open],
            draws=evaluation.draw_check(
                connection, account_id, as_of, days=float(settings.window_days)
            ),
            history=history if len(history) else pd.DataFrame({"f_per_1k": []}),
            weights_history=pd.DataFrame(
                [
                    {
                        "effective_at": max(effective_at, since),
                        "generator_name": name,
                        "weight": weight,
                    }
                    # the last ones hold until now
                    for effective_at, weights in (
                        *((at, weights) for at, _, weights in versions),
                        (now, live.by_name),
                    )
                    for name, weight in weights.items()
                ]
            ),
            attribution=monitoring.attribution_by_window(connection, account_id, since),
            health=alerts.health,
            events=weight_store.recent_events(connection, account_id, limit=20),
            appraisal=appraisal,
            explanations=None if snapshot is None else snapshot["proposal"].get("explanations"),
            notes=(SIMULATED,) if settings.source == "sandbox" else (),
        )


def write_report(pipeline: Pipeline, data: ReportData) -> Path:
    """Write the report whole or not at all, and return where it is."""
    page = render_report(data)
    folder = pipeline.settings.home.resolve() / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{data.account}.html"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=folder, suffix=".part", delete=False
    ) as file:
        part = Path(file.name)
        try:
            file.write(page)
            file.flush()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path
