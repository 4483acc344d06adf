"""Manual control from the launchpad does what the commands do, and fails with one clear line."""

import dagster as dg
import pytest

from genopt_pipeline.defs.build import build_defs, make_pipeline
from genopt_pipeline.defs.control_job import CONTROL, CONTROL_OP
from genopt_pipeline.store import weights as weight_store
from genopt_pipeline_tests.scenario import START, Clock


@pytest.fixture
def pipeline(make_settings):
    return make_pipeline(make_settings(start=START), clock=Clock(START))


@pytest.fixture
def control(pipeline):
    job = build_defs(pipeline).resolve_job_def(CONTROL)

    def run(**config):
        with dg.DagsterInstance.ephemeral() as instance:
            return job.execute_in_process(
                run_config={"ops": {CONTROL_OP: {"config": config}}},
                instance=instance,
                raise_on_error=False,
            )

    return run


def newest(pipeline):
    with pipeline.read() as connection:
        return weight_store.recent_events(connection, "main", 1)[0]


def test_the_launchpad_changes_weights_with_an_event_and_shows_them(pipeline, control):
    result = control(action="set_weight", generator="Coach", weight=0.2, reason="a hunch")
    assert result.success
    event = newest(pipeline)
    assert event["event_type"] == "manual_override"
    assert event["created_by"] == f"dagster run {result.run_id}"
    assert event["effective_at"] == START
    (made,) = [
        item.event_specific_data.materialization
        for item in result.all_events
        if item.is_step_materialization
    ]
    assert made.asset_key == dg.AssetKey("generator_weights")
    assert made.metadata["main/weight/coach"].value == 0.2
    assert made.metadata["main/version"].value == 2
    shown = {row.data["generator"]: row.data for row in made.metadata["main/changes"].records}
    assert shown["coach"] == {"generator": "coach", "old_weight": 0.08, "new_weight": 0.2}

    assert control(action="lock", generator="coach", reason="keep it").success
    assert control(action="rollback", reason="no").success
    assert newest(pipeline)["states_after"]["coach"] == {"status": "active", "locked": False}


REFUSED = [
    ({"action": "lock", "generator": "nobody", "reason": "x"}, "'nobody' is not registered"),
    ({"action": "lock", "reason": "x"}, "lock needs a generator"),
    ({"action": "set_weight", "generator": "coach", "reason": "x"}, "needs a weight"),
    (
        {"action": "set_weight", "generator": "coach", "weight": 1.5, "reason": "x"},
        "between 0 and 1",
    ),
    ({"action": "unlock", "generator": "coach", "reason": "x"}, "nothing to do"),
    ({"action": "lock", "generator": "coach", "reason": " "}, "needs a reason"),
    ({"action": "rollback", "to_event": 99, "reason": "x"}, "event 99"),
    ({"action": "lock", "generator": "coach", "account": "nobody", "reason": "x"}, "account"),
    ({"action": "add", "generator": "poet", "account": "nobody", "reason": "x"}, "account"),
    ({"action": "add", "generator": "--", "reason": "x"}, "letters or digits"),
    ({"action": "add", "generator": "Human Voice", "reason": "x"}, "spelled like humanVoice"),
    ({"action": "lock", "generator": "coach", "reason": "\x00"}, "NUL"),
]


def test_a_command_that_cannot_be_done_fails_once_with_one_line_and_writes_nothing(
    pipeline, control
):
    for config, said in REFUSED:
        result = control(**config)
        assert not result.success
        (failure,) = result.get_step_failure_events()
        description = failure.step_failure_data.user_failure_data.description
        assert said in description
        assert "\n" not in description
        assert not any(event.is_step_up_for_retry for event in result.all_events)
    assert newest(pipeline)["event_type"] == "initial_weights"


def test_an_unknown_action_is_refused_by_the_launchpad(control):
    with pytest.raises(dg.DagsterInvalidConfigError, match="action"):
        control(action="delete", generator="coach", reason="x")
