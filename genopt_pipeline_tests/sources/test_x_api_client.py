"""The client against a server that answers every request in one known way, over real sockets."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from genopt_pipeline.sandbox.faults import AlwaysFault, FaultQueue
from genopt_pipeline.sources.base import (
    RateLimitedError,
    SourceRefusedError,
    TransientSourceError,
    WindowNotServableError,
)
from genopt_pipeline.sources.x_api import (
    AnalyticsConfig,
    OAuth1Credentials,
    RequestLimits,
    XApiConfig,
    XApiSource,
    oauth_credentials,
)
from genopt_pipeline_tests.sources.x_api_scenario import START, TOKEN, USER, WINDOW, scenario

#: for servers that stall; patient enough for a good answer on a busy machine
IMPATIENT = RequestLimits(read_seconds=1.0, request_seconds=1.2, wait_initial_seconds=0.2)
PATIENT = RequestLimits(wait_initial_seconds=0.2)


def test_a_window_has_every_post_of_the_timeline_and_the_follower_count():
    with scenario() as s:
        batch = s.collect()
        live = s.tracked()
        assert {p.tweet_id for p in batch.posts} == {p.tweet_id for p in live}
        assert {r.decision_id for r in batch.readings} == {p.decision_id for p in live}
        assert all(r.observed_at == s.time.now for r in batch.readings)
        assert len(batch.followers) == 1
        assert batch.report["complete"]


def test_more_posts_than_a_page_holds_are_read_over_several_pages():
    with scenario(days=10.0) as s:
        batch = s.collect()
        assert len(batch.readings) == len(s.tracked()) > 100
        assert s.server.requests["timeline"] == 2
        assert s.server.requests["lookup"] == 0


def test_posts_that_nobody_tracks_are_discovered_kept_and_reported():
    with scenario() as s:
        first = s.collect(tracked=[])
        assert len(first.posts) == len(s.tracked())
        assert all(p.decision_id is None and p.generator_name is None for p in first.posts)
        assert first.report["unmatched_posts"] == len(first.posts)


@pytest.mark.parametrize("parameter", ["tweet.fields", "post.fields"])
@pytest.mark.parametrize("fault", [None, "other_dialect", "unknown_fields"])
def test_both_naming_dialects_give_the_same_readings(parameter, fault):
    faults = FaultQueue([fault], endpoint="timeline")
    with scenario(faults=faults, fields_parameter=parameter) as s:
        s.server.answerer.only_parameter = parameter
        batch = s.collect()
    with scenario() as s:
        assert batch.readings == s.collect().readings


def test_the_wrong_dialect_is_refused_with_the_advice_to_set_the_other():
    with scenario(fields_parameter="post.fields", read_followers=False) as s:
        s.server.answerer.only_parameter = "tweet.fields"
        with pytest.raises(SourceRefusedError, match=r"tweet\.fields and post\.fields"):
            s.collect()


@pytest.mark.parametrize("fault", ["missing_metrics", "null_metrics"])
def test_metrics_that_are_missing_are_null_and_never_zero(fault):
    faults = FaultQueue([fault], endpoint="timeline")
    with scenario(faults=faults, metric_fields=("public_metrics",)) as s:
        batch = s.collect()
        assert {r.likes for r in batch.readings} == {None}
        assert {r.impressions for r in batch.readings} == {None}


@pytest.mark.parametrize("fault", ["wrong_types", "not_an_object"])
def test_a_bad_record_is_rejected_with_its_reason_and_the_good_ones_are_kept(fault):
    with scenario(faults=FaultQueue([fault], endpoint="timeline")) as s:
        batch = s.collect()
        assert len(batch.rejected) == 1
        assert batch.rejected[0].reason
        assert "timeline, data[" in batch.rejected[0].place
        assert len(batch.readings) == len(s.tracked()) - (fault == "wrong_types")


def test_a_follower_count_in_words_is_rejected_and_not_guessed():
    with scenario(faults=FaultQueue(["wrong_types"], endpoint="users/me")) as s:
        batch = s.collect()
        assert batch.followers == ()
        assert batch.rejected[0].kind == "followers"


def test_a_deleted_post_is_marked_once_and_never_asked_for_again():
    with scenario() as s:
        victim = s.tracked()[5]
        s.server.answerer.deleted.add(victim.tweet_id)
        batch = s.collect()
        marked = [p for p in batch.posts if p.status == "deleted"]
        assert [p.decision_id for p in marked] == [victim.decision_id]
        assert len(batch.readings) == len(s.tracked()) - 1
        lookups = s.server.requests["lookup"]
        s.time.now += WINDOW
        again = s.collect()
        assert s.server.requests["lookup"] == lookups
        assert not [p for p in again.posts if p.status == "deleted"]


def test_posts_of_an_answer_that_was_never_stored_are_found_again():
    with scenario(schedule_days=2.0) as s:
        s.collect()
        s.time.now += timedelta(hours=8)
        known = s.tracked()[:-5]
        lost = s.source.collect(s.request(tracked=known))  # and the process dies
        assert lost.report["unmatched_posts"] == 5
        s.time.now += WINDOW
        # a new process, which knows what the database and the ledger hold
        other = XApiSource(s.config, s.state, clock=s.time.clock, sleep=s.time.sleep)
        found = other.collect(s.request(tracked=known))
        other.close()
        assert {p.tweet_id for p in lost.posts} <= {p.tweet_id for p in found.posts}


def test_a_first_window_that_was_never_stored_is_read_again_from_its_beginning():
    with scenario() as s:
        lost = s.source.collect(s.request(tracked=[]))
        s.time.now += WINDOW
        again = s.source.collect(s.request(tracked=[]))
        assert len(again.posts) >= len(lost.posts) > 40


def test_a_timeline_that_fails_half_way_is_read_to_its_end_by_the_next_window():
    faults = FaultQueue([None, *["http_503"] * 4], endpoint="timeline")
    with scenario(days=10.0, faults=faults) as s:
        first = s.collect(tracked=[])
        assert not first.report["complete"]
        assert len(first.posts) == 100
        s.time.now += WINDOW
        stored = {p.tweet_id for p in first.posts}
        second = s.collect(tracked=[p for p in s.tracked() if p.tweet_id in stored])
        assert {p.tweet_id for p in second.posts} == {p.tweet_id for p in s.tracked()}


def test_a_deletion_that_was_never_stored_is_found_again():
    with scenario() as s:
        victim = s.tracked()[5]
        s.server.answerer.deleted.add(victim.tweet_id)
        for _ in range(2):
            batch = s.source.collect(s.request())
            assert [p.tweet_id for p in batch.posts if p.status == "deleted"] == [victim.tweet_id]
            s.time.now += WINDOW
        s.source.stored()
        assert not [p for p in s.collect().posts if p.status == "deleted"]


def test_asking_what_can_be_served_sends_and_changes_nothing():
    with scenario(analytics=AnalyticsConfig()) as s:
        s.collect()
        # a request is under way in another process
        document = s.state.get(f"x_api/{USER}")
        document["pending"] = {"ids": ["9"], "unknown": 3, "price_usd": 0.001}
        s.state.set(f"x_api/{USER}", document)
        sent = sum(s.server.requests.values())
        s.time.now += timedelta(days=1)
        hours = [START + timedelta(days=3, hours=h) for h in range(24)]
        served = [s.source.can_serve(h, h + WINDOW, now=s.time.now) for h in hours]
        assert any(served)
        assert not any(
            s.source.can_serve(h + WINDOW, h + 2 * WINDOW, now=s.time.now) for h in hours
        )
        assert s.state.get(f"x_api/{USER}") == document
        assert sum(s.server.requests.values()) == sent


def test_a_past_hour_that_is_refused_is_not_asked_for_again():
    with scenario(analytics=AnalyticsConfig()) as s:
        s.collect()
        s.time.now += timedelta(days=1)
        hour = START + timedelta(days=3, hours=3)
        request = s.request().model_copy(update={"window_start": hour, "window_end": hour + WINDOW})
        assert s.source.can_serve(hour, hour + WINDOW, now=s.time.now)
        s.server.answerer.has_analytics = False
        with pytest.raises(WindowNotServableError, match="it stays a gap"):
            s.source.collect(request)
        assert not s.source.can_serve(hour, hour + WINDOW, now=s.time.now)


def test_no_past_hour_is_asked_for_while_collection_rests():
    with scenario(analytics=AnalyticsConfig(), faults=FaultQueue([None] * 3)) as s:
        s.collect()
        s.time.now += timedelta(days=1)
        hour = START + timedelta(days=3, hours=3)
        assert s.source.can_serve(hour, hour + WINDOW, now=s.time.now)
        s.server.faults = FaultQueue(["no_credits"])
        with pytest.raises(SourceRefusedError):
            s.collect()
        assert not s.source.can_serve(hour, hour + WINDOW, now=s.time.now)


def test_a_post_that_may_not_be_read_is_reported_and_not_taken_for_deleted():
    faults = FaultQueue(["not_authorized", "not_authorized"])
    with scenario(faults=faults, read_followers=False) as s:
        batch = s.collect()
        assert not [p for p in batch.posts if p.status == "deleted"]
        assert batch.report["complete"]


def test_falling_counts_are_kept_as_observed():
    with scenario(faults=FaultQueue([None, "falling_counts"], endpoint="timeline")) as s:
        before = {r.tweet_id: r.impressions for r in s.collect().readings}
        s.time.now += WINDOW
        after = {r.tweet_id: r.impressions for r in s.collect().readings}
        assert sum(after[t] < before[t] for t in before) > len(before) / 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("reset", None),
        ("truncated", "truncated"),
        ("stall", "timeout"),
        ("slow_bytes", "timeout"),
        ("slow_headers", "timeout"),
        ("html_200", "html_body"),
        ("not_json", "not_json"),
        ("json_array", "not_json"),
        ("wrong_content_type", "html_body"),
        ("empty_body", "empty_body"),
        ("wrong_shape", "wrong_shape"),
        ("huge_number", "not_json"),
        ("http_500", "http_500"),
        ("http_502_html", "http_502"),
        ("http_503", "http_503"),
        ("http_504", "http_504"),
        ("over_capacity_old_style", "over_capacity"),
    ],
)
def test_a_transient_fault_is_retried_and_named_and_the_window_is_whole(fault, kind):
    faults = FaultQueue([fault], endpoint="timeline")
    # the wrong shape shows only when the answer is read: the window goes on without the timeline
    limits = IMPATIENT if kind == "timeout" else PATIENT
    with scenario(faults=faults, limits=limits, real_time=True, stall_seconds=4.0) as s:
        batch = s.collect()
        assert sum(batch.report["faults"].values()) == 1
        assert kind is None or batch.report["faults"] == {kind: 1}
        if fault == "wrong_shape":
            assert not batch.report["complete"]
        else:
            assert batch.report["complete"]
            assert len(batch.readings) == len(s.tracked())
            assert s.time.slept_seconds > 0


@pytest.mark.parametrize("fault", ["http_503", "html_200", "truncated"])
def test_a_fault_that_does_not_go_away_ends_the_window_with_a_transient_error(fault):
    with scenario(faults=AlwaysFault(fault)) as s:
        with pytest.raises(TransientSourceError):
            s.collect()
        assert s.server.requests["timeline"] == s.config.limits.max_attempts


def test_a_retry_is_logged_and_not_printed_between_the_output_of_a_command(capsys, caplog):
    with scenario(faults=FaultQueue(["http_503"])) as s:
        assert s.collect().report["faults"] == {"http_503": 1}
    assert capsys.readouterr() == ("", "")
    assert any("http_503" in record.getMessage() for record in caplog.records)


def test_what_was_delivered_before_a_failure_is_returned_and_the_failure_named():
    with scenario(faults=AlwaysFault("http_500", endpoint="timeline")) as s:
        batch = s.collect()
        assert len(batch.followers) == 1
        assert batch.readings == ()
        assert not batch.report["complete"]
        assert batch.report["problems"][0]["kind"] == "http_500"


@pytest.mark.parametrize("fault", ["rate_limited", "rate_limited_old_style"])
def test_a_near_reset_is_waited_for_and_the_request_repeated(fault):
    with scenario(faults=FaultQueue([fault], endpoint="timeline")) as s:
        batch = s.collect()
        assert 60 <= s.time.slept_seconds < 70
        assert batch.report["complete"]


def test_a_reset_that_is_far_away_is_not_waited_for_and_nothing_is_sent_before_it():
    limits = {"timeline": 1}
    with scenario(server_options={"rate_limits": limits}, read_followers=False) as s:
        s.collect()
        requests = s.server.requests["timeline"]
        s.time.now += timedelta(minutes=1)
        batch = s.collect()
        assert s.server.requests["timeline"] == requests
        assert not batch.report["plan"]["discover"]
        # posts that are billed already are read by id instead, for nothing
        assert len(batch.readings) == len(s.tracked())
        assert batch.report["rate_limits"]["timeline"]["remaining"] == 0
        s.time.now = START + timedelta(days=3, minutes=20)
        assert s.collect().report["plan"]["discover"]


def test_a_429_without_a_reset_is_an_error_that_names_no_time():
    with scenario(faults=AlwaysFault("rate_limited_no_reset")) as s:
        with pytest.raises(RateLimitedError) as caught:
            s.collect()
        assert caught.value.retry_at is None


def test_a_usage_cap_stops_collection_until_it_is_probed_a_day_later():
    with scenario(faults=FaultQueue([None, "usage_capped"])) as s:
        batch = s.collect()
        assert batch.report["problems"][0]["kind"] == "usage_capped"
        assert batch.report["problems"][0]["help_needed"]
        requests = s.server.requests.total()
        s.time.now += timedelta(hours=12)
        with pytest.raises(SourceRefusedError, match="collection rests since"):
            s.collect()
        assert s.server.requests.total() == requests
        s.time.now += timedelta(hours=12)
        assert s.collect().report["complete"]
        s.time.now += WINDOW
        assert s.collect().report["complete"]


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("no_credits", "credits"),
        ("client_forbidden", "plan"),
        ("client_not_enrolled", "plan"),
        ("forbidden_html", "plan"),
        ("unauthorized", "GENOPT_X_ACCESS_TOKEN"),
        ("redirect", "GENOPT_X_BASE_URL"),
        ("usage_capped", "cap"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_not_retried(fault, advice):
    with scenario(faults=AlwaysFault(fault)) as s:
        with pytest.raises(SourceRefusedError, match=advice) as caught:
            s.collect()
        assert TOKEN not in str(caught.value)
        assert max(s.server.requests.values()) == 1
        assert s.time.slept_seconds == 0


def test_the_token_of_another_account_gives_no_follower_count():
    with scenario() as s:
        s.server.answerer.user_id = "43"
        with pytest.raises(SourceRefusedError, match="belongs to user 43"):
            s.collect()


def test_a_past_window_is_refused_and_not_filled_with_todays_numbers():
    with scenario() as s:
        request = s.request()
        old = request.model_copy(
            update={
                "window_start": request.window_start - timedelta(days=1),
                "window_end": request.window_end - timedelta(days=1),
            }
        )
        assert not s.source.can_serve(old.window_start, old.window_end, now=s.time.now)
        with pytest.raises(WindowNotServableError, match="stays a gap"):
            s.source.collect(old)
        # a caller whose now comes from the window does not fool it either
        pretended = old.model_copy(update={"now": old.window_start})
        with pytest.raises(WindowNotServableError, match="not the present one"):
            s.source.collect(pretended)
        assert s.server.requests.total() == 0


def test_follows_of_posts_are_read_where_the_endpoint_exists_every_two_hours():
    with scenario(analytics=AnalyticsConfig()) as s:
        batch = s.collect()
        follows = {r.tweet_id: r.platform_follows for r in batch.readings}
        assert sum(follows.values()) > 0
        assert batch.report["analytics"]["status"] == "present"
        s.time.now += WINDOW
        assert {r.platform_follows for r in s.collect().readings} == {None}
        s.time.now += timedelta(hours=2)
        assert None not in {
            r.platform_follows for r in s.collect().readings if r.tweet_id in follows
        }


def test_an_absent_analytics_endpoint_is_probed_once_remembered_and_shown():
    with scenario(analytics=AnalyticsConfig()) as s:
        s.server.answerer.has_analytics = False
        for _ in range(30):
            batch = s.collect()
            assert batch.report["complete"]
            s.time.now += WINDOW
        assert s.server.requests["analytics"] == 1
        assert batch.report["analytics"]["status"] == "absent"
        assert "client_not_enrolled" in batch.report["analytics"]["reason"]
        # a month later it is asked once more, and once only
        s.time.now += timedelta(days=30)
        for _ in range(5):
            s.collect(tracked=s.posts[-3:])
            s.time.now += WINDOW
        assert s.server.requests["analytics"] == 1
        fresh = [p.model_copy(update={"posted_at": s.time.now - WINDOW}) for p in s.posts[-3:]]
        for _ in range(5):
            s.collect(tracked=fresh)
            s.time.now += WINDOW
        assert s.server.requests["analytics"] == 2


def test_a_past_window_with_a_full_hour_is_served_by_analytics_as_of_that_hour():
    with scenario(analytics=AnalyticsConfig()) as s:
        s.collect()
        hour = START + timedelta(days=2)
        request = s.request().model_copy(update={"window_start": hour, "window_end": hour + WINDOW})
        assert s.source.can_serve(hour, hour + WINDOW, now=s.time.now)
        assert not s.source.can_serve(hour + WINDOW, hour + 2 * WINDOW, now=s.time.now)
        batch = s.source.collect(request)
        assert {r.observed_at for r in batch.readings} == {hour}
        truth = s.server.answerer.account.metrics_at([r.tweet_id for r in batch.readings], hour)
        assert all(r.impressions == truth[r.tweet_id].impressions for r in batch.readings)
        assert all(r.platform_follows == truth[r.tweet_id].platform_follows for r in batch.readings)
        assert batch.followers == ()
        live = {p.tweet_id for p in s.posts if p.posted_at < hour}
        assert {r.tweet_id for r in batch.readings} == live


def test_the_difference_to_the_servers_clock_is_measured_and_reported():
    with scenario(max_clock_skew_seconds=30) as s:
        s.server.clock = lambda: s.time.now - timedelta(seconds=90)
        batch = s.collect()
        assert batch.report["clock_skew_seconds"] == pytest.approx(-90, abs=1)
        assert any("clock differs" in warning for warning in batch.report["warnings"])


def test_a_refused_token_on_a_machine_with_a_wrong_clock_says_so():
    with scenario(faults=AlwaysFault("unauthorized")) as s:
        s.server.clock = lambda: s.time.now + timedelta(minutes=7)
        with pytest.raises(SourceRefusedError, match=r"clock, which differs from X's by -4\d\d s"):
            s.collect()


def test_a_day_of_windows_is_billed_once_a_post_and_stays_within_the_budget():
    from genopt_pipeline.core.polling import PollingConfig

    polling = PollingConfig(posts_per_utc_day=40)
    with scenario(polling=polling, days=5.0) as s:
        skipped = 0
        for _ in range(36):
            batch = s.collect()
            skipped += batch.report["plan"]["skipped"].get("day_budget", 0)
            assert len(s.server.answerer.billed[s.time.now.date()]) <= 40
            assert batch.report["budget"]["posts_today"] == len(
                s.server.answerer.billed[s.time.now.date()]
            )
            s.time.now += WINDOW
        assert skipped > 0
        assert any("budget" in warning for warning in batch.report["warnings"])


def test_oauth_1_requests_carry_the_signature_of_the_specification():
    import base64
    import hashlib
    import hmac
    import re
    from urllib.parse import parse_qsl, quote, unquote, urlsplit

    import httpx

    from genopt_pipeline.sources.x_api import MemoryStateStore, XApiSource
    from genopt_pipeline.sources.x_api.source import utc_now

    seen = []

    class Spy(httpx.BaseTransport):
        def handle_request(self, request):
            seen.append(request)
            return httpx.Response(503, stream=httpx.ByteStream(b""))

    keys = [SecretStr(text) for text in ("app-key-1", "app-secret-1", TOKEN, "token-secret-1")]
    config = XApiConfig(USER, OAuth1Credentials(*keys), limits=RequestLimits(max_attempts=1))
    source = XApiSource(config, MemoryStateStore(), transport=Spy(), sleep=lambda _: None)
    with scenario() as s:
        now = utc_now()
        request = s.request().model_copy(
            update={"window_start": now, "window_end": now + WINDOW, "now": now, "tracked": ()}
        )
    with pytest.raises(TransientSourceError):
        source.collect(request)
    for sent in seen:
        header = sent.headers["authorization"]
        fields = {k: unquote(v) for k, v in re.findall(r'(oauth_\w+)="([^"]*)"', header)}
        signature = fields.pop("oauth_signature")
        url = urlsplit(str(sent.url))
        pairs = [*parse_qsl(url.query, keep_blank_values=True), *fields.items()]
        encoded = sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in pairs)
        text = "&".join(f"{k}={v}" for k, v in encoded)
        base = "&".join(
            quote(part, safe="~") for part in ("GET", f"https://{url.netloc}{url.path}", text)
        )
        digest = hmac.new(b"app-secret-1&token-secret-1", base.encode(), hashlib.sha1).digest()
        assert base64.b64encode(digest).decode() == signature
    assert len(seen) == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://api.x.com",
        "http://10.0.0.1",
        "https://user:password@api.x.com",
        "https://api.x.com?x=1",
        "ftp://api.x.com",
        "api.x.com",
        "https://",
    ],
)
def test_a_base_url_that_a_token_should_not_go_to_is_refused(url):
    credentials = oauth_credentials(access_token=SecretStr(TOKEN))
    with pytest.raises(ValueError, match="base URL") as caught:
        XApiConfig(USER, credentials, base_url=url)
    assert "password@" not in str(caught.value)


def test_half_of_a_set_of_credentials_is_refused_by_name():
    with pytest.raises(ValueError, match="consumer_secret"):
        oauth_credentials(access_token=SecretStr(TOKEN), consumer_key=SecretStr("key"))
    with pytest.raises(ValueError, match="GENOPT_X_ACCESS_TOKEN"):
        oauth_credentials(access_token=None)
    with pytest.raises(ValueError, match="client id"):
        oauth_credentials(access_token=SecretStr(TOKEN), refresh_token=SecretStr("r"))
