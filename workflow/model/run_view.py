"""What an outsider sees of a run: plain values, no Ray, nothing unpickled.

`workflow.reading` makes a RunView from the log; the operator, the CLI and the views read only this.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow.model.status import StepPhase, WorkflowStatus


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns an epoch of a run.

    Attributes:
        manager: id of the manager actor, the same over Ray's restarts of it; unique among all clusters.
        incarnation: id of the manager's process, another after each restart. Empty for an owner outside Ray.
        address: the actor's name in Ray's namespace `workflow`.
        uid: uid of the Workflow object it acts for, or empty without the operator.
        attempt: the object's attempt, counted from 1; 0 without the operator.
    """

    manager: str
    incarnation: str = ""
    address: str = ""
    uid: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as text, so that nobody has to unpickle it.

    Attributes:
        kind: qualified name of the exception's class.
        message: its text.
        traceback: the last lines of the user's traceback.
        step_id: the step that raised it, or empty.
    """

    kind: str
    message: str
    traceback: str = ""
    step_id: str = ""


@dataclass(frozen=True, slots=True)
class StepView:
    """One step execution.

    Attributes:
        step_id: unique in the run.
        name: the user's name for it.
        phase: where it stands.
        parents: ids of the steps whose outcomes it takes.
        parent_expansion: id of the dynamic step that made it, or empty.
        attempts: attempts started in the epoch of its last record.
        epoch: the epoch that wrote its last record; 0 where it has none.
        started, ended: seconds since 1970, or None.
        error: of the last failed try.
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
    """How many step executions stand where; `total` counts also those that wait."""

    total: int = 0
    succeeded: int = 0
    running: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its log tells it.

    Attributes:
        workflow_id: the user's id.
        n: which run under that id, from 1.
        run_uuid: the run's own id.
        status: RUNNING here only means "no end and no goodbye"; `reading.status_of` tells RUNNING from RESUMABLE.
        epoch: the ownership that commits now; the first is 1. 0 for a tombstone.
        owner: of that epoch.
        created, ended: seconds since 1970.
        reason: why it ended, or why a tombstone stands here: one CamelCase word.
        error: why it failed.
        counts: of step executions.
        steps: in the order they came into being.
        result_text: JSON (or plain text) rendering of the final value, cut to 16 KiB; None where there is none.
        stalled: claims in a row without a new committed step.
        culprits: step ids that ran when the epochs without progress died.
        next_seq: the first segment not read yet.
        tombstone: True where no run exists and none may be made under this `n`.
        code: sha256 of the kept user code, or empty.
        metadata: the user's, as JSON text.
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
