"""The records of the log: one frozen dataclass for each kind. `at`, `started` and `ended` are seconds since 1970.

Names of classes and fields are part of the format on disk; docs/design/log-format.md has the rules for changes. Only
the owner of a run writes records; `Created` creates the run. `fold` reads them, through `codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow.model.graph import Graph, Value
from workflow.model.program import Program
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.status import WorkflowStatus


@dataclass(frozen=True, slots=True)
class Created:
    """The run itself, in the registry. It is also the claim of epoch 1.

    Attributes:
        graph: the DAG, if it is small.
        graph_blob: SHA-256 of the blob that contains the encoded DAG otherwise.
        shape: SHA-256 of `Graph.shape()`, by which another DAG under a used id is recognized without reading the DAG.
        max_resumes: consecutive epochs without progress after which the run fails; -1 for no limit.
        metadata: the user's, as JSON text.
        code: SHA-256 of the blob with the user's code, or empty.
        main_script: file name of the script that created the run, or empty; for messages.
        program: the program that created the run.
        versions: of Python and the libraries that pickled, as `name version` words.
    """

    workflow_id: str
    run_number: int
    run_uuid: str
    owner: Owner
    shape: str
    at: float
    graph: Graph | None = None
    graph_blob: str = ""
    max_resumes: int = -1
    metadata: str = "{}"
    code: str = ""
    main_script: str = ""
    program: Program = field(default_factory=Program)
    versions: str = ""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A registry entry without a run: no run with this number can be created.

    Attributes:
        status: the status that readers get, CANCELED or FAILED. `Deleted` and `Abandoned` mean that there is no run.
        reason: Deleted, Abandoned, Canceled, or why it failed.
        uid: uid of the Workflow object on whose behalf it was written, or empty.
    """

    workflow_id: str
    run_number: int
    status: WorkflowStatus
    reason: str
    at: float
    uid: str = ""
    error: ErrorInfo | None = None


FREES_ID = frozenset({"Deleted", "Abandoned"})
"""Reasons of a tombstone after which the workflow id is free again: readers report that there is no run."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A new epoch begins.

    Attributes:
        retry_failed: seq of the terminal record FAILED that this claim undoes, or -1.
        functions: SHA-256 of a function as stored with the run, and SHA-256 of the one to execute from now on.
    """

    epoch: int
    owner: Owner
    at: float
    reason: str = ""
    retry_failed: int = -1
    versions: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepStarted:
    """An attempt of a step starts when this segment is stored. Some attempts start a little earlier or later.

    Attributes:
        attempt: number of attempts in this epoch, including this one.
        at: when the attempt starts. This is after a pause if the attempts before raised.
        failed_attempts: number of earlier attempts that raised. Others were interrupted, or lost an ephemeral input.
        error: what the attempt before raised, without its traceback; None if it did not raise.
    """

    step_id: str
    epoch: int
    attempt: int
    at: float
    failed_attempts: int = 0
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class TimerSet:
    """A sleep, or a wait with a timeout, began. It continues in later epochs from this record.

    Attributes:
        at: when it began.
        due: when it is over, in seconds since 1970.
    """

    step_id: str
    epoch: int
    at: float
    due: float


@dataclass(frozen=True, slots=True)
class StepCommitted:
    """The one outcome of a step execution.

    Attributes:
        value: the value, or the exception if `caught`.
        caught: the outcome is `(None, exception)`.
        text: the value as exact JSON or a description in angle brackets, and `(None, exception)` as plain text; empty
            unless it is the value of the run.
        attempt: number of attempts in this epoch, including this one.
    """

    step_id: str
    epoch: int
    value: Value
    caught: bool = False
    text: str = ""
    attempt: int = 1
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class WaitDecided:
    """The one outcome of a wait. Its consumers get the outcomes of these steps, and references to the others.

    Attributes:
        ready: ids of the parents that count as ready, in the order of the parents. They have their outcomes.
        started: when its timer was set, or 0 without a timeout.
    """

    step_id: str
    epoch: int
    ready: tuple[str, ...] = ()
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class StepReturnedEphemeral:
    """A step with checkpoint=False returned. Only the owner of this epoch has its value; it is not stored.

    The claim of the next epoch invalidates it if a step without an outcome still needs it.
    """

    step_id: str
    epoch: int
    attempt: int = 1
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class StepEphemeralLost:
    """An ephemeral value was lost and is still needed, so that its step runs again."""

    step_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class StepExpanded:
    """A dynamic step returned a DAG. This is its committed execution: it never runs again."""

    step_id: str
    epoch: int
    graph: Graph | None = None
    graph_blob: str = ""
    attempt: int = 1
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class StepFailed:
    """All attempts raised and nothing caught it. `value` is the pickled exception, if it could be pickled."""

    step_id: str
    epoch: int
    error: ErrorInfo
    value: Value | None = None
    attempt: int = 1
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class StepCanceled:
    """The step is not executed, because another step failed or the run was canceled."""

    step_id: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class RequestHandled:
    """A request of the inbox took effect. `result` is what was done, for users."""

    request_id: str
    epoch: int
    result: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The run finished (SUCCESSFUL, FAILED, CANCELED), or its owner released it (RESUMABLE)."""

    status: WorkflowStatus
    epoch: int
    at: float
    reason: str = ""
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """The first record of a snapshot: the part of the state that its other records do not contain.

    Attributes:
        seq: the last segment that is included.
        epoch_started: when the epoch was claimed.
        released: whether its owner released the run.
        epochs_without_progress: consecutive claims without a commit between them.
        suspect_steps: the steps that were running before each of these claims.
        handled_requests: ids of the requests that took effect.
        functions: see `Claimed.functions`.
    """

    seq: int
    epoch: int
    owner: Owner
    epoch_started: float
    status: WorkflowStatus
    released: bool
    epochs_without_progress: int
    suspect_steps: tuple[str, ...]
    handled_requests: tuple[str, ...]
    functions: Mapping[str, str] = field(default_factory=dict)


Record = (
    Created
    | Tombstone
    | Claimed
    | StepStarted
    | TimerSet
    | StepCommitted
    | WaitDecided
    | StepReturnedEphemeral
    | StepEphemeralLost
    | StepExpanded
    | StepFailed
    | StepCanceled
    | RequestHandled
    | StatusChanged
    | SnapshotHeader
)
