"""What a policy captures when it learns from the account's follower count alone.

Run: python benchmarks/attributed_policies.py EXPOSURE WORLD[,WORLD…] [ACCOUNTS [POLICY…]], EXPOSURE
being impressions or profile_clicks, with a + to take every credited follower for a counted one
(profile_clicks+). Adds its rows to results/attributed_policies.json. About 20 seconds of CPU an
account and world.
"""

import json
import sys
from pathlib import Path
from typing import cast, get_args

from genopt_pipeline.sandbox.attributed import ExposureSource, from_deltas
from genopt_pipeline.sandbox.simulate import simulate

RESULT = Path(__file__).parent / "results" / "attributed_policies.json"
DAYS = 90
SEED = 1


def main() -> None:
    """Simulate, print and store."""
    exposure, worlds = sys.argv[1].removesuffix("+"), sys.argv[2].split(",")
    use_information = not sys.argv[1].endswith("+")
    if exposure not in get_args(ExposureSource):
        sys.exit(f"exposure must be one of {', '.join(get_args(ExposureSource))}")
    accounts = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    policies = sys.argv[4:] or ["thompson"]
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else []
    for world in worlds:
        result = simulate(
            [world],
            policies,
            accounts=accounts,
            days=DAYS,
            seed=SEED,
            feedback_for=from_deltas(
                cast("ExposureSource", exposure), use_information=use_information
            ),
        )
        frame = result.frame
        kept = frame[frame["day"].isin((30, DAYS)) & (frame["policy"] != "oracle")].round(4)
        rows = [
            {
                "exposure": exposure,
                "information": use_information,
                "accounts": accounts,
                "seed": SEED,
                **row,
            }
            for row in json.loads(kept.to_json(orient="records"))
        ]
        key = ("exposure", "information", "world", "policy", "day")
        new = {tuple(row[name] for name in key) for row in rows}
        stored = [row for row in stored if tuple(row[name] for name in key) not in new] + rows
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(stored, indent=1) + "\n")
        for row in rows:
            print(
                exposure, *(row[n] for n in ("world", "policy", "day", "captured", "low", "high"))
            )


if __name__ == "__main__":
    main()
