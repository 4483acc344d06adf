"""Live weights: reading them, and the one way in which they change.

Every change writes an event that holds all weights and states from then on, raises the account's
version by one and updates the rows, in the caller's transaction. The database checks at commit
that rows and event agree and that the weights sum to exactly 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from genopt_pipeline.core.changes import BEGINNING, describe_changes, describe_states
from genopt_pipeline.core.episodes import BEGINS, ENDS, Episode
from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.store import schema
from genopt_pipeline.store.engine import lock_account

QUANTUM = Decimal("0.0001")
EPOCH_REASON = "default weights"
#: How an account comes to be registered, with whose generators.
REGISTER = (
    "with GENOPT_ACCOUNT set to it, run `genopt migrate` (the twelve default generators) or "
    "`genopt import EXPORT --labels LABELS --new-account` (the generators that the labels name)"
)


class StaleVersionError(RuntimeError):
    """The weights changed since the proposal was computed."""


class UnknownAccountError(LookupError):
    """The account is not registered."""


class UnknownGeneratorError(LookupError):
    """The generator is not registered."""


@dataclass(frozen=True)
class GeneratorRow:
    """Weight and state of one generator."""

    weight: Decimal
    status: str
    locked: bool


@dataclass(frozen=True)
class Weights:
    """All weights of an account at one version."""

    version: int
    generators: dict[str, GeneratorRow]

    @property
    def by_name(self) -> dict[str, float]:
        """Weights as floats, by generator."""
        return {name: float(row.weight) for name, row in self.generators.items()}


@dataclass(frozen=True)
class Event:
    """What is written of a change, beside the weights themselves; see ``optimization_events``."""

    event_type: str
    reason: str | None = None
    created_by: str = "system"
    changes: Sequence[Mapping[str, Any]] = ()
    success: bool = True
    error_message: str | None = None
    posts_analyzed: int | None = None
    period_days: float | None = None
    top_performer: str | None = None
    top_performer_f_per_1k: float | None = None
    bottom_performer: str | None = None
    bottom_performer_f_per_1k: float | None = None
    execution_time_ms: float | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None


def quantize(weight: float | Decimal) -> Decimal:
    """A weight as stored, with 4 decimals."""
    return Decimal(str(weight)).quantize(QUANTUM)


def list_accounts(connection: Connection) -> list[str]:
    """Registered accounts, by name."""
    table = schema.accounts
    return list(connection.scalars(select(table.c.account_id).order_by(table.c.account_id)))


def ensure_account(
    connection: Connection,
    account_id: str,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
) -> bool:
    """Register an account with its first weights; False if it is registered already.

    The first weights hold from the beginning of time, so that every past post has weights that
    were in force when it was drawn.
    """
    lock_account(connection, account_id)
    known = connection.scalar(
        select(schema.accounts.c.account_id).where(schema.accounts.c.account_id == account_id)
    )
    if known is not None:
        return False
    connection.execute(schema.accounts.insert().values(account_id=account_id, weights_version=0))
    rows = {
        name: GeneratorRow(quantize(weight), "active", locked=False)
        for name, weight in weights.items()
    }
    connection.execute(
        schema.generator_weights.insert(),
        [{"account_id": account_id, "generator_name": name} for name in sorted(rows)],
    )
    change_weights(
        connection,
        account_id,
        rows,
        expected_version=0,
        effective_at=BEGINNING,
        event=Event("initial_weights", reason=EPOCH_REASON),
    )
    return True


def registered_at(connection: Connection, account_id: str) -> datetime:
    """When a registered account was registered."""
    table = schema.accounts
    query = select(table.c.created_at).where(table.c.account_id == account_id)
    at: datetime = connection.execute(query).scalar_one()
    return at


def live_weights(connection: Connection, account_id: str) -> Weights:
    """Live weights, states and version, read in one statement.

    Raises
    ------
    UnknownAccountError
        The account is not registered.
    """
    table, accounts = schema.generator_weights, schema.accounts
    rows = connection.execute(
        select(
            accounts.c.weights_version,
            table.c.generator_name,
            table.c.weight,
            table.c.status,
            table.c.optimization_locked,
        )
        .join_from(accounts, table, table.c.account_id == accounts.c.account_id)
        .where(accounts.c.account_id == account_id)
        .order_by(table.c.generator_name.collate("C"))
    ).all()
    if not rows:
        known = ", ".join(list_accounts(connection)) or "none"
        raise UnknownAccountError(
            f"account {account_id!r} is not registered (registered: {known}); {REGISTER}"
        )
    return Weights(
        version=rows[0].weights_version,
        generators={
            row.generator_name: GeneratorRow(row.weight, row.status, row.optimization_locked)
            for row in rows
        },
    )


def weights_in_force(connection: Connection, account_id: str, at: datetime) -> Weights:
    """Weights and states that were in force at ``at``; what is published later cannot change it.

    Raises
    ------
    UnknownAccountError
        The account had no weights then.
    """
    rows = connection.execute(
        text("SELECT * FROM genopt.weights_in_force(:account, :at)"),
        {"account": account_id, "at": at},
    ).all()
    if not rows:
        raise UnknownAccountError(f"account {account_id!r} had no weights at {at:%Y-%m-%d %H:%M}")
    return Weights(
        version=rows[0].weights_version,
        generators={
            row.generator_name: GeneratorRow(
                quantize(row.weight), row.status, row.optimization_locked
            )
            for row in rows
        },
    )


def weights_history(
    connection: Connection, account_id: str, since: datetime, until: datetime
) -> list[tuple[datetime, int, dict[str, float]]]:
    """(effective_at, version, weights) of every version in force in ``[since, until)``."""
    table = schema.optimization_events
    rows = connection.execute(
        select(table.c.effective_at, table.c.weights_version, table.c.weights_after)
        .where(
            table.c.account_id == account_id,
            table.c.weights_after.is_not(None),
            table.c.effective_at < until,
        )
        .order_by(table.c.weights_version)
    ).all()
    history = [
        (row.effective_at, row.weights_version, {k: float(v) for k, v in row.weights_after.items()})
        for row in rows
    ]
    before = [index for index, item in enumerate(history) if item[0] <= since]
    return history[before[-1] :] if before else history


def change_weights(
    connection: Connection,
    account_id: str,
    generators: Mapping[str, GeneratorRow],
    *,
    expected_version: int,
    effective_at: datetime,
    event: Event,
    override: bool = False,
) -> int:
    """Put ``generators`` in force and write the event; returns the new version.

    ``generators`` names every registered generator. ``override`` allows a locked weight to change.

    Raises
    ------
    StaleVersionError
        The version in force is not ``expected_version``.
    sqlalchemy.exc.DBAPIError
        At commit, if an invariant would be broken.
    """
    lock_account(connection, account_id)
    version = connection.scalar(
        update(schema.accounts)
        .where(
            schema.accounts.c.account_id == account_id,
            schema.accounts.c.weights_version == expected_version,
        )
        .values(weights_version=expected_version + 1)
        .returning(schema.accounts.c.weights_version)
    )
    if version is None:
        raise StaleVersionError(
            f"the weights of account {account_id!r} changed since version {expected_version}; "
            "nothing was written"
        )
    before = live_weights(connection, account_id).generators
    if set(before) != set(generators):
        raise UnknownGeneratorError(
            f"the new weights of account {account_id!r} do not name its generators: "
            f"{sorted(set(before) ^ set(generators))}"
        )
    if override:
        connection.execute(text("SET LOCAL genopt.override = 'on'"))
    table = schema.generator_weights
    changed = [name for name in sorted(generators) if before[name] != generators[name]]
    if changed:
        connection.execute(
            update(table)
            .where(table.c.account_id == account_id, table.c.generator_name == bindparam("b_name"))
            .values(
                weight=bindparam("b_weight"),
                status=bindparam("b_status"),
                optimization_locked=bindparam("b_locked"),
            ),
            [
                {
                    "b_name": name,
                    "b_weight": generators[name].weight,
                    "b_status": generators[name].status,
                    "b_locked": generators[name].locked,
                }
                for name in changed
            ],
        )
    if override:
        connection.execute(text("SET LOCAL genopt.override = 'off'"))
    reasons = {change["generator"]: change.get("reason") for change in event.changes}
    changes = describe_changes(
        {name: row.weight for name, row in before.items()},
        {name: row.weight for name, row in generators.items()},
        reasons,
        otherwise=event.reason,
    )
    if event.event_type == "initial_weights":
        changes = [{**change, "old_weight": None} for change in changes]
    _insert_event(
        connection,
        account_id,
        event,
        changes=changes,
        generators_updated=len(changes),
        weights_version=version,
        weights_after={name: generators[name].weight for name in sorted(generators)},
        states_after={
            name: {"status": generators[name].status, "locked": generators[name].locked}
            for name in sorted(generators)
        },
        effective_at=effective_at,
    )
    return int(version)


def record_event(
    connection: Connection, account_id: str, event: Event, *, effective_at: datetime
) -> None:
    """Write an event that changes no weight."""
    _insert_event(
        connection,
        account_id,
        event,
        changes=list(event.changes),
        generators_updated=0,
        weights_version=None,
        weights_after=None,
        states_after=None,
        effective_at=effective_at,
    )


_INSERT_EVENT = text("""
    INSERT INTO genopt.optimization_events
        (account_id, event_type, posts_analyzed, period_days, generators_updated, top_performer,
         top_performer_f_per_1k, bottom_performer, bottom_performer_f_per_1k, changes,
         execution_time_ms, success, error_message, reason, window_start, window_end,
         weights_version, weights_after, states_after, effective_at, created_by)
    VALUES
        (:account_id, :event_type, :posts_analyzed, :period_days, :generators_updated,
         :top_performer, :top_performer_f_per_1k, :bottom_performer, :bottom_performer_f_per_1k,
         :changes, :execution_time_ms, :success, :error_message, :reason, :window_start,
         :window_end, :weights_version,
         (SELECT jsonb_object_agg(key, value::numeric) FROM jsonb_each_text(:weights_after)),
         :states_after, :effective_at, :created_by)
