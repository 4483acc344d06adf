"""Alerts on stored data: an episode opens once, closes once, and each change is told once."""

import json
import logging
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import text

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.performance import summarize
from genopt_pipeline.defs import alerting
from genopt_pipeline.defs.alerting import (
    WebhookError,
    current_alerts,
    deliver,
    post_to_webhook,
    tick,
)
from genopt_pipeline.defs.build import build_defs, make_pipeline
from genopt_pipeline.defs.checks import FRESH, FRESH_CHECK
from genopt_pipeline.defs.steps import records
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import alerts as alert_store
from genopt_pipeline.store import performance as performance_store
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import DatabaseUnavailableError
from genopt_pipeline_tests.scenario import START, Clock, hours

SECRET = "T0KEN-that-must-not-be-seen"
NOW = START + timedelta(days=10, hours=1)
MEASURED = NOW - hours(1)
GOOD = [(1000, 2.0)] * 12


class Webhook:
    """A loopback endpoint that remembers what it was sent and answers as it is told."""

    def __init__(self):
        self.texts = []
        self.paths = []
        self.answers = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = outer.answers.pop(0) if outer.answers else 200
                outer.paths.append(self.path)
                if answer == "drip":
                    outer.drip(self)
                    return
                if answer == 200:
                    outer.texts.append(json.loads(body)["text"])
                self.send_response(answer)
                if answer == 302:
                    self.send_header("location", outer.url.replace(SECRET, "elsewhere"))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/services/{SECRET}"
        self._stopped = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def drip(self, handler):
        """Headers without end, a few bytes at a time: each arrives long before a read times out."""
        for count in range(200):
            try:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\n" if count == 0 else b"x-more: 1\r\n")
            except OSError:
                return
            if self._stopped.wait(0.1):
                return

    @property
    def lines(self):
        return [line for sent in self.texts for line in sent.splitlines()[1:]]

    def close(self):
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook():
    served = Webhook()
    yield served
    served.close()


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class Watch:
    """A pipeline, and the sensor's ticks one after the other with their cursor."""

    def __init__(self, settings, instance):
        self.clock = Clock(NOW)
        self.pipeline = make_pipeline(settings, clock=self.clock)
        self.instance = instance
        self.cursor = None
        self.results = []

    def measure(self, end=MEASURED, **posts):
        """The performance table at ``end``: (impressions, followers) of posts by generator."""
        rows = [
            (name, *post)
            for name in DEFAULT_WEIGHTS
            for post in (posts.get(name, GOOD) if posts else GOOD)
        ]
        frame = pd.DataFrame(rows, columns=["generator_name", "impressions", "followers"])
        frame["decision_id"] = [f"d{index}" for index in range(len(frame))]
        frame["posted_at"] = pd.to_datetime(end - hours(1), utc=True)
        frame[["likes", "retweets", "replies", "quality_score"]] = np.nan
        table = summarize(frame, list(DEFAULT_WEIGHTS), now=end, lookback=timedelta(days=7))
        period = {
            "period_start": end - timedelta(days=7),
            "period_end": end,
            "experiment_arm": "all",
            "weight_used": 0.1,
            "estimator": "attributed",
        }
        with self.pipeline.write() as connection:
            performance_store.write_history(
                connection, "main", [row | period for row in records(table)]
            )

    def tick(self, after=timedelta(minutes=1)):
        self.clock.at += after
        result = tick(self.pipeline, self.cursor, self.instance, logging.getLogger("test.alerts"))
        self.cursor = result.cursor
        self.results.append(result)
        return result

    @property
    def episodes(self):
        with self.pipeline.read() as connection:
            return [
                dict(row)
                for row in connection.execute(
                    text("SELECT * FROM genopt.alert_states ORDER BY opened_at, alert_key")
                ).mappings()
            ]


@pytest.fixture
def watch(make_settings, webhook, instance):
    made = Watch(make_settings(start=START, alert_webhook_url=webhook.url), instance)
    yield made
    made.pipeline.engine.dispose()


NOTHING = [(1000, 0.0)] * 12


