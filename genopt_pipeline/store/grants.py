"""What a database role may do: an engine, a reader, or the worker that runs the loop.

Roles belong to the whole server and are made by its administrator; here they get no more than
their part needs. Only the role that migrates owns the tables and may change them.
"""

from typing import Literal, get_args

from sqlalchemy import Connection, text

from genopt_pipeline.store.schema import SCHEMA

Part = Literal["engine", "reader", "worker"]
PARTS: tuple[Part, ...] = get_args(Part)

#: What an engine may call; these functions run with the rights of their owner.
ENGINE_FUNCTIONS = ("select_generator", "arm_weights", "record_post")


class GrantError(ValueError):
    """The grant cannot be made; nothing was changed."""


def grant(connection: Connection, role: str, part: Part) -> list[str]:
    """Give an existing role the rights of its part, and return the statements; safe to repeat.

    Tables that later migrations make are included, if the same role migrates.

    Raises
    ------
    GrantError
        There is no such role.
    """
    exists = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    if not connection.scalar(exists, {"role": role}):
        raise GrantError(
            f"there is no database role {role!r}; make it first: CREATE ROLE … LOGIN PASSWORD …"
        )
    quote = connection.dialect.identifier_preparer.quote_identifier
    name, database = quote(role), quote(str(connection.scalar(text("SELECT current_database()"))))
    statements = [
        f"GRANT CONNECT ON DATABASE {database} TO {name}",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}",
    ]
    if part == "engine":
        functions = connection.scalars(
            text("""
                SELECT oid::regprocedure::text FROM pg_proc
                 WHERE pronamespace = to_regnamespace(:schema) AND proname = ANY(:names)
                 ORDER BY 1
            """),
            {"schema": SCHEMA, "names": list(ENGINE_FUNCTIONS)},
        )
        statements += [f"GRANT EXECUTE ON FUNCTION {function} TO {name}" for function in functions]
    else:
        tables = "SELECT" if part == "reader" else "SELECT, INSERT, UPDATE, DELETE"
        statements += _on(SCHEMA, tables, "TABLES", name)
    if part == "worker":
        statements += [
            *_on(SCHEMA, "USAGE", "SEQUENCES", name),
            # batches go in through a staging table
            f"GRANT TEMPORARY ON DATABASE {database} TO {name}",
        ]
    for statement in statements:
        connection.execute(text(statement))
    return statements


def _on(schema: str, rights: str, objects: str, role: str) -> list[str]:
    return [
        f"GRANT {rights} ON ALL {objects} IN SCHEMA {schema} TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {rights} ON {objects} TO {role}",
    ]
