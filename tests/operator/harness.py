"""A namespace at a real API server with the operator in it, and fakes of what stands around: KubeRay, Ray, manager.

The operator's parts are the shipped ones, its store is a folder. `rounds` runs the reconciler alone and wakes it all
the time, so that it can be killed at any point and started again within milliseconds; `serving` runs all of it.
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
from workflow_operator.main import assembled, serve
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
WAKE_SECONDS = 0.05


@dataclass
class Harness:
    """What a test of the operator works with."""

    kube: Kube
    ray: FakeRay
    kuberay: FakeKubeRay
    manager: FakeManager
    namespace: str
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)

    async def create(self, name: str = "trip", **spec: Any) -> WorkflowObject:
        """Create a Workflow; what is given replaces fields of a small valid spec."""
        given = {"entrypoint": "trip:book", "cluster": {"template": TEMPLATE}, **spec}
        body = {
            "apiVersion": "rayworkflow.dev/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": name},
            "spec": {key: value for key, value in given.items() if value is not None},
        }
        return parse_workflow(await self.kube.create(WORKFLOWS, self.namespace, body))

    async def config_map(self, name: str = "trip-code", **files: str) -> None:
        """Create a ConfigMap with code; dots of file names are written as two underscores."""
        data = {file.replace("__", "."): text for file, text in files.items()}
        await self.kube.create(CONFIGMAPS, self.namespace, {"metadata": {"name": name}, "data": data})

    async def change(self, name: str = "trip", **spec: Any) -> None:
        """Change fields of a spec."""
        await self.kube.patch(WORKFLOWS, self.namespace, name, {"spec": spec})

    async def delete(self, name: str = "trip") -> None:
        """Ask for the Workflow's deletion."""
        found = await self.kube.get(WORKFLOWS, self.namespace, name)
        assert found is not None
        await self.kube.delete(WORKFLOWS, self.namespace, name, found["metadata"]["uid"])

    async def workflow(self, name: str = "trip") -> WorkflowObject | None:
        """The Workflow as it is now, or None."""
        found = await self.kube.get(WORKFLOWS, self.namespace, name)
        return parse_workflow(found) if found else None

    async def state(self, name: str = "trip") -> WorkflowState:
        """Its status as it is now."""
        workflow = await self.workflow(name)
        assert workflow is not None, f"there is no Workflow {name}"
        return workflow.state

    async def until(
        self, wanted: Callable[[WorkflowState], bool], name: str = "trip", timeout: float = 20.0
    ) -> WorkflowState:
        """Wait until the status is as wanted, and return it."""

        async def look() -> WorkflowState | None:
            state = await self.state(name)
            assert wanted(state), state.model_dump_json(exclude_defaults=True)
            return state

        return await eventually(look, timeout)

    async def until_phase(self, phase: Phase, name: str = "trip", timeout: float = 20.0) -> WorkflowState:
        """Wait until the Workflow is in this phase."""
        return await self.until(lambda state: state.phase is phase, name, timeout)

    async def until_message(self, kind: str, text: str, name: str = "trip") -> WorkflowState:
        """Wait until the condition of this type holds this text."""
        return await self.until(lambda state: text in getattr(state.condition(kind), "message", ""), name)

    async def until_event(self, reason: str) -> None:
        """Wait until an event with this reason stands on a Workflow."""

        async def look() -> bool:
            found = await self.kube.list(EVENTS, self.namespace, {}, fields={"involvedObject.kind": "Workflow"})
            reasons = [one["reason"] for one in found]
            assert reason in reasons, reasons
            return True

        await eventually(look)

    async def until_clusters(self, *names: str) -> None:
        """Wait until just these RayClusters exist."""

        async def look() -> bool:
            found = await self.clusters()
            assert found == list(names), found
            return True

        await eventually(look)

    async def until_gone(self, name: str = "trip") -> None:
        """Wait until the Workflow does not exist any more."""

        async def look() -> bool:
            return await self.workflow(name) is None

        await eventually(look)

    async def kill_head(self, name: str = "trip") -> None:
        """Force-delete the head of the cluster that the Workflow runs on."""
        state = await self.state(name)
        assert state.cluster is not None
        await self.kuberay.kill_head(self.namespace, state.cluster.name)

    async def clusters(self) -> list[str]:
        """Names of the RayClusters that exist."""
        return [one["metadata"]["name"] for one in await self.kube.list(RAYCLUSTERS, self.namespace, {})]

    def run(self, workflow_id: str) -> reading.RunView | None:
        """The run as its log tells it."""
        return reading.read_run(open_store(f"{self.settings.storage_uri}/{self.namespace}"), workflow_id)

    @asynccontextmanager
    async def rounds(self, name: str = "trip", failpoints: Failpoints | None = None) -> AsyncIterator[Reconciler]:
        """Run the reconciler for one Workflow for the length of a block, awake all the time."""
        async with assembled(self.settings, self.kube) as parts:
            setting = Dependencies(
                parts.clients, self.settings.defaults, time.time, self.metrics, failpoints or NoFailpoints()
            )
            reconciler = Reconciler(setting)
            waking = asyncio.create_task(self._wake(reconciler, name))
            try:
                yield reconciler
            finally:
                waking.cancel()
                await asyncio.gather(waking, return_exceptions=True)
                await reconciler.stop()

    async def _wake(self, reconciler: Reconciler, name: str) -> None:
        while True:
            reconciler.wake(Key(self.namespace, name))
            await asyncio.sleep(WAKE_SECONDS)

    @asynccontextmanager
    async def serving(self, **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
        """Run all of the operator for the length of a block, watches and lease included."""
        task = asyncio.create_task(serve(self.settings.model_copy(update=settings)))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def settings_for(folder: Path, namespace: str, kubeconfig: Path, ray: FakeRay) -> Settings:
    """The operator's settings in a test."""
    return Settings(
        namespaces=(namespace,),
        home=namespace,
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
