"""How well followers are attributed, against simulated truth and against simpler methods.

Run: python benchmarks/attribution.py [--accounts 50] [--days 30] [--cases NAME ...]. Writes
results/attribution.json and prints it as markdown. Intervals are 95 %, t over accounts, which draw
their generators with equal weights. About a second of CPU an account and case.

``spread`` is the sd of the generators' log rates. At 0.7 the method with perfect data, true
follows, ranks generators about as well as in the reference figures (.78, .92, .96 for 5, 15 and 50
posts a day); 0.5 is the world of the closed loop.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from genopt_pipeline.core.attribution import (
    Attribution,
    AttributionConfig,
    attribute_followers,
    attribute_step,
)
from genopt_pipeline.core.attribution.engine import solve
from genopt_pipeline.core.attribution.frames import FloatArray, build_problem
from genopt_pipeline.core.attribution.step import solve_step
from genopt_pipeline.core.estimation import EstimationConfig
from genopt_pipeline.core.estimation.posterior import posterior
from genopt_pipeline.core.estimation.statistics import PostBatch, sufficient_statistics
from genopt_pipeline.sandbox.attributed import WINDOW_HOURS, ObservedAccount, observe_account
from genopt_pipeline.sandbox.loop import account_seeds
from genopt_pipeline.sandbox.world import WORLDS, World, audience_hours

RESULT = Path(__file__).parent / "results" / "attribution.json"
SEED = 31
SPREADS = (0.7, 0.5)
#: what a step between two fits reads: 96 hours of exposure and 60 of late follows
STEP_WINDOWS = 78
CASES: dict[str, World] = {
    "5 a day": replace(WORLDS["stationary"], posts_per_day=5.0),
    "15 a day": WORLDS["stationary"],
    "50 a day": replace(WORLDS["stationary"], posts_per_day=50.0),
    "15 a day, 60 organic": replace(WORLDS["stationary"], organic_follows_per_day=60.0),
}


def whole_change(seen: ObservedAccount) -> FloatArray:
    """The earlier system: every post gets the account's change over its first 24 hours."""
    total = np.append(0.0, np.cumsum(seen.deltas["delta"].to_numpy(dtype=np.float64)))
    edges = WINDOW_HOURS * np.arange(len(total))
    return np.asarray(
        np.interp(seen.posted_hours + 24.0, edges, total)
        - np.interp(seen.posted_hours, edges, total)
    )


def last_touch(seen: ObservedAccount) -> FloatArray:
    """Each window's change to the post that went live last before its end."""
    delta = seen.deltas["delta"].to_numpy(dtype=np.float64)
    ends = WINDOW_HOURS * np.arange(1, len(delta) + 1)
    post = np.searchsorted(seen.posted_hours, ends) - 1
    live = post >= 0
    return np.bincount(post[live], delta[live], len(seen.follows)).astype(np.float64)


def impression_share(seen: ObservedAccount) -> FloatArray:
    """Each window's change by the impressions in it, without a baseline."""
    rows = seen.exposures
    window = rows["window_start"].map(
        pd.Series(np.arange(len(seen.deltas)), index=seen.deltas["window_start"])
    )
    shown = rows["impressions"].to_numpy(dtype=np.float64)
    total = np.bincount(window, shown, len(seen.deltas))
    delta = seen.deltas["delta"].to_numpy(dtype=np.float64)[window]
    share = shown / np.where(total[window] > 0, total[window], 1.0)
    return np.bincount(rows["post_id"], delta * share, len(seen.follows)).astype(np.float64)


def true_follows(seen: ObservedAccount) -> FloatArray:
    """What no method that sees the account alone can know."""
    return seen.follows


SIMPLE: dict[str, Callable[[ObservedAccount], FloatArray]] = {
    "whole 24 h change": whole_change,
    "last touch": last_touch,
    "impression share": impression_share,
    "true follows": true_follows,
}


