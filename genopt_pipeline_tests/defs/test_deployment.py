"""A deployment: a server started otherwise, and web server, daemon and code as processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import genopt_pipeline
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.defs.collect import collect_windows
from genopt_pipeline.defs.partitions import SIX_HOURS, TEN_MINUTES, TWO_HOURS, window_of
from genopt_pipeline.settings import Settings
from genopt_pipeline.store.engine import open_engine
from genopt_pipeline.store.server import psql_url

ROOT = Path(genopt_pipeline.__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BIN = Path(sys.executable).parent
WAIT_SECONDS = 600


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, query):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
        return json.load(response)["data"]


def until(condition, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            value = condition()
        except OSError:
            value = None
        if value:
            return value
        time.sleep(1)
    raise AssertionError(f"waited {WAIT_SECONDS} s for {what}")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def deployment(pg_server, admin, tmp_path_factory):
    """Port of the web server and engine of the database."""
    home = tmp_path_factory.mktemp("dagster_home")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, home / name)
    names = ("deployed_genopt", "deployed_dagster")
    urls = [psql_url(pg_server.set(database=name)) for name in names]
    now = datetime.now(UTC)
    begin = window_of(now, SIX_HOURS)[0] - timedelta(hours=6)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("GENOPT_")
    } | {
        "DAGSTER_HOME": str(home),
        "GENOPT_HOME": str(home / "genopt"),
        "GENOPT_DATABASE_URL": urls[0],
        "GENOPT_DAGSTER_DATABASE_URL": urls[1],
        "GENOPT_START": (begin - timedelta(days=2)).isoformat(),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    migrated = subprocess.run(
        [BIN / "genopt", "migrate", "--json"], env=environment, capture_output=True, text=True
    )
    assert migrated.returncode == 0, migrated.stderr
    # the account began some hours ago, and was then left alone: there is something to catch up
    settings = Settings(home=home, database_url=urls[0], dagster_database_url=urls[1], start=begin)
    collect_windows(make_pipeline(settings), "main", [(begin, begin + TEN_MINUTES)])

    port = free_port()
    logs = [(home / name).open("w") for name in ("web.log", "daemon.log")]
    processes = [
        subprocess.Popen(
            arguments, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
        for arguments, log in zip(
            (
                [BIN / "dagster-webserver", "-h", "127.0.0.1", "-p", str(port)],
                [BIN / "dagster-daemon", "run"],
            ),
            logs,
            strict=True,
        )
    ]
    engine = open_engine(pg_server.set(drivername="postgresql+psycopg", database=names[0]))
    try:
        until(lambda: ask(port, "{ version }"), "the web server")
        yield port, engine, begin
    finally:
        for process in processes:
            stop(process)
        for log in logs:
            log.close()
        engine.dispose()
        with create_engine(
            pg_server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        ).connect() as connection:
            for name in names:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


RUNS = """{ runsOrError { ... on Runs { results {
    jobName status tags { key value } } } } }"""


@pytest.mark.slow
@pytest.mark.xdist_group("deployment")
def test_a_tick_arrives_and_its_run_succeeds(deployment):
    port, engine, begin = deployment

    def succeeded():
        runs = ask(port, RUNS)["runsOrError"]["results"]
        failed = [run for run in runs if run["status"] == "FAILURE"]
        assert not failed, failed
        return [
            run
            for run in runs
            if run["status"] == "SUCCESS"
            and any(tag["key"] == "dagster/sensor_name" for tag in run["tags"])
            and run["jobName"] == "attribute_and_measure"
        ]

    until(succeeded, "a run of the gap-filling sensor")
    with engine.connect() as connection:
        ends = connection.scalars(
            text("SELECT DISTINCT period_end FROM genopt.generator_performance_history")
        ).all()
        counts = connection.scalar(text("SELECT count(*) FROM genopt.follower_counts"))
    assert begin + TWO_HOURS in ends
    assert counts >= 36


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.xdist_group("deployment")
@pytest.mark.skipif(CHROMIUM is None, reason="no browser: install Debian's chromium")
def test_a_person_finds_the_graph_and_starts_a_backfill_in_the_ui(deployment):
    from playwright.sync_api import TimeoutError as NotShown
    from playwright.sync_api import expect, sync_playwright

    port, engine, _ = deployment
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(240_000)
        expect.set_options(timeout=240_000)
        page.goto(f"http://127.0.0.1:{port}/asset-groups", wait_until="domcontentloaded")
        for group in ("ingestion", "attribution", "performance", "optimization", "monitoring"):
            expect(page.get_by_text(group, exact=True).first).to_be_visible()

        asset = f"http://127.0.0.1:{port}/assets/generator_f_per_1k"
        page.goto(f"{asset}?view=overview", wait_until="domcontentloaded")
        expect(page.get_by_text("followers gained per 1000 impressions").first).to_be_visible()
        expect(page.get_by_text("f_per_1k_low", exact=True).first).to_be_visible()

        # before the page has all of the asset's state, its button opens nothing
        every = page.get_by_role("button", name="All", exact=True).last
        for _ in range(8):
            page.get_by_role("button", name="Materialize").first.click()
            try:
                every.wait_for(timeout=30_000)
            except NotShown:
                page.reload(wait_until="domcontentloaded")
            else:
                break
        every.click()
        page.get_by_role("button", name="Launch backfill").click()

        def backfills():
            found = ask(
                port,
                "{ partitionBackfillsOrError { ... on PartitionBackfills "
                "{ results { status } } } }",
            )
            return found["partitionBackfillsOrError"]["results"]

        until(backfills, "the backfill")
        browser.close()
    done = until(
        lambda: [item for item in backfills() if item["status"].startswith("COMPLETED")],
        "the end of the backfill",
    )
    assert done[0]["status"] == "COMPLETED_SUCCESS"
    with engine.connect() as connection:
        kinds = set(connection.scalars(text("SELECT event_type FROM genopt.optimization_events")))
    assert "weight_update" not in kinds
