"""The generators a new account starts with, and what a generator may be.

The names and weights are the user's; nothing here knows about databases or policies.
"""

from collections.abc import Iterable
from typing import Final, Literal

from genopt_pipeline.core.names import normalize_name

GeneratorStatus = Literal["active", "testing", "disabled", "archived"]

#: Drawn: these take part in the draw and share the probability mass.
DRAWN_STATUSES: Final[frozenset[str]] = frozenset({"active", "testing"})

#: The default weights, also the fallback when the database cannot be reached. Sum exactly 1.
DEFAULT_WEIGHTS: Final[dict[str, float]] = {
    "humanVoice": 0.15,
    "newsReporter": 0.12,
    "storyteller": 0.12,
    "interesting": 0.10,
    "provocateur": 0.10,
    "dataNerd": 0.10,
    "mythBuster": 0.10,
    "coach": 0.08,
    "thoughtLeader": 0.05,
    "contrarian": 0.04,
    "explorer": 0.02,
    "philosopher": 0.02,
}


def equal_weights(names: Iterable[str]) -> dict[str, float]:
    """Weights of 4 decimals, as equal as they can be, that sum to exactly 1.

    Spellings with the same key are one generator; the first in sorted order names it. What
    10,000 parts leave over goes to the first names.

    Raises
    ------
    ValueError
        No names, or more than 10,000.
    """
    by_key = {normalize_name(name): name for name in sorted(names, reverse=True)}
    chosen = sorted(by_key.values())
    if not 1 <= len(chosen) <= 10_000:
        raise ValueError(f"equal weights need 1 to 10,000 generators, not {len(chosen)}")
    share, left = divmod(10_000, len(chosen))
    return {name: (share + (position < left)) / 10_000 for position, name in enumerate(chosen)}
