"""What sources remember between windows."""

from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB


def get_state(connection: Connection, account_id: str, source: str, key: str) -> Any | None:
    """The remembered value, or None."""
    return connection.scalar(
        text("""
            SELECT value FROM genopt.source_states
             WHERE account_id = :account AND source = :source AND key = :key
        """),
        {"account": account_id, "source": source, "key": key},
    )


def set_state(connection: Connection, account_id: str, source: str, key: str, value: Any) -> None:
    """Remember ``value`` (JSON; never a secret)."""
    connection.execute(
        text("""
            INSERT INTO genopt.source_states AS s (account_id, source, key, value)
            VALUES (:account, :source, :key, :value)
            ON CONFLICT (account_id, source, key) DO UPDATE
               SET value = excluded.value, updated_at = now()
             WHERE s.value IS DISTINCT FROM excluded.value
        """).bindparams(bindparam("value", type_=JSONB)),
        {"account": account_id, "source": source, "key": key, "value": value},
    )


def keep_first(connection: Connection, account_id: str, source: str, key: str, value: Any) -> Any:
    """Remember ``value`` unless something is remembered already; returns what is remembered."""
    connection.execute(
        text("""
            INSERT INTO genopt.source_states (account_id, source, key, value)
            VALUES (:account, :source, :key, :value)
            ON CONFLICT (account_id, source, key) DO NOTHING
        """).bindparams(bindparam("value", type_=JSONB)),
        {"account": account_id, "source": source, "key": key, "value": value},
    )
    return get_state(connection, account_id, source, key)
