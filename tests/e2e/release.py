"""The installed operator: the image of this checkout, and both charts, installed by Helm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dev import images, release
from dev.kube import Object
from dev.processes import poll
from tests.e2e.kubectl import Kubectl

RELEASE_NAMESPACE: Final = "e2e-operator"
TOOLS: Final = "e2e-tools"
OPERATOR_PODS: Final = f"app.kubernetes.io/instance={release.NAME},app.kubernetes.io/component=operator"
GONE_WITHIN_SECONDS: Final = 90.0
REAPER: Final = "reaper"
SIGKILL: Final = """
import contextlib, os, pathlib, signal
killed = 0
for folder in pathlib.Path("/proc").iterdir():
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the process ended meanwhile
        if folder.name.isdigit() and {pod!r} in (folder / "cgroup").read_text().replace("_", "-"):
            command = (folder / "cmdline").read_bytes()
            os.kill(int(folder.name), signal.SIGKILL)
            killed += b"workflow_operator" in command
assert killed, "no process of the operator was found"
"""
"""Kills all processes of a pod. It runs in a pod that sees all processes of the node."""


@dataclass(frozen=True)
class Release:
    """The installed operator.

    Attributes:
        kubectl: the cluster.
    """

    kubectl: Kubectl

    def kill_operator(self) -> None:
        """Kill the operator without releasing its lease, as a loss of its node would, and wait for the next pod."""
        (pod,) = self.operator_pods()
        meta = pod["metadata"]
        code = SIGKILL.format(pod=f"pod{meta['uid']}")
        self.kubectl.kubectl("-n", TOOLS, "exec", REAPER, "--", "python", "-c", code)
        self.kubectl.kubectl(
            "-n", RELEASE_NAMESPACE, "delete", "pod", meta["name"], "--grace-period=0", "--force", "--wait=false"
        )

        def replaced() -> bool:
            return [pod["metadata"]["name"] for pod in self.operator_pods()] not in ([], [meta["name"]])

        assert poll(replaced, 30), f"no pod replaced {meta['name']}"

    def operator_pods(self) -> list[Object]:
        """Return the operator's pods that are not being deleted."""
        pods = self.kubectl.objects("pods", RELEASE_NAMESPACE, OPERATOR_PODS)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def operator_log(self, lines: int = 80) -> str:
        """Return the last log lines of all operator pods."""
        return self.kubectl.output_of("-n", RELEASE_NAMESPACE, "logs", "-l", OPERATOR_PODS, f"--tail={lines}")


def install(kubectl: Kubectl, namespaces: Sequence[str]) -> Release:
    """Install both charts.

    Args:
        kubectl: the cluster.
        namespaces: the namespaces whose Workflows are served.
    """
    release.install(kubectl, *namespaces, release_namespace=RELEASE_NAMESPACE)
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TOOLS}}, reaper())
    kubectl.kubectl("-n", TOOLS, "wait", "--for=condition=Ready", f"pod/{REAPER}", "--timeout=60s")
    return Release(kubectl)


def remove(kubectl: Kubectl, namespaces: Sequence[str]) -> None:
    """Remove the release. Workflows are deleted first, while the operator can still remove their finalizers.

    The deletion of the namespaces continues in the background; `until_removed` waits for it.

    Args:
        kubectl: the cluster.
        namespaces: the namespaces of the Workflows.
    """
    existing = [name for name in namespaces if kubectl.get("namespace", name)]
    if kubectl.get("crd", "workflows.rayworkflow.dev"):
        for namespace in existing:
            kubectl.kubectl("-n", namespace, "delete", "workflows", "--all", "--wait=false")
        if not poll(lambda: not any(kubectl.objects("workflows", name) for name in existing), 60):
            for namespace in existing:
                _remove_finalizers(kubectl, namespace)
    for namespace in (*existing, RELEASE_NAMESPACE, TOOLS):
        kubectl.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def until_removed(kubectl: Kubectl, namespaces: Sequence[str]) -> None:
    """Wait until all namespaces of a removed release are deleted."""

    def gone() -> bool:
        return not any(kubectl.get("namespace", name) for name in (*namespaces, RELEASE_NAMESPACE, TOOLS))

    assert poll(gone, GONE_WITHIN_SECONDS), f"namespaces {RELEASE_NAMESPACE}, {', '.join(namespaces)} were not deleted"


def reaper() -> Object:
    """Return a pod that can kill the processes of other pods."""
    container = {
        "name": REAPER,
        "image": images.ray(),
        "command": ["python", "-c", "import signal; signal.pause()"],
        "securityContext": {"privileged": True, "runAsUser": 0},
    }
    spec = {"hostPID": True, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": REAPER, "namespace": TOOLS}, "spec": spec}


def _remove_finalizers(kubectl: Kubectl, namespace: str) -> None:
    for workflow in kubectl.objects("workflows", namespace):
        name = workflow["metadata"]["name"]
        kubectl.kubectl(
            "-n", namespace, "patch", "workflow", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )
