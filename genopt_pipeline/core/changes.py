"""How a change of weights is told: old, new, how much of the old that is, and whether it matters.

Not here: what the weights should be. A change is judged relative to the generator's own weight: a
hundredth is half of a weight of 0.02 and nothing to one of 0.40.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

#: From this share of the old weight on, a change is significant.
SIGNIFICANT_SHARE: Final = 0.05

#: From when on an account's first weights hold: they are taken for all time before it had others.
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


def change_percent(old: float | Decimal, new: float | Decimal) -> float | None:
    """Change in percent of the old weight; None where the old weight is 0."""
    if not old:
        return None
    return round(100.0 * (float(new) - float(old)) / float(old), 2)


def is_significant(old: float | Decimal, new: float | Decimal) -> bool:
    """Whether a change is at least ``SIGNIFICANT_SHARE`` of the old weight."""
    difference = abs(Decimal(str(new)) - Decimal(str(old)))
    return difference > 0 and difference >= Decimal(str(SIGNIFICANT_SHARE)) * Decimal(str(old))


def describe_changes(
    before: Mapping[str, Decimal],
    after: Mapping[str, Decimal],
    reasons: Mapping[str, str | None],
    *,
    otherwise: str | None,
) -> list[dict[str, Any]]:
    """One entry for each weight that changes, by name; ``otherwise`` where there is no reason."""
    return [
        {
            "generator": name,
            "old_weight": float(before[name]),
            "new_weight": float(after[name]),
            "change_percent": change_percent(before[name], after[name]),
            "significant": is_significant(before[name], after[name]),
            "reason": reasons.get(name) or otherwise,
        }
        for name in sorted(after)
        if before[name] != after[name]
    ]


def describe_states(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One entry for each generator whose status or lock changes, by name; a new one has no old."""
    changed = []
    for name in sorted(after):
        old, new = before.get(name, {}), after[name]
        if old != new:
            changed.append(
                {
                    "generator": name,
                    "old_status": old.get("status"),
                    "new_status": new["status"],
                    "old_locked": old.get("locked"),
                    "new_locked": new["locked"],
                }
            )
    return changed
