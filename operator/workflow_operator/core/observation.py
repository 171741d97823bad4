"""The input of `decide`: everything that `observe` reads in one round.

The values are frozen, so that a test can write down a round. Times are seconds since 1970. The rules for `observe`:

- It reads the Workflow with its `resource_version`, and the PATCH of the status carries that version.
- It reads the submission before the log. So a submission that ended without a terminal state in the log is a fact, and
  not an effect of the order of the reads.
- A failed read of the log or of the head is a value: `RunReadFailure`, `HeadUnreachable` or `HeadRefused`. After a
  failure of the Kubernetes API, the whole round is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import DriverLog, HeadIdentity, WorkflowState
from workflow_operator.core.head_census import HeadsReport
from workflow_operator.core.log_view import RunView, WorkflowStatus

DEFAULT_POLL_SECONDS = 1.0
"""Longest delay between two reads of a running Workflow's progress, in seconds; the chart sets the same default."""

OOM_KILLED = "OOMKilled"
"""Reason of Kubernetes for a container that exceeded its memory limit."""
KILLED = frozenset({OOM_KILLED, "Evicted"})
"""Reasons of pods that were killed. They are replaced soon, so they are shown longer than they exist."""


@dataclass(frozen=True, slots=True)
class WorkflowObject:
    """A Workflow as the API server returned it.

    Attributes:
        generation: increases with each change of the spec.
        resource_version: changes with each write to the object.
        created: its creationTimestamp.
        deleted: its deletionTimestamp, or None.
        spec: the parsed spec, or None if it is invalid.
        refusal: what to change in an invalid spec; empty if the spec is valid.
        state: the parsed status; without values if the object has none yet.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    created: float
    spec: WorkflowSpec | None
    refusal: str = ""
    state: WorkflowState = field(default_factory=WorkflowState)
    deleted: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodProblem:
    """Why a pod does not start or has failed, in the words of Kubernetes.

    Attributes:
        reason: one word, such as ImagePullBackOff, ErrImagePull, Unschedulable, CreateContainerConfigError, Evicted.
        message: the text of Kubernetes, with the names of the pod and of the image if they are known.
        since: when it was first observed.
    """

    reason: str
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class Disruption:
    """Why Kubernetes ended a pod that had not failed by itself.

    Attributes:
        reason: one word, such as PreemptionByScheduler, EvictionByEvictionAPI or DeletionByTaintManager.
        message: the text of Kubernetes, or empty.
        node_lost: whether the node of the pod was lost, and nothing else is known.
    """

    reason: str
    message: str = ""
    node_lost: bool = False


@dataclass(frozen=True, slots=True)
class HeadView:
    """The head pod of a RayCluster. If there are two, this is the one that is not being deleted.

    Attributes:
        identity: the pod UID and the id of the Ray container, which is empty before the first start of the container.
        ip: the address of the pod, or empty.
        phase: the pod's phase: Pending, Running, Succeeded, Failed or Unknown.
        running: whether the Ray container is running.
        ready: whether the pod is Ready.
        deleting: whether the pod has a deletionTimestamp.
        reason: the reason of the pod, such as Evicted or NodeLost, or of the container, such as OOMKilled; or empty.
        disruption: why Kubernetes ends the pod (its condition DisruptionTarget), or None.
        node_lost: whether Kubernetes set the pod to not Ready because its node no longer reports.
        detail: more about that reason for messages, such as the exit code and the memory limit; or empty.
        sidecars: the other containers of the pod that must be ready and are not.
        started: when the Ray container started, or None.
    """

    pod_name: str
    identity: HeadIdentity
    ip: str = ""
    phase: str = "Pending"
    running: bool = False
    ready: bool = False
    deleting: bool = False
    reason: str = ""
    disruption: Disruption | None = None
    node_lost: bool = False
    detail: str = ""
    sidecars: tuple[str, ...] = ()
    started: float | None = None


@dataclass(frozen=True, slots=True)
class WorkersView:
    """The worker pods of a RayCluster, as a summary whose size does not depend on their number.

    Attributes:
        desired: how many workers KubeRay should have started.
        ready: how many worker pods are Ready.
        problem: the problem that most of the other pods have, in the words of Kubernetes or KubeRay; or None.
        affected: how many pods have that problem; 0 if KubeRay could not create them.
        killed: the worker that was killed last, even if it was restarted or replaced since; or None.
    """

    desired: int = 0
    ready: int = 0
    problem: PodProblem | None = None
    affected: int = 0
    killed: PodProblem | None = None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A RayCluster with its head pod.

    Attributes:
        created: its creationTimestamp.
        owner_uid: the uid of its controlling owner, or empty.
        ready: whether it was provisioned and its head is ready, by its conditions. KubeRay never resets this, so it
            does not show whether the head is alive.
        suspended: whether spec.suspend is true or its conditions include Suspended.
        failed: what KubeRay failed to do, such as the creation of a pod (ReplicaFailure, state failed); or empty.
            KubeRay repeats it, so it does not show that the cluster failed.
        deleting: whether it has a deletionTimestamp.
        warning: its newest Warning event, such as an invalid spec; or empty.
        pod_problem: the most important problem of its pods, with the head first; or None.
        head: its head pod, or None if there is none.
        was_ready: whether all its pods were ready once. KubeRay then does not replace the head of a Workflow's cluster.
        token_secret: the name of the Secret with its token (key auth_token); empty if it requires no token.
        workers: its worker pods.
    """

    name: str
    uid: str
    created: float
    labels: Mapping[str, str] = field(default_factory=dict)
    owner_uid: str = ""
    ready: bool = False
    suspended: bool = False
    failed: str = ""
    deleting: bool = False
    warning: str = ""
    pod_problem: PodProblem | None = None
    head: HeadView | None = None
    token_secret: str = ""
    was_ready: bool = False
    workers: WorkersView = WorkersView()


