"""The tables of docs/engine, made from the results of the benchmarks.

Run: python benchmarks/tables.py, after ``attribution.py``, ``policies.py``, ``limits.py``,
``expectation.py`` and ``attributed_policies.py``.
Replaces what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` for each table of that name.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs/engine"
WORLDS = ("stationary", "drift", "switch", "new_arm", "heavy_tail", "sparse", "dense", "shocks")

#: The reference simulation of the same description: share captured at 90 days (30 days).
REFERENCE = {
    "best_takes_all": ".80 (.74) .64 .65 .78 .60 .54 .86 .72",
    "exponential": ".41 (.37) .36 .35 .45 .35 .32 (.21) .51 .39",
    "thompson": ".92 (.80) .77 (.73) .73 .86 .88 .79 (.55) .96 .85",
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float, digits: int = 2) -> str:
    """Without a leading zero, as shares are written."""
    said = f"{value:.{digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", said)


def interval(row: dict[str, Any], middle: str = "captured") -> str:
    """A value with its interval."""
    return f"{number(row[middle])} [{number(row['low'])}, {number(row['high'])}]"


def policies(found: dict[str, Any]) -> str:
    """Share captured by each policy in each world, after 30 and 90 days."""
    at = {(r["policy"], r["world"], r["day"]): r for r in found["results"]}
    rows = [
        [f"{policy}, {day} days", *(interval(at[policy, world, day]) for world in WORLDS)]
        for day in (30, 90)
        for policy in ("default", "exponential", "best_takes_all", "thompson")
    ]
    return markdown(["policy", *WORLDS], rows)


def calibration(found: dict[str, Any]) -> str:
    """The same beside the reference, 30 days in brackets where the reference has them."""
    at = {(r["policy"], r["world"], r["day"]): r["captured"] for r in found["results"]}
    rows = []
    for policy, said in REFERENCE.items():
        cells = re.findall(r"\.\d\d(?: \(\.\d\d\))?", said)
        rows.append([f"{policy}, reference", *cells])
        rows.append(
            [
                f"{policy}, here",
                *(
                    number(at[policy, world, 90])
                    + (f" ({number(at[policy, world, 30])})" if "(" in cell else "")
                    for world, cell in zip(WORLDS, cells, strict=True)
                ),
            ]
        )
    return markdown(["", *WORLDS], rows)


def limits(found: dict[str, Any]) -> str:
    """What bounds the policies."""
    rows = [
        [r["world"], r["policy"], str(r["day"]), interval(r)]
        for r in found["limits"] + found["common"]
    ]
    return markdown(["world", "policy", "days", "captured"], rows)


def null(found: dict[str, Any]) -> str:
    """Unwarranted confidence where all generators are equal."""
    rows = [
        [
            policy,
            f"{r['share_above_40']:.1%}",
            f"{r['share_above_40_last_30_days']:.1%}",
            " / ".join(f"{days:g}" for days in r["longest_run_days"]),
        ]
        for policy, r in found["null"].items()
    ]
    head = ["policy", "time above 40 %", "in the last 30 days", "longest run, days"]
    return markdown([*head[:3], f"{head[3]}: median / 9th decile / longest"], rows)


def objective(found: dict[str, Any]) -> str:
    """What seeking followers per post is worth."""
    rows = [
        [f"{r['reach_spread']:g}", f"{r['gain']:+.1%} [{r['low']:+.1%}, {r['high']:+.1%}]"]
        for r in found["objective"]
    ]
    return markdown(["log sd of reach between generators", "followers gained in 60 days"], rows)


def expectation(found: dict[str, Any]) -> str:
    """F/1K after one and three months."""
    at = {(r["rate_spread"], r["policy"], r["after_days"]): r for r in found["results"]}
    rows = []
    for spread, policy in dict.fromkeys((key[0], key[1]) for key in at):
        month, three = at[spread, policy, 30], at[spread, policy, 90]
        rows.append(
            [
                f"{spread:g}",
                policy,
                f"{month['f_per_1k']:.2f} ± {month['margin_95']:.2f}",
                f"{month['share_of_accounts_at_the_hope']:.0%}",
                f"{three['f_per_1k']:.2f} ± {three['margin_95']:.2f}",
                f"{three['share_of_accounts_at_the_hope']:.0%}",
            ]
        )
    head = ["spread of log rates", "policy", "after a month", "accounts at 2.5"]
    return markdown([*head, "after three months", "accounts at 4.0"], rows)


def attributed(found: list[dict[str, Any]]) -> str:
    """What `thompson` captures from the follower count alone; null: how bold it is for nothing."""
    at = {(r["exposure"], r["world"], r["day"]): r for r in found if r["policy"] == "thompson"}
    days = sorted({day for _, _, day in at})
    rows = []
    for exposure in ("impressions", "profile_clicks"):
        for world in (*WORLDS, "null"):
            cells = [at[exposure, world, day] for day in days]
            if world == "null":
                shown = [f"{row['share_above_40']:.1%} of the time above 40 %" for row in cells]
            else:
                shown = [interval(row) for row in cells]
            rows.append([exposure.replace("_", " "), world, *shown])
    return markdown(["exposure", "world", *(f"{day} days" for day in days)], rows)


METHODS = {
    "whole 24 h change": "whole 24 h change to every post (the earlier system)",
    "last touch": "last touch",
    "impression share": "impression share, no baseline",
    "engine, impressions": "**this engine, impressions**",
    "engine told all but the rates, impressions": "the same, told the true clock, lag and frailty",
    "engine, profile clicks": "**this engine, profile clicks**",
    "engine told all but the rates, profile clicks": "the same, told the true clock, lag, frailty",
    "true follows": "true follows of every post",
}
MEASURES = {
    "posts_covered": "90 % intervals of posts",
    "generators_covered": "90 % intervals of generators",
    "credit_z_square": "squared error of credited rates over the stated variance",
    "b_within_2_se": "b within two standard errors",
    "u_within_2_se": "u",
    "lag_within_2_se": "lag",
    "rate_within_2_se": "rates of generators",
    "posts_correlation": "correlation of credit and truth, single posts",
    "information": "ρ, median",
    "credit_slope": "slope of credited log rates over true ones",
    "estimated_rates_covered": "90 % intervals of the estimation that reads the credit",
}


def cases(found: dict[str, Any], spread: str) -> dict[str, dict[str, Any]]:
    """What was measured at one spread of the rates, by case."""
    return {
        name.partition(" | ")[2]: of_case
        for name, of_case in found["results"].items()
        if name.startswith(f"{spread} | ")
    }


def methods(found: dict[str, Any], spread: str) -> str:
    """Rank correlation, and credited over true followers."""
    at = cases(found, spread)

    def cell(measured: dict[str, list[float]]) -> str:
        return " · ".join(
            f"{measured[name][0]:.2f} ± {measured[name][1]:.2f}" for name in ("spearman", "total")
        )

    rows = [[said, *(cell(case[name]) for case in at.values())] for name, said in METHODS.items()]
    return markdown(["method", *at], rows)


def calibrated(found: dict[str, Any], spread: str) -> str:
    """Means over accounts, from impressions and from profile clicks."""
    at = cases(found, spread)
    rows = [
        [
            said,
            *(
                f"{case['engine, impressions'][name][0]:.2f} · "
                f"{case['engine, profile clicks'][name][0]:.2f}"
                for case in at.values()
            ),
        ]
        for name, said in MEASURES.items()
    ]
    return markdown(["", *at], rows)


def cost(found: dict[str, Any]) -> str:
    """Milliseconds of CPU, and how many of a fixed piece of numpy that is."""
    unit = found["cost"]["workload_ms"]
    rows = [
        [name, f"{value['ms']:.1f}", f"{value['workloads']:.2f}"]
        for name, value in found["cost"].items()
        if name != "workload_ms"
    ]
    return markdown(["an account", "ms", f"in units of {unit:.1f} ms of numpy"], rows)


def main() -> None:
    """Rewrite the pages."""
    read = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("attribution", "policies", "limits", "expectation", "attributed_policies")
    }
    fill(
        PAGES / "attribution.md",
        {
            "methods": methods(read["attribution"], "0.7"),
            "methods_closer": methods(read["attribution"], "0.5"),
            "calibrated": calibrated(read["attribution"], "0.7"),
            "calibrated_closer": calibrated(read["attribution"], "0.5"),
            "cost": cost(read["attribution"]),
        },
    )
    fill(
        PAGES / "simulation.md",
        {
            "policies": policies(read["policies"]),
            "calibration": calibration(read["policies"]),
            "limits": limits(read["limits"]),
            "null": null(read["limits"]),
            "objective": objective(read["limits"]),
            "expectation": expectation(read["expectation"]),
            "attributed": attributed(read["attributed_policies"]),
        },
    )


def fill(path: Path, tables: dict[str, str]) -> None:
    """Put each table in its place."""
    page = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        page, count = pattern.subn(
            lambda _, t=table, n=name: f"<!-- {n} -->\n{t}\n<!-- /{n} -->", page
        )
        if count != 1:
            raise SystemExit(f"{path} has {count} places for the table {name}, not one")
    path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
