"""What a full fit leaves to the account's later attributions: it changes slowly.

Here: the parameters, their JSON form, and what each generator of a later problem has of them. Not
here: how they are found (``fit``), nor the step that uses them (``step``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from genopt_pipeline.core.attribution.frames import FloatArray, IntArray
from genopt_pipeline.core.attribution.jumps import Jumps
from genopt_pipeline.core.attribution.rhythm import Rhythm


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Parameters of an account, in the units of its fit; arrays (K,), in the order of the names."""

    #: what rates are per
    exposure_kind: str
    rhythm: Rhythm
    jumps: Jumps
    lag_hours: float
    #: φ = 1/a
    frailty_variance: float
    #: u, b and b − u an hour of the audience's clock
    unfollows_per_hour: float
    organic_per_hour: float
    net_per_hour: float
    #: λ̄ per unit of exposure and per thousand impressions, and τ: the rate of a generator that is
    #: not among the names
    level: float
    level_per_1k: float
    rate_spread: float
    generators: tuple[object, ...]
    #: λ_g drawn together, λ_g to split by, and the first one's log sd
    rate: FloatArray
    split_rate: FloatArray
    log_sd: FloatArray
    #: F/1K, its log sd, and ρ_g
    rate_per_1k: FloatArray
    log_sd_per_1k: FloatArray
    information: FloatArray

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` gives the same parameters back, to the last digit."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in fields(self)
            if field.name not in ("rhythm", "jumps")
        } | {
            "rhythm": {"cell_hours": self.rhythm.cell_hours, "level": self.rhythm.level.tolist()},
            "jumps": {field.name: getattr(self.jumps, field.name) for field in fields(Jumps)},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The parameters of ``as_json``.

        Raises
        ------
        KeyError, TypeError, ValueError
            The document is not one of ``as_json``.
        """
        rhythm, jumps = document["rhythm"], document["jumps"]

        def number(name: str) -> float:
            return _number(document[name])

        def numbers(name: str) -> FloatArray:
            return np.array([_number(value) for value in document[name]], dtype=np.float64)

        return cls(
            exposure_kind=document["exposure_kind"],
            rhythm=Rhythm(float(rhythm["cell_hours"]), np.array(rhythm["level"], dtype=np.float64)),
            jumps=Jumps(**{field.name: float(jumps[field.name]) for field in fields(Jumps)}),
            lag_hours=number("lag_hours"),
            frailty_variance=number("frailty_variance"),
            unfollows_per_hour=number("unfollows_per_hour"),
            organic_per_hour=number("organic_per_hour"),
            net_per_hour=number("net_per_hour"),
            level=number("level"),
            level_per_1k=number("level_per_1k"),
            rate_spread=number("rate_spread"),
            generators=tuple(document["generators"]),
            rate=numbers("rate"),
            split_rate=numbers("split_rate"),
            log_sd=numbers("log_sd"),
            rate_per_1k=numbers("rate_per_1k"),
            log_sd_per_1k=numbers("log_sd_per_1k"),
            information=numbers("information"),
        )

    def position(self, generators: Sequence[object]) -> IntArray:
        """Place of each of ``generators`` among the names; K for one that is not there."""
        place = {name: k for k, name in enumerate(self.generators)}
        return np.array([place.get(name, len(place)) for name in generators], dtype=np.int64)


def _plain(value: Any) -> Any:
    """Lists and numbers; a rate that no impression told is null."""
    if isinstance(value, np.ndarray | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
