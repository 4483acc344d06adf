"""Learns which content generators earn followers, and sets their weights.

The public surface for content engines is what this module exports; everything else is reached
through the command ``genopt`` or the Dagster definitions in ``genopt_pipeline.definitions``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genopt_pipeline.store.selector import GeneratorSelector, Selection

__version__ = "0.1.0"
__all__ = ["GeneratorSelector", "Selection", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the selector when it is asked for: importing a layer must not load the database's."""
    if name in {"GeneratorSelector", "Selection"}:
        from genopt_pipeline.store import selector

        return getattr(selector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
