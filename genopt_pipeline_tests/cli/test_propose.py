"""``genopt propose`` on anything that can be in a file: the guarantees, or an error with words."""

import contextlib
import io
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_pipeline.cli import decide
from genopt_pipeline.cli.common import CommandError

UNITS = 10_000


def propose(content, policy="exponential"):
    """The answers of the command on a file, and its exit code."""
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        code = 0
        with contextlib.redirect_stdout(out):
            try:
                decide.propose(path, policy=policy)
            except SystemExit as exited:
                code = exited.code
    lines = out.getvalue().splitlines()
    for line in lines:
        line.encode()  # what cannot be encoded cannot be printed
    return [json.loads(line, parse_constant=pytest.fail) for line in lines], code


@st.composite
def big_cases(draw):
    """A case of 1 to 200 generators with any states, counts, locks and settings that make sense."""
    n = draw(st.integers(1, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = np.round(rng.dirichlet(np.full(n, draw(st.sampled_from([0.2, 1.0, 10.0])))), 4)
    status = rng.choice(["active", "testing", "disabled", "archived"], n, p=[0.8, 0.1, 0.05, 0.05])
    locked = rng.random(n) < draw(st.sampled_from([0.0, 0.05, 0.3]))
    posts = rng.integers(0, draw(st.sampled_from([2, 30])) + 1, n)
    impressions = np.where(posts > 0, rng.integers(0, 5000, n), 0)
    followers = np.where(impressions > 0, rng.integers(-50, 200, n), 0)
    rows = [
        {
            "name": f"g{k:03d}",
            "total_posts": int(posts[k]),
            "total_followers_gained": int(followers[k]),
            "total_impressions": int(impressions[k]),
            "f_per_1k": 1000 * int(followers[k]) / int(impressions[k]) if impressions[k] else 0,
            "viral_posts": int(rng.integers(0, posts[k] + 1)),
            "failed_posts": int(rng.integers(0, posts[k] + 1)),
            "status": str(status[k]),
            "locked": bool(locked[k]),
        }
        for k in range(n)
        if rng.random() < draw(st.sampled_from([1.0, 0.9]))  # some rows are missing
    ]
    config = {
        "min_weight": draw(st.sampled_from([0.0, 0.01, 0.02, 0.1, 0.5])),
        "aggressiveness": draw(st.sampled_from([0.01, 0.3, 1.0])),
        "exploration_rate": draw(st.sampled_from([0.0, 0.15, 1.0])),
    }
    current = {f"g{k:03d}": float(weights[k]) for k in range(n)}
    return {"id": "c", "performance": rows, "current": current, "config": config}


@pytest.mark.parametrize("policy", ["exponential", "thompson"])
@given(case=big_cases())
@settings(max_examples=40, deadline=None)
def test_one_to_two_hundred_generators_get_every_guarantee_or_an_error(policy, case):
    (answer,), code = propose(json.dumps(case), policy)
    rows = {row["name"]: row for row in case["performance"]}
    status = {name: rows.get(name, {}).get("status", "active") for name in case["current"]}
    drawn = [name for name in status if status[name] in {"active", "testing"}]
    locked = [name for name in drawn if rows.get(name, {}).get("locked")]
    if "error" in answer:
        assert code == 1
        assert any(name in answer["error"] for name in locked) or "no generator" in answer["error"]
        return
    assert code == 0
    units = {name: round(weight * UNITS) for name, weight in answer["weights"].items()}
    assert sum(units.values()) == UNITS
    assert all(weight == units[name] / UNITS for name, weight in answer["weights"].items())
    floor = min(case["config"]["min_weight"], 1 / (2 * len(drawn)))
    room = UNITS - sum(units[name] for name in locked)
    free = [name for name in drawn if name not in locked]
    give = int(len(free) * math.ceil(floor * UNITS - 1e-6) > room)
    for name in status:
        if name not in drawn:
            assert units[name] == 0
        elif name in locked:
            assert answer["unrounded_weights"][name] == case["current"][name]
            assert answer["weights"][name] == case["current"][name] or not free
        else:
            assert answer["unrounded_weights"][name] >= floor - 1e-12
            assert units[name] >= math.ceil(floor * UNITS - 1e-6) - give
    changed = {change["generator"] for change in answer["changes"]}
    assert changed == {
        name for name in status if abs(answer["weights"][name] - case["current"][name]) > 1e-9
    }


@given(case=big_cases(), smaller=st.sampled_from([0.05, 0.1, 0.2]))
@settings(max_examples=40, deadline=None)
def test_a_smaller_step_goes_no_further_and_none_beyond_the_limit(case, smaller):
    def way(aggressiveness):
        config = case["config"] | {"aggressiveness": aggressiveness}
        (answer,), _ = propose(json.dumps(case | {"config": config}))
        if "error" in answer:
            return None
        # from the weights in force as far as they are feasible: a step of almost nothing
        config["aggressiveness"] = 1e-9
        (base,), _ = propose(json.dumps(case | {"config": config}))
        names = sorted(case["current"])
        return np.linalg.norm(
            [answer["unrounded_weights"][name] - base["unrounded_weights"][name] for name in names]
        )

    limit = way(0.3)
    if limit is None:
        return
    assert way(smaller) <= limit + 1e-6
    assert way(1.0) == pytest.approx(limit, abs=1e-9)
    # projection does not expand: no step is longer than its share of the longest way there is
    assert limit <= 0.3 * math.sqrt(2) + 1e-6


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["7", "1e3", "active", "g000"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("policy", ["exponential", "thompson"])
@given(case=big_cases(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_anything_in_place_of_a_value_is_an_error_or_keeps_the_sum(policy, case, data):
    places = ["id", "performance", "current", "config"]
    place = data.draw(st.sampled_from([*places, "row", "weight", "extra"]))
    value = data.draw(values)
    if place == "row" and case["performance"]:
        row = data.draw(st.sampled_from(case["performance"]))
        row[data.draw(st.sampled_from(sorted(row)))] = value
    elif place == "weight":
        case["current"][data.draw(st.sampled_from(sorted(case["current"])))] = value
    elif place == "extra" and case["performance"]:
        case["performance"].append(dict(case["performance"][0]))  # a row given twice
    elif place in places:
        case[place] = value
    (answer,), code = propose(json.dumps(case), policy)
    if "error" in answer:
        assert code == 1
        assert len(answer["error"]) > 10
    else:
        assert code == 0
        assert sum(round(weight * UNITS) for weight in answer["weights"].values()) == UNITS


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_file_of_any_bytes_is_answered_line_by_line_or_refused_as_a_whole(content):
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        with pytest.raises(CommandError, match="not a UTF-8 text"):
            propose(content)
        return
    answers, code = propose(content)
    lines = [line for line in content.decode("utf-8-sig").split("\n") if line.strip()]
    assert len(answers) == len(lines)
    assert code == (1 if answers else 0)
    assert all(answer["error"].startswith("line ") for answer in answers if answer["id"] is None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 1, "current": {"a": 0.5, "a": 0.7}}', "'a' twice"),
        ('{"id": 1, "id": 2}', "'id' twice"),
        ('{"id": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"id": "x", "performance": [], "current": {}}', "no generators"),
        ('{"id": "x", "performance": [], "current": {"\\ud800": 1.5}, "config": 3}', "config"),
    ],
)
def test_a_line_that_is_no_case_is_an_error_of_its_own(line, said):
    good = {"id": "good", "performance": [], "current": {"a": 0.5, "b": 0.5}}
    answers, code = propose(f"{line}\n{json.dumps(good)}\n")
    assert code == 1
    assert said in answers[0]["error"]
    assert answers[1]["weights"] == {"a": 0.5, "b": 0.5}


def test_a_name_that_no_encoding_has_is_printed_escaped():
    line = '{"id": "x", "performance": [], "current": {"\\ud800": 0.5, "é": 0.5}}'
    answers, code = propose(line)
    assert code == 0
    assert answers[0]["weights"] == {"\ud800": 0.5, "é": 0.5}
