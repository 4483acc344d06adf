"""The database itself keeps the invariants of the weights, whoever writes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.store import weights as store
from genopt_pipeline.store.weights import Event, GeneratorRow

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)


def shifted(live, *, up="coach", down="humanVoice", by="0.0100", **changes):
    rows = dict(live.generators)
    rows[up] = GeneratorRow(rows[up].weight + Decimal(by), rows[up].status, rows[up].locked)
    rows[down] = GeneratorRow(rows[down].weight - Decimal(by), rows[down].status, rows[down].locked)
    return rows | changes


def change(connection, rows, **options):
    live = store.live_weights(connection, "main")
    return store.change_weights(
        connection,
        "main",
        rows,
        **{
            "expected_version": live.version,
            "effective_at": NOW,
            "event": Event("manual_override", reason="a test"),
        }
        | options,
    )


def test_a_new_database_has_the_twelve_defaults_and_their_event(engine):
    with engine.connect() as connection:
        live = store.live_weights(connection, "main")
        events = store.recent_events(connection, "main")
    assert live.by_name == dict(sorted(DEFAULT_WEIGHTS.items()))
    assert live.version == 1
    assert [event["event_type"] for event in events] == ["initial_weights"]


def test_a_change_is_an_event_that_shows_exactly_what_is_stored(engine):
    with engine.begin() as connection:
        rows = shifted(store.live_weights(connection, "main"))
        assert change(connection, rows) == 2
    with engine.connect() as connection:
        live = store.live_weights(connection, "main")
        event = store.recent_events(connection, "main")[0]
    assert live.generators == rows
    assert {name: Decimal(str(value)) for name, value in event["weights_after"].items()} == {
        name: row.weight for name, row in live.generators.items()
    }
    assert event["generators_updated"] == 2
    assert {
        (item["generator"], item["old_weight"], item["new_weight"]) for item in event["changes"]
    } == {("coach", 0.08, 0.09), ("humanVoice", 0.15, 0.14)}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE genopt.generator_weights SET weight = 0.2 WHERE generator_name = 'coach'",
        (
            "UPDATE genopt.generator_weights SET status = 'disabled', weight = 0 "
            "WHERE generator_name = 'coach'"
        ),
        (
            "DELETE FROM genopt.generator_aliases WHERE generator_name = 'coach';"
            "DELETE FROM genopt.generator_weights WHERE generator_name = 'coach'"
        ),
    ],
)
def test_weights_that_do_not_sum_to_one_cannot_be_committed(engine, statement):
    connection = engine.connect()
    for part in statement.split(";"):
        connection.execute(text(part))
    with pytest.raises(DBAPIError, match="sum to"):
        connection.commit()
    connection.close()


def test_weights_cannot_change_without_an_event(engine):
    with pytest.raises(DBAPIError, match="without an event"), engine.begin() as connection:
        connection.execute(
            text("""
                UPDATE genopt.generator_weights
                   SET weight = weight + CASE generator_name WHEN 'coach' THEN 0.01 ELSE -0.01 END
                 WHERE generator_name IN ('coach', 'humanVoice')
            """)
        )


def test_a_lock_cannot_be_set_without_an_event(engine):
    with pytest.raises(DBAPIError, match="without an event"), engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE genopt.generator_weights SET optimization_locked = true "
                "WHERE generator_name = 'coach'"
            )
        )


def test_a_locked_weight_changes_by_override_only(engine):
    with engine.begin() as connection:
        live = store.live_weights(connection, "main")
        coach = live.generators["coach"]
        change(
            connection,
            live.generators | {"coach": GeneratorRow(coach.weight, coach.status, locked=True)},
            event=Event("locked"),
        )
    with pytest.raises(DBAPIError, match="locked"), engine.begin() as connection:
        change(connection, shifted(store.live_weights(connection, "main")))
    with engine.begin() as connection:
        change(connection, shifted(store.live_weights(connection, "main")), override=True)


def test_a_publication_from_an_older_version_is_refused_and_writes_nothing(engine):
    with engine.begin() as connection:
        old = store.live_weights(connection, "main")
        change(connection, shifted(old))
    with pytest.raises(store.StaleVersionError), engine.begin() as connection:
        change(connection, shifted(old, by="0.0200"), expected_version=old.version)
    with engine.connect() as connection:
        assert store.live_weights(connection, "main").version == 2
        assert len(store.recent_events(connection, "main")) == 2


def test_what_was_in_force_then_does_not_change_later(engine):
    with engine.begin() as connection:
        before = store.weights_in_force(connection, "main", NOW - timedelta(seconds=1))
        change(connection, shifted(before))
    with engine.begin() as connection:
        change(
            connection,
            shifted(store.live_weights(connection, "main")),
            effective_at=NOW + timedelta(hours=6),
        )
    with engine.connect() as connection:
        assert store.weights_in_force(connection, "main", NOW - timedelta(seconds=1)) == before
        assert store.weights_in_force(connection, "main", NOW).version == 2
        assert store.weights_in_force(connection, "main", NOW + timedelta(days=1)).version == 3


def test_a_change_cannot_take_effect_before_the_one_it_follows(engine):
    with engine.begin() as connection:
        change(connection, shifted(store.live_weights(connection, "main")))
    with pytest.raises(DBAPIError, match="does not follow"), engine.begin() as connection:
        change(
            connection,
            shifted(store.live_weights(connection, "main")),
            effective_at=NOW - timedelta(hours=1),
        )


@pytest.mark.parametrize("verb", ["UPDATE genopt.{} SET account_id = 'x'", "DELETE FROM genopt.{}"])
def test_events_cannot_be_rewritten(engine, verb):
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(verb.format("optimization_events")))


def test_a_second_account_has_weights_of_its_own(engine):
    with engine.begin() as connection:
        assert store.ensure_account(connection, "second", {"a": 0.5, "b": 0.5})
        assert not store.ensure_account(connection, "second", {"c": 1.0})
    with engine.connect() as connection:
        assert store.live_weights(connection, "second").by_name == {"a": 0.5, "b": 0.5}
        assert len(store.live_weights(connection, "main").generators) == 12
        with pytest.raises(store.UnknownAccountError, match="registered: main, second"):
            store.live_weights(connection, "third")


def test_readers_see_the_old_set_or_the_new_never_a_mixture(engine):
    with engine.connect() as reader, engine.begin() as writer:
        change(writer, shifted(store.live_weights(writer, "main")))
        during = store.live_weights(reader, "main")
        assert sum(row.weight for row in during.generators.values()) == 1
        assert during.version == 1
    with engine.connect() as reader:
        assert store.live_weights(reader, "main").version == 2
