"""What each policy earns in every world, with true follows known: the table of simulation.md.

Run: python benchmarks/policies.py [ACCOUNTS [DAYS [SEED]]]. Writes results/policies.json (a row
for each world, policy and day of the table) and, with the default settings, the figure of
``docs/engine/simulation.md``; prints the tables. About five minutes of CPU.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from genopt_pipeline.sandbox.simulate import SimulationResult, simulate
from genopt_pipeline.sandbox.world import WORLDS

RESULTS = Path(__file__).parent / "results"
FIGURE = Path(__file__).parents[1] / "docs/engine/figures/captured_by_week.svg"
COLOURS = {"exponential": "#cc6633", "best_takes_all": "#888888", "thompson": "#3366cc"}
FIGURE_WORLDS = ("stationary", "switch", "sparse")
POLICIES = ("uniform", "default", "exponential", "best_takes_all", "thompson")


def draw(result: SimulationResult) -> None:
    """Share of the gap captured in each week, a panel a world, as SVG."""
    width, height, left, top = 260, 200, 42, 40
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{3 * (width + left) + 20}" '
            'height="300" font-family="sans-serif" font-size="12">'
        ),
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for panel, world in enumerate(FIGURE_WORLDS):
        x0, bottom = left + panel * (width + left), top + height
        lines.append(f'<text x="{x0 + width / 2}" y="24" text-anchor="middle">{world}</text>')
        for tick in (0.0, 0.5, 1.0):
            y = bottom - tick * height
            lines.append(f'<path d="M{x0} {y}h{width}" stroke="#ddd"/>')
            lines.append(f'<text x="{x0 - 5}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
        for day in (0, 30, 60, 90):
            x = x0 + width * day / 90
            lines.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{day}</text>')
        here = result.frame[(result.frame["world"] == world)]
        by_policy = {
            name: rows["f_per_1k_week"].to_numpy() for name, rows in here.groupby("policy")
        }
        low, high = by_policy["uniform"], by_policy["oracle"]
        for name, colour in COLOURS.items():
            share = (by_policy[name] - low) / (high - low)
            points = " ".join(
                f"{x0 + width * (day + 1) / 90:.1f},{bottom - height * value:.1f}"
                for day, value in enumerate(share)
                if day >= 6
            )
            lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = left + number * 160
        lines.append(f'<path d="M{x} 283h20" stroke="{colour}" stroke-width="3"/>')
        lines.append(f'<text x="{x + 26}" y="287">{name}</text>')
    lines.append('<text x="540" y="287">day; the share of the gap in the seven days before</text>')
    FIGURE.write_text("\n".join([*lines, "</svg>", ""]))


def main() -> None:
    """Simulate, print and store."""
    defaults = [128, 90, 1]
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
    if len(sys.argv) == 1:
        draw(result)
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
