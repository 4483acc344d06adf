"""Labels files: which generator wrote which post."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genopt_pipeline.sources.exports import ExportFormatError, Labels, read_labels

ID = "1886483849795768598"
OTHER = "1886483842153779213"


def read(tmp_path, text: str | bytes) -> Labels:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    labels = read_labels(path)
    assert labels.rows_read == (
        labels.rows_kept + sum(labels.skipped.values()) + len(labels.rejected)
    )
    return labels


@pytest.mark.parametrize(
    "text",
    [
        f"post_id,generator_name\n{ID},coach\n{OTHER},NewsReporter\n",
        f"\ufeffpost_id;generator_name\r\n{ID};coach\r\n{OTHER};NewsReporter\r\n",
        f"sep=,\nTweet id,note,Generator\n{ID},x,coach\n{OTHER},,NewsReporter",
        f'post_id,generator_name\n\'{ID}, coach \n"{OTHER}","NewsReporter"\n',
        f"post_id\tgenerator_name\n{ID}\tcoach\n{OTHER}\tNewsReporter\n".encode("utf-16"),
    ],
)
def test_labels_by_post_id_are_read_as_written(text, tmp_path):
    labels = read(tmp_path, text)
    assert labels.key == "post_id"
    assert labels.generators == {ID: "coach", OTHER: "NewsReporter"}
    assert labels.generator_of(tweet_id=ID, decision_id=None) == "coach"
    assert labels.generator_of(tweet_id="1", decision_id=None) is None
    assert labels.generator_of(tweet_id=None, decision_id=ID) is None


def test_labels_by_decision_id_are_read_as_written(tmp_path):
    labels = read(tmp_path, "decision_id,generator_name\nd-1,HumanVoice (style)\n")
    assert labels.key == "decision_id"
    assert labels.generators == {"d-1": "HumanVoice (style)"}
    assert labels.generator_of(tweet_id="d-1", decision_id=None) is None
    assert labels.generator_of(tweet_id=None, decision_id="d-1") == "HumanVoice (style)"


def test_a_post_with_two_generators_has_neither_and_every_such_row_is_named(tmp_path):
    labels = read(
        tmp_path,
        f"post_id,generator_name\n{ID},coach\n{OTHER},coach\n{ID},explorer\n{ID},coach\n",
    )
    assert labels.generators == {OTHER: "coach"}
    assert [row.row for row in labels.rejected] == [2, 4, 5]
    assert all("rows 2, 4, 5" in row.reason for row in labels.rejected)
    assert {row.column for row in labels.rejected} == {"generator_name"}


def test_the_same_label_twice_is_one_label(tmp_path):
    labels = read(tmp_path, f"post_id,generator_name\n{ID},coach\n\n{ID},coach\n")
    assert labels.generators == {ID: "coach"}
    assert labels.skipped == {"blank row": 1, "duplicate row": 1}


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ("1.88648E+18,coach", "post_id", "spreadsheet"),
        (f"{ID},", "generator_name", "no generator"),
        ("abc,coach", "post_id", "not a post id"),
        (f"{ID}", None, "has 1 cells where the header has 2"),
        (f"{ID},coach,extra", None, "has 3 cells"),
        (f"{ID},co\0ach", "generator_name", "no generator's name"),
        (f"{ID},{'x' * 300}", "generator_name", "no generator's name"),
        (f'{ID},"coach', None, "cut off"),
    ],
)
def test_a_bad_label_is_quarantined_with_row_column_and_reason(row, column, reason, tmp_path):
    labels = read(tmp_path, f"post_id,generator_name\n{OTHER},coach\n{row}\n")
    assert labels.generators == {OTHER: "coach"}
    assert (labels.rejected[0].row, labels.rejected[0].column) == (3, column)
    assert reason in labels.rejected[0].reason


@pytest.mark.parametrize(
    "text", ["", "post_id\n1\n", "post_id,decision_id,generator_name\n", "a,b\n1,2\n", "\n\n"]
)
def test_a_file_that_is_no_labels_file_gives_one_clear_line(text, tmp_path):
    with pytest.raises(ExportFormatError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith("labels.csv")
    assert "\n" not in str(error.value)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)), st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_labels_or_a_format_error(tmp_path, content, with_header):
    header = b"decision_id,generator_name\n" if with_header else b""
    # read() holds that every row is accounted for
    with contextlib.suppress(ExportFormatError):
        read(tmp_path, header + content)
