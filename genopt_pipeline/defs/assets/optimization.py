"""Optimization: what the policy proposes for each window, and the one asset that publishes."""

import time
from datetime import datetime
from typing import Any

import dagster as dg

from genopt_pipeline.defs import checks, evaluation, metadata, steps
from genopt_pipeline.defs.accounts import for_each_account
from genopt_pipeline.defs.failures import explained, transient_retries
from genopt_pipeline.defs.partitions import SIX_HOURS, Partitions, key_of, windows
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import metrics, schema, snapshots
from genopt_pipeline.store import weights as weight_store

GROUP = "optimization"
#: Tags by which Dagster marks the runs of a backfill.
BACKFILL_TAGS = ("dagster/backfill", "dagster/asset_partition_range_start")


def is_backfill(tags: Any) -> bool:
    """Whether a run with these tags belongs to a backfill."""
    return any(tag in tags for tag in BACKFILL_TAGS)


def optimization_assets(partitions: Partitions) -> list[Any]:
    """``weight_snapshots`` and ``generator_weights``."""

    @dg.asset(
        deps=["generator_f_per_1k", "post_followers"],
        partitions_def=partitions.six_hours,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=transient_retries(),
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python", "scipy", "postgres", "table"},
        code_version="1",
        description="The weights that the policy proposes for the six-hour window, with reasons, "
        "inputs and the other policy's proposal beside it. No side effects: it can be recomputed "
        "for any window at any time, and publishes nothing.",
        metadata=metadata.table_metadata(schema.weight_snapshots),
    )
    def weight_snapshots(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[None]:
        window = context.partition_time_window
        settings = pipeline.settings
        backfill = is_backfill(context.run.tags)

        told = metadata.PerPartition()

        def run(account_id: str) -> None:
            for start, end in windows(window.start, window.end, SIX_HOURS):
                begun = time.perf_counter()
                with pipeline.write() as connection:
                    posts = steps.snapshot_posts(connection, account_id, settings, end)
                    row = steps.snapshot_step(
                        connection, account_id, settings, start, end, posts=posts
                    )
                    steps.write_snapshot(connection, account_id, row, backfilled=backfill)
                    took_ms = (time.perf_counter() - begun) * 1000
                    worth = evaluation.appraise(
                        connection, account_id, settings, end, snapshot=row, posts=posts
                    )
                    newest = metrics.newest_reading(connection, account_id, before=end)
                told.add(
                    start,
                    rows=1,
                    data_time=newest,
                    counts={"skipped": row["decision"] == "skipped"},
                    values={
                        **_shown(account_id, row),
                        f"{account_id}/execution_time_ms": round(took_ms, 1),
                        f"{account_id}/worth": metadata.table(
                            evaluation.worth_rows(worth), evaluation.WORTH_COLUMNS
                        ),
                        **{
                            f"{account_id}/{name}": metadata.rounded(value)
                            for name, value in evaluation.worth_numbers(worth).items()
                        },
                    },
                )

        with explained():
            for_each_account(context, pipeline, run)
        told.tell(context, "weight_snapshots")
        return dg.MaterializeResult(metadata={"policy": settings.policy})

    @dg.asset(
        deps=["weight_snapshots"],
        group_name=GROUP,
        owners=metadata.OWNERS,
        kinds={"python", "postgres", "table"},
        code_version="1",
        pool="publish",
        retry_policy=transient_retries(),
        description="**The live weights.** Publishes the snapshot of the window that ended last: "
        "weights and event in one transaction, once a window, never from a backfill, and only if "
        "nobody changed the weights since it was computed. They sum to exactly 1.",
        metadata=metadata.table_metadata(schema.generator_weights),
        check_specs=[checks.in_force_spec()],
    )
    def generator_weights(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes a check for an output
        backfill = is_backfill(context.run.tags)

        def run(account_id: str) -> tuple[snapshots.Publication, weight_store.Weights]:
            with pipeline.write() as connection:
                publication = (
                    snapshots.Publication("nothing", "a backfill publishes nothing")
                    if backfill
                    else snapshots.publish_current(
                        connection,
                        account_id,
                        now=pipeline.now(),
                        created_by=f"dagster run {context.run.run_id}",
                        execution_time_ms=_time_taken(context, account_id, pipeline.now()),
                    )
                )
                return publication, weight_store.live_weights(connection, account_id)

        with explained():
            results = for_each_account(context, pipeline, run)
        shown: dict[str, Any] = {
            "dagster/row_count": sum(len(live.generators) for _, live in results.values())
        }
        for account_id, (publication, live) in results.items():
            context.log.info("%s: %s: %s", account_id, publication.outcome, publication.reason)
            for episode in publication.episodes:
                context.log.info("%s: %s: %s", account_id, episode.event_type, episode.reason)
            shown |= {
                f"{account_id}/episodes": "; ".join(item.reason for item in publication.episodes),
                f"{account_id}/outcome": publication.outcome,
                f"{account_id}/reason": publication.reason,
                f"{account_id}/version": live.version,
                f"{account_id}/weights": metadata.table(
                    [
                        {
                            "generator_name": name,
                            "weight": float(row.weight),
                            "status": row.status,
                            "locked": row.locked,
                        }
                        for name, row in live.generators.items()
                    ],
                    ("generator_name", "weight", "status", "locked"),
                ),
                **{
                    f"{account_id}/weight/{name}": float(row.weight)
                    for name, row in live.generators.items()
                },
            }
        return dg.MaterializeResult(
            metadata=shown, check_results=[checks.in_force_result(pipeline, results)]
        )

    return [weight_snapshots, generator_weights]


def _time_taken(context: dg.AssetExecutionContext, account_id: str, now: datetime) -> float | None:
    """Milliseconds that the current window's snapshot took, as its newest run recorded them.

    None where no run did, as for a snapshot that ``genopt optimize`` made.
    """
    start, _ = snapshots.current_window(now)
    newest = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey("weight_snapshots"), asset_partitions=[key_of(start)]
        ),
        limit=1,
    ).records
    made = newest[0].asset_materialization if newest else None
    value = made.metadata.get(f"{account_id}/execution_time_ms") if made is not None else None
    return value.value if isinstance(value, dg.FloatMetadataValue) else None


def _shown(account_id: str, row: dict[str, Any]) -> dict[str, Any]:
    explanations = row["proposal"].get("explanations", {})
    changes = {change["generator"]: change for change in row["proposal"].get("changes", [])}
    shadow = row["shadow"].get("weights", {})
    return {
        f"{account_id}/decision": row["decision"],
        f"{account_id}/reason": row["reason"],
        f"{account_id}/posts": row["inputs"]["posts"],
        f"{account_id}/reasons": metadata.table(
            [
                {
                    "generator": name,
                    "old_weight": changes.get(name, {}).get("old_weight", weight),
                    "new_weight": weight,
                    "shadow_weight": shadow.get(name),
                    "reason": changes.get(name, {}).get("reason") or explanations.get(name),
                }
                for name, weight in row["weights"].items()
            ],
            ("generator", "reason", "old_weight", "new_weight", "shadow_weight"),
        ),
        **{f"{account_id}/weight/{name}": weight for name, weight in row["weights"].items()},
    }
