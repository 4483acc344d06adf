"""Asset checks: what must hold of the stored data, judged after each run that changes them.

Here: the checks' declarations and results. Not here: SQL (``store.monitoring``) and thresholds
(``core.health``, settings).

The checks of time-partitioned assets are embedded in the assets: a check of its own without their
partitions would leave a row *planned* for ever. An asset that nothing materializes any more cannot
check itself, so the sensor ``send_alerts`` reports freshness too, whenever it changes.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import dagster as dg

from genopt_pipeline.core.health import HealthReport
from genopt_pipeline.defs import evaluation, metadata
from genopt_pipeline.defs.failures import explained
from genopt_pipeline.defs.monitor import account_health
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


def fresh_spec(asset: str) -> dg.AssetCheckSpec:
    """Declaration of the freshness check of one of the assets in ``FRESH``."""
    return dg.AssetCheckSpec(
        FRESH_CHECK,
        asset=asset,
        description="The newest data in the database are not older than GENOPT_HEALTH_"
        f"{FRESH[asset].upper()}_AGE_HOURS allows. The time of the data counts, not that of the "
        "materialization: a backfill of last month makes nothing fresh.",
    )


def fresh_result(pipeline: Pipeline, asset: str, accounts: Iterable[str]) -> dg.AssetCheckResult:
    """Freshness of an asset's data now."""
    reports = {account_id: account_health(pipeline, account_id) for account_id in accounts}
    passed, severity, said = _freshness(asset, reports)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=FRESH_CHECK,
        passed=passed,
        severity=severity,
        description="; ".join(said.values()),
        metadata=said,
    )


def freshness_evaluations(
    reports: Mapping[str, HealthReport],
) -> list[dg.AssetCheckEvaluation]:
    """The same as evaluations that a sensor can report, for all assets in ``FRESH``."""
    evaluations = []
    for asset in FRESH:
        passed, severity, said = _freshness(asset, reports)
        evaluations.append(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset),
                check_name=FRESH_CHECK,
                passed=passed,
                severity=severity,
                description="; ".join(said.values()),
                metadata={name: dg.MetadataValue.text(reason) for name, reason in said.items()},
            )
        )
    return evaluations


def _freshness(
    asset: str, reports: Mapping[str, HealthReport]
) -> tuple[bool, dg.AssetCheckSeverity, dict[str, str]]:
    statuses: set[str] = set()
    said = {}
    for account_id, report in reports.items():
        found = [check for check in report.checks if check.name == FRESH[asset]]
        # an account whose metrics are imported has no such check: there nothing gets stale
        statuses |= {check.status for check in found}
        said[account_id] = found[0].reason if found else "nothing is collected for this account"
    severity = dg.AssetCheckSeverity.ERROR if "critical" in statuses else dg.AssetCheckSeverity.WARN
    return not statuses & {"critical", "degraded", "no_data"}, severity, said


def conserved_spec() -> dg.AssetCheckSpec:
    """Declaration of the conservation check of ``post_followers``."""
    return dg.AssetCheckSpec(
        CONSERVED,
        asset="post_followers",
        description="In every window of the run, the followers of posts and baseline sum to the "
        "window's change, and every known change is attributed: none is counted twice or lost.",
    )


def conserved_result(
    pipeline: Pipeline, accounts: Iterable[str], start: datetime, end: datetime
) -> dg.AssetCheckResult:
    """Conservation of followers in the windows of ``[start, end)``."""
    off: dict[str, list[str]] = {}
    windows = 0
    with pipeline.read() as connection:
        for account_id in accounts:
            rows = monitoring.conservation(connection, account_id, start, end)
            windows += len(rows)
            off[account_id] = [
                f"{row.window_start:%Y-%m-%d %H:%M}: change {row.delta}, credited {row.credited}"
                for row in rows
                if row.credited is None or abs(row.credited - row.delta) > TOLERANCE
            ]
    wrong = {account_id: found for account_id, found in off.items() if found}
    return dg.AssetCheckResult(
        check_name=CONSERVED,
        passed=not wrong,
        description=f"{windows} windows with a known change; "
        f"{sum(len(found) for found in wrong.values())} are not conserved",
        metadata={"windows": windows, "not_conserved": wrong},
    )


def covered_spec() -> dg.AssetCheckSpec:
    """Declaration of the coverage check of ``follower_deltas``."""
    return dg.AssetCheckSpec(
        COVERED,
        asset="follower_deltas",
        description="In the 24 hours before the run's last window ended, every window since the "
        "account's first reading has a follower change. A gap is told, never filled with zero.",
    )


def covered_result(
    pipeline: Pipeline, accounts: Iterable[str], end: datetime
) -> dg.AssetCheckResult:
    """Gaps and mean coverage of the day before ``end``; warns, since a gap mends itself."""
    gaps: dict[str, list[str]] = {}
    known: dict[str, Any] = {}
    with pipeline.read() as connection:
        for account_id in accounts:
            day = monitoring.coverage(connection, account_id, end)
            gaps[account_id] = [
                f"{start:%Y-%m-%d %H:%M}: {reason}" for start, reason in day.gaps.items()
            ]
            if day.coverage is not None:
                known[f"{account_id}/coverage"] = day.coverage
    found = {account_id: each for account_id, each in gaps.items() if each}
    return dg.AssetCheckResult(
        check_name=COVERED,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{sum(len(each) for each in found.values())} gaps in 24 hours",
        metadata={"gaps": found, **known},
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
            if total != 1:
                wrong[account_id] = f"the weights sum to {total}"
            differ = monitoring.weights_unlike_event(connection, account_id)
            if differ:
                wrong[account_id] = f"unlike the newest event: {', '.join(differ)}"
    return dg.AssetCheckResult(
        check_name=IN_FORCE,
        passed=not wrong,
        description="; ".join(f"{name}: {said}" for name, said in wrong.items())
        or "the weights sum to exactly 1 and equal the newest event's",
        metadata={"wrong": wrong},
    )


def make_checks() -> list[Any]:
    """The checks that are not embedded in an asset: those of ``content_metadata``."""

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
        "days against what each version of the weights and each arm called for, at 0.001; a "
        "generator drawn at probability 0 fails it by itself.",
    )
    def sample_ratio(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        now = pipeline.now()
        with explained(), pipeline.read() as connection:
            found = {
                account_id: evaluation.draw_check(connection, account_id, now)
                for account_id in weight_store.list_accounts(connection)
            }
        wrong = [account_id for account_id, check in found.items() if check.is_mismatch]
        shown: dict[str, Any] = {}
        for account_id, check in found.items():
            shown[f"{account_id}/posts"] = check.ratio.posts
            shown[f"{account_id}/drawn_by_nobody_knows_what"] = check.left_out
            if check.ratio.p_value is not None:
                shown[f"{account_id}/p_value"] = check.ratio.p_value
            if check.is_mismatch:
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

    return [no_unknown_generators, sample_ratio]
