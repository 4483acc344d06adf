"""Whatever a person does, the weights keep their invariants, or it is refused."""

import pytest
from hypothesis import given
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


def holds(states):
    units = [round(state.weight * UNITS) for state in states.values()]
    assert sum(units) == UNITS
    assert all(unit >= 0 for unit in units)
    for state in states.values():
        assert state.status in DRAWN_STATUSES or state.weight == 0


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "lock", "unlock", "disable", "archive", "enable"]),
        st.integers(0, 5),
        st.floats(-0.2, 1.2, allow_nan=False),
    ),
    max_size=12,
)


@given(st.integers(1, 6), ACTIONS)
def test_any_sequence_of_commands_keeps_the_sum_and_the_locks_or_is_refused(n, actions):
    states = states_of(n)
    for action, index, weight in actions:
        name = f"g{index:02}"
        before = states
        try:
            states = {
                "set": lambda s, n, w: control.set_weight(s, n, w, GUARDS),
                "lock": lambda s, n, _: control.lock(s, n),
                "unlock": lambda s, n, _: control.unlock(s, n),
                "disable": lambda s, n, _: control.retire(s, n, "disabled", GUARDS),
                "archive": lambda s, n, _: control.retire(s, n, "archived", GUARDS),
                "enable": lambda s, n, _: control.enable(s, n, GUARDS),
            }[action](states, name, weight)
        except control.ControlError:
            states = before
            continue
        holds(states)
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
