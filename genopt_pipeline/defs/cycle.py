"""One optimization cycle outside Dagster: shown only, or published.

What is shown starts from the weights in force now. As long as the window that ended last can be
published, it is exactly what publishing would put in force; afterwards it is what the next window
would propose by the data there are so far.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from genopt_pipeline.core.appraisal import Appraisal
from genopt_pipeline.core.episodes import Transition
from genopt_pipeline.defs import evaluation, steps
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import performance, snapshots
from genopt_pipeline.store import weights as weight_store


@dataclass(frozen=True)
class Cycle:
    """A window's proposal and what it is worth.

    as_of: up to when the data are read; before ``window_end`` where the window is not over.
    row: as stored in ``weight_snapshots``. episodes: those that begin or end with its publication.
    closed: why the window before this one can no longer be published, where this is the next one.
    """

    window_start: datetime
    window_end: datetime
    as_of: datetime
    row: dict[str, Any]
    worth: Appraisal
    episodes: tuple[Transition, ...]
    closed: str | None = None
    publication: snapshots.Publication | None = None


def preview(pipeline: Pipeline, account_id: str, *, force: bool = False) -> Cycle:
    """What the cycle would do; writes nothing at all."""
    settings, now = pipeline.settings, pipeline.now()
    with pipeline.read() as connection:
        closed = snapshots.closed(connection, account_id, now)
        start, end = snapshots.current_window(now)
        as_of = end
        if closed is not None:
            start, end = end, end + snapshots.CYCLE
            as_of = _newest_data(connection, account_id, settings, start, now)
        row, worth, episodes = _propose(
            connection, account_id, settings, start, as_of, now=now, force=force
        )
    return Cycle(start, end, as_of, row, worth, episodes, closed)


def publish(
    pipeline: Pipeline, account_id: str, *, force: bool = False, created_by: str
) -> Cycle | snapshots.Publication:
    """Propose for the window that ended last and publish it, in one transaction.

    Only the publication, with outcome ``nothing``, where the window is published already.
    """
    settings, now = pipeline.settings, pipeline.now()
    begun = time.perf_counter()
    start, end = snapshots.current_window(now)
    with pipeline.write() as connection:
        done = snapshots.published(connection, account_id, start)
        if done is not None:
            return done
        row, worth, episodes = _propose(
            connection, account_id, settings, start, end, now=end, force=force
        )
        steps.write_snapshot(connection, account_id, row, backfilled=False)
        publication = snapshots.publish_current(
            connection,
            account_id,
            now=now,
            created_by=created_by,
            execution_time_ms=(time.perf_counter() - begun) * 1000,
        )
    return Cycle(start, end, end, row, worth, episodes, publication=publication)


def _newest_data(
    connection: Connection, account_id: str, settings: Settings, start: datetime, now: datetime
) -> datetime:
    """End of the last two-hour window after ``start`` that was computed; ``start`` if none was."""
    history = performance.read_history(
        connection, account_id, since=start, until=now, days=settings.window_days
    )
    newest: datetime = start if history.empty else history["period_end"].max().to_pydatetime()
    return newest


def _propose(
    connection: Connection,
    account_id: str,
    settings: Settings,
    start: datetime,
    as_of: datetime,
    *,
    now: datetime,
    force: bool,
) -> tuple[dict[str, Any], Appraisal, tuple[Transition, ...]]:
    posts = steps.snapshot_posts(connection, account_id, settings, as_of)
    row = steps.snapshot_step(
        connection,
        account_id,
        settings,
        start,
        as_of,
        force=force,
        posts=posts,
        in_force_at=now,
    )
    worth = evaluation.appraise(
        connection, account_id, settings, as_of, snapshot=row, posts=posts, in_force_at=now
    )
    live = weight_store.live_weights(connection, account_id)
    return row, worth, snapshots.followed(connection, account_id, row, live).transitions
