"""A run that is killed, and run again, ends where an undisturbed one does."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import dagster as dg
import pytest
from sqlalchemy import text

from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.defs.partitions import TEN_MINUTES
from genopt_pipeline.sandbox.server import serve
from genopt_pipeline.sandbox.server_answers import SandboxView
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import posts as post_store
from genopt_pipeline.store import source_states
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline_tests.defs.live_scenario import TOKEN, USER, account, engine_posts, tracked
from genopt_pipeline_tests.scenario import START, Installation, everything, instance_on

NOW = START + timedelta(days=2, hours=7)
KILLS = 4
FOREVER = datetime.max.replace(tzinfo=UTC)

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


#: A process that forks one child a line of its input: ``event N`` kills the child at its Nth
#: statement, commit or request, ``after S`` when S seconds have gone by, both at the latest when a
#: window is finished; ``never`` not at all, until all windows are collected.
INGESTION = """
import os, signal, struct, sys, time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from sqlalchemy import Engine, event, text
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.defs.collect import collect_windows
from genopt_pipeline.settings import Settings
from genopt_pipeline.sources.x_api.client import XApiClient
from genopt_pipeline_tests.defs.live_scenario import quick_source

settings = Settings.model_validate_json(sys.argv[1])
clock_file, begin, end = Path(sys.argv[2]), *map(datetime.fromisoformat, sys.argv[3:5])
WINDOW = timedelta(minutes=10)

def count_down(events):
    left = [events]
    def step(*_args, **_named):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(Engine, name, step)
    send = XApiClient._send
    def counted(*args, **named):
        step()
        answer = send(*args, **named)
        step()
        return answer
    XApiClient._send = counted

def work(*, once):
    at = [begin]
    pipeline = make_pipeline(settings, clock=lambda: at[0], sources=quick_source)
    start = begin
    while start < end:
        with pipeline.read() as connection:
            done = connection.scalar(
                text("SELECT count(*) FROM genopt.collected_windows WHERE window_start = :start"),
                {"start": start},
            )
        if not done:
            at[0] = start + timedelta(minutes=1)
            with clock_file.open("r+b") as file:
                file.write(struct.pack("d", at[0].timestamp()))
            collect_windows(pipeline, "main", [(start, start + WINDOW)])
            if once:
                os.kill(os.getpid(), signal.SIGKILL)
        start += WINDOW

for line in sys.stdin:
    kind, _, value = line.strip().partition(" ")
    child = os.fork()
    if child == 0:
        if kind == "event":
            count_down(int(value))
        work(once=kind != "never")
        os._exit(0)
    if kind == "after":
        time.sleep(float(value))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
INGESTION_KILLS = 50
INGESTION_WINDOWS = 60


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


class SharedClock:
    """Virtual time that another process sets."""

    def __init__(self, path, at):
        self.path = path
        path.write_bytes(struct.pack("d", at.timestamp()))

    def __call__(self):
        return datetime.fromtimestamp(struct.unpack("d", self.path.read_bytes())[0], UTC)


class DeletingView(SandboxView):
    """An account some of whose posts are deleted at given times."""

    deleted_at: dict

    def posts(self, at):
        return [
            post for post in super().posts(at) if at < self.deleted_at.get(post.tweet_id, FOREVER)
        ]


OBSERVED = {
    "content_metadata": "decision_id",
    "outcomes": "decision_id",
    "post_metric_snapshots": "decision_id, observed_at",
    "follower_counts": "observed_at",
    "quarantine": "fingerprint",
}
WHEN_WRITTEN = ("created_at", "updated_at", "collected_at", "id")
#: Read every two hours from when they were stored last; a process that dies between storing them
#: and noting it reads them once more.
EVERY_TWO_HOURS = ("platform_follows", "platform_unfollows")


def observed(engine):
    with engine.connect() as connection:
        state = {
            table: connection.execute(
                text(
                    f"SELECT (to_jsonb(t) - CAST(:when AS text[]))::text FROM genopt.{table} t "
                    f"ORDER BY {order}"
                ),
                {"when": [*WHEN_WRITTEN, *EVERY_TWO_HOURS]},
            )
            .scalars()
            .all()
            for table, order in OBSERVED.items()
        }
        state["windows"] = connection.execute(
            text(
                "SELECT window_start, posts_read, rejected FROM genopt.collected_windows "
                "ORDER BY window_start"
            )
        ).all()
    return state


def halves(engine):
    """Windows of which a part is there and another is not."""
    with engine.connect() as connection:
        return connection.execute(
            text("""
                SELECT coalesce(w.window_start, s.window_start), w.posts_read, s.readings
                  FROM genopt.collected_windows w
                  FULL JOIN (SELECT window_start, count(*) AS readings
                               FROM genopt.post_metric_snapshots GROUP BY 1) s USING (window_start)
                 WHERE w.posts_read IS DISTINCT FROM coalesce(s.readings, 0)
            """)
        ).all()


