"""Workflow objects in the Kubernetes API: the port `core.ports.Workflows`.

Writes of the status and of finalizers are conditional on the resourceVersion that the decision is based on. If the
Workflow changed meanwhile, the write raises ConflictError, and the operator reconciles again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import structlog

from workflow_operator.adapters.kube import EVENTS, WORKFLOWS, ContentRefusedError, Kube, Object
from workflow_operator.api import API_VERSION, KIND
from workflow_operator.api.base import parse_time
from workflow_operator.api.parse import parse_spec, parse_status
from workflow_operator.api.status import WorkflowState, dump_status
from workflow_operator.core.actions import EmitEvent
from workflow_operator.core.names import FIELD_MANAGER, FINALIZER
from workflow_operator.core.observation import WorkflowObject
from workflow_operator.core.reduced_status import shorter_statuses
from workflow_operator.core.texts import clip
from workflow_operator.errors import ConflictError, OperatorError, RefusedError

EVENT_LIMIT = 1024
log = structlog.get_logger(__name__)


def _utcnow() -> datetime:
    return datetime.now(timezone.utc)


class KubeWorkflows:
    """Implements the port with the Kubernetes API.

    Args:
        kube: the API server.
        utcnow: returns the time for events.
    """

    def __init__(self, kube: Kube, utcnow: Callable[[], datetime] = _utcnow) -> None:
        self._kube = kube
        self._utcnow = utcnow

    async def get(self, namespace: str, name: str) -> WorkflowObject | None:
        """Return the object with its spec parsed or refused, or None if it does not exist."""
        found = await self._kube.get(WORKFLOWS, namespace, name)
        return None if found is None else parse_workflow(found)

    async def patch_status(self, workflow: WorkflowObject, state: WorkflowState) -> str:
        """Write the status if the object has not changed since it was read.

        If the API server refuses the content, for example because the object would be too large, a shorter status is
        written.

        Returns:
            The new resourceVersion.

        Raises:
            ConflictError: the object changed or was deleted.
            RefusedError: not even the shortest status is accepted. An event explains it.
        """
        try:
            return await self._write_status(workflow, state)
        except ContentRefusedError as error:
            refused = error
        for shorter in shorter_statuses(state):
            try:
                version = await self._write_status(workflow, shorter)
            except ContentRefusedError as error:
                refused = error
                continue
            log.warning(
                "status shortened", namespace=workflow.namespace, workflow=workflow.name, phase=str(state.phase)
            )
            return version
        text = f"no status can be stored with this object, so that nothing is done for it: shorten its spec: {refused}"
        await self.emit(workflow, EmitEvent("Warning", "StatusRefused", text))
        raise refused

    async def _write_status(self, workflow: WorkflowObject, state: WorkflowState) -> str:
        body = {"metadata": {"resourceVersion": workflow.resource_version}, "status": dump_status(state)}
        patched = await self._kube.patch(WORKFLOWS, workflow.namespace, workflow.name, body, subresource="status")
        if patched is None:
            raise ConflictError(
                f"cannot write the status of Workflow {workflow.namespace}/{workflow.name}: it was deleted"
            )
        return str(patched["metadata"]["resourceVersion"])

    async def add_finalizer(self, workflow: WorkflowObject, resource_version: str) -> None:
        """Add the operator's finalizer if the object still has this resourceVersion."""
        await self._finalizers(workflow, resource_version, [*workflow.finalizers, FINALIZER])

    async def remove_finalizer(self, workflow: WorkflowObject, resource_version: str) -> None:
        """Remove the operator's finalizer if the object has this resourceVersion. If it was deleted, do nothing."""
        await self._finalizers(workflow, resource_version, [name for name in workflow.finalizers if name != FINALIZER])

    async def _finalizers(self, workflow: WorkflowObject, resource_version: str, names: list[str]) -> None:
        body = {"metadata": {"resourceVersion": resource_version, "uid": workflow.uid, "finalizers": names}}
        await self._kube.patch(WORKFLOWS, workflow.namespace, workflow.name, body)

    async def emit(self, workflow: WorkflowObject, event: EmitEvent) -> None:
        """Write a Kubernetes event on the object. It never raises an OperatorError: nothing depends on events."""
        now = self._utcnow().isoformat(timespec="seconds").replace("+00:00", "Z")
        identity = f"{workflow.uid}/{workflow.resource_version}/{event.reason}/{event.message}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{workflow.name}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": workflow.namespace,
                "name": workflow.name,
                "uid": workflow.uid,
            },
            "type": event.type,
            "reason": event.reason,
            "message": clip(event.message, EVENT_LIMIT),
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(EVENTS, workflow.namespace, body)
        except (ConflictError, RefusedError):
            return  # it exists already, or the namespace is being deleted
        except OperatorError as error:
            log.warning("cannot write an event", namespace=workflow.namespace, workflow=workflow.name, error=str(error))


def parse_workflow(found: Object) -> WorkflowObject:
    """Parse the JSON of a Workflow."""
    meta: Mapping[str, Any] = found["metadata"]
    spec, refusal = parse_spec(found.get("spec") or {})
    deleted = meta.get("deletionTimestamp")
    return WorkflowObject(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        resource_version=meta["resourceVersion"],
        created=float(parse_time(meta["creationTimestamp"])),
        spec=spec,
        refusal=refusal,
        state=parse_status(found.get("status") or {}),
        deleted=float(parse_time(deleted)) if deleted else None,
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        finalizers=tuple(meta.get("finalizers") or ()),
    )
