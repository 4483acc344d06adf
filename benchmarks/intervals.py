"""How often the 90 % intervals of F/1K hold the true rate, and how wide they are.

Run: ``python benchmarks/intervals.py [--accounts 60]``. Prints a markdown table: true F/1K and
dispersion φ of the posts, posts a generator; share of intervals that cover, that lie above and
below the truth, the same for Poisson intervals, and the median ratio of the upper to the lower end.
"""

import argparse
import math

import numpy as np

from genopt_pipeline.core.intervals import Dispersion, Totals, fit_dispersion, rate_interval

GENERATORS = 12
POISSON = Dispersion(values=np.array([1e-9]), probabilities=np.array([1.0]))


def measure(f_per_1k: float, phi: float, posts: int, accounts: int, seed: int) -> list[str]:
    """One row of the table."""
    rng = np.random.default_rng(seed)
    above = below = poisson = 0
    widths = []
    for _ in range(accounts):
        groups = []
        for _ in range(GENERATORS):
            exposure = rng.lognormal(0.0, 1.0, posts)
            mean = f_per_1k * exposure
            if phi:
                mean = rng.gamma(1 / phi, phi * mean)
            groups.append((rng.poisson(mean).astype(float), exposure))
        dispersion = fit_dispersion(groups)
        for followers, exposure in groups:
            totals = Totals.of(followers, exposure)
            low, high = rate_interval(totals, dispersion)
            above += low > f_per_1k
            below += high < f_per_1k
            if low > 0 and not math.isnan(high):
                widths.append(high / low)
            p_low, p_high = rate_interval(totals, POISSON)
            poisson += p_low <= f_per_1k <= p_high
    n = accounts * GENERATORS
    ratio = f"{np.median(widths):.1f}" if len(widths) > n / 2 else "no lower end"
    shares = [1 - (above + below) / n, above / n, below / n, poisson / n]
    return [f"{f_per_1k:g}", f"{phi:g}", str(posts), *(f"{share:.3f}" for share in shares), ratio]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=60)
    accounts = parser.parse_args().accounts
    headings = ["F/1K", "φ", "posts", "covers", "above", "below", "Poisson covers", "high/low"]
    print(f"| {' | '.join(headings)} |\n|{'---:|' * len(headings)}")
    for phi in (0.0, 0.7, 2.0):
        for f_per_1k in (0.07, 0.5, 2.0, 5.0):
            for posts in (3, 10, 50):
                print(f"| {' | '.join(measure(f_per_1k, phi, posts, accounts, 1))} |", flush=True)


if __name__ == "__main__":
    main()
