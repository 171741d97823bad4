"""The actions of the operator, as data. `decide` returns them, and `apply` executes them.

`apply` executes them in order after the API server accepted the PATCH of the status. The first failure ends the round,
and the next round observes and decides again. So each action must be harmless if it was executed before. Uids and
identities make sure that a late action cannot affect another object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workflow_operator.api.status import HeadIdentity, WorkflowState


@dataclass(frozen=True, slots=True)
class StoreRef:
    """The store that contains the log of a run.

    Attributes:
        url: the argument for `workflow.store.open_store`, without credentials.
        secret: the Secret with the credentials, in the namespace of the Workflow; or empty.
    """

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run, and the Workflow that acts on it.

    Attributes:
        store: the store that contains the log.
        run_number: the number of the run under the workflow id, counted from 1.
        run_uuid: the unique id of the run.
        uid: the uid of the Workflow, for `requests.Requester`.
        attempt: the submission attempt of the Workflow, for `requests.Requester`.
        name: the name of the Workflow, for `requests.Requester`.
    """

    store: StoreRef
    workflow_id: str
    run_number: int
    run_uuid: str
    uid: str
    attempt: int
    name: str


@dataclass(frozen=True, slots=True)
class HeadRef:
    """The address and the identity of one head.

    Attributes:
        cluster: the name of the RayCluster.
        identity: the only head that may receive the request.
        ip: the address of the head pod.
        token_secret: the Secret with the token of the cluster; empty if it requires no token.
    """

    cluster: str
    identity: HeadIdentity
    ip: str
    token_secret: str


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Add the operator's finalizer, on condition of the resourceVersion that the PATCH of the status returned."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Remove the operator's finalizer, so that Kubernetes deletes the object."""


@dataclass(frozen=True, slots=True)
class CreateCluster:
    """Create a RayCluster. If the name exists, the action does nothing and succeeds.

    It never uses an apply request, which could change a RayCluster of another user.

    Attributes:
        manifest: the RayCluster as JSON.
    """

    name: str
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteCluster:
    """Delete a RayCluster of this Workflow. If it no longer exists, the action succeeds.

    Attributes:
        uid: the uid of the RayCluster, the precondition of the deletion.
    """

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class StageCode:
    """Copy the user's code from the ConfigMap to the blobs of the run.

    If the copy exists, the action succeeds without reading the ConfigMap. If the ConfigMap has another digest, the
    action fails.

    Attributes:
        config_map: the name of the ConfigMap.
        sha256: the required digest of the copy.
    """

    run: RunRef
    config_map: str
    sha256: str


@dataclass(frozen=True, slots=True)
class StageArgs:
    """Copy the arguments of the entrypoint to the blobs of the run. If the copy exists, the action succeeds.

    Attributes:
        data: the encoded arguments. The submission names their sha256.
    """

    run: RunRef
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SubmitRun:
    """Upload the missing packages and submit the driver, unless the head knows the submission id.

    The action reads the identity of the head directly before the POST request, and fails if it has changed.

    Attributes:
        head: the head that is recorded in the status, the only one that may receive this attempt.
        submission_id: the id that is derived from Workflow and attempt.
        entrypoint: the shell command of the submission.
        run: the run, whose blobs contain the code.
        code: the digest of the code; empty if the image contains the code.
        runtime_env: the user's runtime environment; the adapter adds working_dir and py_modules.
        metadata: strings that Ray stores with the submission; they show that a known id belongs to this Workflow.
    """

    head: HeadRef
    submission_id: str
    entrypoint: str
    run: RunRef
    code: str
    runtime_env: Mapping[str, Any]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StopSubmission:
    """Stop the driver of a submission. If the submission is unknown or ended, the action succeeds.

    Attributes:
        head: the head that received the submission.
    """

    head: HeadRef
    submission_id: str


@dataclass(frozen=True, slots=True)
class StoreDriverLog:
    """Copy the end of a driver's log to the run. It is a best effort with a deadline, and it never fails.

    Attributes:
        run: the run whose folder receives the copy.
        head: the head on which the driver ran.
        attempt: the submission attempt of the driver.
    """

    run: RunRef
    head: HeadRef
    submission_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Request the manager that owns the run to cancel it (`requests.request_cancel`).

    Attributes:
        reason: the reason to record in the log.
    """

    run: RunRef
    reason: str


@dataclass(frozen=True, slots=True)
class EndRun:
    """Write a terminal state to the log of the run (`requests.end_run`). The next round reads what the log contains.

    If another owner runs it, the action succeeds too, because the log shows that owner.

    Attributes:
        status: the terminal state.
        reason: one CamelCase word.
        message: an explanation for people.
        only_absent: whether to prevent the run only (`requests.refuse_run`). A run that exists stays as it is.
    """

    run: RunRef
    status: Literal["FAILED", "CANCELED"]
    reason: str
    message: str
    only_absent: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseRun:
    """Release the unfinished run, so that a later Workflow can continue it (`requests.release_run`).

    Attributes:
        reason: the reason to record in the log.
    """

    run: RunRef
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteCheckpoints:
    """Delete the run and all its stored data (`requests.delete_run`)."""

    run: RunRef


@dataclass(frozen=True, slots=True)
class DeferCleanup:
    """Record a cleanup that storage did not accept before the deletion of the Workflow had to finish.

    A ConfigMap in the operator's own namespace contains the record, and the operator finishes the cleanup later. The
    name of the ConfigMap follows from the run and the uid.

    Attributes:
        namespace: the namespace of the Workflow.
        what: the cleanup: release the run, end it as CANCELED, or delete its checkpoints.
    """

    namespace: str
    run: RunRef
    what: Literal["release", "cancel", "delete"]


@dataclass(frozen=True, slots=True)
class AbandonCleanup:
    """Report in the operator's log that a cleanup is given up, because nothing can finish it later.

    Attributes:
        what: the cleanup that is given up, as in `DeferCleanup`.
        why: why it cannot be finished later.
    """

    run: RunRef
    what: Literal["release", "cancel", "delete"]
    why: str


@dataclass(frozen=True, slots=True)
class EmitEvent:
    """Write a Kubernetes event on the Workflow. It may be written twice, and a failure does not end the round.

    Attributes:
        type: Normal or Warning.
        reason: one CamelCase word.
        message: an explanation for people, without secrets.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


Action = (
    AddFinalizer
    | RemoveFinalizer
    | CreateCluster
    | DeleteCluster
    | StageCode
    | StageArgs
    | SubmitRun
    | StopSubmission
    | RequestCancel
    | EndRun
    | ReleaseRun
    | DeleteCheckpoints
    | DeferCleanup
    | AbandonCleanup
    | EmitEvent
    | StoreDriverLog
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of `decide`.

    Attributes:
        state: the status to write. If there are actions, it is written even if it is unchanged, because an accepted
            PATCH proves that the observation is still valid. Without actions, an unchanged status is not written.
        actions: the actions to execute after that PATCH, in order.
        requeue_after: the longest delay until the next round, in seconds; a watch event can start it earlier. None if
            only an event can change anything, as in a terminal phase.
    """

    state: WorkflowState
    actions: tuple[Action, ...] = field(default=())
    requeue_after: float | None = None
