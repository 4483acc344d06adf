"""Judgements about a set-up: what is wrong is an error with what to do, and nothing is invented."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_pipeline.core import validation
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
STORED = {name: Decimal(str(weight)) for name, weight in DEFAULT_WEIGHTS.items()}


def test_the_default_weights_are_right_and_a_ten_thousandth_off_is_not():
    assert validation.judge_weights(STORED).verdict == "ok"
    off = STORED | {"coach": STORED["coach"] + Decimal("0.0001")}
    finding = validation.judge_weights(off)
    assert finding.verdict == "error"
    assert "1.0001" in finding.message


def test_other_generators_than_the_twelve_are_no_fault_but_are_told():
    finding = validation.judge_weights({"poet": Decimal(1)})
    assert finding.verdict == "ok"
    assert "coach" in finding.message


def policy(count=12, locked=(), **limits):
    names = [f"g{index}" for index in range(count)]
    weights = dict.fromkeys(names, 1.0 / count)
    return validation.judge_policy(
        weights,
        dict.fromkeys(names, "active"),
        locked,
        **({"floor": 0.02, "cap": 1.0, "step": 0.3} | limits),
    )


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (policy(), "ok"),
        (policy(floor=0.05), "warning"),
        (policy(cap=0.05), "error"),
        (policy(floor=0.5, cap=0.1), "error"),
        (policy(count=1), "ok"),
        (policy(count=3, locked={"g0", "g1", "g2"}), "ok"),
    ],
)
def test_limits_that_no_weights_can_meet_are_told_before_the_first_cycle(finding, verdict):
    assert finding.verdict == verdict, finding.message


@given(st.integers(1, 200), st.floats(0, 0.5), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_policy_is_judged_whatever_its_limits(count, floor, cap, step):
    assert policy(count, floor=floor, cap=cap, step=step).verdict in {"ok", "warning", "error"}


def test_months_without_a_table_partition_are_named_also_at_the_end_of_a_year():
    december = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert validation.judge_months(["202612", "202701"], december).verdict == "ok"
    finding = validation.judge_months(["202612"], december)
    assert finding.verdict == "warning"
    assert "202701" in finding.message
    assert validation.judge_months([], december).verdict == "warning"


def test_partitions_that_begin_in_the_future_or_are_too_many_are_told():
    assert validation.judge_start(NOW - timedelta(days=30), NOW).verdict == "ok"
    assert validation.judge_start(NOW + timedelta(hours=6), NOW).verdict == "error"
    assert validation.judge_start(NOW - timedelta(days=700), NOW).verdict == "warning"


@pytest.mark.parametrize(("age", "verdict"), [(0.5, "ok"), (6, "warning"), (None, "warning")])
def test_a_daemon_that_does_not_run_is_a_warning_since_it_may_be_started_later(age, verdict):
    newest = None if age is None else NOW - timedelta(minutes=age)
    assert validation.judge_heartbeat(newest, NOW).verdict == verdict


def test_token_files_that_others_can_read_are_an_error_and_a_shared_folder_a_warning():
    assert validation.judge_private_files({}).verdict == "ok"
    assert validation.judge_private_files({"a": 0o100600}).verdict == "ok"
    finding = validation.judge_private_files({"a": 0o100600, "b": 0o100640})
    assert finding.verdict == "error"
    assert "chmod 600 b" in finding.action
    assert validation.judge_home_mode("/x", 0o40755).verdict == "ok"
    assert validation.judge_home_mode("/x", 0o40775).verdict == "warning"


def test_clocks_that_differ_in_either_direction_are_told():
    for seconds, verdict in ((0, "ok"), (59, "ok"), (61, "warning"), (-61, "warning")):
        assert validation.judge_clock(timedelta(seconds=seconds)).verdict == verdict


def test_everything_that_is_not_ok_says_what_to_do():
    found = validation.Validation(
        (
            policy(cap=0.05),
            validation.judge_months([], NOW),
            validation.judge_privileges({"genopt.outcomes": ["INSERT"]}),
            validation.skipped("source", "no database"),
        )
    )
    assert [item.check for item in found.errors] == ["policy", "privileges"]
    assert [item.check for item in found.warnings] == ["table_partitions"]
    assert all(item.action for item in (*found.errors, *found.warnings))
    assert found.as_dict()["valid"] is False
