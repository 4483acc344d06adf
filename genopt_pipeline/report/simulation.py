"""The result of a simulation as one HTML page that needs nothing else.

What belongs here: the page. What does not: the simulation, and the chart (``charts``).
"""

from collections.abc import Sequence
from typing import Final

import pandas as pd

from genopt_pipeline.report import charts
from genopt_pipeline.report.html import chart_section, frame_section, page

SIMULATED: Final = "simulated accounts: no number here was measured on a real one"
_COLUMNS: Final = {
    "world": "World",
    "policy": "Policy",
    "day": "Day",
    "captured": "Share captured",
    "low": "95 % from",
    "high": "to",
    "f_per_1k": "F/1K",
    "f_per_1k_week": "F/1K, last 7 days",
    "over_uniform": "Over equal weights",
}


def render_simulation(results: pd.DataFrame, *, shown_days: Sequence[int], settings: str) -> str:
    """Return the page of a simulation.

    Parameters
    ----------
    results
        The frame of ``sandbox.simulate``: a row for each world, policy and day.
    shown_days
        Days of the table; the chart has all.
    settings
        What was simulated, in words.
    """
    table = results[results["day"].isin(shown_days)][list(_COLUMNS)].copy()
    numbers = table.select_dtypes("float").columns
    # thousandths are finer than the intervals; adding 0 makes -0 a 0
    table[numbers] = table[numbers].round(3) + 0.0
    explained = (
        f"<p><strong>Note:</strong> {SIMULATED}. The share captured is what a policy earned "
        "beyond equal weights, over what an oracle that knows the true rates earned beyond them, "
        "under the same floor and exploration; intervals hold 95 % over accounts.</p>"
    )
    return page(
        "genopt simulation",
        "Simulation of policies",
        [
            explained,
            frame_section("Results", settings, table, _COLUMNS),
            chart_section("captured", results, charts.captured_over_time),
        ],
    )