class JobState(str, Enum):
    """The state of a submission that the Jobs API reports; UNKNOWN if it does not know the submission id."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


ENDED_JOBS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})
"""The states of a submission that has ended."""


@dataclass(frozen=True, slots=True)
class SubmissionView:
    """The reply of the recorded head about the recorded submission.

    Attributes:
        state: the reported state.
        exit_code: the exit code of the driver, if it exited with one.
        message: the text of the Jobs API, with the last lines of the driver's log after a failure.
    """

    state: JobState
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class HeadUnreachable:
    """The head did not reply.

    Attributes:
        message: the request and its result.
    """

    message: str


@dataclass(frozen=True, slots=True)
class HeadRefused:
    """The head replied without the state of the submission, or it could not be asked without a token.

    Attributes:
        reason: HeadRefusesToken, TokenUnreadable or HeadError, used in conditions.
        message: the request and its result, with what to do.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SecretView:
    """The storage Secret.

    Attributes:
        present: whether it exists.
        missing: the required keys that it does not contain.
    """

    name: str
    present: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigMapView:
    """The ConfigMap with the user's code.

    Attributes:
        present: whether it exists.
        sha256: the digest of the package of its files; empty if it is absent or cannot be packaged.
        refusal: why it cannot be packaged and what to change, for example a file named workflow.py; or empty.
    """

    name: str
    present: bool
    sha256: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class RunRead:
    """The newest run under the workflow id, as the log describes it.

    Attributes:
        view: the run, or None if nothing is stored under this id.
        liveness: the result of `reading.status_of`, which is RUNNING, RESUMABLE or a terminal state; None without a
            view.
        code_staged: whether the blobs of the run contain the copy of the code that the status names. It is only read
            if status.code is set and the view names no code.
        waiting: why steps have had no worker for a while, as the manager of the run reports it; or empty.
    """

    view: RunView | None = None
    liveness: WorkflowStatus | None = None
    code_staged: bool = False
    waiting: str = ""


