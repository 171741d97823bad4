"""`status` of a Workflow: what the operator writes. Each attribute's docstring is what `kubectl explain` shows.

`core` reads and makes these frozen values; the shell writes them with `dump_status`. Counts only, never lists of steps:
an object in etcd is limited in size.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import Field

from workflow_operator.api.base import Time, Value


class Phase(str, Enum):
    """Where a Workflow stands. `core.state` says what may follow what."""

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
    """One condition, as Kubernetes defines them."""

    type: str
    """What it is about."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: str
    """Why, in one CamelCase word."""
    message: str = ""
    """Why, in words, and what to do."""
    last_transition_time: Time
    """When the status last changed."""
    observed_generation: int = 0
    """The generation of the spec that this was said of."""


class HeadIdentity(Value):
    """One life of a head: a pod, and one run of its Ray container."""

    pod_uid: Annotated[str, Field(alias="podUID")]
    """UID of the head's pod."""
    container_id: Annotated[str, Field(alias="containerID")]
    """Id of its Ray container."""


class ClusterStatus(Value):
    """The cluster of the current attempt."""

    name: str
    """Name of the RayCluster."""
    uid: str = ""
    """UID of the RayCluster, once it was seen."""
    provisioned: bool = True
    """True where the operator made it for this Workflow; false where it was chosen by labels."""
    head: HeadIdentity | None = None
    """The head that this attempt was or will be submitted to, written before the submission."""
    queued: bool = False
    """True while the RayCluster waits suspended in a queue, before it was ever ready."""
    unreachable_since: Time | None = None
    """Since when the head does not answer."""


class SubmissionStatus(Value):
    """The submission of the current attempt."""

    id: str
    """Submission id, a function of the object and the attempt."""
    state: str = ""
    """What the head last said of it: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""


class CodeStatus(Value):
    """The code of the run."""

    config_map: str
    """The ConfigMap that it was taken from."""
    sha256: str
    """Digest of the copy that is kept with the checkpoints."""


class Steps(Value):
    """How many step executions stand where."""

    total: int = 0
    """All that are known so far."""
    succeeded: int = 0
    """Those with a stored outcome."""
    running: int = 0
    """Those that run."""
    failed: int = 0
    """Those that failed."""
    summary: str = ""
    """Succeeded of total, for the list of kubectl."""
    changed: Time | None = None
    """When these counts last changed."""


class Resumes(Value):
    """How often the run was continued."""

    total: int = 0
    """Attempts that followed a failure."""
    without_progress: int = 0
    """Resumes, and attempts that never ran, in a row without one new finished step."""
    never_ran: int = 0
    """Of these, attempts that failed before they came to own the run."""


class Failure(Value):
    """The last failure of a cluster or a submission."""

    time: Time
    """When it was seen."""
    reason: str
    """Why, in one CamelCase word."""
    message: str
    """Why, in words."""
    running_steps: tuple[str, ...] = ()
    """Steps that ran at that time, the first few of them."""


class Ending(Value):
    """The end that the operator is writing to the run's log; the log then says what holds."""

    status: Literal["FAILED", "CANCELED"]
    """The end to write."""
    reason: str
    """Why, in one CamelCase word."""
    message: str
    """Why, in words."""


class WorkflowState(Value):
    """What the operator knows of a Workflow."""

    phase: Phase | None = None
    """Where it stands: Pending, Provisioning, Running, Resumable, Canceling, Succeeded, Failed or Canceled."""
    phase_time: Time | None = None
    """When it came there."""
    observed_generation: int = 0
    """The generation of the spec that this status was made from."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    """Accepted, ClusterReady, Running, Resumable, Succeeded, Failed, Canceled, and Reconciling and Stalled as kstatus
    reads them."""
    storage: str = ""
    """Address of the storage, without credentials; chosen once, when the Workflow was accepted."""
    secret_name: str = ""
    """The Secret with the storage's credentials."""
    workflow_id: str = ""
    """Id of the run in storage."""
    run_number: Annotated[int, Field(alias="runNumber")] = 0  # YAML 1.1 reads a key `n` as false
    """Which run under that id, from 1; 0 before the first attempt."""
    run_id: str = ""
    """The run's own id."""
    attempt: int = 0
    """Submissions so far; cluster name and submission id follow from it. Never goes down."""
    attempt_time: Time | None = None
    """When this attempt began; the deadline for running counts from here."""
    epoch: int = 0
    """The ownership of the run that commits now, read from its log. Never goes down."""
    cluster: ClusterStatus | None = None
    """The cluster of this attempt; absent while none is wanted."""
    submission: SubmissionStatus | None = None
    """The submission of this attempt."""
    code: CodeStatus | None = None
    """The code of the run, where it came from a ConfigMap."""
    steps: Steps = Field(default_factory=Steps)
    """How many step executions stand where."""
    resumes: Resumes = Field(default_factory=Resumes)
    """How often the run was continued."""
    last_failure: Failure | None = None
    """The last failure of a cluster or a submission."""
    next_attempt_time: Time | None = None
    """When the next attempt may begin."""
    blocked_since: Time | None = None
    """Since when another owner holds the workflow id."""
    resume_token: str = ""
    """The value of the annotation rayworkflow.dev/resume that was last acted on."""
    cancel_time: Time | None = None
    """When the run's manager was last asked to cancel."""
    ending: Ending | None = None
    """The end that the operator is writing to the log."""
    start_time: Time | None = None
    """When the first submission ran."""
    completion_time: Time | None = None
    """When it ended."""
    result: Annotated[Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = None
    """The result as JSON, where it is small."""
    result_location: str = ""
    """Where the result lies, where it is not small."""

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, or None."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


def dump_status(state: WorkflowState) -> dict[str, Any]:
    """The status as a JSON merge patch writes it.

    Returns:
        All fields; absent ones are null, so that a merge patch removes what an earlier status held. Entries of lists
        hold no nulls, because a merge patch replaces a list as it is.
    """
    dumped = state.model_dump(mode="json", by_alias=True)
    dumped["conditions"] = [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in state.conditions]
    return dumped
