"""A run that is killed, and run again, ends where an undisturbed one does."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from sqlalchemy import text

from genopt_pipeline.settings import Settings
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline_tests.scenario import START, Installation, everything, instance_on

NOW = START + timedelta(days=2, hours=7)
KILLS = 4

WORK = """
import sys
from pathlib import Path
from datetime import datetime
from genopt_pipeline.settings import Settings
from genopt_pipeline_tests.scenario import START, Installation, instance_on
url, dagster_url, folder, now = sys.argv[1:]
settings = Settings(database_url=url, dagster_database_url=dagster_url, home=folder, start=START,
                    policy="exponential")
with instance_on(settings, Path(folder)) as instance:
    print("begun", flush=True)
    now = datetime.fromisoformat(now)
    Installation(settings, instance, now).catch_up(START, now)
"""


def settings_on(new_database, template, folder):
    urls = [new_database(template), new_database(None)]
    return Settings(
        home=folder,
        database_url=urls[0].render_as_string(hide_password=False),
        dagster_database_url=urls[1].render_as_string(hide_password=False),
        start=START,
        policy="exponential",
    )


@pytest.mark.slow
def test_kill_9_at_random_points_then_the_same_again_gives_the_undisturbed_state(
    new_database, template, tmp_path
):
    folders = [tmp_path / "disturbed", tmp_path / "undisturbed"]
    for folder in folders:
        folder.mkdir()
    disturbed, undisturbed = (settings_on(new_database, template, folder) for folder in folders)
    chance = random.Random(5)
    arguments = [
        sys.executable,
        "-c",
        WORK,
        disturbed.database_url.get_secret_value(),
        disturbed.dagster_database_url.get_secret_value(),
        str(folders[0]),
        NOW.isoformat(),
    ]
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            arguments,
            env=os.environ | {"DAGSTER_EVENT_BATCH_SIZE": "500"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout.readline() == b"begun\n"
        time.sleep(chance.uniform(1.0, 8.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed > 0

    states = []
    for settings, folder in zip((disturbed, undisturbed), folders, strict=True):
        with instance_on(settings, folder) as instance:
            installation = Installation(settings, instance, NOW)
            installation.catch_up(START, NOW)
            states.append(everything(installation))
            with installation.pipeline.read() as connection:
                live = weight_store.live_weights(connection, "main")
                assert sum(row.weight for row in live.generators.values()) == 1
                halves = connection.scalar(
                    text("""
                        SELECT count(*) FROM genopt.follower_deltas d
                         WHERE d.delta IS NOT NULL AND NOT EXISTS (
                            SELECT FROM genopt.follower_baseline b
                             WHERE b.window_start = d.window_start)
                    """)
                )
                assert halves == 0
    for table in states[0]:
        assert without_run(states[0][table]) == without_run(states[1][table]), table


def without_run(rows):
    return [{key: value for key, value in row.items() if key != "created_by"} for row in rows]
