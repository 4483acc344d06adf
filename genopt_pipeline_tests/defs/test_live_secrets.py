"""No secret is written anywhere but into its own file: looked for in everything that is written."""

import logging
import stat
import zlib
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from genopt_pipeline.defs import failures
from genopt_pipeline.defs.partitions import TEN_MINUTES
from genopt_pipeline.sandbox.faults import FaultQueue
from genopt_pipeline.sandbox.server import OAuth2App
from genopt_pipeline.store import server
from genopt_pipeline_tests.defs.live_scenario import TOKEN, live
from genopt_pipeline_tests.scenario import instance_on

#: answers that tempt to repeat what was sent: refusals, broken bodies and records
FAULTS = [
    None,
    "wrong_types",
    "http_500",
    "unauthorized",
    "forbidden_html",
    "not_json",
    "client_forbidden",
    "redirect",
    "truncated",
]
OAUTH1 = {
    "x_access_token": TOKEN,
    "x_access_token_secret": "token-secret-55aa31",
    "x_consumer_key": "consumer-key-9f11c2",
    "x_consumer_secret": "consumer-secret-77de04",
}
OAUTH2 = {
    "x_access_token": "access-first-0001",
    "x_refresh_token": "refresh-first-0001",
    "x_client_id": "client",
    "x_client_secret": "client-secret-0001",
}


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr(failures, "DELAY_SECONDS", 0.01)


class Faults(FaultQueue):
    """Faults of data; an answer with new tokens that is lost locks the account out, truly."""

    def choose(self, endpoint):
        return None if endpoint == "oauth2/token" else super().choose(endpoint)


def whole_database(url):
    """Every value of every table as text; what Dagster compresses is unpacked."""
    engine = create_engine(url)
    texts = []
    with engine.connect() as connection:
        tables = connection.execute(
            text(
                "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables "
                "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') "
                "AND table_type = 'BASE TABLE'"
            )
        ).scalars()
        for table in tables.all():
            for row in connection.execute(text(f"SELECT * FROM {table}")):
                for value in row:
                    if isinstance(value, bytes | memoryview):
                        packed = bytes(value)
                        texts.append(packed.decode("latin-1"))
                        with suppress(zlib.error):
                            texts.append(zlib.decompress(packed).decode("latin-1"))
                    else:
                        texts.append(str(value))
    engine.dispose()
    assert len(texts) > 100
    return texts


def files_below(folder, *, but):
    return [
        path.read_bytes().decode("latin-1")
        for path in folder.rglob("*")
        if path.is_file() and path not in but and "postgres" not in path.parts
    ]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0a", "2.0"])
def test_no_secret_is_in_logs_events_metadata_databases_or_files(
    make_settings, tmp_path, caplog, capfd, version
):
    caplog.set_level(logging.DEBUG)
    credentials = OAUTH1 if version == "1.0a" else OAUTH2
    options = {}
    if version == "2.0":
        options["server_options"] = {
            "oauth2": OAuth2App(
                access_token=OAUTH2["x_access_token"],
                refresh_token=OAUTH2["x_refresh_token"],
                client_id="client",
                client_secret=OAUTH2["x_client_secret"],
                lifetime_seconds=900,
            )
        }
    with (
        instance_on(make_settings(), tmp_path) as instance,
        live(make_settings, instance=instance, **credentials, **options) as x,
    ):
        x.record()
        if version == "2.0":
            x.server._token_ends = x.clock.at  # the first token's two hours are over
            assert x.ingest().success
            x.clock.at += TEN_MINUTES
        outcomes = []
        for number in range(0, len(FAULTS), 2):
            x.server.faults = Faults(FAULTS[number:] + FAULTS[:number])
            outcomes.append(x.ingest().success)
            x.clock.at += TEN_MINUTES
        x.server.faults = Faults([])
        x.clock.at += timedelta(minutes=20)
        assert x.ingest().success
        assert any(outcomes)
        assert not all(outcomes)
        urls = server.resolve_urls(x.settings)
        issued = list(x.server.issued_tokens)
        home = x.settings.home
    token_file = home / "x_tokens_main.json"
    secrets = [value for name, value in credentials.items() if name != "x_client_id"] + issued
    written = [
        *whole_database(urls.genopt),
        *whole_database(urls.dagster.set(drivername="postgresql+psycopg")),
        *files_below(home, but={token_file}),
        *(record.getMessage() for record in caplog.records),
        *(str(record.exc_info) for record in caplog.records),
        *capfd.readouterr(),
    ]
    # the search finds what is there: the reason of a failure stands in Dagster's events
    assert any("check GENOPT_X_ACCESS_TOKEN" in text for text in written)
    for secret in secrets:
        assert not [text[:200] for text in written if secret in text], secret
    if version == "2.0":
        assert len(issued) >= 2
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        assert issued[-1] in token_file.read_text()
    else:
        assert not token_file.exists()
