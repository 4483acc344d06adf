"""What the Dagster UI shows of the assets: column schemas, tables, plots. From declarations."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
from sqlalchemy import Table

from genopt_pipeline.store.schema import SCHEMA, column_rows

OWNERS = ["team:growth"]


def table_metadata(table: Table, **more: Any) -> dict[str, Any]:
    """Definition metadata of an asset that is a table: its name and its columns with comments."""
    return {
        "dagster/table_name": f"{SCHEMA}.{table.name}",
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name,
                    type_,
                    description=comment,
                    constraints=dg.TableColumnConstraints(nullable=nullable),
                )
                for name, type_, comment, nullable in column_rows(table)
            ]
        ),
        **more,
    }


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> dg.TableMetadataValue:
    """A table value; unknown cells show as a dash, never as zero."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in columns]),
    )


def _cell(value: Any) -> str | int | float | bool:
    if value is None:
        return "–"
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return str(value)


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the entries whose value is unknown: a plot has a hole there, not a zero."""
    return {key: value for key, value in values.items() if value is not None}
