"""Real posts through the export reader into the store, and what the dashboard then says."""

import csv
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from genopt_pipeline.defs import importing
from genopt_pipeline.defs.jobs import ATTRIBUTE
from genopt_pipeline.sources.exports import read_labels
from genopt_pipeline_tests.conftest import DATA
from genopt_pipeline_tests.scenario import START, Installation, instance_on
from genopt_pipeline_tests.sources.export_files import POST_DIALECTS, PostTotals, write_posts
from genopt_pipeline_tests.sources.test_exports import REAL_COLUMNS

SAMPLES = [
    "content_export_2025_en.csv",
    "content_export_2026_ja.csv",
    "daily_activity_2021_en.csv",
]


def post_type(row):
    if row.is_reply:
        return "reply"
    if row.has_link:
        return "link"
    return "longText" if row.text_len > 140 else "shortText"


@pytest.fixture
def genopt(make_settings):
    settings = make_settings()

    def run(*arguments, account="main"):
        environment = {
            **os.environ,
            "GENOPT_DATABASE_URL": settings.database_url.get_secret_value(),
            "GENOPT_HOME": str(settings.home),
            "GENOPT_SOURCE": "exports",
            "GENOPT_ACCOUNT": account,
        }
        return subprocess.run(
            [sys.executable, "-m", "genopt_pipeline.cli", *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


def answer(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_sample_exports_import_as_they_are(genopt):
    summary = answer(genopt("import", *(DATA / name for name in SAMPLES), "--json"))
    for file in summary["files"]:
        skipped = sum(file["skipped"].values())
        assert file["rows_read"] == file["rows_kept"] + skipped + file["rows_rejected"]
        assert file["rows_kept"] > 0
    again = answer(genopt("import", *(DATA / name for name in SAMPLES), "--json"))
    assert all(file["repeated"] for file in again["files"])


def test_a_file_that_is_no_export_is_one_clear_line(genopt, tmp_path):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    done = genopt("import", wrong)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "wrong.csv" in done.stderr


@pytest.mark.parametrize("dialect", sorted(POST_DIALECTS))
def test_real_posts_give_the_f_per_1k_table_with_the_totals_of_the_file(genopt, tmp_path, dialect):
    posts = pd.read_csv(DATA / "real_posts_numeric.csv", dtype={"post_id": str})
    export, labels = tmp_path / "export.csv", tmp_path / "labels.csv"
    write_export(posts, export, dialect)
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        # by decision_id: one of these real ids ends in four zeros, and a label file has no
        # permalink to tell it from one that a spreadsheet cut
        writer.writerow(["decision_id", "generator_name"])
        writer.writerows((f"x:{row.post_id}", post_type(row)) for row in posts.itertuples())
    summary = answer(
        genopt("import", export, "--labels", labels, "--new-account", "--json", account="real")
    )
    assert summary["files"][0]["rows_kept"] == len(posts)
    assert (summary["files"][0]["labelled"], summary["files"][0]["unlabelled"]) == (len(posts), 0)
    assert summary["files"][0]["quarantined_names"] == 0
    table = answer(genopt("dashboard", "--json", account="real"))["generators"]
    kinds = posts.apply(post_type, axis=1)
    for row in table:
        mine = posts[kinds == row["generator_name"]]
        assert row["total_posts"] == len(mine)
        assert row["total_impressions"] == mine.imp.sum()
        assert row["total_followers_gained"] == mine.fol.sum()
        assert row["avg_f_per_1k"] == pytest.approx(1000 * mine.fol.sum() / mine.imp.sum())
    assert sum(row["total_posts"] for row in table) == len(posts)


def test_the_report_and_the_dashboard_show_the_same_figures_of_imported_posts(genopt, tmp_path):
    posts = pd.read_csv(DATA / "real_posts_numeric.csv", dtype={"post_id": str})
    export, labels = tmp_path / "export.csv", tmp_path / "labels.csv"
    write_export(posts, export, min(POST_DIALECTS))
    kinds = posts.apply(post_type, axis=1)
    labels.write_text(
        "decision_id,generator_name\n"
        + "".join(f"x:{key},{kind}\n" for key, kind in zip(posts.post_id, kinds, strict=True))
    )
    answer(genopt("import", export, "--labels", labels, "--new-account", "--json", account="real"))
    shown = answer(genopt("dashboard", "--json", account="real"))
    page = Path(answer(genopt("report", "--json", account="real"))["report"]).read_text("utf-8")
    assert shown["period"] == "life-time"
    assert f"<dd>{len(posts):,d}</dd>" in page
    assert f"<dd>{posts.imp.sum():,d}</dd>" in page
    assert "UTC, life-time;" in page
    assert "how it was drawn" in page
    times = re.findall(r'"x":(\[[^]]*\])', page.split('data-target="weights"')[1])
    assert len(set(json.loads(times[0]))) == 2


def test_the_ui_shows_the_table_of_real_posts_beside_other_accounts(make_settings, tmp_path):
    posts = pd.read_csv(DATA / "real_posts_numeric.csv", dtype={"post_id": str})
    export, labels = tmp_path / "export.csv", tmp_path / "labels.csv"
    write_export(posts, export, min(POST_DIALECTS))
    kinds = posts.apply(post_type, axis=1)
    labels.write_text(
        "decision_id,generator_name\n"
        + "".join(f"x:{key},{kind}\n" for key, kind in zip(posts.post_id, kinds, strict=True))
    )
    settings = make_settings(account="real", source="exports", start=START)
    with instance_on(settings, tmp_path) as instance:
        installation = Installation(settings, instance, START + timedelta(hours=3))
        known = read_labels(labels)
        assert importing.register_from_labels(installation.pipeline, "real", known)
        importing.import_export(installation.pipeline, "real", export, labels=known)
        assert installation.run(ATTRIBUTE, START).success
        event = instance.get_latest_materialization_event(dg.AssetKey("generator_f_per_1k"))
        shown = event.asset_materialization.metadata["real/life_time"].value
    table = {record.data["generator_name"]: record.data for record in shown.records}
    assert set(table) == set(kinds)
    for kind, mine in posts.groupby(kinds):
        assert table[kind]["total_impressions"] == mine.imp.sum()
        assert table[kind]["total_followers_gained"] == mine.fol.sum()
        f_per_1k = 1000 * mine.fol.sum() / mine.imp.sum()
        assert table[kind]["avg_f_per_1k"] == pytest.approx(f_per_1k, abs=5e-5)


def write_export(posts, path, dialect):
    rows = [
        PostTotals(
            tweet_id=int(row["post_id"]),
            posted_at=datetime.fromisoformat(row["created_at"]),
            counts={
                name: None if pd.isna(row[column]) else int(row[column])
                for column, name in REAL_COLUMNS.items()
            },
        )
        for row in posts.to_dict("records")
    ]
    write_posts(path, rows, POST_DIALECTS[dialect])
