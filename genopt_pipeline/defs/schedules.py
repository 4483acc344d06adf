"""Schedules: every ten minutes, two hours and six hours.

The two longer ones run some minutes after their window has ended, so that its last readings are
in. What they miss (after downtime only the newest tick runs) the gap-filling sensor asks for.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from genopt_pipeline.defs.jobs import Jobs
from genopt_pipeline.defs.partitions import (
    SIX_HOURS,
    TEN_MINUTES,
    TWO_HOURS,
    key_of,
    window_of,
)

#: Length of the windows of each schedule, and how long after a boundary it ticks.
TICKS = {
    "every_ten_minutes": (TEN_MINUTES, timedelta(0)),
    "every_two_hours": (TWO_HOURS, timedelta(minutes=4)),
    "every_six_hours": (SIX_HOURS, timedelta(minutes=12)),
}


def next_ticks(now: datetime) -> dict[str, datetime]:
    """When each schedule ticks next after ``now``."""
    return {
        name: window_of(now - after, length)[1] + after for name, (length, after) in TICKS.items()
    }


def make_schedules(jobs: Jobs) -> list[dg.ScheduleDefinition]:
    """The three schedules, running from the start."""

    @dg.schedule(
        name="every_ten_minutes",
        job=jobs.ingest,
        cron_schedule="*/10 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every ten minutes (:00, :10, … UTC): reads the metrics of the tracked posts "
        "and the follower count, into the ten-minute window that has just begun.",
    )
    def every_ten_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        start, _ = window_of(_tick(context), TEN_MINUTES)
        return dg.RunRequest(partition_key=key_of(start), run_key=f"ingest:{key_of(start)}")

    @dg.schedule(
        name="every_two_hours",
        job=jobs.measure,
        cron_schedule="4 */2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every two hours, 4 minutes past the even hour (UTC): credits the follower "
        "change of the two hours that have ended to posts, and computes F/1K of each generator.",
    )
    def every_two_hours(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return _ended(_tick(context), TWO_HOURS, "measure")

    @dg.schedule(
        name="every_six_hours",
        job=jobs.optimize,
        cron_schedule="12 */6 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every six hours, at 0:12, 6:12, 12:12 and 18:12 (UTC): proposes weights after "
        "the six hours that have ended. The sensor publish_current_window publishes them.",
    )
    def every_six_hours(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return _ended(_tick(context), SIX_HOURS, "optimize")

    return [every_ten_minutes, every_two_hours, every_six_hours]


def _tick(context: dg.ScheduleEvaluationContext) -> datetime:
    return context.scheduled_execution_time.astimezone(UTC)


def _ended(tick: datetime, length: timedelta, name: str) -> dg.RunRequest:
    start = window_of(tick, length)[0] - length
    return dg.RunRequest(partition_key=key_of(start), run_key=f"{name}:{key_of(start)}")
