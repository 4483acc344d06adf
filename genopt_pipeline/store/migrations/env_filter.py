"""Which objects of a database the migrations are about."""

from genopt_pipeline.store.schema import SCHEMA


def is_ours(name: str | None, type_: str, _parents: object) -> bool:
    """Leave other schemas, and the monthly partitions that are made at run time, alone."""
    if type_ == "schema":
        return name == SCHEMA
    return not (type_ == "table" and (name or "").startswith("post_metric_snapshots_"))
