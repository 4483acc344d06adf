"""Records that could not be used: kept with their reason, once each."""

import hashlib
import json
import math
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from genopt_pipeline.store import schema


def fingerprint(kind: str, source: str, place: str, raw: object) -> str:
    """Hash that is equal for a repeated delivery of the same record."""
    text = json.dumps([kind, source, place, raw], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text(value: str) -> str:
    """Without what PostgreSQL cannot hold: NUL characters and halves of surrogate pairs."""
    return value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _text(str(value))


def put(
    connection: Connection,
    account_id: str,
    source: str,
    records: Iterable[tuple[str, str, str, Any]],
) -> int:
    """Quarantine (kind, place, reason, raw) records; returns how many are new."""
    rows = [
        {
            "account_id": account_id,
            "kind": kind,
            "source": _text(source),
            "place": _text(place),
            "reason": _text(reason),
            "raw": _clean(raw),
            "fingerprint": fingerprint(kind, source, place, raw),
        }
        for kind, place, reason, raw in records
    ]
    if not rows:
        return 0
    unique = list({row["fingerprint"]: row for row in rows}.values())
    statement = (
        insert(schema.quarantine)
        .on_conflict_do_nothing(index_elements=["account_id", "fingerprint"])
        .returning(schema.quarantine.c.id)
    )
    return len(connection.execute(statement, unique).all())


def unresolved(connection: Connection, account_id: str, limit: int = 100) -> list[dict[str, Any]]:
    """Open records, newest first."""
    table = schema.quarantine
    rows = connection.execute(
        select(table)
        .where(table.c.account_id == account_id, table.c.resolved_at.is_(None))
        .order_by(table.c.id.desc())
        .limit(limit)
    ).mappings()
    return [dict(row) for row in rows]


def known_places(
    connection: Connection, account_id: str, kind: str, places: Collection[str]
) -> set[str]:
    """Those of the places that hold a record of this kind, open or dealt with."""
    table = schema.quarantine
    return set(
        connection.scalars(
            select(table.c.place).where(
                table.c.account_id == account_id,
                table.c.kind == kind,
                table.c.place.in_(list(places)),
            )
        )
    )


def count_unresolved(connection: Connection, account_id: str) -> dict[str, int]:
    """Open records by kind."""
    table = schema.quarantine
    rows = connection.execute(
        select(table.c.kind, func.count())
        .where(table.c.account_id == account_id, table.c.resolved_at.is_(None))
        .group_by(table.c.kind)
        .order_by(table.c.kind)
    ).all()
    return {kind: int(count) for kind, count in rows}


class NotInQuarantineError(ValueError):
    """There is no open record of this id or file."""


def resolve_records(
    connection: Connection, account_id: str, ids: Collection[int], *, reason: str, now: datetime
) -> int:
    """Mark open records as dealt with, all or none; returns how many.

    They stay, with the reason; the same record delivered again does not open them again.

    Raises
    ------
    NotInQuarantineError
        An id is not that of an open record of the account.
    """
    table = schema.quarantine
    done = set(
        connection.scalars(
            table.update()
            .where(
                table.c.account_id == account_id,
                table.c.id.in_(ids),
                table.c.resolved_at.is_(None),
            )
            .values(resolved_at=now, resolution=reason)
            .returning(table.c.id)
        )
    )
    missing = sorted(set(ids) - done)
    if missing:
        raise NotInQuarantineError(
            f"account {account_id!r} has no open record {', '.join(map(str, missing))}; "
            "nothing was resolved"
        )
    return len(done)


def resolve_source(
    connection: Connection, account_id: str, source: str, *, reason: str, now: datetime
) -> int:
    """Mark all open records of a file (or another source) as dealt with; returns how many.

    Raises
    ------
    NotInQuarantineError
        It has none.
    """
    table = schema.quarantine
    of_account = (table.c.account_id == account_id, table.c.resolved_at.is_(None))
    done = connection.execute(
        table.update()
        .where(*of_account, table.c.source == source)
        .values(resolved_at=now, resolution=reason)
    )
    if not done.rowcount:
        known = connection.scalars(select(table.c.source).where(*of_account).distinct())
        raise NotInQuarantineError(
            f"{source!r} has no open record; these have: {', '.join(sorted(known)) or 'none'}"
        )
    return int(done.rowcount)


def resolve_name(
    connection: Connection, account_id: str, raw_name: str, generator: str, *, now: datetime
) -> int:
    """Add an alias for ``raw_name`` and give its posts to ``generator``; returns the posts."""
    key = func.genopt.normalize_generator_name(raw_name)
    alias = insert(schema.generator_aliases).values(
        account_id=account_id, alias_key=key, generator_name=generator, created_by="manual"
    )
    connection.execute(
        alias.on_conflict_do_update(
            index_elements=["account_id", "alias_key"], set_={"generator_name": generator}
        )
    )
    posts = schema.content_metadata
    moved = connection.execute(
        posts.update()
        .where(
            posts.c.account_id == account_id,
            posts.c.generator_name.is_(None),
            func.genopt.normalize_generator_name(posts.c.generator_name_raw) == key,
        )
        .values(generator_name=generator)
    )
    table = schema.quarantine
    connection.execute(
        table.update()
        .where(
            table.c.account_id == account_id,
            table.c.kind == "generator_name",
            table.c.resolved_at.is_(None),
            func.genopt.normalize_generator_name(table.c.raw["generator_name"].astext) == key,
        )
        .values(resolved_at=now, resolution=f"alias of {generator}")
    )
    return int(moved.rowcount)
