"""Posts as engines write them: names, counting, claiming what was discovered first."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from genopt_pipeline.core.names import normalize_name
from genopt_pipeline.core.observations import CollectedBatch, MetricReading, ObservedPost
from genopt_pipeline.store import metrics, posts, quarantine
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.selector import record_post

AT = datetime(2026, 10, 1, 12, tzinfo=UTC)


def one(connection, sql, **values):
    return connection.execute(text(sql), values).one()


def generator(connection, name):
    return one(
        connection,
        "SELECT * FROM genopt.generator_weights WHERE generator_name = :n AND account_id = 'main'",
        n=name,
    )


@pytest.mark.parametrize(
    "spelling", ["newsReporter", "NewsReporter", "news_reporter", " News Reporter (style) "]
)
def test_spellings_of_a_name_are_the_registered_generator(engine, spelling):
    with engine.begin() as connection:
        assert record_post(connection, "main", "d1", spelling, posted_at=AT) == "newsReporter"
        assert generator(connection, "newsReporter").times_selected == 1


def test_an_unknown_name_is_quarantined_and_the_post_kept(engine):
    with engine.begin() as connection:
        assert record_post(connection, "main", "d1", "newsreader", posted_at=AT) is None
        record_post(connection, "main", "d1", "newsreader", posted_at=AT)
        row = one(connection, "SELECT * FROM genopt.content_metadata WHERE decision_id = 'd1'")
        assert (row.generator_name, row.generator_name_raw) == (None, "newsreader")
        open_records = quarantine.unresolved(connection, "main")
        assert [record["raw"]["generator_name"] for record in open_records] == ["newsreader"]
        assert quarantine.resolve_name(connection, "main", "News-Reader", "coach", now=AT) == 1
        assert record_post(connection, "main", "d2", "NewsReader", posted_at=AT) == "coach"
        assert quarantine.unresolved(connection, "main") == []
        assert generator(connection, "coach").times_selected == 2


def test_a_post_is_counted_once_when_it_goes_live(engine):
    with engine.begin() as connection:
        record_post(connection, "main", "d1", "coach", status="draft")
        assert generator(connection, "coach").times_selected == 0
        for status in ("posted", "posted", "deleted", "posted"):
            record_post(connection, "main", "d1", "coach", posted_at=AT, status=status)
        record_post(connection, "main", "d1", "coach")
        stored = one(connection, "SELECT * FROM genopt.content_metadata")
        assert (stored.posted_at, stored.status) == (AT, "deleted")
        row = generator(connection, "coach")
        assert (row.times_selected, row.last_used) == (1, AT)
        earlier = AT.replace(hour=1)
        record_post(connection, "main", "d2", "coach", posted_at=earlier)
        row = generator(connection, "coach")
        assert (row.times_selected, row.last_used) == (2, AT)


def test_a_discovered_post_is_claimed_by_the_engine_with_all_that_was_observed(engine):
    reading = MetricReading(tweet_id="77", observed_at=AT, impressions=10)
    found = ObservedPost(tweet_id="77", posted_at=AT)
    with engine.begin() as connection:
        record_post(
            connection, "main", "d1", "coach", status="scheduled", selection_probability=0.25
        )
        metrics.store_batches(
            connection,
            "main",
            [(AT, AT, CollectedBatch(posts=[found], readings=[reading]))],
            source="x_api",
        )
        record_post(connection, "main", "d1", "coach", tweet_id="77", posted_at=AT)
        rows = connection.execute(text("SELECT * FROM genopt.content_metadata")).all()
        assert [
            (row.decision_id, row.generator_name, row.selection_probability) for row in rows
        ] == [("d1", "coach", 0.25)]
        seen = one(connection, "SELECT * FROM genopt.post_metric_snapshots")
        assert (seen.decision_id, seen.impressions) == ("d1", 10)
        assert generator(connection, "coach").times_selected == 1


def test_what_an_engine_recorded_is_not_replaced_by_what_a_source_saw(engine):
    with engine.begin() as connection:
        record_post(connection, "main", "d1", "coach", tweet_id="77", posted_at=AT)
        posts.upsert_posts(
            connection,
            "main",
            [ObservedPost(tweet_id="77", posted_at=AT, generator_name="explorer")],
            source="x_api",
        )
        row = one(connection, "SELECT * FROM genopt.content_metadata")
    assert (row.decision_id, row.generator_name) == ("d1", "coach")


@pytest.mark.parametrize("other", ["storyteller", "somebodyElse"])
def test_a_recorded_post_is_never_moved_to_another_generator(engine, other):
    with engine.begin() as connection:
        record_post(connection, "main", "d1", "coach", posted_at=AT)
    with (
        pytest.raises(IntegrityError, match=f"recorded with generator coach, not {other}"),
        engine.begin() as connection,
    ):
        record_post(connection, "main", "d1", other, posted_at=AT)
    with engine.begin() as connection:
        assert record_post(connection, "main", "d1", "Coach", posted_at=AT) == "coach"
        assert record_post(connection, "main", "d1", None, status="deleted") == "coach"
        assert one(connection, "SELECT * FROM genopt.content_metadata").status == "deleted"
        assert quarantine.unresolved(connection, "main") == []


def test_a_claimed_post_is_refused_where_draft_discovery_and_claim_disagree(engine):
    found = ObservedPost(tweet_id="77", posted_at=AT, generator_name="explorer")
    with engine.begin() as connection:
        record_post(connection, "main", "d1", "coach", status="draft")
        posts.upsert_posts(connection, "main", [found], source="import")
    for claimed in ("coach", "explorer", None):
        with (
            pytest.raises(IntegrityError, match=r"d1 .* is recorded with generator explorer"),
            engine.begin() as connection,
        ):
            record_post(connection, "main", "d1", claimed, tweet_id="77", posted_at=AT)
    with engine.begin() as connection:
        assert record_post(connection, "main", "d2", "explorer", tweet_id="77") == "explorer"


def test_recording_a_post_twice_keeps_the_draw_that_was_recorded_first(engine):
    with engine.begin() as connection:
        record_post(connection, "main", "d1", "coach", status="draft", experiment_arm="variant_a")
        for probability in (0.25, 0.5):
            record_post(
                connection,
                "main",
                "d1",
                "coach",
                posted_at=AT,
                experiment_arm="control",
                selection_probability=probability,
                weights_version=3 if probability == 0.25 else 4,
            )
        row = one(connection, "SELECT * FROM genopt.content_metadata")
    assert (row.experiment_arm, row.selection_probability, row.weights_version) == (
        "variant_a",
        0.25,
        3,
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"experiment_arm": "foo"}, "unknown arm 'foo'; the arms are control"),
        ({"status": "foo"}, "unknown status 'foo'; a post is draft"),
    ],
)
def test_an_unknown_arm_or_status_is_refused_with_those_that_are_known(engine, values, said):
    with pytest.raises(DBAPIError, match=said), engine.begin() as connection:
        record_post(connection, "main", "d1", "coach", posted_at=AT, **values)


def correct(connection, key, name, **values):
    return posts.correct_post(
        connection, "main", key, name, reason="mixed up", created_by="me", now=AT, **values
    )


def test_a_person_corrects_a_post_as_an_event_and_its_probability_is_unknown_then(engine):
    with engine.begin() as connection:
        record_post(
            connection,
            "main",
            "d1",
            "coach",
            posted_at=AT,
            experiment_arm="control",
            selection_probability=0.08,
            weights_version=1,
        )
        assert correct(connection, "d1", "Story Teller") == "storyteller"
        row = one(connection, "SELECT * FROM genopt.content_metadata")
        assert (row.generator_name, row.experiment_arm, row.selection_probability) == (
            "storyteller",
            "control",
            None,
        )
        assert generator(connection, "coach").times_selected == 0
        assert generator(connection, "storyteller").times_selected == 1
        event = weight_store.recent_events(connection, "main", 1)[0]
        assert (event["event_type"], event["created_by"]) == ("post_corrected", "me")
        assert event["reason"] == "d1: coach → storyteller: mixed up"
        assert event["weights_version"] is None
        correct(connection, "d1", "storyteller", selection_probability=0.12)
        row = one(connection, "SELECT * FROM genopt.content_metadata")
        assert row.selection_probability == 0.12
        assert generator(connection, "storyteller").times_selected == 1
        with pytest.raises(posts.UnknownPostError, match="no post 'd2'"):
            correct(connection, "d2", "coach")
        with pytest.raises(weight_store.UnknownGeneratorError, match="'nobody'"):
            correct(connection, "d1", "nobody")


def test_a_deleted_post_stays_deleted(engine):
    with engine.begin() as connection:
        record_post(connection, "main", "d1", "coach", tweet_id="77", posted_at=AT)
        for status in ("deleted", "posted"):
            posts.upsert_posts(
                connection,
                "main",
                [ObservedPost(tweet_id="77", posted_at=AT, status=status)],
                source="x_api",
            )
        assert one(connection, "SELECT * FROM genopt.content_metadata").status == "deleted"


NAMES = st.text(
    st.one_of(st.sampled_from("aZ (){}[]_- \t\n\u00a0()"), st.characters(codec="utf-8")),
    max_size=30,
).filter(lambda name: "\x00" not in name)


def test_the_database_normalizes_names_as_core_does(engine):
    with engine.connect() as connection:

        @settings(max_examples=300)
        @given(NAMES)
        def agree(name):
            assert connection.scalar(
                text("SELECT genopt.normalize_generator_name(:name)"), {"name": name}
            ) == normalize_name(name)

        agree()


def test_quarantine_takes_any_text_once(engine):
    record = ("reading", "a\x00b", "half a pair \ud800", {"x\ud800": ["\x00", float("nan"), 1]})
    with engine.begin() as connection:
        assert quarantine.put(connection, "main", "source\x00", [record, record]) == 1
        assert quarantine.put(connection, "main", "source\x00", [record]) == 0
