"""`spec` of a Workflow: what its author writes. Each attribute's docstring is what `kubectl explain` shows.

Read by `core` (as plain values) and by `api.crds` (as a schema). What one field alone cannot say, such as "exactly one
of", is a CEL rule in `api.rules` and is checked here again, because objects can be older than the rules.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from workflow_operator.api import rules
from workflow_operator.api.base import Value

Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class RecoveryPolicy(str, Enum):
    """Who starts the next attempt after a cluster failed."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class Retention(str, Enum):
    """What becomes of the checkpoints when the object is deleted."""

    RETAIN = "Retain"
    DELETE_ON_SUCCESS = "DeleteOnSuccess"
    DELETE = "Delete"


class Auth(str, Enum):
    """Who may use the Ray cluster that is made for a Workflow."""

    TOKEN = "Token"
    DISABLED = "Disabled"


class LocalName(Value):
    """Names an object in the Workflow's own namespace."""

    name: Annotated[str, Field(pattern=DNS_NAME, max_length=253)]
    """Name of the object, in the Workflow's own namespace."""


class Code(Value):
    """Where the user's code comes from."""

    config_map: LocalName
    """A ConfigMap whose keys are Python files (for example trip.py). The copy that the first submission took is kept
    with the run's checkpoints and used by every resume, so later edits of the ConfigMap change nothing for this
    run."""


class ClusterMetadata(Value):
    """Metadata passed on to the RayCluster."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Labels for the RayCluster, for example kueue.x-k8s.io/queue-name."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations for the RayCluster."""


class ClusterTemplate(Value):
    """A RayCluster made for this Workflow alone."""

    metadata: ClusterMetadata = Field(default_factory=ClusterMetadata)
    """Labels and annotations for the RayCluster."""
    spec: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
    """A RayCluster spec (ray.io/v1), written as for KubeRay: headGroupSpec, workerGroupSpecs and so on."""


class ClusterSelector(Value):
    """Chooses a RayCluster that already runs."""

    match_labels: Annotated[dict[str, str], Field(min_length=1)]
    """Labels that the RayCluster must carry, all of them."""


class Cluster(Value):
    """Where the workflow runs: exactly one of the fields."""

    template: ClusterTemplate | None = None
    """Make a RayCluster for this Workflow. It is deleted when the Workflow ends; after a failure a new one is made."""
    selector: ClusterSelector | None = None
    """Use a ready RayCluster of this namespace that carries these labels. It is never deleted by the operator."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Cluster:
        if (self.template is None) == (self.selector is None):
            raise ValueError(rules.ONE_CLUSTER_TEXT)
        return self


class Storage(Value):
    """Where the checkpoints lie: S3 or what speaks it."""

    uri: Annotated[str, Field(max_length=512)]
    """Bucket and prefix, for example s3://bucket/prefix. The namespace is added to it, so that no namespace can name
    another's runs."""
    endpoint: Annotated[str, Field(max_length=512)] | None = None
    """Address of the server where it is not AWS, for example http://minio.storage:9000."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64)] | None = None
    """Region of the bucket, for example us-east-1."""
    secret_ref: LocalName | None = None
    """A Secret of this namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. The operator and the pods
    of a cluster made for this Workflow use it. Leave it out where the pods get their credentials in another way."""

    @field_validator("uri")
    @classmethod
    def _bucket(cls, value: str) -> str:
        if not re.fullmatch(rules.STORE_URI, value):
            raise ValueError(rules.STORE_URI_TEXT)
        return value

    @field_validator("endpoint")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(rules.ENDPOINT, value):
            raise ValueError(rules.ENDPOINT_TEXT)
        return value


class Backoff(Value):
    """How long to wait before an attempt that follows a failure; doubled while there is no progress."""

    initial_seconds: Seconds = 2
    """Wait before the first of them, in seconds."""
    max_seconds: Seconds = 120
    """The longest wait, in seconds."""


class Recovery(Value):
    """What happens after a cluster has failed."""

    policy: RecoveryPolicy = RecoveryPolicy.AUTOMATIC
    """Automatic: a new attempt continues from the checkpoints. Manual: the Workflow stays Resumable until the
    annotation rayworkflow.dev/resume gets a new value."""
    max_resumes: Annotated[int, Field(ge=0, le=1000)] = 5
    """How many resumes in a row may bring no new finished step before the Workflow fails. Progress sets the count back,
    so a long run on preemptible nodes is never given up. 0: the first failure of a cluster ends it."""
    backoff: Backoff = Field(default_factory=Backoff)
    """Wait between attempts."""


class FailureDetection(Value):
    """When a silent cluster counts as failed."""

    unreachable_seconds: Annotated[int, Field(ge=5, le=3600)] = 60
    """Seconds that the head may leave unanswered before its cluster counts as failed."""


class Checkpoints(Value):
    """What becomes of the checkpoints."""

    retention: Retention = Retention.RETAIN
    """When the Workflow object is deleted: Retain keeps its checkpoints, DeleteOnSuccess deletes those of a run that
    succeeded, Delete deletes them always."""


class WorkflowSpec(Value):
    """What to run, where, and what to do when the cluster fails."""

    entrypoint: Annotated[str, Field(min_length=3, max_length=512)]
    """What to run, as module:attribute, for example trip:book_trip. The attribute is a step, a function that returns a
    Workflow, or a Workflow."""
    args: dict[str, Any] = Field(default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    """Keyword arguments for the entrypoint, any JSON. They are read when the run is first made; a resume takes them
    from its checkpoints."""
    code: Code | None = None
    """The user's code. Leave it out where the image holds it."""
    runtime_env: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """Ray's runtime environment for the submission, with Ray's own names: pip, env_vars and so on. working_dir and
    py_modules are set by the operator."""
    cluster: Cluster
    """Where to run: exactly one of template and selector."""
    storage: Storage | None = None
    """Where the checkpoints lie. Default: the storage that the operator was installed with."""
    workflow_id: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Id of the run in storage. Given: the same id is run once, also when this object is deleted and made again.
    Default: an id of this object's own."""
    cancel: bool = False
    """Set to true to stop the workflow: running steps are stopped and it ends Canceled. It cannot be set back."""
    recovery: Recovery = Field(default_factory=Recovery)
    """What happens after a cluster has failed."""
    failure_detection: FailureDetection = Field(default_factory=FailureDetection)
    """When a silent cluster counts as failed."""
    pre_running_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 1800
    """Seconds from an attempt's start until its submission runs; then the attempt counts as failed. The time in a
    Kueue queue does not count. It also bounds the wait for what is missing and for an id that is in use."""
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    """What becomes of the checkpoints."""
    auth: Auth = Auth.TOKEN
    """Token: a RayCluster made from the template asks for a token (Ray 2.52 or newer). Disabled: whoever reaches its
    head can run code there."""
    manager_unresponsive_seconds: Annotated[int, Field(ge=5, le=3600)] = 60
    """Seconds that the run's manager may leave unanswered before the submission gives up and the next attempt
    restarts it."""

    @field_validator("runtime_env")
    @classmethod
    def _no_packages(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted({"working_dir", "py_modules"} & value.keys())
        if taken:
            raise ValueError(
                f"remove {' and '.join(taken)}: the operator sets it; put code into spec.code or the image"
            )
        return value

    @field_validator("entrypoint")
    @classmethod
    def _loadable(cls, value: str) -> str:
        if not re.fullmatch(rules.ENTRYPOINT, value):
            raise ValueError(rules.ENTRYPOINT_TEXT)
        if re.match(r"workflow[.:]", value):
            raise ValueError(rules.OWN_NAME_TEXT)
        return value
