"""Ingestion: posts, their metrics, and the account's follower count, as observed."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from genopt_pipeline.defs import checks, metadata
from genopt_pipeline.defs.accounts import for_each_account
from genopt_pipeline.defs.collect import Collected, collect_windows
from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.partitions import TEN_MINUTES, Partitions, key_of, windows
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import schema

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
        for account_id, collected in results.items():
            _describe_windows(context, account_id, collected)
        with explained():
            checks.report_fresh(
                context, pipeline, results, "raw_post_metrics", "raw_follower_counts"
            )
        stored = list(results.values())
        yield dg.MaterializeResult(
            asset_key="raw_post_metrics",
            metadata={
                "dagster/row_count": sum(item.readings for item in stored),
                "new_posts": sum(item.posts for item in stored),
                "posts_without_generator": sum(item.posts_without_generator for item in stored),
                "quarantined": sum(item.quarantined for item in stored),
                "data_time": dg.MetadataValue.timestamp(window.end),
            },
        )
        yield dg.MaterializeResult(
            asset_key="raw_follower_counts",
            metadata={
                "dagster/row_count": sum(item.follower_counts for item in stored),
                "data_time": dg.MetadataValue.timestamp(window.end),
            },
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


def _describe_windows(
    context: dg.AssetExecutionContext, account_id: str, collected: Collected
) -> None:
    for warning in collected.warnings:
        context.log.warning("account %s: %s", account_id, warning)
    keys = set(context.partition_keys)
    for start, report in collected.reports.items():
        for problem in report.get("problems", ()):
            context.log.warning(
                "account %s, %s: %s: %s",
                account_id,
                key_of(start),
                problem["step"],
                problem["message"],
            )
        key = key_of(start)
        if key in keys:
            context.add_asset_metadata(
                {
                    f"{account_id}/{name}": value
                    for name, value in {**_plain(report), **plan_metadata(report)}.items()
                },
                asset_key="raw_post_metrics",
                partition_key=key,
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
