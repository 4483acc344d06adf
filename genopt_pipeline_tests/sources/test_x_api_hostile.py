"""A hostile server cannot take memory or time beyond a bound, nor stop the next window."""

import gzip
import itertools
import json
import time
import tracemalloc
from contextlib import suppress

import httpx
import pytest

from genopt_pipeline.sandbox.faults import AlwaysFault, FaultQueue
from genopt_pipeline.sources.base import SourceError
from genopt_pipeline.sources.x_api import RequestLimits, XApiSource, XApiTransientError
from genopt_pipeline.sources.x_api.body import parse_object, read_body
from genopt_pipeline_tests.sources.x_api_scenario import USER, WINDOW, scenario

#: what one window may take at most, as docs/x_api.md states
MEMORY_BOUND_BYTES = 64 * 1024 * 1024
LIMITS = RequestLimits(max_attempts=1)


def peak_bytes(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("deep_json", "too_deep"),
        ("many_values", "too_many_values"),
        ("gzip_bomb", "too_large"),
        ("huge_body", "too_large"),
    ],
)
def test_a_body_out_of_bounds_is_given_up_and_the_next_window_is_whole(fault, kind):
    faults = FaultQueue([fault], endpoint="timeline")
    with scenario(faults=faults, limits=RequestLimits(read_seconds=10)) as s:
        batch = s.collect()
        assert [p["kind"] for p in batch.report["problems"]] == [kind]
        # asking again at once would only bring the same
        assert s.server.requests["timeline"] == 1
        s.time.now += WINDOW
        assert s.collect().report["complete"]


def _body(content, **headers):
    return httpx.Response(200, headers=headers, stream=httpx.ByteStream(content))


def _json(document):
    return _body(json.dumps(document).encode(), **{"content-type": "application/json"})


