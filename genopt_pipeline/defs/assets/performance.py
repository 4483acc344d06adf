"""Performance: F/1K of each generator, as it was known at the end of each window."""

from typing import Any

import dagster as dg
import pandas as pd

from genopt_pipeline.defs import checks, metadata, steps
from genopt_pipeline.defs.accounts import for_each_account
from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.partitions import TWO_HOURS, Partitions, window_of, windows
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import metrics, schema
from genopt_pipeline.store import performance as performance_store

GROUP = "performance"
REPORT_COLUMNS = (
    "generator_name",
    "f_per_1k",
    "f_per_1k_low",
    "f_per_1k_high",
    "tier",
    "trend",
    "posts_count",
    "rank",
    "weight_used",
    "followers_gained",
    "impressions",
    "engagement_rate",
)
LIFE_TIME_COLUMNS = (
    "generator_name",
    "avg_f_per_1k",
    "weight",
    "status",
    "total_posts",
    "total_followers_gained",
    "total_impressions",
    "avg_engagement_rate",
)


def performance_assets(partitions: Partitions) -> list[Any]:
    """``generator_f_per_1k``."""

    @dg.asset(
        deps=["post_followers", "raw_post_metrics"],
        partitions_def=partitions.two_hours,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=transient_retries(),
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python", "pandas", "postgres", "table"},
        code_version="1",
        description="**F/1K: followers gained per 1000 impressions**, per generator over the 7 "
        "days before the window's end, with a 90 % interval, tier, rank and trend. Written to "
        "`generator_performance_history` for look-backs of 1, 3, 7, 14 and 30 days; life-time "
        "figures go to `generator_weights`.",
        metadata=metadata.table_metadata(schema.generator_performance_history),
    )
    def generator_f_per_1k(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        window = context.partition_time_window
        settings = pipeline.settings
        newest_end = window_of(pipeline.now(), TWO_HOURS)[0]
        told = metadata.PerPartition()

        def run(account_id: str) -> None:
            for start, end in windows(window.start, window.end, TWO_HOURS):
                with pipeline.write() as connection:
                    report = steps.performance_step(connection, account_id, settings, end)
                    newest = metrics.newest_reading(connection, account_id, before=end)
                told.add(
                    start,
                    rows=len(report) * len(steps.look_backs(settings)),
                    data_time=newest,
                    values=_shown(account_id, report),
                )
            with pipeline.write() as connection:
                performance_store.refresh_life_time(
                    connection, account_id, estimator=settings.estimator
                )
                life_time = performance_store.life_time_table(connection, account_id)
            if window.end == newest_end:  # of today, so no other window's
                told.add(
                    newest_end - TWO_HOURS,
                    rows=0,
                    data_time=None,
                    values={
                        f"{account_id}/life_time": metadata.table(life_time, LIFE_TIME_COLUMNS)
                    },
                )

        with explained():
            accounts = for_each_account(context, pipeline, run)
            checks.report_fresh(context, pipeline, accounts, "generator_f_per_1k")
        told.tell(context, "generator_f_per_1k")
        return dg.MaterializeResult(metadata={"estimator": settings.estimator})

    return [generator_f_per_1k]


def _shown(account_id: str, report: pd.DataFrame) -> dict[str, Any]:
    rows = steps.records(report.sort_values(["rank", "generator_name"], na_position="last"))
    values = {f"{account_id}/f_per_1k/{row['generator_name']}": row["f_per_1k"] for row in rows}
    measured = [row for row in rows if row["followers_gained"] is not None and row["impressions"]]
    impressions = sum(row["impressions"] for row in measured)
    if impressions:
        followers = sum(row["followers_gained"] for row in measured)
        values[f"{account_id}/f_per_1k"] = 1000.0 * followers / impressions
    return {
        f"{account_id}/table": metadata.table(rows, REPORT_COLUMNS),
        f"{account_id}/posts": sum(row["posts_count"] for row in rows),
        **{name: metadata.rounded(value) for name, value in values.items()},
    }
