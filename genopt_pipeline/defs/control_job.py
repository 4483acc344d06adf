"""Manual changes of weights from the launchpad: the commands of ``genopt``, as a Dagster job.

Here: the typed configuration and how a change is shown. What a command does is in ``control``.
"""

from typing import Any

import dagster as dg
from pydantic import Field

from genopt_pipeline.defs import control, metadata
from genopt_pipeline.defs.failures import explained
from genopt_pipeline.defs.resources import Pipeline
from genopt_pipeline.store.weights import UnknownAccountError

CONTROL = "control_weights"
#: Not the job's name: a repository has one namespace for both.
CONTROL_OP = "change_weights"


class ControlConfig(dg.Config):
    """What to do, with which generator, and why."""

    action: control.Action = Field(
        description="set_weight, lock, unlock, disable, enable, add, archive or rollback."
    )
    reason: str = Field(description="Why; kept with the event.")
    generator: str | None = Field(
        default=None, description="The generator, in any spelling. Not for rollback."
    )
    weight: float | None = Field(
        default=None, description="For set_weight: its new weight, from 0 to 1."
    )
    to_event: int | None = Field(
        default=None,
        description="For rollback: id of the event to go back to. Unset: the version before.",
    )
    account: str | None = Field(
        default=None, description="The account. Unset: the one of GENOPT_ACCOUNT."
    )


def make_control_job() -> dg.JobDefinition:
    """The job ``control_weights``."""

    # no retries: after a commit that nobody heard of, a second rollback would undo the first
    @dg.op(
        name=CONTROL_OP,
        description="Changes weights or states as a person asks, as an event with its reason. The "
        "others make room; floor, cap, locks and the sum of exactly 1 hold. A command that cannot "
        "be done writes nothing.",
    )
    def change_weights(
        context: dg.OpExecutionContext,
        config: ControlConfig,
        pipeline: dg.ResourceParam[Pipeline],
    ) -> None:
        command = control.Command(
            config.action.value,
            config.reason,
            created_by=f"dagster run {context.run_id}",
            generator=config.generator,
            weight=config.weight,
            to_event=config.to_event,
        )
        try:
            with explained():
                done = control.apply(pipeline, config.account or pipeline.settings.account, command)
        except UnknownAccountError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        for change in done["changes"]:
            context.log.info(
                "%s: %.4f to %.4f", change["generator"], change["old_weight"], change["new_weight"]
            )
        for change in done["states"]:
            context.log.info(
                "%s: %s to %s", change["generator"], change["old_state"], change["new_state"]
            )
        changed = materialization(done)
        context.add_output_metadata(changed.metadata)
        context.log_event(changed)

    @dg.job(
        name=CONTROL,
        description="Manual control: set a weight, lock, unlock, disable, enable, add or archive a "
        "generator, or roll back. Fill in action and reason in the launchpad.",
        executor_def=dg.in_process_executor,
        tags={"dagster/max_retries": "0"},
    )
    def control_job() -> None:
        change_weights()

    return control_job


def materialization(done: dict[str, Any]) -> dg.AssetMaterialization:
    """A change by hand as the page of ``generator_weights`` shows it."""
    account_id = done["account"]
    shown = {
        "dagster/row_count": len(done["weights"]),
        "action": done["action"],
        **metadata.known({"generator": done["generator"]}),
        f"{account_id}/version": done["version"],
        f"{account_id}/changes": metadata.table(
            done["changes"], ("generator", "old_weight", "new_weight")
        ),
        f"{account_id}/states": metadata.table(
            done["states"], ("generator", "old_state", "new_state")
        ),
        **{f"{account_id}/weight/{name}": weight for name, weight in done["weights"].items()},
    }
    return dg.AssetMaterialization("generator_weights", metadata=shown)
