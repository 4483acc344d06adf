"""The generators a new account starts with, and what a generator may be.

The names and weights are the user's; nothing here knows about databases or policies.
"""

from typing import Final, Literal

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
