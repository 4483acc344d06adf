"""Asset checks: what must hold of the stored data, judged after each run that changes them.

Here: the checks' declarations and results. Not here: SQL (``store.monitoring``) and thresholds
(``core.health``, settings).

Dagster plans an embedded check of a time-partitioned asset once a partition and records one result
for the run, so that each partition stays *planned* for ever. So those checks stand alone, without
partitions: the job ``publish_weights`` runs them, the runs of the assets report their own windows'
result (``report``), and the sensor ``send_alerts`` reports freshness when it changes, since an
asset that nothing materializes any more cannot.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import dagster as dg

from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.defs import evaluation, metadata
from genopt_pipeline.defs.failures import explained
from genopt_pipeline.defs.monitor import account_health
from genopt_pipeline.defs.partitions import TWO_HOURS, window_of
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store import monitoring
from genopt_pipeline.store import weights as weight_store

#: Asset and the health check that judges the time of its data.
FRESH: Final = {
    "raw_post_metrics": "metrics",
    "raw_follower_counts": "followers",
    "generator_f_per_1k": "performance",
}
FRESH_CHECK: Final = "data_are_fresh"
CONSERVED: Final = "conserves_followers"
COVERED: Final = "covers_the_last_day"
IN_FORCE: Final = "sum_to_one_and_equal_the_newest_event"
#: Followers are credited as fractions; sums of doubles are exact to this.
TOLERANCE: Final = 1e-6
#: What the conservation check looks back over when it runs by itself.
CONSERVED_DAYS: Final = timedelta(days=30)


@dataclass(frozen=True)
class Judgement:
    """The result of a check, before it is one of Dagster's."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR

    @property
    def result(self) -> dg.AssetCheckResult:
        """As a check returns it."""
        return dg.AssetCheckResult(
            passed=self.passed,
            severity=self.severity,
            description=self.description,
            metadata=dict(self.metadata),
        )

    def evaluation(self, asset: str, check: str) -> dg.AssetCheckEvaluation:
        """As a run or a sensor reports it."""
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset),
            check_name=check,
            passed=self.passed,
            severity=self.severity,
            description=self.description,
            metadata=dict(self.metadata),
        )


def report(context: dg.AssetExecutionContext, asset: str, check: str, judgement: Judgement) -> None:
    """Record a check's result from the run of its asset."""
    context.log_event(judgement.evaluation(asset, check))


def report_fresh(
    context: dg.AssetExecutionContext, pipeline: Pipeline, accounts: Iterable[str], *assets: str
) -> None:
    """Record from their run whether the data of these assets are fresh now."""
    reports = {name: account_health(pipeline, name) for name in accounts}
    for asset in assets:
        report(context, asset, FRESH_CHECK, freshness(asset, reports))


def freshness(asset: str, reports: Mapping[str, HealthReport]) -> Judgement:
    """Freshness of an asset's data, from the health of each account."""
    statuses: set[str] = set()
    said = {}
    for account_id, health in reports.items():
        checks = {check.name: check for check in health.checks}
        found = checks.get(FRESH[asset])
        # an account whose metrics are imported has no check of them: what it never had is not stale
        imported = "metrics" not in checks
        if checks["database"].status == "critical":
            statuses.add("critical")
            said[account_id] = checks["database"].reason
        elif found is None:
            said[account_id] = "nothing is collected for this account"
        elif imported and found.status == "no_data":
            said[account_id] = f"{found.reason}; its metrics are imported"
        else:
            statuses.add(found.status)
            said[account_id] = found.reason
    return Judgement(
        not statuses & {"critical", "degraded", "no_data"},
        "; ".join(f"{account_id}: {reason}" for account_id, reason in said.items()),
        said,
        dg.AssetCheckSeverity.ERROR if "critical" in statuses else dg.AssetCheckSeverity.WARN,
    )


def conserved(
    pipeline: Pipeline, accounts: Iterable[str], start: datetime, end: datetime
) -> Judgement:
    """Conservation of followers in the windows of ``[start, end)``."""
    wrong: dict[str, list[str]] = {}
    windows = 0
    differences: list[float] = []
    with pipeline.read() as connection:
        for account_id in accounts:
            rows = monitoring.conservation(connection, account_id, start, end)
            windows += len(rows)
            differences += [
                abs(row.credited - row.delta) for row in rows if row.credited is not None
            ]
            off = [
                f"{row.window_start:%Y-%m-%d %H:%M}: change {row.delta}, credited {row.credited}"
                for row in rows
                if row.credited is None or abs(row.credited - row.delta) > TOLERANCE
            ]
            if off:
                wrong[account_id] = off
    return Judgement(
        not wrong,
        f"{windows} windows with a known change; "
        f"{sum(len(found) for found in wrong.values())} are not conserved",
        {
            # of the windows looked at, be it a run's one or a month's: comparable from run to run
            **({"largest_difference": max(differences)} if differences else {}),
            "windows_looked_at": windows,
            "not_conserved": wrong,
        },
    )


def covered(pipeline: Pipeline, accounts: Iterable[str], end: datetime) -> Judgement:
    """Gaps and mean coverage of the day before ``end``; warns, since a gap can mend itself."""
    gaps: dict[str, list[str]] = {}
    known: dict[str, Any] = {}
    with pipeline.read() as connection:
        for account_id in accounts:
            day = monitoring.coverage(connection, account_id, end)
            if day.gaps:
                gaps[account_id] = [
                    f"{start:%Y-%m-%d %H:%M}: {reason}" for start, reason in day.gaps.items()
                ]
            if day.coverage is not None:
                known[f"{account_id}/coverage"] = metadata.rounded(day.coverage)
    return Judgement(
        not gaps,
        f"{sum(len(each) for each in gaps.values())} gaps in 24 hours",
        {"gaps": gaps, **known},
        dg.AssetCheckSeverity.WARN,
    )


