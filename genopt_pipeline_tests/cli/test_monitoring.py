"""health, alerts, validate and settings on real databases, also those that are not right."""

import functools
import json
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import text

import genopt_pipeline
from genopt_pipeline.cli.monitoring import default_of, settings_page, variable
from genopt_pipeline.core.alerts import AlertKind, Findings
from genopt_pipeline.defs import build
from genopt_pipeline.defs.alerting import current_alerts
from genopt_pipeline.defs.build import make_pipeline
from genopt_pipeline.defs.checks import (
    CONSERVED,
    COVERED,
    FRESH,
    FRESH_CHECK,
    IN_FORCE,
    make_checks,
)
from genopt_pipeline.settings import Settings
from genopt_pipeline.store import alerts as alert_store
from genopt_pipeline.store.engine import open_engine
from genopt_pipeline_tests.cli.virtual import VirtualCli
from genopt_pipeline_tests.defs.test_alerting import GOOD, NOTHING, NOW, Watch
from genopt_pipeline_tests.scenario import START, Clock, hours

ROOT = Path(genopt_pipeline.__file__).parents[1]
AWAY = "postgresql://nobody:pass-word-1@127.0.0.1:9/genopt"


@pytest.fixture
def settings(make_settings, tmp_path):
    tmp_path.chmod(0o755)
    return make_settings(start=START)


@pytest.fixture
def genopt(settings, monkeypatch, capsys):
    monkeypatch.setattr(build, "make_pipeline", functools.partial(make_pipeline))
    return VirtualCli(settings, monkeypatch, capsys, Clock(NOW))


def findings(genopt, *arguments, code=0):
    out, err, got = genopt.raw("validate", "--json", *arguments)
    assert got == code, out + err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == code
    return {item["check"]: item for item in json.loads(out)["findings"]}


def test_a_fresh_installation_is_right_but_for_the_daemon(genopt):
    found = findings(genopt)
    wrong = {name: item["verdict"] for name, item in found.items() if item["verdict"] != "ok"}
    # virtual time: the daemon does not run, and the database was made at another time
    # ... and the test's database is not the embedded one, but its source is the sandbox
    assert set(wrong) <= {"daemon", "clock", "table_partitions", "source"}
    assert set(wrong.values()) <= {"warning"}
    assert "12 generators" in found["weights"]["message"]
    assert "GENOPT_DATABASE_URL names answers" in found["database"]["message"]
    out, _, code = genopt.raw("validate")
    assert code == 0
    assert "the set-up is right" in out


def test_simulated_posts_in_a_database_of_ones_own_are_warned_of(genopt, monkeypatch, caplog):
    found = findings(genopt)["source"]
    assert found["verdict"] == "warning"
    assert "GENOPT_SOURCE is sandbox" in found["message"]
    build.build_defs()
    assert any("GENOPT_SOURCE is sandbox" in message for message in caplog.messages)
    caplog.clear()
    monkeypatch.setenv("GENOPT_SOURCE", "exports")
    assert findings(genopt)["source"]["verdict"] == "ok"
    build.build_defs()
    assert not caplog.messages


def test_a_database_that_is_away_is_one_error_and_the_rest_is_not_looked_at(genopt, monkeypatch):
    monkeypatch.setenv("GENOPT_DATABASE_URL", AWAY)
    found = findings(genopt, code=1)
    assert found["database"]["verdict"] == "error"
    assert {found[name]["verdict"] for name in ("weights", "source", "daemon")} == {"skipped"}
    assert found["definitions"]["verdict"] == "ok"
    assert "pass-word-1" not in json.dumps(found)

    out, err, code = genopt.raw("health", "--json")
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert "cannot be read" in err
    report = json.loads(out)
    assert report["status"] == "critical"
    assert "Start PostgreSQL" in report["checks"][0]["action"]
    out, err, code = genopt.raw("alerts", "--json")
    assert code == 1
    assert [item["key"] for item in json.loads(out)["alerts"]] == ["health:database"]
    assert len(err.strip().splitlines()) == 1
    assert "pass-word-1" not in out + err


def test_a_database_that_was_never_migrated_says_so(genopt, new_database, monkeypatch):
    url = new_database(None).set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("GENOPT_DATABASE_URL", url)
    found = findings(genopt, code=1)
    assert found["revision"]["verdict"] == "error"
    assert "genopt migrate" in found["revision"]["action"]
    assert found["weights"]["verdict"] == "skipped"
    out, _, code = genopt.raw("health", "--json")
    assert code == 1
    assert "genopt migrate" in json.loads(out)["checks"][0]["reason"]


