import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.core.cases import propose_case

CASES = Path(__file__).parents[1] / "data" / "exponential_cases.jsonl"


def _cases():
    return [json.loads(line) for line in CASES.read_text().splitlines()]


def _row(name, posts=20, followers=40, impressions=20_000, viral=0, failed=0, **more):
    return {
        "name": name,
        "total_posts": posts,
        "total_followers_gained": followers,
        "total_impressions": impressions,
        "f_per_1k": 1000 * followers / impressions if impressions else 0.0,
        "viral_posts": viral,
        "failed_posts": failed,
        "status": "active",
        **more,
    }


def _case(rows, current=None, **config):
    current = current or {row["name"]: 1 / len(rows) for row in rows}
    return {"id": "c1", "performance": rows, "current": current, "config": config}


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["id"])
def test_unrounded_weights_are_those_recorded_where_no_guard_binds(case):
    answer = propose_case(case, "exponential")
    assert answer["id"] == case["id"]
    assert answer["unrounded_weights"] == pytest.approx(case["expected"], rel=0, abs=1e-9)
    assert sum(round(weight * 10_000) for weight in answer["weights"].values()) == 10_000


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**6),
    st.integers(10**300, 10**310),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=2),
)
sane = st.integers(0, 10_000)


@st.composite
def lines(draw):
    """A case whose values may be anything at all, and often make sense."""
    n = draw(st.integers(0, 6))
    names = [f"g{k}" for k in range(n)]
    rows = []
    for name in names:
        posts = draw(st.integers(0, 40))
        impressions = draw(sane) if posts else 0
        followers = draw(st.integers(-20, 200)) if impressions else 0
        row = _row(name, posts, followers, impressions, draw(st.integers(0, posts)), 0)
        row["status"] = draw(st.sampled_from(["active", "active", "testing", "disabled"]))
        row["locked"] = draw(st.sampled_from([False, False, False, True]))
        rows.append(row)
    current = {name: draw(st.sampled_from([0.0, 0.01, 0.2, 0.5, 1 / 3])) for name in names}
    config = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "aggressiveness": st.sampled_from([0.1, 0.3, 0.9]),
                "min_weight": st.sampled_from([0.0, 0.02, 0.1, 0.4]),
                "exploration_rate": st.sampled_from([0.0, 0.15, 1.0]),
                "min_posts_for_optimization": st.sampled_from([1, 3, 20]),
            },
        )
    )
    case = {"id": draw(st.text(max_size=3)), "performance": rows, "current": current}
    case["config"] = config
    for _ in range(draw(st.integers(0, 2))):
        target = draw(st.sampled_from(["row", "row", "current", "config", "top"]))
        value = draw(anything)
        if target == "row" and rows:
            row = draw(st.sampled_from(rows))
            row[draw(st.sampled_from(sorted(row)))] = value
        elif target == "current" and current:
            current[draw(st.sampled_from(names))] = value
        elif target == "config":
            config[draw(st.sampled_from(["aggressiveness", "min_weight", "other"]))] = value
        elif target == "top":
            case[draw(st.sampled_from(["performance", "current", "config"]))] = value
    return case


@pytest.mark.parametrize("policy", ["exponential", "thompson"])
@given(case=lines())
@settings(max_examples=250, deadline=None)
def test_any_line_at_all_gives_the_guarantees_or_an_error_with_words(policy, case):
    answer = propose_case(case, policy)
    json.dumps(answer, allow_nan=False)
    if "error" in answer:
        assert set(answer) == {"id", "error"}
        assert len(answer["error"]) > 10
        return
    status = {row["name"]: row["status"] for row in case["performance"]}
    locked = {row["name"]: row["locked"] for row in case["performance"]}
    units = {name: round(weight * 10_000) for name, weight in answer["weights"].items()}
    assert sum(units.values()) == 10_000
    assert set(units) == set(case["current"])
    for name, weight in answer["weights"].items():
        assert weight == units[name] / 10_000
        if status.get(name) == "disabled":
            assert weight == 0
        elif locked.get(name):
            assert answer["unrounded_weights"][name] == case["current"][name]
            assert abs(weight - case["current"][name]) <= 1e-4


@pytest.mark.parametrize("policy", ["exponential", "thompson"])
def test_one_bad_number_is_an_error_that_names_generator_and_field(policy):
    for key in ("total_posts", "total_impressions", "f_per_1k", "viral_posts"):
        for bad in (math.nan, math.inf, "7", True):
            rows = [_row("alpha"), _row("beta"), _row("gamma")]
            rows[1][key] = bad
            error = propose_case(_case(rows), policy)["error"]
            assert "beta" in error
            assert key in error


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"f_per_1k": 5.0}, "contradicts"),
        ({"failed_posts": 21}, "failed_posts"),
        ({"total_impressions": -1}, "negative"),
        ({"total_posts": 0}, "without a post"),
        ({"status": "paused"}, "status"),
        ({"locked": "yes"}, "locked"),
    ],
)
def test_contradictions_are_errors_that_name_the_generator(change, named):
    answer = propose_case(_case([_row("alpha"), _row("beta") | change]), "exponential")
    assert "beta" in answer["error"]
    assert named in answer["error"]


def test_a_negative_rate_is_a_rate_and_a_net_loss_over_ten_posts_is_failing():
    rows = [_row("loser", 12, -30), _row("b", followers=60), _row("c", followers=50)]
    answer = propose_case(_case(rows), "exponential")
    assert "failing" in {c["generator"]: c["reason"] for c in answer["changes"]}["loser"]


def test_duplicate_unknown_and_missing_rows():
    assert (
        "twice" in propose_case(_case([_row("a"), _row("a")], {"a": 1.0}), "exponential")["error"]
    )
    unknown = propose_case(_case([_row("a"), _row("b")], {"a": 1.0}), "exponential")
    assert "b" in unknown["error"]
    missing = propose_case(_case([_row("a")], {"a": 0.5, "b": 0.5}), "exponential")
    assert missing["weights"] == {"a": 0.5, "b": 0.5}


def test_infeasible_locks_are_an_error_that_names_them():
    rows = [_row("alpha", locked=True), _row("beta", locked=True), _row("gamma")]
    answer = propose_case(_case(rows, {"alpha": 0.7, "beta": 0.6, "gamma": 0.1}), "exponential")
    assert "alpha" in answer["error"]
    assert "beta" in answer["error"]


def test_unknown_settings_are_an_error_and_a_step_beyond_the_limit_is_cut_with_a_warning():
    rows = [_row("a", followers=10), _row("b", followers=90)]
    assert "min_wieght" in propose_case(_case(rows, min_wieght=0.1), "exponential")["error"]
    fast = propose_case(_case(rows, aggressiveness=0.9), "exponential")
    assert fast["weights"] == propose_case(_case(rows), "exponential")["weights"]
    assert any("aggressiveness" in warning for warning in fast["warnings"])


def test_the_order_of_rows_changes_nothing():
    for case in _cases()[:10]:
        for policy in ("exponential", "thompson"):
            other = {
                **case,
                "performance": case["performance"][::-1],
                "current": dict(reversed(case["current"].items())),
            }
            assert propose_case(other, policy) == propose_case(case, policy)
