"""What sources remember between windows, and who is collecting."""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import OperationalError

#: How long the server of a process that has just died may need to notice it.
LOCK_WAIT_SECONDS: Final = 5.0
_LOCK_NOT_AVAILABLE: Final = "55P03"


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


def begin_collecting(connection: Connection, account_id: str) -> bool:
    """Keep other processes from collecting an account while this connection lives.

    No transaction is left open meanwhile. False if another process is at it.
    """
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text(f"SET lock_timeout = '{int(LOCK_WAIT_SECONDS * 1000)}ms'"))
    try:
        connection.execute(
            text("SELECT pg_advisory_lock(hashtext('genopt.collect'), hashtext(:account))"),
            {"account": account_id},
        )
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    finally:
        connection.execute(text("RESET lock_timeout"))
    return True


def end_collecting(connection: Connection, account_id: str) -> None:
    """Let others collect the account."""
    connection.execute(
        text("SELECT pg_advisory_unlock(hashtext('genopt.collect'), hashtext(:account))"),
        {"account": account_id},
    )
