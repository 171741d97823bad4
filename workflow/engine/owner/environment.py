"""Decides whether a failed attempt is the fault of the cluster, and not of the step.

An operator resumes a run on other clusters. Such a cluster may lack a module, or credentials for the store. If that
failed the step, the run would end although another cluster could continue it. The owner releases the run instead.
"""

from __future__ import annotations

from workflow.engine.messages import Raised, StepResult
from workflow.errors import InvalidInputError, StoreRefusedError
from workflow.model.state import RunState


def check_environment(state: RunState, result: StepResult) -> None:
    """Raise if this cluster cannot execute the steps of a run that a Workflow object owns.

    In the first epoch, inputs that cannot be loaded are a failure of the step: no other cluster executed the run.

    Args:
        state: the state of the run.
        result: the result of an attempt.

    Raises:
        InvalidInputError: the inputs of the step cannot be loaded here, and the run was resumed.
        StoreRefusedError: the store refused the worker.
    """
    if not isinstance(result, Raised) or not result.environment or not state.owner.uid:
        return
    why = f"step {result.error.step_id!r} cannot be executed on this cluster: {result.error.message}"
    if result.environment == "store":
        raise StoreRefusedError(f"{why}; correct the credentials of its pods, then the run continues")
    if state.epoch > 1:
        raise InvalidInputError(f"{why}; correct the image or the code, then the run continues")
