"""Settings of the attribution. Not here: anything learned from data (``fit``)."""

import math
from dataclasses import dataclass
from typing import Final, Literal

ExposureKind = Literal["auto", "impressions", "profile_clicks", "platform_follows"]

_KINDS: Final = ("auto", "impressions", "profile_clicks", "platform_follows")


@dataclass(frozen=True, slots=True)
class AttributionConfig:
    """How followers are attributed; the defaults are what the benchmarks measure.

    Raises
    ------
    ValueError
        A setting is out of its range; the message names it.
    """

    #: what carries the credit: the most telling column present (auto), or a fixed one
    exposure: ExposureKind = "auto"
    #: length of the windows in which exposures were counted
    exposure_window_hours: float = 2.0
    #: prior median of the exponential lag between an impression and its follow
    lag_hours: float = 3.0
    #: estimate the lag from the data (else ``lag_hours`` is taken as known)
    estimate_lag: bool = True
    #: prior median of the variance 1/a of the posts' frailty: of followers given impressions
    frailty_variance: float = 0.7
    #: the same of followers given profile clicks, which share most of a post's frailty
    click_frailty_variance: float = 0.1
    #: estimate the frailty's variance from the data (else its median is taken as known)
    estimate_frailty: bool = True
    #: prior median of the standard deviation of the generators' log rates
    rate_spread: float = 0.5
    #: estimate the baseline's rhythm over the hours of the day and of the week
    estimate_rhythm: bool = True
    #: probability inside the intervals
    interval: float = 0.9
    #: a post's credit is final this long after it was first seen
    final_after_hours: float = 96.0
    #: a change beyond ``jump_sigmas``·√(m + u·h) + ``jump_margin`` is quarantined
    jump_sigmas: float = 8.0
    jump_margin: float = 20.0
    #: steps of the EM for the posts' frailties, and the change at which it stops
    max_iterations: int = 60
    tolerance: float = 3e-3
    #: the search for lag, frailty and unfollows stops when no logarithm moves by more
    newton_tolerance: float = 0.1

    def __post_init__(self) -> None:
        if self.exposure not in _KINDS:
            raise ValueError(f"exposure must be one of {', '.join(_KINDS)}, not {self.exposure!r}")
        for name in (
            "exposure_window_hours",
            "lag_hours",
            "frailty_variance",
            "click_frailty_variance",
            "rate_spread",
            "final_after_hours",
            "jump_sigmas",
            "jump_margin",
            "tolerance",
            "newton_tolerance",
        ):
            value = getattr(self, name)
            if not (_is_number(value) and math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a positive finite number, not {value!r}")
        if not (_is_number(self.interval) and 0.0 < self.interval < 1.0):
            raise ValueError(f"interval must lie between 0 and 1, not {self.interval!r}")
        if (
            isinstance(self.max_iterations, bool)
            or not isinstance(self.max_iterations, int)
            or self.max_iterations < 1
        ):
            raise ValueError(f"max_iterations must be at least 1, not {self.max_iterations!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
