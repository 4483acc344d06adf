"""How well each way of knowing tells what learned weights are worth: the table of engine.md.

Run: python benchmarks/evaluation.py [ACCOUNTS]. Simulated accounts learn for 60 days (true
follows, ``thompson``); then 450 posts each, a tenth of them drawn by the default weights, say what
the learned weights earn beyond the default ones. Writes results/evaluation.json and prints the
table; half a minute of CPU.
"""

import json
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from genopt_pipeline.core.appraisal import DrawCount, appraise, check_draws
from genopt_pipeline.core.evaluation import Uplift
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.policies import GeneratorState
from genopt_pipeline.sandbox.contenders import CONTENDERS
from genopt_pipeline.sandbox.loop import account_seeds, run_loop, step_rates
from genopt_pipeline.sandbox.world import WORLDS

RESULTS = Path(__file__).parent / "results"
NAMES = tuple(DEFAULT_WEIGHTS)
DEFAULTS = np.array([*DEFAULT_WEIGHTS.values()])
NOW = datetime(2026, 6, 1, tzinfo=UTC)
POSTS, HOLDOUT, DAYS = 450, 0.1, 60


def posts_of(
    rng: np.random.Generator, rates: np.ndarray, weights: np.ndarray
) -> tuple[pd.DataFrame, list[DrawCount]]:
    """Mature posts of 30 days as the worlds make them, and the counts of their draws."""
    held = rng.random(POSTS) < HOLDOUT
    drawn = np.where(
        held,
        rng.choice(len(NAMES), POSTS, p=DEFAULTS),
        rng.choice(len(NAMES), POSTS, p=weights / weights.sum()),
    )
    impressions = np.round(rng.lognormal(math.log(1000), 1.0, POSTS))
    frailty = rng.gamma(1 / 0.7, 0.7, POSTS)
    arm = np.where(held, "holdout", "control")
    frame = pd.DataFrame(
        {
            "post_id": [f"p{i}" for i in range(POSTS)],
            "generator_name": [NAMES[g] for g in drawn],
            # five days old and more: all that they will earn has come
            "posted_at": [NOW - timedelta(days=5 + 30 * i / POSTS) for i in range(POSTS)],
            "experiment_arm": arm,
            "selection_probability": np.where(held, DEFAULTS[drawn], weights[drawn]),
            "impressions": impressions,
            "followers": rng.poisson(impressions * frailty * rates[drawn] / 1000).astype(float),
        }
    )
    grouped = frame.groupby(["experiment_arm", "generator_name"]).size()
    return frame, [DrawCount(1, a, g, int(n)) for (a, g), n in grouped.items()]


def main() -> None:
    """Learn, draw, appraise, compare with the truth."""
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seeds = account_seeds(11, accounts)
    world = WORLDS["stationary"]
    track = run_loop(world, CONTENDERS["thompson"], seeds=seeds, days=DAYS)
    rates = step_rates(world, seeds, DAYS)[0][:, -1]
    rng = np.random.default_rng(5)
    errors: dict[str, list[float]] = {"holdout": [], "from posts": [], "model": []}
    covered: dict[str, list[bool]] = {"holdout": [], "value from posts": [], "model": []}
    mismatches = 0
    for account in range(accounts):
        weights = track.weights[account, -1]
        posts, counts = posts_of(rng, rates[account], weights)
        by_name = {name: float(w) for name, w in zip(NAMES, weights, strict=True)}
        draws = check_draws(counts, {1: by_name}, DEFAULT_WEIGHTS)
        mismatches += draws.is_mismatch
        found = appraise(
            posts,
            {name: GeneratorState(w) for name, w in by_name.items()},
            {},
            default=DEFAULT_WEIGHTS,
            draws=draws,
            now=NOW,
            days=40,
        )
        values = float(weights @ rates[account]), float(DEFAULTS @ rates[account])
        truth = math.log(values[0] / values[1])
        in_force, default = found.of("in_force"), found.of("default")
        assert in_force is not None
        assert default is not None
        for name, uplift in (("holdout", found.holdout), ("model", in_force.over_default)):
            errors[name].append(math.log1p(known(uplift.gain)) - truth)
            covered[name].append(holds(uplift, values[0] / values[1] - 1))
        told = known(in_force.off_policy.f_per_1k) / known(default.off_policy.f_per_1k)
        errors["from posts"].append(math.log(told) - truth)
        for worth, value in zip((in_force, default), values, strict=True):
            low, high = worth.off_policy.low, worth.off_policy.high
            covered["value from posts"].append(known(low) <= value <= known(high))
    table = {
        "accounts": accounts,
        "rmse_log_uplift": {name: rms(values) for name, values in errors.items()},
        "bias_log_uplift": {name: float(np.mean(values)) for name, values in errors.items()},
        "share_of_90_intervals_that_hold": {k: float(np.mean(v)) for k, v in covered.items()},
        "false_alarms_of_the_draw": mismatches,
    }
    print(json.dumps(table, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evaluation.json").write_text(json.dumps(table, indent=1) + "\n")


def known(value: float | None) -> float:
    """A number that must be known here."""
    assert value is not None
    return value


def holds(uplift: Uplift, truth: float) -> bool:
    """Whether an interval holds the truth."""
    return known(uplift.low) <= truth <= known(uplift.high)


def rms(values: list[float]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    main()
