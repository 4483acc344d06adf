"""Ingestion: posts, their metrics, and the account's follower count, as observed."""

from typing import Any

import dagster as dg

from genopt_pipeline.defs import metadata
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
    ) -> tuple[dg.MaterializeResult[None], dg.MaterializeResult[None]]:
        window = context.partition_time_window
        due = list(windows(window.start, window.end, TEN_MINUTES))
        with explained():
            results = for_each_account(
                context, pipeline, lambda account: collect_windows(pipeline, account, due)
            )
        for account_id, collected in results.items():
            _describe_windows(context, account_id, collected)
        stored = list(results.values())
        return (
            dg.MaterializeResult(
                asset_key="raw_post_metrics",
                metadata={
                    "dagster/row_count": sum(item.readings for item in stored),
                    "new_posts": sum(item.posts for item in stored),
                    "quarantined": sum(item.quarantined for item in stored),
                    "data_time": dg.MetadataValue.timestamp(window.end),
                },
            ),
            dg.MaterializeResult(
                asset_key="raw_follower_counts",
                metadata={
                    "dagster/row_count": sum(item.follower_counts for item in stored),
                    "data_time": dg.MetadataValue.timestamp(window.end),
                },
            ),
        )

    return [content_metadata, collect]


def _describe_windows(
    context: dg.AssetExecutionContext, account_id: str, collected: Collected
) -> None:
    keys = set(context.partition_keys)
    for start, report in collected.reports.items():
        key = key_of(start)
        if key in keys:
            context.add_asset_metadata(
                {f"{account_id}/{name}": value for name, value in _plain(report).items()},
                asset_key="raw_post_metrics",
                partition_key=key,
            )


def _plain(report: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | float | bool) else dg.MetadataValue.json(value)
        for name, value in report.items()
        if value is not None
    }
