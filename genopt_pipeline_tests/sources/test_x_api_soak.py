"""Thirty days through the client, over sockets, into PostgreSQL, with every fault there is."""

import logging
import random
from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from sqlalchemy import text

from genopt_pipeline.core.observations import ObservedPost
from genopt_pipeline.core.polling import PollingConfig
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.sandbox.faults import (
    ALL_FAULTS,
    RECORD_FAULTS,
    STATUS_FAULTS,
    RandomFaults,
)
from genopt_pipeline.sources.base import SourceError
from genopt_pipeline.sources.x_api import AnalyticsConfig, RequestLimits
from genopt_pipeline.store import metrics
from genopt_pipeline.store import posts as post_store
from genopt_pipeline_tests.sources.x_api_scenario import TOKEN, WINDOW, scenario

FIELDS = (
    "impressions",
    "likes",
    "retweets",
    "replies",
    "quotes",
    "bookmarks",
    "profile_clicks",
    "url_clicks",
    "engagements",
)
WINDOWS = 30 * 144
#: windows in one transaction; one window in each, killed at any point, is asked of test_crashes
STORED_AT_ONCE = 18
PER_DAY, PER_MONTH = 80, 1600


def delivered(counts):
    return tuple(counts[name] for name in FIELDS)


def store(pipeline, s, batches, chance):
    """Store what was collected, out of order and twice: the second time changes nothing."""
    chance.shuffle(batches)
    for again in (False, True):
        with pipeline.write() as connection:
            done = metrics.store_batches(connection, "main", batches, source=s.source.name)
        if again:
            assert done == metrics.Stored(0, 0, 0, 0)
    s.source.stored()


def track(pipeline, s):
    """What a window asks for: the posts of the last thirty days, as the database knows them."""
    with pipeline.read() as connection:
        return post_store.tracked_posts(
            connection,
            "main",
            posted_from=s.time.now - timedelta(days=30),
            posted_before=s.time.now,
        )


def record(pipeline, posts):
    """The engine records its posts."""
    if not posts:
        return
    observed = [
        ObservedPost(
            decision_id=post.decision_id,
            tweet_id=post.tweet_id,
            posted_at=post.posted_at,
            generator_name=post.generator_name,
        )
        for post in posts
    ]
    with pipeline.write() as connection:
        post_store.upsert_posts(connection, "main", observed, source="engine")