HOSTILE = {
    "nested lists": b'{"data":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}",
    "many lists": b'{"data":[' + b"[]," * 1_300_000 + b"[]]}",
    "many empty strings": b'{"data":[' + b'"",' * 1_300_000 + b"1]}",
    "many small numbers": b'{"data":[' + b"1.5," * 1_000_000 + b"1]}",
    "unending string of escapes": b'{"data": "' + rb"\"" * 2_000_000,
    "strings without commas": b'{"data": ' + b'""' * 2_000_000,
    "one wide string": b'{"data": "' + "\N{GRINNING FACE}".encode() * 1_000_000 + b'"}',
    "as many values as allowed": b'{"data":[' + b'"\xc3\xa9abcdefgh",' * 49_000 + b"1]}",
    "a number of a million digits": b'{"data":' + b"9" * 1_000_000 + b"}",
    "no object": b"[" + b'{"a":1},' * 100_000 + b"1]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_reading_a_hostile_body_stays_within_the_stated_memory(name):
    limits = RequestLimits()
    content = HOSTILE[name]

    def read():
        try:
            body = read_body(_body(content), max_bytes=limits.max_body_bytes)
            parse_object(body, max_depth=limits.max_json_depth, max_tokens=limits.max_json_tokens)
        except XApiTransientError:
            pass

    started = time.process_time()
    read()
    seconds = time.process_time() - started
    # linear in the body: the same bytes as plain text, read by the same parser, set the scale
    plain = json.dumps({"data": "x" * len(content)}).encode()
    started = time.process_time()
    for _ in range(20):
        parse_object(plain, max_depth=32, max_tokens=10)
    scale = (time.process_time() - started) / 20
    assert seconds < 2000 * scale
    assert peak_bytes(read) < MEMORY_BOUND_BYTES


def test_a_compressed_body_is_unpacked_in_bounded_steps():
    bomb = gzip.compress(b"0" * (1 << 28), compresslevel=9)

    def read():
        with pytest.raises(XApiTransientError, match="longer than"):
            read_body(_body(bomb, **{"content-encoding": "gzip"}), max_bytes=1 << 20)

    assert peak_bytes(read) < 8 << 20


def test_a_compressed_body_that_is_good_is_read_and_a_broken_one_is_named():
    content = json.dumps({"data": ["x" * 100_000]}).encode()
    packed = gzip.compress(content)
    options = {"max_bytes": 1 << 20}
    headers = {"content-encoding": "gzip"}
    assert read_body(_body(packed, **headers), **options) == content
    with pytest.raises(XApiTransientError, match="cut off"):
        read_body(_body(packed[:-20], **headers), **options)
    with pytest.raises(XApiTransientError, match="broken"):
        read_body(_body(b"\x1f\x8b" + b"no gzip at all" * 9, **headers), **options)
    with pytest.raises(XApiTransientError, match="not offered"):
        read_body(_body(packed, **{"content-encoding": "br"}), **options)


@pytest.mark.parametrize(
    "text", [b'{"data": NaN}', b'{"data": Infinity}', b"{", b"\xff\xfe{}", b'"x"']
)
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(XApiTransientError):
        parse_object(text, max_depth=32, max_tokens=100)


@pytest.mark.parametrize("fault", ["huge_body", "gzip_bomb", "many_values", "endless_pages"])
def test_a_window_of_a_server_that_sends_nothing_else_stays_within_the_stated_memory(fault):
    with scenario(faults=AlwaysFault(fault), limits=LIMITS, days=10.0) as s:
        s.time.now += WINDOW

        def window():
            with suppress(SourceError):
                s.collect()

        assert peak_bytes(window) < MEMORY_BOUND_BYTES


@pytest.mark.parametrize("posts_a_page", [100, 6000])
def test_pages_without_end_that_are_all_different_and_full_stay_within_the_stated_memory(
    posts_a_page,
):
    """The server invents posts, as many as it likes; it can see no more than one page coming."""
    pages = itertools.count()

    def answer(request):
        if request.url.path.endswith("/me"):
            return _json({"data": {"id": USER, "public_metrics": {"followers_count": 1}}})
        number = next(pages)
        first = 2_000_000_000_000_000_000 - number * posts_a_page
        return _json(
            {
                "data": [
                    {"id": str(first - n), "created_at": "2026-10-03T00:00:00Z"}
                    for n in range(posts_a_page)
                ],
                "meta": {"next_token": f"t{number}"},
            }
        )

    with scenario() as s:
        source = XApiSource(
            s.config, s.state, transport=httpx.MockTransport(answer), clock=s.time.clock
        )
        batches = []
        assert peak_bytes(lambda: batches.append(source.collect(s.request()))) < MEMORY_BOUND_BYTES
        source.close()
        assert len(batches[0].posts) <= s.config.limits.max_pages * 100
        assert not batches[0].report["complete"]
        assert next(pages) <= s.config.limits.max_pages
        # its memory of the bill stays small as well, and the next window is an ordinary one
        assert len(json.dumps(s.state._documents)) < 1 << 20
        s.time.now += WINDOW
        assert s.collect().report["complete"]


@pytest.mark.parametrize("fault", ["slow_bytes", "slow_headers", "stall"])
def test_slow_bytes_end_at_the_requests_total_time_however_long_the_server_goes_on(fault):
    limits = RequestLimits(
        read_seconds=0.9, request_seconds=1.0, collect_seconds=1.6, wait_initial_seconds=0.01
    )
    with scenario(
        faults=AlwaysFault(fault), limits=limits, real_time=True, stall_seconds=60.0
    ) as s:
        with pytest.raises(SourceError) as caught:
            s.collect()
        assert caught.value.kind in {"timeout", "window_time"}
        # without the bound one request would have lasted the server's sixty seconds
        assert not s.server._closing.is_set()
        s.server.faults = FaultQueue([])
        s.time.now += WINDOW
        assert s.collect().report["complete"]


def test_endless_pages_are_noticed_and_what_they_showed_is_kept():
    with scenario(faults=AlwaysFault("endless_pages", endpoint="timeline"), days=10.0) as s:
        batch = s.collect()
        assert s.server.requests["timeline"] <= s.config.limits.max_pages
        assert "endless_pages" in {p["kind"] for p in batch.report["problems"]}
        assert len({r.tweet_id for r in batch.readings}) == 100
        assert not batch.report["complete"]


def test_no_fault_of_one_window_stops_the_next():
    from genopt_pipeline.sandbox.faults import ALL_FAULTS

    resting = {"usage_capped", "no_credits"}
    for fault in ALL_FAULTS:
        if fault in resting:
            continue
        with scenario(faults=AlwaysFault(fault), limits=LIMITS, stall_seconds=0.1) as s:
            with suppress(SourceError):
                s.collect()
            s.server.faults = FaultQueue([])
            s.time.now += WINDOW
            batch = s.collect()
            assert batch.report["complete"], fault
            assert {r.tweet_id for r in batch.readings} == {
                p.tweet_id for p in s.tracked() if p.tweet_id not in s.server.answerer.deleted
            }, fault
