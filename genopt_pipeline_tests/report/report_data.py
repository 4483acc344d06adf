"""A small account for the tests of the report."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from genopt_pipeline.core.alerts import Alert
from genopt_pipeline.core.appraisal import DrawCheck
from genopt_pipeline.core.evaluation import SampleRatio
from genopt_pipeline.core.health import HealthObservations, check_health
from genopt_pipeline.core.performance import summarize, summarize_lookbacks
from genopt_pipeline.report.html import ReportData

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)


def posts_of(names, n=120):
    rng = np.random.default_rng(4)
    impressions = rng.lognormal(7, 1, n).round()
    frame = pd.DataFrame(
        {
            "decision_id": [f"d{i}" for i in range(n)],
            "generator_name": [names[i % len(names)] for i in range(n)],
            "posted_at": pd.to_datetime([NOW - timedelta(hours=2 * i + 1) for i in range(n)]),
            "impressions": impressions,
            "followers": rng.poisson(impressions / 500).astype(float),
        }
    )
    frame[["likes", "retweets", "replies"]] = rng.poisson(3, (n, 3))
    frame["quality_score"] = np.nan
    return frame


def report_data(names=("coach", "explorer", "idle"), **changes):
    """Data of three generators; the last of them has no posts."""
    posts = posts_of(names[:-1])
    tables = [summarize(posts, names, now=NOW - timedelta(days=days)) for days in range(5, -1, -1)]
    weights = dict(zip(names, (0.5, 0.3, 0.2), strict=True))
    health = check_health(HealthObservations(weights=weights, last_post_at=NOW), now=NOW)
    known = {
        "account": "main",
        "as_of": NOW,
        "period": "the last 7 days",
        "estimator": "attributed",
        "summary": tables[-1],
        "weights": weights,
        "draws": DrawCheck(
            SampleRatio(1.2, 2, 0.5, 84, ()),
            {names[0]: 50, names[1]: 34},
            {names[0]: 45.5, names[1]: 30.25, names[2]: 8.25},
            0,
        ),
        "lookbacks": summarize_lookbacks(posts, names, now=NOW),
        "history": pd.concat(tables, ignore_index=True)[
            ["period_end", "generator_name", "f_per_1k", "f_per_1k_low", "f_per_1k_high"]
        ],
        "weights_history": pd.DataFrame(
            [
                {"effective_at": NOW - timedelta(hours=h), "generator_name": n, "weight": w}
                for h in (12, 6, 0)
                for n, w in weights.items()
            ]
        ),
        "attribution": pd.DataFrame(
            {
                "window_start": pd.to_datetime([NOW - timedelta(hours=h) for h in (4, 2)]),
                "posts": [3.5, 2.0],
                "baseline": [0.5, -1.0],
            }
        ),
        "health": health,
        "alerts": [Alert("failing:coach", "failing", "warning", "coach is failing", "coach")],
        "events": [
            {
                "event_type": "weight_update",
                "created_at": NOW,
                "generators_updated": 3,
                "reason": "three weights change",
            }
        ],
        "explanations": {names[0]: "it earns the most"},
    }
    return ReportData(**(known | changes))