def test_an_alert_opens_once_closes_once_and_both_are_told_once(watch, webhook, caplog):
    caplog.set_level(logging.INFO)
    watch.measure(coach=NOTHING)
    for _ in range(3):
        watch.tick()
    watch.measure(NOW + hours(1))
    for _ in range(3):
        watch.tick(hours(1))
    told = [line for line in webhook.lines if "coach is failing" in line]
    assert [line.split()[0] for line in told] == ["[warning]", "[over]"]
    logged = [item for item in caplog.messages if "coach is failing" in item]
    assert len(logged) == 2
    (episode,) = [row for row in watch.episodes if row["alert_key"] == "failing:coach"]
    assert episode["opened_at"] < episode["closed_at"]
    assert episode["notified_at"] is not None
    assert episode["closing_notified_at"] is not None


def test_a_measurement_that_goes_missing_does_not_end_an_alert(watch):
    watch.measure(coach=NOTHING)
    watch.tick()
    watch.measure(NOW + hours(1), coach=[])
    watch.tick(hours(2))
    still = [row for row in watch.episodes if row["closed_at"] is None]
    assert "failing:coach" in {row["alert_key"] for row in still}
    seen = current_alerts(watch.pipeline, "main")
    (unjudged,) = [item for item in seen.open if item.alert.key == "failing:coach"]
    assert not unjudged.judged
    assert unjudged.opened_at is not None


def test_stale_data_that_get_staler_end_and_begin_as_another_severity(watch, webhook):
    watch.measure()
    watch.tick(hours(5))
    watch.tick(hours(20))
    stale = [row for row in watch.episodes if row["alert_key"] == "stale_data:performance"]
    assert [row["severity"] for row in stale] == ["warning", "critical"]
    assert stale[0]["closed_at"] == stale[1]["opened_at"]
    told = [line for line in webhook.lines if "performance table" in line]
    assert [line.split()[0] for line in told] == ["[warning]", "[critical]"]


def test_what_could_not_be_sent_waits_and_is_neither_lost_nor_doubled(watch, webhook):
    webhook.answers = [500, 429, 302, 404]
    watch.measure(coach=NOTHING)
    for _ in range(4):
        result = watch.tick()
        assert "webhook answered" in result.skip_reason.skip_message
    watch.measure(NOW + hours(1))
    assert webhook.lines == []
    watch.tick(hours(1))
    watch.tick()
    # it began and ended meanwhile: both are told, in the order of time, and once
    told = [line for line in webhook.lines if "coach is failing" in line]
    assert [line.split()[0] for line in told] == ["[warning]", "[over]"]
    assert not any("elsewhere" in path for path in webhook.paths)


@pytest.mark.parametrize("answers", [["drip"], []], ids=["slow", "nobody"])
def test_a_webhook_that_does_not_answer_cannot_hold_the_daemon_up(
    make_settings, webhook, instance, answers
):
    webhook.answers = answers
    url = webhook.url if answers else "http://127.0.0.1:9/hook"
    settings = make_settings(start=START, alert_webhook_url=url, alert_webhook_seconds=0.5)
    watch = Watch(settings, instance)
    watch.measure(coach=NOTHING)
    begun = time.monotonic()
    result = watch.tick()
    assert time.monotonic() - begun < 5
    assert "webhook did not answer" in result.skip_reason.skip_message
    with watch.pipeline.read() as connection:
        assert alert_store.count_untold(connection, "main") > 0
    watch.pipeline.engine.dispose()