def rank_correlation(rates: FloatArray, true: FloatArray) -> float:
    """Spearman's, over the generators that have a rate."""
    known = np.isfinite(rates)
    return float(stats.spearmanr(rates[known], true[known])[0])


def of_simple(seen: ObservedAccount, credit: FloatArray) -> dict[str, float]:
    """Rates as sums of credit over sums of impressions."""
    k = len(seen.generator_names)
    shown = np.bincount(seen.generator, seen.impressions, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.bincount(seen.generator, credit, k) / shown
    return {
        "spearman": rank_correlation(rates, seen.rates),
        "credited": float(credit.sum()),
        "true": float(seen.follows.sum()),
    }


def of_engine(seen: ObservedAccount, result: Attribution, world: World) -> dict[str, float]:
    """Everything that is measured of this engine."""
    totals, table = result.totals, result.generators
    follows = seen.follows[totals["post_id"].to_numpy(dtype=np.int64)]
    generator = pd.Index(seen.generator_names).get_indexer(pd.Index(table["generator_name"]))
    true = seen.rates[generator]
    rates = table["rate_per_1k"].to_numpy()
    inside = (totals["low"] <= follows) & (totals["high"] >= follows)
    some = follows + totals["followers"] >= 1.0
    off = np.log(rates / true) / table["sd_log"].to_numpy()
    found, error = result.parameters, result.parameters["standard_errors"]
    b, u = world.organic_follows_per_day / 24, world.unfollows_per_day / 24
    lag = np.log(found["lag_hours"] / world.follow_lag_hours)
    position = table.set_index("generator_name").index.get_indexer(
        pd.Index(totals["generator_name"])
    )
    mean = rates[position] / 1000 * totals["impressions"].to_numpy()
    weight = 1.0 / (1.0 + world.post_frailty * mean)
    n = len(table)
    held = np.bincount(position, weight * mean, n) * table["information"].to_numpy()
    credited = np.bincount(position, weight * totals["followers"], n) / np.bincount(
        position, weight * totals["impressions"] / 1000, n
    )
    apart = (credited - true) / rates
    apart = (apart - (apart * held).sum() / held.sum()) * np.sqrt(held)
    return {
        "spearman": rank_correlation(rates, true),
        "credited": float(totals["followers"].sum()),
        "true": float(seen.follows.sum()),
        "posts_covered": float(inside.mean()),
        "posts_with_followers_covered": float(inside[some].mean()),
        "generators_covered": float(((table["low"] <= true) & (table["high"] >= true)).mean()),
        "rate_within_2_se": float((np.abs(off) <= 2).mean()),
        "b_within_2_se": float(abs(found["b_per_hour"] - b) <= 2 * error["b_per_hour"]),
        "u_within_2_se": float(abs(found["u_per_hour"] - u) <= 2 * error["u_per_hour"]),
        "lag_within_2_se": float(abs(lag) <= 2 * error["log_lag"]),
        "lag_hours": found["lag_hours"],
        "frailty_variance": 1.0 / found["a"],
        "information": float(table["information"].median()),
        "credit_z_square": float((apart**2).sum() / (n - 1)),
        "posts_correlation": float(np.corrcoef(totals["followers"], follows)[0, 1]),
    } | of_estimation(seen, result)


def days_of(seen: ObservedAccount) -> float:
    """Length of what was observed."""
    return len(seen.deltas) * WINDOW_HOURS / 24.0


def of_estimation(seen: ObservedAccount, result: Attribution) -> dict[str, float]:
    """What the estimation makes of the credit.

    The slope of credited log rates over true ones (one account alone: a noisy figure, its mean is
    what counts), the share of its 90 % intervals that cover, and φ.
    """
    totals = result.totals.dropna(subset="followers")
    post = totals["post_id"].to_numpy(dtype=np.int64)
    statistics = sufficient_statistics(
        PostBatch(
            accounts=1,
            generators=len(seen.rates),
            account=np.zeros(len(post), dtype=np.int64),
            generator=seen.generator[post],
            age_hours=days_of(seen) * 24.0 - seen.posted_hours[post],
            impressions=seen.impressions[post],
            followers=totals["followers"].to_numpy(),
            information=totals["information"].to_numpy(),
        ),
        EstimationConfig(),
    )
    known = posterior(statistics, EstimationConfig())
    true = np.log(seen.rates)
    credited = np.log(
        np.maximum(statistics.followers[0].sum(axis=1), 1e-3)
        / np.maximum(statistics.exposure[0].sum(axis=1), 1e-6)
    )
    off = np.abs(true - known.log_mean[0]) / known.interval_log_sd[0]
    apart = true - true.mean()
    return {
        "credit_slope": float(apart @ credited / (apart @ apart)),
        "estimated_rates_covered": float((off <= stats.norm.ppf(0.95)).mean()),
        "dispersion_of_credit": float(statistics.dispersion[0]),
    }


def known_limit(seen: ObservedAccount, exposures: pd.DataFrame, world: World) -> dict[str, float]:
    """The engine told the true clock, lag and frailty: what not knowing them costs."""
    config = AttributionConfig(
        lag_hours=world.follow_lag_hours,
        estimate_lag=False,
        frailty_variance=world.post_frailty,
        click_frailty_variance=0.01,
        estimate_frailty=False,
        estimate_rhythm=False,
    )
    problem = build_problem(seen.deltas, exposures, config)

    def clock(hours: FloatArray) -> FloatArray:
        return audience_hours(world, hours)

    problem = replace(
        problem,
        start_hours=clock(problem.start_hours),
        end_hours=clock(problem.end_hours),
        increment_start=clock(problem.increment_start),
        increment_end=clock(problem.increment_end),
    )
    solved = solve(problem, config, variance=False)
    generator = pd.Index(seen.generator_names).get_indexer(pd.Index(problem.generators))
    return {
        "spearman": rank_correlation(solved.rates.rate, seen.rates[generator]),
        "credited": float(solved.split.total.sum()),
        "true": float(seen.follows.sum()),
    }


def summary(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and half width of its 95 % interval; credited over true as a ratio of sums."""
    frame = pd.DataFrame(rows)
    n = len(frame)
    t = float(stats.t.ppf(0.975, n - 1))
    result: dict[str, list[float]] = {}
    for name in frame.columns:
        if name in ("credited", "true"):
            continue
        values = frame[name].to_numpy(dtype=np.float64)
        result[name] = [float(values.mean()), float(t * values.std(ddof=1) / np.sqrt(n))]
    ratio = frame["credited"].sum() / frame["true"].sum()
    rest = (frame["credited"] - ratio * frame["true"]) / frame["true"].mean()
    result["total"] = [float(ratio), float(t * rest.std(ddof=1) / np.sqrt(n))]
    return {name: [round(v, 4) for v in pair] for name, pair in result.items()}


def workload() -> float:
    """CPU milliseconds of a fixed piece of numpy: the unit that costs are measured in."""
    matrix = np.random.default_rng(1).normal(size=(400, 400))
    started = time.process_time()
    for _ in range(5):
        np.linalg.cholesky(matrix @ matrix.T + 400.0 * np.eye(400))
        np.sort(matrix.ravel())
    return (time.process_time() - started) * 1000 / 5


def costs(accounts: int) -> dict[str, Any]:
    """Median CPU of a full fit and of a step between two fits, 15 posts a day."""
    config = AttributionConfig()
    spent: dict[str, list[float]] = {}
    unit = []

    def timed(name: str, run: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = run()
        spent.setdefault(name, []).append((time.process_time() - started) * 1000)
        return result

    for seed in account_seeds(SEED + 1, accounts):
        seen = observe_account(WORLDS["stationary"], int(seed), 30)
        exposures = seen.exposures.assign(profile_clicks=np.nan)
        unit.append(workload())
        whole = timed(
            "full fit of 30 days, from frames",
            partial(attribute_followers, seen.deltas, exposures, config=config),
        )
        problem = build_problem(seen.deltas, exposures, config)
        timed(
            "rates of 30 days, parameters learned",
            partial(solve, problem, config, whole.learned, variance=False),
        )
        deltas = seen.deltas.iloc[-STEP_WINDOWS:]
        recent = exposures[exposures["window_start"] >= deltas["window_start"].iloc[0]]
        timed(
            "step, from frames to frames",
            partial(attribute_step, deltas, recent, whole.learned),
        )
        problem = build_problem(deltas, recent, config)
        # the first call of all warms up
        solve_step(problem, config, whole.learned)
        timed("step", partial(solve_step, problem, config, whole.learned))
    base = float(np.median(unit))
    return {
        "workload_ms": round(base, 3),
        **{
            name: {
                "ms": round(float(np.median(v)), 2),
                "workloads": round(float(np.median(v)) / base, 2),
            }
            for name, v in spent.items()
        },
    }


def measure(world: World, accounts: int, days: int) -> dict[str, Any]:
    """All methods on the same accounts."""
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in account_seeds(SEED, accounts):
        seen = observe_account(world, int(seed), days)
        for name, method in SIMPLE.items():
            rows.setdefault(name, []).append(of_simple(seen, method(seen)))
        without = seen.exposures.assign(profile_clicks=np.nan)
        for kind, exposures in (("impressions", without), ("profile clicks", seen.exposures)):
            result = attribute_followers(seen.deltas, exposures)
            rows.setdefault(f"engine, {kind}", []).append(of_engine(seen, result, world))
            rows.setdefault(f"engine told all but the rates, {kind}", []).append(
                known_limit(seen, exposures, world)
            )
    return {name: summary(of_method) for name, of_method in rows.items()}


def show(stored: dict[str, Any]) -> None:
    """Markdown: one table a spread, then what is measured of the engine alone."""
    for spread in SPREADS:
        cells = {name: stored["results"].get(f"{spread} | {name}") for name in CASES}
        cells = {name: cell for name, cell in cells.items() if cell}
        if not cells:
            continue
        print(f"\nspread {spread}: Spearman · credited / true\n")
        print("| method | " + " | ".join(cells) + " |\n|---|" + "---|" * len(cells))
        for method in next(iter(cells.values())):
            line = [
                f"{c[method]['spearman'][0]:.2f} ± {c[method]['spearman'][1]:.2f} · "
                f"{c[method]['total'][0]:.2f} ± {c[method]['total'][1]:.2f}"
                for c in cells.values()
            ]
            print(f"| {method} | " + " | ".join(line) + " |")
        for kind in ("impressions", "profile clicks"):
            print(f"\nspread {spread}, engine, {kind}\n")
            print("| | " + " | ".join(cells) + " |\n|---|" + "---|" * len(cells))
            for name in next(iter(cells.values()))[f"engine, {kind}"]:
                line = [
                    "{:.3f} ± {:.3f}".format(*c[f"engine, {kind}"][name]) for c in cells.values()
                ]
                print(f"| {name} | " + " | ".join(line) + " |")
    print("\ncost", json.dumps(stored.get("cost"), indent=1))


def main() -> None:
    """Measure, store, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--spreads", nargs="*", type=float, default=SPREADS)
    options = parser.parse_args()
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else {"results": {}}
    for spread in options.spreads:
        for name in options.cases:
            world = replace(CASES[name], rate_spread=spread)
            stored["results"][f"{spread} | {name}"] = measure(world, options.accounts, options.days)
            stored |= {
                "command": "python benchmarks/" + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "accounts": options.accounts,
                "days": options.days,
                "seed": SEED,
            }
            RESULT.write_text(json.dumps(stored, indent=1) + "\n")
    stored["cost"] = costs(12)
    RESULT.write_text(json.dumps(stored, indent=1) + "\n")
    show(stored)


if __name__ == "__main__":
    main()
