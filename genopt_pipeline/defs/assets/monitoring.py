"""Monitoring: is the loop healthy, and what has it learned."""

from typing import Any

import dagster as dg

from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.defs import metadata
from genopt_pipeline.defs.accounts import for_each_account
from genopt_pipeline.defs.alerting import AlertsNow, current_alerts
from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.monitor import account_health, failed_runs
from genopt_pipeline.defs.reporting import report_data, write_report
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.report.summary import render_summary

GROUP = "monitoring"


def monitoring_assets() -> list[Any]:
    """``system_health``, ``open_alerts`` and ``learning_report``."""

    @dg.asset(
        deps=["generator_weights"],
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python"},
        code_version="1",
        retry_policy=transient_retries(),
        description="Health of the loop: healthy, degraded or critical, with reasons and what to "
        "do. No data, zero and an unreachable database are three different findings.",
        check_specs=[
            dg.AssetCheckSpec(
                "not_critical",
                asset="system_health",
                description="Fails where an account is critical; warns where one is degraded.",
            )
        ],
    )
    def system_health(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes a check for an output
        failed = failed_runs(context.instance, pipeline.now())

        def run(account_id: str) -> HealthReport:
            return account_health(pipeline, account_id, failed_runs_24h=failed)

        with explained():
            reports = for_each_account(context, pipeline, run)
        critical = [name for name, report in reports.items() if report.status == "critical"]
        degraded = [name for name, report in reports.items() if report.status == "degraded"]
        return dg.MaterializeResult(
            metadata={
                **{f"{name}/status": report.status for name, report in reports.items()},
                **{
                    f"{name}/checks": metadata.table(
                        [
                            {
                                "check": check.name,
                                "status": check.status,
                                "reason": check.reason,
                                "action": check.action,
                            }
                            for check in report.checks
                        ],
                        ("check", "status", "reason", "action"),
                    )
                    for name, report in reports.items()
                },
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="not_critical",
                    passed=not critical and not degraded,
                    severity=dg.AssetCheckSeverity.ERROR
                    if critical
                    else dg.AssetCheckSeverity.WARN,
                    metadata={"critical": critical, "degraded": degraded},
                )
            ],
        )

    @dg.asset(
        deps=["generator_f_per_1k", "system_health"],
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python"},
        code_version="1",
        retry_policy=transient_retries(),
        description="Alerts that are open: viral, failing, under- and over-used generators, stale "
        "data, draws that do not follow the weights, critical health; with the time each began. "
        "The sensor `send_alerts` records and sends them.",
    )
    def open_alerts(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        failed = failed_runs(context.instance, pipeline.now())

        def run(account_id: str) -> AlertsNow:
            return current_alerts(pipeline, account_id, failed_runs_24h=failed)

        with explained():
            found = for_each_account(context, pipeline, run)
        shown: dict[str, Any] = {}
        for account_id, alerts in found.items():
            rows = [item.as_dict() for item in alerts.open]
            shown[f"{account_id}/alerts"] = metadata.table(
                rows, ("severity", "kind", "opened_at", "message")
            )
            for severity in ("critical", "warning", "info"):
                shown[f"{account_id}/{severity}"] = sum(row["severity"] == severity for row in rows)
        return dg.MaterializeResult(metadata=shown)

    @dg.asset(
        deps=["generator_weights", "generator_f_per_1k", "system_health"],
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python", "plotly"},
        code_version="1",
        retry_policy=transient_retries(),
        description="What was learned, as one HTML page an account that works offline: F/1K and "
        "weights over time, where followers came from, events and reasons. Its figures in short "
        "are in the metadata; `genopt report` writes the page on another machine.",
    )
    def learning_report(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        failed = failed_runs(context.instance, pipeline.now())

        def run(account_id: str) -> dict[str, Any]:
            data = report_data(pipeline, account_id, failed_runs_24h=failed)
            return {
                f"{account_id}/summary": dg.MetadataValue.md(render_summary(data)),
                f"{account_id}/report": dg.MetadataValue.path(write_report(pipeline, data)),
            }

        with explained():
            shown = for_each_account(context, pipeline, run)
        return dg.MaterializeResult(
            metadata={name: value for each in shown.values() for name, value in each.items()}
        )

    return [system_health, open_alerts, learning_report]
