"""What the shell needs of the outside world, a protocol for each foreign system. `observe` and `apply` use them,
`adapters` implement them, and every implementation passes the contract suite of its port.

They stand in `core` because they speak only the core's values. All are coroutines; blocking clients live in threads
inside their adapter. Reading turns "absent" and "does not answer" into values where the core has one for it; all else
is raised as an error of `workflow_operator.errors`: Unreachable, Refused or Conflict.
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
    StageCode,
    StoreRef,
    SubmitRun,
)
from workflow_operator.core.observation import (
    ClusterView,
    ConfigMapView,
    HeadUnreachable,
    RunRead,
    RunReadFailure,
    SecretView,
    SubmissionView,
    WorkflowObject,
)


class Workflows(Protocol):
    """Workflow objects at the API server."""

    async def get(self, namespace: str, name: str) -> WorkflowObject | None:
        """The object, its spec parsed or refused; None where it does not exist."""

    async def patch_status(self, workflow: WorkflowObject, state: WorkflowState) -> str:
        """PATCH /status under the workflow's resource_version.

        Returns:
            The new resourceVersion.

        Raises:
            Conflict: the object changed since it was read.
        """

    async def add_finalizer(self, workflow: WorkflowObject, resource_version: str) -> None:
        """Add our finalizer under that resourceVersion."""

    async def remove_finalizer(self, workflow: WorkflowObject, resource_version: str) -> None:
        """Remove our finalizer under that resourceVersion; an object that is gone is a success."""

    async def emit(self, workflow: WorkflowObject, event: EmitEvent) -> None:
        """Write an event on the object; never raises for a refused event."""


class Clusters(Protocol):
    """RayClusters."""

    async def owned(self, namespace: str, uid: str) -> tuple[ClusterView, ...]:
        """All that carry this Workflow's uid in their label."""

    async def named(self, namespace: str, name: str) -> ClusterView | None:
        """The one of this name, or None."""

    async def matching(self, namespace: str, labels: Mapping[str, str]) -> tuple[ClusterView, ...]:
        """All that carry these labels."""

    async def create(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Create it; where one of this name exists, whoever made it, nothing is done to that and it is a success.

        Raises:
            Refused: the API server's text.
        """

    async def delete(self, namespace: str, name: str, uid: str) -> None:
        """Delete with the uid as precondition; one that is gone or has another uid is a success."""


class Jobs(Protocol):
    """The Jobs API of one head."""

    async def state(self, namespace: str, head: HeadRef, submission_id: str) -> SubmissionView | HeadUnreachable:
        """What the head says of this submission."""

    async def submit(self, namespace: str, submission: SubmitRun) -> None:
        """Upload what is missing and post it, unless its id is known there and ours.

        Raises:
            Unreachable: the head is another or does not answer.
            Refused: the id belongs to a job that is not ours, or the package was refused.
        """

    async def stop(self, namespace: str, head: HeadRef, submission_id: str) -> None:
        """Stop it; an unknown or ended one is a success."""


class Runs(Protocol):
    """Runs in storage, without Ray."""

    async def read(
        self, namespace: str, store: StoreRef, workflow_id: str, staged: RunRef | None, code: str
    ) -> RunRead | RunReadFailure:
        """The highest run under this id; `staged` and `code` name the copy of the code to look for, or are None and
        empty."""

    async def stage_code(self, namespace: str, action: StageCode) -> None:
        """Carry the action out."""

    async def request_cancel(self, namespace: str, action: RequestCancel) -> None:
        """Carry the action out."""

    async def end(self, namespace: str, action: EndRun) -> None:
        """Carry the action out."""

    async def release(self, namespace: str, action: ReleaseRun) -> None:
        """Carry the action out."""

    async def delete(self, namespace: str, action: DeleteCheckpoints) -> None:
        """Carry the action out."""


class References(Protocol):
    """What a Workflow's spec refers to, and where debts are noted."""

    async def secret(self, namespace: str, name: str) -> SecretView:
        """Whether the storage Secret is there and whole."""

    async def config_map(self, namespace: str, name: str) -> ConfigMapView:
        """Whether the code is there, and the digest of its package."""

    async def defer_cleanup(self, debt: DeferCleanup) -> None:
        """Write the debt down; one that is noted already is a success."""
