"""A namespace with Workflows: actions, waits, and diagnoses for failed waits."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev import images, versions
from dev.kube import Object
from dev.processes import poll
from dev.release import BUCKET, SECRET
from tests.e2e.bucket import Bucket
from tests.e2e.histories import Histories, WatchEvent, phases
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import Release
from workflow.store import Store, open_store
from workflow_operator.api.status import Phase, WorkflowState

FLOWS = (Path(__file__).parent / "code" / "flows.py").read_text()
TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELED})
BOOT_SECONDS = 150.0
"""Timeout for the start of a RayCluster and a submission, on a busy machine with two cores."""
DRIVER_LOG = "/tmp/ray/session_latest/logs/job-driver-{id}.log"


@dataclass
class WorkflowNamespace:
    """A namespace with Workflows.

    Attributes:
        kubectl: the cluster.
        release: the operator that serves the namespace.
        bucket: the bucket with its runs, and with the marks that steps write when they start.
        histories: the watch events of its Workflows.
        name: the name of the namespace.
    """

    kubectl: Kubectl
    release: Release
    bucket: Bucket
    histories: Histories
    name: str
    _uids: dict[str, str] = field(default_factory=dict)

    def create(self, name: str, entrypoint: str = "flows:line", code: str = "flows", **spec: Any) -> None:
        """Create a Workflow. By default its argument is the URL of its marks, and it has its own cluster.

        Args:
            name: the name of the Workflow.
            entrypoint: `module:function`.
            code: the name of the ConfigMap with its code.
            **spec: fields of the spec to add or replace, by their names in JSON.
        """
        fields = {
            "entrypoint": entrypoint,
            "args": {"marks_url": self.bucket.marks_url(self.name, name)},
            "code": {"configMap": {"name": code}},
            "cluster": {"template": {"spec": ray_cluster_spec()}},
            **spec,
        }
        self.apply("Workflow", "rayworkflow.dev/v1alpha1", name, spec=fields)
        found = self.kubectl.get("workflow", name, self.name)
        assert found is not None
        self._uids[name] = found["metadata"]["uid"]

    def code(self, name: str, files: Mapping[str, str]) -> None:
        """Create or change a ConfigMap with code."""
        self.apply("ConfigMap", "v1", name, data=dict(files))

    def apply(self, kind: str, version: str, name: str, labels: Mapping[str, str] | None = None, **fields: Any) -> None:
        """Create or change an object of this namespace."""
        meta = {"name": name, "namespace": self.name, "labels": dict(labels or {})}
        self.kubectl.apply({"apiVersion": version, "kind": kind, "metadata": meta, **fields})

    def patch(self, name: str, body: Object) -> None:
        """Change a Workflow by a JSON merge patch."""
        self.kubectl.kubectl("-n", self.name, "patch", "workflow", name, "--type=merge", "-p", json.dumps(body))

    def delete(self, kind: str, name: str) -> None:
        """Request the deletion of an object."""
        self.kubectl.kubectl("-n", self.name, "delete", kind, name, "--wait=false")

    def uid(self, name: str) -> str:
        """Return the uid of the last Workflow that was created under a name."""
        return self._uids[name]

    # --- waiting ---

    def until(
        self, name: str, wanted: Callable[[WorkflowState], bool], timeout: float = 60.0, after: WatchEvent | None = None
    ) -> WatchEvent:
        """Wait until a Workflow's status meets a condition. Fail at once if the Workflow ends earlier."""

        def wanted_or_terminal(event: WatchEvent) -> bool:
            return wanted(event.state) or event.state.phase in TERMINAL

        event = self.histories.until(name, wanted_or_terminal, timeout, after)
        assert event is not None, self.diagnosis(name, f"the awaited status was not reached within {timeout:.0f} s")
        assert wanted(event.state), self.diagnosis(name, f"it ended as {event.state.phase} before the awaited status")
        return event

    def until_phase(
        self, name: str, phase: Phase, timeout: float = 60.0, after: WatchEvent | None = None
    ) -> WatchEvent:
        """Wait until a Workflow is in a phase."""
        return self.until(name, lambda state: state.phase is phase, timeout, after)

    def until_gone(self, name: str, timeout: float = 60.0) -> WatchEvent:
        """Wait until a Workflow no longer exists."""
        event = self.histories.until(name, lambda event: event.workflow is None, timeout)
        assert event is not None, self.diagnosis(name, f"it was not deleted within {timeout:.0f} s")
        return event

    def until_at_gate(self, name: str, timeout: float = BOOT_SECONDS) -> WatchEvent:
        """Wait until a Workflow `line` waits at its gate, and its status shows that three steps have succeeded."""
        event = self.until(name, lambda state: state.steps.succeeded >= 3, timeout)
        try:
            self.bucket.until_started(self.name, name, "gate")
        except AssertionError as error:
            raise AssertionError(self.diagnosis(name, str(error))) from error
        return event

    def until_no_cluster(self, name: str, timeout: float = 60.0) -> None:
        """Wait until all RayClusters of a Workflow are deleted."""
        labels = f"rayworkflow.dev/workflow-uid={self.uid(name)}"
        gone = poll(lambda: not self.kubectl.objects("rayclusters", self.name, labels), timeout)
        assert gone, self.diagnosis(name, f"its RayClusters were not deleted within {timeout:.0f} s")

    def store(self) -> Store:
        """Return the store with the runs of this namespace."""
        access, secret = self.bucket.keys
        url = self.bucket.store_url(f"{BUCKET}/{self.name}")
        return open_store(url, access_key=access, secret_key=secret)

    def marks(self, name: str) -> dict[str, int]:
        """Return how many times each step of a Workflow was started."""
        return dict(self.bucket.marks(self.name, name))

    def until_event(self, name: str, reason: str, timeout: float = 30.0) -> None:
        """Wait for an event on a Workflow. Events are written after the status that they describe."""
        assert poll(lambda: reason in self._reasons(name), timeout), f"events on {name}: {self._reasons(name)}"

    def _reasons(self, name: str) -> list[str]:
        events = self.kubectl.objects("events", self.name)
        return [event["reason"] for event in events if event["involvedObject"].get("uid") == self.uid(name)]

    # --- clusters ---

    def ray_cluster(self, name: str, labels: Mapping[str, str], cpus: int = 16) -> None:
        """Create a RayCluster without a Workflow, with the storage's credentials and token authentication."""
        spec = ray_cluster_spec(cpus)
        spec["authOptions"] = {"mode": "token"}
        container = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
        container["envFrom"] = [{"secretRef": {"name": SECRET}}]
        self.apply("RayCluster", "ray.io/v1", name, labels, spec=spec)

    def head(self, cluster: str) -> Object:
        """Return the head pod of a RayCluster."""
        (pod,) = self.kubectl.objects("pods", self.name, f"ray.io/cluster={cluster},ray.io/node-type=head")
        return pod

    def workers(self, cluster: str) -> list[str]:
        """Return the names of a RayCluster's worker pods that are not being deleted."""
        pods = self.kubectl.objects("pods", self.name, f"ray.io/cluster={cluster},ray.io/node-type=worker")
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def kill_head(self, cluster: str) -> float:
        """Force-delete the head pod, and return the time in seconds since 1970."""
        return self.kill_pod(self.head(cluster)["metadata"]["name"])

    def kill_pod(self, pod: str) -> float:
        """Force-delete a pod, and return the time in seconds since 1970."""
        killed = time.time()
        self.kubectl.kubectl("-n", self.name, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
        return killed

    def python_in_head(self, cluster: str, code: str) -> str:
        """Run Python code in the Ray container of a head, and return what it printed."""
        pod = self.head(cluster)["metadata"]["name"]
        return self.kubectl.kubectl("-n", self.name, "exec", pod, "-c", "ray-head", "--", "python", "-c", code)

    # --- diagnosis ---

    def diagnosis(self, name: str, what: str) -> str:
        """Return a failure message with the state of a Workflow: objects, events, logs and marks."""
        history = self.histories.of(name)
        state = history[-1].state if history else WorkflowState()
        parts = {
            "phases": ", ".join(str(phase) for phase in phases(history)),
            "Workflow": self.kubectl.output_of("-n", self.name, "get", "workflow", name, "-o", "yaml"),
            "marks": str(self.marks(name)),
            "events": self.kubectl.output_of("-n", self.name, "get", "events", "--sort-by=.lastTimestamp"),
            "pods": self.kubectl.output_of("-n", self.name, "get", "pods,rayclusters", "-o", "wide"),
            "operator": self.release.operator_log(),
            "submission": self._driver_log(state),
        }
        return "\n".join([f"{self.name}/{name}: {what}", *(f"--- {part}\n{text}" for part, text in parts.items())])

    def _driver_log(self, state: WorkflowState) -> str:
        if state.cluster is None or state.submission is None:
            return "the status names no cluster or no submission"
        heads = f"ray.io/cluster={state.cluster.name},ray.io/node-type=head"
        found = self.kubectl.objects("pods", self.name, heads)
        if not found:
            return "the head pod does not exist"
        path = DRIVER_LOG.format(id=state.submission.id)
        pod = found[0]["metadata"]["name"]
        return self.kubectl.output_of("-n", self.name, "exec", pod, "-c", "ray-head", "--", "tail", "-n", "60", path)


@functools.cache
def ray_image() -> str:
    """Return the reference of the official Ray image."""
    return images.ray()


def ray_cluster_spec(cpus: int = 4) -> dict[str, Any]:
    """Return the spec of a small RayCluster with one head. Ray counts `cpus` CPUs, whatever the machine has."""
    container = {
        "name": "ray-head",
        "image": ray_image(),
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"terminationGracePeriodSeconds": 2, "securityContext": security, "containers": [container]}
    head = {"rayStartParams": {"num-cpus": str(cpus)}, "template": {"spec": pod}}
    return {"rayVersion": versions.RAY, "headGroupSpec": head}
