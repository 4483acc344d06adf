"""Roles get what their part needs and no more, on a real server."""

import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from genopt_pipeline import GeneratorSelector
from genopt_pipeline.store import grants
from genopt_pipeline.store.engine import open_engine
from genopt_pipeline_tests.defs.test_loop import ATTRIBUTE, INGEST, OPTIMIZE, PUBLISH
from genopt_pipeline_tests.scenario import START, Installation, hours, instance_on

QUERIES = (
    (
        "SELECT generator_name, weight, total_posts, avg_f_per_1k, status FROM generator_weights "
        "ORDER BY avg_f_per_1k DESC"
    ),
    (
        "SELECT created_at, event_type, generators_updated, top_performer, top_performer_f_per_1k "
        "FROM optimization_events ORDER BY created_at DESC LIMIT 10"
    ),
    (
        "SELECT decision_id, generator_name, posted_at FROM content_metadata "
        "WHERE posted_at > NOW() - INTERVAL '24 hours' ORDER BY posted_at DESC LIMIT 10"
    ),
    "SELECT COUNT(*) FROM generator_weights",
    "SELECT * FROM generator_performance_summary",
)
FORBIDDEN = (
    "UPDATE genopt.generator_weights SET weight = weight",
    "DELETE FROM genopt.content_metadata",
    "DROP TABLE genopt.outcomes",
    "CREATE TABLE genopt.mine (a int)",
)


@pytest.fixture
def role(admin, engine):
    """Makes a role with a part; gives the URL it logs in with."""
    made = []

    def make(part):
        name = f"r{uuid.uuid4().hex[:10]}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'x'"))
        made.append(name)
        for _ in range(2):
            with engine.begin() as connection:
                grants.grant(connection, name, part)
        return engine.url.set(username=name, password="x")

    yield make
    with engine.begin() as connection:
        for name in made:
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))


def refused(url, statement):
    engine = open_engine(url)
    try:
        with (
            engine.connect() as connection,
            pytest.raises(ProgrammingError, match=r"permission|owner"),
        ):
            connection.execute(text(statement))
    finally:
        engine.dispose()


def test_an_engine_draws_and_records_and_can_do_nothing_else(role, engine):
    url = role("engine")
    selector = GeneratorSelector(url)
    drawn = selector.select()
    assert drawn.weights_version == 1
    assert selector.record_post("d1", drawn, tweet_id="17") == drawn.generator_name
    selector.close()
    as_engine = open_engine(url)
    with as_engine.begin() as connection:
        row = connection.execute(text("SELECT * FROM genopt.select_generator('main')")).one()
        assert 0 < row.probability < 1
    as_engine.dispose()
    for statement in ("SELECT * FROM genopt.generator_weights", *FORBIDDEN):
        refused(url, statement)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM genopt.content_metadata")) == 1


def test_a_reader_runs_every_query_and_writes_nothing(role):
    url = role("reader")
    as_reader = open_engine(url)
    with as_reader.connect() as connection:
        for query in QUERIES:
            connection.execute(text(query)).all()
    as_reader.dispose()
    for statement in FORBIDDEN:
        refused(url, statement)


@pytest.mark.slow
def test_a_worker_runs_the_loop_and_changes_no_table_definition(role, make_settings, tmp_path):
    url = role("worker")
    settings = make_settings(
        start=START,
        policy="exponential",
        database_url=url.set(drivername="postgresql").render_as_string(hide_password=False),
    )
    with instance_on(settings, tmp_path) as instance:
        installation = Installation(settings, instance, START + hours(12.5))
        assert installation.run(INGEST, START, START + hours(12)).success
        assert installation.run(ATTRIBUTE, START, START + hours(10)).success
        assert installation.run(OPTIMIZE, START + hours(6)).success
        assert installation.run(PUBLISH).success
    for statement in FORBIDDEN[2:]:
        refused(url, statement)


def test_a_role_that_does_not_exist_is_one_clear_error(engine):
    with (
        engine.begin() as connection,
        pytest.raises(grants.GrantError, match="no database role 'nobody'"),
    ):
        grants.grant(connection, "nobody", "reader")
