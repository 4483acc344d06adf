"""What each policy earns in every world, with true follows known: the table of simulation.md.

Run: python benchmarks/policies.py [ACCOUNTS [DAYS [SEED]]]. Writes results/policies.json (a row
for each world, policy and day of the table) and prints the tables. About five minutes of CPU.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from genopt_pipeline.sandbox.simulate import simulate
from genopt_pipeline.sandbox.world import WORLDS

RESULTS = Path(__file__).parent / "results"
POLICIES = ("uniform", "default", "exponential", "best_takes_all", "thompson")


def main() -> None:
    """Simulate, print and store."""
    defaults = [64, 90, 1]
    given = [int(argument) for argument in sys.argv[1:4]]
    accounts, days, seed = given + defaults[len(given) :]
    result = simulate(
        list(WORLDS),
        POLICIES,
        accounts=accounts,
        days=days,
        seed=seed,
        progress=lambda share: print(f"\r{share:4.0%}", end="", file=sys.stderr),
    )
    pd.set_option("display.width", 200, "display.max_columns", 20)
    shown = [day for day in (30, 90) if day <= days]
    for day in shown:
        print(f"\nshare of the oracle-over-uniform gap captured in {day} days, {accounts} accounts")
        for value in ("captured", "low", "high"):
            print(f"{value}\n{result.table(day, value).round(3)}")
    print(f"\nshare of time with more than 40 %\n{result.table(days, 'share_above_40').round(3)}")
    kept = result.frame[result.frame["day"].isin(shown)].round(4)
    document = {
        "accounts": accounts,
        "days": days,
        "seed": seed,
        "results": json.loads(kept.to_json(orient="records")),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "policies.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
