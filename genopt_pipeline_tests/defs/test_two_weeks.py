"""A fortnight of an account in real Dagster runs, in virtual time, with all that can come up.

One generator goes viral and calms down, one fails and recovers, one is locked, one overridden, one
added; readings fail for some hours, and the database goes away for one. After every publication
the invariants are checked; at the end, that everything was told exactly once.
"""

import math
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import dagster as dg
import numpy as np
import pytest
from sqlalchemy import text

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS, DRAWN_STATUSES
from genopt_pipeline.defs import failures
from genopt_pipeline.defs.build import build_defs, make_pipeline
from genopt_pipeline.defs.collect import all_posts_before
from genopt_pipeline.defs.control_job import CONTROL, CONTROL_OP
from genopt_pipeline.defs.jobs import ATTRIBUTE, INGEST, OPTIMIZE, PUBLISH
from genopt_pipeline.defs.partitions import SIX_HOURS, TEN_MINUTES, TWO_HOURS, key_of
from genopt_pipeline.defs.sensors import RANGE_END, RANGE_START
from genopt_pipeline.sandbox.account import SandboxAccount
from genopt_pipeline.sandbox.world import WORLDS
from genopt_pipeline.sources.sandbox import SandboxSource
from genopt_pipeline.store import snapshots
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline_tests.scenario import START, Clock, instance_on

DAYS = 14
#: Every second six-hour cycle is worked through, at which it publishes; the test would take twice
#: as long with all of them.
STEP = 2 * SIX_HOURS
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
WORLD = replace(WORLDS["stationary"], posts_per_day=25.0, platform_share=1.0)
GAP = (START + timedelta(days=7, hours=8), START + timedelta(days=7, hours=14))


class ScriptedAccount(SandboxAccount):
    """Every generator earns 2 followers per 1000 impressions, but for two of them at times."""

    def _log_rates(self, generator, hours):
        rates = np.full(len(hours), math.log(2.0))
        names = sorted(DEFAULT_WEIGHTS)
        viral, failing = names.index("coach"), names.index("newsReporter")
        days = hours / 24
        rates[(generator == viral) & (days >= 4) & (days < 8)] = math.log(20.0)
        rates[(generator == failing) & (days < 7)] = -30.0
        rates[(generator == failing) & (days >= 7)] = math.log(3.0)
        return rates


class SourceWithAGap(SandboxSource):
    """Reports the follows of each post, and nothing at all in ``GAP``."""

    def can_serve(self, window_start, window_end, *, now):
        inside = GAP[0] <= window_start < GAP[1]
        return not inside and super().can_serve(window_start, window_end, now=now)


def source(pipeline, account_id, first_window):
    del first_window
    account = ScriptedAccount(
        seed=5, start=START, world=WORLD, generators=tuple(sorted(DEFAULT_WEIGHTS))
    )
    return SourceWithAGap(
        account, lambda at: all_posts_before(pipeline, account_id, at), platform_follows=True
    )


