"""A row of values as a row of characters; for terminals and for metadata in markdown.

Nothing here knows what the values are.
"""

import math
from collections.abc import Sequence
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"
_GAP: Final = "·"


def sparkline(values: Sequence[float | None], width: int = 8) -> str:
    """Return the last ``width`` values as bars from their minimum to their maximum.

    A value that is not known is a dot; equal values are all of middle height.
    """
    shown = [v if v is not None and math.isfinite(v) else None for v in values][-width:]
    known = [v for v in shown if v is not None]
    if not known:
        return _GAP * len(shown)
    low, high = min(known), max(known)
    top = len(_BARS) - 1

    def bar(value: float) -> str:
        # halves first: the difference of two finite numbers can be infinite
        span = high / 2 - low / 2
        return _BARS[round((value / 2 - low / 2) / span * top) if span > 0 else top // 2]

    return "".join(_GAP if v is None else bar(v) for v in shown)
