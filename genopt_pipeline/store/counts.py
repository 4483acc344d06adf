"""How many rows an account has in each table."""

from sqlalchemy import Connection, func, select

from genopt_pipeline.store.schema import metadata


def row_counts(connection: Connection, account_id: str) -> dict[str, int]:
    """Rows of the account by table name."""
    return {
        table.name: int(
            connection.scalar(
                select(func.count()).select_from(table).where(table.c.account_id == account_id)
            )
            or 0
        )
        for table in metadata.sorted_tables
    }
