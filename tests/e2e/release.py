"""The operator as its users get it: the image built from this checkout, both charts installed by Helm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dev import images, release
from dev.kube import Object
from dev.processes import poll
from tests.e2e.kubectl import Kubectl

HOME: Final = "e2e-operator"
TOOLS: Final = "e2e-tools"
OPERATOR_PODS: Final = f"app.kubernetes.io/instance={release.NAME},app.kubernetes.io/component=operator"
GONE_WITHIN_SECONDS: Final = 90.0
REAPER: Final = "reaper"
SIGKILL: Final = """
import contextlib, os, pathlib, signal
killed = 0
for folder in pathlib.Path("/proc").iterdir():
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
        if folder.name.isdigit() and {pod!r} in (folder / "cgroup").read_text().replace("_", "-"):
            told = (folder / "cmdline").read_bytes()
            os.kill(int(folder.name), signal.SIGKILL)
            killed += b"workflow_operator" in told
assert killed, "no process of the operator was found"
"""
"""Ends all processes of a pod; runs in a pod that sees the node's processes."""


@dataclass(frozen=True)
class Release:
    """The installed operator.

    Attributes:
        kubectl: the cluster.
    """

    kubectl: Kubectl

    def kill_operator(self) -> None:
        """Kill the operator as the loss of its node would: without a word, its lease still held; another pod comes."""
        (pod,) = self.operator_pods()
        meta = pod["metadata"]
        code = SIGKILL.format(pod=f"pod{meta['uid']}")
        self.kubectl.kubectl("-n", TOOLS, "exec", REAPER, "--", "python", "-c", code)
        self.kubectl.kubectl("-n", HOME, "delete", "pod", meta["name"], "--grace-period=0", "--force", "--wait=false")

        def replaced() -> bool:
            return [one["metadata"]["name"] for one in self.operator_pods()] not in ([], [meta["name"]])

        assert poll(replaced, 30), f"no pod took the place of {meta['name']}"

    def operator_pods(self) -> list[Object]:
        """The operator's pods that are not going."""
        pods = self.kubectl.objects("pods", HOME, OPERATOR_PODS)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def operator_log(self, lines: int = 80) -> str:
        """The last lines that the operator wrote, in all its pods."""
        return self.kubectl.said("-n", HOME, "logs", "-l", OPERATOR_PODS, f"--tail={lines}")


def install(kubectl: Kubectl, namespaces: Sequence[str]) -> Release:
    """Install both charts, serving these namespaces.

    Args:
        kubectl: the cluster.
        namespaces: whose Workflows are served.
    """
    release.install(kubectl, *namespaces, home=HOME)
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TOOLS}}, reaper())
    kubectl.kubectl("-n", TOOLS, "wait", "--for=condition=Ready", f"pod/{REAPER}", "--timeout=60s")
    return Release(kubectl)


def remove(kubectl: Kubectl, namespaces: Sequence[str]) -> None:
    """Remove the release: Workflows first, so that no finalizer waits for an operator that is gone.

    The namespaces go by themselves then; `until_removed` waits for that.

    Args:
        kubectl: the cluster.
        namespaces: of the Workflows.
    """
    there = [name for name in namespaces if kubectl.get("namespace", name)]
    if kubectl.get("crd", "workflows.rayworkflow.dev"):
        for namespace in there:
            kubectl.kubectl("-n", namespace, "delete", "workflows", "--all", "--wait=false")
        if not poll(lambda: not any(kubectl.objects("workflows", name) for name in there), 60):
            for namespace in there:
                _strip(kubectl, namespace)
    for namespace in (*there, HOME, TOOLS):
        kubectl.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def until_removed(kubectl: Kubectl, namespaces: Sequence[str]) -> None:
    """Wait until nothing of a removed release is left."""

    def gone() -> bool:
        return not any(kubectl.get("namespace", name) for name in (*namespaces, HOME, TOOLS))

    assert poll(gone, GONE_WITHIN_SECONDS), f"namespaces {HOME}, {', '.join(namespaces)} do not go"


def reaper() -> Object:
    """A pod that may kill processes of other pods."""
    container = {
        "name": REAPER,
        "image": images.ray(),
        "command": ["python", "-c", "import signal; signal.pause()"],
        "securityContext": {"privileged": True, "runAsUser": 0},
    }
    spec = {"hostPID": True, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": REAPER, "namespace": TOOLS}, "spec": spec}


def _strip(kubectl: Kubectl, namespace: str) -> None:
    for workflow in kubectl.objects("workflows", namespace):
        name = workflow["metadata"]["name"]
        kubectl.kubectl(
            "-n", namespace, "patch", "workflow", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )
