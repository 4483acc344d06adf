"""A test installation: settings on a fresh database, a clock that stands still, Dagster on it."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import dagster as dg
from sqlalchemy import text

from genopt_pipeline.defs import collect, history, steps
from genopt_pipeline.defs.build import build_defs, make_pipeline
from genopt_pipeline.defs.instance import storage_url
from genopt_pipeline.defs.partitions import TEN_MINUTES, TWO_HOURS, key_of, windows
from genopt_pipeline.defs.sensors import RANGE_END, RANGE_START
from genopt_pipeline.store import performance, server

START = datetime(2026, 9, 1, tzinfo=UTC)
#: Of the thousands of events of a range, none on the console.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Clock:
    """Virtual time: it moves when a test says so."""

    def __init__(self, at):
        self.at = at

    def __call__(self):
        return self.at


@contextmanager
def instance_on(settings, tmp_path):
    """A real Dagster instance whose storage is PostgreSQL."""
    url = storage_url(server.resolve_urls(settings).dagster)
    (tmp_path / "dagster").mkdir(exist_ok=True)
    with dg.instance_for_test(
        temp_dir=str(tmp_path / "dagster"),
        overrides={"storage": {"postgres": {"postgres_url": url}}},
    ) as instance:
        yield instance


class Installation:
    """One pipeline with its definitions and instance."""

    def __init__(self, settings, instance, now):
        self.settings = settings
        self.instance = instance
        self.clock = Clock(now)
        self.pipeline = make_pipeline(settings, clock=self.clock)
        self.defs = build_defs(self.pipeline)

    def run(self, job, first=None, last=None, **tags):
        """Run a job for the windows from ``first`` to ``last``; a range is a backfill."""
        spread = last is not None and last != first
        if spread:
            tags |= {RANGE_START: key_of(first), RANGE_END: key_of(last)}
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=key_of(first) if first is not None and not spread else None,
            tags=tags,
            run_config=QUIET,
            raise_on_error=False,
        )

    def catch_up(self, start, now):
        """Bring everything from ``start`` up to ``now``, as the demo does."""
        self.clock.at = now
        history.run_history(self.pipeline, self.instance, history.plan(start, now))

    def rows(self, table, order):
        """All rows of a table as text, without when and how they were written."""
        with self.pipeline.read() as connection:
            return [
                {
                    key: str(value)
                    for key, value in row.items()
                    if key
                    not in {
                        "created_at",
                        "updated_at",
                        "collected_at",
                        "computed_at",
                        "execution_time_ms",
                        "id",
                        "backfilled",
                    }
                }
                for row in connection.execute(
                    text(f"SELECT * FROM genopt.{table} ORDER BY {order}")
                ).mappings()
            ]


TABLES = {
    "content_metadata": "decision_id",
    "post_metric_snapshots": "decision_id, observed_at",
    "follower_counts": "observed_at",
    "follower_deltas": "window_start",
    "follower_baseline": "window_start",
    "post_followers": "window_start, decision_id",
    "generator_performance_history": "period_end, period_start, generator_name",
    "weight_snapshots": "window_start",
    "optimization_events": "id",
}


def everything(installation):
    """All that an account has, to compare states."""
    return {table: installation.rows(table, order) for table, order in TABLES.items()}


def work_through(pipeline, start, end):
    """What the runs of ``[start, end)`` would store, measured at its end; without Dagster."""
    account = pipeline.settings.account
    collect.collect_windows(pipeline, account, list(windows(start, end, TEN_MINUTES)))
    for window_start, window_end in windows(start, end, TWO_HOURS):
        with pipeline.write() as connection:
            steps.delta_step(connection, account, window_start, window_end)
    with pipeline.read() as connection:
        inputs = steps.read_attribution_inputs(connection, account, start, end)
    for window_start, window_end in windows(start, end, TWO_HOURS):
        with pipeline.write() as connection:
            steps.attribution_step(connection, account, window_start, window_end, inputs)
    with pipeline.write() as connection:
        steps.performance_step(connection, account, pipeline.settings, end)
        performance.refresh_life_time(connection, account, estimator=pipeline.settings.estimator)


def hours(count):
    return timedelta(hours=count)
