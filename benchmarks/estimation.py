"""How far the estimation can be trusted: calibration in simulation, and fit to real posts.

Prints a JSON object and writes the figures of ``docs/engine`` as SVG. Run:
python benchmarks/estimation.py [FOLDER]
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genopt_pipeline.core.estimation import (
    EstimationConfig,
    PostBatch,
    compare,
    posterior,
    sufficient_statistics,
)
from genopt_pipeline.core.estimation.reach import fit_reach_model, predictive_checks

POSTS = Path(__file__).parents[1] / "genopt_pipeline_tests/data/real_posts_numeric.csv"
KINDS = ("reply", "link", "long text", "short text")
STILL = EstimationConfig(half_life_days=1e6, hazard_per_day=0.0, drift_days=())
SIZE = 360
MARGIN = 45


def svg_points(
    path: Path,
    title: str,
    axes: tuple[str, str],
    points: list[tuple[float, float, float]],
    *,
    diagonal: bool,
) -> None:
    """Points (x, y, radius) with x and y in [0, 1], and the diagonal where it means "right"."""

    def place(x: float, y: float) -> tuple[float, float]:
        inner = SIZE - 2 * MARGIN
        return MARGIN + x * inner, SIZE - MARGIN - y * inner

    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}" '
            'font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{SIZE}" height="{SIZE}" fill="white"/>',
        f'<text x="{SIZE / 2}" y="22" text-anchor="middle" font-size="14">{title}</text>',
        f'<text x="{SIZE / 2}" y="{SIZE - 8}" text-anchor="middle">{axes[0]}</text>',
        (
            f'<text x="12" y="{SIZE / 2}" text-anchor="middle" '
            f'transform="rotate(-90 12 {SIZE / 2})">{axes[1]}</text>'
        ),
    ]
    left, bottom = place(0, 0)
    right, top = place(1, 1)
    lines.append(
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" '
        'fill="none" stroke="#999"/>'
    )
    if diagonal:
        lines.append(f'<path d="M{left} {bottom}L{right} {top}" stroke="#bbb"/>')
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = place(tick, 0)
        lines.append(f'<text x="{x:.0f}" y="{y + 15:.0f}" text-anchor="middle">{tick:g}</text>')
        x, y = place(0, tick)
        lines.append(f'<text x="{x - 5:.0f}" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>')
    for px, py, radius in points:
        x, y = place(px, py)
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#3366cc"/>')
    path.write_text("\n".join([*lines, "</svg>", ""]))


def simulated(rng: np.random.Generator, accounts: int, posts: int) -> tuple[PostBatch, Any]:
    """Accounts with log-normal rates of spread 0.5 and gamma frailty of variance 0.7."""
    n = accounts * posts
    rate = 2.0 * np.exp(0.5 * rng.normal(size=(accounts, 12)))
    account, generator = np.repeat(np.arange(accounts), posts), rng.integers(0, 12, n)
    age, final = rng.uniform(0.5, 480, n), np.exp(rng.normal(7, 1, n))
    mean = rate[account, generator] * final / 1000 * rng.gamma(1 / 0.7, 0.7, n)
    followers = rng.poisson(mean * -np.expm1(-age / 16.0)).astype(float)
    seen = final * -np.expm1(-age / 8.0)
    return PostBatch(accounts, 12, account, generator, age, seen, followers), rate


def calibration(folder: Path) -> dict[str, Any]:
    """Coverage of 90 % intervals by posts an account, and the calibration curve of P(best)."""
    rng = np.random.default_rng(20)
    coverage: dict[str, dict[int, float]] = {"steady": {}, "default": {}}
    for posts in (60, 150, 300, 900):
        batch, rate = simulated(rng, 600, posts)
        for name, config in (("steady", STILL), ("default", EstimationConfig())):
            known = posterior(sufficient_statistics(batch, config), config)
            z = (np.log(rate) - known.log_mean) / known.interval_log_sd
            coverage[name][posts] = round(float(np.mean(np.abs(z) < 1.645)), 3)
    batch, rate = simulated(rng, 4000, 120)
    known = posterior(sufficient_statistics(batch, STILL), STILL)
    best = compare(known.log_mean, known.log_sd, np.ones(rate.shape, bool)).best
    is_best = rate == rate.max(axis=1, keepdims=True)
    edges = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (best >= low) & (best < high)
        if inside.sum() > 30:
            rows.append((float(best[inside].mean()), float(is_best[inside].mean()), inside.sum()))
    svg_points(
        folder / "p_best_calibration.svg",
        "P(best): said and true",
        ("probability said", "share that was the best"),
        [(x, y, 2 + np.log10(n)) for x, y, n in rows],
        diagonal=True,
    )
    return {
        "interval_coverage_by_posts": coverage,
        "p_best": [(round(x, 3), round(y, 3), int(n)) for x, y, n in rows],
    }


def real_posts() -> dict[str, Any]:
    """Rates by kind of post and predictive checks for each source of real posts."""
    every = pd.read_csv(POSTS)
    result: dict[str, Any] = {}
    for source in ("tomd", "hip", "debru"):
        posts = every[(every["source"] == source) & (every["imp"] > 0) & every["fol"].notna()]
        kind = np.select(
            [posts["is_reply"] == 1, posts["has_link"] == 1, posts["text_len"] >= 140], [0, 1, 2], 3
        )
        seen, gained = posts["imp"].to_numpy(float), posts["fol"].to_numpy(float)
        batch = PostBatch(
            1, 4, np.zeros(len(kind), int), kind, np.full(len(kind), 5e3), seen, gained
        )
        config = EstimationConfig(
            half_life_days=1e6, horizon_days=1e6, hazard_per_day=0.0, drift_days=()
        )
        statistics = sufficient_statistics(batch, config)
        known = posterior(statistics, config)
        best = compare(known.log_mean, known.log_sd, np.ones((1, 4), bool)).best[0]
        middle, sd = known.log_mean[0], known.interval_log_sd[0]
        kinds = {
            name: {
                "posts": int((kind == k).sum()),
                "follows": int(gained[kind == k].sum()),
                "raw_f_per_1k": round(1000 * gained[kind == k].sum() / seen[kind == k].sum(), 4),
                "f_per_1k": round(float(np.exp(middle[k])), 4),
                "interval": [
                    round(float(np.exp(middle[k] + z * sd[k])), 4) for z in (-1.645, 1.645)
                ],
                "p_best": round(float(best[k]), 3),
            }
            for k, name in enumerate(KINDS)
        }
        checks = {}
        for plain in (True, False):
            model = fit_reach_model(kind, seen, gained, kinds=4, plain=plain)
            found = predictive_checks(model, kind, seen, gained, rng=np.random.default_rng(0))
            checks["plain" if plain else "reach"] = {
                "log_likelihood": round(model.log_likelihood, 1),
                "slope_curve_logphi_power": [round(float(x), 2) for x in model.parameters[1:5]],
            } | {
                name: {
                    "observed": round(c.observed, 3),
                    "interval": [round(c.low, 3), round(c.high, 3)],
                    "holds": c.holds,
                }
                for name, c in found.items()
            }
        result[source] = {
            "kinds": kinds,
            "phi": round(float(statistics.dispersion[0]), 2),
            "checks": checks,
        }
    return result


def main() -> None:
    """Measure, draw and print."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/engine/figures")
    folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps({"calibration": calibration(folder), "real": real_posts()}, indent=1))


if __name__ == "__main__":
    main()
