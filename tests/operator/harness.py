"""The operator with a namespace on a real API server, and with fakes of KubeRay, Ray and the manager.

The operator uses its production adapters and a store in a folder. `reconciling` runs only the reconciler and triggers
it all the time. So a test can kill it at any point and restart it within milliseconds. `serving` runs the whole
operator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.operator.fake_kuberay import FakeKubeRay
from tests.operator.fake_manager import FakeManager
from tests.operator.fake_ray import FakeRay
from tests.support.waiting import eventually
from workflow import reading
from workflow.store import open_store
from workflow_operator.adapters.kube import CONFIGMAPS, EVENTS, RAYCLUSTERS, WORKFLOWS, Kube, Object
from workflow_operator.adapters.workflows import parse_workflow
from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.apply import Failpoints, NoFailpoints
from workflow_operator.core.observation import WorkflowObject
from workflow_operator.main import assemble, serve
from workflow_operator.metrics import Metrics
from workflow_operator.reconcile import Dependencies, Reconciler
from workflow_operator.settings import Settings
from workflow_operator.watch_index import Key

TEMPLATE: Object = {
    "spec": {
        "rayVersion": "2.60.0",
        "headGroupSpec": {
            "rayStartParams": {},
            "template": {"spec": {"containers": [{"name": "ray-head", "image": "rayproject/ray:2.60.0"}]}},
        },
    }
}
TRIGGER_SECONDS = 0.05


@dataclass
class Harness:
    """The namespace, the fakes and the operator of one test."""

    kube: Kube
    ray: FakeRay
    kuberay: FakeKubeRay
    manager: FakeManager
    namespace: str
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)

    async def create(self, name: str = "trip", **spec: Any) -> WorkflowObject:
        """Create a Workflow from a small valid spec, with some fields replaced."""
        fields = {"entrypoint": "trip:book", "cluster": {"template": TEMPLATE}, **spec}
        body = {
            "apiVersion": "rayworkflow.dev/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": name},
            "spec": {key: value for key, value in fields.items() if value is not None},
        }
        return parse_workflow(await self.kube.create(WORKFLOWS, self.namespace, body))

    async def config_map(self, name: str = "trip-code", **files: str) -> None:
        """Create a ConfigMap with code. In the argument names, two underscores mean a dot of the file name."""
        data = {file.replace("__", "."): text for file, text in files.items()}
        await self.kube.create(CONFIGMAPS, self.namespace, {"metadata": {"name": name}, "data": data})

    async def change(self, name: str = "trip", **spec: Any) -> None:
        """Change fields of a spec."""
        await self.kube.patch(WORKFLOWS, self.namespace, name, {"spec": spec})

    async def delete(self, name: str = "trip") -> None:
        """Request the deletion of a Workflow."""
        found = await self.kube.get(WORKFLOWS, self.namespace, name)
        assert found is not None
        await self.kube.delete(WORKFLOWS, self.namespace, name, found["metadata"]["uid"])

    async def workflow(self, name: str = "trip") -> WorkflowObject | None:
        """Return the current Workflow, or None."""
        found = await self.kube.get(WORKFLOWS, self.namespace, name)
        return parse_workflow(found) if found else None

    async def state(self, name: str = "trip") -> WorkflowState:
        """Return the current status of a Workflow."""
        workflow = await self.workflow(name)
        assert workflow is not None, f"Workflow {name} does not exist"
        return workflow.state

    async def until(
        self, wanted: Callable[[WorkflowState], bool], name: str = "trip", timeout: float = 20.0
    ) -> WorkflowState:
        """Wait until the status fulfills a condition, and return the status."""

        async def check() -> WorkflowState | None:
            state = await self.state(name)
            assert wanted(state), state.model_dump_json(exclude_defaults=True)
            return state

        return await eventually(check, timeout)

    async def until_phase(self, phase: Phase, name: str = "trip", timeout: float = 20.0) -> WorkflowState:
        """Wait until the Workflow is in this phase."""
        return await self.until(lambda state: state.phase is phase, name, timeout)

    async def until_message(self, condition: str, text: str, name: str = "trip") -> WorkflowState:
        """Wait until the message of a condition contains a text."""
        return await self.until(lambda state: text in getattr(state.condition(condition), "message", ""), name)

    async def until_event(self, reason: str) -> None:
        """Wait until a Workflow has an event with this reason."""

        async def check() -> bool:
            found = await self.kube.list(EVENTS, self.namespace, {}, fields={"involvedObject.kind": "Workflow"})
            reasons = [event["reason"] for event in found]
            assert reason in reasons, reasons
            return True

        await eventually(check)

    async def until_clusters(self, *names: str) -> None:
        """Wait until exactly these RayClusters exist."""

        async def check() -> bool:
            found = await self.clusters()
            assert found == list(names), found
            return True

        await eventually(check)

    async def until_gone(self, name: str = "trip") -> None:
        """Wait until the Workflow no longer exists."""

        async def check() -> bool:
            return await self.workflow(name) is None

        await eventually(check)

    async def kill_head(self, name: str = "trip") -> None:
        """Force-delete the head pod of the Workflow's cluster."""
        state = await self.state(name)
        assert state.cluster is not None
        await self.kuberay.kill_head(self.namespace, state.cluster.name)

    async def clusters(self) -> list[str]:
        """Return the names of the existing RayClusters."""
        return [cluster["metadata"]["name"] for cluster in await self.kube.list(RAYCLUSTERS, self.namespace, {})]

    def run(self, workflow_id: str) -> reading.RunView | None:
        """Read the run from its log."""
        return reading.read_run(open_store(f"{self.settings.storage_uri}/{self.namespace}"), workflow_id)

    @asynccontextmanager
    async def reconciling(self, name: str = "trip", failpoints: Failpoints | None = None) -> AsyncIterator[Reconciler]:
        """Run the reconciler for one Workflow while the block runs, and trigger it all the time."""
        async with assemble(self.settings, self.kube) as components:
            dependencies = Dependencies(
                components.clients, self.settings.defaults, time.time, self.metrics, failpoints or NoFailpoints()
            )
            reconciler = Reconciler(dependencies)
            triggering = asyncio.create_task(self._trigger(reconciler, name))
            try:
                yield reconciler
            finally:
                triggering.cancel()
                await asyncio.gather(triggering, return_exceptions=True)
                await reconciler.stop()

    async def _trigger(self, reconciler: Reconciler, name: str) -> None:
        while True:
            reconciler.trigger(Key(self.namespace, name))
            await asyncio.sleep(TRIGGER_SECONDS)

    @asynccontextmanager
    async def serving(self, **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
        """Run the whole operator while the block runs, with watches and lease."""
        task = asyncio.create_task(serve(self.settings.model_copy(update=settings)))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def settings_for(folder: Path, namespace: str, kubeconfig: Path, ray: FakeRay) -> Settings:
    """Return the operator's settings for a test."""
    return Settings(
        namespaces=(namespace,),
        operator_namespace=namespace,
        identity="replica-1",
        kubeconfig=str(kubeconfig),
        storage_uri=f"file://{folder}/store",
        poll_seconds=0.2,
        head_address=ray.address + "/{namespace}/{cluster}",
        library=folder / "library",
        host="127.0.0.1",
        port=0,
        lease_seconds=8,
    )