class StoreFailure(str, Enum):
    """Why the log could not be read. The value is the reason in conditions."""

    UNAVAILABLE = "StoreUnavailable"
    """The store did not reply; the operator retries."""
    REFUSED = "StoreRefused"
    """The store refused the request; the message names the wrong setting."""
    CORRUPT = "StoreCorrupt"
    """A stored object is damaged."""
    NEWER = "WrittenByNewerVersion"
    """A newer version of the library wrote a stored object; the operator must be upgraded."""
    LOST = "CheckpointsLost"
    """The store contains nothing of a run that was read from it before."""


class Loss(str, Enum):
    """What a store that replied no longer contains."""

    RUN = "the registry entry and the log of the run"
    """All of the run is missing, so nothing can continue it."""
    OBJECT = "an object of the run"
    """A single object is missing. It may be restored from a copy."""
    BUCKET = "the bucket"
    """The server is perhaps starting and has not loaded its buckets yet."""


@dataclass(frozen=True, slots=True)
class RunReadFailure:
    """A failed read of the log.

    Attributes:
        kind: whether the store is unavailable, refused the request, or contains a damaged object.
        message: what failed, why, and what to do; it contains no credentials.
        loss: what the store no longer contains, if it replied and something is missing; or None.
    """

    kind: StoreFailure
    message: str
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """The settings of the operator that decisions depend on.

    The storage settings apply to Workflows without `spec.storage`.

    Attributes:
        storage_uri: bucket and prefix; empty if the operator has no default storage.
        storage_endpoint: the address of the server; empty for AWS.
        storage_region: the region of the bucket, or empty.
        storage_secret: the name of the Secret with the credentials, in the namespace of each Workflow; or empty.
        poll_seconds: the longest delay between two reads of a running Workflow's progress, in seconds.
    """

    storage_uri: str = ""
    storage_endpoint: str = ""
    storage_region: str = ""
    storage_secret: str = ""
    poll_seconds: float = DEFAULT_POLL_SECONDS


@dataclass(frozen=True, slots=True)
class Observation:
    """The input of one round.

    Attributes:
        workflow: the object itself.
        defaults: the settings of the operator.
        clusters: all RayClusters of the namespace that have the uid of this Workflow in their label.
        named: the RayCluster with the name in `status.cluster.name`, even if another user created it; None if it does
            not exist.
        candidates: the RayClusters that match spec.cluster.selector; empty without a selector.
        submission: the reply about `status.submission`. It is read in the phases Provisioning, Running and Canceling,
            and only from the head that `status.cluster.head` identifies; else None.
        run: the newest run under the workflow id; None if no storage is known or its Secret is missing or incomplete.
        secret: the storage Secret, or None if the storage needs none.
        config_map: the ConfigMap with the code, or None without spec.code.
        refused: why the API server or the head refused an action of the last round, or empty. Only the process
            remembers it: after a restart, the action is attempted and refused again.
        heads: how many heads became unreachable together with the recorded one, or None if this was not counted.
        disruption: why Kubernetes ended the recorded head pod, if that pod is gone; or None.
        namespace_terminating: whether the namespace of the Workflow is being deleted. It is read before an attempt may
            start, and during a cancellation or deletion. If it is True, objects that may not be read count as absent.
        driver_log: where the last round stored the log of a driver, or why it is lost; None if it stored none. Only
            the process remembers it until the status contains it.
    """

    workflow: WorkflowObject
    defaults: Defaults = Defaults()
    clusters: tuple[ClusterView, ...] = ()
    named: ClusterView | None = None
    candidates: tuple[ClusterView, ...] = ()
    submission: SubmissionView | HeadUnreachable | HeadRefused | None = None
    run: RunRead | RunReadFailure | None = None
    secret: SecretView | None = None
    config_map: ConfigMapView | None = None
    refused: str = ""
    heads: HeadsReport | None = None
    disruption: Disruption | None = None
    namespace_terminating: bool = False
    driver_log: DriverLog | None = None