@pytest.mark.slow
def test_thirty_days_of_faults_store_every_delivered_observation_once_and_none_besides(
    caplog, make_settings
):
    caplog.set_level(logging.INFO, logger="genopt_pipeline")
    polling = PollingConfig(posts_per_utc_day=PER_DAY, posts_per_month=PER_MONTH)
    pipeline = make_pipeline(make_settings())
    chance = random.Random(8)
    with (
        scenario(
            faults=RandomFaults(7, 0.08),
            days=0.0,
            schedule_days=30.0,
            posts_per_day=4.0,
            stall_seconds=0.06,
            polling=polling,
            analytics=AnalyticsConfig(),
            # patient: on a busy machine an impatient client gives up answers that were delivered,
            # and the faults stall, slow_bytes and slow_headers end in a closed connection here
            limits=RequestLimits(read_seconds=10, wait_initial_seconds=0.2),
        ) as s,
    ):
        failures: Counter = Counter()
        messages: list[str] = []
        # every other post is the engine's, the rest is only known from the timeline
        own = list(s.posts[::2])
        tracked: list = []
        batches: list = []
        for number in range(WINDOWS):
            s.time.now = max(s.time.now, s.time._base + number * WINDOW)
            if number % STORED_AT_ONCE == 0:
                store(pipeline, s, batches, chance)
                batches = []
                live = [post for post in own if post.posted_at <= s.time.now]
                record(pipeline, live)
                own = own[len(live) :]
                tracked = track(pipeline, s)
            request = s.request(tracked=tracked)
            try:
                batch = s.source.collect(request)
            except SourceError as error:
                failures[error.kind] += 1
                messages.append(str(error))
            else:
                batches.append((request.window_start, request.window_end, batch))
        store(pipeline, s, batches, chance)

        stored, follows = {}, defaultdict(set)
        with pipeline.read() as connection:
            for row in connection.execute(
                text("""
                    SELECT c.tweet_id, s.* FROM genopt.post_metric_snapshots s
                      JOIN genopt.content_metadata c USING (account_id, decision_id)
                """)
            ).mappings():
                key = row["tweet_id"], row["observed_at"]
                assert key not in stored
                stored[key] = tuple(row[name] for name in FIELDS)
                if row["platform_follows"] is not None:
                    follows[key[0]].add(row["platform_follows"])
            followers = Counter(
                map(
                    tuple,
                    connection.execute(
                        text("SELECT observed_at, followers_count FROM genopt.follower_counts")
                    ),
                )
            )
            gone = set(
                connection.scalars(
                    text("SELECT tweet_id FROM genopt.content_metadata WHERE status = 'deleted'")
                )
            )
            windows = connection.execute(
                text("SELECT window_start, posts_read, report FROM genopt.collected_windows")
            ).all()
            quarantined = connection.execute(
                text("SELECT kind, place, reason, raw FROM genopt.quarantine")
            ).all()
            generators = connection.execute(
                text("SELECT tweet_id, generator_name FROM genopt.content_metadata")
            ).all()

        truth: dict = defaultdict(list)
        true_followers: Counter = Counter()
        ascribed: dict = defaultdict(set)
        for delivery in s.server.deliveries:
            if delivery.kind == "followers":
                true_followers[delivery.at, delivery.counts["followers_count"]] += 1
            elif delivery.kind == "analytics":
                ascribed[delivery.tweet_id].add(delivery.counts["platform_follows"])
            else:
                truth[delivery.tweet_id, delivery.at].append(delivered(delivery.counts))
        # besides what posts said there are rows of analytics alone, which hold follows only
        assert truth.keys() <= stored.keys()
        assert all(set(stored[key]) == {None} for key in stored.keys() - truth.keys())
        assert all(stored[key] in truth[key] for key in truth)
        assert followers == true_followers
        assert follows
        for tweet, counts in follows.items():
            assert counts <= ascribed[tweet]
        # no half window, and what was bad is kept with its reason
        assert sum(read for _, read, _ in windows) == len(stored)
        assert all(reason for _, _, reason, _ in quarantined)
        assert TOKEN not in str((windows, quarantined))
        assert {kind for kind, *_ in quarantined} >= {"post", "followers"}
        # the engine's posts keep their generators, the others are kept without one
        mine = {post.tweet_id: post.generator_name for post in s.posts[::2]}
        assert all(mine.get(tweet) == generator for tweet, generator in generators)

        # the bill that the server kept
        billed = {day: len(posts) for day, posts in s.server.answerer.billed.items()}
        assert max(billed.values()) <= PER_DAY
        months = Counter()
        for day, posts in billed.items():
            months[day.year, day.month] += posts
        assert max(months.values()) <= PER_MONTH

        # every fault was met, and each is named: by the server one by one, by the client by kind
        injected = Counter(entry.fault for entry in s.server.fault_log)
        assert set(injected) == set(ALL_FAULTS)
        logged = "\n".join(record.getMessage() for record in caplog.records)
        for entry in s.server.fault_log:
            assert f"fault {entry.fault} in request {entry.request} " in logged
        broken = sum(n for fault, n in injected.items() if fault not in RECORD_FAULTS)
        client_named = sum(
            1
            for record in caplog.records
            if record.name == "genopt_pipeline.sources.x_api" and ": " in record.getMessage()
        )
        assert client_named >= broken
        assert injected["deleted"] >= 1
        assert gone <= s.server.answerer.deleted
        assert TOKEN not in logged
        assert TOKEN not in "".join(messages)
        assert set(STATUS_FAULTS) & set(injected)
        # faults do not keep it from its work: most windows were observed
        resting = failures["usage_capped"] + failures["no_credits"]
        assert sum(failures.values()) - resting < WINDOWS * 0.02
        assert len(windows) == WINDOWS - sum(failures.values())
        assert sum(sum(report["faults"].values()) for _, _, report in windows) > 100


def test_the_soak_covers_thirty_days_of_ten_minute_windows():
    assert timedelta(days=30) == WINDOWS * WINDOW
