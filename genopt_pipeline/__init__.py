"""Learns which content generators earn followers, and sets their weights.

The public surface for content engines is what this module exports; everything else is reached
through the command ``genopt`` or the Dagster definitions in ``genopt_pipeline.definitions``.
"""

__version__ = "0.1.0"
