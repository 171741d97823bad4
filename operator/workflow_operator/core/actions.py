"""Everything that the operator does to the world, as data. `decide` returns them, `apply` carries them out.

They are carried out in order, after the PATCH of the status was answered with 200, and the first that fails ends the
round: the next round observes again and decides anew. So each must be harmless when it was carried out before, and
each names what it acts on exactly enough (uids, identities) that a late one cannot hit anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workflow_operator.api.status import HeadIdentity, WorkflowState


@dataclass(frozen=True, slots=True)
class StoreRef:
    """Where a run's log lies.

    Attributes:
        url: for `workflow.store.open_store`, without credentials.
        secret: Secret in the Workflow's namespace with the credentials, or empty.
    """

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class RunRef:
    """Which run, and who acts on it.

    Attributes:
        store: where its log lies.
        workflow_id, n, run_uuid: which run.
        uid, attempt, name: the acting object, as `requests.Actor` wants it.
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
    """How to reach one head, and which one it must be.

    Attributes:
        cluster: name of the RayCluster.
        identity: the head that is meant; nothing may be posted to another.
        ip: its pod's address.
        token_secret: Secret with the cluster's token, or empty where it has none.
    """

    cluster: str
    identity: HeadIdentity
    ip: str
    token_secret: str


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Put our finalizer on the object, under the resourceVersion that the status PATCH returned."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Let the object go."""


@dataclass(frozen=True, slots=True)
class CreateCluster:
    """Create a RayCluster. Where one of this name exists, whoever made it, nothing is done to that: a plain create,
    never an apply, which would edit a stranger's cluster.

    Attributes:
        name: its name.
        manifest: the whole RayCluster as JSON.
    """

    name: str
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteCluster:
    """Delete a RayCluster of ours, with its uid as precondition; one that is gone is a success.

    Attributes:
        name: its name.
        uid: its uid.
    """

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class StageCode:
    """Keep a copy of the user's code in the run's blobs. A copy that lies there already is a success, without a look
    at the ConfigMap; a ConfigMap that now gives another digest is a failure of this action.

    Attributes:
        run: the run.
        config_map: name of the ConfigMap.
        sha256: digest that the copy must have.
    """

    run: RunRef
    config_map: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SubmitRun:
    """Upload what is missing of library and code, and post the submission, if the head does not know its id.

    The head's identity is read again right before the POST; another one is a failure of this action.

    Attributes:
        head: the one head that this attempt may be posted to; it stands in status.
        submission_id: a function of object and attempt.
        entrypoint: the shell command of the submission.
        run: the run; its blobs hold the code.
        code: digest of the code, or empty where the image holds it.
        runtime_env: the user's, without working_dir and py_modules, which the shell adds.
        metadata: strings kept with the submission; they show that a known id is ours.
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
    """Stop the driver of a submission; one that is unknown or ended is a success.

    Attributes:
        head: where it runs.
        submission_id: its id.
    """

    head: HeadRef
    submission_id: str


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Ask the run's live manager to cancel (`requests.ask_cancel`).

    Attributes:
        run: the run.
        reason: for the log.
    """

    run: RunRef
    reason: str


@dataclass(frozen=True, slots=True)
class EndRun:
    """End the run in its log (`requests.end_run`); what the log then says is read in the next round. An answer that
    somebody else owns the run is a success too: the log says so.

    Attributes:
        run: the run.
        status: FAILED or CANCELED.
        reason: one CamelCase word.
        message: in words.
    """

    run: RunRef
    status: Literal["FAILED", "CANCELED"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ReleaseRun:
    """Leave the run without an end, so that a later object can continue it (`requests.say_goodbye`).

    Attributes:
        run: the run.
        reason: for the log.
    """

    run: RunRef
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteCheckpoints:
    """Delete the run and all that it stored (`requests.delete_run`).

    Attributes:
        run: the run.
    """

    run: RunRef


@dataclass(frozen=True, slots=True)
class DeferCleanup:
    """Write down, in a ConfigMap of the operator's own namespace, what could not be done in storage before the object
    had to go; a worker of the operator works it off. Its name is a function of the run and the uid.

    Attributes:
        namespace: the Workflow's.
        run: the run.
        what: the step that is owed.
    """

    namespace: str
    run: RunRef
    what: Literal["release", "cancel", "delete"]


@dataclass(frozen=True, slots=True)
class EmitEvent:
    """Write a Kubernetes event on the Workflow. May be written twice; a failure to write it never ends a round.

    Attributes:
        type: Normal or Warning.
        reason: one CamelCase word.
        message: in words; no secrets.
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
    | SubmitRun
    | StopSubmission
    | RequestCancel
    | EndRun
    | ReleaseRun
    | DeleteCheckpoints
    | DeferCleanup
    | EmitEvent
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What `decide` answers.

    Attributes:
        state: the status to write. Where `actions` is not empty it is PATCHed even if nothing changed, because the
            resourceVersion in that PATCH is what proves that the observation still holds; without actions an
            unchanged status need not be written.
        actions: to carry out after that PATCH, in order.
        requeue_after: seconds until the next round at the latest; watch events come earlier. None: only an event can
            change anything (a terminal Workflow).
    """

    state: WorkflowState
    actions: tuple[Action, ...] = field(default=())
    requeue_after: float | None = None
