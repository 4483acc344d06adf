"""What is known of an account's loop, from its rows."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from genopt_pipeline.store.monitoring import loop_facts
from genopt_pipeline_tests.scenario import START

HOUR = timedelta(hours=1)


@pytest.fixture
def connection(engine):
    with engine.begin() as opened:
        yield opened


def post(connection, name, at, followers=None):
    connection.execute(
        text("""
            INSERT INTO genopt.content_metadata
                (account_id, decision_id, generator_name, posted_at, status)
            VALUES ('main', :name, 'coach', :at, 'posted')
        """),
        {"name": name, "at": at},
    )
    connection.execute(
        text("""
            INSERT INTO genopt.outcomes
                (account_id, decision_id, observed_at, impressions, followers_gained)
            VALUES ('main', :name, :at, 500, :followers)
        """),
        {"name": name, "at": at + HOUR, "followers": followers},
    )


def count_followers(connection, at):
    connection.execute(
        text("""
            INSERT INTO genopt.follower_counts
                (account_id, window_start, observed_at, followers_count, source)
            VALUES ('main', :at, :at, 1000, 'sandbox')
        """),
        {"at": at},
    )


def follower_change(connection, start, delta):
    connection.execute(
        text("""
            INSERT INTO genopt.follower_deltas
                (account_id, window_start, window_end, delta, readings, coverage, gap_reason)
            VALUES ('main', :start, :end, :delta, 3, 1,
                    CASE WHEN CAST(:delta AS bigint) IS NULL THEN 'no earlier reading' END)
        """),
        {"start": start, "end": start + 2 * HOUR, "delta": delta},
    )


def coverage(connection, now):
    facts = loop_facts(connection, "main", now=now, window_days=7)
    return facts["posts_measured"], facts["posts_in_window"]


def test_a_new_accounts_posts_count_once_a_known_change_came_after_them(connection):
    count_followers(connection, START + HOUR)
    post(connection, "first", START + HOUR)
    post(connection, "second", START + 3 * HOUR)
    assert coverage(connection, START + 2 * HOUR) == (0, 0)
    follower_change(connection, START, None)
    assert coverage(connection, START + 4 * HOUR) == (0, 0)
    follower_change(connection, START + 2 * HOUR, 5)
    credited = START + timedelta(hours=4, minutes=40)
    assert coverage(connection, START + timedelta(hours=4, minutes=10)) == (0, 0)
    assert coverage(connection, credited) == (0, 1)
    connection.execute(
        text("UPDATE genopt.outcomes SET followers_gained = 2 WHERE decision_id = 'first'")
    )
    assert coverage(connection, credited) == (1, 1)
    # nothing is collected any more: no change is known after the second post
    assert coverage(connection, START + timedelta(days=2)) == (1, 1)


def test_where_followers_are_not_read_every_post_counts(connection):
    post(connection, "told", START + HOUR, followers=3)
    post(connection, "untold", START + HOUR)
    assert coverage(connection, START + 2 * HOUR) == (1, 2)
