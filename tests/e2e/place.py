"""One namespace with Workflows in it: what a test does there, and what it says when something does not happen."""

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
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import Release
from tests.e2e.stories import Seen, Stories, phases
from workflow.store import Store, open_store
from workflow_operator.api.status import Phase, WorkflowState

FLOWS = (Path(__file__).parent / "code" / "flows.py").read_text()
ENDS = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELED})
BOOT_SECONDS = 150.0
"""Until a RayCluster is ready and a submission runs there; on a busy machine of two cores, with others starting too."""
DRIVER_LOG = "/tmp/ray/session_latest/logs/job-driver-{id}.log"


@dataclass
class Place:
    """A namespace.

    Attributes:
        kubectl: the cluster.
        release: the operator that serves it.
        bucket: where its Workflows leave marks.
        stories: what became of its Workflows.
        namespace: its name.
    """

    kubectl: Kubectl
    release: Release
    bucket: Bucket
    stories: Stories
    namespace: str
    _uids: dict[str, str] = field(default_factory=dict)

    def create(self, name: str, entrypoint: str = "flows:line", code: str = "flows", **spec: Any) -> None:
        """Create a Workflow. It gets its place for marks as an argument, and a cluster of its own, unless told else.

        Args:
            name: its name.
            entrypoint: what to run.
            code: the ConfigMap with its code.
            **spec: more fields of spec, by their names in JSON.
        """
        whole = {
            "entrypoint": entrypoint,
            "args": {"place": self.bucket.place(self.namespace, name)},
            "code": {"configMap": {"name": code}},
            "cluster": {"template": {"spec": ray_cluster_spec()}},
            **spec,
        }
        self.apply("Workflow", "rayworkflow.dev/v1alpha1", name, spec=whole)
        found = self.kubectl.get("workflow", name, self.namespace)
        assert found is not None
        self._uids[name] = found["metadata"]["uid"]

    def code(self, name: str, files: Mapping[str, str]) -> None:
        """Create or change a ConfigMap with code."""
        self.apply("ConfigMap", "v1", name, data=dict(files))

    def apply(self, kind: str, version: str, name: str, labels: Mapping[str, str] | None = None, **fields: Any) -> None:
        """Create or change an object of this namespace."""
        meta = {"name": name, "namespace": self.namespace, "labels": dict(labels or {})}
        self.kubectl.apply({"apiVersion": version, "kind": kind, "metadata": meta, **fields})

    def patch(self, name: str, body: Object) -> None:
        """Change a Workflow by a JSON merge patch."""
        self.kubectl.kubectl("-n", self.namespace, "patch", "workflow", name, "--type=merge", "-p", json.dumps(body))

    def delete(self, kind: str, name: str) -> None:
        """Ask for an object's deletion."""
        self.kubectl.kubectl("-n", self.namespace, "delete", kind, name, "--wait=false")

    def uid(self, name: str) -> str:
        """The uid of the last Workflow that was created under a name."""
        return self._uids[name]

    # --- waiting ---

    def until(
        self, name: str, wanted: Callable[[WorkflowState], bool], timeout: float = 60.0, after: Seen | None = None
    ) -> Seen:
        """Wait until a Workflow's status is as wanted; one that ends meanwhile is waited for no longer."""
        seen = self.stories.until(name, lambda seen: wanted(seen.state) or seen.state.phase in ENDS, timeout, after)
        assert seen is not None, self.told(name, f"what was waited for did not come within {timeout:.0f} s")
        assert wanted(seen.state), self.told(name, f"it ended {seen.state.phase} before what was waited for came")
        return seen

    def until_phase(self, name: str, phase: Phase, timeout: float = 60.0, after: Seen | None = None) -> Seen:
        """Wait until a Workflow is in a phase."""
        return self.until(name, lambda state: state.phase is phase, timeout, after)

    def until_gone(self, name: str, timeout: float = 60.0) -> Seen:
        """Wait until a Workflow exists no more."""
        seen = self.stories.until(name, lambda seen: seen.workflow is None, timeout)
        assert seen is not None, self.told(name, f"it was not gone within {timeout:.0f} s")
        return seen

    def until_held(self, name: str, timeout: float = BOOT_SECONDS) -> Seen:
        """Wait until a Workflow `line` waits at its gate and the status says that three steps have succeeded."""
        seen = self.until(name, lambda state: state.steps.succeeded >= 3, timeout)
        try:
            self.bucket.until_started(self.namespace, name, "gate")
        except AssertionError as error:
            raise AssertionError(self.told(name, str(error))) from error
        return seen

    def until_no_cluster(self, name: str, timeout: float = 60.0) -> None:
        """Wait until no RayCluster that was made for a Workflow is left."""
        labels = f"rayworkflow.dev/workflow-uid={self.uid(name)}"
        gone = poll(lambda: not self.kubectl.objects("rayclusters", self.namespace, labels), timeout)
        assert gone, self.told(name, f"its RayClusters were not gone within {timeout:.0f} s")

    def store(self) -> Store:
        """The store of this namespace's runs, as this process reaches it."""
        access, secret = self.bucket.keys
        url = self.bucket.store_url(f"{BUCKET}/{self.namespace}")
        return open_store(url, access_key=access, secret_key=secret)

    def marks(self, name: str) -> dict[str, int]:
        """How often each step of a Workflow was started."""
        return dict(self.bucket.marks(self.namespace, name))

    def until_event(self, name: str, reason: str, timeout: float = 30.0) -> None:
        """Wait for an event on a Workflow: events follow the status that they tell of, as news of their own."""
        assert poll(lambda: reason in self._reasons(name), timeout), f"events on {name}: {self._reasons(name)}"

    def _reasons(self, name: str) -> list[str]:
        events = self.kubectl.objects("events", self.namespace)
        return [one["reason"] for one in events if one["involvedObject"].get("uid") == self.uid(name)]

    # --- clusters ---

    def ray_cluster(self, name: str, labels: Mapping[str, str], cpus: int = 16) -> None:
        """Create a RayCluster that nobody's Workflow owns, with the storage's credentials and token authentication."""
        spec = ray_cluster_spec(cpus)
        spec["authOptions"] = {"mode": "token"}
        container = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
        container["envFrom"] = [{"secretRef": {"name": SECRET}}]
        self.apply("RayCluster", "ray.io/v1", name, labels, spec=spec)

    def head(self, cluster: str) -> Object:
        """The head pod of a RayCluster."""
        (pod,) = self.kubectl.objects("pods", self.namespace, f"ray.io/cluster={cluster},ray.io/node-type=head")
        return pod

    def workers(self, cluster: str) -> list[str]:
        """Names of the worker pods of a RayCluster that are not going."""
        pods = self.kubectl.objects("pods", self.namespace, f"ray.io/cluster={cluster},ray.io/node-type=worker")
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def kill_head(self, cluster: str) -> float:
        """Delete the head pod at once, as the loss of its node would; returns when, in seconds since 1970."""
        return self.kill_pod(self.head(cluster)["metadata"]["name"])

    def kill_pod(self, pod: str) -> float:
        """Delete a pod at once; returns when."""
        killed = time.time()
        self.kubectl.kubectl("-n", self.namespace, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
        return killed

    def python_in_head(self, cluster: str, code: str) -> str:
        """Run Python in the Ray container of a head, and return what it printed."""
        pod = self.head(cluster)["metadata"]["name"]
        return self.kubectl.kubectl("-n", self.namespace, "exec", pod, "-c", "ray-head", "--", "python", "-c", code)

    # --- when it went wrong ---

    def told(self, name: str, what: str) -> str:
        """Everything that helps to understand what happened to a Workflow."""
        story = self.stories.of(name)
        state = story[-1].state if story else WorkflowState()
        parts = {
            "phases": ", ".join(str(phase) for phase in phases(story)),
            "Workflow": self.kubectl.said("-n", self.namespace, "get", "workflow", name, "-o", "yaml"),
            "marks": str(self.marks(name)),
            "events": self.kubectl.said("-n", self.namespace, "get", "events", "--sort-by=.lastTimestamp"),
            "pods": self.kubectl.said("-n", self.namespace, "get", "pods,rayclusters", "-o", "wide"),
            "operator": self.release.operator_log(),
            "submission": self._driver_log(state),
        }
        return "\n".join([f"{self.namespace}/{name}: {what}", *(f"--- {part}\n{text}" for part, text in parts.items())])

    def _driver_log(self, state: WorkflowState) -> str:
        if state.cluster is None or state.submission is None:
            return "no cluster is named"
        heads = f"ray.io/cluster={state.cluster.name},ray.io/node-type=head"
        found = self.kubectl.objects("pods", self.namespace, heads)
        if not found:
            return "the head is gone"
        path = DRIVER_LOG.format(id=state.submission.id)
        pod = found[0]["metadata"]["name"]
        return self.kubectl.said("-n", self.namespace, "exec", pod, "-c", "ray-head", "--", "tail", "-n", "60", path)


@functools.cache
def ray_image() -> str:
    """The stock Ray image."""
    return images.ray()


def ray_cluster_spec(cpus: int = 4) -> dict[str, Any]:
    """A small RayCluster of one head; its processors are Ray's to count, not the machine's."""
    container = {
        "name": "ray-head",
        "image": ray_image(),
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
    }
    pod = {"terminationGracePeriodSeconds": 2, "containers": [container]}
    head = {"rayStartParams": {"num-cpus": str(cpus)}, "template": {"spec": pod}}
    return {"rayVersion": versions.RAY, "headGroupSpec": head}
