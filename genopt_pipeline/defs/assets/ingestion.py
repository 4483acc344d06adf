"""Ingestion: posts, their metrics, and the account's follower count, as observed."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from genopt_pipeline.defs import checks, metadata
from genopt_pipeline.defs.accounts import for_each_account
from genopt_pipeline.defs.collect import Collected, collect_windows
from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.partitions import TEN_MINUTES, Partitions, key_of, windows
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import metrics, schema

GROUP = "ingestion"


def ingestion_assets(partitions: Partitions) -> list[Any]:
    """``content_metadata`` (external), ``raw_post_metrics`` and ``raw_follower_counts``."""
    content_metadata = dg.AssetSpec(
        "content_metadata",
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"postgres", "table"},
        description="Posts and the generator that wrote each, with the probability of the draw. "
        "Written by the content engine (`record_post`), by imports, or by the sandbox's engine.",
        metadata=metadata.table_metadata(schema.content_metadata),
    )

    @dg.multi_asset(
        specs=[
            dg.AssetSpec(
                "raw_post_metrics",
                deps=["content_metadata"],
                group_name=GROUP,
                owners=metadata.OWNERS,
                kinds={"python", "postgres", "table"},
                code_version="1",
                description="Metric totals of every tracked post as observed in the ten-minute "
                "window. Append-only: a reading is never changed, and what was not measured is "
                "null. A past window is refused unless the source can serve it.",
                metadata=metadata.table_metadata(schema.post_metric_snapshots),
            ),
            dg.AssetSpec(
                "raw_follower_counts",
                group_name=GROUP,
                owners=metadata.OWNERS,
                kinds={"python", "postgres", "table"},
                code_version="1",
                description="The account's exact follower count as observed in the window. A "
                "failed reading has no row; it is never zero.",
                metadata=metadata.table_metadata(schema.follower_counts),
            ),
        ],
        partitions_def=partitions.ten_minutes,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=transient_retries(),
        pool="source",
        name="collect",
    )
    def collect(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.MaterializeResult[None]]:
        window = context.partition_time_window
        due = list(windows(window.start, window.end, TEN_MINUTES))
        with explained():
            results = for_each_account(
                context, pipeline, lambda account: collect_windows(pipeline, account, due)
            )
        readings, counts = metadata.PerPartition(), metadata.PerPartition()
        for account_id, collected in results.items():
            _log_problems(context, account_id, collected)
            with explained(), pipeline.read() as connection:
                rows = metrics.window_rows(connection, account_id, window.start, window.end)
            for start, _ in due:
                _tell_window(account_id, collected, start, rows.get(start), readings, counts)
            readings.add(  # of today's posts, so of the run's last window only
                due[-1][0],
                rows=0,
                data_time=None,
                counts={"posts_without_generator": collected.posts_without_generator},
            )
        readings.tell(context, "raw_post_metrics")
        counts.tell(context, "raw_follower_counts")
        with explained():
            checks.report_fresh(
                context, pipeline, results, "raw_post_metrics", "raw_follower_counts"
            )
        stored = list(results.values())
        yield dg.MaterializeResult(
            asset_key="raw_post_metrics",
            metadata={
                "run/new_posts": sum(item.posts for item in stored),
                "run/readings_stored": sum(item.readings for item in stored),
                "run/quarantined": sum(item.quarantined for item in stored),
            },
        )
        yield dg.MaterializeResult(
            asset_key="raw_follower_counts",
            metadata={"run/readings_stored": sum(item.follower_counts for item in stored)},
        )
        # what was observed is stored and materialized; the run fails so that somebody looks
        help_needed = [
            f"account {account_id}: {problem}"
            for account_id, collected in results.items()
            for problem in collected.help_needed
        ]
        if help_needed:
            raise dg.Failure(description="; ".join(help_needed), allow_retries=False)

    return [content_metadata, collect]


def _log_problems(context: dg.AssetExecutionContext, account_id: str, collected: Collected) -> None:
    for warning in collected.warnings:
        context.log.warning("account %s: %s", account_id, warning)
    for start, report in collected.reports.items():
        for problem in report.get("problems", ()):
            context.log.warning(
                "account %s, %s: %s: %s",
                account_id,
                key_of(start),
                problem["step"],
                problem["message"],
            )


def _tell_window(
    account_id: str,
    collected: Collected,
    start: datetime,
    rows: metrics.WindowRows | None,
    readings: metadata.PerPartition,
    counts: metadata.PerPartition,
) -> None:
    """What is stored of a window, by whichever run, and what its source reported to this one."""
    rows = rows or metrics.WindowRows()
    report = collected.reports.get(start, {})
    readings.add(
        start,
        rows=rows.readings,
        data_time=rows.newest_reading,
        counts={"quarantined": rows.rejected},
        values={
            f"{account_id}/{name}": metadata.rounded(value)
            for name, value in {**_plain(report), **plan_metadata(report)}.items()
        },
    )
    counts.add(
        start,
        rows=rows.follower_counts,
        data_time=rows.newest_count,
        values={f"{account_id}/followers": rows.followers},
    )


def plan_metadata(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a live window's report that are worth a plot; absent where not known.

    How many posts were planned, read and skipped (and why), what the budget has left, what the
    month is going to cost, how far the clocks are apart, and whether the account has analytics.
    """
    budget, plan = report.get("budget"), report.get("plan")
    values: dict[str, Any] = {}
    if plan is not None:
        skipped: dict[str, int] = plan["skipped"]
        values |= {
            "posts_planned": plan["wanted_posts"],
            "posts_read": report["readings"],
            "posts_skipped": sum(skipped.values()),
            **{f"posts_skipped/{reason}": count for reason, count in skipped.items()},
        }
    if budget is not None:
        values |= {
            "budget/posts_billed_today": budget["posts_today"],
            "budget/posts_left_today": budget["posts_left_today"],
            "budget/posts_billed_this_month": budget["posts_this_month"],
            "budget/posts_left_this_month": budget["posts_left_this_month"],
            "budget/usd_this_month": budget["usd_this_month"],
            "budget/projected_month_usd": budget["projected_month_usd"],
        }
    if "analytics" in report:
        values["analytics_status"] = report["analytics"]["status"]
    for name, limit in report.get("rate_limits", {}).items():
        values[f"requests_left/{name}"] = limit["remaining"]
    return metadata.known(values)


def _plain(report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | float | bool) else dg.MetadataValue.json(value)
        for name, value in report.items()
        if value is not None
    }
