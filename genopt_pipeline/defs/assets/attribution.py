"""Attribution: the account's follower change per window, and what posts are credited with."""

from typing import Any

import dagster as dg

from genopt_pipeline.defs import checks, metadata, steps
from genopt_pipeline.defs.accounts import for_each_account
from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.partitions import TWO_HOURS, Partitions, windows
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import metrics, schema

GROUP = "attribution"


def attribution_assets(partitions: Partitions) -> list[Any]:
    """``follower_deltas`` and ``post_followers``."""

    @dg.asset(
        deps=["raw_follower_counts"],
        partitions_def=partitions.two_hours,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=transient_retries(),
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python", "postgres", "table"},
        code_version="1",
        description="Net follower change of each account and two-hour window, with coverage. A "
        "missing reading is a gap (null), never zero; the next window with a reading covers it "
        "too, so that the changes add up to the difference of the counts.",
        metadata=metadata.table_metadata(schema.follower_deltas),
    )
    def follower_deltas(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        window = context.partition_time_window
        told = metadata.PerPartition()

        def run(account_id: str) -> None:
            for start, end in windows(window.start, window.end, TWO_HOURS):
                with pipeline.write() as connection:
                    row = steps.delta_step(connection, account_id, start, end)
                told.add(
                    start,
                    rows=1,
                    data_time=row["observed_to"],
                    counts={"gaps": row["delta"] is None},
                    values={
                        f"{account_id}/delta": row["delta"],
                        f"{account_id}/followers": row["followers_end"],
                        f"{account_id}/coverage": metadata.rounded(row["coverage"]),
                        f"{account_id}/gap": row["gap_reason"],
                    },
                )

        with explained():
            results = for_each_account(context, pipeline, run)
            checks.report(
                context,
                "follower_deltas",
                checks.COVERED,
                checks.covered(pipeline, results, window.end),
            )
        told.tell(context, "follower_deltas")
        return dg.MaterializeResult()

    @dg.asset(
        deps=["follower_deltas", "raw_post_metrics"],
        partitions_def=partitions.two_hours,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=transient_retries(),
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python", "postgres", "table"},
        code_version="1",
        description="The follower change attributed to posts and to the organic baseline, with "
        "uncertainty. Posts and baseline of a window sum exactly to its change: no follower is "
        "credited twice. The database checks this at every commit.",
        metadata=metadata.table_metadata(schema.post_followers),
    )
    def post_followers(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        window = context.partition_time_window
        told = metadata.PerPartition()

        def run(account_id: str) -> None:
            with pipeline.read() as connection:
                inputs = steps.read_attribution_inputs(
                    connection, account_id, window.start, window.end
                )
            for start, end in windows(window.start, window.end, TWO_HOURS):
                with pipeline.write() as connection:
                    seen = steps.attribution_step(connection, account_id, start, end, inputs)
                    newest = metrics.newest_reading(connection, account_id, before=end)
                told.add(
                    start,
                    rows=seen["posts"],
                    data_time=None if seen["gap"] else newest,
                    counts={
                        "gaps": seen["gap"],
                        "implausible_jumps": seen.get("quarantined", False),
                    },
                    values={
                        f"{account_id}/{name}": metadata.rounded(seen.get(name))
                        for name in ("delta", "credited", "baseline", "posts", "gap")
                    },
                )

        with explained():
            results = for_each_account(context, pipeline, run)
            checks.report(
                context,
                "post_followers",
                checks.CONSERVED,
                checks.conserved(pipeline, results, window.start, window.end),
            )
        told.tell(context, "post_followers")
        return dg.MaterializeResult()

    return [follower_deltas, post_followers]
