"""Working through a stretch of history in real Dagster runs, in this process.

One single-run backfill for each partitions definition, in the order of the data, then the window
that ended last as an ordinary run, which may be published. Running it again is harmless: every
window is idempotent.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from genopt_pipeline.defs import jobs as job_names
from genopt_pipeline.defs.build import build_defs
from genopt_pipeline.defs.partitions import (
    SIX_HOURS,
    TEN_MINUTES,
    TWO_HOURS,
    key_of,
    window_of,
)
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.defs.sensors import RANGE_END, RANGE_START
from genopt_pipeline.store import source_states

PROCESS_TAG = "genopt/process"


class HistoryError(RuntimeError):
    """A run of the history failed."""


@dataclass(frozen=True)
class Stage:
    """One run: what it is called for people, its job, its first and last window."""

    title: str
    job: str
    first: datetime | None = None
    last: datetime | None = None

    @property
    def tags(self) -> dict[str, str]:
        """Tags of a range; none for an ordinary run."""
        if self.first is None or self.last is None or self.first == self.last:
            return {}
        return {RANGE_START: key_of(self.first), RANGE_END: key_of(self.last)}


def plan(start: datetime, now: datetime) -> list[Stage]:
    """The runs that bring everything from ``start`` up to ``now``."""
    current = window_of(now, TEN_MINUTES)[0]
    two_hours_end = window_of(now, TWO_HOURS)[0]
    six_hours_end = window_of(now, SIX_HOURS)[0]
    last_cycle = six_hours_end - SIX_HOURS
    first_cycle = window_of(start, SIX_HOURS)[0]
    stages = [
        Stage("collect posts and follower counts", job_names.INGEST, start, current),
        Stage(
            "attribute followers, compute F/1K",
            job_names.ATTRIBUTE,
            window_of(start, TWO_HOURS)[0],
            two_hours_end - TWO_HOURS,
        ),
    ]
    if first_cycle < last_cycle:
        stages.append(
            Stage("propose weights", job_names.OPTIMIZE, first_cycle, last_cycle - SIX_HOURS)
        )
    stages.append(
        Stage("propose weights of the current window", job_names.OPTIMIZE, last_cycle, last_cycle)
    )
    stages.append(Stage("publish", job_names.PUBLISH))
    return stages


def start_of_history(pipeline: Pipeline, now: datetime, days: int) -> datetime:
    """Six-hour boundary ``days`` days ago, or where the simulated account began if later."""
    wanted = max(window_of(now, SIX_HOURS)[0] - timedelta(days=days), pipeline.settings.start)
    with pipeline.read() as connection:
        begun = source_states.get_state(connection, pipeline.settings.account, "sandbox", "start")
    return wanted if begun is None else max(wanted, datetime.fromisoformat(begun))


def run_history(
    pipeline: Pipeline,
    instance: dg.DagsterInstance,
    stages: list[Stage],
    *,
    progress: Callable[[Stage], None] = lambda _: None,
) -> None:
    """Run the stages in order.

    Raises
    ------
    HistoryError
        A run failed; the message says which and why. Earlier stages are stored.
    KeyboardInterrupt
        Ctrl-C; what was stored is whole.
    """
    end_orphans(instance)
    definitions = build_defs(pipeline)
    for stage in stages:
        progress(stage)
        job = definitions.resolve_job_def(stage.job)
        try:
            result = job.execute_in_process(
                instance=instance,
                partition_key=(
                    key_of(stage.first) if stage.first is not None and not stage.tags else None
                ),
                tags={**stage.tags, PROCESS_TAG: str(os.getpid())},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        except dg.DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error
        if not result.success:
            events = result.get_step_failure_events()
            if any(_interrupted(event) for event in events):
                raise KeyboardInterrupt
            failures = [_reason(event) for event in events]
            raise HistoryError(
                f"{stage.title}: run {result.run_id} failed: {'; '.join(failures) or 'no step ran'}"
            )


def _interrupted(event: dg.DagsterEvent) -> bool:
    """Whether a step ended because it was told to, in an asset's body or in Dagster's own code."""
    error = event.step_failure_data.error
    while error is not None:
        if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            return True
        error = error.cause
    return False


def _reason(event: dg.DagsterEvent) -> str:
    """What went wrong in a step: the message of a ``Failure``, else of the first cause."""
    data = event.step_failure_data
    told = data.user_failure_data and data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return " ".join((told or (error.message if error else "no reason is known")).split())


def end_orphans(instance: dg.DagsterInstance) -> int:
    """Mark runs whose process is gone (killed, or a power cut) as failed; returns how many."""
    ended = 0
    for run in instance.get_runs(
        filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    ):
        process = run.tags.get(PROCESS_TAG)
        if process is not None and not _alive(int(process)):
            instance.report_run_failed(run, message=f"its process {process} is gone")
            ended += 1
    return ended


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
