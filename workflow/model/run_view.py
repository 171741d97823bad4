"""A run as plain values for readers outside the engine: without Ray, and without unpickled values.

`workflow.reading` creates a RunView from the log. The operator and `workflow.view` read only this.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow.model.status import StepPhase, WorkflowStatus


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of an epoch of a run.

    Attributes:
        manager: the id of the manager actor. Ray's restarts keep it, and it is unique among all clusters.
        incarnation: the id of the manager's process, which changes with each restart. Empty for an owner outside Ray.
        address: the name of the actor in Ray's namespace `workflow`.
        uid: the uid of the Workflow object for which it owns the run, or empty without the operator.
        attempt: the submission attempt of that object, counted from 1; 0 without the operator.
        process: the processes that would all have to end with it, as `workflow.log.processes` describes them: that of
            the manager, and the raylet that would restart it. Empty if they are not known.
    """

    manager: str
    incarnation: str = ""
    address: str = ""
    uid: str = ""
    attempt: int = 0
    process: str = ""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as text, which readers can show without unpickling it.

    Attributes:
        kind: the qualified name of the exception class.
        message: the text of the exception.
        traceback: the last lines of the user's traceback.
        step_id: the step that raised the exception, or empty.
    """

    kind: str
    message: str
    traceback: str = ""
    step_id: str = ""


@dataclass(frozen=True, slots=True)
class StepView:
    """One step execution.

    Attributes:
        step_id: its id, unique in the run.
        name: the user's name for the step.
        phase: the state of the step.
        parents: ids of the steps whose outcomes it consumes.
        parent_expansion: the id of the dynamic step that returned it, or empty.
        attempts: the attempts that were started in the epoch of its last record.
        epoch: the epoch that wrote its last record; 0 if it has none.
        started, ended: seconds since 1970, or None. If earlier attempts raised, the next one may start in the future.
        error: the error with which the step failed. If it is RUNNING, that of the attempt before. Otherwise None.
    """

    step_id: str
    name: str
    phase: StepPhase
    parents: tuple[str, ...]
    parent_expansion: str
    attempts: int
    epoch: int
    started: float | None
    ended: float | None
    error: ErrorInfo | None


@dataclass(frozen=True, slots=True)
class StepCounts:
    """The number of step executions in each state. `total` includes the steps that wait."""

    total: int = 0
    succeeded: int = 0
    running: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its log records it.

    Attributes:
        workflow_id: the user's id.
        run_number: the number of the run under that id, from 1.
        run_uuid: the id of the run itself.
        status: the status in the log. It is RUNNING also if the owner's heartbeat has expired; `reading.status_of`
            returns RESUMABLE then.
        epoch: the current epoch, from 1; 0 for a tombstone.
        owner: the owner of that epoch.
        created, ended: seconds since 1970.
        reason: why the run ended, or why the tombstone was written: one CamelCase word.
        error: why the run failed.
        counts: the number of step executions in each state.
        steps: all step executions, in the order of their creation.
        result_text: the final value as exact JSON, or a description in angle brackets if it has none; at most 16 KiB.
            Empty if the log contains no text of it, and None without a value. Earlier versions wrote any plain text.
        epochs_without_progress: consecutive claims without a newly committed step.
        suspect_steps: ids of the steps that were running when the owners of these epochs failed.
        next_seq: the first segment that is not read yet.
        tombstone: whether no run exists under this number and none may be created.
        code: sha256 of the stored user code, or empty.
        metadata: the user's metadata, as JSON text.
    """

    workflow_id: str
    run_number: int
    run_uuid: str
    status: WorkflowStatus
    epoch: int
    owner: Owner | None
    created: float
    ended: float | None
    reason: str
    error: ErrorInfo | None
    counts: StepCounts
    steps: tuple[StepView, ...]
    result_text: str | None
    epochs_without_progress: int
    suspect_steps: tuple[str, ...]
    next_seq: int
    tombstone: bool = False
    code: str = ""
    metadata: str = "{}"