def test_a_message_sent_but_not_noted_is_sent_again_under_the_same_id(watch, webhook, monkeypatch):
    watch.measure(coach=NOTHING)
    kept = alert_store.mark_told

    def die(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(alert_store, "mark_told", die)
    with pytest.raises(KeyboardInterrupt):
        watch.tick()
    monkeypatch.setattr(alert_store, "mark_told", kept)
    watch.tick()
    told = [line for line in webhook.lines if "coach is failing" in line]
    assert len(told) == 2
    assert told[0] == told[1]


def test_two_senders_at_once_do_not_both_send(watch, webhook):
    watch.measure(coach=NOTHING)
    with watch.pipeline.write() as connection:
        alerts = current_alerts(watch.pipeline, "main")
        alert_store.record(connection, "main", alerts.findings, now=NOW)
    with watch.pipeline.write() as first:
        assert alert_store.untold(first, "main", 20)
        assert deliver(watch.pipeline, ["main"]) == 0
    assert webhook.lines == []
    assert deliver(watch.pipeline, ["main"]) > 0


def test_two_evaluations_of_the_same_findings_open_one_episode(watch):
    watch.measure(coach=NOTHING)
    alerts = current_alerts(watch.pipeline, "main")
    for _ in range(2):
        with watch.pipeline.write() as connection:
            alert_store.record(connection, "main", alerts.findings, now=NOW)
    assert len(watch.episodes) == len(alerts.findings.alerts) > 0


def test_the_webhooks_address_is_nowhere_but_in_the_setting(watch, webhook, caplog):
    caplog.set_level(logging.DEBUG)
    webhook.answers = [500, 200]
    watch.measure(coach=NOTHING)
    watch.tick()
    watch.tick()
    assert webhook.texts
    seen = [*caplog.messages, watch.cursor, repr(watch.pipeline.settings), *webhook.texts]
    seen += [str(result.skip_reason) for result in watch.results]
    seen += [str(watch.episodes)]
    assert SECRET not in "\n".join(seen)
    with pytest.raises(WebhookError) as failed:
        post_to_webhook(SecretStr(f"http://127.0.0.1:9/{SECRET}"), {"text": ""}, seconds=1)
    assert SECRET not in str(failed.value)
    with pytest.raises(ValidationError) as wrong:
        Settings(alert_webhook_url=f"http://example.org/{SECRET}")
    assert SECRET not in str(wrong.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example.org/services/x", True),
        ("http://127.0.0.1:8080/x", True),
        ("http://hooks.example.org/x", False),
        ("http://127.0.0.1.example.org/x", False),
        ("ftp://127.0.0.1/x", False),
        ("https:///x", False),
        ("", False),
    ],
)
def test_the_webhook_is_https_or_on_this_machine(url, allowed):
    if allowed:
        assert Settings(alert_webhook_url=url).alert_webhook_url.get_secret_value() == url
    else:
        with pytest.raises(ValidationError, match="must be an https"):
            Settings(alert_webhook_url=url)


def test_alerts_of_before_there_was_a_webhook_are_not_sent_to_it(
    make_settings, webhook, instance, caplog
):
    caplog.set_level(logging.INFO)
    watch = Watch(make_settings(start=START), instance)
    watch.measure(coach=NOTHING)
    watch.tick()
    assert any("coach is failing" in item for item in caplog.messages)
    with watch.pipeline.read() as connection:
        assert alert_store.count_untold(connection, "main") == 0
    later = Watch(make_settings(start=START, alert_webhook_url=webhook.url), instance)
    later.tick()
    assert webhook.lines == []
    for each in (watch, later):
        each.pipeline.engine.dispose()


def test_a_database_that_is_away_is_told_once_and_its_return_too(
    make_settings, watch, webhook, instance, caplog
):
    caplog.set_level(logging.INFO)
    watch.measure(coach=NOTHING)
    watch.tick()
    before = len(webhook.lines)
    present = watch.pipeline
    gone = make_settings(
        start=START,
        alert_webhook_url=webhook.url,
        database_url="postgresql://nobody:pass-word-1@127.0.0.1:9/genopt",
    )
    watch.pipeline = make_pipeline(gone, clock=watch.clock)
    webhook.answers = [500]
    for _ in range(4):
        watch.tick()
    watch.pipeline = present
    for _ in range(2):
        watch.tick()
    told = webhook.lines[before:]
    assert [line.split()[0] for line in told] == ["[critical]", "[over]"]
    assert all("database" in line and "Start PostgreSQL" in line for line in told)
    logged = [item for item in caplog.messages if "the database cannot be read" in item]
    assert len(logged) == 2
    assert "pass-word-1" not in "\n".join([*caplog.messages, *webhook.texts])
    # what was open before is open still, and was not told again
    assert [row["closed_at"] for row in watch.episodes if "coach" in row["alert_key"]] == [None]


