"""`spec` of a Workflow, which the user writes. `kubectl explain` shows the docstrings of the attributes.

`core` reads the values, and `api.crds` generates the schema. Rules that concern several fields, such as "exactly one
of", are CEL rules in `api.rules`. The models apply them too, because an object can be older than the rules.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from workflow_operator.api import rules
from workflow_operator.api.base import Value

Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
DEFAULT_DEADLINE_SECONDS = 1800
LARGEST_RUNTIME_ENV = 100_000
"""Bytes of JSON. Ray passes the runtime environment in one environment variable, whose limit in Linux is 128 KiB."""

DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class RecoveryPolicy(str, Enum):
    """Whether the operator or the user starts the next attempt after a failure."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class Retention(str, Enum):
    """Which checkpoints are deleted together with the Workflow object."""

    RETAIN = "Retain"
    DELETE_ON_SUCCESS = "DeleteOnSuccess"
    DELETE = "Delete"


class Auth(str, Enum):
    """Whether a RayCluster that is created for a Workflow requires a token."""

    TOKEN = "Token"
    DISABLED = "Disabled"


class Retain(str, Enum):
    """Which RayCluster of a Workflow is kept for a while after it is no longer needed."""

    NEVER = "Never"
    ON_FAILURE = "OnFailure"


class LocalName(Value):
    """A reference to an object in the namespace of the Workflow."""

    name: Annotated[str, Field(pattern=DNS_NAME, max_length=253)]
    """Name of the object. It must be in the namespace of the Workflow."""


class Code(Value):
    """Source of the user's code."""

    config_map: LocalName
    """A ConfigMap whose keys are names of Python files, for example trip.py. The first submission stores a copy next to
    the checkpoints of the run. Every resume uses that copy, so later edits of the ConfigMap do not affect this run."""


class ClusterMetadata(Value):
    """Labels and annotations for the RayCluster."""

    labels: dict[str, str] = Field(default_factory=dict)
    """Labels for the RayCluster, for example kueue.x-k8s.io/queue-name."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations for the RayCluster."""


class ClusterTemplate(Value):
    """The RayCluster to create for this Workflow."""

    metadata: ClusterMetadata = Field(default_factory=ClusterMetadata)
    """Labels and annotations for the RayCluster."""
    spec: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
    """Spec of a RayCluster (ray.io/v1) as KubeRay documents it, with headGroupSpec, workerGroupSpecs and so on."""


class ClusterSelector(Value):
    """Selects a running RayCluster by its labels."""

    match_labels: Annotated[dict[str, str], Field(min_length=1)]
    """Labels that the RayCluster must have. All of them must match."""


class Cluster(Value):
    """The Ray cluster that runs the workflow. Set exactly one of template and selector."""

    template: ClusterTemplate | None = None
    """Creates a RayCluster for this Workflow. The operator deletes it when the Workflow finishes, and creates another
    one after a failure of the cluster."""
    selector: ClusterSelector | None = None
    """Uses a ready RayCluster of this namespace that has these labels. The operator never deletes it."""
    retain: Retain = Retain.NEVER
    """OnFailure: after a failure, the RayCluster of the last failed attempt is kept for retainSeconds, so that users
    can inspect it. It is allowed only with template. Never: it is deleted at once."""
    retain_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3600
    """Seconds for which the RayCluster of a failed attempt is kept if retain is OnFailure."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Cluster:
        if (self.template is None) == (self.selector is None):
            raise ValueError(rules.ONE_CLUSTER_TEXT)
        if self.retain is Retain.ON_FAILURE and self.template is None:
            raise ValueError(rules.RETAIN_TEXT)
        return self


class Storage(Value):
    """An S3 bucket, or a bucket of a server with an S3-compatible API, for the checkpoints."""

    uri: Annotated[str, Field(max_length=512)]
    """Bucket and prefix, for example s3://bucket/prefix. The operator appends the namespace, so that Workflows of
    different namespaces never share a run."""
    endpoint: Annotated[str, Field(max_length=512)] | None = None
    """Address of the S3-compatible server, for example http://minio.storage:9000. Default: AWS."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64)] | None = None
    """Region of the bucket, for example us-east-1. Default: us-east-1, or AWS_REGION if the pods define it."""
    secret_ref: LocalName | None = None
    """A Secret of this namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. The operator
    and the pods of a cluster that is created for this Workflow use it. Omit it if the pods get their credentials in
    another way."""

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
    """The delay before an attempt that follows a failure. It doubles with each attempt without progress."""

    initial_seconds: Seconds = 2
    """Delay in seconds before the first resume after progress."""
    max_seconds: Seconds = 120
    """Longest delay in seconds."""


