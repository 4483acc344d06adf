"""Time partitions: ten minutes, two hours and six hours, all UTC and half-open."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

KEY_FORMAT = "%Y-%m-%d-%H:%M"

TEN_MINUTES = timedelta(minutes=10)
TWO_HOURS = timedelta(hours=2)
SIX_HOURS = timedelta(hours=6)


@dataclass(frozen=True)
class Partitions:
    """The three partitions definitions of an installation."""

    ten_minutes: dg.TimeWindowPartitionsDefinition
    two_hours: dg.TimeWindowPartitionsDefinition
    six_hours: dg.TimeWindowPartitionsDefinition


def make_partitions(start: datetime) -> Partitions:
    """Partitions from ``start`` on.

    The ten-minute window that is under way exists as a partition (``end_offset``), since a live
    source can only be read while the window lasts; the longer ones exist once they have ended.
    """

    def make(cron: str, end_offset: int = 0) -> dg.TimeWindowPartitionsDefinition:
        return dg.TimeWindowPartitionsDefinition(
            start=start, fmt=KEY_FORMAT, cron_schedule=cron, end_offset=end_offset, timezone="UTC"
        )

    return Partitions(
        ten_minutes=make("*/10 * * * *", end_offset=1),
        two_hours=make("0 */2 * * *"),
        six_hours=make("0 */6 * * *"),
    )


def key_of(start: datetime) -> str:
    """Partition key of the window that starts at ``start``."""
    return start.strftime(KEY_FORMAT)


def windows(
    start: datetime, end: datetime, length: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """The windows of ``length`` that make up ``[start, end)``."""
    while start < end:
        yield start, start + length
        start += length


def window_of(at: datetime, length: timedelta) -> tuple[datetime, datetime]:
    """The window of ``length`` (a divisor of a day) that contains ``at``."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight + length * ((at - midnight) // length)
    return start, start + length