def test_a_database_that_goes_away_in_the_middle_of_a_tick_is_left_to_the_next(
    watch, webhook, monkeypatch
):
    watch.measure(coach=NOTHING)

    def gone(*arguments, **named):
        raise DatabaseUnavailableError("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(alert_store, "record", gone)
        assert "does not answer" in watch.tick().skip_reason.skip_message
    assert webhook.lines == []
    watch.tick()
    assert any("coach is failing" in line for line in webhook.lines)


def test_no_data_zero_and_a_database_error_are_three_things(make_settings, watch):
    empty = current_alerts(watch.pipeline, "main")
    assert empty.open == ()
    watch.measure(**dict.fromkeys(DEFAULT_WEIGHTS, NOTHING))
    zero = current_alerts(watch.pipeline, "main")
    assert [item.alert.kind for item in zero.open] == ["failing"] * 12
    gone = make_settings(database_url="postgresql://nobody@127.0.0.1:9/genopt")
    away = current_alerts(make_pipeline(gone, clock=watch.clock), "main")
    assert [item.alert.key for item in away.open] == ["health:database"]
    assert away.worst == "critical"


def test_an_alert_about_runs_stays_open_where_runs_are_not_counted(watch):
    watch.measure()
    counted = current_alerts(watch.pipeline, "main", failed_runs_24h=12)
    with watch.pipeline.write() as connection:
        alert_store.record(connection, "main", counted.findings, now=NOW)
    uncounted = current_alerts(watch.pipeline, "main")
    assert [(item.alert.key, item.judged) for item in uncounted.open] == [("health:runs", False)]
    assert current_alerts(watch.pipeline, "main", failed_runs_24h=0).open == ()


def test_an_engine_that_draws_by_its_own_mind_is_a_sample_ratio_mismatch(watch):
    watch.measure()
    with watch.pipeline.write() as connection:
        version = weight_store.live_weights(connection, "main").version
        connection.execute(
            text("""
                INSERT INTO genopt.content_metadata
                    (account_id, decision_id, generator_name, experiment_arm, weights_version,
                     posted_at, status)
                SELECT 'main', 'p' || i, 'philosopher', 'control', :version,
                       CAST(:at AS timestamptz) - i * interval '1 minute', 'posted'
                  FROM generate_series(1, 60) i
            """),
            {"version": version, "at": NOW - hours(2)},
        )
    found = {item.alert.key for item in current_alerts(watch.pipeline, "main").open}
    assert "sample_ratio" in found


def test_the_sensor_reports_freshness_of_data_when_it_changes_and_not_every_minute(watch):
    watch.measure()
    defs = build_defs(watch.pipeline)
    sensor = next(item for item in defs.sensors if item.name == "send_alerts")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING

    def evaluate(cursor):
        context = dg.build_sensor_context(
            instance=watch.instance, cursor=cursor, resources={"pipeline": watch.pipeline}
        )
        return sensor.evaluate_tick(context)

    first = evaluate(None)
    by_asset = {event.asset_key.to_user_string(): event for event in first.asset_events}
    assert set(by_asset) == set(FRESH)
    assert {event.check_name for event in first.asset_events} == {FRESH_CHECK}
    assert by_asset["generator_f_per_1k"].passed
    assert not by_asset["raw_follower_counts"].passed  # nothing was ever read
    assert evaluate(first.cursor).asset_events == []
    watch.clock.at += hours(30)
    later = evaluate(first.cursor)
    (changed,) = later.asset_events
    assert changed.asset_key == dg.AssetKey("generator_f_per_1k")
    assert not changed.passed
    assert changed.severity == dg.AssetCheckSeverity.ERROR


def test_many_changes_are_sent_in_messages_that_stay_short(watch, webhook, monkeypatch):
    monkeypatch.setattr(alerting, "CHANGES_A_MESSAGE", 5)
    watch.measure(**dict.fromkeys(DEFAULT_WEIGHTS, NOTHING))
    watch.tick()
    assert [len(sent.splitlines()) - 1 for sent in webhook.texts] == [5, 5, 2]
    assert len(set(webhook.lines)) == 12
