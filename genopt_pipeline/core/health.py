"""Is the loop healthy? Checks on what was observed of it, each with a reason and what to do.

What belongs here: thresholds and the judgement. What does not: reading the database, and sending
anything to anyone. ``None`` in the observations means that there is nothing yet; a database that
could not be read is a different thing and is said so, and a zero is a zero. What was not looked
at is ``unknown``, and says nothing for or against the loop.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

HealthStatus = Literal["healthy", "degraded", "critical"]
CheckStatus = Literal["unknown", "healthy", "no_data", "degraded", "critical"]

DATABASE_ACTION: Final = "Start PostgreSQL or correct GENOPT_DATABASE_URL."

_ORDER: Final[tuple[CheckStatus, ...]] = ("unknown", "healthy", "no_data", "degraded", "critical")


@dataclass(frozen=True)
class HealthConfig:
    """Thresholds; ages in hours. Above the first the check is degraded, above the second critical.

    The ages are multiples of how often the thing happens: every 10 minutes, 2 hours and 6 hours.
    """

    metrics_age_hours: tuple[float, float] = (0.5, 6.0)
    followers_age_hours: tuple[float, float] = (2.0, 12.0)
    performance_age_hours: tuple[float, float] = (5.0, 24.0)
    optimization_age_hours: tuple[float, float] = (13.0, 48.0)
    post_age_hours: tuple[float, float] = (24.0, 72.0)
    #: degraded and critical below these shares of the window's posts with known followers
    measured_share: tuple[float, float] = (0.8, 0.3)
    #: degraded and critical from this many failed runs in 24 hours on
    failed_runs_24h: tuple[int, int] = (1, 10)
    #: degraded from this many unresolved records in quarantine on
    quarantined: int = 1
    #: times in the future by more than this are a wrong clock, not fresh data
    clock_skew_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name in ("metrics", "followers", "performance", "optimization", "post"):
            first, second = getattr(self, f"{name}_age_hours")
            if not 0 < first <= second:
                raise ValueError(
                    f"{name}_age_hours is {(first, second)}; it must rise from above 0"
                )
        if not 1 >= self.measured_share[0] >= self.measured_share[1] >= 0:
            raise ValueError(f"measured_share is {self.measured_share}; it must fall within [0, 1]")


@dataclass(frozen=True)
class HealthObservations:
    """What is known of an account's loop; None where there is nothing yet.

    ``database_error`` says why the database could not be read and ``database_action`` what to do.
    ``collects`` is False where metrics come only from imports; then their age is no fault.
    ``optimization`` is any decision, including to skip: the loop ran. ``failed_runs_24h`` is None
    where runs cannot be counted. ``source_warnings`` is what the source said in the window that it
    collected last, such as that a budget is near its end; None if no window was collected.
    ``posts_in_window`` are those that could be measured by now, ``posts_measured`` those that were.
    """

    database_error: str | None = None
    database_action: str = DATABASE_ACTION
    weights: Mapping[str, float] | None = None
    last_metrics_at: datetime | None = None
    last_followers_at: datetime | None = None
    last_performance_at: datetime | None = None
    last_optimization_at: datetime | None = None
    last_post_at: datetime | None = None
    posts_in_window: int | None = None
    posts_measured: int | None = None
    quarantined: int | None = None
    failed_runs_24h: int | None = None
    collects: bool = True
    source_warnings: tuple[str, ...] | None = None


@dataclass(frozen=True)
class HealthCheck:
    """One check: its status, the reason in words, and what to do (empty if nothing)."""

    name: str
    status: CheckStatus
    reason: str
    action: str = ""


@dataclass(frozen=True)
class HealthReport:
    """All checks and the worst of them; a check without data makes the whole degraded.

    A check whose status is ``unknown`` counts neither way.
    """

    status: HealthStatus
    checks: tuple[HealthCheck, ...]
    checked_at: datetime

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of the checks that are not healthy, the worst first."""
        found = [check for check in self.checks if check.status not in {"healthy", "unknown"}]
        found.sort(key=lambda check: -_ORDER.index(check.status))
        return tuple(check.reason for check in found)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return asdict(self) | {
            "checked_at": self.checked_at.isoformat(),
            "checks": [asdict(check) for check in self.checks],
            "reasons": list(self.reasons),
        }