""").bindparams(
    bindparam("changes", type_=JSONB),
    bindparam("weights_after", type_=JSONB(none_as_null=True)),
    bindparam("states_after", type_=JSONB(none_as_null=True)),
)


def _insert_event(
    connection: Connection,
    account_id: str,
    event: Event,
    *,
    changes: list[Mapping[str, Any]] | list[dict[str, Any]],
    generators_updated: int,
    weights_version: int | None,
    weights_after: Mapping[str, Decimal] | None,
    states_after: Mapping[str, Mapping[str, Any]] | None,
    effective_at: datetime,
) -> None:
    connection.execute(
        _INSERT_EVENT,
        {
            "account_id": account_id,
            "event_type": event.event_type,
            "posts_analyzed": event.posts_analyzed,
            "period_days": event.period_days,
            "generators_updated": generators_updated,
            "top_performer": event.top_performer,
            "top_performer_f_per_1k": event.top_performer_f_per_1k,
            "bottom_performer": event.bottom_performer,
            "bottom_performer_f_per_1k": event.bottom_performer_f_per_1k,
            "changes": changes,
            "execution_time_ms": event.execution_time_ms,
            "success": event.success,
            "error_message": event.error_message,
            "reason": event.reason,
            "window_start": event.window_start,
            "window_end": event.window_end,
            "weights_version": weights_version,
            "weights_after": None
            if weights_after is None
            else {name: str(weight) for name, weight in weights_after.items()},
            "states_after": states_after,
            "effective_at": effective_at,
            "created_by": event.created_by,
        },
    )


def open_episodes(connection: Connection, account_id: str) -> set[Episode]:
    """Episodes that began and did not end: neither by an event, nor by leaving the draw since."""
    found: set[Episode] = set()
    for kind, begins in BEGINS.items():
        names = connection.scalars(
            text("""
                SELECT newest.generator FROM (
                    SELECT DISTINCT ON (changes -> 0 ->> 'generator')
                           changes -> 0 ->> 'generator' AS generator, event_type, id
                      FROM genopt.optimization_events
                     WHERE account_id = :account AND event_type IN (:begins, :ends)
                     ORDER BY changes -> 0 ->> 'generator', id DESC
                ) newest
                 WHERE newest.event_type = :begins
                   AND NOT EXISTS (
                       SELECT FROM genopt.optimization_events later
                        WHERE later.account_id = :account AND later.id > newest.id
                          AND later.states_after -> newest.generator ->> 'status'
                              IN ('disabled', 'archived'))
            """),
            {"account": account_id, "begins": begins, "ends": ENDS[kind]},
        )
        found |= {(kind, name) for name in names}
    return found


def recent_events(connection: Connection, account_id: str, limit: int = 20) -> list[dict[str, Any]]:
    """Newest events first, as dictionaries of their columns.

    ``states_changed`` says whose status or lock the event changed, see ``describe_states``; empty
    for an account's first weights, which change nothing.
    """
    table, earlier = schema.optimization_events, schema.optimization_events.alias()
    rows = connection.execute(
        select(table, earlier.c.states_after.label("states_before"))
        .join_from(
            table,
            earlier,
            (earlier.c.account_id == table.c.account_id)
            & (earlier.c.weights_version == table.c.weights_version - 1),
            isouter=True,
        )
        .where(table.c.account_id == account_id)
        .order_by(table.c.id.desc())
        .limit(limit)
    ).mappings()
    events = []
    for row in rows:
        event = dict(row)
        before, after = event.pop("states_before"), event["states_after"]
        event["states_changed"] = [] if before is None else describe_states(before, after)
        events.append(event)
    return events
