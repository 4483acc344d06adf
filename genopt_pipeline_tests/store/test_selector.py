"""Draws by the weights in force, in Python and in SQL."""

import logging
import random
import threading
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import text

from genopt_pipeline import GeneratorSelector
from genopt_pipeline.core import selection
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.server import psql_url
from genopt_pipeline.store.weights import Event, GeneratorRow

DRAWS = 100_000


def set_weights(connection, weights):
    live = weight_store.live_weights(connection, "main")
    rows = {
        name: GeneratorRow(
            Decimal(str(weights[name])), "active" if weights[name] else "disabled", locked=False
        )
        for name in live.generators
    }
    weight_store.change_weights(
        connection,
        "main",
        rows,
        expected_version=live.version,
        effective_at=datetime.now(UTC),
        event=Event("manual_override"),
    )


UNEVEN = dict(
    zip(DEFAULT_WEIGHTS, [0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.02, 0.03, 0.03, 0.02, 0, 0], strict=False)
)


@pytest.mark.parametrize("arm", selection.ARMS)
def test_sql_draws_by_the_arms_weights(engine, arm):
    with engine.begin() as connection:
        set_weights(connection, UNEVEN)
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT generator_name, probability FROM genopt.arm_weights('main', :arm)"),
            {"arm": arm},
        ).all()
        sql = {row.generator_name: row.probability for row in rows}
        python = selection.arm_weights(UNEVEN, arm)
        assert sql == pytest.approx({k: v for k, v in python.items() if k in sql}, abs=1e-12)
        assert all(python[name] == 0 for name in set(python) - set(sql))
        drawn = connection.execute(
            text("""
                SELECT s.generator_name, count(*) AS n FROM generate_series(1, :draws) i,
                       LATERAL genopt.select_generator('main', :arm, (i - 0.5) / :draws) s
                 GROUP BY 1
            """),
            {"draws": 2000, "arm": arm},
        ).all()
    for row in drawn:
        assert row.n / 2000 == pytest.approx(sql[row.generator_name], abs=1.01 / 2000)


@pytest.mark.parametrize("arm", selection.ARMS)
def test_a_hundred_thousand_draws_in_sql_fit_the_weights(engine, arm):
    with engine.connect() as connection:
        connection.execute(text("SELECT setseed(0.42)"))
        rows = connection.execute(
            text("""
                WITH p AS MATERIALIZED (
                    SELECT generator_name, probability,
                           sum(probability) OVER (ORDER BY generator_name COLLATE "C") AS upto
                      FROM genopt.arm_weights('main', :arm) WHERE probability > 0
                ), u AS MATERIALIZED (SELECT random() AS u FROM generate_series(1, :draws))
                SELECT p.generator_name, p.probability, count(*) AS n
                  FROM u JOIN p ON u.u < p.upto AND u.u >= p.upto - p.probability
                 GROUP BY 1, 2
            """),
            {"arm": arm, "draws": DRAWS},
        ).all()
    counts = np.array([row.n for row in rows])
    expected = np.array([row.probability for row in rows]) * counts.sum()
    assert counts.sum() == pytest.approx(DRAWS, abs=5)
    assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("arm", selection.ARMS)
def test_the_selector_draws_by_the_live_weights(engine, database, arm):
    selector = GeneratorSelector(psql_url(database))
    rng = random.Random(7)
    chosen = [selector.select(arm, rng) for _ in range(300)]
    selector.close()
    expected = selection.arm_weights(DEFAULT_WEIGHTS, arm)
    assert all(item.probability == pytest.approx(expected[item.generator_name]) for item in chosen)
    assert {item.weights_version for item in chosen} == {1}
    assert {item.experiment_arm for item in chosen} == {arm}


def test_without_a_database_the_defaults_are_drawn_with_a_warning(caplog):
    selector = GeneratorSelector("postgresql://nobody@127.0.0.1:1/none")
    with caplog.at_level(logging.WARNING, logger="genopt.selector"):
        chosen = selector.select("control", random.Random(1))
    selector.close()
    assert chosen.weights_version is None
    assert chosen.probability == DEFAULT_WEIGHTS[chosen.generator_name]
    assert "default weights" in caplog.text