def check_health(
    observed: HealthObservations, *, now: datetime, config: HealthConfig | None = None
) -> HealthReport:
    """Judge the observations at ``now``.

    If the database could not be read, that is the only check: nothing else is known then, which
    is not the same as there being no data.
    """
    config = config or HealthConfig()
    if observed.database_error is not None:
        check = HealthCheck(
            "database",
            "critical",
            f"the database cannot be read: {observed.database_error}",
            f"{observed.database_action} Content engines draw by the default weights until then.",
        )
        return HealthReport("critical", (check,), now)

    checks = [
        HealthCheck("database", "healthy", "the database answers"),
        _weights(observed.weights),
        _age(
            "posts",
            "post",
            observed.last_post_at,
            now,
            config.post_age_hours,
            config,
            "Check that the content engine runs and stores its posts with `genopt record-post`.",
        ),
    ]
    if observed.collects:
        checks += [
            _age(
                "metrics",
                "reading of posts",
                observed.last_metrics_at,
                now,
                config.metrics_age_hours,
                config,
                "See the latest runs of raw_post_metrics; run `genopt collect` by hand.",
            ),
            _age(
                "followers",
                "reading of the follower count",
                observed.last_followers_at,
                now,
                config.followers_age_hours,
                config,
                "See the latest runs of raw_follower_counts; check the credentials.",
            ),
        ]
        if observed.source_warnings is not None:
            checks.append(_source(observed.source_warnings))
    checks += [
        _age(
            "performance",
            "performance table",
            observed.last_performance_at,
            now,
            config.performance_age_hours,
            config,
            "Check that the Dagster daemon runs and the two-hour schedule is on.",
        ),
        _age(
            "optimization",
            "decision about the weights",
            observed.last_optimization_at,
            now,
            config.optimization_age_hours,
            config,
            "Check that the six-hour schedule is on; `genopt optimize --dry-run` shows its input.",
        ),
        _measured(observed, config),
        _quarantine(observed.quarantined, config),
        _runs(observed.failed_runs_24h, config),
    ]
    worst = max((check.status for check in checks), key=_ORDER.index)
    verdict: HealthStatus = "critical" if worst == "critical" else "degraded"
    return HealthReport("healthy" if worst == "healthy" else verdict, tuple(checks), now)


def _source(warnings: tuple[str, ...]) -> HealthCheck:
    if not warnings:
        return HealthCheck("source", "healthy", "the source warns of nothing")
    return HealthCheck(
        "source",
        "degraded",
        f"the source warns: {'; '.join(warnings)}",
        "See the plan in the latest run of raw_post_metrics, and docs/x_api.md.",
    )


def _weights(weights: Mapping[str, float] | None) -> HealthCheck:
    if not weights:
        return HealthCheck(
            "weights",
            "critical",
            "no generator is registered, so none can be drawn",
            "Run `genopt migrate`.",
        )
    wrong = sorted(n for n, w in weights.items() if not (math.isfinite(w) and 0 <= w <= 1))
    total = math.fsum(weights.values())
    if wrong or abs(total - 1.0) > 1e-9:
        what = f"of {', '.join(wrong)} are no probabilities" if wrong else f"sum to {total:.6g}"
        return HealthCheck(
            "weights", "critical", f"the live weights {what}", "Run `genopt rollback`."
        )
    drawn = sum(weight > 0 for weight in weights.values())
    return HealthCheck("weights", "healthy", f"the weights of {drawn} generators sum to 1")


def _age(
    name: str,
    what: str,
    at: datetime | None,
    now: datetime,
    limits_hours: tuple[float, float],
    config: HealthConfig,
    action: str,
) -> HealthCheck:
    if at is None:
        return HealthCheck(name, "no_data", f"no {what} yet", action)
    age = now - at
    if age < -timedelta(minutes=config.clock_skew_minutes):
        return HealthCheck(
            name,
            "degraded",
            f"the latest {what} lies {_span(-age)} in the future",
            "Correct the clock of this machine or of the source.",
        )
    hours = age.total_seconds() / 3600.0
    reason = f"the latest {what} is {_span(age)} old"
    if hours > limits_hours[1]:
        return HealthCheck(name, "critical", reason, action)
    if hours > limits_hours[0]:
        return HealthCheck(name, "degraded", reason, action)
    return HealthCheck(name, "healthy", reason)


def _measured(observed: HealthObservations, config: HealthConfig) -> HealthCheck:
    posts, measured = observed.posts_in_window, observed.posts_measured
    if not posts or measured is None:
        return HealthCheck("coverage", "no_data", "no post could be measured yet")
    reason = f"followers are known for {measured} of {posts} posts that could be measured by now"
    share = measured / posts
    if share >= config.measured_share[0]:
        return HealthCheck("coverage", "healthy", reason)
    status: CheckStatus = "critical" if share < config.measured_share[1] else "degraded"
    return HealthCheck(
        "coverage", status, reason, "Look for gaps in follower_deltas and for failed collections."
    )


def _quarantine(count: int | None, config: HealthConfig) -> HealthCheck:
    if count is None:
        return HealthCheck("quarantine", "no_data", "the quarantine was not counted")
    if count < config.quarantined:
        return HealthCheck(
            "quarantine",
            "healthy",
            f"{count} unresolved record{'' if count == 1 else 's'} in quarantine",
        )
    return HealthCheck(
        "quarantine",
        "degraded",
        f"{count} unresolved record{'' if count == 1 else 's'} in quarantine",
        "See `genopt quarantine`: --resolve gives an unknown name to a generator, --resolve-record "
        "and --resolve-file close what was dealt with.",
    )


def _runs(failed: int | None, config: HealthConfig) -> HealthCheck:
    if failed is None:
        return HealthCheck("runs", "unknown", "runs are counted by the asset system_health only")
    reason = f"{failed} failed run{'' if failed == 1 else 's'} in 24 hours"
    first, second = config.failed_runs_24h
    if failed < first:
        return HealthCheck("runs", "healthy", reason)
    status: CheckStatus = "critical" if failed >= second else "degraded"
    return HealthCheck("runs", status, reason, "Open the failed runs in the Dagster UI.")


def _span(age: timedelta) -> str:
    minutes = max(age.total_seconds(), 0.0) / 60.0
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    if minutes < 48 * 60:
        return f"{minutes / 60:.1f} hours"
    days = minutes / 1440
    return f"{days:.1f} days" if days < 14 else f"{days:,.0f} days"