@pytest.fixture
def world(make_settings, tmp_path, monkeypatch, admin, database):
    """An installation at work: runs of its jobs, its clock, its database to take away."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    monkeypatch.setattr(failures, "DELAY_SECONDS", 0.01)
    settings = make_settings(start=START, policy="exponential", followers_estimator="platform")
    clock = Clock(START)
    pipeline = make_pipeline(settings, sources=source, clock=clock)
    with instance_on(settings, tmp_path) as instance:
        jobs = {
            name: build_defs(pipeline).resolve_job_def(name)
            for name in (INGEST, ATTRIBUTE, OPTIMIZE, PUBLISH, CONTROL)
        }

        def run(job, first=None, last=None, *, config=None, assets=None, **tags):
            spread = last is not None and last != first
            if spread:
                tags |= {RANGE_START: key_of(first), RANGE_END: key_of(last)}
            ops = {"ops": {CONTROL_OP: {"config": config}}} if config else {}
            return jobs[job].execute_in_process(
                instance=instance,
                partition_key=key_of(first) if first is not None and not spread else None,
                run_config={**QUIET, **ops},
                asset_selection=assets and [dg.AssetKey(name) for name in assets],
                tags=tags,
                raise_on_error=False,
            )

        @contextmanager
        def database_away():
            with admin.connect() as connection:
                connection.execute(
                    text(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS false")
                )
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :d"
                    ),
                    {"d": database.database},
                )
            yield
            with admin.connect() as connection:
                connection.execute(
                    text(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS true")
                )

        yield SimpleNamespace(run=run, clock=clock, pipeline=pipeline, database_away=database_away)


def read(world, query):
    with world.pipeline.read() as connection:
        return connection.execute(text(query)).all()


def live(world):
    with world.pipeline.read() as connection:
        return weight_store.live_weights(connection, "main")


def events(world):
    with world.pipeline.read() as connection:
        return list(reversed(weight_store.recent_events(connection, "main", 10_000)))


def check_publication(world, before, window_start):
    """What must hold after every publication."""
    after = live(world)
    units = {name: int(row.weight * 10_000) for name, row in after.generators.items()}
    assert sum(units.values()) == 10_000
    assert sum(row.weight for row in after.generators.values()) == 1
    for name, row in after.generators.items():
        if row.status not in DRAWN_STATUSES:
            assert units[name] == 0
        elif row.locked:
            assert row.weight == before.generators[name].weight
        else:
            assert units[name] >= 200
    new = [event for event in events(world) if event["window_start"] == window_start]
    updates = [event for event in new if event["event_type"] == "weight_update"]
    if not updates:
        assert [event["event_type"] for event in new] == ["skipped"]
        assert after == before
        return
    (update,) = updates
    assert update["weights_version"] == after.version == before.version + 1
    shown = {
        change["generator"]: (change["old_weight"], change["new_weight"])
        for change in update["changes"]
    }
    assert shown == {
        name: (before.by_name[name], weight)
        for name, weight in after.by_name.items()
        if weight != before.by_name[name]
    }
    assert update["generators_updated"] == len(shown)
    assert update["posts_analyzed"] >= 20
    assert update["execution_time_ms"] > 0
    with world.pipeline.read() as connection:
        proposal = snapshots.read_snapshot(connection, "main", window_start)["proposal"]
    names = sorted(after.by_name)
    old, now, wanted = (
        np.array([weights[name] for name in names])
        for weights in (before.by_name, after.by_name, proposal["diagnostics"]["target"])
    )
    rounding = 1e-4 * math.sqrt(len(names))
    assert np.linalg.norm(now - old) <= 0.30 * np.linalg.norm(wanted - old) + rounding


def check_followers(world):
    """Posts and baseline sum to the change of every window; the changes to that of the counts."""
    (row,) = read(
        world,
        """
        SELECT max(abs(b.delta - b.followers - coalesce(p.followers, 0))) AS off,
               sum(b.delta) AS total
          FROM genopt.follower_baseline b
          LEFT JOIN (SELECT window_start, sum(followers) AS followers
                       FROM genopt.post_followers GROUP BY 1) p USING (window_start)
        """,
    )
    assert row.off < 1e-6
    counts = read(world, "SELECT followers_count FROM genopt.follower_counts ORDER BY observed_at")
    first = 11  # the last reading of the first window: from there on changes are known
    assert row.total == counts[-1][0] - counts[first][0]


def control(world, **config):
    result = world.run(CONTROL, config=config)
    assert result.success


def collect(world, start, end):
    """The ten-minute windows of ``[start, end)`` that the source serves."""
    world.clock.at = end + timedelta(minutes=1)
    if start < GAP[1] and end > GAP[0]:
        refused = world.run(INGEST, max(start, GAP[0]))
        assert not refused.success
        pieces = [(start, min(end, GAP[0])), (max(start, GAP[1]), end)]
    else:
        pieces = [(start, end)]
    for begin, until in pieces:
        if begin < until:
            assert world.run(INGEST, begin, until - TEN_MINUTES).success


def measure(world, start, end):
    """Every window's followers; the tables of performance only where they are read."""
    both = ["follower_deltas", "post_followers"]
    assert world.run(ATTRIBUTE, start, end - TWO_HOURS, assets=both).success
    assert world.run(ATTRIBUTE, end - TWO_HOURS, assets=["generator_f_per_1k"]).success