def test_when_the_database_is_back_the_live_weights_are_drawn(engine, database, admin, caplog):
    with engine.begin() as connection:
        set_weights(connection, dict.fromkeys(DEFAULT_WEIGHTS, 0) | {"coach": 1})
    engine.dispose()
    selector = GeneratorSelector(psql_url(database))
    assert selector.select().generator_name == "coach"
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS false"))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": database.database},
        )
    assert selector.select().weights_version is None
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS true"))
    assert selector.select().generator_name == "coach"
    selector.close()


def test_an_unknown_arm_or_number_is_an_error(engine, database):
    selector = GeneratorSelector(psql_url(database))
    with pytest.raises(ValueError, match="unknown arm"):
        selector.select("variant_c")
    selector.close()
    for call in ("'main', 'variant_c', 0.5", "'main', 'control', 1.0", "'nobody', 'control', 0.5"):
        with (
            engine.connect() as connection,
            pytest.raises(Exception, match=r"unknown|must be|no gen"),
        ):
            connection.execute(text(f"SELECT * FROM genopt.select_generator({call})"))


@pytest.mark.parametrize("arm", selection.ARMS)
def test_the_function_itself_draws_at_random_and_exactly_at_every_edge(engine, arm):
    with engine.begin() as connection:
        set_weights(connection, UNEVEN)
    with engine.connect() as connection:
        connection.execute(text("SELECT setseed(0.17)"))
        counts = dict(
            connection.execute(
                text("""
                    SELECT s.generator_name, count(*) FROM generate_series(1, 5000) i,
                           LATERAL genopt.select_generator('main', :arm, nullif(i, i)) s GROUP BY 1
                """),
                {"arm": arm},
            )
            .tuples()
            .all()
        )
        weights = {k: v for k, v in selection.arm_weights(UNEVEN, arm).items() if v > 0}
        assert set(counts) == set(weights)
        expected = [weights[name] * 5000 for name in counts]
        assert stats.chisquare(list(counts.values()), expected).pvalue > 1e-4
        edges = np.cumsum(list(weights.values()))[:-1]
        for u in [0.0, np.nextafter(1.0, 0.0), *(edges - 1e-9), *(edges + 1e-9)]:
            row = connection.execute(
                text("SELECT * FROM genopt.select_generator('main', :arm, :u)"),
                {"arm": arm, "u": float(u)},
            ).one()
            assert (row.generator_name, row.experiment_arm) == (
                selection.draw(weights, float(u))[0],
                arm,
            )


@pytest.mark.parametrize("arm", selection.ARMS)
def test_the_probability_of_the_draw_is_stored_with_the_post(engine, database, arm):
    with engine.begin() as connection:
        set_weights(connection, UNEVEN)
    selector = GeneratorSelector(psql_url(database))
    drawn = selector.select(arm, random.Random(3))
    assert selector.record_post("d1", drawn, posted_at=datetime.now(UTC)) == drawn.generator_name
    selector.close()
    with engine.connect() as connection:
        row = connection.execute(
            text("""
                SELECT generator_name, selection_probability, experiment_arm, weights_version
                  FROM genopt.content_metadata WHERE decision_id = 'd1'
            """)
        ).one()
    expected = selection.arm_weights(UNEVEN, arm)[drawn.generator_name]
    assert row.selection_probability == pytest.approx(expected, abs=1e-12)
    assert (row.generator_name, row.experiment_arm, row.weights_version) == (
        drawn.generator_name,
        arm,
        2,
    )


def test_a_draw_during_an_update_is_by_one_version(engine, database):
    seen, stop = [], threading.Event()

    def draw(number):
        selector = GeneratorSelector(psql_url(database))
        rng = random.Random(number)
        while not stop.is_set():
            seen.append(selector.select(selection.ARMS[number], rng))
        selector.close()

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(30):
            with engine.begin() as connection:
                set_weights(connection, UNEVEN if number % 2 else DEFAULT_WEIGHTS)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len({item.weights_version for item in seen}) > 5
    for item in seen:
        uneven = item.weights_version > 1 and item.weights_version % 2  # version 2 is even again
        weights = UNEVEN if uneven else DEFAULT_WEIGHTS
        expected = selection.arm_weights(weights, item.experiment_arm)
        assert item.probability == pytest.approx(expected[item.generator_name], abs=1e-12)