def test_wrong_settings_are_each_an_error_by_their_variable(genopt, monkeypatch):
    monkeypatch.setenv("GENOPT_MIN_WEIGHT", "2")
    monkeypatch.setenv("GENOPT_HEALTH_METRICS_AGE_HOURS", "6,1")
    monkeypatch.setenv("GENOPT_ALERT_WEBHOOK_URL", "http://example.org/very-secret")
    out, err, code = genopt.raw("validate", "--json")
    assert code == 1
    told = json.loads(out)["findings"]
    assert {item["message"].split(":")[0] for item in told} == {
        "GENOPT_MIN_WEIGHT",
        "GENOPT_HEALTH_METRICS_AGE_HOURS",
        "GENOPT_ALERT_WEBHOOK_URL",
    }
    assert "very-secret" not in out + err


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_may_be_meant(genopt, monkeypatch):
    monkeypatch.setenv("GENOPT_ACOUNT", "mine")
    monkeypatch.setenv("GENOPT_ZZZ", "1")
    found = findings(genopt)["settings"]
    assert found["verdict"] == "warning"
    assert "GENOPT_ACOUNT (is GENOPT_ACCOUNT meant?), GENOPT_ZZZ" in found["message"]


def test_everything_that_is_missing_of_either_way_to_authenticate_is_named(genopt, monkeypatch):
    monkeypatch.setenv("GENOPT_SOURCE", "x_api")
    error = genopt("collect", code=1)
    for name in (
        *("CONSUMER_KEY", "CONSUMER_SECRET", "ACCESS_TOKEN", "ACCESS_TOKEN_SECRET"),
        *("USER_ID", "REFRESH_TOKEN", "CLIENT_ID"),
    ):
        assert f"GENOPT_X_{name}" in error
    monkeypatch.setenv("GENOPT_X_USER_ID", "1")
    assert "OAuth 2.0 lacks GENOPT_X_ACCESS_TOKEN." in genopt("collect", code=1)


def test_what_is_wrong_with_source_policy_and_account_is_told(genopt, monkeypatch):
    monkeypatch.setenv("GENOPT_MAX_WEIGHT", "0.05")
    monkeypatch.setenv("GENOPT_SOURCE", "x_api")
    monkeypatch.setenv("GENOPT_X_USER_ID", "1")
    found = findings(genopt, code=1)
    assert "raise it to at least" in found["policy"]["message"]
    assert "GENOPT_X_ACCESS_TOKEN" in found["source"]["message"]
    monkeypatch.setenv("GENOPT_X_ACCESS_TOKEN", "a-token-of-a-user")
    monkeypatch.setenv("GENOPT_X_BASE_URL", "http://api.example.org")
    found = findings(genopt, code=1)
    assert "https://" in found["source"]["message"]
    monkeypatch.setenv("GENOPT_ACCOUNT", "other")
    found = findings(genopt, code=1)
    assert found["account"]["verdict"] == "error"
    assert "genopt migrate" in found["account"]["action"]
    assert "--new-account" in found["account"]["action"]
    assert found["weights"]["verdict"] == "skipped"


def test_a_role_without_rights_a_lost_search_path_and_open_tokens_are_found(
    genopt, settings, database, admin, tmp_path, monkeypatch
):
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {database.database} RESET search_path"))
        connection.execute(text("DROP ROLE IF EXISTS genopt_test_reader"))
        connection.execute(text("CREATE ROLE genopt_test_reader LOGIN"))
    try:
        engine = open_engine(database)
        with engine.begin() as connection:
            connection.execute(text("GRANT USAGE ON SCHEMA genopt TO genopt_test_reader"))
            connection.execute(
                text("GRANT SELECT ON ALL TABLES IN SCHEMA genopt TO genopt_test_reader")
            )
        url = database.set(drivername="postgresql", username="genopt_test_reader", password=None)
        monkeypatch.setenv("GENOPT_DATABASE_URL", url.render_as_string(hide_password=False))
        token = tmp_path / "x_tokens_main.json"
        token.write_text("{}")
        token.chmod(0o644)
        tmp_path.chmod(0o777)
        found = findings(genopt, code=1)
        assert "INSERT" in found["privileges"]["message"]
        assert "genopt grant" in found["privileges"]["action"]
        assert found["search_path"]["verdict"] == "warning"
        assert found["tokens"]["verdict"] == "error"
        assert found["home"]["verdict"] == "warning"
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY genopt_test_reader"))
        refused = findings(genopt, code=1)
        assert "refused" in refused["revision"]["message"]
        engine.dispose()
        out, err, code = genopt.raw("health", "--json")
        assert code == 1
        assert "Traceback" not in err
        assert json.loads(out)["status"] == "critical"
    finally:
        with admin.connect() as connection:
            connection.execute(text("DROP ROLE IF EXISTS genopt_test_reader"))


