"""Jobs: one for each partitions definition, and one that publishes."""

from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from genopt_pipeline.defs.partitions import Partitions

INGEST = "ingest"
ATTRIBUTE = "attribute_and_measure"
OPTIMIZE = "optimize"
PUBLISH = "publish_weights"
#: Partitioned assets that have checks.
CHECKED = (
    "raw_post_metrics",
    "raw_follower_counts",
    "follower_deltas",
    "post_followers",
    "generator_f_per_1k",
)


@dataclass(frozen=True)
class Jobs:
    """The jobs by what they do."""

    ingest: UnresolvedAssetJobDefinition
    measure: UnresolvedAssetJobDefinition
    optimize: UnresolvedAssetJobDefinition
    publish: UnresolvedAssetJobDefinition

    @property
    def all(self) -> list[UnresolvedAssetJobDefinition]:
        """All jobs."""
        return [self.ingest, self.measure, self.optimize, self.publish]


def make_jobs(partitions: Partitions) -> Jobs:
    """Jobs over the partitions given."""
    return Jobs(
        ingest=dg.define_asset_job(
            INGEST,
            selection=_without_checks("raw_post_metrics", "raw_follower_counts"),
            partitions_def=partitions.ten_minutes,
            description="Collects post metrics and the follower count of a ten-minute window.",
        ),
        measure=dg.define_asset_job(
            ATTRIBUTE,
            selection=_without_checks("follower_deltas", "post_followers", "generator_f_per_1k"),
            partitions_def=partitions.two_hours,
            description="Attributes a two-hour window's follower change and computes F/1K.",
        ),
        optimize=dg.define_asset_job(
            OPTIMIZE,
            selection=["weight_snapshots"],
            partitions_def=partitions.six_hours,
            description="Proposes weights for a six-hour window; publishes nothing.",
        ),
        publish=dg.define_asset_job(
            PUBLISH,
            selection=dg.AssetSelection.assets(
                "generator_weights", "system_health", "open_alerts", "learning_report"
            )
            | dg.AssetSelection.checks_for_assets("content_metadata", *CHECKED),
            description="Publishes the snapshot of the window that ended last, once; then checks "
            "the stored data, looks at health and alerts, and writes the report.",
        ),
    )


def _without_checks(*assets: str) -> dg.AssetSelection:
    # a check of a partitioned run would stay planned for ever; see the module ``checks``
    return dg.AssetSelection.assets(*assets).without_checks()