def follows_read_at(engine):
    with engine.connect() as connection:
        return connection.scalars(
            text(
                "SELECT DISTINCT observed_at FROM genopt.post_metric_snapshots "
                "WHERE platform_follows IS NOT NULL ORDER BY 1"
            )
        ).all()


@pytest.mark.slow
def test_kill_9_of_ingestion_fifty_times_loses_nothing_doubles_nothing_and_keeps_the_budget(
    new_database, template, tmp_path
):
    """Each process is killed at a random statement, commit or request, or at a random time."""
    simulated = account()
    posts = engine_posts(simulated, 4.0)
    begin = START + timedelta(days=2, hours=18)  # a new day begins on the way
    end = begin + INGESTION_WINDOWS * TEN_MINUTES
    chance = random.Random(11)
    kills = [
        f"event {chance.randint(1, 85)}" if number % 2 else f"after {chance.uniform(0.05, 0.6):.3f}"
        for number in range(INGESTION_KILLS)
    ]
    states, killed = [], 0
    for name, orders in (("disturbed", [*kills, "never"]), ("undisturbed", ["never"])):
        folder = tmp_path / name
        folder.mkdir()
        clock = SharedClock(folder / "clock", begin)
        view = DeletingView(simulated, tracked(posts))
        view.deleted_at = {
            post.tweet_id: begin + timedelta(hours=hour)
            for hour, post in enumerate(posts[5:30:3], start=1)
        }
        with serve(view, user_id=USER, clock=clock, access_token=TOKEN) as server:
            settings = settings_on(new_database, template, folder).model_copy(
                update={
                    "source": "x_api",
                    "x_base_url": server.base_url,
                    "x_user_id": USER,
                    "x_posts_per_utc_day": 400,
                }
            )
            pipeline = make_pipeline(settings, clock=clock)
            with pipeline.write() as connection:
                # half of the posts so far are the engine's, the others are found on the timeline
                past = [post for post in posts if post.posted_at < begin]
                post_store.upsert_posts(connection, "main", past[::2], source="engine")
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    INGESTION,
                    plain_json(settings),
                    str(clock.path),
                    begin.isoformat(),
                    end.isoformat(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for order in orders:
                process.stdin.write(order + "\n")
                process.stdin.flush()
                code = int(process.stdout.readline())
                killed += code == -signal.SIGKILL
                assert code == (0 if order == "never" else -signal.SIGKILL), order
                assert halves(pipeline.engine) == []
            process.stdin.close()
            assert process.wait(30) == 0
            process.stdout.close()
            states.append(observed(pipeline.engine))
            follows = [*follows_read_at(pipeline.engine), end]
            assert follows[0] < begin + TEN_MINUTES
            assert max(b - a for a, b in pairwise(follows)) <= timedelta(hours=2, minutes=10)
            with pipeline.read() as connection:
                bill = source_states.get_state(connection, "main", "x_api", f"x_api/{USER}")
            pipeline.engine.dispose()
            billed = {day: len(ids) for day, ids in server.answerer.billed.items()}
            assert max(billed.values()) <= 400
            assert len(billed) == 2
            assert len(bill["billed"]) + bill["uncertain"] >= billed[end.date()]
    assert killed == INGESTION_KILLS
    assert len(states[0]["windows"]) == INGESTION_WINDOWS
    assert sum('"status": "deleted"' in row for row in states[0]["content_metadata"]) >= 8
    for table, rows in states[0].items():
        assert rows == states[1][table], table


def plain_json(settings):
    """Settings with their secrets in clear, for another process."""
    values = settings.model_dump(mode="json")
    for name in ("database_url", "dagster_database_url"):
        values[name] = getattr(settings, name).get_secret_value()
    return json.dumps(values | {"x_access_token": TOKEN})


@pytest.mark.slow
def test_ctrl_c_ends_a_history_at_once_and_its_runs_are_not_tried_again(
    new_database, template, tmp_path
):
    settings = settings_on(new_database, template, tmp_path)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            WORK,
            settings.database_url.get_secret_value(),
            settings.dagster_database_url.get_secret_value(),
            str(tmp_path),
            NOW.isoformat(),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stdout.readline() == "begun\n"
    with instance_on(settings, tmp_path) as instance:
        while not instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            time.sleep(0.2)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
        assert process.returncode != 0
        assert told.strip().splitlines()[-1].startswith("KeyboardInterrupt")
        retries = instance.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.STEP_UP_FOR_RETRY)
        )
        assert not retries
        installation = Installation(settings, instance, NOW)
        installation.catch_up(START, NOW)
        assert len(installation.rows("follower_deltas", "window_start")) > 20
