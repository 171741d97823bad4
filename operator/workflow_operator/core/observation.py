"""Everything that `decide` may look at, gathered by `observe` in one round.

Plain frozen values, so that a round can be written down in a test. Times are seconds since 1970. The rules of
gathering:

- The Workflow is read last-known from the API with its `resource_version`; the PATCH of its status carries that
  version.
- The submission is asked about BEFORE the log is read. So "the submission ended and the log has no end" is never an
  artefact of the order.
- Anything that could not be read is a value that says so, never an absent one: `RunUnread`, `HeadUnreachable`. A
  failure of the Kubernetes API itself is not a value: the round is given up and tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from workflow_operator.api.spec import WorkflowSpec
from workflow_operator.api.status import HeadIdentity, WorkflowState
from workflow_operator.core.log_view import RunView, WorkflowStatus


@dataclass(frozen=True, slots=True)
class WorkflowObject:
    """The Workflow as the API server has it.

    Attributes:
        name, namespace, uid, generation, resource_version: its metadata.
        created: its creationTimestamp.
        deleted: its deletionTimestamp, or None.
        labels, annotations, finalizers: its metadata.
        spec: parsed, or None where it was refused.
        refusal: why the spec was refused, with what to write instead; empty where it was parsed.
        state: its status; an empty one where it has none yet.
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
    """Why a pod does not come up, as Kubernetes names it.

    Attributes:
        reason: one word, such as ImagePullBackOff, ErrImagePull, Unschedulable, CreateContainerConfigError, Evicted.
        message: the text beside it, with the pod's name and the image where known.
        since: when it was first seen.
    """

    reason: str
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class HeadView:
    """The head pod of a RayCluster. Where there are two (one is being deleted), the one that is not.

    Attributes:
        pod_name: name of the pod.
        identity: pod UID and Ray container id; the container id is empty until it was started once.
        ip: the pod's address, or empty.
        phase: the pod's phase: Pending, Running, Succeeded, Failed or Unknown.
        running: the Ray container runs now.
        ready: the pod is Ready.
        deleting: it has a deletionTimestamp.
        reason: the pod's status.reason, such as Evicted or NodeLost, or the container's, such as OOMKilled; or empty.
    """

    pod_name: str
    identity: HeadIdentity
    ip: str = ""
    phase: str = "Pending"
    running: bool = False
    ready: bool = False
    deleting: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A RayCluster.

    Attributes:
        name, uid, created: its metadata.
        labels: its labels.
        owner_uid: uid of its controlling owner, or empty.
        ready: it was provisioned and its head is ready, by its conditions. Sticky in KubeRay: never read as "alive".
        suspended: spec.suspend is true, or its conditions say Suspended.
        failed: text where KubeRay says it failed (ReplicaFailure, state failed), or empty.
        deleting: it has a deletionTimestamp.
        warning: newest Warning event on it, such as an invalid spec; or empty.
        trouble: the worst trouble of its pods, the head's first; or None.
        head: its head pod, or None where there is none.
        token_secret: name of the Secret with its token (key auth_token); empty where its auth is not `token`.
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
    trouble: PodProblem | None = None
    head: HeadView | None = None
    token_secret: str = ""


class JobState(str, Enum):
    """What the Jobs API says of a submission. UNKNOWN: it answered that it knows no such id."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class SubmissionView:
    """The answer of the head named in status about the submission named in status.

    Attributes:
        state: what it says.
        exit_code: the driver's, where it ended with one.
        message: the Jobs API's text, with the last lines of the driver's log where it failed.
    """

    state: JobState
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class HeadUnreachable:
    """The head did not answer, or answered that it cannot now.

    Attributes:
        message: what was tried and what came back.
    """

    message: str


@dataclass(frozen=True, slots=True)
class SecretView:
    """The storage Secret.

    Attributes:
        name: its name.
        present: it exists.
        missing: keys that it lacks.
    """

    name: str
    present: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigMapView:
    """The ConfigMap with the user's code.

    Attributes:
        name: its name.
        present: it exists.
        sha256: digest of the package that would be made of it; empty where it is absent or refused.
        refusal: why no package can be made of it, with what to change: a file named workflow.py, too large, no Python
            file.
    """

    name: str
    present: bool
    sha256: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class RunRead:
    """What the log says: the highest name under the workflow id.

    Attributes:
        view: None where nothing is stored under this id.
        liveness: `reading.status_of`: RUNNING, RESUMABLE or the end; None where view is None.
        code_staged: the copy of the code that status names lies in the run's blobs. Only looked at where status.code
            is set and the view has no code.
    """

    view: RunView | None = None
    liveness: WorkflowStatus | None = None
    code_staged: bool = False


class StoreFailure(str, Enum):
    """Why the log could not be read."""

    UNAVAILABLE = "StoreUnavailable"  # try again
    REFUSED = "StoreRefused"  # settings are wrong, the message says which
    CORRUPT = "StoreCorrupt"  # a stored object is damaged
    NEWER = "WrittenByNewerVersion"  # a newer library wrote a stored object; the operator must be upgraded


@dataclass(frozen=True, slots=True)
class RunReadFailure:
    """The log could not be read.

    Attributes:
        trouble: which kind.
        message: what was wrong, where, and what to do; never a credential.
    """

    trouble: StoreFailure
    message: str


@dataclass(frozen=True, slots=True)
class Defaults:
    """The operator's own settings that decisions depend on.

    Attributes:
        storage_uri, storage_endpoint, storage_region, storage_secret: used where a Workflow names no storage; the uri
            is empty where the operator was installed without one.
        poll_seconds: pace of the fallback polls of a running Workflow.
    """

    storage_uri: str = ""
    storage_endpoint: str = ""
    storage_region: str = ""
    storage_secret: str = ""
    poll_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One round's view of the world.

    Attributes:
        workflow: the object itself.
        defaults: the operator's settings.
        clusters: every RayCluster of the namespace with this Workflow's uid in its label, of any attempt.
        named: the RayCluster that `status.cluster.name` names, whoever made it; None where it does not exist.
        candidates: RayClusters that match spec.cluster.selector; empty without a selector.
        submission: asked where `status.cluster.head` and `status.submission` are set and the observed head has that
            identity and runs, in phases Provisioning, Running and Canceling; None where it was not asked.
        run: the log of the workflow id of status (or, before there is one, of the id it will get); None where it was
            not looked at, because no storage is known or its Secret is missing.
        secret: the storage Secret, or None where none is named.
        config_map: the ConfigMap with the code, or None where spec.code names none.
        refused: text of the `Refused` with which an action of the last round failed, or empty. Kept by the process
            only: after a restart the action is tried, and refused, again.
    """

    workflow: WorkflowObject
    defaults: Defaults = Defaults()
    clusters: tuple[ClusterView, ...] = ()
    named: ClusterView | None = None
    candidates: tuple[ClusterView, ...] = ()
    submission: SubmissionView | HeadUnreachable | None = None
    run: RunRead | RunReadFailure | None = None
    secret: SecretView | None = None
    config_map: ConfigMapView | None = None
    refused: str = ""
