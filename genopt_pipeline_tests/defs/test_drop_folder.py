"""The drop folder: real files, real sensor ticks, real runs."""

import os
import shutil
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from genopt_pipeline.defs.build import build_defs, make_pipeline
from genopt_pipeline.defs.drop_folder import IMPORT
from genopt_pipeline_tests.conftest import DATA
from genopt_pipeline_tests.scenario import Clock, instance_on

EXPORT = "content_export_2025_en.csv"


class Folder:
    """A drop folder with the sensor on it; a tick is what the daemon would do."""

    def __init__(self, pipeline, instance, path, clock):
        self.pipeline, self.instance, self.path, self.clock = pipeline, instance, path, clock
        self.defs = build_defs(pipeline)
        self.sensor = self.defs.resolve_sensor_def("import_drop_folder")
        self.cursor = None
        self.ran: set[str] = set()

    def tick(self):
        """Evaluate the sensor and run what it asks for, as the daemon does: a run key once."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"pipeline": self.pipeline}
        )
        data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        results = []
        for request in data.run_requests or ():
            if request.run_key not in self.ran:
                self.ran.add(request.run_key)
                results.append(
                    self.defs.resolve_job_def(IMPORT).execute_in_process(
                        instance=self.instance,
                        run_config=request.run_config,
                        raise_on_error=False,
                    )
                )
        return results

    def settle(self):
        """Two ticks, apart by more than a file has to rest."""
        first = self.tick()
        self.clock.at += timedelta(seconds=30)
        return [*first, *self.tick()]

    def query(self, statement):
        with self.pipeline.read() as connection:
            return connection.execute(text(statement)).all()


@pytest.fixture
def folder(make_settings, tmp_path):
    path = tmp_path / "exports"
    path.mkdir()
    settings = make_settings(source="exports", drop_folder=path)
    clock = Clock(datetime(2026, 11, 20, 12, tzinfo=UTC))
    pipeline = make_pipeline(settings, clock=clock)
    with instance_on(settings, tmp_path) as instance:
        yield Folder(pipeline, instance, path, clock)
    pipeline.engine.dispose()


def drop(folder, name=EXPORT, source=EXPORT):
    shutil.copy(DATA / source, folder.path / name)
    return folder.path / name


def listing(folder):
    return {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.path.iterdir()}


def test_an_export_is_imported_once_in_a_run_and_nothing_is_moved(folder):
    drop(folder)
    drop(folder, "other.csv", "content_export_2026_ja.csv")
    before = listing(folder)
    [result] = folder.settle()
    assert result.success
    told = {
        event.materialization.metadata["file"].value: event.materialization.metadata
        for event in (
            e.step_materialization_data
            for e in result.all_events
            if e.event_type_value == "ASSET_MATERIALIZATION"
        )
    }
    assert set(told) == {EXPORT, "other.csv"}
    rows = folder.query("SELECT file_name, rows_kept FROM genopt.export_files")
    assert {row.file_name: row.rows_kept for row in rows} == {
        name: metadata["dagster/row_count"].value for name, metadata in told.items()
    }
    assert folder.settle() == []
    # a copy, a new time and another name are the same export; so they are to a new sensor
    drop(folder, "copy of it.csv")
    os.utime(folder.path / EXPORT, (1, 1))
    folder.cursor = None
    assert folder.settle() == []
    assert {name: before[name] for name in ("other.csv",)} == {
        name: listing(folder)[name] for name in ("other.csv",)
    }
    assert folder.query("SELECT count(*) FROM genopt.export_files") == [(2,)]


def test_a_file_that_is_still_written_is_left_alone(folder):
    whole = (DATA / EXPORT).read_bytes()
    path = folder.path / EXPORT
    path.write_bytes(whole[: len(whole) // 2])
    assert folder.tick() == []
    folder.clock.at += timedelta(seconds=30)
    path.write_bytes(whole)
    assert folder.tick() == []
    folder.clock.at += timedelta(seconds=10)
    assert folder.tick() == []
    folder.clock.at += timedelta(seconds=15)
    [result] = folder.tick()
    assert result.success


def test_a_bad_file_fails_its_run_once_is_quarantined_and_stops_no_other(folder):
    drop(folder)
    bad = folder.path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    [result] = folder.settle()
    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "bad.csv" in failure.step_failure_data.error_display_string
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    assert folder.query("SELECT file_name FROM genopt.export_files") == [(EXPORT,)]
    [(source, reason)] = folder.query(
        "SELECT source, reason FROM genopt.quarantine WHERE kind = 'export_file'"
    )
    assert source == "bad.csv"
    assert "bad.csv" in reason
    for _ in range(3):
        folder.clock.at += timedelta(hours=1)
        assert folder.tick() == []
    # mended, it is another file
    shutil.copy(DATA / "content_export_2026_ja.csv", bad)
    [result] = folder.settle()
    assert result.success


def test_bad_rows_are_quarantined_and_shown_and_the_others_are_kept(folder):
    lines = (DATA / EXPORT).read_text("utf-8-sig").splitlines(keepends=True)
    lines.insert(2, "not,a,row\n")
    (folder.path / "damaged.csv").write_text("".join(lines))
    [result] = folder.settle()
    assert result.success
    [event] = [e for e in result.all_events if e.event_type_value == "ASSET_MATERIALIZATION"]
    told = event.step_materialization_data.materialization.metadata
    assert told["rows_quarantined"].value == 1
    assert told["quarantined_rows"].value[0]["row"] == 3
    assert folder.query("SELECT count(*) FROM genopt.quarantine WHERE kind = 'export_row'") == [
        (1,)
    ]


def test_labels_beside_the_exports_give_the_posts_their_generators_also_later(folder):
    drop(folder)
    [result] = folder.settle()
    assert result.success
    ids = [row[0] for row in folder.query("SELECT tweet_id FROM genopt.content_metadata")]
    labels = folder.path / "Labels.csv"
    labels.write_text(
        "decision_id,generator_name\n" + "".join(f"x:{tweet},coach\n" for tweet in ids)
    )
    [result] = folder.settle()
    assert result.success
    assert folder.query("SELECT DISTINCT generator_name FROM genopt.content_metadata") == [
        ("coach",)
    ]
    assert folder.settle() == []


def test_bad_labels_are_told_once_and_keep_no_export_waiting(folder):
    drop(folder)
    (folder.path / "labels.csv").write_text("who,what\n1,2\n")
    [result] = folder.settle()
    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "labels.csv" in failure.step_failure_data.error_display_string
    assert folder.query("SELECT file_name FROM genopt.export_files") == [(EXPORT,)]
    folder.clock.at += timedelta(hours=2)
    assert folder.settle() == []


@pytest.mark.parametrize(("setting", "reason"), [(None, "not set"), ("gone", "cannot be read")])
def test_a_folder_that_is_not_there_is_a_skipped_tick_with_the_reason(
    make_settings, tmp_path, setting, reason
):
    settings = make_settings(drop_folder=None if setting is None else tmp_path / setting)
    pipeline = make_pipeline(settings)
    sensor = build_defs(pipeline).resolve_sensor_def("import_drop_folder")
    with dg.DagsterInstance.ephemeral() as instance:
        data = sensor.evaluate_tick(
            dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline})
        )
    assert reason in data.skip_message
    assert not data.run_requests


def test_a_folder_of_an_account_that_is_not_registered_waits_and_warns_once(
    make_settings, tmp_path, capfd
):
    (tmp_path / "exports").mkdir()
    settings = make_settings(source="exports", account="nobody", drop_folder=tmp_path / "exports")
    clock = Clock(datetime(2026, 11, 20, 12, tzinfo=UTC))
    pipeline = make_pipeline(settings, clock=clock)
    with instance_on(settings, tmp_path) as instance:
        folder = Folder(pipeline, instance, tmp_path / "exports", clock)
        drop(folder)
        assert folder.settle() == []
        warned = capfd.readouterr().err
        assert "account 'nobody' is not registered" in warned
        assert "--new-account" in warned
        assert folder.settle() == []
        assert "not registered" not in capfd.readouterr().err
    pipeline.engine.dispose()