def publish(world):
    """Health and the report, which the job makes too, have tests of their own."""
    return world.run(PUBLISH, assets=["generator_weights"])


@pytest.mark.slow
def test_a_fortnight(world):
    by_hand = {
        (2, 0): {"action": "lock", "generator": "humanVoice", "reason": "the brand's voice"},
        (9, 0): {
            "action": "set_weight",
            "generator": "philosopher",
            "weight": 0.15,
            "reason": "a campaign",
        },
        (10, 0): {"action": "add", "generator": "poet", "reason": "a new voice"},
    }
    for cycle in range(2 * DAYS):
        start = START + cycle * STEP
        end = start + STEP
        window = end - SIX_HOURS
        place = (cycle // 2, 12 * (cycle % 2))
        collect(world, start, end)
        if place in by_hand:
            world.clock.at = end - timedelta(hours=1)
            control(world, **by_hand[place])
        world.clock.at = end + timedelta(minutes=13)
        if place == (6, 0):
            untouched = live(world)
            with world.database_away():
                away = world.run(ATTRIBUTE, start, end - TWO_HOURS)
                assert not away.success
                assert "does not answer" in str(
                    away.get_step_failure_events()[0].step_failure_data.error
                )
                assert not publish(world).success
            world.clock.at += timedelta(hours=1)
            assert live(world) == untouched
        measure(world, start, end)
        before = live(world)
        assert world.run(OPTIMIZE, window).success
        assert live(world) == before
        assert publish(world).success
        check_publication(world, before, window)
        check_followers(world)
        if place == (8, 0):  # a backfill of the past proposes again and publishes nothing
            told, weights = events(world), live(world)
            assert world.run(OPTIMIZE, START + timedelta(days=7), window - SIX_HOURS).success
            assert publish(world).success
            assert (events(world), live(world)) == (told, weights)

    check_what_was_told(world)
    gaps = read(world, "SELECT delta, covers_from < window_start FROM genopt.follower_deltas")
    # the first window has none before it; the three of the gap are merged into the next
    assert [row[0] is None for row in gaps].count(True) == 4
    assert [row[1] for row in gaps].count(True) == 1


def check_what_was_told(world):
    """Every change and every episode is an event, once."""
    told, states = events(world), live(world)
    versions = [event for event in told if event["weights_version"]]
    assert [event["weights_version"] for event in versions] == list(range(1, states.version + 1))
    assert [event["effective_at"] for event in versions] == sorted(
        event["effective_at"] for event in versions
    )

    def of(*types):
        return [
            (event["event_type"], event["changes"][0]["generator"])
            for event in told
            if event["event_type"] in types
        ]

    assert of("failure_detected", "recovered") == [
        ("failure_detected", "newsReporter"),
        ("recovered", "newsReporter"),
    ]
    viral = of("viral_boost", "viral_ended")
    assert viral[0] == ("viral_boost", "coach")
    assert viral.count(("viral_boost", "coach")) == 1
    for name in {generator for _, generator in viral}:
        turns = [event_type for event_type, generator in viral if generator == name]
        assert turns == [("viral_boost", "viral_ended")[k % 2] for k in range(len(turns))]
    assert of("generator_enabled") == [("generator_enabled", "poet")]
    once = ("locked", "manual_override", "generator_added", "initial_weights", "skipped")
    kinds = [event["event_type"] for event in told]
    assert all(kinds.count(kind) == 1 for kind in once)
    assert "refused" not in kinds

    assert {row.status for row in states.generators.values()} == {"active"}
    (locked,) = [event for event in told if event["event_type"] == "locked"]
    since = versions[locked["weights_version"] - 1 :]
    assert len({event["weights_after"]["humanVoice"] for event in since}) == 1
    (override,) = [event for event in told if event["event_type"] == "manual_override"]
    assert float(override["weights_after"]["philosopher"]) == 0.15
    assert states.by_name["philosopher"] < 0.15
    assert states.by_name["poet"] >= 0.02