class Recovery(Value):
    """How the operator recovers from a failure."""

    policy: RecoveryPolicy = RecoveryPolicy.AUTOMATIC
    """Automatic: the operator starts another attempt, which continues from the checkpoints. Manual: the Workflow stays
    Resumable until the annotation rayworkflow.dev/resume gets another value."""
    max_resumes: Annotated[int, Field(ge=0, le=1000)] = rules.DEFAULT_MAX_RESUMES
    """Number of consecutive resumes without a newly finished step after which the Workflow fails. Progress resets the
    count, so a long run on preemptible nodes can be resumed any number of times. 0: the Workflow fails with the first
    failure."""
    backoff: Backoff = Field(default_factory=Backoff)
    """Delay between attempts."""
    max_disruptions: Annotated[int, Field(ge=0, le=10_000)] = rules.DEFAULT_MAX_DISRUPTIONS
    """Number of consecutive disruptions without a newly finished step after which the Workflow fails. A disruption is
    an attempt that Kubernetes ended, for example by a preemption, an eviction, the loss of a spot node, or a suspended
    RayCluster. Disruptions do not count towards maxResumes."""


class FailureDetection(Value):
    """When an unreachable cluster counts as failed."""

    unreachable_seconds: Annotated[int, Field(ge=5, le=3600)] = 60
    """Seconds without a reply from the head after which its cluster counts as failed. This must be confirmed: the
    heartbeat of the run's owner has expired, or no owner is known and the head pod is not Ready."""


class Checkpoints(Value):
    """What happens to the checkpoints when the Workflow is deleted."""

    retention: Retention = Retention.RETAIN
    """When the Workflow object is deleted: Retain keeps the checkpoints, DeleteOnSuccess deletes them if the run
    succeeded, Delete always deletes them."""


class WorkflowSpec(Value):
    """What to run, on which cluster, and how to recover from failures."""

    entrypoint: Annotated[str, Field(min_length=3, max_length=512)]
    """What to run, as module:attribute, for example trip:book_trip. The attribute is a step, a function that returns a
    workflow, or a workflow."""
    args: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "default": {}}
    )
    """Keyword arguments for the entrypoint, as JSON. They are read once, when the run is created. A resume reads them
    from the checkpoints."""
    code: Code | None = None
    """The user's code. Omit it if the image contains the code."""
    runtime_env: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """Runtime environment of Ray for the submission, with the field names of Ray: pip, env_vars and so on. The operator
    sets working_dir and py_modules."""
    cluster: Cluster
    """The Ray cluster that runs the workflow: exactly one of template and selector."""
    storage: Storage | None = None
    """Storage for the checkpoints. Default: the storage that is configured for the operator."""
    workflow_id: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Workflow id of the run in storage. All Workflows of a namespace with the same id share one run, so it runs once
    even if this object is deleted and created again. Default: an id that is unique to this object."""
    cancel: bool = False
    """Set to true to stop the running steps and finish the Workflow with phase Canceled. It cannot be set back."""
    recovery: Recovery = Field(default_factory=Recovery)
    """How the operator recovers from a failure."""
    failure_detection: FailureDetection = Field(default_factory=FailureDetection)
    """When an unreachable cluster counts as failed."""
    pre_running_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = DEFAULT_DEADLINE_SECONDS
    """Seconds within which the submission of an attempt must run. After that the attempt counts as failed. Time in a
    Kueue queue does not count. It also limits the time in Pending, for example if a Secret is missing or the workflow
    id is in use."""
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    """What happens to the checkpoints when the Workflow is deleted."""
    auth: Auth = Auth.TOKEN
    """Token: a RayCluster that is created from the template requires a token (Ray 2.52 or newer). Disabled: any client
    that can connect to its head can run code there."""
    manager_unresponsive_seconds: Annotated[int, Field(ge=5, le=3600)] = 60
    """Seconds without a reply from the manager of the run after which the submission fails. The next attempt restarts
    the manager."""

    @field_validator("runtime_env")
    @classmethod
    def _without_packages(cls, value: dict[str, Any]) -> dict[str, Any]:
        reserved = sorted({"working_dir", "py_modules"} & value.keys())
        if reserved:
            raise ValueError(
                f"remove {' and '.join(reserved)}: the operator sets it; put the code into spec.code or the image"
            )
        size = len(json.dumps(value))
        if size > LARGEST_RUNTIME_ENV:
            raise ValueError(
                f"it has {size} bytes as JSON and Ray can pass {LARGEST_RUNTIME_ENV} to the driver: move large values "
                "to spec.args or to the image"
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
