"""What can be wrong with the database is told as what it is."""

import subprocess
import sys

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

from genopt_pipeline.store import server
from genopt_pipeline.store.engine import (
    DatabaseFullError,
    DatabaseUnavailableError,
    open_engine,
    place_of,
    reading_errors,
)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_full_disk_is_not_taken_for_an_absent_database(database, wrapped):
    full = psycopg.errors.DiskFull("could not extend file: No space left on device\nHINT: …")
    with (
        pytest.raises(DatabaseFullError, match="No space left on device") as told,
        reading_errors(database),
    ):
        raise OperationalError("COPY", {}, full) if wrapped else full
    assert "HINT" not in str(told.value)


def test_a_database_that_is_not_there_is_named_without_its_password(database):
    url = database.set(database="nowhere", password="sekrit")
    engine = open_engine(url)
    with (
        pytest.raises(DatabaseUnavailableError, match="nowhere") as told,
        reading_errors(url),
        engine.connect() as connection,
    ):
        connection.execute(text("SELECT 1"))
    engine.dispose()
    assert "sekrit" not in str(told.value)


def test_the_address_of_a_socket_is_shown_as_a_path_without_driver_and_password():
    url = make_url("postgresql+psycopg://me:secret@/genopt?host=%2Ftmp%2Fhome%2Fpostgres")
    assert place_of(url) == "postgresql://me:***@/genopt?host=/tmp/home/postgres"


def test_the_embedded_servers_log_says_why_it_stopped(tmp_path):
    assert server.last_trouble(tmp_path) is None
    (tmp_path / "postgres").mkdir()
    log = tmp_path / "postgres" / "log"
    log.write_text("2026 UTC [1] LOG:  ready\n")
    assert server.last_trouble(tmp_path) is None
    log.write_text(
        '2026 UTC [1] PANIC:  could not write "x": No space left on device\n2026 [2] a\n'
    )
    assert "No space left" in server.last_trouble(tmp_path)


def test_a_folder_is_in_use_for_as_long_as_the_program_that_says_so_lives(tmp_path):
    program = (
        "import sys; from pathlib import Path; from genopt_pipeline.store import server\n"
        "with server.in_use(Path(sys.argv[1])): print('in use', flush=True); sys.stdin.read()"
    )
    assert not server.is_in_use(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"in use\n"
        assert server.is_in_use(tmp_path)
        process.kill()
    assert not server.is_in_use(tmp_path)
