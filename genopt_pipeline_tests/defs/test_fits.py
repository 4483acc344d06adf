"""Attribution in the pipeline: fitted once a day, in between split by what the last fit learned."""

from datetime import timedelta

import pandas as pd
import pytest
from sqlalchemy import text

from genopt_pipeline.core.attribution import attribute_followers
from genopt_pipeline.defs import collect, steps
from genopt_pipeline.defs.jobs import ATTRIBUTE
from genopt_pipeline.defs.partitions import TEN_MINUTES, TWO_HOURS, windows
from genopt_pipeline_tests.scenario import (
    START,
    Installation,
    hours,
    instance_on,
    work_through,
)


@pytest.fixture
def installation(make_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    settings = make_settings(start=START)
    with instance_on(settings, tmp_path) as instance:
        made = Installation(settings, instance, START + timedelta(days=9))
        yield made
        made.pipeline.engine.dispose()


def collected(installation, start, end):
    collect.collect_windows(installation.pipeline, "main", list(windows(start, end, TEN_MINUTES)))


def fitted(installation):
    """Starts of the windows that were fitted in full."""
    with installation.pipeline.read() as connection:
        return list(
            connection.scalars(
                text(
                    "SELECT window_start FROM genopt.follower_baseline "
                    "WHERE parameters ? 'learned' ORDER BY 1"
                )
            )
        )


def attributed(installation):
    return {
        table: installation.rows(table, order)
        for table, order in (
            ("follower_baseline", "window_start"),
            ("post_followers", "window_start, decision_id"),
        )
    }


def test_the_first_window_of_all_and_of_every_day_is_fitted_and_no_other(installation):
    begin, end = START + hours(4), START + timedelta(days=2, hours=6)
    collected(installation, begin, end)
    assert installation.run(ATTRIBUTE, begin, end - TWO_HOURS).success
    # the window before the first has no count: the second is the first with a change
    assert fitted(installation) == [
        begin + TWO_HOURS,
        START + timedelta(days=1),
        START + timedelta(days=2),
    ]
    with installation.pipeline.read() as connection:
        windows_known = connection.scalar(text("SELECT count(*) FROM genopt.follower_baseline"))
    assert windows_known == 24


def test_a_window_between_fits_credits_nearly_what_a_fit_of_its_own_would(installation):
    end = START + timedelta(days=8)
    work_through(installation.pipeline, START, end)
    last = end - TWO_HOURS
    assert fitted(installation)[-1] == START + timedelta(days=7)

    with installation.pipeline.read() as connection:
        # inputs of more than one window are read for a full fit
        inputs = steps.read_attribution_inputs(connection, "main", last - TWO_HOURS, end)
        stored = pd.DataFrame(
            connection.execute(
                text(
                    "SELECT decision_id, followers_to_date AS followers, "
                    "variance_to_date AS variance, information "
                    "FROM genopt.post_followers WHERE window_start = :start"
                ),
                {"start": last},
            ).mappings()
        ).set_index("decision_id")
    full = attribute_followers(inputs.deltas, inputs.exposures).totals.set_index("post_id")
    full = full.loc[stored.index, stored.columns]
    assert full["followers"].sum() > 200
    off = (stored - full).abs().sum() / full.sum()
    assert off["followers"] < 0.04
    assert off[["variance", "information"]].max() < 0.1


def test_a_window_attributed_again_alone_or_in_a_range_has_the_same_rows(installation):
    begin, end = START, START + timedelta(days=2, hours=12)
    work_through(installation.pipeline, begin, end)
    first = attributed(installation)
    for start, last in (
        (START + hours(44), None),  # between two fits
        (START + timedelta(days=1), None),  # a fit
        (START + hours(40), START + hours(52)),  # from between two fits over the next one
        (begin, end - TWO_HOURS),
    ):
        assert installation.run(ATTRIBUTE, start, last).success
        assert attributed(installation) == first, start


def test_a_window_with_the_first_profile_clicks_is_fitted_in_full(installation):
    begin, end = START, START + timedelta(days=2, hours=2)
    collected(installation, begin, end)
    with installation.pipeline.write() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text(
                "UPDATE genopt.post_metric_snapshots SET profile_clicks = NULL "
                "WHERE observed_at < :analytics_began"
            ),
            {"analytics_began": START + hours(33)},
        )
    assert installation.run(ATTRIBUTE, begin, end - TWO_HOURS).success
    with installation.pipeline.read() as connection:
        units = {
            row.window_start: row.unit
            for row in connection.execute(
                text(
                    "SELECT window_start, parameters ->> 'exposure' AS unit "
                    "FROM genopt.follower_baseline ORDER BY 1"
                )
            )
        }
    changed = min(start for start, unit in units.items() if unit == "profile_clicks")
    assert {unit for start, unit in units.items() if start < changed} == {"impressions"}
    assert {unit for start, unit in units.items() if start > changed} == {"profile_clicks"}
    assert START + hours(32) <= changed < START + hours(46)
    assert fitted(installation) == [
        START + TWO_HOURS,
        START + timedelta(days=1),
        changed,
        START + timedelta(days=2),
    ]
