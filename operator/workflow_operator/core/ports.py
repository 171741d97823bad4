"""The ports: one protocol for each external system that the operator uses.

`observe` and `apply` use the protocols, and `adapters` implement them. They belong to `core` because they use only
the values of the core. All methods are coroutines; an adapter runs a blocking client in threads.

If the core has a value for an absent object or a missing reply, a read returns that value. All other failures raise
`UnreachableError`, `RefusedError` or `ConflictError` of `workflow_operator.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from workflow_operator.api.status import WorkflowState
from workflow_operator.core.actions import (
    DeferCleanup,
    DeleteCheckpoints,
    EmitEvent,
    EndRun,
    HeadRef,
    ReleaseRun,
    RequestCancel,
    RunRef,
    StageArgs,
    StageCode,
    StoreRef,
    SubmitRun,
)
from workflow_operator.core.observation import (
    ClusterView,
    ConfigMapView,
    Disruption,
    HeadRefused,
    HeadUnreachable,
    RunRead,
    RunReadFailure,
    SecretView,
    SubmissionView,
    WorkflowObject,
)


class Workflows(Protocol):
    """The Workflow objects at the API server."""

    async def get(self, namespace: str, name: str) -> WorkflowObject | None:
        """Read a Workflow and parse its spec; return None if it does not exist."""

    async def patch_status(self, workflow: WorkflowObject, state: WorkflowState) -> str:
        """Write the status on condition of the workflow's resource_version.

        Returns:
            The new resourceVersion.

        Raises:
            ConflictError: the object changed since it was read.
        """

    async def add_finalizer(self, workflow: WorkflowObject, resource_version: str) -> None:
        """Add the operator's finalizer on condition of a resourceVersion."""

    async def remove_finalizer(self, workflow: WorkflowObject, resource_version: str) -> None:
        """Remove the operator's finalizer on condition of a resourceVersion; succeed if the object no longer exists."""

    async def emit(self, workflow: WorkflowObject, event: EmitEvent) -> None:
        """Write an event on the object; a refused event raises nothing."""


class Clusters(Protocol):
    """The RayClusters at the API server."""

    async def owned(self, namespace: str, uid: str) -> tuple[ClusterView, ...]:
        """List the RayClusters that have the uid of a Workflow in their label."""

    async def named(self, namespace: str, name: str) -> ClusterView | None:
        """Read the RayCluster of this name; return None if it does not exist."""

    async def matching(self, namespace: str, labels: Mapping[str, str]) -> tuple[ClusterView, ...]:
        """List the RayClusters that have all these labels."""

    async def create(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Create a RayCluster; succeed without a change if the name exists, even if another user created it.

        Raises:
            RefusedError: the API server refused the manifest; the error contains its text.
        """

    async def delete(self, namespace: str, name: str, uid: str) -> None:
        """Delete a RayCluster with this uid; succeed if it no longer exists or has another uid."""

    async def disruption(self, namespace: str, pod_uid: str) -> Disruption | None:
        """Read from the events of a pod that is gone why Kubernetes ended it; return None if they do not show it."""


class Jobs(Protocol):
    """The Jobs API of one head."""

    async def state(
        self, namespace: str, head: HeadRef, submission_id: str
    ) -> SubmissionView | HeadUnreachable | HeadRefused:
        """Read the state of a submission from its head."""

    async def submit(self, namespace: str, submission: SubmitRun) -> None:
        """Upload the missing packages and submit the driver, unless the head knows this submission.

        Raises:
            UnreachableError: the head has another identity or does not reply.
            RefusedError: the submission id belongs to another job, or the head refused a package.
        """

    async def stop(self, namespace: str, head: HeadRef, submission_id: str) -> None:
        """Stop a submission; succeed if it is unknown or ended."""

    async def log(self, namespace: str, head: HeadRef, submission_id: str) -> bytes:
        """Read the end of the driver's log, as UTF-8. A driver that is about to exit gets a few seconds for it.

        Raises:
            UnreachableError, RefusedError: the head did not send it.
        """


class Runs(Protocol):
    """The runs in storage, which are read and changed without Ray."""

    async def read(
        self, namespace: str, store: StoreRef, workflow_id: str, staged: RunRef | None, code: str
    ) -> RunRead | RunReadFailure:
        """Read the newest run under a workflow id.

        Args:
            namespace: the namespace of the Workflow.
            store: the store that contains the log.
            workflow_id: the id in storage.
            staged: the run whose blobs may contain the copy of the code, or None.
            code: the digest of that copy, or empty.
        """

    async def loss(self, namespace: str, run: RunRef) -> RunReadFailure | None:
        """Read what remains of a run whose registry entry is missing; return None if the entry exists."""

    async def stage_code(self, namespace: str, action: StageCode) -> None:
        """Copy the user's code to the blobs of a run."""

    async def stage_args(self, namespace: str, action: StageArgs) -> None:
        """Copy the arguments of the entrypoint to the blobs of a run."""

    async def request_cancel(self, namespace: str, action: RequestCancel) -> None:
        """Request the manager of a run to cancel it."""

    async def end(self, namespace: str, action: EndRun) -> None:
        """Write a terminal state to the log of a run."""

    async def release(self, namespace: str, action: ReleaseRun) -> None:
        """Release an unfinished run."""

    async def delete(self, namespace: str, action: DeleteCheckpoints) -> None:
        """Delete a run and all its stored data."""

    async def store_driver_log(self, namespace: str, run: RunRef, submission_id: str, log: bytes) -> str:
        """Store the end of a driver's log with its run; return the address of the object."""


class References(Protocol):
    """The Secrets and ConfigMaps that a Workflow refers to, and the records of deferred cleanup."""

    async def secret(self, namespace: str, name: str) -> SecretView:
        """Read whether the storage Secret exists and contains its keys."""

    async def config_map(self, namespace: str, name: str) -> ConfigMapView:
        """Read whether the code exists, and the digest of its package."""

    async def namespace_terminating(self, namespace: str) -> bool:
        """Return whether a namespace is being deleted or is gone; False if the operator may not read it."""

    async def defer_cleanup(self, cleanup: DeferCleanup) -> None:
        """Record a deferred cleanup; succeed if it is already recorded."""
