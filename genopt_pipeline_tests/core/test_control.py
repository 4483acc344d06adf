"""Whatever a person does, the weights keep their invariants, or it is refused."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from genopt_pipeline.core import control
from genopt_pipeline.core.generators import DRAWN_STATUSES, equal_weights
from genopt_pipeline.core.guards import UNITS, GuardConfig
from genopt_pipeline.core.policies import GeneratorState

GUARDS = GuardConfig()


def states_of(n):
    return {
        name: GeneratorState(w) for name, w in equal_weights(f"g{i:02}" for i in range(n)).items()
    }


def holds(states, guards=GUARDS):
    units = [round(state.weight * UNITS) for state in states.values()]
    assert sum(units) == UNITS
    assert all(unit >= 0 for unit in units)
    for state in states.values():
        if state.status not in DRAWN_STATUSES:
            assert state.weight == 0
        elif not state.locked:
            assert guards.floor <= state.weight <= guards.cap


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "lock", "unlock", "disable", "archive", "enable"]),
        st.integers(0, 5),
        st.floats(-0.2, 1.2, allow_nan=False),
    ),
    max_size=12,
)


@given(st.integers(1, 6), ACTIONS, st.sampled_from([GUARDS, GuardConfig(floor=0.05, cap=0.4)]))
def test_any_sequence_of_commands_keeps_sum_floor_cap_and_locks_or_is_refused(n, actions, guards):
    assume(n * guards.cap >= 1)
    states = states_of(n)
    for action, index, weight in actions:
        name = f"g{index:02}"
        before = states
        try:
            states = {
                "set": lambda s, n, w: control.set_weight(s, n, w, guards),
                "lock": lambda s, n, _: control.lock(s, n),
                "unlock": lambda s, n, _: control.unlock(s, n, guards),
                "disable": lambda s, n, _: control.retire(s, n, "disabled", guards),
                "archive": lambda s, n, _: control.retire(s, n, "archived", guards),
                "enable": lambda s, n, _: control.enable(s, n, guards),
            }[action](states, name, weight)
        except control.ControlError:
            states = before
            continue
        holds(states, guards)
        for other, state in before.items():
            if other != name and state.locked and state.status in DRAWN_STATUSES:
                assert states[other].weight == state.weight


def test_a_set_weight_is_exactly_what_was_asked_and_the_others_keep_their_ratios():
    states = {
        "a": GeneratorState(0.5),
        "b": GeneratorState(0.3),
        "c": GeneratorState(0.2),
    }
    after = control.set_weight(states, "a", 0.25, GUARDS)
    assert {name: state.weight for name, state in after.items()} == {"a": 0.25, "b": 0.45, "c": 0.3}


CANNOT = [
    # guards, locks, name, weight, what is said
    (GUARDS, {}, "g00", 0.001, "below the floor, 0.02, .* lock g00 first to hold it lower, or dis"),
    (GuardConfig(cap=0.4), {}, "g00", 0.5, "above the cap, 0.4; lock g00 first"),
    (GUARDS, {}, "g00", 1.0, "left to g00, 0.94: the 3 others that are free keep the floor"),
    (GUARDS, {"g01": 0.25}, "g00", 0.8, "left to g00, 0.71: the 2 others .* locked: g01 0.25$"),
    (GuardConfig(cap=0.3), {}, "g00", 0.05, "must be left to g00, 0.1: the 3 others .* the cap of"),
]


@pytest.mark.parametrize(("guards", "locks", "name", "weight", "said"), CANNOT)
def test_a_weight_that_cannot_be_set_is_refused_with_the_bound_and_the_way(
    guards, locks, name, weight, said
):
    states = {
        key: GeneratorState(state.weight, locked=key in locks)
        for key, state in states_of(4).items()
    }
    with pytest.raises(control.ControlError, match=said):
        control.set_weight(states, name, weight, guards)


def test_only_a_lock_holds_a_weight_below_the_floor_and_it_rises_when_the_lock_ends():
    held = control.set_weight(control.lock(states_of(4), "g00"), "g00", 0.001, GUARDS)
    assert held["g00"] == GeneratorState(0.001, locked=True)
    holds(held)
    free = control.unlock(held, "g00", GUARDS)
    assert free["g00"] == GeneratorState(0.02)
    holds(free)


def test_a_generator_is_enabled_beside_locks_that_hold_nearly_everything():
    states = {
        "a": GeneratorState(0.9, locked=True),
        "b": GeneratorState(0.1),
        "c": GeneratorState(0.0, "disabled"),
    }
    after = control.enable(states, "c", GUARDS)
    assert {name: state.weight for name, state in after.items()} == {"a": 0.9, "b": 0.05, "c": 0.05}


def test_a_rollback_lifts_to_todays_floor_what_was_below_it():
    earlier = {"a": GeneratorState(0.03), "b": GeneratorState(0.97)}
    after = control.restore(earlier, earlier, GuardConfig(floor=0.05))
    assert {name: state.weight for name, state in after.items()} == {"a": 0.05, "b": 0.95}


def test_the_last_drawn_generator_cannot_be_taken_out():
    with pytest.raises(control.ControlError, match="no generator is active"):
        control.retire(states_of(1), "g00", "disabled", GUARDS)


def test_a_new_generator_gets_a_fair_chance():
    states = states_of(3) | {"new": GeneratorState(0.0, "disabled")}
    after = control.enable(states, "new", GUARDS, status="testing")
    holds(after)
    assert after["new"].weight == pytest.approx(0.25, abs=0.001)
    assert after["new"].status == "testing"


def test_a_rollback_gives_the_earlier_weights_and_disables_what_came_later():
    earlier = states_of(3)
    states = control.set_weight(earlier, "g00", 0.5, GUARDS) | {"new": GeneratorState(0.0)}
    after = control.restore(states, earlier, GUARDS)
    holds(after)
    assert {name: after[name] for name in earlier} == earlier
    assert after["new"].status == "disabled"


def test_a_rollback_leaves_archived_what_was_registered_since_and_archived():
    earlier = states_of(2)
    states = earlier | {"new": GeneratorState(0.0, "archived")}
    states = control.set_weight(states, "g00", 0.7, GUARDS)
    assert control.restore(states, earlier, GUARDS)["new"].status == "archived"


def test_a_generator_that_is_archived_can_be_enabled_again_and_leaves_its_lock_behind():
    out = control.retire(control.lock(states_of(3), "g00"), "g00", "archived", GUARDS)
    assert out["g00"] == GeneratorState(0.0, "archived", locked=False)
    back = control.enable(out, "g00", GUARDS)
    holds(back)
    assert back["g00"].status == "active"
