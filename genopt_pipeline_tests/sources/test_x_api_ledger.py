"""The bill is an upper bound of what X counted, whatever fails; and what records say is checked."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.polling import PriceTable
from genopt_pipeline.sources.base import SourceRefusedError
from genopt_pipeline.sources.x_api import FileStateStore, MemoryStateStore
from genopt_pipeline.sources.x_api.errors import (
    XApiRateLimitedError,
    XApiRefusedError,
    XApiTransientError,
    error_of,
    last_segment,
    problem_of,
)
from genopt_pipeline.sources.x_api.ledger import BudgetLedger
from genopt_pipeline.sources.x_api.parsing import parse_post_page
from genopt_pipeline.sources.x_api.redaction import Redactor
from genopt_pipeline_tests.sources.x_api_scenario import VirtualTime

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def ledger(store, time):
    opened = BudgetLedger(store, "x_api/1", clock=time.clock, prices=PriceTable())
    opened.open()
    return opened


ids = st.integers(1, 30).map(str)
requests = st.lists(
    st.tuples(
        st.sets(ids, max_size=8),  # what the answer shows, new posts included
        st.sampled_from(["good", "refused", "lost", "crash before", "crash after"]),
        st.integers(0, 900),  # minutes to the next request
    ),
    max_size=25,
)


@given(requests)
@settings(max_examples=150, deadline=None)
def test_the_bill_is_never_below_that_of_the_server_through_losses_and_crashes(steps):
    store, time = MemoryStateStore(), VirtualTime(NOW)
    books = ledger(store, time)
    billed: dict = {}
    for shown, fate, minutes in steps:
        books.begin_posts(sorted(shown), unknown=0, price_usd=0.001)
        if fate in {"good", "lost", "crash after"}:
            billed.setdefault(time.now.date(), set()).update(shown)
        if fate == "good":
            books.settle_posts(sorted(shown))
        elif fate.startswith("crash"):
            books = ledger(store, time)
        else:
            books.fail_posts(maybe_billed=fate == "lost")
        today = billed.get(time.now.date(), set())
        month = sum(len(p) for d, p in billed.items() if d.month == time.now.month)
        state = books.budget_state()
        assert state.posts_today >= len(today)
        assert today <= set(state.billed_today)
        assert state.posts_this_month >= month
        assert state.usd_this_month >= month * 0.001 - 1e-9
        time.now += timedelta(minutes=minutes)


def test_lost_answers_count_the_posts_nobody_knows_until_the_timeline_shows_them():
    time = VirtualTime(NOW)
    books = ledger(MemoryStateStore(), time)
    for _ in range(3):
        books.begin_posts(["1", "2"], unknown=5, price_usd=0.001)
        books.fail_posts(maybe_billed=True)
    # three times the same page: the unknown ones are the same as well
    assert books.posts_today == 2 + 5
    books.begin_posts(["1", "2"], unknown=5, price_usd=0.001)
    books.settle_posts(["1", "2", "3"], all_new_shown=True)
    assert books.posts_today == 3


def test_a_new_day_begins_a_new_bill_and_a_new_month_a_new_account():
    time = VirtualTime(NOW)
    books = ledger(MemoryStateStore(), time)
    for day in range(3):  # the 29th and 30th of November, the 1st of December
        books.begin_posts([], unknown=0, price_usd=0.001)
        books.settle_posts(["1", "2"])
        books.bill_user()
        books.bill_user()
        state = books.budget_state()
        assert state.posts_today == 2
        assert state.posts_this_month == (2, 4, 2)[day]
        assert state.usd_this_month == pytest.approx((0.012, 0.024, 0.012)[day])
        time.now += timedelta(days=1)


def test_places_are_those_of_the_tighter_budget():
    time = VirtualTime(NOW)
    books = ledger(MemoryStateStore(), time)
    books.begin_posts([], unknown=0, price_usd=0.001)
    books.settle_posts([str(n) for n in range(1, 8)])
    assert books.places_left(None, None) is None
    assert books.places_left(10, None) == 3
    assert books.places_left(10, 9) == 2
    assert books.places_left(10, 5) == 0


def test_a_memory_that_is_not_ours_is_refused_with_the_place_it_lies_at(tmp_path):
    store = MemoryStateStore()
    store.set("x_api/1", {"billed": "many"})
    with pytest.raises(SourceRefusedError, match="x_api/1"):
        ledger(store, VirtualTime(NOW))
    files = FileStateStore(tmp_path)
    (tmp_path / "x_api_1.json").write_text("{")
    with pytest.raises(ValueError, match=r"x_api_1\.json"):
        ledger(files, VirtualTime(NOW))


@pytest.mark.parametrize("make", [MemoryStateStore, FileStateStore])
def test_a_store_gives_back_what_was_set_and_none_before(make, tmp_path):
    store = make(tmp_path) if make is FileStateStore else make()
    assert store.get("x_api/1") is None
    for document in ({"a": [1, None]}, {}):
        store.set("x_api/1", document)
        assert store.get("x_api/1") == document
    assert store.get("x_api/2") is None


# -- what answers mean ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (429, {"type": "https://api.x.com/2/problems/usage-capped"}, "usage_capped"),
        (429, {"type": "about:blank", "title": "Too Many Requests"}, "rate_limited"),
        (429, None, "rate_limited"),
        (403, {"errors": [{"code": 88}]}, "rate_limited"),
        (402, {"title": "Payment Required"}, "no_credits"),
        (402, None, "no_credits"),
        (403, {"type": "https://api.twitter.com/2/problems/client-forbidden"}, "client_forbidden"),
        (403, {"type": "https://api.x.com/2/problems/client-not-enrolled"}, "client_not_enrolled"),
        (
            403,
            {"errors": [{"type": "https://x/unsupported-authentication/"}]},
            "unsupported_authentication",
        ),
        (403, None, "forbidden"),
        (401, {"errors": [{"code": 89}]}, "unauthorized"),
        (404, None, "not_found"),
        (400, {"errors": [{"message": "bad"}], "type": ".../invalid-request"}, "invalid_request"),
        (418, None, "http_418"),
        (301, None, "redirect"),
        (500, None, "http_500"),
        (504, {"errors": [{"code": 131}]}, "over_capacity"),
        (408, None, "http_408"),
    ],
)
def test_each_error_shape_has_its_own_meaning(status, document, kind):
    error = error_of(status, problem_of(document), endpoint="timeline", retry_at=None)
    assert error.kind == kind
    helpless = kind in {"rate_limited", "over_capacity", "http_500", "http_408"}
    assert isinstance(error, XApiRateLimitedError | XApiTransientError) == helpless
    assert isinstance(error, XApiRefusedError) != helpless


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["errors", "type", "title", "detail", "code", "data"]), json_values
    )
)
@settings(max_examples=100, deadline=None)
def test_any_error_body_can_be_read(document):
    for status in (200, 400, 429, 503):
        error_of(status, problem_of(document), endpoint="lookup", retry_at=None)


def test_the_host_of_a_problem_type_does_not_matter():
    for host in ("https://api.twitter.com/2/problems", "https://api.x.com/2/problems", ""):
        assert last_segment(f"{host}/resource-not-found") == "resource-not-found"


def record(**changes):
    return {
        "id": "1",
        "created_at": "2026-11-20T00:00:00.000Z",
        "public_metrics": {"like_count": 3, "retweet_count": 1},
        **changes,
    }


def page(*records, **document):
    return parse_post_page(
        {"data": list(records), **document},
        place="timeline",
        received_at=NOW,
        redactor=Redactor(),
        known={},
    )


@pytest.mark.parametrize(
    "value", ["12.3K", "12", 3.5, 3.0, True, -1, [1], {"n": 1}, 2**70, "", "NaN"]
)
def test_a_count_that_is_no_whole_number_is_not_a_count(value):
    good = record(id="2")
    result = page(record(public_metrics={"like_count": value}), good)
    assert [r.tweet_id for r in result.readings] == ["2"]
    assert "like_count" in result.rejected[0].reason
    assert result.shown_ids == ["1", "2"]


@pytest.mark.parametrize("value", ["1e3", "-1", "0", "", 1, None, "1" * 20, "１２", "1\n"])
def test_an_id_that_is_no_number_in_a_text_is_rejected(value):
    result = page(record(id=value))
    assert result.readings == []
    assert len(result.rejected) == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        1_700_000_000,
        "yesterday",
        "2026-11-20",
        "2027-01-01T00:00:00Z",
        "1999-01-01T00:00:00Z",
        "2026-11-20T00:00:00",
    ],
)
def test_a_post_without_a_time_that_can_be_is_rejected(value):
    result = page(record(created_at=value))
    assert result.posts == []
    assert "created_at" in result.rejected[0].reason


def test_public_counts_come_first_and_others_fill_what_they_lack():
    reading = page(
        record(
            public_metrics={"impression_count": 5, "repost_count": 2},
            non_public_metrics={"impression_count": 4, "user_profile_clicks": 7},
            organic_metrics={"like_count": 9, "user_profile_clicks": 6},
        )
    ).readings[0]
    assert (reading.impressions, reading.retweets, reading.profile_clicks, reading.likes) == (
        5,
        2,
        7,
        9,
    )
    assert reading.replies is None


@given(st.lists(json_values, max_size=5), json_values, json_values)
@settings(max_examples=150, deadline=None)
def test_any_json_gives_records_or_reasons_and_never_an_accident(records, errors, meta):
    result = page(*records, record(), errors=errors, meta=meta)
    assert len(result.readings) + len(result.rejected) == len(records) + 1
    assert "1" in result.shown_ids
