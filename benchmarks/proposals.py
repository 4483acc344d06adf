"""What proposals cost: one account with 2,000 posts, and 100,000 accounts of statistics.

Prints a JSON object with times of CPU and with ratios to reference work done in the same run,
since machines differ: sorting the same posts by pandas for one account, and evaluating the
normal distribution once per cell of the quadrature for many. Run: python benchmarks/proposals.py
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from genopt_pipeline.core.estimation import SufficientStatistics
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.policies import OptimizerConfig, propose_batch, propose_weights

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POSTS = 2_000
GENERATORS = 12
BINS = 9


def best_of(work: Callable[[], Any], times: int) -> float:
    """Seconds of CPU of the fastest of several runs, whatever else the machine does meanwhile."""
    spent = []
    for _ in range(times):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def one_account() -> dict[str, float]:
    """Milliseconds of ``propose_weights`` for 2,000 posts over 70 days."""
    rng = np.random.default_rng(1)
    names = list(DEFAULT_WEIGHTS)
    impressions = np.round(np.exp(rng.normal(7, 1, POSTS)))
    posts = pd.DataFrame(
        {
            "post_id": [f"p{i}" for i in range(POSTS)],
            "generator_name": rng.choice(names, POSTS),
            "posted_at": pd.Timestamp(NOW) - pd.to_timedelta(rng.uniform(0, 69, POSTS), unit="D"),
            "impressions": impressions,
            "followers": rng.poisson(0.002 * impressions).astype(float),
            "selection_probability": 1 / len(names),
        }
    )
    reference = best_of(lambda: posts.sort_values(["generator_name", "posted_at"]), 20)
    result = {"pandas_sort_ms": 1e3 * reference}
    for policy in ("thompson", "exponential"):
        config = OptimizerConfig(policy=policy)  # type: ignore[arg-type]  # one of the two names
        spent = best_of(
            lambda config=config: propose_weights(posts, DEFAULT_WEIGHTS, now=NOW, config=config),
            20,
        )
        result[f"{policy}_ms"] = 1e3 * spent
        result[f"{policy}_over_pandas_sort"] = spent / reference
    return result


def many_accounts(accounts: int) -> dict[str, float]:
    """Microseconds an account of ``propose_batch`` from sufficient statistics."""
    rng = np.random.default_rng(2)
    shape = (accounts, GENERATORS, BINS)
    exposure = rng.gamma(1.0, 4.0, shape)
    rate = 2.0 * np.exp(0.5 * rng.normal(size=shape[:2]))
    statistics = SufficientStatistics(
        followers=rng.poisson(rate[:, :, None] * exposure).astype(float),
        exposure=exposure,
        posts=np.full(shape[:2], 40),
        dispersion=np.full(accounts, 0.7),
    )
    weights = np.tile(np.array(list(DEFAULT_WEIGHTS.values())), (accounts, 1))
    lower, upper = np.full_like(weights, 0.02), np.ones_like(weights)
    cells = rng.normal(size=(min(accounts, 2_000), GENERATORS, 64))
    reference = best_of(lambda: special.ndtr(cells), 5) / len(cells)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = best_of(lambda: propose_batch(statistics, weights, lower, upper), 1) / accounts
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "accounts": accounts,
        "propose_us_per_account": 1e6 * spent,
        "ndtr_us_per_account": 1e6 * reference,
        "propose_over_ndtr": spent / reference,
        "input_mb": statistics.followers.nbytes * 2 / 1e6,
        "peak_growth_mb": (after - before) / 1e3,
    }


def main() -> None:
    """Measure and print."""
    accounts = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(json.dumps({"one": one_account(), "many": many_accounts(accounts)}, indent=2))


if __name__ == "__main__":
    main()
