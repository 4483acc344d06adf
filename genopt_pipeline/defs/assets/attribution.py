"""Attribution: the account's follower change per window, and what posts are credited with."""

from typing import Any

import dagster as dg

from genopt_pipeline.defs import checks, metadata, steps
from genopt_pipeline.defs.accounts import for_each_account
from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.partitions import TWO_HOURS, Partitions, key_of, windows
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import schema

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
        due = list(windows(window.start, window.end, TWO_HOURS))

        def run(account_id: str) -> list[dict[str, Any]]:
            rows = []
            for start, end in due:
                with pipeline.write() as connection:
                    rows.append(steps.delta_step(connection, account_id, start, end))
                context.add_asset_metadata(
                    metadata.known(
                        {
                            f"{account_id}/delta": rows[-1]["delta"],
                            f"{account_id}/followers": rows[-1]["followers_end"],
                            f"{account_id}/coverage": rows[-1]["coverage"],
                            f"{account_id}/gap": rows[-1]["gap_reason"],
                        }
                    ),
                    partition_key=key_of(start),
                )
            return rows

        with explained():
            results = for_each_account(context, pipeline, run)
            checks.report(
                context,
                "follower_deltas",
                checks.COVERED,
                checks.covered(pipeline, results, window.end),
            )
        rows = [row for each in results.values() for row in each]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": len(rows),
                "gaps": sum(row["delta"] is None for row in rows),
                "data_time": dg.MetadataValue.timestamp(window.end),
            },
        )

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
        due = list(windows(window.start, window.end, TWO_HOURS))

        def run(account_id: str) -> list[dict[str, Any]]:
            with pipeline.read() as connection:
                inputs = steps.read_attribution_inputs(
                    connection, account_id, window.start, window.end
                )
            seen = []
            for start, end in due:
                with pipeline.write() as connection:
                    seen.append(steps.attribution_step(connection, account_id, start, end, inputs))
                context.add_asset_metadata(
                    metadata.known(
                        {
                            f"{account_id}/{name}": seen[-1].get(name)
                            for name in ("delta", "credited", "baseline", "posts", "gap")
                        }
                    ),
                    partition_key=key_of(start),
                )
            return seen

        with explained():
            results = for_each_account(context, pipeline, run)
            checks.report(
                context,
                "post_followers",
                checks.CONSERVED,
                checks.conserved(pipeline, results, window.start, window.end),
            )
        seen = [item for each in results.values() for item in each]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(item["posts"] for item in seen),
                "gaps": sum(item["gap"] for item in seen),
                "implausible_jumps": sum(bool(item.get("quarantined")) for item in seen),
                "data_time": dg.MetadataValue.timestamp(window.end),
            },
        )

    return [follower_deltas, post_followers]
