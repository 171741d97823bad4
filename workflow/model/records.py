"""What the log holds: one frozen dataclass a kind of record. `at`, `started`, `ended` are seconds since 1970.

Written by the owner of a run only (`Created` makes the run). Read by `fold`, through `codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow.model.graph import Graph, Value
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.status import WorkflowStatus


@dataclass(frozen=True, slots=True)
class Created:
    """The run itself: the content of `registry/<n>`. It counts as the claim of epoch 1.

    Attributes:
        graph: the DAG, where it is small.
        graph_blob: sha256 of the blob that holds the encoded DAG otherwise.
        shape: sha256 of `Graph.shape()`: tells "another DAG" under a used id without reading the DAG.
        max_resumes: claims in a row without progress after which the run ends FAILED; -1 without end.
        code: sha256 of the blob with the user's code, or empty.
        main_script: file name of the script that made the run, or empty.
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
    versions: str = ""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Stands at `registry/<n>` where no run is and none may be made.

    Attributes:
        status: what a reader is told: CANCELED or FAILED; for `Deleted` and `Abandoned` there is no run to speak of.
        reason: Deleted, Canceled, Abandoned, or why it failed.
        uid: the object on whose behalf it was written, or empty.
    """

    workflow_id: str
    run_number: int
    status: WorkflowStatus
    reason: str
    at: float
    uid: str = ""
    error: ErrorInfo | None = None


FREES_ID = frozenset({"Deleted", "Abandoned"})
"""Reasons of a tombstone behind which the id is free again: a reader finds nothing there."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A new epoch begins.

    Attributes:
        retry_failed: seq of the FAILED end that it voids, or -1.
        functions: sha256 of a function as stored with the run -> that of the one to execute from now on.
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
    """A try was handed to Ray, or is as soon as this segment is stored.

    Attributes:
        attempt: tries of this epoch, this one included.
        failed_attempts: how many of them raised; the others were interrupted, or found a value lost that they take.
    """

    step_id: str
    epoch: int
    attempt: int
    at: float
    failed_attempts: int = 0


@dataclass(frozen=True, slots=True)
class TimerSet:
    """A sleep has begun. It outlives its epoch: the next owner takes it up as it stands here.

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
        value: the value; the exception where `caught`.
        caught: the outcome is `(None, exception)`.
        text: JSON or plain-text rendering of the value, made where it was; empty where none was wanted.
        attempt: tries of this epoch, this one included.
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
class StepReturnedEphemeral:
    """A step without a checkpoint returned: its value is handed on within this epoch, and stored nowhere.

    The claim of the next epoch voids it where a step without an outcome still takes it.
    """

    step_id: str
    epoch: int
    attempt: int = 1
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class StepEphemeralLost:
    """The value of a step that passed was lost and is still needed, so that the step runs again."""

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
    """All tries raised and nothing caught it. `value` is the pickled exception, where it could be pickled."""

    step_id: str
    epoch: int
    error: ErrorInfo
    value: Value | None = None
    attempt: int = 1
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class StepCanceled:
    """The step is not executed (any more), because of another's failure or with the run."""

    step_id: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class RequestHandled:
    """A request from the inbox took effect: `did` says what."""

    request_id: str
    epoch: int
    result: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The run ended (SUCCESSFUL, FAILED, CANCELED), or its owner said goodbye (RESUMABLE)."""

    status: WorkflowStatus
    epoch: int
    at: float
    reason: str = ""
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """First record of a snapshot: what the records behind it do not tell.

    Attributes:
        seq: the last segment folded into it.
        epoch_started: when the epoch was claimed.
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
    | StepReturnedEphemeral
    | StepEphemeralLost
    | StepExpanded
    | StepFailed
    | StepCanceled
    | RequestHandled
    | StatusChanged
    | SnapshotHeader
)
