"""The code location that Dagster loads; nothing but the definitions."""

from genopt_pipeline.defs.build import build_defs

defs = build_defs()
