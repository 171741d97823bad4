"""`status` of a Workflow, which the operator writes. `kubectl explain` shows the docstrings of the attributes.

`core` reads and creates these frozen values, and the reconciler writes them with `dump_status`. The status contains
counts instead of lists of steps, because an object in etcd has a size limit.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from workflow_operator.api.base import Time, Value


class Phase(str, Enum):
    """The phase of a Workflow. `core.state` contains the possible transitions."""

    PENDING = "Pending"
    PROVISIONING = "Provisioning"
    RUNNING = "Running"
    RESUMABLE = "Resumable"
    CANCELING = "Canceling"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"

    def __str__(self) -> str:
        return self.value


class Condition(Value):
    """A condition as Kubernetes defines it."""

    type: str
    """Type of the condition."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: str
    """Reason for the status, as one CamelCase word."""
    message: str = ""
    """Explanation for people, with what to do."""
    last_transition_time: Time
    """Time of the last change of the condition's status."""
    observed_generation: int = 0
    """Generation of the spec that the condition is based on."""


class HeadIdentity(Value):
    """Identity of a head: its pod and one start of its Ray container."""

    pod_uid: Annotated[str, Field(alias="podUID")]
    """UID of the head pod."""
    container_id: Annotated[str, Field(alias="containerID")]
    """Id of the Ray container in the head pod."""


class ClusterStatus(Value):
    """The cluster of the current submission attempt."""

    name: str
    """Name of the RayCluster."""
    uid: str = ""
    """UID of the RayCluster; empty until the operator has read it."""
    provisioned: bool = True
    """True if the operator created it for this Workflow, false if it was selected by labels."""
    head: HeadIdentity | None = None
    """The head to which this attempt is submitted. It is recorded before the submission."""
    queued: bool = False
    """True while the RayCluster is suspended in a queue before its head is ready."""
    unreachable_since: Time | None = None
    """Time of the first request without a reply from the head; absent while it replies."""
    unreachable_until: Time | None = None
    """Time of a recent request without a reply, refreshed every 10 seconds. If the operator then sends no request for
    30 seconds, for example because it was restarted, the next request counts as the first."""


class SubmissionStatus(Value):
    """The submission of the current submission attempt."""

    id: str
    """Submission id, derived from the uid of the Workflow and the attempt."""
    state: str = ""
    """State that the head last reported: UNKNOWN, PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. Empty before the
    first report."""
    runtime_env_digest: str = ""
    """Digest of spec.runtimeEnv at the time of the submission; empty before. If it differs from the spec, the change
    applies to the next attempt."""
    manager_unresponsive_seconds: int = 0
    """Value of spec.managerUnresponsiveSeconds that was submitted; 0 before."""


class CodeStatus(Value):
    """The user's code that the run uses."""

    config_map: str
    """Name of the ConfigMap that the code was copied from."""
    sha256: str
    """SHA-256 digest of the copy that is stored next to the checkpoints."""


class Steps(Value):
    """Numbers of step executions by their state."""

    total: int = 0
    """Step executions that are known so far."""
    succeeded: int = 0
    """Step executions with a stored outcome."""
    running: int = 0
    """Running step executions."""
    failed: int = 0
    """Failed step executions."""
    summary: str = ""
    """Succeeded and total, for example 7/12, as kubectl get shows it."""
    changed: Time | None = None
    """Time of the last change of these numbers."""


class Resumes(Value):
    """Numbers of resumes."""

    total: int = 0
    """Submission attempts that followed a failure."""
    without_progress: int = 0
    """Consecutive attempts that ended without a newly finished step, for whatever reason. The delay before the next
    attempt grows with this number."""
    never_ran: int = 0
    """Attempts among them that failed before they owned the run."""
    disruptions: int = 0
    """Attempts since the last newly finished step that Kubernetes ended, for example by a preemption. They count
    towards spec.recovery.maxDisruptions and not towards maxResumes."""
    excused: int = 0
    """Claims of the run after a disruption since the last newly finished step. They do not count towards maxResumes."""


class Failure(Value):
    """The last failure of a cluster or a submission."""

    time: Time
    """Time at which the operator detected the failure."""
    reason: str
    """Reason, as one CamelCase word."""
    message: str
    """Explanation for people."""
    running_steps: tuple[str, ...] = ()
    """Steps that were running at that time, at most five."""


class RetainedCluster(Value):
    """The RayCluster of a failed attempt that is kept for inspection."""

    name: str
    """Name of the RayCluster."""
    uid: str
    """UID of the RayCluster."""
    attempt: int
    """Number of the submission attempt that failed on it."""
    since: Time
    """Time at which the attempt failed."""
    until: Time
    """Time at which the operator deletes it."""


