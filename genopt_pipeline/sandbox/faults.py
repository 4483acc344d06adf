"""What can go wrong between a client and the X API, on demand or at random from a seed.

Here: the names of the faults, the plans that choose one for a request, and the log that names each
one injected. Not here: how a fault is carried out (``server``).
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

#: the answer does not come, or not whole: nothing of it is delivered
CONNECTION_FAULTS: Final = (
    "reset",  # the connection is reset instead of an answer
    "truncated",  # half of the body, then the end
    "stall",  # nothing for longer than a client should wait
    "slow_bytes",  # byte by byte
    "slow_headers",  # the same before the body
)
#: the answer is whole and no JSON document that can be used
BODY_FAULTS: Final = (
    "html_200",
    "not_json",
    "json_array",
    "wrong_content_type",
    "empty_body",
    "wrong_shape",  # data is an object where a list belongs
    "huge_body",
    "deep_json",
    "many_values",
    "gzip_bomb",
    "huge_number",
)
#: the status says no
STATUS_FAULTS: Final = (
    "http_500",
    "http_502_html",
    "http_503",
    "http_504",
    "over_capacity_old_style",
    "rate_limited",
    "rate_limited_no_reset",
    "rate_limited_old_style",
    "usage_capped",
    "no_credits",
    "client_forbidden",
    "client_not_enrolled",
    "forbidden_html",
    "unauthorized",
    "redirect",
)
#: the answer is good, and some of its records are not what one would like
RECORD_FAULTS: Final = (
    "other_dialect",
    "missing_metrics",
    "null_metrics",
    "wrong_types",
    "not_an_object",
    "falling_counts",
    "deleted",
    "not_authorized",
    "unknown_fields",
    "duplicate_posts",
    "endless_pages",
)
ALL_FAULTS: Final = (*CONNECTION_FAULTS, *BODY_FAULTS, *STATUS_FAULTS, *RECORD_FAULTS)

#: a fault that a real account meets rarely, since it ends collection for an hour or a day
_RARE: Final[dict[str, float]] = {"usage_capped": 0.1, "no_credits": 0.2}


@dataclass(frozen=True)
class FaultEntry:
    """A fault that was injected: when, into which request, and which."""

    at: datetime
    request: int
    endpoint: str
    fault: str


class FaultPlan(Protocol):
    """Chooses what goes wrong with a request."""

    def choose(self, endpoint: str) -> str | None:
        """The name of a fault, or None for a good answer."""


class NoFaults:
    """Every answer is good."""

    def choose(self, endpoint: str) -> str | None:
        """None."""
        del endpoint
        return None


class FaultQueue:
    """The given faults in their order, each for one request; None is a good answer.

    ``endpoint`` restricts them to requests of one endpoint; others are answered well.
    """

    def __init__(self, faults: Iterable[str | None], *, endpoint: str | None = None) -> None:
        self._faults = [_known(fault) for fault in faults]
        self._endpoint = endpoint

    def choose(self, endpoint: str) -> str | None:
        """The next of the queue; None when it is empty."""
        if self._endpoint not in {None, endpoint} or not self._faults:
            return None
        return self._faults.pop(0)


class AlwaysFault:
    """The same fault for every request (of an endpoint)."""

    def __init__(self, fault: str, *, endpoint: str | None = None) -> None:
        self._fault = _known(fault)
        self._endpoint = endpoint

    def choose(self, endpoint: str) -> str | None:
        """The fault."""
        return self._fault if self._endpoint in {None, endpoint} else None


class RandomFaults:
    """A share ``rate`` of all requests gets a fault, drawn from a seed.

    The same seed and the same requests give the same faults. ``weights`` default to equal ones,
    but for those that end collection for hours.
    """

    def __init__(
        self,
        seed: int,
        rate: float,
        *,
        faults: Sequence[str] = ALL_FAULTS,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"the rate of faults must lie between 0 and 1, not {rate}")
        self._random = random.Random(seed)  # noqa: S311  a simulation, no secret
        self._rate = rate
        self._faults = [fault for fault in map(_known, faults) if fault is not None]
        given = _RARE if weights is None else weights
        self._weights = [given.get(fault, 1.0) for fault in self._faults]

    def choose(self, endpoint: str) -> str | None:
        """A fault with probability ``rate``."""
        del endpoint
        if self._random.random() >= self._rate:
            return None
        return self._random.choices(self._faults, self._weights)[0]


def _known(fault: str | None) -> str | None:
    if fault is not None and fault not in ALL_FAULTS:
        raise ValueError(f"unknown fault {fault!r}; known are {', '.join(ALL_FAULTS)}")
    return fault
