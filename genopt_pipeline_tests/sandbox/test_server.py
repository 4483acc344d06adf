import json
import urllib.request
from collections import Counter
from datetime import timedelta

import httpx
import pytest

from genopt_pipeline.sandbox.faults import ALL_FAULTS, AlwaysFault, FaultQueue, RandomFaults
from genopt_pipeline.sandbox.server import serve
from genopt_pipeline.sandbox.server_answers import SandboxView
from genopt_pipeline_tests.sources.x_api_scenario import (
    START,
    USER,
    VirtualTime,
    account,
    engine_posts,
)

DAYS = 5


@pytest.fixture
def running():
    simulated = account()
    posts = engine_posts(simulated, DAYS + 1)
    time = VirtualTime(START + timedelta(days=DAYS))
    with serve(SandboxView(simulated, posts), user_id=USER, clock=time.clock) as server:
        server.time = time
        server.truth = posts
        with httpx.Client(base_url=server.base_url) as client:
            yield server, client


TIMELINE = f"/2/users/{USER}/tweets"


def test_pages_of_the_timeline_show_every_live_post_once_newest_first(running):
    server, client = running
    seen, token = [], None
    while True:
        params = {"max_results": "10", **({"pagination_token": token} if token else {})}
        page = client.get(TIMELINE, params=params).json()
        seen += [record["id"] for record in page["data"]]
        token = page["meta"].get("next_token")
        if token is None:
            break
    live = [p.tweet_id for p in server.truth if p.posted_at <= server.time.now]
    assert seen == sorted(live, key=int, reverse=True)


def test_since_id_shows_newer_posts_only(running):
    server, client = running
    live = sorted((p.tweet_id for p in server.truth if p.posted_at <= server.time.now), key=int)
    page = client.get(TIMELINE, params={"max_results": "5", "since_id": live[-4]}).json()
    assert [record["id"] for record in page["data"]] == live[:-4:-1]


def test_counts_are_those_of_the_account_at_the_servers_time(running):
    server, client = running
    fields = {"tweet.fields": "created_at,public_metrics,non_public_metrics"}
    tweet = server.truth[0].tweet_id
    for hours in (0, 12):
        server.time.now += timedelta(hours=hours)
        record = client.get("/2/tweets", params={"ids": tweet, **fields}).json()["data"][0]
        truth = server.answerer.account.metrics_at([tweet], server.time.now)[tweet]
        assert record["public_metrics"]["impression_count"] == truth.impressions
        assert record["non_public_metrics"]["user_profile_clicks"] == truth.profile_clicks
    me = client.get("/2/users/me", params={"user.fields": "public_metrics"}).json()["data"]
    assert me["public_metrics"]["followers_count"] == server.answerer.account.followers_at(
        server.time.now
    )


def test_fields_that_were_not_asked_for_are_not_sent(running):
    server, client = running
    record = client.get("/2/tweets", params={"ids": server.truth[0].tweet_id}).json()["data"][0]
    assert set(record) == {"id", "text"}


def test_when_all_posts_are_gone_there_is_no_data_key(running):
    server, client = running
    server.answerer.deleted.add(server.truth[0].tweet_id)
    document = client.get("/2/tweets", params={"ids": server.truth[0].tweet_id}).json()
    assert "data" not in document
    assert document["errors"][0]["type"].endswith("/resource-not-found")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (TIMELINE, {"max_results": "4"}),
        (TIMELINE, {"max_results": "101"}),
        (TIMELINE, {"pagination_token": "?"}),
        ("/2/tweets", {}),
        ("/2/tweets", {"ids": "abc"}),
        ("/2/tweets/analytics", {"ids": "1"}),
    ],
)
def test_requests_out_of_the_documented_bounds_are_refused(running, path, params):
    _, client = running
    answer = client.get(path, params=params)
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("/invalid-request")


def test_the_bill_counts_a_post_once_a_utc_day(running):
    server, client = running
    for _ in range(3):
        client.get(TIMELINE, params={"max_results": "7"})
        server.time.now += timedelta(hours=1)
    server.time.now += timedelta(days=1)
    client.get(TIMELINE, params={"max_results": "7"})
    days = sorted(server.answerer.billed)
    assert len(days) == 2
    assert all(7 <= len(server.answerer.billed[day]) <= 12 for day in days)


def test_limits_are_enforced_and_told_in_headers_until_the_window_turns(running):
    server, client = running
    server.rate_limits["users/me"] = 2
    codes = []
    for _ in range(3):
        answer = client.get("/2/users/me")
        codes.append((answer.status_code, answer.headers["x-rate-limit-remaining"]))
    assert codes == [(200, "1"), (200, "0"), (429, "0")]
    server.time.now += timedelta(minutes=15)
    assert client.get("/2/users/me").status_code == 200


def test_the_date_header_is_the_servers_own_clock(running):
    _, client = running
    assert client.get("/2/users/me").headers["date"] == "Tue, 06 Oct 2026 00:00:00 GMT"


def test_without_the_token_nothing_is_shown():
    simulated = account()
    with serve(SandboxView(simulated), user_id=USER, access_token="the-token") as server:
        url = f"{server.base_url}/2/users/me"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer no"}).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer the-token"}).status_code == 200


def test_the_server_listens_on_the_loopback_interface_only():
    with pytest.raises(ValueError, match="loopback"):
        serve(SandboxView(account()), host="0.0.0.0")  # noqa: S104  that is what is refused


def test_a_closed_server_gives_its_port_back():
    with serve(SandboxView(account()), user_id=USER) as server:
        port = int(server.base_url.rsplit(":", 1)[1])
    with serve(SandboxView(account()), port=port, user_id=USER) as again:
        url = f"{again.base_url}/2/users/me"
        assert json.load(urllib.request.urlopen(url))["data"]["id"] == USER  # noqa: S310  loopback


def test_every_fault_injected_is_logged_with_its_request(running):
    server, client = running
    server.faults = FaultQueue(["http_500", None, "redirect", "deleted"])
    for _ in range(4):
        client.get(TIMELINE, params={"max_results": "5"})
    assert [(e.request, e.fault) for e in server.fault_log] == [
        (1, "http_500"),
        (3, "redirect"),
        (4, "deleted"),
    ]


def test_only_answers_that_arrive_whole_count_as_delivered(running):
    server, client = running
    server.faults = FaultQueue(["truncated", "http_500", "not_json", "wrong_types", None])
    for fault in range(5):
        try:
            client.get(TIMELINE, params={"max_results": "5"})
        except httpx.TransportError:
            assert fault == 0
    assert len(server.deliveries) == 4 + 5


def test_the_same_seed_gives_the_same_faults_at_the_rate_asked_for():
    plans = [RandomFaults(5, 0.25) for _ in range(2)]
    chosen = [[plan.choose("timeline") for _ in range(20_000)] for plan in plans]
    assert chosen[0] == chosen[1]
    counts = Counter(chosen[0])
    # 0.25 ± 5 standard errors
    assert abs(1 - counts[None] / 20_000 - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5
    assert set(counts) - {None} == set(ALL_FAULTS)
    assert counts["usage_capped"] < counts["reset"]


def test_an_unknown_fault_is_refused_by_name():
    for make in (AlwaysFault, lambda fault: FaultQueue([fault])):
        with pytest.raises(ValueError, match="gremlins"):
            make("gremlins")
    with pytest.raises(ValueError, match="rate"):
        RandomFaults(1, 2.0)
