"""What a policy captures when it learns from the account's follower count alone.

Run: python benchmarks/attributed_policies.py EXPOSURE WORLD [WORLD …] [--accounts 52] [--workers 1]
[--ignore-information] [--policy thompson], EXPOSURE being impressions or profile_clicks. Adds its
rows to results/attributed_policies.json. About 4 seconds of CPU an account and world; accounts are
independent, so the result does not depend on the number of workers.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from genopt_pipeline.core.attribution.frames import FloatArray
from genopt_pipeline.core.guards import GuardConfig
from genopt_pipeline.sandbox.attributed import ExposureSource, from_deltas
from genopt_pipeline.sandbox.contenders import CONTENDERS
from genopt_pipeline.sandbox.loop import (
    STEP_HOURS,
    account_seeds,
    oracle_value,
    run_loop,
    step_rates,
    uniform_value,
)
from genopt_pipeline.sandbox.simulate import ratio_of_sums
from genopt_pipeline.sandbox.world import HOURS_PER_DAY, WORLDS

RESULT = Path(__file__).parent / "results" / "attributed_policies.json"
DAYS = (30, 60, 90)
SEED = 1
ACCOUNTS_AT_ONCE = 4


def earned(
    exposure: ExposureSource, information: bool, policy: str, world_name: str, accounts: range
) -> FloatArray:
    """By the end of each of ``DAYS``, (4, days, accounts).

    F/1K summed, of the policy, of uniform weights, of the oracle; and the share of time in which
    a generator had more than 40 % of the weight.
    """
    world = WORLDS[world_name]
    seeds = account_seeds(SEED, len(accounts), first=accounts.start)
    rates, exists = step_rates(world, seeds, DAYS[-1])
    track = run_loop(
        world,
        CONTENDERS[policy],
        seeds=seeds,
        days=DAYS[-1],
        feedback=from_deltas(exposure, use_information=information)(world, seeds),
    )
    values = (track.value, uniform_value(rates, exists), oracle_value(rates, exists, GuardConfig()))
    last = [round(day * HOURS_PER_DAY / STEP_HOURS) - 1 for day in DAYS]
    sums = [np.cumsum(value, axis=1)[:, last].T for value in values]
    above = (
        np.cumsum(track.weights.max(axis=2) > 0.4, axis=1)[:, last].T
        / (np.array(last) + 1)[:, None]
    )
    return np.array([*sums, above])


def main() -> None:
    """Simulate, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exposure", choices=get_args(ExposureSource))
    parser.add_argument("worlds", nargs="+", choices=list(WORLDS))
    parser.add_argument("--accounts", type=int, default=52)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--policy", default="thompson", choices=list(CONTENDERS))
    parser.add_argument("--ignore-information", action="store_true")
    given = parser.parse_args()
    pieces = [
        range(first, min(first + ACCOUNTS_AT_ONCE, given.accounts))
        for first in range(0, given.accounts, ACCOUNTS_AT_ONCE)
    ]
    for world in given.worlds:
        simulate = partial(
            earned,
            cast("ExposureSource", given.exposure),
            not given.ignore_information,
            given.policy,
            world,
        )
        with ProcessPoolExecutor(given.workers) as pool:
            found = np.concatenate(list(pool.map(simulate, pieces)), axis=2)
        store(rows(found, given, world))


def rows(found: FloatArray, given: argparse.Namespace, world: str) -> list[dict[str, Any]]:
    """One row a day: the share of the gap captured, with its interval over accounts."""
    policy, uniform, oracle, above = found
    result = []
    for number, day in enumerate(DAYS):
        captured = ratio_of_sums(policy[number] - uniform[number], oracle[number] - uniform[number])
        result.append(
            {
                "exposure": given.exposure,
                "information": not given.ignore_information,
                "world": world,
                "policy": given.policy,
                "day": day,
                "captured": round(captured[0], 4),
                "low": round(captured[1], 4),
                "high": round(captured[2], 4),
                "share_above_40": round(float(above[number].mean()), 4),
                "accounts": given.accounts,
                "seed": SEED,
                "command": "python benchmarks/attributed_policies.py " + " ".join(sys.argv[1:]),
            }
        )
    return result


def store(new: Sequence[dict[str, Any]]) -> None:
    """Replace the rows of the same exposure, world, policy and day."""
    key = ("exposure", "information", "world", "policy", "day")
    same = {tuple(row[name] for name in key) for row in new}
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else []
    stored = [row for row in stored if tuple(row[name] for name in key) not in same]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps([*stored, *new], indent=1) + "\n")
    for row in new:
        print(*(row[name] for name in (*key, "captured", "low", "high")), flush=True)


if __name__ == "__main__":
    main()
