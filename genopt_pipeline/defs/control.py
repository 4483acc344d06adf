"""Manual changes of weights: core decides, the store writes weights and event together."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from genopt_pipeline.core import control
from genopt_pipeline.core.control import ControlError, States
from genopt_pipeline.core.names import normalize_name
from genopt_pipeline.core.policies import GeneratorState, GuardConfig
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.defs.steps import optimizer_config
from genopt_pipeline.store import schema
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline.store.engine import lock_account


class Action(StrEnum):
    """What a person may do; the name is the value, so both are right in a run's configuration."""

    set_weight = "set_weight"
    lock = "lock"
    unlock = "unlock"
    disable = "disable"
    enable = "enable"
    add = "add"
    archive = "archive"
    rollback = "rollback"


_EVENTS: dict[str, str] = {
    "set_weight": "manual_override",
    "lock": "locked",
    "unlock": "unlocked",
    "disable": "generator_disabled",
    "enable": "generator_enabled",
    "add": "generator_added",
    "archive": "generator_archived",
    "rollback": "rollback",
}


@dataclass(frozen=True)
class Command:
    """What a person asks for. ``to_event`` is for a rollback; None: the version before."""

    action: str
    reason: str
    created_by: str
    generator: str | None = None
    weight: float | None = None
    to_event: int | None = None


def apply(pipeline: Pipeline, account_id: str, command: Command) -> dict[str, Any]:
    """Do it, with its event, in one transaction; returns what changed.

    Raises
    ------
    ControlError, store.weights.UnknownAccountError
        It cannot be done; nothing was written.
    """
    if command.action not in _EVENTS:
        raise ControlError(f"unknown action {command.action!r}; use one of {', '.join(_EVENTS)}")
    if not command.reason.strip():
        raise ControlError("every change needs a reason")
    if "\x00" in command.reason + (command.generator or ""):
        raise ControlError("a reason or name must not contain the character NUL")
    guards = optimizer_config(pipeline.settings).guards
    with pipeline.write() as connection:
        lock_account(connection, account_id)
        live = weight_store.live_weights(connection, account_id)
        if command.action == "add":
            _register(connection, account_id, command.generator or "")
            live = weight_store.live_weights(connection, account_id)
        states = _states(live)
        name = _resolve(connection, account_id, command)
        after = _decide(connection, account_id, command, name, states, guards)
        if after == states:
            raise ControlError(f"nothing to do: {name or 'the account'} is as asked already")
        rows = {
            key: weight_store.GeneratorRow(
                weight_store.quantize(state.weight), state.status, state.locked
            )
            for key, state in after.items()
        }
        version = weight_store.change_weights(
            connection,
            account_id,
            rows,
            expected_version=live.version,
            effective_at=pipeline.now(),
            event=weight_store.Event(
                _EVENTS[command.action], reason=command.reason, created_by=command.created_by
            ),
            override=True,
        )
        if name is not None:
            connection.execute(
                schema.generator_weights.update()
                .where(
                    schema.generator_weights.c.account_id == account_id,
                    schema.generator_weights.c.generator_name == name,
                )
                .values(notes=command.reason)
            )
    return {
        "account": account_id,
        "action": command.action,
        "generator": name,
        "version": version,
        "weights": {key: state.weight for key, state in after.items()},
        "changes": [
            {"generator": key, "old_weight": states[key].weight, "new_weight": state.weight}
            for key, state in after.items()
            if state.weight != states[key].weight
        ],
        "states": [
            {"generator": key, "old_state": _told(states[key]), "new_state": _told(state)}
            for key, state in after.items()
            if _told(state) != _told(states[key])
        ],
    }


def _told(state: GeneratorState) -> str:
    return state.status + (", locked" if state.locked else "")


def _states(live: weight_store.Weights) -> States:
    return {
        name: GeneratorState(float(row.weight), row.status, row.locked)  # type: ignore[arg-type]  # the database checks the status
        for name, row in live.generators.items()
    }


def _register(connection: Connection, account_id: str, name: str) -> None:
    if not normalize_name(name):
        raise ControlError("a new generator needs a name with letters or digits")
    taken = connection.scalar(
        text("SELECT genopt.resolve_generator(:account, :name)"),
        {"account": account_id, "name": name},
    )
    if taken is not None:
        raise ControlError(f"{name!r} is spelled like {taken}, which is registered")
    connection.execute(
        schema.generator_weights.insert().values(
            account_id=account_id, generator_name=name, weight=0, status="disabled"
        )
    )


def _resolve(connection: Connection, account_id: str, command: Command) -> str | None:
    if command.action == "rollback":
        return None
    if command.generator is None:
        raise ControlError(f"{command.action} needs a generator")
    name: str | None = connection.scalar(
        text("SELECT genopt.resolve_generator(:account, :name)"),
        {"account": account_id, "name": command.generator},
    )
    return name or command.generator


def _decide(
    connection: Connection,
    account_id: str,
    command: Command,
    name: str | None,
    states: States,
    guards: GuardConfig,
) -> States:
    if name is None:
        return control.restore(states, _earlier(connection, account_id, command.to_event), guards)
    if command.action == "set_weight":
        if command.weight is None:
            raise ControlError("set_weight needs a weight")
        return control.set_weight(states, name, command.weight, guards)
    simple: dict[str, Callable[[], States]] = {
        "lock": lambda: control.lock(states, name),
        "unlock": lambda: control.unlock(states, name, guards),
        "disable": lambda: control.retire(states, name, "disabled", guards),
        "archive": lambda: control.retire(states, name, "archived", guards),
        "enable": lambda: control.enable(states, name, guards),
        "add": lambda: control.enable(states, name, guards, status="testing"),
    }
    return simple[command.action]()


def _earlier(connection: Connection, account_id: str, to_event: int | None) -> States:
    events = schema.optimization_events
    query = events.select().where(
        events.c.account_id == account_id, events.c.weights_after.is_not(None)
    )
    if to_event is None:
        rows = connection.execute(query.order_by(events.c.id.desc()).limit(2)).all()
        if len(rows) < 2:
            raise ControlError("there is no earlier version to go back to")
        row = rows[1]
    else:
        found = connection.execute(query.where(events.c.id == to_event)).first()
        if found is None:
            raise ControlError(f"event {to_event} put no weights in force; see `genopt history`")
        row = found
    return {
        name: GeneratorState(
            float(weight), row.states_after[name]["status"], row.states_after[name]["locked"]
        )
        for name, weight in row.weights_after.items()
    }