def in_force_spec() -> dg.AssetCheckSpec:
    """Declaration of the check of the live weights."""
    return dg.AssetCheckSpec(
        IN_FORCE,
        asset="generator_weights",
        description="The live weights of each account sum to exactly 1, and each equals that of "
        "the account's newest event, so the history explains what is in force.",
    )


def in_force_result(pipeline: Pipeline, accounts: Iterable[str]) -> dg.AssetCheckResult:
    """Sums of the live weights, and where they differ from the newest event."""
    wrong: dict[str, str] = {}
    with pipeline.read() as connection:
        for account_id in accounts:
            live = weight_store.live_weights(connection, account_id)
            total = sum(row.weight for row in live.generators.values())
            differ = monitoring.weights_unlike_event(connection, account_id)
            said = [f"the weights sum to {total}"] if total != 1 else []
            said += [f"unlike the newest event: {', '.join(differ)}"] if differ else []
            if said:
                wrong[account_id] = "; ".join(said)
    return dg.AssetCheckResult(
        check_name=IN_FORCE,
        passed=not wrong,
        description="; ".join(f"{name}: {why}" for name, why in wrong.items())
        or "the weights sum to exactly 1 and equal the newest event's",
        metadata={"wrong": wrong},
    )


def _fresh_check(asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=FRESH_CHECK,
        description="The newest data in the database are not older than GENOPT_HEALTH_"
        f"{FRESH[asset].upper()}_AGE_HOURS allows. The time of the data counts, not that of the "
        "materialization: a backfill of last month makes nothing fresh.",
    )
    def data_are_fresh(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        with explained():
            reports = {name: account_health(pipeline, name) for name in _accounts(pipeline)}
            return freshness(asset, reports).result

    return data_are_fresh


def _accounts(pipeline: Pipeline) -> list[str]:
    with pipeline.read() as connection:
        return weight_store.list_accounts(connection)


def make_checks() -> list[Any]:
    """The checks that stand alone."""

    @dg.asset_check(
        asset="post_followers",
        name=CONSERVED,
        description="In every window the followers of posts and baseline sum to the window's "
        "change, and every known change is attributed: none is counted twice or lost.",
    )
    def conserves_followers(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        end = window_of(pipeline.now(), TWO_HOURS)[0]
        with explained():
            return conserved(pipeline, _accounts(pipeline), end - CONSERVED_DAYS, end).result

    @dg.asset_check(
        asset="follower_deltas",
        name=COVERED,
        description="In the 24 hours before the last window ended, every window since the "
        "account's first reading has a follower change. A gap is told, never filled with zero.",
    )
    def covers_the_last_day(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        end = window_of(pipeline.now(), TWO_HOURS)[0]
        with explained():
            return covered(pipeline, _accounts(pipeline), end).result

    @dg.asset_check(
        asset="content_metadata",
        name="no_unknown_generators",
        description="No post waits in quarantine because nobody knows the generator it names. "
        "`genopt quarantine` shows them and gives a name to a generator.",
    )
    def no_unknown_generators(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        with explained(), pipeline.read() as connection:
            names = {
                account_id: monitoring.unknown_generators(connection, account_id)
                for account_id in weight_store.list_accounts(connection)
            }
        found = {account_id: each for account_id, each in names.items() if each}
        count = sum(sum(each.values()) for each in found.values())
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{count} records in quarantine name unknown generators",
            metadata={"records": count, "names": found},
        )

    @dg.asset_check(
        asset="content_metadata",
        name="sample_ratio",
        description="Does the content engine draw by the weights? A χ² test of the posts of 30 "
        "days against what each version of the weights and each arm called for, at the p-value "
        "GENOPT_ALERT_SAMPLE_RATIO_SIGNIFICANCE; a generator drawn at probability 0 fails it by "
        "itself.",
    )
    def sample_ratio(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        now = pipeline.now()
        with explained(), pipeline.read() as connection:
            found = {
                account_id: evaluation.draw_check(connection, account_id, now)
                for account_id in weight_store.list_accounts(connection)
            }
        level = pipeline.settings.alert_sample_ratio_significance
        wrong = [name for name, check in found.items() if check.ratio.is_mismatch(level)]
        shown: dict[str, Any] = {}
        for account_id, check in found.items():
            shown[f"{account_id}/posts"] = check.ratio.posts
            shown[f"{account_id}/left_out"] = check.left_out
            if check.ratio.p_value is not None:
                shown[f"{account_id}/p_value"] = float(f"{check.ratio.p_value:.3g}")
            if account_id in wrong:
                shown[f"{account_id}/draws"] = metadata.table(
                    [
                        {
                            "generator": name,
                            "posts": check.observed.get(name, 0),
                            "expected": check.expected.get(name, 0.0),
                        }
                        for name in sorted({*check.observed, *check.expected})
                    ],
                    ("generator", "posts", "expected"),
                )
        return dg.AssetCheckResult(
            passed=not wrong,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"not drawn by the weights: {', '.join(wrong)}"
            if wrong
            else "the draws fit the weights, as far as there are enough to tell",
            metadata=shown,
        )

    return [
        no_unknown_generators,
        sample_ratio,
        conserves_followers,
        covers_the_last_day,
        *(_fresh_check(asset) for asset in FRESH),
    ]
