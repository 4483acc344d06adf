import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.store import migrate, schema
from genopt_pipeline.store.engine import open_engine
from genopt_pipeline.store.migrations.env_filter import is_ours


def differences(url):
    engine = open_engine(url, search_path="public")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": "schema_version",
                "version_table_schema": schema.SCHEMA,
                "include_schemas": True,
                "include_name": is_ours,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        found = compare_metadata(context, schema.metadata)
    engine.dispose()
    return found


def test_the_migrated_database_is_the_declared_one(database):
    assert differences(database) == []


def test_upgrade_downgrade_upgrade_gives_the_same_database(new_database):
    url = new_database(None)
    migrate.upgrade(url)
    migrate.downgrade(url)
    engine = open_engine(url)
    with engine.connect() as connection:
        left = connection.scalars(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'genopt'::regnamespace")
        ).all()
        assert set(left) <= {"schema_version", "schema_version_pkc"}
        assert (
            connection.scalar(
                text("SELECT count(*) FROM pg_proc WHERE pronamespace = 'genopt'::regnamespace")
            )
            == 0
        )
    engine.dispose()
    migrate.upgrade(url)
    assert differences(url) == []


def test_each_migration_is_taken_back_with_its_functions_and_views(new_database):
    url = new_database(None)
    found = {}
    for revision in ("0003", "0004", "0005"):
        migrate.upgrade(url, revision)
        found[revision] = functions(url)
    assert found["0003"] != found["0004"] != found["0005"]
    for revision in ("0004", "0003"):
        migrate.downgrade(url, revision)
        assert functions(url) == found[revision]


def functions(url):
    engine = open_engine(url)
    with engine.connect() as connection:
        found = connection.scalars(
            text("""
                SELECT pg_get_functiondef(oid) FROM pg_proc
                 WHERE pronamespace = 'genopt'::regnamespace
                UNION ALL
                SELECT pg_get_viewdef(oid) || obj_description(oid) FROM pg_class
                 WHERE relnamespace = 'genopt'::regnamespace AND relkind = 'v'
                ORDER BY 1
            """)
        ).all()
    engine.dispose()
    return found


def test_migrating_twice_changes_nothing(database):
    assert migrate.upgrade(database) == migrate.head_revision()
    assert differences(database) == []


def test_every_table_and_column_has_a_comment(engine):
    with engine.connect() as connection:
        bare = connection.execute(
            text("""
                SELECT c.relname, a.attname FROM pg_class c
                  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
                 WHERE c.relnamespace = 'genopt'::regnamespace AND c.relkind IN ('r', 'p')
                   AND NOT c.relispartition AND c.relname <> 'schema_version'
                   AND (col_description(c.oid, a.attnum) IS NULL
                        OR obj_description(c.oid) IS NULL)
            """)
        ).all()
    assert bare == []


def test_every_table_has_the_account(engine):
    for table in schema.metadata.sorted_tables:
        assert "account_id" in table.columns, table.name


def test_the_defaults_are_in_force_from_the_beginning(engine):
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT * FROM genopt.weights_in_force('main', '1990-01-01')")
        ).all()
    assert {row.generator_name: float(row.weight) for row in rows} == DEFAULT_WEIGHTS


def test_the_users_queries_run_verbatim(database):
    engine = open_engine(database, search_path='"$user",public')
    queries = [
        (
            "SELECT generator_name, weight, total_posts, avg_f_per_1k, status "
            "FROM generator_weights ORDER BY avg_f_per_1k DESC;"
        ),
        (
            "SELECT created_at, event_type, generators_updated, top_performer, "
            "top_performer_f_per_1k FROM optimization_events ORDER BY created_at DESC LIMIT 10;"
        ),
        (
            "SELECT decision_id, generator_name, posted_at FROM content_metadata WHERE posted_at > "
            "NOW() - INTERVAL '24 hours' ORDER BY posted_at DESC LIMIT 10;"
        ),
        "SELECT COUNT(*) FROM generator_weights;",
    ]
    import psycopg

    from genopt_pipeline.store.server import psql_url

    with psycopg.connect(psql_url(database)) as connection:
        results = [connection.execute(query).fetchall() for query in queries]
    engine.dispose()
    assert len(results[0]) == 12
    assert results[1][0][1] == "initial_weights"
    assert results[3] == [(12,)]


def test_a_database_of_a_newer_version_is_refused(database):
    engine = open_engine(database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE genopt.schema_version SET version_num = '9999'"))
    with engine.connect() as connection, pytest.raises(migrate.SchemaVersionError, match="newer"):
        migrate.check_revision(connection)
    engine.dispose()
    with pytest.raises(migrate.SchemaVersionError, match="newer"):
        migrate.upgrade(database)