class DriverLog(Value):
    """The log of the driver of the last attempt that ended."""

    attempt: int
    """Number of the submission attempt."""
    location: str = ""
    """Address of the object in storage with the end of the log, at most 256 KiB; empty if the log was lost."""
    message: str = ""
    """Why the log was lost; empty if it was stored."""


class Ending(Value):
    """The terminal state that the operator writes to the log of the run. The log decides whether it takes effect."""

    status: Literal["FAILED", "CANCELED"]
    """The terminal state to write."""
    reason: str
    """Reason, as one CamelCase word."""
    message: str
    """Explanation for people."""


def _text_or_none(value: Any) -> Any:
    """Return a text, and None for the JSON value that earlier versions stored: it may have lost nulls and digits."""
    return value if isinstance(value, str) else None


class WorkflowState(Value):
    """Observed state of a Workflow."""

    phase: Phase | None = None
    """Phase: Pending, Provisioning, Running, Resumable, Canceling, Succeeded, Failed or Canceled."""
    phase_time: Time | None = None
    """Time of the last change of the phase."""
    observed_generation: int = 0
    """Generation of the spec that this status is based on."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    """Conditions of the types Accepted, ClusterReady, WorkersReady, Running, Resumable, Succeeded, Failed and
    Canceled, and of the kstatus types Reconciling and Stalled."""
    storage: str = ""
    """Address of the storage, without credentials. It is recorded when the first attempt starts and never changes."""
    secret_name: str = ""
    """Name of the Secret with the credentials of the storage; empty if there is none."""
    workflow_id: str = ""
    """Workflow id of the run in storage."""
    run_number: Annotated[int, Field(alias="runNumber")] = 0  # the short key `n` would be false in YAML 1.1
    """Number of the run under the workflow id, counted from 1; 0 before the first attempt."""
    run_id: str = ""
    """Unique id of the run."""
    attempt: int = 0
    """Number of the current submission attempt, counted from 1; 0 before the first. It never decreases. The names
    of the cluster and of the submission contain it."""
    attempt_time: Time | None = None
    """Start of this attempt, from which preRunningDeadlineSeconds is measured."""
    epoch: int = 0
    """Current epoch of the run, read from its log. Only the owner of this epoch can commit. It never decreases."""
    cluster: ClusterStatus | None = None
    """The cluster of the current attempt; absent while the Workflow needs no cluster."""
    submission: SubmissionStatus | None = None
    """The submission of the current attempt."""
    code: CodeStatus | None = None
    """The user's code that the run uses; absent if it is part of the image."""
    steps: Steps = Field(default_factory=Steps)
    """Numbers of step executions by their state."""
    resumes: Resumes = Field(default_factory=Resumes)
    """Numbers of resumes."""
    last_failure: Failure | None = None
    """The last failure of a cluster or a submission."""
    next_attempt_time: Time | None = None
    """Earliest start of the next attempt."""
    blocked_since: Time | None = None
    """Time since which another owner runs the workflow id; absent if there is none."""
    resume_token: str = ""
    """Value of the annotation rayworkflow.dev/resume that last started an attempt."""
    cancel_time: Time | None = None
    """Time of the first cancel request to the manager of the run."""
    ending: Ending | None = None
    """The terminal state that the operator writes to the log."""
    start_time: Time | None = None
    """Time at which the first submission was running."""
    completion_time: Time | None = None
    """Time at which the Workflow finished."""
    result: Annotated[str | None, BeforeValidator(_text_or_none)] = None
    """The result as exact JSON text, if it has at most 4096 characters. None is `null`. It is absent if the value is
    not JSON or too large, and resultNote explains why."""
    result_note: str = ""
    """Why result is absent although the run succeeded, and how to read the value."""
    size_note: str = ""
    """Why parts of this status are left out: the API server refused to store all of it with this object."""
    attempt_steps: int | None = None
    """Number of succeeded steps when this attempt started. An attempt that ends with the same number made no
    progress."""
    checkpoints_lost_since: Time | None = None
    """Time since which the storage lacks stored data of the run; absent while all data that is read exists."""
    reason: str = ""
    """Why the Workflow is in its phase, as one word, for example why it waits or failed. kubectl get shows it."""
    driver_log: DriverLog | None = None
    """The log of the driver of the last attempt that ended."""
    retained_cluster: RetainedCluster | None = None
    """The RayCluster of the last failed attempt, while it is kept because of spec.cluster.retain."""

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of this type, or None."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


def dump_status(state: WorkflowState) -> dict[str, Any]:
    """Convert the status to a JSON merge patch.

    Returns:
        All fields. Absent ones are null, so that the patch removes the values of an earlier status. Entries of lists
        contain no nulls, because a merge patch replaces a list as a whole.
    """
    dumped = state.model_dump(mode="json", by_alias=True)
    dumped["conditions"] = [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in state.conditions]
    return dumped
