"""What bounds the policies: who knows the best, who knows the world, and three single questions.

Run: python benchmarks/limits.py [ACCOUNTS [SEED]]. Writes results/limits.json:

- ``limits``: the share of the gap captured by a policy that knows the best generator but is held by
  the same gate, step and floor, and by ``thompson`` told how its world was made (spread,
  dispersion, lag, and whether and how rates change), so that it has only the rates to learn;
- ``null``: how long one of twelve equal generators holds more than 40 % of the weight;
- ``objective``: followers earned by seeking followers per post, where reach differs;
- ``common``: what dividing out good days is worth in the world of shocks.

About two minutes of CPU.
"""

import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genopt_pipeline.core.estimation import EstimationConfig, PostBatch
from genopt_pipeline.sandbox.contenders import CONTENDERS, Contender, TargetRule, thompson
from genopt_pipeline.sandbox.loop import account_seeds, run_loop, step_rates
from genopt_pipeline.sandbox.simulate import ratio_of_sums, simulate
from genopt_pipeline.sandbox.world import WORLDS, World

RESULT = Path(__file__).parent / "results" / "limits.json"
DAYS = 90
STEPS_PER_DAY = 4

#: Rates with a log sd of 0.5 have this coefficient of variation.
_SPREAD = math.sqrt(math.expm1(0.25))
_TOLD = EstimationConfig(
    followers_hours=11.0,
    followers_hours_scale=1e-3,
    spread_grid=(_SPREAD,),
    dispersion_posts=1e9,
    common_margin=1e9,
    hazard_per_day=0.0,
    half_life_days=1e6,
    horizon_days=DAYS + 1.0,
    drift_days=(),
)
TOLD = {
    "stationary": _TOLD,
    "sparse": _TOLD,
    "drift": replace(_TOLD, drift_days=(60.0,), drift_probability=1.0 - 1e-9),
}


def knows_best(world: World, accounts: int, seed: int) -> TargetRule:
    """All but the exploration to the best generator of each step, for one run of one world."""
    rates, exists = step_rates(world, account_seeds(seed, accounts), DAYS)
    steps = itertools.count(1)

    def targets(_: PostBatch, present: Any) -> Any:
        step = next(steps)
        shares = 0.15 * present / present.sum(axis=1, keepdims=True)
        best = np.where(exists[step], rates[:, step], -np.inf).argmax(axis=1)
        shares[np.arange(len(shares)), best] += 0.85
        return shares, np.ones(len(shares), dtype=np.bool_)

    return targets


def limits(accounts: int, seed: int) -> list[dict[str, Any]]:
    """Rows of world, policy, day, captured, low, high."""
    rows: list[dict[str, Any]] = []
    for name, config in TOLD.items():
        world = WORLDS[name]
        contenders = [
            Contender("knows the best", knows_best(world, accounts, seed)),
            Contender("knows the world", thompson(estimation=config)),
            CONTENDERS["thompson"],
        ]
        frame = simulate([world], contenders, accounts=accounts, days=DAYS, seed=seed).frame
        kept = frame[frame["day"].isin([30, DAYS]) & (frame["policy"] != "oracle")]
        columns = ["world", "policy", "day", "captured", "low", "high"]
        rows += json.loads(kept[columns].round(4).to_json(orient="records"))
    return rows


def null(accounts: int, seed: int) -> dict[str, Any]:
    """Share of time above 40 %, and the longest run of it in days: median, 9th decile, longest."""
    result = {}
    for policy in ("thompson", "best_takes_all"):
        track = run_loop(
            WORLDS["null"], CONTENDERS[policy], seeds=account_seeds(seed, accounts), days=DAYS
        )
        above = track.weights.max(axis=2) > 0.4
        longest = [
            max((len(list(run)) for high, run in itertools.groupby(row) if high), default=0)
            for row in above
        ]
        days = np.quantile(longest, [0.5, 0.9, 1.0]) / STEPS_PER_DAY
        result[policy] = {
            "share_above_40": round(float(above.mean()), 4),
            "share_above_40_last_30_days": round(float(above[:, -120:].mean()), 4),
            "longest_run_days": [round(float(x), 2) for x in days],
        }
    return result


def objective(accounts: int, seed: int) -> list[dict[str, Any]]:
    """Followers earned in 60 days under each objective, where reach differs between generators."""
    rows = []
    seeds = account_seeds(seed, accounts)
    for spread in (0.0, 0.5):
        world = replace(WORLDS["stationary"], name=f"reach {spread:g}", reach_spread=spread)
        one, other = (
            run_loop(world, Contender(name, thompson(objective=name)), seeds=seeds, days=60).follows
            for name in ("f_per_1k", "followers_per_post")
        )
        gain = ratio_of_sums(other - one, one)
        rows.append(
            {"reach_spread": spread}
            | {k: round(v, 4) for k, v in zip(("gain", "low", "high"), gain, strict=True)}
        )
    return rows


def common(accounts: int, seed: int) -> list[dict[str, Any]]:
    """Share captured in the world of shocks, with and without the factor of days."""
    blind = Contender("days left in", thompson(estimation=EstimationConfig(common_margin=1e9)))
    frame = simulate(["shocks"], [blind], accounts=accounts, days=DAYS, seed=seed).frame
    kept = frame[frame["day"].isin([30, DAYS]) & (frame["policy"] != "oracle")]
    columns = ["world", "policy", "day", "captured", "low", "high"]
    rows: list[dict[str, Any]] = json.loads(kept[columns].round(4).to_json(orient="records"))
    return rows


def main() -> None:
    """Measure and store."""
    accounts, seed = [*(int(a) for a in sys.argv[1:3]), *[128, 1][len(sys.argv[1:3]) :]]
    found = {
        "accounts": accounts,
        "seed": seed,
        "limits": limits(accounts, seed),
        "null": null(accounts, seed),
        "objective": objective(accounts, seed),
        "common": common(accounts, seed),
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
