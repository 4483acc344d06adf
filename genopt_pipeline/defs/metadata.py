"""What the Dagster UI shows of the assets: column schemas, tables, plots. From declarations."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
from sqlalchemy import Table

from genopt_pipeline.defs.partitions import key_of
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


def rounded(value: Any) -> Any:
    """A number as a plot needs it: floats to four decimals, everything else as it is."""
    return round(value, 4) + 0.0 if isinstance(value, float) else value


class PerPartition:
    """What a run says of each partition that it materializes, gathered over the accounts.

    Dagster repeats the metadata of a run's result under every partition of a range; so what is
    true of one window is told of that window alone.
    """

    #: Dagster's name for the rows of one partition; ``dagster/row_count`` is a whole table's.
    ROWS = "dagster/partition_row_count"

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._newest: dict[str, datetime] = {}
        self._values: dict[str, dict[str, Any]] = {}

    def add(
        self,
        start: datetime,
        *,
        rows: int,
        data_time: datetime | None,
        counts: Mapping[str, int] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        """Add what an account has in the window from ``start`` on.

        rows: how many its table holds of the window. data_time: the newest observation they were
        made of; None where nothing was observed. counts: summed over the accounts. values: of this
        account, under names with its id; unknown ones are left out.
        """
        key = key_of(start)
        sums = self._counts.setdefault(key, {})
        for name, count in {self.ROWS: rows, **(counts or {})}.items():
            sums[name] = sums.get(name, 0) + count
        if data_time is not None:
            self._newest[key] = max(data_time, self._newest.get(key, data_time))
        self._values.setdefault(key, {}).update(known(values or {}))

    def tell(self, context: dg.AssetExecutionContext, asset: str) -> None:
        """Attach it to the partitions of an asset."""
        for key, counts in self._counts.items():
            newest = self._newest.get(key)
            context.add_asset_metadata(
                {
                    **counts,
                    **({} if newest is None else {"data_time": dg.MetadataValue.timestamp(newest)}),
                    **self._values[key],
                },
                asset_key=asset,
                partition_key=key,
            )
