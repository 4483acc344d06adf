"""Changes that no model of an account explains: which windows are quarantined.

Here: what is typical of an account, and what lies beyond it. Not here: what becomes of such a
window (``engine``: its change stays on the baseline).
"""

from dataclasses import dataclass

import numpy as np

from genopt_pipeline.core.attribution.config import AttributionConfig
from genopt_pipeline.core.attribution.frames import BoolArray, FloatArray, Problem


@dataclass(frozen=True, slots=True)
class Jumps:
    """What an account's windows typically change by."""

    #: median change an hour
    per_hour: float
    #: squared spread of a window's change about it
    variance: float
    #: follows that a unit of exposure brings at most
    per_exposure: float

    def typical(self, problem: Problem) -> FloatArray:
        """The change of each window that would be no surprise, (J,)."""
        return self.per_hour * problem.hours

    def plausible(self, problem: Problem, config: AttributionConfig) -> BoolArray:
        """Windows whose change is not beyond ``jump_sigmas``·√(follows) + ``jump_margin``, (J,)."""
        typical = self.typical(problem)
        raw = np.bincount(problem.increment_window, problem.amount, len(problem.delta))
        follows = np.maximum(np.abs(typical), self.variance) + self.per_exposure * raw
        limit = config.jump_sigmas * np.sqrt(follows) + config.jump_margin
        return np.asarray(np.abs(problem.delta - typical) <= limit)


def learn_jumps(problem: Problem) -> Jumps:
    """What is typical, from medians: one jump or ten do not move it."""
    hours, delta = problem.hours, problem.delta
    per_hour = float(np.median(delta / hours))
    spread = 1.4826 * float(np.median(np.abs(delta - per_hour * hours)))
    raw = np.bincount(problem.increment_window, problem.amount, len(delta))
    scale = float(np.median(np.maximum(delta, 0.0))) / max(float(np.median(raw)), 1e-12)
    return Jumps(per_hour=per_hour, variance=spread**2, per_exposure=scale)
