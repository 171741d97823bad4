"""Explains which stored data of a run is missing. `decide.lost` decides what follows from it."""

from __future__ import annotations

from workflow_operator.api.base import format_time
from workflow_operator.api.status import WorkflowState
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.observation import Loss, RunRead, RunReadFailure, StoreFailure

REASON = StoreFailure.LOST.value


def explain(state: WorkflowState, run: RunRead | RunReadFailure | None, loss: Loss, now: float) -> Explanation:
    """Return which data is missing, since when, and what to do.

    Args:
        state: the state of the Workflow.
        run: the read of the log that found it missing.
        loss: what is missing.
        now: seconds since 1970, used if the state has no earlier time.
    """
    since = format_time(state.checkpoints_lost_since if state.checkpoints_lost_since is not None else now)
    found = run.message if isinstance(run, RunReadFailure) else f"{state.storage} does not contain it"
    text = f"stored data of run {state.run_number} of workflow id {state.workflow_id!r} is missing since {since}"
    if loss is Loss.RUN:
        remedy = "Nothing can continue this run: delete this Workflow, and create it again to start from the beginning"
    else:
        remedy = "Restore it from a copy: the run then continues. Without a copy, cancel or delete this Workflow"
    return Explanation(REASON, f"{text} ({loss.value}): {found}. {remedy}", blocked=True, stalled=True)