def test_an_account_with_readings_of_one_source_is_not_pointed_at_another(genopt, database):
    engine = open_engine(database)
    with engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO genopt.source_states (account_id, source, key, value)
                VALUES ('main', 'live', 'source', '"x_api"')
            """)
        )
    engine.dispose()
    assert "would be mixed" in findings(genopt, code=1)["source"]["message"]


def test_a_folder_without_dagsters_files_is_found(genopt, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("GENOPT_DROP_FOLDER", str(tmp_path / "nowhere"))
    found = findings(genopt, code=1)
    assert "GENOPT_DROP_FOLDER" in found["drop_folder"]["message"]
    assert "dagster.yaml" in found["dagster_files"]["message"]
    assert "DAGSTER_HOME" in found["dagster_files"]["action"]


def test_alerts_that_are_open_are_a_finding_and_good_news_is_none(genopt, settings):
    watch = Watch(settings, None)
    assert genopt("alerts")["alerts"] == []
    watch.measure(coach=[(1000, 20.0)] * 12)
    good = genopt("alerts")
    assert good["worst"] == "info"
    assert "viral:coach" in {item["key"] for item in good["alerts"]}
    watch.measure(coach=NOTHING, explorer=GOOD)
    out, err, code = genopt.raw("alerts")
    assert code == 1
    assert "coach is failing" in " ".join(out.split())
    assert "worst is warning" in err
    assert all(len(line) <= 80 for line in out.splitlines())
    with watch.pipeline.write() as connection:
        found = current_alerts(watch.pipeline, "main").findings
        alert_store.record(connection, "main", found, now=NOW)
        cleared = Findings(())
        alert_store.record(connection, "main", cleared, now=NOW + hours(2))
    watch.measure()
    ended = genopt("alerts", "--past", 5)
    assert ended["alerts"] == []
    assert ended["past"][0]["key"] == "failing:coach"
    assert ended["past"][0]["opened_at"] < ended["past"][0]["closed_at"]
    watch.pipeline.engine.dispose()


def test_the_report_and_the_dashboard_show_the_alerts_that_are_open(genopt, settings):
    watch = Watch(settings, None)
    watch.measure()
    quiet = genopt("alerts")["alerts"]
    assert "No alert is open." in report_of(genopt)
    watch.measure(coach=NOTHING)
    watch.pipeline.engine.dispose()
    page = report_of(genopt)
    assert quiet == []
    assert "No alert is open." not in page
    assert "coach is failing" in page
    assert [row["key"] for row in genopt("dashboard")["alerts"]] == ["failing:coach"]


def report_of(genopt):
    return Path(genopt("report")["report"]).read_text(encoding="utf-8")


def test_the_page_on_monitoring_names_every_check_alert_and_finding(genopt):
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    names = {check["name"] for check in genopt("health")["checks"]} | set(findings(genopt))
    names |= {FRESH_CHECK, CONSERVED, COVERED, IN_FORCE, *FRESH, *get_args(AlertKind)}
    names |= {check.check_key.name for check in make_checks()}
    names |= {variable(name) for name in Settings.model_fields if name.startswith("health_")}
    assert {name for name in names if name not in page} == set()


def test_health_without_data_is_neither_an_error_nor_a_zero(genopt):
    report = genopt("health")
    assert report["status"] == "degraded"
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    assert statuses["posts"] == statuses["metrics"] == statuses["coverage"] == "no_data"


def test_thresholds_of_health_are_settings(genopt, settings, monkeypatch):
    watch = Watch(settings, None)
    watch.measure()
    watch.pipeline.engine.dispose()

    def performance():
        checks = genopt("health")["checks"]
        return next(check["status"] for check in checks if check["name"] == "performance")

    assert performance() == "healthy"
    monkeypatch.setenv("GENOPT_HEALTH_PERFORMANCE_AGE_HOURS", "0.5, 2")
    assert performance() == "degraded"


def test_the_page_of_settings_is_what_the_code_prints():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run: genopt settings --markdown > docs/settings.md"


def test_every_setting_is_described_and_shown_and_no_secret_is(genopt, monkeypatch):
    monkeypatch.setenv("GENOPT_X_ACCESS_TOKEN", "a-very-secret-token")
    monkeypatch.setenv("GENOPT_ALERT_WEBHOOK_URL", "https://hooks.example.org/very-secret")
    shown = {row["variable"]: row for row in genopt("settings")}
    assert set(shown) == {variable(name) for name in Settings.model_fields}
    assert all(row["description"].endswith(".") for row in shown.values())
    assert shown["GENOPT_ALERT_WEBHOOK_URL"]["value"] == "(set)"
    assert "very-secret" not in json.dumps(shown)


def test_defaults_are_printed_as_the_environment_takes_them(monkeypatch):
    for name, field in Settings.model_fields.items():
        if default_of(field):
            monkeypatch.setenv(variable(name), default_of(field))
    assert Settings() == Settings.model_construct() or Settings().model_dump() == {
        name: field.default for name, field in Settings.model_fields.items()
    }
