"""The user's expectation: from an F/1K of 1.5 to 2.0 to 2.5-4.0 in a month and 4.0-6.0 in three.

Accounts whose static mix earns an average F/1K of 1.5 to 2.0, and what each policy and the oracle
earn from there. Run: python benchmarks/expectation.py [ACCOUNTS]. Writes results/expectation.json.
About a minute of CPU.
"""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.guards import GuardConfig
from genopt_pipeline.sandbox.contenders import CONTENDERS
from genopt_pipeline.sandbox.loop import account_seeds, oracle_value, run_loop, step_rates
from genopt_pipeline.sandbox.world import WORLDS

RESULT = Path(__file__).parent / "results" / "expectation.json"
DAYS = 97  # a month ends on day 30, three on day 90; the week after each is what is earned then
POLICIES = ("default", "exponential", "best_takes_all", "thompson")
SPREADS = (0.3, 0.5, 0.8)
HOPES = {30: 2.5, 90: 4.0}


def main() -> None:
    """Simulate, print and store."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    defaults = np.array([*DEFAULT_WEIGHTS.values()])
    rows = []
    for spread in SPREADS:
        # the median that gives the mean mix 1.75: E[rate] = median * exp(spread^2 / 2)
        median = 1.75 / math.exp(spread**2 / 2)
        world = replace(WORLDS["stationary"], rate_spread=spread, median_f_per_1k=median)
        candidates = account_seeds(1, 12 * wanted)
        rates, exists = step_rates(world, candidates, DAYS)
        mix = rates[:, 0] @ defaults
        seeds = candidates[(mix >= 1.5) & (mix <= 2.0)][:wanted]
        if len(seeds) < wanted:
            sys.exit(f"only {len(seeds)} of {len(candidates)} accounts fit; raise the candidates")
        rates, exists = step_rates(world, seeds, DAYS)
        guards = GuardConfig()
        values = {
            name: run_loop(world, CONTENDERS[name], seeds=seeds, days=DAYS).value
            for name in POLICIES
        }
        values["oracle"] = oracle_value(rates, exists, guards)
        values["best generator alone"] = rates.max(axis=2)
        for name, value in values.items():
            for day, hope in HOPES.items():
                week = value[:, 4 * day : 4 * (day + 7)].mean(axis=1)
                error = 1.96 * week.std(ddof=1) / math.sqrt(len(week))
                row = {
                    "rate_spread": spread,
                    "policy": name,
                    "after_days": day,
                    "f_per_1k": round(float(week.mean()), 3),
                    "margin_95": round(float(error), 3),
                    "tenth_percentile": round(float(np.quantile(week, 0.1)), 3),
                    "ninetieth_percentile": round(float(np.quantile(week, 0.9)), 3),
                    "share_of_accounts_at_the_hope": round(float((week >= hope).mean()), 3),
                }
                rows.append(row)
                print(*row.values())
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"accounts": wanted, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
