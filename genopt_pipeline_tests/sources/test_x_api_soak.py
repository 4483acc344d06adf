import logging
from collections import Counter, defaultdict
from datetime import timedelta

import pytest

from genopt_pipeline.core.polling import PollingConfig
from genopt_pipeline.sandbox.faults import (
    ALL_FAULTS,
    RECORD_FAULTS,
    STATUS_FAULTS,
    RandomFaults,
)
from genopt_pipeline.sources.base import SourceError
from genopt_pipeline.sources.x_api import AnalyticsConfig, RequestLimits
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
PER_DAY, PER_MONTH = 80, 1600


def observed(reading):
    return tuple(getattr(reading, name) for name in FIELDS)


def delivered(counts):
    return tuple(counts[name] for name in FIELDS)


@pytest.mark.slow
def test_thirty_days_of_faults_store_every_delivered_observation_once_and_none_besides(caplog):
    caplog.set_level(logging.INFO, logger="genopt_pipeline")
    polling = PollingConfig(posts_per_utc_day=PER_DAY, posts_per_month=PER_MONTH)
    with scenario(
        faults=RandomFaults(7, 0.08),
        days=0.0,
        schedule_days=30.0,
        posts_per_day=4.0,
        stall_seconds=0.06,
        polling=polling,
        analytics=AnalyticsConfig(),
        # patient: on a busy machine an impatient client gives up answers that were delivered, and
        # the faults stall, slow_bytes and slow_headers end in a closed connection here
        limits=RequestLimits(read_seconds=10, wait_initial_seconds=0.2),
    ) as s:
        stored: Counter = Counter()
        values: dict = {}
        followers: Counter = Counter()
        last: dict[str, tuple] = {}
        failures: Counter = Counter()
        named: Counter = Counter()
        messages: list[str] = []
        follows: dict = defaultdict(list)
        alone: dict = {}
        gone: set[str] = set()
        for number in range(WINDOWS):
            s.time.now = max(s.time.now, s.time._base + number * WINDOW)
            now = s.time.now
            tracked = [
                post.model_copy(
                    update={
                        "last_observed_at": last.get(post.tweet_id, (None, None))[0],
                        "last_impressions": last.get(post.tweet_id, (None, None))[1],
                    }
                )
                for post in s.posts
                if post.posted_at <= now and post.tweet_id not in gone
            ]
            try:
                batch = s.collect(tracked=tracked)
            except SourceError as error:
                failures[error.kind] += 1
                messages.append(str(error))
                continue
            assert TOKEN not in str((batch.report, batch.rejected))
            named.update(batch.report["faults"])
            for reading in batch.readings:
                key = reading.tweet_id, reading.observed_at
                if reading.platform_follows is not None:
                    follows[key[0]].append((now, reading.platform_follows))
                    if not any(observed(reading)):
                        alone[key] = reading  # from analytics, if not a post without metrics
                        continue
                stored[key] += 1
                values[key] = observed(reading)
                last[reading.tweet_id] = (reading.observed_at, reading.impressions)
            for reading in batch.followers:
                followers[reading.observed_at, reading.followers_count] += 1
            gone |= {p.tweet_id for p in batch.posts if p.status == "deleted"}

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
        # a post whose metrics were missing has nothing but its follows, as one of analytics alone
        for key in alone.keys() & truth.keys():
            stored[key] += 1
            values[key] = observed(alone[key])
        rest = [alone[key] for key in alone.keys() - truth.keys()]
        assert all(set(observed(reading)) == {None} for reading in rest)
        assert stored.keys() == truth.keys()
        assert set(stored.values()) == {1}
        assert all(values[key] in truth[key] for key in truth)
        assert followers == true_followers
        for tweet, seen in follows.items():
            assert {count for _, count in seen} <= ascribed[tweet]

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
        text = "\n".join(record.getMessage() for record in caplog.records)
        for entry in s.server.fault_log:
            assert f"fault {entry.fault} in request {entry.request} " in text
        broken = sum(n for fault, n in injected.items() if fault not in RECORD_FAULTS)
        client_named = sum(
            1
            for record in caplog.records
            if record.name == "genopt_pipeline.sources.x_api" and ": " in record.getMessage()
        )
        assert client_named >= broken
        assert injected["deleted"] >= 1
        assert gone <= s.server.answerer.deleted
        assert TOKEN not in text
        assert TOKEN not in "".join(messages)
        assert set(STATUS_FAULTS) & set(injected)
        # faults do not keep it from its work: most windows were observed
        resting = failures["usage_capped"] + failures["no_credits"]
        assert sum(failures.values()) - resting < WINDOWS * 0.02
        assert named


def test_the_soak_covers_thirty_days_of_ten_minute_windows():
    assert timedelta(days=30) == WINDOWS * WINDOW
